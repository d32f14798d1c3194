"""Splits of neurons: against exhaustive enumeration, sampling, and the checker."""

import itertools
import time
from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import linprog

from axiom_jax.verification import checker
from axiom_jax.verification.proof.certificate import certificate, describe_property
from axiom_jax.verification.proof.exact import exactly
from axiom_jax.verification.property import Atom, Case, Property
from axiom_jax.verification.search.frontier import cut, graft, grown, parents_of
from axiom_jax.verification.search.margins import Subject, pose
from axiom_jax.verification.search.neuron_parts import Open
from axiom_jax.verification.search.neuron_splits import NeuronSearch
from axiom_jax.verification.search.optimised import optimise
from axiom_jax.verification.search.root_bounds import Begun, stages
from axiom_jax.verification.search.subproblem import LOWER, UPPER, Split, Subproblem, clipped

INPUTS, HIDDEN, OUTPUTS = 2, (4, 3), 2
SPECS = (jax.ShapeDtypeStruct((INPUTS,), np.float32),)


def network(params, x):
    for w, b in params[:-1]:
        x = jax.nn.relu(x @ w + b)
    w, b = params[-1]
    return x @ w + b


def curved(_, x):
    y = jnp.tanh(2 * x)
    return jnp.stack([y[0] * x[1] + jax.nn.relu(x[0]), y[1] * y[1] - x[0]])


def draw(seed):
    normal = np.random.default_rng(seed).normal
    sizes = (INPUTS, *HIDDEN, OUTPUTS)
    return tuple(
        (normal(size=(m, n)).astype(np.float32), normal(size=n).astype(np.float32) / 2)
        for m, n in itertools.pairwise(sizes)
    )


def least(params, row):
    """The exact minimum of row · y over the square, by a linear program for every pattern of signs."""
    best = np.inf
    for signs in itertools.product((0, 1), repeat=sum(HIDDEN)):
        matrix, offset, constraints = np.eye(INPUTS), np.zeros(INPUTS), []
        left = list(signs)
        for w, b in params[:-1]:
            matrix, offset = w.T.astype(float) @ matrix, w.T.astype(float) @ offset + b
            on = np.array([left.pop(0) for _ in b])
            constraints += [(-m, o) if s else (m, -o) for m, o, s in zip(matrix, offset, on, strict=True)]
            matrix, offset = matrix * on[:, None], offset * on
        w, b = params[-1]
        matrix, offset = w.T.astype(float) @ matrix, w.T.astype(float) @ offset + b
        a, most = np.array([c[0] for c in constraints]), np.array([c[1] for c in constraints])
        found = linprog(row @ matrix, A_ub=a, b_ub=most, bounds=[(-1, 1)] * INPUTS)
        if found.status == 0:
            best = min(best, found.fun + row @ offset)
    return best


def unsafe_below(*thresholds):
    """Unsafe: some y_k ≤ its threshold; a disjunct each."""
    disjuncts = tuple((Atom(((k, Fraction(1)),), Fraction(float(t))),) for k, t in enumerate(thresholds))
    return Property((Case((Fraction(-1),) * INPUTS, (Fraction(1),) * INPUTS, disjuncts),), "small outputs")


def searched(apply, params, prop, judge=lambda case, point: False):
    search = NeuronSearch(pose(Subject(apply, params, SPECS), prop))
    return search, search.run(time.monotonic() + 600, judge)


def judged(search, prop):
    """What the checker says of the proof."""
    proof, exact = search.proof(), exactly(search.question.subject)
    assert isinstance(proof, dict), proof
    written = certificate(exact.model, exact.blob, describe_property(prop), "holds", proof, {})
    return checker.check(written.to_bytes())


def part(search, splits):
    assert search._rooted({0}, time.monotonic() + 600)
    return search._batch([Open(0, 0, -np.inf, tuple(splits), None, None, 1e-6)], search.width)


def random_splits(search, seed, count):
    """Splits somewhere inside the boxes of neurons."""
    generator = np.random.default_rng(seed)
    assert search._rooted({0}, time.monotonic() + 600)
    (boxes,) = search.bounds
    found = []
    for _ in range(count):
        site = int(generator.integers(len(boxes)))
        lo, hi = boxes[site]
        neuron = int(generator.integers(lo.size))
        relu = search.layout.plan.varying[search.layout.lined[min(site, len(search.layout.lined) - 1)]].name == "max"
        at = 0.0 if relu else float(generator.uniform(lo.flat[neuron], hi.flat[neuron]))
        found.append(Split(site, neuron, at, int(generator.choice([LOWER, UPPER]))))
    return found


def inside(search, splits, points):
    """Which points satisfy all splits, by running the lowered program."""
    plan, question = search.layout.plan, search.question

    def sites(x):
        env = plan.program.environment(question.values) | {plan.program.inputs[0]: x}
        for eqn in plan.program.equations:
            env.update(zip(eqn.outputs, eqn.evaluate(*(env[v] for v in eqn.inputs)), strict=True))
        return [env[v].reshape(-1) for v in plan.sites], env[plan.program.outputs[0]]

    values, margins = jax.vmap(sites)(points)
    keep = np.ones(len(points), bool)
    for site, neuron, at, sign in splits:
        keep &= sign * (np.asarray(values[site])[:, neuron] - at) >= 0
    return keep, np.asarray(margins)


@pytest.mark.sweep(2)
@pytest.mark.parametrize("seed", range(2))
def test_verdicts_agree_with_all_sign_patterns(seed):
    params = draw(seed)
    rows = np.eye(OUTPUTS)
    lowest = [least(params, row) for row in rows]
    search, outcome = searched(network, params, unsafe_below(*(m - 0.02 for m in lowest)))
    assert outcome == "closed" and search.open == 0 and 0 < search.worst <= 0.02 + 1e-4
    assert search.leaves == sum(choice is not None for choice in search.tree.choice)
    found = []

    def judge(case, point):
        found.append(np.asarray(network(params, point)))
        return bool((found[-1] <= np.add(lowest, [0.02, -9])).any())

    search, outcome = searched(network, params, unsafe_below(lowest[0] + 0.02, lowest[1] - 9), judge)
    assert outcome == "unsafe" and found[-1][0] <= lowest[0] + 0.02


@pytest.mark.sweep(2)
@pytest.mark.parametrize(("apply", "params"), [(network, draw(5)), (curved, ())], ids=["relu", "curved"])
def test_bounds_of_parts_hold_at_samples_and_steps_only_help(apply, params):
    search = NeuronSearch(pose(Subject(apply, params, SPECS), unsafe_below(0, 0)))
    points = np.random.default_rng(0).uniform(-1, 1, (4000, INPUTS)).astype(np.float32)
    never, seen = np.full(search.width, np.inf, np.float32), 0
    for seed in range(6):
        splits = random_splits(search, seed, 1 + seed % 3)
        kept, margins = inside(search, splits, points)
        question, batch = search.question, part(search, splits)
        bounds = [
            optimise(search.layout, question.values, question.spec, batch, steps, never).value[0, 0]
            for steps in (0, 4, 25)
        ]
        assert bounds == sorted(bounds)
        if kept.any():
            seen += 1
            assert bounds[-1] <= margins[kept, 0].min() + 1e-4
    assert seen >= 3


def test_the_checker_accepts_the_trees(tmp_path):
    params = draw(1)
    prop = unsafe_below(*(least(params, row) - 0.02 for row in np.eye(OUTPUTS)))
    search, outcome = searched(network, params, prop)
    assert outcome == "closed" and search.tree.splits_neurons
    assert judged(search, prop).accepted
    ordinal = search.leaves - 1
    search.reopen([(0, ordinal)])  # a leaf may be refused: it is taken up again
    assert search.open == 1 and search.run(time.monotonic() + 600, lambda case, point: False) == "closed"


def test_what_the_first_bounds_settle_waits_for_no_program():
    params = draw(1)
    lowest = [least(params, row) for row in np.eye(OUTPUTS)]
    prop = unsafe_below(lowest[0] - 2, lowest[1] - 3)
    search, outcome = searched(network, params, prop)
    assert outcome == "closed" and search.boxes == 0 and search.fresh and search.leaves == OUTPUTS
    assert 0 < search.worst <= 2 + 1e-4 and search.plain == {0}
    verdict = judged(search, prop)
    assert verdict.accepted, verdict.reason


def test_another_search_goes_on_from_the_tree():
    params = draw(1)
    prop = unsafe_below(*(least(params, row) - 0.02 for row in np.eye(OUTPUTS)))
    question = pose(Subject(network, params, SPECS), prop)
    search, again = NeuronSearch(question), NeuronSearch(question)

    def interrupt(s):
        if s.open > 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        search.run(time.monotonic() + 600, lambda case, point: False, interrupt)
    tree, left = cut(search.record, parents_of(search.record), [part.node for part in search.pool])
    again.resume(tree)  # what is closed there is someone else's
    assert again.open == search.open == len(left)
    assert again.run(time.monotonic() + 600, lambda case, point: False) == "closed"
    for node, here in zip([part.node for part in search.pool], left, strict=True):
        assert graft(search.record, node, grown(again.record, here), {}) == []
    whole = NeuronSearch(question)
    whole.resume(search.record)
    assert whole.run(time.monotonic() + 600, lambda case, point: False) == "closed" and whole.boxes == 0
    verdict = judged(whole, prop)
    assert verdict.accepted, verdict.reason


@pytest.mark.campaign
def test_a_curved_program_is_decided_by_splitting_values():
    grid = np.stack(np.meshgrid(*[np.linspace(-1, 1, 101)] * 2), -1).reshape(-1, 2).astype(np.float32)
    lowest = np.asarray(jax.vmap(lambda x: curved((), x))(grid)).min(0)
    search, outcome = searched(curved, (), unsafe_below(*(lowest - 0.1)))
    assert outcome == "closed" and search.tree.splits_neurons


def test_time_is_kept_and_the_search_goes_on():
    params = draw(1)
    search = NeuronSearch(pose(Subject(network, params, SPECS), unsafe_below(least(params, np.eye(2)[0]) - 0.02, -99)))
    assert search.run(time.monotonic() - 1, lambda case, point: False) == "time"
    assert search.open == 2 and search.worst == -np.inf
    assert search.run(time.monotonic() + 600, lambda case, point: False) == "closed"


def test_bounds_of_a_root_go_on_where_time_was_out(monkeypatch):
    question = pose(Subject(network, draw(1), SPECS), unsafe_below(0, 0))
    whole, begun, turns = Begun(), Begun(), 0
    for _ in stages(question, 0, whole, np.inf):
        pass
    clock = itertools.count()
    monkeypatch.setattr(time, "monotonic", lambda: next(clock))
    while begun.judged != whole.judged:
        turns += 1
        deadline = next(clock) + 10 * turns  # looks at the clock
        for _ in stages(question, 0, begun, deadline):
            if next(clock) > deadline:
                break
        assert turns < 100
    assert turns > 1 and begun.finished == whole.finished and begun.improved
    for v, box in whole.boxes.items():
        np.testing.assert_allclose(begun.boxes[v].lo, box.lo, atol=1e-5)
        np.testing.assert_allclose(begun.boxes[v].hi, box.hi, atol=1e-5)


def test_splits_clip_boxes_and_say_where_nothing_is_left():
    boxes = {0: (np.array([-1.0, -1.0]), np.array([2.0, 2.0]))}
    lower = clipped(boxes, [Split(0, 1, 0.5, LOWER)])
    assert lower[0][1].tolist() == [2.0, 0.5] and boxes[0][1].tolist() == [2.0, 2.0]
    both = [Split(0, 1, 0.5, LOWER), Split(0, 1, 1.0, UPPER)]
    ends = np.zeros(1), np.ones(1)
    assert Subproblem(0, *ends, clipped(boxes, both), both).empty
    assert not Subproblem(0, *ends, lower, both[:1]).empty
