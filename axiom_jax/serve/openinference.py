"""Inference requests of the Open Inference Protocol over HTTP: JSON, and tensors as bytes after the JSON.

Source: Open Inference Protocol v2, https://github.com/kserve/open-inference-protocol, with the binary tensor data
extension, https://github.com/triton-inference-server/server/blob/main/docs/protocol/extension_binary_data.md.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson

from axiom_jax.serve.engine import Answer
from axiom_jax.serve.limits import Limits, Refusal
from axiom_jax.serve.served import Served
from axiom_jax.serve.tensors import NAMES, read_tensor, to_bytes, to_list

EXTENSIONS = ["binary_tensor_data"]


@dataclass(frozen=True)
class Asked:
    """An inference request.

    Args:
        inputs: arrays by name.
        outputs: name of each wanted output, and whether it goes out as bytes.
        parameters: as given; unknown ones have no effect, as the protocol says.
        id: given back in the answer.
    """

    inputs: dict[str, np.ndarray]
    outputs: dict[str, bool]
    parameters: Mapping[str, Any]
    id: str | None = None


def from_json(body: bytes | memoryview) -> Any:
    """JSON as Python values; NaN and Infinity are no JSON.

    Raises:
        Refusal: it is not JSON, or nested too deeply.
    """
    try:
        return orjson.loads(body)
    except ValueError as error:
        raise Refusal("The request body is not JSON.", at="request body", got=str(error)[:200],
                      fix="send one JSON object in UTF-8; NaN and Infinity travel as bytes only") from None  # fmt: skip


def read_request(served: Served, body: bytes, header_length: str | None, limits: Limits) -> Asked:
    """The body of `POST /v2/models/M/infer`.

    Args:
        served: the model asked.
        body: JSON, then the bytes of tensors.
        header_length: how long the JSON is: the header Inference-Header-Content-Length, or None for all.

    Raises:
        Refusal: it is malformed, or asks for what is not served.
        ShapeError: elements do not fill a stated shape.
    """
    length = _length(header_length, body)
    rest = memoryview(body)[length:]
    header = from_json(body if length == len(body) else memoryview(body)[:length])
    if not isinstance(header, dict):
        raise Refusal("The request is no JSON object.", at="request body", fix='{"inputs": [...]}')
    parameters = _object(header.get("parameters"), "parameters")
    inputs, used = {}, 0
    for at, entry in _entries(header.get("inputs"), "inputs"):
        spec = served.input.get(entry["name"])
        if spec is None:
            raise Refusal(f"{served.name} has no input named {entry['name'][:60]!r}.", at=at,
                          fix=f"inputs: {', '.join(served.input)}")  # fmt: skip
        if spec.name in inputs:
            raise Refusal("An input is given twice.", at=at, got=spec.name, fix="give it once")
        size = _object(entry.get("parameters"), f"{at}.parameters").get("binary_data_size")
        if "shape" not in entry or "datatype" not in entry:
            raise Refusal("A tensor needs a shape and a datatype.", at=at,
                          fix=f'"shape": {spec.sizes}, "datatype": "{spec.datatype}"')  # fmt: skip
        raw = None
        if size is not None:
            if type(size) is not int or not 0 <= size <= len(rest) - used:
                raise Refusal("The body does not hold the bytes of a tensor.", at=f"{at}.parameters.binary_data_size",
                              got=f"{str(size)[:40]}; left in the body: {len(rest) - used}",
                              fix="send the tensors' bytes after the JSON, and its length in the header "
                              "Inference-Header-Content-Length")  # fmt: skip
            raw, used = rest[used : used + size], used + size
        inputs[spec.name] = read_tensor(spec, at, limits, shape=entry["shape"], datatype=entry["datatype"],
                                        data=entry.get("data"), raw=raw)  # fmt: skip
    if used != len(rest):
        fix = 'state them: "parameters": {"binary_data_size": ...}'
        raise Refusal("There are bytes in the body that no tensor claims.", at="request body",
                      got=f"{len(rest) - used} bytes", fix=fix)  # fmt: skip
    identity = header.get("id")
    if identity is not None and not isinstance(identity, str):
        raise Refusal("A request's id is text.", at="id", got=type(identity).__name__, fix='"id": "42"')
    return Asked(inputs, _wanted(served, header, parameters), parameters, identity)


def _length(header_length: str | None, body: bytes) -> int:
    if header_length is None:
        return len(body)
    if not header_length.isascii() or not header_length.isdigit() or len(header_length) > 12:
        length = -1
    else:
        length = int(header_length)
    if not 0 < length <= len(body):
        got = f"{header_length[:40]}; the body has {len(body)} bytes"
        raise Refusal("The length of the JSON is wrong.", at="header Inference-Header-Content-Length", got=got,
                      fix="send the JSON's length in bytes")  # fmt: skip
    return length


def _wanted(served: Served, header: Mapping[str, Any], parameters: Mapping[str, Any]) -> dict[str, bool]:
    known = [spec.name for spec in served.outputs]
    binary = parameters.get("binary_data_output") is True
    if not header.get("outputs"):
        return dict.fromkeys(known, binary)
    wanted = {}
    for at, entry in _entries(header["outputs"], "outputs"):
        if entry["name"] not in known:
            raise Refusal(f"{served.name} has no output named {entry['name'][:60]!r}.", at=at,
                          fix=f"outputs: {', '.join(known)}")  # fmt: skip
        options = _object(entry.get("parameters"), f"{at}.parameters")
        if options.get("classification") or "shared_memory_region" in options:
            raise Refusal("Classification and shared memory are not served.", at=at, fix="ask for the tensor itself")
        wanted[entry["name"]] = options.get("binary_data", binary) is True
    return wanted


def _entries(value: Any, at: str) -> Iterator[tuple[str, dict[str, Any]]]:
    if not isinstance(value, list) or not value:
        raise Refusal(f"A request needs a list of {at}.", at=at, got="nothing" if not value else type(value).__name__,
                      fix=f'"{at}": [{{"name": ...}}]')  # fmt: skip
    for i, entry in enumerate(value):
        if not isinstance(entry, dict) or not isinstance(entry.get("name"), str):
            raise Refusal("A tensor needs a name.", at=f"{at}[{i}]", fix='{"name": "x", ...}')
        yield f"{at}[{i}]", entry


def _object(value: Any, at: str) -> Mapping[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise Refusal("This is no JSON object.", at=at, got=type(value).__name__, fix="{}")
    return value


def write_answer(asked: Asked, answer: Answer) -> tuple[bytes, int | None]:
    """The body of the answer, and the length of its JSON if bytes follow."""
    entries, tail = [], []
    for name, binary in asked.outputs.items():
        array = answer.outputs[name]
        entry = tensor(name, array)
        if binary:
            data = to_bytes(array)
            entry["parameters"] = {"binary_data_size": len(data)}
            tail.append(data)
        else:
            entry["data"] = numbers(name, array)
        entries.append(entry)
    head: dict[str, Any] = {"model_name": answer.model, "model_version": answer.version}
    if asked.id is not None:
        head["id"] = asked.id
    head["parameters"] = {"certificate": answer.digest} if answer.digest else {}
    text = to_json(head | {"outputs": entries})
    return b"".join([text, *tail]), len(text) if tail else None


def tensor(name: str, array: np.ndarray) -> dict[str, Any]:
    """Name, datatype and shape of an output, as the protocol writes them."""
    return {"name": name, "datatype": NAMES[array.dtype], "shape": list(array.shape)}


def numbers(name: str, array: np.ndarray, flat: bool = True) -> Any:
    """An output as JSON numbers.

    Raises:
        Refusal: it holds NaN or infinity, which JSON cannot say.
    """
    if array.dtype.kind not in "biu" and not np.isfinite(array).all():
        raise Refusal("JSON has no NaN and no infinity.", status=422, at=name, fix="ask for the output as bytes")
    return to_list(array, flat)


def to_json(value: Any) -> bytes:
    """JSON; `numbers` has seen to it that there is no NaN, which would be written as null."""
    return orjson.dumps(value)
