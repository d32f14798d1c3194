"""The fast check says what the checker says, but for roundings, and never more."""

import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import checker_builder as build
import mpmath
import numpy as np
import pytest
import test_checker_mutations as mutations
from float32_executions import Execution
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from axiom_jax.cli import main
from axiom_jax.verification import _fast_lines, _fast_numbers, _fast_sweep, _fast_tree, checker, fast_check

seeds = st.integers(0, 2**32 - 1)
examples = lambda count: settings(max_examples=count, deadline=None, derandomize=True)


def random_certificate(seed: int, smooth: bool, profile: str = "") -> dict[str, Any]:
    """A random program, box and property, and a tree with everything that trees may have."""
    rng = np.random.default_rng(seed)
    nodes, tensors = build.random_program(rng, smooth, length=int(rng.integers(2, 12)))
    middle, radius = rng.normal(size=nodes[0]["size"]), 10 ** rng.uniform(-3, 0.3, size=nodes[0]["size"])
    ends = [[Fraction(round(x * 64), 64) for x in end] for end in (middle - radius, middle + radius)]
    net = checker.load_network(build.model(nodes, tensors), build.tensor_file(tensors), profile)
    net.prepare()
    places = [(k, j) for k in (0, *net.feeding) for j in range(net.nodes[k].size)]
    some = lambda count: [places[i] for i in rng.integers(0, len(places), count)]
    values = build.evaluate_many(nodes, tensors, middle[None])
    splits = [(k, j, Fraction(round(float(values[k][0, j]) * 64 + rng.normal()), 64)) for k, j in some(4)]
    slots = sorted(set(some(8)))
    tables = [[int(x) for x in rng.integers(0, 256, int(rng.integers(0, len(slots) + 1)))] for _ in range(3)]
    lemmas = [[k, j, *(int(x) for x in rng.integers(-1, 3, 2))] for k, j in some(int(rng.integers(0, 4)))]
    leaves: list[Any] = []

    def below(depth: int, path: int) -> list[int]:
        odd = int(rng.integers(0, 2))
        if depth == 0 or rng.random() < 0.2:
            draw = lambda: rng.integers(-8, 20, path) * rng.integers(0, 2, path)
            betas = [[Fraction(int(x), 64) for x in draw()] for _ in "ab"]
            atoms = [{0: 1}, {0: 1, 1: int(rng.integers(0, 2))}]
            rows = [build.row(d, atoms[d], int(rng.integers(-1, 3)), betas[d]) for d in range(2)]
            if rng.random() < 0.5:
                leaves.append(rows)
                return [-2 * len(leaves) + odd]
            leaves.extend([rows[:1], rows[1:]])
            return [-2 * len(leaves) + 2 + odd, -2 * len(leaves) + int(rng.integers(0, 2))]
        width = nodes[0]["size"]
        which = int(rng.integers(0, width + 4)) if rng.random() < 0.7 else int(rng.integers(0, width))
        path += which >= width
        return [2 * which + odd, *below(depth - 1, path), *below(depth - 1, path)]

    tokens = below(int(rng.integers(0, 4)), 0)
    bounds = str(rng.choice(["crown", "crown", "ibp"]))
    tree = build.forest(tokens, leaves, [[0, 1]], splits, tables, slots, lemmas, bounds)
    size, pick = len(values[-1][0]), lambda: Fraction(int(rng.integers(-9, 10)), int(rng.integers(1, 9)))
    atom = lambda threshold: build.atom({int(rng.integers(0, size)): pick(), 0: pick()}, threshold, {0: pick()})
    unsafe = [[atom(0)], [atom(0), atom(Fraction(1, 3))]]
    case = build.case(*ends, unsafe)
    return build.certificate(nodes, tensors, [case], {"kind": "tree", "trees": [tree]}, profile=profile)


def both(payload: dict[str, Any]) -> tuple[Any, Any]:
    data = build.seal(payload)
    return checker.check(data), fast_check.check(data)


def scale_of(payload: dict[str, Any]) -> float:
    """How large the numbers in a program get, roughly."""
    case = payload["property"]["cases"][0]["exact"]
    ends = np.array([[float(Fraction(x)) for x in case[end]] for end in ("lo", "hi")])
    nodes, tensors = payload["model"]["program"]["nodes"], build.tensors_of(payload)
    with np.errstate(all="ignore"):
        values = build.evaluate_many(nodes, tensors, ends)
    return 1 + float(max(np.abs(v).max() for v in values))


# --- as the checker


@examples(80)
@given(seed=seeds, smooth=st.booleans(), profile=st.sampled_from(["", "", "cpu", "cuda"]))
def test_margins_and_failed_leaves_are_the_checkers(seed: int, smooth: bool, profile: str) -> None:
    payload = random_certificate(seed, smooth, profile)
    slow, fast = both(payload)
    malformed = not slow.accepted and "fall short" not in slow.reason
    assert not (malformed and fast.accepted), (slow.reason, fast.reason)
    assume(not malformed and abs(slow.margin) < 1e6)
    slack = 1e-6 * (abs(float(slow.margin)) + scale_of(payload) ** 2)
    assert fast.margin is not None and fast.leaves == slow.leaves, (slow.reason, fast.reason)
    assert abs(float(fast.margin - slow.margin)) <= slack, (seed, slow.margin, fast.margin)
    if abs(float(slow.margin)) > slack:
        assert (fast.accepted, fast.levels, fast.code) == (slow.accepted, slow.levels, slow.code)
    if min(len(slow.failed), len(fast.failed)):
        assert fast.failed == slow.failed


@pytest.mark.parametrize("name", mutations.BASES)
def test_what_the_checker_rejects_is_rejected(name: str) -> None:
    """Mutants of sound certificates; only a margin within rounding of 0 may be judged otherwise."""
    judged = {True: 0, False: 0}
    for kind, payload, _ in mutations.mutants_of(name)[::25]:
        slow, fast = both(payload)
        judged[slow.accepted] += 1
        near = slow.margin is not None and abs(slow.margin) < 1e-9 and "fall short" in slow.reason + fast.reason
        assert fast.accepted == slow.accepted or near, (kind, slow.reason, fast.reason)
        assert fast.code == slow.code or near
    assert judged[False] > 0


def test_what_is_no_certificate_is_unreadable() -> None:
    good = build.seal(mutations.BASES["dense"]())
    assert fast_check.check(good).accepted
    for bad in (b"", b"{}", good[:-1], good + b"x", good.replace(b'"version":3', b'"version":2')):
        assert (fast_check.check(bad).code, fast_check.check(bad).accepted) == (2, False)
    changed = fast_check.check(good.replace(b'"claim":"holds"', b'"claim":"hulds"'))
    assert (changed.code, changed.reason) == (1, "the digest does not match")


def test_points_are_the_checkers() -> None:
    payload = mutations.BASES["violation"]()
    slow, fast = both(payload)
    assert slow.accepted and fast.accepted and fast.lines[:-1] == slow.lines and "binary64" in fast.lines[-1]


def test_an_attained_threshold_is_left_to_the_checker() -> None:
    slow, fast = both(mutations.BASES["strict_tie"]())
    assert slow.accepted and slow.margin == 0
    assert not fast.accepted and -1e-13 < fast.margin < 0


@pytest.mark.parametrize("profile", ["", "cuda"])
def test_batches_of_any_size_say_the_same(profile: str, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = [np.random.default_rng(1).normal(size=s) for s in ((3, 9), (9, 8), (8, 1))]
    nodes, tensors = build.dense_program(weights, [np.zeros(w.shape[1]) for w in weights])
    proof = {"kind": "tree", "trees": [build.full_tree(5, 3, [0])]}

    def sealed(threshold: Any) -> bytes:
        case = build.case([-1] * 3, [1, 1, 2], [[build.atom({0: 1}, threshold)]])
        return build.seal(build.certificate(nodes, tensors, [case], proof, profile=profile))

    data = sealed(round(checker.check(sealed(0)).margin + 1))
    slow, whole, threaded = checker.check(data), fast_check.check(data), fast_check.check(data, threads=2)
    monkeypatch.setattr(_fast_tree, "BATCH", 20_000)
    monkeypatch.setattr(_fast_sweep, "CHUNK", 40)
    monkeypatch.setattr(_fast_sweep, "LARGEST", 40)
    monkeypatch.setattr(_fast_numbers, "ALONE", 2000)
    for found in (whole, threaded, fast_check.check(data), fast_check.check(data, threads=2)):
        assert found.failed == slow.failed and found.leaves == 32 and found.margin is not None
        assert abs(float(found.margin - slow.margin)) < 1e-8
    assert 0 < len(slow.failed) < 32


def test_convolutions_are_judged_as_by_the_checker() -> None:
    slow, fast = both(mutations.BASES["convolution"]())
    assert slow.accepted and fast.accepted and abs(float(slow.margin - fast.margin)) < 1e-9


def test_operations_that_have_no_rule_here_take_the_checkers(monkeypatch: pytest.MonkeyPatch) -> None:
    payload = mutations.BASES["smooth"]()
    _, known = both(payload)
    monkeypatch.setattr(_fast_lines, "KNOWN", {"sqrt", "reciprocal"})
    slow, found = both(payload)
    assert slow.accepted and found.accepted and known.accepted
    assert 0 < abs(float(found.margin - slow.margin)) + 1e-15 < 1e-9


# --- sound, whatever the checker says


def claims(payload: dict[str, Any], point: list[Fraction], outputs: list[Any]) -> list[Any]:
    """Of both disjuncts: a number at a point that is no less than the margin of a sound judgement."""
    value = lambda x: mpmath.mpf(x.numerator) / x.denominator if isinstance(x, Fraction) else x
    found = []
    for disjunct in payload["property"]["cases"][0]["unsafe"]:
        lefts = []
        for atom in disjunct:
            left = sum((value(Fraction(c) * point[i]) for i, c in atom["input"]), mpmath.mpf(0))
            left += sum((value(Fraction(d)) * value(outputs[j]) for j, d in atom["output"]), mpmath.mpf(0))
            lefts.append(left - value(Fraction(atom["threshold"])))
        found.append(max(lefts[0], sum(lefts) / len(lefts)))
    return found


def points_of(payload: dict[str, Any], rng: np.random.Generator, count: int) -> list[list[Fraction]]:
    box = payload["property"]["cases"][0]["exact"]
    lo, hi = ([Fraction(x) for x in box[end]] for end in ("lo", "hi"))
    parts = rng.choice([0.0, 1.0, 0.5, float(rng.random())], (count, len(lo)))
    return [[a + (b - a) * Fraction(float(p)) for a, b, p in zip(lo, hi, row, strict=True)] for row in parts]


@examples(60)
@given(seed=seeds, smooth=st.booleans())
def test_no_point_of_a_box_is_below_the_margin(seed: int, smooth: bool) -> None:
    """Every point lies in some leaf, whose rows bound sums of the atoms: exact evaluation never beats the bound."""
    payload = random_certificate(seed, smooth)
    found = fast_check.check(build.seal(payload))
    assume(found.margin is not None)
    nodes, tensors = payload["model"]["program"]["nodes"], build.tensors_of(payload)
    margin = mpmath.mpf(float(found.margin))
    with mpmath.workdps(60):
        for point in points_of(payload, np.random.default_rng(seed), 6):
            outputs = build.evaluate(nodes, tensors, len(nodes) - 1, point)
            assert min(claims(payload, point, outputs)) >= margin, (seed, point)


@examples(40)
@given(seed=seeds, smooth=st.booleans())
def test_no_execution_in_float32_is_below_the_margin(seed: int, smooth: bool) -> None:
    payload = random_certificate(seed, smooth, "cpu")
    found = fast_check.check(build.seal(payload))
    assume(found.margin is not None)
    nodes, tensors, rng = payload["model"]["program"]["nodes"], build.tensors_of(payload), np.random.default_rng(seed)
    ends = payload["property"]["cases"][0]["float32"]
    low, high = (np.array([float.fromhex(x) for x in ends[end]]) for end in ("lo", "hi"))
    for run in range(4):
        part = rng.choice([0, 1, rng.random()], low.shape)
        inputs = np.clip((low + (high - low) * part).astype(np.float32), low, high)
        point = [Fraction(float(x)) for x in inputs]
        execution = Execution(nodes, tensors, rng, flush=bool(run % 2), extreme=run > 1)
        outputs = execution.run(point)[len(nodes) - 1]
        assert min(claims(payload, point, outputs)) >= float(found.margin), (seed, point)


EXACT = {"exp": mpmath.exp, "tanh": mpmath.tanh, "sqrt": mpmath.sqrt, "square": lambda z: z * z,
         "reciprocal": lambda z: 1 / z, "logistic": lambda z: 1 / (1 + mpmath.exp(-z))}  # fmt: skip


@pytest.mark.parametrize("op", sorted(_fast_lines.KNOWN))
def test_ranges_and_lines_hold_and_are_close_to_the_checkers(op: str) -> None:
    rng = np.random.default_rng(3)
    lo = rng.normal(size=200) * rng.choice([0.01, 1, 6, 40], 200)
    width = rng.choice([0, 1e-12, 1e-5, 0.1, 1, 30], 200) * rng.random(200)
    lo = np.abs(lo) + 1e-3 if op in ("reciprocal", "sqrt") else lo
    hi = lo + width
    low, high = _fast_lines.enclose(op, lo, hi)
    below_slope, below_offset, above_slope, above_offset = _fast_lines.relax(op, lo, hi)
    grid = [(int(np.floor(l * 2**40)), int(np.ceil(u * 2**40))) for l, u in zip(lo, hi, strict=True)]
    lines = [[checker.line(op, l, u, side) for side in (False, True)] for l, u in grid]
    with mpmath.workdps(50):
        for i in range(200):
            loose = [mpmath.mpf(0)] * 4
            for part in (0, 0.25, 0.5, 0.9, 1):
                z = mpmath.mpf(lo[i]) + (mpmath.mpf(hi[i]) - mpmath.mpf(lo[i])) * part
                f = EXACT[op](z)
                gaps = [f - z * mpmath.mpf(below_slope[i]) - mpmath.mpf(below_offset[i]),
                        z * mpmath.mpf(above_slope[i]) + mpmath.mpf(above_offset[i]) - f]  # fmt: skip
                assert min(gaps) >= 0 and low[i] <= f <= high[i], (op, lo[i], hi[i])
                (s, t), (steep, offset) = ((mpmath.mpf(a) / 2**40, mpmath.mpf(b) / 2**80) for a, b in lines[i])
                loose = list(map(max, loose, [*gaps, f - s * z - t, steep * z + offset - f]))
            slack = 1e-6 * (1 + abs(EXACT[op](mpmath.mpf(hi[i]))) + abs(EXACT[op](mpmath.mpf(lo[i]))))
            assert abs(loose[0] - loose[2]) < slack and abs(loose[1] - loose[3]) < slack, (op, lo[i], hi[i])


@pytest.mark.parametrize("op, lo", [("sqrt", -1e-3), ("reciprocal", 0.0), ("reciprocal", -1.0)])
def test_functions_where_they_are_not_defined(op: str, lo: float) -> None:
    with pytest.raises(checker.Rejected, match=f"a {op} of what may not be positive"):
        _fast_lines.enclose(op, np.array([[lo]]), np.array([[1.0]]))


@given(number=st.integers(-(2**200), 2**200), bits=st.integers(0, 160))
def test_integers_are_rounded_to_the_nearest_float_on_their_side(number: int, bits: int) -> None:
    low, high = _fast_numbers.below([number], bits)[0], _fast_numbers.above([number], bits)[0]
    exact = Fraction(number, 1 << bits)
    assert Fraction(float(low)) <= exact <= Fraction(float(high))
    assert (low == high) == (Fraction(float(low)) == exact) and np.nextafter(low, np.inf) >= high


@given(ends=st.lists(st.integers(-(2**70), 2**70), min_size=2, max_size=2), den=st.integers(1, 2**70))
def test_constants_lie_within_their_radius(ends: list[int], den: int) -> None:
    for lo, hi in (sorted(ends), ends[:1] * 2):
        centre, radius = (Fraction(float(a[0])) for a in _fast_numbers.from_vector(([lo], [hi], den)))
        assert centre - radius <= Fraction(lo, den) and Fraction(hi, den) <= centre + radius
        assert radius <= Fraction(hi - lo, den) * (1 + Fraction(1, 2**50)) + abs(centre) / 2**50 + Fraction(1, 2**800)


@examples(60)
@given(seed=seeds, count=st.sampled_from([1, 7, 300]))
def test_sums_of_products_are_off_by_less_than_gamma(seed: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    a, b = (rng.normal(size=count) * 10.0 ** rng.integers(-9, 9, count) for _ in "ab")
    exact = sum((Fraction(x) * Fraction(y) for x, y in zip(a.tolist(), b.tolist(), strict=True)), Fraction(0))
    sizes = sum((abs(Fraction(x) * Fraction(y)) for x, y in zip(a.tolist(), b.tolist(), strict=True)), Fraction(0))
    rows, column = a[None, None, :], b[:, None]
    for found in (_fast_numbers.dot(rows, b)[0, 0], _fast_numbers.multiplied(a[None], column)[0, 0]):
        assert abs(Fraction(float(found)) - exact) <= Fraction(_fast_numbers.gamma(count)) * sizes


# --- what binary64 cannot judge


def powers(times: int) -> Any:
    nodes: list[Any] = [{"op": "input", "size": 1}, *[{"op": "square", "of": [k]} for k in range(times)]]
    case = build.case([2**20], [2**20], [[build.atom({0: 1}, 0)]])
    return both(build.certificate(nodes, {}, [case], {"kind": "tree", "trees": [build.tree([-1], [[0]])]}))


def test_numbers_that_are_too_large_are_refused() -> None:
    slow, fast = powers(3)
    assert slow.accepted and fast.accepted
    for times in (4, 6):
        slow, fast = powers(times)
        assert slow.accepted and fast.reason == "a value is too large for binary64"


@pytest.mark.parametrize("threshold, accepted", [(0, True), (Fraction(1, 10**999), False), (-1, True)])
def test_a_threshold_that_is_no_float(threshold: Any, accepted: bool) -> None:
    """0 < threshold: nothing is added to 0 there, and 1e-999 is not 0."""
    case = build.case([0], [1], [[build.atom({}, threshold, strict=True)]])
    nodes: list[Any] = [{"op": "input", "size": 1}, {"op": "neg", "of": [0]}]
    payload = build.certificate(nodes, {}, [case], {"kind": "tree", "trees": [build.tree([-1], [[0]])]})
    slow, fast = both(payload)
    assert slow.accepted == fast.accepted == accepted


def test_a_multiplier_that_is_too_large_is_refused() -> None:
    nodes, tensors = build.dense_program([np.ones((1, 1)), np.ones((1, 1))], [np.zeros(1), np.zeros(1)])
    case = build.case([-1], [1], [[build.atom({0: 1}, -9)]])
    tree = build.forest([2, -1, -1], [[build.row(0, {0: 1}, -1, [2**40])]], [[0]], [(4, 0, 0)])
    found = fast_check.check(build.seal(build.certificate(nodes, tensors, [case], {"kind": "tree", "trees": [tree]})))
    assert found.reason == "a multiplier of a split is too large for binary64"


# --- the command line


def axiom(capsys: pytest.CaptureFixture[str], *arguments: Any) -> tuple[Any, list[str]]:
    with pytest.raises(SystemExit) as stop:
        main(["check", *map(str, arguments)])
    return stop.value.code, capsys.readouterr().out.splitlines()


def test_axiom_check_fast(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    payload, path = mutations.BASES["split"](), tmp_path / "a.cert"
    path.write_bytes(build.seal(payload))
    code, lines = axiom(capsys, path, "--fast")
    assert code == 0 and lines[0] == "accepted (fast)" and lines[1].startswith("claim        holds: ")
    assert lines[-1].startswith("arithmetic   IEEE 754 binary64") and "not the judgement of record" in lines[-1]
    code, lines = axiom(capsys, path, "--fast", "--json")
    found = json.loads(lines[-1])
    assert code == 0 and (found["accepted"], found["accepted_fast"], found["levels"]) == (None, True, ["real"])

    payload["property"]["cases"][0]["unsafe"][0][0]["threshold"] = "9"
    path.write_bytes(build.seal(payload))
    code, lines = axiom(capsys, path, "--fast")
    assert code == 1 and len(lines) == 1 and lines[0].startswith("rejected: ") and "fall short" in lines[0]
    code, lines = axiom(capsys, path, "--fast", "--json")
    found = json.loads(lines[-1])
    assert code == 1 and (found["accepted"], found["accepted_fast"], found["levels"]) == (None, False, [])


def test_axiom_check_fast_with_bad_input(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "a.cert"
    path.write_bytes(b"{}")
    for name in (path, tmp_path / "nowhere"):
        code, lines = axiom(capsys, name, "--fast")
        assert code == 2 and lines[0].startswith("unreadable: ")
        code, lines = axiom(capsys, name, "--fast", "--json")
        assert code == 2 and json.loads(lines[-1])["error"]["what"] == "The certificate cannot be read."
    for option in ("--trusted", "--summary", "--key", "--verifier"):
        code, lines = axiom(capsys, path, "--fast", "--json", option, tmp_path)
        assert code == 2 and json.loads(lines[-1])["error"]["what"].startswith("--fast cannot be combined")
