"""What may happen after an epoch. A callback is any function of an `Event`; one that returns True stops training.

Those here look at the whole history and remember nothing, so a run that is resumed goes on as if never stopped.
"""

import csv
import io
import json
import os
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from axiom_jax._errors import AxiomError
from axiom_jax.model import Model

Row = dict[str, Any]


@dataclass(frozen=True, eq=False)
class Event:
    """An epoch has ended.

    Args:
        epoch: its number, from 1. step: steps done in all.
        metrics: of this epoch: "loss", the metrics, "val_..." of the validation data, "rate", "seconds".
        history: the metrics of all epochs so far, this one last.
    """

    epoch: int
    step: int
    metrics: Row
    history: tuple[Row, ...]
    _model: Model
    _params: Any

    @property
    def model(self) -> Model:
        """The model as it is now; a copy, since training goes on in the memory of its parameters."""
        return replace(self._model, params=jax.tree.map(jnp.copy, self._params))


@dataclass(frozen=True)
class EarlyStopping:
    """Stop when a value has not improved for some epochs.

    Args:
        patience: epochs without improvement that are borne.
        monitor: a name in the history.
        mode: "min", "max", or None to tell by the name: accuracies are to grow, all else to fall.
        min_delta: what counts as an improvement.
    """

    patience: int = 5
    monitor: str = "val_loss"
    mode: str | None = None
    min_delta: float = 0.0

    def __call__(self, event: Event) -> bool:
        values = _watched(event, self.monitor, self.mode)
        best, at = values[0], 0
        for i, value in enumerate(values):
            if value < best - self.min_delta or best != best:
                best, at = value, i
        return len(values) - 1 - at >= self.patience


@dataclass(frozen=True)
class BestCheckpoint:
    """Keep the model of the best epoch in a file, as `ax.save_model` writes it.

    Args:
        path: such as "best.axiom"; replaced whenever there is a better one.
        monitor, mode: as in `EarlyStopping`.
    """

    path: str | Path
    monitor: str = "val_loss"
    mode: str | None = None

    def __call__(self, event: Event) -> None:
        values = _watched(event, self.monitor, self.mode)
        if all(values[-1] < value or value != value for value in values[:-1]):
            from axiom_jax.interop.axiom.file import save_model

            save_model(event.model, self.path)


@dataclass(frozen=True)
class CSVLogger:
    """The history as a CSV file, a row an epoch, replaced whole after each.

    Args:
        path: of the file.
    """

    path: str | Path

    def __call__(self, event: Event) -> None:
        text = io.StringIO()
        names = list(dict.fromkeys(name for row in event.history for name in row))
        writer = csv.DictWriter(text, names, lineterminator="\n")
        writer.writeheader()
        writer.writerows(event.history)
        replace_file(Path(self.path), text.getvalue())


@dataclass(frozen=True)
class JSONLLogger:
    """The history as a file of JSON objects, a line an epoch, replaced whole after each.

    Args:
        path: of the file.
    """

    path: str | Path

    def __call__(self, event: Event) -> None:
        replace_file(Path(self.path), "".join(json.dumps(row) + "\n" for row in event.history))


def replace_file(path: Path, text: str) -> None:
    """Write a file so that a reader finds the old text or the new one, whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        os.chmod(name, 0o644)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _watched(event: Event, monitor: str, mode: str | None) -> list[float]:
    """A value over the epochs, turned so that less is better."""
    if monitor not in event.metrics or mode not in (None, "min", "max"):
        raise AxiomError(
            f"There is nothing to monitor: {monitor!r}, mode {mode!r}.", got=f"{', '.join(event.metrics)}",
            fix='give validation= for names with "val_", or monitor another name; mode is "min" or "max"',
        )  # fmt: skip
    grows = mode == "max" or (mode is None and "accuracy" in monitor)
    return [-row[monitor] if grows else row[monitor] for row in event.history if monitor in row]
