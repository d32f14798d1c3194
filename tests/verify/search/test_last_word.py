"""Whatever the fast check says of a proof, the checker decides: nothing is proved against it, and nothing is lost."""

import time
from fractions import Fraction

import jax
import numpy as np
import pytest

from axiom_jax.verification import checker, fast_check
from axiom_jax.verification.proof.certificate import Checked, run_checker
from axiom_jax.verification.property import Atom, Case, Property
from axiom_jax.verification.search import decide as deciding
from axiom_jax.verification.search.branch_and_bound import Search
from axiom_jax.verification.search.decide import FEW, decide
from axiom_jax.verification.search.judging import Court
from axiom_jax.verification.search.margins import Subject, pose
from axiom_jax.verification.search.tree import Tree
from axiom_jax.verification.verdict import Claimed, Decision, Proved, Refuted, Unknown

SPECS = (jax.ShapeDtypeStruct((1, 2), np.float32),)


def network(params, x):
    w, v = params
    return jax.nn.relu(x @ w) @ v


DRAW = np.random.default_rng(2)
W, V = (DRAW.normal(size=shape).astype(np.float32) for shape in ((2, 6), (6, 1)))
SUBJECT = Subject(network, (W, V), SPECS)
GRID = np.stack(np.meshgrid(*[np.linspace(-1, 1, 101)] * 2), -1).reshape(-1, 2).astype(np.float32)
BELOW = Fraction(float(network((W, V), GRID).min())) - Fraction(1, 10)
ASKED = Property((Case((Fraction(-1),) * 2, (Fraction(1),) * 2, ((Atom(((0, Fraction(1)),), BELOW),),)),))


FAST = fast_check.check


def refusing(data, threads=1):
    """A fast check that refuses every leaf."""
    result = FAST(data)
    found = checker.Result(1, "refused")
    found.leaves, found.failed = result.leaves, [(0, leaf) for leaf in range(result.leaves)]
    return found


@pytest.fixture
def asked(monkeypatch):
    """What was asked of either checker, in order, and what it said."""
    said = []

    def told(name, check):
        def asking(*given):
            found = check(*given)
            said.append((name, found.accepted))
            return found

        return asking

    def use(fast=FAST, exact=run_checker):
        monkeypatch.setattr(deciding, "REPAIRS", 2)  # every one doubles the leaves here
        monkeypatch.setattr(deciding, "AT_FLOAT32", 1)
        monkeypatch.setattr(fast_check, "check", told("fast", fast))
        monkeypatch.setattr(deciding, "run_checker", told("exact", exact))
        return said

    return use


@pytest.mark.parametrize("float32", [False, True])
def test_a_proof_that_the_fast_check_refuses_is_judged_by_the_checker(asked, float32):
    said = asked(fast=refusing)
    decision = decide(SUBJECT, ASKED, float32=float32)
    assert decision.leaves > FEW and isinstance(decision.verdict, Proved), decision
    assert ("fast", False) in said and said[-1] == ("exact", True) and ("fast", True) not in said


@pytest.mark.parametrize("again", [False, True])
def test_a_proof_that_the_checker_refuses_is_never_proved(asked, again):
    def refuse(path, timeout=None):
        failed = tuple(refusing(path.read_bytes()).failed) if again else ()
        return Checked(False, "refused by the checker", failed=failed)

    said = asked(exact=refuse)
    decision = decide(SUBJECT, ASKED)
    assert decision.leaves > FEW and isinstance(decision.verdict, Claimed), decision
    assert decision.verdict.reason == "the checker did not accept: refused by the checker"
    assert ("fast", True) in said and said[-1] == ("exact", False) and ("exact", True) not in said
    assert (said.count(("exact", False)) > 1) is again


def test_a_point_that_turns_up_while_a_proof_is_mended_refutes():
    """A search that believed what is false closed its only leaf; split again, it finds a point, judged exactly."""
    above = Property((Case((Fraction(-1),) * 2, (Fraction(1),) * 2, ((Atom(((0, Fraction(1)),), BELOW + 1),),)),))
    question = pose(SUBJECT, above)
    tree, search = Tree(1), Search(question)
    tree.close(0, (0,))
    search.resume(tree)
    assert search.run(time.monotonic() + 60, lambda *_: False) == "closed"
    decision = Decision(Unknown(""), 0.0)
    found = deciding._conclude(
        Court(question, {}), search, decision, True, 60.0, None, time.monotonic() + 60, lambda *_: None
    )
    assert isinstance(found.verdict, Refuted) and found.verdict.levels == ("real",)
