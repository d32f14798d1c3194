"""Derivations as files and as text, beside certificates about networks."""

import sys
from pathlib import Path

import pytest

import axiom_jax as ax
from axiom_jax._errors import CertificateError
from axiom_jax.verification import derivation_checker as kernel
from axiom_jax.verification.proof.certificate import Certificate
from axiom_jax.verification.proof.derivation import Derivation, explain, run_derivation_checker, steps_of

sys.path.insert(0, str(Path(__file__).parents[1]))
from derivation_proofs import PROOFS, cauchy_schwarz, relu_is_not_odd, sigmoid_range, softmax_sums_to_one


def test_files_of_both_kinds_go_through_the_same_functions(tmp_path: Path) -> None:
    made = sigmoid_range()
    path = ax.save_certificate(made, tmp_path / "proof.cert")
    assert path.read_bytes() == made.to_bytes()
    read = ax.load_certificate(path)
    assert isinstance(read, Derivation) and read == made and not isinstance(read, Certificate)
    checked = ax.check_certificate(path)
    assert checked.accepted and checked.levels == ("real",) and "for all sizes" in checked.statement
    assert ax.check_certificate(made).accepted
    assert run_derivation_checker(path).accepted
    assert not ax.check_certificate(Derivation(made.payload | {"proof": []})).accepted


def test_rejections_say_why(tmp_path: Path) -> None:
    bad = Derivation(sigmoid_range().payload | {"proof": [{"rule": "trivial"}]})
    checked = ax.check_certificate(ax.save_certificate(bad, tmp_path / "bad.cert"))
    assert not checked.accepted and "not plainly true" in str(checked.reason)
    with pytest.raises(CertificateError):
        checked.raise_if_rejected()
    assert ax.check_certificate(tmp_path / "none.cert").unreadable


def test_the_readable_proof_names_every_step() -> None:
    text = str(cauchy_schwarz())
    assert text.startswith("holds: (x @ y)**2 <= (x @ x) * (y @ y)\n  show sum[i < n](x[i]*y[i])^2 <= ")
    assert "9. arith" in text and "sum_compare hyp 0" in text
    assert "x = ['0', '1/3']" in str(relu_is_not_odd())


@pytest.mark.parametrize("make", PROOFS, ids=lambda make: make.__name__)
def test_payloads_decode_to_what_was_encoded(make: object) -> None:
    made = make()  # type: ignore[operator]
    assert explain(made)[0] == f"{made.claim}: {made.text}"
    if made.claim == "holds":
        goal, steps = steps_of(made)
        assert kernel.run(goal, steps) == len(made.payload["proof"])


def test_tables() -> None:
    made = softmax_sums_to_one()
    title, rows = made.facts()
    assert title == "derivation" and dict(rows)["about"] == "none: every n ≥ 1 and every real array"
    assert repr(made) == "Derivation('holds', 'sum(softmax(x)) == 1')"
    assert repr(Derivation({})) == "Derivation(malformed)"
    assert "<table>" in made._repr_html_()


def test_malformed_derivations_are_errors() -> None:
    with pytest.raises(CertificateError, match="malformed"):
        str(Derivation(softmax_sums_to_one().payload | {"terms": []}))
