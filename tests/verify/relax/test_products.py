"""Planes of products: sound for every choice, McCormick at its ends, closer where operands go together."""

import jax.numpy as jnp
import numpy as np
import pytest

from axiom_jax._program import build
from axiom_jax.verification.domains.interval import Interval
from axiom_jax.verification.domains.linear import crown, plan
from axiom_jax.verification.relax.products import planes, through_planes

rng = np.random.default_rng(0)


def product(f, *shapes):
    program, _ = build(f, (), *(jnp.zeros(s) for s in shapes))
    return program.equations[-1]


@pytest.mark.parametrize("t", [None, 0.0, 0.3, 1.0, "random"])
@pytest.mark.parametrize("matrices", [False, True])
def test_planes_enclose(matrices, t):
    shapes = ((2, 3), (3, 2)) if matrices else ((4,), (4,))
    eqn = product((lambda _, x, y: x @ y) if matrices else (lambda _, x, y: x * y), *shapes)
    middle = [rng.normal(size=s) for s in shapes]
    radius = [rng.uniform(0, 2, size=s) for s in shapes]
    x, y = (Interval(jnp.float32(m - r), jnp.float32(m + r)) for m, r in zip(middle, radius, strict=True))
    out = (2, 2) if matrices else (4,)
    A = jnp.float32(rng.normal(size=(5, *out)))
    choice = {None: None, "random": jnp.float32(rng.uniform(size=(2, 5, *out)))}.get(t, t)
    choice = jnp.full((2, 1, *out), choice) if isinstance(choice, float) else choice
    parts, constant, _ = through_planes(eqn, planes(eqn, x, y), A, choice)
    rows = dict(parts)
    for _ in range(300):
        at = [
            m + r * np.sign(rng.normal(size=r.shape)) * min(1, rng.uniform(0.5, 2))
            for m, r in zip(middle, radius, strict=True)
        ]
        value = (np.asarray(A, np.float64) * (at[0] @ at[1] if matrices else at[0] * at[1])).reshape(5, -1).sum(1)
        bound = sum(
            (np.asarray(rows[v], np.float64) * z).reshape(5, -1).sum(1) for v, z in zip(eqn.inputs, at, strict=True)
        )
        assert (value >= bound + np.asarray(constant) - 1e-4).all()


def test_the_ends_are_the_planes_of_mccormick():
    eqn = product(lambda _, x, y: x * y, (1,), (1,))
    x, y = Interval(jnp.float32([-1]), jnp.float32([3])), Interval(jnp.float32([2]), jnp.float32([5]))
    for t, at in ((0.0, (-1.0, 2.0)), (1.0, (3.0, 5.0))):
        parts, constant, _ = through_planes(eqn, planes(eqn, x, y), jnp.ones((1, 1)), jnp.full((2, 1, 1), t))
        assert [float(part[0, 0]) for _, part in parts] == [at[1], at[0]] and float(constant[0]) == -at[0] * at[1]


@pytest.mark.slow
def test_operands_that_go_together_are_bounded_together():
    weights = jnp.float32([[2, 0.5], [0.5, 1]])
    program, values = build(lambda w, x: ((x + 1) * (w @ x)).sum(), weights, jnp.zeros(2))
    (found,) = crown(plan(program), values, Interval(jnp.full(2, -1.0), jnp.full(2, 1.0)))
    x = np.random.default_rng(1).uniform(-1, 1, (4000, 2))
    exact = ((x + 1) * (x @ np.asarray(weights).T)).sum(1)
    loss = (exact.min() - float(found.lo), float(found.hi) - exact.max())
    assert min(loss) >= -1e-4
    assert loss[0] < 3.5  # with the McCormick planes alone it is 7
