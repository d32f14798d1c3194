"""`axiom demo`: train a classifier of handwritten digits, prove what can be proved, have it checked, report it."""

import json
import os
import platform
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from fractions import Fraction
from pathlib import Path
from typing import Any

import jax
import numpy as np

from axiom_jax import nn
from axiom_jax.model import Model, Sequential
from axiom_jax.report.digits import CLASSES, SIDE, Digits, load_digits
from axiom_jax.report.folder import MARK, PAGE, PROOF, SUMMARY, claim, clear, write
from axiom_jax.report.page import Results, page, percent
from axiom_jax.report.progress import Progress
from axiom_jax.report.robustness import (
    Answer,
    Stop,
    Task,
    crown_share,
    decide_image,
    judged,
    unanswered,
    warm_up,
)
from axiom_jax.training.certified import Schedule, train_certified
from axiom_jax.verification.proof.certificate import CHECKER
from axiom_jax.verification.search.margins import Subject

DONE, REJECTED, STOPPED = 0, 1, 3
SCHEDULE = Schedule(eps=0.12, kappa=0.5)


@dataclass(frozen=True)
class Settings:
    """What the demo does; the defaults fit two CPU cores and about a minute.

    Args:
        eps: radii to decide, exact text, increasing.
        images: how many of the first test images.
        hidden: neurons of the one hidden layer. epochs: of training. seed: of weights and batches.
        schedule: of ε and κ in training; beyond the radii that are decided, since the test images are new.
        timeout: wall seconds of search for one image and radius.
    """

    eps: tuple[str, ...] = ("0.05", "0.1")
    images: int = 100
    hidden: int = 256
    epochs: int = 80
    seed: int = 0
    schedule: Schedule = SCHEDULE
    timeout: float = 1.0


def run(out: Path, settings: Settings | None = None) -> int:
    """Do everything, and write `report.html`, `summary.json` and the certificates into `out`.

    Returns:
        The exit status: 0 if every certificate was accepted, 1 if one was not, 3 after Ctrl-C.

    Raises:
        AxiomError: scikit-learn is missing, or the folder cannot be used.
    """
    settings, start, out = settings or Settings(), time.monotonic(), Path(out)
    claim(out)
    data = load_digits()
    with Progress() as progress, Stop().watching() as stop:
        try:
            model = train(data, settings, progress)
            predicted = np.asarray(model(data.x_test)).argmax(1)
        except KeyboardInterrupt:
            progress.say("interrupted in training: nothing was proved, nothing was written")
            return STOPPED
        accuracy = float(np.mean(predicted == data.y_test))
        progress.say(f"clean accuracy {percent(accuracy)} on {len(predicted)} test images")
        subject = Subject(model.apply, model.params, (jax.ShapeDtypeStruct((1, SIDE * SIDE), np.float32),), "digits")
        task = Task(subject, data, predicted, out, settings.timeout)
        clear(out)
        answers = prove(task, settings, progress, stop)
        if stop.requested:
            progress.say("interrupted: checking what was found; Ctrl-C again to leave it unchecked")
        answers = complete(check(answers, task, progress), task, settings)
        estimate = estimated(task, settings, stop)
    seconds = time.monotonic() - start
    summary = summarise(answers, accuracy, settings, seconds, stop.requested)
    results = Results(
        data, predicted, describe(model), f"trained with an interval loss up to ε = {settings.schedule.eps:g}", answers,
        estimate, summary, commands(answers), made(),
    )  # fmt: skip
    write(out / PAGE, page(results))
    write(out / SUMMARY, json.dumps(summary, indent=2) + "\n")
    show(summary, out, answers)
    return status(summary)


def train(data: Digits, settings: Settings, progress: Progress) -> Model:
    """The classifier: 64 pixels, one hidden layer, 10 outputs."""
    pixels, seed = SIDE * SIDE, settings.seed
    model = Sequential(
        nn.Dense(pixels, settings.hidden), nn.relu, nn.Dense(settings.hidden, CLASSES), seed=seed, name="digits"
    )
    progress.stage("train", settings.epochs)
    return train_certified(
        model, data.x_train, data.y_train, settings.schedule, epochs=settings.epochs, seed=seed,
        progress=lambda epoch, loss: progress.update(epoch, f"loss {loss:.3f}"),
    )  # fmt: skip


def prove(task: Task, settings: Settings, progress: Progress, stop: Stop) -> list[Answer]:
    """Decide image by image; after Ctrl-C, what was decided until then."""
    answers: list[Answer] = []
    progress.stage("prove", settings.images)
    try:
        warm_up(task)
        for image in range(settings.images):
            for eps in settings.eps:
                answer = decide_image(task, image, eps)
                if not stop.requested or answer.file:
                    answers.append(answer)
                if stop.requested:
                    return answers
            words = [a.word for a in answers]
            found = f"{words.count('claimed')} proofs, {words.count('refuted')} counterexamples"
            progress.update(image + 1, found)
    except KeyboardInterrupt:
        pass
    return answers


def check(answers: Sequence[Answer], task: Task, progress: Progress) -> list[Answer]:
    """Have every certificate judged; where float32 was too sure of itself, prove again with the checker's help."""
    files = [a.file for a in answers if a.file]
    progress.stage("check", max(len(files), 1))
    progress.update(0, "one Python without site-packages reads every certificate")
    checked = list(answers)
    try:
        checked = judged(checked, task.out)
        if short := [a for a in checked if a.word == "claimed" and a.file and a.counterexample is None]:
            for answer in short:
                (task.out / str(answer.file)).unlink()
                checked[checked.index(answer)] = decide_image(task, answer.image, answer.eps, check=True)
            checked = judged(checked, task.out)
    except KeyboardInterrupt:
        progress.say("interrupted: certificates are kept unchecked")
        return [a for a in checked if a.file is None or (task.out / a.file).is_file()]
    progress.update(max(len(files), 1), f"{sum(bool(a.statement) for a in checked)} accepted")
    return checked


def complete(answers: Sequence[Answer], task: Task, settings: Settings) -> list[Answer]:
    """An answer for every image and radius: those that were not reached are unknown."""
    known = {(a.image, a.eps): a for a in answers}
    places = [(image, eps) for image in range(settings.images) for eps in settings.eps]
    return [known.get(place) or unanswered(task, *place) for place in places]


def estimated(task: Task, settings: Settings, stop: Stop) -> list[tuple[float, float]]:
    """The dashed line of the report; left out after Ctrl-C."""
    radii = np.linspace(0.0, 1.6 * float(Fraction(settings.eps[-1])), 33)
    try:
        share = np.zeros(0) if stop.requested else crown_share(task, settings.images, radii)
    except KeyboardInterrupt:
        share = np.zeros(0)
    return [] if not share.size else list(zip(radii.tolist(), share.tolist(), strict=True))


def summarise(
    answers: Sequence[Answer], accuracy: float, settings: Settings, seconds: float, interrupted: bool
) -> dict[str, Any]:
    """What `summary.json` says; shares are of the images that were to be decided, and add to 1."""
    share = lambda eps, *words: sum(a.eps == eps and a.word in words for a in answers) / settings.images
    proofs = [a for a in answers if a.file and a.file.endswith(PROOF)]
    examples = [a for a in answers if a.file and not a.file.endswith(PROOF)]
    return {
        "made_by": MARK,
        "accuracy": accuracy,
        "certified": {eps: share(eps, "proved") for eps in settings.eps},
        "refuted": {eps: share(eps, "refuted") for eps in settings.eps},
        "open": {eps: share(eps, "claimed", "unknown") for eps in settings.eps},
        "images": settings.images,
        "certificates": len(proofs),
        "accepted": sum(a.word == "proved" for a in proofs),
        "counterexamples": len(examples),
        "counterexamples_accepted": sum(a.word == "refuted" for a in examples),
        "interrupted": interrupted,
        "seed": settings.seed,
        "seconds": round(seconds, 2),
    }


def status(summary: dict[str, Any]) -> int:
    """The exit status: interrupted, rejected or done."""
    if summary["interrupted"]:
        return STOPPED
    whole = summary["accepted"] == summary["certificates"]
    return DONE if whole and summary["counterexamples_accepted"] == summary["counterexamples"] else REJECTED


def describe(model: Model) -> str:
    """The layers in words."""
    sizes = [layer.in_features for layer in model.layers if isinstance(layer, nn.Dense)]
    return "A fully connected ReLU network " + "-".join(map(str, [*sizes, CLASSES]))


def commands(answers: Sequence[Answer]) -> list[str]:
    """How to check the certificates again, from the folder of the report."""
    first = next((a.file for a in answers if a.word == "proved" and a.file), None)
    lines = [f"python -I -S {CHECKER} robust-*{PROOF}"]
    return lines + ([f"axiom check {first}"] if first else [])


def made() -> tuple[str, ...]:
    """When, and with what."""
    moment = f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC"
    return moment, MARK, f"Python {platform.python_version()}", f"JAX {jax.__version__}", platform.machine()


def show(summary: dict[str, Any], out: Path, answers: Sequence[Answer]) -> None:
    """The results on stdout."""
    checker = os.path.relpath(CHECKER) if CHECKER.is_relative_to(Path.cwd()) else str(CHECKER)
    rows = [("clean accuracy", percent(summary["accuracy"]))]
    for eps, certified in summary["certified"].items():
        rest = f"refuted {percent(summary['refuted'][eps])}, open {percent(summary['open'][eps])}"
        rows.append((f"proved at ε = {eps}", f"{percent(certified)} of the first {summary['images']}  ({rest})"))
    examples = f"{summary['counterexamples_accepted']} of {summary['counterexamples']} counterexamples"
    rows += [
        ("accepted", f"{summary['accepted']} of {summary['certificates']} proofs, {examples}"),
        ("seconds", f"{summary['seconds']:.1f}"),
        ("report", str(out / PAGE)),
        ("summary", str(out / SUMMARY)),
        ("check again", f"python -I -S {checker} {out / f'robust-*{PROOF}'}"),
    ]
    reasons = sorted({a.reason for a in answers if a.reason})
    if reasons:
        rows.append(("left open", reasons[0] if len(reasons) == 1 else f"{len(reasons)} reasons, in the report"))
    sys.stdout.write("".join(f"{name:<20}{value}\n" for name, value in rows))
    sys.stdout.flush()
