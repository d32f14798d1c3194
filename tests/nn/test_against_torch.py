"""Layers whose formula PyTorch states too give its numbers with its weights."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from axiom_jax import nn

torch = pytest.importorskip("torch", reason="compares with PyTorch, which is not installed")
RANDOM = np.random.default_rng(0)


def numbers(*shape: int) -> Any:
    return RANDOM.standard_normal(shape).astype(np.float32)


def array(tensor: Any) -> np.ndarray:
    return tensor.detach().numpy()


def cell(module: Any, suffix: str, gru: bool) -> dict[str, Any]:
    """The weights of a direction of a torch module in our form."""
    weight = lambda name: array(getattr(module, f"{name}_l0{suffix}"))
    inner, outer = weight("bias_ih"), weight("bias_hh")
    return {
        "input": {"kernel": weight("weight_ih").T, **({"bias": inner} if gru else {})},
        "state": {"kernel": weight("weight_hh").T, "bias": outer if gru else inner + outer},
    }


@pytest.mark.parametrize("kind", ["LSTM", "GRU"])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_recurrent_layers(kind: str, bidirectional: bool) -> None:
    module = getattr(torch.nn, kind)(3, 4, batch_first=True, bidirectional=bidirectional)
    gru, x = kind == "GRU", numbers(2, 5, 3)
    params = cell(module, "", gru)
    if bidirectional:
        params = {"forward": params, "backward": cell(module, "_reverse", gru)}
    outputs, last = module(torch.tensor(x))
    last = last if gru else last[0]
    layer = getattr(nn, kind)(3, 4, bidirectional=bidirectional)
    np.testing.assert_allclose(layer.apply(params, x), array(outputs), rtol=1e-4, atol=1e-5)
    ending = getattr(nn, kind)(3, 4, False, bidirectional)
    np.testing.assert_allclose(ending.apply(params, x), np.concatenate(array(last), -1), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("norm_first", [False, True])
def test_transformer_encoder_layer(norm_first: bool) -> None:
    module = torch.nn.TransformerEncoderLayer(4, 2, 6, batch_first=True, norm_first=norm_first).eval()
    layer, x = nn.TransformerEncoderLayer(2, 4, 6, norm_first=norm_first), numbers(2, 3, 4)
    state = {name: array(value) for name, value in module.state_dict().items()}
    linear = lambda name: {"kernel": state[f"{name}.weight"].T, "bias": state[f"{name}.bias"]}
    norm = lambda name: {"scale": state[f"{name}.weight"], "bias": state[f"{name}.bias"]}
    weights = np.split(state["self_attn.in_proj_weight"], 3)
    biases = np.split(state["self_attn.in_proj_bias"], 3)
    attention = {
        name: {"kernel": w.T.reshape(4, 2, 2), "bias": b.reshape(2, 2)}
        for name, w, b in zip(("query", "key", "value"), weights, biases, strict=True)
    }
    out = linear("self_attn.out_proj")
    params = {
        "attention": {**attention, "out": {"kernel": out["kernel"].reshape(2, 2, 4), "bias": out["bias"]}},
        **{name: linear(name) for name in ("linear1", "linear2")}, **{name: norm(name) for name in ("norm1", "norm2")},
    }  # fmt: skip
    assert jax.tree.structure(params) == jax.tree.structure(jax.eval_shape(layer.init, jax.random.key(0)))
    hidden = np.array([[False, False, True], [False, False, False]])
    expected = array(module(torch.tensor(x), src_key_padding_mask=torch.tensor(hidden)))
    np.testing.assert_allclose(layer.apply(params, (x, ~hidden))[1], expected[1], rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(layer.apply(params, (x, ~hidden))[0, :2], expected[0, :2], rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(layer.apply(params, x), array(module(torch.tensor(x))), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("size", [(2, 3), (1, 1), (5, 4)], ids=str)
def test_adaptive_pooling(size: tuple[int, int]) -> None:
    x = numbers(2, 3, 5, 7)
    for kind in ("AdaptiveAvgPool2d", "AdaptiveMaxPool2d"):
        expected = array(getattr(torch.nn, kind)(size)(torch.tensor(x)))
        got = getattr(nn, kind)(size).apply({}, np.moveaxis(x, 1, -1))
        np.testing.assert_allclose(np.moveaxis(got, -1, 1), expected, rtol=1e-5, atol=1e-6)


def test_formulas() -> None:
    x, y = numbers(5, 3), numbers(5, 2)
    bilinear = torch.nn.Bilinear(3, 2, 4)
    params = {"kernel": np.moveaxis(array(bilinear.weight), 0, -1), "bias": array(bilinear.bias)}
    expected = array(bilinear(torch.tensor(x), torch.tensor(y)))
    np.testing.assert_allclose(nn.Bilinear(3, 2, 4).apply(params, (x, y)), expected, rtol=1e-4, atol=1e-5)
    norm = torch.nn.GroupNorm(2, 4, eps=1e-6)
    images = numbers(2, 4, 3, 3)
    got = nn.GroupNorm(4, 2).apply({"scale": jnp.ones(4), "bias": jnp.zeros(4)}, np.moveaxis(images, 1, -1))
    np.testing.assert_allclose(np.moveaxis(got, -1, 1), array(norm(torch.tensor(images))), rtol=1e-3, atol=1e-4)
    prelu = torch.nn.PReLU(3)
    slope = {"slope": array(prelu.weight)}
    np.testing.assert_allclose(nn.PReLU(3).apply(slope, x), array(prelu(torch.tensor(x))), rtol=1e-5)


def test_transposed_convolution() -> None:
    """PyTorch's padding p of a kernel k is k - 1 - p zeros around the spread input."""
    module = torch.nn.ConvTranspose2d(2, 3, 3, stride=2, padding=1)
    x = numbers(1, 2, 4, 4)
    layer = nn.ConvTranspose2d(2, 3, 3, strides=2, padding=((1, 1), (1, 1)))
    kernel = np.flip(np.transpose(array(module.weight), (2, 3, 0, 1)), (0, 1))
    got = layer.apply({"kernel": kernel.copy(), "bias": array(module.bias)}, np.moveaxis(x, 1, -1))
    np.testing.assert_allclose(np.moveaxis(got, -1, 1), array(module(torch.tensor(x))), rtol=1e-4, atol=1e-5)
