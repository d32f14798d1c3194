"""ONNX nodes for primitives that act on each element alone."""

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from axiom_jax._program import Equation
from axiom_jax.interop.onnx.emit import ONNX, POINTWISE, aligned, pointwise
from axiom_jax.interop.onnx.graph import NotInOnnx, Sheet, Value

Pen = Callable[..., Value]
TESTS = {"Equal", "Less", "LessOrEqual", "Greater", "GreaterOrEqual", "Not", "And", "Or", "Xor", "IsNaN", "IsInf"}


def elementwise(*primitives: str) -> Callable[[Any], Any]:
    """Register an emitter `(pen, eqn, *values)` whose nodes are written with `pen(op, *values)`.

    The pen keeps the form of its operands; numbers that it gets take their dtype.
    """

    def register(rule: Any) -> Any:
        @functools.wraps(rule)
        def emitter(sheet: Sheet, eqn: Equation, *values: Value) -> Value:
            return rule(pen_of(sheet, eqn.output.shape), eqn, *values)

        for primitive in primitives:
            ONNX.define(primitive, emitter)
            POINTWISE.add(primitive)
        return rule

    return register


def pen_of(sheet: Sheet, shape: Sequence[Any]) -> Pen:
    """A function that writes elementwise nodes over one shape: `pen(op, *values or numbers, **attributes)`."""

    def pen(op: str, *values: Any, dtype: Any = None, **attributes: Any) -> Value:
        like = next(v.dtype for v in values if isinstance(v, Value))
        given = [v if isinstance(v, Value) else sheet.constant(np.asarray(v, like)) for v in values]
        if op == "Cast":
            return sheet.cast(given[0], dtype)
        return pointwise(sheet, op, given, shape, np.bool_ if op in TESTS else given[-1].dtype, **attributes)

    pen.sheet = sheet  # pyright: ignore[reportFunctionMemberAccess]
    return pen


for _primitive, _op in {
    "neg": "Neg", "abs": "Abs", "sign": "Sign", "floor": "Floor", "ceil": "Ceil", "exp": "Exp",
    "log": "Log", "sqrt": "Sqrt", "sin": "Sin", "cos": "Cos", "tan": "Tan", "asin": "Asin", "acos": "Acos",
    "atan": "Atan", "sinh": "Sinh", "cosh": "Cosh", "asinh": "Asinh", "acosh": "Acosh", "atanh": "Atanh",
    "tanh": "Tanh", "logistic": "Sigmoid", "erf": "Erf", "pow": "Pow",
}.items():  # fmt: skip
    elementwise(_primitive)(functools.partial(lambda op, pen, eqn, *values: pen(op, *values), _op))


@elementwise("sub", "mul")
def _arithmetic(pen: Pen, eqn: Equation, a: Value, b: Value) -> Value:
    """Numbers that change nothing, not even a sign, are left out."""
    if eqn.name == "mul" and a.constant is not None:
        a, b = b, a
    if _is(b, 0 if eqn.name == "sub" else 1) and a.constant is None and b.stored == ():
        return a
    return pen("Sub" if eqn.name == "sub" else "Mul", a, b)


for _primitive, _op in {"eq": "Equal", "lt": "Less", "le": "LessOrEqual", "gt": "Greater",
                        "ge": "GreaterOrEqual"}.items():  # fmt: skip
    elementwise(_primitive)(functools.partial(lambda op, pen, eqn, a, b: _compare(pen, op, a, b), _op))


def _compare(pen: Pen, op: str, a: Value, b: Value) -> Value:
    if a.dtype == np.bool_ and op != "Equal":
        a, b = (pen("Cast", v, dtype=np.int32) for v in (a, b))
    return pen(op, a, b)


@elementwise("ne")
def _ne(pen: Pen, eqn: Equation, a: Value, b: Value) -> Value:
    return pen("Not", pen("Equal", a, b))


@elementwise("max", "min")
def _extreme(pen: Pen, eqn: Equation, a: Value, b: Value) -> Value:
    if a.dtype == np.bool_:
        return pen("Or" if eqn.name == "max" else "And", a, b)
    zero = eqn.name == "max" and next((v for v in (a, b) if _is(v, 0)), None)
    if zero and a.dtype.kind != "u":
        return pen("Relu", b if zero is a else a)
    return pen("Max" if eqn.name == "max" else "Min", a, b)


def _is(value: Value, number: float) -> bool:
    return value.constant is not None and value.constant.size == 1 and bool(np.all(value.constant == number))


@elementwise("rem")
def _rem(pen: Pen, eqn: Equation, a: Value, b: Value) -> Value:
    return pen("Mod", a, b, fmod=1)


@elementwise("integer_pow")
def _integer_pow(pen: Pen, eqn: Equation, x: Value) -> Value:
    y = eqn.params["y"]
    if y == 2:
        return pen("Mul", x, x)
    if y == -1:
        return pen("Reciprocal", x)
    return pen("Pow", x, y)


@elementwise("square")
def _square(pen: Pen, eqn: Equation, x: Value) -> Value:
    return pen("Mul", x, x)


@elementwise("one_minus_square")  # the slope of tanh, a primitive from jax 0.12 on
def _one_minus_square(pen: Pen, eqn: Equation, x: Value) -> Value:
    return pen("Sub", _one(pen, x), pen("Mul", x, x))


@elementwise("rsqrt")
def _rsqrt(pen: Pen, eqn: Equation, x: Value) -> Value:
    return pen("Reciprocal", pen("Sqrt", x))


@elementwise("cbrt")
def _cbrt(pen: Pen, eqn: Equation, x: Value) -> Value:
    return pen("Mul", pen("Sign", x), pen("Pow", pen("Abs", x), 1 / 3))


@elementwise("exp2")
def _exp2(pen: Pen, eqn: Equation, x: Value) -> Value:
    return pen("Exp", pen("Mul", x, math.log(2)))


@elementwise("log1p")
def _log1p(pen: Pen, eqn: Equation, x: Value) -> Value:
    """log(u) x / (u - 1) with u = 1 + x rounded, which is exact to the last bits (Goldberg 1991, theorem 4)."""
    u = pen("Add", x, 1)
    rest = pen("Sub", u, 1)
    small = pen("Equal", rest, 0)
    unbounded = pen("Equal", u, math.inf)
    divisor = pen("Where", pen("Or", small, unbounded), _one(pen, x), rest)
    factor = pen("Where", unbounded, _one(pen, x), pen("Div", x, divisor))
    return pen("Where", small, x, pen("Mul", pen("Log", u), factor))


@elementwise("expm1")
def _expm1(pen: Pen, eqn: Equation, x: Value) -> Value:
    """2 tanh(x/2) / (1 - tanh(x/2)) for small x, exp(x) - 1 for others."""
    near = pen("Less", pen("Abs", x), 0.5)
    half = pen("Tanh", pen("Mul", pen("Where", near, x, _zero(pen, x)), 0.5))
    return pen("Where", near, pen("Div", pen("Add", half, half), pen("Sub", _one(pen, x), half)),
               pen("Sub", pen("Exp", x), 1))  # fmt: skip


def _one(pen: Any, like: Value) -> Value:
    return pen.sheet.constant(np.ones((), like.dtype))


def _zero(pen: Any, like: Value) -> Value:
    return pen.sheet.constant(np.zeros((), like.dtype))


@elementwise("erfc")
def _erfc(pen: Pen, eqn: Equation, x: Value) -> Value:
    return pen("Sub", _one(pen, x), pen("Erf", x))


@elementwise("round")
def _round(pen: Pen, eqn: Equation, x: Value) -> Value:
    if int(eqn.params["rounding_method"]) == 1:
        return pen("Round", x)
    whole = pen("Floor", pen("Abs", x))
    away = pen("Cast", pen("GreaterOrEqual", pen("Sub", pen("Abs", x), whole), 0.5), dtype=x.dtype)
    return pen("Mul", pen("Sign", x), pen("Add", whole, away))


@elementwise("is_finite")
def _is_finite(pen: Pen, eqn: Equation, x: Value) -> Value:
    return pen("Less", pen("Abs", x), math.inf)


@elementwise("atan2")
def _atan2(pen: Pen, eqn: Equation, y: Value, x: Value) -> Value:
    slope = pen("Atan", pen("Div", y, pen("Where", pen("Equal", x, 0), _one(pen, x), x)))
    below = pen("Less", y, 0)
    turn = pen("Where", below, *(pen.sheet.constant(np.asarray(v, y.dtype)) for v in (-math.pi, math.pi)))  # pyright: ignore[reportFunctionMemberAccess]
    wide = pen("Where", pen("Less", x, 0), pen("Add", slope, turn), slope)
    upright = pen("Mul", pen("Sign", y), math.pi / 2)
    return pen("Where", pen("Equal", x, 0), upright, wide)


@elementwise("and", "or", "xor", "not")
def _logic(pen: Pen, eqn: Equation, *values: Value) -> Value:
    name = eqn.name.capitalize()
    if values[0].dtype == np.bool_:
        return pen(name, *values)
    _require_opset(pen, 18, "bitwise operations on integers")
    return pen("Bitwise" + name, *values)


@elementwise("shift_left", "shift_right_logical")
def _shift(pen: Pen, eqn: Equation, x: Value, by: Value) -> Value:
    if x.dtype.kind != "u":
        raise NotInOnnx("shifts of signed integers")
    return pen("BitShift", x, by, direction="LEFT" if eqn.name == "shift_left" else "RIGHT")


def _require_opset(pen: Any, opset: int, what: str) -> None:
    if pen.sheet.opset < opset:
        raise NotInOnnx(f"{what} need opset {opset}")


@elementwise("select_n")
def _select(pen: Pen, eqn: Equation, which: Value, *cases: Value) -> Value:
    known = which.constant
    if known is not None and known.size and (known == known.flat[0]).all() and 0 <= int(known.flat[0]) < len(cases):
        return replace(cases[int(known.flat[0])], shape=eqn.output.shape)
    if which.dtype == np.bool_:
        return pen("Where", which, cases[1], cases[0])
    chosen = cases[-1]
    for i in reversed(range(len(cases) - 1)):
        chosen = pen("Where", pen("Equal", which, i), cases[i], chosen)
    return chosen


@elementwise("clamp")
def _clamp(pen: Pen, eqn: Equation, low: Value, x: Value, high: Value) -> Value:
    if low.stored == high.stored == ():
        return pen("Clip", x, low, high)
    return pen("Min", pen("Max", x, low), high)


@elementwise("convert_element_type")
def _convert(pen: Pen, eqn: Equation, x: Value) -> Value:
    if x.dtype == np.bool_ and x.constant is None:
        y = pen("Cast", x, dtype=eqn.output.dtype)
        pen.sheet.cache["truth", y.name] = x  # pyright: ignore[reportFunctionMemberAccess]
        return y
    if eqn.output.dtype.kind == "u" and x.dtype.kind == "f":
        return pen("Cast", pen("Cast", x, dtype=np.int64), dtype=eqn.output.dtype)
    return pen("Cast", x, dtype=eqn.output.dtype)


@elementwise("reduce_precision")
def _reduce_precision(pen: Pen, eqn: Equation, x: Value) -> Value:
    import jax.numpy as jnp

    kinds = {(8, 7): jnp.bfloat16, (5, 10): np.float16, (8, 23): np.float32}
    kind = kinds.get((eqn.params["exponent_bits"], eqn.params["mantissa_bits"]))
    if kind is None:
        raise NotInOnnx("a precision that is no dtype")
    return pen("Cast", pen("Cast", x, dtype=kind), dtype=x.dtype)


@elementwise("shift_right_arithmetic")
def _shift_right(pen: Pen, eqn: Equation, x: Value, by: Value) -> Value:
    """The quotient by a power of two, rounded down: truncation of x - (x mod 2^by)."""
    if by.constant is None or by.constant.max(initial=0) >= x.dtype.itemsize * 8 - 1:
        raise NotInOnnx("shifts by a number that is computed")
    divisor = replace(by, constant=(1 << by.constant.astype(np.int64)).astype(x.dtype), dtype=x.dtype)
    return pen("Div", pen("Sub", x, pen("Mod", x, divisor)), divisor)


@elementwise("lgamma", "digamma", "erf_inv", "nextafter", "population_count", "clz")
def _nothing(pen: Pen, eqn: Equation, *values: Value) -> Value:
    raise NotInOnnx("ONNX has no such function")


def _add(sheet: Sheet, eqn: Equation, a: Value, b: Value) -> Value:
    """A sum; a product or a convolution takes a constant as its bias."""
    for var, x, bias in ((eqn.inputs[0], a, b), (eqn.inputs[1], b, a)):
        if sheet.uses[var] == 1 and (done := _with_bias(sheet, x, bias)) is not None:
            return replace(done, shape=eqn.output.shape)
    return pointwise(sheet, "Add", [a, b], eqn.output.shape, eqn.output.dtype)


def _with_bias(sheet: Sheet, x: Value, bias: Value) -> Value | None:
    node = sheet.nodes[-1] if sheet.nodes else None
    if node is None or list(node.output) != [x.name] or bias.constant is None or bias.dtype != x.dtype:
        return None
    axis = {"Conv": 1, "ConvTranspose": 1, "MatMul": x.rank - 1, "Gemm": x.rank - 1}.get(node.op_type)
    if axis is None or len(node.input) > 2 or (node.op_type == "MatMul" and not _is_gemm(sheet, x)):
        return None
    channels = x.stored[axis]
    (bias,), _ = aligned(sheet, [bias], x.rank) if x.ordered else ([_along(sheet, bias, x)], None)
    sizes = (1,) * (x.rank - len(bias.stored)) + bias.stored
    if any(n != 1 for d, n in enumerate(sizes) if d != axis) or sizes[axis] not in (1, channels):
        return None
    row = bias.constant
    assert row is not None
    vector = sheet.constant(np.ascontiguousarray(np.broadcast_to(row.reshape(-1), (channels,))), bias.hint)
    node.input.append(sheet.name(vector))
    return _renamed(sheet, node, "Gemm", x) if node.op_type == "MatMul" else x


def _is_gemm(sheet: Sheet, x: Value) -> bool:
    return x.rank == 2 and x.dtype.kind == "f" and sheet.cache.get(("flat", x.name), False)


def _along(sheet: Sheet, bias: Value, x: Value) -> Value:
    return bias if bias.rank == 0 else sheet.arranged(replace(bias, shape=x.shape, order=tuple(range(x.rank))), x.order)


def _divide(sheet: Sheet, eqn: Equation, a: Value, b: Value) -> Value:
    """A quotient; a sum over a number of elements is a mean."""
    node = sheet.nodes[-1] if sheet.nodes else None
    number = float(b.constant.reshape(())) if b.constant is not None and b.constant.size == 1 else None
    if node is not None and number is not None and list(node.output) == [a.name] and sheet.uses[eqn.inputs[0]] == 1:
        if node.op_type == "ReduceSum" and number == sheet.cache.get(("reduced", a.name)):
            return _renamed(sheet, node, "ReduceMean", a)
        if sheet.cache.get(("window", a.name)) == number:  # the product that made an average a sum
            sheet.nodes.pop()
            return replace(a, name=node.input[0])
    return pointwise(sheet, "Div", [a, b], eqn.output.shape, eqn.output.dtype)


def _renamed(sheet: Sheet, node: Any, op: str, x: Value) -> Value:
    """The last node as another operator."""
    if op == "ReduceMean" and sheet.opset < 18:  # where the axes are an attribute still
        from onnx import helper

        axes = sheet.initializers[node.input.pop()]
        node.attribute.append(helper.make_attribute("axes", axes.tolist()))
    node.op_type, node.name = op, sheet.fresh(op)
    node.output[0] = node.name
    return replace(x, name=node.name)


ONNX.define("div", _divide)
POINTWISE.add("div")
ONNX.define("add", _add)
ONNX.define("add_any", _add)
POINTWISE.update({"add", "add_any"})
