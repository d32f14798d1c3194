"""What is asked about: models, data and regions of every kind, and what does not fit."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import axiom_jax as ax
from axiom_jax import nn
from axiom_jax.verification.properties.reading import scope_of
from axiom_jax.verification.properties.scope import MODES

pytestmark = pytest.mark.thin(2)

NET = ax.Sequential(nn.Dense(4, 3))
X = np.arange(24, dtype=np.float32).reshape(6, 4)
QUICK = MODES["quick"]


@pytest.mark.parametrize(("data", "labels"), [
    (X, None), ((X, np.arange(6)), [0, 1, 2, 3, 4, 5]), ([X, np.arange(6)], [0, 1, 2, 3, 4, 5]), (X.tolist(), None),
    ((jnp.asarray(X), np.eye(6)), [0, 1, 2, 3, 4, 5]), (ax.DataLoader((X, np.ones(6)), batch_size=4), [1] * 6),
    ((X, X), None), ((X, np.linspace(0, 1, 6)), None),
])  # fmt: skip
def test_data_of_every_kind(data, labels):
    scope = scope_of(NET, None, data, QUICK)
    np.testing.assert_array_equal(scope.samples.x, X)
    assert (None if scope.samples.y is None else scope.samples.y.tolist()) == labels


def test_rows_are_limited_by_the_mode():
    scope = scope_of(NET, None, np.zeros((30, 4)), QUICK)
    assert (len(scope.samples), scope.rows) == (10, 30)


def test_a_ball_without_a_centre_stands_for_one_around_each_row():
    scope = scope_of(NET, ax.Linf("1/8"), X[:2], QUICK)
    places = list(scope.places())
    assert [place.row for place in places] == [0, 1]
    assert [place.text for place in places] == ["‖x − row 0‖_∞ ≤ 1/8", "‖x − row 1‖_∞ ≤ 1/8"]
    lo, hi = scope.box(places[1])
    assert [float(v) for v in lo] == [3.875, 4.875, 5.875, 6.875] and hi[0] - lo[0] == 0.25
    (origin,) = scope_of(NET, ax.Linf("1/8"), None, QUICK).places()
    assert origin.row is None


def test_open_sizes_come_from_the_data_or_the_region():
    net = ax.Sequential(nn.Conv2d(1, 2, 3), nn.relu, input_shape=("h", "w", 1))
    assert scope_of(net, None, np.zeros((2, 6, 5, 1)), QUICK).subject.specs[0].shape == (1, 6, 5, 1)
    region = ax.Box(np.zeros((6, 5, 1)), np.ones((6, 5, 1)))
    assert scope_of(net, region, None, QUICK).subject.specs[0].shape == (1, 6, 5, 1)
    with pytest.raises(ax.SpecError, match="any size"):
        scope_of(net, ax.Box(0, 1), None, QUICK)


def test_functions_and_modules_are_models():
    assert scope_of(lambda x: x * 2, ax.Box([0.0] * 3, [1.0] * 3), None, QUICK).subject.size == 3
    from flax import nnx

    assert scope_of(nnx.Linear(4, 2, rngs=nnx.Rngs(0)), ax.Box(0, 1), None, QUICK).outputs == 2


@pytest.mark.parametrize(("model", "region", "data", "words"), [
    (lambda x: x, ax.Box(0, 1), None, "does not say what it takes"),
    (3, ax.Box(0, 1), None, "no model"),
    (NET, ax.Box(np.zeros(5), np.ones(5)), None, "shape"),
    (NET, ax.Linf(0.1, np.zeros(3)), None, "shape"),
    (NET, None, np.zeros((2, 5)), "cannot take the data"),
    (NET, None, np.zeros((0, 4)), "no rows"),
    (NET, None, (X, np.zeros(5)), "not as many labels"),
    (NET, None, np.full((2, 4), np.nan), "NaN"),
    (NET, None, {"x": X}, "no data"),
    (NET, None, (X, X, X), "no data"),
    (NET, None, [["a", "b"]], "no array of numbers"),
    (ax.Sequential(nn.Embedding(5, 2)), ax.Box(0, 1), None, "real inputs"),
])  # fmt: skip
def test_what_does_not_fit_is_named(model, region, data, words):
    with pytest.raises(ax.AxiomError, match=words) as error:
        scope_of(model, region, data, QUICK)
    assert isinstance(error.value, (ax.SpecError, ax.ShapeError))
    assert error.value.at and error.value.fix


@pytest.mark.parametrize("model", [
    lambda x: x - x.mean(0), lambda x: 1.0 * x if x.shape[0] == 1 else 5.0 * x, lambda x: jnp.cumsum(x, 0),
    lambda x: x[::-1], lambda x: x.reshape(1, -1)[:, :2],
])  # fmt: skip
def test_a_model_whose_rows_meet_is_refused(model):
    with pytest.raises(ax.SpecError, match="rows of a batch meet"):
        scope_of(model, ax.Box([-1.0, -1.0], [1.0, 1.0]), None, QUICK)


def test_a_model_whose_rows_are_not_known_to_be_apart_says_so():
    few = lambda x: 1.0 * x if x.shape[0] <= 8 else 5.0 * x  # found by no execution of few rows
    name = scope_of(few, ax.Box([-1.0, -1.0], [1.0, 1.0]), None, QUICK).subject.name
    assert name.endswith("in a batch of one row")


@pytest.mark.parametrize("model", [
    NET, ax.Sequential(nn.Dense(4, 3), nn.relu, nn.softmax), lambda x: jax.nn.gelu(x - x.mean(-1, keepdims=True)),
    lambda x: x.reshape(x.shape[0], 2, 2).max(1), lambda x: jnp.stack([x[:, 0], x[:, 1] * 2], 1),
    jax.vmap(lambda row: row[0] * row),
])  # fmt: skip
def test_rows_are_known_to_be_apart(model):
    name = scope_of(model, ax.Box([-1.0] * 4, [1.0] * 4), None, QUICK).subject.name
    assert "one row" not in name
