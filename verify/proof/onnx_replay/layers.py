"""Matrix products, convolutions, pooling, normalization and reductions."""

from fractions import Fraction
from functools import reduce
from typing import Any

import numpy as np

from axiom_jax.verification.proof.onnx_replay import reals
from axiom_jax.verification.proof.onnx_replay.elementwise import constant, exp, minus, over, plus, times
from axiom_jax.verification.proof.onnx_replay.reals import Array, Reals, moved, padded, real
from axiom_jax.verification.proof.onnx_replay.table import Node, Unknown, axes_of, operator, setting

EPSILON = Fraction(float(np.float32(1e-5)))


@operator("MatMul")
def _matmul(node: Node, a: Array, b: Array) -> Reals:
    return reals.matmul(real(a), real(b))


@operator("Gemm")
def _gemm(node: Node, a: Reals, b: Reals, c: Reals | None = None) -> Reals:
    a, b = (moved(x, np.transpose) if node.get(k, 0) else x for x, k in ((a, "transA"), (b, "transB")))
    result = times(reals.matmul(a, b), constant(node.get("alpha", 1)))
    return result if c is None else plus(result, times(c, constant(node.get("beta", 1))))


def _padding(node: Node, sizes: list[int], kernel: list[int], strides: list[int], dilations: list[int]) -> list[Any]:
    """(before, after) an axis, from `pads` or `auto_pad`."""
    rank, auto = len(sizes), node.get("auto_pad", "NOTSET")
    if auto in ("NOTSET", ""):
        pads = node.get("pads") or [0] * (2 * rank)
        return list(zip(pads[:rank], pads[rank:], strict=True))
    if auto == "VALID":
        return [(0, 0)] * rank
    pairs = []
    for size, k, s, d in zip(sizes, kernel, strides, dilations, strict=True):
        whole = max((-(-size // s) - 1) * s + (k - 1) * d + 1 - size, 0)
        pairs.append((whole // 2, whole - whole // 2) if auto == "SAME_UPPER" else (whole - whole // 2, whole // 2))
    return pairs


def _geometry(node: Node, x: Array, kernel: list[int]) -> tuple[list[int], list[int], list[Any]]:
    strides, dilations = (node.get(k) or [1] * len(kernel) for k in ("strides", "dilations"))
    return strides, dilations, _padding(node, list(x.shape[2:]), kernel, strides, dilations)


def _windows(places: list[np.ndarray]) -> Any:
    """An index that reads windows: places (out, kernel) an axis become axes out₀, kernel₀, out₁, kernel₁, …"""
    rank = 2 * len(places)
    index: list[Any] = [slice(None), slice(None)]
    for axis, p in enumerate(places):
        shape = [1] * rank
        shape[2 * axis], shape[2 * axis + 1] = p.shape
        index.append(p.reshape(shape))
    return tuple(index)


def _convolved(x: Reals, w: Reals, places: list[np.ndarray], group: int) -> Reals:
    """Windows of a padded input, times the kernel: (N, M, out…)."""
    rank, (n, c), m = len(places), x.shape[:2], w.shape[0]
    if c % group or m % group or w.shape[1] != c // group:
        raise Unknown("a convolution whose channels do not fit its groups")
    out, kernel = [p.shape[0] for p in places], [p.shape[1] for p in places]
    order = [0, *range(2, 2 + 2 * rank, 2), 1, *range(3, 3 + 2 * rank, 2)]
    rows = moved(x, lambda a: a[_windows(places)].transpose(order).reshape(n, -1, c, int(np.prod(kernel))))
    results = []
    for g in range(group):
        mine, outs = slice(g * c // group, (g + 1) * c // group), slice(g * m // group, (g + 1) * m // group)
        flat = moved(rows, lambda a, s=mine: a[:, :, s].reshape(-1, c // group * int(np.prod(kernel))))
        weights = moved(w, lambda a, s=outs: a[s].reshape(m // group, -1).T)
        results.append(reals.matmul(flat, weights))
    lo = np.concatenate([r.lo for r in results], 1)
    hi = lo if all(r.exact for r in results) else np.concatenate([r.hi for r in results], 1)
    joined = Reals(lo, hi, results[0].den)
    return moved(joined, lambda a: np.moveaxis(a.reshape(n, *out, m), -1, 1))


def _biased(y: Reals, b: Reals | None) -> Reals:
    return y if b is None else plus(y, _by_channel(b, len(y.shape)))


def _by_channel(v: Reals, rank: int) -> Reals:
    return moved(v, lambda a: a.reshape(-1, *[1] * (rank - 2)))


@operator("Conv")
def _conv(node: Node, x: Reals, w: Reals, b: Reals | None = None) -> Reals:
    kernel = list(w.shape[2:])
    strides, dilations, pads = _geometry(node, x, kernel)
    places = [_places(n + sum(p), k, s, d) for n, p, k, s, d in zip(x.shape[2:], pads, kernel, strides, dilations,
                                                                    strict=True)]  # fmt: skip
    wide = moved(x, lambda a: padded(a, [(0, 0), (0, 0), *pads]))
    return _biased(_convolved(wide, w, places, node.get("group", 1)), b)


def _places(size: int, kernel: int, stride: int, dilation: int, ceil: bool = False) -> np.ndarray:
    reach = size - (kernel - 1) * dilation - 1
    count = (-(-reach // stride) if ceil else reach // stride) + 1
    return np.arange(count)[:, None] * stride + np.arange(kernel) * dilation


@operator("ConvTranspose")
def _conv_transpose(node: Node, x: Reals, w: Reals, b: Reals | None = None) -> Reals:
    """x with zeros between its elements, convolved with the mirrored kernel."""
    kernel, rank = list(w.shape[2:]), len(w.shape) - 2
    strides, dilations = (node.get(k) or [1] * rank for k in ("strides", "dilations"))
    extra, group = node.get("output_padding") or [0] * rank, node.get("group", 1)
    if node.get("output_shape") or node.get("auto_pad", "NOTSET") not in ("NOTSET", "VALID"):
        raise Unknown("ConvTranspose with a shape of its output")
    pads = node.get("pads") or [0] * (2 * rank)
    sizes = [(n - 1) * s + 1 for n, s in zip(x.shape[2:], strides, strict=True)]

    def spread(a: np.ndarray) -> np.ndarray:
        wide = np.zeros((*a.shape[:2], *sizes), object)
        wide[(slice(None), slice(None), *(slice(None, None, s) for s in strides))] = a
        return wide

    reach = [(k - 1) * d for k, d in zip(kernel, dilations, strict=True)]
    widths = [(r - pads[i], r - pads[i + rank] + extra[i]) for i, r in enumerate(reach)]
    wide = moved(moved(x, spread), lambda a: padded(a, [(0, 0), (0, 0), *widths]))
    c, m = w.shape[0], w.shape[1]
    mirrored = tuple([slice(None), slice(None)] + [slice(None, None, -1)] * rank)
    turned = moved(w, lambda a: np.moveaxis(a[mirrored].reshape(group, c // group, m, *kernel), 2, 1)
                   .reshape(group * m, c // group, *kernel))  # fmt: skip
    places = [_places(n, k, 1, d) for n, k, d in zip(wide.shape[2:], kernel, dilations, strict=True)]
    return _biased(_convolved(wide, turned, places, group), b)


def _pooling(node: Node, x: Array) -> tuple[list[np.ndarray], list[Any]]:
    """Places of the windows in the unpadded input, and the padding."""
    kernel = node.get("kernel_shape")
    strides, dilations, pads = _geometry(node, x, kernel)
    ceil, places = bool(node.get("ceil_mode", 0)), []
    for n, (before, after), k, s, d in zip(x.shape[2:], pads, kernel, strides, dilations, strict=True):
        p = _places(n + before + after, k, s, d, ceil) - before
        places.append(p[p[:, 0] < n + before] if ceil else p)  # a window must not begin in the padding behind
    return places, pads


def _gathered(x: Array, places: list[np.ndarray]) -> tuple[Array, np.ndarray]:
    """Windows (N, C, out…, elements), and which elements lie inside the input."""
    rank = len(places)
    inside = [(p >= 0) & (p < n) for p, n in zip(places, x.shape[2:], strict=True)]
    clipped = [np.clip(p, 0, n - 1) for p, n in zip(places, x.shape[2:], strict=True)]
    order = [0, 1, *range(2, 2 + 2 * rank, 2), *range(3, 3 + 2 * rank, 2)]
    out = [p.shape[0] for p in places]
    flat = lambda a: a[_windows(clipped)].transpose(order).reshape(*a.shape[:2], *out, -1)
    axes = _windows(inside)[2:]
    valid = reduce(np.logical_and, axes).transpose([*range(0, 2 * rank, 2), *range(1, 2 * rank, 2)])
    return moved(x, flat), valid.reshape(*out, -1)


@operator("MaxPool")
def _max_pool(node: Node, x: Reals) -> Reals:
    if len([name for name in node.outputs if name]) > 1:
        raise Unknown("MaxPool whose indices are read")
    windows, valid = _gathered(x, _pooling(node, x)[0])
    if not valid.any(-1).all():
        raise Unknown("MaxPool of a window in the padding")
    first = np.argmax(valid, -1)[..., None]  # stands in for what lies outside
    index = np.where(valid, np.arange(valid.shape[-1]), first)
    filled = moved(windows, lambda a: np.take_along_axis(a, np.broadcast_to(index, a.shape), -1))
    return reals.monotone(filled, lambda a: np.max(a, -1))


@operator("AveragePool")
def _average_pool(node: Node, x: Reals) -> Reals:
    places, pads = _pooling(node, x)
    windows, valid = _gathered(x, places)
    zeroed = moved(windows, lambda a: np.where(valid, a, 0))
    if node.get("count_include_pad", 0):  # what lies behind the padding, by ceil_mode, does not count
        within = [(p >= -b) & (p < n + e) for p, n, (b, e) in zip(places, x.shape[2:], pads, strict=True)]
        counts = reduce(np.multiply.outer, [p.sum(1) for p in within])
    else:
        counts = valid.sum(-1)
    return over(reals.total(zeroed, (len(zeroed.shape) - 1,), False), real(counts))


@operator("GlobalAveragePool", "GlobalMaxPool")
def _global(node: Node, x: Reals) -> Reals:
    axes = tuple(range(2, len(x.shape)))
    if node.op == "GlobalMaxPool":
        return reals.monotone(x, lambda a: np.max(a, axes, keepdims=True))
    return times(reals.total(x, axes, True), constant(Fraction(1, int(np.prod(x.shape[2:])))))


@operator("BatchNormalization")
def _batch_normalization(node: Node, x: Reals, scale: Reals, b: Reals, mean: Reals, variance: Reals) -> Reals:
    if node.get("training_mode", 0) or len([name for name in node.outputs if name]) > 1:
        raise Unknown("BatchNormalization that trains")
    scale, b, mean, variance = (_by_channel(v, max(len(x.shape), 2)) for v in (scale, b, mean, variance))
    root = reals.smooth(plus(variance, constant(node.get("epsilon", EPSILON))), "sqrt")
    return plus(times(minus(x, mean), over(scale, root)), b)


def _normalised(x: Reals, axes: tuple[int, ...], epsilon: Fraction) -> Reals:
    part = constant(Fraction(1, int(np.prod([x.shape[a] for a in axes]))))
    centred = minus(x, times(reals.total(x, axes, True), part))
    variance = times(reals.total(reals.monotone(times(centred, centred), lambda a: np.maximum(a, 0)), axes, True), part)
    return over(centred, reals.smooth(plus(variance, constant(epsilon)), "sqrt"))


@operator("LayerNormalization")
def _layer_normalization(node: Node, x: Reals, scale: Reals, b: Reals | None = None) -> Reals:
    (axis,) = axes_of([node.get("axis", -1)], len(x.shape))
    y = times(_normalised(x, tuple(range(axis, len(x.shape))), node.get("epsilon", EPSILON)), scale)
    return y if b is None else plus(y, b)


@operator("InstanceNormalization")
def _instance_normalization(node: Node, x: Reals, scale: Reals, b: Reals) -> Reals:
    y = _normalised(x, tuple(range(2, len(x.shape))), node.get("epsilon", EPSILON))
    return plus(times(y, _by_channel(scale, len(x.shape))), _by_channel(b, len(x.shape)))


@operator("Softmax")
def _softmax(node: Node, x: Reals) -> Reals:
    """Before opset 13 over all axes from `axis` on, 1 by default; then over one axis, the last by default."""
    (axis,) = axes_of([node.get("axis", 1 if node.opset < 13 else -1)], len(x.shape))
    axes = tuple(range(axis, len(x.shape))) if node.opset < 13 else (axis,)
    top = moved(x, lambda a: np.max(a, axes, keepdims=True))  # any number would do: it cancels
    powers = exp(minus(x, Reals(top.lo, top.lo, top.den)))
    return over(powers, reals.total(powers, axes, True))


@operator("ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceSumSquare", "ReduceL1", "ReduceL2",
          "ReduceProd")  # fmt: skip
def _reduce(node: Node, x: Array, *operands: Array | None) -> Array:
    """Axes are an attribute before opset 13 (ReduceSum) or 18; none are all, or none with `noop_with_empty_axes`."""
    axes = setting(node, "axes", operands, 0, 13 if node.op == "ReduceSum" else 18)
    if not axes and node.get("noop_with_empty_axes", 0):
        if node.op not in ("ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin"):
            raise Unknown(f"{node.op} of no axes")
        return x
    chosen = tuple(axes_of(axes, len(x.shape))) if axes else tuple(range(len(x.shape)))
    keep, y = bool(node.get("keepdims", 1)), real(x)
    integral = not isinstance(x, Reals)
    if node.op == "ReduceProd" and integral:
        return np.prod(x, axis=chosen, keepdims=keep)
    if node.op == "ReduceProd":
        raise Unknown("ReduceProd of real numbers")
    if node.op == "ReduceMax":
        return reals.monotone(y, lambda a: np.max(a, chosen, keepdims=keep))
    if node.op == "ReduceMin":
        return reals.monotone(y, lambda a: np.min(a, chosen, keepdims=keep))
    if node.op in ("ReduceSumSquare", "ReduceL2"):
        y = reals.monotone(times(y, y), lambda a: np.maximum(a, 0))
    if node.op == "ReduceL1":
        y = reals.maximum(y, reals.neg(y))
    result = reals.total(y, chosen, keep)
    if node.op == "ReduceL2":
        return reals.smooth(result, "sqrt")
    if node.op != "ReduceMean":
        return result
    return times(result, constant(Fraction(1, int(np.prod([x.shape[a] for a in chosen])))))
