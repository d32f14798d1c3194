"""The signature of a model by OpenSSF model signing, named in the statement about a certificate.

Such a file lists the files of a model with their hashes. A statement may name it by its own hash where one of these
files is what the certificate's network was read from. The signature itself is for `model_signing verify` to judge.
Source: OpenSSF Model Signing 1.0, https://github.com/sigstore/model-transparency; Sigstore bundle 0.3.
"""

import base64
import hashlib
import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from axiom_jax._errors import CertificateError

MEDIA = "application/vnd.dev.sigstore.bundle"
PREDICATE = "https://model_signing/signature/"
LARGEST = 1 << 28  # bytes


@dataclass(frozen=True)
class ModelSignature:
    """What a file of OpenSSF model signing says; nothing is verified.

    Args:
        name: of the file. sha256: of its bytes. files: the sha256 of each file that it signs, with its name.
    """

    name: str
    sha256: str
    files: tuple[tuple[str, str], ...]

    def to_dict(self, sources: Iterable[str]) -> dict[str, str]:
        """As a statement names it.

        Args:
            sources: hashes of the files that a certificate's network was read from.

        Raises:
            CertificateError: it signs none of these.
        """
        known, asked = dict(self.files), list(sources)
        named = next((known[digest] for digest in asked if digest in known), None)
        if named is None:
            raise CertificateError(
                "The model's signature is about other files than the certificate.", at=self.name,
                got=f"{len(known)} files, none of which the certificate's network was read from",
                fix="sign the folder with the very model file that was verified: model_signing sign key FOLDER …",
            )  # fmt: skip
        return {"file": named, "name": self.name, "sha256": self.sha256}


def read_model_signature(path: str | os.PathLike[str]) -> ModelSignature:
    """Read the file that `model_signing sign` wrote; its signature is not judged.

    Raises:
        CertificateError: it cannot be read, or is no such file.
    """
    try:
        with open(path, "rb") as file:
            content = file.read(LARGEST + 1)
    except OSError as error:
        raise CertificateError("The model's signature cannot be read.", at=os.fspath(path), got=error.strerror,
                               fix="name the file that model_signing sign --signature wrote") from error  # fmt: skip
    try:
        found = json.loads(content)
        statement = json.loads(base64.b64decode(found["dsseEnvelope"]["payload"], validate=True))
        files = tuple(map(_resource, statement["predicate"]["resources"]))
        typed = found["mediaType"].startswith(MEDIA) and statement["predicateType"].startswith(PREDICATE)
        if not typed or not files:
            raise ValueError("it is of another type, or signs no file")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CertificateError("This is no signature of a model.", at=os.fspath(path),
                               got=f"{type(error).__name__}: {error}"[:200],
                               fix="give the file that model_signing sign --signature wrote") from error  # fmt: skip
    return ModelSignature(Path(path).name, hashlib.sha256(content).hexdigest(), files)


def _resource(entry: Any) -> tuple[str, str]:
    """Hash and name of a file; of a part of a file, or with another hash, there is none to compare."""
    whole = entry["algorithm"] == "sha256"
    return (str(entry["digest"]) if whole else ""), str(entry["name"])
