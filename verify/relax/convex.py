"""exp, squares and reciprocals, convex, log and roots, concave: a chord on one side and a tangent on the other.

The tangent may touch anywhere; at the middle of the box it encloses the least area.
"""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp

from axiom_jax.verification.relax._lines import Lines, Reach, adjusted, chord, settled_lines

STEEPEST = 80.0  # exp beyond it is no float32 number
FLATTEST = 1e-30


def _anywhere(lo: Any, hi: Any, at: Any, below: bool) -> Reach:
    """A tangent of the convex (`below`) or the concave side may touch anywhere in the box."""
    still = jnp.zeros_like(lo)
    pair = lambda x: jnp.stack([x, still] if below else [still, x])
    return Reach(pair(lo), pair(hi), pair(at))


def _exp_reach(lo: Any, hi: Any, **_: Any) -> Reach:
    """At the middle, or nearer to `lo` where the box is wide, so that the line falls little below 0."""
    lo, hi = jnp.minimum(lo, STEEPEST), jnp.minimum(hi, STEEPEST)
    return _anywhere(lo, hi, jnp.minimum(lo / 2 + hi / 2, lo + 1), below=True)


def _exp(lo: Any, hi: Any, choice: Any, **_: Any) -> Lines:
    above, above_at_0 = chord(jnp.exp, lo, hi, jnp.exp)
    slope = jnp.exp(choice[0])
    return settled_lines(Lines(slope, slope * (1 - choice[0]), above, above_at_0), jnp.exp(lo), jnp.exp(hi))


def _power_reach(lo: Any, hi: Any, *, y: int, **_: Any) -> Reach:
    if y == 2:
        return _anywhere(lo, hi, lo / 2 + hi / 2, below=True)
    negative, (near, far, _) = hi < 0, _mirrored(lo, hi)
    still, middle = jnp.zeros_like(lo), near / 2 + far / 2
    pair = lambda x: jnp.stack([jnp.where(negative, still, x), jnp.where(negative, x, still)])
    return Reach(pair(near), pair(far), pair(middle))


def _power(lo: Any, hi: Any, choice: Any, *, y: int, **_: Any) -> Lines:
    """Lines for x**2 and, over boxes without 0, 1/x; other exponents are lowered to these."""
    if y == 2:
        found = Lines(2 * choice[0], -(choice[0] * choice[0]), lo + hi, -lo * hi)
        return settled_lines(found, jnp.zeros_like(lo), jnp.maximum(lo * lo, hi * hi))
    if y == -1:
        return _reciprocal(lo, hi, choice)
    raise NotImplementedError(f"integer_pow with exponent {y}")


def _steep(slope: Any) -> Any:
    """NaN for slopes so small that hardware may take them for 0."""
    return jnp.where(jnp.abs(slope) > FLATTEST, slope, jnp.nan)


def _mirrored(lo: Any, hi: Any) -> tuple[Any, Any, Any]:
    """The ends nearer to and farther from 0, as positive numbers, and whether 0 is outside."""
    negative = hi < 0
    near, far = jnp.where(negative, -hi, lo), jnp.where(negative, -lo, hi)
    defined = near > 0
    return jnp.where(defined, near, 1), jnp.where(defined, far, 1), defined


def _reciprocal(lo: Any, hi: Any, choice: Any) -> Lines:
    """1/x is convex for x > 0, and odd."""
    negative, (near, far, defined) = hi < 0, _mirrored(lo, hi)
    point = jnp.where(negative, choice[1], choice[0])
    point = jnp.where(defined, point, 1)
    chord_slope, chord_at_0 = _steep(-(1 / near) / far), 1 / near + 1 / far
    slope, at_0 = _steep(-1 / (point * point)), 2 / point
    found = Lines(
        jnp.where(negative, chord_slope, slope),
        jnp.where(negative, -chord_at_0, at_0),
        jnp.where(negative, slope, chord_slope),
        jnp.where(negative, -at_0, chord_at_0),
    )
    unknown = lambda bound, infinite: jnp.where(defined, bound, infinite)
    found = settled_lines(found, unknown(1 / hi, -jnp.inf), unknown(1 / lo, jnp.inf))
    pick = lambda line, otherwise: jnp.where(defined, line, otherwise)
    return Lines(pick(found.below, 0), pick(found.below_at_0, -jnp.inf), pick(found.above, 0),
                 pick(found.above_at_0, jnp.inf))  # fmt: skip


def _root_reach(lo: Any, hi: Any, **_: Any) -> Reach:
    lo = jnp.maximum(lo, 0)
    return _anywhere(jnp.minimum(jnp.maximum(lo, hi * 1e-6), hi), hi, lo / 2 + hi / 2, below=False)


def _log(lo: Any, hi: Any, choice: Any, **_: Any) -> Lines:
    return _concave(jnp.log, lambda x: 1 / x, lo, hi, choice[1])


def _sqrt(lo: Any, hi: Any, choice: Any, **_: Any) -> Lines:
    lo = jnp.maximum(lo, 0)
    return _concave(jnp.sqrt, lambda x: jnp.where(x > 0, 0.5 / jnp.sqrt(jnp.where(x > 0, x, 1)), 0), lo, hi, choice[1])


def _concave(f: Callable[[Any], Any], derivative: Callable[[Any], Any], lo: Any, hi: Any, point: Any) -> Lines:
    """A chord and a tangent."""
    below, below_at_0 = chord(f, lo, hi, derivative)
    touching = point > 0
    slope = _steep(derivative(jnp.where(touching, point, 1)))
    offset = f(jnp.where(touching, point, 1)) - slope * point
    found = Lines(below, below_at_0, jnp.where(touching, slope, jnp.nan), offset)
    return settled_lines(found, f(lo), f(hi))


adjusted("exp", _exp_reach, _exp)
adjusted("integer_pow", _power_reach, _power)
adjusted("log", _root_reach, _log)
adjusted("sqrt", _root_reach, _sqrt)
