"""Layers made of layers: what they compute, whose parameters they take, and what they refuse."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen, nnx

from axiom_jax import nn
from axiom_jax._errors import AxiomError, ShapeError
from axiom_jax.model import Model, Sequential

KEY = jax.random.key(0)
X = jnp.linspace(-1, 1, 12).reshape(3, 4)


def paths(tree: Any) -> list[str]:
    return [jax.tree_util.keystr(path, simple=True, separator="/") for path, _ in jax.tree.leaves_with_path(tree)]


def test_combinations() -> None:
    a, b = nn.Dense(4, 2), nn.Dense(4, 2)
    for combine, expected in {
        "concat": lambda x, y: np.concatenate([x, y], -1), "sum": np.add, "product": np.multiply,
        "mean": lambda x, y: (x + y) / 2, jnp.maximum: np.maximum,
    }.items():  # fmt: skip
        model = Sequential(nn.Parallel(a, [b, nn.tanh], combine=combine))
        own = model.params["0_Parallel"]
        first, second = a.apply(own["branch0"]["0_Dense"], X), b.apply(own["branch1"]["0_Dense"], X)
        np.testing.assert_allclose(model(X), expected(first, np.tanh(second)), rtol=1e-5, atol=1e-6)
    pair = Sequential(nn.Parallel(nn.tanh, nn.relu, combine=None), nn.Bilinear(4, 4, 2), input_shape=(4,))
    assert pair(X).shape == (3, 2) and pair.signature.outputs[0][1] == ("batch", 2)
    skip = Sequential(nn.SkipConnection(nn.tanh), input_shape=(4,))
    np.testing.assert_allclose(skip(X), jnp.concatenate([jnp.tanh(X), X], -1), rtol=1e-6)
    with pytest.raises(AxiomError, match="does not know how to combine"):
        nn.Parallel(a, b, combine="add")


def test_conditions_by_example_and_for_all() -> None:
    layer = nn.Conditional(lambda x: x.sum(-1) > 0, nn.tanh, lambda x: 0 * x)
    np.testing.assert_allclose(layer.apply(layer.init(KEY), X)[0], 0)
    np.testing.assert_allclose(layer.apply(layer.init(KEY), X)[2], jnp.tanh(X[2]), rtol=1e-6)
    whole = nn.Conditional(lambda x: x.sum() > 100, nn.Dense(4, 2), [nn.Dense(4, 2), nn.BatchNorm(2)])
    model = Sequential(whole)
    own = model.params["0_Conditional"]
    np.testing.assert_allclose(model(X), nn.Dense(4, 2).apply(own["otherwise"]["0_Dense"], X), rtol=1e-4, atol=1e-5)
    _, moved = jax.jit(lambda m, x: m.apply_train(x, key=KEY))(model, X)
    assert moved.params["0_Conditional"]["otherwise"]["1_BatchNorm"]["mean"].any()
    _, moved = model.apply_train(X + 100, key=KEY)  # the other side ran: its statistics stay
    assert not moved.params["0_Conditional"]["otherwise"]["1_BatchNorm"]["mean"].any()
    with pytest.raises(ShapeError) as caught:
        Sequential(nn.Conditional(lambda x: x > 0, nn.tanh, nn.relu), input_shape=(4,))
    assert caught.value.fix == "reduce it: lambda x: (…).all(tuple(range(1, x.ndim)))"
    with pytest.raises(ShapeError) as caught:
        Sequential(nn.Conditional(lambda x: x.sum(-1), nn.tanh, nn.relu), input_shape=(4,))
    assert caught.value.fix == "compare: lambda x: … > 0"


def test_what_brings_parameters_keeps_them() -> None:
    inner = Sequential(nn.Dense(4, 4), nn.relu, seed=5)
    module = nnx.Linear(4, 4, rngs=nnx.Rngs(3))
    dense = linen.Dense(4)
    variables = dense.init(KEY, X)
    own = Model(lambda params, x: x * params["scale"], {"scale": jnp.full(4, 3.0)}, name="own")
    layer = nn.Parallel(inner, module, (dense, variables), nn.Residual(own), nn.Dense(4, 4))
    model = Sequential(layer, input_shape=(4,))
    params = model.params["0_Parallel"]
    assert params["branch0"]["0_Dense"]["kernel"] is inner.params["0_Dense"]["kernel"]
    last = nn.Dense(4, 4).apply(params["branch4"]["0_Dense"], X)
    expected = [inner(X), module(X), dense.apply(variables, X), 4 * X, last]
    np.testing.assert_allclose(model(X), jnp.concatenate(expected, -1), rtol=1e-5, atol=1e-6)
    bare = model.apply.layers[0]
    assert bare == layer and not bare.given and not bare.branches[3].layers[0].given
    assert paths(layer.init(KEY)) == paths(params)


def test_one_architecture_is_one_structure() -> None:
    make = lambda seed: Sequential(nn.Residual(Sequential(nn.Dense(4, 4), seed=seed)), nn.relu)
    assert jax.tree.structure(make(0)) == jax.tree.structure(make(1)) and make(0).apply == make(1).apply


def test_shared_parameters() -> None:
    tied = nn.Shared("tied", nn.Dense(4, 4))
    model = Sequential(tied, nn.tanh, tied, nn.BatchNorm(4), nn.Shared("tied", nn.Dense(4, 4)))
    assert paths(model.params)[:2] == ["0_tied/bias", "0_tied/kernel"] and len(jax.tree.leaves(model.params)) == 6
    step = lambda x: x @ model.params["0_tied"]["kernel"]
    normed = step(jnp.tanh(step(X))) / np.sqrt(1 + 1e-5)
    np.testing.assert_allclose(model(X), step(normed), rtol=1e-4, atol=1e-5)
    gradient = jax.grad(lambda m: m(X).sum())(model).params["0_tied"]["kernel"]
    assert gradient.shape == (4, 4) and model.summary().parameters == 20 + 16
    longer = model >> nn.relu
    assert longer.params["0_tied"]["kernel"] is model.params["0_tied"]["kernel"]
    with pytest.raises(AxiomError, match="share the name 'tied' and are not equal"):
        Sequential(tied, nn.Shared("tied", nn.Dense(4, 4, use_bias=False)))
    with pytest.raises(AxiomError, match="its parameters are not the same everywhere"):
        Sequential(tied, seed=1) >> Sequential(tied, seed=2)
    normed = nn.Shared("norm", nn.BatchNorm(4))
    _, moved = Sequential(normed, normed).apply_train(X, key=KEY)
    once = nn.BatchNorm(4).apply_train(nn.BatchNorm(4).init(KEY), X, KEY)
    twice = nn.BatchNorm(4).apply_train(once[1], once[0], KEY)[1]
    np.testing.assert_allclose(moved.params["0_norm"]["var"], twice["var"], rtol=1e-5)


def test_training_mode_goes_through() -> None:
    drop = nn.Dropout(0.5)
    model = Sequential(nn.Parallel(drop, drop, combine=None), lambda ys: ys[0] - ys[1], input_shape=(4,))
    y, _ = model.apply_train(jnp.ones((50, 4)), key=KEY)
    assert np.asarray(y).any()  # each branch draws for itself
    assert not np.asarray(model(jnp.ones((50, 4)))).any()


def test_several_inputs() -> None:
    model = Sequential(nn.Parallel(nn.Dense(4, 2), nn.Dense(3, 2), each=True, combine="sum"), nn.relu)
    y = jnp.ones((3, 3))
    np.testing.assert_allclose(model(X, y), model((X, y)), rtol=1e-6)
    assert model.apply_train(X, y, key=KEY)[0].shape == (3, 2)
    for wrong, fix in (((X,), "leave out each=True"), ((X, y, y), "give it 2 arrays, not 3")):
        with pytest.raises(ShapeError) as caught:
            model(*wrong)
        assert caught.value.fix == fix
    with pytest.raises(ShapeError) as caught:
        Sequential(nn.Dense(4, 2))((X, X))
    assert caught.value.fix == "choose one before it: (lambda x: x[0]) >> Dense(4, 2)"
