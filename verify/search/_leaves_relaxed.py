"""The linear program of a part, and the mixed-integer one.

Unknowns are the columns of the network, the values in front of unstable neurons, and t, the largest margin of a
disjunct's atoms. What is settled is exact, an unstable relu is its triangle, a gate lies between its lines, a split is
a bound. The least t is > 0 only if the part refutes the disjunct; the duals say with which multipliers.
Source: Ehlers 2017, arXiv 1705.01320 (triangle); Salman et al. 2019, arXiv 1902.08722; Tjeng et al. 2019,
arXiv 1711.07356 (binaries).
"""

import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import scipy.sparse as sp
from scipy.optimize import OptimizeResult, OptimizeWarning, linprog

from axiom_jax.verification.search._leaves_affine import Affine, Boxes, Network, phases
from axiom_jax.verification.search._leaves_mixed import Mixed
from axiom_jax.verification.search.subproblem import Subproblem

OPTIMAL, INFEASIBLE = 0, 2
GIVES = 16.0  # how much sooner lines give way than splits where a part is shown to be empty


@dataclass
class _Rows:
    """Rows of a sparse system, collected in pieces."""

    entries: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = field(default_factory=list)
    right: list[np.ndarray] = field(default_factory=list)
    count: int = 0

    def add(self, right: np.ndarray, *terms: tuple[Any, Any]) -> np.ndarray:
        """Append len(right) rows: a term is (CSR matrix, None) or (columns, factors), one entry a row.

        Returns:
            the rows' numbers.
        """
        here = np.arange(self.count, self.count + len(right))
        for what, factors in terms:
            if factors is None:
                coo = what.tocoo()
                self.entries.append((coo.data, coo.row + self.count, coo.col))
            else:
                self.entries.append((np.broadcast_to(np.asarray(factors, np.float64), len(here)), here, what))
        self.right.append(np.asarray(right, np.float64))
        self.count += len(right)
        return here

    def system(self, columns: int) -> tuple[Any, Any]:
        if not self.count:
            return None, None
        data, rows, cols = (np.concatenate([e[i] for e in self.entries]) for i in range(3))
        return sp.csc_matrix((data, (rows, cols)), shape=(self.count, columns)), np.concatenate(self.right)


@dataclass
class Placed:
    """Where the neurons and splits of a part lie in a linear program.

    Args:
        network: the affine maps. part: the part; its boxes are clipped by its splits already.
        boxes: the same, flat. open: by unit, which neurons are not settled.
        flat: by unit, open neurons and their rows of y ≥ z. held: by split, what says so: a bound of a column, a row.
    """

    network: Network
    part: Subproblem
    boxes: Boxes
    open: list[np.ndarray]
    flat: list[tuple[np.ndarray, np.ndarray]]
    held: list[tuple[str, int]]

    @property
    def exact(self) -> bool:
        """Whether nothing is relaxed."""
        return not any(o.any() for o in self.open)


class Relaxed(Placed):
    """The rows of a part that do not depend on the atoms.

    Args:
        network: the affine maps. part: the part; its boxes are clipped by its splits already.
    """

    def __init__(self, network: Network, part: Subproblem):
        boxes: Boxes = {s: (lo.ravel(), hi.ravel()) for s, (lo, hi) in part.boxes.items()}
        super().__init__(network, part, boxes, phases(network, boxes), [], [])
        self.equal, self.below = _Rows(), _Rows()
        self.columns = network.columns
        self.lower, self.upper = [np.full(network.columns, -np.inf)], [np.full(network.columns, np.inf)]
        self.lower[0][: network.inputs], self.upper[0][: network.inputs] = part.lo, part.hi
        self.named: dict[tuple[int, int], int] = {}  # column that equals a neuron's value
        self.chords: list[np.ndarray] = []  # by unit: rows of the chords of open relus
        for unit, open_ in zip(network.units, self.open, strict=True):
            self._gate(unit, open_) if unit.decides >= 0 else self._relu(unit, open_)
        self._splits()

    def _value(self, site: int, neurons: np.ndarray) -> np.ndarray:
        """New columns equal to the values of some neurons of a site."""
        affine = self.network.sites[site]
        new = np.arange(self.columns, self.columns + len(neurons))
        self.columns += len(neurons)
        self.lower.append(np.full(len(neurons), -np.inf))
        self.upper.append(np.full(len(neurons), np.inf))
        self.equal.add(affine.offset[neurons], (new, 1.0), (-affine.matrix[neurons], None))
        for neuron, column in zip(neurons.tolist(), new.tolist(), strict=True):
            self.named.setdefault((site, neuron), column)
        return new

    def _relu(self, unit: Any, open_: np.ndarray) -> None:
        affine, (l, u) = self.network.sites[unit.site], self.boxes[unit.site]
        y = unit.start + np.arange(unit.size)
        active, shut = np.flatnonzero(l >= 0), np.flatnonzero((u <= 0) & (l < 0))
        self.upper[0][y[shut]] = self.lower[0][y[shut]] = 0.0
        self.equal.add(affine.offset[active], (y[active], 1.0), (-affine.matrix[active], None))
        for neuron in active.tolist():
            self.named.setdefault((unit.site, neuron), int(y[neuron]))
        neurons = np.flatnonzero(open_)
        z = self._value(unit.site, neurons)
        self.lower[0][y[neurons]] = 0.0
        slope = u[neurons] / (u[neurons] - l[neurons])
        on_z = self.below.add(np.zeros(len(z)), (z, 1.0), (y[neurons], -1.0))
        self.chords.append(self.below.add(-slope * l[neurons], (y[neurons], 1.0), (z, -slope)))
        self.flat.append((neurons, on_z))

    def _gate(self, unit: Any, open_: np.ndarray) -> None:
        below, below_at_0, above, above_at_0 = self.network.lines(unit, self.boxes)
        y = unit.start + np.arange(unit.size)
        self.flat.append((np.zeros(0, int), np.zeros(0, int)))
        self.chords.append(np.zeros(0, int))
        if unit.site < 0:
            self.lower[0][y], self.upper[0][y] = below_at_0, above_at_0
            return
        l, _ = self.boxes[unit.decides]
        affine, shut = self.network.sites[unit.site], np.flatnonzero(~open_ & (l <= 0))
        self.upper[0][y[shut]] = self.lower[0][y[shut]] = 0.0
        active, neurons = np.flatnonzero(~open_ & (l > 0)), np.flatnonzero(open_)
        self.equal.add(affine.offset[active], (y[active], 1.0), (-affine.matrix[active], None))
        z = self._value(unit.site, neurons)
        self.below.add(above_at_0[neurons], (y[neurons], 1.0), (z, -above[neurons]))
        self.below.add(-below_at_0[neurons], (y[neurons], -1.0), (z, below[neurons]))

    def _splits(self) -> None:
        """Every split as a bound of a column, or as a row; `held` says where each one is."""
        tightest: dict[tuple[int, int, int], tuple[float, int]] = {}
        for number, (site, neuron, at, sign) in enumerate(self.part.splits):
            key = site, neuron, sign
            if key not in tightest or sign * at > sign * tightest[key][0]:
                tightest[key] = at, number
        kept = {number for _, number in tightest.values()}
        self.held = [("looser", 0)] * len(self.part.splits)
        rows: dict[int, list[int]] = {}
        lower, upper = np.concatenate(self.lower), np.concatenate(self.upper)
        for number, (site, neuron, at, sign) in enumerate(self.part.splits):
            column = self.named.get((site, neuron))
            if number not in kept:
                continue
            if column is None:
                rows.setdefault(site, []).append(number)
            elif sign > 0:
                lower[column] = at
                self.held[number] = "lower", column
            else:
                upper[column] = min(at, upper[column])
                self.held[number] = "upper", column
        self.lower, self.upper = [lower], [upper]
        for numbers in rows.values():
            for number, row in zip(numbers, self.below.add(*self._as_rows(numbers)), strict=True):
                self.held[number] = "row", int(row)

    def _as_rows(self, numbers: Sequence[int]) -> tuple[np.ndarray, tuple[Any, None]]:
        """sign·(z − at) ≥ 0 for some splits of one site: right sides and a matrix for `_Rows.add`."""
        splits = [self.part.splits[n] for n in numbers]
        affine, neurons = self.network.sites[splits[0].site], [s.neuron for s in splits]
        signs = np.array([float(s.sign) for s in splits])
        right = signs * (affine.offset[neurons] - np.array([s.at for s in splits]))
        return right, (-sp.diags(signs) @ affine.matrix[neurons], None)

    def least(self, margins: Affine, atoms: Sequence[int], seconds: float) -> tuple[OptimizeResult, np.ndarray]:
        """Minimise the largest of some margins; the result, and the numbers of the margins' rows."""
        rows, t, numbers = _copied(self.below), self.columns, list(atoms)
        last = np.full(len(numbers), t)
        named = rows.add(-margins.offset[numbers], (margins.matrix[numbers], None), (last, -1.0))
        return self._solved(rows, _last(t), (-np.inf, np.inf), seconds), named

    def least_violation(self, seconds: float) -> OptimizeResult:
        """Minimise by how much all splits are violated: > 0 only if the part is empty; its duals are a proof."""
        rows, t = _copied(self.below), self.columns
        every = np.arange(rows.count)  # lines that were clipped by splits imply these: they give way sooner
        rows.entries.append((np.full(rows.count, -GIVES), every, np.full(rows.count, t)))
        for number, (where, _) in enumerate(self.held):
            if where != "looser":
                rows.add(*self._as_rows([number]), (np.array([t]), -1.0))
        return self._solved(rows, _last(t), (0.0, np.inf), seconds, elastic=True)

    def _solved(
        self, below: _Rows, objective: np.ndarray, last: tuple[float, float], seconds: float, elastic: bool = False
    ) -> OptimizeResult:
        columns = len(objective)
        lower, upper = np.append(np.concatenate(self.lower), last[0]), np.append(np.concatenate(self.upper), last[1])
        if elastic:  # splits are rows with a slack of their own
            for where, column in self.held:
                if where == "lower":
                    lower[column] = -np.inf
                elif where == "upper":
                    upper[column] = np.inf
        A_ub, b_ub = below.system(columns)
        if elastic and A_ub is not None:
            drop = [place for where, place in self.held if where == "row"]
            b_ub[drop] = np.inf
            keep = np.isfinite(b_ub)
            A_ub, b_ub = A_ub[keep], b_ub[keep]
        A_eq, b_eq = self.equal.system(columns)
        return _linprog(objective, A_ub, b_ub, A_eq, b_eq, np.stack([lower, upper], 1), seconds)

    def mixed(self, margins: Affine, atoms: Sequence[int], below: float, seconds: float) -> Mixed:
        """Ask for a point of the network (up to a solver's tolerance) where all the given margins are ≤ `below`.

        Binaries settle what is open.
        """
        rows, binaries = _copied(self.below), 0
        rows.add(below - margins.offset[list(atoms)], (margins.matrix[list(atoms)], None))
        first = self.columns
        for unit, open_ in zip(self.network.units, self.open, strict=True):
            neurons = np.flatnonzero(open_)
            delta = np.arange(first + binaries, first + binaries + len(neurons))
            binaries += len(neurons)
            y = (unit.start + np.arange(unit.size))[neurons]
            if unit.decides < 0:
                affine, (l, u) = self.network.sites[unit.site], self.boxes[unit.site]
                l, u = l[neurons], u[neurons]
                rows.add(np.zeros(len(y)), (y, 1.0), (delta, -u))
                rows.add(affine.offset[neurons] - l, (y, 1.0), (-affine.matrix[neurons], None), (delta, -l))
                continue
            decides, (gl, gu) = self.network.sites[unit.decides], self.boxes[unit.decides]
            gl, gu = np.minimum(gl[neurons], 0), np.maximum(gu[neurons], 0)
            rows.add(decides.offset[neurons] - gl, (-decides.matrix[neurons], None), (delta, -gl))  # g ≥ gl(1 − δ)
            rows.add(-decides.offset[neurons], (decides.matrix[neurons], None), (delta, -gu))  # g ≤ gu δ
            if unit.site < 0:
                v = unit.value[neurons]
                rows.add(np.zeros(len(y)), (y, 1.0), (delta, -v))
                rows.add(np.zeros(len(y)), (y, -1.0), (delta, v))
                continue
            affine, (l, u) = self.network.sites[unit.site], self.boxes[unit.site]
            l, u = np.minimum(l[neurons], 0), np.maximum(u[neurons], 0)
            rows.add(np.zeros(len(y)), (y, 1.0), (delta, -u))
            rows.add(np.zeros(len(y)), (y, -1.0), (delta, l))
            rows.add(affine.offset[neurons] - l, (y, 1.0), (-affine.matrix[neurons], None), (delta, -l))
            rows.add(u - affine.offset[neurons], (y, -1.0), (affine.matrix[neurons], None), (delta, u))
        columns = first + binaries
        above, equal = rows.system(columns), self.equal.system(columns)
        parts = [part for part in (above, equal) if part[0] is not None]
        matrix = sp.vstack([A for A, _ in parts], format="csc")
        high = np.concatenate([b for _, b in parts])
        low = np.concatenate([np.full(len(above[1]), -np.inf), *([equal[1]] if equal[0] is not None else [])])
        whole = np.arange(columns) >= first
        lower = np.concatenate([*self.lower, np.zeros(binaries)])
        upper = np.concatenate([*self.upper, np.ones(binaries)])
        return Mixed(matrix, low, high, lower, upper, whole, max(seconds, 0.01))


def _last(t: int) -> np.ndarray:
    objective = np.zeros(t + 1)
    objective[t] = 1.0
    return objective


def _copied(rows: _Rows) -> _Rows:
    return _Rows(list(rows.entries), list(rows.right), rows.count)


def _linprog(c: Any, A_ub: Any, b_ub: Any, A_eq: Any, b_eq: Any, bounds: np.ndarray, seconds: float) -> OptimizeResult:
    """HiGHS's dual simplex; once more by its own choice of method where that fails."""
    end = time.monotonic() + seconds
    for method in ("highs-ds", "highs"):
        options = {"time_limit": max(end - time.monotonic(), 0.01)}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", OptimizeWarning)
            result = linprog(c, A_ub, b_ub, A_eq, b_eq, bounds, method=method, options=options)
        if result.status in (OPTIMAL, INFEASIBLE) or time.monotonic() >= end:
            break
    return result
