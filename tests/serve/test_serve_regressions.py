"""Models that look at the size of the batch are not padded."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from axiom_jax.model import Model, Signature
from axiom_jax.serve.rowwise import rowwise
from axiom_jax.serve.specs import batch_of, inputs_of, outputs_of

SIZED = {
    "at most four": lambda p, x: x * min(x.shape[0], 4),
    "a small batch": lambda p, x: x if x.shape[0] > 4 else -x,
    "a batch of three": lambda p, x: x if x.shape[0] == 3 else -x,
    "an even batch": lambda p, x: x if x.shape[0] % 2 else -x,
    "symbolic minimum": lambda p, x: x * jax.core.min_dim(x.shape[0], 4),
    "a shape": lambda p, x: x * jnp.ones(jax.core.min_dim(x.shape[0], 4)).sum(),
    "a loop": lambda p, x: x * jax.lax.fori_loop(0, jax.core.min_dim(x.shape[0], 4), lambda i, n: n + 1.0, 0.0),
}


@pytest.mark.parametrize("name", SIZED)
def test_a_program_that_depends_on_the_size_is_not_padded(name):
    fn = SIZED[name]
    assert not rowwise(fn, {}, lambda n: [jax.ShapeDtypeStruct((n, 4), np.float32)])
    x = np.ones((3, 4), np.float32)
    assert not np.array_equal(fn({}, np.repeat(x[:1], 8, 0))[:3], fn({}, x)), "this example tests nothing"


@pytest.mark.parametrize(("fn", "padded"), ((SIZED["at most four"], False), (lambda p, x: x * 2, True)))
def test_the_batch_of_a_model(fn, padded):
    model = Model(fn, {}, Signature((("x", ("batch", 4), "float32"),), (("y", ("batch", 4), "float32"),)))
    inputs = inputs_of(model.signature.inputs, model.name)
    assert batch_of(model, inputs, outputs_of(model, None, model.name, inputs)) == ("batch" if padded else None)
