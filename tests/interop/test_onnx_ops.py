"""Every ONNX operator of the reader against onnxruntime, in float32."""

from dataclasses import dataclass
from typing import Any
from zlib import crc32

import jax
import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper

from axiom_jax.interop import from_onnx
from axiom_jax.interop.onnx.ops import OPERATORS
from axiom_jax.interop.onnx.reader import _fill_table

_fill_table()
FLOAT = onnx.TensorProto.FLOAT
QUICK = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}  # compiling is what takes long
EXAMPLES = settings(max_examples=12, deadline=None, derandomize=True, database=None)


@dataclass(frozen=True)
class In:
    """A graph input, filled with random numbers from an interval."""

    shape: tuple[int, ...]
    low: float = -2.0
    high: float = 2.0


def ints(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


def floats(*shape: int, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-2, 2, shape).astype(np.float32)


def single_node(op: str, operands: tuple[Any, ...], opset: int, outputs: int, attributes: dict[str, Any]) -> bytes:
    names = ["" if x is None else f"v{i}" for i, x in enumerate(operands)]
    results = [f"y{i}" for i in range(outputs)]
    tensors = [onnx.numpy_helper.from_array(x, n) for n, x in zip(names, operands, strict=True) if _is_array(x)]
    inputs = [
        helper.make_tensor_value_info(n, FLOAT, x.shape) for n, x in zip(names, operands, strict=True) if _is_in(x)
    ]
    node = helper.make_node(op, names, results, name="node", **attributes)
    outs = [helper.make_value_info(r, onnx.TypeProto()) for r in results]
    graph = helper.make_graph([node], "graph", inputs, outs, tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8).SerializeToString()


def _is_array(x: Any) -> bool:
    return isinstance(x, np.ndarray)


def _is_in(x: Any) -> bool:
    return isinstance(x, In)


def run(content: bytes, feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
    options = onnxruntime.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 4, 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"]).run(None, feeds)


def assert_agree(content: bytes, feeds: dict[str, np.ndarray], expected: list[np.ndarray] | None = None) -> None:
    model = from_onnx(content)
    got = jax.jit(model.apply, compiler_options=QUICK)(model.params, *feeds.values())
    got = got if isinstance(got, tuple) else (got,)
    expected = run(content, feeds) if expected is None else expected
    assert len(got) == len(expected)
    for a, b, (_, shape, dtype) in zip(got, expected, model.signature.outputs, strict=True):
        assert a.shape == b.shape == shape
        assert str(a.dtype) == dtype
        a = np.asarray(a)
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5 * max(1.0, float(np.max(np.abs(b), initial=0))))


def check(op: str, *operands: Any, opset: int = 17, outputs: int = 1, **attributes: Any) -> None:
    content = single_node(op, operands, opset, outputs, attributes)
    rng = np.random.default_rng(crc32(content))
    feeds = {
        f"v{i}": rng.uniform(x.low, x.high, x.shape).astype(np.float32) for i, x in enumerate(operands) if _is_in(x)
    }
    assert_agree(content, feeds)


X = In((2, 3))
IMAGE = In((2, 4, 6, 5))
CASES: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = [
    *[(op, (X, In((3,))), {}) for op in ("Add", "Sub", "Mul")],
    *[(op, (In((4, 1, 3)), floats(2, 1)), {}) for op in ("Add", "Sub", "Mul", "Div")],
    *[(op, (X, floats()), {"opset": 7}) for op in ("Add", "Sub", "Mul", "Div")],
    ("Div", (X, In((2, 1), 0.5, 2)), {}),
    *[(op, (X,), {}) for op in ("Neg", "Abs", "Exp", "Sin", "Cos", "Tanh", "Floor", "Ceil", "Sign")],
    *[(op, (X,), {}) for op in ("Relu", "Sigmoid", "Softplus", "Softsign", "Erf", "HardSwish", "Identity")],
    ("Log", (In((2, 3), 0.1, 3),), {}),
    ("Sqrt", (In((2, 3), 0.1, 3),), {}),
    ("Reciprocal", (In((2, 3), 0.1, 3),), {}),
    *[(op, (X, In((3,)), floats(2, 1)), {}) for op in ("Max", "Min", "Sum", "Mean")],
    *[(op, (X,), {}) for op in ("Max", "Min", "Sum", "Mean")],
    *[("LeakyRelu", (X,), {"alpha": alpha}) for alpha in (0.1, 0.0, 1.0, 2.5, -0.5)],
    ("LeakyRelu", (X,), {}),
    ("PRelu", (In((2, 3, 2)), floats(3, 1)), {}),
    ("Elu", (X,), {"alpha": 0.7}),
    ("Selu", (X,), {}),
    ("Celu", (X,), {"alpha": 0.7}),
    ("HardSigmoid", (X,), {}),
    ("HardSigmoid", (X,), {"alpha": 0.6, "beta": 0.1}),
    ("Gelu", (X,), {"opset": 20}),
    ("Gelu", (X,), {"opset": 20, "approximate": "tanh"}),
    ("Clip", (X,), {"opset": 7, "min": -0.5, "max": 0.25}),
    ("Clip", (X,), {"opset": 7}),
    ("Clip", (X, np.float32(-0.5), np.float32(1)), {"opset": 11}),
    ("Clip", (X, None, np.float32(1)), {"opset": 13}),
    ("Clip", (X, np.float32(0)), {"opset": 13}),
    *[("Pow", (In((2, 3), 0.1, 2), np.float32(e)), {}) for e in (2, 3, 0.5, -1, 1.7, 0)],
    ("Pow", (X, np.float32(2)), {"opset": 7}),
    ("Pow", (X, ints(2)), {"opset": 13}),
    ("Pow", (In((2, 3), 0.1, 2), floats(3)), {}),
    ("Pow", (In((2, 3), 0.1, 2), In((3,))), {}),
    ("Where", (np.array([[True], [False]]), X, In((3,))), {}),
    ("Where", (np.array(True), X, floats(4, 1, 3)), {}),
    ("Cast", (X,), {"to": FLOAT}),
    ("Cast", (X,), {"to": onnx.TensorProto.INT32}),
    ("Cast", (X,), {"to": onnx.TensorProto.BOOL}),
    ("Cast", (ints(3, -1),), {"to": FLOAT}),
    ("Dropout", (X,), {"opset": 7, "ratio": 0.3}),
    ("Dropout", (X, np.float32(0.3)), {"opset": 12}),
    ("Dropout", (X, np.float32(0.3), np.array(False)), {"opset": 13}),
    ("MatMul", (X, floats(3, 4)), {}),
    ("MatMul", (In((2, 5, 3)), floats(3, 4)), {}),
    ("MatMul", (floats(4, 2), In((2, 3))), {}),
    ("MatMul", (In((5, 2, 3)), In((5, 3, 2))), {}),
    ("MatMul", (In((5, 1, 2, 3)), In((4, 3, 2))), {}),
    ("MatMul", (In((3,)), floats(3, 2)), {}),
    ("MatMul", (X, floats(3)), {}),
    ("MatMul", (In((3,)), floats(2, 3, 4)), {}),
    ("MatMul", (In((4, 2, 3)), floats(3)), {}),
    ("MatMul", (In((3,)), In((3,))), {}),
    ("Gemm", (X, floats(3, 4), floats(4)), {}),
    ("Gemm", (X, floats(4, 3), floats(2, 1)), {"transB": 1, "alpha": 0.5, "beta": 2.0}),
    ("Gemm", (In((3, 2)), floats(4, 3)), {"transA": 1, "transB": 1, "opset": 11}),
    ("Gemm", (X, floats(3, 4), floats()), {"opset": 9}),
    ("Gemm", (X, floats(3, 4), floats(4)), {"beta": 0.0}),
    ("Conv", (IMAGE, floats(3, 4, 3, 2), floats(3)), {"pads": [1, 0, 2, 1], "strides": [2, 1]}),
    ("Conv", (In((1, 4, 9)), floats(6, 2, 3)), {"group": 2, "dilations": [2]}),
    ("Conv", (In((1, 2, 4, 4, 4)), floats(3, 2, 2, 2, 2)), {"strides": [2, 1, 2]}),
    ("ConvTranspose", (IMAGE, floats(4, 3, 3, 2), floats(3)), {"strides": [2, 3], "pads": [1, 0, 1, 1]}),
    ("ConvTranspose", (IMAGE, floats(4, 2, 3, 3)), {"group": 2, "dilations": [2, 1], "strides": [1, 2]}),
    ("ConvTranspose", (IMAGE, floats(4, 2, 3, 3)), {"output_padding": [1, 0], "strides": [2, 2]}),
    ("ConvTranspose", (IMAGE, floats(4, 2, 3, 3)), {"output_shape": [12, 10], "strides": [2, 2]}),
    ("ConvTranspose", (IMAGE, floats(4, 2, 2, 3)), {"auto_pad": "SAME_UPPER", "strides": [2, 2]}),
    ("ConvTranspose", (IMAGE, floats(4, 2, 2, 3)), {"auto_pad": "SAME_LOWER", "strides": [1, 2]}),
    ("ConvTranspose", (In((1, 3, 5)), floats(3, 2, 3)), {}),
    ("MaxPool", (IMAGE,), {"kernel_shape": [2, 3], "strides": [2, 1], "pads": [1, 1, 0, 1]}),
    ("MaxPool", (In((1, 2, 9)),), {"kernel_shape": [3], "dilations": [2], "opset": 10}),
    ("AveragePool", (IMAGE,), {"kernel_shape": [2, 3], "opset": 7}),
    ("GlobalAveragePool", (IMAGE,), {}),
    ("GlobalMaxPool", (IMAGE,), {}),
    *[("BatchNormalization", (x, floats(3), floats(3), floats(3), np.float32([0.5, 1, 2])),
       {"opset": n, "epsilon": 0.01}) for n in (7, 9, 15) for x in (X, In((2, 3, 4, 2)))],
    ("InstanceNormalization", (In((2, 3, 4, 2)), floats(3), floats(3)), {}),
    ("LayerNormalization", (In((2, 3, 4)), floats(4), floats(4)), {}),
    ("LayerNormalization", (In((2, 3, 4)), floats(3, 4)), {"axis": 1, "epsilon": 0.1}),
    *[(op, (In((2, 3, 4)),), {"opset": n, **a})
      for op in ("Softmax", "LogSoftmax") for n in (7, 11, 13) for a in ({}, {"axis": 1}, {"axis": 0})],
    *[(op, (In((2, 3, 4), 0.1, 2),), {"axes": [0, -1], "keepdims": k, "opset": 11})
      for op in ("ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceSumSquare", "ReduceL2")
      for k in (0, 1)],
    ("ReduceSum", (In((2, 3, 4)), ints(1)), {"opset": 13, "keepdims": 0}),
    ("ReduceSum", (In((2, 3, 4)),), {"opset": 13}),
    ("ReduceSum", (In((2, 3, 4)),), {"opset": 13, "noop_with_empty_axes": 1}),
    ("ReduceMean", (In((2, 3, 4)), ints(1, -1)), {"opset": 18}),
    ("Shape", (IMAGE,), {}),
    ("Shape", (IMAGE,), {"start": 1, "end": -1}),
    ("Size", (IMAGE,), {}),
    ("ConstantOfShape", (ints(2, 3),), {}),
    ("ConstantOfShape", (ints(2),), {"value": onnx.numpy_helper.from_array(np.float32([7]))}),
    ("Range", (np.array(2), np.array(9), np.array(3)), {}),
    ("Reshape", (IMAGE, ints(0, -1, 10)), {}),
    ("Reshape", (IMAGE, ints(240)), {"opset": 21}),
    *[("Flatten", (IMAGE,), {"axis": a, "opset": 11}) for a in (0, 1, 2, 4, -1)],
    ("Squeeze", (In((1, 3, 1, 2)),), {"opset": 7, "axes": [0]}),
    ("Squeeze", (In((1, 3, 1, 2)), ints(-2)), {"opset": 13}),
    ("Squeeze", (In((1, 3, 1, 2)),), {"opset": 13}),
    ("Unsqueeze", (X,), {"opset": 7, "axes": [0, 2]}),
    ("Unsqueeze", (X, ints(-1, 1)), {"opset": 13}),
    ("Transpose", (IMAGE,), {}),
    ("Transpose", (IMAGE,), {"perm": [0, 2, 3, 1]}),
    ("Expand", (In((3, 1)), ints(2, 1, 4)), {}),
    ("Tile", (X, ints(2, 3)), {}),
    ("Concat", (X, floats(2, 1), In((2, 2))), {"axis": -1}),
    ("Concat", (X,), {"axis": 0}),
    ("Split", (In((2, 6)),), {"opset": 7, "axis": 1, "split": [1, 2, 3], "outputs": 3}),
    ("Split", (In((2, 6)),), {"opset": 11, "axis": -1, "outputs": 2}),
    ("Split", (In((2, 6)), ints(4, 2)), {"opset": 13, "axis": 1, "outputs": 2}),
    ("Split", (In((7, 2)),), {"opset": 18, "num_outputs": 3, "outputs": 3}),
    ("Slice", (IMAGE,), {"opset": 9, "starts": [1, -3], "ends": [3, 9223372036854775807], "axes": [1, 3]}),
    ("Slice", (IMAGE,), {"opset": 9, "starts": [1], "ends": [2]}),
    ("Slice", (IMAGE, ints(5), ints(-9223372036854775807), ints(2), ints(-2)), {"opset": 13}),
    ("Slice", (IMAGE, ints(0, 1), ints(1, 3)), {"opset": 11}),
    ("Slice", (In((6,)), ints(-7), ints(-7), ints(0), ints(-3)), {"opset": 13}),
    ("Gather", (IMAGE, np.array(-1)), {"axis": 1}),
    ("Gather", (IMAGE, ints(3, 0, 3)), {"axis": 2}),
    ("Gather", (IMAGE, np.array([[0, 2], [1, 3]])), {"axis": 1}),
    ("Gather", (IMAGE, ints(1, 3)), {"axis": 3}),
    ("Gather", (IMAGE, ints(0, 0, 1, 1)), {"axis": 0}),
    ("Pad", (X,), {"opset": 7, "pads": [1, 0, 0, 2], "value": 1.5}),
    ("Pad", (X, ints(0, -1, 2, 0), np.float32(3)), {"opset": 11}),
    ("Pad", (IMAGE, ints(1, 2), None, ints(-1)), {"opset": 18}),
    *[("Pad", (IMAGE, ints(0, 0, 1, 2, 0, 0, 2, 1)), {"opset": 13, "mode": mode}) for mode in ("reflect", "edge")],
    ("Upsample", (IMAGE,), {"opset": 7, "scales": [1.0, 1.0, 2.0, 3.0], "mode": "nearest"}),
    ("Upsample", (IMAGE, np.float32([1, 1, 2, 1])), {"opset": 9}),
    ("Resize", (IMAGE, np.float32([1, 1, 2, 3])), {"opset": 10}),
    ("Resize", (IMAGE, np.float32([1, 1, 0.5, 0.6])), {"opset": 10}),
    ("Resize", (IMAGE, None, None, ints(2, 4, 9, 7)), {"opset": 13}),
    ("Resize", (IMAGE, None, np.float32([2, 2])), {"opset": 18, "axes": [2, 3]}),
]  # fmt: skip


@pytest.mark.parametrize("op, operands, options", CASES, ids=[f"{op}-{i}" for i, (op, _, _) in enumerate(CASES)])
def test_operator_agrees_with_onnxruntime(op, operands, options):
    check(op, *(np.asarray(x) if isinstance(x, np.generic) else x for x in operands), **options)


KNOWN: list[tuple[str, tuple[np.ndarray, ...], dict[str, Any]]] = [
    *[(op, (ints(7, -7, 5), ints(2, 2, -3)), {}) for op in ("Add", "Sub", "Mul", "Div", "Max", "Min")],
    *[(op, (ints(1, 2, 3), ints(2)), {}) for op in ("Equal", "Less", "LessOrEqual", "Greater", "GreaterOrEqual")],
    *[(op, (np.array([True, True, False, False]), np.array([True, False, True, False])), {}) for op in ("And", "Or")],
    ("Not", (np.array([True, False]),), {}),
    ("Neg", (ints(3),), {}),
    ("Where", (np.array([True, False]), ints(1, 2), ints(3)), {}),
    ("Cast", (np.float32([2.7, -2.7]),), {"to": 7}),
    ("CastLike", (ints(2, 3), floats(1)), {}),
    ("Pow", (ints(3), ints(2)), {}),
    ("MatMul", (np.int32([[1, 2]]), np.int32([[3], [4]])), {}),
    ("Concat", (ints(1), ints(2, 3)), {"axis": 0}),
    ("Gather", (ints(5, 6, 7), np.array(-1)), {}),
    ("Slice", (ints(5, 6, 7, 8), ints(-1), ints(0), ints(0), ints(-2)), {}),
    ("Split", (ints(5, 6, 7), ints(1, 2)), {"outputs": 2}),
    ("Unsqueeze", (np.array(5), ints(0)), {}),
    ("Squeeze", (np.array([[5]]), ints(0)), {}),
    ("Reshape", (ints(1, 2, 3, 4), ints(2, -1)), {}),
    ("Transpose", (np.array([[1, 2, 3]]),), {}),
    ("Expand", (ints(1), ints(2, 3)), {}),
    ("Tile", (ints(1, 2), ints(2)), {}),
    ("ReduceProd", (ints(2, 3, 4), ints(0)), {"keepdims": 0, "opset": 18}),
    ("ReduceMax", (ints(2, 3, 4),), {"opset": 13}),
    ("Shape", (floats(2, 3),), {}),
    ("Range", (np.array(0), np.array(5), np.array(2)), {}),
]


@pytest.mark.parametrize("op, operands, options", KNOWN, ids=[f"{op}-{i}" for i, (op, _, _) in enumerate(KNOWN)])
def test_operator_on_known_integers_agrees_with_onnxruntime(op, operands, options):
    check(op, *operands, **options)


POSITIVE, UNIT, ABOVE = In((2, 3), 0.1, 3), In((2, 3), -0.9, 0.9), In((2, 3), 1.1, 3)
LATER: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = [
    *[(op, (X,), {}) for op in ("Tan", "Atan", "Sinh", "Cosh", "Asinh", "Round", "IsNaN", "IsInf", "ThresholdedRelu")],
    *[(op, (UNIT,), {}) for op in ("Asin", "Acos", "Atanh")],
    ("Acosh", (ABOVE,), {}),
    ("Mish", (X,), {"opset": 18}),
    ("Shrink", (X,), {"bias": 0.2, "lambd": 0.7}),
    ("Mod", (X, POSITIVE), {"fmod": 1}),
    *[("ReduceL1" if i == 0 else op, (IMAGE, ints(1, 2)), {"opset": 18, "keepdims": i % 2})
      for i, op in enumerate(("ReduceL1", "ReduceLogSumExp", "ReduceL2"))],
    ("ReduceLogSum", (POSITIVE, ints(1)), {"opset": 18}),
    ("GroupNormalization", (IMAGE, floats(4), floats(4)), {"opset": 21, "num_groups": 2}),
    ("RMSNormalization", (X, floats(3)), {"opset": 23}),
    ("MeanVarianceNormalization", (IMAGE,), {}),
    ("LRN", (IMAGE,), {"size": 3, "alpha": 0.1}),
    ("LpNormalization", (X,), {"p": 1}),
    ("LpPool", (IMAGE,), {"kernel_shape": [2, 2], "opset": 18}),
    ("GlobalLpPool", (IMAGE,), {}),
    ("Einsum", (In((2, 3, 4)), In((2, 4, 5))), {"equation": "bij, bjk -> bik"}),
    ("Det", (In((2, 3, 3)),), {}),
    ("Hardmax", (X,), {}),
    ("GatherElements", (X, np.array([[0, -1, 1]])), {"axis": 0}),
    ("GatherND", (IMAGE, np.array([[[0, 1], [1, -1]], [[1, 0], [2, 2]]])), {"batch_dims": 1}),
    ("ScatterElements", (X, np.array([[0, 1, 0]]), floats(1, 3)), {"axis": 0, "reduction": "add", "opset": 18}),
    ("Scatter", (X, np.array([[0, 1, 0]]), floats(1, 3)), {"axis": 0, "opset": 10}),
    ("ScatterND", (X, np.array([[1], [0]]), floats(2, 3)), {"opset": 18}),
    ("Trilu", (In((2, 3, 4)), np.array(1)), {"upper": 0}),
    ("EyeLike", (X,), {"k": 1}),
    ("Compress", (X, np.array([True, False, True])), {"axis": 1}),
    ("ReverseSequence", (In((4, 3, 2)), ints(2, 4, 1)), {}),
    *[("CumSum", (X, np.array(1)), {"reverse": r, "exclusive": e}) for r in (0, 1) for e in (0, 1)],
    *[(op, (X,), {"axis": 1, "select_last_index": last}) for op in ("ArgMax", "ArgMin") for last in (0, 1)],
    *[("TopK", (X, ints(2)), {"outputs": 2, "largest": largest}) for largest in (0, 1)],
    *[("DepthToSpace", (IMAGE,), {"blocksize": 2, "mode": mode}) for mode in ("DCR", "CRD")],
    ("SpaceToDepth", (In((1, 2, 4, 6)),), {"blocksize": 2}),
    *[("Resize", (IMAGE, None, np.float32([1, 1, 1.5, 2])), {"mode": mode}) for mode in ("linear", "cubic")],
    ("Resize", (IMAGE, None, np.float32([1, 1, 0.6, 0.6])), {"mode": "linear", "antialias": 1, "opset": 18}),
    ("Resize", (IMAGE, None, None, ints(2, 4, 9, 3)),
     {"mode": "linear", "coordinate_transformation_mode": "align_corners"}),
    *[(op, (In((5, 2, 3)), floats(d, g * 4, 3), floats(d, g * 4, 4), floats(d, 2 * g * 4)),
       {"hidden_size": 4, "outputs": 2, "direction": direction})
      for op, g in (("RNN", 1), ("GRU", 3), ("LSTM", 4))
      for d, direction in ((1, "reverse"), (2, "bidirectional"))],
    ("GRU", (In((5, 2, 3)), floats(1, 12, 3), floats(1, 12, 4)), {"hidden_size": 4, "linear_before_reset": 1}),
    ("QuantizeLinear", (X, np.float32(0.02), np.int8(3)), {}),
    ("DequantizeLinear", (np.int8([[1, -5], [7, 9]]), np.float32([0.1, 0.2]), np.int8([1, 2])), {}),
    ("MatMulInteger", (np.uint8([[1, 2]]), np.uint8([[3], [4]]), np.uint8(1), np.uint8(2)), {}),
    ("ConvInteger", (np.uint8(np.arange(16).reshape(1, 1, 4, 4)), np.uint8([[[[1, 2], [3, 4]]]]), np.uint8(3)), {}),
    ("DynamicQuantizeLinear", (np.float32([0, 2, -3, -2.5, 1.34, 0.5]),), {"outputs": 3}),
    ("QLinearMatMul", (np.uint8([[8, 2]]), np.float32(0.1), np.uint8(1), np.uint8([[3], [4]]), np.float32(0.2),
                       np.uint8(2), np.float32(0.3), np.uint8(4)), {}),
    ("BitShift", (np.uint8([8, 3]), np.uint8([1, 1])), {"direction": "RIGHT"}),
    ("Xor", (np.array([True, False]), np.array([True, True])), {}),
    *[(op, (np.int32([6, 3]), np.int32([3, 5])), {"opset": 18}) for op in ("BitwiseAnd", "BitwiseOr", "BitwiseXor")],
    ("BitwiseNot", (np.int32([6, 3]),), {"opset": 18}),
    ("OneHot", (ints(1, -1), np.array(3), np.float32([0, 2])), {}),
    ("NonZero", (ints(1, 0, 3),), {}),
    ("Unique", (ints(3, 1, 3, 2),), {"outputs": 4}),
]  # fmt: skip
# These are tested by the generated node tests (a campaign); onnxruntime runs them in graphs or not at all.
BY_OTHERS = {"CumProd", "Swish", "TensorScatter", "If", "Loop", "Scan"}


@pytest.mark.parametrize("op, operands, options", LATER, ids=[f"{op}-{i}" for i, (op, _, _) in enumerate(LATER)])
def test_a_later_operator_agrees_with_onnxruntime(op, operands, options):
    check(op, *(np.asarray(x) if isinstance(x, np.generic) else x for x in operands), **options)


def test_every_operator_is_tested():
    assert {op for op, _, _ in CASES + KNOWN + LATER} | BY_OTHERS == set(OPERATORS)


@given(st.data())
@EXAMPLES
def test_convolution_of_any_geometry(data):
    draw, n = data.draw, data.draw(st.integers(1, 2))
    group = draw(st.integers(1, 2))
    kernel, space = [draw(st.integers(1, 3)) for _ in range(n)], [draw(st.integers(5, 8)) for _ in range(n)]
    attributes: dict[str, Any] = {"group": group, "strides": [draw(st.integers(1, 3)) for _ in range(n)]}
    attributes["dilations"] = [draw(st.integers(1, 2)) for _ in range(n)]
    mode = draw(st.sampled_from(["NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER"]))
    if mode == "NOTSET":
        attributes["pads"] = [draw(st.integers(0, 2)) for _ in range(2 * n)]
    else:  # onnxruntime refuses dilation, and strides above the kernel, with SAME padding
        attributes |= {"auto_pad": mode, "dilations": [1] * n, "strides": [draw(st.integers(1, k)) for k in kernel]}
    check("Conv", In((1, 2 * group, *space)), floats(2 * group, 2, *kernel), floats(2 * group), **attributes)


@given(st.data())
@EXAMPLES
def test_transposed_convolution_of_any_geometry(data):
    draw, group = data.draw, data.draw(st.integers(1, 2))
    strides = [draw(st.integers(1, 3)) for _ in range(2)]
    kernel = [draw(st.integers(2, 3)) for _ in range(2)]
    attributes = {
        "group": group,
        "strides": strides,
        "dilations": [draw(st.integers(1, 2)) for _ in range(2)],
        "pads": [draw(st.integers(0, 1)) for _ in range(4)],
        "output_padding": [draw(st.integers(0, s - 1)) for s in strides],
    }
    check("ConvTranspose", In((1, 2 * group, 3, 4)), floats(2 * group, 2, *kernel), floats(2 * group), **attributes)


@given(st.data(), st.sampled_from(["MaxPool", "AveragePool"]))
@settings(EXAMPLES, max_examples=24)
def test_pooling_of_any_geometry(data, op):
    draw = data.draw
    kernel = [draw(st.integers(1, 3)) for _ in range(2)]
    attributes: dict[str, Any] = {"kernel_shape": kernel, "strides": [draw(st.integers(1, 3)) for _ in range(2)]}
    mode = draw(st.sampled_from(["NOTSET", "NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER"]))
    if mode == "NOTSET":
        attributes["pads"] = [draw(st.integers(0, k - 1)) for k in kernel * 2]
        attributes["ceil_mode"] = draw(st.integers(0, 1))
    else:
        attributes |= {"auto_pad": mode, "strides": [draw(st.integers(1, k)) for k in kernel]}
    if op == "AveragePool":
        attributes["count_include_pad"] = draw(st.integers(0, 1))
    check(op, In((1, 2, draw(st.integers(4, 7)), 6)), opset=19, **attributes)


@given(st.lists(st.tuples(st.integers(-9, 9), st.integers(-9, 9), st.sampled_from([-3, -2, -1, 1, 2, 3])), min_size=2,
                max_size=2))  # fmt: skip
@EXAMPLES
def test_any_slice(bounds):
    (a, b, s), (c, d, t) = bounds
    check("Slice", In((5, 6)), ints(a, c), ints(b, d), ints(0, 1), ints(s, t), opset=13)


MODES = ["half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric"]


@given(
    st.sampled_from(MODES),
    st.sampled_from(["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"]),
    st.lists(st.integers(1, 9), min_size=2, max_size=2),
)
@settings(EXAMPLES, max_examples=24)
def test_nearest_resize_of_any_size(mode, rounding, lengths):
    options = {"coordinate_transformation_mode": mode, "nearest_mode": rounding, "mode": "nearest"}
    check("Resize", In((1, 2, 4, 3)), None, None, ints(1, 2, *lengths), opset=19, **options)


@given(st.lists(st.integers(-6, 5), min_size=1, max_size=8), st.integers(-2, 1))
@EXAMPLES
def test_gather_of_any_indices(indices, axis):
    check("Gather", In((6, 6)), ints(*indices), axis=axis)
