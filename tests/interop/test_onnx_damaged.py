"""Damaged and hostile ONNX files: a clear error each, nothing else raised, nothing read outside of the folder."""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper, parser

import axiom_jax as ax
from axiom_jax import AxiomError

NET = parser.parse_model(
    '<ir_version: 10, opset_import: ["": 21]> net (float[n, 1, 4, 4] x) => (float[n, 2] y)'
    "<float[2, 1, 2, 2] w = {1, 2, 3, 4, 5, 6, 7, 8}, int64[2] s = {-1, 8}, float[8, 2] k = {1, 2, 3, 4, 5, 6, 7, 8,"
    "1, 2, 3, 4, 5, 6, 7, 8}, float[2] b = {1, 2}>"
    "{c = Conv <strides = [2, 2]> (x, w) r = Relu(c) f = Reshape(r, s) g = Gemm(f, k, b) y = Softmax <axis = 1> (g)}"
)
HUGE = 1 << 40
opened: list[str] | None = None


def _heard(event: str, arguments: Any) -> None:
    if opened is not None and event == "open" and isinstance(arguments[0], (str, bytes)):
        opened.append(os.fsdecode(arguments[0]))


sys.addaudithook(_heard)


def changed(change: Callable[[Any], Any]) -> bytes:
    model = onnx.ModelProto()
    model.CopyFrom(NET)
    change(model.graph)
    return model.SerializeToString()


def with_node(op: str, *operands: Any, **attributes: Any) -> bytes:
    """The net with one more node, which reads x and constants."""

    def change(graph: Any) -> None:
        names = ["x"]
        for i, operand in enumerate(operands):
            graph.initializer.append(numpy_helper.from_array(np.asarray(operand), f"operand{i}"))
            names.append(f"operand{i}")
        graph.node.append(helper.make_node(op, names, ["more"], **attributes))
        graph.output.append(helper.make_value_info("more", onnx.TypeProto()))

    return changed(change)


def alone(op: str, *operands: Any, **attributes: Any) -> bytes:
    """The net with a node that reads constants alone, added to x."""

    def change(graph: Any) -> None:
        names = []
        for i, operand in enumerate(operands):
            graph.initializer.append(numpy_helper.from_array(np.asarray(operand), f"operand{i}"))
            names.append(f"operand{i}")
        graph.node.append(helper.make_node(op, names, ["alone"], **attributes))
        graph.node.append(helper.make_node("Add", ["x", "alone"], ["more"]))
        graph.output.append(helper.make_value_info("more", onnx.TypeProto()))

    return changed(change)


def beside(location: str, **entries: str) -> bytes:
    def change(graph: Any) -> None:
        tensor = graph.initializer[0]
        for field in ("raw_data", "float_data"):
            tensor.ClearField(field)
        tensor.data_location = TensorProto.EXTERNAL
        for key, value in {"location": location, **entries}.items():
            tensor.external_data.add(key=key, value=value)

    return changed(change)


def of_tensor(**fields: Any) -> bytes:
    def change(graph: Any) -> None:
        tensor = graph.initializer[0]
        for name, value in fields.items():
            if name == "dims":
                del tensor.dims[:]
                tensor.dims.extend(value)
            else:
                setattr(tensor, name, value)

    return changed(change)


def of_node(index: int, **fields: Any) -> bytes:
    def change(graph: Any) -> None:
        node = graph.node[index]
        for name, value in fields.items():
            if isinstance(value, list):
                del getattr(node, name)[:]
                getattr(node, name).extend(value)
            else:
                setattr(node, name, value)

    return changed(change)


def attribute(**values: Any) -> bytes:
    return of_node(0, attribute=[helper.make_attribute(name, value) for name, value in values.items()])


def of_input(*sizes: int) -> bytes:
    def change(graph: Any) -> None:
        dims = graph.input[0].type.tensor_type.shape.dim
        for dim, size in zip(dims, sizes, strict=True):
            dim.dim_value = size

    return changed(change)


INTS = lambda *numbers: np.array(numbers, np.int64)
HOSTILE: dict[str, Callable[[], bytes]] = {
    "cut": lambda: NET.SerializeToString()[:-7],
    "noise": lambda: bytes(np.random.default_rng(0).integers(0, 256, 500, np.uint8)),
    "cycle": lambda: of_node(1, input=["y"]),
    "self": lambda: of_node(1, input=["r"]),
    "missing-weights": lambda: changed(lambda graph: graph.initializer.pop(0)),
    "missing-output": lambda: changed(lambda graph: graph.output.add(name="nowhere")),
    "duplicate-output": lambda: of_node(1, output=["c"]),
    "no-operands": lambda: of_node(0, input=[]),
    "one-operand": lambda: of_node(0, input=["x"]),
    "no-name": lambda: of_node(1, op_type=""),
    "negative-dims": lambda: of_tensor(dims=[2, -1, 2, 2]),
    "huge-dims": lambda: of_tensor(dims=[HUGE, HUGE, 2, 2]),
    "other-dims": lambda: of_tensor(dims=[3, 1, 2, 2]),
    "text-tensor": lambda: of_tensor(data_type=TensorProto.STRING),
    "unknown-type": lambda: of_tensor(data_type=77),
    "integer-weights": lambda: of_tensor(data_type=TensorProto.INT64),
    "huge-input": lambda: of_input(HUGE, HUGE, HUGE, HUGE),
    "small-input": lambda: of_input(1, 1, 1, 1),
    "outside-parent": lambda: beside("../secret.bin"),
    "outside-absolute": lambda: beside("/etc/hostname"),
    "outside-link": lambda: beside("link.bin"),
    "outside-offset": lambda: beside("own.bin", offset=str(HUGE)),
    "outside-length": lambda: beside("own.bin", length=str(HUGE)),
    "outside-negative": lambda: beside("own.bin", offset="-5"),
    "outside-word": lambda: beside("own.bin", offset="five"),
    "outside-nothing": lambda: beside(""),
    "zero-strides": lambda: attribute(strides=[0, 0]),
    "negative-strides": lambda: attribute(strides=[-1, -1]),
    "many-strides": lambda: attribute(strides=[1, 1, 1]),
    "text-strides": lambda: attribute(strides="two"),
    "huge-pads": lambda: attribute(pads=[-9, -9, -9, -9]),
    "zero-groups": lambda: attribute(group=0),
    "many-groups": lambda: attribute(group=HUGE),
    "unknown-auto-pad": lambda: attribute(group="one"),
    "huge-constant": lambda: alone("ConstantOfShape", INTS(HUGE)),
    "huge-range": lambda: alone("Range", *INTS(0, HUGE, 1)),
    "negative-constant": lambda: alone("ConstantOfShape", INTS(-4)),
    "endless-range": lambda: alone("Range", *INTS(0, 5, 0)),
    "huge-tile": lambda: alone("Tile", np.ones(4, np.float32), INTS(HUGE)),
    "huge-expand": lambda: alone("Expand", np.ones(1, np.float32), INTS(HUGE, 4)),
    "huge-pad": lambda: alone("Pad", np.ones(4, np.float32), INTS(0, HUGE)),
    "huge-eye": lambda: alone("EyeLike", np.ones((2, 3, 4), np.float32)),
    "huge-one-hot": lambda: alone("OneHot", INTS(1), INTS(HUGE), np.float32([0, 1])),
    "huge-resize": lambda: with_node("Resize", np.float32([]), np.float32([1, 1, 1e12, 1])),
    "zero-resize": lambda: with_node("Resize", np.float32([]), np.float32([1, 1, 0, 1])),
    "bad-reshape": lambda: with_node("Reshape", INTS(3, 5)),
    "bad-gather": lambda: with_node("Gather", INTS(9), axis=2),
    "bad-axis": lambda: with_node("Softmax", axis=9),
    "bad-transpose": lambda: with_node("Transpose", perm=[0, 0, 1, 2]),
    "bad-split": lambda: with_node("Split", INTS(1, 2), axis=1),
    "bad-einsum": lambda: with_node("Einsum", equation="a b c->->"),
    "bad-cast": lambda: with_node("Cast", to=99),
    "bad-slice": lambda: with_node("Slice", INTS(0), INTS(1), INTS(7)),
    "no-step": lambda: with_node("Slice", INTS(0), INTS(1), INTS(1), INTS(0)),
    "bad-squeeze": lambda: with_node("Squeeze", INTS(3)),
    "no-branches": lambda: with_node("If"),
    "no-body": lambda: with_node("Loop"),
    "bad-pool": lambda: with_node("MaxPool", kernel_shape=[0, 0]),
    "bad-recurrence": lambda: with_node("LSTM", np.ones((1, 2), np.float32)),
    "bad-depth": lambda: with_node("DepthToSpace", blocksize=0),
    "bad-top": lambda: with_node("TopK", INTS(99)),
}


def refused(content: bytes, folder: Path) -> AxiomError | None:
    """The error that reading gives, or None; anything else that is raised is the test's failure."""
    global opened
    path = folder / "net.onnx"
    path.write_bytes(content)
    opened = []
    try:
        ax.from_onnx(path)
    except AxiomError as error:
        assert error.at
        assert error.fix
        return error
    finally:
        inside = str(folder.resolve())
        data = [name for name in opened or [] if name.endswith((".bin", "hostname"))]
        opened = None
        assert all(str(Path(name).resolve()).startswith(inside) for name in data)
    return None


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a model's data, and a secret beside it that a link points to."""
    inside = tmp_path / "model"
    inside.mkdir()
    (tmp_path / "secret.bin").write_bytes(bytes(32))
    (inside / "own.bin").write_bytes(bytes(16))
    (inside / "link.bin").symlink_to(tmp_path / "secret.bin")
    return inside


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_is_refused(name: str, folder: Path):
    assert refused(HOSTILE[name](), folder) is not None


def test_the_undamaged_file_is_read(folder: Path):
    assert refused(NET.SerializeToString(), folder) is None


def mutated(seed: int) -> bytes:
    """The net with some bytes changed, taken out or put in."""
    rng, content = np.random.default_rng(seed), bytearray(NET.SerializeToString())
    for _ in range(rng.integers(1, 6)):
        place = int(rng.integers(0, len(content)))
        kind = rng.integers(0, 4)
        if kind == 0:
            content[place] = int(rng.integers(0, 256))
        elif kind == 1:
            content[place] ^= 1 << int(rng.integers(0, 8))
        elif kind == 2:
            del content[place : place + int(rng.integers(1, 9))]
        else:
            content[place:place] = bytes(rng.integers(0, 256, int(rng.integers(1, 9)), np.uint8))
    return bytes(content)


@pytest.mark.parametrize("seed", range(20))
def test_changed_bytes_give_a_clear_error_or_a_model(seed: int, folder: Path):
    refused(mutated(seed), folder)


@pytest.mark.campaign
def test_many_changed_bytes_give_a_clear_error_or_a_model(folder: Path):
    seen = [refused(mutated(seed), folder) for seed in range(20, 1020)]
    print(f"{sum(error is not None for error in seen)} of {len(seen)} refused, the others read")
    assert sum(error is not None for error in seen) >= 100
