"""Bounds of any JAX function over boxes: by intervals, by linear bounds, the better of both for each number."""

from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp

from axiom_jax._domain import missing, require
from axiom_jax._program import Program, build
from axiom_jax.verification.domains.interval import Interval, bounds, interval
from axiom_jax.verification.domains.linear import Plan, crown, plan
from axiom_jax.verification.lowering import lower, prepare

Method = Literal["crown", "interval"]


def bound(fn: Callable[..., Any], params: Any, *boxes: Any, method: Method = "crown") -> Any:
    """Lower and upper bounds of what a function returns, over all inputs in boxes.

    Bounds are float32, rounded to nearest: for search, training and estimates, never a proof by themselves. They can
    be differentiated, jitted and, with `jax.vmap` over the ends of the boxes, computed for many boxes at once.

    Args:
        fn: `fn(params, *inputs)`, a JAX function, which may itself be a `jax.jvp` or a `jax.grad`.
        params: a pytree of arrays, held fixed.
        *boxes: for each input an `Interval`, or a pytree of them.
        method: "interval", or "crown" for backward linear bounds too where every operation has them.

    Returns:
        An `Interval` in place of each array that `fn` returns. An end is infinite where nothing is known.

    Raises:
        UnsupportedPrimitive: listing every operation without a rule.

    Source: Gowal et al. 2018, arXiv 1810.12715; Zhang et al. 2018, CROWN, arXiv 1811.00866.

    >>> box = Interval(-jnp.ones(2), jnp.ones(2))
    >>> found = bound(lambda w, x: w @ x - x[0], jnp.array([1.0, -1.0]), box)  # by intervals alone: -3 to 3
    >>> round(float(found.lo), 2), round(float(found.hi), 2)
    (-1.0, 1.0)
    """
    is_box = lambda leaf: isinstance(leaf, Interval)
    inputs = jax.tree.map(lambda b: jax.ShapeDtypeStruct(jnp.shape(b.lo), jnp.result_type(b.lo)), boxes, is_leaf=is_box)
    program, values = build(fn, params, *inputs)
    structure = jax.tree.structure(jax.eval_shape(fn, params, *inputs))
    leaves = jax.tree.leaves(boxes, is_leaf=is_box)
    found = bound_program(program, values, *leaves, method=method)
    return jax.tree.unflatten(structure, found)


def bound_program(program: Program, values: Any, *boxes: Interval, method: Method = "crown") -> tuple[Interval, ...]:
    """The same for a program that is traced already: an interval for each output.

    >>> program, values = build(lambda w, x: w * x, jnp.float32(2), jnp.float32(1))
    >>> bound_program(program, values, Interval(jnp.float32(0), jnp.float32(1)))[0].hi.item()
    2.0
    """
    prepared = prepare(program)
    if missing(interval, prepared) and not missing(interval, lower(program)):
        prepared = lower(program)
    require(interval, prepared)
    return _bounded(prepared, plan(program) if method == "crown" else None, list(values), *boxes)


@partial(jax.jit, static_argnums=(0, 1))
def _bounded(prepared: Program, planned: Plan | None, values: Any, *boxes: Interval) -> tuple[Interval, ...]:
    wide = bounds(prepared, values, *boxes)
    if planned is None:
        return wide
    return tuple(_tightest(*same) for same in zip(wide, crown(planned, values, *boxes), strict=True))


def _tightest(a: Interval, b: Interval) -> Interval:
    if not jnp.issubdtype(jnp.result_type(a.lo), jnp.floating):
        return a
    lo, hi = jnp.fmax(a.lo, b.lo), jnp.fmin(a.hi, b.hi)
    empty = lo > hi  # by rounding
    return Interval(jnp.where(empty, a.lo, lo), jnp.where(empty, a.hi, hi))
