"""Decisions compared between groups: statistics of data with confidence intervals, or shares of a region by bounds.

A statistic of data speaks of the population that the data were drawn from, with the stated confidence; it is tested,
never proved. Over a region the share of decisions is that of the uniform distribution, and is bounded.
Source: Clopper and Pearson 1934 (one rate); Newcombe 1998, method 10, from Wilson's scores (a difference of two).
"""

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import combinations
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np

from axiom_jax._errors import SpecError
from axiom_jax._shapes_places import caller
from axiom_jax.verification.properties.base import Claim
from axiom_jax.verification.properties.composing import atom
from axiom_jax.verification.properties.monotone import indices
from axiom_jax.verification.properties.scope import Budget, Place, Scope, need_closed_box
from axiom_jax.verification.properties.ways import ByRunning, Outcome
from axiom_jax.verification.property import Atom, Case, Property
from axiom_jax.verification.regions import Everything, exact
from axiom_jax.verification.results import Answer, Tested
from axiom_jax.verification.verdict import Claimed, Proved, Unknown

if TYPE_CHECKING:
    from axiom_jax.verification.search.bounding import Bounded

MAX_BOXES = 4000  # of a region, in one certificate
BATCH = 64


def clopper_pearson(count: int, total: int, confidence: float = 0.95) -> tuple[float, float]:
    """The exact confidence interval of a rate.

    >>> [round(end, 4) for end in clopper_pearson(8, 10)]
    [0.4439, 0.9748]
    """
    from scipy.stats import beta

    tail = (1 - confidence) / 2
    low = 0.0 if count == 0 else float(beta.ppf(tail, count, total - count + 1))
    high = 1.0 if count == total else float(beta.ppf(1 - tail, count + 1, total - count))
    return low, high


def wilson(count: int, total: int, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval of a rate."""
    from scipy.stats import norm

    z, rate = float(norm.ppf((1 + confidence) / 2)), count / total
    middle = (rate + z * z / (2 * total)) / (1 + z * z / total)
    radius = z * np.sqrt(rate * (1 - rate) / total + z * z / (4 * total * total)) / (1 + z * z / total)
    return max(float(middle - radius), 0.0), min(float(middle + radius), 1.0)


def newcombe(a: int, m: int, b: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """The confidence interval of the difference of two rates, a / m − b / n.

    >>> [round(end, 4) for end in newcombe(56, 70, 48, 80)]
    [0.0524, 0.3339]
    """
    (low, high), (below, above) = wilson(a, m, confidence), wilson(b, n, confidence)
    p, q = a / m, b / n
    return p - q - float(np.hypot(p - low, above - q)), p - q + float(np.hypot(high - p, q - below))


@dataclass(frozen=True, eq=False)
class DemographicParity:
    """The share of favourable decisions differs between groups by at most `tolerance`.

    Args:
        protected: flat index of the input that tells the group; several: a one-hot code.
        tolerance: exact as text.
        values: of the protected input, a group each (for a one-hot code: every input is a group); they stand in for the
            region's ends there. A region is an `ax.Box` or `ax.Linf`.
        favourable: the class that is the favourable decision; with a threshold it is `output > threshold`.
        threshold: for models of one output; None: the class of the largest output.
        confidence: of the intervals.

    >>> DemographicParity(0).name
    'DemographicParity(0)'
    """

    protected: int | Sequence[int]
    tolerance: Any = "0.1"
    values: Sequence[Any] = (0, 1)
    favourable: int = 1
    threshold: Any = None
    confidence: float = 0.95

    def __post_init__(self) -> None:
        _settle_fields(self)

    @property
    def name(self) -> str:
        return _name("DemographicParity", self.protected)

    def claims(self, scope: Scope) -> Iterable[Claim]:
        """A claim a pair of groups: about the data; over the region where there are none."""
        if scope.population is not None:
            for first, second in _pairs(self, scope):
                text = f"the share of favourable decisions differs by at most {self.tolerance} between {first}"
                text = f"{text} and {second}"
                yield _on_data(self, scope, f"{text}, in the population of the data", first, second, None)
            return
        for place in scope.places():
            need_closed_box(place.region, "A region whose shares are compared")
            for first, second in _pairs(self, scope):
                text = (f"for x uniform in {place.text}: the shares of favourable decisions differ by at most "
                        f"{self.tolerance} between {first} and {second}")  # fmt: skip
                note = "the volumes of the certificate's boxes are added exactly, beside the checker"
                yield Claim(self.name, text, place, (_ByVolume(self, scope, place, first, second, text),), (note,))


@dataclass(frozen=True, eq=False)
class EqualizedOdds:
    """Among those with the same label the share of favourable decisions differs between groups by at most `tolerance`.

    Needs data with labels. Args as for `DemographicParity`.

    >>> EqualizedOdds([0, 1]).name
    'EqualizedOdds([0, 1])'
    """

    protected: int | Sequence[int]
    tolerance: Any = "0.1"
    values: Sequence[Any] = (0, 1)
    favourable: int = 1
    threshold: Any = None
    confidence: float = 0.95

    def __post_init__(self) -> None:
        _settle_fields(self)

    @property
    def name(self) -> str:
        return _name("EqualizedOdds", self.protected)

    def claims(self, scope: Scope) -> Iterable[Claim]:
        """A claim a pair of groups and label."""
        if scope.population is None or scope.population.y is None:
            raise SpecError("Equalized odds are about data with labels.", at=caller(),
                            fix="ax.verify(model, ..., data=(x, y)) with class numbers y")  # fmt: skip
        for first, second in _pairs(self, scope):
            for label in np.unique(scope.population.y).tolist():
                text = (f"among those with label {label} the share of favourable decisions differs by at most "
                        f"{self.tolerance} between {first} and {second}, in the population of the data")  # fmt: skip
                yield _on_data(self, scope, text, first, second, label)


Asked = DemographicParity | EqualizedOdds


@dataclass(frozen=True)
class _Group:
    """The inputs with a value: `protected[i] == value[i]` for all i."""

    protected: tuple[int, ...]
    value: tuple[Fraction, ...]

    def among(self, x: np.ndarray) -> np.ndarray:
        return np.all(
            [x[:, i] == np.float32(float(v)) for i, v in zip(self.protected, self.value, strict=True)], axis=0
        )

    def __str__(self) -> str:
        if len(self.protected) == 1:
            return f"x[{self.protected[0]}] = {self.value[0]}"
        return f"x[{self.protected[self.value.index(1)]}] = 1"


def _settle_fields(self: Any) -> None:
    given = [self.protected] if isinstance(self.protected, (int, np.integer)) else list(self.protected)
    object.__setattr__(self, "protected", tuple(int(i) for i in given))
    tolerance = exact(self.tolerance)
    if not isinstance(tolerance, Fraction) or not 0 <= tolerance <= 1:
        raise SpecError("A tolerance lies between 0 and 1.", at=caller(), got=str(self.tolerance), fix='give "0.1"')
    if not 0 < self.confidence < 1:
        raise SpecError("A confidence lies between 0 and 1.", at=caller(), got=str(self.confidence), fix="give 0.95")
    object.__setattr__(self, "tolerance", tolerance)
    object.__setattr__(self, "threshold", None if self.threshold is None else exact(self.threshold))


def _name(kind: str, protected: Any) -> str:
    return f"{kind}({protected[0] if len(protected) == 1 else list(protected)})"


def _pairs(prop: Asked, scope: Scope) -> list[tuple[_Group, _Group]]:
    protected = indices(prop.protected, scope.subject.size, "input")  # pyright: ignore[reportArgumentType]
    if (prop.threshold is None and not 0 <= prop.favourable < scope.outputs) or (
        scope.outputs < 2 and not _decides(prop)
    ):
        raise SpecError("The model has no such class.", at=caller(), got=f"class {prop.favourable} of {scope.outputs}",
                        fix="favourable=0, or threshold=0.5 for a model of one output")  # fmt: skip
    if len(protected) == 1:
        groups = [_Group(protected, (exact(v),)) for v in prop.values]
    else:
        groups = [_Group(protected, tuple(Fraction(i == j) for j in range(len(protected)))) for i in
                  range(len(protected))]  # fmt: skip
    if len(groups) < 2:
        raise SpecError("There is one group.", at=caller(), fix="values=[0, 1]")
    return list(combinations(groups, 2))


def _decides(prop: Asked) -> bool:
    return prop.threshold is not None


def _decisions(prop: Asked, outputs: np.ndarray) -> np.ndarray:
    if prop.threshold is not None:
        return outputs[:, 0] > float(prop.threshold)
    return outputs.argmax(1) == prop.favourable


def _on_data(prop: Asked, scope: Scope, text: str, first: _Group, second: _Group, label: int | None) -> Claim:
    def run(budget: Budget) -> Answer:
        samples = scope.population
        assert samples is not None
        chosen = np.ones(len(samples), bool) if label is None else np.asarray(samples.y == label)
        decided = scope.kept(("decisions", prop), lambda: _decisions(prop, scope.execute(samples.x)))
        counts = []
        for group in (first, second):
            members = chosen & group.among(samples.x)
            counts.append((int(decided[members].sum()), int(members.sum())))
        (a, m), (b, n) = counts
        if not m or not n:
            empty = first if not m else second
            return Unknown(
                f"no row of the data is in the group {empty}" + ("" if label is None else f" with label {label}")
            )
        low, high = newcombe(a, m, b, n, prop.confidence)
        rates = "; ".join(
            f"{group}: {k} of {total} ({k / total:.3f}, {prop.confidence:.0%} interval [{{:.3f}}, {{:.3f}}])".format(
                *clopper_pearson(k, total, prop.confidence)
            )
            for group, (k, total) in zip((first, second), counts, strict=True)
        )
        limit = float(prop.tolerance)
        says = ("the interval lies within the tolerance" if -limit <= low and high <= limit else
                "the interval lies beyond the tolerance" if low > limit or high < -limit else
                "the interval does not decide it: more data would")  # fmt: skip
        return Tested(m + n, f"{says}; {rates}", a / m - b / n, (low, high), prop.confidence)

    return Claim(prop.name, text, Place(Everything(), "the data"), (ByRunning(run),),
                 ("rows are taken to be drawn independently",))  # fmt: skip


@dataclass(frozen=True, eq=False)
class _ByVolume:
    """Halve each group's part of the region until enough of it is known to be decided one way; then have it checked."""

    prop: Asked
    scope: Scope
    place: Place
    first: _Group
    second: _Group
    text: str
    network: str = "model"

    def key(self) -> None:
        return None

    def settle(self, budget: Budget) -> Outcome:
        start, limit = time.monotonic(), self.prop.tolerance
        parts = [self._part(group) for group in (self.first, self.second)]
        open_ = [[(lo, hi, Fraction(1))] for lo, hi in parts]
        closed: list[list[tuple[Any, Any, Fraction, bool]]] = [[], []]
        deadline = start + min(budget.seconds, 600.0)
        while True:
            low, high = self._difference(open_, closed)
            done = (-limit <= low and high <= limit) or low > limit or high < -limit
            if done or time.monotonic() > deadline or sum(map(len, closed)) + sum(map(len, open_)) > MAX_BOXES:
                break
            for side in (0, 1):
                self._refine(open_[side], closed[side])
        found = f"the difference is in [{float(low):.6g}, {float(high):.6g}]"
        if not any(closed):
            return Outcome(Unknown(f"no box of the region is decided: {found}"), time.monotonic() - start)
        answer = self._checked(closed, found, -limit <= low and high <= limit, budget)
        return Outcome(answer, time.monotonic() - start, float(limit - max(high, -low)))

    def _part(self, group: _Group) -> tuple[tuple[Fraction, ...], tuple[Fraction, ...]]:
        """The group's part of the region."""
        lo, hi = (list(end) for end in self.scope.bounds(self.place.region))
        for i, v in zip(group.protected, group.value, strict=True):
            lo[i] = hi[i] = v
        return tuple(lo), tuple(hi)

    def _difference(self, open_: Any, closed: Any) -> tuple[Fraction, Fraction]:
        ends = []
        for side in (0, 1):
            sure = sum((share for _, _, share, yes in closed[side] if yes), Fraction(0))
            ends.append((sure, sure + sum((share for _, _, share in open_[side]), Fraction(0))))
        return ends[0][0] - ends[1][1], ends[0][1] - ends[1][0]

    def _unsafe(self, favourable: bool) -> tuple[tuple[Atom, ...], ...]:
        """What contradicts a decision."""
        prop = self.prop
        if prop.threshold is not None:
            against = atom({0: 1}, prop.threshold, strict=False) if favourable else atom({0: -1}, -prop.threshold)
            return ((against,),)
        c, others = prop.favourable, [j for j in range(self.scope.outputs) if j != prop.favourable]
        if favourable:
            return tuple((atom({c: 1, j: -1}, 0, strict=False),) for j in others)
        return (tuple(atom({j: 1, c: -1}, 0, strict=False) for j in others),)

    def _refine(self, boxes: list[Any], closed: list[Any]) -> None:
        """Bound the largest open boxes; close those that are decided, halve the others."""
        boxes.sort(key=lambda box: box[2])
        batch = [boxes.pop() for _ in range(min(BATCH // 2, len(boxes)))]
        if not batch:
            return
        yes, no = (self._bounded(self._unsafe(favourable), batch) for favourable in (True, False))
        splits = np.argmax(yes.score + no.score, axis=1)
        for i, (lo, hi, share) in enumerate(batch):
            if max(yes.value[i], no.value[i]) > 1e-6:
                closed.append((lo, hi, share, bool(yes.value[i] > no.value[i])))
                continue
            d = int(splits[i])
            middle = (lo[d] + hi[d]) / 2
            boxes.append((lo, (*hi[:d], middle, *hi[d + 1 :]), share / 2))
            boxes.append(((*lo[:d], middle, *lo[d + 1 :]), hi, share / 2))

    def _bounded(self, unsafe: Any, batch: list[Any]) -> "Bounded":
        from axiom_jax.verification.search.bounding import bound
        from axiom_jax.verification.search.margins import pose

        whole = self.scope.bounds(self.place.region)
        question = self.scope.kept(("volume", self.prop, unsafe), lambda: pose(
            self.scope.subject, Property((Case(*whole, unsafe),), self.text)))  # fmt: skip
        lo = np.array([[float(v) for v in box[0]] for box in batch])
        hi = np.array([[float(v) for v in box[1]] for box in batch])
        return bound(question, np.zeros(len(batch), int), lo, hi, BATCH // 2)

    def _checked(self, closed: Any, found: str, holds: bool, budget: Budget) -> Answer:
        from axiom_jax.verification.proof.certificate import (
            certificate,
            describe_property,
            run_checker,
            save_certificate,
            tree_proof,
        )
        from axiom_jax.verification.proof.exact import exactly
        from axiom_jax.verification.search.tree import Tree

        exact_view = exactly(self.scope.subject)
        if exact_view.missing is not None:
            return Unknown(f"certificates cannot express it yet: {exact_view.missing}; by float bounds {found}")
        cases, choices = [], []
        for side in closed:
            for lo, hi, _, yes in side:
                unsafe = self._unsafe(yes)
                cases.append(Case(lo, hi, unsafe))
                choices.append(self._choice(unsafe, lo, hi))
        tree = Tree(len(cases))
        for number, choice in enumerate(choices):
            tree.close(number, choice)
        prop = Property(tuple(cases), f"on each of {len(cases)} boxes the decision is constant; {self.text}: {found}")
        proof = certificate(
            exact_view.model, exact_view.blob, describe_property(prop), "holds", tree_proof(tree, prop), {}
        )
        with TemporaryDirectory() as folder:
            checked = run_checker(save_certificate(proof, Path(folder, "proof.cert")), budget.check_seconds)
        if not checked.accepted:
            return Claimed(proof, f"the checker did not accept: {checked.reason}; by float bounds {found}")
        return Proved(proof, checked.levels) if holds else Unknown(f"it is not shown: {found}, by checked boxes")

    def _choice(self, unsafe: Any, lo: Any, hi: Any) -> tuple[int, ...]:
        bounded = self._bounded(unsafe, [(lo, hi, 1)])
        return tuple(int(k) for k in bounded.choice[0][: len(unsafe)])
