"""The best multipliers over a part: a linear program over the relaxed network, whose dual a backward pass repeats.

The solver works with floats and is not trusted; its multipliers become integers, and any integers are sound.
Source: Ehlers 2017, arXiv 1705.01320 (the relaxation); weak duality.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from axiom_jax.verification.proof.coq.atoms import Whole
from axiom_jax.verification.proof.coq.integers import Arithmetic, Part


@dataclass(frozen=True)
class Dual:
    """Multipliers of the atoms, sum 1, and of what enters each line; the bound that they give, in floats."""

    atoms: list[float]
    lines: list[float]
    bound: float


class Relaxation:
    """The rows of a network that no part changes: what enters a line is its affine function of the numbers before."""

    def __init__(self, arithmetic: Arithmetic) -> None:
        network = arithmetic.network
        n, count = network.inputs, len(network.lines)
        self.grid, self.inputs, self.lines = float(arithmetic.grid), n, network.lines
        self.rows = np.zeros((count, n + 2 * count + 1))  # variables: inputs, values, what enters, and the worst atom
        for j, line in enumerate(network.lines):
            self.rows[j, line.first : line.first + len(line.weights)] = [-w / line.over for w in line.weights]
            self.rows[j, n + count + j] = 1.0
        self.constants = np.array([line.constant / line.over for line in network.lines])

    def dual(self, part: Part, atoms: Sequence[Whole]) -> Dual | None:
        """The best multipliers for all atoms of a conjunction; None where the solver has none."""
        from scipy.optimize import linprog
        from scipy.sparse import csr_array

        n, count = self.inputs, len(self.lines)
        width = n + 2 * count + 1
        bounds = [(l / self.grid, u / self.grid) for l, u in part.box]
        values, entering = [], [(l / self.grid, u / self.grid) for l, u in part.bounds]
        rows, ends = [], []

        def at_most(end: float, *terms: tuple[int, float]) -> None:
            row = np.zeros(width)
            for place, factor in terms:
                row[place] += factor
            rows.append(row)
            ends.append(end)

        for j, (line, (l, u)) in enumerate(zip(self.lines, entering, strict=True)):
            value, z = n + j, n + count + j
            values.append((None, None) if not line.rectified else (max(l, 0.0), max(u, 0.0)))
            if not line.rectified or l >= 0:  # the value is what enters
                at_most(0.0, (value, 1.0), (z, -1.0))
                at_most(0.0, (value, -1.0), (z, 1.0))
            elif u > 0:
                at_most(0.0, (value, -1.0), (z, 1.0))
                slope = u / (u - l)
                at_most(-slope * l, (value, 1.0), (z, -slope))
        first = len(rows)
        for atom in atoms:
            at_most(-atom.constant / atom.scale, (width - 1, -1.0),
                    *((i, c / atom.scale) for i, c in atom.multipliers.items()))  # fmt: skip
        objective = np.zeros(width)
        objective[-1] = 1.0
        found = linprog(
            objective, csr_array(np.array(rows)), np.array(ends), csr_array(self.rows), self.constants,
            [*bounds, *values, *entering, (None, None)], method="highs",
        )  # fmt: skip
        if found.status != 0:
            return None
        weights = np.maximum(-found.ineqlin.marginals[first:], 0.0)
        return Dual(weights.tolist(), found.eqlin.marginals.tolist(), float(found.fun))
