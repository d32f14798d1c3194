"""Interval rules of functions of one real number, and of quotients and powers."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import lax

from axiom_jax.verification.domains.interval import Interval, _as_interval, _bind, _no_nan, interval, monotone, times

for _name in ("exp", "exp2", "expm1", "log", "log1p", "sqrt", "tanh", "logistic", "erf", "erf_inv", "atan",
              "asin", "sinh", "asinh", "acosh", "atanh", "floor", "ceil", "round", "sign"):  # fmt: skip
    monotone(_name, 1)
monotone("erfc", -1)
monotone("acos", -1)


@interval.rule("add_any")
def _add_any(x: Any, y: Any, **_: Any) -> Interval:
    x, y = _as_interval(x), _as_interval(y)
    return Interval(_no_nan(x.lo + y.lo, -jnp.inf), _no_nan(x.hi + y.hi, jnp.inf))


@interval.rule("cbrt")
def _cbrt(x: Interval, **_: Any) -> Interval:
    """Wider by the root of a subnormal number, which XLA takes for 0."""
    return Interval(lax.cbrt(x.lo) - 1e-12, lax.cbrt(x.hi) + 1e-12)


@interval.rule("abs")
def _abs(x: Interval, **_: Any) -> Interval:
    low = jnp.maximum(jnp.maximum(x.lo, -x.hi), 0)
    return Interval(low, jnp.maximum(-x.lo, x.hi))


@interval.rule("cosh")
def _cosh(x: Interval, **_: Any) -> Interval:
    size = _abs(x)
    return Interval(_no_nan(jnp.cosh(size.lo), -jnp.inf), _no_nan(jnp.cosh(size.hi), jnp.inf))


@interval.rule("sin")
def _sin(x: Interval, **_: Any) -> Interval:
    return _wave(jnp.sin, x, np.pi / 2)


@interval.rule("cos")
def _cos(x: Interval, **_: Any) -> Interval:
    return _wave(jnp.cos, x, 0.0)


def _wave(f: Callable[[Any], Any], x: Interval, crest: float) -> Interval:
    """The values at the ends, and ±1 where a crest or a trough lies in the box or within rounding of it."""
    ends = f(x.lo), f(x.hi)
    slack = 1e-6 * (1 + jnp.maximum(jnp.abs(x.lo), jnp.abs(x.hi)))

    def meets(at: float) -> Any:  # some at + 2πk in [lo, hi]
        first = jnp.ceil((x.lo - slack - at) / (2 * np.pi)) * (2 * np.pi) + at
        return ~(first > x.hi + slack)

    lo = jnp.where(meets(crest + np.pi), -1.0, jnp.minimum(*ends))
    hi = jnp.where(meets(crest), 1.0, jnp.maximum(*ends))
    return Interval(_no_nan(lo, -1.0).astype(x.lo.dtype), _no_nan(hi, 1.0).astype(x.hi.dtype))


@interval.rule("tan")
def _tan(x: Interval, **_: Any) -> Interval:
    slack = 1e-6 * (1 + jnp.maximum(jnp.abs(x.lo), jnp.abs(x.hi)))
    branch = lambda v: jnp.floor(v / np.pi + 0.5)
    within = branch(x.lo - slack) == branch(x.hi + slack)
    lo, hi = jnp.where(within, jnp.tan(x.lo), -jnp.inf), jnp.where(within, jnp.tan(x.hi), jnp.inf)
    return Interval(_no_nan(lo, -jnp.inf), _no_nan(hi, jnp.inf))


@interval.rule("atan2")
def _atan2(y: Any, x: Any, **_: Any) -> Interval:
    """The angles of a box that does not contain the origin are extreme at its corners."""
    y, x = _as_interval(y), _as_interval(x)
    corners = jnp.stack([jnp.arctan2(a, b) for a in (y.lo, y.hi) for b in (x.lo, x.hi)])
    cut = (y.lo <= 0) & (y.hi >= 0) & (x.lo <= 0)
    lo, hi = jnp.where(cut, -np.pi, corners.min(0)), jnp.where(cut, np.pi, corners.max(0))
    return Interval(_no_nan(lo, -np.pi), _no_nan(hi, np.pi))


@interval.rule("div")
def _div(x: Any, y: Any, **_: Any) -> Interval:
    x, y = _as_interval(x), _as_interval(y)
    if jnp.issubdtype(jnp.result_type(y.lo), jnp.integer):
        return _whole_div(x, y)
    quotients = jnp.stack([a / b for a in (x.lo, x.hi) for b in (y.lo, y.hi)])
    spans_zero = (y.lo <= 0) & (y.hi >= 0)
    lo, hi = _no_nan(quotients.min(0), -jnp.inf), _no_nan(quotients.max(0), jnp.inf)
    return Interval(jnp.where(spans_zero, -jnp.inf, lo), jnp.where(spans_zero, jnp.inf, hi))


def _whole_div(x: Interval, y: Interval) -> Interval:
    """Integers: truncated towards 0, so no quotient is larger than the numerator."""
    numbers = jnp.stack([x.lo, x.hi, -x.lo, -x.hi])
    spans_zero = (y.lo <= 0) & (y.hi >= 0)
    divide = lambda a, b: lax.div(*jnp.broadcast_arrays(a, jnp.where(spans_zero, 1, b)))
    quotients = jnp.stack([divide(a, b) for a in (x.lo, x.hi) for b in (y.lo, y.hi)])
    return Interval(
        jnp.where(spans_zero, numbers.min(0), quotients.min(0)), jnp.where(spans_zero, numbers.max(0), quotients.max(0))
    )


@interval.rule("rem")
def _rem(x: Any, y: Any, **_: Any) -> Interval:
    """Has the sign of x, and less than |x| and |y|; exact where the quotient is the same at both ends."""
    x, y = _as_interval(x), _as_interval(y)
    most = jnp.maximum(jnp.abs(y.lo), jnp.abs(y.hi))
    lo = jnp.where(x.lo >= 0, 0, jnp.maximum(-most, x.lo))
    hi = jnp.where(x.hi <= 0, 0, jnp.minimum(most, x.hi))
    known = y.lo == y.hi
    safe = jnp.where(y.lo == 0, 1, y.lo)
    same = known & (y.lo != 0) & (lax.div(x.lo, safe + 0 * x.lo) == lax.div(x.hi, safe + 0 * x.hi))
    if jnp.issubdtype(jnp.result_type(x.lo), jnp.floating):
        whole = [jnp.trunc(end / safe) for end in (x.lo, x.hi)]
        off = lambda q: jnp.abs(q - jnp.round(q)) > 1e-6 * (1 + jnp.abs(q))
        inside = [off(end / safe) for end in (x.lo, x.hi)]
        point = x.lo == x.hi
        same = known & (y.lo != 0) & ((whole[0] == whole[1]) & inside[0] & inside[1] & (x.lo * x.hi > 0) | point)
    ends = lax.rem(x.lo, safe + 0 * x.lo), lax.rem(x.hi, safe + 0 * x.hi)
    return Interval(jnp.where(same, ends[0], lo), jnp.where(same, ends[1], hi))


@interval.rule("integer_pow")
def _integer_pow(x: Interval, *, y: int, **_: Any) -> Interval:
    if y < 0:
        return _div(jnp.ones_like(x.lo), _integer_pow(x, y=-y))
    ends = lax.integer_pow(x.lo, y), lax.integer_pow(x.hi, y)
    lo, hi = _no_nan(jnp.minimum(*ends), -jnp.inf), _no_nan(jnp.maximum(*ends), jnp.inf)
    return Interval(jnp.where((x.lo <= 0) & (x.hi >= 0), 0, lo), hi) if y % 2 == 0 and y else Interval(lo, hi)


@interval.rule("square")
def _square(x: Interval, **_: Any) -> Interval:
    return _integer_pow(x, y=2)


@interval.rule("pow")
def _pow(x: Any, y: Any, **_: Any) -> Interval:
    """Monotone in each operand for x ≥ 0; for a negative base and a known whole exponent by parity; else unknown."""
    x, y = _as_interval(x), _as_interval(y)
    corners = jnp.stack([_bind("pow", *jnp.broadcast_arrays(a, b)) for a in (x.lo, x.hi) for b in (y.lo, y.hi)])
    lo, hi = corners.min(0), corners.max(0)
    negative, spans_zero = x.lo < 0, (x.lo <= 0) & (x.hi >= 0)
    whole = (y.lo == y.hi) & (jnp.round(y.lo) == y.lo) if not jnp.issubdtype(y.lo.dtype, jnp.integer) else y.lo == y.hi
    even = whole & (y.lo % 2 == 0)
    lo = jnp.where(negative & spans_zero & even & (y.lo > 0), 0, lo)
    unknown = (negative & ~whole) | (spans_zero & (y.lo < 0) & negative)
    lo = jnp.where(unknown, -jnp.inf, jnp.where(spans_zero & (y.lo < 0) & ~negative, 0, _no_nan(lo, -jnp.inf)))
    hi = jnp.where(unknown | (spans_zero & (y.lo < 0)), jnp.inf, _no_nan(hi, jnp.inf))
    return Interval(lo, hi)


@interval.rule("rsqrt")
def _rsqrt(x: Interval, **_: Any) -> Interval:
    return Interval(_no_nan(lax.rsqrt(x.hi), -jnp.inf), _no_nan(lax.rsqrt(jnp.maximum(x.lo, 0)), jnp.inf))


@interval.rule("reduce_prod")
def _reduce_prod(x: Interval, *, axes: tuple[int, ...], **_: Any) -> Interval:
    """A tree of pairwise products."""
    for axis in sorted(axes, reverse=True):
        lo, hi = jnp.moveaxis(x.lo, axis, 0), jnp.moveaxis(x.hi, axis, 0)
        if not lo.shape[0]:
            lo = hi = jnp.ones((1, *lo.shape[1:]), lo.dtype)
        while lo.shape[0] > 1:
            half = lo.shape[0] // 2
            paired = times(Interval(lo[:half], hi[:half]), Interval(lo[half : 2 * half], hi[half : 2 * half]))
            lo, hi = jnp.concatenate([paired.lo, lo[2 * half :]]), jnp.concatenate([paired.hi, hi[2 * half :]])
        x = Interval(lo[0], hi[0])
    return x


@interval.rule("cumprod")
def _cumprod(x: Interval, *, axis: int, reverse: bool, **_: Any) -> Interval:
    return lax.associative_scan(times, x, reverse=reverse, axis=axis)
