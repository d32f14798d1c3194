"""Signatures of models by OpenSSF model signing: named where they are about the certificate's file, else refused.

`release.sig` was made by model_signing 1.1.1 over a folder with `net.onnx`.
"""

import base64
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import axiom_jax as ax
from axiom_jax.cli import main
from axiom_jax.verification.proof.certificate import Certificate, canonical
from axiom_jax.verification.proof.envelope import Envelope, read_envelope, signed
from axiom_jax.verification.proof.model_signature import read_model_signature

sys.path.insert(0, str(Path(__file__).parents[1]))
import checker_builder as build

ROOT = Path(__file__).parents[3]
GOLDEN = ROOT / "tests" / "golden" / "model_signing"
NODES = [{"op": "input", "size": 1}, {"op": "tensor", "name": "w"},
         {"op": "matmul", "of": [0, 1], "shape": [1, 1, 1]}]  # fmt: skip
PROPERTY = """(declare-const X_0 Real) (declare-const X_1 Real) (declare-const Y_0 Real)
(assert (<= 0 X_0 1)) (assert (<= 0 X_1 1)) (assert (>= Y_0 9))"""


def digest(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def certificate(**source):
    """x ↦ x on [0, 1] stays below 2."""
    cases = [build.case([0], [1], [[build.atom({0: -1}, -2)]])]
    proof = {"kind": "tree", "trees": [build.tree([-1], [[0]])]}
    payload = build.certificate(NODES, {"w": np.ones((1, 1), np.float32)}, cases, proof)
    return Certificate(payload | {"model": payload["model"] | {"source": source}})


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A key that is trusted, and a certificate about the network of net.onnx, signed with the model's signature."""
    folder = tmp_path_factory.mktemp("bound")
    (folder / "trust").mkdir()
    ax.new_key(folder / "key")
    (folder / "trust" / "key.pub").write_bytes((folder / "key.pub").read_bytes())
    ax.save_certificate(certificate(onnx=digest(GOLDEN / "net.onnx")), folder / "net.cert")
    ax.sign_certificate(folder / "net.cert", folder / "key", model_signature=GOLDEN / "release.sig")
    return folder


def statement(home):
    return json.loads(read_envelope((home / "net.signed.json").read_bytes(), "").payload)


def test_the_statement_names_the_models_signature(home):
    named = statement(home)["predicate"]["model_signature"]
    assert named == {"file": "net.onnx", "name": "release.sig", "sha256": digest(GOLDEN / "release.sig")}
    checked = ax.check_certificate(home / "net.signed.json", trusted=home / "trust").raise_if_rejected()
    assert f"model signed 'release.sig' sha256 {named['sha256']} with 'net.onnx' in it; not judged" in checked.statement


def test_the_files_are_those_of_the_folder():
    found = read_model_signature(GOLDEN / "release.sig")
    assert found.files == ((digest(GOLDEN / "net.onnx"), "net.onnx"),)


def test_a_signature_of_another_model_is_refused(tmp_path, home):
    for made in (certificate(onnx="ab" * 32), certificate()):
        with pytest.raises(ax.CertificateError) as caught:
            ax.sign_certificate(made, home / "key", tmp_path / "a.json", model_signature=GOLDEN / "release.sig")
        assert caught.value.what == "The model's signature is about other files than the certificate."
        assert caught.value.at == "release.sig" and not (tmp_path / "a.json").exists()


@pytest.mark.parametrize("change", [
    lambda d: d | {"mediaType": "text/plain"},
    lambda d: d | {"dsseEnvelope": {"payload": "%%"}},
    lambda d: d | {"dsseEnvelope": {"payload": base64.b64encode(b'{"predicateType": "x", "predicate": {}}').decode()}},
    lambda d: {},
    lambda d: [],
])  # fmt: skip
def test_what_is_no_signature_of_a_model_is_refused(tmp_path, change, home):
    found = json.loads((GOLDEN / "release.sig").read_bytes())
    (tmp_path / "odd.sig").write_text(json.dumps(change(found)))
    with pytest.raises(ax.CertificateError, match="This is no signature of a model"):
        ax.sign_certificate(home / "net.cert", home / "key", tmp_path / "a.json", model_signature=tmp_path / "odd.sig")
    with pytest.raises(ax.CertificateError, match="cannot be read"):
        read_model_signature(tmp_path / "none.sig")


@pytest.mark.parametrize("wrong", [None, {}, {"file": "n", "name": "m"}, {"file": "n", "name": "m", "sha256": "ab"},
                                   {"file": 1, "name": "m", "sha256": "ab" * 32}])  # fmt: skip
def test_a_malformed_field_is_rejected_though_it_is_signed(home, tmp_path, wrong):
    told = statement(home)
    told["predicate"]["model_signature"] = wrong
    (tmp_path / "a.json").write_bytes(signed(Envelope(canonical(told)), home / "key").to_bytes())
    checked = ax.check_certificate(tmp_path / "a.json", trusted=home / "trust")
    assert not checked.accepted and "its field model_signature is not of the form" in (checked.reason or "")


def test_a_revoked_signature_of_a_model_is_rejected(home, tmp_path):
    shutil.copytree(home / "trust", tmp_path / "trust")
    (tmp_path / "trust" / "revoked.json").write_text(json.dumps([digest(GOLDEN / "release.sig")]))
    checked = ax.check_certificate(home / "net.signed.json", trusted=tmp_path / "trust")
    assert not checked.accepted and "the model's signature" in checked.reason and "is revoked" in checked.reason


def test_the_command_takes_the_file(home, tmp_path, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["sign", str(home / "net.cert"), "--key", str(home / "key"), "--out", str(tmp_path / "a.json"),
              "--model-signature", str(GOLDEN / "release.sig"), "--json"])  # fmt: skip
    assert ended.value.code == 0 and "model_signature" in (tmp_path / "a.json").read_text() + base64.b64decode(
        json.loads((tmp_path / "a.json").read_bytes())["payload"]).decode()  # fmt: skip
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        main(["sign", str(home / "net.cert"), "--key", str(home / "key"), "--out", str(tmp_path / "b.json"),
              "--model-signature", str(home / "net.cert"), "--json"])  # fmt: skip
    assert ended.value.code == 2 and "no signature of a model" in capsys.readouterr().out


def test_the_recipe_of_the_docs_runs(tmp_path):
    """The lines of docs/signing.md, from a key to both judgements, and after a flipped bit of the model."""
    for command, package in (("model_signing", "model-signing pyOpenSSL"), ("openssl", "openssl")):
        if shutil.which(command) is None:
            pytest.skip(f"{command} is not installed ({package})")
    onnx = pytest.importorskip("onnx", reason="onnx is an extra")
    text = (ROOT / "docs" / "signing.md").read_text()
    block = re.search(r"## Signing the model too.*?```\n(.*?)```", text, re.S)
    lines = block[1].splitlines() if block else []
    words = ["pip", "openssl", "openssl", "model_signing", "axiom", "model_signing", "axiom"]
    assert [line.split()[0] for line in lines] == words
    (tmp_path / "release-folder").mkdir()
    model = tmp_path / "release-folder" / "net.onnx"
    shutil.copy(GOLDEN / "net.onnx", model)
    assert len(onnx.load(model).graph.node) == 3
    (tmp_path / "p.vnnlib").write_text(PROPERTY)

    def run(line):
        """A line as a shell runs it; `axiom` is this package."""
        axiom = f'"{sys.executable}" -c "from axiom_jax.cli import main; main()"'
        line = re.sub(r"^axiom", lambda _: axiom, line)
        path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
        return subprocess.run(line, shell=True, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False,
                              env=os.environ | {"PYTHONPATH": path})  # fmt: skip

    prepare = ["axiom verify release-folder/net.onnx p.vnnlib --certificate net.cert", "axiom keys new --out release"]
    for line in (*prepare, "mkdir trusted && cp release.pub trusted/", *lines[1:]):
        done = run(line)
        assert done.returncode == 0, (line, done.stdout, done.stderr)
    assert done.stdout.startswith("accepted") and "model signed 'release.sig'" in done.stdout
    data = bytearray(model.read_bytes())
    data[data.index(b"\x00\x00\x80\x3f") + 2] ^= 0x40  # a weight of 1
    model.write_bytes(data)
    assert run(lines[5]).returncode != 0 and run(lines[6]).returncode == 1
