"""`.axiom` files: what is saved comes back bit for bit, equal models give equal files, and nothing else is read."""

import dataclasses
import hashlib
import io
import json
import math
import os
import re
import struct
import sys
import zipfile
from fractions import Fraction
from functools import partial
from pathlib import Path

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array, Float

import axiom_jax as ax
from axiom_jax import nn
from axiom_jax._model_chain import Chain
from axiom_jax._model_layers import Function, Nested, adopt
from axiom_jax.interop.axiom.layers import classes, describe, rebuild
from axiom_jax.interop.axiom.manifest import is_size, parse_manifest
from axiom_jax.interop.axiom.pack import pack
from axiom_jax.interop.axiom.read import read_axiom
from axiom_jax.interop.axiom.tensors import flatten, read_tensors, unflatten, write_tensors
from axiom_jax.interop.axiom.zip import write_zip
from axiom_jax.model import Model, Signature
from axiom_jax.verification.proof.certificate import certificate, describe_property, point_proof, save_certificate
from axiom_jax.verification.proof.exact import exactly
from axiom_jax.verification.property import Atom, Case, Property
from axiom_jax.verification.search.margins import subject_of

sys.path.insert(0, str(Path(__file__).parents[1] / "nn"))

from layer_table import CASES


def tiny() -> Model:
    """Two inputs, one output, weights that are written here."""
    model = ax.Sequential(nn.Dense(2, 1), nn.relu, name="tiny")
    return dataclasses.replace(model, params={"0_Dense": {"kernel": jnp.array([[1.5], [-2.0]]), "bias": jnp.zeros(1)}})


def assert_same(model: Model, other: Model, *inputs) -> None:
    """Equal as pytrees, so that compilations are shared, and equal in every bit."""
    assert jax.tree.structure(model) == jax.tree.structure(other)
    for a, b in zip(jax.tree.leaves(model), jax.tree.leaves(other), strict=True):
        a, b = np.asarray(a), np.asarray(b)
        assert a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
    if inputs:
        for a, b in zip(jax.tree.leaves(model(*inputs)), jax.tree.leaves(other(*inputs)), strict=True):
            assert np.asarray(a).tobytes() == np.asarray(b).tobytes()


def test_a_sequential_comes_back_equal_and_shares_its_compilation(tmp_path):
    model = ax.Sequential(nn.Conv(1, 3, (3, 3)), nn.BatchNorm(3), nn.relu, nn.MaxPool((2, 2)),
                          nn.Residual(nn.Conv(3, 3, (3, 3)), jnp.tanh), nn.Flatten(), nn.Dense(48, 5), nn.softmax,
                          input_shape=(8, 8, 1))  # fmt: skip
    loaded = ax.load_model(ax.save_model(model, tmp_path / "model.axiom"))
    x = np.random.default_rng(0).normal(size=(2, 8, 8, 1)).astype(np.float32)
    assert_same(model, loaded, x)
    traced = []
    run = jax.jit(lambda m, x: traced.append(1) or m(x))
    run(model, x)
    run(loaded, x)
    assert len(traced) == 1
    assert read_axiom(tmp_path / "model.axiom").manifest.architecture["kind"] == "sequential"


SIMPLE = [nn.relu, nn.tanh, nn.sigmoid, nn.gelu, jnp.sin, partial(nn.leaky_relu, negative_slope=0.25)]


@st.composite
def sequentials(draw):
    """Layers of the table that fit each other, on images or on vectors."""
    layers, image, sizes = [], draw(st.booleans()), [4, 4, draw(st.integers(1, 3))]
    shape = tuple(sizes)
    if not image:
        sizes = sizes[2:]
        layers.append(nn.Dense(sizes[0], sizes[0]))
    for _ in range(draw(st.integers(1, 4))):
        choice = draw(st.sampled_from(["wide", "norm", "function", "residual", "drop", "flatten"]))
        if choice == "wide":
            out = draw(st.integers(1, 4))
            bias = draw(st.booleans())
            layers.append(nn.Conv(sizes[-1], out, (3, 3), use_bias=bias) if len(sizes) == 3 else
                          nn.Dense(sizes[-1], out, use_bias=bias))  # fmt: skip
            sizes[-1] = out
        elif choice == "norm":
            epsilon = draw(st.sampled_from([1e-5, 1e-3, 0.1]))
            layers.append(draw(st.sampled_from([nn.LayerNorm, nn.BatchNorm]))(sizes[-1], epsilon=epsilon))
        elif choice == "function":
            layers.append(draw(st.sampled_from(SIMPLE[:-1])))
        elif choice == "residual":
            layers.append(nn.Residual(nn.Dense(sizes[-1], sizes[-1]), nn.relu, shortcut=draw(
                st.sampled_from([None, nn.Dense(sizes[-1], sizes[-1])]))))  # fmt: skip
        elif choice == "drop":
            layers.append(nn.Dropout(draw(st.floats(0, 0.9))))
        elif len(sizes) == 3:
            layers.append(nn.Flatten())
            sizes = [math.prod(sizes)]
    inputs = (("x", ("batch", *(shape if image else shape[2:])), "float32"),)
    return drawn(Chain(tuple(adopt(layer)[0] for layer in layers)), inputs, draw(st.text(max_size=5)))


def drawn(chain, inputs, name):
    """A model of these layers with numpy's random parameters, since drawing by JAX would compile."""
    random, key = np.random.default_rng(0), jax.eval_shape(lambda: jax.random.key(0))
    shapes = {name: jax.eval_shape(layer.init, key) for name, layer in zip(chain.names, chain.layers, strict=True)}
    params = jax.tree.map(lambda s: jnp.asarray(random.normal(size=s.shape), s.dtype), shapes)
    params = {name: own for name, own in params.items() if jax.tree.leaves(own)}
    y = jax.eval_shape(chain, params, jax.ShapeDtypeStruct((2, *inputs[0][1][1:]), np.float32))
    return Model(chain, params, Signature(inputs, (("y", ("batch", *y.shape[1:]), "float32"),)), name)


@pytest.mark.slow
@hypothesis.given(sequentials())
def test_random_sequentials_come_back_bit_equal(model):
    content = pack(model)
    assert pack(ax.load_model(content)) == content
    assert_same(model, ax.load_model(content))


@pytest.mark.parametrize("name", CASES)
def test_every_layer_is_described_and_rebuilt(name):
    layer = adopt(CASES[name].make())[0]
    found = describe(Chain((layer,)))
    if any("lambda" in reason for reason in found.reasons):
        pytest.skip("it is made with a lambda, which has no name")
    assert not found.reasons and not set(found.given) & set(classes())
    again = rebuild(json.loads(json.dumps(found.layers)), found.given, "test")
    assert again.layers == (layer,) and type(again.layers[0]) is type(layer)
    assert describe(again).layers == found.layers


def test_every_layer_class_is_in_the_table():
    used = {type(adopt(case.make())[0]) for case in CASES.values()}
    of_pytorch = {kind for kind in classes().values() if kind.__module__ == "axiom_jax.interop.torch.channels"}
    assert set(classes().values()) - used - of_pytorch - {Chain, Function, Nested} == set()


def test_layers_of_imported_pytorch_models_come_back(tmp_path):
    layers = [
        {"type": "Conv2d", "weight": np.ones((2, 1, 2, 2)).tolist(), "bias": [0.0, 1.0]},
        {"type": "MaxPool2d", "kernel_size": 2, "ceil_mode": True}, {"type": "LeakyReLU"}, {"type": "Flatten"},
    ]  # fmt: skip
    descriptor = {"format": "axiom.pytorch.sequential.v1", "layers": layers}
    model = ax.from_pytorch(descriptor, input_shape=(1, 6, 6))
    ax.save_model(model, tmp_path / "model.axiom", architecture="sequential")
    x = np.random.default_rng(0).normal(size=(2, 1, 6, 6)).astype(np.float32)
    np.testing.assert_array_equal(ax.load_model(tmp_path / "model.axiom")(x), model(x))


def test_a_model_inside_a_model():
    chain = Chain((Nested(Chain((nn.Dense(2, 2),)), "inner", (("batch", 2), "float32")),))
    assert rebuild(json.loads(json.dumps(describe(chain).layers)), {}, "test") == chain


def test_functions_and_odd_fields_are_described():
    @dataclasses.dataclass(frozen=True)
    class Odd:
        fn: object
        sizes: tuple = ((1, 2), "SAME")
        dtype: object = jnp.bfloat16
        real: object = np.dtype("float32")
        least: float = -math.inf

        def init(self, key):
            return {}

        def apply(self, params, x):
            return x

    layer = Odd(nn.silu)
    found = describe(Chain((layer, Function(partial(nn.leaky_relu, negative_slope=0.25)), Function(nn.hardswish))))
    assert not found.reasons and found.given == {"Odd": Odd}
    first, second, third = rebuild(json.loads(json.dumps(found.layers)), {"Odd": Odd}, "test").layers
    assert first == layer and third == Function(jax.nn.hard_swish)
    assert second.fn.func is jax.nn.leaky_relu and second.fn.keywords == {"negative_slope": 0.25}


@dataclasses.dataclass(frozen=True)
class Scale:
    """A layer of the user's own."""

    factor: float

    def init(self, key):
        return {"gain": jnp.full((), self.factor)}

    def apply(self, params, x):
        return x * params["gain"]


def doubled(x):
    return x + x


def test_layers_and_functions_of_the_user_are_handed_in_again(tmp_path):
    model = ax.Sequential(nn.Dense(3, 2), Scale(0.5), doubled)
    path = ax.save_model(model, tmp_path / "model.axiom")
    assert_same(model, ax.load_model(path, layers={"Scale": Scale, "doubled": doubled}), jnp.ones((1, 3)))
    with pytest.raises(ax.ModelError, match="layers or functions of your own: doubled") as caught:
        ax.load_model(path, layers={"Scale": Scale})
    assert caught.value.fix == 'ax.load_model(path, layers={"doubled": doubled})'
    graph = ax.save_model(model, tmp_path / "graph.axiom", architecture="graph")
    x = np.float32([[1, 2, 3]])
    np.testing.assert_allclose(ax.load_model(graph)(x), model(x), rtol=1e-6)


DTYPES = ["bool", "int8", "int32", "int64", "uint16", "uint64", "float16", "bfloat16", "float32", "float64",
          "complex64", "float8_e4m3fn", "float8_e5m2"]  # fmt: skip


@pytest.mark.parametrize("dtype", DTYPES)
def test_dtypes_are_kept_exactly(dtype):
    kind = np.dtype(getattr(jnp, dtype))
    random = np.random.default_rng(1).integers(0, 2 if dtype == "bool" else 100, (2, 3)).astype(kind)
    tree = {"a": random, "scalar": random[0, 0].reshape(()), "none": np.zeros((0, 2), kind)}
    tensors, empty, reasons = flatten(tree)
    again = unflatten(read_tensors(write_tensors(tensors), "test"), empty, "test")
    assert not reasons and jax.tree.structure(again) == jax.tree.structure(tree)
    for a, b in zip(jax.tree.leaves(tree), jax.tree.leaves(again), strict=True):
        assert a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
    model = Model(Chain((Function(nn.relu),)), {}, Signature(), "none")
    model = dataclasses.replace(model, apply=Chain((Scale(1.0),)), params={"0_Scale": {"gain": random[0, 0]}})
    loaded = ax.load_model(pack(model), layers={"Scale": Scale})
    assert np.asarray(loaded.params["0_Scale"]["gain"]).dtype == kind


KEYS = st.one_of(st.text(max_size=4), st.integers(-3, 20), st.sampled_from(
    ["__metadata__", "a/b", "%2F", "", "=", "#1", "[0]", "(0)", "''", "ü", ".", "..", "\x00"]))  # fmt: skip
TREES = st.recursive(
    st.one_of(st.none(), st.builds(np.float32, st.integers(0, 9)), st.just({}), st.just([]), st.just(())),
    lambda tree: st.one_of(
        st.dictionaries(KEYS, tree, max_size=3), st.lists(tree, max_size=3), st.lists(tree, max_size=3).map(tuple)
    ),
    max_leaves=8,
)


@hypothesis.given(TREES)
def test_any_tree_of_parameters_comes_back(tree):
    hypothesis.assume(sortable(tree))
    tensors, empty, reasons = flatten(tree)
    assert not reasons
    again = unflatten(read_tensors(write_tensors(tensors), "test"), empty, "test")
    assert jax.tree.structure(again) == jax.tree.structure(tree)
    assert [float(x) for x in jax.tree.leaves(again)] == [float(x) for x in jax.tree.leaves(tree)]


def sortable(tree):
    """JAX cannot compare keys of several types in one dict."""
    if isinstance(tree, dict):
        return len({type(key) for key in tree}) < 2 and all(map(sortable, tree.values()))
    return all(map(sortable, tree)) if isinstance(tree, (list, tuple)) else True


def test_keys_that_contradict_each_other_are_refused():
    x = np.zeros(1)
    for keys in (["a", "a/b"], ["a/[0]", "a/[2]"], ["a/[0]", "a/b"], ["a/[0]", "a/(1)"], ["%61"], ["a", "="], ["[00]"]):
        with pytest.raises(ax.ModelError, match="do not make a tree"):
            unflatten(dict.fromkeys(keys, x), {}, "test")


def test_equal_models_give_equal_files_and_the_digest_is_of_the_model(tmp_path):
    assert pack(tiny()) == pack(tiny())
    noted = pack(tiny(), metadata={"accuracy": 0.5, "by": "me"})
    assert noted != pack(tiny()) and read_axiom(noted).digest == read_axiom(pack(tiny())).digest
    assert read_axiom(noted).manifest.metadata == {"accuracy": 0.5, "by": "me"}
    other = dataclasses.replace(tiny(), params=jax.tree.map(lambda x: x + 1, tiny().params))
    assert read_axiom(pack(other)).digest != read_axiom(noted).digest


def test_manifest(golden):
    manifest = json.loads(zipfile.ZipFile(io.BytesIO(pack(tiny(), metadata={"by": "me"}))).read("manifest.json"))
    manifest["versions"] = dict.fromkeys(manifest["versions"], "x")
    golden("axiom/manifest.json", json.dumps(manifest, indent=1, sort_keys=True))


# graphs


def test_a_declared_model_becomes_a_graph(tmp_path):
    net = ax.Sequential(nn.Dense(12, 4), nn.relu, nn.Dense(4, 3), nn.sigmoid)

    @ax.axiom
    def classifier(net: nn.Sequential, image: Float[Array, "batch 4 3"]) -> ax.Probabilities["batch 3"]:
        return net(image.reshape(image.shape[0], -1))

    model = classifier.bind(net)
    loaded = ax.load_model(ax.save_model(model, tmp_path / "model.axiom"))
    assert loaded.signature == model.signature and loaded.name == "classifier"
    assert loaded.signature.promises == ("ValidProbabilities",)
    for batch in (1, 5):
        x = np.random.default_rng(0).normal(size=(batch, 4, 3)).astype(np.float32)
        np.testing.assert_allclose(loaded(x), model(x), rtol=1e-6)
    assert pack(loaded) == pack(ax.load_model(pack(loaded)))
    with pytest.raises(ax.ModelError, match=r"cannot be saved") as caught:
        ax.save_model(model, tmp_path / "other.axiom", architecture="sequential")
    assert caught.value.got == "as layers: classifier is no Sequential"
    with pytest.raises(ax.ModelError, match="still lacks its nets: net"):
        ax.save_model(classifier, tmp_path / "other.axiom")


def test_flax_and_equinox_modules_become_graphs():
    import equinox
    from flax import nnx

    x = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)
    for layer in (nnx.Linear(4, 2, rngs=nnx.Rngs(0)), equinox.nn.Linear(4, 2, key=jax.random.key(0))):
        model = ax.Sequential(layer, lambda x: jnp.sin(x) * 2, input_shape=(4,))
        found = read_axiom(pack(model))
        assert found.manifest.architecture == {"kind": "graph"} and found.manifest.signature == model.signature
        np.testing.assert_allclose(ax.load_model(pack(model))(x), model(x), rtol=1e-6)


ONNX = """<ir_version: 8, opset_import: ["": 17]> net (float[n, 2] x) => (float[n, 1] y, float[n, 2] a)
<float[2, 1] w = {1, -1}, float[2] b = {0.5, 0.25}, int64[2] s = {-1, 2}>
{ h = Add(x, b) a = Relu(h) r = Reshape(a, s) y = MatMul(r, w) }"""


def test_an_onnx_model_keeps_its_graph_and_its_parameters():
    from onnx import parser

    model = ax.from_onnx(parser.parse_model(ONNX).SerializeToString())
    loaded = ax.load_model(pack(model))
    x = np.float32([[3, -2], [1, 2]])
    assert_same(model, loaded, x)
    assert loaded.source == model.source and loaded.apply.constants == model.apply.constants
    assert [np.asarray(y).tolist() for y in loaded(x)] == [[[3.5], [-0.75]], [[3.5, 0.0], [1.5, 2.25]]]


CONTROL = """<ir_version: 8, opset_import: ["": 17]> net (float[n, 2] x, bool[1] c) => (float[n, 2] y)
<float[2] b = {0.5, 0.25}> {
  e = ConstantOfShape <value = float[1] {1.5}> (s)
  k = If (c) <
    then_branch = yes () => (float[n, 2] t) <float[2] w = {2, 3}> { t = Mul(x, w) },
    else_branch = no () => (float[n, 2] f) { f = Add(x, b) }
  >
  d = Unsqueeze (e, a)
  y = Add(k, d)
}"""


def test_attributes_that_are_tensors_and_graphs_come_back():
    from onnx import numpy_helper, parser

    proto = parser.parse_model(CONTROL)
    for name, value in (("s", np.array([2])), ("a", np.array([0]))):
        proto.graph.initializer.append(numpy_helper.from_array(value, name))
    model = ax.from_onnx(proto.SerializeToString())
    loaded = ax.load_model(pack(model))
    assert loaded.apply == model.apply
    for c in (True, False):
        assert_same(model, loaded, np.float32([[3, -2], [1, 2]]), np.array([c]))


def test_an_unpacked_graph_opens_in_other_tools(tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime reads the graph")
    from onnx import parser

    model = ax.from_onnx(parser.parse_model(ONNX).SerializeToString())
    zipfile.ZipFile(io.BytesIO(pack(model))).extractall(tmp_path)
    x = np.float32([[3, -2], [1, 2]])
    session = onnxruntime.InferenceSession(tmp_path / "graph.onnx", providers=["CPUExecutionProvider"])
    for a, b in zip(session.run(None, {"x": x}), model(x), strict=True):
        np.testing.assert_array_equal(a, b)


def test_what_no_architecture_expresses_is_told_with_all_reasons():
    @dataclasses.dataclass(frozen=True)
    class Held:
        held: object

        def init(self, key):
            return {}

        def apply(self, params, x):
            return x

    model = ax.Sequential(lambda x: x + 1, Held(object()), lambda x: x)
    with pytest.raises(ax.ModelError, match="cannot be saved") as caught:
        pack(model)
    assert caught.value.got.startswith(
        "as layers: 0_function: a lambda has no name; write it with def\n"
        "as layers: 1_Held: a value of type builtins.object is neither a frozen dataclass nor a plain value\n"
        "as layers: 2_function: a lambda has no name; write it with def\n"
        "as a graph: "
    )


# certificates


@pytest.fixture(scope="module")
def judged(tmp_path_factory):
    """A model, and a certificate about it: at the origin its output is not positive."""
    model = tiny()
    box = (Fraction(-1),) * 2, (Fraction(1),) * 2
    prop = Property((Case(*box, ((Atom(((0, Fraction(1)),), Fraction(0)),),)),), "y > 0 for |x| <= 1")
    exact = exactly(subject_of(model))
    point = point_proof(0, [Fraction(0)] * 2)
    made = certificate(exact.model, exact.blob, describe_property(prop), "violated", point, {})
    path = save_certificate(made, tmp_path_factory.mktemp("judged") / "a.cert")
    assert ax.check_certificate(path, model).accepted
    return model, path


def test_certificates_travel_in_the_file(judged, tmp_path):
    model, path = judged
    saved = ax.save_model(model, tmp_path / "model.axiom", certificates=[path, ax.load_certificate(path)])
    found = read_axiom(saved)
    assert found.members["certificates/0000.cert"] == found.members["certificates/0001.cert"] == path.read_bytes()
    assert [line["claim"] for line in found.manifest.certificates] == ["violated", "violated"]
    assert found.digest == read_axiom(pack(model)).digest
    assert ax.check_certificate(found.certificates[0], ax.load_model(saved)).accepted


def test_a_certificate_of_another_network_is_refused(judged, tmp_path):
    model, path = judged
    other = dataclasses.replace(model, params=jax.tree.map(lambda x: x * 1.5, model.params))
    with pytest.raises(ax.ModelError, match="about another network") as caught:
        ax.save_model(other, tmp_path / "model.axiom", certificates=[path])
    assert caught.value.at == str(path) and "values of" in caught.value.got
    assert not (tmp_path / "model.axiom").exists()
    with pytest.raises(ax.CertificateError):
        pack(model, certificates=[__file__])
    with pytest.raises(ax.ModelError, match="cannot be read"):
        pack(model, certificates=[tmp_path / "nowhere.cert"])


# files that are not what they should be


def edited(change, content=None):
    """The file with its manifest changed, and everything else put right again."""
    with zipfile.ZipFile(io.BytesIO(content or pack(tiny()))) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    manifest = json.loads(members["manifest.json"])
    change(manifest, members)
    for name in manifest.get("members", {}) if isinstance(manifest, dict) else ():
        if name in members and manifest["members"][name] != "wrong":
            manifest["members"][name] = hashlib.sha256(members[name]).hexdigest()
    with_digest(manifest)
    members["manifest.json"] = (json.dumps(manifest, sort_keys=True, indent=1) + "\n").encode()
    return write_zip(members)


def with_digest(manifest):
    parts = {key: manifest.get(key) for key in ("architecture", "signature", "empty")}
    parts["members"] = {k: v for k, v in manifest.get("members", {}).items() if not k.startswith("certificates/")}
    manifest["digest"] = hashlib.sha256(json.dumps(parts, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def packed_twice(*names, method=zipfile.ZIP_STORED):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name in names:
            with pytest.warns(UserWarning) if name in archive.namelist() else pytest.MonkeyPatch.context():
                archive.writestr(name, b"0" * 1000)
    return buffer.getvalue()


def bomb():
    """A member that declares a gigabyte."""
    content = bytearray(packed_twice("manifest.json", method=zipfile.ZIP_DEFLATED))
    at = content.rindex(b"PK\x01\x02")
    content[at + 24 : at + 28] = struct.pack("<I", 2**30)
    return bytes(content)


def put(path, value):
    def change(manifest, members):
        at = manifest
        for part in path[:-1]:
            at = at[part]
        at[path[-1]] = value

    return change


def layer(value):
    return put(["architecture", "layers", 0], value)


def weights(tensors, listed=None):
    def change(manifest, members):
        members["weights.safetensors"] = write_tensors(tensors)
        manifest["dtypes"] = {key: x.dtype.name for key, x in (listed or tensors).items()}

    return change


def no_change(manifest, members):
    pass


GOOD = {"0_Dense/kernel": np.ones((2, 1), np.float32), "0_Dense/bias": np.zeros(1, np.float32)}
BAD = {
    "empty": lambda: b"",
    "text": lambda: b"a model, honestly",
    "pointer": lambda: b"version https://git-lfs.github.com/spec/v1\n",
    "pickle": lambda: b"\x80\x04cos\nsystem\n",
    "cut": lambda: pack(tiny())[:-100],
    "cut-in-half": lambda: pack(tiny())[:700],
    "appended": lambda: pack(tiny()) + b"more",
    "byte": lambda: pack(tiny()).replace(b"tiny", b"tinx", 1),
    "no-manifest": lambda: write_zip({"weights.safetensors": b""}),
    "twice": lambda: packed_twice("manifest.json", "manifest.json"),
    "path": lambda: packed_twice("../../evil"),
    "absolute": lambda: packed_twice("/etc/passwd"),
    "folder": lambda: packed_twice("certificates/"),
    "compressed": lambda: packed_twice("manifest.json", method=zipfile.ZIP_DEFLATED),
    "bomb": bomb,
    "date": lambda: packed_twice("manifest.json"),
    "not-json": lambda: write_zip({"manifest.json": b"not json"}),
    "nan": lambda: write_zip({"manifest.json": b'{"format": NaN}'}),
    "deep": lambda: write_zip({"manifest.json": b"[" * 100_000}),
    "list": lambda: write_zip({"manifest.json": b"[]"}),
    "format": lambda: edited(put(["format"], "onnx")),
    "version": lambda: edited(put(["version"], 2)),
    "no-name": lambda: edited(lambda manifest, members: manifest.pop("name")),
    "extra-key": lambda: edited(put(["hooks"], {"load": "os.system"})),
    "wrong-hash": lambda: wrong_hash(),
    "missing-member": lambda: edited(lambda manifest, members: members.pop("weights.safetensors")),
    "extra-member": lambda: edited(lambda manifest, members: members.update({"hidden.py": b"import os"})),
    "unneeded-member": lambda: edited(unneeded),
    "kind": lambda: edited(put(["architecture"], {"kind": "pickle"})),
    "unknown-layer": lambda: edited(layer({"layer": "os.system", "fields": {}})),
    "unknown-function": lambda: edited(layer({"layer": "Function", "fields": {"fn": {"function": "os.system"}}})),
    "own-layer": lambda: edited(put(["architecture", "given"], ["Mine"])),
    "hidden-own-layer": lambda: edited(layer({"given": "Mine", "fields": {}})),
    "malformed-layer": lambda: edited(layer({"layer": "Dense", "fields": {}, "call": "now"})),
    "fields": lambda: edited(layer({"layer": "Dense", "fields": {"in_features": 2, "hook": "x"}})),
    "no-layer": lambda: edited(layer(3)),
    "layers-in-layers": lambda: edited(layer(nested(70))),
    "other-size": lambda: edited(put(["architecture", "layers", 0, "fields", "in_features"], 3)),
    "negative-size": lambda: edited(put(["architecture", "layers", 0, "fields", "in_features"], -3)),
    "signature-runs": lambda: edited(put(["signature", "inputs", 0, 1, 0], "().__class__.__base__")),
    "signature-calls": lambda: edited(put(["signature", "constraints"], ["exit(1) >= 0"])),
    "signature-nan": lambda: edited(put(["signature", "inputs", 0, 1, 1], float("nan"))),
    "signature-float": lambda: edited(put(["signature", "inputs", 0, 1, 1], 2.5)),
    "signature-dtype": lambda: edited(put(["signature", "inputs", 0, 2], "object")),
    "signature-lies": lambda: edited(put(["signature", "outputs", 0, 1, 1], 7)),
    "signature-input": lambda: edited(put(["signature", "inputs", 0, 1, 1], 7)),
    "certificate-listed": lambda: edited(
        put(["certificates"], [{"member": "certificates/0000.cert", "claim": "holds", "text": "anything"}])
    ),
    "certificate-lines": lambda: edited(put(["certificates"], ["holds"])),
    "weights-cut": lambda: edited(lambda m, members: members.update({"weights.safetensors": b"\xff" * 20})),
    "weights-listed": lambda: edited(weights(GOOD, {"0_Dense/bias": np.zeros(1)})),
    "weights-shape": lambda: edited(weights(GOOD | {"0_Dense/kernel": np.ones((5, 2), np.float32)})),
    "weights-lacking": lambda: edited(weights({"0_Dense/bias": np.zeros(1, np.float32)})),
    "weights-other": lambda: edited(weights(GOOD | {"1_other/bias": np.zeros(1, np.float32)})),
    "weights-tree": lambda: edited(weights(GOOD | {"0_Dense": np.zeros(1, np.float32)})),
}  # fmt: skip


def unneeded(manifest, members):
    members["graph.onnx"] = b""
    manifest["members"]["graph.onnx"] = ""


def wrong_hash():
    content = pack(tiny())
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    members["weights.safetensors"] = write_tensors(GOOD)
    return write_zip(members)


def nested(depth):
    value = {"layer": "Dense", "fields": {"in_features": 2, "out_features": 2}}
    for _ in range(depth):
        value = {"layer": "Residual", "fields": {"layers": [value], "shortcut": None}}
    return value


@pytest.mark.parametrize("name", BAD)
def test_bad_files_are_one_clear_error(name, golden, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("model.axiom").write_bytes(BAD[name]())
    with pytest.raises(ax.ModelError) as caught:
        ax.load_model("model.axiom")
    assert caught.value.at and caught.value.fix
    golden(f"axiom/{name}.txt", steady(str(caught.value)))


def steady(text):
    """Without sizes, hashes and the words of libraries."""
    text = re.sub(r"[0-9a-f]{16}…", "HASH…", re.sub(r"\b\d+ bytes", "N bytes", text))
    return re.sub(r"(\w+Error): .*", r"\1: …", text)


def test_files_that_are_not_there_or_cannot_be_written(tmp_path):
    with pytest.raises(ax.ModelError, match="cannot be read"):
        ax.load_model(tmp_path / "nowhere.axiom")
    with pytest.raises(ax.ModelError, match="cannot be written"):
        ax.save_model(tiny(), tmp_path / "nowhere" / "model.axiom")
    with pytest.raises(ax.ModelError, match="no such architecture"):
        ax.save_model(tiny(), tmp_path / "model.axiom", architecture="pickle")
    with pytest.raises(ax.ModelError, match="not JSON"):
        ax.save_model(tiny(), tmp_path / "model.axiom", metadata={"x": float("nan")})
    assert list(tmp_path.iterdir()) == []


def test_a_failed_save_leaves_the_old_file(tmp_path):
    path = ax.save_model(tiny(), tmp_path / "model.axiom")
    before = path.read_bytes()
    with pytest.raises(ax.ModelError):
        ax.save_model(tiny(), path, metadata={"x": object()})
    assert path.read_bytes() == before and os.listdir(tmp_path) == ["model.axiom"]


def test_sizes_are_arithmetic_and_nothing_else():
    for size in (
        0,
        28,
        "batch",
        "n",
        "2*n+1",
        "...",
        "*rest",
        "n >= 4",
        "?",
        "unk__214",
        "p2o.DynamicDimension.0",
        "max(floordiv(n, 2), 3)^2",
        "n%2 == 0",
    ):
        assert is_size(size), size
    for size in (-1, True, 2**50, None, 1.5, "exit()", "n.__class__", "[n]", "lambda: n", "n if n else 2", "2**99",
                 "(n)(3)", "n" * 300, "f'{n}'", "max(*n)", "2**n", "'n'", "n[0]", "(n:=3)"):  # fmt: skip
        good = False
        try:
            good = is_size(size)
        except SyntaxError:
            pass
        assert not good, size


def mutated(content, random):
    """A few bytes changed, cut, doubled or swapped."""
    data = bytearray(content)
    for _ in range(random.integers(1, 4)):
        at = int(random.integers(0, len(data)))
        match random.integers(0, 5):
            case 0:
                data[at] ^= 1 << int(random.integers(0, 8))
            case 1:
                data[at] = (data[at] + int(random.integers(1, 256))) % 256
            case 2:
                del data[at : at + int(random.integers(1, 50))]
            case 3:
                data[at:at] = data[at : at + int(random.integers(1, 50))]
            case 4:
                data = data[: max(at, 1)]
    return bytes(data)


def refuses(content):
    """A mutant is refused with an error of ours, or it is no mutant."""
    try:
        ax.load_model(content)
    except ax.AxiomError:
        return True
    return False


def mutants(count, seed):
    random = np.random.default_rng(seed)
    from onnx import parser

    originals = [pack(tiny()), pack(ax.from_onnx(parser.parse_model(ONNX).SerializeToString()))]
    for number in range(count):
        original = originals[number % 2]
        with zipfile.ZipFile(io.BytesIO(original)) as archive:
            members = {name: archive.read(name) for name in archive.namelist()}
        if number % 3:  # inside a member, with hashes and container put right again: deeper code has to refuse it
            name = sorted(members)[int(random.integers(0, len(members)))]
            members[name] = mutated(members[name], random)
            try:
                manifest = json.loads(members["manifest.json"])
                manifest["members"] = {k: hashlib.sha256(v).hexdigest() for k, v in members.items() if "json" not in k}
                with_digest(manifest)
                members["manifest.json"] = (json.dumps(manifest, sort_keys=True, indent=1) + "\n").encode()
            except (ValueError, TypeError, AttributeError, KeyError):
                pass
            yield original, write_zip(members), name
        else:
            yield original, mutated(original, random), "zip"


def run_mutants(count, seed):
    """Every mutant is refused with our error, or is a whole file of another model: a changed weight, a changed name."""
    counts = {"refused": 0, "another model": 0}
    for original, content, place in mutants(count, seed):
        if content == original:
            continue
        refused = refuses(content)
        assert refused or place != "zip", "a changed container was accepted"
        counts["refused" if refused else "another model"] += 1
    return counts


def test_mutated_files_are_refused():
    counts = run_mutants(30, 0)
    assert counts["refused"] >= 20


@pytest.mark.campaign
def test_many_mutated_files_are_refused():
    counts = run_mutants(2000, 1)
    print(counts)
    assert counts["refused"] > 1000


def test_mutated_safetensors_are_refused_or_read():
    content, random = write_tensors(GOOD), np.random.default_rng(2)
    refused = 0
    for _ in range(25):
        try:
            read_tensors(mutated(content, random), "test")
        except ax.ModelError:
            refused += 1
    assert refused > 5


def test_a_manifest_says_what_was_parsed():
    content = zipfile.ZipFile(io.BytesIO(pack(tiny()))).read("manifest.json")
    assert parse_manifest(content, "test").to_bytes() == content
