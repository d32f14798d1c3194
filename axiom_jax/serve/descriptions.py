"""What the OpenAPI page says of requests whose bodies are read by hand."""

from importlib.metadata import PackageNotFoundError, version
from typing import Any

try:
    VERSION = version("axiom-jax")
except PackageNotFoundError:  # run from a source folder that was not installed
    VERSION = "0"
SUMMARY = "Models with machine-checked proofs: Open Inference Protocol v2, and predictions from nested lists."


def _body(schema: dict[str, Any], example: dict[str, Any], answer: dict[str, Any]) -> dict[str, Any]:
    error = {"description": "An error: what, at, got, fix"}
    return {
        "requestBody": {"required": True, "content": {"application/json": {"schema": schema, "example": example}}},
        "responses": {
            "200": {"description": "The outputs", "content": {"application/json": {"example": answer}}},
            **{str(status): error for status in (400, 404, 408, 413, 415, 422, 503)},
        },
    }


_TENSOR = {
    "type": "object",
    "required": ["name", "shape", "datatype"],
    "properties": {
        "name": {"type": "string"},
        "shape": {"type": "array", "items": {"type": "integer"}},
        "datatype": {"type": "string", "example": "FP32"},
        "data": {"type": "array", "items": {}},
        "parameters": {"type": "object"},
    },
}

INFER = _body(
    {
        "type": "object",
        "required": ["inputs"],
        "properties": {
            "id": {"type": "string"},
            "parameters": {"type": "object"},
            "inputs": {"type": "array", "items": _TENSOR},
            "outputs": {"type": "array", "items": {"type": "object", "properties": {"name": {"type": "string"}}}},
        },
    },
    {"inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [0.5, -1]}]},
    {
        "model_name": "net",
        "model_version": "1",
        "outputs": [{"name": "y", "datatype": "FP32", "shape": [1, 1], "data": [0.25]}],
    },
)

PREDICT = _body(
    {
        "type": "object",
        "properties": {
            "model": {"type": "string", "description": "may be left out where one model is served"},
            "input": {"description": "nested lists, for a model with one input"},
            "inputs": {"type": "object", "description": "nested lists by name"},
        },
    },
    {"input": [[0.5, -1]]},
    {"model": "net", "version": "1", "output": [[0.25]], "certificate": None},
)
