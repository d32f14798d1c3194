"""Products of two variables, of numbers or of matrices: planes on both sides of x·y.

Around the middles x·y = x̂·y + x·ŷ − x̂·ŷ + (x − x̂)·(y − ŷ), and the last term lies within ± the product of the radii:
the mean of the two McCormick planes on either side. Tilting that plane towards either of the two is a free choice.
Where x and y go together the last term is known better: for every c > 0 it is (S² − D²)/4c, S and D being what
c·x + y and c·x − y are off their middles, so bounds of these two say how far the product is above and below the plane.
Source: McCormick 1976, Mathematical Programming 10; Shi et al. 2020, arXiv 2002.06622; the polarised bound is ours.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp

from axiom_jax._program import Equation, Var
from axiom_jax.verification.domains.interval import Interval

WIDEST = 256  # numbers of a product whose operands are bounded together


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Planes:
    """−below ≤ x·y − (x̂·y + x·ŷ − centre) ≤ above for all x, y of their boxes, with x̂ and ŷ their middles.

    Args:
        x, y: the middles. x_radius, y_radius: of the boxes. centre: x̂·ŷ.
        below, above: of the shape of the product; at most `spread`, the product of the radii.
    """

    x: Any
    y: Any
    x_radius: Any
    y_radius: Any
    centre: Any
    spread: Any
    below: Any
    above: Any


def planes(eqn: Equation, x: Interval, y: Interval) -> Planes:
    """The planes of a product of two boxes.

    Args:
        eqn: linear in each of its two operands.

    >>> from axiom_jax._program import build
    >>> (eqn,) = build(lambda _, x, y: x * y, (), jnp.float32(0), jnp.float32(0))[0].equations
    >>> found = planes(eqn, Interval(jnp.float32(1), jnp.float32(3)), Interval(jnp.float32(-1), jnp.float32(1)))
    >>> float(found.x), float(found.y), float(found.below)
    (2.0, 0.0, 1.0)
    """
    (xm, xr), (ym, yr) = ((v.lo / 2 + v.hi / 2, v.hi / 2 - v.lo / 2) for v in (x, y))
    spread = eqn.evaluate(xr, yr)[0]
    spread = jnp.where(jnp.isnan(spread), jnp.inf, spread)
    return Planes(xm, ym, xr, yr, eqn.evaluate(xm, ym)[0], spread, spread, spread)


def goes_together(eqn: Equation) -> bool:
    """Whether a product is one of numbers, few enough to bound their sums and differences too."""
    x, y = eqn.inputs
    return eqn.name == "mul" and x.shape == y.shape and x != y and x.size <= WIDEST


def correlated(eqn: Equation, planes: Planes, least: Callable[[dict[Var, Any]], Any]) -> Planes:
    """The same planes, closer where the operands go together.

    Args:
        eqn: of which `goes_together` holds.
        least: lower bounds (rows,) of rows (rows, *shape) times values, given for some variables.
    """
    x, y = eqn.inputs
    n, both = x.size, (planes.x_radius > 0) & (planes.y_radius > 0)
    c = jnp.where(both, planes.y_radius / jnp.where(both, planes.x_radius, 1), 1)
    c = jax.lax.stop_gradient(jnp.where(jnp.isfinite(c) & (c > 0), c, 1))
    one = jnp.eye(n, dtype=jnp.float32).reshape(n, *x.shape)
    scaled = one * c
    rows = {x: jnp.concatenate([scaled, -scaled, scaled, -scaled]), y: jnp.concatenate([one, -one, -one, one])}
    up, down, wide, narrow = least(rows).reshape(4, *x.shape)
    sum_, difference = c * planes.x + planes.y, c * planes.x - planes.y
    off_sum = jnp.maximum(sum_ - up, -down - sum_)
    off_difference = jnp.maximum(difference - wide, -narrow - difference)
    return replace(
        planes,
        below=jnp.fmin(planes.below, off_difference**2 / (4 * c)),
        above=jnp.fmin(planes.above, off_sum**2 / (4 * c)),
    )


def through_planes(eqn: Equation, planes: Planes, A: Any, t: Any = None) -> tuple[list[tuple[Var, Any]], Any, Any]:
    """Rows of a product as rows of both operands, a constant, and the size of the terms.

    Args:
        A: (rows, *shape) coefficients of the product.
        t: (2, rows or 1, *shape) in [0, 1], the lower and the upper plane's choice between the two McCormick planes;
            ½ and None stand for their mean. Every choice is sound.
    """
    n, (x, y) = A.shape[0], eqn.inputs
    to_x = lambda at, rows: jax.vmap(lambda r: jax.linear_transpose(lambda v: eqn.evaluate(v, at)[0], planes.x)(r)[0])(
        rows
    )
    to_y = lambda at, rows: jax.vmap(lambda r: jax.linear_transpose(lambda v: eqn.evaluate(at, v)[0], planes.y)(r)[0])(
        rows
    )
    parts = [to_x(planes.y, A), to_y(planes.x, A)]
    flat, positive, negative = A.reshape(n, -1), jnp.maximum(A, 0), jnp.minimum(A, 0)
    below, above = planes.below, planes.above
    constant = -_dot(flat, planes.centre.ravel())
    size = _dot(jnp.abs(flat), (jnp.abs(planes.centre) + planes.spread).ravel())
    if t is not None:  # towards x·y ≥ … at the lower or upper ends of both, or x·y ≤ … at opposite ends
        tilt = 2 * jnp.clip(t, 0, 1) - 1
        low, high = positive * tilt[0], negative * tilt[1]
        by_x, by_y = to_x(planes.y_radius, low + high), to_y(planes.x_radius, low - high)
        parts = [parts[0] + by_x, parts[1] + by_y]
        inner = lambda rows, middle: _dot(rows.reshape(n, -1), middle.ravel())
        constant = constant - inner(by_x, planes.x) - inner(by_y, planes.y)
        part = jnp.abs(tilt)
        below = (1 - part[0]) * below + part[0] * planes.spread
        above = (1 - part[1]) * above + part[1] * planes.spread
    constant = constant - _sum(positive, below) + _sum(negative, above)
    return list(zip((x, y), parts, strict=True)), constant, size


def _sum(A: Any, offset: Any) -> Any:
    """Rows times what may be infinite where nothing is known."""
    return jnp.where(A == 0, 0, A * offset).reshape(A.shape[0], -1).sum(1)


def _dot(a: Any, b: Any) -> Any:
    return jnp.matmul(a, b, precision="highest")
