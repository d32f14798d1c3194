"""Convolutions over [batch, *spatial, channels], of one, two, three or more spatial axes."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from axiom_jax import _shapes_mismatch as shapes
from axiom_jax._errors import ShapeError
from axiom_jax._shapes_text import written
from axiom_jax.nn._initializers import Initializer, check_initializers, initializer
from axiom_jax.nn._layer import FLAX, here

Padding = str | int | Sequence[int | tuple[int, int]]
Sizes = int | Sequence[int]


@dataclass(frozen=True, repr=False)
class Conv:
    """A convolution over [batch, height, width, channels], flax's `nnx.Conv`.

    Args:
        in_features, out_features: channels that go in and come out.
        kernel_size: of the window, one number an axis; their count is the number of spatial axes. A single number
            stands for a square.
        strides: one number, or one an axis.
        padding: "SAME", "VALID", "CIRCULAR", "CAUSAL" (one axis), a number, or a number or a pair of numbers an axis.
        feature_group_count: groups of channels that are convolved apart; divides both.
        use_bias: whether a bias is added.
        kernel_dilation: steps between the window's elements, one number or one an axis.
        kernel_init, bias_init: a name of `jax.nn.initializers`, or a function of (key, shape, dtype).

    Raises:
        ShapeError: the groups do not divide the channels.
        AxiomError: an initialiser's name is not known.

    >>> Conv(1, 8, kernel_size=(5, 5), padding="VALID")
    Conv(1, 8, kernel_size=(5, 5), padding='VALID')
    """

    in_features: int
    out_features: int
    kernel_size: Sizes = (3, 3)
    strides: Sizes = 1
    padding: Padding = "SAME"
    feature_group_count: int = 1
    use_bias: bool = True
    kernel_dilation: Sizes = 1
    kernel_init: Initializer = "lecun_normal"
    bias_init: Initializer = "zeros"
    at: str | None = here()

    __repr__, __rshift__, __rrshift__, init, apply, apply_train, trainable = FLAX

    def __post_init__(self) -> None:
        _canonical(self, "kernel_dilation")
        groups = math.gcd(self.in_features, self.out_features)
        if groups % self.feature_group_count:
            fitting = max(n for n in range(1, self.feature_group_count) if groups % n == 0)
            raise ShapeError(
                f"{self!r} cannot share its channels among the groups.", at=self.at,
                got=f"{self.in_features} and {self.out_features} channels, {self.feature_group_count} groups; "
                "expected a divisor of both",
                fix=f"make it {written(self, feature_group_count=fitting)}",
            )  # fmt: skip

    @property
    def window(self) -> tuple[int, ...]:
        return _each(self.kernel_size, 2)

    @property
    def takes(self) -> tuple[tuple[int | str, ...], str]:
        return ("batch", *shapes.spatial(len(self.window)), self.in_features), "float32"

    def module(self, rngs: Any) -> Any:
        from flax import nnx

        return nnx.Conv(
            self.in_features, self.out_features, kernel_size=self.window, strides=self.strides, padding=self.padding,
            feature_group_count=self.feature_group_count, use_bias=self.use_bias, kernel_dilation=self.kernel_dilation,
            kernel_init=initializer(self.kernel_init), bias_init=initializer(self.bias_init), rngs=rngs,
        )  # fmt: skip

    def mismatch(self, x: Any) -> shapes.Mismatch | None:
        axes = len(self.window)
        strides, dilation = _each(self.strides, axes), _each(self.kernel_dilation, axes)

        def after(sizes: shapes.Shape) -> shapes.Shape:
            if self.padding not in ("SAME", "VALID", "CIRCULAR"):
                return tuple(sizes)
            lost = [(k - 1) * d if self.padding == "VALID" else 0 for k, d in zip(self.window, dilation, strict=True)]
            return tuple(-(-(size - less) // step) for size, less, step in zip(sizes, lost, strides, strict=True))

        return shapes.conv(x, self.in_features, self.out_features, self.window, partial(written, self), after,
                           self.padding not in ("VALID", 0), dilation)  # fmt: skip


@dataclass(frozen=True, repr=False)
class ConvTranspose:
    """A transposed convolution over [batch, height, width, channels], flax's `nnx.ConvTranspose`.

    Args:
        in_features, out_features: channels that go in and come out.
        kernel_size: as for `Conv`.
        strides: how much larger the output is, one number or one an axis.
        padding: "SAME" (sizes times strides), "VALID", "CIRCULAR", or pairs of numbers, the zeros added around the
            spread input.
        use_bias: whether a bias is added.
        kernel_dilation: steps between the window's elements, one number or one an axis.
        transpose_kernel: flip the kernel and swap its channels, so that it is the gradient of a `Conv`.
        kernel_init, bias_init: a name of `jax.nn.initializers`, or a function of (key, shape, dtype).

    Source: Dumoulin and Visin 2016, A guide to convolution arithmetic, arXiv 1603.07285.

    >>> ConvTranspose(8, 4, kernel_size=(2, 2), strides=2)
    ConvTranspose(8, 4, kernel_size=(2, 2), strides=2)
    """

    in_features: int
    out_features: int
    kernel_size: Sizes = (3, 3)
    strides: Sizes = 1
    padding: Padding = "SAME"
    use_bias: bool = True
    kernel_dilation: Sizes = 1
    transpose_kernel: bool = False
    kernel_init: Initializer = "lecun_normal"
    bias_init: Initializer = "zeros"
    at: str | None = here()

    __repr__, __rshift__, __rrshift__, init, apply, apply_train, trainable = FLAX

    def __post_init__(self) -> None:
        _canonical(self, "kernel_dilation")

    @property
    def window(self) -> tuple[int, ...]:
        return _each(self.kernel_size, 2)

    @property
    def takes(self) -> tuple[tuple[int | str, ...], str]:
        return ("batch", *shapes.spatial(len(self.window)), self.in_features), "float32"

    def module(self, rngs: Any) -> Any:
        from flax import nnx

        return nnx.ConvTranspose(
            self.in_features, self.out_features, kernel_size=self.window, strides=self.strides, padding=self.padding,
            use_bias=self.use_bias, kernel_dilation=self.kernel_dilation, transpose_kernel=self.transpose_kernel,
            kernel_init=initializer(self.kernel_init), bias_init=initializer(self.bias_init), rngs=rngs,
        )  # fmt: skip

    def mismatch(self, x: Any) -> shapes.Mismatch | None:
        strides = _each(self.strides, len(self.window))
        after = lambda sizes: tuple(size * step for size, step in zip(sizes, strides, strict=True))
        write = partial(written, self)
        return shapes.conv(x, self.in_features, self.out_features, self.window, write, after, True)


def _each(sizes: Sizes, axes: int) -> tuple[int, ...]:
    """One number an axis."""
    return (sizes,) * axes if isinstance(sizes, int) else tuple(sizes)


def _canonical(layer: Any, *more: str) -> None:
    """Equal layers have equal fields: a kernel size of one number an axis, tuples for lists; names are checked."""
    object.__setattr__(layer, "kernel_size", _each(layer.kernel_size, 2))
    for name in ("strides", "padding", *more):
        value = getattr(layer, name)
        if isinstance(value, list):
            object.__setattr__(layer, name, tuple(tuple(v) if isinstance(v, list) else v for v in value))
    check_initializers(layer, "kernel_init", "bias_init")


def Conv1d(in_features: int, out_features: int, kernel_size: Sizes = 3, **options: Any) -> Conv:
    """`Conv` over [batch, length, channels]; a single kernel size is enough.

    >>> Conv1d(4, 8, 5)
    Conv(4, 8, kernel_size=(5,))
    """
    return Conv(in_features, out_features, _each(kernel_size, 1), **options)


def Conv2d(in_features: int, out_features: int, kernel_size: Sizes = 3, **options: Any) -> Conv:
    """`Conv` over [batch, height, width, channels]."""
    return Conv(in_features, out_features, _each(kernel_size, 2), **options)


def Conv3d(in_features: int, out_features: int, kernel_size: Sizes = 3, **options: Any) -> Conv:
    """`Conv` over [batch, depth, height, width, channels]."""
    return Conv(in_features, out_features, _each(kernel_size, 3), **options)


def ConvTranspose1d(in_features: int, out_features: int, kernel_size: Sizes = 3, **options: Any) -> ConvTranspose:
    """`ConvTranspose` over [batch, length, channels]."""
    return ConvTranspose(in_features, out_features, _each(kernel_size, 1), **options)


def ConvTranspose2d(in_features: int, out_features: int, kernel_size: Sizes = 3, **options: Any) -> ConvTranspose:
    """`ConvTranspose` over [batch, height, width, channels]."""
    return ConvTranspose(in_features, out_features, _each(kernel_size, 2), **options)


def ConvTranspose3d(in_features: int, out_features: int, kernel_size: Sizes = 3, **options: Any) -> ConvTranspose:
    """`ConvTranspose` over [batch, depth, height, width, channels]."""
    return ConvTranspose(in_features, out_features, _each(kernel_size, 3), **options)
