"""Lines of every rule with a free choice: sound for every choice, best by area where nothing is chosen."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import erf

from axiom_jax.verification.relax import adjustable, relaxation, relaxation_at, relaxation_start

FUNCTIONS = {
    "max": lambda x: np.maximum(x, 0), "tanh": np.tanh, "logistic": lambda x: 1 / (1 + np.exp(-x)), "erf": erf,
    "atan": np.arctan, "asinh": np.arcsinh, "exp": np.exp, "log": np.log, "sqrt": np.sqrt, "sin": np.sin,
    "cos": np.cos, "integer_pow": np.square, "reciprocal": lambda x: 1 / x,
}  # fmt: skip
POSITIVE = ("log", "sqrt", "reciprocal")
BOXES = 400


def boxes(name):
    """Ends of boxes of every width, near 0 and farther out, points and steep ends among them."""
    rng = np.random.default_rng(len(name))
    middle = rng.normal(size=BOXES) * np.resize([0.1, 1.0, 5.0, 20.0], BOXES)
    radius = 10 ** rng.uniform(-5, 1.5, BOXES) * np.resize([1] * 9 + [0], BOXES)
    lo, hi = middle - radius, middle + radius
    if name in POSITIVE:
        lo = np.abs(middle) * np.resize([1, 1e-3, 1e-6], BOXES) + 1e-7
        hi = lo + radius
    if name == "reciprocal":
        sign = np.resize([1, 1, 1, -1], BOXES)
        lo, hi = np.where(sign > 0, lo, -hi), np.where(sign > 0, hi, -lo)
    return lo.astype(np.float32), hi.astype(np.float32)


def rule_of(name):
    exponent = {"integer_pow": {"y": 2}, "reciprocal": {"y": -1}}.get(name, {})
    return "integer_pow" if exponent else name, exponent


def assert_between(name, lines, lo, hi):
    ends = lo.astype(np.float64), hi.astype(np.float64)
    x = np.linspace(*ends, 201)
    y = FUNCTIONS[name](x)
    b, b0, a, a0 = (np.asarray(v, np.float64) for v in (lines.below, lines.below_at_0, lines.above, lines.above_at_0))
    assert np.isfinite([b, b0, a, a0]).all()
    slack = 2e-6 * (1 + np.abs(y).max(0) + np.abs(x).max(0) * (np.abs(a) + np.abs(b)))
    assert (b * x + b0 <= y + slack).all(), name
    assert (a * x + a0 >= y - slack).all(), name
    return ((a - b) * (ends[0] + ends[1]) / 2 + a0 - b0).sum()


@pytest.mark.parametrize("name", sorted({*adjustable, "reciprocal"}))
def test_every_choice_is_sound(name):
    lo, hi = boxes(name)
    rule, exponent = rule_of(name)
    rng = np.random.default_rng(0)
    choices = np.concatenate([np.zeros((1, 2, BOXES)), np.ones((1, 2, BOXES)), rng.uniform(size=(2, 2, BOXES))])

    @jax.jit
    def every(lo, hi, choices):
        start = relaxation_start(rule)(lo, hi, **exponent)
        found = jax.vmap(lambda t: relaxation_at(rule)(lo, hi, t, **exponent))(jnp.concatenate([choices, start[None]]))
        return found, relaxation.rules[rule](lo, hi, **exponent)

    found, default = every(lo, hi, jnp.asarray(choices, jnp.float32))
    areas = [assert_between(name, jax.tree.map(lambda a, k=k: a[k], found), lo, hi) for k in range(len(choices) + 1)]
    best = assert_between(name, default, lo, hi)
    assert abs(areas[-1] - best) <= 1e-3 * abs(best)
    assert name == "exp" or best <= min(areas) * (1 + 1e-3)  # exp keeps its line near 0 instead


def test_choices_of_rows_broadcast_and_can_be_differentiated():
    lo, hi, t = jnp.float32([-1, -3]), jnp.float32([2, 0.5]), jnp.full((2, 3, 2), 0.5)
    for name in ("tanh", "sin"):

        def gap(t, name=name):
            lines = relaxation_at(name)(lo, hi, t)
            assert lines.below.shape == (3, 2)
            return (lines.above - lines.below + lines.above_at_0 - 2 * lines.below_at_0).sum()

        slope = jax.jit(jax.grad(gap))(t)
        assert jnp.isfinite(slope).all() and (jnp.abs(slope).sum((1, 2)) > 0).all()


@pytest.mark.parametrize("name", ["max", "tanh", "exp", "sin", "atan"])
def test_far_out_nothing_is_claimed_that_is_not_so(name):
    far = np.float32([1e2, 1e8, 1e30, 3e38])
    lo, hi = np.concatenate([-far, 0 * far, -far, far / 2]), np.concatenate([far, far, 0 * far, far])
    lines = jax.tree.map(np.asarray, jax.jit(relaxation.rules[name])(lo, hi))
    with np.errstate(over="ignore"):
        for x in (lo, hi, lo / 2 + hi / 2):
            y = np.minimum(FUNCTIONS[name](x.astype(np.float64)), 1e300)
            low = np.where(lines.below == 0, 0, np.float64(lines.below) * x) + lines.below_at_0
            high = np.where(lines.above == 0, 0, np.float64(lines.above) * x) + lines.above_at_0
            size = 1e-5 * (1 + np.abs(y) + np.abs(np.float64(lines.below) * x) + np.abs(np.float64(lines.above) * x))
            assert (low <= y + size).all() and (high >= np.minimum(y - size, 3e38)).all()
            assert not np.isposinf(low).any() and not np.isneginf(high).any()


@pytest.mark.parametrize("name", sorted({*adjustable, "reciprocal"}))
def test_a_start_is_a_choice_on_boxes_without_end_too(name):
    rule, exponent = rule_of(name)
    ends = np.float32([-np.inf, -3e38, -1e20, -2, -1e-30, 0, 1e-30, 2, 1e20, 3e38, np.inf])
    lo, hi = (a[np.triu_indices(len(ends))] for a in np.meshgrid(ends, ends, indexing="ij"))
    start = np.asarray(jax.jit(lambda lo, hi: relaxation_start(rule)(lo, hi, **exponent))(lo, hi))
    assert start.shape == (2, *lo.shape) and ((start >= 0) & (start <= 1)).all(), (name, lo, hi, start)
