"""One part: its linear programs, and what their duals say."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from axiom_jax.verification.search._leaves_affine import Network, atoms_of, obstacle
from axiom_jax.verification.search._leaves_bounds import Refutation, Score, emptiness, emptiness_by_ray, refutation_of
from axiom_jax.verification.search._leaves_kept import Kept
from axiom_jax.verification.search._leaves_relaxed import INFEASIBLE, OPTIMAL, Relaxed
from axiom_jax.verification.search.margins import Question
from axiom_jax.verification.search.subproblem import Subproblem
from axiom_jax.verification.search.tree import Multipliers

_networks: list[tuple[Question, Network]] = []  # the latest few
KEPT = 4
EMPTY = 1e-6  # below which bound a ray's word is not taken


@dataclass(frozen=True)
class Leaf:
    """What a linear program says of a part.

    Args:
        bound: of the property's margin, by the multipliers; > 0: safe. +inf: the part was seen to be empty.
        multipliers: for the atoms chosen, one a disjunct; None where no bound was found.
        choice: the atom of the largest weight in each disjunct.
        point: (inputs,) float64, where the relaxed margin is least; None where the part is empty.
        exact: nothing was relaxed: the bound is the minimum, up to rounding.
        row: (inputs,) coefficients of the worst disjunct's bound.
        scores: unsettled neurons as (score, site, neuron, where to cut), the one most worth splitting first.
        refutations: by disjunct.
    """

    bound: float
    multipliers: Multipliers | None
    choice: tuple[int, ...]
    point: np.ndarray | None
    exact: bool
    row: np.ndarray | None = None
    scores: Sequence[Score] = ()
    refutations: tuple[Refutation | None, ...] = ()


def network_of(question: Question) -> Network:
    """The affine maps of a question, made once for the latest few questions.

    Raises:
        NotImplementedError: its program is not piecewise linear.
    """
    for known, network in _networks:
        if known is question:
            return network
    network = Network(question)
    _networks.append((question, network))
    del _networks[:-KEPT]
    return network


def piecewise_linear(question: Question) -> bool:
    """Whether every operation of a question is linear, a relu or a gate (after lowering).

    >>> import jax, jax.numpy as jnp
    >>> from axiom_jax.verification.property import robust
    >>> from axiom_jax.verification.search.margins import Subject, pose
    >>> vector = jax.ShapeDtypeStruct((2,), np.float32)
    >>> ask = lambda f: pose(Subject(f, (), (vector,)), robust([0.0, 1.0], 1, 2, "0.1"))
    >>> piecewise_linear(ask(lambda _, x: jnp.abs(x))), piecewise_linear(ask(lambda _, x: jnp.tanh(x)))
    (True, False)
    """
    return obstacle(question.plan) is None


def solved(
    network: Network, part: Subproblem, deadline: float, refuted: dict[int, Refutation], kept: Kept | None = None
) -> Leaf:
    """Bound a part by a linear program a disjunct, sparing those that are refuted already.

    Args:
        kept: the program of the whole case, where the part is that but for splits; None: one of its own is written.
    """
    question = network.question
    disjuncts = atoms_of(question, part.case)
    margins = network.margins(part.case)
    if kept is not None and not kept.takes(part.splits):
        kept = None
    placed = Relaxed(network, part) if kept is None else kept.placed(part)
    found: list[Refutation | None] = []
    worst, point, scores, row = np.inf, None, [], None
    for number, atoms in enumerate(disjuncts):
        if number in refuted:
            found.append(refuted[number])
            continue
        seconds = deadline - time.monotonic()
        if isinstance(placed, Relaxed):
            result, named = placed.least(margins, atoms, seconds)
        else:
            assert kept is not None
            result, named = kept.least(part.splits, atoms, seconds)
            if result.status not in (OPTIMAL, INFEASIBLE) and time.monotonic() < deadline:
                return solved(network, part, deadline, refuted)
        if result.status == OPTIMAL:
            refutation, on_inputs, promising = refutation_of(placed, margins, atoms, result, named)
            if refutation.bound < worst:
                worst, row, scores = refutation.bound, on_inputs, promising
                point = np.clip(result.x[: network.inputs], part.lo, part.hi)
            found.append(refutation)
        elif result.status == INFEASIBLE:
            ray = None if kept is None else kept.ray()
            empty = None if ray is None else emptiness_by_ray(placed, ray)
            if empty is None or empty.bound <= EMPTY:
                empty = emptiness(placed if isinstance(placed, Relaxed) else Relaxed(network, part), deadline)
            found = [refuted.get(k, empty) for k in range(len(disjuncts))]
            bound = empty.bound if empty is not None and empty.bound > 0 else np.inf
            return _leaf(found, bound, placed.exact, disjuncts, part, None, None, ())
        else:
            found.append(None)
            worst = -np.inf
    return _leaf(found, worst, placed.exact, disjuncts, part, point, row, scores)


def _leaf(
    found: list[Refutation | None],
    bound: float,
    exact: bool,
    disjuncts: list[Sequence[int]],
    part: Subproblem,
    point: np.ndarray | None,
    row: np.ndarray | None,
    scores: Sequence[Score],
) -> Leaf:
    choice = tuple(int(atoms[0]) for atoms in disjuncts)
    multipliers = None
    if all(r is not None for r in found):
        done = [r for r in found if r is not None]
        choice = tuple(
            int(atoms[int(np.argmax(r.weights[list(atoms)]))]) for r, atoms in zip(done, disjuncts, strict=True)
        )
        multipliers = together(done, len(part.splits), sum(map(len, disjuncts)))
    return Leaf(bound, multipliers, choice, point, exact, row, scores, tuple(found))


def together(refutations: Sequence[Refutation], splits: int, atoms: int) -> Multipliers:
    """The multipliers of a leaf from those of its disjuncts; splits made after a disjunct was refuted get 0.

    Args:
        splits, atoms: how many there are on the path, and in the case.
    """
    sites = sorted({site for r in refutations for site in r.slopes})
    slopes = {site: np.stack([r.slopes[site] for r in refutations]) for site in sites}
    betas = np.zeros((len(refutations), splits))
    for row, r in zip(betas, refutations, strict=True):
        row[: len(r.betas)] = r.betas
    return Multipliers(slopes, betas, np.stack([r.weights[:atoms] for r in refutations]))
