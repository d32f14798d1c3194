"""What the translation says is what JAX computes: every rule against executions, at several sizes and points."""

from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import lax

from axiom_jax import SpecError, UnsupportedPrimitive
from axiom_jax.verification import derivation_checker as kernel
from axiom_jax.verification.domains.symbolic.numeric import Points
from axiom_jax.verification.domains.symbolic.primitives import symbolic
from axiom_jax.verification.domains.symbolic.translate import program_of, theorem_of, variants
from axiom_jax.verification.refuting import evaluate
from axiom_jax.verification.statement import Ball, Range, Statement, Variable

N, NM, NONE = ("n",), ("n", "m"), ()
A = jnp.array([[1.0, -2.0, 0.5], [0.25, 3.0, -1.0]])
IMAGE = (1, 2, 4, 4)
KERNEL = jnp.arange(2 * 2 * 2 * 2, dtype=jnp.float32).reshape(2, 2, 2, 2) / 8 - 1


def sized(f, *shapes):
    return f, shapes


def conv(x, **options):
    options = {"window_strides": (1, 1), "padding": "VALID", **options}
    return lax.conv_general_dilated(x, KERNEL[:, : x.shape[1] // options.get("feature_group_count", 1)], **options)


def pooled(x, fold, start, padding="VALID"):
    return lax.reduce_window(x, start, fold, (1, 1, 2, 2), (1, 1, 1, 2), padding)


# what is said of arrays of any size: function, shapes of its arguments, shape of its result
CASES = {
    "add sub mul": (lambda x, y: x + y * x - 2 * y, (N, N), N),
    "div": (lambda x, y: x / (1 + y * y) + x / 3, (N, N), N),
    "div by zero": (lambda x: 1 / (x - x), (N,), N),
    "max min": (lambda x, y: jnp.maximum(x, y) - 2 * jnp.minimum(x, 0.5), (N, N), N),
    "abs sign": (lambda x: jnp.abs(x) + 3 * jnp.sign(x), (N,), N),
    "powers": (lambda x: x**3 + jnp.square(x) + lax.integer_pow(x, -2) + abs(x) ** 1.5 + abs(x) ** 0.3, (N,), N),
    "power of arrays": (lambda x, y: jnp.exp(x) ** y, (N, N), N),
    "power of negatives": (lambda x: (x - 10.0) ** 0.3, (N,), N),
    "exp": (lambda x: jnp.exp(x) + jnp.exp2(x) + jnp.expm1(x), (N,), N),
    "log": (lambda x: jnp.log(x * x + 0.1) + jnp.log1p(jnp.abs(x)), (N,), N),
    "log of any": (jnp.log, (N,), N),
    "roots": (lambda x: jnp.sqrt(x * x) + lax.rsqrt(1 + x * x) + jnp.cbrt(x), (N,), N),
    "sqrt of any": (jnp.sqrt, (N,), N),
    "logistic tanh": (lambda x: jax.nn.sigmoid(x) - jnp.tanh(2 * x), (N,), N),
    "erf": (lambda x: lax.erf(x) + lax.erfc(x / 2), (N,), N),
    "trigonometric": (lambda x: jnp.sin(x) + jnp.cos(x) * jnp.tan(x), (N,), N),
    "hyperbolic": (lambda x: jnp.sinh(x) + jnp.cosh(x) + jnp.arcsinh(x) + jnp.arccosh(1 + jnp.abs(x)), (N,), N),
    "artanh": (lambda x: jnp.arctanh(x / 8), (N,), N),
    "clamp": (lambda x: jnp.clip(x, -0.5, 0.75) + lax.clamp(-1.0, x, 1.0), (N,), N),
    "rounding of sizes": (lambda x: x * jnp.floor(x.shape[0] * 1.0) + jnp.ceil(2.5) + jnp.round(3.5), (N,), N),
    "where": (lambda x, y: jnp.where((x > y) & ~(y < 0) | (x == 0), jnp.log(x), y), (N, N), N),
    "xor": (lambda x, y: jnp.where((x > 0) ^ (y > 0), x, y) + ((x < 1) == (y < 1)) * 1.0, (N, N), N),
    "bool order": (lambda x, y: jnp.where((x > 0) <= (y > 0), 1.0, 0.0) * ((x < 0) != (y < 0)), (N, N), N),
    "nan guards": (lambda x: jnp.logaddexp(x, 1.0) + jnp.nan_to_num(x), (N,), N),
    "is finite": (lambda x: jnp.where(jnp.isfinite(x), x, 7.0), (N,), N),
    "softmax": (jax.nn.softmax, (N,), N),
    "log softmax": (jax.nn.log_softmax, (N,), N),
    "softmax rows": (lambda x: jax.nn.softmax(x, axis=1), (NM,), NM),
    "masked softmax": (lambda x: jax.nn.softmax(jnp.where(x > -10, x, -jnp.inf)), (N,), N),
    "half masked softmax": (lambda x: jax.nn.softmax(jnp.where(jnp.arange(x.shape[0]) < 2, x, -jnp.inf)), (N,), N),
    "empty softmax": (lambda x: jax.nn.softmax(jnp.where(x > 10, x, -jnp.inf)), (N,), N),
    "logsumexp": (jax.nn.logsumexp, (N,), NONE),
    "gelu": (lambda x: jax.nn.gelu(x) + jax.nn.gelu(x, approximate=False), (N,), N),
    "activations": (lambda x: jax.nn.softplus(x) + jax.nn.elu(x) + jax.nn.selu(x) + jax.nn.silu(x), (N,), N),
    "more activations": (lambda x: jax.nn.relu6(x) + jax.nn.hard_swish(x) + jax.nn.mish(x) + jax.nn.celu(x), (N,), N),
    "leaky": (lambda x: jax.nn.leaky_relu(x) + jax.nn.soft_sign(x) + jax.nn.log_sigmoid(x), (N,), N),
    "mean var": (lambda x: jnp.mean(x) + jnp.var(x) + jnp.std(x) + x.shape[0], (N,), NONE),
    "standardised": (lambda x: (x - x.mean()) / jnp.sqrt(x.var() + 1e-5), (N,), N),
    "reductions": (lambda x: jnp.max(x, 0) - jnp.min(x, 0) + jnp.sum(x, 0), (NM,), ("m",)),
    "all any": (lambda x: jnp.where(jnp.all(x < 1, 1), 1.0, 0.0) + jnp.any(x > 1, 1), (NM,), N),
    "argmax": (lambda x: jnp.argmax(x) + 10.0 * jnp.argmin(x), (N,), NONE),
    "at argmax": (lambda x: x[jnp.argmax(x)], (N,), NONE),
    "one hot": (lambda x: jax.nn.one_hot(jnp.argmax(x), x.shape[0]) * x, (N,), N),
    "argmax of rows": (lambda x, y: (jnp.argmax(x, 1) == jnp.argmax(y, 1)) * 1.0, (NM, NM), N),
    "matmul": (lambda x, y: x @ y - y, (("n", "n"), NM), NM),
    "batched matmul": (lambda x, y: jnp.einsum("nij,njk->nik", x, y), (("n", "m", 2), ("n", 2, 3)), ("n", "m", 3)),
    "gram": (lambda x: x @ x.T, (NM,), ("n", "n")),
    "outer": (lambda x, y: jnp.outer(x, y), (N, ("m",)), NM),
    "transposed": (lambda x: jnp.transpose(x, (1, 0)) * 2, (NM,), ("m", "n")),
    "broadcast": (lambda x, y: x[:, None] * y[None, :] + jnp.ones((x.shape[0], 1)), (N, ("m",)), NM),
    "squeezed": (lambda x: lax.squeeze(x[:, None, :], (1,)) + lax.expand_dims(x, (0,))[0], (NM,), NM),
    "merged axes": (lambda x: jnp.sum(jnp.tanh(x.reshape(-1))), (NM,), NONE),
    "merged and split": (lambda x: (2 * x.reshape(-1)).reshape(x.shape), (NM,), NM),
    "merged with numbers": (lambda x: jnp.sum(x.reshape(-1) ** 2), (("n", 3, 2),), NONE),
    "split numbers": (lambda x: x.reshape(2, 3) @ jnp.ones(3), ((6,),), (2,)),
    "merged numbers": (lambda x: jnp.cumsum(x.reshape(6)), ((2, 3),), (6,)),
    "reversed": (lambda x: x[::-1] - 2 * jnp.flip(x), (N,), N),
    "first and last": (lambda x: x[0] + 2 * x[-1], (N,), NONE),
    "second": (lambda x: x[1], (N,), NONE),
    "sliced": (lambda x: x[:-1] - 3 * x[1:], (("n",),), None),
    "strided": (lambda x: x[::2] + x[1::2], ((6,),), (3,)),
    "rolled": (lambda x: jnp.roll(x, 1) - x, (N,), N),
    "joined": (lambda x, y: jnp.concatenate([x, 2 * y, x]).sum() + jnp.concatenate([x, y]).max(), (N, ("m",)), NONE),
    "joined part": (lambda x, y: jnp.concatenate([x, y])[: x.shape[0]], (N, ("m",)), N),
    "stacked": (lambda x: jnp.stack([x, -x], 1), (N,), ("n", 2)),
    "unstacked": (lambda x: sum(k * row for k, row in enumerate(jnp.unstack(x, axis=1))), (("n", 3),), N),
    "tiled": (lambda x: jnp.sum(jnp.tile(x, 3) ** 2) + jnp.tile(x, (2, 1))[0, 0], (N,), NONE),
    "repeated": (lambda x: jnp.sum(jnp.repeat(x, 3) ** 2), (N,), NONE),
    "split": (lambda x: sum(k * p for k, p in enumerate(lax.split(x, (2, 2)))), ((4,),), (2,)),
    "padded": (lambda x: jnp.sum(jnp.pad(x, (1, 2), constant_values=0.5) ** 2), (N,), NONE),
    "padded inside": (lambda x: lax.pad(x, 1.0, ((1, 0, 1),)), ((3,),), (6,)),
    "triangular": (lambda x: jnp.tril(x) + 2 * jnp.triu(x, 1), (("n", "n"),), ("n", "n")),
    "identity": (lambda x: jnp.eye(x.shape[0]) @ x, (N,), N),
    "running": (lambda x: jnp.cumsum(x) + lax.cummax(x) - lax.cummin(x), (N,), N),
    "running back": (lambda x: lax.cumsum(x, reverse=True) + lax.cumlogsumexp(x), (N,), N),
    "running product": (lambda x: jnp.cumprod(x), ((4,),), (4,)),
    "product": (lambda x: jnp.prod(x), ((4,),), NONE),
    "sorted": (lambda x: jnp.sort(x), ((4,),), (4,)),
    "median": (lambda x: jnp.median(x), ((5,),), NONE),
    "taken": (lambda x: jnp.take(x, jnp.array([2, 0, 1, 1])), ((3,),), (4,)),
    "taken outside": (lambda x: jnp.take(x, jnp.array([2, 7]), mode="clip"), ((3,),), (2,)),
    "taken rows": (lambda x: x[jnp.array([1, 0])], ((2, 3),), (2, 3)),
    "known weights": (lambda x: jax.nn.relu(A @ x) - jnp.array([0.1, -3.0]), ((3,),), (2,)),
    "weighted softmax": (lambda x: jax.nn.softmax(A.T @ x), ((2,),), (3,)),
    "set": (lambda x: x.at[0].set(3.0), (N,), N),
    "set by numbers": (lambda x: x.at[jnp.array([1, 3, 1])].add(2.0).at[2].multiply(x[0]), ((4,),), (4,)),
    "extremes by numbers": (lambda x: x.at[jnp.array([1, 3])].max(0.0).at[0].min(-1.0), ((4,),), (4,)),
    "updated": (lambda x: lax.dynamic_update_slice(x, jnp.ones(2), (1,)), ((4,),), (4,)),
    "dynamic slice": (lambda x: lax.dynamic_slice(x, (3,), (2,)), ((4,),), (2,)),
    "conv": (conv, (IMAGE,), (1, 2, 3, 3)),
    "conv strided": (lambda x: conv(x, window_strides=(2, 1), padding=((1, 0), (0, 1))), (IMAGE,), (1, 2, 2, 4)),
    "conv dilated": (
        lambda x: conv(x, rhs_dilation=(2, 1), lhs_dilation=(1, 2), padding=((0, 0),) * 2), (IMAGE,), (1, 2, 2, 6)),
    "conv grouped": (lambda x: conv(x, feature_group_count=2), (IMAGE,), (1, 2, 3, 3)),
    "conv in batches": (lambda x: conv(x, batch_group_count=2), ((2, 2, 3, 3),), (1, 2, 2, 2)),
    "pooled": (lambda x: pooled(x, lax.max, -jnp.inf) + pooled(x, lax.min, jnp.inf), (IMAGE,), (1, 2, 3, 2)),
    "mean pooled": (lambda x: pooled(x, lax.add, 0.0, "SAME"), (IMAGE,), (1, 2, 4, 2)),
    "max pooled at edges": (lambda x: pooled(x, lax.max, -jnp.inf, "SAME"), (IMAGE,), (1, 2, 4, 2)),
    "gradient": (jax.grad(lambda x: jnp.sum(jnp.tanh(x) * x)), (N,), N),
    "tangent": (lambda x, y: jax.jvp(jax.nn.softmax, (x,), (y,))[1], (N, N), N),
    "branches": (lambda x: lax.cond(jnp.sum(x) > 0, jnp.sin, lambda v: 2 * v, x), (N,), N),
    "switch": (lambda x: lax.switch(2, [jnp.sin, jnp.cos, jnp.exp], x), (N,), N),
    "loop": (lambda x: lax.fori_loop(0, 3, lambda k, v: v * 0.5 + k, x), (N,), N),
    "casts": (lambda x: (x > 0).astype(jnp.bfloat16).astype(jnp.float32) * x + (x > 0).astype(jnp.int32), (N,), N),
    "precision": (lambda x: lax.reduce_precision(x, 8, 23) + lax.stop_gradient(x), (N,), N),
    "iota": (lambda x: x * jnp.arange(x.shape[0]) + lax.rem(7, 4) + lax.div(-7, 2), (N,), N),
    "integer bits": (lambda x: x + (5 & 3) + (jnp.int32(4) | 1) + ~jnp.int32(2) + (jnp.int32(6) ^ 3), (N,), N),
    "known integers": (lambda x: x[jnp.array([3, 1, 2]) % 3], ((3,),), (3,)),
    "dot": (lambda x, y: jnp.vdot(x, y) / (1 + jnp.linalg.norm(x)), (N, N), NONE),
    "distances": (lambda x: jnp.sum((x[:, None] - x[None, :]) ** 2, -1), (NM,), ("n", "n")),
    "halved size": (lambda x: jnp.concatenate([x, x])[:: 1][: 2 * x.shape[0]].sum(), (N,), NONE),
    "attention": (lambda q, k, v: jax.nn.softmax(q @ k.T) @ v, (NM, NM, NM), NM),
    "causal attention": (
        lambda q, v: jax.nn.softmax(jnp.where(jnp.tril(jnp.ones((q.shape[0],) * 2)) > 0, q @ q.T, -jnp.inf)) @ v,
        (NM, NM),
        NM,
    ),
}  # fmt: skip
UNKNOWN = {"atan", "asin", "acos", "erf_inv", "lgamma", "digamma", "bessel_i0e", "bessel_i1e"}  # no value at a point
ELSEWHERE = {"device_put", "add_any", "expand_dims", "one_minus_square", "stack", "unstack", "tile"}  # by version


def statement_of(name):
    """f(x, ...) is within a small distance of y."""
    f, shapes, out = CASES[name]
    variables = [Variable(x, s) for x, s in zip("abc", shapes, strict=False)]
    if out is None:  # one less than n
        condition = lambda *xs: jnp.abs(f(*xs[:-1]) - xs[-1][:-1]) <= 1e-4 * (1 + jnp.abs(xs[-1][:-1]))
        return Statement(name, (*variables, Variable("y", N)), condition)
    condition = lambda *xs: jnp.abs(f(*xs[:-1]) - xs[-1]) <= 1e-4 * (1 + jnp.abs(xs[-1]))
    return Statement(name, (*variables, Variable("y", out)), condition)


def exact(array):
    return tuple(Fraction(float(v)) for v in np.asarray(array, np.float64).reshape(-1))


@pytest.mark.sweep(3)
@pytest.mark.parametrize("name", CASES)
def test_translation_says_what_jax_computes(name):
    """The kernel encloses JAX's result at random points, notices a wrong one, and says where there is none."""
    f, shapes, _ = CASES[name]
    statement = statement_of(name)
    theorem = theorem_of(statement)
    seed = sum(map(ord, name))
    rng = np.random.default_rng(seed)
    named = {d for s in shapes for d in s if isinstance(d, str)}
    several = [{"n": 1, "m": 2}, {"n": 4, "m": 3}][0 if seed % 3 == 0 else 1 :]  # compilation is what takes time
    for sizes in several if named else [{}]:
        sizes = {k: v for k, v in sizes.items() if k in theorem.sizes}
        xs = [rng.normal(size=[sizes.get(d, d) for d in s]).astype(np.float32) for s in shapes]
        y = np.asarray(jax.jit(f)(*xs), np.float64)
        finite = bool(np.isfinite(y).all())
        given = np.where(np.isfinite(y), y, 0.0)
        if CASES[name][2] is None:
            given = np.concatenate([given, [0.0]])
        point = {x: exact(a) for x, a in zip([*"abc"[: len(xs)], "y"], [*xs, given], strict=True)}
        held = evaluate(theorem, theorem.goal, sizes, point)
        assert held is True if finite else held is False
        if finite and y.size:
            point["y"] = exact(given + 1e-2 * (1 + abs(given)))
            assert evaluate(theorem, theorem.goal, sizes, point) is False
            check_floats(theorem, sizes, point, False)
            point["y"] = exact(given)
        if finite:
            check_floats(theorem, sizes, point, True)


def check_floats(theorem, sizes, point, expected):
    """The evaluation in floats agrees."""
    shape = lambda s: [1, *(e.const + sum(k * sizes[n] for n, k in e.terms) for e in s)]
    shapes = {x: shape(s) for x, s in theorem.variables}
    values = {x: np.array([float(q) for q in point[x]]).reshape(shapes[x]) for x in shapes}
    margin, holds = Points(sizes, values).formula(theorem.goal)
    assert bool(holds[0]) is expected and (margin[0] >= 0) is np.bool_(expected)


def test_every_rule_is_compared_with_jax():
    seen = set()
    for name in CASES:
        program, _ = program_of(statement_of(name))
        seen |= {eqn.name for eqn in program.equations}
    assert set(symbolic.rules) - seen <= UNKNOWN | ELSEWHERE


@pytest.mark.parametrize("name", sorted(UNKNOWN))
def test_unknown_functions_are_opaque(name):
    f = {"atan": jnp.arctan, "asin": jnp.arcsin, "acos": jnp.arccos, "erf_inv": lax.erf_inv, "lgamma": lax.lgamma,
         "digamma": lax.digamma, "bessel_i0e": lax.bessel_i0e, "bessel_i1e": lax.bessel_i1e}[name]  # fmt: skip
    argument = jnp.exp if name in ("lgamma", "digamma") else lambda x: x  # which are not defined everywhere
    inner = kernel.exp(kernel.var("x")) if name in ("lgamma", "digamma") else kernel.var("x")
    theorem = theorem_of(Statement("", (Variable("x", ()),), lambda x: f(argument(x)) <= 1))
    assert kernel.le(kernel.apply(name, inner), 1) in (theorem.goal, *theorem.goal.args)


OPERATIONS = [
    lambda a, b: a + b, lambda a, b: a * b, lambda a, b: a - 2 * b, jnp.maximum, jnp.minimum,
    lambda a, b: jnp.where(a < b, a, -b), lambda a, b: jax.nn.sigmoid(a) * b, lambda a, b: a / (1 + b * b),
    lambda a, b: jnp.sum(a) * b, lambda a, b: a - jnp.max(b), lambda a, b: jnp.tanh(a)[::-1] + b,
    lambda a, b: jnp.cumsum(a) * 0.5 - b, lambda a, b: jax.nn.softmax(a) * b, lambda a, b: jnp.abs(a) - b.mean(),
    lambda a, b: jnp.roll(a, 1) + b, lambda a, b: jnp.dot(a, b) * a / a.shape[0],
]  # fmt: skip


PROGRAMS = st.lists(
    st.tuples(st.integers(0, len(OPERATIONS) - 1), st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=5
)


@given(PROGRAMS, st.sampled_from([1, 3]), st.integers(0, 2**16))
@settings(max_examples=6)
def test_random_programs(steps, n, seed):
    check_program(steps, n, seed)


@pytest.mark.campaign
@given(PROGRAMS, st.sampled_from([1, 2, 3, 4]), st.integers(0, 2**16))
@settings(max_examples=300, deadline=None)
def test_many_random_programs(steps, n, seed):
    check_program(steps, n, seed)


def check_program(steps, n, seed):
    """The kernel's enclosure of a random program contains what JAX computes, and no other number."""

    def f(x, y):
        values = [x, y]
        for k, i, j in steps:
            values.append(OPERATIONS[k](values[i % len(values)], values[j % len(values)]))
        return values[-1]

    close = lambda x, y, z: jnp.abs(f(x, y) - z) <= 1e-3 * (1 + jnp.abs(z))
    theorem = theorem_of(Statement("", tuple(Variable(v) for v in "xyz"), close))
    rng = np.random.default_rng(seed)
    x, y = (np.round(rng.normal(size=n), 2).astype(np.float32) for _ in range(2))
    z = np.asarray(jax.jit(f)(x, y), np.float64)
    point = {"x": exact(x), "y": exact(y), "z": exact(z)}
    if np.isfinite(z).all() and abs(z).max() < 1e6:  # beyond, rounding in float32 may be larger than the room
        assert evaluate(theorem, theorem.goal, {"n": n}, point) is True
    wrong = exact(np.nan_to_num(z) + 0.1 * (1 + abs(np.nan_to_num(z))))
    assert evaluate(theorem, theorem.goal, {"n": n}, {**point, "z": wrong}) is not True


def test_shape_of_a_theorem():
    ball = Ball(0, Fraction(1, 2), 2)
    variables = (Variable("x", N, Range(Fraction(0), Fraction(1), hi_open=True)), Variable("z", N, ball))
    theorem = theorem_of(Statement("t", variables, lambda x, z, c: jnp.log(x) <= c, (Fraction(1, 10),)))
    assert str(theorem) == (
        "for all n, x[n], z[n]:\n"
        "  given for all i < n: 0 <= x[i]\n"
        "  given for all i < n: x[i] < 1\n"
        "  given sum[i < n](z[i]^2) <= 1/4\n"
        "  (for all i < n: 0 < x[i]) and (for all i < n: log(x[i]) <= 1/10)"
    )


@pytest.mark.parametrize("order, told", [(1, "sum[i < 4](max(x[i] - 1, -(x[i] - 1))) <= 1"), ("inf", "x[3] - 1 <= 1")])
def test_balls(order, told):
    variable = Variable("x", (4,), Ball(np.ones(4), Fraction(1), order))
    theorem = theorem_of(Statement("", (variable,), lambda x: x[0] <= 2), unroll=4 if order == "inf" else 3)
    assert any(told in kernel.show(h) for h in theorem.hypotheses)


def test_quantifiers():
    variables = (Variable("x"), Variable("y", N, Range(Fraction(0)), "exists"), Variable("z", N))
    theorem = theorem_of(Statement("", variables, lambda x, y, z: x + y >= z))
    assert [name for name, _ in theorem.variables] == ["x"]
    assert theorem.goal.op == "exists" and {a.op for a in theorem.goal.args[1].args} == {"all", "forall"}


def test_numbers_of_the_text_are_exact():
    theorem = theorem_of(Statement("", (Variable("x", ()),), lambda x, c: x + 0.1 <= c, (Fraction(1, 10),)))
    assert kernel.show(theorem.goal) == "x + 13421773/134217728 <= 1/10"


def test_weights_and_layers_become_variables():
    statement = Statement("", (Variable("x", (3,)),), lambda x: jax.nn.softmax(A @ jnp.tanh(x) + A[:, 0]) >= 0)
    concrete, weights, layer = variants(statement)
    names = lambda theorem: [(name, [e.const for e in shape]) for name, shape in theorem.variables]
    assert names(concrete) == [("x", [3])] and concrete.abstracted == ()
    assert names(weights) == [("x", [3]), ("w0", [2, 3])]
    assert names(layer) == [("x", [3]), ("w0", [2, 3]), ("z0", [2])] and layer.abstracted == ("w0", "z0")
    assert "tanh" not in str(layer) and "z0[0]" in kernel.show(layer.goal)


def test_layers_that_may_have_no_value_stay():
    """What is forgotten must be defined: log(x) is not, and a proof without it would prove too much."""
    statement = Statement("", (Variable("x", (3,)),), lambda x: jnp.exp(A @ jnp.log(x)) >= 0)
    assert all("0 < x[0]" in kernel.show(theorem.goal) for theorem in variants(statement))


def test_layers_under_an_existential_quantifier_stay():
    variables = (Variable("y", (3,), quantifier="exists"),)
    theorem = theorem_of(Statement("", variables, lambda y: A @ y > 1), forget="layers")
    assert theorem.abstracted == ("w0",)


def test_names_that_the_kernel_cannot_have():
    theorem = theorem_of(Statement("", (Variable("θ"), Variable("v0")), lambda a, b: a <= b))
    assert [name for name, _ in theorem.variables] == ["v1", "v0"] and theorem.name("θ") == "v1"


def test_given_sizes():
    statement = Statement("", (Variable("x"),), lambda x: jnp.sort(x)[0] <= x)
    with pytest.raises(UnsupportedPrimitive, match="sorting more than 8 numbers"):
        theorem_of(statement)
    theorem = theorem_of(statement, sizes={"n": 2})
    assert theorem.sizes == () and "max(-x[0], -x[1])" in kernel.show(theorem.goal)


def test_all_that_is_missing_is_listed():
    def condition(x):
        return jnp.fft.fft(x).real + lax.igamma(1.0 + x * x, x * x) >= jnp.linalg.svd(jnp.outer(x, x))[1]

    with pytest.raises(UnsupportedPrimitive) as caught:
        theorem_of(Statement("", (Variable("x", (2,)),), condition))
    for name in ("fft", "igamma", "svd"):
        assert name in str(caught.value)
    assert caught.value.at is not None and "test_symbolic_translate.py" in caught.value.at


def test_places_of_what_cannot_be_said():
    with pytest.raises(UnsupportedPrimitive) as caught:
        theorem_of(Statement("", (Variable("x"),), lambda x: x[x.astype(int)] >= 0))
    assert "test_symbolic_translate.py" in str(caught.value.at)


def test_sizes_that_stay_undecided():
    with pytest.raises(UnsupportedPrimitive, match="for all sizes"):
        theorem_of(Statement("", (Variable("x"),), lambda x: x if x.shape[0] > 2 else x >= 0))


def test_integers_wrap_around_as_in_jax_or_are_refused():
    bits = jnp.array([4294967295, 7], jnp.uint32)
    theorem = theorem_of(Statement("", (Variable("x", (2,)),), lambda x: x <= (bits + jnp.uint32(2))))
    assert kernel.show(theorem.goal) == "x[0] <= 1 and x[1] <= 9"
    big = lambda x: x <= jnp.int32(2**31 - 1) * (x.shape[0] - x.shape[0] + jnp.array([2, 3]))[0]
    with pytest.raises(UnsupportedPrimitive, match="wrap around"):
        theorem_of(Statement("", (Variable("x"),), big))


def test_a_condition_has_to_be_boolean():
    with pytest.raises(SpecError, match="something other than true or false"):
        theorem_of(Statement("", (Variable("x"),), lambda x: x + 1))
