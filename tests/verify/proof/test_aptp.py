"""APTP files: read by a small reader of their own, every leaf is refuted by a linear program, and no broken proof is.

The reader and the linear programs are written from the README and the reader of github.com/dynaroars/aptpchecker.
"""

import itertools
import json
import re
import sys
import time
from fractions import Fraction
from pathlib import Path

import jax
import numpy as np
import pytest
from scipy.optimize import linprog

import axiom_jax as ax
from axiom_jax.cli import main
from axiom_jax.verification.proof import aptp
from axiom_jax.verification.proof.certificate import Certificate, certificate, describe_property
from axiom_jax.verification.proof.exact import exactly
from axiom_jax.verification.property import Atom, Case, Property
from axiom_jax.verification.search.margins import Subject, pose
from axiom_jax.verification.search.neuron_splits import NeuronSearch

sys.path.insert(0, str(Path(__file__).parents[1]))
import checker_builder as build

DECLARED = re.compile(r"\((?:declare-const|declare-pwl) ([XYN])_(\d+) (?:Real|ReLU)\)")
COMPARED = re.compile(r"\((<=|>=|<) ([^\s()]+) ([^\s()]+)\)")
SPECS = (jax.ShapeDtypeStruct((2,), np.float32),)
HALF = Fraction(1, 2)


# --- a reader, and a checker of leaves


def read(text):
    """Box, signs of each leaf, and the disjuncts of what is unsafe, each a list of (coefficients, limit)."""
    text = " ".join(re.sub(r";.*", "", text).split())
    counts = {letter: 0 for letter in "XYN"}
    for letter, number in DECLARED.findall(text):
        counts[letter] = max(counts[letter], int(number) + (letter != "N"))
    box, leaves, unsafe = np.full((counts["X"], 2), np.nan), [], []
    for statement in re.split(r"(?=\(assert )", DECLARED.sub("", text))[1:]:
        alternatives = statement.split("(and")[1:] if "(or " in statement else [statement]
        parts = [COMPARED.findall(part) for part in alternatives]
        if "N_" in statement:
            leaves = [[int(name[2:]) * (1 if op == ">=" else -1) for op, name, _ in part] for part in parts]
        elif "X_" in statement:
            ((op, name, end),) = parts[0]
            box[int(name[2:]), int(op == "<=")] = float(end)
        elif "(or " in statement:
            unsafe = [[inequality(left, right, counts["Y"]) for _, left, right in part] for part in parts]
        else:
            ((_, left, right),) = parts[0]
            unsafe = [[*(unsafe[0] if unsafe else []), inequality(left, right, counts["Y"])]]
    return box, leaves, unsafe, counts


def inequality(left, right, outputs):
    """left <= right as coefficients of outputs and a limit."""
    row, limit = np.zeros(outputs), 0.0
    for side, sign in ((left, 1), (right, -1)):
        if side.startswith("Y_"):
            row[int(side[2:])] += sign
        else:
            limit -= sign * float(side)
    return row, limit


def covers(leaves, neurons):
    """Whether every pattern of signs is in some leaf."""
    used = sorted({abs(sign) for leaf in leaves for sign in leaf})
    assert used and max(used) <= neurons and len(used) <= 16
    for signs in itertools.product((-1, 1), repeat=len(used)):
        pattern = {sign * number for sign, number in zip(signs, used, strict=True)}
        if not any(pattern.issuperset(leaf) for leaf in leaves):
            return False
    return True


class Relaxation:
    """A dense ReLU network over a box, each relu by its triangle: variables are x, then z and relu(z) of each layer."""

    def __init__(self, params, box):
        self.params, self.box = params, box
        sizes = [len(b) for _, b in params]
        self.first = [int(x) for x in len(box) + np.cumsum([0, *(2 * n for n in sizes[:-1])])]
        self.count = self.first[-1] + sizes[-1]
        self.numbers = [(k, j) for k, n in enumerate(sizes[:-1]) for j in range(n)]  # as APTP counts
        self.ends = self._ends()

    def _ends(self):
        lo, hi, ends = self.box[:, 0], self.box[:, 1], []
        for w, b in self.params:
            up, down = np.maximum(w, 0), np.minimum(w, 0)
            lo, hi = lo @ up + hi @ down + b, hi @ up + lo @ down + b
            ends.append((lo, hi))
            lo, hi = np.maximum(lo, 0), np.maximum(hi, 0)
        return ends

    def feasible(self, signs, rows):
        """Whether some point of the relaxation has these signs and meets the inequalities."""
        bounds = [tuple(map(float, ends)) for ends in self.box] + [(None, None)] * (self.count - len(self.box))
        equal, above = [], []  # (coefficients, right side); the second kind are <=
        last = 0
        for k, (w, b) in enumerate(self.params):
            for j in range(len(b)):
                row = np.zeros(self.count)
                row[last : last + len(w)], row[self.first[k] + j] = w[:, j], -1
                equal.append((row, -b[j]))
            last = self.first[k] + len(b)
        for number, (k, j) in enumerate(self.numbers, 1):
            z, a = self.first[k] + j, self.first[k] + len(self.params[k][1]) + j
            l, u = (float(end[j]) for end in self.ends[k])
            bounds[z], bounds[a] = (l, u), (0, max(u, 0))
            pair = lambda cz, ca, z=z, a=a: np.eye(self.count)[z] * cz + np.eye(self.count)[a] * ca
            if number in signs or l >= 0:
                equal.append((pair(1, -1), 0.0))
            elif -number in signs or u <= 0:
                bounds[z], bounds[a] = (l, min(u, 0)), (0, 0)
            else:
                above += [(pair(1, -1), 0.0), (pair(-u / (u - l), 1), -u * l / (u - l))]
            bounds[z] = (max(l, 0) if number in signs else l, bounds[z][1])
            if bounds[z][0] > bounds[z][1]:
                return False
        above += [(np.concatenate([np.zeros(self.first[-1]), row]), limit) for row, limit in rows]
        a_eq, b_eq = (np.array([x[i] for x in equal]) for i in (0, 1))
        a_ub, b_ub = (np.array([x[i] for x in above]) for i in (0, 1))
        found = linprog(np.zeros(self.count), a_ub, b_ub, a_eq, b_eq, bounds, method="highs")
        assert found.status in (0, 2)
        return found.status == 0


def judged(text, params):
    """Whether a file is a proof about a network, and the leaves that are not refuted."""
    box, leaves, unsafe, counts = read(text)
    relaxation = Relaxation(params, box)
    assert counts["N"] == len(relaxation.numbers) and counts["Y"] == len(params[-1][1])
    failed = [leaf for leaf in leaves if any(relaxation.feasible(set(leaf), rows) for rows in unsafe)]
    return covers(leaves, counts["N"]) and not failed, failed


# --- certificates


def network(params, x):
    for w, b in params[:-1]:
        x = jax.nn.relu(x @ w + b)
    return x @ params[-1][0] + params[-1][1]


def draw(seed, sizes=(2, 5, 2)):
    normal = np.random.default_rng(seed).normal
    return tuple((normal(size=(m, n)).astype(np.float32), normal(size=n).astype(np.float32) / 2)
                 for m, n in itertools.pairwise(sizes))  # fmt: skip


def found(params, share):
    """A certificate that y_0 stays above a threshold, that share of the way from a sampled minimum to the LP's."""
    square = np.array([[-1.0, 1.0]] * 2)
    grid = np.stack(np.meshgrid(*[np.linspace(-1, 1, 201)] * 2), -1).reshape(-1, 2)
    least = float(np.min(np.asarray(network(params, grid))[:, 0]))
    relaxed, low = Relaxation(params, square), least - 100
    high = least
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (low, middle) if relaxed.feasible(set(), [(np.array([1.0, 0.0]), middle)]) else (middle, high)
    threshold = Fraction(least + share * (low - least)).limit_denominator(1 << 20)
    threshold = Fraction(int(threshold * (1 << 20)), 1 << 20)
    atom = Atom(((0, Fraction(1)),), threshold)
    prop = Property((Case((Fraction(-1),) * 2, (Fraction(1),) * 2, ((atom,),)),), "y_0 is large")
    search = NeuronSearch(pose(Subject(network, params, SPECS), prop))
    assert search.run(time.monotonic() + 600, lambda case, point: False) == "closed"
    proof, exact = search.proof(), exactly(search.question.subject)
    made = certificate(exact.model, exact.blob, describe_property(prop), "holds", proof, {})
    assert ax.check_certificate(made).accepted
    return made


@pytest.fixture(scope="module")
def split():
    """A network, and a certificate that needs splits: some 40 % of the way to what one linear program proves."""
    params = draw(3)
    return params, found(params, 0.4)


def test_every_leaf_is_refuted_by_a_linear_program(split):
    params, made = split
    text = ax.export_aptp(made)
    accepted, failed = judged(text, params)
    assert accepted and failed == []
    assert len(read(text)[1]) >= 2 and text == ax.export_aptp(made)


def test_without_its_splits_it_is_no_proof(split):
    """One linear program for the whole box does not do, so the signs in the file are what proves it."""
    params, made = split
    text = ax.export_aptp(made)
    whole = re.sub(r"\(assert \(or\n(    \(and.*\n)+\)\)", "(assert (or\n    (and (< N_1 0))\n    (and (>= N_1 0))\n))",
                   text)  # fmt: skip
    assert whole != text and not judged(whole, params)[0]


def test_a_mutated_proof_is_refused(split):
    params, made = split
    text = ax.export_aptp(made)
    leaves = [line for line in text.splitlines() if line.startswith("    (and")]
    assert not judged(text.replace(leaves[0] + "\n", ""), params)[0]  # a part that is not covered
    flipped = text.replace(leaves[0], leaves[0].replace(">=", "#").replace("<", ">=").replace("#", "<"))
    assert not judged(flipped, params)[0]
    box, _, unsafe, _ = read(text)
    limit = unsafe[0][0][1]
    raised = text.replace(f"(<= Y_0 {re.search(r'[(]<= Y_0 (.*?)[)]', text)[1]})", f"(<= Y_0 {limit + 1.0})")
    assert raised != text and not judged(raised, params)[0]  # found sat: y_0 is as small as that somewhere
    wide = text.replace("(assert (<= X_1 1.0))", "(assert (<= X_1 90.0))")
    assert wide != text and not judged(wide, params)[0] and box[1, 1] == 1.0


def dense(cases, tree, sizes=((1, 2), (2, 1))):
    """|x|: node 4 is what the relu takes."""
    weights = [np.array([[1, -1]]), np.array([[1], [1]])]
    assert [w.shape for w in weights] == list(sizes)
    program = build.dense_program(weights, [np.zeros(2), np.zeros(1)])
    return Certificate(build.certificate(*program, cases, {"kind": "tree", "trees": [tree] * len(cases)}))


def below(threshold=2, lo=-1, hi=Fraction(3, 2)):
    """|x| >= threshold is unsafe."""
    return build.case([lo], [hi], [[build.atom({0: -1}, -Fraction(threshold))]])


ABSOLUTE = ((np.array([[1.0, -1.0]]), np.zeros(2)), (np.array([[1.0], [1.0]]), np.zeros(1)))
LEAF = build.tree([-1], [[0]])


def test_a_tree_without_splits_names_both_signs_of_one_neuron():
    """The reader of aptpchecker takes no conjunction without literals."""
    text = ax.export_aptp(dense([below()], LEAF))
    assert (
        "(assert (or\n    (and (< N_1 0))\n    (and (>= N_1 0))\n))\n\n; Output constraints\n(assert (<= 2.0 Y_0))"
        in text
    )
    assert "(assert (>= X_0 -1.0))\n(assert (<= X_0 1.5))" in text and "; N_1 to N_2: node 4 of the" in text
    assert judged(text, ABSOLUTE) == (True, [])


def test_ends_that_are_no_decimals_are_float32_numbers():
    text = ax.export_aptp(dense([below(2, Fraction(-1, 3), Fraction(1, 3))], LEAF))
    box, *_ = read(text)
    assert box.tolist() == [[-float(np.float32(1 / 3)), float(np.float32(1 / 3))]]
    assert "; X_0 is from -1/3 to 1/3, not all decimals: float32 numbers instead, proved too" in text
    thin = ax.export_aptp(dense([below(2, Fraction(1, 3), Fraction("0.33333334"))], LEAF))
    assert read(thin)[0][0, 0] <= read(thin)[0][0, 1]


def test_several_trees_become_one():
    """Each alternative has a tree of its own; the one of the second is below every leaf of the first."""
    case = build.case([-1], [1], [[build.atom({0: -1}, -2)], [build.atom({0: 1}, -1)]])
    leaves = [[build.row(0, {0: 1}, -1, [0])], [build.row(1, {0: 1}, -1, [0])], [build.row(1, {0: 1}, -1, [0])]]
    tree = build.forest([2, -1, -1, 4, -3, -3], leaves[:2], [[0], [1]], [(4, 0, 0), (4, 1, 0)])
    text = ax.export_aptp(dense([case], tree))
    assert read(text)[1] == [[-1, -2], [-1, 2], [1, -2], [1, 2]]
    assert "(assert (or\n    (and (<= 2.0 Y_0))\n    (and (<= Y_0 -1.0))\n))" in text
    assert judged(text, ABSOLUTE) == (True, [])


def test_trees_that_are_too_many_together_are_refused(monkeypatch):
    trees = [[(-number,), (number,)] for number in (1, 2, 3)]
    assert len(aptp._together(trees)) == 8
    for name, most in (("LEAVES", 7), ("PAIRS", 7)):
        with monkeypatch.context() as patch:
            patch.setattr(aptp, name, most)
            with pytest.raises(ax.CertificateError, match="3 trees of together more than"):
                aptp._together(trees)


def test_a_leaf_that_its_signs_exclude_is_left_out():
    tree = build.forest([2, -1, 2, -3, -3], [[build.row(0, {0: 1}, -1, [0])], [build.row(0, {0: 1}, -1, [0, 0])]],
                        [[0]], [(4, 0, 0)])  # fmt: skip
    text = ax.export_aptp(dense([below()], tree))
    assert read(text)[1] == [[-1], [1]]


def test_text_of_others_stays_in_comments():
    made = dense([below()], LEAF)
    made.payload["property"]["text"] = "nice\n(assert (<= Y_0 -100.0))\u2028(assert"
    text = ax.export_aptp(made)
    assert "; what: nice (assert (<= Y_0 -100.0)) (assert" in text
    assert judged(text, ABSOLUTE) == (True, [])


def unsafe(*atoms):
    return [build.case([-1], [1], [list(atoms)])]


@pytest.mark.parametrize("cases,tree,feature", [
    ([below(), below()], LEAF, "2 boxes of inputs, and APTP has one"),
    ([below()], build.tree([0, -1, -1], [[0]]), "input 0 is halved"),
    ([below()], build.forest([2, -1, -1], [[build.row(0, {0: 1}, -1, [0])]], [[0]], [(0, 0, 0)]), "input 0 is cut"),
    ([below()], build.forest([2, -1, -1], [[build.row(0, {0: 1}, -1, [0])]], [[0]], [(4, 1, 1 << 79)]),
     "N_2 is split at another value than 0"),
    (unsafe(build.atom({0: -1}, -3, strict=True)), LEAF, "a strict inequality of outputs"),
    (unsafe(build.atom({0: -1}, -3, {0: 1})), LEAF, "a condition on inputs and outputs together, or on inputs alone"),
    (unsafe(build.atom({0: -3}, -7)), LEAF, "7/3, which is no decimal, as a limit of an output"),
])  # fmt: skip
def test_what_aptp_has_no_words_for_is_refused_by_name(cases, tree, feature):
    with pytest.raises(ax.CertificateError) as caught:
        ax.export_aptp(dense(cases, tree))
    assert caught.value.what == f"This certificate cannot be exported to APTP: {feature}."
    assert caught.value.got == feature
    assert caught.value.fix == "docs/aptp.md lists what can be exported; axiom check judges every certificate"


@pytest.mark.parametrize("nodes,feature", [
    ([{"op": "tanh", "of": [0]}], "the operation tanh"),
    ([{"op": "mul", "of": [0, 0]}], "a product of variables"),
    ([{"op": "neg", "of": [0]}], "a network without relus"),
])  # fmt: skip
def test_networks_of_other_operations_are_refused(nodes, feature):
    payload = build.certificate([{"op": "input", "size": 1}, *nodes], {}, [below(9)], {"kind": "tree", "trees": [LEAF]})
    with pytest.raises(ax.CertificateError, match=f"cannot be exported to APTP: {feature}."):
        ax.export_aptp(Certificate(payload))


def test_comparisons_of_two_outputs_are_told_and_others_refused():
    def pair(atom):
        program = build.dense_program([np.array([[1, -1]]), np.eye(2)], [np.zeros(2), np.array([3, 0])])
        cases = [build.case([0], [1], [[atom]])]
        return Certificate(build.certificate(*program, cases, {"kind": "tree", "trees": [LEAF]}))

    assert "(assert (<= Y_0 Y_1))" in ax.export_aptp(pair(build.atom({0: 1, 1: -1}, 0)))
    assert "(assert (<= Y_0 Y_1))" in ax.export_aptp(pair(build.atom({1: -HALF, 0: HALF}, 0)))
    for atom in (build.atom({0: 1, 1: -1}, 1), build.atom({0: 1, 1: -2}, 0), build.atom({0: 1, 1: 1}, 0)):
        with pytest.raises(ax.CertificateError, match="neither of one output nor a comparison of two"):
            ax.export_aptp(pair(atom))


def test_other_files_are_refused(tmp_path):
    made = dense([below()], LEAF)
    point = made.payload | {"claim": "violated", "proof": {"kind": "point", "case": 0, "inputs": ["0"]}}
    with pytest.raises(ax.CertificateError, match="a counterexample"):
        ax.export_aptp(Certificate(point))
    with pytest.raises(ax.CertificateError, match="cannot be read"):
        ax.export_aptp(tmp_path / "none.cert")
    (tmp_path / "bit.cert").write_bytes(made.to_bytes().replace(b'"-2"', b'"-3"'))
    with pytest.raises(ax.CertificateError, match="malformed"):
        ax.export_aptp(tmp_path / "bit.cert")
    with pytest.raises(ax.CertificateError, match="neither a certificate nor the path of one"):
        ax.export_aptp(None)  # pyright: ignore[reportArgumentType]
    for nodes in ([-1, -1], [2], [2, -1]):
        tree = build.forest(nodes, [[build.row(0, {0: 1}, -1, [])]], [[0]], [(4, 0, 0)])
        with pytest.raises(ax.CertificateError, match="malformed"):
            ax.export_aptp(dense([below()], tree))


def test_the_command_writes_the_file(tmp_path, capsys):
    path = ax.save_certificate(dense([below()], LEAF), tmp_path / "a.cert")
    with pytest.raises(SystemExit) as ended:
        main(["export-aptp", str(path), "--json"])
    facts = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert ended.value.code == 0 and facts["output"] == str(tmp_path / "a.aptp")
    assert (tmp_path / "a.aptp").read_text() == ax.export_aptp(path)
    assert facts | {"output": None, "bytes": None} == {"output": None, "neurons": 2, "leaves": 2, "bytes": None}
    with pytest.raises(SystemExit) as ended:
        main(["export-aptp", str(path), "--out", str(tmp_path / "a.txt"), "--json"])
    assert ended.value.code == 2 and "end it with .aptp" in capsys.readouterr().out
