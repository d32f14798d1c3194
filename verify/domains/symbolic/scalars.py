"""One entry of an array as terms of the kernel: its value, where it is infinite, and what it needs to be defined.

A real entry is a term (or an affine expression of sizes and indices, kept apart because comparisons of those can be
decided), with formulas that say where it is +∞ or -∞ instead, as `where(mask, x, -inf)` makes it. `defined` holds the
conditions without which JAX's result would be NaN: divisors, logarithms, roots. All meaning is over the reals.
"""

import operator
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

from axiom_jax.verification import derivation_checker as kernel
from axiom_jax.verification.derivation_checker import FALSE, TRUE, Node
from axiom_jax.verification.domains.symbolic.indexing import Affine, Ranges, Rational, Unexpressible, decided

Formula = Node


@dataclass(frozen=True, slots=True)
class Scalar:
    """An entry: real or integer (a term or an affine expression) or boolean (a formula)."""

    value: Any
    pinf: Formula = FALSE
    ninf: Formula = FALSE
    defined: tuple[Formula, ...] = ()

    @property
    def finite(self) -> bool:
        """Whether it is never infinite."""
        return self.pinf is FALSE and self.ninf is FALSE

    @property
    def number(self) -> Rational | None:
        """Its value if it is a known number."""
        known = isinstance(self.value, Affine) and self.value.constant and self.finite and not self.defined
        return self.value.const if known else None


@dataclass(frozen=True, eq=False)
class Chosen:
    """An integer in 0, ..., size - 1 known by a condition that exactly one index meets, such as an argmax.

    Args:
        fresh: a name of an index that nothing else uses, another one at every call.
        holds: the condition as a formula, of any index.
    """

    fresh: Callable[[], str]
    size: Affine
    holds: Callable[[Affine], Formula]

    def real(self) -> Node:
        """The integer as a term: the sum of all indices, times whether they are the one."""
        name = self.fresh()
        k = Affine.name(name)
        return kernel.total(name, index(self.size), kernel.ite(self.holds(k), term(k), kernel.ZERO))

    def equals(self, other: Any, ranges: Ranges) -> Formula:
        """Whether it is another integer."""
        if isinstance(other, Chosen):
            name = self.fresh()
            k, less = Affine.name(name), ranges.nonnegative(other.size - self.size)
            size = self.size if less else other.size
            ranges.bounds[name] = size
            inside = TRUE if less is not None else _compare("lt", k, self.size, ranges)
            return kernel.some(name, index(size), conj([inside, self.holds(k), other.holds(k)]))
        if isinstance(other, Affine) and other.integral:
            inside = [_compare("le", Affine(), other, ranges), _compare("lt", other, self.size, ranges)]
            return conj([*inside, self.holds(other)])
        return kernel.eq(self.real(), term(other))


Rule = Callable[..., Scalar]


def constant(x: Rational) -> Scalar:
    """A number as an entry."""
    return Scalar(Affine(x))


def literal(x: Any) -> Scalar:
    """An element of a numpy array as an entry, exactly."""
    if x.dtype == bool:
        return Scalar(TRUE if x else FALSE)
    if x.dtype.kind in "iu":
        return constant(int(x))
    if x.dtype.kind == "c":
        raise Unexpressible("complex numbers")
    x = float(x)
    if x != x:
        return Scalar(Affine(), defined=(FALSE,))
    if x in (float("inf"), -float("inf")):
        return Scalar(Affine(), pinf=TRUE) if x > 0 else Scalar(Affine(), ninf=TRUE)
    value = Fraction(x)
    return constant(value.numerator if value.denominator == 1 else value)


def term(value: Any) -> Node:
    """A value as a term of the kernel."""
    if isinstance(value, Chosen):
        return value.real()
    if not isinstance(value, Affine):
        return value
    if value.integral and value.terms:
        return kernel.integer(index(value))
    parts = [kernel.mul(c, kernel.integer(name)) if c != 1 else kernel.integer(name) for name, c in value.terms]
    if value.const or not parts:
        parts.append(kernel.const(value.const))
    return kernel.add(*parts)


def index(a: Affine) -> kernel.Affine:
    """An affine expression as an index of the kernel."""
    if not a.integral:
        raise Unexpressible("an index that is no integer")
    return kernel.Affine(int(a.const), tuple((name, int(c)) for name, c in a.terms))


# Formulas, with what is decided left out


def conj(parts: Iterable[Formula]) -> Formula:
    kept = list(dict.fromkeys(p for p in parts if p is not TRUE))
    if FALSE in kept:
        return FALSE
    return TRUE if not kept else kept[0] if len(kept) == 1 else kernel.conj(*kept)


def disj(parts: Iterable[Formula]) -> Formula:
    kept = list(dict.fromkeys(p for p in parts if p is not FALSE))
    if TRUE in kept:
        return TRUE
    return FALSE if not kept else kept[0] if len(kept) == 1 else kernel.disj(*kept)


def negation(f: Formula) -> Formula:
    """not f; comparisons turn into their opposites."""
    if f in (TRUE, FALSE):
        return FALSE if f is TRUE else TRUE
    match f.op:
        case "not":
            return f.args[0]
        case "le":
            return kernel.lt(f.args[1], f.args[0])
        case "lt":
            return kernel.le(f.args[1], f.args[0])
        case "eq":
            return kernel.ne(*f.args)
        case "ne":
            return kernel.eq(*f.args)
        case "ile":
            return kernel.ilt(f.args[1], f.args[0])
        case "ilt":
            return kernel.ile(f.args[1], f.args[0])
    return kernel.negation(f)


def implication(a: Formula, b: Formula) -> Formula:
    if a is TRUE or b is TRUE:
        return b
    return TRUE if a is FALSE or a is b else negation(a) if b is FALSE else kernel.implies(a, b)


def choice(condition: Formula, yes: Formula, no: Formula) -> Formula:
    """The formula that is `yes` where the condition holds and `no` elsewhere."""
    if yes is no:
        return yes
    return disj([conj([condition, yes]), conj([negation(condition), no])])


def union(*parts: Sequence[Formula]) -> tuple[Formula, ...]:
    """Conditions put together, each once."""
    filled = [p for p in parts if p]
    if len(filled) <= 1:
        return tuple(filled[0]) if filled else ()
    return tuple(dict.fromkeys(f for p in filled for f in p if f is not TRUE))


def under(condition: Formula, parts: Iterable[Formula]) -> tuple[Formula, ...]:
    """What is needed where a condition holds."""
    return tuple(g for f in parts if (g := implication(condition, f)) is not TRUE)


def finite(s: Scalar) -> Scalar:
    """The entry, with the demand that it is finite."""
    if s.finite:
        return s
    return Scalar(s.value, defined=union(s.defined, (negation(s.pinf), negation(s.ninf))))


# Arithmetic


def neg(a: Scalar) -> Scalar:
    return Scalar(-a.value if isinstance(a.value, Affine) else _negated(term(a.value)), a.ninf, a.pinf, a.defined)


def _negated(t: Node) -> Node:
    if t.op == "mul" and t.args[0].op == "const":
        factor = kernel.const(-t.args[0].args[0])
        return kernel.mul(*t.args[1:]) if factor is kernel.ONE else kernel.mul(factor, *t.args[1:])
    return kernel.neg(t)


def add(*parts: Scalar) -> Scalar:
    """The sum; +∞ with -∞ has no value."""
    known = Affine()
    terms: list[Node] = []
    for p in parts:
        if isinstance(p.value, Affine):
            known = known + p.value
        else:
            value = term(p.value)
            terms.extend(value.args if value.op == "add" else [value])
    if terms and known != Affine():
        terms.append(term(known))
    defined = union(*(p.defined for p in parts))
    value = kernel.add(*terms) if terms else known
    if all(p.finite for p in parts):
        return Scalar(value, defined=defined)
    pinf, ninf = disj(p.pinf for p in parts), disj(p.ninf for p in parts)
    clash = negation(conj([pinf, ninf]))
    return Scalar(value, pinf, ninf, union(defined, (clash,)))


def sub(a: Scalar, b: Scalar) -> Scalar:
    if a.value == b.value and a.finite and b.finite:
        return Scalar(Affine(), defined=union(a.defined, b.defined))
    return add(a, neg(b))


def mul(a: Scalar, b: Scalar) -> Scalar:
    a, b = finite(a), finite(b)
    defined = union(a.defined, b.defined)
    for x, y in ((a.value, b.value), (b.value, a.value)):
        if isinstance(x, Affine) and x.constant:
            if isinstance(y, Affine):
                return Scalar(y * x.const, defined=defined)
            if x.const in (0, 1):
                return Scalar(y if x.const else Affine(), defined=defined)
    return Scalar(kernel.mul(term(a.value), term(b.value)), defined=defined)


def power(a: Scalar, k: int) -> Scalar:
    """a^k; for k < 0 a must not be zero."""
    if k < 0:
        return power(reciprocal(a), -k)
    a = finite(a)
    if isinstance(a.value, Affine) and a.value.constant:
        return Scalar(Affine(a.value.const**k), defined=a.defined)
    if k <= 1:
        return a if k else Scalar(Affine(1), defined=a.defined)
    if k > kernel.MAX_POWER:
        raise Unexpressible(f"the power {k}")
    return Scalar(kernel.power(term(a.value), k), defined=a.defined)


def nonzero(a: Scalar, ranges: Ranges | None = None) -> Formula:
    zero = decided(operator.eq, a.value, Affine(), ranges or Ranges()) if isinstance(a.value, Affine) else None
    if zero is not None:
        return FALSE if zero else TRUE
    return kernel.ne(term(a.value), kernel.ZERO)


def reciprocal(a: Scalar) -> Scalar:
    """1/a; a must not be zero, and 1/±∞ is 0."""
    needed = nonzero(a)
    known = isinstance(a.value, Affine) and a.value.constant and a.value.const
    value: Any = kernel.inv(term(a.value))
    if known:
        inverse = 1 / Fraction(known)
        value = Affine(inverse.numerator if inverse.denominator == 1 else inverse)
    infinite = disj([a.pinf, a.ninf])
    if infinite is not FALSE:
        value = kernel.ite(infinite, kernel.ZERO, term(value))
        needed = implication(negation(infinite), needed)
    return Scalar(value, defined=union(a.defined, (needed,)))


def div(a: Scalar, b: Scalar) -> Scalar:
    return mul(a, reciprocal(b))


def maximum(a: Scalar, b: Scalar) -> Scalar:
    defined = union(a.defined, b.defined)
    if isinstance(a.value, Affine) and isinstance(b.value, Affine) and (a.value - b.value).constant:
        value = a.value if (a.value - b.value).const >= 0 else b.value
    else:
        value = kernel.maximum(term(a.value), term(b.value))
    if a.finite and b.finite:
        return Scalar(value, defined=defined)
    value = one_of(a.ninf, b.value, one_of(b.ninf, a.value, value))
    return Scalar(value, disj([a.pinf, b.pinf]), conj([a.ninf, b.ninf]), defined)


def minimum(a: Scalar, b: Scalar) -> Scalar:
    if a.finite and b.finite and not (a.number is not None and b.number is not None):
        largest = kernel.maximum(_negated(term(a.value)), _negated(term(b.value)))
        return Scalar(_negated(largest), defined=union(a.defined, b.defined))
    return neg(maximum(neg(a), neg(b)))


def absolute(a: Scalar) -> Scalar:
    if (x := a.number) is not None:
        return constant(abs(x))
    return Scalar(kernel.absolute(term(a.value)), disj([a.pinf, a.ninf]), FALSE, a.defined)


def one_of(condition: Formula, yes: Any, no: Any) -> Any:
    """A value by a condition."""
    if condition is TRUE or yes == no:
        return yes
    return no if condition is FALSE else kernel.ite(condition, term(yes), term(no))


def select(condition: Scalar, yes: Scalar, no: Scalar, boolean: bool = False) -> Scalar:
    """`where(condition, yes, no)`; what the other branch would need is not needed."""
    chosen = condition.value
    if chosen in (TRUE, FALSE):
        kept = yes if chosen is TRUE else no
        return replace(kept, defined=union(condition.defined, kept.defined))
    value = choice(chosen, yes.value, no.value) if boolean else one_of(chosen, yes.value, no.value)
    shared = [f for f in yes.defined if f in no.defined]
    needed = under(chosen, (f for f in yes.defined if f not in shared))
    needed += under(negation(chosen), (f for f in no.defined if f not in shared))
    pinf, ninf = choice(chosen, yes.pinf, no.pinf), choice(chosen, yes.ninf, no.ninf)
    return Scalar(value, pinf, ninf, union(condition.defined, shared, needed))


def sign(a: Scalar) -> Scalar:
    if (x := a.number) is not None:
        return constant((x > 0) - (x < 0))
    t = term(a.value)
    positive = disj([a.pinf, conj([negation(a.ninf), kernel.lt(kernel.ZERO, t)])])
    negative = disj([a.ninf, conj([negation(a.pinf), kernel.lt(t, kernel.ZERO)])])
    value = kernel.ite(positive, kernel.ONE, kernel.ite(negative, kernel.const(-1), kernel.ZERO))
    return Scalar(value, defined=a.defined)


# Comparisons


def compare(name: str, a: Scalar, b: Scalar, ranges: Ranges) -> Scalar:
    """eq, ne, lt, le, gt or ge, of values that may be infinite."""
    if name in ("gt", "ge"):
        return compare({"gt": "lt", "ge": "le"}[name], b, a, ranges)
    if name == "ne":
        equal = compare("eq", a, b, ranges)
        return replace(equal, value=negation(equal.value))
    plain = _compare(name, a.value, b.value, ranges)
    if not (a.finite and b.finite):
        fin = [negation(f) for f in (a.pinf, a.ninf, b.pinf, b.ninf)]
        plain = conj([*fin, plain])
        below = [conj([a.ninf, negation(b.ninf)]), conj([b.pinf, negation(a.pinf)])]
        equal = [conj([a.pinf, b.pinf]), conj([a.ninf, b.ninf])]
        plain = disj([plain, *(below if name in ("lt", "le") else []), *(equal if name in ("le", "eq") else [])])
    return Scalar(plain, defined=union(a.defined, b.defined))


def _compare(name: str, a: Any, b: Any, ranges: Ranges) -> Formula:
    if a == b:
        return FALSE if name == "lt" else TRUE
    if isinstance(a, Chosen) or isinstance(b, Chosen):
        if name == "eq":
            return a.equals(b, ranges) if isinstance(a, Chosen) else b.equals(a, ranges)
        known = _outside(name, a, b, ranges)
        if known is not None:
            return TRUE if known else FALSE
    if isinstance(a, Affine) and isinstance(b, Affine):
        known = decided({"eq": operator.eq, "lt": operator.lt, "le": operator.le}[name], a, b, ranges)
        if known is not None:
            return TRUE if known else FALSE
        difference = b - a
        if difference.integral:
            left = Affine(0, tuple((n, -c) for n, c in difference.terms if c < 0))
            right = difference + left
            make = {"eq": kernel.ieq, "lt": kernel.ilt, "le": kernel.ile}[name]
            return make(index(left), index(right))
    if isinstance(b, Affine) and b.constant and (condition := _indicated(a)) is not None:
        return choice(condition, _compare(name, Affine(1), b, ranges), _compare(name, Affine(), b, ranges))
    if isinstance(a, Affine) and a.constant and (condition := _indicated(b)) is not None:
        return choice(condition, _compare(name, a, Affine(1), ranges), _compare(name, a, Affine(), ranges))
    return {"eq": kernel.eq, "lt": kernel.lt, "le": kernel.le}[name](term(a), term(b))


def _outside(name: str, a: Any, b: Any, ranges: Ranges) -> bool | None:
    """Whether an order with a chosen index is decided by its range alone."""
    compare = operator.lt if name == "lt" else operator.le
    if isinstance(a, Chosen) and isinstance(b, Affine):
        ends = (decided(compare, end, b, ranges) for end in (Affine(), a.size - 1))
    elif isinstance(a, Affine) and isinstance(b, Chosen):
        ends = (decided(compare, a, end, ranges) for end in (Affine(), b.size - 1))
    else:
        return None
    low, high = ends
    return low if low == high else None


def _indicated(value: Any) -> Formula | None:
    """The formula where a value is 1, if it is 0 elsewhere."""
    known = isinstance(value, Node) and value.op == "ite" and value.args[1:] == (kernel.ONE, kernel.ZERO)
    return value.args[0] if known else None


# Functions


def exp(a: Scalar) -> Scalar:
    """e^a, also where a is infinite."""
    value = Affine(1) if a.value == Affine() else kernel.exp(term(a.value))
    return Scalar(one_of(a.ninf, Affine(), value), a.pinf, FALSE, a.defined)


def log(a: Scalar) -> Scalar:
    """Needs a > 0."""
    a = finite(a)
    value = Affine() if a.value == Affine(1) else kernel.log(term(a.value))
    return Scalar(value, defined=union(a.defined, (_positive(a, strict=True),)))


def sqrt(a: Scalar) -> Scalar:
    """Needs a ≥ 0."""
    a = finite(a)
    value = a.value if a.value in (Affine(), Affine(1)) else kernel.sqrt(term(a.value))
    return Scalar(value, defined=union(a.defined, (_positive(a, strict=False),)))


def _positive(a: Scalar, strict: bool) -> Formula:
    return _compare("lt" if strict else "le", Affine(), a.value, Ranges())


def total_function(make: Callable[[Node], Node]) -> Rule:
    """A function of all reals, of finite arguments."""

    def rule(a: Scalar) -> Scalar:
        a = finite(a)
        return Scalar(make(term(a.value)), defined=a.defined)

    return rule


erf, sin, cos = (total_function(f) for f in (kernel.erf, kernel.sin, kernel.cos))
ONE, TWO, HALF = constant(1), constant(2), constant(Fraction(1, 2))


def logistic(a: Scalar) -> Scalar:
    return reciprocal(add(ONE, exp(neg(a))))


def tanh(a: Scalar) -> Scalar:
    a = finite(a)
    up, down = exp(a), exp(neg(a))
    return div(sub(up, down), add(up, down))


def cbrt(a: Scalar) -> Scalar:
    a = finite(a)
    root = exp(mul(log(absolute(a)), constant(Fraction(1, 3))))
    zero = Scalar(_compare("eq", a.value, Affine(), Ranges()), defined=a.defined)
    return select(zero, constant(0), mul(sign(a), root))


def sign_of(value: Any) -> int:
    """2 where a value is positive whatever it depends on, 1 where it is not negative, 0 where neither is plain.

    >>> x = kernel.var("x")
    >>> sign_of(kernel.add(kernel.ONE, kernel.power(x, 2))), sign_of(kernel.mul(x, x)), sign_of(x)
    (2, 1, 0)
    """
    if isinstance(value, Affine):
        low = Ranges().lower(value)
        return 0 if low is None or low < 0 else 2 if low > 0 else 1
    if not isinstance(value, Node):
        return 1 if isinstance(value, Chosen) else 0
    op, args = value.op, value.args
    match op:
        case "const":
            return 2 if args[0] > 0 else int(args[0] == 0)
        case "int":
            return sign_of(Affine(args[0].const, args[0].terms)) if not _loose(value) else 0
        case "exp":
            return 2
        case "sqrt":
            return max(1, sign_of(args[0]))
        case "inv":
            return 2 if sign_of(args[0]) == 2 else 0
        case "pow":
            return max(sign_of(args[0]), int(args[1] % 2 == 0)) if args[1] else 2
        case "add":
            signs = [sign_of(a) for a in args]
            return max(signs) if min(signs) else 0
        case "mul":
            if len(args) == 2 and args[0] is args[1]:
                return max(1, sign_of(args[0]))
            return min(map(sign_of, args))
        case "max":
            opposite = any(_negated(a) is b or _negated(b) is a for a, b in (args[:2], args[1::-1]))
            return max(*map(sign_of, args), int(opposite))
        case "ite":
            return min(sign_of(args[1]), sign_of(args[2]))
    return 0


def _loose(value: Node) -> bool:
    return any(name[0] == "#" for name in value.free)


def real_power(a: Scalar, b: Scalar) -> Scalar:
    """a^b: by products and roots for known halves, else exp(b·log a) with a > 0; 0^b is 0 for b > 0 and 0^0 is 1."""
    exponent = b.number
    if exponent is None:
        a, b = finite(a), finite(b)
        zero = _compare("eq", a.value, Affine(), Ranges())
        least = _compare("eq", b.value, Affine(), Ranges())
        needed = union(a.defined, b.defined, (_compare("le", Affine(), b.value, Ranges()),))
        at_zero = Scalar(one_of(least, Affine(1), Affine()), defined=needed)
        return select(Scalar(zero), at_zero, exp(mul(b, log(a))))
    if exponent.denominator == 1 and abs(exponent) > kernel.MAX_POWER:
        raise Unexpressible(f"the power {exponent}")
    if exponent.denominator == 1 and abs(exponent) <= kernel.MAX_POWER:
        return power(a, int(exponent))
    if exponent.denominator == 2 and abs(exponent) <= kernel.MAX_POWER:
        return power(sqrt(a), int(2 * exponent))
    a = finite(a)
    general = exp(mul(b, log(a)))
    if exponent < 0:
        return general
    return select(Scalar(_compare("eq", a.value, Affine(), Ranges()), defined=a.defined), constant(0), general)


def is_finite(a: Scalar) -> Scalar:
    return Scalar(negation(disj([a.pinf, a.ninf])), defined=a.defined)
