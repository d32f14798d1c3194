"""Verdicts on small nets: against exhaustive sampling, checked by the real checker."""

import _thread
import subprocess
import sys
import threading
import time
from fractions import Fraction
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from axiom_jax._errors import SpecError
from axiom_jax.verification.proof.binding import check_certificate
from axiom_jax.verification.proof.certificate import (
    CHECKER,
    certificate,
    describe_property,
    load_certificate,
    tree_proof,
)
from axiom_jax.verification.proof.exact import exactly
from axiom_jax.verification.property import Atom, Case, Property, robust
from axiom_jax.verification.search import decide as decide_module
from axiom_jax.verification.search.attack import Attack
from axiom_jax.verification.search.branch_and_bound import Search
from axiom_jax.verification.search.compilation import compile_count, compiles, wait_for_compilations
from axiom_jax.verification.search.decide import decide
from axiom_jax.verification.search.judging import Court
from axiom_jax.verification.search.margins import Subject, in_terms_of_certificates, nearest, pose
from axiom_jax.verification.verdict import Claimed, Decision, Proved, Refuted, Unknown, interrupted

SPECS = (jax.ShapeDtypeStruct((1, 2), np.float32),)


def network(params, x):
    (w1, b1), (w2, b2) = params
    return jax.nn.relu(x @ w1 + b1) @ w2 + b2


def draw(seed, hidden=8, outputs=2):
    generator = np.random.default_rng(seed)
    normal = lambda *shape: generator.normal(size=shape).astype(np.float32)
    return (normal(2, hidden), normal(hidden)), (normal(hidden, outputs), normal(outputs))


def below(threshold, lo=-1, hi=1, strict=False):
    """y_0 > threshold on a square."""
    atom = Atom(((0, Fraction(1)),), Fraction(threshold), strict=strict)
    return Property((Case((Fraction(lo),) * 2, (Fraction(hi),) * 2, ((atom,),)),), "y_0 is large")


def smallest(params, count=201):
    grid = np.stack(np.meshgrid(*[np.linspace(-1, 1, count)] * 2), -1).reshape(-1, 2).astype(np.float32)
    return float(np.asarray(network(params, grid))[:, 0].min())


@pytest.mark.parametrize("seed", range(4))
def test_verdicts_agree_with_dense_sampling(seed, tmp_path):
    params = draw(seed)
    subject, minimum = Subject(network, params, SPECS), smallest(params)
    for shift, kind in ((-0.2, Proved), (0.1, Refuted)):
        path = tmp_path / "out.cert"
        decision = decide(subject, below(Fraction(minimum + shift)), timeout=60, certificate_path=path)
        assert isinstance(decision.verdict, kind), decision.to_dict()
        assert check_certificate(path, subject).raise_if_rejected().levels == ("real",)
        done = subprocess.run([sys.executable, "-I", "-S", str(CHECKER), str(path)], capture_output=True, text=True)
        assert (done.returncode, done.stdout.splitlines()[0]) == (0, "accepted")
    (x, y) = decision.verdict.counterexample.inputs
    point = jnp.asarray([[float(x), float(y)]], jnp.float32)
    assert float(network(params, point)[0, 0]) <= minimum + shift + 1e-4
    assert decision.to_dict()["vnncomp"] == "sat"


@pytest.mark.slow
def test_a_tie_is_never_proved_closed_and_can_be_proved_strict():
    """y = relu(x0) attains 0: `y <= 0` is reachable, `y < 0` is not."""
    relu = lambda _, x: jax.nn.relu(x)
    subject = Subject(relu, (), SPECS)
    assert isinstance(decide(subject, below(0), timeout=10).verdict, Refuted)
    verdict = decide(subject, below(0, strict=True), timeout=10).verdict
    assert isinstance(verdict, (Proved, Unknown))


def test_several_cases_and_disjuncts(tmp_path):
    params = draw(7, outputs=3)
    subject = Subject(network, params, SPECS)
    center = np.float32([0.3, -0.4])
    label = int(np.argmax(network(params, center[None])))
    near, wrong = robust(center, label, 3, "1/1000"), robust(center, (label + 1) % 3, 3, "1/1000")
    both = Property(near.cases + near.cases, "twice")
    assert isinstance(decide(subject, both, timeout=30, certificate_path=tmp_path / "a.cert").verdict, Proved)
    assert len(load_certificate(tmp_path / "a.cert").payload["proof"]["trees"]) == 2
    assert isinstance(decide(subject, Property(near.cases + wrong.cases, "one fails"), timeout=30).verdict, Refuted)


def attention():
    """Attention over 8 tokens: more differences than searches write out, by more inputs than are halved."""
    generator = np.random.default_rng(0)
    mix, values = (generator.normal(size=shape).astype(np.float32) for shape in ((64, 12), (8,)))
    apply = lambda w, x: (jax.nn.softmax((w[0] @ x).reshape(8, 8)) @ w[1]).sum(keepdims=True)
    subject = Subject(apply, (mix, values), (jax.ShapeDtypeStruct((12,), np.float32),))
    middle = float(apply((mix, values), np.zeros(12, np.float32))[0])
    low = Atom(((0, Fraction(1)),), Fraction(middle - 1))
    return subject, Property((Case((Fraction(-1, 100),) * 12, (Fraction(1, 100),) * 12, ((low,),)),))


@pytest.mark.slow
def test_a_softmax_that_is_bounded_by_pairs_is_proved_as_certificates_write_it(tmp_path):
    subject, prop = attention()
    assert in_terms_of_certificates(pose(subject, prop)) is not None
    decision = decide(subject, prop, certificate_path=tmp_path / "a.cert")
    assert isinstance(decision.verdict, Proved), decision.to_dict()
    assert check_certificate(tmp_path / "a.cert", subject).accepted


@pytest.mark.slow
def test_ctrl_c_while_a_proof_is_searched_in_other_terms_leaves_what_was_claimed():
    def interrupt(stage, bound, boxes, left):
        stages.append(stage)
        if stage == "search" and "check" in stages:
            _thread.interrupt_main()
            gate.wait(20)

    gate, stages = threading.Event(), list[str]()
    decision = decide(*attention(), progress=interrupt)
    gate.set()
    assert isinstance(decision.verdict, Claimed) and interrupted(decision.verdict)
    assert "had closed every box" in decision.verdict.reason
    wait_for_compilations(time.monotonic() + 60)


def test_ctrl_c_while_the_checker_runs_leaves_what_was_claimed_and_its_file(tmp_path, monkeypatch):
    """A real checker, held up: what is pressed then ends the waiting, not the claim."""

    def pressed(path, timeout=None):
        assert check_certificate(path, subject).accepted  # what is written is whole
        raise KeyboardInterrupt

    monkeypatch.setattr("axiom_jax.verification.search.decide.run_checker", pressed)
    subject = Subject(network, draw(1), SPECS)
    decision = decide(subject, below(-100), certificate_path=tmp_path / "a.cert")
    assert isinstance(decision.verdict, Claimed) and interrupted(decision.verdict)
    assert decision.verdict.certificate is not None and decision.to_dict()["levels"] == []
    assert decision.certificate_path == str(tmp_path / "a.cert")
    assert check_certificate(tmp_path / "a.cert", subject).accepted


def test_ctrl_c_after_a_point_was_judged_exactly_refutes(monkeypatch):
    """Repairs split once more, and may come upon a point that bounds in floats had overlooked."""

    def pressed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(decide_module, "_proved", pressed)
    court = Court(pose(Subject(network, draw(1), SPECS), below(1000)), {})
    begun, search = Decision(Unknown(""), 0.0, 0.0), SimpleNamespace(boxes=1)
    conclude = lambda: decide_module._conclude(court, search, begun, True, 9.0, None, 0.0, lambda *_: None)
    assert isinstance(conclude().verdict, Claimed)
    assert court.judge(0, np.float32([0.25, -0.5]))
    assert isinstance(conclude().verdict, Refuted)


def test_another_model_is_told_apart(tmp_path):
    params = draw(1)
    subject = Subject(network, params, SPECS, "a")
    decide(subject, below(-100), certificate_path=tmp_path / "a.cert")
    changed = jax.tree.map(np.copy, params)
    changed[0][0].view(np.uint32)[0, 0] ^= 1  # one bit
    assert check_certificate(tmp_path / "a.cert", subject).accepted
    checked = check_certificate(tmp_path / "a.cert", Subject(network, changed, SPECS, "b"))
    assert not checked.accepted and "another network than b" in str(checked.reason)


def test_without_checking_a_proof_is_claimed():
    decision = decide(Subject(network, draw(1), SPECS), below(-100), check=False)
    assert isinstance(decision.verdict, Claimed)
    assert decision.to_dict()["levels"] == [] and decision.to_dict()["vnncomp"] == "unsat"


def test_out_of_time_is_unknown_and_says_what_is_left():
    params = draw(3, hidden=64)
    start = time.monotonic()
    prop = below(Fraction(smallest(params)) - Fraction(1, 10**6))
    decision = decide(Subject(network, params, SPECS), prop, timeout=0.0)
    assert isinstance(decision.verdict, Unknown) and decision.verdict.timed_out
    assert "left open" in decision.verdict.reason and decision.to_dict()["vnncomp"] == "timeout"
    assert time.monotonic() - start < 20


@pytest.mark.slow
def test_ctrl_c_gives_the_best_bound_known():
    def interrupt(stage, bound, boxes, left):
        if stage == "search":
            raise KeyboardInterrupt

    params = draw(3, hidden=32)
    prop = below(Fraction(smallest(params)) - Fraction(1, 20))
    decision = decide(Subject(network, params, SPECS), prop, timeout=60, progress=interrupt)
    assert isinstance(decision.verdict, Unknown) and decision.verdict.reason.startswith("interrupted")
    assert decision.bound is not None and decision.boxes > 0


def test_what_cannot_be_stopped_is_left_behind_at_the_deadline():
    """A model that takes long to trace, and a batch that takes long: both go on, and the answer does not wait."""
    gate = threading.Event()

    def slow(params, x):
        gate.wait(20)
        return network(params, x)

    params = draw(3, hidden=32)
    start = time.monotonic()
    decision = decide(Subject(slow, params, SPECS), below(-100), timeout=0.5)
    assert 1.0 <= time.monotonic() - start < 10
    assert isinstance(decision.verdict, Unknown) and decision.verdict.timed_out
    assert decision.verdict.reason == "out of time after 0.5 s, before the search began: all is left open"
    assert compiles()
    gate.set()
    assert wait_for_compilations(time.monotonic() + 60)

    gate.clear()
    seen = []

    def waits(stage, bound, boxes, left):
        seen.append((stage, bound, boxes, left))
        if stage == "search":
            gate.wait(20)

    prop = below(Fraction(smallest(params)) - Fraction(1, 20))
    assert decide(Subject(network, params, SPECS), prop, check=False).boxes > 64  # it takes several batches
    start = time.monotonic()
    decision = decide(Subject(network, params, SPECS), prop, timeout=2, progress=waits)
    assert 2.5 <= time.monotonic() - start < 12
    assert isinstance(decision.verdict, Unknown) and decision.verdict.timed_out
    _, bound, boxes, left = seen[-1]  # what was known of the last batch that ended
    assert (decision.bound, decision.boxes) == (bound, boxes) and bound is not None and boxes > 0
    assert decision.verdict.reason == f"out of time after 2 s: {left} boxes left open, {boxes} bounded"
    gate.set()
    wait_for_compilations(time.monotonic() + 60)


def test_ctrl_c_while_a_batch_takes_long_is_answered_at_once():
    def interrupt(stage, bound, boxes, left):
        if stage == "search" and not gate.is_set():
            for _ in range(4):  # a callback of JAX's may swallow it, as it may a signal
                pressed.append(time.monotonic())
                _thread.interrupt_main()  # as a signal does; the search is in another thread
                if gate.wait(5):
                    break

    gate, params, pressed = threading.Event(), draw(3, hidden=32), list[float]()
    prop = below(Fraction(smallest(params)) - Fraction(1, 20))
    decision = decide(Subject(network, params, SPECS), prop, timeout=300, progress=interrupt)
    assert time.monotonic() - pressed[-1] < 5
    assert isinstance(decision.verdict, Unknown) and decision.verdict.reason.startswith("interrupted: ")
    assert decision.bound is not None and decision.boxes > 0
    assert compiles()
    gate.set()
    start = time.monotonic()
    assert wait_for_compilations(time.monotonic() + 60) and time.monotonic() - start < 30  # it has stopped too


def test_a_point_that_there_is_no_time_to_judge_is_not_lost_silently():
    """Exponentials take long in exact arithmetic: here many seconds for one point."""

    def curved(weights, x):
        y = x.sum() * weights
        for _ in range(16):
            y = jnp.tanh(y + 0.3)  # so that no point is an easy one
        return y.mean(keepdims=True)

    inputs = (jax.ShapeDtypeStruct((16,), np.float32),)
    subject = Subject(curved, np.linspace(-1, 1, 40000, dtype=np.float32), inputs)
    prop = Property((Case((Fraction(-1),) * 16, (Fraction(1),) * 16, ((Atom(((0, Fraction(1)),), Fraction(10)),),)),))
    Attack(pose(subject, prop)).advance()  # compiled, so that the attack takes no time
    start = time.monotonic()
    decision = decide(subject, prop, timeout=3)
    assert time.monotonic() - start < 12
    assert isinstance(decision.verdict, Unknown) and decision.verdict.timed_out
    assert decision.verdict.reason.endswith(
        "; a point that looks unsafe was found, but there was no time to judge it in exact arithmetic"
    )
    assert wait_for_compilations(time.monotonic() + 60)  # it ends by itself


def test_judging_stops_at_its_deadline_and_counts_for_nothing():
    params = draw(4)
    question = pose(Subject(network, params, SPECS), below(1000))
    court, point = Court(question, {}), np.float32([0.25, -0.5])
    court.until = time.monotonic()
    assert not court.judge(0, point) and court.unjudged and court.found is None
    court.until, court.unjudged = time.monotonic() + 60, False
    assert court.judge(0, point) and not court.unjudged and not court.judging
    assert court.found is not None and court.found[2] == court.exact.network.evaluate([Fraction(1, 4), Fraction(-1, 2)])


@pytest.mark.parametrize("took", [0.0, 1.5])
def test_a_counterexample_is_checked_again_where_there_is_time(took, tmp_path):
    question = pose(Subject(network, draw(4), SPECS), below(1000))
    court, path = Court(question, {}), tmp_path / "a.cert"
    assert court.judge(0, np.float32([0.25, -0.5]))
    court.took = took  # seconds that judging is taken to have needed: beyond one, another process checks
    none, nothing = Unknown(""), {"checked": False, "levels": []}
    hurried = court.refuted(Decision(none, 0.0, 0.0), None, -1.0)
    assert isinstance(hurried.verdict, Refuted) and hurried.to_dict().items() >= nothing.items()
    checked = court.refuted(Decision(none, 0.0, 0.0), path, 60.0)
    assert isinstance(checked.verdict, Refuted) and checked.to_dict()["levels"] == ["real"]
    assert checked.check_seconds > 0 and checked.certificate_path == str(path)
    assert check_certificate(path).accepted


def test_second_net_of_one_architecture_compiles_nothing():
    decide(Subject(network, draw(11, hidden=9), SPECS), below(-100), timeout=30, check=False)
    wait_for_compilations(time.monotonic() + 60)  # of other tests, in the background
    before = compile_count()
    for seed in (12, 13):
        decide(Subject(network, draw(seed, hidden=9), SPECS), below(-101), timeout=30, check=False)
    assert compile_count() == before
    decide(Subject(network, draw(14, hidden=10), SPECS), below(-101), timeout=30, check=False)
    assert compile_count() > before  # the count can rise: another architecture


def test_a_property_of_another_model_is_refused():
    prop = robust([0.0, 0.0, 0.0], 0, 2, "0.1")
    with pytest.raises(SpecError, match="speaks of 3 inputs, the model has 2"):
        decide(Subject(network, draw(0), SPECS), prop)


def test_nearest_is_round_to_nearest_even():
    generator = np.random.default_rng(0)
    for value in generator.normal(size=200):
        assert nearest(Fraction(float(value))) == np.float32(value)
    halfway = (Fraction(1) + Fraction(1) + Fraction(1, 2**23)) / 2
    assert float(nearest(halfway)) == 1.0
    assert float(nearest(halfway + Fraction(1, 10**40))) == 1 + 2.0**-23


def test_leaves_that_a_checker_refuses_are_split_further(tmp_path):
    params = draw(2)
    question = pose(Subject(network, params, SPECS), below(Fraction(smallest(params)) - Fraction(1, 5)))
    search = Search(question)
    assert search.run(time.monotonic() + 60, lambda *_: False) == "closed"
    leaves = search.tree.leaves
    search.reopen([(0, 0), (0, leaves - 1)])
    assert search.open == 4 and search.tree.leaves == leaves - 2
    assert search.run(time.monotonic() + 60, lambda *_: False) == "closed"
    assert search.tree.leaves >= leaves + 2
    proof = tree_proof(search.tree, question.property)
    exact = exactly(question.subject)
    made = certificate(exact.model, exact.blob, describe_property(question.property), "holds", proof, {})
    assert check_certificate(made).accepted


@pytest.mark.slow
def test_out_of_memory_halves_the_batch_and_goes_on():
    """A device that can hold eight boxes at once: the search finds that out and still closes."""
    params = draw(0)
    prop = below(Fraction(smallest(params)) - Fraction(1, 5))
    search = Search(pose(Subject(network, params, SPECS), prop))
    real, widths = search.bounding, []

    class SmallDevice:
        def __getattr__(self, name):
            return getattr(real, name)

        def __call__(self, case, lo, hi, width, *rest):
            widths.append(width)
            if width > 8:
                raise MemoryError("RESOURCE_EXHAUSTED: out of memory")
            return real(case, lo, hi, width, *rest)

    search.bounding = SmallDevice()  # pyright: ignore[reportAttributeAccessIssue]
    assert search.run(time.monotonic() + 60, lambda *_: False) == "closed"
    assert widths[:4] == [64, 32, 16, 8] and max(widths[4:]) <= 8
