"""The end of a model: where it begins, and whether it keeps the order of what goes in."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from axiom_jax.verification.properties.tails import tail_of
from axiom_jax.verification.search.margins import Subject

pytestmark = pytest.mark.thin(2)

W = jnp.asarray(np.random.default_rng(0).normal(size=(4, 3)), jnp.float32)


def tail(end, shape=(1, 4)):
    return tail_of(Subject(lambda w, x: end(x @ w), W, (jax.ShapeDtypeStruct(shape, np.float32),), "net"))


@pytest.mark.parametrize("end", [
    jax.nn.softmax, jax.nn.sigmoid, jnp.tanh, jax.nn.log_softmax, jnp.exp, lambda z: jax.nn.softmax(2 * z + 1),
    lambda z: jax.nn.softmax(jnp.tanh(z)), lambda z: jnp.exp(z) / jnp.sum(jnp.exp(z)), lambda z: z - z.max(),
    lambda z: jnp.log(jax.nn.sigmoid(z)),
])  # fmt: skip
def test_increasing_ends_are_known_and_keep_the_order(end):
    found = tail(end)
    assert found.logits is not None
    x = np.random.default_rng(1).normal(size=(20, 1, 4)).astype(np.float32)
    logits = found.before(found.logits)
    for row in x:
        z = logits.outputs(logits.params, row.ravel())
        y = found.after(found.logits)(z.reshape(found.logits.shape))
        np.testing.assert_allclose(y, end(row @ W).ravel(), rtol=2e-5)
        assert list(np.argsort(z)) == list(np.argsort(y))


@pytest.mark.parametrize("end", [
    jax.nn.relu, lambda z: -z, lambda z: jax.nn.softmax(-z), lambda z: z * z,
    lambda z: jnp.exp(z) / jnp.exp(z[:, :1]).T,
    lambda z: z / z.sum(), lambda z: jax.nn.softmax(z * jnp.array([1.0, 2.0, 3.0])), jnp.sin, lambda z: z[:, ::-1],
    lambda z: z * z.max(), lambda z: jax.nn.softmax(z) + jnp.array([0.0, 0.5, 0.0]), lambda z: jnp.log(z),
    lambda z: jax.nn.gelu(z), lambda z: jnp.concatenate([z, -z], 1),
])  # fmt: skip
def test_other_ends_are_not_taken_for_increasing_ones(end):
    found = tail(end)
    assert found.logits is None or not any(e.name in ("neg", "sin", "rev", "integer_pow", "log") for e in
                                           found.behind(found.logits))  # fmt: skip
    if found.logits is not None:  # a part of it may be: softmax of something else
        x = np.random.default_rng(1).normal(size=(1, 4)).astype(np.float32)
        z = found.before(found.logits).outputs(found.before(found.logits).params, x.ravel())
        assert list(np.argsort(z)) == list(np.argsort(end(x @ W).ravel()))


def test_rows_of_several_distributions_are_not_compared_with_each_other():
    assert tail(jax.nn.softmax, (2, 4)).logits is None
    assert tail(jax.nn.sigmoid, (2, 4)).logits is not None


def test_a_model_that_ends_in_parameters_has_no_end():
    assert tail(lambda z: z).starts == ()
    found = tail(lambda z: jax.nn.softmax(z) @ W.T)
    assert found.logits is None and found.starts == ()
