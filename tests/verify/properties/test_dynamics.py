"""Closed loops: what is proved holds along simulated runs, what is refuted is a run."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import axiom_jax as ax
from axiom_jax import nn

START = ax.Box([-1, -1], [1, 1])
CONTROLLER = ax.Sequential(nn.Dense(2, 3), nn.relu, nn.Dense(3, 2), seed=1)
TURN = np.array([[0.63, -0.14], [0.14, 0.63]], np.float32)


def step(state, control):
    return state @ TURN.T + 0.02 * control


def ask(prop, model=CONTROLLER, region=START):
    (item,) = ax.verify(model, prop, region=region)
    return item


def runs(steps, count=3000):
    x = np.random.default_rng(0).uniform(-1, 1, (count, 2)).astype(np.float32)
    found = [x]
    for _ in range(steps):
        found.append(np.asarray(step(found[-1], CONTROLLER(found[-1]))))
    return np.stack(found)


def test_avoids_is_proved_with_a_certificate():
    item = ask(ax.Avoids(ax.Box([1.5, None], [None, None]), 2, step))
    assert item.verdict == "proved" and item.network == "composed"
    assert ax.check_certificate(item.certificate).accepted


def test_avoids_is_refuted_by_a_run():
    item = ask(ax.Avoids(ax.Box([0.2, 0.2], [0.3, 0.3]), 2, step))
    states = np.array([float((a + b) / 2) for a, b in item.counterexample.outputs]).reshape(3, 2)
    assert item.verdict == "refuted"
    assert any(np.all((0.2 <= s) & (s <= 0.3)) for s in states)


def test_reaches_after_some_steps():
    states = runs(2)
    radius = np.abs(states).max((1, 2))
    assert ask(ax.Reaches(ax.Box(-0.9, 0.9), 2, step=step)).verdict == "proved" and radius[2] < 0.9
    assert ask(ax.Reaches(ax.Box(-0.1, 0.1), 1, step=step)).verdict == "refuted" and radius[1] > 0.1


def test_within_is_less_than_after():
    """x to 2 − x: at some step up to 1 every start is at least 1, at step 1 it is not."""
    flip = lambda x: 2 - x
    region = ax.Box([0], [2])
    assert ask(ax.Reaches(ax.Box([1], [None]), 1, within=True), flip, region).verdict == "proved"
    assert ask(ax.Reaches(ax.Box([1], [None]), 1), flip, region).verdict == "refuted"


def test_lyapunov_of_a_norm():
    norm = lambda x: jnp.abs(x).sum()
    hole = ax.Box(-0.25, 0.25)
    assert ask(ax.Lyapunov(norm, step, outside=hole)).verdict == "proved"
    states = runs(1)
    outside = np.abs(states[0]).max(1) > 0.25
    fall = np.abs(states[0]).sum(1) - np.abs(states[1]).sum(1)
    assert fall[outside].min() > 0
    assert ask(ax.Lyapunov(norm, step, outside=hole, decrease=1)).verdict == "refuted"
    assert ask(ax.Lyapunov(lambda x: x[0], step, outside=hole)).verdict == "refuted"


def test_without_a_step_the_model_is_the_step():
    model = lambda x: 0.5 * jax.nn.relu(x)
    assert ask(ax.Avoids(ax.Box([0.3], [None]), 2), model, ax.Box([-1], [0.25])).verdict == "proved"


def test_the_hole_is_left_out_and_nothing_else():
    from fractions import Fraction

    from axiom_jax.verification.properties.dynamics import _without

    F = Fraction
    pieces = _without(((F(-1),) * 2, (F(1),) * 2), ax.Box([-0.5, -0.25], [0.25, 2]), 2)
    x = np.random.default_rng(0).uniform(-1, 1, (2000, 2))
    covered = np.zeros(len(x), bool)
    for lo, hi in pieces:
        covered |= np.all((np.array(lo, float) <= x) & (x <= np.array(hi, float)), axis=1)
    hole = (x[:, 0] > -0.5) & (x[:, 0] < 0.25) & (x[:, 1] > -0.25)
    assert np.array_equal(covered, ~hole)
    assert _without(((F(-1),), (F(1),)), ax.Box([3], [4]), 1) == [((F(-1),), (F(1),))]


def test_bad_loops_are_named():
    with pytest.raises(ax.SpecError, match="does not give a state"):
        ask(ax.Avoids(ax.Box(0, 1), 1), lambda x: x[:, :1])
    with pytest.raises(ax.SpecError, match="at least one step"):
        ax.Avoids(ax.Box(0, 1), 0)
