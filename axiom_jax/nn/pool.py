"""Pooling over [batch, *spatial, channels]."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax.numpy as jnp

from axiom_jax import _shapes_mismatch as shapes
from axiom_jax._shapes_text import is_number, written
from axiom_jax.nn._layer import FREE, here

Padding = Any  # str | Sequence[tuple[int, int]]; flax's annotation says str
Sizes = int | tuple[int, ...]


@dataclass(frozen=True, repr=False)
class MaxPool:
    """The largest value of each window, flax's `nnx.max_pool`.

    Args:
        window_shape: one number an axis; a single number stands for a square.
        strides: one number, or one an axis; the window's sizes by default.
        padding: "VALID", "SAME", or a pair of numbers an axis.

    >>> MaxPool((3, 3), strides=(2, 2))
    MaxPool(window_shape=(3, 3), strides=(2, 2))
    """

    window_shape: Sizes = (2, 2)
    strides: Sizes | None = None
    padding: Padding = "VALID"
    at: str | None = here()

    __repr__, __rshift__, __rrshift__, init = FREE

    def __post_init__(self) -> None:
        _canonical(self)

    def apply(self, params: Any, x: Any) -> Any:
        from flax import nnx

        window = _tuple(self.window_shape)
        return nnx.max_pool(x, window, strides=_tuple(self.strides or window), padding=self.padding)

    def mismatch(self, x: Any) -> shapes.Mismatch | None:
        return shapes.pool(x, _tuple(self.window_shape), partial(written, self), self.padding != "VALID")


@dataclass(frozen=True, repr=False)
class AvgPool:
    """The mean of each window, flax's `nnx.avg_pool`.

    Args:
        window_shape: one number an axis; a single number stands for a square.
        strides: one number, or one an axis; the window's sizes by default.
        padding: "VALID", "SAME", or a pair of numbers an axis.
        count_include_pad: whether zeros outside are counted.

    >>> AvgPool(2)
    AvgPool()
    """

    window_shape: Sizes = (2, 2)
    strides: Sizes | None = None
    padding: Padding = "VALID"
    count_include_pad: bool = True
    at: str | None = here()

    __repr__, __rshift__, __rrshift__, init = FREE

    def __post_init__(self) -> None:
        _canonical(self)

    def apply(self, params: Any, x: Any) -> Any:
        from flax import nnx

        window = _tuple(self.window_shape)
        return nnx.avg_pool(x, window, strides=_tuple(self.strides or window), padding=self.padding,
                            count_include_pad=self.count_include_pad)  # fmt: skip

    def mismatch(self, x: Any) -> shapes.Mismatch | None:
        return shapes.pool(x, _tuple(self.window_shape), partial(written, self), self.padding != "VALID")


MaxPool2d, AvgPool2d = MaxPool, AvgPool


@dataclass(frozen=True, repr=False)
class GlobalAvgPool:
    """The mean over all axes between the batch and the channels: [batch, ..., channels] to [batch, channels].

    >>> GlobalAvgPool().apply({}, jnp.ones((2, 5, 5, 3))).shape
    (2, 3)
    """

    at: str | None = here()

    __repr__, __rshift__, __rrshift__, init = FREE

    def apply(self, params: Any, x: Any) -> Any:
        return x.mean(axis=tuple(range(1, x.ndim - 1)))

    def mismatch(self, x: Any) -> shapes.Mismatch | None:
        return shapes.global_pool(x, "GlobalAvgPool")


@dataclass(frozen=True, repr=False)
class GlobalMaxPool:
    """The largest value over all axes between the batch and the channels: [batch, ..., channels] to [batch, channels].

    >>> GlobalMaxPool().apply({}, jnp.ones((2, 5, 5, 3))).shape
    (2, 3)
    """

    at: str | None = here()

    __repr__, __rshift__, __rrshift__, init = FREE

    def apply(self, params: Any, x: Any) -> Any:
        return x.max(axis=tuple(range(1, x.ndim - 1)))

    def mismatch(self, x: Any) -> shapes.Mismatch | None:
        return shapes.global_pool(x, "GlobalMaxPool")


@dataclass(frozen=True, repr=False)
class AdaptiveAvgPool:
    """Means of windows that share out the input evenly, so that the output has given sizes; as in PyTorch.

    Window i of n along an axis of size s is from floor(i s / n) to ceil((i + 1) s / n).

    Args:
        output_size: one number an axis; a single number stands for a square.

    >>> AdaptiveAvgPool((2, 3)).apply({}, jnp.ones((1, 5, 7, 4))).shape
    (1, 2, 3, 4)
    """

    output_size: Sizes
    at: str | None = here()

    __repr__, __rshift__, __rrshift__, init = FREE

    def apply(self, params: Any, x: Any) -> Any:
        return _shared_out(x, _tuple(self.output_size), jnp.mean)

    def mismatch(self, x: Any) -> shapes.Mismatch | None:
        return shapes.adaptive(x, _tuple(self.output_size), partial(written, self))


@dataclass(frozen=True, repr=False)
class AdaptiveMaxPool:
    """The largest values of windows that share out the input evenly; otherwise as `AdaptiveAvgPool`.

    Args:
        output_size: one number an axis; a single number stands for a square.

    >>> AdaptiveMaxPool(1).apply({}, jnp.ones((1, 5, 7, 4))).shape
    (1, 1, 1, 4)
    """

    output_size: Sizes
    at: str | None = here()

    __repr__, __rshift__, __rrshift__, init = FREE

    def apply(self, params: Any, x: Any) -> Any:
        return _shared_out(x, _tuple(self.output_size), jnp.max)

    def mismatch(self, x: Any) -> shapes.Mismatch | None:
        return shapes.adaptive(x, _tuple(self.output_size), partial(written, self))


AdaptiveAvgPool2d, AdaptiveMaxPool2d = AdaptiveAvgPool, AdaptiveMaxPool


def _tuple(sizes: Sizes) -> tuple[int, ...]:
    return (sizes, sizes) if isinstance(sizes, int) else tuple(sizes)


def _canonical(layer: MaxPool | AvgPool) -> None:
    """Equal layers have equal fields; one stride stands for all axes."""
    window = _tuple(layer.window_shape)
    object.__setattr__(layer, "window_shape", window)
    if layer.strides is not None:
        strides = (layer.strides,) * len(window) if isinstance(layer.strides, int) else tuple(layer.strides)
        object.__setattr__(layer, "strides", strides)
    if isinstance(layer.padding, list):
        object.__setattr__(layer, "padding", tuple(map(tuple, layer.padding)))


def _shared_out(x: Any, counts: Sequence[int], reduce: Callable[..., Any]) -> Any:
    """Windows along one axis after the other; each of them is rectangular, so that the order does not matter."""
    for axis, count in enumerate(counts, 1):
        size = x.shape[axis]
        if count == 1:
            x = reduce(x, axis=axis, keepdims=True)
        elif is_number(size) and size % count == 0:
            x = reduce(x.reshape(*x.shape[:axis], count, size // count, *x.shape[axis + 1 :]), axis=axis + 1)
        else:
            ends = [(i * size // count, -(-(i + 1) * size // count)) for i in range(count)]
            index = (slice(None),) * axis
            x = jnp.stack([reduce(x[(*index, slice(a, b))], axis=axis) for a, b in ends], axis=axis)
    return x
