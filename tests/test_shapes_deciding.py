"""Claims for every size do not rest on what Python decides by a symbolic size."""

import jax
import jax.numpy as jnp
import pytest

import axiom_jax as ax
from axiom_jax.verification.domains.symbolic.translate import program_of
from axiom_jax.verification.statement import Statement, Variable


def lowered(decides):
    """relu(x) >= 0, but one less at the sizes at which `decides` says so."""
    return lambda x: jnp.maximum(x, 0) - (1 if decides(x.shape[0]) else 0) >= 0


@pytest.mark.parametrize("decides", [
    lambda n: n == 5, lambda n: n != 5, lambda n: n % 7 == 0, lambda n: n in (1000, 1001), lambda n: {5: True}.get(n),
    lambda n: n == 2 * n - 5,
])  # fmt: skip
def test_a_decision_by_a_size_is_refused_with_its_line(decides):
    for condition in (lowered(decides), jax.jit(lowered(decides))):
        for _ in range(2):  # also where JAX has traced it before
            with pytest.raises(ax.UnsupportedPrimitive, match="decides by a size") as caught:
                program_of(Statement("", (Variable("x"),), condition))
            assert caught.value.at and "test_shapes_deciding.py" in caught.value.at


@pytest.mark.parametrize("decides", [lambda n: n == 0, lambda n: n == n + 1, lambda n: n != n, lambda n: n < 1])
def test_what_is_the_same_at_every_size_is_let_pass(decides):
    assert program_of(Statement("", (Variable("x"),), lowered(decides)))


@pytest.mark.filterwarnings("ignore:Cannot prove")
def test_such_a_claim_is_refuted_at_its_size_or_stays_open():
    verdict = ax.prove(lowered(lambda n: n == 3))
    assert isinstance(verdict, ax.Refuted) and "n = 3" in repr(verdict)
