"""Any model as an ONNX graph whose tensors lie in `weights.safetensors`, and back.

The graph is a valid ONNX file with external data: its tensors name the bytes of the safetensors file that they are,
so an unpacked `graph.onnx` also opens in other tools. Reading looks tensors up by name and follows no path.
"""

import json
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
import numpy as np

from axiom_jax._errors import ModelError
from axiom_jax.interop.axiom.tensors import NAMES, write_tensors
from axiom_jax.interop.onnx.reader import Graph

if TYPE_CHECKING:
    from axiom_jax.interop.onnx.ops import Node
    from axiom_jax.model import Model

WEIGHTS = "weights.safetensors"
INSIDE = 1024  # bytes


def graph_of(model: "Model") -> Any:
    """The model as an `onnx.ModelProto`: the one that it was read from, else the one that it is exported to.

    Raises:
        AxiomError: it cannot be expressed in ONNX; with all reasons.
    """
    if isinstance(model.apply, Graph):
        return _written(model.apply, model)
    from axiom_jax.interop.onnx.writer import to_onnx_model

    return to_onnx_model(model)


def _written(graph: Graph, model: "Model") -> Any:
    """A graph of the reader as ONNX again: values by number, parameters by key, so that reading it gives it back."""
    import onnx
    from onnx import helper, numpy_helper

    names = {number: key for key, number in graph.params}
    names |= {number: entry[0] for number, entry in zip(graph.inputs, model.signature.inputs, strict=True)}
    results = dict(zip(graph.outputs, (entry[0] for entry in model.signature.outputs), strict=True))
    # an output that is also an input or a parameter, or the same value twice, goes by its number
    if len(results) == len(graph.outputs) and not set(names.values()) & set(results.values()):
        names |= {number: name for number, name in results.items() if number not in names}
    name = lambda number: "" if number < 0 else names.get(number, f"value {number}")
    tensors = [numpy_helper.from_array(np.asarray(model.params[key]), key) for key, _ in graph.params]
    tensors += [numpy_helper.from_array(tensor.array, name(number)) for number, tensor in graph.constants]
    describe = lambda number, entry: helper.make_tensor_value_info(
        name(number), helper.np_dtype_to_tensor_dtype(np.dtype(getattr(jnp, entry[2]))), list(entry[1])
    )
    inputs = [describe(*pair) for pair in zip(graph.inputs, model.signature.inputs, strict=True)]
    outputs = [describe(*pair) for pair in zip(graph.outputs, model.signature.outputs, strict=True)]
    opset = max((node.opset for node in graph.nodes), default=21)
    nodes = [_node(node, name) for node in graph.nodes]
    proto = helper.make_graph(nodes, "model", inputs, outputs, tensors)
    return helper.make_model(proto, opset_imports=[onnx.helper.make_opsetid("", opset)], ir_version=10)


def _node(node: "Node", name: Callable[[int], str]) -> Any:
    from onnx import defs, helper

    proto = helper.make_node(node.op, [name(i) for i in node.inputs], [name(i) for i in node.outputs], node.name)
    try:
        kinds: dict[str, Any] = {
            key: attribute.type for key, attribute in defs.get_schema(node.op, node.opset).attributes.items()
        }
    except defs.SchemaError:  # newer or older than the opset, which exporters and runtimes tolerate
        kinds = {}
    for key, value in sorted(node.attributes, key=_first_read):
        kind = kinds[key].value if key in kinds else None  # tells what an empty list holds
        proto.attribute.append(helper.make_attribute(key, _attribute(value, name), attr_type=kind))
    return proto


def _attribute(value: Any, name: Callable[[int], str]) -> Any:
    from onnx import helper, numpy_helper

    from axiom_jax.interop.onnx.ops import Body, Tensor

    if isinstance(value, Tensor):
        return numpy_helper.from_array(value.array)
    if not isinstance(value, Body):
        return value
    inputs, outputs = ([helper.make_empty_tensor_value_info(name(i)) for i in side]
                       for side in (value.inputs, value.outputs))  # fmt: skip
    return helper.make_graph([_node(node, name) for node in value.nodes], "body", inputs, outputs)


def _first_read(attribute: tuple[str, Any]) -> int:
    """Subgraphs in the order in which the reader met them, which is that of the numbers inside."""
    from axiom_jax.interop.onnx.ops import Body

    value = attribute[1]
    if not isinstance(value, Body):
        return -1
    return max((*value.inputs, *value.outputs, *(i for node in value.nodes for i in node.outputs)), default=-1)


def take_tensors(proto: Any) -> tuple[bytes, dict[str, np.ndarray]]:
    """A graph without its tensors, which it names as external data, and the tensors."""
    import onnx
    from onnx import numpy_helper

    tensors = {}
    for tensor in proto.graph.initializer:
        array = numpy_helper.to_array(tensor)
        # integers that may decide shapes stay, since other tools want to see them at once
        if array.dtype.name in NAMES.values() and (array.dtype.kind not in "iub" or array.nbytes > INSIDE):
            tensors[tensor.name] = array
    places = _places(write_tensors(tensors))
    for tensor in proto.graph.initializer:
        if tensor.name in tensors:
            stub = onnx.TensorProto(name=tensor.name, dims=tensor.dims, data_type=tensor.data_type,
                                    data_location=onnx.TensorProto.EXTERNAL)  # fmt: skip
            offset, length = places[tensor.name]
            for key, value in (("location", WEIGHTS), ("offset", str(offset)), ("length", str(length))):
                stub.external_data.add(key=key, value=value)
            tensor.CopyFrom(stub)
    return proto.SerializeToString(deterministic=True), tensors


def put_tensors(graph: bytes, tensors: Mapping[str, np.ndarray], file: str) -> bytes:
    """An ONNX file with its tensors in place.

    Raises:
        ModelError: the graph and the tensors do not belong together.
    """
    import onnx
    from google.protobuf.message import DecodeError
    from onnx import helper

    proto, missing = onnx.ModelProto(), set(tensors)
    try:
        proto.ParseFromString(graph)
    except DecodeError as error:
        raise ModelError("The graph is damaged.", at=file, fix="save the model again") from error
    for tensor in proto.graph.initializer:
        if tensor.data_location != onnx.TensorProto.EXTERNAL:
            continue
        array = tensors.get(tensor.name)
        dtype = None if array is None else helper.np_dtype_to_tensor_dtype(array.dtype)
        if array is None or tensor.data_type != dtype or tuple(tensor.dims) != array.shape:
            raise ModelError(f"The graph's tensor {tensor.name!r} is not among the weights, or is of another type.",
                             at=file, fix="save the model again")  # fmt: skip
        missing.discard(tensor.name)
        del tensor.external_data[:]
        tensor.ClearField("data_location")
        tensor.raw_data = array.tobytes()
    if missing:
        got = ", ".join(sorted(missing))[:200]
        raise ModelError("There are weights that the graph does not use.", at=file, got=got, fix="save the model again")
    return proto.SerializeToString()


def _places(content: bytes) -> dict[str, tuple[int, int]]:
    """Offset and length of each tensor in a safetensors file."""
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    places = {name: entry["data_offsets"] for name, entry in header.items() if name != "__metadata__"}
    return {name: (8 + length + start, end - start) for name, (start, end) in places.items()}
