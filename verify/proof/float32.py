"""Whether level `float32` can speak of a model: whether its float32 operations are those of the certificate's program.

A certificate's program rounds where the model does, or computes exactly what the model selects (a maximum is
y + relu(x − y), whose value no rounding touches). Where a model is written in another way for the sake of bounds, its
rounding is another; and where XLA's algebraic simplifier would merge operations so that errors are others than those
of the operations one by one, the level is claimed of no more than a compilation that was seen to keep them.
Source: openxla/xla, algebraic_simplifier.cc.
"""

from collections import Counter
from typing import Any

import numpy as np

from axiom_jax._program import Equation, Program, Var
from axiom_jax.verification.gating import bent, producers, settled
from axiom_jax.verification.search.margins import Subject
from axiom_jax.verification.shifting import differences

PROFILE = "cpu"  # accuracies of functions as they are documented for XLA on CPUs; products in full float32

MOVES = {"broadcast_in_dim", "expand_dims", "reshape", "rev", "slice", "split", "squeeze", "transpose", "gather",
         "dynamic_slice", "tile", "stack", "concatenate", "pad", "copy", "stop_gradient", "neg"}  # fmt: skip
EXACT = MOVES | {"abs", "max", "min", "clamp", "reduce_max", "reduce_min", "reduce_window_max", "reduce_window_min",
                 "select_n", "gt", "ge", "lt", "le", "and", "or", "not"}  # fmt: skip
SUMS = {"dot_general", "conv_general_dilated", "reduce_sum", "reduce_window_sum", "cumsum"}
ROUNDED = SUMS | {"add", "add_any", "sub", "mul", "div", "square", "integer_pow", "sqrt", "rsqrt", "exp", "logistic",
                  "tanh"}  # fmt: skip
ADDS = {"add", "add_any", "sub"}
SMALLEST, LARGEST = 2.0**-126, 2.0**100  # of normal numbers; of what constants may multiply to


def obstacle(subject: Subject) -> str | None:
    """Why level float32 says nothing of a model as XLA compiles it by default; None where it can be tried.

    >>> import jax
    >>> specs = (jax.ShapeDtypeStruct((2,), np.float32),)
    >>> obstacle(Subject(lambda w, x: jax.nn.relu(w * x), np.ones(2, np.float32), specs))
    >>> obstacle(Subject(lambda _, x: jax.nn.softmax(x), (), specs))
    'softmax is written by differences'
    """
    return undescribed(subject) or merged(subject)


def undescribed(subject: Subject) -> str | None:
    """Why the rounding of a model is not that of its certificate's program, though its operations are kept."""
    program, values = subject.flat
    if differences(program):
        return "softmax is written by differences"
    if others := {eqn.name for eqn in program.equations if not _covered(program, eqn)}:
        return f"the rounding of {', '.join(sorted(others))} is not described"
    if any(_settled(program, eqn) for eqn in program.equations):
        return "a choice that real numbers settle may be another in float32"
    if any(_subnormal(value) for value in _constants(program, values).values()):
        return "a subnormal constant may be flushed to zero"
    return None


def merged(subject: Subject) -> str | None:
    """What XLA's algebraic simplifier would merge so that errors are not those that are charged; None if nothing.

    Where a compilation is at hand, `compiled.kept_by` says what became of the operations.
    """
    program, values = subject.flat
    return _merged(program, _constants(program, values))


def _constants(program: Program, values: Any) -> dict[Var, Any]:
    return dict(zip(program.params, values, strict=True)) | dict(program.literals)


def _covered(program: Program, eqn: Equation) -> bool:
    if not any(np.dtype(v.dtype).kind == "f" for v in (*eqn.inputs, *eqn.outputs)):
        return True  # integers are exact
    varies = not program.varying.isdisjoint(eqn.inputs)
    return eqn.name in EXACT or eqn.name in ROUNDED or (not varies and eqn.name in ("convert_element_type", "iota"))


def _settled(program: Program, eqn: Equation) -> bool:
    """Whether what is left out may be no number in float32; leaky relus are written anew, and keep all."""
    return eqn.name == "select_n" and settled(program, eqn) is not None and bent(program, eqn) is None


def _subnormal(value: Any) -> bool:
    array = np.asarray(value)
    return array.dtype.kind == "f" and bool(np.any((array != 0) & (np.abs(array) < SMALLEST)))


def _merged(program: Program, known: dict[Var, Any]) -> str | None:
    """What a compiler would merge so that its errors are not those that are charged; None if nothing."""
    made = producers(program)
    uses = Counter([*program.outputs, *(v for eqn in program.equations for v in eqn.inputs)])
    for eqn in program.equations:
        if program.varying.isdisjoint(eqn.inputs):
            known |= dict(zip(eqn.outputs, eqn.evaluate(*(known[v] for v in eqn.inputs)), strict=True))

    def source(v: Var) -> tuple[Equation | None, bool]:
        """The equation that a value comes from behind what only moves it, and whether all of these are used once."""
        alone = uses[v] == 1
        while v in made and made[v].name in MOVES:
            moved = [w for w in made[v].inputs if w in program.varying]
            if len(moved) != 1:
                return None, alone
            (v,) = moved
            alone &= uses[v] == 1
        return made.get(v), alone

    exponentials = Counter[Var]()  # how many are factors of a product or quotient
    factors: dict[Var, float] = {}  # the most that constants multiply a value by, along the chain that it ends
    for eqn in program.equations:
        varying = [v for v in eqn.inputs if v in program.varying]
        if not varying or eqn.name not in ROUNDED:
            continue
        inner = [source(v) for v in varying]
        names = [e.name for e, _ in inner if e is not None]
        if eqn.name in SUMS - {"dot_general", "conv_general_dilated"} and SUMS.intersection(names):
            return "a sum of sums may be taken in one"
        if eqn.name in ("mul", "div", "square", "integer_pow"):
            held = sum(e.name == "exp" or exponentials[e.output] for e, _ in inner if e is not None)
            if held * (1 + (eqn.name in ("square", "integer_pow"))) > 1:
                return "products of exponentials may be exponentials of sums"
            exponentials[eqn.output] = held
        if eqn.name == "div" and "div" in names and len(varying) == 2:
            return "quotients of quotients may be taken in one"
        if len(varying) == 2:
            continue
        ((before, alone),) = inner
        if eqn.name in ("mul", "div"):
            factors[eqn.output] = _factor(eqn, known)
            if before is not None and before.output in factors:
                factors[eqn.output] *= factors[before.output]
                if not alone:
                    return "factors in a row may be multiplied first"
            if factors[eqn.output] > LARGEST:
                return "constants may multiply to what is no float32 number"
        if eqn.name in ADDS and before is not None and before.name in ADDS and not alone:
            if not program.varying.issuperset(before.inputs):
                return "terms in a row may be added first"
    return None


def _factor(eqn: Equation, known: dict[Var, Any]) -> float:
    """The most that a product or quotient with a constant multiplies by; infinite if it is not known."""
    (v,) = [v for v in eqn.inputs if v in known] or [None]
    if v is None:
        return float("inf")
    sizes = np.abs(np.asarray(known[v], np.float64)).ravel()
    if eqn.name == "div" and v is eqn.inputs[1]:
        return float(1 / sizes.min()) if sizes.min(initial=np.inf) > 0 else float("inf")
    return float(sizes.max(initial=0.0))
