"""What properties are asked about: the model, the inputs, how much may be spent.

A region without a centre and with data stands for one region around each row of the data.
"""

import inspect
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import cached_property
from time import monotonic
from typing import Any

import jax
import numpy as np

from axiom_jax._errors import SpecError
from axiom_jax._shapes_places import caller
from axiom_jax.verification.proof.float32 import PROFILE
from axiom_jax.verification.properties.tails import Tail, tail_of
from axiom_jax.verification.regions import L1, L2, Box, Everything, Linf, Polytope, Region
from axiom_jax.verification.search.margins import Subject, nearest


@dataclass(frozen=True)
class Budget:
    """What one claim may cost.

    Args:
        seconds: of search, without compilation. check_seconds: of the checker.
        points: inputs that are executed where something is tested. rows: of the data that are looked at.
        deadline: on `time.monotonic`, when searching ends whatever is left; None for never.
        profile: the machines that level float32 is to speak of.
    """

    seconds: float
    check_seconds: float
    points: int
    rows: int | None = None
    deadline: float | None = None
    profile: str = PROFILE

    @property
    def left(self) -> float:
        """Seconds that a search begun now may take."""
        return self.seconds if self.deadline is None else max(min(self.seconds, self.deadline - monotonic()), 0.0)


MODES = {
    "quick": Budget(5.0, 20.0, 1_000, 10),
    "standard": Budget(10.0, 60.0, 10_000, 100),
    "thorough": Budget(60.0, 600.0, 100_000, 1_000),
    "exhaustive": Budget(float("inf"), 3600.0, 1_000_000, None),
}


@dataclass(frozen=True, eq=False)
class Samples:
    """Rows of data.

    Args:
        x: (rows, inputs) float32, flat. y: (rows,) labels, or None where none were given.
        targets: what was given beside x, whole; None where nothing was.
    """

    x: np.ndarray
    y: np.ndarray | None = None
    targets: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.x)


@dataclass(frozen=True, eq=False)
class Place:
    """Where one claim is made.

    Args:
        region: with its centre, if it has one.
        text: for people: "x ∈ [0, 1]", "‖x − row 3‖_∞ ≤ 2/255".
        row: the number of the row of data, or None. x: (inputs,) that row, float32.
        within: a region with ends that the inputs live in; the region is cut to it.
        data: whether the rows of the data are meant, all of them, and nothing around them.
    """

    region: Region
    text: str
    row: int | None = None
    x: np.ndarray | None = None
    within: Region | None = None
    data: bool = False


@dataclass(frozen=True, eq=False)
class Scope:
    """A model with what is asked about it.

    Args:
        model: as the user gave it. subject: one row of it, ready to be asked.
        region: where the claims are made, or None.
        samples: rows of data, at most as many as the budget says; or None. rows: how many there were.
        budget: what a claim may cost.
        population: all rows of data, for statistics.
    """

    model: Any
    subject: Subject
    region: Region | None = None
    samples: Samples | None = None
    rows: int = 0
    budget: Budget = MODES["standard"]
    population: Samples | None = None
    _kept: dict[Any, Any] = field(default_factory=dict, repr=False)

    @cached_property
    def tail(self) -> Tail:
        """The end of the model that has no parameters: softmax, sigmoid, ..."""
        return tail_of(self.subject)

    @property
    def outputs(self) -> int:
        """How many numbers come out of one row."""
        return self.subject.flat[0].outputs[0].size

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape that regions have: one row's without its batch axis; (inputs,) where there are several inputs."""
        first, *others = self.subject.specs
        shape = (self.subject.size,) if others else tuple(first.shape)
        return shape[1:] if len(shape) > 1 and shape[0] == 1 else shape

    @cached_property
    def _run(self) -> Any:
        program, values = self.subject.flat
        return jax.jit(lambda xs: jax.vmap(lambda x: program.evaluate(values, x)[0].ravel())(xs))

    def execute(self, x: np.ndarray, block: int = 1024) -> np.ndarray:
        """(rows, outputs) of flat float32 rows (rows, inputs): the compiled model, run."""
        parts = [np.asarray(self._run(x[i : i + block])) for i in range(0, len(x), block)]
        return np.concatenate(parts) if parts else np.zeros((0, self.outputs), np.float32)

    def kept(self, key: Any, make: Any) -> Any:
        """What `make()` gave the first time, so that composed subjects are traced and compiled once."""
        if key not in self._kept:
            self._kept[key] = make()
        return self._kept[key]

    def bounds(self, region: Region) -> tuple[tuple[Fraction, ...], tuple[Fraction, ...]]:
        """The smallest box around a region, flat.

        Raises:
            SpecError: it has no such box, or another shape than the model's input.
        """
        try:
            return region.bounds(self.shape)
        except SpecError:
            return region.bounds(self.subject.specs[0].shape)

    def box(self, place: Place) -> tuple[tuple[Fraction, ...], tuple[Fraction, ...]]:
        """The smallest box around a place, flat: around its region, cut to where the inputs live.

        Raises:
            SpecError: nothing is left of it.
        """
        lo, hi = self.bounds(place.region)
        if place.within is not None:
            low, high = self.bounds(place.within)
            lo, hi = tuple(map(max, lo, low)), tuple(map(min, hi, high))
            if any(a > b for a, b in zip(lo, hi, strict=True)):
                got = f"{place.text} within {place.within}"
                raise SpecError("The region lies outside of where the inputs live.", at=caller(), got=got,
                                fix="scale the data as within= says")  # fmt: skip
        return lo, hi

    def places(self, region: Region | None = None) -> Iterator[Place]:
        """Where a claim is to be made: in `region` (the scope's if None), around each row if it has no centre.

        Raises:
            SpecError: there is no region, or its shape is not the model's input.
        """
        region = self.region if region is None else region
        if region is None:
            raise SpecError(
                "The property speaks of a region, and none is given.", at=caller(),
                fix="give one: ax.verify(model, ..., region=ax.Box(0, 1)), or ax.Linf(0.01) with data",
            )  # fmt: skip
        if isinstance(region, (Linf, L2, L1)) and region.center is None and self.samples is not None:
            for row, x in enumerate(self.samples.x):
                yield self.around(replace(region, center=tuple(Fraction(float(v)) for v in x)), row, x)
            return
        if not isinstance(region, Everything) and not _endless(region):
            self.bounds(region)
        yield Place(region, _text(region))

    def around(self, region: Any, row: int, x: np.ndarray) -> Place:
        """A place around one row of the data."""
        order = {Linf: "∞", L2: "2", L1: "1"}.get(type(region))
        text = f"‖x − row {row}‖_{order} ≤ {short(region.eps)}" if order else f"a box around row {row}"
        return Place(region, text, row, x)


def _endless(region: Region) -> bool:
    ends = (region.lo, region.hi) if isinstance(region, Box) else ()
    return any(end is None or (isinstance(end, tuple) and _has_none(end)) for end in ends)


def _has_none(value: Any) -> bool:
    return any(part is None or (isinstance(part, tuple) and _has_none(part)) for part in value)


def unbounded(region: Region) -> bool:
    """Whether a region has no box around it."""
    return isinstance(region, Everything) or _endless(region)


def everywhere(region: Region) -> bool:
    """Whether a region is every x: it has no end at all, in no component.

    >>> everywhere(Box(None, None)), everywhere(Box([0, None], [None, None]))
    (True, False)
    """
    return isinstance(region, Everything) or (
        isinstance(region, Box) and all(end is None for end in (*_leaves(region.lo), *_leaves(region.hi)))
    )


def ends(region: Region, size: int) -> tuple[list[Fraction | None], list[Fraction | None]]:
    """The ends of the box that a region is, or that lies around it; flat, None where it has none.

    Raises:
        SpecError: the region has another size.

    >>> ends(Box([0, None], 1), 2)
    ([Fraction(0, 1), None], [Fraction(1, 1), Fraction(1, 1)])
    """
    if isinstance(region, Everything):
        return [None] * size, [None] * size
    if isinstance(region, (Box, Polytope)):
        return _spread(region.lo, size), _spread(region.hi, size)
    middle = _spread(Fraction(0) if region.center is None else region.center, size)
    return [c - region.eps for c in middle], [c + region.eps for c in middle]  # pyright: ignore[reportOptionalOperand]


def float_ends(place: Place, size: int) -> tuple[np.ndarray, np.ndarray]:
    """The least and the greatest float32 of every component of the box around a place; infinite where it has no end.

    A float32 row lies in a box, in exact arithmetic, exactly if it lies between these, open ends or not.
    """
    low, high = np.full(size, -np.inf, np.float32), np.full(size, np.inf, np.float32)
    for region in (place.region, place.within):
        if region is None:
            continue
        for i, (a, b) in enumerate(zip(*ends(region, size), strict=True)):
            if a is not None:
                low[i] = max(low[i], _inward(a, np.inf, getattr(region, "lo_open", False)))
            if b is not None:
                high[i] = min(high[i], _inward(b, -np.inf, getattr(region, "hi_open", False)))
    return low, high


def closed_box(region: Any) -> bool:
    """Whether a region is a box with its border, so that atoms of its ends say exactly what lies in it."""
    if not isinstance(region, Box):
        return isinstance(region, (Linf, Everything))
    return not (region.lo_open and region.lo is not None) and not (region.hi_open and region.hi is not None)


def need_closed_box(region: Any, what: str) -> None:
    """
    Raises:
        SpecError: the region is a ball of another norm, or leaves an end out.
    """
    if not closed_box(region):
        raise SpecError(f"{what} is a box with its border.", at=caller(),
                        got=str(region) if isinstance(region, (Box, L1, L2, Polytope)) else type(region).__name__,
                        fix="give ax.Box(lo, hi) or ax.Linf(eps, center)")  # fmt: skip


def need_function(function: Any, of: str, what: str) -> None:
    """
    Args:
        of: its arguments, named and separated by commas. what: what it is, as the beginning of a sentence.

    Raises:
        SpecError: it cannot be called with as many arguments.
    """
    try:
        inspect.signature(function).bind(*of.split(","))
    except TypeError as error:
        got = str(error) if callable(function) else type(function).__name__
        raise SpecError(f"{what} is a function of {of}.", at=caller(), got=got, fix=f"give lambda {of}: ...") from None
    except ValueError:  # a builtin, whose arguments nobody knows
        pass


def _inward(end: Fraction, to: float, is_open: bool) -> np.float32:
    near = nearest(end)
    beyond = Fraction(float(near)) < end if to > 0 else Fraction(float(near)) > end
    return np.nextafter(near, np.float32(to)) if beyond or (is_open and Fraction(float(near)) == end) else near


def _spread(value: Any, size: int) -> list[Any]:
    found = _leaves(value) if isinstance(value, tuple) else [value] * size
    if len(found) != size:
        raise SpecError("The region has another size than what it is about.", at=caller(),
                        got=f"{len(found)} numbers for {size}", fix="give an end a component")  # fmt: skip
    return found


def _leaves(value: Any) -> list[Any]:
    return [leaf for part in value for leaf in _leaves(part)] if isinstance(value, tuple) else [value]


def short(value: Fraction) -> str:
    """A number for people: a fraction if it is short, else six digits of it.

    >>> short(Fraction(8, 255)), short(Fraction(0.1))
    ('8/255', '0.1')
    """
    return str(value) if value.denominator < 10**6 else f"{float(value):.6g}"


def _text(region: Region) -> str:
    if isinstance(region, Everything):
        return "every x"
    return f"x ∈ {region}" if isinstance(region, (Box, Polytope)) else f"x with {region}"


def need_labels(scope: Scope) -> np.ndarray:
    """The labels of the rows, or the model's own classes.

    Raises:
        SpecError: there are no rows, or what was given are no classes of the model.
    """
    if scope.samples is None:
        raise SpecError("The property speaks of regions around data, and none are given.", at=caller(),
                        fix="give them: ax.verify(model, ..., data=(x, y))")  # fmt: skip
    if scope.samples.targets is None:
        return scope.kept("own classes", lambda: scope.execute(scope.samples.x).argmax(1))  # pyright: ignore
    labels = scope.samples.y
    if labels is None or np.any((labels < 0) | (labels >= scope.outputs)):
        raise SpecError(
            "The labels are no classes of the model.", at=caller(),
            got=f"labels of shape {scope.samples.targets.shape}; {scope.outputs} outputs",
            fix="give class numbers from 0, one a row",
        )  # fmt: skip
    return labels
