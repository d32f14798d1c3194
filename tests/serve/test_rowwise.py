"""Padding is sound: where `rowwise` says yes, a padded batch gives the same rows; where rows mix, it says no."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import axiom_jax as ax
from axiom_jax.serve.rowwise import RULES, rowwise

W = np.random.default_rng(0).normal(size=(4, 4)).astype(np.float32)

# each with one (n, 4) input; those of the first table keep rows apart, those of the second do not
APART = {
    "dense": lambda w, x: jax.nn.relu(x @ w),
    "softmax": lambda w, x: jax.nn.softmax(x @ w),
    "layer norm": lambda w, x: (x - x.mean(1, keepdims=True)) / (x.std(1, keepdims=True) + 1),
    "sort in rows": lambda w, x: jnp.sort(x, axis=1)[:, ::-1],
    "top k": lambda w, x: jax.lax.top_k(x, 2)[0],
    "columns": lambda w, x: x[:, np.array([2, 0])],
    "own columns": lambda w, x: jnp.take_along_axis(x, jnp.argsort(x, axis=1), axis=1),
    "table": lambda w, x: w[jnp.clip(x.astype(jnp.int32), 0, 3)].sum(1),
    "cumsum in rows": lambda w, x: jnp.cumsum(x, axis=1),
    "row number": lambda w, x: x + jnp.arange(x.shape[0])[:, None],
    "argmax": lambda w, x: jax.nn.one_hot(x.argmax(1), 4),
    "einsum": lambda w, x: jnp.einsum("ni,ij,nj->n", x, w, x),
    "outer": lambda w, x: (x[:, :, None] * x[:, None, :]).reshape(x.shape[0], -1),
    "attention in rows": lambda w, x: jax.nn.softmax(jnp.einsum("ni,nj->nij", x, x)) @ w,
    "concatenate": lambda w, x: jnp.concatenate([x, x @ w], 1)[:, 1:7],
    "pad": lambda w, x: jnp.pad(x, ((0, 0), (1, 2))),
    "where": lambda w, x: jnp.where(x > 0, x, jnp.exp(x)),
    "constant": lambda w, x: jnp.broadcast_to(w[0], x.shape),
    "transposed twice": lambda w, x: (w @ x.T).T,
    "window": lambda w, x: jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, 2), (1, 1), "VALID"),
    "convolution": lambda w, x: jax.lax.conv(x[:, None, :, None], w[None, :1, :2, None], (1, 1), "SAME")[:, 0, :, 0],
}
MIXED = {
    "mean of the batch": lambda w, x: x - x.mean(0),
    "gram": lambda w, x: jnp.repeat((x @ x.T).sum(1), 4).reshape(-1, 4),
    "batch size": lambda w, x: x / x.shape[0],
    "batch size as a power": lambda w, x: x ** x.shape[0],
    "reversed": lambda w, x: x[::-1],
    "shifted": lambda w, x: jnp.roll(x, 1, 0),
    "sorted": lambda w, x: jnp.sort(x, axis=0),
    "cumsum": lambda w, x: jnp.cumsum(x, axis=0),
    "mixed by reshape": lambda w, x: x.T.reshape(x.shape),
    "numbered from the end": lambda w, x: x + jnp.arange(x.shape[0])[::-1, None],
    "first row": lambda w, x: x + x[:1],
    "soft over the batch": lambda w, x: jax.nn.softmax(x, axis=0),
    "another row": lambda w, x: x[jnp.zeros(x.shape[0], jnp.int32)],
    "a captured array of the batch": lambda w, x: x + np.linspace(0, 1, x.shape[0], dtype=np.float32)[:, None],
    "a row by value": lambda w, x: jax.lax.dynamic_slice(w, (x.shape[0] - 2, 0), (1, 4)) + x,
    "ranks": lambda w, x: (x[:, None] < x[None]).sum(1).astype(jnp.float32),
}
specs = lambda n: [jax.ShapeDtypeStruct((n, 4), np.float32)]


@pytest.mark.parametrize("name", APART)
def test_rows_that_are_apart(name):
    assert rowwise(APART[name], W, specs)
    fn = jax.jit(APART[name])
    x = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)
    padded = np.concatenate([x, np.repeat(x[-1:], 5, 0)])
    np.testing.assert_allclose(fn(W, padded)[:3], fn(W, x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", MIXED)
def test_rows_that_mix(name):
    assert not rowwise(MIXED[name], W, specs)
    x = np.random.default_rng(3).normal(size=(3, 4)).astype(np.float32)
    padded = np.concatenate([x, np.repeat(x[-1:], 5, 0)])
    if name not in ("mixed by reshape", "first row", "another row", "shifted", "cumsum"):  # padded so they are right
        fn = jax.jit(MIXED[name])
        assert not np.allclose(fn(W, padded)[:3], fn(W, x), atol=1e-6), "this example tests nothing"


def test_conditions_inside_a_model_count():
    from jaxtyping import Array, Float, Int

    @ax.axiom
    def by_row(x: Float[Array, "batch 4"]) -> Float[Array, "batch 4"]:
        ax.ensure(x < 9, "small")
        return x

    @ax.axiom
    def by_batch(x: Float[Array, "batch 4"]) -> Float[Array, "batch 4"]:
        ax.ensure(x.mean() < 9, "small on average")
        return x

    @ax.axiom
    def whole(x: Float[Array, "batch 4"]) -> Int[Array, "batch 4"]:
        ax.ensure(x.mean() < 9, "small on average")
        return x.astype(jnp.int32)

    assert [rowwise(m.apply, m.params, specs) for m in (by_row, by_batch, whole)] == [True, False, False]


def test_every_rule_is_met():
    """Each primitive of the table that these examples can have is in one of them, so that none is untested."""
    from axiom_jax._program import build
    from axiom_jax.serve.rowwise import ELEMENTWISE

    met = set()
    for fn in (*APART.values(), *MIXED.values()):
        met |= {eqn.name for eqn in build(fn, W, *specs(5))[0].equations}
    like_others = {"argmin", "cumlogsumexp", "cummax", "cummin", "cumprod", "expand_dims", "reduce_and", "reduce_min",
                   "reduce_or", "reduce_prod", "reduce_window_min", "reduce_window_sum", "split"}  # fmt: skip
    assert set(RULES) - ELEMENTWISE - met <= like_others
