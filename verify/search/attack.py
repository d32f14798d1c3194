"""Projected gradient descent on the property's margin, with restarts, in one jitted call.

What it returns are candidates; they count once exact arithmetic agrees.
Source: Madry et al. 2018, arXiv 1706.06083.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from axiom_jax._program import Program
from axiom_jax.verification.search.margins import Question, Spec, with_atoms

RESTARTS = 128
STEPS = 60


def attack(
    question: Question, case: int, seed: int = 0, box: tuple[np.ndarray, np.ndarray] | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Search one case for unsafe points.

    Args:
        case: its number. seed: for the starting points.
        box: (inputs,) ends of a part of its region to stay in, or None.

    Returns:
        points: (restarts, inputs) float32 in the deployed domain, the most unsafe first.
        values: (restarts,) their margins in float32; ≤ 0 means unsafe.
    """
    lo, hi = question.float32_lo[case], question.float32_hi[case]
    if box is not None:
        lo, hi = (np.clip(end.astype(np.float32), lo, hi) for end in box)
    points, values = _descend(
        question.program, question.slots, question.values, question.spec, case, lo, hi, jax.random.key(seed)
    )
    order = np.argsort(values)
    return np.asarray(points)[order], np.asarray(values)[order]


@partial(jax.jit, static_argnums=(0, 1))
def _descend(
    program: Program, slots: Sequence[int], values: Any, spec: Spec, case: Any, lo: Any, hi: Any, key: Any
) -> tuple[Any, Any]:
    given = with_atoms(values, slots, spec, case)
    disjuncts = jnp.sum(spec.member[case].any(1))

    def margin(x: Any, aim: Any) -> Any:
        """The margin of one disjunct: different restarts aim at different ones."""
        return spec.disjuncts(program.evaluate(given, x)[0], case)[aim]

    def value(x: Any) -> Any:
        return spec.value(program.evaluate(given, x)[0], case)

    def restart(key: Any, aim: Any) -> tuple[Any, Any]:
        start = jax.random.uniform(key, lo.shape, lo.dtype)
        x = jnp.clip(lo + start * (hi - lo), lo, hi)

        def step(i: Any, state: tuple[Any, Any, Any]) -> tuple[Any, Any, Any]:
            x, best, best_value = state
            gradient = jax.grad(margin)(x, aim)
            rate = 0.25 * (hi - lo) * 0.93**i
            x = jnp.clip(x - rate * jnp.sign(gradient), lo, hi)
            reached = value(x)
            better = reached < best_value
            return x, jnp.where(better, x, best), jnp.where(better, reached, best_value)

        _, best, best_value = jax.lax.fori_loop(0, STEPS, step, (x, x, value(x)))
        return best, best_value

    aims = jnp.arange(RESTARTS) % disjuncts
    return jax.vmap(restart)(jax.random.split(key, RESTARTS), aims)
