"""ONNX files taken apart with nothing but the standard library and NumPy.

A protobuf message is a row of fields: a key (number << 3 | kind), then a varint, 4 or 8 bytes, or a length and bytes.
Only the fields that an evaluation needs are kept. It shares no code with the first reader, nor does it use the `onnx`
package that the first one relies on. Source: protobuf.dev/programming-guides/encoding, onnx.proto of ONNX 1.17.
"""

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np


class Damaged(ValueError):
    """Bytes that are no ONNX file, or that say something twice."""


VARINT, EIGHT, BYTES, FOUR = 0, 1, 2, 5
Form = Mapping[int, tuple[str, str]]  # by number of a field: its name and what it is
OPSET: Form = {1: ("domain", "text"), 2: ("version", "int")}
TENSOR: Form = {1: ("dims", "ints"), 2: ("type", "int"), 4: ("floats", "floats"), 5: ("int32s", "ints"),
                7: ("int64s", "ints"), 8: ("name", "text"), 9: ("raw", "bytes"), 10: ("doubles", "doubles"),
                11: ("uint64s", "ints"), 14: ("location", "int")}  # fmt: skip
ATTRIBUTE: Form = {1: ("name", "text"), 2: ("f", "float"), 3: ("i", "int"), 4: ("s", "bytes"), 5: ("t", "TENSOR"),
                   6: ("g", "bytes"), 7: ("floats", "floats"), 8: ("ints", "ints"), 9: ("strings", "list"),
                   20: ("type", "int")}  # fmt: skip
NODE: Form = {1: ("input", "texts"), 2: ("output", "texts"), 3: ("name", "text"), 4: ("op", "text"),
              5: ("attribute", "ATTRIBUTE*"), 7: ("domain", "text")}  # fmt: skip
DIMENSION: Form = {1: ("value", "int"), 2: ("param", "text")}
SHAPE: Form = {1: ("dim", "DIMENSION*")}
TENSOR_TYPE: Form = {1: ("element", "int"), 2: ("shape", "SHAPE")}
TYPE: Form = {1: ("tensor", "TENSOR_TYPE")}
VALUE: Form = {1: ("name", "text"), 2: ("type", "TYPE")}
GRAPH: Form = {1: ("node", "NODE*"), 5: ("initializer", "TENSOR*"), 11: ("input", "VALUE*"), 12: ("output", "VALUE*"),
               15: ("sparse", "list")}  # fmt: skip
MODEL: Form = {7: ("graph", "GRAPH"), 8: ("opset", "OPSET*"), 25: ("functions", "list")}
FORMS = {"OPSET": OPSET, "TENSOR": TENSOR, "ATTRIBUTE": ATTRIBUTE, "NODE": NODE, "DIMENSION": DIMENSION,
         "SHAPE": SHAPE, "TENSOR_TYPE": TENSOR_TYPE, "TYPE": TYPE, "VALUE": VALUE, "GRAPH": GRAPH}  # fmt: skip
EMPTY: dict[str, Any] = {"int": 0, "float": 0.0, "text": "", "bytes": b""}


@dataclass
class Message:
    """A message: the values of its fields by name, with protobuf's defaults where it has none."""

    form: Form
    values: dict[str, Any] = field(default_factory=dict)

    def __getattr__(self, name: str) -> Any:
        if name in self.values:
            return self.values[name]
        kind = next((kind for known, kind in self.form.values() if known == name), None)
        if kind is None:
            raise AttributeError(name)
        if kind in EMPTY:
            return EMPTY[kind]
        return Message(FORMS[kind]) if kind in FORMS else []

    def has(self, name: str) -> bool:
        return name in self.values


def model(content: bytes) -> Message:
    """The ModelProto in the bytes of a file.

    Raises:
        Damaged: they are none.

    >>> model(bytes([0x42, 2, 0x10, 13])).opset[0].version
    13
    """
    try:
        return message(content, MODEL)
    except (IndexError, struct.error, UnicodeDecodeError) as error:
        raise Damaged(f"the bytes are no ONNX model: {error}") from error


def message(data: bytes, form: Form) -> Message:
    """A message of a form; fields that the form does not name are left out."""
    found = Message(form)
    for number, kind, value in _fields(data):
        if number not in form:
            continue
        name, what = form[number]
        _keep(found.values, name, what, kind, value)
    return found


def _fields(data: bytes) -> Iterator[tuple[int, int, Any]]:
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        kind = key & 7
        if kind == VARINT:
            value, at = _varint(data, at)
        elif kind in (EIGHT, FOUR, BYTES):
            size = 8 if kind == EIGHT else 4
            if kind == BYTES:
                size, at = _varint(data, at)
            value, at = data[at : at + size], at + size
            if at > len(data):
                raise Damaged("a field goes on after the end")
        else:
            raise Damaged(f"a field of kind {kind}")
        yield key >> 3, kind, value


def _varint(data: bytes, at: int) -> tuple[int, int]:
    result = shift = 0
    while True:
        byte = data[at]
        result |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return result & (1 << 64) - 1, at
        if shift > 63:
            raise Damaged("a number of more than 64 bits")


def _signed(value: int) -> int:
    return value - (1 << 64) if value >> 63 else value


def _keep(values: dict[str, Any], name: str, what: str, kind: int, value: Any) -> None:
    if what in ("ints", "floats", "doubles"):
        values.setdefault(name, []).extend(_numbers(what, kind, value))
    elif what in ("texts", "list"):
        values.setdefault(name, []).append(value.decode() if what == "texts" else value)
    elif what.endswith("*"):
        values.setdefault(name, []).append(message(_bytes(kind, value), FORMS[what[:-1]]))
    elif what in FORMS:
        if name in values:  # protobuf would merge them
            raise Damaged(f"there are two of {name}")
        values[name] = message(_bytes(kind, value), FORMS[what])
    elif what == "int":
        values[name] = _numbers("ints", kind, value)[-1]
    elif what == "float":
        values[name] = _numbers("floats", kind, value)[-1]
    else:
        values[name] = _bytes(kind, value).decode() if what == "text" else _bytes(kind, value)


def _bytes(kind: int, value: Any) -> bytes:
    if kind != BYTES:
        raise Damaged("a number where bytes belong")
    return value


def _numbers(what: str, kind: int, value: Any) -> list[Any]:
    """One number, or several packed into bytes."""
    if what == "ints":
        if kind == VARINT:
            return [_signed(value)]
        numbers, at, data = [], 0, _bytes(kind, value)
        while at < len(data):
            number, at = _varint(data, at)
            numbers.append(_signed(number))
        return numbers
    if kind not in (BYTES, FOUR if what == "floats" else EIGHT):
        raise Damaged("a number of another size")
    return np.frombuffer(value, "<f4" if what == "floats" else "<f8").tolist()
