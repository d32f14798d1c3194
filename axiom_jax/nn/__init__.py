"""Layers: frozen dataclasses of sizes and options over flax.nnx, and the activation functions of `jax.nn`.

A layer has `init(key) -> params` and `apply(params, x) -> y`, knows what it takes (`mismatch`), and
composes with `>>`. Images are channels-last: [batch, height, width, channels].
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jax.nn import celu as celu
    from jax.nn import elu as elu
    from jax.nn import gelu as gelu
    from jax.nn import glu as glu
    from jax.nn import hard_sigmoid as hardsigmoid  # noqa: F401
    from jax.nn import hard_swish as hardswish  # noqa: F401
    from jax.nn import hard_tanh as hardtanh  # noqa: F401
    from jax.nn import leaky_relu as leaky_relu
    from jax.nn import log_sigmoid as log_sigmoid
    from jax.nn import log_softmax as log_softmax
    from jax.nn import mish as mish
    from jax.nn import relu as relu
    from jax.nn import relu6 as relu6
    from jax.nn import selu as selu
    from jax.nn import sigmoid as sigmoid
    from jax.nn import silu as silu
    from jax.nn import soft_sign as softsign  # noqa: F401
    from jax.nn import softmax as softmax
    from jax.nn import softplus as softplus
    from jax.nn import swish as swish
    from jax.numpy import tanh as tanh

    from axiom_jax._model_layers import Layer as Layer
    from axiom_jax.model import Sequential as Sequential
    from axiom_jax.nn.attention import MultiHeadAttention as MultiHeadAttention
    from axiom_jax.nn.combine import Residual as Residual
    from axiom_jax.nn.linear import Conv as Conv
    from axiom_jax.nn.linear import Dense as Dense
    from axiom_jax.nn.linear import Embedding as Embedding
    from axiom_jax.nn.linear import Linear as Linear
    from axiom_jax.nn.normalize import BatchNorm as BatchNorm
    from axiom_jax.nn.normalize import Dropout as Dropout
    from axiom_jax.nn.normalize import LayerNorm as LayerNorm
    from axiom_jax.nn.pool import AvgPool as AvgPool
    from axiom_jax.nn.pool import GlobalAvgPool as GlobalAvgPool
    from axiom_jax.nn.pool import MaxPool as MaxPool
    from axiom_jax.nn.reshape import Flatten as Flatten
    from axiom_jax.nn.reshape import Reshape as Reshape

MODULES = {
    "axiom_jax._model_layers": "Layer",
    "axiom_jax.model": "Sequential",
    "axiom_jax.nn.attention": "MultiHeadAttention",
    "axiom_jax.nn.combine": "Residual",
    "axiom_jax.nn.linear": "Conv Dense Embedding Linear",
    "axiom_jax.nn.normalize": "BatchNorm Dropout LayerNorm",
    "axiom_jax.nn.pool": "AvgPool GlobalAvgPool MaxPool",
    "axiom_jax.nn.reshape": "Flatten Reshape",
    "jax.nn": "celu elu gelu glu leaky_relu log_sigmoid log_softmax mish relu relu6 selu "
    "sigmoid silu softmax softplus swish",
    "jax.numpy": "tanh",
}
PLACES = {name: (module, name) for module, names in MODULES.items() for name in names.split()} | {
    "hardsigmoid": ("jax.nn", "hard_sigmoid"),
    "hardswish": ("jax.nn", "hard_swish"),
    "hardtanh": ("jax.nn", "hard_tanh"),
    "softsign": ("jax.nn", "soft_sign"),
}
__all__ = sorted(PLACES)  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    if name not in PLACES:
        raise AttributeError(f"module 'axiom_jax.nn' has no attribute {name!r}")
    module, attribute = PLACES[name]
    value = getattr(importlib.import_module(module), attribute)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *PLACES])
