"""Where a variable lives: boxes and balls as values, with exact ends.

Text means what it says ("8/255", "0.1"), a float is the binary number that it is. A region without
points is refused when it is made.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
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


Region = Box | Linf | L2 | L1 | Everything


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
