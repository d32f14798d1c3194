"""Judging candidate points in exact arithmetic, and writing certificates, of one and the same network.

What an attack or a search proposes counts for nothing until it is judged here.
"""

import os
import platform
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from fractions import Fraction
from functools import cached_property
from math import inf
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
from axiom_jax.verification.proof.compiled import compilation, hindrance
from axiom_jax.verification.proof.exact import exactly, replayed
from axiom_jax.verification.proof.float32 import PROFILE, require_profile
from axiom_jax.verification.proof.lowered import stablehlo
from axiom_jax.verification.property import Case
from axiom_jax.verification.search.margins import Question, nearest
from axiom_jax.verification.verdict import Counterexample, Decision, Refuted, Unknown

QUICK = 1.0  # seconds of judging a point: what takes longer is checked in a process that can be stopped


class Court:
    """Judges candidate points exactly and writes certificates; both speak of the same network.

    Args:
        float32: whether the level is tried; `profile` is then the machines it speaks of, "" if it can speak of none.
        kept: whether certificates go into a file of the user's.
        machines: the profile that is asked for.

    `until` is when judging has to end, on `time.monotonic`; `judging` says whether a point is being judged, `unjudged`
    whether there was no time for one, and `took` how many seconds the slowest one took.
    """

    def __init__(
        self, question: Question, meta: dict[str, str], float32: bool = False, kept: bool = False,
        machines: str = PROFILE,
    ):  # fmt: skip
        require_profile(machines, "profile")
        self.question, self.exact, self.kept = question, exactly(question.subject), kept
        self.found: tuple[int, list[Fraction], list[tuple[Fraction, Fraction]]] | None = None
        self.float32, self.machines = float32, machines
        self.until, self.judging, self.unjudged, self.took = inf, False, False, 0.0
        self.meta = {
            "time": datetime.now(UTC).isoformat(timespec="seconds"),
            "environment": f"python {platform.python_version()}, jax {jax.__version__}, {platform.machine()}",
        } | meta

    @cached_property
    def hindrance(self) -> str | None:  # looked for when there is a proof, not before a search
        return hindrance(self.question.subject, self.machines)

    @property
    def profile(self) -> str:
        return self.machines if self.float32 and self.hindrance is None else ""

    def short_of(self, levels: Sequence[str]) -> str | None:
        """Why a proof did not reach level float32; None if it did, or was not to."""
        if not self.float32 or "float32" in levels:
            return None
        return self.hindrance or "a margin is too small for rounding, or a value may be too large"

    def certificate(self, claim: str, proof: dict[str, Any], profile: str = "") -> Certificate:
        model, asked = self.exact.model, describe_property(self.question.property)
        if self.kept:  # lowering takes some hundredths of a second
            model = {**model, "source": {**model["source"], **stablehlo(self.question.subject)}}
        meta = self.meta
        if profile and (found := compilation(self.question.subject, profile=profile)).kept:
            meta = meta | {"compilation": found.told}
            model = {**model, "source": {**model["source"], found.kind: found.digest}}
        return certificate(model, self.exact.blob, asked, claim, proof, meta, profile)

    def judge(self, case: int, point: Sequence[Any] | np.ndarray) -> bool:
        """Whether a point is unsafe for the exact network: float32 numbers of the deployed domain, or rational numbers
        of the exact box. A point that there is no time for counts as safe, and is noted."""
        if self.exact.missing is not None:
            return False
        inputs = [x if isinstance(x, Fraction) else Fraction(float(x)) for x in point]
        if not inside(self.question.property.cases[case], inputs):
            return False
        start, self.judging = time.monotonic(), True
        try:
            outputs = self.exact.outputs(inputs, self.until)
        except checker.Rejected:  # the network is not defined there: no number breaks anything
            return False
        finally:
            self.judging, self.took = False, max(self.took, time.monotonic() - start)
        if outputs is None:
            self.unjudged = True
            return False
        if not unsafe(self.question.property.cases[case], inputs, outputs):
            return False
        self.found = case, inputs, outputs
        return True

    def refuted(self, decision: Decision, path: str | os.PathLike[str] | None, limit: float) -> Decision:
        """The counterexample, with a certificate that the checker judges too where seconds of the limit suffice."""
        assert self.found is not None
        case, inputs, outputs = self.found
        if differs := replayed(self.question.subject, self.question.property):
            return replace(decision, verdict=Unknown(f"a counterexample was found, but {differs}"))
        proof = self.certificate("violated", point_proof(case, inputs))
        checked = self._checked(proof, limit)
        if not (checked.accepted or checked.timed_out):
            return replace(decision, verdict=Unknown(f"a counterexample was not accepted: {checked.reason}"))
        if path:
            save_certificate(proof, path)
        found = Counterexample(tuple(inputs), tuple(outputs), "real-cex", case)
        verdict = Refuted(found, proof, ("real",) if checked.accepted else ())
        decision = replace(decision, check_seconds=checked.seconds, certificate_path=str(path) if path else None)
        return replace(decision, verdict=verdict)

    def _checked(self, proof: Certificate, limit: float) -> Checked:
        """The checker evaluates the network once more, which takes about as long as judging the point did."""
        if self.took > limit:
            return Checked(False, timed_out=True)
        if self.took > QUICK:
            with tempfile.TemporaryDirectory() as folder:
                return run_checker(save_certificate(proof, Path(folder, "proof.cert")), limit)
        start, result = time.monotonic(), checker.check(proof.to_bytes())
        seconds = time.monotonic() - start
        return Checked(result.accepted, result.reason, tuple(result.levels), seconds=seconds)


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
