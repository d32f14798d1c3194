"""Smooth functions over many intervals at once: their ranges, and lines below and above them, certified in binary64.

The rules are those of `checker.line`; slopes may be any floats, so only the offsets are rounded, by bounds on the
errors of what they are made of. exp and tanh of numpy are taken to be within 8 u of the value. For an operation that
has no rule here the checker itself is asked, one interval at a time.
"""

from typing import NamedTuple

import numpy as np

from axiom_jax.verification import checker
from axiom_jax.verification._fast_numbers import ROUNDING, TINY, Array, above, below, largest, middle, products

KNOWN = {"exp", "logistic", "tanh", "square", "reciprocal", "sqrt"}
ERROR = 64 * ROUNDING  # of an offset, relative to the sizes of what it is made of; a dozen roundings are in it
LEAST = 2.0**-40  # of what may be inverted: as much as the checker's grid can tell from 0


class Relaxed(NamedTuple):
    """slope_below z + offset_below <= f(z) <= slope_above z + offset_above."""

    slope_below: Array
    offset_below: Array
    slope_above: Array
    offset_above: Array


def value(op: str, z: Array) -> Array:
    """f(z), within 16 u of it, relatively."""
    if op == "logistic":
        small = np.exp(-np.abs(z))
        return np.where(z < 0, small, 1.0) / (1 + small)
    table = {"exp": np.exp, "tanh": np.tanh, "square": np.square, "sqrt": np.sqrt, "reciprocal": np.reciprocal}
    return table[op](z)


def enclose(op: str, lo: Array, hi: Array) -> tuple[Array, Array]:
    """The range of f over each [lo, hi]; `checker.Rejected` where f is not defined.

    >>> lo, hi = enclose("exp", np.array([[0.0]]), np.array([[1.0]]))
    >>> bool(0.999999 < lo[0, 0] < 1 and 2.718281 < hi[0, 0] < 2.718283)
    True
    """
    checker.need(op != "sqrt" or bool(np.all(lo >= 0)), "a sqrt of what may not be positive")
    checker.need(op != "reciprocal" or bool(np.all(lo >= LEAST)), "a reciprocal of what may not be positive")
    if op not in KNOWN:
        return _enclose_one_by_one(op, lo, hi)
    if op == "square":
        nearest, farthest = np.maximum(np.maximum(lo, -hi), 0), largest(lo, hi)
        near, far = (nearest, nearest), (farthest, farthest)
        return products(near, near)[0], products(far, far)[1]
    ends = value(op, hi if op == "reciprocal" else lo), value(op, lo if op == "reciprocal" else hi)
    low, high = ends[0] - np.abs(ends[0]) * ERROR, ends[1] + np.abs(ends[1]) * ERROR
    if op == "tanh":
        return np.maximum(low - TINY, -1), np.minimum(high + TINY, 1)
    return np.maximum(low - (0 if op == "sqrt" else TINY), 0), high + (0 if op == "sqrt" else TINY)


def relax(op: str, lo: Array, hi: Array) -> Relaxed:
    """Lines below and above f on each [lo, hi]."""
    if op not in KNOWN:
        return _relax_one_by_one(op, lo, hi)
    if op in ("tanh", "logistic"):
        (s, t), (steep, offset) = _edges(op, lo, hi, 1), _edges(op, lo, hi, -1)
        return Relaxed(s, t, -steep, -offset)
    if op == "exp":  # exp(z) >= s z + s - s log(s) for any s > 0
        s = np.maximum(value(op, middle(lo, hi)[0]), LEAST)
        loss = s * (2 + np.abs(np.log(s))) * ERROR + TINY
        return Relaxed(s, s * (1 - np.log(s)) - loss, *_chords(op, lo, hi, 1))
    if op == "square":  # z^2 >= s z - s^2 / 4 for any s; (z - l) (z - u) <= 0
        s = lo + hi
        loss = np.abs(s) * largest(lo, hi) * ERROR
        t, offset = s * s / 4, products((lo, lo), (hi, hi))
        return Relaxed(s, -t * (1 + ERROR) - TINY, s, -offset[0] + loss + TINY)
    if op == "reciprocal":  # 1 / z + c z >= 2 sqrt(c)
        s = -1 / middle(lo, hi)[0] ** 2
        return Relaxed(s, 2 * np.sqrt(-s) * (1 - ERROR), *_chords(op, lo, hi, 1))
    c = 0.5 / np.sqrt(np.maximum(middle(lo, hi)[0], LEAST))  # sqrt(z) <= c z + 1 / (4 c)
    return Relaxed(*_chords(op, lo, hi, -1), c, 0.25 / c * (1 + ERROR))


def _slopes(op: str, lo: Array, hi: Array) -> Array:
    """Of the chord, which is that of a wider interval where the ends are too close to tell: any slope would do."""
    end = np.maximum(hi, lo + 1e-6 * (1 + np.abs(lo)) * (hi - lo < 1e-9 * (1 + np.abs(lo))))
    wide = end > lo
    return np.where(wide, (value(op, end) - value(op, lo)) / np.where(wide, end - lo, 1), 0.0)


def _chords(op: str, lo: Array, hi: Array, side: int) -> tuple[Array, Array]:
    """A line above a convex f (side 1), or below a concave one (-1): f(z) - s z is extreme at an end."""
    s = _slopes(op, lo, hi)
    ends = [side * (value(op, z) - s * z) for z in (lo, hi)]
    sizes = [np.abs(value(op, z)) + np.abs(s * z) for z in (lo, hi)]
    return s, side * (np.maximum(*ends) + np.maximum(*sizes) * ERROR + TINY)


def _edges(op: str, lo: Array, hi: Array, side: int) -> tuple[Array, Array]:
    """A line below side * f for tanh and logistic, as `checker.line` takes it from points of a grid."""
    counts = np.minimum(16 + np.floor((hi - lo) * 8), 512).astype(np.intp) | 1
    s, t = np.zeros_like(lo), np.zeros_like(lo)
    for count in np.unique(counts):
        chosen = counts == count
        s[chosen], t[chosen] = _edge(op, lo[chosen], hi[chosen], int(count), side)
    return s, t


def _edge(op: str, lo: Array, hi: Array, count: int, side: int) -> tuple[Array, Array]:
    """The edge below the middle of the convex hull of `count` + 1 points, moved by what may lie between two of them."""
    z = np.clip(lo[:, None] + (hi - lo)[:, None] * (np.arange(count + 1) / count), lo[:, None], hi[:, None])
    z[:, -1] = hi
    v, rows, half, places = side * value(op, z), np.arange(len(lo)), count >> 1, np.arange(count + 1)
    i, j = np.zeros(len(lo), np.intp), np.full(len(lo), count, np.intp)
    while True:
        width = z[rows, j] - z[rows, i]
        s = np.where(width > 0, (v[rows, j] - v[rows, i]) / np.where(width > 0, width, 1), 0.0)
        rest = v - s[:, None] * z
        within = np.where((places > i[:, None]) & (places < j[:, None]), rest, np.inf)
        found = np.argmin(within, axis=1)
        moved = within[rows, found] < np.minimum(rest[rows, i], rest[rows, j])
        if not moved.any():
            break
        i, j = np.where(moved & (found <= half), found, i), np.where(moved & (found > half), found, j)
    r = np.floor(np.maximum(np.maximum(lo, -hi), 0))
    flat = np.clip(3 * r - 4, 0, 20) if op == "tanh" else np.minimum(np.maximum(r + 1, 3), 1000)
    widest = ((hi - lo) / count + np.maximum(np.abs(lo), np.abs(hi)) * ERROR) * (1 + ERROR)
    slack = widest**2 * 0.125 * 2.0**-flat * (1 + ERROR)
    least = np.min(rest - ERROR * (np.abs(v) + np.abs(s[:, None] * z)), axis=1) - slack - TINY
    return np.where(widest < 1, s, 0.0), np.where(widest < 1, least, -1.0)


def _on_checkers_grid(lo: Array, hi: Array) -> list[tuple[int, int]]:
    """Each interval outwards at 2^-40, as the checker's integers."""
    low, high = np.floor(lo * 2.0**checker.G).ravel().tolist(), np.ceil(hi * 2.0**checker.G).ravel().tolist()
    return [(int(l), int(u)) for l, u in zip(low, high, strict=True)]


def _enclose_one_by_one(op: str, lo: Array, hi: Array) -> tuple[Array, Array]:
    ends = _on_checkers_grid(lo, hi)
    node = checker.Node(op, [0], len(ends), False)
    vector = [l for l, _ in ends], [u for _, u in ends], 1 << checker.G
    low, high, _ = checker.outward(checker.evaluate_node(node, [vector], checker.H), checker.H)
    return below(low, checker.H).reshape(lo.shape), above(high, checker.H).reshape(lo.shape)


def _relax_one_by_one(op: str, lo: Array, hi: Array) -> Relaxed:
    """The checker's own lines; a slope that is no float is rounded, which the offset pays for."""
    both: list[tuple[Array, Array]] = []
    reach = (np.maximum(np.abs(lo), np.abs(hi)) + LEAST) * ERROR
    for side in (False, True):
        found = [checker.line(op, l, u, side) for l, u in _on_checkers_grid(lo, hi)]
        s = below([s for s, _ in found], checker.P).reshape(lo.shape)
        t = (above if side else below)([t for _, t in found], checker.H).reshape(lo.shape)
        loss = np.abs(s) * reach + TINY
        both.append((s, t + loss + np.abs(t) * ERROR if side else t - loss - np.abs(t) * ERROR))
    return Relaxed(*both[0], *both[1])
