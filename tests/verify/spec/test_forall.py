"""Functions as statements: shapes and regions from annotations and decorators, verdicts on the function."""

from fractions import Fraction
from typing import Annotated

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array, Float

import axiom_jax as ax
from axiom_jax.verification.spec.forall import statement_of
from axiom_jax.verification.statement import Ball, Range


def variables(fn):
    return [(v.name, v.shape, v.within, v.quantifier) for v in statement_of(fn).variables]


def test_arguments_are_vectors_unless_annotated():
    def claim(x, y: Float[Array, "n m"], z: Float[Array, "3"], s: float):
        return jnp.sum(y) + jnp.sum(x) + jnp.sum(z) + s >= 0

    shapes = [(name, shape) for name, shape, _, _ in variables(claim)]
    assert shapes == [("x", ("n",)), ("y", ("n", "m")), ("z", (3,)), ("s", ())]


def test_regions_of_annotations():
    def claim(x: Annotated[Float[Array, " k"], ax.Box(0, "0.1")], y: Annotated[Float[Array, "2"], ax.L2(1)]):
        return jnp.all(x <= 1)

    (_, shape, within, _), (_, _, ball, _) = variables(claim)
    assert shape == ("k",) and within == Range(Fraction(0), Fraction(1, 10))
    assert isinstance(ball, Ball) and ball.order == 2


def test_decorators_state_regions_and_quantifiers():
    @ax.forall(x=ax.Box(0, 1), eps=ax.Linf("8/255"))
    def stays(x, eps):
        return x + eps <= 2

    assert isinstance(stays, ax.Proved) and stays.verdict is stays
    assert stays.text == "∀x ∈ [0, 1]. ∀eps ∈ [-8/255, 8/255]. stays(x, eps)"
    assert bool(jnp.all(stays(jnp.zeros(2), jnp.ones(2)))) and stays.__name__ == "stays"

    @ax.forall(x=ax.Everything())
    @ax.exists(y=ax.Box(0, None))
    def reaches(x, y):
        return y >= x

    assert [v.quantifier for v in reaches.statement.variables] == ["forall", "exists"]
    assert isinstance(reaches, ax.Proved)

    @ax.exists(x=ax.Box(2, 3))
    def root(x):
        return x * x < 0

    assert isinstance(root, ax.Refuted) and root.counterexample is None and root.certificate is not None


def test_a_decorated_function_stays_a_function():
    @ax.prove
    def positive(x: Float[Array, " n"]):
        """Docs."""
        return jnp.exp(x) > 0

    assert isinstance(positive, ax.Proved) and positive.__doc__ == "Docs."
    assert bool(jax.jit(positive)(jnp.ones(3)).all())
    assert positive in {positive}

    @ax.prove(timeout=3.0)
    def above(x):
        return jax.nn.relu(x) >= 5

    assert isinstance(above, ax.Refuted) and float(jax.nn.relu(above.counterexample["x"]).max()) < 5
    assert isinstance(ax.prove(lambda x: jax.nn.relu(x) >= 0), ax.Proved)


def test_boxes_with_an_end_for_every_component():
    box = ax.Box([0, "0.1"], [1, "0.3"])
    statement = statement_of(_over(box))
    assert statement.variables[0].shape == (2,) and Fraction(1, 10) in statement.constants
    assert isinstance(ax.forall(x=box)(lambda x: jnp.sum(x) <= 1.4), ax.Proved)
    assert isinstance(ax.forall(x=box)(lambda x: jnp.sum(x) <= 1.2), ax.Refuted)


def _over(box):
    def claim(x: Annotated[Float[Array, "2"], box]):
        return jnp.sum(x) <= 2

    return claim


def test_what_is_wrong_is_said():
    with pytest.raises(ax.SpecError, match="no argument y"):
        ax.forall(y=ax.Box(0, 1))(lambda x: x >= 0)
    with pytest.raises(ax.SpecError, match="needs a region"):
        ax.forall(x=(0, 1))  # type: ignore[arg-type]
    with pytest.raises(ax.SpecError, match="condition"):
        ax.prove(lambda x: x + 1)
    with pytest.raises(ax.SpecError, match="arguments of the function"):
        ax.prove(lambda: True)
    with pytest.raises(ax.SpecError, match="nothing to prove"):
        ax.prove(3)
    with pytest.raises(ax.SpecError, match="no points"):
        ax.Box(1, 0)
    with pytest.raises(ax.SpecError, match="given by numbers"):
        ax.Linf("much")


def test_bounds_of_regions():
    assert ax.Linf("0.5", np.ones(2, np.float32)).bounds((2,)) == ((Fraction(1, 2),) * 2, (Fraction(3, 2),) * 2)
    assert ax.Box(0, [1, 2]).bounds((2,)) == ((Fraction(0),) * 2, (Fraction(1), Fraction(2)))
    with pytest.raises(ax.SpecError, match="no end"):
        ax.Everything().bounds((2,))
    with pytest.raises(ax.SpecError, match="shape"):
        ax.Box(0, [1, 2]).bounds((3,))
    assert ax.Box(0, 1) == ax.Box("0", 1.0) and ax.L1(1) != ax.L2(1)
