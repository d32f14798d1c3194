"""What `axiom keys`, `axiom sign` and the signatures of `axiom check` do."""

from pathlib import Path
from typing import Any

from axiom_jax._errors import CertificateError
from axiom_jax.verification.proof.certificate import Checked
from axiom_jax.verification.proof.envelope import read_envelope
from axiom_jax.verification.proof.keys import Key, new_key, show_key
from axiom_jax.verification.proof.signing import Signatures, sign_certificate, verify_signatures

Facts = dict[str, Any]


def make_key(out: Path, comment: str, force: bool) -> Facts:
    """Make a key pair."""
    return {"private": str(out), "public": f"{out}.pub"} | _facts(new_key(out, comment, force))


def key_facts(path: Path) -> Facts:
    """What a key file holds."""
    return {"file": str(path)} | _facts(show_key(path))


def _facts(key: Key) -> Facts:
    return {"keyid": key.keyid, "comment": key.comment}


def show(facts: Facts) -> None:
    """Facts for people, a line each."""
    for word, value in facts.items():
        if value not in (None, "", []):
            print(f"{word:<13}{', '.join(value) if isinstance(value, list) else value}")


def sign(
    certificate: Path, key: Path, out: Path | None, requirements: list[str], expires: str | None,
    model_signature: Path | None, model_path: str | None,
) -> Facts:  # fmt: skip
    """Sign a certificate, or add a signature."""
    from axiom_jax._cli_verify import read_model

    written = sign_certificate(
        certificate, key, out, requirements=requirements, expires=expires, model_signature=model_signature,
        model=read_model(model_path) if model_path else None,
    )  # fmt: skip
    found = read_envelope(written.read_bytes(), str(written))
    return {"signed": str(written), "keyids": [signature.keyid for signature in found.signatures]}


def check(
    path: Path, model_path: str | None, trusted: Path | None, threshold: int, summary: Path | None, key: Path | None,
    verifier: str | None,
) -> Checked:  # fmt: skip
    """The checker's judgement, that of the signatures, and a summary of both where one is asked for."""
    from axiom_jax._cli_verify import check_file, read_model
    from axiom_jax.verification.proof.summary import VERIFIER, write_summary

    if (summary is None) != (key is None):
        given, other = ("--summary", "--key") if key is None else ("--key", "--summary")
        raise CertificateError(f"{given} needs {other}: a summary is signed.", at="axiom check",
                               fix="axiom check CERT --summary OUT --key KEY")  # fmt: skip
    if summary is None or key is None:
        return check_file(path, model_path, trusted, threshold)
    model = read_model(model_path) if model_path else None
    return write_summary(
        path, key, summary, model=model, model_file=model_path, trusted=trusted, threshold=threshold,
        verifier=verifier or VERIFIER,
    )  # fmt: skip


def verify(path: Path, trusted: Path, threshold: int) -> Signatures:
    """Judge the signatures of a file, not the proof in it."""
    return verify_signatures(path, trusted, threshold)


def show_signatures(found: Signatures) -> None:
    """The judgement for people."""
    print(f"valid: {found.kind}" if found.accepted else f"rejected: {found.reason}")
    for judged in found.signatures:
        words = {True: "valid", False: "bad", None: "not checked: the key is not known"}[judged.valid]
        print(f"  {judged.keyid!r}  {words}{', trusted' if judged.trusted else ''}")
