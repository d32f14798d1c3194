"""JAX's primitives in PyTorch: one table, so that a program runs on torch tensors and gradients flow through it.

Source: the semantics of lax, https://docs.jax.dev/en/latest/jax.lax.html, and of XLA's gather and convolution,
https://openxla.org/xla/operation_semantics.
"""

import math
import string
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from axiom_jax._domain import Domain, require
from axiom_jax._program import Program, Var
from axiom_jax.interop.torch.files import require_torch

torch: Any
F: Any
try:
    import torch
    from torch.nn import functional as F
except ImportError:  # then nothing here is called
    torch = F = None

in_torch = Domain("torch", object)  # every operand is a tensor, the known ones too
rule = in_torch.rule

SAME_NAME = """add sub mul neg exp exp2 log log1p expm1 tanh sqrt rsqrt sin cos tan asin acos atan sinh cosh asinh acosh
    atanh erf erfc abs sign floor ceil square eq ne lt le gt ge pow atan2 lgamma digamma""".split()
OTHER_NAME = {
    "max": "maximum", "min": "minimum", "logistic": "sigmoid", "erf_inv": "erfinv", "is_finite": "isfinite",
    "nextafter": "nextafter", "logaddexp": "logaddexp", "stop_gradient": "detach", "copy": "clone",
}  # fmt: skip


def _named(name: str) -> Callable[..., Any]:
    return lambda *operands, **_: getattr(torch, name)(*operands)


for _primitive, _name in ({name: name for name in SAME_NAME} | OTHER_NAME).items():
    in_torch.define(_primitive, _named(_name))


def run(program: Program, params: Sequence[Any], *inputs: Any) -> tuple[Any, ...]:
    """Run a program on torch tensors.

    Args:
        params: a tensor for each of `program.params`.
        *inputs: a tensor for each of `program.inputs`.

    Raises:
        UnsupportedPrimitive: naming every equation that has no rule.
    """
    require_torch("Running a program in PyTorch")
    require(in_torch, program, [e for e in program.equations if e.name not in in_torch.rules])
    device = next((x.device for x in (*inputs, *params)), None)
    env: dict[Var, Any] = {v: torch.as_tensor(np.array(value), dtype=dtype_of(v.dtype), device=device)
                           for v, value in program.literals}  # fmt: skip
    env |= dict(zip(program.params, params, strict=True)) | dict(zip(program.inputs, inputs, strict=True))
    for eqn in program.equations:
        results = in_torch.rules[eqn.name](*(env[v] for v in eqn.inputs), **eqn.params)
        results = tuple(results) if eqn.primitive.multiple_results else (results,)
        env.update(zip(eqn.outputs, (r.to(device) for r in results), strict=True))
    return tuple(env[v] for v in program.outputs)


def dtype_of(dtype: Any) -> Any:
    """The torch dtype that holds a JAX dtype."""
    return getattr(torch, np.dtype(dtype).name)


@rule("div")
def _div(x: Any, y: Any, **_: Any) -> Any:
    return x / y if x.dtype.is_floating_point else torch.div(x, y, rounding_mode="trunc")


@rule("rem")
def _rem(x: Any, y: Any, **_: Any) -> Any:
    return torch.fmod(x, y)


@rule("cbrt")
def _cbrt(x: Any, **_: Any) -> Any:
    return torch.sign(x) * torch.abs(x) ** (1 / 3)


@rule("round")
def _round(x: Any, *, rounding_method: Any, **_: Any) -> Any:
    return torch.round(x) if int(rounding_method) == 1 else torch.trunc(x + torch.copysign(torch.full_like(x, 0.5), x))


@rule("integer_pow")
def _integer_pow(x: Any, *, y: int, **_: Any) -> Any:
    return x**y


@rule("and")
def _and(x: Any, y: Any, **_: Any) -> Any:
    return x & y


@rule("or")
def _or(x: Any, y: Any, **_: Any) -> Any:
    return x | y


@rule("xor")
def _xor(x: Any, y: Any, **_: Any) -> Any:
    return x ^ y


@rule("not")
def _not(x: Any, **_: Any) -> Any:
    return ~x


@rule("select_n")
def _select(which: Any, *cases: Any, **_: Any) -> Any:
    result = cases[0]
    for i, case in enumerate(cases[1:], 1):
        result = torch.where(which == bool(i) if which.dtype == torch.bool else which == i, case, result)
    return result


@rule("clamp")
def _clamp(low: Any, x: Any, high: Any, **_: Any) -> Any:
    return torch.minimum(torch.maximum(x, low), high)


@rule("convert_element_type")
def _convert(x: Any, *, new_dtype: Any, **_: Any) -> Any:
    return x.to(dtype_of(new_dtype))


@rule("reshape")
def _reshape(x: Any, *, new_sizes: Sequence[int], **_: Any) -> Any:
    return x.reshape(tuple(new_sizes))


@rule("squeeze", "expand_dims")
def _squeeze(x: Any, *, dimensions: Sequence[int], **_: Any) -> Any:
    return x.squeeze(tuple(dimensions))


@rule("transpose")
def _transpose(x: Any, *, permutation: Sequence[int], **_: Any) -> Any:
    return x.permute(tuple(permutation))


@rule("broadcast_in_dim")
def _broadcast(x: Any, *, shape: Sequence[int], broadcast_dimensions: Sequence[int], **_: Any) -> Any:
    sizes = [1] * len(shape)
    for axis, n in zip(broadcast_dimensions, x.shape, strict=True):
        sizes[axis] = n
    return x.reshape(sizes).expand(tuple(shape))


@rule("concatenate")
def _concatenate(*xs: Any, dimension: int, **_: Any) -> Any:
    return torch.cat(xs, dimension)


@rule("stack")
def _stack(*xs: Any, axis: int, **_: Any) -> Any:
    return torch.stack(xs, axis)


@rule("unstack")
def _unstack(x: Any, *, axis: int, **_: Any) -> Any:
    return torch.unbind(x, axis)


@rule("tile")
def _tile(x: Any, *, reps: Sequence[int], **_: Any) -> Any:
    return torch.tile(x, tuple(reps))


@rule("split")
def _split(x: Any, *, sizes: Sequence[int], axis: int, **_: Any) -> Any:
    return torch.split(x, list(sizes), axis)


@rule("pad")
def _pad(x: Any, value: Any, *, padding_config: Sequence[tuple[int, int, int]], **_: Any) -> Any:
    for axis, (low, high, interior) in enumerate(padding_config):
        if interior and x.shape[axis] > 1:
            x = _spread(x, axis, interior + 1, value)
        x = _ends(x, axis, low, high, value)
    return x


def _spread(x: Any, axis: int, step: int, value: Any) -> Any:
    """`step - 1` values between neighbours of an axis."""
    shape = list(x.shape)
    shape[axis] = (shape[axis] - 1) * step + 1
    places = torch.arange(x.shape[axis], device=x.device) * step
    return value.expand(shape).index_copy(axis, places, x)


def _ends(x: Any, axis: int, low: int, high: int, value: Any) -> Any:
    """Values before and behind an axis; negative numbers take away."""
    x = x.narrow(axis, max(0, -low), x.shape[axis] - max(0, -low) - max(0, -high))
    parts = [value.expand(*x.shape[:axis], n, *x.shape[axis + 1 :]) for n in (max(0, low), max(0, high))]
    return torch.cat([parts[0], x, parts[1]], axis) if low > 0 or high > 0 else x


@rule("slice")
def _slice(x: Any, *, start_indices: Any, limit_indices: Any, strides: Any, **_: Any) -> Any:
    steps = strides or (1,) * x.ndim
    return x[tuple(slice(a, b, s) for a, b, s in zip(start_indices, limit_indices, steps, strict=True))]


@rule("dynamic_slice")
def _dynamic_slice(x: Any, *starts: Any, slice_sizes: Sequence[int], **_: Any) -> Any:
    for axis, (start, size) in enumerate(zip(starts, slice_sizes, strict=False)):
        places = torch.clamp(start.long(), 0, x.shape[axis] - size) + torch.arange(size, device=x.device)
        x = x.index_select(axis, places)
    return x


@rule("dynamic_update_slice")
def _dynamic_update_slice(x: Any, update: Any, *starts: Any, **_: Any) -> Any:
    index = []
    for axis, (start, size) in enumerate(zip(starts, update.shape, strict=True)):
        places = torch.clamp(start.long(), 0, x.shape[axis] - size) + torch.arange(size, device=x.device)
        index.append(places.reshape(-1, *(1,) * (x.ndim - axis - 1)))
    return torch.index_put(x, tuple(index), update) if index else update


@rule("rev")
def _rev(x: Any, *, dimensions: Sequence[int], **_: Any) -> Any:
    return torch.flip(x, tuple(dimensions))


@rule("iota")
def _iota(*, dtype: Any, shape: Sequence[int], dimension: int, **_: Any) -> Any:
    line = torch.arange(shape[dimension], dtype=dtype_of(dtype))
    return line.reshape(-1, *(1,) * (len(shape) - dimension - 1)).expand(tuple(shape))


def _reduction(fn: Callable[[Any, tuple[int, ...]], Any]) -> Callable[..., Any]:
    return lambda x, *, axes, **_: fn(x, tuple(axes)) if axes else x


def _one_by_one(fn: Callable[[Any, int], Any]) -> Callable[[Any, tuple[int, ...]], Any]:
    def reduce(x: Any, axes: tuple[int, ...]) -> Any:
        for axis in sorted(axes, reverse=True):
            x = fn(x, axis)
        return x

    return reduce


for _primitive, _reduce in {
    "reduce_sum": lambda x, axes: torch.sum(x, axes, dtype=x.dtype),
    "reduce_max": lambda x, axes: torch.amax(x, axes),
    "reduce_min": lambda x, axes: torch.amin(x, axes),
    "reduce_prod": _one_by_one(lambda x, axis: torch.prod(x, axis, dtype=x.dtype)),
    "reduce_and": _one_by_one(lambda x, axis: torch.all(x, axis)),
    "reduce_or": _one_by_one(lambda x, axis: torch.any(x, axis)),
}.items():
    in_torch.define(_primitive, _reduction(_reduce))


@rule("argmax")
def _argmax(x: Any, *, axes: Sequence[int], index_dtype: Any, **_: Any) -> Any:
    return torch.argmax(x, axes[0]).to(dtype_of(index_dtype))


@rule("argmin")
def _argmin(x: Any, *, axes: Sequence[int], index_dtype: Any, **_: Any) -> Any:
    return torch.argmin(x, axes[0]).to(dtype_of(index_dtype))


def _cumulative(fn: Callable[[Any, int], Any]) -> Callable[..., Any]:
    def accumulate(x: Any, *, axis: int, reverse: bool, **_: Any) -> Any:
        return torch.flip(fn(torch.flip(x, (axis,)), axis), (axis,)) if reverse else fn(x, axis)

    return accumulate


for _primitive, _accumulate in {
    "cumsum": lambda x, axis: torch.cumsum(x, axis, dtype=x.dtype),
    "cumprod": lambda x, axis: torch.cumprod(x, axis, dtype=x.dtype),
    "cummax": lambda x, axis: torch.cummax(x, axis).values,
    "cummin": lambda x, axis: torch.cummin(x, axis).values,
    "cumlogsumexp": lambda x, axis: torch.logcumsumexp(x, axis),
}.items():
    in_torch.define(_primitive, _cumulative(_accumulate))


@rule("sort")
def _sort(*xs: Any, dimension: int, num_keys: int, **_: Any) -> Any:
    if num_keys != 1:
        raise NotImplementedError("sorting by several keys")
    order = torch.sort(xs[0], dim=dimension, stable=True).indices
    return [torch.gather(x, dimension, order) for x in xs]


@rule("top_k")
def _top_k(x: Any, *, k: int, axis: int = -1, **_: Any) -> Any:
    values, indices = torch.sort(x, dim=axis, descending=True, stable=True)
    return values.narrow(axis, 0, k), indices.narrow(axis, 0, k).to(torch.int32)


@rule("dot_general")
def _dot_general(a: Any, b: Any, *, dimension_numbers: Any, preferred_element_type: Any = None, **_: Any) -> Any:
    (contract_a, contract_b), (batch_a, batch_b) = dimension_numbers
    letters = iter(string.ascii_letters)
    of_a, of_b = [next(letters) for _ in a.shape], [next(letters) for _ in b.shape]
    for i, j in [*zip(batch_a, batch_b, strict=True), *zip(contract_a, contract_b, strict=True)]:
        of_b[j] = of_a[i]
    out = [of_a[i] for i in batch_a] + [c for i, c in enumerate(of_a) if i not in (*batch_a, *contract_a)]
    out += [c for j, c in enumerate(of_b) if j not in (*batch_b, *contract_b)]
    y = torch.einsum(f"{''.join(of_a)},{''.join(of_b)}->{''.join(out)}", a, b)
    return y if preferred_element_type is None else y.to(dtype_of(preferred_element_type))


@rule("conv_general_dilated")
def _conv(x: Any, w: Any, *, window_strides: Any, padding: Any, lhs_dilation: Any, rhs_dilation: Any,
          dimension_numbers: Any, feature_group_count: int, batch_group_count: int, **_: Any) -> Any:  # fmt: skip
    n = len(window_strides)
    if batch_group_count != 1 or n not in (1, 2, 3):
        raise NotImplementedError("a convolution over groups of the batch, or over more than three axes")
    x, w = x.permute(tuple(dimension_numbers.lhs_spec)), w.permute(tuple(dimension_numbers.rhs_spec))
    zero = torch.zeros((), dtype=x.dtype, device=x.device)
    for axis, (step, (low, high)) in enumerate(zip(lhs_dilation, padding, strict=True), 2):
        x = _spread(x, axis, step, zero) if step > 1 else x
        x = _ends(x, axis, low, high, zero)
    convolve = (F.conv1d, F.conv2d, F.conv3d)[n - 1]
    y = convolve(x, w, None, tuple(window_strides), 0, tuple(rhs_dilation), feature_group_count)
    return y.permute(tuple(np.argsort(dimension_numbers.out_spec).tolist()))


def _window(start: Callable[[Any], float], fn: Callable[[Any, int], Any]) -> Callable[..., Any]:
    """A reduction over windows, one axis after the other."""

    def reduce(x: Any, *, window_dimensions: Any, window_strides: Any, padding: Any, base_dilation: Any,
               window_dilation: Any, **_: Any) -> Any:  # fmt: skip
        value = torch.tensor(start(x), dtype=x.dtype, device=x.device)
        for axis, (k, stride, (low, high), base, dilation) in enumerate(
            zip(window_dimensions, window_strides, padding, base_dilation, window_dilation, strict=True)
        ):
            if (k, stride, low, high, base) == (1, 1, 0, 0, 1):
                continue
            x = _spread(x, axis, base, value) if base > 1 else x
            x = _ends(x, axis, low, high, value)
            count = (x.shape[axis] - (k - 1) * dilation - 1) // stride + 1
            places = torch.arange(count)[:, None] * stride + torch.arange(k)[None, :] * dilation
            picked = x.index_select(axis, places.reshape(-1).to(x.device))
            x = fn(picked.unflatten(axis, (count, k)), axis + 1)
        return x

    return reduce


def _least(x: Any) -> float:
    return -math.inf if x.dtype.is_floating_point else torch.iinfo(x.dtype).min


def _greatest(x: Any) -> float:
    return math.inf if x.dtype.is_floating_point else torch.iinfo(x.dtype).max


in_torch.define("reduce_window_sum", _window(lambda x: 0, lambda x, axis: torch.sum(x, axis, dtype=x.dtype)))
in_torch.define("reduce_window_max", _window(_least, lambda x, axis: torch.amax(x, axis)))
in_torch.define("reduce_window_min", _window(_greatest, lambda x, axis: torch.amin(x, axis)))


@rule("gather")
def _gather(x: Any, indices: Any, *, dimension_numbers: Any, slice_sizes: Sequence[int], mode: Any = None,
            fill_value: Any = None, **_: Any) -> Any:  # fmt: skip
    """XLA's gather: the place of every number of the result, then one indexing."""
    numbers, batch = dimension_numbers, tuple(indices.shape[:-1])
    fill = "FILL" in str(mode)
    inside = torch.ones((), dtype=torch.bool, device=x.device)
    places = []
    for axis, size in enumerate(slice_sizes):
        start = torch.zeros(batch, dtype=torch.long, device=x.device)
        if axis in numbers.start_index_map:
            start = indices[..., numbers.start_index_map.index(axis)].long()
        elif axis in numbers.operand_batching_dims:
            along = numbers.start_indices_batching_dims[numbers.operand_batching_dims.index(axis)]
            line = torch.arange(batch[along], device=x.device)
            start = line.reshape(-1, *(1,) * (len(batch) - along - 1)).expand(batch)
        inside = inside & (start >= 0) & (start <= x.shape[axis] - size)
        start = torch.clamp(start, 0, x.shape[axis] - size)
        offset = torch.arange(size, device=x.device).reshape(-1, *(1,) * (len(slice_sizes) - axis - 1))
        places.append(start.reshape(*batch, *(1,) * len(slice_sizes)) + offset)
    y = x[tuple(places)] if places else x.expand(batch)
    if fill:
        missing = fill_value if fill_value is not None else math.nan if x.dtype.is_floating_point else _least(x)
        y = torch.where(inside.reshape(*batch, *(1,) * len(slice_sizes)), y, torch.tensor(missing, dtype=x.dtype))
    gone = {*numbers.collapsed_slice_dims, *numbers.operand_batching_dims}
    y = y.squeeze(tuple(len(batch) + axis for axis in gone)) if gone else y
    order, offsets, firsts = [], iter(range(len(batch), y.ndim)), iter(range(len(batch)))
    for axis in range(y.ndim):
        order.append(next(offsets) if axis in numbers.offset_dims else next(firsts))
    return y.permute(order)
