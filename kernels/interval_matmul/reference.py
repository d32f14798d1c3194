"""Interval matrix product in midpoint-radius form, with room for every rounding.

`interval_matmul` is the definition; the other files compute the same sums in tiles.
"""

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from axiom_jax._errors import ShapeError

UNIT = 2.0**-24  # unit roundoff of float32
FLUSH = 2.0**-126  # smallest normal: what one flushed operand or result may lose
LONGEST = 2**20 - 12  # the bound below needs (k + 12)·u ≤ 1/16


def interval_matmul(lo: ArrayLike, hi: ArrayLike, w: ArrayLike, w_hi: ArrayLike | None = None) -> tuple[Array, Array]:
    """Enclose {x @ v : lo ≤ x ≤ hi, v = w or w ≤ v ≤ w_hi}, the products taken over the real numbers.

    Args:
        lo, hi: float32[m, k], lo ≤ hi.
        w: float32[k, n], the known right operand, or its lower ends if `w_hi` is given.
        w_hi: float32[k, n], the upper ends of the right operand, or None.

    Returns:
        Two float32[m, n] that no exact product lies outside. A sum that overflows or meets an infinity or NaN
        gives (-inf, inf); no result is NaN.

    Raises:
        ShapeError: operands that are not float32 matrices of fitting shapes, or k > 2**20 - 12.

    With c the centres and r the true radii about them, x·w lies in Σcw ± Σr|w| (known w: no more than rounding is
    lost) or Σcd ± Σ(r|d| + (|c| + r)s) (w = d ± s: at most 1.5 times too wide). All of the rounding is charged to the
    radius before it is multiplied, ρ = r + g(r + |c|) + 64η, so that two matrix products suffice.

    Why it contains the exact product, where float32 sums and products are rounded to nearest, in any order, with
    or without FMA, and subnormal operands and results may be flushed (u = 2^-24, η = 2^-126, γ_n = nu/(1 - nu)):
    one operation gives (a∘b)(1+δ) + ε, |δ| ≤ u, |ε| ≤ η, for operands within η of those meant. A term passes at most
    k + 4 roundings (products, sums, tiles), so by Higham the centre misses Σcw by at most
    γ_{k+2} Σ|c||w| + 1.1η(3k + Σ|c| + Σ|w|), the computed radius R is at least
    (1 - γ_{k+4}) Σρ|w| - 1.1η(3k + Σρ + Σ|w|), and the last subtraction loses u(|C| + R) + 3η. So
    C - R is low enough if (1 - γ_{k+6})Σρ|w| ≥ Σ(r + γ_{k+3}|c|)|w| + 2.2η(3k + 2 + Σ(|c| + ρ) + Σ|w|).
    Computed ρ is at least (1-u)r' + (1-u)^4 g(r' + |c|) + 59η with r ≤ (1+2u)r' + 16η (jit may compute c twice, a
    few η apart), so g(1 - γ_{k+10}) ≥ γ_{k+7} + 2u is enough: g = 1.25(k+12)u has it with 3u to spare for constants
    that the compiler moves, since (k+12)u ≤ 1/16 makes every γ at most (16/15)nu. The surplus of 64η in ρ pays for
    η·Σ|w|; the terms 4η(|c| + ρ) + 64η, added to R for each i, pay for the other underflows.
    bfloat16 passes (TPU) and TF32 are outside this model: there the result is an estimate.

    Source: Higham 2002, Accuracy and Stability of Numerical Algorithms, sections 3.1 and 3.5; Rump 2012, Fast
    interval matrix multiplication, Numerical Algorithms 61.

    >>> lower, upper = interval_matmul(jnp.float32([[0, -1]]), jnp.float32([[2, 1]]), jnp.float32([[1], [3]]))
    >>> bool(lower[0, 0] <= -3 and upper[0, 0] >= 5), bool(upper[0, 0] - lower[0, 0] < 8.001)
    (True, True)
    """
    left, right = check_operands(lo, hi, w, w_hi)
    return enclose(*partial_sums(left, right, growth(left[0].shape[1])))


def growth(k: int) -> float:
    """The relative part of the widening for sums of `k` products: g above."""
    return 1.25 * (k + 12) * UNIT


def partial_sums(left: tuple[Array, ...], right: tuple[Array, ...], growth: float) -> tuple[Array, Array]:
    """Centre and radius of a product, or of the part of it that a tile of the inner dimension contributes.

    Args:
        left: (lo, hi), float32[m, k].
        right: (w,) or (w, w_hi), float32[k, n].
        growth: of the whole inner dimension.

    Returns:
        Two float32[m, n]; the sums over all tiles go to `enclose`.
    """
    centre, radius = _centre_radius(left[0], left[1], growth)
    reach = jnp.abs(centre) + radius
    weight, spread = _centre_radius(right[0], right[1], growth) if len(right) == 2 else (right[0], None)
    widths = _dot(radius, jnp.abs(weight))
    if spread is not None:
        widths += _dot(reach, spread)
    return _dot(centre, weight), widths + jnp.sum(4 * FLUSH * reach + 64 * FLUSH, axis=1, keepdims=True)


def enclose(centre: Array, radius: Array) -> tuple[Array, Array]:
    """Ends of the interval; everything where a sum overflowed, since what was lost there is unknown."""
    finite = (jnp.abs(centre) < jnp.inf) & (radius < jnp.inf)
    return jnp.where(finite, centre - radius, -jnp.inf), jnp.where(finite, centre + radius, jnp.inf)


def _centre_radius(lo: Array, hi: Array, growth: float) -> tuple[Array, Array]:
    centre = lo + 0.5 * (hi - lo)  # XLA turns 0.5·lo + 0.5·hi into 0.5·(lo + hi), which may overflow
    radius = jnp.maximum(hi - centre, centre - lo)
    return centre, radius + (growth * (radius + jnp.abs(centre)) + 64 * FLUSH)


def _dot(a: Array, b: Array) -> Array:
    """The product in float32: by default GPUs would take TF32 and TPUs bfloat16."""
    return jnp.dot(a, b, precision=jax.lax.Precision.HIGHEST, preferred_element_type=jnp.float32)


def check_operands(
    lo: ArrayLike, hi: ArrayLike, w: ArrayLike, w_hi: ArrayLike | None
) -> tuple[tuple[Array, ...], tuple[Array, ...]]:
    """The operands as arrays, ((lo, hi), (w,) or (w, w_hi)); raises `ShapeError` where they do not fit."""
    given = (lo, hi, w) if w_hi is None else (lo, hi, w, w_hi)
    dtypes = [getattr(end, "dtype", type(end).__name__) for end in given]  # before jnp rounds float64, perhaps inward
    left, right = tuple(map(jnp.asarray, given[:2])), tuple(map(jnp.asarray, given[2:]))
    shapes = [end.shape for end in (*left, *right)]
    if any(dtype != jnp.float32 for dtype in dtypes) or any(len(shape) != 2 for shape in shapes):
        fix = "convert with lo rounded down and hi rounded up, and reshape or vmap to matrices"
    elif left[0].shape != left[1].shape or right[0].shape != right[-1].shape or shapes[0][1] != shapes[-1][0]:
        fix = f"give lo and hi of shape (m, {shapes[-1][0]}) to a right operand of shape {shapes[-1]}"
    elif shapes[0][1] > LONGEST:
        fix = f"split the inner dimension into parts of at most {LONGEST} and add the intervals"
    else:
        return left, right
    got = ", ".join(f"{dtype}{list(shape)}" for dtype, shape in zip(dtypes, shapes, strict=True))
    raise ShapeError("interval_matmul takes float32[m, k] and float32[k, n].", got=got, fix=fix)
