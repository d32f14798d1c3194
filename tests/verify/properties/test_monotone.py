"""Monotone: proved by signs and by slopes, refuted by a pair; what is false is never proved."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import axiom_jax as ax
from axiom_jax import nn

pytestmark = pytest.mark.thin(2)

BOX = ax.Box([-1] * 3, [1] * 3)


def net(seed=0, width=8):
    return ax.Sequential(nn.Dense(3, width), nn.relu, nn.Dense(width, width), nn.relu, nn.Dense(width, 1), seed=seed)


def positive(model):
    return replace(model, params=jax.tree.map(jnp.abs, model.params))


def test_proves_a_net_of_nonnegative_weights():
    result = ax.verify(positive(net()), ax.Monotone([0, 1]), region=BOX)
    assert result.passed
    assert ax.check_certificate(result.items[0].certificate).accepted


def test_refutes_a_perturbed_one_with_an_exact_pair():
    model = positive(net())
    params = dict(model.params)
    first = dict(params["0_Dense"])
    first["kernel"] = first["kernel"].at[0].multiply(-1.0)
    params["0_Dense"] = first
    bad = replace(model, params=params)
    (item,) = ax.verify(bad, ax.Monotone(0), region=BOX)
    assert item.verdict == "refuted"
    x = np.array([float(v) for v in item.counterexample.inputs], np.float32)
    low, high = x[:3], np.array([x[3], x[1], x[2]])
    assert low[0] <= high[0]
    assert float(bad(high[None])[0, 0]) < float(bad(low[None])[0, 0])
    assert ax.check_certificate(item.certificate).accepted
    (other,) = ax.verify(bad, ax.Monotone([1, 2]), region=BOX)
    assert other.verdict == "proved"


def test_decreasing_is_increasing_of_the_negative():
    model = positive(net())
    params = {**model.params, "4_Dense": jax.tree.map(jnp.negative, model.params["4_Dense"])}
    falling = replace(model, params=params)
    assert ax.verify(falling, ax.Monotone(0, increasing=False), region=BOX).passed
    assert ax.verify(falling, ax.Monotone(0), region=BOX).items[0].verdict == "refuted"


def test_slopes_prove_what_signs_do_not():
    """3 relu(x + 2) − relu(x + 5) grows on [-1, 1], where both are open."""
    model = lambda x: 3 * jax.nn.relu(x + 2) - jax.nn.relu(x + 5)
    (item,) = ax.verify(model, ax.Monotone(0), region=ax.Box([-1], [1]))
    assert item.verdict == "proved" and item.network == "composed"
    (item,) = ax.verify(model, ax.Monotone(0), region=ax.Box([-4], [1]))
    assert item.verdict == "refuted"


@pytest.mark.slow
def test_a_slope_of_zero_in_a_part_is_enough():
    model = lambda x: jax.nn.relu(x) - jax.nn.relu(x - 2)  # 0 below 0, then x
    assert ax.verify(model, ax.Monotone(0), region=ax.Box([-1], [1])).passed


def small(weights, x):
    return jax.nn.relu(x @ weights[0] + weights[1]) @ weights[2]


@settings(max_examples=12)
@given(st.integers(0, 10**6), st.booleans())
def test_what_is_proved_holds_at_pairs(seed, increasing):
    generator = np.random.default_rng(seed)
    weights = [generator.normal(size=s).astype(np.float32) for s in ((2, 3), (3,), (3, 1))]
    model = ax.Model(small, weights)
    (item,) = ax.verify(model, ax.Monotone(0, increasing), region=ax.Box([-1, -1], [1, 1]), mode="quick")
    x = generator.uniform(-1, 1, (400, 2))
    y = x.copy()
    y[:, 0] = generator.uniform(x[:, 0], 1)
    run = lambda z: (np.maximum(z @ weights[0].astype(float) + weights[1], 0) @ weights[2].astype(float))[:, 0]
    change = (run(y) - run(x)) * (1 if increasing else -1)
    if item.verdict == "proved":
        assert change.min() >= -1e-9
    else:
        assert item.verdict == "refuted" or change.min() >= -1e-3


def test_bad_input_is_named():
    with pytest.raises(ax.SpecError, match=r"There is no input 7\."):
        ax.verify(net(), ax.Monotone(7), region=BOX)
    with pytest.raises(ax.SpecError, match="names no feature"):
        ax.Monotone([])


@jax.custom_jvp
def flat(x):
    return -3 * (jax.nn.relu(x - 0.3) - jax.nn.relu(x - 0.375))


flat.defjvp(lambda at, along: (flat(at[0]), 0 * along[0]))
DECEIVED = {
    "a step down": lambda x: jnp.where(x > 0.31415, x - 1e-4, x),
    "a stopped gradient": lambda x: x + jax.lax.stop_gradient(flat(x)),
    "a rule of its own": lambda x: x + flat(x),
    "a step down in disguise": lambda x: x - 1e-4 * jnp.sign(x - 0.31415),
    "rounding": lambda x: x - 0.25 * jnp.floor(3 * x),
}


@pytest.mark.parametrize("name", DECEIVED)
def test_derivatives_that_are_not_the_functions_prove_nothing(name):
    (item,) = ax.verify(DECEIVED[name], ax.Monotone(0), region=ax.Box([-1], [1]), mode="quick")
    assert item.verdict in ("unknown", "refuted")


@pytest.mark.parametrize("rise", [jax.nn.leaky_relu, jax.nn.elu, jnp.maximum])
def test_choices_whose_cases_meet_are_continuous(rise):
    f = (lambda x: 2 * x + jnp.maximum(x, -x)) if rise is jnp.maximum else (lambda x: rise(x) + 0.5 * x)
    (item,) = ax.verify(f, ax.Monotone(0), region=ax.Box([-1], [1]), mode="quick")
    assert item.verdict == "proved"


def test_both_inputs_of_a_pair_lie_in_the_region():
    """The corner of the square, where the output falls, is outside of the disc."""
    falls = lambda x: -jax.nn.relu(x[:, :1] + x[:, 1:] - 1.5)
    (item,) = ax.verify(falls, ax.Monotone(0), region=ax.L2(1, [0.0, 0.0]), mode="quick")
    assert item.verdict == "unknown"
    (item,) = ax.verify(falls, ax.Monotone(0), region=ax.L2(2, [0.0, 0.0]), mode="quick")
    assert item.verdict == "refuted"
    x = np.array([float(v) for v in item.counterexample.inputs])
    assert x[0] ** 2 + x[1] ** 2 <= 4 and x[2] ** 2 + x[1] ** 2 <= 4
