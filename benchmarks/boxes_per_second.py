"""How many boxes a second the linear bounds take, by batch size, on the default device.

    python benchmarks/boxes_per_second.py [--layers 5 50 50 50 50 50 50 5] [--batches 1024 16384 65536] [--parts 0 2048]

Every layer's neurons are bounded by backward passes (CROWN), in float32 with products of full precision: by one
program written out (`linear.crown_boxes`), and by loops over stacked layers (`chain.crown_margins`), which branch and
bound uses.
"""

import argparse
import itertools
import statistics
import time
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from axiom_jax._program import build
from axiom_jax.verification.domains.interval import Interval
from axiom_jax.verification.domains.linear import crown_boxes, plan
from axiom_jax.verification.search.chain import Chain, crown_margins


def net(layers: Sequence[int], seed: int = 0):
    """A relu net of random weights, and its parameters."""
    rng = np.random.default_rng(seed)
    params = [(rng.standard_normal((m, n)).astype(np.float32) * np.float32(np.sqrt(2 / m)),
               rng.standard_normal(n).astype(np.float32) * np.float32(0.1))
              for m, n in itertools.pairwise(layers)]  # fmt: skip

    def apply(params, x):
        for w, b in params[:-1]:
            x = jax.nn.relu(x @ w + b)
        w, b = params[-1]
        return x @ w + b

    return apply, params


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--layers", type=int, nargs="+", default=[5, 50, 50, 50, 50, 50, 50, 5])
    parser.add_argument("--batches", type=int, nargs="+", default=[64, 512, 2048])
    parser.add_argument("--parts", type=int, nargs="*", default=[0], help="boxes at a time in loops; 0: all")
    parser.add_argument("--rounds", type=int, default=10)
    given = parser.parse_args()
    device = jax.devices()[0]
    print(f"{device.device_kind}, {device.platform}, jax {jax.__version__}, net {'-'.join(map(str, given.layers))}")
    apply, params = net(given.layers)
    with jax.default_matmul_precision("highest"):
        program, values = build(apply, params, jnp.zeros(given.layers[0]))
    bounding = plan(program)
    values = jax.device_put(values)
    chain = stacked(params)
    for batch in given.batches:
        middle = jax.random.uniform(jax.random.key(1), (batch, given.layers[0]), minval=-1.0, maxval=1.0)
        lo, hi, case = middle - 0.05, middle + 0.05, jnp.zeros(batch, jnp.int32)
        ways = {"written out": lambda: crown_boxes(bounding, values, Interval(lo, hi))}  # noqa: B023 (called here)
        for part in given.parts:
            name = f"loops, {part} at a time" if part else "loops"
            ways[name] = lambda part=part: crown_margins(chain, case, lo, hi, part)  # noqa: B023
        for name, call in ways.items():
            measured(name, call, batch, given.rounds)


def stacked(params) -> Chain:
    """The same net as stacked layers; margins are all outputs and their negatives, so that both bounds come out."""
    width, inputs = max(w.shape[1] for w, _ in params[:-1]), params[0][0].shape[0]
    width = -(-width // 8) * 8

    def padded(w, b, rows, first):
        found = np.zeros((rows, width + inputs + 1), np.float32)
        at = slice(width, width + inputs) if first else slice(0, w.shape[0])
        found[: w.shape[1], at], found[: w.shape[1], -1] = w.T, b
        return found

    weights = np.stack([padded(w, b, width, k == 0) for k, (w, b) in enumerate(params[:-1])])
    out = padded(*params[-1], params[-1][0].shape[1], False)
    return jax.device_put(Chain(weights, np.concatenate([out, -out])[None]))


def measured(name, call, batch: int, rounds: int) -> None:
    """Print how fast some calls are."""
    start = time.perf_counter()
    jax.block_until_ready(call())
    first, times = time.perf_counter() - start, []
    for _ in range(rounds):
        start = time.perf_counter()
        jax.block_until_ready(call())
        times.append(time.perf_counter() - start)
    taken = statistics.median(times)
    speed = f"{batch / taken:>12,.0f} boxes/s, {taken * 1e3:.2f} ms a batch"
    print(f"batch {batch:>6}, {name:<24}: {speed}; first call {first:.1f} s", flush=True)


if __name__ == "__main__":
    main()
