"""Terms and formulas in float64, at many points at once: what suggests counterexamples, never what judges them.

A formula gets a margin (≥ 0 where it holds, up to ties) and a truth value. Loops become axes: the index of a binder of
height h is axis -h, axis 0 is the points.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from axiom_jax.verification.derivation_checker import Affine, Node

BINDERS = ("sum", "bigmax", "all", "some")
Margin = tuple[np.ndarray, np.ndarray]  # how far from the boundary, and whether it holds


class NotNumeric(Exception):
    """A node that has no value at a point: a real quantifier, an unknown function, an unbound name."""


@dataclass
class Points:
    """Points to evaluate at.

    Args:
        sizes: a number for each name of a size.
        values: (points, *shape) float64 for each variable.
        slack: by how much, relative to the sides, `=` and `<=` may be missed and still hold.
    """

    sizes: Mapping[str, int]
    values: Mapping[str, np.ndarray]
    slack: float = 0.0
    height: int = 0
    _known: dict[Any, Any] = field(default_factory=dict)

    def term(self, node: Node) -> np.ndarray:
        """(points,) values of a term without free indices."""
        return self._top(node)[:, ...].reshape(-1)

    def formula(self, node: Node) -> Margin:
        """(points,) margins and truth values of a formula without free indices."""
        margin, holds = self._top(node)
        return margin.reshape(-1), holds.reshape(-1)

    def _top(self, node: Node) -> Any:
        count = len(next(iter(self.values.values()))) if self.values else 1
        self.height, self._known = node.height, {}
        with np.errstate(all="ignore"):
            found = self._value(node, {})
        shape = (count, *(1,) * node.height)
        spread = lambda a: np.broadcast_to(a, shape)
        return tuple(map(spread, found)) if isinstance(found, tuple) else spread(found)

    def _value(self, node: Node, extents: dict[str, int]) -> Any:
        key = node, tuple(sorted((n, extents[n]) for n in node.free if n in extents))
        found = self._known.get(key)
        if found is None:
            found = self._known[key] = self._made(node, extents)
        return found

    def _index(self, e: Affine, extents: dict[str, int]) -> Any:
        total: Any = e.const
        for name, k in e.terms:
            if name in extents:
                shape = [1] * (self.height + 1)
                shape[-int(name[1:])] = extents[name]
                total = total + k * np.arange(extents[name]).reshape(shape)
            elif name in self.sizes:
                total = total + k * self.sizes[name]
            else:
                raise NotNumeric(name)
        return total

    def _made(self, node: Node, extents: dict[str, int]) -> Any:
        op, args = node.op, node.args
        if op in BINDERS:
            return self._bound(node, extents)
        value = lambda a: self._value(a, extents)
        match op:
            case "const":
                return self._plain(float(args[0]))
            case "int":
                return self._plain(self._index(args[0], extents))
            case "var":
                return self._looked_up(args, extents)
            case "add":
                return sum(map(value, args[1:]), value(args[0]))
            case "mul":
                result = value(args[0])
                for a in args[1:]:
                    result = result * value(a)
                return result
            case "pow":
                return value(args[0]) ** args[1]
            case "max":
                return np.maximum(value(args[0]), value(args[1]))
            case "ite":
                return np.where(value(args[0])[1], value(args[1]), value(args[2]))
            case "true" | "false":
                return self._plain(1e300 if op == "true" else -1e300), np.full((1,) * (self.height + 1), op == "true")
            case "le" | "lt" | "eq" | "ne" | "ile" | "ilt" | "ieq":
                return self._compared(op, args, extents)
            case "and" | "or":
                return self._connected(op, [value(a) for a in args])
            case "not":
                margin, holds = value(args[0])
                return -margin, ~holds
            case "implies":
                (m, h), conclusion = value(args[0]), value(args[1])
                return self._connected("or", [(-m, ~h), conclusion])
        if op in FUNCTIONS:
            return FUNCTIONS[op](value(args[0]))
        raise NotNumeric(op)

    def _plain(self, x: Any) -> np.ndarray:
        x = np.asarray(x, np.float64)
        return x if x.ndim else x.reshape((1,) * (self.height + 1))

    def _looked_up(self, args: Any, extents: dict[str, int]) -> np.ndarray:
        if args[0] not in self.values:
            raise NotNumeric(args[0])
        array = self.values[args[0]]
        ends = zip(args[1:], array.shape[1:], strict=True)
        place = [np.clip(self._index(e, extents), 0, max(n - 1, 0)) for e, n in ends]
        points = np.arange(len(array)).reshape(-1, *(1,) * self.height)
        return array[(points, *place)]

    def _compared(self, op: str, args: Any, extents: dict[str, int]) -> Margin:
        if op[0] == "i":
            a, b = (self._plain(self._index(e, extents)) for e in args)
            op = op[1:]
        else:
            a, b = (self._value(x, extents) for x in args)
        gap = b - a
        unknown = np.isnan(gap)  # beyond floats, such as inf - inf: nothing to be suggested
        room = self.slack * (1 + np.abs(a) + np.abs(b)) if self.slack else 0.0
        margin = {"eq": -np.abs(gap), "ne": np.abs(gap)}.get(op, gap)
        match op:
            case "le":
                holds = a <= b + room
            case "lt":
                holds = a < b
            case "eq":
                holds = np.abs(gap) <= room if self.slack else a == b
            case _:
                holds = a != b
        return np.where(unknown, 1e300, margin), holds | unknown

    def _connected(self, op: str, parts: list[Margin]) -> Margin:
        margin, holds = parts[0]
        for m, h in parts[1:]:
            margin = np.fmin(margin, m) if op == "and" else np.fmax(margin, m)
            holds = holds & h if op == "and" else holds | h
        return margin, holds

    def _bound(self, node: Node, extents: dict[str, int]) -> Any:
        op, size = node.op, self._index(node.args[0], extents)
        name, axis = f"#{node.height}", -node.height
        count = int(np.max(size, initial=0))
        formula = op in ("all", "some")
        empty = {"sum": 0.0, "bigmax": 0.0, "all": 1e300, "some": -1e300}[op]
        if count <= 0:
            value = self._plain(empty)
            return (value, np.full(value.shape, op == "all")) if formula else value
        body = self._value(node.args[1], {**extents, name: count})
        shape = [1] * (self.height + 1)
        shape[axis] = count
        inside = np.arange(count).reshape(shape) < size
        if formula:
            margin, holds = body
            margin, holds = np.where(inside, margin, empty), np.where(inside, holds, op == "all")
            if op == "all":
                return np.fmin.reduce(margin, axis=axis, keepdims=True), holds.all(axis=axis, keepdims=True)
            return np.fmax.reduce(margin, axis=axis, keepdims=True), holds.any(axis=axis, keepdims=True)
        if op == "sum":
            return np.where(inside, body, 0.0).sum(axis=axis, keepdims=True)
        largest = np.where(inside, body, -np.inf).max(axis=axis, keepdims=True)
        return np.where(np.asarray(size) > 0, largest, 0.0)


def _erf(x: np.ndarray) -> np.ndarray:
    from scipy.special import erf

    return erf(x)


def _log(x: np.ndarray) -> np.ndarray:
    return np.where(x > 0, np.log(x), np.nan)


FUNCTIONS = {
    "exp": np.exp,
    "log": _log,
    "sqrt": lambda x: np.sqrt(np.maximum(x, 0)),
    "sin": np.sin,
    "cos": np.cos,
    "erf": _erf,
    "inv": lambda x: np.where(x == 0, 0.0, 1 / np.where(x == 0, 1.0, x)),
}
