"""A training step of an axiom-jax model against PyTorch eager: five nets of equal weights, turn by turn.

Both sides do the same: mean squared error, gradients, an Adam step, on the same number of threads, batch 64. Ours is
one jitted step that gives its old state's memory back; PyTorch's is its usual loop with the fused Adam. Losses of the
first steps are compared before anything is timed. Run: python benchmarks/training_vs_pytorch.py
"""

import argparse
import json
import os
import platform
import statistics
from importlib.metadata import version
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import torch
from inference_vs_pytorch import NETS, pair, turns

RATE, STEPS = 1e-3, 3


def ours(model: Any, x: Any, y: Any) -> Any:
    """A function that does one step and gives the loss."""
    optimizer = optax.adam(RATE)
    trained = {k: v for k, v in model.params.items() if "running" not in k}
    fixed = {k: v for k, v in model.params.items() if "running" in k}
    state = [jax.tree.map(jnp.array, trained), optimizer.init(trained)]

    def loss(params: Any, x: Any, y: Any) -> Any:
        return jnp.mean((model.apply(params | fixed, x) - y) ** 2)

    def step(params: Any, moments: Any, x: Any, y: Any) -> Any:
        value, gradients = jax.value_and_grad(loss)(params, x, y)
        updates, moments = optimizer.update(gradients, moments, params)
        return optax.apply_updates(params, updates), moments, value

    compiled = jax.jit(step, donate_argnums=(0, 1))

    def once() -> float:
        state[0], state[1], value = compiled(*state, x, y)
        return float(value)

    return once


def theirs(module: Any, x: Any, y: Any) -> Any:
    # running statistics stay fixed on both sides, so that both compute the same
    parameters = [p for p in module.parameters() if p.requires_grad]
    optimizer = torch.optim.Adam(parameters, lr=RATE, fused=True)
    x, y = torch.from_numpy(x), torch.from_numpy(y)

    def once() -> float:
        optimizer.zero_grad(set_to_none=True)
        loss = torch.nn.functional.mse_loss(module(x), y)
        loss.backward()
        optimizer.step()
        return loss.item()

    return once


def measure(name: str, batch: int, rounds: int) -> dict[str, Any]:
    module, model, shape = pair(name)
    draw = np.random.default_rng(0)
    x = draw.standard_normal((batch, *shape), np.float32)
    y = draw.standard_normal(jax.eval_shape(model.apply, model.params, x).shape, np.float32)
    calls = {"torch": theirs(module, x, y), "axiom": ours(model, x, y)}
    losses = {side: [call() for _ in range(STEPS)] for side, call in calls.items()}
    np.testing.assert_allclose(losses["axiom"], losses["torch"], rtol=1e-3)
    return {"net": name, "batch": batch, "seconds": turns(calls, rounds, each=5)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--nets", default="", help="only nets whose name has this in it")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    rows = []
    for name in NETS:
        if given.nets in name:
            row = measure(name, given.batch, given.rounds)
            rows.append(row)
            base, own = row["seconds"]["torch"], row["seconds"]["axiom"]
            print(f"{name:34s} torch {base * 1e6:.0f} µs  axiom {own * 1e6:.0f} µs  {base / own:.2f} x", flush=True)
    ratios = [row["seconds"]["torch"] / row["seconds"]["axiom"] for row in rows]
    print(f"geometric mean: {statistics.geometric_mean(ratios):.2f} x", flush=True)
    versions = {package: version(package) for package in ("jax", "torch", "optax")}
    about = {"threads": given.threads, "cores": os.cpu_count(), "machine": platform.machine(), "versions": versions}
    print(json.dumps({"rows": rows, **about}) if given.json else json.dumps(about))


if __name__ == "__main__":
    main()
