"""Functions and layers to ONNX: equal to onnxruntime at two batch sizes, back again, and written as people would."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import onnx
import pytest
from flax import nnx
from jax import lax

import axiom_jax as ax
from axiom_jax import nn
from axiom_jax.interop.onnx.compare import assignments, drawn
from axiom_jax.interop.onnx.writer import subject_of, to_onnx

QUICK = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
ROW, TIME, IMAGE = (1, 6), (1, 5, 8), (1, 6, 6, 4)


@dataclass(frozen=True)
class Case:
    """A function or layer, the shape of its input, and the operators that it should become (None: any)."""

    fn: Any
    shape: Any = ROW
    operators: str | None = None


def layer(layer: Any, shape: tuple[int, ...] | None = None) -> ax.Model:
    return ax.Sequential(layer, input_shape=shape)


def ids(high: int, *shape: int) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, np.int32)


def pair(fn: Callable[..., Any]) -> Callable[..., Any]:
    return lambda x: fn(x[:, :3], x[:, 3:])


POSITIVE = lambda fn: lambda x: fn(jnp.abs(x) + 0.1)
INSIDE = lambda fn: lambda x: fn(jnp.tanh(x))
KERNEL = np.arange(3 * 3 * 4 * 2, dtype=np.float32).reshape(3, 3, 4, 2) / 70 - 0.5

FUNCTIONS: dict[str, Case] = {
    # activations, each as its node
    "relu": Case(jax.nn.relu, operators="Relu"),
    "relu6": Case(jax.nn.relu6, operators="Clip"),
    "leaky_relu": Case(functools.partial(jax.nn.leaky_relu, negative_slope=0.2), operators="LeakyRelu"),
    "elu": Case(functools.partial(jax.nn.elu, alpha=0.7), operators="Elu"),
    "celu": Case(jax.nn.celu),
    "selu": Case(jax.nn.selu, operators="Selu"),
    "gelu-tanh": Case(jax.nn.gelu, operators="Gelu"),
    "gelu-erf": Case(functools.partial(jax.nn.gelu, approximate=False), operators="Gelu"),
    "silu": Case(jax.nn.silu, operators="Sigmoid Mul"),
    "mish": Case(jax.nn.mish, operators="Mish"),
    "softplus": Case(jax.nn.softplus, operators="Softplus"),
    "soft_sign": Case(jax.nn.soft_sign, operators="Softsign"),
    "sigmoid": Case(jax.nn.sigmoid, operators="Sigmoid"),
    "log_sigmoid": Case(jax.nn.log_sigmoid, operators="Neg Softplus Neg"),
    "hard_sigmoid": Case(jax.nn.hard_sigmoid, operators="HardSigmoid"),
    "hard_swish": Case(jax.nn.hard_swish, operators="HardSwish"),
    "hard_tanh": Case(jax.nn.hard_tanh, operators="Clip"),
    "glu": Case(jax.nn.glu, operators="Split Sigmoid Mul"),
    "softmax": Case(jax.nn.softmax, operators="Softmax"),
    "softmax-axis": Case(functools.partial(jax.nn.softmax, axis=1), IMAGE, "Softmax"),
    "log_softmax": Case(jax.nn.log_softmax, operators="LogSoftmax"),
    "logsumexp": Case(functools.partial(jax.nn.logsumexp, axis=-1)),
    "standardize": Case(jax.nn.standardize),
    "one_hot": Case(lambda x: jax.nn.one_hot(jnp.argmax(x, -1), 6)),
    # elementwise
    **{fn.__name__: Case(fn) for fn in (jnp.sin, jnp.cos, jnp.tan, jnp.sinh, jnp.cosh, jnp.arcsinh, jnp.arctan, jnp.exp,
                                        jnp.expm1, jnp.exp2, jnp.cbrt, jnp.abs, jnp.sign, jnp.floor, jnp.ceil,
                                        jnp.round, jnp.square, jnp.isfinite)},
    **{fn.__name__: Case(POSITIVE(fn)) for fn in (jnp.log, jnp.log1p, jnp.sqrt, lax.rsqrt, jnp.reciprocal)},
    **{fn.__name__: Case(INSIDE(fn)) for fn in (jnp.arcsin, jnp.arccos, jnp.arctanh)},
    "erf": Case(jax.scipy.special.erf, operators="Erf"),
    "erfc": Case(jax.scipy.special.erfc),
    **{fn.__name__: Case(pair(fn)) for fn in (jnp.maximum, jnp.minimum, jnp.arctan2, jnp.logaddexp, jnp.mod,
                                              jnp.floor_divide, jnp.heaviside, jnp.hypot)},
    "power": Case(lambda x: (jnp.abs(x) + 0.1) ** 1.7),
    "integer_pow": Case(lambda x: x**3),
    "clip": Case(lambda x: jnp.clip(x, -0.5, 0.5)),
    "where": Case(lambda x: jnp.where(x > 0.2, x, -2 * x)),
    "logic": Case(lambda x: ~((x > 0) & (x < 1)) | (x != 2) ^ (x == 1)),
    "nan_to_num": Case(lambda x: jnp.nan_to_num(x / (x - x))),
    # reductions and order
    "sum": Case(lambda x: x.sum((1, 2)), IMAGE, "ReduceSum"),
    "mean": Case(lambda x: x.mean(-1), operators="ReduceMean"),
    "mean-batch": Case(lambda x: x.mean(0)),
    "var": Case(lambda x: x.var(-1)),
    "max": Case(lambda x: x.max((1, 3), keepdims=True), IMAGE),
    "prod": Case(lambda x: x.prod(1), operators="ReduceProd"),
    "any": Case(lambda x: jnp.any(x > 1, -1)),
    "argmax": Case(lambda x: jnp.argmax(x, -1), operators="ArgMax Cast"),
    "norm": Case(lambda x: x / jnp.linalg.norm(x, axis=-1, keepdims=True)),
    "sort": Case(lambda x: jnp.sort(x, -1), operators="TopK"),
    "argsort": Case(lambda x: jnp.argsort(x, -1), operators="TopK Cast"),
    "sort-two-keys": Case(lambda x: lax.sort((jnp.round(x), x, -x), num_keys=2, dimension=1)),
    "median": Case(lambda x: jnp.median(x, -1)),
    "top_k": Case(lambda x: lax.top_k(x, 2), operators="TopK Cast"),
    "cumsum": Case(lambda x: jnp.cumsum(x, 1), operators="CumSum"),
    "cumsum-reverse": Case(lambda x: lax.cumsum(x, 1, reverse=True), operators="CumSum"),
    "cumprod": Case(lambda x: jnp.cumprod(x, 1)),
    "cummax": Case(lambda x: lax.cummax(x, 1, reverse=True)),
    "cumlogsumexp": Case(lambda x: lax.cumlogsumexp(x, 1)),
    # products
    "matmul": Case(lambda x: x @ np.float32(np.arange(12).reshape(6, 2)), operators="MatMul"),
    "gemm": Case(lambda x: x @ np.float32(np.arange(12).reshape(6, 2)) + np.float32([1, 2]), operators="Gemm"),
    "batched-matmul": Case(lambda x: x @ jnp.swapaxes(x, 1, 2), TIME),
    "einsum": Case(lambda x: jnp.einsum("bhwc,bkwc->bhk", x, x), IMAGE, "Einsum"),
    "outer": Case(lambda x: jnp.einsum("bi,bj->bij", x, x)),
    "tensordot": Case(lambda x: jnp.tensordot(x, KERNEL[:2, :, :, 0].reshape(6, 4), ((2, 3), (0, 1))), IMAGE),
    # movement
    "reshape": Case(lambda x: x.reshape(-1), operators="Reshape"),
    "transpose": Case(lambda x: x.transpose(0, 3, 1, 2), IMAGE, "Transpose"),
    "flip": Case(lambda x: jnp.flip(x, (0, 1)), operators="Slice"),
    "slice": Case(lambda x: x[:, 1:5:2]),
    "index": Case(lambda x: x[:, 2]),
    "fancy-index": Case(lambda x: x[:, np.array([0, 3, -1])]),
    "take_along_axis": Case(lambda x: jnp.take_along_axis(x, jnp.argsort(x, -1)[:, ::2], -1)),
    "rows-by-index": Case(lambda x: x[jnp.arange(x.shape[0]), jnp.argmax(x, -1)]),
    "dynamic_slice": Case(lambda x: lax.dynamic_slice_in_dim(x, jnp.argmax(x[0]), 3, 1)),
    "dynamic_update_slice": Case(lambda x: lax.dynamic_update_slice(x, x[:, :2] * 2, (0, jnp.argmax(x[0])))),
    "set": Case(lambda x: x.at[:, 2].set(7)),
    "scatter-add": Case(lambda x: x.at[:, np.array([1, 1, 3])].add(2 * x[:, :3])),
    "scatter-computed": Case(lambda x: jnp.zeros((5, 6)).at[jnp.argmax(x, -1)].max(x)),
    "pad": Case(lambda x: jnp.pad(x, ((0, 0), (1, 2)), constant_values=3), operators="Pad"),
    "pad-reflect": Case(lambda x: jnp.pad(x, ((0, 0), (1, 2)), mode="reflect")),
    "pad-holes": Case(lambda x: lax.pad(x, 0.5, ((0, 0, 0), (1, -1, 2)))),
    "concatenate": Case(lambda x: jnp.concatenate([x, 2 * x], 1), operators="Mul Concat"),
    "stack": Case(lambda x: jnp.stack([x, 2 * x], 1)),
    "split": Case(lambda x: jnp.split(x, 3, 1), operators="Split"),
    "tile": Case(lambda x: jnp.tile(x, (1, 2))),
    "repeat": Case(lambda x: jnp.repeat(x, 2, 1)),
    "roll": Case(lambda x: jnp.roll(x, 1, 1)),
    "tril": Case(lambda x: jnp.tril(x[:, :, None] * x[:, None])),
    "arange": Case(lambda x: x + jnp.arange(x.shape[0])[:, None]),
    "resize-nearest": Case(lambda x: jax.image.resize(x, (x.shape[0], 9, 9, 4), "nearest"), IMAGE),
    # windows
    "max_pool-same": Case(lambda x: nnx.max_pool(x, (3, 3), (2, 2), "SAME"), IMAGE, "Transpose MaxPool Transpose"),
    "min_pool": Case(lambda x: nnx.min_pool(x, (2, 2), (2, 2)), IMAGE),
    "avg_pool-same": Case(lambda x: nnx.avg_pool(x, (3, 3), (2, 2), "SAME", count_include_pad=False), IMAGE),
    "conv_transpose": Case(lambda x: lax.conv_transpose(x, KERNEL, (2, 2), "SAME"), IMAGE),
    "conv-dilated": Case(
        lambda x: lax.conv_general_dilated(x, KERNEL, (1, 2), ((2, 1), (0, 3)), rhs_dilation=(2, 1),
                                           dimension_numbers=("NHWC", "HWIO", "NHWC")), IMAGE),
    "conv-strided-and-spread": Case(
        lambda x: lax.conv_general_dilated(x, KERNEL, (3, 3), ((1, 0), (0, 2)), lhs_dilation=(2, 2),
                                           dimension_numbers=("NHWC", "HWIO", "NHWC")), IMAGE),
    # control and derivatives
    "while": Case(lambda x: lax.while_loop(lambda s: jnp.sum(s**2) < 100, lambda s: s * 1.5 + 1, x)),
    "fori": Case(lambda x: lax.fori_loop(0, 3, lambda i, s: s * 0.5 + i, x)),
    "cond": Case(lambda x: lax.cond(x.sum() > 0, lambda v: v + 1, lambda v: v * 2, x)),
    "switch": Case(lambda x: lax.switch(jnp.argmax(x[0]) % 3, [lambda v: v + 1, lambda v: v * 2, jnp.sin], x)),
    "grad": Case(lambda x: jax.grad(lambda v: jnp.sum(jnp.tanh(v) ** 2 * jax.nn.softmax(v)))(x)),
    "several-outputs": Case(lambda x: {"a": x + 1, "b": (x * 2, x)}),
    "constant-output": Case(lambda x: (x, jnp.ones(3))),
}  # fmt: skip

LAYERS: dict[str, Callable[[], Case]] = {
    "Dense": lambda: Case(layer(nn.Dense(4, 3)), None, "Gemm"),
    "Dense-over-time": lambda: Case(layer(nn.Dense(8, 3), (5, 8)), None, "MatMul Add"),
    "Conv": lambda: Case(layer(nn.Conv(4, 3), IMAGE[1:]), None, "Transpose Conv Transpose"),
    "Conv-groups": lambda: Case(layer(nn.Conv(4, 8, feature_group_count=2, strides=2), IMAGE[1:]), None),
    "Conv-circular": lambda: Case(layer(nn.Conv(4, 2, padding="CIRCULAR"), IMAGE[1:]), None),
    "Conv1d": lambda: Case(layer(nn.Conv1d(8, 3, 3), (5, 8)), None),
    "Conv3d": lambda: Case(layer(nn.Conv3d(2, 3, 2), (3, 3, 3, 2)), None),
    "ConvTranspose": lambda: Case(layer(nn.ConvTranspose(4, 3, (3, 3), strides=2), IMAGE[1:]), None,
                                  "Transpose ConvTranspose Transpose"),
    "Embedding": lambda: Case(layer(nn.Embedding(7, 3), (5,)), None),
    "BatchNorm": lambda: Case(layer(nn.BatchNorm(4), IMAGE[1:]), None, "Sub Mul Add"),
    "LayerNorm": lambda: Case(layer(nn.LayerNorm(8), (5, 8)), None, "LayerNormalization"),
    "GroupNorm": lambda: Case(layer(nn.GroupNorm(4, 2), IMAGE[1:]), None),
    "InstanceNorm": lambda: Case(layer(nn.InstanceNorm(4), IMAGE[1:]), None),
    "RMSNorm": lambda: Case(layer(nn.RMSNorm(8), (5, 8)), None),
    "MaxPool": lambda: Case(layer(nn.MaxPool(2), IMAGE[1:]), None, "Transpose MaxPool Transpose"),
    "AvgPool": lambda: Case(layer(nn.AvgPool(2), IMAGE[1:]), None, "Transpose AveragePool Transpose"),
    "AdaptiveAvgPool": lambda: Case(layer(nn.AdaptiveAvgPool((3, 3)), IMAGE[1:]), None),
    "AdaptiveMaxPool": lambda: Case(layer(nn.AdaptiveMaxPool((2, 2)), IMAGE[1:]), None),
    "GlobalAvgPool": lambda: Case(layer(nn.GlobalAvgPool(), IMAGE[1:]), None, "ReduceMean"),
    "GlobalMaxPool": lambda: Case(layer(nn.GlobalMaxPool(), IMAGE[1:]), None, "ReduceMax"),
    "Flatten": lambda: Case(layer(nn.Flatten(), IMAGE[1:]), None, "Reshape"),
    "Dropout": lambda: Case(layer(nn.Dropout(0.5), (4,)), None, "Identity"),
    "GRU": lambda: Case(layer(nn.GRU(8, 4), (5, 8)), None),
    "LSTM": lambda: Case(layer(nn.LSTM(8, 4), (5, 8)), None),
    "MultiHeadAttention": lambda: Case(layer(nn.MultiHeadAttention(2, 8), (5, 8)), None),
    "TransformerEncoderLayer": lambda: Case(layer(nn.TransformerEncoderLayer(2, 8, 16), (5, 8)), None),
    "PReLU": lambda: Case(layer(nn.PReLU(), (4,)), None),
    "Residual": lambda: Case(layer(nn.Residual(nn.Dense(4, 4), nn.relu)), None, "Gemm Relu Add"),
    "SkipConnection": lambda: Case(layer(nn.SkipConnection(nn.Dense(4, 4))), None, "Gemm Concat"),
    "Parallel": lambda: Case(layer(nn.Parallel(nn.Dense(4, 4), nn.Dense(4, 2))), None, "Gemm Gemm Concat"),
    "Conditional": lambda: Case(layer(nn.Conditional(lambda x: jnp.sum(x) > 0, nn.Dense(4, 2), nn.Dense(4, 2))), None),
    "AffineCoupling": lambda: Case(layer(nn.AffineCoupling(4)), None),
    "flax-MultiHeadAttention": lambda: Case(nnx.MultiHeadAttention(2, 8, rngs=nnx.Rngs(0), decode=False), TIME),
}  # fmt: skip


def check(case: Case, path: Path) -> None:
    record = to_onnx(case.fn, path, case.shape, tolerance=1e-5)
    assert record.judge.startswith("onnxruntime")
    assert record.batches == (2, 3)
    proto = onnx.load(path)
    assert all(not value.type.tensor_type.shape.dim[0].HasField("dim_value") for value in proto.graph.input)
    if case.operators is not None:
        assert [node.op_type for node in proto.graph.node] == case.operators.split()
    subject = subject_of(case.fn, case.shape, None, True, None)
    model = ax.from_onnx(record)
    for seed, sizes in enumerate(assignments(subject)):
        inputs = drawn(subject, sizes, seed)
        got = jax.tree.leaves(jax.jit(model.apply, compiler_options=QUICK)(model.params, *inputs))
        expected = jax.tree.leaves(jax.jit(subject.fn, compiler_options=QUICK)(subject.params, *inputs))
        for a, b in zip(got, expected, strict=True):
            assert a.shape == b.shape
            assert a.dtype == b.dtype
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5 * max(1.0, float(np.max(np.abs(b), initial=0))))


@pytest.mark.sweep(4)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_function_to_onnx_and_back(name: str, tmp_path: Path):
    check(FUNCTIONS[name], tmp_path / "f.onnx")


@pytest.mark.sweep(3)
@pytest.mark.parametrize("name", LAYERS)
def test_layer_to_onnx_and_back(name: str, tmp_path: Path):
    check(LAYERS[name](), tmp_path / "f.onnx")
