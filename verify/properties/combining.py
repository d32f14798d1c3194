"""Properties made of properties: all of, any of, if this then that, not, and one margin function of your own.

Those that speak of one input at a time are combined at every input: what is unsafe is one formula over the outputs of
one network. The others (monotone, Lipschitz, ...) are combined as whole sentences about the model.
"""

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import jax
import jax.numpy as jnp

from axiom_jax._errors import SpecError
from axiom_jax._shapes_places import caller
from axiom_jax.verification.properties.base import (
    Claim,
    Condition,
    ModelProperty,
    Pointwise,
    Unsafe,
    anywhere,
    pointwise_claims,
)
from axiom_jax.verification.properties.robustness import NORMS, exact_radius
from axiom_jax.verification.properties.scope import Budget, Place, Scope, need_function
from axiom_jax.verification.properties.ways import BySymbols, Outcome, Way
from axiom_jax.verification.property import Atom
from axiom_jax.verification.search.margins import Subject
from axiom_jax.verification.verdict import Proved, Refuted, Unknown

MANY = 4096  # disjuncts
ONE = Fraction(1)


class AllOf:
    """Every one of the properties; of an input where it stands inside another, else of the model.

    Args:
        *parts: properties, at least one.

    >>> from axiom_jax.verification.properties.outputs import Bounded, Finite
    >>> AllOf(Bounded(0, 1), Finite()).name
    'AllOf(Bounded(0, 1), Finite())'
    """

    def __init__(self, *parts: ModelProperty):
        self.parts = _parts(parts, "AllOf")

    @property
    def name(self) -> str:
        return _name("AllOf", self.parts)

    def claims(self, scope: Scope) -> Iterator[Claim]:
        for part in self.parts:
            for claim in part.claims(scope):
                yield replace(claim, property=self.name, text=f"{part.name}: {claim.text}")

    def places(self, scope: Scope) -> Iterable[Place]:
        return _places(self, self.parts, scope)

    def condition(self, scope: Scope, place: Place) -> Condition:
        joined = _joined(self.parts, scope, place)
        unsafe = tuple(conjunct for unsafe in joined.unsafe for conjunct in unsafe)
        return joined.condition(unsafe, " and ".join(joined.texts))


class AnyOf:
    """At least one of the properties: at every input, where all of them speak of one; else of the model.

    Args:
        *parts: properties, at least one.

    >>> from axiom_jax.verification.properties.outputs import Bounded
    >>> AnyOf(Bounded(None, 0), Bounded(1, None)).name
    'AnyOf(Bounded(None, 0), Bounded(1, None))'
    """

    def __init__(self, *parts: ModelProperty):
        self.parts = _parts(parts, "AnyOf")

    @property
    def name(self) -> str:
        return _name("AnyOf", self.parts)

    def claims(self, scope: Scope) -> Iterator[Claim]:
        if all(map(pointwise, self.parts)):
            yield from pointwise_claims(self, scope)
            return
        found = [list(part.claims(scope)) for part in self.parts]
        if any(len(claims) != 1 for claims in found):
            raise SpecError(
                "AnyOf of such properties takes parts that make one claim each.", at=caller(),
                got=", ".join(f"{part.name}: {len(claims)}" for part, claims in zip(self.parts, found, strict=True)),
                fix="give one region, or ask them apart",
            )  # fmt: skip
        parts = tuple(claims[0] for claims in found)
        text = ", or ".join(f"({claim.text})" for claim in parts)
        notes = tuple(dict.fromkeys(note for claim in parts for note in claim.notes))
        yield Claim(self.name, text, parts[0].place, (Alternatives(parts),), notes)

    def places(self, scope: Scope) -> Iterable[Place]:
        return _places(self, self.parts, scope)

    def condition(self, scope: Scope, place: Place) -> Condition:
        joined = _joined(self.parts, scope, place)
        return joined.condition(_conjoined(joined.unsafe), " or ".join(joined.texts), _proving(joined.theorems))


class Implies:
    """Wherever `premise` holds, `conclusion` holds: at every input.

    Args:
        premise, conclusion: properties of one input each.

    >>> from axiom_jax.verification.properties.outputs import Bounded
    >>> Implies(Bounded(0, None), Bounded(None, 1)).name
    'Implies(Bounded(0, None), Bounded(None, 1))'
    """

    def __init__(self, premise: Pointwise, conclusion: Pointwise):
        self.parts = _parts((premise, conclusion), "Implies")
        _need_pointwise(self.parts, "Implies")

    @property
    def name(self) -> str:
        return _name("Implies", self.parts)

    def claims(self, scope: Scope) -> Iterable[Claim]:
        return pointwise_claims(self, scope)

    def places(self, scope: Scope) -> Iterable[Place]:
        return _places(self, self.parts, scope)

    def condition(self, scope: Scope, place: Place) -> Condition:
        joined = _joined(self.parts, scope, place)
        premise, conclusion = joined.unsafe
        unsafe = _conjoined([_negated(premise), conclusion])
        theorems = self.parts[1].condition(scope, place).theorems  # pyright: ignore[reportAttributeAccessIssue]
        return joined.condition(unsafe, f"if {joined.texts[0]}, then {joined.texts[1]}", _proving(theorems))


class Not:
    """Nowhere does the property hold: it fails at every input.

    Args:
        part: a property of one input.

    >>> from axiom_jax.verification.properties.outputs import Bounded
    >>> Not(Bounded(5, None)).name
    'Not(Bounded(5, None))'
    """

    def __init__(self, part: Pointwise):
        self.parts = _parts((part,), "Not")
        _need_pointwise(self.parts, "Not")

    @property
    def name(self) -> str:
        return _name("Not", self.parts)

    def claims(self, scope: Scope) -> Iterable[Claim]:
        return pointwise_claims(self, scope)

    def places(self, scope: Scope) -> Iterable[Place]:
        return _places(self, self.parts, scope)

    def condition(self, scope: Scope, place: Place) -> Condition:
        joined = _joined(self.parts, scope, place)
        return joined.condition(_negated(joined.unsafe[0]), f"it is not so that {joined.texts[0]}")


@dataclass(frozen=True)
class Custom:
    """`margin(model, x) >= 0` at every input, every element of it.

    Args:
        margin: a JAX function of the model, to be called as usual, and of one input with a batch axis of 1; it
            gives numbers. label: its name in the result; the function's own if empty.

    Raises:
        SpecError: it gives no float numbers.

    >>> Custom(lambda model, x: model(x)[:, 0] - x[:, 0], "grows").name
    'Custom(grows)'
    """

    margin: Callable[..., Any]
    label: str = ""

    def __post_init__(self) -> None:
        need_function(self.margin, "model, x", "The margin of Custom")

    @property
    def name(self) -> str:
        return f"Custom({self.label or getattr(self.margin, '__name__', 'margin')})"

    def places(self, scope: Scope) -> Iterable[Place]:
        return anywhere(self, scope)

    def claims(self, scope: Scope) -> Iterable[Claim]:
        return pointwise_claims(self, scope)

    def condition(self, scope: Scope, place: Place) -> Condition:
        subject = scope.kept(self, lambda: self._composed(scope.subject))
        size = subject.flat[0].outputs[0].size
        unsafe = tuple((Atom(((j, ONE),), Fraction(0), strict=True),) for j in range(size))
        said = self.label or getattr(self.margin, "__name__", "margin")
        return Condition(subject, unsafe, f"{said}(model, x) >= 0", "composed")

    def _composed(self, subject: Subject) -> Subject:
        apply = lambda params, *inputs: self.margin(lambda *given: subject.apply(params, *given), *inputs)
        composed = Subject(apply, subject.params, subject.specs, f"{subject.name}: {self.name}", dict(subject.source))
        leaves = jax.tree.leaves(jax.eval_shape(apply, subject.params, *subject.specs))
        if not leaves or any(not jnp.issubdtype(leaf.dtype, jnp.floating) for leaf in leaves):
            got = ", ".join(str(leaf.dtype) for leaf in leaves) or "nothing"
            raise SpecError(f"The margin of {self.name} is no number.", at=caller(), got=got,
                            fix="return what must be >= 0: model(x)[:, 0] - 1")  # fmt: skip
        return composed


@dataclass(frozen=True, eq=False)
class Alternatives:
    """Whole claims of which one must be proved; refuted only if every one is."""

    claims: tuple[Claim, ...]

    @property
    def network(self) -> str:
        return "composed"

    def key(self) -> None:
        return None

    def settle(self, budget: Budget) -> Outcome:
        from axiom_jax.verification.properties.base import settle

        seconds, found = 0.0, []
        for claim in self.claims:
            outcome, _ = settle(claim, budget)
            seconds += outcome.seconds
            if isinstance(outcome.answer, Proved):
                return Outcome(outcome.answer, seconds, outcome.bound)
            found.append(outcome)
        if all(isinstance(outcome.answer, Refuted) for outcome in found):
            answer = replace(found[-1].answer, certificate=None)  # the certificate of one part refutes that part only
            return Outcome(answer, seconds, found[-1].bound)
        words = [f"{c.property} is {type(o.answer).__name__.lower()}" for c, o in zip(self.claims, found, strict=True)]
        return Outcome(Unknown("none is proved: " + ", ".join(words)), seconds)


def pointwise(prop: Any) -> bool:
    """Whether a property, and all that it is made of, speaks of one input at a time.

    >>> from axiom_jax.verification.properties.outputs import Bounded, Finite
    >>> pointwise(AllOf(Bounded(0, 1))), pointwise(AllOf(Finite()))
    (True, False)
    """
    return isinstance(prop, Pointwise) and all(map(pointwise, getattr(prop, "parts", ())))


def _parts(parts: Sequence[Any], name: str) -> tuple[Any, ...]:
    if len(parts) == 1 and isinstance(parts[0], (list, tuple)):
        parts = parts[0]
    wrong = [part for part in parts if not isinstance(part, ModelProperty)]
    if not parts or wrong:
        raise SpecError(f"{name} is made of properties.", at=caller(),
                        got=", ".join(type(part).__name__ for part in wrong) or "none",
                        fix=f"ax.{name}(ax.Bounded(0, 1), ...)")  # fmt: skip
    return tuple(parts)


def _need_pointwise(parts: Sequence[Any], name: str) -> None:
    if wrong := [part.name for part in parts if not pointwise(part)]:
        raise SpecError(f"{name} takes properties that hold or not at one input.", at=caller(), got=", ".join(wrong),
                        fix="such as ax.Bounded, ax.Robust, ax.Custom")  # fmt: skip


def _name(word: str, parts: Sequence[Any]) -> str:
    return f"{word}({', '.join(part.name for part in parts)})"


def _proving(theorems: Iterable[Way]) -> tuple[Way, ...]:
    """The theorems of parts of which one is enough: each proves the whole, and a refutation of one refutes nothing."""
    return tuple(replace(way, whole=False) for way in theorems if isinstance(way, BySymbols))


def _placing(prop: Any) -> list[Any]:
    """The properties inside that say themselves where they are asked."""
    own = [prop] if hasattr(prop, "around") else []
    return own + [found for part in getattr(prop, "parts", ()) for found in _placing(part)]


def _places(prop: Any, parts: Sequence[Any], scope: Scope) -> Iterable[Place]:
    own = [found for part in parts for found in _placing(part)]
    if not own:
        return anywhere(prop, scope)
    balls = {(exact_radius(part.eps), NORMS[part.norm], part.within) for part in own}
    if len(balls) > 1:
        raise SpecError(f"{prop.name} speaks of several regions.", at=caller(),
                        got=", ".join(part.name for part in own), fix="give one eps, norm and within")  # fmt: skip
    return own[0].places(scope)


@dataclass(frozen=True, eq=False)
class _Joined:
    """Conditions of several properties over the outputs of one network."""

    subject: Subject
    network: str
    unsafe: list[Unsafe]
    texts: list[str]
    notes: tuple[str, ...]
    theorems: tuple[Way, ...]

    def condition(self, unsafe: Unsafe, text: str, theorems: tuple[Way, ...] = ()) -> Condition:
        return Condition(self.subject, unsafe, text, self.network, self.notes, theorems)


def _joined(parts: Sequence[Any], scope: Scope, place: Place) -> _Joined:
    _need_pointwise(parts, "A combination at one input")
    found = [part.condition(scope, place) for part in parts]
    texts = [f"({c.text})" if len(found) > 1 and " " in c.text else c.text for c in found]
    notes = tuple(dict.fromkeys(note for c in found for note in c.notes))
    theorems = tuple(way for c in found for way in c.theorems)
    subjects = list(dict.fromkeys(c.subject for c in found))
    if len(subjects) == 1:
        return _Joined(subjects[0], found[0].network, [c.unsafe for c in found], texts, notes, theorems)
    subject = scope.kept(("beside", *subjects), lambda: beside(subjects, scope.subject))
    starts = dict(zip(subjects, itertools.accumulate([0, *(s.flat[0].outputs[0].size for s in subjects[:-1])]),
                      strict=True))  # fmt: skip
    unsafe = [_shifted(c.unsafe, starts[c.subject]) for c in found]
    return _Joined(subject, "composed", unsafe, texts, notes, theorems)


def beside(subjects: Sequence[Subject], model: Subject) -> Subject:
    """Several networks of one flat input as one, their flat outputs one after the other."""

    def apply(params: Any, *inputs: Any) -> Any:
        x = jnp.concatenate([jnp.ravel(part) for part in inputs])
        return jnp.concatenate([s.outputs(own, x) for s, own in zip(subjects, params, strict=True)])

    params = tuple(s.params for s in subjects)
    return Subject(apply, params, model.specs, model.name, dict(model.source))


def _shifted(unsafe: Unsafe, start: int) -> Unsafe:
    move = lambda atom: replace(atom, output=tuple((j + start, c) for j, c in atom.output))
    return tuple(tuple(map(move, conjunct)) for conjunct in unsafe)


def _conjoined(conditions: Sequence[Unsafe]) -> Unsafe:
    """What is unsafe by all of the conditions: a disjunction again.

    Beside two atoms stands their sum, which they imply: its bound may tell what neither bound alone does.
    """
    _limited(math.prod(map(len, conditions)))
    found = (tuple(itertools.chain(*choice)) for choice in itertools.product(*conditions))
    return tuple((*atoms, _sum(*atoms)) if len(atoms) == 2 else atoms for atoms in found)


def _sum(a: Atom, b: Atom) -> Atom:
    def both(first: Any, second: Any) -> Any:
        total = dict(first)
        for i, c in second:
            total[i] = total.get(i, Fraction(0)) + c
        return tuple((i, c) for i, c in sorted(total.items()) if c)

    return Atom(both(a.output, b.output), a.threshold + b.threshold, both(a.input, b.input), a.strict or b.strict)


def _negated(unsafe: Unsafe) -> Unsafe:
    """What is unsafe where the condition is not: one atom of every conjunction fails."""
    _limited(math.prod(map(len, unsafe)))
    fails = [[_failing(atom) for atom in conjunct] for conjunct in unsafe]
    return tuple(tuple(choice) for choice in itertools.product(*fails))


def _failing(atom: Atom) -> Atom:
    """left ≤ t fails where −left < −t."""
    minus = lambda terms: tuple((i, -c) for i, c in terms)
    return Atom(minus(atom.output), -atom.threshold, minus(atom.input), not atom.strict)


def _limited(count: int) -> None:
    if count > MANY:
        raise SpecError("The combination is too large.", at=caller(), got=f"{count} cases",
                        fix="ask its parts apart, or combine fewer outputs")  # fmt: skip
