"""What a run has decided, a line a claim, so that the next run goes on where it stopped.

A line is a hint: a proof or counterexample counts once its certificate, which lies beside the journal, was read,
speaks of this very claim about this very network, and is accepted by the checker again.
"""

import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from axiom_jax._errors import AxiomError, CertificateError
from axiom_jax.verification import checker
from axiom_jax.verification.proof.certificate import (
    Certificate,
    canonical,
    load_certificate,
    run_checker,
    save_certificate,
)
from axiom_jax.verification.properties.answering import is_answer
from axiom_jax.verification.properties.base import Claim
from axiom_jax.verification.properties.ways import Outcome, Way
from axiom_jax.verification.verdict import Counterexample, Proved, Refuted

VERSION = 1
CLAIMS = {"proved": "holds", "refuted": "violated"}


@dataclass
class Journal:
    """A journal file, and its folder of certificates: `run.jsonl` and `run.jsonl.certificates`.

    Args:
        path: the file; made if it is not there.
        model: the model's digest.
        profile: finds the machines whose float32 arithmetic may be spoken of here; "" if of none.
        decided: the last whole line about each claim of this model.
    """

    path: Path
    model: str
    profile: Callable[[], str]
    decided: dict[str, dict[str, Any]] = field(default_factory=dict)

    @property
    def folder(self) -> Path:
        return self.path.with_name(self.path.name + ".certificates")

    def restore(self, claim: Claim, timeout: float) -> tuple[Outcome, Way] | None:
        """The answer of an earlier run, checked again; None if there is none that holds, or it speaks of float32
        arithmetic that this run may not speak of."""
        key = key_of(claim)
        line = self.decided.get(key) if key else None
        if line is None:
            return None
        try:
            way, path = claim.ways[line["way"]], self.folder / f"{key}.cert"
            found: Any = load_certificate(path)
            if found.claim != CLAIMS[line["verdict"]] or not is_answer(found, way):
                return None
            said = found.payload["profile"] if isinstance(found, Certificate) else ""
            if said and said != self.profile():
                return None
            checked = run_checker(path, timeout)
            if not checked.accepted:
                return None
            answer = Proved(found, checked.levels) if line["verdict"] == "proved" else _refutation(found)
            return Outcome(answer, checked.seconds, line.get("bound")), way
        except (CertificateError, AttributeError, KeyError, IndexError, TypeError, ValueError):
            return None

    def record(self, claim: Claim, outcome: Outcome, way: Way) -> None:
        """Append a claim that is proved or refuted: first its certificate, then its line."""
        key, found, answer = key_of(claim), getattr(outcome.answer, "certificate", None), outcome.answer
        if key is None or found is None or way.key() is None or not isinstance(answer, (Proved, Refuted)):
            return
        line = {
            "version": VERSION,
            "model": self.model,
            "claim": key,
            "property": claim.property,
            "text": claim.text,
            "verdict": type(outcome.answer).__name__.lower(),
            "way": claim.ways.index(way),
            "seconds": round(outcome.seconds, 4),
            "bound": outcome.bound,
        }
        try:
            self.folder.mkdir(exist_ok=True)
            save_certificate(found, self.folder / f"{key}.cert")
            with open(self.path, "a+b") as file:
                if file.tell() and (file.seek(-1, os.SEEK_END), file.read(1))[1] != b"\n":
                    file.write(b"\n")  # a half line of a run that was killed
                file.write(json.dumps(line, sort_keys=True).encode() + b"\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise _unusable(self.path, error) from error
        self.decided[key] = line


def open_journal(path: Any, model: str, profile: Callable[[], str]) -> Journal:
    """Read a journal; lines that are cut, foreign or about other models are passed over.

    Args:
        path, model, profile: as `Journal` says.

    Raises:
        AxiomError: the file cannot be read or written.
    """
    journal = Journal(Path(path), model, profile)
    try:
        with open(journal.path, "a+b") as file:
            file.seek(0)
            content = file.read()
    except OSError as error:
        raise _unusable(journal.path, error) from error
    for text in content.splitlines():
        try:
            line = json.loads(text)
            if line["version"] == VERSION and line["model"] == model and isinstance(line["claim"], str):
                journal.decided[line["claim"]] = line
        except (ValueError, KeyError, TypeError, RecursionError):
            continue
    return journal


def key_of(claim: Claim) -> str | None:
    """What tells a claim from others of its model; None if no way's answer can be kept."""
    keys = [way.key() for way in claim.ways]
    if not any(keys):
        return None
    return hashlib.sha256(canonical([claim.property, claim.text, keys])).hexdigest()


def _refutation(found: Certificate) -> Refuted:
    proof, model = found.payload["proof"], found.payload["model"]
    point = [checker.float_hex(x, "x") if "x" in x else checker.rational(x, "x") for x in proof["inputs"]]
    blob = checker.unpacked(model, found.payload["weights"])
    outputs = checker.load_network(model, blob).evaluate(point)
    return Refuted(Counterexample(tuple(point), tuple(outputs), case=proof["case"]), found)


def _unusable(path: Path, error: OSError) -> AxiomError:
    return AxiomError("The journal cannot be used.", at=str(path), got=error.strerror or str(error),
                      fix="name a file in a folder that exists and is writable")  # fmt: skip
