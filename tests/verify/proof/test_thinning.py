"""Trees with fewer bounded nodes: the checker accepts them still, and what cannot be asked stays as it is."""

import json
import tempfile
from fractions import Fraction
from pathlib import Path

import jax
import numpy as np
import pytest

from axiom_jax.verification import checker, fast_check
from axiom_jax.verification.proof.thinning import thinned
from axiom_jax.verification.property import Atom, Case, Property
from axiom_jax.verification.search.decide import decide
from axiom_jax.verification.search.margins import Subject
from axiom_jax.verification.verdict import Claimed, Proved


def bounded(proof):
    return sum(max(token, ~token) & 1 for tree in proof["trees"] for token in tree["nodes"])


def network(params, x):
    for w in params[:-1]:
        x = jax.nn.relu(x @ w)
    return x @ params[-1]


@pytest.fixture(scope="module")
def question():
    """A net whose least output over the box lies little above the threshold: some dozens of leaves."""
    generator = np.random.default_rng(5)
    weights = [generator.normal(size=s).astype(np.float32) / 2 for s in ((2, 8), (8, 8), (8, 1))]
    subject = Subject(network, weights, (jax.ShapeDtypeStruct((2,), np.float32),))
    grid = np.stack(np.meshgrid(*[np.linspace(-1, 1, 201, dtype=np.float32)] * 2), -1).reshape(-1, 2)
    least = float(np.asarray(jax.vmap(lambda x: network(weights, x))(grid)).min())
    atom = Atom(((0, Fraction(1)),), Fraction(least) - Fraction(1, 30))
    return subject, Property((Case((Fraction(-1),) * 2, (Fraction(1),) * 2, ((atom,),)),), "the least output")


def test_a_proof_is_thinned_and_accepted(question):
    with tempfile.TemporaryDirectory() as folder:
        whole, thin = Path(folder, "whole"), Path(folder, "thin")
        assert isinstance(decide(*question, check=False, certificate_path=whole).verdict, Claimed)
        decision = decide(*question, certificate_path=thin)
        assert isinstance(decision.verdict, Proved) and checker.check(thin.read_bytes()).accepted
        proofs = [json.loads(path.read_bytes())["payload"]["proof"] for path in (whole, thin)]
    assert len(proofs[0]["trees"][0]["nodes"]) > 20
    assert bounded(proofs[1]) < 0.7 * bounded(proofs[0])


def test_leaves_that_fail_are_bounded_again():
    row = [[0, [[0, 1]], -1, []]]
    tree = {"nodes": [1, 3, -2, -2, 3, -2, 5, -2, 1, -2, -2], "roots": [[0]], "leaves": [row]}
    asked = []

    def failing(proof):
        """Leaf 2 wants itself bounded, leaf 4 all that is above it."""
        nodes = proof["trees"][0]["nodes"]
        asked.append(nodes)
        need = {2: [5], 4: [0, 4, 6, 8, 9]}
        return [(0, leaf) for leaf, where in need.items() if not all(max(nodes[k], ~nodes[k]) & 1 for k in where)]

    found = thinned({"kind": "tree", "trees": [tree]}, failing)["trees"][0]["nodes"]
    assert len(asked) == 3 and asked[0] == [0, 3, -1, -1, 3, -1, 5, -1, 1, -1, -1]
    assert found == [1, 3, -1, -1, 3, -2, 5, -1, 1, -2, -1]


def test_parts_that_go_on_after_a_leaf():
    """A leaf may refute one disjunct only; the part goes on with the others."""
    rows = [[[d, [[0, 1]], -1, []]] for d in (0, 1)]
    tree = {"nodes": [1, -2, 3, -4, -4, -2, 3, -4, 5, -4, -4], "roots": [[0, 1]], "leaves": rows}
    found = thinned({"kind": "tree", "trees": [tree]}, lambda _: [])["trees"][0]["nodes"]
    assert [abs(a - b) for a, b in zip(found, tree["nodes"], strict=True)].count(1) > 4


def test_what_cannot_be_asked_stays():
    tree = {"nodes": [1, -2] * 9 + [-2], "roots": [[0]], "leaves": [[[0, [[0, 1]], -1, []]]]}
    proof = {"kind": "tree", "trees": [tree]}
    assert thinned(proof, lambda _: None) is proof
    assert thinned(proof, lambda proof: [(0, 0)]) is proof
    few = {"kind": "tree", "trees": [tree | {"nodes": [1, -2, -2]}]}
    assert thinned(few, lambda _: pytest.fail("not worth a question")) is few


def test_the_fast_check_names_the_leaves(question):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "a")
        decide(*question, check=False, certificate_path=path)
        data = path.read_bytes()
    assert fast_check.check(data).failed == checker.check(data).failed
