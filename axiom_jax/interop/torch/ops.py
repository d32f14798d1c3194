"""What ATen's elementwise operators, comparisons and reductions mean in JAX, one function an operator.

Arguments come in ATen's order; a dtype is its name. Source: aten/src/ATen/native/native_functions.yaml of PyTorch.
"""

import math
import operator
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from axiom_jax.interop.torch.graph import define

SAME_NAME = """abs acos acosh asin asinh atan atanh ceil cos cosh exp exp2 expm1 floor isinf isnan isfinite log log1p
    log2 log10 logical_not maximum minimum reciprocal sign sin sinh sqrt square tan tanh trunc arctan2 logical_and
    logical_or logical_xor""".split()
for _name in SAME_NAME:
    define(_name)(getattr(jnp, _name))

for _name, _function in {
    "neg": lambda x: -x,
    "round": jnp.round,
    "rsqrt": lax.rsqrt,
    "erf": jax.scipy.special.erf,
    "erfc": jax.scipy.special.erfc,
    "erfinv": jax.scipy.special.erfinv,
    "lgamma": jax.scipy.special.gammaln,
    "sigmoid": jax.nn.sigmoid,
    "special_expit": jax.nn.sigmoid,
    "relu": lambda x: jnp.maximum(x, 0),
    "relu6": lambda x: jnp.clip(x, 0, 6),
    "silu": lambda x: x * jax.nn.sigmoid(x),
    "mish": lambda x: x * jnp.tanh(jax.nn.softplus(x)),
    "hardswish": lambda x: x * (jnp.clip(x + 3, 0, 6) / 6),
    "hardsigmoid": lambda x: jnp.clip(x + 3, 0, 6) / 6,
    "log_sigmoid": jax.nn.log_sigmoid,
    "atan2": jnp.arctan2,
    "eq.Tensor": jnp.equal, "eq.Scalar": jnp.equal, "ne.Tensor": jnp.not_equal, "ne.Scalar": jnp.not_equal,
    "lt.Tensor": jnp.less, "lt.Scalar": jnp.less, "le.Tensor": jnp.less_equal, "le.Scalar": jnp.less_equal,
    "gt.Tensor": jnp.greater, "gt.Scalar": jnp.greater, "ge.Tensor": jnp.greater_equal,
    "ge.Scalar": jnp.greater_equal,
    "bitwise_not": jnp.bitwise_not, "bitwise_and.Tensor": jnp.bitwise_and, "bitwise_and.Scalar": jnp.bitwise_and,
    "bitwise_or.Tensor": jnp.bitwise_or, "bitwise_or.Scalar": jnp.bitwise_or, "bitwise_xor.Tensor": jnp.bitwise_xor,
    "mul.Tensor": lambda x, y: x * y, "mul.Scalar": lambda x, y: x * y,
    "remainder.Tensor": jnp.remainder, "remainder.Scalar": jnp.remainder,
    "fmod.Tensor": jnp.fmod, "fmod.Scalar": jnp.fmod,
    "floor_divide": jnp.floor_divide,
    "where.self": jnp.where, "where.ScalarSelf": jnp.where, "where.ScalarOther": jnp.where,
    "max.other": jnp.maximum, "min.other": jnp.minimum,
}.items():  # fmt: skip
    define(_name)(_function)


def name_of(dtype: str) -> Any:
    """The JAX dtype that stands for a torch dtype: int64 is int32 unless JAX runs with 64 bits."""
    return jax.dtypes.canonicalize_dtype(np.dtype(jnp.dtype(dtype)))


def accumulated(x: Any, dtype: str | None) -> Any:
    """An array as torch adds it up: in the dtype asked for, else integers and flags in the widest integer."""
    if dtype is not None:
        return x.astype(name_of(dtype))
    widest = name_of("int64")
    return x.astype(widest) if np.can_cast(x.dtype, widest) else x


def axes_of(dim: Any, ndim: int) -> tuple[int, ...]:
    """Axes as numbers from 0; all of them for None and an empty list."""
    if dim is None or (isinstance(dim, Sequence) and not dim):
        return tuple(range(ndim))
    return tuple(d % ndim if ndim else 0 for d in (dim if isinstance(dim, Sequence) else [dim]))


@define("add.Tensor", "add.Scalar")
def _add(x: Any, y: Any, alpha: Any = 1) -> Any:
    return x + (y if alpha == 1 else alpha * y)


@define("sub.Tensor", "sub.Scalar")
def _sub(x: Any, y: Any, alpha: Any = 1) -> Any:
    return x - (y if alpha == 1 else alpha * y)


@define("rsub.Tensor", "rsub.Scalar")
def _rsub(x: Any, y: Any, alpha: Any = 1) -> Any:
    return _sub(y, x, alpha)


@define("div.Tensor", "div.Scalar", "div.Tensor_mode", "div.Scalar_mode", "true_divide.Tensor")
def _div(x: Any, y: Any, rounding_mode: str | None = None) -> Any:
    if rounding_mode is None:
        return jnp.true_divide(x, y)
    if rounding_mode == "floor":
        return jnp.floor_divide(x, y)
    if all(jnp.issubdtype(jnp.result_type(operand), jnp.integer) for operand in (x, y)):
        quotient = jnp.abs(x) // jnp.abs(y)  # toward zero, and exact
        return jnp.where((x < 0) != (y < 0), -quotient, quotient)
    return jnp.trunc(x / y)


@define("pow.Tensor_Scalar", "pow.Tensor_Tensor", "pow.Scalar")
def _pow(x: Any, y: Any) -> Any:
    if isinstance(y, float) and not jnp.issubdtype(jnp.result_type(x), jnp.inexact):
        x = x.astype(jnp.float32)
    if isinstance(y, (int, float)) and float(y).is_integer() and abs(y) < 64:
        return lax.integer_pow(x, int(y)) if y >= 0 else 1 / lax.integer_pow(x, -int(y))
    return jnp.power(x, y)


@define("gelu")
def _gelu(x: Any, approximate: str = "none") -> Any:
    if approximate == "tanh":
        return 0.5 * x * (1 + jnp.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x * x * x)))
    return 0.5 * x * (1 + lax.erf(x / math.sqrt(2)))


@define("leaky_relu")
def _leaky_relu(x: Any, negative_slope: float = 0.01) -> Any:
    return jnp.where(x > 0, x, negative_slope * x)


@define("prelu", "_prelu_kernel")
def _prelu(x: Any, weight: Any) -> Any:
    if weight.ndim == 1 and x.ndim > 1:
        weight = weight.reshape(1, -1, *(1,) * (x.ndim - 2))
    return jnp.where(x > 0, x, weight * x)


@define("elu")
def _elu(x: Any, alpha: float = 1, scale: float = 1, input_scale: float = 1) -> Any:
    below = alpha * jnp.expm1(jnp.where(x > 0, 0, x) * input_scale)
    return scale * jnp.where(x > 0, x, below)


@define("celu")
def _celu(x: Any, alpha: float = 1.0) -> Any:
    return _elu(x, alpha, 1, 1 / alpha)


@define("selu")
def _selu(x: Any) -> Any:
    return _elu(x, 1.6732632423543772848170429916717, 1.0507009873554804934193349852946)


@define("softplus")
def _softplus(x: Any, beta: float = 1, threshold: float = 20) -> Any:
    return jnp.where(x * beta > threshold, x, jax.nn.softplus(x * beta) / beta)


@define("clamp", "clamp.Tensor")
def _clamp(x: Any, low: Any = None, high: Any = None) -> Any:
    x = x if low is None else jnp.maximum(x, low)
    return x if high is None else jnp.minimum(x, high)


@define("hardtanh")
def _hardtanh(x: Any, low: Any = -1.0, high: Any = 1.0) -> Any:
    return _clamp(x, low, high)


@define("clamp_min")
def _clamp_min(x: Any, low: Any) -> Any:
    return jnp.maximum(x, low)


@define("clamp_max")
def _clamp_max(x: Any, high: Any) -> Any:
    return jnp.minimum(x, high)


@define("threshold")
def _threshold(x: Any, threshold: float, value: float) -> Any:
    return jnp.where(x > threshold, x, jnp.asarray(value, x.dtype))


@define("hardshrink")
def _hardshrink(x: Any, lambd: float = 0.5) -> Any:
    return jnp.where(jnp.abs(x) > lambd, x, 0)


@define("softshrink")
def _softshrink(x: Any, lambd: float = 0.5) -> Any:
    return jnp.where(x > lambd, x - lambd, jnp.where(x < -lambd, x + lambd, 0))


@define("log_sigmoid_forward")
def _log_sigmoid_forward(x: Any) -> Any:
    return jax.nn.log_sigmoid(x), jnp.zeros(0, x.dtype)


@define("glu")
def _glu(x: Any, dim: int = -1) -> Any:
    a, b = jnp.split(x, 2, dim)
    return a * jax.nn.sigmoid(b)


@define("lerp.Scalar", "lerp.Tensor")
def _lerp(x: Any, end: Any, weight: Any) -> Any:
    return x + weight * (end - x)


@define("addcmul")
def _addcmul(x: Any, a: Any, b: Any, value: Any = 1) -> Any:
    return x + value * a * b


@define("addcdiv")
def _addcdiv(x: Any, a: Any, b: Any, value: Any = 1) -> Any:
    return x + value * a / b


@define("masked_fill.Scalar", "masked_fill.Tensor")
def _masked_fill(x: Any, mask: Any, value: Any) -> Any:
    return jnp.where(mask, jnp.asarray(value, x.dtype), x)


@define("sum", "sum.dim_IntList")
def _sum(x: Any, dim: Any = None, keepdim: bool = False, dtype: str | None = None) -> Any:
    x = accumulated(x, dtype)
    return jnp.sum(x, axes_of(dim, x.ndim), keepdims=keepdim)


@define("mean", "mean.dim")
def _mean(x: Any, dim: Any = None, keepdim: bool = False, dtype: str | None = None) -> Any:
    x = x if dtype is None else x.astype(name_of(dtype))
    return jnp.mean(x, axes_of(dim, x.ndim), keepdims=keepdim)


@define("prod", "prod.dim_int")
def _prod(x: Any, dim: Any = None, keepdim: bool = False, dtype: str | None = None) -> Any:
    x = accumulated(x, dtype)
    return jnp.prod(x, axes_of(dim, x.ndim), keepdims=keepdim)


@define("amax")
def _amax(x: Any, dim: Any = (), keepdim: bool = False) -> Any:
    return jnp.max(x, axes_of(dim, x.ndim), keepdims=keepdim)


@define("amin")
def _amin(x: Any, dim: Any = (), keepdim: bool = False) -> Any:
    return jnp.min(x, axes_of(dim, x.ndim), keepdims=keepdim)


@define("any", "any.dim", "any.dims")
def _any(x: Any, dim: Any = None, keepdim: bool = False) -> Any:
    return jnp.any(x, axes_of(dim, x.ndim), keepdims=keepdim)


@define("all", "all.dim", "all.dims")
def _all(x: Any, dim: Any = None, keepdim: bool = False) -> Any:
    return jnp.all(x, axes_of(dim, x.ndim), keepdims=keepdim)


@define("argmax")
def _argmax(x: Any, dim: int | None = None, keepdim: bool = False) -> Any:
    return jnp.argmax(x, dim, keepdims=keepdim)


@define("argmin")
def _argmin(x: Any, dim: int | None = None, keepdim: bool = False) -> Any:
    return jnp.argmin(x, dim, keepdims=keepdim)


@define("max")
def _max(x: Any) -> Any:
    return jnp.max(x)


@define("min")
def _min(x: Any) -> Any:
    return jnp.min(x)


@define("max.dim")
def _max_dim(x: Any, dim: int, keepdim: bool = False) -> Any:
    return jnp.max(x, dim, keepdims=keepdim), jnp.argmax(x, dim, keepdims=keepdim)


@define("min.dim")
def _min_dim(x: Any, dim: int, keepdim: bool = False) -> Any:
    return jnp.min(x, dim, keepdims=keepdim), jnp.argmin(x, dim, keepdims=keepdim)


@define("var.correction")
def _var(x: Any, dim: Any = None, correction: Any = 1, keepdim: bool = False) -> Any:
    return jnp.var(x, axes_of(dim, x.ndim), ddof=1 if correction is None else correction, keepdims=keepdim)


@define("std.correction")
def _std(x: Any, dim: Any = None, correction: Any = 1, keepdim: bool = False) -> Any:
    return jnp.sqrt(_var(x, dim, correction, keepdim))


@define("var.dim")
def _var_dim(x: Any, dim: Any = None, unbiased: bool = True, keepdim: bool = False) -> Any:
    return _var(x, dim, int(unbiased), keepdim)


@define("std.dim")
def _std_dim(x: Any, dim: Any = None, unbiased: bool = True, keepdim: bool = False) -> Any:
    return jnp.sqrt(_var(x, dim, int(unbiased), keepdim))


@define("var_mean.correction")
def _var_mean(x: Any, dim: Any = None, correction: Any = 1, keepdim: bool = False) -> Any:
    return _var(x, dim, correction, keepdim), jnp.mean(x, axes_of(dim, x.ndim), keepdims=keepdim)


@define("linalg_vector_norm")
def _norm(x: Any, ord: Any = 2, dim: Any = None, keepdim: bool = False, dtype: str | None = None) -> Any:
    axes = axes_of(dim, x.ndim)
    size = jnp.abs(x)
    if ord in (math.inf, -math.inf):
        return (jnp.max if ord > 0 else jnp.min)(size, axes, keepdims=keepdim)
    if ord == 2:
        return jnp.sqrt(jnp.sum(x * x, axes, keepdims=keepdim))
    if ord == 0:
        return jnp.sum((x != 0).astype(x.dtype), axes, keepdims=keepdim)
    return jnp.sum(size**ord, axes, keepdims=keepdim) ** (1 / ord)


@define("logsumexp")
def _logsumexp(x: Any, dim: Any, keepdim: bool = False) -> Any:
    return jax.nn.logsumexp(x, axes_of(dim, x.ndim), keepdims=keepdim)


@define("softmax.int")
def _softmax(x: Any, dim: int, dtype: str | None = None) -> Any:
    return jax.nn.softmax(x if dtype is None else x.astype(name_of(dtype)), dim)


@define("_softmax")
def _softmax_core(x: Any, dim: int, half_to_float: bool = False) -> Any:
    return jax.nn.softmax(x, dim)


@define("log_softmax.int")
def _log_softmax(x: Any, dim: int, dtype: str | None = None) -> Any:
    return jax.nn.log_softmax(x if dtype is None else x.astype(name_of(dtype)), dim)


@define("_log_softmax")
def _log_softmax_core(x: Any, dim: int, half_to_float: bool = False) -> Any:
    return jax.nn.log_softmax(x, dim)


@define("_safe_softmax")
def _safe_softmax(x: Any, dim: int, dtype: str | None = None) -> Any:
    return jnp.where(jnp.all(x == -jnp.inf, dim, keepdims=True), 0, jax.nn.softmax(x, dim))


@define("cumsum")
def _cumsum(x: Any, dim: int, dtype: str | None = None) -> Any:
    return jnp.cumsum(accumulated(x, dtype), dim)


@define("cumprod")
def _cumprod(x: Any, dim: int, dtype: str | None = None) -> Any:
    return jnp.cumprod(accumulated(x, dtype), dim)


@define("topk")
def _topk(x: Any, k: int, dim: int = -1, largest: bool = True, sorted: bool = True) -> Any:
    reverse = operator.neg if jnp.issubdtype(x.dtype, jnp.inexact) else operator.invert  # -x wraps in integers
    moved = jnp.moveaxis(x if largest else reverse(x), dim, -1)
    values, indices = lax.top_k(moved, k)
    return jnp.moveaxis(values if largest else reverse(values), -1, dim), jnp.moveaxis(indices, -1, dim)


@define("sort")
def _sort(x: Any, dim: int = -1, descending: bool = False) -> Any:
    order = jnp.argsort(x, dim, stable=True, descending=descending)
    return jnp.take_along_axis(x, order, dim), order
