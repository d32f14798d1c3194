"""Runs that are killed, interrupted or extended end with the same bits; what cannot be resumed is told."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from runs_program import EPOCHS, flat, train

import axiom_jax as ax
from axiom_jax import nn
from axiom_jax._errors import AxiomError

pytestmark = pytest.mark.thin(2)

PROGRAM = Path(__file__).with_name("runs_program.py")


@pytest.fixture(scope="module")
def whole() -> ax.TrainingResult:
    return train(None)


def start(folder: Path, out: Path) -> subprocess.Popen[str]:
    # from the second start on, what was compiled is read
    cache = {
        "JAX_COMPILATION_CACHE_DIR": str(folder.parent / "cache"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }
    command = [sys.executable, str(PROGRAM), str(folder), str(out)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ | cache)


def killed(folder: Path, out: Path, delay: float) -> bool:
    """Start the program, kill it after a delay from its first words; whether it was still running."""
    with start(folder, out) as process:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
        time.sleep(delay)
        process.send_signal(signal.SIGKILL)
        return process.wait() == -signal.SIGKILL


def newest(folder: Path) -> int:
    """The step of the newest checkpoint; there are two numbers a step."""
    return max((int(path.name) // 2 for path in folder.glob("*") if path.name.isdigit()), default=-1)


@pytest.mark.slow
def test_killed_and_resumed_run_ends_with_the_same_bits(tmp_path: Path) -> None:
    folder, out, unharmed = tmp_path / "run", tmp_path / "out.npy", tmp_path / "unharmed.npy"
    with start(tmp_path / "whole", unharmed) as process:
        assert process.wait(120) == 0
    for steps in (2, 12):  # killed as soon as there is a checkpoint of so many steps
        with start(folder, out) as process:
            deadline = time.monotonic() + 120
            while not newest(folder) >= steps and process.poll() is None and time.monotonic() < deadline:
                time.sleep(0.005)
            process.kill()
            process.wait()
    assert not out.exists() and newest(folder) >= 12
    with start(folder, out) as process:
        assert process.wait(120) == 0
    np.testing.assert_array_equal(np.load(out), np.load(unharmed))
    said = [path.with_suffix(".txt").read_text(encoding="utf-8") for path in (out, unharmed)]
    assert said[0] == said[1] and f"'steps': {11 * EPOCHS}," in said[0]


@pytest.mark.campaign
def test_twenty_kills_at_random_moments(tmp_path: Path, whole: ax.TrainingResult) -> None:
    drawn, kills = random.Random(0), 0
    for attempt in range(100):
        folder, out = tmp_path / f"run{attempt}", tmp_path / f"out{attempt}.npy"
        while kills < 20 and killed(folder, out, drawn.uniform(0, 4)):
            kills += 1
        if not out.exists():
            with start(folder, out) as process:
                assert process.wait(120) == 0
        np.testing.assert_array_equal(np.load(out), flat(whole.model.params))
        if kills == 20:
            return
    pytest.fail(f"only {kills} kills hit a running program")


def test_ctrl_c_keeps_what_is_there_and_the_run_goes_on(tmp_path: Path, whole: ax.TrainingResult) -> None:
    def stop(event: object) -> None:
        if getattr(event, "epoch", 0) == 2:
            signal.raise_signal(signal.SIGINT)

    before = signal.getsignal(signal.SIGINT)
    cut = train(tmp_path / "run", callbacks=[stop])
    assert cut.stopped == "interrupted" and len(cut.history) == 2 and cut.steps == 23  # one more step was done
    assert signal.getsignal(signal.SIGINT) is before
    assert np.isfinite(flat(cut.model.params)).all()
    resumed = train(tmp_path / "run")
    assert resumed.stopped is None
    np.testing.assert_array_equal(flat(resumed.model.params), flat(whole.model.params))


def test_finished_run_is_returned_at_once_and_can_be_extended(tmp_path: Path) -> None:
    first = train(tmp_path / "run", epochs=2)
    again = train(tmp_path / "run", epochs=2)
    assert again.history == first.history
    np.testing.assert_array_equal(flat(first.model.params), flat(again.model.params))
    longer = train(tmp_path / "run", epochs=4)
    np.testing.assert_array_equal(flat(longer.model.params), flat(train(None, epochs=4).model.params))


def test_a_folder_with_a_run_is_not_overwritten(tmp_path: Path) -> None:
    train(tmp_path / "run", epochs=1)
    with pytest.raises(AxiomError, match="has a run already") as error:
        train(tmp_path / "run", epochs=1, resume=False)
    assert "resume=True" in str(error.value.fix)


def test_a_checkpoint_of_another_model_is_refused(tmp_path: Path) -> None:
    train(tmp_path / "run", epochs=1)
    data = ax.make_moons(64)
    with pytest.raises(AxiomError, match="another model or optimizer") as error:
        ax.train(ax.Sequential(nn.Dense(2, 2)), data, checkpoint_dir=tmp_path / "run", resume=True, progress=False)
    assert "params/0_Dense" in str(error.value.got) or "only one" in str(error.value.got)


def test_a_checkpoint_of_other_data_is_refused(tmp_path: Path) -> None:
    train(tmp_path / "run", epochs=1)
    with pytest.raises(AxiomError, match="other data"):
        ax.train(
            ax.Sequential(nn.Dense(2, 32), nn.BatchNorm(32), nn.relu, nn.Dropout(0.2), nn.Dense(32, 2)),
            ax.make_moons(64), ax.AdamW(lr=0.01), schedule=ax.StepLR(1), metrics="accuracy", clip=1.0, accumulate=3,
            checkpoint_dir=tmp_path / "run", resume=True, progress=False,
        )  # fmt: skip


def test_a_broken_checkpoint_is_told(tmp_path: Path) -> None:
    train(tmp_path / "run", epochs=1)
    for file in (tmp_path / "run").rglob("*"):
        if file.is_file() and "state" in file.parts:
            file.write_bytes(b"{}")
    with pytest.raises(AxiomError, match="cannot be read"):
        train(tmp_path / "run")


def test_a_folder_that_cannot_be_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(AxiomError, match="cannot be a folder"):
        train(tmp_path / "file" / "run", epochs=1)
    with pytest.raises(AxiomError, match="cannot be a folder") as error:
        train(tmp_path / "file", epochs=1)
    assert str(tmp_path / "file") in str(error.value.got) and error.value.fix and error.value.at
    assert (tmp_path / "file").read_text() == ""


def test_early_stopping_is_remembered(tmp_path: Path) -> None:
    stop = ax.EarlyStopping(patience=1, monitor="loss", min_delta=1e9)
    first = train(tmp_path / "run", callbacks=[stop])
    assert first.stopped == "early" and len(first.history) == 2
    assert train(tmp_path / "run", callbacks=[stop]).steps == first.steps


def test_logs_are_those_of_the_whole_run(tmp_path: Path) -> None:
    log = ax.JSONLLogger(tmp_path / "log.jsonl")
    train(tmp_path / "run", epochs=1, callbacks=[log])
    train(tmp_path / "run", epochs=3, callbacks=[log])
    rows = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [row["epoch"] for row in rows] == [1, 2, 3]
