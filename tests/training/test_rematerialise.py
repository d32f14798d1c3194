"""A checkpointed model is the same model: outputs, gradients, layers, bounds; and it takes less memory."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import axiom_jax as ax
from axiom_jax import nn
from axiom_jax._errors import AxiomError
from axiom_jax._program import build
from axiom_jax.verification.domains.interval import Interval, bounds

pytestmark = pytest.mark.thin(2)

MODEL = ax.Sequential(
    nn.Dense(3, 8), nn.BatchNorm(8), nn.relu, nn.Dropout(0.3), nn.Dense(8, 8), nn.tanh, nn.Dense(8, 2)
)
X = np.random.default_rng(0).normal(size=(16, 3)).astype(np.float32)


def loss(model: ax.Model, x: jax.Array) -> tuple[jax.Array, ax.Model]:
    y, moved = model.apply_train(x, key=jax.random.key(1))
    return (y**2).sum(), moved


def equal(a: object, b: object, tolerance: float = 1e-6) -> None:
    for one, other in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_allclose(one, other, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("every", [pytest.param(1, marks=pytest.mark.slow), 2, 9])
def test_equal_outputs_gradients_and_statistics(every: int) -> None:
    made = ax.checkpoint(MODEL, every=every)
    assert made.layers == MODEL.layers and str(made.summary()) == str(MODEL.summary())
    equal(made(X), MODEL(X))
    gradient = jax.jit(jax.grad(loss, has_aux=True))
    (ours, moved), (theirs, expected) = gradient(made, X), gradient(MODEL, X)
    equal(ours, theirs, 1e-5)
    equal(moved, expected)
    assert np.abs(np.asarray(moved.params["1_BatchNorm"]["mean"])).max() > 0
    equal(jax.grad(lambda m: m(X).sum())(made), jax.grad(lambda m: m(X).sum())(MODEL), 1e-5)


def test_bounds_are_the_same() -> None:
    box = Interval(jnp.asarray(X - 0.1), jnp.asarray(X + 0.1))
    found = []
    for model in (MODEL, ax.checkpoint(MODEL, every=1)):
        program, values = build(model.apply, model.params, X)
        found.append(bounds(program, values, box))
    equal(*found)


@pytest.mark.slow
def test_forward_mode_and_several_kinds_of_input() -> None:
    made = ax.checkpoint(MODEL)
    tangent = lambda m: jax.jvp(lambda x: m.apply_train(x, key=jax.random.key(0))[0], (X,), (X,))[1]
    equal(tangent(made), tangent(MODEL), 1e-5)
    words = ax.Sequential(nn.Embedding(5, 4), nn.Dense(4, 2))
    ids = np.array([[0, 4], [1, 2]])
    run = lambda m: m.apply_train(ids, key=jax.random.key(0))[0]
    equal(run(ax.checkpoint(words)), run(words))


def test_takes_less_memory() -> None:
    model = ax.Sequential(*[layer for _ in range(24) for layer in (nn.Dense(16, 16), nn.relu)])

    def planned(model: ax.Model) -> int:
        x = jax.ShapeDtypeStruct((4096, 16), jnp.float32)
        step = jax.jit(jax.grad(lambda m, x: loss(m, x)[0]))
        return step.lower(model, x).compile().memory_analysis().temp_size_in_bytes

    assert planned(ax.checkpoint(model, every=3)) < 0.6 * planned(model)


def test_trains() -> None:
    x, y = ax.make_moons(64)
    model = ax.Sequential(nn.Dense(2, 8), nn.relu, nn.Dense(8, 8), nn.relu, nn.Dense(8, 2))
    ends = [ax.train(m, (x, y), epochs=3, progress=False).model.params for m in (model, ax.checkpoint(model, 2))]
    equal(*ends, 1e-4)


def test_what_cannot_be_checkpointed_is_told() -> None:
    with pytest.raises(AxiomError, match="Only a Sequential"):
        ax.checkpoint(lambda x: x)  # pyright: ignore[reportArgumentType]
    with pytest.raises(AxiomError, match="every so many"):
        ax.checkpoint(MODEL, every=0)
