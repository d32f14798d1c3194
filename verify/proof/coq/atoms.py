"""Atoms of a property over integers, as backward passes begin with them."""

from dataclasses import dataclass
from math import lcm

from axiom_jax.verification import checker


@dataclass(frozen=True)
class Whole:
    """An atom over integers: a constant and the multipliers of numbers, at most 0 together where it holds."""

    strict: bool
    scale: int
    constant: int
    multipliers: dict[int, int]


def whole(atom: checker.Atom, inputs: int, first_output: int) -> Whole:
    """Multiply an atom by the least number that makes its coefficients and threshold integers."""
    scale = lcm(atom.threshold.denominator, *(c.denominator for side in atom.sides for _, c in side))
    found: dict[int, int] = {}
    for start, side in zip((0, first_output), atom.sides, strict=True):
        for i, c in side:
            found[start + i] = found.get(start + i, 0) + int(c * scale)
    return Whole(atom.strict, scale, -int(atom.threshold * scale), found)
