"""Layers that only arrange: flatten, reshape. The batch axis stays."""

from dataclasses import dataclass
from typing import Any

from axiom_jax import _shapes_mismatch as shapes
from axiom_jax._shapes_places import caller
from axiom_jax.nn._layer import FREE, here


@dataclass(frozen=True, repr=False)
class Flatten:
    """All axes but the batch in one, in C order: [batch, ...] to [batch, size].

    >>> Flatten()
    Flatten()
    """

    at: str | None = here()

    __repr__, __rshift__, __rrshift__, init = FREE

    def apply(self, params: Any, x: Any) -> Any:
        return x.reshape(x.shape[0], -1)

    def mismatch(self, x: Any) -> shapes.Mismatch | None:
        if x.shape:
            return None
        return shapes.Mismatch(shapes.pattern(x.dtype, "batch", "..."), "give it a batch axis, x[None]")


@dataclass(frozen=True, repr=False, init=False)
class Reshape:
    """Each example in another shape, in C order: [batch, ...] to [batch, *shape].

    Args:
        *shape: sizes of one example; one of them may be -1.

    >>> Reshape(28, 28, 1)
    Reshape(28, 28, 1)
    """

    shape: tuple[int, ...]
    at: str | None = here()

    _, __rshift__, __rrshift__, init = FREE

    def __init__(self, *shape: int) -> None:
        object.__setattr__(self, "shape", shape)
        object.__setattr__(self, "at", caller())

    def __repr__(self) -> str:
        return self.written()

    def written(self, shape: tuple[int, ...] | None = None) -> str:
        return f"Reshape({', '.join(map(str, shape or self.shape))})"

    def apply(self, params: Any, x: Any) -> Any:
        return x.reshape(x.shape[0], *self.shape)

    def mismatch(self, x: Any) -> shapes.Mismatch | None:
        return shapes.reshape(x, self.shape, self.written)
