"""How many boxes a second the linear bounds take, by batch size, on the default device.

    python benchmarks/boxes_per_second.py [--layers 5 50 50 50 50 50 50 5] [--batches 1024 16384 65536] [--rounds 10]

Every layer's neurons are bounded by backward passes (CROWN), in float32 with products of full precision.
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
    parser.add_argument("--rounds", type=int, default=10)
    given = parser.parse_args()
    device = jax.devices()[0]
    print(f"{device.device_kind}, {device.platform}, jax {jax.__version__}, net {'-'.join(map(str, given.layers))}")
    apply, params = net(given.layers)
    with jax.default_matmul_precision("highest"):
        program, values = build(apply, params, jnp.zeros(given.layers[0]))
    bounding = plan(program)
    values = jax.device_put(values)
    for batch in given.batches:
        middle = jax.random.uniform(jax.random.key(1), (batch, given.layers[0]), minval=-1.0, maxval=1.0)
        box = Interval(middle - 0.05, middle + 0.05)
        start = time.perf_counter()
        jax.block_until_ready(crown_boxes(bounding, values, box))
        first = time.perf_counter() - start
        times = []
        for _ in range(given.rounds):
            start = time.perf_counter()
            jax.block_until_ready(crown_boxes(bounding, values, box))
            times.append(time.perf_counter() - start)
        taken = statistics.median(times)
        speed = f"{batch / taken:>12,.0f} boxes/s, {taken * 1e3:.2f} ms a batch"
        print(f"batch {batch:>6}: {speed}; first call {first:.1f} s")


if __name__ == "__main__":
    main()
