"""Robustness: against margins that are known exactly, and against points in and out of balls."""

from fractions import Fraction

import numpy as np
import pytest

import axiom_jax as ax
from axiom_jax import nn

pytestmark = pytest.mark.thin(2)

ROW = np.array([[0.75, 0.0, 0.25]], np.float32)  # of the identity: margin 1/2; radii 1/4 (inf), 1/√8 (2), 1/2 (1)
SOFTMAX = ax.Sequential(nn.Dense(2, 4), nn.relu, nn.Dense(4, 3), nn.softmax, seed=1)


def identity(x):
    return x


def only(prop, model=identity, data=ROW, **given):
    (item,) = ax.verify(model, prop, data=data, mode="quick", **given).items
    return item


@pytest.mark.parametrize(("norm", "inside", "outside"), [
    ("inf", "0.249", "0.25"),  # at 1/4 there is a tie, and ties are unsafe
    (2, "0.353", "0.354"),
    (1, "0.499", "0.5"),
])  # fmt: skip
def test_radii_are_exact_for_a_linear_model(norm, inside, outside):
    assert only(ax.Robust(inside, norm=norm)).verdict == "proved"
    item = only(ax.Robust(outside, norm=norm))
    assert item.verdict == "refuted"
    away = [v - Fraction(float(c)) for v, c in zip(item.counterexample.inputs, ROW[0], strict=True)]
    size = {"inf": max(map(abs, away)) ** 2, 2: sum(v * v for v in away), 1: sum(map(abs, away)) ** 2}[norm]
    assert size <= Fraction(outside) ** 2
    assert item.counterexample.inputs[0] <= max(item.counterexample.inputs[1:])


def test_a_radius_for_every_feature():
    assert only(ax.Robust(np.array([0.0, 0.7, 0.4]))).verdict == "proved"
    assert only(ax.Robust(np.array([0.0, 0.8, 0.4]))).verdict == "refuted"
    with pytest.raises(ax.SpecError, match="as many radii as features"):
        only(ax.Robust(np.array([0.1, 0.1])))


def test_balls_are_cut_to_where_inputs_live():
    live = ax.Box([0.6, -1, -1], [1, "0.5", "0.5"])
    assert only(ax.Robust("0.9"), region=live).verdict == "proved"
    assert only(ax.Robust("0.9", within=live)).verdict == "proved"
    assert only(ax.Robust("0.9")).verdict == "refuted"
    outside = only(ax.Robust("0.1", within=(2, 3)))
    assert (outside.verdict, "outside of where the inputs live" in outside.reason) == ("unknown", True)


def test_the_claim_says_to_what_balls_are_cut():
    assert " within [1/2, 1] × [0, 1] × [0, 1]: " in only(ax.Robust("0.1", within=(["0.5", 0, 0], 1))).text
    assert " within [0, 1]: " in only(ax.Robust("0.1"), region=ax.Box(0, 1)).text
    assert "within" not in only(ax.Robust("0.1")).text
    long = [only(ax.Robust("0.1", within=([0.1, low, 0], [0.9, 0.3, 0.7]))).text for low in (-0.1, -0.2)]
    assert "a box of shape 3 (sha256 " in long[0] and long[0] != long[1]
    (found,) = ax.certified_radius(identity, ROW, steps=4, within=(0, 1), mode="quick")
    assert "within [0, 1]" in found.verdict.certificate.text


@pytest.mark.slow
def test_targets_and_top_k():
    assert only(ax.Robust("0.3", target=1)).verdict == "proved"
    assert only(ax.Robust("0.3", target=2)).verdict == "refuted"
    assert only(ax.Robust("0.3", top=2)).verdict == "proved"
    assert only(ax.Robust("0.4", top=2)).verdict == "refuted"
    with pytest.raises(ax.SpecError, match="Top-k cannot be asked"):
        only(ax.Robust("0.2", top=3))
    with pytest.raises(ax.SpecError, match="target is no class"):
        only(ax.Robust("0.2", target=7))


def test_rows_of_the_target_are_left_out():
    result = ax.verify(identity, ax.Robust("0.1", target=1), data=([[0.75, 0, 0], [0, 0.75, 0]], [0, 1]), mode="quick")
    assert [item.row for item in result] == [0]


def test_softmax_is_asked_of_the_logits_and_the_result_says_so():
    data = np.array([[0.5, -0.2]], np.float32)
    item = only(ax.Robust("0.001"), SOFTMAX, data)
    assert (item.verdict, item.network) == ("proved", "logits")
    assert "keeps the order" in item.notes[0]
    assert not any(node["op"] in ("exp", "div") for node in item.certificate.payload["model"]["program"]["nodes"])
    assert "no labels were given" in item.text
    best = int(np.argmax(SOFTMAX(data)[0]))
    assert only(ax.Robust("0.001"), SOFTMAX, (data, [(best + 1) % 3])).verdict == "refuted"


@pytest.mark.parametrize("make", [
    lambda: ax.Robust(0), lambda: ax.Robust("-1"), lambda: ax.Robust("x"), lambda: ax.Robust(0.1, norm=3),
    lambda: ax.Robust(0.1, top=0), lambda: ax.Robust(np.ones(2), norm=2), lambda: ax.Robust(0.1, within=5),
    lambda: ax.Robust(float("inf")), lambda: ax.Robust(0.1, top=2, target=1),
])  # fmt: skip
def test_bad_parameters_are_named(make):
    with pytest.raises(ax.SpecError):
        make()


def test_what_it_cannot_be_asked_of_is_named():
    with pytest.raises(ax.SpecError, match="regions around data"):
        ax.verify(identity, ax.Robust(0.1), region=ax.Box([0, 0, 0], [1, 1, 1]))
    with pytest.raises(ax.SpecError, match="one output"):
        only(ax.Robust(0.1), lambda x: x.sum(1, keepdims=True))
    with pytest.raises(ax.SpecError, match="no classes of the model"):
        only(ax.Robust(0.1), data=(ROW, [5]))
    with pytest.raises(ax.SpecError, match="no classes of the model"):
        only(ax.Robust(0.1), data=(ROW, [0.5]))


def test_one_hot_labels_are_classes():
    assert only(ax.Robust("0.1"), data=(ROW, np.array([[1, 0, 0]]))).verdict == "proved"
    assert only(ax.Robust("0.1"), data=(ROW, np.array([[0, 1, 0]]))).verdict == "refuted"
