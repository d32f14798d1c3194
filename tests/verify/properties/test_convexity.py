"""Convex: derivations for input-convex nets, midpoints against others."""

from dataclasses import replace
from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import axiom_jax as ax
from axiom_jax import nn

pytestmark = pytest.mark.thin(2)

BOX = ax.Box([0, 0], [1, 1])


def icnn(seed=0):
    model = ax.Sequential(nn.Dense(2, 6), nn.relu, nn.Dense(6, 6), nn.relu, nn.Dense(6, 1), seed=seed)
    hidden = {k: jax.tree.map(jnp.abs, v) for k, v in model.params.items() if not k.startswith("0")}
    return replace(model, params={**model.params, **hidden})


def test_proves_an_input_convex_net_and_refutes_the_opposite():
    result = ax.verify(icnn(), [ax.Convex(), ax.Convex(concave=True)], region=BOX)
    assert [item.verdict for item in result] == ["proved", "refuted"]
    assert all(ax.check_certificate(item.certificate).accepted for item in result)


def test_a_counterexample_is_a_midpoint_above_the_chord():
    model = lambda x: -jax.nn.relu(x - 0.5)
    (item,) = ax.verify(model, ax.Convex(), region=ax.Box([0], [1]))
    x, y = item.counterexample.inputs
    f = lambda z: -max(z - Fraction(1, 2), Fraction(0))
    assert item.verdict == "refuted" and f((x + y) / 2) > (f(x) + f(y)) / 2


@pytest.mark.parametrize(
    ("model", "verdict"),
    [
        (lambda x: jnp.exp(2 * x + 1) + x**2, "claimed"),
        (lambda x: jnp.maximum(jnp.exp(x), 3 * x) - 4 * x, "claimed"),
        (lambda x: jnp.abs(x - 0.25) + jnp.maximum(2 * x, 1 - x), "proved"),
        (lambda x: 2 * x + 1, "proved"),
        (jnp.tanh, "refuted"),
    ],
)
def test_verdicts(model, verdict):
    (item,) = ax.verify(model, ax.Convex(), region=ax.Box([0], [1]))
    assert item.verdict == verdict, item.reason


def test_convex_with_a_skip_of_any_sign():
    model = lambda x: jax.nn.relu(x @ np.array([[1.0], [-2.0]], np.float32)) + x @ np.array([[-3.0], [5.0]], np.float32)
    assert ax.verify(model, ax.Convex(), region=BOX).passed


def small(weights, x):
    return jax.nn.relu(x @ weights[0] + weights[1]) @ weights[2]


@settings(max_examples=12)
@given(st.integers(0, 10**6))
def test_what_is_proved_has_no_midpoint_above(seed):
    generator = np.random.default_rng(seed)
    w, b = generator.normal(size=(2, 4)).astype(np.float32), generator.normal(size=4).astype(np.float32)
    v = (generator.normal(size=(4, 1)) + 0.8).astype(np.float32)
    (item,) = ax.verify(ax.Model(small, [w, b, v]), ax.Convex(), region=BOX, mode="quick")
    run = lambda z: np.maximum(z @ w.astype(float) + b, 0) @ v.astype(float)
    x, y = generator.uniform(size=(2, 500, 2))
    if item.verdict == "proved":
        assert (run(x) + run(y) - 2 * run((x + y) / 2)).min() >= -1e-9
    if (v >= 0).all():
        assert item.verdict == "proved"
