"""Interval rules of what decides and what is decided: comparisons, booleans, selection, order, indices.

A boolean is an interval of False < True: (False, True) is undecided. Source: Kleene's strong three-valued logic.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from axiom_jax.verification.domains.interval import Interval, _as_interval, _bind, interval

# Comparisons: for each, when it surely holds and when it may.


def _comparison(name: str, surely: Callable[..., Any], maybe: Callable[..., Any]) -> None:
    def rule(x: Any, y: Any, **_: Any) -> Interval:
        x, y = _as_interval(x), _as_interval(y)
        return Interval(surely(x, y), maybe(x, y))

    interval.define(name, rule)


_comparison("lt", lambda x, y: x.hi < y.lo, lambda x, y: x.lo < y.hi)
_comparison("le", lambda x, y: x.hi <= y.lo, lambda x, y: x.lo <= y.hi)
_comparison("gt", lambda x, y: x.lo > y.hi, lambda x, y: x.hi > y.lo)
_comparison("ge", lambda x, y: x.lo >= y.hi, lambda x, y: x.hi >= y.lo)
_same = lambda x, y: (x.lo == y.hi) & (x.hi == y.lo)
_meet = lambda x, y: (x.lo <= y.hi) & (x.hi >= y.lo)
_comparison("eq", _same, _meet)
_comparison("ne", lambda x, y: ~_meet(x, y), lambda x, y: ~_same(x, y))


@interval.rule("is_finite")
def _is_finite(x: Interval, **_: Any) -> Interval:
    surely = jnp.isfinite(x.lo) & jnp.isfinite(x.hi)
    return Interval(surely, jnp.ones_like(surely))


# Booleans; on integers these act on bits, of which nothing is said but the range of the type.


def _logic(name: str, rule: Callable[..., Interval]) -> None:
    def of_booleans(*operands: Any, **params: Any) -> Interval:
        ends = [_as_interval(x) for x in operands]
        if ends[0].lo.dtype != bool:
            shape = jnp.broadcast_shapes(*(jnp.shape(e.lo) for e in ends))
            limits = jnp.iinfo(ends[0].lo.dtype)
            return Interval(*(jnp.full(shape, end, ends[0].lo.dtype) for end in (limits.min, limits.max)))
        return rule(*ends, **params)

    interval.define(name, of_booleans)


_logic("not", lambda x, **_: Interval(~x.hi, ~x.lo))
_logic("and", lambda x, y, **_: Interval(x.lo & y.lo, x.hi & y.hi))
_logic("or", lambda x, y, **_: Interval(x.lo | y.lo, x.hi | y.hi))


@interval.rule("xor")
def _xor(x: Any, y: Any, **params: Any) -> Interval:
    if _as_interval(x).lo.dtype != bool:
        return interval.rules["or"](x, y, **params)
    return interval.rules["ne"](x, y)


@interval.rule("select_n")
def _select_n(which: Any, *cases: Any) -> Interval:
    ends = [_as_interval(c) for c in cases]
    if not isinstance(which, Interval):
        return Interval(lax.select_n(which, *(e.lo for e in ends)), lax.select_n(which, *(e.hi for e in ends)))
    if which.lo.dtype == bool:
        possible = [~which.lo, which.hi]
    else:
        possible = [(which.lo <= k) & (k <= which.hi) for k in range(len(ends))]
    lowest, highest = _limits(ends[0].lo.dtype)
    lo = jnp.stack([jnp.where(p, e.lo, highest) for p, e in zip(possible, ends, strict=False)]).min(0)
    hi = jnp.stack([jnp.where(p, e.hi, lowest) for p, e in zip(possible, ends, strict=False)]).max(0)
    return Interval(lo, hi)


def _limits(dtype: Any) -> tuple[Any, Any]:
    if jnp.issubdtype(dtype, bool):
        return False, True
    if jnp.issubdtype(dtype, jnp.integer):
        return jnp.iinfo(dtype).min, jnp.iinfo(dtype).max
    return -jnp.inf, jnp.inf


# Order


@interval.rule("argmax")
def _argmax(x: Interval, *, axes: tuple[int, ...], index_dtype: Any, **_: Any) -> Interval:
    """From the first to the last index that may be the greatest."""
    return _first_and_last(x.hi >= x.lo.max(axes[0], keepdims=True), axes[0], index_dtype)


@interval.rule("argmin")
def _argmin(x: Interval, *, axes: tuple[int, ...], index_dtype: Any, **_: Any) -> Interval:
    return _first_and_last(x.lo <= x.hi.min(axes[0], keepdims=True), axes[0], index_dtype)


def _first_and_last(possible: Any, axis: int, dtype: Any) -> Interval:
    last = possible.shape[axis] - 1 - jnp.argmax(jnp.flip(possible, axis), axis)
    return Interval(jnp.argmax(possible, axis).astype(dtype), last.astype(dtype))


@interval.rule("sort")
def _sort(*operands: Any, dimension: int, num_keys: int, **params: Any) -> list[Interval]:
    """Order statistics are increasing in every number; what a varying key moves lies anywhere along the axis."""
    params = {"dimension": dimension, "num_keys": num_keys, **params}
    ends = [_as_interval(x) for x in operands]
    if not any(isinstance(x, Interval) for x in operands[:num_keys]):
        lows = _bind("sort", *(e.lo for e in ends), **params)
        return [Interval(a, b) for a, b in zip(lows, _bind("sort", *(e.hi for e in ends), **params), strict=True)]
    found = []
    for place, e in enumerate(ends):
        if place == 0:
            found.append(Interval(jnp.sort(e.lo, axis=dimension), jnp.sort(e.hi, axis=dimension)))
        else:
            lo = jnp.broadcast_to(e.lo.min(dimension, keepdims=True), e.lo.shape)
            found.append(Interval(lo, jnp.broadcast_to(e.hi.max(dimension, keepdims=True), e.hi.shape)))
    return found


@interval.rule("top_k")
def _top_k(x: Interval, *, k: int, **params: Any) -> list[Interval]:
    axis = params.get("axis", -1) % x.lo.ndim
    lo, index = _bind("top_k", x.lo, k=k, **params)
    hi, _ = _bind("top_k", x.hi, k=k, **params)
    return [Interval(lo, hi), Interval(jnp.zeros_like(index), jnp.full_like(index, x.lo.shape[axis] - 1))]


# Indices


@interval.rule("gather")
def _gather(x: Any, indices: Any, *, mode: Any, **params: Any) -> Interval:
    params = {"mode": mode, **params}
    x = _as_interval(x)
    if not isinstance(indices, Interval):
        return Interval(_bind("gather", x.lo, indices, **params), _bind("gather", x.hi, indices, **params))
    shape = jax.eval_shape(lambda a, i: _bind("gather", a, i, **params), x.lo, indices.lo).shape
    fills = "FILL" in str(mode).upper()
    lowest, highest = _limits(x.lo.dtype)
    lo, hi = (lowest, highest) if fills else (x.lo.min(), x.hi.max())
    return Interval(jnp.full(shape, lo, x.lo.dtype), jnp.full(shape, hi, x.lo.dtype))


@interval.rule("dynamic_slice")
def _dynamic_slice(x: Any, *indices: Any, slice_sizes: tuple[int, ...], **_: Any) -> Interval:
    x = _as_interval(x)
    if any(isinstance(i, Interval) for i in indices):  # they are clamped, so it is some part of x
        return Interval(jnp.full(slice_sizes, x.lo.min()), jnp.full(slice_sizes, x.hi.max()))
    return Interval(*(lax.dynamic_slice(end, indices, slice_sizes) for end in (x.lo, x.hi)))


@interval.rule("dynamic_update_slice")
def _dynamic_update_slice(x: Any, update: Any, *indices: Any, **_: Any) -> Interval:
    x, update = _as_interval(x), _as_interval(update)
    if any(isinstance(i, Interval) for i in indices):
        lo = jnp.minimum(x.lo, update.lo.min()) if update.lo.size else x.lo
        return Interval(lo, jnp.maximum(x.hi, update.hi.max()) if update.hi.size else x.hi)
    pairs = ((x.lo, update.lo), (x.hi, update.hi))
    return Interval(*(lax.dynamic_update_slice(a, b, indices) for a, b in pairs))


def _scattering(name: str) -> None:
    """Increasing in the array and in what is put there, if it is known where."""

    def rule(x: Any, indices: Any, updates: Any, **params: Any) -> Interval:
        x, updates = _as_interval(x), _as_interval(updates)
        if not isinstance(indices, Interval):
            return Interval(*(_bind(name, a, indices, b, **params)
                              for a, b in ((x.lo, updates.lo), (x.hi, updates.hi))))  # fmt: skip
        if name == "scatter-add":  # every update may fall anywhere
            return Interval(x.lo + jnp.minimum(updates.lo, 0).sum(), x.hi + jnp.maximum(updates.hi, 0).sum())
        return Interval(jnp.minimum(x.lo, updates.lo.min()), jnp.maximum(x.hi, updates.hi.max()))

    interval.define(name, rule)


for _name in ("scatter", "scatter-add", "scatter-min", "scatter-max"):
    _scattering(_name)


# Windows: which element of a window is selected depends on the operand; its tangent lies among those of the window.


@interval.rule("select_and_gather_add")
def _select_and_gather_add(tangents: Any, operand: Any, **params: Any) -> Interval:
    t = _as_interval(tangents)
    geometry = {k: params[k] for k in ("window_dimensions", "window_strides", "padding", "base_dilation",
                                       "window_dilation")}  # fmt: skip
    if not isinstance(operand, Interval):
        return Interval(*(_bind("select_and_gather_add", end, operand, **params) for end in (t.lo, t.hi)))
    return Interval(_bind("reduce_window_min", t.lo, **geometry), _bind("reduce_window_max", t.hi, **geometry))


@interval.rule("select_and_scatter_add")
def _select_and_scatter_add(source: Any, operand: Any, **params: Any) -> Interval:
    """Every element gets at most what the windows that it lies in have to give."""
    s = _as_interval(source)
    if not isinstance(operand, Interval):
        return Interval(*(_bind("select_and_scatter_add", end, operand, **params) for end in (s.lo, s.hi)))
    geometry = {k: params[k] for k in ("window_dimensions", "window_strides", "padding")}
    ones = tuple(1 for _ in operand.lo.shape)
    windows = lambda x: _bind("reduce_window_sum", x, base_dilation=ones, window_dilation=ones, **geometry)
    spread = jax.linear_transpose(windows, operand.lo)
    return Interval(spread(jnp.minimum(s.lo, 0))[0], spread(jnp.maximum(s.hi, 0))[0])
