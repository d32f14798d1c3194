"""ONNX operators that pick entries: gathering, scattering, sorting, and what is known of indices."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from axiom_jax.interop.onnx.ops import (
    DynamicShape,
    Node,
    array,
    define,
    integers,
    known,
    like,
    positive,
    require_size,
    reshape,
    scalar,
    take,
)


@define("Gather")
def _gather(node: Node, x: Any, index: Any) -> Any:
    axis = positive(node.get("axis", 0), x.ndim)
    size = x.shape[axis]
    if not isinstance(index, np.ndarray) or (index.dtype != object and not isinstance(size, int)):
        return _taken(array(x), _wrapped(array(index), size), axis)
    chosen = np.array(integers(index, "the index"), np.int64)
    if chosen.size and not (-size <= chosen.min() and chosen.max() < size):
        raise ValueError(f"an index is outside of axis {axis}")
    y = take(x, np.where(chosen < 0, chosen + size, chosen), axis)
    return reshape(y, (*x.shape[:axis], *index.shape, *x.shape[axis + 1 :]))


def _wrapped(index: Any, size: Any) -> Any:
    """Negative indices count from the end."""
    if index.dtype.kind == "u":
        return index
    return jnp.where(index < 0, index + size, index)


def _taken(x: Any, index: Any, axis: int) -> Any:
    """Rows of x; an index that is outside, which ONNX does not allow, takes the nearest."""
    numbers = lax.GatherDimensionNumbers(
        offset_dims=(*range(axis), *range(axis + index.ndim, x.ndim - 1 + index.ndim)),
        collapsed_slice_dims=(axis,), start_index_map=(axis,),
    )  # fmt: skip
    sizes = tuple(1 if d == axis else n for d, n in enumerate(x.shape))
    return lax.gather(x, jnp.expand_dims(index, -1), numbers, sizes, mode=lax.GatherScatterMode.CLIP)


@define("GatherElements")
def _gather_elements(node: Node, x: Any, index: Any) -> Any:
    axis = positive(node.get("axis", 0), x.ndim)
    if known(x, index):
        x = x[tuple(slice(None) if d == axis else slice(n) for d, n in enumerate(index.shape))]
        return np.take_along_axis(x, index, axis)
    x, index = array(x), array(index)
    return x[_grid(index, axis, x.shape[axis])]


def _grid(index: Any, axis: int, size: Any) -> tuple[Any, ...]:
    """The coordinates of elements whose place along one axis is given and else their own."""
    own = [lax.broadcasted_iota(np.int32, index.shape, d) for d in range(index.ndim)]
    return tuple(_wrapped(index, size) if d == axis else place for d, place in enumerate(own))


@define("GatherND")
def _gather_nd(node: Node, x: Any, index: Any) -> Any:
    batch = node.get("batch_dims", 0)
    if known(x, index) and not batch:
        return x[tuple(np.moveaxis(index, -1, 0))]
    x, index = array(x), array(index)

    def one(x: Any, index: Any) -> Any:
        return x[tuple(_wrapped(index[..., d], x.shape[d]) for d in range(index.shape[-1]))]

    for _ in range(batch):
        one = jax.vmap(one)
    return one(x, index)


_UPDATES = {"none": "set", "add": "add", "mul": "multiply", "max": "max", "min": "min"}


@define("ScatterElements", "Scatter")
def _scatter_elements(node: Node, x: Any, index: Any, updates: Any) -> Any:
    x, index = array(x), array(index)
    place = x.at[_grid(index, positive(node.get("axis", 0), x.ndim), x.shape[node.get("axis", 0)])]
    return getattr(place, _UPDATES[node.get("reduction", "none")])(array(updates))


@define("ScatterND")
def _scatter_nd(node: Node, x: Any, index: Any, updates: Any) -> Any:
    if known(x, index, updates) and node.get("reduction", "none") == "none":
        y = x.copy()
        y[tuple(np.moveaxis(index, -1, 0))] = updates
        return y
    x, index = array(x), array(index)
    place = x.at[tuple(_wrapped(index[..., d], x.shape[d]) for d in range(index.shape[-1]))]
    return getattr(place, _UPDATES[node.get("reduction", "none")])(array(updates))


@define("TensorScatter")
def _tensor_scatter(node: Node, cache: Any, update: Any, starts: Any = None) -> Any:
    cache, update = array(cache), array(update)
    axis = positive(node.get("axis", -2), cache.ndim)
    size, length = cache.shape[axis], update.shape[axis]
    first = jnp.zeros(cache.shape[0], np.int32) if starts is None else array(starts)

    def one(row: Any, new: Any, start: Any) -> Any:
        places = start + jnp.arange(length)
        places = places % size if node.get("mode", "linear") == "circular" else places
        return row.at[(slice(None),) * (axis - 1) + (places,)].set(new)

    return jax.vmap(one)(cache, update, first)


@define("OneHot", static=(1,))
def _one_hot(node: Node, index: Any, depth: Any, values: Any) -> Any:
    size, index, values = int(scalar(depth, "the depth")), array(index), array(values)
    axis = positive(node.get("axis", -1), index.ndim + 1)
    require_size([size])
    wrapped = jnp.where(index < 0, index + like(index, size), index)
    places = lax.broadcasted_iota(index.dtype, (*index.shape[:axis], size, *index.shape[axis:]), axis)
    return jnp.where(places == jnp.expand_dims(wrapped, axis), values[1], values[0])


@define("Trilu", static=(1,))
def _trilu(node: Node, x: Any, k: Any = None) -> Any:
    shift, upper = 0 if k is None else int(scalar(k, "the diagonal")), node.get("upper", 1)
    kept = (np.triu if upper else np.tril)(np.ones(x.shape[-2:], bool), shift)
    if known(x):
        return np.where(kept, x, np.zeros((), x.dtype))
    return jnp.where(kept, x, like(x, 0))


@define("EyeLike")
def _eye_like(node: Node, x: Any) -> Any:
    from axiom_jax.interop.onnx.ops import dtype_of

    dtype = x.dtype if node.get("dtype") is None else dtype_of(node.get("dtype"))
    require_size(x.shape)
    return np.eye(*x.shape, k=node.get("k", 0), dtype=dtype)


@define("Compress", static=(1,))
def _compress(node: Node, x: Any, condition: Any) -> Any:
    axis, chosen = node.get("axis"), np.array(integers(condition, "the condition"), bool)
    if axis is None:
        x, axis = reshape(x, (-1 if known(x) else x.size,)), 0
    return take(x, np.flatnonzero(chosen), positive(axis, x.ndim))


@define("NonZero", static=(0,))
def _non_zero(node: Node, x: Any) -> Any:
    if not isinstance(x, np.ndarray):
        raise DynamicShape("how many entries are not zero")
    return np.array(np.nonzero(x), np.int64)


@define("Unique", static=(0,))
def _unique(node: Node, x: Any) -> Any:
    if not isinstance(x, np.ndarray):
        raise DynamicShape("how many entries are different")
    axis = node.get("axis")
    y, first, inverse, counts = np.unique(x, True, True, True, axis=axis)
    inverse = inverse.reshape(-1)
    if not node.get("sorted", 1):
        order = np.argsort(first)
        y, first, counts = np.take(y, order, axis or 0), first[order], counts[order]
        inverse = np.argsort(order)[inverse]
    return y, first, inverse, counts


@define("ReverseSequence")
def _reverse_sequence(node: Node, x: Any, lengths: Any) -> Any:
    x, lengths = array(x), array(lengths)
    batch, time = node.get("batch_axis", 1), node.get("time_axis", 0)
    places = lax.broadcasted_iota(lengths.dtype, x.shape, time)
    ends = lax.broadcast_in_dim(lengths, x.shape, (batch,))
    return jnp.take_along_axis(x, jnp.where(places < ends, ends - 1 - places, places), time)


@define("CumSum", "CumProd", static=(1,))
def _cumulative(node: Node, x: Any, axis: Any) -> Any:
    along = positive(int(scalar(axis, "the axis")), x.ndim)
    start, combine = (0, np.cumsum) if node.op == "CumSum" else (1, np.cumprod)
    if known(x):
        x = np.flip(x, along) if node.get("reverse", 0) else x
        y = combine(x, along, dtype=x.dtype)
        y = np.roll(y, 1, along) if node.get("exclusive", 0) else y
        if node.get("exclusive", 0):
            y[(slice(None),) * along + (0,)] = start
        return np.flip(y, along) if node.get("reverse", 0) else y
    back = bool(node.get("reverse", 0))
    y = (lax.cumsum if node.op == "CumSum" else lax.cumprod)(x, along, back)
    if not node.get("exclusive", 0):
        return y
    shift = (-1, 1, 0) if back else (1, -1, 0)
    return lax.pad(y, like(y, start), [shift if d == along else (0, 0, 0) for d in range(x.ndim)])


@define("ArgMax", "ArgMin")
def _arg(node: Node, x: Any) -> Any:
    axis, pick = positive(node.get("axis", 0), x.ndim), lax.argmax if node.op == "ArgMax" else lax.argmin
    x = array(x)
    y = pick(lax.rev(x, (axis,)) if node.get("select_last_index", 0) else x, axis, np.int32)
    y = x.shape[axis] - 1 - y if node.get("select_last_index", 0) else y
    return jnp.expand_dims(y, axis) if node.get("keepdims", 1) else y


@define("TopK", static=(1,))
def _top_k(node: Node, x: Any, k: Any = None) -> Any:
    size = node.get("k") if k is None else integers(k, "k")[0]
    axis = positive(node.get("axis", -1), x.ndim)
    x = jnp.moveaxis(array(x), axis, -1)
    if not isinstance(size, int) or (isinstance(x.shape[-1], int) and size > x.shape[-1]):
        if not isinstance(size, int) and str(size) == str(x.shape[-1]):
            return _sorted(x, x.shape[-1], axis, node.get("largest", 1))
        raise ValueError(f"the {size} largest of {x.shape[-1]}")
    return _sorted(x, size, axis, node.get("largest", 1))


def _sorted(x: Any, size: Any, axis: int, largest: int) -> tuple[Any, ...]:
    """The first entries of a stable sort along the last axis, moved to `axis`."""
    places = lax.broadcasted_iota(np.int32, x.shape, x.ndim - 1)
    if largest:  # reversed twice, so that equal entries keep their order
        x, places = lax.rev(x, (x.ndim - 1,)), lax.rev(places, (x.ndim - 1,))
    values, order = lax.sort((x, places), dimension=x.ndim - 1, is_stable=True, num_keys=1)
    if largest:
        values, order = (lax.rev(v, (x.ndim - 1,)) for v in (values, order))
    return tuple(jnp.moveaxis(lax.slice_in_dim(v, 0, size, axis=x.ndim - 1), -1, axis) for v in (values, order))


@define("DepthToSpace")
def _depth_to_space(node: Node, x: Any) -> Any:
    (b, c, h, w), s = x.shape, node.get("blocksize")
    if node.get("mode", "DCR") == "DCR":
        apart, order = (b, s, s, c // s**2, h, w), (0, 3, 4, 1, 5, 2)
    else:
        apart, order = (b, c // s**2, s, s, h, w), (0, 1, 4, 2, 5, 3)
    return reshape(lax.transpose(reshape(array(x), apart), order), (b, c // s**2, h * s, w * s))


@define("SpaceToDepth")
def _space_to_depth(node: Node, x: Any) -> Any:
    (b, c, h, w), s = x.shape, node.get("blocksize")
    apart = reshape(array(x), (b, c, h // s, s, w // s, s))
    order = (0, 3, 5, 1, 2, 4) if node.get("mode", "DCR") == "DCR" else (0, 1, 3, 5, 2, 4)
    return reshape(lax.transpose(apart, order), (b, c * s * s, h // s, w // s))
