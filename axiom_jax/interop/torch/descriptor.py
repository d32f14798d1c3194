"""The JSON descriptor `axiom.pytorch.sequential.v1`: read and validated without torch, every problem told at once.

`{"format": "axiom.pytorch.sequential.v1", "layers": [{"type": "Linear", "weight": [[...]], "bias": [...]}, ...]}`
with the names, defaults and layouts of PyTorch's constructors and state dicts. Optional beside: "input_shape", the
sizes of one example as PyTorch has them, and "name".
"""

import json
import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from axiom_jax._errors import ModelError

FORMAT = "axiom.pytorch.sequential.v1"
MOST = 2**31 - 1
BEST = 20  # problems that a message lists; the rest are counted
Check = Callable[[Any], Any]


@dataclass(frozen=True)
class Entry:
    """One layer of a descriptor, validated.

    Args:
        kind: "Conv2d".
        options: by the names of PyTorch's constructor, complete.
        tensors: float32, by the names of the state dict.
        at: "layer 3 (Conv2d)".
    """

    kind: str
    options: Mapping[str, Any]
    tensors: Mapping[str, np.ndarray]
    at: str


class _Wrong(ValueError):
    """What an option should have been."""


def _count(low: int = 1) -> Check:
    def check(value: Any) -> int:
        if type(value) is not int or not low <= value <= MOST:
            raise _Wrong(f"an integer from {low}")
        return value

    return check


def _pair(low: int = 1) -> Check:
    def check(value: Any) -> tuple[int, int]:
        pair = (value, value) if type(value) is int else value
        if not isinstance(pair, (list, tuple)) or len(pair) != 2:
            raise _Wrong(f"an integer from {low} or two of them")
        if any(type(n) is not int or not low <= n <= MOST for n in pair):
            raise _Wrong(f"an integer from {low} or two of them")
        return pair[0], pair[1]

    return check


def _or(word: str | None, check: Check) -> Check:
    """What may also be a word, or null."""
    return lambda value: value if (value is None if word is None else value == word) else check(value)


def _real(low: float = -math.inf) -> Check:
    def check(value: Any) -> float:
        if type(value) not in (int, float) or not math.isfinite(value) or value < low:
            raise _Wrong("a number" if low == -math.inf else f"a number from {low:g}")
        return float(value)

    return check


def _flag(value: Any) -> bool:
    if type(value) is not bool:
        raise _Wrong("true or false")
    return value


def _axis(value: Any) -> int:
    if type(value) is not int or abs(value) > 8:
        raise _Wrong("the number of an axis")
    return value


def _not_batch(value: Any) -> int:
    if _axis(value) == 0:
        raise _Wrong("an axis behind the batch")
    return value


def _only(*words: Any) -> Check:
    def check(value: Any) -> Any:
        if value not in words or isinstance(value, bool) is not isinstance(words[0], bool):
            raise _Wrong(" or ".join(json.dumps(word) for word in words))
        return value

    return check


def _shape(value: Any) -> tuple[int, ...]:
    sizes = [value] if type(value) is int else value
    if not isinstance(sizes, (list, tuple)) or not sizes:
        raise _Wrong("a size or a list of sizes")
    return tuple(map(_count(), sizes))


_PADDING = _or("same", _or("valid", _pair(0)))
_INPLACE = {"inplace": (False, _flag)}
_NORM = {"num_features": (None, _or(None, _count())), "eps": (1e-5, _real(0)), "momentum": (0.1, _or(None, _real(0))),
         "affine": (True, _flag), "track_running_stats": (True, _only(True))}  # fmt: skip
_POOL = {"kernel_size": ((), _pair()), "stride": (None, _or(None, _pair())), "padding": (0, _pair(0)),
         "ceil_mode": (False, _flag)}  # fmt: skip

# by layer: options with their defaults (an empty tuple where one has to be given) and what they may be
OPTIONS: dict[str, dict[str, tuple[Any, Check]]] = {
    "Linear": {"in_features": (None, _or(None, _count())), "out_features": (None, _or(None, _count()))},
    "Conv2d": {"in_channels": (None, _or(None, _count())), "out_channels": (None, _or(None, _count())),
               "kernel_size": (None, _or(None, _pair())), "stride": (1, _pair()), "padding": (0, _PADDING),
               "dilation": (1, _pair()), "groups": (1, _count()), "padding_mode": ("zeros", _only("zeros"))},
    "BatchNorm1d": _NORM,
    "BatchNorm2d": _NORM,
    "LayerNorm": {"normalized_shape": (None, _or(None, _shape)), "eps": (1e-5, _real(0)),
                  "elementwise_affine": (True, _flag)},
    "MaxPool2d": _POOL | {"dilation": (1, _pair()), "return_indices": (False, _only(False))},
    "AvgPool2d": _POOL | {"count_include_pad": (True, _flag), "divisor_override": (None, _or(None, _count()))},
    "AdaptiveAvgPool2d": {"output_size": ((), _pair())},
    "ReLU": _INPLACE,
    "Sigmoid": {},
    "Tanh": {},
    "Softmax": {"dim": (None, _or(None, _axis))},
    "LeakyReLU": _INPLACE | {"negative_slope": (0.01, _real())},
    "Flatten": {"start_dim": (1, _not_batch), "end_dim": (-1, _not_batch)},
    "Identity": {},
    "Dropout": _INPLACE | {"p": (0.5, _real(0))},
}  # fmt: skip
TENSORS: dict[str, dict[str, int]] = {  # with their axes
    "Linear": {"weight": 2, "bias": 1},
    "Conv2d": {"weight": 4, "bias": 1},
    "BatchNorm1d": {"weight": 1, "bias": 1, "running_mean": 1, "running_var": 1, "num_batches_tracked": 0},
    "BatchNorm2d": {"weight": 1, "bias": 1, "running_mean": 1, "running_var": 1, "num_batches_tracked": 0},
    "LayerNorm": {"weight": 0, "bias": 0},
}
REQUIRED = {"Linear": ["weight"], "Conv2d": ["weight"], "BatchNorm1d": ["running_mean", "running_var"],
            "BatchNorm2d": ["running_mean", "running_var"]}  # fmt: skip


def load_descriptor(path: str | os.PathLike[str], content: bytes) -> Any:
    """The JSON of a file.

    Raises:
        ModelError: it is no JSON.
    """
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        raise ModelError("The descriptor is no JSON.", at=os.fspath(path), got=str(error)[:160],
                         fix="write it with ax.pytorch_descriptor(module, path)") from error  # fmt: skip


def read_descriptor(descriptor: Any, file: str) -> list[Entry]:
    """The layers of a descriptor.

    Args:
        descriptor: the JSON value; tensors may be arrays as well as nested lists.
        file: for messages.

    Raises:
        ModelError: listing every problem with the layer's index, what was given and what it should be.
    """
    reader = _Reader()
    if not isinstance(descriptor, Mapping):
        raise ModelError("A descriptor is a JSON object.", at=file, got=type(descriptor).__name__,
                         fix=f'{{"format": "{FORMAT}", "layers": [...]}}')  # fmt: skip
    if descriptor.get("format") != FORMAT:
        reader.problems.append(f"format: got {_told(descriptor.get('format'))}; give {FORMAT!r}")
    if unknown := sorted(str(key) for key in descriptor.keys() - {"format", "layers", "name", "input_shape"}):
        reader.problems.append(f"unknown keys {', '.join(unknown)[:80]}; remove them")
    if not isinstance(descriptor.get("name", ""), str):
        reader.problems.append(f"name: got {_told(descriptor['name'])}; give text")
    if "input_shape" in descriptor:
        reader.option("input_shape", descriptor["input_shape"], _shape, "descriptor")
    layers = descriptor.get("layers")
    if not isinstance(layers, (list, tuple)) or not layers:
        reader.problems.append(f"layers: got {_told(layers)}; give a list of layers")
        layers = ()
    entries = [reader.layer(i, layer) for i, layer in enumerate(layers)]
    if reader.problems:
        listed, count = reader.problems[:BEST], len(reader.problems)
        listed += [f"and {count - BEST} more"] if count > BEST else []
        fix = "mend these lines, or write it with ax.pytorch_descriptor(module)"
        what = f"The descriptor has {count} problem{'s' if count > 1 else ''}."
        raise ModelError(what, at=file, got="\n".join(listed), fix=fix)
    return [entry for entry in entries if entry is not None]


def _told(value: Any) -> str:
    """A value for a message, never the contents of an array."""
    if isinstance(value, (list, dict, tuple)):
        return f"a {'list' if not isinstance(value, dict) else 'object'} of {len(value)}"
    if isinstance(value, np.ndarray):
        return f"{value.dtype}{list(value.shape)}"
    text = repr(value)
    return text if len(text) < 60 else text[:57] + "..."


@dataclass
class _Reader:
    """Collects the problems of all layers."""

    problems: list[str] = field(default_factory=list)

    def option(self, name: str, value: Any, check: Check, at: str) -> Any:
        try:
            return check(value)
        except _Wrong as error:
            self.problems.append(f"{at}: {name}: got {_told(value)}; give {error}")
            return None

    def layer(self, index: int, layer: Any) -> Entry | None:
        kind = layer.get("type") if isinstance(layer, Mapping) else None
        if not isinstance(kind, str) or kind not in OPTIONS:
            got = _told(kind if isinstance(layer, Mapping) else layer)
            self.problems.append(f"layer {index}: type: got {got}; give one of {', '.join(OPTIONS)}")
            return None
        at, before = f"layer {index} ({kind})", len(self.problems)
        known, tensors = OPTIONS[kind], TENSORS.get(kind, {})
        for name in layer.keys() - known.keys() - tensors.keys() - {"type", "name"}:
            names = ", ".join([*known, *tensors]) or "none"
            self.problems.append(f"{at}: {str(name)[:40]}: unknown; known are {names}")
        options = {}
        for name, (default, check) in known.items():
            if name in layer or default == ():
                options[name] = self.option(name, layer.get(name), check, at)
            else:
                options[name] = check(default)
        found = {name: x for name, axes in tensors.items() if (x := self.tensor(name, axes, layer, at)) is not None}
        for name in REQUIRED.get(kind, []):
            if layer.get(name) is None:
                self.problems.append(f"{at}: {name}: missing; give it as in the state dict")
        if len(self.problems) > before:
            return None
        entry = Entry(kind, options, found, at)
        self.problems += [f"{at}: {problem}" for problem in _CHECKS.get(kind, lambda entry: [])(entry)]
        return entry

    def tensor(self, name: str, axes: int, layer: Mapping[str, Any], at: str) -> np.ndarray | None:
        value = layer.get(name)
        if value is None or (name == "bias" and value is False) or name == "num_batches_tracked":
            return None
        if not isinstance(value, (list, tuple, np.ndarray)):
            self.problems.append(f"{at}: {name}: got {_told(value)}; give nested lists of numbers")
            return None
        try:
            x = np.asarray(value)
            if x.dtype.kind not in "fiu" or (axes and x.ndim != axes) or not x.size:
                raise ValueError
            with np.errstate(over="ignore"):
                x = np.array(x, np.float32, order="C")
        except (ValueError, TypeError, OverflowError, RecursionError):
            form = f"{axes} axes" if axes else "one or more axes"
            self.problems.append(f"{at}: {name}: got {_told(value)}; give numbers in an array of {form}")
            return None
        if not np.all(np.isfinite(x)):
            self.problems.append(f"{at}: {name}: not finite in float32; train and write the model again")
            return None
        return x


def _differs(entry: Entry, **expected: Any) -> list[str]:
    """Options that are given and contradict the weights."""
    return [f"{name}: got {entry.options[name]}; the weight has {value}" for name, value in expected.items()
            if entry.options[name] is not None and entry.options[name] != value]  # fmt: skip


def _sized(entry: Entry, shape: Sequence[int], *names: str) -> list[str]:
    return [f"{name}: got shape {list(entry.tensors[name].shape)}; give {list(shape)}" for name in names
            if name in entry.tensors and entry.tensors[name].shape != tuple(shape)]  # fmt: skip


def _linear(entry: Entry) -> list[str]:
    outputs, inputs = entry.tensors["weight"].shape
    return _differs(entry, in_features=inputs, out_features=outputs) + _sized(entry, [outputs], "bias")


def _conv(entry: Entry) -> list[str]:
    outputs, inputs, *window = entry.tensors["weight"].shape
    o, groups = entry.options, entry.options["groups"]
    problems = _differs(entry, in_channels=inputs * groups, out_channels=outputs, kernel_size=tuple(window))
    problems += _sized(entry, [outputs], "bias")
    if outputs % groups:
        problems.append(f"groups: got {groups}; give a divisor of the {outputs} channels that come out")
    if o["padding"] == "same" and o["stride"] != (1, 1):
        problems.append(f"stride: got {o['stride']}; padding 'same' needs stride 1")
    return problems


def _batch_norm(entry: Entry) -> list[str]:
    size = entry.tensors["running_mean"].shape
    problems = _sized(entry, size, "weight", "bias", "running_var") + _differs(entry, num_features=size[0])
    if np.any(entry.tensors["running_var"] < 0):
        problems.append("running_var: has numbers below 0; a variance has none")
    return problems


def _layer_norm(entry: Entry) -> list[str]:
    shape = entry.options["normalized_shape"]
    if shape is None and "weight" not in entry.tensors:
        return ["normalized_shape: missing; give the sizes of the last axes"]
    return _sized(entry, shape or entry.tensors["weight"].shape, "weight", "bias")


def _pool(entry: Entry) -> list[str]:
    pairs = zip(entry.options["padding"], entry.options["kernel_size"], strict=True)
    if any(2 * padding > size for padding, size in pairs):
        return [f"padding: got {entry.options['padding']}; give at most half of kernel_size"]
    return []


def _flatten(entry: Entry) -> list[str]:
    start, end = entry.options["start_dim"], entry.options["end_dim"]
    same = (start < 0) == (end < 0)
    return [f"end_dim: got {end}; give an axis not before start_dim {start}"] if same and end < start else []


def _dropout(entry: Entry) -> list[str]:
    return [f"p: got {entry.options['p']}; give a share from 0 to 1"] if entry.options["p"] > 1 else []


_CHECKS: dict[str, Callable[[Entry], list[str]]] = {
    "Linear": _linear, "Conv2d": _conv, "BatchNorm1d": _batch_norm, "BatchNorm2d": _batch_norm,
    "LayerNorm": _layer_norm, "MaxPool2d": _pool, "AvgPool2d": _pool, "Flatten": _flatten, "Dropout": _dropout,
}  # fmt: skip
