"""Our layers as flax.nnx modules: graph and parameters are taken apart, so that `apply` is pure.

A layer gives its module by `module(rngs)`; how it is called, if not by `module(x)`, by `call(module, x)`. The graph
depends on the layer alone and is kept.
"""

import functools
from typing import Any, Protocol

from axiom_jax._model_layers import Nnx, adopt, called


class Described(Protocol):
    """A hashable layer that says which flax.nnx module it is."""

    def module(self, rngs: Any) -> Any: ...


def init(layer: Described, key: Any) -> dict[str, Any]:
    """The module's parameters and running statistics, by name."""
    from flax import nnx

    return nnx.to_pure_dict(nnx.split(layer.module(nnx.Rngs(key)), nnx.Not(nnx.RngState), ...)[1])


def apply(layer: Described, params: Any, x: Any) -> Any:
    """The module with these parameters on a batch of inputs, in inference mode."""
    return _adopted(layer).apply(params, x, getattr(layer, "call", called))


def apply_train(layer: Described, params: Any, x: Any, key: Any) -> tuple[Any, Any]:
    """Training mode: the output, and the parameters with moved running statistics."""
    return _adopted(layer).apply_train(params, x, key, getattr(layer, "call", called))


def trainable(layer: Described, params: Any) -> Any:
    """True for parameters, False for running statistics."""
    return _adopted(layer).trainable(params)


@functools.lru_cache(maxsize=1024)
def _adopted(layer: Described) -> Nnx:
    from flax import nnx

    adopted, _ = adopt(nnx.eval_shape(lambda: layer.module(nnx.Rngs(0))))
    assert isinstance(adopted, Nnx)
    return adopted
