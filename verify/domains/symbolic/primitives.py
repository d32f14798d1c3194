"""What JAX's elementwise and shape primitives mean over the reals; reductions, contractions and lookups are beside.

A rule takes the step (its context, parameters and output) and the operands: tensors, or known arrays. Literals are the
floating-point values that the program holds; what has no exact meaning raises `Unexpressible`.
"""

import operator
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any

from axiom_jax._domain import Domain
from axiom_jax.verification import derivation_checker as kernel
from axiom_jax.verification.derivation_checker import FALSE, TRUE
from axiom_jax.verification.domains.symbolic import scalars
from axiom_jax.verification.domains.symbolic.indexing import (
    Affine,
    NeedsConcrete,
    Rational,
    Unexpressible,
    affine,
    blocks,
    flat,
    is_number,
    joined,
    polynomial,
    same,
    split,
)
from axiom_jax.verification.domains.symbolic.scalars import Scalar, constant
from axiom_jax.verification.domains.symbolic.tensors import (
    Axis,
    Step,
    Tensor,
    axes_of,
    cases,
    merged_axes,
    shifted_cuts,
)

symbolic = Domain("symbolic", Tensor)


def entrywise(step: Step, operands: Sequence[Any], make: Callable[..., Scalar]) -> Tensor:
    """The result whose entries are made from the operands' entries at the same place; scalars serve everywhere."""
    tensors = [step.lift(x) for x in operands]
    entry = lambda *place: make(*(t.at(*(place if t.axes else ())) for t in tensors))
    return step.make(merged_axes(tensors, step.shape), entry)


def elementwise(name: str, make: Callable[..., Scalar], integer: Callable[..., Scalar] | None = None) -> None:
    """A primitive by its meaning on entries; `integer` where it means something else on integers."""

    def rule(step: Step, *operands: Any) -> Tensor:
        whole = integer is not None and step.lift(operands[0]).kind == "int"
        return entrywise(step, operands, integer if whole and integer is not None else make)

    symbolic.define(name, rule)


def uninterpreted(name: str, needed: Callable[[Scalar], Sequence[Scalar]] = lambda a: ()) -> None:
    """A function of which the kernel knows nothing: what is proved with it holds for every function."""

    def make(*entries: Scalar) -> Scalar:
        entries = tuple(map(scalars.finite, entries))
        conditions = tuple(c.value for c in needed(entries[0]) if c.value is not TRUE)
        value = kernel.apply(name, *(scalars.term(e.value) for e in entries))
        return Scalar(value, defined=scalars.union(*(e.defined for e in entries), conditions))

    elementwise(name, make)


def numbers(*entries: Scalar) -> list[int]:
    """Integers that have to be known; the index that one depends on is asked for."""
    found = []
    for entry in entries:
        if not isinstance(entry.value, Affine) or not entry.value.integral:
            raise Unexpressible("integer arithmetic on unknown integers")
        for name, _ in entry.value.terms:
            if name[0] == "@":
                raise NeedsConcrete(name)
            raise Unexpressible("integer arithmetic on unknown sizes")
        found.append(int(entry.value.const))
    return found


def on_numbers(function: Callable[..., int]) -> Callable[..., Scalar]:
    return lambda *entries: constant(int(function(*numbers(*entries))))


def _truncated(a: int, b: int) -> int:
    if not b:
        raise Unexpressible("integer division by zero")
    return abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1)


def _remainder(a: int, b: int) -> int:
    return a - b * _truncated(a, b)


def _known(function: Callable[[Rational], int], name: str) -> Callable[[Scalar], Scalar]:
    """Rounding of numbers and integers; elsewhere a function of which nothing is known."""

    def make(a: Scalar) -> Scalar:
        a = scalars.finite(a)
        if isinstance(a.value, Affine) and a.value.integral:
            return a
        if a.number is not None:
            return constant(function(a.number))
        return Scalar(kernel.apply(name, scalars.term(a.value)), defined=a.defined)

    return make


# Arithmetic

elementwise("add", scalars.add)
elementwise("add_any", scalars.add)
elementwise("sub", scalars.sub)
elementwise("mul", scalars.mul)
elementwise("neg", scalars.neg)
elementwise("div", scalars.div, on_numbers(_truncated))
elementwise("max", scalars.maximum)
elementwise("min", scalars.minimum)
elementwise("abs", scalars.absolute)
elementwise("sign", scalars.sign)
elementwise("square", lambda a: scalars.power(a, 2))
elementwise("one_minus_square", lambda a: scalars.sub(scalars.ONE, scalars.power(a, 2)))  # from jax 0.12 on
elementwise("pow", scalars.real_power)
elementwise("exp", scalars.exp)
elementwise("exp2", lambda a: scalars.exp(scalars.mul(a, scalars.log(constant(2)))))
elementwise("expm1", lambda a: scalars.sub(scalars.exp(a), scalars.ONE))
elementwise("log", scalars.log)
elementwise("log1p", lambda a: scalars.log(scalars.add(scalars.ONE, a)))
elementwise("sqrt", scalars.sqrt)
elementwise("rsqrt", lambda a: scalars.reciprocal(scalars.sqrt(a)))
elementwise("cbrt", scalars.cbrt)
elementwise("logistic", scalars.logistic)
elementwise("tanh", scalars.tanh)
elementwise("erf", scalars.erf)
elementwise("erfc", lambda a: scalars.sub(scalars.ONE, scalars.erf(a)))
elementwise("sin", scalars.sin)
elementwise("cos", scalars.cos)
elementwise("tan", lambda a: scalars.div(scalars.sin(a), scalars.cos(a)))
elementwise("is_finite", scalars.is_finite)


def _halved(sign: int) -> Callable[[Scalar], Scalar]:
    """(e^a ± e^-a) / 2."""
    parts = lambda a: scalars.add(scalars.exp(a), scalars.mul(constant(sign), scalars.exp(scalars.neg(a))))
    return lambda a: scalars.mul(scalars.HALF, parts(scalars.finite(a)))


def _inverse_hyperbolic(sign: int) -> Callable[[Scalar], Scalar]:
    """log(a + √(a² ± 1))."""
    return lambda a: scalars.log(scalars.add(a, scalars.sqrt(scalars.add(scalars.power(a, 2), constant(sign)))))


def _atanh(a: Scalar) -> Scalar:
    ends = scalars.log(scalars.add(scalars.ONE, a)), scalars.log(scalars.sub(scalars.ONE, a))
    return scalars.mul(scalars.HALF, scalars.sub(*ends))


elementwise("sinh", _halved(-1))
elementwise("cosh", _halved(1))
elementwise("asinh", _inverse_hyperbolic(1))
elementwise("acosh", _inverse_hyperbolic(-1))
elementwise("atanh", _atanh)
elementwise("floor", _known(lambda x: x.__floor__(), "floor"))
elementwise("ceil", _known(lambda x: x.__ceil__(), "ceil"))


def _between(lo: int, hi: int, strict: bool) -> Callable[[Scalar], Sequence[Scalar]]:
    """The condition that an argument lies between two numbers."""
    name, nothing = ("lt" if strict else "le"), scalars.Ranges()
    compare = lambda a, b: scalars.compare(name, a, b, nothing)
    return lambda a: [compare(constant(lo), a), compare(a, constant(hi))]


def _plainly_positive(a: Scalar, name: str) -> Sequence[Scalar]:
    """Nothing, where an argument is positive whatever it depends on: elsewhere poles lie between finite values."""
    if scalars.sign_of(a.value) < 2:
        raise Unexpressible(f"{name} of what may be negative")
    return ()


uninterpreted("atan")
uninterpreted("asin", _between(-1, 1, False))
uninterpreted("acos", _between(-1, 1, False))
uninterpreted("erf_inv", _between(-1, 1, True))
uninterpreted("lgamma", lambda a: _plainly_positive(a, "lgamma"))
uninterpreted("digamma", lambda a: _plainly_positive(a, "digamma"))
uninterpreted("bessel_i0e")
uninterpreted("bessel_i1e")


@symbolic.rule("integer_pow")
def _integer_pow(step: Step, x: Any) -> Tensor:
    return entrywise(step, [x], lambda a: scalars.power(a, step.params["y"]))


@symbolic.rule("round")
def _round(step: Step, x: Any) -> Tensor:
    even = int(step.params["rounding_method"]) == 1
    away = lambda q: int(abs(q) + Fraction(1, 2)) * (1 if q > 0 else -1)
    rounded = _known(round if even else away, "round_even" if even else "round_away")
    return entrywise(step, [x], rounded)


@symbolic.rule("rem")
def _rem(step: Step, x: Any, y: Any) -> Tensor:
    if step.kind != "int":
        raise Unexpressible("remainders of reals")
    return entrywise(step, [x, y], on_numbers(_remainder))


@symbolic.rule("clamp")
def _clamp(step: Step, lo: Any, x: Any, hi: Any) -> Tensor:
    return entrywise(step, [lo, x, hi], lambda a, b, c: scalars.minimum(scalars.maximum(b, a), c))


@symbolic.rule("reduce_precision")
def _reduce_precision(step: Step, x: Any) -> Tensor:
    if step.params["exponent_bits"] < 8 or step.params["mantissa_bits"] < 23:
        raise Unexpressible("rounding to fewer bits than float32 has")
    return step.lift(x)


@symbolic.rule("device_put")
def _same(step: Step, *xs: Any) -> Any:
    results = [step.lift(x) for x in xs]
    return results if step.equation.primitive.multiple_results else results[0]


# Comparisons and booleans


def _comparison(name: str) -> None:
    def rule(step: Step, x: Any, y: Any) -> Tensor:
        if step.lift(x).kind == "bool":
            return entrywise(step, [x, y], lambda a, b: _boolean(BOOLEAN[name], a, b))
        return entrywise(step, [x, y], lambda a, b: scalars.compare(name, a, b, step.context.ranges))

    symbolic.define(name, rule)


def _boolean(make: Callable[..., Any], *entries: Scalar) -> Scalar:
    if make in (BOOLEAN["and"], BOOLEAN["or"]):
        return _decided_early(make, *entries)
    return Scalar(make(*(e.value for e in entries)), defined=scalars.union(*(e.defined for e in entries)))


def _decided_early(make: Callable[..., Any], a: Scalar, b: Scalar) -> Scalar:
    """`or` and `and` as Kleene's: one part that is defined and decides is enough, whatever the other part needs."""
    deciding = (lambda v: v) if make is BOOLEAN["or"] else scalars.negation

    def needed(own: Scalar, other: Scalar) -> tuple[Any, ...]:
        enough = scalars.conj([*other.defined, deciding(other.value)])
        return tuple(f for d in own.defined if (f := scalars.disj([d, enough])) is not TRUE)

    return Scalar(make(a.value, b.value), defined=scalars.union(needed(a, b), needed(b, a)))


BOOLEAN: dict[str, Callable[..., Any]] = {
    "eq": lambda a, b: scalars.choice(a, b, scalars.negation(b)),
    "ne": lambda a, b: scalars.choice(a, scalars.negation(b), b),
    "lt": lambda a, b: scalars.conj([scalars.negation(a), b]),
    "gt": lambda a, b: scalars.conj([a, scalars.negation(b)]),
    "le": lambda a, b: scalars.implication(a, b),
    "ge": lambda a, b: scalars.implication(b, a),
    "and": lambda a, b: scalars.conj([a, b]),
    "or": lambda a, b: scalars.disj([a, b]),
    "xor": lambda a, b: scalars.choice(a, scalars.negation(b), b),
    "not": lambda a: scalars.negation(a),
}
for _name in ("eq", "ne", "lt", "le", "gt", "ge"):
    _comparison(_name)


def _connective(name: str, integers: Callable[..., int]) -> None:
    def rule(step: Step, *xs: Any) -> Tensor:
        if step.kind == "bool":
            return entrywise(step, xs, lambda *es: _boolean(BOOLEAN[name], *es))
        return entrywise(step, xs, on_numbers(integers))

    symbolic.define(name, rule)


_connective("and", operator.and_)
_connective("or", operator.or_)
_connective("xor", operator.xor)
_connective("not", lambda a: ~a)


@symbolic.rule("select_n")
def _select_n(step: Step, which: Any, *choices: Any) -> Tensor:
    which = step.lift(which)
    boolean = step.kind == "bool"

    def make(chosen: Scalar, *entries: Scalar) -> Scalar:
        if which.kind == "bool":
            return scalars.select(chosen, entries[1], entries[0], boolean)
        result = entries[-1]
        for k in reversed(range(len(entries) - 1)):
            this = scalars.compare("eq", chosen, constant(k), step.context.ranges)
            result = scalars.select(this, entries[k], result, boolean)
        return result

    return entrywise(step, [which, *choices], make)


@symbolic.rule("convert_element_type")
def _convert(step: Step, x: Any) -> Tensor:
    source, target = step.lift(x).kind, step.kind

    def make(a: Scalar) -> Scalar:
        if source == "bool" and target != "bool":
            return Scalar(scalars.one_of(a.value, Affine(1), Affine()), defined=a.defined)
        if target == "bool" and source != "bool":
            return scalars.compare("ne", a, constant(0), step.context.ranges)
        if source == "real" and target == "int" and not (isinstance(a.value, Affine) and a.value.integral):
            if a.number is None or not a.finite:
                raise Unexpressible("the integer part of a real")
            return constant(int(a.number))
        return a

    return entrywise(step, [x], make)


# Sizes and places


@symbolic.rule("dim_as_value")
def _dim_as_value(step: Step) -> Tensor:
    dim, ranges = step.params["dim"], step.context.ranges
    parts = polynomial(dim, ranges)
    if all(len(names) <= 1 for names in parts):
        value = Scalar(affine(dim, ranges))
    else:
        products = [kernel.mul(c, *map(kernel.integer, names)) for names, c in parts.items()]
        value = Scalar(kernel.add(*products))
    return step.make((), lambda: value)


@symbolic.rule("iota")
def _iota(step: Step) -> Tensor:
    along = step.params["dimension"]
    return step.make(axes_of(step.shape), lambda *place: Scalar(flat(place[along])))


@symbolic.rule("broadcast_in_dim")
def _broadcast_in_dim(step: Step, x: Any, *sizes: Any) -> Tensor:
    x, places = step.lift(x), step.params["broadcast_dimensions"]
    axes = list(axes_of(step.shape))
    stretched = []
    for axis, place in zip(x.axes, places, strict=True):
        stretched.append(not same(axis.size, axes[place].size))
        if not stretched[-1]:
            axes[place] = axis
    pick = list(zip(places, stretched, strict=True))
    return step.make(axes, lambda *place: x.at(*(Affine() if wide else place[k] for k, wide in pick)))


@symbolic.rule("squeeze")
def _squeeze(step: Step, x: Any) -> Tensor:
    x = step.lift(x)
    dropped = {d % len(x.axes) for d in step.params["dimensions"]}
    kept = [k for k in range(len(x.axes)) if k not in dropped]

    def entry(*place: Any) -> Scalar:
        full: list[Any] = [Affine()] * len(x.axes)
        for k, i in zip(kept, place, strict=True):
            full[k] = i
        return x.at(*full)

    return step.make([x.axes[k] for k in kept], entry)


@symbolic.rule("expand_dims")
def _expand_dims(step: Step, x: Any) -> Tensor:
    x = step.lift(x)
    added = {d % len(step.shape) for d in step.params["dimensions"]}
    kept = [k for k in range(len(step.shape)) if k not in added]
    axes = list(axes_of(step.shape))
    for axis, k in zip(x.axes, kept, strict=True):
        axes[k] = axis
    return step.make(axes, lambda *place: x.at(*(place[k] for k in kept)))


@symbolic.rule("reshape")
def _reshape(step: Step, x: Any, *sizes: Any) -> Tensor:
    x = step.lift(x)
    groups = blocks(x.shape, step.shape)
    axes = list(axes_of(step.shape))
    for old, new in groups:
        large_old = [k for k in old if not _single(x.axes[k].size)]
        large_new = [k for k in new if not _single(step.shape[k])]
        if len(large_new) == 1 and len(large_old) == 1:
            axes[large_new[0]] = x.axes[large_old[0]]
        elif len(large_new) == 1 and large_old:
            digits = [d for k in large_old for d in (x.axes[k].digits or (x.axes[k].size,))]
            axes[large_new[0]] = Axis(step.shape[large_new[0]], tuple(digits))

    def entry(*place: Any) -> Scalar:
        full: list[Any] = [Affine()] * len(x.axes)
        for old, new in groups:
            whole = joined([(place[k], step.shape[k]) for k in new])
            for k, i in zip(old, split(whole, [x.axes[k].size for k in old]), strict=True):
                full[k] = i
        return x.at(*full)

    return step.make(axes, entry)


def _single(size: Any) -> bool:
    return is_number(size) and size == 1


@symbolic.rule("transpose")
def _transpose(step: Step, x: Any) -> Tensor:
    x, order = step.lift(x), step.params["permutation"]
    back = {k: place for place, k in enumerate(order)}
    return step.make([x.axes[k] for k in order], lambda *place: x.at(*(place[back[k]] for k in range(len(order)))))


@symbolic.rule("rev")
def _rev(step: Step, x: Any) -> Tensor:
    x, turned = step.lift(x), {d % len(step.shape) for d in step.params["dimensions"]}
    sizes = {k: affine(x.axes[k].size, step.context.ranges) for k in turned}
    axes = list(x.axes)
    for k in turned:
        axes[k] = Axis(axes[k].size, (), tuple(sizes[k] - cut for cut in reversed(axes[k].cuts)))
    turn = lambda k, i: sizes[k] - 1 - flat(i) if k in turned else i
    return step.make(axes, lambda *place: x.at(*(turn(k, i) for k, i in enumerate(place))))


@symbolic.rule("slice")
def _slice(step: Step, x: Any) -> Tensor:
    x = step.lift(x)
    starts = [affine(s, step.context.ranges) for s in step.params["start_indices"]]
    strides = step.params["strides"] or (1,) * len(starts)
    axes = []
    for axis, start, stride, size in zip(x.axes, starts, strides, step.shape, strict=True):
        whole = start == Affine() and same(axis.size, size)
        cuts = shifted_cuts(axis, start, size, step.context) if stride == 1 else ()
        axes.append(axis if whole and stride == 1 else Axis(size, (), cuts))
    move = lambda k, i: i if axes[k] is x.axes[k] else flat(i) * int(strides[k]) + starts[k]
    return step.make(axes, lambda *place: x.at(*(move(k, i) for k, i in enumerate(place))))


@symbolic.rule("concatenate")
def _concatenate(step: Step, *xs: Any) -> Tensor:
    along, context = step.params["dimension"], step.context
    tensors = [step.lift(x) for x in xs]
    ends: list[Affine] = []
    for t in tensors:
        ends.append((ends[-1] if ends else Affine()) + affine(t.axes[along].size, context.ranges))
    starts = [Affine(), *ends[:-1]]
    axes = list(merged_axes([t for t in tensors], step.shape))
    axes[along] = Axis(step.shape[along], (), tuple(ends[:-1]))

    def entry(*place: Any) -> Scalar:
        i = flat(place[along])
        inside = lambda t, start: t.at(*place[:along], i - start, *place[along + 1 :])
        pieces = [lambda t=t, s=s: inside(t, s) for t, s in zip(tensors, starts, strict=True)]
        return cases(i, ends[:-1], pieces, context, step.kind == "bool")

    return step.make(axes, entry)


@symbolic.rule("stack")
def _stack(step: Step, *xs: Any) -> Tensor:
    along, tensors = step.params["axis"], [step.lift(x) for x in xs]
    axes = list(merged_axes(tensors, tensors[0].shape))
    axes.insert(along, Axis(step.shape[along]))
    cuts = [Affine(k + 1) for k in range(len(tensors) - 1)]

    def entry(*place: Any) -> Scalar:
        rest = place[:along], place[along + 1 :]
        pieces = [lambda t=t: t.at(*rest[0], *rest[1]) for t in tensors]
        return cases(flat(place[along]), cuts, pieces, step.context, step.kind == "bool")

    return step.make(axes, entry)


@symbolic.rule("unstack")
def _unstack(step: Step, x: Any) -> list[Tensor]:
    x, along = step.lift(x), step.params["axis"]
    axes = [axis for k, axis in enumerate(x.axes) if k != along]
    row = lambda k: lambda *place: x.at(*place[:along], Affine(k), *place[along:])
    return [step.make(axes, row(k)) for k in range(len(step.equation.outputs))]


@symbolic.rule("tile")
def _tile(step: Step, x: Any) -> Tensor:
    """An index into repeated copies has two digits: the copy, and the place in it."""
    x, times = step.lift(x), step.params["reps"]
    axes = []
    for axis, repeats, size in zip(x.axes, times, step.shape, strict=True):
        digits = (repeats, *(axis.digits or (axis.size,)))
        axes.append(axis if repeats == 1 else Axis(size, tuple(d for d in digits if not _single(d))))
    pick = lambda k, i: i if times[k] == 1 else split(i, [times[k], x.shape[k]])[1]
    return step.make(axes, lambda *place: x.at(*(pick(k, i) for k, i in enumerate(place))))


@symbolic.rule("split")
def _split(step: Step, x: Any) -> list[Tensor]:
    x, along, results, start = step.lift(x), step.params["axis"], [], Affine()
    for size in step.params["sizes"]:
        axes = list(x.axes)
        axes[along] = Axis(size, (), shifted_cuts(x.axes[along], start, size, step.context))
        move = lambda *place, s=start: x.at(*place[:along], flat(place[along]) + s, *place[along + 1 :])
        results.append(step.make(axes, move))
        start = start + affine(size, step.context.ranges)
    return results


@symbolic.rule("pad")
def _pad(step: Step, x: Any, filling: Any) -> Tensor:
    x, filling, context = step.lift(x), step.lift(filling), step.context
    config = [tuple(affine(part, context.ranges) for part in parts) for parts in step.params["padding_config"]]
    sizes = [affine(size, context.ranges) for size in x.shape]
    touched = [any(part != Affine() for part in parts) for parts in config]
    axes = [Axis(n) if t else axis for axis, n, t in zip(x.axes, step.shape, touched, strict=True)]
    for k, (low, high, gap) in enumerate(config):
        if touched[k] and gap == Affine() and all(context.ranges.nonnegative(e) for e in (low, high)):
            cuts = [*([low] if low != Affine() else []), *([low + sizes[k]] if high != Affine() else [])]
            axes[k] = Axis(step.shape[k], (), tuple(cuts))

    def entry(*place: Any) -> Scalar:
        inside, moved = TRUE, []
        for k, i in enumerate(place):
            low, _, gap = config[k]
            if not touched[k]:
                moved.append(i)
                continue
            i = flat(i) - low
            if gap != Affine():
                quotient, rest = divmod(numbers(Scalar(i))[0], 1 + int(gap.const))
                i = Affine(quotient) if not rest else Affine(-1)
            compare = lambda name, a, b: scalars.compare(name, Scalar(a), Scalar(b), context.ranges).value
            inside = scalars.conj([inside, compare("le", Affine(), i), compare("lt", i, sizes[k])])
            moved.append(i)
        if inside is FALSE:
            return filling.at()
        return scalars.select(Scalar(inside), x.at(*moved), filling.at(), step.kind == "bool")

    return step.make(axes, entry)
