"""Positivstellensatz by linear programming: a polynomial as a nonnegative combination of known ones.

HiGHS finds in floats which products take part; the coefficients of those are then solved for in exact rationals, so a
combination that is returned is an identity. Polynomials are dicts from monomials (any hashable) to rationals.
Source: Handelman 1988; Krivine 1964; Stengle 1974.
"""

from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

Polynomial = Mapping[Any, Fraction]  # from monomials, which may be anything hashable
MAX_ENTRIES = 60_000  # of the linear program's matrix


@dataclass(frozen=True)
class Combination:
    """target = sum of nonnegative[k] * c_k + sum of equations[e] * d_e, with c_k > 0."""

    nonnegative: dict[int, Fraction]
    equations: dict[int, Fraction]


def combination(
    target: Polynomial,
    nonnegative: Sequence[Polynomial],
    equations: Sequence[Polynomial] = (),
    strict: Sequence[bool] | None = None,
    seconds: float = 2.0,
) -> Combination | None:
    """The target as a combination of polynomials that are >= 0 and of ones that are = 0, or None.

    Args:
        target: what is to be >= 0.
        nonnegative: known to be >= 0 (include {1: 1} for constants).
        equations: known to be = 0.
        strict: where given, one of the marked polynomials (known to be > 0) has to take part.
        seconds: the solver's limit.

    Returns:
        exact coefficients, or None where none were found.

    >>> combination({"x": Fraction(2), 1: Fraction(3)}, [{"x": Fraction(1)}, {1: Fraction(1)}]).nonnegative
    {0: Fraction(2, 1), 1: Fraction(3, 1)}
    """
    kept_n, kept_e = _presolved(target, nonnegative, equations)
    if strict is not None and not any(strict[k] for k in kept_n):
        return None
    columns = [nonnegative[k] for k in kept_n] + [equations[e] for e in kept_e]
    if not columns:
        return Combination({}, {}) if not target and strict is None else None
    rows = {m: r for r, m in enumerate(dict.fromkeys(m for p in [target, *columns] for m in p))}
    marks = None if strict is None else [strict[k] for k in kept_n]
    if any(m for m in target if not any(m in c for c in columns)) or sum(map(len, columns)) > MAX_ENTRIES:
        return None
    support = _support(target, columns, rows, len(kept_n), marks, seconds)
    for chosen in support:
        fixed = next((c for c in chosen if c < len(kept_n) and marks and marks[c]), None) if not target else None
        right = target if fixed is None else {m: -c for m, c in columns[fixed].items()}  # any scale of it will do
        chosen = [c for c in chosen if c != fixed]
        exact = _solved(right, [columns[c] for c in chosen])
        if exact is None:
            continue
        if fixed is not None:
            chosen, exact = [*chosen, fixed], [*exact, Fraction(1)]
        found = {c: v for c, v in zip(chosen, exact, strict=True) if v}
        if any(v < 0 for c, v in found.items() if c < len(kept_n)):
            continue
        if marks is not None and not any(c < len(kept_n) and marks[c] for c in found):
            continue
        return Combination({kept_n[c]: v for c, v in found.items() if c < len(kept_n)},
                           {kept_e[c - len(kept_n)]: v for c, v in found.items() if c >= len(kept_n)})
    return None


def _presolved(target: Polynomial, nonnegative: Sequence[Polynomial], equations: Sequence[Polynomial]):
    """The columns that can take part: each of their monomials is met, with the other sign, somewhere else."""
    alive_n, alive_e = set(range(len(nonnegative))), set(range(len(equations)))
    wanted = {m: c > 0 for m, c in target.items()}
    while True:
        plus, minus = Counter[Hashable](), Counter[Hashable]()
        for k in alive_n:
            for m, c in nonnegative[k].items():
                (plus if c > 0 else minus)[m] += 1
        both = Counter(m for e in alive_e for m in equations[e])

        def stuck(m: Hashable, c: Fraction, plus=plus, minus=minus, both=both) -> bool:
            if m in wanted:
                return wanted[m] != (c > 0) and not both[m] and not (minus if c > 0 else plus)[m]
            return not both[m] and not (minus if c > 0 else plus)[m]

        drop_n = {k for k in alive_n if any(stuck(m, c) for m, c in nonnegative[k].items())}
        drop_e = {e for e in alive_e
                  if any(m not in wanted and both[m] == 1 and not plus[m] and not minus[m] for m in equations[e])}
        if not drop_n and not drop_e:
            return sorted(alive_n), sorted(alive_e)
        alive_n -= drop_n
        alive_e -= drop_e


def _support(target, columns, rows, count, marks, seconds):
    """Sets of columns, by vertices of the linear program: the likely ones first."""
    from scipy.optimize import linprog
    from scipy.sparse import csr_matrix

    index_r, index_c, data = [], [], []
    largest = [max(abs(float(v)) for v in p.values()) for p in columns]
    for c, p in enumerate(columns):
        for m, v in p.items():
            index_r.append(rows[m])
            index_c.append(c)
            data.append(float(v) / largest[c])
    matrix = csr_matrix((data, (index_r, index_c)), shape=(len(rows), len(columns)))
    right = np.zeros(len(rows))
    for m, v in target.items():
        right[rows[m]] = float(v)
    cost = np.array([1.0 + 0.1 * len(p) if c < count else 0.0 for c, p in enumerate(columns)])
    ends = [(0, None)] * count + [(None, None)] * (len(columns) - count)
    more = {}
    if marks is not None:  # one more variable, at most the marked coefficients' sum and at most 1, as large as can be
        matrix = csr_matrix((matrix.data, matrix.indices, matrix.indptr), shape=(len(rows), len(columns) + 1))
        cost, ends = np.append(1e-3 * cost, -1.0), [*ends, (0, 1)]
        sums = [-1.0 if k < count and marks[k] else 0.0 for k in range(len(columns))]
        more = {"A_ub": csr_matrix(np.array([[*sums, 1.0]])), "b_ub": np.array([0.0])}
    answer = linprog(cost, A_eq=matrix, b_eq=right, bounds=ends, method="highs-ds",
                     options={"time_limit": seconds, "presolve": True}, **more)
    if answer.x is not None and answer.status == 0:
        for least in (1e-9, 1e-7):
            yield [c for c, v in enumerate(answer.x[:len(columns)]) if abs(v) > least]


def _solved(target: Polynomial, columns: Sequence[Polynomial]) -> list[Fraction] | None:
    """Exact coefficients of columns that add up to the target; dependent columns get 0."""
    equations: dict[Hashable, dict[int, Fraction]] = {}
    for c, p in enumerate(columns):
        for m, v in p.items():
            equations.setdefault(m, {})[c] = v
    right = len(columns)
    for m, v in target.items():
        equations.setdefault(m, {})[right] = v
    pivots: dict[int, dict[int, Fraction]] = {}
    for row in equations.values():
        row = dict(row)
        while True:
            lead = next((c for c in sorted(row) if c != right), None)
            if lead is None:
                if row.get(right):
                    return None
                break
            if lead not in pivots:
                scale = row[lead]
                pivots[lead] = {c: v / scale for c, v in row.items()}
                break
            factor = row[lead]
            for c, v in pivots[lead].items():
                value = row.get(c, Fraction(0)) - factor * v
                if value:
                    row[c] = value
                else:
                    row.pop(c, None)
    values = [Fraction(0)] * len(columns)
    for lead in sorted(pivots, reverse=True):
        row = pivots[lead]
        values[lead] = row.get(right, Fraction(0)) - sum(
            (v * values[c] for c, v in row.items() if c not in (lead, right)), Fraction(0))
    return values
