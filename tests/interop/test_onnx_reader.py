"""Reading ONNX files: canonical graphs, parameters, free sizes, and what is refused with which words."""

import gzip
import hashlib
import tracemalloc
from pathlib import Path
from typing import Any

import jax
import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper, numpy_helper, parser

from axiom_jax._errors import AxiomError, ModelError, ShapeError
from axiom_jax._gzip import MODEL, unpacked
from axiom_jax._program import build
from axiom_jax.interop import from_onnx, input_spec

HEAD = '<ir_version: 8, opset_import: ["": 17]> net '
MLP = HEAD + (
    "(float[n, 2] x) => (float[n, 1] y) <float[2, 3] w1 = {1, 2, 3, 4, 5, 6}, float[3] b1 = {0, 1, -1}, "
    "float[3, 1] w2 = {1, -1, 2}>"
    "{[first] h = MatMul(x, w1) [second] a = Add(h, b1) [act] r = Relu(a) y = MatMul(r, w2)}"
)


def net(text: str) -> onnx.ModelProto:
    return parser.parse_model(text if text.startswith("<") else HEAD + text)


def data(text: str) -> bytes:
    return net(text).SerializeToString()


def program(content: bytes) -> Any:
    model = from_onnx(content)
    return build(model.apply, model.params, *input_spec(model))[0]


# Canonical form


def test_nets_of_one_architecture_are_equal_graphs_and_programs():
    other = MLP.replace("w1", "kernel").replace("first", "layer").replace("{1, -1, 2}", "{0, 7, 2}")
    one, two = from_onnx(data(MLP)), from_onnx(data(other))
    assert one.apply == two.apply
    assert hash(one.apply) == hash(two.apply)
    assert jax.tree.structure(one.params) == jax.tree.structure(two.params)
    assert program(data(MLP)) == program(data(other))
    assert dict(one.apply.names)["000.MatMul.B"] == "w1"
    assert dict(two.apply.names)["000.MatMul.B"] == "kernel"


@pytest.mark.parametrize(
    "change", [("Relu(a)", "Sigmoid(a)"), ("Relu(a)", "LeakyRelu <alpha = 0.1> (a)"), ("Add(h, b1)", "Sub(h, b1)")]
)
def test_other_architectures_are_other_programs(change: tuple[str, str]):
    assert from_onnx(data(MLP)).apply != from_onnx(data(MLP.replace(*change))).apply
    assert program(data(MLP)) != program(data(MLP.replace(*change)))


def test_one_compilation_serves_all_nets_of_an_architecture():
    traced = []

    def run(graph, params, x):
        traced.append(graph)
        return graph(params, x)

    compiled = jax.jit(run, static_argnums=0)
    for text in (MLP, MLP.replace("{1, -1, 2}", "{0, 7, 2}"), MLP.replace("w1", "kernel")):
        model = from_onnx(data(text))
        compiled(model.apply, model.params, np.ones((1, 2), np.float32))
    assert len(traced) == 1


def test_parameters_are_named_in_order_of_use():
    model = from_onnx(data(MLP))
    assert list(model.params) == ["000.MatMul.B", "001.Add.B", "002.MatMul.B"]
    assert [x.shape for x in model.params.values()] == [(2, 3), (3,), (3, 1)]
    assert all(isinstance(x, np.ndarray) and x.dtype == np.float32 for x in model.params.values())
    assert build(model.apply, model.params, *input_spec(model))[0].names == tuple(model.params)


def test_equations_name_their_onnx_node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    jax.clear_caches()  # jax would reuse the trace of an equal graph, with that graph's lines
    (tmp_path / "net.onnx").write_bytes(data(MLP))
    monkeypatch.chdir(tmp_path)
    model = from_onnx("net.onnx")
    equations = build(model.apply, model.params, *input_spec(model))[0].equations
    assert [(e.primitive.name, e.at) for e in equations] == [
        ("dot_general", "net.onnx:1 (MatMul first)"),
        ("broadcast_in_dim", "net.onnx:2 (Add second)"),
        ("add", "net.onnx:2 (Add second)"),
        ("max", "net.onnx:3 (Relu act)"),
        ("dot_general", "net.onnx:4 (MatMul)"),
    ]


def test_dots_and_convolutions_keep_float32():
    content = data(
        "(float[1, 1, 4, 4] x) => (y) <float[1, 1, 2, 2] w = {1, 2, 3, 4}, float[9, 1] v = {1, 2, 3, 4, 5, 6, 7, 8, 9}>"
        "{c = Conv(x, w) f = Flatten(c) y = Gemm(f, v)}"
    )
    found = {e.primitive.name: e.params["precision"] for e in program(content).equations if "precision" in e.params}
    highest = jax.lax.Precision.HIGHEST
    assert found == {"conv_general_dilated": (highest, highest), "dot_general": (highest, highest)}


# The signature, and sizes that are free


def test_signature_source_and_name(tmp_path: Path):
    content = data(MLP)
    path = tmp_path / "small.net.onnx"
    path.write_bytes(content)
    model = from_onnx(path)
    assert model.signature.inputs == (("x", ("n", 2), "float32"),)
    assert model.signature.outputs == (("y", ("n", 1), "float32"),)
    assert model.source == (("onnx", hashlib.sha256(content).hexdigest()),)
    assert model.name == "small.net"
    assert [(s.shape, s.dtype) for s in input_spec(model, batch=3)] == [((3, 2), np.float32)]


def test_compressed_file_is_the_same_model(tmp_path: Path):
    content = data(MLP)
    (tmp_path / "net.onnx.gz").write_bytes(gzip.compress(content))
    model = from_onnx(str(tmp_path / "net.onnx.gz"))
    assert model.source == from_onnx(content).source
    assert model.name == "net"


def test_a_free_batch_takes_any_size_and_maps():
    model = from_onnx(data(MLP))
    x = np.random.default_rng(0).normal(size=(5, 2)).astype(np.float32)
    y = model(x)
    assert y.shape == (5, 1)
    np.testing.assert_allclose(y, np.concatenate([model(row[None]) for row in x]), rtol=1e-6)
    np.testing.assert_allclose(y, jax.vmap(lambda row: model(row[None])[0])(x), rtol=1e-6)
    assert jax.grad(lambda params: model.apply(params, x).sum())(model.params).keys() == model.params.keys()


@pytest.mark.parametrize("dims", [["batch"], [None], [0], [-1]])
def test_sizes_that_say_nothing_become_names(dims: list[Any]):
    proto = net("(float[n, 2] x) => (float[n, 2] y) {y = Relu(x)}")
    dim = proto.graph.input[0].type.tensor_type.shape.dim[0]
    dim.Clear()
    if isinstance(dims[0], int):
        dim.dim_value = dims[0]
    elif dims[0]:
        dim.dim_param = dims[0]
    assert from_onnx(proto.SerializeToString()).signature.inputs == (("x", ("batch", 2), "float32"),)


def test_sizes_can_be_given():
    content = data("(float[n, width] x) => (y) {y = ReduceSum <keepdims = 0> (x)}")
    assert from_onnx(content, sizes={"width": 4}).signature.inputs == (("x", ("n", 4), "float32"),)


def test_shapes_are_computed_for_every_batch_size():
    text = (
        "(float[n, 2, 3] x) => (y) <int64 zero = {0}, int64[1] axis = {0}, int64[1] rest = {-1}>"
        "{s = Shape(x) b = Gather(s, zero) c = Unsqueeze(b, axis) t = Concat <axis = 0> (c, rest) y = Reshape(x, t)}"
    )
    model = from_onnx(data(text))
    for n in (1, 4):
        assert model(np.ones((n, 2, 3), np.float32)).shape == (n, 6)
    assert [e.primitive.name for e in program(data(text)).equations] == ["reshape"]


def test_float_constants_that_decide_a_shape_are_constants():
    text = (
        "(float[1, 1, 2, 2] x) => (y) <float[2] ones = {1, 1}, float[2] twos = {2, 2}, float[0] none = {}>"
        '{s = Concat <axis = 0> (ones, twos) y = Resize <mode = "nearest"> (x, none, s)}'
    )
    model = from_onnx(data(text))
    assert model.params == {}
    assert model(np.ones((1, 1, 2, 2), np.float32)).shape == (1, 1, 4, 4)


def test_several_inputs_and_outputs():
    model = from_onnx(data("(float[n, 2] a, float[n, 1] b) => (s, d) {s = Add(a, b) d = Sub(a, b)}"))
    total, difference = model(np.float32([[1, 2]]), np.float32([[3]]))
    assert (total.tolist(), difference.tolist()) == ([[4, 5]], [[-2, -1]])
    assert [name for name, _, _ in model.signature.outputs] == ["s", "d"]


# Unusual files that are fine


def test_weights_that_are_listed_as_inputs():
    proto = net(MLP)
    proto.graph.input.extend(
        helper.make_tensor_value_info(t.name, t.data_type, list(t.dims)) for t in proto.graph.initializer
    )
    model = from_onnx(proto.SerializeToString())
    assert [name for name, _, _ in model.signature.inputs] == ["x"]
    assert model.apply == from_onnx(data(MLP)).apply


def test_nodes_that_no_output_needs_are_dropped():
    text = MLP.replace("r = Relu(a)", "unused = Det(h) r = Relu(a)")
    assert program(data(text)) == program(data(MLP))


def test_doubles_are_converted_exactly():
    proto = net("(double[1, 2] x) => (y) <double[2] w = {0.5, -3}> {y = Add(x, w)}")
    model = from_onnx(proto.SerializeToString())
    (weights,) = model.params.values()
    assert weights.dtype == np.float32
    assert weights.tolist() == [0.5, -3]
    assert model.signature.inputs == (("x", (1, 2), "float32"),)


@pytest.mark.parametrize("kind", ["float16", "bfloat16"])
def test_narrow_floats_stay(kind: str):
    proto = net(f"({kind}[1, 2] x) => (y) <{kind}[2] w> {{y = Mul(x, w)}}")
    dtype = jax.numpy.dtype(kind)
    proto.graph.initializer.append(numpy_helper.from_array(np.array([0.1, -3], dtype), "w"))
    model = from_onnx(proto.SerializeToString())
    (weights,) = model.params.values()
    x = np.array([[0.3, 0.7]], dtype)
    y = model(x)
    assert weights.dtype == y.dtype == dtype
    assert np.array_equal(np.asarray(y), x * np.array([0.1, -3], dtype))


def test_local_functions_are_written_out():
    text = (
        '<ir_version: 8, opset_import: ["": 17, "own": 1]> net (float[n, 2] x) => (float[n, 2] y) {y = own.twice(x)}'
        '<domain: "own", opset_import: ["": 17]> twice (a) => (b) {b = Add(a, a)}'
    )
    assert from_onnx(data(text))(np.float32([[1, 2]])).tolist() == [[2, 4]]


def test_weights_in_a_file_of_their_own(tmp_path: Path):
    proto = raw(net(MLP))
    onnx.save(proto, tmp_path / "net.onnx", save_as_external_data=True, location="net.bin", size_threshold=0)
    model = from_onnx(tmp_path / "net.onnx")
    assert [kind for kind, _ in model.source] == ["onnx", "onnx-data:net.bin"]
    assert model.apply == from_onnx(data(MLP)).apply
    np.testing.assert_array_equal(model.params["001.Add.B"], [0, 1, -1])


# What is refused


def tensor(x: Any) -> onnx.TensorProto:
    return numpy_helper.from_array(np.asarray(x), "w")


def with_weights(x: Any) -> bytes:
    proto = net("(float[1, 2] x) => (y) <float[2] w = {1, 2}> {y = Add(x, w)}")
    proto.graph.initializer[0].CopyFrom(tensor(x))
    return proto.SerializeToString()


def with_opset(version: int) -> bytes:
    proto = net(MLP)
    proto.opset_import[0].version = version
    return proto.SerializeToString()


def short_tensor() -> bytes:
    proto = net(MLP)
    proto.graph.initializer[0].CopyFrom(tensor(np.ones((2, 3), np.float32)))
    proto.graph.initializer[0].name = "w1"
    proto.graph.initializer[0].raw_data = b"\0" * 20
    return proto.SerializeToString()


def raw(proto: onnx.ModelProto) -> onnx.ModelProto:
    """With tensors as exporters write them, in bytes."""
    for t in proto.graph.initializer:
        t.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(t), t.name))
    return proto


def outside() -> bytes:
    proto = raw(net(MLP))
    onnx.external_data_helper.convert_model_to_external_data(proto, location="gone.bin", size_threshold=0)
    for t in proto.graph.initializer:
        t.ClearField("raw_data")
    return proto.SerializeToString()


def shapeless() -> bytes:
    proto = net("(float[1] x) => (y) {y = Relu(x)}")
    proto.graph.input[0].type.tensor_type.ClearField("shape")
    return proto.SerializeToString()


def sparse() -> bytes:
    proto = net(MLP)
    proto.graph.sparse_initializer.add()
    return proto.SerializeToString()


REFUSED = {
    "empty": lambda: b"",
    "not-onnx": lambda: b"# a text file\n",
    "pointer": lambda: b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n",
    "cut-short": lambda: data(MLP)[:-100],
    "cut-gzip": lambda: gzip.compress(data(MLP), mtime=0)[:60],
    "old-opset": lambda: with_opset(6),
    "new-opset": lambda: with_opset(99),
    "no-opset": lambda: data(MLP.replace('"": 17', '"own": 1')),
    "operators": lambda: data(
        "(float[1, 2] x) => (y) {[one] a = MaxUnpool(x, x) b = Relu(a) [two] c = Multinomial(b)"
        "[three] y = com.microsoft.Fused(c)}"
    ),
    "attribute": lambda: data(
        "(float[1, 1, 2, 2] x) => (y) <float[0] none = {}, float[4] s = {1, 1, 2, 2}>"
        '{[up] y = Resize <mode = "lanczos"> (x, none, s)}'
    ),
    "second-output": lambda: data(
        "(float[1, 1, 4] x) => (y, m) {y, m = MaxPool <kernel_shape = [2]> (x)}"
    ),
    "nan": lambda: with_weights(np.float32([np.nan, np.inf])),
    "double": lambda: with_weights(np.array([0.1, 0.5])),
    "complex": lambda: with_weights(np.array([1j, 2], np.complex64)),
    "short-tensor": short_tensor,
    "outside": outside,
    "undefined": lambda: data("(float[1, 2] x) => (y) {[sum] y = Add(x, w)}"),
    "twice": lambda: data("(float[1, 2] x) => (y) {a = Relu(x) [again] a = Neg(x) y = Add(a, a)}"),
    "misfit": lambda: data("(float[1, 4] x) => (a, b) <int64[2] s = {1, 2}> {[cut] a, b = Split <axis = 1> (x, s)}"),
    "dynamic": lambda: data("(float[1, 2] x) => (y) {i = Cast <to = 7> (x) [shape] y = Reshape(x, i)}"),
    "free-size": lambda: data("(float[n, width, n, 3, height] x) => (y) {y = Relu(x)}"),
    "no-shape": shapeless,
    "sparse": sparse,
}


@pytest.mark.parametrize("name", REFUSED)
def test_refusal(name: str, golden: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    Path("net.onnx").write_bytes(REFUSED[name]())
    with pytest.raises(AxiomError) as caught:
        from_onnx("net.onnx")
    assert all((caught.value.what, caught.value.at, caught.value.fix))
    golden(f"onnx/{name}.txt", str(caught.value))


def test_a_few_bytes_that_stand_for_very_many_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    content = data(MLP)
    (tmp_path / "net.onnx.gz").write_bytes(gzip.compress(content))
    monkeypatch.setattr("axiom_jax.interop.onnx.file.MODEL", len(content))
    from_onnx(tmp_path / "net.onnx.gz")
    monkeypatch.setattr("axiom_jax.interop.onnx.file.MODEL", len(content) - 1)
    with pytest.raises(AxiomError, match="too large"):
        from_onnx(tmp_path / "net.onnx.gz")


def test_no_more_memory_is_set_aside_than_comes_out():
    content = gzip.compress(np.random.default_rng(0).bytes(3 << 20))
    tracemalloc.start()
    try:
        assert len(unpacked(content, MODEL)) == 3 << 20
        assert tracemalloc.get_traced_memory()[1] < 32 << 20
    finally:
        tracemalloc.stop()


def test_refusal_of_paths(golden: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    Path("folder.onnx").mkdir()
    Path("packed.onnx.gz").write_bytes(b"")
    messages = []
    for path in ("missing.onnx", "folder.onnx", "packed.onnx"):
        with pytest.raises(ModelError) as caught:
            from_onnx(path)
        messages.append(str(caught.value))
    golden("onnx/paths.txt", "\n".join(messages))


def test_outside_weights_need_a_path():
    with pytest.raises(ModelError, match="stored outside"):
        from_onnx(outside())


@pytest.mark.parametrize("shapes", [[(2,)], [(1, 3)], [(1, 2), (1, 2)], []])
def test_inputs_of_other_shapes_are_refused(shapes: list[tuple[int, ...]], golden: Any):
    model = from_onnx(data("(float[1, 2] x) => (y) {y = Relu(x)}"))
    with pytest.raises(ShapeError) as caught:
        model(*(np.ones(shape, np.float32) for shape in shapes))
    if shapes == [(1, 3)]:
        golden("onnx/input-shape.txt", str(caught.value))


CONTENT = data(
    "(float[n, 1, 4, 4] x) => (y) <float[2, 1, 2, 2] w = {1, 2, 3, 4, 5, 6, 7, 8}, int64[2] s = {-1, 8}>"
    "{c = Conv <strides = [2, 2]> (x, w) f = Reshape(c, s) y = Softmax <axis = 1> (f)}"
)


@given(st.integers(0, len(CONTENT) - 1), st.integers(0, 255), st.booleans())
@settings(max_examples=60, deadline=None, derandomize=True, database=None)
def test_damaged_files_give_a_clear_error_or_a_model(place: int, value: int, cut: bool):
    damaged = CONTENT[:place] if cut else CONTENT[:place] + bytes([value]) + CONTENT[place + 1 :]
    try:
        from_onnx(damaged)
    except AxiomError as error:
        assert error.at
        assert error.fix


# Public benchmarks

SMALL = ["acasxu", "cersyve", "collins_rul_cnn", "linearizenn", "lsnc", "ml4acopf", "nn4sys", "reach_prob_density",
         "safenlp", "sat_relu"]  # fmt: skip


def agrees(path: Path) -> None:
    model = from_onnx(path)
    content = path.read_bytes()
    content = gzip.decompress(content) if path.suffix == ".gz" else content
    options = onnxruntime.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 4, 1
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    rng, compiled = np.random.default_rng(0), jax.jit(model.apply)
    for _ in range(3):
        xs = [rng.uniform(-1, 1, s.shape).astype(s.dtype) for s in input_spec(model)]
        expected = session.run(None, {i.name: x for i, x in zip(session.get_inputs(), xs, strict=True)})
        got = jax.tree.leaves(compiled(model.params, *xs))
        for a, b in zip(got, expected, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5 * max(1.0, float(np.max(np.abs(b)))))


@pytest.mark.parametrize("family", SMALL)
def test_a_benchmark_network_agrees_with_onnxruntime(family: str, vnncomp: Path):
    agrees(min((vnncomp / family).rglob("*.onnx*")))


def test_acas_networks_share_one_program(vnncomp: Path):
    paths = sorted((vnncomp / "acasxu" / "onnx").iterdir())[:5]
    assert len({program(path.read_bytes()) for path in paths}) == 1


@pytest.mark.campaign
def test_every_benchmark_network_agrees_with_onnxruntime(vnncomp: Path):
    failures = {}
    for path in sorted(vnncomp.rglob("*.onnx*")):
        try:
            agrees(path)
        except (AxiomError, AssertionError) as error:
            failures[str(path)] = str(error)
    assert not failures
