"""A model is a pure function of parameters and inputs, its parameters, and a signature."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import jax


@dataclass(frozen=True)
class Signature:
    """Names, shapes and dtypes of a model's inputs and outputs; a size may be a number or a name ("batch")."""

    inputs: tuple[tuple[str, tuple[int | str, ...], str], ...] = ()
    outputs: tuple[tuple[str, tuple[int | str, ...], str], ...] = ()


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Model:
    """A pure function annotated with shapes, and its parameters: a pytree whose leaves are the parameters.

    Args:
        apply: `apply(params, *inputs) -> output`, pure.
        params: a pytree of arrays.
        signature: what goes in and out.
        name: for messages and reports.
    """

    apply: Callable[..., Any] = field(metadata={"static": True})
    params: Any
    signature: Signature = field(default=Signature(), metadata={"static": True})
    name: str = field(default="model", metadata={"static": True})
    source: tuple[tuple[str, str], ...] = field(default=(), metadata={"static": True})

    def __call__(self, *inputs: Any) -> Any:
        return self.apply(self.params, *inputs)
