"""What certificates hold is the model: nothing that may be no number is left out, nothing is rounded in between."""

from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import axiom_jax as ax
from axiom_jax._program import build
from axiom_jax.verification import checker
from axiom_jax.verification.definedness import is_defined
from axiom_jax.verification.proof.exact import exactly
from axiom_jax.verification.search.margins import Subject


def nested(x):
    """The root stays in a branch only, which is left out in turn."""
    root = jnp.sqrt(x + 1.5)
    return jnp.where(jnp.isfinite(root), jnp.where(jnp.isfinite(2 * x), 1.0 + 0 * x, 0 * root), -1.0)


PARTIAL = {  # and a point at which a part of it is undefined
    "isnan of a root": (lambda x: jnp.where(jnp.isnan(jnp.sqrt(x + 1.5)), -1.0, 1.0 + 0 * x), -2.5),
    "isfinite in a condition": (
        lambda x: jnp.where(jnp.isfinite(jnp.sqrt(x + 1.5)) & (x > -9), 1.0 + 0 * x, -1.0), -2.5),
    "isfinite of a quotient": (lambda x: jnp.where(jnp.isfinite(1 / (x - 2)), 1.0 + 0 * x, -1.0), 2),
    "isnan of a logarithm": (lambda x: jnp.where(jnp.isnan(jnp.log(x + 1.5)), -1.0, 1.0 + 0 * x), -2.5),
    "x equals itself": (lambda x: jnp.where((r := jnp.sqrt(x + 1.5)) == r, 1.0 + 0 * x, -1.0), -2.5),
    "a root in a branch": (nested, -2.5),
    "a shift of softmax": (
        lambda x: jax.nn.softmax(jnp.concatenate([x, 2 * x], -1) - jnp.sqrt(x + 1.5)), -2.5),
}  # fmt: skip


@pytest.mark.parametrize("name", PARTIAL)
def test_what_may_be_no_number_is_not_left_out(name):
    function, point = PARTIAL[name]
    exact = exactly(Subject(lambda _, x: function(x), (), (jax.ShapeDtypeStruct((1, 1), np.float32),)))
    if exact.missing is None:
        with pytest.raises(checker.Rejected):
            exact.network.evaluate([Fraction(point)])


@pytest.mark.slow
def test_the_theorem_about_a_softmax_needs_logits_that_are_numbers():
    (item,) = ax.verify(PARTIAL["a shift of softmax"][0], ax.Bounded(0, 1), region=ax.Box([-3], [-2]), mode="quick")
    assert item.verdict != "proved", item.certificate


def test_constants_that_are_no_numbers_decide_as_they_do_in_jax():
    bad = np.array([np.nan], np.float32)
    f = ax.Model(lambda w, x: jnp.where(jnp.isnan(w), x * 1e-4, 0 * x), bad)
    (item,) = ax.verify(f, ax.Bounded(-0.1, 1e-9), region=ax.Box([0], [0.9]), mode="quick")
    assert item.verdict != "proved"


@pytest.mark.parametrize(("value", "least"), [(np.float64(0.1000000015), 0.1), (np.int64(2**32 + 1), 2)])
def test_parameters_are_those_of_the_traced_program(value, least):
    apply = lambda p, x: jnp.where(p > least, x * 1e-9, x * -1e-4)
    subject = Subject(apply, np.asarray(value), (jax.ShapeDtypeStruct((1,), np.float32),))
    assert exactly(subject).missing is not None


@pytest.mark.parametrize("dtype", [np.float16, np.uint8, np.int32])
def test_inputs_of_other_types_are_not_certified(dtype):
    subject = Subject(lambda _, x: x * 0.1, (), (jax.ShapeDtypeStruct((1,), dtype),))
    assert "type" in str(exactly(subject).missing)


@pytest.mark.slow
def test_powers_of_two_are_not_certified_as_powers_of_a_rounded_number():
    (item,) = ax.verify(jnp.exp2, ax.Bounded("1024.00001", 2000), region=ax.Box([10], [10]), mode="quick")
    assert item.verdict != "proved"


def test_weights_that_are_not_finite_are_named():
    for bad in (np.float64(1e300), np.float32(np.inf), np.float32(np.nan)):
        subject = Subject(lambda p, x: x * p, bad, (jax.ShapeDtypeStruct((1,), np.float32),))
        assert exactly(subject).missing is not None


FUNCTIONS = (
    jnp.sqrt, jnp.log, jnp.tanh, jnp.exp, jnp.abs, jnp.square, lambda x: 1 / x, lambda x: x + 1, lambda x: x - 1,
    jax.lax.rsqrt, jnp.log1p, jax.nn.softplus, jax.nn.softmax, lambda x: x.sum() * x, lambda x: -x,
    lambda x: jnp.maximum(x, 0.5), jax.nn.standardize,
)  # fmt: skip


@given(which=st.lists(st.sampled_from(range(len(FUNCTIONS))), min_size=1, max_size=5), seed=st.integers(0, 10**6))
def test_what_is_called_defined_gives_numbers(which, seed):
    def f(x):
        for i in which:
            x = FUNCTIONS[i](x)
        return x

    program, _ = build(lambda _, x: f(x), (), jnp.ones(3))
    points = np.random.default_rng(seed).uniform(-2, 2, (64, 3)).astype(np.float32)
    points[0] = 0
    values = points
    for i in which:
        if not (np.abs(values) < 50).all():
            return  # float32 may overflow from here on, and real numbers do not
        values = np.asarray(jax.vmap(FUNCTIONS[i])(values))
        if np.isnan(values).any():
            assert not is_defined(program, program.outputs[0])


def test_infinite_constants_count_only_where_they_vanish():
    fine = (lambda x: jnp.maximum(x, -jnp.inf), lambda x: jnp.minimum(x, jnp.inf), lambda x: x > jnp.inf)
    wrong = (
        lambda x: jnp.maximum(x, jnp.inf), lambda x: x + jnp.full(3, jnp.inf),
        lambda x: jnp.concatenate([x, jnp.full(1, -jnp.inf)]), lambda x: jnp.maximum(-jnp.inf, -jnp.inf) + 0 * x,
    )  # fmt: skip
    for f, expected in [*((f, True) for f in fine), *((f, False) for f in wrong)]:
        program, _ = build(lambda _, x, f=f: f(x), (), jnp.ones(3))
        assert is_defined(program, program.outputs[0]) is expected


def test_usual_layers_are_defined():
    layer_norm = lambda x: (x - x.mean()) / jnp.sqrt(((x - x.mean()) ** 2).mean() + 1e-5)
    for f in (
        jax.nn.softmax,
        jax.nn.softplus,
        jax.nn.silu,
        jax.nn.gelu,
        jax.nn.logsumexp,
        layer_norm,
        jax.nn.log_softmax,
    ):
        program, _ = build(lambda _, x, f=f: f(x), (), jnp.ones(3))
        assert is_defined(program, program.outputs[0]), f
