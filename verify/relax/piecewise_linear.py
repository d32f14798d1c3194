"""relu and gate: what lowering leaves of everything that is piecewise linear.

Source: Zhang et al. 2018, CROWN, arXiv 1811.00866 (adaptive lower slope).
"""

from typing import Any

import jax.numpy as jnp

from axiom_jax.verification.relax._lines import Lines, relaxation


@relaxation.rule("max")
def relu(lo: Any, hi: Any, **_: Any) -> Lines:
    """Lines for max(x, 0): the chord above; below the line through 0 of slope 0 or 1 that encloses less area."""
    unstable = (lo < 0) & (hi > 0)
    active = jnp.where(lo >= 0, 1.0, 0.0).astype(lo.dtype)
    slope = jnp.where(unstable, hi / jnp.where(unstable, hi - lo, 1), active)
    below = jnp.where(unstable, jnp.where(hi > -lo, 1.0, 0.0), active).astype(lo.dtype)
    zero = jnp.zeros_like(lo)
    return Lines(below, zero, slope, jnp.where(unstable, -lo * slope, zero))


def gate_lines(surely: Any, maybe: Any, lo: Any, hi: Any) -> Lines:
    """Lines in v for a gate, v or 0: v itself where its condition holds, 0 where it does not, else over both.

    Args:
        surely, maybe: whether the condition holds everywhere, or somewhere.
        lo, hi: bounds of v.
    """
    above = relu(lo, hi)  # max(v, 0) from above; min(v, 0) = -max(-v, 0) from below
    mirrored = relu(-hi, -lo)
    one, zero = jnp.ones_like(lo), jnp.zeros_like(lo)
    pick = lambda open_: jnp.where(surely, one, jnp.where(maybe, open_, zero))
    at_0 = lambda open_: jnp.where(surely | ~maybe, zero, open_)
    return Lines(pick(mirrored.above), at_0(-mirrored.above_at_0), pick(above.above), at_0(above.above_at_0))
