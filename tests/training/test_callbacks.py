"""Callbacks judge by the history alone."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import axiom_jax as ax
from axiom_jax import nn
from axiom_jax._errors import AxiomError
from axiom_jax.training.callbacks import Event

MODEL = ax.Sequential(nn.Dense(2, 2))
DATA = ax.make_moons(64)


def event(values: list[float], name: str = "val_loss") -> Event:
    rows = tuple({"epoch": i + 1, name: value} for i, value in enumerate(values))
    return Event(len(rows), len(rows), rows[-1], rows, MODEL, MODEL.params)


@pytest.mark.parametrize(
    ("values", "stops"),
    [([3, 2, 1], False), ([1, 2, 3], True), ([1, 2, 0.5, 2], False), ([1, 0.99, 0.98], True), ([np.nan, 2, 1], False)],
)
def test_early_stopping(values: list[float], stops: bool) -> None:
    assert ax.EarlyStopping(patience=2, min_delta=0.1)(event(values)) == stops
    rising = ax.EarlyStopping(patience=2, monitor="val_accuracy", min_delta=0.1)
    assert rising(event([-v for v in values], "val_accuracy")) == stops
    assert ax.EarlyStopping(2, "score", "max", 0.1)(event([-v for v in values], "score")) == stops


def test_unknown_names_are_told() -> None:
    with pytest.raises(AxiomError, match="nothing to monitor: 'val_loss'"):
        ax.EarlyStopping()(event([1.0], "loss"))


def test_best_checkpoint_keeps_the_best(tmp_path: Path) -> None:
    path = tmp_path / "best.axiom"
    best = ax.BestCheckpoint(path, monitor="loss")
    best(event([2.0], "loss"))
    first = path.read_bytes()
    best(event([2.0, 3.0], "loss"))
    assert path.read_bytes() == first
    result = ax.train(MODEL, DATA, epochs=3, lr=0.05, callbacks=[best], progress=False)
    loaded = ax.load_model(path)
    np.testing.assert_array_equal(loaded(DATA[0]), result.model(DATA[0]))


def test_logs(tmp_path: Path) -> None:
    csv_path, json_path, seen = tmp_path / "deep" / "log.csv", tmp_path / "log.jsonl", []

    def look(event: Any) -> None:
        seen.append((event.epoch, event.step, event.model))

    callbacks = [ax.CSVLogger(csv_path), ax.JSONLLogger(json_path), look]
    result = ax.train(MODEL, DATA, epochs=3, metrics="accuracy", callbacks=callbacks, progress=False)
    rows = list(csv.DictReader(csv_path.read_text().splitlines()))
    assert [float(row["loss"]) for row in rows] == [row["loss"] for row in result.history]
    assert [json.loads(line) for line in json_path.read_text().splitlines()] == list(result.history)
    assert [(epoch, step) for epoch, step, _ in seen] == [(1, 1), (2, 2), (3, 3)]
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []
    first, last = seen[0][2], seen[-1][2]  # copies: training went on
    np.testing.assert_array_equal(last(DATA[0]), result.model(DATA[0]))
    assert np.abs(np.asarray(first(DATA[0]) - last(DATA[0]))).max() > 0


def test_a_callback_stops() -> None:
    result = ax.train(MODEL, DATA, epochs=9, callbacks=[lambda event: event.epoch == 2], progress=False)
    assert result.stopped == "early" and len(result.history) == 2
