"""Balls in exact arithmetic: cuts hold all over the ball, and nothing else passes for one."""

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from axiom_jax.verification.properties.balls import ByBall, _cut, _highest, _implied, dual_norm, inside
from axiom_jax.verification.property import Atom
from axiom_jax.verification.regions import L1, L2

pytestmark = pytest.mark.thin(2)

numbers = st.fractions(-8, 8, max_denominator=64)
vectors = st.lists(numbers, min_size=3, max_size=3)


@pytest.mark.parametrize("region", [L1("3/2"), L2("3/2")])
@given(centre=vectors, away=vectors, slope=vectors)
def test_cuts_hold_all_over_the_ball(region, centre, away, slope):
    """The point is scaled to lie in the ball, on its edge where the norm is rational."""
    size = sum(map(abs, away)) or 1  # the sum is at least the Euclidean norm
    point = [c + a * region.eps / size for c, a in zip(centre, away, strict=True)]
    assert inside(region, point, centre)
    value = sum(g * x for g, x in zip(slope, point, strict=True))
    assert value <= _highest(slope, centre, region)
    cut = _cut(slope, centre, region)
    assert sum(c * point[i] for i, c in cut.input) <= cut.threshold
    atom = Atom(((0, Fraction(1)),), Fraction(2), ((1, Fraction(1)),))
    implied = _implied(atom, slope, centre, region)
    margin = atom.threshold - point[1]  # the output that makes the atom true with equality
    assert sum(c * point[i] for i, c in implied.input) + margin <= implied.threshold


@given(slope=vectors)
def test_dual_norms_are_rounded_up(slope):
    square = sum(v * v for v in slope)
    assert dual_norm(slope, L2(1)) ** 2 >= square
    assert (dual_norm(slope, L2(1)) - Fraction(1, 2**23)) ** 2 <= square or dual_norm(slope, L2(1)) < Fraction(1, 2**23)
    assert dual_norm(slope, L1(1)) == max(map(abs, slope))


def test_the_edge_belongs_to_the_ball_and_what_is_beyond_does_not():
    edge = [Fraction(3, 5), Fraction(4, 5)]
    assert inside(L2(1), edge, [Fraction(0)] * 2)
    assert not inside(L2(1), [edge[0], edge[1] + Fraction(1, 2**80)], [Fraction(0)] * 2)


def test_only_atoms_that_follow_in_the_ball_are_taken():
    """A file may not smuggle in an atom that cuts the ball."""
    centre = (Fraction(0), Fraction(0))
    way = ByBall(None, lambda: None, L2(1), centre, lambda point: None)  # pyright: ignore[reportArgumentType]
    own = Atom(((0, Fraction(1)),), Fraction(0))
    true = _cut([Fraction(1), Fraction(1)], centre, L2(1))
    assert way._only_implied([own, true], [own])
    assert way._only_implied([own, _implied(own, [Fraction(1), Fraction(-2)], centre, L2(1))], [own])
    for wrong in (replace(true, threshold=true.threshold - Fraction(1, 100)), replace(true, strict=True),
                  Atom(((1, Fraction(1)),), Fraction(9)), replace(own, threshold=Fraction(-1))):  # fmt: skip
        assert not way._only_implied([own, wrong], [own])
    assert not way._only_implied([true, own], [own])


def test_slopes_of_large_vectors_stay_small():
    g = [Fraction(float(v)) for v in np.random.default_rng(0).normal(size=300)]
    cut = _cut(g, [Fraction(0)] * 300, L2("0.1"))
    assert max(c.denominator for _, c in cut.input) <= 2**24
