"""PyTorch graphs as pure functions: `Graph` evaluates nodes in canonical form with the table `OPERATORS`.

Values are numbered in order of use, and names are kept for messages only, so two nets of one architecture
are equal graphs and share one compiled program. Nothing here needs torch.
Source: ATen operators as torch.export writes them, https://docs.pytorch.org/docs/stable/torch.compiler_ir.html.
"""

import math
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from axiom_jax._errors import AxiomError, ModelError, ShapeError, UnsupportedPrimitive
from axiom_jax.interop.onnx.ops import Tensor, narrow

Operator = Callable[..., Any]
OPERATORS: dict[str, Operator] = {}
SIZES: dict[str, Operator] = {
    "operator.add": operator.add, "operator.sub": operator.sub, "operator.mul": operator.mul,
    "operator.floordiv": operator.floordiv, "operator.mod": operator.mod, "operator.neg": operator.neg,
    "operator.getitem": operator.getitem, "aten.sym_size.int": lambda x, dim: x.shape[dim],
    "aten.sym_numel.default": lambda x: math.prod(x.shape),
}  # fmt: skip
UNUSED = {"device", "layout", "pin_memory", "memory_format", "non_blocking"}  # where and how torch would store it


@dataclass(frozen=True)
class Ref:
    """The value with this number, as an argument of a node."""

    index: int


@dataclass(frozen=True)
class Node:
    """One operator with its arguments: numbers, text, tuples, and `Ref` where a value stands.

    Args:
        op: "aten.relu.default".
        text: what the arguments are, so that 1, 1.0 and True differ.
        output: number of the result, which may be a tuple.
        place: the module in which it stands, for messages.
    """

    op: str
    text: str
    output: int
    args: tuple[Any, ...] = field(default=(), compare=False)
    kwargs: tuple[tuple[str, Any], ...] = field(default=(), compare=False)
    place: str = field(default="", compare=False)


def node(op: str, args: tuple[Any, ...], kwargs: Mapping[str, Any], output: int, place: str = "") -> Node:
    """A node; arguments that only say where torch keeps a tensor are dropped."""
    kept = tuple((key, value) for key, value in sorted(kwargs.items()) if key not in UNUSED)
    return Node(op, repr((args, kept)), output, args, kept, place)


def define(*names: str) -> Callable[[Operator], Operator]:
    """Register the decorated function for some ATen operators; it takes their arguments in ATen's order."""

    def register(function: Operator) -> Operator:
        for name in names:
            OPERATORS[f"aten.{name}" if "." in name else f"aten.{name}.default"] = function
        return function

    return register


@dataclass(frozen=True)
class Graph:
    """A PyTorch graph as a pure function `graph(params, *inputs)`; equal for nets of one architecture.

    Args:
        shapes: of the inputs, as PyTorch has them; text for a size that is free.
        dtypes: of the inputs.
        inputs: numbers of values.
        params: names in the state dict with the values they define.
        constants: known tensors with the values they define.
        nodes: those that the outputs need, operands first.
        outputs: a `Ref`, or a tuple, a list or a dict (as pairs after "dict") of outputs.
        layout: "NHWC" if images come and go channels-last.
        ranges: sizes that are bounded: name, least, greatest or None.
        buffers: the parameters that are no parameters to PyTorch, such as running statistics.
        file: for messages.
    """

    shapes: tuple[tuple[int | str, ...], ...]
    dtypes: tuple[str, ...]
    inputs: tuple[int, ...]
    params: tuple[tuple[str, int], ...]
    constants: tuple[tuple[int, Tensor], ...]
    nodes: tuple[Node, ...]
    outputs: Any
    layout: str = "NCHW"
    ranges: tuple[tuple[str, int, int | None], ...] = ()
    buffers: tuple[str, ...] = ()
    file: str = field(default="module", compare=False)

    @cached_property
    def taken(self) -> tuple[tuple[int | str, ...], ...]:
        """The shapes of the inputs in the layout of the model."""
        return tuple(last(shape) if self.layout == "NHWC" else shape for shape in self.shapes)

    def __call__(self, params: Mapping[str, Any], *inputs: Any) -> Any:
        import jax.numpy as jnp

        fill_table()
        arrays = [narrow(x, self.file) for x in inputs]
        self._require(arrays)
        if self.layout == "NHWC":
            arrays = [jnp.moveaxis(x, -1, 1) if x.ndim == 4 else x for x in arrays]
        values: dict[int, Any] = {number: jnp.asarray(tensor.array) for number, tensor in self.constants}
        values |= {number: jnp.asarray(params[name]) for name, number in self.params}
        values |= dict(zip(self.inputs, arrays, strict=True))
        for step in self.nodes:
            values[step.output] = call(step, values, self.file)
        return self._result(self.outputs, values)

    def trainable(self, params: Mapping[str, Any]) -> dict[str, bool]:
        """Which parameters training may move."""
        return {name: name not in self.buffers for name in params}

    def _result(self, outputs: Any, values: dict[int, Any]) -> Any:
        import jax.numpy as jnp

        if isinstance(outputs, Ref):
            y = jnp.asarray(values[outputs.index])
            return jnp.moveaxis(y, 1, -1) if self.layout == "NHWC" and y.ndim == 4 else y
        if isinstance(outputs, tuple) and outputs[:1] == ("dict",):
            return {key: self._result(value, values) for key, value in outputs[1:]}
        if isinstance(outputs, tuple):
            return tuple(self._result(output, values) for output in outputs)
        return outputs

    def _require(self, arrays: Sequence[Any]) -> None:
        """Refuse shapes that the module was not exported for: a fixed view would mix the examples of a batch."""
        sizes: dict[str, Any] = {}
        fits = len(arrays) == len(self.taken)
        for x, shape in zip(arrays, self.taken, strict=False):
            fits = fits and x.ndim == len(shape)
            fits = fits and all(
                (sizes.setdefault(n, m) if isinstance(n, str) else n) == m
                for n, m in zip(shape, x.shape, strict=True)
            )  # fmt: skip
        bounds = [(n, low, high) for n, low, high in self.ranges if isinstance(sizes.get(n), int)]
        fits = fits and all(low <= sizes[n] and (high is None or sizes[n] <= high) for n, low, high in bounds)
        if not fits:
            limits = "".join(f", {n} from {low} to {high or 'any size'}" for n, low, high in self.ranges)
            expected = ", ".join(map(_shown, self.taken)) + limits
            raise ShapeError(
                f"The inputs do not have the shapes that {self.file} was exported for.",
                at=self.file,
                got=f"{', '.join(_shown(x.shape) for x in arrays)}; expected {expected}",
                fix="reshape the input, or export the module with an example of that shape",
            )


def call(step: Node, values: Mapping[int, Any], file: str) -> Any:
    """Apply a node.

    Raises:
        UnsupportedPrimitive: the operator is not supported with these arguments.
        ModelError: the operands do not fit.
    """
    at = f"{file}: {step.place or 'module'} ({step.op})"
    args = [_given(arg, values) for arg in step.args]
    kwargs = {key: _given(arg, values) for key, arg in step.kwargs}
    try:
        return (SIZES.get(step.op) or OPERATORS[step.op])(*args, **kwargs)
    except AxiomError:
        raise
    except NotImplementedError as error:
        raise UnsupportedPrimitive(
            f"{step.op} is not supported with {error}.", at=at, fix="rewrite this part of the module without it"
        ) from error
    except (TypeError, ValueError, LookupError, ArithmeticError, AttributeError) as error:
        shapes = ", ".join(f"{x.dtype}{list(x.shape)}" for x in args if hasattr(x, "shape"))
        raise ModelError(
            f"{step.op} does not fit its operands.",
            at=at,
            got=f"{shapes or 'no arrays'}\n{str(error).partition(chr(10))[0]}",
            fix="give inputs of the shapes in model.signature",
        ) from error


def supported(op: str) -> bool:
    """Whether an operator has a rule."""
    fill_table()
    return op in OPERATORS or op in SIZES


def fill_table() -> None:
    """The operators register themselves when they are imported; that loads jax, so it waits until now."""
    from axiom_jax.interop.torch import arrays, layers, ops, recurrent  # noqa: F401


def last(shape: Sequence[Any]) -> tuple[Any, ...]:
    """The shape of an image with its channels last; other shapes stay."""
    return (shape[0], *shape[2:], shape[1]) if len(shape) == 4 else tuple(shape)


def first(shape: Sequence[Any]) -> tuple[Any, ...]:
    """The shape of an image with its channels first; other shapes stay."""
    return (shape[0], shape[-1], *shape[1:-1]) if len(shape) == 4 else tuple(shape)


def _given(arg: Any, values: Mapping[int, Any]) -> Any:
    if isinstance(arg, Ref):
        return values[arg.index]
    if isinstance(arg, tuple):
        return [_given(item, values) for item in arg]
    return arg


def _shown(shape: Sequence[Any]) -> str:
    return f"[{', '.join(map(str, shape))}]"
