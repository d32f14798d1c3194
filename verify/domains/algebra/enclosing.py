"""The value of a term at a rational point: exact where it is rational, else rational bounds of it.

Functions are computed by mpmath at 60 digits and widened by 45; good for judging candidates, not a certificate.
"""

from collections.abc import Mapping
from fractions import Fraction
from functools import lru_cache
from typing import Any

from axiom_jax.verification.domains.algebra import terms as T
from axiom_jax.verification.domains.algebra.terms import Term

DIGITS = 60
Bounds = tuple[Fraction, Fraction]
_WIDEN = Fraction(1, 10**45)
_GRID = 10**60
LARGEST = 2000  # arguments of exp beyond it are not worth their digits


class Undefined(Exception):
    """The term has no value at the point, or none that these bounds can tell."""


def enclosure(term: Term, point: Mapping[str, Fraction]) -> Bounds | bool | None:
    """Bounds of a real term, or the truth of a boolean one (None: too close to tell, or undefined).

    Raises:
        Undefined: a real term that divides by zero, or takes a logarithm or root outside of its domain.

    >>> x = T.variable("x")
    >>> enclosure(T.le(T.call("exp", x), T.number(2)), {"x": Fraction(1, 2)})
    True
    """
    return enclosures([term], point)[0]


def enclosures(roots: list[Term], point: Mapping[str, Fraction]) -> list[Any]:
    """`enclosure` of several terms, sharing the work."""
    known: dict[Term, Any] = {}
    for t in T.topological(roots):
        try:
            known[t] = _value(t, [known[a] for a in t.args], point)
        except Undefined as error:
            known[t] = None if t.boolean else error
    for t in roots:
        if isinstance(known[t], Undefined):
            raise known[t]
    return [known[t] for t in roots]


def _value(t: Term, args: list[Any], point: Mapping[str, Fraction]) -> Any:
    match t.op:
        case "number":
            return t.value, t.value
        case "truth":
            return t.value
        case "variable":
            return point[t.value], point[t.value]
        case "not":
            return None if args[0] is None else not args[0]
        case "and":
            return False if False in args else None if None in args else True
        case "or":
            return True if True in args else None if None in args else False
        case "ite":
            return _choice(t, *args)
        case "infinite" | "undefined":
            raise Undefined(t.op)
    for a in args:
        if isinstance(a, Undefined):
            raise a
    if t.op in T.COMPARISONS:
        return _comparison(t.op, *args)
    return _rounded(_real(t, args))


def _choice(t: Term, condition: bool | None, a: Any, b: Any) -> Any:
    if condition is not None:
        chosen = a if condition else b
    elif t.boolean:
        return a if a is b else None
    else:
        chosen = next((x for x in (a, b) if isinstance(x, Undefined)), None) or (min(a[0], b[0]), max(a[1], b[1]))
    if isinstance(chosen, Undefined):
        raise chosen
    return chosen


def _comparison(op: str, a: Any, b: Any) -> bool | None:
    if isinstance(a, bool) or isinstance(b, bool) or a is None or b is None:
        return None if a is None or b is None else a == b
    (al, ah), (bl, bh) = a, b
    if op == "eq":
        return True if al == ah == bl == bh else False if ah < bl or bh < al else None
    if op == "le":
        return True if ah <= bl else False if al > bh else None
    return True if ah < bl else False if al >= bh else None


def _real(t: Term, args: list[Bounds]) -> Bounds:
    match t.op:
        case "add":
            return sum((a for a, _ in args), Fraction(0)), sum((b for _, b in args), Fraction(0))
        case "mul":
            result = args[0]
            for other in args[1:]:
                result = _rounded(_product(result, other))
            return result
        case "div":
            low, high = args[1]
            if low <= 0 <= high:
                raise Undefined("division by zero")
            return _product(args[0], (1 / high, 1 / low))
        case "pow":
            ends = [args[0][0] ** t.value, args[0][1] ** t.value]
            spans = t.value % 2 == 0 and args[0][0] <= 0 <= args[0][1]
            return (Fraction(0) if spans else min(ends)), max(ends)
        case "max":
            return max(a for a, _ in args), max(b for _, b in args)
        case "min":
            return min(a for a, _ in args), min(b for _, b in args)
        case "abs":
            low, high = args[0]
            return (Fraction(0) if low <= 0 <= high else min(abs(low), abs(high))), max(abs(low), abs(high))
        case "floor":
            return Fraction(args[0][0].__floor__()), Fraction(args[0][1].__floor__())
        case "root":
            return _root(args[0], t.value)
        case "call":
            return _call(t.value, *args[0])
    raise AssertionError(t.op)


def _product(a: Bounds, b: Bounds) -> Bounds:
    products = [x * y for x in a for y in b]
    return min(products), max(products)


def _rounded(bounds: Bounds) -> Bounds:
    """Outward to a grid once the ends have grown; exact values stay exact up to 4000 bits."""
    low, high = bounds
    if low == high and max(low.denominator.bit_length(), low.numerator.bit_length()) < 4000:
        return bounds
    if low.denominator.bit_length() > 400:
        low = Fraction((low * _GRID).__floor__(), _GRID)
    if high.denominator.bit_length() > 400:
        high = Fraction((high * _GRID).__ceil__(), _GRID)
    return low, high


def _root(a: Bounds, k: int) -> Bounds:
    from mpmath import mp

    if k == 2 and a[0] < 0:
        raise Undefined("root of a negative number")
    with mp.workdps(DIGITS):
        real = lambda x: mp.sqrt(_mpf(x)) if k == 2 else mp.sign(_mpf(x)) * mp.cbrt(abs(_mpf(x)))
        low, high = _widened(real(a[0]), -1), _widened(real(a[1]), 1)
    return (max(low, Fraction(0)) if k == 2 else low), high


def _call(name: str, low: Fraction, high: Fraction) -> Bounds:
    decreasing = name == "acos"
    if name in ("log", "lgamma", "digamma") and low <= 0:
        raise Undefined(f"{name} of a number that is not positive")
    if (name in ("asin", "acos") and not -1 <= low <= high <= 1) or (name == "erf_inv" and not -1 < low <= high < 1):
        raise Undefined(f"{name} outside of [-1, 1]")
    if name in ("sin", "cos", "lgamma"):
        middle, radius = (low + high) / 2, (high - low) / 2
        below, above = function_bounds(name, middle)
        slack = radius if name != "lgamma" else radius * (10 + abs(middle) + 1 / low)
        below, above = below - slack, above + slack
        return (max(below, Fraction(-1)), min(above, Fraction(1))) if name != "lgamma" else (below, above)
    ends = function_bounds(name, low), function_bounds(name, high)
    return (ends[1][0], ends[0][1]) if decreasing else (ends[0][0], ends[1][1])


@lru_cache(maxsize=8192)
def function_bounds(name: str, x: Fraction) -> Bounds:
    """Rational bounds of a function at a rational."""
    from mpmath import mp

    if name == "exp" and abs(x) > LARGEST:
        if x > 0:
            raise Undefined("a number too large to write down")
        return Fraction(0), Fraction(1, 10**800)
    if (exact := T.call(name, T.number(x))).op == "number":
        return exact.value, exact.value
    function = _functions().get(name)
    if function is None:
        raise Undefined(f"nothing is known of {name}")
    with mp.workdps(DIGITS + 10):
        value = function(_mpf(x))
    if mp.im(value) != 0 or not mp.isfinite(value):
        raise Undefined(f"{name} has no real value there")
    low, high = _widened(value, -1), _widened(value, 1)
    return (max(low, Fraction(0)) if name in T.POSITIVE else low), high


def _functions() -> dict[str, Any]:
    from mpmath import mp

    return {
        "exp": mp.exp, "log": mp.log, "tanh": mp.tanh, "erf": mp.erf, "sin": mp.sin, "cos": mp.cos, "atan": mp.atan,
        "asin": mp.asin, "acos": mp.acos, "erf_inv": mp.erfinv, "lgamma": mp.loggamma, "digamma": mp.digamma,
        "logistic": lambda x: 1 / (1 + mp.exp(-x)) if x > -LARGEST else mp.mpf(0),
    }  # fmt: skip


def _mpf(x: Fraction) -> Any:
    from mpmath import mp

    return mp.mpf(x.numerator) / x.denominator


def _widened(value: Any, side: int) -> Fraction:
    """An mpmath number as a rational, moved outward by far more than its rounding error."""
    sign, mantissa, exponent, _ = value.real._mpf_
    whole = int(-mantissa if sign else mantissa)
    exact = Fraction(whole << exponent) if exponent >= 0 else Fraction(whole, 1 << -exponent)
    return exact + side * _WIDEN * max(Fraction(1), abs(exact))
