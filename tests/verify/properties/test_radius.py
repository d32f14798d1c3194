"""Certified radii: between the proved and the refuted one lies the true one."""

from fractions import Fraction

import pytest

import axiom_jax as ax

pytestmark = pytest.mark.thin(2)


def identity(x):
    return x


def test_the_radius_of_a_linear_model_is_found_to_one_step():
    (found,) = ax.certified_radius(identity, [[0.75, 0.0, 0.0]], steps=5, mode="quick")  # 3/8, where there is a tie
    assert (found.proved, found.refuted) == (Fraction(11, 32), Fraction(12, 32))
    assert type(found.verdict).__name__ == "Proved" and found.verdict.levels == ("real", "float32")
    assert ax.check_certificate(found.verdict.certificate).accepted
    assert "11/32" in repr(found)


def test_the_largest_radius_asked_and_none():
    data = ([[0.75, 0.0, 0.0], [0.1, 0.5, 0.0]], [0, 0])
    whole, none = ax.certified_radius(identity, data, upper="1/8", steps=2, mode="quick")
    assert (whole.proved, whole.refuted) == (Fraction(1, 8), None)
    assert (none.proved, none.label) == (0, 0)
    assert type(none.verdict).__name__ == "Unknown" and none.counterexample is not None


def test_bad_settings_are_named():
    for bad in ({"steps": 0}, {"mode": "fast"}, {"upper": "-1"}, {"norm": 7}):
        with pytest.raises(ax.SpecError):
            ax.certified_radius(identity, [[0.75, 0.0]], **bad)
