"""Every image, every radius: decide, keep the certificate, and let one separate checker judge them all."""

import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path

import numpy as np

from axiom_jax.report.digits import CLASSES, SOURCE, Digits
from axiom_jax.report.folder import EXAMPLE, MARK, PROOF, file_name
from axiom_jax.verification.proof.certificate import CHECKER, save_certificate
from axiom_jax.verification.property import Property, robust
from axiom_jax.verification.search.bounding import bound
from axiom_jax.verification.search.branch_and_bound import Search
from axiom_jax.verification.search.decide import decide
from axiom_jax.verification.search.margins import Subject, pose
from axiom_jax.verification.verdict import Claimed, Counterexample, Proved, Refuted

INTERRUPTED = "interrupted before it was decided"


@dataclass(frozen=True)
class Answer:
    """What is known of one image at one radius.

    Args:
        image: its position in the test split. label: the digit. predicted: what the network says.
        eps: the radius, as text.
        word: "proved" (the checker accepted `file`), "claimed" (it did not, or was not asked), "refuted" or "unknown".
        reason: why it is neither proved nor refuted.
        margin: the worst difference of outputs that was bounded, or None.
        file: the name of the certificate in the folder, or None.
        statement: what the checker said of the file.
        counterexample: exact inputs and outputs of a refutation.
    """

    image: int
    label: int
    predicted: int
    eps: str
    word: str
    reason: str = ""
    margin: float | None = None
    file: str | None = None
    statement: str = ""
    counterexample: Counterexample | None = field(default=None, repr=False)


@dataclass(frozen=True, eq=False)
class Task:
    """What is asked, and where the answers go.

    Args:
        predicted: (images,) what the network says of the test images.
        out: the folder of the certificates.
        timeout: wall seconds of search for one image and radius.
    """

    subject: Subject
    data: Digits
    predicted: np.ndarray
    out: Path
    timeout: float


class Stop:
    """Ctrl-C as a fact that stays: `decide` answers after it instead of raising."""

    requested = False

    @contextmanager
    def watching(self) -> Iterator["Stop"]:
        """Remember SIGINT while this runs, and raise KeyboardInterrupt as always."""
        if threading.current_thread() is not threading.main_thread():
            yield self
            return
        before = signal.signal(signal.SIGINT, self._seen)
        try:
            yield self
        finally:
            signal.signal(signal.SIGINT, before)

    def _seen(self, *_: object) -> None:
        self.requested = True
        raise KeyboardInterrupt


def property_of(data: Digits, image: int, eps: str) -> Property:
    """That a test image keeps its label within `eps`, in the unit cube."""
    return robust(data.x_test[image], int(data.y_test[image]), CLASSES, eps, within=(0, 1))


def warm_up(task: Task) -> None:
    """Compile what all images share, so that no image's time is spent on it: a region of one point is soon decided."""
    image = int(np.argmax(task.predicted == task.data.y_test))
    decide(task.subject, property_of(task.data, image, "0"), timeout=120.0, check=False)


def decide_image(task: Task, image: int, eps: str, check: bool = False) -> Answer:
    """Prove or refute that one image keeps its label, and write the certificate.

    Args:
        check: ask the checker during the search, and split further what it does not accept.
    """
    meta = {"made by": MARK, "data": SOURCE, "test image": str(image)}
    prop = property_of(task.data, image, eps)
    decision = decide(task.subject, prop, timeout=task.timeout, check=check, meta=meta)
    verdict = decision.verdict
    suffix = {Claimed: PROOF, Proved: PROOF, Refuted: EXAMPLE}.get(type(verdict))
    certificate = getattr(verdict, "certificate", None)
    file = None
    if suffix and certificate is not None:
        file = save_certificate(certificate, task.out / file_name(eps, image, suffix)).name
    return replace(
        unanswered(task, image, eps),
        word="claimed" if isinstance(verdict, Proved) else decision.word,
        reason=getattr(verdict, "reason", ""),
        margin=decision.bound,
        file=file,
        counterexample=verdict.counterexample if isinstance(verdict, Refuted) else None,
    )


def unanswered(task: Task, image: int, eps: str) -> Answer:
    """The answer for what was not reached."""
    label, predicted = int(task.data.y_test[image]), int(task.predicted[image])
    return Answer(image, label, predicted, eps, "unknown", INTERRUPTED)


def judged(answers: Sequence[Answer], out: Path) -> list[Answer]:
    """The answers as one separate Python without site-packages judges their certificates.

    Returns:
        Proofs and refutations that it accepted, as "proved" and "refuted"; those that it did not, as "claimed".
    """
    said = run_checker_on([a.file for a in answers if a.file], out)

    def one(answer: Answer) -> Answer:
        if answer.file is None:
            return answer
        first, *rest = said.get(answer.file, ["the checker did not come to it"])
        if first != "accepted":
            return replace(answer, word="claimed", reason=f"the checker's answer: {first}")
        word = "refuted" if answer.counterexample else "proved"
        return replace(answer, word=word, reason="", statement="\n".join([first, *rest]))

    return [one(answer) for answer in answers]


def run_checker_on(files: Sequence[str], out: Path) -> dict[str, list[str]]:
    """What `checker.py` prints of each file of a folder: its verdict, then what was proved.

    It runs in a session of its own, so that Ctrl-C reaches only us, and we decide what is kept.
    """
    if not files:
        return {}
    command = [sys.executable, "-I", "-S", str(CHECKER), *files]
    with subprocess.Popen(
        command, cwd=out, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        encoding="utf-8", errors="replace", start_new_session=True,
    ) as process:  # fmt: skip
        try:
            output, _ = process.communicate()
        except BaseException:
            process.kill()
            raise
    lines = output.splitlines()
    if len(files) == 1:
        return {files[0]: lines} if lines else {}
    heads, said, current = {f"{file!r}:": file for file in files}, {}, []
    for line in lines:
        if line in heads:
            current = said.setdefault(heads[line], [])
        else:
            current.append(line)
    return {file: text for file, text in said.items() if text}


def crown_share(task: Task, images: int, radii: np.ndarray) -> np.ndarray:
    """(radii,) the share of the first images that one float32 CROWN pass would prove: an estimate, no proof."""
    data, held = task.data, np.zeros(len(radii))
    for image in np.flatnonzero(task.predicted[:images] == data.y_test[:images]):
        question = pose(task.subject, property_of(data, int(image), "0"))
        centre, radius = data.x_test[image].astype(np.float64), radii[:, None]
        lo, hi = np.clip(centre - radius, 0, 1), np.clip(centre + radius, 0, 1)
        width = Search(question).width
        for start in range(0, len(radii), width):
            part = slice(start, start + width)
            case = np.zeros(len(radii[part]), np.int64)
            held[part] += bound(question, case, lo[part], hi[part], width).value > 0
    return held / images


def perturbed(answer: Answer) -> np.ndarray:
    """(pixels,) the counterexample as floats, for pictures."""
    assert answer.counterexample is not None
    return np.array([float(x) for x in answer.counterexample.inputs])


def fooled(answer: Answer) -> int:
    """The class that the network gives the counterexample, in exact arithmetic; another one where the label ties."""
    assert answer.counterexample is not None
    middle = [(lo + hi) / 2 for lo, hi in answer.counterexample.outputs]
    others = [(value, -k) for k, value in enumerate(middle) if k != answer.label]
    return -max(others, default=(Fraction(0), 0))[1]
