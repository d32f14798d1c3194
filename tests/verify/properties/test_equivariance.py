"""Equivariant, Invariant: equal terms are proved for every input, differences are refuted exactly."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import axiom_jax as ax

pytestmark = pytest.mark.thin(2)

KEYS = jax.random.split(jax.random.key(0), 3)
A, B, C = (jax.random.normal(k, s) for k, s in zip(KEYS, ((2, 5), (5, 5), (5, 2)), strict=True))
BOX = ax.Box(np.zeros((4, 2)), np.ones((4, 2)))


def deep_set(x):
    return jax.nn.relu(jax.nn.relu(x @ A) @ B).sum(-2) @ C


def layerwise(x):
    return jax.nn.relu(x @ A + x.mean(-2, keepdims=True) @ A) @ C


def positional(x):
    return (jax.nn.relu(x @ A) * jnp.arange(4.0)[:, None]).sum(-2) @ C


def test_proves_a_network_of_sets_for_every_input():
    result = ax.verify(deep_set, ax.Invariant("permutations"), region=BOX)
    assert result.passed and len(result) == 2  # a swap and a shift generate all permutations
    assert ax.check_certificate(result.items[0].certificate).accepted


@pytest.mark.parametrize("action", ["reverse", "shift", "permutations", [2, 3, 0, 1, 6, 7, 4, 5]])
def test_proves_equivariance(action):
    on_output = [0, 1, 2, 3, 4, 5, 6, 7] if isinstance(action, list) else None
    if on_output:
        on_output = [2, 3, 0, 1, 6, 7, 4, 5]
    assert ax.verify(layerwise, ax.Equivariant(action, on_output), region=BOX).passed


def test_refutes_what_depends_on_the_place():
    (item,) = ax.verify(positional, ax.Invariant("reverse"), region=BOX)
    assert item.verdict == "refuted" and ax.check_certificate(item.certificate).accepted
    x = np.array([float(v) for v in item.counterexample.inputs], np.float32).reshape(1, 4, 2)
    assert np.abs(positional(x[:, ::-1]) - positional(x)).max() > 0
    (item,) = ax.verify(layerwise, ax.Equivariant("reverse", on_output="shift"), region=BOX)
    assert item.verdict == "refuted"


def test_odd_functions_by_actions_of_ones_own():
    odd = ax.Equivariant(lambda x: -x, lambda y: -y)
    assert ax.verify(lambda x: jnp.tanh(x @ A) @ C, odd, region=ax.Box([-1, -1], [1, 1])).passed
    (item,) = ax.verify(lambda x: jax.nn.relu(x @ A) @ C, odd, region=ax.Box([-1, -1], [1, 1]))
    assert item.verdict == "refuted"


def test_a_tolerance_is_shown_by_bounds():
    almost = lambda x: jax.nn.relu(x @ A).sum(-2) @ C + 1e-3 * x[..., 0, :]
    region = ax.Box(np.zeros((2, 2)), np.full((2, 2), 0.01))
    assert ax.verify(almost, ax.Invariant("reverse", tolerance="0.3"), region=region).passed
    assert ax.verify(almost, ax.Invariant("reverse"), region=region).items[0].verdict == "refuted"


def test_bad_actions_are_named():
    with pytest.raises(ax.SpecError, match="no such action"):
        ax.Invariant("rotate")
    with pytest.raises(ax.SpecError, match="no permutation"):
        ax.verify(deep_set, ax.Invariant([0, 0, 1]), region=BOX)
    with pytest.raises(ax.SpecError, match="no such axis"):
        ax.verify(deep_set, ax.Invariant("shift", axis=5), region=BOX)


def test_a_counterexample_lies_in_the_region_that_was_asked():
    corner = lambda x: jnp.concatenate([jax.nn.relu(x[:, :1] + x[:, 1:] - 1.5), 0 * x[:, :1]], -1)
    asked = lambda model, region: ax.verify(model, ax.Equivariant("reverse"), region=region).items[0]
    assert asked(corner, ax.L2(1, [0, 0])).verdict == "unknown"  # it is 0 on the disc
    assert asked(corner, ax.Box([-1, -1], [1, 1])).verdict == "refuted"
    item = asked(lambda x: x * np.array([1.0, 2.0], np.float32), ax.L2(1, [0, 0]))
    assert item.verdict == "refuted" and sum(v * v for v in item.counterexample.inputs) <= 1
    below = lambda x: jnp.minimum(x, 0) * np.array([1.0, 2.0], np.float32)
    half = asked(below, ax.Box([0, 0], [None, None]))
    assert half.verdict == "unknown" and "every x" not in half.text
    assert asked(below, ax.Box([-1, -1], [None, None])).verdict == "refuted"
    assert asked(below, ax.Box([None] * 2, [None] * 2)).verdict == "refuted"
