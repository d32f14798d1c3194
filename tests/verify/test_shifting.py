"""Softmax by differences and by pairs: the same function, whatever it is written with."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from axiom_jax._program import build
from axiom_jax.verification.lowering import lower, prepare
from axiom_jax.verification.shifting import differences

x = jnp.asarray(np.random.default_rng(0).normal(size=(2, 5)) * 3, jnp.float32)
SOFTMAX = {
    "softmax": jax.nn.softmax,
    "softmax of columns": lambda x: jax.nn.softmax(x, axis=0),
    "log_softmax": jax.nn.log_softmax,
    "by hand": lambda x: jnp.exp(x) / jnp.exp(x).sum(-1, keepdims=True),
    "logsumexp": lambda x: jax.nn.logsumexp(x, axis=0),
    "of one": lambda x: jax.nn.softmax(x[:, :1]),
    "far apart": lambda x: jax.nn.softmax(60 * x),
}


@pytest.mark.parametrize("name", SOFTMAX)
@pytest.mark.parametrize("by_pairs", [False, True])
def test_nothing_changes(name, by_pairs):
    function = SOFTMAX[name]
    program, values = build(lambda _, x: function(x), (), x)
    prepared = prepare(program, by_pairs)
    if name != "logsumexp" and not by_pairs:
        assert "reduce_max" not in {eqn.name for eqn in prepared.equations}
    (found,) = prepared.evaluate(values, x)
    np.testing.assert_allclose(found, function(x), rtol=2e-4, atol=1e-6)


def test_differences_are_counted():
    program, _ = build(lambda _, x: jax.nn.softmax(x) * jax.nn.softmax(x.T).T, (), x)
    assert differences(program) == 2 * 5 * 4 + 5 * 2 * 1
    assert differences(lower(program)) == 0
