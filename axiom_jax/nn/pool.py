"""Pooling over [batch, height, width, channels]."""

from dataclasses import dataclass
from functools import partial
from typing import Any

from axiom_jax import _shapes_mismatch as shapes
from axiom_jax._shapes_text import written
from axiom_jax.nn._layer import behind, here, rewritten, then

Padding = Any  # str | Sequence[tuple[int, int]]; flax's annotation says str


@dataclass(frozen=True, repr=False)
class MaxPool:
    """The largest value of each window, flax's `nnx.max_pool`.

    Args:
        window_shape: one number an axis.
        strides: one number an axis; the window's sizes by default.
        padding: "VALID", "SAME", or a pair of numbers an axis.

    >>> MaxPool((3, 3), strides=(2, 2))
    MaxPool(window_shape=(3, 3), strides=(2, 2))
    """

    window_shape: tuple[int, ...] = (2, 2)
    strides: tuple[int, ...] | None = None
    padding: Padding = "VALID"
    at: str | None = here()

    __repr__, __rshift__, __rrshift__ = rewritten, then, behind

    def init(self, key: Any) -> dict[str, Any]:
        return {}

    def apply(self, params: Any, x: Any) -> Any:
        from flax import nnx

        return nnx.max_pool(x, self.window_shape, strides=self.strides or self.window_shape, padding=self.padding)

    def mismatch(self, x: Any) -> shapes.Mismatch | None:
        return shapes.pool(x, self.window_shape, partial(written, self), self.padding != "VALID")


@dataclass(frozen=True, repr=False)
class AvgPool:
    """The mean of each window, flax's `nnx.avg_pool`.

    Args:
        window_shape: one number an axis.
        strides: one number an axis; the window's sizes by default.
        padding: "VALID", "SAME", or a pair of numbers an axis; zeros outside are counted.
    """

    window_shape: tuple[int, ...] = (2, 2)
    strides: tuple[int, ...] | None = None
    padding: Padding = "VALID"
    at: str | None = here()

    __repr__, __rshift__, __rrshift__ = rewritten, then, behind

    def init(self, key: Any) -> dict[str, Any]:
        return {}

    def apply(self, params: Any, x: Any) -> Any:
        from flax import nnx

        return nnx.avg_pool(x, self.window_shape, strides=self.strides or self.window_shape, padding=self.padding)

    def mismatch(self, x: Any) -> shapes.Mismatch | None:
        return shapes.pool(x, self.window_shape, partial(written, self), self.padding != "VALID")


@dataclass(frozen=True, repr=False)
class GlobalAvgPool:
    """The mean over all axes between the batch and the channels: [batch, ..., channels] to [batch, channels]."""

    at: str | None = here()

    __repr__, __rshift__, __rrshift__ = rewritten, then, behind

    def init(self, key: Any) -> dict[str, Any]:
        return {}

    def apply(self, params: Any, x: Any) -> Any:
        return x.mean(axis=tuple(range(1, x.ndim - 1)))

    def mismatch(self, x: Any) -> shapes.Mismatch | None:
        if len(x.shape) > 2:
            return None
        fix = "move GlobalAvgPool before the Flatten or Reshape"
        return shapes.Mismatch(shapes.pattern(x.dtype, "batch", "...", "channels"), fix)
