"""What a theorem may forget: weights, or whole layers, become variables of which nothing is known.

A proof for every value proves the claim; a counterexample to it says nothing. A layer may only be forgotten where it
has a finite value for every input, since a condition under which it is defined would be forgotten with it.
"""

from typing import Any

import numpy as np

from axiom_jax._program import Equation, Program, Var
from axiom_jax.verification.domains.symbolic.indexing import Ranges, Unexpressible, affine

CONTRACTIONS = {"dot_general", "conv_general_dilated"}
# finite and defined wherever the operands are
TOTAL = {
    *CONTRACTIONS, "add", "add_any", "sub", "mul", "neg", "max", "min", "abs", "sign", "square", "exp", "exp2", "expm1",
    "logistic", "tanh", "erf", "erfc", "sin", "cos", "sinh", "cosh", "asinh", "cbrt", "clamp", "select_n", "eq", "ne",
    "lt", "le", "gt", "ge", "and", "or", "not", "xor", "is_finite", "reduce_sum", "reduce_prod", "reduce_and",
    "reduce_or", "cumsum", "cumprod", "broadcast_in_dim", "reshape", "transpose", "squeeze", "expand_dims", "rev",
    "slice", "concatenate", "stack", "unstack", "tile", "split", "pad", "iota", "convert_element_type",
    "reduce_precision", "reduce_window_sum", "dim_as_value",
}  # fmt: skip


def forgettable(values: Any) -> bool:
    """Whether a captured array is one of real numbers, all of them finite, and more than one."""
    known = np.asarray(values)
    return known.size > 1 and known.dtype.kind not in "biuc" and bool(np.isfinite(known.astype(np.float64)).all())


def layers(program: Program, captured: Any) -> list[Var]:
    """Products of something that varies with captured arrays, which are finite whatever the input.

    >>> import jax, jax.numpy as jnp
    >>> from axiom_jax._program import build
    >>> weights = jnp.ones((2, 3))
    >>> program, captured = build(lambda _, x: jax.nn.softmax(weights @ jnp.tanh(x)), (), jnp.zeros(3))
    >>> [v.shape for v in layers(program, captured)]
    [(2,)]
    """
    weights = {v for v, values in zip(program.params, captured, strict=True) if forgettable(values)}
    numbers = {v: np.asarray(value) for v, value in program.literals}
    total = {*program.inputs, *weights, *(v for v, x in numbers.items() if np.isfinite(x.astype(np.float64)).all())}
    total |= {v for v in program.params if _whole(v)}
    found: list[Var] = []
    for eqn in program.equations:
        if not total.issuperset(eqn.inputs) or not _total(eqn, numbers):
            continue
        total.update(eqn.outputs)
        varying = not program.varying.isdisjoint(eqn.inputs)
        if varying and eqn.name in CONTRACTIONS and not weights.isdisjoint(eqn.inputs):
            found += eqn.outputs
        if not varying and not weights.isdisjoint(eqn.inputs):
            weights.update(eqn.outputs)
    return found


def _total(eqn: Equation, numbers: dict[Var, Any]) -> bool:
    if eqn.name == "integer_pow":
        return eqn.params["y"] >= 0
    if eqn.name == "div":
        return not _whole(eqn.output) and bool(numbers.get(eqn.inputs[1], np.zeros(())).all())
    if eqn.name in ("reduce_max", "reduce_min"):
        return all(_occupied(eqn.inputs[0].shape[k]) for k in eqn.params["axes"])
    if eqn.name == "convert_element_type":
        return eqn.output.dtype.kind == "b" or not _whole(eqn.output) or _whole(eqn.inputs[0])
    return eqn.name in TOTAL


def _whole(v: Var) -> bool:
    return getattr(v.dtype, "kind", "") in ("b", "i", "u")


def _occupied(size: Any) -> bool:
    """Whether an axis has an entry, whatever the sizes."""
    try:
        return Ranges().nonnegative(affine(size) - 1) is True
    except Unexpressible:
        return False
