"""Branch and bound by splitting input boxes, in device batches, depth first.

The pool lives on the host in float64; boxes go to the device in float32, rounded outward. What the bounds of a box
show to be safe at its sides is cut off before the rest is halved where the bound gains most (`bounding`).
"""

import time
from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any

import jax
import numpy as np

from axiom_jax.verification.domains.linear import size_of_rows
from axiom_jax.verification.proof.certificate import tree_proof
from axiom_jax.verification.search.attack import attack
from axiom_jax.verification.search.bounding import ALL_ROWS, Bounded, bounding
from axiom_jax.verification.search.compilation import compiled_before, compiled_by
from axiom_jax.verification.search.frontier import open_nodes
from axiom_jax.verification.search.margins import Question
from axiom_jax.verification.search.stack import Stack
from axiom_jax.verification.search.tree import Tree

WIDEST = 64  # boxes a call at first
WIDER = 4  # as many times more once many are open, and only neurons that need it get rows
FLOATS = 4_000_000  # coefficients a call may hold: wide nets get fewer boxes a call
FEWER_ROWS = (8, 16, 32, 64, 128, 256)  # how many neurons of a site may be bounded by backward passes, if not all
PATIENCE = 500  # boxes, of all searches together, before better programs are compiled
LOOKS, LOOKING = 16, 0.5  # boxes that are bounded before anything is compiled, and seconds for them
ATTACK_EVERY = 8  # batches between attacks inside open boxes
SLACK = 1e-6  # float bounds must clear 0 by this much (relative to the thresholds) before a leaf is closed

_bounded_by: Counter[Hashable] = Counter()  # boxes, by key of the program


@dataclass
class Search:
    """A search that can be stopped and taken up again.

    Args:
        question: what is asked.
        tree: what was split and closed so far; its open nodes are the pool.
        pool: the open boxes: node, case, lo, hi, value (the bound of the box each was split from), sites (bounds of
            its neurons), unstable.
        closest: the box that came closest to an unsafe point since the last attack: margin, case, lo, hi.
        boxes: how many were bounded. width: how many in one call.
        slack: float bounds must clear 0 by this much, relative to the thresholds, before a leaf is closed.
        clip: whether to cut off the sides of a box that are safe.
    """

    question: Question
    tree: Tree = field(init=False)
    pool: Stack = field(init=False)
    closest: tuple[float, int, np.ndarray, np.ndarray] = field(init=False)
    boxes: int = 0
    closed_bound: float = np.inf
    width: int = 0
    slack: float = SLACK
    clip: bool = False
    rounds: int = 0

    def __post_init__(self) -> None:
        fitting = max(FLOATS // max(size_of_rows(self.question.plan), 1), 1)
        self.fitting = 1 << (fitting.bit_length() - 1)
        self.width = self.width or min(WIDEST, self.fitting)
        self.bounding = bounding(self.question)
        self.closest = (np.inf, 0, self.question.lo[0], self.question.hi[0])
        self.resume(Tree(len(self.question.lo)))

    def resume(self, tree: Tree) -> None:
        """Forget the pool; the open nodes of a tree become it."""
        left = open_nodes(tree, self.question.lo, self.question.hi)
        size, inputs = len(left), self.question.lo.shape[1]
        self.tree = tree
        self.pool = Stack(
            node=np.array([x.node for x in left], np.int64),
            case=np.array([x.root for x in left], np.int64),
            lo=np.array([x.lo for x in left], np.float64).reshape(size, inputs),
            hi=np.array([x.hi for x in left], np.float64).reshape(size, inputs),
            value=np.full(size, -np.inf),
            sites=self._nothing_known(size),
            unstable=np.full(size, np.iinfo(np.int32).max, np.int32),
        )

    def _nothing_known(self, size: int) -> np.ndarray:
        ends = np.array([-np.inf, np.inf], np.float32)[None, :, None]
        return np.broadcast_to(ends, (size, 2, self.bounding.neurons)).copy()

    @property
    def record(self) -> Tree:
        return self.tree

    @property
    def open(self) -> int:
        return len(self.pool)

    @property
    def worst(self) -> float:
        """The worst margin proved so far over the whole region."""
        return float(min(self.closed_bound, self.pool.value.min(initial=np.inf)))

    @property
    def leaves(self) -> int:
        return self.tree.leaves

    def proof(self) -> dict[str, Any] | str:
        if getattr(self.tree, "cuts", None):
            from axiom_jax.verification.proof.emit import neuron_tree

            return neuron_tree(self.question, self.tree)
        return tree_proof(self.tree, self.question.property)

    def run(
        self,
        deadline: float,
        judge: Callable[[int, np.ndarray], bool],
        progress: Callable[["Search"], None] | None = None,
    ) -> str:
        """Search until every box is closed, a candidate is judged unsafe, or time is out.

        Args:
            deadline: on `time.monotonic`.
            judge: whether a candidate point of a case is unsafe in exact arithmetic.
            progress: called after each batch.

        Returns:
            "closed", "unsafe", "time", or "stuck" if a box cannot be halved any more.
        """
        if not self.boxes:
            self.look()
        while self.open:
            if time.monotonic() >= deadline:
                return "time"
            if not self.rounds and not self.ready(deadline):
                return "time"
            self.rounds += 1
            if self.rounds % ATTACK_EVERY == 0 and self.attacked(self.rounds, judge):
                return "unsafe"
            width, rows = self.program()
            batch = self.pool.top(width)
            result = self.bounded(batch, width, rows)
            _bounded_by[self.bounding.key(width, rows)] += len(batch)
            self.boxes += len(batch)
            if self.candidate(result, batch, judge):
                return "unsafe"
            if not self.branch(result, batch):
                return "stuck"
            if progress:
                progress(self)
        return "closed"

    def ready(self, deadline: float) -> bool:
        """Whether the first program is compiled before the deadline; that goes on in a thread where it is not."""
        key, one = (*self.bounding.key(self.width, self.bounding.first_rows), "first"), self.pool.top(1)
        return compiled_before(key, lambda: self.bounded(one)) or compiled_by(deadline, key)

    def look(self) -> None:
        """Bound the first boxes without compiling anything, where the net is small, and close what that settles."""
        closed, enough = [], time.monotonic() + LOOKING
        for i in range(min(self.open, LOOKS)):
            if time.monotonic() > enough:
                break
            found = self.bounding.first_value(int(self.pool.case[i]), self.pool.lo[i], self.pool.hi[i])
            if found is None:
                break
            self.boxes += 1
            self.pool.value[i] = max(found[0], self.pool.value[i])
            if found[0] > self.slack * self._scale(self.pool.case[i : i + 1])[0]:
                self.tree.close(int(self.pool.node[i]), found[1])
                self.closed_bound = min(self.closed_bound, found[0])
                closed.append(i)
        if closed:
            self.pool = self.pool.taken(np.setdiff1d(np.arange(self.open), closed))

    def attacked(self, seed: int, judge: Callable[[int, np.ndarray], bool]) -> bool:
        """Attack inside the box that came closest to an unsafe point lately, in turns with one of the least safe."""
        _, case, lo, hi = self.closest
        self.closest = (np.inf, case, lo, hi)
        if seed // ATTACK_EVERY % 2:
            worst = np.argsort(self.pool.value)[: self.width]
            chosen = worst[seed // ATTACK_EVERY % len(worst)]
            case, lo, hi = int(self.pool.case[chosen]), self.pool.lo[chosen], self.pool.hi[chosen]
        points, values = attack(self.question, case, seed, (lo, hi))
        return values[0] <= self.slack and judge(case, points[0])

    def bounded(self, batch: Stack | slice, width: int = 0, rows: int = 0) -> Bounded:
        """Bound the boxes of a batch, or of a part of the pool; where memory runs out, in halves from then on.

        Args:
            width: boxes of one call; 0: as usual.
            rows: neurons of a site that are bounded by backward passes; 0: by the program to begin with.
        """
        batch = self.pool.taken(batch) if isinstance(batch, slice) else batch
        width, pieces, start = width or self.width, [], 0
        rows = rows or self.bounding.first_rows
        while start < len(batch):
            part = batch.taken(slice(start, start + width))
            try:
                pieces.append(self.bounding(part.case, part.lo, part.hi, width, part.sites, rows, self.slack))
            except (jax.errors.JaxRuntimeError, MemoryError) as error:
                out_of_memory = isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error)
                if not out_of_memory or width == 1:
                    raise
                width //= 2
                self.width, self.fitting = min(self.width, width), width
                continue
            start += width
        return pieces[0] if len(pieces) == 1 else jax.tree.map(lambda *parts: np.concatenate(parts), *pieces)

    def program(self) -> tuple[int, int]:
        """Boxes of one call, and how many neurons of a site get rows: many and few once that is compiled and pays."""
        first = self.width, self.bounding.first_rows
        if _bounded_by[self.bounding.key(*first)] < PATIENCE:
            return first
        one, widest = self.pool.top(1), max((v.size for v in self.question.plan.sites), default=1)
        wider = lambda rows: min(WIDER * WIDEST, self.fitting * max(widest // rows, 1))
        fits = lambda rows: self.width if rows == ALL_ROWS else wider(rows)
        spare = lambda rows: self.bounding(one.case, one.lo, one.hi, fits(rows), one.sites, rows, self.slack)
        rows = ALL_ROWS
        if self.bounding.neurons and self.open >= 2 * self.width:
            rows = rows_for(float(np.quantile(self.pool.unstable[-WIDER * self.width :], 0.9)))
        found = fits(rows), rows
        return found if found == first or compiled_before(self.bounding.key(*found), lambda: spare(rows)) else first

    def candidate(self, result: Bounded, batch: Stack, judge: Callable[[int, np.ndarray], bool]) -> bool:
        near = int(np.argmin(result.point_value))
        if result.point_value[near] < self.closest[0]:
            self.closest = (float(result.point_value[near]), int(batch.case[near]), batch.lo[near], batch.hi[near])
        for i in np.argsort(result.point_value)[:4]:
            if result.point_value[i] > self.slack:
                return False
            if judge(int(batch.case[i]), result.point[i]):
                return True
        return False

    def branch(self, result: Bounded, batch: Stack) -> bool:
        """Close what is safe, cut and halve the rest; False if a box is too thin to halve."""
        safe = result.value > self.slack * self._scale(batch.case)
        for i in np.flatnonzero(safe):
            self.tree.close(int(batch.node[i]), tuple(result.choice[i].tolist()))
        self.closed_bound = min(self.closed_bound, float(result.value[safe].min(initial=np.inf)))
        keep = np.flatnonzero(~safe)
        order = keep[np.argsort(-result.value[keep], kind="stable")]  # the worst last: taken up first
        rest = batch.taken(order).with_(
            value=result.value[order].astype(np.float64), sites=result.sites[order], unstable=result.unstable[order]
        )
        score, halvings = result.score[order].copy(), 1
        if self.clip:
            side = rest.hi - rest.lo
            rest, left = self.cut(rest, result, order)
            score = score[left] * (rest.hi - rest.lo) / np.maximum(side[left], 1e-300)
        self.pool.drop(len(batch))
        while len(rest) and self.open + (len(rest) << halvings) < self.width and halvings < 4:
            halvings += 1  # a batch that is not full costs as much as a full one
        for _ in range(halvings):
            row = np.arange(len(rest))
            split = np.argmax(score, axis=1) if len(rest) else row
            middle = (rest.lo[row, split] + rest.hi[row, split]) / 2
            if np.any((middle <= rest.lo[row, split]) | (middle >= rest.hi[row, split])):
                self.pool.push(rest)
                return False
            children = self.tree.halve(rest.node, split)
            lower_hi, upper_lo = rest.hi.copy(), rest.lo.copy()
            lower_hi[row, split], upper_lo[row, split] = middle, middle
            rest = rest.doubled(children, lower_hi, upper_lo)
            score[row, split] /= 2
            score = np.repeat(score, 2, 0)
        self.pool.push(rest)
        return True

    def cut(self, rest: Stack, result: Bounded, order: np.ndarray) -> tuple[Stack, np.ndarray]:
        """Cut off the sides of boxes that are safe, each of them a leaf; close what is left where that is safe too."""
        node, lo, hi = rest.node.copy(), rest.lo.copy(), rest.hi.copy()
        ends = result.low[order].astype(np.float64), result.high[order].astype(np.float64)
        side = (rest.hi - rest.lo)[:, None]
        places = rest.lo[:, None] + ends[0] * side, rest.hi[:, None] - (1 - ends[1]) * side
        for clip in range(ends[0].shape[1]):
            for upper, (at, fraction, box) in enumerate(zip(places, ends, (lo, hi), strict=True)):
                idle = (1.0 if upper else 0.0) if clip == 0 else fraction[:, clip - 1]
                for i in np.unique(np.nonzero(fraction[:, clip] != idle)[1]):
                    moved = fraction[:, clip, i] != (idle if clip == 0 else fraction[:, clip - 1, i])
                    where = at[:, clip, i]
                    which = np.flatnonzero(moved & (where > lo[:, i]) & (where < hi[:, i]))
                    first = self.tree.cut(node[which], np.full(len(which), i), where[which])
                    for k, child in zip(which, first.tolist(), strict=True):
                        self.tree.close(child + upper, tuple(result.cut[order[k], clip, upper, i].tolist()))
                    node[which] = first + (1 - upper)
                    box[which, i] = where[which]
        safe = result.rest[order] > self.slack * self._scale(rest.case)
        for k in np.flatnonzero(safe):
            self.tree.close(int(node[k]), tuple(result.rest_choice[order[k]].tolist()))
        return rest.with_(node=node, lo=lo, hi=hi).taken(~safe), ~safe

    def _scale(self, case: np.ndarray) -> np.ndarray:
        return 1 + np.abs(self.question.spec.threshold).max(1)[case]

    def reopen(self, failed: Sequence[tuple[int, int]]) -> None:
        """Put leaves, given as (case, ordinal among the leaves of its tree in preorder), back as two halves each.

        They are halved at their widest input, relative to the whole region.
        """
        for case in sorted({c for c, _ in failed}):
            numbers = {leaf for c, leaf in failed if c == case}
            boxes = self.tree.boxes(case, self.question.lo[case], self.question.hi[case])
            scale = np.maximum(self.question.hi[case] - self.question.lo[case], 1e-30)
            leaves = [node for node, _, choice, _ in self.tree.preorder(case) if choice is not None]
            for node in (leaves[i] for i in sorted(numbers) if i < len(leaves)):
                lo, hi = boxes[node]
                self.tree.choice[node] = None
                split = np.array([int(np.argmax((hi - lo) / scale))])
                child = int(self.tree.halve(np.array([node]), split)[0])
                middle = (lo[split[0]] + hi[split[0]]) / 2
                lower_hi, upper_lo = hi.copy(), lo.copy()
                lower_hi[split[0]], upper_lo[split[0]] = middle, middle
                self.pool.push(
                    Stack(
                        node=np.array([child, child + 1]),
                        case=np.array([case, case]),
                        lo=np.stack([lo, upper_lo]),
                        hi=np.stack([lower_hi, hi]),
                        value=np.full(2, -np.inf),
                        sites=self._nothing_known(2),
                        unstable=np.full(2, np.iinfo(np.int32).max, np.int32),
                    )
                )


def rows_for(unstable: float) -> int:
    """How many neurons of a site shall be bounded by backward passes, where `unstable` have an open sign."""
    return next((rows for rows in FEWER_ROWS if rows >= unstable), ALL_ROWS)
