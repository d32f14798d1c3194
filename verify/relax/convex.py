"""exp, squares and reciprocals, convex, log and roots, concave: a chord on one side and a tangent on the other."""

from typing import Any

import jax.numpy as jnp

from axiom_jax.verification.relax._lines import Lines, chord, relaxation


@relaxation.rule("exp")
def exp(lo: Any, hi: Any, **_: Any) -> Lines:
    """Lines for exp(x); the tangent touches at the midpoint, or nearer to `lo` where the box is wide."""
    above, above_at_0 = chord(jnp.exp, lo, hi, jnp.exp)
    point = jnp.minimum((lo + hi) / 2, lo + 1)
    slope = jnp.exp(point)
    return Lines(slope, slope * (1 - point), above, above_at_0)


@relaxation.rule("integer_pow")
def integer_pow(lo: Any, hi: Any, *, y: int, **_: Any) -> Lines:
    """Lines for x**2 and, over boxes without 0, 1/x; other exponents are lowered to these."""
    if y == 2:  # the tangent at the midpoint
        point = (lo + hi) / 2
        return Lines(2 * point, -(point * point), lo + hi, -lo * hi)
    if y == -1:
        return _reciprocal(lo, hi)
    raise NotImplementedError(f"integer_pow with exponent {y}")


def _reciprocal(lo: Any, hi: Any) -> Lines:
    """1/x is convex for x > 0, where the tangent at √(lo·hi) is parallel to the chord; odd for x < 0."""
    negative = hi < 0
    near, far = jnp.where(negative, -hi, lo), jnp.where(negative, -lo, hi)
    defined = near > 0
    near, far = jnp.where(defined, near, 1), jnp.where(defined, far, 1)
    slope, root = -(1 / near) / far, jnp.sqrt(near) * jnp.sqrt(far)
    below_at_0, above_at_0 = 2 / root, 1 / near + 1 / far
    low, high = jnp.where(negative, -above_at_0, below_at_0), jnp.where(negative, -below_at_0, above_at_0)
    unknown = jnp.where(defined, 0.0, jnp.inf)
    slope = jnp.where(defined, slope, 0)
    return Lines(slope, low - unknown, slope, high + unknown)


@relaxation.rule("log")
def log(lo: Any, hi: Any, **_: Any) -> Lines:
    """Lines for log(x), concave: the chord below and the tangent at the middle above."""
    below, below_at_0 = chord(jnp.log, lo, hi, lambda x: 1 / x)
    return _concave(jnp.log, lambda x: 1 / x, below, below_at_0, lo, hi)


@relaxation.rule("sqrt")
def sqrt(lo: Any, hi: Any, **_: Any) -> Lines:
    """Lines for √x, concave: the chord below and the tangent at the middle above."""
    lo = jnp.maximum(lo, 0)
    steep = lambda x: 0.5 / jnp.sqrt(x)
    below, below_at_0 = chord(jnp.sqrt, lo, hi, lambda x: jnp.where(x > 0, steep(x), 0))
    return _concave(jnp.sqrt, steep, below, below_at_0, lo, hi)


def _concave(f: Any, derivative: Any, below: Any, below_at_0: Any, lo: Any, hi: Any) -> Lines:
    """A chord and the tangent at the middle; a slope of 0 and the end's value where those are not finite."""
    middle = (lo + hi) / 2
    slope = derivative(middle)
    fine = jnp.isfinite(slope)
    slope = jnp.where(fine, slope, 0)
    offset = jnp.where(fine, f(jnp.where(fine, middle, 1)) - slope * middle, f(hi))
    offset = jnp.where(jnp.isnan(offset), jnp.inf, offset)
    tame = jnp.isfinite(below) & jnp.isfinite(below_at_0)
    end = jnp.where(jnp.isnan(f(lo)), -jnp.inf, f(lo))
    return Lines(jnp.where(tame, below, 0), jnp.where(tame, below_at_0, end), slope, offset)
