"""Sums, products, extremes, windows, convolutions, sorting: many elements become one."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from axiom_jax._errors import UnsupportedPrimitive
from axiom_jax.verification.domains.algebra import terms as T
from axiom_jax.verification.domains.algebra.arrays import Terms, each, filled, lifted, reals, taken
from axiom_jax.verification.domains.algebra.terms import Term


def _reduction(name: str, join: Callable[[list[Term]], Term]) -> None:
    def rule(x: Any, *, axes: Sequence[int], **_: Any) -> np.ndarray:
        array = lifted(x)
        kept = [i for i in range(array.ndim) if i not in axes]
        rows = array.transpose(*kept, *axes).reshape(*[array.shape[i] for i in kept], -1)
        return _along_last(lambda row: join(row), rows)

    reals.define(name, rule)


def _along_last(f: Callable[[list[Term]], Term], rows: np.ndarray) -> np.ndarray:
    flat = rows.reshape(int(np.prod(rows.shape[:-1], dtype=np.int64)), rows.shape[-1])
    return filled([f(row.tolist()) for row in flat], rows.shape[:-1])


for _name, _join in (("sum", T.add), ("prod", T.mul), ("max", T.largest), ("min", T.smallest), ("and", T.land),
                     ("or", T.lor)):  # fmt: skip
    _reduction(f"reduce_{_name}", _join)


def _arg(better: Callable[[Term, Term], Term]) -> Callable[..., np.ndarray]:
    """The first place of the best element."""

    def rule(x: Any, *, axes: Sequence[int], **_: Any) -> np.ndarray:
        def first(row: list[Term]) -> Term:
            best, place = row[0], T.ZERO
            for i, t in enumerate(row[1:], start=1):
                wins = better(t, best)
                best, place = T.ite(wins, t, best), T.ite(wins, T.number(i), place)
            return place

        return _along_last(first, np.moveaxis(lifted(x), axes[0], -1))

    return rule


reals.define("argmax", _arg(lambda t, best: T.lt(best, t)))
reals.define("argmin", _arg(lambda t, best: T.lt(t, best)))


def _cumulative(name: str, join: Callable[[list[Term]], Term]) -> None:
    def rule(x: Any, *, axis: int, reverse: bool, **_: Any) -> np.ndarray:
        rows = np.moveaxis(lifted(x), axis, -1)
        rows = rows[..., ::-1] if reverse else rows
        out = rows.copy()
        for i in range(1, rows.shape[-1]):
            out[..., i] = each(lambda a, b: join([a, b]), out[..., i - 1], rows[..., i])
        return np.moveaxis(out[..., ::-1] if reverse else out, -1, axis)

    reals.define(name, rule)


def _log_sum_exp(ts: list[Term]) -> Term:
    return T.call("log", T.add([T.call("exp", t) for t in ts]))


for _name, _join in (("cumsum", T.add), ("cumprod", T.mul), ("cummax", T.largest), ("cummin", T.smallest),
                     ("cumlogsumexp", _log_sum_exp)):  # fmt: skip
    _cumulative(_name, _join)


@reals.rule("dot_general")
def _dot_general(a: Any, b: Any, *, dimension_numbers: Any, **_: Any) -> np.ndarray:
    (contract_a, contract_b), (batch_a, batch_b) = dimension_numbers
    a, b = lifted(a), lifted(b)
    free_a = [i for i in range(a.ndim) if i not in (*contract_a, *batch_a)]
    free_b = [i for i in range(b.ndim) if i not in (*contract_b, *batch_b)]
    size = lambda array, axes: int(np.prod([array.shape[i] for i in axes], dtype=np.int64))
    batch, k = size(a, batch_a), size(a, contract_a)
    left = a.transpose(*batch_a, *free_a, *contract_a).reshape(batch, size(a, free_a), k)
    right = b.transpose(*batch_b, *free_b, *contract_b).reshape(batch, size(b, free_b), k)
    items = [dot(u, v) for i in range(batch) for u in left[i] for v in right[i]]
    return filled(items, [*(a.shape[i] for i in (*batch_a, *free_a)), *(b.shape[i] for i in free_b)])


def dot(u: Any, v: Any) -> Term:
    """Σ u·v."""
    return T.add([T.mul([x, y]) for x, y in zip(u, v, strict=True)])


@reals.rule("conv_general_dilated")
def _conv(
    x: Any, w: Any, *, window_strides: Any, padding: Any, lhs_dilation: Any, rhs_dilation: Any, dimension_numbers: Any,
    feature_group_count: int, batch_group_count: int, **_: Any,
) -> np.ndarray:  # fmt: skip
    if batch_group_count != 1:
        raise UnsupportedPrimitive("A convolution with batch groups has no rule.", got=f"{batch_group_count} groups",
                                   fix="use feature_group_count")  # fmt: skip
    spec = dimension_numbers
    x, w = lifted(x).transpose(spec.lhs_spec), lifted(w).transpose(spec.rhs_spec)
    windows = _windows(x, 2, w.shape[2:], window_strides, padding, lhs_dilation, rhs_dilation, T.ZERO)
    rank, channels, features = len(window_strides), w.shape[1], w.shape[0] // feature_group_count
    # windows: (batch, channels, *outer, *window)
    out = np.empty((x.shape[0], w.shape[0], *windows.shape[2 : 2 + rank]), object)
    for n, f, *place in np.ndindex(*out.shape):
        group = f // features
        patch = windows[(n, slice(group * channels, (group + 1) * channels), *place)]
        out[(n, f, *place)] = dot(patch.ravel(), w[f].ravel())
    return out.transpose(np.argsort(spec.out_spec))


def _windows(
    x: np.ndarray, skip: int, sizes: Any, strides: Any, padding: Any, base: Any, dilation: Any, fill: Term
) -> np.ndarray:
    """Every window over the axes from `skip` on: (*skipped, *places, *window); what lies outside is `fill`."""
    pool = filled([*x.ravel().tolist(), fill], (x.size + 1,))
    index = np.arange(x.size).reshape(x.shape)
    for s, size in enumerate(sizes):
        axis = skip + s
        dilated = (x.shape[axis] - 1) * base[s] + 1
        count = (dilated + sum(padding[s]) - (size - 1) * dilation[s] - 1) // strides[s] + 1
        at = np.arange(max(count, 0))[:, None] * strides[s] + np.arange(size)[None, :] * dilation[s] - padding[s][0]
        inside = (at >= 0) & (at < dilated) & (at % base[s] == 0)
        moved = np.moveaxis(index, axis, -1)
        picked = np.where(inside, moved[..., np.where(inside, at // base[s], 0)], x.size)
        index = np.moveaxis(picked, -2, axis)  # the window's axis stays last
    return taken(pool, index)


def _window(name: str, join: Callable[[list[Term]], Term], fill: Term) -> None:
    def rule(x: Any, *, window_dimensions: Any, window_strides: Any, padding: Any, base_dilation: Any,
             window_dilation: Any, **_: Any) -> np.ndarray:  # fmt: skip
        found = _windows(lifted(x), 0, window_dimensions, window_strides, padding, base_dilation, window_dilation, fill)
        return _along_last(join, found.reshape(*found.shape[: len(window_dimensions)], -1))

    reals.define(name, rule)


_window("reduce_window_sum", T.add, T.ZERO)
_window("reduce_window_max", T.largest, T.MINUS_INFINITE)
_window("reduce_window_min", T.smallest, T.INFINITE)


@reals.rule("scatter-add", "scatter_add")
def _scatter_add(x: Any, indices: Any, updates: Any, **params: Any) -> np.ndarray:
    if isinstance(indices, Terms):
        raise UnsupportedPrimitive("The positions of a scatter depend on the inputs.", fix="index by known integers")
    array, new = lifted(x), lifted(updates)
    names = ("indices_are_sorted", "unique_indices", "mode")
    basis = np.eye(new.size, dtype=np.int32).reshape(new.size, *new.shape)
    zeros = np.zeros(array.shape, np.int32)
    put = lambda u: jax.lax.scatter_add(zeros, indices, u, params["dimension_numbers"],
                                        **{k: params[k] for k in names})  # fmt: skip
    where = np.asarray(jax.vmap(put)(basis)).reshape(new.size, -1)  # (updates, elements): what lands where
    flat = new.ravel()
    items = [T.add([t, *(flat[j] for j in np.nonzero(column)[0])]) for t, column in zip(array.ravel(), where.T,
                                                                                       strict=True)]  # fmt: skip
    return filled(items, array.shape)


@reals.rule("sort")
def _sort(*operands: Any, dimension: int, num_keys: int, **_: Any) -> tuple[np.ndarray, ...]:
    """Stable: neighbours are exchanged where the key before is strictly greater."""
    if num_keys != 1:
        raise UnsupportedPrimitive("A sort by several keys has no rule.", got=f"{num_keys} keys", fix="sort by one key")
    arrays = [np.moveaxis(np.array(np.broadcast_to(lifted(o), lifted(operands[0]).shape)), dimension, -1).copy()
              for o in operands]  # fmt: skip
    n = arrays[0].shape[-1]
    for last in range(n - 1, 0, -1):
        for i in range(last):
            a, b = arrays[0][..., i].copy(), arrays[0][..., i + 1].copy()
            arrays[0][..., i] = each(lambda *pair: T.smallest(pair), a, b)
            arrays[0][..., i + 1] = each(lambda *pair: T.largest(pair), a, b)
            swap = each(T.lt, b, a)
            for array in arrays[1:]:
                u, v = array[..., i].copy(), array[..., i + 1].copy()
                array[..., i], array[..., i + 1] = each(T.ite, swap, v, u), each(T.ite, swap, u, v)
    return tuple(np.moveaxis(a, -1, dimension) for a in arrays)


@reals.rule("top_k")
def _top_k(x: Any, *, k: int, **params: Any) -> tuple[np.ndarray, ...]:
    axis = params.get("axis", -1) % len(lifted(x).shape)
    array = lifted(x)
    places = np.broadcast_to(np.arange(array.shape[axis]).reshape([-1 if i == axis else 1 for i in range(array.ndim)]),
                             array.shape)  # fmt: skip
    keys, order = _sort(each(T.neg, array), places, dimension=axis, num_keys=1)
    first = tuple(slice(0, k) if i == axis else slice(None) for i in range(array.ndim))
    return each(T.neg, keys)[first], order[first]
