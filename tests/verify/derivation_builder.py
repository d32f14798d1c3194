"""Random terms and formulas of the derivation kernel, and their values, computed here a second way."""

import random
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import mpmath

from axiom_jax.verification import derivation_checker as kernel
from axiom_jax.verification.derivation_checker import Affine, Node

DIGITS = 60
CLOSE = mpmath.mpf(10) ** -25
ENTRIES = 1 << 16  # of variables, that are looked at before a value counts as too long a sum
Number = Fraction | mpmath.mpf


class Unclear(Exception):
    """Two numbers are too close to be compared, or one is too large, or of too many terms, to be computed."""


def number(x: Number) -> mpmath.mpf:
    return mpmath.mpf(x.numerator) / x.denominator if isinstance(x, Fraction) else x


def below(a: Number, b: Number) -> bool:
    """a < b, exactly for rationals."""
    if isinstance(a, Fraction) and isinstance(b, Fraction):
        return a < b
    if same(a, b):
        raise Unclear
    return bool(number(a) < number(b))


def same(a: Number, b: Number) -> bool:
    if isinstance(a, Fraction) and isinstance(b, Fraction):
        return a == b
    a, b = number(a), number(b)
    return bool(abs(a - b) <= CLOSE * max(1, abs(a), abs(b)))


class Point:
    """Values for the names of a term: integers for indices and sizes, a function of integers for each variable."""

    def __init__(self, integers: dict[str, int], seed: int, asked: list[int] | None = None) -> None:
        self.integers, self.seed = integers, seed
        self.asked = [0] if asked is None else asked  # how many entries, of this point and all that came of it

    def entry(self, name: str, index: tuple[int, ...]) -> Fraction:
        self.asked[0] += 1
        if self.asked[0] > ENTRIES:
            raise Unclear
        chosen = random.Random(repr((self.seed, name, index)))
        return Fraction(chosen.randint(-6, 6), chosen.choice([1, 1, 1, 2, 3]))

    def affine(self, e: Affine) -> int:
        return e.const + sum(k * self.integers[n] for n, k in e.terms)

    def under(self, name: str, value: int) -> "Point":
        return Point(self.integers | {name: value}, self.seed, self.asked)


def value(t: Node, at: Point) -> Number:
    """The value of a term, as docs/derivation-format.md defines it."""
    op, args = t.op, t.args
    if op == "const":
        return args[0]
    if op == "int":
        return Fraction(at.affine(args[0]))
    if op == "var":
        return at.entry(args[0], tuple(at.affine(e) for e in args[1:]))
    if op in ("add", "mul"):
        result: Any = Fraction(op == "mul")
        for a in args:
            v = value(a, at)
            mixed = isinstance(result, Fraction) and isinstance(v, Fraction)
            left, right = (result, v) if mixed else (number(result), number(v))
            result = left + right if op == "add" else left * right
        return result
    if op == "pow":
        return value(args[0], at) ** args[1]
    if op == "max":
        a, b = value(args[0], at), value(args[1], at)
        return b if same(a, b) or below(a, b) else a
    if op == "ite":
        return value(args[1] if truth(args[0], at) else args[2], at)
    if op in ("sum", "bigmax"):
        size, name = at.affine(args[0]), f"#{t.height}"
        if size > ENTRIES:
            raise Unclear
        each = [value(args[1], at.under(name, k)) for k in range(size)]
        if op == "sum":
            return sum(each, Fraction(0)) if all(isinstance(v, Fraction) for v in each) else sum(map(number, each))
        best = each[0] if each else Fraction(0)
        for v in each[1:]:
            best = v if not same(best, v) and below(best, v) else best
        return best
    if op == "apply":
        seen = [repr(number(value(a, at)))[:25] for a in args[1:]]
        return Fraction(random.Random(repr((args[0], seen))).randint(-5, 5))
    return function(op, value(args[0], at))


def function(op: str, x: Number) -> Number:
    if op == "inv":
        if same(x, Fraction(0)) and not isinstance(x, Fraction):
            raise Unclear
        return (1 / x if x else Fraction(0)) if isinstance(x, Fraction) else 1 / x
    if op == "sqrt":
        return mpmath.sqrt(number(x)) if below(Fraction(0), x) else Fraction(0)
    if op == "log":
        if not isinstance(x, Fraction) and same(x, Fraction(0)):
            raise Unclear
        return mpmath.log(number(x)) if below(Fraction(0), x) else (5 - x) / 7
    if abs(number(x)) > (300 if op == "exp" else 1000):
        raise Unclear
    return {"exp": mpmath.exp, "erf": mpmath.erf, "sin": mpmath.sin, "cos": mpmath.cos}[op](number(x))


def truth(f: Node, at: Point) -> bool:
    op, args = f.op, f.args
    if op in ("true", "false"):
        return op == "true"
    if op in ("le", "lt", "eq", "ne"):
        a, b = value(args[0], at), value(args[1], at)
        if op in ("eq", "ne"):
            return same(a, b) == (op == "eq")
        return below(a, b) if op == "lt" else not below(b, a)
    if op in ("ile", "ilt", "ieq"):
        a, b = at.affine(args[0]), at.affine(args[1])
        return a <= b if op == "ile" else a < b if op == "ilt" else a == b
    if op == "not":
        return not truth(args[0], at)
    if op == "implies":
        return not truth(args[0], at) or truth(args[1], at)
    if op in ("and", "or"):
        each = [truth(g, at) for g in args]
        return all(each) if op == "and" else any(each)
    if op in ("exists", "forall"):
        raise Unclear
    each = [truth(args[1], at.under(f"#{f.height}", k)) for k in range(at.affine(args[0]))]
    return all(each) if op == "all" else any(each)


class Sampler:
    """Random terms: small, with many coincidences, over x[.], y[., .], z and sizes n, m."""

    def __init__(self, rng: random.Random) -> None:
        self.rng, self.names = rng, 0

    def index(self, scope: list[str]) -> Affine:
        e = kernel.affine(self.rng.choice([0, 0, 1, -1]))
        for _ in range(self.rng.choice([0, 1, 1, 2])):
            e = kernel.shifted(e, self.rng.choice([*scope, "n", "m"]), self.rng.choice([1, 1, -1, 2]))
        return e

    def size(self, scope: list[str]) -> Affine:
        options = ["n", "n", "m", 1, 2, kernel.shifted("n", -1), kernel.shifted("n", -2), kernel.shifted("n", "m")]
        return kernel.affine(self.rng.choice([*options, *(kernel.shifted(s, 1) for s in scope)]))

    def number(self) -> Node:
        return kernel.const(Fraction(self.rng.choice([0, 1, 1, 2, -1, -2, 3, 4]), self.rng.choice([1, 1, 1, 2, 3])))

    def bound(self, scope: list[str]) -> tuple[str, list[str]]:
        self.names += 1
        name = f"@b{self.names}" if self.rng.random() < 0.8 or not scope else self.rng.choice(scope)
        return name, [*scope, name]

    def term(self, depth: int, scope: list[str]) -> Node:
        pick = self.rng.random()
        if depth <= 0 or pick < 0.12:
            leaves: list[Callable[[], Node]] = [
                self.number,
                lambda: kernel.var("x", self.index(scope)),
                lambda: kernel.var("x", self.rng.choice(scope or ["n"])),
                lambda: kernel.var("y", self.index(scope), self.index(scope)),
                lambda: kernel.var("z"),
                lambda: kernel.integer(self.index(scope)),
            ]
            return self.rng.choice(leaves)()
        sub = lambda: self.term(depth - 1, scope)
        if pick < 0.32:
            return kernel.add(*(sub() for _ in range(self.rng.choice([2, 2, 3]))))
        if pick < 0.50:
            return kernel.mul(*(sub() for _ in range(2)))
        if pick < 0.56:
            return kernel.power(sub(), self.rng.choice([0, 1, 2, 2, 3]))
        if pick < 0.64:
            return kernel.maximum(sub(), sub())
        if pick < 0.71:
            return kernel.ite(self.formula(depth - 1, scope), sub(), sub())
        if pick < 0.84:
            op = self.rng.choice(["inv", "inv", "exp", "exp", "log", "sqrt", "erf", "sin", "cos"])
            return kernel.make(op, sub())
        if pick < 0.86:
            return kernel.apply("f", sub())
        name, inner = self.bound(scope)
        binder = kernel.total if self.rng.random() < 0.65 else kernel.bigmax
        size = self.size([s for s in scope if s != name])
        return binder(name, size, self.term(depth - 1, inner))

    def formula(self, depth: int, scope: list[str]) -> Node:
        pick = self.rng.random()
        if depth <= 0 or pick < 0.45:
            if self.rng.random() < 0.4:
                return self.rng.choice([kernel.ile, kernel.ilt, kernel.ieq])(self.index(scope), self.index(scope))
            compare = self.rng.choice([kernel.le, kernel.lt, kernel.eq, kernel.ne])
            return compare(self.term(depth - 1, scope), self.term(depth - 1, scope))
        sub = lambda: self.formula(depth - 1, scope)
        if pick < 0.75:
            op = self.rng.choice([kernel.conj, kernel.disj, kernel.implies])
            return op(sub(), sub())
        if pick < 0.82:
            return kernel.negation(sub())
        name, inner = self.bound(scope)
        binder = self.rng.choice([kernel.every, kernel.some])
        return binder(name, self.size([s for s in scope if s != name]), self.formula(depth - 1, inner))

    def point(self, *indices: str) -> Point:
        integers = {"n": self.rng.choice([1, 1, 2, 3]), "m": self.rng.choice([1, 2, 3])}
        return Point(integers | {i: self.rng.choice([0, 0, 1, 2]) for i in indices}, self.rng.randrange(1 << 30))
