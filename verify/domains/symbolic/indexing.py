"""Places in arrays whose sizes are names: affine index expressions, what is known of their range, and mixed digits.

An index into an axis of n·m elements that came from merging axes is a pair of digits (`Digits`), since i·m + j is not
affine. Where an index has to be a number, `NeedsConcrete` asks whoever bound it to go through its values.
"""

import ast
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

Rational = int | Fraction
Dim = Any  # an int, or a size expression of `jax.export.symbolic_shape`


class NeedsConcrete(Exception):
    """The index `name` has to be a number here."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name


class Unexpressible(Exception):
    """What is asked for has no exact meaning in terms; the message says why."""


@dataclass(frozen=True, slots=True)
class Affine:
    """const + Σ coefficient·name, over sizes and index variables; sorted by name, without zeros."""

    const: Rational = 0
    terms: tuple[tuple[str, Rational], ...] = ()

    @staticmethod
    def name(name: str) -> "Affine":
        return Affine(0, ((name, 1),))

    def __add__(self, other: "Affine | Rational") -> "Affine":
        if not isinstance(other, Affine):
            return Affine(_plain(self.const + other), self.terms)
        if not other.terms:
            return Affine(_plain(self.const + other.const), self.terms)
        total = dict(self.terms)
        for name, c in other.terms:
            total[name] = total.get(name, 0) + c
        terms = tuple(sorted((name, _plain(c)) for name, c in total.items() if c))
        return Affine(_plain(self.const + other.const), terms)

    def __neg__(self) -> "Affine":
        return self * -1

    def __sub__(self, other: "Affine | Rational") -> "Affine":
        return self + -other

    def __mul__(self, factor: Rational) -> "Affine":
        if factor == 0:
            return Affine()
        return Affine(_plain(self.const * factor), tuple((name, _plain(c * factor)) for name, c in self.terms))

    @property
    def constant(self) -> bool:
        return not self.terms

    @property
    def integral(self) -> bool:
        return all(type(c) is int for c in (self.const, *(c for _, c in self.terms)))


def _plain(x: Rational) -> Rational:
    """An integer as an int: faster, and `Affine.integral` can see it."""
    return x.numerator if type(x) is Fraction and x.denominator == 1 else x


class Ranges:
    """What is known of names: an index ("@i") has 0 ≤ @i < bound, every other name is a size ≥ 1."""

    def __init__(self) -> None:
        self.bounds: dict[str, Affine] = {}

    def lower(self, a: Affine) -> Rational | None:
        """A number that `a` is never below; None where this way finds none."""
        for name, c in a.terms:
            if name in self.bounds:
                end = Affine() if c > 0 else self.bounds[name] - 1
                a = a + (end - Affine.name(name)) * c
        if any(c < 0 for _, c in a.terms):
            return None
        return a.const + sum(c for name, c in a.terms if name[0] != "@")

    def nonnegative(self, a: Affine) -> bool | None:
        """Whether a ≥ 0 for all values of its names: True, False (never), or None."""
        low, negated = self.lower(a), self.lower(-a)
        if low is not None and low >= 0:
            return True
        return False if negated is not None and negated > 0 else None


# Sizes as JAX writes them


def affine(dim: Dim, ranges: Ranges | None = None) -> Affine:
    """A size as an affine expression.

    >>> import jax
    >>> n, m = jax.export.symbolic_shape("n, m")
    >>> affine(2 * n - 1), affine(5)
    (Affine(const=-1, terms=(('n', 2),)), Affine(const=5, terms=()))
    """
    if isinstance(dim, Affine):
        return dim
    found = polynomial(dim, ranges)
    if any(len(names) > 1 for names in found):
        raise Unexpressible(f"the size {dim} is a product of sizes")
    return Affine(found.get((), 0), tuple(sorted((names[0], c) for names, c in found.items() if names)))


def polynomial(dim: Dim, ranges: Ranges | None = None) -> dict[tuple[str, ...], int]:
    """A size as a polynomial: coefficients by product of names."""
    if not _symbolic(dim):
        return {(): int(dim)} if int(dim) else {}
    text = re.sub(r"\^", "**", str(dim)).strip()  # the text of a size is its public form
    return _polynomial(ast.parse(text, mode="eval").body, ranges or Ranges())


def is_number(dim: Dim) -> bool:
    """Whether a size is an integer."""
    return not _symbolic(dim)


def _symbolic(dim: Dim) -> bool:
    return not isinstance(dim, (int, np.integer))


def _polynomial(node: ast.expr, ranges: Ranges) -> dict[tuple[str, ...], int]:
    match node:
        case ast.Constant(value=int(value)):
            return {(): value} if value else {}
        case ast.Name(id=name):
            return {(name,): 1}
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return {names: -c for names, c in _polynomial(operand, ranges).items()}
        case ast.BinOp(left=left, op=ast.Pow(), right=ast.Constant(value=int(power))):
            return _product([_polynomial(left, ranges)] * power)
        case ast.BinOp(left=left, op=ast.Mult(), right=right):
            return _product([_polynomial(left, ranges), _polynomial(right, ranges)])
        case ast.BinOp(left=left, op=ast.Add() | ast.Sub() as op, right=right):
            sign = 1 if isinstance(op, ast.Add) else -1
            return _sum(_polynomial(left, ranges), _polynomial(right, ranges), sign)
        case ast.Call(func=ast.Name(id=function), args=[left, right]):
            found = _integer_function(function, _polynomial(left, ranges), _polynomial(right, ranges), ranges)
            if found is not None:
                return found
    raise Unexpressible(f"the size {ast.unparse(node)} has no affine form")


def _integer_function(function: str, a: Any, b: Any, ranges: Ranges) -> dict[tuple[str, ...], int] | None:
    """mod, floordiv, max and min of sizes, where what is known of the names decides them."""
    if any(len(names) > 1 for names in (*a, *b)):
        return None
    left, right = (Affine(p.get((), 0), tuple(sorted((k[0], c) for k, c in p.items() if k))) for p in (a, b))
    if function in ("max", "min"):
        order = ranges.nonnegative(left - right)
        if order is None:
            return b if ranges.nonnegative(right - left) and function == "max" else None
        return a if order == (function == "max") else b
    for quotient in (*range(-2, 3), *_exact_quotients(a, b)):
        rest = left - right * quotient  # 0 <= rest < right
        if ranges.nonnegative(rest) and ranges.nonnegative(right - rest - 1):
            remainder = {((name,) if name else ()): int(c) for name, c in (("", rest.const), *rest.terms) if c}
            return remainder if function == "mod" else ({(): quotient} if quotient else {})
    divisor = b.get((), 0)
    if function == "floordiv" and set(b) == {()} and divisor > 0 and all(c % divisor == 0 for c in a.values()):
        return {names: c // divisor for names, c in a.items()}
    if function == "mod" and set(b) == {()} and divisor > 0 and all(c % divisor == 0 for c in a.values()):
        return {}
    return None


def _exact_quotients(a: Any, b: Any) -> list[int]:
    return [c // b[names] for names, c in a.items() if b.get(names)]


def _sum(a: Mapping[Any, int], b: Mapping[Any, int], sign: int = 1) -> dict[Any, int]:
    total = {names: a.get(names, 0) + sign * b.get(names, 0) for names in {**a, **b}}
    return {names: c for names, c in total.items() if c}


def _product(factors: Sequence[Mapping[Any, int]]) -> dict[Any, int]:
    total: dict[Any, int] = {(): 1}
    for factor in factors:
        step: dict[Any, int] = {}
        for left, c in total.items():
            for right, d in factor.items():
                names = tuple(sorted((*left, *right)))
                step[names] = step.get(names, 0) + c * d
        total = {names: c for names, c in step.items() if c}
    return total


# Digits: indices into merged axes


@dataclass(frozen=True, slots=True)
class Digits:
    """An index into a merged axis: (digit, size) pairs, the most significant first."""

    parts: tuple[tuple[Affine, Dim], ...]


Index = Affine | Digits


def number(index: Index) -> int:
    """The index as a number; asks for its names where it has some."""
    place = flat(index)
    if place.terms:
        raise NeedsConcrete(place.terms[0][0])
    return int(place.const)


def flat(index: Index) -> Affine:
    """The index as one affine expression."""
    if isinstance(index, Affine):
        return index
    total, weight = Affine(), 1
    for k, (digit, size) in enumerate(reversed(index.parts)):
        if not isinstance(weight, int) or (weight != 1 and not is_number(weight)):
            if digit == Affine():
                continue
            raise Unexpressible("an index into a merged axis of several unknown sizes")
        total = total + digit * weight
        if k < len(index.parts) - 1:
            weight = weight * size if is_number(size) else size
    return total


def joined(parts: Sequence[tuple[Index, Dim]]) -> Index:
    """The index made of digits; single where only one digit counts."""
    digits: list[tuple[Affine, Dim]] = []
    for index, size in parts:
        digits.extend(index.parts if isinstance(index, Digits) else [(index, size)])
    digits = [(digit, size) for digit, size in digits if not (is_number(size) and size == 1)]
    if not digits:
        return Affine()
    if len(digits) == 1:
        return digits[0][0]
    if all(d.constant for d, _ in digits) and all(is_number(s) for _, s in digits[1:]):
        return flat(Digits(tuple(digits)))
    return Digits(tuple(digits))


def split(index: Index, sizes: Sequence[Dim]) -> list[Index]:
    """The digits of an index in a system of `sizes`, the inverse of `joined`.

    >>> split(Affine(5), [2, 3])
    [Affine(const=1, terms=()), Affine(const=2, terms=())]
    """
    large = [k for k, size in enumerate(sizes) if not (is_number(size) and size == 1)]
    if len(large) <= 1:
        return [index if k in large else Affine() for k in range(len(sizes))]
    if isinstance(index, Digits) and (grouped := _grouped(index.parts, [sizes[k] for k in large])) is not None:
        return _spread(grouped, large, len(sizes))
    if not all(is_number(sizes[k]) for k in large[1:]):
        if flat(index) == Affine():
            return [Affine() for _ in sizes]
        raise Unexpressible("an index into an axis that was merged from axes of unknown size")
    rest, found = number(index), []
    for k in reversed(large[1:]):
        rest, digit = divmod(rest, int(sizes[k]))
        found.append(Affine(digit))
    return _spread([Affine(rest), *reversed(found)], large, len(sizes))


def _spread(found: Sequence[Index], places: Sequence[int], length: int) -> list[Index]:
    by_place = dict(zip(places, found, strict=True))
    return [by_place.get(k, Affine()) for k in range(length)]


def _grouped(parts: Sequence[tuple[Affine, Dim]], sizes: Sequence[Dim]) -> list[Index] | None:
    """Consecutive digits gathered so that each group has the size that is asked for."""
    found: list[Index] = []
    queue = list(parts)
    for size in sizes:
        group: list[tuple[Affine, Dim]] = []
        have: Dim = 1
        while queue and not same(have, size):
            group.append(queue.pop(0))
            have = have * group[-1][1]
        if not same(have, size):
            return None
        found.append(joined(group))
    return found if not queue else None


def same(a: Dim, b: Dim) -> bool:
    """Whether two sizes are equal whatever the names stand for."""
    return polynomial(a) == polynomial(b)


def blocks(old: Sequence[Dim], new: Sequence[Dim]) -> list[tuple[list[int], list[int]]]:
    """The axes of a reshape in groups of equal product, as places in `old` and in `new`.

    >>> blocks([2, 3, 5], [6, 5])
    [([0, 1], [0]), ([2], [1])]
    """
    found: list[tuple[list[int], list[int]]] = []
    i = j = 0
    while i < len(old) or j < len(new):
        left, right = [], []
        a: Dim = 1
        b: Dim = 1
        while True:
            if left or right:
                if same(a, b):
                    break
            take_left = i < len(old) and (j >= len(new) or _divides(a, b) or not left)
            if take_left:
                left.append(i)
                a, i = a * old[i], i + 1
            elif j < len(new):
                right.append(j)
                b, j = b * new[j], j + 1
            else:
                break
        found.append((left, right))
    return found


def _divides(a: Dim, b: Dim) -> bool:
    """Whether the product `a` is still the smaller one: it lacks factors of `b`."""
    if is_number(a) and is_number(b):
        return a < b
    left, right = polynomial(a), polynomial(b)
    degree = lambda p: max((len(names) for names in p), default=0)
    return (degree(left), max(left.values(), default=0)) < (degree(right), max(right.values(), default=0))


def decided(function: Callable[[Rational, Rational], bool], a: Affine, b: Affine, ranges: Ranges) -> bool | None:
    """Whether a comparison of affine expressions holds for all values of their names; None where that is open."""
    difference = b - a
    if difference.constant:
        return function(0, difference.const)
    ge, le = ranges.lower(difference), ranges.lower(-difference)
    if function in (operator.le, operator.lt):
        if ge is not None and function(0, ge):
            return True
        return False if le is not None and not function(0, -le) else None
    apart = (ge is not None and ge > 0) or (le is not None and le > 0)
    return None if not apart else function is operator.ne
