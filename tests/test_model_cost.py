"""FLOPs and bytes are counted by formula, for numbers and for symbolic sizes; models show their summary."""

import io
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import rich.console
from hypothesis import given, settings
from hypothesis import strategies as st
from jaxtyping import Array, Float

from axiom_jax import nn
from axiom_jax._model_cost import flops, size_in_bytes
from axiom_jax._shapes_annotations import symbols
from axiom_jax._shapes_text import size_at
from axiom_jax.model import Model, Sequential, axiom

ones = jnp.ones


@settings(max_examples=10)
@given(*[st.integers(1, 7)] * 4)
def test_products_of_matrices(batch: int, m: int, n: int, k: int) -> None:
    assert flops(jnp.matmul, ones((batch, m, k)), ones((batch, k, n))) == 2 * batch * m * n * k
    summed = lambda x, w: jnp.einsum("bmk,bnk->mn", x, w)
    assert flops(summed, ones((batch, m, k)), ones((batch, n, k))) == 2 * batch * m * n * k


@pytest.mark.parametrize(
    ("fn", "shape", "expected"),
    [
        (lambda x: jnp.tanh(x) + 1, (3, 4), 24),
        (lambda x: x.reshape(4, 3).T[:2], (3, 4), 0),
        (lambda x: x.sum(), (3, 4), 12),
        (lambda x: x.astype(int) + 1, (3, 4), 0),
        (jax.nn.relu, (3, 4), 12),
        (jax.jit(lambda x: x * x), (5,), 5),
        (lambda x: jax.lax.scan(lambda c, row: (c + row, None), x[0], x)[0], (3, 4), 12),
        (lambda x: jax.lax.cond(x[0] > 0, lambda: x * x + 1, lambda: x), (5,), 11),
        (lambda x: jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (2,), (2,), "VALID"), (6,), 6),
        (jax.checkpoint(lambda x: jnp.exp(x)), (7,), 7),
    ],
)  # fmt: skip
def test_what_is_counted(fn: Any, shape: tuple[int, ...], expected: int) -> None:
    assert flops(fn, ones(shape)) == expected


def test_convolutions() -> None:
    of = lambda layer, *shape: flops(layer.apply, jax.eval_shape(layer.init, jax.random.key(0)), ones(shape))
    assert of(nn.Conv2d(3, 8, 5, use_bias=False), 2, 9, 9, 3) == 2 * 2 * 9 * 9 * 8 * 5 * 5 * 3
    assert of(nn.Conv2d(4, 8, 3, feature_group_count=2, use_bias=False), 1, 6, 6, 4) == 2 * 6 * 6 * 8 * 3 * 3 * 2
    # each input meets the whole kernel once, however far the outputs are spread
    assert of(nn.ConvTranspose2d(3, 8, 2, strides=2, use_bias=False), 1, 5, 5, 3) == 2 * 5 * 5 * 3 * 2 * 2 * 8


def test_symbolic_sizes_agree_with_numbers() -> None:
    sizes = symbols(["height", "width"], ["height >= 8", "width >= 8"])
    layers = [nn.Conv2d(1, 2, padding="VALID"), nn.relu, nn.MaxPool(), nn.GlobalAvgPool(), nn.Dense(2, 3)]
    model = Sequential(*layers)
    table = model.summary()
    assert sizes.keys() == {"height", "width"} and not isinstance(table.flops, int)
    numbers = model.summary((9, 11, 1))
    for free, known in zip(table.rows, numbers.rows, strict=True):
        for one, other in ((free.flops, known.flops), (free.bytes, known.bytes)):
            assert size_at(one, {"height": 9, "width": 11}) == other
    assert numbers.flops == sum(row.flops for row in numbers.rows)


def test_bytes_and_shared_parameters() -> None:
    assert size_in_bytes({"a": ones((2, 3)), "b": np.ones(4, np.int8), "c": 1.0}) == 28
    tied = nn.Shared("tied", nn.Dense(4, 4, use_bias=False))
    table = Sequential(tied, tied).summary()
    assert table.parameters == 16 and [row.parameters for row in table.rows] == [16, 16]
    assert table.rows[0].bytes == 4 * (16 + 4 + 4) and table.flops == 2 * 2 * 16


def test_functions_and_several_inputs_are_counted() -> None:
    scaled = Model(lambda params, x: x * params, ones(4), name="scaled")
    assert scaled.summary((4,)).flops == 4

    @axiom(net=nn.Dense(4, 3))
    def squared(net: nn.Dense, x: Float[Array, "n 4"]) -> Float[Array, "n 3"]:
        return net(x) * net(x)

    assert [row.flops for row in squared.summary().rows] == [27, 27] and squared.summary().flops == 57
    model = Sequential(nn.Parallel(nn.Dense(3, 2), [nn.Dense(3, 2), nn.relu], combine="sum"))
    assert model.summary().flops == 2 * (2 * 3 * 2 + 2) + 2 + 2


def shown(thing: Any) -> str:
    console = rich.console.Console(width=120, record=True, file=io.StringIO())
    console.print(thing)
    return console.export_text()


def test_models_show_their_summary() -> None:
    model = Sequential(nn.Dense(4, 3), nn.relu, name="small")
    assert model._repr_html_() == model.summary()._repr_html_() and "<td>0_Dense</td>" in model._repr_html_()
    assert "Float32[batch, 4]" in shown(model) and "small" in shown(model)
    unknown = Model(lambda params, x: x, {}, name="any<1>")
    assert "&lt;1&gt;" in unknown._repr_html_() and "any<1>" in shown(unknown)
