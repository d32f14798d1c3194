"""Flows: the inverse inverts, the log-determinant is that of the Jacobian, the density integrates to one."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from axiom_jax import nn
from axiom_jax._errors import AxiomError
from axiom_jax.model import Sequential

FLOWS = [
    nn.ActNorm(4), nn.Permutation(4), nn.Permutation(4, seed=2), nn.InvertibleLinear(4), nn.AffineCoupling(4, 8),
    nn.AffineCoupling(4, flip=True, limit=1.0, conditioner=[nn.Dense(2, 4), nn.tanh]),
    nn.Flow(nn.ActNorm(4), nn.AffineCoupling(4, 6), nn.InvertibleLinear(4), nn.AffineCoupling(4, 6, flip=True)),
]  # fmt: skip


def filled(layer: Any) -> Any:
    random = np.random.default_rng(0)
    shapes = jax.eval_shape(layer.init, jax.random.key(0))
    return jax.tree.map(lambda leaf: 0.5 * random.normal(size=leaf.shape).astype(np.float32), shapes)


@pytest.mark.parametrize("layer", FLOWS, ids=repr)
def test_a_flow_inverts_and_measures_volume(layer: Any) -> None:
    shape = (3, 4)
    params, x = filled(layer), np.random.default_rng(1).normal(size=(2, *shape)).astype(np.float32)

    @jax.jit
    def run(x: Any) -> Any:
        y, log_det = layer.forward_and_log_det(params, x)
        alone = lambda one: layer.apply(params, one.reshape(1, *shape)).ravel()
        jacobians = jax.vmap(jax.jacobian(alone))(x.reshape(2, -1))
        return y, log_det, layer.inverse(params, y), layer.apply(params, x), jnp.linalg.slogdet(jacobians)[1]

    y, log_det, back, applied, expected = run(x)
    np.testing.assert_allclose(back, x, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(applied, y, rtol=1e-5, atol=1e-5)
    assert log_det.shape == (2,)
    np.testing.assert_allclose(log_det, expected, rtol=1e-3, atol=1e-3)


def test_a_density_integrates_to_one() -> None:
    flow = nn.Flow(nn.AffineCoupling(2, 4, limit=0.5), nn.Permutation(2), nn.AffineCoupling(2, 4, limit=0.5))
    params = filled(flow)
    side = np.linspace(-10, 10, 401, dtype=np.float32)
    grid = np.stack(np.meshgrid(side, side), -1).reshape(-1, 2)
    density = np.exp(np.asarray(jax.jit(flow.log_prob)(params, grid), np.float64))
    assert abs(density.sum() * (side[1] - side[0]) ** 2 - 1) < 0.01
    assert flow.sample(params, jax.random.key(0), (5, 2)).shape == (5, 2)


def test_couplings_begin_as_the_identity_and_act_norm_is_fitted() -> None:
    x = np.random.default_rng(0).normal(3, 2, (200, 4)).astype(np.float32)
    coupling = nn.AffineCoupling(4)
    np.testing.assert_array_equal(coupling.apply(coupling.init(jax.random.key(0)), x), x)
    y = np.asarray(nn.ActNorm(4).apply(nn.ActNorm(4).fitted(x), x))
    np.testing.assert_allclose(y.mean(0), 0, atol=1e-4)
    np.testing.assert_allclose(y.std(0), 1, atol=1e-3)


def test_flows_are_layers_and_say_what_is_wrong() -> None:
    model = Sequential(nn.Flow(nn.ActNorm(4), nn.AffineCoupling(4, 8)), nn.relu)
    assert model(jnp.ones((2, 4))).shape == (2, 4)
    with pytest.raises(AxiomError, match=r"Dense\(4, 4\) cannot be inverted"):
        nn.Flow(nn.Dense(4, 4))
    with pytest.raises(AxiomError, match="has no halves"):
        nn.AffineCoupling(1)
    with pytest.raises(AxiomError, match="draws its own parameters"):
        nn.AffineCoupling(4, conditioner=Sequential(nn.Dense(2, 4)))
