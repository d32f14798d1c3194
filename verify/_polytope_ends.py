"""What must be certain of {x : A x ≤ b}: that it has a point, and a box around it.

A linear program in floats (HiGHS) suggests; exact arithmetic decides. A point is tried in A x ≤ b. An end of the box is
y·b for multipliers y ≥ 0 with Aᵀ y = ±eᵢ, solved exactly: for every x of the polytope ±xᵢ = y·A x ≤ y·b, whatever the
linear program said. Source: weak duality of linear programs.
"""

from collections.abc import Iterable, Sequence
from fractions import Fraction
from typing import Any

import numpy as np

Row = tuple[Fraction, ...]
BITS = 40  # fractional bits, beside those of its size, of an end that is no short fraction
SHORT = 10**6  # denominators that are short
TIGHT = 1e-7  # what a float program calls tight


def holds(rows: Sequence[Row], limits: Sequence[Fraction], point: Sequence[Fraction]) -> bool:
    """Whether an exact point satisfies A x ≤ b.

    >>> half = Fraction(1, 2)
    >>> holds([(Fraction(1), Fraction(1))], [Fraction(1)], [half, half])
    True
    """
    return all(dot(row, point) <= limit for row, limit in zip(rows, limits, strict=True))


def dot(row: Iterable[Fraction], point: Iterable[Fraction]) -> Fraction:
    """The sum of products."""
    return sum((a * x for a, x in zip(row, point, strict=True) if a), Fraction(0))


def inner_point(rows: Sequence[Row], limits: Sequence[Fraction]) -> Row | None:
    """An exact point of A x ≤ b, in the middle where there is a middle; None where none was found."""
    size = len(rows[0])
    a, b = _floats(rows, limits)
    norms = np.linalg.norm(a, axis=1, keepdims=True)
    cost = np.zeros(size + 1)
    cost[-1] = -1.0
    ends = [(None, None)] * size + [(0.0, float(max(1.0, np.abs(b).max(initial=0.0))))]
    centre = _solved(cost, np.hstack([a, norms]), b, ends)  # the middle of the largest ball: Chebyshev's
    if centre is not None:
        point = tuple(Fraction(float(v)) for v in centre.x[:size])
        if holds(rows, limits, point):
            return point
    corner = _solved(np.ones(size), a, b, [(None, None)] * size) or _solved(np.zeros(size), a, b, [(None, None)] * size)
    if corner is None:
        return None
    slack = b - a @ corner.x
    tight = [k for k in np.argsort(slack) if slack[k] <= TIGHT * (1 + abs(b[k]))]
    near = [Fraction(float(v)).limit_denominator(SHORT) for v in corner.x]
    point = _common(near, [rows[k] for k in tight], [limits[k] for k in tight])
    return point if point is not None and holds(rows, limits, point) else None


def highest(rows: Sequence[Row], limits: Sequence[Fraction], direction: Row) -> Fraction | None:
    """An upper end of direction·x over A x ≤ b, certain; None where none is shown."""
    a, b = _floats(rows, limits)
    found = _solved(-np.array([float(c) for c in direction]), a, b, [(None, None)] * len(direction))
    if found is None:
        return None
    weights, slack = -found.ineqlin.marginals, b - a @ found.x
    likely = [k for k in np.argsort(-weights) if weights[k] > 0 or slack[k] <= TIGHT * (1 + abs(b[k]))]
    columns = [rows[k] for k in likely]
    multipliers = combination(columns, direction)
    if multipliers is None or any(y < 0 for y in multipliers):
        return None
    return dot(multipliers, [limits[k] for k in likely])


def combination(rows: Sequence[Row], target: Row) -> list[Fraction] | None:
    """Numbers y with Σ yₖ rowₖ = target, those of early rows first; None where there are none.

    >>> one, two = Fraction(1), Fraction(2)
    >>> combination([(one, one), (one, -one)], (two, Fraction(0)))
    [Fraction(1, 1), Fraction(1, 1)]
    """
    count = len(rows)
    table = [[row[i] for row in rows] + [target[i]] for i in range(len(target))]
    pivots = _reduced(table, count)
    if any(line[count] for line in table[len(pivots) :]):
        return None
    found = [Fraction(0)] * count
    for line, column in zip(table, pivots, strict=False):
        found[column] = line[count]
    return found


def _common(near: Sequence[Fraction], rows: Sequence[Row], limits: Sequence[Fraction]) -> Row | None:
    """A point where rows are tight, and else as near; rows that contradict earlier ones are left out."""
    size = len(near)
    table: list[list[Fraction]] = []
    for row, limit in zip(rows, limits, strict=True):
        added = [list(line) for line in [*table, [*row, limit]]]
        pivots = _reduced(added, size)
        if len(pivots) == len(added):
            table = added
    point = list(near)
    pivots = _reduced(table, size)
    for line, column in zip(table, pivots, strict=True):
        point[column] = line[size] - sum((line[i] * near[i] for i in range(size) if i not in pivots), Fraction(0))
    return tuple(point)


def _reduced(table: list[list[Fraction]], columns: int) -> list[int]:
    """Gauss and Jordan, in place, exactly: the columns of the pivots, whose lines come first."""
    pivots: list[int] = []
    for column in range(columns):
        at = len(pivots)
        if at == len(table):
            break
        line = next((k for k in range(at, len(table)) if table[k][column]), None)
        if line is None:
            continue
        table[at], table[line] = table[line], table[at]
        scale = table[at][column]
        table[at] = [v / scale for v in table[at]]
        for k, other in enumerate(table):
            if k != at and (factor := other[column]):
                table[k] = [v - factor * w if w else v for v, w in zip(other, table[at], strict=True)]
        pivots.append(column)
    return pivots


def outward(value: Fraction) -> Fraction:
    """A number that is not smaller: the same where it is short, else rounded up to a few bits.

    >>> outward(Fraction(1, 3))
    Fraction(1, 3)
    >>> third = Fraction(10**30, 3 * 10**30 + 1)
    >>> 0 < outward(third) - third < Fraction(1, 2**40)
    True
    """
    if value.denominator < SHORT:
        return value
    size = abs(value.numerator).bit_length() - value.denominator.bit_length()
    unit = Fraction(1, 2 ** (BITS + max(-size, 0)))
    return -(-value // unit) * unit


def _floats(rows: Sequence[Row], limits: Sequence[Fraction]) -> tuple[np.ndarray, np.ndarray]:
    return np.array([[float(v) for v in row] for row in rows]), np.array([float(v) for v in limits])


def _solved(cost: np.ndarray, a: np.ndarray, b: np.ndarray, ends: Any) -> Any:
    """What HiGHS answers; None where it has no optimum."""
    from scipy.optimize import linprog

    found: Any = linprog(cost, A_ub=a, b_ub=b, bounds=ends, method="highs")
    return found if found.status == 0 else None
