"""Verification summaries: what was checked and found, signed; PASSED only where the property was shown to hold."""

import base64
import hashlib
import json
import sys
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

import axiom_jax as ax
from axiom_jax.verification.proof.certificate import Certificate
from axiom_jax.verification.proof.envelope import read_envelope
from axiom_jax.verification.proof.keys import new_key
from axiom_jax.verification.proof.summary import VERIFIER, named_information

sys.path.insert(0, str(Path(__file__).parents[1]))
import checker_builder as build
from derivation_proofs import relu_is_not_odd, sigmoid_range

TENSORS = {"w": np.eye(2, dtype=np.float32)}
NODES = [{"op": "input", "size": 2}, {"op": "tensor", "name": "w"},
         {"op": "matmul", "of": [0, 1], "shape": [1, 2, 2]}]  # fmt: skip
NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
POINT = {"kind": "point", "case": 0, "inputs": ["1", "0"]}


def certificate(threshold, proof=None, claim="holds"):
    cases = [build.case([0, 0], [1, 1], [[build.atom({0: -1}, -threshold)]])]
    tree = {"kind": "tree", "trees": [build.tree([-1], [[0]])]}
    return Certificate(build.certificate(NODES, TENSORS, cases, proof or tree, claim))


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    folder = tmp_path_factory.mktemp("summary")
    (folder / "trust").mkdir()
    key = new_key(folder / "lab", "the lab")
    (folder / "trust" / "lab.pub").write_bytes((folder / "lab.pub").read_bytes())
    return folder, key


def summary(home, made, name="a.cert", **options):
    """The judgement and the statement that was written."""
    folder, _ = home
    if made is not None:
        ax.save_certificate(made, folder / name)
    checked = ax.write_summary(folder / name, folder / "lab", folder / "vsa.json", now=NOW, **options)
    envelope = read_envelope((folder / "vsa.json").read_bytes(), "vsa.json")
    assert ax.verify_signatures(folder / "vsa.json", folder / "trust").accepted
    return checked, json.loads(envelope.payload)


def test_a_summary_has_the_fields_of_slsa(home):
    checked, made = summary(home, certificate(2))
    digest = hashlib.sha256((home[0] / "a.cert").read_bytes()).hexdigest()
    assert checked.accepted and made["_type"] == "https://in-toto.io/Statement/v1"
    assert made["predicateType"] == "https://slsa.dev/verification_summary/v1"
    assert made["subject"][0] == {"digest": {"sha256": digest}, "name": "a.cert"}
    predicate = made["predicate"]
    assert predicate["verifier"]["id"] == VERIFIER and predicate["timeVerified"] == "2026-01-02T03:04:05Z"
    assert (predicate["verificationResult"], predicate["verifiedLevels"]) == ("PASSED", ["AXIOM_REAL_EXACT"])
    assert predicate["inputAttestations"] == [{"digest": {"sha256": digest}, "uri": named_information(digest)}]
    assert predicate["resourceUri"] == named_information(digest) and predicate["slsaVersion"] == "1.0"
    asked = predicate["policy"]["annotations"]
    checker = Path(ax.__file__).parent / "verification" / "checker.py"
    assert asked["checkers"]["checker.py"] == hashlib.sha256(checker.read_bytes()).hexdigest()
    assert (asked["modelCompared"], asked["threshold"], asked["trustedKeys"]) == (False, 0, [])


def test_a_digest_is_named_by_a_uri():
    """The example of RFC 6920, section 8.1."""
    digest = "7f83b1657ff1fc53b92dc18148a1d65dfc2d4b1fa3d677284addd200126d9069"
    assert named_information(digest) == "ni:///sha-256;f4OxZX_x_FO5LcGBSKHWXfwtSx-j1ncoSt3SABJtkGk"
    assert base64.urlsafe_b64decode(named_information(digest).partition(";")[2] + "=").hex() == digest


def test_what_the_network_was_read_from_is_not_vouched_for(home):
    """The certificate says what it was read from; only a comparison with the model file makes it a subject."""
    _, made = summary(home, certificate(2))
    assert [s["name"] for s in made["subject"]] == ["a.cert", "test (program and tensors)"]


@pytest.mark.parametrize("made, accepted, result", [
    (certificate(1), False, "FAILED"), (certificate(1, POINT, "violated"), True, "FAILED"),
    (sigmoid_range(), True, "PASSED"), (relu_is_not_odd(), True, "FAILED"),
])  # fmt: skip
def test_only_a_property_that_holds_has_passed(home, made, accepted, result):
    checked, statement = summary(home, made)
    assert checked.accepted == accepted
    assert statement["predicate"]["verificationResult"] == result
    assert statement["predicate"]["verifiedLevels"] == (["AXIOM_REAL_EXACT"] if result == "PASSED" else ["FAILED"])
    if not accepted:
        assert len(statement["subject"]) == 1  # nothing that a rejected file says is repeated


def test_signatures_are_part_of_the_policy(home):
    folder, key = home
    checked, made = summary(home, certificate(2), trusted=folder / "trust")
    assert not checked.accepted and made["predicate"]["verificationResult"] == "FAILED"
    (folder / "b.signed.json").unlink(missing_ok=True)
    ax.sign_certificate(folder / "a.cert", folder / "lab", folder / "b.signed.json")
    checked, made = summary(home, None, "b.signed.json", trusted=folder / "trust", verifier="https://lab.example")
    asked = made["predicate"]["policy"]["annotations"]
    assert checked.accepted and made["predicate"]["verificationResult"] == "PASSED"
    assert (asked["trustedKeys"], asked["threshold"]) == ([key.keyid], 1)
    assert made["predicate"]["verifier"]["id"] == "https://lab.example"
    assert made["subject"][1]["name"] == "test (program and tensors)"


def test_the_model_that_was_compared_is_the_resource(home):
    folder, _ = home
    model = ax.Sequential(ax.nn.Dense(2, 1), name="net")
    file = ax.save_model(model, folder / "net.axiom")
    result = ax.verify(model, ax.Bounded(-99, 99), region=ax.Box([-1.0, -1.0], [1.0, 1.0]))
    made = result.items[0].certificate
    checked, statement = summary(home, made, model=model, model_file=file)
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    assert checked.accepted and statement["subject"][-1] == {"digest": {"sha256": digest}, "name": "net.axiom"}
    assert statement["predicate"]["resourceUri"] == named_information(digest)
    other = ax.Sequential(ax.nn.Dense(2, 1), name="net", seed=7)
    checked, statement = summary(home, made, model=other, model_file=ax.save_model(other, folder / "other.axiom"))
    assert not checked.accepted and statement["predicate"]["verificationResult"] == "FAILED"


def test_nothing_is_written_where_nothing_was_read(home, tmp_path):
    folder, _ = home
    (tmp_path / "a.cert").write_bytes(b"{}")
    (tmp_path / "b.cert").write_bytes(b"PK\x03\x04")
    for name, what in (("a.cert", "cannot be read"), ("b.cert", "several proofs"), ("none.cert", "cannot be read")):
        with pytest.raises(ax.CertificateError, match=what):
            ax.write_summary(tmp_path / name, folder / "lab", tmp_path / "vsa.json")
    ax.save_certificate(certificate(2), tmp_path / "a.cert")
    with pytest.raises(ax.CertificateError, match="no private key"):
        ax.write_summary(tmp_path / "a.cert", folder / "lab.pub", tmp_path / "vsa.json")
    with pytest.raises(ax.CertificateError, match="cannot be written"):
        ax.write_summary(tmp_path / "a.cert", folder / "lab", tmp_path / "none" / "vsa.json")
    assert not (tmp_path / "vsa.json").exists()


def test_a_summary_is_no_certificate(home):
    folder, _ = home
    summary(home, certificate(2))
    checked = ax.check_certificate(folder / "vsa.json")
    assert checked.unreadable and "holds no certificate" in checked.reason
    with pytest.raises(ax.CertificateError, match="holds no certificate") as caught:
        ax.load_certificate(folder / "vsa.json")
    assert caught.value.at == str(folder / "vsa.json")
