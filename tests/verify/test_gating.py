"""Leaky relus, however they are written, are one relu; other choices stay gates."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from axiom_jax._program import build
from axiom_jax.verification.lowering import lower

x = jnp.float32([-1.5, -1e-3, 0.0, 2.0])
BENT = {
    "leaky_relu": (lambda _, x: jax.nn.leaky_relu(x), ()),
    "prelu": (lambda a, x: jnp.where(x >= 0, x, a * x), jnp.float32(0.25)),
    "prelu, turned around": (lambda a, x: jnp.where(0 > x, x * a, x), jnp.full(4, 0.25)),
    "relu": (lambda _, x: jnp.where(x < 0, 0.0, x), ()),
    "the part below": (lambda _, x: jnp.where(x > 0, 0.0, x), ()),
    "two slopes": (lambda _, x: jnp.where(x > 0, 3 * x, 2 * x), ()),
}


@pytest.mark.parametrize("name", BENT)
def test_one_relu(name):
    function, params = BENT[name]
    program, values = build(function, params, x)
    lowered = lower(program)
    names = [eqn.name for eqn in lowered.equations]
    assert names.count("max") == 1 and "select_n" not in names
    np.testing.assert_allclose(lowered.evaluate(values, x)[0], function(params, x), rtol=1e-6)


@pytest.mark.parametrize("jump", [lambda x: jnp.where(x > 0, x, 1.0), lambda x: jnp.where(x > 1, x, 2 * x)])
def test_jumps_are_no_relus(jump):
    program, values = build(lambda _, x: jump(x), (), x)
    lowered = lower(program)
    assert "select_n" in [eqn.name for eqn in lowered.equations]
    np.testing.assert_allclose(lowered.evaluate(values, x)[0], jump(x), rtol=1e-6)
