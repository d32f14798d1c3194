"""Formulas of small models and of claims: values, LaTeX, text, and refusals."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sympy

import axiom_jax as ax
from axiom_jax import nn
from axiom_jax._errors import SpecError, UnsupportedPrimitive
from axiom_jax.verification.statement import Statement, Variable


def spec(*shape):
    return jax.ShapeDtypeStruct(shape, jnp.float32)


def test_a_small_model_has_the_formula_of_its_weights():
    model = ax.Sequential(nn.Dense(2, 2), nn.relu, nn.Dense(2, 1))
    formula = ax.formula(model)
    symbols = sorted(formula.sympy.free_symbols, key=str)
    assert len(symbols) == 2
    at = dict(zip(symbols, (sympy.Rational(1, 2), -3), strict=True))
    value = np.ravel([float(e) for e in sympy.flatten(formula.sympy.subs(at))])
    assert value == pytest.approx(np.ravel(model(jnp.array([[0.5, -3.0]]))), rel=1e-4)
    assert r"\max" in formula.latex()


def test_a_function_is_named_in_latex_and_text():
    def area(width, height):
        return width * height / 2

    formula = ax.formula(area, spec(), spec())
    assert formula.latex() == r"\mathrm{area}\left(\mathrm{width}, \mathrm{height}\right) = \frac{height width}{2}"
    assert str(formula) == "area(width, height) = height*width/2"
    assert formula._repr_latex_() == rf"$\displaystyle {formula.latex()}$"
    assert repr(formula) == "Formula('area(width, height) = height*width/2')"


def test_several_outputs():
    assert r"\left(x, - x\right)" in ax.formula(lambda x: (x, -x), spec()).latex()


@pytest.mark.parametrize(
    ("text", "latex"),
    [
        ("∀x. sum(x) >= 0", r"\forall n \ge 1\; \forall x \in \mathbb{R}^{n}\colon\; 0 \le \sum_{i=1}^{n} x_{i}"),
        ("∀x. max(x) >= mean(x)", r"\max_{1 \le i \le n} x_{i}"),
        ("∀x ∈ [0, 1]. x*x <= x", r"\left(\forall i \in \{1, \dots, n\}\colon 0 \le x_{i}\right)"),
        ("∀x. ∃y. y > x", r"\exists y_{0} \in \mathbb{R}^{n}\colon"),
        ("∀x, y. abs(x - y) == abs(y - x)", r"\left|x_{i} - y_{i}\right|"),
        ("∀x. 1 / (1 + exp(x)) < 1", r"\frac{1}{\exp\left(x_{i}\right) + 1}"),
        ("∀x. -x*x <= 0", r"-x_{i} \cdot x_{i}"),
    ],
)
def test_claims_in_latex_for_all_sizes(text, latex):
    assert latex in ax.formula(text).latex()


def test_a_claim_has_a_condition_at_sizes():
    formula = ax.formula("∀x. sum(x) >= 0", sizes={"n": 3})
    assert len(formula.sympy.free_symbols) == 3 and str(formula) == "∀x. sum(x) >= 0"


def test_names_come_from_the_caller():
    def twice(x):
        return 2 * x

    assert twice(1) == 2
    assert "2" in ax.formula("∀x. twice(x) >= x").latex()


def test_a_claim_without_a_meaning_for_all_sizes_is_shown_at_sizes():
    spread = Statement("median", (Variable("x", (5,)),), lambda x: jnp.sort(jnp.sort(x) * jnp.arange(5.0))[0] <= 9)
    assert r"\forall x" in ax.formula(spread).latex()


def test_what_is_too_long_is_said_to_be():
    formula = ax.formula(lambda x: jnp.prod(jax.nn.softmax(jnp.outer(x, x))), spec(40))
    with pytest.raises(SpecError, match="too long"):
        formula.latex()


def test_missing_operations_are_listed():
    with pytest.raises(UnsupportedPrimitive, match="lu"):
        ax.formula(jnp.linalg.inv, spec(2, 2))


def test_functions_without_specifications_are_refused():
    for write in (ax.formula, ax.to_smtlib, ax.to_sympy):
        with pytest.raises(SpecError, match="argument") as found:
            write(lambda x: 2 * x)
        assert "ShapeDtypeStruct" in (found.value.fix or "")
        with pytest.raises(SpecError):
            write(lambda x: 2 * x, spec(), spec())


def test_claims_as_text_at_sizes():
    bound = 1
    assert str(ax.to_sympy("∀x. sum(x) <= bound", sizes={"n": 2})) == f"x_0 + x_1 <= {bound}"
    assert "(declare-const |x[1]| Real)" in ax.to_smtlib("∀x. sum(x) <= 1", sizes={"n": 2})
    with pytest.raises(SpecError, match="sizes"):
        ax.to_smtlib("∀x. sum(x) <= 1")
