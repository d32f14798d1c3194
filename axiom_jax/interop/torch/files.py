"""PyTorch's files: state dicts (`.pt`, `.pth`, `.safetensors`) and exported programs (`.pt2`); nothing in them runs."""

import contextlib
import hashlib
import io
import os
import pickle
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from axiom_jax._errors import BackendUnavailable, ModelError
from axiom_jax.interop.torch.archive import safe_archive, stored
from axiom_jax.interop.torch.tensors import as_numpy, as_parameter

DTYPES = {"F64": np.dtype("<f8"), "F32": np.dtype("<f4"), "F16": np.dtype("<f2"), "I64": np.dtype("<i8"),
          "I32": np.dtype("<i4"), "I16": np.dtype("<i2"), "I8": np.dtype("i1"), "U8": np.dtype("u1"),
          "BOOL": np.dtype("?")}  # fmt: skip
NESTED = ("state_dict", "model_state_dict", "model")  # where training scripts keep the state dict
SHARED = 4  # tensors may share memory so many times


def require_torch(why: str, at: str | None = None) -> Any:
    """The module torch.

    Raises:
        BackendUnavailable: PyTorch is not installed.
    """
    try:
        import torch
    except ImportError as error:
        raise BackendUnavailable(
            f"{why} needs PyTorch, which is not installed.", at=at, fix="pip install 'axiom-jax[torch]'"
        ) from error
    return torch


def read_bytes(path: str | os.PathLike[str]) -> bytes:
    try:
        return Path(path).read_bytes()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ModelError(
            f"The model cannot be read: {reason}.", at=os.fspath(path), fix="give the path of a file that exists"
        ) from error


def digest(kind: str, content: bytes) -> tuple[tuple[str, str], ...]:
    """What a model was read from, as its `source`."""
    return ((kind, hashlib.sha256(content).hexdigest()),)


@contextlib.contextmanager
def _damaged(file: str, fix: str) -> Iterator[None]:
    """Turns whatever a library raises on a damaged file into one error."""
    try:
        yield
    except ModelError:
        raise
    except pickle.UnpicklingError as error:
        raise ModelError("The file is refused: it holds a pickle of more than tensors; nothing of it was run.",
                         at=file, fix=fix) from error  # fmt: skip
    except (Exception, RecursionError) as error:
        first = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise ModelError("The file is damaged, or is not what its name says.", at=file,
                         got=f"{type(error).__name__}: {first[:160]}", fix=fix) from error  # fmt: skip


def read_program_file(path: str | os.PathLike[str]) -> tuple[Any, tuple[tuple[str, str], ...]]:
    """The `ExportedProgram` of a `.pt2` file, and the file's digest.

    Raises:
        BackendUnavailable: PyTorch is not installed.
        ModelError: the file is damaged, or holds what could run.
    """
    from axiom_jax.interop.torch.export import quiet

    file, content = os.fspath(path), read_bytes(path)
    torch = require_torch("A .pt2 file", file)
    safe = safe_archive(content, file)
    with _damaged(file, "write it with torch.export.save, by a PyTorch of the version that is installed"), quiet():
        return torch.export.load(io.BytesIO(safe)), digest("pt2", content)


def read_state_dict(path: str | os.PathLike[str]) -> tuple[dict[str, np.ndarray], tuple[tuple[str, str], ...]]:
    """The tensors of a state dict by name, float32 or int32, and the file's digest.

    Args:
        path: `.safetensors`, which needs no PyTorch, or a file of `torch.save(module.state_dict(), path)`.

    Raises:
        BackendUnavailable: PyTorch is needed and not installed.
        ModelError: the file is damaged, or holds anything else than tensors; nothing of it is run.
    """
    file, content = os.fspath(path), read_bytes(path)
    if file.endswith(".safetensors"):
        with _damaged(file, "save it with safetensors.torch.save_file(module.state_dict(), path)"):
            return _safetensors(content, file), digest("safetensors", content)
    torch = require_torch("A state dict in PyTorch's own format", file)
    if content[:2] == b"PK":
        stored(content, file)
    from axiom_jax.interop.torch.export import quiet

    fix = "save only tensors: torch.save(module.state_dict(), path); for a whole module use torch.export.save"
    with _damaged(file, fix), quiet():
        loaded = _tensors(torch.load(io.BytesIO(content), map_location="cpu", weights_only=True), torch, file)
        if sum(t.numel() * t.element_size() for t in loaded.values()) > SHARED * len(content):
            raise ModelError("The tensors are larger than the file.", at=file, fix="save them contiguous")
        return {name: as_parameter(t, name, file) for name, t in loaded.items()}, digest("state dict", content)


def _safetensors(content: bytes, file: str) -> dict[str, np.ndarray]:
    """The tensors of a safetensors file; the library refuses those that do not fill their shapes."""
    import ml_dtypes
    from safetensors import deserialize

    dtypes = DTYPES | {"BF16": np.dtype(ml_dtypes.bfloat16)}
    found = {}
    for name, entry in deserialize(content):
        x = np.frombuffer(entry["data"], dtypes[entry["dtype"]]).reshape(entry["shape"])
        found[name] = as_numpy(x, name, file)
    return found


def _tensors(loaded: Any, torch: Any, file: str) -> dict[str, Any]:
    """The state dict in what a file holds."""
    for key in NESTED:
        if isinstance(loaded, Mapping) and isinstance(loaded.get(key), Mapping):
            loaded = loaded[key]
            break
    if not isinstance(loaded, Mapping) or not loaded:
        raise ModelError("The file holds no state dict.", at=file, got=f"a value of type {type(loaded).__name__}",
                         fix="torch.save(module.state_dict(), path)")  # fmt: skip
    wrong = [f"{str(key)[:60]}: {type(value).__name__}" for key, value in loaded.items()
             if not (isinstance(key, str) and isinstance(value, torch.Tensor))]  # fmt: skip
    if wrong:
        raise ModelError("A state dict maps names to tensors.", at=file, got="\n".join(wrong[:20]),
                         fix="torch.save(module.state_dict(), path)")  # fmt: skip
    return dict(loaded)
