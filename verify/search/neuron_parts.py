"""The open subproblems of a search by splits of neurons, and the arrays that a device takes of them."""

from dataclasses import dataclass

import numpy as np

from axiom_jax.verification.domains.linear import Plan
from axiom_jax.verification.search.margins import Question
from axiom_jax.verification.search.optimised import GRID
from axiom_jax.verification.search.subproblem import Split


@dataclass(frozen=True)
class Piece:
    """One disjunct of one case: case, the disjunct's number, and its atoms by their numbers among all of the case."""

    case: int
    disjunct: int
    atoms: tuple[int, ...]


@dataclass(frozen=True)
class Open:
    """A subproblem that is not bounded yet.

    Args:
        piece, node: its numbers among the search's pieces and in its tree.
        value: its bound so far. splits: root first.
        choice, multiplier: what gave its bound, (rows, choices) uint8, of 255, and (rows, splits) float32, where
            a split of its own has 0; None at the root.
        slack: its bound must clear 0 by this much, relative to the thresholds.
        unit: (splits,) how large the coefficients of the neurons were when they were split.
    """

    piece: int
    node: int
    value: float
    splits: tuple[Split, ...]
    choice: np.ndarray | None
    multiplier: np.ndarray | None
    slack: float
    unit: np.ndarray | None = None


def multiplications(plan: Plan) -> int:
    """How many multiplications one row of a backward pass takes."""
    total = 0
    for eqn in plan.varying:
        if eqn.name == "dot_general":
            (contracted, _), (batched, _) = eqn.params["dimension_numbers"]
            shared = [eqn.inputs[0].shape[d] for d in (*contracted, *batched)]
            total += eqn.inputs[0].size * eqn.inputs[1].size // max(int(np.prod(shared)), 1)
        elif eqn.name == "conv_general_dilated":
            features = eqn.params["dimension_numbers"].rhs_spec[0]
            total += eqn.output.size * eqn.inputs[1].size // eqn.inputs[1].shape[features]
    return total


def pieces_of(question: Question, case: int) -> list[Piece]:
    found, first = [], 0
    for d, conjunct in enumerate(question.property.cases[case].unsafe):
        found.append(Piece(case, d, tuple(range(first, first + len(conjunct)))))
        first += len(conjunct)
    return found


def padded(a: np.ndarray, width: int) -> np.ndarray:
    a = np.asarray(a)
    return np.concatenate([a, np.repeat(a[:1], width - len(a), 0)]) if len(a) < width else a


def as_bytes(choice: np.ndarray) -> np.ndarray:
    return np.rint(choice * GRID).astype(np.uint8)
