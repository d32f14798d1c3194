"""What an interval product costs beside the plain product of the same shapes, on this machine.

Every round times all implementations one after the other, so that a busy machine slows
them alike; the ratio is taken within a round. Run: python -m axiom_jax.kernels.interval_matmul.bench
"""

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from axiom_jax.kernels.interval_matmul import RUNS_ON, interval_matmul

SHAPES = ((64, 784, 256), (1024, 256, 256), (4096, 1024, 1024))


def contestants(platform: str) -> dict[str, Callable[..., Any]]:
    """The plain product, the four-product form without rounding terms, and every implementation that runs here."""
    runs = [name for name, platforms in RUNS_ON.items() if not {"any", platform}.isdisjoint(platforms)]
    kernels = {name: jax.jit(partial(interval_matmul, implementation=name)) for name in runs}
    return {"plain product": jax.jit(_plain), "four products": jax.jit(_four_products), **kernels}


def _plain(lo: jax.Array, hi: jax.Array, w: jax.Array) -> jax.Array:
    return jnp.dot(lo, w, precision="highest")


def _four_products(lo: jax.Array, hi: jax.Array, w: jax.Array) -> tuple[jax.Array, jax.Array]:
    dot, up, down = partial(jnp.dot, precision="highest"), jnp.maximum(w, 0), jnp.minimum(w, 0)
    return dot(lo, up) + dot(hi, down), dot(hi, up) + dot(lo, down)


def time_rounds(functions: dict[str, Callable[..., Any]], operands: tuple[Any, ...], rounds: int) -> dict[str, list]:
    """Seconds for each function in each round, compiled beforehand.

    >>> [len(times) for times in time_rounds({"abs": jnp.abs}, (jnp.ones(3),), 2).values()]
    [2]
    """
    times: dict[str, list[float]] = {name: [] for name in functions}
    for function in functions.values():
        jax.block_until_ready(function(*operands))
    for _ in range(rounds):
        for name, function in functions.items():
            start = time.perf_counter()
            jax.block_until_ready(function(*operands))
            times[name].append(time.perf_counter() - start)
    return times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=30)
    rounds = parser.parse_args().rounds
    device = jax.devices()[0]
    print(f"{device.device_kind}, {device.platform}, jax {jax.__version__}, {rounds} rounds")
    for m, k, n in SHAPES:
        x, w = jax.random.normal(jax.random.key(0), (m, k)), jax.random.normal(jax.random.key(1), (k, n))
        times = time_rounds(contestants(device.platform), (x - 0.01, x + 0.01, w), rounds)
        print(f"\n{m} x {k} x {n:<12} median ms   times the plain product (quartiles)")
        for name, seconds in times.items():
            ratios = [ours / plain for ours, plain in zip(seconds, times["plain product"], strict=True)]
            low, middle, high = statistics.quantiles(ratios, n=4)
            print(f"  {name:<22} {1e3 * statistics.median(seconds):>9.3f}   {middle:.2f} ({low:.2f} to {high:.2f})")


if __name__ == "__main__":
    main()
