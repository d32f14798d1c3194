"""Bounds of all nodes over many boxes at once, and backward passes in batches, in binary64.

The rules are those of `checker.sweep`, `checker.rounding` and `checker.lower_bound`. A multiplier may be any number, so what
matters is only what its rounding leaves behind: a node's charge is, for every unit of |multiplier| on it, a bound on that,
over the box; a pass takes charges off in one dot product a node. No grid is needed, and thin margins survive.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from axiom_jax.verification import checker
from axiom_jax.verification._fast_lines import enclose, relax
from axiom_jax.verification._fast_network import FloatNetwork, Pair
from axiom_jax.verification._fast_numbers import (
    DROPPED, ROUNDING, TINY, Array, dot, finite, gamma, largest, middle, multiplied, on_grid, products, widened,
)  # fmt: skip

Rows = NDArray[np.intp]
Tables = dict[int, NDArray[np.int16]]  # by the operand of relus: slopes in 1 / 255, -1 for none; the last row is empty
FLUSH = 2.0**-40  # covers every number that is flushed to 0, as in the checker
SETTLED = 2.0**-40  # a bound of a relu this close to 0 may be 0 to the checker; a table then chooses no slope
CHUNK = 1 << 13  # numbers of one array of multipliers: 64 KiB, so that a pass stays in the cache
LARGEST = 1 << 20  # of the same, where a few passes at a time keep products of large matrices busy


class Lines(NamedTuple):
    """Of a nonlinear node: below * z + offset_below <= value <= above * z + offset_above, z one or two operands."""

    operands: list[int]
    below: list[Array]
    above: list[Array]
    offset_below: Array | None
    offset_above: Array | None
    free: Array | None = None  # of a relu: where tables may choose the slope below


@dataclass
class Bounds:
    """Enclosures over `count` boxes; arrays have a row a box. `parted`, `empty`: as in the checker, a flag a box.

    Args:
        box: the ends of the boxes. values: the ends of the nodes' values. lines: of nonlinear nodes, and of products.
        charges: of nodes, see above. line_charges: what the lines add to these.
    """

    box: Pair
    values: dict[int, Pair]
    parted: NDArray[np.bool_]
    empty: NDArray[np.bool_]
    charges: dict[int, Array] = field(default_factory=dict[int, Array])
    lines: dict[int, Lines] = field(default_factory=dict[int, Lines])
    line_charges: dict[int, Array] = field(default_factory=dict[int, Array])

    @property
    def count(self) -> int:
        return len(self.empty)

    def sizes(self, k: int, rows: Rows | None) -> Array:
        lo, hi = self.values[k]
        return largest(lo, hi) if rows is None else largest(lo[rows], hi[rows])

    def take(self, rows: Rows, nodes: Iterable[int] | None = None) -> Bounds:
        """Some of the boxes; with `nodes`, only the values of these."""
        pick = partial(np.take, indices=rows, axis=0)
        pair = lambda ends: (pick(ends[0]), pick(ends[1]))
        flags = pick(self.parted), pick(self.empty)
        if nodes is not None:
            return Bounds(pair(self.box), {k: pair(self.values[k]) for k in nodes if k in self.values}, *flags)
        lines = {k: _each(pick, lines) for k, lines in self.lines.items()}
        charges = [{k: pick(a) for k, a in charges.items()} for charges in (self.charges, self.line_charges)]
        return Bounds(pair(self.box), {k: pair(v) for k, v in self.values.items()}, *flags, charges[0], lines, charges[1])


def _each(of: Callable[..., Any], *lines: Lines) -> Lines:
    """One `Lines` whose arrays are made of those of others."""
    first = lines[0]
    lists = [[of(*arrays) for arrays in zip(*both, strict=True)] for both in zip(*(x[1:3] for x in lines), strict=True)]
    rest = [None if arrays[0] is None else of(*arrays) for arrays in zip(*(x[3:] for x in lines), strict=True)]
    return Lines(first.operands, lists[0], lists[1], *rest)


def joined(parts: list[Bounds]) -> Bounds:
    """Several, one after the other."""
    if len(parts) == 1:
        return parts[0]
    join = lambda *arrays: np.concatenate(arrays)
    pairs = lambda ends: (join(*[e[0] for e in ends]), join(*[e[1] for e in ends]))
    first = parts[0]
    charges = [{k: join(*[getattr(p, name)[k] for p in parts]) for k in getattr(first, name)}
               for name in ("charges", "line_charges")]  # fmt: skip
    return Bounds(
        pairs([p.box for p in parts]), {k: pairs([p.values[k] for p in parts]) for k in first.values},
        join(*[p.parted for p in parts]), join(*[p.empty for p in parts]), charges[0],
        {k: _each(join, *[p.lines[k] for p in parts]) for k in first.lines}, charges[1],
    )  # fmt: skip


# --- what nonlinear nodes pass


def draw(net: FloatNetwork, bounds: Bounds, k: int) -> None:
    """Lines of node k from the bounds of its operands, and what their rounding may cost a unit of multiplier."""
    node = net.nodes[k]
    of = node.of if node.pair else [node.source]
    ends = [bounds.values[i] if i in bounds.values else _constant(net, i, bounds.count) for i in of]
    sizes = [largest(lo, hi) for lo, hi in ends]
    if k in net.factors:
        factor, radius = net.factors[k]
        flushed = np.abs(factor) * FLUSH if net.profile else 0.0
        spread = np.broadcast_to(factor, sizes[0].shape)
        bounds.lines[k] = Lines(of, [spread], [spread], None, None)
        bounds.line_charges[k] = (np.abs(factor) * (2 * ROUNDING) + radius * (1 + 4 * ROUNDING)) * sizes[0] + flushed
        return
    if node.op == "relu":
        bounds.lines[k], slopes = _relu(node.source, *ends[0])
    elif node.op == "gate":
        bounds.lines[k] = _gate(node.of, *ends)
        slopes = [np.ones_like(s) for s in bounds.lines[k].below]
    elif node.pair:
        (c, r), (d, s) = middle(*ends[0]), middle(*ends[1])  # x y >= d x + c y - c d - r s
        lost = (r * s + np.abs(c * d) * (8 * ROUNDING)) * (1 + 8 * ROUNDING) + TINY
        bounds.lines[k] = Lines(node.of, [d, c], [d, c], -(c * d) - lost, -(c * d) + lost)
        slopes = [np.abs(d), np.abs(c)]
    else:
        s, t, steep, offset = relax(node.op, *ends[0])
        bounds.lines[k] = Lines([node.source], [s], [steep], t, offset)
        slopes = [np.maximum(np.abs(s), np.abs(steep))]
    charge = sum((s * a * (2 * ROUNDING) for s, a in zip(slopes, sizes, strict=True)), np.zeros(sizes[0].shape))
    offsets = [np.abs(t) for t in bounds.lines[k][3:5] if t is not None]
    charge += gamma(node.size) * np.maximum.reduce(offsets)
    if net.profile and not node.pair and node.op != "relu":  # of flushing; elsewhere errors hold it
        charge += slopes[0] * FLUSH
    bounds.line_charges[k] = charge


def _constant(net: FloatNetwork, i: int, count: int) -> Pair:
    value, radius = net.known[i]
    lo, hi = widened(value - radius, value + radius) if radius.any() else (value, value)
    return np.broadcast_to(lo, (count, len(lo))), np.broadcast_to(hi, (count, len(hi)))


def _relu(source: int, lo: Array, hi: Array) -> tuple[Lines, list[Array]]:
    """relu(z) <= s z + t with the chord, >= z or >= 0; exact where the sign is sure."""
    unstable = (lo < 0) & (hi > 0)
    width = np.where(unstable, hi - lo, 1.0)
    s = np.minimum(np.where(unstable, hi / width, lo >= 0), 1.0)
    t = np.where(unstable, np.maximum(-s * lo, (1 - s) * hi) * (1 + 8 * ROUNDING) + TINY, 0.0)
    below = np.where(unstable, hi > -lo, lo >= 0).astype(np.float64)
    free = (lo < -SETTLED) & (hi > SETTLED)
    return Lines([source], [below], [s], np.zeros_like(t), t, free), [np.where(unstable, 1.0, 0.0)]


def _gate(of: list[int], decides: Pair, through: Pair) -> Lines:
    """min(v, 0) >= s v + t and max(v, 0) <= s v + t, t by the corners; v or 0 where it is decided."""
    (l, u), (low, high) = decides, through
    least, most = np.minimum(low, 0), np.maximum(high, 0)
    width = np.maximum(most - least, TINY)
    slopes, offsets = list[Array](), list[Array]()
    for end, side in ((-least, 1), (most, -1)):  # side 1: below
        s = np.minimum(end / width, 1.0)
        corners = [side * f * b for f in (-s, 1 - s) for b in (low, high)]
        t = side * (np.minimum.reduce(corners) - np.maximum.reduce([np.abs(c) for c in corners]) * (8 * ROUNDING) - TINY)
        slopes.append(np.where(l > 0, 1.0, np.where(u < 0, 0.0, s)))
        offsets.append(np.where((l > 0) | (u < 0), 0.0, t))
    nothing = np.zeros_like(l)
    return Lines(of, [nothing, slopes[0]], [nothing, slopes[1]], offsets[0], offsets[1])


# --- backward passes


def lower_bound(
    net: FloatNetwork, bounds: Bounds, rows: Rows | None, pending: dict[int, Array], tables: Tables, table: Rows | None
) -> Array:
    """Lower bounds of sums of multiplier * value: (boxes, passes a box).

    Args:
        net: the network. bounds: over boxes; `rows` says which of them each group of passes is for (None: all in turn).
        pending: multipliers by node, each (boxes, passes, size of the node).
        tables, table: slopes of relus, and which of them each pass takes; (boxes, passes), or None for the rule.
    """
    pick = (lambda a: a) if rows is None else (lambda a: a[rows] if len(a) > 1 else a)
    shape = next(iter(pending.values())).shape[:2]
    total, charge = np.zeros(shape), np.zeros(shape)

    def add(value: Array) -> None:
        nonlocal total, charge
        total = total + value
        charge = charge + ROUNDING * np.abs(total)

    if net.profile:  # of flushing, where it starts
        charge = charge + sum(np.abs(row).sum(axis=2) for row in pending.values()) * FLUSH + TINY
    for k in range(max(pending), 0, -1):
        if k not in pending:
            continue
        row, node = pending.pop(k), net.nodes[k]
        charges = [pick(part[k]) for part in (bounds.charges, bounds.line_charges) if k in part]
        if charges:
            charge += dot(np.abs(row), charges[0] if len(charges) == 1 else charges[0] + charges[1])
        targets = list[tuple[int, Array]]()
        if node.terms:
            for part in net.parts[k]:
                if part.operand in net.known:
                    add(dot(part.backward(row), net.known[part.operand][0]))
                else:
                    targets.append((part.operand, part.backward(row)))
        elif node.op == "matmul":
            matrix = net.matrices[k]
            moved = multiplied(row.reshape(-1, matrix.weights.shape[1]), matrix.transposed)
            targets.append((node.source, moved.reshape(*shape, -1)))
        else:
            slopes = tables.get(node.source) if node.op == "relu" else None
            for i, part in _relaxed(bounds.lines[k], row, pick, add, slopes, table):
                if i in net.known:
                    add(dot(part, net.known[i][0]))
                else:
                    targets.append((i, part))
        for i, part in targets:
            if i in pending:
                pending[i] = pending[i] + part
                charge += ROUNDING * dot(np.abs(pending[i]), pick(bounds.sizes(i, None)))
            else:
                pending[i] = part
    if 0 in pending:
        row, (lo, hi) = pending.pop(0), (pick(end) for end in bounds.box)
        add(dot(np.maximum(row, 0), lo))
        add(dot(np.minimum(row, 0), hi))
        charge += gamma(net.inputs) * dot(np.abs(row), largest(lo, hi))
    charge = charge * (1 + 2.0**-20)  # its own roundings: a sum of sizes, in far less than 2^30 additions
    found = total - charge - (np.abs(total) + charge) * (4 * ROUNDING) - DROPPED
    return np.where(np.isfinite(found), found, -np.inf)


def _relaxed(
    lines: Lines, row: Array, pick: Callable[[Array], Array], add: Callable[[Array], None],
    slopes: NDArray[np.int16] | None, table: Rows | None,
) -> list[tuple[int, Array]]:  # fmt: skip
    """What a nonlinear node passes to its operands; its offsets are added."""
    if lines.offset_above is None or lines.offset_below is None:  # a factor
        return [(lines.operands[0], row * pick(lines.below[0])[:, None])]
    up = np.maximum(row, 0)
    down = row - up
    t, offset = pick(lines.offset_below), pick(lines.offset_above)
    add(dot(down, offset))
    if t.any():
        add(dot(up, t))
    found = list[tuple[int, Array]]()
    for place, i in enumerate(lines.operands):
        below, above = pick(lines.below[place])[:, None], pick(lines.above[place])[:, None]
        if slopes is not None and table is not None and lines.free is not None:
            chosen = slopes[table]
            free = (pick(lines.free)[:, None]) & (chosen >= 0)
            below = np.where(free, np.minimum(chosen * (1 / checker.STEEP), 1.0), below)
        found.append((i, up * below + down * above))
    return found


# --- forward: bounding


Sums = dict[int, tuple[int, Array, Array]]  # as checker.Sum: terms, their sizes together, what was charged for them


def sweep(
    net: FloatNetwork, known: Bounds, crown: bool, tables: Tables, lemma: Callable[..., Rows | None], spread: Any = map
) -> Bounds:
    """Bound every node over the boxes of `known`, in order, as `checker.sweep`; `spread` maps over chunks of passes."""
    bounds = Bounds(known.box, {0: known.values[0]}, known.parted, known.empty.copy())
    sums: Sums = {}
    for k in [0, *net.order]:
        if k:
            _forward(net, bounds, k, sums)
        if k not in net.feeding:
            continue
        lo, hi = bounds.values[k]
        if k in known.values:
            lo, hi = np.maximum(lo, known.values[k][0]), np.minimum(hi, known.values[k][1])
        lo, hi = lo.copy(), hi.copy()
        if crown and k:
            _improve(net, bounds, k, lo, hi, tables, lemma, spread)
        if net.profile:
            lo, hi = on_grid(lo, hi)
        crossed = lo > hi
        checker.need(not np.any(crossed.any(axis=1) & ~bounds.parted), "bounds of a box with points contradict")
        bounds.empty |= crossed.any(axis=1)
        bounds.values[k] = lo, np.where(crossed, lo, hi)
    return bounds


def _forward(net: FloatNetwork, bounds: Bounds, k: int, sums: Sums) -> None:
    """Enclose a node by its operands, and find its charges."""
    node = net.nodes[k]
    args = [bounds.values[i] if i in bounds.values else _constant(net, i, bounds.count)
            for i in (node.of if node.terms or node.pair else [node.source])]  # fmt: skip
    charge: Array | None = None
    if node.op == "matmul":
        bounds.values[k], charge = _multiplied(net, k, *args[0])
    else:
        bounds.values[k] = _enclosed(net, k, args)
        for part, (lo, hi) in zip(net.parts.get(k, ()), args, strict=False):
            cost = None
            if part.operand in net.known:
                cost = np.broadcast_to(net.value_charge(part.operand, node.size), lo.shape)
            elif part.repeats > 1:
                cost = gamma(part.repeats) * largest(lo, hi)
            if cost is not None:
                charge = np.zeros((bounds.count, node.size)) if charge is None else charge
                charge[:, part.start : part.stop] += part.forward(cost)
        if node.op == "gate" and node.of[1] in net.known:
            charge = np.tile(net.value_charge(node.of[1], node.size), (bounds.count, 1))
    if net.profile:
        errors = _rounding(net, k, bounds, args, sums)
        if errors is not None:
            charge = errors if charge is None else charge + errors
        bounds.values[k] = on_grid(*bounds.values[k])
    checker.need(finite(*bounds.values[k]), "a value is too large for binary64")
    for i in node.of if node.op in ("add", "sub") else ():  # a node that is used here alone: one charge for both
        if net.uses[i] == 1 and i in bounds.charges and i not in net.feeding and i not in bounds.lines:
            charge = bounds.charges.pop(i) if charge is None else charge + bounds.charges.pop(i)
    if charge is not None:
        bounds.charges[k] = charge
    if not node.terms and node.op != "matmul":
        draw(net, bounds, k)


def _multiplied(net: FloatNetwork, k: int, lo: Array, hi: Array) -> tuple[Pair, Array]:
    """Bounds of a @ w; and what rounding in the transpose may cost, for each |multiplier|: gamma |w| |a| + radius |a|."""
    matrix, (m, width, count) = net.matrices[k], net.nodes[k].shape
    lo, hi = lo.reshape(-1, width), hi.reshape(-1, width)
    (centre, radius), size = middle(lo, hi), largest(lo, hi)
    sizes, found = multiplied(size, matrix.sizes), multiplied(centre, matrix.weights)
    wide = multiplied(radius, matrix.sizes) * (1 + gamma(width)) + gamma(width) * sizes + TINY
    charge = gamma(count) * sizes
    if matrix.radius is not None:
        spread = (size @ matrix.radius) * (1 + gamma(width))
        wide, charge = wide + spread, charge + spread
    low, high = widened(found - wide, found + wide)
    sure = np.all(lo >= 0, axis=1)  # rounding makes no number negative that is a sum of squares
    if sure.any() and matrix.radius is None:
        low = np.where(sure[:, None] & np.all(matrix.weights >= 0, axis=0), np.maximum(low, 0), low)
    shape = (-1, m * count)
    return (low.reshape(shape), high.reshape(shape)), charge.reshape(shape)


def _enclosed(net: FloatNetwork, k: int, args: list[Pair]) -> Pair:
    """Bounds of any other node from those of its operands."""
    node = net.nodes[k]
    if node.op == "concat":
        return np.concatenate([lo for lo, _ in args], axis=1), np.concatenate([hi for _, hi in args], axis=1)
    if node.terms:
        ends = [(part.forward(lo), part.forward(hi)) for part, (lo, hi) in zip(net.parts[k], args, strict=True)]
        ends = [(lo, hi) if part.sign > 0 else (-hi, -lo) for part, (lo, hi) in zip(net.parts[k], ends, strict=True)]
        if len(ends) == 1:
            return ends[0]
        return widened(ends[0][0] + ends[1][0], ends[0][1] + ends[1][1])
    lo, hi = args[0]
    if node.op == "relu":
        return np.maximum(lo, 0), np.maximum(hi, 0)
    if k in net.factors:
        factor, radius = net.factors[k]
        low, high = widened(factor - radius, factor + radius) if radius.any() else (factor, factor)
        return products((lo, hi), (low[None], high[None]))
    if node.op == "gate":
        (l, u), (low, high) = args
        return (np.where(l > 0, low, np.where(u >= 0, np.minimum(low, 0), 0)),
                np.where(l > 0, high, np.where(u >= 0, np.maximum(high, 0), 0)))  # fmt: skip
    return products(*args) if node.pair else enclose(node.op, lo, hi)


def _rounding(net: FloatNetwork, k: int, bounds: Bounds, args: list[Pair], sums: Sums) -> Array | None:
    """Widen the values of node k by the errors of float32; those, where they are charged. See `checker.rounding`."""
    node, up = net.nodes[k], 1 + 2.0**-40
    exact = node.op in checker.EXACT
    lo, hi = bounds.values[k]
    count, sizes, charged = 1, largest(lo, hi), np.zeros_like(lo)
    factor = checker.PROFILES[net.profile].get(node.op, 1) * 2.0**-24
    if node.op in checker.SUMS | checker.MOVES:
        operands = [node.source] if node.op == "matmul" else node.of
        last = [sums.get(i) if i in net.fused else None for i in operands]
        parts = [s or (1, largest(*a), np.zeros_like(a[0])) for s, a in zip(last, args, strict=True)]
        counts = [n for n, _, _ in parts]
        count = node.shape[1] if node.op == "matmul" else (sum if node.op in checker.SUMS else max)(counts)
        sizes, factor = _spread(net, k, [m for _, m, _ in parts]) * up, count / ((1 << 24) - count) * up
        if node.terms and all(part.repeats == 1 for part in net.parts[k]):
            charged = _spread(net, k, [c for _, _, c in parts]) * (1 - 2.0**-40)
    fits = count < 1 << 23 and bool(np.all(sizes < 2.0**60))
    checker.need(fits, "level float32: a value or a partial sum may be too large")
    total = charged if exact else factor * sizes * up + FLUSH
    errors = None if exact else np.maximum(total - charged, 0) * up + 3 * FLUSH
    sums[k] = count, sizes, total
    if errors is not None:
        bounds.values[k] = widened(lo - errors, hi + errors)
    return errors


def _spread(net: FloatNetwork, k: int, sizes: list[Array]) -> Array:
    """The sizes of a node's values where its operands have these sizes; not rounded up."""
    node = net.nodes[k]
    if node.op == "matmul":
        width, count = node.shape[1:]
        return (sizes[0].reshape(-1, width) @ net.matrices[k].sizes).reshape(-1, node.shape[0] * count)
    if node.op == "concat":
        return np.concatenate(sizes, axis=1)
    return sum((part.forward(a) for part, a in zip(net.parts[k], sizes, strict=True)), np.zeros(1))


def _improve(
    net: FloatNetwork, bounds: Bounds, k: int, lo: Array, hi: Array, tables: Tables,
    lemma: Callable[..., Rows | None], spread: Any,
) -> None:  # fmt: skip
    """Backward passes for what is unstable: one a side, the second only where the first does not settle a relu."""
    first, apart, lemmas = np.where(hi > -lo, 1, -1), lo < hi, lemma(k)
    for sides in (first, -first):
        unstable = apart if net.feeding[k] else (lo < 0) & (hi > 0)
        boxes, elements = np.nonzero(unstable)
        sign = sides[boxes, elements]
        table = None if lemmas is None else lemmas[(1 - sign) // 2, elements]
        rows = max(CHUNK // net.widest, min(LARGEST // net.widest, 64), 1)
        task = partial(_passes, net, bounds, k, (boxes, elements, sign), tables, table)
        for at, found in spread(task, _grouped(boxes, rows)):
            which, up = (boxes[at], elements[at]), sign[at] > 0
            lo[which] = np.where(up, np.maximum(lo[which], found), lo[which])
            hi[which] = np.where(up, hi[which], np.minimum(hi[which], -found))


Group = tuple[Rows, Rows, Rows]  # of passes: which they are; which group of a batch each is in; its place in the group


def _grouped(boxes: Rows, budget: int) -> list[Group]:
    """Split passes (their boxes, ascending) into batches of groups, a group being of one box, padded to about `budget`."""
    if not len(boxes):
        return []
    starts = np.flatnonzero(np.diff(boxes, prepend=-1))
    places = np.arange(len(boxes)) - np.repeat(starts, np.diff(np.append(starts, len(boxes))))
    group = np.cumsum((np.diff(boxes, prepend=-1) != 0) | (places % budget == 0)) - 1
    places = places % budget
    counts = np.bincount(group)
    rank = np.empty_like(counts)
    rank[np.argsort(-counts, kind="stable")] = np.arange(len(counts))  # those with the most passes first
    number = rank[group]
    order = np.argsort(number, kind="stable")
    number, counts = number[order], -np.sort(-counts)
    found, at = list[Group](), 0
    while at < len(counts):
        end = at + max(budget // int(counts[at]), 1)
        passes = order[slice(*np.searchsorted(number, (at, end)))]
        found.append((passes, rank[group[passes]] - at, places[passes]))
        at = end
    return found


def _passes(
    net: FloatNetwork, bounds: Bounds, k: int, wanted: tuple[Rows, Rows, Rows], tables: Tables, lemmas: Rows | None,
    group: Group,
) -> tuple[Rows, Array]:  # fmt: skip
    """Lower bounds of sign * element for one batch of what is wanted: boxes, elements and signs."""
    (boxes, elements, sign), (passes, groups, places) = wanted, group
    shape = int(groups.max()) + 1, int(places.max()) + 1
    rows = np.zeros(shape[0], np.intp)
    rows[groups] = boxes[passes]
    unit = np.zeros((*shape, net.nodes[k].size))
    unit[groups, places, elements[passes]] = sign[passes]
    table = None
    if lemmas is not None:
        table = np.full(shape, -1, np.intp)
        table[groups, places] = lemmas[passes]
    return passes, lower_bound(net, bounds, rows, {k: unit}, tables, table)[groups, places]
