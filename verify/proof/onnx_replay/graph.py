"""An ONNX file as an exact function: `load(content).evaluate(point)`.

Sizes that the file leaves open are 1. Only what the outputs need is evaluated; what does not depend on the inputs is
evaluated once.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import numpy as np

from axiom_jax.verification import checker
from axiom_jax.verification.proof.onnx_replay import elementwise, layers, moves  # noqa: F401  (they fill the table)
from axiom_jax.verification.proof.onnx_replay.reals import Array, Undecided, moved, of_floats, of_fractions, real
from axiom_jax.verification.proof.onnx_replay.table import OPERATORS, Node, Unknown
from axiom_jax.verification.proof.onnx_replay.wire import Damaged, Message, model

KINDS = {1: "<f4", 2: "u1", 3: "i1", 4: "<u2", 5: "<i2", 6: "<i4", 7: "<i8", 9: "?", 10: "<f2", 11: "<f8", 12: "<u4",
         13: "<u8", 16: "<u2"}  # fmt: skip
FLOATS = (1, 10, 11, 16)
OLDEST = 7  # the first opset that broadcasts as NumPy does
FLOAT, INT, STRING, TENSOR, GRAPH, LISTS = 1, 2, 3, 4, 5, (6, 7, 8)
Ends = list[tuple[Fraction, Fraction]]


@dataclass
class Graph:
    """The graph of a file.

    Args:
        inputs: names and shapes. outputs: names. nodes: those that the outputs need, in order.
        known: values that do not depend on the inputs, by name.
    """

    inputs: list[tuple[str, tuple[int, ...]]]
    outputs: list[str]
    nodes: list[Node]
    known: dict[str, Array] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """How many numbers go in."""
        return sum(int(np.prod(shape, dtype=np.int64)) for _, shape in self.inputs)

    def evaluate(self, point: Sequence[Fraction]) -> Ends:
        """Enclosures of all outputs, flattened in their order, at a point of all inputs, flattened in theirs.

        Raises:
            Unknown: an operator is used in a way that this reader does not know.
            Undecided: the network is not defined there, or enclosures do not settle a comparison.
        """
        values, start = dict(self.known), 0
        for name, shape in self.inputs:
            size = int(np.prod(shape, dtype=np.int64))
            values[name] = of_fractions(point[start : start + size], shape)
            start += size
        _run([node for node in self.nodes if not self.known.keys() >= set(node.outputs) - {""}], values)
        if missing := [name for name in self.outputs if name not in values]:
            raise Damaged(f"nothing defines the output {missing[0]!r}")
        return [end for name in self.outputs for end in real(values[name]).fractions()]


def load(content: bytes, shapes: Sequence[Sequence[int]] = ()) -> Graph:
    """Read the (uncompressed) bytes of a file.

    Args:
        shapes: of the inputs, where the file leaves sizes open; without them, such sizes are 1.

    Raises:
        Damaged: they are no ONNX file.
        Unknown: naming every operator that has no rule here.

    >>> from onnx import parser
    >>> text = '<ir_version: 8, opset_import: ["": 17]> net (float[1, 2] x) => (float[1, 1] y) '
    >>> text += '<float[2, 1] w = {1, -1}> {a = Relu(x) y = MatMul(a, w)}'
    >>> net = load(parser.parse_model(text).SerializeToString())
    >>> net.evaluate([Fraction(1, 3), Fraction(-2)])
    [(Fraction(1, 3), Fraction(1, 3))]
    """
    proto = model(content)
    opset = max((e.version for e in proto.opset if e.domain in ("", "ai.onnx")), default=0)
    if opset < OLDEST or proto.has("functions") or proto.graph.has("sparse"):
        raise Unknown(f"opset {opset}" if opset < OLDEST else "functions or sparse weights in the file")
    outputs = [value.name for value in proto.graph.output]
    live, needed = [], set(outputs)
    for node in reversed(proto.graph.node):
        if needed.intersection(node.output):
            live.append(node)
            needed.update(node.input)
    if unknown := sorted({_called(node) for node in live} - OPERATORS.keys()):
        raise Unknown("operator " + ", ".join(unknown))
    tensors = {t.name: tensor(t) for t in proto.graph.initializer if t.name in needed}
    held = {t.name for t in proto.graph.initializer}  # old files list their weights among the inputs
    given = [value for value in proto.graph.input if value.name not in held]
    if shapes and len(shapes) != len(given):
        raise Unknown(f"{len(given)} inputs, where the model has {len(shapes)}")
    inputs = [(v.name, _shape(v, shapes[i] if shapes else None)) for i, v in enumerate(given)]
    nodes = [_node(node, opset) for node in reversed(live)]
    _defined_once([*tensors, *(name for name, _ in inputs), *(name for n in nodes for name in n.outputs if name)])
    graph = Graph(inputs, outputs, nodes, tensors)
    varying = {name for name, _ in inputs}
    for node in nodes:
        if varying.intersection(node.inputs):
            varying.update(node.outputs)
    fixed = [node for node in nodes if varying.isdisjoint(node.inputs)]
    _run(fixed, graph.known)
    return graph


def _called(node: Message) -> str:
    return node.op if node.domain in ("", "ai.onnx") else f"{node.domain}.{node.op}"


def _defined_once(names: list[str]) -> None:
    if len(set(names)) != len(names):
        raise Damaged("a value is defined twice")


def _shape(value: Message, given: Sequence[int] | None) -> tuple[int, ...]:
    kind = value.type.tensor
    if kind.element not in FLOATS or not kind.has("shape"):
        raise Unknown(f"input {value.name}, which holds no real numbers or has no shape")
    declared = tuple(d.value if d.value > 0 else 1 for d in kind.shape.dim)
    if given is None:
        return declared
    fits = len(given) == len(declared) and all(
        n == d.value or d.value <= 0 for n, d in zip(given, kind.shape.dim, strict=True)
    )
    if not fits:
        raise Unknown(f"input {value.name} of another shape than the model's")
    return tuple(given)


def _run(nodes: Sequence[Node], values: dict[str, Array]) -> None:
    """Evaluate nodes in order, adding to the values."""
    for node in nodes:
        missing = [name for name in node.inputs if name and name not in values]
        if missing:
            raise Damaged(f"{node.op} {node.name} reads {missing[0]!r}, which nothing before it defines")
        operands = [values[name] if name else None for name in node.inputs]
        while operands and operands[-1] is None:
            operands.pop()
        try:
            results = OPERATORS[node.op](node, *operands)
        except checker.Rejected as error:
            raise Undecided(f"{node.op} {node.name}: {error}") from error
        except (TypeError, AttributeError, IndexError, KeyError, ValueError) as error:
            if isinstance(error, (Unknown, Undecided)):
                raise type(error)(f"{node.op} {node.name}: {error}") from error
            raise Unknown(f"{node.op} {node.name} in this form ({type(error).__name__}: {error})") from error
        given = results if isinstance(results, tuple) else (results,)
        values.update({name: value for name, value in zip(node.outputs, given, strict=False) if name})


def _node(proto: Message, opset: int) -> Node:
    attributes = {a.name: _attribute(a) for a in proto.attribute}
    return Node(proto.op, opset, tuple(proto.input), tuple(proto.output), attributes, proto.name)


def _attribute(a: Message) -> Any:
    """Floats as exact numbers; a list of them as a list, but a Constant's `value_floats` as an array."""
    kind = a.type or (TENSOR if a.has("t") else FLOAT if a.has("f") else INT if a.has("i") else STRING)
    if a.has("g") or kind not in (FLOAT, INT, STRING, TENSOR, *LISTS):
        raise Unknown(f"attribute {a.name}, which is a graph or of an unknown kind")
    if kind == TENSOR:
        return tensor(a.t)
    if a.name in ("value_float", "value_floats"):
        return of_floats(np.array(a.f if kind == FLOAT else a.floats, np.float32))
    if kind == FLOAT:
        return Fraction(_finite(a.f))
    if kind == STRING:
        return a.s.decode()
    if kind == INT:
        return a.i
    if a.has("floats"):
        return [Fraction(_finite(x)) for x in a.floats]
    return [s.decode() for s in a.strings] if a.has("strings") else list(a.ints)


def _finite(x: float) -> float:
    if not np.isfinite(x):
        raise Unknown("an attribute that is not finite")
    return x


def tensor(t: Message) -> Array:
    """The numbers of a TensorProto: real ones exactly, others as a NumPy array of integers or truth values."""
    if t.location:
        raise Unknown(f"tensor {t.name}, which lies in another file")
    if t.type not in KINDS:
        raise Unknown(f"tensor {t.name} of type {t.type}")
    dtype, shape = np.dtype(KINDS[t.type]), tuple(t.dims)
    if any(n < 0 for n in shape):
        raise Damaged(f"tensor {t.name} has a negative size")
    if t.has("raw"):
        if len(t.raw) != dtype.itemsize * int(np.prod(shape, dtype=object)):
            raise Damaged(f"the data of tensor {t.name} do not fill its shape")
        values = np.frombuffer(t.raw, dtype)
    elif t.type in (10, 16):
        values = np.array(t.int32s, np.uint16).view(dtype)
    else:
        held = {1: t.floats, 7: t.int64s, 11: t.doubles, 12: t.uint64s, 13: t.uint64s}.get(t.type, t.int32s)
        values = np.array(held).astype(dtype)
    if values.size != int(np.prod(shape, dtype=object)):
        raise Damaged(f"the data of tensor {t.name} do not fill its shape")
    if t.type == 16:  # bfloat16: the upper half of a float32
        values = (values.astype(np.uint32) << 16).view(np.float32)
    if t.type in FLOATS:
        return moved(of_floats(values), lambda a: a.reshape(shape))
    return values.reshape(shape).astype(bool if t.type == 9 else np.int64)
