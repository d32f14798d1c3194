"""What float32 functions do on this machine, and that one which is off is noticed."""

import hashlib
import json

import cli_helpers
import jax.numpy as jnp
import numpy as np
import pytest
from cli_helpers import last

from axiom_jax import AxiomError
from axiom_jax.verification import checker
from axiom_jax.verification.proof import calibrating
from axiom_jax.verification.proof.calibrating import FUNCTIONS, calibrate
from axiom_jax.verification.proof.certificate import canonical


def run(capsys, *arguments):
    return cli_helpers.run(capsys, "calibrate", *arguments)[:2]


def test_this_machine_keeps_to_the_profile():
    found = calibrate("cpu", points=200_000)
    assert found.within and not found.exhaustive and set(found.functions) == set(FUNCTIONS)
    assert {name: f.allowed for name, f in found.functions.items()} == checker.PROFILES["cpu"]
    assert all(0 < f.error < f.allowed and f.points > 30_000 for f in found.functions.values())


@pytest.mark.parametrize("worse", [lambda x: jnp.sqrt(x) * jnp.float32(1 + 2**-21), lambda x: jnp.sqrt(x) * jnp.nan])
def test_a_function_that_is_off_is_noticed(worse, monkeypatch):
    monkeypatch.setitem(calibrating.FUNCTIONS, "sqrt", (worse, np.sqrt))
    found = calibrate("cpu", points=10_000, functions=["sqrt"])
    assert not found.within and found.functions["sqrt"].error > 6


def test_inputs_reach_every_exponent_and_all_numbers_are_run_where_asked(monkeypatch):
    bits = np.concatenate([x.view(np.uint32) for x in calibrating._spread(1 << 16)])
    assert len(np.unique(bits >> 23)) == 512 and len(np.unique(bits & 0x7FFFFF)) > 60_000
    monkeypatch.setattr(calibrating, "ALL", 1 << 20)
    monkeypatch.setattr(calibrating, "BLOCK", 1 << 18)
    assert sorted(np.concatenate([x.view(np.uint32) for x in calibrating._spread(1 << 20)])) == list(range(1 << 20))


def test_the_file_has_a_hash_of_itself(tmp_path, capsys):
    path = tmp_path / "cpu.json"
    code, out = run(capsys, "--points", 5000, "--function", "sqrt", "--out", path, "--json")
    said, kept = last(out), json.loads(path.read_text())
    assert code == 0 and said["within"] and said["output"] == str(path)
    digest = kept.pop("sha256")
    assert hashlib.sha256(canonical(kept)).hexdigest() == digest == said["sha256"]
    assert kept["functions"].keys() == {"sqrt"} and kept["machine"]["platform"] == "cpu"


def test_a_table_for_people(capsys):
    code, out = run(capsys, "--points", 5000, "--function", "tanh")
    assert code == 0 and "tanh" in out and "samples: no proof" in out


def test_what_there_is_not_is_said(tmp_path, capsys):
    for given in ({"profile": "tpu"}, {"functions": ["tan"]}):
        with pytest.raises(AxiomError, match=r"There is no such profile|not calibrated"):
            calibrate(**given)
    code, out = run(capsys, "--out", tmp_path / "missing" / "a.json", "--json")
    assert code == 2 and last(out)["error"]["fix"] == "create it first"


def test_the_worst_of_all_ways_of_a_compiler_is_reported(monkeypatch):
    """One that takes the largest of two columns measures the same function."""
    alone = calibrate("cpu", 2000, ["exp"]).functions["exp"]
    monkeypatch.setitem(calibrating.WAYS, "cpu", ((1, {}), (2, {})))
    assert calibrate("cpu", 2000, ["exp"]).functions["exp"].error >= alone.error > 0
    off = lambda x: jnp.exp(x) * np.float32(1 + (x.ndim - 1) * 1e-6)
    monkeypatch.setitem(calibrating.FUNCTIONS, "exp", (off, np.exp))
    found = calibrate("cpu", 2000, ["exp"]).functions["exp"]
    assert not found.within and found.error > 10
