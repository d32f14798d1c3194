"""What a varying comparison decides, written with one primitive: a gate.

`select_n(g > 0, 0, v)` is v where g > 0 and 0 where g < 0. At g = 0 it counts as anything between 0 and v, in every
domain and in the certificate: comparisons that differ only there (> and >=), and whichever subgradient JAX takes,
are all covered. A condition becomes a number, its margin: ≥ 0 where the condition holds, ≤ 0 where it does not.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import lax

from axiom_jax._program import Equation, Program, Replacement, Var
from axiom_jax.verification.definedness import is_defined

ORDERS = {"gt", "ge", "lt", "le"}
COMPARISONS = ORDERS | {"eq", "ne"}
LOGIC = {"and", "or", "not", "xor"}
MOVES = {"broadcast_in_dim", "concatenate", "expand_dims", "reshape", "rev", "slice", "split", "squeeze", "stack",
         "tile", "transpose", "gather", "dynamic_slice", "copy"}  # fmt: skip


@lru_cache(maxsize=64)
def producers(program: Program) -> dict[Var, Equation]:
    """The equation that each variable comes from."""
    return {v: eqn for eqn in program.equations for v in eqn.outputs}


def is_constant(program: Program, v: Var, number: float) -> bool:
    """Whether a variable is a literal number, or an array filled with it."""
    while v in (made := producers(program)) and made[v].name in ("broadcast_in_dim", "convert_element_type", "reshape"):
        v = made[v].inputs[0]
    literals = dict(program.literals)
    return v in literals and bool(np.all(np.asarray(literals[v]) == number))


def gate_operands(program: Program, eqn: Equation) -> tuple[Var, Var] | None:
    """(g, v) of a gate `select_n(g > 0, 0, v)`, if an equation has that form."""
    if eqn.name != "select_n" or len(eqn.inputs) != 3 or eqn.inputs[0].dtype != bool:
        return None
    decides = producers(program).get(eqn.inputs[0])
    if decides is None or decides.name != "gt" or eqn.output.dtype != np.float32:
        return None
    g, zero = decides.inputs
    fits = g in program.varying and g.dtype == np.float32 and g.shape == eqn.output.shape
    if not fits or not is_constant(program, zero, 0.0) or not is_constant(program, eqn.inputs[1], 0.0):
        return None
    return g, eqn.inputs[2]


def gate(g: Any, v: Any) -> Any:
    """The canonical form of a gate."""
    return lax.select_n(g > jnp.zeros((), g.dtype), jnp.zeros_like(v), v)


def gated(program: Program, eqn: Equation) -> Replacement | None:
    """How an equation is written with gates; None where it is no matter of deciding, or cannot be."""
    if eqn.output not in program.varying or eqn.output.dtype != np.float32:
        return None
    match eqn.name:
        case "select_n":
            return _select(program, eqn)
        case "convert_element_type":
            return _number_of(program, eqn) if eqn.inputs[0].dtype == bool else None
        case "sign":
            return lambda x: gate(x, jnp.ones_like(x)) - gate(-x, jnp.ones_like(x))
        case "mul":
            return _times(program, eqn)
        case "square":
            return lambda x: lax.integer_pow(x, 2)
        case "add_any":
            return lambda x, y: x + y
    return None


def _select(program: Program, eqn: Equation) -> Replacement | None:
    which, *cases = eqn.inputs
    if which not in program.varying or which.dtype != bool or gate_operands(program, eqn) is not None:
        return None
    if (margin := margin_of(program, which)) is None:
        return None
    leaves, number = margin
    zero = [is_constant(program, v, 0.0) for v in cases]

    def replacement(*operands: Any) -> Any:
        a, b = operands[len(leaves) :]
        g = jnp.broadcast_to(number(*operands[: len(leaves)]), a.shape)
        if zero[0]:
            return gate(g, b)
        return gate(-g, a) if zero[1] else a + gate(g, b - a)

    return replacement, (*leaves, *cases)


def settled(program: Program, eqn: Equation) -> Replacement | None:
    """What real numbers settle whatever they are: x is x, every number is finite and below infinity; and x is the
    maximum of x and y where x ≥ y."""
    if eqn.name in ("max", "min") and eqn.output.dtype == np.float32:
        nothing = -np.inf if eqn.name == "max" else np.inf
        for one, other in ((0, 1), (1, 0)):
            if is_constant(program, eqn.inputs[one], nothing) and eqn.inputs[other].shape == eqn.output.shape:
                return lambda *operands: operands[other]
    if eqn.name in ("eq", "ne") and eqn.output in program.varying:
        return _is_extreme(program, eqn)
    if (found := bent(program, eqn)) is not None:
        return found
    made = producers(program).get(eqn.inputs[0]) if eqn.name == "select_n" and len(eqn.inputs) == 3 else None
    if made is None:
        return None
    same = made.name in COMPARISONS and made.inputs[0] == made.inputs[1] and made.inputs[0].dtype != bool
    if not (same or made.name == "is_finite") or made.inputs[0] not in program.varying:
        return None
    first = made.name not in ("is_finite", "eq", "le", "ge")
    if not is_defined(program, made.inputs[0], eqn.inputs[1 if first else 2]):
        return None
    return (lambda _, no, yes: no) if first else (lambda _, no, yes: yes)


def bent(program: Program, eqn: Equation) -> Replacement | None:
    """where(x > 0, a·x, b·x), as leaky relus are written: b·x + (a − b)·max(x, 0), one relu and no gate."""
    made = producers(program).get(eqn.inputs[0]) if eqn.name == "select_n" and len(eqn.inputs) == 3 else None
    if made is None or made.name not in ORDERS or eqn.output.dtype != np.float32:
        return None
    zeros = [is_constant(program, v, 0.0) for v in made.inputs]
    if not any(zeros):
        return None
    x = made.inputs[0 if zeros[1] else 1]
    if x not in program.varying or x.dtype != np.float32 or x.shape != eqn.output.shape:
        return None
    cases = eqn.inputs[2:0:-1] if (made.name in ("gt", "ge")) == zeros[1] else eqn.inputs[1:]
    slopes = [_multiple(program, v, x) for v in cases]
    if any(slope is None for slope in slopes):
        return None
    given = tuple(v for v in slopes if isinstance(v, Var))

    def replacement(x: Any, *known: Any) -> Any:
        left = list(known)
        right, below = ((left.pop(0) if isinstance(v, Var) else v) for v in slopes)
        assert right is not None and below is not None
        kink = jnp.maximum(x, jnp.zeros((), x.dtype))
        if not given:  # each is 1 or 0
            return kink if right != below and right else x - kink if right != below else x * right
        return kink * (right - below) + (x if isinstance(below, float) and below else x * below)

    return replacement, (x, *given)


def _multiple(program: Program, v: Var, x: Var) -> Var | float | None:
    """k where v is k·x for what does not depend on the inputs; None where that is not seen."""
    if v == x:
        return 1.0
    if is_constant(program, v, 0.0):
        return 0.0
    made = producers(program).get(v)
    if made is None or made.name != "mul" or x not in made.inputs:
        return None
    other = made.inputs[1 - made.inputs.index(x)]
    return other if other not in program.varying and other.shape in ((), x.shape) else None


def _is_extreme(program: Program, eqn: Equation) -> Replacement | None:
    literals = dict(program.literals)
    same = lambda x, y: x == y or (x in literals and y in literals and bool(np.all(literals[x] == literals[y])))
    for one, other in (eqn.inputs, eqn.inputs[::-1]):
        made = producers(program).get(other)
        if made is None or made.name not in ("max", "min"):
            continue
        mine = [same(one, v) for v in made.inputs]
        if any(mine):
            rival = made.inputs[1] if mine[0] else made.inputs[0]
            return _order(made.name == "max", eqn.name == "eq", eqn.output.shape), (one, rival)
    return None


def _order(greater: bool, holds: bool, shape: tuple[int, ...]) -> Callable[..., Any]:
    def compare(x: Any, y: Any) -> Any:
        found = jnp.broadcast_to(x >= y if greater else x <= y, shape)
        return found if holds else ~found

    return compare


def _number_of(program: Program, eqn: Equation) -> Replacement | None:
    """1 where a condition holds, else 0."""
    if (margin := margin_of(program, eqn.inputs[0])) is None:
        return None
    leaves, number = margin

    def replacement(*operands: Any) -> Any:
        g = jnp.broadcast_to(number(*operands), eqn.output.shape)
        return gate(g, jnp.ones_like(g))

    return replacement, leaves


def _times(program: Program, eqn: Equation) -> Replacement | None:
    """A square; or a gate of a known value times a variable: a gate of the product."""
    x, y = eqn.inputs
    if x == y:
        return lambda x, _: lax.integer_pow(x, 2)
    if x not in program.varying or y not in program.varying:
        return None
    for one, other in ((x, y), (y, x)):
        made = producers(program).get(one)
        parts = gate_operands(program, made) if made is not None else None
        if parts is not None and parts[1] not in program.varying and other.shape == one.shape:
            return lambda g, v, t: gate(g, v * t), (*parts, other)
    return None


Margin = tuple[tuple[Var, ...], Callable[..., Any]]


def margin_of(program: Program, condition: Var) -> Margin | None:
    """The margin of a condition as a function of the variables that it is computed from.

    Returns:
        Those variables, and a function of their values that gives the margin; None if the condition is not made of
        comparisons of float32 numbers, logic, and moves of elements.
    """
    leaves: dict[Var, None] = {}
    if not _collect(program, condition, leaves):
        return None
    order = tuple(leaves)

    def number(*values: Any) -> Any:
        return _margin(program, condition, dict(zip(order, values, strict=True)), {})

    return order, number


def _collect(program: Program, v: Var, leaves: dict[Var, None]) -> bool:
    """Find what a condition is computed from; whether it can be written as a number."""
    eqn = producers(program).get(v)
    if v not in program.varying:
        leaves[v] = None
        return True
    if eqn is None or v.dtype != bool:
        return False
    if eqn.name in COMPARISONS and eqn.inputs[0].dtype != bool:
        leaves.update(dict.fromkeys(eqn.inputs))
        return all(x.dtype == np.float32 for x in eqn.inputs)
    if eqn.name == "is_finite":
        leaves[eqn.inputs[0]] = None
        return is_defined(program, eqn.inputs[0])
    if eqn.name in LOGIC | {"eq", "ne", "reduce_and", "reduce_or"}:
        return all([_collect(program, x, leaves) for x in eqn.inputs])
    if eqn.name == "select_n":
        return all([_collect(program, x, leaves) for x in eqn.inputs]) and eqn.inputs[0].dtype == bool
    if eqn.name in MOVES and all(x.dtype == bool or x not in program.varying for x in eqn.inputs):
        return all([_collect(program, x, leaves) for x in eqn.inputs])
    return False


def _margin(program: Program, v: Var, values: dict[Var, Any], known: dict[Var, Any]) -> Any:
    if v in known:
        return known[v]
    if v in values and v.dtype == bool:
        return jnp.where(values[v], jnp.float32(1), jnp.float32(-1))
    eqn = producers(program)[v]
    below = lambda x: _margin(program, x, values, known)
    if eqn.name in COMPARISONS and eqn.inputs[0].dtype != bool:
        x, y = eqn.inputs
        zero = is_constant(program, y, 0.0), is_constant(program, x, 0.0)
        found = _of_comparison(eqn.name, values[x], values[y], *zero)
    elif eqn.name == "is_finite":
        found = jnp.ones_like(values[eqn.inputs[0]])
    elif eqn.name in LOGIC | {"eq", "ne"}:
        found = _of_logic(eqn.name, *map(below, eqn.inputs))
    elif eqn.name in ("reduce_and", "reduce_or"):
        over = jnp.min if eqn.name == "reduce_and" else jnp.max
        found = over(below(eqn.inputs[0]), axis=eqn.params["axes"])
    elif eqn.name == "select_n":
        which, a, b = map(below, eqn.inputs)
        found = jnp.maximum(jnp.minimum(which, b), jnp.minimum(-which, a))
    else:
        operands = [below(x) if x.dtype == bool else values[x] for x in eqn.inputs]
        moved = eqn.evaluate(*operands)
        known.update(zip(eqn.outputs, moved, strict=True))
        return known[v]
    known[v] = found
    return found


def _of_comparison(name: str, x: Any, y: Any, y_is_zero: bool, x_is_zero: bool) -> Any:
    """The margin of a comparison; a difference to zero is not written down."""
    if name in ("lt", "le"):
        x, y, y_is_zero, x_is_zero = y, x, x_is_zero, y_is_zero
    shape = jnp.broadcast_shapes(x.shape, y.shape)
    difference = jnp.broadcast_to(x, shape) if y_is_zero else jnp.broadcast_to(-y, shape) if x_is_zero else x - y
    return {"eq": lambda d: -jnp.abs(d), "ne": jnp.abs}.get(name, lambda d: d)(difference)


def _of_logic(name: str, *margins: Any) -> Any:
    if name == "not":
        return -margins[0]
    x, y = margins
    differ = lambda: jnp.maximum(jnp.minimum(x, -y), jnp.minimum(-x, y))
    found: dict[str, Callable[[], Any]] = {
        "and": lambda: jnp.minimum(x, y), "or": lambda: jnp.maximum(x, y), "xor": differ, "ne": differ,
        "eq": lambda: -differ(),
    }  # fmt: skip
    return found[name]()
