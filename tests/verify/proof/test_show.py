"""Certificates in human form: what is shown, and that nothing in a file can harm who looks at it."""

import base64
import importlib.util
import json
import sys
import time
import xml.etree.ElementTree as ET
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

import axiom_jax as ax
from axiom_jax.report.showing import network
from axiom_jax.report.showing.drawing import BARS, MOST, bars, histogram, plane
from axiom_jax.report.showing.opening import opened
from axiom_jax.report.showing.sections import PAGE, SCREEN
from axiom_jax.report.showing.showing import Shown
from axiom_jax.report.showing.trees import boxes, shape
from axiom_jax.report.showing.words import condition, decimal, exactly, number, printable

ROOT = Path(__file__).parents[3]
sys.path.insert(0, str(ROOT / "tests" / "verify"))
from checker_builder import (  # noqa: E402
    atom,
    canonical,
    case,
    certificate,
    dense_program,
    forest,
    full_tree,
    load_checker,
    row,
    seal,
    tree,
)  # fmt: skip

HOSTILE = "</title><script>alert(1)</script> \x1b[2J\u202e \ud800 ∀ε ≤ 中 & \" '"
XHTML = "{http://www.w3.org/1999/xhtml}"


def network_of(inputs=2):
    first = np.array([[1, -1], [0.5, 2]], np.float32)[np.arange(inputs) % 2] / inputs
    return dense_program([first, np.array([[1], [1]], np.float32)], [np.zeros(2), np.zeros(1)])


def small(**changes):
    """x in [-1, 1] × [1/3, 8/3]; y = relu(…) + relu(…) is neither ≤ −1 nor, with x, beyond 20."""
    unsafe = [[atom({0: 1}, -1)], [atom({0: -1}, -20, {1: "1/3"}, True)]]
    proof = {"kind": "tree", "trees": [full_tree(2, 2, [0, 0])]}
    payload = certificate(*network_of(), [case([-1, "1/3"], [1, "8/3"], unsafe)], proof)
    return payload | {"meta": {"time": "2026-01-01", "requirements": ["R-1", "R-2"]}} | changes


def write(path, payload):
    path.write_bytes(seal(payload))
    return path


def text_of(page):
    return "".join(ET.fromstring(page).itertext())


# --- the text


def test_a_small_certificate_in_a_terminal(tmp_path, golden):
    shown = ax.show_certificate(write(tmp_path / "small.cert", small()))
    golden("show/small.txt", str(shown))


def test_what_a_checker_says_is_shown(tmp_path):
    path = write(tmp_path / "small.cert", small())
    shown = ax.show_certificate(path, check=True)
    assert shown.checked.accepted and shown.to_dict()["accepted"] is True
    assert "accepted by the checker" in str(shown) and "not checked here" not in str(shown)
    found = load_checker().check(path.read_bytes())
    assert ("margin", load_checker().show(found.margin)) in shown.sections(SCREEN)[0].rows
    wrong = small()
    wrong["property"]["cases"][0]["unsafe"][0][0]["threshold"] = "5"
    shown = ax.show_certificate(write(tmp_path / "wrong.cert", wrong), check=True)
    assert not shown.checked.accepted
    assert "rejected by the checker: 4 of 4 leaves fall short" in shown.state


def test_what_is_not_covered_is_in_the_words_of_the_checkers():
    from axiom_jax.report.showing import derived

    checker, other = ((ROOT / "verify" / name).read_text() for name in ("checker.py", "derivation_checker.py"))
    assert f'"assumed      {network.ASSUMED}"' in checker
    assert f"not covered  {{'{network.COMPILER}' if profile else '{network.ROUNDING}'}}; " in checker
    assert f'"{network.NOT_COVERED}",' in checker
    assert all("no input of any case is unsafe" in text for text in (checker, network.MEANING["holds"]))
    for words in (derived.NOT_COVERED, derived.NOT_COVERED_OF_LAYERS):
        assert f'"not covered  {network.ROUNDING}; {words}"' in other
    assert all(f'"{meaning}"' in other.replace("\n", "") for meaning in derived.MEANING.values())


def test_a_changed_digest_is_told(tmp_path):
    whole = json.loads(seal(small()))
    whole["payload"]["property"]["text"] = "something better"
    path = tmp_path / "changed.cert"
    path.write_text(canonical(whole))
    shown = ax.show_certificate(path)
    assert shown.to_dict()["intact"] is False
    assert "the digest does not match" in str(shown)
    assert not ax.show_certificate(path, check=True).checked.accepted


def test_a_counterexample_is_shown_in_decimal_and_exactly(tmp_path):
    payload = small(claim="violated", proof={"kind": "point", "case": 0, "inputs": ["1/2", "0x1.0000000000000p+0"]})
    shown = str(ax.show_certificate(write(tmp_path / "point.cert", payload)))
    assert "an input of a case is unsafe" in shown and "a counterexample: an input of case 0" in shown
    line = next(line for line in shown.splitlines() if "0x1.0000000000000p-1" in line)
    assert line.split() == ["x[0]", "0.5", "0x1.0000000000000p-1", "1/2"]


def test_trees_of_version_2_are_followed():
    """A neuron is split, one half refutes both disjuncts at once, the other one after the other."""
    made = forest([2 * 2, -1, 0, -1, -3, -5], [[row(0, {0: 1}), row(1, {0: 1})], [row(0, {0: 1})], [row(1, {0: 1})]],
                  [[0, 1]], [(5, 1, 0)])  # fmt: skip
    found = shape(made, 2)
    assert (found.leaves, found.depth, dict(found.inputs), dict(found.neurons)) == (3, 2, {0: 1}, {(5, 1): 1})
    cut = forest([2 * 2, -1, -1], [[row(0, {0: 1})]], [[0]], [(0, 1, 1)])
    ends = [Fraction(0), Fraction(-1)], [Fraction(1), Fraction(3)]
    assert sorted(boxes(cut, 2, ends, (0, 1), 9)[0]) == [(0, 1, 0, 0.5), (0, 1, 0.5, 1)]


@pytest.mark.parametrize("nodes", [[], [0], [-1, -1], [0, -1, -1, -1], [4, -1, -1], [0, -1], ["a"]])
def test_a_malformed_tree_is_told_and_not_drawn(tmp_path, nodes):
    payload = small(proof={"kind": "tree", "trees": [tree(nodes, [[0, 0]])]})
    shown = ax.show_certificate(write(tmp_path / "bad.cert", payload))
    proof = next(section for section in shown.sections() if section.title == "Proof")
    assert ("malformed", "1 cases, 1 trees, 0 of them whole") in proof.rows and not proof.drawings
    assert b"%PDF" in shown.to_pdf()[:8]


def test_unknown_kinds_of_proof_and_versions_are_shown(tmp_path):
    payload = small(proof={"kind": "oracle"}, levels=["real", "float32"])
    path = tmp_path / "new.cert"
    path.write_bytes(seal(payload, 7))
    shown = ax.show_certificate(path)
    assert "oracle: not known here" in str(shown) and "version 7" in shown.title
    assert network.ROUNDING not in str(shown)


def test_a_derivation_and_a_bundle(tmp_path):
    proof = ax.prove("∀x ∈ R. relu(x) >= 0", timeout=20).certificate
    shown = ax.show_certificate(proof, check=True)
    assert shown.checked.accepted and shown.to_dict()["format"] == "axiom-derivation"
    steps = next(section for section in shown.sections() if section.title == "Proof")
    assert any(line.lstrip().startswith("1. ") for line in steps.lines)
    double = lambda x: 2 * x
    result = ax.verify(double, [ax.Bounded(-2, 2), ax.Bounded(-1, 1)], region=ax.Box([-1.0], [1.0]))
    path = ax.save_certificate(ax.generate_certificate(double, result, requirement="SRS-12"), tmp_path / "both.cert")
    shown = ax.show_certificate(path, model=double)
    assert shown.checked.accepted and shown.to_dict()["format"] == "axiom-bundle"
    assert "SRS-12" in str(shown) and "2 parts" in shown.title
    assert sum(section.title.endswith(": Proof") for section in shown.sections()) == 2
    assert ET.fromstring(shown.to_html()) is not None and shown.to_pdf()[:4] == b"%PDF"


def test_a_lipschitz_constant(tmp_path):
    model = ax.Sequential(lambda x: x @ np.array([[1.0, 2.0], [0.0, 1.0]], np.float32))
    data = np.zeros((1, 2), np.float32)
    item = ax.verify(model, ax.GlobalLipschitz(4), data=data).items[0]
    if item.certificate is None or item.certificate.claim != "lipschitz":
        pytest.fail(f"no Lipschitz certificate: {item.verdict}, {item.reason}")
    shown = ax.show_certificate(item.certificate)
    assert "lipschitz: |f(x) - f(y)| ≤ 4·|x - y|" in str(shown) and "2×2" in str(shown)


def test_a_signed_envelope_is_unwrapped_and_nothing_of_it_believed(tmp_path):
    inside = json.loads(seal(small()))
    statement = {
        "_type": "https://in-toto.io/Statement/v1", "predicateType": "https://example.org/x",
        "subject": [{"name": "net.onnx", "digest": {"sha256": "ab"}}],
        "predicate": {"certificate": inside, "requirements": ["R-7"], "expires": "2030-01-01T00:00:00Z"},
    }  # fmt: skip
    envelope = {"payload": base64.b64encode(json.dumps(statement).encode()).decode(),
                "payloadType": "application/vnd.in-toto+json",
                "signatures": [{"keyid": "key-1", "sig": "AAAA"}, {"sig": "BBBB"}]}  # fmt: skip
    path = tmp_path / "signed.cert"
    path.write_text(json.dumps(envelope))
    shown = ax.show_certificate(path)
    assert "by the keys key-1, no id: not checked" in str(shown)
    assert {("requirements", "R-7"), ("expires", "2030-01-01T00:00:00Z")} <= set(shown.opened.envelope)
    assert shown.to_dict()["keys"] == ["key-1", "no id"] and shown.to_dict()["claim"] == "holds"
    checked = ax.show_certificate(path, check=True)
    assert checked.checked.accepted
    assert "not checked" in str(checked)
    inside["digest"] = "0" * 64  # what is judged is what is inside, not what it could be
    envelope["payload"] = base64.b64encode(json.dumps(statement).encode()).decode()
    path.write_text(json.dumps(envelope))
    assert "digest does not match" in ax.show_certificate(path, check=True).checked.reason


# --- pages


def test_the_page_is_whole_and_asks_for_nothing(tmp_path):
    shown = ax.show_certificate(write(tmp_path / "small.cert", small()))
    root = ET.fromstring(shown.to_html())
    names = {element.tag.removeprefix(XHTML) for element in root.iter()}
    assert names.isdisjoint({"script", "link", "img", "iframe", "object", "embed", "base", "form", "foreignObject"})
    attributes = {(name, value) for element in root.iter() for name, value in element.items()}
    assert not {name for name, _ in attributes} & {"src", "href", "style", "onload", "onclick", "action"}
    policy = next(value for name, value in attributes if "default-src" in value)
    assert policy.startswith("default-src 'none'; style-src 'sha256-") and "unsafe" not in policy
    assert "url(" not in shown.to_html() and "@import" not in shown.to_html()
    assert len([e for e in root.iter() if e.get("class") == "leaf"]) == 4


def test_the_page_and_the_terminal_say_the_same(tmp_path):
    shown = ax.show_certificate(write(tmp_path / "small.cert", small()))
    words = set(" ".join(str(shown).split()).replace("…", " ").split())
    missing = words - set(text_of(shown.to_html()).replace("…", " ").split())
    page = text_of(shown.to_html())
    assert all(word in page for word in missing)


def hostile():
    payload = small(claim="holds", meta={HOSTILE: HOSTILE})
    payload["property"]["text"] = HOSTILE
    payload["model"]["name"] = HOSTILE
    payload["model"]["source"] = {HOSTILE: HOSTILE}
    payload["model"]["tensors"] |= {HOSTILE: payload["model"]["tensors"]["w0"] | {"sha256": HOSTILE}}
    payload["model"]["program"]["nodes"][3]["op"] = HOSTILE
    return payload


def test_text_of_a_file_is_text_everywhere(tmp_path):
    shown = ax.show_certificate(write(tmp_path / "hostile.cert", hostile()))
    printed, page = str(shown), shown.to_html()
    assert "\x1b" not in printed and "\u202e" not in printed and "\\x1b[2J" in printed
    root = ET.fromstring(page)
    assert not [element for element in root.iter() if element.tag.endswith("script")]
    assert "<script" not in page and "alert(1)" in text_of(page)
    assert "<script" not in shown._repr_html_()
    page.encode(), printed.encode(), shown.to_pdf()
    json.dumps(shown.to_dict())


def test_markup_of_the_terminal_is_text(tmp_path):
    payload = small()
    payload["property"]["text"] = "[bold red]x[/] [link=https://example.org]y[/link] :smile:"
    shown = ax.show_certificate(write(tmp_path / "a.cert", payload))
    assert payload["property"]["text"] in " ".join(str(shown).split())


def test_the_pdf_opens_and_is_the_same_every_time(tmp_path):
    payload = small()
    payload["property"]["text"] = "∀x ∈ [0, 1]. ‖f(x)‖ ≤ ε·α₁ 中"
    path = write(tmp_path / "small.cert", payload)
    data = ax.show_certificate(path).to_pdf()
    assert data == ax.show_certificate(path).to_pdf()
    assert data.startswith(b"%PDF-") and data.rstrip().endswith(b"%%EOF")
    if importlib.util.find_spec("pypdf") is None:
        assert data.count(b"/Type /Page\n") >= 2
        return
    import io

    import pypdf

    text = "\n".join(page.extract_text() for page in pypdf.PdfReader(io.BytesIO(data)).pages)
    assert "for all x in [0, 1]. ||f(x)|| <= eps·alpha1 <U+4E2D>" in text
    assert "not checked here" in text and "rounding in a float32 execution" in text


def test_saving_goes_by_the_name(tmp_path):
    shown = ax.show_certificate(write(tmp_path / "small.cert", small()))
    assert shown.save(tmp_path / "a.pdf").read_bytes()[:5] == b"%PDF-"
    assert shown.save(tmp_path / "a.html").read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    assert shown.save(tmp_path / "a.txt", "pdf").read_bytes()[:5] == b"%PDF-"
    with pytest.raises(ax.CertificateError, match="cannot be written"):
        shown.save(tmp_path / "nowhere" / "a.html")


def test_without_its_library_a_pdf_is_a_clean_error(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "fpdf", None)
    with pytest.raises(ax.AxiomError, match="fpdf2 is not installed") as error:
        ax.show_certificate(write(tmp_path / "small.cert", small())).to_pdf()
    assert error.value.fix == "pip install 'axiom-jax[report]'"


# --- drawings


def test_a_large_tree_is_drawn_in_seconds_with_few_elements(tmp_path):
    payload = small(proof={"kind": "tree", "trees": [full_tree(14, 2, [0, 0])]})
    path = write(tmp_path / "large.cert", payload)
    start = time.monotonic()
    shown = ax.show_certificate(path)
    page, paper = shown.to_html(), shown.to_pdf()
    assert time.monotonic() - start < 20
    proof = next(section for section in shown.sections() if section.title == "Proof")
    assert ("leaves", "16,384 of 32,767 nodes") in proof.rows
    assert 500 <= page.count('class="leaf"') <= MOST and len(page) < 1_000_000 and len(paper) < 1_000_000
    assert "boxes deeper than 10 splits are drawn together" in text_of(page)


def test_boxes_of_leaves_cover_the_case():
    made = full_tree(5, 3, [0])
    ends = [Fraction(0)] * 3, [Fraction(1)] * 3
    found, cut = boxes(made, 3, ends, (0, 1), 1000)
    assert cut == -1 and sum((b - a) * (d - c) for a, b, c, d in found) == 1
    assert {b - a for a, b, _, _ in found} == {0.25}
    fewer, cut = boxes(made, 3, ends, (0, 1), 4)
    assert cut == 2 and len(fewer) == 4


def test_one_input_is_drawn_as_a_strip_and_many_as_bars(tmp_path):
    ends = [Fraction(0)], [Fraction(1)]
    drawing = plane(full_tree(2, 1, [0]), ends, (0, 0))
    assert [style for *_, style in drawing.rectangles] == ["leaf"] * 4 + ["case"]
    assert len({(y, h) for _, y, _, h, _ in drawing.rectangles}) == 1
    many = [Fraction(-k) for k in range(60)], [Fraction(k + 1) for k in range(60)]
    drawing = bars(many, list(range(60)))
    assert len(drawing.rectangles) == BARS and "20 more inputs" in drawing.note
    widths = [w for _, _, w, _, _ in drawing.rectangles]
    assert widths == sorted(widths)
    unsafe = [[atom({0: 1}, -1)]]
    payload = certificate(*network_of(3), [case([0, 0, 0, 5][:3], [1, 2, 3], unsafe)],
                          {"kind": "tree", "trees": [full_tree(4, 3, [0])]})  # fmt: skip
    section = ax.show_certificate(write(tmp_path / "three.cert", payload)).sections()[2]
    assert [drawing.title.split(",")[0] for drawing in section.drawings] == [
        "the ends of 3 inputs", "the case's box along x[0] and x[2]"]  # fmt: skip


def test_the_histogram_counts_leaves():
    found = shape(tree([0, -1, 2, -1, -1], [[0]]), 2)
    heights = [h for _, _, _, h, _ in histogram(found).rectangles]
    assert heights[0] == 0 and heights[1] * 2 == heights[2]
    deep = shape(tree([0, -1] * 200 + [-1], [[0]]), 1)
    assert deep.depth == 200 and len(histogram(deep).rectangles) <= BARS


# --- numbers and words


def test_numbers_are_read_as_certificates_write_them():
    assert number("-8/3") == Fraction(-8, 3) and number("0x1.8000000000000p+1") == 3
    for wrong in ("1e9", "0.5", " 1", "1/0", "nan", "0x1p+99999", None, 3, "9" * 3000):
        with pytest.raises((ValueError, ArithmeticError)):
            number(wrong)
    assert decimal(Fraction(-1, 4)) == "-0.25" and decimal(Fraction(10**300)) == "1e+300"
    assert exactly(Fraction(3**80, 2)).endswith("(41 characters)")


@pytest.mark.parametrize(
    "raw, said",
    [
        (atom({0: 1}, 0), "y[0] ≤ 0"), (atom({0: -2}, 1), "y[0] ≥ -1/2"), (atom({0: -2}, 1, {}, True), "y[0] > -1/2"),
        (atom({3: -1, 5: 1}, 0), "y[5] ≤ y[3]"), (atom({0: 1, 1: 1}, 0), "y[0] + y[1] ≤ 0"),
        (atom({}, 0), "0 ≤ 0"), (atom({}, 1, {2: "1/3"}, True), "x[2] < 3"), (atom({0: 0}, 1), "0·y[0] ≤ 1"),
    ],
)  # fmt: skip
def test_conditions_are_inequalities(raw, said):
    assert condition(raw) == said


def test_printable_shows_what_steers_terminals():
    assert printable("a\tb\nc") == "a b c" and printable("a\nb", lines=True) == "a\nb"
    assert printable("\x07\u200f\U000e0001") == "\\x07\\u200f\\U000e0001"
    assert printable("x" * 3000, 10) == "x" * 10 + "… (3,000 characters)"


# --- what is no certificate


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"3", b"PK\x03\x04junk", b'{"format":"axiom-certificate"}',
    b'{"payload":"!!","signatures":[]}', b'{"payload":"e30=","signatures":[]}', b"\xff\xfe", b"[" * 100_000,
])  # fmt: skip
def test_files_that_are_no_certificates_are_refused(tmp_path, content):
    path = tmp_path / "bad.cert"
    path.write_bytes(content)
    with pytest.raises(ax.CertificateError, match="not a whole certificate"):
        ax.show_certificate(path)


@pytest.mark.parametrize("change", [
    {"property": {}}, {"property": {"text": "", "cases": [{}]}}, {"model": []}, {"levels": None}, {"proof": 4},
    {"meta": None}, {"claim": []}, {"proof": {"kind": "point", "case": 9, "inputs": []}}, {"weights": {}},
    {"proof": {"kind": "point", "case": 0, "inputs": ["1/0", "1"]}},
])  # fmt: skip
def test_payloads_without_the_form_are_refused(tmp_path, change):
    with pytest.raises(ax.CertificateError, match="not a whole certificate"):
        ax.show_certificate(write(tmp_path / "bad.cert", small(**change)))


def test_every_cut_and_most_edits_end_in_an_answer_or_a_clean_error(tmp_path):
    data = seal(small())
    generator = np.random.default_rng(0)
    path, answered = tmp_path / "edited.cert", 0
    for _ in range(150):
        edited = bytearray(data)
        for place in generator.integers(0, len(data), 3):
            edited[place] = generator.integers(32, 127)
        path.write_bytes(bytes(edited))
        try:
            shown = ax.show_certificate(path)
            ET.fromstring(shown.to_html())
            answered += 1
        except ax.CertificateError:
            pass
    assert answered > 5
    for end in range(0, len(data), 97):
        path.write_bytes(data[:end])
        with pytest.raises(ax.CertificateError):
            ax.show_certificate(path)


def test_what_is_no_file_and_no_certificate_is_refused(tmp_path):
    with pytest.raises(ax.CertificateError, match="cannot be read"):
        ax.show_certificate(tmp_path / "missing.cert")
    with pytest.raises(ax.CertificateError, match="neither a certificate nor the path"):
        ax.show_certificate(3)


def test_limits_leave_out_and_count(tmp_path):
    unsafe = [[atom({0: 1}, -1 - k)] for k in range(20)]
    cases = [case([0] * 40, [1] * 20 + [0] * 20, unsafe) for _ in range(5)]
    payload = certificate(*network_of(40), cases, {"kind": "tree", "trees": [tree([-1], [[0] * 20])] * 5})
    shown = ax.show_certificate(write(tmp_path / "wide.cert", payload))
    text = str(shown)
    assert "… and 12 more alternatives" in text and "… and 8 more varying inputs" in text
    assert "… and 8 more inputs" in text and "2 more cases" in text
    assert len(shown.sections(PAGE)) == len(shown.sections(SCREEN)) + 1  # five cases; three, and a count


def test_the_certificate_of_the_checker_is_judged_as_it_is(tmp_path):
    """The page shows what the checker reads: the same file, the same numbers."""
    data = seal(small())
    found = load_checker().check(data)
    shown = Shown(opened(data, "a", "a"))
    proof = dict(next(section for section in shown.sections() if section.title == "Proof").rows)
    assert found.accepted and proof["leaves"].startswith(f"{found.leaves} of")
