"""How far a float32 execution of a certificate's program may be from the exact numbers at a point.

An estimate, not a bound: roundings are taken as independent, which for long sums is what is seen, and the result is
multiplied by a factor that covers what is not. Source: Higham and Mary 2019, A new approach to probabilistic rounding
error analysis, SIAM J. Sci. Comput. 41.
"""

from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import numpy as np

UNIT = 2.0**-24  # of a rounding to nearest
ULPS = 10.0  # units that a smooth function, a root or a constant that was computed may be off
FACTOR = 8.0  # for roundings that are not independent otherwise than is thought of here
LEAST = 2.0**-100  # what flushing subnormal numbers may cost


def tolerances(network: Any, points: Sequence[Sequence[Fraction]]) -> list[np.ndarray]:
    """For each point and every output how far a float32 result may be off.

    Args:
        network: the checker's reading of a program, `checker.load_network(...)`.
        points: flat inputs that are float32 numbers.
    """
    constants = {k: _constant(network, k) for k in network.constants}
    found = []
    with np.errstate(all="ignore"):  # what overflows gives no tolerance, or an endless one
        for point in points:
            values = {0: (np.array([float(x) for x in point]), np.zeros(len(point))), **constants}
            for k in network.order:
                node = network.nodes[k]
                values[k] = _step(node, [values[i] for i in node.of])
            found.append(FACTOR * np.nan_to_num(values[network.output][1], nan=np.inf) + LEAST)
    return found


def _constant(network: Any, k: int) -> tuple[np.ndarray, np.ndarray]:
    lo, _, den = network.constants[k]
    value = np.array([x / den for x in lo])
    return value, np.zeros(len(lo)) if _as_given(network, k) else ULPS * UNIT * abs(value)


def _as_given(network: Any, k: int) -> bool:
    """Whether a constant consists of elements of tensors, none of them computed."""
    while network.nodes[k].op in ("take", "neg"):
        (k,) = network.nodes[k].of
    return network.nodes[k].op == "tensor"


def _step(node: Any, args: list[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    """The value of a node, and the estimate of its error."""
    if node.terms:
        value, squares = np.zeros(node.size), np.zeros(node.size)
        for place, index, sign in node.terms:
            v, e = (np.append(x, 0.0) for x in args[place])
            v, e = (v[:-1], e[:-1]) if index is None else (v[index], e[index])
            value, squares = value + sign * v, squares + e * e
        return value, np.sqrt(squares) + UNIT * abs(value)
    (x, ex), (y, ey) = args[0], args[-1]
    if node.op == "relu":
        return np.maximum(x, 0), np.where(x > -FACTOR * ex, ex, 0)
    if node.op == "gate":
        unsure = abs(x) <= FACTOR * ex + LEAST
        return np.where(x > 0, y, 0), ey + np.where(unsure, abs(y), 0)
    if node.op == "matmul":
        m, k, n = node.shape
        a, ea, w, ew = (v.reshape(s) for v, s in ((x, (m, k)), (ex, (m, k)), (y, (k, n)), (ey, (k, n))))
        value, own = a @ w, UNIT * (abs(a) @ abs(w))
        shared = (np.sign(a) * ea) @ w  # of operands that are all off alike
        along = UNIT * np.sqrt(k) * abs(value)  # of a sum of one sign, taken one after the other
        return value.ravel(), np.sqrt((ea**2) @ (w**2) + (a**2) @ (ew**2) + own**2 + shared**2 + along**2).ravel()
    if node.op in ("mul", "div"):
        inverse = y if node.op == "mul" else 1 / y
        value, other = x * inverse, ey if node.op == "mul" else ey * inverse**2
        return value, np.hypot(ex * abs(inverse), abs(x) * other) + ex * other + UNIT * abs(value)
    from scipy.special import erf  # takes a while to import

    value = {"exp": np.exp, "tanh": np.tanh, "sqrt": np.sqrt, "square": np.square, "reciprocal": np.reciprocal,
             "log": np.log, "erf": erf, "sin": np.sin, "cos": np.cos, "atan": np.arctan,
             "logistic": lambda v: 1 / (1 + np.exp(-v))}[node.op](x)  # fmt: skip
    slope = {"exp": value, "tanh": 1 - value**2, "sqrt": 0.5 / np.maximum(value, np.sqrt(ex)), "square": 2 * x,
             "reciprocal": value**2, "log": 1 / x, "erf": 1.2, "sin": 1.0, "cos": 1.0, "atan": 1.0,
             "logistic": value * (1 - value)}[node.op]  # fmt: skip
    return value, np.where(ex > 0, abs(slope) * ex, 0) + ULPS * UNIT * abs(value)
