"""Which neuron to split, and where: candidates by what their relaxation loses, the best by bounding its two parts.

What a curve costs a bound is how far its line lies from it, times its coefficient in the backward pass: taken at the
point where it is split (for a relu that is the intercept of BaBSR) and at the point that the bound takes for the
worst. The likeliest few are tried: a pass for each part, with the lines of the parent.
Source: Bunel et al. 2020, Branch and bound for piecewise linear neural network verification, JMLR 21 (BaBSR);
De Palma et al. 2021, arXiv 2104.06718 (filtered smart branching); Shi et al. 2024, arXiv 2405.21063 (BBPS).
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from axiom_jax._program import Var
from axiom_jax.verification.domains.interval import Interval
from axiom_jax.verification.domains.linear import enclose
from axiom_jax.verification.search.margins import Spec
from axiom_jax.verification.search.optimised import Batch, Layout, prepared, row_bounds, with_lines

THIN = 1e-6  # a box this thin, relative to its ends, is not split
NEURONS = 1 << 17  # of subproblems whose bounds are differentiated at once, which takes some gigabytes
INSIDE = 0.2  # a curve is split at least this far from both ends of its box, relative to the width


@partial(jax.jit, static_argnums=(0, 6))
def candidates(
    layout: Layout, values: Any, spec: Spec, batch: Batch, weights: dict[int, Any], worst: Any, count: int
) -> tuple[Any, Any, Any]:
    """The neurons whose relaxation costs the bound most, by both scores in turn.

    Args:
        batch: bounded, with what gave the bounds; one row each.
        weights, worst: from `optimised.Tightened`, for the same rows.
        count: how many of each score.

    Returns:
        (batch, 2·count) flat numbers among all sites, -1 where nothing can be split; where to split each; and how
        large its coefficient is.
    """

    def one(one: Batch, weights: dict[int, Any], worst: Any) -> tuple[Any, Any, Any]:
        losses, at, unit = scores(layout, values, spec, one, weights, worst)
        best = [jax.lax.top_k(loss, min(count, layout.neurons)) for loss in losses]
        ids = jnp.stack([ids for _, ids in best], 1).reshape(-1)
        useful = jnp.stack([loss for loss, _ in best], 1).reshape(-1) > -jnp.inf
        return jnp.where(useful, ids, -1), at[ids], unit[ids]

    few = 1 << max(NEURONS // max(layout.neurons, 1), 1).bit_length() - 1
    if not _multiplied(layout) or batch.case.shape[0] <= few:
        return jax.vmap(one)(batch, weights, worst)
    return jax.lax.map(lambda x: one(*x), (batch, weights, worst), batch_size=few)


def scores(
    layout: Layout, values: Any, spec: Spec, one: Batch, weights: dict[int, Any], worst: Any
) -> tuple[tuple[Any, Any], Any, Any]:
    """What the relaxation of every neuron costs the bound of the first row, and where it would be split.

    Args:
        one, weights, worst: as for `candidates`, without the leading axis.

    Returns:
        (loss at the split, loss at the bound's worst point), each (neurons,), −inf where nothing can be split;
        (neurons,) the value to split at; (neurons,) how large the coefficients of their curves are.
    """
    known, _, lines, start = prepared(layout, values, spec, one)
    plan, bent = layout.plan, with_lines(layout, one, lines)
    worst = jnp.clip(worst[0], one.below, one.above)
    width = one.above - one.below
    inner = jnp.clip(worst, one.below + INSIDE * width, one.above - INSIDE * width)
    wide = width > THIN * (1 + jnp.abs(one.below) + jnp.abs(one.above))
    at, unit, none = inner, jnp.zeros(layout.neurons), jnp.full(layout.neurons, -jnp.inf)
    losses = [none, none]
    numbers = {v: k for k, v in enumerate(plan.sites)}
    span = lambda k: slice(layout.offsets[k], layout.offsets[k + 1])
    part = lambda flat, k: flat[span(k)].reshape(plan.sites[k].shape)
    for position in layout.lined:
        eqn, v = plan.varying[position], plan.operand(plan.varying[position])
        if v not in numbers or bent[position] is None:
            continue
        k = numbers[v]
        low, high = weights[position][0][0], -weights[position][1][0]
        unit = unit.at[span(k)].add((low + high).reshape(-1))
        cost = _cost(plan.kind(eqn), eqn, v, known, bent[position], low, high, part(worst, k))
        if eqn.name == "max":
            cut, fits = jnp.zeros(v.shape), (part(one.below, k) < 0) & (part(one.above, k) > 0)
        else:
            cut, fits = part(inner, k), part(wide, k)
        at = at.at[span(k)].set(cut.reshape(-1))
        losses = [_raised(loss, span(k), cost(x), fits) for loss, x in zip(losses, (cut, part(worst, k)), strict=True)]
        if plan.kind(eqn) == "gate" and (g := numbers.get(_decider(layout, eqn.inputs[0]), -1)) >= 0:
            undecided = (part(one.below, g) < 0) & (part(one.above, g) > 0)
            at = at.at[span(g)].set(jnp.where(undecided.reshape(-1), 0.0, at[span(g)]))
            losses = [_raised(loss, span(g), 2 * cost(part(worst, k)), undecided) for loss in losses]
    if multiplied := _multiplied(layout):
        gain = _narrowing(layout, known, one, start)
        for k in multiplied:
            losses = [_raised(loss, span(k), part(gain, k), part(wide, k)) for loss in losses]
    return (losses[0], losses[1]), at, jnp.where(unit > 0, unit, jnp.sqrt((unit**2).mean()) + 1e-6)


def _cost(kind: str, eqn: Any, v: Var, known: Any, lines: Any, low: Any, high: Any, like: Any) -> Any:
    """What lines cost where the operand is x: how far each is from the curve, or both from each other, times its
    coefficient."""
    first = lambda a: a[0] if jnp.ndim(a) > jnp.ndim(like) else a
    below = lambda x: first(lines.below) * x + first(lines.below_at_0)
    above = lambda x: first(lines.above) * x + first(lines.above_at_0)
    if kind != "lines":
        return lambda x: (low + high) * (above(x) - below(x))
    curve = lambda x: eqn.evaluate(*(x if w == v else known[w] for w in eqn.inputs))[0]
    return lambda x: low * (curve(x) - below(x)) + high * (above(x) - curve(x))


def _raised(loss: Any, span: slice, found: Any, fits: Any) -> Any:
    """Losses with those of one site in their places, where the site can be split."""
    return loss.at[span].max(jnp.where(fits, jnp.nan_to_num(found), -jnp.inf).reshape(-1))


def _decider(layout: Layout, condition: Var) -> Var:
    """The value whose sign a condition of a gate is."""
    return next(eqn.inputs[0] for eqn in layout.plan.varying if eqn.output == condition)


def _multiplied(layout: Layout) -> list[int]:
    """Sites that are operands of products of two variables."""
    plan = layout.plan
    operands = {v for eqn in plan.varying if plan.kind(eqn) == "product" for v in eqn.inputs}
    return [k for k, v in enumerate(plan.sites) if v in operands]


def _narrowing(layout: Layout, known: Any, one: Batch, start: Any) -> Any:
    """(neurons,) to first order, how much the bound gains if a neuron's box shrinks to its middle from both ends."""
    (x,) = layout.plan.program.inputs

    def bound(below: Any, above: Any) -> Any:
        ends = layout.parts(below), layout.parts(above)
        given = {v: Interval(ends[0][v], ends[1][v]) for v in layout.plan.sites} | {x: Interval(one.lo, one.hi)}
        boxes, lines = enclose(layout.plan, known, given, tighten=False)
        return row_bounds(layout, known, boxes, lines, one, start)[0][0]

    rise, fall = jax.grad(bound, argnums=(0, 1))(one.below, one.above)
    return jnp.nan_to_num((jnp.maximum(rise, 0) + jnp.maximum(-fall, 0)) * (one.above - one.below) / 2)
