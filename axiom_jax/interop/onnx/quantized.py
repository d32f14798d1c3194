"""ONNX operators on quantised integers."""

from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import lax

from axiom_jax.interop.onnx.ops import Node, array, cast, define, dtype_of, like, positive


def _fitted(node: Node, parameter: Any, x: Any) -> Any:
    """A scale or zero point of a tensor, of an axis or of blocks along it, in a shape that broadcasts to x."""
    if parameter is None:
        return None
    parameter = array(parameter)
    if parameter.ndim == 0 or parameter.size == 1:
        return parameter.reshape(())
    axis = positive(node.get("axis", 1), x.ndim)
    if parameter.ndim == 1:
        return lax.broadcast_in_dim(parameter, x.shape, (axis,))
    block = node.get("block_size", 0) or -(-x.shape[axis] // parameter.shape[axis])
    return lax.slice_in_dim(jnp.repeat(parameter, block, axis), 0, x.shape[axis], axis=axis)


@define("QuantizeLinear")
def _quantize(node: Node, x: Any, scale: Any, zero: Any = None) -> Any:
    code = node.get("output_dtype", 0)
    dtype = zero.dtype if zero is not None else dtype_of(code) if code else np.dtype(np.uint8)
    if dtype.kind not in "iu":
        raise NotImplementedError(f"the type {dtype}")
    x = array(x)
    # scales may be of a wider or narrower type than x; the quotient is computed in the scale's
    scale, zero = _fitted(node, scale, x), _fitted(node, zero, x)
    y = lax.round(x.astype(scale.dtype) / scale, lax.RoundingMethod.TO_NEAREST_EVEN)
    y = y if zero is None else y + zero.astype(y.dtype)
    info = np.iinfo(dtype)
    return cast(jnp.clip(y, info.min, info.max), dtype)


@define("DequantizeLinear")
def _dequantize(node: Node, x: Any, scale: Any, zero: Any = None) -> Any:
    x = array(x)
    if x.dtype.kind not in "iu":
        raise NotImplementedError(f"the type {x.dtype}")
    scale, zero = _fitted(node, scale, x), _fitted(node, zero, x)
    wide = x.astype(np.int32)
    return (wide if zero is None else wide - zero.astype(np.int32)).astype(scale.dtype) * scale


@define("DynamicQuantizeLinear")
def _dynamic_quantize(node: Node, x: Any) -> Any:
    x = array(x)
    low, high = lax.min(jnp.min(x), like(x, 0)), lax.max(jnp.max(x), like(x, 0))
    scale = (high - low) / like(x, 255)
    zero = jnp.clip(lax.round(-low / scale, lax.RoundingMethod.TO_NEAREST_EVEN), 0, 255)
    y = jnp.clip(lax.round(x / scale, lax.RoundingMethod.TO_NEAREST_EVEN) + zero, 0, 255)
    return cast(y, np.uint8), scale, cast(zero, np.uint8)


@define("MatMulInteger")
def _matmul_integer(node: Node, a: Any, b: Any, a_zero: Any = None, b_zero: Any = None) -> Any:
    a, b = array(a).astype(np.int32), array(b).astype(np.int32)
    if a_zero is not None:
        zero = array(a_zero).astype(np.int32)
        a = a - (zero[..., None] if zero.ndim == 1 else zero)
    if b_zero is not None:
        b = b - array(b_zero).astype(np.int32)
    return jnp.matmul(a, b, preferred_element_type=np.int32)


@define("QLinearMatMul")
def _qlinear_matmul(node: Node, a: Any, a_scale: Any, a_zero: Any, b: Any, b_scale: Any, b_zero: Any, y_scale: Any,
                    y_zero: Any) -> Any:  # fmt: skip
    total = _matmul_integer(node, a, b, a_zero, b_zero)
    rows = array(a_scale)
    scale = (rows[..., None] if rows.ndim == 1 else rows) * array(b_scale) / array(y_scale)
    zero = array(y_zero)
    info = np.iinfo(zero.dtype)
    y = lax.round(total.astype(scale.dtype) * scale, lax.RoundingMethod.TO_NEAREST_EVEN) + zero.astype(scale.dtype)
    return cast(jnp.clip(y, info.min, info.max), zero.dtype)


@define("ConvInteger")
def _conv_integer(node: Node, x: Any, w: Any, x_zero: Any = None, w_zero: Any = None) -> Any:
    from axiom_jax.interop.onnx.ops import OPERATORS

    x, w = array(x).astype(np.int32), array(w).astype(np.int32)
    x = x if x_zero is None else x - array(x_zero).astype(np.int32)
    if w_zero is not None:
        zero = array(w_zero).astype(np.int32)
        w = w - (zero.reshape(-1, *(1,) * (w.ndim - 1)) if zero.ndim else zero)
    return OPERATORS["Conv"](node, x, w)
