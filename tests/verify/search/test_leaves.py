"""Linear programs as leaves: their bounds against the nets, their multipliers against the bounds, completeness."""

import itertools
import time
from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jax import lax

from axiom_jax.verification import checker
from axiom_jax.verification.proof.certificate import certificate, describe_property
from axiom_jax.verification.proof.exact import exactly
from axiom_jax.verification.property import Atom, Case, Property
from axiom_jax.verification.search import _leaves_affine
from axiom_jax.verification.search._leaves_affine import Begun, Network, atoms_of
from axiom_jax.verification.search._leaves_bounds import Refutation, evaluate
from axiom_jax.verification.search._leaves_kept import Kept
from axiom_jax.verification.search._leaves_mixed import INFEASIBLE
from axiom_jax.verification.search._leaves_part import solved
from axiom_jax.verification.search._leaves_relaxed import Relaxed
from axiom_jax.verification.search.leaves import LeafSearch, network_of, piecewise_linear, solve
from axiom_jax.verification.search.margins import Subject, pose
from axiom_jax.verification.search.subproblem import Split, Subproblem, clipped
from axiom_jax.verification.search.tree import INPUT

ONE = Fraction(1)
FAR = 3600.0


def draw(seed, *widths):
    generator = np.random.default_rng(seed)
    pairs = itertools.pairwise(widths)
    return [(generator.normal(size=(b, a)).astype(np.float32), generator.normal(size=b).astype(np.float32))
            for a, b in pairs]  # fmt: skip


def network(weights, x):
    for w, b in weights[:-1]:
        x = jax.nn.relu(w @ x + b)
    w, b = weights[-1]
    return w @ x + b


def asked(apply, weights, inputs, disjuncts, bound=1):
    """Disjuncts are lists of (output, threshold): unsafe where y ≤ threshold for all of one."""
    unsafe = tuple(tuple(Atom(((j, ONE),), Fraction(t)) for j, t in atoms) for atoms in disjuncts)
    case = Case((Fraction(-bound),) * inputs, (Fraction(bound),) * inputs, unsafe)
    return pose(Subject(apply, weights, (jax.ShapeDtypeStruct((inputs,), np.float32),)), Property((case,)))


def part_of(question, splits=()):
    net = network_of(question)
    boxes = net.bounds(question.lo[0], question.hi[0])
    return Subproblem(0, question.lo[0], question.hi[0], clipped(boxes, splits), list(splits))


def points_of(question, count=2000, seed=0):
    generator = np.random.default_rng(seed)
    return generator.uniform(question.lo[0], question.hi[0], size=(count, question.lo.shape[1]))


IMAGE = (1, 4, 4, 1)
KERNEL = np.random.default_rng(3).normal(size=(2, 2, 1, 2)).astype(np.float32)
PROGRAMS = {
    "layers": (network, draw(0, 3, 5, 4, 3), 3),
    "convolution and pooling": (
        lambda k, x: lax.reduce_window(
            lax.conv_general_dilated(x.reshape(IMAGE), k, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")),
            -jnp.inf, lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID",
        ).ravel()[:3], KERNEL, 16,
    ),
    "windows and sums": (
        lambda _, x: lax.reduce_window(jnp.abs(x), 0.0, lax.add, (3,), (1,), "SAME") + jnp.cumsum(x) - x[::-1].sum(),
        (), 4,
    ),
    "gathers, gates and scalars": (
        lambda w, x: jnp.where(x[jnp.array([2, 0, 1])] > 0.25, 2.0 * x, w - x / 4) + jnp.clip(x, -0.5, 0.5),
        np.float32(1), 3,
    ),
    "batched products": (
        lambda w, x: jnp.einsum("bij,bj->bi", w, jax.nn.relu(x.reshape(2, 3))).T.ravel() - jnp.sign(x[0]),
        np.random.default_rng(5).normal(size=(2, 4, 3)).astype(np.float32), 6,
    ),
    "residual": (lambda w, x: x + w.T @ jax.nn.relu(w @ x) + jnp.pad(x, (1, 1))[2:],
                 np.random.default_rng(6).normal(size=(4, 3)).astype(np.float32), 3),
}  # fmt: skip


@pytest.mark.parametrize("name", PROGRAMS)
def test_affine_maps_give_the_program(name):
    apply, weights, inputs = PROGRAMS[name]
    question = asked(apply, weights, inputs, [[(0, 0.5)], [(1, 0), (2, 0)]])
    net, points = Network(question), points_of(question, 50)
    columns = net.forward(points)
    y = np.stack([np.asarray(apply(weights, jnp.asarray(x, jnp.float32)), np.float64) for x in points])
    expected = [y[:, 0] - 0.5, y[:, 1], y[:, 2]]
    np.testing.assert_allclose(net.margins(0).at(columns).T[:3], expected, atol=1e-4)


@pytest.mark.parametrize("name", PROGRAMS)
def test_bounds_hold_at_points(name):
    apply, weights, inputs = PROGRAMS[name]
    question = asked(apply, weights, inputs, [[(0, 0)]])
    net, points = Network(question), points_of(question, 300)
    columns = net.forward(points)
    for site, (lo, hi) in net.bounds(question.lo[0], question.hi[0]).items():
        values = net.sites[site].at(columns)
        assert np.all(values >= lo - 1e-9) and np.all(values <= hi + 1e-9)


@pytest.mark.parametrize("name", PROGRAMS)
def test_bounds_that_time_did_not_suffice_for_go_on_where_they_were(name, monkeypatch):
    apply, weights, inputs = PROGRAMS[name]
    question = asked(apply, weights, inputs, [[(0, 0)]])
    net, begun = Network(question), Begun()
    monkeypatch.setattr(_leaves_affine, "BLOCK", 1)
    given, clock, calls = (question.lo[0], question.hi[0]), itertools.count(), 0
    whole = net.bounds(*given)
    monkeypatch.setattr(time, "monotonic", lambda: next(clock) % 2)  # time for one row of each call
    while not net.bound(begun, *given, deadline=1):
        calls += 1
    assert begun.boxes.keys() == whole.keys()
    assert all(np.array_equal(a, b) for k, ends in whole.items() for a, b in zip(ends, begun.boxes[k], strict=True))
    assert calls or all(lo.min() >= 0 or hi.max() <= 0 for lo, hi in list(whole.values())[1:])


def test_a_search_by_linear_programs_keeps_its_time_before_it_has_bounds():
    question = asked(network, draw(3, 4, 40, 40, 2), 4, [[(0, 0)]])
    search = LeafSearch(question)
    begun = time.monotonic()
    assert not search._rooted(0, begun) and search.boxes == 0
    assert search.run(begun + FAR, lambda case, point: True) in ("closed", "unsafe")


@given(st.integers(0, 10**6))
def test_a_leaf_is_no_higher_than_the_net_and_its_multipliers_give_its_bound(seed):
    question = asked(network, draw(seed, 2, 4, 3, 2), 2, [[(0, 0)], [(0, 0), (1, 0.5)]])
    net = network_of(question)
    generator = np.random.default_rng(seed)
    splits = [Split(0, int(k), 0.0, int(s)) for k, s in zip(generator.permutation(4)[:2], generator.choice([-1, 1], 2),
                                                           strict=True)]  # fmt: skip
    part = part_of(question, splits)
    leaf = solve(question, 0, part, time.monotonic() + FAR)
    points = points_of(question)
    columns = net.forward(points)
    inside = np.ones(len(points), bool)
    for site, neuron, at, sign in splits:
        inside &= sign * (net.sites[site].at(columns)[:, neuron] - at) >= 0
    margins = net.margins(0).at(columns[inside])
    worst = np.stack([margins[:, atoms].max(1) for atoms in atoms_of(question, 0)], 1).min(1)
    assert not len(worst) or leaf.bound <= worst.min() + 1e-9
    if leaf.multipliers is not None:
        assert np.all(leaf.multipliers.betas >= 0) and np.all(leaf.multipliers.weights >= 0)
        assert all(np.all((s >= 0) & (s <= 1)) for s in leaf.multipliers.slopes.values())
        assert leaf.multipliers.weights.shape == (2, 3) and leaf.multipliers.betas.shape == (2, 2)


def test_a_settled_leaf_is_its_minimum():
    """All neurons split: the bound is the least value on that polytope, up to rounding."""
    question = asked(network, draw(1, 2, 4, 1), 2, [[(0, 0)]])
    net = network_of(question)
    pattern = np.sign(net.sites[0].at(net.forward(np.array([[0.3, -0.4]])))[0]).astype(int)
    part = part_of(question, [Split(0, k, 0.0, int(s)) for k, s in enumerate(pattern)])
    leaf = solve(question, 0, part, time.monotonic() + FAR)
    assert leaf.exact and leaf.point is not None
    value = net.margins(0).at(net.forward(leaf.point[None]))[0, 0]
    assert abs(leaf.bound - value) < 1e-6
    assert not leaf.scores


def test_a_conjunction_is_refuted_by_a_sum_of_its_atoms():
    """x ≤ −1/4 and −x ≤ −1/4 hold one at a time, never both: no atom alone is refuted anywhere."""
    question = asked(lambda _, x: jnp.concatenate([x, -x]), (), 1, [[(0, -0.25), (1, -0.25)]])
    leaf = solve(question, 0, part_of(question), time.monotonic() + FAR)
    assert leaf.bound == pytest.approx(0.25) and leaf.multipliers is not None
    np.testing.assert_allclose(leaf.multipliers.weights, [[0.5, 0.5]])


def test_an_empty_part_is_shown_by_its_splits_alone():
    """relu(x), relu(x − 1/2) with x ≤ 0 and x − 1/2 ≥ 0: no point, whatever the atom."""
    apply = lambda _, x: jax.nn.relu(x) + jax.nn.relu(x - 0.5) - 9
    question = asked(apply, (), 1, [[(0, 0)]])
    sites = network_of(question).sites
    first = next(k for k, s in enumerate(sites) if s.offset[0] == 0)
    splits = [Split(first, 0, 0.0, -1), Split(1 - first, 0, 0.0, 1)]
    leaf = solve(question, 0, part_of(question, splits), time.monotonic() + FAR)
    assert leaf.bound > 0 and leaf.point is None and leaf.multipliers is not None
    assert np.all(leaf.multipliers.weights == 0) and np.all(leaf.multipliers.betas > 0)


@given(st.integers(0, 10**6))
def test_a_program_that_is_kept_says_of_part_after_part_what_a_fresh_one_says(seed):
    """Wherever the part before lay, the bound is that of the same linear program, and empty parts are shown empty."""
    question = asked(network, draw(seed, 2, 4, 3, 2), 2, [[(0, 0)], [(0, 0), (1, 0.5)]])
    net, whole = network_of(question), part_of(question)
    generator = np.random.default_rng(seed)
    kept = Kept(net, whole, net.margins(0))
    for _ in range(6):
        chosen = generator.permutation(7)[: generator.integers(8)]
        signs = {neuron: int(generator.choice([-1, 1])) for neuron in chosen}
        places = [(0, n) if n < 4 else (1, n - 4) for n in signs]
        splits = [Split(site, int(n), 0.0, s) for (site, n), s in zip(places, signs.values(), strict=True)]
        splits = [s for s in splits if kept.takes([s])]
        part = part_of(question, splits)
        fresh = Relaxed(net, part)
        for disjunct in atoms_of(question, 0):
            again, least = (program[0] for program in (kept.least(splits, disjunct, 60.0),
                                                       fresh.least(net.margins(0), disjunct, 60.0)))  # fmt: skip
            assert again.status == least.status
            assert again.status == INFEASIBLE or again.x[-1] == pytest.approx(least.x[-1], abs=1e-6)
        leaf = solved(net, part, time.monotonic() + FAR, {}, kept)
        if leaf.point is None:
            assert leaf.bound > 0 and all(r is not None and not r.weights.any() for r in leaf.refutations)
        elif len(leaf.refutations) == 2:
            optima = [kept.least(splits, disjunct, 60.0)[0].x[-1] for disjunct in atoms_of(question, 0)]
            bounds = [r.bound for r in leaf.refutations if r]
            assert np.all(np.array(bounds) <= np.array(optima) + 1e-6)  # ends of boxes have no multipliers
            assert not leaf.exact or bounds == pytest.approx(optima, abs=1e-6)


def test_a_program_is_kept_only_for_splits_at_the_bend_of_what_is_open():
    question = asked(network, draw(0, 2, 4, 1), 2, [[(0, 0)]])
    net = network_of(question)
    kept = Kept(net, part_of(question), net.margins(0))
    lo, hi = part_of(question).boxes[0]
    for neuron in range(4):
        assert kept.takes([Split(0, neuron, 0.0, 1)]) == bool(lo[neuron] < 0 < hi[neuron])
        assert not kept.takes([Split(0, neuron, 0.25, 1)])


def test_a_solver_writes_nothing(capfd):
    question = asked(network, draw(0, 2, 4, 1), 2, [[(0, 0)]])
    net = network_of(question)
    Kept(net, part_of(question), net.margins(0)).least([], [0], 10.0)
    assert capfd.readouterr().out == ""


def test_splits_at_values_are_used():
    """z ≥ 1/2 on a neuron that is unstable elsewhere: the bound rises accordingly."""
    question = asked(lambda _, x: jax.nn.relu(x), (), 1, [[(0, 0.25)]])
    part = part_of(question, [Split(0, 0, 0.5, 1)])
    leaf = solve(question, 0, part, time.monotonic() + FAR)
    assert leaf.bound == pytest.approx(0.25) and leaf.exact


def test_what_is_not_piecewise_linear_is_refused():
    question = asked(lambda _, x: jnp.tanh(x), (), 1, [[(0, 0)]])
    assert not piecewise_linear(question)
    with pytest.raises(NotImplementedError, match="not piecewise linear"):
        LeafSearch(question)


def test_time_that_is_out_gives_no_bound():
    question = asked(network, draw(0, 2, 4, 1), 2, [[(0, -100)]])
    search = LeafSearch(question)
    assert search.run(time.monotonic() - 1, lambda *_: False) == "time"
    assert search.worst == -np.inf and search.open == 1
    assert isinstance(search.proof(), str)
    assert search.run(time.monotonic() + FAR, lambda *_: False) == "closed"
    assert search.worst > 0


@pytest.fixture(scope="module")
def closed():
    """A closed search that had to split: a net above a threshold a little below its minimum."""
    weights = draw(2, 2, 8, 6, 1)
    net = Network(asked(network, weights, 2, [[(0, 0)]]))
    grid = np.stack(np.meshgrid(*[np.linspace(-1, 1, 401)] * 2), -1).reshape(-1, 2)
    least = float(net.margins(0).at(net.forward(grid)).min())
    search = LeafSearch(asked(network, weights, 2, [[(0, Fraction(least) - Fraction(1, 10))]]))
    assert search.run(time.monotonic() + FAR, lambda *_: False) == "closed"
    return search


def test_a_closed_tree_covers_and_every_leaf_has_multipliers(closed):
    tree = closed.tree
    leaves = [node for node, _, choice, _ in tree.preorder(0) if choice is not None]
    assert len(leaves) == closed.leaves > 1 and tree.splits_neurons
    for node, split, choice, _ in tree.preorder(0):
        assert (split < 0) == (choice is not None)
        assert choice is None or tree.multipliers[node] is not None


def test_leaves_hold_with_the_splits_on_their_path_alone(closed):
    """After ancestors were closed by what descendants taught: each leaf's multipliers refute from the root's boxes."""
    parts = closed._closed(0)
    assert len(parts) == closed.leaves
    for part in parts:
        kept = closed.tree.multipliers[part.path[-1]]
        assert kept.betas.shape == (1, len(part.sub.splits))
        refutation = Refutation(0.0, kept.weights[0], {s: a[0] for s, a in kept.slopes.items()},
                                kept.betas[0])  # fmt: skip
        assert evaluate(closed.network, part.sub, refutation)[0] > 0


def test_reopened_leaves_are_split_and_closed_again(closed):
    before = closed.leaves
    closed.reopen([(0, 0)])
    assert closed.open >= 1
    assert closed.run(time.monotonic() + FAR, lambda *_: False) == "closed"
    assert closed.leaves > before


def test_the_checker_accepts_a_tree_with_multipliers(closed):
    proof = closed.proof()
    assert isinstance(proof, dict), proof
    exact = exactly(closed.question.subject)
    made = certificate(exact.model, exact.blob, describe_property(closed.question.property), "holds", proof, {})
    assert checker.check(made.to_bytes()).accepted


def test_a_tie_is_found_not_proved():
    """|x| + |y| attains 0 at a corner of four pieces; the closed atom y ≤ 0 is unsafe there."""
    question = asked(lambda _, x: jnp.abs(x).sum(keepdims=True), (), 2, [[(0, 0)]])
    judged = []

    def judge(case, point):
        judged.append(point)
        return bool(np.abs(point).sum() == 0)

    assert LeafSearch(question).run(time.monotonic() + FAR, judge) == "unsafe"
    assert LeafSearch(question).run(time.monotonic() + FAR, lambda *_: False) == "stuck"


@pytest.mark.parametrize("seed", range(2))
def test_the_mixed_integer_points_are_points_of_the_net(seed):
    question = asked(network, draw(seed, 2, 4, 3, 1), 2, [[(0, 0)]])
    net = network_of(question)
    answer = Relaxed(net, part_of(question)).mixed(net.margins(0), [0], 0.0, 30.0).answer(60.0)
    grid = net.margins(0).at(net.forward(points_of(question)))[:, 0]
    assert answer is not None
    status, x = answer
    if x is None:
        assert status == INFEASIBLE and grid.min() > 0
    else:
        assert net.margins(0).at(net.forward(x[None, :2]))[0, 0] <= 1e-4


def test_a_mixed_integer_program_can_be_stopped():
    question = asked(network, draw(0, 2, 4, 3, 1), 2, [[(0, 0)]])
    mixed = Relaxed(network_of(question), part_of(question)).mixed(network_of(question).margins(0), [0], -99.0, 30.0)
    mixed.stop()
    assert mixed.answer() == (-1, None)


def test_jumps_are_cut_out_by_thin_slabs():
    """sign(x) + x ≥ −2, and at 0 anything between −1 and 1 counts."""
    question = asked(lambda _, x: jnp.sign(x) + x, (), 1, [[(0, Fraction(-9, 4))]])
    search = LeafSearch(question)
    assert search.run(time.monotonic() + FAR, lambda *_: False) == "closed"
    question = asked(lambda _, x: jnp.where(x > 0.3, x, 1 - x), (), 1, [[(0, Fraction(1, 4))]])
    search = LeafSearch(question)
    assert search.run(time.monotonic() + FAR, lambda *_: False) == "closed"
    assert any(at != 0 for site, at in zip(search.tree.site, search.tree.at, strict=True) if site != INPUT)
