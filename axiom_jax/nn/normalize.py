"""Normalization over the last axis of [batch, ..., features], and dropout.

Running statistics are among the parameters; they move in training mode only.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any

from axiom_jax import _shapes_mismatch as shapes
from axiom_jax._errors import AxiomError, ShapeError
from axiom_jax._shapes_text import written
from axiom_jax.nn._layer import FLAX, FREE, here


@dataclass(frozen=True, repr=False)
class BatchNorm:
    """`(x - mean) * rsqrt(var + epsilon) * scale + bias` on the last axis, flax's `nnx.BatchNorm`.

    The running mean and variance are among the parameters. In training mode those of the batch are used, and
    the running ones become `momentum * running + (1 - momentum) * batch`.

    Args:
        num_features: size of the last axis, [..., num_features].
        epsilon: added to the variance.
        momentum: how much of the running statistics is kept at a step (PyTorch's momentum is 1 minus this).

    Source: Ioffe and Szegedy 2015, arXiv 1502.03167.

    >>> BatchNorm(8)
    BatchNorm(8)
    """

    num_features: int
    epsilon: float = 1e-5
    momentum: float = 0.99
    at: str | None = here()

    __repr__, __rshift__, __rrshift__, init, apply, apply_train, trainable = FLAX

    @property
    def takes(self) -> tuple[tuple[int | str, ...], str]:
        return ("batch", "...", self.num_features), "float32"

    def module(self, rngs: Any) -> Any:
        from flax import nnx

        return nnx.BatchNorm(self.num_features, use_running_average=True, epsilon=self.epsilon, momentum=self.momentum,
                             rngs=rngs)  # fmt: skip

    def mismatch(self, x: Any) -> shapes.Mismatch | None:
        return shapes.norm(x, self.num_features, partial(written, self))


BatchNorm1d = BatchNorm2d = BatchNorm3d = BatchNorm


@dataclass(frozen=True, repr=False)
class LayerNorm:
    """Mean 0 and variance 1 over the last axis, then scale and bias; flax's `nnx.LayerNorm`.

    Args:
        num_features: size of the last axis, [..., num_features].
        epsilon: added to the variance.

    Source: Ba et al. 2016, arXiv 1607.06450.

    >>> LayerNorm(8, epsilon=1e-5)
    LayerNorm(8, epsilon=1e-05)
    """

    num_features: int
    epsilon: float = 1e-6
    at: str | None = here()

    __repr__, __rshift__, __rrshift__, init, apply, apply_train, trainable = FLAX

    @property
    def takes(self) -> tuple[tuple[int | str, ...], str]:
        return ("batch", "...", self.num_features), "float32"

    def module(self, rngs: Any) -> Any:
        from flax import nnx

        return nnx.LayerNorm(self.num_features, epsilon=self.epsilon, rngs=rngs)

    def mismatch(self, x: Any) -> shapes.Mismatch | None:
        return shapes.norm(x, self.num_features, partial(written, self))


@dataclass(frozen=True, repr=False)
class RMSNorm:
    """`x * rsqrt(mean(x²) + epsilon) * scale` over the last axis, flax's `nnx.RMSNorm`.

    Args:
        num_features: size of the last axis, [..., num_features].
        epsilon: added to the mean of squares.

    Source: Zhang and Sennrich 2019, arXiv 1910.07467.

    >>> RMSNorm(8)
    RMSNorm(8)
    """

    num_features: int
    epsilon: float = 1e-6
    at: str | None = here()

    __repr__, __rshift__, __rrshift__, init, apply, apply_train, trainable = FLAX

    @property
    def takes(self) -> tuple[tuple[int | str, ...], str]:
        return ("batch", "...", self.num_features), "float32"

    def module(self, rngs: Any) -> Any:
        from flax import nnx

        return nnx.RMSNorm(self.num_features, epsilon=self.epsilon, rngs=rngs)

    def mismatch(self, x: Any) -> shapes.Mismatch | None:
        return shapes.norm(x, self.num_features, partial(written, self))


@dataclass(frozen=True, repr=False)
class GroupNorm:
    """Mean 0 and variance 1 over each group of channels of an example, then scale and bias; flax's `nnx.GroupNorm`.

    Args:
        num_features: size of the last axis, [batch, ..., num_features].
        num_groups: how many groups share the channels; divides num_features.
        epsilon: added to the variance.

    Raises:
        ShapeError: the groups do not divide the features.

    Source: Wu and He 2018, arXiv 1803.08494.

    >>> GroupNorm(8, num_groups=2)
    GroupNorm(8, num_groups=2)
    """

    num_features: int
    num_groups: int = 32
    epsilon: float = 1e-6
    at: str | None = here()

    __repr__, __rshift__, __rrshift__, init, apply, apply_train, trainable = FLAX

    def __post_init__(self) -> None:
        if self.num_features % self.num_groups:
            groups = max(n for n in range(1, self.num_groups) if self.num_features % n == 0)
            raise ShapeError(
                f"{self!r} cannot share its features among the groups.", at=self.at,
                got=f"{self.num_features} features, {self.num_groups} groups; expected a divisor",
                fix=f"make it {written(self, num_groups=groups)}",
            )  # fmt: skip

    @property
    def takes(self) -> tuple[tuple[int | str, ...], str]:
        return ("batch", "...", self.num_features), "float32"

    def module(self, rngs: Any) -> Any:
        from flax import nnx

        return nnx.GroupNorm(self.num_features, self.num_groups, epsilon=self.epsilon, rngs=rngs)

    def mismatch(self, x: Any) -> shapes.Mismatch | None:
        return shapes.norm(x, self.num_features, partial(written, self))


@dataclass(frozen=True, repr=False)
class InstanceNorm:
    """Mean 0 and variance 1 over the positions of each channel of an example, then scale and bias.

    Flax's `nnx.InstanceNorm`, over [batch, ..., num_features] with at least one axis between.

    Args:
        num_features: size of the last axis.
        epsilon: added to the variance.

    Source: Ulyanov et al. 2016, arXiv 1607.08022.

    >>> InstanceNorm(8)
    InstanceNorm(8)
    """

    num_features: int
    epsilon: float = 1e-6
    at: str | None = here()

    __repr__, __rshift__, __rrshift__, init, apply, apply_train, trainable = FLAX

    @property
    def takes(self) -> tuple[tuple[int | str, ...], str]:
        return ("batch", "length", self.num_features), "float32"

    def module(self, rngs: Any) -> Any:
        from flax import nnx

        return nnx.InstanceNorm(self.num_features, epsilon=self.epsilon, rngs=rngs)

    def mismatch(self, x: Any) -> shapes.Mismatch | None:
        return shapes.instances(x, self.num_features, partial(written, self))


@dataclass(frozen=True, repr=False)
class Dropout:
    """Zeroes a share of its input in training mode and scales the rest, so that the mean stays; else the identity.

    Args:
        rate: the share, from 0 to 1.

    Raises:
        AxiomError: the rate is not a share.

    Source: Srivastava et al. 2014, Dropout; flax's `nnx.Dropout`.

    >>> Dropout(0.5)
    Dropout(0.5)
    """

    rate: float
    at: str | None = here()

    __repr__, __rshift__, __rrshift__, init = FREE

    def __post_init__(self) -> None:
        if not 0 <= self.rate <= 1:
            share = self.rate / 100 if 1 < self.rate <= 100 else 0.5
            raise AxiomError(f"{self!r} drops no share of its input.", at=self.at, got=f"rate {self.rate}; expected "
                             "a number from 0 to 1", fix=f"make it Dropout({share:g})")  # fmt: skip

    def apply(self, params: Any, x: Any) -> Any:
        return x

    def apply_train(self, params: Any, x: Any, key: Any) -> tuple[Any, Any]:
        from flax import nnx

        return nnx.Dropout(self.rate, deterministic=False, rngs=nnx.Rngs(key))(x), params
