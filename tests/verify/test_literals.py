"""Choices that numbers in a function decide, and those that they do not."""

from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from axiom_jax._program import build
from axiom_jax.verification.literals import decided
from axiom_jax.verification.lowering import lower
from axiom_jax.verification.proof.binding import check_certificate
from axiom_jax.verification.proof.certificate import certificate, describe_property, tree_proof
from axiom_jax.verification.proof.exact import exactly
from axiom_jax.verification.property import Atom, Case, Property
from axiom_jax.verification.search.margins import Subject
from axiom_jax.verification.search.tree import Tree

x = jnp.float32([-1.5, 0.25, 0.5, 2.0])


def norm(w, x):
    """A layer norm as people write it."""
    return (x - x.mean()) / jnp.sqrt(x.var() + 1e-5) * w


@pytest.mark.parametrize("ddof", [0, 1])
def test_a_variance_has_no_choice_and_no_nan(ddof):
    program, values = build(lambda _, x: jnp.var(x, ddof=ddof), (), x)
    lowered = lower(program)
    assert "select_n" not in [eqn.name for eqn in lowered.equations]
    assert all(np.isfinite(value) for _, value in lowered.literals)
    np.testing.assert_allclose(lowered.evaluate(values, x)[0], np.var(x, ddof=ddof), rtol=1e-6)


def test_a_variance_of_too_few_numbers_stays_nan():
    program, values = build(lambda _, x: jnp.var(x, ddof=4), (), x)
    assert np.isnan(lower(program).evaluate(values, x)[0])


def test_a_layer_norm_written_by_hand_has_a_certificate():
    """The checker bounds it over a small box, without a split; what is not so it refuses."""
    subject = Subject(norm, np.ones(4, np.float32), (jax.ShapeDtypeStruct((4,), np.float32),))
    exact, tree = exactly(subject), Tree(1)
    assert exact.missing is None
    tree.close(0, (0,))
    lo, hi = tuple(Fraction(float(v)) for v in x), tuple(Fraction(float(v)) + Fraction(1, 64) for v in x)
    assert -1.5 < float(norm(np.float32(1), x)[0]) < -1
    for most, accepted in ((-1, True), (Fraction(-3, 2), False)):
        prop = Property((Case(lo, hi, ((Atom(((0, Fraction(-1)),), -Fraction(most)),),)),))  # y0 ≥ most is unsafe
        proof = tree_proof(tree, prop)
        made = certificate(exact.model, exact.blob, describe_property(prop), "holds", proof, {})
        assert check_certificate(made).accepted is accepted


whole = lambda n: lax.convert_element_type(n, np.int32)
CHOICES = {
    "true": (lambda n: n > 0, 1), "false": (lambda n: n < 0, 0), "equal": (lambda n: n == 4, 1),
    "of a difference": (lambda n: n - 4 >= 0, 1), "of integers": (lambda n: whole(n) > 3, 1),
    "rounded": (lambda n: n + 1e-9 > n, None), "not finite": (lambda n: n < jnp.inf, None),
    "cut": (lambda n: whole(n + 0.5) > 4, None), "of a root": (lambda n: jnp.sqrt(n) > 1, None),
}  # fmt: skip


@pytest.mark.parametrize("name", CHOICES)
def test_only_exact_arithmetic_decides(name):
    """Numbers are traced as they are inside of JAX's own functions."""
    test, answer = CHOICES[name]
    choose = jax.jit(lambda n, x: lax.select(jnp.broadcast_to(test(n), x.shape), x, -x))
    program, values = build(lambda _, x: choose(4.0, x), (), x)
    (eqn,) = (eqn for eqn in program.equations if eqn.name == "select_n")
    assert decided(program, eqn.inputs[0]) == answer
    lowered = lower(program)
    assert ("select_n" in [e.name for e in lowered.equations]) == (answer is None)
    np.testing.assert_array_equal(lowered.evaluate(values, x)[0], program.evaluate(values, x)[0])


def test_parameters_and_inputs_decide_nothing():
    for choice in (lambda w, x: jnp.where(w > 0, x, -x), lambda w, x: jnp.where(x > w, x, -x)):
        program, _ = build(choice, jnp.float32(1), x)
        predicates = [eqn.inputs[0] for eqn in program.equations if eqn.name == "select_n"]
        assert [decided(program, v) for v in predicates] == [None]
