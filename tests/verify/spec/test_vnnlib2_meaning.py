"""VNN-LIB 2.0 text in certificates: equal meanings count as equal, every other text is refused with what differs."""

import itertools
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from axiom_jax.verification.spec.vnnlib2_meaning import INPUTS, embedded_text, misstated
from axiom_jax.verification.spec.vnnlib2_writing import property_text

sys.path.insert(0, str(Path(__file__).parents[1]))
import checker_builder as build
from test_vnnlib2_writing import random_case, unsafe

BOX = [-1, "1/3"], [1, "8/3"]
CASES = [build.case(*BOX, [[build.atom({0: 1}, -1)], [build.atom({0: -1}, -20, {1: "1/3"}, True)]])]
TEXT = property_text(CASES, 1)


def model(inputs=2, outputs=1):
    return build.model(*build.dense_program([np.ones((inputs, outputs))], [np.zeros(outputs)]))


def test_the_text_of_a_certificate_means_its_cases():
    assert embedded_text(CASES, model()) == TEXT
    assert misstated(TEXT, CASES, 1) is None


@pytest.mark.parametrize("seed", range(4))
def test_random_cases_are_equal_to_their_text(seed):
    rng = np.random.default_rng(seed)
    for _ in range(8):
        cases = [random_case(rng) for _ in range(rng.integers(1, 4))]
        assert misstated(property_text(cases, 3), cases, 3) is None


@pytest.mark.parametrize("seed", range(4))
def test_texts_of_other_cases_are_refused_unless_they_mean_the_same(seed):
    """Random pairs that differ in one number: where the texts are taken for equal, so are they at every corner."""
    rng = np.random.default_rng(seed)
    refused = 0
    for _ in range(12):
        cases = [random_case(rng)]
        other = [{**cases[0], "unsafe": [[{**atom, "threshold": str(Fraction(atom["threshold"]) + int(rng.integers(3)))}
                                          for atom in disjunct] for disjunct in cases[0]["unsafe"]]}]  # fmt: skip
        said = misstated(property_text(other, 3), cases, 3)
        refused += said is not None
        for corner in itertools.product(*map(lambda *x: [Fraction(e) for e in x], *cases[0]["exact"].values())):
            outputs = [Fraction(int(x), 3) for x in rng.integers(-20, 20, 3)]
            same = unsafe(cases, list(corner), outputs) == unsafe(other, list(corner), outputs)
            assert same or said is not None
    assert refused > 3


@pytest.mark.parametrize("old,new,reason", [
    ("(>= X[0] -1)", "(>= X[0] 0)", "X[0] is in [0, 1] there, in [-1, 1] in the certificate"),
    ("(<= (* 3 X[1]) 8)", "(<= (* 3 X[1]) 7)", "X[1] is in [1/3, 7/3] there, in [1/3, 8/3] in the certificate"),
    ("(<= Y[0] -1)", "(<= Y[0] -2)", "Y[0] <= -2 is unsafe there, not in the certificate"),
    ("(<= Y[0] -1)", "(>= Y[0] -1)", "Y[0] >= -1 is unsafe there, not in the certificate"),
    ("(<= Y[0] -1)", "(< Y[0] -1)", "Y[0] < -1 is unsafe there, not in the certificate"),
    ("(< (+ X[1] (* -3 Y[0])) -60)", "(< (+ X[1] (* -2 Y[0])) -60)",
     "X[1] + -2 Y[0] < -60 is unsafe there, not in the certificate"),
    ("(or (<= Y[0] -1) (< (+ X[1] (* -3 Y[0])) -60))", "(<= Y[0] -1)",
     "X[1] + -3 Y[0] < -60 is unsafe in the certificate, not there"),
    ("Y real [1]", "Y real [2]", "it has 2 inputs and 2 outputs, the certificate 2 and 1"),
    ("X real [2]", "X float32 [2]", "its tensors are not declared as real"),
    ("(declare-output", '(declare-hidden H real [1] "h") (declare-output',
     "it speaks of hidden values or of products of variables"),
    ("(<= Y[0] -1)", "(<= (* Y[0] Y[0]) -1)", "it speaks of hidden values or of products of variables"),
    ("(<= Y[0] -1)", "(<= Y[7] -1)", "it cannot be read: The index of Y[7] is outside of the shape [1]."),
    ("(>= X[0] -1)", "(>= X[0] 5)", "it cannot be read: The bounds of X[0] exclude each other: the box is empty."),
])  # fmt: skip
def test_a_flipped_text_is_told(old, new, reason):
    assert old in TEXT
    assert misstated(TEXT.replace(old, new), CASES, 1) == reason


def test_what_is_equal_in_other_words_is_equal():
    swapped = TEXT.replace("(or (<= Y[0] -1) ", "(or (<= (* 4 Y[0]) -4) (and (< Y[0] -7) (<= Y[0] -1)) ")
    assert misstated(swapped, CASES, 1) == "Y[0] < -7 and Y[0] <= -1 is unsafe there, not in the certificate"
    reordered = TEXT.replace("(<= Y[0] -1)", "(>= -4 (* 4 Y[0]))").replace("(>= X[0] -1)", "(<= -1.0 X[0])")
    assert reordered != TEXT and misstated(reordered, CASES, 1) is None
    assert misstated(TEXT.replace("X real [2]", "X real [1,2]").replace("X[", "X[0,"), CASES, 1) is None


def test_bounds_of_single_inputs_are_part_of_the_box():
    cut = build.atom({}, 0, {0: 1})  # x_0 <= 0, as a condition
    cases = [build.case(*BOX, [[cut, build.atom({0: 1}, -1)]])]
    text = embedded_text(cases, model())
    assert text is not None and misstated(text, cases, 1) is None
    same = [build.case([-1, "1/3"], [0, "8/3"], [[build.atom({0: 1}, -1)]])]
    assert misstated(text, same, 1) is None
    assert misstated(text, CASES, 1) == "X[0] is in [-1, 0] there, in [-1, 1] in the certificate"


def test_an_input_made_of_two_is_refused():
    text = TEXT.replace("(assert (or", "(assert (== X[0] X[1]))\n(assert (or")
    assert "inputs" in (misstated(text, CASES, 1) or "")


@pytest.mark.parametrize("text", [None, 7, ["(vnnlib-version <2.0>)"], "x" * ((1 << 24) + 1)])
def test_what_is_no_text_is_refused(text):
    assert misstated(text, CASES, 1) == "it is no text, or too long to be read"


@pytest.mark.parametrize("text", ["", "(", "(((((", "(vnnlib-version <3.0>)", "(assert (<= X_0 1))"])
def test_what_cannot_be_read_is_refused(text):
    assert (misstated(text, CASES, 1) or "").startswith("it cannot be read: ")


def test_version_1_is_another_version():
    text = "(declare-const X_0 Real) (declare-const Y_0 Real) (assert (<= 0 X_0 1)) (assert (<= Y_0 0))"
    assert misstated(text, CASES, 1) == "it is about 1 networks, or of another version"


def test_large_boxes_and_what_vnnlib_cannot_say_are_left_out():
    wide = build.case([0] * (INPUTS + 1), [1] * (INPUTS + 1), [[build.atom({0: 1}, -1)]])
    assert embedded_text([wide], model(INPUTS + 1)) is None
    assert embedded_text([wide], model(INPUTS + 1)) is None
    unsaid = [build.case(*BOX, [[build.atom({}, 0, {0: 1})]])]
    assert embedded_text(unsaid, model()) is None  # no condition names an output
    assert embedded_text(CASES, build.model([{"op": "input", "size": 2}, {"op": "fold", "of": [0]}], {})) is None
