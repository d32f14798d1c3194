"""How weights begin: the initialisers of `jax.nn.initializers`, by name or as functions.

Compiling a draw costs far more than drawing, and every shape would be compiled anew. So numbers are drawn
by the thousand, in lengths of powers of two, and cut and scaled by numpy.
"""

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from axiom_jax._errors import AxiomError
from axiom_jax._shapes_places import caller
from axiom_jax._shapes_text import written

Initializer = str | Callable[..., Any]  # f(key, shape, dtype) -> array
FILLED = {"zeros": 0.0, "ones": 1.0}
SCALED = {  # variance / fan, which fan, distribution; as in jax.nn.initializers.variance_scaling
    "glorot_uniform": (1.0, "average", "uniform"), "glorot_normal": (1.0, "average", "truncated_normal"),
    "xavier_uniform": (1.0, "average", "uniform"), "xavier_normal": (1.0, "average", "truncated_normal"),
    "lecun_uniform": (1.0, "in", "uniform"), "lecun_normal": (1.0, "in", "truncated_normal"),
    "he_uniform": (2.0, "in", "uniform"), "he_normal": (2.0, "in", "truncated_normal"),
    "kaiming_uniform": (2.0, "in", "uniform"), "kaiming_normal": (2.0, "in", "truncated_normal"),
    "embedding": (1.0, "out", "normal"),
}  # fmt: skip
OTHERS = ("uniform", "normal", "truncated_normal", "orthogonal", "delta_orthogonal")
NAMES = (*FILLED, *SCALED, *OTHERS)
SHORTEST, LONGEST = 1 << 14, 1 << 22  # of what is drawn at once
SPREAD = {"normal": 1.0, "truncated_normal": 0.87962566103423978, "uniform": 1 / math.sqrt(3)}  # standard deviations


def initializer(given: Initializer) -> Callable[..., Any]:
    """The function `f(key, shape, dtype)` of a name of `jax.nn.initializers`, with its default options.

    "embedding" is normal with a variance of 1 / features, flax's default for tables.

    >>> initializer("he_normal")(jax.random.key(0), (3, 4), "float32").shape
    (3, 4)
    """
    if not isinstance(given, str):
        return given
    if given in FILLED:
        return functools.partial(_filled, FILLED[given])
    if given in SCALED:
        return functools.partial(_scaled, *SCALED[given])
    return _library(given)


def check_initializers(layer: Any, *fields: str) -> None:
    """Refuse names that are no initialisers, at the user's line."""
    for name in fields:
        given = getattr(layer, name)
        if callable(given) or given in NAMES:
            continue
        near = str(given).lower().replace("_", "")
        likely = next((n for n in NAMES if near in n.replace("_", "") or n.replace("_", "") in near), "glorot_uniform")
        raise AxiomError(
            f"{given!r} is no initialiser.", at=layer.at, got=f"{name}={given!r}; known are {', '.join(NAMES)}",
            fix=f"make it {written(layer, **{name: likely})}",
        )  # fmt: skip


def _filled(value: float, key: Any, shape: Any, dtype: Any = jnp.float32) -> Any:
    return (jnp if isinstance(key, Tracer) else np).full(shape, value, dtype)


def _scaled(variance: float, fan: str, distribution: str, key: Any, shape: Any, dtype: Any = jnp.float32) -> Any:
    if len(shape) < 2:
        raise _unfit("An initialiser that looks at inputs and outputs", shape)
    field = math.prod(shape[:-2])
    fans = {"in": shape[-2] * field, "out": shape[-1] * field}
    fans["average"] = (fans["in"] + fans["out"]) / 2
    scale = math.sqrt(variance / max(1.0, fans[fan])) / SPREAD[distribution]
    return _cut(_draw(key, distribution, _length(math.prod(shape))), shape, scale, dtype)


def _cut(drawn: Any, shape: Any, scale: float, dtype: Any) -> Any:
    flat = drawn if isinstance(drawn, Tracer) else np.asarray(drawn)
    return jnp.asarray((flat[: math.prod(shape)].reshape(shape) * np.float32(scale)).astype(dtype))


def _length(count: int) -> int:
    return count if count > LONGEST else max(SHORTEST, 1 << (count - 1).bit_length())


@functools.partial(jax.jit, static_argnums=(1, 2))
def _draw(key: Any, distribution: str, length: int) -> Any:
    match distribution:
        case "uniform":
            return jax.random.uniform(key, (length,), minval=-1.0, maxval=1.0)
        case "normal":
            return jax.random.normal(key, (length,))
    return jax.random.truncated_normal(key, -2.0, 2.0, (length,))


@functools.cache
def _library(name: str) -> Callable[..., Any]:
    # it runs once a layer, so time goes into compiling: without optimisation a tenth of it on CPU
    quick = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
    options = quick if jax.default_backend() == "cpu" else None
    plain = getattr(jax.nn.initializers, name)()
    jitted = jax.jit(plain, static_argnums=(1, 2), compiler_options=options)

    def draw(key: Any, shape: Any, dtype: Any = jnp.float32) -> Any:
        try:
            return (plain if isinstance(key, Tracer) else jitted)(key, tuple(shape), jnp.dtype(dtype))
        except ValueError:  # it is for kernels of other shapes
            raise _unfit(name, shape) from None

    return draw


def _unfit(name: str, shape: Any) -> AxiomError:
    return AxiomError(f"{name} cannot draw weights of this shape.", at=caller(), got=f"weights of shape {tuple(shape)}",
                      fix='use "normal", "uniform", "zeros" or "ones" for these weights')  # fmt: skip
