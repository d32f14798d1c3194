"""A training run with everything that has to survive a kill; started by the tests in a process of its own.

`python runs_program.py FOLDER OUT`: trains with checkpoints in FOLDER, resuming what is there, and writes the final
parameters to OUT, in place at once, and the history beside it.
"""

import os
import sys
from pathlib import Path

import numpy as np

import axiom_jax as ax
from axiom_jax import nn

EPOCHS = 6


def model() -> ax.Model:
    return ax.Sequential(nn.Dense(2, 32), nn.BatchNorm(32), nn.relu, nn.Dropout(0.2), nn.Dense(32, 2), seed=3)


def train(folder: Path | None, **changes: object) -> ax.TrainingResult:
    """The run; dropout, running statistics, a schedule, clipping and accumulation all have to come back."""
    x, y = ax.make_moons(330, noise=0.1, seed=1)
    settings: dict[str, object] = {
        "epochs": EPOCHS, "schedule": ax.CosineAnnealingLR(T_max=EPOCHS, per="epoch"), "metrics": "accuracy", "seed": 5,
        "clip": 1.0, "accumulate": 3, "checkpoint_dir": folder, "resume": folder is not None,
        "save_every": None if folder is None else 2, "progress": False,
    }  # fmt: skip
    loader = ax.DataLoader((x, y), batch_size=32, shuffle=True, seed=2)
    return ax.train(model(), loader, ax.AdamW(lr=0.01), **(settings | changes))  # pyright: ignore[reportArgumentType]


def flat(params: object) -> np.ndarray:
    import jax

    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(params)])


if __name__ == "__main__":
    ax.train, model()  # loads jax and all that is needed
    print("ready", flush=True)
    result = train(Path(sys.argv[1]))
    out = Path(sys.argv[2])
    said = {"steps": result.steps, "history": [{**row, "seconds": 0} for row in result.history]}
    out.with_suffix(".txt").write_text(repr(said), encoding="utf-8")
    np.save(out.with_suffix(".part.npy"), flat(result.model.params))
    os.replace(out.with_suffix(".part.npy"), out)
