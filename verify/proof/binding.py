"""Judging certificates, and whether one is about a given model.

A certificate is read once: what the checker judges and what is compared with the model are the same bytes.
"""

import hashlib
import os
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

from axiom_jax._errors import CertificateError
from axiom_jax._gzip import MODEL, unpacked
from axiom_jax.verification.proof.certificate import (
    Certificate,
    Checked,
    certificate_of,
    content_of,
    run_checker,
)
from axiom_jax.verification.proof.compiled import coarse, recompiled
from axiom_jax.verification.proof.exact import exactly
from axiom_jax.verification.proof.float32 import obstacle
from axiom_jax.verification.proof.lowered import compared
from axiom_jax.verification.proof.replay import Replay, boxes_of, replay
from axiom_jax.verification.search.margins import Subject, subject_of
from axiom_jax.verification.spec.vnnlib2_meaning import KEY, misstated
from axiom_jax.verification.spec.vnnlib2_writing import output_size

if TYPE_CHECKING:
    from axiom_jax.model import Model
    from axiom_jax.verification.proof.bundle import Bundle
    from axiom_jax.verification.proof.derivation import Derivation


def check_certificate(
    certificate: "str | os.PathLike[str] | Certificate | Derivation | Bundle",
    model: "Model | Subject | None" = None,
    timeout: float | None = None,
    properties: "Iterable[Any] | None" = None,
    trusted: str | os.PathLike[str] | None = None,
    threshold: int = 1,
) -> Checked:
    """Re-check a certificate with `checker.py` or `derivation_checker.py` in an interpreter of its own.

    Args:
        certificate: a file, signed or not, or a certificate in memory.
        model: the model that it must be about: its operations and every bit of its weights are compared, and the hash
            of the file it was read from. If that is an ONNX file that is at hand, a second reader evaluates it exactly
            at seeded points, and the certificate's program must give the same numbers.
        timeout: seconds for the checker, or None.
        properties: of a file of several proofs, those that it cannot hold, such as `ax.Custom` with its function.
        trusted: a folder of public keys: only what they signed is accepted. See docs/signing.md.
        threshold: how many different trusted keys must have signed it.

    Returns:
        The judgement, with what was proved in words. `raise_if_rejected()` turns a refusal into an error.
    """
    try:
        content = _content(certificate)
    except OSError as error:
        return Checked(False, f"there is no file {certificate} that can be read: {error.strerror}", unreadable=True)
    except (AttributeError, KeyError, RecursionError, TypeError, ValueError) as error:
        return Checked(False, f"it cannot be written: {type(error).__name__}: {error}"[:200], unreadable=True)
    at = str(certificate) if isinstance(certificate, (str, os.PathLike)) else "the certificate"
    if (found := _signed(content, at, model, timeout, trusted, threshold, properties)) is not None:
        return found
    if (several := _several(content, at)) is not None:
        return several if isinstance(several, Checked) else _check_bundle(several, model, timeout, properties)
    return bind(_judged(content, timeout), content, at, model)


def bind(checked: Checked, content: bytes, at: str, model: "Model | Subject | None") -> Checked:
    """The judgement; refused where the certificate's VNN-LIB text means other cases, or it is not about this model."""
    if not checked.accepted:
        return checked
    refused = lambda reason: replace(checked, accepted=False, levels=(), reason=reason)
    found = certificate_of(content, at)
    if isinstance(found, Certificate) and (lies := other_text(found)) is not None:
        return refused(f"its VNN-LIB 2.0 text does not mean what was proved: {lies}")
    if model is None:
        return checked
    subject = model if isinstance(model, Subject) else subject_of(model)
    if not isinstance(found, Certificate):
        return refused("it is a derivation: a statement about all arrays, not about a network")
    if differs := difference(found, subject):
        return refused(f"it is about another network than {subject.name}: {differs}")
    if "float32" in checked.levels:
        profile = found.payload["profile"]
        if (reason := obstacle(subject, profile) or coarse(subject, profile)) is not None:
            return refused(f"level float32 cannot speak of {subject.name}: {reason}")
    if differs := source_difference(found.payload["model"]["source"], subject.source):
        return refused(f"it was not made from {subject.name}: {differs}")
    lines = [f"The network is {subject.name}: every weight was compared."]
    for said in (compared, recompiled):
        if (line := said(found.payload["model"]["source"], subject)) is not None:
            lines.append(line)
    if (again := replayed_file(subject, found.payload["property"]["cases"])) is not None:
        if again.differs:
            return refused(f"a second reader of the file of {subject.name} disagrees: {again.differs}")
        lines.append(f"The file {_origin(found, subject)}; {again.text}.")
    return replace(checked, statement="\n".join([checked.statement, *lines]))


def _signed(
    content: bytes, at: str, model: Any, timeout: float | None, trusted: Any, threshold: int, properties: Any
) -> Checked | None:
    """The judgement of a signed file, or why an unsigned one does not do; None where it may go on unsigned."""
    from axiom_jax.verification.proof.envelope import is_envelope
    from axiom_jax.verification.proof.signing import check_signed, trust_asked

    if is_envelope(content):
        return check_signed(content, at, model, timeout, trusted, threshold, properties=properties)
    if trust_asked(trusted, threshold) is None:
        return None
    return Checked(False, "unsigned: no trusted key has signed it")


def _content(certificate: Any) -> bytes:
    """The bytes of a certificate, read once."""
    if isinstance(certificate, (str, os.PathLike)):
        return Path(certificate).read_bytes()
    return content_of(certificate)


def _judged(content: bytes, timeout: float | None) -> Checked:
    """The checker's judgement of these bytes, in a private folder that nobody else can change."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "a.cert")
        path.write_bytes(content)
        return run_checker(path, timeout)


def _several(content: bytes, at: str) -> "Bundle | Checked | None":
    """The bundle in the bytes of a file, the judgement that it is a broken one, or None if it is none."""
    from axiom_jax.verification.proof.bundle import bundle_of, is_bundle

    try:
        return bundle_of(content, at) if is_bundle(content) else None
    except CertificateError as error:
        return Checked(False, getattr(error, "got", None) or str(error), unreadable=True)


def _check_bundle(several: "Bundle", model: Any, timeout: float | None, properties: Any) -> Checked:
    from axiom_jax.verification.proof.bundle import check_bundle

    return check_bundle(several, model, timeout, properties)


def other_text(certificate: Certificate) -> str | None:
    """What the VNN-LIB 2.0 text that a certificate may hold says otherwise than its cases; None if nothing.

    The checker does not read it. The certificate is one that the checker accepted.
    """
    payload = certificate.payload
    if KEY not in payload["meta"]:
        return None
    return misstated(payload["meta"][KEY], payload["property"]["cases"], output_size(payload["model"]))


def difference(certificate: Certificate, model: "Model | Subject") -> str | None:
    """Why a certificate is about another network than a model, in words; None if it is about this very one.

    Whether the certificate proves anything is for the checker to judge: `check_certificate`.
    """
    subject = model if isinstance(model, Subject) else subject_of(model)
    exact = exactly(subject)
    if exact.missing is not None:
        return f"certificates cannot express it: {exact.missing}"
    try:
        return _difference(certificate.payload["model"], exact.model)
    except (KeyError, TypeError, AttributeError):
        return "it does not describe a network"


def _difference(recorded: dict[str, Any], manifest: dict[str, Any]) -> str | None:
    """What differs between the network of a certificate and a model, in words; names do not matter, bits do."""
    if not manifest:
        return "it has operations that certificates cannot express"
    (program, tensors), (expected, own) = _numbered(recorded), _numbered(manifest)
    if program != expected:
        return "its operations differ"
    if len(recorded["tensors"]) != len(manifest["tensors"]):
        return "it has other tensors"
    changed = [name for (name, entry), (_, mine) in zip(own, tensors, strict=True) if mine != entry]
    return f"the values of {', '.join(changed[:3])} differ" if changed else None


def _numbered(model: dict[str, Any]) -> tuple[dict[str, Any], list[tuple[str, Any]]]:
    """A program with its tensors numbered in order of use, and their names and entries in that order."""
    order: dict[str, int] = {}
    nodes = [
        {key: order.setdefault(value, len(order)) if key in ("name", "index") else value for key, value in node.items()}
        for node in model["program"]["nodes"]
    ]
    return {**model["program"], "nodes": nodes}, [(name, model["tensors"][name]) for name in order]


def source_difference(recorded: Any, source: Mapping[str, str]) -> str | None:
    """Which hash of the ONNX file that a model was read from a certificate names otherwise, in words; None if none.

    Digests of `.axiom` files and of StableHLO say how a model is written: another one is no other network.

    >>> source_difference({"onnx": "ab" * 32}, {"onnx": "cd" * 32})
    'its file has the onnx hash cdcdcdcdcdcd…, the certificate names abababababab…'
    """
    for kind, digest in sorted(source.items()):
        if kind.startswith("onnx") and isinstance(recorded, dict) and recorded.get(kind, digest) != digest:
            return f"its file has the {kind} hash {digest[:12]}…, the certificate names {recorded[kind][:12]}…"
    return None


def _origin(certificate: Certificate, subject: Subject) -> str:
    named = "onnx" in certificate.payload["model"]["source"]
    return f"is the one that the certificate names (sha256 {subject.source['onnx'][:12]}…)" if named else (
        "is not named by the certificate"
    )  # fmt: skip


def replayed_file(subject: Subject, cases: Any) -> Replay | None:
    """Replay a model's exact program against its ONNX file; None if it came from no such file.

    Points are of the boxes of the cases, or between −1 and 1 where there are none.
    The file is read again: its hash must be that of the bytes that the model was made of.
    """
    if "onnx" not in subject.source:
        return None
    file = getattr(subject.apply, "file", None)
    content = _uncompressed(file) if isinstance(file, str) else None
    if content is None or hashlib.sha256(content).hexdigest() != subject.source["onnx"]:
        return Replay(reason="the file that the model was read from is not at hand, or was changed since")
    exact, one = exactly(subject), [Fraction(1)] * subject.size
    if exact.missing is not None:
        return Replay(reason=f"certificates cannot express it: {exact.missing}")
    boxes = boxes_of(cases) or [([-x for x in one], one)]
    return replay(exact.network, content, boxes, [s.shape for s in subject.specs])


def _uncompressed(file: str) -> bytes | None:
    try:
        return unpacked(Path(file).read_bytes(), MODEL)
    except (OSError, ValueError):
        return None
