"""What a property of a model is: it has a name and makes claims about a scope, each with ways to settle it.

Most speak of one input at a time, by a `Condition`: linear atoms in the outputs of one network that must not hold.
Those combine (`AllOf`, `AnyOf`, `Implies`) and are asked over boxes and balls here. Others (two copies, derivatives,
closed loops) compose a network of their own and make their claims themselves.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any, Protocol, runtime_checkable

import numpy as np

from axiom_jax._errors import SpecError
from axiom_jax._shapes_places import caller
from axiom_jax.verification import checker
from axiom_jax.verification.proof.certificate import certificate, describe_property, point_proof
from axiom_jax.verification.proof.exact import exactly
from axiom_jax.verification.properties.balls import ByBall, OnlyInside, centre, contains, is_box, moved_in
from axiom_jax.verification.properties.scope import Place, Scope, everywhere, unbounded
from axiom_jax.verification.properties.ways import ByBounds, ByRunning, Outcome, Way
from axiom_jax.verification.property import Atom, Case, Property
from axiom_jax.verification.regions import L1, L2, Everything, Polytope, point_within
from axiom_jax.verification.results import Answer, Tested
from axiom_jax.verification.search.judging import unsafe
from axiom_jax.verification.search.margins import Subject
from axiom_jax.verification.verdict import Counterexample, Proved, Refuted, Unknown, interrupted

Unsafe = tuple[tuple[Atom, ...], ...]
NEAR = 1e-3  # margins that may be unsafe in exact arithmetic; more than that is no rounding
JUDGED = 8  # executed points that look unsafe and are judged exactly


@dataclass(frozen=True, eq=False)
class Claim:
    """One row of a result.

    Args:
        property: the property's name. text: the claim in words, whole.
        place: where it is made.
        ways: tried in order until one proves or refutes it.
        notes: what a proof rests on beside the checker ("softmax keeps the order of the logits").
    """

    property: str
    text: str
    place: Place
    ways: tuple[Way, ...]
    notes: tuple[str, ...] = ()


@runtime_checkable
class ModelProperty(Protocol):
    """What `ax.verify` takes: a frozen dataclass with these."""

    @property
    def name(self) -> str:
        """As the result's table shows it, with the parameters that matter: "Robust(eps=2/255)"."""
        ...

    def claims(self, scope: Scope) -> Iterable[Claim]:
        """The claims, one a region or sample.

        Raises:
            SpecError: the property cannot be asked here (no region, no labels, another kind of model).
        """
        ...


@dataclass(frozen=True, eq=False)
class Condition:
    """What must not hold at one input: a disjunction of conjunctions of atoms over a network's outputs.

    Args:
        subject: the network. unsafe: over its flat inputs and outputs.
        text: what holds where nothing is unsafe, in words.
        network: what the subject is to the model, as `Way` says.
        notes: what it rests on.
        theorems: ways that settle it for every input, tried first.
    """

    subject: Subject
    unsafe: Unsafe
    text: str
    network: str = "model"
    notes: tuple[str, ...] = ()
    theorems: tuple[Way, ...] = ()


@runtime_checkable
class Pointwise(Protocol):
    """A property that holds or not at each input, so that it can be combined with others at the same input."""

    @property
    def name(self) -> str: ...

    def places(self, scope: Scope) -> Iterable[Place]:
        """Where it is asked."""
        ...

    def condition(self, scope: Scope, place: Place) -> Condition:
        """What it asks there."""
        ...


def pointwise_claims(prop: Pointwise, scope: Scope) -> Iterator[Claim]:
    """A claim a place; without a region one for every x, if there may be a theorem, or about the rows of the data.

    Raises:
        SpecError: there is no region, no data, and no end of the model that could make it a theorem.

    >>> from axiom_jax.verification.properties.outputs import Bounded
    >>> from axiom_jax.verification.properties.reading import scope_of
    >>> from axiom_jax.verification.properties.scope import MODES
    >>> from axiom_jax.verification.regions import Box
    >>> scope = scope_of(lambda x: 2 * x, Box([0, 0], [1, 1]), None, MODES["quick"])
    >>> [claim.text for claim in pointwise_claims(Bounded(0, 2), scope)]
    ['for all x with x ∈ a box of shape 2: every output is in [0, 2]']
    """
    for place in prop.places(scope):
        condition = prop.condition(scope, place)
        yield claim_at(prop.name, scope, place, condition)


def anywhere(prop: Pointwise, scope: Scope) -> Iterator[Place]:
    """The places of a property without regions of its own: the scope's, else every x or the rows of the data."""
    if scope.region is not None:
        yield from scope.places()
        return
    whole = Place(Everything(), "every x")
    if prop.condition(scope, whole).theorems:
        yield whole
    elif scope.samples is not None:
        yield Place(Everything(), "the rows of the data", data=True)
    else:
        yield from scope.places()  # which says what is missing


def claim_at(name: str, scope: Scope, place: Place, condition: Condition) -> Claim:
    """The claim that a condition holds all over a place."""
    if place.data:
        text = f"for each of {len(scope.samples or ())} rows of data: {condition.text}"
        return Claim(name, text, place, (ByRunning(lambda budget: run_rows(scope, condition)),))
    where = "for every x" if everywhere(place.region) else f"for all x with {place.text}"
    text = f"{where}: {condition.text}"
    ways: list[Way] = list(condition.theorems)
    notes = condition.notes
    if unbounded(place.region) and scope.region is None and scope.samples is not None:
        ways.append(ByRunning(lambda budget: _run_data(scope, condition)))
    elif unbounded(place.region):
        ways.append(ByRunning(lambda budget: _run_everywhere(scope, place, condition, budget)))
    else:
        way, more = way_over(scope, place, condition, text)
        ways.append(way)
        notes += more
    return Claim(name, text, place, tuple(ways), notes)


def way_over(scope: Scope, place: Place, condition: Condition, text: str) -> tuple[Way, tuple[str, ...]]:
    """The way to settle a condition over a place with ends, by bounds; and what its proof rests on."""
    condition = narrowed(condition, place)
    ask = lambda: over(scope, place, condition, text)
    judge = lambda point: judged(condition, point)
    if isinstance(place.region, (L1, L2)):
        middle = tuple(centre(scope, place.region))
        way = ByBall(condition.subject, ask, place.region, middle, judge, condition.network)
        notes = ("the ball lies in the polytope of the certificate, by exact arithmetic beside the checker",)
        exact = place.within is None or is_box(Place(place.within, ""))
    else:
        way, notes, exact = ByBounds(condition.subject, ask, condition.network), (), is_box(place)
    return (way if exact else only_inside(way, place, condition)), notes


def narrowed(condition: Condition, place: Place) -> Condition:
    """A condition that is unsafe in the polytopes of a place only: their inequalities stand in every conjunction."""
    rows = tuple(
        Atom((), limit, tuple((i, c) for i, c in enumerate(row) if c))
        for region in (place.region, place.within)
        if isinstance(region, Polytope)
        for row, limit in zip(region.a, region.b, strict=True)
    )
    return replace(condition, unsafe=tuple((*conjunct, *rows) for conjunct in condition.unsafe)) if rows else condition


def only_inside(way: ByBounds | ByBall, place: Place, condition: Condition, hole: Place | None = None) -> OnlyInside:
    """A way over boxes around a place, its counterexamples kept to the place, and out of a hole."""
    counts = lambda point: contains(place, point) and (hole is None or not contains(hole, point))
    said = f"{place.region!r} within {place.within!r} but for {hole and hole.region!r}"
    return OnlyInside(way, said, counts, lambda point: judged(condition, point))


def over(scope: Scope, place: Place, condition: Condition, text: str) -> Property:
    """A condition over the smallest box around a place, as the search and the checker take it.

    Raises:
        SpecError: the region has another shape than the model's input, or no point of it can be shown.
    """
    lo, hi = scope.box(place)
    _need_a_point(scope, place, lo, hi)
    return Property((Case(lo, hi, condition.unsafe),), text)


def _need_a_point(scope: Scope, place: Place, lo: Sequence[Fraction], hi: Sequence[Fraction]) -> None:
    """Where a region is cut to a polytope, or a polytope is cut, an exact point must be left: else all would be proved.

    Raises:
        SpecError: none is shown.
    """
    cut = [region for region in (place.region, place.within) if isinstance(region, Polytope)]
    if not cut or place.within is None:
        return
    if isinstance(place.region, (L1, L2)):
        point: Sequence[Fraction] | None = centre(scope, place.region)
    else:
        point = point_within([row for p in cut for row in p.a], [limit for p in cut for limit in p.b], lo, hi)
    if point is None or not contains(place, point):
        raise SpecError("No point of the region can be shown.", at=caller(), got=place.text,
                        fix="leave out rows of data that lie outside of where the inputs live")  # fmt: skip


def run_rows(scope: Scope, condition: Condition, x: np.ndarray | None = None) -> Answer:
    """Execute rows of data and judge those that look unsafe: refuted by one that is, else tested.

    Where exact arithmetic cannot judge the network, an executed output that is unsafe by far refutes at level bitwise.

    Args:
        x: (rows, inputs) float32; the scope's data if None.
    """
    if x is None:
        x = scope.samples.x if scope.samples is not None else np.zeros((0, scope.subject.size), np.float32)
    values = np.asarray(_outputs(scope, condition.subject, x), np.float64)
    margins = np.array([margin(condition.unsafe, point, y) for point, y in zip(x.tolist(), values, strict=True)])
    for number in np.argsort(margins, kind="stable")[:JUDGED]:
        if not margins[number] <= NEAR:
            break
        if (found := judged(condition, [Fraction(v) for v in x[number].tolist()])) is not None:
            return found
    seen, missing = int((margins <= 0).sum()), exactly(condition.subject).missing
    worst = int(np.argmin(margins)) if len(margins) else 0
    if missing is not None and seen and margins[worst] < -NEAR and np.isfinite(values[worst]).all():
        exact = lambda row: tuple(Fraction(float(v)) for v in row)
        ends = tuple((v, v) for v in exact(values[worst]))
        return Refuted(Counterexample(exact(x[worst]), ends, "deployed-cex"), None, ("bitwise",))
    if seen:
        why = f"it cannot judge {missing}" if missing else "none of the worst is in exact arithmetic"
        return Unknown(f"{seen} of {len(x)} executed inputs look unsafe in float32; {why}")
    return Tested(len(x))


def judged(condition: Condition, point: list[Fraction]) -> Refuted | None:
    """The refutation by one exact input, with its certificate; None if the condition holds there or cannot be told."""
    exact = exactly(condition.subject)
    if exact.missing is not None:
        return None
    case = Case(tuple(point), tuple(point), condition.unsafe)
    try:
        outputs = exact.network.evaluate(point)
    except checker.Rejected:  # it is not defined there
        return None
    if not unsafe(case, point, outputs):
        return None
    described = describe_property(Property((case,), f"at this x: {condition.text}"))
    found = certificate(exact.model, exact.blob, described, "violated", point_proof(0, point), {})
    if not checker.check(found.to_bytes()).accepted:
        return None
    return Refuted(Counterexample(tuple(point), tuple(outputs)), found)


def _outputs(scope: Scope, subject: Subject, x: np.ndarray) -> np.ndarray:
    if subject is scope.subject:
        return scope.execute(x)
    import jax

    program, values = subject.flat
    run = scope.kept(("run", subject), lambda: jax.jit(jax.vmap(lambda row: program.evaluate(values, row)[0].ravel())))
    return np.asarray(run(x))


def margin(unsafe: Unsafe, x: list[float], y: np.ndarray) -> float:
    """In float64: at most 0 where the condition looks unsafe at x with outputs y."""
    return min(
        max(
            sum(float(c) * x[i] for i, c in atom.input)
            + sum(float(c) * y[j] for j, c in atom.output)
            - float(atom.threshold)
            for atom in conjunct
        )
        for conjunct in unsafe
    )


def _run_data(scope: Scope, condition: Condition) -> Answer:
    """The rows of the data, for a claim about every x that nothing proves."""
    answer = run_rows(scope, condition)
    if isinstance(answer, Tested):
        return Tested(answer.samples, "nothing proves it for every x; the rows of the data were executed")
    return answer


def _run_everywhere(scope: Scope, place: Place, condition: Condition, budget: Any) -> Answer:
    """Executed inputs of every size of number, where a region has no ends, or not all of them."""
    generator = np.random.default_rng(0)
    count = min(budget.points, 4096)
    scale = 10.0 ** generator.uniform(-3, 3, (count, 1))
    x = (generator.standard_normal((count, scope.subject.size)) * scale).astype(np.float32)
    answer = run_rows(scope, condition, moved_in(place, x))
    if isinstance(answer, Tested):
        reason = "the region has no ends, so there are no bounds; inputs of all sizes were executed"
        return Tested(answer.samples, "; ".join(filter(None, [reason, answer.reason])))
    return answer


def settle(claim: Claim, budget: Any) -> tuple[Outcome, Way]:
    """Try the ways of a claim in order; the first proof or refutation is the answer, else the most that is known.

    A claimed proof is more than a test, a test more than nothing.
    """
    best: tuple[Outcome, Way] | None = None
    seconds = 0.0
    rank = lambda outcome: {"claimed": 2, "tested": 1}.get(type(outcome.answer).__name__.lower(), 0)
    tried: list[str] = []
    for way in claim.ways:
        outcome = way.settle(budget)
        seconds += outcome.seconds
        if isinstance(outcome.answer, (Proved, Refuted)):
            return Outcome(outcome.answer, seconds, outcome.bound), way
        if isinstance(outcome.answer, Unknown):
            tried.append(outcome.answer.reason)
            if interrupted(outcome.answer):
                return Outcome(outcome.answer, seconds, outcome.bound), way
        if best is None or rank(outcome) > rank(best[0]) or (rank(outcome) == rank(best[0]) == 0):
            best = outcome, way
    if best is None:
        raise SpecError("The claim has no way to be settled.", at=caller(), got=claim.text, fix="give it one")
    outcome, way = best
    answer = outcome.answer
    if isinstance(answer, Unknown) and len(tried) > 1:
        answer = Unknown("; then ".join(dict.fromkeys(tried)), answer.bound, answer.timed_out)
    return Outcome(answer, seconds, outcome.bound), way
