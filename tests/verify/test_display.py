"""Answers as tables, in terminals and notebooks; what is not shown is not printed by accident either."""

import io
from fractions import Fraction

import pytest
from rich.console import Console

from axiom_jax.verification.proof.certificate import Certificate, Checked
from axiom_jax.verification.verdict import Claimed, Counterexample, Decision, Proved, Refuted, Unknown

PAYLOAD = {
    "claim": "holds", "levels": ["real"], "weights": {"inside": "A" * 5000},
    "model": {"name": "digits", "source": {"onnx": "ab" * 32}, "tensors": {"w": {}, "b": {}}, "program": {}},
    "property": {"text": "for all x with |x - x0| <= 0.1: the class is [3]", "cases": []},
    "proof": {"kind": "tree", "trees": []}, "meta": {},
}  # fmt: skip
CERTIFICATE = Certificate(PAYLOAD)
POINT = Counterexample(tuple(Fraction(i, 2) for i in range(10)), ((Fraction(1, 3), Fraction(1, 3)),))
VALUES = {
    "proved": Proved(CERTIFICATE),
    "claimed": Claimed(CERTIFICATE, "the checker ran out of time"),
    "refuted": Refuted(POINT),
    "unknown": Unknown("out of time after 60 s: 12 boxes left open", -0.125),
    "decision": Decision(Proved(CERTIFICATE), 1.25, 0.5, 2.0, 0.03125, 1200, 34, "a.cert"),
    "certificate": CERTIFICATE,
    "counterexample": POINT,
    "accepted": Checked(True, None, ("real",), "For every x: <y> is positive.", seconds=0.5),
    "rejected": Checked(False, "the digest does not match", seconds=0.25),
}


@pytest.mark.parametrize("name", VALUES)
def test_tables(name, golden):
    stream = io.StringIO()
    Console(file=stream, width=100, legacy_windows=False).print(VALUES[name])
    lines = [line.rstrip() for line in stream.getvalue().splitlines()]
    golden(f"display/{name}.txt", "\n".join([*lines, "", VALUES[name]._repr_html_(), "", repr(VALUES[name])]))


def test_html_is_escaped_and_weights_are_never_printed():
    assert "<y>" not in VALUES["accepted"]._repr_html_() and "&lt;y&gt;" in VALUES["accepted"]._repr_html_()
    for value in VALUES.values():
        assert "AAAA" not in repr(value) + str(value) + value._repr_html_()
