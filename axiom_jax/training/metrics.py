"""What training reports beside the loss: functions of a batch of outputs and its targets that give the mean."""

from collections.abc import Iterable
from typing import Any

import jax.numpy as jnp

from axiom_jax._errors import AxiomError
from axiom_jax._shapes_places import caller
from axiom_jax.training import losses


def accuracy_of_probabilities(output: Any, target: Any) -> Any:
    """`accuracy` of what a sigmoid gave: `ax.train` takes it for models that end in one.

    >>> float(accuracy_of_probabilities(jnp.array([0.4, 0.9]), jnp.array([0, 1])))
    1.0
    """
    return accuracy(output - 0.5, target)


def accuracy(output: Any, target: Any) -> Any:
    """The share of examples whose greatest output is the label's; with one output, whose sign is right.

    Args:
        output: (..., classes) logits or probabilities; or logits of the shape of the target, or with one more axis
            of size 1.
        target: integers (...), or one-hot rows (..., classes); 0 and 1 for a single output.

    >>> float(accuracy(jnp.array([[0.1, 0.9], [0.8, 0.2]]), jnp.array([1, 1])))
    0.5
    """
    if output.ndim and output.shape[-1] == 1 and target.ndim == output.ndim - 1:
        output = output[..., 0]
    if losses.is_labels(target, output):
        return jnp.mean(output.argmax(-1) == target)
    if output.ndim > 1 and output.shape == target.shape and output.shape[-1] > 1:
        return jnp.mean(output.argmax(-1) == target.argmax(-1))
    return jnp.mean((output > 0) == (losses._same(target, output) > 0.5))


def named(metrics: Iterable[Any]) -> tuple[tuple[str, Any], ...]:
    """Metrics with the names they have in a history.

    Args:
        metrics: "accuracy" or the name of a loss; functions of output and target, which go by their names; or
            `ModelLoss` objects with a `name`.

    Raises:
        AxiomError: a name is unknown or comes twice.

    >>> [name for name, _ in named(["accuracy", "mae"])]
    ['accuracy', 'mae']
    """
    given = [metrics] if isinstance(metrics, str) or callable(metrics) or hasattr(metrics, "of_model") else metrics
    found = []
    for metric in given:
        if isinstance(metric, str):
            found.append((metric, accuracy if metric == "accuracy" else losses.named(metric)))
        elif callable(metric) or hasattr(metric, "of_model"):
            name = getattr(metric, "name", None) or getattr(metric, "__name__", type(metric).__name__)
            found.append((name, metric))
        else:
            raise AxiomError("This is no metric.", at=caller(), got=f"a {type(metric).__name__}",
                             fix='give "accuracy", or a function metric(output, target)')  # fmt: skip
    names = [name for name, _ in found]
    taken = {"loss", "examples", "epoch", "step", "rate", "seconds", "skipped"}
    if wrong := sorted({name for name in names if names.count(name) > 1 or name in taken}):
        raise AxiomError("Every metric needs a name of its own.", at=caller(), got=f"names {', '.join(wrong)}",
                         fix="give certified_accuracy(..., name=...), or functions with other names")  # fmt: skip
    return tuple(found)
