"""False claims are refuted by exact, executed points; true ones never are; witnesses of ∃ are found."""

import time
from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import lax

from axiom_jax import UnsupportedPrimitive
from axiom_jax.verification import derivation_checker as kernel
from axiom_jax.verification.domains.symbolic.translate import theorem_of
from axiom_jax.verification.proof.derivation import derivation_of
from axiom_jax.verification.refuting import evaluate, execute, refute, suggest, violated
from axiom_jax.verification.search.points import edge_points, places, random_points
from axiom_jax.verification.statement import REALS, Ball, Range, Statement, Variable
from axiom_jax.verification.witnessing import denial, denials, with_witness, witness

softmax, gelu = jax.nn.softmax, jax.nn.gelu
UNIT = Range(Fraction(0), Fraction(1))
OPEN = Range(Fraction(0), Fraction(1), True, True)
W = jnp.array([[1.0, -1.0], [2.0, 0.5]])


def claim(condition, *shapes, within: Range | Ball = REALS, constants=()):
    variables = tuple(Variable(x, s, within) for x, s in zip("xyz", shapes or (("n",),), strict=False))
    return Statement("claim", variables, condition, tuple(constants))


N2, NM = (("n",), ("n",)), (("n", "m"),)
FALSE = {
    "relu is 5": claim(lambda x: jax.nn.relu(x) - 5 >= 0),
    "sum is 2": claim(lambda x: jnp.sum(softmax(x)) == 2),
    "sigmoid": claim(lambda x, c: jax.nn.sigmoid(x) >= c, constants=[Fraction(1, 10)]),
    "relu odd": claim(lambda x: jax.nn.relu(-x) == -jax.nn.relu(x)),
    "tanh": claim(lambda x: jnp.tanh(x) < 0.9999999),
    "square": claim(lambda x: x * x >= 1e-9),
    "mean": claim(lambda x: jnp.mean(x) <= x[0]),
    "strict softmax": claim(lambda x: softmax(x) < 1),
    "variance": claim(lambda x: jnp.var(x) > 0),
    "log": claim(lambda x: jnp.log(x) <= x),
    "quotient": claim(lambda x: x / x == 1),
    "monotone": claim(lambda x, y: (x > y) | (gelu(x) <= gelu(y)), *N2),
    "triangle": claim(lambda x, y: jnp.linalg.norm(x + y) <= 0.9 * (jnp.linalg.norm(x) + jnp.linalg.norm(y)), *N2),
    "least gelu": claim(lambda x: gelu(x) >= -0.17),
    "logsumexp": claim(lambda x: jax.nn.logsumexp(x) <= jnp.max(x) + 1.7),
    "ball": claim(lambda x: jnp.sum(x) <= 1, within=Ball(0, Fraction(1), 2)),
    "interval": claim(lambda x: x * (1 - x) <= 0.2, within=UNIT),
    "open interval": claim(lambda x: x <= 0.99, within=OPEN),
    "gram": claim(lambda x: x @ x.T >= 0, *NM),
    "layer norm": claim(lambda x: jnp.var((x - x.mean()) / jnp.sqrt(x.var() + 1e-5)) == 1),
    "argmax": claim(lambda x: jnp.argmax(x) == 0),
    "masked": claim(lambda x: jnp.sum(softmax(jnp.where(x > 0, x, -jnp.inf))) == 1),
    "strict Cauchy": claim(lambda x, y: jnp.dot(x, y) ** 2 < jnp.dot(x, x) * jnp.dot(y, y), *N2),
    "network": claim(lambda x: jnp.sum(jax.nn.relu(W @ x)) <= 4, (2,), within=Range(Fraction(-1), Fraction(2))),
    "product": claim(lambda x, y: x @ y == y @ x, ("n", "n"), ("n", "n")),
    "lipschitz": claim(lambda x, y: jnp.abs(jnp.sin(x) - jnp.sin(y)) <= 0.9 * jnp.abs(x - y), (), ()),
}


@pytest.mark.parametrize("name", FALSE)
def test_false_claims_are_refuted(name):
    """By a point that the checker accepts and JAX finds false too."""
    statement = FALSE[name]
    found = refute(statement, theorem_of(statement))
    assert found is not None and not found.executed.holds
    verdict = kernel.check(found.derivation.to_bytes())
    assert verdict.accepted, verdict.reason
    assert found.derivation.claim == "violated"


def test_the_text_of_a_refutation():
    statement = FALSE["relu odd"]
    assert str(refute(statement, theorem_of(statement))) == "n = 1, x = [1]: 0 == -1 is false"


TRUE = {
    "softmax": claim(lambda x: (softmax(x) > 0) & (softmax(x) <= 1)),
    "sum": claim(lambda x: jnp.sum(softmax(x)) == 1),
    "gelu": claim(lambda x: gelu(x) >= -0.1701),
    "square root": claim(lambda x: jnp.sqrt(x * x) == jnp.abs(x)),
    "interval": claim(lambda x: x * (1 - x) <= 0.25, within=UNIT),
    "guarded": claim(lambda x: jnp.where(x > 0, jnp.log(x), 0) <= jnp.abs(x)),
    "logaddexp": claim(lambda x: jnp.logaddexp(x, x) >= x),
    "open": claim(lambda x: x > 0, within=OPEN),
}


@pytest.mark.parametrize("name", TRUE)
def test_true_claims_are_not_refuted(name):
    statement = TRUE[name]
    assert refute(statement, theorem_of(statement), time.monotonic() + 0.5) is None


def test_what_has_no_value_is_refuted_only_where_jax_agrees():
    statement = claim(lambda x: jnp.maximum(1 / x, 2.0) >= 2)  # 1/0 is inf in JAX: no counterexample to see
    assert refute(statement, theorem_of(statement), time.monotonic() + 0.3) is None
    statement = claim(lambda x: jnp.sqrt(x) >= 0)
    found = refute(statement, theorem_of(statement))
    assert found is not None and found.undefined and found.point["x"][0] < 0


def test_sizes_one_by_one():
    """A claim without terms for all sizes is judged at small ones."""
    statement = claim(lambda x: jnp.sort(x)[0] >= x)
    with pytest.raises(UnsupportedPrimitive):
        theorem_of(statement)
    found = refute(statement, None)
    assert found is not None and kernel.check(found.derivation.to_bytes()).accepted


def test_suggestions_judge_nothing():
    statement = claim(lambda x: x[x.astype(int)] >= 0)
    assert refute(statement, None) is None
    found = suggest(statement)
    assert found is not None and not found.executed.holds
    assert suggest(claim(lambda x: x[x.astype(int)] ** 2 >= 0)) is None


def test_evaluation_is_exact_and_rigorous():
    theorem = theorem_of(claim(lambda x: x[0] * 3 == 1))
    assert evaluate(theorem, theorem.goal, {"n": 2}, {"x": (Fraction(1, 3), Fraction(0))}) is True
    low, high = evaluate(theorem, kernel.exp(kernel.var("x", 0)), {"n": 1}, {"x": (Fraction(1),)})
    assert low <= Fraction(27182818284590452353602874713527, 10**31) <= high and high - low < Fraction(1, 2**50)
    assert violated(theorem, {"n": 1}, {"x": (Fraction(1, 3) + Fraction(1, 10**30),)})
    assert not violated(theorem, {"n": 1}, {"x": (Fraction(1, 3),)})


def test_hypotheses_have_to_hold():
    theorem = theorem_of(claim(lambda x: x <= 0.5, within=UNIT))
    assert violated(theorem, {"n": 1}, {"x": (Fraction(1),)}) and not violated(theorem, {"n": 1}, {"x": (Fraction(2),)})


def test_execution_tells_both_sides():
    statement = claim(lambda x, y: jnp.sum(x) <= jnp.sum(y), ("n",), ("m",))
    executed = execute(statement, {"n": 1, "m": 2}, {"x": [Fraction(5)], "y": [Fraction(1), Fraction(2)]})
    assert not executed.holds and executed.sides == (("le", 5.0, 3.0),) and str(executed) == "5 <= 3 is false"


@given(st.integers(0, 1000), st.sampled_from([1, 2, "inf"]), st.booleans())
@settings(max_examples=15)
def test_points_lie_in_their_regions(seed, order, opened):
    center = np.arange(3.0)
    ball = Variable("x", (3,), Ball(center, Fraction(1, 2), order, opened))
    interval = Variable("y", ("n", 2), Range(Fraction(-1), Fraction(3), opened, opened))
    where = places([ball, interval], {"n": 2})
    norm = np.inf if order == "inf" else order
    for batch in (edge_points(where), random_points(where, np.random.default_rng(seed), 20)):
        away = np.linalg.norm(batch["x"] - center, ord=norm, axis=1)
        assert (away < 0.5).all() if opened else (away <= 0.5 + 1e-12).all()
        assert batch["y"].shape[1:] == (2, 2)
        assert ((batch["y"] > -1) & (batch["y"] < 3)).all() if opened else (abs(batch["y"] - 1) <= 2).all()


# ∃


def exists(condition, *variables):
    return Statement("claim", variables, condition)


X, Y, YN = Variable("x", ()), Variable("y", (), quantifier="exists"), Variable("y", ("n",), quantifier="exists")
POSITIVE = Variable("x", (), Range(Fraction(0), lo_open=True))
WITNESSED = {
    "above": (exists(lambda x, y: y > x, X, Y), "x + 1"),
    "root": (exists(lambda x, y: y * y == x, POSITIVE, Y), "sqrt(x)"),
    "above all": (exists(lambda x, y: y > x, Variable("x"), Y), "max[i < n](x[i]) + 1"),
    "negative": (exists(lambda x, y: x + y == 0, Variable("x"), YN), "-x[k0] at [k0]"),
    "between": (exists(lambda x, z, y: (x >= z) | ((x < y) & (y < z)), X, Variable("z", ()), Y), "(1/2)*(x + z)"),
    "number": (exists(lambda y: y * y == 4, Y), "2"),
    "neutral": (exists(lambda y, z: y * z == z, Y, Variable("z", ())), "1"),
    "inverse": (exists(lambda x, y: x * y == 1, POSITIVE, Y), "inv(x)"),
    "two": (exists(lambda x, y, z: (y < x) & (x < z), X, Y, Variable("z", (), REALS, "exists")), "x - 1; x + 1"),
}


@pytest.mark.parametrize("name", WITNESSED)
def test_witnesses(name):
    """The terms, and steps that lead the kernel from the claim to what is left to prove."""
    statement, expected = WITNESSED[name]
    theorem = theorem_of(statement)
    found = witness(statement, theorem)
    assert found is not None and str(found) == expected
    goal = kernel.Goal(theorem.hypotheses, theorem.goal)
    for rule, values in found.steps:
        (goal,) = kernel.RULES[rule](goal, **values)
    assert goal.goal is found.theorem.goal


def test_a_proof_with_its_witness():
    statement = exists(lambda y: y * y == 4, Y)
    theorem = theorem_of(statement)
    found = witness(statement, theorem)
    assert found is not None
    rest = derivation_of("rest", (), (), (), found.theorem.goal, [("trivial", {})])
    assert kernel.check(with_witness(theorem, found, rest).to_bytes()).accepted


def test_no_witness_of_what_is_false():
    statement = exists(lambda y: y * y < 0, Y)
    assert witness(statement, theorem_of(statement)) is None
    assert refute(statement, theorem_of(statement)) is None


def test_negations():
    ((sizes, theorem),) = denials(exists(lambda y: y * y < 0, Y))
    assert sizes == {} and str(theorem) == "for all x0[]:\n  0 <= x0*x0"
    squares = exists(lambda x, y: y * y == x, X, Y)
    ((_, theorem),) = denials(squares)
    assert str(witness(squares, theorem)) == "-1"
    between = exists(lambda y, z: y >= z, Variable("y", (), UNIT, "exists"), Variable("z", ()))
    denied = denial(theorem_of(between))
    assert [kernel.show(h) for h in denied.hypotheses] == ["0 <= x0", "x0 <= 1"] and denied.goal.op == "exists"
    assert str(witness(between, denied)) == "2"
    assert list(denials(claim(lambda x: x >= 0))) == []


def test_a_point_where_jax_disagrees_refutes_nothing():
    """x ** 2.0 by a traced exponent is defined for negative x in JAX, not in terms; and a wrong theorem is noticed."""
    statement = claim(lambda x, y: (x + y * 0) ** jnp.where(y > 0, 2.0, 4.0) >= 0, (), ())
    assert refute(statement, theorem_of(statement), time.monotonic() + 2) is None
    wrong = theorem_of(claim(lambda x: jnp.abs(x) <= 5, ()))
    assert refute(claim(lambda x: jnp.abs(x) >= 0, ()), wrong, time.monotonic() + 2) is None


def test_rounding_does_not_save_a_false_claim():
    """False in exact arithmetic, true in float32, false in float64."""
    statement = claim(lambda x: (x + 1e9) - 1e9 <= x - x, ())
    found = refute(statement, theorem_of(statement), time.monotonic() + 5)
    assert found is not None


def test_what_has_no_value_in_terms_alone_refutes_nothing():
    """JAX finds the condition false there, but nothing in it is NaN or infinite."""
    theorem = theorem_of(claim(lambda x: jnp.sqrt(x) >= 0, ()))
    assert refute(claim(lambda x: jnp.abs(x) <= -1, ()), theorem, time.monotonic() + 1) is None
    typed = claim(lambda x: lax.add(jnp.abs(x), jnp.float32(1)) >= 0, ())  # cannot run in float64
    assert refute(typed, theorem_of(claim(lambda x: jnp.abs(x) <= 5, ())), time.monotonic() + 1) is None
