"""Ed25519 keys in files: made, read, named by their keyid, and the folder of those that are trusted.

A private key is PKCS8 PEM, readable by its owner only; a public key is SubjectPublicKeyInfo PEM, after a line
with a comment. A keyid is the sha256 of the public key's DER. The cryptography is that of the package `cryptography`.
"""

import hashlib
import json
import os
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from axiom_jax._errors import BackendUnavailable, CertificateError
from axiom_jax.verification.proof.certificate import write_atomically

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

HEX = re.compile("[0-9a-f]{64}")
COMMENT = re.compile(rb"^Comment: (.*)$", re.M)
BEGIN = b"-----BEGIN "
LARGEST = 1 << 16  # bytes of a key file
PUBLIC_SUFFIXES = (".pub", ".pem")
REVOKED = "revoked.json"


@dataclass(frozen=True)
class Key:
    """A public key.

    Args:
        public: what verifies. keyid: sha256 of its DER, 64 hexadecimal digits.
        comment: for people; not signed, never compared. path: the file that it was read from.
    """

    public: "Ed25519PublicKey"
    keyid: str
    comment: str = ""
    path: str = ""

    def verifies(self, signature: bytes, data: bytes) -> bool:
        """Whether a signature of the data is by this key."""
        from cryptography.exceptions import InvalidSignature

        try:
            self.public.verify(signature, data)
        except InvalidSignature:
            return False
        return True


@dataclass(frozen=True)
class Trust:
    """Whose signatures count.

    Args:
        keys: by keyid, those that are revoked too.
        revoked: keyids, and sha256 of certificates and models, that count no longer.
    """

    keys: dict[str, Key]
    revoked: frozenset[str] = frozenset()


def require_cryptography(at: str | None = None) -> None:
    """Raise `BackendUnavailable` unless the package `cryptography` is here."""
    try:
        import cryptography.hazmat.primitives.asymmetric.ed25519  # noqa: F401
    except ImportError as error:
        raise BackendUnavailable(
            "Keys and signatures need the package cryptography.", at=at, got="it is not installed",
            fix='pip install "axiom-jax[sign]"',
        ) from error  # fmt: skip


def new_key(path: str | os.PathLike[str], comment: str = "", force: bool = False) -> Key:
    """Make a key pair: the private key at `path`, with mode 0600, the public key at `path.pub`.

    Args:
        comment: one line for people, in the public file. force: replace files that are there.

    Raises:
        CertificateError: a file is there and `force` is not given, or they cannot be written.
        BackendUnavailable: the package `cryptography` is missing.

    Source: RFC 8032 (Ed25519), RFC 8410 (its keys in PKCS8 and SubjectPublicKeyInfo), RFC 7468 (PEM).

    >>> with tempfile.TemporaryDirectory() as folder:
    ...     key = new_key(Path(folder, "release"), "release team")
    ...     read_public(Path(folder, "release.pub")) == key, read_private(Path(folder, "release"))[1] == key.keyid
    (True, True)
    """
    private_path, public_path = Path(path), Path(f"{os.fspath(path)}.pub")
    require_cryptography(str(private_path))
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

    if not comment.isprintable():
        raise CertificateError("A comment is one line of text.", got=repr(comment)[:80], fix="leave line ends out")
    for there in (private_path, public_path):
        if not force and os.path.lexists(there):
            raise CertificateError("There is a file already, and keys are never written over.", at=str(there),
                                   fix="name another file with --out, or give --force")  # fmt: skip
    private = Ed25519PrivateKey.generate()
    secret = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    shown = private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    head = f"Comment: {comment}\n".encode() if comment else b""
    try:
        _write_secret(private_path, secret, force)
        write_atomically(public_path, head + shown)
    except OSError as error:
        raise CertificateError("The key cannot be written.", at=str(private_path), got=error.strerror or str(error),
                               fix="name a file in a folder that exists and is writable") from error  # fmt: skip
    return read_public(public_path)


def _write_secret(path: Path, data: bytes, force: bool) -> None:
    """Write a file that only its owner can read, at no moment another; an old one is replaced only by force."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # mode 0600
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        if force:
            os.replace(temporary, path)
        else:
            os.link(temporary, path)  # fails where there is a file by now
    finally:
        Path(temporary).unlink(missing_ok=True)


def keyid_of(public: "Ed25519PublicKey") -> str:
    """The sha256 of a public key's DER."""
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    return hashlib.sha256(public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).hexdigest()


def read_private(path: str | os.PathLike[str]) -> "tuple[Ed25519PrivateKey, str]":
    """The private key in a file, and its keyid.

    Raises:
        CertificateError: it cannot be read, or is no Ed25519 private key without a password.
        BackendUnavailable: the package `cryptography` is missing.
    """
    require_cryptography(os.fspath(path))
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    content = _content(path)
    try:
        found: Any = load_pem_private_key(content, None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:  # TypeError: it has a password
        found = None if isinstance(error, ValueError) else str(error)
    if not isinstance(found, Ed25519PrivateKey):
        raise CertificateError(
            "This is no private key that can sign.", at=os.fspath(path), got=_kind(content, found),
            fix="give an Ed25519 key without a password, as axiom keys new writes it",
        )  # fmt: skip
    return found, keyid_of(found.public_key())


def read_public(path: str | os.PathLike[str]) -> Key:
    """The public key in a file, with its comment.

    Raises:
        CertificateError: it cannot be read, or is no Ed25519 public key; a private key is refused too.
        BackendUnavailable: the package `cryptography` is missing.
    """
    require_cryptography(os.fspath(path))
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    content = _content(path)
    try:
        found: Any = load_pem_public_key(content)
    except (ValueError, UnsupportedAlgorithm):
        found = None
    if not isinstance(found, Ed25519PublicKey):
        raise CertificateError("This is no public key that can be trusted.", at=os.fspath(path),
                               got=_kind(content, found), fix="give NAME.pub, as axiom keys new writes it")  # fmt: skip
    said = COMMENT.search(content.partition(BEGIN)[0])
    comment = said[1].decode(errors="replace").strip() if said else ""
    return Key(found, keyid_of(found), comment if comment.isprintable() else "", os.fspath(path))


def show_key(path: str | os.PathLike[str]) -> Key:
    """The public key of a file with either half of a pair; a private key's comment is that of the file beside it."""
    if b"PRIVATE KEY-----" not in _content(path):
        return read_public(path)
    private, keyid = read_private(path)
    beside = Path(f"{os.fspath(path)}.pub")
    other = read_public(beside) if beside.is_file() else None
    comment = other.comment if other is not None and other.keyid == keyid else ""
    return Key(private.public_key(), keyid, comment, os.fspath(path))


def read_trust(folder: str | os.PathLike[str]) -> Trust:
    """The keys of a folder, its `*.pub` and `*.pem`, and what its `revoked.json` lists.

    Raises:
        CertificateError: the folder is not there or has no keys, a file is no public key, or `revoked.json` is
            no list of sha256 in hexadecimal: a line that is misspelt must not be passed over.
        BackendUnavailable: the package `cryptography` is missing.
    """
    root = Path(folder)
    try:
        paths = sorted(p for p in root.iterdir() if p.suffix in PUBLIC_SUFFIXES)
    except OSError as error:
        raise CertificateError("The folder of trusted keys cannot be read.", at=str(root), got=error.strerror,
                               fix="name a folder of public keys, NAME.pub") from error  # fmt: skip
    if not paths:
        raise CertificateError("The folder has no trusted keys.", at=str(root), got="no *.pub and no *.pem",
                               fix="copy the public keys there: NAME.pub, never the private NAME")  # fmt: skip
    keys = {key.keyid: key for key in map(read_public, paths)}
    return Trust(keys, _revoked(root / REVOKED))


def _revoked(path: Path) -> frozenset[str]:
    if not os.path.lexists(path):
        return frozenset()
    try:
        listed = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise _no_list(path, f"{type(error).__name__}: {error}"[:120]) from error
    wrong = [x for x in listed if not (isinstance(x, str) and HEX.fullmatch(x))] if isinstance(listed, list) else listed
    if wrong != []:
        raise _no_list(path, json.dumps(wrong)[:120])
    return frozenset(listed)


def _no_list(path: Path, got: str) -> CertificateError:
    fix = 'write ["<64 hexadecimal digits>", …]: keyids, or sha256 of certificates and models'
    return CertificateError("The list of what is revoked cannot be read.", at=str(path), got=got, fix=fix)


def _content(path: str | os.PathLike[str]) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read(LARGEST)
    except OSError as error:
        raise CertificateError("The key cannot be read.", at=os.fspath(path), got=error.strerror or str(error),
                               fix="axiom keys new --out NAME makes one") from error  # fmt: skip


def _kind(content: bytes, found: Any) -> str:
    """What a file is, without a byte of what may be a secret."""
    if isinstance(found, str):
        return "a key with a password"
    if found is not None:
        return f"a key of another kind: {type(found).__name__}"
    if b"PRIVATE KEY-----" in content:
        return "a private key"
    return "a public key" if b"PUBLIC KEY-----" in content else "no key in PEM"
