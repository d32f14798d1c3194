"""Layers that PyTorch has and `axiom_jax.nn` has not: where channels move, and pooling that reaches over the end.

They are frozen dataclasses without parameters, for models that are read from PyTorch's descriptors.
"""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from axiom_jax import _shapes_mismatch as shapes


@dataclass(frozen=True)
class ChannelsLast:
    """[batch, channels, ...] to [batch, ..., channels].

    Args:
        channels: how many there are; then other inputs are refused.
        ndim: axes of the inputs that are moved; without `channels`, inputs with others pass as they are.

    >>> ChannelsLast().apply({}, jnp.ones((1, 3, 8, 9))).shape
    (1, 8, 9, 3)
    """

    channels: int | None = None
    ndim: int = 4

    @property
    def takes(self) -> tuple[tuple[int | str, ...], str] | None:
        return None if self.channels is None else (("batch", self.channels, "height", "width"), "float32")

    def init(self, key: Any) -> dict[str, Any]:
        return {}

    def apply(self, params: Any, x: Any) -> Any:
        return jnp.moveaxis(x, 1, -1) if x.ndim == self.ndim else x

    def mismatch(self, x: Any) -> shapes.Mismatch | None:
        if self.channels is None or (len(x.shape) == self.ndim and x.shape[1] == self.channels):
            return None
        fix = 'give images as PyTorch has them, channels first, or read the model with layout="NHWC"'
        return shapes.Mismatch(shapes.pattern(x.dtype, "batch", self.channels, "height", "width"), fix)


@dataclass(frozen=True)
class ChannelsFirst:
    """[batch, ..., channels] to [batch, channels, ...]; inputs with other than `ndim` axes pass as they are.

    >>> ChannelsFirst().apply({}, jnp.ones((1, 8, 9, 3))).shape
    (1, 3, 8, 9)
    """

    ndim: int = 4

    def init(self, key: Any) -> dict[str, Any]:
        return {}

    def apply(self, params: Any, x: Any) -> Any:
        return jnp.moveaxis(x, -1, 1) if x.ndim == self.ndim else x


@dataclass(frozen=True)
class TorchPool:
    """PyTorch's nn.MaxPool2d, nn.AvgPool2d or nn.AdaptiveAvgPool2d on [batch, height, width, channels].

    Args:
        kind: "max", "avg", or "adaptive", whose output has the size `kernel_size`.
        kernel_size, stride, padding, dilation: a number an axis.
        ceil_mode: whether a last window may reach over the end.
        count_include_pad, divisor_override: of means.
    """

    kind: str
    kernel_size: tuple[int, int]
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    dilation: tuple[int, int] = (1, 1)
    ceil_mode: bool = False
    count_include_pad: bool = True
    divisor_override: int | None = None

    def init(self, key: Any) -> dict[str, Any]:
        return {}

    def apply(self, params: Any, x: Any) -> Any:
        from axiom_jax.interop.torch.graph import OPERATORS, fill_table

        fill_table()
        x = jnp.moveaxis(x, -1, 1)
        if self.kind == "max":
            y = OPERATORS["aten.max_pool2d.default"](
                x, self.kernel_size, self.stride, self.padding, self.dilation, self.ceil_mode
            )
        elif self.kind == "adaptive":
            y = OPERATORS["aten.adaptive_avg_pool2d.default"](x, self.kernel_size)
        else:
            y = OPERATORS["aten.avg_pool2d.default"](
                x, self.kernel_size, self.stride, self.padding, self.ceil_mode, self.count_include_pad,
                self.divisor_override,
            )  # fmt: skip
        return jnp.moveaxis(y, 1, -1)


@dataclass(frozen=True)
class TorchSoftmax:
    """Softmax along any axis; None for the axis that PyTorch takes then: 0 with 0, 1 or 3 axes, else 1.

    >>> TorchSoftmax(1).apply({}, jnp.zeros((1, 2, 3)))[0, :, 0].tolist()
    [0.5, 0.5]
    """

    dim: int | None = None

    def init(self, key: Any) -> dict[str, Any]:
        return {}

    def apply(self, params: Any, x: Any) -> Any:
        dim = self.dim if self.dim is not None else 0 if x.ndim in (0, 1, 3) else 1
        return jax.nn.softmax(x, axis=dim)


@dataclass(frozen=True)
class TorchFlatten:
    """The axes from `start_dim` to `end_dim` in one, in C order.

    >>> TorchFlatten(1, 2).apply({}, jnp.zeros((5, 2, 3, 4))).shape
    (5, 6, 4)
    """

    start_dim: int = 1
    end_dim: int = -1

    def init(self, key: Any) -> dict[str, Any]:
        return {}

    def apply(self, params: Any, x: Any) -> Any:
        start, end = self.start_dim % x.ndim, self.end_dim % x.ndim
        size = 1
        for n in x.shape[start : end + 1]:
            size *= n
        return x.reshape(*x.shape[:start], size, *x.shape[end + 1 :])


@dataclass(frozen=True)
class TorchLeakyReLU:
    """x where it is positive, `negative_slope * x` elsewhere.

    >>> TorchLeakyReLU(0.5).apply({}, jnp.array([-2.0, 2.0])).tolist()
    [-1.0, 2.0]
    """

    negative_slope: float = 0.01

    def init(self, key: Any) -> dict[str, Any]:
        return {}

    def apply(self, params: Any, x: Any) -> Any:
        return jax.nn.leaky_relu(x, self.negative_slope)
