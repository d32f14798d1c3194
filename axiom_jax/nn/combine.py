"""Layers made of layers."""

from dataclasses import dataclass
from typing import Any

import jax

from axiom_jax import _shapes_mismatch as shapes
from axiom_jax._errors import AxiomError, ShapeError
from axiom_jax._model_chain import Chain
from axiom_jax._model_layers import Layer, adopt, text
from axiom_jax._shapes_places import caller
from axiom_jax._shapes_text import shape_text
from axiom_jax.nn._layer import behind, here, then


@dataclass(frozen=True, repr=False, init=False)
class Residual:
    """`shortcut(x) + layers(x)`, with the identity for a shortcut unless one is given.

    Args:
        *layers: layers that are described by sizes, or functions.
        shortcut: a layer that brings x to the shape of the other side.

    Source: He et al. 2016, Deep Residual Learning, arXiv 1512.03385.

    >>> from axiom_jax import nn
    >>> Residual(nn.Dense(8, 8), nn.relu)
    Residual(Dense(8, 8), relu)
    """

    layers: tuple[Layer, ...]
    shortcut: Layer | None = None
    at: str | None = here()

    __rshift__, __rrshift__ = then, behind

    def __init__(self, *layers: Any, shortcut: Any = None) -> None:
        object.__setattr__(self, "layers", tuple(map(_described, layers)))
        object.__setattr__(self, "shortcut", None if shortcut is None else _described(shortcut))
        object.__setattr__(self, "at", caller())

    def __repr__(self) -> str:
        parts = [text(layer) for layer in self.layers]
        return f"Residual({', '.join(parts + ([f'shortcut={text(self.shortcut)}'] if self.shortcut else []))})"

    @property
    def sides(self) -> dict[str, Chain]:
        return {"layers": Chain(self.layers)} | ({"shortcut": Chain((self.shortcut,))} if self.shortcut else {})

    @property
    def takes(self) -> tuple[tuple[int | str, ...], str] | None:
        return getattr(self.layers[0], "takes", None) if self.layers else None

    def init(self, key: Any) -> dict[str, Any]:
        params = {}
        for number, (side, chain) in enumerate(self.sides.items()):
            keys = jax.random.split(jax.random.fold_in(key, number), len(chain.layers))
            drawn = {name: layer.init(k) for name, layer, k in zip(chain.names, chain.layers, keys, strict=True)}
            params[side] = {name: tree for name, tree in drawn.items() if jax.tree.leaves(tree)}
        return params

    def apply(self, params: Any, x: Any) -> Any:
        shortcut = self.sides["shortcut"](params["shortcut"], x) if self.shortcut else x
        y = self.sides["layers"](params["layers"], x)
        if (wrong := shapes.residual(shortcut, y, "Residual")) is not None:
            got = f"{shape_text(y)} + {shape_text(shortcut)}; expected equal shapes"
            raise ShapeError(f"{self!r} cannot add its two sides.", at=self.at, got=got, fix=wrong.fix)
        return shortcut + y


def _described(thing: Any) -> Layer:
    layer, params = adopt(thing)
    if jax.tree.leaves(params):
        raise AxiomError(
            f"{text(layer)} brings parameters, and a Residual describes layers only.", at=caller(),
            fix="write the sum as a function in an @ax.axiom declaration",
        )  # fmt: skip
    return layer
