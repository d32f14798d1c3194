"""ONNX's recurrent layers: RNN, GRU and LSTM, forwards, backwards or both."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from axiom_jax.interop.onnx.ops import Node, array, define, like

HIGHEST = lax.Precision.HIGHEST
ACTIVATIONS: dict[str, Callable[..., Any]] = {
    "sigmoid": lambda x, a, b: lax.logistic(x),
    "tanh": lambda x, a, b: lax.tanh(x),
    "relu": lambda x, a, b: lax.max(x, like(x, 0)),
    "affine": lambda x, a, b: a * x + b,
    "leakyrelu": lambda x, a, b: jnp.where(x < 0, (0.01 if a is None else a) * x, x),
    "thresholdedrelu": lambda x, a, b: jnp.where(x > (1.0 if a is None else a), x, like(x, 0)),
    "scaledtanh": lambda x, a, b: a * lax.tanh(b * x),
    "hardsigmoid": lambda x, a, b: jnp.clip((0.2 if a is None else a) * x + (0.5 if b is None else b), 0, 1),
    "elu": lambda x, a, b: jnp.where(x < 0, (1.0 if a is None else a) * lax.expm1(x), x),
    "softsign": lambda x, a, b: x / (1 + abs(x)),
    "softplus": lambda x, a, b: jax.nn.softplus(x),
}

TAKES = {"affine": 2, "leakyrelu": 1, "thresholdedrelu": 1, "scaledtanh": 2, "hardsigmoid": 2, "elu": 1}  # alpha, beta


def _activations(node: Node, default: tuple[str, ...], direction: int) -> list[Callable[[Any], Any]]:
    count = len(default)
    names = node.get("activations", default * 2)[: (direction + 1) * count]
    alphas, betas = iter(node.get("activation_alpha", ())), iter(node.get("activation_beta", ()))
    chosen = []
    for name in names:
        function = ACTIVATIONS.get(str(name).lower())
        if function is None:
            raise NotImplementedError(f"the activation {name}")
        takes = TAKES.get(str(name).lower(), 0)  # the values are for the functions that take one, in their order
        a, b = next(alphas, None) if takes > 0 else None, next(betas, None) if takes > 1 else None
        chosen.append(lambda x, f=function, a=a, b=b: f(x, a, b))
    return chosen[direction * count :]


def _clipped(node: Node, x: Any) -> Any:
    limit = node.get("clip")
    return x if limit is None else jnp.clip(x, -limit, limit)


def _times(x: Any, w: Any) -> Any:
    return jnp.matmul(x, w.T, precision=HIGHEST)


def _rnn_step(node: Node, direction: int, w: Any, r: Any, wb: Any, rb: Any, p: Any) -> Callable[..., Any]:
    (f,) = _activations(node, ("Tanh",), direction)

    def step(state: Any, x: Any) -> Any:
        (h,) = state
        return (f(_clipped(node, _times(x, w) + _times(h, r) + wb + rb)),)

    return step


def _gru_step(node: Node, direction: int, w: Any, r: Any, wb: Any, rb: Any, p: Any) -> Callable[..., Any]:
    f, g = _activations(node, ("Sigmoid", "Tanh"), direction)
    (wz, wr, wh), (rz, rr, rh) = jnp.split(w, 3), jnp.split(r, 3)
    (bz, br, bh), (cz, cr, ch) = jnp.split(wb, 3), jnp.split(rb, 3)

    def step(state: Any, x: Any) -> Any:
        (h,) = state
        z = f(_clipped(node, _times(x, wz) + _times(h, rz) + bz + cz))
        r = f(_clipped(node, _times(x, wr) + _times(h, rr) + br + cr))
        if node.get("linear_before_reset", 0):
            new = g(_clipped(node, _times(x, wh) + r * (_times(h, rh) + ch) + bh))
        else:
            new = g(_clipped(node, _times(x, wh) + _times(r * h, rh) + ch + bh))
        return ((1 - z) * new + z * h,)

    return step


def _lstm_step(node: Node, direction: int, w: Any, r: Any, wb: Any, rb: Any, p: Any) -> Callable[..., Any]:
    f, g, last = _activations(node, ("Sigmoid", "Tanh", "Tanh"), direction)
    pi, po, pf = jnp.split(p, 3)

    def step(state: Any, x: Any) -> Any:
        h, c = state
        i, o, forget, new = jnp.split(_times(x, w) + _times(h, r) + wb + rb, 4, -1)
        i = f(_clipped(node, i + pi * c))
        forget = 1 - i if node.get("input_forget", 0) else f(_clipped(node, forget + pf * c))
        c = forget * c + i * g(_clipped(node, new))
        o = f(_clipped(node, o + po * c))
        return o * last(c), c

    return step


_KINDS = {"RNN": (_rnn_step, 1), "GRU": (_gru_step, 3), "LSTM": (_lstm_step, 4)}


@define("RNN", "GRU", "LSTM")
def _recurrent(node: Node, x: Any, w: Any, r: Any, b: Any = None, lengths: Any = None, h: Any = None, c: Any = None,
               p: Any = None) -> Any:  # fmt: skip
    make, gates = _KINDS[node.op]
    x, w, r = array(x), array(w), array(r)
    if node.get("layout", 0):  # batch first
        x = jnp.swapaxes(x, 0, 1)
        h, c = (None if v is None else jnp.swapaxes(array(v), 0, 1) for v in (h, c))
    directions, size, batch = w.shape[0], r.shape[-1], x.shape[1]
    b = jnp.zeros((directions, 2 * gates * size), x.dtype) if b is None else array(b)
    p = jnp.zeros((directions, 3 * size), x.dtype) if p is None else array(p)
    start = [jnp.zeros((directions, batch, size), x.dtype) if v is None else array(v) for v in (h, c)]
    ends = None if lengths is None else array(lengths)
    outputs, finals = [], []
    for d in range(directions):
        back = d == 1 or node.get("direction", "forward") == "reverse"
        wb, rb = jnp.split(b[d], 2)
        step = make(node, d, w[d], r[d], wb, rb, p[d])
        state = tuple(v[d] for v in start[: 2 if node.op == "LSTM" else 1])
        y, final = _scanned(step, state, x, ends, back)
        outputs.append(y)
        finals.append(final)
    y = jnp.stack(outputs, 1)
    last = [jnp.stack(parts) for parts in zip(*finals, strict=True)]
    if node.get("layout", 0):
        y, last = jnp.transpose(y, (2, 0, 1, 3)), [jnp.swapaxes(v, 0, 1) for v in last]
    return (y, *last)


def _scanned(step: Any, state: Any, x: Any, ends: Any, back: bool) -> tuple[Any, Any]:
    """The states over time; past the end of a row its state stays and what is given out is 0."""

    def one(state: Any, given: Any) -> Any:
        row, time = given
        new = step(state, row)
        if ends is None:
            return new, new[0]
        inside = (time < ends)[:, None]
        kept = tuple(jnp.where(inside, a, b) for a, b in zip(new, state, strict=True))
        return kept, jnp.where(inside, new[0], like(row, 0))

    final, y = lax.scan(one, state, (x, jnp.arange(x.shape[0], dtype=np.int32)), reverse=back)
    return y, final
