"""What the checker in prelude.v computes, with Python's integers: part 2 of that file, function by function.

Nothing here is trusted: a proof that this module believes in is judged by Coq. Lists are oldest first here.
Source: Zhang et al. 2018, CROWN, arXiv 1811.00866, and weak duality.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from axiom_jax.verification.proof.coq.lines import Line, Lines

Interval = tuple[int, int]
TILT = 1024
Choose = Callable[[int, int], int]  # from the number of a line and its multiplier to what is passed on


@dataclass(frozen=True)
class Part:
    """Bounds in units of 1 / grid: of the inputs, and of what enters each line, with slopes for the rule."""

    box: tuple[Interval, ...]
    bounds: tuple[Interval, ...]
    tilts: tuple[int, ...]

    @property
    def empty(self) -> bool:
        """Whether bounds contradict each other."""
        return any(l > u for l, u in (*self.box, *self.bounds))

    def split_input(self, i: int, at: int) -> "tuple[Part, Part]":
        below, above = _halves(self.box, i, at)
        return replace(self, box=below), replace(self, box=above)

    def split_line(self, j: int, at: int) -> "tuple[Part, Part]":
        below, above = _halves(self.bounds, j, at)
        return replace(self, bounds=below), replace(self, bounds=above)


def _halves(bounds: tuple[Interval, ...], j: int, at: int) -> tuple[tuple[Interval, ...], tuple[Interval, ...]]:
    l, u = bounds[j]
    return (*bounds[:j], (l, min(u, at)), *bounds[j + 1 :]), (*bounds[:j], (max(l, at), u), *bounds[j + 1 :])


@dataclass(frozen=True)
class Passed:
    """A backward pass: its bound, what it passed on at every line, what was lost there, and what reached the inputs."""

    bound: int
    hints: list[int]
    losses: list[int]
    inputs: list[int]


def rule(line: Line, bounds: Interval, m: int, tilt: int) -> int:
    """What to pass on where nothing better is known: any number would be sound."""
    l, u = bounds
    if not line.rectified or l >= 0:
        return m // line.over
    if u <= 0:
        return 0
    if m < 0:
        return m * tilt // (line.over * TILT)
    return m // line.over if -l < u else 0


def tilt_of(line: Line, l: int, u: int) -> int:
    """u / (u - l) for the rule, in units of 1 / TILT."""
    return TILT * u // (u - l) if line.rectified and l < 0 < u else 0


def residue(line: Line, bounds: Interval, m: int, passed: int) -> int:
    """The least of m f(z) - passed * over * z for z within the bounds."""
    (l, u), slope = bounds, passed * line.over
    rest = m - slope
    if not line.rectified or l >= 0:
        return rest * (l if rest >= 0 else u)
    if u <= 0:
        return -slope * (u if slope >= 0 else l)
    return min(0 if slope >= 0 else -slope * l, 0 if rest >= 0 else rest * u)


@dataclass(frozen=True)
class Arithmetic:
    """The network with the units of numbers: values in 1 / grid, multipliers in 1 / scale."""

    network: Lines
    grid: int
    scale: int

    def lower(self, part: Part, m: Sequence[int], choose: Choose | None = None) -> Passed:
        """A lower bound of grid times the sum of multipliers times numbers; `m` may be shorter than these."""
        n, lines = self.network.inputs, self.network.lines
        count = len(part.bounds)  # while lines are bounded the first time, those that are
        row = [*m, *[0] * (n + count - len(m))]
        bound, hints, losses = 0, [0] * count, [0] * count
        for j in range(count - 1, -1, -1):
            c, line = row[n + j], lines[j]
            if choose is None:
                passed = rule(line, part.bounds[j], c, part.tilts[j]) if c else 0
            else:
                passed = choose(j, c)
            if not c and not passed:
                continue
            lost = residue(line, part.bounds[j], c, passed)
            bound += lost + self.grid * passed * line.constant
            hints[j], losses[j] = passed, -lost
            if passed:
                first = line.first
                for i, w in enumerate(line.weights, first):
                    row[i] += passed * w
        bound += sum(c * (l if c >= 0 else u) for c, (l, u) in zip(row[:n], part.box, strict=True))
        return Passed(bound, hints, losses, row[:n])

    def _ends(self, part: Part, line: Line) -> tuple[Callable[[], int], Callable[[], int]]:
        unit = max(1, self.scale // line.over)

        def end(sign: int) -> int:
            m = [0] * line.first + [sign * unit * w for w in line.weights]
            found = self.lower(part, m).bound + sign * self.grid * unit * line.constant
            return sign * (found // (line.over * unit))

        return (lambda: end(1)), (lambda: end(-1))

    def start(self, box: Sequence[Interval]) -> Part:
        """Bound every line over a box."""
        part = Part(tuple(box), (), ())
        for line in self.network.lines:
            below, above = self._ends(part, line)
            l, u = below(), above()
            part = Part(part.box, (*part.bounds, (l, u)), (*part.tilts, tilt_of(line, l, u)))
        return part

    def sweep(self, part: Part) -> Part:
        """Bound again the lines whose sign is open."""
        found = Part(part.box, (), ())
        for line, (l, u), tilt in zip(self.network.lines, part.bounds, part.tilts, strict=True):
            if line.rectified and l < 0 < u:
                below, above = self._ends(found, line)
                l = max(l, below())
                u = u if l >= 0 else min(u, above())
                tilt = tilt_of(line, l, u)
            found = Part(found.box, (*found.bounds, (l, u)), (*found.tilts, tilt))
        return found
