"""The checker: its arithmetic, its bounds against sampled points, its refusals, and that it needs nothing."""

import ast
import base64
import itertools
import json
import subprocess
import sys
import zlib
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import checker_builder as build
import mpmath
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

checker = build.load_checker()
seeds = st.integers(0, 2**32 - 1)
examples = lambda count: settings(max_examples=count, deadline=None, derandomize=True)
finite = st.floats(allow_nan=False, allow_infinity=False)
rationals = (
    st.fractions() | finite.map(Fraction) | st.floats(width=32, allow_nan=False, allow_infinity=False).map(Fraction)
)


@pytest.fixture(scope="module", autouse=True)
def many_digits() -> Iterator[None]:
    with mpmath.workdps(60):
        yield


def fractions_of(values: Any) -> list[Fraction]:
    return [Fraction(float(x)) for x in np.ravel(values)]


def network(nodes: list[Any], tensors: dict[str, np.ndarray], output: int | None = None) -> Any:
    net = checker.load_network(build.model(nodes, tensors, output), build.tensor_file(tensors))
    net.prepare()
    return net


def grid_box(lo: list[Fraction], hi: list[Fraction]) -> tuple[list[int], list[int]]:
    return [(x.numerator << 80) // x.denominator for x in lo], [-((-x.numerator << 80) // x.denominator) for x in hi]


def verdict(payload: dict[str, Any]) -> Any:
    return checker.check(build.seal(payload))


# --- numbers


@examples(100)
@given(rationals)
def test_rn32_is_nearest_with_ties_to_even(x: Fraction) -> None:
    limit = Fraction(2) ** 128 - Fraction(2) ** 103
    if abs(x) >= limit:
        with pytest.raises(checker.Rejected):
            checker.round_to_float32(x)
    else:
        assert checker.round_to_float32(x) == Fraction(float(build.nearest_float32(x)))


@examples(100)
@given(st.integers(0, 2**31 - 2**23 - 2), st.sampled_from([Fraction(1, 2), Fraction(1, 3), Fraction(999, 1998)]))
def test_rn32_between_neighbours(bits: int, part: Fraction) -> None:
    low, high = (Fraction(float(np.uint32(b).view(np.float32))) for b in (bits, bits + 1))
    even = low if bits % 2 == 0 else high
    assert checker.round_to_float32(low) == low
    assert checker.round_to_float32(low + (high - low) * part) == (even if part == Fraction(1, 2) else low)


def test_rn32_agrees_with_numpy_on_doubles() -> None:
    rng = np.random.default_rng(0)
    doubles = np.ldexp(rng.uniform(-1, 1, 500), rng.integers(-160, 128, 500))
    for x in [*doubles, 2.0**-150, 3 * 2.0**-150, -(2.0**-151), 0.0, 2.0**128 - 2.0**104]:
        assert checker.round_to_float32(Fraction(float(x))) == Fraction(float(np.float32(x)))


@examples(100)
@given(st.floats(width=32, allow_nan=False, allow_infinity=False))
def test_float_hex_reads_what_python_writes(x: float) -> None:
    assert checker.float_hex(x.hex(), "x") == Fraction(x)


@pytest.mark.parametrize(
    "text",
    ["0x1p+0", "0x1.8p+0", "0X1.8000000000000p+0", "0x1.8000000000000p0", "0x1.8000000000000p+00", "1.0", "", "nan",
     "0x0.0p+1", "0x1.8000000000000p-0", "0x1.8000000000000p+0\n", "0x1.800000000000Ap+0", " 0x0.0p+0", "inf", None, 1,
     True, [], "-0x1.8000000000000p+1024", "-inf", "0x1.٠000000000000p+0"],
)  # fmt: skip
def test_float_hex_refuses_other_forms(text: Any) -> None:
    with pytest.raises(checker.Rejected):
        checker.float_hex(text, "x")


@examples(100)
@given(st.fractions())
def test_rational_reads_lowest_terms(x: Fraction) -> None:
    assert checker.rational(str(x), "x") == x


@pytest.mark.parametrize(
    "text",
    ["1/1", "2/4", "-0", "0/3", "01", "1/02", "+1", "1/-2", "1.5", "", "1/0", "1 ", " 1", "1_0", "1/2/3", "٣", "1\n", 1,
     True, None, "9" * 2001, "-", "/2", "-1/"],
)  # fmt: skip
def test_rational_refuses_other_forms(text: Any) -> None:
    with pytest.raises(checker.Rejected):
        checker.rational(text, "x")


@examples(100)
@given(st.lists(st.integers(0, 2**32 - 1).filter(lambda b: b >> 23 & 255 != 255), min_size=1, max_size=6))
def test_float32_bytes_are_decoded_exactly(words: list[int]) -> None:
    array = np.array(words, np.uint32).view(np.float32)
    lo, hi, den = checker.decode_float32(array.tobytes(), "t")
    assert lo == hi and [Fraction(x, den) for x in lo] == fractions_of(array)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_weights_that_are_no_numbers_are_rejected(bad: float) -> None:
    with pytest.raises(checker.Rejected, match="NaN"):
        checker.decode_float32(np.array([1, bad], np.float32).tobytes(), "t")


# --- smooth functions

TRUE = {"exp": mpmath.exp, "tanh": mpmath.tanh, "logistic": lambda z: 1 / (1 + mpmath.exp(-z)),
        "square": lambda z: z * z, "reciprocal": lambda z: 1 / z, "sqrt": mpmath.sqrt, "log": mpmath.log,
        "erf": mpmath.erf, "sin": mpmath.sin, "cos": mpmath.cos, "atan": mpmath.atan}  # fmt: skip


def test_every_function_is_tested() -> None:
    assert set(TRUE) == set(checker.FUNCTIONS)


def test_constants_are_what_they_say() -> None:
    with mpmath.workdps(120):
        assert int(mpmath.floor(mpmath.ln(2) * 2**256)) == checker.LN2
        assert int(mpmath.floor(mpmath.pi * 2**256)) == checker.PI


@examples(60)
@given(
    st.sampled_from(sorted(TRUE)),
    st.floats(-60, 60) | st.floats(-1e-6, 1e-6) | st.floats(-900, 700),
    st.sampled_from([80, 192]),
)
def test_enclosures_contain_the_function_and_are_thin(op: str, z: float, bits: int) -> None:
    x = int(Fraction(z) * 2**bits)
    if op in ("sqrt", "reciprocal", "log"):
        x = abs(x) + (op != "sqrt")
    low, high = checker.FUNCTIONS[op](x, bits)
    with mpmath.workdps(400):
        true = TRUE[op](mpmath.mpf(x) / 2**bits) * mpmath.mpf(2) ** bits
        assert low <= true <= high
        thin = 4000 if op != "erf" or abs(z) < 6 else 2 ** (bits - 50)
        assert high - low <= thin * max(1, abs(true) * mpmath.mpf(2) ** -bits)


@examples(60)
@given(st.sampled_from(sorted(TRUE)), st.floats(-8, 8), st.floats(0, 6) | st.floats(0, 1e-9), st.booleans())
def test_lines_are_below_and_above(op: str, start: float, width: float, above: bool) -> None:
    start = abs(start) + (op != "sqrt") / 16 if op in ("reciprocal", "sqrt", "log") else start
    l, u = int(start * 2**40), int((start + width) * 2**40)
    s, t = checker.line(op, l, u, above)
    gaps = []
    with mpmath.workdps(50):
        touching = {0} & set(range(max(l, -1), min(u, 1) + 1)) | {(l + u) >> 1}
        for z in {l + (u - l) * i // 40 for i in range(41)} | touching:
            value = TRUE[op](mpmath.mpf(z) / 2**40) * mpmath.mpf(2) ** 80
            gaps.append((s * z + t - value) * (1 if above else -1))
        assert min(gaps) >= 0
        # it touches the function, or nearly (sampling and the rough search for the tangent point)
        most = max(1, *(abs(TRUE[op](mpmath.mpf(z) / 2**40)) for z in (l, u)))
        assert min(gaps) <= mpmath.mpf(2) ** 80 * most * (1e-6 + width**2 * 1e-3)


STEEP_AS = {"exp": lambda c: mpmath.log(c), "log": lambda c: 1 / c, "sqrt": lambda c: 1 / (4 * c * c),
            "reciprocal": lambda c: 1 / mpmath.sqrt(-c)}  # fmt: skip


@pytest.mark.parametrize("op", sorted(TRUE))
@examples(25)
@given(start=st.floats(-8, 8), width=st.integers(-30, 6), above=st.booleans(), seed=seeds)
def test_lines_hold_where_they_are_nearest(op: str, start: float, width: int, above: bool, seed: int) -> None:
    """In the middle between points of a grid, and where f is as steep as the line."""
    start = abs(start) + (op != "sqrt") / 1024 if op in ("reciprocal", "sqrt", "log") else start
    l = int(start * 2**40)
    u = l + max(int(2.0**width * 2**40), 1)
    s, t = checker.line(op, l, u, above)
    count = min(16 + ((u - l) >> 37), 512) | 1
    rng = np.random.default_rng(seed)
    with mpmath.workdps(60):
        at = lambda z: min(max(mpmath.mpf(z), mpmath.mpf(l)), mpmath.mpf(u))
        gap = lambda z: (s * z + t - TRUE[op](z / 2**40) * mpmath.mpf(2) ** 80) * (1 if above else -1)
        points = [at(l + mpmath.mpf(u - l) * (2 * k + 1) / (2 * count)) for k in range(count)] + [at(l), at(u)]
        if op in STEEP_AS and (s < 0 if op == "reciprocal" else s > 0):
            points.append(at(STEEP_AS[op](mpmath.mpf(s) / 2**40) * 2**40))
        nearest = min(points, key=gap)
        for scale in (1, 0.1, 0.01):  # downhill from there
            steps = rng.normal(size=8) * float(u - l) / count * scale
            nearest = min(nearest, *(at(nearest + float(d)) for d in steps), key=gap)
        assert gap(nearest) >= 0


@pytest.mark.parametrize("op", ["sin", "cos"])
@pytest.mark.parametrize("bits", [80, 192])
@examples(30)
@given(start=st.floats(-20, 20), width=st.integers(-60, 4), seed=seeds)
def test_extents_of_waves(op: str, bits: int, start: float, width: int, seed: int) -> None:
    l = int(Fraction(start) * 2**bits)
    u = l + int(Fraction(2) ** width * 2**bits)
    low, high = checker.extent(op, l, u, bits)
    rng = np.random.default_rng(seed)
    with mpmath.workdps(90):
        peaks = [int(mpmath.pi / 2 * k * mpmath.mpf(2) ** bits) for k in range(-16, 26)]
        inside = [z for z in peaks if l <= z <= u] + [l + int(x * 2**53) * (u - l) // 2**53 for x in rng.random(6)]
        values = [TRUE[op](mpmath.mpf(z) / mpmath.mpf(2) ** bits) * mpmath.mpf(2) ** bits for z in (l, u, *inside)]
        assert low <= min(values) and max(values) <= high
        assert high - low <= max(values) - min(values) + mpmath.mpf(2) ** bits * (mpmath.mpf(2) ** width + 1e-11)


def test_what_has_no_logarithm_is_refused() -> None:
    nodes = [{"op": "input", "size": 1}, {"op": "relu", "of": [0]}, {"op": "log", "of": [1]}]
    with pytest.raises(checker.Rejected, match="a log of what may not be positive"):
        network(nodes, {}).evaluate([Fraction(-1)])


@pytest.mark.parametrize("bits", [80, 192])
def test_logistic_far_out(bits: int) -> None:
    """Where exp(-x) is clamped, and around."""
    for z in [*range(-1100, 1100, 61), -1000, -1001, -999, -90, -41, -39]:
        low, high = checker.logistic_bounds(z << bits, bits)
        with mpmath.workdps(900):
            assert low <= mpmath.mpf(2) ** bits / (1 + mpmath.exp(-z)) <= high <= low + 64


def test_lines_are_as_tight_as_those_of_crown() -> None:
    """tanh on [-1, 2]: the lower line passes (2, tanh 2) and touches left of 0, the upper one the other way round."""
    one = 1 << 40
    s, t = checker.line("tanh", -one, 2 * one, False)
    slope = s / 2**40
    assert abs(slope * 2 + t / 2**80 - np.tanh(2)) < 1e-3
    touch = -np.arccosh(1 / np.sqrt(slope))
    assert -1 < touch < 0 and abs(np.tanh(touch) - slope * touch - t / 2**80) < 1e-3


@pytest.mark.parametrize("bits", [80, 192])
def test_exp_far_out(bits: int) -> None:
    """Where the error of ln 2, times the number of halvings, is what counts."""
    for z in [*range(-130, 0, 7), *range(50, 1024, 37), 1024]:
        low, high = checker.exp_bounds(z << bits, bits)
        with mpmath.workdps(700):
            assert low <= mpmath.exp(z) * mpmath.mpf(2) ** bits <= high


# --- packed matrices


@examples(40)
@given(seeds, st.sampled_from([10, 40, 62, 90]), st.integers(-70, 40))
def test_packed_products_equal_plain_ones(seed: int, magnitude: int, exponent: int) -> None:
    rng = np.random.default_rng(seed)
    k, n = (int(x) for x in rng.integers(1, 7, 2))
    weights = np.ldexp(rng.normal(size=(k, n)), exponent).astype(np.float32)
    weights[rng.random((k, n)) < 0.2] = 0
    lo, hi, den = checker.decode_float32(weights.tobytes(), "w")
    matrix = checker.Matrix((lo, hi, den), [1, k, n])
    row = [int(x * 2.0**magnitude) for x in rng.uniform(-1, 1, n)]
    found, inexact = matrix.backward(row)
    exact = [sum(Fraction(r) * w for r, w in zip(row, fractions_of(weights[i]), strict=True)) for i in range(k)]
    error = sum(map(abs, row)) * Fraction(matrix.error, 2**matrix.bits)
    assert matrix.error == 0 or exponent < -10
    for f, e in zip(found, exact, strict=True):
        assert f - error <= e < f + 1 + error and (inexact or e == f or matrix.error)
    ends = np.sort(rng.uniform(-1, 1, (2, k)), 0)
    a_lo, a_hi = ([int(x * 2.0**magnitude) for x in end] for end in ends)
    (low, high, _), ((below, charge),) = matrix.forward((a_lo, a_hi, 1 << 40))
    assert below == sum(min(x, 0) for x in a_lo) << 40
    assert (
        charge
        >= Fraction(matrix.error, 2**matrix.bits) * sum(max(-a, b) for a, b in zip(a_lo, a_hi, strict=True)) * 2**40
    )
    for j in range(n):
        column = fractions_of(weights[:, j])
        least = sum(min(w * a, w * b) for w, a, b in zip(column, a_lo, a_hi, strict=True))
        most = sum(max(w * a, w * b) for w, a, b in zip(column, a_lo, a_hi, strict=True))
        slack = 1 + 2 * Fraction(charge, 2**40)
        assert least - 1 - slack <= low[j] <= least and most <= high[j] <= most + 1 + slack


@pytest.mark.parametrize("shift", [0, 1, 7, 60, 61])
def test_slots_at_their_limits(shift: int) -> None:
    most = (1 << (63 + shift)) - 1
    values = [most, -most, 0, -1, 1, -most, most, (1 << shift) - 1, -(1 << shift)]
    total = sum(v << (128 * i) for i, v in enumerate(values))
    found, inexact = checker.floors(total, shift, len(values))
    assert found == [v >> shift for v in values] and inexact == (shift > 0)
    assert checker.floors(sum(v << shift + 128 * i for i, v in enumerate([3, -4, 0])), shift, 3) == ([3, -4, 0], False)


# --- enclosures


@examples(60)
@given(seeds)
def test_products_and_reciprocals_of_wide_enclosures(seed: int) -> None:
    rng = np.random.default_rng(seed)

    def vector(size: int) -> tuple[Any, list[tuple[Fraction, Fraction]]]:
        ends = np.sort(rng.integers(-9, 10, (2, size)) * rng.integers(0, 2, size), 0)
        den = int(rng.integers(1, 9))
        return (ends[0].tolist(), ends[1].tolist(), den), [
            (Fraction(a, den), Fraction(b, den)) for a, b in ends.T.tolist()
        ]

    def enclosed(ends: tuple[Fraction, Fraction], result: Any, i: int) -> None:
        assert Fraction(result[0][i], result[2]) <= ends[0] and ends[1] <= Fraction(result[1][i], result[2])

    times = lambda p, q: [x * y for x in p for y in q]
    a, a_ends = vector(6)
    b, b_ends = vector(6)
    found = checker.evaluate_node(checker.Node("mul", [0, 1], 6, False), [a, b], 80)
    for i in range(6):
        corners = times(a_ends[i], b_ends[i])
        enclosed((min(corners), max(corners)), found, i)
    node = checker.Node("matmul", [0, 1], 4, False)
    node.shape = [2, 3, 2]
    found = checker.evaluate_node(node, [a, b], 80)
    for r in range(2):
        for j in range(2):
            corners = [times(a_ends[3 * r + i], b_ends[2 * i + j]) for i in range(3)]
            enclosed((sum(map(min, corners)), sum(map(max, corners))), found, 2 * r + j)
    positive = [x + 10 for x in a[0]], [x + 10 for x in a[1]], a[2]
    inverse = checker.reciprocal(positive)
    for i in range(6):
        enclosed((Fraction(a[2], positive[1][i]), Fraction(a[2], positive[0][i])), inverse, i)


@pytest.mark.parametrize("c", [2, 3, 4, 1e-40, 1e38])
def test_roots_are_enclosed(c: float) -> None:
    nodes = [
        {"op": "input", "size": 1},
        {"op": "tensor", "name": "c"},
        {"op": "", "of": [1]},
        {"op": "mul", "of": [2, 0]},
    ]
    value = np.array([c], np.float32)
    for op, true in (("sqrt", Fraction(float(value[0]))),):
        nodes[2]["op"] = op
        ((low, high),) = network(nodes, {"c": value}).evaluate([Fraction(1)])
        assert low**2 <= true <= high**2 and high - low <= (high + 1) / 2**90


def test_atoms_hold_only_if_all_of_the_enclosure_is_unsafe() -> None:
    net = network([{"op": "input", "size": 1}, {"op": "neg", "of": [0]}], {})
    table = [(1, Fraction(1, 2), False, False), (1, 1, False, True), (1, 1, True, False), (-1, 0, False, True)]
    for sign, threshold, strict, expected in [*table, (-1, Fraction(-1, 2), False, False)]:
        atom = checker.Atom(build.atom({0: sign}, threshold, strict=strict), net)
        assert atom.holds([Fraction(5)], [(Fraction(0), Fraction(1))]) == expected


# --- bounds to the last unit


@examples(80)
@given(seeds, st.integers(-70, 10), st.integers(-50, 20))
def test_linear_networks_are_bounded_to_the_last_unit(seed: int, exponent: int, size: int) -> None:
    """c y + d x over a box where y is linear in x: the least value is known exactly, and no rounding may exceed it."""
    rng = np.random.default_rng(seed)
    floats = lambda *shape: np.ldexp(rng.normal(size=shape), exponent + rng.integers(-3, 4, shape)).astype(np.float32)
    tensors = {"w": floats(3, 2), "b": floats(2), "c": floats(2), "d": np.array([3, -7], np.float32)}
    nodes = [
        {"op": "input", "size": 3}, {"op": "tensor", "name": "w"}, {"op": "matmul", "of": [0, 1], "shape": [1, 3, 2]},
        {"op": "tensor", "name": "b"}, {"op": "add", "of": [2, 3]}, {"op": "tensor", "name": "c"},
        {"op": "mul", "of": [4, 5]}, {"op": "tensor", "name": "d"}, {"op": "div", "of": [6, 7]},
        {"op": "sub", "of": [4, 8]},
    ]  # fmt: skip
    net = network(nodes, tensors)
    rational = lambda: Fraction(int(rng.integers(-999, 999)), int(rng.integers(1, 99))) * Fraction(2) ** size
    lo = [rational() for _ in range(3)]
    hi = [x + abs(rational()) for x in lo]
    atom = checker.Atom(build.atom({0: rational(), 1: rational()}, 0, {0: rational()}), net)
    bounds = checker.sweep(net, checker.Bounds(*grid_box(lo, hi)), False)
    corners = [[(lo, hi)[bit][i] for i, bit in enumerate(bits)] for bits in np.ndindex(2, 2, 2)]
    values = [(point, build.evaluate(nodes, tensors, 9, point)) for point in corners]
    left = [sum(c * x[i] for i, c in atom.sides[0]) + sum(c * y[j] for j, c in atom.sides[1]) for x, y in values]
    found = checker.margin(net, bounds, [(1 << 20, atom)]) / 2**20
    assert found <= min(left)
    scale = sum(abs(c) for side in atom.sides for _, c in side) + 1
    weight = 1 + max(float(np.abs(t).max()) for t in tensors.values()) ** 2
    reach = 1 + max(abs(x) for x in (*lo, *hi))
    assert min(left) - found <= scale * reach * Fraction(weight) * Fraction(1, 2**32)
    for k in net.order:
        for point in corners:
            for y, low, high in zip(build.evaluate(nodes, tensors, k, point), *bounds.values[k][:2], strict=True):
                assert low <= y * 2**40 <= high


@examples(60)
@given(seeds, st.integers(1, 60))
def test_a_relu_is_bounded_to_the_last_unit(seed: int, magnitude: int) -> None:
    """m relu(z) + d z on [l, u]: the bound is close to attained at both ends, so that any loose rounding shows."""
    rng = np.random.default_rng(seed)
    nodes, size = [{"op": "input", "size": 6}, {"op": "relu", "of": [0]}], 6
    net = network(nodes, {})
    lo = [-int(x * 2.0**magnitude) for x in rng.random(size)]
    hi = [int(x * 2.0**magnitude) for x in rng.random(size)]
    box = [x << 40 for x in lo], [x << 40 for x in hi]
    bounds = checker.sweep(net, checker.Bounds(*box), True)
    relu, direct = ([int(x) for x in rng.integers(-(2**45), 2**45, size)] for _ in range(2))
    found = Fraction(checker.lower_bound(net, bounds, {1: list(relu), 0: list(direct)}), 2**40)
    least = sum(min(m * max(z, 0) + d * z for z in (l, 0, u)) for m, d, l, u in zip(relu, direct, lo, hi, strict=True))
    assert found <= least
    if all(m < 0 for m in relu):
        assert least - found <= 2**47 * max(hi)


def test_wide_factors_are_charged() -> None:
    """A factor known only to lie in [1, 3]: the bound must hold for both ends."""
    nodes = [{"op": "input", "size": 1}, {"op": "tensor", "name": "c"}, {"op": "mul", "of": [1, 0]}]
    net = network(nodes, {"c": np.ones(1, np.float32)})
    for lo, hi in ((-2, 5), (1, 5), (-5, -1)):
        bounds = checker.sweep(net, checker.Bounds(*grid_box([Fraction(lo)], [Fraction(hi)])), True)
        net.compiled[2] = ([1], [3], 1)
        for m in (-4, 4):
            found = Fraction(checker.lower_bound(net, bounds, {2: [m << 40]}), 2**120)
            assert found <= min(m * c * x for c in (1, 3) for x in (lo, hi))


# --- programs: evaluation and bounds of every operation


OUTSIDE = ("exp of more", "of what may not be positive")  # of the domain of a function


@examples(60)
@given(seeds, st.booleans())
def test_points_are_evaluated_exactly(seed: int, smooth: bool) -> None:
    rng = np.random.default_rng(seed)
    nodes, tensors = build.random_program(rng, smooth)
    point = [Fraction(int(rng.integers(-99, 99)), int(rng.integers(1, 99))) for _ in range(nodes[0]["size"])]
    net = network(nodes, tensors)
    try:
        found = net.evaluate(point)
    except checker.Rejected as error:
        assume(not any(words in str(error) for words in OUTSIDE))
        raise
    with mpmath.workdps(60):
        both = [build.evaluate_all(nodes, tensors, point, Fraction(part)) for part in (0, 1)]
        closed, other = both[0][-1], both[1][-1]
        gates = [node["of"][0] for node in nodes if node["op"] == "gate"]
        undecided = any(g == 0 for values in both for k in gates for g in values[k])
    for (low, high), y, z in zip(found, closed, other, strict=True):
        if undecided:
            with mpmath.workdps(60):
                slack = (1 + abs(_float(y)) + abs(_float(z))) * mpmath.mpf(10) ** -45
                assert _float(low) - slack <= min(_float(y), _float(z))
                assert max(_float(y), _float(z)) <= _float(high) + slack
        elif isinstance(y, Fraction) and y.denominator < 2**1000:
            assert low == high == y
        else:
            rough = any(node["op"] in ("erf", "sin", "cos") for node in nodes)  # far out; of what is not exact itself
            with mpmath.workdps(60):
                y = _float(y)
                slack = (1 + abs(y)) * mpmath.mpf(10) ** -45
                assert _float(low) - slack <= y <= _float(high) + slack and (rough or _float(high - low) <= slack)


@examples(80)
@given(seeds, st.booleans(), st.booleans(), st.sampled_from([Fraction(1, 4), Fraction(1), Fraction(1, 10**6)]))
def test_bounds_contain_every_sampled_point(seed: int, smooth: bool, crown: bool, radius: Fraction) -> None:
    """Of every node, and of random sums over several nodes; with bounds inherited from a larger box."""
    rng = np.random.default_rng(seed)
    nodes, tensors = build.random_program(rng, smooth, scale=0.7)
    net = network(nodes, tensors)
    centre = [Fraction(int(rng.integers(-20, 20)), 10) for _ in range(net.inputs)]
    lo, hi = [c - radius for c in centre], [c + radius for c in centre]
    larger = grid_box([x - radius for x in lo], [x + radius for x in hi])
    try:
        outer = checker.sweep(net, checker.Bounds(*larger), crown)
        bounds = outer if rng.random() < 0.5 else checker.Bounds(*larger)
        for sign, end in zip((1, -1), grid_box(lo, hi), strict=True):
            for j, p in enumerate(end):
                bounds = bounds.part((0, j, p, sign))
        bounds = checker.sweep(net, bounds, crown)
    except checker.Rejected as error:
        assume(not any(words in str(error) for words in OUTSIDE))
        raise
    chosen = {int(k): [int(x) for x in rng.integers(-(2**41), 2**41, net.nodes[k].size)]
              for k in {0, net.output, int(rng.choice(net.order))}}  # fmt: skip
    least = Fraction(checker.lower_bound(net, bounds, {k: list(row) for k, row in chosen.items()}), 2**120)
    for i in range(8):
        part = rng.integers(0, 2, net.inputs) if i < 4 else rng.random(net.inputs)
        point = [a + (b - a) * Fraction(float(p)) for a, b, p in zip(lo, hi, part, strict=True)]
        total: Any = Fraction(0)
        all_values = build.evaluate_all(nodes, tensors, point, Fraction(int(rng.integers(0, 3)), 2))
        for k in [0, *net.order]:
            values = all_values[k]
            low, high, den = bounds.values[k]
            for j, y in enumerate(values):
                scaled = y * den
                tiny = 0 if isinstance(y, Fraction) else 1e-20 * (1 + abs(scaled))
                assert low[j] <= scaled + tiny and scaled - tiny <= high[j]
                if k in chosen:
                    exact = isinstance(y, Fraction) and isinstance(total, Fraction)
                    term = Fraction(chosen[k][j], 2**40)
                    total = total + term * y if exact else _float(total) + _float(term) * _float(y)
        if isinstance(total, Fraction):
            assert least <= total
        else:
            assert _float(least) <= total + 1e-20 * (1 + abs(total))


def _float(x: Any) -> Any:
    return mpmath.mpf(x.numerator) / x.denominator if isinstance(x, Fraction) else x


def test_convolution_by_view_and_matmul_is_numpys() -> None:
    rng = np.random.default_rng(3)
    nodes, tensors = build.conv_program(rng)
    image = rng.integers(-8, 9, (4, 4)) / 8
    padded = np.pad(image, 1)
    kernel = tensors["kernel"].reshape(3, 3, 2)
    out = np.array([[[(padded[2 * i : 2 * i + 3, 2 * j : 2 * j + 3] * kernel[..., c]).sum() for c in range(2)]
                     for j in range(2)] for i in range(2)]) + tensors["bias"]  # fmt: skip
    pooled = np.maximum(out, 0).reshape(4, 2).T.reshape(2, 2, 2).max(-1)
    expected = pooled.reshape(4) @ tensors["w"]
    found = network(nodes, tensors).evaluate(fractions_of(image))
    assert [low for low, _ in found] == fractions_of(expected)


def test_crown_is_at_least_as_tight_as_ibp_and_as_the_textbook() -> None:
    """y = relu(x0 + x1) + relu(x0 - x1) on [-1, 1]^2: interval bounds give 4, CROWN's chords 2 + ... = 3 at most."""
    w = [np.array([[1, 1], [1, -1]], np.float32), np.array([[-1], [-1]], np.float32)]
    nodes, tensors = build.dense_program(w, [np.zeros(2), np.zeros(1)])
    net = network(nodes, tensors)
    box = grid_box([Fraction(-1)] * 2, [Fraction(1)] * 2)
    row = {net.output: [1 << 40]}
    bounds = checker.sweep(net, checker.Bounds(*box), True)
    assert Fraction(bounds.values[net.output][0][0], 2**40) == -4
    assert Fraction(checker.lower_bound(net, bounds, row), 2**120) == -3


# --- certificates that hold


def random_dense(rng: np.random.Generator, activation: str = "relu") -> tuple[list[Any], dict[str, np.ndarray]]:
    sizes = [int(x) for x in rng.integers(1, 6, int(rng.integers(2, 5)))] + [2]
    weights = [rng.normal(size=pair).astype(np.float32) for pair in itertools.pairwise(sizes)]
    return build.dense_program(weights, [rng.normal(size=w.shape[1]).astype(np.float32) for w in weights], activation)


@examples(40)
@given(seeds, st.sampled_from(["relu", "relu", "tanh"]), st.sampled_from(["crown", "ibp"]), st.integers(0, 3))
def test_what_is_accepted_holds_at_sampled_points(seed: int, activation: str, bounds: str, depth: int) -> None:
    rng = np.random.default_rng(seed)
    nodes, tensors = random_dense(rng, activation)
    n = nodes[0]["size"]
    centre = [Fraction(int(rng.integers(-9, 9)), 7) for _ in range(n)]
    radius = Fraction(int(rng.integers(0, 9)), 11)
    lo, hi = [c - radius for c in centre], [c + radius for c in centre]
    coefficients = {0: Fraction(int(rng.integers(-9, 9)), 3), 1: Fraction(1)}

    def judged(threshold: Fraction) -> Any:
        case = build.case(lo, hi, [[build.atom(coefficients, threshold)]])
        tree = build.full_tree(depth if radius else 0, n, [0], bounds, odd=bool(seed % 2))
        return verdict(build.certificate(nodes, tensors, [case], {"kind": "tree", "trees": [tree]}))

    first = judged(Fraction(0))
    assert first.margin is not None and first.accepted == (first.margin > 0), first.reason
    bound = first.margin  # of threshold 0
    assert first.leaves == 2 ** (depth if radius else 0) and (first.accepted or 0 < len(first.failed) <= first.leaves)
    assert judged(bound - Fraction(1, 10**30)).accepted
    assert not judged(bound).accepted  # closed: the bound must be beyond the threshold
    for i in range(12):
        part = rng.integers(0, 2, n) if i < 6 else rng.random(n)
        point = [a + (b - a) * Fraction(float(p)) for a, b, p in zip(lo, hi, part, strict=True)]
        y = build.evaluate(nodes, tensors, len(nodes) - 1, point)
        left = sum(c * y[j] if isinstance(y[j], Fraction) else _float(c) * y[j] for j, c in coefficients.items())
        assert _float(bound) <= _float(left) + (0 if activation == "relu" else mpmath.mpf(10) ** -30)


def test_splitting_makes_bounds_better() -> None:
    """y = |x0| + |x1| + |x0 - x1| >= 0, which one box does not show."""
    w = np.array([[1, -1, 0, 0, 1, -1], [0, 0, 1, -1, -1, 1]], np.float32)
    nodes, tensors = build.dense_program([w, np.ones((6, 1))], [np.zeros(6), np.zeros(1)])
    case, margins = build.case([-1, -1], [1, Fraction(1, 2)], [[build.atom({0: 1}, Fraction(-1, 10))]]), []
    for depth in (0, 2, 4, 8):
        proof = {"kind": "tree", "trees": [build.full_tree(depth, 2, [0])]}
        margins.append(verdict(build.certificate(nodes, tensors, [case], proof)).margin)
    assert margins == sorted(margins) and margins[0] < 0 < margins[-1]


def relu_payload(strict: bool, threshold: Any = 0, weights: Any = ((1,),)) -> dict[str, Any]:
    """y = sum of relu(W x); unsafe if y <= threshold, or <."""
    w = np.array(weights, np.float32)
    nodes, tensors = build.dense_program([w, np.ones((w.shape[1], 1))], [np.zeros(w.shape[1]), np.zeros(1)])
    case = build.case([-1] * len(w), [1] * len(w), [[build.atom({0: 1}, threshold, strict=strict)]])
    return build.certificate(nodes, tensors, [case], {"kind": "tree", "trees": [build.tree([-1], [[0]])]})


@pytest.mark.parametrize("weights", [((1,),), ((0.5, -0.25), (0.75, 3)), ((2.0**-30,),)])
def test_an_output_that_attains_the_threshold_is_safe_only_if_strict(weights: Any) -> None:
    assert not verdict(relu_payload(False, weights=weights)).accepted
    assert verdict(relu_payload(True, weights=weights)).accepted
    assert verdict(relu_payload(False, Fraction(-1, 10**9), weights)).accepted
    assert not verdict(relu_payload(True, Fraction(1, 10**30), weights)).accepted


def test_failed_leaves_are_listed_in_preorder() -> None:
    """|x| <= 1/4 is unsafe on [-1, 1]: of four leaves the inner two fail."""
    nodes, tensors = build.dense_program([np.array([[1, -1]]), np.ones((2, 1))], [np.zeros(2), np.zeros(1)])
    case = build.case([-1], [1], [[build.atom({0: 1}, Fraction(1, 4))]])
    result = verdict(build.certificate(nodes, tensors, [case, case], {"kind": "tree", "trees": [
        build.full_tree(2, 1, [0]), build.full_tree(1, 1, [0])]}))  # fmt: skip
    assert not result.accepted and result.code == 1 and result.leaves == 6
    assert result.failed == [(0, 1), (0, 2), (1, 0), (1, 1)]
    assert "4 of 6 leaves" in result.reason


def test_each_disjunct_needs_a_refuted_atom() -> None:
    nodes, tensors = build.dense_program([np.eye(2)], [np.zeros(2)])
    good, bad = build.atom({0: 1}, 0), build.atom({1: 1}, 0)  # y0 <= 0 is impossible on [1, 2] x [-1, 1]
    cases = [build.case([1, -1], [2, 1], [[bad, good], [good]])]
    tree = lambda choice: {"kind": "tree", "trees": [build.tree([-1], [choice])]}
    assert verdict(build.certificate(nodes, tensors, cases, tree([1, 0]))).accepted
    assert not verdict(build.certificate(nodes, tensors, cases, tree([0, 0]))).accepted
    cases[0]["unsafe"].append([bad])
    assert not verdict(build.certificate(nodes, tensors, cases, tree([1, 0, 0]))).accepted


def test_inputs_in_atoms_and_rational_coefficients() -> None:
    """On [1, 2]: relu(x) - x / 3 >= 2/3, attained at 1; 1/3 is not on the grid, so the bound is a little below."""
    nodes, tensors = [{"op": "input", "size": 1}, {"op": "relu", "of": [0]}], {}
    for threshold, accepted in ((Fraction(2, 3) - Fraction(1, 10**9), True), (Fraction(2, 3), False)):
        case = build.case([1], [2], [[build.atom({0: 1}, threshold, {0: Fraction(-1, 3)})]])
        payload = build.certificate(nodes, tensors, [case], {"kind": "tree", "trees": [build.tree([-1], [[0]])]})
        assert verdict(payload).accepted == accepted


def test_the_real_level_covers_the_exact_and_the_float32_box() -> None:
    """RN32(1/10) > 1/10 and RN32(3/10) > 3/10, so an upper end 1/10 is widened and a lower end 1/10 is not."""
    up = Fraction(float(np.float32(0.1)))
    assert up > Fraction(1, 10)
    nodes = [{"op": "input", "size": 1}, {"op": "neg", "of": [0]}]
    for threshold, accepted in ((-up - Fraction(1, 2**70), True), (-up, False), (-(up + Fraction(1, 10)) / 2, False)):
        case = build.case([0], [Fraction(1, 10)], [[build.atom({0: 1}, threshold)]])
        payload = build.certificate(nodes, {}, [case], {"kind": "tree", "trees": [build.tree([-1], [[0]])]})
        assert verdict(payload).accepted == accepted


def test_a_box_too_thin_to_halve_is_rejected() -> None:
    nodes = [{"op": "input", "size": 1}, {"op": "neg", "of": [0]}]
    case = build.case([1], [1], [[build.atom({0: 1}, -2)]])
    payload = lambda tokens: build.certificate(
        nodes, {}, [case], {"kind": "tree", "trees": [build.tree(tokens, [[0]])]}
    )
    assert verdict(payload([-1])).accepted
    assert "too thin" in verdict(payload([0, -1, -1])).reason


def test_exp_that_is_too_large_is_refused_cleanly() -> None:
    nodes = [{"op": "input", "size": 1}, {"op": "exp", "of": [0]}]
    case = build.case([0], [5000], [[build.atom({0: 1}, -2)]])
    payload = build.certificate(nodes, {}, [case], {"kind": "tree", "trees": [build.tree([-1], [[0]])]})
    assert "exp of more than" in verdict(payload).reason


@pytest.mark.parametrize("values, op", [([0, 1], "div"), ([-1, 1], "sqrt"), ([0, 1], "reciprocal")])
def test_undefined_constants_are_rejected(values: list[float], op: str) -> None:
    nodes = [{"op": "input", "size": 2}, {"op": "tensor", "name": "c"}]
    nodes += [{"op": "div", "of": [0, 1]}] if op == "div" else [{"op": op, "of": [1]}, {"op": "add", "of": [0, 2]}]
    with pytest.raises(checker.Rejected, match="may"):
        network(nodes, {"c": np.array(values, np.float32)}).evaluate([Fraction(1), Fraction(1)])


@pytest.mark.parametrize("node, reason", [
    ({"op": "matmul", "of": [1, 0], "shape": [1, 1, 1]}, "vary"), ({"op": "gate", "of": [1, 0]}, "wrong operand"),
    ({"op": "div", "of": [1, 0]}, "wrong operand"), ({"op": "rsqrt", "of": [0]}, "no known"),
    ({"op": "gate", "of": [1, 1]}, "wrong operand"), ({"op": "gate", "of": [0]}, "number of"),
    ({"op": "mul", "of": [0, 2]}, "different sizes"), ({"op": "square", "of": [0, 0]}, "number of"),
    ({"op": "input", "size": 1}, "node 0"), ({"op": "add", "of": [0, 3]}, "operand"),
    ({"op": "add", "of": [0]}, "number of"), ({"op": "add", "of": [0, 2]}, "different sizes"),
    ({"op": "concat", "of": []}, "number of"),
    ({"op": "take", "of": [0], "index": "c"}, "I32"), ({"op": "tensor", "name": "i"}, "F32"),
    ({"op": "take", "of": [0], "index": "i"}, "outside"), ({"op": "add", "of": [1, 1]}, "does not depend"),
])  # fmt: skip
def test_programs_that_mean_nothing_are_rejected(node: dict[str, Any], reason: str) -> None:
    tensors = {"c": np.ones(1, np.float32), "d": np.ones(2, np.float32), "i": np.array([0, 1], np.int32)}
    nodes = [{"op": "input", "size": 1}, {"op": "tensor", "name": "c"}, {"op": "tensor", "name": "d"}, node]
    with pytest.raises(checker.Rejected, match=reason):
        network(nodes, tensors)


def verdict_at(nodes: list[Any], lo: Any, hi: Any, threshold: Any, sign: int = 1, tensors: Any = None) -> Any:
    """Whether sign * y > threshold is accepted on a box that is not split."""
    case = build.case(lo, hi, [[build.atom({0: sign}, threshold)]])
    proof = {"kind": "tree", "trees": [build.tree([-1], [[0]])]}
    return verdict(build.certificate(nodes, PLACES if tensors is None else tensors, [case], proof))


BOTH: list[Any] = [{"op": "input", "size": 2}, *({"op": "take", "of": [0], "index": f"i{i}"} for i in (0, 1))]
PLACES = {f"i{i}": np.array([i], np.int32) for i in (0, 1)}


def test_an_undecided_gate_counts_as_both() -> None:
    """gate(x0, x1) with x1 in [2, 3]: also on the box where x0 is 0 and nothing else."""
    nodes = [*BOTH, {"op": "gate", "of": [1, 2]}]
    tiny = Fraction(1, 2**30)
    for at, least, most in (((1, 2), 2, 3), ((-2, -1), 0, 0), ((-1, 1), 0, 3), ((0, 0), 0, 3), ((0, 1), 0, 3)):
        lo, hi = [at[0], 2], [at[1], 3]
        assert verdict_at(nodes, lo, hi, least - tiny).accepted and not verdict_at(nodes, lo, hi, least).accepted
        assert verdict_at(nodes, lo, hi, -most - tiny, -1).accepted
        assert not verdict_at(nodes, lo, hi, -most, -1).accepted


def test_a_point_where_a_gate_is_undecided_violates_only_what_both_choices_violate() -> None:
    nodes = [{"op": "input", "size": 1}, {"op": "tensor", "name": "v"}, {"op": "gate", "of": [0, 1]}]
    for threshold, sign, accepted in ((2, 1, True), (1, 1, False), (0, -1, True), (-2, -1, False)):
        case = build.case([-1], [1], [[build.atom({0: sign}, threshold)]])
        proof = {"kind": "point", "case": 0, "inputs": ["0"]}
        payload = build.certificate(nodes, {"v": np.full(1, 2, np.float32)}, [case], proof, "violated")
        assert verdict(payload).accepted == accepted


@pytest.mark.parametrize("l, u, low, high", [(-1, 2, -3, 1), (0, 1, 0, 1), (-2, -1, 1, 5), (1, 1, -1, 1)])
def test_products_are_bounded_by_their_planes(l: int, u: int, low: int, high: int) -> None:
    """The least of x y - x b - a y over the box, with a and b the middles, is -a b less the product of the radii."""
    net = network([*BOTH, {"op": "mul", "of": [1, 2]}], PLACES)
    bounds = checker.sweep(
        net, checker.Bounds(*grid_box([Fraction(l), Fraction(low)], [Fraction(u), Fraction(high)])), True
    )
    corners = [x * y for x in (l, u) for y in (low, high)]
    assert bounds.values[3] == ([min(corners) << 40], [max(corners) << 40], 1 << 40)
    a, b, spread = Fraction(l + u, 2), Fraction(low + high, 2), Fraction((u - l) * (high - low), 4)
    for m in (1, -1):
        pending = {3: [m << 40], 1: [int(-m * b * 2**40)], 2: [int(-m * a * 2**40)]}
        assert Fraction(checker.lower_bound(net, bounds, pending), 2**120) == -m * a * b - spread


@pytest.mark.parametrize("op, lo, least", [("sqrt", 0, 0), ("square", 0, 0), ("reciprocal", 1, Fraction(1, 4))])
def test_roots_squares_and_reciprocals_of_variables(op: str, lo: int, least: Any) -> None:
    nodes = [{"op": "input", "size": 1}, {"op": op, "of": [0]}]
    assert verdict_at(nodes, [lo], [4], least - 5).accepted and not verdict_at(nodes, [lo], [4], least).accepted
    if op != "square":
        assert "may not be positive" in verdict_at(nodes, [-1], [4], -99).reason
        assert "may not be positive" in verdict_at(nodes, [0 if op == "reciprocal" else -1], [0], -99).reason


# --- certificates of violations


def point_payload(inputs: list[str], atom: Any, lo: Any = 0, hi: Any = 1) -> dict[str, Any]:
    nodes, tensors = build.dense_program([np.array([[3]]), np.array([[1]])], [np.array([-1]), np.zeros(1)])
    return build.certificate(nodes, tensors, [build.case([lo], [hi], [[atom]])],
                             {"kind": "point", "case": 0, "inputs": inputs}, "violated")  # fmt: skip


def test_points_are_judged_exactly() -> None:
    """y = relu(3x - 1) at x = 2/3 is exactly 1."""
    assert verdict(point_payload(["2/3"], build.atom({0: 1}, 1))).accepted
    assert not verdict(point_payload(["2/3"], build.atom({0: 1}, 1, strict=True))).accepted
    assert verdict(point_payload(["2/3"], build.atom({0: -1}, -1))).accepted
    assert not verdict(point_payload(["2/3"], build.atom({0: 1}, 1 - Fraction(1, 10**40)))).accepted
    assert verdict(point_payload(["2/3"], build.atom({0: 1}, Fraction(1, 3), {0: -1}))).accepted


def test_points_must_lie_in_a_box() -> None:
    always, tenth = build.atom({}, 0), Fraction(1, 10)
    up = Fraction(float(np.float32(0.1)))  # above 1/10
    assert verdict(point_payload(["1"], always)).accepted
    assert not verdict(point_payload([str(1 + Fraction(1, 10**30))], always)).accepted
    assert not verdict(point_payload([str(-Fraction(1, 10**30))], always)).accepted
    assert verdict(point_payload([float(up).hex()], always, hi=tenth)).accepted  # in the float32 box
    assert verdict(point_payload([str(up)], always, hi=tenth)).accepted
    between = (up + tenth) / 2  # in the float32 box, but no float32
    assert not verdict(point_payload([str(between)], always, hi=tenth)).accepted
    assert verdict(point_payload(["1/10"], always, hi=tenth)).accepted
    assert not verdict(point_payload(["1/10"], always, lo=up, hi=1)).accepted
    assert not verdict(point_payload(["1/2", "1/2"], always)).accepted


def test_points_of_smooth_networks_need_a_margin() -> None:
    nodes = [{"op": "input", "size": 1}, {"op": "tanh", "of": [0]}]
    with mpmath.workdps(60):
        half = Fraction(int(mpmath.tanh(mpmath.mpf(1) / 2) * 2**150), 2**150)  # a little below tanh(1/2)
    for threshold, accepted in ((half, False), (half + Fraction(1, 2**140), True), (half - Fraction(1, 2**140), False)):
        case = build.case([0], [1], [[build.atom({0: 1}, threshold)]])
        proof = {"kind": "point", "case": 0, "inputs": ["1/2"]}
        assert verdict(build.certificate(nodes, {}, [case], proof, "violated")).accepted == accepted


# --- files that are no certificates


def test_what_is_not_canonical_json_is_unreadable() -> None:
    good = build.seal(relu_payload(True))
    assert checker.check(good).accepted and checker.check(good + b"\n").accepted
    old = b'"version":3'
    bad = [
        b"",
        b"[]",
        b"1",
        b"null",
        b"{}",
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b"\xff\xfe",
        good.decode().encode("utf-16"),
    ]
    bad += [b"\n" + good, good + b"\n\n", good + b" ", good + b"x", good[:-1], good.replace(b":", b": ", 1)]
    for new in (b'"version":2', b'"version":true', b'"version":3.0', b'"version":NaN', b'"version":3,"x":0'):
        bad.append(good.replace(old, new))
    bad += [good.replace(old, old + b"," + old), good.replace(old, b'"version":' + b"9" * 5000)]
    bad += [good.replace(b'"size":1', b'"size":-0'), good.replace(b'"size":1', b'"size":1e0')]
    bad += [good.replace(b"axiom-certificate", b"axiom-certificates")]
    for data in bad:
        result = checker.check(data)
        assert result.code == 2 and not result.accepted and result.reason, data[:60]


ODD_VALUES = [True, False, None, 1.5, -1, 10**30, "1", [], {}, [[]], [1], 1e9]
HARMLESS = {
    ("meta", "{}"), ("model.source", "{}"), ("model.name", "'1'"), ("property.text", "'1'"),
    ("property.cases.0.unsafe.0.0.output.0.1", "'1'"), ("property.cases.0.unsafe.0.0.output", "[]"),
    ("property.cases.0.unsafe.0.0.input", "[]"), ("property.cases.0.unsafe.0.0.strict", "True"),
    ("proof.trees.0.nodes.0", "-1"), ("proof.trees.0.slots", "[]"), ("proof.trees.0.slopes", "[]"),
    ("proof.trees.0.splits", "[]"), ("proof.trees.0.lemmas", "[]"), ("model.tensors.w0.shape", "[]"),
    ("model.tensors.w0.shape", "[1]"),
}  # fmt: skip


@pytest.mark.parametrize(
    "path",
    """claim levels meta weights property property.text property.cases property.cases.0
    property.cases.0.exact property.cases.0.exact.lo property.cases.0.exact.lo.0 property.cases.0.float32.hi.0
    property.cases.0.unsafe property.cases.0.unsafe.0 property.cases.0.unsafe.0.0 property.cases.0.unsafe.0.0.input
    property.cases.0.unsafe.0.0.output property.cases.0.unsafe.0.0.output.0 property.cases.0.unsafe.0.0.output.0.0
    property.cases.0.unsafe.0.0.output.0.1 property.cases.0.unsafe.0.0.strict property.cases.0.unsafe.0.0.threshold
    proof proof.kind proof.trees proof.trees.0 proof.trees.0.bounds proof.trees.0.leaves proof.trees.0.leaves.0
    proof.trees.0.leaves.0.0 proof.trees.0.leaves.0.0.1
    proof.trees.0.roots profile proof.trees.0.nodes proof.trees.0.nodes.0 model model.name model.source
    model.source.params model.tensors model.tensors.w0 model.tensors.w0.dtype model.tensors.w0.shape
    model.tensors.w0.sha256 model.program model.program.output model.program.nodes model.program.nodes.0
    model.program.nodes.0.size model.program.nodes.2.of model.program.nodes.2.of.0 model.program.nodes.2.shape
    model.program.nodes.2.shape.1 model.program.nodes.1.name model.program.nodes.2.op""".split(),
)
def test_values_of_a_wrong_type_are_rejected(path: str) -> None:
    *outer, last = (int(key) if key.isdigit() else key for key in path.split("."))
    for value in ODD_VALUES:
        payload = relu_payload(True)
        place: Any = payload
        for key in outer:
            place = place[key]
        place[last] = value
        result = verdict(payload)
        assert result.accepted == ((path, repr(value)) in HARMLESS), (value, result.reason)
        assert result.code == (0 if result.accepted else 2 if isinstance(value, float) else 1)
        assert "could not finish" not in result.reason and "\n" not in result.reason, result.reason


def test_huge_sizes_are_refused_quickly() -> None:
    for node in ({"op": "view", "of": [0]}, {"op": "matmul", "of": [0, 0], "shape": [2**60, 2**60, 2**60]},
                 {"op": "concat", "of": [0] * 5000}):  # fmt: skip
        payload = relu_payload(True)
        payload["model"]["program"]["nodes"].append(node)
        result = verdict(payload)
        assert result.code == 1 and "could not finish" not in result.reason


def test_words_in_a_file_cannot_forge_the_verdict() -> None:
    payload = relu_payload(True)
    payload["property"]["text"] = "x\naccepted\n\x1b[2J‮\ud800"
    payload["model"]["name"] = "\naccepted"
    payload["model"]["source"] = {"a\nsignature checked": "0" * 64}
    result = verdict(payload)
    assert result.accepted and all(line.isprintable() for line in result.lines)
    tensors = build.tensors_of(payload)
    payload["model"]["tensors"]["w0\naccepted"] = payload["model"]["tensors"].pop("w0")
    assert verdict(payload).reason.isprintable()
    tensors["w0\naccepted"] = tensors.pop("w0") * np.float32(np.nan)
    payload["weights"] = build.packed(build.tensor_file(tensors))
    assert verdict(payload).reason.isprintable()
    payload["model"]["tensors"] = build.manifest(tensors)
    assert verdict(payload).reason.isprintable()


# --- the weights file


def test_weights_that_do_not_fit_the_tensors_are_rejected() -> None:
    tensors = {"a": np.arange(4, dtype=np.float32), "b": np.arange(2, dtype=np.float32)}
    nodes: list[Any] = [{"op": "input", "size": 4}, {"op": "tensor", "name": "a"}, {"op": "add", "of": [0, 1]}]
    blob, model = build.tensor_file(tensors), build.model(nodes, tensors)
    assert checker.load_network(model, blob).inputs == 4

    def changed(name: str, **entry: Any) -> Any:
        return model | {"tensors": model["tensors"] | {name: model["tensors"][name] | entry}}

    bad = [(model, b""), (model, blob[:-1]), (model, blob + b"\0"), (model, b"\1" + blob[1:]),
           *((changed("a", shape=shape), blob) for shape in ([2, 3], [-2, -2], [True, 4], [2**24] * 64)),
           (changed("a", dtype="F64"), blob), (changed("a", dtype="I32"), blob), (changed("a", extra=0), blob),
           (changed("b", sha256="0" * 64), blob),
           (model | {"tensors": {"a": model["tensors"]["a"]}}, blob)]  # fmt: skip
    for described, data in bad:
        with pytest.raises(checker.Rejected):
            checker.load_network(described, data)


def packed_model(blob: bytes, *shape: int) -> dict[str, Any]:
    """A model that declares one tensor of this shape."""
    entry = {"dtype": "F32", "sha256": build.hashlib.sha256(blob).hexdigest(), "shape": [*shape]}
    return build.model([{"op": "input", "size": 1}], {}) | {"tensors": {"a": entry}}


def test_packed_bytes_are_one_stream_of_the_tensors() -> None:
    good, model = zlib.compress(b"weights!"), packed_model(b"weights!", 2, 1)
    text = lambda data: base64.b64encode(data).decode()
    assert checker.unpacked(model, text(good)) == b"weights!"
    assert checker.unpacked(model | {"tensors": {}}, text(zlib.compress(b""))) == b""
    raw, summed = zlib.compress(b"weights!", wbits=-15), good[:-1] + bytes([good[-1] ^ 1])
    others = (zlib.compress(data) for data in (b"", b"weights", b"weights!!", b"weights!" * 1000))
    for data in (b"", good[:-1], good + b"\0", good + good, b"weights!", raw, summed, *others):
        with pytest.raises(checker.Rejected, match=r"^the weights: not "):
            checker.unpacked(model, text(data))
    for weights in ("A", "A===", "====", "AA==\n", "é===", "A!==", "\0", text(good) + "\n", None, 1, True, [], {}):
        with pytest.raises(checker.Rejected, match=r"^the weights: not (canonical )?base64$"):
            checker.unpacked(model, weights)


def test_no_more_is_unpacked_than_the_tensors_take(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    class Stream:
        def __init__(self) -> None:
            self.stream = zlib.decompressobj()

        def decompress(self, data: bytes, most: int) -> bytes:
            asked.append(most)
            return self.stream.decompress(data, most)

        def __getattr__(self, name: str) -> Any:
            return getattr(self.stream, name)

    monkeypatch.setattr(checker, "zlib", type("zlib", (), {"decompressobj": Stream, "error": zlib.error}))
    bomb = base64.b64encode(zlib.compress(bytes(1 << 22), 9)).decode()
    for shape, most in (((2,), 9), ((), 5), ((1 << 20,), (1 << 22) + 1)):
        model, last = packed_model(b"", *shape), shape == (1 << 20,)
        assert not last or checker.unpacked(model, bomb) == bytes(1 << 22)
        with pytest.raises(checker.Rejected, match=r"^the weights: not one zlib stream of the tensors$"):
            checker.unpacked(model, bomb if not last else base64.b64encode(zlib.compress(bytes(1 << 23), 9)).decode())
        assert {*asked} == {most} and not asked.clear()
    for shape in ((1 << 24, 2), (1 << 24,) * 64):  # more than a program can hold
        with pytest.raises(checker.Rejected, match=r"^the tensors are too large$"):
            checker.unpacked(packed_model(b"", *shape), bomb)
    assert not asked


@pytest.mark.parametrize("weights, reason", [
    ("A===", "the weights: not base64"), ("é", "the weights: not base64"), ("QQ=", "the weights: not base64"),
    ("QR==", "the weights: not canonical base64"), ("QUJD", "the weights: not a zlib stream"),
    (build.packed(b"more"), "the weights: not one zlib stream of the tensors")])  # fmt: skip
def test_malformed_weights_are_rejected_by_name(weights: str, reason: str) -> None:
    tensors = {"a": np.arange(2, dtype=np.float32)}
    nodes = [{"op": "input", "size": 2}, {"op": "tensor", "name": "a"}, {"op": "add", "of": [0, 1]}]
    proof, box = {"kind": "point", "case": 0, "inputs": ["0", "0"]}, {"lo": ["0", "0"], "hi": ["0", "0"]}
    zeros = {key: [float(0).hex()] * 2 for key in box}
    atom = {"input": [], "output": [[0, "1"]], "strict": False, "threshold": "0"}
    case = {"exact": box, "float32": zeros, "unsafe": [[atom]]}
    payload = {"claim": "violated", "levels": ["real"], "meta": {}, "model": build.model(nodes, tensors), "profile": "",
               "proof": proof, "property": {"cases": [case], "text": "x"},
               "weights": build.packed(build.tensor_file(tensors))}  # fmt: skip
    assert verdict(payload).accepted
    refused = verdict(payload | {"weights": weights})
    assert (refused.accepted, refused.code, refused.reason) == (False, 1, reason)


# --- the program itself


def run(*arguments: Any, flags: tuple[str, ...] = ("-I", "-S")) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *flags, str(build.CHECKER), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, encoding="utf-8")


@pytest.mark.parametrize("flags", [("-I", "-S"), ("-I", "-S", "-O"), ("-I", "-S", "-OO", "-W", "error")])
def test_it_runs_alone(tmp_path: Path, flags: tuple[str, ...]) -> None:
    good, bad, broken = (tmp_path / name for name in ("good.cert", "bad.cert", "broken.cert"))
    good.write_bytes(build.seal(relu_payload(True)))
    bad.write_bytes(build.seal(relu_payload(False)))
    broken.write_bytes(good.read_bytes()[:-20])
    done = run(good, flags=flags)
    assert done.returncode == 0 and done.stderr == ""
    lines = done.stdout.splitlines()
    assert lines[0] == "accepted" and lines[-1] == "signature not checked"
    for word in ("holds", "∀x. a test", "1 leaf boxes", "real", "float32 execution", "sha256", "'test'", "assumed"):
        assert word in done.stdout
    done = run(bad, "--failed", flags=flags)
    assert done.returncode == 1 and done.stdout.startswith("rejected: 1 of 1 leaves")
    assert json.loads(done.stdout.splitlines()[-1]) == {"failed": [[0, 0]], "leaves": 1, "margin": "0"}
    assert run(broken, flags=flags).returncode == 2


def test_several_files_and_bad_usage(tmp_path: Path) -> None:
    good, bad = tmp_path / "good.cert", tmp_path / "bad.cert"
    good.write_bytes(build.seal(relu_payload(True)))
    bad.write_bytes(build.seal(relu_payload(False)))
    for file, word, code in ((good, "accepted", 0), (bad, "rejected", 1), (tmp_path / "missing", "unreadable", 2)):
        done = run(file)
        assert done.returncode == code and done.stdout.split("\n")[0].split(":")[0] == word
    done = run(good, bad, tmp_path / "missing")
    said = [line.split(":")[0] for line in done.stdout.splitlines()]
    assert done.returncode == 2 and [w for w in said if w in ("accepted", "rejected", "unreadable")] == [
        "accepted", "rejected", "unreadable"]  # fmt: skip
    assert run(good, bad).returncode == 1 and run(good, good).returncode == 0
    for arguments in ((), ("--help",), ("--failed",), (good, "--fast")):
        assert run(*arguments).returncode == 2


def test_the_file_keeps_its_promises() -> None:
    """Short, standard library only, no assert, no float arithmetic."""
    source = build.CHECKER.read_text()
    tree = ast.parse(source)
    assert source.count("\n") < 800
    imported = {a.name.split(".")[0] for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names}
    imported |= {(n.module or "").split(".")[0] for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)}
    assert imported <= sys.stdlib_module_names
    assert not [n for n in ast.walk(tree) if isinstance(n, ast.Assert)]
    divisions = {ast.unparse(n) for n in ast.walk(tree) if isinstance(n, ast.BinOp) and isinstance(n.op, ast.Div)}
    assert divisions == {"value / unit"}  # of Fractions
    assert not [n for n in ast.walk(tree) if isinstance(n, ast.Constant) and isinstance(n.value, float)]
    floats = [n for n in ast.walk(tree) if isinstance(n, ast.Name) and n.id == "float"]
    shown = [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef) and n.name == "show"]
    exact = [n.value for n in ast.walk(tree) if isinstance(n, ast.Attribute) and n.attr in ("hex", "fromhex")]
    assert len(floats) == 3 and all(n in exact or n in ast.walk(shown[0]) for n in floats)  # read exactly; shown
    calls = {n.func.id for n in ast.walk(tree) if isinstance(n, ast.Call) and isinstance(n.func, ast.Name)}
    recursive = [n.name for n in ast.walk(tree) if isinstance(n, ast.FunctionDef) and n.name in calls and n.name in {
        c.func.id for c in ast.walk(n) if isinstance(c, ast.Call) and isinstance(c.func, ast.Name)}]  # fmt: skip
    assert recursive == []
