"""What JAX's reductions, scans along an axis and contractions mean over the reals, at any size."""

from collections.abc import Callable, Sequence
from typing import Any

from axiom_jax.verification import derivation_checker as kernel
from axiom_jax.verification.derivation_checker import FALSE
from axiom_jax.verification.domains.symbolic import scalars
from axiom_jax.verification.domains.symbolic.indexing import (
    Affine,
    Index,
    NeedsConcrete,
    Unexpressible,
    affine,
    flat,
    is_number,
)
from axiom_jax.verification.domains.symbolic.primitives import symbolic
from axiom_jax.verification.domains.symbolic.scalars import Chosen, Scalar, conj, disj, negation
from axiom_jax.verification.domains.symbolic.tensors import Axis, Context, Step, Tensor

MAX_SORTED = 8
Loop = tuple[Callable[..., Scalar] | None, Callable[[Sequence[Scalar]], Scalar]]


def loops(context: Context) -> dict[str, Loop]:
    """Each way to fold an axis: with an index that stays symbolic, and of all entries."""

    def bound(name: str, size: Affine, body: Scalar) -> dict[str, Any]:
        infinite = {
            "pinf": context.any(name, size, body.pinf),
            "ninf": context.any(name, size, body.ninf),
        }
        return {**infinite, "defined": context.each(name, size, body.defined)}

    def total(name: str, size: Affine, body: Scalar) -> Scalar:
        if isinstance(body.value, Affine) and body.value.constant and context.ranges.nonnegative(size):
            value: Any = size * body.value.const
        else:
            value = kernel.total(name, scalars.index(size), scalars.term(body.value))
        marks = bound(name, size, body)
        clash = negation(conj([marks["pinf"], marks["ninf"]]))
        return Scalar(value, marks["pinf"], marks["ninf"], scalars.union(marks["defined"], (clash,)))

    def largest(name: str, size: Affine, body: Scalar) -> Scalar:
        marks, extent = bound(name, size, body), scalars.index(size)
        empty = scalars.compare("le", Scalar(size), Scalar(Affine()), context.ranges).value
        value = scalars.term(body.value)
        if body.ninf is not FALSE:  # what is -∞ takes the least of all values, so that the others decide
            value = kernel.ite(body.ninf, kernel.bigmin(name, extent, value), value)
        none = kernel.every(name, extent, body.ninf) if body.ninf is not FALSE else FALSE
        value = kernel.bigmax(name, extent, value) if name in value.free else value
        return Scalar(value, marks["pinf"], disj([none, empty]), marks["defined"])

    def smallest(name: str, size: Affine, body: Scalar) -> Scalar:
        return scalars.neg(largest(name, size, scalars.neg(body)))

    def everywhere(name: str, size: Affine, body: Scalar) -> Scalar:
        parts = body.value.args if body.value.op == "and" else (body.value,)
        return Scalar(conj(context.each(name, size, parts)), defined=context.each(name, size, body.defined))

    def somewhere(name: str, size: Affine, body: Scalar) -> Scalar:
        return Scalar(context.any(name, size, body.value), defined=context.each(name, size, body.defined))

    return {
        "sum": (total, lambda parts: scalars.add(*parts) if parts else scalars.constant(0)),
        "prod": (None, lambda parts: _folded(scalars.mul, parts, scalars.constant(1))),
        "max": (largest, lambda parts: _folded(scalars.maximum, parts, Scalar(Affine(), ninf=kernel.TRUE))),
        "min": (smallest, lambda parts: _folded(scalars.minimum, parts, Scalar(Affine(), pinf=kernel.TRUE))),
        "and": (everywhere, lambda parts: _joined(conj, parts)),
        "or": (somewhere, lambda parts: _joined(disj, parts)),
    }


def _folded(make: Callable[[Scalar, Scalar], Scalar], parts: Sequence[Scalar], empty: Scalar) -> Scalar:
    result = parts[0] if parts else empty
    for part in parts[1:]:
        result = make(result, part)
    return result


def _joined(make: Callable[..., Any], parts: Sequence[Scalar]) -> Scalar:
    return Scalar(make([p.value for p in parts]), defined=scalars.union(*(p.defined for p in parts)))


def folded(step: Step, x: Tensor, axes: Sequence[int], how: str) -> Tensor:
    """A reduction over some axes."""
    if how in ("and", "or") and step.kind != "bool":
        raise Unexpressible("the bits of integers, folded")
    axes = sorted(axes)
    kept = [k for k in range(len(x.axes)) if k not in axes]
    ways = loops(step.context)[how]

    def entry(*place: Index) -> Scalar:
        full: dict[int, Index] = dict(zip(kept, place, strict=True))

        def inner(k: int) -> Scalar:
            if k == len(axes):
                return x.at(*(full[j] for j in range(len(x.axes))))

            def body(i: Index) -> Scalar:
                full[axes[k]] = i
                return inner(k + 1)

            return step.loop(x.axes[axes[k]], ("fold", k), body, *ways)

        return inner(0)

    return step.make([x.axes[k] for k in kept], entry)


def _reduction(name: str, how: str) -> None:
    symbolic.define(name, lambda step, x: folded(step, step.lift(x), step.params["axes"], how))


for _how in ("sum", "prod", "max", "min", "and", "or"):
    _reduction(f"reduce_{_how}", _how)


@symbolic.rule("argmax", "argmin")
def _argmax(step: Step, x: Any) -> Tensor:
    """The first index where x is largest, as a condition that only this index meets."""
    x, (along,), context = step.lift(x), step.params["axes"], step.context
    size, largest = x.axes[along].size, step.equation.name == "argmax"
    extent = affine(size, context.ranges)
    kept = [axis for k, axis in enumerate(x.axes) if k != along]

    def entry(*place: Index) -> Scalar:
        def at(i: Index) -> Scalar:
            found = scalars.finite(x.at(*place[:along], i, *place[along:]))
            if x.kind == "bool":
                return Scalar(scalars.one_of(found.value, Affine(1), Affine()), defined=found.defined)
            return found

        if extent == Affine(1):
            return scalars.constant(0)
        ways = loops(context)["and"]

        def holds(k: Affine) -> Any:
            def not_above(i: Affine) -> Scalar:
                a, b = (at(i), at(k)) if largest else (at(k), at(i))
                return scalars.compare("le", a, b, context.ranges)

            def below(i: Affine) -> Scalar:
                a, b = (at(i), at(k)) if largest else (at(k), at(i))
                return scalars.compare("lt", a, b, context.ranges)

            all_of = context.over(step.name("all"), size, not_above, *ways)
            before = context.over(step.name("before"), k, below, *ways, bound=size)
            return conj([all_of.value, before.value])

        needed = context.over(step.name("needed"), size, lambda i: Scalar(kernel.TRUE, defined=at(i).defined), *ways)
        return Scalar(Chosen(lambda: context.fresh("c"), extent, holds), defined=needed.defined)

    return step.make(kept, entry)


def _prefix(step: Step, x: Tensor, how: str, wrap: Callable[[Scalar], Scalar] = lambda s: s,
            after: Callable[[Scalar], Scalar] = lambda s: s) -> Tensor:  # fmt: skip
    """A running fold along an axis: of the first i + 1 entries, or of those from i on if it is reversed."""
    along, reverse, context = step.params["axis"], step.params["reverse"], step.context
    size = affine(x.axes[along].size, context.ranges)
    ways = loops(context)[how]

    def entry(*place: Index) -> Scalar:
        here = flat(place[along])
        length, start = (size - here, here) if reverse else (here + 1, Affine())
        body = lambda i: wrap(x.at(*place[:along], start + i, *place[along + 1 :]))
        return after(context.over(step.name("prefix"), length, body, *ways, bound=size))

    axes = [Axis(a.size) if k == along else a for k, a in enumerate(x.axes)]
    return step.make(axes, entry)


symbolic.define("cumsum", lambda step, x: _prefix(step, step.lift(x), "sum"))
symbolic.define("cumprod", lambda step, x: _prefix(step, step.lift(x), "prod"))
symbolic.define("cummax", lambda step, x: _prefix(step, step.lift(x), "max"))
symbolic.define("cummin", lambda step, x: _prefix(step, step.lift(x), "min"))
symbolic.define("cumlogsumexp", lambda step, x: _prefix(step, step.lift(x), "sum", scalars.exp, scalars.log))


@symbolic.rule("dot_general")
def _dot_general(step: Step, x: Any, y: Any) -> Tensor:
    x, y = step.lift(x), step.lift(y)
    (x_sum, y_sum), (x_batch, y_batch) = step.params["dimension_numbers"]
    x_free = [k for k in range(len(x.axes)) if k not in (*x_sum, *x_batch)]
    y_free = [k for k in range(len(y.axes)) if k not in (*y_sum, *y_batch)]
    axes = [*(x.axes[k] for k in x_batch), *(x.axes[k] for k in x_free), *(y.axes[k] for k in y_free)]
    shared = [max((x.axes[i], y.axes[j]), key=lambda a: (len(a.digits), len(a.cuts)))
              for i, j in zip(x_sum, y_sum, strict=True)]  # fmt: skip
    ways = loops(step.context)["sum"]

    def entry(*place: Index) -> Scalar:
        batch, rest = place[: len(x_batch)], place[len(x_batch) :]
        left = {**dict(zip(x_batch, batch, strict=True)), **dict(zip(x_free, rest, strict=False))}
        right = {**dict(zip(y_batch, batch, strict=True)), **dict(zip(y_free, rest[len(x_free) :], strict=True))}

        def inner(k: int) -> Scalar:
            if k == len(shared):
                a = x.at(*(left[j] for j in range(len(x.axes))))
                return scalars.mul(a, y.at(*(right[j] for j in range(len(y.axes)))))

            def body(i: Index) -> Scalar:
                left[x_sum[k]] = right[y_sum[k]] = i
                return inner(k + 1)

            return step.loop(shared[k], ("dot", k), body, *ways)

        return inner(0)

    return step.make(axes, entry)


@symbolic.rule("sort")
def _sort(step: Step, *xs: Any) -> list[Tensor]:
    """A few numbers by a network of minima and maxima (odd-even transposition)."""
    first, *others = xs
    if others:
        raise Unexpressible("sorting by keys")
    x, along = step.lift(first), step.params["dimension"] % len(step.shape)
    size = x.axes[along].size
    if not is_number(size) or size > MAX_SORTED:
        raise Unexpressible(f"sorting more than {MAX_SORTED} numbers")

    def entry(*place: Index) -> Scalar:
        lane = [x.at(*place[:along], Affine(k), *place[along + 1 :]) for k in range(size)]
        for turn in range(size):
            for k in range(turn % 2, size - 1, 2):
                lane[k : k + 2] = scalars.minimum(*lane[k : k + 2]), scalars.maximum(*lane[k : k + 2])
        here = flat(place[along])
        if not here.constant:
            raise NeedsConcrete(here.terms[0][0])
        return lane[int(here.const)]

    return [step.make(x.axes, entry)]
