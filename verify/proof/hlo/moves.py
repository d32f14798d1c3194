"""Operations of HLO that move elements: exact, so that they are carried out on arrays of expressions."""

import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from axiom_jax.verification.proof.hlo.symbols import Symbols
from axiom_jax.verification.proof.hlo.text import Instruction, Unread

WINDOW = {"size", "stride", "pad", "lhs_dilate", "rhs_dilate", "rhs_reversal"}


def bitcast(e: Instruction, source: Instruction, x: Symbols) -> Symbols:
    """The same bytes in another shape or layout."""
    if e.dtype != source.dtype:
        raise Unread("bitcast between types")
    inner, outer = tuple(reversed(source.layout)), tuple(reversed(e.layout))  # major to minor

    def move(a: np.ndarray) -> np.ndarray:
        bytes_ = np.transpose(a, inner).reshape([e.shape[d] for d in outer])
        return np.transpose(bytes_, np.argsort(outer)) if outer else bytes_.reshape(())

    return x.moved(move)


def broadcast(e: Instruction, x: Symbols) -> Symbols:
    dimensions = e.numbers("dimensions")
    order = np.argsort(dimensions)
    sizes = [1] * len(e.shape)
    for d, n in zip(dimensions, x.ids.shape, strict=True):
        sizes[d] = n
    return x.moved(lambda a: np.broadcast_to(np.transpose(a, order).reshape(sizes), e.shape))


def sliced(e: Instruction, x: Symbols) -> Symbols:
    parts = [[int(n) for n in part.split(":")] for part in re.findall(r"\[([\d:]+)\]", e.attributes["slice"])]
    return x.moved(lambda a: a[tuple(slice(*part) for part in parts)])


def concatenated(e: Instruction, several: Sequence[Symbols]) -> Symbols:
    (axis,) = e.numbers("dimensions")
    known = None
    if all(x.known is not None for x in several):
        known = np.concatenate([np.asarray(x.known) for x in several], axis)
    join = lambda arrays: np.concatenate(arrays, axis)
    return Symbols(join([x.ids for x in several]), known, join([x.products() for x in several]))


def padded(e: Instruction, x: Symbols, value: Symbols) -> Symbols:
    """Padding at the ends and between elements; negative ends cut off."""
    ends = [[int(n) for n in part.split("_")] for part in e.attributes["padding"].split("x")]
    return _joined(x, value, lambda a, v: _pad(a, v, [(*p, 0)[:3] for p in ends]))


def _pad(a: np.ndarray, value: Any, ends: Sequence[Sequence[int]]) -> np.ndarray:
    for axis, (low, high, between) in enumerate(ends):
        n = a.shape[axis]
        sizes = list(a.shape)
        sizes[axis] = n + max(n - 1, 0) * between
        spread = np.full(sizes, value, a.dtype)
        spread[(slice(None),) * axis + (slice(None, None, between + 1),)] = a
        widths = [(0, 0)] * a.ndim
        widths[axis] = (max(low, 0), max(high, 0))
        spread = np.pad(spread, widths, constant_values=value)
        cut = slice(max(-low, 0), spread.shape[axis] - max(-high, 0))
        a = spread[(slice(None),) * axis + (cut,)]
    return a


def _joined(x: Symbols, value: Symbols, move: Any) -> Symbols:
    known = None
    if x.known is not None and value.known is not None:
        known = move(x.known, value.known)
    return Symbols(move(x.ids, value.ids), known, move(x.products(), value.products()))


def gathered(e: Instruction, x: Symbols, index: Symbols) -> Symbols:
    """Slices at places that are constants of the program; places outside are moved in."""
    if index.known is None:
        raise Unread("gather at places that depend on the input")
    if e.numbers("operand_batching_dims"):
        raise Unread("gather with batching dimensions")
    where, axis = np.asarray(index.known).astype(np.int64), e.numbers("index_vector_dim")[0]
    where = where[..., None] if axis == where.ndim else np.moveaxis(where, axis, -1)
    sizes, starts = e.numbers("slice_sizes"), e.numbers("start_index_map")
    collapsed, offset = e.numbers("collapsed_slice_dims"), e.numbers("offset_dims")
    batch = where.shape[:-1]
    kept = [d for d in range(x.ids.ndim) if d not in collapsed]
    places = []
    for d, n in enumerate(x.ids.shape):
        first = np.zeros(batch, np.int64)
        if d in starts:
            first = np.clip(where[..., starts.index(d)], 0, n - sizes[d])
        shape = [1] * len(kept)
        if d in kept:
            shape[kept.index(d)] = sizes[d]
        places.append(first.reshape(*batch, *[1] * len(kept)) + np.arange(sizes[d]).reshape(shape or ()))
    rest = [d for d in range(len(e.shape)) if d not in offset]
    order = np.argsort([*rest, *offset]) if e.shape else ()
    return x.moved(lambda a: np.transpose(a[tuple(np.broadcast_arrays(*places))], order))


def dynamic_slice(e: Instruction, x: Symbols, places: Sequence[Symbols]) -> Symbols:
    first = _starts(places, x.ids.shape, e.shape)
    return x.moved(lambda a: a[tuple(slice(p, p + n) for p, n in zip(first, e.shape, strict=True))])


def updated(e: Instruction, x: Symbols, part: Symbols, places: Sequence[Symbols]) -> Symbols:
    """An array with a part of it replaced, at a place that is a constant of the program."""
    first = _starts(places, x.ids.shape, part.ids.shape)
    inside = tuple(slice(p, p + n) for p, n in zip(first, part.ids.shape, strict=True))

    def move(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        a = np.array(a)
        a[inside] = b
        return a

    return _joined(x, part, move)


def _starts(places: Sequence[Symbols], sizes: Sequence[int], taken: Sequence[int]) -> list[int]:
    if any(p.known is None for p in places):
        raise Unread("slices at places that depend on the input")
    starts = [int(np.asarray(p.known)) for p in places]
    return [min(max(p, 0), n - m) for p, n, m in zip(starts, sizes, taken, strict=True)]


def windows(e: Instruction, a: np.ndarray, axes: Sequence[int], value: Any) -> tuple[np.ndarray, list[int]]:
    """What each window of an array sees: the window's dimensions last. And the axes along which it is turned round.

    Args:
        axes: of the array, that the window's dimensions lie along. value: beyond the array's ends.
    """
    window = dict(part.split("=") for part in e.attributes.get("window", "{}").strip("{}").split())
    if unknown := window.keys() - WINDOW:
        raise Unread(f"windows with {', '.join(sorted(unknown))}")
    of = lambda key: [int(n) for n in window[key].split("x")] if key in window else [1] * len(axes)
    size, stride, spread, between, turned = map(of, ("size", "stride", "lhs_dilate", "rhs_dilate", "rhs_reversal"))
    turned = turned if "rhs_reversal" in window else [0] * len(axes)
    pads = [[int(n) for n in p.split("_")] for p in window.get("pad", "x".join(["0_0"] * len(axes))).split("x") if p]
    ends = [(0, 0, 0)] * a.ndim
    for axis, (low, high), n in zip(axes, pads, spread, strict=True):
        ends[axis] = (low, high, n - 1)
    a = _pad(a, value, ends)
    reach = [(n - 1) * d + 1 for n, d in zip(size, between, strict=True)]
    seen = np.lib.stride_tricks.sliding_window_view(a, reach, tuple(axes)) if axes else a
    steps = [slice(None)] * a.ndim
    for axis, step in zip(axes, stride, strict=True):
        steps[axis] = slice(None, None, step)
    return seen[(*steps, *(slice(None, None, d) for d in between))], [i for i, t in enumerate(turned) if t]
