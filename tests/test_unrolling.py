"""Loops whose length literals decide become straight-line code; others stay."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from axiom_jax._program import build

x = jnp.float32([0.25, 0.75])
BOUNDED = {
    "while": lambda x: lax.while_loop(lambda c: c[0] < 3, lambda c: (c[0] + 1, jnp.sin(c[1]) + x), (0, x))[1],
    "two counters": lambda x: lax.while_loop(
        lambda c: (c[0] < 3) & (c[1] > 0), lambda c: (c[0] + 1, c[1] - 1, c[2] * x), (0, 2, x)
    )[2],
    "never": lambda x: lax.while_loop(lambda c: c[0] < 0, lambda c: (c[0] + 1, c[1] * x), (0, x))[1],
    "in a call": jax.jit(lambda x: lax.fori_loop(0, 4, lambda i, c: c * x + i, x)),
    "in a scan": lambda x: lax.scan(
        lambda h, u: (lax.while_loop(lambda c: c[0] < 2, lambda c: (c[0] + 1, c[1] * u), (0, h))[1], u), x.sum(), x
    )[0],
}


@pytest.mark.parametrize("name", BOUNDED)
def test_bounded_loops_are_unrolled(name):
    program, values = build(lambda _, x: BOUNDED[name](x), (), x)
    assert not {"while", "scan"} & {eqn.name for eqn in program.equations}
    np.testing.assert_allclose(program.evaluate(values, x)[0], BOUNDED[name](x), rtol=1e-6)


@pytest.mark.parametrize(
    "loop",
    [
        lambda x: lax.while_loop(lambda c: c.sum() < 3, lambda c: c + 1, x),
        lambda x: lax.while_loop(lambda c: c[0] < 3, lambda c: (c[0] + (c[1].sum() > 0), c[1] * x), (0, x))[1],
        lambda x: lax.while_loop(lambda c: c[0] < 10**6, lambda c: (c[0] + 1, c[1] * x), (0, x))[1],
    ],
)
def test_others_stay_loops(loop):
    program, _ = build(lambda _, x: loop(x), (), x)
    assert "while" in {eqn.name for eqn in program.equations}
