"""Backward passes over many boxes at once, in binary64: the rules of `checker.lower_bound`.

Multipliers are arrays (boxes, passes a box, size of the node); every matrix product is one call of BLAS.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from axiom_jax.verification import checker
from axiom_jax.verification._fast_bounds import FLUSH, Bounds, Lines, Rows
from axiom_jax.verification._fast_network import FloatNetwork
from axiom_jax.verification._fast_numbers import DROPPED, ROUNDING, TINY, Array, dot, gamma, largest, multiplied

Tables = dict[int, NDArray[np.int16]]  # by the operand of relus: slopes in 1 / 255, -1 for none; the last row is empty
Pick = Callable[[NDArray[Any]], NDArray[Any]]  # of an array with a row a box, those that passes are for


def lower_bound(
    net: FloatNetwork, bounds: Bounds, rows: Rows | None, pending: dict[int, Array], tables: Tables, table: Rows | None
) -> Array:
    """Lower bounds of sums of multiplier * value: (boxes, passes a box).

    Args:
        net: the network. bounds: over boxes; `rows` says which of them each group of passes is for (None: all in turn).
        pending: multipliers by node, each (boxes, passes, size of the node).
        tables, table: slopes of relus, and which of them each pass takes; (boxes, passes), or None for the rule.
    """
    pick: Pick = (lambda a: a) if rows is None else (lambda a: a[rows] if len(a) > 1 else a)
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
    lines: Lines, row: Array, pick: Pick, add: Callable[[Array], None],
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
            free = pick(lines.free)[:, None] & (chosen >= 0)
            below = np.where(free, np.minimum(chosen * (1 / checker.STEEP), 1.0), below)
        found.append((i, up * below + down * above))
    return found
