"""Layers side by side: residual, skip and parallel.

Inside may stand what a Sequential takes: layers, functions, modules, models; a list of these is one after the
other. What brings parameters keeps them.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import jax.numpy as jnp

from axiom_jax import _shapes_mismatch as shapes
from axiom_jax._errors import AxiomError, ShapeError
from axiom_jax._model_chain import Chain
from axiom_jax._model_layers import text
from axiom_jax._shapes_places import caller
from axiom_jax._shapes_text import shape_text
from axiom_jax.nn import _sides
from axiom_jax.nn._layer import here

Combine = str | Callable[..., Any] | None
COMBINATIONS: dict[str | None, Callable[..., Any]] = {
    "concat": lambda *ys: jnp.concatenate(ys, axis=-1),
    "sum": lambda *ys: sum(ys[1:], start=ys[0]),
    "mean": lambda *ys: sum(ys[1:], start=ys[0]) / len(ys),
    "product": lambda *ys: _product(ys),
    None: lambda *ys: ys,
}


def _product(ys: Sequence[Any]) -> Any:
    return ys[0] if len(ys) == 1 else ys[0] * _product(ys[1:])


@dataclass(frozen=True, repr=False, init=False)
class Residual:
    """`shortcut(x) + layers(x)`, with the identity for a shortcut unless one is given.

    Args:
        *layers: layers, functions, modules, models.
        shortcut: a layer that brings x to the shape of the other side.

    Raises:
        ShapeError: where it is applied, the two sides have different shapes.

    Source: He et al. 2016, Deep Residual Learning, arXiv 1512.03385.

    >>> from axiom_jax import nn
    >>> Residual(nn.Dense(8, 8), nn.relu)
    Residual(Dense(8, 8), relu)
    """

    chains = "layers", "shortcut"
    layers: Chain
    shortcut: Chain | None = None
    given: _sides.Given = field(default_factory=dict, init=False, compare=False, repr=False)
    at: str | None = here()

    __rshift__, __rrshift__, init, trainable, bare = _sides.MADE_OF_LAYERS

    def __init__(self, *layers: Any, shortcut: Any = None) -> None:
        chain, given = _sides.chained(layers)
        short, brought = (None, {}) if shortcut is None else _sides.chained([shortcut])
        _sides.set_fields(self, layers=chain, shortcut=short, given={"layers": given, "shortcut": brought}, at=caller())

    def __repr__(self) -> str:
        parts = [text(layer) for layer in self.layers.layers]
        parts += [f"shortcut={_sides.chain_text(self.shortcut)}"] if self.shortcut else []
        return f"Residual({', '.join(parts)})"

    @property
    def sides(self) -> dict[str, Chain]:
        return {"layers": self.layers} | ({"shortcut": self.shortcut} if self.shortcut else {})

    @property
    def takes(self) -> Any:
        return _sides.first_takes(self.layers, self.shortcut)

    def apply(self, params: Any, x: Any) -> Any:
        return self._sum(x, _sides.outputs_of(self, params, dict.fromkeys(self.sides, x)))

    def apply_train(self, params: Any, x: Any, key: Any) -> tuple[Any, Any]:
        outputs, moved = _sides.trained(self, params, dict.fromkeys(self.sides, x), key)
        return self._sum(x, outputs), moved

    def _sum(self, x: Any, outputs: Mapping[str, Any]) -> Any:
        y, shortcut = outputs["layers"], outputs.get("shortcut", x)
        if (wrong := shapes.residual(shortcut, y, "Residual")) is not None:
            got = f"{shape_text(y)} + {shape_text(shortcut)}; expected equal shapes"
            raise ShapeError(f"{self!r} cannot add its two sides.", at=self.at, got=got, fix=wrong.fix)
        return shortcut + y


@dataclass(frozen=True, repr=False, init=False)
class SkipConnection:
    """`combine(layers(x), x)`: the input goes around the layers.

    Args:
        layers: a layer, or a list of layers.
        combine: "concat" (on the last axis), "sum", "mean", "product", or a function of (layers(x), x).

    Raises:
        ShapeError: where it is applied, the two cannot be combined; nothing is broadcast.

    >>> from axiom_jax import nn
    >>> SkipConnection([nn.Dense(8, 4), nn.relu], "concat")
    SkipConnection([Dense(8, 4), relu], 'concat')
    """

    chains = ("layers",)
    layers: Chain
    combine: Combine = "concat"
    given: _sides.Given = field(default_factory=dict, init=False, compare=False, repr=False)
    at: str | None = here()

    __rshift__, __rrshift__, init, trainable, bare = _sides.MADE_OF_LAYERS

    def __init__(self, layers: Any, combine: Combine = "concat") -> None:
        chain, given = _sides.chained([layers])
        _sides.set_fields(self, layers=chain, combine=combine, given={"layers": given}, at=caller())
        _check_combine(self)

    def __repr__(self) -> str:
        return f"SkipConnection({_sides.chain_text(self.layers)}, {_named(self.combine)})"

    @property
    def sides(self) -> dict[str, Chain]:
        return {"layers": self.layers}

    @property
    def takes(self) -> Any:
        return _sides.first_takes(self.layers)

    def apply(self, params: Any, x: Any) -> Any:
        return _combined(self, [(_sides.outputs_of(self, params, {"layers": x})["layers"], self.layers), (x, None)])

    def apply_train(self, params: Any, x: Any, key: Any) -> tuple[Any, Any]:
        outputs, moved = _sides.trained(self, params, {"layers": x}, key)
        return _combined(self, [(outputs["layers"], self.layers), (x, None)]), moved


@dataclass(frozen=True, repr=False, init=False)
class Parallel:
    """Branches side by side on one input, and what they give combined.

    Args:
        *branches: layers, or lists of layers.
        combine: "concat" (on the last axis), "sum", "mean", "product", a function of all outputs, or None for a
            tuple of them.
        each: whether the input is a tuple, with one part for each branch.

    Raises:
        ShapeError: where it is applied, the outputs cannot be combined; nothing is broadcast.

    >>> from axiom_jax import nn
    >>> Parallel(nn.Dense(8, 4), [nn.Dense(8, 4), nn.relu], combine="sum")
    Parallel(Dense(8, 4), [Dense(8, 4), relu], combine='sum')
    """

    several = True
    chains = ("branches",)
    branches: tuple[Chain, ...]
    combine: Combine = "concat"
    each: bool = False
    given: _sides.Given = field(default_factory=dict, init=False, compare=False, repr=False)
    at: str | None = here()

    __rshift__, __rrshift__, init, trainable, bare = _sides.MADE_OF_LAYERS

    def __init__(self, *branches: Any, combine: Combine = "concat", each: bool = False) -> None:
        if not branches:
            raise AxiomError("Parallel needs a branch.", at=caller(), fix="Parallel(nn.Dense(8, 4), nn.relu)")
        found = [_sides.chained([branch]) for branch in branches]
        given = {f"branch{i}": brought for i, (_, brought) in enumerate(found)}
        chains = tuple(chain for chain, _ in found)
        _sides.set_fields(self, branches=chains, combine=combine, each=each, given=given, at=caller())
        _check_combine(self)

    def __repr__(self) -> str:
        parts = [_sides.chain_text(chain) for chain in self.branches]
        parts += [f"combine={_named(self.combine)}"] * (self.combine != "concat") + ["each=True"] * self.each
        return f"Parallel({', '.join(parts)})"

    @property
    def sides(self) -> dict[str, Chain]:
        return {f"branch{i}": chain for i, chain in enumerate(self.branches)}

    @property
    def takes(self) -> Any:
        return None if self.each else _sides.first_takes(*self.branches)

    def mismatch(self, x: Any) -> shapes.Mismatch | None:
        many = len(x) if isinstance(x, (tuple, list)) else 1
        if not self.each or (many == len(self.branches) and isinstance(x, (tuple, list))):
            return None
        fix = "leave out each=True" if many == 1 else f"give it {len(self.branches)} arrays, not {many}"
        return shapes.Mismatch(f"a tuple of {len(self.branches)}, one for each branch", fix)

    def _inputs(self, x: Any) -> dict[str, Any]:
        return dict(zip(self.sides, x, strict=True)) if self.each else dict.fromkeys(self.sides, x)

    def apply(self, params: Any, x: Any) -> Any:
        outputs = _sides.outputs_of(self, params, self._inputs(x))
        return _combined(self, list(zip(outputs.values(), self.branches, strict=True)))

    def apply_train(self, params: Any, x: Any, key: Any) -> tuple[Any, Any]:
        outputs, moved = _sides.trained(self, params, self._inputs(x), key)
        return _combined(self, list(zip(outputs.values(), self.branches, strict=True))), moved


def _check_combine(layer: SkipConnection | Parallel) -> None:
    known = [name for name in COMBINATIONS if isinstance(layer, Parallel) or name is not None]
    if not (callable(layer.combine) or layer.combine in known):
        raise AxiomError(
            f"{layer!r} does not know how to combine.", at=layer.at, fix='make it combine="concat"',
            got=f"combine={layer.combine!r}; known are {', '.join(map(repr, known))} and functions",
        )  # fmt: skip


def _combined(layer: SkipConnection | Parallel, sides: Sequence[tuple[Any, Chain | None]]) -> Any:
    """The outputs of some chains in one; None stands for the identity."""
    if callable(layer.combine):
        return layer.combine(*(y for y, _ in sides))
    sizes = [tuple(y.shape) if hasattr(y, "shape") else None for y, _ in sides]
    if layer.combine == "concat":
        fits = all(size is not None and size[:-1] == (sizes[0] or ())[:-1] and len(size) for size in sizes)
        expected = "equal shapes up to the last axis"
    else:
        fits, expected = layer.combine is None or all(size == sizes[0] for size in sizes), "equal shapes"
    if not fits:
        got = f"{', '.join(shape_text(y) for y, _ in sides)}; expected {expected}"
        names = [f"branch {i}" for i in range(len(sides))]
        fix = _sides.ending(sides, names)
        raise ShapeError(f"{layer!r} cannot combine what its sides give.", at=layer.at, got=got, fix=fix)
    return COMBINATIONS[layer.combine](*(y for y, _ in sides))


def _named(combine: Combine) -> str:
    return repr(combine) if not callable(combine) else _sides.name_of(combine)
