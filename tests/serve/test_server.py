"""Starting and stopping: handles, ports, signals, the command line; certificates decide what is served."""

import hashlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time

import grpc
import httpx
import numpy as np
import pytest
from cli_helpers import run
from served_models import mlp

import axiom_jax as ax


def ours() -> set[threading.Thread]:
    """The threads of this package; gRPC keeps one of its own for the process."""
    return {thread for thread in threading.enumerate() if thread.name.startswith("axiom")}


def test_handles_of_every_face():
    for serve, path in ((ax.serve_rest, "/health"), (ax.serve_graphql, "")):
        with serve(mlp(), port=0, background=True) as server:
            assert server.port > 0 and server.url.startswith(f"http://127.0.0.1:{server.port}")
            answer = httpx.post(server.url, json={"query": "{ health { status } }"}) if not path else httpx.get(
                server.url + path)  # fmt: skip
            assert answer.status_code == 200
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"http://127.0.0.1:{server.port}/health")
    with ax.serve_grpc(mlp(), port=0, background=True) as server:
        with grpc.insecure_channel(server.url) as channel:
            call = channel.unary_unary("/axiom.v1.AxiomInference/Health")
            assert call(b"{}", timeout=30).startswith(b'{"status"')
    assert server.grpc_port == server.port


def test_nothing_is_left_behind():
    before = ours()
    server = ax.serve_rest({"a": mlp(), "b": mlp(1)}, port=0, background=True)
    for name in "ab":
        answer = httpx.post(f"{server.url}/predict", json={"model": name, "input": [[1, 2, 3, 4]]}).json()
        np.testing.assert_allclose(answer["output"], mlp("ab".index(name))(np.float32([[1, 2, 3, 4]])), rtol=1e-6)
    server.stop()
    server.stop()  # a second time does nothing
    assert ours() <= before


def test_a_taken_port_is_a_clear_error():
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        for serve in (ax.serve_rest, ax.serve_grpc):
            before = ours()
            with pytest.raises(ax.AxiomError, match="cannot listen there") as raised:
                serve(mlp(), port=port, background=True)
            assert raised.value.at == f"127.0.0.1:{port}" and "port=0" in raised.value.fix
            assert ours() <= before


def test_what_is_asked_is_finished_before_the_server_stops():
    from axiom_jax.serve.engine import Engine
    from axiom_jax.serve.server import start

    entered, go = threading.Event(), threading.Event()

    def slowly(outputs):
        entered.set()
        go.wait(20)
        return []

    with Engine(guards=(slowly,)) as engine:
        engine.add(mlp())
        server = start(engine, ("rest", "grpc"), "127.0.0.1", 0, 0)
        answers = []
        ask = lambda: answers.append(httpx.post(f"{server.url}/predict", json={"input": [[1, 2, 3, 4]]}, timeout=30))
        asking = threading.Thread(target=ask)
        asking.start()
        assert entered.wait(20)
        stopping = threading.Thread(target=server.stop)
        stopping.start()
        time.sleep(0.3)
        assert stopping.is_alive()
        go.set()
        asking.join(20)
        stopping.join(20)
        assert answers[0].status_code == 200 and not stopping.is_alive()


def test_certificates_over_rest_and_graphql(certified):
    model, certificate = certified
    digest = hashlib.sha256(certificate.read_bytes()).hexdigest()
    with ax.serve_rest(str(model), port=0, background=True, certificates=[certificate]) as server:
        got = httpx.get(f"{server.url}/v2/models/net/certificate")
        assert got.content == certificate.read_bytes() and got.headers["axiom-certificate-sha256"] == digest
        assert httpx.get(f"{server.url}/v2/models/net/certificate?digest={digest}").content == got.content
        assert httpx.get(f"{server.url}/v2/models/net/certificate?digest=00").status_code == 404
        answer = httpx.post(f"{server.url}/predict", json={"input": [[1, 1]]})
        assert answer.json()["certificate"] == answer.headers["axiom-certificate-sha256"] == digest
        body = {"inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [1, 1]}]}
        answer = httpx.post(f"{server.url}/v2/models/net/infer", json=body)
        assert answer.json()["parameters"]["certificate"] == digest
        assert answer.json()["outputs"][0]["data"] == [1.75, 1.0]
    with ax.serve_graphql({"net": str(model)}, port=0, background=True, certificates={"net": certificate}) as server:
        query = '{ certificate(model: "net") { digest text } }'
        got = httpx.post(server.url, json={"query": query}).json()["data"]["certificate"]
        assert got == {"digest": digest, "text": certificate.read_text()}


def test_a_wrong_certificate_starts_no_server(certified):
    model, certificate = certified
    before = ours()
    with pytest.raises(ax.CertificateError, match="mlp is not served"):
        ax.serve_rest(mlp(), port=0, background=True, certificates=certificate)
    with pytest.raises(ax.AxiomError, match="no model 'other' for a certificate"):
        ax.serve_rest({"net": model}, port=0, background=True, certificates={"other": certificate})
    assert ours() <= before


@pytest.fixture
def command(tmp_path):
    """`axiom serve` in a process of its own; stopped at the end whatever happens."""
    processes = []

    def start(*arguments):
        code = f"from axiom_jax.cli import main; main({['serve', *map(str, arguments)]!r})"
        environment = {**os.environ, "JAX_PLATFORMS": "cpu", "XDG_CACHE_HOME": str(tmp_path)}
        process = subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path, env=environment, text=True,
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE)  # fmt: skip
        processes.append(process)
        return process

    yield start
    for process in processes:
        process.kill()
        process.communicate()


def test_the_command_serves_until_a_signal(command, certified):
    model, certificate = certified
    protocols = ["--protocol", "rest,graphql", "--protocol", "grpc"]
    process = command(f"first={model}", *protocols, "--port", 0, "--grpc-port", 0, "--certificate", certificate)
    line = process.stdout.readline()
    assert line.startswith("serving first at rest http://127.0.0.1:"), line or process.stderr.read()
    rest, graphql, target = (part.rsplit(" ", 1)[1].strip() for part in line.split(", "))
    assert graphql == f"{rest}/graphql"
    assert httpx.post(f"{rest}/predict", json={"input": [[1, 1]]}).json()["output"] == [[1.75, 1.0]]
    assert httpx.post(graphql, json={"query": "{ health { models } }"}).json()["data"]["health"]["models"] == ["first"]
    with grpc.insecure_channel(target) as channel:
        call = channel.unary_unary("/axiom.v1.AxiomInference/Predict")
        assert b"1.75" in call(b'{"inputs": [{"numbers": [1, 1]}]}', timeout=30)
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out, err) == (0, "", "")


def test_the_command_refuses(certified, tmp_path, capsys):

    ax.save_model(mlp(), tmp_path / "mlp.axiom")
    model, certificate = map(str, certified)
    for arguments, words in (
        ([str(tmp_path / "mlp.axiom"), "--certificate", certificate], "is not served: its certificate does not hold"),
        (["nowhere.onnx"], "nowhere.onnx"),
        ([model, "--protocol", "soap"], "no such protocol"),
        ([model, f"net={model}"], "Two models have the name net"),
        ([model, f"b={model}", "--certificate", certificate], "needs the name of its own"),
    ):
        code, out, err = run(capsys, "serve", "--port", "0", *arguments)
        assert code == 2 and words in err and out == ""
