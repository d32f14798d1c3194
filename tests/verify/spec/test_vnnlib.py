"""VNN-LIB 1.0: the property is exactly what the file describes, and every refusal says where and why."""

import gzip
import time
from collections.abc import Callable
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from axiom_jax._errors import SpecError
from axiom_jax.verification.property import Atom, Case, Property
from axiom_jax.verification.spec import parse_vnnlib, read_vnnlib

F = Fraction


def script(*asserts: str, inputs: int = 2, outputs: int = 2, box: bool = True) -> str:
    """A file with declarations, the box [−2, 2] for every input, and asserts."""
    lines = [f"(declare-const X_{i} Real)" for i in range(inputs)]
    lines += [f"(declare-const Y_{j} Real)" for j in range(outputs)]
    lines += [f"(assert (<= -2 X_{i} 2))" for i in range(inputs) if box]
    return "\n".join([*lines, *(f"(assert {formula})" for formula in asserts)]) + "\n"


def unsafe(prop: Property, x: tuple[F, ...], y: tuple[F, ...]) -> bool:
    """Whether a point is unsafe, straight from the definitions in `property.py`."""

    def holds(atom: Atom) -> bool:
        total = sum((c * x[i] for i, c in atom.input), F(0)) + sum((d * y[j] for j, d in atom.output), F(0))
        return total < atom.threshold if atom.strict else total <= atom.threshold

    return any(
        all(lo <= v <= hi for lo, v, hi in zip(case.lo, x, case.hi, strict=True))
        and any(all(map(holds, disjunct)) for disjunct in case.unsafe)
        for case in prop.cases
    )


# Normal form


def test_robustness_is_one_box_with_a_disjunct_for_every_other_class():
    prop = parse_vnnlib(script("(or (and (>= Y_0 Y_1)) (and (>= Y_2 Y_1)))", outputs=3), 2, 3)
    assert prop.cases == (
        Case(
            (F(-2), F(-2)),
            (F(2), F(2)),
            ((Atom(((0, F(-1)), (1, F(1))), F(0)),), (Atom(((1, F(1)), (2, F(-1))), F(0)),)),
        ),
    )


def test_disjuncts_with_boxes_of_their_own_become_cases():
    low, high = "(<= X_0 -1)", "(>= X_0 1)"
    prop = parse_vnnlib(script(f"(or {low} {high})", "(or (<= Y_0 Y_1) (>= Y_0 3))"))
    assert [(case.lo[0], case.hi[0], len(case.unsafe)) for case in prop.cases] == [(-2, -1, 2), (1, 2, 2)]


def test_disjuncts_that_share_a_box_share_a_case():
    prop = parse_vnnlib(script("(or (and (<= X_0 1) (<= Y_0 0)) (and (<= X_0 1) (>= Y_0 5)) (<= Y_1 0))"))
    assert [(case.hi[0], len(case.unsafe)) for case in prop.cases] == [(1, 2), (2, 1)]


def test_top_level_outputs_are_one_conjunction():
    prop = parse_vnnlib(script("(<= Y_0 0)", "(>= Y_1 0.5)", "(= Y_0 Y_1)"))
    assert len(prop.cases) == 1
    assert len(prop.cases[0].unsafe) == 1
    assert prop.cases[0].unsafe[0] == (
        Atom(((0, F(1)),), F(0)),
        Atom(((1, F(-1)),), F(-1, 2)),
        Atom(((0, F(1)), (1, F(-1))), F(0)),
        Atom(((0, F(-1)), (1, F(1))), F(0)),
    )


def test_numbers_are_exact():
    numbers = "(+ 0.1 -.5 1e-3 2.5E+2 +3. (/ 1 3) (- 2) (* 2 0.25 4) (/ 6 2 3))"
    (case,) = parse_vnnlib(script(f"(<= Y_0 {numbers})")).cases
    expected = F(1, 10) - F(1, 2) + F(1, 1000) + 250 + 3 + F(1, 3) - 2 + 2 + 1
    assert case.unsafe == ((Atom(((0, F(1)),), expected),),)


def test_linear_terms_on_both_sides():
    (case,) = parse_vnnlib(script("(>= (- (* 3 (+ Y_0 X_1)) 1 Y_1) (/ (- X_1 X_0) 2))")).cases
    assert case.unsafe == ((Atom(((0, F(-3)), (1, F(1))), F(-1), ((0, F(-1, 2)), (1, F(-5, 2)))),),)


def test_constraints_between_inputs_are_atoms_of_every_disjunct():
    (case,) = parse_vnnlib(script("(<= X_0 X_1)", "(or (<= Y_0 0) (>= Y_1 0))")).cases
    between = Atom((), F(0), ((0, F(1)), (1, F(-1))))
    assert [disjunct[0] for disjunct in case.unsafe] == [between, between]


def test_strict_bounds_close_the_box_and_stay_as_atoms():
    (case,) = parse_vnnlib(script("(< X_0 1)", "(< Y_0 Y_1)")).cases
    assert case.hi[0] == 1
    assert set(case.unsafe[0]) == {
        Atom((), F(1), ((0, F(1)),), strict=True),
        Atom(((0, F(1)), (1, F(-1))), F(0), strict=True),
    }


def test_bounds_of_every_form_tighten_the_box():
    text = script("(<= 0 (* -2 X_0))", "(>= 1 X_1)", "(= X_0 -1)", "(>= X_1 -1)", "(>= X_1 -3)", "(<= Y_0 0)")
    (case,) = parse_vnnlib(text).cases
    assert (case.lo, case.hi) == ((-1, -1), (-1, 1))


def test_an_empty_disjunct_is_dropped_and_an_input_bounded_in_each_disjunct_is_enough():
    text = script(
        "(or (and (<= 1 X_0) (<= X_0 0) (<= Y_0 0)) (and (<= 0 X_0 1) (<= Y_0 1)))", "(<= 0 X_1 1)", box=False
    )
    (case,) = parse_vnnlib(text).cases
    assert (case.lo, case.hi) == ((0, 0), (1, 1))


def test_what_other_tools_write_around_a_property_is_accepted():
    text = "; comment (\n(set-logic QF_LRA)\n" + script("(<= Y_0 ; why )\n 0)").replace("const X_0", "fun X_0 ()")
    assert "declare-fun X_0 () Real" in text
    assert parse_vnnlib(text + "(check-sat)").cases[0].unsafe == ((Atom(((0, F(1)),), F(0)),),)


def test_text_is_kept_unless_it_is_long():
    text = script("(<= Y_0 0)")
    assert parse_vnnlib(text, source="p.vnnlib").text == text
    assert parse_vnnlib(text, source="p.vnnlib").source == "p.vnnlib"
    long = parse_vnnlib(text + ";" * 20_000).text
    assert long.startswith(f"VNN-LIB 1.0 text of {len(text) + 20_000} bytes, sha256 ")
    assert len(long) < 120


# Random formulas

Point = tuple[tuple[F, ...], tuple[F, ...]]
Formula = tuple[str, Callable[[Point], Any]]
HALVES = st.integers(-4, 4).map(lambda n: F(n, 2))


def number(value: F) -> str:
    return f"{float(value)}" if value >= 0 else f"(- {float(-value)})"


def combined(word: str, parts: list[Formula]) -> Formula:
    functions = {
        "+": lambda vs: sum(vs), "-": lambda vs: vs[0] - sum(vs[1:]) if len(vs) > 1 else -vs[0],
        "and": all, "or": any, "not": lambda vs: not vs[0], "=>": lambda vs: any(not v for v in vs[:-1]) or vs[-1],
        "<=": lambda vs: all(a <= b for a, b in pairwise(vs)),
        "<": lambda vs: all(a < b for a, b in pairwise(vs)),
        ">=": lambda vs: all(a >= b for a, b in pairwise(vs)),
        ">": lambda vs: all(a > b for a, b in pairwise(vs)),
        "=": lambda vs: all(a == b for a, b in pairwise(vs)),
    }  # fmt: skip
    evaluate = functions[word]
    return f"({word} {' '.join(text for text, _ in parts)})", lambda p: evaluate([value(p) for _, value in parts])


def scaled(c: F, part: Formula) -> Formula:
    return f"(* {number(c)} {part[0]})", lambda p: c * part[1](p)


constants = HALVES.map(lambda c: (number(c), lambda p: c))
variables = st.tuples(st.sampled_from("XY"), st.integers(0, 1)).map(
    lambda v: (f"{v[0]}_{v[1]}", lambda p: p["XY".index(v[0])][v[1]])
)
leaves = st.one_of(constants, variables, st.builds(scaled, HALVES, variables))
terms = st.one_of(leaves, st.builds(combined, st.sampled_from("+-"), st.lists(leaves, min_size=1, max_size=3)))
comparisons = st.builds(combined, st.sampled_from(["<=", "<", ">=", ">", "="]), st.lists(terms, min_size=2, max_size=3))
formulas = st.recursive(
    comparisons,
    lambda inner: st.one_of(
        st.builds(combined, st.sampled_from(["and", "or"]), st.lists(inner, min_size=1, max_size=3)),
        st.builds(combined, st.just("not"), st.lists(inner, min_size=1, max_size=1)),
        st.builds(combined, st.just("=>"), st.lists(inner, min_size=2, max_size=3)),
    ),
    max_leaves=8,
)
points = st.tuples(st.tuples(HALVES, HALVES), st.tuples(HALVES, HALVES))


@given(st.lists(formulas, min_size=1, max_size=2), st.lists(points, min_size=10, max_size=10))
@settings(max_examples=80, deadline=None, derandomize=True, database=None)
def test_the_property_holds_exactly_the_points_of_the_formula(asserted: list[Formula], sampled: list[Point]):
    expected = [all(value(p) for _, value in asserted) for p in sampled]
    try:
        prop = parse_vnnlib(script(*(text for text, _ in asserted), "(<= Y_0 9)"))
    except SpecError as error:
        assert "can never hold" in error.what or "empty" in error.what
        assert not any(expected)
        return
    assert [unsafe(prop, *p) for p in sampled] == expected
    assert all(lo <= hi for case in prop.cases for lo, hi in zip(case.lo, case.hi, strict=True))


VALID = script("(or (and (<= X_0 0.5) (>= Y_0 (* 2 Y_1))) (not (< (+ X_1 Y_0) 1e-1)))")


@given(st.integers(0, len(VALID) - 1), st.text("() ;XY_01.e-<=/*+\nandor", max_size=6), st.integers(0, 12))
@settings(max_examples=200, deadline=None, derandomize=True, database=None)
def test_damaged_text_gives_a_clear_error_or_a_property(place: int, inserted: str, removed: int):
    try:
        parse_vnnlib(VALID[:place] + inserted + VALID[place + removed :], 2, 2, "p.vnnlib")
    except SpecError as error:
        assert error.at
        assert error.at.startswith("p.vnnlib")
        assert error.fix


# What is refused

WIDE = "(and " + " ".join(f"(or (<= Y_0 {i}) (<= Y_1 {i}))" for i in range(20)) + ")"
REFUSED: dict[str, str] = {
    "empty": "; nothing here\n",
    "unclosed": script("(<= Y_0 0)")[:-3],
    "closed-twice": script("(<= Y_0 0))"),
    "bare-word": "assert " + script("(<= Y_0 0)"),
    "no-word": script("((<= Y_0 0))"),
    "command": "(declare-constant X_0 Real)\n",
    "assert-two": script("(<= Y_0 0) (<= Y_1 0)"),
    "version-2": "(vnnlib-version <2.0>)\n(declare-network f (declare-input X real [2]) (declare-output Y real [2]))\n",
    "declaration": "(declare-const X_0 Int)\n",
    "name": "(declare-const Z_0 Real)\n",
    "twice": "(declare-const X_0 Real)\n(declare-const X_0 Real)\n",
    "gap": "(declare-const X_0 Real) (declare-const X_2 Real) (declare-const Y_0 Real)\n(assert (<= Y_0 0))",
    "no-inputs": "(declare-const Y_0 Real)\n(assert (<= Y_0 0))",
    "too-many-inputs": script("(<= Y_0 0)", inputs=3),
    "too-few-outputs": script("(<= Y_0 0)", outputs=1),
    "undeclared": script("(<= Y_0 Y_7)"),
    "word": script("(<= Y_0 zero)"),
    "number": script("(<= Y_0 1.2.3)"),
    "not-a-formula": script("(or Y_0 (<= Y_1 0))"),
    "unknown-formula": script("(xor (<= Y_0 0) (<= Y_1 0))"),
    "operands": script("(or)"),
    "one-term": script("(<= Y_0)"),
    "unknown-term": script("(<= Y_0 (ite 1 2 3))"),
    "product": script("(<= Y_0 (* X_0 X_1))"),
    "divisor": script("(<= Y_0 (/ 1 X_0))"),
    "zero-divisor": script("(<= Y_0 (/ 1 0))"),
    "no-output": script("(<= X_0 1)"),
    "never": script("(<= Y_0 1)", "(<= 1 0)"),
    "crossed": script("(<= Y_0 1)", "(>= X_1 3)"),
    "crossed-everywhere": script("(or (and (<= X_0 -3) (<= Y_0 0)) (and (>= X_1 3) (<= Y_0 0)))"),
    "open-point": script("(<= Y_0 0)", "(= X_0 1)", "(< X_0 1)"),
    "no-lower": script("(<= Y_0 0)", "(<= X_0 1)", "(<= 0 X_1 1)", box=False),
    "no-upper": script("(<= Y_0 0)", "(>= X_1 1)", "(<= 0 X_0 1)", box=False),
    "blow-up": script(WIDE),
    "blow-up-asserts": script(*(f"(or (<= Y_0 {i}) (<= Y_1 {i}))" for i in range(20))),
    "deep": script("(not " * 300 + "(<= Y_0 0)" + ")" * 300),
    "long-line": script(f"(or {' '.join(f'(<= Y_0 {i})' for i in range(40))} (<= Y_0 oops) (<= Y_1 {'0' * 200}))"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refusal(name: str, golden: Any):
    with pytest.raises(SpecError) as caught:
        parse_vnnlib(REFUSED[name], 2, 2, "p.vnnlib")
    assert all((caught.value.what, caught.value.at, caught.value.fix))
    golden(f"vnnlib/{name}.txt", str(caught.value))


def test_refusal_of_files(golden: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    Path("folder.vnnlib").mkdir()
    packed = gzip.compress(script("(<= Y_0 0)").encode(), mtime=0)
    Path("packed.vnnlib.gz").write_bytes(packed)
    Path("cut.vnnlib.gz").write_bytes(packed[:-20])
    Path("image.vnnlib").write_bytes(b"\x89PNG\xff")
    messages = []
    for path in ("missing.vnnlib", "folder.vnnlib", "packed.vnnlib", "cut.vnnlib.gz", "image.vnnlib"):
        with pytest.raises(SpecError) as caught:
            read_vnnlib(path, 2, 2)
        messages.append(str(caught.value))
    golden("vnnlib/files.txt", "\n".join(messages))


def test_a_few_bytes_that_stand_for_very_many_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("axiom_jax.verification.spec.vnnlib_script.PROPERTY", 1 << 20)
    (tmp_path / "bomb.vnnlib.gz").write_bytes(gzip.compress(b";" * (1 << 20) + b"\n"))
    with pytest.raises(SpecError, match=r"too large.*\n.*bomb.*\n.*more than 1,048,576 bytes"):
        read_vnnlib(tmp_path / "bomb.vnnlib.gz", 2, 2)


@pytest.mark.parametrize("suffix", [".vnnlib", ".vnnlib.gz"])
def test_files_are_read_plain_or_compressed(tmp_path: Path, suffix: str):
    text = script("(<= Y_0 0)")
    path = tmp_path / f"p{suffix}"
    path.write_bytes(gzip.compress(text.encode()) if suffix.endswith("gz") else b"\xef\xbb\xbf" + text.encode())
    prop = read_vnnlib(path, 2, 2)
    assert (prop.text, prop.source) == (text, str(path))
    assert prop.cases == parse_vnnlib(text).cases


def test_no_depth_exhausts_the_stack():
    with pytest.raises(SpecError, match="nested deeper"):
        parse_vnnlib("(" * 1_000_000)
    deep = parse_vnnlib(script("(not " * 190 + "(<= Y_0 (+ 1 2))" + ")" * 190))
    assert deep.cases[0].unsafe == ((Atom(((0, F(1)),), F(3)),),)


@pytest.mark.parametrize("number", ["1e99999", "1" * 2000, "0x10", "1_0", "inf", "nan", "1/3", "--1", ".", "e5"])
def test_numbers_that_are_none(number: str):
    with pytest.raises(SpecError, match="neither a variable nor a number"):
        parse_vnnlib(script(f"(<= Y_0 {number})"))


# Speed; the limits are loose, since machines are shared


def test_an_image_is_read_quickly():
    bounds = "\n".join(f"(assert (<= X_{i} 0.58{i}5092{i}))\n(assert (>= X_{i} 0.3937{i}466))" for i in range(3072))
    others = " ".join(f"(and (>= Y_{j} Y_9))" for j in range(9))
    text = script(f"(or {others})", inputs=3072, outputs=10, box=False) + bounds
    start = time.process_time()
    (case,) = parse_vnnlib(text, 3072, 10).cases
    assert time.process_time() - start < 1.5  # 0.1 s on a quiet core
    assert (len(case.lo), len(case.unsafe)) == (3072, 9)


def test_thousands_of_boxes_are_read_quickly():
    parts = [f"(and (>= X_0 0.{i:05}1) (<= X_0 0.{i:05}2) ({op} Y_0 0.5))" for i in range(3000) for op in ("<=", ">=")]
    start = time.process_time()
    prop = parse_vnnlib(script(f"(or {' '.join(parts)})", inputs=1, outputs=1))
    assert time.process_time() - start < 4  # 0.3 s on a quiet core
    assert [len(case.unsafe) for case in prop.cases] == [2] * 3000


# Public benchmarks


def declared(path: Path) -> tuple[int, int]:
    content = path.read_bytes()
    text = (gzip.decompress(content) if path.suffix == ".gz" else content).decode()
    return text.count("declare-const X_"), text.count("declare-const Y_")


def test_the_public_families_are_read(vnncomp: Path):
    for family in sorted(folder for folder in vnncomp.iterdir() if (folder / "vnnlib").is_dir()):
        path = min((family / "vnnlib").rglob("*.vnnlib*"), key=lambda p: p.stat().st_size)
        inputs, outputs = declared(path)
        prop = read_vnnlib(path, inputs, outputs)
        assert all(len(case.lo) == len(case.hi) == inputs and case.unsafe for case in prop.cases)


def test_acas_properties(vnncomp: Path):
    shapes = {}
    for path in sorted((vnncomp / "acasxu" / "vnnlib").iterdir()):
        cases = read_vnnlib(path, 5, 5).cases
        shapes[path.name] = [[len(disjunct) for disjunct in case.unsafe] for case in cases]
    assert shapes["prop_1.vnnlib"] == [[1]]
    assert shapes["prop_2.vnnlib"] == [[4]]
    assert shapes["prop_6.vnnlib"] == [[1, 1, 1, 1], [1, 1, 1, 1]]
    assert shapes["prop_7.vnnlib"] == [[3, 3]]


@pytest.mark.campaign
def test_every_public_property_is_read(vnncomp: Path):
    for path in sorted(vnncomp.rglob("*.vnnlib*")):
        assert read_vnnlib(path, *declared(path)).cases
