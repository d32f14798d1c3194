"""The record of a search: which boxes were halved where, and what each leaf refutes."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

OPEN = -1


@dataclass
class Tree:
    """Nodes by number; the first ones are the roots, one a case. Children are numbered next to each other.

    Args:
        split: the input a node halves, or -1. child: its lower half (the upper one follows), or -1.
        choice: for a leaf, the atoms it refutes, one a disjunct; None for what is open or split.
    """

    cases: int
    split: list[int] = field(default_factory=list)
    child: list[int] = field(default_factory=list)
    choice: list[tuple[int, ...] | None] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._grow(self.cases)

    def _grow(self, count: int) -> int:
        first = len(self.split)
        self.split += [OPEN] * count
        self.child += [OPEN] * count
        self.choice += [None] * count
        return first

    def halve(self, nodes: np.ndarray, inputs: np.ndarray) -> np.ndarray:
        """Halve nodes at inputs; returns the number of each lower half."""
        first = self._grow(2 * len(nodes))
        children = first + 2 * np.arange(len(nodes))
        for node, dimension, child in zip(nodes.tolist(), inputs.tolist(), children.tolist(), strict=True):
            self.split[node], self.child[node] = dimension, child
        return children

    def close(self, node: int, choice: tuple[int, ...]) -> None:
        self.choice[node] = choice

    @property
    def leaves(self) -> int:
        return sum(choice is not None for choice in self.choice)

    def preorder(self, root: int) -> Iterator[tuple[int, int, tuple[int, ...] | None, int]]:
        """(node, input it halves or -1, choice if it is a leaf, depth), lower halves first."""
        stack = [(root, 0)]
        while stack:
            node, depth = stack.pop()
            yield node, self.split[node], self.choice[node], depth
            if self.child[node] != OPEN:
                stack += [(self.child[node] + 1, depth + 1), (self.child[node], depth + 1)]

    def boxes(self, root: int, lo: np.ndarray, hi: np.ndarray) -> dict[int, tuple[np.ndarray, np.ndarray]]:
        """The box of every node below a root, by halving."""
        found = {root: (lo, hi)}
        for node, split, _, _ in self.preorder(root):
            if split == OPEN:
                continue
            low, high = found[node]
            middle = (low[split] + high[split]) / 2
            lower_hi, upper_lo = high.copy(), low.copy()
            lower_hi[split], upper_lo[split] = middle, middle
            found[self.child[node]] = (low, lower_hi)
            found[self.child[node] + 1] = (upper_lo, high)
        return found
