"""ONNX rewritten for runtimes whose maxima drop NaN: ReLU, max, min, clip, max pooling and their reductions.

OpenVINO computes max(NaN, 0) = 0, and ONNX Runtime's max pooling passes over NaN, so a broken input would come out as a
plausible number. Each such node is followed by nodes that put NaN back where an operand had it; or, where `rarely`,
by a sum that is NaN if any operand is, and a branch that is taken only then.
"""

from collections.abc import Iterator, Sequence
from typing import Any

POINTWISE = ("Max", "Min", "Clip", "LeakyRelu", "HardSigmoid", "HardSwish", "Elu", "Selu", "Softplus")
WINDOWED = ("MaxPool", "ReduceMax", "ReduceMin")
ALL = ("Relu", *POINTWISE, *WINDOWED)


def faithful(payload: bytes, operators: Sequence[str] = ALL, rarely: bool = False) -> bytes:
    """The same ONNX graph, with NaN carried through comparisons; float32 graphs only.

    Args:
        operators: those that drop NaN; of `ALL`.
        rarely: whether the work is done only where there is a NaN.
    """
    import numpy as np
    import onnx

    model = onnx.load_from_string(payload)
    if any(value.type.tensor_type.elem_type not in (0, onnx.TensorProto.FLOAT) for value in model.graph.output):
        return payload
    if not any(node.op_type in operators for node in model.graph.node):
        return payload
    integers, nodes = _integers(model), []
    for node in model.graph.node:
        plain = node.op_type not in operators or not node.input or node.input[0] in integers
        parts = [node] if plain else list(_parts(node))
        nodes += _branched(node, parts) if rarely and not plain else parts
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    for name, value in (("axiom.zero", 0.0), ("axiom.nan", np.nan)):
        model.graph.initializer.append(onnx.numpy_helper.from_array(np.array(value, np.float32), name))
    return model.SerializeToString()


def _integers(model: Any) -> set[str]:
    """Names of values that are known to be no float32, so that they have no NaN."""
    import onnx

    inferred = onnx.shape_inference.infer_shapes(model).graph
    values = [*inferred.value_info, *inferred.input, *inferred.output]
    found = {v.name for v in values if v.type.tensor_type.elem_type not in (0, onnx.TensorProto.FLOAT)}
    return found | {t.name for t in inferred.initializer if t.data_type != onnx.TensorProto.FLOAT}


def _branched(node: Any, parts: list[Any]) -> Iterator[Any]:
    """The node as it is, a sum that says whether there is a NaN, and the other nodes for that case only."""
    from onnx import TensorProto, helper

    result = node.output[0]
    inner = {name for part in parts for name in part.output}
    for part in parts:
        for names in (part.input, part.output):
            names[:] = [f"rarely.{name}" if name in inner else name for name in names]
    quick = f"{result}.quick"
    yield _renamed(node, quick)
    yield helper.make_node("ReduceSum", [node.input[0]], [f"{result}.sum"], keepdims=0)
    yield helper.make_node("IsNaN", [f"{result}.sum"], [f"{result}.broken"])
    value = lambda name: [helper.make_tensor_value_info(name, TensorProto.FLOAT, None)]
    slow = helper.make_graph(parts, "slow", [], value(f"rarely.{result}"))
    copy = helper.make_node("Identity", [quick], [f"{quick}.same"])
    fast = helper.make_graph([copy], "fast", [], value(f"{quick}.same"))
    yield helper.make_node("If", [f"{result}.broken"], [result], then_branch=slow, else_branch=fast)


def _parts(node: Any) -> Iterator[Any]:
    """The node and those that put NaN back."""
    from onnx import TensorProto, helper

    result = node.output[0]
    new = lambda op, inputs, output, **attributes: helper.make_node(op, inputs, [f"{result}.{output}"], **attributes)
    back = lambda mask, value: helper.make_node("Where", [f"{result}.{mask}", "axiom.nan", value], [result])
    if node.op_type == "Relu":  # two nodes do: NaN < 0 is false
        yield new("Less", [node.input[0], "axiom.zero"], "negative")
        yield helper.make_node("Where", [f"{result}.negative", "axiom.zero", node.input[0]], [result])
    elif node.op_type in POINTWISE:
        operands = node.input if node.op_type in ("Max", "Min") else node.input[:1]
        yield _renamed(node, f"{result}.value")
        for i, operand in enumerate(operands):
            yield new("IsNaN", [operand], f"nan{i}")
            if i:
                yield new("Or", [f"{result}.any{i - 1}" if i > 1 else f"{result}.nan0", f"{result}.nan{i}"], f"any{i}")
        yield back(f"any{len(operands) - 1}" if len(operands) > 1 else "nan0", f"{result}.value")
    else:
        yield _renamed(node, f"{result}.value")
        yield new("IsNaN", [node.input[0]], "nan")
        yield new("Cast", [f"{result}.nan"], "ones", to=TensorProto.FLOAT)
        mask = _renamed(node, f"{result}.most")
        mask.op_type = node.op_type.replace("Min", "Max")
        mask.input[0] = f"{result}.ones"
        yield mask
        yield new("Greater", [f"{result}.most", "axiom.zero"], "any")
        yield back("any", f"{result}.value")


def _renamed(node: Any, output: str) -> Any:
    import onnx

    copy = onnx.NodeProto()
    copy.CopyFrom(node)
    copy.output[0] = output
    copy.name = ""
    return copy
