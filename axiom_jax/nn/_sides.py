"""What layers made of layers share: their sides are chains, and may bring parameters.

A side is what a Sequential takes: layers, functions, modules, models; a list of these is one after the other. A
class lists the fields that hold its chains in `chains`, and gives them by name as `sides`.
"""

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import jax

from axiom_jax._errors import AxiomError
from axiom_jax._model import pieces
from axiom_jax._model_chain import Chain, count
from axiom_jax._model_layers import Layer, Linen, adopt, bare, text
from axiom_jax._shapes_text import written
from axiom_jax.nn._layer import behind, then

Given = Mapping[str, Mapping[str, Any]]


def _init(self: Any, key: Any) -> dict[str, Any]:
    """The parameters of each side; those that were given are kept."""
    sides = self.sides.items()
    return {
        side: chain.init(jax.random.fold_in(key, i), self.given.get(side)) for i, (side, chain) in enumerate(sides)
    }


def _trainable(self: Any, params: Any) -> Any:
    return {side: chain.trainable(params[side]) for side, chain in self.sides.items() if side in params}


def _bare(self: Any) -> Any:
    """The same layer without the parameters that it was given."""
    other = copy.copy(self)
    for name in self.chains:
        chain = getattr(self, name)
        chains = tuple(map(_bared, chain)) if isinstance(chain, tuple) else _bared(chain)
        object.__setattr__(other, name, chains)
    object.__setattr__(other, "given", {})
    return other


def _bared(chain: Chain | None) -> Chain | None:
    return None if chain is None else Chain(tuple(map(bare, chain.layers)))


MADE_OF_LAYERS = then, behind, _init, _trainable, property(_bare)


def outputs_of(self: Any, params: Any, inputs: Mapping[str, Any]) -> dict[str, Any]:
    return {side: chain(params.get(side, {}), inputs[side]) for side, chain in self.sides.items()}


def trained(self: Any, params: Any, inputs: Mapping[str, Any], key: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """The outputs of all sides in training mode, and their parameters."""
    ran = {
        side: chain.apply_train(params.get(side, {}), inputs[side], key=jax.random.fold_in(key, i))
        for i, (side, chain) in enumerate(self.sides.items())
    }
    return {side: y for side, (y, _) in ran.items()}, {side: ran[side][1] for side in params}


def chained(things: Sequence[Any]) -> tuple[Chain, dict[str, Any]]:
    """Layers one after the other, and the parameters that some of them bring."""
    found = [piece for thing in things for piece in (_listed(thing) or pieces(thing))]
    chain = Chain(tuple(layer for layer, _ in found))
    brought = zip(chain.names, (params for _, params in found), strict=True)
    return chain, {name: params for name, params in brought if params is not None and count(params)}


def _listed(thing: Any) -> list[Any] | None:
    """The pieces of a list of layers; None for anything else."""
    if not isinstance(thing, (list, tuple)) or (len(thing) == 2 and isinstance(_adopted(thing), Linen)):
        return None
    return [piece for inner in thing for piece in (_listed(inner) or pieces(inner))]


def _adopted(pair: Any) -> Layer | None:
    try:
        return adopt(pair)[0]
    except AxiomError:
        return None


def set_fields(self: Any, **values: Any) -> None:
    for name, value in values.items():
        object.__setattr__(self, name, value)


def chain_text(chain: Chain) -> str:
    inner = ", ".join(map(text, chain.layers))
    return inner if len(chain.layers) == 1 else f"[{inner}]"


def first_takes(*chains: Chain | None) -> Any:
    """What the first of some chains that says so can be checked with."""
    first = (getattr(chain.layers[0], "takes", None) for chain in chains if chain is not None and chain.layers)
    return next((takes for takes in first if takes is not None), None)


def ending(sides: Sequence[tuple[Any, Chain | None]], names: Sequence[str]) -> str:
    """How to end the chains so that they give one shape: with features like those of the first, or of the identity."""
    want = next((y for y, chain in sides if chain is None), sides[0][0])
    if not all(hasattr(y, "shape") for y, _ in sides):
        return "let each side give one array"
    for (y, chain), name in zip(sides, names, strict=True):
        if chain is None or y.shape == want.shape:
            continue
        if len(y.shape) != len(want.shape):
            return f"keep the number of axes in {name} ({len(want.shape)}, not {len(y.shape)})"
        if y.shape[:-1] == want.shape[:-1]:
            last = chain.layers[-1]
            if hasattr(last, "out_features"):
                return f"make {text(last)} {written(last, out_features=want.shape[-1])}"
            return f"end {name} with Dense({y.shape[-1]}, {want.shape[-1]})"
        return f'keep the sizes between batch and channels in {name}: Conv(…, padding="SAME")'
    return "let each side give the same shape"


def name_of(function: Any) -> str:
    return getattr(function, "__name__", type(function).__name__)
