"""gRPC as clients meet it: tritonclient unmodified, reflection, health, protobuf and JSON, curl over HTTP/2."""

import json
import shutil
import struct
import subprocess

import grpc
import numpy as np
import pytest
from served_models import mlp

import axiom_jax as ax
from axiom_jax.serve.protos import FILES, message_class, read_proto, source

X = np.float32([[1, 2, 3, 4], [0.5, -1, 0, 2], [9, 0, 0, 1]])


@pytest.fixture(scope="module")
def channel(server):
    with grpc.insecure_channel(server.addresses["grpc"]) as channel:
        yield channel


@pytest.fixture(scope="module")
def triton(server):
    module = pytest.importorskip("tritonclient.grpc", reason="tritonclient[grpc] is not installed")
    client = module.InferenceServerClient(server.addresses["grpc"])
    yield module, client
    client.close()


def call(channel, method, request, answer):
    """A unary call of protobuf messages."""
    reply = channel.unary_unary(f"/{method}", request_serializer=lambda m: m.SerializeToString(),
                                response_deserializer=message_class(answer).FromString)  # fmt: skip
    return reply(request, timeout=30)


def call_json(channel, method, request):
    """A unary call whose messages are JSON."""
    reply = channel.unary_unary(f"/{method}", request_serializer=lambda m: json.dumps(m).encode(),
                                response_deserializer=json.loads)  # fmt: skip
    return reply(request, timeout=30)


def test_triton(triton):
    module, client = triton
    assert client.is_server_live() and client.is_server_ready() and client.is_model_ready("mlp")
    assert client.get_server_metadata(as_json=True)["name"] == "axiom-jax"
    about = client.get_model_metadata("mlp", as_json=True)
    assert about["inputs"] == [{"name": "x", "datatype": "FP32", "shape": ["-1", "4"]}]
    given = module.InferInput("x", list(X.shape), "FP32")
    given.set_data_from_numpy(X)
    wanted = [module.InferRequestedOutput("y")]
    for outputs in (wanted, None):
        result = client.infer("mlp", [given], outputs=outputs, request_id="7")
        np.testing.assert_allclose(result.as_numpy("y"), mlp()(X), rtol=1e-6)
        assert result.get_response().id == "7"
    wide = module.InferInput("x", [3, 5], "FP32")
    wide.set_data_from_numpy(np.zeros((3, 5), np.float32))
    with pytest.raises(module.InferenceServerException, match=r"Float32\[batch, 4\]") as raised:
        client.infer("mlp", [wide])
    assert raised.value.status() == "StatusCode.INVALID_ARGUMENT"
    with pytest.raises(module.InferenceServerException) as raised:
        client.get_model_metadata("none")
    assert raised.value.status() == "StatusCode.NOT_FOUND"


def test_typed_contents(channel):
    kind = message_class("inference.ModelInferRequest")
    request = kind(model_name="mlp", inputs=[{"name": "x", "datatype": "FP32", "shape": [3, 4],
                                              "contents": {"fp32_contents": X.ravel()}}])  # fmt: skip
    answer = call(channel, "inference.GRPCInferenceService/ModelInfer", request, "inference.ModelInferResponse")
    assert not answer.raw_output_contents
    np.testing.assert_allclose(answer.outputs[0].contents.fp32_contents, np.ravel(mlp()(X)), rtol=1e-6)
    request.inputs[0].contents.Clear()
    request.inputs[0].contents.int_contents.extend([1] * 12)
    with pytest.raises(grpc.RpcError, match="fp32_contents"):
        call(channel, "inference.GRPCInferenceService/ModelInfer", request, "inference.ModelInferResponse")


def test_axiom_in_protobuf_and_json(channel):
    kind, predict = message_class("axiom.v1.PredictRequest"), "axiom.v1.AxiomInference/Predict"
    request = kind(model="mlp", inputs=[{"numbers": X.ravel()}])
    answer = call(channel, predict, request, "axiom.v1.PredictResponse")
    np.testing.assert_allclose(answer.outputs[0].numbers, np.ravel(mlp()(X)), rtol=1e-6)
    request = kind(model="mlp", inputs=[{"name": "x", "raw": X.tobytes()}])
    answer = call(channel, predict, request, "axiom.v1.PredictResponse")
    np.testing.assert_allclose(np.frombuffer(answer.outputs[0].raw, np.float32), np.ravel(mlp()(X)), rtol=1e-6)

    told = call_json(channel, predict, {"model": "mlp", "inputs": [{"numbers": X.ravel().tolist()}]})
    np.testing.assert_allclose(told["outputs"][0]["numbers"], np.ravel(mlp()(X)), rtol=1e-6)
    assert told["outputs"][0]["shape"] == ["3", "3"]
    two = {"model": "pair", "inputs": [{"name": "x", "numbers": [1, 2]}, {"name": "ids", "integers": ["41"]}]}
    assert call_json(channel, predict, two)["outputs"][1]["integers"] == ["42"]
    flag = {"model": "id-bool", "inputs": [{"integers": [1, 0]}]}
    assert call_json(channel, predict, flag)["outputs"][0]["integers"] == ["1", "0"]
    assert call_json(channel, "axiom.v1.AxiomInference/Health", {})["status"] == "ok"
    health = call(channel, "axiom.v1.AxiomInference/Health", message_class("axiom.v1.HealthRequest")(),
                  "axiom.v1.HealthResponse")  # fmt: skip
    assert "mlp" in health.models


def test_errors_say_what_at_got_fix(channel):
    with pytest.raises(grpc.RpcError) as raised:
        call_json(channel, "axiom.v1.AxiomInference/Predict", {"model": "mlp", "inputs": [{"numbers": [1, 2, 3]}]})
    assert raised.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    parts = json.loads(dict(raised.value.trailing_metadata())["axiom-error"])
    assert parts.keys() == {"what", "at", "got", "fix"} and parts["what"] == "The data do not fill the shape."
    with pytest.raises(grpc.RpcError) as raised:
        bad = [{"name": "x", "numbers": [1, 1, -1, 1]}, {"name": "ids", "integers": [1, 1]}]
        call_json(channel, "axiom.v1.AxiomInference/Predict", {"model": "pair", "inputs": bad})
    assert raised.value.code() is grpc.StatusCode.FAILED_PRECONDITION and "row 1" in raised.value.details()


def test_reflection_and_health(channel):
    from grpc_health.v1 import health_pb2, health_pb2_grpc
    from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

    found = ProtoReflectionDescriptorDatabase(channel)
    services = set(found.get_services())
    assert {"inference.GRPCInferenceService", "axiom.v1.AxiomInference", "grpc.health.v1.Health"} <= services
    for service in ("inference.GRPCInferenceService", "axiom.v1.AxiomInference", "grpc.health.v1.Health"):
        file = found.FindFileContainingSymbol(service)
        (described,) = [s for s in file.service if f"{file.package}.{s.name}" == service]
        assert described.method
    assert found.FindFileContainingSymbol("inference.ModelInferRequest.InferInputTensor").name == "inference.proto"
    stub = health_pb2_grpc.HealthStub(channel)
    for name in ("", "axiom.v1.AxiomInference"):
        reply = stub.Check(health_pb2.HealthCheckRequest(service=name), timeout=30)
        assert reply.status == health_pb2.HealthCheckResponse.SERVING


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_grpc_json_by_curl(server, tmp_path):
    """`application/grpc+json` over HTTP/2 by a client that is no gRPC library."""
    if "HTTP2" not in subprocess.run(["curl", "-V"], capture_output=True, text=True).stdout:
        pytest.skip("this curl has no HTTP/2")
    message = json.dumps({"model": "mlp", "inputs": [{"numbers": [1, 2, 3, 4]}]}).encode()
    (tmp_path / "request").write_bytes(struct.pack(">BI", 0, len(message)) + message)
    url = f"http://{server.addresses['grpc']}/axiom.v1.AxiomInference/Predict"
    headers = ["-H", "content-type: application/grpc+json", "-H", "te: trailers"]
    command = ["curl", "-sS", "--http2-prior-knowledge", *headers, "--data-binary", f"@{tmp_path / 'request'}",
               "-o", f"{tmp_path / 'answer'}", url]  # fmt: skip
    run = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert run.returncode == 0, run.stderr
    data = (tmp_path / "answer").read_bytes()
    assert struct.unpack(">BI", data[:5]) == (0, len(data) - 5)
    np.testing.assert_allclose(json.loads(data[5:])["outputs"][0]["numbers"], np.ravel(mlp()(X[:1])), rtol=1e-6)


@pytest.mark.parametrize("package", FILES)
def test_definitions_are_what_protoc_reads(package, tmp_path):
    """Our reading of the .proto files is that of protobuf's own compiler, field by field."""
    protoc = pytest.importorskip("grpc_tools.protoc", reason="grpcio-tools is not installed")
    from google.protobuf.descriptor_pb2 import FileDescriptorSet

    path = tmp_path / FILES[package]
    text = ax.generate_grpc_proto(mlp(), path, package=package)
    assert path.read_text() == text and text.startswith("// Model mlp\n//   input x: FP32 [-1, 4]\n")
    assert protoc.main(["protoc", f"-I{tmp_path}", f"--descriptor_set_out={tmp_path / 'set'}", str(path)]) == 0
    (compiled,) = FileDescriptorSet.FromString((tmp_path / "set").read_bytes()).file
    ours = read_proto(source(package), FILES[package])
    for message in [*ours.message_type]:
        for inner in (message, *message.nested_type):
            for field in inner.field:
                field.ClearField("json_name")
    for message in [*compiled.message_type]:
        for inner in (message, *message.nested_type):
            for field in inner.field:
                field.ClearField("json_name")
    assert ours == compiled


def test_definitions_are_tritons():
    """The part of the protocol that we serve has triton's names, numbers and types."""
    theirs = pytest.importorskip("tritonclient.grpc.service_pb2", reason="tritonclient[grpc] is not installed")
    ours = message_class("inference.ModelInferRequest").DESCRIPTOR.file
    for name, message in ours.message_types_by_name.items():
        other = theirs.DESCRIPTOR.message_types_by_name[name]
        for field in message.fields:
            if (name, field.name) == ("ModelMetadataResponse", "properties"):  # KServe has it, triton does not
                continue
            same = other.fields_by_name[field.name]
            assert (field.number, field.type, field.is_repeated) == (same.number, same.type, same.is_repeated)


def test_a_definition_that_cannot_be_written(tmp_path):
    with pytest.raises(ax.AxiomError, match="cannot be written"):
        ax.generate_grpc_proto(path=tmp_path / "none" / "a.proto")
    with pytest.raises(ax.AxiomError, match="no such package"):
        ax.generate_grpc_proto(package="axiom.v9")
