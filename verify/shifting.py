"""Softmax and log-softmax by differences of their inputs, which no shift of all of them changes.

softmax(x)_i = 1 / (1 + Σ_{j≠i} exp(x_j − x_i)): the maximum that programs subtract for the sake of floats is gone,
every difference is one variable, and what remains is convex pieces; taken by pairs it is the logistic function of a
tree of softplus, which lines bound best. Found by what a program computes, not by its names.
Source: Wei et al. 2023, Convex bounds on the softmax function, arXiv 2303.01713 (the LSE form; pairs are ours).
"""

from collections.abc import Collection
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from axiom_jax._program import Equation, Program, Replacement, Var
from axiom_jax.verification.definedness import is_defined
from axiom_jax.verification.gating import MOVES, producers

MOST = 1 << 14  # differences at most; above, programs are taken as they are written


def shifted(program: Program, eqn: Equation, by_pairs: bool = False) -> Replacement | None:
    """How exp(u)/Σ exp(u) and u − log Σ exp(u) are written by differences; None for other equations.

    Args:
        by_pairs: with sums of exponentials taken two by two, whose linear bounds are several times as tight; this
            serves log Σ exp(u) by itself too.
    """
    if by_pairs and (summed := _log_of_sum(program, eqn)) is not None:
        exponent, along = summed
        return lambda u: _by_pairs(jnp.moveaxis(u, along, 0)), (exponent,)
    if (found := _softmax(program, eqn)) is None:
        return None
    base, axis = found
    if by_pairs and base.shape[axis] > 1:
        if eqn.name == "div":
            return lambda x: lax.logistic(-_rivals(x, axis)), (base,)
        return lambda x: -_softplus(_rivals(x, axis)), (base,)
    if eqn.name == "div":
        return lambda x: lax.integer_pow(_total(x, axis), -1), (base,)
    return lambda x: -jnp.log(_total(x, axis)), (base,)


def differences(program: Program) -> int:
    """How many differences of two inputs all softmax of a program have together."""
    found = [_softmax(program, eqn) for eqn in program.equations]
    return sum(base.size * (base.shape[axis] - 1) for base, axis in filter(None, found))


def _softmax(program: Program, eqn: Equation) -> tuple[Var, int] | None:
    """The variable and the axis that a quotient is the softmax of, or a difference the log-softmax."""
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
    return _unshifted(program, exponent, axis), axis


def _log_of_sum(program: Program, eqn: Equation) -> tuple[Var, int] | None:
    """u and the axis of log Σ exp(u)."""
    if eqn.name != "log" or eqn.output not in program.varying or eqn.output.dtype != np.float32:
        return None
    summing = producers(program).get(eqn.inputs[0])
    if summing is not None and summing.name == "abs":  # jax.nn.logsumexp has signs in mind
        summing = producers(program).get(summing.inputs[0])
    if summing is None or summing.name != "reduce_sum" or len(summing.params["axes"]) != 1:
        return None
    made = producers(program).get(summing.inputs[0])
    if made is None or made.name != "exp" or made.output.size > MOST:
        return None
    return made.inputs[0], summing.params["axes"][0]


def _rivals(x: Any, axis: int) -> Any:
    """log Σ_{j≠i} exp(x_j − x_i) along an axis: what softmax is the logistic function of, up to sign."""
    x = jnp.moveaxis(x, axis, 0)
    turned = [jnp.concatenate([x[k:], x[:k]]) for k in range(1, x.shape[0])]
    return jnp.moveaxis(_by_pairs(jnp.stack(turned) - x), 0, axis)


def _by_pairs(rest: Any) -> Any:
    """log Σ exp along the first axis.

    log(eᵃ + eᵇ) = a + softplus(b − a), so whatever bends is smooth, of one variable, and nowhere steeper than 1.
    """
    while len(rest) > 1:
        half = len(rest) // 2
        a, b = rest[:half], rest[half : 2 * half]
        merged = a + _softplus(b - a)
        rest = jnp.concatenate([merged, rest[2 * half :]]) if len(rest) % 2 else merged
    return rest[0]


def _softplus(x: Any) -> Any:
    return jnp.maximum(x, jnp.zeros((), x.dtype)) - jnp.log(lax.logistic(jnp.abs(x)))


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
    return x if constant and is_defined(program, shift, x) else exponent
