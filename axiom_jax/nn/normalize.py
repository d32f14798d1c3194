"""Normalization and dropout, in inference form: running statistics are parameters, dropout does nothing."""

from dataclasses import dataclass
from functools import partial
from typing import Any

from axiom_jax import _shapes_mismatch as shapes
from axiom_jax._shapes_text import written
from axiom_jax.nn import _flax
from axiom_jax.nn._layer import behind, here, rewritten, then


@dataclass(frozen=True, repr=False)
class BatchNorm:
    """`(x - mean) * rsqrt(var + epsilon) * scale + bias` on the last axis, flax's `nnx.BatchNorm`.

    The running mean and variance are among the parameters.

    Args:
        num_features: size of the last axis, [..., num_features].
        epsilon: added to the variance.

    >>> BatchNorm(8)
    BatchNorm(8)
    """

    num_features: int
    epsilon: float = 1e-5
    at: str | None = here()

    __repr__, __rshift__, __rrshift__ = rewritten, then, behind

    @property
    def takes(self) -> tuple[tuple[int | str, ...], str]:
        return ("batch", "...", self.num_features), "float32"

    def module(self, rngs: Any) -> Any:
        from flax import nnx

        return nnx.BatchNorm(self.num_features, use_running_average=True, epsilon=self.epsilon, rngs=rngs)

    def init(self, key: Any) -> dict[str, Any]:
        return _flax.init(self, key)

    def apply(self, params: Any, x: Any) -> Any:
        return _flax.apply(self, params, x)

    def mismatch(self, x: Any) -> shapes.Mismatch | None:
        return shapes.norm(x, self.num_features, partial(written, self))


@dataclass(frozen=True, repr=False)
class LayerNorm:
    """Mean 0 and variance 1 over the last axis, then scale and bias; flax's `nnx.LayerNorm`.

    Args:
        num_features: size of the last axis, [..., num_features].
        epsilon: added to the variance.
    """

    num_features: int
    epsilon: float = 1e-6
    at: str | None = here()

    __repr__, __rshift__, __rrshift__ = rewritten, then, behind

    @property
    def takes(self) -> tuple[tuple[int | str, ...], str]:
        return ("batch", "...", self.num_features), "float32"

    def module(self, rngs: Any) -> Any:
        from flax import nnx

        return nnx.LayerNorm(self.num_features, epsilon=self.epsilon, rngs=rngs)

    def init(self, key: Any) -> dict[str, Any]:
        return _flax.init(self, key)

    def apply(self, params: Any, x: Any) -> Any:
        return _flax.apply(self, params, x)

    def mismatch(self, x: Any) -> shapes.Mismatch | None:
        return shapes.norm(x, self.num_features, partial(written, self))


@dataclass(frozen=True, repr=False)
class Dropout:
    """Zeroes a share of its input while training; the identity in inference, as here.

    Args:
        rate: the share, from 0 to 1.
    """

    rate: float
    at: str | None = here()

    __repr__, __rshift__, __rrshift__ = rewritten, then, behind

    def init(self, key: Any) -> dict[str, Any]:
        return {}

    def apply(self, params: Any, x: Any) -> Any:
        return x
