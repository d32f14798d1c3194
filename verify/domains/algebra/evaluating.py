"""The domain `reals`: what every primitive means over the real numbers, element by element, at concrete sizes.

Float literals and parameters are the dyadic rationals that they are; nothing is ever rounded.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from axiom_jax._domain import require
from axiom_jax._errors import UnsupportedPrimitive
from axiom_jax._program import Equation, Program, normalise
from axiom_jax.verification.domains.algebra import elementwise, reductions
from axiom_jax.verification.domains.algebra import terms as T
from axiom_jax.verification.domains.algebra.arrays import ELEMENTS, Terms, exact, lifted, reals
from axiom_jax.verification.domains.algebra.moves import MOVES, moved

TABLES = (elementwise, reductions)  # loaded for their rules
LOOP = 4096  # iterations of a while loop


def missing_equations(program: Program) -> list[Equation]:
    """The equations that have no meaning over the reals at concrete sizes, in order."""
    return [e for e in program.equations if not _has_meaning(program, e)]


def _has_meaning(program: Program, eqn: Equation) -> bool:
    if any(np.dtype(v.dtype).kind not in "fiub" if _is_plain(v.dtype) else True for v in (*eqn.inputs, *eqn.outputs)):
        return False
    floats = any(np.dtype(v.dtype).kind == "f" for v in (*eqn.inputs, *eqn.outputs))
    return (
        eqn.name in reals.rules
        or eqn.name in {*MOVES, "iota"}
        or (not floats and program.varying.isdisjoint(eqn.inputs))
    )


def _is_plain(dtype: Any) -> bool:
    return isinstance(dtype, np.dtype)


def evaluate(program: Program, params: Sequence[Any], *inputs: Any) -> list[np.ndarray]:
    """The outputs of a program as arrays of terms.

    Args:
        params: values of `program.params`: arrays, exact as they are, or `Terms`.
        *inputs: `Terms` or arrays, one for each of `program.inputs`.

    Raises:
        UnsupportedPrimitive: listing every operation that has no meaning over the reals, with its line.

    >>> import jax
    >>> from axiom_jax._program import build
    >>> from axiom_jax.verification.domains.algebra.arrays import term_inputs
    >>> program, params = build(lambda w, x: w @ jax.nn.relu(x), np.array([0.5, 1.0], np.float32), np.zeros(2))
    >>> evaluate(program, params, term_inputs("x", (2,)))[0].item()
    add(mul(1/2, max(x[0], 0)), max(x[1], 0))
    """
    require(reals, program, missing_equations(program))
    given = [*zip(program.params, params, strict=True), *program.literals, *zip(program.inputs, inputs, strict=True)]
    env: dict[Any, Any] = {v: exact(value, v.dtype) for v, value in given}
    for eqn in program.equations:
        operands = [env[v] for v in eqn.inputs]
        if any(v.size > ELEMENTS for v in eqn.outputs):
            raise UnsupportedPrimitive(
                "An array is too large to be written out element by element.", at=eqn.at or None,
                got=f"{eqn.name} of shape {eqn.output.shape}", fix=f"ask at smaller sizes: at most {ELEMENTS}",
            )  # fmt: skip
        results = _apply(eqn, operands)
        wrong = [(v, r) for v, r in zip(eqn.outputs, results, strict=True) if v.shape != tuple(r.shape)]
        if wrong:
            raise AssertionError(f"the rule of {eqn.name} gave {wrong[0][1].shape} instead of {wrong[0][0].shape}")
        env.update(zip(eqn.outputs, results, strict=True))
    return [lifted(env[v]) for v in program.outputs]


def _apply(eqn: Equation, operands: list[Any]) -> tuple[Any, ...]:
    unknown = any(isinstance(o, Terms) for o in operands)
    made_of_floats = any(np.dtype(v.dtype).kind == "f" for v in eqn.outputs)
    if not unknown and (not made_of_floats or eqn.name == "iota"):
        return tuple(exact(np.asarray(r), v.dtype) for r, v in zip(eqn.evaluate(*operands), eqn.outputs, strict=True))
    if eqn.name in MOVES:
        return moved(eqn, operands)
    results = reals.rules[eqn.name](*operands, **eqn.params)
    results = results if eqn.primitive.multiple_results else (results,)
    return tuple(r if isinstance(r, Terms) or r.dtype != object else Terms(r) for r in map(np.asarray, results))


@reals.rule("cond")
def _cond(which: Any, *operands: Any, branches: Any, **_: Any) -> list[Any]:
    if not isinstance(which, Terms):
        return _closed(branches[int(np.clip(which, 0, len(branches) - 1))], operands)
    results = [_closed(branch, operands) for branch in branches]
    if len(branches) == 2 and which.array.item().boolean:
        position = which
    else:
        position = Terms(elementwise.clamp(0, which, len(branches) - 1))
    return [elementwise.select_n(position, *columns) for columns in zip(*results, strict=True)]


@reals.rule("while")
def _while(*operands: Any, cond_nconsts: int, cond_jaxpr: Any, body_nconsts: int, body_jaxpr: Any, **_: Any) -> Any:
    """A loop whose condition never depends on the inputs."""
    split = cond_nconsts + body_nconsts
    known, fixed, carry = operands[:cond_nconsts], operands[cond_nconsts:split], list(operands[split:])
    for _step in range(LOOP):
        (going,) = _closed(cond_jaxpr, [*known, *carry])
        if going.item().op != "truth":
            raise UnsupportedPrimitive("A while loop stops depending on the inputs.",
                                       fix="loop a known number of times (lax.fori_loop)")  # fmt: skip
        if going.item() is T.FALSE:
            return [lifted(c) for c in carry]
        results = _closed(body_jaxpr, [*fixed, *carry])
        carry = [_known(new, old) for new, old in zip(results, carry, strict=True)]
    raise UnsupportedPrimitive("A while loop runs too long.", got=f"more than {LOOP} steps", fix="loop fewer times")


def _known(new: np.ndarray, old: Any) -> Any:
    """Integers that are numbers again, so that what they steer stays known."""
    if isinstance(old, Terms) or any(t.op not in ("number", "truth") for t in new.ravel()):
        return Terms(new)
    return np.array([t.value for t in new.ravel()], np.asarray(old).dtype).reshape(new.shape)


def _closed(closed: Any, operands: Sequence[Any]) -> list[np.ndarray]:
    program, captured = normalise(closed)
    return evaluate(program, captured, *operands)
