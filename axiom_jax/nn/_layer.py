"""What all layers share: the user's line, `>>`, how they are written, and how they run.

A layer's class takes its methods from one of two tuples: `FLAX` if it describes a flax.nnx module by
`module(rngs)`, `FREE` if it has no parameters and says `apply` itself.
"""

from dataclasses import field
from typing import Any

from axiom_jax._shapes_places import caller
from axiom_jax._shapes_text import written
from axiom_jax.model import Model, compose
from axiom_jax.nn import _flax


def here() -> Any:
    """The dataclass field that keeps the line on which a layer was made; equal layers may come from other lines."""
    return field(default_factory=caller, init=False, compare=False, repr=False)


def then(self: Any, after: Any) -> Model:
    """`layer >> after`."""
    return compose(self, after, at=caller())


def behind(self: Any, before: Any) -> Model:
    """`before >> layer`, for functions on the left side."""
    return compose(before, self, at=caller())


def rewritten(self: Any, **changes: Any) -> str:
    """A layer's text, with other values for some of its fields."""
    return written(self, **changes)


def nothing(self: Any, key: Any) -> dict[str, Any]:
    """The parameters of a layer that has none."""
    return {}


FLAX = rewritten, then, behind, _flax.init, _flax.apply, _flax.apply_train, _flax.trainable
FREE = rewritten, then, behind, nothing
