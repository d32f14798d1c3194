"""relu: the one piecewise-linear primitive that lowering leaves.

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
