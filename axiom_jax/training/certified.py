"""Certified training: losses that bound the worst case over a whole box around every example.

What they bound is what the verifier bounds, so a model learns to be provable. Bounds are float32, rounded to
nearest: good for training and for estimates, never a proof. Proofs are made afterwards, by `verification`.
Source: Gowal et al. 2018, On the effectiveness of interval bound propagation, arXiv 1810.12715; Zhang et al. 2020,
Towards stable and efficient training of verifiably robust neural networks, arXiv 1906.06316.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import jax
import jax.numpy as jnp
import optax

from axiom_jax._errors import AxiomError
from axiom_jax._program import build
from axiom_jax._shapes_places import caller
from axiom_jax._shapes_text import shape_text
from axiom_jax.model import Model
from axiom_jax.training import losses
from axiom_jax.training.data import DataLoader
from axiom_jax.training.loop import train
from axiom_jax.training.optimizers import Adam, CosineAnnealingLR
from axiom_jax.verification.domains.interval import Interval, bounds
from axiom_jax.verification.domains.linear import backward, enclose, environment, plan

Apply = Callable[[Any, Any], Any]
Progress = Callable[[int, float], None]  # epochs done, loss
Method = Literal["ibp", "crown-ibp", "crown"]
WITHIN = (0.0, 1.0)


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


def margins(apply: Apply, params: Any, region: Interval, labels: Any, method: Method = "ibp") -> Any:
    """Lower bounds, over boxes of inputs, of how far the label's logit lies above each other one.

    Args:
        apply: `apply(params, x) -> logits`, (batch, classes).
        region: boxes, (batch, *input).
        labels: (batch,) integers.
        method: "ibp", intervals alone; "crown-ibp", one backward pass of linear bounds over intervals; "crown",
            backward passes for every hidden value too, and what intervals give where that is better.

    Returns:
        (batch, classes); 0 for the label itself.

    Raises:
        UnsupportedPrimitive: the model uses an operation that the method has no rule for.

    >>> box = Interval(jnp.zeros((1, 2)), jnp.ones((1, 2)))
    >>> margins(lambda w, x: w * x, jnp.array([1.0, 2.0]), box, jnp.array([1]), "crown").tolist()
    [[-1.0, 0.0]]
    """
    if method == "crown-ibp":
        return _linear(apply, params, region, labels, tight=False)
    worst = worst_logits(apply, params, region, labels)
    by_intervals = jnp.take_along_axis(worst, labels[:, None], 1) - worst
    if method == "ibp":
        return by_intervals
    return jnp.maximum(by_intervals, _linear(apply, params, region, labels, tight=True))


def _linear(apply: Apply, params: Any, region: Interval, labels: Any, tight: bool) -> Any:
    """Margins by one backward pass from all of them at once, so that the last layer loses nothing."""
    example = jax.ShapeDtypeStruct((1, *region.lo.shape[1:]), region.lo.dtype)
    program, values = build(apply, params, example)
    planned = plan(program)
    output = planned.program.outputs[0]

    known = environment(planned, values)

    def below(lo: Any, hi: Any, label: Any) -> Any:
        inputs = {planned.program.inputs[0]: Interval(lo[None], hi[None])}
        boxes, lines = enclose(planned, known, inputs, tighten=tight)
        rows = jax.nn.one_hot(label, output.size)[None] - jnp.eye(output.size)
        start = {output: rows.reshape(output.size, *output.shape)}
        return backward(planned, known, boxes, lines, start, len(planned.varying)).value

    return jax.vmap(below)(region.lo, region.hi, labels)


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

    def moved(self, time: Any) -> Any:
        """How far they have moved at a time in [0, 1], from 0 to 1."""
        return jnp.clip((time - self.begin) / max(self.end - self.begin, 1e-9), 0.0, 1.0)

    def at(self, time: Any) -> tuple[Any, Any]:
        """ε and κ at a time in [0, 1].

        >>> [float(v) for v in Schedule(0.2, kappa=0.5, begin=0.0, end=1.0).at(0.5)]
        [0.10000000149011612, 0.75]
        """
        moved = self.moved(time)
        return self.eps * moved, 1 + (self.kappa - 1) * moved


@dataclass(frozen=True)
class CertifiedLoss:
    """κ · cross entropy + (1 − κ) · cross entropy of the worst margins within ε: made by `ibp_loss`, `crown_ibp_loss`.

    Args:
        schedule: of ε and κ.
        beta: share of the linear bounds in the margins at the start and at the end of the schedule; the rest is
            that of intervals.
        within: the box that inputs live in; regions are cut to it.
    """

    schedule: Schedule
    beta: tuple[float, float] = (0.0, 0.0)
    within: tuple[float, float] = WITHIN

    def of_model(self, apply: Any, params: Any, inputs: Any, target: Any, output: Any, progress: Any) -> Any:
        """The loss of a batch; what `ax.train` calls (`ModelLoss`)."""
        x, labels = _classified(inputs, target, output)
        eps, kappa = self.schedule.at(progress)
        region = Interval(jnp.clip(x - eps, *self.within), jnp.clip(x + eps, *self.within))
        if not any(self.beta):
            worst = margins(apply, params, region, labels)
        elif self.beta == (1.0, 1.0):
            worst = margins(apply, params, region, labels, "crown-ibp")
        else:
            beta = self.beta[0] + (self.beta[1] - self.beta[0]) * self.schedule.moved(progress)
            linear = margins(apply, params, region, labels, "crown-ibp")
            worst = beta * linear + (1 - beta) * margins(apply, params, region, labels)
        mean = lambda logits: optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()
        return kappa * mean(output) + (1 - kappa) * mean(-worst)


def ibp_loss(
    eps: float = 0.1,
    kappa: float = 0.5,
    begin: float = 0.1,
    end: float = 0.6,
    within: tuple[float, float] = WITHIN,
) -> CertifiedLoss:
    """The loss of certified training by intervals, for `ax.train(model, data, loss=ax.ibp_loss(eps=0.1))`.

    Args:
        eps: radius in L∞, in the units of the inputs, reached at the end of the schedule. A little more than what
            is to be certified helps on new data.
        kappa: weight of the plain loss at the end, in [0, 1].
        begin, end: fractions of the training between which ε and κ move linearly from 0 and 1.
        within: the box that inputs live in.

    Raises:
        AxiomError: the settings contradict each other.

    Source: Gowal et al. 2018, arXiv 1810.12715.

    >>> ibp_loss(eps=0.1).schedule.at(1.0)[0].item() == jnp.float32(0.1)
    Array(True, dtype=bool)
    """
    return CertifiedLoss(_schedule(eps, kappa, begin, end, within), within=within)


def crown_ibp_loss(
    eps: float = 0.1,
    kappa: float = 0.5,
    beta: tuple[float, float] = (1.0, 0.0),
    begin: float = 0.1,
    end: float = 0.6,
    within: tuple[float, float] = WITHIN,
) -> CertifiedLoss:
    """The loss of CROWN-IBP: margins by linear bounds over intervals at first, by intervals later.

    Args:
        eps, kappa, begin, end, within: as in `ibp_loss`.
        beta: share of the linear bounds at the start and at the end of the schedule, in [0, 1]: (1, 1) keeps them.

    Source: Zhang et al. 2020, arXiv 1906.06316.

    >>> crown_ibp_loss(eps=0.1).beta
    (1.0, 0.0)
    """
    first, last = beta
    if not 0 <= min(first, last) <= max(first, last) <= 1:
        raise AxiomError("The share β of linear bounds lies in [0, 1].", at=caller(), got=f"beta={beta}",
                         fix="crown_ibp_loss(beta=(1.0, 0.0))")  # fmt: skip
    return CertifiedLoss(_schedule(eps, kappa, begin, end, within), (float(first), float(last)), within)


def _schedule(eps: float, kappa: float, begin: float, end: float, within: tuple[float, float]) -> Schedule:
    if eps < 0 or not 0 <= kappa <= 1 or not 0 <= begin <= end <= 1 or not within[0] < within[1]:
        raise AxiomError(
            "These settings make no certified loss.", at=caller(),
            got=f"eps={eps}, kappa={kappa}, begin={begin}, end={end}, within={within}",
            fix="eps >= 0, kappa in [0, 1], 0 <= begin <= end <= 1, within=(least, greatest)",
        )  # fmt: skip
    return Schedule(float(eps), float(kappa), float(begin), float(end))


@dataclass(frozen=True)
class CertifiedAccuracy:
    """A metric: made by `certified_accuracy`."""

    eps: float
    within: tuple[float, float]
    method: Method
    name: str = "certified_accuracy"

    def of_model(self, apply: Any, params: Any, inputs: Any, target: Any, output: Any, progress: Any) -> Any:
        """The share of a batch; what `ax.train` calls (`ModelLoss`)."""
        x, labels = _classified(inputs, target, output)
        region = Interval(jnp.clip(x - self.eps, *self.within), jnp.clip(x + self.eps, *self.within))
        least = margins(apply, params, region, labels, self.method)
        own = jax.nn.one_hot(labels, least.shape[1], dtype=bool)
        return (own | (least > 0)).all(1).mean()


def certified_accuracy(
    eps: float, within: tuple[float, float] = WITHIN, method: Method = "crown", name: str = "certified_accuracy"
) -> CertifiedAccuracy:
    """The share of examples whose class bounds show to be right in all of a box; a metric for `ax.train`.

    It is measured on validation data, by float32 bounds rounded to nearest: an estimate, not a proof.

    Args:
        eps: radius in L∞, in the units of the inputs.
        within: the box that inputs live in.
        method: "ibp", "crown-ibp" or "crown", from fast to tight: see `margins`.
        name: in the history.

    >>> certified_accuracy(eps=0.1).method
    'crown'
    """
    if method not in ("ibp", "crown-ibp", "crown") or eps < 0:
        raise AxiomError("There is no such certified accuracy.", at=caller(), got=f"eps={eps}, method={method!r}",
                         fix='eps >= 0 and method "ibp", "crown-ibp" or "crown"')  # fmt: skip
    return CertifiedAccuracy(float(eps), within, method, name)


def _classified(inputs: Any, target: Any, output: Any) -> tuple[Any, Any]:
    """The one input, and labels as integers."""
    if len(inputs) != 1 or getattr(output, "ndim", 0) != 2 or target is None:
        raise AxiomError(
            "Certified losses and metrics are for classifiers of one input.", at=caller(),
            got=f"{len(inputs)} inputs, output {shape_text(output)}", fix="let the model give logits (batch, classes)",
        )  # fmt: skip
    return inputs[0], target if losses.is_labels(target, output) else target.argmax(-1)


def train_certified(
    model: Model,
    x: Any,
    labels: Any,
    schedule: Schedule,
    *,
    epochs: int = 80,
    batch: int = 50,
    rate: float = 0.01,
    within: tuple[float, float] = WITHIN,
    seed: int = 0,
    progress: Progress | None = None,
) -> Model:
    """Train a classifier to be robust provably: `ax.train` with `ibp_loss`, as a recipe.

    Args:
        model: takes (batch, *input), gives logits (batch, classes); it is left as it is.
        x: (examples, *input). labels: (examples,) integers.
        schedule: of ε and κ over the whole training.
        batch: examples a step; those that do not fill a last batch are left out of an epoch.
        rate: of Adam at the start; it falls to 0 along half a cosine.
        within: the box that inputs live in.
        seed: of the order of examples.
        progress: called after each epoch with its number, from 1, and the loss of the epoch.

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
    loader = DataLoader((x, labels), batch, shuffle=True, seed=seed, drop_last=True)
    told = () if progress is None else (lambda event: progress(event.epoch, event.metrics["loss"]),)
    result = train(
        model, loader, Adam(rate), loss=CertifiedLoss(schedule, within=within), epochs=epochs, clip=10.0, seed=seed,
        schedule=CosineAnnealingLR(max(epochs * len(loader), 1), per="step"), callbacks=told, progress=False,
    )  # fmt: skip
    return result.model
