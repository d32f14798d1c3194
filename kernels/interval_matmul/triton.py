"""The interval matrix product as a Pallas kernel that Triton compiles for GPUs.

Programs of a Triton grid run in any order, so each one loops over the inner dimension
itself and keeps both sums in registers. jax 0.12 warns that Pallas will drop Triton.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from axiom_jax.kernels import _compat
from axiom_jax.kernels.interval_matmul import reference
from axiom_jax.kernels.interval_matmul.pallas import pad

BLOCKS = (64, 32, 64)


def interval_matmul(
    lo: ArrayLike,
    hi: ArrayLike,
    w: ArrayLike,
    w_hi: ArrayLike | None = None,
    *,
    blocks: tuple[int, int, int] = BLOCKS,
    interpret: bool = False,
) -> tuple[Array, Array]:
    """As `reference.interval_matmul`, in tiles.

    Args:
        lo, hi, w, w_hi: as there; any sizes, padded with zeros to whole tiles.
        blocks: the tile along m, k and n; powers of two from 16.
        interpret: run the kernel as plain JAX operations, on any platform.

    >>> lower, upper = interval_matmul(*map(jnp.float32, ([[1]], [[2]], [[3]])), interpret=True)
    >>> bool(lower[0, 0] <= 3 and upper[0, 0] >= 6)
    True
    """
    left, right = reference.check_operands(lo, hi, w, w_hi)
    (m, k), n, (bm, bk, bn) = left[0].shape, right[0].shape[1], blocks
    if 0 in (m, k, n):
        return reference.interval_matmul(lo, hi, w, w_hi)
    left, right = [pad(x, bm, bk) for x in left], [pad(x, bk, bn) for x in right]
    (rows, inner), columns = left[0].shape, right[0].shape[1]
    outputs = _compat.pallas_call(
        functools.partial(_kernel, growth=reference.growth(k), block=bk, steps=inner // bk),
        grid=(rows // bm, columns // bn),
        in_specs=[_compat.BlockSpec((bm, inner), lambda i, j: (i, 0)) for _ in left]
        + [_compat.BlockSpec((inner, bn), lambda i, j: (0, j)) for _ in right],
        out_specs=[_compat.BlockSpec((bm, bn), lambda i, j: (i, j))] * 2,
        out_shape=[jax.ShapeDtypeStruct((rows, columns), jnp.float32)] * 2,
        compiler_params=_compat.TritonParams(num_warps=4, num_stages=2),
        interpret=interpret,
        name="interval_matmul",
    )(*left, *right)
    return outputs[0][:m, :n], outputs[1][:m, :n]


def _kernel(*refs: Any, growth: float, block: int, steps: int) -> None:
    left, right, (lower, upper) = refs[:2], refs[2:-2], refs[-2:]

    def add(step: Any, sums: tuple[Array, Array]) -> tuple[Array, Array]:
        at = _compat.ds(step * block, block)
        centre, radius = reference.partial_sums(
            tuple(ref[:, at] for ref in left), tuple(ref[at, :] for ref in right), growth
        )
        return sums[0] + centre, sums[1] + radius

    zeros = jnp.zeros(lower.shape, jnp.float32)
    lower[...], upper[...] = reference.enclose(*jax.lax.fori_loop(0, steps, add, (zeros, zeros)))
