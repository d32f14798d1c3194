"""The checkers as one file: it says what they say, needs nothing but Python, and has the same bytes everywhere."""

import hashlib
import io
import json
import os
import stat
import subprocess
import sys
import time
import zipfile
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

import axiom_jax as ax
from axiom_jax.cli import main
from axiom_jax.verification.proof.carrying import DATE, checker_archive, write_checker
from axiom_jax.verification.proof.certificate import CHECKER, DERIVATION_CHECKER, Certificate

sys.path.insert(0, str(Path(__file__).parents[1]))
import checker_builder as build
from derivation_proofs import sigmoid_range

NODES = [{"op": "input", "size": 2}, {"op": "tensor", "name": "w"},
         {"op": "matmul", "of": [0, 1], "shape": [1, 2, 2]}, {"op": "relu", "of": [2]}]  # fmt: skip


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """The file, and certificates of every kind: accepted, a derivation, signed ones, broken ones."""
    folder = tmp_path_factory.mktemp("carried")
    write_checker(folder / "axiom-checker.pyz")
    cases = [build.case([0, 0], [1, 1], [[build.atom({0: -1}, Fraction(-2))]])]
    proof = {"kind": "tree", "trees": [build.tree([0, -1, 2, -1, -1], [[0]])]}
    made = Certificate(build.certificate(NODES, {"w": np.eye(2, dtype=np.float32)}, cases, proof))
    ax.save_certificate(made, folder / "net.cert")
    (folder / "proof.cert").write_bytes(sigmoid_range().to_bytes())
    ax.new_key(folder / "key")
    for name in ("net", "proof"):
        ax.sign_certificate(folder / f"{name}.cert", folder / "key")
    whole = made.to_bytes()
    (folder / "broken.cert").write_bytes(whole.replace(b'"-2"', b'"-3"'))
    weak = Certificate(made.payload | {"property": {"text": "", "cases": [
        build.case([0, 0], [1, 1], [[build.atom({0: -1}, -1)]])]}})  # fmt: skip
    ax.save_certificate(weak, folder / "weak.cert")
    (folder / "cut.cert").write_bytes(whole[:99])
    (folder / "empty.cert").write_bytes(b"")
    (folder / "odd.signed.json").write_bytes(b'{"payloadType":"x","payload":"!"}')
    return folder


def run(program, *names, home):
    done = subprocess.run([sys.executable, "-I", "-S", str(program), *names], cwd=home, capture_output=True, text=True,
                          timeout=120, check=False)  # fmt: skip
    assert "Traceback" not in done.stderr
    return done.returncode, done.stdout


@pytest.mark.parametrize("name,checker,status,first", [
    ("net.cert", CHECKER, 0, "accepted"),
    ("proof.cert", DERIVATION_CHECKER, 0, "accepted"),
    ("net.signed.json", CHECKER, 0, "accepted"),
    ("broken.cert", CHECKER, 1, "rejected: the digest does not match"),
    ("weak.cert", CHECKER, 1, "rejected: 2 of 3 leaves fall short"),
    ("cut.cert", CHECKER, 2, "unreadable: "),
    ("empty.cert", CHECKER, 2, "unreadable: "),
    ("odd.signed.json", CHECKER, 1, "rejected: "),
    ("none.cert", CHECKER, 2, "unreadable: the file cannot be read"),
])  # fmt: skip
def test_it_says_what_the_checker_of_the_format_says(home, name, checker, status, first):
    code, text = run(home / "axiom-checker.pyz", name, home=home)
    assert (code, text) == run(checker, name, home=home)
    assert code == status and text.startswith(first)


def test_a_signed_derivation_is_judged_as_the_derivation_in_it(home):
    assert run(home / "axiom-checker.pyz", "proof.signed.json", home=home) == run(
        home / "axiom-checker.pyz", "proof.cert", home=home
    )


def test_several_files_have_a_block_each_and_the_worst_status(home):
    code, text = run(home / "axiom-checker.pyz", "net.cert", "proof.cert", "broken.cert", home=home)
    lines = text.splitlines()
    heads = [lines[lines.index(f"'{name}.cert':") + 1] for name in ("net", "proof", "broken")]
    assert code == 1 and heads == ["accepted", "accepted", "rejected: the digest does not match"]


@pytest.mark.parametrize("arguments", [(), ("--help",), ("net.cert", "-x")])
def test_bad_usage_is_status_2(home, arguments):
    assert run(home / "axiom-checker.pyz", *arguments, home=home) == (2, "")


def test_equal_checkers_give_equal_bytes(monkeypatch):
    first = checker_archive()
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    try:
        assert checker_archive() == first
    finally:
        monkeypatch.undo()
        time.tzset()
    with zipfile.ZipFile(io.BytesIO(first)) as archive:
        assert archive.namelist() == ["__main__.py", "checker.py", "derivation_checker.py"]
        assert {member.date_time for member in archive.infolist()} == {DATE}
        assert {member.compress_type for member in archive.infolist()} == {zipfile.ZIP_STORED}
        assert archive.read("checker.py") == CHECKER.read_bytes()
        assert archive.read("derivation_checker.py") == DERIVATION_CHECKER.read_bytes()


def test_it_needs_nothing_of_this_package(home):
    """Its modules are its own and the standard library's, in an interpreter without site-packages."""
    code = (f"import sys, runpy\nsys.argv = ['c', 'net.cert']\nsys.path[:0] = ['axiom-checker.pyz']\n"
            f"try:\n    runpy.run_path({str(home / 'axiom-checker.pyz')!r}, run_name='__main__')\n"
            f"except SystemExit as end:\n    assert end.code == 0\n"
            "own = [n for n in sys.modules if n.split('.')[0] not in sys.stdlib_module_names]\n"
            "print(*own, file=sys.stderr)\n")  # fmt: skip
    done = subprocess.run([sys.executable, "-I", "-S", "-c", code], cwd=home, capture_output=True, text=True,
                          timeout=120, check=False)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert set(done.stderr.split()) <= {"__main__", "checker", "derivation_checker"}


def test_the_command_writes_it_to_be_run(tmp_path, capsys):
    out = tmp_path / "carried.pyz"
    with pytest.raises(SystemExit) as ended:
        main(["export-checker", "--out", str(out), "--json"])
    facts = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert ended.value.code == 0 and facts["sha256"] == hashlib.sha256(out.read_bytes()).hexdigest()
    assert facts["checkers"]["checker.py"] == hashlib.sha256(CHECKER.read_bytes()).hexdigest()
    assert os.stat(out).st_mode & stat.S_IXUSR
    with pytest.raises(SystemExit) as ended:
        main(["export-checker", "--out", str(tmp_path / "no" / "c.pyz"), "--json"])
    error = json.loads(capsys.readouterr().out.splitlines()[-1])["error"]
    assert ended.value.code == 2 and error["what"] == "The checker cannot be written."
