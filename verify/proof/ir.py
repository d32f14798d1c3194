"""The domain `ir`: a lowered program as the certificate writes it down.

Values are numbers of nodes on flat vectors. Arithmetic on parameters becomes nodes too,
never a float32 result: `rsqrt(var + eps)` is for the checker to enclose. Moving elements
around is exact, so it is done here. Node semantics: docs/certificate-format.md.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import numpy as np

from axiom_jax._domain import Domain, require
from axiom_jax._errors import UnsupportedPrimitive
from axiom_jax._program import Equation, Program, Var
from axiom_jax.verification.gating import gate_operands, is_constant
from axiom_jax.verification.lowering import relu_operand


@dataclass(frozen=True)
class Node:
    """A flat vector in the certificate's program: its number and the shape it has in the jaxpr."""

    number: int
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        return int(np.prod(self.shape, dtype=np.int64))


ir = Domain("ir", Node)

MOVES = {"broadcast_in_dim", "expand_dims", "reshape", "rev", "slice", "split", "squeeze", "transpose", "gather",
         "dynamic_slice", "tile", "iota", "stack", "concatenate", "pad", "select_n", "copy"}  # fmt: skip


@dataclass
class Graph:
    """Nodes and tensors in the order they are needed; equal nodes are written once."""

    nodes: list[dict[str, Any]] = field(default_factory=list)
    tensors: dict[str, np.ndarray] = field(default_factory=dict)
    seen: dict[str, int] = field(default_factory=dict)
    digests: dict[bytes, str] = field(default_factory=dict)
    named: dict[int, tuple[Any, str]] = field(default_factory=dict)

    def call(self, array: Any, name: str) -> None:
        """Remember what a parameter is called (and the array itself, so that its id stays its own)."""
        self.named[id(array)] = array, name

    def call_as(self, results: Sequence[Any], operands: Sequence[Any]) -> None:
        """What is made of one parameter alone, by moving its elements, is called as it is."""
        names = {name for name in map(self.name_of, operands) if name is not None}
        for result in results if len(names) == 1 else ():
            self.call(result, *names)

    def name_of(self, array: Any) -> str | None:
        return self.named[id(array)][1] if id(array) in self.named else None

    def add(self, op: str, as_shape: Sequence[int], of: Sequence[Node] = (), /, **fields: Any) -> Node:
        node = {"op": op, **({"of": [n.number for n in of]} if of else {}), **fields}
        key = repr(node)
        if key not in self.seen:
            self.nodes.append(node)
            self.seen[key] = len(self.nodes) - 1
        return Node(self.seen[key], tuple(as_shape))

    def tensor(self, array: Any, name: str | None = None) -> Node:
        """A float array as a node, exactly."""
        exact = np.asarray(array)
        rounded = exact.astype(np.float32)
        if any(Fraction(float(a)) != Fraction(b) for a, b in _differing(rounded, exact)):
            raise UnsupportedPrimitive(
                "A constant is no float32 number, and certificates take weights exactly.",
                at=name,
                got=str(exact.dtype),
                fix="give the weights as float32",
            )
        return self.add("tensor", np.shape(array), name=self.store(rounded, name))

    def store(self, array: np.ndarray, name: str | None = None) -> str:
        array = np.ascontiguousarray(array)
        digest = hashlib.sha256(f"{array.dtype}{array.shape}".encode() + array.tobytes()).digest()
        if digest not in self.digests:
            name = name or f"constant/{len(self.tensors)}"
            while name in self.tensors:
                name += "'"
            self.tensors[name] = array
            self.digests[digest] = name
        return self.digests[digest]

    def node(self, value: Any) -> Node:
        return value if isinstance(value, Node) else self.tensor(value, self.name_of(value))

    def take(self, source: Node, index: Any) -> Node:
        """Elements of a flat vector by an integer array (−1: zero); nothing is written for the identity."""
        index = np.asarray(index)
        flat = index.ravel()
        if flat.size == source.size and np.array_equal(flat, np.arange(source.size)):
            return Node(source.number, index.shape)
        return self.add("take", index.shape, [source], index=self.store(flat.astype(np.int32), None))

    def concat(self, parts: Sequence[Node]) -> Node:
        if len(parts) == 1:
            return parts[0]
        return self.add("concat", (sum(p.size for p in parts),), parts)

    def matmul(self, a: Node, w: Node, m: int, k: int, n: int) -> Node:
        return self.add("matmul", (m, n), [a, w], shape=[m, k, n])


_NUMPY = {"eq": np.equal, "ne": np.not_equal, "lt": np.less, "le": np.less_equal, "gt": np.greater,
          "ge": np.greater_equal, "max": np.maximum, "min": np.minimum, "neg": np.negative, "abs": np.abs,
          "sign": np.sign, "floor": np.floor, "ceil": np.ceil}  # fmt: skip


@dataclass(frozen=True)
class Emitted:
    """A program as a certificate holds it.

    Args:
        program: `{"nodes", "output"}`. tensors: by name.
        numbers: of varying values, the number of the node that holds them; none if the output does not need it.
    """

    program: dict[str, Any]
    tensors: dict[str, np.ndarray]
    numbers: dict[Var, int]


def emit(program: Program, values: Sequence[Any]) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """`emitted`, without the numbers of values."""
    written = emitted(program, values)
    return written.program, written.tensors


def emitted(program: Program, values: Sequence[Any]) -> Emitted:
    """Write a lowered program of one flat input and one output as certificate IR.

    Args:
        program: lowered (`lowering.lower`), one input.
        values: its parameters' values.

    Raises:
        UnsupportedPrimitive: listing what the certificate cannot express yet.
    """
    require(ir, program, gaps(program))
    graph = Graph()
    (x,) = program.inputs
    named = zip(program.params, values, program.names or [""] * len(values), strict=False)
    env: dict[Any, Any] = {v: _as_traced(v, value, name) for v, value, name in named}
    env |= {v: np.asarray(value, v.dtype) for v, value in program.literals}
    for v, name in zip(program.params, program.names, strict=False):
        graph.call(env[v], name)
    env[x] = graph.add("input", x.shape, size=x.size)
    for eqn in program.equations:
        operands = [env[v] for v in eqn.inputs]
        if not any(isinstance(o, Node) for o in operands) and _exact(eqn, operands):
            results = _folded(eqn, operands)
            graph.call_as(results, operands)
        elif eqn.name == "gt" and eqn.inputs[0] in program.varying:  # of a gate: what it decides by
            results = (env[eqn.inputs[0]],)
        elif (parts := gate_operands(program, eqn)) is not None:
            results = (_gate(graph, *(env[v] for v in parts)),)
        elif eqn.name not in ir.rules and eqn.name not in MOVES and relu_operand(program, eqn) is None:
            require(ir, program, [eqn])  # a conversion that rounds
            raise AssertionError("unreachable")
        elif eqn.name in MOVES:
            results = _move(graph, eqn, operands)
        elif relu_operand(program, eqn) is not None:
            operand = operands[eqn.inputs.index(relu_operand(program, eqn))]
            results = (graph.add("relu", operand.shape, [operand]),)
        else:
            results = (ir.rules[eqn.name](graph, *operands, **eqn.params),)
        wrong = [v for v, r in zip(eqn.outputs, results, strict=True) if v.shape != tuple(r.shape)]
        if wrong:
            raise AssertionError(f"the rule of {eqn.name} gave another shape than {wrong[0].shape}")
        env.update(zip(eqn.outputs, results, strict=True))
    output = graph.node(env[program.outputs[0]])
    written, tensors, order = _reachable(graph, output.number)
    held = {v: order.get(env[v].number) for v in program.varying if isinstance(env.get(v), Node)}
    return Emitted(written, tensors, {v: number for v, number in held.items() if number is not None})


def gaps(program: Program) -> list[Equation]:
    """What the certificate cannot express: unknown primitives, comparisons of variables that are no gates."""
    return [eqn for eqn in program.equations if not _expressible(program, eqn)]


def _expressible(program: Program, eqn: Equation) -> bool:
    varies = [v in program.varying for v in eqn.inputs]
    narrow = eqn.params.get("preferred_element_type") not in (None, np.dtype(np.float32))
    foreign = any(np.dtype(v.dtype).kind == "f" and v.dtype != np.float32 for v in (*eqn.inputs, *eqn.outputs))
    if any(varies) and eqn.name == "gt":
        return _decides(program, eqn)
    mixed = any(varies) and any(v.dtype != np.float32 for v in eqn.outputs)
    if narrow or foreign or mixed or any(v.size == 0 for v in eqn.outputs):
        return False
    match eqn.name:
        case "conv_general_dilated":
            return not varies[1] and eqn.params["batch_group_count"] == 1
        case "div" | "gather" | "dynamic_slice":
            return not any(varies[1:])
        case "select_n":
            return not varies[0] or gate_operands(program, eqn) is not None
        case "rsqrt":
            return not any(varies)
        case "integer_pow":
            return not any(varies) or eqn.params["y"] in (2, -1)
        case "max":
            return not any(varies) or relu_operand(program, eqn) is not None
    return eqn.name in ir.rules or eqn.name in MOVES or (not any(varies) and _exact(eqn))


def _decides(program: Program, eqn: Equation) -> bool:
    """Whether a comparison of variables serves gates alone."""
    users = [e for e in program.equations if eqn.output in e.inputs]
    return (
        eqn.output not in program.outputs
        and is_constant(program, eqn.inputs[1], 0.0)
        and all(gate_operands(program, e) is not None and eqn.output == e.inputs[0] for e in users)
    )


def _exact(eqn: Equation, operands: Sequence[Any] | None = None) -> bool:
    """Whether evaluating an equation on known arrays is exact: it only moves elements or works on integers."""
    if eqn.name == "convert_element_type":
        if operands is None:
            return True
        converted = np.asarray(eqn.evaluate(*operands)[0]).ravel().tolist()
        return all(Fraction(a) == Fraction(b) for a, b in zip(converted, operands[0].ravel().tolist(), strict=True))
    if eqn.name in ("add", "sub", "mul") and operands is not None and all(v.shape == () for v in eqn.inputs):
        a, b = (Fraction(np.asarray(x).item()) if np.isfinite(x) else None for x in operands)
        if a is None or b is None:
            return False
        result = Fraction(np.asarray(eqn.evaluate(*operands)[0]).item())
        return result == (a + b if eqn.name == "add" else a - b if eqn.name == "sub" else a * b)
    integral = all(np.dtype(v.dtype).kind in "iub" for v in (*eqn.inputs, *eqn.outputs))
    compares = eqn.name in ("eq", "ne", "lt", "le", "gt", "ge", "max", "min", "neg", "abs", "sign", "floor", "ceil",
                            "is_finite")  # fmt: skip
    return eqn.name in MOVES or integral or compares


def _move(graph: Graph, eqn: Equation, operands: list[Any]) -> tuple[Node, ...]:
    """Run the primitive on element numbers instead of elements: what comes out says what went where."""
    floats = [i for i, v in enumerate(eqn.inputs) if np.dtype(v.dtype).kind == "f"]
    if eqn.name == "pad":
        floats = floats[:1] if not np.any(operands[1]) else floats
    nodes = {i: graph.node(operands[i]) for i in floats}
    source = graph.concat(list(nodes.values()))
    numbered, start = list(operands), 0
    for i, node in nodes.items():
        numbered[i] = np.arange(start, start + node.size, dtype=np.int32).reshape(node.shape)
        start += node.size
    if eqn.name == "pad" and len(floats) == 1:
        numbered[1] = np.int32(-1)
    params = dict(eqn.params)
    if eqn.name == "gather":
        params["fill_value"] = -1
    out = eqn.primitive.bind(*numbered, **params)
    indices = [np.asarray(o) for o in (out if eqn.primitive.multiple_results else [out])]
    if eqn.name == "gather" and eqn.params["fill_value"] != 0 and any((i < 0).any() for i in indices):
        raise UnsupportedPrimitive(
            "A gather reads outside its operand and fills in something other than zero.", at=eqn.at,
            got=f"fill_value {eqn.params['fill_value']}", fix="keep the indices in bounds, or clip them",
        )  # fmt: skip
    return tuple(graph.take(source, index) for index in indices)


def _reachable(graph: Graph, output: int) -> tuple[dict[str, Any], dict[str, np.ndarray], dict[int, int]]:
    """The program that the output needs, its tensors, and the new numbers of its nodes."""
    needed = {0, output}
    for number in range(len(graph.nodes) - 1, -1, -1):
        if number in needed:
            needed.update(graph.nodes[number].get("of", ()))
    order = {old: new for new, old in enumerate(sorted(needed))}
    nodes = []
    for old in order:
        node = dict(graph.nodes[old])
        if "of" in node:
            node["of"] = [order[n] for n in node["of"]]
        nodes.append(node)
    used = {node.get("name", node.get("index")) for node in nodes}
    tensors = {k: v for k, v in graph.tensors.items() if k in used}
    return {"nodes": nodes, "output": order[output]}, tensors, order


# Rules: (graph, *operands, **params) -> Node. Operands are nodes or arrays.


def _elementwise(op: str) -> Any:
    def rule(graph: Graph, *operands: Any, **_: Any) -> Node:
        nodes = [graph.node(x) for x in operands]
        shape = np.broadcast_shapes(*(n.shape for n in nodes))  # primitives take axes of size 1 as they are
        return graph.add(op, shape, [_expanded(graph, n, shape) for n in nodes])

    return rule


def _expanded(graph: Graph, node: Node, shape: tuple[int, ...]) -> Node:
    if node.shape == shape:
        return node
    return graph.take(node, np.broadcast_to(np.arange(node.size).reshape(node.shape), shape))


for _op in ("add", "sub", "mul", "div", "neg", "tanh", "logistic", "exp", "sqrt", "log", "erf", "sin", "cos", "atan"):
    ir.define(_op, _elementwise(_op))


def _gate(graph: Graph, g: Node, v: Any) -> Node:
    return graph.add("gate", g.shape, [g, graph.node(v)])


@ir.rule("rsqrt")
def _rsqrt(graph: Graph, x: Any, **_: Any) -> Node:
    node = graph.node(x)
    return graph.add("reciprocal", node.shape, [graph.add("sqrt", node.shape, [node])])


@ir.rule("erfc")
def _erfc(graph: Graph, x: Any, **_: Any) -> Node:
    return ir.rules["sub"](graph, np.float32(1), ir.rules["erf"](graph, x))


@ir.rule("add_any")
def _add_any(graph: Graph, *operands: Any, **_: Any) -> Node:
    return ir.rules["add"](graph, *operands)


@ir.rule("max")
def _max(graph: Graph, x: Any, y: Any, **_: Any) -> Node:
    """max of known values that are no longer exact numbers (a clamp of a computed constant): y + relu(x − y)."""
    difference = ir.rules["sub"](graph, x, y)
    return ir.rules["add"](graph, graph.add("relu", difference.shape, [difference]), y)


def _folded(eqn: Equation, operands: Sequence[Any]) -> tuple[np.ndarray, ...]:
    """An exact equation on known arrays. By NumPy where JAX would flush subnormal numbers."""
    if eqn.name in _NUMPY:
        return (np.asarray(_NUMPY[eqn.name](*operands)).astype(eqn.output.dtype),)
    return tuple(np.asarray(r) for r in eqn.evaluate(*operands))


def _as_traced(v: Any, value: Any, name: str) -> np.ndarray:
    """A parameter as the program was traced with it.

    Raises:
        UnsupportedPrimitive: that is another number.
    """
    given = np.asarray(value)
    with np.errstate(all="ignore"):
        traced = given.astype(v.dtype)
        back = traced.astype(given.dtype)
    if not np.array_equal(back, given, equal_nan=given.dtype.kind in "fc"):
        raise UnsupportedPrimitive(
            "A constant is no float32 number, and certificates take weights exactly.",
            at=name,
            got=str(given.dtype),
            fix="give the weights as float32",
        )
    return traced


def _differing(rounded: np.ndarray, exact: np.ndarray) -> Iterator[tuple[Any, Any]]:
    """Pairs of elements that may differ; nothing to look at where the array is float32 already."""
    if exact.dtype != np.float32:
        yield from zip(rounded.ravel().tolist(), exact.ravel().tolist(), strict=True)


@ir.rule("reduce_sum")
def _reduce_sum(graph: Graph, x: Any, *, axes: Sequence[int], **_: Any) -> Node:
    x = graph.node(x)
    kept = [i for i in range(len(x.shape)) if i not in axes]
    moved = graph.take(x, np.arange(x.size).reshape(x.shape).transpose(*kept, *axes))
    k = int(np.prod([x.shape[i] for i in axes], dtype=np.int64))
    summed = graph.matmul(moved, graph.tensor(np.ones(k)), x.size // max(k, 1), k, 1)
    return Node(summed.number, tuple(x.shape[i] for i in kept))


@ir.rule("cumsum")
def _cumsum(graph: Graph, x: Any, *, axis: int, reverse: bool, **_: Any) -> Node:
    x = graph.node(x)
    n = x.shape[axis]
    index = np.moveaxis(np.arange(x.size).reshape(x.shape), axis, -1)
    ones = np.tril(np.ones((n, n))) if reverse else np.triu(np.ones((n, n)))
    summed = graph.matmul(graph.take(x, index), graph.tensor(ones), x.size // max(n, 1), n, n)
    return graph.take(summed, np.moveaxis(np.arange(x.size).reshape(index.shape), -1, axis))


@ir.rule("dot_general")
def _dot_general(graph: Graph, a: Any, b: Any, *, dimension_numbers: Any, **_: Any) -> Node:
    (contract_a, contract_b), (batch_a, batch_b) = dimension_numbers
    if all(isinstance(x, Node) and not _constant(graph, x) for x in (a, b)):
        return _product(graph, a, b, dimension_numbers)
    left = isinstance(a, Node) and not _constant(graph, a)  # which side varies; the other is the weight
    x, w, cx, cw, bx, bw = (
        (a, b, contract_a, contract_b, batch_a, batch_b) if left else (b, a, contract_b, contract_a, batch_b, batch_a)
    )
    x = graph.node(x)
    free_x = [i for i in range(len(x.shape)) if i not in (*cx, *bx)]
    free_w = [i for i in range(np.ndim(w) if not isinstance(w, Node) else len(w.shape)) if i not in (*cw, *bw)]
    shape_w = w.shape
    size = lambda shape, axes: int(np.prod([shape[i] for i in axes], dtype=np.int64))
    batch, m, k, n = size(x.shape, bx), size(x.shape, free_x), size(x.shape, cx), size(shape_w, free_w)
    index_x = np.arange(x.size).reshape(x.shape).transpose(*bx, *free_x, *cx).reshape(batch, m, k)
    moved_w = _transposed(graph, w, (*bw, *cw, *free_w), (batch, k, n))
    blocks = [
        graph.matmul(graph.take(x, index_x[i]), _slice(graph, moved_w, i), m, k, n) for i in range(batch)
    ]
    joined = graph.concat(blocks)
    index = np.arange(batch * m * n).reshape(
        (*[x.shape[i] for i in bx], *[x.shape[i] for i in free_x], *[shape_w[i] for i in free_w])
    )
    if not left:  # the result's axes are batch, free of a, free of b
        nb, nx = len(bx), len(free_x)
        axes = [*range(nb), *range(nb + nx, index.ndim), *range(nb, nb + nx)]
        index = index.transpose(axes)
    return graph.take(joined, index)


def _product(graph: Graph, a: Node, b: Node, dimension_numbers: Any) -> Node:
    """A matrix product of two variables: every product of two numbers is one of a node, then they are summed."""
    (contract_a, contract_b), (batch_a, batch_b) = dimension_numbers
    free_a = [i for i in range(len(a.shape)) if i not in (*contract_a, *batch_a)]
    free_b = [i for i in range(len(b.shape)) if i not in (*contract_b, *batch_b)]
    index_a = np.arange(a.size).reshape(a.shape).transpose(*batch_a, *free_a, *contract_a)
    index_b = np.arange(b.size).reshape(b.shape).transpose(*batch_b, *free_b, *contract_b)
    nb, na, nf = len(batch_a), len(free_a), len(free_b)
    index_a = np.expand_dims(index_a, tuple(range(nb + na, nb + na + nf)))
    index_b = np.expand_dims(index_b, tuple(range(nb, nb + na)))
    shape = np.broadcast_shapes(index_a.shape, index_b.shape)
    left, right = (graph.take(x, np.broadcast_to(i, shape)) for x, i in ((a, index_a), (b, index_b)))
    kept, k = shape[: nb + na + nf], int(np.prod(shape[nb + na + nf :], dtype=np.int64))
    products = graph.add("mul", shape, [left, right])
    return Node(graph.matmul(products, graph.tensor(np.ones(k)), products.size // k, k, 1).number, kept)


def _transposed(graph: Graph, w: Any, axes: Sequence[int], shape: Sequence[int]) -> Any:
    if isinstance(w, Node):
        return graph.take(w, np.arange(w.size).reshape(w.shape).transpose(*axes).reshape(shape))
    result = np.asarray(w).transpose(*axes).reshape(shape)
    graph.call(result, graph.name_of(w) or "constant")
    return result


def _slice(graph: Graph, w: Any, i: int) -> Node:
    if isinstance(w, Node):
        return graph.take(w, np.arange(w.size).reshape(w.shape)[i])
    name = (graph.name_of(w) or "constant") + (f"/{i}" if w.shape[0] > 1 else "")
    return graph.tensor(w[i], name)


def _constant(graph: Graph, node: Node) -> bool:
    """Whether a node does not depend on the input."""
    stack, seen = [node.number], set()
    while stack:
        number = stack.pop()
        if graph.nodes[number]["op"] == "input":
            return False
        stack += [n for n in graph.nodes[number].get("of", ()) if n not in seen]
        seen.add(number)
    return True


@ir.rule("conv_general_dilated")
def _conv(
    graph: Graph,
    x: Any,
    w: Any,
    *,
    window_strides: Any,
    padding: Any,
    lhs_dilation: Any,
    rhs_dilation: Any,
    dimension_numbers: Any,
    feature_group_count: int,
    batch_group_count: int,
    **_: Any,
) -> Node:
    """Patches and a matrix product a feature group."""
    if batch_group_count != 1:
        raise NotImplementedError("batch_group_count")
    x = graph.node(x)
    lhs, rhs, out = dimension_numbers.lhs_spec, dimension_numbers.rhs_spec, dimension_numbers.out_spec
    spatial = len(window_strides)
    kernel = [w.shape[rhs[2 + s]] for s in range(spatial)]
    channels, features = w.shape[rhs[1]], w.shape[rhs[0]] // feature_group_count
    batch = x.shape[lhs[0]]
    outer = []
    for s in range(spatial):
        dilated = (x.shape[lhs[2 + s]] - 1) * lhs_dilation[s] + 1
        reach = (kernel[s] - 1) * rhs_dilation[s] + 1
        outer.append((dilated + sum(padding[s]) - reach) // window_strides[s] + 1)
    shape = [batch, *outer, channels, *kernel]
    blocks = []
    for g in range(feature_group_count):
        axes: list[Any] = [None] * len(x.shape)
        axes[lhs[0]] = 0, _unit(len(shape), 0), 1
        axes[lhs[1]] = g * channels, _unit(len(shape), 1 + spatial), 1
        for s in range(spatial):
            steps = [0] * len(shape)
            steps[1 + s], steps[2 + spatial + s] = window_strides[s], rhs_dilation[s]
            axes[lhs[2 + s]] = -padding[s][0], steps, lhs_dilation[s]
        patches = _patches(graph, x, shape, axes)
        group = _rows(graph, w, rhs, g * features, features)
        m, k = batch * int(np.prod(outer)), channels * int(np.prod(kernel))
        blocks.append(graph.matmul(patches, group, m, k, features))
    joined = graph.concat(blocks)
    index = np.arange(joined.size).reshape(feature_group_count, batch, *outer, features)
    index = np.moveaxis(index, 0, -2).reshape(batch, *outer, feature_group_count * features)
    target = [0] * (spatial + 2)
    target[out[0]], target[out[1]] = 0, spatial + 1
    for s in range(spatial):
        target[out[2 + s]] = 1 + s
    return graph.take(joined, index.transpose(target))


def _rows(graph: Graph, w: Any, rhs: Sequence[int], start: int, count: int) -> Node:
    """The kernel of one feature group as a matrix: (channels · window, features)."""
    axes = [rhs[1], *rhs[2:], rhs[0]]
    if isinstance(w, Node):
        index = np.arange(w.size).reshape(w.shape).transpose(axes)[..., start : start + count]
        return graph.take(w, index.reshape(-1, count))
    name = (graph.name_of(w) or "constant") + (f"/{start}" if start or count < w.shape[rhs[0]] else "")
    return graph.tensor(np.asarray(w).transpose(axes)[..., start : start + count].reshape(-1, count), name)


def _patches(graph: Graph, x: Node, shape: Sequence[int], axes: Sequence[tuple[int, Sequence[int], int]]) -> Node:
    """For every index i of `shape` the element at coordinates c, or 0 outside.

    Args:
        axes: for each axis of x (offset, a multiplier an axis of `shape`, dilation): c = (offset + Σ multiplier · i) /
            dilation, outside if that is not whole.
    """
    places = np.zeros(shape, np.int64)
    outside = np.zeros(shape, bool)
    for extent, (offset, steps, dilation) in zip(x.shape, axes, strict=True):
        at = offset + sum(step * np.arange(n).reshape(-1, *[1] * (len(shape) - 1 - axis))
                          for axis, (step, n) in enumerate(zip(steps, shape, strict=True)))  # fmt: skip
        outside |= (at < 0) | (at >= extent * dilation) | (at % dilation != 0)
        places = places * extent + at // dilation
    return graph.take(x, np.where(outside, -1, places))


def _unit(length: int, position: int) -> list[int]:
    return [int(i == position) for i in range(length)]


@ir.rule("reduce_window_sum")
def _window_sum(
    graph: Graph, x: Any, *, window_dimensions: Any, window_strides: Any, padding: Any, base_dilation: Any,
    window_dilation: Any, **_: Any,
) -> Node:  # fmt: skip
    x = graph.node(x)
    outer = []
    for axis, size in enumerate(window_dimensions):
        dilated = (x.shape[axis] - 1) * base_dilation[axis] + 1
        reach = (size - 1) * window_dilation[axis] + 1
        outer.append((dilated + sum(padding[axis]) - reach) // window_strides[axis] + 1)
    shape, rank = [*outer, *window_dimensions], len(outer)
    axes = []
    for axis in range(rank):
        steps = [0] * len(shape)
        steps[axis], steps[rank + axis] = window_strides[axis], window_dilation[axis]
        axes.append((-padding[axis][0], steps, base_dilation[axis]))
    patches = _patches(graph, x, shape, axes)
    k = int(np.prod(window_dimensions))
    return Node(graph.matmul(patches, graph.tensor(np.ones(k)), int(np.prod(outer)), k, 1).number, tuple(outer))


@ir.rule("integer_pow")
def _integer_pow(graph: Graph, x: Any, *, y: int, **_: Any) -> Node:
    """Squares, reciprocals, and any powers of constants; `gaps` keeps other ones out."""
    node = graph.node(x)
    if not _constant(graph, node):
        return graph.add("square" if y == 2 else "reciprocal", node.shape, [node])
    one = graph.tensor(np.ones(node.shape, np.float32))
    result = one if y == 0 else node
    for _i in range(abs(y) - 1):
        result = graph.add("mul", node.shape, [result, node])
    return graph.add("div", node.shape, [one, result]) if y < 0 else result
