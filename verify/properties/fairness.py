"""Decisions that do not depend on a protected attribute: for every pair of inputs, and on average over groups.

Individual fairness is a claim about two copies of the model and is proved or refuted. Group fairness on data is a
statistic of that sample: it is tested, with a confidence interval, and never proved. Source of the intervals: Clopper
and Pearson 1934 for one rate; Newcombe 1998 (method 10, Wilson's scores) for the difference of two.
"""

import itertools
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import jax.numpy as jnp
import numpy as np

from axiom_jax._errors import SpecError, UnsupportedPrimitive
from axiom_jax._shapes_places import caller
from axiom_jax.verification.properties.balls import contains
from axiom_jax.verification.properties.base import Claim, Condition, judged
from axiom_jax.verification.properties.composing import BySufficient, Run, atom, certify, composed, executed
from axiom_jax.verification.properties.monotone import indices
from axiom_jax.verification.properties.scope import Budget, Place, Scope
from axiom_jax.verification.properties.ways import ByRunning, Outcome, Way
from axiom_jax.verification.property import Atom, Case, Property
from axiom_jax.verification.regions import Everything, exact
from axiom_jax.verification.results import Answer, Tested
from axiom_jax.verification.search.bounding import bound
from axiom_jax.verification.search.branch_and_bound import SLACK
from axiom_jax.verification.search.compilation import compile_seconds
from axiom_jax.verification.search.margins import Subject, nearest, pose
from axiom_jax.verification.verdict import Proved, Refuted, Unknown

MAX_CASES = 10_000  # combinations of values that are asked one by one
BATCH = 64  # boxes bounded in one call
SAMPLES = 8192
SUSPECTS = 8
Ends = tuple[tuple[Fraction, ...], tuple[Fraction, ...]]


@dataclass(frozen=True, eq=False)
class IndividualFairness:
    """Two inputs that differ in the protected attribute, and by at most `eps` elsewhere, get the same decision.

    Args:
        protected: flat indices of the attribute's inputs: one number, or the inputs of a one-hot code.
        values: what the attribute may be: numbers, or a row a value for several inputs; None: anything in the region
            for one input, the one-hot rows for several. Given values stand in for the region's ends there.
        eps: how much every other input may differ; whole numbers by whole steps of at most eps, and inputs of
            categorical not at all.
        tolerance: outputs may differ by this much; None: the decision is compared.
        threshold: the decision is `output > threshold`, for each output; None: the class of the largest output, the
            first of equal ones.
        categorical: groups of inputs that are one-hot codes; they are the same in both copies.
        integers: inputs that are whole numbers.

    Both inputs lie in the region; a proof over a ball is one over the box around it.

    >>> IndividualFairness(0, values=[0, 1]).name
    'IndividualFairness(0)'
    """

    protected: int | Sequence[int]
    values: Sequence[Any] | None = None
    eps: Any = 0
    tolerance: Any = None
    threshold: Any = None
    categorical: Sequence[Sequence[int]] = ()
    integers: Sequence[int] = ()

    def __post_init__(self) -> None:
        given = [self.protected] if isinstance(self.protected, (int, np.integer)) else list(self.protected)
        object.__setattr__(self, "protected", tuple(int(i) for i in given))
        object.__setattr__(self, "categorical", tuple(tuple(int(i) for i in group) for group in self.categorical))
        object.__setattr__(self, "integers", tuple(int(i) for i in self.integers))
        for name in ("eps", "tolerance", "threshold"):
            value = getattr(self, name)
            if value is not None:
                number = exact(value)
                if not isinstance(number, Fraction) or (number < 0 and name != "threshold"):
                    raise SpecError(f"{name} is a number of at least 0.", at=caller(), got=str(value),
                                    fix=f"{name}=0.1")  # fmt: skip
                object.__setattr__(self, name, number)
        if self.tolerance is not None and self.threshold is not None:
            raise SpecError("Either a tolerance or a threshold decides.", at=caller(), fix="give one of them")

    @property
    def _protected(self) -> tuple[int, ...]:
        return self.protected  # pyright: ignore[reportReturnType]

    @property
    def name(self) -> str:
        which = self._protected[0] if len(self._protected) == 1 else list(self._protected)
        return f"IndividualFairness({which}{f', eps={self.eps}' if self.eps else ''})"

    def claims(self, scope: Scope) -> Iterable[Claim]:
        """A claim a region; about the rows of the data where there is none."""
        pair = _Pair(self, scope)
        if scope.region is None and scope.samples is not None:
            yield pair.on_data()
            return
        for place in scope.places():
            yield pair.claim(place)


class _Pair:
    """Two copies of a model as one network: inputs, then the protected inputs of the second copy, then differences."""

    def __init__(self, prop: IndividualFairness, scope: Scope):
        self.prop, self.scope, self.size = prop, scope, scope.subject.size
        self.protected = indices(prop._protected, self.size, "input")
        self.groups = [indices(group, self.size, "input") for group in prop.categorical]
        self.integers = indices(prop.integers, self.size, "input") if prop.integers else ()
        used = [*self.protected, *(i for group in self.groups for i in group), *self.integers]
        if len(set(used)) != len(used):
            raise SpecError("An input is named twice.", at=caller(), got="protected, categorical and integers overlap",
                            fix="name each input once")  # fmt: skip
        fixed = {*self.protected, *(i for group in self.groups for i in group)}
        reach = lambda i: Fraction(prop.eps // 1) if i in self.integers else prop.eps
        self.moving = tuple(i for i in range(self.size) if i not in fixed and reach(i))
        self.reach = tuple(reach(i) for i in self.moving)
        start = self.size + len(self.protected)
        self.whole = (*self.integers, *(start + k for k, i in enumerate(self.moving) if i in self.integers))
        self.decides = prop.tolerance is None and prop.threshold is None
        if self.decides and scope.outputs < 2:
            raise SpecError("A model of one output needs to be told what a decision is.", at=caller(),
                            fix="threshold=0.5, or tolerance=0.1 for outputs that shall be close")  # fmt: skip
        self.base = scope.subject
        logits = scope.tail.logits if self.decides else None
        if logits is not None:
            self.base = scope.kept("front", lambda: scope.tail.before(logits))
        self.width = len(self.protected) + len(self.moving)

    def subject(self, lo: Sequence[Fraction], hi: Sequence[Fraction]) -> Subject:
        """Outputs of both copies, one after the other."""
        protected, moving, size = self.protected, self.moving, self.size
        outward = lambda x, to: _outward(x, to)
        low = np.array([outward(lo[i], -np.inf) for i in moving], np.float32)
        high = np.array([outward(hi[i], np.inf) for i in moving], np.float32)
        base = self.base

        def both(run: Run, z: Any) -> Any:
            x, extra = z[:size], z[size:]
            places = [size + protected.index(i) if i in protected else i for i in range(size)]
            other = z[np.array(places)]
            if moving:
                moved = jnp.clip(x[np.array(moving)] + extra[len(protected) :], low, high)
                joined = jnp.concatenate([other, moved])
                other = joined[np.array([size + moving.index(i) if i in moving else i for i in range(size)])]
            return jnp.concatenate([run(x), run(other)])

        if base is self.scope.subject:
            return composed(
                self.scope, ("fair", self.prop, tuple(lo), tuple(hi)), both, size + self.width, "two copies"
            )
        inner = Scope(base, base, None, _kept=self.scope._kept)
        return composed(inner, ("fair front", self.prop, tuple(lo), tuple(hi)), both, size + self.width, "two copies")

    def unsafe(self, outputs: int) -> tuple[tuple[Atom, ...], ...]:
        """The decisions of the copies differ."""
        prop = self.prop
        if prop.tolerance is not None:
            return tuple(
                (atom({j: s, outputs + j: -s}, -prop.tolerance),) for j in range(outputs) for s in (1, -1)
            )  # y - y' < -tolerance, or the other way
        if prop.threshold is not None:
            t = prop.threshold
            above = lambda j: atom({j: -1}, -t)
            below = lambda j: atom({j: 1}, t, strict=False)
            return tuple((above(j + a), below(j + b)) for j in range(outputs) for a, b in ((0, outputs), (outputs, 0)))

        def chosen(c: int, offset: int) -> Iterator[Atom]:
            for j in range(outputs):
                if j != c:  # the first of equal ones is chosen
                    yield atom({offset + j: 1, offset + c: -1}, 0, strict=j < c)

        pairs = [(c, d) for c in range(outputs) for d in range(outputs) if c != d]
        conjuncts = ((*chosen(c, 0), *chosen(d, outputs)) for c, d in pairs)
        return tuple(tuple(sorted(atoms, key=lambda a: not a.strict)) for atoms in conjuncts)  # for ties: strict first

    def values(self, lo: Sequence[Fraction], hi: Sequence[Fraction]) -> list[tuple[Ends, Ends]]:
        """Boxes of the protected inputs of both copies, one a pair of values."""
        count, given = len(self.protected), self.prop.values
        if given is None:
            if count == 1:
                whole: Ends = ((lo[self.protected[0]],), (hi[self.protected[0]],))
                return [(whole, whole)]
            given = np.eye(count).tolist()
        rows = []
        for value in given:
            row = exact(value)
            row = (row,) if isinstance(row, Fraction) else row
            if row is None or len(row) != count:
                raise SpecError("A value of the protected attribute has another size.", at=caller(),
                                got=f"{value} for {count} inputs", fix="give a number an input")  # fmt: skip
            rows.append(row)
        if len(rows) < 2:
            raise SpecError("The protected attribute has one value.", at=caller(), fix="values=[0, 1]")
        return [((a, a), (b, b)) for a, b in itertools.combinations(rows, 2)]

    def boxes(self, lo: Sequence[Fraction], hi: Sequence[Fraction]) -> list[Ends]:
        """A box for every combination of values that are asked one by one."""
        choices: list[list[dict[int, tuple[Fraction, Fraction]]]] = []
        for group in self.groups:
            hot = [c for c in group if all(lo[i] <= (i == c) <= hi[i] for i in group)]
            choices.append([{i: (Fraction(i == c), Fraction(i == c)) for i in group} for c in hot])
        pairs, total = self.values(lo, hi), 1
        for choice in choices:
            total *= len(choice)
        lo, hi = self.rounded(lo, hi)
        if total == 0 or any(lo[i] > hi[i] for i in self.integers):
            raise SpecError("The region holds no whole number or one-hot code.", at=caller(),
                            fix="give a region that does, or name other inputs")  # fmt: skip
        if total * len(pairs) > MAX_CASES:
            raise _TooMany(total * len(pairs))
        found, reach = list[Ends](), self.reach
        for combination in itertools.product(*choices):
            low, high = list(lo), list(hi)
            for part in combination:
                for i, (a, b) in part.items():
                    low[i], high[i] = a, b
            for first, second in pairs:
                for i, a, b in zip(self.protected, *first, strict=True):
                    low[i], high[i] = a, b
                found.append(((*low, *second[0], *(-far for far in reach)), (*high, *second[1], *reach)))
        return found

    def rounded(self, lo: Sequence[Fraction], hi: Sequence[Fraction]) -> tuple[list[Fraction], list[Fraction]]:
        """The ends of a box, of whole numbers the whole ones inside."""
        low, high = list(lo), list(hi)
        for i in self.integers:
            low[i], high[i] = Fraction(-(-low[i] // 1)), Fraction(high[i] // 1)
        return low, high

    def both(self, point: Sequence[Fraction]) -> tuple[list[Fraction], list[Fraction]]:
        """The two inputs that a point of the pair stands for."""
        first, second = list(point[: self.size]), list(point[: self.size])
        extra = point[self.size :]
        for i, value in zip(self.protected, extra, strict=False):
            second[i] = value
        for i, moved in zip(self.moving, extra[len(self.protected) :], strict=True):
            second[i] += moved
        return first, second

    def discrete(self, point: Sequence[Fraction]) -> bool:
        """Whether a point of the pair has whole numbers and one-hot codes where they are asked."""
        coded = all(sorted(point[i] for i in group) == [0] * (len(group) - 1) + [1] for group in self.groups)
        return coded and all(point[i].denominator == 1 for i in self.whole)

    def claim(self, place: Place) -> Claim:
        lo, hi = self.scope.bounds(place.region)
        subject = self.subject(*self.rounded(lo, hi))
        outputs = subject.flat[0].outputs[0].size // 2
        text = self.text(place.text)
        condition = Condition(subject, self.unsafe(outputs), text)
        ways: list[Way] = []
        try:
            boxes = self.boxes(lo, hi)
        except _TooMany as many:
            raise SpecError(
                "There are too many combinations of values to ask one by one.", at=caller(),
                got=f"{many.args[0]:,}; at most {MAX_CASES:,}",
                fix="leave groups out of categorical: then every mixture of their values is asked, which is more",
            ) from None  # fmt: skip

        given = self.protected if self.prop.values is not None or len(self.protected) > 1 else ()

        def inside(point: tuple[Fraction, ...]) -> bool:
            """Given values stand in for the ends of a box, so a box does not speak of the protected inputs then."""
            first, second = self.both(point)
            apart = any(first[i] != second[i] for i in self.protected)
            return apart and self.discrete(point) and all(contains(place, x, given) for x in (first, second))

        def suspects(point: np.ndarray | None) -> Iterable[list[Fraction]]:
            if point is not None:
                exactly = [Fraction(float(v)) for v in point]
                for i in self.whole:
                    exactly[i] = Fraction(round(exactly[i]))
                yield exactly
                return
            yield from self.flips(condition, boxes, inside)

        way = BySufficient(condition, condition, tuple(boxes), None, text, suspects, inside)
        ways.append(_ByIntegers(way, self.whole) if self.whole else way)
        notes = ("the logits decide as the outputs do",) if self.base is not self.scope.subject else ()
        return Claim(self.prop.name, text, place, tuple(ways), notes)

    def flips(
        self, condition: Condition, boxes: list[Ends], inside: Callable[[tuple[Fraction, ...]], bool]
    ) -> Iterator[list[Fraction]]:
        """Executed inputs of the pair whose decisions differ, those with the clearest difference first."""
        generator = np.random.default_rng(0)
        chosen = boxes if len(boxes) <= 512 else [boxes[i] for i in generator.choice(len(boxes), 512, replace=False)]
        low, high = (np.array([[float(v) for v in box[side]] for box in chosen]) for side in (0, 1))
        share = np.repeat(np.arange(len(chosen)), max(SAMPLES // len(chosen), 1))
        x = low[share] + generator.random((len(share), low.shape[1])) * (high - low)[share]
        x[:, list(self.whole)] = np.rint(x[:, list(self.whole)])
        x = np.clip(x.astype(np.float32), low[share].astype(np.float32), high[share].astype(np.float32))
        y = executed(condition.subject, x)
        differ = self.differ(y[:, : y.shape[1] // 2], y[:, y.shape[1] // 2 :])
        order = (int(i) for i in np.argsort(-differ, kind="stable")[: SAMPLES // 8] if differ[i] > 0)
        points = (tuple(Fraction(float(v)) for v in x[i]) for i in order)
        yield from map(list, itertools.islice(filter(inside, points), SUSPECTS))

    def differ(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """How clearly the decisions differ; at most 0 where they do not."""
        if self.prop.tolerance is not None:
            return np.abs(a - b).max(1) - float(self.prop.tolerance)
        if self.prop.threshold is not None:
            t = float(self.prop.threshold)
            return np.where((a > t) != (b > t), np.minimum(np.abs(a - t), np.abs(b - t)) + 1e-30, 0).max(1)
        lead = lambda y: (lambda s: s[:, -1] - s[:, -2])(np.sort(y, 1))
        return np.where(a.argmax(1) != b.argmax(1), np.minimum(lead(a), lead(b)) + 1e-30, 0)

    def text(self, where: str) -> str:
        prop = self.prop
        near = f", by at most {prop.eps} in the inputs {list(self.moving)}" if self.moving else ""
        others = f"{near} and are equal in the others"
        same = (
            f"outputs differ by at most {prop.tolerance}" if prop.tolerance is not None
            else f"outputs lie on the same side of {prop.threshold}" if prop.threshold is not None
            else "classes are the same"
        )  # fmt: skip
        kinds = [f"inputs {list(group)} a one-hot code" for group in self.groups]
        kinds += [f"inputs {list(self.integers)} whole numbers"] if self.integers else []
        given = f" ({', '.join(kinds)})" if kinds else ""
        values = "" if prop.values is None else f" over {[str(v) for v in prop.values]}"
        return (f"for all x, x′ with {where}{given} that differ in the protected inputs {list(self.protected)}{values}"
                f"{others}: the {same}")  # fmt: skip

    def on_data(self) -> Claim:
        rows = self.scope.samples.x  # pyright: ignore[reportOptionalMemberAccess]
        low, high = rows.min(0), rows.max(0)
        ends = [Fraction(float(v)) for v in low], [Fraction(float(v)) for v in high]
        subject = self.subject(*ends)
        text = self.text(f"one of {len(rows)} rows of data")
        condition = Condition(subject, self.unsafe(subject.flat[0].outputs[0].size // 2), text)

        def run(budget: Budget) -> Answer:
            pairs = self.values(*ends)
            for first, second in pairs:
                x = np.concatenate([rows, np.zeros((len(rows), self.width), np.float32)], 1)
                x[:, list(self.protected)] = [float(v) for v in first[0]]
                x[:, self.size : self.size + len(self.protected)] = [float(v) for v in second[1]]
                y = executed(subject, x)
                differ = self.differ(y[:, : y.shape[1] // 2], y[:, y.shape[1] // 2 :])
                for i in np.argsort(-differ, kind="stable")[:SUSPECTS]:
                    point = [Fraction(float(v)) for v in x[i]]
                    if differ[i] > 0 and self.discrete(point) and (found := judged(condition, point)):
                        return found
            return Tested(len(rows) * len(pairs), "the protected attribute of every row was swapped")

        return Claim(self.prop.name, text, Place(Everything(), "the data"), (ByRunning(run),))


@dataclass(frozen=True, eq=False)
class _ByIntegers:
    """Halve ranges of whole numbers between the numbers, so that no fraction is asked; then prove box by box."""

    way: BySufficient
    integers: tuple[int, ...]
    network: str = "composed"

    def key(self) -> str | None:
        return self.way.key()

    def settle(self, budget: Budget) -> Outcome:
        start = time.monotonic()
        outcome = replace(self.way, enough=None, boxes=()).settle(budget)
        if not isinstance(outcome.answer, Refuted):
            try:
                boxes, choices = self._halved(budget.seconds)
            except UnsupportedPrimitive as error:
                return Outcome(Unknown(f"no bounds: {error.what}"), time.monotonic() - start)
            if len(choices) == len(boxes) and self.way.enough is not None:
                unsafe = self.way.enough.unsafe
                prop = Property(tuple(Case(lo, hi, unsafe) for lo, hi in boxes), self.way.text)
                answer = certify(self.way.enough.subject, prop, choices, budget)
                if isinstance(answer, Proved):
                    return Outcome(answer, time.monotonic() - start)
            outcome = replace(self.way, boxes=tuple(boxes), suspects=self._known).settle(budget)
        return replace(outcome, seconds=time.monotonic() - start)

    def _known(self, point: np.ndarray | None) -> Iterable[list[Fraction]]:
        """Points of the search; those executed at random were judged before."""
        return () if point is None or self.way.suspects is None else self.way.suspects(point)

    def _halved(self, seconds: float) -> tuple[list[Ends], list[tuple[int, ...]]]:
        """Boxes that cover every whole number; for those in front that bounds decide, the atoms they refute."""
        condition, found, open_ = self.way.enough, list[Ends](), list(self.way.boxes)
        single, choices = list[Ends](), list[tuple[int, ...]]()
        assert condition is not None
        question = pose(condition.subject, Property((Case(*open_[0], condition.unsafe),), self.way.text))
        start, compiled = time.monotonic(), compile_seconds()
        late = lambda: time.monotonic() - start - (compile_seconds() - compiled) > seconds
        while open_ and not late() and len(found) + len(single) + len(open_) < MAX_CASES:
            batch, open_ = open_[-BATCH:], open_[:-BATCH]
            lo, hi = (np.array([[float(v) for v in box[side]] for box in batch]) for side in (0, 1))
            bounded = bound(question, np.zeros(len(batch), int), lo, hi, BATCH)
            for (low, high), value, choice in zip(batch, bounded.value, bounded.choice, strict=True):
                widest = max(self.integers, key=lambda i: high[i] - low[i])
                if value > SLACK:
                    found.append((low, high))
                    choices.append(tuple(int(k) for k in choice[: len(condition.unsafe)]))
                    continue
                if high[widest] - low[widest] < 1:
                    single.append((low, high))
                    continue
                middle = (low[widest] + high[widest]) // 1 // 2
                for a, b in ((low[widest], Fraction(middle)), (Fraction(middle) + 1, high[widest])):
                    cut = lambda end, v, i=widest: (*end[:i], v, *end[i + 1 :])
                    open_.append((cut(low, a), cut(high, b)))
        return found + single + open_, choices


class _TooMany(Exception):
    """More combinations than are asked one by one."""


def _outward(x: Fraction, to: float) -> np.float32:
    near = nearest(x)
    beyond = Fraction(float(near)) > x if to < 0 else Fraction(float(near)) < x
    return np.nextafter(near, np.float32(to)) if beyond else near
