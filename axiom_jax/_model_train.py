"""Training mode: dropout draws, batch norm looks at its batch, and what moves comes back.

A model that is called is in inference mode. In training mode randomness comes from a key and running statistics
are returned, so nothing is hidden and nothing is changed in place. A layer may have `apply_train(params, x, key)
-> (y, params)` and `trainable(params) -> bools`; one without is the same in both modes.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import get_opaque_trace_state

from axiom_jax._errors import AxiomError
from axiom_jax._shapes_places import caller


def apply_train(apply: Callable[..., Any], params: Any, *inputs: Any, key: Any) -> tuple[Any, Any]:
    """A model's `apply` in training mode.

    Args:
        apply: the `apply` of a model: where it has a method `apply_train`, that runs.
        params: its parameters, running statistics among them.
        *inputs: as in inference.
        key: `jax.random.key`, of what is drawn.

    Returns:
        The output, and the parameters with moved running statistics: the same structure, shapes and dtypes.

    >>> from axiom_jax import nn
    >>> from axiom_jax.model import Sequential
    >>> model = Sequential(nn.BatchNorm(1))
    >>> y, params = apply_train(model.apply, model.params, jnp.array([[0.0], [2.0]]), key=jax.random.key(0))
    >>> float(y.mean()), round(float(params["0_BatchNorm"]["mean"][0]), 6)
    (0.0, 0.01)
    """
    trained = getattr(apply, "apply_train", None)
    return (apply(params, *inputs), params) if trained is None else trained(params, *inputs, key=key)


def trainable(model: Any) -> Any:
    """Which parameters an optimizer may move.

    Args:
        model: a model or layer with `params`.

    Returns:
        A pytree of bools with the structure of `model.params`: False for running statistics, which training
        moves by itself (`model.apply_train`), and for leaves that are no floats.

    >>> from axiom_jax import nn
    >>> from axiom_jax.model import Sequential
    >>> trainable(Sequential(nn.BatchNorm(3)))["0_BatchNorm"]
    {'bias': True, 'mean': False, 'scale': True, 'var': False}
    """
    return trainable_leaves(model.apply, model.params)


def trainable_leaves(apply: Any, params: Any) -> Any:
    """`trainable` of an `apply` function or a layer with these parameters."""
    told = getattr(apply, "trainable", None)
    return jax.tree.map(floating, params) if told is None else told(params)


def floating(leaf: Any) -> bool:
    """Whether a leaf holds floats or complex numbers."""
    return bool(jnp.issubdtype(jnp.result_type(leaf), jnp.inexact))


@dataclass(eq=False)
class Training:
    """A net inside a declaration that is being trained: each call moves its running statistics on.

    It lives while the declaration runs and no longer.

    Args:
        apply: of the net. params: those it starts from. key: of what it draws. name: for messages.
    """

    apply: Callable[..., Any]
    params: Any
    key: Any
    name: str
    calls: int = 0
    trace: Any = field(default_factory=get_opaque_trace_state)

    def __call__(self, params: Any, *inputs: Any) -> Any:
        given = params
        if self.calls:  # the user's parameters, with the statistics of the calls before
            mask = trainable_leaves(self.apply, params)
            given = jax.tree.map(lambda own, now, free: own if free else now, params, self.params, mask)
        key = jax.random.fold_in(self.key, self.calls)
        output, moved = apply_train(self.apply, given, *inputs, key=key)
        self.calls += 1
        if any(a is not b for a, b in zip(jax.tree.leaves(given), jax.tree.leaves(moved), strict=True)):
            if get_opaque_trace_state() != self.trace:
                raise AxiomError(
                    f"{self.name} has running statistics, which cannot leave a jax transformation.", at=caller(),
                    fix=f"call {self.name} outside of jax.vmap, jax.grad, jax.lax.scan and the like",
                )  # fmt: skip
            mask = trainable_leaves(self.apply, params)
            self.params = jax.tree.map(lambda old, new, free: old if free else new, self.params, moved, mask)
        return output
