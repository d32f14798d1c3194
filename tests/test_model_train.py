"""Training mode: statistics move by their formula, dropout keeps the mean, inference stays as it was."""

from typing import Any

import equinox
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen, nnx
from hypothesis import given, settings
from hypothesis import strategies as st
from jaxtyping import Array, Float

import axiom_jax as ax
from axiom_jax import nn
from axiom_jax._errors import AxiomError, ShapeError
from axiom_jax._model_train import apply_train

pytestmark = pytest.mark.thin(2)

KEY = jax.random.key(3)
X = jax.random.normal(jax.random.key(0), (6, 4)) * 2 + 1


def same(a: Any, b: Any) -> bool:
    return jax.tree.structure(a) == jax.tree.structure(b) and all(
        map(np.array_equal, jax.tree.leaves(a), jax.tree.leaves(b))
    )


def like(a: Any, b: Any) -> None:
    """One structure, with the same shapes and dtypes: what a scan over training steps needs."""
    assert jax.tree.structure(a) == jax.tree.structure(b)
    of = lambda leaf: (jnp.shape(leaf), jnp.result_type(leaf))
    assert [of(leaf) for leaf in jax.tree.leaves(a)] == [of(leaf) for leaf in jax.tree.leaves(b)]


@pytest.mark.slow
@settings(max_examples=10)
@given(st.integers(2, 9), st.integers(0, 1000))
def test_running_statistics_move_by_the_formula(rows: int, seed: int) -> None:
    x = jax.random.normal(jax.random.key(seed), (rows, 3)) * 3 - 1
    model = ax.Sequential(nn.BatchNorm(3))
    y, moved = model.apply_train(x, key=KEY)
    np.testing.assert_allclose(y, (x - x.mean(0)) / np.sqrt(x.var(0) + 1e-5), rtol=1e-3, atol=1e-3)
    own = moved.params["0_BatchNorm"]
    np.testing.assert_allclose(own["mean"], 0.99 * 0 + 0.01 * x.mean(0), rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(own["var"], 0.99 * 1 + 0.01 * x.var(0), rtol=1e-3, atol=1e-5)
    like(model, moved)


def test_inference_is_unchanged_and_statistics_have_no_gradient() -> None:
    model = ax.Sequential(nn.Dense(4, 3), nn.BatchNorm(3), nn.Dropout(0.5))
    before = model(X)
    _, moved = model.apply_train(X, key=KEY)
    assert np.array_equal(model(X), before) and not np.array_equal(moved(X), before)
    moving = lambda m: sum(map(jnp.sum, jax.tree.leaves(m.apply_train(X, key=KEY)[1].params["1_BatchNorm"]["mean"])))
    assert all(not leaf.any() for leaf in jax.tree.leaves(jax.grad(moving)(model)))


def test_gradients_flow_through_the_statistics_of_the_batch() -> None:
    model = ax.Sequential(nn.BatchNorm(4))
    loss = lambda x: (model.apply_train(x, key=KEY)[0] ** 3).sum()
    own = lambda x: (((x - x.mean(0)) / jnp.sqrt(x.var(0) + 1e-5)) ** 3).sum()
    np.testing.assert_allclose(jax.grad(loss)(X), jax.grad(own)(X), rtol=1e-2, atol=1e-3)


def test_dropout_keeps_the_mean_and_draws_by_key() -> None:
    model, x = ax.Sequential(nn.Dropout(0.25), nn.Dropout(0.25)), jnp.ones((400, 100))
    y, moved = model.apply_train(x, key=KEY)
    assert abs(float(y.mean()) - 1) < 0.02 and abs(float((y == 0).mean()) - (1 - 0.75**2)) < 0.02
    assert same(moved, model) and np.array_equal(model(x), x)
    assert np.array_equal(y, model.apply_train(x, key=KEY)[0])
    assert not np.array_equal(y, model.apply_train(x, key=jax.random.key(4))[0])


def test_which_leaves_are_trainable() -> None:
    model = ax.Sequential(nn.Dense(4, 4), nn.Residual(nn.BatchNorm(4), nn.Dense(4, 4)))
    mask = ax.trainable(model)
    assert jax.tree.structure(mask) == jax.tree.structure(model.params)
    assert mask["1_Residual"]["layers"]["0_BatchNorm"] == {"bias": True, "mean": False, "scale": True, "var": False}
    assert all(jax.tree.leaves(mask["0_Dense"]))
    integers = ax.Model(lambda params, x: x + params["shift"], {"shift": jnp.arange(3), "scale": jnp.ones(3)})
    assert ax.trainable(integers) == {"shift": False, "scale": True}


def test_a_step_can_be_jitted_and_scanned() -> None:
    model = ax.Sequential(nn.Dense(4, 3), nn.BatchNorm(3), nn.Dropout(0.1), nn.Residual(nn.BatchNorm(3)))
    step = lambda m, key: (m.apply_train(X, key=key)[1], None)
    moved, _ = jax.jit(lambda m: jax.lax.scan(step, m, jax.random.split(KEY, 5)))(model)
    like(moved, model)
    assert not np.array_equal(moved.params["1_BatchNorm"]["mean"], model.params["1_BatchNorm"]["mean"])


def test_an_apply_without_training_mode_is_itself() -> None:
    double = lambda params, x: params * x
    y, params = apply_train(double, jnp.float32(2), X, key=KEY)
    np.testing.assert_array_equal(y, 2 * X)
    assert params == 2


def test_shape_errors_are_those_of_a_call() -> None:
    model = ax.Sequential(nn.Dense(4, 3), nn.BatchNorm(3))
    with pytest.raises(ShapeError) as called:
        model(X.T)
    with pytest.raises(ShapeError) as trained:
        model.apply_train(X.T, key=KEY)
    assert (called.value.what, called.value.got) == (trained.value.what, trained.value.got)


# foreign modules


class Block(nnx.Module):
    def __init__(self, rngs: nnx.Rngs):
        self.dense = nnx.Linear(4, 3, rngs=rngs)
        self.norm = nnx.BatchNorm(3, rngs=rngs)
        self.drop = nnx.Dropout(0.5, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.drop(self.norm(self.dense(x)))


def test_nnx_modules_train() -> None:
    module = Block(nnx.Rngs(0))
    model = ax.Sequential(module, input_shape=(4,))
    y, moved = model.apply_train(X, key=KEY)
    like(model, moved)
    assert (y == 0).any() and not np.array_equal(y, model.apply_train(X, key=jax.random.key(4))[0])
    module.train()
    module(X)
    np.testing.assert_allclose(moved.params["0_Block"]["norm"]["mean"], module.norm.mean[...], rtol=1e-5)
    assert ax.trainable(model)["0_Block"]["norm"] == {"bias": True, "mean": False, "scale": True, "var": False}


class Linen(linen.Module):
    @linen.compact
    def __call__(self, x: Any, train: bool = False) -> Any:
        x = linen.BatchNorm(use_running_average=not train)(linen.Dense(3)(x))
        return linen.Dropout(0.5, deterministic=not train)(x)


def test_linen_modules_train() -> None:
    module = Linen()
    variables = module.init(jax.random.key(0), X)
    model = ax.Sequential((module, variables), input_shape=(4,))
    y, moved = model.apply_train(X, key=KEY)
    like(model, moved)
    assert (y == 0).any()
    own = moved.params["0_Linen"]["batch_stats"]["BatchNorm_0"]["mean"]
    hidden = X @ variables["params"]["Dense_0"]["kernel"] + variables["params"]["Dense_0"]["bias"]
    np.testing.assert_allclose(own, 0.01 * hidden.mean(0), rtol=1e-4, atol=1e-6)
    mask = ax.trainable(model)["0_Linen"]
    assert not any(jax.tree.leaves(mask["batch_stats"])) and all(jax.tree.leaves(mask["params"]))


def test_equinox_modules_draw_where_they_take_a_key() -> None:
    net = equinox.nn.Sequential([equinox.nn.Linear(4, 8, key=KEY), equinox.nn.Dropout(0.5)])
    model = ax.Sequential(net, nn.relu, input_shape=(4,))
    y, moved = model.apply_train(X, key=KEY)
    like(model, moved)
    zero = np.asarray(y == 0)
    assert zero.any() and not (zero == zero[0]).all()  # each example draws for itself
    plain = ax.Sequential(equinox.nn.Linear(4, 8, key=KEY), input_shape=(4,))
    np.testing.assert_array_equal(plain.apply_train(X, key=KEY)[0], plain(X))
    with pytest.raises(AxiomError, match="keeps state outside"):
        ax.Sequential(equinox.nn.make_with_state(equinox.nn.BatchNorm)(4, "batch", mode="batch")[0])


def test_a_model_in_a_model_trains() -> None:
    inner = ax.Sequential(nn.Dense(4, 3), nn.BatchNorm(3), name="inner")
    model = ax.Sequential(inner, nn.relu)
    _, moved = model.apply_train(X, key=KEY)
    like(model, moved)
    assert moved.params["0_inner"]["1_BatchNorm"]["mean"].any()
    assert ax.trainable(model)["0_inner"]["1_BatchNorm"]["mean"] is False


# declarations


def normed() -> ax.Model:
    return ax.Sequential(nn.Dense(4, 4), nn.BatchNorm(4))


def test_declarations_train_their_nets() -> None:
    @ax.axiom
    def twice(net: nn.Sequential, head: nn.Dense, x: Float[Array, "n 4"]) -> Float[Array, "n 2"]:
        return head(net(net(x)))

    model = twice.bind(normed(), nn.Dense(4, 2))
    y, moved = model.apply_train(X, key=KEY)
    like(model, moved)
    net = model.params["net"]
    once = normed().apply.apply_train
    h, after = once(net, X, key=KEY)
    h, after = once(after, h, key=KEY)  # the second call goes on from the first
    np.testing.assert_allclose(moved.params["net"]["1_BatchNorm"]["mean"], after["1_BatchNorm"]["mean"], rtol=1e-5)
    np.testing.assert_allclose(y, h @ model.params["head"]["0_Dense"]["kernel"], rtol=1e-4, atol=1e-5)
    assert ax.trainable(model)["net"]["1_BatchNorm"]["var"] is False
    assert jax.grad(lambda m: (m.apply_train(X, key=KEY)[0] ** 2).sum())(model).params["net"]["0_Dense"]["kernel"].any()
    like(jax.jit(lambda m, x: m.apply_train(x, key=KEY)[1])(model, X), model)


def test_a_net_given_with_the_call_is_trained() -> None:
    @ax.axiom
    def through(net: nn.Sequential, x: Float[Array, "n 4"]) -> Float[Array, "n 4"]:
        return net(x)

    net = normed()
    y, moved = through.apply_train(net, X, key=KEY)
    np.testing.assert_allclose(y, net.apply_train(X, key=jax.random.key(0))[0], rtol=1e-4, atol=1e-5)
    assert moved.params["net"]["1_BatchNorm"]["mean"].any()


def test_statistics_that_cannot_leave_a_transformation_are_refused() -> None:
    @ax.axiom
    def mapped(net: nn.Sequential, x: Float[Array, "n m 4"]) -> Float[Array, "n m 4"]:
        return jax.vmap(net)(x)

    with pytest.raises(AxiomError, match="cannot leave a jax transformation") as caught:
        mapped.bind(normed()).apply_train(jnp.stack([X, X]), key=KEY)
    assert caught.value.fix == "call net outside of jax.vmap, jax.grad, jax.lax.scan and the like"
    plain = mapped.bind(nn.Dense(4, 4) >> nn.Dropout(0.5))
    assert plain.apply_train(jnp.stack([X, X]), key=KEY)[0].shape == (2, 6, 4)
