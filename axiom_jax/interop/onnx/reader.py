"""ONNX files in: `from_onnx` gives a `Model` whose `apply` is pure JAX and whose weights are parameters.

The file becomes a `Graph` in canonical form: values are numbered in order of use, and names are
kept for messages only. Two nets of one architecture are equal graphs and share one compiled
program. Float tensors are parameters; integers, shapes and whatever decides them are constants.
"""

import hashlib
import itertools
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from axiom_jax._errors import AxiomError, ModelError, ShapeError, UnsupportedPrimitive
from axiom_jax.interop.onnx.file import (
    FLOATS,
    as_array,
    attribute_of,
    constant_of,
    exposed,
    inputs_of,
    load_beside,
    opset_of,
    outputs_of,
    parse,
    read_content,
    require_finite,
    written_out,
)

if TYPE_CHECKING:
    import jax

    from axiom_jax.interop.onnx.ops import Body, Node, Tensor
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

        from axiom_jax.interop.onnx.ops import evaluate, narrow

        _fill_table()
        arrays = [narrow(x, self.file) for x in inputs]
        self._require(arrays)
        values: dict[int, Any] = {number: tensor.array for number, tensor in self.constants}
        values |= {number: jnp.asarray(params[key]) for key, number in self.params}
        values |= dict(zip(self.inputs, arrays, strict=True))
        evaluate(self.nodes, values, self.file)
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


def from_onnx(
    path: str | os.PathLike[str] | bytes,
    *,
    sizes: Mapping[str, int] | Literal["free"] | None = None,
    values: Sequence[str] = (),
) -> "Model":
    """Read an ONNX model.

    Args:
        path: a `.onnx` or `.onnx.gz` file, or the bytes of one.
        sizes: values for named sizes of the inputs, such as `{"height": 224}`. A free first axis
            (the batch) needs none. "free" leaves all of them open; then each call decides.
        values: inner values that are to be outputs, too, after the file's own: names of values, or of nodes for the
            first value that they give.

    Returns:
        A model with `apply(params, *inputs)`, the array that the file computes (a tuple if it
        has several outputs), in the file's own layout; `params` maps keys like `"003.Gemm.B"`,
        in order of use, to float arrays; `apply.names` pairs the keys with the file's names;
        `source` holds the sha256 of the (uncompressed) file.

    Raises:
        ModelError: the file is missing, damaged or not ONNX; weights are not finite; float64
            numbers are not float32 numbers where JAX has no float64; a size is
            unknown; the opset is too old or too new.
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
    from axiom_jax.model import Model, Signature

    content, file = read_content(path)
    proto = exposed(parse(content, file), values, file)
    opset = opset_of(proto, file)
    proto = written_out(proto, opset)
    folder = None if isinstance(path, bytes) else Path(path).parent
    reader = _Reader(proto.graph, opset, file, folder)
    inputs = inputs_of(proto.graph, reader.tensors, sizes or {}, file)
    graph, params = reader.graph(inputs)
    source = (("onnx", hashlib.sha256(content).hexdigest()), *reader.data)
    name = "model" if isinstance(path, bytes) else Path(path).name.removesuffix(".gz").removesuffix(".onnx")
    model = Model(graph, params, Signature(inputs), name, source)
    results = _results(model)
    return Model(graph, params, Signature(inputs, outputs_of(proto.graph, results)), name, source)


def _results(model: "Model") -> Any:
    """The outputs as abstract arrays: with symbolic sizes where the operators can tell them, else for a batch of 1."""
    import jax

    from axiom_jax._shapes_annotations import symbols

    free = list(dict.fromkeys(n for _, shape, _ in model.signature.inputs for n in shape if isinstance(n, str)))
    if any(shape and n in shape[1:] for _, shape, _ in model.signature.inputs for n in free):
        try:
            sizes = symbols(free)
            specs = [jax.ShapeDtypeStruct(tuple(sizes[n] if isinstance(n, str) else n for n in shape), np.dtype(dtype))
                     for _, shape, dtype in model.signature.inputs]  # fmt: skip
            return jax.eval_shape(model.apply, model.params, *specs)
        except (AxiomError, ValueError, TypeError) as error:  # the output's sizes are known when it is called
            if not isinstance(error, ModelError) and isinstance(error, AxiomError):
                raise
            return None
    return jax.eval_shape(model.apply, model.params, *input_spec(model))


def input_spec(model: "Model", batch: int = 1) -> "list[jax.ShapeDtypeStruct]":
    """The inputs of a model as abstract arrays, with `batch` for every free size."""
    import jax

    return [
        jax.ShapeDtypeStruct(tuple(batch if isinstance(n, str) else n for n in shape), np.dtype(dtype))
        for _, shape, dtype in model.signature.inputs
    ]


def _fill_table() -> None:
    """The operators register themselves when they are imported; that loads jax, so it waits until now."""
    from axiom_jax.interop.onnx import (  # noqa: F401
        activations,
        branches,
        indexing,
        layers,
        quantized,
        recurrent,
        resize,
        shapes,
    )


def _shown(shape: Iterable[Any]) -> str:
    return f"[{', '.join(map(str, shape))}]"


class _Reader:
    """Numbers the values of a graph in order of use and sorts its tensors into parameters and constants."""

    def __init__(self, graph: Any, opset: int, file: str, folder: Path | None):
        self.proto, self.opset, self.file, self.folder = graph, opset, file, folder
        self.data: list[tuple[str, str]] = []
        self.found: list[tuple[str, str, int, np.ndarray]] = []
        self.constants: list[tuple[int, Tensor]] = []
        self.count = itertools.count()
        self.tensors, self.nodes = self.parts(graph)

    def parts(self, graph: Any) -> tuple[dict[str, Any], list[tuple[int, Any]]]:
        """The tensors of a graph by name, and its other nodes with their places."""
        if graph.sparse_initializer:
            raise ModelError(
                "Sparse weights are not supported.", at=self.file, fix="export the model with dense weights"
            )
        tensors, nodes = {t.name: t for t in graph.initializer}, []
        for line, node in enumerate(graph.node, 1):
            if node.op_type == "Constant" and node.domain in ("", "ai.onnx") and node.output:
                tensors[node.output[0]] = constant_of(node, self.file)
            else:
                nodes.append((line, node))
        return tensors, nodes

    def graph(self, inputs: Any) -> tuple[Graph, dict[str, np.ndarray]]:
        self.nodes = _live(self.nodes, {value.name for value in self.proto.output})
        self.require_operators()
        self.decided = self.deciding()
        numbers = {name: next(self.count) for name, _, _ in inputs}
        nodes = self.walk(self.nodes, _Scope(numbers, self.tensors), {value.name for value in self.proto.output})
        scope = _Scope(numbers, self.tensors)
        outputs = tuple(self.number(value.name, "output", self.file, [scope]) for value in self.proto.output)
        width = max(3, len(str(len(self.found))))
        keys = [f"{i:0{width}}.{what}" for i, (what, _, _, _) in enumerate(self.found)]
        graph = Graph(
            shapes=tuple(tuple(-1 if isinstance(n, str) else n for n in shape) for _, shape, _ in inputs),
            inputs=tuple(range(len(inputs))),
            outputs=outputs,
            params=tuple((key, i) for key, (_, _, i, _) in zip(keys, self.found, strict=True)),
            constants=tuple(self.constants),
            nodes=nodes,
            names=tuple((key, name) for key, (_, name, _, _) in zip(keys, self.found, strict=True)),
            file=self.file,
        )
        return graph, {key: tensor for key, (_, _, _, tensor) in zip(keys, self.found, strict=True)}

    def number(self, name: str, what: str, at: str, scopes: "list[_Scope]") -> int:
        """The number of a value; a tensor that nothing has read yet becomes a parameter or a constant."""
        from axiom_jax.interop.onnx.ops import Tensor

        for scope in reversed(scopes):
            if name in scope.numbers:
                return scope.numbers[name]
            if name in scope.tensors:
                break
        else:
            raise ModelError(
                f"A node reads the value {name!r}, which nothing before it defines.",
                at=at,
                fix="export the model again, or check it: onnx.checker.check_model(path)",
            )
        number, tensor = next(self.count), self.tensor(scope.tensors[name], name)
        scope.numbers[name] = number
        if tensor.dtype.name in FLOATS and name not in self.decided and not _is_mask(tensor):
            self.found.append((what, name, number, require_finite(tensor, name, self.file)))
        else:
            self.constants.append((number, Tensor.of(tensor)))
        return number

    def walk(
        self, nodes: list[tuple[int, Any]], scope: "_Scope", ends: set[str], *outer: "_Scope"
    ) -> "tuple[Node, ...]":
        """Nodes in canonical form; values are numbered in order of use."""
        from axiom_jax.interop.onnx.ops import Node

        scopes, result = [*outer, scope], []
        used = {name for _, node in nodes for name in _reads(node)} | ends
        for line, node in nodes:
            at = f"{self.file}: node {line} ({node.op_type} {node.name})"
            slots = self.slots(node)
            operands = tuple(
                self.number(name, f"{node.op_type}.{slots[min(i, len(slots) - 1)]}", at, scopes) if name else -1
                for i, name in enumerate(node.input)
            )
            attributes = {}
            for attribute in node.attribute:
                if attribute.HasField("g"):
                    attributes[attribute.name] = self.body(attribute.g, scopes)
                else:
                    value = attribute_of(attribute, self.file)
                    if isinstance(value, tuple):  # of texts, such as the names of activations
                        value = tuple(v.decode(errors="replace") if isinstance(v, bytes) else v for v in value)
                    attributes[attribute.name] = value
            results = []
            for name in node.output:
                if name and name in scope.numbers:
                    raise ModelError(f"The value {name!r} is defined twice.", at=at, fix="export the model again")
                if name and name in used:
                    scope.numbers[name] = next(self.count)
                results.append(scope.numbers.get(name, -1) if name else -1)
            result.append(Node(node.op_type, operands, tuple(results), tuple(sorted(attributes.items(), key=_first)),
                               self.opset, node.name, line))  # fmt: skip
        return tuple(result)

    def body(self, graph: Any, scopes: "list[_Scope]") -> "Body":
        """A subgraph; it may read the values around it."""
        from axiom_jax.interop.onnx.ops import Body

        tensors, nodes = self.parts(graph)
        ends = {value.name for value in graph.output}
        scope = _Scope({value.name: next(self.count) for value in graph.input}, tensors)
        inner = self.walk(_live(nodes, ends), scope, ends, *scopes)
        outputs = tuple(self.number(value.name, "output", self.file, [*scopes, scope]) for value in graph.output)
        return Body(tuple(scope.numbers[value.name] for value in graph.input), outputs, inner)

    def require_operators(self) -> None:
        from axiom_jax.interop.onnx.ops import OPERATORS

        _fill_table()
        gaps = [
            (f"{node.domain}.{node.op_type}" if node.domain else node.op_type, line, node.name)
            for line, node in _all_nodes(self.nodes)
            if node.domain not in ("", "ai.onnx") or node.op_type not in OPERATORS
        ]
        gaps = [gap for gap in gaps if gap[0] != "Constant"]
        if gaps:
            raise UnsupportedPrimitive(
                f"The ONNX reader has no rule for {', '.join(sorted({op for op, _, _ in gaps}))}.",
                at="\n".join(f"{self.file}: node {line} ({op} {name})".replace(" )", ")") for op, line, name in gaps),
                fix="rewrite these operations, or add them to axiom_jax/interop/onnx/ops.py",
            )

    def deciding(self) -> set[str]:
        """The names of values that decide shapes and other things that must be known; all before `Shape` is free."""
        from axiom_jax.interop.onnx.ops import STATIC

        names: set[str] = set()
        for _, node in reversed(list(_all_nodes(self.nodes))):
            if node.op_type in ("Shape", "Size", "Constant"):
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

    def tensor(self, tensor: Any, name: str) -> np.ndarray:
        if isinstance(tensor, np.ndarray):
            return tensor
        if tensor.data_location == tensor.EXTERNAL:
            entry = load_beside(tensor, self.folder, self.file)
            self.data += [entry] if entry not in self.data else []
        return as_array(tensor, name, self.file)


@dataclass
class _Scope:
    """The values that a graph or a subgraph defines: numbers of those that were read, tensors of all."""

    numbers: dict[str, int]
    tensors: dict[str, Any]


def _first(item: tuple[str, Any]) -> str:
    return item[0]


def _subgraphs(node: Any) -> list[Any]:
    return [attribute.g for attribute in node.attribute if attribute.HasField("g")]


def _reads(node: Any) -> set[str]:
    """Every name that a node and its subgraphs read."""
    names = {name for name in node.input if name}  # an operand that is left out has no name
    for graph in _subgraphs(node):
        names |= {value.name for value in graph.output}
        names = names.union(*(_reads(inner) for inner in graph.node))
    return names


def _all_nodes(nodes: Iterable[tuple[int, Any]]) -> Iterator[tuple[int, Any]]:
    """Nodes, and after each the nodes of its subgraphs, which carry its place in the file."""
    for line, node in nodes:
        yield line, node
        for graph in _subgraphs(node):
            yield from _all_nodes((line, inner) for inner in graph.node)


def _live(nodes: list[tuple[int, Any]], needed: set[str]) -> list[tuple[int, Any]]:
    """The nodes that some values need."""
    needed, live = set(needed), []
    for line, node in reversed(nodes):
        if not needed.isdisjoint(node.output):
            needed |= _reads(node)
            live.append((line, node))
    return live[::-1]


def _is_mask(x: np.ndarray) -> bool:
    """Whether a tensor with infinities or NaN holds but one other number: a filling or a mask, no weights."""
    finite = x[np.isfinite(x)]
    return finite.size < x.size and (x.size == 1 or (finite.size > 0 and bool(np.all(finite == finite[0]))))
