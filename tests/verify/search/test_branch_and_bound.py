"""Input splits: what is cut off and closed is safe, trees cover their region, and their proofs are accepted."""

import itertools
import time
from fractions import Fraction
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from axiom_jax.verification import checker
from axiom_jax.verification.proof.certificate import certificate, describe_property
from axiom_jax.verification.proof.exact import exactly
from axiom_jax.verification.property import Atom, Case, Property
from axiom_jax.verification.search.bounding import Bounding, bounding
from axiom_jax.verification.search.branch_and_bound import Search
from axiom_jax.verification.search.chain import chain_of
from axiom_jax.verification.search.device_pool import DeviceSearch
from axiom_jax.verification.search.frontier import open_nodes
from axiom_jax.verification.search.margins import Subject, pose, with_atoms
from axiom_jax.verification.search.tree import Tree

SPECS = (jax.ShapeDtypeStruct((1, 3), np.float32),)
NOBODY = lambda case, point: False


def net(params, x):
    for w, b in params[:-1]:
        x = jax.nn.relu(x @ w + b)
    w, b = params[-1]
    return x @ w + b


def draw(seed, sizes=(3, 8, 6, 3)):
    rng = np.random.default_rng(seed)
    return [(rng.normal(size=(m, n)).astype(np.float32) / np.sqrt(m).astype(np.float32),
             0.3 * rng.normal(size=n).astype(np.float32)) for m, n in itertools.pairwise(sizes)]  # fmt: skip


def asked(seed, shift=0.3, curved=False):
    """Output 0 shall not be below both others by more than it is somewhere: two atoms; and one alone."""
    params = draw(seed, (3, 6, 3)) if curved else draw(seed)
    apply = (lambda p, x: jnp.tanh(net(p, x))) if curved else net
    points = np.random.default_rng(1).uniform(-1, 1, (4000, 3)).astype(np.float32)
    y = np.asarray(apply(params, points))
    worst = float((np.maximum(y[:, 0] - y[:, 1], y[:, 0] - y[:, 2])).min())
    bound = Fraction(worst - shift).limit_denominator(10**4)
    low = float(y[:, 0].min())
    pair = tuple(Atom(((0, Fraction(1)), (j, Fraction(-1))), bound) for j in (1, 2))
    alone = (Atom(((0, Fraction(1)),), Fraction(low - shift).limit_denominator(10**4)),)
    case = Case((Fraction(-1),) * 3, (Fraction(1),) * 3, (pair, alone))
    return pose(Subject(apply, params, SPECS), Property((case,), "large enough"))


def boxes_of(rng, count):
    lo = rng.uniform(-1, 0.8, (count, 3))
    return lo, np.minimum(lo + rng.uniform(0.01, 0.7, (count, 3)), 1.0)


def call(how: Bounding, lo, hi, rows=1 << 30):
    sites = np.broadcast_to(np.array([-np.inf, np.inf], np.float32)[None, :, None], (len(lo), 2, how.neurons))
    return how(np.zeros(len(lo), int), lo, hi, len(lo), sites, rows, 1e-6)


def margins_at(question, points):
    given_ = with_atoms(question.values, question.slots, question.spec, 0)
    return np.asarray(jax.vmap(lambda x: question.program.evaluate(given_, x)[0])(points.astype(np.float32)))


@pytest.mark.slow
def test_a_chain_is_bounded_as_the_passes_written_out():
    question = asked(3)
    loops = bounding(question)
    assert loops.chain is not None and chain_of(asked(3, curved=True)) is None  # tanh
    lo, hi = boxes_of(np.random.default_rng(0), 16)
    a, b = call(loops, lo, hi), call(Bounding(question, None, sum(v.size for v in question.plan.sites)), lo, hi)
    for part in ("value", "low", "high", "rest"):
        np.testing.assert_allclose(getattr(a, part), getattr(b, part), atol=2e-4, err_msg=part)
    assert (a.unstable == b.unstable).all()


@pytest.mark.slow
def test_scores_say_which_halving_helps():
    _, how = made(False)
    lo, hi = boxes_of(np.random.default_rng(4), 16)
    score, row, reached = call(how, lo, hi).score, np.arange(16), []
    for split in (score.argmax(1), score.argmin(1)):
        halves = []
        for upper in (False, True):
            low, high = lo.copy(), hi.copy()
            (low if upper else high)[row, split] = (lo[row, split] + hi[row, split]) / 2
            halves.append(call(how, low, high).value)
        reached.append(np.minimum(*halves).mean())
    assert reached[0] > reached[1]


@cache
def made(curved):
    question = asked(5, curved=curved)
    return question, bounding(question)


@pytest.mark.parametrize("curved", [pytest.param(False, marks=pytest.mark.slow), True])
@settings(max_examples=3, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_what_bounds_say_holds_at_points(curved, seed):
    """Values, bounds of neurons with few rows, and every region that is cut off."""
    question, how = made(curved)
    rng = np.random.default_rng(seed)
    lo, hi = boxes_of(rng, 16)
    for rows in (1 << 30,) if curved else (1 << 30, 2):
        found = call(how, lo, hi, rows)
        for k in range(16):
            fraction = rng.uniform(0, 1, (120, 3))
            points = lo[k] + fraction * (hi[k] - lo[k])
            margins = margins_at(question, points)
            value = np.asarray([question.spec.value(jnp.asarray(m), 0) for m in margins[:40]])
            assert (value >= found.value[k] - 1e-5).all()
            for clip in range(found.low.shape[1]):
                for upper, ends in enumerate((found.low[k, clip], found.high[k, clip])):
                    for i in range(3):
                        off = fraction[:, i] > ends[i] if upper else fraction[:, i] < ends[i]
                        inside = np.ones(120, bool)
                        if clip:
                            low, high = found.low[k, clip - 1], found.high[k, clip - 1]
                            inside = ((fraction >= low) & (fraction <= high)).all(1)
                        atoms = found.cut[k, clip, upper, i]
                        assert (margins[off & inside][:, atoms] > 0).all()
            left = ((fraction >= found.low[k, -1]) & (fraction <= found.high[k, -1])).all(1)
            chosen = margins[left][:, found.rest_choice[k]].min(1)
            assert (chosen >= found.rest[k] - 1e-5).all()


def accepted(question, proof):
    exact = exactly(question.subject)
    made = certificate(exact.model, exact.blob, describe_property(question.property), "holds", proof, {})
    return checker.check(made.to_bytes())


@pytest.mark.sweep(3)
@pytest.mark.parametrize("make", [
    lambda q: Search(q, width=16), lambda q: Search(q, width=16, clip=True), lambda q: DeviceSearch(q, width=16),
], ids=["halved", "cut", "on the device"])  # fmt: skip
def test_proofs_of_all_pools_are_accepted(make):
    question = asked(3)
    search = make(question)
    assert search.run(time.monotonic() + 60, NOBODY) == "closed"
    assert search.open == 0 and search.worst > 0 and search.record.leaves > 4
    proof = search.proof()
    assert isinstance(proof, dict), proof
    verdict = accepted(question, proof)
    assert verdict.accepted, verdict.reason


def test_cutting_takes_fewer_boxes():
    question, counts = asked(11, shift=0.15), []
    for clip in (False, True):
        search = Search(question, clip=clip, width=16)
        assert search.run(time.monotonic() + 60, NOBODY) == "closed"
        counts.append(search.boxes)
    assert counts[1] <= counts[0]


def cramped(question):
    """A search whose pool on the device has room for ten boxes."""
    search = DeviceSearch(question, width=4, rounds=2)
    search.pool = jax.tree.map(lambda a: a if a.ndim == 0 else a[:10], search.pool)
    return search


@pytest.mark.sweep(2)
@pytest.mark.parametrize("make", [lambda q: Search(q, width=16, clip=True), cramped], ids=["host", "device"])
def test_an_open_search_covers_its_region_and_goes_on_from_its_tree(make):
    question = asked(3, shift=0.2)
    search = make(question)

    def interrupt(s):
        if s.open:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        search.run(time.monotonic() + 60, NOBODY, interrupt)
    left = open_nodes(search.record, question.lo, question.hi)
    assert len(left) == search.open > 0
    again = Search(question, width=16)
    again.resume(search.record)
    assert again.open == search.open
    assert again.run(time.monotonic() + 60, NOBODY) == "closed"
    verdict = accepted(question, again.proof())
    assert verdict.accepted, verdict.reason


def test_an_unsafe_region_ends_with_a_judged_point_on_either_pool():
    question = asked(3, shift=-0.05)
    judged = []

    def judge(case, point):
        judged.append(point)
        return bool(question.spec.value(jnp.asarray(margins_at(question, np.asarray(point)[None])[0]), case) <= 0)

    for search in (Search(question, width=16), DeviceSearch(question, width=16)):
        assert search.run(time.monotonic() + 60, judge) == "unsafe"
    assert judged


@pytest.mark.slow
def test_a_full_device_pool_spills_to_the_host_and_still_closes():
    question = asked(3, shift=0.2)
    search = cramped(question)
    assert search.run(time.monotonic() + 60, NOBODY) == "closed"
    assert accepted(question, search.proof()).accepted


def test_no_time_is_no_answer_and_nothing_is_lost():
    search = Search(asked(3), width=16)
    assert search.run(time.monotonic() - 1, NOBODY) == "time"
    assert search.open == 1 and -np.inf < search.worst <= 0  # one bound takes no compilation
    tree = Tree(1)
    tree.close(0, (0, 1))
    search.resume(tree)
    assert search.run(time.monotonic() + 60, NOBODY) == "closed"
