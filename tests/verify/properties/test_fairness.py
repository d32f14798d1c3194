"""Fairness: pairs against enumeration, group statistics against scipy and published figures, shares by sampling."""

import itertools

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import axiom_jax as ax
from axiom_jax.verification.properties.groups import clopper_pearson, newcombe, wilson

pytestmark = pytest.mark.thin(2)

BOX = ax.Box([0] * 6, [1] * 5 + [3])  # a one-hot protected attribute, a one-hot group of three, a whole number
FAIR = ax.IndividualFairness([0, 1], categorical=[[2, 3, 4]], integers=[5])


def small(weights, x):
    return jax.nn.relu(x @ weights[0] + weights[1]) @ weights[2]


def draw(seed, protected=1.0):
    generator = np.random.default_rng(seed)
    weights = [generator.normal(size=s).astype(np.float32) for s in ((6, 5), (5,), (5, 2))]
    weights[0][:2] *= protected
    return ax.Model(small, weights)


def decisions_differ(model):
    """By enumeration of every value, in float64."""
    w, b, v = (np.asarray(p, float) for p in model.params)
    for group, number in itertools.product(range(3), range(4)):
        x = np.zeros((2, 6))
        x[[0, 1], [0, 1]], x[:, 2 + group], x[:, 5] = 1, 1, number
        first, second = (np.maximum(x @ w + b, 0) @ v).argmax(1)
        if first != second:
            return True
    return False


@pytest.mark.slow
@settings(max_examples=4)
@given(st.integers(0, 10**6), st.sampled_from([0.05, 0.3, 1.0]))
def test_agrees_with_enumeration(seed, protected):
    model = draw(seed, protected)
    (item,) = ax.verify(model, FAIR, region=BOX)
    assert item.verdict == ("refuted" if decisions_differ(model) else "proved"), item.reason


def test_a_model_that_ignores_the_attribute_is_fair_and_its_certificate_is_accepted():
    (item,) = ax.verify(draw(3, 0.0), FAIR, region=BOX)
    assert item.verdict == "proved" and item.network == "composed"
    assert ax.check_certificate(item.certificate).accepted


def test_a_counterexample_is_a_real_pair():
    model = next(m for m in map(draw, range(50)) if decisions_differ(m))
    (item,) = ax.verify(model, FAIR, region=BOX)
    x = np.array([float(v) for v in item.counterexample.inputs], np.float32)
    first, second = x[:6], np.concatenate([x[6:8], x[2:6]])
    assert sorted(first[:2]) == sorted(second[:2]) == [0, 1] and first[5] == round(float(first[5]))
    assert np.argmax(model(first[None])) != np.argmax(model(second[None]))


def test_whole_numbers_are_asked_one_by_one_where_fractions_are_unfair():
    """A bump between whole numbers and a little of the protected input together reach the threshold."""
    into = np.array([[0, 0, 0, 1], [1, 1, 1, 0]], np.float32)
    out = np.array([[0, 1], [0, -2], [0, 1], [0, 0.2]], np.float32)
    model = ax.Model(small, [into, np.array([0, -0.5, -1, 0], np.float32), out], name="bump")
    shifted = lambda x: model(x) - np.array([0, 0.45], np.float32)
    verdict = lambda prop: ax.verify(shifted, prop, region=region).items[0].verdict
    region, asked = ax.Box([0, 0], [1, 2]), {"values": [0, 1]}
    assert verdict(ax.IndividualFairness(0, **asked)) == "refuted"
    assert verdict(ax.IndividualFairness(0, integers=[1], **asked)) == "proved"


@pytest.mark.slow
def test_eps_tolerance_and_threshold():
    region = ax.Box([0, 0], [1, 1])
    model = lambda x: x @ np.array([[0.25], [1.0]], np.float32)
    verdict = lambda prop: ax.verify(model, prop, region=region).items[0].verdict
    assert verdict(ax.IndividualFairness(0, tolerance="0.26")) == "proved"
    assert verdict(ax.IndividualFairness(0, tolerance="0.24")) == "refuted"
    assert verdict(ax.IndividualFairness(0, eps="0.1", tolerance="0.36")) == "proved"
    assert verdict(ax.IndividualFairness(0, eps="0.1", tolerance="0.34")) == "refuted"
    assert verdict(ax.IndividualFairness(0, threshold="0.5")) == "refuted"
    with pytest.raises(ax.SpecError, match="what a decision is"):
        ax.verify(model, ax.IndividualFairness(0), region=region)


def test_rows_of_data_are_tested():
    rows = np.eye(6, dtype=np.float32)[[0, 1]] + np.eye(6, dtype=np.float32)[[3, 4]]
    (item,) = ax.verify(draw(3, 0.0), ax.IndividualFairness([0, 1]), data=rows)
    assert item.verdict == "tested" and item.samples == 2


def test_intervals_are_the_published_ones():
    from scipy.stats import binomtest

    for k, n in ((0, 7), (3, 11), (20, 20)):
        exact = binomtest(k, n).proportion_ci(0.9, method="exact")
        assert clopper_pearson(k, n, 0.9) == pytest.approx((exact.low, exact.high), abs=1e-9)
        scores = binomtest(k, n).proportion_ci(0.9, method="wilson")
        assert wilson(k, n, 0.9) == pytest.approx((scores.low, scores.high), abs=1e-9)
    # Newcombe 1998, table II, method 10
    for given_, low, high in (((56, 70, 48, 80), 0.0524, 0.3339), ((9, 10, 3, 10), 0.1705, 0.8090),
                              ((10, 10, 0, 20), 0.6791, 1.0)):  # fmt: skip
        assert newcombe(*given_) == pytest.approx((low, high), abs=5e-5)


def data(rows=600, gap=0.0):
    generator = np.random.default_rng(0)
    x = generator.random((rows, 3)).astype(np.float32)
    x[:, 0] = generator.integers(0, 2, rows)
    x[:, 1] += gap * x[:, 0]
    return x, (x[:, 1] > 0.5).astype(int)


def scorer(x):
    return jax.numpy.stack([0.5 - x[:, 1], x[:, 1] - 0.5], 1)


def test_group_statistics_are_tested_never_proved():
    result = ax.verify(scorer, [ax.DemographicParity(0, "0.2"), ax.EqualizedOdds(0, "0.2")], data=data())
    assert {item.verdict for item in result} == {"tested"} and not result.passed
    x, y = data()
    first = result.items[0]
    rates = [(x[x[:, 0] == v, 1] > 0.5).mean() for v in (0, 1)]
    assert first.samples == 600 and first.answer.estimate == pytest.approx(rates[0] - rates[1])
    low, high = first.answer.interval
    assert low < first.answer.estimate < high and "lies within the tolerance" in first.reason
    unfair = ax.verify(scorer, ax.DemographicParity(0, "0.1"), data=data(gap=0.4)).items[0]
    assert unfair.verdict == "tested" and "lies beyond the tolerance" in unfair.reason
    assert len(result) == 3  # a claim for each label of the odds
    del y


def test_groups_without_rows_are_named():
    (item,) = ax.verify(scorer, ax.DemographicParity(0, values=(0, 7)), data=data())
    assert item.verdict == "unknown" and "x[0] = 7" in item.reason
    with pytest.raises(ax.SpecError, match="data with labels"):
        ax.verify(scorer, ax.EqualizedOdds(0), data=data()[0])


def test_shares_of_a_region_are_bounded():
    generator = np.random.default_rng(1)
    weights = [generator.normal(size=s).astype(np.float32) for s in ((3, 4), (4,), (4, 2))]
    weights[0][0] *= 0.3
    model, region = ax.Model(small, weights), ax.Box([0, 0, 0], [1, 1, 1])
    x = generator.random((20_000, 3)).astype(np.float32)
    rates = []
    for value in (0, 1):
        x[:, 0] = value
        rates.append(float((np.asarray(small(weights, x)).argmax(1) == 1).mean()))
    gap = abs(rates[0] - rates[1])
    (item,) = ax.verify(model, ax.DemographicParity(0, round(gap + 0.05, 3)), region=region)
    assert item.verdict == "proved" and ax.check_certificate(item.certificate).accepted
    (item,) = ax.verify(model, ax.DemographicParity(0, round(max(gap - 0.05, 0), 3)), region=region)
    assert gap < 0.05 or (item.verdict == "unknown" and "it is not shown" in item.reason)


@pytest.mark.slow
def test_whole_numbers_move_by_whole_steps():
    """Neighbouring years differ by 1 in the output: eps below 1 moves no year, eps = 1 the next, eps = 2.5 two."""
    region, years = ax.Box([0, 0], [1, 3]), lambda x: x[:, 1:2] + 0 * x[:, :1]

    def verdict(eps, tolerance):
        asked = ax.IndividualFairness(0, values=[0, 1], eps=eps, integers=[1], tolerance=tolerance)
        (item,) = ax.verify(years, asked, region=region)
        if item.verdict == "refuted":
            moved = item.counterexample.inputs[3]
            assert moved.denominator == 1 and abs(moved) <= eps
        return item.verdict

    assert [verdict(2.5, t) for t in ("1.9", "2.1")] == ["refuted", "proved"]
    asked = ax.IndividualFairness(0, values=[0, 1], eps="0.5", integers=[1], tolerance="0.1")
    (item,) = ax.verify(years, asked, region=region)
    assert item.verdict == "proved" and "equal in the others" in item.text


def test_categories_are_said_to_be_equal():
    asked = ax.IndividualFairness(0, values=[0, 1], eps=1, categorical=[(1, 2)], tolerance="0.1")
    (item,) = ax.verify(lambda x: x[:, 1:2] + 0 * x[:, :1], asked, region=ax.Box([0] * 4, [1] * 4))
    assert item.verdict == "proved" and "by at most 1 in the inputs [3] and are equal in the others" in item.text


def test_pairs_lie_in_the_region():
    corner = lambda x: jax.nn.relu(x[:, :1] + x[:, 1:] - 1.5)  # 0 on the unit disc
    asked = ax.IndividualFairness(0, tolerance="0.1")
    verdict = lambda model, region: ax.verify(model, asked, region=region, mode="quick").items[0].verdict
    assert verdict(corner, ax.Box([-1, -1], [1, 1])) == "refuted"
    assert verdict(corner, ax.L2(1, [0, 0])) == "unknown"
    (item,) = ax.verify(lambda x: x[:, :1], asked, region=ax.L2(1, [0, 0]))
    a, b, c = item.counterexample.inputs
    assert item.verdict == "refuted" and max(a * a, c * c) + b * b <= 1 and a != c


def test_shares_are_of_a_box():
    for region in (ax.L2(1, [0, 0, 0]), ax.Box([0] * 3, 1, lo_open=True)):
        with pytest.raises(ax.SpecError, match="a box with its border"):
            ax.verify(lambda x: x[:, 1:2], ax.DemographicParity(0, threshold="0.5"), region=region)
