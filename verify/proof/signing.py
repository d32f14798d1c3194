"""Signed certificates: one file with the proof, what it proves, and who says so.

The file is a DSSE envelope around an in-toto statement that holds the certificate. Signing re-checks the proof first;
checking a signed file judges the signatures, then the proof inside, then whether the statement says no more than it.
"""

import os
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from axiom_jax._errors import CertificateError
from axiom_jax.verification.proof.attestation import (
    NAMED,
    Words,
    certificate_in,
    expiry,
    overstated,
    parse_moment,
    parse_statement,
    statement_of,
)
from axiom_jax.verification.proof.certificate import (
    Checked,
    canonical,
    save_certificate,
    write_atomically,
)
from axiom_jax.verification.proof.envelope import (
    INTOTO,
    Envelope,
    Judged,
    is_envelope,
    judge_signatures,
    read_envelope,
    signed,
)
from axiom_jax.verification.proof.keys import Trust, read_trust
from axiom_jax.verification.proof.model_signature import read_model_signature

if TYPE_CHECKING:
    from axiom_jax.verification.proof.certificate import Certificate
    from axiom_jax.verification.proof.derivation import Derivation

SUFFIX = ".signed.json"
NOT_CHECKED = "signature not checked"  # what the checkers say, who cannot


@dataclass(frozen=True)
class Signatures:
    """What trusted keys say of a signed file; the proof in it was not judged.

    Args:
        accepted: whether enough of them signed it, it has not expired, and nothing of it is revoked. reason: why not.
        signatures: what was found of each. kind: the predicate's type.
    """

    accepted: bool
    reason: str | None
    signatures: tuple[Judged, ...]
    kind: str | None = None

    def raise_if_rejected(self) -> "Signatures":
        """Raise `CertificateError` unless accepted; returns itself."""
        if not self.accepted:
            raise CertificateError(f"The signatures were rejected: {self.reason}.",
                                   fix="do not rely on the file; ask who is said to have signed it")  # fmt: skip
        return self

    def to_dict(self) -> dict[str, Any]:
        """As `--json` prints it."""
        found = [judged.to_dict() for judged in self.signatures]
        return {"accepted": self.accepted, "reason": self.reason, "kind": self.kind, "signatures": found}


def sign_certificate(
    certificate: "str | os.PathLike[str] | Certificate | Derivation",
    key: str | os.PathLike[str],
    out: str | os.PathLike[str] | None = None,
    *,
    requirements: Iterable[str] = (),
    expires: str | date | None = None,
    assumptions: Iterable[str] = (),
    not_covered: Iterable[str] = (),
    model_signature: str | os.PathLike[str] | None = None,
    model: Any = None,
    properties: Iterable[Any] | None = None,
) -> Path:
    """Check a certificate, and sign what it proves; or add a signature to a signed file.

    Args:
        certificate: a file, signed or not, or a certificate in memory.
        key: the file of the private key.
        out: where to write; by default beside the certificate, with the suffix `.signed.json`; a file that is signed
            already is replaced by itself with one more signature.
        requirements: ids of requirements that the property is evidence for.
        expires: the last day, or a time, UTC where no zone is named.
        assumptions, not_covered: further lines, beyond those that are always there.
        model_signature: a file of OpenSSF model signing that the statement shall name by its hash; it must sign the
            file that the certificate's network was read from.
        model: the model that it must be about. Without it the claims of a file of several proofs are not compared with
            its parts, and the statement says so.
        properties: of such a file, those that it cannot hold: see `ax.check_certificate`.

    Returns:
        The path of the signed file.

    Raises:
        CertificateError: the certificate is rejected, the key or the date is no good, or the file of `out` is there
            already.
        BackendUnavailable: the package `cryptography` is missing.

    Source: DSSE 1.0 (https://github.com/secure-systems-lab/dsse), in-toto Statement v1.
    """
    words = Words(_lines("requirements", requirements), expiry(expires), _lines("assumptions", assumptions),
                  _lines("not_covered", not_covered),
                  None if model_signature is None else read_model_signature(model_signature))  # fmt: skip
    if not isinstance(certificate, (str, os.PathLike)):
        if out is None:
            raise CertificateError("A certificate in memory has no name for its signed file.", got="out=None",
                                   fix='ax.sign_certificate(certificate, key, "net.signed.json")')  # fmt: skip
        with tempfile.TemporaryDirectory() as folder:
            path = save_certificate(certificate, Path(folder, "a.cert"))
            made = _signed_anew(path, path.read_bytes(), key, words, model, properties)
            return _write(Path(out), made, at=None)
    path = Path(certificate)
    content = _content(path)
    if is_envelope(content):
        if words != Words():
            raise CertificateError("What is signed already cannot be changed.", at=str(path),
                                   got="requirements, a date or other words with a file that is signed",
                                   fix="sign the certificate itself with them")  # fmt: skip
        made = signed(_whole(path, content, model, properties), key)
        return _write(Path(out) if out is not None else path, made, at=path)
    made = _signed_anew(path, content, key, words, model, properties)
    return _write(Path(out) if out is not None else path.with_suffix(SUFFIX), made, at=path)


def _lines(name: str, given: Iterable[str]) -> tuple[str, ...]:
    """Texts; one alone is one text, not its letters."""
    found = (given,) if isinstance(given, str) else tuple(given)
    if not all(isinstance(line, str) for line in found):
        raise CertificateError(f"What {name} lists is no text.", at=name, got=repr(found)[:100],
                               fix=f'{name}=["…", "…"]')  # fmt: skip
    return found


def _signed_anew(
    path: Path, content: bytes, key: str | os.PathLike[str], words: Words, model: Any, properties: Iterable[Any] | None
) -> Envelope:
    from axiom_jax.verification.proof.binding import check_certificate
    from axiom_jax.verification.proof.bundle import is_bundle

    with tempfile.TemporaryDirectory() as folder:  # so that what is signed is what was checked
        copy = Path(folder, "a.cert")
        copy.write_bytes(content)
        checked = check_certificate(copy, model, properties=properties)
    if not checked.accepted:
        raise _refused(path, checked)
    if is_bundle(content):
        from axiom_jax.verification.proof.bundle_attestation import bundle_statement

        return signed(Envelope(canonical(bundle_statement(content, words, model is not None))), key)
    return signed(Envelope(canonical(statement_of(_ended(content), checked, words))), key)


def _ended(content: bytes) -> bytes:
    """The file with the line end that `to_bytes` writes; checkers take it without, too."""
    return content.removesuffix(b"\n") + b"\n"


def _whole(path: Path, content: bytes, model: Any, properties: Iterable[Any] | None) -> Envelope:
    """A signed file that is good but for signatures, which need keys that are not here."""
    checked = check_signed(content, path, model, properties=properties)
    if not checked.accepted:
        raise _refused(path, checked)
    return read_envelope(content, str(path))


def _refused(path: Path, checked: Checked) -> CertificateError:
    return CertificateError("The certificate is not signed: its check failed.", at=str(path), got=checked.reason,
                            fix="make it again from the model and the property")  # fmt: skip


def _write(out: Path, made: Envelope, at: Path | None) -> Path:
    """Write the signed file; what is there is replaced only if it is the file that was read, with its signatures."""
    try:
        if out.exists() and not (at is not None and out.samefile(at) and len(made.signatures) > 1):
            raise CertificateError("There is a file already, and its signatures would be lost.", at=str(out),
                                   fix="sign that file to add a signature, or name another with --out")  # fmt: skip
        write_atomically(out, made.to_bytes())
    except OSError as error:
        raise CertificateError("The signed file cannot be written.", at=str(out), got=error.strerror or str(error),
                               fix="name a file in a folder that exists and is writable") from error  # fmt: skip
    return out


def check_signed(
    content: bytes,
    path: str | os.PathLike[str],
    model: Any = None,
    timeout: float | None = None,
    trusted: str | os.PathLike[str] | None = None,
    threshold: int = 1,
    now: datetime | None = None,
    properties: Iterable[Any] | None = None,
) -> Checked:
    """Judge the bytes of a signed file: signatures, the proof, and whether the statement says no more than it.

    Args:
        path: where they are from: a weights file may lie beside it.
        model, timeout, properties: as of `check_certificate`.
        trusted: a folder of public keys; without it signatures are counted, not checked.
        threshold: how many different trusted keys must have signed.
        now: the time that must not be past the statement's end; the present.
    """
    from axiom_jax.verification.proof.binding import check_certificate

    trust = trust_asked(trusted, threshold)
    try:
        envelope = read_envelope(content, os.fspath(path))
    except CertificateError as error:
        return Checked(False, f"{error.what} {error.got}", unreadable=True)
    judged, problem = _judged(envelope, trust, threshold)
    if problem is not None:
        return Checked(False, problem, signatures=judged)
    try:
        statement = _statement(envelope)
        inside = certificate_in(statement)
    except CertificateError as error:
        return Checked(False, f"{error.what} {error.got}", unreadable=True, signatures=judged)
    if (problem := _ended_or_revoked(statement, trust, now)) is not None:
        return Checked(False, problem, signatures=judged)
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder, "a.cert")
        copy.write_bytes(inside)
        checked = check_certificate(copy, model, timeout, properties)
    if checked.accepted and (problem := overstated(statement, inside, checked)) is not None:
        checked = Checked(False, f"the statement is not what the certificate proves: {problem}")
    if not checked.accepted:
        return replace(checked, signatures=judged)
    lines = [line for line in checked.statement.splitlines() if line.strip() != NOT_CHECKED]
    lines += [*_told(statement["predicate"]), *_signers(judged, trust)]
    return replace(checked, statement="\n".join(lines), signatures=judged)


def verify_signatures(
    path: str | os.PathLike[str],
    trusted: str | os.PathLike[str],
    threshold: int = 1,
    now: datetime | None = None,
) -> Signatures:
    """Judge the signatures of a file, not the proof in it: of certificates, of verification summaries, of any in-toto
    statement in a DSSE envelope.

    Args:
        path: the file. trusted: the folder of public keys, with `revoked.json` or without.
        threshold: how many different trusted keys must have signed.
        now: the time that must not be past the statement's end; the present.

    Raises:
        CertificateError: the file cannot be read, or the folder is no good.
        BackendUnavailable: the package `cryptography` is missing.

    Source: DSSE 1.0, https://github.com/secure-systems-lab/dsse.
    """
    trust, content = trust_asked(trusted, threshold), _content(Path(path))
    if not is_envelope(content):
        return Signatures(False, "unsigned: the file is no signed envelope", ())
    envelope = read_envelope(content, os.fspath(path))
    judged, problem = _judged(envelope, trust, threshold)
    if problem is not None:
        return Signatures(False, problem, judged)
    statement = _statement(envelope)
    problem = _ended_or_revoked(statement, trust, now)
    return Signatures(problem is None, problem, judged, statement["predicateType"])


def certificate_inside(content: bytes, at: str) -> bytes:
    """The file of the certificate in a signed file; nothing is judged.

    Raises:
        CertificateError: it is no signed certificate.
    """
    try:
        return certificate_in(_statement(read_envelope(content, at)))
    except CertificateError as error:
        error.at = at
        raise


def trust_asked(trusted: str | os.PathLike[str] | None, threshold: int) -> Trust | None:
    """The keys of a folder, or None where none is named.

    Raises:
        CertificateError: the folder is no good, or the threshold is none.
    """
    if threshold < 1 or (trusted is None and threshold > 1):
        raise CertificateError("The threshold is a number of trusted keys.", at="threshold", got=str(threshold),
                               fix="give 1 or more, and the folder of trusted keys")  # fmt: skip
    return None if trusted is None else read_trust(trusted)


def _judged(envelope: Envelope, trust: Trust | None, threshold: int) -> tuple[tuple[Judged, ...], str | None]:
    """What was found of the signatures, and why they are not enough; without keys they are counted only."""
    if trust is None:
        return tuple(Judged(signature.keyid) for signature in envelope.signatures), None
    return judge_signatures(envelope, trust, threshold)


def _statement(envelope: Envelope) -> dict[str, Any]:
    if envelope.payload_type != INTOTO:
        raise CertificateError("The payload is no in-toto statement.", got=envelope.payload_type[:200],
                               fix=f"give a file whose payloadType is {INTOTO}")  # fmt: skip
    return parse_statement(envelope.payload)


def _ended_or_revoked(statement: dict[str, Any], trust: Trust | None, now: datetime | None) -> str | None:
    """Why a statement holds no longer, or None."""
    predicate = statement["predicate"]
    expires = predicate.get("expires") if isinstance(predicate, dict) else None
    if expires is not None:
        try:
            if (now or datetime.now(UTC)) > parse_moment(expires):
                return f"the statement expired at {expires}"
        except (TypeError, ValueError):
            return "its field expires is no time"
    if trust is None:
        return None
    named = {subject["digest"]["sha256"]: subject["name"] for subject in statement["subject"]}
    model = predicate.get(NAMED) if isinstance(predicate, dict) else None
    if isinstance(model, dict) and isinstance(model.get("sha256"), str):
        named[model["sha256"]] = "the model's signature"
    for name, inner in _certificates(predicate):
        if isinstance(inner, dict) and isinstance(inner.get("digest"), str):
            named[inner["digest"]] = name
    gone = [f"{name[:200]!r} {digest}" for digest, name in sorted(named.items()) if digest in trust.revoked]
    return f"{gone[0]} is revoked" if gone else None


def _certificates(predicate: Any) -> list[tuple[str, Any]]:
    """The certificates in a statement, not judged, by name."""
    if not isinstance(predicate, dict):
        return []
    several = predicate.get("bundle")
    parts = several.get("parts") if isinstance(several, dict) else None
    return [("certificate", predicate.get("certificate")), *(parts.items() if isinstance(parts, dict) else ())]


def _told(predicate: dict[str, Any]) -> list[str]:
    """What the signer says, for people."""
    if "claims" in predicate:
        from axiom_jax.verification.proof.bundle_attestation import told

        lines = told(predicate)
    else:
        lines = [f"signed       at {predicate['time']}, with {predicate['checker']['name']} of axiom-jax "
                 f"{predicate['checker']['version'][:40]!r}"]  # fmt: skip
    if named := ", ".join(map(repr, predicate["requirements"])):
        lines.append(f"requirements {named[:2000]}")
    if NAMED in predicate:
        name, digest, file = (predicate[NAMED][key] for key in ("name", "sha256", "file"))
        lines.append(f"model signed {name[:200]!r} sha256 {digest} with {file[:200]!r} in it; "
                     "not judged here: model_signing verify does")  # fmt: skip
    return lines + [f"expires      {predicate['expires']}"] * (predicate["expires"] is not None)


def _signers(judged: tuple[Judged, ...], trust: Trust | None) -> list[str]:
    if trust is None:
        count = f"{len(judged)} signature{'s' * (len(judged) != 1)}"
        return [f"signatures   {count}, not checked: --trusted DIR names the keys to trust"]
    counted = dict.fromkeys(j.keyid for j in judged if j.trusted and j.valid)
    named = [f"signature    {keyid} {trust.keys[keyid].comment!r}: valid, trusted" for keyid in counted]
    return named + [f"signature    {j.keyid[:64]!r}: not by a trusted key" for j in judged if j.keyid not in counted]


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise CertificateError("The certificate cannot be read.", at=str(path), got=error.strerror,
                               fix="give a file, as axiom verify --certificate writes it") from error  # fmt: skip
