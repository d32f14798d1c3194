"""Closed loops: what is proved holds along simulated runs, what is refuted is a run."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import axiom_jax as ax
from axiom_jax import nn

pytestmark = pytest.mark.thin(2)

START = ax.Box([-1, -1], [1, 1])
CONTROLLER = ax.Sequential(nn.Dense(2, 3), nn.relu, nn.Dense(3, 2), seed=1)
TURN = np.array([[0.63, -0.14], [0.14, 0.63]], np.float32)


def step(state, control):
    return state @ TURN.T + 0.02 * control


def ask(prop, model=CONTROLLER, region=START, mode="standard"):
    (item,) = ax.verify(model, prop, region=region, mode=mode)
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


@pytest.mark.slow
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
    with pytest.raises(ax.SpecError, match="any step"):
        ax.Reaches(ax.Box([1], [None]), 1, within=flip)


@pytest.mark.slow
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


BALLS = [ax.L2("0.5", [0, 0]), ax.L1("0.5", [0, 0]), ax.Box([-0.5, -0.5], [0.5, 0.5], hi_open=True)]


@pytest.mark.slow
@pytest.mark.parametrize("region", BALLS, ids=["L2", "L1", "open"])
def test_goals_forbidden_and_left_out_sets_are_boxes_with_their_border(region):
    """x to x / 2 does not bring the unit box into the ball, though it does into the box around it."""
    for make in (lambda: ax.Reaches(region, 1), lambda: ax.Reaches(region, 1, within=True),
                 lambda: ax.Avoids(region, 1), lambda: ax.Lyapunov(jnp.sum, outside=region)):  # fmt: skip
        with pytest.raises(ax.SpecError, match="a box with its border") as error:
            make()
        assert error.value.got and "ax.Box" in error.value.fix
    half = lambda x: 0.5 * x
    assert ask(ax.Reaches(ax.Linf("0.5"), 1), half).verdict == "proved"
    assert ask(ax.Avoids(ax.Box(None, None), 1), half).verdict == "refuted"


def test_starts_in_a_ball_are_not_those_of_its_box():
    corner = lambda x: jax.nn.relu(x[:, :1] + x[:, 1:] - 1.5)  # 0 on the unit disc, 1/2 at a corner of its box
    disc = ax.L2(1, [0, 0])
    leap = lambda x: 0.5 * x + 2 * corner(x)
    # never entered from the disc
    assert ask(ax.Avoids(ax.Box([0.9, 0.9], [None, None]), 1), leap, disc, "quick").verdict != "refuted"
    assert ask(ax.Avoids(ax.Box([0.9, 0.9], [None, None]), 1), leap).verdict == "refuted"
    fall = ax.Lyapunov(lambda x: jnp.abs(x).sum(), outside=ax.Box(-0.1, 0.1))
    assert ask(fall, leap, disc, "quick").verdict != "refuted"
    item = ask(fall, lambda x: 1.5 * x, disc)
    assert item.verdict == "refuted" and sum(v * v for v in item.counterexample.inputs) <= 1


@pytest.mark.slow
def test_a_left_out_border_refutes_nothing():
    """At the end 1/2 of the hole, and nowhere outside of it, x keeps its size."""
    keeps = lambda x: x - jax.nn.relu(x - 0.5)
    fall = ax.Lyapunov(lambda x: x.sum(), outside=ax.Box([None], [0.5]))
    assert ask(fall, keeps, ax.Box([0], [1])).verdict != "refuted"
    assert ask(fall, lambda x: x, ax.Box([0], [1])).verdict == "refuted"
