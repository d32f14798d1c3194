"""What may be asked of the outputs alone: probabilities, ranges, and that they are numbers at all."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from axiom_jax._errors import SpecError
from axiom_jax._shapes_places import caller
from axiom_jax.verification.definedness import is_defined
from axiom_jax.verification.properties.base import Claim, Condition, Unsafe, anywhere, margin, pointwise_claims
from axiom_jax.verification.properties.finiteness import ByIntervals
from axiom_jax.verification.properties.scope import Place, Scope, everywhere
from axiom_jax.verification.properties.ways import BySymbols, Way
from axiom_jax.verification.property import Atom, rational
from axiom_jax.verification.regions import Everything
from axiom_jax.verification.statement import Statement, Variable

ONE = Fraction(1)
TRIED = 128  # inputs of a model's end
Number = str | int | float | Fraction


@dataclass(frozen=True)
class Bounded:
    """Every output is in [low, high].

    Args:
        low, high: numbers, exact as text ("0.1"); None for no end.
        outputs: the flat numbers of the outputs it speaks of; None for all.

    Raises:
        SpecError: neither end is given, or low > high.

    >>> Bounded(0, "0.5").name
    'Bounded(0, 0.5)'
    """

    low: Number | None = None
    high: Number | None = None
    outputs: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        low, high = (None if end is None else exact_number(end, "Bounded") for end in (self.low, self.high))
        if (low is None and high is None) or (low is not None and high is not None and low > high):
            raise SpecError("The range has no points, or no end.", at=caller(), got=self.name, fix="ax.Bounded(0, 1)")
        if self.outputs is not None:
            object.__setattr__(self, "outputs", tuple(self.outputs))

    @property
    def name(self) -> str:
        chosen = "" if self.outputs is None else f", outputs={list(self.outputs)}"
        return f"Bounded({self.low}, {self.high}{chosen})"

    def places(self, scope: Scope) -> Iterable[Place]:
        return anywhere(self, scope)

    def claims(self, scope: Scope) -> Iterable[Claim]:
        return pointwise_claims(self, scope)

    def condition(self, scope: Scope, place: Place) -> Condition:
        chosen = range(scope.outputs) if self.outputs is None else chosen_outputs(self.outputs, scope, "Bounded")
        unsafe: list[tuple[Atom, ...]] = []
        if self.low is not None:
            unsafe += [(Atom(((j, ONE),), rational(self.low), strict=True),) for j in chosen]
        if self.high is not None:
            unsafe += [(Atom(((j, -ONE),), -rational(self.high), strict=True),) for j in chosen]
        low, high = "-∞" if self.low is None else self.low, "∞" if self.high is None else self.high
        which = "every output" if self.outputs is None else f"output {', '.join(map(str, self.outputs))}"
        text = f"{which} is in [{low}, {high}]"
        constants = tuple(rational(end) for end in (self.low, self.high) if end is not None)

        def holds(y: Any, *ends: Any) -> Any:
            picked = y if self.outputs is None else y[jnp.array(self.outputs)]
            above = picked >= ends[0] if self.low is not None else None
            below = picked <= ends[-1] if self.high is not None else None
            return above if below is None else below if above is None else above & below

        theorems = of_tail(scope, place, holds, text, tuple(unsafe), constants)
        return Condition(scope.subject, tuple(unsafe), text, theorems=theorems)


@dataclass(frozen=True)
class ValidProbabilities:
    """The outputs of a row are no less than 0 and sum to 1.

    Over the reals this is a theorem for every input where the model ends in softmax; float32 sums to 1 up to rounding.
    Otherwise it is asked of a region, by bounds.

    Args:
        tolerance: how far the sum may be from 1 and outputs below 0 where bounds are asked; a theorem needs none.

    >>> ValidProbabilities().name
    'ValidProbabilities()'
    """

    tolerance: Number = 0

    def __post_init__(self) -> None:
        if exact_number(self.tolerance, "ValidProbabilities") < 0:
            raise SpecError("A tolerance is not negative.", at=caller(), got=str(self.tolerance), fix='give "1e-6"')

    @property
    def name(self) -> str:
        return f"ValidProbabilities({f'tolerance={self.tolerance}' if self.tolerance else ''})"

    def places(self, scope: Scope) -> Iterable[Place]:
        return anywhere(self, scope)

    def claims(self, scope: Scope) -> Iterable[Claim]:
        return pointwise_claims(self, scope)

    def condition(self, scope: Scope, place: Place) -> Condition:
        """Distributions lie along the last axis of the output."""
        shape = _output_shape(scope)
        groups = np.arange(scope.outputs).reshape(-1, shape[-1] if shape else 1)
        slack = rational(self.tolerance)
        unsafe = [(Atom(((j, ONE),), -slack, strict=True),) for j in range(scope.outputs)]
        for group in groups.tolist():
            unsafe.append((Atom(tuple((j, ONE) for j in group), ONE - slack, strict=True),))
            unsafe.append((Atom(tuple((j, -ONE) for j in group), -(ONE + slack), strict=True),))
        about = f" up to {self.tolerance}" if slack else ""
        exactly = "the outputs are ≥ 0 and sum to 1"

        def holds(y: Any) -> Any:
            rows = y.reshape(groups.shape)
            return jnp.concatenate([(y >= 0).ravel(), (rows.sum(-1) == 1).ravel()])

        theorems = of_tail(scope, place, holds, exactly, tuple(unsafe))
        return Condition(scope.subject, tuple(unsafe), exactly + about, theorems=theorems)


@dataclass(frozen=True)
class NoNaN:
    """No output is NaN in float32.

    Proved at level `float32` where that can speak of the model and its region; claimed where interval bounds alone keep
    every value of the program below 2^127 in magnitude; else tested, or refuted by an executed input.

    >>> NoNaN().name
    'NoNaN()'
    """

    @property
    def name(self) -> str:
        return "NoNaN()"

    def claims(self, scope: Scope) -> Iterable[Claim]:
        return _numbers(scope, self.name, "no output is NaN", np.isnan)


@dataclass(frozen=True)
class NoInf:
    """No output is infinite in float32; answered as `NoNaN` is.

    >>> NoInf().name
    'NoInf()'
    """

    @property
    def name(self) -> str:
        return "NoInf()"

    def claims(self, scope: Scope) -> Iterable[Claim]:
        return _numbers(scope, self.name, "no output is infinite", np.isinf)


@dataclass(frozen=True)
class Finite:
    """Every output is a finite number in float32; answered as `NoNaN` is.

    >>> Finite().name
    'Finite()'
    """

    @property
    def name(self) -> str:
        return "Finite()"

    def claims(self, scope: Scope) -> Iterable[Claim]:
        return _numbers(scope, self.name, "every output is finite", lambda y: ~np.isfinite(y))


def _numbers(scope: Scope, name: str, text: str, wrong: Callable[[np.ndarray], np.ndarray]) -> Iterable[Claim]:
    """A claim a place, or one about the data's rows, for a condition on executed float32 outputs."""
    if scope.region is None and scope.samples is not None:
        place = Place(Everything(), "the rows of the data", data=True)
        way = ByIntervals(scope, place, wrong, text)
        yield Claim(name, f"for each of {len(scope.samples)} rows of data, executed in float32: {text}", place, (way,))
        return
    for place in scope.places():
        where = "every float32 x" if everywhere(place.region) else f"every float32 x with {place.text}"
        yield Claim(name, f"for {where}: {text}", place, (ByIntervals(scope, place, wrong, text),))


def _output_shape(scope: Scope) -> tuple[int, ...]:
    """The shape of the model's first output for one row."""
    found = jax.eval_shape(scope.subject.apply, scope.subject.params, *scope.subject.specs)
    leaves = jax.tree.leaves(found)
    return tuple(leaves[0].shape) if len(leaves) == 1 else (scope.outputs,)


def of_tail(
    scope: Scope, place: Place, holds: Callable[..., Any], text: str, unsafe: Unsafe, constants: Sequence[Fraction] = ()
) -> tuple[Way, ...]:
    """The ways by the model's end: the outputs satisfy `holds` whatever goes into it. Empty where it has no end.

    Args:
        unsafe: the same as atoms over the outputs.
    """
    ways: list[Way] = []
    known = scope.tail.program.environment(scope.tail.values)
    for cut in scope.tail.starts:
        if not is_defined(scope.tail.program, cut, known=known):
            continue  # what goes into the end may be no number
        after = scope.tail.after(cut)
        asked = scope.region is not None or scope.samples is None  # of every x, not of the data
        whole = asked and cut == scope.tail.program.inputs[0] and everywhere(place.region)
        condition = lambda z, *given, after=after: holds(after(z).ravel(), *given)
        said = f"for every input z of the model's end: {text}"
        statement = Statement(said, (Variable("z", cut.shape),), condition, tuple(constants))
        plausible = lambda cut=cut, after=after: _plausible(cut.shape, after, unsafe)
        ways.append(BySymbols(statement, whole, plausible=plausible))
    return tuple(ways)


def _plausible(shape: tuple[int, ...], after: Callable[[Any], Any], unsafe: Unsafe) -> bool:
    """Whether none of some inputs of a model's end is unsafe by more than rounding."""
    generator = np.random.default_rng(0)
    z = generator.standard_normal((TRIED, *shape)) * 10.0 ** generator.uniform(-2, 2, (TRIED, *[1] * len(shape)))
    y = np.asarray(jax.jit(jax.vmap(lambda row: after(row).ravel()))(z.astype(np.float32)), np.float64)
    finite = [row for row in y if np.isfinite(row).all()]
    return all(margin(unsafe, [], row) >= -1e-3 * (1 + np.abs(row).max()) for row in finite)


def chosen_outputs(chosen: Sequence[int], scope: Scope, name: str) -> tuple[int, ...]:
    """Numbers of outputs, if the model has them.

    Raises:
        SpecError: it does not.
    """
    if not chosen or any(not 0 <= j < scope.outputs for j in chosen):
        raise SpecError(f"{name} speaks of outputs that the model does not have.", at=caller(),
                        got=f"{list(chosen)} of {scope.outputs} outputs", fix="count them from 0")  # fmt: skip
    return tuple(chosen)


def exact_number(value: Any, name: str) -> Fraction:
    """An exact number of text, a float or a fraction.

    Raises:
        SpecError: it is none, or not finite.
    """
    try:
        if isinstance(value, bool):
            raise TypeError
        return rational(value if isinstance(value, (str, int, float, Fraction)) else float(value))
    except (TypeError, ValueError, OverflowError, ZeroDivisionError):
        raise SpecError(f"{name} takes numbers.", at=caller(), got=repr(value)[:60],
                        fix='write 0.5, "8/255" or a Fraction') from None  # fmt: skip
