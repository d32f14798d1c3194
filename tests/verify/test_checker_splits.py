"""The checker on trees: splits of neurons, cuts of inputs, slopes, multipliers, lemmas, several roots."""

import itertools
from fractions import Fraction
from typing import Any

import checker_builder as build
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

checker = build.load_checker()
seeds = st.integers(0, 2**32 - 1)
examples = lambda count: settings(max_examples=count, deadline=None, derandomize=True)


def verdict(nodes: Any, tensors: Any, cases: Any, trees: Any) -> Any:
    payload = build.certificate(nodes, tensors, cases, {"kind": "tree", "trees": trees})
    return checker.check(build.seal(payload))


def dense(weights: list[Any], biases: list[Any] | None = None, activation: str = "relu") -> Any:
    arrays = [np.array(w, np.float32) for w in weights]
    return build.dense_program(arrays, biases or [np.zeros(w.shape[1], np.float32) for w in arrays], activation)


ABSOLUTE: tuple[Any, Any] = dense([[[1, -1]], [[1], [1]]])  # |x|: nodes 0 input, 4 what the relu takes, 9 the output
HALF = Fraction(1, 2)


def above(threshold: Any, lo: Any = -1, hi: Any = 1, strict: bool = False) -> list[Any]:
    return [build.case([lo], [hi], [[build.atom({0: 1}, threshold, strict=strict)]])]


# --- splits of neurons


def kink(betas: Any, at: Any = 0) -> dict[str, Any]:
    """A split of the first relu of |x|, with a multiplier for each half."""
    return build.forest([2, -1, -3], [[build.row(0, {0: 1}, -1, [b])] for b in betas], [[0]], [(4, 0, at)])


def test_a_relu_is_split_at_its_kink_with_no_new_bounds() -> None:
    """|x| on [-1, 1]: one split at 0. Above it y >= x, which is >= 0 by the split alone, for the input is not cut."""
    case = above(Fraction(-1, 10))
    for betas, margin in (((0, 1), 0), ((0, HALF), -HALF), ((0, 0), -1), ((1, 1), -1), ((0, 2), -1)):
        result = verdict(*ABSOLUTE, case, [kink(betas)])
        assert result.leaves == 2 and result.accepted == (margin == 0), result.reason
        assert abs(result.margin - margin - Fraction(1, 10)) < Fraction(1, 2**30)
    assert not verdict(*ABSOLUTE, above(0), [kink((0, 1))]).accepted  # attained at 0
    assert verdict(*ABSOLUTE, above(0, strict=True), [kink((0, 1))]).accepted


def test_a_multiplier_counts_only_for_its_own_half() -> None:
    """z = x, y = relu(x) - x / 2 >= 0 on [-1, 1]; in the half x <= 0, y = -x / 2, with beta (x - 0) <= 0."""
    nodes, tensors = [{"op": "input", "size": 1}, {"op": "relu", "of": [0]}], {}
    case = [build.case([-1], [1], [[build.atom({0: 1}, Fraction(-1, 10**9), {0: -HALF})]])]

    def tree(low: Any, high: Any) -> dict[str, Any]:
        return build.forest([2, -1, -3], [[build.row(0, {0: 1}, -1, [b])] for b in (low, high)], [[0]], [(0, 0, 0)])

    assert verdict(nodes, tensors, case, [tree(0, 0)]).accepted  # the boxes of the halves are enough: it is an input
    margins = [verdict(nodes, tensors, case, [tree(low, high)]).margin for low, high in ((0, 0), (HALF, HALF), (2, 2))]
    assert margins[0] == margins[1] > margins[2]


def test_an_empty_leaf_is_proved_by_multipliers_alone() -> None:
    """z0 = x >= p and z1 = -x >= p: no box shows that this is empty for p > 0, the sum of both does."""

    def tree(p: Any, betas: Any) -> dict[str, Any]:
        other, empty = [build.row(0, {0: 1}, -1, [0, 0])], [build.row(0, {}, -1, betas)]
        leaves = [[build.row(0, {0: 1}, -1, [0])], other, empty]
        return build.forest([2, -1, 4, -3, -5], leaves, [[0]], [(4, 0, p), (4, 1, p)])

    case = above(-5)
    assert verdict(*ABSOLUTE, case, [tree(Fraction(1, 4), (1, 1))]).accepted
    assert verdict(*ABSOLUTE, case, [tree(Fraction(1, 2**19), (1, 1))]).accepted
    for p, betas in ((Fraction(1, 4), (0, 0)), (Fraction(1, 4), (1, 0)), (Fraction(1, 4), (-1, -1)), (0, (1, 1)),
                     (Fraction(-1, 4), (1, 1))):  # fmt: skip
        assert not verdict(*ABSOLUTE, case, [tree(p, betas)]).accepted, (p, betas)


def test_a_half_outside_the_bounds_needs_no_proof() -> None:
    for k, p, which in ((4, 2, 1), (4, -2, 0), (0, 2, 1), (0, -2, 0), (4, 1 + Fraction(1, 2**30), 1)):
        leaves = [[build.row(0, {0: 1}, -1, [0])], [build.row(0, {}, -1, [0])]]
        tree = build.forest([2, -1, -3] if which else [2, -3, -1], leaves, [[0]], [(k, 0, p)])
        assert verdict(*ABSOLUTE, above(-3), [tree]).accepted, (k, p)
        tree["splits"][0][2] //= 4
        assert not verdict(*ABSOLUTE, above(-3), [tree]).accepted


@pytest.mark.parametrize("beta, margin", [(-1, -3), (-HALF, -2), (0, -1), (HALF, -HALF), (1, -1)])
def test_negative_multipliers_are_for_the_other_end(beta: Any, margin: Any) -> None:
    """y = relu(z), z = -x in [-1, 1], split at 0: with beta < 0 taken off is |beta| (1 - z), or |beta| (z + 1)."""
    nodes = [{"op": "input", "size": 1}, {"op": "neg", "of": [0]}, {"op": "relu", "of": [1]}]
    tree = build.forest([2, -1, -1], [[build.row(0, {0: 1}, -1, [beta])]], [[0]], [(1, 0, 0)])
    result = verdict(nodes, {}, [build.case([-1], [1], [[build.atom({0: 1}, -9)]])], [tree])
    assert result.accepted and result.margin == margin + 9


def test_values_of_smooth_functions_are_split() -> None:
    """tanh(z) - 9/20 z on [-2, 2]: a tangent from the far end gives -0.46, lines of both halves -0.342."""
    nodes, tensors = dense([[[2]], [[1]]], activation="tanh")
    case = [build.case([-1], [1], [[build.atom({0: 1}, -3, {0: Fraction(-9, 10)})]])]
    whole = verdict(nodes, tensors, case, [build.forest([-1], [[build.row(0, {0: 1})]], [[0]])])
    result = verdict(nodes, tensors, case, [kink((Fraction(3, 100), Fraction(32, 1000)))])
    assert whole.accepted and result.accepted
    assert abs(whole.margin - 3 + 0.46) < 0.01 and abs(result.margin - 3 + 0.3416) < 0.001


# --- slopes


def test_slopes_choose_the_lower_line_of_relus() -> None:
    """relu(z) - relu(-z) = z for z = x on [-1, 2]: slopes 1 and 0 lose 2/3 at -1, and so on; any slope is sound."""
    nodes, tensors = dense([[[1, -1]], [[1], [-1]]])
    case = [build.case([-1], [2], [[build.atom({0: 1}, -9)]])]
    for slope in (0, 85, 128, 255):
        tree = build.forest([-1], [[build.row(0, {0: 1}, 0)]], [[0]], [], [[slope, 255 - slope]], [[4, 0], [4, 1]])
        result = verdict(nodes, tensors, case, [tree])
        alpha, chord = Fraction(slope, 255), Fraction(1, 3)  # of relu(-z), above: (2 - z) / 3
        expected = min((alpha + chord) * x - 2 * chord for x in (-1, 2)) + 9
        assert result.accepted and abs(result.margin - expected) < Fraction(1, 2**30)


@pytest.mark.parametrize("table, slope, least", [(-1, 0, 0), (0, 0, 0), (0, 255, 0), (0, 100, 0), (0, 128, 0.1)])
def test_lemmas_improve_bounds_of_neurons(table: int, slope: int, least: float) -> None:
    """relu(z) for z = relu(x) - (x + 5) / 2 + 2.6 on [-1, 1]: z >= 0.1 with slope 1/2, and is unstable by the rule."""
    biases = [np.array([0, 5], np.float32), np.array([2.6], np.float32), np.zeros(1, np.float32)]
    nodes, tensors = dense([[[1, 1]], [[1], [-0.5]], [[1]]], biases)
    tree = build.forest([-1], [[build.row(0, {0: 1}, 1)]], [[0]], [], [[slope], [128, 0]], [[4, 0], [9, 0]],
                        [[9, 0, table, -1]])  # fmt: skip
    result = verdict(nodes, tensors, [build.case([-1], [1], [[build.atom({0: 1}, -9)]])], [tree])
    assert result.accepted and abs(result.margin - 9 - least) < 2e-3


# --- several atoms, several roots


def test_a_conjunction_may_need_several_atoms() -> None:
    """y <= 0 and -y + x <= -1 on x in [-1/2, 1/2] exclude each other, though each alone is possible."""
    nodes = [{"op": "input", "size": 2}, {"op": "relu", "of": [0]}]
    unsafe = [build.atom({}, 0, {0: 1}), build.atom({}, -1, {0: -1, 1: 1})]
    case = [build.case([-2, -HALF], [2, HALF], [unsafe])]
    tree = lambda atoms: [build.forest([-1], [[build.row(0, atoms)]], [[0]])]
    assert verdict(nodes, {}, case, tree({0: 1, 1: 1})).accepted
    for atoms in ({0: 1}, {1: 1}, {0: 1, 1: HALF}, {}):
        assert not verdict(nodes, {}, case, tree(atoms)).accepted, atoms


@pytest.mark.parametrize("strict, atoms, accepted", [
    ((False, False), {0: 1, 1: 1}, False), ((True, False), {0: 1, 1: 1}, True), ((True, False), {0: 0, 1: 1}, False),
])  # fmt: skip
def test_a_bound_of_0_refutes_only_with_a_strict_atom(strict: Any, atoms: Any, accepted: bool) -> None:
    """x <= 0 and -x <= 0 hold at 0; x < 0 and -x <= 0 nowhere."""
    nodes = [{"op": "input", "size": 1}, {"op": "relu", "of": [0]}]
    unsafe = [build.atom({}, 0, {0: 1}, strict=strict[0]), build.atom({}, 0, {0: -1}, strict=strict[1])]
    tree = build.forest([-1], [[build.row(0, atoms)]], [[0]])
    assert verdict(nodes, {}, [build.case([-1], [1], [unsafe])], [tree]).accepted == accepted


def test_disjuncts_have_trees_of_their_own() -> None:
    unsafe = [[build.atom({0: 1}, Fraction(-1, 10))], [build.atom({0: -1}, -3)], [build.atom({0: -1}, -4)]]
    case = [build.case([-1], [1], unsafe)]
    one, two = build.row(1, {0: 1}), build.row(2, {0: 1})
    leaves = [[build.row(0, {0: 1}, 0, [HALF])], [one], [two], [one, two]]
    first = [2, -1, -1]  # with slopes 1/2 both halves have y >= 0 by the same multiplier
    for nodes, roots, good in (
        ([*first, -3, -5], [[0], [1], [2]], True), ([*first, -7], [[0], [1, 2]], True),
        ([-3, -5, *first], [[1], [2], [0]], True), ([*first, -3, -5], [[0], [1, 2]], True),  # refuted one by one
        ([-3, -5, *first], [[0, 1, 2]], True),  # two disjuncts are refuted above the split
        ([*first, -3], [[0], [1]], False), (first, [[0]], False), ([*first, -3, -3], [[0], [1], [2]], False),
        ([*first, -7], [[0], [1], [2]], False), ([*first, -3, -5, -5], [[0], [1], [2]], False),
        ([*first, -3, -5], [[0], [1], [2], [3]], False), ([], [], False), ([*first, -3], [[0], [1, 2]], False),
        ([-7, 2, -1], [[0, 1, 2]], False),
    ):  # fmt: skip
        tree = build.forest(nodes, leaves, roots, [(4, 0, 0)], [[0, 128]], [[4, 0], [4, 1]])
        result = verdict(*ABSOLUTE, case, [tree])
        assert result.accepted == good, (nodes, roots, result.reason)
        assert "could not finish" not in result.reason


# --- the form


def base() -> dict[str, Any]:
    leaves = [[build.row(0, {0: 1}, 0, [0])], [build.row(0, {0: 1}, -1, [1])]]
    tree = build.forest([2, -1, -3], leaves, [[0]], [(4, 0, 0)], [[0, 0]], [[4, 0], [4, 1]], [[4, 0, 0, -1]])
    return build.certificate(*ABSOLUTE, above(Fraction(-1, 10)), {"kind": "tree", "trees": [tree]})


@pytest.mark.parametrize("path, bad", [
    ("bounds", "lemma"), ("leaves.0.0.0", 1), ("leaves.0.0.0", -1), ("leaves.0.0.1.0.0", 1), ("leaves.0.0.1.0.1", -1),
    ("leaves.0.0.2", 1), ("leaves.0.0.2", -2), ("leaves.0.0.3", []), ("leaves.0.0.3", [0, 0]), ("leaves.0.0", [0]),
    ("leaves.0.0.3.0", 0.5), ("leaves.0.0.3.0", True), ("leaves.0", []), ("leaves", []), ("lemmas.0.0", 1),
    ("lemmas.0.0", 99), ("lemmas.0.0", -1), ("lemmas.0.1", 2), ("lemmas.0.2", 1), ("lemmas.0.3", -2), ("nodes", []),
    ("nodes.0", 4), ("nodes.1", -5), ("nodes.1", "x"), ("roots", []), ("roots.0", []), ("roots.0.0", 1),
    ("slopes.0", "!!!!"), ("slopes.0", "AAA"), ("slopes.0", "AAAA"), ("slopes", ["AAA=", 1]),
    ("slots.0.0", 3), ("slots.0.1", -1), ("slots.0.1", 2), ("splits.0.0", 1), ("splits.0.0", 5), ("splits.0.1", 2),
    ("splits.0.2", "0"), ("splits.0", [4, 0]),
])  # fmt: skip
def test_what_does_not_fit_is_rejected_in_words(path: str, bad: Any) -> None:
    payload = base()
    place: Any = payload["proof"]["trees"][0]
    *outer, last = (int(key) if key.isdigit() else key for key in path.split("."))
    for key in outer:
        place = place[key]
    same, place[last] = place[last] == bad, bad
    result = checker.check(build.seal(payload)) if not isinstance(bad, float) else None
    if result is not None:
        assert result.accepted == same, result.reason
        assert same or (result.code == 1 and "could not finish" not in result.reason), result.reason


# --- soundness on random nets, trees and multipliers


def random_forest(rng: np.random.Generator, net: Any, disjuncts: list[int], depth: int) -> dict[str, Any]:
    """Any splits, slopes and multipliers at all, in a tree of the right form."""
    feeding = sorted({0, *net.feeding})
    slots = [[k, j] for k in net.feeding for j in range(net.nodes[k].size)]
    tables = [[int(x) for x in rng.integers(0, 256, int(rng.integers(0, len(slots) + 1)))] for _ in range(3)]
    splits: list[Any] = []
    leaves: list[Any] = []
    number = lambda: int(rng.choice([0, 1, -1, 1 << 20, -(1 << 20), int(rng.normal() * 2**20)]))

    def below(level: int, count: int) -> list[int]:
        if level == 0 or rng.random() < 0.2:
            rows = []
            for d, atoms in enumerate(disjuncts):
                some = rng.permutation(atoms)[: int(rng.integers(0, atoms + 1))]
                terms = {int(k): abs(number()) / 2**20 for k in some}
                terms |= {0: 1} if rng.random() < 0.7 else {}
                rows.append(build.row(d, terms, int(rng.integers(-1, 3)), [number() / 2**20 for _ in range(count)]))
            leaves.append(rows)
            return [~(2 * (len(leaves) - 1) + int(rng.integers(0, 2)))]
        flag = int(rng.integers(0, 2))
        if rng.random() < 0.25:
            token, more = 2 * int(rng.integers(0, net.inputs)), 0
        else:
            k = int(rng.choice(feeding))
            splits.append((k, int(rng.integers(0, net.nodes[k].size)), Fraction(int(rng.integers(-40, 40)), 32)))
            token, more = 2 * (net.inputs + len(splits) - 1), 1
        return [token + flag, *below(level - 1, count + more), *below(level - 1, count + more)]

    nodes = below(depth, 0)
    lemmas = [[*slots[int(rng.integers(0, len(slots)))], *(int(x) for x in rng.integers(-1, 3, 2))] for _ in range(3)]
    roots = [list(range(len(disjuncts)))]
    return build.forest(nodes, leaves, roots, splits, tables, slots, lemmas, str(rng.choice(["crown", "ibp"])))


def sampled(rng: np.random.Generator, lo: Any, hi: Any, count: int = 400) -> np.ndarray:
    parts = np.concatenate([rng.integers(0, 2, (count // 4, len(lo))), rng.random((count, len(lo)))])
    low, high = (np.array([float(x) for x in end]) for end in (lo, hi))
    return low + (high - low) * parts


@examples(120)
@given(seeds, st.sampled_from(["relu", "relu", "relu", "tanh"]))
def test_a_bound_never_exceeds_what_is_sampled(seed: int, activation: str) -> None:
    """With rows of one atom, the least margin is a lower bound of that atom over the whole box, whatever was chosen."""
    rng = np.random.default_rng(seed)
    sizes = [int(x) for x in rng.integers(1, 5, int(rng.integers(2, 4)))] + [2]
    weights = [rng.normal(size=pair).astype(np.float32) for pair in itertools.pairwise(sizes)]
    biases = [rng.normal(size=w.shape[1]).astype(np.float32) for w in weights]
    nodes, tensors = build.dense_program(weights, biases, activation)
    net = checker.load_network(build.model(nodes, tensors), build.tensor_file(tensors))
    net.prepare()
    lo = [Fraction(int(rng.integers(-8, 4)), 8) for _ in range(sizes[0])]
    hi = [x + Fraction(int(rng.integers(1, 9)), 8) for x in lo]
    unsafe = [[build.atom({0: 1}, 0), build.atom({1: 1}, 0)], [build.atom({0: 1, 1: HALF}, 0)]]
    points = sampled(rng, lo, hi)
    values = build.evaluate_many(nodes, tensors, points)[-1]
    sides = np.stack([values[:, 0], values[:, 1], values[:, 0] + values[:, 1] / 2], 1)
    tree = random_forest(rng, net, [2, 1], 3)
    single = [[[d, [[0, 1 << 20]], table, betas] for d, _, table, betas in leaf] for leaf in tree["leaves"]]
    result = verdict(nodes, tensors, [build.case(lo, hi, unsafe)], [tree | {"leaves": single}])
    assert "could not finish" not in result.reason and "internal" not in result.reason, result.reason
    assume("too thin" not in result.reason)  # a half of no width, after a cut just there
    assert result.margin is not None, result.reason
    assert float(result.margin) <= min(sides[:, 0].min(), sides[:, 2].min()) + 1e-6
    # thresholds just above what is attained: the claim is false, so nothing may prove it
    worst = points[np.argmin(np.maximum(sides[:, 0], sides[:, 1]))]
    exact = build.evaluate(nodes, tensors, len(nodes) - 1, [Fraction(float(x)) for x in worst])
    slack = Fraction(1, 10**6)
    tops = [Fraction(float(y)) + slack for y in exact]
    false = [[build.atom({0: 1}, tops[0]), build.atom({1: 1}, tops[1])], [build.atom({0: 1, 1: HALF}, -99)]]
    for garbage in (tree, random_forest(rng, net, [2, 1], 3)):
        result = verdict(nodes, tensors, [build.case(lo, hi, false)], [garbage])
        assert not result.accepted and "internal" not in result.reason
        assert "could not finish" not in result.reason, result.reason
