"""Trees with splits of neurons and multipliers as certificates: made by a small search, judged by the checker."""

import itertools
from dataclasses import replace
from fractions import Fraction
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from axiom_jax.verification import checker
from axiom_jax.verification.proof.certificate import (
    Certificate,
    certificate,
    describe_property,
    load_certificate,
    save_certificate,
)
from axiom_jax.verification.proof.emit import neuron_tree
from axiom_jax.verification.proof.exact import exactly
from axiom_jax.verification.property import Atom, Case, Property
from axiom_jax.verification.search.margins import Question, Subject, pose
from axiom_jax.verification.search.tree import Multipliers, Tree

ONE = Fraction(1)


def network(params, x):
    for w, b in params[:-1]:
        x = jax.nn.relu(x @ w + b)
    w, b = params[-1]
    return x @ w + b


def draw(seed, sizes):
    generator = np.random.default_rng(seed)
    normal = lambda *shape: (generator.normal(size=shape) / np.sqrt(shape[0])).astype(np.float32)
    return [(normal(a, b), normal(b)) for a, b in itertools.pairwise(sizes)]


def asked(fn: Any, params: Any, inputs: int, unsafe: Any, lo: Any = -1, hi: Any = 1) -> Question:
    subject = Subject(fn, params, (jax.ShapeDtypeStruct((inputs,), np.float32),))
    return pose(subject, Property((Case((Fraction(lo),) * inputs, (Fraction(hi),) * inputs, unsafe),), "a test"))


def low(output: int, threshold: Any) -> tuple[Atom, ...]:
    """y_output is at most a threshold."""
    return (Atom(((output, ONE),), Fraction(float(threshold))),)


def judged(question: Question, proof: Any) -> Any:
    assert isinstance(proof, dict), proof
    made = certificate(*parts(question), describe_property(question.property), "holds", proof, {})
    return checker.check(made.to_bytes())


def parts(question: Question) -> tuple[Any, bytes]:
    exact = exactly(question.subject)
    return exact.model, exact.blob


def split_until_closed(question: Question, roots: list[tuple[int, ...]], most: int = 200) -> Tree:
    """Split open relus by the widest first, each root's tree for its disjuncts, with slopes and multipliers at random
    of which the best are kept; bounds are the checker's own."""
    exact, rng = exactly(question.subject), np.random.default_rng(0)
    net: Any = checker.load_network(*parts(question))
    net.prepare()
    case = checker.Case(describe_property(question.property)["cases"][0], net)
    tree, sites = Tree(len(roots)), {site.node: k for k, site in enumerate(exact.sites) if site.node is not None}
    start = checker.sweep(net, checker.Bounds(case.lo, case.hi), True)
    stack = [(k, disjuncts, start, []) for k, disjuncts in enumerate(roots)]
    while stack:
        node, disjuncts, bounds, path = stack.pop()
        tried = []
        sizes = {k: question.plan.sites[k].size for k in sites.values()}
        for attempt in range(12):
            slopes = {k: rng.random(size) if attempt else np.full(size, 0.5) for k, size in sizes.items()}
            betas = np.where(rng.random(len(path)) < 0.5, 0, rng.exponential(size=len(path)) / 2)
            grid = {(k, j): round(s * 255) for k, n in sites.items() for j, s in enumerate(slopes[n])}
            held = [(round(b * 2**20), split) for b, split in zip(betas, path, strict=True)]
            found = min(checker.margin(net, bounds, [(1 << 20, case.unsafe[d][0])], held, grid) for d in disjuncts)
            tried.append((found, attempt, slopes, betas))
        value, _, slopes, betas = max(tried, key=lambda t: t[:2])
        if value > 2 or bounds.empty:  # at 2^-20
            first = [sum(len(u) for u in case.unsafe[:d]) for d in disjuncts]
            count = len(disjuncts)
            tree.close(node, tuple(first), Multipliers(
                {k: np.tile(s, (count, 1)) for k, s in slopes.items()}, np.tile(betas, (count, 1))))  # fmt: skip
            continue
        open_ = [(u - l, k, j) for k in sites for j, l, u, *_ in bounds.split[k][1]]
        assert len(tree.split) < most
        if not open_:  # what is left is linear, but needs better multipliers than those at random
            widths = [u - l for l, u in zip(bounds.box_lo, bounds.box_hi, strict=True)]
            j = widths.index(max(widths))
            place = (bounds.box_lo[j] + bounds.box_hi[j]) >> 1
            child = int(tree.cut(np.array([node]), np.array([j]), np.array([place / 2**80]))[0])
            for which, sign in enumerate((-1, 1)):
                stack.append((child + which, disjuncts, bounds.part((0, j, place, sign)), path))
            continue
        _, k, j = max(open_)
        (child,) = tree.part([node], [sites[k]], [j], [0.0])
        for which, sign in enumerate((-1, 1)):
            stack.append((child + which, disjuncts, bounds.part((k, j, 0, sign)), [*path, (k, j, 0, sign)]))
    return tree


@pytest.mark.parametrize("seed", range(2))
def test_what_a_search_of_relus_closes_is_accepted(seed):
    """And with a tree for each disjunct: then a leaf has one row."""
    params = draw(seed, [2, 5, 4, 2])
    grid = np.stack(np.meshgrid(*[np.linspace(-1, 1, 101)] * 2), -1).reshape(-1, 2).astype(np.float32)
    values = np.asarray(network(params, grid))
    unsafe = tuple(low(k, values[:, k].min() - 0.3) for k in range(2))
    question = asked(network, params, 2, unsafe)
    for roots in ([(0, 1)], [(1,), (0,)]):
        tree = split_until_closed(question, roots)
        proof: Any = neuron_tree(question, tree, roots=[list(enumerate(roots))])
        result = judged(question, proof)
        assert result.accepted and result.leaves == tree.leaves, result.reason
        assert proof["trees"][0]["roots"] == [list(r) for r in roots]
        assert max(len(table) for leaf in proof["trees"][0]["leaves"] for table in leaf) == 4


def test_nothing_false_is_accepted_whatever_a_search_says():
    params = draw(1, [2, 5, 4, 1])
    question = asked(network, params, 2, (low(0, float(network(params, jnp.zeros(2))[0]) + 1e-3),))
    tree, rng = Tree(1), np.random.default_rng(3)
    nodes = [0]
    for _ in range(12):
        node = nodes.pop(int(rng.integers(0, len(nodes))))
        site = int(rng.integers(0, len(question.plan.sites)))
        (child,) = tree.part([node], [site], [int(rng.integers(0, question.plan.sites[site].size))], [rng.normal() / 4])
        nodes += [child, child + 1]
    depth = {n: d for n, _, _, d in tree.preorder(0)}
    for node in nodes:
        slopes = {k: rng.normal(size=(1, v.size)) * 9 for k, v in enumerate(question.plan.sites)}
        tree.close(node, (0,), Multipliers(slopes, rng.normal(size=(1, depth[node])) * 99))
    result = judged(question, neuron_tree(question, tree))
    assert not result.accepted and "fall short" in result.reason and result.leaves == 13


def test_inputs_are_halved_and_cut_and_bounded_again():
    """Such leaves have no multipliers: the checker takes its own slopes, over the box of the leaf."""
    question = asked(lambda _, x: jnp.abs(x) + 0.5 * x, (), 1, (low(0, -0.3),), lo=-2)
    tree = Tree(1)
    assert not judged(question, neuron_tree(question, closed(Tree(1), [0]))).accepted
    child = int(tree.cut(np.array([0]), np.array([0]), np.array([0.125]))[0])
    halves = int(tree.halve(np.array([child]), np.array([0]))[0])
    result = judged(question, neuron_tree(question, closed(tree, [child + 1, halves, halves + 1])))
    assert result.leaves == 3 and result.accepted, result.reason
    at_kink = Tree(1)
    child = int(at_kink.cut(np.array([0]), np.array([0]), np.array([0.0]))[0])
    assert judged(question, neuron_tree(question, closed(at_kink, [child, child + 1]))).accepted


def closed(tree: Tree, leaves: Any) -> Tree:
    for leaf in leaves:
        tree.close(leaf, (0,))
    return tree


def test_several_atoms_refute_a_disjunct_together():
    """y0 <= 0 and y1 <= 0 for y0 = relu(x), y1 = 1/2 - relu(x): their sum is 1/2."""
    both = (Atom(((0, ONE),), Fraction(0)), Atom(((1, ONE),), Fraction(0)))
    question = asked(lambda _, x: jnp.concatenate([jax.nn.relu(x), 0.5 - jax.nn.relu(x)]), (), 1, (both,))
    for weights, accepted in ((None, False), ([[1, 1]], True), ([[3, 3]], True), ([[1, 0]], False), ([[0, 0]], False)):
        tree, found = Tree(1), Multipliers({}, np.zeros((1, 0)))
        tree.close(0, (0,), replace(found, weights=None if weights is None else np.array(weights, float)))
        assert judged(question, neuron_tree(question, tree)).accepted == accepted, weights


def test_better_bounds_of_neurons_are_proved_too():
    """relu(z), z = relu(x) - (x + 5) / 2 + 2.6 on [-1, 1]: z >= 0.1 with slope 1/2, and then relu(z) = z; z >= -0.4 by
    the rule, and relu(z) >= 0 with the slope 0."""
    params = [(np.array([[1.0, 1.0]], np.float32), np.array([0, 5], np.float32)),
              (np.array([[1.0], [-0.5]], np.float32), np.array([2.6], np.float32)),
              (np.ones((1, 1), np.float32), np.zeros(1, np.float32))]  # fmt: skip
    question = asked(network, params, 1, (low(0, 0.05),))
    tree = Tree(1)
    tree.close(0, (0,), Multipliers({0: np.array([[0.5, 1.0]]), 1: np.zeros((1, 1))}, np.zeros((1, 0))))
    known = [{0: (np.array([-1.0, 4.0]), np.array([1.0, 6.0])), 1: (np.array([0.1]), np.array([1.1]))}]
    assert not judged(question, neuron_tree(question, tree)).accepted
    proof = neuron_tree(question, tree, known)
    assert isinstance(proof, dict) and proof["trees"][0]["lemmas"], proof
    assert judged(question, proof).accepted


def test_what_cannot_be_written_is_said():
    question = asked(network, draw(0, [2, 3, 1]), 2, (low(0, -9),))
    tree = Tree(1)
    assert "open" in neuron_tree(question, tree)
    other = asked(lambda p, x: jnp.sum(x, keepdims=True), (), 2, (low(0, -9),))
    tree.close(0, (0,))
    assert "neurons" in neuron_tree(replace(other, plan=question.plan), tree)
    unknown = asked(lambda _, x: jnp.cbrt(x), (), 2, (low(0, -9),))
    assert exactly(unknown.subject).missing == "cbrt"
    assert "cannot express" in neuron_tree(unknown, tree)


def test_what_is_written_is_read_again(tmp_path):
    question = asked(lambda _, x: jax.nn.relu(x), (), 1, (low(0, -1),))
    proof = neuron_tree(question, closed(Tree(1), [0]))
    assert isinstance(proof, dict)
    made = certificate(*parts(question), describe_property(question.property), "holds", proof, {})
    path = save_certificate(made, tmp_path / "a.cert")
    read = load_certificate(path)
    assert isinstance(read, Certificate) and read.payload == made.payload
    assert read.to_bytes() == path.read_bytes() and checker.check(read.to_bytes()).accepted
