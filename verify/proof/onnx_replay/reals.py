"""Arrays of exact numbers: Python integers over one denominator, and enclosures where a number has no such form.

Sums, products and quotients of what is exact stay exact. Roots, exponentials and the like are enclosed to 192 binary
places by the checker's own functions; arithmetic on enclosures is interval arithmetic, always outwards.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import lcm
from typing import Any

import numpy as np

from axiom_jax.verification import checker

PLACES = 192  # binary places of enclosures
LONGEST = 4096  # bits of a denominator; past them numbers are enclosed


class Undecided(ValueError):
    """A value that enclosures do not settle, or that is not defined."""


@dataclass(frozen=True)
class Reals:
    """Real numbers x with lo <= x * den <= hi; `hi is lo` where they are exact.

    Args:
        lo, hi: object arrays of Python integers. den: a positive integer.
    """

    lo: np.ndarray
    hi: np.ndarray
    den: int = 1

    @property
    def shape(self) -> tuple[int, ...]:
        return self.lo.shape

    @property
    def size(self) -> int:
        return self.lo.size

    @property
    def exact(self) -> bool:
        return self.lo is self.hi

    def fractions(self) -> list[tuple[Fraction, Fraction]]:
        """Both ends of every number, in C order."""
        ends = zip(self.lo.ravel().tolist(), self.hi.ravel().tolist(), strict=True)
        return [(Fraction(a, self.den), Fraction(b, self.den)) for a, b in ends]


Array = Any  # Reals, or a NumPy array of integers or truth values


def of_floats(values: np.ndarray) -> Reals:
    """Floating-point numbers, exactly.

    >>> of_floats(np.float32([0.5, -3])).fractions()[0][0]
    Fraction(1, 2)
    """
    if not np.isfinite(values).all():
        raise Undecided("a number that is not finite")
    ratios = [x.as_integer_ratio() for x in np.asarray(values, np.float64).ravel().tolist()]
    den = max((d for _, d in ratios), default=1)  # powers of two
    return enclosed([n * (den // d) for n, d in ratios], None, den, np.shape(values))


def of_fractions(values: Sequence[Fraction], shape: Sequence[int]) -> Reals:
    den = lcm(*{x.denominator for x in values})
    return enclosed([x.numerator * (den // x.denominator) for x in values], None, den, shape)


def enclosed(lo: Sequence[int], hi: Sequence[int] | None, den: int, shape: Sequence[int]) -> Reals:
    """Flat ends as an array; exact without `hi`."""
    below = objects(lo, shape)
    return Reals(below, below if hi is None else objects(hi, shape), den)


def objects(values: Sequence[int], shape: Sequence[int]) -> np.ndarray:
    array = np.empty(len(values), object)
    array[:] = values
    return array.reshape(tuple(shape))


def real(x: Array) -> Reals:
    """Integers as real numbers, too."""
    if isinstance(x, Reals):
        return x
    return enclosed([int(v) for v in x.ravel().tolist()], None, 1, x.shape)


def moved(x: Array, move: Callable[[np.ndarray], np.ndarray]) -> Array:
    """Elements put elsewhere by a function of arrays."""
    if not isinstance(x, Reals):
        return move(x)
    lo = np.asarray(move(x.lo), object)
    return Reals(lo, lo if x.exact else np.asarray(move(x.hi), object), x.den)


def padded(a: np.ndarray, widths: Sequence[tuple[int, int]]) -> np.ndarray:
    """An array with zeros around it, (before, after) an axis; negative widths cut."""
    cut = a[tuple(slice(max(-b, 0), n - max(-e, 0)) for (b, e), n in zip(widths, a.shape, strict=True))]
    wide = np.zeros([n + max(b, 0) + max(e, 0) for (b, e), n in zip(widths, cut.shape, strict=True)], a.dtype)
    wide[tuple(slice(max(b, 0), max(b, 0) + n) for (b, _), n in zip(widths, cut.shape, strict=True))] = cut
    return wide


def common(parts: Sequence[Reals]) -> list[Reals]:
    """The same numbers over one denominator."""
    den = lcm(*(p.den for p in parts))
    return [scaled(p, den // p.den, den) for p in parts]


def scaled(x: Reals, factor: int, den: int) -> Reals:
    if factor == 1:
        return Reals(x.lo, x.hi, den)
    lo = np.asarray(x.lo * factor, object)
    return Reals(lo, lo if x.exact else np.asarray(x.hi * factor, object), den)


def add(a: Reals, b: Reals) -> Reals:
    a, b = common([a, b])
    lo = np.asarray(a.lo + b.lo, object)
    return Reals(lo, lo if a.exact and b.exact else np.asarray(a.hi + b.hi, object), a.den)


def neg(a: Reals) -> Reals:
    lo = np.asarray(-a.hi, object)
    return Reals(lo, lo if a.exact else np.asarray(-a.lo, object), a.den)


def mul(a: Reals, b: Reals) -> Reals:
    corners = [np.asarray(x * y, object) for x in ends(a) for y in ends(b)]
    if len(corners) == 1:
        return Reals(corners[0], corners[0], a.den * b.den)
    lo, hi = corners[0], corners[0]
    for corner in corners[1:]:
        lo, hi = np.asarray(np.minimum(lo, corner), object), np.asarray(np.maximum(hi, corner), object)
    return shortened(Reals(lo, hi, a.den * b.den))


def ends(a: Reals) -> list[np.ndarray]:
    return [a.lo] if a.exact else [a.lo, a.hi]


def shortened(a: Reals) -> Reals:
    """Enclosures of fewer bits, outwards; exact numbers stay as they are."""
    if a.exact or a.den.bit_length() <= LONGEST:
        return a
    return outward(a, 2 * PLACES)


def outward(a: Reals, places: int = PLACES) -> Reals:
    lo, hi = (a.lo << places) // a.den, -((-a.hi << places) // a.den)
    return Reals(np.asarray(lo, object), np.asarray(hi, object), 1 << places)


def inverse(a: Reals) -> Reals:
    """1 / a: exact while the common denominator stays short."""
    lo, hi = a.lo.ravel().tolist(), a.hi.ravel().tolist()
    if any(x <= 0 <= y for x, y in zip(lo, hi, strict=True)):
        raise Undecided("a division by what may be 0")
    if a.exact and (multiple := _multiple(lo)) is not None:
        return enclosed([a.den * (multiple // x) for x in lo], None, multiple, a.shape)
    below = [(a.den << PLACES) // y for y in hi]
    return enclosed(below, [-((-a.den << PLACES) // x) for x in lo], 1 << PLACES, a.shape)


def _multiple(values: Sequence[int]) -> int | None:
    found = 1
    for value in set(values):
        found = lcm(found, value)
        if found.bit_length() > LONGEST:
            return None
    return found


def matmul(a: Reals, b: Reals) -> Reals:
    """As `numpy.matmul`, for arrays of at least one axis."""
    if a.exact and b.exact:
        product = np.asarray(a.lo @ b.lo, object)
        return Reals(product, product, a.den * b.den)
    # |xy - cd| <= r |d| + (|c| + r) s where |x - c| <= r and |y - d| <= s
    (c, r), (d, s) = ((x.lo + x.hi, x.hi - x.lo) for x in (a, b))  # twice
    middle, radius = c @ d, r @ abs(d) + (abs(c) + r) @ s
    return shortened(Reals(np.asarray(middle - radius, object), np.asarray(middle + radius, object), 4 * a.den * b.den))


def total(a: Reals, axes: tuple[int, ...], keep: bool) -> Reals:
    lo = np.asarray(a.lo.sum(axis=axes, keepdims=keep), object)
    return Reals(lo, lo if a.exact else np.asarray(a.hi.sum(axis=axes, keepdims=keep), object), a.den)


def monotone(a: Reals, f: Callable[[np.ndarray], np.ndarray]) -> Reals:
    """A function of numerators that grows, such as the positive part."""
    lo = np.asarray(f(a.lo), object)
    return Reals(lo, lo if a.exact else np.asarray(f(a.hi), object), a.den)


def maximum(a: Reals, b: Reals) -> Reals:
    a, b = common([a, b])
    lo = np.asarray(np.maximum(a.lo, b.lo), object)
    return Reals(lo, lo if a.exact and b.exact else np.asarray(np.maximum(a.hi, b.hi), object), a.den)


def minimum(a: Reals, b: Reals) -> Reals:
    return neg(maximum(neg(a), neg(b)))


def smooth(a: Reals, name: str) -> Reals:
    """exp, log, logistic, tanh, erf, atan or sqrt, which grow, or sin or cos: enclosed."""
    f, x = checker.FUNCTIONS[name], outward(a)
    lo, hi = x.lo.ravel().tolist(), x.hi.ravel().tolist()
    if name in ("sqrt", "log") and min(lo, default=1) < (name == "log"):
        raise Undecided(f"a {name} of what may be negative")
    if name in ("sin", "cos"):
        ends = [checker.extent(name, l, u, PLACES) for l, u in zip(lo, hi, strict=True)]
        return enclosed([low for low, _ in ends], [high for _, high in ends], x.den, a.shape)
    return enclosed([f(v, PLACES)[0] for v in lo], [f(v, PLACES)[1] for v in hi], x.den, a.shape)


def greater(a: Reals, b: Reals) -> np.ndarray:
    """Whether a > b, where that is sure everywhere."""
    a, b = common([a, b])
    sure, never = np.asarray(a.lo > b.hi, bool), np.asarray(a.hi <= b.lo, bool)
    if not (sure | never).all():
        raise Undecided("a comparison of numbers that are too close to tell")
    return sure
