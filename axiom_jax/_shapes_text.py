"""How shapes, layers and sizes are written in messages, and symbolic sizes at given numbers."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

_WORDS = {"bool": "Bool", "bfloat16": "BFloat16"}


def shape_text(spec: Any) -> str:
    """An array's type as people read it.

    >>> shape_text(np.zeros((2, 3), np.float32))
    'Float32[2, 3]'
    """
    if isinstance(spec, (tuple, list)):
        return f"({', '.join(map(shape_text, spec))})"
    if not hasattr(spec, "shape"):
        return type(spec).__name__
    return f"{dtype_text(spec.dtype)}[{', '.join(map(str, spec.shape))}]"


def dtype_text(dtype: Any) -> str:
    name = str(dtype)
    for short, word in (("uint", "UInt"), ("int", "Int"), ("float", "Float"), ("complex", "Complex"), ("key", "Key")):
        if name.startswith(short):
            return word + name.removeprefix(short)
    return _WORDS.get(name, name)


def pattern(dtype: Any, *sizes: object) -> str:
    """What was expected, with "..." where any axes may stand: `Float32[..., 784]`."""
    return f"{dtype if isinstance(dtype, str) else dtype_text(dtype)}[{', '.join(map(str, sizes))}]"


def product_text(sizes: Sequence[Any]) -> str:
    """A product worked out: `28*28*64 = 50176`; a single size as it is."""
    numbers = [str(size) for size in sizes]
    return numbers[0] if len(numbers) == 1 else f"{'*'.join(numbers)} = {math.prod(sizes)}"


def is_number(size: Any) -> bool:
    """Whether a size is a plain number rather than symbolic."""
    return isinstance(size, (int, np.integer))


def written(layer: Any, **changes: Any) -> str:
    """A layer as the user would write it; required fields by position, others where they differ from the default.

    >>> @dataclasses.dataclass
    ... class Dense:
    ...     inputs: int
    ...     outputs: int
    ...     bias: bool = True
    >>> written(Dense(784, 10, bias=False), inputs=64)
    'Dense(64, 10, bias=False)'
    """
    parts = []
    for field in dataclasses.fields(layer):
        if not field.init:
            continue
        value = changes.get(field.name, getattr(layer, field.name))
        if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            parts.append(_value(value))
        elif value != field.default:
            parts.append(f"{field.name}={_value(value)}")
    return f"{type(layer).__name__}({', '.join(parts)})"


def _value(value: Any) -> str:
    """A function by its name, anything else as Python writes it."""
    return getattr(value, "__name__", repr(value)) if callable(value) else repr(value)


def size_at(size: Any, sizes: Mapping[str, int]) -> int:
    """A symbolic size where its variables have given values.

    >>> size_at("max(floordiv(n, 2), 3)^2", {"n": 9})
    16
    """
    return int(expression_at(size, sizes))


def expression_at(size: Any, sizes: Mapping[str, Any]) -> Any:
    """A symbolic size where its variables have given values, which may be symbolic themselves."""
    functions = {"floordiv": lambda a, b: a // b, "mod": lambda a, b: a % b, "max": max, "min": min}
    return eval(str(size).replace("^", "**"), {"__builtins__": {}}, {**functions, **sizes})
