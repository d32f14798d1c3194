"""Bounds of all nodes over many boxes at once, in binary64, and the lines that nonlinear nodes pass multipliers by.

A multiplier may be any number, so what matters is only what its rounding leaves behind: a node's charge is, for every
unit of |multiplier| on it, a bound on that, over the box; a pass takes charges off in one dot product a node. No grid
is needed, and thin margins survive.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from axiom_jax.verification._fast_lines import relax
from axiom_jax.verification._fast_network import FloatNetwork, Pair
from axiom_jax.verification._fast_numbers import ROUNDING, TINY, Array, gamma, largest, middle, widened

Rows = NDArray[np.intp]
FLUSH = 2.0**-40  # covers every number that is flushed to 0, as in the checker
SETTLED = 2.0**-40  # a bound of a relu this close to 0 may be 0 to the checker; a table then chooses no slope


class Lines(NamedTuple):
    """Of a nonlinear node: below * z + offset_below <= value <= above * z + offset_above, z one or two operands."""

    operands: list[int]
    below: list[Array]
    above: list[Array]
    offset_below: Array | None
    offset_above: Array | None
    free: NDArray[np.bool_] | None = None  # of a relu: where tables may choose the slope below


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
        values = {k: pair(ends) for k, ends in self.values.items()}
        return Bounds(pair(self.box), values, *flags, charges[0], lines, charges[1])


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
    ends = [bounds.values[i] if i in bounds.values else ends_of(net, i, bounds.count) for i in of]
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


def ends_of(net: FloatNetwork, i: int, count: int) -> Pair:
    """The ends of a constant, for so many boxes."""
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
        error = np.maximum.reduce([np.abs(c) for c in corners]) * (8 * ROUNDING) + TINY
        t = side * (np.minimum.reduce(corners) - error)
        slopes.append(np.where(l > 0, 1.0, np.where(u < 0, 0.0, s)))
        offsets.append(np.where((l > 0) | (u < 0), 0.0, t))
    nothing = np.zeros_like(l)
    return Lines(of, [nothing, slopes[0]], [nothing, slopes[1]], offsets[0], offsets[1])
