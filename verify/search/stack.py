"""The open boxes of a search by input splits, as arrays that grow and shrink at one end."""

from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np


@dataclass
class Stack:
    """Boxes, one a row of every array; the last ones are taken up first.

    Args:
        node: (boxes,) their numbers in the tree. case: (boxes,).
        lo, hi: (boxes, inputs) float64.
        value: (boxes,) the bound of the box that each was split from.
        sites: (boxes, 2, neurons) bounds of its neurons that hold in it; (boxes, 2, 0) where they are not kept.
        unstable: (boxes,) the most neurons of one site whose sign is open, at least.

    >>> row = lambda k: np.full((1, 2), float(k))
    >>> one = lambda k: Stack(np.array([k]), np.zeros(1, int), row(k), row(k + 1), np.zeros(1), np.zeros((1, 2, 0)),
    ...                       np.zeros(1, int))
    >>> pool = one(0)
    >>> for k in range(1, 5):
    ...     pool.push(one(k))
    >>> pool.drop(2)
    >>> len(pool), pool.top(2).node.tolist()
    (3, [1, 2])
    """

    node: np.ndarray
    case: np.ndarray
    lo: np.ndarray
    hi: np.ndarray
    value: np.ndarray
    sites: np.ndarray
    unstable: np.ndarray

    def __post_init__(self) -> None:
        self._room = {f.name: getattr(self, f.name) for f in fields(self)}

    def __len__(self) -> int:
        return len(self.node)

    def top(self, count: int) -> "Stack":
        """The last boxes, at most so many; they stay."""
        start = max(len(self) - count, 0)
        return Stack(*(getattr(self, f.name)[start:].copy() for f in fields(self)))

    def drop(self, count: int) -> None:
        """Forget the last boxes."""
        self._show(len(self) - count)

    def push(self, more: "Stack") -> None:
        """Put boxes on top."""
        size = len(self) + len(more)
        for name, room in self._room.items():
            if len(room) < size:
                grown = np.empty((max(size, 2 * len(room)), *room.shape[1:]), room.dtype)
                grown[: len(self)] = room[: len(self)]
                self._room[name] = room = grown
            room[len(self) : size] = getattr(more, name)
        self._show(size)

    def _show(self, size: int) -> None:
        for name, room in self._room.items():
            setattr(self, name, room[:size])

    def taken(self, which: Any) -> "Stack":
        """Some of the boxes."""
        return Stack(*(getattr(self, f.name)[which] for f in fields(self)))

    def with_(self, **changed: np.ndarray) -> "Stack":
        """The same boxes with other arrays."""
        return replace(self, **changed)

    def doubled(self, children: np.ndarray, lower_hi: np.ndarray, upper_lo: np.ndarray) -> "Stack":
        """Both halves of every box next to each other.

        Args:
            children: (boxes,) the numbers of the lower halves, of which the upper ones follow.
            lower_hi, upper_lo: (boxes, inputs) upper ends of the lower halves, lower ends of the upper ones.
        """
        weave = lambda a, b: np.stack([a, b], 1).reshape(-1, *a.shape[1:])
        twice = Stack(*(np.repeat(getattr(self, f.name), 2, 0) for f in fields(self)))
        return twice.with_(node=weave(children, children + 1), lo=weave(self.lo, upper_lo), hi=weave(lower_hi, self.hi))
