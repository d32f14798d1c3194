"""REST as clients meet it: tritonclient unmodified, httpx, curl; predictions, metadata, errors, limits."""

import json
import shutil
import socket
import subprocess
import time

import httpx
import ml_dtypes
import numpy as np
import pytest
from served_models import LIMITS, TYPES, mlp

X = np.float32([[1, 2, 3, 4], [0.5, -1, 0, 2], [9, 0, 0, 1]])


@pytest.fixture(scope="module")
def client(server):
    with httpx.Client(base_url=server.addresses["rest"], timeout=30) as client:
        yield client


@pytest.fixture(scope="module")
def triton(server):
    http = pytest.importorskip("tritonclient.http", reason="tritonclient[http] is not installed")
    client = http.InferenceServerClient(server.addresses["rest"].removeprefix("http://"))
    yield http, client
    client.close()


def infer(client, body, model="mlp", **headers):
    return client.post(f"/v2/models/{model}/infer", content=json.dumps(body), headers={
        "content-type": "application/json", **headers})  # fmt: skip


def tensor(data, shape=(1, 4), datatype="FP32", name="x", **more):
    return {"name": name, "shape": list(shape), "datatype": datatype, "data": data, **more}


def test_health_and_metadata(client):
    assert client.get("/health").json()["status"] == "ok"
    assert client.get("/v2").json()["extensions"] == ["binary_tensor_data"]
    assert client.get("/v2/health/live").status_code == client.get("/v2/health/ready").status_code == 200
    assert client.get("/v2/models/mlp/ready").json() == {"name": "mlp", "ready": True}
    for path in ("/v2/models/mlp", "/v2/models/mlp/versions/1"):
        about = client.get(path).json()
        assert about["inputs"] == [{"name": "x", "datatype": "FP32", "shape": [-1, 4]}]
        assert about["outputs"] == [{"name": "y", "datatype": "FP32", "shape": [-1, 3]}]
    paths = client.get("/openapi.json").json()["paths"]
    assert {"/predict", "/v2/models/{model}/infer", "/v2/models/{model}/certificate", "/graphql"} <= paths.keys()
    assert "swagger" in client.get("/docs").text.lower()


def test_predict_equals_the_model(client):
    answer = client.post("/predict", json={"model": "mlp", "input": X.tolist()}).json()
    np.testing.assert_allclose(answer["output"], mlp()(X), rtol=1e-6)
    assert answer["model"] == "mlp" and answer["certificate"] is None
    two = {"x": [[1, 2], [3, 4]], "ids": [1, 2]}
    answer = client.post("/predict", json={"model": "pair", "inputs": two}).json()
    np.testing.assert_allclose(answer["outputs"]["output0"], np.log([[1, 2], [3, 4]]) * [[1], [2]], rtol=1e-6)
    assert answer["outputs"]["output1"] == [2, 3]


@pytest.mark.parametrize("rows", [1, 2, 3, 5, 8, 17])
def test_padding_changes_no_row(engine, rows):
    x = np.random.default_rng(rows).normal(size=(rows, 4)).astype(np.float32)
    np.testing.assert_allclose(engine.predict("mlp", {"x": x}).outputs["y"], mlp()(x), rtol=1e-5)
    compiled = engine.models["mlp"].programs.keys()
    assert all(shapes[0][0] & (shapes[0][0] - 1) == 0 for shapes in compiled)  # powers of two alone
    c = x[:, :2]
    np.testing.assert_allclose(engine.predict("centred", {"x": c}).outputs["output"], c - c.mean(0), atol=1e-6)


def test_infer_as_json(client):
    for data in (X.tolist(), X.ravel().tolist()):
        body = {"id": "42", "inputs": [tensor(data, X.shape)], "outputs": [{"name": "y"}]}
        answer = infer(client, body).json()
        assert (answer["id"], answer["model_name"], answer["model_version"]) == ("42", "mlp", "1")
        (y,) = answer["outputs"]
        np.testing.assert_allclose(np.reshape(y["data"], y["shape"]), mlp()(X), rtol=1e-6)


@pytest.mark.parametrize("binary", [True, False])
def test_triton_infer(triton, binary):
    http, client = triton
    assert client.is_server_live() and client.is_server_ready() and client.is_model_ready("mlp")
    assert not client.is_model_ready("nothing")
    assert client.get_server_metadata()["name"] == "axiom-jax"
    assert client.get_model_metadata("mlp", "1")["name"] == "mlp"
    given = http.InferInput("x", X.shape, "FP32")
    given.set_data_from_numpy(X, binary_data=binary)
    wanted = [http.InferRequestedOutput("y", binary_data=binary)]
    result = client.infer("mlp", [given], outputs=wanted, request_id="7")
    np.testing.assert_allclose(result.as_numpy("y"), mlp()(X), rtol=1e-6)
    assert result.get_response()["id"] == "7"
    np.testing.assert_allclose(client.infer("mlp", [given]).as_numpy("y"), mlp()(X), rtol=1e-6)
    wide = http.InferInput("x", [3, 5], "FP32")
    wide.set_data_from_numpy(np.zeros((3, 5), np.float32))
    with pytest.raises(http.InferenceServerException, match=r"mlp cannot take its input[\s\S]*Float32\[batch, 4\]"):
        client.infer("mlp", [wide])


@pytest.mark.parametrize("dtype", TYPES)
def test_every_datatype(client, engine, dtype):
    kind = np.dtype(getattr(ml_dtypes, dtype) if dtype == "bfloat16" else dtype)
    x = np.array([[0, 1], [1, 0], [1, 1]]).astype(kind)
    datatype = engine.models[f"id-{dtype}"].inputs[0].datatype
    listed = x.astype(np.float32).tolist() if kind.kind in "fV" else x.tolist()
    body = {"inputs": [tensor(listed, x.shape, datatype)]}
    (y,) = infer(client, body, f"id-{dtype}").json()["outputs"]
    assert (y["datatype"], y["data"]) == (datatype, np.ravel(listed).tolist())
    raw = x.tobytes()
    sized = {"name": "x", "shape": [3, 2], "datatype": datatype, "parameters": {"binary_data_size": len(raw)}}
    head = {"inputs": [sized], "parameters": {"binary_data_output": True}}
    text = json.dumps(head).encode()
    answer = client.post(f"/v2/models/id-{dtype}/infer", content=text + raw, headers={
        "inference-header-content-length": str(len(text)), "content-type": "application/octet-stream"})  # fmt: skip
    length = int(answer.headers["inference-header-content-length"])
    assert json.loads(answer.content[:length])["outputs"][0]["parameters"] == {"binary_data_size": len(raw)}
    assert answer.content[length:] == raw


def test_one_row_of_many_is_named(client):
    two = {"x": [[1, 2], [3, 4], [1, -4], [0, 1]], "ids": [1, 2, 3, 4]}
    answer = client.post("/predict", json={"model": "pair", "inputs": two})
    assert answer.status_code == 422 and answer.json()["row"] == 2
    error = answer.json()["error"]
    assert error["what"] == "A guarded condition does not hold: output0 is finite."
    assert error["got"] == "row 2 of output0: NaN; row 3 of output0: infinity"


def test_a_condition_inside_the_model_is_heeded():
    """`ax.ensure` holds on the server too, says its row, and padding adds no row to it."""
    import jax.numpy as jnp
    from jaxtyping import Array, Float

    import axiom_jax as ax
    from axiom_jax.serve.engine import Engine

    @ax.axiom
    def small(x: Float[Array, "batch 2"]) -> Float[Array, "batch 2"]:
        ax.ensure(jnp.abs(x) < 10, "x is small")
        return x * 2

    with Engine() as engine:
        assert engine.add(small).batch == "batch"
        assert engine.predict("small", {"x": np.ones((3, 2), np.float32)}).outputs["output"].shape == (3, 2)
        with pytest.raises(ax.EnsureViolation, match="x is small") as raised:
            engine.predict("small", {"x": np.float32([[1, 1], [2, 2], [30, 1]])})
        assert raised.value.row == 2


BAD = {
    "shape": ({"inputs": [tensor([1, 2, 3], (1, 3))]}, 400, "x Float32[1, 3]; expected Float32[batch, 4]"),
    "no batch": ({"inputs": [tensor([1, 2, 3, 4], (4,))]}, 400, "add the batch axis"),
    "zero rows": ({"inputs": [tensor([], (0, 4))]}, 400, "no size may be 0"),
    "too few numbers": ({"inputs": [tensor([1, 2], (1, 4))]}, 400, "do not fill the shape"),
    "ragged": ({"inputs": [tensor([[1, 2], [3]], (1, 4))]}, 400, "ragged"),
    "datatype": ({"inputs": [tensor([1, 2, 3, 4], datatype="INT64")]}, 400, "'INT64'; expected FP32"),
    "strings": ({"inputs": [tensor(["a"] * 4, datatype="BYTES")]}, 400, "strings are not served"),
    "text for numbers": ({"inputs": [tensor(["1", "2", "3", "4"])]}, 400, "x takes numbers"),
    "null": ({"inputs": [tensor([1, 2, None, 4])]}, 400, "null"),
    "true for 1": ({"inputs": [tensor([1, 2, True, 4])]}, 400, "true or false"),
    "too large": ({"inputs": [tensor([1, 2, 1e39, 4])]}, 400, "too large for FP32"),
    "unknown input": ({"inputs": [tensor([1], name="z")]}, 400, "no input named 'z'"),
    "twice": ({"inputs": [tensor([1, 2, 3, 4])] * 2}, 400, "given twice"),
    "unknown output": ({"inputs": [tensor([1, 2, 3, 4])], "outputs": [{"name": "q"}]}, 400, "outputs: y"),
    "no inputs": ({}, 400, "needs a list of inputs"),
    "inputs of another kind": ({"inputs": 5}, 400, "int"),
    "no object": ([1], 400, "no JSON object"),
    "negative shape": ({"inputs": [tensor([1], (-1, 4))]}, 400, "list of sizes"),
    "many axes": ({"inputs": [tensor([1], (1,) * 9)]}, 400, "too many axes"),
    "many elements": ({"inputs": [tensor([1], (2**40, 4))]}, 413, "too large"),
    "many rows": ({"inputs": [tensor([0] * 65 * 4, (65, 4))]}, 413, "at most 64"),
    "id": ({"id": 4, "inputs": [tensor([1, 2, 3, 4])]}, 400, "id is text"),
    "binary size": ({"inputs": [tensor(None, parameters={"binary_data_size": 16})]}, 400, "left in the body: 0"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_requests(client, name):
    body, status, words = BAD[name]
    answer = infer(client, body)
    assert answer.status_code == status and words in answer.json()["error"], answer.text
    assert answer.json()["detail"].keys() == {"what", "at", "got", "fix"}
    assert "Traceback" not in answer.text


def test_bad_requests_at_large(client):
    post = lambda content, **headers: client.post("/predict", content=content, headers={
        "content-type": "application/json", **headers})  # fmt: skip
    assert post(b"{").status_code == 400 and "not JSON" in post(b"{").json()["error"]["what"]
    assert post(b'{"model": "mlp", "input": [[NaN, 1, 2, 3]]}').status_code == 400
    assert post(b"[" * 100_000).status_code == 400
    assert post(b"\xff\xfe").status_code == 400
    assert post(b"{}", **{"content-type": "text/plain"}).status_code == 415
    assert post(b"{}", **{"content-encoding": "gzip"}).status_code == 415
    assert post(b'{"input": [[1]]}').json()["error"]["what"] == "No model was named."
    assert post(b'{"model": "none", "input": [[1]]}').status_code == 404
    assert client.get("/v2/models/none").status_code == client.get("/v2/models/mlp/versions/2").status_code == 404
    assert client.get("/v2/models/mlp/certificate").status_code == 404
    assert client.get("/nowhere").json()["error"]["what"] == "Not Found."
    assert client.get("/predict").status_code == 405
    large = post(b" " * (LIMITS.body + 1))
    assert large.status_code == 413 and str(LIMITS.body) in large.json()["error"]["fix"]
    streamed = client.post("/predict", content=iter([b" " * 2**16] * 20), headers={"content-type": "application/json"})
    assert streamed.status_code == 413
    assert client.get("/health").status_code == 200


def test_a_silent_client_is_let_go(engine):
    from dataclasses import replace

    from axiom_jax.serve.engine import Engine
    from axiom_jax.serve.server import start

    with Engine(replace(LIMITS, seconds=0.3)) as quick, start(quick, ("rest",), "127.0.0.1", 0, 0) as server:
        for sent in (b"", b"POST /predict HTTP/1.1\r\nhost: a\r\n"):
            with socket.create_connection(("127.0.0.1", server.port), timeout=10) as late:
                late.sendall(sent)
                began = time.monotonic()
                assert late.recv(100) == b"" and time.monotonic() - began < 5
        with socket.create_connection(("127.0.0.1", server.port), timeout=10) as late:
            late.sendall(b"POST /predict HTTP/1.1\r\nhost: a\r\ncontent-length: 9\r\n\r\n{")
            assert late.recv(100).startswith(b"HTTP/1.1 408")


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_curl(server):
    command = ["curl", "-sS", "--json", '{"model": "mlp", "input": [[1, 2, 3, 4]]}', f"{server.url}/predict"]
    answer = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert answer.returncode == 0, answer.stderr
    np.testing.assert_allclose(json.loads(answer.stdout)["output"], mlp()(X[:1]), rtol=1e-6)


def test_large_answers_leave_the_loop_free(client):
    """Bodies of a quarter of a megabyte are read on another thread."""
    x = np.ones((2**13, 2), np.float32)
    answer = client.post("/predict", json={"model": "id-float32", "input": np.ones((64, 2)).tolist()})
    assert answer.status_code == 200
    body = json.dumps({"model": "id-float32", "input": x.tolist()}, indent=9)
    assert len(body) > 2**18 and client.post("/predict", content=body, headers={
        "content-type": "application/json"}).status_code == 413  # fmt: skip


