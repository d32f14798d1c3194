"""The value of the linear domain, its table, and what several families share."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from axiom_jax._domain import Domain


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Lines:
    """below·x + below_at_0 ≤ f(x) ≤ above·x + above_at_0 for every x of a box; elementwise arrays."""

    below: Any
    below_at_0: Any
    above: Any
    above_at_0: Any


relaxation = Domain("linear", Lines)


def chord(f: Any, lo: Any, hi: Any, derivative: Any) -> tuple[Any, Any]:
    """Slope and offset of the line through both ends; as steep as the upper end where the box is nearly a point.

    From the lower end that line stays on the chord's side: under a concave function, over a convex one.
    """
    width = hi - lo
    thin = width <= 1e-6 * (1 + jnp.abs(lo) + jnp.abs(hi))
    slope = jnp.where(thin, derivative(hi), (f(hi) - f(lo)) / jnp.where(thin, 1, width))
    return slope, f(lo) - slope * lo
