"""Initialisers have the spread of those of JAX, by name, and a wrong name is refused with the right one."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from axiom_jax import nn
from axiom_jax._errors import AxiomError
from axiom_jax.model import Sequential
from axiom_jax.nn._initializers import NAMES, SCALED, _length, _library, initializer

KEY = jax.random.key(0)


@pytest.mark.parametrize("name", ["glorot_uniform", "lecun_normal", "he_normal"])
def test_scaled_draws_are_those_of_jax(name: str) -> None:
    shape = (3, 3, 40, 50)
    ours = np.asarray(initializer(name)(KEY, shape))
    theirs = np.asarray(_library(name)(jax.random.key(1), shape))
    assert ours.dtype == np.float32 and abs(ours.mean()) < 0.02 * ours.std() + 0.001
    np.testing.assert_allclose(ours.std(), theirs.std(), rtol=0.03)
    np.testing.assert_allclose(np.abs(ours).max(), np.abs(theirs).max(), rtol=0.05)
    middle = lambda x: np.quantile(x, [0.1, 0.3, 0.7, 0.9]) / x.std()
    np.testing.assert_allclose(middle(ours), middle(theirs), atol=0.06)


@pytest.mark.parametrize("name", NAMES)
def test_every_name_draws_alone_and_under_jit(name: str) -> None:
    shape = (3, 2, 4) if name == "delta_orthogonal" else (3, 4)
    draw = initializer(name)
    alone = draw(KEY, shape, jnp.float32)
    assert alone.shape == shape and alone.dtype == "float32"
    if name in ("zeros", "he_uniform", "lecun_normal"):
        jitted = jax.jit(lambda key: draw(key, shape, jnp.float32))
        np.testing.assert_allclose(jitted(KEY), alone, rtol=1e-5, atol=1e-6)
    if name != "delta_orthogonal":  # nothing is allocated while shapes are checked
        assert jax.eval_shape(lambda key: draw(key, (1 << 20, 1 << 20)), KEY).dtype == "float32"


@pytest.mark.parametrize("name", ["he_normal", "orthogonal", "delta_orthogonal"])
def test_a_bias_has_no_inputs_and_outputs(name: str) -> None:
    with pytest.raises(AxiomError, match="cannot draw weights of this shape") as caught:
        Sequential(nn.Dense(4, 3, bias_init=name))
    assert '"zeros"' in caught.value.fix and "test_initializers.py:" in caught.value.at


def test_layers_take_names_and_functions() -> None:
    dense = nn.Dense(300, 200, kernel_init="he_normal", bias_init="ones")
    params = dense.init(KEY)
    assert abs(float(params["kernel"].std()) / np.sqrt(2 / 300) - 1) < 0.03 and (params["bias"] == 1).all()
    half = lambda key, shape, dtype: jnp.full(shape, 0.5, dtype)
    assert (nn.Conv2d(1, 2, kernel_init=half).init(KEY)["kernel"] == 0.5).all()
    cell = nn.LSTM(2, 3).init(KEY)["state"]["kernel"]
    np.testing.assert_allclose(cell @ cell.T, np.eye(3), atol=1e-5)
    assert abs(float(nn.Embedding(200, 50).init(KEY)["embedding"].std()) * np.sqrt(50) - 1) < 0.03


@pytest.mark.parametrize(
    ("make", "fix"),
    [
        (lambda: nn.Dense(4, 3, kernel_init="HeNormal"), "make it Dense(4, 3, kernel_init='he_normal')"),
        (lambda: nn.Conv2d(1, 2, kernel_init="xavier"), "kernel_init='xavier_uniform'"),
        (lambda: nn.Embedding(4, 3, embedding_init="best"), "embedding_init='glorot_uniform'"),
        (lambda: nn.LSTM(4, 3, bias_init="zero"), "make it LSTM(4, 3)"),
    ],
)
def test_an_unknown_name_is_refused_with_the_list(make: Any, fix: str) -> None:
    with pytest.raises(AxiomError, match="is no initialiser") as caught:
        make()
    assert fix in caught.value.fix and "he_uniform" in caught.value.got and "test_initializers.py:" in caught.value.at


def test_a_sequential_draws_by_its_seed() -> None:
    make = lambda seed: Sequential(nn.Dense(4, 3), nn.Dense(3, 3), seed=seed).params
    assert np.array_equal(make(1)["0_Dense"]["kernel"], make(1)["0_Dense"]["kernel"])
    assert not np.array_equal(make(1)["0_Dense"]["kernel"], make(2)["0_Dense"]["kernel"])
    assert not np.array_equal(make(1)["0_Dense"]["kernel"][:3], make(1)["1_Dense"]["kernel"])


def test_names_of_one_meaning() -> None:
    for shape in ("normal", "uniform"):
        assert SCALED[f"xavier_{shape}"] == SCALED[f"glorot_{shape}"]
        assert SCALED[f"kaiming_{shape}"] == SCALED[f"he_{shape}"]


def test_layers_of_many_sizes_need_one_compilation() -> None:
    assert len({_length(rows * columns) for rows in range(1, 128) for columns in range(1, 128)}) == 1
    assert _length(784 * 128) >= 784 * 128 and _length(5_000_000) == 5_000_000
