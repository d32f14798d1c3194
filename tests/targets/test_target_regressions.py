"""Weights that change between two compilations are seen: in the ONNX form, and in what `auto` remembers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import axiom_jax as ax
from axiom_jax import nn
from axiom_jax.model import Signature
from axiom_jax.targets.caching import choice_key
from axiom_jax.targets.onnx_form import onnx_bytes

X = np.ones((2, 3), np.float32)


def scaled(weights, shift=0.0):
    captured = np.full(3, shift, np.float32)
    return ax.Model(lambda p, x: x * p["w"] + captured, {"w": weights}, Signature((("x", ("n", 3), "float32"),)))


def test_the_onnx_form_follows_the_weights():
    pytest.importorskip("onnx")
    model = ax.Sequential(nn.Dense(3, 2), name="dense")
    inputs = model.signature.inputs
    first = onnx_bytes(model, inputs)
    assert onnx_bytes(model, inputs) is first
    model.params["0_Dense"]["kernel"] = 10 * model.params["0_Dense"]["kernel"]
    assert onnx_bytes(model, inputs) != first
    mutable = scaled(np.ones(3, np.float32))
    first = onnx_bytes(mutable, mutable.signature.inputs)
    assert onnx_bytes(mutable, mutable.signature.inputs) is first
    mutable.params["w"] *= 2
    assert onnx_bytes(mutable, mutable.signature.inputs) != first


def test_onnxruntime_computes_with_the_new_weights():
    pytest.importorskip("onnxruntime")
    model = scaled(jnp.ones(3))
    np.testing.assert_array_equal(ax.compile(model, backend="onnxruntime")(X), X)
    model.params["w"] = 10 * model.params["w"]
    np.testing.assert_array_equal(ax.compile(model, backend="onnxruntime")(X), 10 * X)


def test_a_remembered_choice_is_for_the_same_weights_only():
    key = lambda model: choice_key(model, [X], {"xla": 0})
    ones = jnp.ones(3)
    assert key(scaled(ones)) == key(scaled(np.ones(3, np.float32)))
    assert len({key(scaled(w, shift)) for w in (ones, 2 * ones) for shift in (0, 1)}) == 4

    def looped(table):
        body = lambda i, x: x + jnp.asarray(table)[i]
        return ax.Model(lambda p, x: jax.lax.fori_loop(0, 3, body, x), {}, Signature((("x", ("n", 3), "float32"),)))

    assert key(looped(np.arange(3.0))) != key(looped(np.zeros(3)))
    assert key(looped(np.arange(3.0))) == key(looped(np.arange(3.0)))
    assert key(ax.Model(lambda p, x: x + jax.random.normal(p["k"], (3,)), {"k": jax.random.key(0)}))
