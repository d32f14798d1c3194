"""What is claimed of every input: variables of any size, where they live, and a condition.

Whatever asks (text, a decorated function, a property of a model) says it as one `Statement`, and every engine
(rewriting, solvers, bounds, refutation) reads that. The condition is a JAX function, so it is traced like a model.
"""

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Literal

import jax
import numpy as np

from axiom_jax._errors import SpecError


@dataclass(frozen=True)
class Range:
    """An interval of reals for every component; None is no end, and ends belong to it unless they are open."""

    lo: Fraction | None = None
    hi: Fraction | None = None
    lo_open: bool = False
    hi_open: bool = False

    def __post_init__(self) -> None:
        if self.lo is None or self.hi is None:
            return
        if self.lo > self.hi or (self.lo == self.hi and (self.lo_open or self.hi_open)):
            raise SpecError("The interval has no points.", got=str(self), fix="give a lower end below the upper end")

    def __str__(self) -> str:
        lo, hi = ("-∞" if self.lo is None else str(self.lo)), ("∞" if self.hi is None else str(self.hi))
        left, right = self.lo is None or self.lo_open, self.hi is None or self.hi_open
        return f"{'(' if left else '['}{lo}, {hi}{')' if right else ']'}"


REALS = Range()


@dataclass(frozen=True, eq=False)
class Ball:
    """The points within `radius` of `center` in a norm: of order 1, 2 or inf; of less than it if `open`.

    Args:
        center: an array, exact as given; or 0 for balls around the origin of any size.
        radius: positive.
    """

    center: Any
    radius: Fraction
    order: Literal[1, 2, "inf"] = "inf"
    open: bool = False

    def __post_init__(self) -> None:
        if self.radius < 0 or (self.radius == 0 and self.open):
            raise SpecError("The ball has no points.", got=f"radius {self.radius}", fix="give a positive radius")


@dataclass(frozen=True, eq=False)
class Variable:
    """A finite real array that a statement quantifies over.

    Args:
        shape: sizes; a name stands for every integer ≥ 1, the same wherever it stands in the statement.
        within: where it lives: every component in a `Range`, or the whole in a `Ball`.
        quantifier: "forall" or "exists"; variables are quantified in their order, the first outermost.
    """

    name: str
    shape: tuple[int | str, ...] = ("n",)
    within: Range | Ball = REALS
    quantifier: Literal["forall", "exists"] = "forall"


@dataclass(frozen=True, eq=False)
class Statement:
    """A claim over the reals: `condition` is true for the quantified variables, at every size.

    Args:
        text: as the user wrote it.
        variables: in order of quantification.
        condition: a JAX function of one float32 array a variable and then one float32 scalar a constant. It
            gives a bool or an array of bools, all of which are claimed.
        constants: exact numbers of the text ("0.1" is 1/10): engines that reason take these, execution rounds them.
        at: the user's line.
    """

    text: str
    variables: tuple[Variable, ...]
    condition: Callable[..., Any]
    constants: tuple[Fraction, ...] = ()
    at: str | None = None

    @property
    def sizes(self) -> tuple[str, ...]:
        """The names of sizes, in order of appearance."""
        return tuple(dict.fromkeys(n for v in self.variables for n in v.shape if isinstance(n, str)))

    def symbolic(self) -> tuple[jax.ShapeDtypeStruct, ...]:
        """What the condition is traced with: float32 arrays of symbolic sizes, then scalars for the constants."""
        names = self.sizes
        sizes = dict(zip(names, jax.export.symbolic_shape(", ".join(names)), strict=True)) if names else {}
        return self._specs(sizes)

    def sized(self, sizes: dict[str, int]) -> tuple[jax.ShapeDtypeStruct, ...]:
        """The same at given sizes."""
        return self._specs(sizes)

    def _specs(self, sizes: dict[str, Any]) -> tuple[jax.ShapeDtypeStruct, ...]:
        shapes = [tuple(sizes[n] if isinstance(n, str) else n for n in v.shape) for v in self.variables]
        scalars = [() for _ in self.constants]
        return tuple(jax.ShapeDtypeStruct(shape, np.float32) for shape in [*shapes, *scalars])
