"""The engine in the process: what it takes in, what it refuses, its threads, its guards."""

import asyncio
import threading

import httpx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array, Float
from served_models import mlp

import axiom_jax as ax
from axiom_jax import nn
from axiom_jax.serve.engine import Engine
from axiom_jax.serve.lane import Lane
from axiom_jax.serve.limits import Limits, Refusal
from axiom_jax.serve.rest import rest_app
from axiom_jax.serve.rows import Broken

ONE = {"x": np.ones((1, 4), np.float32)}


def test_in_process_asgi():
    """The application without a socket."""

    async def ask():
        transport = httpx.ASGITransport(rest_app(engine))
        async with httpx.AsyncClient(transport=transport, base_url="http://local") as client:
            return await client.post("/predict", json={"input": [[1, 2, 3, 4]]})

    with Engine() as engine:
        engine.add(mlp())
        answer = asyncio.run(ask())
    np.testing.assert_allclose(answer.json()["output"], mlp()(np.float32([[1, 2, 3, 4]])), rtol=1e-6)


def test_many_at_once_get_their_own_answers():
    async def ask():
        xs = [np.full((1 + i % 3, 4), i, np.float32) for i in range(40)]
        return xs, await asyncio.gather(*(engine.infer("mlp", {"x": x}) for x in xs))

    before = set(threading.enumerate())
    with Engine() as engine:
        engine.add(mlp())
        xs, answers = asyncio.run(ask())
    for x, answer in zip(xs, answers, strict=True):
        np.testing.assert_allclose(answer.outputs["y"], mlp()(x), rtol=1e-5)
    assert not any(thread.name == "axiom-mlp" for thread in set(threading.enumerate()) - before)


def test_a_lane_is_bounded_and_closes():
    gate = threading.Event()
    lane = Lane(lambda x: (gate.wait(10), x)[1], limit=2, name="slow")

    async def ask():
        first = asyncio.create_task(lane.call(0))
        await asyncio.sleep(0.05)  # it is being computed
        more = [asyncio.create_task(lane.call(i)) for i in (1, 2)]
        await asyncio.sleep(0)
        with pytest.raises(Refusal, match="Too many requests wait") as raised:
            await lane.call(3)
        assert raised.value.status == 503
        gate.set()
        return await asyncio.gather(first, *more)

    assert asyncio.run(ask()) == [0, 1, 2]
    lane.close()
    with pytest.raises(Refusal, match="stopping"):
        asyncio.run(lane.call(4))


def test_a_client_that_leaves_does_no_harm():
    lane = Lane(lambda x: x, limit=8, name="left")

    async def leave():
        task = asyncio.create_task(lane.call(1))
        await asyncio.sleep(0)
        task.cancel()
        return await lane.call(2)

    assert asyncio.run(leave()) == 2
    lane.close()


def test_models_that_cannot_be_served():
    with Engine() as engine:
        for thing, words in (
            (5, "Only a model can be served"),
            ("model.bin", "no model file"),
            (ax.Sequential(lambda x: x), "shapes of its inputs are not known"),
            ("nowhere.onnx", "nowhere.onnx"),
        ):
            with pytest.raises(ax.ModelError, match=words):
                engine.add(thing)
        engine.add(mlp())
        with pytest.raises(ax.AxiomError, match="Two models have the name mlp"):
            engine.add(mlp())
        with pytest.raises(ax.AxiomError, match="letters, digits"):
            engine.add(mlp(), name="../etc")
        assert list(engine.models) == ["mlp"]


def test_float64_is_refused_rather_than_rounded():
    from axiom_jax.model import Model, Signature

    line = (("x", ("batch", 2), "float64"),)
    with Engine() as engine, pytest.raises(ax.ModelError, match="would round here"):
        engine.add(Model(lambda p, x: x, {}, Signature(line, line), "wide"))


def test_int64_is_computed_as_int32_if_it_fits():
    from axiom_jax.model import Model, Signature

    line = (("x", ("batch",), "int64"),)
    with Engine() as engine:
        engine.add(Model(lambda p, x: x + 1, {}, Signature(line, line), "ids"))
        assert engine.predict("ids", {"x": np.int64([1, 2])}).outputs["x"].tolist() == [2, 3]
        with pytest.raises(Refusal, match="too large for int32"):
            engine.predict("ids", {"x": np.int64([2**40])})


def test_constraints_and_free_sizes():
    @ax.axiom(constraints=["n >= 2"])
    def top(x: Float[Array, "batch n"]) -> Float[Array, "batch 2"]:
        return jax.lax.top_k(x, 2)[0]

    with Engine(Limits(programs=2)) as engine:
        served = engine.add(top)
        assert engine.predict("top", {"x": np.float32([[3, 1, 2]])}).outputs["output"].tolist() == [[3, 2]]
        with pytest.raises(ax.ShapeError, match="n >= 2"):
            engine.predict("top", {"x": np.float32([[3]])})
        for n in range(2, 8):
            engine.predict("top", {"x": np.ones((1, n), np.float32)})
        assert len(served.programs) == 2


def test_names_are_shared_between_inputs():
    @ax.axiom
    def both(a: Float[Array, "batch 2"], b: Float[Array, "batch 2"]) -> Float[Array, "batch 2"]:
        return a + b

    with Engine() as engine:
        engine.add(both)
        with pytest.raises(ax.ShapeError, match="with batch = 2"):
            engine.predict("both", {"a": np.ones((2, 2), np.float32), "b": np.ones((3, 2), np.float32)})
        with pytest.raises(Refusal, match="needs the input 'b' too"):
            engine.predict("both", {"a": np.ones((2, 2), np.float32)})


def test_guards_of_ones_own():
    def confident(outputs):
        low = np.flatnonzero(outputs["y"].max(1) < 0.99)
        return [Broken(int(row), "y", "y is confident", f"{outputs['y'][row].max():.2f}") for row in low]

    with Engine(guards=(confident,)) as engine:
        engine.add(mlp())
        with pytest.raises(ax.EnsureViolation, match="y is confident"):
            engine.predict("mlp", ONE)
        engine.add(mlp(), name="free", guards=())
        assert engine.predict("free", ONE).outputs["y"].shape == (1, 3)


def test_compiled_models_and_backends():
    with Engine() as engine:
        engine.add(ax.compile(mlp(), backend="xla"), name="compiled")
        engine.add(mlp(), name="named", backend="xla")
        x = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)
        for name in ("compiled", "named"):
            (y,) = engine.predict(name, {"x": x}).outputs.values()
            np.testing.assert_allclose(y, mlp()(x), rtol=1e-5)
            assert engine.models[name].record["requested"] == "xla"
        with pytest.raises(ax.BackendUnavailable):
            engine.add(mlp(), name="other", backend="fpga")


def test_files(tmp_path):
    ax.save_model(mlp(), tmp_path / "net.axiom")
    with Engine() as engine:
        engine.add(tmp_path / "net.axiom", name="net")
        np.testing.assert_allclose(engine.predict("net", ONE).outputs["y"], mlp()(ONE["x"]), rtol=1e-6)


def test_certificates(certified, tmp_path):
    model, certificate = certified
    with Engine() as engine:
        served = engine.add(model, certificates=certificate)
        import hashlib

        digest = hashlib.sha256(certificate.read_bytes()).hexdigest()
        assert engine.predict("net", {"x": np.ones((1, 2), np.float32)}).digest == served.digest == digest
        other = ax.from_onnx(model)
        changed = jax.tree.map(lambda w: np.nextafter(w, np.float32(9)), other.params)
        tampered = ax.Model(other.apply, changed, other.signature, "tampered")
        with pytest.raises(ax.CertificateError, match="tampered is not served: its certificate does not hold"):
            engine.add(tampered, certificates=[certificate])
        (tmp_path / "cut.cert").write_bytes(certificate.read_bytes()[:-100])
        for path, words in ((tmp_path / "cut.cert", "is not served"), (tmp_path / "none.cert", "cannot be read")):
            with pytest.raises(ax.CertificateError, match=words):
                engine.add(model, name="again", certificates=[path])
        with pytest.raises(ax.CertificateError, match="cannot be compared"):
            engine.add(ax.compile(other, backend="xla"), name="compiled", certificates=[certificate])
        assert list(engine.models) == ["net"]


def test_a_certificate_inside_a_file_is_checked_too(certified, tmp_path):
    model, certificate = certified
    ax.save_model(ax.from_onnx(model), tmp_path / "net.axiom", certificates=[certificate])
    with Engine() as engine:
        assert list(engine.add(tmp_path / "net.axiom").certificates.values()) == [certificate.read_bytes()]


def test_layers_are_served_with_their_own_ranks():
    net = ax.Sequential(nn.Conv(1, 2, (3, 3)), nn.relu, nn.GlobalAvgPool(), name="conv", input_shape=(8, 8, 1))
    with Engine() as engine:
        assert engine.add(net).batch == "batch"
        x = np.random.default_rng(0).normal(size=(3, 8, 8, 1)).astype(np.float32)
        np.testing.assert_allclose(engine.predict("conv", {"x": x}).outputs["y"], net(x), rtol=1e-5, atol=1e-6)
        with pytest.raises(ax.ShapeError, match="add the channel axis"):
            engine.predict("conv", {"x": x[..., 0]})


def test_outputs_are_named_where_the_signature_does_not():
    from axiom_jax.model import Model, Signature

    model = Model(lambda p, x: {"a": x, "b": jnp.sum(x, 1)}, {}, Signature((("x", ("rows", 3), "float32"),)), "dict")
    with Engine() as engine:
        served = engine.add(model)
        assert [spec.text for spec in served.outputs] == ["Float32[rows, 3]", "Float32[rows]"]
        assert list(engine.predict("dict", {"x": np.ones((3, 3), np.float32)}).outputs) == ["output0", "output1"]
