"""SMT-LIB text that two solvers read alike, facts that are facts, and answers that are true."""

import time
from fractions import Fraction
from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import z3
from hypothesis import given
from hypothesis import strategies as st

import axiom_jax as ax
from axiom_jax._errors import AxiomError, SpecError
from axiom_jax.verification.domains.algebra import terms as T
from axiom_jax.verification.domains.algebra.enclosing import Undefined, enclosures, function_bounds
from axiom_jax.verification.domains.smt.axioms import BOUNDED, CURVATURE, INCREASING, Occurrence, facts, point_facts
from axiom_jax.verification.domains.smt.smtlib import quoted
from axiom_jax.verification.domains.smt.solving import ask, solve
from axiom_jax.verification.domains.symbolic.translate import theorem_of
from axiom_jax.verification.statement import Range, Statement, Variable

X, VECTOR, Y = Variable("x", ()), Variable("x"), Variable("y", ())
UNIT = Variable("x", (), Range(Fraction(0), Fraction(1)))


def soon(seconds=10.0):
    return time.monotonic() + seconds


def scalar():
    return jax.ShapeDtypeStruct((), jnp.float32)


TRUE = {
    "softmax": ((VECTOR,), lambda x: jnp.sum(jax.nn.softmax(x)) == 1),
    "sigmoid": ((X,), lambda x: jax.nn.sigmoid(x) + jax.nn.sigmoid(-x) == 1),
    "softplus": ((X,), lambda x: jax.nn.softplus(x) >= jax.nn.relu(x)),
    "silu": ((X,), lambda x: jax.nn.silu(x) >= -0.3),
    "logsumexp": ((VECTOR,), lambda x: jax.nn.logsumexp(x) >= jnp.max(x)),
    "lipschitz": ((X, Y), lambda x, y: jnp.abs(jnp.tanh(x) - jnp.tanh(y)) <= jnp.abs(x - y)),
    "path": ((X,), lambda x: (x == 0) | (x / x == 1)),
    "unit": ((UNIT,), lambda x: x * x <= x),
    "taylor": ((UNIT,), lambda x: jnp.exp(x) >= 1 + x + x * x / 2),
    "rounding": ((X,), lambda x: jnp.abs(x - jnp.floor(x)) < 1),
    "circle": ((X,), lambda x: jnp.sin(x) ** 2 + jnp.cos(x) ** 2 == 1),
    "sorted": ((VECTOR,), lambda x: jnp.sort(x)[0] == jnp.min(x)),
    "root": ((X,), lambda x: jnp.sqrt(x * x) == jnp.abs(x)),
}
FALSE = {
    "softmax": ((VECTOR,), lambda x: jnp.sum(jax.nn.softmax(x)) == 2),
    "relu": ((X,), lambda x: jax.nn.relu(x) - 5 >= 0),
    "sigmoid": ((X,), lambda x: jax.nn.sigmoid(x) >= 0.1),
    "gelu": ((X,), lambda x: jax.nn.gelu(x) >= -0.1),
    "undefined": ((X,), lambda x: x / x == 1),
    "variance": ((VECTOR,), lambda x: jnp.var((x - jnp.mean(x)) / jnp.sqrt(jnp.var(x) + 1)) == 1),
    "strict": ((X,), lambda x: jnp.exp(x) > 1 + x),
    "odd": ((X,), lambda x: jax.nn.relu(-x) == -jax.nn.relu(x)),
}


@pytest.mark.parametrize("name", TRUE)
def test_true_statements_hold(name):
    variables, condition = TRUE[name]
    assert solve(Statement(name, variables, condition), {"n": 2}, soon()).holds is True


@pytest.mark.parametrize("name", FALSE)
def test_false_statements_come_with_a_point_that_breaks_them(name):
    variables, condition = FALSE[name]
    answer = solve(Statement(name, variables, condition), {"n": 2}, soon())
    assert answer.holds is False
    with jax.enable_x64(True):
        assert not np.all(condition(jnp.asarray(answer.point["x"].astype(float))))


@pytest.mark.parametrize(("name", "holds"), [("softmax", True), ("silu", True), ("relu", False), ("sigmoid", False)])
def test_theorems_are_asked_like_statements(name, holds):
    variables, condition = (TRUE if holds else FALSE)[name]
    theorem = theorem_of(Statement(name, variables, condition))
    assert solve(theorem, {"n": 2}, soon()).holds is holds


def test_quantifiers():
    exists = Variable("y", (), quantifier="exists")
    every = lambda c: solve(Statement("it", (X, exists), c), {}, soon()).holds
    assert every(lambda x, y: y > x * x) is True
    assert every(lambda x, y: y * y == x) is False
    some = lambda c: solve(Statement("it", (exists,), c), {}, soon())
    found = some(lambda y: jnp.exp(y) > 100)
    assert found.holds is True and float(found.point["y"].item()) > 4.6
    assert some(lambda y: y * y == 2).holds is True
    assert some(lambda y: y * y < 0).holds is False


@pytest.mark.parametrize("name", ["silu", "path", "unit", "sorted"])
def test_cvc5_answers_too(name):
    pytest.importorskip("cvc5")
    variables, condition = TRUE[name]
    assert solve(Statement(name, variables, condition), {"n": 2}, soon(), "cvc5").holds is True


def test_cvc5_refutes_and_writes_proofs():
    pytest.importorskip("cvc5")
    variables, condition = FALSE["gelu"]
    assert solve(Statement("it", variables, condition), {}, soon(), "cvc5").holds is False
    answer = solve(Statement("it", (X,), lambda x: jax.nn.relu(x) >= x), {}, soon(), "cvc5", proof=True)
    assert answer.holds is True and "(step" in answer.proof


def test_a_solver_that_hangs_is_killed():
    hard = Statement("triangle", (VECTOR, Variable("y")), lambda x, y: jnp.linalg.norm(x + y) <= jnp.linalg.norm(x) +
                     jnp.linalg.norm(y))  # fmt: skip
    start = time.monotonic()
    answer = solve(hard, {"n": 6}, start + 1.0)
    assert answer.holds is None and time.monotonic() - start < 4 and answer.reason


TEXTS = {
    "linear": lambda: ax.to_smtlib(lambda x: jax.nn.relu(2 * x - 1), scalar()),
    "functions": lambda: ax.to_smtlib(lambda x: jnp.exp(x) + jnp.sin(x) + jax.nn.sigmoid(x), scalar()),
    "several": lambda: ax.to_smtlib(lambda a, b: {"p": a @ b, "q": jnp.linalg.norm(b) > 1},
                                    jax.ShapeDtypeStruct((2, 2), jnp.float32), jax.ShapeDtypeStruct((2,), jnp.float32)),
    "floor": lambda: ax.to_smtlib(jnp.floor, scalar()),
    "true": lambda: ax.to_smtlib(Statement("it", *TRUE["unit"]), sizes={}),
    "false": lambda: ax.to_smtlib(Statement("it", *FALSE["odd"])),
    "quantified": lambda: ax.to_smtlib(Statement("it", (X, Variable("y", (), quantifier="exists")),
                                                 lambda x, y: y > x + 1)),
}  # fmt: skip


@pytest.mark.parametrize("name", TEXTS)
def test_both_solvers_read_the_text_alike(name):
    pytest.importorskip("cvc5")
    text = TEXTS[name]()
    expected = "unsat" if name in ("true", "quantified") else "sat"
    answers = {solver: ask(text, 10.0, solver)["answer"] for solver in ("z3", "cvc5")}
    assert answers == {"z3": expected, "cvc5": expected}


def test_outputs_are_defined_with_their_meaning():
    text = ax.to_smtlib(lambda x, y: jnp.maximum(x, y) / (x - y), scalar(), scalar())
    context = z3.Context()
    solver = z3.Solver(ctx=context)
    solver.from_string(text.replace("(check-sat)", "(assert (= x 3.0))(assert (= y 1.0))(assert (= output (/ 3.0 2.0)))"
                                    "(assert defined)"))  # fmt: skip
    assert solver.check() == z3.sat
    solver.add(z3.Real("x", context) != 3)
    assert solver.check() == z3.unsat
    assert "(set-logic QF_NRA)" in text
    assert "(set-logic QF_LRA)" in TEXTS["linear"]() and "(set-logic QF_LIRA)" in TEXTS["floor"]()


def test_the_text_is_linear_in_the_program():
    def deep(layers):
        def net(x):
            for _ in range(layers):
                x = jnp.tanh(x * x + x)
            return x

        return len(ax.to_smtlib(net, scalar()))

    assert deep(24) - deep(16) < 1.5 * (deep(16) - deep(8)) + 6000


def test_inputs_that_are_called_like_outputs():
    text = ax.to_smtlib(lambda output, defined: output + defined, scalar(), scalar())
    assert ask(text, 5.0, "z3")["answer"] == "sat" and "|output'|" in text


def test_errors_say_what_is_missing():
    with pytest.raises(SpecError, match="given sizes"):
        ax.to_smtlib(Statement("it", (VECTOR,), lambda x: x > 0))
    with pytest.raises(AxiomError, match="no such solver"):
        solve(Statement("it", *TRUE["unit"]), {}, soon(), "yices")
    with pytest.raises(AxiomError, match="about statements"):
        solve("x > 0", {}, soon())


FUNCTIONS = ["exp", "log", "tanh", "logistic", "erf", "sin", "cos", "atan", "asin", "acos", "erf_inv"]


@given(st.sampled_from(FUNCTIONS), st.integers(-60, 60), st.integers(-60, 60), st.integers(-40, 40))
def test_every_fact_holds_of_the_true_values(name, a, b, c):
    """Facts about f(s), f(t) and f(s + t), and about a point, judged by enclosures: none is false."""
    narrow = 64 if name in ("asin", "acos", "erf_inv") else 8
    s, t = (T.variable(v) for v in "st")
    arguments = [s, t, T.add([s, t]), T.neg(s), T.number(Fraction(c, narrow))]
    occurrences = [Occurrence(T.variable(f"f{i}"), name, argument) for i, argument in enumerate(arguments)]
    point = {"s": Fraction(a, narrow), "t": Fraction(b, narrow)}
    exact = {T.variable(f"f{i}"): T.raw("call", [argument], name) for i, argument in enumerate(arguments)}
    known = facts(occurrences, 2)
    for o in occurrences:
        known += point_facts(o, [Fraction(c, 8), Fraction(0), Fraction(1), Fraction(-3), Fraction(a, 16)])
    form = {}
    for t in T.topological(known):
        form[t] = exact.get(t, t if not t.args else T.raw(t.op, [form[a] for a in t.args], t.value))
    for fact, holds in zip(known, enclosures([form[fact] for fact in known], point), strict=True):
        assert holds is not False, (name, fact, point)


@pytest.mark.parametrize("name", sorted(CURVATURE))
def test_curvature_and_growth_are_as_the_tables_say(name):
    xs = [Fraction(k, 16) for k in range(-15, 16)] if name in ("asin", "erf_inv") else [Fraction(k, 4) for k in
                                                                                      range(-16, 17)]  # fmt: skip
    xs = [x for x in xs if name != "log" or x > 0]
    value = {x: sum(function_bounds(name, x)) / 2 for x in xs}
    assert name not in INCREASING or all(value[p] < value[q] for p, q in pairwise(xs))
    assert all(BOUNDED[name][0] < v < BOUNDED[name][1] for v in value.values()) if name in BOUNDED else True
    for p, q, r in zip(xs, xs[1:], xs[2:], strict=False):
        if p < 0 < r:
            continue
        bend = CURVATURE[name][0 if r <= 0 else 1]
        assert bend * (value[p] + value[r] - 2 * value[q]) > 0


def test_unknown_functions_have_no_values():
    with pytest.raises(Undefined):
        function_bounds("gnarl", Fraction(1))


@pytest.mark.parametrize(("name", "written"), [("x", "x"), ("x[0]", "|x[0]|"), ("exp", "|exp|"), ("ε", "|ε|")])
def test_symbols_are_quoted_where_needed(name, written):
    assert quoted(name) == written
