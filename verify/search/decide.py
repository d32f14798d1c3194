"""Decide one property: attack, bound, branch, prove, check.

The search is untrusted. `Proved` is answered only after the checker accepted the file,
`Refuted` only after exact arithmetic judged the point.
"""

import os
import platform
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import Any

import jax
import numpy as np

from axiom_jax.verification import checker
from axiom_jax.verification.proof.certificate import (
    Certificate,
    Checked,
    certificate,
    describe_property,
    point_proof,
    run_checker,
    save_certificate,
)
from axiom_jax.verification.proof.compiled import Compilation, kept_by
from axiom_jax.verification.proof.exact import exactly, replayed
from axiom_jax.verification.proof.float32 import PROFILE, merged, undescribed
from axiom_jax.verification.proof.lowered import stablehlo
from axiom_jax.verification.property import Case, Property
from axiom_jax.verification.search.compilation import compile_seconds
from axiom_jax.verification.search.distributed import scaled
from axiom_jax.verification.search.margins import Question, Subject, nearest, pose
from axiom_jax.verification.search.portfolio import searches
from axiom_jax.verification.search.strategy import Strategy
from axiom_jax.verification.verdict import Claimed, Counterexample, Decision, Proved, Refuted, Unknown

REPAIRS = 3  # how often leaves that the checker refuses are split further
AT_FLOAT32 = 1  # how often for level float32, where a margin may be too small for rounding
NOT_KEPT = "that a compiler keeps the operations was not seen"  # of what a certificate at level float32 speaks of
Progress = Callable[[str, float | None, int, int], None]  # stage, bound so far, boxes, open boxes


def decide(
    subject: Subject,
    prop: Property,
    *,
    timeout: float = 60.0,
    check: bool = True,
    check_timeout: float = 600.0,
    certificate_path: str | os.PathLike[str] | None = None,
    meta: dict[str, str] | None = None,
    progress: Progress | None = None,
    jobs: int = 1,
    executor: str = "local",
    journal: str | os.PathLike[str] | None = None,
    float32: bool = False,
) -> Decision:
    """Prove or refute a property of a model.

    Args:
        subject: the model. prop: what is asked of it.
        timeout: wall seconds of compilation and search.
        check: whether to check the proof; without it a proof is `Claimed`.
        check_timeout: wall seconds of the checker; past it a proof is `Claimed`.
        certificate_path: where to write the certificate, of a proof or of a counterexample.
        meta: what else the certificate shall say, for people.
        progress: called with the stage, the bound so far, boxes bounded and boxes open.
        jobs: over how many workers subproblems are spread. executor: "local" processes, or actors of "ray".
        journal: a file that keeps what was closed; a run that was cut off goes on from there.
        float32: whether a proof is tried at level `float32` too, where the subject is the model as it runs.

    Returns:
        A decision; never raises for lack of time, and after Ctrl-C answers what is known.

    Raises:
        SpecError, UnsupportedPrimitive: the property or the model cannot be posed.
    """
    start, compiled = time.monotonic(), compile_seconds()
    deadline = start + timeout
    tell = progress or (lambda *_: None)
    tell("compile", None, 0, 0)
    question = pose(subject, prop)
    court = _Court(question, meta or {}, float32, certificate_path is not None)
    with scaled(question, searches, jobs=jobs, executor=executor, journal=journal) as search:
        return _decided(
            question, court, search, start, compiled, deadline, check, check_timeout, certificate_path, tell
        )


def _decided(
    question: Question,
    court: "_Court",
    search: Strategy,
    start: float,
    compiled: float,
    deadline: float,
    check: bool,
    check_timeout: float,
    certificate_path: str | os.PathLike[str] | None,
    tell: Progress,
) -> Decision:
    outcome, failure = "time", None
    try:
        outcome = _search(court, search, deadline, tell)
    except KeyboardInterrupt:
        failure = "interrupted"
    seconds = time.monotonic() - start
    spent = compile_seconds() - compiled
    bound = search.worst if np.isfinite(search.worst) else None
    decision = Decision(Unknown("", bound), seconds, spent, 0.0, bound, search.boxes, search.leaves)
    if outcome == "unsafe" and court.found is not None:
        return court.refuted(decision, certificate_path)
    if outcome == "closed" and failure is None:
        decision = replace(decision, bound=bound)
        return _conclude(court, search, decision, check, check_timeout, certificate_path, deadline, tell)
    reasons = {
        "time": f"out of time after {deadline - start:g} s: {search.open} boxes left open, {search.boxes} bounded",
        "stuck": f"{search.open} boxes are left that cannot be split any more: the margin is zero to rounding",
    }
    reason = f"interrupted: {search.open} boxes left open" if failure else reasons[outcome]
    if failure is None and (said := getattr(search, "trusted", None)):
        return replace(decision, verdict=Claimed(None, f"{said}; a proof was not found: {reason}"))
    return replace(decision, verdict=Unknown(reason, bound, timed_out=outcome == "time" and failure is None))


def _search(court: "_Court", search: Strategy, deadline: float, tell: Progress) -> str:
    report = lambda s: tell("search", s.worst if np.isfinite(s.worst) else None, s.boxes, s.open)
    tell("attack", None, 0, search.open)
    return search.run(deadline, court.judge, report)


def _conclude(
    court: "_Court",
    search: Strategy,
    decision: Decision,
    check: bool,
    check_timeout: float,
    path: str | os.PathLike[str] | None,
    deadline: float,
    tell: Progress,
) -> Decision:
    """Write the proof of a closed search, have it checked, split further what the checker refuses.

    Level float32 comes first: what is proved there is proved over the real numbers too. Leaves that fall short there
    are split once; then the level is given up.
    """
    if court.exact.missing is not None:
        return replace(decision, verdict=Claimed(None, f"the certificate cannot express it yet: {court.exact.missing}"))
    if differs := replayed(court.question.subject, court.question.property):
        return replace(decision, verdict=Claimed(None, differs))
    tell("check", decision.bound, search.boxes, 0)
    spent, repairs, profile = 0.0, 0, court.profile if check else ""
    with tempfile.TemporaryDirectory() as folder:
        while True:
            found = search.proof()
            if isinstance(found, str):
                return replace(decision, verdict=Claimed(None, f"the certificate cannot express it yet: {found}"))
            proof = court.certificate("holds", found, profile)
            target = save_certificate(proof, path or Path(folder, "proof.cert"))
            decision = replace(decision, certificate_path=str(path) if path else None, leaves=search.leaves)
            if not check:
                return replace(decision, verdict=Claimed(proof, "not checked"))
            checked = run_checker(target, check_timeout - spent)
            spent += checked.seconds
            decision = replace(decision, check_seconds=spent)
            if checked.accepted:
                return replace(decision, verdict=Proved(proof, checked.levels, scope=court.scope if profile else ""))
            last = repairs == (REPAIRS if not profile else AT_FLOAT32)
            if checked.failed and not last and _split_further(court, search, checked, deadline):
                repairs += 1
            elif profile and not checked.timed_out and search.open == 0:
                profile, repairs = "", 0
            else:
                return replace(decision, verdict=Claimed(proof, f"the checker did not accept: {checked.reason}"))


def _split_further(court: "_Court", search: Strategy, checked: Checked, deadline: float) -> bool:
    """Open the leaves that the checker refused, halve them once, and close them again."""
    search.reopen(checked.failed)
    return search.run(max(deadline, time.monotonic() + 5.0), court.judge) == "closed"


class _Court:
    """Judges candidate points exactly and writes certificates; both speak of the same network.

    Args:
        float32: whether the level is tried; `profile` is then the machine it speaks of, "" if it can speak of none.
        kept: whether certificates go into a file of the user's.
    """

    def __init__(self, question: Question, meta: dict[str, str], float32: bool = False, kept: bool = False):
        self.question, self.exact, self.kept = question, exactly(question.subject), kept
        self.found: tuple[int, list[Fraction], list[tuple[Fraction, Fraction]]] | None = None
        self.float32 = float32
        self.meta = {
            "time": datetime.now(UTC).isoformat(timespec="seconds"),
            "environment": f"python {platform.python_version()}, jax {jax.__version__}, {platform.machine()}",
        } | meta

    @cached_property
    def profile(self) -> str:  # looked for when there is a proof, not before a search
        if not self.float32 or undescribed(self.question.subject) is not None:
            return ""
        return PROFILE if merged(self.question.subject) is None or self.compiled is not None else ""

    @cached_property
    def compiled(self) -> Compilation | None:  # compiling takes some tenths of a second
        return kept_by(self.question.subject)

    @cached_property
    def scope(self) -> str:
        """What level float32 speaks of, where it is less than every compilation."""
        if merged(self.question.subject) is None or self.compiled is None:
            return ""
        return f"level float32 speaks of one compilation: {self.compiled.told}"

    def certificate(self, claim: str, proof: dict[str, Any], profile: str = "") -> Certificate:
        model, asked = self.exact.model, describe_property(self.question.property)
        meta = self.meta
        if self.kept:  # lowering takes some hundredths of a second
            model = {**model, "source": {**model["source"], **stablehlo(self.question.subject)}}
        if profile and (self.kept or self.scope):
            meta = meta | {"compilation": self.scope or (self.compiled.told if self.compiled else NOT_KEPT)}
            if self.compiled is not None:
                model = {**model, "source": {**model["source"], self.compiled.kind: self.compiled.digest}}
        return certificate(model, self.exact.blob, asked, claim, proof, meta, profile)

    def judge(self, case: int, point: Sequence[Any] | np.ndarray) -> bool:
        """Whether a point is unsafe for the exact network: float32 numbers of the deployed domain, or rational numbers
        of the exact box."""
        if self.exact.missing is not None:
            return False
        inputs = [x if isinstance(x, Fraction) else Fraction(float(x)) for x in point]
        if not inside(self.question.property.cases[case], inputs):
            return False
        try:
            outputs = self.exact.network.evaluate(inputs)
        except checker.Rejected:  # the network is not defined there: no number breaks anything
            return False
        if not unsafe(self.question.property.cases[case], inputs, outputs):
            return False
        self.found = case, inputs, outputs
        return True

    def refuted(self, decision: Decision, path: str | os.PathLike[str] | None) -> Decision:
        assert self.found is not None
        case, inputs, outputs = self.found
        if differs := replayed(self.question.subject, self.question.property):
            return replace(decision, verdict=Unknown(f"a counterexample was found, but {differs}"))
        proof = self.certificate("violated", point_proof(case, inputs))
        verdict = checker.check(proof.to_bytes())
        if not verdict.accepted:
            return replace(decision, verdict=Unknown(f"a counterexample was not accepted: {verdict.reason}"))
        if path:
            save_certificate(proof, path)
        found = Counterexample(tuple(inputs), tuple(outputs), "real-cex", case)
        return replace(decision, verdict=Refuted(found, proof), certificate_path=str(path) if path else None)


def inside(case: Case, inputs: Sequence[Fraction]) -> bool:
    """Whether a point lies in the exact box, or is one of the deployed domain."""
    if all(a <= x <= b for a, x, b in zip(case.lo, inputs, case.hi, strict=True)):
        return True
    ends = ((Fraction(float(nearest(a))), Fraction(float(nearest(b)))) for a, b in zip(case.lo, case.hi, strict=True))
    return all(a <= x <= b and Fraction(float(nearest(x))) == x for (a, b), x in zip(ends, inputs, strict=True))


def unsafe(case: Case, inputs: Sequence[Fraction], outputs: Sequence[tuple[Fraction, Fraction]]) -> bool:
    """Whether the unsafe condition holds for certain, given enclosures of the outputs."""

    def holds(atom: Any) -> bool:
        above = sum((c * inputs[i] for i, c in atom.input), Fraction(0))
        above += sum((c * outputs[j][1 if c > 0 else 0] for j, c in atom.output), Fraction(0))
        return above < atom.threshold if atom.strict else above <= atom.threshold

    return any(all(map(holds, conjunct)) for conjunct in case.unsafe)
