"""Outputs that move with the input, or do not care that it moves: reversals, shifts, permutations, any two actions.

Exact equality is shown for every input by the normal forms of f(g x) and g f(x), in a derivation; equality up to a
tolerance over a region by bounds. It is refuted by an input, evaluated exactly. A group is asked by its generators.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from axiom_jax._errors import SpecError
from axiom_jax._shapes_places import caller
from axiom_jax.verification.properties.balls import contains, moved_in
from axiom_jax.verification.properties.base import Claim, Condition
from axiom_jax.verification.properties.composing import BySufficient, Run, atom, composed, executed, sampled
from axiom_jax.verification.properties.scope import Budget, Place, Scope, ends, everywhere, unbounded
from axiom_jax.verification.properties.terms import equal_everywhere
from axiom_jax.verification.properties.ways import Outcome, Way
from axiom_jax.verification.regions import Everything, exact
from axiom_jax.verification.search.margins import Subject

Action = str | Sequence[int] | Callable[[Any], Any]
SAMPLES = 4096
WORST = 8
REACH = 4  # half the width of the box that is sampled where there is no region
NAMED = ("reverse", "shift", "permutations")


@dataclass(frozen=True, eq=False)
class Equivariant:
    """f(g x) = g f(x), for every x or over the region.

    Args:
        action: g on one input: "reverse", "shift" (by one, cyclically) or "permutations" (all of them) along `axis`;
            the places that the flat elements come from; or a JAX function of one input.
        on_output: g on its output, in the same words; None: the same as `action`.
        axis: of one input (without the batch) that a named action moves. output_axis: None: the same.
        tolerance: outputs may differ by this much, over a region; 0: they are equal.

    >>> Equivariant("reverse").name
    'Equivariant(reverse)'
    """

    action: Action
    on_output: Action | None = None
    axis: int = 0
    output_axis: int | None = None
    tolerance: Any = 0

    def __post_init__(self) -> None:
        _settle_fields(self)

    @property
    def name(self) -> str:
        return f"Equivariant({_word(self.action)})"

    def claims(self, scope: Scope) -> Iterable[Claim]:
        """A claim a generator and region."""
        shape = _output_shape(scope)
        axis = self.axis if self.output_axis is None else self.output_axis
        actions = list(_generators(self.action, scope.shape, self.axis))
        given = self.action if self.on_output is None else self.on_output
        outputs = list(_generators(given, shape, axis))
        if len(actions) != len(outputs):
            raise SpecError("The actions on input and output have not as many generators.", at=caller(),
                            got=f"{len(actions)} and {len(outputs)}", fix="name the same action for both")  # fmt: skip
        for (word, g), (_, h) in zip(actions, outputs, strict=True):
            yield from _claims(scope, self, word, g, h, f"f({word} x) = {word} f(x)", shape)


@dataclass(frozen=True, eq=False)
class Invariant:
    """f(g x) = f(x), for every x or over the region.

    Args: as for `Equivariant`.

    >>> Invariant("permutations").name
    'Invariant(permutations)'
    """

    action: Action
    axis: int = 0
    tolerance: Any = 0

    def __post_init__(self) -> None:
        _settle_fields(self)

    @property
    def name(self) -> str:
        return f"Invariant({_word(self.action)})"

    def claims(self, scope: Scope) -> Iterable[Claim]:
        """A claim a generator and region."""
        for word, g in _generators(self.action, scope.shape, self.axis):
            yield from _claims(scope, self, word, g, lambda y: y, f"f({word} x) = f(x)", _output_shape(scope))


Asked = Equivariant | Invariant


def _settle_fields(prop: Any) -> None:
    tolerance = exact(prop.tolerance)
    if not isinstance(tolerance, Fraction) or tolerance < 0:
        raise SpecError("A tolerance is a number of at least 0.", at=caller(), got=str(prop.tolerance), fix="give 0")
    object.__setattr__(prop, "tolerance", tolerance)
    for name in ("action", "on_output"):
        action = getattr(prop, name, None)
        if isinstance(action, str) and action not in NAMED:
            raise SpecError("There is no such action.", at=caller(), got=repr(action), fix=f"use {', '.join(NAMED)}")
        if action is not None and not isinstance(action, str) and not callable(action):
            object.__setattr__(prop, name, tuple(int(i) for i in action))


def _word(action: Any) -> str:
    if isinstance(action, str):
        return action
    return getattr(action, "__name__", "an action") if callable(action) else str(list(action))


def _output_shape(scope: Scope) -> tuple[int, ...]:
    """The shape of one row of output, without the batch where the input has one."""
    made = jax.eval_shape(
        lambda params, *xs: scope.subject.apply(params, *xs), scope.subject.params, *scope.subject.specs
    )
    leaves = jax.tree.leaves(made)
    if len(leaves) != 1:
        return (scope.outputs,)
    shape = tuple(leaves[0].shape)
    return shape[1:] if len(shape) > 1 and shape[0] == 1 else shape


def _generators(action: Any, shape: Sequence[int], axis: int) -> Iterator[tuple[str, Callable[[Any], Any]]]:
    """Functions of an array of that shape that generate the group, with words for them."""
    if callable(action):
        yield _word(action), action
        return
    size = math.prod(shape)
    if not isinstance(action, str):
        places = np.array(action)
        if sorted(action) != list(range(size)):
            raise SpecError("The action is no permutation.", at=caller(), got=f"{list(action)} of {size} elements",
                            fix="name every element once")  # fmt: skip
        yield "π", lambda x: jnp.reshape(jnp.ravel(x)[places], jnp.shape(x))
        return
    if not -len(shape) <= axis < len(shape):
        raise SpecError("There is no such axis.", at=caller(), got=f"axis {axis} of {len(shape)}",
                        fix=f"axis from 0 to {len(shape) - 1}")  # fmt: skip
    length = shape[axis]
    orders = {"reverse": list(range(length))[::-1], "shift": [*range(1, length), 0][:length]}
    swap = list(range(length))
    swap[:2] = swap[:2][::-1]
    chosen = {"permutations": [("swap", swap), ("shift", orders["shift"])]}.get(action, [(action, orders.get(action))])
    for word, order in chosen:
        yield word, lambda x, order=order: jnp.take(x, np.array(order), axis=axis, mode="clip")


def _claims(scope: Scope, prop: Asked, word: str, g: Any, h: Any, text: str, shape: Sequence[int]) -> Iterator[Claim]:
    size = scope.subject.size
    key = (prop, word)

    def left(run: Run, x: Any) -> Any:
        return run(jnp.ravel(g(jnp.reshape(x, scope.shape))))

    def right(run: Run, x: Any) -> Any:
        return jnp.ravel(h(jnp.reshape(run(x), shape)))

    sides = [composed(scope, (name, *key), side, size, what) for name, side, what in
             (("moved", left, "f(g x)"), ("moves", right, "g f(x)"))]  # fmt: skip
    if sides[0].flat[0].outputs[0].size != sides[1].flat[0].outputs[0].size:
        raise SpecError("The actions do not keep the size of the output.", at=caller(), fix="give on_output, too")
    apart = composed(scope, ("apart", *key), lambda run, x: left(run, x) - right(run, x), size, "f(g x) − g f(x)")
    count = apart.flat[0].outputs[0].size
    if prop.tolerance:
        text = text.replace(" = ", f" up to {prop.tolerance} = ")
    unsafe = tuple((atom({k: s}, -prop.tolerance),) for k in range(count) for s in (1, -1))
    region = scope.region
    places = [Place(Everything(), "every x")] if region is None else scope.places()
    for place in places:
        whole = f"for all x with {place.text}: {text}" if not everywhere(place.region) else f"for every x: {text}"
        ways: list[Way] = [_ByForms(sides[0], sides[1], whole)]
        condition = Condition(apart, unsafe, whole)
        bounded = not unbounded(place.region)
        box = scope.bounds(place.region) if bounded else _reached(place, size)
        enough = condition if prop.tolerance and bounded else None
        suspects = _suspects(place, apart, box)
        counts = lambda point, place=place: contains(place, point)
        ways.append(BySufficient(enough, condition, (box,) if bounded else (), None, whole, suspects, counts))
        yield Claim(prop.name, whole, place, tuple(ways))


def _reached(place: Place, size: int) -> tuple[tuple[Fraction, ...], tuple[Fraction, ...]]:
    """A box to sample where a region has no ends, or not all of them."""
    sides = [
        (a if a is not None else (Fraction(REACH) if b is None else b) - 2 * REACH,
         b if b is not None else (Fraction(-REACH) if a is None else a) + 2 * REACH)
        for a, b in zip(*ends(place.region, size), strict=True)
    ]  # fmt: skip
    return tuple(a for a, _ in sides), tuple(b for _, b in sides)


def _suspects(place: Place, apart: Subject, box: Any) -> Callable[[np.ndarray | None], Iterator[list[Fraction]]]:
    def found(point: np.ndarray | None) -> Iterator[list[Fraction]]:
        if point is not None:
            yield [Fraction(float(v)) for v in point]
            return
        x, far = sampled(apart, box[0], box[1], SAMPLES)
        moved = moved_in(place, x)
        x, far = (x, far) if np.array_equal(x, moved) else (moved, executed(apart, moved))
        worst = np.abs(far).max(1)
        for i in np.argsort(-worst, kind="stable")[:WORST]:
            yield [Fraction(float(v)) for v in x[i]]

    return found


@dataclass(frozen=True, eq=False)
class _ByForms:
    """Both sides are the same term, for every input."""

    left: Subject
    right: Subject
    text: str
    network: str = "composed"

    def key(self) -> None:
        return None

    def settle(self, budget: Budget) -> Outcome:
        import time

        start = time.monotonic()
        return Outcome(equal_everywhere(self.left, self.right, self.text, budget), time.monotonic() - start)
