"""Theorems of every size are proved, and no twin of theirs that is false: the list is in theorems.py."""

import time
from fractions import Fraction

import pytest
import theorems
from hypothesis import given, settings
from hypothesis import strategies as st

from axiom_jax.verification import derivation_checker as kernel
from axiom_jax.verification.domains.symbolic.arithmetic import combination
from axiom_jax.verification.domains.symbolic.deriving import derive
from axiom_jax.verification.domains.symbolic.theorem import Theorem
from axiom_jax.verification.domains.symbolic.translate import theorem_of
from axiom_jax.verification.refuting import refute

SECONDS = 60.0  # of wall time, for a busy machine; the campaign measures


def name(statement):
    return statement.text


def proof_of(statement, seconds=SECONDS):
    return derive(theorem_of(statement), time.monotonic() + seconds)[0]


SAMPLE = [*[s for s in theorems.TRUE if s.text not in theorems.OPEN][::4], *theorems.LOGIC]
SAMPLE = list({s.text: s for s in SAMPLE}.values())


@pytest.mark.sweep(2)
@pytest.mark.parametrize("statement", SAMPLE, ids=name)
def test_theorem_is_proved(statement):
    derivation = proof_of(statement)
    assert derivation is not None
    verdict = kernel.check(derivation.to_bytes())
    assert verdict.accepted, verdict.reason
    assert derivation.text == statement.text


@pytest.mark.parametrize("statement", [*theorems.FALSE[::4], *theorems.UNDEFINED[::2]], ids=name)
def test_false_statement_is_not_proved(statement):
    assert proof_of(statement, 0.3) is None


def test_list_is_as_long_as_it_claims():
    assert len(theorems.TRUE) >= 80
    assert len(theorems.FALSE) + len(theorems.UNDEFINED) >= 60
    texts = [s.text for s in [*theorems.TRUE, *theorems.FALSE, *theorems.UNDEFINED]]
    assert len(set(texts)) == len(texts)


def test_the_proof_is_of_the_theorem_that_was_asked():
    x = kernel.var("x")
    theorem = Theorem("|x| >= x", (), (("x", ()),), (), kernel.le(x, kernel.absolute(x)))
    derivation, _ = derive(theorem)
    other = derivation.payload | {"terms": [["const", "1"] if t == ["const", "-1"] else t
                                            for t in derivation.payload["terms"]]}
    assert kernel.check(derivation.to_bytes()).accepted
    assert not kernel.check(type(derivation)(other).to_bytes()).accepted


def test_contradictory_hypotheses_prove_anything():
    x = kernel.var("x")
    theorem = Theorem("x < 0 and x > 1", (), (("x", ()),), (kernel.lt(x, 0), kernel.lt(1, x)), kernel.eq(x, 7))
    assert derive(theorem)[0] is not None


def exists(formula):
    """For every x of n entries there is such a y."""
    x, y, n = kernel.var("x", "@i"), kernel.var("y", "@i"), kernel.affine("n")
    goal = kernel.exists("y", [n], kernel.every("@i", n, formula(x, y)))
    nonnegative = kernel.every("@i", n, kernel.le(0, x))
    return lambda given: derive(Theorem("∃y", ("n",), (("x", (n,)),), (nonnegative,) if given else (), goal))[0]


def test_an_array_is_found_by_solving_for_it():
    assert exists(lambda x, y: kernel.eq(kernel.add(kernel.mul(3, y), x), 1))(False) is not None
    square = exists(lambda x, y: kernel.eq(kernel.mul(y, y), x))
    assert square(True) is not None
    assert square(False) is None


def test_hypotheses_that_are_disjunctions_are_taken_case_by_case():
    n, x = kernel.affine("n"), kernel.var("x", "@i")
    apart = kernel.every("@i", n, kernel.disj(kernel.le(x, -1), kernel.le(1, x)))
    goal = kernel.every("@i", n, kernel.le(1, kernel.mul(x, x)))
    variables = (("x", (n,)),)
    assert derive(Theorem("x² >= 1", ("n",), variables, (apart,), goal))[0] is not None
    above = kernel.every("@i", n, kernel.le(1, x))
    assert derive(Theorem("x >= 1", ("n",), variables, (apart,), above))[0] is None


def test_an_index_that_a_hypothesis_gives_is_used():
    n, x = kernel.affine("n"), kernel.var("x", "@i")
    somewhere = kernel.some("@i", n, kernel.lt(5, x))
    positive = kernel.lt(5, kernel.bigmax("@i", n, x))
    variables = (("x", (n,)),)
    assert derive(Theorem("max(x) > 5", ("n",), variables, (somewhere,), positive))[0] is not None
    everywhere = kernel.every("@i", n, kernel.lt(5, x))
    assert derive(Theorem("x > 5", ("n",), variables, (somewhere,), everywhere))[0] is None


def test_what_was_tried_is_said():
    x = kernel.var("x")
    derivation, tried = derive(Theorem("x >= 0", (), (("x", ()),), (), kernel.le(0, x)))
    assert derivation is None
    assert any("products" in line for line in tried)


rationals = st.fractions(min_value=-5, max_value=5, max_denominator=6)
polynomials = st.dictionaries(st.sampled_from(["1", "x", "y", "xx", "xy"]), rationals.filter(bool), min_size=1)


@settings(max_examples=15)
@given(st.lists(polynomials, min_size=1, max_size=5), st.lists(polynomials, max_size=2), st.data())
def test_combinations_are_found_and_exact(nonnegative, equations, data):
    weights = data.draw(st.lists(st.fractions(0, 3, max_denominator=4), min_size=len(nonnegative),
                                 max_size=len(nonnegative)))
    target = {}
    for c, p in zip(weights, nonnegative, strict=True):
        for m, v in p.items():
            target[m] = target.get(m, Fraction(0)) + c * v
    target = {m: v for m, v in target.items() if v}
    found = combination(target, nonnegative, equations)
    assert found is not None
    total = {}
    for part, polys in ((found.nonnegative, nonnegative), (found.equations, equations)):
        for k, c in part.items():
            for m, v in polys[k].items():
                total[m] = total.get(m, Fraction(0)) + c * v
    assert {m: v for m, v in total.items() if v} == target
    assert all(c > 0 for c in found.nonnegative.values())


def test_nothing_positive_from_nothing():
    one = Fraction(1)
    assert combination({}, [{"x": one}, {"x": -one}], strict=[False, False]) is None
    assert combination({"x": -one}, [{"x": one}]) is None


@pytest.mark.campaign
def test_share_of_theorems_proved():
    left, slow = [], []
    for statement in theorems.TRUE:
        theorem = theorem_of(statement)
        start = time.process_time()
        if derive(theorem, time.monotonic() + SECONDS)[0] is None:
            left.append(statement.text)
        elif time.process_time() - start > 2:
            slow.append(statement.text)
    print(f"{len(theorems.TRUE) - len(left)} of {len(theorems.TRUE)} proved; not: {left}; over 2 s: {slow}")
    assert len(left) <= len(theorems.TRUE) / 10


@pytest.mark.campaign
def test_false_statements_are_refuted_and_never_proved():
    left = []
    for statement in theorems.FALSE:
        theorem = theorem_of(statement)
        assert derive(theorem, time.monotonic() + 2)[0] is None, statement.text
        if refute(statement, theorem, time.monotonic() + 5) is None:
            left.append(statement.text)
    for statement in theorems.UNDEFINED:
        assert derive(theorem_of(statement), time.monotonic() + 2)[0] is None, statement.text
    print(f"{len(theorems.FALSE) - len(left)} of {len(theorems.FALSE)} refuted; not: {left}")
    assert len(left) <= len(theorems.FALSE) / 10
