"""The example scripts as a CI job runs them: from a model to a certificate that was checked."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from onnx import parser

import axiom_jax as ax

EXAMPLES = Path(__file__).parents[1] / "examples"
ONNX = """<ir_version: 8, opset_import: ["": 17]> net (float[n, 2] x) => (float[n, 1] y)
<float[2, 1] w = {1, -1}, float[2] b = {0.5, 0.25}> { h = Add(x, b) a = Relu(h) y = MatMul(a, w) }"""
NAMES = "(declare-const X_0 Real)(declare-const X_1 Real)(declare-const Y_0 Real)"
BOX = "(assert (>= X_0 -1))(assert (<= X_0 1))(assert (>= X_1 -0.5))(assert (<= X_1 0.1))"


def run(name, folder, *arguments):
    """The script in a process of its own; runs of one test share a compilation cache."""
    command = [sys.executable, str(EXAMPLES / name), *map(str, arguments)]
    cache = {"JAX_COMPILATION_CACHE_DIR": str(folder / "cache"), "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.1"}
    env = os.environ | cache | {"JAX_PLATFORMS": "cpu"}
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=300)


@pytest.fixture
def files(tmp_path):
    (tmp_path / "net.onnx").write_bytes(parser.parse_model(ONNX).SerializeToString())
    (tmp_path / "holds.vnnlib").write_text(NAMES + BOX + "(assert (>= Y_0 1000))")
    (tmp_path / "fails.vnnlib").write_text(NAMES + BOX + "(assert (<= Y_0 0))")
    return tmp_path


def test_a_property_of_an_onnx_file_is_certified(files):
    done = run("certify_onnx.py", files, "net.onnx", "holds.vnnlib", "--package", "net.axiom")
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["accepted"] and said["verdict"] == "proved" and said["levels"] == ["real"]
    assert ax.check_certificate(files / "out.cert", ax.load_model(files / "net.axiom")).accepted


@pytest.mark.slow
def test_a_property_that_fails_and_bad_input_have_their_exit_status(files):
    done = run("certify_onnx.py", files, "net.onnx", "fails.vnnlib")
    assert done.returncode == 1 and json.loads(done.stdout)["verdict"] == "refuted"
    done = run("certify_onnx.py", files, "nowhere.onnx", "holds.vnnlib")
    assert done.returncode == 2 and "nowhere.onnx" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.slow
def test_a_jax_model_is_trained_certified_and_packed(tmp_path):
    done = run("certify_jax.py", tmp_path, "--points", 3, "--eps", "0.05", "--epochs", 25)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["proved"] >= 2 and said["accepted"] == said["proved"] and said["accuracy"] >= 0.8
    model = ax.load_model(tmp_path / "model.axiom")
    assert model(np.zeros((1, 2), np.float32)).shape == (1, 2)
    again = run("certify_jax.py", tmp_path, "--model", "model.axiom", "--points", 1, "--eps", "0.05", "--out", "two")
    assert again.returncode == 0 and (tmp_path / "two" / "model.axiom").is_file()
