"""What `ax.checkpoint(model, every=3)` saves: a gradient of a 24-layer MLP, with and without.

Two figures: what XLA plans for temporary values (`memory_analysis`, exact and the same on every run), and the peak
resident memory of a process of its own that computes the gradient, above that of one that only compiles it.
Run: python benchmarks/checkpoint_memory.py
"""

import argparse
import json
import platform
import resource
import subprocess
import sys
import time
from importlib.metadata import version
from typing import Any

LAYERS = 24


def measure(every: int, width: int, batch: int, execute: bool) -> dict[str, float]:
    """In this process: planned bytes, peak resident bytes, seconds of a step and a digest of the gradient."""
    import jax
    import numpy as np

    import axiom_jax as ax
    from axiom_jax import nn

    layers: list[Any] = [layer for _ in range(LAYERS) for layer in (nn.Dense(width, width), nn.relu)]
    model = ax.Sequential(*layers)
    model = ax.checkpoint(model, every=every) if every else model
    x = np.random.default_rng(0).normal(size=(batch, width)).astype(np.float32)

    def loss(model: Any, x: Any, key: Any) -> Any:
        y, _ = model.apply_train(x, key=key)
        return (y**2).mean()

    compiled = jax.jit(jax.grad(loss)).lower(model, x, jax.random.key(0)).compile()
    found: dict[str, float] = {"planned": float(compiled.memory_analysis().temp_size_in_bytes)}
    if execute:
        gradient = jax.block_until_ready(compiled(model, x, jax.random.key(0)))
        start = time.perf_counter()
        gradient = jax.block_until_ready(compiled(model, x, jax.random.key(0)))
        found["seconds"] = time.perf_counter() - start
        found["digest"] = float(sum(abs(np.asarray(leaf, np.float64)).sum() for leaf in jax.tree.leaves(gradient)))
    found["peak"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024.0
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--every", type=int, default=3)
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--batch", type=int, default=16384)
    parser.add_argument("--one", type=json.loads, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one is not None:
        print(json.dumps(measure(*given.one)))
        return
    print(f"Python {platform.python_version()}, jax {version('jax')}, {LAYERS} layers of {given.width}, "
          f"batch {given.batch}")  # fmt: skip
    rows = {}
    for every in (0, given.every):
        row: dict[str, float] = {}
        for execute in (False, True):
            one = json.dumps([every, given.width, given.batch, execute])
            run = subprocess.run([sys.executable, __file__, "--one", one], check=True, capture_output=True, text=True)
            told = json.loads(run.stdout.splitlines()[-1])
            row = told if not execute else told | {"run": told["peak"] - row["peak"]}
        rows[every] = row
        name = f"every={every}" if every else "plain"
        print(f"{name:<10} planned {row['planned'] / 2**20:8.1f} MiB   resident, beyond compiling "
              f"{row['run'] / 2**20:8.1f} MiB   {row['seconds']:.3f} s   |gradient| {row['digest']:.6e}")  # fmt: skip
    for figure in ("planned", "run"):
        print(f"{figure}: {100 * (1 - rows[given.every][figure] / rows[0][figure]):.1f} % less")


if __name__ == "__main__":
    main()
