"""A number that is not finite stops training, names what made it, and loses nothing."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array, Float

import axiom_jax as ax
from axiom_jax import nn

X, Y = ax.make_moons(64, seed=0)


def logarithm(x: Any) -> Any:
    return jnp.log(x)


def root(x: Any) -> Any:
    return jnp.sqrt(x * x)  # finite at 0, but its gradient is not


def net(*between: Any) -> ax.Model:
    return ax.Sequential(nn.Dense(2, 8), nn.relu, *between, nn.Dense(8, 2))


def flat(model: ax.Model) -> np.ndarray:
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(model.params)])


def failed(model: ax.Model, data: Any = (X, Y), **settings: Any) -> ax.TrainingError:
    with pytest.raises(ax.TrainingError) as error:
        ax.train(model, data, **({"progress": False, "batch_size": 16, "epochs": 2} | settings))
    assert error.value.fix and error.value.got and "not finite" in error.value.what
    assert np.isfinite(flat(error.value.result.model)).all()
    return error.value


def test_forward_names_the_layer() -> None:
    error = failed(net(logarithm))  # relu gives zeros
    assert error.layer == "2_logarithm" and error.step == 0
    assert "inf in" in str(error.got)


@pytest.mark.slow
def test_backward_names_the_layer() -> None:
    x = X.copy()
    x[3] = 0.0
    error = failed(ax.Sequential(nn.Dense(2, 8), root, nn.Dense(8, 2)), ax.DataLoader((x, Y), 8), batch_size=None)
    assert error.layer == "1_root" and error.step == 0


def test_the_step_is_exact_and_the_model_is_the_one_before_it() -> None:
    x = X.copy()
    x[50, 0] = np.nan
    batches = ax.DataLoader((x, Y), 8)  # the seventh batch has it
    error = failed(net(), batches, batch_size=None, lr=0.01)
    assert error.step == 6 and error.layer is None and "the batch has inputs" in error.what
    good = ax.train(net(), ax.DataLoader((x[:48], Y[:48]), 8), lr=0.01, epochs=1, progress=False)
    np.testing.assert_allclose(flat(error.result.model), flat(good.model), rtol=1e-5, atol=1e-7)


def test_a_rate_that_explodes() -> None:
    error = failed(net(), optimizer=ax.SGD(lr=1e30), epochs=5)
    assert error.step >= 0 and "1e+30" in str(error.fix)


def test_loss_that_is_at_fault() -> None:
    def loss(output: Any, target: Any) -> Any:
        return jnp.log(-jnp.square(output).mean())

    assert "the loss made it" in failed(net(), loss=loss).what


def test_a_function_that_is_no_chain_names_the_line() -> None:
    @ax.axiom
    def model(net: nn.Sequential, x: Float[Array, "batch 2"]) -> Float[Array, "batch 2"]:
        return jnp.log(-jnp.square(net(x)) - 1.0)

    error = failed(model.bind(ax.Sequential(nn.Dense(2, 2))), loss=lambda o, t: o.mean())
    assert "operation log" in error.what and "test_failure.py" in str(error.at)


def test_the_checkpoint_has_the_last_good_state(tmp_path: Path) -> None:
    x = X.copy()
    x[40] = np.inf
    settings: dict[str, Any] = {"checkpoint_dir": tmp_path / "run", "lr": 0.01, "batch_size": None}
    error = failed(net(), ax.DataLoader((x, Y), 8), **settings)
    assert error.step == 5
    mended = ax.train(net(), ax.DataLoader((X, Y), 8), lr=0.01, epochs=2, checkpoint_dir=tmp_path / "run", resume=True,
                      progress=False)  # fmt: skip
    assert mended.steps == 16 and len(mended.history) == 2


def test_accumulated_gradients_are_watched() -> None:
    x = X.copy()
    x[20] = np.nan
    error = failed(net(), ax.DataLoader((x, Y), 8), batch_size=None, accumulate=4, lr=0.01)
    assert error.step == 2
