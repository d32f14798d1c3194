"""`model.axiom`: a model as a zip of weights (safetensors) and a manifest (JSON). Nothing in it can run.

The architecture is the names and fields of layers ("sequential"), or an ONNX graph ("graph") for every other model.
Equal models give equal files; a file that is not exactly what `save_model` wrote is refused.
The format: docs/saving.md.
"""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from axiom_jax._errors import ModelError
from axiom_jax.interop.axiom.pack import pack
from axiom_jax.interop.axiom.read import AxiomFile as AxiomFile
from axiom_jax.interop.axiom.read import build_model
from axiom_jax.interop.axiom.read import read_axiom as read_axiom

if TYPE_CHECKING:
    from axiom_jax.model import Model
    from axiom_jax.verification.proof.certificate import Certificate


def save_model(
    model: Any,
    path: str | os.PathLike[str],
    certificates: "Iterable[str | os.PathLike[str] | Certificate]" = (),
    metadata: Mapping[str, Any] | None = None,
    *,
    architecture: str | None = None,
) -> Path:
    """Write a model, its weights and certificates into one file, atomically; equal models give equal bytes.

    Args:
        model: a model; a layer, a function or a module is made one.
        path: the file, "model.axiom". What is there is replaced once the new file is whole.
        certificates: files or certificates; each must be about this very network.
        metadata: values of JSON that travel along, by name.
        architecture: "sequential" (layers by name, so that the loaded model equals this one and trains on) or "graph"
            (an ONNX graph, for inference); None takes the first that can express the model.

    Returns:
        The path.

    Raises:
        ModelError: no architecture can express the model (with all reasons), a certificate is about another
            network, or the file cannot be written.

    >>> import tempfile
    >>> from axiom_jax import nn
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = save_model(nn.Sequential(nn.Dense(2, 1), nn.relu), Path(folder, "model.axiom"))
    ...     load_model(path)
    Model('sequential', x: float32[batch, 2] -> y: float32[batch, 1], 3 parameters)
    """
    from axiom_jax.verification.proof.certificate import write_atomically

    content = pack(model, certificates, metadata, architecture=architecture, file=os.fspath(path))
    try:
        write_atomically(Path(path), content)
    except OSError as error:
        raise ModelError("The model cannot be written.", at=os.fspath(path), got=error.strerror or str(error),
                         fix="name a file in a folder that exists and is writable") from error  # fmt: skip
    return Path(path)


def load_model(path: str | os.PathLike[str] | bytes, layers: Mapping[str, Any] | None = None) -> "Model":
    """Read a model that `save_model` wrote.

    Args:
        path: a `.axiom` file, or its bytes.
        layers: the user's own layer classes and functions by name, where the model has such. Nothing is imported for
            a file: what it names is looked up here and among the layers of `axiom_jax.nn`.

    Returns:
        The model: parameters bit for bit, signature, name and source as they were. An architecture "sequential" is
        equal as a pytree, so that it shares compilations with the model that was saved.

    Raises:
        ModelError: the file is missing, cut short, changed, of an unknown version, or names what is not known.
    """
    return build_model(read_axiom(path), layers or {})
