"""Branch and bound by splits of neurons: signs of relus, values of whatever enters another curve (β-CROWN).

Every disjunct of every case is searched with a tree of its own, since what helps against one is useless against
another. What is known of a neuron at the root holds below it and is clipped by the splits; lines and multipliers of
a part start from those of its parent. The pool lives on the host; a device sees one batch at a time.
Source: Wang et al. 2021, β-CROWN, arXiv 2103.06624; Shi et al. 2024, arXiv 2405.21063.
"""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax
import numpy as np

from axiom_jax._program import Var
from axiom_jax.verification.domains.interval import Interval
from axiom_jax.verification.proof.emit import neuron_tree
from axiom_jax.verification.search.branching import candidates
from axiom_jax.verification.search.compilation import compiled_before, compiled_by
from axiom_jax.verification.search.frontier import open_nodes
from axiom_jax.verification.search.margins import Question
from axiom_jax.verification.search.neuron_parts import Open, as_bytes, multiplications, padded, pieces_of
from axiom_jax.verification.search.optimised import (
    GRID,
    Batch,
    Tightened,
    first_choice,
    layout,
    optimise,
    split_bounds,
)
from axiom_jax.verification.search.root_bounds import Begun, Stage, outward, stages
from axiom_jax.verification.search.strategy import Judge
from axiom_jax.verification.search.subproblem import LOWER, UPPER, Split, Subproblem, clipped
from axiom_jax.verification.search.tree import OPEN, Multipliers, Tree

SLACK = 1e-6  # float bounds must clear 0 by this much (relative to the thresholds) before a leaf is closed
ROOT_STEPS, STEPS, AGAIN = 40, 20, 0  # of gradient ascent: at the root, below it, before a part is split in turn
TRIED, STRONG = 5, 3  # candidates of each score that are bounded once; of all, those that are bounded well
WIDEST = 64  # subproblems of one call: on a CPU more do not pay
FLOATS = 60_000_000  # numbers that the state of one call may hold
MEMORY = 1.5e9  # bytes of the pool above which the search goes depth first
WORK = 2e9  # multiplications of one step of a call: they take about half a second on two cores

Bounds = Mapping[Var, Interval]


@dataclass(frozen=True)
class _Tried:
    """Candidates of a batch, (batch, candidates): neuron or -1, where it is split, the unit of its multiplier, bounds
    and multipliers (…, 2) of both parts by one pass, what both gain together."""

    neuron: np.ndarray
    at: np.ndarray
    unit: np.ndarray
    bound: np.ndarray
    started: np.ndarray
    gain: np.ndarray


@dataclass(frozen=True)
class _Part:
    """A part that is bounded: its best bound, the row that has it, (rows, choices), (rows, neurons)."""

    value: float
    row: int
    choice: np.ndarray
    multiplier: np.ndarray


class NeuronSearch:
    """A search that can be stopped and taken up again; see `strategy.Strategy`.

    Args:
        question: what is asked.
        bounds: for each case, boxes of the values in `question.plan.sites`; None: found here, when a case is taken up.

    Source: Wang et al. 2021, β-CROWN, arXiv 2103.06624.

    >>> import time
    >>> from fractions import Fraction
    >>> import jax.numpy as jnp
    >>> from axiom_jax.verification.property import Atom, Case, Property
    >>> from axiom_jax.verification.search.margins import Subject, pose
    >>> subject = Subject(lambda _, x: jnp.abs(x - 0.5), (), (jax.ShapeDtypeStruct((1,), np.float32),))
    >>> low = Atom(((0, Fraction(1)),), Fraction(-1, 10))
    >>> search = NeuronSearch(pose(subject, Property((Case((Fraction(0),), (Fraction(1),), ((low,),)),))))
    >>> search.run(time.monotonic() + 60, judge=lambda case, point: False), search.leaves
    ('closed', 1)
    """

    def __init__(self, question: Question, bounds: "Sequence[Bounds | None] | None" = None):
        self.question, self.layout = question, layout(question)
        self.given = list(bounds) if bounds is not None else [None] * len(question.lo)
        self.pieces = [piece for c in range(len(question.lo)) for piece in pieces_of(question, c)]
        self.rows = max(len(piece.atoms) for piece in self.pieces)
        self.slack: dict[int, float] = {}  # of nodes that were taken up again
        self.finished: list[Open] = []  # nothing in them can be split, and yet they are not closed
        self.resume(Tree(len(self.pieces)))  # its roots are the pieces
        self.boxes = 0
        self.begun: dict[int, Begun] = {}  # bounds that time did not suffice for
        self.plain: set[int] = set()  # cases whose bounds are no better than the checker's rule
        self.closed_bound = np.inf
        self.roots: dict[int, tuple[np.ndarray, np.ndarray]] = {}  # (neurons,) float32 ends of all sites, by case
        state = 16 * self.rows * (self.layout.choices + self.layout.neurons + question.lo.shape[1])
        fitting = min(FLOATS / state, WORK / max(3 * self.rows * multiplications(question.plan), 1), WIDEST)
        self.width = 1 << (max(int(fitting), 1).bit_length() - 1)  # one only, so that programs compile once
        self.cost = 0.0  # seconds of one step for one subproblem, as measured last
        self.fresh = True  # nothing is compiled yet

    @property
    def record(self) -> Tree:
        """The tree that it goes on from: its roots are the disjuncts of all cases."""
        return self.tree

    def resume(self, tree: Tree) -> None:
        """Take a tree up: its open nodes are what is left, as if nothing were known of them but their splits."""
        if tree is not getattr(self, "tree", None):
            self.slack = {}
        lo, hi = (end[[piece.case for piece in self.pieces]] for end in (self.question.lo, self.question.hi))
        fresh = lambda node: self.slack.get(node, SLACK)
        self.tree, self.finished = tree, []
        self.pool = [
            Open(left.root, left.node, -np.inf, left.splits, None, None, fresh(left.node))
            for left in open_nodes(tree, lo, hi)
        ]

    @property
    def open(self) -> int:
        return len(self.pool) + len(self.finished)

    @property
    def worst(self) -> float:
        """The worst margin proved so far over the whole region."""
        return float(min([self.closed_bound, *(sub.value for sub in self.pool + self.finished)]))

    @property
    def leaves(self) -> int:
        return self.tree.leaves

    def run(self, deadline: float, judge: Judge, progress: "Callable[[Any], None] | None" = None) -> str:
        """Search until every subproblem is closed, a candidate is judged unsafe, or time is out.

        Args:
            deadline: on `time.monotonic`. judge: whether a point of a case is unsafe in exact arithmetic.
            progress: called with the search after each batch.

        Returns:
            "closed", "unsafe", "time", or "stuck" if what is left cannot be split any more.
        """
        while self.pool:
            if time.monotonic() >= deadline:
                return "time"
            subs = self._take()
            try:
                rooted = self._rooted({self.pieces[sub.piece].case for sub in subs}, deadline)
                self.pool, subs = ([s for s in some if self._is_open(s)] for some in (self.pool, subs))
                if not rooted or (subs and not self._ready(subs, deadline)):
                    self.pool += subs
                    return "time"
                unsafe = bool(subs) and self._bound(subs, deadline, judge)
            except BaseException:
                self.pool += [sub for sub in subs if self._is_open(sub)]
                raise
            if unsafe:
                return "unsafe"
            if progress:
                progress(self)
        return "stuck" if self.finished else "closed"

    def proof(self) -> dict[str, Any] | str:
        """The `proof` part of a certificate of a closed search, or in words why it cannot be written."""
        self._rooted(self._cases, np.inf)  # a tree that grew elsewhere has been taken up
        roots = [[(k, (p.disjunct,)) for k, p in enumerate(self.pieces) if p.case == case] for case in self._cases]
        return neuron_tree(self.question, self.tree, self.bounds, roots, self.plain)

    @property
    def bounds(self) -> list[dict[int, tuple[np.ndarray, np.ndarray]]]:
        """By case, the boxes that its root had: (lo, hi) by number of site."""
        return [self._by_site(*self._root(c)) for c in self._cases]

    def reopen(self, failed: Sequence[tuple[int, int]]) -> None:
        """Take up leaves again, given as (case, ordinal among the leaves of its trees in preorder); they are
        closed with ten times the slack from now on."""
        for case in {case for case, _ in failed}:
            ids = [k for k, piece in enumerate(self.pieces) if piece.case == case]
            nodes = [(k, n) for k in ids for n, _, choice, _ in self.tree.preorder(k) if choice is not None]
            for piece, node in {nodes[ordinal] for c, ordinal in failed if c == case}:
                self.tree.choice[node] = None
                self.tree.multipliers.pop(node, None)
                slack = 10 * self.slack.pop(node, SLACK)
                self.pool.append(Open(piece, node, -np.inf, self._path(piece, node), None, None, slack))

    def _path(self, piece: int, wanted: int) -> tuple[Split, ...]:
        """The splits that lead to a node of a piece's tree."""
        stack: list[tuple[int, tuple[Split, ...]]] = [(piece, ())]
        while stack:
            node, path = stack.pop()
            if node == wanted:
                return path
            if (child := self.tree.child[node]) >= 0:
                parts = (self.tree.site[node], self.tree.split[node], self.tree.at[node])
                stack += [(child + w, (*path, Split(*parts, sign))) for w, sign in enumerate((LOWER, UPPER))]
        raise AssertionError("unreachable")

    def _ready(self, subs: list[Open], deadline: float) -> bool:
        """Whether the programs are compiled before the deadline; that goes on in a thread where they are not."""
        if not self.fresh:
            return True
        shapes = tuple(np.shape(a) for a in jax.tree.leaves(self.question.spec))
        key = ("splits of neurons", self.layout, self.width, self.rows, shapes)
        return compiled_before(key, lambda: self._compiled(subs)) or compiled_by(deadline, key)

    def _compiled(self, subs: list[Open]) -> None:
        """Call once what a batch calls."""
        batch = self._batch(subs, self.width)
        question, enough = self.question, np.full(self.width, np.inf, np.float32)
        found = optimise(self.layout, question.values, question.spec, batch, 0, enough)
        found = jax.tree.map(np.asarray, found)
        rows = np.arange(len(subs))
        self._tried(*_of_rows(batch, found, rows, found.value[rows].argmax(1)), found.value[rows].max(1))

    # The pool.

    def _is_open(self, sub: Open) -> bool:
        return self.tree.choice[sub.node] is None

    def _take(self) -> list[Open]:
        """The subproblems to bound next: the worst first, the deepest where memory is short."""
        width = self.width
        if len(self.pool) <= width:
            taken, self.pool = self.pool, []
            return taken
        held = len(self.pool) * self.rows * self.layout.choices
        key = np.array([sub.value if held < MEMORY else -len(sub.splits) for sub in self.pool])
        order = np.argpartition(key, width)
        taken = [self.pool[i] for i in order[:width]]
        self.pool = [self.pool[i] for i in order[width:]]
        return taken

    def _bound(self, subs: list[Open], deadline: float, judge: Judge) -> bool:
        """Bound subproblems; close them, or split them. Whether a candidate was judged unsafe."""
        at_root = subs[0].choice is None
        batch = self._batch(subs, self.width)
        threshold = np.array([sub.slack for sub in subs]) * self._scale(subs)
        steps, calls = ROOT_STEPS if at_root else AGAIN, 3 if self.fresh else 1  # the first ones measure a step
        found = self._optimised(batch, threshold, steps, deadline)
        for _ in range(1, calls):
            if steps and (found.value[: len(subs)].max(1) <= threshold).any() and time.monotonic() < deadline:
                batch = replace(batch, choice=found.choice, multiplier=found.multiplier)
                found = self._optimised(batch, threshold, steps, deadline)
        value = found.value[: len(subs)].max(1)
        for i in np.argsort(found.reached[: len(subs)])[:4]:
            if found.reached[i] <= threshold[i] and judge(int(batch.case[i]), self._point(subs[i], found.point[i])):
                return True
        closed = value > threshold
        for i in np.flatnonzero(closed):
            self._close(subs[i], found, int(i), float(value[i]))
        rest = np.flatnonzero(~closed)
        if not len(rest):
            return False
        left = [subs[i] for i in rest]
        return self._branch(left, batch, found, rest, value[rest], threshold[rest], deadline, judge)

    def _optimised(self, batch: Batch, threshold: np.ndarray, steps: int, deadline: float) -> Tightened:
        """At most `width` subproblems bounded, in numpy; as many steps as there is time for."""
        count, start = len(threshold), time.monotonic()
        enough = np.full(self.width, -np.inf, np.float32)
        enough[:count] = threshold
        batch = jax.tree.map(lambda a: padded(a, self.width), batch)
        steps = self._steps(self.width, steps, deadline)
        found = optimise(self.layout, self.question.values, self.question.spec, batch, steps, enough)
        found = jax.tree.map(np.asarray, found)
        self.boxes += count
        if not self.fresh:
            self.cost = (time.monotonic() - start) / (self.width * max(int(found.steps), 1))
        self.fresh = False
        return found

    def _steps(self, width: int, wanted: int, deadline: float) -> int:
        if self.fresh:
            return 1  # this call compiles
        if not self.cost:
            return 4  # and this one measures
        return int(np.clip((deadline - time.monotonic()) / (width * self.cost), 0, wanted))

    def _point(self, sub: Open, point: np.ndarray) -> np.ndarray:
        case = self.pieces[sub.piece].case
        return np.clip(point, self.question.float32_lo[case], self.question.float32_hi[case])

    def _close(self, sub: Open, found: Tightened, i: int, value: float) -> None:
        row = int(np.argmax(found.value[i]))
        multiplier = self._sparse(sub.splits, found.multiplier[i, row])
        self._record(sub, row, found.choice[i, row], multiplier, value)

    def _record(self, sub: Open, row: int, choice: np.ndarray, multiplier: np.ndarray, value: float) -> None:
        atom, betas = self.pieces[sub.piece].atoms[row], self._signed(sub.splits, multiplier)
        self.tree.close(sub.node, (atom,), Multipliers(self._slopes(choice), betas[None]))
        if sub.slack != SLACK:
            self.slack[sub.node] = sub.slack
        self.closed_bound = min(self.closed_bound, value)

    def _signed(self, splits: Sequence[Split], multiplier: np.ndarray) -> np.ndarray:
        """(splits,) float64, ≥ 0 for a split's own inequality; below 0 for the other end of its neuron's box."""
        return multiplier.astype(np.float64) * [split.sign for split in splits]

    def _slopes(self, choice: np.ndarray) -> dict[int, np.ndarray]:
        """By number of site, (1, neurons) slopes of the lower lines of its relus."""
        plan, found = self.layout.plan, {}
        for position, count, at in self.layout.free:
            eqn = plan.varying[position]
            if count == 1:
                v = plan.operand(eqn)
                found[plan.sites.index(v)] = choice[at : at + v.size][None].astype(np.float32)
        return found

    def _branch(
        self, subs: list[Open], batch: Batch, found: Tightened, rows: np.ndarray, value: np.ndarray,
        threshold: np.ndarray, deadline: float, judge: Judge,
    ) -> bool:  # fmt: skip
        """Split subproblems at the neurons that help most, close parts that are safe already. Whether one where
        nothing is left to split is unsafe."""
        best = found.value[rows].argmax(1)
        tried = self._tried(*_of_rows(batch, found, rows, best), value)
        unsafe, jobs = False, []
        for i, sub in enumerate(subs):
            strong = np.argsort(-tried.gain[i], kind="stable")[:STRONG]
            strong = [int(c) for c in strong if tried.neuron[i, c] >= 0]
            jobs += [(i, c, side) for c in strong for side in (0, 1)]
            if not strong:
                unsafe = self._finish(sub, float(value[i]), deadline, judge) or unsafe
        parts = self._parts(jobs, tried, batch, found, rows, best, threshold, deadline)
        for i, sub in enumerate(subs):
            bounded = [c for k, c, side in jobs if k == i and side and (i, c, 1) in parts]
            pairs = {c: (parts[i, c, 0], parts[i, c, 1]) for c in bounded}
            if pairs:
                c = max(pairs, key=lambda c: sum(min(part.value, 0.0) for part in pairs[c]))
                self._split(sub, tried, i, c, pairs[c], float(value[i]), threshold[i])
            elif any(k == i for k, _, _ in jobs):
                self.pool.append(replace(sub, value=float(value[i])))  # time was out before its parts were bounded
        return unsafe

    def _tried(self, one: Batch, weights: dict[int, Any], worst: np.ndarray, value: np.ndarray) -> "_Tried":
        """Candidates for each of a batch of one row each, with bounds of both parts by one pass."""
        question, count = self.question, len(value)
        one, weights, worst = jax.tree.map(lambda a: padded(a, self.width), (one, weights, worst))
        given = self.layout, question.values, question.spec, one
        neuron, at, unit = (np.array(a) for a in candidates(*given, weights, worst, TRIED))
        if not neuron.shape[1]:  # a linear network, or one without relus
            nothing = np.zeros((count, 0, 2), np.float32)
            return _Tried(neuron[:count], at[:count], unit[:count], nothing, nothing, nothing.sum(-1))
        quick = [split_bounds(*given, weights, neuron[:, k], at[:, k]) for k in range(neuron.shape[1])]
        bound, started = (np.stack([np.asarray(t[n]) for t in quick], 1)[:count] for n in (0, 1))
        neuron, at, unit = neuron[:count], at[:count], unit[:count]
        for k in range(1, neuron.shape[1]):
            neuron[:, k] = np.where((neuron[:, k, None] == neuron[:, :k]).any(1), -1, neuron[:, k])
        gain = np.maximum(np.minimum(bound, 0) - value[:, None, None], 0).sum(-1)  # more than closed is no more
        return _Tried(neuron, at, unit, bound, started, np.where(neuron >= 0, gain, -1.0))

    def _parts(
        self, jobs: list[tuple[int, int, int]], tried: "_Tried", batch: Batch, found: Tightened, rows: np.ndarray,
        best: np.ndarray, threshold: np.ndarray, deadline: float,
    ) -> dict[tuple[int, int, int], "_Part"]:  # fmt: skip
        """Bound parts (subproblem, candidate, side) well, as many as there is time for."""
        parts = {}
        for first in range(0, len(jobs), self.width):
            if time.monotonic() >= deadline:
                break
            some = jobs[first : first + self.width]
            i, c, side = (np.array(column) for column in zip(*some, strict=True))
            k, j, at, n = rows[i], tried.neuron[i, c], tried.at[i, c], np.arange(len(some))
            take = lambda a, k=k: np.array(np.asarray(a)[k])
            below, above, cut, unit = map(take, (batch.below, batch.above, batch.cut, batch.unit))
            choice, multiplier = take(found.choice), take(found.multiplier)
            above[n, j] = np.where(side == 0, np.minimum(above[n, j], at), above[n, j])
            below[n, j] = np.where(side == 1, np.maximum(below[n, j], at), below[n, j])
            cut[n, j], unit[n, j] = True, tried.unit[i, c]
            multiplier[n, best[i], j] = tried.started[i, c, side]
            child = Batch(take(batch.case), take(batch.atoms), take(batch.lo), take(batch.hi), below, above, cut, unit,
                          choice, multiplier)  # fmt: skip
            result = self._optimised(child, threshold[i], STEPS, deadline)
            for m, job in enumerate(some):
                row = int(np.argmax(result.value[m]))
                parts[job] = _Part(float(result.value[m, row]), row, result.choice[m], result.multiplier[m])
        return parts

    def _split(
        self, sub: Open, tried: "_Tried", i: int, c: int, pair: "tuple[_Part, _Part]", value: float, threshold: float
    ) -> None:
        """Split a subproblem; close its parts that are safe already, and put the others into the pool."""
        j, at = int(tried.neuron[i, c]), float(tried.at[i, c])
        site = int(np.searchsorted(self.layout.offsets, j, side="right")) - 1
        neuron = j - self.layout.offsets[site]
        (child,) = self.tree.part([sub.node], [site], [neuron], [at])
        units = np.append(np.ones(len(sub.splits)) if sub.unit is None else sub.unit, tried.unit[i, c])
        units = units.astype(np.float32)
        for which, (sign, part) in enumerate(zip((LOWER, UPPER), pair, strict=True)):
            splits = (*sub.splits, Split(site, neuron, at, sign))
            sparse = np.stack([self._sparse(splits, m) for m in part.multiplier]).astype(np.float32)
            bound = max(value, part.value)
            below = Open(sub.piece, child + which, bound, splits, as_bytes(part.choice), sparse, sub.slack, units)
            if part.value > threshold:
                self._record(below, part.row, part.choice[part.row], sparse[part.row], part.value)
            else:
                self.pool.append(below)

    def _finish(self, sub: Open, value: float, deadline: float, judge: Judge) -> bool:
        """No neuron is left to split: a linear program decides. Whether its point is unsafe."""
        from axiom_jax.verification.search.leaves import piecewise_linear, solve  # scipy takes a while to import

        piece, part = self.pieces[sub.piece], self.subproblem(sub)
        if not piecewise_linear(self.question):
            self.finished.append(replace(sub, value=value))
            return False
        leaf = solve(self.question, piece.case, part, deadline)
        found = leaf.refutations[piece.disjunct] if piece.disjunct < len(leaf.refutations) else None
        if found is not None and found.bound > 0:
            slopes = {k: slope[None] for k, slope in found.slopes.items()}
            atom = piece.atoms[int(np.argmax(found.weights[list(piece.atoms)]))]
            self.tree.close(sub.node, (atom,), Multipliers(slopes, found.betas[None], found.weights[None]))
            self.closed_bound = min(self.closed_bound, found.bound)
            return False
        if leaf.point is not None and judge(piece.case, self._point(sub, leaf.point.astype(np.float32))):
            return True
        out_of_time = time.monotonic() >= deadline
        (self.pool if out_of_time else self.finished).append(replace(sub, value=value))
        return False

    # Between the pool and the device.

    @property
    def _cases(self) -> range:
        return range(len(self.question.lo))

    def _scale(self, subs: list[Open]) -> np.ndarray:
        cases = [self.pieces[sub.piece].case for sub in subs]
        return 1 + np.abs(self.question.spec.threshold).max(1)[cases]

    def _flat(self, split: Split) -> int:
        return self.layout.offsets[split.site] + split.neuron

    def _sparse(self, splits: Sequence[Split], dense: np.ndarray) -> np.ndarray:
        """(splits,) multipliers of splits from those (neurons,) of ends: an end is that of its tightest split, or
        if no split has moved it, it is the other end of the last one."""
        ends = {(self._flat(s), s.sign): k for k, s in enumerate(splits)}
        last = {self._flat(s): k for k, s in enumerate(splits)}
        found = np.zeros(len(splits), np.float32)
        for j, k in last.items():
            found[ends.get((j, int(np.sign(dense[j]))), k)] = dense[j]
        return found

    def _batch(self, subs: list[Open], width: int) -> Batch:
        """Subproblems as arrays, padded by repeating the first one."""
        question, neurons = self.question, self.layout.neurons
        cases = np.array([self.pieces[sub.piece].case for sub in subs])
        atoms = np.full((len(subs), self.rows), -1)
        below, above = (np.stack([self._root(c)[end] for c in cases]) for end in (0, 1))
        cut, unit = np.zeros((len(subs), neurons), bool), np.ones((len(subs), neurons), np.float32)
        multiplier = np.zeros((len(subs), self.rows, neurons), np.float32)
        choice = np.zeros((len(subs), self.rows, self.layout.choices), np.float32)
        fresh = [i for i, sub in enumerate(subs) if sub.choice is None]
        for i, sub in enumerate(subs):
            atoms[i, : len(self.pieces[sub.piece].atoms)] = self.pieces[sub.piece].atoms
            for k, split in enumerate(sub.splits):
                j = self._flat(split)
                if split.sign == LOWER:
                    above[i, j] = min(above[i, j], split.at)
                else:
                    below[i, j] = max(below[i, j], split.at)
                cut[i, j] = True
                if sub.multiplier is not None and sub.unit is not None:
                    multiplier[i, :, j] += sub.multiplier[:, k]
                    unit[i, j] = sub.unit[k]
            if sub.choice is not None:
                choice[i] = sub.choice / np.float32(GRID)
        if fresh:
            every = first_choice(self.layout, padded(below, width), padded(above, width))
            choice[fresh] = np.asarray(every)[fresh][:, None]
        lo, hi = outward(question.lo[cases], question.hi[cases])
        whole = Batch(cases, atoms, lo, hi, below, above, cut, unit, choice, multiplier)
        return jax.tree.map(lambda a: padded(a, width), whole)

    def _root(self, case: int) -> tuple[np.ndarray, np.ndarray]:
        """(neurons,) float32 ends of all sites over a whole case."""
        return self.roots[case]

    def _rooted(self, cases: Iterable[int], deadline: float) -> bool:
        """Bound the sites of cases; False if time was out before all was bounded: the next time goes on from there."""
        for case in sorted(set(cases) - self.roots.keys()):
            given = self.given[case]
            if given is None:
                pieces = [k for k, piece in enumerate(self.pieces) if piece.case == case]
                begun = self.begun.setdefault(case, Begun())
                for stage in stages(self.question, case, begun, deadline):
                    if self._settled(pieces, stage, deadline):
                        break
                    if time.monotonic() >= deadline:
                        return False
                given = begun.boxes
                if not begun.improved:
                    self.plain.add(case)
            flat = lambda end, given=given: np.concatenate(
                [np.zeros(0), *(np.ravel(getattr(given[v], end)) for v in self.layout.plan.sites)]
            )
            self.roots[case] = outward(flat("lo"), flat("hi"))
            self.begun.pop(case, None)
        return True

    def _settled(self, pieces: Sequence[int], stage: Stage, deadline: float) -> bool:
        """Close the disjuncts of a case that a stage refutes; whether none is left."""
        left = [k for k in pieces if self.tree.child[k] == OPEN and self.tree.choice[k] is None]
        atoms = [(k, atom) for k in left for atom in self.pieces[k].atoms]
        if not atoms:
            return all(self.tree.choice[k] is not None for k in pieces)
        value, slopes = stage.margins([atom for _, atom in atoms], deadline)
        for k in left:
            row = max((i for i, (of, _) in enumerate(atoms) if of == k), key=lambda i: value[i])
            sub = Open(k, k, float(value[row]), (), None, None, self.slack.get(k, SLACK))
            if sub.value > sub.slack * self._scale([sub])[0]:
                given = {site: slope[None] for site, slope in slopes[row].items()}
                self.tree.close(k, (atoms[row][1],), Multipliers(given, np.zeros((1, 0))))
                self.closed_bound = min(self.closed_bound, sub.value)
        return all(self.tree.choice[k] is not None for k in left)

    def _by_site(self, below: np.ndarray, above: np.ndarray) -> dict[int, tuple[np.ndarray, np.ndarray]]:
        flat = {v: (b.astype(np.float64), a.astype(np.float64)) for (v, b), a in
                zip(self.layout.parts(below).items(), self.layout.parts(above).values(), strict=True)}  # fmt: skip
        return {k: flat[v] for k, v in enumerate(self.layout.plan.sites)}

    def subproblem(self, sub: Open) -> Subproblem:
        """An open part as exact methods take it."""
        case = self.pieces[sub.piece].case
        boxes = clipped(self._by_site(*self._root(case)), sub.splits)
        return Subproblem(case, self.question.lo[case], self.question.hi[case], boxes, list(sub.splits))


def _of_rows(
    batch: Batch, found: Tightened, rows: np.ndarray, best: np.ndarray
) -> tuple[Batch, dict[int, Any], np.ndarray]:
    """Some subproblems of a batch with their best rows alone, the weights of their lines, and their worst points."""
    one = Batch(
        batch.case[rows], batch.atoms[rows, best][:, None], batch.lo[rows], batch.hi[rows], batch.below[rows],
        batch.above[rows], batch.cut[rows], batch.unit[rows], found.choice[rows, best][:, None],
        found.multiplier[rows, best][:, None],
    )  # fmt: skip
    weights = {p: tuple(w[rows, best][:, None] for w in pair) for p, pair in found.weights.items()}
    return one, weights, found.worst[rows, best][:, None]
