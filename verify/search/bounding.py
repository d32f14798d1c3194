"""One jitted step of branch and bound: bound a batch of boxes, say where to split, try two points in each.

Neurons that the parent's bounds settle are not bounded again: only so many rows go backward as a batch has unstable
neurons. Where to split is told by the derivative of the bound by the ends of the box, taken through the last backward
pass and the linear bounds of the neurons, not through their own passes: nearly as good as all of it, at a tenth of it.
What the lower linear function of an atom keeps positive can be cut off the box.
Source: scores after Bunel et al. 2020, arXiv 1909.06588; clipping after Zhou et al. 2025, Clip-and-Verify.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from axiom_jax._program import Program, Var
from axiom_jax.verification.domains._layered_steps import QUICK
from axiom_jax.verification.domains.interval import Interval
from axiom_jax.verification.domains.linear import ROWS, Plan, backward, environment, propagate, refined
from axiom_jax.verification.search.chain import Chain, affine_maps, evaluate, first_margins, stacked
from axiom_jax.verification.search.chain import margins_below as chain_below
from axiom_jax.verification.search.margins import Question, Spec, with_atoms

ALL_ROWS = 1 << 30  # of a site
AT_ONCE = 1 << 31  # all rows, by a program that is compiled with little effort: it takes three times as long
DESCENTS = 6  # steps from the points that are tried in every box
CLIPS = 3  # times that a box is clipped: an end that one atom moves in lets others move further
WORTH = 0.05  # what is cut off a side must be this part of it
KEPT = 4096  # neurons whose bounds are handed from a box to its halves


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Bounded:
    """What is known of each box of a batch.

    Args:
        value: (boxes,) lower bound of the property's margin; > 0: safe.
        choice: (boxes, disjuncts) the atom that is refuted best, by its number among the case's atoms.
        score: (boxes, inputs) how much halving each input promises; −1 where it cannot be halved.
        point: (boxes, inputs) float32 candidate. point_value: (boxes,) its margin; ≤ 0: unsafe.
        low, high: (boxes, clips, inputs) the part of every side, as fractions of its width, that may hold unsafe
            points; one after the other, each within the one before.
        cut: (boxes, clips, 2, inputs, disjuncts) the atoms that are refuted below `low`, and above `high`.
        rest, rest_choice: value and choice for what is left after the last clip.
        sites: (boxes, 2, neurons) lower and upper bounds of what enters nonlinear equations, in the order of
            `plan.sites`; (boxes, 2, 0) where they are not kept.
        unstable: (boxes,) the most neurons of one site whose sign is open.
    """

    value: Any
    choice: Any
    score: Any
    point: Any
    point_value: Any
    low: Any
    high: Any
    cut: Any
    rest: Any
    rest_choice: Any
    sites: Any
    unstable: Any


@dataclass(frozen=True)
class Bounding:
    """How the boxes of a question are bounded: by loops over a chain of layers, or by passes written out.

    Args:
        question: what is asked. chain: its layers; None where it is no chain.
        neurons: numbers on either side that `Bounded.sites` keeps; 0 for none.
        network: the affine maps between its relus, if it has no other operations.
    """

    question: Question
    chain: Chain | None
    neurons: int
    network: Any = None

    def __call__(
        self, case: np.ndarray, lo: np.ndarray, hi: np.ndarray, width: int, sites: np.ndarray, rows: int, slack: float
    ) -> Bounded:
        """Bound boxes, padded to `width` so that few shapes are compiled; the result is cut back and on the host.

        Args:
            case: (boxes,) number of the case of each box.
            lo, hi: (boxes, inputs) float64.
            width: boxes of one call, at least as many as are given.
            sites: (boxes, 2, neurons) bounds that hold in each box already (infinite at first).
            rows: neurons of each site that are bounded by backward passes, those first whose sign is most open;
                or `AT_ONCE`.
            slack: what a margin must clear 0 by, relative to the thresholds, before it counts as safe.
        """
        count = len(case)
        pad = lambda a: np.concatenate([a, np.repeat(a[:1], width - count, 0)]) if count < width else a
        boxes = (pad(a) for a in (case, *outward(lo, hi), sites))
        result = self.step(rows)(*boxes, np.float32(slack))
        return jax.tree.map(lambda a: np.asarray(a)[:count], jax.device_get(result))

    def first_value(self, case: int, lo: np.ndarray, hi: np.ndarray) -> tuple[float, tuple[int, ...]] | None:
        """Value and choice (see `Bounded`) of one box at once, without compiling anything; None where that is not
        possible."""
        if self.network is None:
            return None
        member = np.asarray(self.question.spec.member[case])
        margins = np.where(member, first_margins(self.network, case, lo, hi), -np.inf)
        value = margins.max(1)[member.any(1)].min()
        return float(value), tuple(margins.argmax(1).tolist())

    def step(self, rows: int) -> Any:
        """The jitted function of (case, lo, hi, sites, slack); what it compiles serves questions of equal shapes."""
        asked, of = self.question, self.constants
        if self.chain is not None:
            return partial(_chain_step, min(rows, self.chain.weights.shape[1]), self.chain, *of)
        most = max((v.size for v in asked.plan.sites), default=1)
        passes = _step_at_once if rows == AT_ONCE else _step
        return partial(passes, asked.plan, asked.program, asked.slots, min(rows, most), asked.values, *of)

    @property
    def first_rows(self) -> int:
        """The program to begin with: loops over a chain are short enough to be compiled well at once."""
        return AT_ONCE if self.chain is None else ALL_ROWS

    @property
    def constants(self) -> tuple[Any, ...]:
        """Spec, 1 / side of the region, and the ends of the deployed domain."""
        relative = (1.0 / np.maximum(self.question.hi - self.question.lo, 1e-30)).astype(np.float32)
        return self.question.spec, relative, self.question.float32_lo, self.question.float32_hi

    def key(self, width: int, rows: int) -> tuple[Any, ...]:
        """Equal where the same program serves."""
        shapes = tuple(np.shape(a) for a in jax.tree.leaves((self.chain, self.constants)))
        return (shapes, width, rows, None if self.chain is not None else self.question.plan)


def bounding(question: Question) -> Bounding:
    """How to bound the boxes of a question."""
    network = affine_maps(question)
    chain = stacked(question, network) if network is not None else None
    neurons = chain.neurons if chain is not None else sum(v.size for v in question.plan.sites)
    return Bounding(question, chain, neurons if neurons <= KEPT or chain is not None else 0, network)


def bound(question: Question, case: np.ndarray, lo: np.ndarray, hi: np.ndarray, width: int) -> Bounded:
    """Bound boxes of which nothing is known, `width` in one call at most; see `Bounding`."""
    nothing = np.zeros((len(case), 2, 0), np.float32)
    return Bounding(question, None, 0)(case, lo, hi, width, nothing, AT_ONCE, 0.0)


def outward(lo: np.ndarray, hi: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The smallest float32 box around a float64 one."""
    down, up = lo.astype(np.float32), hi.astype(np.float32)
    down = np.where(down > lo, np.nextafter(down, np.float32(-np.inf)), down)
    return down, np.where(up < hi, np.nextafter(up, np.float32(np.inf)), up)


@partial(jax.jit, static_argnums=0)
def _chain_step(
    rows: int, chain: Chain, spec: Spec, relative: Any, domain_lo: Any, domain_hi: Any,
    case: Any, lo: Any, hi: Any, sites: Any, slack: Any,
) -> Bounded:  # fmt: skip
    return chain_bounded(rows, chain, spec, relative, domain_lo, domain_hi, case, lo, hi, sites, slack)


def chain_bounded(
    rows: int, chain: Chain, spec: Spec, relative: Any, domain_lo: Any, domain_hi: Any,
    case: Any, lo: Any, hi: Any, sites: Any, slack: Any,
) -> Bounded:  # fmt: skip
    """All of it for a batch of boxes of a chain; traceable."""
    judge = jax.vmap(spec.value)
    margins, linear, found, unstable, gain = chain_below(
        chain, case, lo, hi, sites, rows, lambda margins: judge(margins, case)
    )
    one = partial(_judged, spec, relative, domain_lo, domain_hi, slack)
    value, choice, score, points, low, high, cut, rest, rest_choice = jax.vmap(one)(case, lo, hi, margins, linear, gain)
    ends = jnp.clip(lo, domain_lo[case], domain_hi[case]), jnp.clip(hi, domain_lo[case], domain_hi[case])
    point, reached = _descended(lambda x: judge(evaluate(chain, case, x), case), points, *ends)
    return Bounded(value, choice, score, point, reached, low, high, cut, rest, rest_choice, found, unstable)


def _descended(value: Any, points: Any, lo: Any, hi: Any) -> tuple[Any, Any]:
    """The best point of each box, and its value, after steps down the sign of the gradient from several ones.

    Args:
        value: (boxes, inputs) -> (boxes,). points: (boxes, starts, inputs). lo, hi: (boxes, inputs) to stay in.
    """
    starts = points.shape[1]
    repeat = lambda a: jnp.repeat(a, starts, 0)
    low, high, many = repeat(lo), repeat(hi), points.reshape(-1, points.shape[-1])

    def all_of(x: Any) -> Any:
        split = x.reshape(-1, starts, x.shape[-1])
        return jnp.stack([value(split[:, i]) for i in range(starts)], 1).reshape(-1)

    def step(i: Any, state: tuple[Any, Any, Any]) -> tuple[Any, Any, Any]:
        x, best, least = state
        reached, pull = jax.vjp(all_of, x)
        better = reached < least
        best, least = jnp.where(better[:, None], x, best), jnp.where(better, reached, least)
        down = jnp.sign(pull(jnp.ones_like(reached))[0])
        return jnp.clip(x - 0.5 ** (i + 1.0) * (high - low) * down, low, high), best, least

    start = (many, many, jnp.full(len(many), jnp.inf, many.dtype))
    _, best, least = jax.lax.fori_loop(0, DESCENTS, step, start)
    least = least.reshape(-1, starts)
    which = jnp.argmin(least, 1)[:, None]
    point = jnp.take_along_axis(best.reshape(-1, starts, best.shape[-1]), which[:, :, None], 1)[:, 0]
    return point, jnp.take_along_axis(least, which, 1)[:, 0]


def _all_passes(
    plan: Plan, program: Program, slots: tuple[int, ...], rows: int, values: Any, spec: Spec, relative: Any,
    domain_lo: Any, domain_hi: Any, case: Any, lo: Any, hi: Any, sites: Any, slack: Any,
) -> Bounded:  # fmt: skip
    def one(case: Any, lo: Any, hi: Any, sites: Any) -> Bounded:
        given = with_atoms(values, slots, spec, case)

        def objective(lo: Any, hi: Any) -> tuple[Any, Any]:
            margins, *rest = margins_below(plan, given, lo, hi, sites, rows)
            return spec.value(margins, case), (margins, *rest)

        slopes, (margins, linear, found, unstable) = jax.grad(objective, (0, 1), has_aux=True)(lo, hi)
        gain = jnp.abs(slopes[0]) + jnp.abs(slopes[1])
        value, choice, score, points, low, high, cut, rest, rest_choice = _judged(
            spec, relative, domain_lo, domain_hi, slack, case, lo, hi, margins, linear, gain
        )
        reached = jax.vmap(lambda x: spec.value(program.evaluate(given, x)[0], case))(points)
        better = jnp.argmin(reached)
        point, least = points[better], reached[better]
        return Bounded(value, choice, score, point, least, low, high, cut, rest, rest_choice, found, unstable)

    return jax.vmap(one)(case, lo, hi, sites)


_step = jax.jit(_all_passes, static_argnums=(0, 1, 2, 3))
_step_at_once = jax.jit(_all_passes, static_argnums=(0, 1, 2, 3), compiler_options=QUICK)


def _judged(
    spec: Spec, relative: Any, domain_lo: Any, domain_hi: Any, slack: Any,
    case: Any, lo: Any, hi: Any, margins: Any, linear: Any, gain: Any,
) -> tuple[Any, ...]:  # fmt: skip
    """What the bounds of one box say: value, choice, score, points to try, low, high, cut, rest, rest_choice."""
    member, threshold = spec.member[case], spec.threshold[case]
    slack = slack * (1 + jnp.abs(threshold).max())
    choose = lambda margins: jnp.argmax(jnp.where(member, margins, -jnp.inf), 1)
    per_disjunct, choice = spec.disjuncts(margins, case), choose(margins)
    part = jnp.zeros_like(lo), jnp.ones_like(lo)  # what is left of the box, as fractions of its sides
    left, parts, cuts = margins, [], []
    for _ in range(CLIPS):
        part, cut = _clip(left, linear, hi - lo, part, slack, member, choose(left))
        trimmed = jnp.where(linear > 0, part[0], 1 - part[1])
        left = margins + (jnp.abs(linear) * (hi - lo) * trimmed).sum(1) * (1 - 1e-5)
        parts.append(part)
        cuts.append(cut)
    low, high = (jnp.stack(ends) for ends in zip(*parts, strict=True))
    gain = jnp.nan_to_num(gain, posinf=0.0) * (hi - lo)
    score = jnp.where(hi > lo, jnp.where(gain > 0, gain, (hi - lo) * relative[case] * 1e-30), -1.0)
    worst = linear[choice[jnp.argmin(per_disjunct)]]
    middle, corner = (lo + hi) / 2, jnp.where(worst > 0, lo, hi)
    points = jnp.clip(jnp.stack([middle, corner]), domain_lo[case], domain_hi[case])
    rest = spec.disjuncts(left, case).min()
    return per_disjunct.min(), choice, score, points, low, high, jnp.stack(cuts), rest, choose(left)


def _clip(
    margins: Any, linear: Any, side: Any, part: tuple[Any, Any], slack: Any, member: Any, choice: Any
) -> tuple[tuple[Any, Any], Any]:
    """Where in a part of a box a disjunct's atoms can all be ≤ slack, judged one input and one atom at a time.

    Over the part an atom is at least its margin + |slope| · distance from the corner of its minimum.

    Args:
        margins: (atoms,) lower bounds over the part. linear: (atoms, inputs) slopes. side: (inputs,) of the box.
        part: lower and upper ends of the part, (inputs,) each, as fractions of the box.
        choice: (disjuncts,) the best atoms.

    Returns:
        the ends of what is left of the part; (2, inputs, disjuncts) the atoms that are refuted below and above it.
    """
    low, high = part
    steep = jnp.abs(linear) * side
    reach = (slack - margins)[:, None] / jnp.where(steep > 0, steep, 1) * (1 + 1e-5) + 1e-6
    reach = jnp.where(steep > 0, jnp.maximum(reach, 0), jnp.inf)
    above = jnp.where(linear > 0, low + reach, jnp.inf)
    below = jnp.where(linear < 0, high - reach, -jnp.inf)

    def tightest(ends: Any, worst: float, of: Any, which: Any) -> tuple[Any, Any]:
        """(disjuncts, inputs) the tightest end that an atom of a disjunct gives, and the atom."""
        masked = jnp.where(member[:, :, None], ends, worst)
        return of(masked, 1), which(masked, 1)

    open_ = (member.any(1) & (jnp.where(member, margins, -jnp.inf).max(1) <= slack))[:, None]
    low_ends, low_atoms = tightest(below, -jnp.inf, jnp.max, jnp.argmax)
    high_ends, high_atoms = tightest(above, jnp.inf, jnp.min, jnp.argmin)
    any_open = open_.any()
    left_low = jnp.where(any_open, jnp.where(open_, low_ends, jnp.inf).min(0), low)  # over all open disjuncts
    left_high = jnp.where(any_open, jnp.where(open_, high_ends, -jnp.inf).max(0), high)
    new_low = jnp.clip(left_low, low, high)
    new_high = jnp.clip(left_high, new_low, high)
    new_low = jnp.where(new_low - low >= WORTH * (high - low), new_low, low)
    new_high = jnp.where(high - new_high >= WORTH * (high - low), new_high, high)
    cut = jnp.stack([jnp.where(open_, atoms, choice[:, None]).T for atoms in (low_atoms, high_atoms)])
    return (new_low, new_high), cut


def margins_below(
    plan: Plan, params: Sequence[Any], lo: Any, hi: Any, sites: Any, rows: int
) -> tuple[Any, Any, Any, Any]:
    """Lower bounds of the first output over one box, with what its neurons are known to lie in.

    To be differentiated by lo and hi: derivatives are taken through the last backward pass and the linear functions
    that bound the neurons; how those functions turn with the box is left out.

    Args:
        params: values of the program's parameters. lo, hi: (inputs,) float32.
        sites: (2, neurons) bounds that hold already, or (2, 0). rows: as `bound` says.

    Returns:
        value: (outputs,). linear: (outputs, inputs) slopes of the linear functions that give it.
        sites: (2, neurons) the bounds found, or (2, 0). unstable: the most neurons of one site whose sign is open.
    """
    known, (x,) = environment(plan, params), plan.program.inputs
    boxes: dict[Var, Interval] = {x: Interval(lo, hi)}
    lines: dict[int, Any] = {}
    given = unpacked(plan, sites)
    found: dict[Var, Interval] = {}
    unstable = jnp.int32(0)
    for position, eqn in enumerate(plan.varying):
        kind = plan.kind(eqn)
        for v in plan.tightened(eqn):
            if v in found or v == x:
                continue
            start = refined(given[v], boxes[v], False) if given else boxes[v]
            signs = eqn.name in ("max", "gt") or kind == "gate"
            keep_stable = eqn.name in ("max", "gt") and not plan.refine_stable
            boxes[v] = _tightened(plan, known, boxes, lines, v, position, start, rows if signs else v.size, keep_stable)
            found[v] = jax.lax.stop_gradient(boxes[v])
            if signs:
                unstable = jnp.maximum(unstable, jnp.sum((found[v].lo < 0) & (found[v].hi > 0)).astype(jnp.int32))
        results, replaced = propagate(plan, kind, eqn, known, boxes)
        boxes.update(zip(eqn.outputs, results, strict=True))
        if kind not in ("linear", "decides"):
            lines[position] = replaced
    output = plan.program.outputs[0]
    start = {output: jnp.eye(output.size, dtype=jnp.float32).reshape(output.size, *output.shape)}
    last = backward(plan, known, boxes, lines, start, len(plan.varying))
    value = jnp.where(jnp.isnan(last.value), -jnp.inf, last.value)
    packed = sites
    if given:
        flat = [found[v] if v in found else boxes[v] for v in plan.sites]
        packed = jnp.stack([jnp.concatenate([getattr(b, end).ravel() for b in flat]) for end in ("lo", "hi")])
    return value, jax.lax.stop_gradient(last.rows[0]), packed, unstable


def unpacked(plan: Plan, sites: Any) -> dict[Var, Interval]:
    """The bounds of every site from (2, neurons); empty where none are kept."""
    if sites.shape[-1] == 0:
        return {}
    ends = np.cumsum([v.size for v in plan.sites])[:-1]
    los, his = jnp.split(sites[0], ends), jnp.split(sites[1], ends)
    parts = zip(plan.sites, los, his, strict=True)
    return {v: Interval(lo.reshape(v.shape), hi.reshape(v.shape)) for v, lo, hi in parts}


def _tightened(
    plan: Plan,
    known: dict[Var, Any],
    boxes: dict[Var, Interval],
    lines: dict[int, Any],
    v: Var,
    upto: int,
    start: Interval,
    rows: int,
    keep_stable: bool,
) -> Interval:
    """The bounds of a site by backward passes: of the neurons whose sign is most open, where not all get a row."""
    (x,) = plan.program.inputs
    held_boxes = {key: jax.lax.stop_gradient(box) for key, box in boxes.items()}
    held_lines = jax.lax.stop_gradient(lines)
    start = jax.lax.stop_gradient(start)
    lo, hi = start.lo.ravel(), start.hi.ravel()

    def both(ids: Any) -> tuple[Any, Any]:
        picks = jax.nn.one_hot(ids, v.size, dtype=jnp.float32)
        signed = jnp.concatenate([picks, -picks]).reshape(-1, *v.shape)
        below = backward(plan, known, held_boxes, held_lines, {v: signed}, upto)
        least = lambda box: (A := below.rows[0]) @ ((box.lo + box.hi) / 2) - jnp.abs(A) @ ((box.hi - box.lo) / 2)
        value = below.value - jax.lax.stop_gradient(least(held_boxes[x])) + least(boxes[x])
        value = jnp.where(jnp.isnan(value), -jnp.inf, value)
        return value[: len(ids)], -value[len(ids) :]

    count = min(rows, v.size)
    ids = jnp.arange(v.size)
    if count < v.size:
        ids = jax.lax.top_k(jnp.where((lo < 0) & (hi > 0), jnp.minimum(-lo, hi), -1.0), count)[1]
    if count <= ROWS:
        low, high = both(ids)
    else:
        parts = -(-count // ROWS)
        turns = jnp.pad(ids, (0, parts * ROWS - count)).reshape(parts, ROWS)
        low, high = (part.reshape(-1)[:count] for part in jax.lax.map(both, turns))
    old_lo, old_hi = lo[ids], hi[ids]
    better = refined(Interval(old_lo, old_hi), Interval(low, high), keep_stable)
    # where the pass's bound is the other's but for rounding, it is taken: it has derivatives
    own = lambda found, new: jnp.where(jnp.abs(found - new) <= 1e-6 * jnp.abs(new), found, new)
    lo, hi = lo.at[ids].set(own(low, better.lo)), hi.at[ids].set(own(high, better.hi))
    return Interval(lo.reshape(v.shape), hi.reshape(v.shape))
