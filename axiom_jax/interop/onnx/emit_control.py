"""ONNX nodes for branches and loops: If, Loop, Scan, whose subgraphs read the values around them."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from axiom_jax._program import Equation, normalise, scan_sizes
from axiom_jax._shapes_text import is_number
from axiom_jax.interop.onnx.emit import ONNX, write
from axiom_jax.interop.onnx.graph import NotInOnnx, Sheet, Value, element_type


def _inlined(sheet: Sheet, closed: Any, values: Sequence[Value]) -> list[Value]:
    """The results of a jaxpr, its nodes written where we are."""
    program, captured = normalise(closed)
    return [sheet.plain(value) for value in write(sheet, program, captured, values)]


def _described(name: str, shape: Sequence[Any], dtype: Any) -> Any:
    from onnx import helper

    return helper.make_tensor_value_info(name, element_type(dtype), [n if is_number(n) else str(n) for n in shape])


def _graph(sheet: Sheet, name: str, nodes: list[Any], inputs: Sequence[Any], results: Sequence[Value]) -> Any:
    """A subgraph; results that it does not compute itself are passed on by Identity."""
    from onnx import helper

    own, outputs = {output for node in nodes for output in node.output}, []
    for value in results:
        stored = sheet.name(value)
        if stored not in own or stored in {o.name for o in outputs}:
            stored = sheet.node("Identity", [stored])[0]
        outputs.append(_described(stored, value.shape, value.dtype))
    return helper.make_graph(nodes, name, inputs, outputs)


@ONNX.rule("cond")
def _cond(sheet: Sheet, eqn: Equation, which: Value, *operands: Value) -> list[Value]:
    branches = eqn.params["branches"]
    if which.constant is not None:
        return _inlined(sheet, branches[int(np.clip(int(which.constant.reshape(())), 0, len(branches) - 1))], operands)
    return _if(sheet, eqn, which, list(enumerate(branches)), operands)


def _if(sheet: Sheet, eqn: Equation, which: Value, branches: list[Any], operands: Sequence[Value]) -> list[Value]:
    """The first half of the branches or the second, and so on; jax clips an index that is out of range."""
    if len(branches) == 1:
        return _inlined(sheet, branches[0][1], operands)
    half = len(branches) // 2
    limit = sheet.constant(np.asarray(branches[half][0], which.dtype))
    truth = sheet.cache.get(("truth", which.name))
    if truth is not None and half == 1 and len(branches) == 2:
        low = sheet.value("Not", [sheet.plain(truth)], (), np.bool_)
    elif which.dtype == np.bool_:
        low = sheet.value("Not", [which], (), np.bool_)
    else:
        low = sheet.value("Less", [sheet.plain(which), limit], (), np.bool_)
    graphs = []
    for name, part in (("below", branches[:half]), ("above", branches[half:])):
        with sheet.branch() as nodes:
            results = _if(sheet, eqn, which, part, operands)
            graphs.append(_graph(sheet, name, nodes, [], results))
    names = sheet.node("If", [low], len(eqn.outputs), then_branch=graphs[0], else_branch=graphs[1])
    return [sheet.held(name, v.shape, v.dtype) for name, v in zip(names, eqn.outputs, strict=True)]


@ONNX.rule("while")
def _while(sheet: Sheet, eqn: Equation, *operands: Value) -> list[Value]:
    p = eqn.params
    n, m = p["cond_nconsts"], p["body_nconsts"]
    known_cond, known_body = operands[:n], operands[n : n + m]
    start = [sheet.plain(value) for value in operands[n + m :]]
    (first,) = _inlined(sheet, p["cond_jaxpr"], [*known_cond, *start])
    with sheet.branch() as nodes:
        turn, going = sheet.fresh("turn"), sheet.fresh("going")
        carried = [sheet.held(sheet.fresh("carried"), v.shape, v.dtype) for v in start]
        after = _inlined(sheet, p["body_jaxpr"], [*known_body, *carried])
        (again,) = _inlined(sheet, p["cond_jaxpr"], [*known_cond, *after])
        heads = [_described(turn, (), np.int64), _described(going, (), np.bool_)]
        heads += [_described(v.name, v.shape, v.dtype) for v in carried]
        body = _graph(sheet, "body", nodes, heads, [again, *after])
    names = sheet.node("Loop", [None, first, *start], len(start), body=body)
    return [sheet.held(name, v.shape, v.dtype) for name, v in zip(names, eqn.outputs, strict=True)]


@ONNX.rule("scan")
def _scan(sheet: Sheet, eqn: Equation, *operands: Value) -> list[Value]:
    p = eqn.params
    n, m = scan_sizes(p)
    if not operands[n + m :]:
        raise NotInOnnx("a long loop over no array")
    start, rows = ([sheet.plain(v) for v in part] for part in (operands[n : n + m], operands[n + m :]))
    with sheet.branch() as nodes:
        carried = [sheet.held(sheet.fresh("carried"), v.shape, v.dtype) for v in start]
        row = [sheet.held(sheet.fresh("row"), v.shape[1:], v.dtype) for v in rows]
        results = _inlined(sheet, p["jaxpr"], [*operands[:n], *carried, *row])
        heads = [_described(v.name, v.shape, v.dtype) for v in (*carried, *row)]
        body = _graph(sheet, "body", nodes, heads, results)
    back = int(bool(p["reverse"]))
    names = sheet.node("Scan", [*start, *rows], len(eqn.outputs), body=body, num_scan_inputs=len(rows),
                       scan_input_directions=[back] * len(rows),
                       scan_output_directions=[back] * (len(eqn.outputs) - m))  # fmt: skip
    return [sheet.held(name, v.shape, v.dtype) for name, v in zip(names, eqn.outputs, strict=True)]
