"""Inference with `ax.compile` against PyTorch eager: five nets of equal weights, in one process, turn by turn.

Both sides get the same NumPy input on the same number of threads and give a NumPy output; outputs are compared before
anything is timed. A round gives each side a turn of a few calls, in alternating order, so that a busy machine slows
both alike. A side's time is the median of its least disturbed turn; the figure is the ratio, and the geometric mean
over the nets.
Run: python benchmarks/inference_vs_pytorch.py
"""

import argparse
import json
import math
import os
import platform
import statistics
import time
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch

import axiom_jax as ax
from axiom_jax.model import Model, Signature

LENGTH, FEATURES, HEADS, HIDDEN = 32, 64, 4, 64  # of the transformer block and the LSTM


def mlp() -> Any:
    linear, relu = torch.nn.Linear, torch.nn.ReLU
    return torch.nn.Sequential(linear(784, 256), relu(), linear(256, 256), relu(), linear(256, 10))


def mlp_apply(w: dict[str, Any], x: Any) -> Any:
    x = jax.nn.relu(x @ w["0.weight"].T + w["0.bias"])
    x = jax.nn.relu(x @ w["2.weight"].T + w["2.bias"])
    return x @ w["4.weight"].T + w["4.bias"]


def cnn() -> Any:
    t = torch.nn
    first = (t.Conv2d(1, 16, 3, padding=1), t.ReLU(), t.MaxPool2d(2))
    second = (t.Conv2d(16, 32, 3, padding=1), t.ReLU(), t.MaxPool2d(2))
    return t.Sequential(*first, *second, t.Flatten(), t.Linear(1568, 64), t.ReLU(), t.Linear(64, 10))


def conv(x: Any, weight: Any) -> Any:
    return jax.lax.conv_general_dilated(x, weight, (1, 1), "SAME", dimension_numbers=("NCHW", "OIHW", "NCHW"))


def pool(x: Any) -> Any:
    return jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, 1, 2, 2), (1, 1, 2, 2), "VALID")


def cnn_apply(w: dict[str, Any], x: Any) -> Any:
    x = pool(jax.nn.relu(conv(x, w["0.weight"]) + w["0.bias"][:, None, None]))
    x = pool(jax.nn.relu(conv(x, w["3.weight"]) + w["3.bias"][:, None, None]))
    x = jax.nn.relu(x.reshape(x.shape[0], -1) @ w["7.weight"].T + w["7.bias"])
    return x @ w["9.weight"].T + w["9.bias"]


class Block(torch.nn.Module):
    """The first block of a ResNet for 32 × 32 images."""

    def __init__(self) -> None:
        super().__init__()
        t = torch.nn
        self.conv1, self.bn1 = t.Conv2d(16, 16, 3, padding=1, bias=False), t.BatchNorm2d(16)
        self.conv2, self.bn2 = t.Conv2d(16, 16, 3, padding=1, bias=False), t.BatchNorm2d(16)

    def forward(self, x: Any) -> Any:
        y = torch.relu(self.bn1(self.conv1(x)))
        return torch.relu(self.bn2(self.conv2(y)) + x)


def norm(w: dict[str, Any], name: str, x: Any) -> Any:
    scale = w[f"{name}.weight"] * jax.lax.rsqrt(w[f"{name}.running_var"] + 1e-5)
    return (x - w[f"{name}.running_mean"][:, None, None]) * scale[:, None, None] + w[f"{name}.bias"][:, None, None]


def block_apply(w: dict[str, Any], x: Any) -> Any:
    y = jax.nn.relu(norm(w, "bn1", conv(x, w["conv1.weight"])))
    return jax.nn.relu(norm(w, "bn2", conv(y, w["conv2.weight"])) + x)


def transformer() -> Any:
    return torch.nn.TransformerEncoderLayer(FEATURES, HEADS, 4 * FEATURES, 0.0, batch_first=True)


def layer_norm(w: dict[str, Any], name: str, x: Any) -> Any:
    centred = x - jnp.mean(x, -1, keepdims=True)
    scaled = centred * jax.lax.rsqrt(jnp.mean(centred * centred, -1, keepdims=True) + 1e-5)
    return scaled * w[f"{name}.weight"] + w[f"{name}.bias"]


def transformer_apply(w: dict[str, Any], x: Any) -> Any:
    batch, length, features = x.shape
    both = x @ w["self_attn.in_proj_weight"].T + w["self_attn.in_proj_bias"]
    q, k, v = jnp.split(both.reshape(batch, length, 3 * HEADS, features // HEADS), 3, axis=2)
    scores = jnp.einsum("bqhd,bkhd->bhqk", q, k) / math.sqrt(features // HEADS)
    y = jnp.einsum("bhqk,bkhd->bqhd", jax.nn.softmax(scores), v).reshape(x.shape)
    x = layer_norm(w, "norm1", x + y @ w["self_attn.out_proj.weight"].T + w["self_attn.out_proj.bias"])
    y = jax.nn.relu(x @ w["linear1.weight"].T + w["linear1.bias"]) @ w["linear2.weight"].T + w["linear2.bias"]
    return layer_norm(w, "norm2", x + y)


class Recurrent(torch.nn.Module):
    """An LSTM; its last state is the result."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = torch.nn.LSTM(FEATURES, HIDDEN, batch_first=True)

    def forward(self, x: Any) -> Any:
        return self.lstm(x)[0][:, -1]


def lstm_apply(w: dict[str, Any], x: Any) -> Any:
    inputs = x @ w["lstm.weight_ih_l0"].T + (w["lstm.bias_ih_l0"] + w["lstm.bias_hh_l0"])

    def step(state: Any, row: Any) -> Any:
        h, c = state
        i, f, g, o = jnp.split(row + h @ w["lstm.weight_hh_l0"].T, 4, axis=-1)
        c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
        h = jax.nn.sigmoid(o) * jnp.tanh(c)
        return (h, c), None

    zero = jnp.zeros((x.shape[0], HIDDEN), x.dtype)
    (h, _), _ = jax.lax.scan(step, (zero, zero), jnp.swapaxes(inputs, 0, 1))
    return h


NETS: dict[str, tuple[Callable[[], Any], Callable[..., Any], tuple[int, ...]]] = {
    "MLP 784-256-256-10": (mlp, mlp_apply, (784,)),
    "CNN 1x28x28, 16 and 32 channels": (cnn, cnn_apply, (1, 28, 28)),
    "residual block 16x32x32": (Block, block_apply, (16, 32, 32)),
    "transformer block 32x64, 4 heads": (transformer, transformer_apply, (LENGTH, FEATURES)),
    "LSTM 32x64, 64 hidden": (Recurrent, lstm_apply, (LENGTH, FEATURES)),
}


def pair(name: str) -> tuple[Any, Model, tuple[int, ...]]:
    """A PyTorch module in eval mode, a `Model` of the same weights, and the shape of one example."""
    make, apply, shape = NETS[name]
    torch.manual_seed(0)
    module = make().eval()
    state = {key: value for key, value in module.state_dict().items() if value.is_floating_point()}
    params = {key: jnp.array(value.numpy()) for key, value in state.items()}  # copies: training changes the original
    return module, Model(apply, params, Signature((("x", ("batch", *shape), "float32"),)), name), shape


def seconds(call: Callable[[], Any]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def turns(calls: dict[str, Callable[[], Any]], rounds: int, each: int = 10) -> dict[str, float]:
    """Seconds of each call: the median of its least disturbed turn; every round beginning with another.

    A turn waits until the other side's idle threads have stopped spinning, warms up, and times `each` calls.
    """
    names, times = list(calls), {name: [] for name in calls}
    for i in range(rounds):
        for name in names[i % len(names) :] + names[: i % len(names)]:
            time.sleep(0.02)
            for _ in range(3):
                calls[name]()
            times[name].append(statistics.median(seconds(calls[name]) for _ in range(each)))
    return {name: min(values) for name, values in times.items()}


def measure(name: str, batch: int, backends: list[str], rounds: int) -> dict[str, Any]:
    """Seconds of PyTorch eager and of every backend on one net and batch size."""
    module, model, shape = pair(name)
    x = np.random.default_rng(0).standard_normal((batch, *shape), np.float32)
    compiled = {backend: ax.compile(model, backend, example=x) for backend in backends}

    def eager() -> np.ndarray:
        with torch.inference_mode():
            return module(torch.from_numpy(x)).numpy()

    calls: dict[str, Callable[[], Any]] = {"torch": eager}
    for backend, handle in compiled.items():
        calls[backend] = lambda handle=handle: np.asarray(handle(x))
        np.testing.assert_allclose(calls[backend](), eager(), rtol=1e-4, atol=1e-5)
    found = turns(calls, rounds)
    chosen = compiled["auto"].backend if "auto" in compiled else None
    for handle in compiled.values():
        handle.close()
    return {"net": name, "batch": batch, "seconds": found, "auto": chosen}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 64])
    parser.add_argument("--backends", nargs="+", default=["auto"], help="also xla, onnxruntime, openvino, iree")
    parser.add_argument("--nets", default="", help="only nets whose name has this in it")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    rows = []
    for batch in given.batches:
        for name in NETS:
            if given.nets not in name:
                continue
            row = measure(name, batch, given.backends, given.rounds)
            rows.append(row)
            base = row["seconds"]["torch"]
            parts = [f"{b} {row['seconds'][b] * 1e6:.0f} µs ({base / row['seconds'][b]:.2f} x)" for b in given.backends]
            told = f"torch {base * 1e6:.0f} µs  {'  '.join(parts)}  [{row['auto']}]"
            print(f"batch {batch:3d}  {name:34s} {told}", flush=True)
        for backend in given.backends:
            ratios = [r["seconds"]["torch"] / r["seconds"][backend] for r in rows if r["batch"] == batch]
            print(f"batch {batch:3d}  geometric mean, {backend}: {statistics.geometric_mean(ratios):.2f} x", flush=True)
    versions = {package: version(package) for package in ("jax", "torch", "onnxruntime", "numpy")}
    about = {"threads": given.threads, "cores": os.cpu_count(), "machine": platform.machine(), "versions": versions}
    print(json.dumps({"rows": rows, **about}) if given.json else json.dumps(about))


if __name__ == "__main__":
    main()
