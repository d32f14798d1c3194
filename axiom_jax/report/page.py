"""The report of the demo as one HTML file: no script, no request, nothing from elsewhere."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import partial
from html import escape
from typing import Any

import numpy as np

from axiom_jax.report.digits import SOURCE, Digits
from axiom_jax.report.folder import MARK, SUMMARY
from axiom_jax.report.robustness import Answer, fooled, perturbed
from axiom_jax.report.style import STYLE
from axiom_jax.report.svg import change, curve, ink, picture

LONGEST = 150  # characters shown of a line of the checker's


@dataclass(frozen=True, eq=False)
class Results:
    """Everything that the demo found.

    Args:
        data: the images. predicted: (images,) what the network says of the test images.
        model: its layers, in words. training: how it was trained, in words.
        answers: of every image at every radius, radii inside.
        estimate: radii and the share that float32 CROWN would prove, for the dashed line.
        summary: what `summary.json` says.
        commands: how to check the certificates again, one a line.
        made: time and versions, for the foot of the page.
    """

    data: Digits
    predicted: np.ndarray
    model: str
    training: str
    answers: Sequence[Answer]
    estimate: Sequence[tuple[float, float]]
    summary: dict[str, Any]
    commands: Sequence[str]
    made: Sequence[str] = field(default=())

    @property
    def eps(self) -> list[str]:
        """The radii, increasing."""
        return sorted(self.summary["certified"], key=Fraction)

    @property
    def by_image(self) -> dict[int, list[Answer]]:
        """The answers of each image, radii increasing."""
        images: dict[int, list[Answer]] = {}
        for answer in sorted(self.answers, key=lambda a: (a.image, Fraction(a.eps))):
            images.setdefault(answer.image, []).append(answer)
        return images


def page(results: Results) -> str:
    """The whole page."""
    sections = [
        _headline(results), _how_to_read(results), _curve(results), _images(results), _counterexample(results),
        _certificate(results), _table(results), _limits(results),
    ]  # fmt: skip
    foot = " · ".join(map(escape, results.made))
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta name="generator" content="{MARK}"><meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>Certified digits</title><style>{STYLE}</style></head>\n<body><main>\n"
        + "\n".join(filter(None, sections))
        + f"\n</main><footer>{foot}</footer></body></html>\n"
    )


def percent(share: float) -> str:
    """`98.3 %`; no decimals where there are none."""
    return f"{100 * share:.1f}".removesuffix(".0") + " %"


def _headline(results: Results) -> str:
    s, tested = results.summary, len(results.data.y_test)
    images = s["images"]
    cards = [(percent(s["accuracy"]), "clean accuracy", f"on all {tested} test images")]
    for eps in results.eps:
        rest = f"refuted {percent(s['refuted'][eps])}, open {percent(s['open'][eps])}"
        note = f"of the first {images} test images; {rest}"
        cards.append((percent(s["certified"][eps]), f"proved robust at ε = {escape(eps)}", note))
    cards.append((f"{s['accepted']}/{s['certificates']}", "proofs accepted by the checker",
                  f"and {s['counterexamples_accepted']} of {s['counterexamples']} counterexamples"))  # fmt: skip
    cards.append((f"{s['seconds']:.0f} s", "in all", "training, proving, checking"))
    tiles = "".join(f"<li><b>{number}</b><span>{what}</span><small>{note}</small></li>" for number, what, note in cards)
    warning = ""
    if s["interrupted"]:
        warning = "<p class=warning>This run was interrupted: what had not been decided counts as open.</p>"
    if s["accepted"] < s["certificates"] or s["counterexamples_accepted"] < s["counterexamples"]:
        warning += "<p class=warning>Some certificates were not accepted; they count as open.</p>"
    return (
        "<header><h1>A digit classifier with proofs</h1>"
        f"<p>{escape(results.model)}, {escape(results.training)}.</p></header>{warning}<ul class=cards>{tiles}</ul>"
    )


def _how_to_read(results: Results) -> str:
    return (
        "<section><h2>What was proved</h2><p>An image is <em>proved robust at ε</em> if <strong>every</strong> image "
        "that differs from it by at most ε in each pixel, and stays in [0, 1], gets the same, correct label: all of "
        "them, not a sample. Each proof is a file, and it counts because <code>checker.py</code> accepted it: one "
        "short program that uses only Python's standard library and exact integers. <em>Refuted</em> means that an "
        "image within ε with another label was found, and judged in exact arithmetic. What is neither is "
        "<em>open</em>, and counts as not robust.</p></section>"
    )


def _curve(results: Results) -> str:
    groups = results.by_image.values()
    images = results.summary["images"]
    sizes = [Fraction(e) for e in results.eps]
    share = lambda test: sum(map(test, groups)) / images
    reached = lambda size, group: any(a.word == "proved" and Fraction(a.eps) >= size for a in group)
    broken = lambda size, group: any(a.word == "refuted" and Fraction(a.eps) <= size for a in group)
    clean = float(np.mean(results.predicted[:images] == results.data.y_test[:images]))
    proved = [clean, *(share(partial(reached, size)) for size in sizes)]
    possible = [clean, *(min(clean, 1 - share(partial(broken, size))) for size in sizes)]
    picture = curve([0.0, *map(float, sizes)], proved, possible, results.estimate)
    guess = ""
    if results.estimate:
        guess = (
            '<li class="k-guess">estimate: what one float32 CROWN pass would give at other radii, without splitting '
            "and without a checker; no proof</li>"
        )
    return (
        f"<section><h2>Certified accuracy over ε</h2>{picture}<ul class=key>"
        '<li class="k-proved">proved: a proof at ε holds for every smaller radius too: the stairs are exact claims</li>'
        f'<li class="k-refuted">refuted, or misclassified to begin with ({percent(1 - clean)} of these images)</li>'
        f'<li class="k-open">between the two: not decided</li>{guess}</ul></section>'
    )


def _state(group: Sequence[Answer]) -> tuple[str, str]:
    """A style and a sentence for the strongest statement about an image."""
    proved = [a.eps for a in group if a.word == "proved"]
    if proved and proved[-1] == group[-1].eps:
        return "p-all", f"proved at ε = {proved[-1]}"
    if proved:
        return "p-some", f"proved at ε = {proved[-1]}, not beyond"
    refuted = [a.eps for a in group if a.word == "refuted"]
    if refuted and refuted[0] == group[0].eps:
        wrong = group[0].label != group[0].predicted
        return ("p-wrong", "misclassified") if wrong else ("p-none", f"refuted at ε = {refuted[0]}")
    return "p-open", "open"


def _images(results: Results) -> str:
    cells, counts = [], {}
    for image, group in results.by_image.items():
        style, words = _state(group)
        counts.setdefault((style, words), []).append(image)
        label, predicted = group[0].label, group[0].predicted
        caption = str(label) if label == predicted else f"{label}→{predicted}"
        title = f"test image {image}, a {label} classified as {predicted}: "
        title += "; ".join(f"ε {a.eps}: {_verdict(a)}" for a in group)
        drawn = picture(results.data.x_test[image], ink, title)
        frame = f'class="{style}" title="{escape(title)}"'
        cells.append(f"<figure {frame}>{drawn}<figcaption>{caption}</figcaption></figure>")
    order = ["p-all", "p-some", "p-none", "p-wrong", "p-open"]
    key = "".join(
        f'<li class="{style}">{escape(words)}: {len(which)}</li>'
        for (style, words), which in sorted(counts.items(), key=lambda item: (order.index(item[0][0]), item[0][1]))
    )
    shown = f"The first {len(cells)} test images" if cells else "No image was decided"
    grid = f"<div class=digits>{''.join(cells)}</div>"
    return f'<section><h2>{shown}</h2><ul class="key borders">{key}</ul>{grid}</section>'


def _verdict(answer: Answer) -> str:
    margin = f", margin {answer.margin:.3g}" if answer.word == "proved" and answer.margin is not None else ""
    return answer.word + margin + (f" ({answer.reason})" if answer.reason else "")


def _counterexample(results: Results) -> str:
    found = [a for a in results.answers if a.word == "refuted" and a.counterexample and a.label == a.predicted]
    if not found:
        return ""
    answer = min(found, key=lambda a: (Fraction(a.eps), a.image))
    before, after = results.data.x_test[answer.image].astype(float), perturbed(answer)
    other, moved = fooled(answer), after - before
    most = float(np.abs(moved).max())
    parts = [
        (picture(before, ink, "the image"), f"test image {answer.image}: classified as {answer.label}"),
        (picture(after, ink, "the changed image"), f"changed by at most {answer.eps}: classified as {other}"),
        (picture(moved, lambda v: change(v, most), "the difference"), "the difference: red is more ink, blue less"),
    ]
    figures = "".join(f"<figure>{drawn}<figcaption>{escape(text)}</figcaption></figure>" for drawn, text in parts)
    outputs = [float((lo + hi) / 2) for lo, hi in answer.counterexample.outputs] if answer.counterexample else []
    file = escape(answer.file or "")
    return (
        f"<section><h2>A counterexample</h2><div class=triple>{figures}</div><p>In exact arithmetic the network's "
        f"output for {answer.label} is {outputs[answer.label]:.4g} and for {other} it is {outputs[other]:.4g}: not "
        f'robust at ε = {escape(answer.eps)}. The point is in <a href="{file}">{file}</a>, which the checker evaluates '
        "again.</p></section>"
    )


def _certificate(results: Results) -> str:
    proved = [a for a in results.answers if a.word == "proved" and a.file]
    commands = escape("\n".join(results.commands))
    again = f"<h3>Check them yourself</h3><p>From the folder of this report:</p><pre>{commands}</pre>"
    if not proved:
        return f"<section><h2>No proof was accepted</h2>{again}</section>" if results.answers else ""
    answer = max(proved, key=lambda a: (Fraction(a.eps), -a.image))
    said = "\n".join(line if len(line) <= LONGEST else line[:LONGEST] + " …" for line in answer.statement.splitlines())
    file = escape(answer.file or "")
    return (
        f'<section><h2>A certificate</h2><p>The checker read <a href="{file}">{file}</a>, which holds the network, the '
        f"property and the proof, and said:</p><pre>{escape(said)}</pre>{again}</section>"
    )


def _table(results: Results) -> str:
    undecided = sum(a.word not in ("proved", "refuted") for a in results.answers)
    rows = []
    for answer in results.answers:
        link = f'<a href="{escape(answer.file)}">{escape(answer.file)}</a>' if answer.file else ""
        margin = f"{answer.margin:.4g}" if answer.margin is not None and answer.word == "proved" else ""
        cells = [answer.image, answer.label, answer.predicted, answer.eps, answer.word, margin, answer.reason]
        rows.append(f'<tr class="{answer.word}"><td>' + "<td>".join(escape(str(c)) for c in cells) + f"<td>{link}")
    head = "<tr><th>image<th>label<th>predicted<th>ε<th>verdict<th>margin<th>why not<th>certificate"
    table = f"<table><thead>{head}</thead><tbody>{''.join(rows)}</tbody></table>"
    return (
        f"<section><details><summary>All {len(rows)} answers, {undecided} of them open</summary>"
        f"<div class=scroll>{table}</div></details></section>"
    )


def _limits(results: Results) -> str:
    images = results.summary["images"]
    return (
        "<section><h2>What this does not say</h2><ul class=plain><li>The proofs are about the network over the real "
        "numbers (level <em>real</em>), with its float32 weights taken exactly. They do not cover the rounding of a "
        f"float32 execution.</li><li>They cover the first {images} test images and these radii, measured in the "
        "largest change of a pixel; not rotations, not other images.</li><li>Accuracy is measured, not proved: data "
        f"<code>{escape(SOURCE)}</code>. The numbers of this page are in <code>{SUMMARY}</code>.</li></ul></section>"
    )
