"""Two linear functions of the inputs around every value, carried forwards through the steps of a plan.

Cheaper than rows where a value has many more numbers than the inputs are free, or than the operands it is made of;
looser, since what cancels later is enclosed already. Source: Singh et al. 2018, Fast and effective robustness
certification (DeepZ); Xu et al. 2020, auto_LiRPA, arXiv 2002.12920 (forward mode).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from axiom_jax._program import Program
from axiom_jax.verification.domains._layered_steps import compiled
from axiom_jax.verification.domains._linear_passing import Planes
from axiom_jax.verification.domains.interval import Interval
from axiom_jax.verification.domains.linear import ROUNDING, Plan, propagate
from axiom_jax.verification.relax import Lines


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Band:
    """|value − (centre + Σ slopes·ε)| ≤ radius + Σ tilts·ε, for every ε in [−1, 1] of each free input.

    Args:
        centre, radius: (*shape). slopes, tilts: (free inputs, *shape); tilts None where they are 0.
    """

    centre: Any
    slopes: Any
    radius: Any
    tilts: Any


def input_band(box: Interval, first: int, free: int) -> Band:
    """An input whose elements of some width are the free inputs numbered from `first`, among `free` in all."""
    middle, reach = (np.asarray(box.lo) + np.asarray(box.hi)) / 2, (np.asarray(box.hi) - np.asarray(box.lo)) / 2
    ids = np.flatnonzero(reach)
    slopes = np.zeros((free, reach.size), reach.dtype)
    slopes[first + np.arange(len(ids)), ids] = reach.ravel()[ids]
    return Band(middle, slopes.reshape(free, *reach.shape), np.zeros_like(reach), None)


def band_of_rows(shape: tuple[int, ...], value: np.ndarray, slopes: np.ndarray) -> Band:
    """A value whose bounds are given by rows: first those of its elements, then those of their negatives.

    Args:
        value: (2·n,) lower bounds. slopes: (2·n, free inputs) the linear functions that have them, in ε.
    """
    n = len(value) // 2
    at = value + np.abs(slopes).sum(1)
    below, above = slopes[:n], -slopes[n:]
    move = lambda a: np.ascontiguousarray(a.T).reshape(slopes.shape[1], *shape)
    centre, radius = (at[:n] - at[n:]) / 2, (-at[n:] - at[:n]) / 2
    return Band(centre.reshape(shape), move((below + above) / 2), radius.reshape(shape), move((above - below) / 2))


@compiled(0)
def linear_band(piece: Program, params: Any, bands: Sequence[Band]) -> tuple[Band, ...]:
    """Through a linear step."""
    return _linear(piece, params, bands)


def _linear(piece: Program, params: Any, bands: Sequence[Band]) -> tuple[Band, ...]:
    plan, known = Plan(piece), piece.environment(params)
    zeros = tuple(jnp.zeros(v.shape, v.dtype) for v in piece.inputs)
    offset = piece.evaluate(params, *zeros)

    def spread(*radii: Any) -> tuple[Any, ...]:
        """What radii ≥ 0 become: absolute coefficients times them."""
        found = {v: Interval(-r, r) for v, r in zip(piece.inputs, radii, strict=True)}
        for eqn in piece.equations:
            results, _ = propagate(plan, "linear", eqn, known, found)
            found.update(zip(eqn.outputs, results, strict=True))
        return tuple(found[v].hi / 2 - found[v].lo / 2 for v in piece.outputs)

    every = lambda one, many: jnp.concatenate([one[None], many])
    moved = jax.vmap(lambda *x: piece.evaluate(params, *x))(*(every(b.centre, b.slopes) for b in bands))
    slopes = tuple(m[1:] - o for m, o in zip(moved, offset, strict=True))
    tilted = any(b.tilts is not None for b in bands)
    tilts = [jnp.zeros((0, *b.radius.shape)) if not tilted else _tilts(b) for b in bands]
    wide = [every(b.radius, t) for b, t in zip(bands, tilts, strict=True)]  # nowhere below 0 in all, but slope by slope
    both = jax.vmap(spread)(*(jnp.concatenate([jnp.maximum(w, 0), jnp.maximum(-w, 0)]) for w in wide))
    reach = [part[: part.shape[0] // 2] - part[part.shape[0] // 2 :] for part in both]
    return tuple(Band(m[0], s, r[0], r[1:] if tilted else None) for m, s, r in zip(moved, slopes, reach, strict=True))


def _tilts(band: Band) -> Any:
    return jnp.zeros_like(band.slopes) if band.tilts is None else band.tilts


@compiled()
def lines_band(lines: Lines, band: Band) -> Band:
    """Through a step between two lines: below by the lower one, above by the upper one."""
    tilts = _tilts(band)
    side = lambda slope, sign, c, r: slope * c + sign * jnp.abs(slope) * r
    low = side(lines.below, -1, band.centre, band.radius) + lines.below_at_0
    high = side(lines.above, 1, band.centre, band.radius) + lines.above_at_0
    fall, rise = side(lines.below, -1, band.slopes, tilts), side(lines.above, 1, band.slopes, tilts)
    return Band(low / 2 + high / 2, fall / 2 + rise / 2, high / 2 - low / 2, rise / 2 - fall / 2)


@compiled(0)
def planes_band(piece: Program, planes: Planes, x: Band, y: Band) -> Band:
    """Through a product of two variables."""
    (eqn,) = piece.equations
    f = lambda a, b: eqn.evaluate(a, b)[0]
    many = lambda a, b: jax.vmap(lambda s: f(s, planes.y))(a) + jax.vmap(lambda s: f(planes.x, s))(b)
    size = lambda a, b: f(a, jnp.abs(planes.y)) + f(jnp.abs(planes.x), b)
    tilts = None
    if x.tilts is not None or y.tilts is not None:
        tilts = jax.vmap(size)(_tilts(x), _tilts(y))
    centre = f(x.centre, planes.y) + f(planes.x, y.centre) - planes.centre
    return Band(centre, many(x.slopes, y.slopes), size(x.radius, y.radius) + planes.spread, tilts)


def interval_band(box: Interval, free: int) -> Band:
    """A value of which an interval is all that is known."""
    lo, hi = np.asarray(box.lo), np.asarray(box.hi)
    return Band(lo / 2 + hi / 2, np.zeros((free, *lo.shape), lo.dtype), hi / 2 - lo / 2, None)


@compiled()
def interval_of(band: Band) -> Interval:
    """The least and the greatest that a band allows, less what float32 may have rounded."""
    return _interval(band.centre, band.radius, *_reach(band))


@compiled(0)
def _linear_reach(piece: Program, params: Any, bands: Sequence[Band]) -> list[tuple[Any, ...]]:
    return [(band.centre, band.radius, *_reach(band)) for band in _linear(piece, params, bands)]


def linear_interval(piece: Program, params: Any, bands: Sequence[Band], most: int) -> tuple[Interval, ...]:
    """Intervals of what a linear step makes of bands, `most` free inputs at a time: the bands are never whole."""
    free, sums = bands[0].slopes.shape[0], None
    some = lambda a, k: None if a is None else a[k : k + most]
    for k in range(0, max(free, 1), most):
        cut = tuple(Band(b.centre, some(b.slopes, k), b.radius, some(b.tilts, k)) for b in bands)
        found = _linear_reach(piece, params, cut)
        sums = found if sums is None else [(c, r, low + x, high + y) for (c, r, x, y), (_, _, low, high) in
                                           zip(found, sums, strict=True)]  # fmt: skip
    assert sums is not None
    return tuple(_interval(*parts) for parts in sums)


def _reach(band: Band) -> tuple[Any, Any]:
    """How far the slopes lead down and up."""
    tilts = 0 if band.tilts is None else band.tilts
    return jnp.abs(band.slopes - tilts).sum(0), jnp.abs(band.slopes + tilts).sum(0)


def _interval(centre: Any, radius: Any, down: Any, up: Any) -> Interval:
    slack = ROUNDING * (jnp.abs(centre) + jnp.abs(radius) + jnp.maximum(down, up))
    low, high = centre - radius - down - slack, centre + radius + up + slack
    return Interval(jnp.where(jnp.isnan(low), -jnp.inf, low), jnp.where(jnp.isnan(high), jnp.inf, high))
