"""Layers that are linear in each of their inputs: dense, bilinear, embedding."""

from dataclasses import dataclass
from functools import partial
from typing import Any

from axiom_jax import _shapes_mismatch as shapes
from axiom_jax._shapes_text import written
from axiom_jax.nn._initializers import Initializer, check_initializers, initializer
from axiom_jax.nn._layer import FLAX, here


@dataclass(frozen=True, repr=False)
class Dense:
    """`x @ kernel + bias` on the last axis, flax's `nnx.Linear`.

    Args:
        in_features: size of the last axis of x, [..., in_features].
        out_features: size of the last axis of the output.
        use_bias: whether a bias is added.
        kernel_init, bias_init: a name of `jax.nn.initializers`, or a function of (key, shape, dtype).

    Raises:
        AxiomError: an initialiser's name is not known.

    >>> Dense(784, 10)
    Dense(784, 10)
    """

    in_features: int
    out_features: int
    use_bias: bool = True
    kernel_init: Initializer = "lecun_normal"
    bias_init: Initializer = "zeros"
    at: str | None = here()

    __repr__, __rshift__, __rrshift__, init, apply, apply_train, trainable = FLAX

    def __post_init__(self) -> None:
        check_initializers(self, "kernel_init", "bias_init")

    @property
    def takes(self) -> tuple[tuple[int | str, ...], str]:
        return ("batch", "...", self.in_features), "float32"

    def module(self, rngs: Any) -> Any:
        from flax import nnx

        return nnx.Linear(
            self.in_features, self.out_features, use_bias=self.use_bias, kernel_init=initializer(self.kernel_init),
            bias_init=initializer(self.bias_init), rngs=rngs,
        )  # fmt: skip

    def mismatch(self, x: Any) -> shapes.Mismatch | None:
        return shapes.dense(x, self.in_features, self.out_features, partial(written, self))


Linear = Dense


@dataclass(frozen=True, repr=False)
class Bilinear:
    """`sum_ij x[i] * y[j] * kernel[i, j, k] + bias[k]` of a pair (x, y), as `torch.nn.Bilinear`.

    Args:
        in1_features, in2_features: sizes of the last axes of x, [..., in1_features], and y, [..., in2_features].
        out_features: size of the last axis of the output.
        use_bias: whether a bias is added.
        kernel_init, bias_init: a name of `jax.nn.initializers`, or a function of (key, shape, dtype).

    >>> import jax.numpy as jnp
    >>> from axiom_jax.model import Sequential
    >>> Sequential(Bilinear(3, 4, 2))(jnp.ones((5, 3)), jnp.ones((5, 4))).shape
    (5, 2)
    """

    several = True
    in1_features: int
    in2_features: int
    out_features: int
    use_bias: bool = True
    kernel_init: Initializer = "lecun_normal"
    bias_init: Initializer = "zeros"
    at: str | None = here()

    __repr__, __rshift__, __rrshift__, init, apply, apply_train, trainable = FLAX

    def __post_init__(self) -> None:
        check_initializers(self, "kernel_init", "bias_init")

    def module(self, rngs: Any) -> Any:
        from flax import nnx

        weights = (self.in1_features, self.in2_features, self.out_features)
        return nnx.LinearGeneral(
            weights[:2], weights[2], axis=(-2, -1), use_bias=self.use_bias, kernel_init=initializer(self.kernel_init),
            bias_init=initializer(self.bias_init), rngs=rngs,
        )  # fmt: skip

    def call(self, module: Any, x: Any) -> Any:
        return module(x[0][..., :, None] * x[1][..., None, :])

    def mismatch(self, x: Any) -> shapes.Mismatch | None:
        return shapes.bilinear(x, (self.in1_features, self.in2_features), self.out_features, partial(written, self))


@dataclass(frozen=True, repr=False)
class Embedding:
    """A row of a table for every id, flax's `nnx.Embed`: integers [...] to floats [..., features].

    Args:
        num_embeddings: how many ids there are; ids must lie below.
        features: size of a row.
        embedding_init: a name of `jax.nn.initializers`, or a function of (key, shape, dtype); by default normal
            with a variance of 1 / features.

    >>> Embedding(1000, 16)
    Embedding(1000, 16)
    """

    num_embeddings: int
    features: int
    embedding_init: Initializer = "embedding"
    at: str | None = here()

    __repr__, __rshift__, __rrshift__, init, apply, apply_train, trainable = FLAX

    def __post_init__(self) -> None:
        check_initializers(self, "embedding_init")

    @property
    def takes(self) -> tuple[tuple[int | str, ...], str]:
        return ("batch", "length"), "int32"

    def module(self, rngs: Any) -> Any:
        from flax import nnx

        start = initializer(self.embedding_init)
        return nnx.Embed(self.num_embeddings, self.features, embedding_init=start, rngs=rngs)

    def mismatch(self, x: Any) -> shapes.Mismatch | None:
        return shapes.embedding(x, self.features)
