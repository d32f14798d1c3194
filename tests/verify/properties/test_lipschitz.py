"""Lipschitz constants: at most the product of norms, at least what gradients show, and tight on small nets."""

from fractions import Fraction
from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import axiom_jax as ax
from axiom_jax.verification.lipschitz_bounds import (
    by_absolute_values,
    by_multipliers,
    certificate_matrix,
    differences,
    root_above,
    semidefinite,
)
from axiom_jax.verification.search.margins import Subject

pytestmark = pytest.mark.thin(2)

BOX = ax.Box([-1, -1], [1, 1])


def net(params, x):
    for w, b in params[:-1]:
        x = jax.nn.relu(x @ w + b)
    return x @ params[-1][0] + params[-1][1]


def draw(seed, widths=(2, 4, 4, 1)):
    generator = np.random.default_rng(seed)
    normal = lambda *shape: generator.normal(size=shape).astype(np.float32)
    return [(normal(a, b), normal(b)) for a, b in pairwise(widths)]


def steepest(params, norm, reach=1.0):
    """The largest norm of a gradient of the one output, at many points."""
    x = np.random.default_rng(1).uniform(-reach, reach, (20_000, 2)).astype(np.float32)
    gradients = np.asarray(jax.vmap(jax.grad(lambda z: net(params, z)[0]))(x))
    return float(np.linalg.norm(gradients, ord=norm, axis=1).max())


@settings(max_examples=15)
@given(st.integers(0, 10**6), st.sampled_from([(2, 3, 1), (2, 4, 4, 1), (3, 5, 2)]))
def test_constants_lie_between_the_gradients_and_the_product_of_norms(seed, widths):
    params = draw(seed, widths)
    network = differences(Subject(net, params, (jax.ShapeDtypeStruct(widths[:1], np.float32),)))
    x = np.random.default_rng(seed).uniform(-3, 3, (2000, widths[0])).astype(np.float32)
    jacobians = np.asarray(jax.vmap(jax.jacobian(lambda z: net(params, z)))(x))
    for norm, order in ((1, 1), ("inf", np.inf), (2, 2)):
        product = np.prod([np.linalg.norm(w.T.astype(float), ord=order) for w, _ in params])
        found = by_multipliers(network).value if norm == 2 else by_absolute_values(network, norm)
        assert np.linalg.norm(jacobians, ord=order, axis=(1, 2)).max() <= float(found) * (1 + 1e-6)
        assert float(found) <= product * (1 + 1e-3)


def test_multipliers_are_judged_exactly():
    network = differences(Subject(net, draw(0), (jax.ShapeDtypeStruct((2,), np.float32),)))
    found = by_multipliers(network)
    assert semidefinite(certificate_matrix(network, found.square, found.multipliers))
    assert not semidefinite(certificate_matrix(network, found.square * Fraction(9, 10), found.multipliers))
    assert float(root_above(Fraction(2))) == pytest.approx(2**0.5) and root_above(Fraction(2)) ** 2 >= 2


@pytest.mark.parametrize("norm", [1, 2, "inf"])
def test_the_weights_prove_a_constant_and_never_too_small_a_one(norm):
    params = draw(3)
    network = differences(Subject(net, params, (jax.ShapeDtypeStruct((2,), np.float32),)))
    found = by_multipliers(network).value if norm == 2 else by_absolute_values(network, norm)
    model = ax.Model(net, params)
    (item,) = ax.verify(model, ax.GlobalLipschitz(found * Fraction(101, 100), norm), region=BOX)
    assert item.verdict == "proved" and ax.check_certificate(item.certificate).accepted
    order = {1: np.inf, 2: 2, "inf": 1}[norm]  # the dual norm of the gradient
    (item,) = ax.verify(model, ax.GlobalLipschitz(round(0.9 * steepest(params, order), 3), norm), region=BOX)
    assert item.verdict == "refuted"
    z = item.counterexample.inputs
    outputs = [Fraction(float(net(params, np.array(p, float).astype(np.float32))[0])) for p in (z[:2], z[2:])]
    far = np.linalg.norm(np.array([float(a - b) for a, b in zip(z[:2], z[2:], strict=True)]),
                         ord=np.inf if norm == "inf" else norm)  # fmt: skip
    assert abs(outputs[0] - outputs[1]) > 0.85 * steepest(params, order) * far


def test_a_small_net_is_bounded_tightly_over_a_region_and_everywhere():
    params = draw(5, (2, 4, 1))
    model, local = ax.Model(net, params), steepest(params, 2)
    assert ax.verify(model, ax.LocalLipschitz(round(1.1 * local, 3)), region=BOX).passed
    (item,) = ax.verify(model, ax.LocalLipschitz(round(0.95 * local, 3)), region=BOX)
    assert item.verdict == "refuted"
    everywhere = steepest(params, 2, reach=100.0)
    assert ax.verify(model, ax.GlobalLipschitz(round(1.2 * everywhere, 3)), region=BOX).passed


@pytest.mark.slow
def test_gradients_of_smooth_and_of_several_outputs():
    model = lambda x: jnp.stack([2 * x[:, 0] - x[:, 1], jax.nn.relu(x[:, 0])], 1)
    verdict = lambda prop: ax.verify(model, prop, region=BOX).items[0].verdict
    assert verdict(ax.GradientBounded(3, norm=1)) == "proved"
    assert verdict(ax.GradientBounded("2.9", norm=1)) == "refuted"
    assert verdict(ax.GradientBounded("1.1", norm=1, outputs=(1,))) == "proved"
    assert verdict(ax.LocalLipschitz(3, norm=1)) == "proved"  # the first column: 2 + 1
    assert verdict(ax.LocalLipschitz("2.9", norm=1)) == "refuted"


def test_what_has_no_constant_is_said():
    (item,) = ax.verify(lambda x: jnp.exp(x), ax.GlobalLipschitz(3), region=ax.Box([-1], [1]), mode="quick")
    assert item.verdict == "refuted"
    with pytest.raises(ax.SpecError, match="positive number"):
        ax.LocalLipschitz(0)
    with pytest.raises(ax.SpecError, match="no such norm"):
        ax.LocalLipschitz(1, norm=3)


@pytest.mark.parametrize("model", [
    lambda x: jnp.where(x > 0.31415, x - 1e-4, x), lambda x: x + jax.lax.stop_gradient(3 * jax.nn.relu(x)),
])  # fmt: skip
def test_derivatives_that_are_not_the_functions_prove_nothing(model):
    asked = [ax.LocalLipschitz("1.01", norm="inf"), ax.GradientBounded("1.01", norm="inf")]
    for item in ax.verify(model, asked, region=ax.Box([-1], [1]), mode="quick"):
        assert item.verdict in ("unknown", "refuted")


@pytest.mark.slow
def test_both_inputs_of_a_pair_lie_in_the_region():
    steep = lambda x: 8 * jax.nn.relu(-x)  # only left of the region
    (item,) = ax.verify(steep, ax.LocalLipschitz(1, norm="inf"), region=ax.Box([0], [None]), mode="quick")
    assert item.verdict != "refuted"
