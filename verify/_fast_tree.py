"""Walks the trees of a case as `checker.check_tree` does, in batches: parts that wait are judged together."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from functools import lru_cache, partial
from typing import Any

import numpy as np

from axiom_jax.verification import checker
from axiom_jax.verification._fast_bounds import Bounds, Rows, draw, joined
from axiom_jax.verification._fast_network import FloatNetwork
from axiom_jax.verification._fast_numbers import ROUNDING, Array, above, below, below_fraction, on_grid
from axiom_jax.verification._fast_passes import Tables, lower_bound
from axiom_jax.verification._fast_sweep import sweep

BATCH = 1 << 25  # bytes of the bounds of one batch of parts; as many batches may be kept as the tree is deep
COPIES = 16  # numbers kept for each neuron of a part, at most
WHOLE = 1 << 53  # integers below are floats
UNIT = 2.0**-checker.UNIT  # of multipliers in leaves


@dataclass
class Step:
    """A token of a tree, and what it is about.

    Args:
        split: how its part came from the one before, if that was split. box: ends of inputs at 2^-80 that were cut.
        path: splits of neurons above. bound: whether neurons are bounded first. leaf: in preorder.
        rows: which refute disjuncts here. after: the steps that follow.
    """

    split: checker.Split | None
    box: dict[int, tuple[int, int]]
    path: tuple[checker.Split, ...]
    bound: bool
    leaf: int
    rows: list[Any]
    after: list[Step] = field(default_factory=list["Step"])


@dataclass
class Part:
    """A step that waits, with the bounds that it inherits: a row of `bounds`, and splits since."""

    step: Step
    bounds: Bounds
    row: int
    cuts: tuple[checker.Split, ...]


Box = dict[int, tuple[int, int]]
Open = tuple[list[Step], checker.Split | None, Box, tuple[checker.Split, ...], frozenset[int]]  # what waits for a token


def steps_of(net: FloatNetwork, case: checker.Case, tree: checker.Tree, first: int) -> tuple[list[Step], int]:
    """The steps of all trees of a case and the number of leaves up to here, as `checker.check_tree` walks them."""
    roots, width, leaf = list[Step](), net.inputs, first
    stack: list[Open] = [(roots, None, {}, (), left) for left in tree.roots[::-1]]
    for token in tree.nodes:
        checker.need(len(stack) > 0, "a tree goes on after its end")
        into, split, box, path, left = stack.pop()
        checker.integer(token, -2 * len(tree.leaves), 2 * (width + len(tree.splits)), "a token of a tree")
        which, bound = divmod(max(token, ~token), 2)
        step = Step(split, box, path, bool(bound), leaf, [] if token >= 0 else tree.leaves[which])
        into.append(step)
        if token >= 0:
            halves = which < width
            low, high = box.get(which, (case.lo[which], case.hi[which])) if halves else (0, 0)
            k, j, p = (0, which, (low + high) >> 1) if halves else tree.splits[which - width]
            checker.need(not halves or low < p < high, "a box is too thin to be halved")
            for sign in (1, -1):
                split = k, j, p, sign
                cut = _cut(case, box, split) if k == 0 else box
                stack.append((step.after, split, cut, path if halves else (*path, split), left))
            continue
        for d, _, _, betas in step.rows:
            checker.need(d in left and len(betas) == len(path), "a row is for another disjunct or has not its splits")
            left -= {d}
        stack.extend([(step.after, None, box, path, left)] if left else [])
        leaf += not left
    checker.need(not stack, "a tree ends too early")
    return roots, leaf


def _cut(case: checker.Case, box: dict[int, tuple[int, int]], split: checker.Split) -> dict[int, tuple[int, int]]:
    """The box where a split of an input holds; as it was where nothing is left."""
    _, j, p, sign = split
    low, high = box.get(j, (case.lo[j], case.hi[j]))
    low, high = (max(low, p), high) if sign > 0 else (low, min(high, p))
    return box | {j: (low, high)} if low <= high else box


def _tables(net: FloatNetwork, tree: checker.Tree) -> Tables:
    """All tables of slopes by the node that they are for; the last row has none."""
    found = Tables()
    for number in range(len(tree.tables)):
        for (k, j), slope in tree.slopes(number).items():
            if k not in found:
                found[k] = np.full((len(tree.tables) + 1, net.nodes[k].size), -1, np.int16)
            found[k][number, j] = slope
    return found


def _lemmas(net: FloatNetwork, tree: checker.Tree) -> dict[int, Rows]:
    """Which tables the passes of a node take, from below (row 0) and above, for each element; none: all by the rule."""
    found = dict[int, Rows]()
    for (k, j, sign), table in tree.lemmas.items():
        found.setdefault(k, np.full((2, net.nodes[k].size), -1, np.intp))[(1 - sign) // 2, j] = table
    return found


class Walk:
    """Judges the steps of one case, batch by batch."""

    def __init__(self, net: FloatNetwork, case: checker.Case, tree: checker.Tree, spread: Any) -> None:
        self.net, self.case, self.tree = net, case, tree
        self.tables = _tables(net, tree)
        self.sweep = partial(
            sweep, net, crown=tree.crown, tables=self.tables, lemma=_lemmas(net, tree).get, spread=spread
        )
        self.failed, self.margin = set[int](), float("inf")
        self.box = below(case.lo, checker.H), above(case.hi, checker.H)
        self.start = lru_cache(None)(self._start)

    def run(self, roots: list[Step]) -> None:
        """Bound and judge all steps; parts wait on a stack, and those on top are taken together."""
        flags = np.zeros((2, 1), np.bool_)
        whole = Bounds((self.box[0][None], self.box[1][None]), {0: self._values(*self.box)}, flags[0], flags[1])
        first = self.sweep(whole)
        waiting = [Part(step, first, 0, ()) for step in roots]
        most = max(BATCH // (8 * COPIES * self.net.numbers), 1)
        while waiting:
            batch, waiting = waiting[-most:], waiting[:-most]
            swept = _in_order([part for part in batch if part.step.bound])
            if swept:
                bounds = self.sweep(self._gather(swept, False))
                for row, part in enumerate(swept):
                    part.bounds, part.row, part.cuts = bounds, row, ()
            judged = _in_order([part for part in batch if part.step.rows])
            if judged:
                self._judge(judged)
            for part in batch:
                for step in part.step.after:
                    cuts = (*part.cuts, step.split) if step.split else part.cuts
                    waiting.append(Part(step, part.bounds, part.row, cuts))

    def _values(self, lo: Array, hi: Array) -> tuple[Array, Array]:
        """The values of the input."""
        lo, hi = np.atleast_2d(lo), np.atleast_2d(hi)
        return on_grid(lo, hi) if self.net.profile else (lo, hi)

    def _gather(self, parts: list[Part], whole: bool) -> Bounds:
        """The bounds of parts, each with its box and cut by its splits; what feeds nonlinear nodes, or all."""
        of = None if whole else self.net.feeding
        bounds = joined([block.take(np.array(rows), of) for block, rows in _blocks(parts)])
        lo, hi = (np.tile(end, (len(parts), 1)) for end in self.box)
        changed = set[int]()
        for row, part in enumerate(parts):
            for j, ends in part.step.box.items():
                lo[row, j], hi[row, j] = below(ends[:1], checker.H)[0], above(ends[1:], checker.H)[0]
            for k, j, p, sign in part.cuts:
                changed.add(k)
                self._apply(bounds, row, part.step, k, j, p, sign)
        bounds.box, bounds.values[0] = (lo, hi), self._values(lo, hi)
        for k in self.net.order if whole and changed else ():
            if k in bounds.lines and changed.intersection(self.net.nodes[k].of):
                draw(self.net, bounds, k)
        return bounds

    def _apply(self, bounds: Bounds, row: int, step: Step, k: int, j: int, p: int, sign: int) -> None:
        """Cut the bounds of one part; places of splits go outwards to the checker's grid."""
        if k == 0:
            low, high = step.box.get(j, (self.case.lo[j], self.case.hi[j]))
            bounds.empty[row] |= p < low if sign < 0 else p > high
            return
        lo, hi = bounds.values[k]
        bounds.parted[row] = True
        if sign > 0:
            place = below([p >> checker.G], checker.G)[0]
            bounds.empty[row] |= place > hi[row, j]
            lo[row, j] = max(lo[row, j], place) if place <= hi[row, j] else lo[row, j]
        else:
            place = above([-(-p >> checker.G)], checker.G)[0]
            bounds.empty[row] |= place < lo[row, j]
            hi[row, j] = min(hi[row, j], place) if place >= lo[row, j] else hi[row, j]

    def _start(self, table: int, place: int) -> tuple[dict[int, Array], Fraction, int, bool]:
        """Where the pass of a row begins, from its atoms: multipliers by node, what is taken off, their sum, strict."""
        d, terms, _, _ = self.tree.leaves[table][place]
        sums, off, total, strict = dict[tuple[int, int], Fraction](), Fraction(0), 0, False
        for number, factor in terms:
            atom = self.case.unsafe[d][number]
            off, total, strict = off + factor * atom.threshold, total + factor, strict or (factor > 0 and atom.strict)
            for k, side in zip((0, self.net.output), atom.sides, strict=True):
                for i, c in side:
                    sums[k, i] = sums.get((k, i), Fraction(0)) + factor * c
        rows = {k: np.zeros(self.net.nodes[k].size) for k in {k for k, _ in sums}}
        for (k, i), x in sums.items():
            rows[k][i] = float(x) * UNIT
        return rows, off, total, strict

    def _judge(self, parts: list[Part]) -> None:
        """One backward pass a row; which leaves fall short, and the least margin."""
        number = {id(rows): table for table, rows in enumerate(self.tree.leaves)}
        chosen = [(at, number[id(part.step.rows)], place)
                  for at, part in enumerate(parts) for place in range(len(part.step.rows))]  # fmt: skip
        bounds = self._gather(parts, True)
        live = [(at, table, place) for at, table, place in chosen if not bounds.empty[at]]
        size = max((1 << 20) // self.net.widest, 1)
        for first in range(0, len(live), size):
            self._pass(bounds, parts, live[first : first + size])

    def _pass(self, bounds: Bounds, parts: list[Part], live: list[tuple[int, int, int]]) -> None:
        starts = [self.start(table, place) for _, table, place in live]
        rows = [self.tree.leaves[table][place] for _, table, place in live]
        pending, constant = self._begin(bounds, parts, live)
        which = np.array([at for at, _, _ in live])
        tables = np.array([[row[2]] for row in rows], np.intp) if self.tables else None
        charge = np.zeros(len(live))
        for k in {0, self.net.output} & pending.keys():  # coefficients that were rounded
            charge += np.sum(np.abs(pending[k][:, 0]) * bounds.sizes(k, which), axis=1) * (4 * ROUNDING)
        found = np.full(len(live), -np.inf)
        if pending:
            found = lower_bound(self.net, bounds, which, pending, self.tables, tables)[:, 0]
        else:
            found = np.zeros(len(live))
        found = found - charge * (1 + 2.0**-20)
        found = found + constant
        found -= (np.abs(found) + np.abs(constant)) * (4 * ROUNDING)
        for (at, _, _), (_, _, total, strict), margin in zip(live, starts, found.tolist(), strict=True):
            if not margin > 0 and not (margin == 0 and strict):
                self.failed.add(parts[at].step.leaf)
            if total:
                self.margin = min(self.margin, margin / (total * UNIT))

    def _begin(
        self, bounds: Bounds, parts: list[Part], live: list[tuple[int, int, int]]
    ) -> tuple[dict[int, Array], Array]:
        """Multipliers by node, (rows, 1, size), and constants of these rows: of their atoms and their splits."""
        pending, constants = dict[int, Array](), list[float]()
        blank = lambda k: np.zeros((len(live), 1, self.net.nodes[k].size))
        for row, (at, table, place) in enumerate(live):
            starts, off, _, _ = self.start(table, place)
            for k, start in starts.items():
                pending.setdefault(k, blank(k))[row, 0] = start
            constant, sums = -off, dict[tuple[int, int], int]()
            for factor, (k, j, p, sign) in zip(self.tree.leaves[table][place][3], parts[at].step.path, strict=True):
                if not factor:
                    continue
                sums[k, j] = sums.get((k, j), 0) - sign * factor
                end = bounds.values[k][sign > 0][at, j]  # if it is negative, held to is the other end of what bounds z
                constant += sign * factor * (Fraction(p, 1 << checker.H) if factor > 0 else Fraction(float(end)))
            for (k, j), x in sums.items():
                checker.need(abs(x) < WHOLE, "a multiplier of a split is too large for binary64")
                pending.setdefault(k, blank(k))[row, 0, j] += x * UNIT
            constants.append(below_fraction(constant * Fraction(UNIT)))
        return pending, np.array(constants)


def _in_order(parts: list[Part]) -> list[Part]:
    """Parts that inherit from the same batch side by side."""
    return sorted(parts, key=lambda part: id(part.bounds))


def _blocks(parts: list[Part]) -> Iterator[tuple[Bounds, list[int]]]:
    """The batches that parts inherit from, and their rows there."""
    found = dict[int, tuple[Bounds, list[int]]]()
    for part in parts:
        found.setdefault(id(part.bounds), (part.bounds, []))[1].append(part.row)
    yield from found.values()
