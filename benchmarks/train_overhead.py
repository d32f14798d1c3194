"""What `ax.train` costs beside a loop written by hand with flax and optax: same model, same data, same optimizer.

Both run in turn, round after round, so that a busy machine slows them alike; reported is the median of the ratios of
paired rounds. Nothing is compiled while the clock runs. Run: python benchmarks/train_overhead.py
"""

import argparse
import itertools
import platform
import statistics
import time
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import jax
import numpy as np
import optax
from flax import nnx

import axiom_jax as ax
from axiom_jax import nn

BATCH, BATCHES = 64, 50


class Net(nnx.Module):
    """The same layers in plain flax."""

    def __init__(self, sizes: tuple[int, ...], rngs: nnx.Rngs):
        self.layers = nnx.List([nnx.Linear(a, b, rngs=rngs) for a, b in itertools.pairwise(sizes)])

    def __call__(self, x: Any) -> Any:
        for layer in self.layers[:-1]:
            x = jax.nn.relu(layer(x))
        return self.layers[-1](x)


def ours(sizes: tuple[int, ...], epochs: int, x: np.ndarray, y: np.ndarray) -> Callable[[], None]:
    """A whole training with `ax.train`."""
    layers: list[Any] = []
    for a, b in itertools.pairwise(sizes):
        layers += [nn.Dense(a, b), nn.relu]
    model = ax.Sequential(*layers[:-1])

    def run() -> None:
        jax.block_until_ready(ax.train(model, (x, y), "adam", epochs=epochs, batch_size=BATCH, progress=False).model)

    return run


def by_hand(sizes: tuple[int, ...], epochs: int, x: np.ndarray, y: np.ndarray) -> Callable[[], None]:
    """The loop that one would write: split once, a jitted donated step, a shuffled order an epoch, the mean loss."""
    graph, first = nnx.split(Net(sizes, nnx.Rngs(0)))
    optimizer = optax.adam(1e-3)

    def step(params: Any, memory: Any, total: Any, x: Any, y: Any) -> Any:
        def loss(p: Any) -> Any:
            return optax.softmax_cross_entropy_with_integer_labels(nnx.merge(graph, p)(x), y).mean()

        value, gradient = jax.value_and_grad(loss)(params)
        updates, memory = optimizer.update(gradient, memory, params)
        return optax.apply_updates(params, updates), memory, total + value

    compiled = jax.jit(step, donate_argnums=(0, 1, 2))

    def run() -> None:
        params = jax.tree.map(lambda leaf: jax.numpy.array(leaf, copy=True), first)
        memory, losses = optimizer.init(params), []
        for epoch in range(epochs):
            order, total = np.random.default_rng(epoch).permutation(len(x)), jax.numpy.float32(0)
            for i in range(0, len(x), BATCH):
                rows = order[i : i + BATCH]
                params, memory, total = compiled(params, memory, total, x[rows], y[rows])
            losses.append(float(total) / BATCHES)
        jax.block_until_ready(params)

    return run


def seconds(run: Callable[[], None]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    rounds = parser.parse_args().rounds
    random = np.random.default_rng(0)
    print(f"Python {platform.python_version()}, jax {version('jax')}, {jax.devices()[0].device_kind}, {rounds} rounds, "
          f"batch {BATCH}")  # fmt: skip
    ratios = []
    for sizes, epochs in (((64, 64, 10), 16), ((784, 256, 256, 10), 4), ((784, 1024, 1024, 10), 2)):
        x = random.random((BATCH * BATCHES, sizes[0]), np.float32)
        y = random.integers(0, 10, len(x), dtype=np.int32)
        pair = ours(sizes, epochs, x, y), by_hand(sizes, epochs, x, y)
        for run in pair:
            run()
        times = [[seconds(run) for run in (pair if i % 2 else pair[::-1])] for i in range(rounds)]
        times = [row if i % 2 else row[::-1] for i, row in enumerate(times)]
        ratio = statistics.median(a / b for a, b in times)
        ratios.append(ratio)
        steps = epochs * BATCHES
        mine, plain = (1e6 * statistics.median(row[i] for row in times) / steps for i in (0, 1))
        net = f"{'-'.join(map(str, sizes)):<17} {steps:>4} steps"
        print(f"{net}   ax.train {mine:8.1f} us/step   by hand {plain:8.1f} us/step   median ratio {ratio:.3f}")
    print(f"geometric mean of the ratios {statistics.geometric_mean(ratios):.3f}")


if __name__ == "__main__":
    main()
