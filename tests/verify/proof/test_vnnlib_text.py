"""The VNN-LIB 2.0 text of a certificate: written into it, shown, signed, and refused where it lies."""

import json
from fractions import Fraction

import jax
import numpy as np
import pytest

import axiom_jax as ax
from axiom_jax._cli_fast import judge
from axiom_jax.verification.proof.certificate import Certificate, run_checker
from axiom_jax.verification.proof.envelope import read_envelope
from axiom_jax.verification.property import robust
from axiom_jax.verification.search.decide import decide
from axiom_jax.verification.search.margins import Subject
from axiom_jax.verification.spec.vnnlib2 import parse_query

SPECS = (jax.ShapeDtypeStruct((1, 2), np.float32),)
SUBJECT = Subject(lambda w, x: jax.nn.relu(x @ w), np.eye(2, dtype=np.float32), SPECS)


@pytest.fixture(scope="module")
def found():
    """y_0 > y_1 near (1, 0)."""
    decision = decide(SUBJECT, robust([1.0, 0.0], 0, 2, "1/10"), check=False)
    return decision.verdict.certificate


def lying(found, old, new):
    text = found.payload["meta"]["vnnlib2"]
    assert old in text
    return Certificate(found.payload | {"meta": found.payload["meta"] | {"vnnlib2": text.replace(old, new)}})


def test_a_certificate_holds_the_text_of_its_property(found):
    text = found.payload["meta"]["vnnlib2"]
    case = parse_query(text).property.cases[0]
    assert case.lo == (Fraction(9, 10), Fraction(-1, 10)) and case.hi == (Fraction(11, 10), Fraction(1, 10))
    assert text.splitlines()[-1] == "(assert (<= (+ Y[0] (* -1 Y[1])) 0))"
    assert ax.check_certificate(found, SUBJECT).accepted


def test_a_text_that_lies_is_refused_though_the_checker_accepts(found, tmp_path):
    liar = lying(found, "(assert (<= (* 10 X[1]) 1))", "(assert (<= (* 10 X[1]) 9))")
    path = ax.save_certificate(liar, tmp_path / "liar.cert")
    assert run_checker(path).accepted  # it does not read what is for people
    checked = ax.check_certificate(path)
    assert not checked.accepted and checked.levels == ()
    assert checked.reason == ("its VNN-LIB 2.0 text does not mean what was proved: "
                              "X[1] is in [-1/10, 9/10] there, in [-1/10, 1/10] in the certificate")  # fmt: skip
    with pytest.raises(ax.CertificateError, match="is not signed: its check failed"):
        ax.new_key(tmp_path / "key")
        ax.sign_certificate(path, tmp_path / "key")


def test_the_fast_check_reads_the_text_too(found, tmp_path):
    path = ax.save_certificate(found, tmp_path / "a.cert")
    assert judge(path).accepted
    liar = lying(found, "(assert (<= (+ Y[0] (* -1 Y[1])) 0))", "(assert (<= (+ Y[0] (* -1 Y[1])) -1))")
    checked = judge(ax.save_certificate(liar, tmp_path / "liar.cert"))
    assert not checked.accepted and "Y[0] + -1 Y[1] <= -1 is unsafe there" in (checked.reason or "")


@pytest.mark.parametrize("text", [None, 3, ""])
def test_a_text_that_is_none_is_refused(found, text):
    odd = Certificate(found.payload | {"meta": {"vnnlib2": text}})
    assert not ax.check_certificate(odd).accepted


def test_certificates_without_a_text_are_accepted(found):
    assert ax.check_certificate(Certificate(found.payload | {"meta": {}})).accepted


def test_the_statement_has_the_text_that_the_certificate_has(found, tmp_path):
    ax.save_certificate(found, tmp_path / "a.cert")
    ax.new_key(tmp_path / "key")
    path = ax.sign_certificate(tmp_path / "a.cert", tmp_path / "key")
    predicate = json.loads(read_envelope(path.read_bytes(), "").payload)["predicate"]
    assert predicate["property"]["vnnlib2"] == found.payload["meta"]["vnnlib2"]


def test_the_text_is_shown_line_by_line(found):
    shown = ax.show_certificate(found)
    text = str(shown)
    assert "VNN-LIB 2.0" in text and "(assert (<= (* 10 X[1]) 1))" in text
    section = next(s for s in shown.to_dict()["sections"] if s["title"].startswith("VNN-LIB"))
    assert section["lines"] == found.payload["meta"]["vnnlib2"].splitlines()
    assert all(row[0] != "vnnlib2" for s in shown.to_dict()["sections"] for row in s["rows"])


def test_large_models_have_no_text():
    specs = (jax.ShapeDtypeStruct((1, 2001), np.float32),)
    subject = Subject(lambda w, x: x @ w, np.eye(2001, 2, dtype=np.float32), specs)
    decision = decide(subject, robust([1.0] + [0.0] * 2000, 0, 2, "1/10"), check=False)
    assert "vnnlib2" not in decision.verdict.certificate.payload["meta"]
