"""What ATen's layers mean in JAX: products, convolutions, normalizations, pooling, resampling, attention.

Images stay channels-first, as in PyTorch; windows and resampling are worked out before anything runs.
"""

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from axiom_jax.interop.torch.graph import define

SPATIAL = "DHW"


@define("linear")
def _linear(x: Any, weight: Any, bias: Any = None) -> Any:
    y = jnp.matmul(x, weight.T)
    return y if bias is None else y + bias


for _name in ("matmul", "mm", "bmm", "mv", "dot"):
    define(_name)(jnp.matmul)


@define("addmm", "baddbmm", "addmv")
def _addmm(x: Any, a: Any, b: Any, beta: Any = 1, alpha: Any = 1) -> Any:
    product = jnp.matmul(a, b)
    return (x if beta == 1 else beta * x) + (product if alpha == 1 else alpha * product)


@define("einsum")
def _einsum(equation: str, operands: Sequence[Any], path: Any = None) -> Any:
    return jnp.einsum(equation, *operands)


@define("bilinear")
def _bilinear(a: Any, b: Any, weight: Any, bias: Any = None) -> Any:
    y = jnp.einsum("...i,oij,...j->...o", a, weight, b)
    return y if bias is None else y + bias


def _tuple(value: Any, n: int) -> tuple[int, ...]:
    """One number an axis, from one number or a list."""
    values = tuple(value) if isinstance(value, Sequence) else (value,)
    return values * n if len(values) == 1 else values


def _with_bias(y: Any, bias: Any) -> Any:
    return y if bias is None else y + bias.reshape(-1, *(1,) * (y.ndim - 2))


@define("conv1d", "conv2d", "conv3d", "conv1d.padding", "conv2d.padding", "conv3d.padding")
def _conv(x: Any, weight: Any, bias: Any = None, stride: Any = 1, padding: Any = 0, dilation: Any = 1,
          groups: int = 1) -> Any:  # fmt: skip
    n = weight.ndim - 2
    stride, dilation = _tuple(stride, n), _tuple(dilation, n)
    reach = [d * (k - 1) for d, k in zip(dilation, weight.shape[2:], strict=True)]
    if padding == "same":
        pads = [(r // 2, r - r // 2) for r in reach]
    else:
        pads = [(p, p) for p in ((0,) * n if padding == "valid" else _tuple(padding, n))]
    axes = SPATIAL[-n:]
    single = x.ndim == n + 1
    y = lax.conv_general_dilated(
        x[None] if single else x, weight, stride, pads, rhs_dilation=dilation,
        dimension_numbers=(f"NC{axes}", f"OI{axes}", f"NC{axes}"), feature_group_count=groups,
    )  # fmt: skip
    y = _with_bias(y, bias)
    return y[0] if single else y


@define("conv_transpose1d", "conv_transpose2d.input", "conv_transpose3d.input")
def _conv_transpose(x: Any, weight: Any, bias: Any = None, stride: Any = 1, padding: Any = 0, output_padding: Any = 0,
                    groups: int = 1, dilation: Any = 1) -> Any:  # fmt: skip
    n = weight.ndim - 2
    stride, padding, output_padding, dilation = (_tuple(v, n) for v in (stride, padding, output_padding, dilation))
    inputs, outputs, *window = weight.shape  # [in, out / groups, ...]
    kernel = weight.reshape(groups, inputs // groups, outputs, *window).swapaxes(1, 2)
    kernel = jnp.flip(kernel.reshape(groups * outputs, inputs // groups, *window), tuple(range(2, n + 2)))
    reach = [d * (k - 1) for d, k in zip(dilation, window, strict=True)]
    pads = [(r - p, r - p + o) for r, p, o in zip(reach, padding, output_padding, strict=True)]
    axes = SPATIAL[-n:]
    single = x.ndim == n + 1
    y = lax.conv_general_dilated(
        x[None] if single else x, kernel, (1,) * n, pads, lhs_dilation=stride, rhs_dilation=dilation,
        dimension_numbers=(f"NC{axes}", f"OI{axes}", f"NC{axes}"), feature_group_count=groups,
    )  # fmt: skip
    y = _with_bias(y, bias)
    return y[0] if single else y


@define("convolution")
def _convolution(x: Any, weight: Any, bias: Any, stride: Any, padding: Any, dilation: Any, transposed: bool,
                 output_padding: Any, groups: int) -> Any:  # fmt: skip
    if transposed:
        return _conv_transpose(x, weight, bias, stride, padding, output_padding, groups, dilation)
    return _conv(x, weight, bias, stride, padding, dilation, groups)


def _channelwise(v: Any, x: Any) -> Any:
    return v.reshape(1, -1, *(1,) * (x.ndim - 2))


@define("batch_norm")
def _batch_norm(x: Any, weight: Any, bias: Any, mean: Any, var: Any, training: bool, momentum: float = 0.1,
                eps: float = 1e-5, cudnn_enabled: bool = True) -> Any:  # fmt: skip
    if training or mean is None:
        axes = (0, *range(2, x.ndim))
        mean, var = jnp.mean(x, axes), jnp.var(x, axes)
    scale = lax.rsqrt(var + eps)  # known before the input is, so that what is left is affine
    scale = scale if weight is None else scale * weight
    y = (x - _channelwise(mean, x)) * _channelwise(scale, x)
    return y if bias is None else y + _channelwise(bias, x)


@define("_native_batch_norm_legit_no_training")
def _batch_norm_inference(x: Any, weight: Any, bias: Any, mean: Any, var: Any, momentum: float, eps: float) -> Any:
    empty = jnp.zeros(0, x.dtype)
    return _batch_norm(x, weight, bias, mean, var, False, momentum, eps), empty, empty


@define("_native_batch_norm_legit.no_stats")
def _batch_norm_no_stats(x: Any, weight: Any, bias: Any, training: bool, momentum: float, eps: float) -> Any:
    axes = (0, *range(2, x.ndim))
    mean, var = jnp.mean(x, axes), jnp.var(x, axes)
    return _batch_norm(x, weight, bias, None, None, True, momentum, eps), mean, lax.rsqrt(var + eps)


@define("instance_norm")
def _instance_norm(x: Any, weight: Any = None, bias: Any = None, mean: Any = None, var: Any = None,
                   use_input_stats: bool = True, momentum: float = 0.1, eps: float = 1e-5,
                   cudnn_enabled: bool = True) -> Any:  # fmt: skip
    if not use_input_stats:
        return _batch_norm(x, weight, bias, mean, var, False, momentum, eps)
    return _normalised(x, tuple(range(2, x.ndim)), eps, weight, bias)


def _normalised(x: Any, axes: tuple[int, ...], eps: float, weight: Any, bias: Any) -> Any:
    centred = x - jnp.mean(x, axes, keepdims=True)
    y = centred * lax.rsqrt(jnp.mean(centred * centred, axes, keepdims=True) + eps)
    y = y if weight is None else y * _channelwise(weight, x)
    return y if bias is None else y + _channelwise(bias, x)


@define("layer_norm")
def _layer_norm(x: Any, shape: Sequence[int], weight: Any = None, bias: Any = None, eps: float = 1e-5,
                cudnn_enable: bool = True) -> Any:  # fmt: skip
    axes = tuple(range(x.ndim - len(shape), x.ndim))
    centred = x - jnp.mean(x, axes, keepdims=True)
    y = centred * lax.rsqrt(jnp.mean(centred * centred, axes, keepdims=True) + eps)
    y = y if weight is None else y * weight
    return y if bias is None else y + bias


@define("native_layer_norm")
def _native_layer_norm(x: Any, shape: Sequence[int], weight: Any, bias: Any, eps: float) -> Any:
    axes = tuple(range(x.ndim - len(shape), x.ndim))
    mean = jnp.mean(x, axes, keepdims=True)
    return _layer_norm(x, shape, weight, bias, eps), mean, lax.rsqrt(jnp.var(x, axes, keepdims=True) + eps)


@define("rms_norm")
def _rms_norm(x: Any, shape: Sequence[int], weight: Any = None, eps: float | None = None) -> Any:
    axes = tuple(range(x.ndim - len(shape), x.ndim))
    eps = float(jnp.finfo(x.dtype).eps) if eps is None else eps
    y = x * lax.rsqrt(jnp.mean(x * x, axes, keepdims=True) + eps)
    return y if weight is None else y * weight


@define("group_norm")
def _group_norm(x: Any, groups: int, weight: Any = None, bias: Any = None, eps: float = 1e-5,
                cudnn_enabled: bool = True) -> Any:  # fmt: skip
    batch, channels, *rest = x.shape
    split = x.reshape(batch, groups, channels // groups, *rest)
    y = _normalised(split, tuple(range(2, split.ndim)), eps, None, None).reshape(x.shape)
    y = y if weight is None else y * _channelwise(weight, x)
    return y if bias is None else y + _channelwise(bias, x)


@define("native_group_norm")
def _native_group_norm(x: Any, weight: Any, bias: Any, batch: Any, channels: Any, size: Any, groups: int,
                       eps: float) -> Any:  # fmt: skip
    return _group_norm(x, groups, weight, bias, eps), None, None


def windows(size: int, k: int, stride: int, pad: int, dilation: int, ceil_mode: bool) -> tuple[int, int]:
    """How many windows an axis has, and what has to be added behind it.

    Source: pooling_output_shape in aten/src/ATen/native/Pool.h: with `ceil_mode` a last window may reach over the
    end, if it starts inside the axis or its front padding.
    """
    reach = dilation * (k - 1) + 1
    room = size + 2 * pad - reach
    count = (-(-room // stride) if ceil_mode else room // stride) + 1
    if ceil_mode and (count - 1) * stride >= size + pad:
        count -= 1
    if room < 0 or count < 1:
        raise ValueError(f"a window of {reach} does not fit an axis of {size} with padding {pad}")
    return count, max(pad, (count - 1) * stride + reach - size - pad)


def pool(x: Any, n: int, kernel: Any, stride: Any, padding: Any, dilation: Any, ceil_mode: bool, start: Any,
         reduce: Any) -> Any:  # fmt: skip
    """`reduce` over windows of the last `n` axes, as PyTorch lays them."""
    kernel, padding, dilation = (_tuple(v, n) for v in (kernel, padding, dilation))
    stride = _tuple(stride, n) if not isinstance(stride, Sequence) or len(stride) else kernel
    sizes = x.shape[-n:]
    ends = [windows(*geometry, ceil_mode)[1] for geometry in zip(sizes, kernel, stride, padding, dilation, strict=True)]
    lead = (1,) * (x.ndim - n)
    pads = [(0, 0)] * (x.ndim - n) + list(zip(padding, ends, strict=True))
    return lax.reduce_window(x, start, reduce, lead + kernel, lead + stride, pads, None, lead + dilation)


def _max_pool(n: int) -> Any:
    def max_pool(x: Any, kernel: Any, stride: Any = (), padding: Any = 0, dilation: Any = 1,
                 ceil_mode: bool = False) -> Any:  # fmt: skip
        lowest = -jnp.inf if jnp.issubdtype(x.dtype, jnp.floating) else jnp.iinfo(x.dtype).min
        return pool(x, n, kernel, stride, padding, dilation, ceil_mode, np.asarray(lowest, x.dtype), lax.max)

    return max_pool


def _avg_pool(n: int) -> Any:
    def avg_pool(x: Any, kernel: Any, stride: Any = (), padding: Any = 0, ceil_mode: bool = False,
                 count_include_pad: bool = True, divisor_override: int | None = None) -> Any:  # fmt: skip
        total = pool(x, n, kernel, stride, padding, 1, ceil_mode, np.zeros((), x.dtype), lax.add)
        kernel, padding = _tuple(kernel, n), _tuple(padding, n)
        stride = _tuple(stride, n) if not isinstance(stride, Sequence) or len(stride) else kernel
        if divisor_override is not None:
            return total / divisor_override
        counts = np.ones((), np.float32)
        for size, k, step, pad, count in zip(x.shape[-n:], kernel, stride, padding, total.shape[-n:], strict=True):
            begin = np.arange(count) * step - pad
            end = np.minimum(begin + k, size + pad)
            own = end - begin if count_include_pad else np.minimum(end, size) - np.maximum(begin, 0)
            counts = counts[..., None] * own.astype(np.float32)
        return total / (counts.flat[0].item() if np.all(counts == counts.flat[0]) else counts)

    return avg_pool


def _adaptive_avg_pool(n: int) -> Any:
    def adaptive_avg_pool(x: Any, output_size: Any) -> Any:
        for axis, (size, count) in enumerate(zip(x.shape[-n:], _sizes(output_size, x.shape[-n:]), strict=True), -n):
            if count == 1:
                x = jnp.mean(x, axis, keepdims=True)
            elif count != size:
                mean = np.zeros((count, size), np.float32)
                for i, (begin, end) in enumerate(_spans(size, count)):
                    mean[i, begin:end] = 1 / (end - begin)
                x = jnp.moveaxis(jnp.matmul(jnp.moveaxis(x, axis, -1), mean.T), -1, axis)
        return x

    return adaptive_avg_pool


def _adaptive_max_pool(n: int) -> Any:
    def adaptive_max_pool(x: Any, output_size: Any) -> Any:
        for axis, (size, count) in enumerate(zip(x.shape[-n:], _sizes(output_size, x.shape[-n:]), strict=True), -n):
            parts = [lax.slice_in_dim(x, begin, end, axis=axis).max(axis) for begin, end in _spans(size, count)]
            x = jnp.stack(parts, axis)
        return x, None  # the places of the maxima are not worked out

    return adaptive_max_pool


def _sizes(output_size: Any, sizes: Sequence[int]) -> tuple[int, ...]:
    return tuple(n if o is None else o for o, n in zip(_tuple(output_size, len(sizes)), sizes, strict=True))


def _spans(size: int, count: int) -> list[tuple[int, int]]:
    """The part of an axis that each of `count` outputs stands for."""
    return [(i * size // count, -(-(i + 1) * size // count)) for i in range(count)]


for _n in (1, 2, 3):
    define(f"max_pool{_n}d")(_max_pool(_n))
    define(f"max_pool{_n}d_with_indices")(lambda *args, n=_n, **kwargs: (_max_pool(n)(*args, **kwargs), None))
    define(f"avg_pool{_n}d")(_avg_pool(_n))
    define(f"adaptive_avg_pool{_n}d", f"_adaptive_avg_pool{_n}d")(_adaptive_avg_pool(_n))
    define(f"adaptive_max_pool{_n}d")(_adaptive_max_pool(_n))


def _output_sizes(x: Any, n: int, sizes: Any, factors: Any) -> list[int]:
    return list(sizes) if sizes else [int(m * f) for m, f in zip(x.shape[-n:], factors, strict=True)]


def _nearest(exact: bool) -> Any:
    def upsample(x: Any, sizes: Any = None, factors: Any = None) -> Any:
        n = x.ndim - 2
        for axis, count in enumerate(_output_sizes(x, n, sizes, factors), 2):
            size = x.shape[axis]
            factor = factors[axis - 2] if factors else count / size
            places = (np.arange(count) + (0.5 if exact else 0)).astype(np.float32) * np.float32(1 / factor)
            x = _take(x, np.minimum(np.floor(places).astype(np.int32), size - 1), axis)
        return x

    return upsample


def _take(x: Any, places: np.ndarray, axis: int) -> Any:
    return x.at[(slice(None),) * axis + (places,)].get(mode="promise_in_bounds")


def _linear_upsample(x: Any, sizes: Any, align_corners: bool, factors: Any = None) -> Any:
    for axis, count in enumerate(_output_sizes(x, x.ndim - 2, sizes, factors), 2):
        size = x.shape[axis]
        if align_corners:
            place = np.arange(count) * ((size - 1) / (count - 1) if count > 1 else 0.0)
        else:
            factor = factors[axis - 2] if factors else count / size
            place = np.maximum((np.arange(count) + 0.5) / factor - 0.5, 0)
        low = np.minimum(np.floor(place).astype(np.int32), size - 1)
        high = np.minimum(low + 1, size - 1)
        share = (place - low).astype(np.float32).reshape(-1, *(1,) * (x.ndim - axis - 1))
        x = _take(x, low, axis) * (1 - share) + _take(x, high, axis) * share
    return x


for _n, _word in ((1, "linear"), (2, "bilinear"), (3, "trilinear")):
    define(f"upsample_nearest{_n}d.vec")(_nearest(exact=False))
    define(f"_upsample_nearest_exact{_n}d.vec")(_nearest(exact=True))
    define(f"upsample_{_word}{_n}d.vec")(_linear_upsample)


@define("scaled_dot_product_attention")
def _attention(q: Any, k: Any, v: Any, attn_mask: Any = None, dropout_p: float = 0.0, is_causal: bool = False,
               scale: float | None = None, enable_gqa: bool = False) -> Any:  # fmt: skip
    if enable_gqa:
        k, v = (jnp.repeat(part, q.shape[-3] // part.shape[-3], -3) for part in (k, v))
    scores = jnp.matmul(q * (1 / math.sqrt(q.shape[-1]) if scale is None else scale), jnp.swapaxes(k, -1, -2))
    if is_causal:
        attn_mask = jnp.tril(jnp.ones(scores.shape[-2:], bool))
    if attn_mask is not None:
        scores = jnp.where(attn_mask, scores, -jnp.inf) if attn_mask.dtype == bool else scores + attn_mask
        # a row that may look nowhere gives zeros, as in PyTorch
        nowhere = jnp.all(scores == -jnp.inf, -1, keepdims=True)
        return jnp.matmul(jnp.where(nowhere, 0, jax.nn.softmax(scores, -1)), v)
    return jnp.matmul(jax.nn.softmax(scores, -1), v)
