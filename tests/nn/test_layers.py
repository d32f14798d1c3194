"""Every layer computes what its formula says, and stacks of layers have the shapes that were proved."""

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from axiom_jax import nn
from axiom_jax._errors import AxiomError, ShapeError
from axiom_jax._model_chain import Chain, check
from axiom_jax._model_layers import adopt
from axiom_jax._program import build
from axiom_jax.model import Sequential

KEY = jax.random.key(0)
RANDOM = np.random.default_rng(0)


def numbers(*shape: int) -> np.ndarray:
    return RANDOM.standard_normal(shape).astype(np.float32)


def filled(layer: Any) -> Any:
    """Parameters of a layer with random values, positive variances."""
    shapes = jax.eval_shape(layer.init, KEY)
    values = jax.tree.map(lambda leaf: numbers(*leaf.shape), shapes)
    return {**values, "var": np.abs(values["var"]) + 0.1} if "var" in values else values


def test_dense() -> None:
    layer, x = nn.Dense(4, 3), numbers(2, 5, 4)
    params = filled(layer)
    np.testing.assert_allclose(layer.apply(params, x), x @ params["kernel"] + params["bias"], rtol=1e-5)
    assert nn.Linear is nn.Dense
    bare = nn.Dense(4, 3, use_bias=False)
    assert len(jax.tree.leaves(filled(bare))) == 1


@pytest.mark.parametrize("padding", ["SAME", "VALID"])
def test_conv(padding: str) -> None:
    layer, x = nn.Conv(2, 3, kernel_size=(3, 3), strides=2, padding=padding), numbers(1, 5, 6, 2)
    params = filled(layer)
    expected = jax.lax.conv_general_dilated(
        x, params["kernel"], (2, 2), padding, dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    np.testing.assert_allclose(layer.apply(params, x), expected + params["bias"], rtol=1e-4, atol=1e-5)


def test_conv_takes_a_number_for_a_square_and_other_ranks() -> None:
    assert nn.Conv(1, 2, kernel_size=5) == nn.Conv(1, 2, kernel_size=[5, 5])
    model = Sequential(nn.Conv(2, 3, kernel_size=(3,)), input_shape=(7, 2))
    assert str(model.signature.outputs[0][1]) == "('batch', 7, 3)"


def test_batch_norm_in_inference_form() -> None:
    layer, x = nn.BatchNorm(3), numbers(4, 3)
    params = filled(layer)
    expected = (x - params["mean"]) / np.sqrt(params["var"] + 1e-5) * params["scale"] + params["bias"]
    np.testing.assert_allclose(layer.apply(params, x), expected, rtol=1e-4, atol=1e-5)
    program, _ = build(layer.apply, params, jax.ShapeDtypeStruct((4, 3), "float32"))
    used = {eqn.primitive.name for eqn in program.equations}
    assert used <= {"sub", "mul", "add", "rsqrt", "reshape", "broadcast_in_dim"}, used


def test_layer_norm() -> None:
    layer, x = nn.LayerNorm(6), numbers(4, 6)
    params = filled(layer)
    normal = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-6)
    np.testing.assert_allclose(layer.apply(params, x), normal * params["scale"] + params["bias"], rtol=1e-3, atol=1e-4)


def test_embedding() -> None:
    layer, ids = nn.Embedding(10, 3), np.array([[1, 9], [0, 3]])
    params = filled(layer)
    np.testing.assert_array_equal(layer.apply(params, ids), params["embedding"][ids])


def test_attention() -> None:
    layer, x = nn.MultiHeadAttention(2, 4), numbers(1, 3, 4)
    p = filled(layer)
    query, key, value = (
        np.einsum("btf,fhd->bthd", x, p[n]["kernel"]) + p[n]["bias"] for n in ("query", "key", "value")
    )
    weights = jax.nn.softmax(np.einsum("bthd,bshd->bhts", query, key) / np.sqrt(2), axis=-1)
    mixed = np.einsum("bhts,bshd->bthd", weights, value)
    expected = np.einsum("bthd,hdf->btf", mixed, p["out"]["kernel"]) + p["out"]["bias"]
    np.testing.assert_allclose(layer.apply(p, x), expected, rtol=1e-3, atol=1e-4)


def test_pooling() -> None:
    x = numbers(1, 4, 6, 2)
    blocks = x.reshape(1, 2, 2, 3, 2, 2)
    np.testing.assert_array_equal(nn.MaxPool().apply({}, x), blocks.max((2, 4)))
    np.testing.assert_allclose(nn.AvgPool().apply({}, x), blocks.mean((2, 4)), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(nn.GlobalAvgPool().apply({}, x), x.mean((1, 2)), rtol=1e-5, atol=1e-6)
    assert nn.MaxPool((3, 3), strides=(1, 1)).apply({}, x).shape == (1, 2, 4, 2)


def test_arranging() -> None:
    x = numbers(2, 3, 4)
    np.testing.assert_array_equal(nn.Flatten().apply({}, x), x.reshape(2, 12))
    np.testing.assert_array_equal(nn.Reshape(-1, 2).apply({}, x), x.reshape(2, 6, 2))
    assert nn.Dropout(0.5).apply({}, x) is x
    with pytest.raises(AxiomError, match="drops no share"):
        nn.Dropout(50)


def test_residual() -> None:
    layer, x = nn.Residual(nn.Dense(4, 4), nn.relu), numbers(2, 4)
    params = jax.tree.map(lambda leaf: numbers(*leaf.shape), jax.eval_shape(layer.init, KEY))
    dense = params["layers"]["0_Dense"]
    np.testing.assert_allclose(
        layer.apply(params, x), x + np.maximum(x @ dense["kernel"] + dense["bias"], 0), rtol=1e-5
    )
    with pytest.raises(ShapeError, match="cannot add its two sides"):  # and never broadcasts silently
        Sequential(nn.Residual(nn.Dense(8, 1)))
    drawn = layer.init(KEY)
    assert drawn["layers"]["0_Dense"]["kernel"].shape == (4, 4)


def test_activations_are_those_of_jax() -> None:
    assert nn.relu is jax.nn.relu and nn.tanh is jnp.tanh and nn.hardswish is jax.nn.hard_swish
    with pytest.raises(AttributeError):
        nn.nothing  # noqa: B018
    with pytest.raises(AttributeError, match=r"nn.relu is meant \(a function"):
        nn.ReLU  # noqa: B018
    assert {"Dense", "relu"} <= set(dir(nn)) and set(nn.__all__) <= set(dir(nn))
    assert all(getattr(nn, name) is not None for name in nn.__all__)


def test_layers_are_values() -> None:
    first, second = nn.Conv(1, 2, padding="VALID"), nn.Conv(1, 2, padding="VALID")
    assert first == second and hash(first) == hash(second) and first.at != second.at[:-1]
    assert "test_layers.py:" in first.at and "(test_layers_are_values)" in first.at
    assert repr(first) == "Conv(1, 2, padding='VALID')" and eval(repr(first), vars(nn) | {"Conv": nn.Conv}) == first
    assert repr(nn.Residual(nn.Dense(2, 3), nn.relu, shortcut=nn.Dense(2, 3))) == (
        "Residual(Dense(2, 3), relu, shortcut=Dense(2, 3))"
    )
    assert replace(nn.Dense(3, 4), out_features=5) == nn.Dense(3, 5)


@pytest.mark.parametrize(
    "layer",
    [nn.Dense(3, 2), nn.Conv(1, 2), nn.BatchNorm(3), nn.Embedding(4, 2), nn.Flatten(), nn.Residual(nn.Dense(3, 3))],
    ids=repr,
)
def test_layers_draw_the_same_parameters_for_a_key(layer: Any) -> None:
    first, second, other = layer.init(KEY), layer.init(KEY), layer.init(jax.random.key(1))
    assert all(map(np.array_equal, jax.tree.leaves(first), jax.tree.leaves(second)))
    spread = [leaf for leaf in jax.tree.leaves(first) if np.std(leaf) > 0]
    assert all(not np.array_equal(a, b) for a, b in zip(spread, (x for x in jax.tree.leaves(other) if np.std(x) > 0)))  # noqa: B905


# random stacks; their shapes are computed here by other formulas


def grow(data: st.DataObject) -> tuple[list[Any], tuple[int, ...], tuple[int, ...]]:
    """Layers that fit one another, the size of an example, and the size of what comes out."""
    size = data.draw(st.integers(1, 4))
    shape = start = data.draw(st.sampled_from([(3,), (2, 3), (size + 2, 4, 2)]))
    layers: list[Any] = []
    for _ in range(data.draw(st.integers(1, 5))):
        kinds = ["dense", "relu", "norm", "flatten", "residual"] + ["conv", "pool", "mean"] * (len(shape) == 3)
        match data.draw(st.sampled_from(kinds)):
            case "dense":
                layers.append(nn.Dense(shape[-1], size))
                shape = (*shape[:-1], size)
            case "relu":
                layers.append(nn.relu)
            case "norm":
                layers.append(data.draw(st.sampled_from([nn.BatchNorm, nn.LayerNorm]))(shape[-1]))
            case "flatten":
                layers.append(nn.Flatten())
                shape = (int(np.prod(shape)),)
            case "residual":
                layers.append(nn.Residual(nn.Dense(shape[-1], size), nn.Dense(size, shape[-1])))
            case "conv":
                stride, padding = data.draw(st.integers(1, 2)), data.draw(st.sampled_from(["SAME", "VALID"]))
                layers.append(nn.Conv(shape[-1], size, kernel_size=(2, 2), strides=stride, padding=padding))
                lost = 1 if padding == "VALID" else 0
                if min(shape[:2]) <= lost:
                    layers.pop()
                    continue
                shape = (*(-(-(side - lost) // stride) for side in shape[:2]), size)
            case "pool" if min(shape[:2]) >= 2:
                layers.append(data.draw(st.sampled_from([nn.MaxPool, nn.AvgPool]))())
                shape = (shape[0] // 2, shape[1] // 2, shape[2])
            case "mean":
                layers.append(nn.GlobalAvgPool())
                shape = shape[-1:]
    return layers or [nn.relu], start, shape


def abstract(layers: list[Any]) -> tuple[Chain, dict[str, Any]]:
    chain = Chain(tuple(adopt(layer)[0] for layer in layers))
    return chain, {name: jax.eval_shape(layer.init, KEY) for name, layer in zip(chain.names, chain.layers, strict=True)}


@given(st.data())
def test_stacks_that_fit_have_the_proved_shapes(data: st.DataObject) -> None:
    layers, start, end = grow(data)
    chain, params = abstract(layers)
    checked = check(chain, params, start, None)
    assert checked.whole and checked.rows[-1].output.shape[1:] == end
    for batch in data.draw(st.sets(st.integers(1, 1000), min_size=2, max_size=2)):
        assert jax.eval_shape(chain, params, jax.ShapeDtypeStruct((batch, *start), "float32")).shape == (batch, *end)


@pytest.mark.slow
@settings(max_examples=5)
@given(st.data())
def test_stacks_that_fit_run(data: st.DataObject) -> None:
    layers, start, end = grow(data)
    chain, params = abstract(layers)
    check(chain, params, start, None)
    zeros = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), params)
    for batch in (1, 3):
        assert chain(zeros, np.zeros((batch, *start), np.float32)).shape == (batch, *end)


@given(st.data())
def test_stacks_with_one_wrong_size_are_refused(data: st.DataObject) -> None:
    layers, start, _ = grow(data)
    sized = [i for i, layer in enumerate(layers) if isinstance(layer, (nn.Dense, nn.Conv, nn.BatchNorm, nn.LayerNorm))]
    wrong = data.draw(st.sampled_from(sized)) if sized else len(layers)
    if not sized:
        layers.append(nn.Dense(10_000, 1))
    else:
        field = "in_features" if hasattr(layers[wrong], "in_features") else "num_features"
        layers[wrong] = replace(layers[wrong], **{field: getattr(layers[wrong], field) + 1})
    with pytest.raises(ShapeError) as caught:
        check(*abstract(layers), start, "here")
    assert repr(layers[wrong]) in caught.value.what
