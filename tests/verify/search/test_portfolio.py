"""Which searches a network gets."""

import jax
import numpy as np
import pytest

from axiom_jax.verification.property import robust
from axiom_jax.verification.search.margins import Subject, pose
from axiom_jax.verification.search.portfolio import searches


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
