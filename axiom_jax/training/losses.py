"""What training minimises: functions of a batch of outputs and its targets that give one number, the mean.

All are differentiable and run in the dtype of their arguments. A custom loss is any such function. Most are optax's.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from axiom_jax._errors import AxiomError, ShapeError
from axiom_jax._shapes_places import caller
from axiom_jax._shapes_text import shape_text

Loss = Callable[[Any, Any], Any]


def mse(output: Any, target: Any) -> Any:
    """Mean of squared differences.

    Args:
        output, target: of one shape.

    Raises:
        ShapeError: the shapes differ; they are not broadcast, which would compare all with all.

    >>> float(mse(jnp.array([1.0, 2.0]), jnp.array([1.0, 4.0])))
    2.0
    """
    return jnp.square(_difference(output, target)).mean()


def l1(output: Any, target: Any) -> Any:
    """Mean of absolute differences; arguments as in `mse`.

    >>> float(l1(jnp.array([1.0, 2.0]), jnp.array([1.0, 4.0])))
    1.0
    """
    return jnp.abs(_difference(output, target)).mean()


def smooth_l1(output: Any, target: Any, beta: float = 1.0) -> Any:
    """Mean of d²/2β for |d| < β, of |d| − β/2 beyond; arguments as in `mse`.

    Source: Girshick 2015, Fast R-CNN, arXiv 1504.08083.

    >>> float(smooth_l1(jnp.array([0.0, 0.0]), jnp.array([1.0, 3.0])))
    1.5
    """
    return (optax.huber_loss(_difference(output, target), delta=beta) / beta).mean()


def crossentropy(logits: Any, labels: Any) -> Any:
    """Cross entropy of the softmax of logits.

    Args:
        logits: (..., classes).
        labels: integers (...), or probabilities such as one-hot rows (..., classes).

    >>> round(float(crossentropy(jnp.zeros((1, 2)), jnp.array([0]))), 4)
    0.6931
    """
    if is_labels(labels, logits):
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()
    return optax.softmax_cross_entropy(logits, _same(labels, logits)).mean()


def crossentropy_of_probabilities(probabilities: Any, labels: Any) -> Any:
    """Cross entropy of what a softmax gave; labels as in `crossentropy`.

    `ax.train` takes it in place of `crossentropy` for models that end in a softmax.

    >>> round(float(crossentropy_of_probabilities(jnp.array([[0.5, 0.5]]), jnp.array([0]))), 4)
    0.6931
    """
    return nll(jnp.log(jnp.maximum(probabilities, jnp.finfo(probabilities.dtype).tiny)), labels)


def binary_crossentropy(logits: Any, labels: Any) -> Any:
    """Cross entropy of the sigmoid of logits.

    Args:
        logits, labels: of one shape; labels in [0, 1].

    >>> round(float(binary_crossentropy(jnp.array([0.0]), jnp.array([1]))), 4)
    0.6931
    """
    return optax.sigmoid_binary_cross_entropy(logits, _same(labels, logits).astype(logits.dtype)).mean()


def binary_crossentropy_of_probabilities(probabilities: Any, labels: Any) -> Any:
    """Cross entropy of what a sigmoid gave: `ax.train` takes it for models that end in one.

    >>> round(float(binary_crossentropy_of_probabilities(jnp.array([0.5]), jnp.array([1]))), 4)
    0.6931
    """
    least = jnp.finfo(probabilities.dtype).tiny
    log = lambda p: jnp.log(jnp.maximum(p, least))
    like = _same(labels, probabilities)
    return -(like * log(probabilities) + (1 - like) * log(1 - probabilities)).mean()


def nll(log_probabilities: Any, labels: Any) -> Any:
    """Minus the logarithms of the probabilities of the labels: `crossentropy` after a log_softmax.

    >>> float(nll(jnp.array([[-1.0, -2.0]]), jnp.array([1])))
    2.0
    """
    if is_labels(labels, log_probabilities):
        return -jnp.take_along_axis(log_probabilities, labels[..., None], -1).mean()
    return -(log_probabilities * _same(labels, log_probabilities)).sum(-1).mean()


def kl(log_probabilities: Any, target: Any) -> Any:
    """Kullback-Leibler divergence of the output's distribution from the target's, Σ t (log t − log p).

    Args:
        log_probabilities: (..., classes). target: probabilities (..., classes).

    >>> round(float(kl(jnp.log(jnp.array([[0.5, 0.5]])), jnp.array([[1.0, 0.0]]))), 4)
    0.6931
    """
    return optax.kl_divergence(log_probabilities, _same(target, log_probabilities)).mean()


def hinge(output: Any, target: Any) -> Any:
    """Mean of max(0, 1 − t·y) for targets of −1 and 1; for labels of classes, of max(0, 1 + greatest other − own).

    Args:
        output: [...], or (..., classes). target: −1 or 1 of the same shape; or integers (...).

    Source: Crammer and Singer 2001, On the algorithmic implementation of multiclass kernel-based vector machines.

    >>> float(hinge(jnp.array([0.5, 2.0]), jnp.array([1.0, 1.0])))
    0.25
    """
    if not is_labels(target, output):
        return optax.hinge_loss(output, _same(target, output)).mean()
    own = jnp.take_along_axis(output, target[..., None], -1)[..., 0]
    others = jnp.where(jax.nn.one_hot(target, output.shape[-1], dtype=bool), -jnp.inf, output).max(-1)
    return jnp.maximum(0, 1 + others - own).mean()


def focal(logits: Any, labels: Any, gamma: float = 2.0) -> Any:
    """Cross entropy where an example that is judged rightly with probability p counts (1 − p)^γ.

    Args:
        logits: (..., classes) with integer labels (...); or any shape with labels in [0, 1] of the same shape.

    Source: Lin et al. 2017, Focal loss, arXiv 1708.02002.

    >>> round(float(focal(jnp.zeros((1, 2)), jnp.array([0]))), 4)
    0.1733
    """
    if not is_labels(labels, logits):
        return optax.sigmoid_focal_loss(logits, _same(labels, logits).astype(logits.dtype), gamma=gamma).mean()
    log_p = -optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    return -((1 - jnp.exp(log_p)) ** gamma * log_p).mean()


def contrastive(output: Any, target: Any, margin: float = 1.0) -> Any:
    """Pulls like pairs together and pushes unlike ones a margin apart: mean of t·d² + (1 − t)·max(0, margin − d)².

    Args:
        output: two arrays (examples, features), the embeddings of the pairs. target: 1 for like pairs, else 0.

    Source: Hadsell, Chopra and LeCun 2006, Dimensionality reduction by learning an invariant mapping.

    >>> float(contrastive((jnp.zeros((1, 2)), jnp.zeros((1, 2))), jnp.array([0])))
    1.0
    """
    distance = _distance(*_parts(output, 2, "contrastive"))
    like = _same(target, distance)
    return (like * distance**2 + (1 - like) * jnp.maximum(0, margin - distance) ** 2).mean()


def triplet(output: Any, target: Any = None, margin: float = 1.0) -> Any:
    """Mean of max(0, d(anchor, positive) − d(anchor, negative) + margin); there is no target.

    Args:
        output: three arrays (examples, features): anchors, positives, negatives.

    Source: Schroff et al. 2015, FaceNet, arXiv 1503.03832, with distances that are not squared, as PyTorch has it.

    >>> float(triplet((jnp.zeros((1, 2)), jnp.zeros((1, 2)), jnp.ones((1, 2)))))
    0.0
    """
    anchor, positive, negative = _parts(output, 3, "triplet")
    return jnp.maximum(0, _distance(anchor, positive) - _distance(anchor, negative) + margin).mean()


NAMES: dict[str, Loss] = {
    f.__name__: f
    for f in (mse, l1, smooth_l1, crossentropy, binary_crossentropy, nll, kl, hinge, focal, contrastive, triplet)
}
ALIASES = {"mae": "l1", "cross_entropy": "crossentropy", "bce": "binary_crossentropy", "huber": "smooth_l1"}
OF_LABELS = (crossentropy, crossentropy_of_probabilities, nll, hinge, focal)  # these take integers as classes


def named(name: str) -> Loss:
    """A loss by its name.

    >>> named("mse").__name__
    'mse'
    """
    found = NAMES.get(ALIASES.get(name, name))
    if found is None:
        raise AxiomError(f"There is no loss {name!r}.", at=caller(),
                         fix=f"take one of {', '.join(NAMES)}, or give a function loss(output, target)")  # fmt: skip
    return found


def check_targets(loss: Any, targets: Any, output_shape: tuple[int, ...]) -> None:
    """Refuse targets that a cross entropy has no meaning for, and would be minimised without end by.

    Args:
        targets: all of them, on the host. output_shape: of the model, with the batch.

    Raises:
        AxiomError: distributions that are none, probabilities outside of [0, 1], or a single class.
    """
    wide, binary = loss in (crossentropy, crossentropy_of_probabilities), loss in (
        binary_crossentropy, binary_crossentropy_of_probabilities)  # fmt: skip
    if wide and output_shape[-1] < 2:
        raise AxiomError("Cross entropy is between two classes or more.", at=caller(),
                         got=f"a model with {output_shape[-1]} output",
                         fix='loss="binary_crossentropy" for two classes, "mse" for numbers')  # fmt: skip
    if not targets.size or not (wide or binary):
        return
    if wide and targets.ndim == len(output_shape) and targets.shape[-1] == output_shape[-1]:
        sums = targets.astype(np.float64).sum(-1)
        if targets.min() < 0 or np.abs(sums - 1).max() > 1e-2:
            raise AxiomError("These targets are no probabilities of classes.", at=caller(),
                             got=f"rows from {targets.min():.4g} on that sum to {sums.min():.4g} to {sums.max():.4g}",
                             fix='loss="mse" for numbers; integer labels or ax.one_hot for classes')  # fmt: skip
    if binary and (targets.min() < 0 or targets.max() > 1):
        raise AxiomError("Targets of a binary cross entropy lie in [0, 1].", at=caller(),
                         got=f"{targets.min():.4g} to {targets.max():.4g}",
                         fix='loss="mse" for numbers; 0 and 1 for two classes')  # fmt: skip


def is_labels(target: Any, output: Any) -> bool:
    """Whether targets are integers that number the classes of the output's last axis."""
    shape = jnp.shape(target)
    return jnp.issubdtype(jnp.result_type(target), jnp.integer) and shape == jnp.shape(output)[:-1]


def _distance(a: Any, b: Any) -> Any:
    """Euclidean; its gradient at equal points is 0 rather than NaN."""
    square = jnp.square(_difference(a, b)).sum(-1)
    return jnp.where(square > 0, jnp.sqrt(jnp.where(square > 0, square, 1)), 0)


def _parts(output: Any, count: int, name: str) -> Any:
    if not isinstance(output, (tuple, list)) or len(output) != count:
        raise AxiomError(f"The loss {name} takes {count} arrays.", at=caller(), got=f"a {type(output).__name__}",
                         fix="let the model return a tuple of embeddings")  # fmt: skip
    return output


def _difference(output: Any, target: Any) -> Any:
    return output - _same(target, output)


def _same(target: Any, output: Any) -> Any:
    if not hasattr(output, "shape") or not hasattr(target, "shape") or output.shape != target.shape:
        fix = "give targets of the shape of the output"
        if hasattr(target, "shape") and hasattr(output, "shape") and output.shape == (*target.shape, 1):
            fix = "give the targets the output's last axis: y[:, None]"
        raise ShapeError("The targets do not have the shape of the output.", at=caller(),
                         got=f"output {shape_text(output)}, targets {shape_text(target)}", fix=fix)  # fmt: skip
    return target
