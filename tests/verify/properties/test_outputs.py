"""Properties of outputs: proved, refuted, and tested or claimed where no more is known."""

from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import axiom_jax as ax
from axiom_jax import nn
from axiom_jax.verification.proof.binding import check_certificate

pytestmark = pytest.mark.thin(2)

RELU = ax.Sequential(nn.Dense(2, 4), nn.relu, nn.Dense(4, 2), nn.relu, seed=1)
SOFTMAX = ax.Sequential(nn.Dense(2, 4), nn.relu, nn.Dense(4, 3), nn.softmax, seed=1)
X = np.random.default_rng(0).uniform(0, 1, (5, 2)).astype(np.float32)


def linear(x):
    return jnp.stack([x[:, 0] + x[:, 1], 1 - x[:, 0] - x[:, 1]], 1)


def only(model, prop, **given):
    (item,) = ax.verify(model, prop, mode="quick", **given).items
    return item


def test_bounds_are_proved_by_the_checker_and_refuted_by_an_exact_point():
    assert only(linear, ax.Bounded(-3, 3), region=ax.Box([-1, -1], [1, 1])).levels == ("real",)
    item = only(linear, ax.Bounded(-3, "1.9"), region=ax.Box([-1, -1], [1, 1]))
    assert item.verdict == "refuted"
    assert sum(item.counterexample.inputs) > Fraction("1.9") or sum(item.counterexample.inputs) < Fraction("-0.9")


def test_bounds_that_touch_are_proved_and_one_bit_less_is_not():
    """x + y over [0, 1]² reaches 2: a closed claim holds at 2, and not below."""
    region = ax.Box([0, 0], [1, 1])
    assert only(linear, ax.Bounded(-1, 2), region=region).verdict == "proved"
    assert only(linear, ax.Bounded(-1, Fraction(2) - Fraction(1, 2**20)), region=region).verdict == "refuted"


def test_a_relu_is_never_negative_without_a_margin():
    assert only(RELU, ax.Bounded(0, None), region=ax.Box(-1, 1)).verdict == "proved"


def test_softmax_gives_probabilities_for_every_input():
    item = only(SOFTMAX, ax.ValidProbabilities())
    assert (item.verdict, item.region, item.network) == ("proved", "every x", "tail")
    assert check_certificate(item.certificate).accepted


def test_sums_are_asked_of_bounds_where_there_is_no_softmax():
    region = ax.Box([0, 0], ["0.5", "0.5"])
    assert only(linear, ax.ValidProbabilities(), region=region).verdict == "proved"
    assert only(linear, ax.ValidProbabilities(), region=ax.Box([0, 0], [1, 1])).verdict == "refuted"
    beyond = ax.Box([0, 0], ["0.5", "0.505"])
    assert only(linear, ax.ValidProbabilities(), region=beyond).verdict == "refuted"
    assert only(linear, ax.ValidProbabilities("0.01"), region=beyond).verdict == "proved"


def test_rows_of_data_are_tested_and_never_pass():
    result = ax.verify(linear, ax.Bounded(-9, 9), data=X, mode="quick")
    assert [item.verdict for item in result] == ["tested"]
    assert result.items[0].samples == 5
    assert not result.passed
    assert only(linear, ax.Bounded(0.5, 9), data=X).verdict == "refuted"


def test_finite_numbers_are_claimed_where_level_float32_cannot_speak_of_the_model():
    for item in ax.verify(SOFTMAX, [ax.NoNaN(), ax.NoInf(), ax.Finite()], region=ax.Box(-1, 1), mode="quick"):
        assert item.verdict == "claimed"
        assert "level float32: softmax is written by differences" in item.reason
        assert item.levels == ()


def test_an_executed_input_refutes_that_outputs_are_numbers():
    overflow = lambda x: jnp.exp(x) * 1e30
    item = only(overflow, ax.NoInf(), region=ax.Box([0.0], [80.0]))
    assert (item.verdict, item.levels) == ("refuted", ("bitwise",))
    (x,) = item.counterexample.inputs
    assert np.isinf(jax.jit(overflow)(np.full((1, 1), float(x), np.float32))).all()
    assert only(lambda x: jnp.log(x), ax.NoNaN(), region=ax.Box([-1.0], [1.0])).verdict == "refuted"
    assert only(lambda x: jnp.sqrt(x), ax.NoNaN(), data=X).verdict == "tested"


def test_finiteness_is_proved_at_level_float32():
    w = np.array([[1, -2, 3], [0.5, 4, -1]], np.float32)
    model = lambda x: jax.nn.sigmoid(jax.nn.relu(x @ w) / 3 - 1)
    result = ax.verify(model, [ax.NoNaN(), ax.Finite()], region=ax.Box([-100.0, 0.0], [100.0, 1.0]), mode="quick")
    assert result.passed and [item.levels for item in result.items] == [("real", "float32")] * 2
    assert ax.check_certificate(ax.generate_certificate(model, result), model).accepted


def test_values_near_the_largest_float_are_tested_not_claimed():
    item = only(lambda x: jnp.exp(jnp.exp(x)), ax.Finite(), region=ax.Box([0.0], [4.48]))
    assert item.verdict == "tested"
    assert "2^127" in item.reason


@pytest.mark.parametrize("make", [
    lambda: ax.Bounded(), lambda: ax.Bounded(2, 1), lambda: ax.Bounded("one", 2), lambda: ax.Bounded(float("nan"), 2),
    lambda: ax.Bounded(True, 2), lambda: ax.ValidProbabilities(-1),
])  # fmt: skip
def test_bad_parameters_are_named(make):
    with pytest.raises(ax.SpecError) as error:
        make()
    assert error.value.at.startswith("tests")
    assert error.value.fix or error.value.got


def test_outputs_that_are_not_there_are_named():
    with pytest.raises(ax.SpecError, match="outputs that the model does not have"):
        ax.verify(linear, ax.Bounded(0, 1, outputs=[2]), region=ax.Box([0, 0], [1, 1]))


def test_a_region_without_some_ends_is_not_every_input():
    """0 is the least output for x >= 0, and for other x it is not."""
    half, least = ax.Box([0.0, 0.0], [None, None]), lambda x: jnp.maximum(x, -3.0)
    for model in (least, lambda x: x):
        item = only(model, ax.Bounded(0, None), region=half)
        assert item.verdict == "tested" and "every x" not in item.text
        assert only(model, ax.Bounded(0, None), region=ax.Box([None] * 2, [None] * 2)).verdict == "refuted"
    item = only(least, ax.Bounded(1, None), region=half)
    assert item.verdict == "refuted" and min(item.counterexample.inputs) >= 0
    assert only(lambda x: jnp.log(x + 1), ax.NoNaN(), region=half).verdict == "tested"
    assert only(lambda x: jnp.log(x - 1), ax.NoNaN(), region=half).verdict == "refuted"
    assert "every" in only(lambda x: x, ax.NoNaN(), region=ax.Box([None], [None])).text


def test_an_end_that_is_left_out_refutes_nothing():
    identity, positive = lambda x: x, ax.Not(ax.Bounded(None, 0))
    assert only(identity, positive, region=ax.Box([0.0], [1.0])).verdict == "refuted"
    assert only(identity, positive, region=ax.Box([0.0], [1.0], lo_open=True)).verdict == "unknown"
    item = only(identity, ax.Bounded(None, "0.5"), region=ax.Box([0.0], [1.0], hi_open=True))
    assert item.verdict == "refuted" and Fraction("0.5") < item.counterexample.inputs[0] < 1
    inverse = lambda x: 1 / x
    assert only(inverse, ax.NoInf(), region=ax.Box([0.0], [1.0])).verdict == "refuted"
    assert only(inverse, ax.NoInf(), region=ax.Box(["0.5"], [1.0], lo_open=True)).verdict == "proved"


def test_the_kept_counterexample_of_a_closed_box_is_no_answer_for_the_open_one():
    from axiom_jax.verification.properties.answering import is_answer
    from axiom_jax.verification.properties.reading import scope_of
    from axiom_jax.verification.properties.scope import MODES

    asked, identity = ax.Not(ax.Bounded(None, 0)), lambda x: x
    closed, opened = (
        next(iter(asked.claims(scope_of(identity, ax.Box([0.0], [1.0], lo_open=end), None, MODES["quick"])))).ways[-1]
        for end in (False, True)
    )
    found = closed.settle(MODES["quick"]).answer.certificate
    assert is_answer(found, closed) and not is_answer(found, opened)
    assert closed.key() != opened.key()
