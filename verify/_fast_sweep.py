"""Bounding all nodes over many boxes at once, in binary64: the rules of `checker.sweep` and `checker.rounding`."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from axiom_jax.verification import checker
from axiom_jax.verification._fast_bounds import FLUSH, Bounds, Rows, draw, ends_of
from axiom_jax.verification._fast_lines import enclose
from axiom_jax.verification._fast_network import FloatNetwork, Pair
from axiom_jax.verification._fast_numbers import (
    TINY,
    Array,
    finite,
    gamma,
    largest,
    middle,
    multiplied,
    on_grid,
    products,
    widened,
)
from axiom_jax.verification._fast_passes import Tables, lower_bound

CHUNK = 1 << 13  # numbers of one array of multipliers: 64 KiB, so that a pass stays in the cache
LARGEST = 1 << 20  # of the same, where a few passes at a time keep products of large matrices busy
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
    args = [bounds.values[i] if i in bounds.values else ends_of(net, i, bounds.count)
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
    """Bounds of a @ w; and what rounding in the transpose may cost a unit of multiplier: gamma |w| |a| + radius |a|."""
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
    """Split passes (their boxes, ascending) into batches of groups, each of one box and padded to its longest."""
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
    with np.errstate(all="ignore"):  # a thread has its own
        return passes, lower_bound(net, bounds, rows, {k: unit}, tables, table)[groups, places]
