"""Tensors as they travel: datatypes of the Open Inference Protocol, JSON numbers and bytes, to numpy and back.

Nothing is converted silently: 1.5 is no integer, "1" is no number, and 1e39 is no float32.
Source: Open Inference Protocol v2, https://github.com/kserve/open-inference-protocol.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np

from axiom_jax._errors import ModelError, ShapeError
from axiom_jax._shapes_text import dtype_text
from axiom_jax.serve.limits import Limits, Refusal

DATATYPES: dict[str, np.dtype[Any]] = {
    "BOOL": np.dtype(np.bool_),
    "UINT8": np.dtype(np.uint8),
    "UINT16": np.dtype(np.uint16),
    "UINT32": np.dtype(np.uint32),
    "UINT64": np.dtype(np.uint64),
    "INT8": np.dtype(np.int8),
    "INT16": np.dtype(np.int16),
    "INT32": np.dtype(np.int32),
    "INT64": np.dtype(np.int64),
    "FP16": np.dtype(np.float16),
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "FP32": np.dtype(np.float32),
    "FP64": np.dtype(np.float64),
}
NAMES = {dtype: name for name, dtype in DATATYPES.items()}


@dataclass(frozen=True)
class Spec:
    """One input or output of a model.

    Args:
        name: as requests write it.
        shape: sizes; a name stands for any size from 1 on.
        dtype: of its elements.
    """

    name: str
    shape: tuple[int | str, ...]
    dtype: np.dtype[Any]

    @property
    def datatype(self) -> str:
        """The protocol's word for the dtype, "FP32"."""
        return NAMES[self.dtype]

    @property
    def sizes(self) -> list[int]:
        """The shape as the protocol writes it, -1 for any size."""
        return [size if isinstance(size, int) else -1 for size in self.shape]

    @property
    def text(self) -> str:
        return f"{dtype_text(self.dtype)}[{', '.join(map(str, self.shape))}]"

    def to_dict(self) -> dict[str, Any]:
        return {"name": self.name, "datatype": self.datatype, "shape": self.sizes}


def spec_of(name: str, shape: Sequence[int | str], dtype: Any, model: str) -> Spec:
    """A tensor that can travel.

    Raises:
        ModelError: the protocol has no word for the dtype.

    >>> spec_of("x", ("batch", 4), "float32", "net").to_dict()
    {'name': 'x', 'datatype': 'FP32', 'shape': [-1, 4]}
    """
    found = np.dtype(dtype)
    if found not in NAMES:
        fix = f"cast it inside the model to one of {', '.join(NAMES.values())}"
        raise ModelError(f"{model} cannot be served: no request can carry {found}.", at=f"{name} of {model}", fix=fix)
    return Spec(name, tuple(shape), found)


def read_tensor(spec: Spec, at: str, limits: Limits, *, shape: Any = None, datatype: Any = None, data: Any = None,
                raw: bytes | memoryview | None = None) -> np.ndarray:  # fmt: skip
    """A tensor of a request.

    Args:
        spec: what the model takes.
        at: its place in the request, for messages.
        shape: as the request states it; None to take that of nested lists.
        datatype: as the request states it; None to take the model's.
        data: numbers, nested by axis or flat in C order.
        raw: or the elements' bytes, little-endian in C order.

    Raises:
        Refusal: of another datatype, too large, or what does not convert exactly.
        ShapeError: the elements do not fill the shape.

    >>> read_tensor(Spec("x", ("batch", 2), np.dtype("float32")), "x", Limits(), data=[1, 2, 3, 4], shape=[2, 2])
    array([[1., 2.],
           [3., 4.]], dtype=float32)
    """
    if datatype is not None and datatype != spec.datatype:
        raise Refusal(f"{spec.name} has another datatype.", at=at, got=f"{_shown(datatype)}; expected {spec.datatype}",
                      fix=_datatype_fix(datatype, spec))  # fmt: skip
    sizes = None if shape is None else _sizes(shape, at, limits)
    if raw is not None:
        if sizes is None:
            raise Refusal("A tensor sent as bytes needs its shape.", at=at, fix=f'"shape": {spec.sizes}')
        return _from_bytes(spec, at, sizes, raw)
    if data is None:
        raise Refusal("A tensor has no data.", at=at, fix=f'"data": numbers that fill {spec.text}')
    array = _from_json(spec, at, data, limits)
    if sizes is None or array.shape == sizes:
        return array
    if array.size != math.prod(sizes) or array.ndim > 1:
        raise ShapeError("The data do not fill the shape.", at=at,
                         got=f"shape {list(sizes)}; the data have shape {list(array.shape)}",
                         fix=f"send {math.prod(sizes)} numbers, flat or nested as the shape says")  # fmt: skip
    return array.reshape(sizes)


def _datatype_fix(datatype: Any, spec: Spec) -> str:
    if datatype == "BYTES":
        return f"strings are not served; send numbers of datatype {spec.datatype}"
    return f'"datatype": "{spec.datatype}"'


def _sizes(shape: Any, at: str, limits: Limits) -> tuple[int, ...]:
    """A stated shape: whole numbers from 0 on, within the limits."""
    if not isinstance(shape, (list, tuple)) or not all(type(n) is int and 0 <= n < 2**63 for n in shape):
        raise Refusal("A shape is a list of sizes.", at=at, got=_shown(shape), fix='"shape": [1, 4]')
    require_room(math.prod(shape), len(shape), at, limits)
    return tuple(shape)


def require_room(elements: int, dims: int, at: str, limits: Limits) -> None:
    """Refuse what is beyond the limits, before anything of its size is made."""
    if dims > limits.dims:
        raise Refusal("A tensor has too many axes.", at=at, got=f"{dims}", fix=f"at most {limits.dims}")
    if elements > limits.elements:
        raise Refusal("A tensor is too large.", status=413, at=at, got=f"{elements} elements",
                      fix=f"at most {limits.elements}: send it in several requests")  # fmt: skip


def _from_bytes(spec: Spec, at: str, sizes: tuple[int, ...], raw: bytes | memoryview) -> np.ndarray:
    expected = math.prod(sizes) * spec.dtype.itemsize
    if len(raw) != expected:
        raise ShapeError("The bytes do not fill the shape.", at=at,
                         got=f"{len(raw)} bytes; {spec.datatype} of shape {list(sizes)} takes {expected}",
                         fix="send the elements little-endian, in C order, without padding")  # fmt: skip
    if spec.dtype == np.bool_ and expected and np.frombuffer(raw, np.uint8).max() > 1:
        raise Refusal("A BOOL is the byte 0 or 1.", at=at, fix="send one byte an element, 0 or 1")
    wire = spec.dtype if spec.dtype.itemsize == 1 or spec.datatype == "BF16" else spec.dtype.newbyteorder("<")
    return np.frombuffer(raw, wire).reshape(sizes).astype(spec.dtype, copy=False)


def _from_json(spec: Spec, at: str, data: Any, limits: Limits) -> np.ndarray:
    """Numbers of JSON as an array of exactly these values, or a refusal."""
    found, wanted = kinds(data), spec.dtype
    allowed = {bool} if wanted == np.bool_ else {int} if wanted.kind in "iu" else {int, float}
    if not found <= allowed:
        words = {bool: "true or false", int: "whole numbers", float: "numbers"}
        what = "numbers" if len(allowed) > 1 else words[next(iter(allowed))]
        names = {bool: "true or false", int: "whole numbers", float: "numbers with a fraction or an exponent",
                 str: "text", dict: "objects", type(None): "null"}  # fmt: skip
        raise Refusal(f"{spec.name} takes {what}.", at=at,
                      got=", ".join(sorted(names.get(kind, kind.__name__) for kind in found)),
                      fix=f"send {spec.text}")  # fmt: skip
    try:
        with np.errstate(over="ignore"):
            array = np.array(data, wanted)
    except OverflowError:
        limit = np.iinfo(wanted) if wanted.kind in "iu" else None
        fix = f"{limit.min} to {limit.max}" if limit else f"at most {_largest(wanted)} in size"
        raise Refusal(f"A number is too large for {spec.datatype}.", at=at, fix=fix) from None
    except ValueError:  # ragged, or deeper than numpy goes
        raise ShapeError("The lists are ragged: they differ in length or depth.", at=at,
                         fix=f"send {spec.name} as {spec.text}") from None  # fmt: skip
    require_room(array.size, array.ndim, at, limits)
    if wanted.kind not in "biu" and not np.isfinite(array).all():
        given = np.array(data, np.float64)  # NaN and infinity, which gRPC can say, are no overflow
        if (np.isfinite(given) & ~np.isfinite(array)).any():
            raise Refusal(f"A number is too large for {spec.datatype}.", at=at,
                          fix=f"at most {_largest(wanted)} in size")  # fmt: skip
    return array


def kinds(data: Any) -> set[type]:
    """The types of the leaves of nested lists.

    >>> kinds([[1, 2.5], [None]]) == {int, float, type(None)}
    True
    """
    found: set[type] = set()
    todo = [data]
    while todo:
        item = todo.pop()
        if type(item) is not list:
            found.add(type(item))
        elif item and type(item[0]) is list:
            todo.extend(item)
        else:
            here = set(map(type, item))
            if list in here:
                todo.extend(item)
            else:
                found |= here
    return found


def _largest(dtype: np.dtype[Any]) -> str:
    return f"{float(ml_dtypes.finfo(dtype).max):.6g}"


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def to_list(array: np.ndarray, flat: bool = True) -> Any:
    """An array as numbers for JSON, each exactly its value.

    >>> to_list(np.float16([[1, 0.5]]), flat=False)
    [[1.0, 0.5]]
    """
    if array.dtype.kind == "V":
        array = array.astype(np.float32)  # bfloat16, which numpy lists as objects
    return (array.ravel() if flat else array).tolist()


def to_bytes(array: np.ndarray) -> bytes:
    """An array's elements, little-endian in C order.

    >>> to_bytes(np.int16([1, 2])).hex()
    '01000200'
    """
    if array.dtype.byteorder == ">" or (array.dtype.byteorder == "=" and not np.little_endian and array.itemsize > 1):
        array = array.astype(array.dtype.newbyteorder("<"))
    return np.ascontiguousarray(array).tobytes()
