"""The one compiled step of training, and the one of evaluation.

Everything that shapes the computation is a `Recipe`, hashed by value: trainings with equal recipes share one
compilation, since weights, data and numbers of epochs are arguments. In a careful step a loss or gradient that is
not finite changes nothing but the note that it failed; a quick one is spared the passes over memory that this takes.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
import optax

from axiom_jax._errors import AxiomError
from axiom_jax._model_train import apply_train
from axiom_jax.training.optimizers import Schedule

COMPUTE = {"float32": jnp.float32, "bfloat16": jnp.bfloat16, "float16": jnp.float16, "mixed": jnp.float16}
SCALED = ("float16", "mixed")  # whose gradients would underflow without a scale
FIRST_SCALE, LARGEST_SCALE, GROWTH = 2.0**15, 2.0**24, 2000  # the scale doubles after so many steps without overflow
MOVES = ("trained", "moved", "kept")  # by the optimizer; by the model, as running statistics are; not at all


@runtime_checkable
class ModelLoss(Protocol):
    """A loss or metric that needs the model itself, not its output alone."""

    def of_model(self, apply: Any, params: Any, inputs: Any, target: Any, output: Any, progress: Any) -> Any:
        """The mean over a batch.

        Args:
            apply: in inference mode, `apply(params, *inputs) -> output`.
            params: in float32, also where the model computes in less.
            inputs: a tuple. target: of the batch.
            output: of the model in the mode it is in.
            progress: the share of the training that is done, from 0 to 1; 1 in evaluation.
        """
        ...


@dataclass(frozen=True)
class Recipe:
    """What a step does; static.

    Args:
        apply: of the model. loss: a function of output and target, or a `ModelLoss`.
        metrics: names and functions. optimizer: with clipping and accumulation.
        rate, schedule: the optimizer's rate and what becomes of it; None without a schedule.
        accumulate: steps that make an update.
        moves: for each parameter leaf one of `MOVES`. precision: a key of `COMPUTE`.
    """

    apply: Callable[..., Any]
    loss: Any
    metrics: tuple[tuple[str, Any], ...]
    optimizer: optax.GradientTransformationExtraArgs
    rate: float | None
    schedule: Schedule | None
    accumulate: int
    moves: tuple[str, ...]
    precision: str


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class State:
    """What a training run is at a moment: all that a checkpoint has to keep, on the device.

    Args:
        params: of the model. memory: of the optimizer.
        key: random key data of the run; each step folds its number in.
        step: steps done. epoch: the one that runs. total: steps of the whole run, infinite where not known.
        sums: over this epoch, of loss and metrics times examples, and of examples.
        failed: the step that was not finite, or -1.
        scale, good, skipped: of loss scaling: the scale, steps since it changed, and steps left out so far.
    """

    params: Any
    memory: Any
    key: Any
    step: Any
    epoch: Any
    total: Any
    sums: dict[str, Any]
    failed: Any
    scale: Any
    good: Any
    skipped: Any


def start(recipe: Recipe, params: Any, seed: int, total: float) -> State:
    """The state before the first step; parameters are copied, since steps give their memory away."""
    whole = lambda n: jnp.asarray(n, jnp.int32)
    scale = FIRST_SCALE if recipe.precision in SCALED else 1.0
    key = jax.random.key_data(jax.random.key(seed))
    params = jax.tree.map(lambda leaf: jnp.array(leaf, copy=True), params)
    return State(
        params, _remembering(recipe)(params), key, whole(0), whole(0), jnp.float32(total), zeros(recipe), whole(-1),
        jnp.float32(scale), whole(0), whole(0),
    )  # fmt: skip


@lru_cache(maxsize=64)
def _remembering(recipe: Recipe) -> Callable[[Any], Any]:
    return jax.jit(lambda params: recipe.optimizer.init(trained(recipe, params)))


@jax.jit
def copied(state: State) -> State:
    """The same state in memory of its own, which no step takes over."""
    return jax.tree.map(jnp.copy, state)


def zeros(recipe: Recipe) -> dict[str, Any]:
    """Sums at the start of an epoch."""
    counted = [name for name, metric in recipe.metrics if not isinstance(metric, ModelLoss)]
    return {name: jnp.float32(0) for name in ("loss", "examples", *counted)}


def trained(recipe: Recipe, params: Any) -> Any:
    """The parameters with None for those that the optimizer does not move."""
    leaves, structure = jax.tree.flatten(params)
    return structure.unflatten([p if m == "trained" else None for p, m in zip(leaves, recipe.moves, strict=True)])


def with_trained(recipe: Recipe, params: Any, some: Any) -> Any:
    """The parameters with those that are trained taken from `some`."""
    leaves, structure = jax.tree.flatten(params)
    new = iter(jax.tree.leaves(some))
    return structure.unflatten([next(new) if m == "trained" else p for p, m in zip(leaves, recipe.moves, strict=True)])


@lru_cache(maxsize=64)
def compiled(recipe: Recipe, careful: bool) -> Callable[[State, Any], State]:
    """The step `(state, (inputs, target)) -> state`, which takes the state's memory over."""
    return jax.jit(partial(_step, recipe, careful), donate_argnums=0)


@lru_cache(maxsize=64)
def measured(recipe: Recipe) -> Callable[[Any, Any, Any], Any]:
    """`(params, (inputs, target), sums) -> sums` in inference mode and float32, for validation."""
    return jax.jit(partial(_measure, recipe))


def _step(recipe: Recipe, careful: bool, state: State, batch: Any) -> State:
    inputs, target = batch
    own = trained(recipe, state.params)
    compute = jax.value_and_grad(partial(objective, recipe, state, inputs, target), has_aux=True)
    (_, (loss, metrics, moved)), gradient = compute(own)
    if recipe.precision in SCALED:
        gradient = jax.tree.map(lambda g: g / state.scale, gradient)
    value_fn = lambda some: objective(recipe, state, inputs, target, some)[1][0]
    updates, memory = recipe.optimizer.update(gradient, state.memory, own, value=loss, grad=gradient, value_fn=value_fn)
    if recipe.schedule is not None:
        assert recipe.rate is not None  # `scheduled` saw to it
        rate = recipe.schedule(recipe.rate, state.step // recipe.accumulate, state.epoch)
        updates = jax.tree.map(lambda u: (u * (rate / recipe.rate)).astype(u.dtype), updates)
    params = with_trained(recipe, _statistics(recipe, state.params, moved), optax.apply_updates(own, updates))
    examples = jnp.float32(jax.tree.leaves(inputs)[0].shape[0])
    seen = {"loss": loss, **metrics}
    sums = {name: total + examples * seen.get(name, 1.0) for name, total in state.sums.items()}
    after = replace(state, params=params, memory=memory, sums=sums, step=state.step + 1)
    return _judged(recipe, state, after, all_finite((loss, gradient, params))) if careful else after


def _judged(recipe: Recipe, before: State, after: State, finite: Any) -> State:
    """The state after a step if all was finite, else the one before: with a note, or with a smaller scale."""
    running = before.failed < 0
    take = running & finite
    kept = jax.tree.map(partial(jnp.where, take), after, before)
    if recipe.precision not in SCALED:
        return replace(kept, failed=jnp.where(running & ~finite, before.step, before.failed))
    skip = running & ~finite & (before.scale > 1)  # an overflow by the scale alone, or that may be so
    good = jnp.where(take, before.good + 1, jnp.where(skip, 0, before.good))
    grow = good >= GROWTH
    larger = jnp.where(grow, jnp.minimum(before.scale * 2, LARGEST_SCALE), before.scale)
    return replace(
        kept,
        step=before.step + jnp.where(take | skip, 1, 0),
        failed=jnp.where(running & ~finite & ~skip, before.step, before.failed),
        scale=jnp.where(skip, jnp.maximum(before.scale / 2, 1), larger),
        good=jnp.where(grow, 0, good),
        skipped=before.skipped + jnp.where(skip, 1, 0),
    )


def objective(recipe: Recipe, state: State, inputs: Any, target: Any, some: Any) -> tuple[Any, Any]:
    """The scaled loss of the trained parameters; and the loss, the metrics, and the parameters as they moved."""
    params = with_trained(recipe, state.params, some)
    key = jax.random.fold_in(jax.random.wrap_key_data(state.key), state.step)
    output, moved = apply_train(recipe.apply, lowered(recipe, params), *low(recipe, inputs), key=key)
    output = _float32(output) if recipe.precision != "float32" else output
    progress = jnp.minimum(state.step / state.total, 1)
    value = lambda f: value_of(f, recipe.apply, params, inputs, target, output, progress)
    loss = value(recipe.loss)
    metrics = {name: value(f) for name, f in recipe.metrics if not isinstance(f, ModelLoss)}
    return loss * state.scale, (loss, metrics, moved)


def value_of(f: Any, apply: Any, params: Any, inputs: Any, target: Any, output: Any, progress: Any) -> Any:
    """A loss or metric as a float32 scalar.

    Raises:
        AxiomError: it is none.
    """
    of_model = isinstance(f, ModelLoss)
    value = f.of_model(apply, params, inputs, target, output, progress) if of_model else f(output, target)
    if jnp.shape(value) != ():
        name = getattr(f, "__name__", type(f).__name__)
        raise AxiomError(f"{name} must give one number for a batch.", got=f"an array of shape {jnp.shape(value)}",
                         fix="return its mean: value.mean()")  # fmt: skip
    return jnp.asarray(value, jnp.float32)


def lowered(recipe: Recipe, params: Any) -> Any:
    """Parameters in the precision of the computation; running statistics stay, since they move by little."""
    leaves, structure = jax.tree.flatten(params)
    pairs = zip(leaves, recipe.moves, strict=True)
    return structure.unflatten([p if m == "moved" else low(recipe, p) for p, m in pairs])


def low(recipe: Recipe, tree: Any) -> Any:
    """float32 arrays in the precision of the computation; others as they are."""
    to = COMPUTE[recipe.precision]
    if to == jnp.float32:
        return tree
    return jax.tree.map(lambda a: jnp.asarray(a, to) if jnp.result_type(a) == jnp.float32 else a, tree)


def _float32(tree: Any) -> Any:
    small = (jnp.bfloat16, jnp.float16)
    return jax.tree.map(lambda a: a.astype(jnp.float32) if a.dtype in small else a, tree)


def _statistics(recipe: Recipe, old: Any, moved: Any) -> Any:
    """Running statistics as the model moved them, in their own dtypes; the rest as it was."""
    leaves, structure = jax.tree.flatten(old)
    rows = zip(leaves, structure.flatten_up_to(moved), recipe.moves, strict=True)
    return structure.unflatten([jnp.asarray(n, jnp.result_type(o)) if m == "moved" else o for o, n, m in rows])


@jax.jit
def all_finite(tree: Any) -> Any:
    """Whether every number of a tree is finite."""
    floats = [leaf for leaf in jax.tree.leaves(tree) if jnp.issubdtype(leaf.dtype, jnp.inexact)]
    return jnp.stack([jnp.isfinite(leaf).all() for leaf in floats] or [jnp.asarray(True)]).all()


def _measure(recipe: Recipe, params: Any, batch: Any, sums: Any) -> Any:
    inputs, target = batch
    output = recipe.apply(params, *inputs)
    examples = np.float32(jax.tree.leaves(inputs)[0].shape[0])
    values = {"loss": recipe.loss, **dict(recipe.metrics)}
    add = {name: value_of(f, recipe.apply, params, inputs, target, output, 1.0) for name, f in values.items()}
    return {name: sums[name] + examples * add.get(name, 1.0) for name in (*add, "examples")}
