"""Models as PyTorch modules: PyTorch's own layers for Sequentials, every other program run primitive by primitive."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from axiom_jax import nn as ours
from axiom_jax._errors import AxiomError, ModelError, ShapeError, UnsupportedPrimitive
from axiom_jax.interop.torch.reader import from_pytorch
from axiom_jax.interop.torch.writer import to_pytorch
from axiom_jax.model import Model, Sequential

torch = pytest.importorskip("torch", reason="PyTorch is an extra")

QUICK = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
WEIGHTS = {"w": np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)}
IDS = np.array([[0, 2], [1, 1]])


def numbers(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def run(model: Model, x: np.ndarray) -> Any:
    return jax.jit(model.apply, compiler_options=QUICK)(model.params, x)


def equal(model: Model, module: Any, x: np.ndarray, tolerance: float = 1e-5) -> None:
    expected = run(model, x)
    got = jax.tree.map(lambda y: y.detach().numpy(), module(torch.from_numpy(x)))
    assert jax.tree.structure(got) == jax.tree.structure(expected)
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
        assert a.shape == b.shape
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)


def cnn() -> Model:
    return Sequential(
        ours.Conv(3, 4, (3, 3), strides=2), ours.BatchNorm(4), ours.relu, ours.MaxPool((2, 2), padding="SAME"),
        ours.Conv(4, 6, (3, 2), padding=((1, 1), (0, 1)), kernel_dilation=1), ours.softplus, ours.AvgPool(2),
        ours.Flatten(), ours.Dense(6, 4), ours.LayerNorm(4), ours.gelu, ours.Dropout(0.5), ours.Dense(4, 3),
        ours.softmax, input_shape=(7, 8, 3),
    )  # fmt: skip


SEQUENTIALS: dict[str, tuple[Callable[[], Model], tuple[int, ...], bool]] = {  # with whether all layers are PyTorch's
    "mlp": (lambda: Sequential(ours.Dense(4, 5), ours.BatchNorm(5), ours.swish, ours.Dense(5, 2)), (4,), True),
    "cnn": (cnn, (7, 8, 3), True),
    "images": (
        lambda: Sequential(ours.Conv(3, 4, (3, 3)), ours.softmax, ours.AdaptiveAvgPool(2), input_shape=(6, 6, 3)),
        (6, 6, 3),
        True,
    ),
    "global": (lambda: Sequential(ours.Conv(3, 4, (3, 3)), ours.GlobalAvgPool(), ours.Dense(4, 2)), (6, 5, 3), True),
    "attention": (lambda: Sequential(ours.MultiHeadAttention(2, 4), ours.LayerNorm(4)), (3, 4), False),
    "transposed": (lambda: Sequential(ours.ConvTranspose(2, 3, (3, 3), strides=2), ours.relu), (4, 5, 2), False),
    "group norm": (lambda: Sequential(ours.GroupNorm(4, 2), input_shape=(3, 3, 4)), (3, 3, 4), False),
    "residual": (lambda: Sequential(ours.Residual(ours.Dense(4, 4)), ours.relu), (4,), False),
}


def leaves_of(module: Any) -> set[str]:
    return {type(part).__module__.partition(".")[0] for part in module.children()}


@pytest.mark.parametrize("name", SEQUENTIALS)
def test_sequentials_equal_their_module(name: str):
    make, shape, own = SEQUENTIALS[name]
    model = make()
    params = jax.tree.map(lambda x: np.abs(numbers(*x.shape)) + 0.1 * np.asarray(x), model.params)
    model = Model(model.apply, params, model.signature, model.name)
    module = to_pytorch(model)
    assert isinstance(module, torch.nn.Sequential)
    assert ("Interpreted" not in str(module)) == own
    for batch in (1, 5):
        equal(model, module, numbers(batch, *shape))


@pytest.mark.parametrize("name", ["cnn", "images"])
def test_channels_first_modules(name: str):
    make, shape, _ = SEQUENTIALS[name]
    model = make()
    module = to_pytorch(model, layout="NCHW")
    x = numbers(2, *shape)
    y = module(torch.from_numpy(np.ascontiguousarray(x.transpose(0, 3, 1, 2)))).detach().numpy()
    np.testing.assert_allclose(y.transpose(0, 2, 3, 1) if y.ndim == 4 else y, run(model, x), atol=1e-5)
    back = from_pytorch(module, input_shape=shape, layout="NHWC")
    np.testing.assert_allclose(run(back, x), run(model, x), atol=1e-5)


def test_a_descriptor_goes_back_without_moving_axes():
    weight = numbers(3, 2, 3, 3).astype(float).tolist()
    layers = [
        {"type": "Conv2d", "weight": weight, "padding": 1},
        {"type": "ReLU"},
        {"type": "AvgPool2d", "kernel_size": 2},
    ]
    model = from_pytorch({"format": "axiom.pytorch.sequential.v1", "layers": layers}, input_shape=(2, 4, 4))
    module = to_pytorch(model)
    assert [type(part).__name__ for part in module] == ["Conv2d", "ReLU", "AvgPool2d"]
    assert module.state_dict()["0.weight"].tolist() == weight
    equal(model, module, numbers(2, 2, 4, 4))


def test_gradients_flow_to_parameters_and_inputs():
    model = SEQUENTIALS["attention"][0]()
    module, x = to_pytorch(model), torch.from_numpy(numbers(2, 3, 4)).requires_grad_()
    torch.sum(module(x) ** 2).backward()
    gradient = jax.jit(jax.grad(lambda m, x: jnp.sum(m(x) ** 2), (0, 1)), compiler_options=QUICK)
    by_params, by_x = gradient(model, jnp.asarray(x.detach().numpy()))
    np.testing.assert_allclose(x.grad, by_x, atol=1e-4)
    found = dict(module.named_parameters())
    assert set(found) >= {"0.query.kernel", "0.out.bias", "1.weight"}
    for path, own in jax.tree.leaves_with_path(by_params.params["0_MultiHeadAttention"]):
        name = "0." + jax.tree_util.keystr(path, simple=True, separator=".")
        np.testing.assert_allclose(found[name].grad, own, atol=1e-4, err_msg=name)


def test_names_of_a_module_that_was_read_come_back():
    source = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.BatchNorm1d(3)).eval()
    module = to_pytorch(from_pytorch(source, input_shape=(4,)))
    assert set(module.state_dict()) == {name for name in source.state_dict() if "num_batches" not in name}
    assert {name for name, _ in module.named_buffers()} == {"1.running_mean", "1.running_var"}
    x = torch.from_numpy(numbers(5, 4))
    np.testing.assert_allclose(module(x).detach(), source(x).detach(), atol=1e-6)


def test_recurrent_models_with_several_outputs():
    source = torch.nn.LSTM(4, 3, batch_first=True).eval()
    model = from_pytorch(source, input_shape=(3, 4))
    equal(model, to_pytorch(model), numbers(2, 3, 4))


def scan(p: Any, x: Any) -> Any:
    return lax.scan(lambda c, row: (c * 0.5 + row @ p["w"], c), jnp.zeros((x.shape[0], 3)), jnp.swapaxes(x, 0, 1))


FUNCTIONS: dict[str, tuple[Callable[[Any, Any], Any], tuple[int, ...]]] = {
    "elementwise": (lambda p, x: [f(x) for f in (jnp.exp, jnp.sin, jnp.tanh, lax.erf, jnp.square, lax.logistic,
                                                jnp.cbrt, jnp.sign, jnp.floor, jnp.round, jnp.arctan, jnp.expm1,
                                                jnp.exp2, jnp.isfinite)], (2, 4)),
    "positive": (lambda p, x: [f(jnp.abs(x) + 0.1) for f in (jnp.log, jnp.sqrt, lax.rsqrt, jnp.log1p)], (2, 4)),
    "two operands": (lambda p, x: (x / (x + 9), x**3, jnp.maximum(x, 0.1), jnp.clip(x, -0.5, 0.5), jnp.fmod(x, 0.3),
                                   jnp.arctan2(x, 2.0), jnp.abs(x) ** 1.5), (2, 4)),
    "comparisons": (lambda p, x: jnp.where((x > 0) & ~(x < 0.5) | (x == 1), x, -x), (2, 4)),
    "integers": (lambda p, x: (jnp.int32(x * 9) // 2, jnp.int32(x * 9) % 3, jnp.argmax(x, 1)), (2, 4)),
    "reductions": (lambda p, x: (x.sum(1), x.max(0), x.min(), x.prod(1), jnp.any(x > 1, 1), jnp.all(x > -9)), (2, 4)),
    "cumulative": (lambda p, x: (jnp.cumsum(x, 1), jnp.cumprod(x, 0), lax.cummax(x, reverse=True)), (3, 4)),
    "shapes": (lambda p, x: jnp.concatenate([x[:, ::-1], x.T.reshape(2, 4), jnp.tile(x, (1, 2))[:, 1:3]], 1), (2, 4)),
    "padding": (lambda p, x: lax.pad(x, 0.5, ((1, 2, 1), (-1, 0, 0))), (2, 4)),
    "stacks": (lambda p, x: jnp.stack(jnp.split(x, 2, 1)), (2, 4)),
    "slices": (lambda p, x: (lax.dynamic_slice(x, (1, 0), (1, 2)), lax.dynamic_update_slice(x, x[:1], (1, 0))), (2, 4)),
    "rows": (lambda p, x: x[IDS], (3, 4)),
    "points": (lambda p, x: x[IDS, IDS.T], (3, 4)),
    "along": (lambda p, x: jnp.take_along_axis(x, jnp.argsort(x, 1), 1), (3, 4)),
    "out of bounds": (lambda p, x: jnp.take(x, jnp.array([0, 7]), axis=0, fill_value=2.0), (3, 4)),
    "sorted": (lambda p, x: (jnp.sort(x, 0), *lax.top_k(x, 2)), (3, 4)),
    "products": (lambda p, x: (x @ p["w"], jnp.einsum("bi,bj->bij", x, x), jnp.einsum("bi,bi->b", x, x)), (2, 4)),
    "windows": (lambda p, x: (lax.reduce_window(x, -jnp.inf, lax.max, (1, 3), (1, 2), "SAME"),
                              lax.reduce_window(x, 0.0, lax.add, (2, 2), (1, 1), "VALID", None, (1, 2))), (3, 5)),
    "convolutions": (lambda p, x: (
        lax.conv_general_dilated(x, jnp.ones((3, 2, 2, 4)), (1, 1), ((1, 0), (0, 2)), (2, 1), (1, 2),
                                 ("NHWC", "HWIO", "NHWC"), 2),
        lax.conv_general_dilated(x, jnp.arange(12.0).reshape(3, 4, 1, 1), (2, 1), "VALID",
                                 dimension_numbers=("NHWC", "OIHW", "NCHW"))), (2, 4, 5, 4)),
    "normalized": (lambda p, x: (jax.nn.softmax(x), jax.nn.logsumexp(x, 0), jax.nn.standardize(x)), (3, 4)),
    "scan": (scan, (2, 3, 4)),
    "captured": (lambda p, x: x * jnp.arange(4.0) + WEIGHTS["w"].T[0], (2, 4)),
    "structure": (lambda p, x: {"a": x, "b": [x + 1, (x,)]}, (2, 4)),
}  # fmt: skip


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_equal_their_module(name: str):
    function, shape = FUNCTIONS[name]
    model = Model(function, WEIGHTS)
    equal(model, to_pytorch(model), numbers(*shape))


def test_one_module_takes_every_batch():
    module = to_pytorch(Model(lambda p, x: x.reshape(x.shape[0], -1) @ jnp.ones((12, 2)), {}))
    assert [tuple(module(torch.ones(n, 3, 4)).shape) for n in (1, 5)] == [(1, 2), (5, 2)]


def test_unsupported_primitives_are_listed():
    module = to_pytorch(Model(lambda p, x: jnp.linalg.eigvalsh(jnp.fft.fft(x).real @ x.T), {}))
    with pytest.raises(UnsupportedPrimitive, match="domain torch has no rule for eigh, fft"):
        module(torch.ones(3, 3))


def test_bad_models_are_refused():
    with pytest.raises(AxiomError, match="takes a model"):
        to_pytorch(jnp.ones(3))  # pyright: ignore[reportArgumentType]
    with pytest.raises(ModelError, match="layout is unknown"):
        to_pytorch(cnn(), layout="CHW")
    with pytest.raises(ModelError, match="shapes are known"):
        to_pytorch(Model(lambda p, x: x, {}), layout="NCHW")
    module = to_pytorch(Sequential(ours.BatchNorm(3)))
    with pytest.raises(ShapeError, match="inputs of two axes"):
        module(torch.ones(2, 3, 3))
