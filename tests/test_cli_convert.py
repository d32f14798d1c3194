"""`axiom convert`, `axiom inspect`, and `.axiom` models in `verify`, `check` and `bench`, as a user meets them."""

import csv
import json
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from cli_helpers import last, run
from onnx import parser

import axiom_jax as ax
from axiom_jax import nn
from axiom_jax._cli_verify import read_model
from axiom_jax.interop.axiom.read import read_axiom

NAMES = "(declare-const X_0 Real)(declare-const X_1 Real)(declare-const Y_0 Real)"
BOX = "(assert (>= X_0 -1))(assert (<= X_0 1))(assert (>= X_1 -0.5))(assert (<= X_1 0.1))"
ONNX = """<ir_version: 8, opset_import: ["": 17]> net (float[n, 2] x) => (float[n, 1] y)
<float[2, 1] w = {1, -1}, float[2] b = {0.5, 0.25}> { h = Add(x, b) a = Relu(h) y = MatMul(a, w) }"""


def model():
    """y = relu(1.5 x0 − 2 x1): at most 2.5 on the box, and 0 somewhere."""
    made = ax.Sequential(nn.Dense(2, 1), nn.relu, name="tiny")
    weights = {"kernel": jnp.array([[1.5], [-2.0]]), "bias": jnp.zeros(1)}
    return ax.Model(made.apply, {"0_Dense": weights}, made.signature, made.name)


@pytest.fixture
def files(tmp_path, monkeypatch):
    """A model in both formats, a property that holds, and one that does not."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    ax.save_model(model(), "model.axiom", metadata={"accuracy": 0.5})
    Path("net.onnx").write_bytes(parser.parse_model(ONNX).SerializeToString())
    Path("holds.vnnlib").write_text(NAMES + BOX + "(assert (>= Y_0 1000))")
    Path("fails.vnnlib").write_text(NAMES + BOX + "(assert (<= Y_0 0))")
    return tmp_path


def test_an_axiom_file_is_verified_checked_and_benched(files, capsys):
    code, out, _ = run(capsys, "verify", "model.axiom", "holds.vnnlib", "--certificate", "a.cert", "--json")
    assert code == 0 and last(out)["verdict"] == "proved"
    code, out, _ = run(capsys, "verify", "model.axiom", "fails.vnnlib", "--certificate", "b.cert", "--json")
    assert code == 1 and last(out)["verdict"] == "refuted"
    for cert in ("a.cert", "b.cert"):
        code, out, _ = run(capsys, "check", cert, "--model", "model.axiom")
        assert code == 0 and out.splitlines()[0] == "accepted" and "every weight was compared" in out
    digest = read_axiom("model.axiom").digest
    assert ax.load_certificate("a.cert").payload["model"]["source"]["axiom"] == digest

    # certificates put into the file leave the digest, and the file goes on being about the same network
    ax.save_model(ax.load_model("model.axiom"), "with.axiom", certificates=["a.cert", "b.cert"])
    assert read_axiom("with.axiom").digest == digest
    assert run(capsys, "check", "a.cert", "--model", "with.axiom")[0] == 0
    other = model()
    other.params["0_Dense"]["bias"] = jnp.ones(1)
    ax.save_model(other, "other.axiom")
    code, out, _ = run(capsys, "check", "a.cert", "--model", "other.axiom")
    assert code == 1 and out.startswith("rejected: it is about another network than tiny")

    rows = (
        "onnx,vnnlib,expected\nmodel.axiom,holds.vnnlib,unsat\nmodel.axiom,fails.vnnlib,sat\ncut.axiom,holds.vnnlib,\n"
    )
    Path("rows.csv").write_text(rows)
    Path("cut.axiom").write_bytes(Path("model.axiom").read_bytes()[:300])
    code, out, _ = run(capsys, "bench", "rows.csv", "--csv", "out.csv")
    with open("out.csv", newline="") as file:
        assert [row["verdict"] for row in csv.DictReader(file)] == ["proved", "refuted", "unknown"]
    assert code == 0 and "contradictions: 0" in out


def test_weights_that_are_not_finite_are_refused_by_verify(files, capsys):
    broken = model()
    broken.params["0_Dense"]["bias"] = jnp.array([jnp.nan])
    ax.save_model(broken, "broken.axiom")
    code, out, _ = run(capsys, "verify", "broken.axiom", "holds.vnnlib", "--json")
    assert code == 2 and last(out)["error"]["what"] == "The weights 0_Dense/bias are not finite."


def test_onnx_to_axiom_and_back(files, capsys):
    code, out, _ = run(capsys, "convert", "net.onnx", "net.axiom")
    assert code == 0 and out == "net.axiom: x: float32[n, 2] -> y: float32[n, 1], 4 parameters\n"
    code, out, _ = run(capsys, "convert", "net.axiom", "again.onnx", "--json")
    assert code == 0 and last(out).keys() == {"input", "output", "model", "parameters", "sha256"}
    x = np.float32([[3, -2], [1, 2]])
    expected = ax.from_onnx("net.onnx")(x)
    for loaded in (ax.load_model("net.axiom"), ax.from_onnx("again.onnx")):
        np.testing.assert_array_equal(loaded(x), expected)
    code, _, _ = run(capsys, "convert", "model.axiom", "model.onnx")
    assert code == 0
    np.testing.assert_allclose(ax.from_onnx("model.onnx")(x), model()(x))


def test_a_certificate_follows_its_network_into_the_other_format(files, capsys):
    assert run(capsys, "verify", "net.onnx", "fails.vnnlib", "--certificate", "a.cert")[0] == 1
    assert run(capsys, "convert", "net.onnx", "net.axiom")[0] == 0
    code, out, _ = run(capsys, "check", "a.cert", "--model", "net.axiom")
    assert code == 0 and out.splitlines()[0] == "accepted"


def test_a_pytorch_descriptor_is_converted(files, capsys):
    pytest.importorskip("axiom_jax.interop.torch.reader", reason="the PyTorch reader is not there")
    layers = [{"type": "Linear", "in_features": 2, "out_features": 1, "weight": [[1.5, -2.0]], "bias": [0.0]},
              {"type": "ReLU"}]  # fmt: skip
    Path("net.json").write_text(json.dumps({"format": "axiom.pytorch.sequential.v1", "layers": layers}))
    code, _, err = run(capsys, "convert", "net.json", "torch.axiom")
    assert code == 0, err
    x = np.float32([[3, -2], [1, 2]])
    np.testing.assert_allclose(ax.load_model("torch.axiom")(x), model()(x))


def test_inspect_tells_what_a_file_is(files, capsys, golden):
    ax.save_model(ax.from_onnx("net.onnx"), "net.axiom")
    run(capsys, "verify", "model.axiom", "fails.vnnlib", "--certificate", "b.cert")
    ax.save_model(model(), "with.axiom", certificates=["b.cert"], metadata={"accuracy": 0.5})
    Path("w.safetensors").write_bytes(read_axiom("model.axiom").members["weights.safetensors"])
    shown = []
    for name in ("with.axiom", "net.axiom", "net.onnx", "b.cert", "holds.vnnlib", "w.safetensors"):
        code, out, _ = run(capsys, "inspect", name, "--json")
        facts = last(out)
        assert code == 0 and {"file", "kind", "bytes", "sha256"} <= facts.keys() and facts["file"] == name
        code, out, _ = run(capsys, "inspect", name)
        assert code == 0
        shown += [line for line in out.splitlines() if not line.startswith(("  versions", "  meta  "))]
    golden("axiom/inspect.txt", "\n".join(map(steady, shown)))


def steady(line):
    """Without hashes, sizes in bytes, versions and times."""
    import re

    line = re.sub(r"[0-9a-f]{64}", "HASH", line)
    line = re.sub(r"[\d,]+ bytes", "N bytes", re.sub(r"stablehlo \(jax [\w.+]+\)", "stablehlo (jax VERSION)", line))
    return "VARIES" if re.match(r" {15}(jax|environment|time): ", line) else line.rstrip()


def test_inspect_of_an_axiom_file_as_json(files, capsys):
    code, out, _ = run(capsys, "inspect", "model.axiom", "--json")
    facts = last(out)
    assert code == 0 and facts["layers"] == ["Dense(2, 1)", "relu"] and facts["architecture"] == "sequential"
    assert facts["parameters"]["count"] == 3 and facts["metadata"] == {"accuracy": 0.5}
    assert facts["digest"] == read_axiom("model.axiom").digest and facts["certificates"] == []


BAD = {
    "missing": ["convert", "nowhere.onnx", "out.axiom"],
    "unknown in": ["convert", "model.h5", "out.axiom"],
    "unknown out": ["convert", "net.onnx", "out.h5"],
    "itself": ["convert", "model.axiom", "model.axiom"],
    "damaged": ["convert", "cut.axiom", "out.onnx"],
    "no folder": ["convert", "net.onnx", "none/out.axiom"],
    "inspect missing": ["inspect", "nowhere.axiom"],
    "inspect unknown": ["inspect", "model.h5"],
    "inspect damaged": ["inspect", "cut.axiom"],
    "inspect text": ["inspect", "text.cert"],
    "inspect safetensors": ["inspect", "text.safetensors"],
    "verify damaged": ["verify", "cut.axiom", "holds.vnnlib"],
    "check damaged": ["check", "text.cert", "--model", "cut.axiom"],
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_clear_error(files, capsys, name):
    Path("cut.axiom").write_bytes(Path("model.axiom").read_bytes()[:300])
    for text in ("text.cert", "text.safetensors", "model.h5"):
        Path(text).write_text("honestly")
    before = sorted(p.name for p in Path().iterdir())
    code, out, err = run(capsys, *BAD[name], "--json")
    assert code == 2 and "Traceback" not in err
    if name != "check damaged":  # that is a judgement of the certificate, which is not one
        assert last(out)["error"].keys() == {"what", "at", "got", "fix"} and last(out)["error"]["what"] in err
    assert sorted(p.name for p in Path().iterdir()) == before


def test_certificates_do_not_repeat_what_a_file_says_of_its_source(files):
    claimed = ax.Model(model().apply, model().params, model().signature, "tiny", (("onnx", "0" * 64),))
    ax.save_model(claimed, "claimed.axiom")
    assert dict(read_axiom("claimed.axiom").manifest.source) == {"onnx": "0" * 64}
    assert read_model("claimed.axiom").source == {"axiom": read_axiom("claimed.axiom").digest}


def test_a_graph_is_compared_where_its_own_condition_is_broken(files):
    from jaxtyping import Array, Float

    @ax.axiom
    def made(x: Float[Array, "batch 3"]) -> Float[Array, "batch 3"]:
        ax.ensure(x > 0, "positive")
        return jnp.sin(x) * 2

    ax.save_model(made, "guarded.axiom", architecture="graph")
    x = np.full((2, 3), 0.5, np.float32)
    np.testing.assert_allclose(ax.load_model("guarded.axiom")(x), made(x), rtol=1e-6)
