"""exp, squares and reciprocals: convex where they are defined, so a chord above and a tangent below."""

from typing import Any

import jax.numpy as jnp

from axiom_jax.verification.relax._lines import Lines, chord, relaxation


@relaxation.rule("exp")
def exp(lo: Any, hi: Any, **_: Any) -> Lines:
    """Lines for exp(x); the tangent touches at the midpoint, or nearer to `lo` where the box is wide."""
    above, above_at_0 = chord(jnp.exp, lo, hi, jnp.exp)
    point = jnp.minimum((lo + hi) / 2, lo + 1)
    slope = jnp.exp(point)
    return Lines(slope, slope * (1 - point), above, above_at_0)


@relaxation.rule("integer_pow")
def integer_pow(lo: Any, hi: Any, *, y: int, **_: Any) -> Lines:
    """Lines for x**2 (tangent at the midpoint); other exponents are not relaxed."""
    if y != 2:
        raise NotImplementedError(f"integer_pow with exponent {y}")
    point = (lo + hi) / 2
    return Lines(2 * point, -(point * point), lo + hi, -lo * hi)
