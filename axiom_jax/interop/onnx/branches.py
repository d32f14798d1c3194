"""ONNX's If, Loop and Scan: what is known when the model is traced is decided then, the rest by JAX."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import lax

from axiom_jax.interop.onnx.ops import DynamicShape, Node, array, define, known, positive, scalar

Run = Callable[..., list[Any]]  # run(body, *arguments): the results of a subgraph
UNROLLED = 4096  # turns of a loop that are written out


@define("If")
def _if(node: Node, run: Run, condition: Any) -> Any:
    yes, no = node.get("then_branch"), node.get("else_branch")
    if known(condition):
        return tuple(run(yes if bool(scalar(condition, "the condition")) else no))
    branch = lambda body: lambda: tuple(array(x) for x in run(body))
    return tuple(lax.cond(jnp.reshape(condition, ()).astype(bool), branch(yes), branch(no)))


@define("Loop")
def _loop(node: Node, run: Run, limit: Any = None, going: Any = None, *carried: Any) -> Any:
    body, count = node.get("body"), len(carried)
    rows = len(body.outputs) - 1 - count
    turns = None if limit is None else int(scalar(limit, "the number of turns")) if known(limit) else None
    state, collected, turn = list(carried), [[] for _ in range(rows)], 0
    going = np.array(True) if going is None else going
    while known(going) and bool(scalar(going, "the condition")) and (turns is None or turn < turns):
        if limit is not None and turns is None:
            break
        if turn >= UNROLLED:
            raise NotImplementedError(f"more than {UNROLLED} turns")
        results = run(body, np.array(turn, np.int64), going, *state)
        if turn == 0 and not known(results[0]) and not rows:
            break  # every turn decides about the next: JAX's own loop
        going, state, turn = results[0], results[1 : 1 + count], turn + 1
        for column, row in zip(collected, results[1 + count :], strict=True):
            column.append(row)
    else:
        if known(going):
            return (*state, *(_stacked(column) for column in collected))
    if rows or turn:
        raise DynamicShape("the number of turns of a loop")
    return tuple(_while(run, body, limit, going, state))


def _stacked(column: list[Any]) -> Any:
    if not column:
        raise DynamicShape("the rows of a loop without turns")
    return np.stack(column) if known(*column) else jnp.stack([array(x) for x in column])


def _while(run: Run, body: Any, limit: Any, going: Any, carried: list[Any]) -> list[Any]:
    last = None if limit is None else array(limit).reshape(())
    start = [array(x) for x in carried]

    def again(state: Any) -> Any:
        turn, going, _ = state
        return going if last is None else jnp.logical_and(going, turn < last)

    def step(state: Any) -> Any:
        turn, going, values = state
        results = [array(x) for x in run(body, turn, going, *values)]
        return turn + 1, results[0].reshape(()).astype(bool), results[1:]

    _, _, values = lax.while_loop(again, step, (jnp.int32(0), array(going).reshape(()).astype(bool), start))
    return values


@define("Scan")
def _scan(node: Node, run: Run, *operands: Any) -> Any:
    if node.opset < 9:
        raise NotImplementedError("opset 8")
    body, count = node.get("body"), node.get("num_scan_inputs")
    start, rows = [array(x) for x in operands[:-count]], [array(x) for x in operands[-count:]]
    outputs = len(body.outputs) - len(start)
    axes = node.get("scan_input_axes", (0,) * count)
    back = node.get("scan_input_directions", (0,) * count)
    rows = [jnp.moveaxis(x, positive(axis, x.ndim), 0) for x, axis in zip(rows, axes, strict=True)]
    rows = [lax.rev(x, (0,)) if turned else x for x, turned in zip(rows, back, strict=True)]

    def step(state: Any, row: Any) -> Any:
        results = [array(x) for x in run(body, *state, *row)]
        return results[: len(start)], results[len(start) :]

    state, columns = lax.scan(step, start, rows)
    turned = node.get("scan_output_directions", (0,) * outputs)
    columns = [lax.rev(x, (0,)) if t else x for x, t in zip(columns, turned, strict=True)]
    places = node.get("scan_output_axes", (0,) * outputs)
    columns = [jnp.moveaxis(x, 0, positive(axis, x.ndim)) for x, axis in zip(columns, places, strict=True)]
    return (*state, *columns)
