"""ONNX operators that move entries and compute shapes; on known operands they run at import, in numpy."""

import math
from typing import Any

import jax
import numpy as np
from jax import lax

from axiom_jax.interop.onnx.ops import (
    Node,
    array,
    broadcast_shapes,
    define,
    expand_to,
    integers,
    known,
    positive,
    require_size,
    reshape,
    scalar,
    take,
    window,
)


@define("Shape")
def _shape(node: Node, x: Any) -> Any:
    sizes = np.array(x.shape, np.int64 if all(isinstance(n, int) for n in x.shape) else object)
    return sizes[node.get("start", 0) : node.get("end")]


@define("Size")
def _size(node: Node, x: Any) -> Any:
    size = math.prod(x.shape)
    return np.array(size, np.int64 if isinstance(size, int) else object)


@define("ConstantOfShape", static=(0,))
def _constant_of_shape(node: Node, shape: Any) -> Any:
    value = node.get("value")
    number = np.float32(0) if value is None else value.array.reshape(())[()]
    sizes = integers(shape, "the shape")
    if all(isinstance(n, int) for n in sizes):
        require_size(sizes)
        return np.full(sizes, number)
    return lax.full(sizes, number, jax.dtypes.canonicalize_dtype(np.asarray(number).dtype))


@define("Range", static=(0, 1, 2))
def _range(node: Node, start: Any, limit: Any, delta: Any) -> Any:
    first, end, step = (scalar(x, "a range") for x in (start, limit, delta))
    if not isinstance(end, (int, float, np.number)):  # symbolic
        if step < 0:
            raise NotImplementedError("a negative step to an end that is free")
        return lax.iota(np.int32, -((first - end) // step)) * np.int32(step) + np.int32(first)
    require_size([max(0, math.ceil((end - first) / step))])
    count = max(0, math.ceil((end - first) / step))
    return (first + np.arange(count) * step).astype(np.asarray(start).dtype)


@define("Reshape", static=(1,))
def _reshape(node: Node, x: Any, shape: Any) -> Any:
    sizes = integers(shape, "the shape")
    if not node.get("allowzero", 0):
        sizes = [x.shape[d] if n == 0 else n for d, n in enumerate(sizes)]
    if -1 in sizes:
        rest = math.prod(n for n in sizes if n != -1)
        sizes[sizes.index(-1)] = math.prod(x.shape) // rest if rest else 0
    return reshape(x, sizes)


@define("Flatten")
def _flatten(node: Node, x: Any) -> Any:
    axis = node.get("axis", 1)
    axis += x.ndim if axis < 0 else 0
    return reshape(x, (math.prod(x.shape[:axis]), math.prod(x.shape[axis:])))


@define("Squeeze", static=(1,))
def _squeeze(node: Node, x: Any, axes: Any = None) -> Any:
    given = node.get("axes") if axes is None else integers(axes, "axes")
    drop = [d for d, n in enumerate(x.shape) if n == 1] if given is None else [positive(a, x.ndim) for a in given]
    if any(x.shape[d] != 1 for d in drop):
        raise ValueError(f"cannot squeeze axes {drop} of a size other than 1")
    return reshape(x, [n for d, n in enumerate(x.shape) if d not in drop])


@define("Unsqueeze", static=(1,))
def _unsqueeze(node: Node, x: Any, axes: Any = None) -> Any:
    given = node.get("axes") if axes is None else integers(axes, "axes")
    rank = x.ndim + len(given)
    new, sizes = {positive(a, rank) for a in given}, iter(x.shape)
    return reshape(x, [1 if d in new else next(sizes) for d in range(rank)])


@define("Transpose")
def _transpose(node: Node, x: Any) -> Any:
    order = node.get("perm", tuple(reversed(range(x.ndim))))
    return np.transpose(x, order) if isinstance(x, np.ndarray) else lax.transpose(x, order)


@define("Expand", static=(1,))
def _expand(node: Node, x: Any, shape: Any) -> Any:
    return expand_to(x, broadcast_shapes(x.shape, tuple(integers(shape, "the shape"))))


@define("Tile", static=(1,))
def _tile(node: Node, x: Any, repeats: Any) -> Any:
    times = integers(repeats, "repeats")
    if isinstance(x, np.ndarray):
        require_size([n * t for n, t in zip(x.shape, times, strict=True)])
        return np.tile(x, times)
    for d, n in enumerate(times):
        x = x if n == 1 else lax.concatenate([x] * n, d) if n else window(x, d, 0, 0)
    return x


@define("Concat")
def _concat(node: Node, first: Any, *rest: Any) -> Any:
    axis = positive(node.get("axis"), first.ndim)
    if known(first, *rest):
        return np.concatenate((first, *rest), axis)
    return lax.concatenate([array(x) for x in (first, *rest)], axis) if rest else first


@define("Split", static=(1,))
def _split(node: Node, x: Any, sizes: Any = None) -> Any:
    axis, parts = positive(node.get("axis", 0), x.ndim), len(node.outputs)
    lengths = node.get("split") if sizes is None else integers(sizes, "the sizes")
    if lengths is None:
        chunk = -(-x.shape[axis] // parts)
        lengths = [min(chunk, x.shape[axis] - i * chunk) for i in range(parts)]
    if sum(lengths) != x.shape[axis] or min(lengths) < 0:
        raise ValueError(f"sizes {list(lengths)} do not add up to {x.shape[axis]}")
    ends = np.cumsum(lengths)
    return tuple(window(x, axis, int(end) - n, int(end)) for n, end in zip(lengths, ends, strict=True))


@define("Slice", static=(1, 2, 3, 4))
def _slice(node: Node, x: Any, starts: Any = None, ends: Any = None, axes: Any = None, steps: Any = None) -> Any:
    begin = node.get("starts") if starts is None else integers(starts, "starts")
    stop = node.get("ends") if ends is None else integers(ends, "ends")
    where = node.get("axes") if axes is None else integers(axes, "axes")
    stride = (1,) * len(begin) if steps is None else integers(steps, "steps")
    for lo, hi, axis, step in zip(begin, stop, where or range(len(begin)), stride, strict=True):
        axis = positive(axis, x.ndim)
        n = x.shape[axis]
        lo, hi = (i + n if i < 0 else i for i in (lo, hi))
        first, last = (0, n) if step > 0 else (-1, n - 1)
        # Going down, ONNX moves a start before the axis to 0, where Python would take nothing.
        chosen = range(min(max(lo, 0), last), min(max(hi, first), last), step)
        if step < 0:
            chosen = chosen[::-1]
        x = window(x, axis, chosen[0], chosen[-1] + 1, chosen.step) if chosen else window(x, axis, 0, 0)
        if step < 0:
            x = np.flip(x, axis) if isinstance(x, np.ndarray) else lax.rev(x, (axis,))
    return x


@define("Pad", static=(1, 2, 3))
def _pad(node: Node, x: Any, pads: Any = None, value: Any = None, axes: Any = None) -> Any:
    amounts = node.get("pads") if pads is None else integers(pads, "pads")
    chosen = range(x.ndim) if axes is None else [positive(a, x.ndim) for a in integers(axes, "axes")]
    widths = [(0, 0)] * x.ndim
    for d, lo, hi in zip(chosen, amounts[: len(chosen)], amounts[len(chosen) :], strict=True):
        widths[d] = (lo, hi)
    mode = node.get("mode", "constant")
    if isinstance(x, np.ndarray):
        require_size([n + lo + hi for n, (lo, hi) in zip(x.shape, widths, strict=True)])
    else:
        x = array(x)
    if mode == "constant":
        fill = node.get("value", 0.0) if value is None else scalar(value, "the value") if known(value) else value
        if isinstance(x, np.ndarray) and min(map(min, widths), default=0) >= 0 and not hasattr(fill, "aval"):
            return np.pad(x, widths, constant_values=fill)
        x = array(x)
        return lax.pad(x, lax.convert_element_type(fill, x.dtype), [(lo, hi, 0) for lo, hi in widths])
    for d, (lo, hi) in enumerate(widths):
        inside = np.arange(x.shape[d])[max(-lo, 0) : x.shape[d] - max(-hi, 0)]  # a negative width crops
        x = take(x, np.pad(inside, (max(lo, 0), max(hi, 0)), mode), d)  # np.pad knows the modes by the same names
    return x
