"""The rows of a linear bound through one equation, backwards: what each kind of equation makes of them.

Rows (n, *shape of a result) become rows (n, *shape of an operand) and a constant; the size of the terms that
were summed goes along, for the rounding.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from axiom_jax._program import Equation, Program, Var
from axiom_jax.verification.domains.interval import SHAPE_ONLY, Interval
from axiom_jax.verification.relax import Lines
from axiom_jax.verification.relax.products import Planes as Planes
from axiom_jax.verification.relax.products import planes as planes
from axiom_jax.verification.relax.products import through_planes as through_planes

LINEAR = {*SHAPE_ONLY, "add", "sub", "neg", "add_any", "reduce_sum", "cumsum", "reduce_window_sum"}
BILINEAR = {"mul", "dot_general", "conv_general_dilated"}
FIRST_OPERAND = {"div", "gather", "dynamic_slice"}  # linear in their first operand
Parts = list[tuple[Var, Any]]


def is_linear(program: Program, eqn: Equation) -> bool:
    """Whether an equation is affine in its varying operands."""
    varies = [v in program.varying for v in eqn.inputs]
    return (
        eqn.name in LINEAR
        or (eqn.name in BILINEAR and sum(varies) == 1)
        or (eqn.name in FIRST_OPERAND and not any(varies[1:]))
        or (eqn.name == "select_n" and not varies[0])
    )


def through_lines(lines: Lines, A: Any) -> tuple[Any, Any, Any]:
    """Along the line below where a coefficient is positive, along the one above where it is negative."""
    positive, negative = jnp.maximum(A, 0), jnp.minimum(A, 0)
    constant = jnp.where(A > 0, A * lines.below_at_0, 0) + jnp.where(A < 0, A * lines.above_at_0, 0)  # ±inf: unknown
    constant = constant.reshape(A.shape[0], -1)
    return positive * lines.below + negative * lines.above, constant.sum(1), jnp.abs(constant).sum(1)


def through_interval(boxes: Sequence[Interval], rows: Sequence[Any]) -> tuple[Any, Any]:
    """The least that rows make of results of which only intervals are known."""
    constant = scale = jnp.zeros(1)
    for box, A in zip(boxes, rows, strict=True):
        if A is not None:
            least = jnp.where(A == 0, 0, A * jnp.where(A > 0, box.lo, box.hi))
            constant = constant + least.reshape(A.shape[0], -1).sum(1)
            scale = scale + jnp.abs(least).reshape(A.shape[0], -1).sum(1)
    return constant, scale


def through_linear(
    program: Program, eqn: Equation, known: dict[Var, Any], rows: Sequence[Any]
) -> tuple[Parts, Any, Any]:
    """By the transpose of the equation; the constant is what the rows make of its value at 0."""
    n = next(A.shape[0] for A in rows if A is not None)
    rows = [jnp.zeros((n, *v.shape), v.dtype) if A is None else A for v, A in zip(eqn.outputs, rows, strict=True)]
    operands = list(dict.fromkeys(v for v in eqn.inputs if v in program.varying))

    def f(*xs: Any) -> tuple[Any, ...]:
        given = dict(zip(operands, xs, strict=True))
        return eqn.evaluate(*(given[v] if v in given else known[v] for v in eqn.inputs))

    zeros = [jnp.zeros(v.shape, v.dtype) for v in operands]
    constant: Any = 0.0
    scale: Any = 0.0
    if any(v not in program.varying for v in eqn.inputs) and eqn.name not in BILINEAR | FIRST_OPERAND:
        offset = f(*zeros)
        pairs = [(A.reshape(n, -1), o.ravel()) for A, o in zip(rows, offset, strict=True)]
        constant = sum(_dot(A, o) for A, o in pairs)
        scale = sum(_dot(jnp.abs(A), jnp.abs(o)) for A, o in pairs)
        g = lambda *xs: tuple(a - b for a, b in zip(f(*xs), offset, strict=True))
    else:
        g = f
    transposed = jax.linear_transpose(g, *zeros)
    return list(zip(operands, jax.vmap(lambda *r: transposed(r))(*rows), strict=True)), constant, scale


def least_over(box: Interval, A: Any) -> tuple[Any, Any]:
    """The least of rows times an input over its box, and the size of its terms."""
    flat = A.reshape(A.shape[0], -1)
    middle, radius = ((box.lo + box.hi) / 2).ravel(), ((box.hi - box.lo) / 2).ravel()
    value = _dot(flat, middle) - _dot(jnp.abs(flat), radius)
    return value, _dot(jnp.abs(flat), jnp.abs(middle) + radius)


def _dot(a: Any, b: Any) -> Any:
    return jnp.matmul(a, b, precision="highest")
