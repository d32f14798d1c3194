"""Every rule of every table encloses: sample points of boxes, compare with the function in float64.

Bounds are float32 rounded to nearest (they propose, the checker disposes), so an error of
rounding, measured against the magnitudes that were summed, is allowed; nothing else is.
"""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jax import lax

from axiom_jax._errors import UnsupportedPrimitive
from axiom_jax._program import build
from axiom_jax.verification.domains.bounding import bound_program
from axiom_jax.verification.domains.interval import Interval, bounds, interval
from axiom_jax.verification.domains.linear import crown, is_linear, plan
from axiom_jax.verification.relax import gate_lines, relaxation

SIZE = 6
rng = np.random.default_rng(1)
W = jnp.asarray(rng.normal(size=(SIZE, SIZE)), jnp.float32)
K = jnp.asarray(rng.normal(size=(2, 2, 1, 2)), jnp.float32)
C = jnp.asarray(rng.normal(size=SIZE), jnp.float32)
image = lambda x: x.reshape(1, 3, 2, 1)
pooled = lambda x: lax.reduce_window(image(x), -jnp.inf, lax.max, (1, 2, 2, 1), (1, 1, 1, 1), "SAME")

# For every primitive: a function of a vector of six that uses it, and the part of the line where it is defined.
ALL, POSITIVE = (-np.inf, np.inf), (0.0, np.inf)
SAMPLES = {
    "add": (lambda x: x + C + x[::-1], ALL),
    "sub": (lambda x: x - C - x[::-1], ALL),
    "neg": (lambda x: -x, ALL),
    "mul": (lambda x: x * C, ALL),
    "div": (lambda x: x / (jnp.abs(C) + 0.5), ALL),
    "dot_general": (lambda x: W @ x, ALL),
    "conv_general_dilated": (
        lambda x: lax.conv_general_dilated(image(x), K, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")), ALL
    ),
    "max": (lambda x: jnp.maximum(x, 0) + jnp.maximum(x[:3], x[3:]).sum() + jnp.maximum(C, x), ALL),
    "min": (lambda x: jnp.minimum(x, 0.5) - jnp.minimum(x[:3], x[3:]).sum(), ALL),
    "clamp": (lambda x: lax.clamp(-0.5, x, 0.75), ALL),
    "abs": (lambda x: jnp.abs(x - 0.1), ALL),
    "tanh": (lambda x: jnp.tanh(x), ALL),
    "logistic": (lambda x: jax.nn.sigmoid(x), ALL),
    "exp": (lambda x: jnp.exp(jnp.clip(x, -20, 20)), ALL),
    "integer_pow": (lambda x: lax.integer_pow(x, 2), ALL),
    "square": (lambda x: lax.square(x), ALL),
    "reduce_sum": (lambda x: x.reshape(2, 3).sum(0), ALL),
    "cumsum": (lambda x: jnp.cumsum(x) - lax.cumsum(x, reverse=True), ALL),
    "reduce_max": (lambda x: x.reshape(2, 3).max(1), ALL),
    "reduce_min": (lambda x: x.reshape(2, 3).min(1), ALL),
    "reduce_window_max": (
        lambda x: lax.reduce_window(image(x), -jnp.inf, lax.max, (1, 2, 2, 1), (1, 1, 1, 1), "SAME"), ALL
    ),
    "reduce_window_min": (
        lambda x: lax.reduce_window(image(x), jnp.inf, lax.min, (1, 3, 2, 1), (1, 2, 2, 1), "SAME"), ALL
    ),
    "reduce_window_sum": (
        lambda x: lax.reduce_window(image(x), 0.0, lax.add, (1, 2, 2, 1), (1, 1, 1, 1), "SAME"), ALL
    ),
    "broadcast_in_dim": (lambda x: jnp.broadcast_to(x, (2, SIZE)), ALL),
    "concatenate": (lambda x: jnp.concatenate([x, C, x]), ALL),
    "pad": (lambda x: lax.pad(x, 0.5, [(1, 2, 1)]), ALL),
    "reshape": (lambda x: x.reshape(2, 3), ALL),
    "rev": (lambda x: jnp.flip(x), ALL),
    "slice": (lambda x: x[1:5:2], ALL),
    "split": (lambda x: lax.split(x, (2, 4))[1], ALL),
    "squeeze": (lambda x: lax.squeeze(x.reshape(1, 6), (0,)), ALL),
    "stack": (lambda x: jnp.stack([x, -x]), ALL),
    "tile": (lambda x: lax.tile(x, (2,)), ALL),
    "transpose": (lambda x: x.reshape(2, 3).T, ALL),
    "gather": (lambda x: x[jnp.array([4, 0, 0])], ALL),
    "dynamic_slice": (lambda x: lax.dynamic_slice(x, (jnp.int32(2),), (3,)), ALL),
    "select_n": (lambda x: jnp.where(jnp.arange(SIZE) % 2 == 0, x, -x), ALL),
    "log": (lambda x: jnp.log(x + 0.1), POSITIVE),
    "log1p": (lambda x: jnp.log1p(x), POSITIVE),
    "sqrt": (lambda x: jnp.sqrt(x), POSITIVE),
    "rsqrt": (lambda x: lax.rsqrt(x + 0.1), POSITIVE),
    "floor": (lambda x: jnp.floor(x), ALL),
    "ceil": (lambda x: jnp.ceil(x), ALL),
    "round": (lambda x: jnp.round(x), ALL),
    "sign": (lambda x: jnp.sign(x), ALL),
    "erf": (lambda x: lax.erf(x), ALL),
    "atan": (lambda x: jnp.atan(x), ALL),
    "cummax": (lambda x: lax.cummax(x), ALL),
    "convert_element_type": (lambda x: (x * 4).astype(jnp.float16).astype(jnp.float32), (-1e4, 1e4)),
    **{
        name: (lambda x, f=f: jnp.where(f(x, C), x, 2 * x), ALL)
        for name, f in dict(eq=jnp.equal, ne=jnp.not_equal, lt=jnp.less, le=jnp.less_equal, gt=jnp.greater,
                            ge=jnp.greater_equal).items()
    },
    "add_any": (jax.grad(lambda x: (x * x[::-1]).sum() + (jnp.tanh(x) * x).sum()), (-1e15, 1e15)),
    "exp2": (lambda x: jnp.exp2(jnp.clip(x, -20, 20)), ALL),
    "expm1": (lambda x: jnp.expm1(jnp.clip(x, -20, 20)), ALL),
    "cbrt": (lambda x: lax.cbrt(x), ALL),
    "erfc": (lambda x: lax.erfc(x), ALL),
    "erf_inv": (lambda x: lax.erf_inv(x), (-0.99, 0.99)),
    "asin": (lambda x: lax.asin(x), (-0.99, 0.99)),
    "acos": (lambda x: lax.acos(x), (-0.99, 0.99)),
    "sinh": (lambda x: jnp.sinh(x), (-20, 20)),
    "cosh": (lambda x: jnp.cosh(x), (-20, 20)),
    "asinh": (lambda x: jnp.asinh(x), (-1e15, 1e15)),
    "acosh": (lambda x: lax.acosh(x), (1, 1e15)),
    "atanh": (lambda x: lax.atanh(x), (-0.99, 0.99)),
    "sin": (lambda x: jnp.sin(x), (-1e3, 1e3)),
    "cos": (lambda x: jnp.cos(x), (-1e3, 1e3)),
    "tan": (lambda x: jnp.tan(x), (-1.5, 1.5)),
    "atan2": (lambda x: jnp.atan2(x, x[::-1] + 0.1), (-1e15, 1e15)),
    "rem": (lambda x: lax.rem(x, jnp.full(SIZE, 0.75)), (-100, 100)),
    "pow": (lambda x: jnp.power(x + 0.1, 1.5) + jnp.power(x + 0.1, jnp.abs(C)), (0, 1e6)),
    "reduce_prod": (lambda x: jnp.stack([*x.reshape(2, 3).prod(1), x[1:].prod()]), (-1e5, 1e5)),
    "cumprod": (lambda x: jnp.cumprod(x[:4]) + lax.cumprod(x[:4], reverse=True), (-1e5, 1e5)),
    "cummin": (lambda x: lax.cummin(x), ALL),
    "cumlogsumexp": (lambda x: lax.cumlogsumexp(x), (-1e4, 1e4)),
    "reduce_precision": (lambda x: lax.reduce_precision(x, 8, 10) * 0.5, (-1e15, 1e15)),
    "is_finite": (lambda x: jnp.isfinite(x).astype(jnp.float32), ALL),
    "and": (lambda x: jnp.where((x > 0) & (x < C), x, 1.0), ALL),
    "or": (lambda x: jnp.where((x > 0.5) | (x < C), x, 1.0), ALL),
    "not": (lambda x: jnp.where(~(x > 0.5), x, 1.0), ALL),
    "xor": (lambda x: jnp.where((x > 0.5) ^ (x < C), x, 1.0), ALL),
    "reduce_and": (lambda x: jnp.where((x > C).reshape(2, 3).all(1), 1.0, x[:2]), ALL),
    "reduce_or": (lambda x: jnp.where((x > C).reshape(2, 3).any(1), 1.0, x[:2]), ALL),
    "argmax": (lambda x: jnp.argmax(x).astype(jnp.float32) + C[jnp.argmax(x)], ALL),
    "argmin": (lambda x: jnp.argmin(x.reshape(2, 3), 1).astype(jnp.float32), ALL),
    "sort": (lambda x: jnp.concatenate([jnp.sort(x), lax.sort((x, x[::-1]), num_keys=1)[1]]), ALL),
    "top_k": (lambda x: jnp.concatenate([lax.top_k(x, 3)[0], lax.top_k(x, 3)[1].astype(jnp.float32)]), ALL),
    "dynamic_update_slice": (
        lambda x: lax.dynamic_update_slice(x, x[:2] * 2, (jnp.int32(3),))
        + lax.dynamic_update_slice(x, x[:2] * 2, (jnp.argmax(x[:3]).astype(jnp.int32),)), ALL
    ),
    "scatter": (lambda x: x.at[jnp.array([4, 1])].set(2 * x[:2]), ALL),
    "scatter-add": (lambda x: x.at[jnp.array([4, 4])].add(2 * x[:2]) + x.at[jnp.argmax(x)].add(-x[0]), ALL),
    "scatter-min": (lambda x: x.at[jnp.array([4, 1])].min(2 * x[:2]), ALL),
    "scatter-max": (lambda x: x.at[jnp.array([4, 1])].max(2 * x[:2]), ALL),
    "select_and_gather_add": (lambda x: jax.jvp(pooled, (x,), (x[::-1] - C,))[1], ALL),
    "select_and_scatter_add": (jax.grad(lambda x: (pooled(x) * jnp.arange(1.0, 7).reshape(1, 3, 2, 1)).sum()), ALL),
}  # fmt: skip

KINDS = ("random", "cancelling", "tiny", "subnormal", "huge", "point", "across zero")


def boxes(kind, generator, domain):
    """Two ends of a box of the kind, cut to the domain."""
    middle = generator.normal(size=SIZE)
    radius = np.abs(generator.normal(size=SIZE))
    match kind:
        case "cancelling":
            middle, radius = 1e4 * np.resize([1.0, -1.0], SIZE), radius * 1e-2
        case "tiny":
            radius *= 1e-6
        case "subnormal":
            middle, radius = middle * 1e-41, radius * 1e-41
        case "huge":
            middle, radius = middle * 1e30, radius * 1e30
        case "point":
            radius = radius * 0
        case "across zero":
            middle = middle * 1e-3
    lo, hi = (middle - radius).astype(np.float32), (middle + radius).astype(np.float32)
    low, high = domain
    return np.clip(lo, low, high).astype(np.float32), np.clip(hi, low, high).astype(np.float32)


def points(lo, hi, generator, count=24):
    """Corners, the middle and random points, in float32 so that they lie in the box."""
    inner, corners = generator.uniform(size=(count, SIZE)), generator.integers(0, 2, (8, SIZE))
    t = np.concatenate([inner, corners, np.full((1, SIZE), 0.5)])
    return np.clip((lo + t * (hi.astype(np.float64) - lo)).astype(np.float32), lo, hi)


def assert_encloses(box, many, lo, hi, generator, name):
    values = np.asarray(many(jnp.asarray(points(lo, hi, generator))), np.float64)
    magnitude = np.abs(values[np.isfinite(values)]).max(initial=0) + float(np.maximum(np.abs(lo), np.abs(hi)).max()) * 8
    slack = 1e-5 * magnitude + 1e-30
    low, high = np.asarray(box.lo, np.float64), np.asarray(box.hi, np.float64)
    assert not np.isnan(low).any() and not np.isnan(high).any(), name
    assert (values >= low - slack).all(), (name, values.min(0), low)
    assert (values <= high + slack).all(), (name, values.max(0), high)


@pytest.mark.sweep(3)
@pytest.mark.parametrize("name", sorted(interval.rules))
def test_interval_rule(name):
    function, _ = SAMPLES[name]
    program, values = build(lambda _, x: function(x), (), jnp.zeros(SIZE))
    assert any(e.name == name for e in program.equations), f"the sample does not use {name}"
    assert_rule_encloses(lambda box: bounds(program, values, box)[0], name)


def assert_rule_encloses(bounding, name):
    """Every kind of box, with one compilation of the bounds and one of the function."""
    function, domain = SAMPLES[name]
    bounding, many = jax.jit(bounding), jax.jit(jax.vmap(function))
    for number, kind in enumerate(KINDS):
        generator = np.random.default_rng(len(name) * 31 + number)
        lo, hi = boxes(kind, generator, domain)
        box = bounding(Interval(jnp.asarray(lo), jnp.asarray(hi)))
        assert_encloses(box, many, lo, hi, generator, f"{name}, {kind}")


def linear_samples():
    """The samples that the linear domain can bound, whole."""
    found = []
    for name, (function, _) in SAMPLES.items():
        program, _ = build(lambda _, x, function=function: function(x), (), jnp.zeros(SIZE))
        try:
            plan(program)
        except UnsupportedPrimitive:  # the refusal itself is tested elsewhere
            continue
        found.append(name)
    return found


LINEAR_SAMPLES = linear_samples()


# Those that linear bounds treat alike are represented by one.
ALIKE = {"acos", "acosh", "and", "argmin", "asin", "asinh", "atan", "atan2", "atanh", "ceil", "cos", "cosh", "cummin",
         "cumprod", "erf_inv", "erfc", "is_finite", "le", "lt", "not", "ne", "or", "reduce_and", "reduce_or",
         "reduce_precision", "round", "scatter", "scatter-max", "scatter-min", "sinh", "top_k", "xor",
         "dynamic_update_slice", "select_and_scatter_add", "cumlogsumexp", "exp2"}  # fmt: skip


@pytest.mark.sweep(6)
@pytest.mark.parametrize("name", sorted(set(LINEAR_SAMPLES) - ALIKE))
def test_linear_rule(name):
    function, _ = SAMPLES[name]
    program, values = build(lambda _, x: function(x), (), jnp.zeros(SIZE))
    planned = plan(program)
    assert_rule_encloses(lambda box: crown(planned, values, box)[0], name)


def test_every_rule_of_every_table_is_sampled():
    assert set(interval.rules) <= set(SAMPLES)
    assert set(relaxation.rules) - {"integer_pow"} <= set(LINEAR_SAMPLES) and set(SAMPLES) == set(LINEAR_SAMPLES)
    named = {"dot_general", "conv_general_dilated", "add", "sub", "mul", "div", "neg", "max", "min", "clamp", "abs",
             "tanh", "logistic", "exp", "reduce_sum", "reshape", "transpose", "concatenate", "slice", "pad",
             "broadcast_in_dim", "select_n", "reduce_window_max", "reduce_window_sum"}  # fmt: skip
    assert named <= set(LINEAR_SAMPLES)


def test_a_broken_rule_is_found():
    """The test can fail: lines that cut the curve are seen."""
    lo, hi = np.full(SIZE, -1, np.float32), np.full(SIZE, 1, np.float32)
    wrong = Interval(jnp.full(SIZE, -0.5), jnp.full(SIZE, 0.5))
    with pytest.raises(AssertionError):
        assert_encloses(wrong, lambda x: x, lo, hi, np.random.default_rng(0), "identity")


@cache
def jitted_network(kind, depth):
    """A residual network of one shape: its function of (weights, points), and both bounds of (weights, box)."""
    activation = [jax.nn.relu, jnp.tanh, jnp.abs][kind]

    def network(ws, x):
        for i, w in enumerate(ws):
            x = activation(w @ x) + (x if i % 2 else 0)
        return x

    program, _ = build(network, [W] * depth, jnp.zeros(SIZE))
    planned = plan(program)
    return (
        jax.jit(jax.vmap(network, (None, 0))),
        jax.jit(lambda ws, box: crown(planned, ws, box)[0]),
        jax.jit(lambda ws, box: bounds(program, ws, box)[0]),
    )


@pytest.mark.slow
@given(seed=st.integers(0, 10**6), kind=st.integers(0, 2), depth=st.integers(1, 3))
def test_random_networks(seed, kind, depth):
    """CROWN and intervals enclose random residual networks."""
    generator = np.random.default_rng(seed)
    weights = [jnp.asarray(generator.normal(size=(SIZE, SIZE)), jnp.float32) for _ in range(depth)]
    lo, hi = boxes("random", generator, ALL)
    network, tight, loose = jitted_network(kind, depth)
    for bounding in (tight, loose):
        box = bounding(weights, Interval(jnp.asarray(lo), jnp.asarray(hi)))
        assert_encloses(box, lambda x: network(weights, x), lo, hi, generator, bounding)


def test_linear_needs_one_varying_operand():
    program, _ = build(lambda _, x: x[:, None] * x[None, :], (), jnp.zeros(2))
    product = next(e for e in program.equations if e.name == "mul")
    assert not is_linear(program, product)


@given(st.tuples(*[st.floats(-50, 50, width=32)] * 2), st.booleans(), st.booleans(), st.floats(0, 1))
def test_lines_of_a_gate_enclose(ends, surely, maybe, part):
    """v where the condition holds, 0 where it does not, anything between where it is undecided."""
    lo, hi = sorted(ends)
    lines = gate_lines(jnp.bool_(surely and maybe), jnp.bool_(maybe), jnp.float32(lo), jnp.float32(hi))
    v = np.linspace(lo, hi, 51)
    for value in [v] if surely and maybe else [0 * v] if not maybe else [v, 0 * v, part * v]:
        assert (float(lines.below) * v + float(lines.below_at_0) <= value + 1e-4).all()
        assert (float(lines.above) * v + float(lines.above_at_0) >= value - 1e-4).all()


WHOLE = {
    "softmax": jax.nn.softmax,
    "log_softmax": jax.nn.log_softmax,
    "attention": lambda x: jax.nn.softmax(x.reshape(3, 2) @ x.reshape(3, 2).T) @ x.reshape(3, 2),
    "layer norm": lambda x: (x - x.mean()) * lax.rsqrt(x.var() + 1e-3),
    "activations": lambda x: jnp.stack([jax.nn.gelu(x), jax.nn.gelu(x, False), jax.nn.silu(x), jax.nn.mish(x),
                                        jax.nn.elu(x), jax.nn.softplus(x), jax.nn.hard_tanh(x), jax.nn.soft_sign(x),
                                        jax.nn.leaky_relu(x), jnp.floor(x) * x]),
    "derivatives": lambda x: jnp.stack([jax.jvp(f, (x,), (C,))[1] for f in
                                        (lambda x: jax.nn.relu(W @ x), lambda x: jnp.tanh(W @ x), jax.nn.silu,
                                         lambda x: jnp.maximum(x, C), lambda x: jnp.clip(x, -0.5, 1))]),
    "gradient of cross entropy": jax.grad(lambda x: -jax.nn.log_softmax(jax.nn.relu(W @ x))[0]),
    "where": lambda x: jnp.where((x > 0) & ~(x > C) | (x < -1), x * x[::-1], 1 / (1 + x * x)),
}  # fmt: skip


HEAVY = {name: pytest.mark.slow for name in ("softmax", "layer norm")}  # to compile
HEAVY |= {name: pytest.mark.campaign for name in ("activations", "gradient of cross entropy")}


@pytest.mark.sweep(3)
@pytest.mark.parametrize("name", [pytest.param(n, marks=HEAVY.get(n, ())) for n in WHOLE])
def test_whole_functions(name):
    """Models, losses and their derivatives: both bounds enclose, and linear ones are never looser than intervals."""
    function = WHOLE[name]
    program, values = build(lambda _, x: function(x), (), jnp.zeros(SIZE))
    both = jax.jit(lambda box: [bound_program(program, values, box, method=m) for m in ("crown", "interval")])
    many = jax.jit(jax.vmap(function))
    for number, kind in enumerate(("random", "tiny", "point", "across zero")):
        generator = np.random.default_rng(number)
        lo, hi = boxes(kind, generator, ALL)
        (tight,), (loose,) = both(Interval(jnp.asarray(lo), jnp.asarray(hi)))
        for box in (tight, loose):
            assert_encloses(box, many, lo, hi, generator, f"{name}, {kind}")
        assert (tight.lo >= loose.lo).all() and (tight.hi <= loose.hi).all()
