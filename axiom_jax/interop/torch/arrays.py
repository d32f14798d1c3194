"""What ATen's operators on shapes and indices mean in JAX: views, slices, concatenation, gathers, fresh tensors."""

import math
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from axiom_jax.interop.torch.graph import define
from axiom_jax.interop.torch.ops import axes_of, name_of

for _name in ("clone", "contiguous", "detach", "alias", "lift_fresh_copy"):
    define(_name)(lambda x, *_, **__: x)


@define("dropout", "feature_dropout", "alpha_dropout")
def _dropout(x: Any, p: float, train: bool) -> Any:
    if train and p:
        raise NotImplementedError("train=True: export the module in eval mode")
    return x


@define("view", "reshape", "_unsafe_view", "view_copy")
def _reshape(x: Any, size: Sequence[Any]) -> Any:
    return jnp.reshape(x, tuple(size))


@define("permute", "permute_copy")
def _permute(x: Any, dims: Sequence[int]) -> Any:
    return jnp.transpose(x, tuple(d % x.ndim for d in dims))


@define("transpose.int", "swapaxes", "swapdims")
def _transpose(x: Any, a: int, b: int) -> Any:
    return jnp.swapaxes(x, a, b) if x.ndim else x


@define("t", "numpy_T", "mT")
def _t(x: Any) -> Any:
    return jnp.swapaxes(x, -1, -2) if x.ndim > 1 else x


@define("movedim.int", "movedim.intlist")
def _movedim(x: Any, source: Any, destination: Any) -> Any:
    return jnp.moveaxis(x, source, destination)


@define("squeeze", "squeeze.dim", "squeeze.dims")
def _squeeze(x: Any, dim: Any = None) -> Any:
    return jnp.squeeze(x, tuple(a for a in axes_of(dim, x.ndim) if isinstance(x.shape[a], int) and x.shape[a] == 1))


@define("unsqueeze")
def _unsqueeze(x: Any, dim: int) -> Any:
    return jnp.expand_dims(x, dim)


@define("expand", "expand_copy")
def _expand(x: Any, size: Sequence[Any], implicit: bool = False) -> Any:
    own = (1,) * (len(size) - x.ndim) + x.shape
    sizes = tuple(m if isinstance(n, int) and n == -1 else n for n, m in zip(size, own, strict=True))
    return jnp.broadcast_to(x, sizes)


@define("expand_as")
def _expand_as(x: Any, other: Any) -> Any:
    return jnp.broadcast_to(x, other.shape)


@define("flatten.using_ints")
def _flatten(x: Any, start: int = 0, end: int = -1) -> Any:
    if not x.ndim:
        return x.reshape(1)
    start, end = start % x.ndim, end % x.ndim
    return x.reshape(*x.shape[:start], math.prod(x.shape[start : end + 1]), *x.shape[end + 1 :])


@define("unflatten.int")
def _unflatten(x: Any, dim: int, sizes: Sequence[Any]) -> Any:
    dim %= x.ndim
    known = math.prod(n for n in sizes if not (isinstance(n, int) and n == -1))
    sizes = [x.shape[dim] // known if isinstance(n, int) and n == -1 else n for n in sizes]
    return x.reshape(*x.shape[:dim], *sizes, *x.shape[dim + 1 :])


@define("slice.Tensor", "slice_copy.Tensor")
def _slice(x: Any, dim: int = 0, start: Any = None, end: Any = None, step: int = 1) -> Any:
    end = None if isinstance(end, int) and end >= 2**31 - 1 else end
    return x[(slice(None),) * (dim % x.ndim) + (slice(start, end, step),)]


@define("narrow")
def _narrow(x: Any, dim: int, start: Any, length: Any) -> Any:
    return _slice(x, dim, start, start + length)


@define("select.int", "select_copy.int")
def _select(x: Any, dim: int, index: int) -> Any:
    return x[(slice(None),) * (dim % x.ndim) + (index,)]


@define("cat")
def _cat(tensors: Sequence[Any], dim: int = 0) -> Any:
    kept = [x for x in tensors if x.shape != (0,)] or tensors[:1]  # torch passes over empty vectors
    return jnp.concatenate(kept, dim)


@define("stack")
def _stack(tensors: Sequence[Any], dim: int = 0) -> Any:
    return jnp.stack(tensors, dim)


@define("split_with_sizes", "split_with_sizes_copy", "split.sizes")
def _split_sizes(x: Any, sizes: Sequence[int], dim: int = 0) -> Any:
    return jnp.split(x, np.cumsum(sizes)[:-1].tolist(), dim)


@define("split.Tensor")
def _split(x: Any, size: int, dim: int = 0) -> Any:
    return jnp.split(x, list(range(size, x.shape[dim], size)), dim)


@define("chunk")
def _chunk(x: Any, chunks: int, dim: int = 0) -> Any:
    return _split(x, -(-x.shape[dim] // chunks), dim)


@define("tensor_split.sections")
def _tensor_split(x: Any, sections: int, dim: int = 0) -> Any:
    return jnp.array_split(x, sections, dim)


@define("unbind.int")
def _unbind(x: Any, dim: int = 0) -> Any:
    return [_select(x, dim, i) for i in range(x.shape[dim])]


@define("unfold")
def _unfold(x: Any, dim: int, size: int, step: int) -> Any:
    dim %= x.ndim
    count = (x.shape[dim] - size) // step + 1
    parts = [_slice(x, dim, i, i + (count - 1) * step + 1, step) for i in range(size)]
    return jnp.stack(parts, -1)


@define("flip")
def _flip(x: Any, dims: Sequence[int]) -> Any:
    return jnp.flip(x, tuple(dims))


@define("roll")
def _roll(x: Any, shifts: Any, dims: Any = ()) -> Any:
    return jnp.roll(x, tuple(shifts), tuple(dims)) if dims else jnp.roll(x, tuple(shifts))


@define("repeat", "tile")
def _repeat(x: Any, repeats: Sequence[int]) -> Any:
    return jnp.tile(x, tuple(repeats))


@define("repeat_interleave.self_int")
def _repeat_interleave(x: Any, repeats: int, dim: int | None = None, output_size: Any = None) -> Any:
    return jnp.repeat(x, repeats, dim)


@define("gather")
def _gather(x: Any, dim: int, index: Any, sparse_grad: bool = False) -> Any:
    if x.ndim and index.ndim == x.ndim:
        x = x[tuple(slice(None) if a == dim % x.ndim else slice(0, n) for a, n in enumerate(index.shape))]
    return jnp.take_along_axis(x, index, dim)


@define("index_select")
def _index_select(x: Any, dim: int, index: Any) -> Any:
    return x[(slice(None),) * (dim % x.ndim) + (index.reshape(-1),)]


@define("index.Tensor", "_unsafe_index.Tensor")
def _index(x: Any, indices: Sequence[Any]) -> Any:
    if any(i is not None and i.dtype == bool for i in indices):
        raise NotImplementedError("truth values as indices, whose number of results is not known")
    return x[tuple(slice(None) if i is None else i for i in indices)]


@define("index_put")
def _index_put(x: Any, indices: Sequence[Any], values: Any, accumulate: bool = False) -> Any:
    if any(i is not None and i.dtype == bool for i in indices):
        raise NotImplementedError("truth values as indices, whose number is not known")
    place = x.at[tuple(slice(None) if i is None else i for i in indices)]
    return place.add(values) if accumulate else place.set(values)


@define("slice_scatter")
def _slice_scatter(x: Any, source: Any, dim: int = 0, start: Any = None, end: Any = None, step: int = 1) -> Any:
    end = None if isinstance(end, int) and end >= 2**31 - 1 else end
    return x.at[(slice(None),) * (dim % x.ndim) + (slice(start, end, step),)].set(source)


@define("select_scatter")
def _select_scatter(x: Any, source: Any, dim: int, index: int) -> Any:
    return x.at[(slice(None),) * (dim % x.ndim) + (index,)].set(source)


@define("embedding")
def _embedding(weight: Any, ids: Any, *_: Any, **__: Any) -> Any:
    return weight[ids]


@define("one_hot")
def _one_hot(ids: Any, classes: int = -1) -> Any:
    if classes < 0:
        raise NotImplementedError("a number of classes that depends on the ids")
    return (ids[..., None] == jnp.arange(classes)).astype(name_of("int64"))


@define("constant_pad_nd")
def _constant_pad(x: Any, pad: Sequence[int], value: float = 0) -> Any:
    return _pad(x, pad, "constant", value)


@define("pad")
def _pad(x: Any, pad: Sequence[int], mode: str = "constant", value: float | None = None) -> Any:
    pairs = [(0, 0)] * (x.ndim - len(pad) // 2) + [(pad[i], pad[i + 1]) for i in range(len(pad) - 2, -1, -2)]
    if mode == "constant":
        kept = tuple(slice(max(0, -lo), n - max(0, -hi)) for (lo, hi), n in zip(pairs, x.shape, strict=True))
        added = [(max(0, lo), max(0, hi)) for lo, hi in pairs]
        return jnp.pad(x[kept] if any(lo < 0 or hi < 0 for lo, hi in pairs) else x, added, constant_values=value or 0)
    return jnp.pad(x, pairs, mode={"reflect": "reflect", "replicate": "edge", "circular": "wrap"}[mode])


for _axes in (1, 2, 3):
    define(f"reflection_pad{_axes}d")(lambda x, pad: _pad(x, pad, "reflect"))
    define(f"replication_pad{_axes}d")(lambda x, pad: _pad(x, pad, "replicate"))


@define("full")
def _full(size: Sequence[Any], value: Any, dtype: str | None = None) -> Any:
    return jnp.full(tuple(size), value, None if dtype is None else name_of(dtype))


@define("full_like")
def _full_like(x: Any, value: Any, dtype: str | None = None) -> Any:
    return jnp.full(x.shape, value, x.dtype if dtype is None else name_of(dtype))


@define("new_full")
def _new_full(x: Any, size: Sequence[Any], value: Any, dtype: str | None = None) -> Any:
    return jnp.full(tuple(size), value, x.dtype if dtype is None else name_of(dtype))


for _word, _value in (("zeros", 0), ("ones", 1)):
    define(_word)(lambda size, dtype="float32", *, v=_value: _full(size, v, dtype))
    define(f"{_word}_like")(lambda x, dtype=None, *, v=_value: _full_like(x, v, dtype))
    define(f"new_{_word}")(lambda x, size, dtype=None, *, v=_value: _new_full(x, size, v, dtype))


@define("scalar_tensor")
def _scalar_tensor(value: Any, dtype: str = "float32") -> Any:
    return jnp.asarray(value, name_of(dtype))


@define("arange", "arange.start", "arange.start_step")
def _arange(start: Any, end: Any = None, step: Any = 1, dtype: str | None = None) -> Any:
    start, end = (0, start) if end is None else (start, end)
    known = "int64" if all(isinstance(n, int) or not isinstance(n, float) for n in (start, end, step)) else "float32"
    return jnp.arange(start, end, step, dtype=name_of(dtype or known))


@define("tril")
def _tril(x: Any, diagonal: int = 0) -> Any:
    return jnp.tril(x, diagonal)


@define("triu")
def _triu(x: Any, diagonal: int = 0) -> Any:
    return jnp.triu(x, diagonal)


@define("_to_copy", "to.dtype", "to.dtype_layout", "to.device")
def _to(x: Any, *dtypes: Any, dtype: str | None = None, copy: bool = False) -> Any:
    dtype = dtype or next((d for d in dtypes if isinstance(d, str) and d not in ("cpu", "cuda", "meta")), None)
    return x if dtype is None else x.astype(name_of(dtype))


@define("type_as")
def _type_as(x: Any, other: Any) -> Any:
    return x.astype(other.dtype)


@define("copy")
def _copy(x: Any, source: Any, non_blocking: bool = False) -> Any:
    return jnp.broadcast_to(source, x.shape).astype(x.dtype)


@define("pixel_shuffle")
def _pixel_shuffle(x: Any, r: int) -> Any:
    *batch, c, h, w = x.shape
    n = len(batch)
    y = x.reshape(*batch, c // (r * r), r, r, h, w)
    return y.transpose(*range(n), n, n + 3, n + 1, n + 4, n + 2).reshape(*batch, c // (r * r), h * r, w * r)


@define("pixel_unshuffle")
def _pixel_unshuffle(x: Any, r: int) -> Any:
    *batch, c, h, w = x.shape
    n = len(batch)
    y = x.reshape(*batch, c, h // r, r, w // r, r)
    return y.transpose(*range(n), n, n + 2, n + 4, n + 1, n + 3).reshape(*batch, c * r * r, h // r, w // r)


@define("channel_shuffle", "native_channel_shuffle")
def _channel_shuffle(x: Any, groups: int) -> Any:
    batch, c, *rest = x.shape
    return x.reshape(batch, groups, c // groups, *rest).swapaxes(1, 2).reshape(x.shape)


# recorded by exporters as checks of what is known anyway
for _name in ("_assert_async.msg", "_assert_scalar", "sym_constrain_range_for_size", "_assert_tensor_metadata"):
    define(_name)(lambda *_, **__: None)
