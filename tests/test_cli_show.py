"""`axiom show`: what it prints and writes, and its exit status."""

import sys
from pathlib import Path

import cli_helpers
import pytest
from cli_helpers import last

sys.path.insert(0, str(Path(__file__).parent / "verify"))
from checker_builder import atom, case, certificate, dense_program, full_tree, seal

KEYS = {"file", "bytes", "sha256", "format", "version", "claim", "text", "intact", "keys", "envelope", "checked",
        "accepted", "levels", "reason", "statement", "sections", "html", "pdf"}  # fmt: skip


def made(threshold=-1):
    import numpy as np

    program = dense_program([np.ones((2, 1), np.float32), np.ones((1, 1), np.float32)], [np.zeros(1), np.zeros(1)])
    cases = [case([0, 0], [1, 1], [[atom({0: 1}, threshold)]])]
    return certificate(*program, cases, {"kind": "tree", "trees": [full_tree(2, 2, [0])]})


@pytest.fixture
def file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("a.cert").write_bytes(seal(made()))
    return "a.cert"


def run(capsys, *arguments):
    return cli_helpers.run(capsys, "show", *arguments)


def test_a_file_is_shown_and_not_judged(capsys, file):
    status, out, err = run(capsys, file)
    assert status == 0 and err == ""
    assert out.startswith("a.cert: certificate, version 3\nnot checked here")
    assert "y[0] ≤ -1" in out


def test_check_runs_the_checker(capsys, file):
    status, out, _ = run(capsys, file, "--check")
    assert status == 0 and "accepted by the checker" in out
    Path("wrong.cert").write_bytes(seal(made(1)))
    status, out, _ = run(capsys, "wrong.cert", "--check")
    assert status == 1 and "rejected by the checker" in out
    assert run(capsys, "wrong.cert")[0] == 0  # shown only


def test_a_model_implies_the_check(capsys, file):
    import numpy as np
    import onnx
    from onnx import helper, numpy_helper

    value = lambda name, n: helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1, n])
    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    weights = [numpy_helper.from_array(np.ones((2, 1), np.float32), "w")]
    graph = helper.make_graph([node], "other", [value("x", 2)], [value("y", 1)], weights)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), "other.onnx")
    status, out, _ = run(capsys, file, "--model", "other.onnx")
    assert status == 1 and "it is about another network" in " ".join(out.split())


def test_pages_are_written(capsys, file):
    status, out, _ = run(capsys, file, "--html", "a.html", "--pdf", "a.pdf")
    assert status == 0 and "written: a.html" in out and "written: a.pdf" in out
    assert Path("a.html").read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    assert Path("a.pdf").read_bytes().startswith(b"%PDF-")


def test_json_has_the_same_keys_always(capsys, file):
    for arguments in ([], ["--check"], ["--html", "a.html"]):
        status, out, _ = run(capsys, file, "--json", *arguments)
        found = last(out)
        assert status == 0 and set(found) == KEYS and len(out.splitlines()) == 1
    assert found["html"] == "a.html" and found["pdf"] is None and found["accepted"] is None
    assert found["sections"][1]["title"] == "Claim"


@pytest.mark.parametrize("content", [None, b"", b"{", b"PK\x03\x04"])
def test_a_damaged_file_is_a_clean_error(capsys, tmp_path, monkeypatch, content):
    monkeypatch.chdir(tmp_path)
    if content is not None:
        Path("bad.cert").write_bytes(content)
    status, out, err = run(capsys, "bad.cert", "--json")
    error = last(out)["error"]
    assert status == 2 and error["at"] == "bad.cert" and error["fix"]
    assert err.startswith("CertificateError: ") and "Traceback" not in err


def test_a_folder_that_is_not_there_is_a_clean_error(capsys, file):
    status, _, err = run(capsys, file, "--html", "nowhere/a.html")
    assert status == 2 and "cannot be written" in err
