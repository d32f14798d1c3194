"""Broken programs and the same programs after applying the fix that their error offers."""

import linecache
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from axiom_jax import nn
from axiom_jax.model import Probabilities, Sequential, axiom

NAMES = {"jax": jax, "jnp": jnp, "lax": jax.lax, "nn": nn, "nnx": nnx, "Array": Array, "Float": Float, "Int": Int,
         "Probabilities": Probabilities, "Sequential": Sequential, "axiom": axiom}  # fmt: skip


def execute(name: str, source: str) -> dict[str, Any]:
    """Run a program as if it stood in `name.py`."""
    path = f"{name}.py"
    linecache.cache[path] = (len(source), None, source.splitlines(keepends=True), path)
    scope: dict[str, Any] = {"__name__": name, **NAMES}
    exec(compile(source, path, "exec"), scope)
    return scope


def declared(signature: str, line: str, result: str = "") -> str:
    """A declaration of one line."""
    return f"@axiom\ndef model({signature}){result}:\n    return {line}\n"


PROGRAMS: dict[str, tuple[str, str]] = {
    # layers
    "dense": (
        "def classifier():\n"
        "    return Sequential(\n"
        "        nn.Conv(1, 64),\n"
        "        nn.relu,\n"
        "        nn.Dense(784, 10),\n"
        "        input_shape=(28, 28, 1),\n"
        "    )\n"
        "classifier()\n",
        "Sequential(nn.Conv(1, 64), nn.relu, nn.Flatten() >> nn.Dense(50176, 10), input_shape=(28, 28, 1))\n",
    ),
    "dense_size": (
        "Sequential(nn.Dense(784, 128), nn.relu, nn.Dense(64, 10))\n",
        "Sequential(nn.Dense(784, 128), nn.relu, nn.Dense(128, 10))\n",
    ),
    "dense_flat": (
        "Sequential(nn.Dense(784, 10), input_shape=(28, 28))\n",
        "Sequential(nn.Flatten() >> nn.Dense(784, 10), input_shape=(28, 28))\n",
    ),
    "dense_any_size": (
        "Sequential(nn.Conv(1, 8, padding='VALID'), nn.MaxPool(), nn.Flatten(), nn.Dense(1352, 10))\n",
        "Sequential(nn.Conv(1, 8, padding='VALID'), nn.MaxPool(), nn.Flatten(), nn.Dense(1352, 10),\n"
        "           input_shape=(28, 28, 1))\n",
    ),
    "dense_images": (
        "Sequential(nn.Conv(1, 8), nn.Dense(784, 10))\n",
        "Sequential(nn.Conv(1, 8), nn.GlobalAvgPool() >> nn.Dense(8, 10))\n",
    ),
    "dense_batch": (
        "Sequential(lambda x: x.reshape(-1), nn.Dense(4, 2), input_shape=(4,))\n",
        "Sequential(nn.Flatten() >> nn.Dense(4, 2), input_shape=(4,))\n",
    ),
    "conv_channels": (
        "Sequential(nn.Conv(3, 8), nn.Conv(16, 4), input_shape=(32, 32, 3))\n",
        "Sequential(nn.Conv(3, 8), nn.Conv(8, 4), input_shape=(32, 32, 3))\n",
    ),
    "conv_channels_first": (
        "Sequential(nn.Conv(3, 8), input_shape=(3, 32, 32))\n",
        "Sequential((lambda x: jnp.moveaxis(x, 1, -1)), nn.Conv(3, 8), input_shape=(3, 32, 32))\n",
    ),
    "conv_no_channels": (
        "Sequential(nn.Conv(1, 8), input_shape=(28, 28))\n",
        "Sequential(nn.Reshape(28, 28, 1) >> nn.Conv(1, 8), input_shape=(28, 28))\n",
    ),
    "conv_flat": (
        "Sequential(nn.Conv(1, 8), input_shape=(784,))\n",
        "Sequential(nn.Reshape(28, 28, 1) >> nn.Conv(1, 8), input_shape=(784,))\n",
    ),
    "conv_small": (
        "Sequential(nn.Conv(1, 8, kernel_size=(5, 5), padding='VALID'), input_shape=(4, 3, 1))\n",
        "Sequential(nn.Conv(1, 8, kernel_size=(4, 3), padding='VALID'), input_shape=(4, 3, 1))\n",
    ),
    "pool_small": (
        "Sequential(nn.MaxPool((3, 3)), input_shape=(2, 8, 1))\n",
        "Sequential(nn.MaxPool(window_shape=(2, 3)), input_shape=(2, 8, 1))\n",
    ),
    "pool_flat": (
        "Sequential(nn.Flatten(), nn.MaxPool(), input_shape=(28, 28, 1))\n",
        "Sequential(nn.MaxPool(), nn.Flatten(), input_shape=(28, 28, 1))\n",
    ),
    "norm": (
        "Sequential(nn.Dense(8, 4), nn.BatchNorm(8))\n",
        "Sequential(nn.Dense(8, 4), nn.BatchNorm(4))\n",
    ),
    "reshape_layer": (
        "Sequential(nn.Reshape(7, 7, 64), input_shape=(8, 8, 64))\n",
        "Sequential(nn.Reshape(8, 8, 64), input_shape=(8, 8, 64))\n",
    ),
    "embedding": (
        "Sequential(nn.Dense(4, 4), nn.Embedding(10, 8))\n",
        "Sequential(nn.Dense(4, 4), (lambda x: x.astype(jnp.int32)), nn.Embedding(10, 8))\n",
    ),
    "attention": (
        "Sequential(nn.Embedding(100, 8), nn.MultiHeadAttention(2, 16))\n",
        "Sequential(nn.Embedding(100, 8), nn.MultiHeadAttention(2, 8))\n",
    ),
    "attention_heads": ("nn.MultiHeadAttention(3, 16)\n", "nn.MultiHeadAttention(2, 16)\n"),
    "attention_no_length": (
        "Sequential(nn.MultiHeadAttention(2, 8), input_shape=(8,))\n",
        "Sequential(nn.Reshape(1, 8) >> nn.MultiHeadAttention(2, 8), input_shape=(8,))\n",
    ),
    "residual": (
        "Sequential(nn.Residual(nn.Dense(8, 4), nn.relu))\n",
        "Sequential(nn.Residual(nn.Dense(8, 4), nn.relu, shortcut=nn.Dense(8, 4)))\n",
    ),
    "residual_stride": (
        "Sequential(nn.Residual(nn.Conv(8, 16, strides=2)), input_shape=(6, 6, 8))\n",
        "Sequential(nn.Residual(nn.Conv(8, 16, strides=2),\n"
        "                       shortcut=nn.Conv(8, 16, kernel_size=(1, 1), strides=(2, 2))),\n"
        "           input_shape=(6, 6, 8))\n",
    ),
    "residual_valid": (
        "Sequential(nn.Residual(nn.Conv(8, 8, padding='VALID')), input_shape=(6, 6, 8))\n",
        "Sequential(nn.Residual(nn.Conv(8, 8, padding='SAME')), input_shape=(6, 6, 8))\n",
    ),
    "several": (
        "Sequential(\n    nn.Conv(1, 4),\n    nn.Dense(784, 10),\n    nn.BatchNorm(12),\n    nn.Dense(10, 3),\n"
        "    nn.Dense(2, 1),\n    input_shape=(8, 8, 1),\n)\n",
        "Sequential(nn.Conv(1, 4), nn.Flatten() >> nn.Dense(256, 10), nn.BatchNorm(10), nn.Dense(10, 3),\n"
        "           nn.Dense(3, 1), input_shape=(8, 8, 1))\n",
    ),
    "nnx": (
        "class Net(nnx.Module):\n"
        "    def __init__(self, size, rngs):\n"
        "        self.first = nnx.Linear(3, 4, rngs=rngs)\n"
        "        self.second = nnx.Linear(size, 2, rngs=rngs)\n"
        "    def __call__(self, x):\n"
        "        return self.second(self.first(x))\n"
        "Sequential(Net(5, nnx.Rngs(0)), input_shape=(3,))\n",
        "class Net(nnx.Module):\n"
        "    def __init__(self, rngs):\n"
        "        self.first = nnx.Linear(3, 4, rngs=rngs)\n"
        "        self.second = nnx.Linear(4, 2, rngs=rngs)\n"
        "    def __call__(self, x):\n"
        "        return self.second(self.first(x))\n"
        "Sequential(Net(nnx.Rngs(0)), input_shape=(3,))\n",
    ),
    # operations in functions
    "matmul": (
        declared('x: Float[Array, "batch 64"], w: Float[Array, "784 10"]', "x @ w"),
        declared('x: Float[Array, "batch 64"], w: Float[Array, "64 10"]', "x @ w"),
    ),
    "matmul_transpose": (
        declared('x: Float[Array, "batch 64"], w: Float[Array, "10 64"]', "jnp.tanh(x @ w)"),
        declared('x: Float[Array, "batch 64"], w: Float[Array, "10 64"]', "jnp.tanh(x @ w.T)"),
    ),
    "matmul_flatten": (
        declared('x: Float[Array, "batch 8 8"], w: Float[Array, "64 10"]', "jnp.dot(x, w)"),
        declared('x: Float[Array, "batch 8 8"], w: Float[Array, "64 10"]', "jnp.dot(x.reshape(x.shape[0], -1), w)"),
    ),
    "matmul_order": (
        declared('x: Float[Array, "batch 64"], w: Float[Array, "64 10"]', "jnp.matmul(w, x)"),
        declared('x: Float[Array, "batch 64"], w: Float[Array, "64 10"]', "jnp.matmul(x, w)"),
    ),
    "matmul_attention": (
        declared('q: Float[Array, "batch t d"], k: Float[Array, "batch s d"]', "q @ k"),
        declared('q: Float[Array, "batch t d"], k: Float[Array, "batch s d"]', "q @ k.swapaxes(-1, -2)"),
    ),
    "add_axis": (
        declared('x: Float[Array, "batch n"]', "x - x.mean(axis=1)"),
        declared('x: Float[Array, "batch n"]', "x - x.mean(axis=1)[:, None]"),
    ),
    "add_bias": (
        declared('x: Float[Array, "batch c h w"], b: Float[Array, "c"]', "x + b"),
        declared('x: Float[Array, "batch c h w"], b: Float[Array, "c"]', "x + b[:, None, None]"),
    ),
    "add_residual": (
        declared('x: Float[Array, "batch 64"], h: Float[Array, "batch 32"]', "x + h"),
        declared('x: Float[Array, "batch 64"], h: Float[Array, "batch 32"], w: Float[Array, "64 32"]', "x @ w + h"),
    ),
    "add_names": (
        declared('x: Float[Array, "batch 64"], y: Float[Array, "n 64"]', "x * y"),
        declared('x: Float[Array, "batch 64"], y: Float[Array, "batch 64"]', "x * y"),
    ),
    "add_layout": (
        declared('x: Float[Array, "batch h w c"], y: Float[Array, "batch c h w"]', "jnp.add(x, y)"),
        declared('x: Float[Array, "batch h w c"], y: Float[Array, "batch c h w"]',
                 "jnp.add(x, jnp.moveaxis(y, 1, -1))"),
    ),
    "reshape": (
        declared('image: Float[Array, "batch 28 28"]', "image.reshape(784)"),
        declared('image: Float[Array, "batch 28 28"]', "image.reshape(image.shape[0], 784)"),
    ),
    "reshape_count": (
        declared('x: Float[Array, "batch 50"]', "jnp.reshape(x, (x.shape[0], 7, 7))"),
        declared('x: Float[Array, "batch 50"]', "x.reshape(x.shape[0], -1)"),
    ),
    "reshape_uneven": (
        declared('x: Float[Array, "batch 50"]', "x.reshape(-1, 7)"),
        declared('x: Float[Array, "batch 50"]', "x.reshape(x.shape[0], -1)"),
    ),
    "concat_axis": (
        declared('x: Float[Array, "batch 8"], y: Float[Array, "batch 5"]', "jnp.concatenate([x, y])"),
        declared('x: Float[Array, "batch 8"], y: Float[Array, "batch 5"]', "jnp.concatenate([x, y], axis=-1)"),
    ),
    "concat_rank": (
        declared('x: Float[Array, "batch 8"], y: Float[Array, "batch"]', "jnp.concatenate((x, y), axis=1)"),
        declared('x: Float[Array, "batch 8"], y: Float[Array, "batch"]',
                 "jnp.concatenate([x, jnp.expand_dims(y, -1)], axis=1)"),
    ),
    "stack": (
        declared('x: Float[Array, "batch 8"], y: Float[Array, "batch 5"]', "jnp.stack([x, y])"),
        declared('x: Float[Array, "batch 8"], y: Float[Array, "batch 5"]', "jnp.concatenate([x, y], axis=-1)"),
    ),
    "einsum": (
        declared('x: Float[Array, "batch i"], w: Float[Array, "o i"]', "jnp.einsum('bi,io->bo', x, w)"),
        declared('x: Float[Array, "batch i"], w: Float[Array, "o i"]', "jnp.einsum('bi,oi->bo', x, w)"),
    ),
    "einsum_rank": (
        declared('x: Float[Array, "batch t i"], w: Float[Array, "i o"]', "jnp.einsum('bi,io->bo', x, w)"),
        declared('x: Float[Array, "batch t i"], w: Float[Array, "i o"]', "jnp.einsum('...bi,io->...bo', x, w)"),
    ),
    "conv_layout": (
        declared('x: Float[Array, "batch 8 8 3"], k: Float[Array, "3 3 3 4"]',
                 "lax.conv_general_dilated(x, k, (1, 1), 'SAME')"),
        declared('x: Float[Array, "batch 8 8 3"], k: Float[Array, "3 3 3 4"]',
                 "lax.conv_general_dilated(x, k, (1, 1), 'SAME', dimension_numbers=('NHWC', 'HWIO', 'NHWC'))"),
    ),
    "dot_product_attention": (
        declared('q: Float[Array, "b t 4 8"], k: Float[Array, "b s 4 8"], v: Float[Array, "b s 4 6"]',
                 "jax.nn.dot_product_attention(q, k, v)"),
        declared('q: Float[Array, "b t 4 8"], k: Float[Array, "b s 4 8"], v: Float[Array, "b s 4 8"]',
                 "jax.nn.dot_product_attention(q, k, v)"),
    ),
    "dot_product_attention_heads": (
        declared('q: Float[Array, "b t 4 8"], k: Float[Array, "b 4 s 8"], v: Float[Array, "b 4 s 8"]',
                 "jax.nn.dot_product_attention(q, k, v)"),
        declared('q: Float[Array, "b t 4 8"], k: Float[Array, "b 4 s 8"], v: Float[Array, "b 4 s 8"]',
                 "jax.nn.dot_product_attention(q, k.swapaxes(1, 2), v.swapaxes(1, 2))"),
    ),
    "axis": (
        declared('x: Float[Array, "batch"]', "x.reshape(x.shape[0], x.shape[1])"),
        declared('x: Float[Array, "batch"]', "x.reshape(x.shape[0], 1)"),
    ),
    "unpack": (
        '@axiom\ndef model(x: Float[Array, "batch 8 8 1"]):\n    batch, height, width = x.shape\n'
        "    return x.reshape(batch, height * width)\n",
        '@axiom\ndef model(x: Float[Array, "batch 8 8 1"]):\n    batch, height, width, axis3 = x.shape\n'
        "    return x.reshape(batch, height * width * axis3)\n",
    ),
    # declarations
    "returns": (
        declared('x: Float[Array, "batch n"]', "jnp.concatenate([x, x], axis=1)", ' -> Float[Array, "batch n"]'),
        declared('x: Float[Array, "batch n"]', "jnp.concatenate([x, x], axis=1)", ' -> Float[Array, "batch 2*n"]'),
    ),
    "returns_dtype": (
        declared('x: Float[Array, "batch n"]', "x.argmax(1)", ' -> Float[Array, "batch"]'),
        declared('x: Float[Array, "batch n"]', "x.argmax(1)", ' -> Int[Array, "batch"]'),
    ),
    "probabilities": (
        "@axiom(net=Sequential(nn.Dense(4, 3)))\n"
        'def classifier(net: nn.Sequential, x: Float[Array, "batch 4"]) -> Probabilities["batch 10"]:\n'
        "    return nn.softmax(net(x))\n",
        "@axiom(net=Sequential(nn.Dense(4, 3)))\n"
        'def classifier(net: nn.Sequential, x: Float[Array, "batch 4"]) -> Probabilities["batch 3"]:\n'
        "    return nn.softmax(net(x))\n",
    ),
    "net": (
        "@axiom\n"
        'def classifier(net: nn.Sequential, image: Float[Array, "batch 28 28 1"]) -> Float[Array, "batch 10"]:\n'
        "    features = nn.relu(image)\n"
        "    return net(features)\n"
        "classifier.bind(Sequential(nn.Dense(784, 10)))\n",
        "@axiom\n"
        'def classifier(net: nn.Sequential, image: Float[Array, "batch 28 28 1"]) -> Float[Array, "batch 10"]:\n'
        "    features = nn.relu(image)\n"
        "    return net(features)\n"
        "classifier.bind(Sequential(nn.Flatten() >> nn.Dense(784, 10)))\n",
    ),
    "bound": (
        declared('x: Float[Array, "batch n"]', "lax.top_k(x, 3)[0]"),
        '@axiom(constraints=["n >= 3"])\ndef model(x: Float[Array, "batch n"]):\n    return lax.top_k(x, 3)[0]\n',
    ),
    "head_size": (
        declared('q: Float[Array, "b t 4 d"]', "jax.nn.dot_product_attention(q, q, q)"),
        declared('q: Float[Array, "b t 4 8"]', "jax.nn.dot_product_attention(q, q, q)"),
    ),
    "loop": (
        declared('x: Float[Array, "batch n"]', "sum(x[:, i] for i in range(x.shape[1]))"),
        declared('x: Float[Array, "batch 4"]', "sum(x[:, i] for i in range(x.shape[1]))"),
    ),
    "annotation": (
        declared('x: Float[Array, "batch #n"]', "x"),
        declared('x: Float[Array, "batch n"]', "x"),
    ),
    "annotation_unbound": (
        declared('x: Float[Array, "batch 6"]', "x", ' -> Float[Array, "batch j+k"]'),
        declared('x: Float[Array, "batch 6"]', "x", ' -> Float[Array, "batch 6"]'),
    ),
}  # fmt: skip
