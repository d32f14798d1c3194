"""What may stand in a Sequential: our layers, functions, and modules of flax and equinox.

A layer is static and hashable; parameters live beside it, so that nets of one architecture are equal
and share one compilation. `adopt` takes any of these apart into a layer and its parameters.
"""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np

from axiom_jax._errors import AxiomError
from axiom_jax._model_train import apply_train, floating, trainable_leaves
from axiom_jax._shapes_places import caller

Takes = tuple[tuple[int | str, ...], str]
TRAINING_FLAGS = {"train": True, "training": True, "is_training": True, "deterministic": False,
                  "use_running_average": False}  # fmt: skip


@runtime_checkable
class Layer(Protocol):
    """Anything with these two functions is a layer; frozen dataclasses are meant.

    Optional: `mismatch(x) -> Mismatch | None` says why it refuses an input; `takes`, a shape and a dtype,
    is the input that it can be checked with alone, "..." for any axes; `at` is the user's line;
    `apply_train(params, x, key) -> (y, params)` is training mode, and `trainable(params)` a pytree of bools;
    `several` is True where it takes a tuple of arrays, which `mismatch` sees whole.
    """

    def init(self, key: Any) -> Any:
        """Fresh parameters, a pytree of arrays; `{}` if there are none."""
        ...

    def apply(self, params: Any, x: Any) -> Any:
        """The output for a batch of inputs; pure."""
        ...


@dataclass(frozen=True)
class Function:
    """A function of x alone as a layer."""

    fn: Callable[..., Any]

    def init(self, key: Any) -> dict[str, Any]:
        return {}

    def apply(self, params: Any, x: Any) -> Any:
        return self.fn(x)


@dataclass(frozen=True)
class Nested:
    """A model as a layer; its parameters come along."""

    function: Callable[..., Any]
    name: str
    takes: Takes | None = None

    def init(self, key: Any) -> Any:
        raise AxiomError("A model inside a layer brings its own parameters.", fix="put it into Sequential itself")

    def apply(self, params: Any, x: Any) -> Any:
        return self.function(params, x)

    def apply_train(self, params: Any, x: Any, key: Any) -> tuple[Any, Any]:
        return apply_train(self.function, params, x, key=key)

    def trainable(self, params: Any) -> Any:
        return trainable_leaves(self.function, params)


Call = Callable[[Any, Any], Any]


def called(module: Any, x: Any) -> Any:
    return module(x)


@dataclass(frozen=True)
class Nnx:
    """A flax.nnx module in inference mode: its graph; the rest are parameters."""

    graph: Any
    unused: Any  # the structure of its random state, which inference does not read
    name: str
    takes: Takes | None = None
    streams: tuple[tuple[int, ...], ...] = ()  # the shape of each leaf of the random state

    def module(self, params: Any) -> Any:
        from flax import nnx

        return nnx.merge(self.graph, params, jax.tree.unflatten(self.unused, [0] * self.unused.num_leaves))

    def _random(self, key: Any) -> Any:
        """The module's random state, its counts 0 and its keys drawn from one key."""
        from flax import nnx

        empty = jax.tree.unflatten(self.unused, [0] * self.unused.num_leaves)
        kinds = [type(leaf) for leaf in jax.tree.leaves(empty, is_leaf=lambda leaf: isinstance(leaf, nnx.RngState))]
        leaves = [
            jnp.zeros(shape, jnp.uint32) if issubclass(kind, nnx.RngCount) else _keys(jax.random.fold_in(key, i), shape)
            for i, (kind, shape) in enumerate(zip(kinds, self.streams, strict=True))
        ]
        return jax.tree.unflatten(self.unused, leaves)

    def init(self, key: Any) -> Any:
        raise AxiomError(f"The module {self.name} brings its own parameters.", fix="put it into Sequential itself")

    def apply(self, params: Any, x: Any, call: Call = called) -> Any:
        return call(self.module(params), x)

    def apply_train(self, params: Any, x: Any, key: Any, call: Call = called) -> tuple[Any, Any]:
        from flax import nnx
        from flax.traverse_util import flatten_dict, unflatten_dict

        module = nnx.merge(self.graph, params, self._random(key))
        module.train()
        y = call(module, x)
        moved = flatten_dict(params, keep_empty_nodes=True)
        for path, variable in nnx.to_flat_state(nnx.state(module)):
            if path in moved and not isinstance(variable, nnx.Param):  # what a call adds (intermediates) is left out
                old = moved[path]
                moved[path] = jax.tree.map(lambda a, b: jax.lax.stop_gradient(b.astype(a.dtype)), old, variable[...])
        return y, unflatten_dict(moved)

    def trainable(self, params: Any) -> Any:
        from flax import nnx
        from flax.traverse_util import flatten_dict, unflatten_dict

        free = flatten_dict(jax.tree.map(floating, params), keep_empty_nodes=True)
        for path, variable in nnx.to_flat_state(nnx.state(self.module(params))):
            if path in free and not isinstance(variable, nnx.Param):
                free[path] = jax.tree.map(lambda _: False, free[path])
        return unflatten_dict(free)


@dataclass(frozen=True)
class Linen:
    """A flax.linen module, to be called in inference mode; its variables are the parameters.

    In training mode arguments such as `train` and `deterministic` are switched, where its call has them, and
    collections other than "params" move.
    """

    module: Any

    def init(self, key: Any) -> Any:
        raise AxiomError("A flax.linen module needs variables.", fix="give (module, module.init(key, x))")

    def apply(self, params: Any, x: Any) -> Any:
        return self.module.apply(params, x)

    def apply_train(self, params: Any, x: Any, key: Any) -> tuple[Any, Any]:
        known = inspect.signature(type(self.module).__call__).parameters
        flags = {name: value for name, value in TRAINING_FLAGS.items() if name in known}
        rngs = {name: jax.random.fold_in(key, i) for i, name in enumerate(("dropout", "params"))}
        moving = [name for name in params if name != "params"]
        y, moved = self.module.apply(params, x, rngs=rngs, mutable=moving, **flags)
        return y, {**params, **{name: jax.lax.stop_gradient(moved[name]) for name in moving if name in moved}}

    def trainable(self, params: Any) -> Any:
        never = lambda leaf: False
        return {name: jax.tree.map(floating if name == "params" else never, own) for name, own in params.items()}


@dataclass(frozen=True)
class Tree:
    """A callable pytree such as an equinox module: its structure; its arrays are parameters.

    Equinox modules take one example, so they are mapped over the batch.
    """

    structure: Any
    static: tuple[Any, ...]
    name: str
    mapped: bool = True
    takes: Takes | None = None

    def init(self, key: Any) -> Any:
        raise AxiomError(f"The module {self.name} brings its own parameters.", fix="put it into Sequential itself")

    def module(self, params: Any) -> Any:
        arrays = iter(jax.tree.leaves(params))
        return jax.tree.unflatten(self.structure, [next(arrays) if leaf is None else leaf[0] for leaf in self.static])

    def apply(self, params: Any, x: Any) -> Any:
        module = self.module(params)
        return jax.vmap(module)(x) if self.mapped else module(x)

    def apply_train(self, params: Any, x: Any, key: Any) -> tuple[Any, Any]:
        module = self.module(params)
        if not self.mapped:
            return module(x), params
        import equinox

        module = equinox.nn.inference_mode(module, value=False)
        if "key" not in inspect.signature(module).parameters:
            return jax.vmap(module)(x), params
        return jax.vmap(lambda one, own: module(one, key=own))(x, jax.random.split(key, x.shape[0])), params


def adopt(thing: Any) -> tuple[Layer, Any]:
    """A layer and its parameters; None for parameters that are still to be drawn.

    Args:
        thing: a layer, a function of x, a model, a flax.nnx module, a bound flax.linen module or a
            pair (module, variables), an equinox module or another callable pytree.

    Raises:
        AxiomError: it is none of these.

    >>> layer, params = adopt(jax.nn.relu)
    >>> label(layer), params
    ('relu', {})
    """
    match thing:
        case (module, variables) if _is(module, "flax.linen"):
            return Linen(module), variables
        case _ if _is(thing, "flax.linen") and thing.scope is not None:
            return adopt(thing.unbind())
        case _ if _is(thing, "flax.nnx"):
            return _nnx(thing)
        case _ if hasattr(thing, "apply") and hasattr(thing, "params") and hasattr(thing, "signature"):
            return Nested(thing.apply, thing.name, _takes(thing.signature)), thing.params
        case _ if _is_layer(thing):
            return thing, None
        case _ if callable(thing) and _is(thing, "equinox"):
            return _tree(thing, mapped=True)
        case _ if callable(thing) and not isinstance(thing, type) and not _is(thing, "flax.linen"):
            return _tree(thing, mapped=False) if _has_arrays(thing) else (Function(thing), {})
    fix = "give a layer, a function of x, or a module"
    if _is(thing, "flax.linen"):
        fix = "give (module, module.init(key, x)), or a bound module"
    elif isinstance(thing, type) or (callable(thing) and not hasattr(thing, "init")):
        fix = f"construct it: {thing.__name__}(...)"
    raise AxiomError("This is no layer.", got=_kind(thing), fix=fix)


def _is_layer(thing: Any) -> bool:
    return isinstance(thing, Layer) and not isinstance(thing, type) and not _is(thing, "flax.linen")


def _kind(thing: Any) -> str:
    return f"the class {thing.__name__}" if isinstance(thing, type) else f"a value of type {type(thing).__name__}"


def _is(thing: Any, package: str) -> bool:
    """Whether a value is a module of a package, which is not imported for the question."""
    return any(
        kind.__name__ == "Module" and f"{kind.__module__}.".startswith(f"{package}.") for kind in type(thing).__mro__
    )


def _has_arrays(thing: Any) -> bool:
    leaves = jax.tree.leaves(thing)
    return not (len(leaves) == 1 and leaves[0] is thing) and any(map(_is_array, leaves))


def _is_array(leaf: Any) -> bool:
    return isinstance(leaf, (jax.Array, np.ndarray, jax.ShapeDtypeStruct))


def _takes(signature: Any) -> Takes | None:
    return signature.inputs[0][1:] if len(signature.inputs) == 1 else None


def _nnx(module: Any) -> tuple[Layer, Any]:
    from flax import nnx

    inference = nnx.clone(module)
    inference.eval()
    graph, state, unused = nnx.split(inference, nnx.Not(nnx.RngState), ...)
    kind, size = type(module).__name__, getattr(module, "in_features", None)
    takes: Takes | None = (("batch", "...", size), "float32") if kind == "Linear" and isinstance(size, int) else None
    streams = tuple(jnp.shape(leaf) for leaf in jax.tree.leaves(unused))
    return Nnx(graph, jax.tree.structure(unused), kind, takes, streams), nnx.to_pure_dict(state)


def _keys(key: Any, shape: tuple[int, ...]) -> Any:
    return jax.random.split(key, shape) if shape else key


def _is_state_index(leaf: Any) -> bool:
    return type(leaf).__name__ == "StateIndex"


def _tree(module: Any, mapped: bool) -> tuple[Layer, Any]:
    if mapped:
        import equinox

        if any(map(_is_state_index, jax.tree.leaves(module, is_leaf=_is_state_index))):
            raise AxiomError(
                f"{type(module).__name__} keeps state outside of itself.", at=caller(), got="an equinox.nn.StateIndex",
                fix="use nn.BatchNorm for equinox.nn.BatchNorm",
            )  # fmt: skip
        module = equinox.nn.inference_mode(module)
    leaves, structure = jax.tree.flatten(module)
    # the parameters keep the module's form, so that their paths stay readable
    params = jax.tree.unflatten(structure, [leaf if _is_array(leaf) else None for leaf in leaves])
    static = tuple(None if _is_array(leaf) else (leaf,) for leaf in leaves)
    return Tree(structure, static, type(module).__name__, mapped), params


def bare(layer: Layer) -> Layer:
    """A layer without parameters that were given to layers inside it; they are in the model by then."""
    return getattr(layer, "bare", layer)


def label(layer: Any) -> str:
    """A layer's short name: "Dense", "relu"."""
    if (shared := getattr(layer, "shared", None)) is not None:
        return shared
    match layer:
        case Function(fn):
            name = getattr(fn, "__name__", type(fn).__name__)
            return "function" if name == "<lambda>" else name
        case Nested(name=name) | Nnx(name=name) | Tree(name=name):
            return name
        case Linen(module):
            return type(module).__name__
    return type(layer).__name__


def text(layer: Any) -> str:
    """A layer as messages name it: "Dense(784, 10)", "relu"."""
    return label(layer) if isinstance(layer, (Function, Nested, Nnx, Tree, Linen)) else repr(layer)
