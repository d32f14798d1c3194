"""The conformance test: it passes what is right, and fails what is not."""

import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import replace

import numpy as np
import pytest

import axiom_jax as ax
from axiom_jax.targets import conforming
from axiom_jax.targets.choosing import host
from axiom_jax.targets.compiling import compile

pytestmark = pytest.mark.thin(2)

PLUGINS = {"lammps_jax_pjrt_cpu": "pjrt:lammps_jax_pjrt_cpu", "xla_plugins.xla_cpu_pjrt": "pjrt:xla_cpu_pjrt"}


SOME = ["cnn", "softmax", "comparisons"]


@pytest.mark.slow
def test_xla_passes():
    found = ax.conformance("xla", nets=SOME)
    assert found.passed and bool(found), str(found)
    assert {check.net for check in found} == {"scaled", *SOME}
    assert found.to_dict()["record"]["used"] == "xla"


def test_onnxruntime_passes():
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    found = ax.conformance("onnxruntime", nets=SOME)
    assert found.passed, str(found)


@pytest.mark.filterwarnings("ignore:os.fork:RuntimeWarning")  # openvino starts a program, JAX warns of that
@pytest.mark.slow
def test_openvino_passes():
    pytest.importorskip("openvino", reason="the extra openvino is not installed")
    found = ax.conformance("openvino", nets=SOME)
    assert found.passed, str(found)


@pytest.mark.campaign
@pytest.mark.parametrize("backend", ["xla", "onnxruntime", "openvino"])
def test_every_net_passes(backend):
    found = ax.conformance(backend)
    assert found.passed, str(found)
    assert {check.net for check in found} == {"scaled", *conforming.NETS}


@pytest.mark.slow
def test_iree_passes_on_a_net():
    pytest.importorskip("iree.compiler", reason="the extra iree is not installed")
    found = ax.conformance("iree", nets=["softmax"])
    assert found.passed, str(found)


@pytest.mark.campaign
def test_iree_passes():
    pytest.importorskip("iree.compiler", reason="the extra iree is not installed")
    found = ax.conformance("iree")
    assert found.passed, str(found)


@pytest.mark.parametrize("package", PLUGINS)
def test_pjrt_plugins_pass(package):
    pytest.importorskip(package, reason=f"the package {package} is not installed")
    found = ax.conformance(PLUGINS[package])
    assert found.passed, str(found)


def broken(run):
    """The XLA handle of a model with its results changed by `run(x, y)`."""

    def make(model, backend):
        handle = compile(model, "xla")
        executable = replace(handle.executable, run=lambda x: run(x, host(handle.executable.run(x))[0]))
        return replace(handle, executable=executable)

    return make


@pytest.mark.parametrize(
    ("what", "run"),
    [
        ("batches of", lambda x, y: y + np.float32(1e-3) * np.abs(y).max()),
        ("batches of", lambda x, y: (np.round(y * np.float32(1e3)) / np.float32(1e3)).astype(np.float32)),
        ("batches of", lambda x, y: y.astype(np.float64)),
        ("NaN in one row", lambda x, y: np.nan_to_num(y)),
        ("NaN in one row", lambda x, y: np.full_like(y, np.nan) if np.isnan(x).any() else y),
        ("certified bounds", lambda x, y: y + np.float32(5) * (len(y) == 16)),
        ("the same bits", lambda x, y, flip=[0]: _nudged(y, flip)),
    ],
)
def test_a_wrong_backend_fails(monkeypatch, what, run):
    """Results that are off, rounded, in another dtype, without NaN, with NaN elsewhere, not repeatable."""
    monkeypatch.setattr(conforming, "compile", broken(run))
    found = conforming.conformance("xla", nets=["mlp"])
    assert not found.passed
    assert any(check.passed is False and check.check.startswith(what) for check in found), str(found)


def _nudged(y, flip):
    flip[0] ^= 1
    return np.nextafter(y, np.float32(np.inf)) if flip[0] else y


def test_the_reference_is_float64():
    model = conforming.NETS["mlp"]()
    x = np.random.default_rng(0).uniform(-1, 1, (4, 12)).astype(np.float32)
    w = {name: {k: np.asarray(v, np.float64) for k, v in layer.items()} for name, layer in model.params.items()}
    a, b, c = w.values()
    y = np.tanh(np.maximum(x @ a["kernel"] + a["bias"], 0) @ b["kernel"] + b["bias"]) @ c["kernel"] + c["bias"]
    (found,) = conforming.in_float64(model, x)
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, y, rtol=1e-13, atol=1e-15)


def test_unknown_nets_are_told():
    with pytest.raises(ax.AxiomError, match="There is no such net"):
        ax.conformance("xla", nets=["resnet"])


def test_a_pjrt_library_that_is_none_is_told():
    with tempfile.NamedTemporaryFile(suffix=".so") as file:
        file.write(b"no library")
        file.flush()
        with pytest.raises(ax.BackendUnavailable) as caught:
            ax.conformance(f"pjrt:{file.name}")
    assert "its plugin fails" in str(caught.value.got) and os.path.basename(file.name) in str(caught.value.got)


@pytest.mark.skipif(shutil.which("cc") is None, reason="there is no C compiler")
def test_a_pjrt_library_that_kills_the_process_is_told(tmp_path):
    """A real shared object that aborts when it is loaded."""
    code = "#include <stdlib.h>\n__attribute__((constructor)) static void f(void) { abort(); }\n"
    (tmp_path / "bad.c").write_text(code)
    subprocess.run(["cc", "-shared", "-fPIC", "-o", tmp_path / "pjrt_bad.so", tmp_path / "bad.c"], check=True)
    with pytest.raises(ax.BackendUnavailable) as caught:
        ax.compile(conforming.NETS["mlp"](), f"pjrt:{tmp_path / 'pjrt_bad.so'}")
    assert caught.value.got == "its library kills the process (SIGABRT)"


def test_the_command_answers_by_its_status():
    from axiom_jax.cli import main

    for arguments, status in ((["conformance", "--backend", "no-such"], 2), (["conformance", "--backend", "fpga"], 2)):
        with pytest.raises(SystemExit) as left:
            main(arguments)
        assert left.value.code == status


def test_the_command_prints_one_json_object():
    code = "from axiom_jax.cli import main; main(['backends', '--json'])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    import json

    found = json.loads(run.stdout.splitlines()[-1])
    assert run.returncode == 0 and found["xla"]["available"] and {"reason", "devices", "fix"} <= set(found["cuda"])
