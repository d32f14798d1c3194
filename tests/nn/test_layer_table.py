"""What holds of every layer: shapes for all batch sizes, fixes that work, gradients, bounds, training mode."""

import re
from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from layer_table import CASES, Case

from axiom_jax import nn
from axiom_jax._domain import missing
from axiom_jax._errors import ShapeError
from axiom_jax._model_train import trainable_leaves
from axiom_jax._program import build
from axiom_jax._shapes_annotations import symbols
from axiom_jax.model import Sequential
from axiom_jax.shapes import infer
from axiom_jax.verification.domains.interval import Interval, bounds, interval

KEY = jax.random.key(0)
# one case of each layer, where compiling takes most of the time
FIRST = [name for name in CASES if "," not in name]
QUICK = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
jit = partial(jax.jit, compiler_options=QUICK)  # each function runs once


@cache
def layer(name: str) -> Any:
    return CASES[name].make()


@cache
def params(name: str) -> Any:
    """Random parameters, with positive variances."""
    shapes, random = jax.eval_shape(layer(name).init, KEY), np.random.default_rng(len(name))
    def drawn(path: Any, spec: Any) -> np.ndarray:
        values = random.normal(size=spec.shape) * 0.7
        return (np.abs(values) + 0.2 if "'var'" in str(path) else values).astype(spec.dtype)

    return jax.tree.map_with_path(drawn, shapes)


def inputs(case: Case, batch: int, seed: int = 0) -> Any:
    random = np.random.default_rng(seed)
    if case.dtype == "int32":
        return random.integers(0, 5, (batch, *case.shapes[0])).astype(np.int32)
    arrays = tuple(random.normal(size=(batch, *shape)).astype(np.float32) for shape in case.shapes)
    return arrays[0] if len(arrays) == 1 else arrays


def specs(case: Case, shapes: Any, batch: Any) -> Any:
    found = tuple(jax.ShapeDtypeStruct((batch, *shape), case.dtype) for shape in shapes)
    return found[0] if len(found) == 1 else found


def test_every_public_layer_is_in_the_table() -> None:
    public = {name for name, (module, _) in nn.PLACES.items() if module.startswith("axiom_jax.nn.")}
    tested = {name.partition(",")[0] for name in CASES}
    objects = {id(getattr(nn, name)) for name in tested}
    assert {name for name in public if id(getattr(nn, name)) not in objects} == set()
    assert tested <= public


@pytest.mark.parametrize("name", CASES)
def test_shapes_are_proved_for_every_batch_size(name: str) -> None:
    case, batch = CASES[name], symbols(["batch"])["batch"]
    output = infer(layer(name).apply, jax.eval_shape(layer(name).init, KEY), specs(case, case.shapes, batch))
    for size in (1, 3):
        y = jax.eval_shape(layer(name).apply, params(name), specs(case, case.shapes, size))
        assert (size, *output.shape[1:]) == y.shape and output.dtype == y.dtype
    if len(case.shapes) == 1:
        model = Sequential(layer(name), input_shape=case.shapes[0])
        assert model.signature.outputs[0][1] == ("batch", *y.shape[1:])
        row = model.summary().rows[0]
        assert row.parameters == sum(leaf.size for leaf in jax.tree.leaves(params(name))) and row.flops >= 0


NAMES = {**{name: getattr(nn, name) for name in nn.__all__}, "jnp": jnp}
CODE = (r"make it (.+?)(?: \(\d.*= \d+\))?$", r"kernel: (.+)$", r"instead: (.+)$", r": (.+ >> .+)$",
        r"(\(lambda .*\)) before it$", r"add (\(lambda .*\)) before (.+)$")  # fmt: skip


def mended(fix: str) -> Any:
    """The layers that a fix proposes; None where it is no code."""
    found = next((match for match in (re.search(pattern, fix) for pattern in CODE) if match), None)
    if found is None:
        return None
    return [eval(part, NAMES) for group in found.groups() for part in re.split(r" >> ", group)]


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.wrong is not None])
def test_a_wrong_shape_is_refused_with_a_fix_that_works(name: str) -> None:
    case = CASES[name]
    shapes = case.wrong if isinstance(case.wrong[0], tuple) else (case.wrong,)
    x = specs(case, shapes, 8)
    if name.startswith("Parallel"):
        with pytest.raises(ShapeError) as caught:
            jax.eval_shape(layer(name).apply, params(name), x)
        assert caught.value.fix == "make it Dense(4, 2)"
        return
    wrong = layer(name).mismatch(x)
    assert wrong is not None and wrong.expected
    for one in mended(wrong.fix):  # each of them takes what the one before gives
        assert getattr(one, "mismatch", lambda x: None)(x) is None, wrong.fix
        x = jax.eval_shape(lambda x, one=one: one.apply(one.init(KEY), x) if hasattr(one, "init") else one(x), x)
    assert layer(name).mismatch(specs(case, case.shapes, 2)) is None


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.broken is not None])
def test_sides_that_do_not_fit_are_refused_with_a_fix_that_works(name: str) -> None:
    case = CASES[name]
    with pytest.raises(ShapeError) as caught:
        Sequential(case.broken(), input_shape=case.shapes[0])
    assert case.words in caught.value.fix and "layer_table.py:" in caught.value.at
    Sequential(case.mended(), input_shape=case.shapes[0])


@pytest.mark.sweep(3)
@pytest.mark.parametrize("name", FIRST)
def test_gradients_are_finite_differences(name: str) -> None:
    """Along one direction in parameters and input together."""
    case, x = CASES[name], inputs(CASES[name], 2)
    random = np.random.default_rng(1)
    at = (params(name), x if case.dtype == "float32" else ())
    way = jax.tree.map(lambda leaf: random.normal(size=np.shape(leaf)).astype(np.float32), at)
    out = jax.eval_shape(layer(name).apply, params(name), x)
    weight = random.normal(size=out.shape).astype(np.float32)

    def loss(at: Any) -> Any:
        return (weight * layer(name).apply(at[0], x if case.dtype != "float32" else at[1])).sum()

    @jit
    def both(at: Any) -> Any:
        step = lambda t: jax.tree.map(lambda a, d: a + t * d, at, way)
        slope = sum(map(jnp.vdot, jax.tree.leaves(jax.grad(loss)(at)), jax.tree.leaves(way)))
        # the fourth-order rule, so that the step can be large enough for float32
        values = jax.vmap(lambda t: loss(step(t * case.steep)))(jnp.array([-2.0, -1.0, 1.0, 2.0]))
        return slope, values @ jnp.array([1.0, -8.0, 8.0, -1.0]) / (12 * case.steep)

    slope, difference = both(at)
    np.testing.assert_allclose(slope, difference, rtol=0.02, atol=0.02)


@pytest.mark.sweep(3)
@pytest.mark.parametrize("name", FIRST)
def test_interval_bounds_contain_the_outputs(name: str) -> None:
    case = CASES[name]
    if case.dtype != "float32":
        return  # ids are no box
    centre = inputs(case, 1)
    leaves, structure = jax.tree.flatten(centre)
    apply = lambda params, *x: layer(name).apply(params, jax.tree.unflatten(structure, x))
    program, values = build(apply, params(name), *leaves)
    assert not missing(interval, program)
    radius = 0.2
    box = jit(lambda lo, hi: bounds(program, values, *map(Interval, lo, hi))[0])(
        [leaf - radius for leaf in leaves], [leaf + radius for leaf in leaves]
    )
    random = np.random.default_rng(2)
    many = [leaf + radius * np.clip(random.normal(size=(32, *leaf.shape)), -1, 1).astype(np.float32) for leaf in leaves]
    outputs = np.asarray(jit(jax.vmap(lambda *x: apply(params(name), *x)))(*many))
    slack = 1e-4 * (1 + np.abs(outputs).max())
    assert (outputs >= np.asarray(box.lo) - slack).all() and (outputs <= np.asarray(box.hi) + slack).all()
    assert not np.isnan(np.asarray(box.lo)).any() and not np.isnan(np.asarray(box.hi)).any()


@pytest.mark.parametrize("name", [name for name in CASES if hasattr(CASES[name].make(), "apply_train")])
def test_training_keeps_the_form_of_the_parameters(name: str) -> None:
    case = CASES[name]
    y, moved = jax.eval_shape(layer(name).apply_train, params(name), inputs(case, 2), KEY)
    assert y.shape == jax.eval_shape(layer(name).apply, params(name), inputs(case, 2)).shape
    assert jax.tree.structure(moved) == jax.tree.structure(params(name))
    of = lambda tree: [(leaf.shape, leaf.dtype) for leaf in jax.tree.leaves(tree)]
    assert of(moved) == of(params(name))
    assert jax.tree.structure(trainable_leaves(layer(name), params(name))) == jax.tree.structure(params(name))


@pytest.mark.parametrize("name", CASES)
def test_layers_are_equal_by_their_fields_and_written_as_code(name: str) -> None:
    first, second = CASES[name].make(), CASES[name].make()
    assert "layer_table.py:" in first.at
    if "Conditional" not in name and "Flow" not in name and "flipped" not in name:
        assert eval(repr(first), NAMES) == first
    assert first == second and hash(first) == hash(second)
