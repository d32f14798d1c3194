"""Decide one property: attack, bound, branch, prove, check.

The search is untrusted. `Proved` is answered only after the checker accepted the file,
`Refuted` only after exact arithmetic judged the point.
"""

import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from axiom_jax.verification.proof.certificate import Certificate, Checked, run_checker, save_certificate
from axiom_jax.verification.proof.exact import replayed
from axiom_jax.verification.proof.float32 import PROFILE
from axiom_jax.verification.proof.thinning import thinned
from axiom_jax.verification.property import Property
from axiom_jax.verification.search.compilation import beside, compile_seconds, ended
from axiom_jax.verification.search.distributed import scaled
from axiom_jax.verification.search.judging import Court
from axiom_jax.verification.search.margins import Question, Subject, in_terms_of_certificates, pose
from axiom_jax.verification.search.portfolio import searches
from axiom_jax.verification.search.strategy import Strategy
from axiom_jax.verification.verdict import Claimed, Decision, Proved, Unknown

REPAIRS = 6  # how often leaves that a check refuses are split further
AT_FLOAT32 = 4  # how often for level float32, where a margin may be too small for rounding
FEW = 4  # leaves that the checker judges at once
GRACE = 0.5  # seconds past the deadline after which a search that still compiles is left behind
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
    profile: str = PROFILE,
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
        profile: the machines that this level is to speak of: "cpu", "cuda" or "tpu".

    Returns:
        A decision, at most two seconds late; never raises for lack of time, and after Ctrl-C answers what is known.
        What cannot be stopped, as a compilation, goes on in a thread.

    Raises:
        SpecError, UnsupportedPrimitive: the property or the model cannot be posed, or there is no such profile.
    """
    start, compiled = time.monotonic(), compile_seconds()
    deadline = start + timeout
    tell = progress or (lambda *_: None)
    tell("compile", None, 0, 0)

    def posed() -> tuple[Question, Court]:
        question = pose(subject, prop)
        return question, Court(question, meta or {}, float32, certificate_path is not None, profile)

    posing = beside(posed)
    if not ended(posing, deadline + GRACE):
        late = Unknown(f"out of time after {timeout:g} s, before the search began: all is left open", timed_out=True)
        return Decision(late, time.monotonic() - start, compile_seconds() - compiled)
    question, court = posing.result()
    with scaled(question, searches, jobs=jobs, executor=executor, journal=journal) as search:
        return _decided(court, search, start, compiled, deadline, check, check_timeout, certificate_path, tell)


@dataclass
class _Watch:
    """What is known of a search that runs in another thread, as of its latest batch.

    Args:
        search: the portfolio. tell: told of every batch. stopped: whether to stop at the next one.
    """

    search: Strategy
    tell: Progress
    stopped: bool = False

    def __post_init__(self) -> None:
        self.look()

    def __call__(self, _: Any) -> None:
        if self.stopped:
            raise KeyboardInterrupt
        self.look()
        self.tell("search", self.bound, self.boxes, self.open)

    def look(self) -> None:
        """Only while the search is between two batches: within one, what is being bounded is in no pool."""
        search = self.search
        self.bound = search.worst if np.isfinite(search.worst) else None
        self.boxes, self.open, self.leaves = search.boxes, search.open, search.leaves


def _decided(
    court: Court,
    search: Strategy,
    start: float,
    compiled: float,
    deadline: float,
    check: bool,
    check_timeout: float,
    certificate_path: str | os.PathLike[str] | None,
    tell: Progress,
) -> Decision:
    outcome, failure, watch = "time", None, _Watch(search, tell)
    court.until = deadline + GRACE
    searching = beside(lambda: search.run(deadline, court.judge, watch))
    try:
        tell("attack", None, 0, watch.open)
        if here := ended(searching, court.until):
            outcome = searching.result()
    except KeyboardInterrupt:
        failure, watch.stopped = "interrupted", True
        court.until = min(court.until, time.monotonic())
        here = ended(searching, time.monotonic() + GRACE)
    if here:
        watch.look()
    seconds = time.monotonic() - start
    spent = compile_seconds() - compiled
    decision = Decision(Unknown("", watch.bound), seconds, spent, 0.0, watch.bound, watch.boxes, watch.leaves)
    if outcome == "unsafe" and court.found is not None:
        limit = check_timeout if check else max(deadline + 2 * GRACE - time.monotonic(), 0.0)
        return court.refuted(decision, certificate_path, limit)
    if outcome == "closed" and failure is None:
        return _conclude(court, search, decision, check, check_timeout, certificate_path, deadline, tell)
    reasons = {
        "time": f"out of time after {deadline - start:g} s: {watch.open} boxes left open, {watch.boxes} bounded",
        "stuck": f"{watch.open} boxes are left that cannot be split any more: the margin is zero to rounding",
    }
    reason = f"interrupted: {watch.open} boxes left open" if failure else reasons[outcome]
    if court.judging or court.unjudged:
        reason += "; a point that looks unsafe was found, but there was no time to judge it in exact arithmetic"
    if failure is None and here and (said := getattr(search, "trusted", None)):
        return replace(decision, verdict=Claimed(None, f"{said}; a proof was not found: {reason}"))
    unknown = Unknown(reason, watch.bound, timed_out=outcome == "time" and failure is None)
    return replace(decision, verdict=unknown)


def _conclude(
    court: Court,
    search: Strategy,
    decision: Decision,
    check: bool,
    check_timeout: float,
    path: str | os.PathLike[str] | None,
    deadline: float,
    tell: Progress,
) -> Decision:
    """Write the proof of a closed search and have it checked; after Ctrl-C what is known stays."""
    written: list[Certificate] = []
    try:
        tell("check", decision.bound, search.boxes, 0)
        return _proved(court, search, decision, check, check_timeout, path, deadline, tell, written)
    except KeyboardInterrupt:
        if court.found is not None:
            return court.refuted(decision, path, 0.0)
        reason = "interrupted: the search had closed every box, but the proof was not checked to the end"
        proof, file = (written[-1], path) if written else (None, None)
        return replace(decision, verdict=Claimed(proof, reason), certificate_path=str(file) if file else None)


def _proved(
    court: Court,
    search: Strategy,
    decision: Decision,
    check: bool,
    check_timeout: float,
    path: str | os.PathLike[str] | None,
    deadline: float,
    tell: Progress,
    written: list[Certificate],
) -> Decision:
    """Write a proof, have it checked, split further what the checker refuses.

    Level float32 comes first: what is proved there is proved over the real numbers too. Leaves that fall short there
    are split a few times; then the level is given up, and the proof is taken that there was before. Every proof goes
    into `written` when its file is there.
    """
    if court.exact.missing is not None:
        return replace(decision, verdict=Claimed(None, f"the certificate cannot express it yet: {court.exact.missing}"))
    if differs := replayed(court.question.subject, court.question.property):
        return replace(decision, verdict=Claimed(None, differs))
    began, repairs = time.monotonic(), 0
    profile = court.profile if check else ""  # compiles the model, for level float32
    search, found = _expressed(court, search, began + check_timeout, tell) if check else (search, search.proof())
    first, spent = found, time.monotonic() - began
    with tempfile.TemporaryDirectory() as folder:
        while True:
            if court.found is not None:  # a point was judged exactly: bounds in floats were wrong
                return court.refuted(decision, path, check_timeout)
            if isinstance(found, str):
                return replace(decision, verdict=Claimed(None, f"the certificate cannot express it yet: {found}"))
            proof = court.certificate("holds", found, profile)
            target = save_certificate(proof, path or Path(folder, "proof.cert"))
            written.append(proof)
            decision = replace(decision, certificate_path=str(path) if path else None, leaves=search.leaves)
            if not check:
                return replace(decision, verdict=Claimed(proof, "not checked"))
            last = repairs == (REPAIRS if not profile else AT_FLOAT32)
            checked = None
            if search.leaves > FEW:
                began = time.monotonic()
                checked = _checked_fast(proof)
                if checked.reason is None:
                    proof = court.certificate("holds", _thinned(court, found, profile), profile)
                    target = save_certificate(proof, path or Path(folder, "proof.cert"))
                spent += time.monotonic() - began
            final = not profile and (last or search.open > 0)  # what the fast check refuses may still be accepted
            judged = checked is None or not checked.failed or final
            if checked is None or judged:
                checked = run_checker(target, check_timeout - spent)
                spent += checked.seconds
            decision = replace(decision, check_seconds=spent)
            if checked.accepted:
                short = court.short_of(checked.levels)
                return replace(decision, verdict=Proved(proof, checked.levels), short_of_float32=short)
            if checked.failed and not last and not search.open and _split_further(court, search, checked, deadline):
                repairs, found = repairs + 1, search.proof()
            elif court.found is not None:
                continue
            elif (profile and not checked.timed_out) or not judged:  # at last the checker decides, not the fast check
                repairs, profile, found = 0 if profile else REPAIRS, "", first if search.open else found
            else:
                return replace(decision, verdict=Claimed(proof, f"the checker did not accept: {checked.reason}"))


def _expressed(
    court: Court, search: Strategy, until: float, tell: Progress
) -> tuple[Strategy, dict[str, Any] | str]:
    """The proof of a closed search, and the search that it is of: another one where the first one bounds what
    certificates have no words for, as a softmax taken by pairs."""
    found = search.proof()
    if isinstance(found, dict) or (question := in_terms_of_certificates(court.question)) is None:
        return search, found
    again = searches(question)
    watch, court.until = _Watch(again, tell), until
    searching = beside(lambda: again.run(until, court.judge, watch))
    try:
        if ended(searching, until + GRACE) and searching.result() == "closed":
            return again, again.proof()
    except KeyboardInterrupt:
        watch.stopped, court.until = True, time.monotonic()
        raise
    return search, f"{found}, and a proof about those was not found in time"


def _checked_fast(proof: Certificate) -> Checked:
    """What the fast check says of a proof: which leaves are to be split further before the checker is asked."""
    from axiom_jax.verification import fast_check

    found = fast_check.check(proof.to_bytes())
    return Checked(False, found.reason or None, failed=tuple(found.failed))


def _thinned(court: Court, found: dict[str, Any], profile: str) -> dict[str, Any]:
    """The proof with as few bounds as the fast check is content with."""

    def failing(proof: dict[str, Any]) -> Any:
        checked = _checked_fast(court.certificate("holds", proof, profile))
        return checked.failed or ([] if checked.reason is None else None)

    return thinned(found, failing)


def _split_further(court: Court, search: Strategy, checked: Checked, deadline: float) -> bool:
    """Open the leaves that the checker refused, halve them once, and close them again."""
    search.reopen(checked.failed)
    court.until = max(deadline, time.monotonic() + 5.0)
    return search.run(court.until, court.judge) == "closed"
