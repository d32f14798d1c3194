"""Signed certificates: good ones are accepted, and nothing that says more than its certificate, whoever signed it."""

import hashlib
import json
import sys
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta, timezone
from fractions import Fraction
from pathlib import Path

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import axiom_jax as ax
from axiom_jax.verification.proof.attestation import OWN, PROFILE, Words, expiry, statement_of, tree_size
from axiom_jax.verification.proof.certificate import Certificate, canonical, describe_property, run_checker
from axiom_jax.verification.proof.envelope import Envelope, Judged, Signature, read_envelope, signed
from axiom_jax.verification.proof.keys import new_key, read_public
from axiom_jax.verification.proof.signing import check_signed
from axiom_jax.verification.property import Atom, Case, Property
from axiom_jax.verification.search.decide import decide
from axiom_jax.verification.search.margins import Subject
from axiom_jax.verification.spec.vnnlib2 import parse_query

sys.path.insert(0, str(Path(__file__).parents[1]))
import checker_builder as build
from derivation_proofs import relu_is_not_odd, sigmoid_range

TENSORS = {"w": np.eye(2, dtype=np.float32)}
NODES = [{"op": "input", "size": 2}, {"op": "tensor", "name": "w"},
         {"op": "matmul", "of": [0, 1], "shape": [1, 2, 2]}, {"op": "relu", "of": [2]}]  # fmt: skip
LATER = datetime(2999, 1, 1, tzinfo=UTC)
PROOF = {"kind": "tree", "trees": [build.tree([0, -1, 2, -1, -1], [[0]])]}


def payload(threshold, proof=PROOF, claim="holds"):
    """relu(x) of the unit square: the first output is at most 1, and reaches it."""
    cases = [build.case([0, 0], [1, 1], [[build.atom({0: -1}, -threshold)]])]
    return build.certificate(NODES, TENSORS, cases, proof, claim) | {"meta": {"requirement": "R-17"}}


HOLDS = Certificate(payload(2))
FAILS = Certificate(payload(1, {"kind": "point", "case": 0, "inputs": ["1", "0"]}, "violated"))
SHORT = Certificate(payload(1))  # the bound is no better than the threshold


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """Keys of two that are trusted and of one that is not, and a signed certificate."""
    folder = tmp_path_factory.mktemp("signed")
    (folder / "trust").mkdir()
    for name in ("alice", "bob", "eve"):
        new_key(folder / name, f"key of {name}")
    for name in ("alice", "bob"):
        (folder / "trust" / f"{name}.pub").write_bytes((folder / f"{name}.pub").read_bytes())
    ax.save_certificate(HOLDS, folder / "net.cert")
    ax.sign_certificate(folder / "net.cert", folder / "alice", requirements=["SRS-12"])
    return folder


@pytest.fixture(scope="module")
def file(home):
    return (home / "net.signed.json").read_bytes()


@pytest.fixture(scope="module")
def statement(file):
    return json.loads(read_envelope(file, "").payload)


def keyid(home, name):
    return read_public(home / f"{name}.pub").keyid


def sealed(statement, home, name="alice"):
    """The file of a statement that somebody signed as it is."""
    return signed(Envelope(canonical(statement)), home / name).to_bytes()


def test_a_signed_file_is_accepted_with_its_own_proof(home, file):
    path = home / "net.signed.json"
    checked = ax.check_certificate(path, trusted=home / "trust").raise_if_rejected()
    alone = run_checker(home / "net.cert")
    said = [line for line in alone.statement.splitlines() if line != "signature not checked"]
    assert checked.levels == ("real",) and checked.statement.splitlines()[: len(said)] == said
    assert checked.signatures == (Judged(keyid(home, "alice"), True, True),)
    assert "'R-17', 'SRS-12'" in checked.statement and "'key of alice': valid, trusted" in checked.statement
    assert "signature not checked" not in checked.statement
    unjudged = ax.check_certificate(path).raise_if_rejected()
    assert unjudged.signatures == (Judged(keyid(home, "alice"), False, None),)
    assert "1 signature, not checked" in unjudged.statement
    assert ax.load_certificate(path) == HOLDS


def test_the_statement_is_that_of_in_toto(home, statement):
    content = (home / "net.cert").read_bytes()
    assert statement["_type"] == "https://in-toto.io/Statement/v1"
    assert statement["subject"][0]["digest"] == {"sha256": hashlib.sha256(content).hexdigest()}
    assert [s["name"] for s in statement["subject"]] == ["certificate", "test (program and tensors)", "test (params)"]
    predicate = statement["predicate"]
    assert canonical(predicate["certificate"]) + b"\n" == content  # one file is enough
    assert (predicate["result"], predicate["levels"], predicate["margin"]) == ("proved", ["real"], "1")
    assert (predicate["proof"]["leaves"], predicate["proof"]["depth"]) == (3, 2)
    assert "3 leaf boxes" in run_checker(home / "net.cert").statement
    assert predicate["property"]["domains"][0]["float32"]["hi"] == ["0x1.0000000000000p+0"] * 2
    asked = describe_property(parse_query(predicate["property"]["vnnlib2"]).property)
    assert asked["cases"] == HOLDS.payload["property"]["cases"]
    assert predicate["requirements"] == ["R-17", "SRS-12"] and predicate["expires"] is None
    assert any("rounding in a float32 execution" in line for line in predicate["not_covered"])
    assert read_envelope((home / "net.signed.json").read_bytes(), "").payload_type == "application/vnd.in-toto+json"


def test_a_counterexample_and_derivations_are_signed_too(home, tmp_path):
    for number, (made, result) in enumerate([(FAILS, "refuted"), (sigmoid_range(), "proved"),
                                             (relu_is_not_odd(), "refuted")]):  # fmt: skip
        path = ax.sign_certificate(made, home / "alice", tmp_path / f"{number}.signed.json")
        checked = ax.check_certificate(path, trusted=home / "trust").raise_if_rejected()
        assert json.loads(read_envelope(path.read_bytes(), "").payload)["predicate"]["result"] == result
        assert checked.statement.splitlines()[0].startswith("claim")
        assert ax.load_certificate(path) == made


def test_it_is_about_the_model_or_not(home):
    specs = (jax.ShapeDtypeStruct((1, 2), np.float32),)
    network = lambda weights: Subject(lambda w, x: jax.nn.relu(x @ w), weights, specs)
    eye = network(np.eye(2, dtype=np.float32))
    unsafe = ((Atom(((0, Fraction(-1)),), Fraction(-2)),),)
    prop = Property((Case((Fraction(0),) * 2, (Fraction(1),) * 2, unsafe),), "y_0 < 2")
    decide(eye, prop, certificate_path=home / "eye.cert")
    path = ax.sign_certificate(home / "eye.cert", home / "bob")
    assert ax.check_certificate(path, eye, trusted=home / "trust").accepted
    other = ax.check_certificate(path, network(np.eye(2, dtype=np.float32) * 2), trusted=home / "trust")
    assert not other.accepted and "another network" in other.reason


def test_what_the_checker_rejects_is_not_signed(home, tmp_path):
    with pytest.raises(ax.CertificateError, match="is not signed: its check failed") as caught:
        ax.sign_certificate(SHORT, home / "alice", tmp_path / "short.signed.json")
    assert "fall short" in caught.value.got and not list(tmp_path.iterdir())
    cut = tmp_path / "cut.cert"
    cut.write_bytes(HOLDS.to_bytes()[:-40])
    with pytest.raises(ax.CertificateError, match="is not signed"):
        ax.sign_certificate(cut, home / "alice")
    with pytest.raises(ax.CertificateError, match="is not signed"):
        cut.write_bytes(b"PK\x03\x04")
        ax.sign_certificate(cut, home / "alice")
    with pytest.raises(ax.CertificateError, match="cannot be read"):
        ax.sign_certificate(tmp_path / "none.cert", home / "alice")
    with pytest.raises(ax.CertificateError, match="in memory has no name"):
        ax.sign_certificate(HOLDS, home / "alice")


def test_signatures_are_added_and_never_lost(home, tmp_path):
    path = tmp_path / "a.signed.json"
    path.write_bytes((home / "net.signed.json").read_bytes())
    assert not ax.check_certificate(path, trusted=home / "trust", threshold=2).accepted
    assert ax.sign_certificate(path, home / "bob") == path
    assert ax.check_certificate(path, trusted=home / "trust", threshold=2).accepted
    first, second = (read_envelope(p.read_bytes(), "") for p in (home / "net.signed.json", path))
    assert first.payload == second.payload and second.signatures[:1] == first.signatures
    with pytest.raises(ax.CertificateError, match="by this key already"):
        ax.sign_certificate(path, home / "bob")
    with pytest.raises(ax.CertificateError, match="cannot be changed"):
        ax.sign_certificate(path, home / "eve", expires="2999-01-01")
    (tmp_path / "a.cert").write_bytes(HOLDS.to_bytes())
    with pytest.raises(ax.CertificateError, match="its signatures would be lost"):
        ax.sign_certificate(tmp_path / "a.cert", home / "eve")
    assert read_envelope(path.read_bytes(), "") == second


def test_a_certificate_is_not_written_over_by_its_signed_file(home, tmp_path):
    path = tmp_path / "a.cert"
    path.write_bytes(HOLDS.to_bytes())
    with pytest.raises(ax.CertificateError, match="There is a file already"):
        ax.sign_certificate(path, home / "alice", path)
    assert path.read_bytes() == HOLDS.to_bytes()


def test_unsigned_wrong_and_revoked_keys_are_rejected(home, file, statement, tmp_path):
    unsigned = ax.check_certificate(home / "net.cert", trusted=home / "trust")
    assert not unsigned.accepted and unsigned.reason.startswith("unsigned") and not unsigned.unreadable
    assert not ax.check_certificate(HOLDS, trusted=home / "trust").accepted
    foreign = check_signed(sealed(statement, home, "eve"), "a", trusted=home / "trust")
    assert not foreign.accepted and "no trusted key signed it" in foreign.reason
    assert foreign.signatures == (Judged(keyid(home, "eve")),)
    none = check_signed(Envelope(canonical(statement)).to_bytes(), "a", trusted=home / "trust")
    assert not none.accepted and "no signatures" in none.reason
    trust = tmp_path / "trust"
    trust.mkdir()
    (trust / "alice.pub").write_bytes((home / "alice.pub").read_bytes())
    whole = json.loads((home / "net.cert").read_bytes())
    digests = [s["digest"]["sha256"] for s in statement["subject"]]
    for gone in (keyid(home, "alice"), whole["digest"], *digests):
        (trust / "revoked.json").write_text(json.dumps(["f" * 64, gone]))
        checked = check_signed(file, "a", trusted=trust)
        assert not checked.accepted and "revoked" in checked.reason and gone in checked.reason
    (trust / "revoked.json").write_text(json.dumps(["f" * 64]))
    assert check_signed(file, "a", trusted=trust).accepted


def test_a_bad_signature_is_rejected(home, file, statement):
    forged = Envelope(canonical(statement), signatures=(Signature(keyid(home, "alice"), b"\x01" * 64),))
    checked = check_signed(forged.to_bytes(), "a", trusted=home / "trust")
    assert not checked.accepted and "is bad" in checked.reason
    assert checked.signatures == (Judged(keyid(home, "alice"), True, False),)
    assert not ax.verify_signatures(home / "net.cert", home / "trust").accepted


@pytest.mark.parametrize("options", [{"threshold": 0}, {"threshold": 2}, {"threshold": -1}])
def test_a_threshold_counts_trusted_keys(home, options):
    for file in ("net.cert", "net.signed.json"):
        with pytest.raises(ax.CertificateError, match="number of trusted keys"):
            ax.check_certificate(home / file, **options)
    with pytest.raises(ax.CertificateError, match="number of trusted keys"):
        ax.verify_signatures(home / "net.signed.json", home / "trust", 0)


def test_statements_expire(home, tmp_path):
    path = ax.sign_certificate(HOLDS, home / "alice", tmp_path / "a.signed.json", expires="2998-12-31")
    content = path.read_bytes()
    last = datetime(2998, 12, 31, 23, 59, 59, tzinfo=UTC)
    assert check_signed(content, path, trusted=home / "trust", now=last).accepted
    after = last + timedelta(seconds=1)
    for trusted in (None, home / "trust"):
        checked = check_signed(content, path, trusted=trusted, now=after)
        assert not checked.accepted and checked.reason == "the statement expired at 2998-12-31T23:59:59Z"
    assert not ax.verify_signatures(path, home / "trust", now=after).accepted
    assert ax.verify_signatures(path, home / "trust", now=last).raise_if_rejected().kind.endswith("certificate/v1")


@pytest.mark.parametrize("given, expected", [
    ("2999-01-31", "2999-01-31T23:59:59Z"), (date(2999, 1, 31), "2999-01-31T23:59:59Z"), (None, None),
    ("2999-01-31T01:00:00", "2999-01-31T01:00:00Z"),
    (datetime(2999, 1, 31, 1, tzinfo=timezone(timedelta(hours=2))), "2999-01-30T23:00:00Z"),
])  # fmt: skip
def test_dates_are_read_as_they_are_meant(given, expected):
    assert expiry(given) == expected


@pytest.mark.parametrize("given", ["31.1.2999", "", "2999-02-30", "2999-13-01T00:00:00", 2999, "2000-01-01"])
def test_other_dates_are_refused(given):
    with pytest.raises(ax.CertificateError, match=r"no date|expired already"):
        expiry(given)


def changed(statement, path, value):
    """A copy with another value at a path of keys; `...` removes it."""
    copy = json.loads(json.dumps(statement))
    part = copy
    for key in path[:-1]:
        part = part[key]
    if value is ...:
        del part[path[-1]]
    else:
        part[path[-1]] = value
    return copy


OVERSTATED = [
    (("result",), "refuted"), (("result",), None), (("levels",), ["real", "float32"]), (("levels",), []),
    (("levels",), "real"), (("profile",), {"name": "cpu"}), (("margin",), "1.01"), (("margin",), "Infinity"),
    (("margin",), "NaN"), (("margin",), 0), (("property", "text"), "the model is safe"),
    (("property", "vnnlib2"), "(assert true)"), (("property", "domains", 0, "exact", "hi"), ["2", "2"]),
    (("property", "domains", 0, "float32", "hi", 0), "0x1.8000000000000p+0"), (("property", "domains"), None),
    (("proof", "leaves"), 4), (("proof", "depth"), None), (("proof", "version"), True), (("proof", "sha256"), "0" * 64),
    (("proof", "kind"), "crown"), (("checker", "name"), "derivation_checker.py"), (("checker", "sha256"), "none"),
    (("checker",), {}), (("certified",), True), (("time",), ...), (("time",), "today"),
    (("time",), "2026-13-01T00:00:00Z"),
    (("expires",), "never"), (("expires",), 0), (("requirements",), "R-17"), (("requirements",), [1]),
    (("environment",), {"python": 3}), (("environment",), []), (("not_covered",), []), (("assumptions",), []),
    (("assumptions",), None), (("not_covered",), {}),
]  # fmt: skip


@pytest.mark.parametrize("path, value", OVERSTATED, ids=lambda x: str(x)[:40])
def test_a_statement_that_says_more_than_its_certificate_is_rejected_though_signed(home, statement, path, value):
    made = sealed(changed(statement, ("predicate", *path), value), home)
    checked = check_signed(made, home / "a", trusted=home / "trust")
    assert not checked.accepted and not checked.unreadable and checked.reason
    assert checked.signatures[0].valid and checked.levels == () and checked.statement == ""


@pytest.mark.parametrize("level", ["float32", "bitwise", "Real"])
def test_a_level_that_was_not_checked_is_rejected_though_signed(home, statement, level):
    made = changed(statement, ("predicate", "levels"), ["real", level])
    made["predicate"]["not_covered"].append(PROFILE)
    checked = check_signed(sealed(made, home), home / "a", trusted=home / "trust")
    assert not checked.accepted and f"level '{level}', which was not checked" in checked.reason


@pytest.mark.parametrize("path, value", [
    (("subject", 0, "digest", "sha256"), "0" * 64), (("subject", 1, "name"), "another network"),
    (("subject",), []), (("subject", 0, "annotations"), {}),
], ids=str)  # fmt: skip
def test_subjects_are_those_of_the_certificate(home, statement, path, value):
    checked = check_signed(sealed(changed(statement, path, value), home), "a", trusted=home / "trust")
    assert not checked.accepted and "subjects" in checked.reason


def test_a_certificate_cannot_be_exchanged(home, statement):
    for other in (FAILS, SHORT, Certificate(payload(3))):
        whole = json.loads(other.to_bytes())
        checked = check_signed(sealed(changed(statement, ("predicate", "certificate"), whole), home), "a")
        assert not checked.accepted
    for nothing in ({}, None, "", [1.5]):
        checked = check_signed(sealed(changed(statement, ("predicate", "certificate"), nothing), home), "a")
        assert not checked.accepted


@pytest.mark.parametrize("path, value", [
    (("margin",), "0.5"), (("margin",), None), (("requirements",), []), (("environment",), {}),
    (("expires",), "2999-01-01T00:00:00Z"), (("checker", "version"), "0.0.1"), (("property", "vnnlib2"), None),
], ids=str)  # fmt: skip
def test_what_says_less_is_accepted(home, statement, path, value):
    made = sealed(changed(statement, ("predicate", *path), value), home)
    assert check_signed(made, home / "a", trusted=home / "trust").accepted


def test_a_signer_may_add_assumptions_and_gaps(home, tmp_path):
    path = ax.sign_certificate(HOLDS, home / "alice", tmp_path / "a.signed.json", assumptions="the sensor works",
                               not_covered=["snow"])  # fmt: skip
    predicate = json.loads(read_envelope(path.read_bytes(), "").payload)["predicate"]
    assert predicate["assumptions"][-1] == "the sensor works" and predicate["not_covered"][-1] == "snow"
    assert ax.check_certificate(path, trusted=home / "trust").accepted
    with pytest.raises(ax.CertificateError, match="is no text"):
        ax.sign_certificate(HOLDS, home / "alice", tmp_path / "b.signed.json", requirements=[12])


@pytest.mark.parametrize("change", [
    lambda p: p + b"\n", lambda p: b" " + p, lambda p: p.replace(b'{"_type"', b'{"_type":"","_type"', 1),
    lambda p: p.replace(b"in-toto.io/Statement/v1", b"in-toto.io/Statement/v2"), lambda p: b"[]", lambda p: b"\xff",
    lambda p: p.replace(b"certificate/v1", b"certificate/v2"), lambda p: b"{" * 9999, lambda p: p[:-1] + b',"z":1}',
])  # fmt: skip
def test_other_payloads_are_unreadable_though_signed(home, statement, change):
    made = signed(Envelope(change(canonical(statement))), home / "alice").to_bytes()
    checked = check_signed(made, "a", trusted=home / "trust")
    assert not checked.accepted and checked.unreadable
    other = signed(Envelope(canonical(statement), "application/json"), home / "alice").to_bytes()
    assert check_signed(other, "a", trusted=home / "trust").unreadable


@given(st.data())
def test_no_flipped_byte_changes_what_is_accepted(home, file, data):
    place, bit = data.draw(st.integers(0, len(file) - 1)), data.draw(st.integers(0, 7))
    content = bytearray(file)
    content[place] ^= 1 << bit
    path = home / "flipped.signed.json"
    path.write_bytes(content)
    checked = ax.check_certificate(path, trusted=home / "trust")
    if checked.accepted:
        whole = ax.check_certificate(home / "net.signed.json", trusted=home / "trust")
        assert replace(checked, seconds=0) == replace(whole, seconds=0)


@given(st.data())
def test_no_flipped_byte_of_a_payload_changes_what_is_claimed_though_no_signature_is_checked(home, statement, data):
    """The signer's own words may change, as nobody asked for a signature; nothing that the checker says may."""
    body = bytearray(canonical(statement))
    place = data.draw(st.integers(0, len(body) - 1))
    body[place] ^= 1 << data.draw(st.integers(0, 6))
    checked = check_signed(Envelope(bytes(body)).to_bytes(), home / "a")
    if checked.accepted:
        found = json.loads(body)
        kept = lambda s: {key: value for key, value in s["predicate"].items() if key not in OWN}
        margin = found["predicate"]["margin"]
        assert float(margin) <= 1
        assert kept(changed(found, ("predicate", "margin"), "1")) == kept(statement)
        assert found["subject"] == statement["subject"]


def test_leaves_and_depth_are_counted():
    assert tree_size({"kind": "point"}) == (None, None)
    deep = build.tree([0, -1, 1, -1, 2, -1, -1], [[0]])
    assert tree_size({"kind": "tree", "trees": [build.tree([-1], [[0]]), deep]}) == (5, 3)
    row = lambda d: build.row(d, {0: 1})
    two = build.forest([0, -1, -1, -3], [[row(0)], [row(1)]], [[0], [1]])
    assert tree_size({"kind": "tree", "trees": [two]}) == (3, 1)
    on = build.forest([-1, 0, -3, -3], [[row(0)], [row(1)]], [[0, 1]])  # disjunct 0 above, 1 in both halves
    assert tree_size({"kind": "tree", "trees": [on]}) == (2, 1)


def test_a_float32_level_changes_what_is_not_covered():
    """What a checker of that level will say; no level but `real` is checked today."""
    checked = replace(ax.check_certificate(HOLDS).raise_if_rejected(), levels=("real", "float32"))
    made = statement_of(HOLDS.to_bytes(), checked, Words(), LATER)["predicate"]
    assert made["levels"] == ["real", "float32"] and made["time"] == "2999-01-01T00:00:00Z"
    assert made["not_covered"][0] == "float32 executions that the numeric profile does not allow"
