"""A statement about a concrete program over a box, as a network and a property: what branch and bound decides.

The condition's comparisons become outputs (left side − right side), what joins them becomes the property's
disjunctive form. Nothing is rounded: numbers of the text go into exact thresholds.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from axiom_jax._program import Equation, Program, Var, normalise
from axiom_jax._trace import trace
from axiom_jax.verification.property import Atom, Case, Property
from axiom_jax.verification.regions import Box, Linf
from axiom_jax.verification.search.margins import Subject
from axiom_jax.verification.statement import Ball, Range, Statement, Variable

ATOMS, DISJUNCTS = 4096, 4096
Flat = tuple[Fraction, ...]


class Unfit(Exception):
    """Why a statement is no property of a network over a box."""


class Bit(NamedTuple):
    """An atom: output `number` is at least the threshold (above it if strict), or at most (below) if `upper`."""

    number: int
    threshold: Fraction
    strict: bool
    upper: bool

    def negated(self) -> "Bit":
        return Bit(self.number, self.threshold, not self.strict, not self.upper)

    def atom(self) -> Atom:
        sign = 1 if self.upper else -1
        return Atom(((self.number, Fraction(sign)),), sign * self.threshold, strict=self.strict)


Formula = tuple[Any, ...]  # ("bit", Bit) | ("and" | "or", parts) | ("true",) | ("false",)
TRUE: Formula = ("and", ())
FALSE: Formula = ("or", ())


@dataclass(eq=False)
class _Boolean:
    """The boolean part of a program, read entry by entry; comparisons become outputs."""

    program: Program
    exact: dict[Var, Fraction]
    made: dict[Var, Equation] = field(default_factory=dict)
    outputs: list[tuple[Var, Var | None]] = field(default_factory=list)  # left side, right side to subtract
    count: int = 0
    origin: dict[int, tuple[Var, int]] = field(default_factory=dict)  # outputs that are inputs: which entry

    def __post_init__(self) -> None:
        self.made = {v: eqn for eqn in self.program.equations for v in eqn.outputs}

    def formula(self, var: Var) -> np.ndarray:
        """An array of formulas, of the variable's shape."""
        if var in dict(self.program.literals):
            return _filled(var.shape, np.broadcast_to(dict(self.program.literals)[var], var.shape))
        eqn = self.made.get(var)
        if eqn is None:
            raise Unfit("a condition is given as an array")
        if eqn.name in COMPARISONS:
            return self._compared(eqn)
        if eqn.name in ("and", "or"):
            a, b = np.broadcast_arrays(*(self.formula(v) for v in eqn.inputs))
            return _each(lambda x, y: (eqn.name, (x, y)), a, b)
        if eqn.name == "xor":
            a, b = np.broadcast_arrays(*(self.formula(v) for v in eqn.inputs))
            return _each(lambda x, y: ("or", (("and", (x, _not(y))), ("and", (_not(x), y)))), a, b)
        if eqn.name == "not":
            return _each(_not, self.formula(eqn.inputs[0]))
        if eqn.name in ("reduce_and", "reduce_or"):
            found = self.formula(eqn.inputs[0])
            axes = tuple(eqn.params["axes"])
            kept = [k for k in range(found.ndim) if k not in axes]
            rows = found.transpose([*kept, *axes]).reshape([*(found.shape[k] for k in kept), -1])
            joined = np.empty(rows.shape[:-1], object)
            for place in np.ndindex(joined.shape):
                joined[place] = (eqn.name[7:], tuple(rows[place]))
            return joined
        if eqn.name in ("broadcast_in_dim", "reshape", "squeeze", "transpose", "copy"):
            found = self.formula(eqn.inputs[0])
            places = np.arange(found.size, dtype=np.int32).reshape(found.shape)
            return found.ravel()[np.asarray(eqn.evaluate(places)[0])].reshape(var.shape)
        raise Unfit(f"its condition is made by {eqn.name}")

    def _compared(self, eqn: Equation) -> np.ndarray:
        left, right = eqn.inputs
        if any(np.dtype(v.dtype).kind != "f" for v in (left, right)):
            raise Unfit("it compares integers")
        a, b = self._number(left), self._number(right)
        if a is not None and b is not None:
            return _filled(eqn.output.shape, np.full(eqn.output.shape, _decided(eqn.name, a, b)))
        flip = a is not None
        side, other, threshold = (right, None, a) if flip else (left, None, b) if b is not None else (left, right, None)
        name = FLIPPED[eqn.name] if flip else eqn.name
        limit = threshold if threshold is not None else Fraction(0)
        start, self.count = self.count, self.count + eqn.output.size
        if self.count > ATOMS:
            raise Unfit(f"it has more than {ATOMS:,} comparisons")
        self.outputs.append((side, other))
        if other is None and (found := self._places(side)) is not None:
            var, places = found
            spread = np.broadcast_to(places, eqn.output.shape).ravel()
            self.origin |= {start + k: (var, int(place)) for k, place in enumerate(spread)}
        bits = np.empty(eqn.output.size, object)
        for k in range(eqn.output.size):
            bits[k] = COMPARISONS[name](start + k, limit)
        return bits.reshape(eqn.output.shape)

    def _places(self, var: Var) -> tuple[Var, np.ndarray] | None:
        """The input whose entries these are, moved about, and which."""
        if var in self.program.inputs:
            return var, np.arange(var.size, dtype=np.int32).reshape(var.shape)
        eqn = self.made.get(var)
        if eqn is None or eqn.name not in MOVES or (found := self._places(eqn.inputs[0])) is None:
            return None
        return found[0], np.asarray(eqn.evaluate(found[1])[0])

    def _number(self, var: Var) -> Fraction | None:
        """The exact number that every entry is, if it is one."""
        while var not in self.exact:
            eqn = self.made.get(var)
            if eqn is None or eqn.name not in ("broadcast_in_dim", "reshape", "squeeze", "convert_element_type"):
                return None
            var = eqn.inputs[0]
        return self.exact[var]


def _bit(number: int, limit: Fraction, strict: bool, upper: bool) -> Formula:
    return ("bit", Bit(number, limit, strict, upper))


COMPARISONS: dict[str, Callable[[int, Fraction], Formula]] = {
    "ge": lambda j, t: _bit(j, t, False, False),
    "gt": lambda j, t: _bit(j, t, True, False),
    "le": lambda j, t: _bit(j, t, False, True),
    "lt": lambda j, t: _bit(j, t, True, True),
    "eq": lambda j, t: ("and", (_bit(j, t, False, False), _bit(j, t, False, True))),
    "ne": lambda j, t: ("or", (_bit(j, t, True, False), _bit(j, t, True, True))),
}
FLIPPED = {"ge": "le", "gt": "lt", "le": "ge", "lt": "gt", "eq": "eq", "ne": "ne"}


MOVES = {"slice", "squeeze", "reshape", "broadcast_in_dim", "transpose", "rev", "expand_dims"}


def _decided(name: str, a: Fraction, b: Fraction) -> bool:
    return {"ge": a >= b, "gt": a > b, "le": a <= b, "lt": a < b, "eq": a == b, "ne": a != b}[name]


def _not(formula: Formula) -> Formula:
    if formula[0] == "bit":
        return ("bit", formula[1].negated())
    return ({"and": "or", "or": "and"}[formula[0]], tuple(map(_not, formula[1])))


def _filled(shape: Sequence[int], values: np.ndarray) -> np.ndarray:
    found = np.empty(shape, object)
    for place in np.ndindex(found.shape):
        found[place] = TRUE if values[place] else FALSE
    return found


def _each(function: Callable[..., Formula], *arrays: np.ndarray) -> np.ndarray:
    found = np.empty(arrays[0].shape, object)
    for place in np.ndindex(found.shape):
        found[place] = function(*(a[place] for a in arrays))
    return found


def _disjuncts(formula: Formula) -> list[tuple[Bit, ...]]:
    """Disjunctive normal form."""
    if formula[0] == "bit":
        return [(formula[1],)]
    if formula[0] == "or":
        return _limited(way for part in formula[1] for way in _disjuncts(part))
    ways: list[tuple[Bit, ...]] = [()]
    for part in formula[1]:
        more = _disjuncts(part)
        ways = _limited(tuple(dict.fromkeys((*a, *b))) for a in ways for b in more)
    return ways


def _limited(ways: Iterable[tuple[Bit, ...]]) -> list[tuple[Bit, ...]]:
    found: dict[tuple[Bit, ...], None] = {}
    for way in ways:
        found[way] = None
        if len(found) > DISJUNCTS:
            raise Unfit(f"its negation has more than {DISJUNCTS:,} cases")
    return list(found)


@dataclass(frozen=True, eq=False)
class Posed:
    """A statement as a network and a property.

    Args:
        subject: from all variables to the two sides' differences. property: the statement.
    """

    subject: Subject
    property: Property


def pose_statement(statement: Statement) -> Posed:
    """The statement as a property of a network; all its variables have to be quantified alike, by ∀.

    Raises:
        Unfit: it is none, and why.
    """
    if statement.sizes:
        raise Unfit(f"{statement.sizes[0]} stands for every size")
    if any(v.quantifier != "forall" for v in statement.variables) or not statement.variables:
        raise Unfit("it does not speak of all points of a region")
    program, captured = normalise(trace(statement.condition, *statement.symbolic()))
    count = len(statement.variables)
    exact = dict(zip(program.inputs[count:], statement.constants, strict=True))
    inputs = program.inputs[:count]
    literals = {v: Fraction(float(np.asarray(x))) for v, x in program.literals
                if np.ndim(x) == 0 and np.dtype(v.dtype).kind == "f" and np.isfinite(np.asarray(x))}  # fmt: skip
    reading = _Boolean(program, exact | literals)
    formulas = [f for output in program.outputs for f in reading.formula(output).ravel()]
    unsafe = _disjuncts(_not(("and", tuple(formulas))))
    subject = _subject(statement, program, captured, reading, inputs)
    offsets = dict(zip(inputs, np.cumsum([0, *(v.size for v in inputs)]).tolist(), strict=False))
    box = [_region(v, var) for v, var in zip(statement.variables, inputs, strict=True)]
    return Posed(subject, _property(statement, reading, unsafe, box, offsets))


def _subject(statement: Statement, program: Program, captured: list[Any], reading: _Boolean,
             inputs: tuple[Var, ...]) -> Subject:  # fmt: skip
    """The differences of both sides of all comparisons as a function of the variables."""
    needed = {v for pair in reading.outputs for v in pair if v is not None}
    kept = []
    for eqn in reversed(program.equations):
        if not needed.isdisjoint(eqn.outputs):
            needed.update(eqn.inputs)
            kept.append(eqn)
    kept.reverse()
    inexact = [v for v in program.inputs[len(inputs) :] if v in needed]
    if inexact:
        raise Unfit(f"{reading.exact[inexact[0]]} is no float32, and is not only compared with")

    def apply(params: Sequence[Any], *given: Any) -> Any:
        env = program.environment(params) | dict(zip(inputs, given, strict=True))
        for eqn in kept:
            env.update(zip(eqn.outputs, eqn.evaluate(*(env[v] for v in eqn.inputs)), strict=True))
        sides = [env[a] if b is None else env[a] - env[b] for a, b in reading.outputs]
        return jnp.concatenate([jnp.ravel(side) for side in sides])

    specs = tuple(jax.ShapeDtypeStruct(v.shape, np.float32) for v in inputs)
    return Subject(apply, list(captured), specs, "the sides of its comparisons")


class _Ends(NamedTuple):
    lo: list[Fraction | None]
    hi: list[Fraction | None]
    lo_open: bool = False
    hi_open: bool = False


def _region(variable: Variable, var: Var) -> _Ends:
    within = variable.within
    if isinstance(within, Range):
        return _Ends([within.lo] * var.size, [within.hi] * var.size, within.lo_open, within.hi_open)
    if within.order != "inf":
        raise Unfit("a region of it is round")
    lo, hi = _ball_box(within, var.shape)
    return _Ends(list(lo), list(hi), within.open, within.open)


def _ball_box(ball: Ball, shape: Sequence[int]) -> tuple[Flat, Flat]:
    return Linf(ball.radius, np.asarray(ball.center, dtype=object)).bounds(shape) if np.ndim(ball.center) else Box(
        ball.center - ball.radius, ball.center + ball.radius).bounds(shape)  # fmt: skip


def _property(statement: Statement, reading: _Boolean, unsafe: list[tuple[Bit, ...]], ends: list[_Ends],
              offsets: dict[Var, int]) -> Property:  # fmt: skip
    """Cases by box: what a disjunct says of single inputs narrows its box."""
    lo = [x for e in ends for x in e.lo]
    hi = [x for e in ends for x in e.hi]
    opened = [(e.lo_open, e.hi_open) for e in ends for _ in e.lo]
    if sum(a or b for a, b in opened) > 256:
        raise Unfit("its region has more than 256 open ends")
    cases: dict[tuple[Flat, Flat], list[tuple[Atom, ...]]] = {}
    for bits in unsafe:
        low, high, atoms = list(lo), list(hi), []
        for bit in bits:
            if bit.number in reading.origin:
                var, k = reading.origin[bit.number]
                i = offsets[var] + k
                if bit.upper:
                    high[i] = bit.threshold if high[i] is None else min(high[i], bit.threshold)  # type: ignore[type-var]
                else:
                    low[i] = bit.threshold if low[i] is None else max(low[i], bit.threshold)  # type: ignore[type-var]
                if not bit.strict:
                    continue
            atoms.append(bit.atom())
        for i, (a, b) in enumerate(opened):
            if a and low[i] is not None and low[i] == lo[i]:
                atoms.append(Atom((), -low[i], ((i, Fraction(-1)),), strict=True))  # type: ignore[operator]
            if b and high[i] is not None and high[i] == hi[i]:
                atoms.append(Atom((), high[i], ((i, Fraction(1)),), strict=True))  # type: ignore[arg-type]
        if any(x is None for x in (*low, *high)):
            raise Unfit("a variable of it has no bounds")
        if all(a <= b for a, b in zip(low, high, strict=True)):  # type: ignore[operator]
            cases.setdefault((tuple(low), tuple(high)), []).append(tuple(atoms))  # type: ignore[arg-type]
    if not cases:
        raise Unfit("nothing is left that could be false")
    found = tuple(Case(*box, tuple(disjuncts)) for box, disjuncts in cases.items())
    return Property(found, statement.text)


def point_of(statement: Statement, inputs: Sequence[Fraction]) -> dict[str, Any]:
    """Flat inputs as nested tuples of exact numbers, by variable."""
    found, start = {}, 0
    for v in statement.variables:
        shape = tuple(n for n in v.shape if isinstance(n, int))
        size = math.prod(shape)
        found[v.name] = nested(list(inputs[start : start + size]), shape)
        start += size
    return found


def nested(flat: Sequence[Any], shape: Sequence[int]) -> Any:
    """Numbers in C order as nested tuples of that shape.

    >>> nested([1, 2, 3, 4], (2, 2))
    ((1, 2), (3, 4))
    """
    if not shape:
        return flat[0]
    step = math.prod(shape[1:])
    return tuple(nested(flat[k * step : (k + 1) * step], shape[1:]) for k in range(shape[0]))
