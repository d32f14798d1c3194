"""Judging certificates, and whether one is about a given model."""

import os
import tempfile
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from axiom_jax._errors import CertificateError
from axiom_jax.verification.proof.certificate import (
    Certificate,
    Checked,
    load_certificate,
    run_checker,
    save_certificate,
)
from axiom_jax.verification.proof.exact import exactly
from axiom_jax.verification.search.margins import Subject, subject_of

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
        model: the model that it must be about: its operations and every bit of its weights are compared.
        timeout: seconds for the checker, or None.
        properties: of a file of several proofs, those that it cannot hold, such as `ax.Custom` with its function.
        trusted: a folder of public keys: only what they signed is accepted. See docs/signing.md.
        threshold: how many different trusted keys must have signed it.

    Returns:
        The judgement, with what was proved in words. `raise_if_rejected()` turns a refusal into an error.
    """
    if not isinstance(certificate, (str, os.PathLike)):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "a.cert")
            try:
                save_certificate(certificate, path)
            except (AttributeError, KeyError, RecursionError, TypeError, ValueError) as error:
                return Checked(False, f"it cannot be written: {type(error).__name__}: {error}"[:200], unreadable=True)
            return check_certificate(path, model, timeout, properties, trusted, threshold)
    if not Path(certificate).is_file():
        return Checked(False, f"there is no file {certificate}", unreadable=True)
    if (found := _signed(certificate, model, timeout, trusted, threshold)) is not None:
        return found
    if (several := _several(certificate)) is not None:
        return several if isinstance(several, Checked) else _check_bundle(several, model, timeout, properties)
    checked = run_checker(certificate, timeout)
    if not checked.accepted or model is None:
        return checked
    subject = model if isinstance(model, Subject) else subject_of(model)
    found = load_certificate(certificate)
    if not isinstance(found, Certificate):
        reason = "it is a derivation: a statement about all arrays, not about a network"
        return replace(checked, accepted=False, levels=(), reason=reason)
    if differs := difference(found, subject):
        reason = f"it is about another network than {subject.name}: {differs}"
        return replace(checked, accepted=False, levels=(), reason=reason)
    return replace(checked, statement=f"{checked.statement}\nThe network is {subject.name}: every weight was compared.")


def _signed(
    path: "str | os.PathLike[str]", model: Any, timeout: float | None, trusted: Any, threshold: int
) -> Checked | None:
    """The judgement of a signed file, or why an unsigned one does not do; None where it may go on unsigned."""
    from axiom_jax.verification.proof.envelope import is_envelope
    from axiom_jax.verification.proof.signing import check_signed, trust_asked

    try:
        content = Path(path).read_bytes()
    except OSError as error:
        return Checked(False, error.strerror or str(error), unreadable=True)
    if is_envelope(content):
        return check_signed(content, path, model, timeout, trusted, threshold)
    if trust_asked(trusted, threshold) is None:
        return None
    return Checked(False, "unsigned: no trusted key has signed it")


def _several(path: "str | os.PathLike[str]") -> "Bundle | Checked | None":
    """The bundle in a file, the judgement that it is a broken one, or None if it is none."""
    from axiom_jax.verification.proof.bundle import bundle_of, is_bundle

    try:
        content = Path(path).read_bytes()
        return bundle_of(content, str(path)) if is_bundle(content) else None
    except (OSError, CertificateError) as error:
        return Checked(False, getattr(error, "got", None) or str(error), unreadable=True)


def _check_bundle(several: "Bundle", model: Any, timeout: float | None, properties: Any) -> Checked:
    from axiom_jax.verification.proof.bundle import check_bundle

    return check_bundle(several, model, timeout, properties)


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
    if recorded["program"] != manifest["program"]:
        return "its operations differ"
    if recorded["tensors"].keys() != manifest["tensors"].keys():
        return "it has other tensors"
    changed = [name for name, entry in manifest["tensors"].items() if recorded["tensors"][name] != entry]
    return f"the values of {', '.join(changed[:3])} differ" if changed else None
