"""What every element-wise primitive means over the real numbers."""

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np

from axiom_jax._errors import UnsupportedPrimitive
from axiom_jax.verification.domains.algebra import terms as T
from axiom_jax.verification.domains.algebra.arrays import each, lifted, reals
from axiom_jax.verification.domains.algebra.meaning import defined
from axiom_jax.verification.domains.algebra.terms import Term


def _elementwise(name: str, f: Callable[..., Term]) -> None:
    reals.define(name, lambda *operands, **_: each(f, *operands))


def truncated(t: Term) -> Term:
    """Towards zero."""
    return t if t.integral else T.ite(T.le(T.ZERO, t), T.floor(t), T.neg(T.floor(T.neg(t))))


def _sign(t: Term) -> Term:
    return T.ite(T.lt(T.ZERO, t), T.ONE, T.ite(T.lt(t, T.ZERO), T.number(-1), T.ZERO))


def _power(x: Term, y: Term) -> Term:
    if y.op == "number" and y.value.denominator == 1 and abs(y.value) <= 64:
        return T.power(x, int(y.value))
    if y.op == "number" and y.value.denominator == 2 and abs(y.value) <= 32:
        half = T.mul([T.power(x, int(abs(y.value) - Fraction(1, 2))), T.root(x)])
        return half if y.value > 0 else T.div(T.ONE, half)
    positive = T.call("exp", T.mul([y, T.call("log", x)]))
    return positive if x.sign == 1 or y.sign != 1 else T.ite(T.eq(x, T.ZERO), T.ZERO, positive)


def _hyperbolic(sign: int) -> Callable[[Term], Term]:
    exp = lambda t: T.call("exp", t)
    return lambda t: T.mul([T.HALF, T.add([exp(t), T.mul([T.number(sign), exp(T.neg(t))])])])


def _atan2(y: Term, x: Term) -> Term:
    pi = T.mul([T.number(4), T.call("atan", T.ONE)])
    right = lambda: T.call("atan", T.div(y, x))
    left = T.add([right(), T.ite(T.le(T.ZERO, y), pi, T.neg(pi))])
    edge = T.mul([T.HALF, pi, _sign(y)])
    return T.ite(T.lt(T.ZERO, x), right(), T.ite(T.lt(x, T.ZERO), left, edge))


def _rounded_even(t: Term) -> Term:
    up = T.floor(T.add([t, T.HALF]))
    tie = T.eq(up, T.add([t, T.HALF]))
    odd = T.ne(T.floor(T.mul([T.HALF, up])), T.mul([T.HALF, up]))
    return t if t.integral else T.ite(T.land([tie, odd]), T.sub(up, T.ONE), up)


_one_minus = lambda t: T.sub(T.ONE, t)
_log = lambda t: T.call("log", t)
_LOG2 = T.call("log", T.number(2))
for _name, _function in {
    "add": lambda x, y: T.add([x, y]), "add_any": lambda x, y: T.add([x, y]), "sub": T.sub, "neg": T.neg,
    "mul": lambda x, y: T.mul([x, y]), "div": T.div, "abs": T.absolute, "sign": _sign, "floor": T.floor,
    "max": lambda x, y: T.largest([x, y]), "min": lambda x, y: T.smallest([x, y]),
    "ceil": lambda t: T.neg(T.floor(T.neg(t))), "rem": lambda x, y: T.sub(x, T.mul([y, truncated(T.div(x, y))])),
    "one_minus_square": lambda t: _one_minus(T.power(t, 2)),
    "square": lambda t: T.power(t, 2), "sqrt": T.root, "cbrt": lambda t: T.root(t, 3), "pow": _power,
    "rsqrt": lambda t: T.div(T.ONE, T.root(t)),
    "exp2": lambda t: T.call("exp", T.mul([t, _LOG2])), "expm1": lambda t: T.sub(T.call("exp", t), T.ONE),
    "log1p": lambda t: _log(T.add([T.ONE, t])), "sinh": _hyperbolic(-1), "cosh": _hyperbolic(1),
    "erfc": lambda t: _one_minus(T.call("erf", t)), "tan": lambda t: T.div(T.call("sin", t), T.call("cos", t)),
    "asinh": lambda t: _log(T.add([t, T.root(T.add([T.power(t, 2), T.ONE]))])),
    "acosh": lambda t: _log(T.add([t, T.mul([T.root(T.add([t, T.ONE])), T.root(T.sub(t, T.ONE))])])),
    "atanh": lambda t: T.mul([T.HALF, _log(T.div(T.add([T.ONE, t]), _one_minus(t)))]), "atan2": _atan2,
    "le": T.le, "lt": T.lt, "ge": lambda x, y: T.le(y, x), "gt": lambda x, y: T.lt(y, x), "eq": T.eq, "ne": T.ne,
    "is_finite": defined, "reduce_precision": lambda t: t,
    **{name: (lambda t, name=name: T.call(name, t)) for name in
       ("exp", "log", "tanh", "logistic", "erf", "sin", "cos", "atan", "asin", "acos", "erf_inv", "lgamma", "digamma")},
}.items():  # fmt: skip
    _elementwise(_name, _function)


def _logical(name: str, f: Callable[..., Term]) -> None:
    def rule(*operands: Any, **_: Any) -> np.ndarray:
        arrays = [lifted(o) for o in operands]
        if not all(t.boolean for a in arrays for t in a.ravel()):
            raise UnsupportedPrimitive(f"A bitwise {name} of integers that depend on the inputs has no rule.",
                                       fix="compare the integers first")  # fmt: skip
        return each(f, *arrays)

    reals.define(name, rule)


_logical("and", lambda x, y: T.land([x, y]))
_logical("or", lambda x, y: T.lor([x, y]))
_logical("xor", lambda x, y: T.lnot(T.eq(x, y)))
_logical("not", T.lnot)


@reals.rule("integer_pow")
def _integer_pow(x: Any, *, y: int, **_: Any) -> np.ndarray:
    return each(lambda t: T.power(t, y), x)


@reals.rule("round")
def _round(x: Any, *, rounding_method: Any, **_: Any) -> np.ndarray:
    away = lambda t: T.ite(T.le(T.ZERO, t), T.floor(T.add([t, T.HALF])), T.neg(T.floor(T.sub(T.HALF, t))))
    return each(away if int(rounding_method) == 0 else _rounded_even, x)


@reals.rule("clamp")
def clamp(low: Any, x: Any, high: Any, **_: Any) -> np.ndarray:
    return each(lambda l, t, h: T.smallest([T.largest([t, l]), h]), low, x, high)


@reals.rule("convert_element_type")
def _convert(x: Any, *, new_dtype: Any, **_: Any) -> np.ndarray:
    kind = np.dtype(new_dtype).kind

    def convert(t: Term) -> Term:
        if kind == "b":
            return t if t.boolean else T.ne(t, T.ZERO)
        if t.boolean:
            return T.ite(t, T.ONE, T.ZERO)
        return t if kind == "f" else truncated(t)

    return each(convert, x)


@reals.rule("select_n")
def select_n(which: Any, *cases: Any) -> np.ndarray:
    arrays = [np.broadcast_to(lifted(c), np.shape(lifted(cases[0]))) for c in cases]

    def choose(w: Term, *branches: Term) -> Term:
        if w.boolean:
            return T.ite(w, branches[1], branches[0])
        result = branches[-1]
        for i in reversed(range(len(branches) - 1)):
            result = T.ite(T.eq(w, T.number(i)), branches[i], result)
        return result

    return each(choose, which, *arrays)
