"""Our layers as flax.nnx modules: graph and parameters are taken apart, so that `apply` is pure.

A layer gives its module by `module(rngs)`, in inference form. The graph depends on the layer alone and is kept.
"""

import functools
from typing import Any, Protocol

import jax
from jax.core import Tracer


class Described(Protocol):
    """A hashable layer that says which flax.nnx module it is."""

    def module(self, rngs: Any) -> Any: ...


def init(layer: Described, key: Any) -> dict[str, Any]:
    """The module's parameters and running statistics, by name."""
    return _parameters(layer, key) if isinstance(key, Tracer) else _drawn()(layer, key)


def _parameters(layer: Described, key: Any) -> dict[str, Any]:
    from flax import nnx

    return nnx.to_pure_dict(nnx.split(layer.module(nnx.Rngs(key)))[1])


@functools.cache
def _drawn() -> Any:
    # it runs once a layer, so time goes into compiling: without optimisation a tenth of it on CPU
    quick = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
    options = quick if jax.default_backend() == "cpu" else None
    return jax.jit(_parameters, static_argnums=0, compiler_options=options)


def apply(layer: Described, params: Any, x: Any) -> Any:
    """The module with these parameters on a batch of inputs."""
    from flax import nnx

    return nnx.merge(_graph(layer), params)(x)


@functools.lru_cache(maxsize=1024)
def _graph(layer: Described) -> Any:
    from flax import nnx

    return nnx.split(nnx.eval_shape(lambda: layer.module(nnx.Rngs(0))))[0]
