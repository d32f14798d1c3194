"""Two models: equal, near each other, or told apart by an input."""

import jax
import jax.numpy as jnp
import pytest

import axiom_jax as ax
from axiom_jax import nn

pytestmark = pytest.mark.thin(2)

NET = ax.Sequential(nn.Dense(2, 4), nn.relu, nn.Dense(4, 2), seed=1)
HALF = jax.tree.map(lambda a: a.astype(jnp.float16).astype(jnp.float32), NET)
BOX = ax.Box(-1, 1)


def only(other, tolerance):
    (item,) = ax.verify(NET, ax.Equivalent(other, tolerance), region=BOX, mode="quick").items
    return item


@pytest.mark.slow
def test_a_rounded_model_is_near_and_not_the_same():
    assert only(HALF, "0.01").verdict == "proved"
    item = only(HALF, "0.00001")
    assert item.verdict == "refuted"
    x = jnp.array([[float(v) for v in item.counterexample.inputs]])
    assert jnp.abs(NET(x) - HALF(x)).max() > 0.9e-5


def test_a_model_equals_itself_exactly():
    assert only(NET, 0).verdict == "proved"


def test_what_cannot_be_compared_is_named():
    with pytest.raises(ax.SpecError, match="not of one shape"):
        only(ax.Sequential(nn.Dense(2, 3)), 1)
    with pytest.raises(ax.SpecError, match="not negative"):
        ax.Equivalent(NET, -1)
