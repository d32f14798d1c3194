"""The verdict of a statement, by every means there is, within a time.

In order: a quick look for a counterexample, a derivation, branch and bound where the statement is about a concrete
program over a box, a solver at concrete sizes, a longer look for a counterexample.
"""

import math
import numbers
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from axiom_jax._errors import AxiomError, SpecError, UnsupportedPrimitive
from axiom_jax._shapes_places import caller
from axiom_jax.verification._display import shortened
from axiom_jax.verification.statement import Statement
from axiom_jax.verification.verdict import Claimed, Point, Proved, Refuted, Unknown, Verdict, interrupted
from axiom_jax.verification.watching import Guard

TIMEOUT = 10.0  # seconds of a statement
QUICK = 0.5  # seconds of the first look for a counterexample
CHECK_TIMEOUT = 120.0  # seconds of the checker


def settle(statement: Statement, timeout: float = TIMEOUT, *, check: bool = True) -> Verdict:
    """The verdict of a statement, without warnings.

    Args:
        timeout: wall seconds; the checker has a limit of its own.
        check: whether a checker judges the proof.
    """
    return _Attempt(statement, time.monotonic(), timeout, check).verdict()


def checked_seconds(timeout: Any) -> float:
    """A time limit that was given, as a number of seconds.

    Raises:
        SpecError: it is no finite number from 0 on.

    >>> checked_seconds(3)
    3.0
    """
    number = isinstance(timeout, (numbers.Real, np.number)) and not isinstance(timeout, (bool, np.bool_))
    if not number or not math.isfinite(timeout) or timeout < 0:
        got = repr(timeout) if number or timeout is None else f"a {type(timeout).__name__}"
        raise SpecError("A timeout is a number of seconds, finite and not negative.", at=caller(), got=got,
                        fix="timeout=60")  # fmt: skip
    return float(timeout)


@dataclass(eq=False)
class _Attempt:
    statement: Statement
    start: float
    timeout: float
    check: bool

    def __post_init__(self) -> None:
        self.tried: list[str] = []
        self.theorems: list[Any] = []
        self.bound: float | None = None
        self.claim: Claimed | None = None

    @property
    def exists(self) -> bool:
        return any(v.quantifier == "exists" for v in self.statement.variables)

    def until(self, seconds: float) -> float:
        """A deadline some seconds from now, within the time that is left."""
        return min(time.monotonic() + seconds, self.start + self.timeout)

    @property
    def left(self) -> float:
        """Seconds."""
        return max(self.start + self.timeout - time.monotonic(), 0.0)

    def verdict(self) -> Verdict:
        try:
            found = self._attempted(self._quick)
            rest = [self._derived, self._negation_derived, self._over_a_box]
            if any(t.abstracted for t in self.theorems) or not self.theorems:  # it has weights: bounds come first
                rest = [self._derived_for_all_weights, self._over_a_box, self._derived, self._negation_derived]
            for step in [*rest, self._solved, self._searched]:
                if found is not None or time.monotonic() > self.start + self.timeout:
                    break
                found = self._attempted(step)
        except KeyboardInterrupt:
            if self.claim is None:
                return self._open("interrupted")
            return replace(self.claim, reason=f"interrupted; {self.claim.reason}")
        if found is not None or self.claim is not None:
            return found or self.claim or self._open("")
        late = time.monotonic() > self.start + self.timeout - 0.05
        reason = f"out of time after {self.timeout:g} s" if late else "nothing that was tried settles it"
        return self._open(reason, late)

    def _attempted(self, step: Callable[[], Verdict | None]) -> Verdict | None:
        """What a step finds; one that fails is told among what was tried, and the others go on."""
        try:
            return step()
        except Exception as error:
            self.tried.append(f"{step.__name__.strip('_')} failed: {type(error).__name__}: {_in_a_line(error)}")
            return None

    def _open(self, reason: str, late: bool = False) -> Unknown:
        tried = tuple(dict.fromkeys(self.tried))
        return Unknown(reason, self.bound, late, Guard(self.statement), self.statement.text, tried)

    def _claimed(self, evidence: Any, reason: str) -> Claimed:
        return Claimed(evidence, reason, Guard(self.statement), self.statement.text)

    # --- in order

    def _quick(self) -> Verdict | None:
        """Read the statement as a theorem; look for a counterexample for a moment."""
        from axiom_jax.verification.domains.symbolic.translate import variants

        try:
            self.theorems = variants(self.statement)
        except (UnsupportedPrimitive, SpecError) as error:
            self.tried.append(f"as a theorem: {_in_a_line(error)}")
        return self._refuted(QUICK, 0)

    def _searched(self) -> Verdict | None:
        start = time.monotonic()
        found = self._refuted(self.left, 1)
        if found is None and not self.exists:
            self.tried.append(f"no counterexample was found in {time.monotonic() - start:.1f} s")
            if not self.theorems:
                self._suggested()
        return found

    def _suggested(self) -> None:
        """Where the statement seems to fail, if there is no exact judge of it."""
        from axiom_jax.verification.refuting import suggest

        if (found := suggest(self.statement, self.until(self.left))) is not None:
            where = ", ".join(f"{name} = {value}" for name, value in {**found.sizes, **found.point}.items())
            self.tried.append(f"in float32 it seems to fail at {shortened(where, 120)}: not judged exactly")

    def _refuted(self, seconds: float, seed: int) -> Verdict | None:
        from axiom_jax.verification.refuting import refute

        if self.exists:
            return None
        exact = next((t for t in self.theorems if not t.abstracted), None)
        found = refute(self.statement, exact, self.until(seconds), seed)
        return None if found is None else self._point(found)

    def _point(self, found: Any) -> Refuted | None:
        """A refutation, if the kernel accepts its certificate."""
        from axiom_jax.verification import derivation_checker as kernel

        derivation = found.derivation
        accepted = kernel.check(derivation.to_bytes())
        if not accepted.accepted:
            self.tried.append(f"a counterexample was not accepted: {accepted.reason}")
            return None
        values = tuple((name, _tuples(value)) for name, value in found.point.items())
        note = "something in the statement has no value there; " if found.undefined else ""
        executed = self._executed(found.executed, found.undefined)
        point = Point(values, f"{note}{executed}", sizes=tuple(self._sizes(dict(values)).items()))
        return Refuted(point, derivation, ("real",), self.statement.text, f"at {point!r}: {point.executed}")

    def _executed(self, found: Any, undefined: bool = False) -> str:
        """What JAX computed where the statement is false; over the reals its numbers may be others than in float32."""
        if undefined or not found.holds:
            return str(found)
        why = "in float32 the condition is true there, over the reals it is false"
        exact = "numbers inside of JAX functions are float32 numbers, those of the text are exact"
        return f"{why}: {exact}" if self.statement.constants else why

    def _sizes(self, values: Mapping[str, Any]) -> dict[str, int]:
        """What the names of sizes are at a point."""
        shapes = {v.name: np.shape(np.array(values[v.name], dtype=object)) for v in self.statement.variables}
        return {size: n for v in self.statement.variables for size, n in zip(v.shape, shapes[v.name], strict=True)
                if isinstance(size, str)}  # fmt: skip

    def _derived_for_all_weights(self) -> Verdict | None:
        """A derivation that weights do not matter for, for a moment."""
        return self._derived([t for t in self.theorems if t.abstracted], 0.15)

    def _derived(self, theorems: list[Any] | None = None, share: float = 0.6) -> Verdict | None:
        """A derivation of the statement, which the checker accepts."""
        for theorem in self.theorems if theorems is None else theorems:
            if len(theorem.sizes) != len(self.statement.sizes):  # it would be about some sizes only
                continue
            derivation = self._derivation(theorem, "a derivation", share)
            if derivation is None:
                continue
            refused = self._judged(derivation, theorem)
            if refused is None:
                return Proved(derivation, ("real",), self.statement.text, self._scope())
            self.claim = self._claimed(derivation, refused)
            if not self.check:
                return self.claim
        return None

    def _negation_derived(self) -> Verdict | None:
        """A refuted ∃: a proof of its negation."""
        if not self.exists or not self.check:
            return None
        from axiom_jax.verification.domains.symbolic.translate import variants

        opposite = negated(self.statement)
        try:
            theorems = variants(opposite)
        except (UnsupportedPrimitive, SpecError):
            return None
        for theorem in theorems:
            derivation = self._derivation(theorem, "a derivation of the negation")
            if derivation is not None and self._judged(derivation, theorem) is None:
                shown = f"the negation is proved, {self._scope()}"
                return Refuted(None, derivation, ("real",), self.statement.text, shown)
        return None

    def _derivation(self, theorem: Any, what: str, share: float = 0.6) -> Any:
        from axiom_jax.verification.domains.symbolic.deriving import derive

        derivation, tried = derive(theorem, self.until(self.left * share))
        if derivation is None:
            self.tried.extend(f"{what}: {line}" for line in tried)
        return derivation

    def _judged(self, derivation: Any, theorem: Any) -> str | None:
        """Why a derivation is no proof of a theorem, or None: the checker runs in a Python of its own."""
        from axiom_jax.verification.proof.certificate import save_certificate
        from axiom_jax.verification.proof.derivation import run_derivation_checker

        if not self.check:
            return "not checked"
        if (other := mismatch(derivation, theorem)) is not None:
            return f"the derivation is of another statement: its {other} differs"
        with tempfile.TemporaryDirectory() as folder:
            checked = run_derivation_checker(save_certificate(derivation, Path(folder, "proof.cert")), CHECK_TIMEOUT)
        return None if checked.accepted else f"the checker did not accept: {checked.reason}"

    def _over_a_box(self) -> Verdict | None:
        """Branch and bound, where the statement is about a concrete program over a box."""
        from axiom_jax.verification.composing import Unfit, point_of, pose_statement
        from axiom_jax.verification.search.decide import decide

        quantifiers = {v.quantifier for v in self.statement.variables}
        asked = negated(self.statement) if quantifiers == {"exists"} else self.statement
        try:
            posed = pose_statement(asked)
            decision = decide(posed.subject, posed.property, timeout=self.left * 0.7, check=self.check)
        except (Unfit, AxiomError) as error:
            self.tried.append(f"branch and bound over a box: {_in_a_line(error)}")
            return None
        found = decision.verdict
        if isinstance(found, Unknown):
            self.bound = found.bound
            if interrupted(found):
                raise KeyboardInterrupt
            self.tried.append(f"branch and bound over a box: {found.reason}")
            return None
        if isinstance(found, Claimed):
            self.claim = self._claimed(found.certificate, f"branch and bound: {found.reason}")
            if interrupted(found):
                raise KeyboardInterrupt
            return None if self.check else self.claim
        text, scope = self.statement.text, "over the real numbers, for every point of the region"
        if quantifiers == {"exists"}:  # no point, or one
            if isinstance(found, Proved):
                return Refuted(None, found.certificate, found.levels, text, f"the negation is proved, {scope}")
            return Proved(found.certificate, found.levels, text, f"at {self._there(found, point_of)!r}")
        if isinstance(found, Proved):
            return Proved(found.certificate, found.levels, text, scope)
        point = self._there(found, point_of)
        return Refuted(point, found.certificate, found.levels, text, f"at {point!r}")

    def _there(self, found: Refuted, point_of: Callable[..., dict[str, Any]]) -> Point:
        from axiom_jax.verification.refuting import execute

        values = point_of(self.statement, found.counterexample.inputs)
        flat = {
            name: tuple(Fraction(x) for x in np.array(value, dtype=object).ravel()) for name, value in values.items()
        }
        executed = execute(self.statement, {}, flat)
        shown = str(executed) if self.exists else self._executed(executed)
        return Point(tuple(values.items()), shown)

    def _solved(self) -> Verdict | None:
        """A solver, at concrete sizes; what it says alone is claimed."""
        from axiom_jax.verification.domains.smt.solving import solve

        if self.statement.sizes:
            return None
        try:
            answer = solve(self.statement, {}, self.until(self.left * 0.6))
        except AxiomError as error:
            self.tried.append(f"a solver: {_in_a_line(error)}")
            return None
        if answer.holds:
            if answer.point is not None and (found := self._witnessed(answer.point)) is not None:
                return found
            self.claim = self.claim or self._claimed(None, f"solver-trusted: {answer.reason}")
        elif answer.holds is None:
            self.tried.append(f"a solver: {answer.reason}")
        elif answer.point is not None:
            return self._candidate(answer.point)
        return None

    def _witnessed(self, point: Mapping[str, Any]) -> Proved | None:
        """A solver's witness of a statement of ∃ variables: a proof with the point in their place."""
        from axiom_jax.verification.domains.symbolic.deriving import derive
        from axiom_jax.verification.witnessing import with_witness

        theorem = next((t for t in self.theorems if not t.abstracted), None)
        if theorem is None or not self.check:
            return None
        values = [np.array(point[v.name], dtype=object) for v in self.statement.variables]
        found = _witness(theorem, values)
        inner, _ = derive(found.theorem, self.until(self.left)) if found is not None else (None, [])
        if found is None or inner is None:
            self.tried.append("a solver gives a witness that is not proved to be one")
            return None
        derivation = with_witness(theorem, found, inner)
        if self._judged(derivation, theorem) is not None:
            return None
        shown = ", ".join(f"{v.name} = {_shown(x)}" for v, x in zip(self.statement.variables, values, strict=True))
        return Proved(derivation, ("real",), self.statement.text, f"{self._scope()}, at {shown}")

    def _candidate(self, point: Mapping[str, Any]) -> Verdict | None:
        """A solver's point, judged exactly."""
        from axiom_jax.verification.refuting import Refutation, execute, violated

        theorem = next((t for t in self.theorems if not t.abstracted), None)
        if theorem is None or self.exists:
            self.tried.append("a solver gives a point that cannot be judged exactly")
            return None
        arrays = {name: np.array(value, dtype=object) for name, value in point.items()}
        values = {name: tuple(Fraction(x) for x in array.ravel()) for name, array in arrays.items()}
        named = {theorem.name(name): entries for name, entries in values.items()}
        bits = violated(theorem, {}, named)
        if not bits:
            self.tried.append("a solver gives a point at which exact arithmetic does not see the statement fail")
            return None
        shapes = {theorem.name(name): array.shape for name, array in arrays.items()}
        return self._point(Refutation(theorem, {}, named, shapes, bits, execute(self.statement, {}, values)))

    def _scope(self) -> str:
        sizes = self.statement.sizes
        return "over the real numbers" + (f", for every {', '.join(sizes)} ≥ 1" if sizes else "")


def negated(statement: Statement) -> Statement:
    """The negation: every quantifier turned, the condition denied."""
    turned = tuple(replace(v, quantifier="exists" if v.quantifier == "forall" else "forall")
                   for v in statement.variables)  # fmt: skip

    def condition(*given: Any) -> Any:
        found = statement.condition(*given)
        return jnp.logical_not(jnp.all(found) if jnp.ndim(found) else found)

    return replace(statement, text=f"¬({statement.text})", variables=turned, condition=condition)


def mismatch(derivation: Any, theorem: Any) -> str | None:
    """In what a derivation speaks of something else than a theorem; None where it is of that very theorem."""
    from axiom_jax.verification.derivation_checker import affine
    from axiom_jax.verification.proof.derivation import steps_of

    payload = derivation.payload
    if payload["claim"] != "holds" or payload["text"] != theorem.text:
        return "text"
    if list(payload["sizes"]) != list(theorem.sizes):
        return "sizes"
    start, _ = steps_of(derivation)
    shapes = [(v["name"], tuple(_affine(e) for e in v["shape"])) for v in payload["variables"]]
    if shapes != [(name, tuple(map(affine, shape))) for name, shape in theorem.variables]:
        return "variables"
    if start.goal is not theorem.goal and start.goal != theorem.goal:
        return "goal"
    return None if set(start.hyps) <= set(theorem.hypotheses) else "hypotheses"


def _affine(raw: Any) -> Any:
    from axiom_jax.verification.derivation_checker import affine, shifted

    total = affine(raw[0])
    for name, times in raw[1:]:
        total = shifted(total, name, times)
    return total


def _witness(theorem: Any, values: list[np.ndarray]) -> Any:
    """The claim with numbers in the place of the ∃ variables in front, outermost first; None where they do not fit."""
    from axiom_jax.verification import derivation_checker as kernel
    from axiom_jax.verification.witnessing import Witness

    kernel.refill()
    goal, steps = theorem.goal, []
    for value in values:
        if goal.op != "exists" or [kernel.affine(n) for n in value.shape] != list(goal.args[0]):
            break
        names = [f"@k{k}" for k in range(value.ndim)]
        entries = sorted(np.ndenumerate(value), key=lambda e: e[0])
        term = kernel.const(entries[-1][1])
        for place, number in reversed(entries[:-1]):
            here = [kernel.ieq(name, k) for name, k in zip(names, place, strict=True)]
            if kernel.const(number) != term:
                term = kernel.ite(kernel.conj(*here) if len(here) > 1 else here[0], kernel.const(number), term)
        steps.append(("witness", {"names": names, "term": term}))
        goal = kernel.applied(goal, names, term)
    return Witness(replace(theorem, goal=goal, needed=()), tuple(steps)) if steps else None


def _shown(values: np.ndarray) -> str:
    return shortened(repr(Point((("", _tuples(values.tolist())),))).removeprefix(" = "), 100)


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


def _in_a_line(error: BaseException) -> str:
    got = getattr(error, "got", None)
    return f"{str(getattr(error, 'what', error)).rstrip('.')}{f' ({got})' if got else ''}".replace("\n", "; ")[:300]
