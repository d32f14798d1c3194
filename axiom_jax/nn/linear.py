"""Layers that are linear in their input: dense, convolution, embedding."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from axiom_jax import _shapes_mismatch as shapes
from axiom_jax._shapes_text import written
from axiom_jax.nn import _flax
from axiom_jax.nn._layer import behind, here, rewritten, then

Padding = str | int | Sequence[int | tuple[int, int]]


@dataclass(frozen=True, repr=False)
class Dense:
    """`x @ kernel + bias` on the last axis, flax's `nnx.Linear`.

    Args:
        in_features: size of the last axis of x, [..., in_features].
        out_features: size of the last axis of the output.
        use_bias: whether a bias is added.

    >>> Dense(784, 10)
    Dense(784, 10)
    """

    in_features: int
    out_features: int
    use_bias: bool = True
    at: str | None = here()

    __repr__, __rshift__, __rrshift__ = rewritten, then, behind

    @property
    def takes(self) -> tuple[tuple[int | str, ...], str]:
        return ("batch", "...", self.in_features), "float32"

    def module(self, rngs: Any) -> Any:
        from flax import nnx

        return nnx.Linear(self.in_features, self.out_features, use_bias=self.use_bias, rngs=rngs)

    def init(self, key: Any) -> dict[str, Any]:
        return _flax.init(self, key)

    def apply(self, params: Any, x: Any) -> Any:
        return _flax.apply(self, params, x)

    def mismatch(self, x: Any) -> shapes.Mismatch | None:
        return shapes.dense(x, self.in_features, self.out_features, partial(written, self))


Linear = Dense


@dataclass(frozen=True, repr=False)
class Conv:
    """A convolution over [batch, height, width, channels], flax's `nnx.Conv`.

    Args:
        in_features, out_features: channels that go in and come out.
        kernel_size: of the window, one number an axis; their count is the number of spatial axes. A single number
            stands for a square.
        strides: one number, or one an axis.
        padding: "SAME", "VALID", "CIRCULAR", a number, or a number or a pair of numbers an axis.
        feature_group_count: groups of channels that are convolved apart.
        use_bias: whether a bias is added.

    >>> Conv(1, 8, kernel_size=(5, 5), padding="VALID")
    Conv(1, 8, kernel_size=(5, 5), padding='VALID')
    """

    in_features: int
    out_features: int
    kernel_size: int | Sequence[int] = (3, 3)
    strides: int | Sequence[int] = 1
    padding: Padding = "SAME"
    feature_group_count: int = 1
    use_bias: bool = True
    at: str | None = here()

    __repr__, __rshift__, __rrshift__ = rewritten, then, behind

    def __post_init__(self) -> None:
        size = self.kernel_size
        object.__setattr__(self, "kernel_size", (size, size) if isinstance(size, int) else tuple(size))
        for name in ("strides", "padding"):
            value = getattr(self, name)
            if isinstance(value, list):
                object.__setattr__(self, name, tuple(value))

    @property
    def window(self) -> tuple[int, ...]:
        assert not isinstance(self.kernel_size, int)  # made so in __post_init__
        return tuple(self.kernel_size)

    @property
    def takes(self) -> tuple[tuple[int | str, ...], str]:
        spatial = ("height", "width") if len(self.window) == 2 else tuple(f"size{i}" for i in range(len(self.window)))
        return ("batch", *spatial, self.in_features), "float32"

    def module(self, rngs: Any) -> Any:
        from flax import nnx

        return nnx.Conv(self.in_features, self.out_features, kernel_size=self.window, strides=self.strides,
                        padding=self.padding, feature_group_count=self.feature_group_count, use_bias=self.use_bias,
                        rngs=rngs)  # fmt: skip

    def init(self, key: Any) -> dict[str, Any]:
        return _flax.init(self, key)

    def apply(self, params: Any, x: Any) -> Any:
        return _flax.apply(self, params, x)

    def mismatch(self, x: Any) -> shapes.Mismatch | None:
        strides = [self.strides] * len(self.window) if isinstance(self.strides, int) else self.strides

        def after(sizes: shapes.Shape) -> shapes.Shape:
            if self.padding not in ("SAME", "VALID", "CIRCULAR"):
                return tuple(sizes)
            lost = [k - 1 if self.padding == "VALID" else 0 for k in self.window]
            return tuple(-(-(size - less) // step) for size, less, step in zip(sizes, lost, strides, strict=True))

        padded = self.padding != "VALID" and self.padding != 0
        return shapes.conv(x, self.in_features, self.out_features, self.window, partial(written, self), after, padded)


@dataclass(frozen=True, repr=False)
class Embedding:
    """A row of a table for every id, flax's `nnx.Embed`: integers [...] to floats [..., features].

    Args:
        num_embeddings: how many ids there are; ids must lie below.
        features: size of a row.
    """

    num_embeddings: int
    features: int
    at: str | None = here()

    __repr__, __rshift__, __rrshift__ = rewritten, then, behind

    @property
    def takes(self) -> tuple[tuple[int | str, ...], str]:
        return ("batch", "length"), "int32"

    def module(self, rngs: Any) -> Any:
        from flax import nnx

        return nnx.Embed(self.num_embeddings, self.features, rngs=rngs)

    def init(self, key: Any) -> dict[str, Any]:
        return _flax.init(self, key)

    def apply(self, params: Any, x: Any) -> Any:
        return _flax.apply(self, params, x)

    def mismatch(self, x: Any) -> shapes.Mismatch | None:
        return shapes.embedding(x, self.features)
