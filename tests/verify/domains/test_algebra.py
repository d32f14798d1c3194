"""Every rule of the domain `reals` agrees with JAX at points, as terms and as sympy; what is undefined is said so."""

from fractions import Fraction

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
import sympy
from hypothesis import given
from hypothesis import strategies as st
from jax import lax

import axiom_jax as ax
from axiom_jax._errors import AxiomError, SpecError, UnsupportedPrimitive
from axiom_jax._program import build
from axiom_jax.verification.domains.algebra import terms as T
from axiom_jax.verification.domains.algebra.arrays import reals
from axiom_jax.verification.domains.algebra.enclosing import Undefined, enclosure, enclosures
from axiom_jax.verification.domains.algebra.moves import MOVES
from axiom_jax.verification.domains.algebra.reading import read
from axiom_jax.verification.domains.algebra.sympy_form import symbols, to_sympy
from axiom_jax.verification.statement import Ball, Range, Statement, Variable

W = np.array([[0.5, -1.25], [2.0, 0.75], [-0.5, 1.0]], np.float32)
KERNEL = np.arange(-4, 4, dtype=np.float32).reshape(2, 2, 2) / 4


def conv(x, **options):
    kernel = jnp.asarray(KERNEL, x.dtype)
    return lax.conv_general_dilated(x, kernel, (1,), [(1, 0)], dimension_numbers=("NCH", "OIH", "NCH"), **options)


def pool(x, reducer, start):
    return lax.reduce_window(x, start, reducer, (2,), (2,), "SAME")


LIMIT = jnp.array([1, 2])


def looped(x):  # to a limit that is no literal, else it would be unrolled
    return lax.while_loop(lambda c: c[0] < LIMIT.sum(), lambda c: (c[0] + 1, c[1] * x + c[0]), (0, x))[1]


FREE, POSITIVE, INSIDE, ABOVE = (-24, 24), (1, 24), (-7, 7), (9, 24)  # numerators over 8
CASES = {  # function, shapes of its arguments, where its points lie
    "arithmetic": (lambda x, y: (x + y) * (x - y) / 4 - (-x), [(2,), (2,)], FREE),
    "division": (lambda x, y: x / y, [(2,), (2,)], POSITIVE),
    "powers": (lambda x: x**3 + jnp.square(x) + x**-2 + lax.pow(x, 1.5) + x**0, [(2,)], POSITIVE),
    "power of variables": (lambda x, y: x**y, [(2,), (2,)], POSITIVE),
    "roots": (lambda x: jnp.sqrt(x) + lax.rsqrt(x) + jnp.cbrt(x), [(2,)], POSITIVE),
    "cube root": (jnp.cbrt, [(3,)], FREE),
    "exponentials": (lambda x: jnp.exp(x) + jnp.expm1(x) + jnp.exp2(x) + jax.nn.sigmoid(x), [(2,)], FREE),
    "logarithms": (lambda x: jnp.log(x) + jnp.log1p(x), [(2,)], POSITIVE),
    "hyperbolic": (lambda x: jnp.tanh(x) + lax.sinh(x) * lax.cosh(x) + jnp.arcsinh(x), [(2,)], FREE),
    "acosh": (lambda x: lax.acosh(x), [(2,)], ABOVE),
    "atanh": (lambda x: lax.atanh(x) + lax.asin(x) + lax.acos(x) + lax.erf_inv(x), [(2,)], INSIDE),
    "angles": (lambda x: jnp.sin(x) + jnp.cos(x) + lax.atan(x), [(2,)], FREE),
    "tan": (lambda x: lax.tan(x), [(2,)], INSIDE),
    "atan2": (lambda x, y: lax.atan2(x, y), [(3,), (3,)], FREE),
    "error function": (lambda x: lax.erf(x) + lax.erfc(x), [(2,)], FREE),
    "gamma": (lambda x: lax.lgamma(x) + lax.digamma(x), [(2,)], POSITIVE),
    "rounding": (lambda x: jnp.floor(x) + 2 * jnp.ceil(x) + 3 * jnp.round(x) + 5 * lax.round(x), [(4,)], FREE),
    "remainder": (lambda x, y: lax.rem(x, y) + x % 2, [(2,), (2,)], POSITIVE),
    "signs": (lambda x: jnp.sign(x) * jnp.abs(x) + lax.clamp(-1.0, x, 1.0), [(3,)], FREE),
    "extremes": (lambda x, y: jnp.maximum(x, y) - 2 * jnp.minimum(x, y), [(2,), (2,)], FREE),
    "comparisons": (lambda x, y: jnp.stack([x < y, x <= y, x > y, x >= y, x == y, x != y]), [(2,), (2,)], FREE),
    "logic": (lambda x, y: ((x < y) & (x > 0)) | ~(y > 0) ^ (x < 1), [(3,), (3,)], FREE),
    "choices": (lambda x, y: jnp.where(x < y, x, 2 * y), [(3,), (3,)], FREE),
    "three choices": (lambda x: lax.select_n(jnp.array([0, 1, 2]), x, -x, 2 * x), [(3,)], FREE),
    "varying choice": (lambda x: lax.select_n((x > 0).astype(int) + (x > 1), x, -x, 2 * x), [(3,)], FREE),
    "finite": (lambda x: jnp.where(jnp.isfinite(x), x, 0) + jnp.where(jnp.isnan(x), 1, x), [(2,)], FREE),
    "casts": (lambda x: x.astype(int).astype(x.dtype) + (x > 0) + (x != 0).astype(int), [(3,)], FREE),
    "precision": (lambda x: lax.reduce_precision(x, 11, 52), [(2,)], FREE),
    "reductions": (lambda x: x.sum(0) + x.prod(0) + x.max(0) - x.min(0) + x.mean(), [(2, 2)], FREE),
    "all and any": (lambda x: jnp.stack([jnp.all(x > 0, 0), jnp.any(x > 1, 0)]), [(2, 2)], FREE),
    "arguments": (lambda x: jnp.argmax(x, 1) + 10 * jnp.argmin(x, 0), [(3, 3)], FREE),
    "cumulative": (lambda x: jnp.cumsum(x, 0) + jnp.cumprod(x, 1) + lax.cummax(x) - lax.cummin(x, reverse=True),
                   [(2, 3)], FREE),
    "cumulative logsumexp": (lax.cumlogsumexp, [(3,)], FREE),
    "products": (lambda x, y: jnp.einsum("bij,bjk->bik", x, y), [(2, 2, 2), (2, 2, 1)], FREE),
    "dense": (lambda x: jax.nn.relu(x @ W), [(2, 3)], FREE),
    "convolution": (conv, [(1, 2, 4)], FREE),
    "dilated convolution": (lambda x: conv(x, rhs_dilation=(2,), lhs_dilation=(2,)), [(1, 2, 3)], FREE),
    "grouped convolution": (
        lambda x: lax.conv_general_dilated(x, jnp.asarray(KERNEL[:, :1], x.dtype), (1,), "VALID", feature_group_count=2,
                                           dimension_numbers=("NHC", "OIH", "NHC")), [(1, 3, 2)], FREE),
    "pooling": (lambda x: pool(x, lax.max, -jnp.inf) + pool(x, lax.add, 0.0) + pool(x, lax.min, jnp.inf), [(5,)], FREE),
    "moves": (lambda x: jnp.concatenate([x.T.reshape(2, 2)[::-1], x[:1, 1:].repeat(2, 1), x.ravel()[None, ::2]]),
              [(2, 2)], FREE),
    "padding": (lambda x: lax.pad(x, jnp.asarray(0.5, x.dtype), [(1, 2, 1)]) + jnp.pad(x, (2, 2)), [(2,)], FREE),
    "split and stack": (lambda x: jnp.stack(jnp.split(x, 2)) + jnp.tile(x, 2).reshape(2, 4)[:, 1:3], [(4,)], FREE),
    "indexing": (lambda x: x[jnp.array([2, 0])] + x[1] + lax.dynamic_slice(x, (1,), (2,)), [(3,)], FREE),
    "varying index": (lambda x: x[jnp.argmax(x)] + jnp.take_along_axis(x, jnp.argsort(x), 0), [(3,)], FREE),
    "varying slice": (lambda x: lax.dynamic_update_slice(x, x[:1] * 2, (jnp.argmin(x),)), [(3,)], FREE),
    "scatter": (lambda x: x.at[1].set(x[0]).at[jnp.array([0, 0])].add(x[:2]), [(3,)], FREE),
    "sorting": (lambda x: jnp.sort(x) + lax.sort((x, 2 * x[::-1]), num_keys=1)[1] + lax.top_k(x, 3)[0], [(3,)], FREE),
    "top_k places": (lambda x: lax.top_k(x, 2)[1], [(4,)], FREE),
    "conditional": (lambda x: lax.cond(x[0] > 0, jnp.sin, lambda y: y * 2, x), [(2,)], FREE),
    "switch": (lambda x: lax.switch((x > 0).astype(int) + (x > 1), [lambda y: y, lambda y: -y, jnp.square], x), [()],
               FREE),
    "scan": (lambda x: lax.scan(lambda c, y: (c * y, c + y), x[0], x)[1], [(3,)], FREE),
    "loop": (looped, [()], FREE),
    "gradient": (jax.grad(lambda x: jnp.sum(jnp.tanh(x) * jax.nn.softmax(x))), [(2,)], FREE),
    "masked softmax": (lambda x: jax.nn.softmax(jnp.where(jnp.tril(jnp.ones((2, 2), bool)), x, -jnp.inf)), [(2, 2)],
                       FREE),
    "layer norm": (lambda x: (x - x.mean()) / jnp.sqrt(x.var() + 1e-5), [(3,)], FREE),
    "activations": (lambda x: jax.nn.gelu(x) + jax.nn.silu(x) + jax.nn.softplus(x) + jax.nn.elu(x), [(2,)], FREE),
}  # fmt: skip
SEEN_ELSEWHERE = {"copy", "expand_dims", "scatter_add", "tile", "stack", "add_any", "neg", "split", "concatenate",
                  "one_minus_square"}  # fmt: skip


def spec(shape):
    return jax.ShapeDtypeStruct(shape, jnp.float32)


def points(name, count=2):
    _, shapes, (low, high) = CASES[name]
    random = np.random.default_rng(len(name))
    return [[random.integers(low, high + 1, shape) / 8 for shape in shapes] for _ in range(count)]


@pytest.mark.sweep(3)
@pytest.mark.parametrize("name", CASES)
def test_terms_and_sympy_have_the_values_of_jax(name):
    fn, shapes, _ = CASES[name]
    reading = read(fn, [spec(s) for s in shapes])
    (array,) = reading.outputs.values()
    for arguments in points(name):
        with jax.enable_x64(True):
            expected = np.asarray(fn(*(jnp.asarray(a) for a in arguments)), np.float64)
        assert array.shape == expected.shape
        inputs = zip(reading.inputs.values(), arguments, strict=True)
        point = {t.value: Fraction(float(x)) for a, xs in inputs for t, x in zip(a.ravel(), np.ravel(xs), strict=True)}
        found = enclosures(array.ravel().tolist(), point)
        for bounds, value in zip(found, expected.ravel(), strict=True):
            middle = bounds if isinstance(bounds, bool) else float(sum(bounds) / 2)
            assert middle == pytest.approx(value, rel=1e-6, abs=1e-6), (name, arguments)
    # sympy at the last point
    forms = jax.tree.leaves(to_sympy(fn, *map(spec, shapes)), is_leaf=lambda x: isinstance(x, sympy.Basic))
    named = {s: point[t.value] for t, s in symbols(reading).items()}
    flat = [e for form in forms for e in (form if hasattr(form, "__iter__") else [form])]
    flat = sympy.flatten(flat)
    for e, value in zip(flat, expected.ravel(), strict=True):
        got = sympy.lambdify(list(named), e, "mpmath", cse=True)(*(mpmath.mpf(float(x)) for x in named.values()))
        assert got == pytest.approx(value, rel=1e-6, abs=1e-6), name


def test_every_rule_is_tried():
    tried = set()
    for fn, shapes, _ in CASES.values():
        program, _ = build(lambda _, *xs, fn=fn: fn(*xs), (), *map(spec, shapes))
        tried |= {e.name for e in program.equations}
    assert {*reals.rules, *MOVES} - tried <= SEEN_ELSEWHERE


@given(st.integers(-40, 40), st.integers(-40, 40), st.integers(1, 8))
def test_sums_and_products_are_those_of_rationals(a, b, c):
    x, y = T.variable("x"), T.variable("y")
    point = {"x": Fraction(a, 8), "y": Fraction(b, 8)}
    p, q = point["x"], point["y"]
    term = T.sub(T.mul([T.add([x, y]), T.add([x, T.number(Fraction(1, c))])]), T.div(T.power(y, 3), T.number(c)))
    expected = (p + q) * (p + Fraction(1, c)) - q**3 / c
    assert enclosure(term, point) == (expected, expected)
    assert enclosure(T.sub(term, term), point) == (0, 0)


def test_equal_terms_are_one_object():
    x, y = T.variable("x"), T.variable("y")
    assert T.add([x, y]) is T.add([y, x])
    assert T.sub(T.add([x, y]), y) is x
    assert T.mul([x, y, x]) is T.mul([T.power(x, 2), y])


@pytest.mark.parametrize(
    ("condition", "where"),
    [
        (lambda x: x / x == 1, lambda v: v != 0),
        (lambda x: (x == 0) | (x / x == 1), lambda v: True),
        (lambda x: jnp.where(x > 0, jnp.log(x), 0.0) <= x, lambda v: v >= 0),
        (lambda x: jnp.log(x) <= x, lambda v: v > 0),
        (lambda x: jnp.sqrt(x) >= 0, lambda v: v >= 0),
        (lambda x: 0 * jnp.log(x) == 0, lambda v: v > 0),
        (lambda x: ~(1 / x == 1 / x), lambda v: False),
        (lambda x: (1 / x) ** 2 > 0, lambda v: v != 0),
        (lambda x: jnp.where(jnp.isfinite(1 / x), 1, 2) >= 1, lambda v: True),
        (lambda x: jnp.maximum(1 / x, 3) >= 3, lambda v: v != 0),
        (lambda x: lax.asin(x) <= 2, lambda v: abs(v) <= 1),
        (lambda x: jnp.array(jnp.inf) - jnp.inf < x, lambda v: False),
        (lambda x: x < jnp.inf, lambda v: True),
    ],
)
def test_what_is_undefined_is_never_claimed(condition, where):
    reading = read(Statement("it", (Variable("x", ()),), condition), (), {})
    for v in (-2, -1, 0, 1, 3):
        assert (enclosure(reading.claim, {"x": Fraction(v)}) is True) == where(v), v


def test_a_value_outside_of_the_domain_is_not_made_up():
    with pytest.raises(Undefined):
        enclosure(T.call("log", T.variable("x")), {"x": Fraction(-1)})
    assert enclosure(T.lt(T.call("log", T.variable("x")), T.ZERO), {"x": Fraction(-1)}) is None


def test_values_too_close_to_tell_are_not_told():
    x = T.variable("x")
    claim = T.eq(T.power(T.call("exp", x), 2), T.call("exp", T.mul([T.number(2), x])))
    assert enclosure(claim, {"x": Fraction(1)}) is None


def test_regions_are_hypotheses():
    box = Variable("x", ("n",), Range(Fraction(0), Fraction(1), hi_open=True))
    ball = Variable("y", ("n",), Ball(np.zeros(2), Fraction(1), 2))
    reading = read(Statement("it", (box, ball), lambda x, y: x >= y), (), {"n": 2})
    names = ("x[0]", "x[1]", "y[0]", "y[1]")
    at = lambda values: dict(zip(names, map(Fraction, values), strict=True))
    inside = lambda *values: [enclosure(T.land(h), at(values)) for h in reading.hypotheses.values()]
    assert inside(0, "1/2", "3/5", "4/5") == [True, True]
    assert inside(0, 1, "4/5", "4/5") == [False, False]


def test_matrices_and_structure_of_sympy():
    found = ax.to_sympy(lambda x: {"a": x @ x.T, "b": x[0, 0] > 1, "c": x[0]}, spec((2, 2)))
    assert isinstance(found["a"], sympy.MatrixBase) and found["a"].shape == (2, 2)
    assert found["c"].shape == (2, 1) and found["b"].is_Relational
    assert all(s.is_real for s in found["a"].free_symbols)


def test_constants_are_exact_unless_asked_otherwise():
    third = lambda x: x * 0.1
    assert ax.to_sympy(third, spec(())) == sympy.Rational(float(np.float32(0.1))) * sympy.Symbol("x", real=True)
    assert ax.to_sympy(third, spec(()), rational="short") == sympy.Symbol("x", real=True) / 10


def test_arrays_are_known_and_specs_are_variables():
    assert str(ax.to_sympy(lambda w, x: w @ x, W, spec((2,)))[0]) == "x_0/2 - 5*x_1/4"


def test_all_that_is_missing_is_listed():
    with pytest.raises(UnsupportedPrimitive) as raised:
        ax.to_sympy(lambda x: jnp.fft.fft(x).real + jnp.linalg.inv(x[:, None] * x), spec((3,)))
    assert "fft" in raised.value.what and "lu" in raised.value.what and "test_algebra.py" in raised.value.at


@pytest.mark.parametrize(
    ("asked", "error", "word"),
    [
        (lambda: ax.to_sympy(lambda x: x, jax.ShapeDtypeStruct((2,), int)), SpecError, "x"),
        (lambda: ax.to_sympy(3), AxiomError, "int"),
        (lambda: ax.to_sympy(jnp.exp, spec(()), rational="pretty"), AxiomError, "pretty"),
        (lambda: ax.to_sympy(lambda x: jnp.prod(jax.nn.softmax(jnp.outer(x, x))), spec((40,))), SpecError, "too long"),
        (lambda: ax.to_sympy(lambda x: jnp.zeros((500, 500)) + x, spec(())), UnsupportedPrimitive, "500"),
        (lambda: ax.to_sympy(Statement("it", (Variable("x"),), lambda x: x > 0)), SpecError, "n"),
    ],
)
def test_what_cannot_be_written_is_refused_with_a_reason(asked, error, word):
    with pytest.raises(error) as raised:
        asked()
    assert word in str(raised.value) and raised.value.fix
