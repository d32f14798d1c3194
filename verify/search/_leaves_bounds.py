"""From the duals of a part's linear program to multipliers, and the bound that they give.

A solver's word counts for nothing: slopes and betas are clipped to what is allowed, and the bound is one backward
pass with them (weak duality).
Source: Wang et al. 2021, β-CROWN, arXiv 2103.06624; Salman et al. 2019, arXiv 1902.08722.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from axiom_jax.verification.search._leaves_affine import Network, Unit
from axiom_jax.verification.search._leaves_relaxed import OPTIMAL, Placed, Relaxed
from axiom_jax.verification.search.subproblem import Subproblem

Score = tuple[float, int, int, float]  # how much a split promises, its site and neuron, and where it is cut
MOST = 64  # neurons looked at when one is chosen
THINNER = 64  # how much thinner a slab around a jump gets by two splits
THIN = 1e-9  # where jumps are left alone
TINY = 1e-12


@dataclass(frozen=True)
class Refutation:
    """How one disjunct is refuted in a part.

    Args:
        bound: what the multipliers give in float64: > 0 means refuted.
        weights: (atoms of the case,) ≥ 0, the sum of atoms that is bounded; all 0: the part is empty.
        slopes: by number of site, (neurons,) of the lower lines. betas: (splits,) ≥ 0.
    """

    bound: float
    weights: np.ndarray
    slopes: dict[int, np.ndarray]
    betas: np.ndarray


def refutation_of(
    relaxed: Placed, margins: Any, atoms: Sequence[int], result: Any, named: np.ndarray
) -> tuple[Refutation, np.ndarray, list[Score]]:
    """Duals as multipliers with the bound that they give, its linear function, and neurons worth splitting."""
    ineq = -result.ineqlin.marginals
    weights = np.zeros(margins.matrix.shape[0])
    weights[list(atoms)] = np.maximum(ineq[named], 0)
    weights = weights / weights.sum() if weights.sum() > 0 else np.eye(len(weights))[atoms[0]]
    slopes = _slopes(relaxed, result, ineq)
    betas = _betas(relaxed, result, ineq)
    found = Refutation(-np.inf, weights, slopes, betas)
    bound, row = evaluate(relaxed.network, relaxed.part, found)
    return replace(found, bound=bound), row, _scores(relaxed, margins, atoms, slopes, result.x)


def _slopes(relaxed: Placed, result: Any, ineq: np.ndarray) -> dict[int, np.ndarray]:
    """Slopes of the lower lines from the duals of y ≥ 0 and y ≥ z."""
    slopes: dict[int, np.ndarray] = {}
    for unit, (neurons, on_z) in zip(relaxed.network.units, relaxed.flat, strict=True):
        if unit.decides >= 0:
            continue
        l, u = relaxed.boxes[unit.site]
        slope = np.where(l >= 0, 1.0, np.where(u <= 0, 0.0, np.where(u > -l, 1.0, 0.0)))
        on_0 = np.maximum(result.lower.marginals[unit.start + neurons], 0)
        on_line = np.maximum(ineq[on_z], 0)
        both = on_0 + on_line
        used = both > TINY
        slope[neurons] = np.where(used, on_line / np.where(used, both, 1), slope[neurons])
        slopes[unit.site] = np.clip(slope, 0.0, 1.0)
    return slopes


def _scores(
    relaxed: Placed, margins: Any, atoms: Sequence[int], slopes: dict[int, np.ndarray], x: np.ndarray
) -> list[Score]:
    """Unstable relus by what their chords give away at the minimiser, summed over the atoms.

    Only a chord is lost: lower lines of a linear program are y ≥ 0 and y ≥ z at once, hence exact.
    """
    network, part = relaxed.network, relaxed.part
    rows = margins.matrix[list(atoms)].toarray()
    factors: dict[int, np.ndarray] = {}
    network.backward(rows, margins.offset[list(atoms)], part.lo, part.hi, relaxed.boxes, slopes, keep=factors)
    columns = x[None, : network.columns]
    scores: list[Score] = []
    for unit, (neurons, _), open_ in zip(network.units, relaxed.flat, relaxed.open, strict=True):
        factor = factors.get(unit.start, np.zeros((1, unit.size)))
        if unit.decides >= 0:
            scores += _jumps(relaxed, unit, np.flatnonzero(open_), factor, columns)
            continue
        l, u = (end[neurons] for end in relaxed.boxes[unit.site])
        z = network.sites[unit.site].at(columns)[0][neurons]
        slope = u / (u - l)
        gap = np.clip(slope * (z - l) - np.maximum(z, 0), 0, None)
        pull = np.maximum(-factor[:, neurons], 0).sum(0)
        score = pull * (gap - 1e-3 * slope * l) - 1e-9 * slope * l
        scores += [(float(score[k]), unit.site, int(neurons[k]), 0.0) for k in np.argsort(-score)[:MOST]]
    return sorted(scores, reverse=True)[:MOST]


def _jumps(relaxed: Placed, unit: Unit, neurons: np.ndarray, factor: np.ndarray, columns: np.ndarray) -> list[Score]:
    """Gates that are neither open nor shut, cut next to their jump: what is left around it is a thin slab.

    At the jump itself anything between counts, so that no split there would settle it.
    """
    network, found = relaxed.network, []
    l, u = relaxed.boxes[unit.decides]
    g = network.sites[unit.decides].at(columns)[0]
    v = network.sites[unit.site].at(columns)[0] if unit.site >= 0 else unit.value
    y = columns[0, unit.columns]
    gap = np.abs(y - np.where(g > 0, v, 0.0))
    # by the slab's width: thinning one that is thin gains less than cutting another
    score = (np.abs(factor).sum(0) * (gap + 1e-3 * np.abs(v)) + 1e-9) * np.maximum(-l, u)
    for k in neurons[np.argsort(-score[neurons])][:MOST].tolist():
        reach = max(-float(l[k]), float(u[k]))
        edge = 2.0 ** np.floor(np.log2(reach / THINNER)) if reach > THIN else np.inf
        upper = u[k] > edge and (g[k] > 0 or l[k] >= -edge)
        if upper or l[k] < -edge:
            found.append((float(score[k]), unit.decides, k, float(edge if upper else -edge)))
    if unit.site >= 0:  # what passes is between 0 and v: two chords where the sign of v is open
        low, high = relaxed.boxes[unit.site]
        below, below_at_0, above, above_at_0 = network.lines(unit, relaxed.boxes)
        excess = np.maximum(above * v + above_at_0 - np.maximum(v, 0), np.minimum(v, 0) - below * v - below_at_0)
        worth = np.abs(factor).sum(0) * excess + 1e-12
        chosen = neurons[(low[neurons] < 0) & (high[neurons] > 0)]
        found += [(float(worth[k]), unit.site, int(k), 0.0) for k in chosen[np.argsort(-worth[chosen])][:MOST]]
    return found


def _betas(relaxed: Placed, result: Any, ineq: np.ndarray) -> np.ndarray:
    found = np.zeros(len(relaxed.held))
    for number, (where, place) in enumerate(relaxed.held):
        match where:
            case "lower":
                found[number] = result.lower.marginals[place]
            case "upper":
                found[number] = -result.upper.marginals[place]
            case "row":
                found[number] = ineq[place]
    return np.maximum(found, 0)


def emptiness(relaxed: Relaxed, deadline: float) -> Refutation | None:
    """Multipliers that show a part to be empty, from the least violation of its splits."""
    result = relaxed.least_violation(deadline - time.monotonic())
    if result.status != OPTIMAL:
        return None
    ineq = -result.ineqlin.marginals
    held = [k for k, (where, _) in enumerate(relaxed.held) if where != "looser"]
    betas = np.zeros(len(relaxed.part.splits))
    betas[held] = np.maximum(ineq[len(ineq) - len(held) :], 0)
    return _empty(relaxed, _slopes(relaxed, result, ineq), betas)


def emptiness_by_ray(placed: Placed, ray: Any) -> Refutation | None:
    """Multipliers that show a part to be empty, from a ray of the dual program (Farkas' lemma)."""
    ineq = -ray.ineqlin.marginals
    betas = _betas(placed, ray, ineq)
    return _empty(placed, _slopes(placed, ray, ineq), betas / betas.sum()) if betas.sum() > TINY else None


def _empty(placed: Placed, slopes: dict[int, np.ndarray], betas: np.ndarray) -> Refutation | None:
    part, network = placed.part, placed.network
    weights = np.zeros(network.margins(part.case).matrix.shape[0])
    found = Refutation(-np.inf, weights, slopes, betas)
    bound, _ = evaluate(network, part, found)
    return replace(found, bound=bound) if bound > 0 else None


def evaluate(network: Network, part: Subproblem, refutation: Refutation) -> tuple[float, np.ndarray]:
    """The bound that multipliers give: one backward pass of Σ weights · margins − Σ β·sign·(z − at).

    Returns:
        the bound; (inputs,) its coefficients.
    """
    row, constant = lagrangian(network, part, refutation)
    boxes = {site: (lo.ravel(), hi.ravel()) for site, (lo, hi) in part.boxes.items()}
    bound, on_inputs = network.backward(row[None], constant, part.lo, part.hi, boxes, refutation.slopes)
    return float(bound[0]), on_inputs[0]


def lagrangian(network: Network, part: Subproblem, refutation: Refutation) -> tuple[np.ndarray, np.ndarray]:
    """Σ weights · margins − Σ β·sign·(z − at) as (columns,) coefficients and a (1,) constant."""
    margins = network.margins(part.case)
    row = margins.matrix.T @ refutation.weights
    constant = np.array([refutation.weights @ margins.offset])
    by_site: dict[int, np.ndarray] = {}
    for number in np.flatnonzero(refutation.betas > 0).tolist():
        site, neuron, at, sign = part.splits[number]
        factors = by_site.setdefault(site, np.zeros(len(network.sites[site].offset)))
        factors[neuron] -= sign * refutation.betas[number]
        constant += sign * refutation.betas[number] * at
    for site, factors in by_site.items():
        network.sites[site].add_to(row[None], factors[None])
        constant += factors @ network.sites[site].offset
    return row, constant


def without(
    network: Network, root: Subproblem, part: Subproblem, refutation: Refutation, kept: Sequence[Sequence[int]]
) -> np.ndarray:
    """The bounds that the same multipliers give where only some of a part's splits are kept.

    Args:
        root: the whole case. kept: numbers of the splits kept, a set a row; those with a beta must be in all.

    Returns:
        (rows,) bounds.
    """
    row, constant = lagrangian(network, part, refutation)
    boxes: dict[int, tuple[np.ndarray, np.ndarray]] = {}
    touched = {s.site for s in part.splits}
    for site, (lo, hi) in root.boxes.items():
        lo, hi = lo.ravel(), hi.ravel()
        boxes[site] = (np.tile(lo, (len(kept), 1)), np.tile(hi, (len(kept), 1))) if site in touched else (lo, hi)
    for number, numbers in enumerate(kept):
        for n in numbers:
            site, neuron, at, sign = part.splits[n]
            end = boxes[site][0 if sign > 0 else 1]
            end[number, neuron] = max(end[number, neuron], at) if sign > 0 else min(end[number, neuron], at)
    rows = np.tile(row, (len(kept), 1))
    bounds, _ = network.backward(rows, np.tile(constant, len(kept)), root.lo, root.hi, boxes, refutation.slopes)
    return bounds
