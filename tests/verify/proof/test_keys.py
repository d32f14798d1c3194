"""Key files: made once, readable by the owner only, named by their hash; and folders of those that are trusted."""

import hashlib
import json
import os
import re
import stat
import subprocess
import sys

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_public_key,
)

import axiom_jax as ax
from axiom_jax.verification.proof.keys import new_key, read_private, read_public, read_trust, show_key


@pytest.fixture
def pair(tmp_path):
    return new_key(tmp_path / "release", "release team"), tmp_path / "release"


def test_a_pair_is_written_and_read(pair):
    key, path = pair
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert path.read_bytes().startswith(b"-----BEGIN PRIVATE KEY-----\n")
    assert (path.parent / "release.pub").read_text().startswith("Comment: release team\n-----BEGIN PUBLIC KEY-----\n")
    der = load_pem_public_key((path.parent / "release.pub").read_bytes())
    der = der.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    assert key.keyid == hashlib.sha256(der).hexdigest() == read_private(path)[1]
    assert (key.comment, show_key(path).comment, show_key(f"{path}.pub").keyid) == ("release team",) * 2 + (key.keyid,)
    assert sorted(os.listdir(path.parent)) == ["release", "release.pub"]


def test_the_mode_does_not_depend_on_the_umask(tmp_path):
    before = os.umask(0)
    try:
        new_key(tmp_path / "open")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "open").stat().st_mode) == 0o600


def test_what_is_signed_is_verified_by_that_key_only(pair, tmp_path):
    key, path = pair
    other = new_key(tmp_path / "other")
    signature = read_private(path)[0].sign(b"data")
    assert key.verifies(signature, b"data") and not key.verifies(signature, b"date")
    assert not other.verifies(signature, b"data") and not key.verifies(signature[:-1], b"data")


@pytest.mark.parametrize("there", ["release", "release.pub"])
def test_a_key_is_never_written_over_unless_by_force(pair, there):
    key, path = pair
    (path.parent / ({"release": "release.pub", "release.pub": "release"}[there])).unlink()
    kept = (path.parent / there).read_bytes()
    with pytest.raises(ax.CertificateError, match="never written over"):
        new_key(path)
    assert (path.parent / there).read_bytes() == kept and len(os.listdir(path.parent)) == 1
    again = new_key(path, force=True)
    assert again.keyid != key.keyid and stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_dangling_link_is_no_free_name(tmp_path):
    (tmp_path / "key").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ax.CertificateError, match="never written over"):
        new_key(tmp_path / "key")


def test_a_folder_that_is_not_there_is_told(tmp_path):
    with pytest.raises(ax.CertificateError, match="cannot be written") as caught:
        new_key(tmp_path / "none" / "key")
    assert "No such file" in str(caught.value.got)
    with pytest.raises(ax.CertificateError, match="one line"):
        new_key(tmp_path / "key", "two\nlines")
    assert os.listdir(tmp_path) == []


def foreign(kind):
    """Keys that cannot sign here, in PEM."""
    curve = ec.generate_private_key(ec.SECP256R1())
    encryption = BestAvailableEncryption(b"secret") if kind == "password" else NoEncryption()
    if kind == "public":
        return curve.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    if kind == "noise":
        return b"\x00\xff-----BEGIN nothing"
    return curve.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption)


@pytest.mark.parametrize("kind, got", [
    ("curve", "another kind: _?EC"), ("password", "with a password"), ("noise", "no key in PEM"),
    ("public", "a public key"),
])  # fmt: skip
def test_other_keys_cannot_sign(tmp_path, kind, got):
    (tmp_path / "key").write_bytes(foreign(kind))
    with pytest.raises(ax.CertificateError, match="no private key that can sign") as caught:
        read_private(tmp_path / "key")
    assert re.search(got, caught.value.got)
    with pytest.raises(ax.CertificateError, match="no public key"):
        read_public(tmp_path / "key")


def test_a_folder_of_trusted_keys(pair, tmp_path):
    key, path = pair
    trust = tmp_path / "trust"
    trust.mkdir()
    with pytest.raises(ax.CertificateError, match="has no trusted keys"):
        read_trust(trust)
    (trust / "a.pem").write_bytes((tmp_path / "release.pub").read_bytes())
    other = new_key(tmp_path / "other")
    (trust / "b.pub").write_bytes((tmp_path / "other.pub").read_bytes())
    (trust / "notes.txt").write_text("not a key")
    found = read_trust(trust)
    assert found.keys.keys() == {key.keyid, other.keyid} and found.revoked == frozenset()
    (trust / "revoked.json").write_text(json.dumps([other.keyid]))
    assert read_trust(trust).revoked == {other.keyid}
    (trust / "c.pem").write_bytes(path.read_bytes())  # somebody copied the secret
    with pytest.raises(ax.CertificateError, match="no public key") as caught:
        read_trust(trust)
    assert caught.value.got == "a private key" and "c.pem" in caught.value.at
    with pytest.raises(ax.CertificateError, match="folder of trusted keys cannot be read"):
        read_trust(tmp_path / "none")


@pytest.mark.parametrize("text", ['["abc"]', "{}", "null", "[1]", "[", f'["{"A" * 64}"]', f'["{"0" * 64}\\n"]'])
def test_a_misspelt_revocation_is_never_passed_over(pair, tmp_path, text):
    trust = tmp_path / "trust"
    trust.mkdir()
    (trust / "a.pub").write_bytes((tmp_path / "release.pub").read_bytes())
    (trust / "revoked.json").write_text(text)
    with pytest.raises(ax.CertificateError, match="what is revoked cannot be read"):
        read_trust(trust)


def test_without_the_package_the_fix_is_named():
    code = """
import sys
sys.modules["cryptography"] = None
from axiom_jax import BackendUnavailable
from axiom_jax.verification.proof.keys import new_key
try:
    new_key("nothing")
except BackendUnavailable as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.stdout.splitlines() == [
        "Keys and signatures need the package cryptography.", "  at   nothing", "  got  it is not installed",
        '  fix  pip install "axiom-jax[sign]"',
    ], done.stderr  # fmt: skip
