"""Arrays as functions from indices to entries, and the loops over their axes.

Nothing is computed before an entry is asked for, so broadcasting, transposing and reshaping cost nothing. A loop
(`Context.over`) keeps its index symbolic unless something inside has to know its number.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np

from axiom_jax._program import Equation
from axiom_jax.verification import derivation_checker as kernel
from axiom_jax.verification.derivation_checker import FALSE
from axiom_jax.verification.domains.symbolic import scalars
from axiom_jax.verification.domains.symbolic.indexing import (
    Affine,
    Dim,
    Index,
    NeedsConcrete,
    Ranges,
    Rational,
    Unexpressible,
    affine,
    flat,
    is_number,
    joined,
    number,
)
from axiom_jax.verification.domains.symbolic.scalars import Formula, Scalar

MAX_ENTRIES = 25_000  # looked up in one translation
MAX_UNROLLED = 1024  # values of one loop
LARGE = 1024  # sizes of unknown value are taken to be at most this where integers of 32 or more bits may wrap around
NARROW = 10**12  # and at most this, in effect without an end, for shorter integers
Ends = tuple[Rational, Rational]


@dataclass(frozen=True)
class Axis:
    """An axis: its size, the sizes of its digits if it was merged, and places where its meaning changes."""

    size: Dim
    digits: tuple[Dim, ...] = ()
    cuts: tuple[Affine, ...] = ()


class Context:
    """What one translation shares: ranges of indices, names, and how much has been asked for.

    Args:
        unroll: loops of at most this many values are written out.
    """

    def __init__(self, sizes: Sequence[str] = (), unroll: int = 3) -> None:
        self.ranges = Ranges()
        self.unroll = unroll
        self.expanded: set[str] = set()
        self.entries = 0
        self.count = 0
        self.enclosed: dict[tuple[Any, int], Ends | None] = {}

    def fresh(self, stem: str = "i") -> str:
        """A name of an index that nothing else has."""
        self.count += 1
        return f"@{stem}{self.count}"

    def spend(self) -> None:
        self.entries += 1
        if self.entries > MAX_ENTRIES:
            raise Unexpressible(f"more than {MAX_ENTRIES:,} entries")

    def over(
        self,
        name: str,
        size: Dim,
        body: Callable[[Affine], Scalar],
        symbolic: Callable[[str, Affine, Scalar], Scalar] | None,
        unrolled: Callable[[Sequence[Scalar]], Scalar],
        bound: Dim | None = None,
    ) -> Scalar:
        """A loop over 0, ..., size - 1, kept symbolic if it can be.

        Args:
            name: the index, one for each place in the program.
            symbolic: makes the loop from the name, the size and the body's entry; None if it has to be written out.
            unrolled: makes it from all entries.
            bound: what the size never exceeds, if the size itself depends on indices.
        """
        extent = affine(size, self.ranges)
        count = int(extent.const) if extent.constant else None
        if count is not None and count <= max(self.unroll, 1):
            return unrolled([body(Affine(k)) for k in range(count)])
        if symbolic is not None and name not in self.expanded:
            self.ranges.bounds[name] = extent if bound is None else affine(bound, self.ranges)
            try:
                return symbolic(name, extent, body(Affine.name(name)))
            except NeedsConcrete as needed:
                if needed.name != name:
                    raise
                self.expanded.add(name)
        if count is None:
            for outer, _ in extent.terms:
                if outer[0] == "@":
                    raise NeedsConcrete(outer)
            raise Unexpressible("every value of an index of unknown size would have to be gone through")
        if count > MAX_UNROLLED:
            raise Unexpressible(f"a loop of {count:,} values would have to be written out")
        return unrolled([body(Affine(k)) for k in range(count)])

    def nonempty(self, size: Affine) -> bool:
        return self.ranges.nonnegative(size - 1) is True

    def each(self, name: str, size: Affine, parts: Sequence[Formula]) -> tuple[Formula, ...]:
        """What is needed at every value of an index."""
        full = self.nonempty(size)
        free = lambda f: full and name not in f.free
        return tuple(f if free(f) else kernel.every(name, scalars.index(size), f) for f in parts)

    def any(self, name: str, size: Affine, part: Formula) -> Formula:
        if part is FALSE or (name not in part.free and self.nonempty(size)):
            return part
        return kernel.some(name, scalars.index(size), part)


class Tensor:
    """An array of unknown entries.

    Args:
        axes: its axes. kind: "real", "int" or "bool".
        entry: from a tuple of indices to a `Scalar`.
    """

    def __init__(self, context: Context, axes: Sequence[Axis], kind: str, entry: Callable[..., Scalar]) -> None:
        self.context, self.axes, self.kind = context, tuple(axes), kind
        self._entry = entry
        self._known: dict[tuple[Index, ...], Scalar] = {}

    @property
    def shape(self) -> tuple[Dim, ...]:
        return tuple(axis.size for axis in self.axes)

    def at(self, *place: Index) -> Scalar:
        """The entry at a place."""
        self.context.spend()
        found = self._known.get(place)
        if found is None:
            found = self._known[place] = self._entry(*place)
        return found


def axes_of(shape: Sequence[Dim]) -> tuple[Axis, ...]:
    """Plain axes of given sizes."""
    return tuple(Axis(size) for size in shape)


def kind_of(dtype: Any) -> str:
    """The kind "real", "int" or "bool"; what is neither is refused."""
    kind = getattr(dtype, "kind", None)
    if kind == "b":
        return "bool"
    if kind in ("i", "u"):
        return "int"
    name = str(dtype)
    if name.startswith(("float", "bfloat")):
        return "real"
    raise Unexpressible(f"values of type {name}")


def narrow(dtype: Any) -> bool:
    """Whether it is a type of reals with fewer bits than float32: its rounding is no matter of little.

    >>> narrow(np.dtype("float16")), narrow(np.dtype("float32")), narrow(np.dtype("int8"))
    (True, False, False)
    """
    return kind_of(dtype) == "real" and str(dtype) not in ("float32", "float64")


def fitting(entry: Scalar, dtype: Any, context: Context) -> Scalar:
    """An entry of integers, for which the reals' arithmetic may only stand where nothing wraps around.

    Sizes of unknown value are taken to be small (at most `LARGE`) in integers of 32 bits or more.

    Raises:
        Unexpressible: it has no enclosure within the type's ends.
    """
    limits = np.iinfo(dtype)
    if entry.value is not None and entry.finite:
        ends = enclosure(entry.value, context, LARGE if limits.bits >= 32 else NARROW)
        if ends is not None and limits.min <= ends[0] and ends[1] <= limits.max:
            return entry
    raise Unexpressible(f"integer arithmetic that may wrap around in {dtype}")


def enclosure(value: Any, context: Context, largest: int) -> Ends | None:
    """Two numbers between which an integer of the program lies, with sizes in 1, ..., `largest`; None for none.

    Each operation is enclosed by itself (interval arithmetic: Moore, 1966), both branches of a choice together.

    >>> context = Context()
    >>> i = Affine.name("n") * 3 - 1
    >>> enclosure(i, context, 100), enclosure(kernel.power(scalars.term(i), 2), context, 10)
    ((2, 299), (4, 841))
    """
    if isinstance(value, scalars.Chosen):
        ends = _affine_ends(value.size, context, largest, {})
        return None if ends is None else (0, max(ends[1] - 1, 0))
    if isinstance(value, Affine):
        return _affine_ends(value, context, largest, {})
    return _ends(value, context, largest, {})


def _affine_ends(a: Affine, context: Context, largest: int, bound: dict[str, Ends]) -> Ends | None:
    low = high = a.const
    for name, c in a.terms:
        ends = bound.get(name)
        if ends is None and name in context.ranges.bounds:
            extent = _affine_ends(context.ranges.bounds[name], context, largest, bound)
            ends = None if extent is None else (0, max(extent[1] - 1, 0))
        elif ends is None and name[0] not in "@#":
            ends = (1, largest)
        if ends is None:
            return None
        low, high = low + min(c * ends[0], c * ends[1]), high + max(c * ends[0], c * ends[1])
    if not any(name[0] == "#" for name, _ in a.terms):  # what cancels, as in n - 1 - i with i < n
        least, most = context.ranges.lower(a), context.ranges.lower(-a)
        low = low if least is None else max(low, least)
        high = high if most is None else min(high, -most)
    return low, high


def _ends(t: kernel.Node, context: Context, largest: int, bound: dict[str, Ends]) -> Ends | None:
    """The ends of a term whose bound names have the ends in `bound`."""
    loose = any(name[0] == "#" for name in t.free)
    if not loose and (t, largest) in context.enclosed:
        return context.enclosed[t, largest]
    result: Ends | None = None
    index = lambda e: _affine_ends(Affine(e.const, e.terms), context, largest, bound)
    match t.op:
        case "const":
            result = t.args[0], t.args[0]
        case "int":
            result = index(t.args[0])
        case "add" | "mul" | "max" | "ite" | "pow":
            parts = [_ends(a, context, largest, bound) for a in (t.args[1:] if t.op == "ite" else t.args)
                     if isinstance(a, kernel.Node)]  # fmt: skip
            known = [p for p in parts if p is not None]
            result = _combined(t, known) if len(known) == len(parts) else None
        case "sum" | "bigmax":
            extent = index(t.args[0])
            if extent is not None:
                few, many = max(extent[0], 0), max(extent[1], 0)
                body = _ends(t.args[1], context, largest, {**bound, f"#{t.height}": (0, max(many - 1, 0))})
                if body is not None and t.op == "sum":
                    result = min(few * body[0], many * body[0]), max(few * body[1], many * body[1])
                elif body is not None:
                    result = body if few else (min(body[0], 0), max(body[1], 0))
    if not loose:
        context.enclosed[t, largest] = result
    return result


def _combined(t: kernel.Node, parts: Sequence[Ends]) -> Ends:
    low, high = parts[0]
    if t.op == "pow":
        k = t.args[1]
        powers = [low**k, high**k]
        return (0 if k % 2 == 0 and low <= 0 <= high else min(powers)), max(powers)
    for a, b in parts[1:]:
        if t.op == "add":
            low, high = low + a, high + b
        elif t.op == "mul":
            products = (low * a, low * b, high * a, high * b)
            low, high = min(products), max(products)
        else:
            low, high = (max if t.op == "max" else min)(low, a), max(high, b)
    return low, high


def array(context: Context, values: Any) -> Tensor:
    """A known array; an index into it has to be a number, unless all entries are equal or affine in their indices."""
    values = np.asarray(values)
    kind = kind_of(values.dtype)
    if values.size and not (values != values.flat[0]).any():
        same = scalars.literal(values.dtype.type(values.flat[0]) if values.ndim else values[()])
        return Tensor(context, axes_of(values.shape), kind, lambda *place: same)
    slopes = _slopes(values) if kind == "int" and values.size else None
    if slopes is not None:
        start, steps = slopes

        def line(*place: Index) -> Scalar:
            return Scalar(sum((flat(i) * step for i, step in zip(place, steps, strict=True)), Affine(start)))

        return Tensor(context, axes_of(values.shape), kind, line)
    entry = lambda *place: scalars.literal(values[tuple(map(number, place))])
    return Tensor(context, axes_of(values.shape), kind, entry)


def _slopes(values: np.ndarray) -> tuple[int, list[int]] | None:
    """Start and step along each axis, if the integers are affine in their indices."""
    origin = (0,) * values.ndim
    start = int(values[origin])
    steps = []
    for k, n in enumerate(values.shape):
        one = tuple(int(j == k) for j in range(values.ndim))
        steps.append(int(values[one]) - start if n > 1 else 0)
    grid = np.indices(values.shape, dtype=object if values.size < 64 else np.int64)
    expected = start + sum(step * part for step, part in zip(steps, grid, strict=True))
    return (start, steps) if (values == expected).all() else None


def variable(context: Context, name: str, shape: Sequence[Dim]) -> Tensor:
    """A real array that a theorem quantifies over."""
    entry = lambda *place: Scalar(kernel.var(name, *(scalars.index(flat(i)) for i in place)))
    return Tensor(context, axes_of(shape), "real", entry)


def cases(
    i: Affine, cuts: Sequence[Affine], pieces: Sequence[Callable[[], Scalar]], context: Context, boolean: bool
) -> Scalar:
    """The entry of the piece that an index falls into: piece k lies below cut k, the last one above all cuts."""
    ranges = context.ranges
    branches: list[tuple[Scalar, Scalar]] = []
    for cut, piece in zip(cuts, pieces, strict=False):
        below = scalars.compare("lt", Scalar(i), Scalar(cut), ranges)
        if below.value is not FALSE:
            branches.append((below, piece()))
        if below.value is kernel.TRUE:
            break
    certain = bool(branches) and branches[-1][0].value is kernel.TRUE
    result = branches.pop()[1] if certain else pieces[-1]()
    for below, entry in reversed(branches):
        result = scalars.select(below, entry, result, boolean)
    return result


@dataclass
class Step:
    """One equation being translated."""

    context: Context
    equation: Equation
    names: dict[Any, str] = field(default_factory=dict)

    @property
    def params(self) -> dict[str, Any]:
        return self.equation.params

    @property
    def shape(self) -> tuple[Dim, ...]:
        return self.equation.output.shape

    @property
    def kind(self) -> str:
        return kind_of(self.equation.output.dtype)

    def name(self, key: Any) -> str:
        """The index of one of the equation's loops, always the same."""
        if key not in self.names:
            self.names[key] = self.context.fresh()
        return self.names[key]

    def lift(self, x: Any) -> Tensor:
        return x if isinstance(x, Tensor) else array(self.context, x)

    def make(self, axes: Sequence[Axis], entry: Callable[..., Scalar]) -> Tensor:
        """The result, from its entries; integers that may not fit their type are refused when they are asked for."""
        return Tensor(self.context, axes, self.kind, self.checked(entry))

    def checked(self, entry: Callable[..., Scalar]) -> Callable[..., Scalar]:
        """The entries, with the demand that the output's type holds them as the reals' arithmetic gives them."""
        output = self.equation.output.dtype
        if narrow(output) and any(x.dtype != output and kind_of(x.dtype) != "bool" for x in self.equation.inputs):
            raise Unexpressible(f"rounding to {output}")
        if self.kind != "int":
            return entry
        return lambda *place: fitting(entry(*place), output, self.context)

    def loop(self, axis: Axis, key: Any, body: Callable[[Index], Scalar], symbolic: Any, unrolled: Any) -> Scalar:
        """A loop over an axis: by digits if it is merged, in pieces if its meaning changes along it."""
        context = self.context
        if len(axis.digits) > 1:

            def digit(k: int, found: tuple[Affine, ...]) -> Scalar:
                if k == len(axis.digits):
                    return body(joined(list(zip(found, axis.digits, strict=True))))
                inner = lambda i: digit(k + 1, (*found, i))
                return context.over(self.name((key, k)), axis.digits[k], inner, symbolic, unrolled)

            return digit(0, ())
        if not axis.cuts or (is_number(axis.size) and axis.size <= context.unroll):
            return context.over(self.name(key), axis.size, body, symbolic, unrolled)
        ends = [Affine(), *axis.cuts, affine(axis.size, context.ranges)]
        parts = []
        for k, (start, end) in enumerate(pairwise(ends)):
            inner = lambda i, start=start: body(start + i)
            parts.append(context.over(self.name((key, k)), end - start, inner, symbolic, unrolled))
        return unrolled(parts)


def merged_axes(operands: Sequence[Tensor], shape: Sequence[Dim]) -> tuple[Axis, ...]:
    """The axes of an elementwise result: digits and cuts of its operands."""
    full = [x for x in operands if len(x.axes) == len(shape)]
    axes = []
    for k, size in enumerate(shape):
        digits = max((x.axes[k].digits for x in full), key=len, default=())
        cuts = max((x.axes[k].cuts for x in full), key=len, default=())
        axes.append(Axis(size, digits, cuts))
    return tuple(axes)


def shifted_cuts(axis: Axis, offset: Affine, size: Dim, context: Context) -> tuple[Affine, ...]:
    """The cuts that lie inside a slice of `size` from `offset` on."""
    end = affine(size, context.ranges)
    moved = [cut - offset for cut in axis.cuts]
    inside = lambda c: context.ranges.nonnegative(c) and context.ranges.nonnegative(end - c)
    return tuple(c for c in moved if inside(c))
