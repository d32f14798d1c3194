"""ONNX operators that move entries and compute shapes; on known operands they run at import, in numpy."""

import math
from typing import Any

import numpy as np
from jax import lax

from axiom_jax.interop.onnx_ops import (
    Node,
    array,
    define,
    expand_to,
    integers,
    known,
    positive,
    reshape,
    scalar,
    take,
    window,
)


@define("Shape")
def _shape(node: Node, x: Any) -> Any:
    return np.array(x.shape, np.int64)[node.get("start", 0) : node.get("end")]


@define("Size")
def _size(node: Node, x: Any) -> Any:
    return np.array(math.prod(x.shape), np.int64)


@define("ConstantOfShape", static=(0,))
def _constant_of_shape(node: Node, shape: Any) -> Any:
    value = node.get("value")
    return np.full(integers(shape, "the shape"), np.float32(0) if value is None else value.array.reshape(())[()])


@define("Range", static=(0, 1, 2))
def _range(node: Node, start: Any, limit: Any, delta: Any) -> Any:
    return np.arange(*(scalar(x, "a range") for x in (start, limit, delta)))


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
    return expand_to(x, np.broadcast_shapes(x.shape, tuple(integers(shape, "the shape"))))


@define("Tile", static=(1,))
def _tile(node: Node, x: Any, repeats: Any) -> Any:
    times = integers(repeats, "repeats")
    if isinstance(x, np.ndarray):
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


@define("Gather", static=(1,))
def _gather(node: Node, x: Any, index: Any) -> Any:
    axis = positive(node.get("axis", 0), x.ndim)
    chosen = np.array(integers(index, "the index"), np.int64)
    if chosen.size and not (-x.shape[axis] <= chosen.min() and chosen.max() < x.shape[axis]):
        raise ValueError(f"an index is outside of axis {axis}")
    y = take(x, np.where(chosen < 0, chosen + x.shape[axis], chosen), axis)
    return reshape(y, (*x.shape[:axis], *index.shape, *x.shape[axis + 1 :]))


@define("Pad", static=(1, 2, 3))
def _pad(node: Node, x: Any, pads: Any = None, value: Any = None, axes: Any = None) -> Any:
    amounts = node.get("pads") if pads is None else integers(pads, "pads")
    chosen = range(x.ndim) if axes is None else [positive(a, x.ndim) for a in integers(axes, "axes")]
    widths = [(0, 0)] * x.ndim
    for d, lo, hi in zip(chosen, amounts[: len(chosen)], amounts[len(chosen) :], strict=True):
        widths[d] = (lo, hi)
    x, mode = array(x), node.get("mode", "constant")
    if mode == "constant":
        fill = node.get("value", 0.0) if value is None else scalar(value, "the value")
        return lax.pad(x, x.dtype.type(fill), [(lo, hi, 0) for lo, hi in widths])
    for d, (lo, hi) in enumerate(widths):
        inside = np.arange(x.shape[d])[max(-lo, 0) : x.shape[d] - max(-hi, 0)]  # a negative width crops
        x = take(x, np.pad(inside, (max(lo, 0), max(hi, 0)), mode), d)  # np.pad knows the modes by the same names
    return x


@define("Upsample", "Resize", static=(1, 2, 3))
def _resize(node: Node, x: Any, *operands: Any) -> Any:
    if node.get("mode", "nearest") != "nearest":
        raise NotImplementedError(f"mode {node.get('mode')}")
    if node.get("keep_aspect_ratio_policy", "stretch") != "stretch":
        raise NotImplementedError(f"keep_aspect_ratio_policy {node.get('keep_aspect_ratio_policy')}")
    old = node.op == "Upsample" or node.opset < 11  # (x, scales); later (x, region, scales, sizes)
    given = [node.get("scales"), None] if not operands else [operands[0], None] if old else [*operands[1:], None][:2]
    scales, sizes = (None if v is None or np.size(v) == 0 else np.asarray(v) for v in given)
    chosen = [positive(a, x.ndim) for a in node.get("axes", range(x.ndim))]
    for i, d in enumerate(chosen):
        n = x.shape[d]
        if sizes is not None:
            length, scale = int(sizes[i]), np.float32(int(sizes[i]) / n)
        elif scales is None:
            raise ValueError("neither scales nor sizes are given")
        else:
            length, scale = math.floor(n * float(scales[i])), np.float32(scales[i])
        x = take(x, _nearest(node, n, length, scale, old), d)
    return x


def _nearest(node: Node, size: int, length: int, scale: np.float32, old: bool) -> np.ndarray:
    """For every output place the input place that it copies."""
    out = np.arange(length, dtype=np.float32)
    centre = (out + np.float32(0.5)) / scale - np.float32(0.5)
    places = {
        "asymmetric": out / scale,
        "half_pixel": centre,
        "pytorch_half_pixel": centre if length > 1 else out,
        "tf_half_pixel_for_nn": centre + np.float32(0.5),
        "align_corners": out * np.float32(size - 1) / np.float32(max(length - 1, 1)),
    }
    mode = "asymmetric" if old else node.get("coordinate_transformation_mode", "half_pixel")
    before = "ceil" if scale < 1 else "floor"  # what onnxruntime and ONNX's own tests did before there was a choice
    rounding = before if old else node.get("nearest_mode", "round_prefer_floor")
    if mode not in places:
        raise NotImplementedError(f"coordinate_transformation_mode {mode}")
    half = np.float32(0.5)
    round_to = {"floor": np.floor, "ceil": np.ceil, "round_prefer_floor": lambda p: np.ceil(p - half),
                "round_prefer_ceil": lambda p: np.floor(p + half)}[rounding]  # fmt: skip
    return np.clip(round_to(places[mode]), 0, size - 1).astype(np.int64)
