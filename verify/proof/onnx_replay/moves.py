"""Operators that move elements and compute with shapes."""

from fractions import Fraction
from typing import Any

import numpy as np

from axiom_jax.verification.proof.onnx_replay.reals import (
    Array,
    Reals,
    add,
    common,
    moved,
    of_fractions,
    padded,
    real,
)
from axiom_jax.verification.proof.onnx_replay.table import (
    Node,
    Unknown,
    axes_of,
    broadcast,
    integers,
    operator,
    setting,
)

LARGEST = 1 << 26  # elements of a result


@operator("Constant")
def _constant(node: Node) -> Array:
    values = [value for name, value in node.attributes.items() if name.startswith("value")]
    if len(values) != 1 or isinstance(values[0], (str, bytes)):
        raise Unknown("Constant without numbers")
    value = values[0]
    return value if isinstance(value, Reals) else np.asarray(value)


@operator("ConstantOfShape")
def _constant_of_shape(node: Node, shape: Array) -> Array:
    sizes = _sized(integers(shape, "a shape"))
    value = node.get("value")
    if value is None:
        value = real(np.zeros(1, np.int64))
    return moved(value, lambda a: np.broadcast_to(a.reshape(()), sizes))


def _sized(sizes: list[int]) -> list[int]:
    if any(n < 0 for n in sizes) or np.prod(sizes, dtype=float) > LARGEST:
        raise Unknown(f"a shape {sizes[:8]}")
    return sizes


@operator("Shape")
def _shape(node: Node, x: Array) -> np.ndarray:
    start, end = node.get("start", 0), node.get("end")
    return np.array(x.shape[start:end], np.int64)


@operator("Size")
def _size(node: Node, x: Array) -> np.ndarray:
    return np.array(x.size, np.int64)


@operator("Range")
def _range(node: Node, *limits: Array) -> np.ndarray:
    start, end, step = (integers(x, "limits of Range")[0] for x in limits)
    _sized([max(0, -(-(end - start) // step))])
    return np.arange(start, end, step, dtype=np.int64)


@operator("Reshape")
def _reshape(node: Node, x: Array, shape: Array) -> Array:
    """0 keeps the axis of the operand (unless `allowzero`), −1 takes what is left."""
    sizes = integers(shape, "a shape")
    if not node.get("allowzero", 0):
        sizes = [x.shape[i] if n == 0 else n for i, n in enumerate(sizes)]
    return moved(x, lambda a: a.reshape(sizes))


@operator("Flatten")
def _flatten(node: Node, x: Array) -> Array:
    axis = node.get("axis", 1)
    axis = axis + len(x.shape) if axis < 0 else axis
    first = int(np.prod(x.shape[:axis], dtype=np.int64))
    return moved(x, lambda a: a.reshape(first, a.size // max(first, 1)))


@operator("Transpose")
def _transpose(node: Node, x: Array) -> Array:
    perm = node.get("perm") or list(range(len(x.shape)))[::-1]
    return moved(x, lambda a: a.transpose(perm))


@operator("Concat")
def _concat(node: Node, *parts: Array) -> Array:
    axis = node.get("axis", 1)
    if not any(isinstance(p, Reals) for p in parts):
        return np.concatenate(parts, axis)
    joined = common([real(p) for p in parts])
    lo = np.concatenate([p.lo for p in joined], axis)
    hi = lo if all(p.exact for p in joined) else np.concatenate([p.hi for p in joined], axis)
    return Reals(lo, hi, joined[0].den)


@operator("Slice")
def _slice(node: Node, x: Array, *operands: Array | None) -> Array:
    """Limits are clamped to the axis; with a negative step they count down, and an end below −size means all."""
    starts, ends, axes = (setting(node, k, operands, i, 10) for i, k in enumerate(("starts", "ends", "axes")))
    steps = setting(node, "steps", operands, 3, 10) if node.opset >= 10 else None
    if starts is None or ends is None:
        raise Unknown("Slice without limits")
    chosen = axes_of(axes if axes is not None else list(range(len(starts))), len(x.shape))
    index: list[Any] = [slice(None)] * len(x.shape)
    for k, axis in enumerate(chosen):
        step, size = steps[k] if steps is not None else 1, x.shape[axis]
        start, end = (v + size if v < 0 else v for v in (starts[k], ends[k]))
        low, high = (0, size) if step > 0 else (0, size - 1)
        start, end = min(max(start, low), high), min(max(end, low if step > 0 else -1), high + (step < 0))
        index[axis] = np.arange(start, end, step)
    result = x
    for axis, places in enumerate(index):
        if isinstance(places, np.ndarray):
            result = moved(result, lambda a, p=places, axis=axis: np.take(a, p, axis))
    return result


def _inside(index: np.ndarray, size: int) -> np.ndarray:
    if isinstance(index, Reals) or np.any((index < -size) | (index >= size)):
        raise Unknown("an index outside of its axis")
    return np.where(index < 0, index + size, index)


@operator("Gather")
def _gather(node: Node, x: Array, index: np.ndarray) -> Array:
    (axis,) = axes_of([node.get("axis", 0)], len(x.shape))
    places = _inside(index, x.shape[axis])
    return moved(x, lambda a: np.take(a, places, axis))


@operator("GatherElements")
def _gather_elements(node: Node, x: Array, index: np.ndarray) -> Array:
    (axis,) = axes_of([node.get("axis", 0)], len(x.shape))
    places = _inside(index, x.shape[axis])
    return moved(x, lambda a: np.take_along_axis(a, places, axis))


@operator("GatherND")
def _gather_nd(node: Node, x: Array, index: np.ndarray) -> Array:
    if node.get("batch_dims", 0):
        raise Unknown("GatherND with batch axes")
    places = tuple(_inside(index[..., i], x.shape[i]) for i in range(index.shape[-1]))
    return moved(x, lambda a: a[places])


@operator("Squeeze")
def _squeeze(node: Node, x: Array, *operands: Array | None) -> Array:
    axes = setting(node, "axes", operands, 0, 13)
    chosen = None if axes is None else tuple(axes_of(axes, len(x.shape)))
    return moved(x, lambda a: np.squeeze(a, chosen))


@operator("Unsqueeze")
def _unsqueeze(node: Node, x: Array, *operands: Array | None) -> Array:
    axes = setting(node, "axes", operands, 0, 13) or []
    chosen = tuple(axes_of(axes, len(x.shape) + len(axes)))
    return moved(x, lambda a: np.expand_dims(a, chosen))


@operator("Split")
def _split(node: Node, x: Array, *operands: Array | None) -> tuple[Array, ...]:
    """Equal parts, where no sizes are given; the last one smaller from opset 18 on."""
    (axis,) = axes_of([node.get("axis", 0)], len(x.shape))
    sizes, size, count = setting(node, "split", operands, 0, 13), x.shape[axis], len(node.outputs)
    if sizes is None:
        part = -(-size // count)
        if size % count and node.opset < 18:
            raise Unknown("Split into parts that are not equal")
        sizes = [min(part, size - part * i) for i in range(count)]
    if sum(sizes) != size or len(sizes) != count:
        raise Unknown("Split into sizes that do not fit")
    ends = np.cumsum(sizes)
    return tuple(
        moved(x, lambda a, e=e, n=n: np.take(a, np.arange(e - n, e), axis)) for e, n in zip(ends, sizes, strict=True)
    )


@operator("Expand")
def _expand(node: Node, x: Array, shape: Array) -> Array:
    target = np.empty(_sized(integers(shape, "a shape")), bool)
    return broadcast(x, target)[0]


@operator("Tile")
def _tile(node: Node, x: Array, repeats: Array) -> Array:
    counts = integers(repeats, "repeats")
    _sized([n * k for n, k in zip(x.shape, counts, strict=True)])
    return moved(x, lambda a: np.tile(a, counts))


@operator("Pad")
def _pad(node: Node, x: Array, *operands: Array | None) -> Array:
    """Before opset 11 pads and value are attributes. Negative pads cut."""
    pads = setting(node, "pads", operands, 0, 11)
    rank, mode = len(x.shape), node.get("mode", "constant")
    axes = setting(node, "axes", operands, 2, 18) if node.opset >= 18 else None
    chosen = axes_of(axes, rank) if axes is not None else list(range(rank))
    if pads is None or mode not in ("constant", "edge", "reflect") or len(pads) != 2 * len(chosen):
        raise Unknown(f"Pad of mode {mode}")
    value: Any = operands[1] if node.opset >= 11 and len(operands) > 1 else None
    filled = Fraction(node.get("value", 0)) if node.opset < 11 else Fraction(0)
    if value is not None:
        (filled, high), *more = real(value).fractions()
        if more or filled != high:
            raise Unknown("Pad with other than one exact number")
    widths = [(0, 0)] * rank
    for k, axis in enumerate(chosen):
        widths[axis] = pads[k], pads[k + len(chosen)]

    if mode == "constant":
        result = moved(x, lambda a: padded(a, widths))
        if not filled:
            return result
        outside = ~padded(np.ones(x.shape, bool), widths)
        added = of_fractions([filled if out else Fraction(0) for out in outside.ravel().tolist()], outside.shape)
        return add(real(result), added)
    if any(b < 0 or e < 0 for b, e in widths):
        raise Unknown(f"Pad of mode {mode} that cuts")
    places = [np.pad(np.arange(n), pair, mode=mode) for n, pair in zip(x.shape, widths, strict=True)]
    return moved(x, lambda a: a[np.ix_(*places)])


@operator("DepthToSpace")
def _depth_to_space(node: Node, x: Array) -> Array:
    n, c, h, w = x.shape
    b = node.get("blocksize")
    if node.get("mode", "DCR") == "DCR":
        shape, order = (n, b, b, c // b**2, h, w), (0, 3, 4, 1, 5, 2)
    else:
        shape, order = (n, c // b**2, b, b, h, w), (0, 1, 4, 2, 5, 3)
    return moved(x, lambda a: a.reshape(shape).transpose(order).reshape(n, c // b**2, h * b, w * b))


@operator("SpaceToDepth")
def _space_to_depth(node: Node, x: Array) -> Array:
    n, c, h, w = x.shape
    b = node.get("blocksize")
    split = (n, c, h // b, b, w // b, b)
    return moved(x, lambda a: a.reshape(split).transpose(0, 3, 5, 1, 2, 4).reshape(n, c * b * b, h // b, w // b))


@operator("Upsample")
def _upsample(node: Node, x: Array, scales: Array | None = None) -> Array:
    """To the nearest, by whole factors. Before opset 9 the factors are an attribute."""
    factors = real(scales).fractions() if scales is not None else [(s, s) for s in node.get("scales", [])]
    whole = [int(s) for s, _ in factors]
    if node.get("mode", "nearest") != "nearest" or any(s != k for (s, _), k in zip(factors, whole, strict=True)):
        raise Unknown("Upsample other than to the nearest by whole factors")
    result = x
    for axis, k in enumerate(whole):
        result = moved(result, lambda a, k=k, axis=axis: np.repeat(a, k, axis))
    return result
