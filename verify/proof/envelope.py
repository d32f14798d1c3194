"""DSSE envelopes: bytes with a type, and signatures of both.

What is signed is the pre-authentication encoding of type and payload, so nothing has to be parsed before it is
verified, and a signature of one type is none of another.
Source: DSSE 1.0, https://github.com/secure-systems-lab/dsse, protocol.md and envelope.md.
"""

import base64
import binascii
import json
import os
from dataclasses import dataclass, replace
from typing import Any

from axiom_jax._errors import CertificateError
from axiom_jax.verification.proof.certificate import canonical
from axiom_jax.verification.proof.keys import Key, Trust, read_private

INTOTO = "application/vnd.in-toto+json"
MOST = 256  # signatures of an envelope
LARGEST = 1 << 31  # bytes of a file


@dataclass(frozen=True)
class Signature:
    """One signature: whose it says it is (a hint, not signed; may be ""), and its bytes."""

    keyid: str
    sig: bytes


@dataclass(frozen=True)
class Judged:
    """What was found of one signature.

    Args:
        keyid: of the key that verified it, else as it says. trusted: whether that key is trusted and not revoked.
        valid: whether it was verified; None where its key is not known.
    """

    keyid: str
    trusted: bool = False
    valid: bool | None = None

    def to_dict(self) -> dict[str, Any]:
        return {"keyid": self.keyid, "trusted": self.trusted, "valid": self.valid}


@dataclass(frozen=True)
class Envelope:
    """An envelope in memory: the payload's bytes, its media type, and who signed both."""

    payload: bytes
    payload_type: str = INTOTO
    signatures: tuple[Signature, ...] = ()

    def to_bytes(self) -> bytes:
        """The file: one JSON object."""
        encode = lambda data: base64.b64encode(data).decode()
        signatures = [{"keyid": s.keyid, "sig": encode(s.sig)} for s in self.signatures]
        parts = {"payload": encode(self.payload), "payloadType": self.payload_type, "signatures": signatures}
        return canonical(parts) + b"\n"

    def to_sign(self) -> bytes:
        """The bytes that are signed."""
        return pae(self.payload_type, self.payload)


def pae(payload_type: str, payload: bytes) -> bytes:
    """The pre-authentication encoding of DSSE 1.0.

    >>> pae("http://example.com/HelloWorld", b"hello world")
    b'DSSEv1 29 http://example.com/HelloWorld 11 hello world'
    """
    kind = payload_type.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def is_envelope(content: bytes) -> bool:
    """Whether the bytes of a file are those of an envelope, whole or with a field that is no good."""
    if len(content) > LARGEST or b'"payloadType"' not in content or content.startswith(b'{"digest":"'):
        return False
    try:
        found = json.loads(content)
    except (ValueError, RecursionError):
        return False
    return isinstance(found, dict) and "payloadType" in found


def read_envelope(content: bytes, at: str) -> Envelope:
    """The envelope in the bytes of a file; nothing is verified. Fields that DSSE does not name are passed over.

    Raises:
        CertificateError: it is none, or a field is missing or malformed.
    """
    try:
        found = json.loads(content, object_pairs_hook=_single)
        signatures = found["signatures"]
        if not isinstance(signatures, list) or len(signatures) > MOST:
            raise ValueError(f"signatures are no list of at most {MOST}")
        read = [Signature(_text(s.get("keyid", "")), _decode(s["sig"])) for s in signatures]
        return Envelope(_decode(found["payload"]), _text(found["payloadType"]), tuple(read))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CertificateError(
            "The file is not a whole envelope.", at=at, got=f"{type(error).__name__}: {error}"[:200],
            fix="sign it again; a cut or edited file cannot be repaired",
        ) from error  # fmt: skip


def _single(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object in which no key is there twice."""
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key is there twice")
    return found


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError("text is asked for")
    value.encode()  # lone surrogates have no bytes
    return value


def _decode(value: Any) -> bytes:
    """Base64, in the standard or the URL-safe alphabet, as DSSE asks of readers."""
    try:
        return base64.b64decode(_text(value).replace("-", "+").replace("_", "/"), validate=True)
    except binascii.Error as error:
        raise ValueError(f"no base64: {error}") from None


def signed(envelope: Envelope, key: str | os.PathLike[str]) -> Envelope:
    """The envelope with a signature by the private key of a file.

    Raises:
        CertificateError: the key cannot be read, or the envelope has a signature by it already.
        BackendUnavailable: the package `cryptography` is missing.
    """
    private, keyid = read_private(key)
    if any(s.keyid == keyid for s in envelope.signatures):
        raise CertificateError("The file has a signature by this key already.", at=os.fspath(key), got=keyid,
                               fix="sign it with another key, or sign the certificate again")  # fmt: skip
    made = Signature(keyid, private.sign(envelope.to_sign()))
    return replace(envelope, signatures=(*envelope.signatures, made))


def judge_signatures(envelope: Envelope, trust: Trust, threshold: int = 1) -> tuple[tuple[Judged, ...], str | None]:
    """What trusted keys say of an envelope's signatures.

    Args:
        trust: keys, and what is revoked.
        threshold: how many different trusted keys must have signed it.

    Returns:
        A judgement for each signature, and why they are not enough, or None if they are. A signature that names a
        trusted key and is not by it is reason enough, whatever the others are.
    """
    data = envelope.to_sign()
    judged = tuple(_judge(signature, data, trust) for signature in envelope.signatures)
    good = {j.keyid for j in judged if j.trusted and j.valid}
    if not judged:
        return judged, "the envelope has no signatures"
    if bad := [j.keyid for j in judged if j.valid is False]:
        return judged, f"the signature by {bad[0]} is bad: the file was changed after it was signed, or never signed"
    if len(good) >= threshold:
        return judged, None
    if revoked := [j.keyid for j in judged if j.valid and not j.trusted]:
        return judged, f"{_too_few(good, threshold)}: key {revoked[0]} is revoked"
    return judged, f"{_too_few(good, threshold)}: signed by {', '.join(_named(j) for j in judged[:4])}"


def _too_few(good: set[str], threshold: int) -> str:
    return "no trusted key signed it" if not good else f"{len(good)} of {threshold} trusted keys signed it"


def _named(judged: Judged) -> str:
    return judged.keyid if judged.keyid.isalnum() and len(judged.keyid) <= 64 else repr(judged.keyid[:64])


def _judge(signature: Signature, data: bytes, trust: Trust) -> Judged:
    """Keys by the signature's hint first, then all: the hint is not signed."""
    hinted = trust.keys.get(signature.keyid)
    first: list[Key] = [] if hinted is None else [hinted]
    for key in [*first, *(k for k in trust.keys.values() if k is not hinted)]:
        if key.verifies(signature.sig, data):
            return Judged(key.keyid, key.keyid not in trust.revoked, True)
    if hinted is None:
        return Judged(signature.keyid)
    return Judged(signature.keyid, hinted.keyid not in trust.revoked, False)
