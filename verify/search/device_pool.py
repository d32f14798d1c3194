"""Branch and bound by splitting input boxes with the pool on the device, for small nets on accelerators.

A `lax.while_loop` takes boxes from the top of a stack, bounds them, cuts and halves what is left, and puts it back;
what it did is written down and fetched once in many rounds. The tree is made of those notes when someone asks for it.
Boxes are float32 here, and everything is split at float32 values, so the tree speaks of exactly these boxes.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from axiom_jax.verification.search.attack import attack
from axiom_jax.verification.search.bounding import ALL_ROWS, bounding, chain_bounded, outward
from axiom_jax.verification.search.branch_and_bound import PATIENCE, SLACK, Search, rows_for
from axiom_jax.verification.search.chain import Chain
from axiom_jax.verification.search.compilation import compiled_before
from axiom_jax.verification.search.margins import Question
from axiom_jax.verification.search.tree import Tree

WIDTH = 4096  # boxes bounded at once
ROOM = 24  # boxes that the pool holds, in widths
ROUNDS = 16  # of one call


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Pool:
    """Boxes; the first `size` rows count, the last of them are taken up first.

    Args:
        lo, hi: (room, inputs) float32. case: (room,). sites: (room, 2, neurons). value: (room,) bounds of parents.
        ident: (room,) their numbers, in the order in which they were made. made: how many were.
    """

    lo: Any
    hi: Any
    case: Any
    sites: Any
    value: Any
    ident: Any
    size: Any
    made: Any


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Notes:
    """What was done, (rounds, width, ...) each; only boxes with an ident ≥ 0 count.

    Args:
        ident: of the box. open: whether its halves were put back; they are numbered `first` and `first + 1`.
        safe: whether its bounds closed it before it was cut.
        choice: (disjuncts,) atoms that close it, or what is left after cutting.
        low, high: (clips, inputs) ends of what is left. cut: (clips, 2, inputs, disjuncts) atoms that close the rest.
        split: input that is halved. at: where.
        value: its bound. unstable: see `Bounded`.
    """

    ident: Any
    open: Any
    first: Any
    safe: Any
    choice: Any
    low: Any
    high: Any
    cut: Any
    split: Any
    at: Any
    value: Any
    unstable: Any


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Near:
    """The candidate that came closest to being unsafe: its margin, point and box; and whether a box was too thin."""

    value: Any
    point: Any
    case: Any
    lo: Any
    hi: Any
    stuck: Any


@partial(jax.jit, static_argnums=(0, 1, 2, 3), donate_argnums=(4,))
def rounds(
    rows: int, width: int, count: int, clip: bool, pool: Pool, chain: Chain, constants: Any, slack: Any, stop: Any
) -> tuple[Pool, Notes, Near, Any]:
    """Some rounds of branch and bound; fewer if the pool is empty or full, or a candidate's margin is below `stop`.

    Args:
        rows: neurons of a layer that get backward passes. width: boxes a round. count: rounds.
        constants: `Bounding.constants`. slack: relative to the thresholds.

    Returns:
        the pool, notes, the closest candidate, and how many rounds there were.
    """
    spec, relative, domain_lo, domain_hi = constants
    threshold, room = spec.threshold, len(pool.lo)
    inputs = pool.lo.shape[1]

    def begin(pool: Pool) -> Any:
        return jnp.maximum(pool.size - width, 0)

    def bounded(pool: Pool) -> tuple[Any, Any]:
        top = jax.tree.map(lambda a: a if a.ndim == 0 else jax.lax.dynamic_slice_in_dim(a, begin(pool), width), pool)
        return top, chain_bounded(
            rows, chain, spec, relative, domain_lo, domain_hi, top.case, top.lo, top.hi, top.sites, slack
        )

    shapes = jax.eval_shape(bounded, pool)[1]
    empty = lambda a: jnp.zeros((count, *a.shape), a.dtype)
    numbers = jnp.full((count, width), -1, jnp.int32)
    flags, floats = jnp.zeros((count, width), bool), jnp.zeros((count, width), jnp.float32)
    notes = Notes(
        numbers, flags, numbers, flags, empty(shapes.choice), empty(shapes.low), empty(shapes.high),
        jnp.zeros((count, *shapes.cut.shape), jnp.int16), numbers, floats, floats, numbers,
    )  # fmt: skip
    none = jnp.zeros(inputs, jnp.float32)
    near = Near(jnp.float32(jnp.inf), none, jnp.zeros((), pool.case.dtype), none, none, jnp.bool_(False))

    def going(state: Any) -> Any:
        pool, _, near, turn = state
        fits = begin(pool) + 2 * width <= room
        return (pool.size > 0) & (turn < count) & fits & (near.value > stop) & ~near.stuck

    def body(state: Any) -> Any:
        pool, notes, near, turn = state
        top, found = bounded(pool)
        start = begin(pool)
        real = start + jnp.arange(width) < pool.size
        scale = slack * (1 + jnp.abs(threshold).max(1)[top.case])
        safe = found.value > scale
        side = top.hi - top.lo
        down, up = jnp.float32(-jnp.inf), jnp.float32(jnp.inf)
        moved = lambda part, ends, idle, to: jnp.where(part == idle, ends, jnp.nextafter(ends, to))
        low = moved(found.low, top.lo[:, None] + found.low * side[:, None], 0.0, down)
        high = moved(found.high, top.hi[:, None] - (1 - found.high) * side[:, None], 1.0, up)
        low, high = jnp.maximum(low, top.lo[:, None]), jnp.minimum(high, top.hi[:, None])
        if not clip:
            low, high = (jnp.broadcast_to(end[:, None], low.shape) for end in (top.lo, top.hi))
        lo, hi = low[:, -1], high[:, -1]
        rest_safe = (found.rest > scale) if clip else jnp.zeros_like(safe)
        middle = lo + (hi - lo) / 2
        halvable = (middle > lo) & (middle < hi)
        score = jnp.where(halvable & (found.score >= 0), found.score * (hi - lo) / jnp.where(side > 0, side, 1), -1.0)
        split = jnp.argmax(score, 1).astype(jnp.int32)
        still = real & ~safe & ~rest_safe
        stuck = jnp.any(still & (score.max(1) < 0))
        order = jnp.argsort(jnp.where(still, -found.value, jnp.inf))  # the worst last: taken up first
        left = still.sum().astype(jnp.int32)
        rank = jnp.zeros(width, jnp.int32).at[order].set(jnp.arange(width, dtype=jnp.int32))
        at = jnp.take_along_axis(middle, split[:, None], 1)[:, 0]
        half = jax.nn.one_hot(split, inputs, dtype=bool)
        weave = lambda a, b: jnp.stack([a[order], b[order]], 1).reshape(-1, *a.shape[1:])
        first = pool.made + 2 * rank
        more = Pool(
            weave(lo, jnp.where(half, at[:, None], lo)), weave(jnp.where(half, at[:, None], hi), hi),
            weave(top.case, top.case), weave(found.sites, found.sites), weave(found.value, found.value),
            weave(first, first + 1), pool.size, pool.made,
        )  # fmt: skip
        put = lambda old, new: old if old.ndim == 0 else jax.lax.dynamic_update_slice_in_dim(old, new, start, 0)
        grown = jax.tree.map(put, pool, more)
        pool = Pool(grown.lo, grown.hi, grown.case, grown.sites, grown.value, grown.ident,
                    (start + 2 * left).astype(jnp.int32), pool.made + 2 * left)  # fmt: skip
        done = Notes(
            jnp.where(real, top.ident, -1), still, first, safe,
            jnp.where(safe[:, None], found.choice, found.rest_choice), low, high, found.cut.astype(jnp.int16),
            split, at, found.value, found.unstable,
        )  # fmt: skip
        notes = jax.tree.map(lambda old, new: old.at[turn].set(new.astype(old.dtype)), notes, done)
        reached = jnp.where(real, found.point_value, jnp.inf)
        best = jnp.argmin(reached)
        other = Near(reached[best], found.point[best], top.case[best], top.lo[best], top.hi[best], near.stuck)
        near = jax.tree.map(lambda a, b: jnp.where(reached[best] < near.value, b, a), near, other)
        near = Near(near.value, near.point, near.case, near.lo, near.hi, near.stuck | stuck)
        return pool, notes, near, turn + 1

    return jax.lax.while_loop(going, body, (pool, notes, near, jnp.int32(0)))


class DeviceSearch:
    """A search that can be stopped and taken up again (`strategy.Strategy`), its pool on the device.

    Args:
        question: a chain of relu layers.
        width: boxes bounded at once. rounds: of one call. clip: whether the safe sides of boxes are cut off.

    Raises:
        NotImplementedError: the question is no chain of relu layers.
    """

    def __init__(
        self, question: Question, width: int = WIDTH, clip: bool = True, slack: float = SLACK, rounds: int = ROUNDS
    ):
        self.question, self.width, self.clip, self.slack, self.rounds = question, width, clip, slack, rounds
        self.bounding = bounding(question)
        if self.bounding.chain is None:
            raise NotImplementedError("the network is no chain of relu layers")
        self.chain, self.constants = jax.device_put((self.bounding.chain, self.bounding.constants))
        self.boxes, self.closed_bound, self.leaves, self.calls = 0, np.inf, 0, 0
        self.notes: list[Notes] = []
        self.spilled: list[Any] = []  # pools that had no room
        self.unstable = np.iinfo(np.int32).max
        self.stop = slack
        self.host: Search | None = None  # takes over where leaves are reopened
        cases, inputs = question.lo.shape
        room, neurons = max(ROOM * width, cases + 2 * width), self.bounding.neurons
        self.pool = Pool(
            jnp.zeros((room, inputs), jnp.float32), jnp.zeros((room, inputs), jnp.float32), jnp.zeros(room, jnp.int32),
            jnp.zeros((room, 2, neurons), jnp.float32), jnp.zeros(room, jnp.float32), jnp.zeros(room, jnp.int32),
            jnp.int32(0), jnp.int32(cases),
        )  # fmt: skip
        ends = np.array([-np.inf, np.inf], np.float32)[None, :, None]
        self._load((*outward(question.lo, question.hi), np.arange(cases), np.broadcast_to(ends, (cases, 2, neurons)),
                    np.full(cases, -np.inf, np.float32), np.arange(cases)))  # fmt: skip

    def _load(self, rows: Sequence[Any]) -> None:
        """Put boxes into the empty pool: lo, hi, case, sites, value, ident."""
        count, names = len(rows[0]), ("lo", "hi", "case", "sites", "value", "ident")
        filled = {n: getattr(self.pool, n).at[:count].set(r) for n, r in zip(names, rows, strict=True)}
        self.pool = Pool(**filled, size=jnp.int32(count), made=self.pool.made)
        self.size, self.value = count, np.asarray(rows[4])

    def _spill(self) -> None:
        """Move the older half of a full pool to the host."""
        size, half = self.size, self.size // 2
        parts = [np.asarray(getattr(self.pool, n)[:size]) for n in ("lo", "hi", "case", "sites", "value", "ident")]
        self.spilled.append([p[:half].copy() for p in parts])
        self._load([p[half:] for p in parts])

    @property
    def open(self) -> int:
        return self.host.open if self.host else self.size + sum(len(p[0]) for p in self.spilled)

    @property
    def worst(self) -> float:
        """The worst margin proved so far over the whole region."""
        if self.host:
            return self.host.worst
        waiting = [float(p[4].min(initial=np.inf)) for p in self.spilled]
        return float(min(self.closed_bound, self.value.min(initial=np.inf), *waiting, np.inf))

    @property
    def record(self) -> Tree:
        return self.host.record if self.host else self.tree

    def proof(self) -> dict[str, Any] | str:
        self._hand_over()
        assert self.host is not None
        return self.host.proof()

    def resume(self, tree: Tree) -> None:
        """Forget the pool; the open nodes of a tree become that of a search on the host."""
        self.host = self.host or Search(self.question, clip=self.clip, slack=self.slack)
        self.host.resume(tree)

    def reopen(self, failed: Sequence[tuple[int, int]]) -> None:
        self._hand_over()
        assert self.host is not None
        self.host.reopen(failed)

    def _hand_over(self) -> None:
        if self.host is None:
            self.resume(self.tree)

    def run(
        self,
        deadline: float,
        judge: Callable[[int, np.ndarray], bool],
        progress: Callable[[Any], None] | None = None,
    ) -> str:
        """As `Search.run`; a call on the device is as long as its rounds."""
        if self.host is not None:
            return self.host.run(deadline, judge, progress)
        while self.open:
            if time.monotonic() >= deadline:
                return "time"
            if self.size == 0:
                self._load(self.spilled.pop())
            if max(self.size - self.width, 0) + 2 * self.width > len(self.pool.lo):
                self._spill()
            self.calls += 1
            near = self._call()
            if float(near.value) <= self.stop:
                if judge(int(near.case), np.asarray(near.point)):
                    return "unsafe"
                self.stop = min(self.stop, float(near.value) - 1e-9)  # stop again for better ones only
            if bool(near.stuck):
                return "stuck"
            if self.open and np.isfinite(near.value):
                box = np.asarray(near.lo, np.float64), np.asarray(near.hi, np.float64)
                points, values = attack(self.question, int(near.case), self.calls, box)
                if values[0] <= self.slack and judge(int(near.case), points[0]):
                    return "unsafe"
            if progress:
                progress(self)
        return "closed"

    def _call(self) -> Near:
        def call(rows: int, pool: Pool) -> Any:
            return rounds(rows, self.width, self.rounds, self.clip, pool, self.chain, self.constants,
                          np.float32(self.slack), np.float32(self.stop))  # fmt: skip

        spare = lambda rows: call(rows, jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), self.pool))
        key = (*self.bounding.key(self.width, 0), "rounds", self.rounds, self.clip)
        rows = rows_for(self.unstable) if self.boxes >= PATIENCE else ALL_ROWS
        if rows < ALL_ROWS and not compiled_before((*key, rows), lambda: spare(rows)):
            rows = ALL_ROWS
        self.pool, notes, near, turns = call(rows, self.pool)
        turns = int(turns)
        notes = jax.tree.map(lambda a: np.asarray(a[:turns]), notes)
        real = notes.ident >= 0
        self.boxes += int(real.sum())
        self.leaves += int((real & ~notes.open).sum())
        self.closed_bound = min(self.closed_bound, float(notes.value[real & notes.safe].min(initial=np.inf)))
        if real.any():
            self.unstable = float(np.quantile(notes.unstable[-1][real[-1]], 0.9))
        self.size = int(self.pool.size)
        self.value = np.asarray(self.pool.value[: self.size])
        self.notes.append(jax.tree.map(lambda a: a[real], notes))
        return jax.device_get(near)

    @property
    def tree(self) -> Tree:
        """The tree that the notes tell of; what is in the pool is open."""
        tree = Tree(len(self.question.lo))
        at = dict(enumerate(range(tree.cases)))  # node of an ident
        boxes = {i: list(ends) for i, ends in enumerate(zip(*outward(self.question.lo, self.question.hi), strict=True))}
        for notes in self.notes:
            for k, ident in enumerate(notes.ident.tolist()):
                node, (lo, hi) = at.pop(ident), boxes.pop(ident)
                if notes.safe[k]:
                    tree.close(node, tuple(notes.choice[k].tolist()))
                    continue
                node = _cut(tree, node, lo, hi, notes, k)
                if not notes.open[k]:
                    tree.close(node, tuple(notes.choice[k].tolist()))
                    continue
                split, first = int(notes.split[k]), int(notes.first[k])
                child = int(tree.cut(np.array([node]), np.array([split]), notes.at[k : k + 1])[0])
                low, high = notes.low[k, -1], notes.high[k, -1]
                lower_hi, upper_lo = high.copy(), low.copy()
                lower_hi[split] = upper_lo[split] = notes.at[k]
                at[first], at[first + 1] = child, child + 1
                boxes[first], boxes[first + 1] = [low, lower_hi], [upper_lo, high]
        return tree


def _cut(tree: Tree, node: int, lo: Any, hi: Any, notes: Notes, k: int) -> int:
    """The cuts of one box; the node of what is left."""
    lo, hi = lo.copy(), hi.copy()
    for clip in range(notes.low.shape[1]):
        for upper, (box, ends) in enumerate(((lo, notes.low[k, clip]), (hi, notes.high[k, clip]))):
            for i in np.flatnonzero(ends != box):
                first = int(tree.cut(np.array([node]), np.array([i]), ends[i : i + 1])[0])
                tree.close(first + upper, tuple(notes.cut[k, clip, upper, i].tolist()))
                node = first + 1 - upper
                box[i] = ends[i]
    return node


def input_search(question: Question) -> Search | DeviceSearch:
    """The search by input splits that fits: with the pool on the device where that is an accelerator."""
    if jax.default_backend() != "cpu":
        try:
            return DeviceSearch(question)
        except NotImplementedError:
            pass
    return Search(question, clip=True)
