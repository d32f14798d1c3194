"""Polytopes as regions: their points and ends are certain, and what is said of them holds there."""

import time
from fractions import Fraction

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import axiom_jax as ax
from axiom_jax import nn
from axiom_jax.verification._polytope_ends import combination, dot, highest, inner_point, outward
from axiom_jax.verification.proof.recipes import decode, encode
from axiom_jax.verification.properties.balls import contains, moved_in
from axiom_jax.verification.properties.polytopes import combined
from axiom_jax.verification.properties.reading import scope_of
from axiom_jax.verification.properties.scope import MODES, Place

numbers = st.fractions(-4, 4, max_denominator=12)
rows = st.lists(st.lists(numbers, min_size=2, max_size=2), min_size=1, max_size=4)
TRIANGLE = ax.Polytope([[-1, 0], [0, -1], [-1, -1]], ["-1/10", "-1/5", "-1"], hi=1)
PLANE = ax.Polytope([[1, 1], [-1, 1], ["1/3", -1]], [1, "3/4", "1/2"], lo=-1, hi=1)  # for all nets: it compiles once
SUM = ax.Sequential(lambda x: x @ np.array([[1.0], [2.0]], np.float32), name="sum")


def relu_net(seed, inputs=2):
    model = ax.Sequential(nn.Dense(inputs, 6), nn.relu, nn.Dense(6, 2))
    keys = iter(jax.random.split(jax.random.key(seed), 8))
    params = jax.tree.map(lambda p: jax.random.normal(next(keys), p.shape) * 0.7, model.params)
    return ax.Model(model.apply, params, model.signature)


def sampled(polytope, count=400, seed=0):
    """Exact points of a polytope: float32 points of its box that lie in it."""
    generator = np.random.default_rng(seed)
    lo, hi = (np.array([float(v) for v in end]) for end in (polytope.lo, polytope.hi))
    points = generator.uniform(lo, hi, (count, len(lo))).astype(np.float32)
    place = Place(polytope, "")
    return [p for p in points if contains(place, [Fraction(float(v)) for v in p])]


# --- what it is


def test_ends_are_exact_where_they_are_short():
    triangle = ax.Polytope([[-1, 0], [0, -1], [3, 1]], [0, 0, 1])
    assert (triangle.lo, triangle.hi) == ((0, 0), (Fraction(1, 3), 1))
    assert str(triangle) == "{-x0 ≤ 0, -x1 ≤ 0, 3·x0 + x1 ≤ 1} within [0, 1/3] × [0, 1]"
    assert ax.Polytope([["1/3", 0], [-0.5, 0]], [1, 2], lo=[None, 0], hi=[None, 1]).lo == (-4, 0)


def test_a_float_is_the_binary_number_that_it_is():
    assert ax.Polytope([[0.1]], ["0.1"], lo=0).a == ((Fraction(0.1),),)
    assert ax.Polytope([[1.0]], [0.1], lo=0).hi[0] >= Fraction(0.1) > Fraction("0.1")


@given(rows=rows, limits=st.lists(st.fractions(0, 3, max_denominator=12), min_size=4, max_size=4))
def test_the_box_holds_every_point(rows, limits):
    """0 is a point; where no end is given, every point of A x ≤ b in the plane lies in the box that is computed."""
    a = [*rows, [1, 1], [-1, 2], [0, -1]]  # bounded: a triangle, cut
    b = [*limits[: len(rows)], 2, 1, 1]
    found = ax.Polytope(a, b)
    for x in np.linspace(-6, 6, 17):
        for y in np.linspace(-6, 6, 17):
            point = [Fraction(float(x)), Fraction(float(y))]
            if found.holds(point):
                assert all(lo <= v <= hi for lo, v, hi in zip(found.lo, point, found.hi, strict=True))
    assert found.holds(found.inner)


@given(rows=rows, target=st.lists(numbers, min_size=2, max_size=2))
def test_combinations_are_exact_or_refused(rows, target):
    found = combination([tuple(row) for row in rows], tuple(target))
    whole = np.array([[float(v) for v in row] for row in rows]).T
    if found is None:
        assert np.linalg.matrix_rank(whole) < 2
    else:
        assert [sum(y * row[i] for y, row in zip(found, rows, strict=True)) for i in range(2)] == target


def test_rounding_is_outward():
    value = Fraction(10**30 + 7, 3 * 10**30 + 1)
    assert 0 <= outward(value) - value < Fraction(1, 2**40) and 0 <= outward(-value) + value < Fraction(1, 2**40)
    small = value / 10**40
    assert 0 <= outward(small) - small < small / 2**30


def test_ends_that_a_float_program_gets_wrong_are_not_taken():
    """The multipliers decide: with rows that are nearly parallel the answer is a true end, or none."""
    third, near = Fraction(1, 3), Fraction(1, 3) + Fraction(1, 10**12)
    found = highest([(Fraction(1), third), (Fraction(-1), -near), (Fraction(0), Fraction(-1))],
                    [Fraction(1), Fraction(-1), Fraction(0)], (Fraction(1), Fraction(0)))  # fmt: skip
    assert found is None or found >= 1
    assert inner_point([(Fraction(1),), (Fraction(-1),)], [Fraction(0), Fraction(-1, 10**15)]) is None


@pytest.mark.parametrize("a, b, more, what", [
    ([[1, 0], [-1, 0]], [0, -1], {"lo": -5, "hi": 5}, "No point of the polytope"),
    ([[1, 1]], [-1], {"lo": 0}, "No point of the polytope"),
    ([[0, 0]], [-1], {"lo": 0, "hi": 1}, "No point of the polytope"),
    ([[1, 1]], [1], {}, "no end that can be shown"),
    ([[1, 1]], [1], {"lo": [0, None]}, "no end that can be shown"),
    ([[1, 1]], [1, 2], {}, "a matrix and a number for each"),
    ([[1, 1], [1]], [1, 2], {}, "a matrix and a number for each"),
    ([1, 1], [1, 1], {}, "a matrix and a number for each"),
    ([[float("inf"), 1]], [1], {}, "a matrix and a number for each"),
    ([[1, 1]], [1], {"lo": [0, 0, 0]}, "another number of inputs"),
    ([[1, 1]], [1], {"lo": 1, "hi": 0}, "The box has no points"),
    ([["x", 1]], [1], {}, "given by numbers"),
])  # fmt: skip
def test_what_is_no_polytope_is_refused(a, b, more, what):
    with pytest.raises(ax.SpecError, match=what):
        ax.Polytope(a, b, **more)


def test_a_flat_polytope_has_exact_points():
    line = ax.Polytope([[3, 1], [-3, -1]], [1, -1], lo=0)
    assert line.holds(line.inner) and dot((3, 1), line.inner) == 1
    assert line.hi == (Fraction(1, 3), 1)


def test_it_is_written_and_read_again():
    assert decode(encode(TRIANGLE)) == TRIANGLE


# --- what is proved and refuted


def test_the_minimum_of_a_linear_net_over_a_triangle_is_proved_exactly():
    """x + 2y over x ≥ 1/10, y ≥ 1/5, x + y ≥ 1 is least at (4/5, 1/5): 6/5, which a box around it never shows."""
    result = ax.verify(SUM, [ax.Bounded("6/5"), ax.Bounded("1.2001")], region=TRIANGLE, mode="quick")
    least, more = result.items
    assert least.verdict == "proved" and least.levels == ("real",)
    point = more.counterexample.inputs
    assert more.verdict == "refuted" and TRIANGLE.holds(point)
    assert point[0] + 2 * point[1] < Fraction("1.2001")
    box = ax.verify(SUM, ax.Bounded("6/5"), region=ax.Box(TRIANGLE.lo, TRIANGLE.hi), mode="quick").items[0]
    assert box.verdict == "refuted" and not TRIANGLE.holds(box.counterexample.inputs)


def test_the_certificate_says_the_inequalities():
    item = ax.verify(SUM, ax.Bounded("6/5"), region=TRIANGLE, mode="quick").items[0]
    (case,) = item.certificate.payload["property"]["cases"]
    (conjunct,) = case["unsafe"]
    assert [atom["threshold"] for atom in conjunct] == ["6/5", "-1/10", "-1/5", "-1"]
    assert conjunct[3]["input"] == [[0, "-1"], [1, "-1"]] and conjunct[3]["output"] == []
    assert "-x0 - x1 ≤ -1" in item.text


@pytest.mark.parametrize("seed", range(3))
def test_proofs_never_contradict_points_and_refutations_are_points(seed):
    model = relu_net(seed)
    points = sampled(PLANE)
    outputs = np.asarray(model(np.stack(points)))
    low = float(outputs[:, 0].min())
    for threshold in (low - 3, low - 0.05, low + 0.01):
        item = ax.verify(model, ax.Bounded(Fraction(threshold), outputs=(0,)), region=PLANE, mode="quick").items[0]
        if item.verdict == "proved":
            assert low >= threshold - 1e-5
        if item.verdict == "refuted":
            x = item.counterexample.inputs
            assert contains(Place(PLANE, ""), x)
            assert float(np.asarray(model(np.array([[float(v) for v in x]], np.float32)))[0, 0]) < threshold + 1e-5
        assert item.verdict in ("proved", "refuted") and (threshold < low or item.verdict == "refuted")
        assert threshold > low - 2 or item.verdict == "proved"


def test_a_bundle_is_compared_with_its_question(tmp_path):
    model = relu_net(7)
    low = min(np.asarray(model(np.stack(sampled(PLANE))))[:, 0])
    asked = [ax.Bounded(Fraction(float(low)) - 1, outputs=(0,)), ax.Bounded(Fraction(float(low)) + 1, outputs=(0,))]
    result = ax.verify(model, asked, region=PLANE, mode="quick")
    assert [item.verdict for item in result] == ["proved", "refuted"]
    bundle = ax.generate_certificate(model, result)
    path = ax.save_certificate(bundle, tmp_path / "a.cert")
    assert ax.check_certificate(path, model).raise_if_rejected().accepted
    for item in bundle.statement["items"]:  # the same proofs for a larger polytope are no answer
        item["asked"]["region"]["fields"]["b"]["tuple"][0] = {"fraction": "3/2"}
    assert not ax.check_certificate(bundle, model).accepted


def test_classes_stay_the_same_within_a_polytope():
    model = ax.Sequential(lambda x: x @ np.array([[1.0, 0.0], [0.0, 1.0]], np.float32), name="identity")
    x, y = np.array([[0.75, 0.5]], np.float32), np.array([0])
    alone = ax.verify(model, ax.Robust("1/5"), data=(x, y), mode="quick").items[0]
    above = ax.Polytope([[-1, 1]], ["-1/100"], lo=0, hi=1)  # x0 is above x1
    held = ax.verify(model, ax.Robust("1/5"), data=(x, y), region=above, mode="quick").items[0]
    within = ax.verify(model, ax.Robust("1/5", norm=2, within=above), data=(x, y), mode="quick").items[0]
    assert (alone.verdict, held.verdict, within.verdict) == ("refuted", "proved", "proved")
    assert "-x0 + x1 ≤ -1/100" in held.text


def test_a_ball_outside_of_the_polytope_is_never_proved():
    """Nothing is left of it: that is bad input, not a theorem."""
    x, y = np.array([[0.5, 0.75]], np.float32), np.array([1])
    model = ax.Sequential(lambda x: x @ np.eye(2, dtype=np.float32), name="identity")
    apart = ax.Polytope([[1, -1], [-1, 1]], [5, "-1/5"], lo=0, hi=1)  # x0 is above x1 by 1/5
    for prop in (ax.Robust("1/100", within=apart), ax.Robust("1/100", norm=2, within=apart)):
        item = ax.verify(model, prop, data=(x, y), mode="quick").items[0]
        assert item.verdict == "unknown" and "No point of the region" in item.reason


@pytest.mark.sweep(2)  # each is a network of its own to compile
@pytest.mark.parametrize("prop", [
    ax.AllOf(ax.Bounded("6/5"), ax.Bounded(None, 3)), ax.Implies(ax.Bounded(None, 2), ax.Bounded("1.1", 3)),
    ax.LocalLipschitz(3), ax.Equivalent(SUM, "1/100"),
    ax.Custom(lambda model, x: model(x)[:, 0] - 1.19, "above"), ax.AnyOf(ax.Bounded("6/5"), ax.Bounded(2)),
    ax.Monotone([0, 1]),
])  # fmt: skip
def test_what_other_properties_say_of_a_polytope(prop):
    item = ax.verify(SUM, prop, region=TRIANGLE, mode="quick").items[0]
    assert item.verdict == "proved", item.reason


def test_floats_are_executed_in_the_polytope():
    item = ax.verify(SUM, ax.Finite(), region=TRIANGLE, mode="quick").items[0]
    assert (item.verdict, item.levels) == ("proved", ("real", "float32"))
    place, generator = Place(TRIANGLE, ""), np.random.default_rng(0)
    moved = moved_in(place, generator.uniform(-3, 3, (200, 2)).astype(np.float32))
    slack = np.array([[-1, 0], [0, -1], [-1, -1]]) @ moved.T.astype(np.float64) - np.array([[-0.1], [-0.2], [-1]])
    assert slack.max() < 1e-6


def test_what_cannot_take_a_polytope_says_so():
    with pytest.raises(ax.SpecError, match="A region whose shares are compared is a box with its border"):
        ax.verify(SUM, ax.DemographicParity(0, "1/2"), region=TRIANGLE)
    with pytest.raises(ax.SpecError, match="What Avoids forbids is a box"):
        ax.Avoids(TRIANGLE, 2)
    with pytest.raises(ax.SpecError, match="Statements do not take polytopes"):
        TRIANGLE.within()
    with pytest.raises(ax.SpecError, match="another number of inputs"):
        ax.verify(relu_net(0, 3), ax.Bounded(0), region=TRIANGLE)


def test_multipliers_come_from_inequalities_of_the_same_conjunction():
    """A conjunction without inequalities over inputs alone is left to the search."""
    scope = scope_of(SUM, ax.Box([0, 0], [1, 1]), None, MODES["quick"])
    (claim,) = ax.Bounded("6/5").claims(scope)
    assert combined(claim.ways[-1].subject, claim.ways[-1].property) is None
    scope = scope_of(SUM, TRIANGLE, None, MODES["quick"])
    (claim,) = ax.Bounded("6/5").claims(scope)
    ((prop_subject, prop),) = claim.ways[-1].questions()
    (leaf,) = combined(prop_subject, prop)["trees"][0]["leaves"]
    assert leaf == [[0, [[0, 1 << 20], [2, 1 << 20], [3, 1 << 20]], -1, []]]


def test_a_linear_net_held_to_inequalities_is_searched_without_neurons():
    """There is no neuron to split: a linear program decides, and the margin, 0, is left to the checker."""
    from axiom_jax.verification.search.margins import pose
    from axiom_jax.verification.search.neuron_splits import NeuronSearch

    scope = scope_of(SUM, TRIANGLE, None, MODES["quick"])
    (claim,) = ax.Bounded("6/5").claims(scope)
    ((subject, prop),) = claim.ways[-1].questions()
    search = NeuronSearch(pose(subject, prop))
    assert search.run(time.monotonic() + 30, judge=lambda case, point: False) in ("closed", "stuck")
    assert abs(search.worst) < 1e-6
