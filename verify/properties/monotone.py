"""Outputs that never fall, or never rise, with a feature.

Proved by the signs of the weights, or by bounds on the derivative along the feature (`jax.jvp` of the program that
certificates hold); refuted by two inputs of the region that differ in it. What is continuous and has a derivative ≥ 0
wherever it has one, outside of a set of measure zero, does not fall: networks of relu and smooth functions are such,
along every line. What is not known to be continuous (`no_derivative`) is not asked for its derivative.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from axiom_jax._errors import SpecError
from axiom_jax._shapes_places import caller
from axiom_jax.verification.properties.balls import contains, is_box
from axiom_jax.verification.properties.base import Claim, Condition
from axiom_jax.verification.properties.composing import (
    BySufficient,
    Run,
    atom,
    composed,
    derived,
    no_derivative,
    sampled,
)
from axiom_jax.verification.properties.scope import Place, Scope
from axiom_jax.verification.properties.signs import monotone_by_signs
from axiom_jax.verification.properties.ways import ByRunning

SAMPLES = 2048  # points whose slopes are looked at
WORST = 4  # of them are tried
STEPS = 12  # sizes of steps that are tried at a point with a wrong slope


@dataclass(frozen=True)
class Monotone:
    """No output falls while these features grow, over the region: x ≤ x′ in them, equal elsewhere ⟹ f(x) ≤ f(x′).

    Args:
        features: flat index of an input, or several.
        increasing: False: no output rises.
        outputs: flat indices of the outputs meant; all if None.

    >>> Monotone([0, 2]).name
    'Monotone([0, 2])'
    """

    features: int | Sequence[int]
    increasing: bool = True
    outputs: Sequence[int] | None = None

    def __post_init__(self) -> None:
        given = [self.features] if isinstance(self.features, (int, np.integer)) else list(self.features)
        if not given:
            raise SpecError("Monotone names no feature.", at=caller(), fix="ax.Monotone(features=[0])")
        object.__setattr__(self, "features", tuple(dict.fromkeys(int(i) for i in given)))
        if self.outputs is not None:
            object.__setattr__(self, "outputs", tuple(int(j) for j in self.outputs))

    @property
    def name(self) -> str:
        features = list(self._features)
        return f"Monotone({features[0] if len(features) == 1 else features}{'' if self.increasing else ', decreasing'})"

    @property
    def _features(self) -> tuple[int, ...]:
        return self.features  # pyright: ignore[reportReturnType]

    def claims(self, scope: Scope) -> Iterable[Claim]:
        """A claim a region."""
        features = indices(self._features, scope.subject.size, "input")
        chosen = indices(self.outputs if self.outputs is not None else range(scope.outputs), scope.outputs, "output")
        for place in scope.places():
            yield self._claim(scope, place, features, chosen)

    def _claim(self, scope: Scope, place: Place, features: tuple[int, ...], chosen: tuple[int, ...]) -> Claim:
        sign = 1 if self.increasing else -1
        size, count = scope.subject.size, len(chosen)
        key = (features, chosen, sign)
        lo, hi = scope.bounds(place.region)
        which = "no output" if len(chosen) == scope.outputs else f"none of the outputs {list(chosen)}"
        verb = "falls" if self.increasing else "rises"
        text = f"for all x with {place.text}: {which} {verb} as the features {list(features)} grow"

        def slopes(run: Run, x: Any) -> Any:
            basis = np.eye(size, dtype=np.float32)[list(features)]
            along = jnp.concatenate([jax.jvp(run, (x,), (e,))[1][np.array(chosen)] for e in basis])
            return jnp.maximum(-sign * along, 0.0)  # a relu, so that the checker's interval bounds decide it too

        def pair(run: Run, x: Any) -> Any:
            places = [size + features.index(i) if i in features else i for i in range(size)]
            return sign * (run(x[np.array(places)]) - run(x[:size]))[np.array(chosen)]

        lacking = no_derivative(scope)
        enough = None if lacking else Condition(
            derived(scope, ("slopes", *key), slopes, size, "derivatives"),
            tuple((atom({k: -1}),) for k in range(count * len(features))),
            f"for all x with {place.text}: the parts of ∂y/∂x of the wrong sign, relu({'-' if sign > 0 else ''}∂y/∂x), "
            f"are 0 along the features {list(features)}",
        )  # fmt: skip
        ordered = tuple(
            atom({}, 0, {f: 1, size + k: -1}, strict=False) for k, f in enumerate(features)
        )  # x_f <= its new value
        direct = Condition(
            composed(scope, ("ordered pair", *key), pair, size + len(features), "two copies"),
            tuple((*ordered, atom({k: 1})) for k in range(count)),
            text,
        )
        more = lambda ends: (*ends, *(ends[f] for f in features))

        def suspects(point: np.ndarray | None) -> Iterable[list[Fraction]]:
            """Pairs through a point whose slope looks wrong."""
            if enough is None:
                return
            if point is None:
                x, wrong = sampled(enough.subject, lo, hi, SAMPLES)
                worst = np.argsort(-wrong.max(1), kind="stable")[:WORST]
                for i in worst[wrong.max(1)[worst] > 0]:
                    yield from suspects(x[i])
                return
            x = [min(max(Fraction(float(v)), a), b) for v, a, b in zip(point, lo, hi, strict=True)]
            for power in range(STEPS):
                for f in features:
                    step = (hi[f] - lo[f]) / 2**power / 2
                    low, high = (_dyadic(min(max(x[f] + s * step, lo[f]), hi[f])) for s in (-1, 1))
                    if lo[f] <= low < high <= hi[f]:
                        start = [*x[:f], low, *x[f + 1 :]]
                        yield [*start, *(high if g == f else start[g] for g in features)]

        by_signs = lambda budget: monotone_by_signs(scope.subject, features, chosen, self.increasing, text, budget)

        def counts(point: Sequence[Fraction]) -> bool:
            """Whether both inputs lie in the region, of which `lo` and `hi` are the box around it."""
            other = [point[size + features.index(i)] if i in features else point[i] for i in range(size)]
            return contains(place, point[:size]) and contains(place, other)

        by_slopes = BySufficient(enough, direct, ((lo, hi),), (more(lo), more(hi)), text, suspects,
                                 None if is_box(place) else counts,
                                 lacking=lacking or BySufficient.lacking)  # fmt: skip
        notes = ("where bounds prove it: the derivative has the right sign outside of kinks",)
        return Claim(self.name, text, place, (ByRunning(by_signs, "model"), by_slopes), notes)


def indices(given: Iterable[int], size: int, what: str) -> tuple[int, ...]:
    """Flat indices, negative ones from the end.

    Raises:
        SpecError: there is no such input or output.
    """
    found = tuple(i + size if i < 0 else i for i in given)
    wrong = [i for i in found if not 0 <= i < size]
    if wrong or not found:
        raise SpecError(
            f"There is no {what} {wrong[0] if wrong else ''}.".replace(" .", "."), at=caller(),
            got=f"{size} {what}s", fix=f"name {what}s from 0 to {size - 1}",
        )  # fmt: skip
    return found


def _dyadic(x: Fraction) -> Fraction:
    return Fraction(float(np.float32(float(x))))
