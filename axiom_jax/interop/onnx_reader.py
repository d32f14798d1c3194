"""ONNX files in: `from_onnx` gives a `Model` whose `apply` is pure JAX and whose weights are parameters.

The file becomes a `Graph` in canonical form: values are numbered in order of use, and names are
kept for messages only. Two nets of one architecture are equal graphs and share one compiled
program. Float tensors are parameters; integers, shapes and whatever decides them are constants.
"""

import hashlib
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from axiom_jax._errors import ModelError, ShapeError, UnsupportedPrimitive
from axiom_jax.interop.onnx_file import (
    as_array,
    attribute_of,
    constant_of,
    inputs_of,
    load_beside,
    opset_of,
    outputs_of,
    parse,
    read_content,
    require_finite,
)

if TYPE_CHECKING:
    import jax

    from axiom_jax.interop.onnx_ops import Node, Tensor
    from axiom_jax.model import Model


@dataclass(frozen=True)
class Graph:
    """An ONNX graph as a pure function `graph(params, *inputs)`; equal for nets of one architecture.

    Args:
        shapes: of the inputs; −1 for a size that is free.
        inputs, outputs: numbers of values.
        params: keys of `params` with the values they define, in order of first use.
        constants: known tensors with the values they define.
        nodes: those that the outputs need, operands first.
        names: the file's name of each parameter, by key.
        file: for messages.
    """

    shapes: tuple[tuple[int, ...], ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    params: tuple[tuple[str, int], ...]
    constants: tuple[tuple[int, "Tensor"], ...]
    nodes: tuple["Node", ...]
    names: tuple[tuple[str, str], ...] = field(default=(), compare=False)
    file: str = field(default="model.onnx", compare=False)

    def __call__(self, params: Mapping[str, Any], *inputs: Any) -> Any:
        import jax.numpy as jnp

        from axiom_jax.interop.onnx_ops import call

        _fill_table()
        arrays = [jnp.asarray(x) for x in inputs]
        self._require(arrays)
        values: dict[int, Any] = {number: tensor.array for number, tensor in self.constants}
        values |= {number: jnp.asarray(params[key]) for key, number in self.params}
        values |= dict(zip(self.inputs, arrays, strict=True))
        for node in self.nodes:
            results = call(node, [None if i < 0 else values[i] for i in node.inputs], self.file)
            if any(i >= 0 for i in node.outputs[len(results) :]):
                raise UnsupportedPrimitive(
                    f"Only the first output of {node.op} is supported.",
                    at=f"{self.file}: node {node.line} ({node.label})",
                    fix="export the model without the other outputs",
                )
            values.update(zip(node.outputs, results, strict=False))
        outputs = [jnp.asarray(values[i]) for i in self.outputs]
        return tuple(outputs) if len(outputs) > 1 else outputs[0]

    def _require(self, arrays: list[Any]) -> None:
        """Refuse shapes that the file did not declare: a fixed Reshape would mix the examples of a batch."""
        fits = len(arrays) == len(self.shapes) and all(
            x.ndim == len(shape) and all(n in (-1, m) for n, m in zip(shape, x.shape, strict=True))
            for x, shape in zip(arrays, self.shapes, strict=True)
        )
        if not fits:
            expected = ", ".join(_shown("?" if n < 0 else n for n in shape) for shape in self.shapes)
            raise ShapeError(
                f"The inputs do not have the shapes that {self.file} declares.",
                at=self.file,
                got=f"{', '.join(_shown(x.shape) for x in arrays)}; expected {expected}",
                fix="reshape the input, or map over examples with jax.vmap",
            )


def from_onnx(path: str | os.PathLike[str] | bytes, *, sizes: Mapping[str, int] | None = None) -> "Model":
    """Read an ONNX model.

    Args:
        path: a `.onnx` or `.onnx.gz` file, or the bytes of one.
        sizes: values for named sizes of the inputs, such as `{"height": 224}`. A free first axis
            (the batch) needs none.

    Returns:
        A model with `apply(params, *inputs)`, the array that the file computes (a tuple if it
        has several outputs), in the file's own layout; `params` maps keys like `"003.Gemm.B"`,
        in order of use, to float32 arrays; `apply.names` pairs the keys with the file's names;
        `source` holds the sha256 of the (uncompressed) file.

    Raises:
        ModelError: the file is missing, damaged or not ONNX; weights are not finite float32
            numbers; a size is unknown; the opset is too old or too new.
        UnsupportedPrimitive: naming every node whose operator is not supported.

    Source: the ONNX specification, https://onnx.ai/onnx/repo-docs/IR.html.

    >>> from onnx import parser
    >>> text = '<ir_version: 8, opset_import: ["": 17]> net (float[n, 2] x) => (float[n, 1] y) '
    >>> text += '<float[2, 1] w = {1, -1}> {a = Relu(x) y = MatMul(a, w)}'
    >>> model = from_onnx(parser.parse_model(text).SerializeToString())
    >>> model.signature.inputs
    (('x', ('n', 2), 'float32'),)
    >>> model(np.float32([[3, -2], [1, 2]])).tolist()
    [[3.0], [-1.0]]
    """
    import jax

    from axiom_jax.model import Model, Signature

    content, file = read_content(path)
    proto = parse(content, file)
    opset = opset_of(proto, file)
    folder = None if isinstance(path, bytes) else Path(path).parent
    reader = _Reader(proto.graph, opset, file, folder)
    inputs = inputs_of(proto.graph, reader.tensors, sizes or {}, file)
    graph, params = reader.graph(inputs)
    source = (("onnx", hashlib.sha256(content).hexdigest()), *reader.data)
    name = "model" if isinstance(path, bytes) else Path(path).name.removesuffix(".gz").removesuffix(".onnx")
    model = Model(graph, params, Signature(inputs), name, source)
    results = jax.eval_shape(graph, params, *input_spec(model))
    return Model(graph, params, Signature(inputs, outputs_of(proto.graph, results)), name, source)


def input_spec(model: "Model", batch: int = 1) -> "list[jax.ShapeDtypeStruct]":
    """The inputs of a model as abstract arrays, with `batch` for every free size."""
    import jax

    return [
        jax.ShapeDtypeStruct(tuple(batch if isinstance(n, str) else n for n in shape), np.dtype(dtype))
        for _, shape, dtype in model.signature.inputs
    ]


def _fill_table() -> None:
    """The operators register themselves when they are imported; that loads jax, so it waits until now."""
    from axiom_jax.interop import onnx_layers, onnx_shapes  # noqa: F401


def _shown(shape: Iterable[Any]) -> str:
    return f"[{', '.join(map(str, shape))}]"


class _Reader:
    """Numbers the values of a graph in order of use and sorts its tensors into parameters and constants."""

    def __init__(self, graph: Any, opset: int, file: str, folder: Path | None):
        self.proto, self.opset, self.file, self.folder = graph, opset, file, folder
        self.tensors: dict[str, Any] = {t.name: t for t in graph.initializer}
        self.nodes: list[tuple[int, Any]] = []
        for line, node in enumerate(graph.node, 1):
            if node.op_type == "Constant" and node.domain in ("", "ai.onnx"):
                self.tensors[node.output[0]] = constant_of(node, file)
            else:
                self.nodes.append((line, node))
        self.data: list[tuple[str, str]] = []
        if graph.sparse_initializer:
            raise ModelError("Sparse weights are not supported.", at=file, fix="export the model with dense weights")

    def graph(self, inputs: Any) -> tuple[Graph, dict[str, np.ndarray]]:
        from axiom_jax.interop.onnx_ops import Node, Tensor

        self.keep_live()
        self.require_operators()
        decided, numbers = self.decided(), {name: i for i, (name, _, _) in enumerate(inputs)}
        found: list[tuple[str, str, int, np.ndarray]] = []
        constants: list[tuple[int, Tensor]] = []
        nodes: list[Node] = []

        def number(name: str, what: str, at: str) -> int:
            if name in numbers:
                return numbers[name]
            if name not in self.tensors:
                raise ModelError(
                    f"A node reads the value {name!r}, which nothing before it defines.",
                    at=at,
                    fix="export the model again, or check it: onnx.checker.check_model(path)",
                )
            numbers[name], tensor = len(numbers), self.tensor(name)
            if tensor.dtype == np.float32 and name not in decided:
                found.append((what, name, numbers[name], require_finite(tensor, name, self.file)))
            else:
                constants.append((numbers[name], Tensor.of(tensor)))
            return numbers[name]

        used = {name for _, node in self.nodes for name in node.input if name} | {v.name for v in self.proto.output}
        for line, node in self.nodes:
            at = f"{self.file}: node {line} ({node.op_type} {node.name})"
            slots = self.slots(node)
            operands = tuple(
                number(name, f"{node.op_type}.{slots[min(i, len(slots) - 1)]}", at) if name else -1
                for i, name in enumerate(node.input)
            )
            results = []
            for name in node.output:
                if name in numbers:
                    raise ModelError(f"The value {name!r} is defined twice.", at=at, fix="export the model again")
                numbers.update({name: len(numbers)} if name in used else {})
                results.append(numbers.get(name, -1))
            attributes = tuple(sorted((a.name, attribute_of(a, self.file)) for a in node.attribute))
            nodes.append(Node(node.op_type, operands, tuple(results), attributes, self.opset, node.name, line))
        outputs = tuple(number(value.name, "output", self.file) for value in self.proto.output)
        width = max(3, len(str(len(found))))
        keys = [f"{i:0{width}}.{what}" for i, (what, _, _, _) in enumerate(found)]
        graph = Graph(
            shapes=tuple(tuple(-1 if isinstance(n, str) else n for n in shape) for _, shape, _ in inputs),
            inputs=tuple(range(len(inputs))),
            outputs=outputs,
            params=tuple((key, i) for key, (_, _, i, _) in zip(keys, found, strict=True)),
            constants=tuple(constants),
            nodes=tuple(nodes),
            names=tuple((key, name) for key, (_, name, _, _) in zip(keys, found, strict=True)),
            file=self.file,
        )
        return graph, {key: tensor for key, (_, _, _, tensor) in zip(keys, found, strict=True)}

    def keep_live(self) -> None:
        """Drop the nodes that no output needs."""
        needed, live = {value.name for value in self.proto.output}, []
        for line, node in reversed(self.nodes):
            if not needed.isdisjoint(node.output):
                needed.update(filter(None, node.input))  # an operand that is left out has no name
                live.append((line, node))
        self.nodes = live[::-1]

    def require_operators(self) -> None:
        from axiom_jax.interop.onnx_ops import OPERATORS

        _fill_table()
        gaps = [
            (f"{node.domain}.{node.op_type}" if node.domain else node.op_type, line, node.name)
            for line, node in self.nodes
            if node.domain not in ("", "ai.onnx") or node.op_type not in OPERATORS
        ]
        if gaps:
            raise UnsupportedPrimitive(
                f"The ONNX reader has no rule for {', '.join(sorted({op for op, _, _ in gaps}))}.",
                at="\n".join(f"{self.file}: node {line} ({op} {name})".replace(" )", ")") for op, line, name in gaps),
                fix="rewrite these operations, or add them to axiom_jax/interop/onnx_ops.py",
            )

    def decided(self) -> set[str]:
        """The names of values that decide shapes and other things that must be known; all before `Shape` is free."""
        from axiom_jax.interop.onnx_ops import STATIC

        names: set[str] = set()
        for _, node in reversed(self.nodes):
            if node.op_type in ("Shape", "Size"):
                continue
            if not names.isdisjoint(node.output):
                names.update(node.input)
            names.update(node.input[i] for i in STATIC[node.op_type] if i < len(node.input))
        return names - {""}

    def slots(self, node: Any) -> list[str]:
        """What the standard calls the operands of a node."""
        from onnx import defs

        try:
            return [operand.name for operand in defs.get_schema(node.op_type, self.opset).inputs] or ["operand"]
        except defs.SchemaError:  # newer or older than the file's opset, which exporters and runtimes tolerate
            return ["operand"]

    def tensor(self, name: str) -> np.ndarray:
        tensor = self.tensors[name]
        if isinstance(tensor, np.ndarray):
            return tensor
        if tensor.data_location == tensor.EXTERNAL:
            entry = load_beside(tensor, self.folder, self.file)
            self.data += [entry] if entry not in self.data else []
        return as_array(tensor, name, self.file)
