"""tanh, logistic, erf, atan, asinh: convex left of 0, concave right of it.

A line below touches left of 0, no further right than where the tangent still passes under the upper end, which is found
by bisection; where no tangent does, the chord is the line. Above it is the same the other way round.
Source: Zhang et al. 2018, CROWN, arXiv 1811.00866.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from axiom_jax.verification.relax._lines import Lines, Reach, adjusted, chord, settled_lines

BISECTIONS = 24

Function = Callable[[Any], Any]
S_SHAPED: dict[str, tuple[Function, Function]] = {  # with their derivatives
    "tanh": (jnp.tanh, lambda x: 1 - jnp.tanh(x) ** 2),
    "logistic": (lax.logistic, lambda x: lax.logistic(x) * lax.logistic(-x)),
    "erf": (lax.erf, lambda x: np.float32(2 / np.sqrt(np.pi)) * jnp.exp(-x * x)),
    "atan": (jnp.arctan, lambda x: 1 / (1 + x * x)),
    "asinh": (lambda x: lax.asinh(jnp.asarray(x)), lambda x: lax.rsqrt(1 + x * x)),
}


def _register(name: str, f: Function, slope_at: Function) -> None:
    def reach(lo: Any, hi: Any, **_: Any) -> Reach:
        lo, hi = lax.stop_gradient(lo), lax.stop_gradient(hi)
        middle = lo / 2 + hi / 2
        last = jnp.where(hi <= 0, hi, _last_tangent(f, slope_at, hi, -1.0))
        first = jnp.where(lo >= 0, lo, _last_tangent(f, slope_at, lo, 1.0))
        least = jnp.stack([lo, jnp.minimum(first, hi)])
        most = jnp.stack([jnp.maximum(last, lo), hi])
        return Reach(least, most, jnp.clip(jnp.stack([middle, middle]), least, most))

    def lines(lo: Any, hi: Any, choice: Any, **_: Any) -> Lines:
        slope, at_0 = chord(f, lo, hi, slope_at)
        # From an end the curve is left on the far side of its chord: no tangent passes on the right side of both ends.
        flat_below = (hi > 0) & ((lo >= 0) | (slope_at(lo) >= slope))
        flat_above = (lo < 0) & ((hi <= 0) | (slope_at(hi) >= slope))
        steep = slope_at(choice)
        touching = f(choice) - steep * choice
        found = Lines(
            jnp.where(flat_below, slope, steep[0]),
            jnp.where(flat_below, at_0, touching[0]),
            jnp.where(flat_above, slope, steep[1]),
            jnp.where(flat_above, at_0, touching[1]),
        )
        return settled_lines(found, f(lo), f(hi))

    adjusted(name, reach, lines)


def _last_tangent(f: Function, slope_at: Function, anchor: Any, side: float) -> Any:
    """Where the tangent beyond 0 passes just on the safe side of (anchor, f(anchor)): side > 0 right of 0, above."""
    far = -anchor

    def step(_: int, ends: tuple[Any, Any]) -> tuple[Any, Any]:
        near, safe = ends
        p = (near + safe) / 2
        value = f(p) + slope_at(p) * (anchor - p)
        fine = side * (value - f(anchor)) >= 0
        return jnp.where(fine, near, p), jnp.where(fine, p, safe)

    return jax.lax.fori_loop(0, BISECTIONS, step, (jnp.zeros_like(far), far))[1]


for _name, _pair in S_SHAPED.items():
    _register(_name, *_pair)
