"""`axiom keys`, `axiom sign` and signed files at `axiom check`: words, exit statuses, JSON."""

import os
import stat
import sys
from pathlib import Path

import numpy as np
import pytest
from cli_helpers import last, run

import axiom_jax as ax
from axiom_jax.verification.proof.certificate import Certificate

sys.path.insert(0, str(Path(__file__).parent / "verify"))
import checker_builder as build

NODES = [{"op": "input", "size": 1}, {"op": "tensor", "name": "w"},
         {"op": "matmul", "of": [0, 1], "shape": [1, 1, 1]}]  # fmt: skip


def certificate(threshold):
    """x ↦ x on [0, 1] stays below a threshold."""
    cases = [build.case([0], [1], [[build.atom({0: -1}, -threshold)]])]
    proof = {"kind": "tree", "trees": [build.tree([-1], [[0]])]}
    return Certificate(build.certificate(NODES, {"w": np.ones((1, 1), np.float32)}, cases, proof))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two keys, one of them trusted, a certificate, and the same signed by either."""
    home = tmp_path_factory.mktemp("cli")
    for name in ("mine", "theirs"):
        ax.new_key(home / name, f"key of {name}")
    (home / "trust").mkdir()
    (home / "trust" / "mine.pub").write_bytes((home / "mine.pub").read_bytes())
    ax.save_certificate(certificate(2), home / "net.cert")
    ax.save_certificate(certificate(1), home / "short.cert")
    for name in ("mine", "theirs"):
        ax.sign_certificate(home / "net.cert", home / name, home / f"{name}.signed.json")
    return home


@pytest.fixture
def here(folder, monkeypatch):
    monkeypatch.chdir(folder)
    return folder


def test_keys_are_made_and_shown(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    code, out, _ = run(capsys, "keys", "new", "--comment", "safety team", "--json")
    made = last(out)
    assert code == 0 and (made["private"], made["public"]) == ("axiom-key", "axiom-key.pub")
    assert stat.S_IMODE(os.stat("axiom-key").st_mode) == 0o600
    for file in ("axiom-key", "axiom-key.pub"):
        code, out, _ = run(capsys, "keys", "show", file)
        assert code == 0 and made["keyid"] in out and "safety team" in out
    code, out, err = run(capsys, "keys", "new", "--json")
    assert code == 2 and "never written over" in err and last(out)["error"]["at"] == "axiom-key"
    assert run(capsys, "keys", "new", "--force", "--out", "axiom-key")[0] == 0
    code, out, _ = run(capsys, "keys", "show", "nothing", "--json")
    assert code == 2 and "axiom keys new" in last(out)["error"]["fix"]


def test_a_certificate_is_signed_and_checked(here, capsys, tmp_path):
    out_file = tmp_path / "a.signed.json"
    code, out, _ = run(capsys, "sign", "net.cert", "--key", "mine", "--out", out_file, "--requirement", "R-1",
                       "--requirement", "R-2", "--expires", "2999-12-31", "--json")  # fmt: skip
    made = last(out)
    assert code == 0 and made["signed"] == str(out_file) and len(made["keyids"]) == 1
    code, out, _ = run(capsys, "check", out_file, "--trusted", "trust")
    assert code == 0 and out.startswith("accepted\n") and "'R-1', 'R-2'" in out and "2999-12-31T23:59:59Z" in out
    code, out, _ = run(capsys, "check", out_file, "--json")
    found = last(out)
    assert code == 0 and found["signatures"] == [{"keyid": made["keyids"][0], "trusted": False, "valid": None}]
    assert found.keys() == {"accepted", "reason", "levels", "statement", "seconds", "signatures"}
    code, out, _ = run(capsys, "sign", out_file, "--key", "theirs")
    assert code == 0 and made["keyids"][0] in out
    code, out, _ = run(capsys, "check", out_file, "--trusted", "trust", "--threshold", "2")
    assert code == 1 and out.startswith("rejected: 1 of 2 trusted keys signed it")


@pytest.mark.parametrize("file, reason", [
    ("net.cert", "unsigned"), ("theirs.signed.json", "no trusted key signed it"), ("short.cert", "unsigned"),
])  # fmt: skip
def test_what_no_trusted_key_signed_is_rejected(here, capsys, file, reason):
    code, out, _ = run(capsys, "check", file, "--trusted", "trust")
    assert code == 1 and out.startswith(f"rejected: {reason}")
    code, out, _ = run(capsys, "check", file, "--trusted", "trust", "--json")
    assert code == 1 and last(out)["accepted"] is False and last(out)["levels"] == []


def test_unsigned_is_shown_as_unsigned(here, capsys):
    code, out, _ = run(capsys, "check", "net.cert", "--json")
    assert code == 0 and last(out)["signatures"] == [] and "signature not checked" in last(out)["statement"]
    assert "1 signature, not checked" in run(capsys, "check", "theirs.signed.json")[1]


def test_what_falls_short_is_not_signed(here, capsys):
    code, out, err = run(capsys, "sign", "short.cert", "--key", "mine", "--json")
    assert code == 2 and "is not signed" in err and "fall short" in last(out)["error"]["got"]
    assert not (here / "short.signed.json").exists()


@pytest.mark.parametrize("arguments, said", [
    (["check", "net.cert", "--trusted", "nowhere"], "folder of trusted keys cannot be read"),
    (["check", "mine.signed.json", "--trusted", "trust", "--threshold", "0"], "threshold"),
    (["check", "mine.signed.json", "--threshold", "2"], "number of trusted keys"),
    (["check", "net.cert", "--summary", "vsa.json"], "--summary needs --key"),
    (["check", "net.cert", "--key", "mine"], "--key needs --summary"),
    (["check", "none.signed.json", "--trusted", "trust"], None),
    (["sign", "net.cert"], "--key"),
    (["sign", "net.cert", "--key", "mine.pub"], "no private key that can sign"),
    (["sign", "net.cert", "--key", "mine", "--expires", "soon"], "no date"),
    (["sign", "net.cert", "--key", "mine", "--out", "mine.signed.json"], "its signatures would be lost"),
    (["keys", "verify", "none", "--trusted", "trust"], "cannot be read"),
], ids=lambda x: str(x)[:50])  # fmt: skip
def test_bad_usage_is_told(here, capsys, arguments, said):
    before = sorted(os.listdir(here))
    code, out, err = run(capsys, *arguments, "--json")
    assert code == 2 and sorted(os.listdir(here)) == before
    error = last(out)["error"]
    assert error["fix"] and (said is None or said in err)


def test_a_summary_is_written_and_its_signature_judged(here, capsys, tmp_path):
    vsa = tmp_path / "vsa.json"
    code, out, _ = run(capsys, "check", "mine.signed.json", "--trusted", "trust", "--summary", vsa, "--key", "mine")
    assert code == 0 and out.startswith("accepted")
    code, out, _ = run(capsys, "keys", "verify", vsa, "--trusted", "trust")
    assert code == 0 and out.startswith("valid: https://slsa.dev/verification_summary/v1")
    code, out, _ = run(capsys, "keys", "verify", vsa, "--trusted", "trust", "--threshold", "2", "--json")
    assert code == 1 and last(out)["accepted"] is False and last(out)["signatures"][0]["valid"] is True
    code, out, _ = run(capsys, "check", "short.cert", "--summary", vsa, "--key", "mine")
    assert code == 1 and out.startswith("rejected")
    code, out, _ = run(capsys, "check", vsa)
    assert code == 2 and "holds no certificate" in out


def test_inspect_tells_who_is_said_to_have_signed(here, capsys):
    code, out, _ = run(capsys, "inspect", "mine.signed.json", "--json")
    assert code == 0 and last(out)["kind"] == "signed certificate" and len(last(out)["signatures"]) == 1
    assert "was not checked here" in run(capsys, "inspect", "mine.signed.json")[1]


def test_models_carry_signed_certificates(here, capsys, tmp_path):
    model = ax.Sequential(ax.nn.Dense(2, 1), name="net")
    result = ax.verify(model, ax.Bounded(-99, 99), region=ax.Box([-1.0, -1.0], [1.0, 1.0]))
    path = ax.sign_certificate(result.items[0].certificate, "mine", tmp_path / "net.signed.json")
    file = ax.save_model(model, tmp_path / "net.axiom", certificates=[path])
    code, out, _ = run(capsys, "check", path, "--model", file, "--trusted", "trust")
    assert code == 0 and "every weight was compared" in out
    code, out, _ = run(capsys, "inspect", file, "--json")
    assert code == 0 and len(last(out)["certificates"][0]["signatures"]) == 1


def test_without_the_package_signed_files_are_checked_but_not_their_signatures(here, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "cryptography.hazmat.primitives.asymmetric.ed25519", None)
    assert run(capsys, "check", "mine.signed.json")[0] == 0
    for arguments in (["check", "mine.signed.json", "--trusted", "trust"], ["sign", "net.cert", "--key", "mine"]):
        code, out, _ = run(capsys, *arguments, "--json")
        assert code == 2 and last(out)["error"]["fix"] == 'pip install "axiom-jax[sign]"'
