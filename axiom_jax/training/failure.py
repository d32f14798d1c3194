"""Which layer made the first number that is not finite: the failed step once more, a layer at a time."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from axiom_jax._model_chain import Chain, run_train
from axiom_jax._model_layers import text
from axiom_jax._program import build
from axiom_jax._shapes_text import shape_text
from axiom_jax.training.step import ModelLoss, Recipe, State, low, lowered, objective, trained, value_of


@dataclass(frozen=True)
class Cause:
    """What made it.

    Args:
        what: the end of a sentence, "0_Dense made it". layer: name of the layer, None where it was none.
        at: the user's line, where known. got: shapes and counts.
    """

    what: str
    layer: str | None = None
    at: str | None = None
    got: str | None = None


def locate(recipe: Recipe, state: State, inputs: Any, target: Any) -> Cause:
    """The first cause in the order of computation: data, parameters, forward, loss, gradients.

    Args:
        recipe, state: of the step that failed, the state as before it.
        inputs, target: its batch.
    """
    for name, tree in (("inputs", inputs), ("targets", target)):
        if not _finite(tree):
            return Cause(f"the batch has {name} that are not finite", got=_count(tree))
    for path, leaf in jax.tree.leaves_with_path(state.params):
        if not _finite(leaf):
            name = _path(path)
            return Cause(f"the parameter {name} was not finite before", name.split("/")[0], got=_count(leaf))
    own = trained(recipe, state.params)
    forward = _forward(recipe, state, inputs)
    if forward is not None:
        return forward
    loss = objective(recipe, state, inputs, target, own)[1][0]
    if not _finite(loss):
        return Cause("the loss made it from an output that is finite", got=f"a loss of {float(loss)}")
    return _backward(recipe, state, inputs, target) or _gradients(recipe, state, inputs, target)


def _steps(recipe: Recipe, state: State, inputs: Any) -> Iterator[tuple[str, Any, Any, Any, Any]]:
    """Name, layer, parameters, input and key of each layer of a chain, run in training mode as the step runs it."""
    chain = recipe.apply
    assert isinstance(chain, Chain)
    params = lowered(recipe, state.params)
    key = jax.random.fold_in(jax.random.wrap_key_data(state.key), state.step)
    (x,) = low(recipe, inputs)
    for i, (name, layer) in enumerate(zip(chain.names, chain.layers, strict=True)):
        own, drawn = params.get(name, {}), jax.random.fold_in(key, i)
        yield name, layer, own, x, drawn
        x, _ = run_train(layer, own, x, drawn)


def _forward(recipe: Recipe, state: State, inputs: Any) -> Cause | None:
    if not isinstance(recipe.apply, Chain):
        return _equations(recipe, state, inputs)
    for name, layer, own, x, key in _steps(recipe, state, inputs):
        y, _ = run_train(layer, own, x, key)
        if not _finite(y):
            got = f"input {shape_text(x)}, finite; output: {_count(y)}"
            return Cause(f"{name}, {text(layer)}, made it", name, getattr(layer, "at", None), got)
    return None


def _equations(recipe: Recipe, state: State, inputs: Any) -> Cause | None:
    """For models that are no chain of layers: the line of the first operation that makes it, in inference mode."""
    program, values = build(recipe.apply, lowered(recipe, state.params), *low(recipe, inputs))
    env = program.environment(values) | dict(zip(program.inputs, jax.tree.leaves(low(recipe, inputs)), strict=True))
    for eqn in program.equations:
        operands = [env[v] for v in eqn.inputs]
        results = eqn.evaluate(*operands)
        if not _finite(results) and _finite(operands):
            return Cause(f"the operation {eqn.name} made it", at=eqn.at or None, got=_count(results))
        env.update(zip(eqn.outputs, results, strict=True))
    return None


def _backward(recipe: Recipe, state: State, inputs: Any, target: Any) -> Cause | None:
    """The first layer, coming from the loss, whose gradients are not finite though those that enter it are."""
    if not isinstance(recipe.apply, Chain) or isinstance(recipe.loss, ModelLoss):
        return None
    steps = list(_steps(recipe, state, inputs))
    name, layer, own, x, key = steps[-1]
    output, _ = run_train(layer, own, x, key)

    def scaled(y: Any) -> Any:
        wide = jax.tree.map(lambda a: a.astype(jnp.float32), y)
        return value_of(recipe.loss, recipe.apply, state.params, inputs, target, wide, 0.0) * state.scale

    gradient = jax.grad(scaled)(output)
    if not _finite(gradient):
        return Cause("the gradient of the loss made it", got=_count(gradient))
    for name, layer, own, x, key in reversed(steps):
        f = lambda p, v, layer=layer, key=key: run_train(layer, p, v, key)[0]
        of_params, of_input = jax.vjp(f, own, x)[1](gradient)
        if not _finite((of_params, of_input)):
            got = f"gradient that enters: finite; gradients that leave: {_count((of_params, of_input))}"
            return Cause(f"the gradient of {name}, {text(layer)}, made it", name, getattr(layer, "at", None), got)
        gradient = of_input
    return None


def _gradients(recipe: Recipe, state: State, inputs: Any, target: Any) -> Cause:
    """Where layers cannot be taken apart: the last parameter, in the model's order, whose gradient is not finite."""
    own = trained(recipe, state.params)
    gradient = jax.grad(lambda some: objective(recipe, state, inputs, target, some)[0])(own)
    wrong = [_path(path) for path, leaf in jax.tree.leaves_with_path(gradient) if not _finite(leaf)]
    if not wrong:
        return Cause("it did not come again when the step was repeated without compilation")
    return Cause(f"the gradient of {wrong[-1]} has it", wrong[-1].split("/")[0], got=f"{len(wrong)} such gradients")


def _path(path: Any) -> str:
    return jax.tree_util.keystr(path, simple=True, separator="/")


def _floats(tree: Any) -> list[np.ndarray]:
    leaves = [leaf for leaf in jax.tree.leaves(tree) if jnp.issubdtype(jnp.result_type(leaf), jnp.inexact)]
    return [np.asarray(leaf, np.float64) if not np.iscomplexobj(leaf) else np.asarray(leaf) for leaf in leaves]


def _finite(tree: Any) -> bool:
    return all(np.isfinite(leaf).all() for leaf in _floats(tree))


def _count(tree: Any) -> str:
    """How many numbers are not finite, of how many."""
    arrays = _floats(tree)
    nan, inf = (sum(int(f(a).sum()) for a in arrays) for f in (np.isnan, np.isinf))
    return f"{nan} nan and {inf} inf in {sum(a.size for a in arrays):,} values"
