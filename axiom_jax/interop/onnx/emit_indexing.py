"""ONNX nodes for gathering and scattering, which jax describes by windows at computed places."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from axiom_jax._program import Equation
from axiom_jax._shapes_text import is_number
from axiom_jax.interop.onnx.emit import ONNX
from axiom_jax.interop.onnx.emit_moves import blocks, line_along, slice_axes
from axiom_jax.interop.onnx.graph import NotInOnnx, Sheet, Value, count, same_shape


@ONNX.rule("gather")
def _gather(sheet: Sheet, eqn: Equation, x: Value, where: Value) -> Value:
    p = eqn.params
    numbers, mode = p["dimension_numbers"], p["mode"].name
    if where.rank == 1 and (block := _block(sheet, x, where, numbers, p["slice_sizes"], mode)) is not None:
        return sheet.reshape(block, eqn.output.shape)
    found = _along_one_axis(x, where, numbers, p["slice_sizes"], eqn.output.shape)
    if found is not None:
        axis, _ = found
        index = sheet.reshape(where, where.shape[:-1])
        inside, outside = _inside(sheet, index, [x.shape[axis]], [1], mode)
        y = sheet.value("Gather", [sheet.plain(x), inside], (*x.shape[:axis], *index.shape, *x.shape[axis + 1 :]),
                        x.dtype, axis=axis)  # fmt: skip
        if outside is not None:
            hidden = sheet.reshape(outside, (*index.shape, *(1,) * (x.rank - axis - 1)))
            y = sheet.value("Where", [hidden, _fill(sheet, p, x.dtype), y], y.shape, x.dtype)
        return y
    place, outside = _places(sheet, x, where, numbers, p["slice_sizes"], mode)
    flat = sheet.reshape(x, (count(x.shape),))
    y = sheet.value("Gather", [flat, place], place.shape, x.dtype, axis=0)
    if outside is not None:
        y = sheet.value("Where", [outside, _fill(sheet, p, x.dtype), y], y.shape, x.dtype)
    return _batch_and_window(sheet, y, numbers, p["slice_sizes"], where.rank - 1, eqn.output.shape)


def _block(sheet: Sheet, x: Value, where: Value, numbers: Any, sizes: Any, mode: str) -> Value | None:
    """A gather of one window: a slice, if it is known to be inside."""
    starts = [sheet.constant(np.zeros((), np.int64))] * x.rank
    for i, d in enumerate(numbers.start_index_map):
        size, limit = sizes[d], x.shape[d]
        if where.constant is not None:
            start = int(where.constant.reshape(-1)[i if where.constant.size > 1 else 0])
            inside = is_number(limit) and is_number(size) and 0 <= start <= limit - size
            # no size is less than 1, so the first entry is there
            if not inside and not (start == 0 and (same_shape([size], [limit]) or same_shape([size], [1]))):
                return None
            starts[d] = sheet.constant(np.int64(start))
        elif mode in ("CLIP", "PROMISE_IN_BOUNDS"):
            single = len(numbers.start_index_map) == 1
            starts[d] = sheet.reshape(
                where if single else slice_axes(sheet, sheet.plain(where), {0: (i, i + 1, 1)}), ()
            )
        else:
            return None
    return blocks(sheet, sheet.plain(x), starts, sizes)


def _along_one_axis(x: Value, where: Value, numbers: Any, sizes: Any, shape: Any) -> tuple[int, int] | None:
    """The axis along which whole rows are taken, if it is that kind of gather and the result is in ONNX's order."""
    if numbers.operand_batching_dims or len(numbers.start_index_map) != 1:
        return None
    (axis,) = numbers.start_index_map
    whole = all(same_shape([s], [n]) for d, (s, n) in enumerate(zip(sizes, x.shape, strict=True)) if d != axis)
    count = where.rank - 1
    offsets = (*range(axis), *range(axis + count, len(shape)))
    taken = tuple(numbers.collapsed_slice_dims) == (axis,) and sizes[axis] == 1
    return (axis, count) if whole and taken and tuple(numbers.offset_dims) == offsets else None


def _fill(sheet: Sheet, params: Any, dtype: Any) -> Value:
    value, kind = params.get("fill_value"), np.dtype(dtype).kind
    if value is None:  # jax's default: NaN, the smallest signed or the largest unsigned number
        value = np.nan if kind not in "iub" else False if kind == "b" else (
            np.iinfo(dtype).min if kind == "i" else np.iinfo(dtype).max)  # fmt: skip
    return sheet.constant(np.asarray(value, dtype), "fill")


def _inside(
    sheet: Sheet, index: Value, limits: Sequence[Any], sizes: Sequence[Any], mode: str
) -> tuple[Value, Value | None]:
    """Starts moved inside of their axis, and which rows were outside; None if none was or jax moves them itself.

    `index` holds a start for each of `limits` on its last axis, or is one start an entry if there is one limit.
    """
    single = len(limits) == 1
    tops = [n - s for n, s in zip(limits, sizes, strict=True)]
    if mode == "PROMISE_IN_BOUNDS":
        return sheet.plain(index), None
    if index.constant is not None and all(map(is_number, tops)):
        index = sheet.plain(index)
        assert index.constant is not None
        low, high = np.zeros((), index.dtype), np.asarray(tops[0] if single else tops, index.dtype)
        moved = np.clip(index.constant, low, high)
        wrong = moved != index.constant
        if mode == "CLIP" or not wrong.any():
            return sheet.constant(moved, index.hint), None
        rows = sheet.constant(wrong if single else wrong.any(-1), "outside")
        return sheet.constant(moved, index.hint), rows
    index = sheet.plain(index)
    if all(map(is_number, tops)):
        high = sheet.constant(np.asarray(tops[0] if single else tops, index.dtype), "last")
    else:
        parts = [sheet.cast(sheet.size(n), index.dtype) for n in tops]
        high = parts[0] if single else sheet.value("Concat", parts, (len(parts),), index.dtype, axis=0)
    zero = sheet.constant(np.zeros((), index.dtype), "zero")
    moved = sheet.value(
        "Min", [sheet.value("Max", [index, zero], index.shape, index.dtype), high], index.shape, index.dtype
    )
    if mode == "CLIP":
        return moved, None
    wrong = sheet.value("Not", [sheet.value("Equal", [moved, index], index.shape, np.bool_)], index.shape, np.bool_)
    if single:
        return moved, wrong
    some = (
        [sheet.cast(wrong, np.int32), sheet.integers([-1], "axes")]
        if sheet.opset >= 18
        else [sheet.cast(wrong, np.int32)]
    )
    any_wrong = sheet.value("ReduceMax", some, index.shape[:-1], np.int32, keepdims=0,
                            axes=None if sheet.opset >= 18 else [-1])  # fmt: skip
    return moved, sheet.cast(any_wrong, np.bool_)


def _places(
    sheet: Sheet, x: Value, where: Value, numbers: Any, sizes: Sequence[Any], mode: str
) -> tuple[Value, Value | None]:
    """For each index row and each cell of its window the place in x flattened: int64 [*rows, *window].

    Also which of them are outside. The window has an axis for every axis of x that is not a batching axis.
    """
    axes = list(numbers.start_index_map)
    rows, batching = where.shape[:-1], list(numbers.operand_batching_dims)
    if not all(map(is_number, sizes)) and any(
        not is_number(s) and not same_shape([s], [n]) for s, n in zip(sizes, x.shape, strict=True)
    ):
        raise NotInOnnx("windows of a free size")
    strides = [count(x.shape[d + 1 :]) for d in range(x.rank)]
    window = [d for d in range(x.rank) if d not in batching]
    rank = len(rows) + len(window)
    outside = None
    parts: list[Value] = []
    if axes:
        index = where if len(axes) > 1 else sheet.reshape(where, rows)
        index, outside = _inside(
            sheet, sheet.cast(index, np.int64), [x.shape[d] for d in axes], [sizes[d] for d in axes], mode
        )
        scale = [strides[d] for d in axes]
        weights = sheet.integers(scale, "strides") if all(map(is_number, scale)) else sheet.value(
            "Concat", [sheet.size(n) for n in scale], (len(scale),), np.int64, axis=0)  # fmt: skip
        scaled = sheet.value("Mul", [index, weights], index.shape, np.int64)
        if len(axes) > 1:
            scaled = sheet.value("ReduceSum", [scaled, sheet.integers([-1], "axes")], rows, np.int64, keepdims=0)
        parts.append(sheet.reshape(scaled, (*rows, *(1,) * len(window))))
    for d, axis in zip(batching, numbers.start_indices_batching_dims, strict=True):
        parts.append(line_along(sheet, x.shape[d], strides[d], axis, rank))
    for i, d in enumerate(window):
        if not (is_number(sizes[d]) and sizes[d] == 1):
            parts.append(line_along(sheet, sizes[d], strides[d], len(rows) + i, rank))
    shape = (*rows, *(sizes[d] for d in window))
    total = parts[0] if parts else sheet.constant(np.zeros((1,) * rank, np.int64))
    for part in parts[1:]:
        total = sheet.value("Add", [total, part], shape, np.int64)
    whole = sheet.value("Expand", [total, sheet.shape(shape)], shape, np.int64)
    if outside is not None:
        outside = sheet.reshape(outside, (*rows, *(1,) * len(window)))
    return whole, outside


def _batch_and_window(
    sheet: Sheet, y: Value, numbers: Any, sizes: Sequence[Any], rows: int, shape: Sequence[Any]
) -> Value:
    """What was gathered as [*rows, *window] in the order and shape of the result."""
    hidden = {*numbers.collapsed_slice_dims}
    window = [d for d in range(len(sizes)) if d not in numbers.operand_batching_dims]
    kept = [i for i, d in enumerate(window) if d not in hidden]
    offsets = list(numbers.offset_dims)
    batch = [d for d in range(len(shape)) if d not in offsets]
    y = sheet.reshape(y, [*y.shape[:rows], *(y.shape[rows + i] for i in kept)])
    order = [0] * len(shape)
    for source, target in enumerate([*batch, *offsets]):
        order[source] = target
    return replace(y, shape=tuple(shape), order=tuple(order))


_REDUCTIONS = {"scatter": (None, 13), "scatter-add": ("add", 16), "scatter-mul": ("mul", 16),
               "scatter-min": ("min", 18),
               "scatter-max": ("max", 18)}  # fmt: skip


@ONNX.rule(*(name.replace("-", "_") for name in _REDUCTIONS if name != "scatter"), *_REDUCTIONS)
def _scatter(sheet: Sheet, eqn: Equation, x: Value, where: Value, updates: Value) -> Value:
    """Into x flattened and one cell longer; that cell takes what jax drops because it is outside."""
    kind, opset = _REDUCTIONS[eqn.name.replace("_", "-")]
    if sheet.opset < opset:
        raise NotInOnnx(f"this kind of scatter needs opset {opset}")
    numbers, mode = eqn.params["dimension_numbers"], eqn.params["mode"].name
    window_axes = list(numbers.update_window_dims)
    window = [d for d in range(x.rank) if d not in numbers.operand_batching_dims]
    hidden = set(numbers.inserted_window_dims)
    sizes: list[Any] = [1] * x.rank
    for axis, d in zip(window_axes, [d for d in window if d not in hidden], strict=True):
        sizes[d] = updates.shape[axis]
    rows = [d for d in range(updates.rank) if d not in window_axes]
    laid = sheet.arranged(sheet.spread_out(updates), [*rows, *window_axes])
    laid = replace(laid, shape=laid.stored, order=tuple(range(laid.rank)))
    like = _Gathering(numbers.scatter_dims_to_operand_dims, numbers.operand_batching_dims,
                      numbers.scatter_indices_batching_dims)  # fmt: skip
    place, outside = _places(sheet, x, where, like, sizes, mode)
    size, total = count(x.shape), count(place.shape)
    flat = sheet.reshape(x, (size,))
    if outside is not None:
        place = sheet.value("Where", [outside, sheet.size(size), place], place.shape, np.int64)
        flat = sheet.value(
            "Concat", [flat, sheet.constant(np.zeros(1, x.dtype), "dropped")], (size + 1,), x.dtype, axis=0
        )
    inputs = [flat, sheet.reshape(place, (total,)), sheet.reshape(laid, (total,))]
    y = sheet.value("ScatterElements", inputs, flat.shape, x.dtype, axis=0, reduction=kind)
    if outside is not None:
        y = slice_axes(sheet, y, {0: (0, size, 1)})
    return sheet.reshape(y, x.shape)


class _Gathering:
    """The numbers of a scatter under the names that a gather has for them."""

    def __init__(self, start_index_map: Any, operand_batching_dims: Any, start_indices_batching_dims: Any):
        self.start_index_map = start_index_map
        self.operand_batching_dims = operand_batching_dims
        self.start_indices_batching_dims = start_indices_batching_dims
