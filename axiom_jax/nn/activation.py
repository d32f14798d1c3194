"""Activations with parameters; those without are the functions of `jax.nn`."""

from dataclasses import dataclass
from functools import partial
from typing import Any

import jax.numpy as jnp

from axiom_jax import _shapes_mismatch as shapes
from axiom_jax._shapes_text import written
from axiom_jax.nn._layer import behind, here, rewritten, then


@dataclass(frozen=True, repr=False)
class PReLU:
    """`x` where it is positive, `slope * x` elsewhere, with a slope that is trained.

    Args:
        num_features: None for one slope, else a slope for each of the last axis, [..., num_features].
        slope: where it begins.

    Source: He et al. 2015, Delving Deep into Rectifiers, arXiv 1502.01852.

    >>> PReLU().apply({"slope": jnp.float32(0.25)}, jnp.array([-4.0, 4.0])).tolist()
    [-1.0, 4.0]
    """

    num_features: int | None = None
    slope: float = 0.25
    at: str | None = here()

    __repr__, __rshift__, __rrshift__ = rewritten, then, behind

    @property
    def takes(self) -> tuple[tuple[int | str, ...], str] | None:
        return None if self.num_features is None else (("batch", "...", self.num_features), "float32")

    def init(self, key: Any) -> dict[str, Any]:
        return {"slope": jnp.full(() if self.num_features is None else (self.num_features,), self.slope, jnp.float32)}

    def apply(self, params: Any, x: Any) -> Any:
        return jnp.maximum(x, 0) + params["slope"] * jnp.minimum(x, 0)

    def mismatch(self, x: Any) -> shapes.Mismatch | None:
        return None if self.num_features is None else shapes.norm(x, self.num_features, partial(written, self))
