"""Attention."""

from dataclasses import dataclass
from functools import partial
from typing import Any

from axiom_jax import _shapes_mismatch as shapes
from axiom_jax._errors import ShapeError
from axiom_jax._shapes_text import written
from axiom_jax.nn import _flax
from axiom_jax.nn._layer import behind, here, rewritten, then


@dataclass(frozen=True, repr=False)
class MultiHeadAttention:
    """Self-attention over [batch, length, in_features], flax's `nnx.MultiHeadAttention` without mask and dropout.

    Args:
        num_heads: how many heads share the features; divides in_features.
        in_features: size of the last axis, of input and output.

    Raises:
        ShapeError: the heads do not divide the features.

    Source: Vaswani et al. 2017, Attention Is All You Need, arXiv 1706.03762.

    >>> MultiHeadAttention(4, 64)
    MultiHeadAttention(4, 64)
    """

    num_heads: int
    in_features: int
    at: str | None = here()

    __repr__, __rshift__, __rrshift__ = rewritten, then, behind

    def __post_init__(self) -> None:
        if self.in_features % self.num_heads:
            heads = max(n for n in range(1, self.num_heads) if self.in_features % n == 0)
            raise ShapeError(
                f"{self!r} cannot share its features among the heads.", at=self.at,
                got=f"{self.in_features} features, {self.num_heads} heads; expected a divisor",
                fix=f"make it {written(self, num_heads=heads)}",
            )  # fmt: skip

    @property
    def takes(self) -> tuple[tuple[int | str, ...], str]:
        return ("batch", "length", self.in_features), "float32"

    def module(self, rngs: Any) -> Any:
        from flax import nnx

        return nnx.MultiHeadAttention(self.num_heads, self.in_features, decode=False, rngs=rngs)

    def init(self, key: Any) -> dict[str, Any]:
        return _flax.init(self, key)

    def apply(self, params: Any, x: Any) -> Any:
        return _flax.apply(self, params, x)

    def mismatch(self, x: Any) -> shapes.Mismatch | None:
        return shapes.attention(x, self.in_features, partial(written, self))
