"""Layers that read a sequence element by element: LSTM and GRU over [batch, length, features].

The input's part of all gates is one product for the whole sequence; what depends on the step before is scanned.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from axiom_jax import _shapes_mismatch as shapes
from axiom_jax._shapes_text import written
from axiom_jax.nn._initializers import Initializer, check_initializers, initializer
from axiom_jax.nn._layer import FLAX, here


@dataclass(frozen=True, repr=False)
class LSTM:
    """Long short-term memory: [batch, length, in_features] to [batch, length, hidden_features].

    Gates in the order input, forget, cell, output, as in PyTorch, whose two biases are one here; the state
    begins with zeros.

    Args:
        in_features: size of the last axis.
        hidden_features: size of the state, and of the last axis of the output.
        return_sequences: False for the last state alone, [batch, hidden_features].
        bidirectional: read the sequence backwards too, with weights of its own, and put both states side by side;
            the last axis is twice as large then.
        kernel_init, recurrent_init, bias_init: a name of `jax.nn.initializers`, or a function of (key, shape, dtype).

    Source: Hochreiter and Schmidhuber 1997, Long Short-Term Memory.

    >>> LSTM(8, 16, return_sequences=False)
    LSTM(8, 16, return_sequences=False)
    """

    in_features: int
    hidden_features: int
    return_sequences: bool = True
    bidirectional: bool = False
    kernel_init: Initializer = "lecun_normal"
    recurrent_init: Initializer = "orthogonal"
    bias_init: Initializer = "zeros"
    at: str | None = here()

    __repr__, __rshift__, __rrshift__, init, apply, apply_train, trainable = FLAX

    def __post_init__(self) -> None:
        check_initializers(self, "kernel_init", "recurrent_init", "bias_init")

    @property
    def takes(self) -> tuple[tuple[int | str, ...], str]:
        return ("batch", "length", self.in_features), "float32"

    def module(self, rngs: Any) -> Any:
        return _cells(self, rngs, gates=4, input_bias=False)

    def call(self, module: Any, x: Any) -> Any:
        return _both(self, module, x, _lstm_step, 2)

    def mismatch(self, x: Any) -> shapes.Mismatch | None:
        return shapes.sequence(x, self.in_features, partial(written, self))


@dataclass(frozen=True, repr=False)
class GRU:
    """Gated recurrent unit: [batch, length, in_features] to [batch, length, hidden_features].

    Gates in the order reset, update, new, each with a bias for the input and one for the state, as in PyTorch;
    the state begins with zeros.

    Args:
        in_features: size of the last axis.
        hidden_features: size of the state, and of the last axis of the output.
        return_sequences: False for the last state alone, [batch, hidden_features].
        bidirectional: read the sequence backwards too, with weights of its own, and put both states side by side;
            the last axis is twice as large then.
        kernel_init, recurrent_init, bias_init: a name of `jax.nn.initializers`, or a function of (key, shape, dtype).

    Source: Cho et al. 2014, arXiv 1406.1078.

    >>> GRU(8, 16, bidirectional=True)
    GRU(8, 16, bidirectional=True)
    """

    in_features: int
    hidden_features: int
    return_sequences: bool = True
    bidirectional: bool = False
    kernel_init: Initializer = "lecun_normal"
    recurrent_init: Initializer = "orthogonal"
    bias_init: Initializer = "zeros"
    at: str | None = here()

    __repr__, __rshift__, __rrshift__, init, apply, apply_train, trainable = FLAX

    def __post_init__(self) -> None:
        check_initializers(self, "kernel_init", "recurrent_init", "bias_init")

    @property
    def takes(self) -> tuple[tuple[int | str, ...], str]:
        return ("batch", "length", self.in_features), "float32"

    def module(self, rngs: Any) -> Any:
        return _cells(self, rngs, gates=3, input_bias=True)

    def call(self, module: Any, x: Any) -> Any:
        return _both(self, module, x, _gru_step, 1)

    def mismatch(self, x: Any) -> shapes.Mismatch | None:
        return shapes.sequence(x, self.in_features, partial(written, self))


def _cells(layer: LSTM | GRU, rngs: Any, gates: int, input_bias: bool) -> Any:
    """The weights of one direction, or of both: `input` for the whole sequence, `state` for each step."""
    from flax import nnx

    kernel, recurrent, bias = map(initializer, (layer.kernel_init, layer.recurrent_init, layer.bias_init))
    hidden, out = layer.hidden_features, gates * layer.hidden_features

    def cell() -> Any:
        return nnx.Dict(
            input=nnx.Linear(layer.in_features, out, use_bias=input_bias, kernel_init=kernel, bias_init=bias,
                             rngs=rngs),
            state=nnx.Linear(hidden, out, kernel_init=recurrent, bias_init=bias, rngs=rngs),
        )  # fmt: skip

    return nnx.Dict(forward=cell(), backward=cell()) if layer.bidirectional else cell()


def _both(layer: LSTM | GRU, module: Any, x: Any, step: Any, states: int) -> Any:
    directions = ("forward", "backward") if layer.bidirectional else ("",)
    outputs = [_scanned(layer, module[d] if d else module, x, step, states, d == "backward") for d in directions]
    return outputs[0] if len(outputs) == 1 else jnp.concatenate(outputs, axis=-1)


def _scanned(layer: LSTM | GRU, cell: Any, x: Any, step: Any, states: int, backward: bool) -> Any:
    gates = jnp.swapaxes(cell["input"](x), 0, 1)
    kernel, bias = cell["state"].kernel[...], cell["state"].bias[...]
    begin = tuple(jnp.zeros((x.shape[0], layer.hidden_features), gates.dtype) for _ in range(states))

    def scanned(carry: Any, gate: Any) -> Any:
        carry = step(carry, gate, carry[0] @ kernel + bias)
        return carry, carry[0] if layer.return_sequences else None

    (last, *_), outputs = jax.lax.scan(scanned, begin, gates, reverse=backward)
    return jnp.swapaxes(outputs, 0, 1) if layer.return_sequences else last


def _lstm_step(carry: Any, inputs: Any, state: Any) -> Any:
    enter, forget, new, out = jnp.split(inputs + state, 4, axis=-1)
    cell = jax.nn.sigmoid(forget) * carry[1] + jax.nn.sigmoid(enter) * jnp.tanh(new)
    return jax.nn.sigmoid(out) * jnp.tanh(cell), cell


def _gru_step(carry: Any, inputs: Any, state: Any) -> Any:
    (reset_x, update_x, new_x), (reset_h, update_h, new_h) = (jnp.split(part, 3, axis=-1) for part in (inputs, state))
    update = jax.nn.sigmoid(update_x + update_h)
    new = jnp.tanh(new_x + jax.nn.sigmoid(reset_x + reset_h) * new_h)
    return ((1 - update) * new + update * carry[0],)
