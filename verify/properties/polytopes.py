"""Proofs without a split where inputs are held to inequalities: each adds itself to what must be refuted.

Over the box an unsafe atom's left side is at least g·x + c. The multipliers of the linear program that makes the
largest of these least over A x ≤ b are what the atoms of a conjunction count for; the checker adds them up in exact
arithmetic, over the box, in one backward pass. Source: Lagrangian duality, as in Salman et al. 2019, arXiv 1902.08722.
"""

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import numpy as np

from axiom_jax.verification.properties.balls import lines_below
from axiom_jax.verification.property import Atom, Case, Property
from axiom_jax.verification.search.margins import Subject

UNIT = 1 << 20  # of multipliers in certificates
SHORT, LONG = 1000, 10**6  # denominators of multipliers, and of all together, that are kept exactly


def combined(subject: Subject, prop: Property) -> dict[str, Any] | None:
    """The proof of a property of one case by a single leaf; None where no conjunction holds the inputs to inequalities.

    Returns:
        The `proof` part of a certificate of version 2; whether it proves anything is for the checker to judge.

    Raises:
        UnsupportedPrimitive: there are no bounds.
    """
    if len(prop.cases) != 1 or not all(any(not a.output for a in conjunct) for conjunct in prop.cases[0].unsafe):
        return None
    case = prop.cases[0]
    slopes, constants = lines_below(subject, prop)
    if not (np.isfinite(slopes).all() and np.isfinite(constants).all()):
        return None
    leaf, at = [], 0
    for number, conjunct in enumerate(case.unsafe):
        every = slice(at, at + len(conjunct))
        terms = _terms(case, conjunct, slopes[every], constants[every])
        if terms is None:
            return None
        leaf.append([number, terms, -1, []])
        at += len(conjunct)
    tree = {"bounds": "crown", "leaves": [leaf], "lemmas": [], "nodes": [-1], "roots": [list(range(len(leaf)))],
            "slopes": [], "slots": [], "splits": []}  # fmt: skip
    return {"kind": "tree", "trees": [tree]}


def _terms(case: Case, conjunct: Sequence[Atom], slopes: np.ndarray, constants: np.ndarray) -> list[list[int]] | None:
    """The atoms that refute a conjunction together, with multipliers.

    Those of the program: least t with slope·x + constant ≤ t for every atom over outputs, and the inequalities.
    """
    soft = np.array([float(bool(atom.output)) for atom in conjunct])
    rows = np.where(soft[:, None] > 0, slopes, _on_inputs(conjunct, len(case.lo)))
    limits = np.where(soft > 0, -constants, [float(atom.threshold) for atom in conjunct])
    if not soft.any():
        return None
    ends = [(float(a), float(b)) for a, b in zip(case.lo, case.hi, strict=True)]
    found = _least(np.hstack([rows, -soft[:, None]]), limits, ends)
    if found is None:
        return None
    weights = _integers(np.maximum(-found.ineqlin.marginals, 0.0).tolist())
    return [[k, w] for k, w in enumerate(weights) if w]


def _on_inputs(conjunct: Sequence[Atom], size: int) -> np.ndarray:
    """(atoms, inputs) coefficients of the inputs."""
    found = np.zeros((len(conjunct), size))
    for k, atom in enumerate(conjunct):
        for i, c in atom.input:
            found[k, i] += float(c)
    return found


def _least(a: np.ndarray, b: np.ndarray, ends: Sequence[tuple[float, float]]) -> Any:
    """The linear program of least t; where inequalities and the box are tight alike, the inequalities count: they are
    exact, and the box is rounded."""
    from scipy.optimize import linprog

    cost = np.zeros(a.shape[1])
    cost[-1] = 1.0
    wide, free = [(2 * x - y, 2 * y - x) for x, y in ends], (None, None)
    found: Any = linprog(cost, A_ub=a, b_ub=b, bounds=[*ends, free], method="highs")
    wider: Any = linprog(cost, A_ub=a, b_ub=b, bounds=[*wide, free], method="highs")
    if found.status != 0:
        return None
    return wider if wider.status == 0 and wider.fun >= found.fun - 1e-9 * (1 + abs(found.fun)) else found


def _integers(weights: Sequence[float]) -> list[int]:
    """Multipliers as integers of one ratio: exactly where they are short fractions, else rounded.

    >>> _integers([1.0, 1 / 3]) == [3 * UNIT, UNIT]
    True
    """
    near = [Fraction(w).limit_denominator(SHORT) for w in weights]
    common = math.lcm(*(w.denominator for w in near))
    if common <= LONG and all(abs(float(w) - v) < 1e-9 * (1 + v) for w, v in zip(near, weights, strict=True)):
        return [int(w * common) * UNIT for w in near]
    return [round(w * UNIT) for w in weights]
