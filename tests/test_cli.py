"""The command line as a user meets it: verdicts, exit codes, JSON, bad input, Ctrl-C."""

import contextlib
import csv
import gc
import itertools
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import onnx
import pytest
from cli_helpers import last, run
from onnx import helper, numpy_helper

from axiom_jax import cli

KEYS = {"verdict", "vnncomp", "levels", "checked", "seconds", "compile_seconds", "check_seconds", "bound",
        "certificate", "counterexample", "reason"}  # fmt: skip
SAFE = "(declare-const X_0 Real)(declare-const X_1 Real)(declare-const Y_0 Real)(declare-const Y_1 Real)"
BOX = "(assert (>= X_0 -1))(assert (<= X_0 1))(assert (>= X_1 -0.5))(assert (<= X_1 0.1))"


def write_net(path, seed=0, hidden=6):
    """A net of two inputs and two outputs: Gemm, Relu, Gemm."""
    rng = np.random.default_rng(seed)
    weights = {"W1": (2, hidden), "B1": (hidden,), "W2": (hidden, 2), "B2": (2,)}
    tensors = [numpy_helper.from_array(rng.normal(size=s).astype(np.float32), n) for n, s in weights.items()]
    nodes = [
        helper.make_node("Gemm", ["x", "W1", "B1"], ["h"], "first"),
        helper.make_node("Relu", ["h"], ["a"], "activation"),
        helper.make_node("Gemm", ["a", "W2", "B2"], ["y"], "second"),
    ]
    value = lambda name: helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1, 2])
    graph = helper.make_graph(nodes, "net", [value("x")], [value("y")], tensors)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


@pytest.fixture
def files(tmp_path, monkeypatch):
    """A net, a property that holds, and one that does not; the user stands in the folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    write_net("net.onnx")
    Path("holds.vnnlib").write_text(SAFE + BOX + "(assert (>= Y_0 1000))")
    Path("fails.vnnlib").write_text(SAFE + BOX + "(assert (>= Y_0 -1000))")
    return tmp_path


def test_garbage_is_collected_again_after_imports():
    with pytest.raises(ImportError), cli._loading():
        assert not gc.isenabled()
        raise ImportError
    assert gc.isenabled()
    gc.disable()
    try:
        with cli._loading():
            pass
        assert not gc.isenabled()  # as it was
    finally:
        gc.enable()


def test_proved_refuted_and_their_certificates(files, capsys):
    code, out, _ = run(capsys, "verify", "net.onnx", "holds.vnnlib", "--certificate", "a.cert", "--json")
    result = last(out)
    assert code == 0 and result.keys() == KEYS
    assert (result["verdict"], result["vnncomp"]) == ("proved", "unsat")
    assert (result["levels"], result["checked"]) == (["real", "float32"], True)
    assert result["bound"] > 0 and result["certificate"] == "a.cert" and result["counterexample"] is None

    code, out, _ = run(capsys, "verify", "net.onnx", "fails.vnnlib", "--certificate", "b.cert", "--json")
    result = last(out)
    assert code == 1 and result.keys() == KEYS and (result["verdict"], result["vnncomp"]) == ("refuted", "sat")
    inputs = [float.fromhex(x) for x in result["counterexample"]["inputs"]]
    assert -1 <= inputs[0] <= 1 and -0.5 <= inputs[1] <= np.float32(0.1)

    for cert in ("a.cert", "b.cert"):
        code, out, _ = run(capsys, "check", cert, "--model", "net.onnx")
        assert code == 0 and out.splitlines()[0] == "accepted"
    code, out, _ = run(capsys, "check", "a.cert", "--json")
    assert code == 0 and last(out)["accepted"] and last(out)["levels"] == ["real", "float32"]


def test_time_is_out_in_time_while_a_deep_net_compiles(files):
    """Layers of as many sizes as there are compile for longer than there is time; the process ends nevertheless."""
    sizes, rng = [2, *range(20, 60), 2], np.random.default_rng(0)
    shapes = list(itertools.pairwise(sizes))
    tensors = [numpy_helper.from_array(rng.normal(size=s).astype(np.float32), f"W{k}") for k, s in enumerate(shapes)]
    nodes = []
    for k in range(len(shapes)):
        nodes.append(helper.make_node("MatMul", [f"a{k}", f"W{k}"], [f"z{k}"], f"product{k}"))
        nodes.append(helper.make_node("Relu", [f"z{k}"], [f"a{k + 1}"], f"relu{k}"))
    ends = [helper.make_tensor_value_info(x, onnx.TensorProto.FLOAT, [1, 2]) for x in ("a0", f"a{len(shapes)}")]
    graph = helper.make_graph(nodes, "deep", ends[:1], ends[1:], tensors)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), "deep.onnx")
    code = "import axiom_jax._cli_verify, axiom_jax.cli, time; print(time.time(), flush=True); axiom_jax.cli.main()"
    command = [sys.executable, "-c", code, "verify", "deep.onnx", "holds.vnnlib", "--timeout", "1", "--json"]
    start = time.time()
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    loaded = float(done.stdout.split()[0])
    late = time.time() - loaded - 1
    result = last(done.stdout)
    assert done.returncode == 3 and (result["verdict"], result["vnncomp"]) == ("unknown", "timeout"), result
    assert result["reason"].startswith("out of time after ")
    assert late < max(2.0, loaded - start), f"{late:.2f} s late"  # a busy machine loads JAX as late as that


def test_half_precision_is_refused_by_name(files, capsys):
    weights = numpy_helper.from_array(np.ones((2, 2), np.float16), "W")
    ends = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT16, [1, 2]) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Gemm", ["x", "W"], ["y"])], "half", ends[:1], ends[1:], [weights])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), "half.onnx")
    code, out, _ = run(capsys, "verify", "half.onnx", "holds.vnnlib", "--json")
    assert code == 2 and last(out)["error"] == {
        "what": "The model computes in half precision.", "at": "half", "got": "x: float16[1, 2]",
        "fix": "give the same network in float32: its weights are float32 numbers too",
    }  # fmt: skip


def test_a_certificate_of_another_net_is_rejected(files, capsys):
    run(capsys, "verify", "net.onnx", "holds.vnnlib", "--certificate", "a.cert")
    write_net("other.onnx", seed=1)
    code, out, _ = run(capsys, "check", "a.cert", "--model", "other.onnx")
    assert code == 1 and out.startswith("rejected: it is about another network than other")
    code, out, _ = run(capsys, "check", "a.cert", "--fast", "--model", "other.onnx")
    assert code == 1 and out.startswith("rejected: it is about another network than other")
    code, out, _ = run(capsys, "check", "a.cert", "--fast", "--model", "net.onnx")
    assert code == 0 and out.startswith("accepted (fast)\n") and "every weight was compared" in out


def test_a_cut_or_edited_certificate_is_refused(files, capsys):
    run(capsys, "verify", "net.onnx", "holds.vnnlib", "--certificate", "a.cert")
    whole = Path("a.cert").read_bytes()
    Path("cut.cert").write_bytes(whole[: len(whole) // 2])
    code, out, _ = run(capsys, "check", "cut.cert")
    assert code == 2 and out.startswith("unreadable: ")
    Path("edited.cert").write_bytes(whole.replace(b'"threshold":"-1000"', b'"threshold":"-2000"'))
    code, out, _ = run(capsys, "check", "edited.cert")
    assert code == 1 and out.startswith("rejected: ")
    code, out, _ = run(capsys, "check", "nowhere.cert", "--json")
    assert code == 2 and last(out)["accepted"] is False


def test_levels_and_no_check(files, capsys):
    code, out, _ = run(capsys, "verify", "net.onnx", "holds.vnnlib", "--require-level", "float32", "--json")
    assert code == 0 and (last(out)["verdict"], last(out)["levels"]) == ("proved", ["real", "float32"])
    statement = ("verify", "net.onnx", "∀x in [0, 1]. sum(softmax(x)) == 1", "--require-level", "float32", "--json")
    code, out, _ = run(capsys, *statement)  # over the real numbers alone
    assert code == 3 and last(out)["verdict"] == "unknown" and "float32" in last(out)["reason"]
    code, out, _ = run(capsys, "verify", "net.onnx", "holds.vnnlib", "--require-level", "real", "--json")
    assert code == 0
    code, out, _ = run(capsys, "verify", "net.onnx", "holds.vnnlib", "--no-check", "--json")
    assert code == 3 and (last(out)["verdict"], last(out)["vnncomp"], last(out)["levels"]) == ("claimed", "unsat", [])
    code, out, _ = run(capsys, "verify", "net.onnx", "holds.vnnlib", "--check-timeout", "0", "--json")
    assert code == 3 and last(out)["verdict"] == "claimed" and "time" in last(out)["reason"]


def test_the_package_is_the_command(files):
    """`python -m axiom_jax` does and says what `axiom` does."""
    ask = [sys.executable, "-m", "axiom_jax"]
    run = lambda *given: subprocess.run([*ask, *given], capture_output=True, text=True, check=False)
    done = run("verify", "net.onnx", "nowhere.vnnlib", "--json")
    assert done.returncode == 2 and last(done.stdout)["error"]["at"] == "nowhere.vnnlib"
    done = run("--help")
    assert done.returncode == 0 and "Usage: axiom [OPTIONS]" in done.stdout
    done = run("nonsense")
    assert done.returncode == 2 and "axiom --help" in done.stderr and "Traceback" not in done.stderr


def test_why_a_level_is_not_reached_is_said(files, capsys):
    values = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1, 2]) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Softmax", ["x"], ["y"], axis=1)], "g", values[:1], values[1:])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), "s.onnx")
    Path("below.vnnlib").write_text(SAFE + BOX + "(assert (>= Y_0 1.5))")
    code, out, _ = run(capsys, "verify", "s.onnx", "below.vnnlib", "--require-level", "float32", "--json")
    assert code == 3 and last(out)["reason"].endswith("proved is: real (softmax is written by differences)")
    code, out, _ = run(capsys, "verify", "s.onnx", "below.vnnlib", "--json")
    assert code == 0 and last(out)["reason"] == "level float32 is not proved: softmax is written by differences"
    statement = ("verify", "net.onnx", "∀x in [0, 1]. sum(softmax(x)) == 1", "--require-level", "float32", "--json")
    code, out, _ = run(capsys, *statement)
    assert code == 3 and last(out)["reason"].endswith("proved is: real (statements are about real numbers)")


def test_a_profile_says_which_machines_level_float32_is_about(files, capsys):
    ask = ("verify", "net.onnx", "holds.vnnlib", "--profile")
    code, out, _ = run(capsys, *ask, "tpu", "--json")
    assert (code, last(out)["verdict"], last(out)["levels"]) == (0, "proved", ["real"])
    assert last(out)["reason"].startswith("level float32 is not proved: a TPU multiplies float32 numbers in parts of")
    code, out, _ = run(capsys, *ask, "tpu", "--require-level", "float32", "--json")
    assert (code, last(out)["verdict"], last(out)["levels"]) == (3, "unknown", [])
    assert "level float32 is required, proved is: real (a TPU multiplies" in last(out)["reason"]
    code, out, _ = run(capsys, *ask, "tpu")
    assert code == 0 and "a TPU multiplies float32 numbers" in out
    code, out, _ = run(capsys, *ask, "cpu", "--certificate", "a.cert", "--json")
    assert last(out)["levels"] == ["real", "float32"] and last(out)["reason"] is None
    assert json.loads(Path("a.cert").read_bytes())["payload"]["profile"] == "cpu"
    code, out, _ = run(capsys, *ask, "gpu", "--json")
    assert code == 2 and last(out)["error"] == {"what": "There is no such profile.", "at": "--profile", "got": "'gpu'",
                                                "fix": "use cpu, cuda, tpu"}  # fmt: skip


BAD = {
    "missing model": (["nowhere.onnx", "holds.vnnlib"], "nowhere.onnx"),
    "missing property": (["net.onnx", "nowhere.vnnlib"], "nowhere.vnnlib"),
    "truncated model": (["cut.onnx", "holds.vnnlib"], "cut.onnx"),
    "text as a model": (["holds.vnnlib", "holds.vnnlib"], "holds.vnnlib"),
    "syntax": (["net.onnx", "syntax.vnnlib"], "syntax.vnnlib"),
    "too many inputs": (["net.onnx", "wide.vnnlib"], "3 inputs"),
    "empty box": (["net.onnx", "empty.vnnlib"], "X_0"),
    "unbounded": (["net.onnx", "open.vnnlib"], "X_1"),
    "no property": (["net.onnx", "net.onnx"], "VNN-LIB"),
    "unwritable certificate": (["net.onnx", "holds.vnnlib", "--certificate", "none/a.cert"], "none"),
    "a wrong level": (["net.onnx", "holds.vnnlib", "--require-level", "float64"], "float64"),
    "an unknown option": (["net.onnx", "holds.vnnlib", "--frobnicate"], "--frobnicate"),
    "a missing argument": (["net.onnx"], "PROPERTY"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_clear_error(files, capsys, name):
    Path("cut.onnx").write_bytes(Path("net.onnx").read_bytes()[:100])
    Path("syntax.vnnlib").write_text(SAFE + BOX + "\n(assert (>= Y_0 ")
    third = "(declare-const X_2 Real)(assert (>= X_2 0))(assert (<= X_2 1))"
    Path("wide.vnnlib").write_text(SAFE + third + BOX + "(assert (>= Y_0 1))")
    Path("empty.vnnlib").write_text(SAFE + BOX + "(assert (>= X_0 2))(assert (>= Y_0 1))")
    half = "(assert (>= X_0 -1))(assert (<= X_0 1))(assert (<= X_1 1))"
    Path("open.vnnlib").write_text(SAFE + half + "(assert (>= Y_0 1))")
    arguments, word = BAD[name]
    before = {p: p.read_bytes() for p in Path().iterdir() if p.is_file()}
    code, out, err = run(capsys, "verify", *arguments, "--json")
    error = last(out)["error"]
    assert code == 2 and set(error) == {"what", "at", "got", "fix"} and len(out.splitlines()) == 1
    assert word in json.dumps(error) and error["what"].rstrip().endswith((".", "?")), error
    assert error["what"] in err and "Traceback" not in err
    assert before == {p: p.read_bytes() for p in Path().iterdir() if p.is_file()}


def test_bench_goes_on_after_bad_rows_and_finds_contradictions(files, capsys):
    Path("rows.csv").write_text(
        "onnx,vnnlib,timeout_s,expected,note\nnet.onnx,holds.vnnlib,30,unsat,a\nnowhere.onnx,holds.vnnlib,30,unsat,b\n"
        "net.onnx,fails.vnnlib,30,sat,c\n"
    )
    code, out, _ = run(capsys, "bench", "rows.csv", "--csv", "out.csv", "--certificates", "certs")
    with open("out.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert code == 0 and "contradictions: 0" in out
    assert [r["verdict"] for r in rows] == ["proved", "unknown", "refuted"]
    assert [r["note"] for r in rows] == ["a", "b", "c"] and "nowhere.onnx" in rows[1]["reason"]
    assert len(list(Path("certs").glob("*.cert"))) == 2
    Path("rows.csv").write_text("onnx,vnnlib,timeout_s,expected\nnet.onnx,fails.vnnlib,30,unsat\n")
    code, out, _ = run(capsys, "bench", "rows.csv", "--timeout", "20", "--no-check")
    assert code == 1 and "CONTRADICTS unsat" in out
    Path("rows.csv").write_text("a,b\n1,2\n")
    code, _, err = run(capsys, "bench", "rows.csv")
    assert code == 2 and "lacks onnx, vnnlib" in err


def test_bench_writes_what_the_competition_wants(files, capsys):
    """A list without a line of names; results, witnesses and a line an instance as VNN-COMP's scripts read them."""
    Path("deep").mkdir()
    Path("rows.csv").write_text("net.onnx,holds.vnnlib,30\n./net.onnx,fails.vnnlib,30\nnone.onnx,holds.vnnlib,30\n")
    code, _, _ = run(capsys, "bench", "rows.csv", "--results", "deep/out", "--no-check", "--csv", "out.csv")
    assert code == 0 and Path("deep/out/net_holds.txt").read_text() == "unsat\n"
    assert Path("deep/out/none_holds.txt").read_text() == "unknown\n"
    first, *witness = Path("deep/out/net_fails.txt").read_text().splitlines()
    assert first == "sat" and Path("deep/out/net_fails.counterexample").read_text().splitlines() == witness
    text = " ".join(witness)
    assert text.startswith("((") and text.endswith("))")
    names, numbers = zip(*(part.strip(" ()").split() for part in text[1:-1].split(")")[:-1]), strict=True)
    assert names == ("X_0", "X_1", "Y_0", "Y_1")
    x, y = np.float32([numbers[:2]]), [float(v) for v in numbers[2:]]
    assert float(x[0, 0]) == float(numbers[0]) and float(x[0, 1]) == float(numbers[1])
    import onnxruntime

    [found] = onnxruntime.InferenceSession("net.onnx", providers=["CPUExecutionProvider"]).run(None, {"x": x})
    assert found[0] == pytest.approx(y, abs=1e-5)
    with open("deep/out/results.csv", newline="") as file:
        lines = list(csv.reader(file))
    assert [line[1:3] + line[4:5] for line in lines] == [
        ["net.onnx", "holds.vnnlib", "unsat"], ["./net.onnx", "fails.vnnlib", "sat"],
        ["none.onnx", "holds.vnnlib", "unknown"],
    ]  # fmt: skip
    assert all(len(line) == 6 and float(line[5]) >= 0 for line in lines)


def test_bench_goes_on_from_its_journal(files, capsys):
    Path("rows.csv").write_text("onnx,vnnlib,timeout_s\nnet.onnx,holds.vnnlib,30\nnet.onnx,fails.vnnlib,30\n")
    arguments = ["bench", "rows.csv", "--no-check", "--journal", "run.journal", "--csv"]
    code, _, _ = run(capsys, *arguments, "a.csv")
    kept = Path("run.journal").read_bytes()
    assert code == 0 and len(kept.splitlines()) == 2
    Path("run.journal").write_bytes(kept[:-30])  # cut off while the second row was written
    code, second, _ = run(capsys, *arguments, "b.csv")
    assert code == 0 and Path("a.csv").read_text().splitlines()[1] == Path("b.csv").read_text().splitlines()[1]
    assert [line.split()[1] for line in second.splitlines()[:2]] == ["claimed", "refuted"]
    assert Path("run.journal").read_bytes().startswith(kept[:-30])
    lines = Path("run.journal").read_bytes()
    run(capsys, *arguments, "c.csv")
    assert Path("run.journal").read_bytes() == lines  # all of it was known
    write_net("net.onnx", seed=3)  # another network under the same name
    run(capsys, *arguments, "c.csv")
    assert len(Path("run.journal").read_bytes()) > len(lines)
    Path("notes.txt").write_text("mine\n")
    code, _, err = run(capsys, "bench", "rows.csv", "--journal", "notes.txt")
    assert code == 2 and "something else" in err and Path("notes.txt").read_text() == "mine\n"


@pytest.mark.slow
def test_bench_side_by_side_keeps_the_order(files, capsys):
    """Two worker processes, which may end out of order; one of the rows is bad."""
    rows = ("net.onnx,holds.vnnlib,30,unsat", "none.onnx,holds.vnnlib,30,", "net.onnx,fails.vnnlib,30,sat")
    Path("rows.csv").write_text("\n".join(["onnx,vnnlib,timeout_s,expected", *rows]))
    code, out, _ = run(capsys, "bench", "rows.csv", "--jobs", "2", "--csv", "out.csv", "--certificates", "certs")
    assert code == 0 and "decided 2 of 3" in out
    with open("out.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["verdict"] for row in rows] == ["proved", "unknown", "refuted"] and "none.onnx" in rows[1]["reason"]
    assert [row["certificate"] != "" for row in rows] == [True, False, True]
    assert len(list(Path("certs").glob("*.cert"))) == 2


def write_hard_net(path):
    """Zero in a way that is hard to see: the sum over 30 rotated z = w · x of relu(z) − relu(−z) − z."""
    w = np.random.default_rng(0).integers(-8, 9, (6, 30)).astype(np.float32) / 8
    w2 = np.concatenate([np.ones((30, 1)), -np.ones((30, 1))]).astype(np.float32)
    tensors = {"W1": np.concatenate([w, -w], 1), "W2": w2, "W3": -w.sum(1, keepdims=True)}
    nodes = [
        helper.make_node("MatMul", ["x", "W1"], ["h"]),
        helper.make_node("Relu", ["h"], ["a"]),
        helper.make_node("MatMul", ["a", "W2"], ["b"]),
        helper.make_node("MatMul", ["x", "W3"], ["c"]),
        helper.make_node("Add", ["b", "c"], ["y"]),
    ]
    value = lambda name, size: helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1, size])
    initializers = [numpy_helper.from_array(t, n) for n, t in tensors.items()]
    graph = helper.make_graph(nodes, "zero", [value("x", 6)], [value("y", 1)], initializers)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)


@pytest.mark.slow
def test_ctrl_c_answers_what_is_known(files, capsys):
    """A real process and a real SIGINT, once the journal says that the search is under way; then on from there."""
    write_hard_net("hard.onnx")
    names = "".join(f"(declare-const X_{i} Real)" for i in range(6)) + "(declare-const Y_0 Real)"
    box = "".join(f"(assert (>= X_{i} -1))(assert (<= X_{i} 1))" for i in range(6))
    Path("hard.vnnlib").write_text(names + box + "(assert (>= Y_0 0.001))")
    command = [sys.executable, "-c", "from axiom_jax.cli import main; main()", "verify", "hard.onnx", "hard.vnnlib",
               "--timeout", "300", "--json", "--journal", "hard.journal"]  # fmt: skip
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ)
    deadline = time.monotonic() + 120
    journal = Path("hard.journal")
    while (not journal.exists() or journal.read_bytes().count(b"\n") < 2) and time.monotonic() < deadline:
        assert process.poll() is None, process.communicate()
        time.sleep(0.1)
    try:
        for _ in range(8):  # JAX's own callbacks can swallow one, and a busy machine takes its time
            process.send_signal(signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                out, err = process.communicate(timeout=15)
                break
    finally:
        process.kill()
    result = last(out)
    assert process.returncode == 3 and "Traceback" not in err, err
    assert result["verdict"] == "unknown" and "interrupted" in result["reason"] and result["bound"] is not None
    kept = journal.read_bytes()
    again = ["verify", "hard.onnx", "hard.vnnlib", "--timeout", "0", "--json", "--journal", "hard.journal"]
    assert last(run(capsys, *again)[1])["vnncomp"] == "timeout"
    assert journal.read_bytes().startswith(kept)
