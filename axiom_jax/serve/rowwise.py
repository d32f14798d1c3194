"""Whether each row of a model's output depends on the same row of its inputs alone, and not on how many there are.

Only then may a batch be padded, with copies of a row. The function is traced at two batch sizes: the one axis of
a value whose size differs between the two is its batch axis, and every equation has to keep rows apart along it.
What has no rule mixes rows, as far as is known. It is traced with a symbolic size too, so that one program is known
to serve all sizes.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from axiom_jax._program import Equation, Program, Var, normalise
from axiom_jax._shapes_deciding import size_decisions
from axiom_jax._trace import trace

SIZES = (5, 8)  # one is odd, the other even and a size that is padded to
SHAPED = {"shape", "slice_sizes", "limit_indices", "new_sizes"}  # parameters that hold the batch size itself
Axis = int | None
Rule = Callable[[Equation, Sequence[Axis], int], bool]

ELEMENTWISE = frozenset(
    "abs acos acosh add add_any and asin asinh atan atan2 atanh cbrt ceil clamp convert_element_type copy cos cosh "
    "digamma div eq erf erf_inv erfc exp exp2 expm1 floor ge gt integer_pow is_finite le lgamma log log1p logistic lt "
    "max min mul ne neg nextafter not or pow reduce_precision rem round rsqrt select_n shift_left "
    "shift_right_arithmetic shift_right_logical sign sin sinh sqrt square stop_gradient sub tan tanh xor".split()
)
RULES: dict[str, Rule] = {}


def rule(*names: str) -> Callable[[Rule], Rule]:
    """Register a rule: may rows, given the operands' batch axes (None: the same for all rows), come out along `out`?"""

    def register(function: Rule) -> Rule:
        RULES.update(dict.fromkeys(names, function))
        return function

    return register


@rule(*ELEMENTWISE)
def _elementwise(eqn: Equation, axes: Sequence[Axis], out: int) -> bool:
    return all(axis in (None, out) for axis in axes)


@rule("reduce_sum", "reduce_max", "reduce_min", "reduce_prod", "reduce_and", "reduce_or", "argmax", "argmin")
def _reduce(eqn: Equation, axes: Sequence[Axis], out: int) -> bool:
    (axis,) = axes
    return axis is not None and axis not in eqn.params["axes"]


@rule("broadcast_in_dim")
def _broadcast(eqn: Equation, axes: Sequence[Axis], out: int) -> bool:
    axis = axes[0]
    return len(axes) == 1 and (axis is None or eqn.params["broadcast_dimensions"][axis] == out)


@rule("reshape")
def _reshape(eqn: Equation, axes: Sequence[Axis], out: int) -> bool:
    axis, before, after = axes[0], eqn.inputs[0].shape, eqn.output.shape
    return len(axes) == 1 and axis is not None and math.prod(before[:axis]) == math.prod(after[:out])


@rule("transpose")
def _transpose(eqn: Equation, axes: Sequence[Axis], out: int) -> bool:
    return eqn.params["permutation"][out] == axes[0]


@rule("squeeze", "expand_dims")
def _squeeze(eqn: Equation, axes: Sequence[Axis], out: int) -> bool:
    return axes[0] is not None  # axes of size 1 go or come; order stays


@rule("dot_general")
def _dot(eqn: Equation, axes: Sequence[Axis], out: int) -> bool:
    (contracted, batched), (left, right) = eqn.params["dimension_numbers"], axes
    if left is not None and right is not None:
        return (left, right) in zip(*batched, strict=True)
    side, axis = (0, left) if left is not None else (1, right)
    return axis is not None and axis not in contracted[side]


@rule("conv_general_dilated")
def _conv(eqn: Equation, axes: Sequence[Axis], out: int) -> bool:
    numbers = eqn.params["dimension_numbers"]
    return (numbers.lhs_spec[0] == axes[0] and axes[1] is None and numbers.out_spec[0] == out
            and eqn.params["batch_group_count"] == 1)  # fmt: skip


@rule("concatenate")
def _concatenate(eqn: Equation, axes: Sequence[Axis], out: int) -> bool:
    return eqn.params["dimension"] != out and all(axis == out for axis in axes)


@rule("pad")
def _pad(eqn: Equation, axes: Sequence[Axis], out: int) -> bool:
    return axes[0] == out and axes[1] is None and eqn.params["padding_config"][out] == (0, 0, 0)


@rule("slice")
def _slice(eqn: Equation, axes: Sequence[Axis], out: int) -> bool:
    strides = eqn.params["strides"]
    return axes[0] == out and eqn.params["start_indices"][out] == 0 and (strides is None or strides[out] == 1)


@rule("dynamic_slice")
def _dynamic_slice(eqn: Equation, axes: Sequence[Axis], out: int) -> bool:
    whole = eqn.params["slice_sizes"][out] == eqn.inputs[0].shape[out]  # so that the start is clamped to 0
    return axes[0] == out and whole and all(axis is None for axis in axes[1:])


@rule("rev")
def _rev(eqn: Equation, axes: Sequence[Axis], out: int) -> bool:
    return axes[0] == out and out not in eqn.params["dimensions"]


@rule("sort")
def _sort(eqn: Equation, axes: Sequence[Axis], out: int) -> bool:
    return eqn.params["dimension"] != out and all(axis == out for axis in axes)


@rule("cumsum", "cumprod", "cummax", "cummin", "cumlogsumexp", "split")
def _along(eqn: Equation, axes: Sequence[Axis], out: int) -> bool:
    return axes[0] == out and eqn.params["axis"] != out


@rule("reduce_window_sum", "reduce_window_max", "reduce_window_min")
def _window(eqn: Equation, axes: Sequence[Axis], out: int) -> bool:
    sizes = [eqn.params[name] for name in ("window_dimensions", "window_strides", "base_dilation", "window_dilation")]
    return axes[0] == out and tuple(eqn.params["padding"][out]) == (0, 0) and all(size[out] == 1 for size in sizes)


@rule("gather")
def _gather(eqn: Equation, axes: Sequence[Axis], out: int) -> bool:
    numbers, (operand, indices) = eqn.params["dimension_numbers"], axes
    dropped = (*numbers.collapsed_slice_dims, *numbers.operand_batching_dims)
    if operand is None:  # rows of a table that all share, such as an embedding
        batch = [axis for axis in range(len(eqn.output.shape)) if axis not in numbers.offset_dims]
        return indices is not None and indices not in numbers.start_indices_batching_dims and (
            batch.index(out) == indices if out in batch else False)  # fmt: skip
    if indices is None:  # the same columns of every row
        kept = [axis for axis in range(len(eqn.inputs[0].shape)) if axis not in dropped]
        return operand in kept and operand not in numbers.start_index_map and (
            numbers.offset_dims[kept.index(operand)] == out)  # fmt: skip
    return (operand, indices) in zip(numbers.operand_batching_dims, numbers.start_indices_batching_dims, strict=True)


@rule("top_k")
def _top_k(eqn: Equation, axes: Sequence[Axis], out: int) -> bool:
    along = eqn.params.get("axis", len(eqn.inputs[0].shape) - 1)
    return axes[0] == out and along % len(eqn.inputs[0].shape) != out


@rule("iota")
def _iota(eqn: Equation, axes: Sequence[Axis], out: int) -> bool:
    return True  # row i holds i, or the same as every row


def rowwise(fn: Callable[..., Any], params: Any, specs: Callable[[Any], Sequence[jax.ShapeDtypeStruct]]) -> bool:
    """Whether the rows of `fn(params, *inputs)`, along the first axis, are computed one by one.

    Args:
        fn: a JAX function.
        params: a pytree of arrays, the same for all rows.
        specs: the inputs at a batch size.

    Returns:
        True only where it follows from the program; False also where it is not known.

    >>> inputs = lambda n: [jax.ShapeDtypeStruct((n, 3), np.float32)]
    >>> rowwise(lambda w, x: jax.nn.softmax(x @ w), np.ones((3, 2), np.float32), inputs)
    True
    >>> rowwise(lambda w, x: x - x.mean(0), None, inputs)
    False
    """
    if not _for_all_sizes(fn, params, specs):
        return False
    (one, first), (two, second) = (_program(fn, params, specs(size), "mask") for size in SIZES)
    if not all(jax.numpy.issubdtype(var.dtype, jax.numpy.inexact) for var in one.outputs):
        # conditions inside the model show in outputs of floats alone, so here there may be none
        bare, guarded = (_program(fn, params, specs(SIZES[0]), policy)[0] for policy in ("off", "raise"))
        if len(bare.equations) != len(guarded.equations):
            return False
    if not _alike(one.params + one.inputs + one.outputs, two.params + two.inputs + two.outputs):
        return False
    if not all(_same(a, b) for a, b in zip(first, second, strict=True)) or len(one.literals) != len(two.literals):
        return False
    if not all(_same(a, b) for (_, a), (_, b) in zip(one.literals, two.literals, strict=True)):
        return False
    if len(one.equations) != len(two.equations):
        return False
    axes: dict[Var, Axis] = {}
    for mine, other in zip((*one.params, *one.inputs), (*two.params, *two.inputs), strict=True):
        axes[mine] = _batch_axis(mine, other)
    axes |= {var: None for var, _ in one.literals}
    for a, b in zip(one.equations, two.equations, strict=True):
        if a.name != b.name or not _alike((*a.inputs, *a.outputs), (*b.inputs, *b.outputs)) or not _same_params(a, b):
            return False
        came = [axes[var] for var in a.inputs]
        for mine, other in zip(a.outputs, b.outputs, strict=True):
            out = axes[mine] = _batch_axis(mine, other)
            if out is None and any(axis is not None for axis in came):
                return False  # rows were mixed into one value
            if out is not None and not (a.name in RULES and RULES[a.name](a, came, out)):
                return False
    return all(axes[var] == 0 for var in (*one.inputs, *one.outputs))


def _for_all_sizes(fn: Any, params: Any, specs: Callable[[Any], Sequence[Any]]) -> bool:
    """Whether one program serves every batch size, without computing with the size."""
    (rows,) = jax.export.symbolic_shape("symbolic_rows")
    try:
        with size_decisions() as places:
            program, _ = _program(fn, params, specs(rows), "mask")
        if places:  # Python decides by the batch size: at some size it is another program
            return False
        values = [*program.params, *program.inputs, *(var for eqn in program.equations for var in eqn.outputs)]
        plain = all(isinstance(size, int) or bool(size == rows) for var in values for size in var.shape)
    except Exception:  # whatever the function raises where it asks how large the batch is
        return False
    held = (value for eqn in program.equations for name, value in eqn.params.items() if name not in SHAPED)
    return plain and not any(str(rows) in repr(value) for value in held)


def _program(fn: Any, params: Any, specs: Sequence[Any], guards: str) -> tuple[Program, list[Any]]:
    """The program with its guards as masks on its outputs, so that what they depend on is seen too."""
    return normalise(trace(fn, params, *specs, guards=guards), len(jax.tree.leaves(params)))


def _alike(ours: Sequence[Var], theirs: Sequence[Var]) -> bool:
    """Whether the values of two traces differ in one axis at most, by the batch size, and in nothing else."""
    return len(ours) == len(theirs) and all(
        a.dtype == b.dtype and a.index == b.index and len(a.shape) == len(b.shape)
        and [pair for pair in zip(a.shape, b.shape, strict=True) if pair[0] != pair[1]] in ([], [SIZES])
        for a, b in zip(ours, theirs, strict=True)
    )  # fmt: skip


def _batch_axis(ours: Var, theirs: Var) -> Axis:
    return next((i for i, (a, b) in enumerate(zip(ours.shape, theirs.shape, strict=True)) if a != b), None)


def _same(a: Any, b: Any) -> bool:
    return a is b or (np.shape(a) == np.shape(b) and np.asarray(a).tobytes() == np.asarray(b).tobytes())


def _same_params(a: Equation, b: Equation) -> bool:
    """Whether parameters agree; those that hold shapes may hold the batch size."""
    if a.params.keys() != b.params.keys():
        return False
    for name, value in a.params.items():
        other = b.params[name]
        if name in SHAPED and isinstance(value, tuple) and isinstance(other, tuple):
            differing = [pair for pair in zip(value, other, strict=False) if pair[0] != pair[1]]
            if len(value) != len(other) or differing not in ([], [SIZES]):
                return False
        elif repr(value) != repr(other):
            return False
    return True
