"""Lower bounds of rows over one region, step by step, and better ones by choosing the lines of each row.

Down: rows from a value to the inputs. Up: from the point where the bound is attained to the value of every operand,
which is the slope of the bound by each line that was chosen. Adam takes it from there; every choice gives a sound
bound, so the best seen is kept.
Source: Xu et al. 2021, Fast and complete (α-CROWN), arXiv 2011.13824; the upward pass in place of automatic
differentiation is ours: it needs no compilation of a whole net.
"""

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from axiom_jax._program import Var
from axiom_jax.verification.domains import _layered_steps as steps_
from axiom_jax.verification.domains._layered_steps import Step
from axiom_jax.verification.domains._linear_passing import Planes
from axiom_jax.verification.domains.interval import Interval
from axiom_jax.verification.domains.linear import Plan
from axiom_jax.verification.relax import Lines

RATE, DECAY = 0.1, 0.97  # Adam's first step in a choice of [0, 1], and what is left of it after each
MOST_ROWS = 1024  # of one pass: more gain nothing
COMPILING = 10**9  # multiplications that are done while a step is compiled for one more size
MOVING, CHOOSING = 20, 10  # in multiplications: what a number costs that is passed, and how much more if it is chosen
SHARE = 8  # of free memory, one part is for rows


@dataclass(frozen=True)
class Region:
    """One box of inputs, and what is known of every value over it; the dictionaries grow step by step.

    Args:
        known: values of what does not depend on the inputs.
        boxes: intervals of values. lines: by number of step, what replaces a nonlinear one (None: its interval).
    """

    plan: Plan
    steps: tuple[Step, ...]
    known: dict[Var, Any]
    boxes: dict[Var, Interval]
    lines: dict[int, Any]

    def params(self, step: Step) -> tuple[Any, ...]:
        return tuple(self.known[v] for v in step.params)


@dataclass(frozen=True)
class Raised:
    """Lower bounds of rows.

    Args:
        value: (n,). rows: for each input, (n, *shape) coefficients of a linear function that is below.
        choices: by number of step, (choices, n, *shape) the lines that gave the bounds; only where they are free.
    """

    value: Any
    rows: tuple[Any, ...]
    choices: dict[int, Any]


def raised(
    region: Region, start: dict[Var, Any], upto: int, iterations: int, deadline: float | None = None, keep: bool = False
) -> Raised:
    """Lower bounds of rows times values, at least those of the lines that the region has.

    Args:
        start: for some values, (n, *shape) coefficients.
        upto: how many steps are passed.
        iterations: steps of Adam; 0 takes the region's lines.
        deadline: on `time.monotonic`; what is found until then is returned, −inf if that is nothing.
        keep: keep the best rows and choices too, else those that come last.
    """
    found = _down(region, start, upto, {}, deadline)
    if found is None:
        n = next(iter(start.values())).shape[0]
        nothing = tuple(np.zeros((n, *v.shape), np.float32) for v in region.plan.program.inputs)
        return Raised(np.full(n, -np.inf, np.float32), nothing, {})
    value, corners, passed, rows = found
    best, best_rows = np.asarray(value), rows
    free = {k for k in passed if _is_free(region, k)} if iterations else set()
    if not free:
        return Raised(best, best_rows, {})
    n = value.shape[0]
    choices, moments = {}, {}
    for k in free:
        step = region.steps[k]
        box = region.boxes[step.inputs[step.operand]]
        choices[k] = steps_.first_choice(step.piece, step.free, n, box.lo, box.hi)
        moments[k] = (np.zeros(choices[k].shape, np.float32),) * 2
    kept = dict(choices) if keep else {}
    for count in range(1, iterations + 1):
        rate = np.float32(RATE * DECAY ** (count - 1))
        _up(region, upto, corners, passed, choices, moments, np.float32(count), rate)
        found = _down(region, start, upto, choices, deadline)
        if found is None:
            break
        value, corners, passed, rows = found
        if keep:
            best, (best_rows, kept) = _better(value, best, (rows, choices), (best_rows, kept))
        else:
            best = np.fmax(best, value)
    return Raised(best, best_rows if keep else rows, kept if keep else choices)


def bounded(region: Region, start: dict[Var, Any], upto: int, choices: dict[int, Any]) -> Any:
    """(n,) lower bounds of rows by given lines; the region's where there is no choice."""
    found = _down(region, start, upto, choices)
    assert found is not None  # there is no deadline
    return found[0]


def slopes_of(region: Region, rows: tuple[Any, ...]) -> np.ndarray:
    """(n, free inputs): coefficients of inputs as those of ε in [−1, 1], inputs that are fixed left out."""
    parts = []
    for v, A in zip(region.plan.program.inputs, rows, strict=True):
        reach = ((np.asarray(region.boxes[v].hi) - np.asarray(region.boxes[v].lo)) / 2).ravel()
        ids = np.flatnonzero(reach)
        parts.append(np.asarray(A).reshape(A.shape[0], -1)[:, ids] * reach[ids])
    return np.concatenate(parts, 1)


def free_inputs(region: Region) -> int:
    """How many numbers of the inputs are not fixed."""
    boxes = (region.boxes[v] for v in region.plan.program.inputs)
    return sum(int(np.count_nonzero(np.asarray(box.hi) > np.asarray(box.lo))) for box in boxes)


def row_cost(steps: Sequence[Step], iterations: int = 0) -> int:
    """Multiplications that one row takes down (and up) through some steps."""
    moving = MOVING * (CHOOSING if iterations else 1)
    return (1 + 2 * iterations) * sum(step.work + moving * sum(v.size for v in step.outputs) for step in steps)


@steps_.compiled()
def _better(value: Any, best: Any, new: Any, old: Any) -> tuple[Any, Any]:
    """The better bound of each row, and what gave it: rows (n, *shape), and choices (choices, n, *shape)."""
    better = value > best

    def pick(axis: int, a: Any, b: Any) -> Any:
        shape = [1] * axis + [-1] + [1] * (a.ndim - axis - 1)
        return jnp.where(better.reshape(shape), a, b)

    rows = jax.tree.map(partial(pick, 0), new[0], old[0])
    return jnp.maximum(value, best), (rows, jax.tree.map(partial(pick, 1), new[1], old[1]))


def has_choices(region: Region, upto: int) -> bool:
    """Whether any of the first steps has lines that can be chosen."""
    return any(_is_free(region, k) for k in range(upto))


def _is_free(region: Region, k: int) -> bool:
    """Whether the lines of a step can be chosen at all over this region."""
    step = region.steps[k]
    if not step.free:
        return False
    box = region.boxes[step.inputs[step.operand]]
    crossing = step.piece.equations[0].name == "max"
    lo, hi = np.asarray(box.lo), np.asarray(box.hi)
    return bool(np.any((lo < 0) & (hi > 0)) if crossing else np.any(lo < hi))


def _down(
    region: Region, start: dict[Var, Any], upto: int, choices: dict[int, Any], deadline: float | None = None
) -> tuple[Any, tuple[Any, ...], dict[int, Any], tuple[Any, ...]] | None:
    """Bounds, the inputs that attain them, the rows at every step that was passed, and those at the inputs.

    None once the deadline has passed: steps may have to be compiled, so it is looked at before each.
    """
    rows = dict(start)
    n = next(iter(rows.values())).shape[0]
    value = jnp.zeros(n, jnp.float32)
    size = value if region.plan.refine_stable else None
    passed: dict[int, Any] = {}
    for k in reversed(range(upto)):
        step = region.steps[k]
        out = tuple(rows.pop(v, None) for v in step.outputs)
        if all(A is None for A in out):
            continue
        if deadline is not None and time.monotonic() > deadline:
            return None
        passed[k] = None if step.kind == "linear" else out[0]
        parts: tuple[Any, ...] = ()
        relaxed = region.lines.get(k)
        if step.kind == "linear":
            parts, value, size = steps_.linear_down(step.piece, region.params(step), out, value, size)
        elif k in choices:
            box = region.boxes[step.inputs[step.operand]]
            part, value, size = steps_.free_down(step.piece, box.lo, box.hi, choices[k], out[0], value, size)
            parts = tuple(part if i == step.operand else None for i in range(len(step.inputs)))
        elif isinstance(relaxed, Lines):
            part, value, size = steps_.lines_down(relaxed, out[0], value, size)
            parts = tuple(part if i == step.operand else None for i in range(len(step.inputs)))
        elif isinstance(relaxed, Planes):
            parts, value, size = steps_.planes_down(step.piece, relaxed, out[0], value, size)
        else:
            reached = [(region.boxes[v], A) for v, A in zip(step.outputs, out, strict=True) if A is not None]
            value, size = steps_.interval_down(*zip(*reached, strict=True), value, size)
            passed[k] = out
        for v, part in zip(step.inputs, parts, strict=bool(parts)):
            if part is not None:
                rows[v] = rows[v] + part if v in rows else part
    inputs = region.plan.program.inputs
    ends = tuple(rows[v] if v in rows else jnp.zeros((n, *v.shape), jnp.float32) for v in inputs)
    boxes = tuple(region.boxes[v] for v in inputs)
    value, corners = steps_.at_inputs(boxes, ends, value, size)
    return value, corners, passed, ends


def _up(
    region: Region,
    upto: int,
    corners: tuple[Any, ...],
    passed: dict[int, Any],
    choices: dict[int, Any],
    moments: dict[int, Any],
    count: Any,
    rate: Any,
) -> None:
    """One step of Adam for every choice, from the points of the inputs that attain the bounds."""
    points = dict(zip(region.plan.program.inputs, corners, strict=True))
    n, last = corners[0].shape[0], max(choices)
    for k in range(upto):
        if k not in passed:
            continue
        step, A = region.steps[k], passed[k]
        given = [points[v] if v in points else jnp.zeros((n, *v.shape), v.dtype) for v in step.inputs]
        relaxed = region.lines.get(k)
        if step.kind == "linear":
            points.update(
                zip(step.outputs, steps_.linear_up(step.piece, region.params(step), tuple(given)), strict=True)
            )
        elif k in choices:
            box = region.boxes[step.inputs[step.operand]]
            y, choices[k], *moments[k] = steps_.free_up(
                step.piece, box.lo, box.hi, choices[k], A, given[step.operand], *moments[k], count, rate
            )
            points[step.outputs[0]] = y
        elif isinstance(relaxed, Lines):
            points[step.outputs[0]] = steps_.lines_up(relaxed, A, given[step.operand])
        elif isinstance(relaxed, Planes):
            points[step.outputs[0]] = steps_.planes_up(step.piece, relaxed, A, tuple(given))
        else:
            for v, part in zip(step.outputs, A, strict=True):
                if part is not None:
                    points[v] = steps_.interval_up(region.boxes[v], part)
        if k == last:
            return


def batch(region: Region, upto: int, iterations: int) -> int:
    """The most rows of one pass: a power of two that the largest value needs and memory has room for."""
    copies = lambda step: 1 + 3 * step.free if iterations else 1  # of the rows: choices and their moments
    sizes = [sum(v.size for v in step.outputs) * copies(step) for step in region.steps[:upto]]
    needed = 4 * (sum(sizes) if iterations else 4 * max(sizes, default=1))
    room = max(memory() // (2 * needed), 1)
    widest = max((v.size for step in region.steps for v in step.outputs), default=1)
    return min(MOST_ROWS, 1 << (room.bit_length() - 1), 1 << (2 * widest - 1).bit_length())


def memory() -> int:
    """Bytes that rows may take: a part of what is free on the device."""
    stats = jax.local_devices()[0].memory_stats() or {}
    if "bytes_limit" in stats:
        return (stats["bytes_limit"] - stats.get("bytes_in_use", 0)) // 2
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // SHARE
    except (ValueError, OSError, AttributeError):  # not every system says
        return 1 << 28


_compiled: dict[Plan, set[tuple[int, bool]]] = {}


def bucket(region: Region, count: int, most: int, upto: int, iterations: int) -> int:
    """The power of two that `count` rows are padded to: the cheapest, where a new size costs its compilation."""
    sizes = _compiled.setdefault(region.plan, set())
    choosing = iterations > 0
    steps = region.steps[:upto]
    row = row_cost(steps, iterations)
    candidates = [n for n in (1 << k for k in range(4, 32)) if count <= n <= most] or [most]
    cost = lambda n: n * row + (0 if (n, choosing) in sizes else len(steps) * COMPILING)
    best = min(candidates, key=cost)
    sizes.add((best, choosing))
    return best
