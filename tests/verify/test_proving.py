"""`ax.prove`: what is promised, what must never be proved, guards, memory, and answers that do not contradict."""

import io
import time
import warnings
from fractions import Fraction
from typing import Annotated

import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from jaxtyping import Array, Float
from rich.console import Console

import axiom_jax as ax
from axiom_jax import nn
from axiom_jax.verification import proving, settling
from axiom_jax.verification.composing import Unfit, pose_statement
from axiom_jax.verification.derivation_checker import check
from axiom_jax.verification.spec.notation import read, rounded
from axiom_jax.verification.verdict import interrupted
from axiom_jax.verification.watching import Guard

pytestmark = pytest.mark.filterwarnings("ignore::axiom_jax.UnprovedWarning")

PROVED = [
    "∀x. sum(softmax(x)) == 1.0",
    "∀x. 0 <= sigmoid(x) <= 1",
    "∀x ∈ [0, 1]. sigmoid(x) >= 0.5",
    "∀x. relu(x) >= 0",
    "forall x in [0, 1]. x^2 <= x",
    "∀x, y > 0. x + y > 0",
    "∃x. x > 3",
    "∀x. ∃y. y > x",
    "sigmoid(0) = 1/2",
    "∀x, y ∈ R^n. |x + y| <= |x| + |y|",
]
REFUTED = [
    "∀x. relu(x) - 5 >= 0",
    "∀x. sum(softmax(x)) = 2",
    "∀x. sigmoid(x) >= 0.1",
    "∀x. relu(-x) = -relu(x)",
    "∀x ∈ [0, 1]. x < 1",
    "∀x. log(x) <= x",
    "∃x. relu(x) < 0",
    "∀x ∈ [0, 8/255]. x <= 0.03137254",
]


@pytest.mark.parametrize("text", PROVED)
def test_proved(text):
    verdict = ax.prove(text, timeout=20)
    assert isinstance(verdict, ax.Proved), verdict
    assert check(verdict.certificate.to_bytes()).accepted
    assert verdict.text == text and "over the real numbers" in str(verdict) and verdict.levels == ("real",)


@pytest.mark.parametrize("text", REFUTED)
def test_refuted(text):
    verdict = ax.prove(text, timeout=20)
    assert isinstance(verdict, ax.Refuted), verdict
    assert check(verdict.certificate.to_bytes()).accepted
    if text.startswith("∀"):
        statement = read(text)
        point = {name: np.array(value, dtype=object) for name, value in verdict.counterexample.values}
        arrays = [point[v.name].astype(np.float32) for v in statement.variables]
        assert not bool(jnp.all(statement.condition(*arrays, *rounded(statement.constants))))
        assert "is false" in verdict.counterexample.executed or "no value" in verdict.counterexample.executed


def test_networks_over_boxes():
    model = ax.Sequential(nn.Dense(2, 3), nn.relu, nn.Dense(3, 2))
    proved = ax.prove("∀x ∈ [-1, 1]. |model(x)| <= 100", timeout=60)
    assert isinstance(proved, ax.Proved) and hasattr(proved.certificate, "network")
    refuted = ax.prove("∀x ∈ [-1, 1]. model(x)[0] <= model(x)[1] - 100", timeout=60)
    assert isinstance(refuted, ax.Refuted)
    x = refuted.counterexample["x"]
    assert x.shape == (2,) and float(model(x[None])[0, 0]) > float(model(x[None])[0, 1]) - 100


def test_ctrl_c_while_the_checker_runs_keeps_the_claim_and_is_told(monkeypatch):
    def pressed(path, timeout=None):
        raise KeyboardInterrupt

    monkeypatch.setattr("axiom_jax.verification.search.decide.run_checker", pressed)
    model = ax.Sequential(nn.Dense(2, 3), nn.relu, nn.Dense(3, 2))
    found = ax.prove("∀x ∈ [-1, 1]. |model(x)| <= 100", timeout=60, names={"model": model})
    assert isinstance(found, ax.Claimed) and interrupted(found), found
    assert "had closed every box" in found.reason and found.guard is not None


@pytest.mark.campaign
def test_refuted_existence_over_a_box():
    model = ax.Sequential(nn.Dense(2, 3), nn.relu, nn.Dense(3, 1))
    never = ax.prove("∃x ∈ [-1, 1]. model(x)[0] > 1000", timeout=60)
    assert isinstance(never, ax.Refuted) and never.counterexample is None and model is not None


def test_networks_with_exact_thresholds():
    identity = ax.Sequential(nn.Dense(1, 1), seed=0)
    weight = identity.params[next(iter(identity.params))]
    weight["kernel"], weight["bias"] = jnp.ones((1, 1)), jnp.zeros(1)
    names = {"f": identity}
    assert isinstance(ax.prove("∀x ∈ [0, 0.1]. f(x)[0] <= 0.1", names=names), ax.Proved)
    assert isinstance(ax.prove("∀x ∈ [0, 0.1]. f(x)[0] < 0.1", names=names), ax.Refuted)


def test_a_statement_as_a_network_property():
    posed = pose_statement(read("∀x ∈ [0, 1]^2. x[0] <= 0.5 ⟹ x[0] + x[1] < 2 ∧ x[1] != 3"))
    assert all(case.hi[0] == Fraction(1, 2) for case in posed.property.cases)
    disjuncts = [d for case in posed.property.cases for d in case.unsafe]
    assert len(disjuncts) == 1  # the sum reaches 2; no entry is 3
    for text in ("∀x. x >= 0", "∀x ∈ R^2. x >= 0", "∃x ∈ [0, 1]^2. x >= 0", "∀x ∈ [0, 1]^2. 0.1 * x <= 1"):
        with pytest.raises(Unfit):
            pose_statement(read(text))


@settings(max_examples=15)
@given(st.integers(0, 10**6))
def test_network_properties_mean_the_condition(seed):
    """At random points the property's unsafe cases are where the condition is false."""
    rng = np.random.default_rng(seed)
    text = rng.choice(["∀x ∈ [-1, 1]^2. x[0] > 0 ⟹ |x[1]| <= x[0]", "∀x ∈ [-1, 1]^2. ¬(x[0] = x[1] ∨ x < 0.5)",
                       "∀x ∈ [-1, 1]^2. (x[0] < 0) ⟺ (x[1] >= 0.25)"])  # fmt: skip
    statement, x = read(str(text)), rng.choice([-1, -0.5, 0, 0.25, 0.5, 1], 2).astype(np.float32)
    posed = pose_statement(statement)
    outputs = np.asarray(posed.subject.outputs(posed.subject.params, jnp.asarray(x)))
    value = lambda atom: sum(c * Fraction(float(outputs[j])) for j, c in atom.output) + sum(
        c * Fraction(float(x[i])) for i, c in atom.input)  # fmt: skip
    met = lambda atom: value(atom) < atom.threshold if atom.strict else value(atom) <= atom.threshold
    inside = lambda case: all(lo <= Fraction(float(v)) <= hi for lo, v, hi in zip(case.lo, x, case.hi, strict=True))
    unsafe = any(inside(case) and any(all(map(met, d)) for d in case.unsafe) for case in posed.property.cases)
    assert unsafe is not bool(jnp.all(statement.condition(x, *rounded(statement.constants))))


def test_unknown_says_what_was_tried_and_gives_a_guard():
    proving._warned_of.clear()
    hard = "∀x ∈ R^n. digamma(x)^2 >= 0"
    names = {"digamma": jax.scipy.special.digamma}
    with pytest.warns(ax.UnprovedWarning) as found:
        verdict = ax.prove(hard, timeout=1.0, names=names)
    assert str(found[0].message) == f"Cannot prove: {hard}\nAdding runtime assertion instead."
    assert found[0].filename == __file__
    assert isinstance(verdict, ax.Unknown) and verdict.tried and verdict.text == hard
    assert not any("failed" in line for line in verdict.tried)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        again = ax.prove(hard, timeout=1.0, names=names)  # warned once
    again.guard(jnp.array([1.0, 2.0]))
    with pytest.raises(ax.EnsureViolation, match="digamma"):
        again.guard(jnp.array([jnp.nan]))


def test_guards_demand_the_condition_inside_of_the_region():
    guard = Guard(read("∀x ∈ [0, 1]. ∀y. x + y <= 1.1"))
    guard(jnp.array([0.5]), jnp.array([0.6]))
    guard(jnp.array([5.0]), jnp.array([0.6]))  # outside nothing is claimed
    guard(jnp.array([0.5]), y=jnp.array([0.1]))
    with pytest.raises(ax.EnsureViolation):
        guard(jnp.array([0.6]), jnp.array([0.6]))

    @jax.jit
    def program(x):
        guard(x, x)
        return x + 1

    assert float(program(jnp.array([0.25]))[0]) == 1.25
    with pytest.raises(ax.EnsureViolation), ax.guards("raise"):
        program(jnp.array([0.75])).block_until_ready()
    with pytest.raises(ax.SpecError, match="variables"):
        guard(jnp.array([0.5]))


def test_the_same_text_costs_nothing_extra():
    text = "∀x. softplus(x) > 0"
    first = ax.prove(text)
    start = time.monotonic()
    assert ax.prove(text) is first
    assert time.monotonic() - start < 0.5
    bound = 2.0
    assert isinstance(ax.prove("∀x ∈ [0, 1]. x <= bound"), ax.Proved)
    bound = 0.5
    assert isinstance(ax.prove("∀x ∈ [0, 1]. x <= bound"), ax.Refuted)
    assert bound
    text = "∀x ∈ R^d. sum(x * 0 + 1) = 3"
    assert isinstance(ax.prove(text, names={"d": 3}), ax.Proved)
    assert isinstance(ax.prove(text, names={"d": 4}), ax.Refuted)
    scale = {"by": 1.0}
    f = lambda x: x * scale["by"]
    assert isinstance(ax.prove("∀x ∈ [0, 1]. f(x) <= 1"), ax.Proved)
    scale["by"] = 2.0  # what a function reads may change: its verdicts are not kept
    assert isinstance(ax.prove("∀x ∈ [0, 1]. f(x) <= 1"), ax.Refuted)
    assert f is not None


def test_nothing_unchecked_is_proved():
    verdict = ax.prove("∀x. relu(x) + 1 >= 1", check=False)
    assert isinstance(verdict, ax.Claimed) and verdict.reason == "not checked" and verdict.guard is not None
    derivation = verdict.certificate
    theorem = settling._Attempt(read("∀x. relu(x) + 1 >= 1"), time.monotonic(), 5, True)
    theorem._quick()
    assert settling.mismatch(derivation, theorem.theorems[0]) is None
    other = settling._Attempt(read("∀x. relu(x) + 1 >= 1.5"), time.monotonic(), 5, True)
    other._quick()
    assert settling.mismatch(derivation, other.theorems[0]) is not None


def test_exists_is_not_proved_by_what_is_undefined():
    verdict = ax.prove("∃x ∈ R^1. 1 / x > 5 ∧ x <= 0", timeout=3)
    assert not isinstance(verdict, ax.Proved)


def test_verdicts_show_themselves():
    verdict = ax.prove("∀x. relu(x) - 5 >= 0")
    assert "x = [0]" in str(verdict) and "x" in verdict._repr_html_()
    console = Console(width=100, file=io.StringIO())
    console.print(verdict)
    assert "judged" in console.file.getvalue()  # pyright: ignore[reportAttributeAccessIssue]
    point = verdict.counterexample.to_dict()
    assert point["variables"] == {"x": point["inputs"]} and point["kind"] == "real-cex"
    assert str(ax.prove("∀x. relu(x) >= 0")).startswith("proved ∀x. relu(x) >= 0")


@pytest.mark.campaign
def test_random_formulas_are_answered_soundly():
    """Small random statements: nothing proved is violated by samples, nothing refuted holds at its point."""
    rng = np.random.default_rng(0)
    counts = {"proved": 0, "refuted": 0, "unknown": 0, "claimed": 0}

    def term(depth):
        if depth == 0:
            return str(rng.choice(["x", "y", "0.5", "1", "-2", "x[0]"]))
        kind = rng.integers(0, 4)
        if kind == 0:
            return f"({term(depth - 1)} {rng.choice(['+', '-', '*'])} {term(depth - 1)})"
        if kind == 1:
            return f"{rng.choice(['relu', 'sigmoid', 'tanh', 'exp', 'abs', 'softplus'])}({term(depth - 1)})"
        if kind == 2:
            return f"{rng.choice(['max', 'min'])}({term(depth - 1)}, {term(depth - 1)})"
        return f"{rng.choice(['sum(softmax(x))', 'mean(x)', 'max(x)', '‖y‖_∞'])}"

    for _ in range(200):
        text = f"∀x ∈ [-2, 2]. ∀y. {term(2)} {rng.choice(['<=', '>=', '<', '='])} {term(2)}"
        statement = read(text)
        verdict = settling.settle(statement, 3.0)
        counts[type(verdict).__name__.lower()] += 1
        if isinstance(verdict, ax.Proved):
            for n in (1, 2, 3):
                for _ in range(50):
                    x, y = rng.uniform(-2, 2, n), rng.normal(size=n) * 3
                    with jax.enable_x64(True):
                        held = statement.condition(jnp.asarray(x), jnp.asarray(y))
                    assert bool(held) or "=" in text or _close(statement, x, y), text
    print(counts)


def _close(statement, x, y) -> bool:
    """Whether the condition holds up to rounding, nearby."""
    return any(bool(statement.condition(jnp.asarray(x + d, jnp.float32), jnp.asarray(y + d, jnp.float32)))
               for d in (-1e-5, 1e-5))  # fmt: skip


OPTIONS = [{"timeout": None}, {"timeout": "a"}, {"timeout": float("nan")}, {"timeout": float("inf")}, {"timeout": -1},
           {"timeout": True}, {"names": 3}, {"names": {1: 2}}]  # fmt: skip


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_options_that_mean_nothing_are_refused(options):
    with pytest.raises(ax.SpecError) as found:
        ax.prove("∀x. x = x", **options)
    assert found.value.fix and next(iter(options)) in found.value.fix
    if "timeout" in options and options["timeout"] is not None:
        with pytest.raises(ax.SpecError, match="timeout"):
            ax.verify(lambda x: x, ax.Bounded(0, 1), region=ax.Box([0.0], [1.0]), timeout=options["timeout"])


def test_an_unknown_variable_of_a_counterexample_is_told():
    refuted = ax.prove("∀x. relu(x) - 5 >= 0")
    with pytest.raises(ax.SpecError, match="no variable z") as found:
        refuted.counterexample["z"]
    assert found.value.got == "x"


def test_what_is_no_certificate_is_refused(tmp_path):
    for thing in (None, 3, ax.verify(lambda x: 2 * x, ax.Bounded(0, 2), region=ax.Box([0.0], [1.0]))):
        with pytest.raises(ax.CertificateError, match="certificate") as found:
            ax.save_certificate(thing, tmp_path / "a.cert")  # pyright: ignore[reportArgumentType]
        assert "generate_certificate" in (found.value.fix or "")
    with pytest.raises(ax.CertificateError):
        ax.check_certificate(None)  # pyright: ignore[reportArgumentType]
    with pytest.raises(ax.CertificateError) as found:
        ax.save_certificate(ax.prove("∀x. relu(x) >= 0"), tmp_path / "a.cert")
    assert found.value.fix == "give verdict.certificate" and not list(tmp_path.iterdir())


@pytest.mark.parametrize("text", ["∃x ∈ R^3. sum(x) = 1", "∃x ∈ R^(2×2), y ∈ [1, 2]^2. sum(x) = 1/3 and x[0] @ y > 5"])
def test_a_solvers_witness_is_proved(text):
    verdict = ax.prove(text, timeout=20)
    assert isinstance(verdict, ax.Proved) and check(verdict.certificate.to_bytes()).accepted
    attempt = settling._Attempt(read("∃x ∈ R^3. sum(x) = 1"), time.monotonic(), 10, True)
    attempt._quick()
    wrong = np.array([Fraction(1, 2), Fraction(0), Fraction(1)], dtype=object)
    assert attempt._witnessed({"x": wrong}) is None  # only what holds
    right = attempt._witnessed({"x": wrong - np.array([0, 0, Fraction(1, 2)], dtype=object)})
    assert isinstance(right, ax.Proved) and "x = [1/2, 0, 1/2]" in right.scope


def test_a_refutation_that_float32_does_not_see_says_why():
    verdict = ax.prove("∀x. leaky_relu(x) = max(x, 0.01*x)")
    assert isinstance(verdict, ax.Refuted)
    executed = verdict.counterexample.executed
    assert "float32 numbers" in executed and "exact" in executed and executed != "the condition is true"


def test_a_size_is_not_called_as_a_variable():
    assert read("∀n. n >= 2").variables[0].shape == ("m",)
    assert [v.shape for v in read("∀n, m. n >= m").variables] == [("k",), ("k",)]
    assert [v.shape for v in read("∀n. ∀x ∈ R^m. sum(x) >= n").variables] == [("k",), ("m",)]
    assert "m = 1, n = " in str(ax.prove("∀n. n >= 2"))

    def f(x: Float[Array, "m"]):  # noqa: F821
        return x

    assert [v.shape for v in read("∀n, x. sum(f(x)) >= n", {"f": f}).variables] == [("k",), ("m",)]


def test_annotations_that_say_nothing_are_refused():
    def claim(x: Annotated[Float[Array, "n"], "junk"]):  # noqa: F821
        return x >= x

    with pytest.raises(ax.SpecError, match="annotation of x") as found:
        ax.prove(claim)
    assert "junk" in (found.value.got or "")
