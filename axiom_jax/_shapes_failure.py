"""An expression of the user's that could not be traced: read from the source, evaluated on shapes alone."""

import ast
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from axiom_jax._shapes_places import Place
from axiom_jax._shapes_text import shape_text


@dataclass(frozen=True, eq=False)
class Failure:
    """An expression that could not be traced.

    Args:
        place: the user's line, its frame and the expression.
        operation: what it does: "matmul", "broadcast", "reshape", …, or the name of what it calls.
        operands: the expressions of its array operands, in order.
        callee: the object that it calls, where it is a call of something that is not a method of an array.
        error: what JAX raised.
    """

    place: Place
    operation: str
    operands: tuple[ast.expr, ...]
    error: Exception
    callee: Any = None
    shapes: tuple[Any, ...] = ()

    @property
    def node(self) -> Any:
        return self.place.node

    def value(self, node: ast.AST) -> Any:
        return evaluate(self.place, node)

    def got(self, only: Iterable[int] = ()) -> str:
        """The operands with their shapes."""
        wanted = set(only) or range(len(self.operands))
        return ", ".join(f"{short(self.operands[i])} {shape_text(self.shapes[i])}" for i in wanted)

    def first(
        self, candidates: Iterable[ast.expr | None], accept: Callable[[Any], bool] = lambda result: True
    ) -> str | None:
        """The first candidate that can be evaluated, with an accepted result, as the user would write it."""
        for node in candidates:
            if node is not None and (result := self.value(node)) is not None and accept(result):
                return ast.unparse(node)
        return None


def sentence(error: Exception) -> str:
    """The first sentence of an exception, without a full stop."""
    return str(error).strip().partition("\n")[0].rstrip(".") or type(error).__name__


def failure_of(place: Place, error: Exception) -> Failure | None:
    node, callee = place.node, None
    match node:
        case ast.BinOp(left=left, op=op, right=right):
            operation, operands = "matmul" if isinstance(op, ast.MatMult) else "broadcast", [left, right]
        case ast.AugAssign(target=target, op=op, value=right):
            left = ast.parse(ast.unparse(target), mode="eval").body
            operation, operands = "matmul" if isinstance(op, ast.MatMult) else "broadcast", [left, right]
        case ast.Compare(left=left, comparators=[right]):
            operation, operands = "broadcast", [left, right]
        case ast.Call(func=ast.Attribute(value=base, attr=name)) if _is_array(evaluate(place, base)):
            operation, operands = name, [base, *node.args]
        case ast.Call():
            callee = evaluate(place, node.func)
            operation, operands = getattr(callee, "__name__", ""), [*node.args, *(k.value for k in node.keywords)]
        case _:
            return None
    shapes = [evaluate(place, operand) for operand in operands]
    if operation not in ("concatenate", "stack", "hstack", "vstack"):
        pairs = [(o, s) for o, s in zip(operands, shapes, strict=True) if _is_array(s)]
        operands, shapes = [o for o, _ in pairs], [s for _, s in pairs]
    elif operands and isinstance(operands[0], (ast.List, ast.Tuple)):
        operands, shapes = operands[0].elts, list(shapes[0] or ())
    if len(shapes) != len(operands) or not all(map(_is_array, shapes)):
        return None
    return Failure(place, operation, tuple(operands), error, callee, tuple(shapes))


def evaluate(place: Place, node: ast.AST) -> Any:
    """The value of an expression in the frame of a place, on shapes alone; None if it has none."""
    scope = {**place.frame.f_globals, **place.frame.f_locals}
    used = {n.id for n in ast.walk(node) if isinstance(n, ast.Name) and n.id in scope}
    leaves, tree = jax.tree.flatten({name: scope[name] for name in used}, is_leaf=callable)
    arrays = [i for i, leaf in enumerate(leaves) if isinstance(leaf, (jax.Array, np.ndarray, np.generic))]
    code = compile(ast.fix_missing_locations(ast.Expression(_copy(node))), "<shapes>", "eval")
    results: list[Any] = []

    def run(values: list[Any]) -> None:
        filled = list(leaves)
        for i, value in zip(arrays, values, strict=True):
            filled[i] = value
        results.append(eval(code, {**scope, **jax.tree.unflatten(tree, filled)}))

    try:
        jax.eval_shape(run, [jax.ShapeDtypeStruct(leaves[i].shape, leaves[i].dtype) for i in arrays])
        return jax.tree.map(_spec, results[0], is_leaf=callable)
    except Exception:  # whatever the user's expression may raise: it has no value then
        return None


def _copy(node: ast.AST) -> Any:
    return ast.parse(ast.unparse(node), mode="eval").body


def _spec(value: Any) -> Any:
    return jax.ShapeDtypeStruct(value.shape, value.dtype) if isinstance(value, (jax.Array, np.ndarray)) else value


def _is_array(value: Any) -> bool:
    return isinstance(value, jax.ShapeDtypeStruct)


def short(node: ast.AST) -> str:
    text = ast.unparse(node)
    return text if len(text) <= 40 else text[:37] + "..."
