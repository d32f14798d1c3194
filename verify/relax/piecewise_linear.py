"""relu and gate: what lowering leaves of everything that is piecewise linear.

Source: Zhang et al. 2018, CROWN, arXiv 1811.00866 (adaptive lower slope).
"""

from typing import Any

import jax.numpy as jnp

from axiom_jax.verification.relax._lines import WIDEST, Lines, Reach, adjusted

STEEP = 1e-30  # slopes of chords at least, far from what hardware takes for 0


def relu(lo: Any, hi: Any) -> Lines:
    """Lines for max(x, 0): the chord above; below the line through 0 of slope 0 or 1 that encloses less area."""
    return _lines(lo, hi, _reach(lo, hi).best)


def _reach(lo: Any, hi: Any, **_: Any) -> Reach:
    """Below, any slope of [0, 1] where the sign is open."""
    active, zero = jnp.where(lo >= 0, 1.0, 0.0).astype(lo.dtype), jnp.zeros_like(lo)
    unstable = (lo < 0) & (hi > 0)
    steep = jnp.where(unstable, jnp.where(hi > -lo, 1.0, 0.0), active).astype(lo.dtype)
    pair = lambda slope: jnp.stack([slope, zero])
    return Reach(pair(jnp.where(unstable, 0, active)), pair(jnp.where(unstable, 1, active)), pair(steep))


def _lines(lo: Any, hi: Any, choice: Any, **_: Any) -> Lines:
    unstable = (lo < 0) & (hi > 0)
    active = jnp.where(lo >= 0, 1.0, 0.0).astype(lo.dtype)
    slope = jnp.where(unstable, hi / jnp.where(unstable, hi - lo, 1), active)
    # through (lo, 0), steeper is sound too: where the ends are beyond every number, or the slope is near 0
    tame = (hi - lo < WIDEST) & (hi - lo > STEEP)
    slope = jnp.where(unstable, jnp.where(tame, jnp.maximum(slope, STEEP), 1), slope)
    below = choice[0].astype(lo.dtype)
    return Lines(below, jnp.zeros_like(below), slope, jnp.where(unstable, -lo * slope, 0))


adjusted("max", _reach, _lines)


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
