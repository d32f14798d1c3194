"""PyTorch modules and exported programs: equal numbers, free batch, gradients, shared architectures, clear refusals."""

import warnings
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from axiom_jax._errors import AxiomError, ModelError, ShapeError, UnsupportedPrimitive
from axiom_jax.interop.torch.reader import from_pytorch

torch = pytest.importorskip("torch", reason="PyTorch is an extra")
from torch import nn  # noqa: E402
from torch.nn import functional as F  # noqa: E402

TOLERANCE = 1e-5
QUICK = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}  # each runs once


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(inplace=True))
        self.last = nn.Conv2d(4, 4, 3, padding=1)

    def forward(self, x: Any) -> Any:
        return torch.relu(x + self.last(self.body(x)))


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)

    def forward(self, x: Any) -> Any:
        return self.attention(x, x, x)[0]


class Causal(nn.Module):
    def forward(self, x: Any) -> Any:
        mask = torch.ones(3, 3, dtype=torch.bool)
        q = x.unflatten(2, (2, 4)).transpose(1, 2)
        return F.scaled_dot_product_attention(q, q, q, is_causal=True) + F.scaled_dot_product_attention(q, q, q, mask)


class Einsum(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(4, 5))
        self.register_buffer("scale", torch.tensor([0.5, 2.0, 1.5]))

    def forward(self, x: Any) -> dict[str, Any]:
        y = torch.einsum("bij,jk->bik", x, self.weight)
        return {"product": y, "scaled": (y * self.scale[:, None], y.flatten(1).sum(1))}


class Arrays(nn.Module):
    """Operators on shapes and indices."""

    def forward(self, x: Any) -> Any:
        a, b, c = x.chunk(3, dim=1)
        y = torch.cat([a.flip(-1), b.roll(1, 2), c[:, :, [2, 0, 1, 3]]], 1)
        y = F.pad(y, (1, 2, 0, 1), value=0.5)[:, 1:, ::2]
        z = F.pad(x, (1, 1), mode="reflect").unfold(2, 3, 1).mean(-1)
        place = x.argmax(-1, keepdim=True)
        return y, z, torch.gather(x, 2, place), x.topk(2, -1).values, x.var(1), x.masked_fill(x > 0, -1.0).cumsum(1)


MODULES: dict[str, tuple[Any, tuple[int, ...]]] = {
    "mlp": (lambda: nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3), nn.Softmax(-1)), (4,)),
    "cnn": (
        lambda: nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(inplace=True), nn.MaxPool2d(2, ceil_mode=True),
            nn.Flatten(), nn.Linear(128, 10),
        ),
        (3, 8, 7),
    ),
    "residual": (Residual, (4, 5, 5)),
    "grouped": (lambda: nn.Conv2d(4, 8, 3, groups=2, stride=2, bias=False), (4, 7, 7)),
    "depthwise": (lambda: nn.Conv2d(4, 8, (3, 2), groups=4, padding="same"), (4, 7, 6)),
    "transposed": (lambda: nn.ConvTranspose2d(4, 6, 3, 2, 1, 1, groups=2, dilation=2), (4, 5, 6)),
    "dilated": (lambda: nn.Conv2d(2, 3, 3, dilation=2, padding=(1, 2)), (2, 9, 9)),
    "conv1d": (lambda: nn.Sequential(nn.Conv1d(2, 3, 3), nn.BatchNorm1d(3), nn.MaxPool1d(2)), (2, 9)),
    "conv3d": (lambda: nn.Sequential(nn.Conv3d(2, 3, 2), nn.AvgPool3d(2)), (2, 4, 4, 5)),
    "group norm": (lambda: nn.GroupNorm(2, 4), (4, 3, 3)),
    "instance norm": (lambda: nn.InstanceNorm2d(3, affine=True), (3, 4, 5)),
    "layer norm": (lambda: nn.LayerNorm([4, 5]), (3, 4, 5)),
    "rms norm": (lambda: nn.RMSNorm(5), (3, 5)),
    "lstm": (lambda: nn.LSTM(4, 5, 2, batch_first=True, bidirectional=True), (3, 4)),
    "lstm with projection": (lambda: nn.LSTM(4, 5, batch_first=True, proj_size=2, bias=False), (3, 4)),
    "gru": (lambda: nn.GRU(4, 5, batch_first=True), (3, 4)),
    "rnn": (lambda: nn.RNN(4, 5, nonlinearity="relu", batch_first=True), (3, 4)),
    "transformer": (lambda: nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, activation="gelu"), (3, 8)),
    "attention": (Attention, (3, 8)),
    "causal attention": (Causal, (3, 8)),
    "adaptive pooling": (lambda: nn.Sequential(nn.AdaptiveAvgPool2d((3, 2)), nn.AdaptiveMaxPool2d(2)), (2, 7, 5)),
    "average pooling": (lambda: nn.AvgPool2d(3, stride=2, padding=1, ceil_mode=True), (2, 8, 7)),
    "pooling without padding": (lambda: nn.AvgPool2d(3, 2, 1, ceil_mode=True, count_include_pad=False), (2, 8, 7)),
    "max pooling": (lambda: nn.MaxPool2d(3, stride=2, padding=1, dilation=2, ceil_mode=True), (2, 8, 9)),
    "activations": (
        lambda: nn.Sequential(nn.GELU(), nn.SiLU(), nn.Hardswish(), nn.Mish(), nn.PReLU(6), nn.ELU(), nn.Softplus(2.0)),
        (6,),
    ),
    "more activations": (
        lambda: nn.Sequential(
            nn.SELU(), nn.CELU(0.7), nn.Hardsigmoid(), nn.LogSigmoid(), nn.GELU("tanh"), nn.Softsign(), nn.Softshrink(),
            nn.LeakyReLU(0.2), nn.Hardtanh(-0.4, 0.3), nn.ReLU6(), nn.Tanhshrink(), nn.Threshold(0.1, 0.2),
            nn.LogSoftmax(1), nn.GLU(),
        ),
        (6,),
    ),
    "bilinear upsampling": (lambda: nn.Upsample(scale_factor=2, mode="bilinear"), (2, 3, 4)),
    "aligned upsampling": (lambda: nn.Upsample(size=(5, 7), mode="bilinear", align_corners=True), (2, 3, 4)),
    "nearest upsampling": (lambda: nn.Upsample(size=(5, 7), mode="nearest"), (2, 3, 4)),
    "pixel shuffle": (lambda: nn.Sequential(nn.PixelShuffle(2), nn.ChannelShuffle(2), nn.PixelUnshuffle(2)), (8, 3, 4)),
    "einsum": (Einsum, (3, 4)),
    "arrays": (Arrays, (3, 4)),
}  # fmt: skip


def prepared(make: Any) -> Any:
    """A module with its own numbers everywhere, also in running statistics."""
    torch.manual_seed(0)
    module = make().eval()
    for part in module.modules():
        if isinstance(part, nn.modules.batchnorm._BatchNorm) and part.running_mean is not None:
            part.running_mean.normal_()
            part.running_var.uniform_(0.5, 2)
        if isinstance(part, (nn.modules.batchnorm._NormBase, nn.GroupNorm, nn.LayerNorm)) and part.weight is not None:
            nn.init.normal_(part.weight)
            nn.init.normal_(part.bias)
    return module


def run(model: Any, *inputs: Any) -> Any:
    return jax.jit(model.apply, compiler_options=QUICK)(model.params, *inputs)


def leaves(value: Any) -> list[np.ndarray]:
    return [np.asarray(x.detach() if torch.is_tensor(x) else x) for x in jax.tree.leaves(value)]


def largest_difference(ours: Any, theirs: Any) -> float:
    pairs = list(zip(leaves(ours), leaves(theirs), strict=True))
    assert [a.shape for a, _ in pairs] == [b.shape for _, b in pairs]
    return max(float(np.abs(a - b).max()) for a, b in pairs)


@pytest.mark.sweep(3)
@pytest.mark.parametrize("name", MODULES)
def test_modules_equal_pytorch(name: str):
    make, shape = MODULES[name]
    module = prepared(make)
    model = from_pytorch(module, input_shape=shape)
    assert model.signature.inputs[0][1] == ("batch", *shape)
    for batch in (1, 5):
        x = torch.randn(batch, *shape)
        with torch.no_grad(), warnings.catch_warnings():
            warnings.filterwarnings("ignore", "LSTM with projections")  # torch says how it computes them
            assert largest_difference(run(model, x.numpy()), module(x)) <= TOLERANCE


def test_parameters_are_named_as_in_the_state_dict():
    module = prepared(MODULES["cnn"][0])
    model = from_pytorch(module, input_shape=(3, 8, 7))
    expected = {name for name in module.state_dict() if "num_batches" not in name}
    assert set(model.params) == expected
    assert all(np.array_equal(model.params[name], module.state_dict()[name]) for name in expected)
    assert model.apply.trainable(model.params)["1.running_mean"] is False
    assert model.apply.trainable(model.params)["1.weight"] is True


def test_outputs_keep_their_structure():
    model = from_pytorch(prepared(Einsum), input_shape=(3, 4))
    result = model(np.ones((2, 3, 4), np.float32))
    assert set(result) == {"product", "scaled"}
    assert isinstance(result["scaled"], tuple)
    assert [shape for _, shape, _ in model.signature.outputs] == [("batch", 3, 5), ("batch", 3, 5), ("batch",)]


def test_embedding_with_several_inputs():
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = nn.Embedding(7, 4, padding_idx=0)

        def forward(self, ids: Any, mask: Any) -> Any:
            return (self.table(ids) * mask[..., None]).sum(1)

    module = prepared(Net)
    model = from_pytorch(module, example=(torch.zeros(1, 5, dtype=torch.long), torch.ones(1, 5)))
    assert model.signature.inputs == (("ids", ("batch", 5), "int32"), ("mask", ("batch", 5), "float32"))
    for batch in (1, 5):
        ids, mask = torch.randint(0, 7, (batch, 5)), torch.rand(batch, 5)
        assert largest_difference(model(ids.numpy(), mask.numpy()), module(ids, mask)) <= TOLERANCE


@pytest.mark.sweep(3)
@pytest.mark.parametrize("name", ["cnn", "lstm", "transformer"])
def test_gradients_equal_pytorch(name: str):
    make, shape = MODULES[name]
    module, x = prepared(make), torch.randn(3, *shape, requires_grad=True)
    model = from_pytorch(module, input_shape=shape)
    first = lambda y: y[0] if isinstance(y, tuple) else y
    torch.sum(first(module(x)) ** 2).backward()
    loss = lambda params, x: jnp.sum(first(model.apply(params, x)) ** 2)
    by_params, by_x = jax.jit(jax.grad(loss, (0, 1)), compiler_options=QUICK)(
        model.params, jnp.asarray(x.detach().numpy())
    )
    assert x.grad is not None
    np.testing.assert_allclose(by_x, x.grad, rtol=1e-4, atol=1e-4)
    for key, weight in module.named_parameters():
        np.testing.assert_allclose(by_params[key], weight.grad, rtol=1e-4, atol=1e-4, err_msg=key)


def test_channels_last_layout():
    make, shape = MODULES["cnn"]
    module, images = (
        prepared(make),
        from_pytorch(prepared(MODULES["residual"][0]), input_shape=(5, 5, 4), layout="NHWC"),
    )
    model = from_pytorch(module, input_shape=(8, 7, 3), layout="NHWC")
    assert model.signature.inputs[0][1] == ("batch", 8, 7, 3)
    x = torch.randn(2, *shape)
    assert (
        largest_difference(run(model, x.numpy().transpose(0, 2, 3, 1)), module(x)) <= TOLERANCE
    )  # flattened as in PyTorch
    x = torch.randn(2, 4, 5, 5)
    ours = np.moveaxis(np.asarray(run(images, x.numpy().transpose(0, 2, 3, 1))), -1, 1)
    assert largest_difference(ours, prepared(MODULES["residual"][0])(x)) <= TOLERANCE


def test_models_are_pure_jax_functions():
    model = from_pytorch(prepared(MODULES["lstm"][0]), input_shape=(3, 4))
    x = np.ones((2, 3, 4), np.float32)
    jitted, mapped = run(model, x), jax.jit(jax.vmap(model), compiler_options=QUICK)(x[:, None])
    np.testing.assert_allclose(np.asarray(mapped[0])[:, 0], jitted[0], atol=1e-6)
    assert not any(torch.is_tensor(leaf) for leaf in jax.tree.leaves(model))


def test_one_architecture_is_one_compilation():
    traced = []

    def run(graph: Any, params: Any, x: Any) -> Any:
        traced.append(graph)
        return graph(params, x)

    compiled = jax.jit(run, static_argnums=0)
    graphs = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        model = from_pytorch(nn.Sequential(nn.Linear(4, 3), nn.LeakyReLU(0.1)), input_shape=(4,))
        compiled(model.apply, model.params, np.ones((1, 4), np.float32))
        graphs.append(model.apply)
    assert len(traced) == 1
    assert graphs[0] == graphs[1]
    assert hash(graphs[0]) == hash(graphs[1])
    other = from_pytorch(nn.Sequential(nn.Linear(4, 3), nn.LeakyReLU(0.2)), input_shape=(4,))
    assert other.apply != graphs[0]


def test_the_verifier_bounds_an_imported_net():
    from axiom_jax._program import build
    from axiom_jax.verification.domains.interval import Interval
    from axiom_jax.verification.domains.linear import crown, plan

    net = nn.Sequential(
        nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(8, 2)
    )
    model = from_pytorch(prepared(lambda: net), input_shape=(1, 6, 6))
    program, values = build(model.apply, model.params, jax.ShapeDtypeStruct((1, 1, 6, 6), "float32"))
    x = np.random.default_rng(0).uniform(0, 1, (40, 1, 6, 6)).astype(np.float32)
    bound = jax.jit(lambda values, box: crown(plan(program), values, box), compiler_options=QUICK)
    (box,) = bound(values, Interval(jnp.zeros((1, 1, 6, 6)), jnp.ones((1, 1, 6, 6))))
    y = np.asarray(run(model, x))
    assert np.all(y >= np.asarray(box.lo) - 1e-4)
    assert np.all(y <= np.asarray(box.hi) + 1e-4)
    assert np.all(np.isfinite(box.lo))


def test_training_mode_of_the_module_is_restored():
    module = nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.5), nn.BatchNorm1d(2))
    module[2].eval()
    model = from_pytorch(module, input_shape=(2,))
    assert [part.training for part in module] == [True, True, False]
    x = np.ones((3, 2), np.float32)
    assert largest_difference(model(x), module.eval()(torch.from_numpy(x))) <= TOLERANCE


def test_bounds_of_the_batch_are_kept():
    class Branches(nn.Module):
        def forward(self, x: Any) -> Any:
            return x + 1 if x.shape[0] > 4 else x * 2

    model = from_pytorch(Branches(), example=torch.ones(6, 3))
    assert np.all(model(np.ones((5, 3), np.float32)) == 2)
    with pytest.raises(ShapeError, match="was exported for"):
        model(np.ones((4, 3), np.float32))
    with pytest.raises(ShapeError, match="was exported for"):
        model(np.ones((6, 4), np.float32))


def test_unsupported_operators_are_listed_with_their_modules():
    class Spectrum(nn.Module):
        def forward(self, x: Any) -> Any:
            return torch.fft.fft(x).abs()

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = Spectrum(), nn.Sequential(nn.Linear(4, 4), Spectrum())

        def forward(self, x: Any) -> Any:
            return torch.linalg.inv(self.second(self.first(x)))

    with pytest.raises(UnsupportedPrimitive) as caught:
        from_pytorch(Net(), example=torch.ones(4, 4))
    text = str(caught.value)
    assert "first (Spectrum): aten." in text
    assert "second.1 (Spectrum): aten." in text
    assert "linalg_inv" in text


class Noisy(nn.Module):
    def forward(self, x: Any) -> Any:
        if x.sum() > 0:
            raise ValueError("no")
        return x


@pytest.mark.parametrize(
    ("module", "options", "words"),
    [
        (nn.Linear(4, 3), {}, "has to be traced with an example"),
        (nn.Linear(4, 3), {"input_shape": (5,)}, "cannot trace the module"),
        (nn.Linear(4, 3), {"input_shape": (0,)}, "no shape of one example"),
        (nn.Linear(4, 3), {"input_shape": "4"}, "no shape of one example"),
        (nn.Linear(4, 3), {"input_shape": (10**9, 10**9)}, "no shape of one example"),
        (nn.Linear(4, 3), {"input_shape": (4,), "layout": "HWC"}, "layout is unknown"),
        (nn.Linear(4, 3).double(), {"example": torch.ones(2, 4).double()}, "cannot be brought to JAX"),
        (nn.Linear(4, 3).half(), {"example": torch.ones(2, 4).half()}, "cannot be brought to JAX"),
        (Noisy(), {"input_shape": (4,)}, "cannot trace the module"),
        (nn.Linear, {"input_shape": (4,)}, "no PyTorch model"),
        (3, {}, "no PyTorch model"),
        (torch.ones(2), {}, "no PyTorch model"),
    ],
)
def test_bad_modules_are_refused(module: Any, options: dict[str, Any], words: str):
    with pytest.raises(ModelError, match=words):
        from_pytorch(module, **options)


def test_weights_that_are_not_finite_are_refused():
    module = nn.Linear(4, 3)
    nn.init.constant_(module.bias, float("nan"))
    with pytest.raises(ModelError, match="cannot be brought to JAX") as caught:
        from_pytorch(module, input_shape=(4,))
    assert "bias: 3 NaN" in str(caught.value)


def test_exported_programs_are_read():
    module = prepared(MODULES["mlp"][0])
    program = torch.export.export(module, (torch.randn(2, 4),))
    model = from_pytorch(program)
    x = torch.randn(2, 4)
    assert largest_difference(model(x.numpy()), module(x)) <= TOLERANCE
    with pytest.raises(AxiomError):  # exported without a free axis
        model(np.ones((3, 4), np.float32))
