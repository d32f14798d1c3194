"""Profiles of level float32: what is claimed for machines that are here, and why nothing is for others.

There may be no CUDA device where this runs. The CPU stands in for one: enough for all but what a GPU's compiler does.
"""

import json
from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import axiom_jax as ax
from axiom_jax.verification.proof import compiled
from axiom_jax.verification.proof.compiled import compilation, hindrance, recompiled
from axiom_jax.verification.proof.float32 import TPU
from axiom_jax.verification.property import Atom, Case, Property
from axiom_jax.verification.search.decide import decide
from axiom_jax.verification.search.margins import Subject

VECTOR = jax.ShapeDtypeStruct((4,), np.float32)


def above(least):
    box = (Fraction(1, 4),) * 4, (Fraction(1, 2),) * 4
    return Property((Case(*box, ((Atom(((0, Fraction(1)),), Fraction(least)),),)),), f"y_0 > {least}")


def in_full(w, x):
    return jnp.dot(w, jnp.maximum(x, 0), precision="highest")


def by_default(w, x):
    return jnp.dot(w, jnp.maximum(x, 0))


WEIGHTS = np.arange(16, dtype=np.float32).reshape(4, 4) / 8 - 1
NO_CUDA = "jax has no CUDA device to compile for, so what the compiler does is not known"


DEVICES = jax.devices


def none(kind=None):
    if kind == "cuda":
        raise RuntimeError("Unknown backend cuda")
    return DEVICES(kind)


@pytest.fixture(autouse=True)
def without(monkeypatch):
    monkeypatch.setattr(jax, "devices", none)


@pytest.fixture
def pretended(without, monkeypatch):
    """A CUDA device that is the CPU."""
    monkeypatch.setattr(jax, "devices", lambda kind=None: DEVICES("cpu" if kind == "cuda" else kind))


@pytest.mark.parametrize("profile, why", [("cuda", NO_CUDA), ("tpu", TPU)])
def test_a_profile_whose_machine_is_not_known_has_no_level_float32(profile, why, tmp_path):
    asked = Subject(in_full, WEIGHTS, (VECTOR,))
    assert hindrance(asked) is None and hindrance(asked, profile) == why
    decision = decide(asked, above(-100), float32=True, profile=profile, certificate_path=tmp_path / "a.cert")
    assert decision.verdict.levels == ("real",) and decision.reason == f"level float32 is not proved: {why}"
    assert decision.to_dict()["reason"] == decision.reason
    payload = json.loads((tmp_path / "a.cert").read_bytes())["payload"]
    assert (payload["profile"], payload["levels"]) == ("", ["real"])
    assert not any(kind.startswith(compiled.KIND) for kind in payload["model"]["source"])


def test_a_profile_that_there_is_not_is_refused():
    with pytest.raises(ax.SpecError, match="There is no such profile") as caught:
        decide(Subject(in_full, WEIGHTS, (VECTOR,)), above(-100), profile="rocm")
    assert (caught.value.got, caught.value.fix) == ("'rocm'", "use cpu, cuda, tpu")


def test_where_a_device_is_there_the_level_is_about_its_profile(pretended, tmp_path):
    asked, path = Subject(in_full, WEIGHTS, (VECTOR,)), tmp_path / "a.cert"
    decision = decide(asked, above(-100), float32=True, profile="cuda", certificate_path=path)
    assert decision.verdict.levels == ("real", "float32") and decision.reason is None
    payload = json.loads(path.read_bytes())["payload"]
    (kind,) = [kind for kind in payload["model"]["source"] if kind.startswith(compiled.KIND)]
    assert payload["profile"] == "cuda" and ", cuda cpu)" in kind
    checked = ax.check_certificate(path, asked)
    assert checked.accepted and "profile 'cuda'" in checked.statement
    assert "its optimised HLO is the one that the certificate names." in checked.statement


def test_products_that_gpus_round_more_coarsely_have_no_level_float32(pretended, tmp_path):
    asked, path = Subject(by_default, WEIGHTS, (VECTOR,)), tmp_path / "a.cert"
    assert hindrance(asked) is None  # a CPU multiplies in full
    assert "does not ask for precision HIGHEST" in str(hindrance(asked, "cuda"))
    assert "does not ask for precision HIGHEST" in compilation(asked, profile="cuda").reason
    assert decide(asked, above(-100), float32=True, profile="cuda").verdict.levels == ("real",)
    convolve = lambda w, x: jax.lax.conv(x.reshape(1, 1, 4), w, (1,), "VALID").ravel()
    convolved = Subject(convolve, WEIGHTS[:1, None, :2], (VECTOR,))
    assert "a convolution does not ask for" in str(hindrance(convolved, "cuda"))
    full = Subject(in_full, WEIGHTS, (VECTOR,))
    decide(full, above(-100), float32=True, profile="cuda", certificate_path=path)
    checked = ax.check_certificate(path, asked)  # the same program and weights, but in fewer bits
    assert not checked.accepted and "level float32 cannot speak of" in checked.reason and "HIGHEST" in checked.reason


def test_what_is_replaced_for_another_device_has_no_level_float32(pretended, monkeypatch):
    monkeypatch.setattr(compiled, "obstacle", lambda *_: None)
    sums = Subject(lambda _, x: x.reshape(2, 2).sum(-1).sum(-1)[None] + x, (), (VECTOR,))
    assert "not seen to keep the operations: replaced" in str(hindrance(sums, "cuda"))


def test_a_device_that_is_gone_is_not_compared(monkeypatch, pretended):
    asked = Subject(in_full, WEIGHTS, (VECTOR,))
    kind = compilation(asked, profile="cuda").kind
    assert "is another one" in str(recompiled({kind: "0" * 64}, asked))
    monkeypatch.setattr(jax, "devices", none)
    assert "for another device, not compared" in str(recompiled({kind: "0" * 64}, asked))


@pytest.mark.parametrize("profile, levels, said", [
    ("cpu", ("real", "float32"), ""), ("cuda", ("real",), NO_CUDA), ("tpu", ("real",), TPU)])
def test_properties_of_models_are_proved_for_a_profile(profile, levels, said, tmp_path):
    w, properties = jnp.array(WEIGHTS[:2, :2]), [ax.Bounded(-99, 99), ax.Finite()]

    def asked(profile):
        return ax.verify(lambda x: jnp.dot(x, w, precision="highest"), properties, region=ax.Box([0.0] * 2, [1.0] * 2),
                         profile=profile, journal=tmp_path / "run.jsonl")  # fmt: skip

    assert asked("cpu").items[0].levels == ("real", "float32")  # what its journal says is about CPUs
    result = asked(profile)
    bounded, finite = result.items
    assert bounded.levels == levels and (finite.verdict == "proved") is (profile == "cpu")
    assert (said in str(result.to_dict())) and bool(said) is any("profile" in note for note in result.notes)
    again = asked(profile)
    assert again.items[0].levels == levels and "from the journal, checked again" in again.items[0].notes


def test_a_profile_that_there_is_not_is_refused_by_verify():
    with pytest.raises(ax.SpecError, match="There is no such profile"):
        ax.verify(abs, ax.Finite(), region=ax.Box([0.0], [1.0]), profile="gpu")
