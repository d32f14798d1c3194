"""Points worth trying in exact arithmetic, around the minimiser of a linear program."""

from collections.abc import Iterator
from fractions import Fraction

import numpy as np

from axiom_jax.verification.search._leaves_affine import Network

NEAR = 1e-9  # float64 margins up to this (relative to the numbers in them) are judged exactly
GRIDS = (0, 1, 2, 4, 8, 16)  # a point is also tried rounded to parts of 2^-k of its box
STEPS = 8
DENOMINATORS = (64, 4096, 1 << 18, 10**9)


def candidates(network: Network, case: int, point: np.ndarray, descend: bool = True) -> Iterator[np.ndarray]:
    """float32 points of the deployed domain, near a point, whose margin is ≤ 0 in float64, the most unsafe first.

    Tried are the point, its roundings to parts of the box (vertices of a part often have few digits), and a descent
    along the margin's gradient.

    Args:
        point: (inputs,) float64.
    """
    question = network.question
    lo, hi = (end[case].astype(np.float64) for end in (question.float32_lo, question.float32_hi))
    width = hi - lo
    share = (point - lo) / np.where(width > 0, width, 1)
    tried = [point] + [lo + np.round(share * 2.0**k) / 2.0**k * width for k in GRIDS]
    points = _deployed(np.stack(tried), lo, hi)
    if descend:
        points = np.concatenate([points, _deployed(_descended(network, case, points, lo, hi), lo, hi)])
    values, scale = values_at(network, case, points)
    order = np.argsort(values, kind="stable")
    seen: set[bytes] = set()
    for i in order:
        if values[i] > NEAR * scale:
            return
        found = points[i].astype(np.float32)
        if found.tobytes() not in seen:
            seen.add(found.tobytes())
            yield found


def vertices(network: Network, case: int, point: np.ndarray) -> Iterator[list[Fraction]]:
    """Rational points of the exact box next to a point: a vertex of a part has small denominators where weights do.

    Args:
        point: (inputs,) float64, from a linear program: a vertex to about twelve digits.
    """
    asked = network.question.property.cases[case]
    for most in DENOMINATORS:
        near = [Fraction(float(x)).limit_denominator(most) for x in point]
        yield [min(max(x, lo), hi) for x, lo, hi in zip(near, asked.lo, asked.hi, strict=True)]


def values_at(network: Network, case: int, points: np.ndarray) -> tuple[np.ndarray, float]:
    """(points,) the property's margin in float64: ≤ 0 is unsafe; and the size of the numbers in it."""
    columns = network.forward(points)
    margins = network.margins(case)
    values = margins.at(columns)
    member = np.asarray(network.question.spec.member[case])
    per = np.stack([values[:, row].max(1) for row in member if row.any()], 1)
    return per.min(1), 1.0 + float(np.abs(margins.offset).max(initial=0.0))


def _deployed(points: np.ndarray, lo: np.ndarray, hi: np.ndarray) -> np.ndarray:
    return np.clip(points.astype(np.float32).astype(np.float64), lo, hi)


def _descended(network: Network, case: int, points: np.ndarray, lo: np.ndarray, hi: np.ndarray) -> np.ndarray:
    """Steps along the sign of the worst atom's gradient, shorter and shorter; the best point of each descent."""
    margins = network.margins(case)
    best, value = points.copy(), values_at(network, case, points)[0]
    x = points.copy()
    member = np.asarray(network.question.spec.member[case])
    rows = [np.flatnonzero(row) for row in member if row.any()]
    for step in range(STEPS):
        columns = network.forward(x)
        reached = margins.at(columns)
        per = np.stack([reached[:, row].max(1) for row in rows], 1)
        nearest = per.argmin(1)
        atom = np.array([rows[d][np.argmax(reached[i, rows[d]])] for i, d in enumerate(nearest)])
        gradient = network.gradient(columns, margins.matrix[atom].toarray())
        x = np.clip(x - 0.25 * (hi - lo) * 0.5**step * np.sign(gradient), lo, hi)
        now = values_at(network, case, x)[0]
        better = now < value
        best, value = np.where(better[:, None], x, best), np.minimum(now, value)
    return best
