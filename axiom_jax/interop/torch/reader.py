"""PyTorch in: modules, exported programs, state dicts and descriptors become models; nothing of torch stays in them."""

import copy
import inspect
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from axiom_jax._errors import ModelError
from axiom_jax._shapes_places import caller

if TYPE_CHECKING:
    from axiom_jax.model import Model

LAYOUTS = ("NCHW", "NHWC")
STATES = (".pt", ".pth", ".bin", ".ckpt", ".safetensors")
Source = tuple[tuple[str, str], ...]


def from_pytorch(source: Any, *, architecture: Any = None, example: Any = None,
                 input_shape: Sequence[int] | None = None, layout: str = "NCHW", dynamic_shapes: Any = None,
                 name: str | None = None) -> "Model":  # fmt: skip
    """Read a PyTorch model, in eval mode: the same numbers, and images in the same layout, unless asked otherwise.

    Args:
        source: an `nn.Module`, an `ExportedProgram`, a `.pt2` file, a state dict (`.pt`, `.pth`, `.safetensors`, or
            a dict of tensors), or a descriptor `axiom.pytorch.sequential.v1` (a `.json` file or a dict; this needs no
            torch).
        architecture: for state dicts, what they belong to: an `nn.Module`, a function that makes one, a Sequential
            whose layers take the tensors in order, a descriptor, or a function `(params, *inputs)`.
        example: an input of a module or a tuple of them; its first axes become free.
        input_shape: sizes of one example in the model's layout, instead of `example` where there is one float32
            input; for descriptors it fixes the size of images.
        layout: "NCHW", what PyTorch takes; or "NHWC": inputs and outputs of four axes are channels-last.
        dynamic_shapes: which other axes are free, as `torch.export.export` takes it.
        name: of the model; by default the file's or the class's.

    Returns:
        A model whose `params` are named as in the state dict ("layers.0.weight"), in PyTorch's layout; a descriptor
        gives a Sequential of `axiom_jax.nn` layers. `source` holds the sha256 of a file.

    Raises:
        ModelError: what is read is damaged, unsafe or does not fit; pickles are never executed.
        UnsupportedPrimitive: naming every operator that has no rule, and its module.
        BackendUnavailable: torch is needed and not installed.

    Source: https://docs.pytorch.org/docs/stable/export.html.

    >>> layer = {"type": "Linear", "weight": [[1, 2], [3, 4]], "bias": [0, 1]}
    >>> model = from_pytorch({"format": "axiom.pytorch.sequential.v1", "layers": [layer, {"type": "ReLU"}]})
    >>> model(np.array([[1.0, -1.0]], np.float32)).tolist()
    [[0.0, 0.0]]
    """
    if layout not in LAYOUTS:
        raise ModelError("The layout is unknown.", at=caller(), got=repr(layout), fix='layout="NCHW" or layout="NHWC"')
    _check_shape(input_shape)
    reading = _Reading(architecture, example, input_shape, layout, dynamic_shapes, name)
    if isinstance(source, (str, os.PathLike)):
        return _from_file(source, reading)
    if isinstance(source, Mapping):
        return _from_mapping(source, reading)
    if _is(source, "ExportedProgram", "torch.export"):
        return _from_program(source, reading, ())
    if _is(source, "Module", "torch.nn"):
        return _from_module(source, reading)
    hint = "construct it first: from_pytorch(Net(), ...)" if isinstance(source, type) else "give a module or a file"
    raise ModelError("This is no PyTorch model.", at=caller(), got=f"a value of type {type(source).__name__}", fix=hint)


class _Reading:
    """What was asked for, handed from one way of reading to the next."""

    def __init__(self, architecture: Any, example: Any, input_shape: Sequence[int] | None, layout: str,
                 dynamic_shapes: Any, name: str | None):  # fmt: skip
        self.architecture, self.example, self.input_shape = architecture, example, input_shape
        self.layout, self.dynamic_shapes, self.name = layout, dynamic_shapes, name


def _check_shape(input_shape: Any) -> None:
    fits = input_shape is None or (
        isinstance(input_shape, Sequence) and all(type(n) is int and 0 < n < 2**31 for n in input_shape)
    )
    if not fits:
        raise ModelError("The input_shape is no shape of one example.", at=caller(), got=repr(input_shape)[:80],
                         fix="give sizes without the batch: input_shape=(3, 32, 32)")  # fmt: skip


def _is(value: Any, kind: str, package: str) -> bool:
    """Whether a value is of a class of torch, which is not imported for the question."""
    return any(c.__name__ == kind and c.__module__.startswith(package) for c in type(value).__mro__)


def _from_file(path: str | os.PathLike[str], reading: _Reading) -> "Model":
    from axiom_jax.interop.torch.files import digest, read_bytes, read_program_file, read_state_dict

    file, suffix = os.fspath(path), Path(path).suffix.lower()
    if suffix == ".json":
        from axiom_jax.interop.torch.descriptor import load_descriptor

        content = read_bytes(path)
        stem = Path(path).name.removesuffix(".json").removesuffix(".pytorch")
        return _from_descriptor(load_descriptor(path, content), reading, file, stem, digest("descriptor", content))
    if suffix == ".pt2":
        program, source = read_program_file(path)
        reading.name = reading.name or Path(path).stem
        return _from_program(program, reading, source)
    if suffix in STATES:
        state, source = read_state_dict(path)
        return _from_state(state, reading, file, source)
    read_bytes(path)
    raise ModelError("The kind of the file is not known.", at=file, got=suffix or "no suffix",
                     fix=f"give a file that ends in .pt2, .json, {', '.join(STATES)}")  # fmt: skip


def _from_mapping(source: Mapping[str, Any], reading: _Reading) -> "Model":
    if "format" in source or "layers" in source or not all(map(_is_tensor, source.values())):
        return _from_descriptor(source, reading, "descriptor", "sequential", ())
    from axiom_jax.interop.torch.tensors import as_numpy, as_parameter

    state = {str(key): as_numpy(np.asarray(x), str(key), "state dict") if not hasattr(x, "untyped_storage")
             else as_parameter(x, str(key), "state dict") for key, x in source.items()}  # fmt: skip
    return _from_state(state, reading, "state dict", ())


def _is_tensor(value: Any) -> bool:
    return hasattr(value, "shape") and hasattr(value, "dtype")


def _from_descriptor(descriptor: Any, reading: _Reading, file: str, name: str, source: Source) -> "Model":
    from axiom_jax.interop.torch.descriptor import read_descriptor
    from axiom_jax.interop.torch.graph import last
    from axiom_jax.interop.torch.sequential import sequential

    entries = read_descriptor(descriptor, file)
    shape = reading.input_shape
    if shape is None and "input_shape" in descriptor:
        given = descriptor["input_shape"]
        shape = (given,) if isinstance(given, int) else tuple(given)
        shape = last((None, *shape))[1:] if reading.layout == "NHWC" else shape
    return sequential(entries, reading.layout, shape, reading.name or descriptor.get("name") or name, source, file)


def _from_program(program: Any, reading: _Reading, source: Source) -> "Model":
    from axiom_jax.interop.torch.export import read_program

    return read_program(program, reading.name or "program", reading.layout, source)


def _from_module(module: Any, reading: _Reading, source: Source = ()) -> "Model":
    from axiom_jax.interop.torch.export import export, read_program

    name = reading.name or type(module).__name__
    program = export(module, reading.example, reading.input_shape, reading.dynamic_shapes, reading.layout, name)
    return read_program(program, name, reading.layout, source)


def _from_state(state: Mapping[str, np.ndarray], reading: _Reading, file: str, source: Source) -> "Model":
    from axiom_jax.model import Model

    architecture = reading.architecture
    if isinstance(architecture, (str, os.PathLike)):
        from axiom_jax.interop.torch.descriptor import load_descriptor
        from axiom_jax.interop.torch.files import read_bytes

        architecture = load_descriptor(architecture, read_bytes(architecture))
    if isinstance(architecture, Mapping):
        from axiom_jax.interop.torch.state import fill_descriptor

        filled = fill_descriptor(architecture, state, file)
        return _from_descriptor(filled, reading, file, Path(file).stem, source)
    if isinstance(architecture, Model) and architecture.layers:
        from axiom_jax.interop.torch.state import fill_model

        return fill_model(architecture, state, file, source)
    if callable(architecture) and not isinstance(architecture, Model) and not _is(architecture, "Module", "torch.nn"):
        if _parameters(architecture) >= 2:
            return Model(architecture, dict(state), name=reading.name or Path(file).stem, source=source)
        architecture = _made(architecture, file)
    if _is(architecture, "Module", "torch.nn"):
        return _from_module(_loaded(architecture, state, file), reading, source)
    raise ModelError(
        "A state dict holds tensors, not what is computed with them.",
        at=file,
        got=f"architecture={type(architecture).__name__}",
        fix="give the module: from_pytorch(path, architecture=Net(), input_shape=...), or save it with torch.export",
    )


def _parameters(function: Callable[..., Any]) -> int:
    """How many arguments a function has to be given."""
    if isinstance(function, type):
        return 0
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return 0
    return sum(p.default is p.empty and p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) for p in parameters)


def _made(function: Callable[[], Any], file: str) -> Any:
    try:
        return function()
    except Exception as error:  # the user's constructor
        raise ModelError("The architecture cannot be made.", at=file, got=f"{type(error).__name__}: {error}"[:200],
                         fix="give a module, or a function of no arguments that makes one") from error  # fmt: skip


def _loaded(module: Any, state: Mapping[str, np.ndarray], file: str) -> Any:
    """A copy of a module with the tensors of a state dict."""
    import torch

    module = copy.deepcopy(module)
    try:
        module.load_state_dict({key: torch.from_numpy(np.array(x)) for key, x in state.items()}, strict=True)
    except (RuntimeError, TypeError, ValueError) as error:
        raise ModelError("The state dict does not fit the module.", at=file, got=str(error)[:1000],
                         fix="give the module that it was saved from") from error  # fmt: skip
    return module
