"""The engine behind every face: models by name, their metadata and certificates, and `predict`.

REST, GraphQL and gRPC translate; everything that is decided about a request is decided here.
"""

import os
import re
import tempfile
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from axiom_jax._errors import AxiomError, CertificateError, ModelError
from axiom_jax._shapes_places import caller
from axiom_jax.model import Model
from axiom_jax.serve.lane import Lane
from axiom_jax.serve.limits import Limits, Refusal
from axiom_jax.serve.rows import Guard, finite
from axiom_jax.serve.served import Served

if TYPE_CHECKING:
    from axiom_jax.verification.proof.certificate import Certificate

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")


@dataclass(frozen=True)
class Answer:
    """What a prediction gives.

    Args:
        model, version: that answered.
        outputs: by name.
        digest: sha256 of the model's certificates, in hexadecimal, joined by commas; None without any.
    """

    model: str
    version: str
    outputs: dict[str, np.ndarray]
    digest: str | None = None


class Engine:
    """Models by name, and predictions.

    Use it in the process as it is, or give it to `ax.serve_rest`, `ax.serve_graphql` and `ax.serve_grpc`.

    Args:
        limits: of one request.
        guards: what every answer has to pass; a guard maps the outputs to what is broken, row by row.

    >>> import axiom_jax as ax, numpy as np
    >>> from axiom_jax import nn
    >>> with Engine() as engine:
    ...     _ = engine.add(ax.Sequential(nn.Dense(4, 2), nn.softmax, name="net"))
    ...     engine.predict("net", {"x": np.ones((3, 4), np.float32)}).outputs["y"].shape
    (3, 2)
    """

    def __init__(self, limits: Limits | None = None, guards: Sequence[Guard] = (finite,)):
        self.limits, self.guards = limits or Limits(), tuple(guards)
        self.models: dict[str, Served] = {}
        self._lanes: dict[str, Lane] = {}
        self._locks: dict[str, threading.Lock] = {}

    def __enter__(self) -> "Engine":
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    def add(self, model: Any, *, name: str | None = None, version: str = "1", certificates: Any = (),
            backend: str | None = None, guards: Sequence[Guard] | None = None) -> Served:  # fmt: skip
        """Take a model in: its certificates are checked, then it is compiled for one row.

        Args:
            model: a model, a compiled one (`ax.compile`), or a `.onnx` or `.axiom` file.
            name: for requests; the model's own if None.
            version: for requests.
            certificates: a certificate or several, in memory or as files; each has to be about this very model.
            backend: what computes, as `ax.compile` names it; JAX itself if None.
            guards: in place of the engine's.

        Raises:
            CertificateError: a certificate does not hold, or not for these weights; the model is not served.
            ModelError: the model cannot be read or served.
        """
        found = load(model)
        compiled = found.compiled
        if backend is not None and found.model is not None:
            from axiom_jax.targets.compiling import compile

            compiled = compile(found.model, backend=backend)
        name = name or found.name
        if not NAME.fullmatch(name) or not NAME.fullmatch(version):
            raise AxiomError("A model's name and version are made of letters, digits, '_', '.' and '-'.", at=caller(),
                             got=f"{name!r}, version {version!r}", fix='name="classifier"')  # fmt: skip
        if name in self.models:
            raise AxiomError(f"Two models have the name {name}.", at=caller(), fix="give one another name: name=...")
        proofs = [_checked(certificate, found.model, name) for certificate in (*_several(certificates), *found.proofs)]
        guards = self.guards if guards is None else guards
        served = Served(found.model, name, version, self.limits, guards, proofs, compiled)
        served.warm()
        self._locks[name] = threading.Lock()
        self._lanes[name] = Lane(lambda inputs: self._run(served, inputs), self.limits.pending, name)
        self.models[name] = served
        return served

    def get(self, name: str | None = None, version: str | None = None) -> Served:
        """A model by name; without a name the only one.

        Raises:
            Refusal: there is no such model or version (404), or no name was given and there are several (400).
        """
        known = ", ".join(self.models) or "none"
        if not name:
            if len(self.models) == 1:
                return next(iter(self.models.values()))
            raise Refusal("No model was named.", got=f"models: {known}", fix='name one: "model": "..."')
        served = self.models.get(name)
        if served is None:
            raise Refusal("There is no such model.", status=404, got=_brief(name), fix=f"models: {known}")
        if version and version != served.version:
            raise Refusal(f"{name} has no such version.", status=404, got=_brief(version),
                          fix=f"version {served.version}")  # fmt: skip
        return served

    def predict(self, name: str | None, inputs: Mapping[str, np.ndarray], parameters: Mapping[str, Any] | None = None,
                version: str | None = None) -> Answer:  # fmt: skip
        """Run a model here and now; safe from any thread.

        Args:
            name: of the model; None for the only one.
            inputs: an array for each input, of its dtype.
            parameters: of the request; none has a meaning yet, so they are ignored as the protocol allows.
            version: of the model, or None.

        Raises:
            ShapeError, Refusal, EnsureViolation: see `Served.run`.
        """
        served = self.get(name, version)
        return self._run(served, inputs)

    async def infer(self, name: str | None, inputs: Mapping[str, np.ndarray],
                    parameters: Mapping[str, Any] | None = None, version: str | None = None) -> Answer:  # fmt: skip
        """The same without blocking the event loop: it is computed on the model's own thread."""
        served = self.get(name, version)
        return await self._lanes[served.name].call(inputs)

    def _run(self, served: Served, inputs: Mapping[str, np.ndarray]) -> Answer:
        with self._locks[served.name]:
            outputs = served.run(inputs)
        return Answer(served.name, served.version, outputs, served.digest)

    def close(self) -> None:
        """Finish what was asked, and end the threads."""
        for lane in self._lanes.values():
            lane.close()


def _several(certificates: Any) -> Iterable[Any]:
    return certificates if isinstance(certificates, (list, tuple)) else (certificates,)


@dataclass(frozen=True)
class Loaded:
    """What is to be served.

    Args:
        name: its own, as requests can write it.
        model: None where only a compiled form is known. compiled: from `ax.compile`, or None.
        proofs: certificates that came with it, as files.
    """

    name: str
    model: Model | None
    compiled: Any = None
    proofs: tuple[bytes, ...] = ()


def load(model: Any) -> Loaded:
    """A model or a compiled one as it is; a `.onnx` or `.axiom` file is read, with the certificates inside.

    Raises:
        ModelError: it is none of these, or the file cannot be read.

    >>> load(5)
    Traceback (most recent call last):
    axiom_jax.ModelError: Only a model can be served.
    ...
    """
    proofs: tuple[bytes, ...] = ()
    if isinstance(model, Loaded):
        return model
    if isinstance(model, (str, os.PathLike)):
        path = os.fspath(model)
        if path.endswith((".onnx", ".onnx.gz")):
            from axiom_jax.interop.onnx.reader import from_onnx

            model = from_onnx(path)
        elif path.endswith(".axiom"):
            from axiom_jax.interop.axiom.read import CERTIFICATES, build_model, read_axiom

            file = read_axiom(path)
            model = build_model(file, {})
            proofs = tuple(data for name, data in sorted(file.members.items()) if name.startswith(CERTIFICATES))
        else:
            raise ModelError("This is no model file.", at=path, fix="give a .onnx or .axiom file")
    name = re.sub(r"[^A-Za-z0-9_.-]", "-", str(getattr(model, "name", ""))) or "model"
    if isinstance(model, Model):
        return Loaded(name, model, None, proofs)
    if callable(model) and hasattr(model, "record") and hasattr(model, "inputs"):
        return Loaded(name, None, model)
    raise ModelError("Only a model can be served.", at=caller(), got=type(model).__name__,
                     fix="make one: ax.Sequential(...), @ax.axiom, ax.from_onnx(path)")  # fmt: skip


def _checked(certificate: "Certificate | str | os.PathLike[str] | bytes", model: Model | None, name: str) -> bytes:
    """A certificate's file, after the checker has accepted it for this very model."""
    from axiom_jax.verification.proof.binding import check_certificate
    from axiom_jax.verification.proof.certificate import Certificate

    at = os.fspath(certificate) if isinstance(certificate, (str, os.PathLike)) else None
    if model is None:
        what = f"{name} is compiled: its weights cannot be compared with a certificate."
        raise CertificateError(what, at=at, fix="give the model itself: ax.serve_rest(model, backend=...)")
    if isinstance(certificate, Certificate):
        data = certificate.to_bytes()
    else:
        data = certificate if isinstance(certificate, bytes) else _bytes(Path(certificate))
    with tempfile.TemporaryDirectory() as folder:  # what is checked is what is served, whatever happens to the file
        copy = Path(folder, "served.cert")
        copy.write_bytes(data)
        checked = check_certificate(copy, model)
    if not checked.accepted:
        raise CertificateError(f"{name} is not served: its certificate does not hold for it.", at=at,
                               got=checked.reason, fix="certify this model, or serve the one it is about")  # fmt: skip
    return data


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise CertificateError("The certificate cannot be read.", at=str(path), got=error.strerror,
                               fix="name a file that axiom verify --certificate wrote") from None  # fmt: skip


def _brief(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:57] + "...")
