"""The notation: what parses, what it means, how it is written back, and what is said of mistakes."""

import sys
from fractions import Fraction

import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given

import axiom_jax as ax
from axiom_jax import nn
from axiom_jax.verification.spec.notation import read, rounded
from axiom_jax.verification.spec.parsing import parse
from axiom_jax.verification.spec.syntax import (
    Arithmetic,
    BallSet,
    Call,
    Comparison,
    Connective,
    Index,
    Interval,
    Member,
    Name,
    Negative,
    Norm,
    Not,
    Number,
    Quantified,
    Region,
    Related,
    decimal,
    show,
)
from axiom_jax.verification.statement import Ball, Range

ONE = Number(Fraction(1))


def holds(text: str, *arrays, names=None) -> bool:
    """Execute a statement's condition at values of its variables."""
    statement = read(text, names)
    arrays = [jnp.asarray(a, jnp.float32) for a in arrays]
    return bool(jnp.all(statement.condition(*arrays, *rounded(statement.constants))))


# --- round trip

names = st.sampled_from(["x", "y", "α", "eps", "x_1", "jnp.sum"])
plain = st.sampled_from(["x", "y", "i", "θ"])
numbers = st.builds(lambda n, k: Number(Fraction(n, 10**k)), st.integers(0, 10**12), st.integers(0, 20))
orders = st.sampled_from([1, 2, "inf"])
sizes = st.lists(st.one_of(st.integers(1, 99), st.sampled_from(["n", "m"])), min_size=0, max_size=3).map(tuple)


def larger(trees):
    pairs = st.tuples(trees, trees)
    arguments = st.lists(trees, min_size=1, max_size=3).map(tuple)
    chain = st.tuples(st.sampled_from(["<=", "<", ">=", ">", "==", "!="]), trees, st.none())
    near = st.tuples(st.just("≈"), trees, st.one_of(st.none(), trees))
    options = st.lists(st.tuples(st.sampled_from(["axis", "keepdims"]), trees), max_size=1).map(tuple)
    regions = st.one_of(
        st.none(), st.builds(Interval, trees, trees, st.booleans(), st.booleans()),
        st.builds(BallSet, trees, trees, orders), st.builds(Name, plain),
    )  # fmt: skip
    domains = st.one_of(
        st.none(), st.builds(Region, regions, st.one_of(st.none(), sizes)),
        st.builds(Related, st.sampled_from([">", "<=", "!="]), trees),
    )  # fmt: skip
    return st.one_of(
        st.builds(Negative, trees),
        pairs.flatmap(lambda p: st.sampled_from("+-*/@^").map(lambda op: Arithmetic(op, *p))),
        st.builds(Call, names, arguments, options),
        st.builds(Norm, trees, orders),
        st.builds(Index, trees, arguments),
        st.builds(Comparison, trees, st.lists(st.one_of(chain, near), min_size=1, max_size=3).map(tuple)),
        st.builds(Member, trees, st.builds(Region, regions)),
        st.builds(Not, trees),
        pairs.flatmap(lambda p: st.sampled_from(["and", "or", "implies", "iff"]).map(lambda op: Connective(op, *p))),
        st.builds(Quantified, st.sampled_from(["forall", "exists"]), plain, domains, trees),
    )


@given(st.recursive(st.one_of(numbers, names.map(Name)), larger, max_leaves=12))
def test_what_is_written_reads_as_the_same_tree(tree):
    assert parse(show(tree)) == tree


@given(st.fractions(max_denominator=10**6))
def test_decimals_are_exact(q):
    text = decimal(q)
    assert (Fraction(text) if "/" not in text else Fraction(text.replace(" ", ""))) == q


SPELLINGS = [
    ("forall x in [0, 1]. sigmoid(x) >= 0.5", "∀x ∈ [0, 1]. sigmoid(x) ≥ 0.5"),
    ("for all x: not x < 0 or x <= 1 and x != 2", "∀x. ¬x < 0 ∨ x ≤ 1 ∧ x ≠ 2"),
    ("∀x, y ∈ R^n. ||x - y||_2 < 1 -> |x| <= 3", "∀x ∈ R^n. ∀y ∈ R^n. ‖x - y‖ < 1 ⟹ abs(x) ≤ 3"),
    ("∀x ∈ (0, 1], ∃y > x: x ≈ y ± 1e-3", "∀x ∈ (0, 1]. ∃y > x. x ≈ y ± 0.001"),
    ("∀x. -x² + √(x) · Σ x / 2 ~= x ** -2", "∀x. -x^2 + sqrt(x) * sum(x) / 2 ≈ x^-2"),
    ("∀x ∈ [-1, 1]^(2×3). ‖x‖_∞ <= 1 <=> ‖x‖₁ <= 6", "∀x ∈ [-1, 1]^(2 × 3). ‖x‖_∞ ≤ 1 ⟺ ‖x‖_1 ≤ 6"),
    ("∀x ∈ ball(x0, 8/255), y.sum(x)=y[-1]", "∀x ∈ ball(x0, 8 / 255). ∀y. sum(x) = y[-1]"),
    ("there exists x. x > 1 implies x > 0", "∃x. x > 1 ⟹ x > 0"),
    ("∀x. all((x = 0)) ∨ any(x == 1) ∨ sum(x, axis=0) > 0", "∀x. all((x = 0)) ∨ any((x = 1)) ∨ sum(x, axis=0) > 0"),
    ("∀x∈Rⁿ.‖x‖² ≥ .5", "∀x ∈ R^n. ‖x‖^2 ≥ 0.5"),
]


@pytest.mark.parametrize(("text", "shown"), SPELLINGS)
def test_spellings(text, shown):
    assert show(parse(text)) == shown
    assert parse(shown) == parse(text)


def test_precedence():
    assert parse("a -> b or c and not d = e + f * -g ^ h") == parse(
        "a -> (b or (c and (not (d = (e + (f * (-(g^h))))))))"
    )
    assert parse("∀x. a and b") == parse("∀x. (a and b)")
    assert parse("a -> b -> c") == parse("a -> (b -> c)")
    assert parse("x^y^z") == parse("x^(y^z)")


# --- meaning


def test_regions_are_exact():
    one = lambda text: read(text).variables[0]
    assert one("∀x ∈ [0, 8/255]. x <= 1").within == Range(Fraction(0), Fraction(8, 255))
    assert one("∀x ∈ (-0.1, ∞). x <= 1").within == Range(Fraction(-1, 10), None, lo_open=True)
    assert one("∀x > 1e-3. x > 0").within == Range(Fraction(1, 1000), None, lo_open=True)
    assert one("∀x = 2. x > 0").within == Range(Fraction(2), Fraction(2))
    assert one("∀x. x > 0").within == Range()
    assert one("∀x ∈ ball(1, 0.5). x > 0").within == Range(Fraction(1, 2), Fraction(3, 2))
    around = read("∀x ∈ ball(x0, 1/3, 2). x > 0", {"x0": np.ones(3, np.float32)}).variables[0]
    assert isinstance(around.within, Ball) and around.within.radius == Fraction(1, 3) and around.shape == (3,)
    assert read("∀x ∈ S. x > 0", {"S": ax.Box(0, "0.1")}).variables[0].within == Range(Fraction(0), Fraction(1, 10))


def test_numbers_of_the_text_stay_exact():
    assert read("∀x. 0.1 * x <= 8/255 + 0.5 * x").constants == (Fraction(1, 10), Fraction(8, 255))
    assert read("∀x. 2 * 0.25 * x <= 3").constants == ()
    eps = 0.1
    assert read("∀x. x <= eps + 0", {"eps": eps}).constants == (Fraction(eps),)
    assert read("∀x. x <= eps", {"eps": Fraction(1, 10)}).constants == (Fraction(1, 10),)
    assert read("∀x. x ≈ x").constants == (Fraction(1, 10**6),)


def test_shapes():
    shape = lambda text, **known: [v.shape for v in read(text, known).variables]
    model = ax.Sequential(nn.Dense(4, 3), nn.softmax)
    assert shape("∀x, y. x <= y + 1") == [("n",), ("n",)]
    assert shape("∀x ∈ [0, 1]^(2 × m). x <= 1") == [(2, "m")]
    assert shape("∀x ∈ R^d. x <= 1", d=3) == [(3,)]
    assert shape("∀x ∈ R^(). x <= 1") == [()]
    assert shape("∀x, δ. f(x + 2 * δ)[0] <= 1", f=model) == [(4,), (4,)]
    assert shape("∀x. ∀y ∈ ball(x, 1). sum(f(x)) >= sum(f(y)) - 1", f=model) == [(4,), (4,)]
    assert shape("∀x ∈ [lo, 1]. x <= 1", lo=np.zeros((2, 2), np.float32)) == [(2, 2)]
    assert shape("∀x ∈ B. x <= 1", B=ax.Box([0, "0.1", 0], 1)) == [(3,)]


def test_comparisons_hold_for_all_components():
    assert holds("∀x. x >= 0", [0.0, 1.0])
    assert not holds("∀x. x >= 0", [-1.0, 1.0])
    assert holds("∀x. ¬(x >= 0)", [-1.0, 1.0])  # one truth value, which is denied
    assert holds("∀x. 0 <= x < 1", [0.0, 0.5]) and not holds("∀x. 0 <= x < 1", [0.0, 1.0])
    assert holds("∀x. x ≈ 1 ± 0.1", [1.05]) and not holds("∀x. x ≈ 1", [1.05])
    assert holds("∀x. (x > 0) = (x > 0)", [1.0])


def test_reductions_and_elementwise_maxima():
    assert holds("∀x. sum(x) = 6 and mean(x) = 2 and max(x) = 3 and min(x) = 1", [1, 2, 3])
    assert holds("∀x. max(x, 2) >= 2 and min(x, 2, 1) <= 1", [1, 2, 3])
    assert holds("∀x. Σ x / 2 = 3 and √4 * x = x + x", [1, 2, 3])
    assert holds("∀x ∈ R^(2×2). sum(x, axis=0)[1] = 6", [[1, 2], [3, 4]])
    assert holds("∀x. ‖x‖ = 5 and ‖x‖_1 = 7 and ‖x‖_∞ = 4 and |x| <= 4 and norm(x, 1) = 7", [3, -4])
    assert holds("∀x. sum(where(x > 1, x, 0)) = 5 and all(x > 0) and not any(x > 3)", [1, 2, 3])


def test_connectives():
    for a in (0.0, 1.0):
        for b in (0.0, 1.0):
            p, q = bool(a), bool(b)
            for sign, want in (("∧", p and q), ("∨", p or q), ("⟹", not p or q), ("⟺", p == q)):
                assert holds(f"∀x, y. x > 0 {sign} y > 0", [a], [b]) is want


def test_powers_constants_and_sizes():
    assert holds("∀x. x² = x * x and x^3 = x**3 and x^-1 = 1/x and x^0.5 = √x", [4.0])
    assert holds("∀x. e^x ≈ exp(x) ± 1e-5 and π ≈ 3.14159265 ± 1e-5 and e ≈ 2.718281828 ± 1e-5", [1.0])
    assert holds("∀x. sum(x) / n = mean(x)", [1.0, 2.0, 6.0])
    assert holds("∀x ∈ R^(m × k). sum(x) <= m * k", np.ones((2, 3)))


def test_indices():
    assert holds("∀x. x[0] = 1 and x[-1] = 3 and x[0] + x[-1] = 4", [1, 2, 3])
    assert holds("∀x. ∃i. x[i] > 2", [1, 2, 3]) and not holds("∀x. ∃i. x[i] > 3", [1, 2, 3])
    assert holds("∀x, i, j. x[i] - x[j] <= 2", [1, 2, 3]) and not holds("∀x, i, j. x[i] - x[j] < 2", [1, 2, 3])
    assert holds("∀x. ∀i. ∃j. x[j] >= x[i]", [1, 2, 3]) and not holds("∀x. ∀i. ∃j. x[j] > x[i]", [1, 2, 3])
    assert holds("∀x ∈ R^(2×2). ∀i, j. x[i, j] = x[i][j]", [[1, 2], [3, 4]])
    assert not holds("∀x ∈ R^(2×2). ∀i, j. x[i, j] = x[j, i]", [[1, 2], [3, 4]])
    assert holds("∀x ∈ R^(2×2). ∀i. sum(x[i]) <= 7", [[1, 2], [3, 4]])
    assert holds("∀x. ¬(∃i. x[i] > 3)", [1, 2, 3])


def test_domains_that_are_no_intervals_become_conditions():
    assert holds("∀x. ∀y ∈ [0, x]. y <= x", [1.0], [2.0])  # nothing is claimed outside
    assert not holds("∀x. ∃y ∈ [0, x]. y > 0", [1.0], [2.0])  # a witness has to be inside
    assert holds("∀x. ∀y ∈ ball(x, 1). |x - y| <= 1", [1.0], [5.0])
    assert holds("∀x. x ∈ [0, 1] ⟹ x² <= x", [3.0]) and not holds("∀x. x ∈ [0, 1)", [1.0])
    assert not holds("∀x ∈ B. x <= 0", [0.5, 0.5], names={"B": ax.Box([0, 0], 1)})


def test_quantifiers_come_to_the_front():
    kinds = lambda text: [(v.name, v.quantifier) for v in read(text).variables]
    assert kinds("∀x. ¬(∃y. y > x)") == [("x", "forall"), ("y", "forall")]
    assert kinds("∀x. (∀y. y > x) ⟹ (∃z. z < x)") == [("x", "forall"), ("y", "exists"), ("z", "exists")]
    assert kinds("(∀x. x >= 0) ∧ (∃y. y >= 0)") == [("x", "forall"), ("y", "exists")]


def test_models_act_on_one_example():
    model = ax.Sequential(nn.Dense(4, 3), nn.softmax)
    x = np.arange(4, dtype=np.float32)
    statement = read("∀x. model(x)[1] >= 0 ∧ sum(model(x)) ≈ 1 ± 1e-4", {"model": model})
    assert bool(statement.condition(x, *rounded(statement.constants)))
    batch = read("∀x ∈ R^(b × 4). model(x) >= 0", {"model": model})
    assert bool(batch.condition(np.ones((2, 4), np.float32)))


def test_names_of_the_caller():
    W = np.array([[1.0, 2.0]], np.float32)
    twice = lambda x: 2 * x
    frame = sys._getframe()
    assert W is not None and twice is not None
    statement = read("∀x ∈ R^2. W @ x = sum(W[0] * x) and twice(x) = x + x", frame=frame)
    assert bool(statement.condition(jnp.array([1.0, 2.0])))
    W = np.zeros((1, 2), np.float32)  # what was read stays
    assert not bool(jnp.all(statement.condition(jnp.array([1.0, 2.0])) ^ True))
    assert read("∀x. relu(x) >= 0", {"relu": twice}).condition(jnp.array([-1.0])) == False  # noqa: E712


def test_a_library_name_is_not_taken_over():
    def sigmoid(x):
        return x

    with pytest.raises(ax.SpecError, match="two meanings"):
        read("∀x. sigmoid(x) >= 0", frame=sys._getframe())
    assert not holds("∀x. sigmoid(x) >= 0", [-1.0], names={"sigmoid": sigmoid})
    relu = jax.nn.relu
    assert read("∀x. relu(x) >= 0", frame=sys._getframe()) and relu


MISTAKES = {
    "unfinished": "∀x. relu(x) >=",
    "bracket": "∀x. relu(x >= 0",
    "dot": "∀x relu(x) >= 0",
    "dot_after_set": "∀x ∈ [0, 1] relu(x) >= 0",
    "product": "∀x. 2x >= 0",
    "c_and": "∀x. x >= 0 && x <= 1",
    "empty": "   ",
    "free": "relu(x) >= 0",
    "unknown_function": "∀x. rellu(x) >= 0",
    "unknown_value": "∀x. x >= bound",
    "number": "∀x. relu(x)",
    "twice": "∀x. ∀x. x = x",
    "interval": "∀x ∈ [1, 0]. x = x",
    "infinity": "∀x. x < ∞",
    "division": "∀x. x > 1 / 0",
    "called": "∀x. x(3) > 0",
    "set": "∀x ∈ Q. x > 0",
    "entry": "∀x. x[2] >= 0",
    "index": "∀x, i. x[i] >= i",
    "option_order": "∀x. sum(axis=0, x) > 0",
    "option": "∀x. softmax(x, axes=0) > 0",
    "shapes": "∀x ∈ R^2, y ∈ R^3. x <= y",
    "size": "∀x ∈ [0, 1]^0. x = x",
    "ball": "∀x ∈ ball(0). x = x",
    "iff": "∀x. x > 0 ⟺ ∃y. y > x",
    "order": "∃i. ∀x. x[i] > 0",
    "string": "∀x. 'x' > 0",
    "bars": "∀x. |x|| >= 0",
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes_are_told_with_their_place(name, golden):
    with pytest.raises(ax.SpecError) as found:
        read(MISTAKES[name], at="claims.py:3")
    assert found.value.fix and found.value.at == "claims.py:3"
    golden(f"notation/{name}.txt", str(found.value))


@given(st.text(alphabet="∀∃x y.,()[]^<=+-*/|‖≈±0123in∈¬∧⟹_", max_size=30))
def test_any_text_is_read_or_refused(text):
    try:
        read(text)
    except ax.AxiomError as error:
        assert error.fix


@pytest.mark.parametrize(
    "text", ["1e99999 > 0", "∀x. " + "-" * 5000 + "x > 0", "∀x. " + "x + " * 4000 + "x > 0", "x" * 30_000]
)
def test_hostile_texts_are_refused(text):
    with pytest.raises(ax.SpecError):
        read(text)


def test_towers_of_numbers_are_not_computed():
    assert read("∀x. x < 2^2^2^2^2^2").constants == ()
    assert read("∀x. " + "(" * 500 + "x" + ")" * 500 + " > 0").variables


def test_values_that_are_not_exact_are_refused():
    with pytest.raises(ax.SpecError, match="not exact in float32"):
        read("∀x ∈ R^2. w * x = w * x", {"w": np.array([0.1, 0.2])})
    with pytest.raises(ax.SpecError, match="not finite"):
        read("∀x. x <= big", {"big": float("inf")})


CALLS = ["relu(x, 1, 2, 3)", "log(x, x)", "softmax(x, axes=0)", "max(x, 2, axis=0)", "sum(x, foo=0)", "model(x, x)"]


@pytest.mark.parametrize("call", CALLS)
def test_wrong_arguments_are_told_as_such(call):
    model = ax.Sequential(nn.Dense(2, 2))
    with pytest.raises(ax.SpecError) as found:
        read(f"∀x. {call} >= 0", {"model": model})
    fix = found.value.fix or ""
    assert "shapes" not in fix and call.partition("(")[0] + "(" in fix


def test_attributes_of_variables_suggest_the_function():
    k = np.ones((2, 3), np.float32)  # the statement's k is another one
    for text in ("∀q, k ∈ R^(2×3). q @ k.T >= 0", "∀q ∈ R^(2×3). q @ other.T >= 0"):
        with pytest.raises(ax.SpecError) as found:
            read(text, frame=sys._getframe())
        assert "transpose(" in (found.value.fix or "")
    assert k is not None and read("∀q ∈ R^(2×3). q @ k.T >= 0", frame=sys._getframe()).variables
    assert read("∀q, k ∈ R^(2×3). q @ transpose(k) = transpose(k @ transpose(q))").variables
