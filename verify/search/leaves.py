"""Exact leaves: linear programs decide what bounds leave open, for programs that are piecewise linear.

A part whose neurons are all settled is a polytope with affine margins: its linear program decides it. `LeafSearch`
splits neurons until every leaf is decided so, and is complete. Solvers only propose: a bound counts as what its own
multipliers give in a backward pass, a point once exact arithmetic agrees.
Source: Katz et al. 2017, Reluplex, arXiv 1702.01135; Bunel et al. 2020, Branch and bound, arXiv 1909.06588.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from axiom_jax.verification.proof.emit import neuron_tree
from axiom_jax.verification.search._leaves_affine import Begun, atoms_of
from axiom_jax.verification.search._leaves_bounds import Score
from axiom_jax.verification.search._leaves_conflicts import Blamed, Conflicts
from axiom_jax.verification.search._leaves_kept import Kept, keeps
from axiom_jax.verification.search._leaves_mixed import INFEASIBLE, Mixed
from axiom_jax.verification.search._leaves_part import Leaf as Leaf
from axiom_jax.verification.search._leaves_part import network_of, solved, together
from axiom_jax.verification.search._leaves_part import piecewise_linear as piecewise_linear
from axiom_jax.verification.search._leaves_points import candidates, vertices
from axiom_jax.verification.search._leaves_relaxed import Relaxed
from axiom_jax.verification.search.margins import Question
from axiom_jax.verification.search.strategy import Judge
from axiom_jax.verification.search.subproblem import Split, Subproblem, clipped
from axiom_jax.verification.search.tree import INPUT, OPEN, Tree

SLACK = 1e-9  # float64 bounds must clear 0 by this much, relative to the numbers in them


def solve(question: Question, case: int, subproblem: Subproblem, deadline: float) -> Leaf:
    """Bound the margin of one part by a linear program a disjunct.

    Args:
        subproblem: the part; its boxes hold in it, and are clipped by its splits.
        deadline: on `time.monotonic`.

    Returns:
        a leaf; its bound is −inf where time was out.

    Raises:
        NotImplementedError: the program is not piecewise linear.

    Source: Ehlers 2017, arXiv 1705.01320; duals as slopes: Salman et al. 2019, arXiv 1902.08722.
    """
    if subproblem.case != case:
        raise ValueError(f"a part of case {subproblem.case} was asked as one of case {case}")
    return solved(network_of(question), subproblem, deadline, {})


@dataclass(frozen=True)
class _Part:
    """An open part.

    Args:
        path: nodes of the tree from the root of its case to its own; one more than it has splits and halvings.
        sub: what it is. bound: of the part it was split from.
        refuted: disjuncts that are refuted in it already, with the splits to blame.
        whole: no input was halved on the way.
    """

    path: tuple[int, ...]
    sub: Subproblem
    bound: float
    refuted: dict[int, Blamed] = field(default_factory=dict)
    whole: bool = True


MIXED_AFTER = 16  # parts are bounded before a mixed-integer solver is worth its start
MIXED_LEAST = 10.0  # seconds of a mixed-integer program at least
MIXED_LONGER = 4.0  # or this many times the turn in which it is begun: it goes on between turns
MIXED_BINARIES = 2000  # unstable neurons at most


class LeafSearch:
    """Branch and bound by linear programs: splits neurons, depth first; complete for piecewise-linear programs.

    A mixed-integer solver is asked for an unsafe point first; that it finds none proves nothing and is only noted,
    in `no_point_found`. Refuted leaves teach which splits were to blame: what they prove of an ancestor closes it,
    and the rest of the tree profits. Every closed leaf carries multipliers. Nothing is compiled.

    Args:
        question: what is asked.

    Raises:
        NotImplementedError: the program is not piecewise linear.
    """

    def __init__(self, question: Question):
        self.question, self.network = question, network_of(question)
        self.tree = Tree(len(question.lo))
        self.boxes, self.closed_bound = 0, np.inf
        self.no_point_found: set[int] = set()  # cases
        self._questions: dict[int, list[tuple[int, float]]] = {}  # by case: what a mixed-integer solver is asked yet
        self._mixed: tuple[int, Mixed] | None = None
        self.ties: list[_Part] = []  # leaves whose margin is zero to rounding
        self.pool: list[_Part] = []
        self._roots: dict[int, Subproblem] = {}
        self._begun: dict[int, Begun] = {}  # bounds of roots that time did not suffice for
        self._conflicts: dict[int, Conflicts] = {}
        self._programs: dict[int, Kept] = {}  # by case
        self._blamed: dict[int, frozenset[Split]] = {}  # by closed node whose sibling is open: splits it needs
        for case in reversed(range(len(question.lo))):
            self.pool.append(_Part((case,), Subproblem(case, question.lo[case], question.hi[case], {}), -np.inf))

    @property
    def trusted(self) -> str | None:
        """What a solver says of all that is open, unproved; None if it says nothing."""
        cases = {part.sub.case for part in (*self.pool, *self.ties)}
        return "solver-trusted: HiGHS finds no unsafe point" if cases and cases <= self.no_point_found else None

    @property
    def open(self) -> int:
        return len(self.pool) + len(self.ties)

    @property
    def worst(self) -> float:
        return float(min([self.closed_bound, *(part.bound for part in (*self.pool, *self.ties))]))

    @property
    def leaves(self) -> int:
        return self.tree.leaves

    def root(self, case: int) -> Subproblem:
        """A whole case, with bounds of all sites."""
        self._rooted(case, np.inf)
        return self._roots[case]

    def _rooted(self, case: int, deadline: float) -> bool:
        """Bound the sites of a case; False if time was out before all was bounded: the next time goes on from there."""
        if case not in self._roots:
            lo, hi = self.question.lo[case], self.question.hi[case]
            begun = self._begun.setdefault(case, Begun())
            if not self.network.bound(begun, lo, hi, deadline=deadline):
                return False
            self._roots[case] = Subproblem(case, lo, hi, self._begun.pop(case).boxes)
            self._conflicts[case] = Conflicts(self.network, self._roots[case])
        return True

    def run(self, deadline: float, judge: Judge, progress: Callable[["LeafSearch"], None] | None = None) -> str:
        """Search until every part is closed, a candidate is judged unsafe, or time is out.

        Args:
            deadline: on `time.monotonic`.
            judge: whether a candidate point of a case is unsafe in exact arithmetic.
            progress: called after each part.

        Returns:
            "closed", "unsafe", "time", or "stuck" where margins are zero to rounding and no point was found.
        """
        while self.pool:
            if time.monotonic() >= deadline:
                return "time"
            part = self.pool[-1]
            # whole cases first: most are closed or refuted at once
            if len(part.path) > 1 and self._asked(part.sub.case, deadline, judge):
                return self._ended("unsafe")
            if not part.sub.splits and not part.sub.boxes:
                if not self._rooted(part.sub.case, deadline):
                    return "time"
                part = replace(part, sub=self.root(part.sub.case))
            if self._known(part):
                continue
            refuted = {k: refutation for k, (refutation, _) in part.refuted.items()}
            leaf = solved(self.network, part.sub, deadline, refuted, self._kept(part))
            if leaf.bound == -np.inf and leaf.point is None:
                return "time"
            self.boxes += 1
            if self._unsafe(part, leaf, judge):
                return self._ended("unsafe")
            self.pool.pop()
            self._branch(part, leaf)
            if progress:
                progress(self)
        return self._ended("stuck" if self.ties else "closed")

    def _kept(self, part: _Part) -> Kept | None:
        """The solver's program of a part's case; None where a program of its own is needed."""
        case = part.sub.case
        if not part.whole or not keeps(self.network):
            return None
        if case not in self._programs:
            self._programs[case] = Kept(self.network, self.root(case), self.network.margins(case))
        return self._programs[case]

    def _ended(self, outcome: str) -> str:
        if self._mixed is not None:
            self._mixed[1].stop()
            self._mixed = None
        return outcome

    def _slack(self, case: int) -> float:
        return SLACK * (1 + float(np.abs(self.question.spec.threshold[case]).max()))

    def _known(self, part: _Part) -> bool:
        """Close or split a part by what was learned before, without a linear program; False where nothing was."""
        case, count = part.sub.case, len(atoms_of(self.question, part.sub.case))
        conflicts = self._conflicts[case]
        found = conflicts.applied(part.sub, list(part.refuted), self._slack(case))
        refuted = part.refuted | found
        if len(refuted) == count:
            self.pool.pop()
            self._close(part, refuted)
            return True
        left = [k for k in range(count) if k not in refuted]
        if len(left) > 1 or not part.whole:
            return False
        forced = conflicts.forced(part.sub, left[0])
        if forced is None:
            return False
        self.pool.pop()
        self._split(replace(part, refuted=refuted), forced.site, forced.neuron, forced.at, None)
        return True

    def _unsafe(self, part: _Part, leaf: Leaf, judge: Judge) -> bool:
        """Try points near the minimiser."""
        if leaf.point is None or leaf.bound > self._slack(part.sub.case):
            return False
        case = part.sub.case
        near = candidates(self.network, case, leaf.point, descend=self.boxes % 8 == 1)
        if any(judge(case, point) for point, _ in zip(near, range(2), strict=False)):
            return True
        if leaf.scores or leaf.bound < -SLACK * 1e3:
            return False
        return any(judge(case, point) for point in vertices(self.network, case, leaf.point))

    def _asked(self, case: int, deadline: float, judge: Judge) -> bool:
        """Have a mixed-integer solver look for unsafe points of the case at hand, and see whether it found one.

        It is asked for a point that is unsafe beyond doubt first, then for any; each disjunct in turn; once.
        """
        if self._mixed is None:
            if self.boxes < MIXED_AFTER:
                return False
            if case not in self._questions:
                disjuncts = range(len(atoms_of(self.question, case)))
                self._questions[case] = [(d, below) for d in disjuncts for below in (-1e-6, 1e-6)]
            if not self._questions[case]:
                return False
            disjunct, below = self._questions[case].pop(0)
            relaxed = Relaxed(self.network, self.root(case))
            if not 0 < sum(int(o.sum()) for o in relaxed.open) <= MIXED_BINARIES:
                return False
            atoms = atoms_of(self.question, case)[disjunct]
            seconds = max(MIXED_LEAST, MIXED_LONGER * (deadline - time.monotonic()))
            mixed = relaxed.mixed(self.network.margins(case), atoms, below, seconds)
            self._mixed = case, mixed
            return False
        about, mixed = self._mixed
        if (answer := mixed.answer()) is None:
            return False
        self._mixed, (status, x) = None, answer
        if x is not None:
            near = candidates(self.network, about, x[: self.network.inputs])
            return any(judge(about, found) for found, _ in zip(near, range(4), strict=False))
        if status != INFEASIBLE:
            self._questions[about] = []
        elif not self._questions[about]:
            self.no_point_found.add(about)
        return False

    def _branch(self, part: _Part, leaf: Leaf) -> None:
        """Close a part, or split it."""
        slack = self._slack(part.sub.case)
        refuted = dict(part.refuted)
        for disjunct, refutation in enumerate(leaf.refutations):
            if disjunct in refuted or refutation is None or refutation.bound <= slack:
                continue
            to_blame = tuple(part.sub.splits)
            if part.whole:
                to_blame = self._conflicts[part.sub.case].learn(disjunct, refutation, part.sub, slack)
            refuted[disjunct] = refutation, to_blame
        if len(refuted) == len(leaf.refutations):
            self._close(part, refuted)
        elif leaf.point is None:  # the solver says it is empty, but no multipliers show it
            self.ties.append(replace(part, bound=0.0))
        else:
            part = replace(part, bound=leaf.bound, refuted=refuted)
            if leaf.scores:
                self._split(part, *self._chosen(part, leaf.scores), leaf.point)
            elif leaf.exact or leaf.row is None or not self._halve(part, leaf.row):
                self.ties.append(part)

    def _chosen(self, part: _Part, scores: Sequence[Score]) -> tuple[int, int, float]:
        """The neuron, and where to cut it, that promises most by its relaxation and by how often it was to blame."""
        activity = self._conflicts[part.sub.case].activity
        most = max(scores[0][0], 1e-300)
        busiest = max((activity.get((s, n), 0.0) for _, s, n, _ in scores), default=0.0) or 1.0
        return max(scores, key=lambda c: c[0] / most + activity.get(c[1:3], 0.0) / busiest)[1:]

    def _close(self, part: _Part, refuted: dict[int, Blamed]) -> None:
        """Close a part, and what follows from it: a node one of whose halves needs no split is that half."""
        disjuncts = atoms_of(self.question, part.sub.case)
        ordered = [refuted[k][0] for k in range(len(disjuncts))]
        choice = tuple(
            int(atoms[int(np.argmax(r.weights[list(atoms)]))]) for r, atoms in zip(ordered, disjuncts, strict=True)
        )
        self.tree.close(part.path[-1], choice, together(ordered, len(part.sub.splits), sum(map(len, disjuncts))))
        self.closed_bound = min(self.closed_bound, *(r.bound for r in ordered))
        if not part.whole:
            return
        blamed = frozenset(split for _, to_blame in refuted.values() for split in to_blame)
        for depth in reversed(range(len(part.path) - 1)):
            parent, node, split = part.path[depth], part.path[depth + 1], part.sub.splits[depth]
            if split not in blamed:
                self.pool = [p for p in self.pool if len(p.path) <= depth or p.path[depth] != parent]
                _lift(self.tree, parent, node, depth)
                continue
            first = self.tree.child[parent]
            other = first + (node == first)
            if other not in self._blamed:
                self._blamed[node] = blamed
                return
            both = {split, split._replace(sign=-split.sign)}
            blamed = (blamed | self._blamed.pop(other)) - both

    def _split(self, part: _Part, site: int, neuron: int, at: float, point: np.ndarray | None) -> None:
        """At a value of a neuron; the side on which the minimiser lies is taken up first, else one that is closed."""
        sub, conflicts = part.sub, self._conflicts[part.sub.case]
        child = self.tree.part([part.path[-1]], [site], [neuron], [at])[0]
        halves = self._sides(part, child, site, neuron, at)
        if point is None:
            upper_first = bool(conflicts.applied(halves[1].sub, list(part.refuted), self._slack(sub.case)))
        else:
            upper_first = self.network.sites[site].at(self.network.forward(point[None]))[0, neuron] >= at
        self.pool += halves if upper_first else halves[::-1]

    def _sides(self, part: _Part, child: int, site: int, neuron: int, at: float) -> list[_Part]:
        halves = []
        for number, sign in ((child, -1), (child + 1, 1)):
            split = Split(site, neuron, at, sign)
            half = replace(part.sub, boxes=clipped(part.sub.boxes, [split]), splits=[*part.sub.splits, split])
            halves.append(_Part((*part.path, number), half, part.bound, part.refuted, part.whole))
        return halves

    def _halve(self, part: _Part, row: np.ndarray) -> bool:
        """At the middle of the input that the bound depends on most; False where it is too thin."""
        sub = part.sub
        dimension = int(np.argmax((np.abs(row) + 1e-12) * (sub.hi - sub.lo)))
        middle = (sub.lo[dimension] + sub.hi[dimension]) / 2
        if not sub.lo[dimension] < middle < sub.hi[dimension]:
            return False
        child = int(self.tree.halve(np.array([part.path[-1]]), np.array([dimension]))[0])
        self.pool += self._halves(part, child, dimension)
        return True

    def _halves(self, part: _Part, child: int, dimension: int) -> list[_Part]:
        sub, halves = part.sub, []
        middle = (sub.lo[dimension] + sub.hi[dimension]) / 2
        for number, ends in ((child, (sub.lo[dimension], middle)), (child + 1, (middle, sub.hi[dimension]))):
            lo, hi = sub.lo.copy(), sub.hi.copy()
            lo[dimension], hi[dimension] = ends
            half = replace(sub, lo=lo, hi=hi, boxes=self.network.bounds(lo, hi, sub.boxes))
            halves.append(_Part((*part.path, number), half, part.bound, part.refuted, whole=False))
        return halves

    def proof(self) -> dict[str, Any] | str:
        """The `proof` part of a certificate of a closed search, or in words why it cannot be written."""
        if self.open:
            return "the search has not ended"
        return neuron_tree(self.question, self.tree)

    def reopen(self, failed: Sequence[tuple[int, int]]) -> None:
        """Split leaves that the checker refused once more: at an unstable neuron where there is one, or an input."""
        for case in sorted({c for c, _ in failed}):
            refused = {ordinal for c, ordinal in failed if c == case}
            for ordinal, closed in enumerate(self._closed(case)):
                if ordinal not in refused:
                    continue
                part = replace(closed, whole=False)  # its halves are needed, though multipliers say they are not
                self.tree.choice[part.path[-1]] = None
                self.tree.multipliers.pop(part.path[-1], None)
                leaf = solved(self.network, part.sub, np.inf, {})
                if leaf.scores and leaf.point is not None:
                    self._split(part, *leaf.scores[0][1:], leaf.point)
                elif not self._halve(part, np.ones(self.network.inputs) if leaf.row is None else leaf.row):
                    self.ties.append(part)
            self._conflicts[case] = Conflicts(self.network, self.root(case))  # what they taught was refused

    def _closed(self, case: int) -> list[_Part]:
        """The closed leaves of a case in preorder."""
        found, stack = [], [_Part((case,), self.root(case), -np.inf)]
        while stack:
            part = stack.pop()
            node = part.path[-1]
            if self.tree.choice[node] is not None:
                found.append(part)
            elif self.tree.child[node] != OPEN:
                child, site, which = self.tree.child[node], self.tree.site[node], self.tree.split[node]
                if site == INPUT:
                    halves = self._halves(part, child, which)
                else:
                    halves = self._sides(part, child, site, which, self.tree.at[node])
                stack += halves[::-1]
        return found


def _lift(tree: Tree, parent: int, node: int, depth: int) -> None:
    """Put what is at a node, and below it, in the place of its parent, whose split it does not need."""
    first = tree.child[parent]
    for below, _, _, _ in list(tree.preorder(first + (node == first))):
        tree.choice[below] = None
        tree.multipliers.pop(below, None)
        tree.split[below], tree.site[below], tree.child[below] = OPEN, INPUT, OPEN
    for field_ in (tree.split, tree.site, tree.at, tree.child, tree.choice):
        field_[parent] = field_[node]  # type: ignore[index]
    tree.split[node], tree.site[node], tree.child[node], tree.choice[node] = OPEN, INPUT, OPEN, None
    if node in tree.multipliers:
        tree.multipliers[parent] = tree.multipliers.pop(node)
    for below, _, choice, _ in tree.preorder(parent):
        if choice is not None:
            kept = tree.multipliers[below]
            tree.multipliers[below] = replace(kept, betas=np.delete(kept.betas, depth, axis=1))
