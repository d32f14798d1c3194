"""GraphQL as clients meet it: introspection, queries, predictions, errors, limits."""

import httpx
import numpy as np
import pytest
from graphql import build_client_schema, get_introspection_query
from served_models import LIMITS, mlp

X = [[1, 2, 3, 4], [0.5, -1, 0, 2]]
PREDICT = """
query ($inputs: [TensorInput!]!) {
  predict(model: "mlp", inputs: $inputs) { model version certificate outputs { name datatype shape data } }
}"""


@pytest.fixture(scope="module")
def ask(server):
    with httpx.Client(timeout=30) as client:

        def ask(query, status=200, **variables):
            answer = client.post(server.addresses["graphql"], json={"query": query, "variables": variables})
            assert answer.status_code == status, answer.text
            return answer.json()

        yield ask


def test_introspection(ask):
    schema = build_client_schema(ask(get_introspection_query())["data"])
    assert {"health", "models", "model", "predict", "certificate"} <= schema.query_type.fields.keys()
    assert "predict" in schema.mutation_type.fields


def test_models_and_health(ask):
    data = ask("""{ health { status models } model(name: "mlp") { name version signature backend
                  inputs { name datatype shape } certificates { digest } } none: model(name: "none") { name }
                  models { name } certificate(model: "mlp") { digest } }""")["data"]
    assert data["health"]["status"] == "ok" and data["none"] is None and data["certificate"] is None
    assert data["model"]["inputs"] == [{"name": "x", "datatype": "FP32", "shape": [-1, 4]}]
    assert {model["name"] for model in data["models"]} == set(data["health"]["models"])


def test_predict(ask):
    for query in (PREDICT, PREDICT.replace("query", "mutation", 1)):
        (y,) = ask(query, inputs=[{"name": "x", "data": X}])["data"]["predict"]["outputs"]
        np.testing.assert_allclose(y["data"], mlp()(np.float32(X)), rtol=1e-6)
        assert (y["datatype"], y["shape"]) == ("FP32", [2, 3])
    flat = {"name": "x", "data": np.ravel(X).tolist(), "shape": [2, 4], "datatype": "FP32"}
    assert ask(PREDICT, inputs=[flat])["data"]["predict"]["model"] == "mlp"
    inline = '{ predict(model: "mlp", inputs: [{name: "x", data: [[1, 2, 3, 4]]}]) { outputs { data } } }'
    (y,) = ask(inline)["data"]["predict"]["outputs"]
    np.testing.assert_allclose(y["data"], mlp()(np.float32(X[:1])), rtol=1e-6)


def test_errors(ask):
    (error,) = ask(PREDICT, inputs=[{"name": "x", "data": [[1, 2]]}])["errors"]
    assert error["extensions"]["what"] == "mlp cannot take its input." and error["extensions"]["status"] == 400
    assert error["path"] == ["predict"]
    (error,) = ask(PREDICT, inputs=[{"name": "z", "data": [[1, 2]]}])["errors"]
    assert "no input named 'z'" in error["message"]
    bad = '{ predict(model: "pair", inputs: [{name: "x", data: [[1, 1], [-1, 1]]}, {name: "ids", data: [1, 2]}])'
    (error,) = ask(bad + "{ model } }")["errors"]
    assert error["extensions"]["row"] == 1 and error["extensions"]["status"] == 422
    assert "Cannot query field" in ask("{ nothing }", status=400)["errors"][0]["message"]
    assert "Syntax Error" in ask("{", status=400)["errors"][0]["message"]


def test_limits(ask, server):
    deep = "{ models " * 1 + "{ inputs " * 1 + "{ name }" + " }" * 2
    assert "errors" not in ask(deep)
    wide = "{" + " ".join(f"a{i}: health {{ status }}" for i in range(40)) + "}"
    assert "aliases" in ask(wide, status=400)["errors"][0]["message"]
    long = "{" + " ".join("health { status }" for _ in range(900)) + "}"
    assert "token" in ask(long, status=400)["errors"][0]["message"].lower()
    nested = "{ models " + "{ inputs " * 500 + "{ name }" + " }" * 501
    assert ask(nested, status=400)["errors"]
    post = lambda content, **headers: httpx.post(server.addresses["graphql"], content=content, timeout=30, headers={
        "content-type": "application/json", **headers})  # fmt: skip
    assert post(b"{").status_code == post(b"[]").status_code == post(b'{"query": 5}').status_code == 400
    assert post(b'{"query": "{ health { status } }", "variables": 5}').status_code == 400
    assert post(b" " * (LIMITS.body + 1)).status_code == 413
    assert post(b'{"query": " "}').status_code == 400
    for query in ("subscription { x }", "fragment f on Query { x }", "{...f} fragment f on Query {...f}"):
        assert ask(query, status=400)["errors"][0]["message"]
    assert post(b'{"query": "{ health { status } }", "operationName": "q"}').status_code == 400
    assert post(b"query=1", **{"content-type": "application/x-www-form-urlencoded"}).status_code == 415
