"""`ax.train`: it learns, repeats itself bit for bit, compiles once, and says what does not fit."""

import gc
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jaxtyping import Array, Float

import axiom_jax as ax
from axiom_jax import nn
from axiom_jax._errors import AxiomError, ShapeError

X, Y = ax.make_moons(96, noise=0.05, seed=0)


def net(seed: int = 0, width: int = 16) -> ax.Model:
    return ax.Sequential(nn.Dense(2, width), nn.relu, nn.Dense(width, 2), seed=seed)


def flat(model: ax.Model) -> np.ndarray:
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(model.params)])


def quiet(model: ax.Model, data: Any = (X, Y), *args: Any, **settings: Any) -> ax.TrainingResult:
    return ax.train(model, data, *args, **({"progress": False, "batch_size": 32} | settings))


def test_learns_repeats_itself_and_leaves_the_model() -> None:
    model = net()
    before = flat(model)
    runs = [quiet(model, lr=0.05, epochs=30, metrics="accuracy", seed=seed) for seed in (0, 0, 1)]
    assert runs[0].history[-1]["accuracy"] > 0.95 > runs[0].history[0]["accuracy"]
    assert runs[0].history[-1]["loss"] < 0.2 and runs[0].steps == 90 and runs[0].stopped is None
    np.testing.assert_array_equal(before, flat(model))
    np.testing.assert_array_equal(flat(runs[0].model), flat(runs[1].model))
    assert np.abs(flat(runs[0].model) - flat(runs[2].model)).max() > 0
    assert np.mean(np.asarray(runs[0].model(X)).argmax(1) == Y) > 0.95
    assert "30 epochs, 90 steps" in repr(runs[0])


def test_is_the_loop_that_one_would_write() -> None:
    """Against optax by hand, on the same batches."""
    model, loader = net(), ax.DataLoader((X, Y), 32, shuffle=True, seed=4)
    result = ax.train(model, loader, ax.SGD(lr=0.1, momentum=0.9, weight_decay=1e-2), epochs=3, progress=False)
    rule = optax.chain(optax.add_decayed_weights(1e-2), optax.sgd(0.1, momentum=0.9))
    params, memory = model.params, rule.init(model.params)
    value = jax.jit(jax.value_and_grad(lambda p, x, y: ax.losses.crossentropy(model.apply(p, x), y)))
    for epoch in range(3):
        losses = []
        for x, y in loader.epoch(epoch):
            loss, gradient = value(params, x, y)
            updates, memory = rule.update(gradient, memory, params)
            params = optax.apply_updates(params, updates)
            losses.append(float(loss))
        assert result.history[epoch]["loss"] == pytest.approx(np.mean(losses), rel=1e-4)
    np.testing.assert_allclose(flat(result.model), flat(model.__class__(model.apply, params)), rtol=1e-4, atol=1e-5)


def test_compiles_once_for_equal_recipes() -> None:
    traces = []

    def loss(output: Any, target: Any) -> Any:
        traces.append(output.shape)
        return ax.losses.crossentropy(output, target)

    quiet(net(), loss=loss, epochs=2, lr=0.01)
    assert set(traces) == {(32, 2)}
    once = len(traces)
    quiet(net(seed=7), loss=loss, epochs=3, lr=0.01, seed=9)  # other weights, data order and length
    assert len(traces) == once
    quiet(net(), (X[:90], Y[:90]), loss=loss, epochs=2, lr=0.01)  # a last batch of 26
    assert set(traces[once:]) == {(26, 2)} and len(traces) == 2 * once


def test_kinds_of_data() -> None:
    batches = [(X[:32], Y[:32]), (X[32:64], Y[32:64]), (X[64:], Y[64:])]
    one = ax.train(net(), batches, epochs=2, progress=False)
    other = ax.train(net(), ax.DataLoader({"x": X, "label": Y}, 32), epochs=2, progress=False)
    np.testing.assert_array_equal(flat(one.model), flat(other.model))
    assert ax.train(net(), iter(batches), epochs=1, progress=False).steps == 3
    assert ax.train(net(), batches, steps=4, progress=False).steps == 4
    assert ax.train(net(), batches, epochs=0, progress=False).history == ()
    with pytest.raises(AxiomError, match="read only once"):
        ax.train(net(), iter(batches), epochs=2)


def test_several_inputs_and_no_target() -> None:
    @ax.axiom
    def both(net: nn.Sequential, a: Float[Array, "n 2"], b: Float[Array, "n 2"]) -> Float[Array, "n 1"]:
        return net(a) - net(b)

    model = both.bind(ax.Sequential(nn.Dense(2, 1)))
    difference = (X[:, :1] - X[::-1][:, :1]).astype(np.float32)
    result = quiet(model, (X, X[::-1].copy(), difference), loss="mse", lr=0.05, epochs=20)
    assert result.history[-1]["loss"] < 0.2 * result.history[0]["loss"]
    encoder = ax.Sequential(nn.Dense(2, 2))
    result = quiet(encoder, X, loss=lambda output, target: jnp.square(output).mean(), epochs=3, lr=0.1)
    assert result.history[-1]["loss"] < result.history[0]["loss"]


def test_a_model_that_ends_in_softmax() -> None:
    plain = ax.Sequential(nn.Dense(2, 16), nn.relu, nn.Dense(16, 2))
    soft = ax.Sequential(nn.Dense(2, 16), nn.relu, nn.Dense(16, 2), nn.softmax)
    ends = [quiet(model, epochs=2, lr=0.01).history[-1]["loss"] for model in (plain, soft)]
    assert ends[0] == pytest.approx(ends[1], rel=1e-4)
    sigmoid = ax.Sequential(nn.Dense(2, 16), nn.relu, nn.Dense(16, 1), nn.sigmoid)
    data = (X, Y[:, None].astype(np.float32))
    result = quiet(sigmoid, data, loss="binary_crossentropy", lr=0.05, epochs=15)
    assert result.history[-1]["loss"] < 0.3


def test_training_mode_moves_statistics_and_validation_does_not() -> None:
    model = ax.Sequential(nn.Dense(2, 8), nn.BatchNorm(8), nn.Dropout(0.5), nn.relu, nn.Dense(8, 2))
    rows = ax.one_hot(Y)
    result = quiet(model, (X, rows), epochs=2, lr=1e-6, validation=(X, rows), metrics=["accuracy", "mae"], loss="mse")
    old, new = (m.params["1_BatchNorm"] for m in (model, result.model))
    assert np.abs(np.asarray(new["mean"]) - np.asarray(old["mean"])).max() > 1e-3
    row, y = result.history[-1], result.model(X)
    assert row["val_loss"] == pytest.approx(float(ax.losses.mse(y, rows)), rel=1e-4)
    assert row["val_mae"] == pytest.approx(float(ax.losses.l1(y, rows)), rel=1e-4)
    assert row["val_accuracy"] == pytest.approx(float(np.mean(np.asarray(y).argmax(1) == Y)))
    assert row.keys() >= {"epoch", "step", "loss", "accuracy", "mae", "val_accuracy", "rate", "seconds"}


def test_accumulated_steps_are_one_large_step() -> None:
    data = ax.DataLoader((X, Y), 96), ax.DataLoader((X, Y), 32)
    large, small = (
        ax.train(net(), loader, ax.SGD(0.1), epochs=3, accumulate=n, progress=False)
        for loader, n in zip(data, (1, 3), strict=True)
    )
    np.testing.assert_allclose(flat(large.model), flat(small.model), rtol=1e-4, atol=1e-6)


def test_clipping_bounds_the_step() -> None:
    model = net()
    moved = flat(quiet(model, (1e3 * X, Y), ax.SGD(1.0), steps=1, clip=0.25).model) - flat(model)
    assert np.linalg.norm(moved) == pytest.approx(0.25, rel=1e-3)


def test_memory_of_the_model_is_not_taken() -> None:
    model = net()
    result = quiet(model, epochs=1)
    again = quiet(result.model, epochs=1)
    gc.collect()
    assert all(np.isfinite(flat(m)).all() for m in (model, result.model, again.model))


BAD: dict[str, tuple[Any, dict[str, Any], str]] = {
    "optimizer": ((X, Y), {"optimizer": "adan2"}, "no optimizer 'adan2'"),
    "loss": ((X, Y), {"loss": "cross"}, "no loss 'cross'"),
    "loss object": ((X, Y), {"loss": 3}, "This is no loss"),
    "rate twice": ((X, Y), {"optimizer": ax.Adam(), "lr": 0.1}, "has its rate"),
    "labels": ((X, Y + 1), {}, "must number the classes"),
    "lengths": ((X, Y[:-1]), {}, "must have one length"),
    "epochs": ((X, Y), {"epochs": -1}, "takes positive numbers"),
    "precision": ((X, Y), {"precision": "float8"}, "no precision 'float8'"),
    "resume": ((X, Y), {"resume": True}, "no folder for checkpoints"),
    "batch size": (ax.DataLoader((X, Y)), {"batch_size": 3}, "have their batches already"),
    "data": (3, {"batch_size": None}, "no training data"),
    "empty": ([], {"batch_size": None}, "no batch"),
    "dict": ([{"a": X, "b": Y}], {"batch_size": None}, "one target"),
    "schedule": ((X, Y), {"optimizer": optax.adam(0.1), "schedule": ax.StepLR(2)}, "rate of this optimizer"),
    "vector loss": ((X, Y), {"loss": lambda o, t: o[:, 0]}, "one number"),
    "metric": ((X, Y), {"metrics": ["accuracy", "accuracy"]}, "name of its own"),
    "certified": ((X, Y), {"metrics": ax.certified_accuracy(0.1)}, "validation data"),
    "monitor": ((X, Y), {"callbacks": [ax.EarlyStopping()], "epochs": 1}, "nothing to monitor"),
    "freeze all": ((X, Y), {"freeze": "*"}, "nothing to train"),
    "freeze none": ((X, Y), {"freeze": "encoder/*"}, "No parameter matches"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_does_not_fit_is_told(name: str) -> None:
    data, settings, message = BAD[name]
    with pytest.raises(AxiomError, match=message) as error:
        quiet(net(), data, **settings)
    assert error.value.fix


def test_inputs_of_another_shape() -> None:
    with pytest.raises(ShapeError, match="cannot take its input") as error:
        quiet(net(), (np.zeros((8, 3), np.float32), np.zeros(8, np.int32)))
    assert "Float32[batch, 2]" in str(error.value)


def test_a_loss_that_needs_the_length_of_training() -> None:
    batches = ((X[:32], Y[:32]) for _ in range(2))
    with pytest.raises(AxiomError, match="length is not known"):
        ax.train(net(), batches, loss=ax.ibp_loss(0.1), epochs=1)
