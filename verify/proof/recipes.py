"""Properties and regions as JSON and back, so that a file can say which questions its proofs answer.

Only plain values are written: numbers, text, arrays, regions, properties made of them. A function or another model
cannot be, and is named instead.
"""

import base64
import importlib
import pkgutil
from dataclasses import fields, is_dataclass
from fractions import Fraction
from functools import cache
from typing import Any

import numpy as np

from axiom_jax._errors import CertificateError
from axiom_jax.verification import properties, regions

KINDS = (regions.Box, regions.Linf, regions.L2, regions.L1, regions.Everything, regions.Polytope)
REGIONS = {cls.__name__: cls for cls in KINDS}


class Unwritable(Exception):
    """A value that a file cannot hold; the message names it."""


@cache
def kinds() -> dict[str, type]:
    """The classes of properties, by name.

    >>> {"Robust", "Bounded", "AllOf"} <= kinds().keys()
    True
    """
    found: dict[str, type] = {}
    for module in pkgutil.iter_modules(properties.__path__):
        home = importlib.import_module(f"{properties.__name__}.{module.name}")
        found |= {name: cls for name, cls in vars(home).items()
                  if isinstance(cls, type) and cls.__module__ == home.__name__ and hasattr(cls, "claims")
                  and not name.startswith("_") and name not in ("ModelProperty", "Pointwise")}  # fmt: skip
    return found


def encode(value: Any) -> Any:
    """A value as JSON.

    Raises:
        Unwritable: it holds a function, a model or another object.

    >>> encode((Fraction(1, 3), "8/255", None))
    {'tuple': [{'fraction': '1/3'}, '8/255', None]}
    """
    match value:
        case None | bool() | int() | str():
            return value
        case Fraction():
            return {"fraction": str(value)}
        case float():
            return {"float": value.hex()}
        case tuple() | list():
            return {"tuple": [encode(part) for part in value]}
        case dict():
            return {"pairs": [[encode(key), encode(part)] for key, part in value.items()]}
    if isinstance(value, np.generic) or hasattr(value, "__array__"):
        array = np.ascontiguousarray(np.asarray(value))
        if array.dtype.kind in "fiub":
            data = base64.b64encode(array.astype(array.dtype.newbyteorder("<")).tobytes()).decode()
            return {"array": {"dtype": array.dtype.str.lstrip("<>|="), "shape": list(array.shape), "base64": data}}
    return _named(value)


def _named(value: Any) -> Any:
    name = type(value).__name__
    if REGIONS.get(name) is type(value):
        return {"region": name, "fields": {f.name: encode(getattr(value, f.name)) for f in fields(value)}}
    if kinds().get(name) is type(value):
        if is_dataclass(value):
            return {"property": name, "fields": {f.name: encode(getattr(value, f.name)) for f in fields(value)}}
        if hasattr(value, "parts"):
            return {"property": name, "parts": [encode(part) for part in value.parts]}
    raise Unwritable(getattr(value, "__name__", None) or name)


def decode(value: Any) -> Any:
    """The value that `encode` wrote.

    Raises:
        CertificateError: it is nothing that `encode` writes.
    """
    if value is None or isinstance(value, (bool, int, str)):
        return value
    try:
        return _decoded(value)
    except CertificateError:
        raise
    except Exception as error:  # whatever a class says of values that are not its own
        raise CertificateError("The file names a property that cannot be made.", got=f"{type(error).__name__}",
                               fix="make the file again") from error  # fmt: skip


def _decoded(value: dict[str, Any]) -> Any:
    match value:
        case {"fraction": str(text), **rest} if not rest:
            return Fraction(text)
        case {"float": str(text), **rest} if not rest:
            return float.fromhex(text)
        case {"tuple": list(parts), **rest} if not rest:
            return tuple(decode(part) for part in parts)
        case {"pairs": list(pairs), **rest} if not rest:
            return {decode(key): decode(part) for key, part in pairs}
        case {"array": {"dtype": str(dtype), "shape": list(shape), "base64": str(data)}, **rest} if not rest:
            kind = np.dtype(dtype)
            if kind.kind not in "fiub":
                raise ValueError(dtype)
            return np.frombuffer(base64.b64decode(data), kind).reshape(shape)
        case {"region": str(name), "fields": dict(given), **rest} if not rest:
            return REGIONS[name](**{key: decode(part) for key, part in given.items()})
        case {"property": str(name), "fields": dict(given), **rest} if not rest:
            return kinds()[name](**{key: decode(part) for key, part in given.items()})
        case {"property": str(name), "parts": list(parts), **rest} if not rest:
            return kinds()[name](*(decode(part) for part in parts))
    raise ValueError("unknown form")
