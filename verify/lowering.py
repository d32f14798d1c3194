"""What the verifier sees: a program whose only piecewise-linear primitives are relu and gate.

Maxima, clamps, absolute values and pooling windows are written with `max(x, 0)`, what a comparison decides with
gates (`gating`), softmax by differences (`shifting`), so that every domain, the search and the certificate speak of
the same neurons. Over the real numbers nothing changes. Rules are functions of the equation's operands.
"""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import lax

from axiom_jax._program import Equation, Program, Replacement, Var, rewrite
from axiom_jax.verification.gating import gated, settled
from axiom_jax.verification.literals import chosen
from axiom_jax.verification.shifting import shifted

LOWERINGS: dict[str, Callable[[Program, Equation], Replacement | None]] = {}


def lower(program: Program) -> Program:
    """The program with every primitive of `LOWERINGS` replaced; parameters, inputs and meaning stay.

    >>> from axiom_jax._program import build
    >>> program, _ = build(lambda w, x: jnp.clip(w * x, -1.0, 1.0), jnp.ones(3), jnp.ones(3))
    >>> [eqn.primitive.name for eqn in lower(program).equations]
    ['mul', 'sub', 'max', 'add', 'sub', 'max', 'sub']
    """
    return rewrite(rewrite(prepare(program), gated), _choose)


def prepare(program: Program, by_pairs: bool = False) -> Program:
    """The part of lowering that serves every domain: softmax by differences, and choices that real numbers, or numbers
    written in the function, settle.

    Real numbers are never NaN: `where(isnan(x), a, b)` is b, `where(isfinite(x), a, b)` is a.

    Args:
        by_pairs: sums of exponentials in softmax are taken by pairs: best for linear bounds, not for intervals.

    >>> from axiom_jax._program import build
    >>> program, _ = build(lambda _, x: jnp.where(jnp.isnan(x), 0.0, x * 2), (), jnp.ones(3))
    >>> [eqn.name for eqn in prepare(program).equations]
    ['mul']
    """
    return rewrite(program, lambda p, eqn: shifted(p, eqn, by_pairs) or chosen(p, eqn) or settled(p, eqn))


def _choose(program: Program, eqn: Equation) -> Replacement | None:
    if eqn.name not in LOWERINGS or program.varying.isdisjoint(eqn.inputs):
        return None
    return LOWERINGS[eqn.name](program, eqn)


def _lowering(*names: str) -> Callable[[Any], Any]:
    def register(rule: Any) -> Any:
        for name in names:
            LOWERINGS[name] = rule
        return rule

    return register


def relu_operand(program: Program, eqn: Equation) -> Var | None:
    """x of max(x, 0) or max(0, x) with x varying, if the equation has that form."""
    if eqn.name != "max":
        return None
    literals = {var: value for var, value in program.literals if np.all(np.asarray(value) == 0)}
    x, y = eqn.inputs
    if y in literals and x in program.varying:
        return x
    return y if x in literals and y in program.varying else None


def relu(x: Any) -> Any:
    """max(x, 0), as one primitive with a literal zero."""
    return jnp.maximum(x, jnp.zeros((), x.dtype))


@_lowering("max")
def _max(program: Program, eqn: Equation) -> Replacement | None:
    if relu_operand(program, eqn) is not None:
        return None
    if eqn.inputs[0] in program.varying:
        return lambda x, y: relu(x - y) + y
    return lambda x, y: relu(y - x) + x


@_lowering("min")
def _min(program: Program, eqn: Equation) -> Replacement:
    if eqn.inputs[0] in program.varying:
        return lambda x, y: y - relu(y - x)
    return lambda x, y: x - relu(x - y)


@_lowering("clamp")
def _clamp(program: Program, eqn: Equation) -> Replacement:
    return lambda low, x, high: jnp.minimum(jnp.maximum(x, low), high)


@_lowering("abs")
def _abs(program: Program, eqn: Equation) -> Replacement:
    return lambda x: relu(x) + relu(-x)


@_lowering("reduce_max", "reduce_min")
def _reduce(program: Program, eqn: Equation) -> Replacement:
    """A tree of pairwise maxima: log2(size) relus deep."""
    better = jnp.maximum if eqn.name == "reduce_max" else jnp.minimum

    def reduce(x: Any) -> Any:
        for axis in sorted(eqn.params["axes"], reverse=True):
            x = jnp.moveaxis(x, axis, 0)
            while x.shape[0] > 1:
                half = x.shape[0] // 2
                rest = x[2 * half :]
                x = better(x[:half], x[half : 2 * half])
                x = jnp.concatenate([x, rest]) if rest.shape[0] else x
            x = x.reshape(x.shape[1:])
        return x

    return reduce


@_lowering("reduce_window_max", "reduce_window_min")
def _reduce_window(program: Program, eqn: Equation) -> Replacement | None:
    """Pairwise maxima of strided slices. Padding repeats the edge, which lies in every window that reaches over it."""
    better = jnp.maximum if eqn.name == "reduce_window_max" else jnp.minimum
    p, shape = eqn.params, eqn.inputs[0].shape
    positions = [
        _window_positions(*geometry)
        for geometry in zip(
            shape, p["window_dimensions"], p["window_strides"], p["padding"], p["window_dilation"], strict=True
        )
    ]
    if any(d != 1 for d in p["base_dilation"]) or any(position is None for position in positions):
        return None

    def reduce(x: Any) -> Any:
        for axis, position in enumerate(positions):
            assert position is not None
            if np.array_equal(position[:, 0], np.arange(shape[axis])) and position.shape[1] == 1:
                continue
            pieces = [_pick(x, position[:, k], axis) for k in range(position.shape[1])]
            while len(pieces) > 1:
                paired = [better(a, b) for a, b in zip(pieces[::2], pieces[1::2], strict=False)]
                pieces = paired + pieces[2 * len(paired) :]
            x = pieces[0]
        return x

    return reduce


def _window_positions(
    size: int, window: int, stride: int, padding: tuple[int, int], dilation: int
) -> np.ndarray | None:
    """(windows, offsets) positions on one axis; an offset inside a window stands in for those in the padding.

    None if a window lies in the padding altogether: its maximum is not a number.
    """
    count = (size + sum(padding) - (window - 1) * dilation - 1) // stride + 1
    position = np.arange(count)[:, None] * stride + np.arange(window)[None, :] * dilation - padding[0]
    inside = (position >= 0) & (position < size)
    if count < 1 or not inside.any(axis=1).all():
        return None
    first = np.argmax(inside, axis=1)
    return np.where(inside, position, np.take_along_axis(position, first[:, None], axis=1))


def _pick(x: Any, positions: np.ndarray, axis: int) -> Any:
    """x at the given positions of an axis: one strided slice where the positions allow it."""
    steps = np.unique(np.diff(positions))
    if len(positions) == 1 or (len(steps) == 1 and steps[0] > 0):
        step = 1 if len(positions) == 1 else int(steps[0])
        return lax.slice_in_dim(x, int(positions[0]), int(positions[-1]) + 1, step, axis)
    return jnp.concatenate([lax.slice_in_dim(x, int(p), int(p) + 1, 1, axis) for p in positions], axis)


@_lowering("div")
def _div(program: Program, eqn: Equation) -> Replacement | None:
    """By a variable: times its reciprocal."""
    if eqn.inputs[1] not in program.varying or eqn.output.dtype != np.float32:
        return None
    return lambda x, y: x * lax.integer_pow(y, -1)


@_lowering("integer_pow")
def _integer_pow(program: Program, eqn: Equation) -> Replacement | None:
    """Even powers are squares of powers, negative ones reciprocals; a cube is a square times its base."""
    y = eqn.params["y"]
    if y in (-1, 2):
        return None
    if y < 0:
        return lambda x: lax.integer_pow(lax.integer_pow(x, -y), -1)
    if y < 2:
        return lambda x: x if y else jnp.ones_like(x)
    half = lambda x: lax.integer_pow(lax.integer_pow(x, y // 2), 2) if y > 3 else lax.integer_pow(x, 2)
    return (lambda x: half(x) * x) if y % 2 else half


@_lowering("rsqrt")
def _rsqrt(program: Program, eqn: Equation) -> Replacement:
    return lambda x: lax.integer_pow(jnp.sqrt(x), -1)


@_lowering("expm1")
def _expm1(program: Program, eqn: Equation) -> Replacement:
    return lambda x: jnp.exp(x) - 1


@_lowering("log1p")
def _log1p(program: Program, eqn: Equation) -> Replacement:
    return lambda x: jnp.log(1 + x)


@_lowering("exp2")
def _exp2(program: Program, eqn: Equation) -> Replacement:
    return lambda x: jnp.exp(x * jnp.float32(np.log(2)))
