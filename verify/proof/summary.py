"""A verification summary: who has checked a certificate, by what policy, and what was found, signed.

It is for those who trust whoever ran the checker and do not run it themselves; there is no proof in it.
Source: SLSA 1.0, https://slsa.dev/spec/v1.0/verification_summary; RFC 6920 for `ni` URIs.
"""

import base64
import json
import os
import tempfile
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from axiom_jax._errors import CertificateError
from axiom_jax.verification.proof.attestation import STATEMENT, moment, proved_network, sha256
from axiom_jax.verification.proof.binding import check_certificate
from axiom_jax.verification.proof.bundle import is_bundle
from axiom_jax.verification.proof.certificate import (
    CHECKER,
    DERIVATION_CHECKER,
    Checked,
    canonical,
    write_atomically,
)
from axiom_jax.verification.proof.envelope import Envelope, is_envelope, signed
from axiom_jax.verification.proof.keys import read_private, read_trust
from axiom_jax.verification.proof.signing import certificate_inside

PREDICATE = "https://slsa.dev/verification_summary/v1"
VERIFIER = "https://axiom-jax.readthedocs.io/verifier"
POLICY = "https://axiom-jax.readthedocs.io/signing/#who-is-trusted"
LEVELS = {"real": "AXIOM_REAL_EXACT", "float32": "AXIOM_F32_ANYORDER", "bitwise": "AXIOM_BITWISE_REPLAY"}


def write_summary(
    certificate: str | os.PathLike[str],
    key: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    model: Any = None,
    model_file: str | os.PathLike[str] | None = None,
    trusted: str | os.PathLike[str] | None = None,
    threshold: int = 1,
    timeout: float | None = None,
    verifier: str = VERIFIER,
    now: datetime | None = None,
) -> Checked:
    """Check a certificate, and write and sign what was found.

    The result is PASSED where the certificate was accepted and the property holds; an accepted counterexample is
    FAILED, and so is what was rejected.

    Args:
        certificate: a file, signed or not.
        key: the file of the private key. out: where to write.
        model, trusted, threshold, timeout: as of `ax.check_certificate`.
        model_file: the file that the model was read from; it becomes the resource that the summary is about.
        verifier: a URI that names who checked.
        now: the time, in UTC; the present.

    Returns:
        The judgement that was written.

    Raises:
        CertificateError: the certificate is unreadable or holds several proofs, the key or the folder of keys is no
            good, or the summary cannot be written.
        BackendUnavailable: the package `cryptography` is missing.

    Source: SLSA 1.0, https://slsa.dev/spec/v1.0/verification_summary.
    """
    content = _content(certificate)
    if is_bundle(content):
        raise _several(certificate)
    read_private(key)  # so that nobody waits for a check whose summary cannot be signed
    hashed = None if model_file is None else sha256(_content(model_file))
    with tempfile.TemporaryDirectory() as folder:  # what is signed is what was checked
        copy = Path(folder, "a.cert")
        copy.write_bytes(content)
        checked = check_certificate(copy, model, timeout, trusted=trusted, threshold=threshold)
    if checked.unreadable:
        raise CertificateError("The certificate cannot be read.", at=os.fspath(certificate), got=checked.reason,
                               fix="give a certificate file, as axiom verify --certificate writes it")  # fmt: skip
    digest, about = sha256(content), [(Path(certificate).name, sha256(content))]
    passed = False
    if checked.accepted:  # what else a file says is believed only then
        inside = certificate_inside(content, os.fspath(certificate)) if is_envelope(content) else content
        if is_bundle(inside):
            raise _several(certificate)
        whole = json.loads(inside)
        passed = whole["payload"]["claim"] != "violated"
        about += proved_network(whole)  # not what it was read from: that is the certificate's word
    if model_file is not None and hashed is not None:
        about.append((Path(model_file).name, hashed))
    asked = {
        "checkers": {path.name: sha256(path.read_bytes()) for path in (CHECKER, DERIVATION_CHECKER)},
        "modelCompared": model is not None,
        "trustedKeys": [] if trusted is None else sorted(read_trust(trusted).keys),
        "threshold": 0 if trusted is None else threshold,
    }
    reached = [LEVELS.get(level, f"AXIOM_{level.upper()}") for level in checked.levels]
    predicate = {
        "inputAttestations": [{"digest": {"sha256": digest}, "uri": named_information(digest)}],
        "policy": {"annotations": asked, "uri": POLICY},
        "resourceUri": named_information(hashed or digest),
        "slsaVersion": "1.0",
        "timeVerified": moment(now or datetime.now(UTC)),
        "verificationResult": "PASSED" if passed else "FAILED",
        "verifiedLevels": reached if passed else ["FAILED"],
        "verifier": {"id": verifier, "version": {"axiom-jax": version("axiom-jax")}},
    }
    named = [{"digest": {"sha256": known}, "name": name} for name, known in about]
    statement = {"_type": STATEMENT, "predicate": predicate, "predicateType": PREDICATE, "subject": named}
    made = signed(Envelope(canonical(statement)), key)
    try:
        write_atomically(Path(out), made.to_bytes())
    except OSError as error:
        raise CertificateError("The summary cannot be written.", at=os.fspath(out), got=error.strerror or str(error),
                               fix="name a file in a folder that exists and is writable") from error  # fmt: skip
    return checked


def _several(certificate: str | os.PathLike[str]) -> CertificateError:
    return CertificateError("A file of several proofs has no summary as a whole.", at=os.fspath(certificate),
                            got="several proofs", fix="unzip it, and check each file of parts/")  # fmt: skip


def named_information(digest: str) -> str:
    """A URI for the bytes of a sha256.

    Source: RFC 6920, section 3.

    >>> import hashlib
    >>> named_information(hashlib.sha256(b"Hello World!").hexdigest())
    'ni:///sha-256;f4OxZX_x_FO5LcGBSKHWXfwtSx-j1ncoSt3SABJtkGk'
    """
    return "ni:///sha-256;" + base64.urlsafe_b64encode(bytes.fromhex(digest)).decode().rstrip("=")


def _content(path: str | os.PathLike[str]) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise CertificateError("The file cannot be read.", at=os.fspath(path), got=error.strerror or str(error),
                               fix="name a file that is there") from error  # fmt: skip
