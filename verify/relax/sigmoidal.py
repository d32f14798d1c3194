"""tanh and logistic: convex left of 0, concave right of it.

On one side of 0 the chord and a tangent enclose; across 0 the line through one end that
touches the curve beyond 0 is found by bisection. Source: Zhang et al. 2018, CROWN, arXiv 1811.00866.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from axiom_jax.verification.relax._lines import Lines, chord, relaxation

BISECTIONS = 24


@relaxation.rule("tanh")
def tanh(lo: Any, hi: Any, **_: Any) -> Lines:
    """Lines for tanh(x)."""
    return _s_shaped(jnp.tanh, lambda x: 1 - jnp.tanh(x) ** 2, lo, hi)


@relaxation.rule("logistic")
def logistic(lo: Any, hi: Any, **_: Any) -> Lines:
    """Lines for 1 / (1 + exp(-x))."""
    return _s_shaped(lax.logistic, lambda x: lax.logistic(x) * lax.logistic(-x), lo, hi)


def _s_shaped(f: Any, slope_at: Any, lo: Any, hi: Any) -> Lines:
    middle = (lo + hi) / 2
    chord_slope, chord_at_0 = chord(f, lo, hi, slope_at)
    tangent_slope = slope_at(middle)
    tangent_at_0 = f(middle) - tangent_slope * middle

    # Above, across 0: the tangent at p > 0 that passes over (lo, f(lo)); the chord where hi lies left of p.
    above, above_at_0 = _tangent_through(f, slope_at, lo, jnp.maximum(-lo, hi), 1.0)
    straddles = (lo < 0) & (hi > 0)
    use_chord_above = (hi <= 0) | (straddles & (slope_at(hi) >= chord_slope))
    above = jnp.where(use_chord_above, chord_slope, jnp.where(straddles, above, tangent_slope))
    above_at_0 = jnp.where(use_chord_above, chord_at_0, jnp.where(straddles, above_at_0, tangent_at_0))

    below, below_at_0 = _tangent_through(f, slope_at, hi, jnp.minimum(-hi, lo), -1.0)
    use_chord_below = (lo >= 0) | (straddles & (slope_at(lo) >= chord_slope))
    below = jnp.where(use_chord_below, chord_slope, jnp.where(straddles, below, tangent_slope))
    below_at_0 = jnp.where(use_chord_below, chord_at_0, jnp.where(straddles, below_at_0, tangent_at_0))
    return Lines(below, below_at_0, above, above_at_0)


def _tangent_through(f: Any, slope_at: Any, anchor: Any, far: Any, side: float) -> tuple[Any, Any]:
    """The tangent at p between 0 and `far` whose value at `anchor` is just on the safe side of f(anchor)."""
    anchor, far = lax.stop_gradient(anchor), lax.stop_gradient(far)

    def step(_: int, ends: tuple[Any, Any]) -> tuple[Any, Any]:
        near, safe = ends
        p = (near + safe) / 2
        value = f(p) + slope_at(p) * (anchor - p)
        fine = side * (value - f(anchor)) >= 0
        return jnp.where(fine, near, p), jnp.where(fine, p, safe)

    _, p = jax.lax.fori_loop(0, BISECTIONS, step, (jnp.zeros_like(far), far))
    slope = slope_at(p)
    return slope, f(p) - slope * p
