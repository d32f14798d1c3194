"""Bounds of a batch of subproblems by one backward pass each, made better by Adam on what that pass may choose.

Free are the lines of every curve (for a relu the slope of its lower line, α) and one multiplier for every neuron that
was split (β), for each row of its own. The boxes of neurons are given. Every choice gives a sound bound, so the best
one seen is kept. One multiplier serves both ends of a neuron's box: positive it is that of z ≥ lo, negative that of
z ≤ hi; both at once would only lose, and without the end that no split has moved a part could be worse than its whole.
Source: Xu et al. 2021, α-CROWN, arXiv 2011.13824; Wang et al. 2021, β-CROWN, arXiv 2103.06624; Shi et al. 2024,
neural network verification with branch and bound for general nonlinearities, arXiv 2405.21063.
"""

from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from axiom_jax._program import Program, Var
from axiom_jax.verification.domains.interval import Interval
from axiom_jax.verification.domains.linear import Plan, backward, enclose, environment
from axiom_jax.verification.relax import Lines
from axiom_jax.verification.relax._lines import adjustable, relaxation_at, relaxation_start
from axiom_jax.verification.search.margins import Question, Spec, with_atoms

RATES = (0.3, 4.0, 0.95)  # Adam's first steps, of lines in [0, 1], of multipliers in their units; what each leaves
MOMENTUM, INERTIA = 0.7, 0.9  # of Adam's two moments: short, since lines and multipliers start from good ones


@dataclass(frozen=True)
class Layout:
    """Where the neurons and the free lines of a plan lie in flat vectors; hashable, a static argument.

    Args:
        plan: of margins. program: the same before lowering, for points. slots: of the atoms among the parameters.
    """

    plan: Plan
    program: Program
    slots: tuple[int, ...]

    @cached_property
    def offsets(self) -> tuple[int, ...]:
        """First flat number of each site's neurons; one more entry, the count of all."""
        return tuple(int(n) for n in np.cumsum([0, *(v.size for v in self.plan.sites)]))

    @property
    def neurons(self) -> int:
        return self.offsets[-1]

    @cached_property
    def free(self) -> tuple[tuple[int, int, int], ...]:
        """(position in `plan.varying`, choices a neuron, first flat number) of every equation with free lines."""
        found, at = [], 0
        for position, eqn in enumerate(self.plan.varying):
            if self.plan.kind(eqn) == "lines" and eqn.name in adjustable:
                count = 1 if eqn.name == "max" else 2  # the upper line of a relu is its chord
                found.append((position, count, at))
                at += count * self.plan.operand(eqn).size
        return tuple(found)

    @property
    def choices(self) -> int:
        """How many numbers choose all lines."""
        return sum(count * self.plan.operand(self.plan.varying[p]).size for p, count, _ in self.free)

    @cached_property
    def all_free(self) -> bool:
        """Whether every nonlinear equation has free lines."""
        return sum(self.plan.kind(eqn) not in ("linear", "decides") for eqn in self.plan.varying) == len(self.free)

    @cached_property
    def lined(self) -> tuple[int, ...]:
        """Positions of the equations that lines replace, of one operand each."""
        kinds = {p: self.plan.kind(eqn) for p, eqn in enumerate(self.plan.varying)}
        free = {p for p, _, _ in self.free}
        return tuple(p for p, kind in kinds.items() if p in free or kind in ("lines", "curve", "gate"))

    def parts(self, flat: Any) -> dict[Var, Any]:
        """(..., neurons) as arrays (..., *shape) by site."""
        return {
            v: flat[..., self.offsets[k] : self.offsets[k + 1]].reshape((*flat.shape[:-1], *v.shape))
            for k, v in enumerate(self.plan.sites)
        }


def layout(question: Question) -> Layout:
    return Layout(question.plan, question.program, question.slots)


GRID = 255.0  # choices are multiples of 1/255: certificates hold a byte of each


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Batch:
    """Subproblems, ready for a device; float32 but where said otherwise.

    Args:
        case: (batch,) int. atoms: (batch, rows) int, the atoms to bound; -1 is padding.
        lo, hi: (batch, inputs). below, above: (batch, neurons) boxes of all sites, clipped by splits.
        cut: (batch, neurons) bool, which neurons are split. unit: (batch, neurons) of the steps of their multipliers.
        choice: (batch, rows, choices) in [0, 1]. multiplier: (batch, rows, neurons).
    """

    case: Any
    atoms: Any
    lo: Any
    hi: Any
    below: Any
    above: Any
    cut: Any
    unit: Any
    choice: Any
    multiplier: Any


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Tightened:
    """The best bounds found.

    Args:
        value: (batch, rows) lower bounds of margins; −inf for padding.
        choice, multiplier: what gave them.
        weights: by position of an equation with lines, two arrays (batch, rows, *shape): how much a bound moves with
            the offsets of its lower and its upper line, the two parts of the coefficients of its result.
        worst: (batch, rows, neurons) where every neuron is at the point that the bound takes for the worst.
        point: (batch, inputs) where the linear function of the best row is least. reached: (batch,) the largest margin
            there among the atoms; ≤ 0: unsafe.
        steps: how many steps were taken.
    """

    value: Any
    choice: Any
    multiplier: Any
    weights: dict[int, Any]
    worst: Any
    point: Any
    reached: Any
    steps: Any


def row_bounds(
    layout: Layout,
    known: Any,
    boxes: Any,
    lines: Any,
    one: Batch,
    start: Any,
    shift: dict[int, Any] | None = None,
    probe: Any = 0.0,
) -> tuple[Any, Any]:
    """Lower bounds (rows,) of some rows of margins over one subproblem, and their coefficients of the input.

    Args:
        boxes, lines: from `prepared`. one: a subproblem without the leading axis. start: (rows, atoms).
        shift: by position of an equation with lines, (2, rows, *shape) added to the offsets of its lines.
        probe: (rows, neurons) added to the coefficients of all sites.
    """
    plan, lines = layout.plan, with_lines(layout, one, lines)
    for position, (low, high) in (shift or {}).items():
        if not isinstance(found := lines[position], Lines):
            continue
        lines[position] = Lines(found.below, found.below_at_0 + low, found.above, found.above_at_0 + high)
    begin: dict[Var, Any] = {plan.program.outputs[0]: start}
    lower, upper = jnp.where(one.cut, one.below, 0.0), jnp.where(one.cut, one.above, 0.0)
    constant = (jnp.maximum(one.multiplier, 0) * lower + jnp.minimum(one.multiplier, 0) * upper).sum(-1)
    for v, part in layout.parts(one.multiplier - probe).items():
        begin[v] = begin[v] - part if v in begin else -part
    found = backward(plan, known, boxes, lines, begin, len(plan.varying))
    return found.value + constant, found.rows[0]


def with_lines(layout: Layout, one: Batch, lines: dict[int, Any]) -> dict[int, Any]:
    """Lines of everything, those with a free choice as a subproblem chooses them for each of its rows."""
    lines, rows = dict(lines), one.choice.shape[0]
    ends = layout.parts(one.below), layout.parts(one.above)
    for position, count, at in layout.free:
        eqn = layout.plan.varying[position]
        v = layout.plan.operand(eqn)
        t = one.choice[:, at : at + count * v.size].reshape(rows, count, *v.shape)
        t = jnp.moveaxis(t, 1, 0)
        t = jnp.concatenate([t, jnp.zeros_like(t)]) if count == 1 else t
        lines[position] = relaxation_at(eqn.name)(ends[0][v], ends[1][v], t, **eqn.params)
    return lines


def prepared(layout: Layout, values: Any, spec: Spec, one: Batch) -> tuple[Any, Any, Any, Any]:
    """What stays the same while lines are chosen: constants, boxes, lines without a choice, rows to start with."""
    known = environment(layout.plan, with_atoms(values, layout.slots, spec, one.case))
    ends = layout.parts(one.below), layout.parts(one.above)
    given = {v: Interval(ends[0][v], ends[1][v]) for v in layout.plan.sites}
    (x,) = layout.plan.program.inputs
    box = Interval(one.lo, one.hi)
    if x in given:
        box = Interval(jnp.maximum(box.lo, given[x].lo), jnp.minimum(box.hi, given[x].hi))
    boxes, lines = {x: box}, {}
    if not layout.all_free:  # whatever is not used of this is never computed
        boxes, lines = enclose(layout.plan, known, given | {x: box}, tighten=False)
    start = jax.nn.one_hot(one.atoms, layout.plan.program.outputs[0].size, dtype=jnp.float32)
    return known, boxes, lines, start


@partial(jax.jit, static_argnums=0)
def optimise(
    layout: Layout, values: Any, spec: Spec, batch: Batch, steps: Any, enough: Any, rates: Any = RATES
) -> Tightened:
    """Bounds of subproblems, improved by gradient ascent.

    Args:
        steps: at most so many; 0 bounds with what the batch gives.
        enough: (batch,) a subproblem whose best row is above this needs no more. rates: as `RATES`.

    Returns:
        For every row the best bound seen, never below that of the batch's own choice.
    """
    count, rows = batch.atoms.shape
    scale = jnp.where(batch.cut, batch.unit, 0.0)[:, None]

    def one(one: Batch, shift: Any, probe: Any) -> tuple[Any, Any]:
        known, boxes, lines, start = prepared(layout, values, spec, one)
        return row_bounds(layout, known, boxes, lines, one, start, shift, probe)

    def loss(free: tuple[Any, Any], still: tuple[Any, Any]) -> tuple[Any, tuple[Any, Any]]:
        rounded = free[0] + jax.lax.stop_gradient(jnp.round(free[0] * GRID) / GRID - free[0])
        value, rows = jax.vmap(one)(replace(batch, choice=rounded, multiplier=free[1]), *still)
        value = jnp.where(batch.atoms >= 0, value, -jnp.inf)
        return jnp.where(jnp.isfinite(value), value, 0).sum(), (value, rows)

    ascent = jax.value_and_grad(loss, argnums=(0, 1), has_aux=True)
    shape = {p: layout.plan.varying[p].output.shape for p in layout.lined}
    still = {p: 2 * (jnp.zeros((count, rows, *s)),) for p, s in shape.items()}, jnp.zeros((count, rows, layout.neurons))

    def step(state: Any) -> Any:
        i, free, first, second, best, kept, _ = state
        (_, (value, coefficients)), (slope, (weights, worst)) = ascent(free, still)
        better = value > best
        pick = lambda new, old: jnp.where(better.reshape(*better.shape, *[1] * (new.ndim - 2)), new, old)
        kept = jax.tree.map(pick, (*free, weights, worst, coefficients), kept)
        pace = rates[0] * rates[2] ** i, rates[1] * rates[2] ** i * scale
        slope = jax.tree.map(lambda g: jnp.nan_to_num(g, posinf=0.0, neginf=0.0), slope)
        first = jax.tree.map(lambda m, g: MOMENTUM * m + (1 - MOMENTUM) * g, first, slope)
        second = jax.tree.map(lambda m, g: INERTIA * m + (1 - INERTIA) * g * g, second, slope)
        unbiased = lambda moment, rate: moment / (1 - rate ** (i + 1))
        move = lambda x, m, s, rate: x + rate * unbiased(m, MOMENTUM) / (jnp.sqrt(unbiased(s, INERTIA)) + 1e-12)
        moved = tuple(move(*parts) for parts in zip(free, first, second, pace, strict=True))
        free, best = (jnp.clip(moved[0], 0, 1), moved[1]), jnp.maximum(value, best)
        return i + 1, free, first, second, best, kept, jnp.all(best.max(1) > enough)

    free = (batch.choice, jnp.where(batch.cut[:, None], batch.multiplier, 0.0))
    zero = jax.tree.map(jnp.zeros_like, free)
    best = jnp.full(batch.atoms.shape, -jnp.inf)
    kept = (*free, *still, jnp.zeros((count, rows, batch.lo.shape[1])))
    state = (jnp.int32(0), free, zero, zero, best, kept, jnp.bool_(False))
    i, _, _, _, best, kept, _ = jax.lax.while_loop(lambda s: (s[0] <= steps) & ~s[6], step, state)
    choice, multiplier, weights, worst, coefficients = kept
    picked = jnp.take_along_axis(coefficients, jnp.argmax(best, 1)[:, None, None], 1)[:, 0]
    point = jnp.where(picked > 0, batch.lo, batch.hi)
    found = reached(layout, values, spec, batch, point)
    return Tightened(best, jnp.round(choice * GRID) / GRID, multiplier, weights, worst, point, found, i)


@partial(jax.jit, static_argnums=0)
def split_bounds(
    layout: Layout, values: Any, spec: Spec, batch: Batch, weights: dict[int, Any], neuron: Any, at: Any
) -> tuple[Any, Any]:
    """Bounds of both parts of subproblems of one row each, z ≤ at and z ≥ at, with the lines of the whole.

    With a multiplier that makes up for the steeper or flatter line of the part, the bound would be that of the whole;
    with none the neuron is as free as it is exact. Taken is the best of none and halfway.

    Args:
        weights: from `Tightened`. neuron: (batch,) flat number among all sites. at: (batch,) where it is split.

    Returns:
        (batch, 2) bounds, and (batch, 2) multipliers of the neuron that gave them.
    """

    def row(one: Batch, lines: dict[int, Any], weights: dict[int, Any]) -> Any:
        """(neurons,) coefficients that the sites get from the lines of what they enter."""
        bent, flat = with_lines(layout, one, lines), jnp.zeros(layout.neurons)
        numbers = {v: k for k, v in enumerate(layout.plan.sites)}
        for position in layout.lined:
            v = layout.plan.operand(layout.plan.varying[position])
            if v in numbers and isinstance(found := bent[position], Lines):
                k, (low, high) = numbers[v], weights[position]
                part = (low * found.below + high * found.above)[0].reshape(-1)
                flat = flat.at[layout.offsets[k] : layout.offsets[k + 1]].add(part)
        return flat

    def both(one: Batch, weights: dict[int, Any], neuron: Any, at: Any) -> tuple[Any, Any]:
        here = jnp.arange(layout.neurons) == neuron
        whole = row(one, prepared(layout, values, spec, one)[2], weights)[neuron]

        def part(below: Any, above: Any) -> tuple[Any, Any]:
            child = replace(one, below=below, above=above, cut=one.cut | here)
            known, boxes, lines, start = prepared(layout, values, spec, child)
            makes_up = row(child, lines, weights)[neuron] - whole

            def bound(share: Any) -> tuple[Any, Any]:
                multiplier = one.multiplier + jnp.where(here, share * makes_up, 0.0)
                value = row_bounds(layout, known, boxes, lines, replace(child, multiplier=multiplier), start)[0][0]
                return value, multiplier[0, neuron]

            value, multiplier = jax.vmap(bound)(jnp.array([0.0, 0.5]))
            best = jnp.argmax(value)
            return value[best], multiplier[best]

        below = jnp.stack([one.below, jnp.where(here, jnp.maximum(one.below, at), one.below)])
        above = jnp.stack([jnp.where(here, jnp.minimum(one.above, at), one.above), one.above])
        return jax.vmap(part)(below, above)

    return jax.vmap(both)(batch, weights, neuron, at)


def reached(layout: Layout, values: Any, spec: Spec, batch: Batch, points: Any) -> Any:
    """(batch,) the largest margin among the atoms of a subproblem at a point; ≤ 0: its disjunct holds there."""

    def one(case: Any, atoms: Any, x: Any) -> Any:
        margins = layout.program.evaluate(with_atoms(values, layout.slots, spec, case), x)[0]
        return jnp.where(atoms >= 0, margins[atoms], -jnp.inf).max()

    return jax.vmap(one)(batch.case, batch.atoms, points)


@partial(jax.jit, static_argnums=0)
def first_choice(layout: Layout, below: Any, above: Any) -> Any:
    """(batch, choices) the lines of least area over boxes (batch, neurons), to start with."""

    def one(below: Any, above: Any) -> Any:
        ends = layout.parts(below), layout.parts(above)
        found = [jnp.zeros(0)]
        for position, count, _ in layout.free:
            eqn = layout.plan.varying[position]
            v = layout.plan.operand(eqn)
            t = relaxation_start(eqn.name)(ends[0][v], ends[1][v], **eqn.params)
            found.append(t[:count].reshape(-1).astype(jnp.float32))
        return jnp.concatenate(found)

    return jax.vmap(one)(below, above)
