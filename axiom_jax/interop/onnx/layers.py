"""ONNX operators that mix entries: products, convolutions, pooling, norms, reductions.

Dots and convolutions ask for the highest precision, so that float32 means float32 on every backend.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import lax

from axiom_jax.interop.onnx.ops import (
    Node,
    array,
    broadcast_shapes,
    cast,
    define,
    expand_to,
    integers,
    known,
    like,
    positive,
    reshape,
)

HIGHEST = lax.Precision.HIGHEST


@define("MatMul")
def _matmul(node: Node, a: Any, b: Any) -> Any:
    if known(a, b):
        return np.matmul(a, b)
    a, b = array(a), array(b)
    if a.ndim == 0 or b.ndim == 0:
        raise ValueError("MatMul takes no scalars")
    if b.ndim <= 2 or a.ndim == 1:
        contract = ((a.ndim - 1,), (max(b.ndim - 2, 0),))
        return lax.dot_general(a, b, (contract, ((), ())), precision=HIGHEST)
    batch = broadcast_shapes(a.shape[:-2], b.shape[:-2])
    a, b = expand_to(a, (*batch, *a.shape[-2:])), expand_to(b, (*batch, *b.shape[-2:]))
    n, axes = len(batch), tuple(range(len(batch)))
    return lax.dot_general(a, b, (((n + 1,), (n,)), (axes, axes)), precision=HIGHEST)


@define("Gemm")
def _gemm(node: Node, a: Any, b: Any, c: Any = None) -> Any:
    contract = ((0 if node.get("transA", 0) else 1,), (1 if node.get("transB", 0) else 0,))
    y = lax.dot_general(array(a), array(b), (contract, ((), ())), precision=HIGHEST)
    y = _scaled(y, node.get("alpha", 1.0))
    if c is None or node.get("beta", 1.0) == 0:
        return y
    return lax.add(y, expand_to(_scaled(array(c), node.get("beta", 1.0)), y.shape))


def _scaled(x: Any, factor: float) -> Any:
    return x if factor == 1 else lax.mul(x, like(x, factor))


@define("Conv")
def _conv(node: Node, x: Any, w: Any, b: Any = None) -> Any:
    x, w = array(x), array(w)
    strides, dilations, padding = _geometry(node, x, w.shape[2:])
    y = lax.conv_general_dilated(
        x, w, strides, padding, rhs_dilation=dilations, dimension_numbers=_layout(x), precision=HIGHEST,
        feature_group_count=node.get("group", 1),
    )  # fmt: skip
    return _plus_channels(y, b)


@define("ConvTranspose")
def _conv_transpose(node: Node, x: Any, w: Any, b: Any = None) -> Any:
    """A convolution of the input spread out by the strides, with the flipped kernel."""
    x, w = array(x), array(w)
    kernel, n = w.shape[2:], x.ndim - 2
    strides, dilations = node.get("strides", (1,) * n), node.get("dilations", (1,) * n)
    extra, wanted = node.get("output_padding", (0,) * n), node.get("output_shape")
    reach = [d * (k - 1) for k, d in zip(kernel, dilations, strict=True)]
    full = [s * (i - 1) + e + r + 1 for s, i, e, r in zip(strides, x.shape[2:], extra, reach, strict=True)]
    auto = node.get("auto_pad", "NOTSET")
    if wanted is None and auto in ("SAME_UPPER", "SAME_LOWER"):
        wanted = [s * i for s, i in zip(strides, x.shape[2:], strict=True)]
    if wanted is None:
        pads = node.get("pads", (0,) * 2 * n) if auto == "NOTSET" else (0,) * 2 * n
        cuts = list(zip(pads[:n], pads[n:], strict=True))
    else:
        totals = [f - o for f, o in zip(full, wanted[-n:], strict=True)]
        # ONNX: the odd one goes to the end for SAME_UPPER, else to the start
        cuts = [(t // 2, t - t // 2) if auto == "SAME_UPPER" else (t - t // 2, t // 2) for t in totals]
    groups, (c_in, c_out) = node.get("group", 1), w.shape[:2]
    w = lax.reshape(w, (groups, c_in // groups, c_out, *kernel))
    w = lax.transpose(w, (0, 2, 1, *range(3, 3 + n)))
    w = lax.rev(lax.reshape(w, (groups * c_out, c_in // groups, *kernel)), tuple(range(2, 2 + n)))
    y = lax.conv_general_dilated(
        x, w, (1,) * n, [(r - lo, r - hi + e) for r, (lo, hi), e in zip(reach, cuts, extra, strict=True)],
        lhs_dilation=strides, rhs_dilation=dilations, dimension_numbers=_layout(x), feature_group_count=groups,
        precision=HIGHEST,
    )  # fmt: skip
    return _plus_channels(y, b)


def _layout(x: Any) -> tuple[str, str, str]:
    if not 3 <= x.ndim <= 5:
        raise ValueError(f"convolution of {x.ndim - 2} spatial dimensions; 1 to 3 are supported")
    space = "DHW"[5 - x.ndim :]
    return "NC" + space, "OI" + space, "NC" + space


def _plus_channels(y: Any, bias: Any) -> Any:
    if bias is None:
        return y
    return lax.add(y, lax.broadcast_in_dim(array(bias), y.shape, (1,)))


def _geometry(node: Node, x: Any, kernel: Sequence[int]) -> tuple[Any, Any, list[Any]]:
    """Strides, dilations and padding of a window over the spatial axes of `x`."""
    n = len(kernel)
    strides, dilations = node.get("strides", (1,) * n), node.get("dilations", (1,) * n)
    reach = [d * (k - 1) + 1 for k, d in zip(kernel, dilations, strict=True)]
    if any(k < 1 for k in (*kernel, *strides, *dilations)):
        raise ValueError("a kernel, stride or dilation that is not positive")
    auto = node.get("auto_pad", "NOTSET")
    if auto in ("SAME_UPPER", "SAME_LOWER"):
        totals = [max((-(-i // s) - 1) * s + r - i, 0) for i, s, r in zip(x.shape[2:], strides, reach, strict=True)]
        small = [(t // 2, t - t // 2) for t in totals]
        return strides, dilations, small if auto == "SAME_UPPER" else [(hi, lo) for lo, hi in small]
    pads = node.get("pads", (0,) * 2 * n) if auto == "NOTSET" else (0,) * 2 * n
    padding = list(zip(pads[:n], pads[n:], strict=True))
    if any(isinstance(i, int) and i + lo + hi < r for i, (lo, hi), r in zip(x.shape[2:], padding, reach, strict=True)):
        raise ValueError("a window that is larger than its padded input")
    if node.get("ceil_mode", 0):
        for d, ((lo, hi), i, s, r) in enumerate(zip(padding, x.shape[2:], strides, reach, strict=True)):
            out = -(-(i + lo + hi - r) // s) + 1
            out -= (out - 1) * s >= i + lo  # a window may not start in the padding at the end
            padding[d] = (lo, max(hi, (out - 1) * s + r - i - lo))
    return strides, dilations, padding


def _pool(
    x: Any, start: float, combine: Callable[..., Any], kernel: Any, strides: Any, padding: Any, dilations: Any
) -> Any:
    return lax.reduce_window(
        x, like(x, start), combine, (1, 1, *kernel), (1, 1, *strides), [(0, 0), (0, 0), *padding],
        window_dilation=(1, 1, *dilations),
    )  # fmt: skip


@define("MaxPool")
def _max_pool(node: Node, x: Any) -> Any:
    x, kernel = array(x), node.get("kernel_shape")
    strides, dilations, padding = _geometry(node, x, kernel)
    least = -np.inf if jnp.issubdtype(x.dtype, jnp.floating) else np.iinfo(x.dtype).min
    return _pool(x, least, lax.max, kernel, strides, padding, dilations)


@define("AveragePool")
def _average_pool(node: Node, x: Any) -> Any:
    x, kernel = array(x), node.get("kernel_shape")
    strides, dilations, padding = _geometry(node, x, kernel)
    dtype, x = x.dtype, _wide(x)
    total = _pool(x, 0, lax.add, kernel, strides, padding, dilations)
    # How many cells a window averages over; ceil_mode's extra cells at the end never count.
    given = node.get("pads", (0,) * 2 * len(kernel))
    declared = list(zip(given[: len(kernel)], given[len(kernel) :], strict=True))
    if node.get("auto_pad", "NOTSET") != "NOTSET":
        declared = padding
    counts = np.ones((), x.dtype)
    for d, (size, k, s, dilation) in enumerate(zip(x.shape[2:], kernel, strides, dilations, strict=True)):
        low, high = declared[d] if node.get("count_include_pad", 0) else (0, 0)
        cells = np.arange(total.shape[2 + d])[:, None] * s + np.arange(k)[None] * dilation - padding[d][0]
        counted = ((cells >= -low) & (cells < size + high)).sum(1).astype(x.dtype)
        counts = counts[..., None] * counted
    if np.all(counts == counts.flat[0]):
        return cast(lax.div(total, counts.flat[0]), dtype)
    return cast(lax.div(total, expand_to(array(counts), total.shape)), dtype)


@define("GlobalAveragePool", "GlobalMaxPool")
def _global_pool(node: Node, x: Any) -> Any:
    x = array(x)
    return _reduced(x, tuple(range(2, x.ndim)), "mean" if node.op == "GlobalAveragePool" else "max", True)


@define("BatchNormalization")
def _batch_normalization(node: Node, x: Any, scale: Any, bias: Any, mean: Any, variance: Any) -> Any:
    if node.get("training_mode", 0) or (node.opset < 14 and len(node.outputs) > 1):  # older files say it by outputs
        raise NotImplementedError("training mode")
    if not node.get("spatial", 1):
        raise NotImplementedError("spatial = 0")
    x = array(x)
    deviation = lax.sqrt(lax.add(v := array(variance), like(v, node.get("epsilon", 1e-5))))
    channels = [lax.broadcast_in_dim(array(v), x.shape, (1,)) for v in (mean, lax.div(array(scale), deviation), bias)]
    return lax.add(lax.mul(lax.sub(x, channels[0]), channels[1]), channels[2])


@define("InstanceNormalization", "LayerNormalization")
def _normalization(node: Node, x: Any, scale: Any, bias: Any = None) -> Any:
    x = array(x)
    if node.op == "LayerNormalization":
        axes = tuple(range(positive(node.get("axis", -1), x.ndim), x.ndim))
        fit = lambda v: expand_to(array(v), x.shape)
    else:
        axes = tuple(range(2, x.ndim))
        fit = lambda v: lax.broadcast_in_dim(array(v), x.shape, (1,))
    normal, mean, deviation = _normalised(_wide(x), axes, node.get("epsilon", 1e-5))
    y = lax.mul(cast(normal, x.dtype), fit(scale))
    y = y if bias is None else lax.add(y, fit(bias))
    return (y, mean, lax.div(like(deviation, 1), deviation))[: max(len(node.outputs), 1)]


def _wide(x: Any) -> Any:
    """float16 and bfloat16 as float32, in which the standard computes means and variances of them."""
    return cast(x, np.float32) if jnp.issubdtype(x.dtype, jnp.floating) and x.dtype.itemsize < 4 else x


def _normalised(x: Any, axes: tuple[int, ...], epsilon: float) -> tuple[Any, Any, Any]:
    """x with mean 0 and variance 1 over some axes, the mean, and the deviation."""
    mean = _reduced(x, axes, "mean", True)
    centred = lax.sub(x, expand_to(mean, x.shape))
    variance = _reduced(lax.mul(centred, centred), axes, "mean", True)
    deviation = lax.sqrt(lax.add(variance, like(x, epsilon)))
    return lax.div(centred, expand_to(deviation, x.shape)), mean, deviation


@define("GroupNormalization")
def _group_normalization(node: Node, x: Any, scale: Any, bias: Any) -> Any:
    x, groups = array(x), node.get("num_groups")
    apart = reshape(x, (x.shape[0], groups, x.shape[1] // groups, *x.shape[2:]))
    normal, _, _ = _normalised(_wide(apart), tuple(range(2, apart.ndim)), node.get("epsilon", 1e-5))
    normal = cast(normal, x.dtype)
    scale, bias = array(scale), array(bias)
    if node.opset < 21:  # then each group had one scale
        scale, bias = (reshape(lax.broadcast_in_dim(v, (groups, x.shape[1] // groups), (0,)), x.shape[1:2])
                       for v in (scale, bias))  # fmt: skip
    fit = lambda v: lax.broadcast_in_dim(v, x.shape, (1,))
    return lax.add(lax.mul(reshape(normal, x.shape), fit(scale)), fit(bias))


@define("RMSNormalization")
def _rms_normalization(node: Node, x: Any, scale: Any) -> Any:
    x = array(x)
    axes = tuple(range(positive(node.get("axis", -1), x.ndim), x.ndim))
    dtype, x = x.dtype, _wide(x)
    square = _reduced(lax.mul(x, x), axes, "mean", True)
    deviation = lax.sqrt(lax.add(square, like(x, node.get("epsilon", 1e-5))))
    return lax.mul(cast(lax.div(x, expand_to(deviation, x.shape)), dtype), expand_to(array(scale), x.shape))


@define("MeanVarianceNormalization")
def _mean_variance_normalization(node: Node, x: Any) -> Any:
    x = array(x)
    axes = tuple(positive(a, x.ndim) for a in node.get("axes", (0, 2, 3)))
    dtype, x = x.dtype, _wide(x)
    centred = lax.sub(x, expand_to(_reduced(x, axes, "mean", True), x.shape))
    deviation = lax.sqrt(_reduced(lax.mul(centred, centred), axes, "mean", True))
    return cast(lax.div(centred, expand_to(lax.add(deviation, like(x, 1e-9)), x.shape)), dtype)


@define("LRN")
def _local_response_normalization(node: Node, x: Any) -> Any:
    x, size = array(x), node.get("size")
    pads = [(0, 0)] * x.ndim
    pads[1] = ((size - 1) // 2, size - 1 - (size - 1) // 2)
    window = tuple(size if d == 1 else 1 for d in range(x.ndim))
    total = lax.reduce_window(lax.mul(x, x), like(x, 0), lax.add, window, (1,) * x.ndim, pads)
    scale = lax.mul(total, like(x, node.get("alpha", 1e-4) / size))
    return lax.div(x, lax.pow(lax.add(scale, like(x, node.get("bias", 1.0))), like(x, node.get("beta", 0.75))))


@define("LpNormalization")
def _lp_normalization(node: Node, x: Any) -> Any:
    x = array(x)
    axis, p = positive(node.get("axis", -1), x.ndim), node.get("p", 2)
    if p not in (1, 2):
        raise NotImplementedError(f"p = {p}")
    norm = _reduced(lax.abs(x) if p == 1 else lax.mul(x, x), (axis,), "sum", True)
    norm = expand_to(norm if p == 1 else lax.sqrt(norm), x.shape)
    return jnp.where(norm == 0, like(x, 0), lax.div(x, jnp.where(norm == 0, like(x, 1), norm)))


@define("LpPool")
def _lp_pool(node: Node, x: Any) -> Any:
    x, kernel, p = array(x), node.get("kernel_shape"), node.get("p", 2)
    strides, dilations, padding = _geometry(node, x, kernel)
    powers = lax.abs(x) if p == 1 else lax.integer_pow(lax.abs(x), int(p))
    total = _pool(powers, 0, lax.add, kernel, strides, padding, dilations)
    return total if p == 1 else lax.pow(total, like(x, 1 / p))


@define("GlobalLpPool")
def _global_lp_pool(node: Node, x: Any) -> Any:
    x, p = array(x), node.get("p", 2)
    total = _reduced(lax.integer_pow(lax.abs(x), int(p)), tuple(range(2, x.ndim)), "sum", True)
    return lax.pow(total, like(x, 1 / p))


@define("Einsum")
def _einsum(node: Node, *operands: Any) -> Any:
    return jnp.einsum(node.get("equation").replace(" ", ""), *map(array, operands), precision=HIGHEST)


@define("Det")
def _det(node: Node, x: Any) -> Any:
    return jnp.linalg.det(array(x))


@define("Hardmax")
def _hardmax(node: Node, x: Any) -> Any:
    x = array(x)
    shape, axis = x.shape, positive(node.get("axis", -1 if node.opset >= 13 else 1), x.ndim)
    if node.opset < 13:
        x, axis = reshape(x, (math.prod(shape[:axis]), math.prod(shape[axis:]))), 1
    first = lax.argmax(x, axis, np.int32)
    places = lax.broadcasted_iota(np.int32, x.shape, axis)
    return reshape((places == jnp.expand_dims(first, axis)).astype(x.dtype), shape)


@define("Softmax", "LogSoftmax")
def _softmax(node: Node, x: Any) -> Any:
    x = array(x)
    shape, axis = x.shape, positive(node.get("axis", -1 if node.opset >= 13 else 1), x.ndim)
    if node.opset < 13:  # then the input was made a matrix, and its rows were normalised
        x, axis = reshape(x, (math.prod(shape[:axis]), math.prod(shape[axis:]))), 1
    shifted = lax.sub(x, expand_to(_reduced(x, (axis,), "max", True), x.shape))
    exponentials = lax.exp(shifted)
    total = expand_to(_reduced(exponentials, (axis,), "sum", True), x.shape)
    y = lax.div(exponentials, total) if node.op == "Softmax" else lax.sub(shifted, lax.log(total))
    return reshape(y, shape)


@define("ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceSumSquare", "ReduceL1", "ReduceL2",
        "ReduceLogSum", "ReduceLogSumExp", static=(1,))  # fmt: skip
def _reduce(node: Node, x: Any, axes: Any = None) -> Any:
    chosen = node.get("axes") if axes is None else integers(axes, "axes")
    kind = node.op.removeprefix("Reduce").lower()
    if not chosen and node.get("noop_with_empty_axes", 0):
        return _over_each(x, kind)
    chosen = tuple(positive(a, x.ndim) for a in chosen) if chosen else tuple(range(x.ndim))
    keep = bool(node.get("keepdims", 1))
    if kind in ("sumsquare", "l2", "l1", "logsum"):
        x = array(x)
        total = _reduced(lax.abs(x) if kind == "l1" else x if kind == "logsum" else lax.mul(x, x), chosen, "sum", keep)
        return {"l2": lax.sqrt, "logsum": lax.log}.get(kind, lambda y: y)(total)
    if kind == "logsumexp":
        x = array(x)
        top = _reduced(x, chosen, "max", True)
        top = jnp.where(jnp.isfinite(top), top, like(top, 0))
        total = _reduced(lax.exp(lax.sub(x, expand_to(top, x.shape))), chosen, "sum", keep)
        return lax.add(lax.log(total), top if keep else reshape(top, total.shape))
    return _reduced(x, chosen, kind, keep)


def _over_each(x: Any, kind: str) -> Any:
    """A reduction over no axis: of each element alone."""
    x = x if kind in ("sum", "mean", "max", "min", "prod") else array(x)
    each = {"sumsquare": lambda y: lax.mul(y, y), "l1": lax.abs, "l2": lax.abs, "logsum": lax.log}
    return each.get(kind, lambda y: y)(x)


def number_of(x: Any, axes: Sequence[int], shape: Sequence[Any]) -> Any:
    """How many elements some axes of a shape have, in the dtype of x."""
    count = math.prod(shape[a] for a in axes)
    return like(x, count) if isinstance(count, int) else jnp.asarray(count, x.dtype)


def _reduced(x: Any, axes: tuple[int, ...], kind: str, keep: bool) -> Any:
    if isinstance(x, np.ndarray):
        y = getattr(np, kind)(x, axis=axes, keepdims=keep)
        return np.asarray(y, x.dtype)
    if x.dtype == bool and kind in ("max", "min"):
        y = (lax.reduce_or if kind == "max" else lax.reduce_and)(x, axes)
        return reshape(y, [1 if d in axes else n for d, n in enumerate(x.shape)]) if keep else y
    reducers = {"sum": lax.reduce_sum, "mean": lax.reduce_sum, "max": lax.reduce_max, "min": lax.reduce_min,
                "prod": lax.reduce_prod}  # fmt: skip
    y = reducers[kind](_wide(x) if kind == "mean" else x, axes)
    if kind == "mean":
        y = cast(lax.div(y, number_of(y, axes, x.shape)), x.dtype)
    return reshape(y, [1 if d in axes else n for d, n in enumerate(x.shape)]) if keep else y
