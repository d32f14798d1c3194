"""Parameters that are used in several places of a Sequential."""

from dataclasses import dataclass
from typing import Any

from axiom_jax import _shapes_mismatch as shapes
from axiom_jax._errors import AxiomError
from axiom_jax._model_chain import count
from axiom_jax._model_layers import adopt, text
from axiom_jax._model_train import trainable_leaves
from axiom_jax._shapes_text import written
from axiom_jax.nn._layer import behind, here, then


@dataclass(frozen=True, repr=False)
class Shared:
    """A layer whose parameters are used wherever its name stands in a Sequential.

    Args:
        name: of the parameters; layers of one name must be equal.
        layer: a layer.

    >>> from axiom_jax import nn
    >>> from axiom_jax.model import Sequential
    >>> Sequential(Shared("tied", nn.Dense(4, 4)), nn.relu, Shared("tied", nn.Dense(4, 4)))
    Model('sequential', x: float32[batch, 4] -> y: float32[batch, 4], 20 parameters)
    """

    name: str
    layer: Any
    at: str | None = here()

    __rshift__, __rrshift__ = then, behind

    def __post_init__(self) -> None:
        layer, params = adopt(self.layer)
        if params is not None and count(params):
            raise AxiomError(f"{text(layer)} brings parameters, and Shared draws its own.", at=self.at,
                             fix="call the module twice in a function declared with @ax.axiom")  # fmt: skip
        object.__setattr__(self, "layer", layer)

    def __repr__(self) -> str:
        return written(self)

    @property
    def shared(self) -> str:
        return self.name

    @property
    def several(self) -> bool:
        return getattr(self.layer, "several", False)

    @property
    def takes(self) -> Any:
        return getattr(self.layer, "takes", None)

    def init(self, key: Any) -> Any:
        return self.layer.init(key)

    def apply(self, params: Any, x: Any) -> Any:
        return self.layer.apply(params, x)

    def apply_train(self, params: Any, x: Any, key: Any) -> tuple[Any, Any]:
        trained = getattr(self.layer, "apply_train", None)
        return (self.layer.apply(params, x), params) if trained is None else trained(params, x, key)

    def trainable(self, params: Any) -> Any:
        return trainable_leaves(self.layer, params)

    def mismatch(self, x: Any) -> shapes.Mismatch | None:
        return getattr(self.layer, "mismatch", lambda x: None)(x)
