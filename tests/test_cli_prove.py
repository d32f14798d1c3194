"""`axiom prove`: keys, exit codes, certificates, sizes, and what is said of mistakes."""

import os
import signal
import subprocess
import sys
import time
from functools import partial

import pytest
from cli_helpers import last, run

import axiom_jax as ax
from axiom_jax import nn

KEYS = {"verdict", "vnncomp", "levels", "checked", "seconds", "compile_seconds", "check_seconds", "bound",
        "certificate", "counterexample", "reason"}  # fmt: skip


@pytest.fixture
def axiom(capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    return partial(run, capsys)


def test_proved_with_a_certificate_that_is_checked_again(axiom, tmp_path):
    path = str(tmp_path / "softmax.cert")
    status, out, _ = axiom("prove", "∀x. sum(softmax(x)) == 1.0", "--timeout", "20", "--json", "--certificate", path)
    found = last(out)
    assert status == 0 and set(found) == KEYS
    assert (found["verdict"], found["vnncomp"], found["levels"]) == ("proved", "unsat", ["real"])
    assert found["certificate"] == path and found["checked"] and found["counterexample"] is None
    status, out, _ = axiom("check", path)
    assert status == 0 and out.startswith("accepted\n")


def test_refuted(axiom):
    status, out, _ = axiom("prove", "∀x. relu(x) - 5 >= 0", "--json")
    found = last(out)
    assert status == 1 and found["vnncomp"] == "sat"
    assert found["counterexample"]["variables"]["x"] == found["counterexample"]["inputs"]
    status, out, _ = axiom("prove", "∀x. relu(x) - 5 >= 0")
    assert status == 1 and out.startswith("refuted ∀x. relu(x) - 5 >= 0") and "x = [0]" in out


def test_a_statement_about_the_model_of_a_file(axiom, tmp_path):
    path = str(tmp_path / "net.axiom")
    ax.save_model(ax.Sequential(nn.Dense(2, 3), nn.relu, nn.Dense(3, 1), nn.sigmoid), path)
    status, out, _ = axiom("verify", path, "∀x ∈ [0, 1]^2. model(x) <= 1", "--json")
    found = last(out)
    assert status == 0 and set(found) == KEYS and found["verdict"] == "proved"
    assert axiom("verify", path, "forall x in [0, 1]^2. model(x) <= 0", "--json")[0] == 1
    assert axiom("verify", path, "∀x ∈ [0, 1]^2. model(x) <= 1", "--json", "--require-level", "float32")[0] == 3
    status, out, _ = axiom("verify", path, "∀x ∈ [0, 1]^2. net(x) <= 1", "--json")
    assert status == 2 and last(out)["error"]["what"]


def test_sizes(axiom):
    status, out, _ = axiom("prove", "∀x. sum(x * 0) = 0", "--sizes", "n=3")
    assert status == 0 and "(at n = 3)" in out
    status, out, err = axiom("prove", "∀x. relu(x) >= 0", "--sizes", "m=3", "--json")
    assert status == 2 and last(out)["error"]["at"] == "--sizes" and "fix" in err


def test_unchecked_is_claimed(axiom):
    status, out, _ = axiom("prove", "∀x. relu(x) >= 0", "--no-check", "--json")
    found = last(out)
    assert status == 3 and (found["verdict"], found["vnncomp"], found["checked"]) == ("claimed", "unsat", False)


def test_out_of_time_is_unknown(axiom):
    status, out, _ = axiom("prove", "∀x. relu(x) >= 0", "--timeout", "0", "--json")
    found = last(out)
    assert status == 3 and (found["verdict"], found["vnncomp"]) == ("unknown", "timeout")


def test_mistakes(axiom, tmp_path):
    status, out, err = axiom("prove", "∀x. rellu(x) >= 0", "--json")
    assert status == 2 and last(out)["error"]["fix"] == "did you mean relu?"
    assert "^^^^^^^^" in err
    missing = str(tmp_path / "none" / "x.cert")
    assert axiom("prove", "∀x. relu(x) >= 0", "--certificate", missing)[0] == 2
    assert axiom("prove", "∀x. f(x) >= 0", "--model", "f")[0] == 2


def test_models_by_name(axiom, tmp_path):
    import axiom_jax as ax
    from axiom_jax import nn

    path = tmp_path / "f.axiom"
    ax.save_model(ax.Sequential(nn.Dense(2, 2), nn.relu), path)
    status, out, _ = axiom("prove", "∀x. f(x) >= 0", "--model", f"f={path}", "--timeout", "20", "--json")
    assert status == 0 and last(out)["verdict"] == "proved"


def test_interrupted_prints_what_is_known(tmp_path):
    left = "sum(tanh(x * y + w) * sin(z + exp(x)) * tanh(w * z) * cos(x * y))"
    text = f"∀x, y, z, w. {left} <= sum(sin(x * y * z) * tanh(w + x + z)) + 1e9 * n"
    script = "from axiom_jax import _cli_prove, cli; print('ready', flush=True); cli.main()"
    command = [sys.executable, "-c", script, "prove", text, "--timeout", "60", "--json"]
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "XDG_CACHE_HOME": str(tmp_path)}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
        time.sleep(1.5)
        while process.poll() is None:  # JAX may swallow what comes while it starts
            time.sleep(1.5)
            process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=60)
    found = last(out)
    assert process.returncode == 3
    assert "interrupted" in str(found.get("reason") or found["error"]["what"]).lower(), found
