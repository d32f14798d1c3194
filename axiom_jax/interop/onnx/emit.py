"""Programs to ONNX nodes: the domain `ONNX`, a table from primitive to emitter, and the loop that runs it.

An emitter takes the sheet it writes to, the equation, and a value for each operand; it gives a value for
each result. What depends on no input is computed now and becomes an initializer. What has no emitter is
collected, so that all of it is told at once.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from axiom_jax._domain import Domain, require
from axiom_jax._program import Equation, Program, Var
from axiom_jax._shapes_text import is_number
from axiom_jax.interop.onnx.graph import NotInOnnx, Sheet, Value, joint, same_shape

ONNX = Domain("onnx", Value)
POINTWISE: set[str] = set()  # primitives that act on each element alone
FOLDED = 4096  # elements that a constant may have beyond those it is made of
LAZY = {"broadcast_in_dim", "iota"}  # constants that would only grow


def emit(sheet: Sheet, program: Program, params: Sequence[Any], inputs: Sequence[Value]) -> list[Value]:
    """Write a program's equations.

    Args:
        params: the values of `program.params`, arrays.
        inputs: a value of the sheet for each of `program.inputs`.

    Returns:
        A value for each of the program's outputs.

    Raises:
        UnsupportedPrimitive: naming every equation that has no ONNX form.
    """
    fill_table()
    results = write(sheet, program, params, inputs)
    require(ONNX, program, sheet.gaps)
    return results


def write(sheet: Sheet, program: Program, params: Sequence[Any], inputs: Sequence[Value]) -> list[Value]:
    """As `emit`; what has no ONNX form is added to the sheet's gaps."""
    from axiom_jax.interop.onnx.fuse import fused

    env: dict[Var, Value] = dict(zip(program.inputs, inputs, strict=True))
    for var, known in zip(program.params, params, strict=True):
        env[var] = sheet.constant(known) if isinstance(var.dtype, np.dtype) else _opaque(var, known)
    env |= {var: replace(sheet.constant(np.asarray(value, var.dtype)), shape=var.shape) for var, value in
            program.literals}  # fmt: skip
    for var, name in zip(program.params, program.names, strict=False):
        if env[var].constant is not None:
            env[var] = replace(env[var], hint=name)
    steps = fused(program, sheet.opset)
    outer, sheet.uses = sheet.uses, type(sheet.uses)(program.outputs)
    for eqn, fusion in steps:
        sheet.uses.update(fusion.inputs if fusion else eqn.inputs)
    for eqn, fusion in steps:
        try:
            if fusion:
                results = [fusion.write(sheet, eqn, *(env[v] for v in fusion.inputs))]
            else:
                results = apply(sheet, eqn, [env[v] for v in eqn.inputs])
        except NotInOnnx as error:
            sheet.gaps.append(replace(eqn, at=f"{eqn.at or 'unknown line'}: {error}"))
            results = [sheet.held(sheet.fresh("unwritten"), v.shape, np.float32) for v in eqn.outputs]
        env.update(zip(eqn.outputs, results, strict=True))
    sheet.uses = outer
    return [env[v] for v in program.outputs]


def apply(sheet: Sheet, eqn: Equation, values: list[Value]) -> list[Value]:
    """The results of one equation: computed now where all is known, written as nodes else."""
    if all(value.constant is not None for value in values) and (results := fold(sheet, eqn, values)) is not None:
        return results
    rule = ONNX.rules.get(eqn.name)
    if rule is None:
        raise NotInOnnx("no emitter")
    results = rule(sheet, eqn, *values)
    return list(results) if isinstance(results, (list, tuple)) else [results]


def fold(sheet: Sheet, eqn: Equation, values: list[Value]) -> list[Value] | None:
    """The results as constants; None where they have free sizes, or would bloat the file."""
    hint = next((v.hint for v in values if "constant" not in v.hint), "constant")
    if eqn.name in POINTWISE and values and all(v.ordered for v in values):
        arrays = [v.constant for v in values]
        shape = joint(*(a.shape for a in arrays))  # pyright: ignore[reportOptionalMemberAccess]
        wide = [a if a.ndim == 0 else np.broadcast_to(a, shape) for a in arrays if a is not None]
        if len({a.ndim for a in wide}) > 1 and eqn.name in {"select_n", "clamp"}:
            wide = [np.broadcast_to(a, shape) for a in wide]
        y = np.asarray(eqn.evaluate(*wide)[0])
        return [replace(sheet.constant(y, hint), shape=eqn.output.shape, order=tuple(range(len(eqn.output.shape))))]
    if eqn.name == "dim_as_value" or not all(is_number(n) for v in (*eqn.inputs, *eqn.outputs) for n in v.shape):
        return None
    grown = sum(v.size for v in eqn.outputs) - sum(v.size for v in eqn.inputs)
    if eqn.name in ONNX.rules and (grown > FOLDED or (eqn.name in LAZY and grown > 16)):
        return None
    values = [sheet.plain(v) for v in values]
    results = eqn.evaluate(*(v.constant for v in values))
    if not all(isinstance(v.dtype, np.dtype) for v in eqn.outputs):  # keys of random numbers stay as they are
        return [_opaque(v, y) for v, y in zip(eqn.outputs, results, strict=True)]
    return [sheet.constant(np.asarray(y), hint) for y in results]


def _opaque(var: Var, known: Any) -> Value:
    return Value("", var.shape, var.shape, var.dtype, tuple(range(len(var.shape))), known)


def pointwise(sheet: Sheet, op: str, values: Sequence[Value], shape: Sequence[Any], dtype: Any,
              **attributes: Any) -> Value:  # fmt: skip
    """A node that acts on each element alone: the result is stored in the operands' common form."""
    values, order = aligned(sheet, values, len(shape))
    (name,) = sheet.node(op, values, **attributes)
    return formed(name, values, shape, dtype, order)


def aligned(sheet: Sheet, values: Sequence[Value], rank: int) -> tuple[list[Value], tuple[int, ...]]:
    """Values stored in one order of axes."""
    order = next((v.order for v in values if v.rank == rank and not v.ordered), tuple(range(rank)))
    if order == tuple(range(rank)):
        return list(values), order
    return [sheet.arranged(v, order) if v.rank == rank else v for v in values], order


def formed(name: str, values: Sequence[Value], shape: Sequence[Any], dtype: Any, order: tuple[int, ...]) -> Value:
    stored = joint(*(v.stored for v in values))
    full = tuple(shape[axis] for axis in order)
    if order != tuple(range(len(shape))):
        assert same_shape(stored, full)
        stored = full
    return Value(name, tuple(shape), stored, np.dtype(dtype), order)


def fill_table() -> None:
    """The emitters register themselves when they are imported."""
    from axiom_jax.interop.onnx import (  # noqa: F401
        emit_control,
        emit_elementwise,
        emit_indexing,
        emit_layers,
        emit_moves,
    )
