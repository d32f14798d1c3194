"""Every public layer once: how it is made, what it takes, and what it refuses with which fix."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax

from axiom_jax import nn


@dataclass(frozen=True)
class Case:
    """A layer under test.

    Args:
        make: the layer.
        shapes: of one example of each input.
        wrong: the shape of an example that it refuses, with a fix that is code.
        broken, mended: in place of `wrong`, for layers made of layers: one that cannot run, one that can, and
            `words`, the part of the fix that leads from one to the other.
        dtype: of the input.
        steep: how far values may move for finite differences.
    """

    make: Callable[[], Any]
    shapes: tuple[tuple[int, ...], ...]
    wrong: tuple[Any, ...] | None = None
    broken: Callable[[], Any] | None = None
    mended: Callable[[], Any] | None = None
    words: str = ""
    dtype: str = "float32"
    steep: float = 1e-2


def one(make: Callable[[], Any], *shape: int, **more: Any) -> Case:
    return Case(make, (shape,), **more)


CASES: dict[str, Case] = {
    "Dense": one(lambda: nn.Dense(4, 3), 4, wrong=(5,)),
    "Dense, images": one(lambda: nn.Dense(12, 3, use_bias=False, kernel_init="he_uniform"), 12, wrong=(2, 2, 3)),
    "Bilinear": Case(lambda: nn.Bilinear(3, 2, 4), ((3,), (2,)), wrong=((5,), (2,))),
    "Embedding": one(lambda: nn.Embedding(7, 3), 2, dtype="int32"),
    "Conv": one(lambda: nn.Conv(2, 3, (3, 2), strides=2, padding="VALID"), 5, 4, 2, wrong=(5, 4, 3)),
    "Conv, small": one(lambda: nn.Conv(2, 3, (3, 3), padding="VALID", kernel_dilation=2), 5, 5, 2, wrong=(4, 5, 2)),
    "Conv, grouped": one(lambda: nn.Conv(4, 2, 2, feature_group_count=2), 3, 3, 4, wrong=(4, 3, 3)),
    "Conv1d": one(lambda: nn.Conv1d(2, 3), 5, 2, wrong=(5, 4)),
    "Conv2d": one(lambda: nn.Conv2d(1, 2, 2), 3, 3, 1, wrong=(3, 3)),
    "Conv3d": one(lambda: nn.Conv3d(1, 2, 2), 2, 3, 2, 1, wrong=(2, 3, 2)),
    "ConvTranspose": one(lambda: nn.ConvTranspose(2, 3, strides=2), 3, 2, 2, wrong=(3, 2, 4)),
    "ConvTranspose1d": one(lambda: nn.ConvTranspose1d(2, 1, 2, strides=2, padding="VALID"), 3, 2, wrong=(3, 3)),
    "ConvTranspose2d": one(lambda: nn.ConvTranspose2d(1, 2, 2, transpose_kernel=False), 2, 2, 1, wrong=(2, 2)),
    "ConvTranspose3d": one(lambda: nn.ConvTranspose3d(1, 1, 2, strides=2), 2, 1, 2, 1, wrong=(2, 1, 2)),
    "MultiHeadAttention": one(lambda: nn.MultiHeadAttention(2, 4), 3, 4, wrong=(3, 6)),
    "MultiHeadAttention, causal": one(lambda: nn.MultiHeadAttention(2, 4, causal=True), 3, 4, wrong=(4,)),
    "MultiHeadAttention, cross": Case(lambda: nn.MultiHeadAttention(2, 4), ((2, 4), (3, 4)), wrong=((2, 6), (3, 6))),
    "TransformerEncoderLayer": one(lambda: nn.TransformerEncoderLayer(2, 4, 6), 3, 4, wrong=(3, 6)),
    "TransformerEncoderLayer, norm first": one(
        lambda: nn.TransformerEncoderLayer(2, 4, activation=jax.nn.gelu, norm_first=True, causal=True), 3, 4, wrong=(4,)
    ),
    "PositionalEncoding": one(lambda: nn.PositionalEncoding(4), 3, 4, wrong=(3, 5)),
    "PositionalEncoding, learned": one(lambda: nn.PositionalEncoding(4, True, 5), 3, 4, wrong=(6, 4)),
    "LSTM": one(lambda: nn.LSTM(2, 3), 3, 2, wrong=(4, 3)),
    "LSTM, both ways": one(lambda: nn.LSTM(2, 3, False, bidirectional=True), 2, 2, wrong=(2,)),
    "GRU": one(lambda: nn.GRU(2, 3), 2, 2, wrong=(8,)),
    "GRU, last": one(lambda: nn.GRU(2, 3, return_sequences=False), 2, 2, wrong=(4, 2, 2)),
    "BatchNorm": one(lambda: nn.BatchNorm(3), 3, wrong=(4,)),
    "LayerNorm": one(lambda: nn.LayerNorm(4), 4, wrong=(5,)),
    "RMSNorm": one(lambda: nn.RMSNorm(4), 2, 4, wrong=(2, 5)),
    "GroupNorm": one(lambda: nn.GroupNorm(4, num_groups=2), 3, 4, wrong=(3, 6)),
    "InstanceNorm": one(lambda: nn.InstanceNorm(2), 5, 2, wrong=(5, 3)),
    "InstanceNorm, flat": one(lambda: nn.InstanceNorm(2), 5, 2, wrong=(2,)),
    "Dropout": one(lambda: nn.Dropout(0.5), 3),
    "MaxPool": one(lambda: nn.MaxPool(2), 4, 5, 2, wrong=(1, 3, 2)),
    "AvgPool": one(lambda: nn.AvgPool((3,), strides=1, padding="SAME", count_include_pad=False), 4, 2, wrong=(4,)),
    "GlobalAvgPool": one(lambda: nn.GlobalAvgPool(), 3, 2, 2),
    "GlobalMaxPool": one(lambda: nn.GlobalMaxPool(), 3, 2, 2),
    "AdaptiveAvgPool": one(lambda: nn.AdaptiveAvgPool((2, 3)), 5, 3, 2, wrong=(1, 3, 2)),
    "AdaptiveMaxPool": one(lambda: nn.AdaptiveMaxPool(2), 5, 4, 1, wrong=(5, 4)),
    "Flatten": one(lambda: nn.Flatten(), 2, 3),
    "Reshape": one(lambda: nn.Reshape(3, -1), 2, 3, wrong=(2, 5)),
    "PReLU": one(lambda: nn.PReLU(), 2, 3),
    "PReLU, features": one(lambda: nn.PReLU(3), 2, 3, wrong=(2, 4)),
    "Residual": one(
        lambda: nn.Residual(nn.Dense(3, 4), nn.relu, shortcut=nn.Dense(3, 4)), 3,
        broken=lambda: nn.Residual(nn.Dense(3, 4)),
        mended=lambda: nn.Residual(nn.Dense(3, 4), shortcut=nn.Dense(3, 4)), words="shortcut=Dense(3, 4)",
    ),
    "SkipConnection": one(
        lambda: nn.SkipConnection([nn.Dense(3, 2), nn.tanh]), 3,
        broken=lambda: nn.SkipConnection(nn.Dense(3, 2), "sum"),
        mended=lambda: nn.SkipConnection(nn.Dense(3, 3), "sum"), words="make Dense(3, 2) Dense(3, 3)",
    ),
    "Parallel": one(
        lambda: nn.Parallel(nn.Dense(3, 2), [nn.Dense(3, 4), nn.tanh]), 3,
        broken=lambda: nn.Parallel(nn.Dense(3, 2), [nn.Dense(3, 4), nn.tanh], combine="sum"),
        mended=lambda: nn.Parallel(nn.Dense(3, 2), [nn.Dense(3, 4), nn.tanh, nn.Dense(4, 2)], combine="sum"),
        words="end branch 1 with Dense(4, 2)",
    ),
    "Parallel, each": Case(
        lambda: nn.Parallel(nn.Dense(3, 2), nn.Dense(2, 2), combine="product", each=True), ((3,), (2,)),
        wrong=((4,), (2,)),
    ),
    "Conditional": one(
        lambda: nn.Conditional(positive, nn.Dense(3, 2), [nn.Dense(3, 2), nn.tanh]), 3,
        broken=lambda: nn.Conditional(positive, nn.Dense(3, 2), nn.Dense(3, 1)),
        mended=lambda: nn.Conditional(positive, nn.Dense(3, 2), nn.Dense(3, 2)), words="make Dense(3, 1) Dense(3, 2)",
    ),
    "Shared": one(lambda: nn.Shared("tied", nn.Dense(3, 3)), 3, wrong=(4,)),
    "ActNorm": one(lambda: nn.ActNorm(3), 2, 3, wrong=(2, 4)),
    "AffineCoupling": one(lambda: nn.AffineCoupling(3, 4), 3, wrong=(4,)),
    "AffineCoupling, flipped": one(
        lambda: nn.AffineCoupling(4, flip=True, conditioner=[nn.Dense(2, 4), nn.tanh]), 2, 4
    ),
    "InvertibleLinear": one(lambda: nn.InvertibleLinear(3), 2, 3, wrong=(2, 4)),
    "Permutation": one(lambda: nn.Permutation(4, seed=1), 4, wrong=(3,)),
    "Flow": one(lambda: nn.Flow(nn.ActNorm(4), nn.AffineCoupling(4, 4), nn.InvertibleLinear(4)), 2, 4),
}  # fmt: skip


def positive(x: Any) -> Any:
    return x.sum(-1) > 0
