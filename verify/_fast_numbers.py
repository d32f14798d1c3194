"""Binary64 with its errors: what `fast_check` adds to a number that was computed, so that it is a bound.

Every operation is rounded to nearest (IEEE 754), so |fl(x) - x| <= u |fl(x)| with u = 2^-53 where nothing underflows,
and a sum of n products is off by at most n u / (1 - n u) times the sum of their sizes, whatever the order in which BLAS
adds them, fused or not. Numbers that may underflow get `TINY` on top. Source: Higham 2002, sections 2.2 and 3.1.
"""

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
ROUNDING = 2.0**-53  # u: of one operation, relative
TINY = 2.0**-900  # far above all that underflow drops from one number
LIMIT = 2.0**300  # of values of neurons: then what underflow drops in a whole pass is below DROPPED
DROPPED = 2.0**-700
ALONE, SHORT = 1 << 18, 9000  # multiplications by a matrix, by a vector: OpenBLAS starts threads above this


def gamma(count: int) -> float:
    """An upper bound of (n + 8) u / (1 - (n + 8) u): for a sum of n products, each rounded up to eight times.

    >>> gamma(100) < 1.3e-14
    True
    """
    return 1.01 * (count + 8) * ROUNDING


def widened(lo: Array, hi: Array) -> tuple[Array, Array]:
    """Ends that one addition rounded (it never underflows), outwards; 0 stays 0."""
    return lo - np.abs(lo) * (4 * ROUNDING), hi + np.abs(hi) * (4 * ROUNDING)


def products(a: tuple[Array, Array], b: tuple[Array, Array]) -> tuple[Array, Array]:
    """Bounds of the products of numbers in two intervals; 0 times anything is 0."""
    corners = [(x * y, (x != 0) & (y != 0)) for x in a for y in b]
    tiny = [np.where(nonzero & (np.abs(z) < TINY), TINY, 0.0) for z, nonzero in corners]
    low = [z - np.abs(z) * (4 * ROUNDING) - t for (z, _), t in zip(corners, tiny, strict=True)]
    high = [z + np.abs(z) * (4 * ROUNDING) + t for (z, _), t in zip(corners, tiny, strict=True)]
    return np.minimum.reduce(low), np.maximum.reduce(high)


def middle(lo: Array, hi: Array) -> tuple[Array, Array]:
    """Any middle of an interval, and a radius that reaches both ends from it."""
    centre = lo + (hi - lo) * 0.5
    return centre, np.maximum(hi - centre, centre - lo) * (1 + 4 * ROUNDING)


def largest(lo: Array, hi: Array) -> Array:
    """The largest size of a number in [lo, hi]."""
    return np.maximum(hi, -lo)


def below(numbers: Sequence[int], bits: int) -> Array:
    """The largest floats that are at most n / 2^bits, for integers n."""
    return np.array([_directed(n, bits, -math.inf) for n in numbers], np.float64)


def above(numbers: Sequence[int], bits: int) -> Array:
    """The smallest floats that are at least n / 2^bits."""
    return np.array([_directed(n, bits, math.inf) for n in numbers], np.float64)


def _directed(number: int, bits: int, towards: float) -> float:
    near = number / (1 << bits)  # Python rounds a quotient of integers to the nearest float
    p, q = near.as_integer_ratio()
    exact = number * q
    wrong = p << bits > exact if towards < 0 else p << bits < exact
    return math.nextafter(near, towards) if wrong else near


def below_fraction(number: Fraction) -> float:
    """The largest float that is at most a fraction."""
    near = float(number)
    return math.nextafter(near, -math.inf) if Fraction(near) > number else near


def from_vector(vector: tuple[list[int], list[int], int]) -> tuple[Array, Array]:
    """Floats for the checker's numbers between lo / den and hi / den, and how far off they may be (0 if exact)."""
    lo, hi, den = vector
    centre = np.array([x / den for x in lo], np.float64)
    bits = den.bit_length() - 1
    if lo == hi and den == 1 << bits and np.all(np.abs(centre) < 2.0**400):  # as tensors are: mostly exact
        exact = [int(x) == n for x, n in zip(np.ldexp(centre, bits).tolist(), lo, strict=True)]
        return centre, np.where(exact, 0.0, np.abs(centre) * (2 * ROUNDING) + TINY)
    width = np.array([(y - x) / den for x, y in zip(lo, hi, strict=True)], np.float64)
    return centre, width * (1 + 4 * ROUNDING) + np.abs(centre) * (2 * ROUNDING) + TINY


def on_grid(lo: Array, hi: Array) -> tuple[Array, Array]:
    """Outwards to multiples of 2^-40: an interval without 0 then holds no number that an execution may flush to 0."""
    return np.floor(lo * 2.0**40) * 2.0**-40, np.ceil(hi * 2.0**40) * 2.0**-40


def dot(rows: Array, vector: Array) -> Array:
    """rows (parts, count, n) times a vector (n,), or one a part (parts, n): (parts, count)."""
    if rows.shape[1] * rows.shape[2] > SHORT:
        return np.einsum("brn,n->br" if vector.ndim == 1 else "brn,bn->br", rows, vector)
    if vector.ndim == 1:
        return rows @ vector
    return np.matmul(rows, vector[:, :, None])[:, :, 0]


def multiplied(rows: Array, matrix: Array) -> Array:
    """rows @ matrix, in slices of so little work that BLAS keeps to one thread, unless the matrix is large: on a busy
    machine threads that wait for one another cost more than they bring."""
    step = ALONE // matrix.size
    if step < 16 or len(rows) <= step:
        return rows @ matrix
    found = np.empty((len(rows), matrix.shape[1]))
    for start in range(0, len(rows), step):
        np.matmul(rows[start : start + step], matrix, out=found[start : start + step])
    return found


def finite(*arrays: Any) -> bool:
    """Whether all are numbers of at most LIMIT."""
    return all(bool(np.all(np.abs(a) < LIMIT)) for a in arrays)
