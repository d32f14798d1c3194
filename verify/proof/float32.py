"""Whether level `float32` can speak of a model: whether its float32 operations are those of the certificate's program.

A certificate's program rounds where the model does, or computes exactly what the model selects (a maximum is
y + relu(x − y), whose value no rounding touches). Where a model is written in another way for the sake of bounds, its
rounding is another: there the answer is level `real` alone.
"""

import numpy as np

from axiom_jax._program import Equation, Program
from axiom_jax.verification.search.margins import Subject
from axiom_jax.verification.shifting import differences

PROFILE = "cpu"  # accuracies of functions as they are documented for XLA on CPUs; products in full float32

EXACT = {"broadcast_in_dim", "expand_dims", "reshape", "rev", "slice", "split", "squeeze", "transpose", "gather",
         "dynamic_slice", "tile", "stack", "concatenate", "pad", "copy", "stop_gradient", "neg", "abs", "max", "min",
         "clamp", "reduce_max", "reduce_min", "reduce_window_max", "reduce_window_min", "select_n", "gt", "ge", "lt",
         "le", "and", "or", "not"}  # fmt: skip
ROUNDED = {"add", "add_any", "sub", "mul", "div", "square", "integer_pow", "sqrt", "rsqrt", "exp", "logistic", "tanh",
           "dot_general", "conv_general_dilated", "reduce_sum", "reduce_window_sum", "cumsum"}  # fmt: skip


def obstacle(subject: Subject) -> str | None:
    """Why level float32 says nothing of a model; None where it can be tried.

    >>> import jax
    >>> specs = (jax.ShapeDtypeStruct((2,), np.float32),)
    >>> obstacle(Subject(lambda w, x: jax.nn.relu(w * x), np.ones(2, np.float32), specs))
    >>> obstacle(Subject(lambda _, x: jax.nn.softmax(x), (), specs))
    'softmax is written by differences'
    """
    program, _ = subject.flat
    if differences(program):
        return "softmax is written by differences"
    others = {eqn.name for eqn in program.equations if not _covered(program, eqn)}
    return f"the rounding of {', '.join(sorted(others))} is not described" if others else None


def _covered(program: Program, eqn: Equation) -> bool:
    if not any(np.dtype(v.dtype).kind == "f" for v in (*eqn.inputs, *eqn.outputs)):
        return True  # integers are exact
    varies = not program.varying.isdisjoint(eqn.inputs)
    return eqn.name in EXACT or eqn.name in ROUNDED or (not varies and eqn.name in ("convert_element_type", "iota"))
