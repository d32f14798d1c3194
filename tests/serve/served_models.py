"""Models that the tests of this folder serve."""

import functools

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

import axiom_jax as ax
from axiom_jax import nn
from axiom_jax.serve.limits import Limits

LIMITS = Limits(body=2**20, elements=2**16, batch=64, seconds=5.0)


@functools.cache
def mlp(seed: int = 0) -> ax.Model:
    """Four inputs, three probabilities."""
    return ax.Sequential(nn.Dense(4, 8), nn.relu, nn.Dense(8, 3), nn.softmax, name="mlp", seed=seed)


@ax.axiom
def pair(x: Float[Array, "batch 2"], ids: Int[Array, " batch"]) -> tuple[Float[Array, "batch 2"], Int[Array, " batch"]]:
    return jnp.log(x) * ids[:, None], ids + 1


@ax.axiom
def centred(x: Float[Array, "batch 2"]) -> Float[Array, "batch 2"]:
    return x - x.mean(0)


def identity(dtype: str) -> ax.Model:
    """A model of one dtype that gives its input back."""
    from axiom_jax.model import Signature

    line = (("x", ("batch", 2), dtype),)
    return ax.Model(lambda params, x: x, {}, Signature(line, (("y", *line[0][1:]),)), f"id-{dtype}")


TYPES = ("bool", "uint8", "uint16", "uint32", "int8", "int16", "int32", "float16", "bfloat16", "float32")
