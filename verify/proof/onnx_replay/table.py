"""The table of operators: `(node, *operands) -> result or results`, each written from the standard's text.

An operand is `Reals`, a NumPy array of integers or truth values, or None where the node leaves it out. What a rule does
not cover it refuses with `Unknown`; nothing is passed over. Source: https://onnx.ai/onnx/operators, opsets 7 to 24.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from axiom_jax.verification.proof.onnx_replay.reals import Array, Reals, real

OPERATORS: dict[str, Callable[..., Any]] = {}


class Unknown(ValueError):
    """An operator, or a way to use it, that this reader does not know."""


@dataclass(frozen=True)
class Node:
    """A node of the graph.

    Args:
        op, name: of the operator and of the node. opset: the version of the standard.
        inputs, outputs: names of values; an empty name is one left out.
        attributes: by name: integers, exact real numbers, texts, lists of them, or arrays.
    """

    op: str
    opset: int
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    attributes: dict[str, Any] = field(default_factory=dict)
    name: str = ""

    def get(self, name: str, default: Any = None) -> Any:
        return self.attributes.get(name, default)


def operator(*names: str) -> Callable[[Any], Any]:
    """Enter a rule into the table."""

    def enter(rule: Any) -> Any:
        for name in names:
            OPERATORS[name] = rule
        return rule

    return enter


def broadcast(*operands: Array) -> list[Array]:
    """Operands of one shape, as NumPy broadcasts them."""
    from axiom_jax.verification.proof.onnx_replay.reals import moved

    shape = np.broadcast_shapes(*(x.shape for x in operands))
    return [x if x.shape == shape else moved(x, lambda a: np.broadcast_to(a, shape)) for x in operands]


def both_real(*operands: Array) -> list[Reals]:
    return [real(x) for x in broadcast(*operands)]


def integers(x: Array | None, what: str) -> list[int]:
    """The numbers of a shape, of axes and the like.

    Raises:
        Unknown: they are not whole numbers that the file or the shapes settle.
    """
    if x is None or isinstance(x, Reals) or x.dtype.kind not in "iub":
        raise Unknown(f"{what} that are not integers")
    return [int(v) for v in x.ravel().tolist()]


def setting(node: Node, name: str, operands: tuple[Any, ...], place: int, since: int) -> list[int] | None:
    """Integers that are an attribute before opset `since`, and from then on an operand; None if left out."""
    if node.opset < since:
        return node.get(name)
    given = operands[place] if len(operands) > place else None
    return None if given is None else integers(given, f"{name} of {node.op}")


def axes_of(axes: list[int], rank: int) -> list[int]:
    if any(not -rank <= a < rank for a in axes):
        raise Unknown(f"axes {axes} of {rank}")
    return [a % rank for a in axes]
