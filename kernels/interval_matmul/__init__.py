"""The interval matrix product, outward: no exact product lies outside its result."""

from importlib import import_module

from jax import Array
from jax.typing import ArrayLike

from axiom_jax.kernels import _select

# Best first. A kernel moves before the reference on a platform when bench.py has shown it faster there.
RUNS_ON = {"reference": {"any"}, "pallas": {"tpu"}, "triton": {"gpu"}}


def interval_matmul(
    lo: ArrayLike, hi: ArrayLike, w: ArrayLike, w_hi: ArrayLike | None = None, *, implementation: str | None = None
) -> tuple[Array, Array]:
    """Enclose {x @ v : lo ≤ x ≤ hi, v = w or w ≤ v ≤ w_hi}, the products taken over the real numbers.

    Args:
        lo, hi: float32[m, k], lo ≤ hi.
        w: float32[k, n], the known right operand, or its lower ends if `w_hi` is given.
        w_hi: float32[k, n], the upper ends of the right operand, or None.
        implementation: "reference", "pallas" (TPU) or "triton" (GPU); None for the best on jax's default backend.

    Returns:
        Two float32[m, n]; (-inf, inf) where a sum overflows or meets an infinity or NaN, never NaN. The proof is in
        `reference.interval_matmul`; it does not hold on TPUs, whose float32 products are made of bfloat16 ones.

    Raises:
        ShapeError: operands that are not float32 matrices of fitting shapes, or k > 2**20 - 12.
        BackendUnavailable: the named implementation cannot run here.

    Source: Rump 2012, Fast interval matrix multiplication, Numerical Algorithms 61.

    >>> import numpy as np
    >>> lower, upper = interval_matmul(*map(np.float32, ([[1]], [[2]], [[3]])))
    >>> bool(lower[0, 0] <= 3 and upper[0, 0] >= 6)
    True
    """
    name = _select.choose("interval_matmul", RUNS_ON, implementation)
    return import_module(f"{__name__}.{name}").interval_matmul(lo, hi, w, w_hi)
