"""Whether what a program computes is a real number for every input: no root of a negative number, no division by 0.

Certificates prove this of everything they hold. Where a rewriting leaves a value out, they see nothing of it, and it
has to be known beforehand: a program whose `isnan` is true of a value is not one in which it is false.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from axiom_jax._program import Equation, Program, Var

MOVES = {"broadcast_in_dim", "concatenate", "copy", "dynamic_slice", "expand_dims", "reshape", "rev", "slice", "split",
         "squeeze", "stack", "stop_gradient", "tile", "transpose"}  # fmt: skip  # not gather: it may fill in NaN
TOTAL = MOVES | {
    "abs", "add", "add_any", "and", "asinh", "atan", "ceil", "clamp", "conv_general_dilated", "convert_element_type",
    "cos", "cosh", "cummax", "cummin", "cumsum", "dot_general", "eq", "erf", "erfc", "exp", "exp2", "expm1", "floor",
    "ge", "gt", "iota", "is_finite", "le", "logistic", "lt", "max", "min", "mul", "ne", "neg", "not", "or",
    "reduce_and", "reduce_max", "reduce_min", "reduce_or", "reduce_sum", "reduce_window_sum", "round", "select_n",
    "sign", "sin", "sinh", "square", "sub", "tanh", "xor",
}  # fmt: skip
Infinities = frozenset[float]  # signs of them


def is_defined(program: Program, v: Var, where: Var | None = None, known: Mapping[Var, Any] | None = None) -> bool:
    """Whether a value is a real number for every input, or wherever another value is.

    Args:
        where: a value that stays; None if none does.
        known: values of what does not depend on the inputs; without them a parameter may be anything.

    >>> import jax.numpy as jnp
    >>> from axiom_jax._program import build
    >>> for f in (jnp.tanh, jnp.sqrt, lambda x: 1 / (1 + jnp.exp(x)), lambda x: jnp.sqrt(x * x)):
    ...     program, _ = build(lambda _, x, f=f: f(x), (), jnp.ones(3))
    ...     print(is_defined(program, program.outputs[0]))
    True
    False
    True
    True
    """
    made = {u: eqn for eqn in program.equations for u in eqn.outputs}
    numbers = dict(program.literals) | {u: x for u, x in (known or {}).items() if u not in program.varying}
    stays: set[Var] = set()
    left = [where] if where is not None else []
    while left:  # but for choices: what enters them may be left out in turn
        if (u := left.pop()) not in stays:
            stays.add(u)
            left += made[u].inputs if u in made and made[u].name != "select_n" else ()
    seen: set[tuple[Var, Infinities]] = set()
    paths: list[tuple[Var, Infinities]] = [(v, frozenset())]
    while paths:
        u, allowed = paths.pop()
        if u in stays or u in program.inputs or (u, allowed) in seen:
            continue
        seen.add((u, allowed))
        if u in numbers:
            number = np.asarray(numbers[u], np.float64)
            if np.isnan(number).any() or not allowed.issuperset(np.sign(number[np.isinf(number)]).tolist()):
                return False
            continue
        if u not in made or not _is_total(made[u], made, numbers):
            return False
        eqn = made[u]
        paths += [(x, _allowed(eqn, x, allowed, program)) for x in eqn.inputs]
    return True


def _allowed(eqn: Equation, x: Var, allowed: Infinities, program: Program) -> Infinities:
    """The signs of the infinities that a constant operand may hold: maxima do not see -inf, comparisons any."""
    if eqn.name in MOVES:
        return allowed if eqn.output not in program.varying else frozenset()
    if x in program.varying:
        return frozenset()
    if eqn.name in ("eq", "ne", "lt", "le", "gt", "ge"):
        return frozenset((-1.0, 1.0))
    beside = eqn.name in ("max", "min") and any(y in program.varying for y in eqn.inputs)
    return frozenset((-1.0 if eqn.name == "max" else 1.0,)) if beside else frozenset()


def _is_total(eqn: Equation, made: Mapping[Var, Equation], numbers: Mapping[Var, Any]) -> bool:
    """Whether an operation is defined for all that its operands can be."""
    above = lambda v, strictly: _is_above(v, strictly, made, numbers, 32)
    if eqn.name == "integer_pow":
        return eqn.params["y"] >= 0 or above(eqn.inputs[0], True)
    if eqn.name in ("sqrt", "log1p"):
        return above(eqn.inputs[0], False)
    if eqn.name in ("rsqrt", "log"):
        return above(eqn.inputs[0], True)
    if eqn.name == "div":
        number = numbers.get(eqn.inputs[1])
        return above(eqn.inputs[1], True) if number is None else bool(np.all(np.asarray(number) != 0))
    return eqn.name in TOTAL


def _is_above(v: Var, strictly: bool, made: Mapping[Var, Equation], numbers: Mapping[Var, Any], depth: int) -> bool:
    """Whether a value is > 0 (≥ 0) over the reals whatever goes in, by the signs of its operands."""
    if v in numbers:
        number = np.asarray(numbers[v])
        return bool(np.all(number > 0) if strictly else np.all(number >= 0))
    if v not in made or not depth:
        return False
    eqn = made[v]
    below = lambda x, strictly: _is_above(x, strictly, made, numbers, depth - 1)
    x, y = eqn.inputs[0] if eqn.inputs else None, eqn.inputs[1] if len(eqn.inputs) > 1 else None
    if eqn.name in ("exp", "exp2", "logistic"):
        return True
    if eqn.name in ("abs", "square", "sqrt") and not strictly:
        return True
    if eqn.name == "abs":
        return x is not None and below(x, True)
    if eqn.name == "concatenate":
        return all(below(part, strictly) for part in eqn.inputs)
    if eqn.name in ("broadcast_in_dim", "copy", "expand_dims", "reshape", "rev", "slice", "squeeze", "stop_gradient",
                    "transpose", "reduce_sum", "reduce_max", "reduce_min", "sqrt", "rsqrt"):  # fmt: skip
        return x is not None and v.size > 0 and x.size > 0 and below(x, strictly)
    if x is None or y is None:
        return eqn.name == "integer_pow" and x is not None and eqn.params["y"] % 2 == 0 and not strictly
    if eqn.name == "mul":
        return (below(x, strictly) and below(y, strictly)) or (x == y and not strictly)
    if eqn.name == "div":
        return below(x, strictly) and below(y, True)
    if eqn.name == "add":
        return (below(x, strictly) and below(y, False)) or (below(x, False) and below(y, strictly))
    if eqn.name == "max":
        return below(x, strictly) or below(y, strictly)
    return eqn.name == "min" and below(x, strictly) and below(y, strictly)
