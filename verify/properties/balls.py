"""Balls as what the checker takes: the box around them, with cuts that the ball does not cross.

In the ball g·x ≤ g·c + ε‖g‖* for every g (‖·‖* the dual norm, rounded up in exact arithmetic), so this atom may stand
beside an unsafe one without changing what is claimed, and so may their sum. Where −g is the slope of the margin's lower
bound, the bound of the sum over the box is the bound of the margin over the ball. Unsafe points of the box outside of
the ball are cut off one by one. Source: dual norms as in Zhang et al. 2018, CROWN, arXiv 1811.00866, section 3.3.
"""

import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import partial
from math import isqrt
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from axiom_jax._errors import UnsupportedPrimitive
from axiom_jax.verification.domains.interval import Interval
from axiom_jax.verification.domains.linear import Plan, crown_below
from axiom_jax.verification.proof.certificate import Certificate, canonical, describe_property
from axiom_jax.verification.proof.exact import exactly
from axiom_jax.verification.properties.answering import is_answer
from axiom_jax.verification.properties.scope import Budget, Place, closed_box, ends, float_ends
from axiom_jax.verification.properties.ways import ByBounds, Outcome
from axiom_jax.verification.property import Atom, Case, Property
from axiom_jax.verification.regions import L1, L2, Polytope, Region
from axiom_jax.verification.search.margins import Subject, pose, with_atoms
from axiom_jax.verification.verdict import Refuted, Unknown

BITS = 24  # of the slopes of cuts: they need not be exact, any slope makes a true cut
ROUNDS = 24  # unsafe points outside of the ball that are cut off
INWARD = (Fraction(1), Fraction(999, 1000), Fraction(9, 10))  # of the radius, where such a point is tried in the ball
TOWARDS = tuple(Fraction(1, 2**k) for k in (20, 10, 7, 4, 2, 1))  # the middle of a box, from a point outside
Unsafe = tuple[tuple[Atom, ...], ...]


@dataclass(frozen=True, eq=False)
class ByBall:
    """Search over the box around a ball, cut to a polytope around the ball.

    Args:
        subject: the network. ask: what is asked over the box.
        region, centre: the ball, exact.
        judge: the refutation by an exact point, or None.
        network: as `Way` says.
    """

    subject: Subject
    ask: Callable[[], Property]
    region: L1 | L2
    centre: tuple[Fraction, ...]
    judge: Callable[[list[Fraction]], Refuted | None]
    network: str = "model"

    def key(self) -> str:
        ball = [str(self.region), [str(c) for c in self.centre], describe_property(self.ask())]
        return hashlib.sha256(canonical(ball)).hexdigest()

    def settle(self, budget: Budget) -> Outcome:
        start, plain, extra = time.monotonic(), self.ask(), []
        spent = lambda: time.monotonic() - start
        try:
            steepest = slopes(self.subject, plain)
        except UnsupportedPrimitive as error:
            return Outcome(Unknown(f"no bounds: {error.what}"), spent())
        for slope in steepest:
            if (found := self._nearby(self._lowest(slope), plain.cases[0])) is not None:
                return Outcome(found, spent())
        outcome = Outcome(Unknown("out of time"), 0.0)
        searched = 0.0
        for _ in range(ROUNDS):
            prop = with_cuts(plain, steepest, extra, self.region, self.centre)
            left = replace(budget, seconds=max(budget.seconds - searched, 0.0))
            outcome = ByBounds(self.subject, prop, self.network).settle(left)
            searched += outcome.seconds if extra else 0.0  # the first round compiles
            if not isinstance(outcome.answer, Refuted):
                break
            point = outcome.answer.counterexample.inputs
            if inside(self.region, point, self.centre):
                break
            if (found := self._nearby(point, plain.cases[0])) is not None:
                return Outcome(found, spent())
            extra.append([x - c for x, c in zip(point, self.centre, strict=True)])
            if searched > budget.seconds:
                break
        answer = outcome.answer
        if isinstance(answer, Refuted) and not inside(self.region, answer.counterexample.inputs, self.centre):
            reason = f"the polytope around the ball has unsafe points outside of it; {len(extra)} were cut off"
            answer = Unknown(reason, timed_out=searched > budget.seconds)
        return Outcome(answer, spent(), outcome.bound)

    def _lowest(self, slope: Sequence[Fraction]) -> list[Fraction]:
        """About the point of the ball where g·x is least; `_nearby` pulls it in."""
        if isinstance(self.region, L1):
            steepest = max(range(len(slope)), key=lambda i: abs(slope[i]))
            slope = [g if i == steepest else Fraction(0) for i, g in enumerate(slope)]
        size = _norm(slope, self.region) or Fraction(1)
        return [c - 2 * self.region.eps * g / size for c, g in zip(self.centre, slope, strict=True)]

    def _nearby(self, point: Sequence[Fraction], case: Case) -> Refuted | None:
        """The refutation by the point pulled into the ball."""
        away = [x - c for x, c in zip(point, self.centre, strict=True)]
        size = _norm(away, self.region)
        for share in INWARD:
            scale = min(share * self.region.eps / size, Fraction(1)) if size else Fraction(0)
            pulled = [Fraction(float(np.float32(float(c + scale * a)))) for c, a in zip(self.centre, away, strict=True)]
            if not _within(case, pulled) or not inside(self.region, pulled, self.centre):
                continue
            if (found := self.judge(pulled)) is not None:
                return found
        return None

    def answers(self, part: Any) -> bool:
        """Whether a certificate is about this network, this box and atoms that the ball implies."""
        exact = exactly(self.subject)
        if not isinstance(part, Certificate) or exact.missing is not None:
            return False
        if any(part.payload["model"][key] != exact.model[key] for key in ("program", "tensors")):
            return False
        (case,), (mine,) = part.payload["property"]["cases"], self.ask().cases
        if part.claim == "violated":
            alone = case["exact"]["lo"] == case["exact"]["hi"]
            unsafe = describe_property(Property((mine,)))["cases"][0]
            point = [_number(x) for x in part.payload["proof"]["inputs"]]  # may be the case's point, rounded to float32
            there = alone and _within(mine, point) and inside(self.region, point, self.centre)
            return there and case["unsafe"] == unsafe["unsafe"]
        described = describe_property(Property((mine,)))["cases"][0]
        same = case["exact"] == described["exact"] and len(case["unsafe"]) == len(mine.unsafe)
        return same and all(
            self._only_implied([_read(raw) for raw in conjunct], list(own))
            for conjunct, own in zip(case["unsafe"], mine.unsafe, strict=True)
        )

    def _only_implied(self, atoms: list[Atom], own: list[Atom]) -> bool:
        """Whether a conjunction is the question's own one and atoms that follow from it in the ball."""
        if atoms[: len(own)] != own:
            return False
        return all(any(self._implies(base, atom) for base in (None, *own)) for atom in atoms[len(own) :])

    def _implies(self, base: Atom | None, atom: Atom) -> bool:
        base = base or Atom((), Fraction(0))
        if atom.output != base.output or atom.strict != base.strict:
            return False
        slope = [Fraction(0)] * len(self.centre)
        for sign, terms in ((1, atom.input), (-1, base.input)):
            for i, c in terms:
                slope[i] += sign * c
        return _highest(slope, self.centre, self.region) <= atom.threshold - base.threshold


@dataclass(frozen=True, eq=False)
class OnlyInside:
    """A way that asks boxes around what is claimed: it proves the claim, and refutes it by points of the claim only.

    Args:
        way: over the boxes.
        said: what tells what is claimed from the boxes, for `key`.
        counts: whether an exact point is of the claim.
        judge: the refutation by an exact point, or None.
    """

    way: ByBounds | ByBall
    said: str
    counts: Callable[[Sequence[Fraction]], bool]
    judge: Callable[[list[Fraction]], Refuted | None]

    @property
    def network(self) -> str:
        return self.way.network

    def key(self) -> str:
        return hashlib.sha256(canonical([self.way.key(), self.said])).hexdigest()

    def questions(self) -> list[tuple[Subject, Property]]:
        """As `Way` says."""
        return [(self.way.subject, self.way.property)] if isinstance(self.way, ByBounds) else []

    def answers(self, part: Any) -> bool:
        """As `Way` says: a counterexample is no answer where it is not of the claim."""
        if not is_answer(part, self.way):
            return False
        return part.claim != "violated" or self.counts([_number(x) for x in part.payload["proof"]["inputs"]])

    def settle(self, budget: Budget) -> Outcome:
        start = time.monotonic()
        outcome = self.way.settle(budget)
        if not isinstance(outcome.answer, Refuted) or self.counts(outcome.answer.counterexample.inputs):
            return outcome
        found = self._nearby(outcome.answer.counterexample.inputs)
        answer = found or Unknown("the box around the region has unsafe points that are not of the region")
        return replace(outcome, answer=answer, seconds=time.monotonic() - start)

    def _nearby(self, point: Sequence[Fraction]) -> Refuted | None:
        """The refutation by a float32 point on the way from an unsafe point to the middle of its box."""
        prop = self.way.property if isinstance(self.way, ByBounds) else self.way.ask()
        for case in [case for case in prop.cases if _within(case, point)][:4]:
            for share in TOWARDS:
                near = [x + share * ((a + b) / 2 - x) for a, x, b in zip(case.lo, point, case.hi, strict=True)]
                near = [Fraction(float(np.float32(float(x)))) for x in near]
                if self.counts(near) and (found := self.judge(near)) is not None:
                    return found
        return None


def with_cuts(
    prop: Property, steepest: list[list[Fraction]], extra: list[list[Fraction]], region: L1 | L2,
    centre: Sequence[Fraction],
) -> Property:  # fmt: skip
    """A property over a box, each conjunction with atoms that a ball implies.

    Args:
        steepest: slopes of the margin of each atom; its sum with the cut against this slope is added.
        extra: directions whose cuts are added by themselves.
    """
    (case,) = prop.cases
    rows = iter(steepest)
    cuts = [_cut(direction, centre, region) for direction in extra]
    unsafe = tuple(
        (*conjunct, *(_implied(atom, next(rows), centre, region) for atom in conjunct), *cuts)
        for conjunct in case.unsafe
    )
    return Property((Case(case.lo, case.hi, unsafe),), prop.text)


def slopes(subject: Subject, prop: Property) -> list[list[Fraction]]:
    """For every atom the slope of a linear lower bound of its left side over the box, rounded."""
    rows, _ = lines_below(subject, prop)
    rounded = lambda v: Fraction(round(float(v) * 2**BITS), 2**BITS) if np.isfinite(v) else Fraction(0)
    return [[rounded(v) for v in row] for row in rows]


def lines_below(subject: Subject, prop: Property) -> tuple[np.ndarray, np.ndarray]:
    """For every atom of the first case a linear lower bound of left side − threshold over the box, about.

    Returns:
        Slopes (atoms, inputs) and constants (atoms,), float64.

    Raises:
        UnsupportedPrimitive: there are no bounds.
    """
    question = pose(subject, prop)
    given = with_atoms(question.values, question.slots, question.spec, 0)
    lo, hi = (jnp.asarray(end[0], jnp.float32) for end in (question.lo, question.hi))
    rows, value = (np.asarray(a, np.float64) for a in _lines(question.plan, given, Interval(lo, hi)))
    rows = rows.reshape(len(value), -1)
    count = sum(len(conjunct) for conjunct in prop.cases[0].unsafe)
    least = np.minimum(rows * np.asarray(lo, np.float64), rows * np.asarray(hi, np.float64)).sum(1)
    return rows[:count], (value - least)[:count]


@partial(jax.jit, static_argnums=0)
def _lines(plan: Plan, given: Any, box: Interval) -> tuple[Any, Any]:
    found = crown_below(plan, given, box)
    return found.rows[0], found.value


def _cut(g: Sequence[Fraction], centre: Sequence[Fraction], region: L1 | L2) -> Atom:
    """g·x ≤ g·c + ε‖g‖*, with g rounded to few bits."""
    if isinstance(region, L1):  # the facet that the direction points at
        g = [Fraction((v > 0) - (v < 0)) for v in g]
    largest = max(map(abs, g)) or Fraction(1)
    short = [Fraction(round(v / largest * 2**BITS), 2**BITS) for v in g]
    return Atom((), _highest(short, centre, region), tuple((i, v) for i, v in enumerate(short) if v))


def _implied(atom: Atom, slope: list[Fraction], centre: Sequence[Fraction], region: L1 | L2) -> Atom:
    """The sum of an atom and the cut with −slope."""
    inputs = dict(atom.input)
    for i, g in enumerate(slope):
        inputs[i] = inputs.get(i, Fraction(0)) - g
    terms = tuple((i, c) for i, c in sorted(inputs.items()) if c)
    highest = _highest([-g for g in slope], centre, region)
    return Atom(atom.output, atom.threshold + highest, terms, atom.strict)


def _highest(g: Sequence[Fraction], centre: Sequence[Fraction], region: L1 | L2) -> Fraction:
    """An upper end of g·x over the ball."""
    return sum((v * c for v, c in zip(g, centre, strict=True)), Fraction(0)) + region.eps * dual_norm(g, region)


def dual_norm(g: Sequence[Fraction], region: L1 | L2) -> Fraction:
    """An upper end of the dual norm of a slope: the greatest entry for L1, the Euclidean norm rounded up for L2.

    >>> dual_norm([Fraction(3), Fraction(-4)], L2(1)), dual_norm([Fraction(3), Fraction(-4)], L1(1))
    (Fraction(5, 1), Fraction(4, 1))
    """
    return max(map(abs, g), default=Fraction(0)) if isinstance(region, L1) else _root(sum(v * v for v in g))


def _norm(away: Sequence[Fraction], region: L1 | L2) -> Fraction:
    """An upper end of the norm itself."""
    return sum(map(abs, away), Fraction(0)) if isinstance(region, L1) else _root(sum(v * v for v in away))


def _root(square: Fraction | int) -> Fraction:
    """The square root, rounded up."""
    scaled = Fraction(square) * 4**BITS
    root = isqrt(scaled.numerator // scaled.denominator)
    return Fraction(root if root * root == scaled else root + 1, 2**BITS)


def centre(scope: Any, region: L1 | L2) -> list[Fraction]:
    """The centre of a ball, flat and exact."""
    return [(a + b) / 2 for a, b in zip(*scope.bounds(region), strict=True)]


def inside(region: L1 | L2, point: Sequence[Fraction], centre: Sequence[Fraction]) -> bool:
    """Whether an exact point lies in a ball.

    >>> inside(L2(5), [Fraction(3), Fraction(4)], [Fraction(0)] * 2)
    True
    >>> inside(L1(5), [Fraction(3), Fraction(4)], [Fraction(0)] * 2)
    False
    """
    away = [x - c for x, c in zip(point, centre, strict=True)]
    if isinstance(region, L1):
        return sum(map(abs, away)) <= region.eps
    return sum(v * v for v in away) <= region.eps**2


def contains(place: Place, point: Sequence[Fraction], besides: Sequence[int] = ()) -> bool:
    """Whether an exact flat point lies in a place: open ends are left out, a ball is the ball and not its box.

    Args:
        besides: components that are not looked at where the region is a box.

    >>> from axiom_jax.verification.regions import Box
    >>> [contains(Place(Box(0, None, lo_open=True), ""), [Fraction(x)]) for x in (0, 1)]
    [False, True]
    """
    return all(_holds(region, point, besides) for region in (place.region, place.within) if region is not None)


def _holds(region: Region, point: Sequence[Fraction], besides: Sequence[int]) -> bool:
    lo, hi = ends(region, len(point))
    if isinstance(region, (L1, L2)):
        return inside(region, point, [(a + b) / 2 for a, b in zip(lo, hi, strict=True)])  # pyright: ignore
    if isinstance(region, Polytope) and not region.holds(point):
        return False
    without = (getattr(region, "lo_open", False), getattr(region, "hi_open", False))
    return all(
        (a is None or a < x or (a == x and not without[0])) and (b is None or x < b or (x == b and not without[1]))
        for i, (a, x, b) in enumerate(zip(lo, point, hi, strict=True)) if i not in besides
    )  # fmt: skip


def is_box(place: Place) -> bool:
    """Whether a place is a closed box, so that every point of the box around it is of it."""
    return closed_box(place.region) and (place.within is None or closed_box(place.within))


def moved_in(place: Place, x: np.ndarray) -> np.ndarray:
    """Float32 rows moved into a place where they are not: into a box exactly, into others but for rounding.

    Args:
        x: (rows, inputs).
    """
    lo, hi = float_ends(place, x.shape[1])
    with np.errstate(invalid="ignore", over="ignore"):
        x = np.where((x < lo) & np.isinf(hi), lo + (lo - x), x)
        x = np.where((x > hi) & np.isinf(lo), hi - (x - hi), x)
        x = np.clip(x, lo, hi).astype(np.float32)
    region = place.region
    if isinstance(region, (L1, L2)):
        middle = np.array([float((a + b) / 2) for a, b in zip(*ends(region, x.shape[1]), strict=True)])  # pyright: ignore
        away = x.astype(np.float64) - middle
        norm = np.linalg.norm(away, 1 if isinstance(region, L1) else 2, axis=1, keepdims=True)
        scale = np.minimum(1.0, float(region.eps) * (1 - 1e-6) / np.maximum(norm, 1e-300))
        x = np.clip((middle + away * scale).astype(np.float32), lo, hi)
    for polytope in (place.region, place.within):
        if isinstance(polytope, Polytope):
            x = np.clip(_pulled(polytope, x.astype(np.float64)).astype(np.float32), lo, hi)
    return x


def _pulled(polytope: Polytope, x: np.ndarray) -> np.ndarray:
    """Rows pulled straight towards a point of a polytope, as far as needed."""
    middle = np.array([float(v) for v in polytope.inner])
    a, b = np.array(polytope.a, np.float64), np.array(polytope.b, np.float64)
    away, room = (x - middle) @ a.T, np.maximum(b - a @ middle, 0.0)
    share = np.where(away > room, room * (1 - 1e-6) / np.where(away > 0, away, 1.0), 1.0)
    return middle + (x - middle) * share.min(1, keepdims=True)


def _within(case: Case, point: Sequence[Fraction]) -> bool:
    return all(a <= x <= b for a, x, b in zip(case.lo, point, case.hi, strict=True))


def _number(text: str) -> Fraction:
    return Fraction(float.fromhex(text)) if "x" in text else Fraction(text)


def _read(raw: dict[str, Any]) -> Atom:
    pairs = lambda terms: tuple((int(i), Fraction(c)) for i, c in terms)
    return Atom(pairs(raw["output"]), Fraction(raw["threshold"]), pairs(raw["input"]), raw["strict"])
