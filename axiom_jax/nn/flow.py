"""Normalizing flows: invertible layers with the logarithm of their volume change.

A layer has `forward_and_log_det(params, x) -> (y, log|det dy/dx|)`, the second one number an example, and
`inverse(params, y) -> x`. All act on the last axis of [batch, ..., features].
"""

import math
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from axiom_jax import _shapes_mismatch as shapes
from axiom_jax._errors import AxiomError
from axiom_jax._model import pieces
from axiom_jax._model_chain import Chain
from axiom_jax._model_layers import text
from axiom_jax._shapes_places import caller
from axiom_jax._shapes_text import written
from axiom_jax.nn._layer import behind, here, rewritten, then
from axiom_jax.nn.linear import Dense


class Invertible(Protocol):
    """What a layer of a flow has beside `init` and `apply`."""

    def forward_and_log_det(self, params: Any, x: Any) -> tuple[Any, Any]: ...

    def inverse(self, params: Any, y: Any) -> Any: ...


def _apply(self: Invertible, params: Any, x: Any) -> Any:
    return self.forward_and_log_det(params, x)[0]


INVERTIBLE = rewritten, then, behind, _apply


def _positions(x: Any) -> Any:
    """How many vectors an example has."""
    return math.prod(x.shape[1:-1])


def _each_example(x: Any) -> Any:
    """The sum over all axes but the batch."""
    return x.sum(axis=tuple(range(1, x.ndim)))


@dataclass(frozen=True, repr=False)
class ActNorm:
    """`x * exp(log_scale) + bias` for each feature.

    Args:
        num_features: size of the last axis.

    Source: Kingma and Dhariwal 2018, Glow, arXiv 1807.03039; `fitted` is its data-dependent initialisation.

    >>> layer = ActNorm(2)
    >>> y, log_det = layer.forward_and_log_det({"log_scale": jnp.log(jnp.array([2.0, 3.0])), "bias": jnp.zeros(2)},
    ...                                        jnp.ones((1, 2)))
    >>> [round(float(v), 5) for v in y[0]], round(float(jnp.exp(log_det[0])), 4)
    ([2.0, 3.0], 6.0)
    """

    num_features: int
    at: str | None = here()

    __repr__, __rshift__, __rrshift__, apply = INVERTIBLE

    @property
    def takes(self) -> tuple[tuple[int | str, ...], str]:
        return ("batch", "...", self.num_features), "float32"

    def init(self, key: Any) -> dict[str, Any]:
        return {"log_scale": jnp.zeros(self.num_features), "bias": jnp.zeros(self.num_features)}

    def fitted(self, x: Any) -> dict[str, Any]:
        """Parameters with which the features of a batch have mean 0 and variance 1."""
        axes = tuple(range(x.ndim - 1))
        scale = 1 / (x.std(axes) + 1e-6)
        return {"log_scale": jnp.log(scale), "bias": -x.mean(axes) * scale}

    def forward_and_log_det(self, params: Any, x: Any) -> tuple[Any, Any]:
        y = x * jnp.exp(params["log_scale"]) + params["bias"]
        return y, jnp.broadcast_to(_positions(x) * params["log_scale"].sum(), x.shape[:1])

    def inverse(self, params: Any, y: Any) -> Any:
        return (y - params["bias"]) * jnp.exp(-params["log_scale"])

    def mismatch(self, x: Any) -> shapes.Mismatch | None:
        return shapes.norm(x, self.num_features, partial(written, self))


@dataclass(frozen=True, repr=False)
class Permutation:
    """The features in another order, which is fixed.

    Args:
        num_features: size of the last axis.
        seed: None to reverse them, else of a random order.

    >>> Permutation(3).apply({}, jnp.array([[1.0, 2.0, 3.0]])).tolist()
    [[3.0, 2.0, 1.0]]
    """

    num_features: int
    seed: int | None = None
    at: str | None = here()

    __repr__, __rshift__, __rrshift__, apply = INVERTIBLE

    @property
    def takes(self) -> tuple[tuple[int | str, ...], str]:
        return ("batch", "...", self.num_features), "float32"

    @property
    def order(self) -> np.ndarray:
        count = self.num_features
        return np.arange(count)[::-1] if self.seed is None else np.random.default_rng(self.seed).permutation(count)

    def init(self, key: Any) -> dict[str, Any]:
        return {}

    def forward_and_log_det(self, params: Any, x: Any) -> tuple[Any, Any]:
        return x[..., self.order], jnp.zeros(x.shape[:1], x.dtype)

    def inverse(self, params: Any, y: Any) -> Any:
        return y[..., np.argsort(self.order)]

    def mismatch(self, x: Any) -> shapes.Mismatch | None:
        return shapes.norm(x, self.num_features, partial(written, self))


@dataclass(frozen=True, repr=False)
class InvertibleLinear:
    """`x @ kernel` with a square kernel that begins as a rotation: an invertible 1×1 convolution.

    Args:
        num_features: size of the last axis.

    Source: Kingma and Dhariwal 2018, Glow, arXiv 1807.03039.

    >>> layer = InvertibleLinear(3)
    >>> x, params = jnp.ones((1, 3)), layer.init(jax.random.key(0))
    >>> bool(jnp.allclose(layer.inverse(params, layer.apply(params, x)), x, atol=1e-5))
    True
    """

    num_features: int
    at: str | None = here()

    __repr__, __rshift__, __rrshift__, _ = INVERTIBLE

    @property
    def takes(self) -> tuple[tuple[int | str, ...], str]:
        return ("batch", "...", self.num_features), "float32"

    def init(self, key: Any) -> dict[str, Any]:
        return {"kernel": jax.nn.initializers.orthogonal()(key, (self.num_features, self.num_features))}

    def apply(self, params: Any, x: Any) -> Any:
        return x @ params["kernel"]

    def forward_and_log_det(self, params: Any, x: Any) -> tuple[Any, Any]:
        log_det = _positions(x) * jnp.linalg.slogdet(params["kernel"])[1]
        return self.apply(params, x), jnp.broadcast_to(log_det, x.shape[:1])

    def inverse(self, params: Any, y: Any) -> Any:
        flat = y.reshape(-1, self.num_features)
        return jnp.linalg.solve(params["kernel"].T, flat.T).T.reshape(y.shape)

    def mismatch(self, x: Any) -> shapes.Mismatch | None:
        return shapes.norm(x, self.num_features, partial(written, self))


@dataclass(frozen=True, repr=False, init=False)
class AffineCoupling:
    """Half of the features scaled and shifted by functions of the other half, which stays.

    `y2 = x2 * exp(s) + t` with `s, t = split(conditioner(x1))`, s kept within ±limit by a tanh.

    Args:
        num_features: size of the last axis; at least 2.
        hidden_features: of the conditioner, two layers with relu; its last begins with zeros, so that the
            coupling begins as the identity.
        flip: whether the second half stays instead of the first.
        conditioner: a layer or list of layers in its place: [batch, ..., kept] to [batch, ..., 2 * changed].
        limit: of the logarithm of the scale.

    Source: Dinh et al. 2017, Density estimation using Real NVP, arXiv 1605.08803.

    >>> AffineCoupling(4, 16, flip=True)
    AffineCoupling(4, hidden_features=16, flip=True)
    """

    num_features: int
    hidden_features: int = 64
    flip: bool = False
    limit: float = 2.0
    conditioner: Chain = field(default=Chain(()), repr=False)
    at: str | None = here()

    __rshift__, __rrshift__ = then, behind

    def __init__(self, num_features: int, hidden_features: int = 64, flip: bool = False, limit: float = 2.0, *,
                 conditioner: Any = None) -> None:  # fmt: skip
        if num_features < 2:
            raise AxiomError(f"AffineCoupling({num_features}) has no halves.", at=caller(),
                             got=f"{num_features} feature", fix="use ActNorm(1), or 2 features or more")  # fmt: skip
        kept = num_features - num_features // 2 if flip else num_features // 2
        layers = conditioner if isinstance(conditioner, (list, tuple)) else [conditioner]
        if conditioner is None:
            end = Dense(hidden_features, 2 * (num_features - kept), kernel_init="zeros")
            layers = [Dense(kept, hidden_features), jax.nn.relu, end]
        found = [piece for layer in layers for piece in pieces(layer)]
        if any(params is not None and jax.tree.leaves(params) for _, params in found):
            raise AxiomError("The conditioner of an AffineCoupling draws its own parameters.", at=caller(),
                             fix="give it layers that are described by sizes: [nn.Dense(…), nn.relu, …]")  # fmt: skip
        values = {"num_features": num_features, "hidden_features": hidden_features, "flip": flip, "limit": limit,
                  "conditioner": Chain(tuple(layer for layer, _ in found)), "at": caller()}  # fmt: skip
        for name, value in values.items():
            object.__setattr__(self, name, value)

    def __repr__(self) -> str:
        return self.written()

    def written(self, num_features: int | None = None) -> str:
        parts = [str(num_features or self.num_features)]
        defaults = (("hidden_features", 64), ("flip", False), ("limit", 2.0))
        parts += [f"{name}={getattr(self, name)!r}" for name, value in defaults if getattr(self, name) != value]
        return f"AffineCoupling({', '.join(parts)})"

    @property
    def takes(self) -> tuple[tuple[int | str, ...], str]:
        return ("batch", "...", self.num_features), "float32"

    def init(self, key: Any) -> dict[str, Any]:
        return self.conditioner.init(key)

    def apply(self, params: Any, x: Any) -> Any:
        return self.forward_and_log_det(params, x)[0]

    def forward_and_log_det(self, params: Any, x: Any) -> tuple[Any, Any]:
        kept, changed = self._halves(x)
        scale, shift = self._conditioned(params, kept)
        return self._joined(kept, changed * jnp.exp(scale) + shift), _each_example(scale)

    def inverse(self, params: Any, y: Any) -> Any:
        kept, changed = self._halves(y)
        scale, shift = self._conditioned(params, kept)
        return self._joined(kept, (changed - shift) * jnp.exp(-scale))

    def _conditioned(self, params: Any, kept: Any) -> tuple[Any, Any]:
        scale, shift = jnp.split(self.conditioner(params, kept), 2, axis=-1)
        return self.limit * jnp.tanh(scale / self.limit), shift

    def _halves(self, x: Any) -> tuple[Any, Any]:
        first, second = x[..., : self.num_features // 2], x[..., self.num_features // 2 :]
        return (second, first) if self.flip else (first, second)

    def _joined(self, kept: Any, changed: Any) -> Any:
        return jnp.concatenate([changed, kept] if self.flip else [kept, changed], axis=-1)

    def mismatch(self, x: Any) -> shapes.Mismatch | None:
        return shapes.norm(x, self.num_features, self.written)


@dataclass(frozen=True, repr=False, init=False)
class Flow:
    """Invertible layers one after the other: a density that can be evaluated and sampled.

    The base density is the standard normal; `forward` goes from data to noise.

    Args:
        *layers: `AffineCoupling`, `ActNorm`, `Permutation`, `InvertibleLinear`, or layers of one's own that have
            `forward_and_log_det` and `inverse`.

    Raises:
        AxiomError: a layer cannot be inverted.

    >>> flow = Flow(ActNorm(2), AffineCoupling(2, 8), Permutation(2))
    >>> params = flow.init(jax.random.key(0))
    >>> flow.log_prob(params, jnp.zeros((3, 2))).shape
    (3,)
    """

    chain: Chain
    at: str | None = here()

    __rshift__, __rrshift__ = then, behind

    def __init__(self, *layers: Any) -> None:
        found = [layer for thing in layers for layer, _ in pieces(thing)]
        for layer in found:
            if not (hasattr(layer, "forward_and_log_det") and hasattr(layer, "inverse")):
                raise AxiomError(
                    f"{text(layer)} cannot be inverted.", at=caller(), got="no forward_and_log_det and inverse",
                    fix="use AffineCoupling, ActNorm, Permutation or InvertibleLinear",
                )  # fmt: skip
        object.__setattr__(self, "chain", Chain(tuple(found)))
        object.__setattr__(self, "at", caller())

    def __repr__(self) -> str:
        return f"Flow({', '.join(map(text, self.chain.layers))})"

    @property
    def layers(self) -> tuple[Any, ...]:
        return self.chain.layers

    @property
    def takes(self) -> Any:
        return getattr(self.layers[0], "takes", None) if self.layers else None

    def init(self, key: Any) -> dict[str, Any]:
        return self.chain.init(key)

    def apply(self, params: Any, x: Any) -> Any:
        return self.chain(params, x)

    def forward_and_log_det(self, params: Any, x: Any) -> tuple[Any, Any]:
        """Noise from data, and log|det| of each example, [batch]."""
        total = jnp.zeros(x.shape[:1], x.dtype)
        for name, layer in zip(self.chain.names, self.layers, strict=True):
            x, log_det = layer.forward_and_log_det(params.get(name, {}), x)
            total += log_det
        return x, total

    def inverse(self, params: Any, y: Any) -> Any:
        """Data from noise."""
        for name, layer in reversed(list(zip(self.chain.names, self.layers, strict=True))):
            y = layer.inverse(params.get(name, {}), y)
        return y

    def log_prob(self, params: Any, x: Any) -> Any:
        """The logarithm of the density of each example, [batch]."""
        z, log_det = self.forward_and_log_det(params, x)
        return _each_example(jax.scipy.stats.norm.logpdf(z)) + log_det

    def sample(self, params: Any, key: Any, shape: tuple[int, ...]) -> Any:
        """Examples drawn from the density; `shape` is (batch, ..., features)."""
        return self.inverse(params, jax.random.normal(key, shape))
