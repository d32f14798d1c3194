"""Certified training: a loss that bounds the worst case around every example, and a loop that minimises it.

What it bounds is the loss over a whole box of inputs, by intervals, so that a model learns to be provable.
Its bounds are float32 and prove nothing: proofs are made afterwards, by `verification`.
Source: Gowal et al. 2018, On the effectiveness of interval bound propagation, arXiv 1810.12715.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from axiom_jax._errors import AxiomError
from axiom_jax._program import build
from axiom_jax.model import Model
from axiom_jax.verification.domains.interval import Interval, bounds

Apply = Callable[[Any, Any], Any]
Progress = Callable[[int, float], None]  # epochs done, loss


def worst_logits(apply: Apply, params: Any, region: Interval, labels: Any) -> Any:
    """The logits that hurt most among all that intervals allow: least for the label, greatest for the others.

    Args:
        apply: `apply(params, x) -> logits`, (batch, classes).
        region: boxes of inputs, (batch, *input).
        labels: (batch,) integers.

    Returns:
        (batch, classes) logits.

    >>> box = Interval(jnp.zeros((1, 2)), jnp.ones((1, 2)))
    >>> worst_logits(lambda w, x: w * x, jnp.array([1.0, 2.0]), box, jnp.array([1])).tolist()
    [[1.0, 0.0]]
    """
    program, values = build(apply, params, jax.ShapeDtypeStruct(region.lo.shape, region.lo.dtype))
    (logits,) = bounds(program, values, region)
    is_label = jax.nn.one_hot(labels, logits.shape[-1], dtype=bool)
    return jnp.where(is_label, logits.lo, logits.hi)


def certified_loss(
    apply: Apply, params: Any, x: Any, labels: Any, eps: Any, kappa: Any, within: tuple[float, float] = (0.0, 1.0)
) -> Any:
    """`κ · cross entropy + (1 − κ) · cross entropy of the worst logits within eps`, averaged over a batch.

    Args:
        apply: `apply(params, x) -> logits`, (batch, classes).
        x: (batch, *input). labels: (batch,) integers.
        eps: radius in L∞, in the units of `x`. kappa: weight of the plain loss, in [0, 1].
        within: the box that inputs live in; regions are cut to it.

    Returns:
        A scalar, never below the plain loss; equal to it at eps = 0 for inputs in `within`, up to rounding.
    """
    mean = lambda logits: optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()
    region = Interval(jnp.clip(x - eps, *within), jnp.clip(x + eps, *within))
    return kappa * mean(apply(params, x)) + (1 - kappa) * mean(worst_logits(apply, params, region, labels))


@dataclass(frozen=True)
class Schedule:
    """How ε and κ move: at first the plain loss, then both linearly to their ends, which are held.

    Args:
        eps: radius at the end. kappa: weight of the plain loss at the end.
        begin, end: when they move, as fractions of the training.
    """

    eps: float
    kappa: float = 0.5
    begin: float = 0.1
    end: float = 0.6

    def at(self, time: Any) -> tuple[Any, Any]:
        """ε and κ at a time in [0, 1].

        >>> [float(v) for v in Schedule(0.2, kappa=0.5, begin=0.0, end=1.0).at(0.5)]
        [0.10000000149011612, 0.75]
        """
        moved = jnp.clip((time - self.begin) / max(self.end - self.begin, 1e-9), 0.0, 1.0)
        return self.eps * moved, 1 + (self.kappa - 1) * moved


def train_certified(
    model: Model,
    x: Any,
    labels: Any,
    schedule: Schedule,
    *,
    epochs: int = 80,
    batch: int = 50,
    rate: float = 0.01,
    within: tuple[float, float] = (0.0, 1.0),
    seed: int = 0,
    progress: Progress | None = None,
) -> Model:
    """Train a classifier to be robust provably.

    Args:
        model: takes (batch, *input), gives logits (batch, classes); it is left as it is.
        x: (examples, *input). labels: (examples,) integers.
        schedule: of ε and κ over the whole training.
        batch: examples a step; those that do not fill a last batch are left out of an epoch.
        rate: of Adam at the start; it falls to 0 along half a cosine.
        within: the box that inputs live in.
        seed: of the order of examples.
        progress: called after each epoch with its number, from 1, and the loss of its last batch.

    Returns:
        The model with trained parameters.

    Raises:
        AxiomError: there are fewer examples than one batch, or not one label an example.
        UnsupportedPrimitive: the model uses an operation that intervals have no rule for.
    """
    if len(x) < batch or len(x) != len(labels):
        raise AxiomError(
            "The examples do not make a batch.", got=f"{len(x)} examples, {len(labels)} labels, batches of {batch}",
            fix="give as many labels as examples, and at least one batch of them",
        )  # fmt: skip
    x, labels = jnp.asarray(x), jnp.asarray(labels)
    steps = len(x) // batch
    optimiser = _optimiser(rate, max(epochs * steps, 1))
    params = jax.tree.map(jnp.copy, model.params)  # the step gives its arguments away, the model keeps its own
    state = params, optimiser.init(params)
    order = np.random.default_rng(seed)
    for epoch in range(epochs):
        loss: Any = 0.0
        batches = order.permutation(len(x))[: steps * batch].reshape(steps, batch)
        for i, rows in enumerate(batches):
            time = np.float32((epoch * steps + i) / (epochs * steps))
            state, loss = _step(model.apply, optimiser, schedule, within, state, x[rows], labels[rows], time)
        if progress:
            progress(epoch + 1, float(loss))
    return replace(model, params=state[0])


@lru_cache(maxsize=16)
def _optimiser(rate: float, steps: int) -> optax.GradientTransformation:
    """Kept, so that equal trainings share one compilation: optimisers are compared by identity."""
    return optax.chain(optax.clip_by_global_norm(10.0), optax.adam(optax.cosine_decay_schedule(rate, steps)))


@partial(jax.jit, static_argnums=(0, 1, 2, 3), donate_argnums=4)
def _step(
    apply: Apply,
    optimiser: optax.GradientTransformation,
    schedule: Schedule,
    within: tuple[float, float],
    state: Any,
    x: Any,
    labels: Any,
    time: Any,
) -> tuple[Any, Any]:
    """One step of the optimiser, and the loss before it."""
    params, memory = state
    eps, kappa = schedule.at(time)
    loss, gradient = jax.value_and_grad(lambda p: certified_loss(apply, p, x, labels, eps, kappa, within))(params)
    updates, memory = optimiser.update(gradient, memory, params)
    return (optax.apply_updates(params, updates), memory), loss
