"""A piecewise-linear program as affine maps between its neurons, in float64 and without compiling anything.

Its columns are the inputs, then the results of the relus and gates in program order. Every value in front of one,
and every margin, is a sparse affine function of the columns before it: what an LP needs, and enough for backward
bounds (CROWN) by matrix products. Rounded to nearest: for search, never a proof.
Source: Zhang et al. 2018, CROWN, arXiv 1811.00866; Xu et al. 2021, Fast and complete (α slopes), arXiv 2011.13824.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Any

import jax.numpy as jnp
import numpy as np
import scipy.sparse as sp

from axiom_jax._program import Equation
from axiom_jax.verification.domains.linear import Plan
from axiom_jax.verification.gating import gate_operands
from axiom_jax.verification.search._leaves_matrices import Affine, applied
from axiom_jax.verification.search.margins import Question, with_atoms

BLOCK = 256  # rows of a backward pass
NONE = np.zeros(0, int)

Boxes = Mapping[int, tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True)
class Unit:
    """A relu or a gate.

    Args:
        site: number of the value that passes through it; -1 where that is known (`value`).
        decides: number of the site whose sign opens a gate; -1 for a relu.
        start, size: its result's columns. value: (size,) what a gate lets through, if that is known.
    """

    site: int
    decides: int
    start: int
    size: int
    value: np.ndarray

    @property
    def columns(self) -> slice:
        return slice(self.start, self.start + self.size)


@dataclass
class Begun:
    """Bounds of a box as far as there was time for them.

    Args:
        boxes: by number of site, (lo, hi), each (size,). ends: the same of the site that is being bounded.
        rows: its neurons that are yet to be bounded by backward passes.
    """

    boxes: dict[int, tuple[np.ndarray, np.ndarray]] = field(default_factory=dict)
    ends: tuple[np.ndarray, np.ndarray] | None = None
    rows: np.ndarray = field(default_factory=lambda: NONE)


def obstacle(plan: Plan) -> str | None:
    """What keeps a program from being piecewise linear, in words; None where nothing does."""
    program = plan.program
    if len(program.inputs) != 1 or any(v.dtype != np.float32 for v in program.inputs):
        return "its input is not one float32 vector"
    for eqn in plan.varying:
        kind = plan.kind(eqn)
        if kind == "decides":
            if not _only_opens_gates(plan, eqn):
                return f"{eqn.name} decides more than a gate"
        elif kind not in ("linear", "gate") and not (kind == "lines" and eqn.name == "max"):
            return f"{eqn.name} is not piecewise linear"
        elif any(np.dtype(v.dtype).kind != "f" for v in eqn.outputs):
            return f"{eqn.name} is computed in {eqn.output.dtype}"
    return None


def _only_opens_gates(plan: Plan, eqn: Equation) -> bool:
    users = [e for e in plan.varying if eqn.output in e.inputs]
    opens = all(gate_operands(plan.program, e) is not None and e.inputs[0] == eqn.output for e in users)
    return opens and eqn.output not in plan.program.outputs


class Network:
    """The affine maps of one question.

    Args:
        question: whose program is piecewise linear (see `obstacle`).

    Raises:
        NotImplementedError: it is not, or too large.
    """

    def __init__(self, question: Question):
        self.question, plan = question, question.plan
        if (why := obstacle(plan)) is not None:
            raise NotImplementedError(why)
        program = plan.program
        self.inputs = program.inputs[0].size
        nonlinear = [e for e in plan.varying if plan.kind(e) in ("lines", "gate")]
        self.columns = self.inputs + sum(e.output.size for e in nonlinear)
        self._number = {v: k for k, v in enumerate(plan.sites)}
        self.units: list[Unit] = []
        slots = {program.params[s] for s in question.slots}
        self._known = program.environment(question.values)
        for v in slots:
            del self._known[v]
        eye: Any = sp.identity(self.columns, format="csr")
        values = {program.inputs[0]: Affine(eye[: self.inputs], np.zeros(self.inputs))}
        late, self._late = set(slots), []
        start = self.inputs
        for eqn in program.equations:
            if not late.isdisjoint(eqn.inputs):
                late.update(eqn.outputs)
                self._late.append(eqn)
            elif program.varying.isdisjoint(eqn.inputs):
                self._known.update(zip(eqn.outputs, eqn.evaluate(*(self._known[v] for v in eqn.inputs)), strict=True))
            elif (kind := plan.kind(eqn)) == "linear":
                values.update(zip(eqn.outputs, applied(eqn, values, self._known, self.columns), strict=True))
            elif kind != "decides":
                self.units.append(self._unit(eqn, start))
                size = eqn.output.size
                values[eqn.output] = Affine(eye[start : start + size], np.zeros(size))
                start += size
        if late & set(plan.sites):
            raise NotImplementedError("the atoms enter a nonlinear operation")
        self.sites = [values[v] for v in plan.sites]
        wanted = {v for e in self._late for v in e.inputs} | set(program.outputs)
        self._values = {v: a for v, a in values.items() if v in wanted}
        self._margins: dict[int, Affine] = {}

    def _unit(self, eqn: Equation, start: int) -> Unit:
        plan = self.question.plan
        if eqn.name == "max":
            return Unit(self._number[plan.operand(eqn)], -1, start, eqn.output.size, np.zeros(0))
        found = gate_operands(plan.program, eqn)
        assert found is not None
        decides, passed = found
        known = np.zeros(0)
        if passed not in self._number:
            known = np.broadcast_to(np.asarray(self._known[passed], np.float64), eqn.output.shape).ravel()
        return Unit(self._number.get(passed, -1), self._number[decides], start, eqn.output.size, known)

    def margins(self, case: int) -> Affine:
        """The margins of the atoms of a case (padding included), (atoms, columns)."""
        if case not in self._margins:
            program = self.question.plan.program
            atoms = with_atoms(self.question.values, self.question.slots, self.question.spec, case)
            known = self._known | {program.params[s]: jnp.asarray(atoms[s]) for s in self.question.slots}
            values = dict(self._values)
            for eqn in self._late:
                if program.varying.isdisjoint(eqn.inputs):
                    known.update(zip(eqn.outputs, eqn.evaluate(*(known[v] for v in eqn.inputs)), strict=True))
                else:
                    values.update(zip(eqn.outputs, applied(eqn, values, known, self.columns), strict=True))
            found = values[program.outputs[0]]
            offset = found.offset.copy()  # thresholds are exact, not rounded to float32
            unsafe = self.question.property.cases[case].unsafe
            for number, atom in enumerate(atom for conjunct in unsafe for atom in conjunct):
                rounded = float(self.question.spec.threshold[case, number])
                offset[number] += float(Fraction(rounded) - atom.threshold)
            found = replace(found, offset=offset)
            self._margins[case] = found
        return self._margins[case]

    def forward(self, points: np.ndarray) -> np.ndarray:
        """All columns at (points, inputs): (points, columns). A gate at zero is open."""
        columns = np.zeros((len(points), self.columns))
        columns[:, : self.inputs] = points
        for unit in self.units:
            z = self.sites[unit.site].at(columns) if unit.site >= 0 else unit.value
            gate = self.sites[unit.decides].at(columns) if unit.decides >= 0 else z
            columns[:, unit.columns] = np.where(gate >= 0, z, 0.0)
        return columns

    def gradient(self, columns: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """(points, inputs) gradients of rows · columns, (points, columns) both, at columns of `forward`."""
        rows = rows.copy()
        for unit in reversed(self.units):
            if unit.site < 0:
                continue
            decides = unit.site if unit.decides < 0 else unit.decides
            passed = rows[:, unit.columns] * (self.sites[decides].at(columns) > 0)
            self.sites[unit.site].add_to(rows, passed)
        return rows[:, : self.inputs]

    def bounds(self, lo: np.ndarray, hi: np.ndarray, known: Boxes | None = None) -> dict[int, tuple[Any, Any]]:
        """Bounds of all sites over an input box: intervals everywhere, backward passes where a sign is open.

        Args:
            known: bounds that hold there already; the result is no wider.

        Returns:
            by number of site, (lo, hi), each (size,).
        """
        begun = Begun()
        self.bound(begun, lo, hi, known)
        return begun.boxes

    def bound(
        self, begun: Begun, lo: np.ndarray, hi: np.ndarray, known: Boxes | None = None, deadline: float = np.inf
    ) -> bool:
        """Go on with the bounds of an input box, see `bounds`; False where the deadline, on `time.monotonic`, came
        first: deep nets take minutes."""
        boxes = begun.boxes
        low, high = np.zeros(self.columns), np.zeros(self.columns)
        low[: self.inputs], high[: self.inputs] = lo, hi
        for position, unit in enumerate(self.units):
            for site in (unit.site, unit.decides):
                if site >= 0 and site not in boxes:
                    if begun.ends is None:
                        begun.ends = self._enclosed(site, low, high, known)
                        begun.rows = np.flatnonzero((begun.ends[0] < 0) & (begun.ends[1] > 0)) if position else NONE
                    while len(begun.rows):
                        if time.monotonic() >= deadline:
                            return False
                        self._tighten(begun, site, position, lo, hi)
                    l, u = begun.ends
                    crossed = l > u  # empty, by rounding or because the part has no points
                    boxes[site] = np.where(crossed, np.minimum(l, u), l), np.where(crossed, np.maximum(l, u), u)
                    begun.ends = None
            below, below_at_0, above, above_at_0 = self.lines(unit, boxes)
            l, u = boxes[unit.site] if unit.site >= 0 else (unit.value, unit.value)
            if unit.decides < 0:
                low[unit.columns], high[unit.columns] = np.maximum(l, 0), np.maximum(u, 0)
            else:
                low[unit.columns], high[unit.columns] = below * l + below_at_0, above * u + above_at_0
        return True

    def _enclosed(
        self, site: int, low: np.ndarray, high: np.ndarray, known: Boxes | None
    ) -> tuple[np.ndarray, np.ndarray]:
        affine = self.sites[site]
        middle, radius = (low + high) / 2, (high - low) / 2
        centre, spread = affine.at(middle[None])[0], abs(affine.matrix) @ radius
        l, u = centre - spread, centre + spread
        if known is None:
            return l, u
        return np.maximum(l, known[site][0].ravel()), np.minimum(u, known[site][1].ravel())

    def _tighten(self, begun: Begun, site: int, upto: int, lo: np.ndarray, hi: np.ndarray) -> None:
        """Bound the next rows of a site by a backward pass."""
        affine, part = self.sites[site], begun.rows[:BLOCK]
        rows, at_0 = affine.matrix[part].toarray(), affine.offset[part]
        both = np.concatenate([rows, -rows])
        found, _ = self.backward(both, np.concatenate([at_0, -at_0]), lo, hi, begun.boxes, upto=upto)
        assert begun.ends is not None
        l, u = begun.ends
        l[part] = np.maximum(l[part], found[: len(part)])
        u[part] = np.minimum(u[part], -found[len(part) :])
        begun.rows = begun.rows[BLOCK:]

    def lines(self, unit: Unit, boxes: Boxes, slopes: Any = None) -> tuple[np.ndarray, ...]:
        """Slope and offset of the lower, then of the upper line of every neuron of a unit, in the site's value.

        Args:
            boxes: by number of site, ends of any shape (..., size).
            slopes: (size,) of the lower lines of unstable relus; None: 0 or 1, which encloses less.
        """
        if unit.site >= 0:
            l, u = boxes[unit.site]
        else:
            l = u = unit.value
        zero, one = np.zeros(np.shape(l)), np.ones(np.shape(l))
        width = np.where(u > l, u - l, 1.0)
        straddles = (l < 0) & (u > 0)
        above = np.where(straddles, u / width, np.where(l >= 0, one, zero))
        above_at_0 = np.where(straddles, -l * u / width, zero)
        if unit.decides < 0:
            lower = np.where(u > -l, one, zero) if slopes is None else np.clip(slopes, 0.0, 1.0)
            return np.where(straddles, lower, above), zero, above, above_at_0
        below = np.where(straddles, -l / width, np.where(l >= 0, zero, one))
        below_at_0 = np.where(straddles, l * u / width, zero)
        g_lo, g_hi = boxes[unit.decides]
        opened, closed = g_lo > 0, g_hi < 0
        if unit.site < 0:  # a known value: constants instead of lines
            below, below_at_0, above, above_at_0 = zero, np.minimum(l, 0), zero, np.maximum(l, 0)
            pick = lambda a: np.where(closed, zero, np.where(opened, l, a))
            return zero, pick(below_at_0), zero, pick(above_at_0)
        slope = lambda a: np.where(closed, zero, np.where(opened, one, a))
        settled = opened | closed
        at_0 = lambda a: np.where(settled, zero, a)
        return slope(below), at_0(below_at_0), slope(above), at_0(above_at_0)

    def backward(
        self,
        rows: np.ndarray,
        constant: np.ndarray,
        lo: np.ndarray,
        hi: np.ndarray,
        boxes: Boxes,
        slopes: Mapping[int, Any] | None = None,
        upto: int | None = None,
        keep: dict[int, np.ndarray] | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Lower bounds of rows · columns + constant over a part, or over as many parts of one box as there are rows.

        Args:
            rows: (rows, columns). constant: (rows,). slopes: by number of site, of the lower lines of its relus.
            boxes: by number of site, ends (neurons,), or (rows, neurons) for parts of their own.
            upto: how many units the rows may depend on.
            keep: filled with (rows, neurons) factors of the results of every unit, by where it starts.

        Returns:
            (rows,) bounds; (rows, inputs) the linear functions that give them.
        """
        rows, constant = np.array(rows, np.float64), np.array(constant, np.float64)
        for unit in reversed(self.units[:upto]):
            factors = rows[:, unit.columns]
            if not factors.any():
                continue
            below, below_at_0, above, above_at_0 = self.lines(unit, boxes, slopes and slopes.get(unit.site))
            if keep is not None:
                keep[unit.start] = factors.copy()
            positive, negative = np.maximum(factors, 0), np.minimum(factors, 0)
            if below_at_0.ndim == 1:
                constant += positive @ below_at_0 + negative @ above_at_0
            else:
                constant += (positive * below_at_0 + negative * above_at_0).sum(1)
            passed = positive * below + negative * above
            rows[:, unit.columns] = 0
            if unit.site >= 0:
                constant += passed @ self.sites[unit.site].offset
                self.sites[unit.site].add_to(rows, passed)
        on_inputs = rows[:, : self.inputs]
        bound = constant + np.maximum(on_inputs, 0) @ lo + np.minimum(on_inputs, 0) @ hi
        return bound, on_inputs


def phases(network: Network, boxes: Boxes) -> list[np.ndarray]:
    """For every unit, which of its neurons are neither settled open nor shut."""
    found = []
    for unit in network.units:
        if unit.decides >= 0:
            l, u = boxes[unit.decides]
            found.append(((l <= 0) & (u >= 0)).ravel())
        else:
            l, u = boxes[unit.site]
            found.append(((l < 0) & (u > 0)).ravel())
    return found


def atoms_of(question: Question, case: int) -> list[Sequence[int]]:
    """For every disjunct of a case, the numbers of its atoms among the margins."""
    member = np.asarray(question.spec.member[case])
    return [np.flatnonzero(row).tolist() for row in member if row.any()]
