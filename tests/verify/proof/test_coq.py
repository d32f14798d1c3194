"""Certificates as Coq files: what they say, what is refused, and, where coqc is installed, that Coq judges them so."""

import hashlib
import itertools
import re
import shutil
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import cli_helpers
import jax
import numpy as np
import pytest

import axiom_jax as ax
from axiom_jax.verification import checker
from axiom_jax.verification.proof.certificate import Certificate
from axiom_jax.verification.proof.coq.lines import lines_of
from axiom_jax.verification.proof.coq.writing import comment
from axiom_jax.verification.property import Atom, Case, Property
from axiom_jax.verification.search.decide import decide
from axiom_jax.verification.search.margins import Subject

sys.path.insert(0, str(Path(__file__).parents[1]))
import checker_builder as build

COQC = shutil.which("coqc")
needs_coq = pytest.mark.skipif(COQC is None, reason="coqc is not installed (Debian: coq)")
ALLOWED = {  # what Coq's own real numbers rest on
    "ClassicalDedekindReals.sig_forall_dec", "ClassicalDedekindReals.sig_not_dec",
    "FunctionalExtensionality.functional_extensionality_dep",
}  # fmt: skip
HALF = Fraction(1, 2)


def dense(weights, biases=None):
    arrays = [np.array(w, np.float32) for w in weights]
    return build.dense_program(arrays, biases or [np.zeros(w.shape[1], np.float32) for w in arrays])


def certificate(program, cases, trees, text=None):
    payload = build.certificate(*program, cases, {"kind": "tree", "trees": trees})
    if text is not None:
        payload["property"]["text"] = text
    return Certificate(payload)


ABSOLUTE = dense([[[1, -1]], [[1], [1]]])  # |x|: node 4 is what the relu takes
BELOW_TWO = build.case([-1], [Fraction(3, 2)], [[build.atom({0: -1}, -2)]])  # |x| >= 2 is unsafe


@pytest.fixture
def small():
    """|x| < 2 on [-1, 3/2]: one leaf."""
    return certificate(ABSOLUTE, [BELOW_TWO], [build.tree([-1], [[0]])])


def split_certificate():
    """A split neuron, a cut input, multipliers of splits, two roots, several atoms together, a
    strict atom whose threshold is met; and two cases."""
    outside = [build.atom({0: -1}, -1, {0: HALF})]  # |x| >= 1 + x / 2
    first = build.case([-HALF], [1], [[build.atom({0: 1}, 0, strict=True)], outside])
    narrow = [build.atom({}, Fraction(1, 8), {0: 1}), build.atom({}, Fraction(1, 8), {0: -1})]  # |x| <= 1 / 8
    second = build.case([-1], [1], [[build.atom({0: -1}, Fraction(-1, 4)), *narrow]])
    leaves = [[build.row(0, {0: 1}, -1, [0])], [build.row(0, {0: 1}, -1, [1])], [build.row(1, {0: 1})]]
    trees = [build.forest([2, -1, -3, -5], leaves, [[0], [1]], [(4, 0, 0)])]
    leaves = [[build.row(0, {0: 1, 2: 1}, -1, [0])], [build.row(0, {0: 1, 1: 1}, -1, [0, 0])]]
    trees.append(build.forest([2, -2, 4, -4, -4], leaves, [[0]], [(0, 0, 0), (4, 1, 0)]))
    return certificate(ABSOLUTE, [first, second], trees, 'a *) Axiom cheat : False. (* " \n∀x')


def compiled(folder, text, name="proof.v"):
    """coqc's exit status, what it printed, what it complained of."""
    (folder / name).write_text(text, encoding="utf-8")
    assert COQC is not None
    done = subprocess.run([COQC, name], cwd=folder, capture_output=True, text=True, timeout=900, check=False)
    return done.returncode, done.stdout, done.stderr


def axioms(printed):
    """The names that `Print Assumptions` lists."""
    if printed.strip() == "Closed under the global context":
        return set()
    assert printed.startswith("Axioms:\n")
    return set(re.findall(r"^([\w.']+)(?=\s*:| *$)", printed.removeprefix("Axioms:\n"), re.M))


def test_the_file_states_the_network_the_regions_and_one_theorem(small):
    text = ax.export_coq(small)
    assert f"certificate  sha256 {hashlib.sha256(small.to_bytes()).hexdigest()}" in text
    assert "property     ∀x. a test" in text
    assert "Line true 1 (0) 0 [1]" in text and "Line true 1 (0) 0 [-1]" in text and "Line false 1 (0) 1 [1; 1]" in text
    assert "[((-1 # 1), (3 # 2))]%Q" in text and "Atom []%Q [(0%nat, (-1 # 1))]%Q false (-2 # 1)%Q" in text
    assert text.count("Theorem certified :") == 1 and text.rstrip().endswith("Print Assumptions certified.")
    assert not re.search(r"\b(Admitted|admit|Axiom|Axioms|Parameter|Parameters|Conjecture|Hypothesis|Variable)\b", text)
    assert ax.export_coq(small) == text


def test_what_others_wrote_stays_in_its_comment():
    text = ax.export_coq(split_certificate())
    head = text[: text.index("From Coq Require")]
    assert "* ) Axiom cheat : False. ( * ''  ∀x" in head
    assert head.count("(*") == head.count("*)") == 2 and '"' not in head
    for nasty in ("*)", "**)", "(*)", "((*))", "(*(*", "*)*)", '"*)', "\u202e*)", "\ud800*)"):
        assert "*)" not in comment(nasty) and "(*" not in comment(nasty) and '"' not in comment(nasty)
        comment(nasty).encode()
    assert "*)" not in "(" + comment("*" * 9) + " )" and len(comment("x" * 9999)) == 2000


@pytest.mark.parametrize("seed", range(30))
def test_lines_are_the_network(seed):
    """Random programs of every operation that can be exported: equal at random points, exactly."""
    rng = np.random.default_rng(seed)
    while True:
        nodes, tensors = build.random_program(rng, length=7)
        network = checker.load_network(build.model(nodes, tensors), build.tensor_file(tensors))
        ops = {"pair" if network.nodes[k].pair else network.nodes[k].op for k in network.order}
        exact = all(lo == hi for lo, hi, _ in network.constants.values())
        if "relu" in ops and "pair" not in ops and exact:
            break
    found = lines_of(network)
    for _ in range(5):
        point = [Fraction(int(x), 64) for x in rng.integers(-200, 200, network.inputs)]
        assert [(y, y) for y in found.evaluate(point)] == network.evaluate(point)


def test_a_constant_that_is_no_rational_number_is_refused():
    nodes = [{"op": "input", "size": 1}, {"op": "tensor", "name": "t"}, {"op": "sqrt", "of": [1]},
             {"op": "mul", "of": [0, 2]}]  # fmt: skip
    network = checker.load_network(
        build.model(nodes, {"t": np.float32([2])}), build.tensor_file({"t": np.float32([2])})
    )
    with pytest.raises(ax.CertificateError, match="a constant that is no exact rational number"):
        lines_of(network)


@pytest.mark.parametrize("op", ["tanh", "exp", "square"])
def test_smooth_functions_are_refused_by_name(op):
    nodes = [{"op": "input", "size": 1}, {"op": op, "of": [0]}]
    cert = certificate((nodes, {}), [build.case([0], [1], [[build.atom({0: -1}, -9)]])], [build.tree([-1], [[0]])])
    with pytest.raises(ax.CertificateError) as caught:
        ax.export_coq(cert)
    assert caught.value.what == f"This certificate cannot be exported to Coq: the function {op}."
    assert caught.value.fix == "docs/coq.md lists what can be exported; `axiom check` judges every certificate"


def test_products_gates_counterexamples_and_other_files_are_refused(small, tmp_path):
    nodes = [{"op": "input", "size": 1}, {"op": "mul", "of": [0, 0]}, {"op": "gate", "of": [0, 1]}]
    cert = certificate((nodes, {}), [build.case([0], [1], [[build.atom({0: -1}, -9)]])], [build.tree([-1], [[0]])])
    with pytest.raises(ax.CertificateError, match=r"comparisons that decide \(gate\), products of variables"):
        ax.export_coq(cert)
    point = build.certificate(*ABSOLUTE, [BELOW_TWO], {"kind": "point", "case": 0, "inputs": ["0"]}, "violated")
    with pytest.raises(ax.CertificateError, match="a counterexample"):
        ax.export_coq(Certificate(point))
    with pytest.raises(ax.CertificateError, match="cannot be read"):
        ax.export_coq(tmp_path / "none.cert")
    with pytest.raises(ax.CertificateError, match="not a whole certificate"):
        (tmp_path / "cut.cert").write_bytes(small.to_bytes()[:99])
        ax.export_coq(tmp_path / "cut.cert")
    with pytest.raises(ax.CertificateError, match="malformed"):
        (tmp_path / "bit.cert").write_bytes(small.to_bytes().replace(b'"-2"', b'"-3"'))
        ax.export_coq(tmp_path / "bit.cert")


def test_of_several_proofs_one_is_exported():
    model = ax.Sequential(ax.nn.Dense(2, 4), ax.nn.relu, ax.nn.Dense(4, 1), seed=1)
    result = ax.verify(model, [ax.Bounded(-10, 10)], region=ax.Box(-1, 1))
    assert "Theorem certified" in ax.export_coq(result.items[0].certificate)
    with pytest.raises(ax.CertificateError, match="several proofs in one file") as caught:
        ax.export_coq(ax.generate_certificate(model, result))
    assert caught.value.fix == "give one item's certificate: result.items[0].certificate"
    with pytest.raises(ax.CertificateError, match="neither a certificate nor the path of one"):
        ax.export_coq(None)  # pyright: ignore[reportArgumentType]


def test_a_claim_that_does_not_hold_is_never_written(small):
    """|x| reaches 3 / 2: no tree refutes it, and none is written."""
    payload = dict(small.payload)
    reached = build.case([-1], [3 * HALF], [[build.atom({0: -1}, -3 * HALF)]])
    payload["property"] = {"text": "", "cases": [reached]}
    with pytest.raises(ax.CertificateError, match="No proof was found that Coq could follow"):
        ax.export_coq(Certificate(payload), timeout=20)


@pytest.mark.parametrize(
    ("nodes", "got"),
    [
        ([0, -1], "a tree ends too early"),
        ([-1, -1], "a tree goes on after its end"),
        ([-2], "a leaf that there is not"),
        ([4, -1, -1], "a split that there is not"),
    ],
)
def test_malformed_trees_are_refused(nodes, got):
    with pytest.raises(ax.CertificateError) as caught:
        ax.export_coq(certificate(ABSOLUTE, [BELOW_TWO], [build.tree(nodes, [[0]])]))
    assert caught.value.got == got


def test_the_command_writes_a_file_that_coq_can_name(small, tmp_path, capsys):
    path = tmp_path / "1-a.cert"
    ax.save_certificate(small, path)

    run = lambda *arguments: cli_helpers.run(capsys, "export-coq", *arguments)[:2]
    code, out = run(path)
    assert code == 0 and (tmp_path / "proof_1_a.v").read_text() == ax.export_coq(path) and "theorem certified" in out
    code, out = run(path, "--out", tmp_path / "b.v", "--json")
    assert code == 0 and out.startswith('{"output": ') and (tmp_path / "b.v").is_file()
    code, out = run(path, "--out", tmp_path / "b-1.v", "--json")
    assert code == 2 and '"got": "b-1.v"' in out.splitlines()[-1] and not (tmp_path / "b-1.v").exists()


@needs_coq
def test_coq_accepts_it_with_the_axioms_of_the_reals_alone(small, tmp_path):
    status, printed, complaints = compiled(tmp_path, ax.export_coq(small))
    assert status == 0, complaints
    assert axioms(printed) <= ALLOWED
    assert not axioms("Axioms:\ncheat : False\n") <= ALLOWED


@needs_coq
def test_coq_accepts_every_form_of_split(tmp_path):
    cert = split_certificate()
    result = checker.check(cert.to_bytes())
    assert result.accepted, result.reason
    status, printed, complaints = compiled(tmp_path, ax.export_coq(cert))
    assert status == 0, complaints
    assert axioms(printed) <= ALLOWED


@needs_coq
@pytest.mark.sweep(3)  # coqc takes five seconds for each
@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("false (-2 # 1)%Q", "false (-3 # 2)%Q"),  # a threshold that is reached
        ("Line false 1 (0) 1 [1; 1]", "Line false 1 (0) 1 [1; 3]"),  # a weight
        ("(3 # 2))]%Q", "(5 # 2))]%Q"),  # the region
    ],
)
def test_coq_rejects_what_is_not_so(small, tmp_path, old, new):
    text = ax.export_coq(small)
    assert text.count(old) == 1
    status, printed, complaints = compiled(tmp_path, text.replace(old, new))
    assert status != 0 and "Axioms" not in printed and "is expected to have type" in complaints


def network_certificate(sizes, half, slack, path):
    """A random net whose first output stays below the largest value of a sample plus `slack`."""
    rng = np.random.default_rng(0)
    draw = lambda *shape: rng.normal(size=shape).astype(np.float32)
    layers = [(draw(a, b) * np.float32(np.sqrt(2 / a)), draw(b) / 10) for a, b in itertools.pairwise(sizes)]

    def net(layers, x):
        for w, b in layers[:-1]:
            x = jax.nn.relu(x @ w + b)
        return x @ layers[-1][0] + layers[-1][1]

    sample = rng.uniform(-float(half), float(half), size=(10000, sizes[0])).astype(np.float32)
    threshold = Fraction(float(np.max(net(layers, sample)[:, 0]) + slack)).limit_denominator(1000)
    unsafe = ((Atom(((0, Fraction(-1)),), -threshold),),)
    prop = Property((Case((-half,) * sizes[0], (half,) * sizes[0], unsafe),), "y_0 < threshold")
    subject = Subject(net, layers, (jax.ShapeDtypeStruct((1, sizes[0]), np.float32),))
    assert isinstance(decide(subject, prop, timeout=120, certificate_path=path).verdict, ax.Proved)
    return path


@needs_coq
@pytest.mark.slow
def test_a_net_of_sixteen_neurons_is_proved_by_coq(tmp_path):
    path = network_certificate([2, 8, 8, 1], Fraction(1), 0.05, tmp_path / "a.cert")
    status, printed, complaints = compiled(tmp_path, ax.export_coq(path))
    assert status == 0, complaints
    assert axioms(printed) <= ALLOWED


@needs_coq
@pytest.mark.campaign
def test_a_net_of_sixty_neurons_is_proved_by_coq(tmp_path):
    path = network_certificate([5, 20, 20, 20, 1], Fraction(1, 4), 0.5, tmp_path / "a.cert")
    status, printed, complaints = compiled(tmp_path, ax.export_coq(path))
    assert status == 0, complaints
    assert axioms(printed) <= ALLOWED
