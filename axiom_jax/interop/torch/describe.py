"""PyTorch modules as the JSON descriptor `axiom.pytorch.sequential.v1`, which is read without torch."""

import json
import os
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from axiom_jax._errors import ModelError
from axiom_jax.interop.torch.descriptor import FORMAT, OPTIONS, TENSORS

FLAGS = {"inplace", "affine", "elementwise_affine", "track_running_stats", "return_indices"}  # seen from the tensors


def pytorch_descriptor(module: Any, path: str | os.PathLike[str] | None = None, *,
                       input_shape: Sequence[int] | None = None) -> dict[str, Any]:  # fmt: skip
    """A module that is a sequence of simple layers, as a descriptor.

    Args:
        module: an `nn.Sequential`, also of Sequentials, or one layer.
        path: where to write it as JSON (usually `*.pytorch.json`); None to write nothing.
        input_shape: sizes of one example as PyTorch takes it, to be kept in the descriptor.

    Returns:
        The descriptor, a JSON value; float32 weights are written exactly.

    Raises:
        ModelError: listing every layer that descriptors do not have.

    >>> from importlib.util import find_spec
    >>> if find_spec("torch"):  # an extra
    ...     from torch import nn
    ...     descriptor = pytorch_descriptor(nn.Sequential(nn.Linear(2, 1), nn.ReLU()))
    ...     assert [layer["type"] for layer in descriptor["layers"]] == ["Linear", "ReLU"]
    """
    problems: list[str] = []
    layers = [_described(name, part, problems) for name, part in _leaves(module, "")]
    if problems:
        raise ModelError(
            "The module is no sequence of layers that descriptors have.",
            at=type(module).__name__,
            got="\n".join(problems[:20]),
            fix="bring the module itself, ax.from_pytorch(module, input_shape=...), or torch.export.save it as .pt2",
        )
    descriptor: dict[str, Any] = {"format": FORMAT, "layers": layers}
    if input_shape is not None:
        descriptor["input_shape"] = list(input_shape)
    if path is not None:
        _write(Path(path), json.dumps(descriptor, allow_nan=False))
    return descriptor


def _leaves(module: Any, name: str) -> Iterator[tuple[str, Any]]:
    if type(module).__name__ != "Sequential":
        yield name, module
        return
    for key, part in module.named_children():
        yield from _leaves(part, f"{name}.{key}" if name else key)


def _described(name: str, module: Any, problems: list[str]) -> dict[str, Any]:
    kind = type(module).__name__
    if kind not in OPTIONS or type(module).__module__.partition(".")[0] != "torch":
        problems.append(f"{name or 'module'}: {kind}")
        return {}
    layer: dict[str, Any] = {"type": kind} | ({"name": name} if name else {})
    for option in OPTIONS[kind].keys() - FLAGS:
        value = getattr(module, option)
        layer[option] = list(value) if isinstance(value, tuple) else value
    for tensor in TENSORS.get(kind, {}).keys() - {"num_batches_tracked"}:
        value = getattr(module, tensor)
        if value is not None:
            layer[tensor] = value.detach().cpu().double().tolist()
        elif tensor.startswith("running"):
            problems.append(f"{name or 'module'}: {kind} without running statistics")
    if kind == "Flatten" and 0 in (module.start_dim, module.end_dim):
        problems.append(f"{name or 'module'}: Flatten of the batch axis")
    return dict(sorted(layer.items(), key=lambda item: (item[0] != "type", isinstance(item[1], list), item[0])))


def _write(path: Path, text: str) -> None:
    """Atomically: readers see the old file or the whole new one."""
    try:
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(text)
            os.replace(temporary, path)
        except BaseException:
            os.unlink(temporary)
            raise
    except OSError as error:
        raise ModelError(f"The descriptor cannot be written: {error.strerror or error}.", at=os.fspath(path),
                         fix="give a path in a folder that exists") from error  # fmt: skip
