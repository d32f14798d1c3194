"""sin and cos over boxes of any width: lines by their slope.

The least of sin(x) − s·x over a box is at an end or where cos(x) = s and the curve bends upwards, first or last in the
box, so the offset of a line of any slope s is known in closed form. The slope of least area is found by bisection: it
is the one for which that least point passes the middle of the box. The line above is the one below half a turn later.
"""

from collections.abc import Callable
from functools import reduce
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from axiom_jax.verification.relax._lines import Lines, Reach, adjusted

BISECTIONS = 22
FARTHEST = 1e3  # beyond it float32 no longer knows the phase well enough for lines
TURN = np.float32(2 * np.pi)


Wave = tuple[Callable[[Any], Any], float]  # a function, and how far behind sin it is


def _register(name: str, wave: Wave) -> None:
    f, behind = wave
    mirrored: Wave = lambda x: -f(x), behind + np.pi

    def reach(lo: Any, hi: Any, **_: Any) -> Reach:
        lo, hi = lax.stop_gradient(lo), lax.stop_gradient(hi)
        near = _near(lo, hi)
        lo, hi = jnp.where(near, lo, 0), jnp.where(near, hi, 0)
        least, most = _slopes(behind, lo, hi)
        best = _best(wave, lo, hi, least, most), -_best(mirrored, lo, hi, -most, -least)
        return Reach(jnp.stack([least, least]), jnp.stack([most, most]), jnp.stack(best))

    def lines(lo: Any, hi: Any, choice: Any, **_: Any) -> Lines:
        near = _near(lo, hi)
        lo, hi, choice = jnp.where(near, lo, 0), jnp.where(near, hi, 0), jnp.where(near, choice, 0)
        below, above = _offset(wave, lo, hi, choice[0]), -_offset(mirrored, lo, hi, -choice[1])
        return Lines(choice[0], jnp.where(near, below, -1), choice[1], jnp.where(near, above, 1))

    adjusted(name, reach, lines)


def _near(lo: Any, hi: Any) -> Any:
    return (jnp.abs(lo) <= FARTHEST) & (jnp.abs(hi) <= FARTHEST)


def _slopes(behind: float, lo: Any, hi: Any) -> tuple[Any, Any]:
    """The least and the greatest slope in a box."""
    ends = jnp.cos(lo - behind), jnp.cos(hi - behind)
    meets = lambda at: jnp.ceil((lo - behind - at) / TURN) * TURN + at <= hi - behind
    return jnp.where(meets(np.pi), -1, jnp.minimum(*ends)), jnp.where(meets(0.0), 1, jnp.maximum(*ends))


def _candidates(behind: float, lo: Any, hi: Any, slope: Any) -> list[Any]:
    """Where f(x) − slope·x may be least in [lo, hi]: both ends, the first and the last of its dips."""
    dip = behind - jnp.arccos(jnp.clip(slope, -1, 1))
    first = jnp.ceil((lo - dip) / TURN) * TURN + dip
    last = jnp.floor((hi - dip) / TURN) * TURN + dip
    shape = jnp.shape(first)
    return [jnp.broadcast_to(x, shape) for x in (lo, jnp.clip(first, lo, hi), jnp.clip(last, lo, hi), hi)]


def _best(wave: Wave, lo: Any, hi: Any, least: Any, most: Any) -> Any:
    """The slope of the lower line that is highest in the middle of the box."""
    f, behind = wave
    middle = lo / 2 + hi / 2

    def step(_: int, ends: tuple[Any, Any]) -> tuple[Any, Any]:
        low, high = ends
        slope = low / 2 + high / 2
        points = jnp.stack(_candidates(behind, lo, hi, slope))
        values = f(points) - slope * (points - middle)
        left = jnp.take_along_axis(points, values.argmin(0)[None], 0)[0] < middle
        return jnp.where(left, slope, low), jnp.where(left, high, slope)

    low, high = jax.lax.fori_loop(0, BISECTIONS, step, (least, most))
    return low / 2 + high / 2


def _offset(wave: Wave, lo: Any, hi: Any, slope: Any) -> Any:
    """min over [lo, hi] of f(x) − slope·x, to within rounding."""
    f, behind = wave
    points = _candidates(behind, lo, hi, lax.stop_gradient(slope))
    return reduce(jnp.minimum, [f(x) - slope * x for x in points])


_register("sin", (jnp.sin, 0.0))
_register("cos", (jnp.cos, -np.pi / 2))
