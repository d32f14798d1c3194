"""Attention, the layers around it, and where in a sequence an element stands."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from axiom_jax import _shapes_mismatch as shapes
from axiom_jax._errors import ShapeError
from axiom_jax._shapes_text import written
from axiom_jax.nn._initializers import Initializer, check_initializers, initializer
from axiom_jax.nn._layer import FLAX, here


@dataclass(frozen=True, repr=False)
class MultiHeadAttention:
    """Attention over [batch, length, in_features], flax's `nnx.MultiHeadAttention`.

    One array attends to itself. A tuple (query, memory) or (query, key, value) is cross-attention. A last
    part of booleans is a mask, True where to look: [batch, key length], or any that fits
    [batch, heads, query length, key length].

    Args:
        num_heads: how many heads share the features; divides in_features.
        in_features: size of the last axis, of input and output.
        causal: whether an element sees only itself and those before it.
        dropout_rate: share of the attention weights that is dropped while training.
        use_bias: whether the four projections add biases.
        kernel_init, bias_init: a name of `jax.nn.initializers`, or a function of (key, shape, dtype).

    Raises:
        ShapeError: the heads do not divide the features.

    Source: Vaswani et al. 2017, Attention Is All You Need, arXiv 1706.03762.

    >>> MultiHeadAttention(4, 64, causal=True)
    MultiHeadAttention(4, 64, causal=True)
    """

    several = True
    num_heads: int
    in_features: int
    causal: bool = False
    dropout_rate: float = 0.0
    use_bias: bool = True
    kernel_init: Initializer = "lecun_normal"
    bias_init: Initializer = "zeros"
    at: str | None = here()

    __repr__, __rshift__, __rrshift__, init, apply, apply_train, trainable = FLAX

    def __post_init__(self) -> None:
        _check_heads(self)
        check_initializers(self, "kernel_init", "bias_init")

    @property
    def takes(self) -> tuple[tuple[int | str, ...], str]:
        return ("batch", "length", self.in_features), "float32"

    def module(self, rngs: Any) -> Any:
        from flax import nnx

        return nnx.MultiHeadAttention(
            self.num_heads, self.in_features, dropout_rate=self.dropout_rate, use_bias=self.use_bias, decode=False,
            kernel_init=initializer(self.kernel_init), bias_init=initializer(self.bias_init), rngs=rngs,
        )  # fmt: skip

    def call(self, module: Any, x: Any) -> Any:
        arrays, mask = shapes.attended(x)
        query, key = arrays[0], arrays[1] if len(arrays) > 1 else arrays[0]
        if mask is not None and mask.ndim == 2:
            mask = mask[:, None, None, :]
        return module(*arrays, mask=_masked(mask, query.shape[1], key.shape[1]) if self.causal else mask)

    def mismatch(self, x: Any) -> shapes.Mismatch | None:
        return shapes.attention(x, self.in_features, partial(written, self))


@dataclass(frozen=True, repr=False)
class TransformerEncoderLayer:
    """Self-attention and a two-layer net for every element, each with a shortcut and a layer norm.

    Over [batch, length, in_features]; a tuple (x, mask) as for `MultiHeadAttention`. The same function as
    `torch.nn.TransformerEncoderLayer` with `batch_first=True`.

    Args:
        num_heads: divides in_features.
        in_features: size of the last axis.
        hidden_features: inside the net for every element; four times in_features by default.
        dropout_rate: share dropped while training, of the attention weights, inside the net and before both sums.
        activation: of the net for every element.
        norm_first: whether the norms come before attention and net, instead of after the sums.
        causal: whether an element sees only itself and those before it.
        epsilon: of the layer norms.

    Source: Vaswani et al. 2017, arXiv 1706.03762; norm_first: Xiong et al. 2020, arXiv 2002.04745.

    >>> TransformerEncoderLayer(2, 8, hidden_features=16)
    TransformerEncoderLayer(2, 8, hidden_features=16)
    """

    several = True
    num_heads: int
    in_features: int
    hidden_features: int | None = None
    dropout_rate: float = 0.1
    activation: Callable[[Any], Any] = jax.nn.relu
    norm_first: bool = False
    causal: bool = False
    epsilon: float = 1e-5
    at: str | None = here()

    __repr__, __rshift__, __rrshift__, init, apply, apply_train, trainable = FLAX

    def __post_init__(self) -> None:
        _check_heads(self)

    @property
    def takes(self) -> tuple[tuple[int | str, ...], str]:
        return ("batch", "length", self.in_features), "float32"

    @property
    def _attention(self) -> MultiHeadAttention:
        return MultiHeadAttention(self.num_heads, self.in_features, self.causal, self.dropout_rate)

    def module(self, rngs: Any) -> Any:
        from flax import nnx

        features, hidden = self.in_features, self.hidden_features or 4 * self.in_features
        linear = partial(nnx.Linear, kernel_init=initializer("lecun_normal"), bias_init=initializer("zeros"), rngs=rngs)
        return nnx.Dict(
            attention=self._attention.module(rngs),
            norm1=nnx.LayerNorm(features, epsilon=self.epsilon, rngs=rngs),
            linear1=linear(features, hidden),
            linear2=linear(hidden, features),
            norm2=nnx.LayerNorm(features, epsilon=self.epsilon, rngs=rngs),
            dropout=nnx.Dropout(self.dropout_rate, rngs=rngs),
        )

    def call(self, module: Any, x: Any) -> Any:
        (x,), mask = shapes.attended(x)
        dropped = lambda y: module["dropout"](y)
        attend = lambda y: dropped(self._attention.call(module["attention"], y if mask is None else (y, mask)))
        inner = lambda y: dropped(module["linear2"](dropped(self.activation(module["linear1"](y)))))
        if self.norm_first:
            x = x + attend(module["norm1"](x))
            return x + inner(module["norm2"](x))
        x = module["norm1"](x + attend(x))
        return module["norm2"](x + inner(x))

    def mismatch(self, x: Any) -> shapes.Mismatch | None:
        return shapes.attention(x, self.in_features, partial(written, self), arrays=1)


@dataclass(frozen=True, repr=False)
class PositionalEncoding:
    """`x + p`, where row i of p says that an element stands at place i; over [batch, length, features].

    Args:
        features: size of the last axis.
        learned: False for sines and cosines of wavelengths from 2π to 20000π; True for rows that are trained.
        max_length: the longest sequence, where the rows are learned.

    Source: Vaswani et al. 2017, arXiv 1706.03762, section 3.5.

    >>> PositionalEncoding(16, learned=True, max_length=50)
    PositionalEncoding(16, learned=True, max_length=50)
    """

    features: int
    learned: bool = False
    max_length: int = 512
    at: str | None = here()

    __repr__, __rshift__, __rrshift__, _, apply, apply_train, trainable = FLAX

    @property
    def takes(self) -> tuple[tuple[int | str, ...], str]:
        return ("batch", "length", self.features), "float32"

    def init(self, key: Any) -> dict[str, Any]:
        from axiom_jax.nn import _flax

        return _flax.init(self, key) if self.learned else {}

    def module(self, rngs: Any) -> Any:
        from flax import nnx

        table = partial(nnx.Embed, self.max_length, self.features, embedding_init=initializer("embedding"), rngs=rngs)
        return nnx.Dict(**({"embed": table()} if self.learned else {}))

    def call(self, module: Any, x: Any) -> Any:
        places = jnp.arange(x.shape[1])
        return x + (module["embed"](places) if self.learned else _waves(places, self.features)).astype(x.dtype)

    def mismatch(self, x: Any) -> shapes.Mismatch | None:
        longest = self.max_length if self.learned else None
        return shapes.positions(x, self.features, longest, partial(written, self))


def _waves(places: Any, features: int) -> Any:
    """Sine and cosine of places, one after the other: (length, features)."""
    rates = jnp.exp(jnp.arange(0, features, 2) * (-math.log(10000.0) / features))
    angles = places[:, None] * rates[None, :]
    both = jnp.stack([jnp.sin(angles), jnp.cos(angles)], axis=-1).reshape(places.shape[0], 2 * rates.shape[0])
    return both[:, :features]


def _masked(mask: Any, query: Any, key: Any) -> Any:
    """A mask in which no element sees a later one."""
    seen = (jnp.arange(query)[:, None] >= jnp.arange(key)[None, :])[None, None]
    return seen if mask is None else mask & seen


def _check_heads(layer: Any) -> None:
    if layer.in_features % layer.num_heads:
        heads = max(n for n in range(1, layer.num_heads) if layer.in_features % n == 0)
        raise ShapeError(
            f"{layer!r} cannot share its features among the heads.", at=layer.at,
            got=f"{layer.in_features} features, {layer.num_heads} heads; expected a divisor",
            fix=f"make it {written(layer, num_heads=heads)}",
        )  # fmt: skip
