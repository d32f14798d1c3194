"""An exact oracle for small piecewise-linear nets: every sign pattern, every vertex, in rational arithmetic.

A net is a function of affine forms that asks `decide` for the sign of a form wherever it has a kink. Each sequence of
answers cuts the input box to a polytope, kept as the points that span it, on which every output is affine. Nothing is
shared with the verifier but the weights.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction

Form = tuple[Fraction, ...]  # coefficients of the inputs, then a constant
Decide = Callable[[Form], bool]  # whether a form is taken to be ≥ 0 (else ≤ 0)
Net = Callable[[list[Form], Decide], list[Form]]


def plus(*forms: Form) -> Form:
    return tuple(map(sum, zip(*forms, strict=True)))  # type: ignore[arg-type]


def times(factor: Fraction, form: Form) -> Form:
    return tuple(factor * c for c in form)


def at(form: Form, point: Sequence[Fraction]) -> Fraction:
    return sum((c * x for c, x in zip(form, point, strict=False)), form[-1])


def layer(weights: Sequence[Sequence[Fraction]], bias: Sequence[Fraction], forms: Sequence[Form]) -> list[Form]:
    """weights: (outputs, inputs)."""
    constant = lambda b: (*[Fraction(0)] * (len(forms[0]) - 1), b)
    return [plus(constant(b), *(times(w, f) for w, f in zip(row, forms, strict=True)))
            for row, b in zip(weights, bias, strict=True)]  # fmt: skip


def relu(form: Form, decide: Decide) -> Form:
    return form if decide(form) else times(Fraction(0), form)


def largest(a: Form, b: Form, decide: Decide) -> Form:
    return a if decide(plus(a, times(Fraction(-1), b))) else b


@dataclass(frozen=True)
class Polytope:
    """The convex hull of points, each with the numbers of the half-spaces on whose border it was found to lie."""

    points: tuple[tuple[tuple[Fraction, ...], frozenset[int]], ...]

    def cut(self, form: Form, number: int) -> "Polytope":
        """The part where a form is ≤ 0: points that satisfy it, and where edges cross its border.

        Two points that share dimension − 1 borders may span an edge; where they do not, the point between them lies
        in the polytope all the same, so the hull is exact either way.
        """
        values = [at(form, p) for p, _ in self.points]
        inside = [
            (p, on | {number} if v == 0 else on) for (p, on), v in zip(self.points, values, strict=True) if v <= 0
        ]
        found = dict(inside)
        for (p, on_p), v in zip(self.points, values, strict=True):
            for (q, on_q), w in zip(self.points, values, strict=True):
                if v < 0 < w and len(on_p & on_q) >= len(p) - 1:
                    share = v / (v - w)
                    point = tuple(a + share * (b - a) for a, b in zip(p, q, strict=True))
                    found[point] = found.get(point, frozenset()) | (on_p & on_q) | {number}
        return Polytope(tuple(found.items()))


def box(lo: Sequence[Fraction], hi: Sequence[Fraction]) -> Polytope:
    points: list[tuple[tuple[Fraction, ...], frozenset[int]]] = [((), frozenset())]
    for axis, ends in enumerate(zip(lo, hi, strict=True)):
        points = [((*p, end), on | {-1 - 2 * axis - side}) for p, on in points for side, end in enumerate(ends)]
    return Polytope(tuple(points))


def pieces(net: Net, lo: Sequence[Fraction], hi: Sequence[Fraction]) -> Iterator[tuple[Polytope, list[Form]]]:
    """Every polytope on which the net is affine, with its outputs; the closures of the pieces cover the box."""
    unit = lambda i: tuple(Fraction(int(i == j)) for j in range(len(lo) + 1))
    inputs = [unit(i) for i in range(len(lo))]
    waiting: list[tuple[tuple[bool, ...], Polytope]] = [((), box(lo, hi))]
    while waiting:
        path = _Path(*waiting.pop(), waiting)
        outputs = net(inputs, path.decide)
        yield path.region, outputs


@dataclass
class _Path:
    """One sequence of answers: known ones are repeated, at a new question both are tried, one of them later."""

    answers: tuple[bool, ...]
    region: Polytope
    later: list[tuple[tuple[bool, ...], Polytope]]
    asked: int = 0

    def decide(self, form: Form) -> bool:
        self.asked += 1
        if self.asked > len(self.answers):
            below, above = self.region.cut(form, self.asked), self.region.cut(times(Fraction(-1), form), self.asked)
            if above.points and below.points:
                self.later.append(((*self.answers, False), below))
            self.answers = (*self.answers, bool(above.points))
            self.region = above if above.points else below
        return self.answers[self.asked - 1]


def smallest(net: Net, margins: Callable[[list[Form]], list[Form]], lo: Sequence[Fraction],
             hi: Sequence[Fraction]) -> Fraction:  # fmt: skip
    """The exact minimum over a box of the first margin."""
    return min(at(margins(outputs)[0], p) for region, outputs in pieces(net, lo, hi) for p, _ in region.points)


def reachable(net: Net, margins: Callable[[list[Form]], list[Form]], lo: Sequence[Fraction],
              hi: Sequence[Fraction]) -> tuple[Fraction, ...] | None:  # fmt: skip
    """A point of a box at which all margins are ≤ 0, or None where there is none."""
    for region, outputs in pieces(net, lo, hi):
        for number, margin in enumerate(margins(outputs)):
            region = region.cut(margin, 1000 + number)
        if region.points:
            return region.points[0][0]
    return None


def value(net: Net, point: Sequence[Fraction]) -> list[Fraction]:
    """The outputs at a point."""
    constants = [(Fraction(x),) for x in point]
    return [form[-1] for form in net(constants, lambda form: form[-1] >= 0)]
