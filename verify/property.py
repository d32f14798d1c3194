"""What may be asked: a region of inputs and a condition that must not hold there.

All numbers are exact rationals: `8/255` and `0.1` mean what they say. A property is
stored by its negation, as VNN-LIB does: cases of a box and an unsafe condition, a
disjunction of conjunctions of linear atoms over inputs and outputs.
"""

from dataclasses import dataclass
from fractions import Fraction

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
    """

    lo: tuple[Fraction, ...]
    hi: tuple[Fraction, ...]
    unsafe: tuple[tuple[Atom, ...], ...]


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
