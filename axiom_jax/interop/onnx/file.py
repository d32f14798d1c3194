"""The parts of an ONNX file: content, opset, inputs and outputs, tensors, attributes; each refused if damaged."""

import difflib
import hashlib
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from axiom_jax._errors import ModelError
from axiom_jax._gzip import MODEL, TooLong, unpacked

Dimensions = tuple[int | str, ...]
OLDEST, NEWEST = 7, 28  # 7 is the first opset whose broadcasting is numpy's; later than 28 nothing was compared
FLOATS = {"float16", "bfloat16", "float32", "float64"}


def read_content(path: str | os.PathLike[str] | bytes) -> tuple[bytes, str]:
    """The uncompressed content, and a name for messages."""
    if isinstance(path, bytes):
        content, file = path, "model.onnx"
    else:
        file = os.fspath(path)
        try:
            content = Path(path).read_bytes()
        except OSError as error:
            other = file.removesuffix(".gz") if file.endswith(".gz") else file + ".gz"
            raise ModelError(
                f"The model cannot be read: {error.strerror or error}.",
                at=file,
                fix=f"did you mean {other}?" if os.path.isfile(other) else "give the path of an .onnx file",
            ) from error
    try:
        return unpacked(content, MODEL), file
    except TooLong as error:
        raise ModelError(
            "The compressed model is too large.", at=file, got=str(error), fix="keep its weights in files beside it"
        ) from error
    except ValueError as error:
        raise ModelError(
            "The compressed model is damaged or cut short.", at=file, fix="fetch the file again"
        ) from error


def parse(content: bytes, file: str) -> Any:
    import onnx
    from google.protobuf.message import DecodeError

    problem = "is empty" if not content else ""
    proto = onnx.ModelProto()
    try:
        proto.ParseFromString(content)
    except DecodeError:
        problem = "is cut short, damaged or not an ONNX file"
    if not problem and not (proto.ir_version and proto.graph.output):
        problem = "is not an ONNX model"
    if not problem and not all(isinstance(name, str) for name in _names(proto)):  # protobuf gives bytes then
        problem = "is damaged: it has names that are not UTF-8"
    if problem:
        pointer = content.startswith(b"version https://git-lfs")
        raise ModelError(
            f"The file {problem}.",
            at=file,
            got=f"{len(content)} bytes" + (f", starting with {content[:12]!r}" if content else ""),
            fix="this is a Git LFS pointer: run git lfs pull" if pointer else "export or fetch the model again",
        )
    if proto.functions:
        import onnx.inliner

        proto = onnx.inliner.inline_local_functions(proto)  # a function of nodes, written out where it is used
    return proto


def _names(proto: Any) -> Iterable[Any]:
    for node in proto.graph.node:
        yield from (node.op_type, node.domain, node.name, *node.input, *node.output, *(a.name for a in node.attribute))
    for value in (*proto.graph.initializer, *proto.graph.input, *proto.graph.output):
        yield value.name
    for value in proto.graph.input:
        yield from (d.dim_param for d in value.type.tensor_type.shape.dim)


def exposed(proto: Any, values: Sequence[str], file: str) -> Any:
    """The model with inner values as further outputs, named as values or as the nodes that give them.

    Raises:
        ModelError: there is no such value.
    """
    if not values:
        return proto
    from onnx import helper

    nodes = proto.graph.node
    given = [name for node in nodes for name in node.output if name]
    first = {node.name: node.output[0] for node in nodes if node.name and node.output}
    first |= {name: name for name in given}
    if unknown := next((name for name in values if name not in first), None):
        near = difflib.get_close_matches(unknown, list(first), 1)
        raise ModelError(
            f"The model has no inner value {unknown!r}.",
            at=file,
            got=f"{len(nodes)} nodes, the first of which give {', '.join(n.output[0] for n in nodes[:3] if n.output)}",
            fix=f"did you mean {near[0]!r}?" if near else "name a value of the graph, or the node that gives it",
        )
    proto.graph.output.extend(helper.make_tensor_value_info(first[name], 1, None) for name in values)
    return proto


def written_out(proto: Any, opset: int) -> Any:
    """Operators that no rule knows, but that the standard defines by others, as those."""
    import onnx.inliner
    from onnx import defs

    from axiom_jax.interop.onnx.ops import OPERATORS
    from axiom_jax.interop.onnx.reader import _all_nodes, _fill_table

    _fill_table()
    unknown = {node.op_type for _, node in _all_nodes(enumerate(proto.graph.node, 1)) if node.domain in ("", "ai.onnx")}
    chosen = []
    for op in sorted(unknown - OPERATORS.keys() - {"Constant"}):
        try:
            schema: Any = defs.get_schema(op, opset)
        except defs.SchemaError:
            continue
        if schema.has_function or schema.has_context_dependent_function:
            chosen.append(("", op))
    if not chosen:
        return proto
    try:
        inferred = onnx.shape_inference.infer_shapes(proto)
        return onnx.inliner.inline_selected_functions(inferred, chosen, inline_schema_functions=True)
    except Exception:  # a graph that the inliner cannot read: then the operators are refused by name
        return proto


def opset_of(proto: Any, file: str) -> int:
    versions = [entry.version for entry in proto.opset_import if entry.domain in ("", "ai.onnx")]
    if not versions or not OLDEST <= max(versions) <= NEWEST:
        raise ModelError(
            f"The file follows an opset that is not supported; {OLDEST} to {NEWEST} are.",
            at=file,
            got=f"opset {max(versions)}" if versions else "no opset",
            fix="convert it: onnx.version_converter.convert_version(model, 17)",
        )
    return max(versions)


def inputs_of(graph: Any, tensors: Mapping[str, Any], sizes: Mapping[str, int] | str, file: str) -> Any:
    """Names, sizes and dtypes of the inputs; a free size is a name, and the same name is the same size."""
    entries = []
    for value in graph.input:
        if value.name in tensors:  # old files list their weights among the inputs
            continue
        kind = value.type.tensor_type
        dtype = _dtype(kind.elem_type)
        if not dtype or not kind.HasField("shape"):
            raise ModelError(
                f"Input {value.name} has no shape, or holds neither numbers nor truth values.",
                at=file,
                fix="export the model with the types and shapes of its inputs",
            )
        entries.append((value.name, _sizes(value, {} if isinstance(sizes, str) else sizes), dtype))
    batch = {shape[0] for _, shape, _ in entries if shape and isinstance(shape[0], str)}
    loose = [
        f"{name}: {size}" for name, shape, _ in entries for size in shape if isinstance(size, str) and size not in batch
    ]
    if loose and sizes != "free":
        raise ModelError(
            "Sizes of the input are not fixed.",
            at=file,
            got=", ".join(loose),
            fix=f"say what they are: from_onnx(path, sizes={{{loose[0].partition(': ')[2]!r}: 8}})",
        )
    return tuple(entries)


def _sizes(value: Any, sizes: Mapping[str, int]) -> Dimensions:
    names = [
        int(d.dim_value) if d.dim_value > 0 else d.dim_param or (f"{value.name}_{axis}" if axis else "batch")
        for axis, d in enumerate(value.type.tensor_type.shape.dim)
    ]
    return tuple(sizes.get(n, n) if isinstance(n, str) else n for n in names)


def outputs_of(graph: Any, results: Any) -> Any:
    """Names, sizes and dtypes of the outputs: sizes as traced, but the name of a free first axis."""
    entries = []
    if results is None:  # as declared
        return tuple((v.name, _sizes(v, {}), _dtype(v.type.tensor_type.elem_type)) for v in graph.output)
    for value, result in zip(graph.output, results if isinstance(results, tuple) else (results,), strict=True):
        shape, declared = list(result.shape), _sizes(value, {})
        if len(declared) == len(shape) and declared and isinstance(declared[0], str):
            shape[0] = declared[0]
        entries.append((value.name, tuple(n if isinstance(n, int) else str(n) for n in shape), str(result.dtype)))
    return tuple(entries)


def _dtype(code: int) -> str:
    """The dtype that stands for an ONNX element type here, or an empty string.

    64-bit numbers are 32-bit ones where JAX has no others (`jax_enable_x64`).
    """
    import jax
    from onnx import helper

    from axiom_jax.interop.onnx.ops import DTYPES

    try:
        dtype = np.dtype(helper.tensor_dtype_to_np_dtype(code))
    except (KeyError, TypeError, ValueError):
        return ""
    return str(jax.dtypes.canonicalize_dtype(dtype)) if dtype.name in DTYPES else ""


def constant_of(node: Any, file: str) -> Any:
    """The tensor of a Constant node."""
    for a in node.attribute:
        if a.name == "value":
            return a.t
        if a.name in ("value_float", "value_floats"):
            return np.array(a.f if a.name == "value_float" else a.floats, np.float32)
        if a.name in ("value_int", "value_ints"):
            return np.array(a.i if a.name == "value_int" else a.ints, np.int64)
    raise ModelError(
        f"The constant {node.output[0]} is neither a tensor nor numbers.", at=file, fix="export the model without it"
    )


def attribute_of(attribute: Any, file: str) -> Any:
    """An attribute's value as something hashable."""
    import onnx

    from axiom_jax.interop.onnx.ops import Tensor

    try:
        value = onnx.helper.get_attribute_value(attribute)
    except Exception as error:  # whatever a damaged attribute makes the library raise
        raise ModelError(
            f"The attribute {attribute.name} is damaged.", at=file, fix="export or fetch the model again"
        ) from error
    if isinstance(value, onnx.TensorProto):
        if value.data_location == value.EXTERNAL:
            raise ModelError(
                f"The attribute {attribute.name} is stored outside of the model.", at=file, fix="export it inside"
            )
        return Tensor.of(as_array(value, attribute.name, file))
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    return tuple(value) if isinstance(value, Iterable) and not isinstance(value, str) else value


def as_float32(x: np.ndarray, name: str, file: str) -> np.ndarray:
    """The same numbers as float32; refuses any that are not float32 numbers."""
    with np.errstate(over="ignore"):
        y = x.astype(np.float32)
    lost = int(np.sum((y.astype(x.dtype) != x) & ~np.isnan(x)))
    if lost:
        raise ModelError(
            f"The tensor {name} holds numbers that float32 cannot hold.",
            at=file,
            got=f"{x.dtype}{list(x.shape)}, {lost} of {x.size} would change",
            fix="export the model in float32",
        )
    return y


def require_finite(x: np.ndarray, name: str, file: str) -> np.ndarray:
    if not np.all(np.isfinite(x)):
        raise ModelError(
            f"The weights {name} are not finite.",
            at=file,
            got=f"{int(np.isnan(x).sum())} NaN and {int(np.isinf(x).sum())} infinite of {x.size} numbers",
            fix="the training diverged: train and export the model again",
        )
    return x


def as_array(tensor: Any, name: str, file: str) -> np.ndarray:
    """A tensor of the file in its own dtype; float64 where JAX has it, else exactly as float32."""
    import jax
    from onnx import numpy_helper

    try:
        if any(n < 0 for n in tensor.dims):
            raise ValueError("a negative size")
        x = numpy_helper.to_array(tensor)
    except Exception as error:  # whatever a damaged tensor makes the library raise
        raise ModelError(
            f"The tensor {name} is damaged.",
            at=file,
            got=f"data that does not fill its shape {list(tensor.dims)}",
            fix="export or fetch the model again",
        ) from error
    if x.dtype.name not in FLOATS and x.dtype.kind not in "iub":
        raise ModelError(
            f"The tensor {name} has a type that is not supported.",
            at=file,
            got=x.dtype.name,
            fix="export the model in float32",
        )
    if x.dtype == np.float64 and not jax.config.jax_enable_x64:  # pyright: ignore[reportAttributeAccessIssue]
        return as_float32(x, name, file)
    return x


def load_beside(tensor: Any, folder: Path | None, file: str) -> tuple[str, str]:
    """Fetch a tensor that lies in a file of its own; gives that file's name and sha256 as an entry of `source`."""
    from onnx.checker import ValidationError
    from onnx.external_data_helper import load_external_data_for_tensor

    place = next((entry.value for entry in tensor.external_data if entry.key == "location"), "")
    try:
        if folder is None:
            raise FileNotFoundError(2, "bytes were given, not a path")
        inside = (folder / place).resolve()
        if not inside.is_relative_to(folder.resolve()):
            raise ValueError("outside of the model's folder")
        load_external_data_for_tensor(tensor, str(folder))
        return f"onnx-data:{place}", hashlib.sha256((folder / place).read_bytes()).hexdigest()
    except (OSError, ValueError, OverflowError, MemoryError, ValidationError) as error:
        raise ModelError(
            f"The tensor {tensor.name} is stored outside of the model, and cannot be read.",
            at=file,
            got=place,
            fix="put the file beside the model and give the model's path",
        ) from error
