"""ONNX nodes for primitives that mix entries: products, convolutions, pooling, reductions, sorting."""

import math
import string
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from axiom_jax._program import Equation
from axiom_jax._shapes_text import is_number
from axiom_jax.interop.onnx.emit import ONNX
from axiom_jax.interop.onnx.graph import NotInOnnx, Sheet, Value, count

# Products


@ONNX.rule("dot_general")
def _dot(sheet: Sheet, eqn: Equation, a: Value, b: Value) -> Value:
    (left, right), (batch_left, batch_right) = eqn.params["dimension_numbers"]
    dtype, shape = eqn.output.dtype, eqn.output.shape
    a, b = sheet.cast(a, dtype), sheet.cast(b, dtype)
    free_left = [d for d in range(a.rank) if d not in left and d not in batch_left]
    free_right = [d for d in range(b.rank) if d not in right and d not in batch_right]
    if len(left) == 1 and not batch_left and b.rank == 2 and free_left:
        return _dense(sheet, a, b, left[0], right[0], shape, dtype)
    if len(left) == 1 and len(free_left) == len(free_right) == 1:
        first = _laid(sheet, a, [*batch_left, *free_left, *left])
        second = _laid(sheet, b, [*batch_right, *right, *free_right])
        return sheet.value("MatMul", [first, second], shape, dtype)
    if not batch_left:  # as matrices
        rows, inner = [a.shape[d] for d in free_left], [a.shape[d] for d in left]
        first = sheet.reshape(_laid(sheet, a, [*free_left, *left]), (*rows, count(inner)))
        second = sheet.reshape(
            _laid(sheet, b, [*right, *free_right]), (count(inner), count(b.shape[d] for d in free_right))
        )
        whole = (*rows, second.shape[-1])
        return sheet.reshape(sheet.value("MatMul", [first, second], whole, dtype), shape)
    return _einsum(sheet, eqn, a, b, free_left, free_right)


def _einsum(sheet: Sheet, eqn: Equation, a: Value, b: Value, free_left: list[int], free_right: list[int]) -> Value:
    (left, right), (batch_left, batch_right) = eqn.params["dimension_numbers"]
    if a.rank + b.rank > 26:
        raise NotInOnnx("more than 26 axes")
    letters = iter(string.ascii_lowercase)
    names_a, names_b = [""] * a.rank, [""] * b.rank
    for i, j in (*zip(batch_left, batch_right, strict=True), *zip(left, right, strict=True)):
        names_a[i] = names_b[j] = next(letters)
    for names in (names_a, names_b):
        names[:] = [name or next(letters) for name in names]
    result = [names_a[d] for d in (*batch_left, *free_left)] + [names_b[d] for d in free_right]
    equation = f"{''.join(names_a)},{''.join(names_b)}->{''.join(result)}"
    return sheet.value(
        "Einsum", [sheet.plain(a), sheet.plain(b)], eqn.output.shape, eqn.output.dtype, equation=equation
    )


def _dense(sheet: Sheet, a: Value, b: Value, left: int, right: int, shape: Any, dtype: Any) -> Value:
    """x @ kernel over the last axis, of any number of leading axes; of a matrix it may become a Gemm."""
    rows = [d for d in range(a.rank) if d != left]
    x = _laid(sheet, a, [*rows, left])
    if right == 1 and a.rank == 2 and b.constant is None and np.dtype(dtype).kind == "f":
        return sheet.value("Gemm", [x, sheet.plain(b)], shape, dtype, transB=1)
    y = sheet.value("MatMul", [x, _laid(sheet, b, [right, 1 - right])], shape, dtype)
    sheet.cache["flat", y.name] = a.rank == 2
    return y


def _laid(sheet: Sheet, value: Value, axes: Sequence[int]) -> Value:
    """The value transposed, as the program would see it."""
    value = sheet.arranged(sheet.spread_out(value), axes)
    return replace(value, shape=value.stored, order=tuple(range(len(axes))))


# Convolutions


@ONNX.rule("conv_general_dilated")
def _conv(sheet: Sheet, eqn: Equation, x: Value, w: Value) -> Value:
    p = eqn.params
    dtype = eqn.output.dtype
    if p["batch_group_count"] != 1:
        raise NotInOnnx("groups of the batch")
    lhs, rhs, out = p["dimension_numbers"]
    strides, dilations, groups = p["window_strides"], p["rhs_dilation"], p["feature_group_count"]
    padding = _numbers(p["padding"])
    x, w = sheet.cast(x, dtype), sheet.cast(w, dtype)
    x, w = _laid(sheet, x, lhs), _laid(sheet, w, rhs)
    shape = [eqn.output.shape[axis] for axis in out]
    spread = p["lhs_dilation"]
    if any(n != 1 for n in spread) and set(strides) == {1}:
        y = _transposed(sheet, x, w, spread, dilations, padding, groups, shape, dtype)
    else:
        x = _with_holes(sheet, x, [(0, 0, 0), (0, 0, 0), *((0, 0, s - 1) for s in spread)], 0)
        x, padding = _cropped(sheet, x, padding)
        y = sheet.value("Conv", [x, w], shape, dtype, strides=strides, dilations=dilations, group=groups,
                        kernel_shape=w.shape[2:], pads=_pads(padding))  # fmt: skip
    order = tuple(out)  # stored axis i holds the program's axis out[i]
    return replace(y, shape=eqn.output.shape, order=order)


def _transposed(sheet: Sheet, x: Value, w: Value, spread: Any, dilations: Any, padding: Any, groups: int, shape: Any,
                dtype: Any) -> Value:  # fmt: skip
    """A convolution of a spread out input: ONNX's transposed convolution with the flipped kernel."""
    if w.constant is None:
        raise NotInOnnx("a transposed convolution with a kernel that is computed")
    o, i, *kernel = w.shape
    flipped = np.flip(w.constant, tuple(range(2, w.rank))).reshape(groups, o // groups, i, *kernel)
    swapped = np.ascontiguousarray(flipped.swapaxes(1, 2).reshape(groups * i, o // groups, *kernel))
    begins, ends, cuts = [], [], []
    for d, k, (lo, hi) in zip(dilations, kernel, padding, strict=True):
        begin, end = d * (k - 1) - lo, d * (k - 1) - hi
        begins.append(max(begin, 0))
        ends.append(max(end, 0))
        cuts.append((max(-begin, 0), max(-end, 0), 0))
    sizes = [n - lo - hi for n, (lo, hi, _) in zip(shape[2:], cuts, strict=True)]
    y = sheet.value("ConvTranspose", [x, sheet.constant(swapped, w.hint)], (*shape[:2], *sizes), dtype, strides=spread,
                    dilations=dilations, group=groups, kernel_shape=kernel, pads=[*begins, *ends])  # fmt: skip
    return _with_holes(sheet, y, [(0, 0, 0), (0, 0, 0), *cuts], 0) if any(map(any, cuts)) else y


def _cropped(sheet: Sheet, x: Value, padding: Any) -> tuple[Value, list[tuple[int, int]]]:
    """The value without what negative padding cuts off, and the padding that is left."""
    from axiom_jax.interop.onnx.emit_moves import slice_axes

    cuts = {d + 2: (max(-lo, 0), max(-hi, 0)) for d, (lo, hi) in enumerate(padding) if lo < 0 or hi < 0}
    if cuts:
        x = slice_axes(sheet, x, {d: (lo, x.shape[d] - hi, 1) for d, (lo, hi) in cuts.items()})
    return x, [(max(lo, 0), max(hi, 0)) for lo, hi in padding]


def _with_holes(sheet: Sheet, x: Value, config: Sequence[tuple[int, int, int]], fill: float) -> Value:
    from axiom_jax.interop.onnx.emit_moves import padded

    return padded(sheet, x, sheet.constant(np.asarray(fill, x.dtype)), config) if any(map(any, config)) else x


def _numbers(padding: Any) -> list[tuple[int, int]]:
    if not all(is_number(n) for pair in padding for n in pair):
        raise NotInOnnx("padding that depends on a free size: give the sizes of one example by input_shape")
    return [(int(lo), int(hi)) for lo, hi in padding]


def _pads(padding: Sequence[tuple[int, int]]) -> list[int] | None:
    flat = [lo for lo, _ in padding] + [hi for _, hi in padding]
    return flat if any(flat) else None


# Windows


@ONNX.rule("reduce_window_max", "reduce_window_min", "reduce_window_sum")
def _windows(sheet: Sheet, eqn: Equation, x: Value) -> Value:
    p, kind = eqn.params, eqn.name.removeprefix("reduce_window_")
    if x.dtype.kind != "f":
        raise NotInOnnx("windows over integers")
    sizes, strides, holes = p["window_dimensions"], p["window_strides"], p.get("window_dilation") or (1,) * x.rank
    padding, base = _numbers(p["padding"]), p.get("base_dilation") or (1,) * x.rank
    start = {"max": -np.inf, "min": np.inf, "sum": 0}[kind]
    x = _with_holes(sheet, x, [(0, 0, n - 1) for n in base], start)
    moved = [d for d in range(x.rank) if (sizes[d], strides[d], padding[d]) != (1, 1, (0, 0))]
    moved = moved or [x.rank - 1]
    rest = [d for d in range(x.rank) if d not in moved]
    if len(moved) > 3:
        raise NotInOnnx("windows over more than three axes")
    if kind == "min":
        x = _mapped(sheet, "Neg", x)
    # An average that counts its padding is a sum; a maximum never takes its padding.
    order = (*rest, *moved)
    y, lead = _laid(sheet, x, order), [x.shape[d] for d in rest]
    if len(rest) != 2:
        lead = [1] * (2 - len(rest)) + lead if len(rest) < 2 else [count(lead[:-1]), lead[-1]]
        y = sheet.reshape(y, (*lead, *(x.shape[d] for d in moved)))
    pads = [padding[d] for d in moved]
    if any(n < 0 for pair in pads for n in pair) or any(
        lo >= reach or hi >= reach
        for (lo, hi), reach in zip(pads, [(sizes[d] - 1) * holes[d] + 1 for d in moved], strict=True)
    ):
        y = _with_holes(
            sheet, y, [(0, 0, 0), (0, 0, 0), *((lo, hi, 0) for lo, hi in pads)], -np.inf if kind != "sum" else 0
        )
        pads = [(0, 0)] * len(moved)
    kernel = [sizes[d] for d in moved]
    gaps = [holes[d] for d in moved]
    attributes: dict[str, Any] = {
        "kernel_shape": kernel, "strides": [strides[d] for d in moved], "pads": _pads(pads),
        "dilations": gaps if any(n != 1 for n in gaps) else None,
    }  # fmt: skip
    ends = [eqn.output.shape[d] for d in moved]
    if kind == "sum":
        if attributes["dilations"] and sheet.opset < 19:
            raise NotInOnnx("sums over windows with gaps need opset 19")
        y = sheet.value("AveragePool", [y], (*lead, *ends), x.dtype, count_include_pad=1, **attributes)
        y = sheet.value("Mul", [y, sheet.constant(np.asarray(math.prod(kernel), x.dtype))], y.shape, x.dtype)
        sheet.cache["window", y.name] = float(math.prod(kernel))
    else:
        y = sheet.value("MaxPool", [y], (*lead, *ends), x.dtype, **attributes)
    full = [eqn.output.shape[d] for d in order]
    y = replace(sheet.reshape(y, full), shape=eqn.output.shape, stored=tuple(full), order=order)
    return _mapped(sheet, "Neg", y) if kind == "min" else y


def _mapped(sheet: Sheet, op: str, x: Value) -> Value:
    (name,) = sheet.node(op, [x])
    return replace(x, name=name, constant=None)


# Reductions


def _reduction(sheet: Sheet, op: str, x: Value, axes: Iterable[int], shape: Any, dtype: Any) -> Value:
    """A reduction; of a value in another order of axes the same axes, as they are stored."""
    x = sheet.spread_out(x)
    chosen = [x.order.index(axis) for axis in axes]
    left = [axis for axis in x.order if axis not in set(axes)]
    ranks = sorted(left)
    order = tuple(ranks.index(axis) for axis in left)
    if not chosen:
        return x
    sizes = [x.stored[d] for d in chosen]
    by_input = sheet.opset >= 18 or op == "ReduceSum"
    inputs = [x, sheet.integers(chosen, "axes")] if by_input else [x]
    y = sheet.value(op, inputs, shape, dtype, order=order, keepdims=0, axes=None if by_input else chosen)
    if all(map(is_number, sizes)) and y.dtype.kind == "f":
        sheet.cache["reduced", y.name] = float(math.prod(sizes))
    return y


for _primitive, _op in {"reduce_sum": "ReduceSum", "reduce_prod": "ReduceProd"}.items():

    def _reduce(sheet: Sheet, eqn: Equation, x: Value, op: str = _op) -> Value:
        return _reduction(sheet, op, x, eqn.params["axes"], eqn.output.shape, eqn.output.dtype)

    ONNX.define(_primitive, _reduce)


@ONNX.rule("reduce_max", "reduce_min", "reduce_and", "reduce_or")
def _reduce_extreme(sheet: Sheet, eqn: Equation, x: Value) -> Value:
    op = "ReduceMax" if eqn.name in ("reduce_max", "reduce_or") else "ReduceMin"
    if x.dtype != np.bool_ and eqn.name in ("reduce_and", "reduce_or"):
        raise NotInOnnx("bitwise reductions")
    if x.dtype == np.bool_:  # few runtimes reduce truth values
        y = _reduction(sheet, op, sheet.cast(x, np.int32), eqn.params["axes"], eqn.output.shape, np.int32)
        return sheet.cast(y, np.bool_)
    return _reduction(sheet, op, x, eqn.params["axes"], eqn.output.shape, eqn.output.dtype)


@ONNX.rule("argmax", "argmin")
def _arg(sheet: Sheet, eqn: Equation, x: Value) -> Value:
    (axis,) = eqn.params["axes"]
    x = sheet.plain(sheet.cast(x, np.int32) if x.dtype == np.bool_ else x)
    y = sheet.value("ArgMax" if eqn.name == "argmax" else "ArgMin", [x], eqn.output.shape, np.int64, axis=axis,
                    keepdims=0)  # fmt: skip
    return sheet.cast(y, eqn.params["index_dtype"])


# Scans along an axis


@ONNX.rule("cumsum")
def _cumsum(sheet: Sheet, eqn: Equation, x: Value) -> Value:
    axis = sheet.constant(np.asarray(eqn.params["axis"], np.int64), "axis")
    return sheet.value("CumSum", [sheet.plain(x), axis], eqn.output.shape, eqn.output.dtype,
                       reverse=int(eqn.params["reverse"]) or None)  # fmt: skip


@ONNX.rule("cumprod", "cummax", "cummin", "cumlogsumexp")
def _cumulative(sheet: Sheet, eqn: Equation, x: Value) -> Value:
    """By doubling: after step k every entry has combined 2^k entries (Hillis and Steele 1986)."""
    from axiom_jax.interop.onnx.emit_moves import padded, slice_axes

    axis, size = eqn.params["axis"], eqn.output.shape[eqn.params["axis"]]
    if not is_number(size):
        raise NotInOnnx("a free size along the axis")
    info = np.finfo(x.dtype) if x.dtype.kind == "f" else np.iinfo(x.dtype)
    low, high = (-np.inf, np.inf) if x.dtype.kind == "f" else (info.min, info.max)
    op, start = {"cumprod": ("Mul", 1), "cummax": ("Max", low), "cummin": ("Min", high),
                 "cumlogsumexp": ("LogSumExp", low)}[eqn.name]  # fmt: skip
    fill, y, step = sheet.constant(np.asarray(start, x.dtype)), sheet.plain(x), 1
    while step < size:
        shift = (0, step, 0) if eqn.params["reverse"] else (step, 0, 0)
        wide = padded(sheet, y, fill, [shift if d == axis else (0, 0, 0) for d in range(x.rank)])
        window = (step, size + step, 1) if eqn.params["reverse"] else (0, size, 1)
        other = slice_axes(sheet, wide, {axis: window})
        y = _log_add(sheet, y, other) if op == "LogSumExp" else sheet.value(op, [y, other], y.shape, x.dtype)
        step *= 2
    return y


def _log_add(sheet: Sheet, a: Value, b: Value) -> Value:
    """log(eᵃ + eᵇ), each entry less the larger of the two, which is kept finite."""
    shape, dtype, info = a.shape, a.dtype, np.finfo(a.dtype)
    top = sheet.value("Max", [a, b], shape, dtype)
    for op, bound in (("Max", info.min), ("Min", info.max)):
        top = sheet.value(op, [top, sheet.constant(np.asarray(bound, dtype))], shape, dtype)
    powers = [sheet.value("Exp", [sheet.value("Sub", [v, top], shape, dtype)], shape, dtype) for v in (a, b)]
    return sheet.value("Add", [sheet.value("Log", [sheet.value("Add", powers, shape, dtype)], shape, dtype), top],
                       shape, dtype)  # fmt: skip


# Sorting


@ONNX.rule("top_k")
def _top_k(sheet: Sheet, eqn: Equation, x: Value) -> list[Value]:
    axis = eqn.params.get("axis", x.rank - 1)
    k = sheet.integers([eqn.params["k"]], "k")
    values, places = sheet.node("TopK", [sheet.plain(x), k], outputs=2, axis=axis)
    first, second = eqn.outputs
    return [sheet.held(values, first.shape, first.dtype),
            sheet.cast(sheet.held(places, second.shape, np.int64), second.dtype)]  # fmt: skip


@ONNX.rule("sort")
def _sort(sheet: Sheet, eqn: Equation, *operands: Value) -> list[Value]:
    axis = eqn.params["dimension"]
    if eqn.params["num_keys"] == 1 and len(operands) == 2 and _counts(operands[1], axis):  # that is an argsort
        x = sheet.plain(operands[0])
        if x.dtype != np.bool_:
            names = sheet.node("TopK", [x, sheet.size(x.shape[axis])], outputs=2, axis=axis, largest=0)
            places = sheet.held(names[1], x.shape, np.int64)
            return [sheet.held(names[0], x.shape, x.dtype), sheet.cast(places, operands[1].dtype)]
    results = [sheet.plain(x) for x in operands]
    k = sheet.size(results[0].shape[axis])
    for key in reversed(range(eqn.params["num_keys"])):  # stable sorts, the last key first
        if results[key].dtype == np.bool_:
            raise NotInOnnx("sorting truth values")
        names = sheet.node("TopK", [results[key], k], outputs=2, axis=axis, largest=0)
        for i, x in enumerate(results):
            results[i] = (
                sheet.held(names[0], x.shape, x.dtype)
                if i == key
                else sheet.value("GatherElements", [x, names[1]], x.shape, x.dtype, axis=axis)
            )
    return results


def _counts(x: Value, axis: int) -> bool:
    """Whether a value is known to be 0, 1, 2, … along an axis."""
    if x.constant is None or not x.ordered or not is_number(x.shape[axis]):
        return False
    place = axis - (x.rank - len(x.stored))
    if place < 0 or x.stored[place] != x.shape[axis]:
        return False
    line = np.arange(x.shape[axis]).reshape([-1 if d == place else 1 for d in range(len(x.stored))])
    return bool(np.all(x.constant == line))
