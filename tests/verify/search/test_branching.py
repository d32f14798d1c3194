"""Which neuron is split: only open ones, those that matter, with bounds of the parts that hold."""

import time
from fractions import Fraction

import jax
import numpy as np

from axiom_jax.verification.property import Atom, Case, Property
from axiom_jax.verification.search import branching
from axiom_jax.verification.search.branching import candidates
from axiom_jax.verification.search.margins import Subject, pose
from axiom_jax.verification.search.neuron_parts import Open, multiplications
from axiom_jax.verification.search.neuron_splits import NeuronSearch
from axiom_jax.verification.search.optimised import optimise, split_bounds

SPECS = (jax.ShapeDtypeStruct((2,), np.float32),)
WEIGHTS = np.array([[1.0, 1.0, 0.5, 1.0], [-1.0, 1.0, 0.5, 1.0]], np.float32)
OFFSETS = np.array([0.0, 0.0, 5.0, 0.1], np.float32)  # the third neuron is always on
READ = np.array([-2.0, -0.1, 1.0, 0.0], np.float32)  # the fourth one is not read


def network(params, x):
    w, b, read = params
    return (jax.nn.relu(x @ w + b) @ read)[None]


def bounded(steps=10):
    atom = Atom(((0, Fraction(1)),), Fraction(0))
    prop = Property((Case((Fraction(-1),) * 2, (Fraction(1),) * 2, ((atom,),)),), "positive")
    search = NeuronSearch(pose(Subject(network, (WEIGHTS, OFFSETS, READ), SPECS), prop))
    assert search._rooted({0}, time.monotonic() + 600)
    batch = search._batch([Open(0, 0, -np.inf, (), None, None, 1e-6)], 1)
    question = search.question
    given = search.layout, question.values, question.spec, batch
    return given, optimise(*given, steps, np.full(1, np.inf, np.float32))


def test_candidates_are_open_neurons_and_the_costliest_comes_first():
    given, found = bounded()
    neuron, at, unit = (np.asarray(a)[0] for a in candidates(*given, found.weights, found.worst, 4))
    assert neuron[0] == 0 and at[0] == 0  # its chord costs 20 times that of the second one
    assert set(neuron[neuron >= 0]) <= {0, 1, 3} and (neuron == -1).any()
    assert unit[0] == 2.0


def test_bounds_of_both_parts_hold_and_meet_at_the_whole():
    given, found = bounded()
    count = np.zeros(1, int)
    bound, multiplier = split_bounds(*given, found.weights, count, np.zeros(1, np.float32))
    points = np.random.default_rng(0).uniform(-1, 1, (2000, 2)).astype(np.float32)
    value = np.asarray(jax.vmap(lambda x: network((WEIGHTS, OFFSETS, READ), x)[0])(points))
    z = points @ WEIGHTS[:, 0]
    assert bound[0, 0] <= value[z <= 0].min() + 1e-4 and bound[0, 1] <= value[z >= 0].min() + 1e-4
    whole = float(found.value[0, 0])
    assert bound[0, 0] > whole + 0.1 and bound[0, 1] > whole - 1e-4  # in the lower part the chord is gone
    assert np.isfinite(np.asarray(multiplier)).all()


def test_multiplications_count_products_and_convolutions():
    given, _ = bounded(0)
    assert multiplications(given[0].plan) == 2 * 4 + 4 + 1
    image = (jax.ShapeDtypeStruct((1, 1, 4, 4), np.float32),)
    kernel = np.ones((3, 1, 2, 2), np.float32)
    convolve = lambda w, x: jax.lax.conv(x, w, (1, 1), "VALID")
    atom = Atom(((0, Fraction(1)),), Fraction(0))
    prop = Property((Case((Fraction(0),) * 16, (Fraction(1),) * 16, ((atom,),)),), "")
    plan = pose(Subject(convolve, kernel, image), prop).plan
    assert multiplications(plan) == 3 * 9 * 4 + 27


def test_candidates_of_products_are_the_same_for_a_few_subproblems_at_once(monkeypatch):
    """Derivatives of all bounds are taken for as many subproblems as memory is meant for."""
    atom = Atom(((0, Fraction(1)),), Fraction(0))
    prop = Property((Case((Fraction(-1),) * 2, (Fraction(1),) * 2, ((atom,),)),), "")
    product = lambda w, x: (jax.nn.relu(x @ w) * (x @ w)[::-1]).sum(keepdims=True)
    search = NeuronSearch(pose(Subject(product, WEIGHTS, SPECS), prop))
    assert branching._multiplied(search.layout)
    assert search._rooted({0}, time.monotonic() + 600)
    one = Open(0, 0, -np.inf, (), None, None, 1e-6)

    def chosen(width):
        given = search.layout, search.question.values, search.question.spec, search._batch([one], width)
        found = optimise(*given, 5, np.full(width, np.inf, np.float32))
        return [np.asarray(a)[:4] for a in candidates(*given, found.weights, found.worst, 4)]

    every = chosen(4)
    monkeypatch.setattr(branching, "NEURONS", 2 * search.layout.neurons)
    for a, b in zip(every, chosen(8), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5)
