"""Closed loops x′ = f(x, net(x)) over a number of steps: composed into one network, then proved or refuted like any.

The model is the controller and `step` the plant; without a step the model itself maps a state to the next one.
The real-number network is what is proved: not rounding, not the integrator's error against a differential equation.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import jax.numpy as jnp
import numpy as np

from axiom_jax._errors import SpecError
from axiom_jax._shapes_places import caller
from axiom_jax.verification.properties.balls import is_box
from axiom_jax.verification.properties.base import Claim, Condition, only_inside, way_over
from axiom_jax.verification.properties.composing import Run, atom, composed
from axiom_jax.verification.properties.scope import Place, Scope, ends, need_closed_box, need_function
from axiom_jax.verification.properties.ways import ByBounds
from axiom_jax.verification.property import Atom, Case, Property
from axiom_jax.verification.regions import Region, exact
from axiom_jax.verification.search.margins import Subject

Step = Callable[[Any, Any], Any]  # (state, control) -> next state
Ends = tuple[tuple[Fraction, ...], tuple[Fraction, ...]]


@dataclass(frozen=True, eq=False)
class Avoids:
    """No state of the first `steps` steps lies in `region`, from any start in the region of the question.

    Args:
        region: the forbidden box of states, an `ax.Box` or `ax.Linf` (its border belongs to it); an end None is no end.
        steps: how many steps are looked at; the start is looked at, too.
        step: `step(state, control) -> next state` in JAX, control = model(state); None: the model is the step.

    Raises:
        SpecError: the region is no box with its border.

    >>> from axiom_jax.verification.regions import Box
    >>> Avoids(Box([2], [None]), steps=3).name
    'Avoids(steps=3)'
    """

    region: Region
    steps: int
    step: Step | None = None

    def __post_init__(self) -> None:
        need_closed_box(self.region, "What Avoids forbids")
        _need_steps(self.steps)
        _need_step(self.step)

    @property
    def name(self) -> str:
        return f"Avoids(steps={self.steps})"

    def claims(self, scope: Scope) -> Iterable[Claim]:
        """A claim a region of starts."""
        size = scope.subject.size
        subject = _states(scope, self.step, self.steps)
        unsafe = tuple(
            tuple(_inside(self.region, size, t * size)) or (Atom((), Fraction(0)),) for t in range(self.steps + 1)
        )
        for place in scope.places():
            text = f"for all starts x with {place.text}: no state of {self.steps} steps is in {self.region}"
            yield _claim(self.name, scope, place, subject, unsafe, text)


@dataclass(frozen=True, eq=False)
class Reaches:
    """Every start in the region of the question is in `region` after `steps` steps.

    Args:
        region: the goal, an `ax.Box` or `ax.Linf` of states (its border belongs to it); an end None is no end.
        steps: how many.
        step: as for `Avoids`.
        within: True: at some step from 0 to `steps`, not necessarily the same for every start.

    Raises:
        SpecError: the goal is no box with its border.

    >>> from axiom_jax.verification.regions import Box
    >>> Reaches(Box([-1], [1]), steps=3).name
    'Reaches(steps=3)'
    """

    region: Region
    steps: int
    step: Step | None = None
    within: bool = False

    def __post_init__(self) -> None:
        need_closed_box(self.region, "The goal of Reaches")
        _need_steps(self.steps)
        _need_step(self.step)
        if not isinstance(self.within, bool):
            raise SpecError("within says whether any step will do.", at=caller(), got=repr(self.within),
                            fix="ax.Reaches(goal, 3, step, within=True)")  # fmt: skip

    @property
    def name(self) -> str:
        return f"Reaches({'within=' if self.within else 'steps='}{self.steps})"

    def claims(self, scope: Scope) -> Iterable[Claim]:
        """A claim a region of starts."""
        size = scope.subject.size
        states = _states(scope, self.step, self.steps)
        sides = [list(_outside(self.region, size, t * size)) for t in range(self.steps + 1)]
        if self.within and sides[0]:
            subject = self._distances(scope, sides)
            unsafe: Any = ((atom({0: -1}),),)  # the least distance over the steps is above 0
        else:
            subject, unsafe = states, tuple((side,) for side in sides[self.steps])
        for place in scope.places():
            when = f"at some step up to {self.steps}" if self.within else f"after {self.steps} steps"
            text = f"for all starts x with {place.text}: the state is in {self.region} {when}"
            if not unsafe:
                raise SpecError("The goal is everything.", at=caller(), fix="give it at least one end")
            yield _claim(self.name, scope, place, subject, unsafe, text)

    def _distances(self, scope: Scope, sides: list[list[Atom]]) -> Subject:
        """min over steps of max over the goal's sides of how far the state is beyond; ≤ 0 where some step is inside."""
        size = scope.subject.size

        place = np.array([[a.output[0][0] for a in step] for step in sides])
        sign = np.array([[float(a.output[0][1]) for a in step] for step in sides], np.float32)
        limits = np.array([[float(a.threshold) for a in step] for step in sides], np.float32)

        def least(run: Run, x: Any) -> Any:
            far = limits - sign * _trajectory(run, self.step, x, self.steps)[place]
            return far.max(1).min()[None]

        for step in sides:
            for side in step:
                if Fraction(float(np.float32(float(side.threshold)))) != side.threshold:
                    raise SpecError(
                        "With within=True the goal's ends must be float32 numbers.", at=caller(),
                        got=str(side.threshold), fix="round them inward, or ask for a number of steps",
                    )  # fmt: skip
        return composed(scope, ("distances", self), least, size, f"{self.steps} steps")


@dataclass(frozen=True, eq=False)
class Lyapunov:
    """V falls by at least `decrease` at every step outside of a box around the rest point, and is positive there.

    Args:
        function: V, from a state (inputs,) to a number, in JAX. Written with abs, max and sums it is piecewise linear.
        step: as for `Avoids`.
        outside: an `ax.Box` or `ax.Linf` around the rest point that is left out; nothing is said about its points.
        decrease: V(x) − V(x′) is more than this; text is exact.
        positive: whether V(x) > 0 is asked, too.

    Raises:
        SpecError: what is left out is no box with its border.

    >>> Lyapunov(lambda x: abs(x).sum()).name
    'Lyapunov'
    """

    function: Callable[[Any], Any]
    step: Step | None = None
    outside: Region | None = None
    decrease: Any = 0
    positive: bool = True

    def __post_init__(self) -> None:
        if self.outside is not None:
            need_closed_box(self.outside, "What Lyapunov leaves out")
        _need_step(self.step)
        value = exact(self.decrease)
        if not isinstance(value, Fraction) or value < 0:
            raise SpecError("A decrease is a number of at least 0.", at=caller(), got=str(self.decrease), fix="give 0")
        object.__setattr__(self, "decrease", value)

    @property
    def name(self) -> str:
        return "Lyapunov" if not self.decrease else f"Lyapunov(decrease={self.decrease})"

    def claims(self, scope: Scope) -> Iterable[Claim]:
        """A claim a region of states."""
        size = scope.subject.size

        def values(run: Run, x: Any) -> Any:
            after = _trajectory(run, self.step, x, 1)[size:]
            here, then = (jnp.reshape(self.function(state), (1,)) for state in (x, after))
            return jnp.concatenate([here - then, here])

        subject = composed(scope, ("Lyapunov", self), values, size, "the decrease of V")
        _ = subject.flat
        unsafe = ((atom({0: 1}, self.decrease, strict=False),), *([(atom({1: 1}, 0, strict=False),)] * self.positive))
        but = f" outside of {self.outside}" if self.outside is not None else ""
        positive = "V(x) > 0 and " if self.positive else ""
        for place in scope.places():
            text = f"for all x with {place.text}{but}: {positive}V(x) − V(step(x)) > {self.decrease}"
            cases = [Case(lo, hi, unsafe) for lo, hi in _without(scope.bounds(place.region), self.outside, size)]
            way = ByBounds(subject, Property(tuple(cases), text), "composed")
            if self.outside is None and is_box(place):
                yield Claim(self.name, text, place, (way,))
                continue
            hole = None if self.outside is None else Place(self.outside, "")
            kept = only_inside(way, place, Condition(subject, unsafe, text, "composed"), hole)
            yield Claim(self.name, text, place, (kept,))


def _claim(name: str, scope: Scope, place: Place, subject: Subject, unsafe: Any, text: str) -> Claim:
    _ = subject.flat  # traced here, so that a step that is wrong is named at once
    way, notes = way_over(scope, place, Condition(subject, unsafe, text, "composed"), text)
    return Claim(name, text, place, (way,), notes)


def _need_steps(steps: int) -> None:
    if not isinstance(steps, int) or steps < 1:
        raise SpecError("A closed loop is looked at for at least one step.", at=caller(), got=str(steps),
                        fix="steps=10")  # fmt: skip


def _need_step(step: Step | None) -> None:
    if step is not None:
        need_function(step, "state, control", "A step")


def _states(scope: Scope, step: Step | None, steps: int) -> Subject:
    run_for = lambda run, x: _trajectory(run, step, x, steps)
    return composed(scope, ("states", step, steps), run_for, scope.subject.size, f"{steps} steps")


def _trajectory(run: Run, step: Step | None, x: Any, steps: int) -> Any:
    """All states from the start on, one after the other.

    Raises:
        SpecError: the step does not give a state of the size that it takes.
    """
    states = [x]
    for _ in range(steps):
        control = run(states[-1])
        after = control if step is None else step(states[-1], control)
        if jnp.size(after) != jnp.size(x):
            raise SpecError(
                "The step does not give a state of the size that it takes.", at=caller(),
                got=f"{jnp.size(x)} numbers to {jnp.size(after)}",
                fix="give step=lambda state, control: ..., of the state's shape",
            )  # fmt: skip
        states.append(jnp.reshape(after, jnp.shape(x)))
    return jnp.concatenate(states)


def _inside(region: Region, size: int, offset: int) -> Iterable[Atom]:
    """Atoms that hold together exactly in the closed box."""
    for i, (a, b) in enumerate(zip(*ends(region, size), strict=True)):
        if a is not None:
            yield atom({offset + i: -1}, -a, strict=False)
        if b is not None:
            yield atom({offset + i: 1}, b, strict=False)


def _outside(region: Region, size: int, offset: int) -> Iterable[Atom]:
    """Atoms of which one holds exactly outside of the closed box."""
    for i, (a, b) in enumerate(zip(*ends(region, size), strict=True)):
        if a is not None:
            yield atom({offset + i: 1}, a)
        if b is not None:
            yield atom({offset + i: -1}, -b)


def _without(whole: Ends, hole: Region | None, size: int) -> list[Ends]:
    """Boxes that cover a box but for the inside of another.

    >>> [len(_without(((Fraction(-1),), (Fraction(1),)), hole, 1)) for hole in (None,)]
    [1]
    """
    if hole is None:
        return [whole]
    (lo, hi), pieces = (list(end) for end in whole), list[Ends]()
    sides = list(zip(*ends(hole, size), strict=True))
    if any((a is not None and a >= hi[i]) or (b is not None and b <= lo[i]) for i, (a, b) in enumerate(sides)):
        return [whole]  # the hole lies beside the box
    for i, (a, b) in enumerate(sides):
        if a is not None and a > lo[i]:
            pieces.append((tuple(lo), (*hi[:i], a, *hi[i + 1 :])))
            lo[i] = a
        if b is not None and b < hi[i]:
            pieces.append(((*lo[:i], b, *lo[i + 1 :]), tuple(hi)))
            hi[i] = b
    if not pieces:
        raise SpecError("Nothing is left of the region.", at=caller(), fix="leave a smaller box out")
    return pieces
