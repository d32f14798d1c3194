"""Which searches a network gets, and when."""

import time
from fractions import Fraction

import jax
import numpy as np
import pytest

from axiom_jax.verification.property import Atom, Case, Property, robust
from axiom_jax.verification.search.leaves import LeafSearch
from axiom_jax.verification.search.margins import Subject, pose
from axiom_jax.verification.search.portfolio import Portfolio, searches


@pytest.mark.parametrize(
    "inputs, width, first, among",
    [
        (4, 8, "splits of inputs", True),
        (40, 8, "linear programs", True),
        (40, 700, "splits of neurons", True),
        (40, 4000, "splits of neurons", False),  # bounds of one box take minutes there
    ],
)
def test_the_shape_of_a_network_says_what_is_tried_and_what_is_not(inputs, width, first, among):
    zeros = lambda *shape: np.zeros(shape, np.float32)
    weights = [zeros(width, inputs), zeros(width, width), zeros(width, width), zeros(2, width)]

    def network(weights, x):
        for w in weights[:-1]:
            x = jax.nn.relu(w @ x)
        return weights[-1] @ x

    subject = Subject(network, weights, (jax.ShapeDtypeStruct((inputs,), np.float32),))
    names = [name for name, _ in searches(pose(subject, robust([0.5] * inputs, 0, 2, "0.1"))).waiting]
    assert names[0] == first
    assert ("splits of inputs" in names) == among


def posed(threshold):
    """relu(x1) + relu(−x1) + x2 over [-1, 1]², unsafe where it is no more than a threshold."""
    network = lambda w, x: jax.nn.relu(w @ x)[:2].sum(keepdims=True) + x[1]
    subject = Subject(network, np.array([[1, 0], [-1, 0]], np.float32), (jax.ShapeDtypeStruct((2,), np.float32),))
    unsafe = ((Atom(((0, Fraction(1)),), Fraction(threshold)),),)
    return pose(subject, Property((Case((Fraction(-1),) * 2, (Fraction(1),) * 2, unsafe),), "at least"))


def test_no_second_search_is_made_before_the_first_had_its_turn():
    made = []
    question = posed(-2)
    first = ("first", lambda: made.append("first") or LeafSearch(question))
    second = ("second", lambda: made.append("second") or LeafSearch(question))
    portfolio = Portfolio(question, [first, second], patience=60.0)
    assert portfolio.run(time.monotonic() + 60, lambda case, point: False) == "closed"
    assert made == ["first"]


def test_a_search_whose_patience_is_over_leaves_the_next_turn_to_another():
    made, question = [], posed("-1.001")

    class Slow(LeafSearch):
        """Stops at its first deadline, and is stuck afterwards."""

        def run(self, deadline, judge, progress=None):
            made.append("slow")
            return "time" if len(made) == 1 else "stuck"

    makers = [("slow", lambda: Slow(question)), ("refuses", refuses), ("last", lambda: LeafSearch(question))]
    portfolio = Portfolio(question, makers, patience=0.01)
    assert portfolio.run(time.monotonic() + 60, lambda case, point: False) == "closed"
    assert portfolio.refused == ["refuses: too wide"] and made[0] == "slow"
    assert [name for name, _ in portfolio.searches] == ["slow", "last"]


def refuses():
    raise NotImplementedError("too wide")
