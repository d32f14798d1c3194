"""Small ONNX graphs for tests of the second reader, and the three answers about a point: its own, the certificate's
program, onnxruntime."""

import base64
import json
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import helper, numpy_helper

from axiom_jax.interop import from_onnx
from axiom_jax.verification.proof.certificate import Certificate, describe_model, tensors_of
from axiom_jax.verification.proof.exact import Exact, exactly
from axiom_jax.verification.search.margins import subject_of

FLOAT = onnx.TensorProto.FLOAT


@dataclass(frozen=True)
class In:
    """A graph input of random numbers between two."""

    shape: tuple[int, ...]
    low: float = -2.0
    high: float = 2.0


def model_bytes(nodes: Any, inputs: Any, outputs: Any, tensors: Any, opset: int = 17) -> bytes:
    """A model of float inputs {name: shape}, outputs [name] and tensors {name: array}."""
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info(name, FLOAT, shape) for name, shape in inputs.items()],
        [helper.make_value_info(name, onnx.TypeProto()) for name in outputs],
        [numpy_helper.from_array(np.asarray(x), name) for name, x in tensors.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8).SerializeToString()


def single(op: str, operands: tuple[Any, ...], opset: int = 17, outputs: int = 1, **attributes: Any) -> bytes:
    """A graph of one node; operands are `In`, arrays or None."""
    names = ["" if x is None else f"v{i}" for i, x in enumerate(operands)]
    given = dict(zip(names, operands, strict=True))
    results = [f"y{i}" for i in range(outputs)]
    node = helper.make_node(op, names, results, "node", **attributes)
    inputs = {name: x.shape for name, x in given.items() if isinstance(x, In)}
    tensors = {name: x for name, x in given.items() if isinstance(x, (np.ndarray, np.generic))}
    return model_bytes([node], inputs, results, tensors, opset)


def feeds_of(operands: tuple[Any, ...], seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    ins = {f"v{i}": x for i, x in enumerate(operands) if isinstance(x, In)}
    return {name: rng.uniform(x.low, x.high, x.shape).astype(np.float32) for name, x in ins.items()}


def runtime(content: bytes, feeds: dict[str, np.ndarray]) -> np.ndarray:
    """What onnxruntime answers, flat."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 4, 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    return np.concatenate([np.asarray(y, np.float64).ravel() for y in session.run(None, feeds)])


def point_of(feeds: dict[str, np.ndarray]) -> list[Fraction]:
    return [Fraction(float(v)) for x in feeds.values() for v in x.ravel()]


def certified(content: bytes) -> Exact:
    """What the first reader makes of it, as a certificate has it."""
    return exactly(subject_of(from_onnx(content)))


def meet(a: list[tuple[Fraction, Fraction]], b: list[tuple[Fraction, Fraction]]) -> bool:
    """Whether enclosures can be of the same numbers: for exact ones, whether they are equal."""
    return len(a) == len(b) and all(max(l, m) <= min(u, v) for (l, u), (m, v) in zip(a, b, strict=True))


def floats_model(seed: int = 0) -> bytes:
    """y = 3 x₀ and the like: Gemm, Relu, Gemm, and a difference whose order matters."""
    rng = np.random.default_rng(seed)
    shapes = {"W1": (2, 4), "B1": (4,), "W2": (4, 2), "B2": (2,), "C": (2,)}
    nodes = [
        helper.make_node("Gemm", ["x", "W1", "B1"], ["h"]),
        helper.make_node("Relu", ["h"], ["a"]),
        helper.make_node("Gemm", ["a", "W2", "B2"], ["z"]),
        helper.make_node("Sub", ["z", "C"], ["y"]),
    ]
    tensors = {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    return model_bytes(nodes, {"x": (1, 2)}, ["y"], tensors)


def write(path: Path, content: bytes) -> str:
    path.write_bytes(content)
    return str(path)


def reseal(path: Path, change: Callable[[dict[str, Any], dict[str, np.ndarray]], None], weights: bool = True) -> None:
    """Change a certificate and its tensors, and seal it again: every hash in it is right."""
    payload = json.loads(path.read_bytes())["payload"]
    tensors = {k: v.copy() for k, v in tensors_of(payload).items()}
    change(payload, tensors)
    if weights:
        model = payload["model"]
        described, blob = describe_model(model["program"], tensors, model["name"], model["source"])
        payload |= {"model": described, "weights": base64.b64encode(zlib.compress(blob)).decode()}
    path.write_bytes(Certificate(payload).to_bytes())
