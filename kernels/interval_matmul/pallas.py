"""The interval matrix product as a tiled Pallas kernel for TPUs.

The grid runs over tiles of rows, columns and, innermost, the inner dimension. Each
step reads the ends of the boxes once and adds both sums; the last one rounds outward.
"""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from axiom_jax.kernels import _compat
from axiom_jax.kernels.interval_matmul import reference

BLOCKS = (256, 512, 256)


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
        blocks: the largest tile along m, k and n; multiples of 8, 128 and 128 on TPUs.
        interpret: run the kernel as plain JAX operations, on any platform.

    >>> lower, upper = interval_matmul(*map(jnp.float32, ([[1]], [[2]], [[3]])), interpret=True)
    >>> bool(lower[0, 0] <= 3 and upper[0, 0] >= 6)
    True
    """
    left, right = reference.check_operands(lo, hi, w, w_hi)
    (m, k), n = left[0].shape, right[0].shape[1]
    if 0 in (m, k, n):
        return reference.interval_matmul(lo, hi, w, w_hi)
    bm, bk, bn = (min(b, whole(size, unit)) for b, size, unit in zip(blocks, (m, k, n), (8, 128, 128), strict=True))
    left, right = [pad(x, bm, bk) for x in left], [pad(x, bk, bn) for x in right]
    grid = (left[0].shape[0] // bm, right[0].shape[1] // bn, left[0].shape[1] // bk)
    outputs = _compat.pallas_call(
        functools.partial(_kernel, growth=reference.growth(k)),
        grid=grid,
        in_specs=[_compat.BlockSpec((bm, bk), lambda i, j, l: (i, l)) for _ in left]
        + [_compat.BlockSpec((bk, bn), lambda i, j, l: (l, j)) for _ in right],
        out_specs=[_compat.BlockSpec((bm, bn), lambda i, j, l: (i, j))] * 2,
        out_shape=[jax.ShapeDtypeStruct((grid[0] * bm, grid[1] * bn), jnp.float32)] * 2,
        compiler_params=_compat.TpuParams(dimension_semantics=("parallel", "parallel", "arbitrary")),
        interpret=interpret,
        name="interval_matmul",
    )(*left, *right)
    return outputs[0][:m, :n], outputs[1][:m, :n]


def _kernel(*refs: Any, growth: float) -> None:
    left, right, (lower, upper) = refs[:2], refs[2:-2], refs[-2:]
    step, steps = _compat.program_id(2), _compat.num_programs(2)
    centre, radius = reference.partial_sums(tuple(ref[...] for ref in left), tuple(ref[...] for ref in right), growth)

    @_compat.when(step == 0)
    def _first() -> None:
        lower[...], upper[...] = jnp.zeros_like(centre), jnp.zeros_like(radius)

    lower[...] += centre  # until the last step the outputs hold the sums
    upper[...] += radius

    @_compat.when(step == steps - 1)
    def _last() -> None:
        lower[...], upper[...] = reference.enclose(lower[...], upper[...])


def whole(size: int, unit: int) -> int:
    """The least multiple of `unit` that is not below `size`."""
    return math.ceil(size / unit) * unit


def pad(x: Array, rows: int, columns: int) -> Array:
    """`x` with zeros appended up to whole tiles of `rows` by `columns`."""
    return jnp.pad(x, [(0, whole(size, unit) - size) for size, unit in zip(x.shape, (rows, columns), strict=True)])
