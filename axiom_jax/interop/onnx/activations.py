"""ONNX's activation functions."""

import math
from typing import Any

import jax.numpy as jnp
from jax import lax

from axiom_jax.interop.onnx.ops import Node, array, clamp, define, expand_to, like


@define("Mish")
def _mish(node: Node, x: Any) -> Any:
    return lax.mul(array(x), lax.tanh(_softplus(node, x)))


@define("Swish")
def _swish(node: Node, x: Any) -> Any:
    x, alpha = array(x), node.get("alpha", 1.0)
    return lax.mul(x, lax.logistic(x if alpha == 1 else lax.mul(x, like(x, alpha))))


@define("ThresholdedRelu")
def _thresholded_relu(node: Node, x: Any) -> Any:
    x = array(x)
    return jnp.where(x > like(x, node.get("alpha", 1.0)), x, like(x, 0))


@define("Shrink")
def _shrink(node: Node, x: Any) -> Any:
    x = array(x)
    bias, edge = like(x, node.get("bias", 0.0)), like(x, node.get("lambd", 0.5))
    return jnp.where(x < -edge, x + bias, jnp.where(x > edge, x - bias, like(x, 0)))


@define("Relu")
def _relu(node: Node, x: Any) -> Any:
    x = array(x)
    return lax.max(x, like(x, 0))


@define("LeakyRelu")
def _leaky_relu(node: Node, x: Any) -> Any:
    x = array(x)
    slope = like(x, node.get("alpha", 0.01))
    return (lax.max if slope <= 1 else lax.min)(x, lax.mul(x, slope))  # one maximum, so that it relaxes tightly


@define("PRelu")
def _prelu(node: Node, x: Any, slope: Any) -> Any:
    x, slope = array(x), expand_to(array(slope), x.shape)
    return lax.add(lax.max(x, like(x, 0)), lax.mul(slope, lax.min(x, like(x, 0))))


@define("Elu", "Selu", "Celu")
def _elu(node: Node, x: Any) -> Any:
    x = array(x)
    default = {"Selu": 1.6732631921768188}.get(node.op, 1.0)
    alpha, gamma = like(x, node.get("alpha", default)), like(x, node.get("gamma", 1.0507010221481323))
    below = lax.min(x, like(x, 0))
    curve = lax.expm1(lax.div(below, alpha)) if node.op == "Celu" else lax.expm1(below)
    y = lax.add(lax.max(x, like(x, 0)), lax.mul(curve, alpha))
    return lax.mul(y, gamma) if node.op == "Selu" else y


@define("Sigmoid")
def _sigmoid(node: Node, x: Any) -> Any:
    return lax.logistic(array(x))


@define("HardSigmoid")
def _hard_sigmoid(node: Node, x: Any) -> Any:
    x = array(x)
    alpha, beta = like(x, node.get("alpha", 0.2)), like(x, node.get("beta", 0.5))
    return clamp(lax.add(lax.mul(x, alpha), beta), 0, 1)


@define("HardSwish")
def _hard_swish(node: Node, x: Any) -> Any:
    x = array(x)
    return lax.mul(x, clamp(lax.add(lax.mul(x, like(x, 1 / 6)), like(x, 0.5)), 0, 1))


@define("Softplus")
def _softplus(node: Node, x: Any) -> Any:
    x = array(x)
    return lax.add(lax.max(x, like(x, 0)), lax.log1p(lax.exp(lax.neg(lax.abs(x)))))


@define("Softsign")
def _softsign(node: Node, x: Any) -> Any:
    x = array(x)
    return lax.div(x, lax.add(lax.abs(x), like(x, 1)))


@define("Erf")
def _erf(node: Node, x: Any) -> Any:
    return lax.erf(array(x))


@define("Gelu")
def _gelu(node: Node, x: Any) -> Any:
    x = array(x)
    half = lax.mul(x, like(x, 0.5))
    if node.get("approximate", "none") == "none":
        return lax.mul(half, lax.add(lax.erf(lax.mul(x, like(x, math.sqrt(0.5)))), like(x, 1)))
    inner = lax.add(x, lax.mul(lax.integer_pow(x, 3), like(x, 0.044715)))
    return lax.mul(half, lax.add(lax.tanh(lax.mul(inner, like(x, math.sqrt(2 / math.pi)))), like(x, 1)))
