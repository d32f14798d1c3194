"""The layers of a Sequential as JSON, and back: names and fields, nothing that could run.

A layer is the name of its class and what it is made with, read from it; it is rebuilt by calling the class. Only
layers of `axiom_jax.nn`, listed functions, and what the caller hands in by name are ever looked up.
"""

import dataclasses
import functools
import inspect
import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from axiom_jax._errors import AxiomError, ModelError
from axiom_jax._model_chain import Chain
from axiom_jax._model_layers import Function, Layer, Nested

JAX_NUMPY = """abs add arccos arccosh arcsin arcsinh arctan arctanh cbrt ceil concatenate cos cosh divide exp exp2 expm1
 floor log log10 log1p log2 logaddexp max maximum mean min minimum multiply negative prod ravel reciprocal round sign
 sin sinc sinh sqrt square stack subtract sum tan tanh""".split()
JAX_NN = """celu elu gelu glu hard_sigmoid hard_silu hard_swish hard_tanh identity leaky_relu log_sigmoid log_softmax
 logsumexp mish relu relu6 selu sigmoid silu soft_sign softmax softplus sparse_plus sparse_sigmoid squareplus
 standardize swish""".split()
DEEPEST = 64
KINDS = ("layer", "given", "function", "partial", "dtype", "scalar_type", "float")


@functools.cache
def functions() -> dict[str, Any]:
    """The functions that a file may name."""
    from axiom_jax import nn

    listed = {f"jax.nn.{name}": getattr(jax.nn, name, None) for name in JAX_NN}
    listed |= {f"jax.numpy.{name}": getattr(jnp, name) for name in JAX_NUMPY}
    known = list(listed.values())
    ours = {f"axiom_jax.nn.{name}": getattr(nn, name) for name in nn.__all__}
    listed |= {name: fn for name, fn in ours.items() if not isinstance(fn, type) and not any(fn is k for k in known)}
    return {name: fn for name, fn in listed.items() if callable(fn)}


@functools.cache
def classes() -> dict[str, type]:
    """The layers that a file may name, and what they are made of."""
    from axiom_jax import nn
    from axiom_jax.interop.torch import channels

    public = {getattr(nn, name) for name in nn.__all__ if isinstance(getattr(nn, name), type)}
    ours = [kind for kind in public if hasattr(kind, "init") and hasattr(kind, "apply")]
    imported = [kind for kind in vars(channels).values() if getattr(kind, "__module__", "") == channels.__name__]
    return {kind.__name__: kind for kind in (*ours, *imported, Chain, Function, Nested) if _plain(kind)}


def _plain(kind: Any) -> bool:
    """Whether a class is a frozen dataclass, which is its name and its fields."""
    return isinstance(kind, type) and dataclasses.is_dataclass(kind) and kind.__dataclass_params__.frozen  # type: ignore[attr-defined]


@dataclasses.dataclass
class Description:
    """Layers as JSON, with what was found on the way.

    Args:
        layers: one a layer. given: the user's classes and functions, by the names that loading will ask for.
        reasons: what cannot be described, each with its place.
    """

    layers: list[Any]
    given: dict[str, Any]
    reasons: list[str]


def describe(chain: Chain) -> Description:
    """What a file says of the layers of a Sequential.

    >>> from axiom_jax import nn
    >>> describe(nn.Sequential(nn.Dense(2, 1), nn.relu).apply).layers[1]
    {'layer': 'Function', 'fields': {'fn': {'function': 'jax.nn.relu'}}}
    """
    found = Description([], {}, [])
    found.layers = [_described(layer, name, found) for name, layer in zip(chain.names, chain.layers, strict=True)]
    return found


def _described(value: Any, at: str, found: Description) -> Any:
    match value:
        case None | bool() | str():
            return value
        case int() | float() if type(value) in (int, float):
            return value if math.isfinite(value) else {"float": str(value)}
        case tuple() if type(value) is tuple:
            return [_described(item, at, found) for item in value]
        case np.dtype():
            return {"dtype": value.name}
        case functools.partial(func=fn, args=args, keywords=keywords):
            parts = [_described(part, at, found) for part in (fn, args)]
            named = {name: _described(item, at, found) for name, item in keywords.items()}
            return {"partial": parts[0], "args": parts[1], "keywords": named}
    if _plain(type(value)):
        return _described_fields(value, at, found)
    if (name := next((name for name, fn in functions().items() if fn is value), None)) is not None:
        return {"function": name}
    if isinstance(value, type(jnp.float32)):
        return {"scalar_type": value.dtype.name}
    name = getattr(value, "__name__", "")
    if inspect.isroutine(value) and name.isidentifier() and _give(name, value, at, found):
        return {"given": name}
    if name == "<lambda>":
        found.reasons.append(f"{at}: a lambda has no name; write it with def")
    elif not inspect.isroutine(value):
        found.reasons.append(f"{at}: {_kind(value)} is neither a frozen dataclass nor a plain value")
    return None


def _described_fields(value: Any, at: str, found: Description) -> Any:
    kind, name = type(value), type(value).__name__
    ours = classes().get(name) is kind
    if not ours and not _give(name, kind, at, found):
        return None
    fields = {}
    for argument in inspect.signature(kind).parameters:
        try:
            given = getattr(value, argument)
        except AttributeError:
            found.reasons.append(f"{at}: {name} does not keep its argument {argument}")
            continue
        own_init = not kind.__dataclass_params__.init
        fields[argument] = _described(_unchained(given) if own_init else given, at, found)
    return {"layer" if ours else "given": name, "fields": fields}


def _unchained(value: Any) -> Any:
    """What a layer made of layers is given: layers, where it keeps a chain of them."""
    if isinstance(value, tuple):
        return tuple(map(_unchained, value))
    return value.layers if isinstance(value, Chain) else value


def _give(name: str, value: Any, at: str, found: Description) -> bool:
    """Note what the user has to hand in again."""
    if found.given.setdefault(name, value) is not value:
        found.reasons.append(f"{at}: two different things are called {name}")
        return False
    return True


def _kind(value: Any) -> str:
    return f"a value of type {type(value).__module__}.{type(value).__qualname__}"


def rebuild(layers: Any, given: Mapping[str, Any], file: str) -> Chain:
    """The layers that a file describes.

    Args:
        layers: as `describe` gives them. given: the user's classes and functions. file: for messages.

    Raises:
        ModelError: a name is unknown, a layer cannot be built from its fields, or the text is malformed.
    """
    if not isinstance(layers, list) or not layers:
        raise _malformed(layers, file)
    built = _rebuilt({"layer": "Chain", "fields": {"layers": layers}}, given, file, 0)
    if not all(isinstance(layer, Layer) for layer in built.layers):
        raise _malformed("a layer that has no init and apply", file)
    return built


def _rebuilt(value: Any, given: Mapping[str, Any], file: str, depth: int) -> Any:
    if depth > DEEPEST:
        raise _malformed("layers in layers without end", file)
    again = lambda part: _rebuilt(part, given, file, depth + 1)
    match value:
        case None | bool() | str() | int() | float():
            return value
        case list():
            return tuple(again(item) for item in value)
        case {"layer": str(name), "fields": dict(fields), **rest} if not rest:
            return _constructed(_found(name, classes(), "layer", file), {k: again(v) for k, v in fields.items()}, file)
        case {"given": str(name), "fields": dict(fields), **rest} if not rest:
            return _constructed(_handed(name, given, file), {k: again(v) for k, v in fields.items()}, file)
        case {"given": str(name), **rest} if not rest:
            return _handed(name, given, file)
        case {"function": str(name), **rest} if not rest:
            return _found(name, functions(), "function", file)
        case {"partial": dict(fn), "args": list(args), "keywords": dict(keywords), **rest} if not rest:
            return functools.partial(again(fn), *map(again, args), **{k: again(v) for k, v in keywords.items()})
        case {"float": "inf" | "-inf" | "nan" as text, **rest} if not rest:
            return float(text)
        case {"dtype": str(name), **rest} if not rest and hasattr(jnp, name):
            return jnp.dtype(name)
        case {"scalar_type": str(name), **rest} if not rest and isinstance(getattr(jnp, name, 0), type(jnp.float32)):
            return getattr(jnp, name)
    raise _malformed(value, file)


def _malformed(value: Any, file: str) -> ModelError:
    return ModelError("The description of the layers is malformed.", at=file, got=repr(value)[:120],
                      fix="save the model again with ax.save_model")  # fmt: skip


def _found(name: str, table: Mapping[str, Any], word: str, file: str) -> Any:
    if name not in table:
        raise ModelError(f"The model has a {word} that this version of axiom-jax does not know: {name[:80]}.", at=file,
                         fix="update axiom-jax, or check where the file comes from")  # fmt: skip
    return table[name]


def _handed(name: str, given: Mapping[str, Any], file: str) -> Any:
    if name not in given:  # load_model has asked for all of them before
        raise _malformed(name, file)
    return given[name]


def _constructed(kind: Callable[..., Any], fields: dict[str, Any], file: str) -> Any:
    """The class called with its fields; a field that it takes as `*name` is spread."""
    try:
        parameters = inspect.signature(kind).parameters
        spread = [name for name, p in parameters.items() if p.kind is p.VAR_POSITIONAL]
        before = list(parameters)[: list(parameters).index(spread[0])] if spread else []
        positional = [fields.pop(name) for name in before] + [item for name in spread for item in fields.pop(name)]
        return kind(*positional, **fields)
    except AxiomError:
        raise
    except Exception as error:  # whatever a constructor does with fields that it does not expect
        name = getattr(kind, "__name__", str(kind))
        raise ModelError(f"The layer {name} cannot be built from its fields.", at=file,
                         got=f"{type(error).__name__}: {error}"[:200],
                         fix="use the version of axiom-jax or of the class that saved it") from error  # fmt: skip
