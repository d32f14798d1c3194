"""The value of the linear domain, its table, and what several families share.

Most rules have a free choice: where a line touches the curve, or how steep it is. `Reach` says between which choices
every line is sound and which one encloses the least area; `relaxation_at` takes the choice from an optimiser.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from axiom_jax._domain import Domain


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Lines:
    """below·x + below_at_0 ≤ f(x) ≤ above·x + above_at_0 for every x of a box; elementwise arrays."""

    below: Any
    below_at_0: Any
    above: Any
    above_at_0: Any


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Reach:
    """What may be chosen: any number of [least, most]; `best` encloses the least area over the box.

    Arrays (2, *shape): [0] for the lower line, [1] for the upper one; least = most where nothing is free.
    """

    least: Any
    most: Any
    best: Any


relaxation = Domain("linear", Lines)
WIDEST = 1e30  # boxes, before slopes of chords become numbers that hardware takes for 0
adjustable: dict[str, tuple[Callable[..., Reach], Callable[..., Lines]]] = {}


def adjusted(name: str, reach: Callable[..., Reach], lines: Callable[..., Lines]) -> None:
    """Register a rule with a free choice.

    Args:
        reach: `reach(lo, hi, **params)`, what may be chosen.
        lines: `lines(lo, hi, choice, **params)` for a choice (2, ..., *shape) within reach, differentiable in it.
    """
    adjustable[name] = reach, lines
    relaxation.define(name, lambda lo, hi, **params: lines(lo, hi, reach(lo, hi, **params).best, **params))


def relaxation_at(name: str) -> Callable[..., Lines]:
    """The rule of a primitive with its free choice left open, for optimisers of bounds.

    Args:
        name: a primitive of `adjustable`.

    Returns:
        `rule(lo, hi, t, **params) -> Lines`. lo, hi: (*shape); t: (2, ..., *shape) in [0, 1], t[0] for the lower and
        t[1] for the upper line, with any axes (such as rows) between. Every t is sound, and the lines are
        differentiable in it. For relu t[0] is the slope of the lower line.

    Source: Xu et al. 2021, Fast and complete (α-CROWN), arXiv 2011.13824; here for every curve.

    >>> lines = relaxation_at("max")(jnp.float32(-1), jnp.float32(2), jnp.array([0.25, 0.0]))
    >>> float(lines.below), round(float(lines.above), 3)
    (0.25, 0.667)
    """
    reach, lines = adjustable[name]

    def rule(lo: Any, hi: Any, t: Any, **params: Any) -> Lines:
        found = reach(lo, hi, **params)
        fill = lambda a: a.reshape(2, *(1 for _ in range(t.ndim - a.ndim)), *a.shape[1:])
        least, most = fill(found.least), fill(found.most)
        choice = jnp.where(most > least, jnp.clip(least + t * (most - least), least, most), least)
        return lines(lo, hi, choice, **params)

    return rule


def relaxation_start(name: str) -> Callable[..., Any]:
    """`start(lo, hi, **params) -> t` (2, *shape): where `relaxation_at` gives the lines of least area, 0 where an
    infinite or overflowing box has none.

    >>> relaxation_start("max")(jnp.float32(-1), jnp.float32(2)).tolist()
    [1.0, 0.0]
    """
    reach, _ = adjustable[name]

    def start(lo: Any, hi: Any, **params: Any) -> Any:
        found = reach(lo, hi, **params)
        width, above = found.most - found.least, found.best - found.least
        known = (width > 0) & jnp.isfinite(width) & jnp.isfinite(above)
        return jnp.where(known, jnp.clip(above / jnp.where(known, width, 1), 0, 1), 0)

    return start


def chord(f: Any, lo: Any, hi: Any, derivative: Any) -> tuple[Any, Any]:
    """Slope and offset of the line through both ends; as steep as the upper end where the box is nearly a point.

    From the lower end that line stays on the chord's side: under a concave function, over a convex one. NaN where the
    box is so wide that its slope may be flushed to 0.
    """
    width = hi - lo
    thin = width <= 1e-6 * (1 + jnp.abs(lo) + jnp.abs(hi))
    slope = jnp.where(thin, derivative(hi), (f(hi) - f(lo)) / jnp.where(thin, 1, width))
    slope = jnp.where((width < WIDEST) | (f(hi) == f(lo)), slope, jnp.nan)
    return slope, f(lo) - slope * lo


def settled_lines(lines: Lines, floor: Any, ceiling: Any) -> Lines:
    """Level lines at bounds of the values where a line is no pair of finite numbers; unknown bounds are infinite.

    Values too large for float32 lie beyond the largest number, which is all that can be said of them.
    """
    largest = jnp.finfo(lines.below.dtype).max
    floor = jnp.minimum(jnp.where(jnp.isnan(floor), -jnp.inf, floor), largest)
    ceiling = jnp.maximum(jnp.where(jnp.isnan(ceiling), jnp.inf, ceiling), -largest)
    low = jnp.isfinite(lines.below) & jnp.isfinite(lines.below_at_0)
    high = jnp.isfinite(lines.above) & jnp.isfinite(lines.above_at_0)
    return Lines(
        jnp.where(low, lines.below, 0),
        jnp.where(low, lines.below_at_0, floor),
        jnp.where(high, lines.above, 0),
        jnp.where(high, lines.above_at_0, ceiling),
    )
