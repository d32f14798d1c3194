"""Whether a certificate is about a given model: weights, operations, the file's hash, a second reader of the file."""

import ast
import gzip
import json
import shutil
from fractions import Fraction
from pathlib import Path

import jax
import numpy as np
import onnx
import pytest
from binding_graphs import floats_model, model_bytes, reseal, write
from onnx import helper

import axiom_jax as ax
from axiom_jax._cli_verify import check_file, read_model
from axiom_jax.interop.onnx import ops
from axiom_jax.verification.proof import binding
from axiom_jax.verification.proof.certificate import run_checker
from axiom_jax.verification.proof.lowered import stablehlo
from axiom_jax.verification.proof.onnx_replay import wire
from axiom_jax.verification.proof.onnx_replay.graph import Damaged, Unknown, load
from axiom_jax.verification.proof.onnx_replay.wire import model as read_wire
from axiom_jax.verification.proof.replay import Replay, replay, seeded
from axiom_jax.verification.property import Atom, Case, Property
from axiom_jax.verification.search.decide import decide
from axiom_jax.verification.search.margins import Subject

HALF = Fraction(1, 2)


def above(least, size=2):
    """The first output stays above a number on a box whose ends are no float32 numbers."""
    case = Case((Fraction(1, 10),) * size, (Fraction(7, 10),) * size, ((Atom(((0, Fraction(1)),), Fraction(least)),),))
    return Property((case,), f"y_0 > {least}")


@pytest.fixture(scope="module")
def proved(tmp_path_factory):
    """A folder with a model file and a certificate about it, which no test changes."""
    folder = tmp_path_factory.mktemp("proved")
    file = write(folder / "net.onnx", floats_model())
    decision = decide(read_model(file), above(-100), certificate_path=folder / "a.cert")
    assert isinstance(decision.verdict, ax.Proved)
    return folder


@pytest.fixture
def made(proved, tmp_path):
    """A certificate, and the model file that it is about: a test's own copies."""
    cert, file = (shutil.copy(proved / name, tmp_path) for name in ("a.cert", "net.onnx"))
    return Path(cert), str(file)


def payload_of(path):
    return json.loads(Path(path).read_bytes())["payload"]


def test_a_certificate_of_the_file_is_accepted_and_says_what_was_compared(made):
    cert, file = made
    checked = check_file(cert, file)
    assert checked.accepted
    said = checked.statement.splitlines()
    assert "every weight was compared" in said[-3] and "is the one that the certificate names" in said[-1]
    assert said[-1].endswith("replayed at 8 points, 5 of them corners: equal numbers.")
    model = ax.from_onnx(file)
    assert "replayed at 8 points" in ax.check_certificate(ax.load_certificate(cert), model).statement


def test_a_compressed_file_has_the_hash_of_its_content(made, tmp_path):
    cert, file = made
    packed = tmp_path / "net.onnx.gz"
    packed.write_bytes(gzip.compress(Path(file).read_bytes()))
    checked = check_file(cert, str(packed))
    assert checked.accepted and "replayed at 8 points" in checked.statement


def test_one_flipped_bit_of_a_weight_is_rejected(made, tmp_path):
    cert, file = made
    content = Path(file).read_bytes()
    weight = read_wire(content).graph.initializer[0].raw
    for place in (0, len(weight) // 2):
        changed = bytearray(content)
        changed[content.index(weight) + place] ^= 1
        other = write(tmp_path / "other.onnx", bytes(changed))
        checked = check_file(cert, other)
        assert not checked.accepted and "the values of" in str(checked.reason)


def test_one_flipped_bit_of_a_weight_in_the_certificate_is_rejected(made):
    """Sealed again, so that it is a certificate in its own right: of another network."""
    cert, file = made

    def flip(payload, tensors):
        next(iter(tensors.values())).view(np.uint32).reshape(-1)[0] ^= 1

    reseal(cert, flip)
    assert run_checker(cert).accepted
    checked = check_file(cert, file)
    assert not checked.accepted and "the values of" in str(checked.reason)


def test_a_swapped_sign_is_rejected_though_it_is_proved(made):
    cert, file = made

    def swap(payload, tensors):
        node = next(node for node in payload["model"]["program"]["nodes"] if node["op"] == "add")
        node["op"] = "sub"

    reseal(cert, swap)
    assert run_checker(cert).accepted
    checked = check_file(cert, file)
    assert not checked.accepted and "its operations differ" in str(checked.reason)


def test_a_file_of_another_hash_is_rejected_though_its_network_is_the_same(made, tmp_path):
    cert, file = made
    proto = onnx.load(file)
    proto.doc_string = "exported again"
    other = write(tmp_path / "again.onnx", proto.SerializeToString())
    checked = check_file(cert, other)
    assert not checked.accepted and "the onnx hash" in str(checked.reason)
    reseal(cert, lambda payload, tensors: payload["model"]["source"].clear())  # names no file: nothing to compare
    checked = check_file(cert, other)
    assert checked.accepted and "is not named by the certificate; replayed at 8 points" in checked.statement


def test_a_mistake_of_the_first_reader_is_seen_by_the_second(made, monkeypatch, tmp_path):
    """Subtraction the wrong way round: the model, its certificate and every comparison of those two agree with it."""
    _, file = made
    right = ops.OPERATORS["Sub"]
    monkeypatch.setitem(ops.OPERATORS, "Sub", lambda node, a, b, *rest: right(node, b, a, *rest))
    decide(read_model(file), above(-100), certificate_path=tmp_path / "wrong.cert")
    checked = check_file(tmp_path / "wrong.cert", file)
    assert not checked.accepted and "a second reader of the file of net disagrees: output" in str(checked.reason)


def test_what_the_second_reader_does_not_know_is_said(tmp_path, monkeypatch):
    nodes = [helper.make_node("CumSum", ["x", "axis"], ["y"])]
    file = write(tmp_path / "net.onnx", model_bytes(nodes, {"x": (1, 2)}, ["y"], {"axis": np.array(1)}))
    decide(read_model(file), above(-100), certificate_path=tmp_path / "a.cert")
    checked = check_file(tmp_path / "a.cert", file)
    assert checked.accepted and checked.statement.endswith("; not replayed: operator CumSum.")


def test_files_of_several_proofs_are_replayed_too(made, tmp_path, monkeypatch):
    _, file = made
    model = ax.from_onnx(file)
    result = ax.verify(model, ax.Bounded(-100, 100), region=ax.Box([0.0, 0.0], [0.5, 0.25]))
    ax.save_certificate(ax.generate_certificate(model, result), tmp_path / "all.cert")
    checked = check_file(tmp_path / "all.cert", file)
    assert checked.accepted, checked.reason
    assert checked.statement.splitlines()[-1] == "Its file: replayed at 8 points, 5 of them corners: equal numbers."
    monkeypatch.setattr(binding, "replay", lambda *_: Replay(differs="output 0 is 1, 2 by the file"))
    checked = check_file(tmp_path / "all.cert", file)
    assert not checked.accepted and "a second reader of the file of net disagrees: output 0" in str(checked.reason)


def test_large_models_are_replayed_at_fewer_points_or_none(made, monkeypatch):
    cert, file = made
    subject = read_model(file)
    network, content = binding.exactly(subject).network, Path(file).read_bytes()
    box = [Fraction(0)] * 2, [Fraction(1)] * 2
    monkeypatch.setattr("axiom_jax.verification.proof.replay.WORK", 150)
    some = replay(network, content, [box])
    assert 0 < some.points < 8 and "multiplications each" in some.text
    monkeypatch.setattr("axiom_jax.verification.proof.replay.WORK", 10)
    assert "not replayed: " in replay(network, content, [box]).text
    assert "too many" in check_file(cert, file).statement


def test_a_file_that_is_gone_or_changed_is_not_replayed(made):
    cert, file = made
    model = ax.from_onnx(file)
    Path(file).write_bytes(Path(file).read_bytes() + b"\x12\x00")
    checked = ax.check_certificate(cert, model)
    assert checked.accepted and "not replayed: the file that the model was read from is not" in checked.statement
    Path(file).unlink()
    assert "is not at hand" in ax.check_certificate(cert, model).statement


def test_smooth_networks_meet_in_narrow_enclosures(tmp_path):
    nodes = [helper.make_node("Tanh", ["x"], ["y"])]
    file = write(tmp_path / "net.onnx", model_bytes(nodes, {"x": (1, 2)}, ["y"], {}))
    decide(read_model(file), above(-2), certificate_path=tmp_path / "a.cert")
    checked = check_file(tmp_path / "a.cert", file)
    assert checked.accepted and "enclosures that meet, at most" in checked.statement


def test_the_certificate_is_read_once(made, monkeypatch, tmp_path):
    """Whoever changes the file after it was read changes nothing: what was judged is what is compared."""
    cert, file = made
    subject = read_model(write(tmp_path / "b.onnx", floats_model(seed=5)))
    decide(subject, above(-100), certificate_path=tmp_path / "b.cert")
    other, judged = (tmp_path / "b.cert").read_bytes(), []

    def judge(path, timeout=None):
        judged.append(Path(path).resolve() != cert.resolve())
        cert.write_bytes(other)
        return run_checker(path, timeout)

    monkeypatch.setattr(binding, "run_checker", judge)
    assert check_file(cert, file).accepted and judged == [True]
    assert not check_file(cert, file).accepted


def test_jax_models_are_compared_and_their_parameters_named_by_path(tmp_path):
    """A subject that came from no file: operations and weights alone."""
    params = {"dense": {"kernel": np.eye(2, dtype=np.float32), "bias": np.ones(2, np.float32)}}
    apply = lambda p, x: jax.nn.relu(x @ p["dense"]["kernel"] + p["dense"]["bias"])
    subject = Subject(apply, params, (jax.ShapeDtypeStruct((1, 2), np.float32),))
    decide(subject, above(-1), certificate_path=tmp_path / "a.cert")
    checked = ax.check_certificate(tmp_path / "a.cert", subject)
    assert checked.accepted and "file" not in checked.statement.splitlines()[-1]
    assert set(payload_of(tmp_path / "a.cert")["model"]["tensors"]) == {"dense/kernel", "dense/bias"}


def test_the_stablehlo_is_recorded_and_never_refuses(made):
    cert, file = made
    ((kind, digest),) = [e for e in payload_of(cert)["model"]["source"].items() if e[0] != "onnx"]
    assert kind == f"stablehlo (jax {jax.__version__})" and stablehlo(read_model(file)) == {kind: digest}
    assert "Its StableHLO is the one that the certificate names." in check_file(cert, file).statement
    source = lambda entry: lambda payload, _: payload["model"].update(source=entry)
    reseal(cert, source({kind: "0" * 64}))
    checked = check_file(cert, file)
    assert checked.accepted and "another one than the certificate names, by the same stablehlo" in checked.statement
    reseal(cert, source({"stablehlo (jax 0.0.1)": digest}))
    checked = check_file(cert, file)
    assert checked.accepted and f"here is {kind}: these are not compared" in checked.statement


def test_certificates_that_are_not_kept_are_not_lowered():
    subject = Subject(lambda w, x: x * w, np.ones(2, np.float32), (jax.ShapeDtypeStruct((1, 2), np.float32),))
    verdict = decide(subject, above(-1)).verdict
    assert isinstance(verdict, ax.Proved) and verdict.certificate.payload["model"]["source"] == {}


def test_points_are_of_the_boxes_and_the_same_every_time():
    lo, hi = [Fraction(1, 3), Fraction(-1)], [Fraction(1, 2), Fraction(5)]
    points = list(seeded([(lo, hi)], 8))
    assert points == list(seeded([(lo, hi)], 8)) != list(seeded([(lo, hi)], 8, seed=1))
    for point, corner in points:
        assert all(a <= x <= b for a, x, b in zip(lo, point, hi, strict=True))
        assert not corner or all(x in (a, b) for a, x, b in zip(lo, point, hi, strict=True))
    assert [lo, hi] == [points[1][0], points[2][0]]
    many = [([Fraction(i)], [Fraction(i) + HALF]) for i in range(5)]
    assert [int(point[0]) for point, _ in seeded(many, 5)] == [0, 1, 2, 3, 4]


def test_a_replay_compares_inputs_and_outputs_of_the_file(made):
    _, file = made
    network = binding.exactly(read_model(file)).network
    box = [Fraction(0)] * 2, [Fraction(1)] * 2
    three = model_bytes([helper.make_node("Relu", ["x"], ["y"])], {"x": (1, 3)}, ["y"], {})
    assert replay(network, three, [box]).text == "not replayed: the file has 3 inputs, the certificate's program 2"
    twice = [helper.make_node("Relu", ["x"], ["y"]), helper.make_node("Neg", ["x"], ["z"])]
    assert "4 outputs" in replay(network, model_bytes(twice, {"x": (1, 2)}, ["y", "z"], {}), [box]).text
    assert replay(network, b"", [box]).points == 0
    assert replay(network, Path(file).read_bytes(), []) == Replay(reason="no box to take points of")


@pytest.mark.parametrize("content", [b"\xff" * 9, b"\x3a\x7f", b"\x3a\x02\x0a\x05", b"\x3b", b"\x3a\x00\x3a\x00"])
def test_damaged_files_are_refused(content):
    with pytest.raises(Damaged):
        read_wire(content)


def test_every_damage_of_a_file_is_refused_or_read_otherwise():
    """No cut and no flipped bit makes the reader fall over."""
    content = floats_model()
    for cut in range(0, len(content), 7):
        with pytest.raises((Damaged, Unknown)):
            load(content[:cut])
    rng, met = np.random.default_rng(0), set()
    for place in rng.integers(0, len(content), 150):
        changed = bytearray(content)
        changed[place] ^= 1 << int(rng.integers(8))
        try:
            load(bytes(changed)).evaluate([HALF, HALF])
            met.add("read")
        except (Damaged, Unknown, ValueError):
            met.add("refused")
    assert met == {"read", "refused"}


def test_every_way_to_hold_numbers_is_read():
    make, kinds = helper.make_tensor, onnx.TensorProto
    values = [1.0, -2.5, 0.25]
    for kind in (kinds.FLOAT, kinds.DOUBLE, kinds.FLOAT16, kinds.BFLOAT16):
        proto = make("w", kind, [3], values)
        raw = onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(proto), "w")
        for held in (proto, raw):
            found = _initializer(held)
            assert [a for a, _ in found.fractions()] == [Fraction(v) for v in values]
    for kind in (kinds.INT64, kinds.INT32, kinds.INT8, kinds.UINT8, kinds.UINT64, kinds.BOOL):
        proto = make("w", kind, [2], [1, 0])
        for held in (proto, onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(proto), "w")):
            assert _initializer(held).tolist() == [1, 0]
    assert _initializer(make("w", kinds.INT64, [2], [-1, -(2**62)])).tolist() == [-1, -(2**62)]
    with pytest.raises(Unknown, match="type 14"):
        _initializer(make("w", kinds.COMPLEX64, [0], []))
    outside = make("w", kinds.FLOAT, [3], values)
    outside.data_location = kinds.EXTERNAL
    with pytest.raises(Unknown, match="another file"):
        _initializer(outside)
    short = make("w", kinds.FLOAT, [3], values)
    short.dims[0] = 4
    with pytest.raises(Damaged, match="do not fill"):
        _initializer(short)


def test_the_second_reader_shares_nothing_with_the_first():
    """Neither our first reader nor the `onnx` package that it stands on."""
    folder = Path(wire.__file__).parent
    names = set()
    for path in folder.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names |= {a.name for a in node.names} if isinstance(node, ast.Import) else set()
            names |= {str(node.module)} if isinstance(node, ast.ImportFrom) else set()
    ours = {name for name in names if name.startswith("axiom_jax")}
    own = "axiom_jax.verification.proof.onnx_replay"
    assert {name for name in ours if not name.startswith(own)} == {"axiom_jax.verification"}  # of it: the checker
    assert not [name for name in names if name.startswith(("onnx", "google", "jax"))]


def _initializer(proto):
    from axiom_jax.verification.proof.onnx_replay.graph import tensor
    from axiom_jax.verification.proof.onnx_replay.wire import TENSOR, message

    return tensor(message(proto.SerializeToString(), TENSOR))


@pytest.mark.parametrize("name", ["acasxu/onnx/ACASXU_run2a_1_1_batch_2000.onnx", "oval21"])
def test_networks_of_the_competition_are_replayed(vnncomp, name):
    path = vnncomp / name
    file = path if path.is_file() else sorted(p for p in path.rglob("*.onnx*"))[0]
    subject = read_model(str(file))
    exact = binding.exactly(subject)
    content = gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()
    box = [Fraction(0)] * subject.size, [Fraction(1, 100)] * subject.size
    found = replay(exact.network, content, [box], [s.shape for s in subject.specs])
    assert found.differs is None and found.points > 0
