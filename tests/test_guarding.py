"""Guards: the row, the value and the line, under every transformation, and nothing on the path where they hold."""

import re
import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jaxtyping import Array, Float

import axiom_jax as ax
from axiom_jax import nn
from axiom_jax._model_guards import GuardWarning

COMPILED = (ax.EnsureViolation, jax.errors.JaxRuntimeError, ValueError)  # what JAX makes of an exception in a callback


@ax.axiom
def doubled(x: Float[Array, "batch n"]) -> Float[Array, "batch n"]:
    y = 2 * x
    ax.ensure(ax.bounded(y, -1, 1), "y is small")
    return y


GOOD, BAD = np.float32([[0.1, 0.2], [0.3, 0.4]]), np.float32([[0.1, 0.2], [0.3, 7.0]])


def test_a_violation_says_which_row_which_value_and_which_line():
    np.testing.assert_array_equal(doubled(GOOD), 2 * GOOD)
    with pytest.raises(ax.EnsureViolation) as caught:
        doubled(BAD)
    error = caught.value
    assert (error.condition, error.row, error.value) == ("y is small", 1, 14.0)
    assert error.at and re.search(r"test_guarding.py:\d+ \(doubled\)", error.at)


@pytest.mark.parametrize("change", [
    jax.jit, jax.vmap, lambda f: jax.jit(jax.vmap(f)), jax.checkpoint,
    lambda f: lambda x: jax.lax.map(f, x), lambda f: jax.jit(lambda x: jax.lax.map(f, x)),
], ids=["jit", "vmap", "jit_vmap", "remat", "map", "jit_map"])  # fmt: skip
def test_under_a_transformation(change):
    changed = change(doubled)
    good, bad = jnp.stack([GOOD, GOOD]), jnp.stack([GOOD, BAD])
    if change in (jax.jit, jax.checkpoint):
        good, bad = GOOD, BAD
    np.testing.assert_array_equal(changed(good), 2 * good)
    with pytest.raises(COMPILED, match="y is small"):
        jax.block_until_ready(changed(bad))


def test_under_shard_map():
    """A guard is asked by each device of its own rows; the row in the report is the device's."""
    mesh = jax.make_mesh((1,), ("rows",), axis_types=(jax.sharding.AxisType.Auto,))
    spec = jax.sharding.PartitionSpec("rows")
    mapped = jax.shard_map(doubled, mesh=mesh, in_specs=spec, out_specs=spec)
    for call in (mapped, jax.jit(mapped)):
        np.testing.assert_array_equal(call(GOOD), 2 * GOOD)
        with pytest.raises(ax.EnsureViolation) as caught, ax.guards("raise"):
            jax.block_until_ready(call(BAD))
        assert caught.value.row == 1
    with ax.guards("mask"):
        assert np.isnan(jax.jit(mapped)(BAD)).tolist() == [[False, False], [True, True]]
    np.testing.assert_array_equal(jax.jit(jax.grad(lambda x: mapped(x).sum()))(jnp.asarray(GOOD)), np.full((2, 2), 2.0))


def test_under_grad_and_second_derivatives():
    for change in (jax.grad, lambda f: jax.jit(jax.grad(f)), lambda f: jax.jit(jax.hessian(f))):
        derivative = change(lambda x: jnp.square(doubled(x)).sum())
        jax.block_until_ready(derivative(GOOD))
        with pytest.raises(COMPILED, match="y is small"):
            jax.block_until_ready(derivative(BAD))
    gradient = jax.jit(jax.grad(lambda x: doubled(x).sum()))  # which nothing but the guard needs the value for
    np.testing.assert_array_equal(gradient(GOOD), np.full((2, 2), 2.0))
    with pytest.raises(COMPILED, match="y is small"):
        jax.block_until_ready(gradient(BAD))
    curvature = jax.hessian(lambda x: jnp.square(doubled(x)).sum())(GOOD[:1])
    np.testing.assert_array_equal(curvature.ravel(), [8, 0, 0, 8])


def test_the_context_gives_the_violation_back_that_a_compiled_program_raised():
    with pytest.raises(ax.EnsureViolation) as caught, ax.guards("raise"):
        jax.block_until_ready(jax.jit(doubled)(BAD))
    assert (caught.value.row, caught.value.value) == (1, 14.0)


def test_policies():
    compiled = jax.jit(doubled)
    with ax.guards("off"):
        np.testing.assert_array_equal(doubled(BAD), 2 * BAD)
        np.testing.assert_array_equal(compiled(BAD), 2 * BAD)
    with ax.guards("mask"):
        for fn in (doubled, compiled):
            np.testing.assert_array_equal(fn(BAD), [[np.float32(0.2), np.float32(0.4)], [np.nan, np.nan]])
    with ax.guards("warn"):
        with pytest.warns(GuardWarning, match="y is small"):
            np.testing.assert_array_equal(doubled(BAD), 2 * BAD)
        with pytest.warns(GuardWarning, match="y is small"):
            jax.block_until_ready(compiled(BAD))
    with pytest.raises(ax.EnsureViolation):  # the policy before is back
        doubled(BAD)
    with pytest.raises(ax.AxiomError, match="no such policy"):
        ax.guards("ignore")  # pyright: ignore[reportArgumentType]


def test_nothing_effectful_is_on_the_path_where_conditions_hold():
    jaxpr = jax.make_jaxpr(doubled)(GOOD)
    assert not jaxpr.effects
    assert not jax.make_jaxpr(jax.vmap(doubled))(jnp.stack([GOOD, GOOD])).effects


def test_an_exported_artifact_masks_the_rows():
    with ax.guards("mask"):
        exported = jax.export.export(jax.jit(doubled))(jax.ShapeDtypeStruct((2, 2), jnp.float32))
    again = jax.export.deserialize(exported.serialize())
    np.testing.assert_array_equal(again.call(BAD), [[np.float32(0.2), np.float32(0.4)], [np.nan, np.nan]])


def test_an_onnx_file_masks_the_rows(tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime runs the file")

    @ax.axiom
    def checked(x: Float[Array, "batch 2"]) -> Float[Array, "batch 2"]:
        ax.ensure(ax.finite(x) & ax.bounded(x, -4, 4) & ~(x.sum(1) > 5), "sensible")
        return x + 1

    ax.to_onnx(checked, tmp_path / "checked.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "checked.onnx", providers=["CPUExecutionProvider"])
    x = np.float32([[1, 2], [np.inf, 0], [3, 3], [0, -5], [4, 1]])
    (y,) = session.run(None, {session.get_inputs()[0].name: x})
    np.testing.assert_array_equal(y, np.where([[True], [False], [False], [False], [True]], x + 1, np.nan))


def test_what_cannot_be_masked_is_not_exported_without_its_guard(tmp_path):
    @ax.axiom
    def chosen(x: Float[Array, "batch 2"]) -> Float[Array, " batch"]:
        def one(row):
            ax.ensure(row[0] > 0, "positive")
            return row.sum()

        return jax.vmap(one)(x)

    def label(x):
        ax.ensure(x > 0, "positive")
        return jnp.argmax(x, -1)

    for model in (chosen, ax.Sequential(label, input_shape=(2,))):
        with pytest.raises(ax.UnsupportedPrimitive, match="cannot mask"):
            ax.to_onnx(model, tmp_path / "model.onnx")
        assert not (tmp_path / "model.onnx").exists()
        with ax.guards("off"):
            ax.to_onnx(model, tmp_path / "model.onnx")
        (tmp_path / "model.onnx").unlink()
    with pytest.raises(ax.UnsupportedPrimitive), ax.guards("mask"):
        ax.Sequential(label, input_shape=(2,))(GOOD)


def test_a_compiled_handle_follows_the_policy():
    compiled = ax.compile(doubled, backend="xla", example=GOOD)
    with ax.guards("off"):
        np.testing.assert_array_equal(compiled(BAD), 2 * BAD)
    with pytest.raises(COMPILED, match="y is small"):
        jax.block_until_ready(compiled(BAD))


def test_a_block_is_for_its_thread_alone_and_leaves_nothing_behind():
    from axiom_jax._trace import guard_policy

    seen, inside, go = [], threading.Event(), threading.Event()

    def other():
        with ax.guards("mask"):
            inside.set()
            go.wait(10)
        seen.append(guard_policy.value)

    with ax.guards("off"):
        thread = threading.Thread(target=other)
        thread.start()
        inside.wait(10)
        assert guard_policy.value == "off"
    assert guard_policy.value == "raise"
    go.set()
    thread.join()
    assert seen == ["raise"] and guard_policy.value == "raise"


def test_threads_get_their_own_violations():
    compiled = jax.jit(doubled)
    rows: dict[int, set[int | None]] = {}

    def work(row: int) -> None:
        x = np.zeros((8, 2), np.float32)
        x[row] = 9
        for _ in range(20):
            with pytest.raises(ax.EnsureViolation) as caught, ax.guards("raise"):
                jax.block_until_ready(compiled(x))
            rows.setdefault(row, set()).add(caught.value.row)

    threads = [threading.Thread(target=work, args=(row,)) for row in (2, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert rows == {2: {2}, 5: {5}}


def test_a_program_for_proofs_holds_no_guard():
    from axiom_jax._program import build

    program, _ = build(doubled.apply, doubled.params, jax.ShapeDtypeStruct((2, 2), jnp.float32))
    assert {equation.name for equation in program.equations} == {"mul"}


def test_outside_of_a_model():
    ax.ensure(jnp.linalg.norm(jnp.ones(4)) < 100)
    with pytest.raises(ax.EnsureViolation) as caught:
        ax.ensure(jnp.linalg.norm(jnp.ones(4)) < 1, "small weights")
    assert caught.value.row is None

    @jax.jit
    def plain(x):
        ax.ensure(x > 0, "positive")
        return jnp.log(x)

    jax.block_until_ready(plain(jnp.ones(3)))
    with pytest.raises(COMPILED, match="positive"):
        jax.block_until_ready(plain(jnp.array([1.0, -1.0])))
        jax.effects_barrier()


def test_inside_of_scan_and_vmap_of_a_model():
    @ax.axiom
    def summed(x: Float[Array, "batch n"]) -> Float[Array, " batch"]:
        def one(row):
            ax.ensure(row.sum() < 1, "small sum")
            return row.sum()

        return jax.vmap(one)(x)

    np.testing.assert_allclose(jax.jit(summed)(GOOD), GOOD.sum(1))
    with pytest.raises(COMPILED, match="small sum"):
        jax.block_until_ready(jax.jit(summed)(BAD))
        jax.effects_barrier()


def test_layers_of_a_sequential_are_guarded_in_both_modes():
    def small(x):
        ax.ensure(ax.bounded(x, -1, 1), "small")
        return x

    model = ax.Sequential(nn.Dense(2, 2), nn.BatchNorm(2), small)
    y, moved = model.apply_train(GOOD, key=jax.random.key(0))
    assert y.shape == (2, 2)
    with pytest.raises(ax.EnsureViolation):
        model(100 * BAD)
    with ax.guards("mask"):
        _, moved = model.apply_train(100 * BAD, key=jax.random.key(0))
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(moved.params))


@pytest.mark.parametrize(("condition", "row"), [
    (lambda: ax.finite(jnp.array([[1.0, 2.0], [3.0, jnp.nan]])), 1),
    (lambda: ax.no_nan(jnp.array([[jnp.nan, 2.0], [3.0, jnp.inf]])), 0),
    (lambda: ax.no_inf(jnp.array([[jnp.nan, 2.0], [3.0, jnp.inf]])), 1),
    (lambda: ax.bounded(jnp.array([0.0, 0.5, 2.0]), 0, 1), 2),
    (lambda: ax.approx(jnp.array([1.0, 2.0]), jnp.array([1.0, 2.1])), 1),
    (lambda: ax.valid_probabilities(jnp.array([[0.5, 0.5], [0.6, 0.6]])), 1),
    (lambda: ax.valid_probabilities(jnp.array([[0.5, 0.5], [-0.5, 1.5]])), 1),
    (lambda: ax.normalized(jnp.array([[0.6, 0.8], [1.0, 1.0]])), 1),
    (lambda: ax.confidence(jnp.array([[0.6, 0.4], [0.5, 0.5]]), 0.55), 1),
    (lambda: ax.monotone_in(lambda x: x[:, :1] * x[:, 1:], jnp.array([[1.0, 1.0], [1.0, -1.0]]), 0), 1),
    (lambda: ax.gradient_bounded(lambda x: jnp.square(x).sum(1), jnp.array([[0.1, 0.1], [3.0, 4.0]]), 1.0), 1),
    (lambda: ax.shape_is(jnp.ones((2, 3)), "n", "n"), None),
])  # fmt: skip
def test_built_in_conditions(condition, row):
    with pytest.raises(ax.EnsureViolation) as caught:
        ax.ensure(condition())
    assert caught.value.row == row


def test_conditions_combine_and_are_arrays():
    x = jnp.array([[0.5], [2.0]])
    both = ax.finite(x) & ax.bounded(x, 0, 1)
    assert both.text == "finite and between 0 and 1" and jnp.asarray(both).tolist() == [True, False]
    assert bool(ax.finite(x) | ax.bounded(x, 0, 1)) and not bool(~ax.finite(x))
    assert jax.jit(lambda x: ax.bounded(x, 0, 1))(x).holds.tolist() == [True, False]


@pytest.mark.parametrize("wrong", [jnp.ones(3), "yes", 3])
def test_what_is_no_condition_is_refused(wrong):
    with pytest.raises(ax.AxiomError, match="boolean"):
        ax.ensure(wrong)


@given(st.lists(st.floats(-2, 2, width=32), min_size=1, max_size=6))
def test_a_guard_raises_exactly_where_numpy_says(values):
    x = np.float32(values)[:, None]
    broken = np.flatnonzero(np.abs(np.float32(2) * x[:, 0]) > 1)
    if len(broken):
        with pytest.raises(ax.EnsureViolation) as caught:
            doubled(x)
        assert caught.value.row == broken[0]
    else:
        doubled(x)
