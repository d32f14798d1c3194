"""Where a variable lives: boxes and balls as values, with exact ends.

Text means what it says ("8/255", "0.1"), a float is the binary number that it is. A region without
points is refused when it is made.
"""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import Any, Literal

import numpy as np

from axiom_jax._errors import SpecError
from axiom_jax._shapes_places import caller
from axiom_jax.verification.statement import REALS, Ball, Range

Exact = Fraction | tuple["Exact", ...]  # a number, or the rows of an array of numbers
Flat = tuple[Fraction, ...]


def exact(value: Any) -> Any:
    """An exact number, or nested tuples of them for an array; None and infinite ends become None.

    Raises:
        SpecError: it is not a number, or NaN.

    >>> exact("8/255"), exact(0.5), exact([1, 2])
    (Fraction(8, 255), Fraction(1, 2), (Fraction(1, 1), Fraction(2, 1)))
    """
    if value is None or isinstance(value, Fraction):
        return value
    if isinstance(value, (list, tuple)):
        return tuple(exact(part) for part in value)
    if isinstance(value, str):
        try:
            return Fraction(value.replace(" ", ""))
        except (ValueError, ZeroDivisionError):
            raise _not_a_number(value) from None
    if hasattr(value, "shape") and value.shape:
        return exact(np.asarray(value).tolist())
    if hasattr(value, "shape") or isinstance(value, np.generic):
        value = np.asarray(value).item()
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value != value:
        raise _not_a_number(value)
    return None if isinstance(value, float) and math.isinf(value) else Fraction(value)


def _not_a_number(value: Any) -> SpecError:
    got = repr(value) if isinstance(value, (str, float, bool)) else f"a {type(value).__name__}"
    return SpecError("A region is given by numbers.", at=caller(), got=got, fix='write 0.5, "8/255" or an array')


@dataclass(frozen=True)
class Box:
    """Every component between two ends.

    Args:
        lo, hi: numbers, exact text ("8/255"), or arrays of the variable's shape; None or infinite for no end.
        lo_open, hi_open: whether the end itself is left out.

    Raises:
        SpecError: there are no points in it.

    >>> print(Box(0, "8/255"), Box(0, None, lo_open=True))
    [0, 8/255] (0, ∞)
    """

    lo: Any
    hi: Any
    lo_open: bool = False
    hi_open: bool = False

    def __post_init__(self) -> None:
        lo, hi = exact(self.lo), exact(self.hi)
        shapes = {_shape(end) for end in (lo, hi) if isinstance(end, tuple)}
        if len(shapes) > 1:
            raise SpecError("The ends of a box differ in shape.", at=caller(), got=" and ".join(map(str, shapes)),
                            fix="give both ends one shape, or a number")  # fmt: skip
        for end, wrong in ((self.lo, math.inf), (self.hi, -math.inf)):
            if isinstance(end, float) and end == wrong:
                raise SpecError("The box has no points.", at=caller(), got=f"an end at {end}", fix="swap the ends")
        object.__setattr__(self, "lo", lo)
        object.__setattr__(self, "hi", hi)
        for a, b in zip(*_paired(lo, hi), strict=True):
            if a is not None and b is not None and (a > b or (a == b and (self.lo_open or self.hi_open))):
                raise SpecError("The box has no points.", at=caller(), got=f"lower end {a}, upper end {b}",
                                fix="give a lower end below the upper end")  # fmt: skip

    @property
    def shape(self) -> tuple[int, ...] | None:
        """The shape of the variable, if an end is an array."""
        return next((_shape(end) for end in (self.lo, self.hi) if isinstance(end, tuple)), None)

    def within(self) -> Range:
        """As statements say it; only for ends that are numbers."""
        if self.shape is not None:
            raise SpecError("This box has an end for every component.", at=caller(), fix="give numbers as ends")
        return Range(self.lo, self.hi, self.lo_open and self.lo is not None, self.hi_open and self.hi is not None)

    def bounds(self, shape: Sequence[int]) -> tuple[Flat, Flat]:
        """The closed ends of every component of an array of that shape, flat in C order.

        Raises:
            SpecError: an end is missing, or the shapes differ.
        """
        return _spread(self.lo, shape), _spread(self.hi, shape)

    def __str__(self) -> str:
        if self.shape is not None:
            return f"a box of shape {'×'.join(map(str, self.shape))}"
        return str(self.within())


def _around(self: Any) -> None:
    eps, center = exact(self.eps), None if self.center is None else exact(self.center)
    if not isinstance(eps, Fraction) or eps <= 0:
        raise SpecError("The ball has no radius.", at=caller(), got=f"radius {self.eps}", fix='give "8/255" or 0.1')
    object.__setattr__(self, "eps", eps)
    object.__setattr__(self, "center", center)


def _ball_text(name: str, self: Any) -> str:
    around = "" if self.center is None else " around a given point"
    return f"‖·‖{name} ≤ {self.eps}{around}"


def _ball(self: Any, order: Literal[1, 2, "inf"]) -> Ball:
    """Around 0, or an array: of floats where they are exact."""
    if self.center is None or self.center == 0:
        return Ball(0, self.eps, order)
    exact_center = np.array(self.center, dtype=object)
    center = exact_center.astype(np.float64)
    same = all(Fraction(x) == y for x, y in zip(center.ravel().tolist(), exact_center.ravel(), strict=True))
    return Ball(center if same else exact_center, self.eps, order)


def _ball_bounds(self: Any, shape: Sequence[int]) -> tuple[Flat, Flat]:
    center = _spread(Fraction(0) if self.center is None else self.center, shape)
    return tuple(x - self.eps for x in center), tuple(x + self.eps for x in center)


@dataclass(frozen=True)
class Linf:
    """The points whose every component is within `eps` of the centre's.

    Args:
        eps: radius, exact as text ("8/255").
        center: an array or a number; the origin if not given (`ax.verify`: every sample of its data).

    >>> Linf("8/255").eps
    Fraction(8, 255)
    """

    eps: Any
    center: Any = None

    def __post_init__(self) -> None:
        _around(self)

    def within(self) -> Range | Ball:
        """As statements say it."""
        if self.center is None or isinstance(self.center, Fraction):
            middle = self.center or Fraction(0)
            return Range(middle - self.eps, middle + self.eps)
        return _ball(self, "inf")

    def bounds(self, shape: Sequence[int]) -> tuple[Flat, Flat]:
        """The ends of every component of an array of that shape, flat in C order."""
        return _ball_bounds(self, shape)

    def __str__(self) -> str:
        return _ball_text("_∞", self)


@dataclass(frozen=True)
class L2:
    """The points within the Euclidean distance `eps` of the centre, as `Linf` otherwise.

    >>> print(L2("0.5"))
    ‖·‖_2 ≤ 1/2
    """

    eps: Any
    center: Any = None

    def __post_init__(self) -> None:
        _around(self)

    def within(self) -> Ball:
        """As statements say it."""
        return _ball(self, 2)

    def bounds(self, shape: Sequence[int]) -> tuple[Flat, Flat]:
        """The smallest box around it."""
        return _ball_bounds(self, shape)

    def __str__(self) -> str:
        return _ball_text("_2", self)


@dataclass(frozen=True)
class L1:
    """The points whose components differ from the centre's by at most `eps` in total, as `Linf` otherwise.

    >>> print(L1(1))
    ‖·‖_1 ≤ 1
    """

    eps: Any
    center: Any = None

    def __post_init__(self) -> None:
        _around(self)

    def within(self) -> Ball:
        """As statements say it."""
        return _ball(self, 1)

    def bounds(self, shape: Sequence[int]) -> tuple[Flat, Flat]:
        """The smallest box around it."""
        return _ball_bounds(self, shape)

    def __str__(self) -> str:
        return _ball_text("_1", self)


@dataclass(frozen=True)
class Everything:
    """All finite reals.

    >>> print(Everything())
    R
    """

    def within(self) -> Range:
        """As statements say it."""
        return REALS

    def bounds(self, shape: Sequence[int]) -> tuple[Flat, Flat]:
        """There are none.

        Raises:
            SpecError: always.
        """
        return Box(None, None).bounds(shape)

    def __str__(self) -> str:
        return "R"


@dataclass(frozen=True)
class Polytope:
    """The points x with A x ≤ b, of a box if one is given; x is flat, in C order.

    Args:
        a: (rows, inputs) numbers, exact as text ("1/3"). b: (rows,).
        lo, hi: ends of a box as `Box` takes them. Where an end is missing, one is computed that every point of A x ≤ b
            lies within: by multipliers that are checked in exact arithmetic, rounded outward.

    Raises:
        SpecError: shapes do not fit; no point of it can be shown; an end is missing where it is unbounded.

    >>> triangle = Polytope([[-1, 0], [0, -1], [1, 1]], [0, 0, 1])
    >>> print(triangle, triangle.hi)
    {-x0 ≤ 0, -x1 ≤ 0, x0 + x1 ≤ 1} within [0, 1] × [0, 1] (Fraction(1, 1), Fraction(1, 1))
    """

    a: Any
    b: Any
    lo: Any = None
    hi: Any = None

    def __post_init__(self) -> None:
        a, b = exact(self.a), exact(self.b)
        shape = _shape(a)
        whole = len(shape) == 2 and all(_shape(row) == shape[1:] for row in a) and None not in _leaves((a, b))
        if not whole or _shape(b) != shape[:1]:
            raise SpecError("A polytope is a matrix and a number for each of its rows, all finite.", at=caller(),
                            got=f"shapes {shape} and {_shape(b)}", fix="ax.Polytope([[1, 1]], [1], lo=0)")  # fmt: skip
        object.__setattr__(self, "a", a)
        object.__setattr__(self, "b", b)
        box = Box(self.lo, self.hi)
        given = [_ended(end, shape[1]) for end in (box.lo, box.hi)]
        lo, hi = _around_polytope(a, b, *given)
        object.__setattr__(self, "lo", lo)
        object.__setattr__(self, "hi", hi)

    @property
    def size(self) -> int:
        """How many numbers x has."""
        return len(self.lo)

    @cached_property
    def inner(self) -> Flat:
        """A point of it."""
        return _shown(point_within(self.a, self.b, self.lo, self.hi), len(self.b))

    def within(self) -> Range:
        """Statements have no word for it.

        Raises:
            SpecError: always.
        """
        raise SpecError("Statements do not take polytopes as regions.", at=caller(), got=str(self)[:80],
                        fix="write its inequalities as an assumption: ∀x. (x[0] + x[1] <= 1) → …")  # fmt: skip

    def bounds(self, shape: Sequence[int]) -> tuple[Flat, Flat]:
        """The ends of its box, flat in C order.

        Raises:
            SpecError: the variable has another size.
        """
        if math.prod(shape) != self.size:
            raise SpecError("The polytope is about another number of inputs.", at=caller(),
                            got=f"{self.size} columns for {tuple(shape)}",
                            fix="give a column for every input")  # fmt: skip
        return self.lo, self.hi

    def holds(self, point: Sequence[Fraction]) -> bool:
        """Whether A x ≤ b at an exact flat point; its box is not looked at.

        >>> Polytope([[1, 1]], [1], lo=0).holds([Fraction(1, 2), Fraction(2, 3)])
        False
        """
        from axiom_jax.verification._polytope_ends import holds

        return holds(self.a, self.b, point)

    def __str__(self) -> str:
        ends = " × ".join(f"[{a}, {b}]" for a, b in zip(self.lo, self.hi, strict=True))
        rows = ", ".join(f"{_linear(row)} ≤ {limit}" for row, limit in zip(self.a, self.b, strict=True))
        if len(rows) + len(ends) <= 120:
            return f"{{{rows}}} within {ends}"
        said = repr([[str(v) for v in _leaves(part)] for part in (self.a, self.b, self.lo, self.hi)])
        digest = hashlib.sha256(said.encode()).hexdigest()[:16]
        return f"a polytope of {len(self.b)} inequalities in {self.size} inputs (sha256 {digest})"


Region = Box | Linf | L2 | L1 | Everything | Polytope


def _linear(row: Sequence[Fraction]) -> str:
    terms = [(i, c) for i, c in enumerate(row) if c]
    size = lambda c: "" if abs(c) == 1 else f"{abs(c)}·"
    text = "".join(f" {'-' if c < 0 else '+'} {size(c)}x{i}" for i, c in terms)
    return ("-" if terms and terms[0][1] < 0 else "") + text[3:] if terms else "0"


def _ended(end: Any, size: int) -> list[Fraction | None]:
    """An end of a box for every input."""
    found = _leaves(end) if isinstance(end, tuple) else [end] * size
    if len(found) != size:
        raise SpecError("The box of a polytope has another number of inputs.", at=caller(),
                        got=f"{len(found)} ends for {size} columns", fix="give an end for every column")  # fmt: skip
    return found


Ends = Sequence[Fraction | None]


def _unit(i: int, size: int, sign: int) -> Flat:
    return tuple(Fraction(sign * (i == k)) for k in range(size))


def _with_ends(a: Any, b: Any, lo: Ends, hi: Ends) -> tuple[list[Flat], list[Fraction]]:
    """Rows and limits of a polytope with those of the ends that there are."""
    size = len(lo)
    given = [(_unit(i, size, 1), v) for i, v in enumerate(hi) if v is not None]
    given += [(_unit(i, size, -1), -v) for i, v in enumerate(lo) if v is not None]
    return [*a, *(row for row, _ in given)], [*b, *(limit for _, limit in given)]


def point_within(a: Sequence[Flat], b: Sequence[Fraction], lo: Ends, hi: Ends) -> Flat | None:
    """An exact point with A x ≤ b between ends, None being no end; None where none was found."""
    from axiom_jax.verification._polytope_ends import inner_point

    return inner_point(*_with_ends(a, b, lo, hi))


def _shown(point: Flat | None, count: int) -> Flat:
    if point is None:
        raise SpecError("No point of the polytope can be shown.", at=caller(), got=f"{count} inequalities",
                        fix="give inequalities that hold together somewhere, written exactly")  # fmt: skip
    return point


def _around_polytope(a: Any, b: Any, lo: Ends, hi: Ends) -> tuple[Flat, Flat]:
    """The ends of a polytope's box: those that were given, and certain ones in place of the others."""
    from axiom_jax.verification._polytope_ends import highest, outward

    _shown(point_within(a, b, lo, hi), len(b))
    rows, limits = _with_ends(a, b, lo, hi)
    found: list[list[Fraction]] = [[], []]
    for sign, ends, side in ((-1, lo, found[0]), (1, hi, found[1])):
        for i, end in enumerate(ends):
            most = None if end is not None else highest(rows, limits, _unit(i, len(lo), sign))
            if end is None and most is None:
                raise SpecError("The polytope has no end that can be shown.", at=caller(),
                                got=f"input {i} {'downwards' if sign < 0 else 'upwards'}",
                                fix="give the missing ends of its box: ax.Polytope(a, b, lo=0, hi=1)")  # fmt: skip
            side.append(end if end is not None else sign * outward(most))  # pyright: ignore[reportArgumentType]
    return tuple(found[0]), tuple(found[1])


def _shape(value: Any) -> tuple[int, ...]:
    return (len(value), *_shape(value[0])) if isinstance(value, tuple) and value else ()


def _leaves(value: Any) -> list[Any]:
    return [leaf for part in value for leaf in _leaves(part)] if isinstance(value, tuple) else [value]


def _paired(lo: Any, hi: Any) -> tuple[list[Any], list[Any]]:
    a, b = _leaves(lo), _leaves(hi)
    n = max(len(a), len(b))
    return (a * n if len(a) == 1 else a), (b * n if len(b) == 1 else b)


def _spread(value: Any, shape: Sequence[int]) -> Flat:
    """A number for every component; an array's own numbers in C order."""
    size = math.prod(shape)
    if isinstance(value, tuple):
        found = _leaves(value)
        if _shape(value) != tuple(shape) and not (len(found) == size and len(_shape(value)) == 1):
            raise SpecError("The region is not of the variable's shape.", at=caller(),
                            got=f"{_shape(value)} for {tuple(shape)}", fix="reshape the region's arrays")  # fmt: skip
    else:
        found = [value] * size
    if any(x is None for x in found):
        raise SpecError("The region has no end there.", at=caller(), got="a component without a bound",
                        fix="give both ends: ax.Box(0, 1)")  # fmt: skip
    return tuple(found)
