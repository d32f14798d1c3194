"""The backward pass as a function: rows of any values, slopes a row, multipliers, boxes that are given."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from axiom_jax._program import build
from axiom_jax.verification.domains.interval import Interval
from axiom_jax.verification.domains.linear import backward, crown_below, enclose, environment, plan, relaxed
from axiom_jax.verification.relax import relaxation_at

rng = np.random.default_rng(3)
QUICK = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}  # each runs once
W = [jnp.asarray(rng.normal(size=(5, 5)), jnp.float32) for _ in range(3)]


@pytest.fixture(scope="module")
def net():
    """Plan, known values, the input, its box, points of it, and the values of both sites there."""
    program, values = build(lambda w, x: w[2] @ jax.nn.relu(w[1] @ jax.nn.relu(w[0] @ x)), W, jnp.zeros(5, jnp.float32))
    planned = plan(program)
    box = {program.inputs[0]: Interval(-jnp.ones(5), jnp.ones(5))}
    x = rng.uniform(-1, 1, (300, 5)).astype(np.float32)
    first = x @ np.asarray(W[0]).T
    second = np.maximum(first, 0) @ np.asarray(W[1]).T
    return planned, environment(planned, values), box, x, first, second


def passed(net, lines, boxes, start, **options):
    planned, known, *_ = net
    return backward(planned, known, boxes, lines, start, len(planned.varying), **options)


@pytest.mark.slow
def test_the_functions_together_are_crown(net):
    planned, known, box, *_ = net
    boxes, lines = enclose(planned, known, box)
    (out,) = planned.program.outputs
    found = passed(net, lines, boxes, {out: jnp.eye(5)})
    whole = jax.jit(lambda box: crown_below(planned, W, box).value, compiler_options=QUICK)
    assert np.allclose(found.value, whole(*box.values()), atol=1e-5)


def test_intervals_alone_are_looser_and_given_boxes_are_kept(net):
    planned, known, box, *_ = net
    wide, _ = enclose(planned, known, box, tighten=False)
    tight, _ = enclose(planned, known, box)
    second = planned.sites[1]
    assert np.all(wide[second].hi - wide[second].lo >= tight[second].hi - tight[second].lo - 1e-5)
    clipped = Interval(jnp.zeros(5), tight[second].hi)
    kept, _ = enclose(planned, known, box | {second: clipped})
    assert np.array_equal(kept[second].lo, np.maximum(wide[second].lo, 0))


def test_every_row_may_have_slopes_of_its_own(net):
    planned, known, box, *_ = net
    boxes, lines = enclose(planned, known, box)
    (out,) = planned.program.outputs
    y = np.maximum(net[5], 0) @ np.asarray(W[2]).T
    t = jnp.asarray(rng.random((2, 5, 5)), jnp.float32)
    own = {}
    for position, eqn in enumerate(planned.varying):
        if position in lines:
            box_of = boxes[planned.operand(eqn)]
            own[position] = relaxation_at("max")(box_of.lo, box_of.hi, t)
    together = passed(net, own, boxes, {out: jnp.eye(5)})
    assert np.all(y >= np.asarray(together.value) - 1e-4)
    for row in range(5):
        alone = {k: jax.tree.map(lambda a, row=row: a[row] if a.ndim == 2 else a, one) for k, one in own.items()}
        assert np.allclose(passed(net, alone, boxes, {out: jnp.eye(5)}).value[row], together.value[row], atol=1e-4)


def test_rows_of_several_values_and_multipliers_add_up(net):
    """β-CROWN: y + β·(−z) over z ≥ 0 is below y there; here the bound itself is checked at sampled points."""
    planned, known, box, _, first, second = net
    boxes, lines = enclose(planned, known, box)
    (out,) = planned.program.outputs
    y = np.maximum(second, 0) @ np.asarray(W[2]).T
    beta = jnp.asarray(rng.random((5, 5)), jnp.float32)
    for site, z in zip(planned.sites, (first, second), strict=True):
        by_extra = passed(net, lines, boxes, {out: jnp.eye(5)}, extra={site: -beta})
        by_start = passed(net, lines, boxes, {out: jnp.eye(5), site: -beta})
        assert np.allclose(by_extra.value, by_start.value, atol=1e-5)
        assert np.all(y - z @ np.asarray(beta).T >= np.asarray(by_extra.value) - 1e-4)


def test_relaxed_lines_enclose(net):
    planned, known, box, _, first, second = net
    lines = relaxed(planned, known, box)
    for one, z in zip(lines.values(), (first, second), strict=True):
        y = np.maximum(z, 0)
        assert np.all(z * np.asarray(one.below) + np.asarray(one.below_at_0) <= y + 1e-4)
        assert np.all(z * np.asarray(one.above) + np.asarray(one.above_at_0) >= y - 1e-4)


def test_bounds_can_be_differentiated(net):
    planned, known, *_ = net
    (x,) = planned.program.inputs
    (out,) = planned.program.outputs

    def total(lo):
        boxes = {x: Interval(lo, jnp.ones(5))}
        found, lines = enclose(planned, known, boxes, tighten=False)
        return backward(planned, known, found, lines, {out: jnp.eye(5)}, len(planned.varying)).value.sum()

    slope = jax.jit(jax.grad(total), compiler_options=QUICK)(-jnp.ones(5))
    assert np.all(np.isfinite(slope))
    assert np.any(slope != 0)
