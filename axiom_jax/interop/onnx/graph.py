"""An ONNX graph while it is written: its nodes, initializers, and the values between them.

A value may be stored otherwise than the program sees it: its axes in another order (a convolution's
NCHW under a program's NHWC), or with size 1 where the program has broadcast it. Elementwise nodes pass
such forms on, so transpositions and expansions appear only where a node needs them.
"""

import ast
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from axiom_jax._shapes_text import is_number

Shape = tuple[Any, ...]  # numbers and symbolic sizes
HELD = 8  # constants up to this many bytes are shared by content


class NotInOnnx(NotImplementedError):
    """A use of a primitive that has no ONNX form; says which."""


@dataclass(frozen=True, eq=False)
class Value:
    """A tensor of the file, and how the program sees it.

    Args:
        name: in the file; empty for a constant that no node has used yet.
        shape: as the program sees it.
        stored: as it lies in the file: `shape` with its axes in `order`, or a shape that broadcasts to `shape`.
        dtype: of its elements.
        order: the program's axis for each stored axis.
        constant: the stored array, if it is known.
        hint: a name for it, should it become an initializer.
    """

    name: str
    shape: Shape
    stored: Shape
    dtype: Any
    order: tuple[int, ...]
    constant: np.ndarray | None = None
    hint: str = ""

    @property
    def rank(self) -> int:
        return len(self.shape)

    @property
    def ordered(self) -> bool:
        return self.order == tuple(range(self.rank))

    @property
    def plain(self) -> bool:
        """Whether it is stored as the program sees it."""
        return self.ordered and self.stored == self.shape


@dataclass
class Sheet:
    """The graph that is being written; inside of `branch` nodes go to a subgraph.

    Args:
        opset: the version of the standard.
        sizes: for each symbol of the sizes an input that has it and the axis.
    """

    opset: int
    sizes: dict[str, tuple[str, int]] = field(default_factory=dict)
    nodes: list[Any] = field(default_factory=list)
    initializers: dict[str, np.ndarray] = field(default_factory=dict)
    cache: dict[Any, Any] = field(default_factory=dict)
    uses: Counter[Any] = field(default_factory=Counter)
    gaps: list[Any] = field(default_factory=list)  # equations that could not be written
    _counts: Counter[str] = field(default_factory=Counter)
    _taken: set[str] = field(default_factory=set)
    _shared: dict[Any, str] = field(default_factory=dict)
    _alive: list[Any] = field(default_factory=list)  # what the cache knows by id must not die

    # Names and constants

    def fresh(self, name: str) -> str:
        """A name that nothing has yet."""
        found = name
        while found in self._taken:
            self._counts[name] += 1
            found = f"{name}_{self._counts[name]}"
        self._taken.add(found)
        return found

    def constant(self, x: Any, hint: str = "constant") -> Value:
        x = np.asarray(x)
        return Value("", x.shape, x.shape, x.dtype, tuple(range(x.ndim)), x, hint)

    def integers(self, numbers: Iterable[int], hint: str = "sizes") -> Value:
        return self.constant(np.array(list(numbers), np.int64), hint)

    def name(self, value: "Value | str | None") -> str:
        """The name of a value's stored tensor, which becomes an initializer if it is a constant."""
        if value is None or isinstance(value, str):
            return value or ""
        if value.constant is None:
            return value.name
        x = value.constant
        key = (x.dtype.str, str(x.dtype), x.shape, x.tobytes() if x.nbytes <= 1024 else id(x))
        if key not in self._shared:
            self._shared[key] = name = self.fresh(value.hint or "constant")
            self.initializers[name] = x
            self._alive.append(x)
        return self._shared[key]

    # Nodes

    def node(self, op: str, inputs: Sequence["Value | str | None"], outputs: int = 1, **attributes: Any) -> list[str]:
        """Write a node; gives the names of its outputs."""
        from onnx import helper

        names = [self.name(value) for value in inputs]
        while names and not names[-1]:
            names.pop()
        results = [self.fresh(f"{op}_{i}" if i else op) for i in range(outputs)]
        given = {key: value for key, value in attributes.items() if value is not None}
        self.nodes.append(helper.make_node(op, names, results, name=results[0], **given))
        return results

    def value(self, op: str, inputs: Sequence["Value | str | None"], shape: Sequence[Any], dtype: Any,
              order: tuple[int, ...] | None = None, **attributes: Any) -> Value:  # fmt: skip
        """Write a node with one output; `order` if the output is not stored in the program's order of axes."""
        (name,) = self.node(op, inputs, **attributes)
        return self.held(name, shape, dtype, order)

    def held(self, name: str, shape: Sequence[Any], dtype: Any, order: tuple[int, ...] | None = None) -> Value:
        """The value of a tensor that a node or an input defines."""
        order = tuple(range(len(shape))) if order is None else order
        return Value(name, tuple(shape), tuple(shape[axis] for axis in order), np.dtype(dtype), order)

    # Forms

    def plain(self, value: Value) -> Value:
        """The value stored as the program sees it."""
        return self.arranged(self.spread_out(value), range(value.rank))

    def spread_out(self, value: Value) -> Value:
        """The value with its broadcast axes written out; the order stays."""
        if len(value.stored) == value.rank and all(
            _same(n, value.shape[axis]) for n, axis in zip(value.stored, value.order, strict=True)
        ):
            return value
        assert value.ordered
        if value.constant is not None and all(map(is_number, value.shape)):
            wide = np.broadcast_to(value.constant, value.shape)
            return replace(value, constant=np.ascontiguousarray(wide), stored=value.shape)
        return self.once(("expand", self.key(value)), lambda: self.value(
            "Expand", [value, self.shape(value.shape)], value.shape, value.dtype))  # fmt: skip

    def arranged(self, value: Value, order: Iterable[int]) -> Value:
        """The value with its axes stored in an order; axes of size 1 may stay unwritten."""
        order = tuple(order)
        if value.order == order or (value.ordered and not value.stored):
            return value
        if len(value.stored) < value.rank:
            value = self.with_rank(value)
        permutation = tuple(value.order.index(axis) for axis in order)
        stored = tuple(value.stored[axis] for axis in permutation)
        if value.constant is not None:
            return replace(value, constant=np.transpose(value.constant, permutation), stored=stored, order=order)
        moved = [axis for axis in permutation if not _same(value.stored[axis], 1)]
        if moved == sorted(moved):  # only axes of size 1 move
            return self.once(("arrange", value.name, permutation), lambda: replace(
                self._reshaped(value, stored), shape=value.shape, order=order))  # fmt: skip
        return self.once(("transpose", value.name, permutation), lambda: replace(
            self.value("Transpose", [value], stored, value.dtype, perm=permutation),
            shape=value.shape, order=order))  # fmt: skip

    def with_rank(self, value: Value) -> Value:
        """A broadcast value with its leading axes of size 1 written out."""
        stored = (1,) * (value.rank - len(value.stored)) + value.stored
        if value.constant is not None:
            return replace(value, constant=value.constant.reshape(stored), stored=stored)
        return replace(self._reshaped(value, stored), shape=value.shape, order=value.order)

    def _reshaped(self, value: Value, shape: Shape) -> Value:
        return self.value("Reshape", [value, self.shape(shape, value)], shape, value.dtype)

    def reshape(self, value: Value, shape: Sequence[Any]) -> Value:
        """The value's elements, in the program's order, in another shape; stored so."""
        shape, value = tuple(shape), self.plain(value)
        if same_shape(value.shape, shape):
            return value
        if value.constant is not None and all(map(is_number, shape)):
            return replace(self.constant(value.constant.reshape(shape), value.hint))
        origin = self.origin(value)
        if same_shape(origin.shape, shape):
            return origin
        return self.same_elements(self._reshaped(origin, shape), origin)

    def origin(self, value: Value) -> Value:
        """The value that this one was reshaped from, or itself."""
        return self.cache.get(("origin", value.name), value) if value.constant is None else value

    def same_elements(self, value: Value, origin: Value) -> Value:
        """Notes that a value has the elements of another in the same order."""
        self.cache["origin", value.name] = self.origin(origin)
        return value

    def cast(self, value: Value, dtype: Any) -> Value:
        """The value in another dtype, in the same form."""
        if value.dtype == np.dtype(dtype):
            return value
        if value.constant is not None:
            return replace(value, constant=value.constant.astype(dtype), dtype=np.dtype(dtype))
        (name,) = self.node("Cast", [value], to=element_type(dtype))
        return replace(value, name=name, dtype=np.dtype(dtype))

    # Sizes

    def shape(self, sizes: Sequence[Any], like: Value | None = None) -> Value:
        """A shape as an operand of Reshape (with `like`, the tensor reshaped) or of Expand."""
        free = [axis for axis, size in enumerate(sizes) if not is_number(size)]
        if not free:
            return self.integers(sizes, "shape")
        if like is not None and not any(is_number(size) and size == 0 for size in sizes):
            numbers = [size if is_number(size) else 0 for size in sizes]
            other = [a for a in free if a >= len(like.stored) or not _same(like.stored[a], sizes[a])]  # 0 copies a size
            if len(other) <= 1:
                for axis in other:
                    numbers[axis] = -1
                return self.integers(numbers, "shape")
        parts = [self.size(size) for size in sizes]
        return self.value("Concat", parts, (len(sizes),), np.int64, axis=0)

    def size(self, size: Any) -> Value:
        """A size as a vector of one int64."""
        if is_number(size):
            return self.integers([size], "size")
        return self.once(("size", str(size)), lambda: self._size(ast.parse(str(size).replace("^", "**")).body[0]))

    def _size(self, tree: Any) -> Value:
        def binary(op: str, a: Any, b: Any) -> Value:
            return self.value(op, [self._size(a), self._size(b)], (1,), np.int64)

        match tree:
            case ast.Expr(value=inner):
                return self._size(inner)
            case ast.Constant(value=int(number)):
                return self.integers([number], "size")
            case ast.UnaryOp(op=ast.USub(), operand=inner):
                return self.value("Neg", [self._size(inner)], (1,), np.int64)
            case ast.Name(id=symbol) if symbol in self.sizes:
                return self.once(("size", symbol), lambda: self._size_of_axis(*self.sizes[symbol]))
            case ast.BinOp(left=a, op=op, right=b):
                name = {ast.Add: "Add", ast.Sub: "Sub", ast.Mult: "Mul", ast.Pow: "Pow"}[type(op)]
                return binary(name, a, b)
            case ast.Call(func=ast.Name(id="floordiv"), args=[a, b]):
                # ONNX divides towards zero; the remainder that follows the divisor's sign makes it exact
                rest = self.value("Mod", [self._size(a), self._size(b)], (1,), np.int64)
                exact = self.value("Sub", [self._size(a), rest], (1,), np.int64)
                return self.value("Div", [exact, self._size(b)], (1,), np.int64)
            case ast.Call(func=ast.Name(id="mod"), args=[a, b]):
                return binary("Mod", a, b)
            case ast.Call(func=ast.Name(id=("max" | "min") as name), args=[a, b]):
                return binary(name.capitalize(), a, b)
        raise NotInOnnx(f"the size {ast.unparse(tree)}")

    def _size_of_axis(self, name: str, axis: int) -> Value:
        if self.opset >= 15:
            return self.value("Shape", [name], (1,), np.int64, start=axis, end=axis + 1)
        whole = self.once(("shape", name), lambda: self.node("Shape", [name])[0])
        return self.value("Gather", [whole, self.integers([axis], "axis")], (1,), np.int64, axis=0)

    # Scopes

    def once(self, key: Any, write: Any) -> Any:
        """What `write()` gives, written once in a scope."""
        if key not in self.cache:
            self.cache[key] = write()
        return self.cache[key]

    def key(self, value: Value) -> Any:
        if value.constant is None:
            return value.name, tuple(map(str, value.shape)), value.order
        self._alive.append(value.constant)
        return id(value.constant), tuple(map(str, value.shape)), value.order

    @contextmanager
    def branch(self) -> Iterator[list[Any]]:
        """A subgraph: nodes written inside are collected apart, and what they define is not seen outside."""
        outer, known = self.nodes, dict(self.cache)
        self.nodes = []
        try:
            yield self.nodes
        finally:
            self.nodes, self.cache = outer, known


def _same(a: Any, b: Any) -> bool:
    """Whether two sizes are known to be equal."""
    return bool(a == b) if is_number(a) and is_number(b) else str(a) == str(b)


def same_shape(a: Sequence[Any], b: Sequence[Any]) -> bool:
    return len(a) == len(b) and all(map(_same, a, b))


def joint(*shapes: Sequence[Any]) -> Shape:
    """The shape that several broadcast to."""
    rank = max(map(len, shapes))
    padded = [(1,) * (rank - len(shape)) + tuple(shape) for shape in shapes]
    return tuple(next((n for n in column if not _same(n, 1)), 1) for column in zip(*padded, strict=True))


def element_type(dtype: Any) -> int:
    from onnx import helper

    return helper.np_dtype_to_tensor_dtype(np.dtype(dtype))


def count(shape: Iterable[Any]) -> Any:
    """The number of elements; symbolic if a size is."""
    return math.prod(shape)
