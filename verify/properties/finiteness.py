"""Whether float32 outputs are numbers: bounds of every value at level float32, and executed inputs.

A certificate at level float32 shows that all values are finite, whatever it is about: here, that outputs are below
2^61. Where the level cannot speak of a model, interval bounds make a claim. What was executed refutes at level bitwise.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

import jax.numpy as jnp
import numpy as np

from axiom_jax._domain import interpret
from axiom_jax._errors import UnsupportedPrimitive
from axiom_jax.verification.domains.interval import Interval, interval
from axiom_jax.verification.proof.compiled import hindrance
from axiom_jax.verification.proof.exact import replayed
from axiom_jax.verification.properties.balls import contains, moved_in
from axiom_jax.verification.properties.composing import certify
from axiom_jax.verification.properties.scope import Budget, Place, Scope, unbounded
from axiom_jax.verification.properties.ways import Outcome
from axiom_jax.verification.property import Atom, Case, Property
from axiom_jax.verification.results import Answer, Tested
from axiom_jax.verification.search.margins import Subject, nearest
from axiom_jax.verification.verdict import Claimed, Counterexample, Proved, Refuted

LARGEST = 2.0**127
BELOW = Fraction(2**61)  # more than values may be at level float32
BLOCK = 4096


@dataclass(frozen=True, eq=False)
class ByIntervals:
    """Bound every value of the program over a place by intervals, and execute inputs of it.

    Args:
        wrong: from executed outputs to where they are wrong.
    """

    scope: Scope
    place: Place
    wrong: Callable[[np.ndarray], np.ndarray]
    text: str
    network: str = "none"

    def key(self) -> None:
        return None

    def settle(self, budget: Budget) -> Outcome:
        start = time.monotonic()
        return Outcome(self._answer(budget), time.monotonic() - start)

    def _answer(self, budget: Budget) -> Answer:
        executed = 0
        for points in self._points(budget):
            outputs = self.scope.execute(points)
            bad = np.flatnonzero(self.wrong(outputs).any(1))
            executed += len(points)
            for i in bad:
                if self.place.data or contains(self.place, [Fraction(float(v)) for v in points[i]]):
                    return _refuted(points[i], outputs[i])
        if self.place.data:
            return Tested(executed, "the rows of the data were executed")
        largest, why = self._largest()
        if largest is not None and largest < LARGEST:
            found = self._proved(budget)
            if isinstance(found, Proved):
                return found
            reason = f"interval bounds in float32 keep every value below {largest:.3g} < 2^127; level float32: {found}"
            return Claimed(None, reason)
        return Tested(executed, why)

    def questions(self) -> list[tuple[Subject, Property]]:
        """What a certificate of finiteness is about."""
        return [] if unbounded(self.place.region) else [(self.scope.subject, self._property())]

    def _property(self) -> Property:
        lo, hi = self.scope.box(self.place)
        unsafe = tuple((Atom(((j, Fraction(sign)),), -BELOW),) for j in range(self.scope.outputs) for sign in (1, -1))
        return Property((Case(tuple(lo), tuple(hi), unsafe),), self.text)

    def _proved(self, budget: Budget) -> Proved | str:
        """A proof at level float32, or why there is none."""
        if (reason := hindrance(self.scope.subject, budget.profile)) is not None:
            return reason
        if differs := replayed(self.scope.subject, prop := self._property()):
            return differs
        choices = [tuple(range(2 * self.scope.outputs))]
        found = certify(self.scope.subject, prop, choices, budget, budget.profile)
        return found if isinstance(found, Proved) and "float32" in found.levels else getattr(found, "reason", "")

    def _points(self, budget: Budget) -> list[np.ndarray]:
        """Blocks of float32 inputs of the place: rows of data, corners, and random ones."""
        samples = self.scope.samples.x if self.scope.samples is not None else np.zeros((0, self.scope.subject.size))
        if self.place.data:
            return [samples.astype(np.float32)]
        generator, size = np.random.default_rng(0), self.scope.subject.size
        count = max(min(budget.points, 40_000_000 // max(size, 1)), 16)
        if unbounded(self.place.region):
            scale = 10.0 ** generator.uniform(-38, 38, (count, 1))
            x = np.clip(generator.standard_normal((count, size)) * scale, -3.4e38, 3.4e38).astype(np.float32)
            x = moved_in(self.place, x)
            return [x[i : i + BLOCK] for i in range(0, len(x), BLOCK)]
        lo, hi = (np.array([nearest(v) for v in end], np.float32) for end in self.scope.box(self.place))
        share = generator.uniform(0, 1, (count, size))
        share[: count // 4] = share[: count // 4] > 0.5  # corners
        share[0], share[1], share[2] = 0, 1, 0.5
        x = np.clip(lo + (hi.astype(np.float64) - lo) * share, lo, hi).astype(np.float32)
        x = moved_in(self.place, x)
        return [x[i : i + BLOCK] for i in range(0, len(x), BLOCK)]

    def _largest(self) -> tuple[float | None, str]:
        """The largest magnitude of any value over the place, by intervals; None and why where it has no bound."""
        if unbounded(self.place.region):
            return None, "the region has no ends, so there are no bounds; inputs of all sizes were executed"
        lo, hi = self.scope.box(self.place)
        program, values = self.scope.subject.flat
        box = Interval(*(jnp.array([float(nearest(v)) for v in end], jnp.float32) for end in (lo, hi)))
        try:
            found = interpret(interval, program, values, box)
        except UnsupportedPrimitive as error:
            return None, f"no bounds: {error.what}"
        largest = 0.0
        for value in found.values():
            ends = (value.lo, value.hi) if isinstance(value, Interval) else (value,)
            for end in map(np.asarray, ends):
                if end.dtype.kind == "f" and end.size and not np.all(np.isneginf(end) & (end.ndim == 0)):
                    largest = max(largest, float(np.nan_to_num(np.abs(end), nan=np.inf, posinf=np.inf).max()))
        return largest, f"interval bounds reach {largest:.3g}, and 2^127 is the most that is claimed"


def _refuted(point: np.ndarray, output: np.ndarray) -> Refuted:
    finite = tuple((Fraction(float(v)), Fraction(float(v))) for v in output if np.isfinite(v))
    found = Counterexample(tuple(Fraction(float(v)) for v in point), finite, "deployed-cex")
    return Refuted(found, None, ("bitwise",))
