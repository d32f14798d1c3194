"""Operators that work element by element."""

from fractions import Fraction
from functools import reduce
from typing import Any

import numpy as np

from axiom_jax.verification.proof.onnx_replay import reals
from axiom_jax.verification.proof.onnx_replay.reals import Array, Reals, Undecided, of_fractions, real
from axiom_jax.verification.proof.onnx_replay.table import Node, Unknown, both_real, broadcast, operator

ONE = of_fractions([Fraction(1)], ())
ZERO = of_fractions([Fraction(0)], ())


def constant(value: Any) -> Reals:
    """A number, exactly."""
    return of_fractions([Fraction(value)], ())


def plus(a: Reals, b: Reals) -> Reals:
    return reals.add(*both_real(a, b))


def minus(a: Reals, b: Reals) -> Reals:
    return plus(a, reals.neg(b))


def times(a: Reals, b: Reals) -> Reals:
    return reals.mul(*both_real(a, b))


def over(a: Reals, b: Reals) -> Reals:
    return times(a, reals.inverse(b))


def relu(x: Reals) -> Reals:
    return reals.monotone(x, lambda v: np.maximum(v, 0))


def leaky(x: Reals, slope: Reals) -> Reals:
    """x above 0, slope · x below."""
    return minus(relu(x), times(slope, relu(reals.neg(x))))


def exp(x: Reals) -> Reals:
    return reals.smooth(x, "exp")


def _integral(*operands: Array) -> bool:
    return not any(isinstance(x, Reals) for x in operands)


@operator("Add")
def _add(node: Node, a: Array, b: Array) -> Array:
    return np.add(a, b) if _integral(a, b) else plus(a, b)


@operator("Sub")
def _sub(node: Node, a: Array, b: Array) -> Array:
    return np.subtract(a, b) if _integral(a, b) else minus(real(a), real(b))


@operator("Mul")
def _mul(node: Node, a: Array, b: Array) -> Array:
    return np.multiply(a, b) if _integral(a, b) else times(a, b)


@operator("Div")
def _div(node: Node, a: Array, b: Array) -> Array:
    """Of integers: rounded towards zero."""
    if not _integral(a, b):
        return over(real(a), real(b))
    if np.any(b == 0):
        raise Undecided("a division by 0")
    quotient = np.abs(a) // np.abs(b)
    return np.where((a < 0) == (b < 0), quotient, -quotient).astype(a.dtype)


@operator("Sum")
def _sum(node: Node, *parts: Array) -> Array:
    return reduce(plus, map(real, parts))


@operator("Mean")
def _mean(node: Node, *parts: Array) -> Array:
    return times(reduce(plus, map(real, parts)), constant(Fraction(1, len(parts))))


@operator("Max", "Min")
def _extreme(node: Node, *parts: Array) -> Array:
    if _integral(*parts):
        return reduce(np.maximum if node.op == "Max" else np.minimum, parts)
    of = reals.maximum if node.op == "Max" else reals.minimum
    return reduce(lambda a, b: of(*both_real(a, b)), parts)


@operator("Neg")
def _neg(node: Node, x: Array) -> Array:
    return -x if _integral(x) else reals.neg(x)


@operator("Abs")
def _abs(node: Node, x: Array) -> Array:
    return abs(x) if _integral(x) else reals.maximum(x, reals.neg(x))


@operator("Sign")
def _sign(node: Node, x: Array) -> Array:
    if _integral(x):
        return np.sign(x)
    if x.exact:
        signs = np.asarray((x.lo > 0).astype(int) - (x.lo < 0).astype(int), object)
        return Reals(signs, signs)
    positive = reals.greater(x, broadcast(ZERO, x)[0])
    return real(np.where(positive, 1, -1))


@operator("Relu")
def _relu(node: Node, x: Array) -> Array:
    return relu(real(x))


@operator("LeakyRelu")
def _leaky_relu(node: Node, x: Reals) -> Reals:
    return leaky(x, constant(node.get("alpha", Fraction(float(np.float32(0.01))))))


@operator("PRelu")
def _prelu(node: Node, x: Reals, slope: Reals) -> Reals:
    return leaky(x, slope)


@operator("ThresholdedRelu")
def _thresholded(node: Node, x: Reals) -> Reals:
    above = reals.greater(*both_real(x, constant(node.get("alpha", 1))))
    return times(x, real(above))


@operator("Clip")
def _clip(node: Node, x: Array, *limits: Array | None) -> Array:
    """Opset 6: limits are attributes; from 11 operands. A lower limit above the upper one gives the upper one."""
    low, high = [*limits, None, None][:2]
    if node.opset < 11:
        low, high = (None if (v := node.get(k)) is None else constant(v) for k in ("min", "max"))
    if low is not None:
        x = _extreme(Node("Max", node.opset), x, low)
    return x if high is None else _extreme(Node("Min", node.opset), x, high)


@operator("Exp")
def _exp(node: Node, x: Reals) -> Reals:
    return exp(x)


@operator("Sigmoid")
def _sigmoid(node: Node, x: Reals) -> Reals:
    return reals.smooth(x, "logistic")


@operator("Tanh")
def _tanh(node: Node, x: Reals) -> Reals:
    return reals.smooth(x, "tanh")


@operator("Log")
def _log(node: Node, x: Reals) -> Reals:
    return reals.smooth(x, "log")


@operator("Erf")
def _erf(node: Node, x: Reals) -> Reals:
    return reals.smooth(x, "erf")


@operator("Sin")
def _sin(node: Node, x: Reals) -> Reals:
    return reals.smooth(x, "sin")


@operator("Cos")
def _cos(node: Node, x: Reals) -> Reals:
    return reals.smooth(x, "cos")


@operator("Atan")
def _atan(node: Node, x: Reals) -> Reals:
    return reals.smooth(x, "atan")


@operator("Sqrt")
def _sqrt(node: Node, x: Reals) -> Reals:
    return reals.smooth(x, "sqrt")


@operator("Reciprocal")
def _reciprocal(node: Node, x: Reals) -> Reals:
    return reals.inverse(x)


@operator("Swish")
def _swish(node: Node, x: Reals) -> Reals:
    return times(x, reals.smooth(times(x, constant(node.get("alpha", 1))), "logistic"))


@operator("Softsign")
def _softsign(node: Node, x: Reals) -> Reals:
    return over(x, plus(ONE, reals.maximum(x, reals.neg(x))))


@operator("HardSigmoid")
def _hard_sigmoid(node: Node, x: Reals) -> Reals:
    alpha, beta = (constant(node.get(k, Fraction(float(np.float32(v))))) for k, v in (("alpha", 0.2), ("beta", 0.5)))
    return _unit(plus(times(alpha, x), beta))


@operator("HardSwish")
def _hard_swish(node: Node, x: Reals) -> Reals:
    """The standard defines it by HardSigmoid with the float32 number nearest to 1/6."""
    return times(x, _unit(plus(times(constant(float(np.float32(1 / 6))), x), constant(Fraction(1, 2)))))


def _unit(x: Reals) -> Reals:
    return reals.minimum(*both_real(relu(x), ONE))


@operator("Elu")
def _elu(node: Node, x: Reals) -> Reals:
    """x above 0, alpha (exp(x) − 1) below."""
    return plus(relu(x), times(constant(node.get("alpha", 1)), _below(x)))


def _below(x: Reals) -> Reals:
    """exp(x) − 1 below 0, 0 above."""
    return minus(exp(reals.minimum(*both_real(x, ZERO))), ONE)


@operator("Celu")
def _celu(node: Node, x: Reals) -> Reals:
    """x above 0, alpha (exp(x / alpha) − 1) below, for alpha > 0."""
    alpha = constant(node.get("alpha", 1))
    if node.get("alpha", 1) <= 0:
        raise Unknown("Celu whose alpha is not positive")
    return plus(relu(x), times(alpha, _below(over(x, alpha))))


@operator("Selu")
def _selu(node: Node, x: Reals) -> Reals:
    alpha = constant(node.get("alpha", Fraction(float(np.float32(1.67326319217681884765625)))))
    gamma = constant(node.get("gamma", Fraction(float(np.float32(1.05070102214813232421875)))))
    return times(gamma, plus(relu(x), times(alpha, _below(x))))


@operator("Pow")
def _pow(node: Node, x: Array, y: Array) -> Array:
    """Whole powers, and ±1/2, the same for all elements."""
    powers = {a for pair in real(y).fractions() for a in pair}
    if len(powers) != 1 or (y.size != 1 and y.shape != x.shape):
        raise Unknown("Pow of several powers")
    power, base = powers.pop(), broadcast(real(x), real(y))[0]
    if power in (Fraction(1, 2), Fraction(-1, 2)):
        root = reals.smooth(base, "sqrt")
        return root if power > 0 else reals.inverse(root)
    if power.denominator != 1 or abs(power) > 64:
        raise Unknown("Pow of a power that is not a small whole number")
    result = broadcast(ONE, base)[0]
    for _ in range(abs(int(power))):
        result = times(result, base)
    if not result.exact and power % 2 == 0:  # an even power of a number on both sides of 0
        result = relu(result)
    return reals.inverse(result) if power < 0 else result


@operator("Greater", "Less", "GreaterOrEqual", "LessOrEqual")
def _compare(node: Node, a: Array, b: Array) -> np.ndarray:
    a, b = both_real(a, b)
    a, b = (b, a) if node.op.startswith("Less") else (a, b)
    return ~reals.greater(b, a) if node.op.endswith("Equal") else reals.greater(a, b)


@operator("Equal")
def _equal(node: Node, a: Array, b: Array) -> np.ndarray:
    if _integral(a, b):
        return np.equal(a, b)
    a, b = both_real(a, b)
    if not (a.exact and b.exact):
        raise Undecided("an equality of enclosed numbers")
    a, b = reals.common([a, b])
    return np.asarray(a.lo == b.lo, bool)


@operator("Not")
def _not(node: Node, x: np.ndarray) -> np.ndarray:
    return ~x


@operator("And", "Or", "Xor")
def _logic(node: Node, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return {"And": np.logical_and, "Or": np.logical_or, "Xor": np.logical_xor}[node.op](a, b)


@operator("Where")
def _where(node: Node, condition: np.ndarray, a: Array, b: Array) -> Array:
    if _integral(a, b):
        return np.where(condition, a, b)
    shape = np.broadcast_shapes(condition.shape, a.shape, b.shape)
    chosen = np.broadcast_to(condition, shape)
    a, b = reals.common([real(x) for x in broadcast(a, b, chosen)[:2]])
    lo = np.where(chosen, a.lo, b.lo)
    return Reals(lo, lo if a.exact and b.exact else np.where(chosen, a.hi, b.hi), a.den)


@operator("Identity", "Dropout")
def _identity(node: Node, x: Array, *_: Any) -> Array:
    """Dropout as it is after training."""
    if len([name for name in node.outputs if name]) > 1 or (len(_) > 1 and _[1] is not None and bool(np.any(_[1]))):
        raise Unknown(f"{node.op} that trains, or whose mask is read")
    return x


@operator("Cast", "CastLike")
def _cast(node: Node, x: Array, like: Array | None = None) -> Array:
    """Real numbers stay; whole numbers and truth values become them, or the other way where nothing is rounded."""
    if node.op == "CastLike":
        to = "f" if isinstance(like, Reals) else like.dtype.kind  # pyright: ignore[reportOptionalMemberAccess]
    else:
        to = {1: "f", 10: "h", 11: "f", 16: "h", 9: "b"}.get(int(node.get("to", 0)), "i")
    if to == "h":
        raise Unknown("Cast to half precision")
    if to == "f":
        return real(x)
    if _integral(x):
        return x.astype(bool) if to == "b" else x.astype(np.int64)
    if not x.exact or any(v % x.den for v in x.lo.ravel().tolist()):
        raise Undecided("a conversion of what is not whole")
    whole = np.array([v // x.den for v in x.lo.ravel().tolist()], np.int64).reshape(x.shape)
    return whole.astype(bool) if to == "b" else whole
