"""What ATen's recurrent layers mean in JAX: one scan a layer and direction. Source: the pages of nn.LSTM, nn.GRU."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from axiom_jax.interop.torch.graph import define

Cell = Callable[..., Any]


def _affine(x: Any, weight: Any, bias: Any) -> Any:
    y = jnp.matmul(x, weight.T)
    return y if bias is None else y + bias


def _lstm_cell(state: Any, gates: Any, hidden: Any, bias: Any, projection: Any) -> Any:
    h, c = state
    i, f, g, o = jnp.split(gates + _affine(h, hidden, bias), 4, -1)
    c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
    h = jax.nn.sigmoid(o) * jnp.tanh(c)
    return (h if projection is None else jnp.matmul(h, projection.T), c)


def _gru_cell(state: Any, gates: Any, hidden: Any, bias: Any, projection: Any) -> Any:
    (h,) = state
    (ri, zi, ni), (rh, zh, nh) = jnp.split(gates, 3, -1), jnp.split(_affine(h, hidden, bias), 3, -1)
    z = jax.nn.sigmoid(zi + zh)
    n = jnp.tanh(ni + jax.nn.sigmoid(ri + rh) * nh)
    return ((1 - z) * n + z * h,)


def _simple_cell(activation: Callable[[Any], Any]) -> Cell:
    return lambda state, gates, hidden, bias, _: (activation(gates + _affine(state[0], hidden, bias)),)


def _recurrent(cell: Cell, x: Any, states: Sequence[Any], weights: Sequence[Any], has_biases: bool, layers: int,
               train: bool, dropout: float, bidirectional: bool, batch_first: bool) -> tuple[Any, ...]:  # fmt: skip
    """The outputs of the last layer, and the last states of every layer and direction, stacked."""
    if train and dropout:
        raise NotImplementedError("dropout in training mode: export the module in eval mode")
    x = jnp.swapaxes(x, 0, 1) if batch_first else x
    directions = 2 if bidirectional else 1
    each = len(weights) // (layers * directions)
    ends: list[Any] = []
    for layer in range(layers):
        outputs = []
        for direction in range(directions):
            number = layer * directions + direction
            own = list(weights[number * each : (number + 1) * each])
            projection = own.pop() if each == (5 if has_biases else 3) else None
            w_in, w_hidden, b_in, b_hidden = own if has_biases else (*own, None, None)

            def step(state: Any, gates: Any, fixed: Any = (w_hidden, b_hidden, projection)) -> Any:
                state = cell(state, gates, *fixed)
                return state, state[0]

            start = tuple(state[number] for state in states)
            end, row = lax.scan(step, start, _affine(x, w_in, b_in), reverse=direction == 1)
            ends.append(end)
            outputs.append(row)
        x = jnp.concatenate(outputs, -1) if bidirectional else outputs[0]
    last = tuple(jnp.stack(part) for part in zip(*ends, strict=True))
    return jnp.swapaxes(x, 0, 1) if batch_first else x, *last


@define("lstm.input")
def _lstm(x: Any, hx: Sequence[Any], params: Sequence[Any], has_biases: bool, num_layers: int, dropout: float,
          train: bool, bidirectional: bool, batch_first: bool) -> Any:  # fmt: skip
    return _recurrent(_lstm_cell, x, hx, params, has_biases, num_layers, train, dropout, bidirectional, batch_first)


def _one_state(cell: Cell) -> Any:
    def run(x: Any, hx: Any, params: Sequence[Any], has_biases: bool, num_layers: int, dropout: float, train: bool,
            bidirectional: bool, batch_first: bool) -> Any:  # fmt: skip
        return _recurrent(cell, x, [hx], params, has_biases, num_layers, train, dropout, bidirectional, batch_first)

    return run


define("gru.input")(_one_state(_gru_cell))
define("rnn_tanh.input")(_one_state(_simple_cell(jnp.tanh)))
define("rnn_relu.input")(_one_state(_simple_cell(lambda x: jnp.maximum(x, 0))))
