"""`ax.discharge`: what is a theorem leaves the program, what is not stays, and so does what the proof assumes."""

import re

import jax
import jax.numpy as jnp
import pytest
from jaxtyping import Array, Float, Int

import axiom_jax as ax
from axiom_jax import nn
from axiom_jax._model_train import apply_train


@ax.axiom
def classifier(net: nn.Sequential, x: Float[Array, "batch 3"]) -> ax.Probabilities["batch 2"]:
    output = net(x)
    ax.ensure(output >= 0, "not negative")
    ax.ensure(output.max() <= 0.75, "never sure")
    return output


NET = ax.Sequential(nn.Dense(3, 2), nn.softmax)


def test_theorems_leave_and_the_rest_stays():
    found = ax.discharge(classifier.bind(NET), watch_output=False)
    assert found.removed == ("not negative",) and [text for text, _, _ in found.items] == ["not negative", "never sure"]
    assert "proved, removed" in found._repr_html_() and "stays" in repr(found)
    with pytest.raises(ax.EnsureViolation, match="never sure"):
        found.model(jnp.full((1, 3), 1e4))
    text = str(jax.make_jaxpr(found.model)(jnp.ones((2, 3))))
    assert len(text) < len(str(jax.make_jaxpr(classifier.bind(NET))(jnp.ones((2, 3)))))


def test_what_is_proved_costs_nothing():
    @ax.axiom
    def positive(net: nn.Sequential, x: Float[Array, "batch 3"]) -> Float[Array, "batch 2"]:
        output = net(x)
        ax.ensure(output >= 0, "not negative")
        return output

    model = positive.bind(NET)
    bare = ax.discharge(model, watch_output=False).model
    x = jnp.ones((2, 3))
    compiled = lambda m: jax.jit(lambda p, x: m.apply(p, x)).lower(m.params, x).compile().as_text()
    with ax.guards("off"):
        unguarded = compiled(model)
    instructions = lambda text: re.findall(r" = \S+ ([a-z][\w-]*)\(", text)
    assert instructions(compiled(bare)) == instructions(unguarded) != instructions(compiled(model))
    watched = ax.discharge(model).model
    with pytest.raises(ax.EnsureViolation, match="finite"):
        watched(jnp.full((1, 3), jnp.nan))


def test_a_region_is_watched_in_their_place():
    @ax.axiom
    def small(net: nn.Sequential, x: Float[Array, "batch 3"]) -> Float[Array, "batch 3"]:
        ax.ensure(x <= 2, "not large")
        return net(x)

    model = small.bind(ax.Sequential(nn.Dense(3, 3)))
    assert ax.discharge(model).removed == ()
    found = ax.discharge(model, ax.Box(-1, 1))
    assert found.removed == ("not large",)
    found.model(jnp.ones((1, 3)))
    with pytest.raises(ax.EnsureViolation, match="inside of the region"):
        found.model(jnp.full((1, 3), 1.5))


def test_guards_stay_in_training_mode():
    """A proof is about inference: dropout is another program."""

    @ax.axiom
    def dropped(drop: nn.Dropout, x: Float[Array, "batch 2"]) -> Float[Array, "batch 2"]:
        before = jnp.maximum(x, 0)
        after = drop(before)
        ax.ensure(after <= before, "no more than before")
        return after

    found = ax.discharge(dropped.bind(nn.Dropout(0.5)))
    assert found.removed == ("no more than before",)
    with pytest.raises(ax.EnsureViolation, match="no more than before"):
        apply_train(found.model.apply, found.model.params, jnp.ones((3, 2)), key=jax.random.key(0))


def test_what_is_no_float32_is_left_alone():
    @ax.axiom
    def counted(x: Int[Array, "batch 2"]) -> Int[Array, "batch 2"]:
        ax.ensure(x == x, "equal to itself")
        return x

    found = ax.discharge(counted)
    assert found.removed == () and found.model.apply is counted.apply
    assert "not float32" in repr(found)
    with pytest.raises(ax.AxiomError, match="no annotated shapes"):
        ax.discharge(ax.Model(lambda p, x: x, {}))
