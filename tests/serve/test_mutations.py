"""Broken requests to every face: each gets a clear error or an answer, and the server stays as it was."""

import json
import random

import grpc
import httpx
import numpy as np
import pytest
from served_models import mlp

X = np.float32([[1, 2, 3, 4]])
INFER = {"id": "1", "inputs": [{"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [1, 2, 3, 4]}],
         "outputs": [{"name": "y"}], "parameters": {}}  # fmt: skip
PREDICT = {"model": "mlp", "input": [[1, 2, 3, 4]]}
QUERY = {"query": "query ($i: [TensorInput!]!) { predict(model: \"mlp\", inputs: $i) { outputs { data } } }",
         "variables": {"i": [{"name": "x", "data": [[1, 2, 3, 4]]}]}}  # fmt: skip
TENSOR = {"model": "mlp", "inputs": [{"name": "x", "shape": ["1", "4"], "numbers": [1, 2, 3, 4]}]}
VALUES = [None, True, -1, 0, 1.5, 2**63, 2**200, "", "x", "\x00", "__import__('os').system('true')", [], [[]], {},
          {"": 1}, [None], "A" * 5000, [[[[[[[[[[1]]]]]]]]]], [1, [2]], "BYTES", -0.0, 1e308]  # fmt: skip


def places(value, path=()):
    yield path
    if isinstance(value, (dict, list)):
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from places(inner, (*path, key))


def mutated(value, draw):
    """A copy with one part replaced, dropped or doubled."""
    copy = json.loads(json.dumps(value))
    path = draw.choice([path for path in places(copy) if path])
    parent = copy
    for key in path[:-1]:
        parent = parent[key]
    action = draw.randrange(4)
    if action == 0:
        del parent[path[-1]]
    elif action == 1 and isinstance(parent, list):
        parent.insert(0, parent[path[-1]])
    else:
        parent[path[-1]] = draw.choice(VALUES)
    return copy


def spoiled(data, draw):
    """Bytes with some changed, cut or added."""
    data = bytearray(data)
    for _ in range(draw.randint(1, 4)):
        at = draw.randrange(len(data)) if data else 0
        action = draw.randrange(3)
        if action == 0:
            data[at : at + 1] = bytes([draw.randrange(256)])
        elif action == 1:
            del data[at : at + draw.randint(1, 9)]
        else:
            data[at:at] = draw.randbytes(draw.randint(1, 9))
    return bytes(data)


def clear(answer):
    """A right answer, or an error that says what is wrong; never a failure of the server."""
    assert answer.status_code in (200, 400, 404, 405, 413, 415, 422), answer.text
    body = answer.json()
    if answer.status_code != 200:
        assert "Traceback" not in answer.text and 'File "' not in answer.text
        assert body.get("error") or body.get("errors")[0]["message"]
    return answer.status_code


def attack(server, seed):
    draw = random.Random(seed)
    kind = draw.choice(("infer", "predict", "binary", "graphql", "grpc", "grpc json", "bytes", "path"))
    as_text = lambda value: json.dumps(value).encode()


    def post(path, content, **headers):
        headers = {"content-type": "application/json", **headers}
        clear(httpx.post(f"{server.url}{path}", content=content, timeout=30, headers=headers))

    match kind:
        case "infer":
            post("/v2/models/mlp/infer", as_text(mutated(INFER, draw)))
        case "predict":
            post("/predict", as_text(mutated(PREDICT, draw)))
        case "graphql":
            post("/graphql", as_text(mutated(QUERY, draw)) if draw.random() < 0.5 else
                 as_text({**QUERY, "query": spoiled(QUERY["query"].encode(), draw).decode("latin-1")}))  # fmt: skip
        case "bytes":
            path = draw.choice(("/predict", "/v2/models/mlp/infer", "/graphql"))
            post(path, spoiled(as_text({"/predict": PREDICT, "/graphql": QUERY}.get(path, INFER)), draw))
        case "path":
            names = ("%2e%2e/infer", "mlp/versions/9/infer", "a" * 3000)
            path = "/v2/models/" + draw.choice(names)
            clear(httpx.request(draw.choice(("GET", "POST", "PUT")), f"{server.url}{path}", timeout=30, content=b"{}"))
        case "binary":
            size = {"binary_data_size": 16}
            head = {"inputs": [{"name": "x", "shape": [1, 4], "datatype": "FP32", "parameters": size}]}
            text = as_text(mutated(head, draw) if draw.random() < 0.5 else head)
            length = draw.choice((str(len(text)), "0", "-1", "9" * 30, "x", str(len(text) + 3)))
            body = text + X.tobytes()[: draw.choice((16, 15, 0, 16))]
            post("/v2/models/mlp/infer", body, **{"inference-header-content-length": length})
        case _:
            from axiom_jax.serve.protos import message_class

            with grpc.insecure_channel(server.addresses["grpc"]) as channel:
                if kind == "grpc json":
                    method, data = "axiom.v1.AxiomInference/Predict", as_text(mutated(TENSOR, draw))
                else:
                    method = "inference.GRPCInferenceService/ModelInfer"
                    whole = message_class("inference.ModelInferRequest")(
                        model_name="mlp", inputs=[{"name": "x", "datatype": "FP32", "shape": [1, 4]}],
                        raw_input_contents=[X.tobytes()],
                    )  # fmt: skip
                    data = spoiled(whole.SerializeToString(), draw)
                try:
                    channel.unary_unary(f"/{method}")(data, timeout=30)
                except grpc.RpcError as error:
                    allowed = {"INVALID_ARGUMENT", "NOT_FOUND", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION"}
                    assert error.code().name in allowed, error  # pyright: ignore[reportAttributeAccessIssue]
                    assert "Traceback" not in error.details()  # pyright: ignore[reportAttributeAccessIssue]


def healthy(server):
    answer = httpx.post(f"{server.url}/predict", json=PREDICT, timeout=30)
    np.testing.assert_allclose(answer.json()["output"], mlp()(X), rtol=1e-6)


@pytest.mark.parametrize("seed", range(25))
def test_broken_requests(server, seed):
    attack(server, seed)
    healthy(server)


@pytest.mark.campaign
def test_many_broken_requests(server):
    for seed in range(25, 425):
        attack(server, seed)
    healthy(server)
