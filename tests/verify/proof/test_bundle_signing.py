"""Files of several proofs, signed as a whole: every claim is listed, and no statement says more than the file."""

import base64
import hashlib
import io
import json
import shutil
import zipfile
from pathlib import Path

import jax
import numpy as np
import pytest

import axiom_jax as ax
from axiom_jax import nn
from axiom_jax.cli import main
from axiom_jax.verification.proof.bundle_attestation import COMPARED
from axiom_jax.verification.proof.certificate import canonical
from axiom_jax.verification.proof.envelope import Envelope, read_envelope, signed

NET = ax.Sequential(nn.Dense(2, 4), nn.relu, nn.Dense(4, 3), seed=1, name="net")
X = np.array([[0.25, -0.5]], np.float32)


@pytest.fixture(scope="module")
def bundle():
    result = ax.verify(NET, [ax.Robust("0.01"), ax.Robust("9")], data=X, mode="quick")
    assert [item.verdict for item in result] == ["proved", "refuted"]
    return ax.generate_certificate(NET, result, requirement=["R-1", 2], share=0.5)


@pytest.fixture(scope="module")
def home(tmp_path_factory, bundle):
    """A trusted key and another; the file, and it signed with the model and without."""
    folder = tmp_path_factory.mktemp("several")
    (folder / "trust").mkdir()
    for name in ("alice", "eve"):
        ax.new_key(folder / name)
    (folder / "trust" / "alice.pub").write_bytes((folder / "alice.pub").read_bytes())
    ax.save_certificate(bundle, folder / "audit.cert")
    ax.save_model(NET, folder / "net.axiom")
    ax.sign_certificate(folder / "audit.cert", folder / "alice", model=NET, requirements=["R-9"], not_covered=["rain"])
    ax.sign_certificate(folder / "audit.cert", folder / "alice", folder / "alone.signed.json")
    return folder


@pytest.fixture
def statement(home):
    return json.loads(read_envelope((home / "audit.signed.json").read_bytes(), "").payload)


def sealed(statement, home, out, name="alice"):
    """The file of a statement that somebody signed as it is."""
    out.write_bytes(signed(Envelope(canonical(statement)), home / name).to_bytes())
    return out


def test_the_statement_lists_every_claim(home, bundle, statement):
    predicate = statement["predicate"]
    items = bundle.statement["items"]
    assert [(c["claim"], c["verdict"]) for c in predicate["claims"]] == [(i["claim"], i["verdict"]) for i in items]
    assert predicate["compared"] is True and predicate["requirements"] == ["R-1", "R-9"]
    assert set(bundle.statement["not_covered"]) <= set(predicate["not_covered"]) and "rain" in predicate["not_covered"]
    digests = {subject["name"]: subject["digest"]["sha256"] for subject in statement["subject"]}
    assert digests["bundle"] == hashlib.sha256((home / "audit.cert").read_bytes()).hexdigest()
    assert all(digests[item["part"]] == item["sha256"] for item in items)
    assert ax.load_certificate(home / "audit.signed.json") == bundle


def test_it_is_accepted_with_its_claims(home):
    path = home / "audit.signed.json"
    checked = ax.check_certificate(path, NET, trusted=home / "trust").raise_if_rejected()
    assert checked.statement.startswith("proved: ") and "\nrefuted: " in checked.statement
    assert [s.trusted for s in checked.signatures] == [True]
    assert "2 claims, compared with the model and their parts by who signed" in checked.statement
    alone = ax.check_certificate(path, trusted=home / "trust").raise_if_rejected()
    assert alone.statement.startswith("No model was given") and "signature not checked" not in alone.statement


def test_without_a_model_the_statement_says_so(home):
    told = json.loads(read_envelope((home / "alone.signed.json").read_bytes(), "").payload)["predicate"]
    assert told["compared"] is False and COMPARED in told["not_covered"]
    checked = ax.check_certificate(home / "alone.signed.json", trusted=home / "trust").raise_if_rejected()
    assert "2 claims, not compared with their parts by who signed" in checked.statement


def test_claims_that_are_not_the_models_are_not_signed(home, bundle, tmp_path):
    other = ax.Sequential(nn.Dense(2, 4), nn.relu, nn.Dense(4, 3), seed=2, name="net")
    with pytest.raises(ax.CertificateError, match="is not signed: its check failed"):
        ax.sign_certificate(home / "audit.cert", home / "alice", tmp_path / "a.json", model=other)
    items = [bundle.statement["items"][0] | {"claim": "everything is fine"}, *bundle.statement["items"][1:]]
    liar = type(bundle)({**bundle.statement, "items": items}, bundle.parts)
    with pytest.raises(ax.CertificateError, match="is not signed: its check failed"):
        ax.sign_certificate(liar, home / "alice", tmp_path / "a.json", model=NET)
    assert not list(tmp_path.iterdir())


def test_another_model_is_told_of_a_signed_file(home):
    bits = jax.tree.map(lambda a: a.at[(0,) * a.ndim].add(1e-7) if a.ndim == 2 else a, NET)
    checked = ax.check_certificate(home / "audit.signed.json", bits, trusted=home / "trust")
    assert not checked.accepted and "another network" in checked.reason and checked.signatures[0].trusted


def first(predicate):
    return sorted(predicate["bundle"]["parts"])[0]


@pytest.mark.parametrize("change,reason", [
    (lambda s, p: p["claims"][0].update(claim="everything is fine"), "its field claims is not that of the file"),
    (lambda s, p: p["claims"][1].update(verdict="proved"), "its field claims is not that of the file"),
    (lambda s, p: p["claims"][0].update(levels=["float32", "real"]), "its field claims is not that of the file"),
    (lambda s, p: p["network"].update(name="other"), "its field network is not that of the file"),
    (lambda s, p: s["subject"].pop(), "its subjects are not those of the file"),
    (lambda s, p: p.update(more=1), "it lacks fields or has others than such a file has: 'more'"),
    (lambda s, p: p.pop("compared"), "it lacks fields or has others than such a file has: 'compared'"),
    (lambda s, p: p.update(compared=1), "its field compared is not of the form"),
    (lambda s, p: p.update(checkers={}), "its field checkers is not of the form"),
    (lambda s, p: p.update(compared=False), f"its not_covered lack: {COMPARED}"),
    (lambda s, p: p.update(assumptions=[]), "its assumptions lack: "),
    (lambda s, p: p["not_covered"].pop(0), "its not_covered lack: "),
    (lambda s, p: p["bundle"]["statement"]["items"][0].update(claim="all is fine"), "its subjects are not those of"),
    (lambda s, p: p["bundle"]["parts"].pop(first(p)), "an item names no part"),
    (lambda s, p: p["bundle"]["parts"][first(p)].update(digest="0" * 64), "was changed: its sha256 differs"),
])  # fmt: skip
def test_statements_that_say_more_are_rejected_though_they_are_signed(home, statement, tmp_path, change, reason):
    change(statement, statement["predicate"])
    path = sealed(statement, home, tmp_path / "a.signed.json")
    checked = ax.check_certificate(path, trusted=home / "trust")
    assert not checked.accepted and reason in checked.reason


@pytest.mark.parametrize("wrong", [None, {}, [], {"statement": {}, "parts": {}}, {"statement": 1, "parts": {"a": 1}},
                                   {"statement": {}, "parts": {"\ud800": {}}}])  # fmt: skip
def test_what_holds_no_file_is_rejected(home, statement, tmp_path, wrong):
    statement["predicate"]["bundle"] = wrong
    path = sealed(statement, home, tmp_path / "a.signed.json")
    checked = ax.check_certificate(path, trusted=home / "trust")
    assert not checked.accepted
    with pytest.raises(ax.CertificateError):
        ax.load_certificate(path)
    with pytest.raises(ax.CertificateError):
        ax.show_certificate(path)


def test_trust_expiry_and_revocation_hold_for_it(home, statement, tmp_path):
    path = sealed(statement, home, tmp_path / "a.signed.json", "eve")
    assert "no trusted key signed it" in (ax.check_certificate(path, trusted=home / "trust").reason or "")
    assert "unsigned" in (ax.check_certificate(home / "audit.cert", trusted=home / "trust").reason or "")
    part = statement["predicate"]["bundle"]["parts"][first(statement["predicate"])]
    network = next(s for s in statement["subject"] if "program and tensors" in s["name"])["digest"]["sha256"]
    for number, digest in enumerate((part["digest"], network, statement["subject"][0]["digest"]["sha256"])):
        shutil.copytree(home / "trust", tmp_path / str(number))
        (tmp_path / str(number) / "revoked.json").write_text(json.dumps([digest]))
        checked = ax.check_certificate(home / "audit.signed.json", trusted=tmp_path / str(number))
        assert not checked.accepted and "is revoked" in checked.reason


def test_a_second_signature_is_added(home, tmp_path):
    shutil.copy(home / "audit.signed.json", tmp_path / "a.signed.json")
    ax.sign_certificate(tmp_path / "a.signed.json", home / "eve")
    assert len(ax.check_certificate(tmp_path / "a.signed.json").raise_if_rejected().signatures) == 2


def test_it_is_shown_part_by_part(home, bundle):
    shown = ax.show_certificate(home / "audit.signed.json")
    assert "several proofs, 2 parts, in a signed envelope" in shown.title
    text = str(shown).replace("\n", " ")
    assert "refuted" in text and "Envelope" in text and "R-9" in text
    assert ax.show_certificate(home / "audit.signed.json", check=True).checked.accepted
    assert ax.show_certificate(home / "audit.cert").to_dict()["keys"] is None


def test_an_auditor_gets_the_archive_and_its_parts_back(home):
    envelope = json.loads((home / "audit.signed.json").read_bytes())
    inside = json.loads(base64.b64decode(envelope["payload"]))["predicate"]["bundle"]
    with zipfile.ZipFile(io.BytesIO((home / "audit.cert").read_bytes())) as archive:
        for name, part in inside["parts"].items():
            said = json.dumps(part, sort_keys=True, separators=(",", ":")) + "\n"
            assert archive.read(name) == said.encode()


def test_there_is_no_summary_of_it(home, tmp_path):
    with pytest.raises(ax.CertificateError, match="A file of several proofs has no summary as a whole"):
        ax.write_summary(home / "audit.signed.json", home / "alice", tmp_path / "a.vsa.json")


def run(capsys, *arguments):
    with pytest.raises(SystemExit) as stop:
        main(list(map(str, arguments)))
    return stop.value.code, capsys.readouterr().out


def test_the_commands(home, tmp_path, capsys):
    out = tmp_path / "a.signed.json"
    sign = ("sign", home / "audit.cert", "--key", home / "alice", "--out", out, "--json")
    assert run(capsys, *sign, "--model", home / "net.axiom")[0] == 0
    check = ("check", out, "--trusted", home / "trust", "--model", home / "net.axiom")
    code, text = run(capsys, *check)
    assert code == 0 and text.startswith("accepted\n") and "compared with the model and their parts by who" in text
    code, text = run(capsys, "inspect", out, "--json")
    assert code == 0 and "several proofs" in text
    ax.save_model(ax.Sequential(nn.Dense(2, 4), nn.relu, nn.Dense(4, 3), seed=2), tmp_path / "other.axiom")
    code, text = run(
        capsys, *sign[:4], "--model", tmp_path / "other.axiom", "--out", Path(tmp_path, "b.json"), "--json"
    )
    assert code == 2 and "another network" in json.loads(text.splitlines()[-1])["error"]["got"]
