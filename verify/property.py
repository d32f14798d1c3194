"""What may be asked: a region of inputs and a condition that must not hold there.

All numbers are exact rationals: `8/255` and `0.1` mean what they say. A property is
stored by its negation, as VNN-LIB does: cases of a box and an unsafe condition, a
disjunction of conjunctions of linear atoms over inputs and outputs.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from axiom_jax._errors import SpecError

Sparse = tuple[tuple[int, Fraction], ...]


@dataclass(frozen=True)
class Atom:
    """Σ input coefficient · x + Σ output coefficient · y ≤ threshold (< if `strict`), over flat indices in C order."""

    output: Sparse
    threshold: Fraction
    input: Sparse = ()
    strict: bool = False


@dataclass(frozen=True)
class Case:
    """A box of inputs and what is unsafe there.

    Args:
        lo, hi: exact ends, one a flat input; lo ≤ hi.
        unsafe: disjunction of conjunctions of atoms; unsafe if all atoms of one disjunct hold.

    Raises:
        SpecError: the box is empty, or there is no disjunct.
    """

    lo: tuple[Fraction, ...]
    hi: tuple[Fraction, ...]
    unsafe: tuple[tuple[Atom, ...], ...]

    def __post_init__(self) -> None:
        if len(self.lo) != len(self.hi) or any(a > b for a, b in zip(self.lo, self.hi, strict=True)):
            raise SpecError("The input box has no points.", fix="give a lower end ≤ the upper end for every input")
        if not self.unsafe:
            raise SpecError("The property calls nothing unsafe.", fix="state at least one condition on the outputs")
        # A conjunction of nothing is true everywhere: written as 0 ≤ 0, so that every disjunct has an atom.
        if not all(self.unsafe):
            filled = tuple(conjunct or (Atom((), Fraction(0)),) for conjunct in self.unsafe)
            object.__setattr__(self, "unsafe", filled)


@dataclass(frozen=True)
class Property:
    """No input of any case is unsafe.

    Args:
        cases: at least one.
        text: as the user wrote it.
        source: where it was read from, for messages and reports.
    """

    cases: tuple[Case, ...]
    text: str = ""
    source: str = ""


def rational(value: str | int | float | Fraction) -> Fraction:
    """An exact number: text means what it says ("8/255", "0.1"), a float is the binary number that it is.

    >>> rational("0.1"), rational(0.5)
    (Fraction(1, 10), Fraction(1, 2))
    """
    return Fraction(value)


def robust(
    center: Sequence[float | Fraction],
    label: int,
    classes: int,
    eps: str | int | float | Fraction,
    within: tuple[str | float, str | float] | None = None,
) -> Property:
    """Every point within `eps` of `center` in L∞ is classified as `label`, strictly: ties are unsafe.

    Args:
        center: (inputs,) flat, exact as given.
        label: the class whose output must be the largest of `classes` outputs.
        eps: radius; text is exact ("8/255").
        within: a box that the inputs live in, say (0, 1) for pixels; the region is cut to it.

    Source: the robustness properties of VNN-COMP; closed unsafe atoms y_label − y_j ≤ 0.
    """
    radius = rational(eps)
    centre = [x if isinstance(x, Fraction) else Fraction(float(x)) for x in center]
    lo, hi = [x - radius for x in centre], [x + radius for x in centre]
    if within is not None:
        low, high = map(rational, within)
        lo, hi = [min(max(x, low), high) for x in lo], [max(min(x, high), low) for x in hi]
    one = Fraction(1)
    unsafe = tuple(
        (Atom(tuple(sorted([(label, one), (other, -one)])), Fraction(0)),) for other in range(classes) if other != label
    )
    inside = f" and {within[0]} <= x <= {within[1]}" if within is not None else ""
    text = f"for all x with |x - x0| <= {eps}{inside} in every coordinate: the class is {label}"
    return Property((Case(tuple(lo), tuple(hi), unsafe),), text)
