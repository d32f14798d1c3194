"""`ax.compile`: the record, inputs of all kinds, the choice of "auto", fallback, and files."""

import dataclasses
import json
import warnings
import zipfile

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import axiom_jax as ax
from axiom_jax import nn
from axiom_jax.model import Model, Signature
from axiom_jax.targets import compiling

RUNNING = ["xla", "onnxruntime", "openvino"]


@pytest.fixture(scope="module")
def model():
    return ax.Sequential(nn.Dense(4, 3), nn.relu, nn.Dense(3, 2), nn.softmax)


@pytest.fixture(scope="module")
def handles(model):
    found = {}
    for backend in RUNNING:
        if backend == "xla" or ax.backends()[backend].available:
            found[backend] = ax.compile(model, backend)
    return found


@pytest.mark.parametrize("backend", RUNNING)
def test_any_batch_size(model, handles, backend):
    if backend not in handles:
        pytest.skip(f"{backend} is not installed")
    draw = np.random.default_rng(0)
    for batch in (1, 2, 5, 2, 33):
        x = draw.standard_normal((batch, 4), np.float32)
        y = np.asarray(handles[backend](x))
        assert y.dtype == np.float32
        np.testing.assert_allclose(y, model(x), rtol=2e-6, atol=1e-7)


@given(batch=st.integers(1, 6), seed=st.integers(0, 2**16), scale=st.sampled_from([1e-3, 1.0, 1e3]))
def test_the_compiled_model_is_the_model(handles, model, batch, seed, scale):
    x = (np.random.default_rng(seed).standard_normal((batch, 4)) * scale).astype(np.float32)
    for handle in handles.values():
        np.testing.assert_allclose(np.asarray(handle(x)), model(x), rtol=1e-5, atol=1e-6)


def test_inputs_become_what_the_model_declares(model, handles):
    x = np.arange(8).reshape(2, 4)
    expected = np.asarray(model(x.astype(np.float32)))
    for handle in handles.values():
        for given_ in (x, x.astype(np.float64), x.tolist(), jnp.asarray(x, jnp.float32), x.astype(np.float16)):
            np.testing.assert_allclose(np.asarray(handle(given_)), expected, rtol=1e-6)


def test_wrong_inputs_are_told(model, handles):
    for handle in handles.values():
        with pytest.raises(ax.ShapeError, match=r"sequential cannot take its input"):
            handle(np.zeros((2, 5), np.float32))
        with pytest.raises(ax.AxiomError, match="takes 1 input"):
            handle(np.zeros((2, 4), np.float32), np.zeros((2, 4), np.float32))
        with pytest.raises(ax.AxiomError) as caught:
            handle(np.zeros((2, 4), np.complex64))
        assert caught.value.got == "x of dtype complex64; expected float32"


def test_several_inputs_and_outputs(handles):
    signature = Signature((("a", ("batch", 2), "float32"), ("b", ("batch", 2), "float32")))
    apply = lambda params, a, b: {"sum": params * (a + b), "both": (a, [b - a])}
    model = Model(apply, jnp.float32(2), signature, "two")
    a, b = np.ones((3, 2), np.float32), np.arange(6, dtype=np.float32).reshape(3, 2)
    expected = model(a, b)
    for backend in handles:
        found = ax.compile(model, backend)(a, b)
        assert sorted(found) == sorted(expected) and isinstance(found["both"], tuple)
        np.testing.assert_array_equal(np.asarray(found["sum"]), expected["sum"])
        np.testing.assert_array_equal(np.asarray(found["both"][1][0]), b - a)


def test_a_function_is_compiled():
    compiled = ax.compile(lambda x: x * 2, "xla")
    np.testing.assert_array_equal(compiled(np.ones(3, np.float32)), [2, 2, 2])


def test_what_is_no_model_is_told():
    with pytest.raises(ax.AxiomError) as caught:
        ax.compile(3)  # type: ignore[arg-type]
    assert (caught.value.what, caught.value.got) == ("This is no model.", "a value of type int")


def test_the_record_says_who_runs_it(model, handles):
    for backend, handle in handles.items():
        assert handle.record["requested"] == handle.record["used"] == handle.backend == backend
        assert handle.record["reason"] == "it was asked for by name"
        assert handle.record["precision"] == "float32"
        json.dumps(handle.record)
    assert handles["xla"].memory > 0 and handles["xla"].flops > 0


def test_auto_measures_and_takes_the_fastest(model):
    compiled = ax.compile(model, batch_size=8)
    record = compiled.record
    assert record["requested"] == "auto"
    measured = record.get("seconds", {})
    if measured:
        assert "xla" in measured and record["used"] in measured
        assert measured[record["used"]] <= measured["xla"]
        assert record["reason"].startswith("the fastest on float32[8, 4]: ")
    np.testing.assert_allclose(np.asarray(compiled(np.ones((8, 4), np.float32))), model(np.ones((8, 4))), rtol=1e-5)


def test_auto_keeps_to_xla_where_nothing_can_be_measured():
    model = ax.Sequential(nn.Conv(1, 2), nn.relu)
    record = ax.compile(model).record
    assert record["used"] == "xla" and "give example=" in record["reason"]


def test_auto_runs_what_others_cannot():
    def sort_of(params, x):
        return jnp.linalg.eigvalsh(x @ jnp.swapaxes(x, 1, 2))

    compiled = ax.compile(Model(sort_of, {}, Signature((("x", ("batch", 3, 3), "float32"),)), "spectrum"))
    assert compiled.record["used"] == "xla"
    assert compiled(np.ones((2, 3, 3), np.float32)).shape == (2, 3)


def test_the_environment_says_the_default(model, monkeypatch):
    monkeypatch.setenv("AXIOM_BACKEND", "cpu")
    assert ax.compile(model).record == ax.compile(model, "cpu").record | {"reason": "AXIOM_BACKEND asks for it"}
    assert ax.compile(model, "xla").record["used"] == "xla"  # by name is by name
    monkeypatch.setenv("AXIOM_BACKEND", "gpus")
    with pytest.raises(ax.BackendUnavailable, match="There is no backend 'gpus'"):
        ax.compile(model)


def test_a_missing_default_is_replaced_with_one_warning(model, monkeypatch):
    monkeypatch.setenv("AXIOM_BACKEND", "tpu")
    monkeypatch.setattr(compiling, "_warned", set())
    with pytest.warns(UserWarning, match="AXIOM_BACKEND=tpu: tpu cannot run here"):
        first = ax.compile(model)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        second = ax.compile(model)
    for compiled in (first, second):
        assert compiled.record["requested"] == "tpu" and compiled.record["used"] != "tpu"
        assert compiled.record["reason"].startswith("tpu cannot run here (")
    with pytest.raises(ax.BackendUnavailable):
        ax.compile(model, "tpu")


def test_unknown_options_are_refused(model):
    with pytest.raises(ax.BackendUnavailable, match="The backend xla has no option 'threads'"):
        ax.compile(model, "xla", options={"threads": 2})


@pytest.mark.parametrize("backend", RUNNING)
def test_save_and_load(handles, backend, tmp_path):
    if backend not in handles:
        pytest.skip(f"{backend} is not installed")
    path, x = tmp_path / "model.compiled", np.random.default_rng(1).standard_normal((3, 4), np.float32)
    handles[backend].save(path)
    loaded = ax.Compiled.load(path)
    assert loaded.backend == backend and [p.name for p in tmp_path.iterdir()] == ["model.compiled"]
    for batch in (1, 3):
        np.testing.assert_allclose(np.asarray(loaded(x[:batch])), np.asarray(handles[backend](x[:batch])), rtol=1e-6)


def test_options_are_kept_in_the_file(model, tmp_path, monkeypatch):
    path, x = tmp_path / "a.compiled", np.ones((2, 4), np.float32)
    compiled = ax.compile(model, "xla", options={"xla": {"xla_cpu_enable_fast_math": False}})
    assert compiled.record["options"] == {"xla": {"xla_cpu_enable_fast_math": False}}
    compiled.save(path)
    given, jit = [], jax.jit
    monkeypatch.setattr(jax, "jit", lambda f, **more: given.append(more.get("compiler_options")) or jit(f, **more))
    loaded = ax.Compiled.load(path)
    monkeypatch.undo()
    assert given == [{"xla_cpu_enable_fast_min_max": False, "xla_cpu_enable_fast_math": False}]
    assert loaded.record["options"] == compiled.record["options"]
    np.testing.assert_allclose(loaded(x), model(x), rtol=1e-6)
    loaded.save(path)
    assert ax.Compiled.load(path).record["options"] == compiled.record["options"]
    assert "options" not in ax.compile(model, "xla").record


def test_threads_are_kept_in_the_file(model, tmp_path, monkeypatch):
    onnx_runtime = pytest.importorskip("axiom_jax.targets.onnx_runtime")
    pytest.importorskip("onnxruntime")
    given, session = [], onnx_runtime.session
    keeping = lambda payload, threads, *more: given.append(threads) or session(payload, threads, *more)
    monkeypatch.setattr(onnx_runtime, "session", keeping)
    ax.compile(model, "onnxruntime", options={"threads": 1}).save(tmp_path / "a.compiled")
    assert ax.Compiled.load(tmp_path / "a.compiled").record["options"] == {"threads": 1} and given == [1, 1]


def test_options_that_a_file_cannot_hold_are_refused_by_name(model, tmp_path):
    compiled = ax.compile(model, "xla")
    for value in (object(), float("nan"), {1: 2}, [b"a"]):
        told = dataclasses.replace(compiled, record=compiled.record | {"options": {"cache": value}})
        with pytest.raises(ax.ModelError, match="options of a compiled model cannot be kept") as caught:
            told.save(tmp_path / "a.compiled")
        assert caught.value.got == "cache is no text, number, list or map" and not list(tmp_path.iterdir())
    dataclasses.replace(compiled, record=compiled.record | {"options": {"hats": 2}}).save(tmp_path / "a.compiled")
    with pytest.raises(ax.ModelError, match="an option that its backend does not know") as caught:
        ax.Compiled.load(tmp_path / "a.compiled")
    assert caught.value.got == "xla has no option 'hats'"


def test_a_file_that_cannot_be_written_is_told(model, tmp_path):
    (tmp_path / "file").write_text("")
    for place in ("none/a.compiled", "file/a.compiled"):
        with pytest.raises(ax.ModelError, match="The compiled model cannot be written") as caught:
            ax.compile(model, "xla").save(tmp_path / place)
        assert caught.value.at == str(tmp_path / place) and "irectory" in caught.value.got and caught.value.fix
    (tmp_path / "folder").mkdir()
    with pytest.raises(ax.ModelError, match="The compiled model cannot be written"):
        ax.compile(model, "xla").save(tmp_path / "folder")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "folder"]


def test_damaged_files_are_told(handles, tmp_path):
    path = tmp_path / "model.compiled"
    with pytest.raises(ax.ModelError, match="There is no such file"):
        ax.Compiled.load(path)
    path.write_bytes(b"PK no zip")
    with pytest.raises(ax.ModelError, match="This is no compiled model"):
        ax.Compiled.load(path)
    handles["xla"].save(path)
    with zipfile.ZipFile(path) as archive:
        manifest, payload = json.loads(archive.read("manifest.json")), archive.read("payload")

    def written(manifest, payload):
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("manifest.json", json.dumps(manifest))
            archive.writestr("payload", payload)

    written(manifest, payload[:-1] + b"?")
    with pytest.raises(ax.ModelError, match="This compiled model is damaged"):
        ax.Compiled.load(path)
    written(manifest | {"format": "axiom.compiled.v9"}, payload)
    with pytest.raises(ax.ModelError, match="another format"):
        ax.Compiled.load(path)
    for key in manifest:
        written({k: v for k, v in manifest.items() if k != key}, payload)
        with pytest.raises(ax.ModelError, match="This is no compiled model"):
            ax.Compiled.load(path)


def test_threads_may_call_one_handle(handles):
    from concurrent.futures import ThreadPoolExecutor

    x = np.random.default_rng(2).standard_normal((16, 3, 4), np.float32)
    for handle in handles.values():
        expected = [np.asarray(handle(part)) for part in x]
        with ThreadPoolExecutor(4) as pool:
            found = list(pool.map(lambda part, handle=handle: np.asarray(handle(part)), x))
        np.testing.assert_array_equal(found, expected)


def test_iree_compiles_runs_and_saves(model, tmp_path):
    pytest.importorskip("iree.compiler", reason="the extra iree is not installed")
    compiled = ax.compile(model, "iree")
    with pytest.raises(ax.AxiomError, match="no compiled code to save"):
        compiled.save(tmp_path / "model.compiled")
    x = np.random.default_rng(3).standard_normal((2, 4), np.float32)
    np.testing.assert_allclose(compiled(x), model(x), rtol=1e-6)
    compiled.save(tmp_path / "model.compiled")
    loaded = ax.Compiled.load(tmp_path / "model.compiled")
    np.testing.assert_array_equal(loaded(x), compiled(x))
    with pytest.raises(ax.BackendUnavailable, match="holds no code for such inputs"):
        loaded(x[:1])


def test_openvino_reports_nothing_when_it_is_imported():
    """Its converter sends a report from a fork of the process; the fork alone may hang one that runs JAX."""
    pytest.importorskip("openvino", reason="the extra openvino is not installed")
    import subprocess
    import sys

    code = (
        "import os, sys, jax; jax.devices(); os.register_at_fork(before=lambda: print('forked', flush=True))\n"
        "from axiom_jax.targets.openvino import library\n"
        "library(); assert 'openvino_telemetry' not in sys.modules\n"
        "import openvino.tools.ovc\n"  # whoever asks for it gets it
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stderr
    alone = code.rsplit("\n", 2)[0]
    run = subprocess.run([sys.executable, "-c", alone], capture_output=True, text=True, timeout=120)
    assert run.returncode == 0 and "forked" not in run.stdout
