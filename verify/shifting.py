"""Softmax and log-softmax by differences of their inputs, which no shift of all of them changes.

softmax(x)_i = 1 / (1 + Σ_{j≠i} exp(x_j − x_i)): the maximum that programs subtract for the sake of floats is gone,
every difference is one variable, and what remains is convex pieces. Found by what a program computes, not by its names.
Source: Wei et al. 2023, Convex bounds on the softmax function, arXiv 2303.01713 (the LSE form).
"""

from collections.abc import Collection
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from axiom_jax._program import Equation, Program, Replacement, Var
from axiom_jax.verification.gating import MOVES, producers

MOST = 1 << 14  # differences at most; above, programs are taken as they are written


def shifted(program: Program, eqn: Equation) -> Replacement | None:
    """How exp(u)/Σ exp(u) and u − log Σ exp(u) are written by differences; None for other equations."""
    if eqn.name not in ("div", "sub") or eqn.output not in program.varying or eqn.output.dtype != np.float32:
        return None
    top, bottom = eqn.inputs
    if eqn.name == "div":
        made = producers(program).get(top)
        exponent = made.inputs[0] if made is not None and made.name == "exp" else None
        axis = _summed_along(program, top, bottom, ()) if exponent is not None else None
    else:
        exponent, axis = top, _summed_exp(program, top, bottom)
    if exponent is None or axis is None or exponent.size * exponent.shape[axis] > MOST:
        return None
    base = _unshifted(program, exponent, axis)
    if eqn.name == "div":
        return lambda x: lax.integer_pow(_total(x, axis), -1), (base,)
    return lambda x: -jnp.log(_total(x, axis)), (base,)


def _total(x: Any, axis: int) -> Any:
    """1 + Σ_{j≠i} exp(x_j − x_i) along an axis."""
    x = jnp.moveaxis(x, axis, -1)
    n = x.shape[-1]
    terms = jnp.exp(x[..., None, :] - x[..., :, None])
    same = lax.broadcasted_iota(jnp.int32, terms.shape, terms.ndim - 1) == lax.broadcasted_iota(
        jnp.int32, terms.shape, terms.ndim - 2
    )
    total = lax.select_n(same, terms, jnp.ones_like(terms)).sum(-1) if n > 1 else jnp.ones_like(x)
    return jnp.moveaxis(total, -1, axis)


def _trace_back(program: Program, v: Var, through: Collection[str]) -> tuple[Var, list[Equation]]:
    """The variable that another one is moved from, and the equations between, in order."""
    steps: list[Equation] = []
    made = producers(program)
    while v in made and v in program.varying:
        eqn = made[v]
        single = sum(x in program.varying for x in eqn.inputs) == 1 and len(eqn.outputs) == 1
        if not single or eqn.name not in MOVES | set(through) or len(eqn.inputs) != 1:
            break
        steps.insert(0, eqn)
        v = eqn.inputs[0]
    return v, steps


def _positions(source: Var, steps: list[Equation], through: Collection[str] = ()) -> np.ndarray:
    """For each element at the end of the steps the place in the source that it comes from."""
    places = np.arange(source.size, dtype=np.int32).reshape(source.shape)
    with jax.ensure_compile_time_eval():
        for eqn in steps:
            if eqn.name not in through:
                places = np.asarray(eqn.evaluate(places)[0])
    return places


def _summed_along(program: Program, terms: Var, total: Var, through: tuple[str, ...]) -> int | None:
    """The axis along which `total` is the sum of `terms`, in every element of its shape."""
    source, steps = _trace_back(program, total, through)
    summing = producers(program).get(source)
    if summing is None or summing.name != "reduce_sum" or summing.inputs[0] != terms:
        return None
    axes = summing.params["axes"]
    if len(axes) != 1 or sum(eqn.name in through for eqn in steps) != len(through):
        return None
    own = np.arange(source.size, dtype=np.int32).reshape(source.shape)
    expected = np.broadcast_to(np.expand_dims(own, axes[0]), terms.shape)
    found = _positions(source, steps, through)
    return axes[0] if np.array_equal(np.broadcast_to(found, terms.shape), expected) else None


def _summed_exp(program: Program, exponent: Var, total: Var) -> int | None:
    """The same for log Σ exp: the terms are the exponentials of a variable."""
    source, _ = _trace_back(program, total, ("log",))
    summing = producers(program).get(source)
    if summing is None or summing.name != "reduce_sum":
        return None
    exponential = producers(program).get(summing.inputs[0])
    if exponential is None or exponential.name != "exp" or exponential.inputs[0] != exponent:
        return None
    return _summed_along(program, summing.inputs[0], total, ("log",))


def _unshifted(program: Program, exponent: Var, axis: int) -> Var:
    """x, where the exponent is x minus something that is the same along the axis."""
    made = producers(program).get(exponent)
    if made is None or made.name != "sub" or made.inputs[0].shape != exponent.shape:
        return exponent
    x, shift = made.inputs
    if x not in program.varying or shift not in program.varying:
        return exponent
    source, steps = _trace_back(program, shift, ())
    places = np.broadcast_to(_positions(source, steps), exponent.shape)
    constant = np.array_equal(places, np.broadcast_to(np.take(places, [0], axis), exponent.shape))
    return x if constant else exponent
