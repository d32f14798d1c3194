"""Judging certificates, and whether one is about a given model."""

import os
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

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


def check_certificate(
    certificate: "str | os.PathLike[str] | Certificate",
    model: "Model | Subject | None" = None,
    timeout: float | None = None,
) -> Checked:
    """Re-check a certificate with `checker.py` in an interpreter of its own.

    Args:
        certificate: a file or a certificate in memory.
        model: the model that it must be about: its operations and every bit of its weights are compared.
        timeout: seconds for the checker, or None.

    Returns:
        The judgement, with what was proved in words. `raise_if_rejected()` turns a refusal into an error.
    """
    if isinstance(certificate, Certificate):
        with tempfile.TemporaryDirectory() as folder:
            return check_certificate(save_certificate(certificate, Path(folder, "a.cert")), model, timeout)
    if not Path(certificate).is_file():
        return Checked(False, f"there is no file {certificate}", unreadable=True)
    checked = run_checker(certificate, timeout)
    if not checked.accepted or model is None:
        return checked
    subject = model if isinstance(model, Subject) else subject_of(model)
    if differs := difference(load_certificate(certificate), subject):
        reason = f"it is about another network than {subject.name}: {differs}"
        return replace(checked, accepted=False, levels=(), reason=reason)
    return replace(checked, statement=f"{checked.statement}\nThe network is {subject.name}: every weight was compared.")


def difference(certificate: Certificate, model: "Model | Subject") -> str | None:
    """Why a certificate is about another network than a model, in words; None if it is about this very one.

    Whether the certificate proves anything is for the checker to judge: `check_certificate`.
    """
    subject = model if isinstance(model, Subject) else subject_of(model)
    try:
        return _difference(certificate.payload["model"], exactly(subject).model)
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
