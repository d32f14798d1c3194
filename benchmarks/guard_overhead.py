"""What guards cost while they hold: a jitted model with and without them, run in turn.

    python benchmarks/guard_overhead.py [--rounds 500] [--batch 64]
"""

import argparse
import platform
import statistics
import time

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

import axiom_jax as ax
from axiom_jax import nn


def nets(width: int):
    net = ax.Sequential(nn.Dense(784, width), nn.relu, nn.Dense(width, width), nn.relu, nn.Dense(width, 10), nn.softmax)

    @ax.axiom
    def plain(net: nn.Sequential, image: Float[Array, "batch 784"]) -> Float[Array, "batch 10"]:
        return net(image)

    @ax.axiom
    def guarded(net: nn.Sequential, image: Float[Array, "batch 784"]) -> Float[Array, "batch 10"]:
        output = net(image)
        ax.ensure(ax.valid_probabilities(output), "probabilities")
        ax.ensure(ax.finite(output), "finite")
        return output

    return {"plain": plain.bind(net), "guarded": guarded.bind(net)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=500)
    parser.add_argument("--batch", type=int, default=64)
    given = parser.parse_args()
    print(f"{platform.processor() or platform.machine()}, jax {jax.__version__}, {jax.default_backend()}")
    for width in (128, 512):
        x = jax.random.normal(jax.random.key(0), (given.batch, 784), jnp.float32)
        times: dict[str, list[float]] = {"plain": [], "guarded": []}
        compiled = {name: jax.jit(model) for name, model in nets(width).items()}
        for fn in compiled.values():
            fn(x).block_until_ready()
        for _ in range(given.rounds):
            for name, fn in compiled.items():
                start = time.perf_counter()
                fn(x).block_until_ready()
                times[name].append(time.perf_counter() - start)
        ratio = statistics.median(b / a for a, b in zip(times["plain"], times["guarded"], strict=True))
        medians = {name: f"{statistics.median(taken) * 1e6:.0f} us" for name, taken in times.items()}
        print(f"784-{width}-{width}-10, batch {given.batch}: {medians}, median ratio {ratio:.3f}")


if __name__ == "__main__":
    main()
