"""The certificate file: canonical, atomic, clear about what is wrong with it."""

import base64
import hashlib
import json
import zlib
from fractions import Fraction
from pathlib import Path

import jax
import numpy as np
import pytest

import axiom_jax as ax
from axiom_jax.cli import main
from axiom_jax.verification.proof.certificate import (
    Certificate,
    canonical,
    run_checker,
    tensors_of,
    write_atomically,
)
from axiom_jax.verification.property import Atom, Case, Property, robust
from axiom_jax.verification.search.decide import decide
from axiom_jax.verification.search.margins import Subject

SPECS = (jax.ShapeDtypeStruct((1, 2), np.float32),)
SUBJECT = Subject(lambda w, x: jax.nn.relu(x @ w), np.eye(2, dtype=np.float32), SPECS)
ONE = Fraction(1)


def at_most(threshold):
    """The first output stays below a threshold on the unit square."""
    unsafe = ((Atom(((0, -ONE),), -Fraction(threshold)),),)
    return Property((Case((Fraction(0),) * 2, (ONE,) * 2, unsafe),), "y_0 < threshold")


@pytest.fixture
def path(tmp_path):
    decide(SUBJECT, at_most(2), certificate_path=tmp_path / "a.cert", meta={"requirement": "R-17"})
    return tmp_path / "a.cert"


def test_saved_loaded_and_saved_again_is_the_same_file(path, tmp_path):
    certificate = ax.load_certificate(path)
    ax.save_certificate(certificate, tmp_path / "b.cert")
    assert path.read_bytes() == (tmp_path / "b.cert").read_bytes()
    assert certificate.claim == "holds" and certificate.payload["meta"]["requirement"] == "R-17"
    checked = ax.check_certificate(certificate, SUBJECT).raise_if_rejected()
    assert checked.levels == ("real",) and "y_0 < threshold" in checked.statement


def test_the_file_is_canonical_and_carries_its_digest(path):
    text = path.read_bytes()
    data = json.loads(text)
    assert text == canonical(data) + b"\n"
    assert data["digest"] == hashlib.sha256(canonical(data["payload"])).hexdigest()


def test_the_unit_square_bound_is_tight(path):
    """relu(x_0) reaches 1: a threshold of 1 is reached, so it is refuted, and never proved."""
    decision = decide(SUBJECT, at_most(1))
    assert isinstance(decision.verdict, ax.Refuted)
    assert decision.verdict.counterexample.inputs[0] == 1


def test_broken_files_are_refused_with_what_where_and_why(path, tmp_path):
    whole = path.read_bytes()
    (tmp_path / "cut.cert").write_bytes(whole[:200])
    with pytest.raises(ax.CertificateError, match="not a whole certificate") as caught:
        ax.load_certificate(tmp_path / "cut.cert")
    assert "cut.cert" in str(caught.value.at)
    with pytest.raises(ax.CertificateError, match="cannot be read"):
        ax.load_certificate(tmp_path / "none.cert")
    with pytest.raises(ax.CertificateError, match="cannot be written"):
        ax.save_certificate(ax.load_certificate(path), tmp_path / "none" / "a.cert")
    with pytest.raises(ax.CertificateError, match="was rejected"):
        ax.check_certificate(tmp_path / "none.cert").raise_if_rejected()
    assert not ax.check_certificate(tmp_path / "cut.cert").accepted


@pytest.mark.parametrize("weights, reason", [
    ("A===", "the weights: not base64"), ("QUJD", "the weights: not a zlib stream"),
    (base64.b64encode(zlib.compress(bytes(1 << 24))).decode(), "the weights: not one zlib stream of the tensors"),
])  # fmt: skip
def test_weights_that_are_not_those_of_the_tensors_are_refused_by_every_reader(path, weights, reason, capsys):
    ax.save_certificate(Certificate(ax.load_certificate(path).payload | {"weights": weights}), path)
    for options in ([], ["--fast"], ["--json"]):
        with pytest.raises(SystemExit) as left:
            main(["check", str(path), *options])
        said = capsys.readouterr().out.splitlines()
        assert left.value.code == 1 and reason in said[-1] and "could not finish" not in said[-1]
    found = ax.load_certificate(path)
    assert reason in ax.check_certificate(found, SUBJECT).reason
    for read in (ax.export_aptp, ax.export_coq, lambda found: tensors_of(found.payload)):
        with pytest.raises(ax.CertificateError) as caught:
            read(found)
        assert reason in caught.value.got


def test_one_flipped_bit_anywhere_is_rejected(path, tmp_path):
    whole, target = path.read_bytes(), tmp_path / "flipped.cert"
    for position in np.random.default_rng(0).integers(0, len(whole) - 1, 6):
        changed = bytearray(whole)
        changed[position] ^= 1
        target.write_bytes(changed)
        assert not run_checker(target).accepted


def test_a_write_that_fails_leaves_the_old_file(tmp_path, monkeypatch):
    target = tmp_path / "a.cert"
    target.write_bytes(b"old")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_atomically(target, b"new")
    assert target.read_bytes() == b"old" and list(tmp_path.iterdir()) == [target]


def test_the_checker_can_run_out_of_time(path):
    checked = run_checker(path, timeout=0.001)
    assert checked.timed_out and not checked.accepted


def test_robust_cuts_the_region_and_keeps_numbers_exact():
    (case,) = robust([0.0, 0.5], 1, 3, "1/10", within=(0, 1)).cases
    assert case.lo == (Fraction(0), Fraction(2, 5)) and case.hi == (Fraction(1, 10), Fraction(3, 5))
    assert [c[0].output for c in case.unsafe] == [((0, -ONE), (1, ONE)), ((1, ONE), (2, -ONE))]


def test_an_empty_box_is_bad_input_never_a_proof():
    with pytest.raises(ax.SpecError, match="no points"):
        Case((ONE,), (Fraction(0),), ((Atom(((0, ONE),), ONE),),))
    with pytest.raises(ax.SpecError, match="nothing unsafe"):
        Case((ONE,), (ONE,), ())


def test_a_disjunct_of_nothing_is_always_unsafe():
    always = Property((Case((Fraction(0),) * 2, (ONE,) * 2, ((),)),), "every input is unsafe")
    assert isinstance(decide(SUBJECT, always, timeout=20).verdict, ax.Refuted)


def test_paths_may_be_text(path):
    assert ax.check_certificate(str(path)).accepted and Path(path).exists()
