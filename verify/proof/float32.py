"""Whether level `float32` can speak of a model: whether its float32 operations are those of the certificate's program.

A certificate's program rounds where the model does, or computes exactly what the model selects (a maximum is
y + relu(x − y), whose value no rounding touches). Where a model is written in another way for the sake of bounds, its
rounding is another; and where XLA's algebraic simplifier would merge operations so that errors are others than those
of the operations one by one, the level is not claimed either: then the answer is level `real` alone.
Source: openxla/xla, algebraic_simplifier.cc.
"""

from collections import Counter
from typing import Any

import numpy as np

from axiom_jax._errors import SpecError
from axiom_jax._program import Equation, Program, Var
from axiom_jax.verification.gating import bent, producers, settled
from axiom_jax.verification.search.margins import Subject
from axiom_jax.verification.shifting import differences

PROFILE = "cpu"  # accuracies of functions as they are documented for XLA on CPUs; products in full float32
PROFILES = (PROFILE, "cuda", "tpu")  # the checker knows the first two; of the last, why there is none
TPU = "a TPU multiplies float32 numbers in parts of bfloat16, and no error of such products is proved"

MOVES = {"broadcast_in_dim", "expand_dims", "reshape", "rev", "slice", "split", "squeeze", "transpose", "gather",
         "dynamic_slice", "tile", "stack", "concatenate", "pad", "copy", "stop_gradient", "neg"}  # fmt: skip
EXACT = MOVES | {"abs", "max", "min", "clamp", "reduce_max", "reduce_min", "reduce_window_max", "reduce_window_min",
                 "select_n", "gt", "ge", "lt", "le", "and", "or", "not"}  # fmt: skip
SUMS = {"dot_general", "conv_general_dilated", "reduce_sum", "reduce_window_sum", "cumsum"}
ROUNDED = SUMS | {"add", "add_any", "sub", "mul", "div", "square", "integer_pow", "sqrt", "rsqrt", "exp", "logistic",
                  "tanh", "log", "erf", "sin", "cos", "atan"}  # fmt: skip
ADDS = {"add", "add_any", "sub"}
FLUSHED = ADDS | {"mul", "dot_general", "conv_general_dilated"}  # whose charged errors hold a constant's flushing
SMALLEST, LARGEST = 2.0**-126, 2.0**100  # of normal numbers; of what constants may multiply to


def require_profile(profile: str, at: str | None) -> None:
    """Refuse what is no profile.

    Raises:
        SpecError: it names those that there are.
    """
    if profile not in PROFILES:
        raise SpecError("There is no such profile.", at=at, got=repr(profile), fix=f"use {', '.join(PROFILES)}")


def obstacle(subject: Subject, profile: str = PROFILE) -> str | None:
    """Why level float32 says nothing of a model on the machines of a profile; None where it can be tried.

    >>> import jax
    >>> specs = (jax.ShapeDtypeStruct((2,), np.float32),)
    >>> obstacle(Subject(lambda w, x: jax.nn.relu(w * x), np.ones(2, np.float32), specs))
    >>> obstacle(Subject(lambda _, x: jax.nn.softmax(x), (), specs))
    'softmax is written by differences'
    >>> obstacle(Subject(lambda _, x: jax.nn.relu(x), (), specs), "tpu")
    'a TPU multiplies float32 numbers in parts of bfloat16, and no error of such products is proved'
    """
    if profile == "tpu":
        return TPU
    program, values = subject.flat
    if differences(program):
        return "softmax is written by differences"
    if others := {eqn.name for eqn in program.equations if not _covered(program, eqn)}:
        return f"the rounding of {', '.join(sorted(others))} is not described"
    if any(_settled(program, eqn) for eqn in program.equations):
        return "a choice that real numbers settle may be another in float32"
    known = dict(zip(program.params, values, strict=True)) | dict(program.literals)
    if _flushed(program, known):
        return "a subnormal constant may be flushed to zero"
    return _merged(program, known)


def _covered(program: Program, eqn: Equation) -> bool:
    if not any(np.dtype(v.dtype).kind == "f" for v in (*eqn.inputs, *eqn.outputs)):
        return True  # integers are exact
    varies = not program.varying.isdisjoint(eqn.inputs)
    return eqn.name in EXACT or eqn.name in ROUNDED or (not varies and eqn.name in ("convert_element_type", "iota"))


def _settled(program: Program, eqn: Equation) -> bool:
    """Whether what is left out may be no number in float32; leaky relus are written anew, and keep all."""
    return eqn.name == "select_n" and settled(program, eqn) is not None and bent(program, eqn) is None


def _flushed(program: Program, known: dict[Var, Any]) -> bool:
    """Whether flushing a subnormal constant may change more than is charged: anywhere but where it is moved, added to
    what varies, or multiplied with that, which is below 2^60: by 2^-126 times the sum of fewer than 2^23 such values,
    less than 2^-43, where 3 * 2^-40 are charged."""
    small = {v for v, value in known.items() if _subnormal(value)}
    if small.intersection(program.outputs):
        return True
    for eqn in program.equations:
        if small.isdisjoint(eqn.inputs):
            continue
        varies = not program.varying.isdisjoint(eqn.inputs)
        if not varies and eqn.name in MOVES:
            small.update(eqn.outputs)
        elif not (varies and eqn.name in FLUSHED):
            return True
    return False


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

    def sources(v: Var) -> list[tuple[Equation, bool]]:
        """Equations that a value, or elements of it, may be taken from directly once a compiler has left out what
        changes nothing; and whether all between is used once."""
        found, waiting = dict[Equation, bool](), [(v, uses[v] == 1)]
        while waiting:
            v, alone = waiting.pop()
            if v not in made:
                continue
            if passed := _passed(program, made[v], known):
                waiting += [(w, alone and uses[w] == 1) for w in passed]
            else:
                found[made[v]] = alone and found.get(made[v], True)
        return [*found.items()]

    exponentials = Counter[Var]()  # how many are factors of a product or quotient
    factors: dict[Var, float] = {}  # the most that constants multiply a value by, along the chain that it ends
    for eqn in program.equations:
        varying = [v for v in eqn.inputs if v in program.varying]
        if not varying or eqn.name not in ROUNDED:
            continue
        inner = [sources(v) for v in varying]
        names = [e.name for found in inner for e, _ in found]
        if eqn.name in SUMS - {"dot_general", "conv_general_dilated"} and SUMS.intersection(names):
            return "a sum of sums may be taken in one"
        if eqn.name in ("mul", "div", "square", "integer_pow"):
            held = sum(
                max((exponentials[e.output] + (e.name == "exp") for e, _ in found), default=0) for found in inner
            )
            if held * (1 + (eqn.name in ("square", "integer_pow"))) > 1:
                return "products of exponentials may be exponentials of sums"
            exponentials[eqn.output] = held
            if eqn.name == "div" and any(e.name == "exp" and not alone for e, alone in sources(eqn.inputs[1])):
                return "an exponential that divides may be that of the negative"
        if (eqn.name == "log" and {"exp", "add", "sqrt", "rsqrt", "square", "integer_pow"}.intersection(names)) or (
            eqn.name == "exp" and "log" in names
        ):
            return "logarithms and what they are taken of may be taken in one"
        if eqn.name == "div" and "div" in names and len(varying) == 2:
            return "quotients of quotients may be taken in one"
        if len(varying) == 2:
            continue
        if eqn.name in ("mul", "div"):
            before = [(e, alone) for e, alone in inner[0] if e.output in factors]
            factors[eqn.output] = _factor(eqn, known) * max((factors[e.output] for e, _ in before), default=1.0)
            if not all(alone for _, alone in before):
                return "factors in a row may be multiplied first"
            if factors[eqn.output] > LARGEST:
                return "constants may multiply to what is no float32 number"
        if eqn.name in ADDS:
            before = [(e, alone) for e, alone in inner[0] if e.name in ADDS]
            if not all(alone or program.varying.issuperset(e.inputs) for e, alone in before):
                return "terms in a row may be added first"
    return None


def _passed(program: Program, eqn: Equation, known: dict[Var, Any]) -> list[Var]:
    """The varying inputs of which an equation's value may be nothing but a copy, as a compiler may find out: those of
    what moves elements, adds 0, multiplies by 1, sums or compares one number, chooses between equal ones."""
    varying = [v for v in eqn.inputs if v in program.varying and np.dtype(v.dtype).kind == "f"]
    fixed = [np.asarray(known[v]) for v in eqn.inputs if v in known]
    if eqn.name in MOVES | {"abs", "reduce_max", "reduce_min", "reduce_window_max", "reduce_window_min"}:
        return varying
    if eqn.name == "select_n":
        return varying if eqn.inputs[0] not in program.varying or len({*varying}) == 1 else []
    if eqn.name in ("max", "min", "clamp"):
        return varying if len({*varying}) == 1 and not any(np.isfinite(x).any() for x in fixed) else []
    if eqn.name in ("reduce_sum", "reduce_window_sum", "cumsum"):
        return varying if varying and varying[0].size == eqn.output.size else []
    if eqn.name == "dot_general":
        ((summed, _), _) = eqn.params["dimension_numbers"]
        return varying if all(eqn.inputs[0].shape[d] == 1 for d in summed) else []
    neutral = {"add": 0, "add_any": 0, "sub": 0, "mul": 1, "div": 1}.get(eqn.name)
    one = neutral is not None and len(varying) == 1 and any(bool((x == neutral).all()) for x in fixed)
    return varying if one and not (eqn.name == "div" and eqn.inputs[1] in varying) else []


def _factor(eqn: Equation, known: dict[Var, Any]) -> float:
    """The most that a product or quotient with a constant multiplies by; infinite if it is not known."""
    (v,) = [v for v in eqn.inputs if v in known] or [None]
    if v is None:
        return float("inf")
    sizes = np.abs(np.asarray(known[v], np.float64)).ravel()
    if eqn.name == "div" and v is eqn.inputs[1]:
        return float(1 / sizes.min()) if sizes.min(initial=np.inf) > 0 else float("inf")
    return float(sizes.max(initial=0.0))
