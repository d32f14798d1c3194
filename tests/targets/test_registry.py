"""Which backends there are: ours, plugins of packages, broken ones, absent ones with the reason and what to install."""

import io
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import axiom_jax as ax
from axiom_jax import nn
from axiom_jax.targets import registry
from axiom_jax.targets.probing import probe_apart
from axiom_jax.targets.target import Probe

ROOT = Path(__file__).parents[2]
PLUGIN = """
from axiom_jax.targets.target import Executable, Probe, Target
import os

def compile(model, inputs, options):
    return Executable(lambda *x: model(*x), lambda: b"", lambda: {"device": "echo:0", "precision": "float32"})

GOOD = Target("echo", "calls the model", lambda: Probe(True, "always here", "1.0", ("echo:0",)), compile, None)
CRASH = Target("crash", "kills its process", os.abort, compile, None)
RAISES = Target("raises", "cannot be probed", lambda: 1 / 0, compile, None)
SILENT = Target("silent", "ends its process", lambda: os._exit(7), compile, None)
SLOW = Target("slow", "never answers", lambda: __import__("time").sleep(60), compile, None)
NOT_A_TARGET = 3
"""
NAMES = {"echo": "GOOD", "crash": "CRASH", "raises": "RAISES", "silent": "SILENT", "number": "NOT_A_TARGET",
         "missing": "NO_SUCH_NAME", "xla": "GOOD"}  # fmt: skip


@pytest.fixture
def plugin(tmp_path, monkeypatch):
    """An installed package with good and bad backends."""
    (tmp_path / "axiom_echo.py").write_text(PLUGIN)
    (tmp_path / "axiom_dies.py").write_text("import os\nos.abort()\n")
    info = tmp_path / "axiom_echo-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: axiom-echo\nVersion: 1.0\n")
    lines = [f"{name} = axiom_echo:{value}" for name, value in NAMES.items()]
    lines += ["dies = axiom_dies:TARGET", "absent = axiom_no_such_module:TARGET"]
    (info / "entry_points.txt").write_text("[axiom_jax.backends]\n" + "\n".join(lines) + "\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    registry._probed.cache_clear()
    yield
    registry._probed.cache_clear()
    sys.modules.pop("axiom_echo", None)


def test_pyproject_names_our_own():
    written = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["entry-points"]
    assert written[registry.GROUP] == registry.OWN


def test_every_own_target_loads_with_its_name():
    for name, entry in registry.entries().items():
        if entry.own:
            assert entry.load().name == name


def test_defining_modules_load_nothing_heavy():
    modules = sorted({value.partition(":")[0] for value in registry.OWN.values()})
    code = f"import sys, {', '.join(modules)}\nprint(*[n for n in ('jax', 'onnx', 'onnxruntime', 'openvino', 'iree') " \
           "if n in sys.modules])"  # fmt: skip
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert run.stdout.split() == []


def test_a_plugin_is_found_probed_and_run(plugin):
    assert registry.probe(registry.entry_of("echo")) == Probe(True, "always here", "1.0", ("echo:0",))
    model = ax.Sequential(nn.Dense(3, 2))
    compiled = ax.compile(model, "echo")
    assert compiled.record["used"] == "echo" and compiled.record["device"] == "echo:0"
    assert compiled([[1.0, 2.0, 3.0]]).shape == (1, 2)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("crash", "its library kills the process (SIGABRT)"),
        ("dies", "its library kills the process (SIGABRT)"),
        ("raises", "its plugin fails: ZeroDivisionError: division by zero"),
        ("silent", "the probe ended with status 7"),
        ("number", "its plugin fails: TypeError: axiom_echo:NOT_A_TARGET is a int, not an "
                   "axiom_jax.targets.target.Target"),
        ("missing", "its plugin fails: AttributeError: module 'axiom_echo' has no attribute 'NO_SUCH_NAME'"),
        ("absent", "its plugin fails: ModuleNotFoundError: No module named 'axiom_no_such_module'"),
    ],
)  # fmt: skip
def test_a_bad_plugin_is_told_and_does_no_harm(plugin, name, reason):
    with pytest.raises(ax.BackendUnavailable) as caught:
        ax.compile(ax.Sequential(nn.Dense(3, 2)), name)
    error = caught.value
    assert (error.what, error.got) == (f"The backend {name} cannot run here.", reason)
    assert error.fix and error.fix.startswith("update or remove the package of axiom_")


def test_a_probe_that_hangs_is_killed(plugin):
    (found,) = probe_apart([("axiom_echo:SLOW", "", False)], seconds=3)
    assert (found.available, found.reason) == (False, "the probe did not answer in 3 s")


def test_a_name_that_is_taken_stays_ours(plugin):
    assert registry.entry_of("xla").own
    assert registry.entry_of("axiom-echo/xla").value == "axiom_echo:GOOD"


def test_the_table_lists_everything(plugin):
    table = ax.backends()
    assert {row.name for row in table} >= {*registry.OWN, "echo", "crash"}
    assert table["xla"].available and table["echo"].available and not table["crash"].available
    assert table["echo"].package == "axiom-echo" and table["xla"].package == "axiom-jax"
    for row in table:
        assert row.available == (not row.fix) or row.available, row
        assert row.reason and (row.available or row.fix), row
    text = str(table)
    assert "always here" in text and "SIGABRT" in text and len(text.splitlines()) == len(table.rows) + 1
    assert table._repr_html_().count("<tr>") == len(table.rows) + 1
    from rich.console import Console

    console = Console(width=200, record=True, file=io.StringIO())
    console.print(table)
    assert "SIGABRT" in console.export_text()


@pytest.mark.parametrize(
    ("name", "got", "fix"),
    [
        ("cuda", "JAX_PLATFORMS=cpu leaves it out", "pip install 'jax[cuda13]'"),
        ("rocm", "JAX_PLATFORMS=cpu leaves it out", "pip install 'jax[rocm]'"),
        ("metal", "JAX_PLATFORMS=cpu leaves it out", "pip install jax-metal"),
        ("tpu", "JAX_PLATFORMS=cpu leaves it out", "pip install 'jax[tpu]'"),
        ("npu", "OpenVINO finds no NPU", "intel-npu-driver"),
        ("dsp", "onnxruntime has no QNNExecutionProvider here", "pip install onnxruntime-qnn"),
        ("fpga", "a bitstream is synthesised for one board in hours", "use hls4ml and Vitis by hand"),
        ("pjrt:/no/such/plugin.so", "no such PJRT plugin is found here", "backend='pjrt:/path/to/plugin.so'"),
    ],
)
@pytest.mark.filterwarnings("ignore:os.fork:RuntimeWarning")  # openvino starts a program, JAX warns of that
def test_absent_backends_say_what_to_install(name, got, fix, monkeypatch):
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    if name == "npu":
        pytest.importorskip("openvino", reason="the extra openvino is not installed")
    entry = registry.entry_of(name)
    if registry.probe(entry).available:
        pytest.skip(f"this machine has {name}")
    with pytest.raises(ax.BackendUnavailable) as caught:
        ax.compile(ax.Sequential(nn.Dense(3, 2)), name)
    error = caught.value
    assert error.what == f"The backend {name} cannot run here."
    assert got in str(error.got) and fix in str(error.fix) and "test_registry.py" in str(error.at)


def test_an_unknown_name_lists_the_known():
    with pytest.raises(ax.BackendUnavailable) as caught:
        ax.compile(ax.Sequential(nn.Dense(3, 2)), "gpu9000")
    assert str(caught.value).splitlines()[0] == "There is no backend 'gpu9000'."
    assert caught.value.fix == f"use one of {', '.join(['auto', *registry.entries()])}"


def test_lower_precision_has_to_be_allowed():
    from axiom_jax.targets import choosing
    from axiom_jax.targets.target import Capabilities, Executable, Target

    executable = Executable(lambda x: x, bytes)
    half = Target("half", "", lambda: Probe(True, ""), lambda *_: executable, lambda *_: executable,
                  lambda *_: Capabilities(precision="float16"), options={"precision": None})  # fmt: skip
    model = ax.Sequential(nn.Dense(3, 2))
    with pytest.raises(ax.BackendUnavailable) as caught:
        choosing.compiled(half, model, model.signature.inputs, {})
    assert str(caught.value).splitlines()[0] == "The backend half computes in float16."
    assert caught.value.fix == "allow it: options={'precision': 'float16'}"
    assert choosing.compiled(half, model, model.signature.inputs, {"precision": "float16"}) is executable
