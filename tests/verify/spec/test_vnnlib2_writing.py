"""Properties of certificates as VNN-LIB 2.0: what is written is read back, and means the same at every point."""

import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from axiom_jax.verification.proof.certificate import describe_property
from axiom_jax.verification.spec.vnnlib2 import parse_query
from axiom_jax.verification.spec.vnnlib2_writing import output_size, property_text

sys.path.insert(0, str(Path(__file__).parents[1]))
import checker_builder as build


def number(rng):
    return Fraction(int(rng.integers(-9, 10)), int(rng.integers(1, 13)))


def random_case(rng):
    """A box of three inputs, and up to two disjuncts of up to two atoms with at least one output each."""
    ends = [sorted((number(rng), number(rng))) for _ in range(3)]
    pick = lambda least: {int(i): number(rng) or Fraction(1) for i in rng.integers(0, 3, rng.integers(least, 3))}
    atom = lambda: build.atom(pick(1), number(rng), pick(0), bool(rng.integers(2)))
    unsafe = [[atom() for _ in range(rng.integers(1, 3))] for _ in range(rng.integers(1, 3))]
    return build.case([lo for lo, _ in ends], [hi for _, hi in ends], unsafe)


def unsafe(cases, point, outputs):
    """Whether a point is in the exact box of a case, and unsafe there."""
    inside = lambda box: all(Fraction(lo) <= x <= Fraction(hi) for lo, x, hi in zip(box["lo"], point, box["hi"],
                                                                                   strict=True))  # fmt: skip
    return any(inside(case["exact"]) and build.unsafe_at(case, point, outputs) for case in cases)


@pytest.mark.parametrize("seed", range(6))
def test_the_text_means_what_the_certificate_says(seed):
    rng = np.random.default_rng(seed)
    answers = [answer for _ in range(5) for answer in compared(rng)]
    assert {*answers} == {True, False}


def compared(rng):
    """What random cases say at random points, after their text was read and said the same."""
    cases = [random_case(rng) for _ in range(rng.integers(1, 4))]
    query = parse_query(property_text(cases, 3))
    assert query.places == (0, 1, 2) and not query.products
    again = describe_property(query.property)["cases"]
    if len(cases) == 1:
        assert again[0]["exact"] == cases[0]["exact"] and again[0]["float32"] == cases[0]["float32"]
    for case in (*cases, *again):
        for _ in range(20):
            corner = [Fraction(ends[rng.integers(2)]) for ends in zip(*case["exact"].values(), strict=True)]
            outputs = [number(rng) for _ in range(3)]
            assert unsafe(cases, corner, outputs) == unsafe(again, corner, outputs)
            yield unsafe(cases, corner, outputs)


@pytest.mark.parametrize("seed", range(12))
def test_outputs_are_counted_as_the_checker_counts_them(seed):
    nodes, tensors = build.random_program(np.random.default_rng(seed))[:2]
    described = build.model(nodes, tensors)
    network = build.load_checker().load_network(described, build.tensor_file(tensors))
    assert output_size(described) == network.outputs


def test_an_unknown_operation_has_no_size():
    described = build.model([{"op": "input", "size": 2}, {"op": "fold", "of": [0]}], {})
    assert output_size(described) is None
