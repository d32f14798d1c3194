"""Text as a `Statement`: quantifiers to the front, domains to regions, the condition to a JAX function.

Variables are finite reals; one of unstated shape is a vector of length n, for all n ≥ 1, and those of
one statement share n. The notation and its meaning are told in docs/prove.md.
"""

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from types import FrameType
from typing import Any, Literal

import jax.numpy as jnp
import numpy as np

from axiom_jax._errors import AxiomError, SpecError
from axiom_jax._shapes_annotations import read as annotated
from axiom_jax._trace import trace
from axiom_jax.verification.regions import Box, Everything
from axiom_jax.verification.spec.meaning import Each, Meaning, Scope, Table, exact_in_float32, parts
from axiom_jax.verification.spec.naming import Function, Names, example_shape
from axiom_jax.verification.spec.parsing import parse, problem
from axiom_jax.verification.spec.syntax import (
    Arithmetic,
    BallSet,
    Call,
    Comparison,
    Connective,
    Index,
    Interval,
    Member,
    Name,
    Negative,
    Norm,
    Not,
    Number,
    Quantified,
    Region,
    Related,
    Span,
)
from axiom_jax.verification.statement import REALS, Ball, Range, Statement, Variable

Within = Range | Ball
UNSTATED: tuple[int | str, ...] = ("n",)
INFINITIES = ("∞", "inf", "oo")


@dataclass(frozen=True)
class Bound:
    """A quantified name, before it is known whether it is a variable or an index."""

    quantifier: Literal["forall", "exists"]
    name: str
    domain: Region | Related | None
    span: Span


def read(
    text: str, names: Mapping[str, Any] | None = None, *, frame: FrameType | None = None, at: str | None = None
) -> Statement:
    """The statement that a text makes.

    Args:
        text: in the notation of docs/prove.md.
        names: functions, models, arrays and numbers by name; they come before all others.
        frame: where else names are looked up, behind jax.nn and jnp.
        at: the user's line.

    Raises:
        SpecError: a syntax error, an unknown name, a part without a value; with a caret under its place.

    >>> read("∀x ∈ [0, 1]. sigmoid(x) >= 0.5").variables
    (Variable(name='x', shape=('n',), within=Range(lo=Fraction(0, 1), hi=Fraction(1, 1), lo_open=False, hi_open=False),
     quantifier='forall'),)
    """
    statement, _ = reading(text, names, frame=frame, at=at)
    traced(statement)
    return statement


def reading(
    text: str, names: Mapping[str, Any] | None = None, *, frame: FrameType | None = None, at: str | None = None
) -> tuple[Statement, dict[str, Any]]:
    """The statement, not traced yet, and what its names took from `names` and the caller: verdicts depend on it too."""
    try:
        found = Names(text, at, names or {}, frame)
        statement = _Reader(text, at, found).read()
        return statement, found.used
    except RecursionError:
        raise _too_deep(text, at) from None


def _too_deep(text: str, at: str | None) -> SpecError:
    return SpecError("The statement is nested too deeply.", at=at, got=f"{len(text):,} characters",
                     fix="give parts of it as functions")  # fmt: skip


@dataclass(eq=False)
class _Reader:
    text: str
    at: str | None
    names: Names

    def read(self) -> Statement:
        tree = parse(self.text, self.at)
        quantified = [node for node in parts(tree) if isinstance(node, Quantified)]
        bound = [node.variable for node in quantified]
        for node in quantified:
            if bound.count(node.variable) > 1:
                raise self._problem(f"{node.variable} is quantified twice.", node.span, "take another name for one")
        stated = {s for node in quantified if isinstance(node.domain, Region) for s in node.domain.shape or ()}
        given = {s: int(v) for s in stated if isinstance(s, str) and isinstance(v := self.names.given.get(s), int)}
        self.names.used.update(given)
        for node in quantified:
            if node.variable in stated:
                raise self._problem(
                    f"{node.variable} is a variable and a size.", node.span, "take another name for one"
                )
        self.meaning = Meaning(self.names, frozenset(bound))
        # sizes are needed while names are looked up, variables and their axes are known only after it
        self.meaning.sizes.update(dict.fromkeys((s for s in stated if isinstance(s, str) and s not in given), ("", 0)))
        indices = self._indices(tree)
        if any(n.domain is None or not isinstance(n.domain, Region) or not n.domain.shape for n in quantified):
            self.meaning.sizes.setdefault("n", ("", 0))
        tree = self._domains_folded(tree)
        prefix, matrix = self._hoisted(tree, True, indices)
        variables = self._variables([b for b in prefix if b.name not in indices], matrix, given)
        matrix, variables = self._restricted(matrix, variables, prefix, indices)
        self.meaning.sizes.clear()
        for variable in variables:
            for axis, size in enumerate(variable.shape):
                if isinstance(size, str):
                    self.meaning.sizes.setdefault(size, (variable.name, axis))
        matrix = self._indexed(matrix, prefix, indices)
        constants = tuple(dict.fromkeys(_constants(matrix)))
        self.meaning = replace(self.meaning, names=self.names.alone())
        condition = _condition(self.meaning, matrix, tuple(v.name for v in variables), constants)
        statement = Statement(self.text.strip(), tuple(variables), condition, constants, self.at)
        return statement

    # --- names

    def _indices(self, tree: Any) -> dict[str, Span]:
        """Quantified names that stand as a subscript."""
        found = {item.text: node.span for node in parts(tree) if isinstance(node, Index) for item in node.items
                 if isinstance(item, Name) and item.text in self.meaning.bound}  # fmt: skip
        for node in parts(tree):
            if isinstance(node, Quantified) and node.variable in found and node.domain is not None:
                raise self._problem("An index runs over all places of its axis.", node.span,
                                    f"write ∀{node.variable}. without a domain")  # fmt: skip
        return found

    def _domains_folded(self, tree: Any) -> Any:
        """Exact arithmetic done everywhere; ends at infinity are no ends."""
        if isinstance(tree, Quantified):
            domain = tree.domain
            if isinstance(domain, Related):
                domain = replace(domain, term=self.meaning.folded(domain.term))
            elif domain is not None:
                domain = replace(domain, set=self._set_folded(domain))
            return replace(tree, domain=domain, body=self._domains_folded(tree.body))
        if isinstance(tree, (Not, Connective)):
            changed = {
                k: self._domains_folded(getattr(tree, k)) for k in ("operand", "left", "right") if hasattr(tree, k)
            }
            return replace(tree, **changed)
        if isinstance(tree, Member):
            region = replace(tree.region, set=self._set_folded(tree.region))
            return self._membership(self.meaning.folded(tree.value), region)
        return self.meaning.folded(tree)

    def _set_folded(self, region: Region) -> Any:
        match region.set:
            case Interval(lo, hi, lo_open, hi_open):
                return Interval(self._end(lo, -1), self._end(hi, 1), lo_open, hi_open)
            case BallSet(center, radius, order):
                return BallSet(self.meaning.folded(center), self.meaning.folded(radius), order)
            case Name(name):
                return self.names.region(name, region.span)
        return None

    def _end(self, end: Any, sign: int) -> Any:
        inner, negative = (end.operand, -1) if isinstance(end, Negative) else (end, 1)
        if isinstance(inner, Name) and inner.text in INFINITIES and inner.text not in self.meaning.bound:
            if negative != sign:
                raise self._problem("The interval has no points.", inner.span, "write (-∞, 0] or [0, ∞)")
            return None
        return self.meaning.folded(end)

    # --- quantifiers

    def _hoisted(self, tree: Any, positive: bool, indices: Mapping[str, Span]) -> tuple[list[Bound], Any]:
        """The quantifiers in front (those under a negation turned), and what they govern."""
        match tree:
            case Quantified(quantifier, variable, domain, body, span):
                prefix, matrix = self._hoisted(body, positive, indices)
                kind: Any = quantifier if positive else {"forall": "exists", "exists": "forall"}[quantifier]
                rest = None
                if domain is not None:
                    domain, rest = self._split(variable, domain, span)
                if rest is not None:
                    matrix = Connective("implies" if quantifier == "forall" else "and", rest, matrix, span)
                return [Bound(kind, variable, domain, span), *prefix], matrix
            case Not(operand):
                prefix, matrix = self._hoisted(operand, not positive, indices)
                return prefix, replace(tree, operand=matrix)
            case Connective(op, left, right):
                before, left = self._hoisted(left, positive if op != "implies" else not positive, indices)
                behind, right = self._hoisted(right, positive, indices)
                if op == "iff" and (before or behind):
                    raise self._problem("A quantifier cannot stand within ⟺.", tree.span, "write two implications")
                return [*before, *behind], replace(tree, left=left, right=right)
        return [], tree

    def _split(self, name: str, domain: Region | Related, span: Span) -> tuple[Any, Any]:
        """A domain as a region with exact ends, and what of it has to be said as a condition."""
        variable = Name(name, span)
        if isinstance(domain, Related):
            term = domain.term
            if isinstance(term, Number) and domain.op in RELATIONS:
                return RELATIONS[domain.op](term.value), None
            return None, Comparison(variable, ((domain.op, term, None),), span)
        found = self._region(domain)
        if isinstance(found, (Range, Ball)):
            return replace(domain, set=found), None
        return domain, self._membership(variable, domain)

    def _region(self, region: Region) -> Within | None:
        """The region as statements say it, where its numbers are exact."""
        match region.set:
            case None | Everything():
                return REALS
            case Interval(lo, hi, lo_open, hi_open) if all(end is None or isinstance(end, Number) for end in (lo, hi)):
                ends = [None if end is None else end.value for end in (lo, hi)]
                try:
                    return Range(ends[0], ends[1], lo_open and lo is not None, hi_open and hi is not None)
                except SpecError as error:
                    raise self._problem(error.what, region.span, error.fix or "", error.got) from None
            case BallSet(center, Number(radius), order):
                if radius <= 0:
                    raise self._problem("The ball has no radius.", region.span, "give a positive radius")
                if isinstance(center, Number) and order == "inf":
                    return Range(center.value - radius, center.value + radius)
                if isinstance(center, Number) and center.value == 0:
                    return Ball(0, radius, order)
                if isinstance(center, Name) and isinstance(array := self.meaning.captured.get(center.text), np.ndarray):
                    return Ball(array, radius, order)
            case Interval() | BallSet():
                return None
            case Box() as box if box.shape is not None:
                return None
            case _ as found:
                return found.within()
        return None

    def _membership(self, value: Any, region: Region) -> Any:
        """`value ∈ region` as comparisons."""
        span = region.span
        match region.set:
            case Interval(lo, hi, lo_open, hi_open):
                return _between(value, lo, hi, lo_open, hi_open, span)
            case BallSet(center, radius, order):
                return Comparison(Norm(Arithmetic("-", value, center), order), (("<=", radius, None),), span)
            case Box(lo, hi, lo_open, hi_open):
                return _between(value, _table(lo), _table(hi), lo_open, hi_open, span)
        found = self._region(region)
        if isinstance(found, Range):
            ends = [None if end is None else Number(end) for end in (found.lo, found.hi)]
            return _between(value, ends[0], ends[1], found.lo_open, found.hi_open, span)
        if isinstance(found, Ball):
            center = found.center
            entries = tuple(Fraction(x) for x in np.ravel(center).tolist())
            table = Table(entries, np.shape(center)) if np.ndim(center) else Number(entries[0])
            distance = Norm(Arithmetic("-", value, table), found.order)
            return Comparison(distance, (("<=", Number(found.radius), None),), span)
        raise self._problem("This set cannot stand there.", span, "write it as a comparison")

    # --- shapes

    def _variables(self, bounds: list[Bound], matrix: Any, given: Mapping[str, int]) -> list[Variable]:
        guessed = self._guessed(matrix)
        renamed = self._unstated_sizes(bounds, matrix, guessed)
        found: dict[str, Variable] = {}
        for bound in bounds:
            shape, within = None, REALS
            if isinstance(bound.domain, (Range, Ball)):
                within = bound.domain
            elif isinstance(bound.domain, Region):
                shape = bound.domain.shape
                where: Any = bound.domain.set
                within = where if isinstance(where, (Range, Ball)) else REALS
                shape = shape if shape is not None else self._shape_of(where, found)
            shape = shape if shape is not None else guessed.get(bound.name, UNSTATED)
            shape = tuple(given.get(size, size) if isinstance(size, str) else size for size in shape)
            shape = tuple(renamed.get(size, size) if isinstance(size, str) else size for size in shape)
            found[bound.name] = Variable(bound.name, shape, within, bound.quantifier)
        return list(found.values())

    def _unstated_sizes(
        self, bounds: list[Bound], matrix: Any, guessed: Mapping[str, tuple[int | str, ...]]
    ) -> dict[str, str]:
        """Other names for unstated sizes that would have a variable's name: in ∀n. n >= 2 the vector n has length m."""
        words = {node.text for node in parts(matrix) if isinstance(node, Name)} | self.meaning.bound
        words |= {size for b in bounds if isinstance(b.domain, Region) for size in b.domain.shape or ()
                  if isinstance(size, str)}  # fmt: skip
        unstated = {size for shape in (UNSTATED, *guessed.values()) for size in shape if isinstance(size, str)}
        words |= unstated
        free = (name for stem in itertools.chain([""], itertools.count(1)) for letter in "mkdpqrs"
                if (name := f"{letter}{stem}") not in words)  # fmt: skip
        return {name: next(free) for name in sorted(self.meaning.bound & unstated)}

    def _shape_of(self, where: Any, known: Mapping[str, Variable]) -> tuple[int | str, ...] | None:
        """The shape that a region's arrays have."""
        if isinstance(where, Ball):
            return np.shape(where.center) or None
        if isinstance(where, Box):
            return where.shape
        for node in parts(where):
            if isinstance(node, Name) and node.text in known:
                return known[node.text].shape
            array = self.meaning.captured.get(node.text) if isinstance(node, Name) else None
            if isinstance(array, np.ndarray):
                return array.shape
        return None

    def _guessed(self, matrix: Any) -> dict[str, tuple[int | str, ...]]:
        """Shapes by the signatures of models and functions that variables go into."""
        found: dict[str, tuple[int | str, ...]] = {}
        for node in parts(matrix):
            if isinstance(node, Call) and (function := self.meaning.functions.get(node.function)):
                for argument, shape in zip(node.arguments, _taken(function), strict=False):
                    for name in _operands(argument) if shape is not None else ():
                        if name in self.meaning.bound and shape is not None:
                            found.setdefault(name, shape)
        return found

    def _restricted(
        self, matrix: Any, variables: list[Variable], prefix: list[Bound], indices: Mapping[str, Span]
    ) -> tuple[Any, list[Variable]]:
        """Index variables must be innermost, but for neighbours that commute."""
        for position, bound in enumerate(prefix):
            later = [b for b in prefix[position + 1 :] if b.name not in indices]
            if bound.name in indices and any(b.quantifier != bound.quantifier for b in later):
                raise self._problem("An index stands before a variable of the other quantifier.", bound.span,
                                    "quantify over indices last")  # fmt: skip
        return matrix, variables

    def _indexed(self, matrix: Any, prefix: list[Bound], indices: Mapping[str, Span]) -> Any:
        for bound in reversed(prefix):
            if bound.name in indices:
                matrix = Each(bound.quantifier, bound.name, matrix)
        return matrix

    def _problem(self, what: str, span: Span, fix: str, about: str | None = None) -> SpecError:
        return problem(what, self.text, span, fix, self.at, about)


RELATIONS: dict[str, Callable[[Fraction], Range]] = {
    ">": lambda a: Range(a, None, lo_open=True), ">=": lambda a: Range(a, None),
    "<": lambda a: Range(None, a, hi_open=True), "<=": lambda a: Range(None, a), "==": lambda a: Range(a, a),
}  # fmt: skip


def _between(value: Any, lo: Any, hi: Any, lo_open: bool, hi_open: bool, span: Span) -> Any:
    above, below = ("<" if lo_open else "<="), ("<" if hi_open else "<=")
    if lo is not None and hi is not None:
        return Comparison(lo, ((above, value, None), (below, hi, None)), span)
    if lo is not None:
        return Comparison(lo, ((above, value, None),), span)
    if hi is not None:
        return Comparison(value, ((below, hi, None),), span)
    return Comparison(Number(Fraction(0)), (("<=", Number(Fraction(0)), None),), span)


def _table(end: Any) -> Any:
    """The end of a box as a tree."""
    if end is None or isinstance(end, Fraction):
        return None if end is None else Number(end)
    array = np.array(end, dtype=object)
    return Table(tuple(array.ravel()), array.shape)


def _operands(tree: Any) -> list[str]:
    """Variables that have the shape of a sum or difference, and so on, of which they are parts."""
    match tree:
        case Name(text):
            return [text]
        case Negative(operand):
            return _operands(operand)
        case Arithmetic(op, left, right) if op in "+-*/":
            return [*_operands(left), *_operands(right)]
    return []


def _taken(function: Function) -> list[tuple[int | str, ...] | None]:
    """The shape of each argument, where the function says it."""
    if function.model is not None:
        return [example_shape(shape) if all(map(_plain, shape)) else None
                for _, shape, _ in function.model.signature.inputs]  # fmt: skip
    found: list[tuple[int | str, ...] | None] = []
    for name, hint in getattr(function.call, "__annotations__", {}).items():
        known = annotated(hint) if name != "return" and not isinstance(hint, str) else None
        sizes = tuple(int(dim) if dim.isdigit() else dim for dim in known.dims) if known else None
        found.append(sizes if sizes is not None and all(map(_plain, sizes)) else None)
    return found


def _plain(size: int | str) -> bool:
    return isinstance(size, int) or size.isidentifier()


def _constants(matrix: Any) -> list[Fraction]:
    """The numbers that no float32 is, in order."""
    numbers = [node.value for node in parts(matrix) if isinstance(node, Number)]
    numbers += [x for node in parts(matrix) if isinstance(node, Table) for x in node.entries]
    if any(isinstance(node, Comparison) and any(op == "≈" for op, _, _ in node.rest) for node in parts(matrix)):
        from axiom_jax.verification.spec.meaning import TOLERANCE

        numbers.append(TOLERANCE)
    return [x for x in numbers if not exact_in_float32(x)]


def _condition(
    meaning: Meaning, matrix: Any, variables: tuple[str, ...], constants: tuple[Fraction, ...]
) -> Callable[..., Any]:
    def condition(*given: Any) -> Any:
        return meaning.truth(matrix, Scope(dict(zip([*variables, *constants], given, strict=True))))

    return condition


def traced(statement: Statement) -> None:
    """Trace the condition once, so that what has no value is told now; at some sizes if not at all of them.

    Raises:
        SpecError: with the place of what has no value.
    """
    try:
        specs = statement.symbolic()
        trace(statement.condition, *specs)
    except AxiomError as error:
        if not statement.sizes or "onclusive" not in str(error):
            raise
        trace(statement.condition, *statement.sized(dict.fromkeys(statement.sizes, 3)))
    except RecursionError:
        raise _too_deep(statement.text, statement.at) from None


def rounded(constants: tuple[Fraction, ...]) -> tuple[Any, ...]:
    """Constants as execution takes them: float32 scalars."""
    with np.errstate(over="ignore"):
        return tuple(jnp.asarray(np.float32(float(x) if abs(x) < 2**1000 else float("inf"))) for x in constants)
