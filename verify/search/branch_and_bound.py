"""Branch and bound by halving input boxes, in device batches, depth first.

The pool lives on the host in float64; boxes go to the device in float32, rounded outward.
Split score: |row| · radius · relative width of the worst atom's linear bound.
"""

import itertools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import jax
import numpy as np

from axiom_jax.verification.domains.linear import size_of_rows
from axiom_jax.verification.proof.certificate import tree_proof
from axiom_jax.verification.search.attack import attack
from axiom_jax.verification.search.bounding import Bounded, bound
from axiom_jax.verification.search.margins import Question
from axiom_jax.verification.search.tree import Tree

WIDEST = 64  # boxes a call at most: on a CPU more do not pay
FLOATS = 4_000_000  # coefficients a call may hold: wide nets get fewer boxes a call
ATTACK_EVERY = 8  # batches between attacks inside open boxes
SLACK = 1e-6  # float bounds must clear 0 by this much (relative to the thresholds) before a leaf is closed


@dataclass
class Search:
    """A search that can be stopped and taken up again.

    Args:
        question: what is asked.
        tree: what was split and closed so far.
        node, lo, hi, case, value: the pool of open boxes, with the bound of the box each was split from.
        closest: the box that came closest to an unsafe point since the last attack: margin, case, lo, hi.
        boxes: how many were bounded. width: how many in one call.
        slack: float bounds must clear 0 by this much, relative to the thresholds, before a leaf is closed.
    """

    question: Question
    tree: Tree = field(init=False)
    node: np.ndarray = field(init=False)
    case: np.ndarray = field(init=False)
    lo: np.ndarray = field(init=False)
    hi: np.ndarray = field(init=False)
    value: np.ndarray = field(init=False)
    closest: tuple[float, int, np.ndarray, np.ndarray] = field(init=False)
    boxes: int = 0
    closed_bound: float = np.inf
    width: int = 0
    slack: float = SLACK

    def __post_init__(self) -> None:
        count = len(self.question.lo)
        self.tree = Tree(count)
        self.node = self.case = np.arange(count)
        self.lo, self.hi = self.question.lo.copy(), self.question.hi.copy()
        self.value = np.full(count, -np.inf)
        self.closest = (np.inf, 0, self.lo[0], self.hi[0])
        fitting = max(FLOATS // max(size_of_rows(self.question.plan), 1), 1)
        self.width = min(WIDEST, 1 << (fitting.bit_length() - 1))

    @property
    def open(self) -> int:
        return len(self.node)

    @property
    def worst(self) -> float:
        """The worst margin proved so far over the whole region."""
        return float(min(self.closed_bound, self.value.min(initial=np.inf)))

    @property
    def leaves(self) -> int:
        return self.tree.leaves

    def proof(self) -> dict[str, Any] | str:
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
        for round in itertools.count():
            if not self.open:
                return "closed"
            if time.monotonic() >= deadline:
                return "time"
            if round % ATTACK_EVERY == ATTACK_EVERY - 1 and self.attacked(round, judge):
                return "unsafe"
            take = min(self.open, self.width)
            batch = slice(self.open - take, self.open)
            result = self.bounded(batch)
            self.boxes += take
            if self.candidate(result, batch, judge):
                return "unsafe"
            if not self.branch(result, batch):
                return "stuck"
            if progress:
                progress(self)
        raise AssertionError("unreachable")

    def attacked(self, seed: int, judge: Callable[[int, np.ndarray], bool]) -> bool:
        """Attack inside the box that came closest to an unsafe point lately, in turns with one of the least safe."""
        _, case, lo, hi = self.closest
        self.closest = (np.inf, case, lo, hi)
        if seed // ATTACK_EVERY % 2:
            worst = np.argsort(self.value)[: self.width]
            chosen = worst[seed // ATTACK_EVERY % len(worst)]
            case, lo, hi = int(self.case[chosen]), self.lo[chosen], self.hi[chosen]
        points, values = attack(self.question, case, seed, (lo, hi))
        return values[0] <= self.slack and judge(case, points[0])

    def bounded(self, batch: slice) -> Bounded:
        """Bound the boxes of a batch; where memory runs out, in halves from then on."""
        pieces, start = [], batch.start
        while start < batch.stop:
            part = slice(start, min(start + self.width, batch.stop))
            try:
                pieces.append(bound(self.question, self.case[part], self.lo[part], self.hi[part], self.width))
            except (jax.errors.JaxRuntimeError, MemoryError) as error:
                out_of_memory = isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error)
                if not out_of_memory or self.width == 1:
                    raise
                self.width //= 2
                continue
            start = part.stop
        return jax.tree.map(lambda *parts: np.concatenate(parts), *pieces)

    def candidate(self, result: Bounded, batch: slice, judge: Callable[[int, np.ndarray], bool]) -> bool:
        near = int(np.argmin(result.point_value))
        if result.point_value[near] < self.closest[0]:
            at = batch.start + near
            self.closest = (float(result.point_value[near]), int(self.case[at]), self.lo[at], self.hi[at])
        for i in np.argsort(result.point_value)[:4]:
            if result.point_value[i] > self.slack:
                return False
            if judge(int(self.case[batch][i]), result.point[i]):
                return True
        return False

    def branch(self, result: Bounded, batch: slice) -> bool:
        """Close what is safe, halve the rest; False if a box is too thin to halve."""
        node, case, lo, hi = (a[batch] for a in (self.node, self.case, self.lo, self.hi))
        scale = 1 + np.abs(self.question.spec.threshold).max(1)[case]
        safe = result.value > self.slack * scale
        for i in np.flatnonzero(safe):
            self.tree.close(int(node[i]), tuple(result.choice[i].tolist()))
        self.closed_bound = min(self.closed_bound, float(result.value[safe].min(initial=np.inf)))
        keep = np.flatnonzero(~safe)
        order = keep[np.argsort(-result.value[keep], kind="stable")]  # the worst last: taken up first
        node, case, lo, hi = node[order], case[order], lo[order], hi[order]
        split, row = result.split[order], np.arange(len(order))
        middle = (lo[row, split] + hi[row, split]) / 2
        if np.any((middle <= lo[row, split]) | (middle >= hi[row, split])):
            return False
        children = self.tree.halve(node, split)
        lower_hi, upper_lo = hi.copy(), lo.copy()
        lower_hi[row, split], upper_lo[row, split] = middle, middle
        weave = lambda a, b: np.stack([a, b], 1).reshape(-1, *a.shape[1:])
        put = lambda old, new: np.concatenate([old[: batch.start], new])
        self.node = put(self.node, weave(children, children + 1))
        self.case = put(self.case, np.repeat(case, 2))
        self.lo, self.hi = put(self.lo, weave(lo, upper_lo)), put(self.hi, weave(lower_hi, hi))
        self.value = put(self.value, np.repeat(result.value[order], 2))
        return True

    def reopen(self, failed: Sequence[tuple[int, int]]) -> None:
        """Put leaves, given as (case, ordinal among the leaves of its tree in preorder), back as two halves each.

        They are halved at their widest input, relative to the whole region.
        """
        for case in sorted({c for c, _ in failed}):
            wanted = {leaf for c, leaf in failed if c == case}
            nodes = [n for n, _, choice, _ in self.tree.preorder(case) if choice is not None]
            boxes = self.tree.boxes(case, self.question.lo[case], self.question.hi[case])
            for ordinal in wanted:
                node = nodes[ordinal]
                lo, hi = boxes[node]
                scale = np.maximum(self.question.hi[case] - self.question.lo[case], 1e-30)
                self.tree.choice[node] = None
                split = np.array([int(np.argmax((hi - lo) / scale))])
                child = int(self.tree.halve(np.array([node]), split)[0])
                middle = (lo[split[0]] + hi[split[0]]) / 2
                lower_hi, upper_lo = hi.copy(), lo.copy()
                lower_hi[split[0]], upper_lo[split[0]] = middle, middle
                self.node = np.append(self.node, [child, child + 1])
                self.case = np.append(self.case, [case, case])
                self.lo = np.concatenate([self.lo, [lo, upper_lo]])
                self.hi = np.concatenate([self.hi, [lower_hi, hi]])
                self.value = np.append(self.value, [-np.inf, -np.inf])
