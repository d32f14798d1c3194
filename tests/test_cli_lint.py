"""`axiom lint` as a user meets it."""

import cli_helpers
import pytest
from cli_helpers import last

SOURCE = """
import jax.numpy as jnp
import axiom_jax as ax
from axiom_jax import nn
from jaxtyping import Array, Float

model = ax.Sequential(nn.Dense(4, 3), nn.softmax)

def odds(p: Float[Array, "n"]):
    return p / (1 - p)
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(SOURCE)
    return tmp_path


def run(capsys, *arguments: str) -> tuple[int, str, str]:
    return cli_helpers.run(capsys, "lint", *arguments)


def test_a_clean_model_and_a_dangerous_function(folder, capsys):
    assert run(capsys, "mine.py:model", "--strict")[0] == 0
    status, out, _ = run(capsys, "mine.py:odds", "--region", "0,1", "--json")
    found = last(out)
    assert status == 1 and [f["rule"] for f in found["findings"] if f["severity"] == "error"] == ["division"]
    assert run(capsys, "mine.py:odds", "--region", "0,0.5")[0] == 0


@pytest.mark.parametrize("target, word", [("mine.py:other", "odds"), ("none.py:model", "no such file"),
                                          ("mine.py", "named"), ("absent.onnx", "no such file")])  # fmt: skip
def test_bad_input_is_one_message(folder, capsys, target, word):
    status, out, err = run(capsys, target, "--json")
    assert status == 2 and word in err and last(out)["error"]["what"]


def test_a_file_that_ends_the_program_is_an_error(folder, capsys):
    (folder / "script.py").write_text("import sys\nsys.exit(0)\n")
    status, out, _ = run(capsys, "script.py:model", "--json")
    assert status == 2 and "SystemExit" in last(out)["error"]["got"]


@pytest.mark.parametrize("arguments, at", [
    (["mine.py:model", "--region", "1,0"], "--region"), (["mine.py:model", "--region", "a,b"], "--region"),
    (["mine.py:model", "--backend", "abacus"], "--backend"), (["mine.py:jnp"], "mine.py:jnp"),
])  # fmt: skip
def test_errors_name_what_they_are_about(folder, capsys, arguments, at):
    status, out, _ = run(capsys, *arguments, "--json")
    error = last(out)["error"]
    assert status == 2 and error["at"] == at and error["fix"]


def test_known_backends_are_taken(folder, capsys):
    assert run(capsys, "mine.py:model", "--backend", "cpu")[0] == 0
