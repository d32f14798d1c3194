"""What convolutions and sliding windows mean over the reals; the windows' sizes are known numbers."""

from itertools import product
from typing import Any

from axiom_jax.verification.derivation_checker import FALSE
from axiom_jax.verification.domains.symbolic import scalars
from axiom_jax.verification.domains.symbolic.indexing import Affine, Index, affine, flat, number
from axiom_jax.verification.domains.symbolic.primitives import numbers, symbolic
from axiom_jax.verification.domains.symbolic.reductions import loops
from axiom_jax.verification.domains.symbolic.scalars import Scalar, conj
from axiom_jax.verification.domains.symbolic.tensors import Context, Step, Tensor, axes_of


def _within(i: Affine, size: Affine, context: Context) -> Any:
    compare = lambda name, a, b: scalars.compare(name, Scalar(a), Scalar(b), context.ranges).value
    return conj([compare("le", Affine(), i), compare("lt", i, size)])


def _undilated(i: Affine, gap: int) -> Affine | None:
    """The place in an array whose entries were set `gap` apart; None between them."""
    if gap == 1:
        return i
    quotient, rest = divmod(numbers(Scalar(i))[0], gap)
    return None if rest else Affine(quotient)


def _windowed(name: str, how: str) -> None:
    def rule(step: Step, x: Any) -> Tensor:
        x, params, context = step.lift(x), step.params, step.context
        sizes = [affine(size, context.ranges) for size in x.shape]
        low = [pair[0] for pair in params["padding"]]
        ways = loops(context)[how]

        def entry(*place: Index) -> Scalar:
            corner = [flat(i) * s - p for i, s, p in zip(place, params["window_strides"], low, strict=True)]
            parts = []
            for offsets in product(*map(range, params["window_dimensions"])):
                moved = [_undilated(c + o * d, b) for c, o, d, b in zip(
                    corner, offsets, params["window_dilation"], params["base_dilation"], strict=True)]  # fmt: skip
                full = [i for i in moved if i is not None]
                if len(full) < len(moved):
                    continue
                inside = conj([_within(i, n, context) for i, n in zip(full, sizes, strict=True)])
                if inside is not FALSE:
                    parts.append(scalars.select(Scalar(inside), x.at(*full), ways[1]([])))
            return ways[1](parts)

        return step.make(axes_of(step.shape), entry)

    symbolic.define(name, rule)


_windowed("reduce_window_sum", "sum")
_windowed("reduce_window_max", "max")
_windowed("reduce_window_min", "min")


@symbolic.rule("conv_general_dilated")
def _conv(step: Step, x: Any, kernel: Any) -> Tensor:
    """Source: the XLA operation semantics of ConvWithGeneralPadding."""
    x, kernel, params, context = step.lift(x), step.lift(kernel), step.params, step.context
    dims = params["dimension_numbers"]
    (batch, feature, *space), (out, inner, *taps), (row, channel, *spread) = dims
    groups, batches = params["feature_group_count"], params["batch_group_count"]
    sizes = [affine(x.shape[k], context.ranges) for k in space]
    window = [int(kernel.shape[k]) for k in taps]
    ways = loops(context)["sum"]

    def entry(*place: Index) -> Scalar:
        here, made = place[row], place[channel]
        if groups == batches == 1:
            first, image = Affine(), here
        else:
            made = Affine(number(made))
            per_group = int(kernel.shape[out]) // (groups if groups > 1 else batches)
            group = int(made.const) // per_group
            first = Affine(group * int(kernel.shape[inner])) if groups > 1 else Affine()
            image = flat(here) if groups > 1 else flat(here) + affine(step.shape[row]) * group
        parts = []
        for offsets in product(*map(range, window)):
            full: dict[int, Index] = {batch: image}
            moved = []
            for k, o in enumerate(offsets):
                at = flat(place[spread[k]]) * params["window_strides"][k] + o * params["rhs_dilation"][k]
                moved.append(_undilated(at - params["padding"][k][0], params["lhs_dilation"][k]))
            found = [i for i in moved if i is not None]
            if len(found) < len(moved):
                continue
            inside = conj([_within(i, n, context) for i, n in zip(found, sizes, strict=True)])
            if inside is FALSE:
                continue
            full.update(zip(space, found, strict=True))
            tap: dict[int, Index] = {out: made, **dict(zip(taps, map(Affine, offsets), strict=True))}

            def body(c: Index, full: Any = full, tap: Any = tap) -> Scalar:
                left, right = {**full, feature: first + flat(c)}, {**tap, inner: c}
                a = x.at(*(left[k] for k in range(len(x.axes))))
                return scalars.mul(a, kernel.at(*(right[k] for k in range(len(kernel.axes)))))

            total = step.loop(kernel.axes[inner], ("conv", offsets), body, *ways)
            parts.append(scalars.select(Scalar(inside), total, scalars.constant(0)))
        return ways[1](parts)

    return step.make(axes_of(step.shape), entry)
