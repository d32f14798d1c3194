"""One jitted step of branch and bound: bound a batch of boxes, say where to split, try two points in each."""

from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from axiom_jax._program import Program
from axiom_jax.verification.domains.interval import Interval
from axiom_jax.verification.domains.linear import Plan, crown_below
from axiom_jax.verification.search.margins import Question, Spec, with_atoms


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Bounded:
    """What is known of each box of a batch.

    Args:
        value: (boxes,) lower bound of the property's margin; > 0: safe.
        choice: (boxes, disjuncts) the atom that is refuted best, by its number among the case's atoms.
        split: (boxes,) the input to halve.
        point: (boxes, inputs) float32 candidate. point_value: (boxes,) its margin; ≤ 0: unsafe.
    """

    value: Any
    choice: Any
    split: Any
    point: Any
    point_value: Any


def bound(question: Question, case: np.ndarray, lo: np.ndarray, hi: np.ndarray, width: int) -> Bounded:
    """Bound boxes, padded to `width` so that few shapes are compiled; the result is cut back and on the host.

    Args:
        case: (boxes,) number of the case of each box.
        lo, hi: (boxes, inputs) float64.
        width: boxes of one call, at least as many as are given.
    """
    count = len(case)
    pad = lambda a: np.concatenate([a, np.repeat(a[:1], width - count, 0)]) if count < width else a
    down, up = _outward(lo, hi)
    relative = 1.0 / np.maximum(question.hi - question.lo, 1e-30)
    result = _step(
        question.plan, question.program, question.slots, question.values, question.spec, pad(case), pad(down), pad(up),
        relative.astype(np.float32), question.float32_lo, question.float32_hi,
    )  # fmt: skip
    return jax.tree.map(lambda a: np.asarray(a)[:count], result)


def _outward(lo: np.ndarray, hi: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The smallest float32 box around a float64 one."""
    down, up = lo.astype(np.float32), hi.astype(np.float32)
    down = np.where(down > lo, np.nextafter(down, np.float32(-np.inf)), down)
    return down, np.where(up < hi, np.nextafter(up, np.float32(np.inf)), up)


@partial(jax.jit, static_argnums=(0, 1, 2))
def _step(
    plan: Plan,
    program: Program,
    slots: tuple[int, ...],
    values: Any,
    spec: Spec,
    case: Any,
    lo: Any,
    hi: Any,
    relative: Any,
    domain_lo: Any,
    domain_hi: Any,
) -> Bounded:
    def one(case: Any, lo: Any, hi: Any) -> Bounded:
        given = with_atoms(values, slots, spec, case)
        below = crown_below(plan, given, Interval(lo, hi))
        margins, rows = below.value, below.rows[0]
        margins = jnp.where(jnp.isnan(margins), -jnp.inf, margins)
        member = spec.member[case]
        per_disjunct = spec.disjuncts(margins, case)
        choice = jnp.argmax(jnp.where(member, margins, -jnp.inf), 1)
        worst = rows[choice[jnp.argmin(per_disjunct)]]
        radius = (hi - lo) / 2
        score = jnp.abs(worst) * radius * (hi - lo) * relative[case]
        score = jnp.where(hi > lo, jnp.where(score > 0, score, radius * 1e-30), -1.0)
        middle, corner = (lo + hi) / 2, jnp.where(worst > 0, lo, hi)
        points = jnp.clip(jnp.stack([middle, corner]), domain_lo[case], domain_hi[case])
        reached = jax.vmap(lambda x: spec.value(program.evaluate(given, x)[0], case))(points)
        better = jnp.argmin(reached)
        return Bounded(per_disjunct.min(), choice, jnp.argmax(score), points[better], reached[better])

    return jax.vmap(one)(case, lo, hi)
