"""Gradient checkpointing: activations are computed again in the backward pass instead of being kept.

Source: Chen et al. 2016, Training deep nets with sublinear memory cost, arXiv 1604.06174.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp

from axiom_jax._errors import AxiomError
from axiom_jax._model_chain import Chain, _recorded, run, run_train
from axiom_jax._model_guards import collecting
from axiom_jax._shapes_places import caller
from axiom_jax._trace import as_program
from axiom_jax.model import Model


@dataclass(frozen=True)
class Rematerialised(Chain):
    """A chain that keeps the values between groups of layers for the backward pass, and no others.

    Args:
        every: layers with parameters in a group; what follows them goes along.
    """

    every: int = 1

    def groups(self, params: Any) -> Iterator[range]:
        """The numbers of the layers of each group."""
        first, held = 0, 0
        for i, name in enumerate(self.names):
            own = bool(jax.tree.leaves(params.get(name, {})))
            if own and held == self.every:
                yield range(first, i)
                first, held = i, 0
            held += own
        yield range(first, len(self.names))

    def _infer(self, params: Any, x: Any) -> Any:
        if _recorded.get() is not None or as_program.value:  # a table of layers is being made, or a proof
            return super()._infer(params, x)
        for group in self.groups(params):

            def layers(own: Any, x: Any, group: range = group) -> Any:
                for i in group:
                    x = run(self.layers[i], own.get(self.names[i], {}), x)
                return x

            # conditions that a group meets are seen inside of it: they cannot leave jax.checkpoint
            part = lambda own, x, layers=layers: collecting(lambda: layers(own, x))
            x = _apart(jax.checkpoint(part), self._of(params, group), x)
        return x

    def _train(self, params: Any, x: Any, key: Any) -> tuple[Any, Any]:
        moved = dict(params)
        for group in self.groups(params):

            def layers(own: Any, x: Any, key: Any, group: range = group) -> Any:
                after = dict(own)
                for i in group:
                    x, new = run_train(self.layers[i], own.get(self.names[i], {}), x, jax.random.fold_in(key, i))
                    if self.names[i] in own:
                        after[self.names[i]] = new
                return x, after

            part = lambda own, x, key, layers=layers: collecting(lambda: layers(own, x, key), has_aux=True)
            x, own = _apart(jax.checkpoint(part), self._of(params, group), x, key)
            moved.update(own)
        return x, moved

    def _of(self, params: Any, group: range) -> Any:
        return {self.names[i]: params[self.names[i]] for i in group if self.names[i] in params}


def _apart(part: Callable[..., Any], *operands: Any) -> Any:
    """`part(*operands)`, so that XLA on CPUs does not merge its second computation with the first.

    There the barriers that `jax.checkpoint` puts between the two are removed before equal computations are merged,
    and nothing is saved. A branch of a condition is never merged with what is outside of it; the condition always
    holds, which the compiler cannot know.
    """
    floats = [a for a in jax.tree.leaves(operands) if jnp.issubdtype(a.dtype, jnp.floating) and a.size]
    if jax.default_backend() != "cpu" or not floats:
        return part(*operands)
    some = jax.lax.stop_gradient(floats[0]).ravel()[0]
    shapes = jax.eval_shape(part, *operands)
    zeros = lambda *_: jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)
    return jax.lax.cond((some <= jnp.inf) | (some != some), part, zeros, *operands)


def checkpoint(model: Model, every: int = 1) -> Model:
    """The same model, whose gradients in training mode take less memory and more time: a second forward pass.

    Args:
        model: a Sequential.
        every: layers with parameters between values that are kept; activations go with the layer before. About
            the square root of their number needs the least memory.

    Returns:
        A model with the same parameters, layers, outputs and gradients.

    Raises:
        AxiomError: the model is no chain of layers, or `every` is less than 1.

    >>> from axiom_jax import nn
    >>> from axiom_jax.model import Sequential
    >>> checkpoint(Sequential(nn.Dense(4, 4), nn.relu, nn.Dense(4, 2)), every=1)
    Model('sequential', x: float32[batch, 4] -> y: float32[batch, 2], 30 parameters)
    """
    if not isinstance(model, Model) or not isinstance(model.apply, Chain):
        raise AxiomError("Only a Sequential can be taken apart into groups of layers.", at=caller(),
                         got=f"{model!r}"[:120], fix="wrap parts of the function in jax.checkpoint")  # fmt: skip
    if every < 1:
        raise AxiomError("Values are kept every so many layers.", at=caller(), got=f"every={every}",
                         fix="ax.checkpoint(model, every=3)")  # fmt: skip
    return replace(model, apply=Rematerialised(model.apply.layers, every))
