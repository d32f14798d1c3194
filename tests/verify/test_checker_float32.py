"""Level float32 in the checker: no execution that the level speaks of leaves the bounds."""

import itertools
from fractions import Fraction
from typing import Any

import checker_builder as build
import numpy as np
import pytest
from float32_executions import Execution
from hypothesis import assume, given, settings
from hypothesis import strategies as st

checker = build.load_checker()
seeds = st.integers(0, 2**32 - 1)
examples = lambda count: settings(max_examples=count, deadline=None, derandomize=True)
PLACE = 1 << 80


def loaded(nodes: Any, tensors: Any, profile: str = "cpu") -> Any:
    net = checker.load_network(build.model(nodes, tensors), build.tensor_file(tensors), profile)
    net.prepare()
    return net


def bounded(net: Any, lo: list[Any], hi: list[Any], crown: bool = True) -> Any:
    below = [(Fraction(x) * PLACE).__floor__() for x in lo]
    above = [-((-Fraction(x) * PLACE).__floor__()) for x in hi]
    return checker.sweep(net, checker.Bounds(below, above), crown)


def inside(rng: np.random.Generator, lo: np.ndarray, hi: np.ndarray) -> list[Fraction]:
    """A float32 point of a box, often with ends of it."""
    part = rng.choice([0.0, 1.0, 0.5, rng.random()], size=lo.shape)
    point = np.clip((lo + (hi - lo) * part).astype(np.float32), lo, hi)
    return [Fraction(float(x)) for x in point]


def box_of(rng: np.random.Generator, size: int) -> tuple[np.ndarray, np.ndarray]:
    middle, radius = rng.normal(size=size), 10 ** rng.uniform(-6, 0.5, size=size)
    return (middle - radius).astype(np.float32), (middle + radius).astype(np.float32)


def contained(seed: int, smooth: bool, scale: float = 1.0, runs: int = 4) -> bool:
    """Whether executions of a random program stay within its bounds; False if the level is refused for it."""
    rng = np.random.default_rng(seed)
    nodes, tensors = build.random_program(rng, smooth, length=int(rng.integers(2, 12)), scale=scale)
    lo, hi = box_of(rng, nodes[0]["size"])
    try:
        net = loaded(nodes, tensors)
        bounds = bounded(net, lo.tolist(), hi.tolist(), crown=bool(seed % 2))
    except checker.Rejected:
        return False
    row = [int(x * 2**40) for x in rng.normal(size=net.outputs)]
    least = Fraction(checker.lower_bound(net, bounds, {net.output: list(row)}), 1 << 120)
    for run in range(runs):
        execution = Execution(nodes, tensors, rng, flush=bool(run % 2), extreme=run > 1)
        values = execution.run(inside(rng, lo, hi))
        for k in net.order:
            low, high, den = bounds.values[k]
            fused = k in net.fused  # its value may never have been rounded by itself: the one by itself is inside too
            for x, a, b in zip(values[k], low, high, strict=True):
                assert a <= x * den <= b, (seed, k, nodes[k]["op"], fused)
        assert sum(Fraction(m, 1 << 40) * y for m, y in zip(row, values[net.output], strict=True)) >= least, seed
    return True


@examples(150)
@given(seed=seeds, smooth=st.booleans(), scale=st.sampled_from([1.0, 1.0, 1e-3, 100.0]))
def test_no_execution_leaves_the_bounds(seed: int, smooth: bool, scale: float) -> None:
    assume(contained(seed, smooth, scale))


def spread(nodes: Any, tensors: Any, point: list[Any], row: list[int], runs: int = 60) -> tuple[Any, Any, Any]:
    """The least and greatest sum of multiples of outputs that executions give at a point, and the checker's bounds."""
    net = loaded(nodes, tensors)
    bounds = bounded(net, point, point)
    least, most = (Fraction(s * checker.lower_bound(net, bounds, {net.output: [s * x << 40 for x in row]}), 1 << 120)
                   for s in (1, -1))  # fmt: skip
    found = []
    for run in range(runs):
        values = Execution(nodes, tensors, np.random.default_rng(run), flush=bool(run % 2), extreme=True).run(point)
        found.append(sum(m * y for m, y in zip(row, values[net.output], strict=True)))
    return min(found), max(found), (least, most)


MANY = 64
ONE_AND_DUST = [Fraction(1)] + [Fraction(1, 2**24)] * MANY  # added to 1 one by one, what is small is lost
SUMMED: list[Any] = [{"op": "input", "size": MANY + 1}, {"op": "tensor", "name": "ones"},
                     {"op": "matmul", "of": [0, 1], "shape": [1, MANY + 1, 1]}]  # fmt: skip
ONES = {"ones": np.ones(MANY + 1, np.float32)}


def test_sums_may_be_taken_in_any_order() -> None:
    low, high, (least, most) = spread(SUMMED, ONES, ONE_AND_DUST, [1])
    assert high - low >= Fraction(MANY // 2, 2**24)
    assert least <= low <= high <= most and most - least <= Fraction(3 * MANY, 2**24)


def test_a_bias_may_be_added_first() -> None:
    nodes = [*SUMMED, {"op": "tensor", "name": "bias"}, {"op": "add", "of": [2, 3]}]
    bias = ONES | {"bias": np.array([2**20], np.float32)}
    low, high, (least, most) = spread(nodes, bias, [Fraction(1, 32)] * (MANY + 1), [1])
    assert high - low > 2  # two roundings alone would be off by 2^-3 at most
    assert least <= low <= high <= most


def test_every_copy_of_a_sum_may_be_taken_in_an_order_of_its_own() -> None:
    nodes = [*SUMMED, {"op": "take", "of": [2], "index": "twice"}, {"op": "tensor", "name": "bias"},
             {"op": "add", "of": [3, 4]}]  # fmt: skip
    tensors = ONES | {"twice": np.zeros(2, np.int32), "bias": np.zeros(2, np.float32)}
    low, high, (least, most) = spread(nodes, tensors, ONE_AND_DUST, [1, -1])
    assert low < -Fraction(MANY // 2, 2**24) and high > Fraction(MANY // 2, 2**24)
    assert least <= low <= high <= most


def test_residual_sums_with_another_use_are_charged_for_themselves_alone() -> None:
    """y = relu(z) + (z + b): the sum z is used twice, so it is computed once."""
    nodes = [*SUMMED, {"op": "tensor", "name": "bias"}, {"op": "add", "of": [2, 3]}, {"op": "relu", "of": [2]},
             {"op": "sub", "of": [4, 5]}]  # fmt: skip
    low, high, (least, most) = spread(nodes, ONES | {"bias": np.ones(1, np.float32)}, ONE_AND_DUST, [1])
    assert least <= low <= high <= most


@pytest.mark.parametrize("values, op, reason", [
    ([2.0**80], "square", "too large"), ([90.0], "exp", "too large"), ([1e-30], "reciprocal", "may"),
])  # fmt: skip
def test_what_may_overflow_is_refused(values: list[float], op: str, reason: str) -> None:
    nodes = [{"op": "input", "size": 1}, {"op": op, "of": [0]}]
    x = [Fraction(np.float32(v).item()) for v in values]
    with pytest.raises(checker.Rejected, match=reason):
        bounded(loaded(nodes, {}), x, x)


def test_partial_sums_must_stay_finite_in_every_order() -> None:
    """x − x + y is small, but a partial sum is not."""
    nodes = [{"op": "input", "size": 3}, {"op": "tensor", "name": "w"},
             {"op": "matmul", "of": [0, 1], "shape": [1, 3, 1]}]  # fmt: skip
    tensors = {"w": np.array([1e12, -1e12, 1], np.float32)}
    point = [Fraction(2**30), Fraction(2**30), Fraction(1)]
    with pytest.raises(checker.Rejected, match="too large"):
        bounded(loaded(nodes, tensors), point, point)
    assert bounded(loaded(nodes, tensors, ""), point, point).values[2][0] == [1 << 40]


def chain(rng: np.random.Generator, sizes: list[int]) -> tuple[Any, Any]:
    weights = [(rng.normal(size=(a, b)) * np.sqrt(2 / a)).astype(np.float32) for a, b in itertools.pairwise(sizes)]
    return build.dense_program(weights, [np.zeros(w.shape[1], np.float32) for w in weights])


@pytest.mark.parametrize("sizes, slack", [([5, 50, 50, 50, 50, 50, 50, 5], 1e-3), ([100, 64, 64, 10], 1e-3)])
def test_the_slack_is_small(sizes: list[int], slack: float) -> None:
    """Errors enter where they arise: forward accumulation would give 0.5 on the first of these."""
    rng = np.random.default_rng(0)
    nodes, tensors = chain(rng, sizes)
    point = [Fraction(float(np.float32(x))) for x in rng.uniform(-1, 1, sizes[0])]
    row = [1, -1] + [0] * (sizes[-1] - 2)
    low, high, (least, most) = spread(nodes, tensors, point, row, runs=1)
    exact, _, _ = build.evaluate(nodes, tensors, len(nodes) - 1, point)[:2], None, None
    assert least <= exact[0] - exact[1] <= most and most - least < slack
    assert least <= low <= high <= most


# --- the level in certificates


def payload(profile: str, threshold: Any, x: list[Any] = ONE_AND_DUST) -> dict[str, Any]:
    """Σ x > threshold at a point, for which executions in float32 give 1 to 1 + 2^-18."""
    case = build.case(x, x, [[build.atom({0: 1}, threshold)]])
    proof = {"kind": "tree", "trees": [build.tree([-1], [[0]])]}
    return build.certificate(SUMMED, ONES, [case], proof, profile=profile)


def test_a_certificate_says_its_levels() -> None:
    real = checker.check(build.seal(payload("", Fraction(1))))
    assert real.accepted and real.levels == ["real"] and not any("float32:" in line for line in real.lines)
    both = checker.check(build.seal(payload("cpu", Fraction(999, 1000))))
    assert both.accepted and both.levels == ["real", "float32"]
    assert [line for line in both.lines if line.startswith("level        float32: every execution")]
    assert any("'cpu'" in line for line in both.lines)


def test_what_an_order_of_summation_breaks_is_not_accepted() -> None:
    """1 + 64 · 2^-24 > 1 over the reals; added one by one, float32 says 1."""
    result = checker.check(build.seal(payload("cpu", Fraction(1))))
    assert result.code == 1 and result.failed == [(0, 0)] and not result.levels


def test_levels_fit_the_profile() -> None:
    good = payload("cpu", Fraction(999, 1000))
    for change in ({"levels": ["real"]}, {"levels": ["float32"]}, {"levels": ["float32", "real"]}, {"profile": ""},
                   {"profile": "tpu"}, {"profile": "CPU"}):  # fmt: skip
        result = checker.check(build.seal(good | change))
        assert result.code == 1 and "could not finish" not in result.reason, change
    proof = {"kind": "point", "case": 0, "inputs": [str(x) for x in ONE_AND_DUST]}
    point = build.certificate(SUMMED, ONES, payload("", 2)["property"]["cases"], proof, "violated")
    assert checker.check(build.seal(point)).accepted
    assert not checker.check(build.seal(point | {"levels": ["real", "float32"], "profile": "cpu"})).accepted
