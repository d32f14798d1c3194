"""Defects that the ONNX reader and writer once had, each in the smallest graph that shows it."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import onnx
import onnxruntime
import pytest
from jax import lax
from onnx import helper, numpy_helper

import axiom_jax as ax
from axiom_jax._errors import ModelError, UnsupportedPrimitive
from axiom_jax.interop import from_onnx
from axiom_jax.interop.onnx.ops import Node, call
from axiom_jax.interop.onnx.reader import _fill_table
from axiom_jax.interop.onnx.writer import to_onnx_model

_fill_table()
LARGEST = np.finfo(np.float32).max


def net(op: str, feeds: list[np.ndarray], known: list[Any] = (), opset: int = 21, outputs: int = 1, **attributes: Any):
    """A file of one node; `feeds` are its first operands, and `known` are tensors, or None for one left out."""
    names = [f"x{i}" for i in range(len(feeds))]
    tensors = [numpy_helper.from_array(v, f"k{i}") for i, v in enumerate(known) if v is not None]
    operands = names + ["" if v is None else f"k{i}" for i, v in enumerate(known)]
    inputs = [helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(x.dtype), x.shape)
              for n, x in zip(names, feeds, strict=True)]  # fmt: skip
    results = [f"y{i}" for i in range(outputs)]
    node = helper.make_node(op, operands, results, name="node", **attributes)
    graph = helper.make_graph([node], "g", inputs, [helper.make_value_info(r, onnx.TypeProto()) for r in results],
                              tensors)  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8).SerializeToString()


def ours(content: bytes, *feeds: np.ndarray) -> Any:
    model = from_onnx(content)
    return jax.tree.map(np.asarray, model.apply(model.params, *feeds))


def theirs(content: bytes, *feeds: np.ndarray) -> list[np.ndarray]:
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    return session.run(None, {f"x{i}": x for i, x in enumerate(feeds)})


def test_resize_of_integers_interpolates_in_float32():
    x = np.array([[[0, 100, 200, 50]]], np.uint8)
    content = net("Resize", [x], [None, np.float32([1, 1, 2])], mode="linear")
    y = ours(content, x)
    assert y.dtype == np.uint8
    assert y.tolist() == [[[0, 25, 75, 125, 175, 162, 87, 50]]]


def test_resize_of_integers_rounds_once_for_all_axes():
    x = np.array([[[[0, 1], [1, 1]]]], np.int32)
    content = net("Resize", [x], [None, np.float32([1, 1, 2, 2])], mode="linear")
    exact = ours(net("Resize", [np.float32(x)], [None, np.float32([1, 1, 2, 2])], mode="linear"), np.float32(x))
    np.testing.assert_array_equal(ours(content, x), exact.astype(np.int32))


def test_cubic_resize_of_integers_is_refused():
    x = np.zeros((1, 1, 4), np.uint8)
    with pytest.raises(UnsupportedPrimitive, match="integers"):
        ours(net("Resize", [x], [None, np.float32([1, 1, 2])], mode="cubic"), x)


def test_resized_length_is_computed_in_float32():
    x = np.float32([[[1, 2, 3]]])
    content = net("Resize", [x], [None, np.float32([1, 1, 5 / 3])], mode="nearest")
    y = ours(content, x)
    assert y.shape == (1, 1, 5)
    np.testing.assert_array_equal(y, theirs(content, x)[0])


WIDE = np.float16([[[-300, 100, 200, 400], [500, 900, -1000, 600]]])


@pytest.mark.parametrize(
    ("op", "known", "attributes"),
    [
        ("LayerNormalization", [np.ones(4, np.float16)], {}),
        ("RMSNormalization", [np.ones(4, np.float16)], {"opset": 23}),
        ("InstanceNormalization", [np.ones(2, np.float16), np.zeros(2, np.float16)], {}),
        ("GroupNormalization", [np.ones(2, np.float16), np.zeros(2, np.float16)], {"num_groups": 1}),
        ("MeanVarianceNormalization", [], {"axes": [0, 2]}),
    ],
)
def test_norms_of_float16_are_computed_in_float32(op: str, known: list[Any], attributes: dict[str, Any]):
    y = ours(net(op, [WIDE], known, **attributes), WIDE)
    exact = ours(net(op, [np.float32(WIDE)], [np.float32(v) for v in known], **attributes), np.float32(WIDE))
    assert y.dtype == np.float16
    np.testing.assert_allclose(y, exact, rtol=2e-3)


def test_mean_and_deviation_of_float16_are_float32():
    _, mean, inverse = ours(net("LayerNormalization", [WIDE], [np.ones(4, np.float16)], outputs=3), WIDE)
    assert mean.dtype == inverse.dtype == np.float32
    np.testing.assert_allclose(mean[..., 0], [[100, 250]])


@pytest.mark.parametrize(
    ("op", "attributes"), [("GlobalAveragePool", {}), ("ReduceMean", {}), ("AveragePool", {"kernel_shape": [4]})]
)
def test_means_of_float16_do_not_overflow(op: str, attributes: dict[str, Any]):
    x = np.full((1, 1, 4), 30000, np.float16)
    y = ours(net(op, [x], **attributes), x)
    assert y.dtype == np.float16
    assert y.ravel().tolist() == [30000]


def test_old_batch_normalization_with_more_outputs_is_training():
    x, ones = np.ones((2, 3, 4), np.float32), np.ones(3, np.float32)
    with pytest.raises(UnsupportedPrimitive, match="training mode"):
        ours(net("BatchNormalization", [x], [ones] * 4, opset=9, outputs=3), x)


def test_range_to_a_free_end_counts_its_last_part():
    def count(x: Any) -> Any:
        (end,) = call(Node("Size", (0,), (1,)), [x])
        return call(Node("Range", (0, 1, 2), (3,)), [np.array(0), end, np.array(2)])[0]

    (n,) = jax.export.symbolic_shape("n")
    spec = jax.ShapeDtypeStruct((n,), np.float32)
    exported = jax.export.export(jax.jit(count))(spec)
    assert exported.call(np.zeros(5, np.float32)).tolist() == [0, 2, 4]
    assert exported.call(np.zeros(4, np.float32)).tolist() == [0, 2]


def test_range_down_to_a_free_end_is_refused():
    (n,) = jax.export.symbolic_shape("n")
    with pytest.raises(UnsupportedPrimitive, match="negative step"):
        call(Node("Range", (0, 1, 2), (3,)), [np.array(9), np.array(n, object), np.array(-1)])


@pytest.mark.skipif(jax.config.jax_enable_x64, reason="64-bit integers are kept")
def test_integers_beyond_32_bits_are_refused():
    x = np.array([1, 2**32 + 5], np.int64)
    model = from_onnx(net("Abs", [x]))
    for run in (lambda: model.apply(model.params, x), lambda: model(x), lambda: ax.compile(model, "xla")(x)):
        with pytest.raises(ModelError) as caught:
            run()
        assert "4294967301" in str(caught.value)
    assert model.apply(model.params, np.array([-3, 4])).tolist() == [3, 4]


def test_gather_elements_of_known_operands_with_a_smaller_index():
    x, index = np.arange(4).reshape(2, 2), np.array([[0, 1]])
    (y,) = call(Node("GatherElements", (0, 1), (2,), (("axis", 1),)), [x, index])
    assert y.tolist() == [[0, 1]]


def test_quantised_product_with_a_scale_of_each_row():
    a, b = np.array([[10, 20], [30, 40], [50, 60]], np.uint8), np.array([[1, 2, 3], [4, 5, 6]], np.uint8)
    scale, zero = np.float32([0.5, 1, 2]), np.array([1, 2, 3], np.uint8)
    known = [scale, zero, b, np.float32(1), np.uint8(0), np.float32(4), np.uint8(0)]
    y = ours(net("QLinearMatMul", [a], [np.asarray(v) for v in known]), a)
    exact = (a.astype(int) - zero[:, None]) @ b.astype(int) * scale[:, None] / 4
    np.testing.assert_array_equal(y, np.clip(np.round(exact), 0, 255))


def test_clip_keeps_a_bound_that_is_the_largest_number():
    x = np.float32([np.inf, -np.inf, 1])
    content = net("Clip", [x], [np.float32(-LARGEST), LARGEST])
    np.testing.assert_array_equal(ours(content, x), [LARGEST, -LARGEST, 1])
    np.testing.assert_array_equal(ours(content, x), theirs(content, x)[0])


@pytest.mark.parametrize("reverse", [False, True])
def test_cumulative_logsumexp_is_exact_far_below_the_maximum(reverse: bool):
    x = np.float32([[-200, 0, -np.inf, 90], [-np.inf, -300, 5, np.inf]])
    f = lambda v: lax.cumlogsumexp(v, 1, reverse=reverse)
    content = to_onnx_model(f, (2, 4), dynamic_batch=False).SerializeToString()
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    (y,) = session.run(None, {session.get_inputs()[0].name: x})
    np.testing.assert_allclose(y, f(jnp.asarray(x)), rtol=1e-6)


@pytest.mark.parametrize(
    ("op", "gates", "attributes"),
    [
        ("RNN", 1, {"activations": ["Relu"]}),
        ("RNN", 1, {"activations": ["LeakyRelu"], "activation_alpha": [0.3]}),
        ("GRU", 3, {"activations": ["Tanh", "Elu"], "activation_alpha": [0.5]}),
        ("LSTM", 4, {"activations": ["HardSigmoid", "Tanh", "LeakyRelu"], "activation_alpha": [0.3, 0.1],
                     "activation_beta": [0.4]}),
    ],
)  # fmt: skip
def test_recurrent_layers_take_their_activations(op: str, gates: int, attributes: dict[str, Any]):
    rng = np.random.default_rng(0)
    x, w, r = (rng.normal(size=s).astype(np.float32) for s in ((5, 2, 3), (1, gates * 4, 3), (1, gates * 4, 4)))
    content = net(op, [x], [w, r], hidden_size=4, **attributes)
    np.testing.assert_allclose(ours(content, x), theirs(content, x)[0], rtol=1e-5, atol=1e-5)
