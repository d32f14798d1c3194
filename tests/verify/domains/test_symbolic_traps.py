"""Where JAX's machine arithmetic is not that of the reals, the translation refuses or says what JAX does."""

from fractions import Fraction

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import lax

from axiom_jax import UnsupportedPrimitive
from axiom_jax.verification import derivation_checker as kernel
from axiom_jax.verification.domains.symbolic.indexing import Affine
from axiom_jax.verification.domains.symbolic.tensors import Context, enclosure
from axiom_jax.verification.domains.symbolic.translate import theorem_of
from axiom_jax.verification.refuting import evaluate, execute
from axiom_jax.verification.statement import Statement, Variable

POSITIVE = lambda x: (x > 0).astype(jnp.int8)
N = ("n",)


def claim(condition, *shapes):
    return Statement("claim", tuple(Variable(x, s) for x, s in zip("xyz", shapes or (N,), strict=False)), condition)


def true(x):
    return jnp.all(x == x)


WRAPPING = {
    "sum": (lambda x: (jnp.sum(jnp.arange(70000)) >= 0) & true(x), N),
    "product": (lambda x: (jnp.prod(jnp.arange(1, 18)) > 0) & true(x), N),
    "squares": (lambda x: jnp.all(jnp.arange(70000) * jnp.arange(70000) >= 0) & true(x), N),
    "narrowed": (lambda x: jnp.all(jnp.arange(300).astype(jnp.int8) >= 0) & true(x), N),
    "doubled": (lambda x: POSITIVE(x) * jnp.int8(100) + POSITIVE(x) * jnp.int8(100) >= 0, N),
    "negated": (lambda x: jnp.where(x > 0, jnp.int8(-128), jnp.int8(0)) * jnp.int8(-1) >= 0, N),
    "neg": (lambda x: -jnp.where(x > 0, jnp.int8(-128), jnp.int8(0)) >= 0, N),
    "abs": (lambda x: jnp.abs(jnp.where(x > 0, jnp.int8(-128), jnp.int8(0))) >= 0, N),
    "dot": (lambda x: jnp.dot(POSITIVE(x), POSITIVE(x)) >= 0, (200,)),
    "running": (lambda x: jnp.all(jnp.cumsum(jnp.arange(70000)) >= 0) & true(x), N),
    "iota": (lambda x: jnp.all(lax.iota(jnp.int8, 300) >= 0) & true(x), N),
    "short indices": (lambda x: jnp.all(jnp.arange(x.shape[0]).astype(jnp.int16) >= 0) & true(x), N),
    "of sizes": (lambda x: jnp.all(jnp.arange(x.shape[0]) * 10**9 >= 0) & true(x), N),
    "below zero": (lambda x: (x > 0).astype(jnp.uint8) - jnp.uint8(1) <= 0, N),
    "infinite": (lambda x: (jnp.where(x > 0, jnp.inf, 0.0).astype(int) >= 0), N),
}


@pytest.mark.parametrize("name", WRAPPING)
def test_integers_that_may_wrap_around_are_refused(name):
    condition, shape = WRAPPING[name]
    with pytest.raises(UnsupportedPrimitive, match=r"wrap around|integer part"):
        theorem_of(claim(condition, shape))


FITTING = {
    "sum": lambda x: jnp.sum(jnp.arange(100)) + 0 * x >= 4950,
    "bytes": lambda x: POSITIVE(x) * jnp.int8(100) + jnp.int8(27) >= 0,
    "indices": lambda x: jnp.arange(x.shape[0])[::-1] + jnp.arange(x.shape[0]) >= 0,
    "mean place": lambda x: jnp.sum(jnp.arange(x.shape[0])) + 0 * x >= 0,
    "counted": lambda x: jnp.sum(x > 0) >= 0,
    "unsigned": lambda x: (x > 0).astype(jnp.uint8) + jnp.uint8(254) >= 0,
}


@pytest.mark.parametrize("name", FITTING)
def test_integers_that_fit_are_translated(name):
    theorem_of(claim(FITTING[name]))


STEPS = [
    lambda a, b: kernel.add(a, b), lambda a, b: kernel.mul(a, b), lambda a, b: kernel.maximum(a, b),
    lambda a, b: kernel.absolute(kernel.sub(a, b)), lambda a, b: kernel.power(a, 2), lambda a, b: kernel.neg(b),
    lambda a, b: kernel.total("@s", 3, kernel.add(a, kernel.mul(b, kernel.integer("@s")))),
    lambda a, b: kernel.bigmax("@s", 2, kernel.sub(b, kernel.integer("@s"))),
    lambda a, b: kernel.ite(kernel.lt(a, b), a, b),
]  # fmt: skip


@given(st.lists(st.tuples(*[st.integers(0, 8)] * 3), min_size=1, max_size=5), st.integers(1, 4))
@settings(max_examples=40)
def test_enclosures_hold_every_value(steps, n):
    """At sizes up to the largest, and at every index."""
    context = Context()
    context.ranges.bounds["@i"] = Affine.name("n")
    terms = [kernel.integer("n"), kernel.sub(kernel.integer("@i"), 1), kernel.const(-2)]
    for k, i, j in steps:
        terms.append(STEPS[k](terms[i % len(terms)], terms[j % len(terms)]))
    ends = enclosure(terms[-1], context, 4)
    assert ends is not None
    for i in range(n):
        at = kernel.substitute(terms[-1], {"n": kernel.affine(n), "@i": kernel.affine(i)})
        low, high = kernel.Values({}, lambda t: (Fraction(0), Fraction(0))).of(at)
        assert ends[0] <= low and high <= ends[1]


def check(condition, sizes, **arrays):
    """The terms are true at a point exactly where JAX is."""
    shapes = [np.shape(a) for a in arrays.values()]
    statement = claim(condition, *shapes)
    theorem = theorem_of(statement)
    point = {x: tuple(Fraction(float(v)) for v in np.ravel(a)) for x, a in arrays.items()}
    held = evaluate(theorem, theorem.goal, sizes, point)
    assert held is execute(statement, sizes, point).holds
    return held


def test_two_chosen_places_are_two():
    def condition(x, y):
        c = jnp.argmax(x, axis=1)
        return (y * (1 - jnp.eye(2)))[c[0], c[1]] == 0

    assert check(condition, {}, x=np.eye(2), y=np.ones((2, 2))) is False
    assert check(condition, {}, x=np.eye(2)[[0, 0]], y=np.ones((2, 2))) is True


def test_places_in_axes_of_different_sizes():
    assert check(lambda x: (jnp.argmax(jnp.arange(5.0) * x) == jnp.argmax(jnp.arange(3.0) * x)), {}, x=1.0) is False
    assert check(lambda x: (jnp.argmax(jnp.arange(5.0) * x) == jnp.argmax(jnp.arange(3.0) * x)), {}, x=-1.0) is True
    equal = lambda x, y: jnp.argmax(x) == jnp.argmax(y)
    for big in (0, 2, 4):
        assert check(equal, {}, x=np.eye(5)[big], y=np.eye(3)[2]) is (big == 2)
        assert check(equal, {}, x=np.eye(3)[2], y=np.eye(5)[big]) is (big == 2)


@pytest.mark.parametrize("f", [jnp.exp, lambda v: 2 * v, lambda v: 0 * v])
def test_updates_by_functions_are_refused(f):
    with pytest.raises(UnsupportedPrimitive, match="a function of its own"):
        theorem_of(claim(lambda x: x.at[0].apply(f)[0] == 0))


def test_powers_and_quotients_of_updates():
    assert check(lambda x: x.at[0].power(2)[0] == 9, {}, x=np.array([3.0, 1.0])) is True
    assert check(lambda x: x.at[0].divide(2)[0] == 9, {}, x=np.array([3.0, 1.0])) is False


NARROW = {
    "bfloat16": lambda x: x.astype(jnp.bfloat16).astype(jnp.float32) == x,
    "float16": lambda x: x.astype(jnp.float16) == x,
    "float8": lambda x: x.astype(jnp.float8_e4m3fn).astype(jnp.float32) == x,
    "integers": lambda x: (jnp.arange(x.shape[0])).astype(jnp.bfloat16) + 0 * x >= 0,
    "contraction": lambda x: lax.dot(x, x, preferred_element_type=jnp.bfloat16) >= 0,
    "reduced": lambda x: lax.reduce_precision(x, 8, 7) == x,
    "range": lambda x: lax.reduce_precision(x, 5, 23) == x,
}


@pytest.mark.parametrize("name", NARROW)
def test_rounding_to_few_bits_is_refused(name):
    with pytest.raises(UnsupportedPrimitive, match="rounding to"):
        theorem_of(claim(NARROW[name]))


def test_types_of_enough_bits_are_the_reals():
    theorem = theorem_of(claim(lambda x: lax.reduce_precision(x.astype(jnp.float32), 8, 23) >= x))
    assert theorem.goal is kernel.TRUE or "x[" in kernel.show(theorem.goal)
    theorem_of(claim(lambda x: (x > 0).astype(jnp.bfloat16) >= 0))


@pytest.mark.parametrize("f", [lax.lgamma, lax.digamma])
def test_gamma_functions_need_what_is_plainly_positive(f):
    with pytest.raises(UnsupportedPrimitive, match="may be negative"):
        theorem_of(claim(lambda x: f(x) == f(x)))
    theorem = theorem_of(claim(lambda x: f(1 + x * x) <= f(jnp.exp(x))))
    assert theorem.needed == ()


def test_powers_at_zero():
    power = lambda x, y: x**y >= 0
    for base, exponent in ((0.0, 2.0), (0.0, 0.0), (0.0, 0.5), (2.0, -1.5), (3.0, 0.0)):
        assert check(power, {}, x=base, y=exponent) is True
    assert check(lambda x, y: x**y == 1, {}, x=0.0, y=0.0) is True
    assert check(lambda x, y: x**y == 0, {}, x=0.0, y=3.0) is True
    assert check(lambda x, y: x**y == 0, {}, x=0.0, y=0.0) is False
    with pytest.raises(UnsupportedPrimitive, match="the power"):
        theorem_of(claim(lambda x: x**1001.0 >= 0))


def test_roots_of_the_infinite():
    """inf ** 0.3 is inf, which is not 0."""
    for f in (lambda v: v**0.3, jnp.cbrt, lambda v: lax.pow(v, jnp.abs(v) + 0.3)):
        statement = claim(lambda x, f=f: f(jnp.where(x > 0, jnp.inf, 1.0)) <= 1, ())
        theorem = theorem_of(statement)
        assert evaluate(theorem, theorem.goal, {}, {"x": (Fraction(1),)}) is False
