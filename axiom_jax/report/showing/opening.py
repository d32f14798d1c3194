"""What is in a file: a certificate of any version, a derivation, several in an archive, or one of these in a signed
envelope. Its form is read; whether it proves anything, and whether a signature is right, is not judged here.

The envelope is that of DSSE (github.com/secure-systems-lab/dsse, v1) around an in-toto Statement.
"""

import base64
import hashlib
import json
import os
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from axiom_jax._errors import CertificateError
from axiom_jax.report.showing.words import printable

FORMATS = ("axiom-certificate", "axiom-derivation")
LARGEST = 1 << 30  # bytes
TYPE = "application/vnd.in-toto+json"
HELD = ("certificate", "bundle", "claims")  # of a statement, and shown as what they are
DAMAGED = (AttributeError, ArithmeticError, IndexError, KeyError, RecursionError, TypeError, ValueError)
Rows = list[tuple[str, str]]


@dataclass(frozen=True)
class Part:
    """One certificate or derivation.

    Args:
        name: in its archive, "" where it is alone. format, version: as the file says.
        payload: not judged. intact: whether its digest is that of the payload. data: the file of it.
    """

    name: str
    format: str
    version: int
    payload: dict[str, Any]
    intact: bool
    data: bytes


@dataclass(frozen=True)
class Opened:
    """A file that was read.

    Args:
        name: of the file. data: its bytes.
        parts: what is in it. statement: of an archive, else None.
        envelope: what the envelope says, where there is one. signed: the ids of keys, not checked.
        inner: the file that a checker takes: without the envelope.
    """

    name: str
    data: bytes
    parts: tuple[Part, ...]
    statement: dict[str, Any] | None = None
    envelope: Rows = field(default_factory=list)
    signed: tuple[str, ...] | None = None
    inner: bytes = b""


def open_file(path: str | os.PathLike[str]) -> Opened:
    """Read a file.

    Raises:
        CertificateError: it is not there, too large, or none of these.
    """
    try:
        with open(path, "rb") as file:
            data = file.read(LARGEST + 1)
    except OSError as error:
        raise CertificateError("The certificate cannot be read.", at=str(path), got=error.strerror,
                               fix="name a file that axiom verify --certificate wrote") from error  # fmt: skip
    return opened(data, Path(path).name, str(path))


def opened(data: bytes, name: str, at: str) -> Opened:
    """What is in the bytes of a file; `at` is for messages.

    Raises:
        CertificateError: they are too many, or none of these.
    """
    if data[:4] == b"PK\x03\x04":
        from axiom_jax.verification.proof.bundle import bundle_of

        bundle = bundle_of(data, at)
        try:
            parts = tuple(_part(json.loads(part), name, part) for name, part in sorted(bundle.parts.items()))
        except DAMAGED as error:
            raise damaged(at, error) from error
        return Opened(name, data, parts, bundle.statement, inner=data)
    try:
        if len(data) > LARGEST:
            raise ValueError("the file is too large")
        whole = json.loads(data)
        if not isinstance(whole, dict):
            raise TypeError("the file holds no object")
        if isinstance(whole.get("payload"), str) and "signatures" in whole:
            return _unwrapped(whole, data, name, at)
        return Opened(name, data, (_part(whole, "", data),), inner=data)
    except DAMAGED as error:
        raise damaged(at, error) from error


def damaged(at: str, error: Exception) -> CertificateError:
    """That a file is no certificate, or not whole."""
    return CertificateError(
        "The file is not a whole certificate.", at=at, got=printable(f"{type(error).__name__}: {error}", 200),
        fix="make it again; a cut or edited certificate cannot be repaired",
    )  # fmt: skip


def compact(value: Any) -> bytes:
    """JSON as certificates are written: sorted, without blanks, ASCII."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode("ascii")


def _part(whole: Any, name: str, data: bytes) -> Part:
    kind, version, payload = whole["format"], whole["version"], whole["payload"]
    if kind not in FORMATS or type(version) is not int or not isinstance(payload, dict):
        raise ValueError(f"the format {printable(kind, 40)!r} is not known")
    return Part(name, kind, version, payload, hashlib.sha256(compact(payload)).hexdigest() == whole["digest"], data)


def _unwrapped(whole: dict[str, Any], data: bytes, name: str, at: str) -> Opened:
    """The certificate, or the archive of several, inside of a signed envelope."""
    statement = json.loads(base64.b64decode(whole["payload"], validate=True))
    predicate = statement["predicate"]
    keys = tuple(printable(entry.get("keyid") or "no id", 200) for entry in whole["signatures"])
    rows = [("payload type", printable(whole.get("payloadType", ""), 200)),
            ("predicate type", printable(statement.get("predicateType", ""), 200))]  # fmt: skip
    subjects = statement.get("subject") or []
    rows += [("subject", printable(f"{s.get('name', '')} {said(s.get('digest', ''))}", 300)) for s in subjects[:10]]
    rows += [(printable(key, 40).replace("_", " "), printable(said(value), 500))
             for key, value in sorted(predicate.items()) if key not in HELD][:40]  # fmt: skip
    rows = [("warning", f"the payload is not of the type {TYPE}")] * (whole.get("payloadType") != TYPE) + rows
    if "certificate" not in predicate:
        from axiom_jax.verification.proof.bundle_attestation import extracted

        several = opened(extracted(predicate["bundle"]), name, at)
        return replace(several, data=data, envelope=rows, signed=keys)
    inside = compact(predicate["certificate"]) + b"\n"
    return Opened(name, data, (_part(predicate["certificate"], "", inside),), None, rows, keys, inside)


def said(value: Any) -> str:
    """A JSON value in a line."""
    if isinstance(value, dict):
        return ", ".join(f"{key} {said(inner)}" for key, inner in value.items())
    if isinstance(value, list):
        parts = [said(part) for part in value]
        return ("; " if any(", " in part for part in parts) else ", ").join(parts)
    return "none" if value is None else str(value)
