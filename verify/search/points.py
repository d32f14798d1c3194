"""Where a claim about all reals may fail: edge values, few-digit numbers, random ones, and descent on the margin.

Everything here is float64 and only suggests; exact arithmetic judges (`verify/refuting.py`).
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from axiom_jax.verification.statement import Ball, Range, Variable

EDGES = (0.0, 1.0, -1.0, 0.5, -0.5, 2.0, -2.0, 0.1, -0.1, 3.0, -3.0, 5.0, -5.0, 10.0, -10.0, 1e-3, -1e-3, 30.0, -30.0,
         100.0, -100.0, 1e-6, -1e-6, 1e3, -1e3, 4e3, -4e3)  # fmt: skip
SCALES = (0.1, 0.5, 1.0, 2.0, 5.0, 20.0, 200.0)
Batch = dict[str, np.ndarray]
Margin = Callable[[Batch], np.ndarray]


@dataclass(frozen=True)
class Place:
    """A variable at given sizes: its shape and its region in floats."""

    name: str
    shape: tuple[int, ...]
    within: Range | Ball

    def inside(self, raw: np.ndarray) -> np.ndarray:
        """Points of the region near (points, *shape) raw ones."""
        if isinstance(self.within, Ball):
            return _into_ball(self.within, raw)
        lo, hi = (None if end is None else float(end) for end in (self.within.lo, self.within.hi))
        width = (hi - lo) if lo is not None and hi is not None else 1.0
        if lo is not None:
            raw = np.maximum(raw, lo + (width * 1e-3 if self.within.lo_open else 0.0))
        if hi is not None:
            raw = np.minimum(raw, hi - (width * 1e-3 if self.within.hi_open else 0.0))
        return raw

    @property
    def edges(self) -> tuple[float, ...]:
        """Numbers to try first: of the region, then of all."""
        if isinstance(self.within, Ball):
            radius = float(self.within.radius)
            return (0.0, radius, -radius, radius / 2, -radius / 2)
        lo, hi = (None if end is None else float(end) for end in (self.within.lo, self.within.hi))
        ends = [e for e in (lo, hi) if e is not None]
        if lo is not None and hi is not None:
            ends += [lo + (hi - lo) * part for part in (0.5, 0.25, 0.75, 0.001, 0.999)]
        near = [e + d for e in ends for d in (1e-3, -1e-3, 1.0, -1.0)]
        fits = lambda x: (lo is None or x >= lo) and (hi is None or x <= hi)
        return tuple(dict.fromkeys(x for x in (*ends, *EDGES, *near) if fits(x)))


def _into_ball(ball: Ball, raw: np.ndarray) -> np.ndarray:
    """Offsets from the centre scaled back onto the ball where they leave it."""
    radius = float(ball.radius) * (0.999 if ball.open else 1.0)
    flat = raw.reshape(len(raw), -1)
    if ball.order == "inf":
        moved = np.clip(flat, -radius, radius)
    else:
        size = np.linalg.norm(flat, ord=ball.order, axis=1, keepdims=True)
        shrink = 1.0 if ball.order == 1 else 1 - 1e-12
        moved = flat * np.minimum(1.0, radius * shrink / np.maximum(size, 1e-300))
    return moved.reshape(raw.shape) + np.asarray(ball.center, np.float64)


def places(variables: Sequence[Variable], sizes: Mapping[str, int]) -> tuple[Place, ...]:
    """The variables at given sizes."""
    shape = lambda v: tuple(sizes[d] if isinstance(d, str) else int(d) for d in v.shape)
    return tuple(Place(v.name, shape(v), v.within) for v in variables)


def edge_points(where: Sequence[Place]) -> Batch:
    """Constant arrays of edge values, for all pairs of values of the first two variables; single entries; ramps."""
    rows: list[list[np.ndarray]] = []
    options = [_patterns(p) for p in where]
    longest = max(map(len, options), default=0)
    for k in range(longest):  # all variables alike
        rows.append([o[k % len(o)] for o in options])
    if len(options) > 1:
        few = [o[:12] for o in options]
        for i, a in enumerate(few[0]):
            for j, b in enumerate(few[1]):
                rest = [few[m][(i + j) % len(few[m])] for m in range(2, len(few))]
                rows.append([a, b, *rest])
    return {p.name: p.inside(np.stack([row[k] for row in rows])) for k, p in enumerate(where)} if rows else {}


def _patterns(place: Place) -> list[np.ndarray]:
    count = int(np.prod(place.shape, dtype=int))
    edges = place.edges
    found = [np.full(count, e) for e in edges]
    if count > 1:
        ramp = np.arange(count, dtype=float)
        for scale in (1.0, -1.0, 10.0, 0.1):
            found += [scale * ramp, scale * (ramp - (count - 1) / 2), scale * (-1.0) ** ramp]
        for e in edges[:14]:
            for k in {0, count - 1}:
                single = np.zeros(count)
                single[k] = e
                found += [single, e - single]
    return [f.reshape(place.shape) for f in found]


def random_points(where: Sequence[Place], rng: np.random.Generator, count: int) -> Batch:
    """Mixtures: normals of several scales, few digits, entries from the edges, equal entries, equal variables."""
    batch: Batch = {}
    scale = rng.choice(SCALES, size=count)
    style = rng.integers(0, 6, size=count)
    first: np.ndarray | None = None
    for p in where:
        wide = (count, *(1,) * len(p.shape))
        spread = lambda a, wide=wide: a.reshape(wide)
        raw = rng.normal(size=(count, *p.shape)) * spread(scale)
        low, high = (None, None) if isinstance(p.within, Ball) else (p.within.lo, p.within.hi)
        if low is not None and high is not None:
            raw = float(low) + rng.random((count, *p.shape)) * float(high - low)
        elif isinstance(p.within, Ball):
            raw = rng.normal(size=(count, *p.shape)) * float(p.within.radius)
        elif low is not None or high is not None:
            raw = np.abs(raw) + float(low) if low is not None else float(high or 0) - np.abs(raw)
        raw = np.where(spread(style == 1), np.round(raw), raw)
        raw = np.where(spread((style == 2) | (style == 3)), np.round(raw, 1), raw)
        raw = np.where(spread(style == 4), rng.choice(p.edges, size=raw.shape), raw)
        if raw.size:
            equal = np.broadcast_to(raw.reshape(count, -1)[:, :1].reshape(wide), raw.shape)
            raw = np.where(spread(style == 5), equal, raw)
        if first is not None and first.shape == raw.shape:  # near the first variable: pairs to compare
            near = first + raw * spread(rng.choice([0.0, 0.1, 0.01], size=count))
            raw = np.where(spread(rng.random(count) < 0.3), near, raw)
        first = raw if first is None else first
        batch[p.name] = p.inside(raw)
    return batch


def descended(where: Sequence[Place], start: Batch, margin: Margin, rng: np.random.Generator,
              rounds: int) -> Iterator[tuple[Batch, np.ndarray]]:  # fmt: skip
    """From points to ones of smaller margin, by steps along differences and by random steps of many scales.

    Args:
        start: (points, *shape) for each variable. margin: (points,) of a batch.

    Yields:
        after each round, the points and their margins.
    """
    best, value = start, margin(start)
    count = len(value)
    for turn in range(rounds):
        copies = 12
        moved: Batch = {}
        reach = 10.0 ** rng.uniform(-3, 0.7, size=(count, copies))
        sparse = rng.random((count, copies)) < 0.5
        for p in where:
            x = best[p.name]
            step = rng.normal(size=(count, copies, *p.shape))
            keep = rng.random(step.shape) < 0.35
            wide = (count, copies, *(1,) * len(p.shape))
            step = np.where(sparse.reshape(wide) & ~keep, 0.0, step)
            near = x[:, None] + step * reach.reshape(wide) * (0.3 + np.abs(x[:, None]))
            if turn % 3 == 1:
                near = np.round(near, 2)
            moved[p.name] = p.inside(near.reshape(count * copies, *p.shape))
        reached = margin(moved).reshape(count, copies)
        choice = np.argmin(np.where(np.isnan(reached), np.inf, reached), axis=1)
        won = reached[np.arange(count), choice]
        better = won < value
        for p in where:
            picked = moved[p.name].reshape(count, copies, *p.shape)[np.arange(count), choice]
            best = {**best, p.name: np.where(better.reshape(-1, *(1,) * len(p.shape)), picked, best[p.name])}
        value = np.where(better, won, value)
        yield best, value


def taken(batch: Batch, rows: Any) -> Batch:
    """Some of the points."""
    return {name: values[rows] for name, values in batch.items()}
