"""The demo from end to end, small: real training, real proofs, the real checker; then Ctrl-C and foreign files."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from axiom_jax._errors import AxiomError
from axiom_jax.report import demo
from axiom_jax.report.digits import load_digits
from axiom_jax.report.folder import claim, clear, file_name
from axiom_jax.report.robustness import Answer, judged, run_checker_on
from axiom_jax.training.certified import Schedule
from axiom_jax.verification.proof.certificate import CHECKER, load_certificate

SMALL = demo.Settings(eps=("0.01", "0.15"), images=12, hidden=24, epochs=12, timeout=0.5, schedule=Schedule(eps=0.05))


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, int]:
    out = tmp_path_factory.mktemp("demo")
    (out / "mine.cert").write_text("a file of the user's")
    return out, demo.run(out, SMALL)


@pytest.fixture(scope="module")
def summary(ran: tuple[Path, int]) -> dict:
    return json.loads((ran[0] / "summary.json").read_text())


@pytest.mark.slow
def test_every_certificate_is_accepted(ran: tuple[Path, int], summary: dict) -> None:
    out, status = ran
    assert status == 0
    proofs = sorted(path.name for path in out.glob("robust-*.cert"))
    examples = sorted(path.name for path in out.glob("*.counterexample"))
    assert len(proofs) == summary["certificates"] == summary["accepted"] > 0
    assert len(examples) == summary["counterexamples"] == summary["counterexamples_accepted"] > 0
    command = [sys.executable, "-I", "-S", CHECKER, *proofs, *examples]
    again = subprocess.run(command, cwd=out, capture_output=True, text=True, timeout=120)
    assert again.returncode == 0
    assert re.findall("^(?:accepted|rejected.*|unreadable.*)$", again.stdout, re.M) == ["accepted"] * (
        len(proofs) + len(examples)
    )


@pytest.mark.slow
def test_summary_adds_up(ran: tuple[Path, int], summary: dict) -> None:
    assert {"accuracy", "certified", "refuted", "open", "certificates", "accepted", "seconds"} <= set(summary)
    assert 0.5 < summary["accuracy"] <= 1 and summary["seconds"] > 0 and not summary["interrupted"]
    for eps in SMALL.eps:
        parts = [summary[key][eps] for key in ("certified", "refuted", "open")]
        assert all(0 <= part <= 1 for part in parts) and sum(parts) == pytest.approx(1)
    share = [len(list(ran[0].glob(f"robust-{eps}-*.cert"))) / SMALL.images for eps in SMALL.eps]
    assert share == pytest.approx([summary["certified"][eps] for eps in SMALL.eps])
    assert share[0] > share[1]  # the small radius is easier, so the test sees proofs and more than proofs


def test_certificates_are_about_the_right_images_and_radii(ran: tuple[Path, int]) -> None:
    data = load_digits()
    for path in sorted(ran[0].glob("robust-0.15-*")):
        image = int(path.stem.rsplit("-", 1)[1])
        payload = load_certificate(path).payload
        assert payload["claim"] == ("holds" if path.suffix == ".cert" else "violated")
        box = payload["property"]["cases"][0]["exact"]
        pixel = int(np.argmax(np.abs(data.x_test[image] - 0.5) < 0.3))  # far from 0 and 1: not cut
        sixteenths = round(float(data.x_test[image][pixel]) * 16)
        assert box["lo"][pixel] == str(demo.Fraction(sixteenths, 16) - demo.Fraction("0.15"))
        assert box["hi"][pixel] == str(demo.Fraction(sixteenths, 16) + demo.Fraction("0.15"))
        assert f"the class is {data.y_test[image]}" in payload["property"]["text"]
        assert payload["meta"]["test image"] == str(image)


def test_no_misclassified_image_is_certified(ran: tuple[Path, int]) -> None:
    text = (ran[0] / "report.html").read_text()
    for row in re.findall(r'<tr class="proved">(.*)', text):
        label, predicted = re.findall("<td>([^<]*)", row)[1:3]
        assert label == predicted


def test_the_page_is_whole_and_asks_for_nothing(ran: tuple[Path, int], summary: dict) -> None:
    text = (ran[0] / "report.html").read_text(encoding="utf-8")
    assert not re.search(r"(?:src|url\(|@import|<script|<link|https?:)", text, re.I)
    links = set(re.findall('href="([^"]*)"', text))
    assert links and all((ran[0] / link).is_file() for link in links)
    assert f"{100 * summary['accuracy']:.1f}".removesuffix(".0") + " %" in text
    assert f"{summary['accepted']}/{summary['certificates']}" in text
    assert text.count("<figure class=") == SMALL.images
    assert text.count("<tr class=") == SMALL.images * len(SMALL.eps)
    for expected in ("A counterexample", "the difference", "accepted\nclaim", f"python -I -S {CHECKER} robust-*.cert",
                     "no proof</li>", "rounding of a", "Certified accuracy over ε"):  # fmt: skip
        assert expected in text, expected
    opened = re.findall(r"<(svg|figure|section|ul|table|div|p|pre|h2)\b", text)
    for tag in sorted(set(opened)):
        assert opened.count(tag) == text.count(f"</{tag}>"), tag


def test_what_is_printed_names_the_files(capsys: pytest.CaptureFixture[str], summary: dict) -> None:
    demo.show(summary, Path("some/where"), [])
    printed = capsys.readouterr().out
    assert str(Path("some/where/report.html")) in printed and str(Path("some/where/summary.json")) in printed
    assert "checker.py some/where/robust-*.cert" in printed


def test_a_rejected_certificate_is_not_counted(ran: tuple[Path, int], summary: dict, tmp_path: Path) -> None:
    good, other = sorted(ran[0].glob("robust-0.01-*.cert"))[:2]
    bad = tmp_path / good.name
    data = good.read_bytes()
    bad.write_bytes(data.replace(b'"the class is', b'"the class Is').replace(b'"claim":"holds"', b'"claim":"Holds"'))
    (tmp_path / other.name).write_bytes(other.read_bytes())
    answers = [Answer(i, 1, 1, "0.01", "claimed", file=path.name, margin=1.0) for i, path in enumerate([bad, other])]
    first, second = judged(answers, tmp_path)
    assert (first.word, second.word) == ("claimed", "proved")
    assert "rejected" in first.reason or "unreadable" in first.reason
    assert second.statement.startswith("accepted\nclaim")
    assert demo.status(summary) == 0
    assert demo.status(summary | {"accepted": summary["accepted"] - 1}) == 1
    assert demo.status(summary | {"counterexamples_accepted": 0}) == 1
    alone = judged(answers[:1], tmp_path)[0]
    assert (alone.word, alone.reason) == (first.word, first.reason)  # one file is printed without its name


def test_a_checker_that_says_nothing_accepts_nothing(tmp_path: Path) -> None:
    assert run_checker_on([], tmp_path) == {}
    answer = Answer(0, 1, 1, "0.1", "claimed", file="missing.cert")
    assert judged([answer, replace(answer, image=1, file=None, word="unknown")], tmp_path)[0].word == "claimed"


def test_only_files_of_an_earlier_demo_are_removed(ran: tuple[Path, int], tmp_path: Path) -> None:
    assert (ran[0] / "mine.cert").read_text() == "a file of the user's"
    proof = next(ran[0].glob("robust-*.cert"))
    for name in (proof.name, "report.html", "summary.json"):
        (tmp_path / name).write_bytes((ran[0] / name).read_bytes())
    (tmp_path / "kept.cert").write_text("axiom demo")
    (tmp_path / "notes.txt").write_text("mine")
    claim(tmp_path)
    clear(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["kept.cert", "notes.txt"]


@pytest.mark.parametrize(
    "name", ["report.html", "summary.json", "robust-0.1-003.cert", "robust-0.05-099.counterexample"]
)
def test_a_foreign_file_in_the_way_stops_the_demo_first(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text("mine")
    with pytest.raises(AxiomError, match="would overwrite") as error:
        demo.run(tmp_path, SMALL)
    assert error.value.at == str(tmp_path / name) and "--out" in str(error.value.fix)
    assert (tmp_path / name).read_text() == "mine"


def test_a_file_instead_of_a_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("mine")
    with pytest.raises(AxiomError, match="cannot be used"):
        demo.run(tmp_path / "out", SMALL)


def test_file_names_are_safe() -> None:
    assert file_name("8/255", 7, ".cert") == "robust-8over255-007.cert"


def test_missing_scikit_learn_is_said() -> None:
    code = (
        "import sys; sys.modules['sklearn'] = sys.modules['sklearn.datasets'] = None\n"
        "from axiom_jax.report.digits import load_digits\n"
        "from axiom_jax._errors import AxiomError\n"
        "try:\n    load_digits()\nexcept AxiomError as error:\n    print(error.fix)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert run.stdout.strip() == "pip install 'axiom-jax[demo]'", run.stderr


@pytest.mark.skipif(os.name != "posix", reason="sends SIGINT")
def test_interrupt_keeps_and_reports_what_is_done(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert threading.current_thread() is threading.main_thread()  # else nobody would hear the signal
    ended = threading.Event()

    def interrupt_after_the_first_answer() -> None:
        while not any(tmp_path.glob("robust-*")):
            if ended.wait(0.02):
                return
        os.kill(os.getpid(), signal.SIGINT)

    watcher = threading.Thread(target=interrupt_after_the_first_answer)
    handler = signal.getsignal(signal.SIGINT)
    watcher.start()
    try:
        status = demo.run(tmp_path, replace(SMALL, eps=("0.01",), images=400))
    finally:
        ended.set()
        watcher.join()
    assert status == 3 and signal.getsignal(signal.SIGINT) is handler
    summary = json.loads((tmp_path / "summary.json").read_text())
    files = list(tmp_path.glob("robust-*"))
    assert summary["interrupted"] and 0 < len(files) < 400
    assert summary["certificates"] + summary["counterexamples"] == len(files)
    assert summary["accepted"] + summary["counterexamples_accepted"] == len(files)
    assert summary["open"]["0.01"] == pytest.approx(1 - len(files) / 400, abs=0.01)
    assert "This run was interrupted" in (tmp_path / "report.html").read_text()
    printed = capsys.readouterr()
    assert "interrupted" in printed.err and "report.html" in printed.out
