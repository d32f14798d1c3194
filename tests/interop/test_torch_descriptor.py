"""The JSON descriptor: equal numbers, both layouts, every mutation refused with its place; torch is not needed."""

import copy
import json
import math
import random
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from axiom_jax._errors import AxiomError, ModelError, ShapeError
from axiom_jax.interop.torch.describe import pytorch_descriptor
from axiom_jax.interop.torch.descriptor import FORMAT
from axiom_jax.interop.torch.reader import from_pytorch

Json = dict[str, Any]


def run(model: Any, x: np.ndarray) -> Any:
    quick = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}  # each runs once
    return jax.jit(model.apply, compiler_options=quick)(model.params, x)


def numbers(*shape: int, seed: int = 0, low: float = -1) -> Any:
    return np.random.default_rng(seed).uniform(low, 1, shape).astype(np.float32).astype(float).tolist()


def norm(size: int) -> Json:
    return {"weight": numbers(size), "bias": numbers(size), "running_mean": numbers(size, seed=1),
            "running_var": numbers(size, low=0.5), "eps": 1e-3}  # fmt: skip


def cnn() -> Json:
    """A small convolutional net with every kind of problem to be made."""
    return {
        "format": FORMAT,
        "layers": [
            {"type": "Conv2d", "weight": numbers(4, 2, 3, 2), "bias": numbers(4), "padding": [1, 0], "stride": 1},
            {"type": "BatchNorm2d", **norm(4)},
            {"type": "ReLU"},
            {"type": "MaxPool2d", "kernel_size": 2, "ceil_mode": False},
            {"type": "Flatten"},
            {"type": "Linear", "weight": numbers(5, 4 * 3 * 2), "bias": numbers(5), "in_features": 24},
            {"type": "LeakyReLU", "negative_slope": 0.2},
            {"type": "Dropout", "p": 0.3},
            {"type": "LayerNorm", "normalized_shape": [5], "weight": numbers(5), "bias": numbers(5)},
            {"type": "Softmax", "dim": -1},
        ],
    }


def by_hand(net: Json, x: np.ndarray) -> np.ndarray:
    """The net in plain numpy, channels first."""
    conv, bn, _, _, _, linear, _, _, layer_norm, _ = net["layers"]
    w, b = np.array(conv["weight"]), np.array(conv["bias"])
    x = np.pad(x, ((0, 0), (0, 0), (1, 1), (0, 0)))
    h, v = x.shape[2] - 2, x.shape[3] - 1
    y = np.stack([[[np.sum(x[:, :, i : i + 3, j : j + 2] * w[o], (1, 2, 3)) + b[o] for j in range(v)] for i in range(h)]
                  for o in range(4)]).transpose(3, 0, 1, 2)  # fmt: skip
    shape = (1, 4, 1, 1)
    mean, var, scale, shift = (
        np.array(bn[k]).reshape(shape) for k in ("running_mean", "running_var", "weight", "bias")
    )
    y = np.maximum((y - mean) / np.sqrt(var + 1e-3) * scale + shift, 0)
    y = y[:, :, : h // 2 * 2, : v // 2 * 2].reshape(len(y), 4, h // 2, 2, v // 2, 2).max((3, 5)).reshape(len(y), -1)
    y = y @ np.array(linear["weight"]).T + linear["bias"]
    y = np.where(y > 0, y, 0.2 * y)
    y = (y - y.mean(1, keepdims=True)) / np.sqrt(y.var(1, keepdims=True) + 1e-5)
    y = np.exp(y * layer_norm["weight"] + layer_norm["bias"])
    return y / y.sum(1, keepdims=True)


@pytest.mark.parametrize("batch", [1, 5])
def test_a_net_equals_its_definition(batch: int):
    x = np.random.default_rng(batch).normal(size=(batch, 2, 6, 5)).astype(np.float32)
    expected = by_hand(cnn(), x)
    np.testing.assert_allclose(run(from_pytorch(cnn()), x), expected, atol=1e-5)
    model = from_pytorch(cnn(), layout="NHWC", input_shape=(6, 5, 2))
    np.testing.assert_allclose(run(model, x.transpose(0, 2, 3, 1)), expected, atol=1e-5)
    assert model.signature.inputs[0][1] == ("batch", 6, 5, 2)


def test_it_is_a_sequential_of_our_layers():
    model = from_pytorch(cnn(), input_shape=(2, 6, 5))
    assert [name.partition("_")[2] for name in model.apply.names] == [
        "ChannelsLast", "Conv", "BatchNorm", "relu", "MaxPool", "ChannelsFirst", "Flatten", "Dense", "TorchLeakyReLU",
        "Dropout", "LayerNorm", "softmax",
    ]  # fmt: skip
    assert model.summary().rows
    assert model.apply == from_pytorch(cnn(), input_shape=(2, 6, 5)).apply


def test_the_size_of_images_is_found_or_left_open():
    one = {"format": FORMAT, "layers": [{"type": "Conv2d", "weight": numbers(1, 1, 2, 2)}, {"type": "Flatten"},
                                        {"type": "Linear", "weight": numbers(3, 1)}]}  # fmt: skip
    assert from_pytorch(one).signature.inputs[0][1] == ("batch", 1, 2, 2)
    model = from_pytorch(cnn())
    assert model.signature.inputs[0][1] == ("batch", 2, 6, 6)  # squares where squares fit; others that fit still run
    assert model(np.ones((1, 2, 6, 5), np.float32)).shape == model(np.ones((1, 2, 6, 6), np.float32)).shape
    with pytest.raises(ShapeError):
        from_pytorch(cnn(), input_shape=(2, 9, 9))
    with pytest.raises(ShapeError):
        from_pytorch(cnn())(np.ones((1, 2, 9, 9), np.float32))


def test_files_are_read_and_their_digest_kept(tmp_path: Any):
    path = tmp_path / "net.pytorch.json"
    path.write_text(json.dumps(cnn() | {"input_shape": [2, 6, 5]}))
    model = from_pytorch(path)
    assert model.name == "net"
    assert model.signature.inputs[0][1] == ("batch", 2, 6, 5)
    assert from_pytorch(path, layout="NHWC").signature.inputs[0][1] == ("batch", 6, 5, 2)
    assert dict(model.source).keys() == {"descriptor"}


@given(st.data())
def test_linear_layers_of_any_size(data: st.DataObject):
    inputs, outputs, batch = (data.draw(st.integers(1, 5)) for _ in range(3))
    weight = data.draw(st.lists(st.lists(st.floats(-8, 8, width=32), min_size=inputs, max_size=inputs),
                                min_size=outputs, max_size=outputs))  # fmt: skip
    bias = data.draw(st.none() | st.lists(st.floats(-8, 8, width=32), min_size=outputs, max_size=outputs))
    model = from_pytorch({"format": FORMAT, "layers": [{"type": "Linear", "weight": weight, "bias": bias}]})
    x = np.arange(batch * inputs, dtype=np.float32).reshape(batch, inputs)
    expected = x @ np.array(weight).T + (0 if bias is None else np.array(bias))
    np.testing.assert_allclose(model(x), expected, rtol=1e-5, atol=1e-4)


def put(*path: Any) -> Callable[[Json], None]:
    """A change of a descriptor: the last is the value, the rest is where."""

    def change(net: Json) -> None:
        *keys, value = path
        place: Any = net
        for key in keys[:-1]:
            place = place[key]
        place[keys[-1]] = value

    return change


def gone(*path: Any) -> Callable[[Json], None]:
    def change(net: Json) -> None:
        place: Any = net
        for key in path[:-1]:
            place = place[key]
        del place[path[-1]]

    return change


BAD: dict[str, tuple[Callable[[Json], None], str]] = {
    "no format": (gone("format"), "format: got None"),
    "another format": (put("format", "axiom.pytorch.sequential.v2"), "format: got"),
    "no layers": (gone("layers"), "layers: got None"),
    "empty layers": (put("layers", []), "layers: got a list of 0"),
    "layers as text": (put("layers", "Linear"), "layers: got 'Linear'"),
    "layers as object": (put("layers", {"type": "ReLU"}), "layers: got a"),
    "unknown key": (put("weights", 1), "unknown keys weights"),
    "name": (put("name", 3), "name: got 3"),
    "input shape": (put("input_shape", [2, -1, 3]), "input_shape: got a list of 3"),
    "layer is a number": (put("layers", 2, 7), "layer 2: type: got 7"),
    "layer is null": (put("layers", 2, None), "layer 2: type: got None"),
    "no type": (gone("layers", 2, "type"), "layer 2: type: got None"),
    "type is a list": (put("layers", 2, "type", ["ReLU"]), "layer 2: type: got a list of 1"),
    "type unknown": (put("layers", 2, "type", "Conv9d"), "layer 2: type: got 'Conv9d'"),
    "option unknown": (put("layers", 0, "strides", 2), r"layer 0 \(Conv2d\): strides: unknown"),
    "no weight": (gone("layers", 0, "weight"), r"layer 0 \(Conv2d\): weight: missing"),
    "weight null": (put("layers", 5, "weight", None), "weight: missing"),
    "weight is text": (put("layers", 5, "weight", "zeros"), "weight: got 'zeros'"),
    "weight is a number": (put("layers", 5, "weight", 3), "weight: got 3"),
    "weight is ragged": (put("layers", 5, "weight", [[1, 2], [3]]), "weight: got a list of 2"),
    "weight of text": (put("layers", 5, "weight", [["1", "2"]]), "weight: got a list of 1"),
    "weight of booleans": (put("layers", 5, "weight", [[True, False]]), "weight: got a list"),
    "weight of nulls": (put("layers", 5, "weight", [[None, 1.0]]), "weight: got a list"),
    "weight with three axes": (put("layers", 5, "weight", [[[1.0]]]), "array of 2 axes"),
    "weight empty": (put("layers", 5, "weight", []), "weight: got a list of 0"),
    "weight not a number": (put("layers", 5, "weight", 0, 0, math.nan), "weight: not finite"),
    "weight infinite": (put("layers", 5, "weight", 0, 0, math.inf), "weight: not finite"),
    "weight beyond float32": (put("layers", 5, "weight", 0, 0, 1e300), "weight: not finite"),
    "weight a huge integer": (put("layers", 5, "weight", 0, 0, 10**400), "weight: got a list"),
    "bias too long": (put("layers", 5, "bias", numbers(6)), r"bias: got shape \[6\]; give \[5\]"),
    "bias true": (put("layers", 5, "bias", True), "bias: got True"),
    "in_features wrong": (put("layers", 5, "in_features", 23), "in_features: got 23; the weight has 24"),
    "in_features huge": (put("layers", 5, "in_features", 10**18), "in_features: got 1000000000000000000"),
    "in_features a float": (put("layers", 5, "in_features", 24.0), "in_features: got 24.0"),
    "groups do not divide": (put("layers", 0, "groups", 3), "groups: got 3"),
    "groups zero": (put("layers", 0, "groups", 0), "groups: got 0"),
    "stride zero": (put("layers", 0, "stride", 0), "stride: got 0"),
    "stride of three": (put("layers", 0, "stride", [1, 1, 1]), "stride: got a list of 3"),
    "stride is text": (put("layers", 0, "stride", "1"), "stride: got '1'"),
    "stride is true": (put("layers", 0, "stride", True), "stride: got True"),
    "padding negative": (put("layers", 0, "padding", -1), "padding: got -1"),
    "padding a word": (put("layers", 0, "padding", "full"), "padding: got 'full'"),
    "dilation null": (put("layers", 0, "dilation", None), "dilation: got None"),
    "kernel size differs": (put("layers", 0, "kernel_size", 3), r"kernel_size: got \(3, 3\)"),
    "padding mode": (put("layers", 0, "padding_mode", "circular"), "padding_mode: got 'circular'"),
    "no running mean": (gone("layers", 1, "running_mean"), "running_mean: missing"),
    "variance below zero": (put("layers", 1, "running_var", 0, -1.0), "running_var: has numbers below 0"),
    "variance too short": (put("layers", 1, "running_var", numbers(3, low=0.5)), r"running_var: got shape \[3\]"),
    "eps below zero": (put("layers", 1, "eps", -1e-5), "eps: got"),
    "eps infinite": (put("layers", 1, "eps", math.inf), "eps: got inf"),
    "no statistics": (put("layers", 1, "track_running_stats", False), "track_running_stats: got False"),
    "no kernel size": (gone("layers", 3, "kernel_size"), "kernel_size: got None"),
    "ceil mode": (put("layers", 3, "ceil_mode", 1), "ceil_mode: got 1"),
    "pool padding": (put("layers", 3, "padding", 2), "padding: got"),
    "indices": (put("layers", 3, "return_indices", True), "return_indices: got True"),
    "flatten the batch": (put("layers", 4, "start_dim", 0), "start_dim: got 0"),
    "flatten backwards": (put("layers", 4, {"type": "Flatten", "start_dim": 2, "end_dim": 1}), "end_dim: got 1"),
    "slope": (put("layers", 6, "negative_slope", "0.2"), "negative_slope: got '0.2'"),
    "share above 1": (put("layers", 7, "p", 1.5), "p: got 1.5"),
    "normalized shape": (put("layers", 8, "normalized_shape", [0]), "normalized_shape: got a list of 1"),
    "norm weight": (put("layers", 8, "weight", numbers(4)), r"weight: got shape \[4\]; give \[5\]"),
    "axis": (put("layers", 9, "dim", 1000), "dim: got 1000"),
    "output size": (put("layers", 3, {"type": "AdaptiveAvgPool2d"}), "output_size: got None"),
    "divisor": (put("layers", 3, {"type": "AvgPool2d", "kernel_size": 2, "divisor_override": 0}), "divisor_override"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_descriptors_are_refused(name: str):
    change, words = BAD[name]
    net = cnn()
    change(net)
    with pytest.raises(ModelError, match=words) as caught:
        from_pytorch(net)
    assert caught.value.at
    assert caught.value.fix


def test_every_problem_is_listed(golden: Callable[[str, str], None]):
    net = cnn()
    for change, _ in (BAD[name] for name in ("stride zero", "no running mean", "bias too long", "type unknown")):
        change(net)
    with pytest.raises(ModelError) as caught:
        from_pytorch(net)
    golden("torch/descriptor.txt", str(caught.value))


@pytest.mark.parametrize(
    "layers",
    [
        [{"type": "Linear", "weight": numbers(3, 4)}, {"type": "Linear", "weight": numbers(2, 4)}],
        [{"type": "Conv2d", "weight": numbers(3, 2, 1, 1)}, {"type": "Conv2d", "weight": numbers(3, 2, 1, 1)}],
        [{"type": "Linear", "weight": numbers(3, 4)}, {"type": "BatchNorm1d", **norm(4)}],
        [{"type": "Conv2d", "weight": numbers(3, 2, 1, 1)}, {"type": "BatchNorm2d", **norm(4)}],
        [{"type": "Linear", "weight": numbers(3, 4)}, {"type": "MaxPool2d", "kernel_size": 2}],
        [{"type": "Linear", "weight": numbers(3, 4)}, {"type": "LayerNorm", "normalized_shape": 5}],
    ],
)
def test_layers_that_do_not_fit_are_refused(layers: list[Json]):
    with pytest.raises(AxiomError):
        from_pytorch({"format": FORMAT, "layers": layers})(np.ones((1, 4), np.float32))


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"null", b"3", b'"text"', b"\xff\xfe", b"[" * 100_000, b'{"a":' * 50_000, b"{}" * 2, b"\0" * 64,
     b'{"format": "axiom.pytorch.sequential.v1", "layers": [{"type": "Linear", "weight": [[1e999]]}]}'],
    ids=lambda content: repr(content[:12]),
)  # fmt: skip
def test_files_that_are_no_descriptor_are_refused(content: bytes, tmp_path: Any):
    path = tmp_path / "net.json"
    path.write_bytes(content)
    with pytest.raises(ModelError) as caught:
        from_pytorch(path)
    assert "net.json" in str(caught.value)


def test_arrays_nested_without_end_are_refused():
    weight: Any = 1.0
    for _ in range(3000):
        weight = [weight]
    with pytest.raises(ModelError, match="weight: got a list of 1"):
        from_pytorch({"format": FORMAT, "layers": [{"type": "Linear", "weight": weight}]})


JUNK = [None, True, -1, 0, 1.5, 10**30, math.nan, "", "x", [], [[]], {}, [1, 2], {"type": "ReLU"}, "Linear", b"b"]


def mutated(chance: random.Random, net: Json) -> Json:
    """A descriptor with one to three places replaced, taken away or added."""
    net = copy.deepcopy(net)
    for _ in range(chance.randint(1, 3)):
        places: list[tuple[Any, Any]] = []

        def walk(value: Any, places: list[tuple[Any, Any]] = places) -> None:
            for key in list(value) if isinstance(value, dict) else range(len(value)):
                places.append((value, key))
                if isinstance(value[key], (dict, list)) and value[key]:
                    walk(value[key])

        walk(net)
        if not places:
            return net
        place, key = chance.choice(places)
        match chance.randint(0, 2):
            case 0:
                place[key] = chance.choice(JUNK)
            case 1:
                del place[key]
            case _ if isinstance(place, dict):
                place[chance.choice(["stride", "weight", "dim", "name", "zzz"])] = chance.choice(JUNK)
    return net


def survive(seed: int) -> bool:
    """Whether a mutated descriptor is refused with our error; another exception is passed on."""
    chance = random.Random(seed)
    try:
        model = from_pytorch(mutated(chance, cnn()))
        jax.eval_shape(model, np.ones((1, 2, 6, 5), np.float32))
    except AxiomError:
        return True
    return False


@pytest.mark.slow
def test_mutated_descriptors_never_raise_anything_else():
    assert sum(survive(seed) for seed in range(30)) > 10


@pytest.mark.campaign
def test_many_mutated_descriptors_never_raise_anything_else():
    assert sum(survive(seed) for seed in range(30, 1500)) > 500


def test_the_writer_is_read_back_with_equal_numbers(tmp_path: Any):
    torch = pytest.importorskip("torch", reason="PyTorch is an extra")
    nn = torch.nn
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Sequential(nn.Conv2d(4, 6, (3, 2), padding="same", dilation=2, groups=2, bias=False), nn.BatchNorm2d(6)),
        nn.Tanh(), nn.AvgPool2d(3, 2, 1, ceil_mode=True), nn.MaxPool2d(2, ceil_mode=True), nn.Sigmoid(),
        nn.AdaptiveAvgPool2d((3, 2)), nn.Identity(), nn.Flatten(), nn.BatchNorm1d(36, affine=False), nn.Linear(36, 4),
        nn.LayerNorm(4), nn.LeakyReLU(0.3), nn.Dropout(0.1), nn.Softmax(1),
    ).eval()  # fmt: skip
    net[0][1].running_mean.normal_()
    net[0][1].running_var.uniform_(0.5, 2)
    path = tmp_path / "net.pytorch.json"
    descriptor = pytorch_descriptor(net, path, input_shape=(4, 9, 11))
    assert json.loads(path.read_text()) == descriptor
    assert [file.name for file in tmp_path.iterdir()] == ["net.pytorch.json"]
    for batch in (1, 5):
        x = torch.randn(batch, 4, 9, 11)
        with torch.no_grad():
            np.testing.assert_allclose(run(from_pytorch(path), x.numpy()), net(x), atol=1e-5)
    with pytest.raises(ModelError, match="no sequence of layers") as caught:
        pytorch_descriptor(nn.Sequential(nn.Linear(2, 2), nn.GELU(), nn.Flatten(0), nn.LSTM(2, 2)))
    assert "1: GELU\n" in str(caught.value)
    assert "3: LSTM" in str(caught.value)
    with pytest.raises(ModelError, match="cannot be written"):
        pytorch_descriptor(net, tmp_path / "no" / "net.json")


@pytest.mark.parametrize("shape", [(2, 5, 4), (3, 6)], ids=str)
def test_axes_that_are_seldom_used(shape: tuple[int, ...]):
    torch = pytest.importorskip("torch", reason="PyTorch is an extra")
    nn = torch.nn
    torch.manual_seed(1)
    nets = [
        nn.Sequential(nn.Conv2d(2, 3, 1), nn.Softmax(1), nn.LayerNorm([3, 5, 4]), nn.Flatten(2), nn.Softmax(2)),
        nn.Sequential(nn.Conv2d(2, 3, 1), nn.Linear(4, 5), nn.ReLU(), nn.Softmax(dim=-2)),
        nn.Sequential(nn.ReLU(), nn.AvgPool2d(2, divisor_override=3), nn.MaxPool2d(2, 1, dilation=1)),
        nn.Sequential(nn.Conv2d(2, 3, 2), nn.AdaptiveAvgPool2d((7, 7)), nn.AdaptiveAvgPool2d(1), nn.Flatten(1, 2)),
    ]
    nets = nets if len(shape) == 3 else [nn.BatchNorm1d(3), nn.Sequential(nn.Linear(6, 2), nn.LayerNorm([3, 2]))]
    for net in nets:
        x = torch.randn(2, *shape)
        expected = net.eval()(x).detach().numpy()
        descriptor = pytorch_descriptor(net)
        np.testing.assert_allclose(run(from_pytorch(descriptor, input_shape=shape), x.numpy()), expected, atol=1e-5)
        if len(shape) == 3:
            last = run(from_pytorch(descriptor, input_shape=(5, 4, 2), layout="NHWC"), x.numpy().transpose(0, 2, 3, 1))
            last = np.moveaxis(np.asarray(last), -1, 1) if last.ndim == 4 else last
            np.testing.assert_allclose(last, expected, atol=1e-5)
