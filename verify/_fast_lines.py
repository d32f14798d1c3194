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


def derivative(op: str, z: Array) -> Array:
    """f'(z) for exp and logistic, within 40 u of it, relatively."""
    return value(op, z) if op == "exp" else value(op, z) * value(op, -z)


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
    if op == "tanh":  # tanh(z) = 2 logistic(2 z) - 1
        s, t, steep, offset = relax("logistic", 2 * lo, 2 * hi)
        return Relaxed(4 * s, 2 * t - 1 - ERROR, 4 * steep, 2 * offset - 1 + ERROR)
    if op == "logistic":  # logistic(z) = 1 - logistic(-z)
        (s, t), (steep, offset) = _tangents(op, lo, hi), _tangents(op, -hi, -lo)
        return Relaxed(s, t, steep, 1 - offset + ERROR)
    if op == "exp":
        return Relaxed(*_tangents(op, lo, hi), *_chords(op, lo, hi, 1))
    if op == "square":  # z^2 >= s z - s^2 / 4 for any s; (z - l) (z - u) <= 0
        s = lo + hi
        loss = np.abs(s) * largest(lo, hi) * ERROR
        t, offset = s * s / 4, products((lo, lo), (hi, hi))
        return Relaxed(s, -t * (1 + ERROR) - TINY, s, -offset[0] + loss + TINY)
    if op == "reciprocal":  # 1 / z + c z >= 2 sqrt(c)
        s = -1 / (lo * hi)
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


def _tangents(op: str, lo: Array, hi: Array) -> tuple[Array, Array]:
    """A line below exp or logistic: a tangent where it is convex, a chord where it is concave.

    Convex on [lo, bend]: f(z) - s z >= f(p) - s p + (f'(p) - s)(z - p), which is least at lo or bend. Concave on
    [bend, hi]: f(z) - s z is least at bend or hi. `checker.line` says the same.
    """
    bend = hi if op == "exp" else np.clip(0, lo, hi)
    centre = middle(lo, hi)[0]
    concave, convex = (bend == lo) & (op != "exp"), bend == hi
    p = lo.copy()
    if not np.all(convex | concave):  # search where the tangent meets (hi, f(hi)); a rough answer will do
        right, high = value(op, hi), np.zeros_like(lo)
        for _ in range(20):
            half = (p + high) * 0.5
            below_end = value(op, half) + derivative(op, half) * (hi - half) < right
            p, high = np.where(below_end, half, p), np.where(below_end, high, half)
    p = np.minimum(np.where(convex, centre, p), centre)
    chord, chord_offset = _chords(op, lo, hi, -1)
    f, steep = value(op, p), derivative(op, p)
    s = np.where(p > lo, steep, chord)
    t = f - s * p + np.minimum((steep - s) * (lo - p), (steep - s) * (bend - p))
    t -= ERROR * (np.abs(f) + (np.abs(s) + np.abs(steep)) * 3 * largest(lo, hi)) + TINY
    right = value(op, hi) - s * hi - ERROR * (np.abs(value(op, hi)) + np.abs(s * hi)) - TINY
    t = np.where(convex, t, np.minimum(t, right))
    return np.where(concave, chord, s), np.where(concave, chord_offset, t)


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
