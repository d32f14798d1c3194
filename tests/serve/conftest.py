"""One server with all faces and several models, for all tests of the folder."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from served_models import LIMITS, TYPES, centred, identity, mlp, pair

from axiom_jax._cli_verify import decide_files
from axiom_jax.serve.engine import Engine
from axiom_jax.serve.server import Server, start


@pytest.fixture(scope="session")
def engine() -> Iterator[Engine]:
    with Engine(LIMITS) as engine:
        engine.add(mlp())
        engine.add(pair)
        engine.add(centred)
        for dtype in TYPES:
            engine.add(identity(dtype))
        yield engine


@pytest.fixture(scope="session")
def server(engine: Engine) -> Iterator[Server]:
    with start(engine, ("rest", "graphql", "grpc"), "127.0.0.1", 0, 0) as server:
        yield server


@pytest.fixture(scope="session")
def certified(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """An ONNX net and a certificate about it."""
    import onnx
    from onnx import helper, numpy_helper

    folder = tmp_path_factory.mktemp("certified")
    weights = {"W": np.float32([[1, -1], [0.5, 2]]), "B": np.float32([0.25, 0])}
    tensors = [numpy_helper.from_array(value, name) for name, value in weights.items()]
    value = lambda name: helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["n", 2])
    nodes = [helper.make_node("Gemm", ["x", "W", "B"], ["h"]), helper.make_node("Relu", ["h"], ["y"])]
    graph = helper.make_graph(nodes, "net", [value("x")], [value("y")], tensors)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), folder / "net.onnx")
    declared = "".join(f"(declare-const {name}_{i} Real)" for name in "XY" for i in range(2))
    box = "".join(f"(assert (>= X_{i} -1))(assert (<= X_{i} 1))" for i in range(2))
    (folder / "holds.vnnlib").write_text(f"{declared}{box}(assert (>= Y_0 1000))")
    files = [str(folder / name) for name in ("net.onnx", "holds.vnnlib")]
    decide_files(*files, timeout=60, check=True, check_timeout=60, certificate=folder / "net.cert")
    return folder / "net.onnx", folder / "net.cert"
