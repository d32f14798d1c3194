"""A syntax tree as a JAX function: exact numbers are folded, names are bound, comparisons hold elementwise."""

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, fields, is_dataclass, replace
from fractions import Fraction
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from axiom_jax._errors import AxiomError, SpecError
from axiom_jax.verification.spec.naming import EULER, Constant, Function, Names, applied, misfit
from axiom_jax.verification.spec.parsing import problem
from axiom_jax.verification.spec.syntax import (
    Arithmetic,
    Call,
    Comparison,
    Connective,
    Index,
    Member,
    Name,
    Negative,
    Norm,
    Not,
    Number,
    Quantified,
    Span,
)

TOLERANCE = Fraction(1, 10**6)  # what a ≈ b means: |a - b| is at most this
REDUCTIONS = {"sum": jnp.sum, "mean": jnp.mean, "max": jnp.max, "min": jnp.min, "prod": jnp.prod}
PAIRWISE = {"max": jnp.maximum, "min": jnp.minimum}
COMPARE: dict[str, Callable[[Any, Any], Any]] = {
    "<=": lambda a, b: a <= b, "<": lambda a, b: a < b, ">=": lambda a, b: a >= b, ">": lambda a, b: a > b,
    "==": lambda a, b: a == b, "!=": lambda a, b: a != b,
}  # fmt: skip
COMBINE: dict[str, Callable[[Any, Any], Any]] = {
    "+": lambda a, b: a + b, "-": lambda a, b: a - b, "*": lambda a, b: a * b, "/": lambda a, b: a / b,
    "@": jnp.matmul,
}  # fmt: skip
WORDS = {"True": True, "False": False, "None": None}


@dataclass(frozen=True)
class Slices:
    """What stands for the part of an array at an index variable, while that variable runs."""

    number: int


@dataclass(frozen=True)
class Table:
    """An array of exact numbers, flat in C order."""

    entries: tuple[Fraction, ...]
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Each:
    """`body` for every (or some) value of an index variable."""

    quantifier: str
    variable: str
    body: Any


@dataclass(eq=False)
class Scope:
    """What is known while a condition is computed; values of trees are kept, so that none is computed twice."""

    values: dict[Any, Any]
    memo: dict[Any, Any] = field(default_factory=dict)


def exact_in_float32(value: Fraction) -> bool:
    """Whether a number is a finite float32.

    >>> exact_in_float32(Fraction(1, 2)), exact_in_float32(Fraction(1, 10))
    (True, False)
    """
    if abs(value) >= 2**128:
        return False
    return Fraction(float(np.float32(float(value)))) == value


def parts(tree: Any) -> Iterator[Any]:
    """A tree and all that is in it, in the order of the text."""
    stack = [tree]
    while stack:
        node = stack.pop()
        if isinstance(node, tuple):
            stack.extend(reversed(node))
        elif is_dataclass(node):
            yield node
            stack.extend(getattr(node, f.name) for f in reversed(fields(node)) if f.name != "span")


@dataclass(frozen=True, eq=False)
class Meaning:
    """How the trees of one statement are computed.

    Args:
        names: where names come from. bound: the variables and index variables.
        sizes: a size's name, to the variable and the axis that have it.
        functions: what calls call, by name. captured: arrays and functions that names stand for.
    """

    names: Names
    bound: frozenset[str]
    sizes: dict[str, tuple[str, int]] = field(default_factory=dict)
    functions: dict[str, Function] = field(default_factory=dict)
    captured: dict[str, Any] = field(default_factory=dict)

    def folded(self, tree: Any) -> Any:
        """The tree with exact arithmetic done and the caller's numbers put in."""
        if isinstance(tree, tuple):
            return tuple(self.folded(part) for part in tree)
        if not is_dataclass(tree) or isinstance(tree, (Number, Table, Slices, type)):
            return tree
        if isinstance(tree, Name):
            return self._name(tree)
        if isinstance(tree, Index):  # index variables are no numbers
            return replace(tree, value=self.folded(tree.value), items=self.folded(tree.items))
        found: Any = replace(tree, **{f.name: self.folded(getattr(tree, f.name)) for f in fields(tree)
                                      if f.name != "span"})  # fmt: skip
        match found:
            case Call(function, span=span) if function not in self.functions:
                if function in self.bound:
                    raise problem(f"{function} is a variable, not a function.", self.names.text, span,
                                  f"multiplication is written {function} * (...)", self.names.at)  # fmt: skip
                self.functions[function] = self.names.function(function, span, self.bound)
            case Negative(Number(value), span):
                return Number(-value, span)
            case Arithmetic(op, Number(a), Number(b), span):
                return self._arithmetic(op, a, b, span, found)
        return found

    def _name(self, tree: Name) -> Any:
        if tree.text in self.bound or tree.text in self.sizes or tree.text in WORDS:
            return tree
        if tree.text in ("∞", "inf", "oo"):
            raise problem("Infinity stands only at an end of an interval.", self.names.text, tree.span,
                          "write [0, ∞)", self.names.at)  # fmt: skip
        found = self.names.value(tree.text, tree.span, self.bound)
        if isinstance(found, Fraction):
            return Number(found, tree.span)
        self.captured[tree.text] = found
        return tree

    def _arithmetic(self, op: str, a: Fraction, b: Fraction, span: Span, tree: Any) -> Any:
        if (op == "/" and b == 0) or (op == "^" and a == 0 and b < 0):
            raise problem("That divides by zero.", self.names.text, span, "divide by another number", self.names.at)
        if op == "^":
            bits = a.numerator.bit_length() + a.denominator.bit_length()
            if b.denominator != 1 or abs(b) * bits > 1 << 16:
                return tree
            return Number(a ** int(b), span)
        if op == "@":
            return tree
        value = {"+": lambda: a + b, "-": lambda: a - b, "*": lambda: a * b, "/": lambda: a / b}[op]()
        return Number(value, span)

    # --- conditions

    def truth(self, tree: Any, scope: Scope) -> Any:
        """One truth value of a condition."""
        match tree:
            case Not(operand):
                return jnp.logical_not(self.truth(operand, scope))
            case Connective(op, left, right):
                return _connected(op, self.truth(left, scope), self.truth(right, scope))
            case Each():
                return self._each(tree, scope)
        found = self.mask(tree, scope)
        return jnp.all(found) if jnp.ndim(found) else found

    def mask(self, tree: Any, scope: Scope) -> Any:
        """A condition elementwise: what functions get as arguments."""
        match tree:
            case Comparison(first, rest, span):
                sides = [first, *(term for _, term, _ in rest)]
                found: Any = None
                for (op, _, tolerance), left, right in zip(rest, sides, sides[1:], strict=False):
                    compare = functools.partial(self._compared, op, left, right, tolerance, scope)
                    here = self._guarded(span, compare)
                    found = here if found is None else jnp.logical_and(found, here)
                return found
            case Member(region=region):
                raise problem("This set cannot stand there.", self.names.text, region.span, "write it as a comparison")
            case Not(operand):
                return jnp.logical_not(self.mask(operand, scope))
            case Connective(op, left, right):
                return _connected(op, self.mask(left, scope), self.mask(right, scope))
            case Quantified(span=span):
                raise problem("A quantifier cannot stand there.", self.names.text, span,
                              "put quantifiers first: ∀x. ∃y. ...", self.names.at)  # fmt: skip
        found = self.value(tree, scope)
        found = getattr(found, "holds", found)
        found = jnp.asarray(found) if isinstance(found, bool) else found
        if not hasattr(found, "dtype") or found.dtype != bool:
            raise problem("This is a number, not a condition.", self.names.text, _span(tree),
                          "compare it: ... >= 0", self.names.at)  # fmt: skip
        return found

    def _compared(self, op: str, left: Any, right: Any, tolerance: Any, scope: Scope) -> Any:
        a, b = self.value(left, scope), self.value(right, scope)
        if isinstance(a, Fraction) and isinstance(b, Fraction) and op in COMPARE:
            return jnp.asarray(COMPARE[op](a, b))
        if op == "≈":
            allowed = TOLERANCE if tolerance is None else self.value(tolerance, scope)
            a, b = self._like(a, b, scope), self._like(b, a, scope)
            return jnp.abs(a - b) <= self._like(allowed, None, scope)
        return COMPARE[op](self._like(a, b, scope), self._like(b, a, scope))

    def _like(self, value: Any, other: Any, scope: Scope) -> Any:
        """A number as JAX takes it: an integer beside integers, else a float, or the scalar that stands for it."""
        if not isinstance(value, Fraction):
            return value
        if other is not None and hasattr(other, "dtype") and value.denominator == 1 and other.dtype.kind in "iu":
            return int(value)
        return float(value) if exact_in_float32(value) else scope.values[value]

    def _each(self, tree: Each, scope: Scope) -> Any:
        """An index variable runs over an axis: the arrays that it indexes are mapped over that axis."""
        arrays: list[Any] = []

        def sliced(node: Any) -> Any:
            if isinstance(node, tuple):
                return tuple(sliced(part) for part in node)
            if isinstance(node, Index) and Name(tree.variable) in node.items:
                flat = node
                while isinstance(flat.value, Index):
                    flat = Index(flat.value.value, (*flat.value.items, *flat.items), flat.span)
                place = flat.items.index(Name(tree.variable))
                if Name(tree.variable) in parts((flat.value, flat.items[place + 1 :])):
                    raise problem("An index variable stands twice there.", self.names.text, node.span,
                                  "take two index variables: ∀i, j. ...", self.names.at)  # fmt: skip
                array = self._guarded(node.span, lambda: jnp.moveaxis(self.array(flat.value, scope), place, 0))
                arrays.append(array)
                rest = (*flat.items[:place], *flat.items[place + 1 :])
                part = Slices(len(arrays) - 1 + 1000 * len(scope.values))
                names.append(part)
                return Index(part, rest, node.span) if rest else part
            if is_dataclass(node) and not isinstance(node, (Table, Slices, Number, type)):
                changed = {f.name: sliced(getattr(node, f.name)) for f in fields(node) if f.name != "span"}
                return replace(node, **changed)
            return node

        names: list[Slices] = []
        body = sliced(tree.body)
        if not arrays:
            raise problem(f"{tree.variable} indexes nothing.", self.names.text, (0, 1), f"use it: x[{tree.variable}]")
        lengths = {str(array.shape[0]) for array in arrays}
        if len(lengths) > 1:
            raise problem(f"{tree.variable} indexes axes of several sizes.", self.names.text, (0, 1),
                          "take an index variable for each", self.names.at, " and ".join(sorted(lengths)))  # fmt: skip

        def one(*slices: Any) -> Any:
            inner = Scope(scope.values | dict(zip(names, slices, strict=True)))
            return self.truth(body, inner)

        found = jax.vmap(one)(*arrays)
        return jnp.all(found) if tree.quantifier == "forall" else jnp.any(found)

    # --- numbers

    def array(self, tree: Any, scope: Scope) -> Any:
        """The value as an array of JAX."""
        return jnp.asarray(self._like(self.value(tree, scope), None, scope))

    def value(self, tree: Any, scope: Scope) -> Any:
        """An array, an exact number, or what a function returned."""
        if tree not in scope.memo:
            scope.memo[tree] = self._value(tree, scope)
        return scope.memo[tree]

    def _value(self, tree: Any, scope: Scope) -> Any:
        match tree:
            case Number(value):
                return value
            case Slices():
                return scope.values[tree]
            case Table(entries, shape):
                if all(map(exact_in_float32, entries)):
                    return np.array([float(x) for x in entries], np.float32).reshape(shape)
                return jnp.stack([jnp.asarray(self._like(x, None, scope), jnp.float32) for x in entries]).reshape(shape)
            case Name(text):
                return self._named(tree, text, scope)
            case Negative(operand):
                return -self.array(operand, scope)
            case Arithmetic("^", base, exponent, span):
                return self._guarded(span, lambda: self._power(base, exponent, scope))
            case Arithmetic(op, left, right, span):
                return self._guarded(span, lambda: self._combined(op, left, right, scope))
            case Norm(operand, order, span):
                return self._guarded(span, lambda: _norm(self.array(operand, scope), order))
            case Index(value, items, span):
                return self._guarded(span, lambda: self._indexed(value, items, span, scope))
            case Call():
                return self._guarded(tree.span, lambda: self._called(tree, scope))
            case Comparison() | Not() | Connective():
                return self.mask(tree, scope)
        raise problem("A condition is not a number.", self.names.text, _span(tree), "compare numbers", self.names.at)

    def _named(self, tree: Name, text: str, scope: Scope) -> Any:
        if text in scope.values:
            return scope.values[text]
        if text in self.bound:
            raise problem(f"{text} is an index, it can only stand in brackets.", self.names.text, tree.span,
                          f"write x[{text}]", self.names.at)  # fmt: skip
        if text in self.sizes:
            variable, axis = self.sizes[text]
            return jnp.asarray(scope.values[variable].shape[axis], jnp.float32)
        if text not in self.captured:
            raise problem(f"{text} is no size of this statement.", self.names.text, tree.span,
                          f"name a size: ∀x ∈ R^{text}. ...", self.names.at)  # fmt: skip
        found = self.captured[text]
        return found() if isinstance(found, Constant) else found

    def _combined(self, op: str, left: Any, right: Any, scope: Scope) -> Any:
        a, b = self.value(left, scope), self.value(right, scope)
        if isinstance(a, Fraction) and isinstance(b, Fraction):
            a = jnp.asarray(self._like(a, None, scope))
        return COMBINE[op](self._like(a, b, scope), self._like(b, a, scope))

    def _power(self, base: Any, exponent: Any, scope: Scope) -> Any:
        if isinstance(base, Name) and base.text in EULER and base.text not in (self.bound | self.names.given.keys()):
            return jnp.exp(self.array(exponent, scope))
        if isinstance(exponent, Number):
            if exponent.value.denominator == 1 and abs(exponent.value) <= 4096:
                return self.array(base, scope) ** int(exponent.value)
            if exponent.value == Fraction(1, 2):
                return jnp.sqrt(self.array(base, scope))
        return jnp.power(self.array(base, scope), self.array(exponent, scope))

    def _indexed(self, value: Any, items: Any, span: Span, scope: Scope) -> Any:
        found = self.value(value, scope)
        for item in reversed(items) if hasattr(found, "shape") else items:
            if not isinstance(item, Number) or item.value.denominator != 1:
                raise problem("An index is a whole number, or a quantified variable.", self.names.text, span,
                              "write x[0], x[-1], or ∀i. ... x[i]", self.names.at)  # fmt: skip
        if not hasattr(found, "shape"):
            for item in items:
                found = found[int(item.value)]
            return found
        for axis in reversed(range(len(items))):
            found = self._entry(found, axis, int(items[axis].value), span)
        return found

    def _entry(self, array: Any, axis: int, place: int, span: Span) -> Any:
        """An entry along an axis, which must exist at every size."""
        if axis >= array.ndim:
            raise problem("There are more indices than axes.", self.names.text, span,
                          "state the shape: ∀x ∈ R^(2 × 3). ...", self.names.at, f"{array.ndim} axes")  # fmt: skip
        size = array.shape[axis]
        try:
            inside = bool(place < size) if place >= 0 else bool(-place <= size)
        except Exception as error:
            if type(error).__name__ != "InconclusiveDimensionOperation":
                raise
            inside = False
        if not inside:
            raise problem("That entry does not exist at every size.", self.names.text, span,
                          f"state a size of at least {place + 1 if place >= 0 else -place}: ∀x ∈ R^8. ...",
                          self.names.at, f"the axis has size {size}")  # fmt: skip
        start = place if place >= 0 else size + place
        return lax.squeeze(lax.slice_in_dim(array, start, start + 1, axis=axis), [axis])

    def _called(self, tree: Call, scope: Scope) -> Any:
        name, count = tree.function, len(tree.arguments)
        function = self.functions[name]
        options = {key: self._option(option, scope) for key, option in tree.options}
        self._fits(tree, function)
        if function.ours and name in REDUCTIONS and count == 1:
            return REDUCTIONS[name](self.array(tree.arguments[0], scope), **options)
        if function.ours and name in PAIRWISE:
            found = self.array(tree.arguments[0], scope)
            for argument in tree.arguments[1:]:
                found = PAIRWISE[name](found, self._argument(argument, scope))
            return found
        if function.ours and name in REDUCTIONS:
            raise problem(f"{name} takes one argument.", self.names.text, tree.span, f"write {name}(x, axis=0)",
                          self.names.at)  # fmt: skip
        given = [self._argument(a, scope, first=k == 0 and function.ours) for k, a in enumerate(tree.arguments)]
        if function.model is not None and not options:
            return applied(function.model, given)
        found = function.call(*given, **options)
        return getattr(found, "holds", found)

    def _fits(self, tree: Call, function: Function) -> None:
        """Refuse arguments and options that the function does not take."""
        name, count, options = tree.function, len(tree.arguments), [key for key, _ in tree.options]
        if function.ours and name in PAIRWISE and count > 1:
            found = (f"(x, y) or {name}(x, axis=0)", "several arguments and options") if options else None
        elif function.ours and name in REDUCTIONS:
            found = misfit(replace(function, call=REDUCTIONS[name]), 1, options)  # their number is told below
        else:
            found = misfit(function, count, options)
        if found is not None:
            raise problem(f"{name} does not take these arguments.", self.names.text, tree.span,
                          f"it is called as {name}{found[0]}", self.names.at, found[1])  # fmt: skip

    def _argument(self, tree: Any, scope: Scope, first: bool = False) -> Any:
        if isinstance(tree, Name) and tree.text in WORDS and tree.text not in self.bound:
            return WORDS[tree.text]
        found = self.value(tree, scope)
        if isinstance(found, Fraction) and found.denominator == 1 and not first and abs(found) < 2**31:
            return int(found)
        return self._like(found, None, scope)

    def _option(self, tree: Any, scope: Scope) -> Any:
        return self._argument(tree, scope)

    def _guarded(self, span: Span, compute: Callable[[], Any]) -> Any:
        """What goes wrong while a part is computed is told with its place in the text."""
        try:
            return compute()
        except RecursionError:
            raise
        except AxiomError as error:
            if isinstance(error, SpecError):
                raise
            raise self._wrong(span, error.what) from error
        except Exception as error:
            lines = [line for line in str(error).splitlines() if line.strip()]
            raise self._wrong(span, lines[0] if lines else type(error).__name__) from error

    def _wrong(self, span: Span, reason: str) -> SpecError:
        text, at = self.names.text, self.names.at
        fix = "state shapes that fit: ∀x ∈ R^3. ..., or ∀x ∈ [0, 1]^(2 × 3). ..."
        return problem("This part has no value.", text, span, fix, at, reason[:300])


def _connected(op: str, left: Any, right: Any) -> Any:
    if op == "implies":
        return jnp.logical_or(jnp.logical_not(left), right)
    if op == "iff":
        return jnp.logical_not(jnp.logical_xor(left, right))
    return (jnp.logical_and if op == "and" else jnp.logical_or)(left, right)


def _norm(x: Any, order: Any) -> Any:
    """Over all entries."""
    if order == "inf":
        return jnp.max(jnp.abs(x))
    return jnp.sum(jnp.abs(x)) if order == 1 else jnp.sqrt(jnp.sum(x * x))


def _span(tree: Any) -> Span:
    return getattr(tree, "span", (0, 1))
