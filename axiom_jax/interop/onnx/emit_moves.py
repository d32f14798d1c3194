"""ONNX nodes for primitives that move elements: shapes, slices, padding, gathering, scattering."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from axiom_jax._program import Equation
from axiom_jax._shapes_text import is_number
from axiom_jax.interop.onnx.emit import ONNX
from axiom_jax.interop.onnx.graph import NotInOnnx, Sheet, Value, same_shape

Bounds = tuple[Any, Any, int]  # start, end, step; numbers, symbolic sizes or values of one int64

# Shapes


@ONNX.rule("broadcast_in_dim")
def _broadcast(sheet: Sheet, eqn: Equation, x: Value, *_: Value) -> Value:
    shape, axes = eqn.output.shape, eqn.params["broadcast_dimensions"]
    if x.rank == len(shape) and same_shape(x.shape, shape):
        return x
    thin = tuple(x.shape[axes.index(d)] if d in axes else 1 for d in range(len(shape)))
    if not x.ordered or len(x.stored) not in (0, x.rank):
        x = sheet.plain(x)
    if x.stored == ():
        return replace(x, shape=shape, stored=(), order=tuple(range(len(shape))))
    stored = tuple(x.stored[axes.index(d)] if d in axes else 1 for d in range(len(shape)))
    first = next((d for d, n in enumerate(thin) if not (is_number(n) and n == 1)), len(shape))
    if (
        x.plain
        and tuple(axes[-(len(shape) - first) :] if first < len(shape) else ()) == tuple(range(first, len(shape)))
        and same_shape(x.shape[x.rank - (len(shape) - first) :], thin[first:])
        and x.rank == len(shape) - first
    ):
        return replace(x, shape=shape, order=tuple(range(len(shape))))  # numpy's broadcasting does it
    if x.constant is not None:
        y = sheet.constant(x.constant.reshape(stored), x.hint)
    else:
        y = _unsqueezed(sheet, x, stored, [d for d in range(len(shape)) if d not in axes])
    return replace(y, shape=shape, stored=stored, order=tuple(range(len(shape))))


def _unsqueezed(sheet: Sheet, x: Value, shape: Sequence[Any], new: Sequence[int]) -> Value:
    if not new:
        return x
    origin = sheet.origin(x)
    if same_shape(origin.shape, shape):
        return origin
    return sheet.same_elements(sheet.value("Unsqueeze", [x, sheet.integers(new, "axes")], shape, x.dtype), x)


@ONNX.rule("reshape")
def _reshape(sheet: Sheet, eqn: Equation, x: Value, *_: Value) -> Value:
    shape = eqn.output.shape
    if all(is_number(n) and n == 1 for n in x.stored):  # one number, broadcast
        one = sheet.reshape(replace(x, shape=x.stored, order=tuple(range(len(x.stored)))), ())
        return replace(one, shape=shape, order=tuple(range(len(shape))))
    return sheet.reshape(x, shape)


@ONNX.rule("squeeze")
def _squeeze(sheet: Sheet, eqn: Equation, x: Value) -> Value:
    x = sheet.plain(x)
    axes = [d % x.rank for d in eqn.params["dimensions"]]
    if not axes:
        return x
    if x.constant is not None or same_shape(sheet.origin(x).shape, eqn.output.shape):
        return sheet.reshape(x, eqn.output.shape)
    return sheet.same_elements(sheet.value("Squeeze", [x, sheet.integers(axes, "axes")], eqn.output.shape, x.dtype), x)


@ONNX.rule("expand_dims")
def _expand_dims(sheet: Sheet, eqn: Equation, x: Value) -> Value:
    return _unsqueezed(sheet, sheet.plain(x), eqn.output.shape, eqn.params["dimensions"])


@ONNX.rule("transpose")
def _transpose(sheet: Sheet, eqn: Equation, x: Value) -> Value:
    x, order = sheet.spread_out(x), eqn.params["permutation"]
    place = {old: new for new, old in enumerate(order)}
    return replace(x, shape=eqn.output.shape, order=tuple(place[axis] for axis in x.order))


@ONNX.rule("tile")
def _tile(sheet: Sheet, eqn: Equation, x: Value) -> Value:
    times = next(value for name, value in eqn.params.items() if name in ("reps", "repeats", "multiples"))
    return sheet.value("Tile", [sheet.plain(x), sheet.shape(times)], eqn.output.shape, x.dtype)


@ONNX.rule("rev")
def _rev(sheet: Sheet, eqn: Equation, x: Value) -> Value:
    far = np.iinfo(np.int64).min
    return slice_axes(sheet, sheet.plain(x), {d: (-1, far, -1) for d in eqn.params["dimensions"]}, x.shape)


@ONNX.rule("iota")
def _iota(sheet: Sheet, eqn: Equation, *_: Value) -> Value:
    shape, axis, dtype = eqn.output.shape, eqn.params["dimension"], eqn.output.dtype
    if is_number(shape[axis]):
        line = sheet.constant(np.arange(shape[axis]).astype(dtype), "iota")
    else:
        size = sheet.value("Squeeze", [sheet.size(shape[axis]), sheet.integers([0], "axes")], (), np.int64)
        bounds = [sheet.constant(np.int64(0)), size, sheet.constant(np.int64(1))]
        line = sheet.cast(sheet.value("Range", bounds, (shape[axis],), np.int64), dtype)
    stored = (shape[axis],) + (1,) * (len(shape) - axis - 1)
    line = line if len(stored) == 1 else sheet.reshape(line, stored)
    return replace(line, shape=shape, stored=stored, order=tuple(range(len(shape))))


@ONNX.rule("dim_as_value")
def _dim(sheet: Sheet, eqn: Equation) -> Value:
    size = sheet.value("Squeeze", [sheet.size(eqn.params["dim"]), sheet.integers([0], "axes")], (), np.int64)
    return sheet.cast(size, eqn.output.dtype)


# Slices and joins


def slice_axes(sheet: Sheet, x: Value, bounds: Mapping[int, Bounds], shape: Sequence[Any] | None = None) -> Value:
    """x[start:end:step] along some axes; `shape` is the result's, where the bounds are values."""
    if shape is None:
        shape = [_length(x.shape[d], *bounds[d]) if d in bounds else n for d, n in enumerate(x.shape)]
    parts = []
    for column, name in ((0, "starts"), (1, "ends")):
        given = [b[column] for b in bounds.values()]
        if all(map(is_number, given)):
            parts.append(sheet.integers(given, name))
        else:
            sizes = [g if isinstance(g, Value) else sheet.size(g) for g in given]
            parts.append(sizes[0] if len(sizes) == 1 else sheet.value("Concat", sizes, (len(sizes),), np.int64, axis=0))
    steps = [b[2] for b in bounds.values()]
    extra = [sheet.integers(steps, "steps")] if any(n != 1 for n in steps) else []
    return sheet.value("Slice", [x, *parts, sheet.integers(bounds, "axes"), *extra], shape, x.dtype)


def _length(size: Any, start: Any, end: Any, step: int) -> Any:
    return end - start if step == 1 else -(-(end - start) // step)


@ONNX.rule("slice")
def _slice(sheet: Sheet, eqn: Equation, x: Value) -> Value:
    p = eqn.params
    steps = p["strides"] or (1,) * x.rank
    bounds = {
        d: (lo, hi, step)
        for d, (lo, hi, step, n) in enumerate(zip(p["start_indices"], p["limit_indices"], steps, x.shape, strict=True))
        if not (same_shape([lo, hi], [0, n]) and step == 1)
    }
    return slice_axes(sheet, sheet.plain(x), bounds, eqn.output.shape) if bounds else x


@ONNX.rule("dynamic_slice")
def _dynamic_slice(sheet: Sheet, eqn: Equation, x: Value, *starts: Value) -> Value:
    return blocks(sheet, sheet.plain(x), starts[: x.rank], eqn.output.shape)


def blocks(sheet: Sheet, x: Value, starts: Sequence[Value], sizes: Sequence[Any]) -> Value:
    """The block of x that begins at some starts, which jax moves so that it stays inside."""
    for d, (start, size) in enumerate(zip(starts, sizes, strict=True)):
        if same_shape([size], [x.shape[d]]):
            continue
        first = _start(sheet, start, size, x.shape[d])
        shape = (*x.shape[:d], size, *x.shape[d + 1 :])
        if isinstance(first, int):
            x = slice_axes(sheet, x, {d: (first, first + size, 1)}, shape)
        else:  # by indices, so that the size is plain to see
            places = sheet.value("Add", [first, line_along(sheet, size, 1, 0, 1)], (size,), np.int64)
            x = sheet.value("Gather", [x, places], shape, x.dtype, axis=d)
    return x


def _start(sheet: Sheet, start: Value, size: Any, limit: Any) -> Any:
    """Where a block of a size begins: a number, or a vector of one."""
    if start.constant is not None and is_number(limit) and is_number(size):
        return int(np.clip(int(start.constant.reshape(())), 0, limit - size))
    one, zero = sheet.reshape(sheet.cast(start, np.int64), (1,)), sheet.integers([0], "size")
    above = sheet.value("Max", [one, zero], (1,), np.int64)
    return sheet.value("Min", [above, sheet.size(limit - size)], (1,), np.int64)


@ONNX.rule("dynamic_update_slice")
def _dynamic_update_slice(sheet: Sheet, eqn: Equation, x: Value, update: Value, *starts: Value) -> Value:
    """Along each axis every place takes the update's entry, where it has one."""
    x, update = sheet.plain(x), sheet.plain(update)
    inside: Value | None = None
    for d, start in enumerate(starts[: x.rank]):
        n, size = x.shape[d], update.shape[d]
        if same_shape([n], [size]):
            continue
        first = _start(sheet, start, size, n)
        first = sheet.integers([first], "start") if isinstance(first, int) else first
        places = sheet.value("Sub", [line_along(sheet, n, 1, 0, 1), first], (n,), np.int64)
        above = sheet.value("Max", [places, sheet.integers([0], "size")], (n,), np.int64)
        near = sheet.value("Min", [above, sheet.size(size - 1)], (n,), np.int64)
        shape = (*update.shape[:d], n, *update.shape[d + 1 :])
        update = sheet.value("Gather", [update, near], shape, x.dtype, axis=d)
        own = sheet.value("Equal", [places, near], (n,), np.bool_)
        own = sheet.reshape(own, [n if axis == d else 1 for axis in range(x.rank)])
        inside = own if inside is None else sheet.value("And", [inside, own], x.shape, np.bool_)
    return update if inside is None else sheet.value("Where", [inside, update, x], x.shape, x.dtype)


@ONNX.rule("concatenate")
def _concatenate(sheet: Sheet, eqn: Equation, *parts: Value) -> Value:
    order = next((p.order for p in parts if not p.ordered), tuple(range(parts[0].rank)))
    laid = [sheet.arranged(sheet.spread_out(p), order) for p in parts]
    if len(laid) == 1:
        return laid[0]
    axis = order.index(eqn.params["dimension"])
    return sheet.value("Concat", laid, eqn.output.shape, eqn.output.dtype, order=order, axis=axis)


@ONNX.rule("stack")
def _stack(sheet: Sheet, eqn: Equation, *parts: Value) -> Value:
    axis = next((value for name, value in eqn.params.items() if name in ("axis", "dimension")), 0)
    thin = [n if d != axis else 1 for d, n in enumerate(eqn.output.shape)]
    apart = [
        _unsqueezed(sheet, sheet.plain(p), thin, [axis]) if p.constant is None else sheet.reshape(p, thin)
        for p in parts
    ]
    return sheet.value("Concat", [sheet.plain(p) for p in apart], eqn.output.shape, eqn.output.dtype, axis=axis)


@ONNX.rule("split")
def _split(sheet: Sheet, eqn: Equation, x: Value) -> list[Value]:
    x, sizes = sheet.plain(x), eqn.params["sizes"]
    if not all(map(is_number, sizes)):
        raise NotInOnnx("pieces of free sizes")
    names = sheet.node("Split", [x, sheet.integers(sizes, "split")], len(sizes), axis=eqn.params["axis"])
    return [sheet.held(name, v.shape, x.dtype) for name, v in zip(names, eqn.outputs, strict=True)]


@ONNX.rule("pad")
def _pad(sheet: Sheet, eqn: Equation, x: Value, fill: Value) -> Value:
    config = eqn.params["padding_config"]
    if not all(is_number(n) for entry in config for n in entry):
        raise NotInOnnx("padding of a free size")
    return replace(padded(sheet, x, fill, [tuple(map(int, entry)) for entry in config]), shape=eqn.output.shape,
                   stored=eqn.output.shape)  # fmt: skip


def padded(sheet: Sheet, x: Value, fill: Value, config: Sequence[Sequence[int]]) -> Value:
    """jax's padding: before, after (negative cuts off), and holes between the elements."""
    x = sheet.plain(x)
    for d, (_, _, holes) in enumerate(config):
        if holes:
            x = _with_holes(sheet, x, fill, d, holes)
    cuts = {d: (max(-lo, 0), n - max(-hi, 0), 1) for d, (n, (lo, hi, _)) in enumerate(zip(x.shape, config, strict=True))
            if lo < 0 or hi < 0}  # fmt: skip
    if cuts:
        x = slice_axes(sheet, x, cuts)
    widths = [max(lo, 0) for lo, _, _ in config] + [max(hi, 0) for _, hi, _ in config]
    if not any(widths):
        return x
    shape = [n + lo + hi for n, lo, hi in zip(x.shape, widths[: x.rank], widths[x.rank :], strict=True)]
    if x.dtype == np.bool_:
        y = sheet.value("Pad", [sheet.cast(x, np.int32), sheet.integers(widths, "pads"), sheet.cast(fill, np.int32)],
                        shape, np.int32)  # fmt: skip
        return sheet.cast(y, np.bool_)
    return sheet.value("Pad", [x, sheet.integers(widths, "pads"), fill], shape, x.dtype)


def _with_holes(sheet: Sheet, x: Value, fill: Value, axis: int, holes: int) -> Value:
    """Each element followed by `holes` fillings; the last ones are cut off."""
    n, (before, after) = x.shape[axis], (x.shape[:axis], x.shape[axis + 1 :])
    apart = sheet.reshape(x, (*before, n, 1, *after))
    wide = padded(sheet, apart, fill, [(0, holes if d == axis + 1 else 0, 0) for d in range(apart.rank)])
    flat = sheet.reshape(wide, (*before, n * (holes + 1), *after))
    return slice_axes(sheet, flat, {axis: (0, n * (holes + 1) - holes, 1)})


def line_along(sheet: Sheet, size: Any, stride: Any, axis: int, rank: int) -> Value:
    """0, stride, 2 stride, … along one axis of a rank."""
    shape = tuple(size if d == axis else 1 for d in range(rank))
    if is_number(size) and is_number(stride):
        return sheet.constant((np.arange(size, dtype=np.int64) * stride).reshape(shape), "places")
    limit = sheet.value("Squeeze", [sheet.size(size), sheet.integers([0], "axes")], (), np.int64)
    line = sheet.value("Range", [sheet.constant(np.int64(0)), limit, sheet.constant(np.int64(1))], (size,), np.int64)
    return sheet.reshape(sheet.value("Mul", [line, sheet.size(stride)], (size,), np.int64), shape)
