"""What numbers that are written in a function decide by themselves, as `n - ddof > 0` does in `jnp.var`.

Only arithmetic that is exact both over the real numbers and in the dtypes at hand is followed, so that a choice is the
same for the theorem and for the program that runs.
"""

import operator
from collections.abc import Callable
from fractions import Fraction
from functools import lru_cache
from typing import Any

import numpy as np

from axiom_jax._program import Equation, Program, Replacement, Var
from axiom_jax.verification.gating import producers

MOVES = {"broadcast_in_dim", "convert_element_type", "copy", "reshape", "squeeze"}
ARITHMETIC: dict[str, Callable[[Any, Any], Any]] = {"add": operator.add, "sub": operator.sub, "mul": operator.mul}
COMPARISONS: dict[str, Callable[[Any, Any], bool]] = {
    "eq": operator.eq, "ne": operator.ne, "lt": operator.lt, "le": operator.le, "gt": operator.gt, "ge": operator.ge,
}  # fmt: skip


def chosen(program: Program, eqn: Equation) -> Replacement | None:
    """The case that a choice takes always; what the other one is, as a NaN, is then of no interest."""
    if eqn.name != "select_n" or (which := decided(program, eqn.inputs[0])) is None or len(eqn.inputs) != 3:
        return None
    return lambda _, *cases: cases[which]


def decided(program: Program, v: Var) -> int | None:
    """The value of a predicate, 1 or 0 everywhere, where literals alone decide it; None where they do not.

    >>> import jax.numpy as jnp
    >>> from axiom_jax._program import build
    >>> program, _ = build(lambda _, x: jnp.var(x), (), jnp.ones(4))
    >>> [decided(program, eqn.inputs[0]) for eqn in program.equations if eqn.name == "select_n"]
    [1]
    """
    if v.dtype != np.bool_:
        return None
    value = _value(program, v)
    return None if value is None else int(value)


@lru_cache(maxsize=256)
def _value(program: Program, v: Var) -> Fraction | bool | None:
    """The one number that a value holds; None where it is not known or not exact."""
    if v in program.varying or v in program.params:
        return None
    if (literal := dict(program.literals).get(v)) is not None:
        return _held(v, literal.item() if isinstance(literal, (np.ndarray, np.generic)) else literal)
    made = producers(program).get(v)
    if made is None:
        return None
    operands = [_value(program, operand) for operand in made.inputs]
    if any(operand is None for operand in operands):
        return None
    if made.name in MOVES and len(operands) == 1:
        return _held(v, operands[0])
    rule = ARITHMETIC.get(made.name) or COMPARISONS.get(made.name)
    return None if rule is None or len(operands) != 2 else _held(v, rule(*operands))


def _held(v: Var, value: Any) -> Fraction | bool | None:
    """The value, if the variable's dtype holds it as it is."""
    if v.dtype == np.bool_:
        return bool(value) if isinstance(value, (bool, np.bool_)) else None
    try:
        exact = Fraction(value)
    except (TypeError, ValueError, OverflowError):  # not a finite number
        return None
    if v.dtype == np.float32:
        with np.errstate(over="ignore"):
            near = np.float32(float(exact))
        return exact if np.isfinite(near) and Fraction(float(near)) == exact else None
    whole = v.dtype in (np.int32, np.int64) and exact.denominator == 1 and abs(exact) < 1 << 31
    return exact if whole else None
