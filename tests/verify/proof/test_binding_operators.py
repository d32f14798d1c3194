"""The second ONNX reader, operator by operator: against onnxruntime within float32, against certificates exactly."""

from fractions import Fraction

import numpy as np
import pytest
from binding_graphs import (
    FLOAT,
    In,
    certified,
    feeds_of,
    meet,
    model_bytes,
    point_of,
    runtime,
    single,
)
from hypothesis import given
from hypothesis import strategies as st
from onnx import helper

from axiom_jax.verification.proof.onnx_replay.graph import Undecided, Unknown, load
from axiom_jax.verification.proof.onnx_replay.table import OPERATORS

X = In((2, 3))
IMAGE = In((2, 4, 6, 5))
POSITIVE = In((2, 3), 0.1, 2)


def ints(*values):
    return np.array(values, np.int64)


def floats(*shape, seed=1):
    return np.random.default_rng(seed).uniform(-2, 2, shape).astype(np.float32)


def scalar(value):
    return np.array(value, np.float32)


CASES = [
    *[
        (op, (X,), {})
        for op in (
            "Neg",
            "Abs",
            "Relu",
            "LeakyRelu",
            "Exp",
            "Sigmoid",
            "Tanh",
            "Erf",
            "Sin",
            "Cos",
            "Atan",
            "Identity",
            "HardSigmoid",
            "HardSwish",
            "Softsign",
            "Elu",
            "Celu",
            "Selu",
        )
    ],
    *[(op, (X, In((3,))), {}) for op in ("Add", "Sub", "Mul", "Max", "Min", "Sum", "Mean")],
    ("Div", (X, floats(3)), {}),
    ("Div", (X, POSITIVE), {}),
    ("Sign", (X,), {}),
    ("LeakyRelu", (X,), {"alpha": 0.3}),
    ("PRelu", (X, np.abs(floats(3))), {}),
    ("ThresholdedRelu", (X,), {"alpha": 0.7}),
    ("Elu", (X,), {"alpha": 0.7}),
    ("Celu", (X,), {"alpha": 0.7}),
    ("HardSigmoid", (X,), {"alpha": 0.6, "beta": 0.1}),
    ("Sqrt", (POSITIVE,), {}),
    ("Log", (POSITIVE,), {}),
    ("Reciprocal", (POSITIVE,), {}),
    ("Clip", (X,), {"opset": 7, "min": -0.5, "max": 0.25}),
    ("Clip", (X, scalar(-0.5), scalar(1)), {"opset": 13}),
    ("Clip", (X, None, scalar(1)), {"opset": 13}),
    *[("Pow", (POSITIVE, scalar(p)), {}) for p in (2, 3, 0.5, -1)],
    ("Where", (np.array([[True], [False]]), X, In((3,))), {}),
    ("Cast", (X,), {"to": FLOAT}),
    ("CastLike", (X, floats(1)), {}),
    ("Dropout", (X,), {"opset": 7, "ratio": 0.3}),
    ("Dropout", (X, scalar(0.3), np.array(False)), {"opset": 13}),
    ("MatMul", (X, floats(3, 4)), {}),
    ("MatMul", (floats(4, 2), X), {}),
    ("MatMul", (In((5, 2, 3)), In((5, 3, 2))), {}),
    ("MatMul", (In((3,)), floats(3, 2)), {}),
    ("Gemm", (X, floats(4, 3), floats(2, 1)), {"transB": 1, "alpha": 0.5, "beta": 2.0}),
    ("Gemm", (In((3, 2)), floats(3, 4)), {"transA": 1}),
    ("Conv", (IMAGE, floats(3, 4, 3, 2), floats(3)), {"pads": [1, 0, 2, 1], "strides": [2, 1]}),
    ("Conv", (IMAGE, floats(6, 2, 3, 3)), {"group": 2, "strides": [1, 2], "auto_pad": "SAME_UPPER"}),
    ("Conv", (IMAGE, floats(2, 4, 2, 2)), {"auto_pad": "SAME_LOWER", "strides": [2, 2]}),
    ("Conv", (In((1, 2, 9)), floats(2, 2, 3)), {"auto_pad": "VALID"}),
    ("ConvTranspose", (IMAGE, floats(4, 3, 3, 2), floats(3)), {"strides": [2, 3], "pads": [1, 0, 1, 1]}),
    ("ConvTranspose", (IMAGE, floats(4, 2, 3, 3)), {"group": 2, "dilations": [2, 1], "strides": [1, 2]}),
    ("ConvTranspose", (IMAGE, floats(4, 2, 3, 3)), {"output_padding": [1, 0], "strides": [2, 2]}),
    ("ConvTranspose", (In((1, 2, 5)), floats(2, 1, 2)), {"pads": [2, 2], "strides": [3]}),
    ("MaxPool", (IMAGE,), {"kernel_shape": [2, 3], "strides": [2, 1], "pads": [1, 1, 0, 1]}),
    ("MaxPool", (In((1, 2, 9)),), {"kernel_shape": [3], "dilations": [2], "strides": [2], "ceil_mode": 1}),
    ("AveragePool", (IMAGE,), {"kernel_shape": [2, 3], "pads": [1, 1, 0, 1]}),
    ("AveragePool", (IMAGE,), {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "count_include_pad": 1, "opset": 11}),
    ("AveragePool", (In((1, 2, 9)),), {"kernel_shape": [2], "strides": [3], "ceil_mode": 1, "opset": 19}),
    ("GlobalAveragePool", (IMAGE,), {}),
    ("GlobalMaxPool", (IMAGE,), {}),
    *[
        (
            "BatchNormalization",
            (In((2, 3, 2)), floats(3), floats(3), floats(3), np.float32([0.5, 1, 2])),
            {"opset": n, "epsilon": 0.01},
        )
        for n in (7, 15)
    ],
    ("InstanceNormalization", (In((2, 3, 4)), floats(3), floats(3)), {}),
    ("LayerNormalization", (In((2, 3, 4)), floats(4), floats(4)), {}),
    *[("Softmax", (In((2, 3, 2)),), {"opset": n, **a}) for n in (7, 13) for a in ({}, {"axis": 1})],
    *[
        (op, (In((2, 3, 4)),), {"axes": [0, -1], "keepdims": k, "opset": 11})
        for k in (0, 1)
        for op in ("ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceSumSquare", "ReduceL1", "ReduceL2")
    ],
    ("ReduceSum", (In((2, 3, 4)), ints(1)), {"opset": 13, "keepdims": 0}),
    ("ReduceSum", (In((2, 3)),), {"opset": 13, "noop_with_empty_axes": 1}),
    ("ReduceMean", (In((2, 3, 4)), ints(1, -1)), {"opset": 18}),
    ("Reshape", (IMAGE, ints(0, -1, 10)), {}),
    *[("Flatten", (IMAGE,), {"axis": a, "opset": 11}) for a in (0, 2, -1)],
    ("Squeeze", (In((1, 3, 1, 2)),), {"opset": 7, "axes": [0]}),
    ("Squeeze", (In((1, 3, 1, 2)), ints(-2)), {"opset": 13}),
    ("Unsqueeze", (X,), {"opset": 7, "axes": [0, 2]}),
    ("Unsqueeze", (X, ints(-1, 1)), {"opset": 13}),
    ("Transpose", (IMAGE,), {}),
    ("Transpose", (IMAGE,), {"perm": [0, 2, 3, 1]}),
    ("Expand", (In((3, 1)), ints(2, 1, 4)), {}),
    ("Tile", (X, ints(2, 3)), {}),
    ("Concat", (X, floats(2, 1), In((2, 2))), {"axis": -1}),
    ("Split", (In((2, 6)),), {"opset": 7, "axis": 1, "split": [1, 2, 3], "outputs": 3}),
    ("Split", (In((2, 7)),), {"opset": 18, "axis": 1, "num_outputs": 3, "outputs": 3}),
    ("Split", (In((2, 6)), ints(4, 2)), {"opset": 13, "axis": -1, "outputs": 2}),
    ("Slice", (IMAGE,), {"opset": 7, "starts": [1, -3], "ends": [3, 9], "axes": [1, 2]}),
    ("Slice", (IMAGE, ints(4, 0), ints(-99, 5), ints(2, -1), ints(-2, 3)), {}),
    ("Slice", (X, ints(-2), ints(99), ints(1)), {}),
    ("Gather", (IMAGE, ints(3, -1, 0)), {"axis": 1}),
    ("Gather", (X, np.array(1)), {"axis": 1}),
    ("GatherElements", (X, np.array([[0, -1], [2, 2]])), {"axis": 1}),
    ("GatherND", (X, np.array([[0, -1], [1, 2]])), {}),
    ("Pad", (X,), {"opset": 7, "pads": [0, 1, 2, 0], "value": 1.5}),
    ("Pad", (X, ints(1, -1, 0, 2)), {"opset": 13}),
    ("Pad", (X, ints(0, 1, 0, 1)), {"opset": 13, "mode": "reflect"}),
    ("Pad", (X, ints(0, 2, 1, 1), scalar(2)), {"opset": 13}),
    ("Pad", (X, ints(1, 1), scalar(0), ints(-1)), {"opset": 18}),
    ("Pad", (X, ints(0, 2, 1, 1)), {"opset": 13, "mode": "edge"}),
    ("DepthToSpace", (IMAGE,), {"blocksize": 2}),
    ("DepthToSpace", (IMAGE,), {"blocksize": 2, "mode": "CRD"}),
    ("SpaceToDepth", (In((1, 2, 4, 6)),), {"blocksize": 2}),
    ("Upsample", (In((1, 2, 2, 3)), np.float32([1, 1, 2, 3])), {"opset": 9}),
]
LARGER = (  # operators that make no sense alone; `test_shapes_are_computed` and others have them
    "Constant", "ConstantOfShape", "Shape", "Size", "Range", "Greater", "Less", "GreaterOrEqual", "LessOrEqual",
    "Equal", "Not", "And", "Or", "Xor", "ReduceProd", "Swish",
)  # fmt: skip


NAMES = [f"{op}-{i}" for i, (op, _, _) in enumerate(CASES)]


@pytest.mark.parametrize("op, operands, options", CASES, ids=NAMES)
def test_an_operator_is_that_of_onnxruntime(op, operands, options):
    content, feeds = single(op, operands, **options), feeds_of(operands)
    found = load(content).evaluate(point_of(feeds))
    assert all(a <= b and b - a < Fraction(1, 1 << 100) for a, b in found)
    np.testing.assert_allclose([float(a) for a, _ in found], runtime(content, feeds), 1e-5, 1e-5)


@pytest.mark.sweep(3)  # JAX compiles every operation of the first reader
@pytest.mark.parametrize("op, operands, options", CASES, ids=NAMES)
def test_an_operator_is_that_of_certificates(op, operands, options):
    content, feeds = single(op, operands, **options), feeds_of(operands)
    exact = certified(content)
    if op not in ("Sign", "ThresholdedRelu"):  # these jump: certificates have none
        assert exact.missing is None
        assert meet(load(content).evaluate(point_of(feeds)), exact.network.evaluate(point_of(feeds)))


def test_every_operator_is_tested():
    assert {op for op, _, _ in CASES} | {*LARGER} == set(OPERATORS)


def test_shapes_are_computed():
    """What exporters write for `x.reshape(x.shape[0], -1)` and `zeros_like`."""
    nodes = [
        helper.make_node("Shape", ["x"], ["s"]),
        helper.make_node("Constant", [], ["zero"], value_int=0),
        helper.make_node("Constant", [], ["rest"], value_ints=[-1]),
        helper.make_node("Gather", ["s", "zero"], ["rows"]),
        helper.make_node("Constant", [], ["axis"], value_ints=[0]),
        helper.make_node("Unsqueeze", ["rows", "axis"], ["first"]),
        helper.make_node("Concat", ["first", "rest"], ["to"], axis=0),
        helper.make_node("Reshape", ["x", "to"], ["flat"]),
        helper.make_node("Size", ["x"], ["count"]),
        helper.make_node("Constant", [], ["one"], value_int=1),
        helper.make_node("Range", ["zero", "count", "one"], ["order"]),
        helper.make_node("ReduceProd", ["s"], ["again"], keepdims=0),
        helper.make_node("Sub", ["count", "again"], ["nothing"]),
        helper.make_node("Add", ["order", "nothing"], ["same"]),
        helper.make_node("Div", ["same", "one"], ["places"]),
        helper.make_node("Cast", ["places"], ["numbers"], to=FLOAT),
        helper.make_node("ConstantOfShape", ["to_known"], ["ones"], value=helper.make_tensor("v", FLOAT, [1], [2.0])),
        helper.make_node("Mul", ["numbers", "ones"], ["twice"]),
        helper.make_node("Add", ["flat", "twice"], ["y"]),
    ]
    content = model_bytes(nodes, {"x": (1, 2, 3)}, ["y"], {"to_known": ints(6)})
    x = floats(1, 2, 3)
    found = load(content).evaluate(point_of({"x": x}))
    assert [float(a) for a, _ in found] == (x.ravel().astype(float) + 2 * np.arange(6)).tolist()
    assert meet(found, certified(content).network.evaluate(point_of({"x": x})))


@pytest.mark.parametrize("op, wanted", [("Greater", [0, 0, 1]), ("Less", [1, 0, 0]), ("GreaterOrEqual", [0, 1, 1]),
                                        ("LessOrEqual", [1, 1, 0]), ("Equal", [0, 1, 0])])  # fmt: skip
def test_comparisons_choose(op, wanted):
    nodes = [
        helper.make_node(op, ["x", "c"], ["decided"]),
        helper.make_node("Not", ["decided"], ["other"]),
        helper.make_node("And", ["decided", "other"], ["never"]),
        helper.make_node("Or", ["decided", "never"], ["again"]),
        helper.make_node("Xor", ["again", "never"], ["chosen"]),
        helper.make_node("Where", ["chosen", "one", "nought"], ["y"]),
    ]
    tensors = {"c": np.float32([1, 1, 1]), "one": np.float32([1, 1, 1]), "nought": scalar(0)}
    content = model_bytes(nodes, {"x": (3,)}, ["y"], tensors)
    feeds = {"x": np.float32([0, 1, 2])}
    assert [int(a) for a, _ in load(content).evaluate(point_of(feeds))] == wanted
    assert runtime(content, feeds).tolist() == wanted


def test_swish_is_what_the_standard_says():
    content = single("Swish", (In((3,)),), opset=24, alpha=2.0)
    found = load(content).evaluate([Fraction(0), Fraction(1), Fraction(-3)])
    np.testing.assert_allclose([float(a) for a, _ in found], [0, 1 / (1 + np.exp(-2)), -3 / (1 + np.exp(6))], 1e-12)


@pytest.mark.parametrize("op, operands, options, said", [
    ("Asinh", (X,), {}, "operator Asinh"),
    ("Pow", (X, floats(3)), {}, "several powers"),
    ("Cast", (X,), {"to": 10}, "half precision"),
    ("Cast", (X,), {"to": 6}, "not whole"),
    ("MaxPool", (IMAGE,), {"kernel_shape": [2, 2], "outputs": 2}, "indices"),
    ("Upsample", (In((1, 1, 2, 2)), np.float32([1, 1, 1.5, 2])), {"opset": 9}, "whole factors"),
    ("GatherND", (IMAGE, np.zeros((2, 1), np.int64)), {"batch_dims": 1}, "batch axes"),
    ("Gather", (X, ints(7)), {}, "outside"),
    ("Reshape", (X, ints(4, 4)), {}, "in this form"),
    ("Div", (X, np.zeros(3, np.float32)), {}, "may be 0"),
    ("Sqrt", (In((3,), -2, -1),), {}, "may be negative"),
    ("Log", (In((3,), -2, -1),), {}, "may be negative"),
    ("Exp", (In((3,), 2000, 3000),), {}, "1024"),
])  # fmt: skip
def test_what_is_not_known_or_not_defined_is_said(op, operands, options, said):
    with pytest.raises((Unknown, Undecided), match=said):
        load(single(op, operands, **options)).evaluate(point_of(feeds_of(operands)))


LAYERS = st.lists(st.sampled_from(["Gemm", "Relu", "LeakyRelu", "Abs", "Clip", "Sub", "Tanh", "Sigmoid", "Max", "Mul"]),
                  min_size=1, max_size=6)  # fmt: skip


@given(layers=LAYERS, seed=st.integers(0, 2**16))
def test_random_graphs_agree_with_certificates(layers, seed):
    """Whatever is put together: equal rationals where it is piecewise linear, enclosures that meet elsewhere."""
    rng = np.random.default_rng(seed)
    nodes, tensors, value = [], {}, "x"
    for i, op in enumerate(layers):
        operands = [value]
        if op == "Gemm":
            operands += [f"w{i}", f"b{i}"]
            tensors |= {f"w{i}": rng.normal(size=(3, 3)).astype(np.float32), f"b{i}": floats(3, seed=seed + i)}
        elif op == "Clip":
            operands += [f"l{i}", f"h{i}"]
            tensors |= {f"l{i}": scalar(-1), f"h{i}": scalar(rng.uniform(-1, 1))}
        elif op in ("Sub", "Max", "Mul"):
            operands += [f"c{i}"] if op == "Mul" else ["x"]
            tensors |= {f"c{i}": floats(3, seed=seed + i)}
        nodes.append(helper.make_node(op, operands, [value := f"v{i}"]))
    nodes.append(helper.make_node("Add", [value, "x"], ["y"]))
    used = {name for node in nodes for name in node.input}
    content = model_bytes(nodes, {"x": (1, 3)}, ["y"], {k: v for k, v in tensors.items() if k in used})
    point = [Fraction(int(n), 7) for n in rng.integers(-14, 15, 3)]
    found, wanted = load(content).evaluate(point), certified(content).network.evaluate(point)
    assert meet(found, wanted)
    if not {"Tanh", "Sigmoid"}.intersection(layers):
        assert found == wanted
