"""What each ONNX operator means in JAX: the table `OPERATORS`, one function an operator.

An operand that is a `numpy.ndarray` is known (shapes, axes, indices); then the result
is computed in numpy and is known too. Other operands are JAX arrays, and the functions
use `jax.lax` alone, so that the jaxpr is flat and each equation stands for one step of
the standard. Source: https://onnx.ai/onnx/operators, opsets 7 to 28. Here are the
elementwise operators; `onnx_layers` and `onnx_shapes` add the rest.
"""

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import FunctionType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from axiom_jax._errors import AxiomError, ModelError, UnsupportedPrimitive

Operator = Callable[..., Any]
DTYPES = {"float16", "bfloat16", "float32", "float64", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32",
          "uint64", "bool"}  # fmt: skip
OPERATORS: dict[str, Operator] = {}
LARGEST = 1 << 28  # elements of a constant; a larger one is taken for damage
STATIC: dict[str, tuple[int, ...]] = {}  # operands that must be known when the program is traced


@dataclass(frozen=True)
class Tensor:
    """A constant array that can be hashed, so that equal graphs are equal."""

    dtype: str
    shape: tuple[int, ...]
    content: bytes

    @classmethod
    def of(cls, x: np.ndarray) -> "Tensor":
        return cls(x.dtype.name, x.shape, x.tobytes())

    @property
    def array(self) -> np.ndarray:
        return np.frombuffer(self.content, jnp.dtype(self.dtype)).reshape(self.shape)


@dataclass(frozen=True)
class Node:
    """One ONNX node in canonical form: equal for nets of one architecture.

    Args:
        op: the operator's name.
        inputs: numbers of the operands' values; −1 for one that is left out.
        outputs: numbers of the results' values.
        attributes: sorted names and values; lists are tuples.
        opset: the version of the standard that the file follows.
        name, line: the node's name and its place in the file, for messages.
    """

    op: str
    inputs: tuple[int, ...] = ()
    outputs: tuple[int, ...] = ()
    attributes: tuple[tuple[str, Any], ...] = ()
    opset: int = 21
    name: str = field(default="", compare=False)
    line: int = field(default=0, compare=False)

    def get(self, name: str, default: Any = None) -> Any:
        return dict(self.attributes).get(name, default)

    @property
    def label(self) -> str:
        return f"{self.op} {self.name}".strip()


@dataclass(frozen=True)
class Body:
    """A subgraph in canonical form: numbers of its inputs and outputs, and its nodes."""

    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    nodes: tuple[Node, ...]


class DynamicShape(ValueError):
    """A size that is computed from the model's input, so that no shape can be given before it runs."""


def define(*names: str, static: tuple[int, ...] = ()) -> Callable[[Operator], Operator]:
    """Register the decorated function `(node, *operands) -> array or tuple` for some operators."""

    def register(function: Operator) -> Operator:
        for name in names:
            OPERATORS[name] = function
            STATIC[name] = static
        return function

    return register


def evaluate(nodes: Sequence[Node], values: dict[int, Any], file: str = "model.onnx") -> None:
    """Run nodes; `values` holds what they read by number, and is extended by what they define."""
    for node in nodes:
        operands = [None if i < 0 else values[i] for i in node.inputs]
        if any(isinstance(value, Body) for _, value in node.attributes):
            operands = [functools.partial(_run, values, file), *operands]
        results = call(node, operands, file)
        if any(i >= 0 for i in node.outputs[len(results) :]):
            raise UnsupportedPrimitive(
                f"Only the first {len(results)} outputs of {node.op} are supported.",
                at=f"{file}: node {node.line} ({node.label})",
                fix="export the model without the other outputs",
            )
        values.update((i, result) for i, result in zip(node.outputs, results, strict=False) if i >= 0)


def _run(around: dict[int, Any], file: str, body: Body, *arguments: Any) -> list[Any]:
    """The results of a subgraph."""
    values = around | dict(zip(body.inputs, arguments, strict=True))
    evaluate(body.nodes, values, file)
    return [values[i] for i in body.outputs]


def call(node: Node, operands: Sequence[Any], file: str = "model.onnx") -> tuple[Any, ...]:
    """Apply a node to its operands, known or traced.

    Raises:
        UnsupportedPrimitive: the operator is not supported with these attributes.
        ModelError: the operands do not fit, or a shape depends on the input's values.
    """
    at = f"{file}: node {node.line} ({node.label})"
    try:
        results = _frame(file, node.line, node.label)(OPERATORS[node.op], (node, *operands))
    except NotImplementedError as error:
        raise UnsupportedPrimitive(
            f"{node.op} is not supported with {error}.", at=at, fix="export the model without it, or simplify it"
        ) from error
    except DynamicShape as error:
        raise ModelError(
            f"A shape in {node.label} is not known before the model runs: {error}.",
            at=at,
            fix="fold constants when exporting (for example with onnxsim), or export with fixed sizes",
        ) from error
    except AxiomError:
        raise
    except Exception as error:  # a damaged file can make any library function fail, each with its own class
        arrays = [x for x in operands if x is None or hasattr(x, "shape")]
        shapes = ", ".join("none" if x is None else f"{x.dtype}{list(x.shape)}" for x in arrays)
        raise ModelError(
            f"{node.label} does not fit its operands.",
            at=at,
            got=f"{shapes}\n{str(error).partition(chr(10))[0]}",
            fix="give inputs of the shapes in model.signature, or check the file: onnx.checker.check_model(path, True)",
        ) from error
    results = results if isinstance(results, tuple) else (results,)
    return tuple(np.asarray(r) if isinstance(r, np.generic) else r for r in results)


def _frame(file: str, line: int, name: str) -> Callable[..., Any]:
    """A caller whose stack frame reads `file:line (name)`: jax records frames, so equations name their ONNX node."""
    code = (lambda run, operands: run(*operands)).__code__  # as Jinja does for the lines of a template
    return FunctionType(code.replace(co_filename=file, co_firstlineno=max(line, 1), co_name=name, co_qualname=name), {})


# Known and traced values


def known(*operands: Any) -> bool:
    return all(x is None or isinstance(x, np.ndarray) for x in operands)


def array(x: Any) -> Any:
    """A known operand as a JAX constant, in the dtype that JAX has for it; integers must fit."""
    if not isinstance(x, np.ndarray):
        return x
    if x.dtype == object:  # sizes, some of them symbolic
        return jnp.asarray([jnp.asarray(size, jnp.int32) for size in x.reshape(-1)]).reshape(x.shape)
    require_size(x.shape)
    dtype = jax.dtypes.canonicalize_dtype(x.dtype)
    if dtype.kind in "iu" and dtype != x.dtype and x.size:
        info = np.iinfo(dtype)
        if int(x.max()) > info.max or int(x.min()) < info.min:
            raise ValueError("an integer tensor holds numbers beyond 32 bits")
    return jnp.asarray(x.astype(dtype))


def narrow(x: Any, file: str) -> Any:
    """An input as a JAX array; 64-bit integers must fit where JAX has no such integers."""
    if isinstance(x, (np.ndarray, np.generic)) and x.dtype.kind in "iu" and x.size:
        dtype = jax.dtypes.canonicalize_dtype(x.dtype)
        limit = np.iinfo(dtype)
        if dtype != x.dtype and (int(x.min()) < limit.min or int(x.max()) > limit.max):
            raise ModelError(
                f"An input holds integers that {dtype} cannot hold, which {file} computes with here.",
                at=file,
                got=f"{x.dtype} from {x.min()} to {x.max()}; expected {limit.min} to {limit.max}",
                fix='give smaller integers, or call jax.config.update("jax_enable_x64", True) first',
            )
    return jnp.asarray(x)


def require_size(shape: Sequence[Any]) -> None:
    """Refuse to fill memory with a constant that a damaged file asks for."""
    if all(isinstance(n, (int, np.integer)) for n in shape) and math.prod(map(int, shape)) > LARGEST:
        raise ValueError(f"a constant of {math.prod(map(int, shape))} elements")


def like(x: Any, number: Any) -> np.ndarray:
    """A number in the dtype of an array."""
    return np.asarray(number, x.dtype)


def integers(x: Any, what: str) -> list[Any]:
    """A known vector of integers, such as axes; refuses one that depends on the model's input or weights.

    A size that is free while shapes are proved stays symbolic.
    """
    if not isinstance(x, np.ndarray):
        raise DynamicShape(f"{what} is computed from the input or the weights")
    return [int(i) if isinstance(i, (int, float, np.number, np.bool_)) else i for i in x.reshape(-1)]


def scalar(x: Any, what: str) -> Any:
    if not isinstance(x, np.ndarray):
        raise DynamicShape(f"{what} is computed from the input or the weights")
    if x.size != 1:
        raise ValueError(f"{what} must be one number")
    return x.reshape(())[()]


def broadcast_shapes(*shapes: Sequence[Any]) -> tuple[Any, ...]:
    """The shape that several broadcast to; sizes may be symbolic."""
    return tuple(lax.broadcast_shapes(*(tuple(shape) for shape in shapes)))


def align(*operands: Any) -> list[Any]:
    """Broadcast to one shape as numpy does; scalars stay scalars, since `lax` takes them as they are."""
    shape = broadcast_shapes(*(x.shape for x in operands))
    return [array(x) if x.ndim == 0 and shape else expand_to(array(x), shape) for x in operands]


def expand_to(x: Any, shape: Sequence[int]) -> Any:
    if x.shape == tuple(shape):
        return x
    if isinstance(x, np.ndarray):
        return np.broadcast_to(x, shape)
    return lax.broadcast_in_dim(x, shape, range(len(shape) - x.ndim, len(shape)))


def reshape(x: Any, shape: Sequence[int]) -> Any:
    if isinstance(x, np.ndarray) or x.shape == tuple(shape):
        return x.reshape(shape)
    sizes = (*x.shape, *shape)
    if all(isinstance(n, int) for n in sizes) and math.prod(shape) != x.size:  # jax does not look while it traces
        raise ValueError(f"{x.size} elements do not fill {list(shape)}")
    return lax.reshape(x, shape)


def window(x: Any, axis: int, start: int, stop: int, step: int = 1) -> Any:
    """x[start:stop:step] along one axis; 0 ≤ start ≤ stop ≤ size, step > 0."""
    if isinstance(x, np.ndarray):
        return x[(*(slice(None),) * axis, slice(start, stop, step))]
    return x if (start, stop, step) == (0, x.shape[axis], 1) else lax.slice_in_dim(x, start, stop, step, axis)


def take(x: Any, index: np.ndarray, axis: int) -> Any:
    """x at a known vector of nonnegative indices along one axis: a slice or a repetition where it is one."""
    if isinstance(x, np.ndarray):
        return np.take(x, index, axis)
    size, count = x.shape[axis], len(index)
    step = int(index[1] - index[0]) if count > 1 else 1
    if count and step > 0 and np.array_equal(index, index[0] + step * np.arange(count)):
        return window(x, axis, int(index[0]), int(index[-1]) + 1, step)
    if size and count % size == 0 and np.array_equal(index, np.repeat(np.arange(size), count // size)):
        return repeat(x, axis, count // size)
    numbers = lax.GatherDimensionNumbers(
        offset_dims=tuple(d for d in range(x.ndim) if d != axis), collapsed_slice_dims=(axis,), start_index_map=(axis,)
    )
    sizes = tuple(1 if d == axis else n for d, n in enumerate(x.shape))
    where = array(index.reshape(-1, 1))
    return lax.gather(x, where, numbers, sizes, mode=lax.GatherScatterMode.PROMISE_IN_BOUNDS)


def repeat(x: Any, axis: int, times: int) -> Any:
    """Every entry along an axis `times` times."""
    shape = x.shape
    wide = lax.broadcast_in_dim(
        x, (*shape[: axis + 1], times, *shape[axis + 1 :]), [d + (d > axis) for d in range(len(shape))]
    )
    return lax.reshape(wide, (*shape[:axis], shape[axis] * times, *shape[axis + 1 :]))


def positive(axis: int, rank: int) -> int:
    if not -rank <= axis < rank:
        raise ValueError(f"axis {axis} is outside of {rank} dimensions")
    return axis % rank


def _elementwise(lax_function: Operator, numpy_function: Operator) -> Operator:
    def apply(node: Node, *operands: Any) -> Any:
        if known(*operands):
            return functools.reduce(numpy_function, operands) if len(operands) > 1 else numpy_function(*operands)
        aligned = align(*operands)
        return functools.reduce(lax_function, aligned) if len(aligned) > 1 else lax_function(*aligned)

    return apply


def _many(lax_function: Operator, numpy_function: Operator) -> Operator:
    """For operators of one or more operands, which return a single operand as it is."""
    combine = _elementwise(lax_function, numpy_function)
    return lambda node, first, *rest: combine(node, first, *rest) if rest else first


def _divide(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    if a.dtype == object:
        return a // b
    if a.dtype.kind == "f":
        return a / b
    return np.sign(a) * np.sign(b) * (abs(a) // abs(b))  # ONNX truncates integers towards zero


for _name, _lax, _numpy in (
    ("Add", lax.add, np.add), ("Sub", lax.sub, np.subtract), ("Mul", lax.mul, np.multiply), ("Div", lax.div, _divide),
    ("Neg", lax.neg, np.negative), ("Abs", lax.abs, np.abs), ("Exp", lax.exp, np.exp), ("Log", lax.log, np.log),
    ("Tan", lax.tan, np.tan), ("Asin", lax.asin, np.arcsin), ("Acos", lax.acos, np.arccos),
    ("Atan", lax.atan, np.arctan), ("Sinh", lax.sinh, np.sinh), ("Cosh", lax.cosh, np.cosh),
    ("Asinh", lax.asinh, np.arcsinh), ("Acosh", lax.acosh, np.arccosh), ("Atanh", lax.atanh, np.arctanh),
    ("Xor", lax.bitwise_xor, np.logical_xor), ("BitwiseAnd", lax.bitwise_and, np.bitwise_and),
    ("BitwiseOr", lax.bitwise_or, np.bitwise_or), ("BitwiseXor", lax.bitwise_xor, np.bitwise_xor),
    ("BitwiseNot", lax.bitwise_not, np.bitwise_not),
    ("Sqrt", lax.sqrt, np.sqrt), ("Sin", lax.sin, np.sin), ("Cos", lax.cos, np.cos), ("Tanh", lax.tanh, np.tanh),
    ("Floor", lax.floor, np.floor), ("Ceil", lax.ceil, np.ceil), ("Sign", lax.sign, np.sign),
    ("Equal", lax.eq, np.equal), ("Less", lax.lt, np.less), ("LessOrEqual", lax.le, np.less_equal),
    ("Greater", lax.gt, np.greater), ("GreaterOrEqual", lax.ge, np.greater_equal),
    ("And", lax.bitwise_and, np.logical_and), ("Or", lax.bitwise_or, np.logical_or),
    ("Not", lax.bitwise_not, np.logical_not),
):  # fmt: skip
    define(_name)(_elementwise(_lax, _numpy))

for _name, _lax, _numpy in (
    ("Max", lax.max, np.maximum), ("Min", lax.min, np.minimum), ("Sum", lax.add, np.add),
):  # fmt: skip
    define(_name)(_many(_lax, _numpy))


@define("Mean")
def _mean(node: Node, *operands: Any) -> Any:
    total = OPERATORS["Sum"](node, *map(array, operands))
    return total if len(operands) == 1 else lax.div(total, like(total, len(operands)))


@define("Mod")
def _mod(node: Node, a: Any, b: Any) -> Any:
    truncated = node.get("fmod", 0)
    if known(a, b):
        return np.fmod(a, b) if truncated else np.mod(a, b)
    a, b = align(a, b)
    rest = lax.rem(a, b)
    if truncated:
        return rest
    other_sign = lax.bitwise_and(
        lax.ne(rest, like(rest, 0)), lax.ne(lax.lt(rest, like(rest, 0)), lax.lt(b, like(b, 0)))
    )
    return lax.select_n(other_sign, rest, lax.add(rest, b)) if rest.shape else jnp.where(other_sign, rest + b, rest)


@define("BitShift")
def _bit_shift(node: Node, x: Any, by: Any) -> Any:
    x, by = map(array, align(x, by))
    right = lax.shift_right_arithmetic if x.dtype.kind == "i" else lax.shift_right_logical
    return (lax.shift_left if node.get("direction") == "LEFT" else right)(x, by)


@define("Round")
def _round(node: Node, x: Any) -> Any:
    return np.round(x) if known(x) else lax.round(x, lax.RoundingMethod.TO_NEAREST_EVEN)


@define("IsNaN")
def _is_nan(node: Node, x: Any) -> Any:
    x = array(x)
    return lax.ne(x, x)


@define("IsInf")
def _is_inf(node: Node, x: Any) -> Any:
    x = array(x)
    above = lax.eq(x, like(x, math.inf if node.get("detect_positive", 1) else math.nan))
    return lax.bitwise_or(above, lax.eq(x, like(x, -math.inf if node.get("detect_negative", 1) else math.nan)))


@define("Reciprocal")
def _reciprocal(node: Node, x: Any) -> Any:
    x = array(x)
    return lax.div(like(x, 1), x)


@define("Clip", static=(1, 2))
def _clip(node: Node, x: Any, low: Any = None, high: Any = None) -> Any:
    if not known(low, high):  # the upper bound wins where they cross
        x = array(x)
        x = x if low is None else lax.max(x, expand_to(array(low), x.shape))
        return x if high is None else lax.min(x, expand_to(array(high), x.shape))
    low = node.get("min") if low is None else scalar(low, "the lower bound")
    high = node.get("max") if high is None else scalar(high, "the upper bound")
    return clamp(array(x), low, high)


def clamp(x: Any, low: float | None, high: float | None) -> Any:
    floats = jnp.issubdtype(x.dtype, jnp.floating)
    top = float(jnp.finfo(x.dtype).max) if floats else math.inf  # an infinite bound is none
    if low is not None and low >= -top:
        x = lax.max(x, like(x, low))
    if high is not None and high <= top:
        x = lax.min(x, like(x, high))
    return x


@define("Pow", static=(1,))
def _pow(node: Node, x: Any, exponent: Any) -> Any:
    if known(x, exponent):
        return np.power(x, exponent).astype(x.dtype)
    x = array(x)
    if (
        isinstance(exponent, np.ndarray)
        and x.dtype.kind not in "iu"
        and exponent.size
        and np.all(exponent == exponent.flat[0])
    ):
        value, x = float(exponent.flat[0]), expand_to(x, broadcast_shapes(x.shape, exponent.shape))
        if value == 0.5:
            return lax.sqrt(x)
        if value.is_integer() and abs(value) < 256:
            return lax.integer_pow(x, int(value))
        return lax.pow(x, like(x, value))
    x, exponent = map(array, align(x, exponent))
    if x.dtype.kind in "iu" and jnp.issubdtype(exponent.dtype, jnp.floating):
        return cast(lax.pow(x.astype(exponent.dtype), exponent), x.dtype)
    return lax.pow(x, lax.convert_element_type(exponent, x.dtype))


@define("Where")
def _where(node: Node, condition: Any, yes: Any, no: Any) -> Any:
    if known(condition, yes, no):
        return np.where(condition, yes, no)
    shape = broadcast_shapes(condition.shape, yes.shape, no.shape)
    if isinstance(condition, np.ndarray) and (np.all(condition) or not np.any(condition)):
        return expand_to(array(yes if np.all(condition) else no), shape)
    condition, yes, no = (expand_to(array(x), shape) for x in (condition, yes, no))
    return lax.select_n(condition, no, yes)


@define("Cast")
def _cast(node: Node, x: Any) -> Any:
    return cast(x, dtype_of(node.get("to")))


def dtype_of(code: Any) -> np.dtype:
    """The numpy dtype of an ONNX element type."""
    from onnx import helper

    try:
        dtype = np.dtype(helper.tensor_dtype_to_np_dtype(code))
    except (KeyError, TypeError, ValueError) as error:
        raise NotImplementedError(f"the ONNX type {code}") from error
    if dtype.name not in DTYPES:
        raise NotImplementedError(f"the ONNX type {dtype.name}")
    return dtype


def cast(x: Any, dtype: Any) -> Any:
    """A value in another dtype; known ones keep 64 bits, traced ones have what JAX has."""
    if isinstance(x, np.ndarray):
        if x.dtype == object and np.dtype(dtype).kind in "iu":
            return x  # sizes, some of them symbolic
        with np.errstate(all="ignore"):
            return x.astype(dtype)
    dtype = jax.dtypes.canonicalize_dtype(dtype)
    if dtype == np.bool_:
        return lax.ne(x, like(x, 0))
    return x if x.dtype == dtype else lax.convert_element_type(x, dtype)


@define("CastLike")
def _cast_like(node: Node, x: Any, like_: Any) -> Any:
    return cast(x, like_.dtype)


@define("Identity", "Dropout", static=(1, 2))
def _identity(node: Node, x: Any, ratio: Any = None, training: Any = None) -> Any:
    if training is not None and bool(scalar(training, "training_mode")):
        raise NotImplementedError("training_mode = 1")
    return (x, np.ones(x.shape, bool)) if node.op == "Dropout" and len(node.outputs) > 1 else x
