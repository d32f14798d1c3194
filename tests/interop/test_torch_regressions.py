"""Operators on integers: what torch makes floats or int64 neither wraps nor stays small; torch is not needed."""

import jax.numpy as jnp
import numpy as np
import pytest

import axiom_jax.interop.torch.ops  # noqa: F401
from axiom_jax.interop.torch.graph import OPERATORS

INTEGERS = ("bool", "uint8", "int8", "int16", "int32")


def aten(name, *arguments, **options):
    return OPERATORS[f"aten.{name}"](*arguments, **options)


@pytest.mark.parametrize("dtype", INTEGERS)
def test_integers_to_a_float_power_are_floats(dtype):
    found = aten("pow.Tensor_Scalar", jnp.array([1, 0, 1], dtype), 2.0)
    assert found.dtype == jnp.float32 and found.tolist() == [1, 0, 1]
    assert aten("pow.Tensor_Scalar", jnp.array([2, 3]), 2).dtype == jnp.int32


def test_a_float_power_does_not_wrap():
    assert float(aten("pow.Tensor_Scalar", jnp.array(50000), 2.0)) == 2.5e9
    assert float(aten("pow.Tensor_Scalar", jnp.array(4), -1.0)) == 0.25
    assert aten("pow.Tensor_Scalar", jnp.array(3, "float16"), 2.0).dtype == jnp.float16


@pytest.mark.parametrize("dtype", ("uint8", "int16", "int8"))
def test_integers_add_up_in_the_widest_integer(dtype):
    top = int(jnp.iinfo(dtype).max)
    x = jnp.array([top, 2], dtype)
    wide = jnp.asarray(0, int).dtype
    for name, arguments, expected in (
        ("cumsum.default", (0,), [top, top + 2]), ("cumprod.default", (0,), [top, 2 * top]),
        ("prod.default", (), 2 * top), ("sum.default", (), top + 2),
    ):  # fmt: skip
        found = aten(name, x, *arguments)
        assert found.dtype == wide and found.tolist() == expected, name


def test_flags_are_counted_and_a_dtype_is_kept():
    assert aten("cumsum.default", jnp.array([True, True]), 0).tolist() == [1, 2]
    assert aten("prod.default", jnp.array([2, 3]), dtype="float32").dtype == jnp.float32
    for dtype in ("float16", "bfloat16", "float32"):
        assert aten("cumsum.default", jnp.ones(2, dtype), 0).dtype == dtype
    assert aten("cumsum.default", jnp.array([200, 100], "uint8"), 0, dtype="float32").tolist() == [200, 300]


@pytest.mark.parametrize("dtype", ("uint8", "uint32", "int8", "int32", "float32"))
def test_the_smallest_of_any_dtype(dtype):
    low = 0 if dtype == "float32" else int(jnp.iinfo(dtype).min)
    x = jnp.array([5, low, 7, 1], dtype)
    values, indices = aten("topk.default", x, 2, largest=False)
    assert values.dtype == x.dtype and values.tolist() == [low, 1]
    np.testing.assert_array_equal(indices, [1, 3])
