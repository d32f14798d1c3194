"""Bounds step by step: every mode encloses what is sampled, equals the fused program, and shares what it compiles."""

import time
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import lax

from axiom_jax._program import build
from axiom_jax.verification.domains import _layered_rows as rows_
from axiom_jax.verification.domains import _layered_steps as steps_
from axiom_jax.verification.domains.interval import Interval
from axiom_jax.verification.domains.layered import below, enclosed, intermediate, layered_bounds
from axiom_jax.verification.domains.linear import backward, crown, environment, plan, relaxed
from axiom_jax.verification.relax import Lines

rng = np.random.default_rng(0)
SIZE = 8
weights = lambda *shape: jnp.asarray(rng.normal(size=shape) / np.sqrt(shape[-1]), jnp.float32)
DENSE = [weights(SIZE, SIZE) for _ in range(4)]
KERNELS = [weights(2, 2, 3, 3), weights(2, 2, 3, 3)]
QKV = [weights(2, 2) for _ in range(3)]


def dense(ws, x):
    for w in ws[:-1]:
        x = jax.nn.relu(w @ x + 0.1)
    return ws[-1] @ x


def residual(ks, x):
    image = x.reshape(1, 2, 2, 2)
    conv = lambda k, x: lax.conv_general_dilated(x, k, (1, 1), "SAME", dimension_numbers=("NCHW", "OIHW", "NCHW"))
    h = jax.nn.relu(conv(ks[0], image))
    return (jax.nn.relu(conv(ks[1], h) + image) + h).ravel()


def attention(ws, x):
    q, k, v = (x.reshape(4, 2) @ w for w in ws)
    return (jax.nn.softmax(q @ k.T) @ v).ravel()


def curves(ws, x):
    return ws[1] @ jax.nn.silu(ws[0] @ x) + x * x


def gates(ws, x):
    return jax.grad(lambda x: dense(ws, x).sum())(x)


NETS = {"dense": (dense, DENSE), "residual": (residual, KERNELS), "attention": (attention, QKV),
        "curves": (curves, DENSE), "gates": (gates, DENSE[:2])}  # fmt: skip


@cache
def planned(name):
    fn, params = NETS[name]
    program, values = build(fn, params, jnp.zeros(SIZE))
    return plan(program), tuple(values), jax.jit(jax.vmap(lambda x: fn(params, x)))


def sampled(name, lo, hi, generator, n=400):
    x = generator.uniform(lo, hi, (n, SIZE)).astype(np.float32)
    corner = generator.random((n, SIZE)) < 0.5
    x[::2] = np.where(corner[::2], lo, hi)
    return np.asarray(planned(name)[2](np.clip(x, lo, hi)))


def encloses(box, y):
    slack = 1e-4 * (1 + np.abs(y).max())
    return np.all(y >= np.asarray(box.lo) - slack) and np.all(y <= np.asarray(box.hi) + slack)


@pytest.mark.sweep(4)
@pytest.mark.parametrize("name", NETS)
@settings(max_examples=3, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([1.0, 0.2, 0.01]), st.sampled_from([0, 0.5]))
def test_every_mode_encloses_samples(name, seed, radius, fixed):
    generator = np.random.default_rng(seed)
    middle = generator.normal(size=SIZE)
    reach = radius * generator.random(SIZE) * (generator.random(SIZE) >= fixed)
    lo, hi = (middle - reach).astype(np.float32), (middle + reach).astype(np.float32)
    y = sampled(name, lo, hi, generator)
    found = {}
    for mode in ("interval", "crown-ibp", "forward", "crown", "alpha"):
        options = {"iterations": 4} if mode == "alpha" else {"method": mode}
        (found[mode],) = layered_bounds(*planned(name)[:2], lo, hi, **options)
        assert encloses(found[mode], y), mode
    width = lambda mode: np.mean(found[mode].hi - found[mode].lo)
    assert width("alpha") <= width("interval") * 1.0001 + 1e-5


def test_dense_bounds_are_those_of_the_fused_program():
    planning, values, _ = planned("dense")
    lo, hi = -np.ones(SIZE, np.float32), np.ones(SIZE, np.float32)
    (one,) = layered_bounds(planning, values, lo, hi)
    (other,) = crown(planning, values, Interval(jnp.asarray(lo), jnp.asarray(hi)))
    assert np.allclose(one.lo, other.lo, atol=1e-4)
    assert np.allclose(one.hi, other.hi, atol=1e-4)


def test_choosing_lines_tightens_and_never_loosens():
    planning, values, _ = planned("dense")
    lo, hi = -np.ones(SIZE, np.float32), np.ones(SIZE, np.float32)
    (plain,), (better,) = (layered_bounds(planning, values, lo, hi, iterations=n) for n in (0, 15))
    assert np.all(better.lo >= plain.lo - 1e-5)
    assert np.all(better.hi <= plain.hi + 1e-5)
    assert np.mean(better.hi - better.lo) < 0.95 * np.mean(plain.hi - plain.lo)


@pytest.mark.sweep(2)
@pytest.mark.parametrize("name", ["dense", "attention"])
def test_the_pass_upwards_is_the_derivative_of_the_bound(name):
    """Against automatic differentiation of the fused backward pass."""
    planning, values, _ = planned(name)
    lo, hi = -0.5 * np.ones(SIZE, np.float32), np.linspace(0.1, 0.8, SIZE, dtype=np.float32)
    region = enclosed(planning, values, lo, hi)
    (out,) = planning.program.outputs
    start = {out: jnp.asarray(rng.normal(size=(3, *out.shape)), jnp.float32)}
    upto = len(region.steps)
    _, _, passed, _ = rows_._down(region, start, upto, {})
    choices, moments = {}, {}
    for k in [k for k in passed if rows_._is_free(region, k)]:
        step, box = region.steps[k], region.boxes[region.steps[k].inputs[0]]
        t = steps_.first_choice(step.piece, step.free, 3, box.lo, box.hi)
        choices[k] = jnp.clip(t + jnp.asarray(rng.uniform(-0.3, 0.3, t.shape), jnp.float32), 0.1, 0.9)
        moments[k] = jnp.zeros_like(t), jnp.zeros_like(t)
    assert choices
    value, corners, passed, _ = rows_._down(region, start, upto, choices)
    rows_._up(region, upto, corners, passed, dict(choices), moments, np.float32(1), np.float32(0))

    def fused(choices):
        boxes = {v: region.boxes[v] for v in region.boxes}
        lines, at = dict(relaxed(planning, environment(planning, values), boxes)), 0
        for k, step in enumerate(region.steps):
            if k in choices:
                box = region.boxes[step.inputs[0]]
                lines[at] = steps_._chosen(step.piece, box.lo, box.hi, choices[k])
            at += len(step.piece.equations)
        found = backward(planning, environment(planning, values), boxes, lines, start, len(planning.varying))
        return found.value

    total = jax.value_and_grad(lambda t: ((f := fused(t)).sum(), f), has_aux=True)
    (_, expected), slopes = jax.jit(total, compiler_options=steps_.QUICK)(choices)
    assert np.allclose(expected, value, atol=1e-3)
    for k, slope in slopes.items():
        mine = np.asarray(moments[k][0]) / (1 - steps_.MOMENTS[0])
        assert np.allclose(mine, slope, atol=1e-3 * (1 + np.abs(slope).max()))


def test_equal_layers_share_their_steps():
    def deep(count):
        program, _ = build(dense, [DENSE[0]] * count, jnp.zeros(SIZE))
        return steps_.cut(plan(program))

    few, many = ({step.piece for step in deep(count)} for count in (4, 12))
    assert few == many
    assert len(deep(12)) > len(deep(4)) > len(few)


def test_a_curve_is_shared_by_layers():
    program, _ = build(lambda ws, x: jax.nn.gelu(ws @ jax.nn.gelu(ws @ jax.nn.gelu(ws @ x))), DENSE[0], jnp.zeros(SIZE))
    curve = [step.piece for step in steps_.cut(plan(program)) if step.kind == "curve"]
    assert len(curve) == 3
    assert len(set(curve)) == 1


def test_a_deadline_that_has_passed_leaves_intervals():
    planning, values, _ = planned("dense")
    lo, hi = -np.ones(SIZE, np.float32), np.ones(SIZE, np.float32)
    late = enclosed(planning, values, lo, hi, iterations=5, deadline=time.monotonic() - 1)
    plain = enclosed(planning, values, lo, hi, method="interval")
    for v in planning.sites:
        assert np.array_equal(late.boxes[v].lo, plain.boxes[v].lo)
    found = below(late, {planning.program.outputs[0]: jnp.eye(SIZE)}, iterations=5, deadline=time.monotonic() - 1)
    assert np.all(found.value == -np.inf)
    assert found.rows[0].shape == (SIZE, SIZE)


def test_given_boxes_are_kept():
    planning, values, _ = planned("dense")
    lo, hi = -np.ones(SIZE, np.float32), np.ones(SIZE, np.float32)
    site = planning.sites[1]
    free = intermediate(planning, values, lo, hi)
    clipped = {site: Interval(jnp.maximum(free[site].lo, 0), jnp.asarray(free[site].hi))}
    found = intermediate(planning, values, lo, hi, boxes=clipped)
    assert np.all(found[site].lo >= 0)
    assert np.mean(found[planning.sites[2]].hi) < np.mean(free[planning.sites[2]].hi)


def test_only_open_neurons_are_bounded_by_rows(monkeypatch):
    planning, values, _ = planned("dense")
    asked = []
    true = rows_.raised
    monkeypatch.setattr(
        "axiom_jax.verification.domains.layered.raised", lambda *a, **k: asked.append(a[1]) or true(*a, **k)
    )
    intermediate(planning, values, np.full(SIZE, 0.5), np.full(SIZE, 0.5))
    assert not asked
    intermediate(planning, values, np.full(SIZE, -1.0), np.full(SIZE, 1.0))
    count = [np.count_nonzero(np.asarray(A)) // 2 for start in asked for A in start.values()]
    box = enclosed(planning, values, np.full(SIZE, -1.0), np.full(SIZE, 1.0), method="interval").boxes[
        planning.sites[0]
    ]
    assert count[0] == np.count_nonzero((box.lo < 0) & (box.hi > 0))
    assert max(count) <= SIZE


def test_rows_give_linear_functions_below():
    planning, values, run = planned("residual")
    lo, hi = -np.ones(SIZE, np.float32), np.ones(SIZE, np.float32)
    region = enclosed(planning, values, lo, hi, iterations=3)
    found = below(region, {planning.program.outputs[0]: jnp.eye(SIZE)}, iterations=3)
    coefficients = np.asarray(found.rows[0])
    at = np.asarray(found.value) + np.abs(coefficients).sum(1)  # the value at the middle of the box
    x = rng.uniform(lo, hi, (300, SIZE)).astype(np.float32)
    assert np.all(np.asarray(run(x)) >= x @ coefficients.T + at - 1e-3)
    assert set(found.choices) <= set(range(len(region.steps)))


def test_wide_differences_are_bounded_by_their_operands(monkeypatch):
    """Rows of 24 numbers serve all their differences, and cancel what intervals cannot."""
    w = weights(24, 3)
    program, values = build(lambda w, x: jnp.exp((h := jnp.tanh(w @ x))[:, None] - h[None]), w, jnp.zeros(3))
    planning, counts, true = plan(program), [], rows_.raised
    monkeypatch.setattr(
        "axiom_jax.verification.domains.layered.raised",
        lambda region, start, *a, **k: counts.extend(v.size for v in start) or true(region, start, *a, **k),
    )
    lo, hi = -0.3 * np.ones(3, np.float32), 0.3 * np.ones(3, np.float32)
    found = intermediate(planning, values, lo, hi)
    differences = max(found, key=lambda v: v.size)
    assert differences.size == 24 * 24
    assert max(counts) == 24
    h = np.tanh(rng.uniform(lo, hi, (500, 3)) @ np.asarray(w).T)
    d = h[:, :, None] - h[:, None]
    assert encloses(found[differences], d)
    wide = enclosed(planning, values, lo, hi, method="interval").boxes[differences]
    width = lambda box: np.mean(np.asarray(box.hi) - np.asarray(box.lo))
    assert width(found[differences]) < 0.8 * width(wide)


def test_lines_of_infinite_offset_cost_nothing_where_they_are_not_taken():
    lines = Lines(jnp.ones(2), jnp.zeros(2), jnp.zeros(2), jnp.full(2, jnp.inf))
    part, value, _ = steps_.lines_down(lines, jnp.ones((1, 2)), jnp.zeros(1), jnp.zeros(1))
    assert np.all(np.isfinite(value))
    assert np.array_equal(part, np.ones((1, 2)))
