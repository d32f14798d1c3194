"""Programs that outlive the process: what is kept, what is found again, and that nothing else is touched."""

import json
import subprocess
import sys

import jax
import numpy as np
import pytest

import axiom_jax as ax
from axiom_jax import nn
from axiom_jax.targets import caching

CODE = """
import sys, json, axiom_jax as ax
from axiom_jax import nn
found = ax.precompile(ax.Sequential(nn.Dense(6, 5), nn.tanh), batch_sizes=[1, 4], cache=sys.argv[1])
print(json.dumps(found.to_dict()))
"""


@pytest.mark.slow
def test_a_later_process_finds_the_programs(tmp_path):
    runs = [subprocess.run([sys.executable, "-c", CODE, str(tmp_path)], capture_output=True, text=True, timeout=120)
            for _ in range(2)]  # fmt: skip
    first, second = (json.loads(run.stdout.splitlines()[-1])["rows"] for run in runs)
    assert [row["hit"] for row in first] == [False, False]
    assert [row["hit"] for row in second] == [True, True]
    assert [row["batch"] for row in second] == [1, 4]


def test_the_cache_is_on_inside_only(tmp_path):
    before = {name: getattr(jax.config, name) for name in (*caching.SETTINGS, "jax_compilation_cache_dir")}
    ready = ax.precompile(ax.Sequential(nn.Dense(3, 2)), [2], cache=tmp_path / "kept")
    assert {name: getattr(jax.config, name) for name in before} == before
    kept = len(list((tmp_path / "kept" / "xla").iterdir()))
    assert kept > 0
    jax.jit(lambda x: x * 3.25)(np.ones(7, np.float32))
    assert len(list((tmp_path / "kept" / "xla").iterdir())) == kept
    assert ready(np.ones((2, 3), np.float32)).shape == (2, 2)
    assert "from the cache" in str(ready) and "<table>" in ready._repr_html_()


def test_an_error_inside_restores_the_settings(tmp_path):
    before = jax.config.jax_compilation_cache_dir
    with pytest.raises(KeyError), caching.cached(tmp_path):
        assert jax.config.jax_compilation_cache_dir == str(tmp_path / "xla")
        raise KeyError
    assert jax.config.jax_compilation_cache_dir == before


def test_what_auto_chose_is_remembered(tmp_path):
    model = ax.Sequential(nn.Dense(6, 5), nn.tanh)
    first = ax.compile(model, batch_size=2, cache=tmp_path)
    second = ax.compile(model, batch_size=2, cache=tmp_path)
    assert second.record["used"] == first.record["used"]
    assert second.record["reason"] == "the fastest when it was measured"
    assert "seconds" not in second.record
    (tmp_path / caching.CHOICES).write_text("not json")
    assert ax.compile(model, batch_size=2, cache=tmp_path).record["reason"] != second.record["reason"]


def test_unknown_sizes_are_told():
    with pytest.raises(ax.AxiomError) as caught:
        ax.precompile(ax.Sequential(nn.Conv(1, 2)))
    assert "The sizes of an input of sequential are not known." == caught.value.what
    ready = ax.precompile(ax.Sequential(nn.Conv(1, 2)), [2], example=np.zeros((1, 5, 5, 1), np.float32), cache=False)
    assert ready(np.zeros((2, 5, 5, 1), np.float32)).shape == (2, 5, 5, 2)


def test_the_folder(monkeypatch, tmp_path):
    assert caching.folder(False) is None
    assert caching.folder(tmp_path) == tmp_path
    monkeypatch.setenv("AXIOM_CACHE", str(tmp_path / "here"))
    assert caching.folder(True) == tmp_path / "here"
    monkeypatch.delenv("AXIOM_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert caching.folder(True) == tmp_path / "axiom-jax"
