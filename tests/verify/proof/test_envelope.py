"""DSSE envelopes: what is signed, what is read, whose signatures count; compared with another implementation."""

import base64
import json

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

import axiom_jax as ax
from axiom_jax.verification.proof.envelope import (
    Envelope,
    Judged,
    Signature,
    is_envelope,
    judge_signatures,
    pae,
    read_envelope,
    signed,
)
from axiom_jax.verification.proof.keys import Key, Trust, keyid_of, new_key, read_private

PRIVATE = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
KEY = Key(PRIVATE.public_key(), keyid_of(PRIVATE.public_key()))
TRUST = Trust({KEY.keyid: KEY})
TYPE = "http://example.com/HelloWorld"
ENVELOPE = Envelope(b"hello world", TYPE, (Signature(KEY.keyid, PRIVATE.sign(pae(TYPE, b"hello world"))),))
FILE = ENVELOPE.to_bytes()


def test_the_encoding_that_is_signed_is_that_of_the_specification():
    """The vector of https://github.com/secure-systems-lab/dsse, protocol.md; lengths are those of bytes."""
    assert pae(TYPE, b"hello world") == b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
    assert pae("", b"") == b"DSSEv1 0  0 "
    assert pae("é", "é\n".encode()) == b"DSSEv1 2 \xc3\xa9 3 \xc3\xa9\n"


def test_ed25519_is_that_of_the_standard():
    """RFC 8032, section 7.1, test 2."""
    secret = bytes.fromhex("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb")
    private = Ed25519PrivateKey.from_private_bytes(secret)
    signature = bytes.fromhex("92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
                              "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00")  # fmt: skip
    assert private.sign(b"\x72") == signature
    assert Key(private.public_key(), "").verifies(signature, b"\x72")


@given(st.binary(max_size=40), st.text(st.characters(exclude_categories=["Cs"]), max_size=20))
def test_a_file_holds_the_envelope(payload, kind):
    made = Envelope(payload, kind, (Signature("", b""), Signature("k", b"\x00" * 64)))
    assert read_envelope(made.to_bytes(), "file") == made and is_envelope(made.to_bytes())


def test_readers_take_either_base64_and_pass_over_unknown_fields():
    payload = b"\xfb\xff\xfe"
    parts = {"payload": "-__-", "payloadType": TYPE, "signatures": [{"sig": "_-8=", "extra": 1}], "more": None}
    assert read_envelope(json.dumps(parts).encode(), "file") == Envelope(payload, TYPE, (Signature("", b"\xff\xef"),))


@pytest.mark.parametrize("change", [
    {"payload": "%%%"}, {"payload": "a"}, {"payload": 1}, {"payload": "aGVsbG8g\nd29ybGQ="}, {"payloadType": None},
    {"signatures": {}}, {"signatures": [{}]}, {"signatures": [{"sig": "AA==", "keyid": 1}]}, {"signatures": [[]]},
    {"signatures": [{"sig": ""}] * 257}, {"payloadType": "\ud800"},
], ids=str)  # fmt: skip
def test_malformed_envelopes_are_refused(change):
    content = json.dumps(json.loads(FILE) | change).encode()
    assert is_envelope(content)
    with pytest.raises(ax.CertificateError, match="not a whole envelope") as caught:
        read_envelope(content, "a.signed.json")
    assert caught.value.at == "a.signed.json"


def test_a_key_that_is_there_twice_is_refused():
    content = FILE.replace(b"{", b'{"payloadType":"another",', 1)
    with pytest.raises(ax.CertificateError, match="not a whole envelope"):
        read_envelope(content, "file")


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b'"payloadType"', b'["payloadType"]', b"\xff" * 9, b"{" * 9999])
def test_other_files_are_no_envelopes(content):
    assert not is_envelope(content)


def test_whose_signatures_count(tmp_path):
    second, third = (new_key(tmp_path / name) for name in ("second", "third"))
    both = signed(ENVELOPE, tmp_path / "second")
    trust = Trust({key.keyid: key for key in (KEY, second)})
    mine, theirs = Judged(KEY.keyid, True, True), Judged(second.keyid, True, True)
    assert judge_signatures(both, trust) == judge_signatures(both, trust, 2) == ((mine, theirs), None)
    assert judge_signatures(both, TRUST)[1] is None
    judged, reason = judge_signatures(both, TRUST, 2)
    assert judged == (mine, Judged(second.keyid)) and reason is not None and reason.startswith("1 of 2 trusted keys")
    assert "no trusted key signed it" in str(judge_signatures(both, Trust({third.keyid: third}))[1])
    revoked = Trust(trust.keys, frozenset({KEY.keyid}))
    assert judge_signatures(both, revoked) == ((Judged(KEY.keyid, False, True), theirs), None)
    assert f"key {KEY.keyid} is revoked" in str(judge_signatures(ENVELOPE, revoked)[1])
    assert "no signatures" in str(judge_signatures(Envelope(b"", TYPE), trust)[1])
    with pytest.raises(ax.CertificateError, match="by this key already"):
        signed(both, tmp_path / "second")


def test_one_key_counts_once():
    twice = Envelope(ENVELOPE.payload, TYPE, ENVELOPE.signatures * 2)
    assert judge_signatures(twice, TRUST)[1] is None and judge_signatures(twice, TRUST, 2)[1] is not None


def test_a_keyid_is_a_hint_only(tmp_path):
    other = new_key(tmp_path / "other")
    good = ENVELOPE.signatures[0].sig
    for hint in ("", "nobody", other.keyid):
        renamed = Envelope(ENVELOPE.payload, TYPE, (Signature(hint, good),))
        trust = Trust({KEY.keyid: KEY, other.keyid: other})
        assert judge_signatures(renamed, trust) == ((Judged(KEY.keyid, True, True),), None)
    forged = Envelope(ENVELOPE.payload, TYPE, (Signature(KEY.keyid, read_private(tmp_path / "other")[0].sign(b"")),))
    assert judge_signatures(forged, TRUST)[0] == (Judged(KEY.keyid, True, False),)


def test_a_bad_signature_spoils_a_good_one():
    forged = Envelope(ENVELOPE.payload, TYPE, (*ENVELOPE.signatures, Signature(KEY.keyid, b"\x00" * 64)))
    assert "is bad" in str(judge_signatures(forged, TRUST)[1])


@pytest.mark.parametrize("bit", [0, 3, 5, 7])
def test_every_flipped_byte_is_rejected_or_changes_nothing_that_is_signed(bit):
    """What is left free by the format is the hint of a key, and names of fields that readers pass over."""
    accepted = 0
    for place in range(len(FILE)):
        changed = bytearray(FILE)
        changed[place] ^= 1 << bit
        try:
            found = read_envelope(bytes(changed), "file")
        except ax.CertificateError:
            continue
        if judge_signatures(found, TRUST)[1] is None:
            accepted += 1
            assert (found.payload, found.payload_type) == (ENVELOPE.payload, ENVELOPE.payload_type)
    assert accepted <= len(KEY.keyid) + len('"keyid"') + 1


def test_a_signature_of_one_type_is_none_of_another():
    assert judge_signatures(Envelope(ENVELOPE.payload, TYPE + "/", ENVELOPE.signatures), TRUST)[1] is not None
    moved = Envelope(b"hello", TYPE + " 11", ENVELOPE.signatures)
    assert judge_signatures(moved, TRUST)[1] is not None


def test_another_implementation_agrees(tmp_path):
    """securesystemslib verifies what we sign, we verify what it signs, and neither takes what was changed."""
    dsse = pytest.importorskip("securesystemslib.dsse", reason="securesystemslib is the other implementation")
    from securesystemslib.exceptions import VerificationError
    from securesystemslib.signer import CryptoSigner, SSlibKey

    raw = PRIVATE.public_key().public_bytes_raw().hex()
    theirs = SSlibKey(KEY.keyid, "ed25519", "ed25519", {"public": raw})
    read = dsse.Envelope.from_dict(json.loads(FILE))
    assert read.pae() == ENVELOPE.to_sign() and set(read.verify([theirs], 1)) == {KEY.keyid}
    changed = json.loads(FILE) | {"payload": base64.b64encode(b"hello World").decode()}
    with pytest.raises(VerificationError):
        dsse.Envelope.from_dict(changed).verify([theirs], 1)
    made = dsse.Envelope(b"\x00\xffpayload", TYPE, {})
    made.sign(CryptoSigner(PRIVATE, theirs))
    ours = read_envelope(json.dumps(made.to_dict()).encode(), "theirs")
    assert judge_signatures(ours, TRUST) == ((Judged(KEY.keyid, True, True),), None)
    new_key(tmp_path / "mine")
    assert len(dsse.Envelope.from_dict(json.loads(signed(ours, tmp_path / "mine").to_bytes())).signatures) == 2
