"""Less than float32 where it was asked for, float32 everywhere else, and every skipped step is counted."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import axiom_jax as ax
from axiom_jax import nn
from axiom_jax.training.step import FIRST_SCALE, GROWTH, Recipe, compiled, start

X, Y = ax.make_moons(96, noise=0.05)


def net(*between: Any) -> ax.Model:
    return ax.Sequential(nn.Dense(2, 16), *between, nn.relu, nn.Dense(16, 2))


@pytest.mark.parametrize("precision", ["bfloat16", "float16", "mixed"])
def test_computes_in_it_and_keeps_float32(precision: str) -> None:
    seen: list[Any] = []

    def watch(x: Any) -> Any:
        seen.append(x.dtype)
        return x

    model = net(watch)
    seen.clear()
    result = ax.train(model, (X, Y), epochs=20, lr=0.05, precision=precision, metrics="accuracy", progress=False,
                      validation=(X, Y))  # fmt: skip
    expected = jnp.dtype("bfloat16" if precision == "bfloat16" else "float16")
    assert {jnp.dtype(d) for d in seen} == {expected, jnp.dtype("float32")}  # float32 in validation
    assert {leaf.dtype for leaf in jax.tree.leaves(result.model.params)} == {jnp.dtype("float32")}
    assert result.history[-1]["val_accuracy"] > 0.85
    assert ("skipped" in result.history[-1]) == (precision != "bfloat16")


@pytest.mark.slow
def test_running_statistics_keep_their_precision() -> None:
    results = [ax.train(net(nn.BatchNorm(16)), (X, Y), epochs=2, lr=1e-5, precision=p, progress=False).model
               for p in ("float32", "bfloat16")]  # fmt: skip
    exact, half = (np.asarray(m.params["1_BatchNorm"]["mean"]) for m in results)
    assert half.dtype == np.float32
    np.testing.assert_allclose(half, exact, rtol=2e-2, atol=2e-3)


def test_overflow_is_skipped_counted_and_the_scale_falls() -> None:
    steep = lambda output, target: 3.0 * ax.losses.crossentropy(output, target)
    result = ax.train(net(), (8.0 * X, Y), ax.SGD(0.01), loss=steep, epochs=3, precision="float16", batch_size=32,
                      progress=False)  # fmt: skip
    assert result.skipped >= 1 and result.history[-1]["skipped"] == result.skipped
    assert result.steps == 9 and np.isfinite(result.history[-1]["loss"])


def test_scale_grows_after_many_good_steps() -> None:
    model = ax.Sequential(nn.Dense(2, 2))
    recipe = Recipe(model.apply, lambda o, t: 1e-6 * ax.losses.mse(o, t), (), _sgd(), None, None, 1,
                    ("trained", "trained"), "float16")  # fmt: skip
    step, batch = compiled(recipe, True), ((np.zeros((4, 2), np.float32),), np.zeros((4, 2), np.float32))
    state = start(recipe, model.params, 0, 10.0)
    for _ in range(3):
        state = step(state, batch)
    assert int(state.good) == 3 and float(state.scale) == FIRST_SCALE
    state = step(jax.tree.map(lambda a: a, _with_good(state, GROWTH - 1)), batch)
    assert int(state.good) == 0 and float(state.scale) == 2 * FIRST_SCALE


def _sgd() -> Any:
    from axiom_jax.training.optimizers import assembled

    return assembled(ax.SGD(1e-3), None, 1)


def _with_good(state: Any, good: int) -> Any:
    from dataclasses import replace

    return replace(state, good=jnp.asarray(good, jnp.int32))


def test_what_no_scale_can_mend_stops() -> None:
    with pytest.raises(ax.TrainingError) as error:
        ax.train(net(), (X, Y), loss=lambda o, t: jnp.log(-jnp.square(o).mean()), steps=30, precision="float16",
                 progress=False)  # fmt: skip
    assert error.value.step == 15 and error.value.result.skipped == 15  # 2^15 halved until nothing is left
