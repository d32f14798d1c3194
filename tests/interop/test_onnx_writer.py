"""`ax.to_onnx`: names, layouts, free sizes, dtypes, opsets, what is refused, and that nothing wrong is kept."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import numpy_helper

import axiom_jax as ax
from axiom_jax import AxiomError, ModelError, ShapeError, UnsupportedPrimitive, nn
from axiom_jax.interop.onnx.compare import compare
from axiom_jax.interop.onnx.writer import subject_of, to_onnx_model, write

MLP = ax.Sequential(nn.Dense(4, 3), nn.relu, nn.Dense(3, 2), nn.softmax)
IMAGES = ax.Sequential(nn.Conv(3, 4), nn.relu, nn.MaxPool(2), nn.Flatten(), nn.Dense(64, 5), input_shape=(8, 8, 3))


def nodes(proto: Any) -> list[str]:
    return [node.op_type for node in proto.graph.node]


def sizes(value: Any) -> list[Any]:
    return [d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim]


def run(path: Path, *inputs: Any) -> list[Any]:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return session.run(None, {entry.name: x for entry, x in zip(session.get_inputs(), inputs, strict=True)})


def test_a_model_is_written_as_people_would(tmp_path: Path):
    record = ax.to_onnx(MLP, tmp_path / "net.onnx")
    proto = onnx.load(tmp_path / "net.onnx")
    assert nodes(proto) == ["Gemm", "Relu", "Gemm", "Softmax"]
    assert {t.name for t in proto.graph.initializer} == {
        f"{layer}/{part}" for layer in ("0_Dense", "2_Dense") for part in ("kernel", "bias")
    }
    assert (proto.opset_import[0].version, proto.ir_version) == (21, 10)
    assert sizes(proto.graph.input[0]) == ["batch", 4]
    assert sizes(proto.graph.output[0]) == ["batch", 2]
    assert [proto.graph.input[0].name, proto.graph.output[0].name] == ["x", "y"]
    assert (record.path, record.opset, record.nodes) == (str(tmp_path / "net.onnx"), 21, 4)
    assert record.difference < 1e-6
    assert record.judge.startswith("onnxruntime")
    assert list(tmp_path.iterdir()) == [tmp_path / "net.onnx"]


def test_channels_first_where_the_shape_says_so(tmp_path: Path):
    ax.to_onnx(IMAGES, tmp_path / "nchw.onnx", input_shape=(1, 3, 8, 8))
    proto = onnx.load(tmp_path / "nchw.onnx")
    assert sizes(proto.graph.input[0]) == ["batch", 3, 8, 8]
    assert nodes(proto)[:3] == ["Conv", "Relu", "MaxPool"]  # no transposition before them
    x = np.random.default_rng(0).normal(size=(5, 8, 8, 3)).astype(np.float32)
    (y,) = run(tmp_path / "nchw.onnx", x.transpose(0, 3, 1, 2))
    np.testing.assert_allclose(y, IMAGES(x), atol=1e-5)


@pytest.mark.parametrize("layout, shape, first", [
    (None, None, 8), ("NHWC", None, 8), ("NCHW", None, 3), (None, (1, 8, 8, 3), 8), ("NCHW", (1, 3, 8, 8), 3),
])  # fmt: skip
def test_layout(layout: str | None, shape: Any, first: int):
    assert sizes(to_onnx_model(IMAGES, shape, layout=layout).graph.input[0])[1] == first


def test_a_layout_that_does_not_fit_is_refused():
    with pytest.raises(ShapeError, match="does not take inputs of this shape"):
        to_onnx_model(IMAGES, (1, 3, 8, 8), layout="NHWC")
    with pytest.raises(ShapeError):
        to_onnx_model(IMAGES, (1, 5, 8, 8))
    with pytest.raises(AxiomError, match="no such layout"):
        to_onnx_model(IMAGES, layout="CHWN")


def test_the_batch_is_free_whatever_number_was_given(tmp_path: Path):
    ax.to_onnx(lambda x: x.reshape(x.shape[0] * 2, -1) / x.shape[0], tmp_path / "f.onnx", (7, 6))
    for batch in (1, 4):
        x = np.ones((batch, 6), np.float32)
        (y,) = run(tmp_path / "f.onnx", x)
        np.testing.assert_allclose(y, np.full((2 * batch, 3), 1 / batch), rtol=1e-6)


def test_a_fixed_batch(tmp_path: Path):
    record = ax.to_onnx(MLP, tmp_path / "f.onnx", (3, 4), dynamic_batch=False)
    assert sizes(onnx.load(tmp_path / "f.onnx").graph.input[0]) == [3, 4]
    assert record.batches == (3,)


def test_other_free_sizes(tmp_path: Path):
    ax.to_onnx(lambda x: jnp.cumsum(x, 1).reshape(x.shape[0], -1), tmp_path / "f.onnx", (1, "length", 3))
    assert sizes(onnx.load(tmp_path / "f.onnx").graph.input[0]) == ["batch", "length", 3]
    for length in (2, 5):
        assert run(tmp_path / "f.onnx", np.ones((2, length, 3), np.float32))[0].shape == (2, 3 * length)
    assert ax.from_onnx(tmp_path / "f.onnx", sizes="free")(np.ones((2, 7, 3), np.float32)).shape == (2, 21)
    with pytest.raises(ModelError, match="not fixed"):
        ax.from_onnx(tmp_path / "f.onnx")


def test_several_inputs_and_outputs(tmp_path: Path):
    def both(a: Any, b: Any) -> Any:
        return {"sum": a + b, "parts": (a, b * 2)}

    ax.to_onnx(both, tmp_path / "f.onnx", [(1, 3), (1, 3)])
    proto = onnx.load(tmp_path / "f.onnx")
    assert [v.name for v in proto.graph.input] == ["x0", "x1"]
    assert [v.name for v in proto.graph.output] == ["parts_0", "parts_1", "sum"]
    a, b = np.ones((2, 3), np.float32), np.full((2, 3), 2, np.float32)
    for got, expected in zip(run(tmp_path / "f.onnx", a, b), (a, b * 2, a + b), strict=True):
        np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "int32", "bool"])
def test_dtypes_stay(dtype: str, tmp_path: Path):
    spec = jax.ShapeDtypeStruct((1, 4), jnp.dtype(dtype))
    fn = (lambda x: ~x | x[:, ::-1]) if dtype == "bool" else (lambda x: x * 2 + x[:, ::-1])
    record = ax.to_onnx(fn, tmp_path / "f.onnx", spec)
    assert record.difference == 0
    proto = onnx.load(tmp_path / "f.onnx")
    assert {v.type.tensor_type.elem_type for v in (*proto.graph.input, *proto.graph.output)} == {
        onnx.helper.np_dtype_to_tensor_dtype(jnp.dtype(dtype))
    }
    model = ax.from_onnx(tmp_path / "f.onnx")
    assert model.signature.inputs[0][2] == model.signature.outputs[0][2] == dtype


@pytest.mark.parametrize("opset", range(13, 25))
def test_opsets(opset: int, tmp_path: Path):
    net = ax.Sequential(nn.Dense(4, 8), nn.gelu, nn.LayerNorm(8), nn.Dense(8, 2), nn.softmax)
    ax.to_onnx(net, tmp_path / "f.onnx", opset=opset)
    ax.to_onnx(lambda x: (x.mean(1), x.max(1), jnp.split(x, 2, 1)), tmp_path / "g.onnx", (1, 4), opset=opset)
    assert ("LayerNormalization" in nodes(onnx.load(tmp_path / "f.onnx"))) == (opset >= 17)
    assert ("Gelu" in nodes(onnx.load(tmp_path / "f.onnx"))) == (opset >= 20)


@pytest.mark.parametrize("opset", [6, 12, 99, "21"])
def test_other_opsets_are_refused(opset: Any):
    with pytest.raises(AxiomError, match="opsets 13 to 24"):
        to_onnx_model(MLP, opset=opset)


def test_everything_unsupported_is_told_at_once(tmp_path: Path):
    def fn(x: Any) -> Any:
        y = jnp.linalg.cholesky(x @ x.T)
        return jax.scipy.special.digamma(jnp.abs(jnp.fft.fft(y)))

    with pytest.raises(UnsupportedPrimitive) as caught:
        ax.to_onnx(fn, tmp_path / "f.onnx", (3, 3), dynamic_batch=False)
    for name in ("cholesky", "digamma", "fft"):
        assert name in caught.value.what
        assert name in (caught.value.at or "")
    assert "test_onnx_writer.py" in (caught.value.at or "")
    assert not list(tmp_path.iterdir())


def test_a_graph_that_computes_something_else_is_refused():
    subject = subject_of(MLP, None, None, True, None)
    proto = write(subject)
    assert compare(proto, subject).batches == (2, 3)
    kernel = next(t for t in proto.graph.initializer if t.name == "0_Dense/kernel")
    kernel.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(kernel) * 1.01, kernel.name))
    with pytest.raises(ModelError, match="does not compute what the model does"):
        compare(proto, subject)


def test_what_looks_like_gelu_but_is_not_stays_as_it_is(tmp_path: Path):
    def almost(x: Any) -> Any:  # 0.0447 instead of 0.044715
        return x * (0.5 * (1.0 + jnp.tanh(np.sqrt(2 / np.pi).astype(np.float32) * (x + 0.0447 * (x**3)))))

    ax.to_onnx(almost, tmp_path / "f.onnx", (1, 4))
    assert "Gelu" not in nodes(onnx.load(tmp_path / "f.onnx"))


def test_a_failure_keeps_the_old_file(tmp_path: Path):
    path = tmp_path / "net.onnx"
    ax.to_onnx(MLP, path)
    before = path.read_bytes()
    with pytest.raises(ModelError):
        ax.to_onnx(lambda x: x[:, :2] @ x, path, (1, 4))
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
    with pytest.raises(ModelError, match="cannot be written"):
        ax.to_onnx(MLP, tmp_path / "nowhere" / "net.onnx")


def test_a_function_needs_a_shape():
    with pytest.raises(ModelError, match="not known") as caught:
        to_onnx_model(jnp.tanh)
    assert "input_shape" in (caught.value.fix or "")


def test_a_read_model_is_written_again(tmp_path: Path):
    ax.to_onnx(IMAGES, tmp_path / "a.onnx")
    ax.to_onnx(ax.from_onnx(tmp_path / "a.onnx"), tmp_path / "b.onnx")
    again = onnx.load(tmp_path / "b.onnx")
    assert nodes(again) == nodes(onnx.load(tmp_path / "a.onnx"))
    assert sizes(again.graph.input[0]) == ["batch", 8, 8, 3]
    x = np.random.default_rng(0).normal(size=(4, 8, 8, 3)).astype(np.float32)
    np.testing.assert_allclose(run(tmp_path / "b.onnx", x)[0], IMAGES(x), atol=1e-5)


def test_a_seed_gives_the_same_file():
    assert to_onnx_model(MLP).SerializeToString() == to_onnx_model(MLP).SerializeToString()


@given(st.data())
@settings(max_examples=15, deadline=None, derandomize=True, database=None)
def test_convolution_of_any_geometry(data: Any):
    n = data.draw(st.integers(1, 2))
    draw = lambda low, high: tuple(data.draw(st.integers(low, high)) for _ in range(n))
    groups, kernel = data.draw(st.sampled_from([1, 2])), draw(1, 3)
    spread, strides = draw(1, 2), draw(1, 2)
    padding = tuple((data.draw(st.integers(-1, 3)), data.draw(st.integers(0, 3))) for _ in range(n))
    weights = np.random.default_rng(0).normal(size=(4, 4 // groups, *kernel)).astype(np.float32)
    space = "HW"[:n]

    def fn(x: Any) -> Any:
        return jax.lax.conv_general_dilated(
            x, weights, strides, padding, lhs_dilation=spread, rhs_dilation=draw_dilation, feature_group_count=groups,
            dimension_numbers=(f"N{space}C", f"OI{space}", f"N{space}C"),
        )  # fmt: skip

    draw_dilation = draw(1, 2)
    subject = subject_of(fn, (1, *draw(6, 8), 4), None, True, None)
    compare(write(subject), subject, 1e-5)


@given(st.data())
@settings(max_examples=15, deadline=None, derandomize=True, database=None)
def test_products_of_any_axes(data: Any):
    letters = "bijk"[: data.draw(st.integers(1, 4))]
    second = data.draw(st.permutations("bijkl"[: data.draw(st.integers(1, 5))]))
    free = [c for c in dict.fromkeys(letters + "".join(second)) if data.draw(st.booleans())]
    size = dict(b=2, i=3, j=2, k=4, l=3)
    other = np.random.default_rng(0).normal(size=[size[c] for c in second]).astype(np.float32)
    equation = f"{letters},{''.join(second)}->{''.join(free)}"
    subject = subject_of(lambda x: jnp.einsum(equation, x, other), tuple(size[c] for c in letters), None, False, None)
    if data.draw(st.booleans()):
        subject = subject_of(lambda x: jnp.einsum(f"z{letters},{''.join(second)}->z{''.join(free)}", x, other),
                             (1, *(size[c] for c in letters)), None, True, None)  # fmt: skip
    compare(write(subject), subject, 1e-5)
