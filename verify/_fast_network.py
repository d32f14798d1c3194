"""A network as the checker reads it, with its constants in binary64 and what each of those may be off by."""

from collections import Counter
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from axiom_jax.verification import checker
from axiom_jax.verification._fast_numbers import ROUNDING, Array, finite, from_vector, gamma

Pair = tuple[Array, Array]  # a value and its radius, or the ends of intervals
MOST = 2.0**60 - 2.0**10  # of weights, as in the checker


@dataclass(frozen=True)
class Matrix:
    """A constant k x n matrix, its sizes (rounded up), and the radius of its entries, or None where it is exact."""

    weights: Array
    transposed: Array
    sizes: Array
    radius: Array | None


@dataclass(frozen=True)
class Part:
    """A part of a linear node: sign times the operand, elements `start` to `stop` of the node, or gathered by `index`.

    Args:
        operand: its node. size: of that. sign: 1 or -1.
        start, stop: which elements of the node it makes, where there is no index.
        index: which element of the operand each of the node's is, -1 for 0; None if it is copied.
        order, starts, read: for the transpose: the node's elements in the order of what they read, where a new element
            starts among these, and which that is. repeats: how often one element is read at most.
    """

    operand: int
    size: int
    sign: int
    start: int
    stop: int
    index: NDArray[np.intp] | None = None
    order: NDArray[np.intp] | None = None
    starts: NDArray[np.intp] | None = None
    read: NDArray[np.intp] | None = None
    repeats: int = 1

    def forward(self, values: Array) -> Array:
        """The part of the node's values, without the sign: values (..., size) -> (..., stop - start)."""
        if self.index is None:
            return values
        return np.where(self.index >= 0, values[..., self.index], 0.0)

    def backward(self, rows: Array) -> Array:
        """The transpose of the part, with the sign: rows (..., node's size) -> (..., size)."""
        rows = rows[..., self.start : self.stop]
        if self.order is not None and self.starts is not None and self.read is not None:
            found = np.zeros((*rows.shape[:-1], self.size))
            if len(self.read):
                moved = rows[..., self.order]
                found[..., self.read] = moved if self.repeats == 1 else np.add.reduceat(moved, self.starts, axis=-1)
            rows = found
        return -rows if self.sign < 0 else rows


def gathering(operand: int, size: int, index: list[int]) -> Part:
    """The part of a `take`."""
    indices = np.array(index, np.intp)
    order = np.argsort(indices, kind="stable")
    order = order[np.searchsorted(indices[order], 0) :]
    read, starts, counts = np.unique(indices[order], return_index=True, return_counts=True)
    repeats = int(counts.max(initial=1))
    return Part(operand, size, 1, 0, len(index), indices, order, starts, read, repeats)


class FloatNetwork(checker.Network):
    """A network of the checker with what bounding in binary64 needs."""

    def __init__(self, network: checker.Network) -> None:
        self.__dict__.update(network.__dict__)
        self.matrices: dict[int, Matrix] = {}
        self.factors: dict[int, Pair] = {}  # of mul and div by constants
        self.parts: dict[int, list[Part]] = {}
        self.known: dict[int, Pair] = {}  # constants that are added or moved, or that a gate lets through
        self.uses: Counter[int] = Counter([self.output, *(i for k in self.order for i in self.nodes[k].of)])
        self.widest = self.numbers = self.inputs  # of nodes: the largest size, and all sizes together
        self.ready = False

    def prepare(self) -> None:
        """Convert the constants; what the checker refuses when it prepares, and what is no binary64, is refused."""
        if self.ready:
            return
        for k in self.order:
            node, fixed = self.nodes[k], [i for i in self.nodes[k].of if i in self.constants]
            self._feed(k)
            if node.terms or node.pair:
                self.known.update((i, from_vector(self.constants[i])) for i in fixed)
                self.parts[k] = self._parts(node) if node.terms else []
            elif fixed:
                constant = self.constants[fixed[0]]
                value, radius = from_vector(checker.reciprocal(constant) if node.op == "div" else constant)
                if node.op == "matmul":
                    checker.need(float(np.max(np.abs(value))) < MOST, "a weight is too large: 2^60 or more")
                    weights, spread = value.reshape(node.shape[1:]), radius.reshape(node.shape[1:])
                    transposed, sizes = np.ascontiguousarray(weights.T), np.abs(weights) + spread
                    self.matrices[k] = Matrix(weights, transposed, sizes, spread if spread.any() else None)
                else:
                    fit = node.op != "div" or not self.profile or float(np.max(np.abs(value))) < 2.0**100
                    checker.need(fit, "level float32: a division by what may be flushed to 0")
                    self.factors[k] = value, radius
        constants = [*self.known.values(), *self.factors.values()]
        checker.need(finite(*(a for pair in constants for a in pair)), "a constant is too large for binary64")
        sizes = [self.nodes[k].size for k in (0, *self.order)]
        self.widest, self.numbers, self.ready = max(sizes), sum(sizes), True

    def _feed(self, k: int) -> None:
        """Note the operands of a nonlinear node: of a relu, and of what decides a gate, only the sign matters."""
        node = self.nodes[k]
        for place, i in enumerate(node.of if node.pair or node.op in ("relu", *checker.FUNCTIONS) else ()):
            if i not in self.constants:
                smooth = (node.op, place) not in (("relu", 0), ("gate", 0))
                self.feeding[i] = self.feeding.get(i, False) or smooth

    def _parts(self, node: checker.Node) -> list[Part]:
        start, parts = 0, list[Part]()
        for place, index, sign in node.terms:
            operand, size = node.of[place], self.nodes[node.of[place]].size
            if node.op == "take" and index is not None:
                parts.append(gathering(operand, size, index))
            elif node.op == "concat":
                parts.append(Part(operand, size, 1, start, start + size))
                start += size
            else:
                parts.append(Part(operand, size, sign, 0, size))
        return parts

    def value_charge(self, i: int, count: int) -> Array:
        """What a product of `count` multipliers with a constant may be off by, for each |multiplier|."""
        value, radius = self.known[i]
        return gamma(count) * np.abs(value) + radius * (1 + 4 * ROUNDING)
