"""The record of a search: what was split where, and what each leaf refutes with which multipliers."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

OPEN = -1
INPUT = -1  # in `site`: the split halves an input


@dataclass(frozen=True)
class Multipliers:
    """What a leaf's bound was computed with; a proposal, that the checker rounds and judges.

    Args:
        slopes: by number of site, the slope of the lower line of every neuron, (atoms refuted, neurons) float64.
        betas: for every neuron split on the path to the leaf, (atoms refuted, splits) float64 ≥ 0, root first.
        weights: (disjuncts, atoms of the case) float64 ≥ 0: a disjunct is refuted by this sum of its atoms; all 0: the
            leaf is empty. None: the chosen atom alone.
    """

    slopes: dict[int, Any]
    betas: Any
    weights: Any = None


@dataclass
class Tree:
    """Nodes by number; the first ones are the roots, one a case. Children are numbered next to each other.

    Args:
        split: the input a node halves, or the neuron it splits; or -1.
        site: which value that neuron belongs to, by its number in `plan.sites`; `INPUT` where an input is halved.
        at: where a neuron, or an input of `cuts`, is split: the lower child has z ≤ at, the upper one z ≥ at.
        child: its lower half (the upper one follows), or -1.
        choice: for a leaf, the atoms it refutes, one a disjunct; None for what is open or split.
        multipliers: of leaves that have them.
        cuts: nodes whose input is split at `at`, not in the middle.
    """

    cases: int
    split: list[int] = field(default_factory=list)
    site: list[int] = field(default_factory=list)
    at: list[float] = field(default_factory=list)
    child: list[int] = field(default_factory=list)
    choice: list[tuple[int, ...] | None] = field(default_factory=list)
    multipliers: dict[int, Multipliers] = field(default_factory=dict)
    cuts: set[int] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._grow(self.cases)

    def _grow(self, count: int) -> int:
        first = len(self.split)
        self.split += [OPEN] * count
        self.site += [INPUT] * count
        self.at += [0.0] * count
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

    def cut(self, nodes: np.ndarray, inputs: np.ndarray, at: np.ndarray) -> np.ndarray:
        """Split nodes at values of inputs (x ≤ at, x ≥ at); returns the number of each lower part."""
        children = self.halve(nodes, inputs)
        for node, value in zip(nodes.tolist(), at.tolist(), strict=True):
            self.at[node] = float(value)
            self.cuts.add(node)
        return children

    def place(self, node: int, low: float, high: float) -> float:
        """Where an input is split of which a node has the interval [low, high]."""
        return self.at[node] if node in self.cuts else (low + high) / 2

    def part(
        self, nodes: Sequence[int], sites: Sequence[int], neurons: Sequence[int], at: Sequence[float]
    ) -> list[int]:
        """Split nodes at values of neurons; returns the number of each lower child (z ≤ at)."""
        first = self._grow(2 * len(nodes))
        children = []
        for k, (node, site, neuron, value) in enumerate(zip(nodes, sites, neurons, at, strict=True)):
            self.split[node], self.site[node], self.at[node] = int(neuron), int(site), float(value)
            self.child[node] = first + 2 * k
            children.append(first + 2 * k)
        return children

    def close(self, node: int, choice: tuple[int, ...], multipliers: Multipliers | None = None) -> None:
        self.choice[node] = choice
        if multipliers is not None:
            self.multipliers[node] = multipliers

    @property
    def leaves(self) -> int:
        return sum(choice is not None for choice in self.choice)

    @property
    def splits_neurons(self) -> bool:
        """Whether anything but inputs is split."""
        return any(site != INPUT for site in self.site)

    def preorder(self, root: int) -> Iterator[tuple[int, int, tuple[int, ...] | None, int]]:
        """(node, what it splits or -1, choice if it is a leaf, depth), lower halves first."""
        stack = [(root, 0)]
        while stack:
            node, depth = stack.pop()
            yield node, self.split[node], self.choice[node], depth
            if self.child[node] != OPEN:
                stack += [(self.child[node] + 1, depth + 1), (self.child[node], depth + 1)]

    def boxes(self, root: int, lo: np.ndarray, hi: np.ndarray) -> dict[int, tuple[np.ndarray, np.ndarray]]:
        """The input box of every node below a root, by halving; splits of neurons leave it as it is."""
        found = {root: (lo, hi)}
        for node, split, _, _ in self.preorder(root):
            if split == OPEN:
                continue
            low, high = found[node]
            child = self.child[node]
            if self.site[node] != INPUT:
                found[child] = found[child + 1] = (low, high)
                continue
            place = self.place(node, low[split], high[split])
            lower_hi, upper_lo = high.copy(), low.copy()
            lower_hi[split], upper_lo[split] = place, place
            found[child] = (low, lower_hi)
            found[child + 1] = (upper_lo, high)
        return found
