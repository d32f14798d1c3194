"""Bounds of deep nets by one compiled step a layer shape, called from Python.

One program for all backward passes grows as the square of the depth; steps compile once for each shape, whatever the
depth, and serve every net that has such layers. Only neurons whose bounds matter are bounded by rows: those whose sign
intervals leave open, or, of smooth functions, those that are wide.
Source: Zhang et al. 2018, CROWN, arXiv 1811.00866; Xu et al. 2021, α-CROWN, arXiv 2011.13824.
"""

import time
from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np

from axiom_jax._program import Var
from axiom_jax.verification.domains import _layered_steps as steps_
from axiom_jax.verification.domains._layered_bands import (
    Band,
    band_of_rows,
    input_band,
    interval_band,
    interval_of,
    linear_band,
    linear_interval,
    lines_band,
    planes_band,
)
from axiom_jax.verification.domains._layered_rows import (
    Raised,
    Region,
    batch,
    bounded,
    bucket,
    free_inputs,
    has_choices,
    memory,
    raised,
    row_cost,
    slopes_of,
)
from axiom_jax.verification.domains._linear_passing import Planes
from axiom_jax.verification.domains.interval import Interval
from axiom_jax.verification.domains.linear import Plan, environment
from axiom_jax.verification.relax import Lines

Method = Literal["auto", "crown", "forward", "crown-ibp", "interval"]
BUDGET = 10**13  # multiplications: where rows for every site take more, linear functions are carried forwards instead
NARROW = 1e-3  # of the widest of a smooth function's operands: narrower ones are left to intervals


def enclosed(
    plan: Plan,
    values: Sequence[Any],
    lo: Any,
    hi: Any,
    *,
    known: dict[Var, Any] | None = None,
    boxes: dict[Var, Interval] | None = None,
    iterations: int = 0,
    deadline: float | None = None,
    method: Method = "auto",
    finished: set[Var] | None = None,
) -> Region:
    """Bounds of every value over one box of the inputs.

    Args:
        plan: from `plan(program)`.
        values: of the program's parameters.
        lo, hi: (*shape) ends of the one input, or a sequence of them where there are several.
        known: from `linear.environment`, if at hand.
        boxes: what is known already of some values, kept where it is tighter.
        iterations: steps in which the lines of each row are improved (α-CROWN); 0 takes those of least area.
        deadline: on `time.monotonic`; what is not bounded by rows until then is bounded by intervals.
        method: how sites are bounded: "crown" by rows, "forward" by linear functions that are carried forwards,
            "crown-ibp" and "interval" by intervals alone; "auto" is "crown" unless by `row_cost` that takes more
            than `BUDGET`, then the first of the others that takes less.
        finished: sites that no row bounds any more, as their `boxes` are from earlier rows; all that rows have bounded
            by the deadline are added, so that the next call goes on from there.
    """
    inputs = plan.program.inputs
    lows, highs = ([x] if len(inputs) == 1 and not isinstance(x, (list, tuple)) else list(x) for x in (lo, hi))
    given = dict(boxes or {})
    known = environment(plan, values) if known is None else known
    region = Region(plan, steps_.cut(plan), known, {}, {})
    for v, low, high in zip(inputs, lows, highs, strict=True):
        region.boxes[v] = Interval(
            np.asarray(low, v.dtype).reshape(v.shape), np.asarray(high, v.dtype).reshape(v.shape)
        )
    method = _affordable(region, iterations) if method == "auto" else method
    bands = {v: _input_band(region, v) for v in inputs} if method == "forward" else {}
    done, finished = set(inputs), set() if finished is None else finished
    for k, step in enumerate(region.steps):
        for v in step.tightened:
            if method == "crown" and v not in done | finished and v in plan.program.varying:
                done.add(v)
                _tighten(region, v, k, iterations, deadline)
                if deadline is None or time.monotonic() <= deadline:
                    finished.add(v)
        operands = tuple(region.boxes[v] for v in step.inputs)
        results, relaxed = steps_.forward(step.piece, step.kind, region.params(step), operands)
        for v, box in zip(step.outputs, results, strict=True):
            region.boxes[v] = _narrowed(box, given[v]) if v in given else box
        if step.kind not in ("linear", "decides"):
            region.lines[k] = relaxed
        if bands and step.kind != "decides":
            _carry(region, k, bands)
    return region


def work(plan: Plan, lo: Any, hi: Any) -> float:
    """About how many multiplications rows for all sites take over one box of one input, before any is improved."""
    (v,) = plan.program.inputs
    box = Interval(np.asarray(lo, v.dtype).reshape(v.shape), np.asarray(hi, v.dtype).reshape(v.shape))
    return _labour(Region(plan, steps_.cut(plan), {}, {v: box}, {}), 0)


def _labour(region: Region, iterations: int) -> float:
    """Multiplications that rows for the sites take."""
    done, rows = set(region.plan.program.inputs), 0.0
    for k, step in enumerate(region.steps):
        for v in step.tightened:
            if v not in done:
                done.add(v)
                rows += min(
                    2 * v.size * row_cost(region.steps[:k], iterations), _through_operands(region, v, k, iterations)[1]
                )
    return rows


def _affordable(region: Region, iterations: int) -> Method:
    """Rows for the sites, if they can be afforded; else what can."""
    if _labour(region, iterations) <= BUDGET:
        return "crown"
    return "forward" if 8 * free_inputs(region) * row_cost(region.steps) <= BUDGET else "crown-ibp"


def _carry(region: Region, k: int, bands: dict[Var, Band]) -> None:
    """Linear functions around the results of a step, and the intervals that they give."""
    step, relaxed = region.steps[k], region.lines.get(k)
    if step.kind == "linear" and all(v in bands for v in step.inputs):
        found = linear_band(step.piece, region.params(step), tuple(bands[v] for v in step.inputs))
    elif isinstance(relaxed, Lines):
        found = (lines_band(relaxed, bands[step.inputs[step.operand]]),)
    elif isinstance(relaxed, Planes):
        x, y = (bands[step.inputs[step.piece.inputs.index(v)]] for v in step.piece.equations[0].inputs)
        found = (planes_band(step.piece, relaxed, x, y),)
    else:
        free = free_inputs(region)
        found = tuple(interval_band(region.boxes[v], free) for v in step.outputs if v.dtype == np.float32)
    for v, band in zip([v for v in step.outputs if v.dtype == np.float32], found, strict=True):
        bands[v] = band
        region.boxes[v] = _narrowed(region.boxes[v], interval_of(band))


def intermediate(
    plan: Plan,
    values: Sequence[Any],
    lo: Any,
    hi: Any,
    *,
    known: dict[Var, Any] | None = None,
    boxes: dict[Var, Interval] | None = None,
    iterations: int = 0,
    deadline: float | None = None,
) -> dict[Var, Interval]:
    """Bounds of all sites of a plan over one box, as numpy arrays; arguments are those of `enclosed`.

    >>> import jax, jax.numpy as jnp
    >>> from axiom_jax._program import build
    >>> from axiom_jax.verification.domains.linear import plan
    >>> program, values = build(lambda w, x: jax.nn.relu(w @ x), jnp.array([[1.0, -1.0]]), jnp.zeros(2))
    >>> (box,) = intermediate(plan(program), values, -np.ones(2), np.ones(2)).values()
    >>> float(box.lo[0]), float(box.hi[0])
    (-2.0, 2.0)
    """
    found = enclosed(plan, values, lo, hi, known=known, boxes=boxes, iterations=iterations, deadline=deadline).boxes
    return {v: Interval(np.asarray(found[v].lo), np.asarray(found[v].hi)) for v in plan.sites if v in found}


def below(region: Region, rows: dict[Var, Any], *, iterations: int = 0, deadline: float | None = None) -> Raised:
    """Lower bounds of rows times values over a region, with the linear functions and lines that give them.

    Args:
        region: from `enclosed`.
        rows: for some values, (n, *shape) coefficients.
        iterations: steps in which the lines of each row are improved.
    """
    return raised(region, rows, len(region.steps), iterations, deadline, keep=True)


def lowest(
    region: Region, v: Var, ids: Sequence[int], iterations: int, deadline: float | None, grid: float
) -> tuple[np.ndarray, dict[int, np.ndarray]]:
    """Lower bounds of some elements of a value, each with lines of its own that are multiples of 1/grid.

    Returns:
        (elements,) the bounds, −inf where there was no time, and by number of step (choices, elements, *shape) the
        lines chosen.
    """
    upto, count = len(region.steps), len(ids)
    width = bucket(region, count, batch(region, upto, iterations), upto, iterations)
    values: list[np.ndarray] = []
    chosen: list[dict[int, np.ndarray]] = []
    for first in range(0, count, width):
        some = np.asarray(ids[first : first + width])
        rows = np.zeros((width, v.size), np.float32)
        rows[np.arange(len(some)), some] = 1
        start = {v: rows.reshape(width, *v.shape)}
        best = raised(region, start, upto, iterations, deadline, keep=True)
        choices = {k: np.rint(np.asarray(c) * np.float32(grid)) / np.float32(grid) for k, c in best.choices.items()}
        value = best.value if not choices else bounded(region, start, upto, choices)
        values.append(np.asarray(value)[: len(some)])
        chosen.append({k: c[:, : len(some)] for k, c in choices.items()})
    steps = chosen[0].keys() & chosen[-1].keys()  # the same in all, unless time was out
    return np.concatenate(values), {k: np.concatenate([part[k] for part in chosen], 1) for k in steps}


def layered_bounds(
    plan: Plan,
    values: Sequence[Any],
    lo: Any,
    hi: Any,
    *,
    iterations: int = 0,
    deadline: float | None = None,
    method: Method = "auto",
) -> tuple[Interval, ...]:
    """Bounds of every output of a plan over one box, as numpy arrays; arguments are those of `enclosed`.

    >>> import jax, jax.numpy as jnp
    >>> from axiom_jax._program import build
    >>> from axiom_jax.verification.domains.linear import plan
    >>> program, values = build(lambda w, x: jax.nn.relu(w * x) - x, jnp.ones(1), jnp.zeros(1))
    >>> (box,) = layered_bounds(plan(program), values, -np.ones(1), np.ones(1), iterations=20)
    >>> bool(box.lo[0] > -0.01), round(float(box.hi[0]), 2)
    (True, 1.0)
    """
    region = enclosed(plan, values, lo, hi, iterations=iterations, deadline=deadline, method=method)
    found = []
    for v in plan.program.outputs:
        if v not in plan.program.varying:
            found.append(Interval(*(np.asarray(region.known[v]),) * 2))
            continue
        box = region.boxes[v]
        if v.dtype == np.float32 and method != "interval" and v not in plan.program.inputs:
            box = _rows_of(region, v, np.arange(v.size), len(region.steps), iterations, deadline)
        found.append(Interval(np.asarray(box.lo), np.asarray(box.hi)))
    return tuple(found)


def _tighten(region: Region, v: Var, upto: int, iterations: int, deadline: float | None) -> None:
    """Bound by rows the elements of a site whose bounds matter, first with given lines, then with better ones."""
    matters = _matters(region, v)
    for rounds in (0, iterations) if iterations and has_choices(region, upto) else (0,):
        ids = np.flatnonzero(matters(region.boxes[v]))
        if not len(ids):
            return
        made, through = _through_operands(region, v, upto, rounds)
        if through < 2 * len(ids) * row_cost(region.steps[:upto], rounds) / 2:  # it is looser: it has to be worth it
            _by_operands(region, v, made, rounds, deadline)
        else:
            region.boxes[v] = _rows_of(region, v, ids, upto, rounds, deadline)


def _through_operands(region: Region, v: Var, upto: int, iterations: int) -> tuple[int, float]:
    """The step that a site comes from, and what it costs to bound its operands by rows and to go on forwards."""
    made = next(k for k in range(upto) if v in region.steps[k].outputs)
    step = region.steps[made]
    if step.kind != "linear":
        return made, np.inf
    operands = sum(u.size for u in step.inputs if u not in region.plan.program.inputs)
    rows = 2 * operands * row_cost(region.steps[:made], iterations)
    return made, rows + 8 * free_inputs(region) * row_cost(region.steps[made : made + 1])


def _by_operands(region: Region, v: Var, made: int, iterations: int, deadline: float | None) -> None:
    """Bound a site by linear functions of the inputs around the operands of the linear step that it comes from."""
    step, bands = region.steps[made], []
    for u in step.inputs:
        band = _band(region, u, made, iterations, deadline)
        if band is None:
            return
        bands.append(band)
    most = max(memory() // (32 * sum(w.size for eqn in step.piece.equations for w in eqn.outputs)), 1)
    found = linear_interval(step.piece, region.params(step), bands, most)[step.outputs.index(v)]
    region.boxes[v] = _narrowed(region.boxes[v], found)


def _band(region: Region, u: Var, upto: int, iterations: int, deadline: float | None) -> Band | None:
    """Linear functions of the inputs around a value, by rows of all its elements; None after the deadline."""
    if u in region.plan.program.inputs:
        return _input_band(region, u)
    width = max(bucket(region, 2 * u.size, batch(region, upto, iterations), upto, iterations) // 2, 1)
    found = []
    for first in range(0, u.size, width):
        if deadline is not None and time.monotonic() > deadline:
            return None
        ids = np.arange(first, first + width)
        rows = steps_.both_signs(u.shape, np.where(ids < u.size, ids, -1))
        best = raised(region, {u: rows}, upto, iterations, deadline, keep=True)
        if not np.all(np.isfinite(best.value)):
            return None
        count = min(width, u.size - first)
        parts = np.asarray(best.value), np.asarray(slopes_of(region, best.rows))
        found.append([(part[:count], part[width : width + count]) for part in parts])
    value, slopes = (np.concatenate([f[i][0] for f in found] + [f[i][1] for f in found]) for i in (0, 1))
    return band_of_rows(u.shape, value, slopes)


def _input_band(region: Region, v: Var) -> Band:
    before = region.plan.program.inputs[: region.plan.program.inputs.index(v)]
    width = lambda w: np.asarray(region.boxes[w].hi) - np.asarray(region.boxes[w].lo)
    first = sum(int(np.count_nonzero(width(w))) for w in before)
    return input_band(region.boxes[v], first, free_inputs(region))


def _matters(region: Region, v: Var) -> Callable[[Interval], np.ndarray]:
    """Which elements of a site are worth rows: of open sign where only signs count, wide ones elsewhere."""
    users = [step for step in region.steps if v in step.tightened]
    signs = all(step.piece.equations[0].name in ("max", "gt") for step in users)

    def matters(box: Interval) -> np.ndarray:
        lo, hi = np.asarray(box.lo).ravel(), np.asarray(box.hi).ravel()
        if signs:
            return (lo < 0) & (hi > 0)
        width = hi - lo
        widest = width[np.isfinite(width)].max(initial=0)
        return ~(width <= NARROW * widest)

    return matters


def _narrowed(a: Interval, b: Interval) -> Interval:
    """The intersection, on the host; `a` where it is empty by rounding or where `b` is NaN."""
    lo, hi = np.fmax(a.lo, b.lo), np.fmin(a.hi, b.hi)
    empty = lo > hi
    return Interval(np.where(empty, a.lo, lo), np.where(empty, a.hi, hi))


def _rows_of(region: Region, v: Var, ids: np.ndarray, upto: int, iterations: int, deadline: float | None) -> Interval:
    """The interval of a value with both ends of some elements bounded by rows."""
    lo, hi = (np.array(end).ravel() for end in (region.boxes[v].lo, region.boxes[v].hi))
    most = batch(region, upto, iterations)
    width = max(bucket(region, 2 * len(ids), most, upto, iterations) // 2, 1)
    for first in range(0, len(ids), width):
        if deadline is not None and time.monotonic() > deadline:
            break
        some = ids[first : first + width]
        rows = steps_.both_signs(v.shape, np.pad(some, (0, width - len(some)), constant_values=-1))
        found = np.asarray(raised(region, {v: rows}, upto, iterations, deadline).value)
        low, high = found[: len(some)], -found[width : width + len(some)]
        better = _narrowed(Interval(lo[some], hi[some]), Interval(low, high))
        lo[some], hi[some] = better.lo, better.hi
    return Interval(lo.reshape(v.shape), hi.reshape(v.shape))
