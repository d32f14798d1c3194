"""Layers: frozen dataclasses of sizes and options over flax.nnx, and the activation functions of `jax.nn`.

A layer has `init(key) -> params`, `apply(params, x) -> y` and, where training differs, `apply_train(params, x, key)
-> (y, params)`; it knows what it takes (`mismatch`), and composes with `>>`. Images are channels-last: [batch, height,
width, channels].
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
    from jax.nn import identity as identity
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
    from axiom_jax.nn.activation import PReLU as PReLU
    from axiom_jax.nn.attention import MultiHeadAttention as MultiHeadAttention
    from axiom_jax.nn.attention import PositionalEncoding as PositionalEncoding
    from axiom_jax.nn.attention import TransformerEncoderLayer as TransformerEncoderLayer
    from axiom_jax.nn.combine import Parallel as Parallel
    from axiom_jax.nn.combine import Residual as Residual
    from axiom_jax.nn.combine import SkipConnection as SkipConnection
    from axiom_jax.nn.conditional import Conditional as Conditional
    from axiom_jax.nn.convolution import Conv as Conv
    from axiom_jax.nn.convolution import Conv1d as Conv1d
    from axiom_jax.nn.convolution import Conv2d as Conv2d
    from axiom_jax.nn.convolution import Conv3d as Conv3d
    from axiom_jax.nn.convolution import ConvTranspose as ConvTranspose
    from axiom_jax.nn.convolution import ConvTranspose1d as ConvTranspose1d
    from axiom_jax.nn.convolution import ConvTranspose2d as ConvTranspose2d
    from axiom_jax.nn.convolution import ConvTranspose3d as ConvTranspose3d
    from axiom_jax.nn.flow import ActNorm as ActNorm
    from axiom_jax.nn.flow import AffineCoupling as AffineCoupling
    from axiom_jax.nn.flow import Flow as Flow
    from axiom_jax.nn.flow import InvertibleLinear as InvertibleLinear
    from axiom_jax.nn.flow import Permutation as Permutation
    from axiom_jax.nn.linear import Bilinear as Bilinear
    from axiom_jax.nn.linear import Dense as Dense
    from axiom_jax.nn.linear import Embedding as Embedding
    from axiom_jax.nn.linear import Linear as Linear
    from axiom_jax.nn.normalize import BatchNorm as BatchNorm
    from axiom_jax.nn.normalize import BatchNorm1d as BatchNorm1d
    from axiom_jax.nn.normalize import BatchNorm2d as BatchNorm2d
    from axiom_jax.nn.normalize import BatchNorm3d as BatchNorm3d
    from axiom_jax.nn.normalize import Dropout as Dropout
    from axiom_jax.nn.normalize import GroupNorm as GroupNorm
    from axiom_jax.nn.normalize import InstanceNorm as InstanceNorm
    from axiom_jax.nn.normalize import LayerNorm as LayerNorm
    from axiom_jax.nn.normalize import RMSNorm as RMSNorm
    from axiom_jax.nn.pool import AdaptiveAvgPool as AdaptiveAvgPool
    from axiom_jax.nn.pool import AdaptiveAvgPool2d as AdaptiveAvgPool2d
    from axiom_jax.nn.pool import AdaptiveMaxPool as AdaptiveMaxPool
    from axiom_jax.nn.pool import AdaptiveMaxPool2d as AdaptiveMaxPool2d
    from axiom_jax.nn.pool import AvgPool as AvgPool
    from axiom_jax.nn.pool import AvgPool2d as AvgPool2d
    from axiom_jax.nn.pool import GlobalAvgPool as GlobalAvgPool
    from axiom_jax.nn.pool import GlobalMaxPool as GlobalMaxPool
    from axiom_jax.nn.pool import MaxPool as MaxPool
    from axiom_jax.nn.pool import MaxPool2d as MaxPool2d
    from axiom_jax.nn.recurrent import GRU as GRU
    from axiom_jax.nn.recurrent import LSTM as LSTM
    from axiom_jax.nn.reshape import Flatten as Flatten
    from axiom_jax.nn.reshape import Reshape as Reshape
    from axiom_jax.nn.shared import Shared as Shared

MODULES = {
    "axiom_jax._model_layers": "Layer",
    "axiom_jax.model": "Sequential",
    "axiom_jax.nn.activation": "PReLU",
    "axiom_jax.nn.attention": "MultiHeadAttention PositionalEncoding TransformerEncoderLayer",
    "axiom_jax.nn.combine": "Parallel Residual SkipConnection",
    "axiom_jax.nn.conditional": "Conditional",
    "axiom_jax.nn.convolution": 
    "Conv Conv1d Conv2d Conv3d ConvTranspose ConvTranspose1d ConvTranspose2d ConvTranspose3d",
    "axiom_jax.nn.flow": "ActNorm AffineCoupling Flow InvertibleLinear Permutation",
    "axiom_jax.nn.linear": "Bilinear Dense Embedding Linear",
    "axiom_jax.nn.normalize": "BatchNorm BatchNorm1d BatchNorm2d BatchNorm3d Dropout GroupNorm InstanceNorm LayerNorm "
    "RMSNorm",
    "axiom_jax.nn.pool": "AdaptiveAvgPool AdaptiveAvgPool2d AdaptiveMaxPool AdaptiveMaxPool2d AvgPool AvgPool2d "
    "GlobalAvgPool GlobalMaxPool MaxPool MaxPool2d",
    "axiom_jax.nn.recurrent": "GRU LSTM",
    "axiom_jax.nn.reshape": "Flatten Reshape",
    "axiom_jax.nn.shared": "Shared",
    "jax.nn": "celu elu gelu glu identity leaky_relu log_sigmoid log_softmax mish relu relu6 selu "
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
        plain = lambda word: word.replace("_", "").lower()
        near = next((known for known in PLACES if plain(known) == plain(name)), None)
        function = " (a function: it stands in a Sequential without a call)" if near and near.islower() else ""
        hint = f"; nn.{near} is meant{function}?" if near else ""
        raise AttributeError(f"module 'axiom_jax.nn' has no attribute {name!r}{hint}")
    module, attribute = PLACES[name]
    value = getattr(importlib.import_module(module), attribute)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *PLACES])
