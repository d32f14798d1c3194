"""What each ONNX operator means in JAX: the table `OPERATORS`, one function an operator.

An operand that is a `numpy.ndarray` is known (shapes, axes, indices); then the result
is computed in numpy and is known too. Other operands are JAX arrays, and the functions
use `jax.lax` alone, so that the jaxpr is flat and each equation stands for one step of
the standard. Source: https://onnx.ai/onnx/operators, opsets 7 to 26. Here are the
elementwise operators; `onnx_layers` and `onnx_shapes` add the rest.
"""

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import FunctionType
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import lax

from axiom_jax._errors import ModelError, UnsupportedPrimitive

Operator = Callable[..., Any]
OPERATORS: dict[str, Operator] = {}
STATIC: dict[str, tuple[int, ...]] = {}  # operands that must be known when the program is traced


@dataclass(frozen=True)
class Tensor:
    """A constant array that can be hashed, so that equal graphs are equal."""

    dtype: str
    shape: tuple[int, ...]
    content: bytes

    @classmethod
    def of(cls, x: np.ndarray) -> "Tensor":
        return cls(x.dtype.str, x.shape, x.tobytes())

    @property
    def array(self) -> np.ndarray:
        return np.frombuffer(self.content, self.dtype).reshape(self.shape)


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
    except (TypeError, ValueError, LookupError, ArithmeticError, AttributeError, MemoryError) as error:
        shapes = ", ".join("none" if x is None else f"{x.dtype}{list(x.shape)}" for x in operands)
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
    """A known operand as a JAX constant: float32, int32 or bool."""
    if not isinstance(x, np.ndarray):
        return x
    dtype = {"f": np.float32, "b": np.bool_}.get(x.dtype.kind, np.int32)
    if dtype is np.int32 and x.size and max(abs(int(x.max())), abs(int(x.min()))) >= 2**31:
        raise ValueError("an integer tensor holds numbers beyond 32 bits")
    return jnp.asarray(x.astype(dtype))


def integers(x: Any, what: str) -> list[int]:
    """A known vector of integers, such as axes; refuses one that depends on the model's input or weights."""
    if not isinstance(x, np.ndarray):
        raise DynamicShape(f"{what} is computed from the input or the weights")
    return [int(i) for i in x.reshape(-1)]


def scalar(x: Any, what: str) -> Any:
    if not isinstance(x, np.ndarray):
        raise DynamicShape(f"{what} is computed from the input or the weights")
    if x.size != 1:
        raise ValueError(f"{what} must be one number")
    return x.reshape(())[()]


def align(*operands: Any) -> list[Any]:
    """Broadcast to one shape as numpy does; scalars stay scalars, since `lax` takes them as they are."""
    shape = np.broadcast_shapes(*(x.shape for x in operands))
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
    if a.dtype.kind == "f":
        return a / b
    return np.sign(a) * np.sign(b) * (abs(a) // abs(b))  # ONNX truncates integers towards zero


for _name, _lax, _numpy in (
    ("Add", lax.add, np.add), ("Sub", lax.sub, np.subtract), ("Mul", lax.mul, np.multiply), ("Div", lax.div, _divide),
    ("Neg", lax.neg, np.negative), ("Abs", lax.abs, np.abs), ("Exp", lax.exp, np.exp), ("Log", lax.log, np.log),
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
    return total if len(operands) == 1 else lax.div(total, np.float32(len(operands)))


@define("Relu")
def _relu(node: Node, x: Any) -> Any:
    return lax.max(array(x), np.float32(0))


@define("LeakyRelu")
def _leaky_relu(node: Node, x: Any) -> Any:
    slope = np.float32(node.get("alpha", 0.01))
    x = array(x)
    return (lax.max if slope <= 1 else lax.min)(x, lax.mul(x, slope))  # one maximum, so that it relaxes tightly


@define("PRelu")
def _prelu(node: Node, x: Any, slope: Any) -> Any:
    x, slope = array(x), expand_to(array(slope), x.shape)
    return lax.add(lax.max(x, np.float32(0)), lax.mul(slope, lax.min(x, np.float32(0))))


@define("Elu", "Selu", "Celu")
def _elu(node: Node, x: Any) -> Any:
    x = array(x)
    default = {"Selu": 1.6732631921768188}.get(node.op, 1.0)
    alpha, gamma = np.float32(node.get("alpha", default)), np.float32(node.get("gamma", 1.0507010221481323))
    below = lax.min(x, np.float32(0))
    curve = lax.expm1(lax.div(below, alpha)) if node.op == "Celu" else lax.expm1(below)
    y = lax.add(lax.max(x, np.float32(0)), lax.mul(curve, alpha))
    return lax.mul(y, gamma) if node.op == "Selu" else y


@define("Sigmoid")
def _sigmoid(node: Node, x: Any) -> Any:
    return lax.logistic(array(x))


@define("HardSigmoid")
def _hard_sigmoid(node: Node, x: Any) -> Any:
    alpha, beta = np.float32(node.get("alpha", 0.2)), np.float32(node.get("beta", 0.5))
    return _clamp(lax.add(lax.mul(array(x), alpha), beta), 0, 1)


@define("HardSwish")
def _hard_swish(node: Node, x: Any) -> Any:
    x = array(x)
    return lax.mul(x, _clamp(lax.add(lax.mul(x, np.float32(1 / 6)), np.float32(0.5)), 0, 1))


@define("Softplus")
def _softplus(node: Node, x: Any) -> Any:
    x = array(x)
    return lax.add(lax.max(x, np.float32(0)), lax.log1p(lax.exp(lax.neg(lax.abs(x)))))


@define("Softsign")
def _softsign(node: Node, x: Any) -> Any:
    x = array(x)
    return lax.div(x, lax.add(lax.abs(x), np.float32(1)))


@define("Erf")
def _erf(node: Node, x: Any) -> Any:
    return lax.erf(array(x))


@define("Gelu")
def _gelu(node: Node, x: Any) -> Any:
    x = array(x)
    half = lax.mul(x, np.float32(0.5))
    if node.get("approximate", "none") == "none":
        return lax.mul(half, lax.add(lax.erf(lax.mul(x, np.float32(math.sqrt(0.5)))), np.float32(1)))
    inner = lax.add(x, lax.mul(lax.integer_pow(x, 3), np.float32(0.044715)))
    return lax.mul(half, lax.add(lax.tanh(lax.mul(inner, np.float32(math.sqrt(2 / math.pi)))), np.float32(1)))


@define("Reciprocal")
def _reciprocal(node: Node, x: Any) -> Any:
    return lax.div(np.float32(1), array(x))


@define("Clip", static=(1, 2))
def _clip(node: Node, x: Any, low: Any = None, high: Any = None) -> Any:
    low = node.get("min") if low is None else scalar(low, "the lower bound")
    high = node.get("max") if high is None else scalar(high, "the upper bound")
    return _clamp(array(x), low, high)


def _clamp(x: Any, low: float | None, high: float | None) -> Any:
    top = float(np.finfo(np.float32).max)  # exporters write ±max for "no bound"
    if low is not None and low > -top:
        x = lax.max(x, x.dtype.type(low))
    if high is not None and high < top:
        x = lax.min(x, x.dtype.type(high))
    return x


@define("Pow", static=(1,))
def _pow(node: Node, x: Any, exponent: Any) -> Any:
    if known(x, exponent):
        return np.power(x, exponent).astype(x.dtype)
    x = array(x)
    if isinstance(exponent, np.ndarray) and exponent.size and np.all(exponent == exponent.flat[0]):
        value, x = float(exponent.flat[0]), expand_to(x, np.broadcast_shapes(x.shape, exponent.shape))
        if value == 0.5:
            return lax.sqrt(x)
        if value.is_integer() and abs(value) < 256:
            return lax.integer_pow(x, int(value))
        return lax.pow(x, np.float32(value))
    x, exponent = align(x, exponent)
    return lax.pow(x, lax.convert_element_type(exponent, x.dtype))


@define("Where")
def _where(node: Node, condition: Any, yes: Any, no: Any) -> Any:
    if known(condition, yes, no):
        return np.where(condition, yes, no)
    shape = np.broadcast_shapes(condition.shape, yes.shape, no.shape)
    if isinstance(condition, np.ndarray) and (np.all(condition) or not np.any(condition)):
        return expand_to(array(yes if np.all(condition) else no), shape)
    condition, yes, no = (expand_to(array(x), shape) for x in (condition, yes, no))
    return lax.select_n(condition, no, yes)


@define("Cast")
def _cast(node: Node, x: Any) -> Any:
    kinds = {1: np.float32, 11: np.float32, 9: np.bool_, 6: np.int32, 7: np.int64, 12: np.uint32, 13: np.uint64}
    if (dtype := kinds.get(node.get("to"))) is None:
        raise NotImplementedError(f"conversion to the ONNX type {node.get('to')}")
    if isinstance(x, np.ndarray):
        return x.astype(dtype)
    if dtype is np.bool_:
        return lax.ne(x, x.dtype.type(0))
    dtype = np.float32 if dtype is np.float32 else np.int32
    return x if x.dtype == dtype else lax.convert_element_type(x, dtype)


@define("CastLike")
def _cast_like(node: Node, x: Any, like: Any) -> Any:
    codes = {"float32": 1, "float64": 1, "bool": 9, "int32": 6, "int64": 7}
    return _cast(Node("Cast", attributes=(("to", codes[str(like.dtype)]),)), x)


@define("Identity", "Dropout", static=(1, 2))
def _identity(node: Node, x: Any, ratio: Any = None, training: Any = None) -> Any:
    if training is not None and bool(scalar(training, "training_mode")):
        raise NotImplementedError("training_mode = 1")
    return x
