"""Models certified at level float32, executed by XLA and onnxruntime: no execution goes below what was proved.

Executions differ in what machines are free to choose: jitted or not, alone or in batches, the order of sums (by hidden
units and inputs that change places, which changes no real number), the runtime. Points are corners, random ones,
and those near the least output that was seen. What is held against them is the certificate's least bound itself.
"""

import itertools
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))
from claim_oracle import build
from proved_models import dense, proved

import axiom_jax as ax
from axiom_jax.verification.proof.compiled import hindrance
from axiom_jax.verification.property import Atom, Case, Property
from axiom_jax.verification.search.device_pool import input_search
from axiom_jax.verification.search.leaves import LeafSearch
from axiom_jax.verification.search.margins import Subject

checker = build.load_checker()
PROFILE = "cuda" if jax.default_backend() == "gpu" else "cpu"  # of the machine that executes
Weights = list[tuple[np.ndarray, np.ndarray]]


def floats(rng: np.random.Generator, *sizes: int) -> Weights:
    return [((rng.normal(size=(a, b)) * np.sqrt(2 / a)).astype(np.float32), rng.normal(size=b).astype(np.float32) / 4)
            for a, b in itertools.pairwise(sizes)]  # fmt: skip


def in_full(apply: Any) -> Any:
    """A model that asks for products of full precision, as GPUs have to be asked."""

    def model(weights: Weights, x: Any) -> Any:
        with jax.default_matmul_precision("highest"):
            return apply(weights, x)

    return model


def residual(weights: Weights, x: Any) -> Any:
    (w, b), (v, c), (out, d) = weights
    return (x + jax.nn.relu(x @ w + b) @ v + c) @ out + d


def convolved(weights: Weights, x: Any) -> Any:
    """A 3x3 kernel over a 4x4 image, relu, pooling by means, a dense layer."""
    (kernel, b), (out, d) = weights
    image = x.reshape(1, 1, 4, 4)
    z = jax.lax.conv_general_dilated(image, jnp.reshape(kernel, (2, 1, 3, 3)), (1, 1), "SAME") + b[:2].reshape(
        1, 2, 1, 1
    )
    return jax.nn.relu(z).reshape(2, 2, 2, 2, 2).mean((2, 4)).reshape(-1) @ out + d


def normed(weights: Weights, x: Any) -> Any:
    """A layer norm between two dense layers."""
    (w, b), (out, d) = weights
    z = x @ w + b
    centred = z - z.mean()
    return centred * jax.lax.rsqrt((centred * centred).mean() + np.float32(0.1)) @ out + d


def batch_normed(weights: Weights, x: Any) -> Any:
    (w, b), (out, d) = weights
    z = (x @ w - b) * jax.lax.rsqrt(jnp.abs(b) + np.float32(0.5)) * np.float32(1.3) + np.float32(0.1)
    return jax.nn.relu(z) @ out + d


def multiplied(weights: Weights, x: Any) -> Any:
    (w, b), (out, d) = weights
    z = x @ w + b
    return (z[: z.size // 2] * z[z.size // 2 :]) @ out + d


KINDS: dict[str, tuple[Any, tuple[int, ...], bool]] = {  # the model, its widths, whether it is dense layers alone
    "relu": (dense(jax.nn.relu), (3, 6, 4, 1), True),
    "wide relu": (dense(jax.nn.relu), (6, 16, 1), True),
    "leaky relu": (dense(jax.nn.leaky_relu), (3, 6, 1), True),
    "absolute values": (dense(jnp.abs), (3, 6, 1), True),
    "residual": (residual, (4, 6, 4, 1), False),
    "convolution": (convolved, (), False),
    "batch norm": (batch_normed, (3, 6, 1), False),
    "tanh": (dense(jnp.tanh), (2, 6, 1), True),
    "sine": (dense(jnp.sin), (2, 6, 1), True),
    "atan": (dense(jnp.arctan), (2, 6, 1), True),
    "logistic": (dense(jax.nn.sigmoid), (2, 6, 1), True),
    "exp": (dense(lambda z: jnp.exp(z / 2)), (2, 5, 1), True),
    "silu": (dense(jax.nn.silu), (2, 5, 1), True),
    "layer norm": (normed, (2, 5, 1), False),
    "product": (multiplied, (2, 6, 1), False),
}
BY_PROGRAMS = {"relu", "wide relu", "leaky relu", "absolute values", "residual", "convolution", "batch norm"}


@dataclass(frozen=True)
class Certified:
    """A model, the box of its inputs, and a bound that its output stays above in every execution in float32."""

    apply: Callable[[Any, Any], Any]
    weights: Weights
    lo: np.ndarray
    hi: np.ndarray
    bound: Fraction
    dense: bool
    subject: Subject


def certified(kind: str, seed: int) -> Certified:
    """A random model of a kind, with the least bound of its certificate, which a search made and the checker takes."""
    apply, widths, layers = KINDS[kind]
    apply = in_full(apply)
    rng = np.random.default_rng(seed)
    weights = floats(rng, *widths) if widths else [*floats(rng, 9, 2), *floats(rng, 8, 1)]
    if kind == "product":
        weights[1] = (weights[1][0][:3], weights[1][1])
    inputs = widths[0] if widths else 16
    middle, radius = rng.normal(size=inputs), 10 ** rng.uniform(-3, -1, size=inputs)
    lo, hi = ((middle + s * radius).astype(np.float32) for s in (-1, 1))
    parts = rng.random((1000, inputs)).astype(np.float32)
    y = np.asarray(jax.vmap(lambda x: apply(weights, x))(np.clip(lo + (hi - lo) * parts, lo, hi)), np.float64)
    wide = inputs > 3 or kind == "layer norm"  # points miss most of many inputs, and bounds of norms are loose
    margin = (0.6 if wide else 0.1) * (float(y.max()) - float(y.min())) + 1e-4
    subject = Subject(apply, weights, (jax.ShapeDtypeStruct((inputs,), np.float32),), kind)
    ends = [tuple(Fraction(float(x)) for x in end) for end in (lo, hi)]
    threshold = Fraction(round((float(y.min()) - margin) * 2**20), 2**20)
    prop = Property((Case(ends[0], ends[1], ((Atom(((0, Fraction(1)),), threshold),),)),), "a margin")
    payload = proved(LeafSearch if kind in BY_PROGRAMS else input_search, subject, prop, profile=PROFILE)
    result = checker.check(build.seal(payload))
    assert result.accepted and result.levels == ["real", "float32"]
    return Certified(apply, weights, lo, hi, result.margin + threshold, layers, subject)


def points(model: Certified, rng: np.random.Generator, count: int) -> np.ndarray:
    """Corners, random points, and such near the least output."""
    n, lo, hi = len(model.lo), model.lo, model.hi
    parts = np.concatenate([rng.integers(0, 2, (count, n)), rng.random((count, n))]).astype(np.float32)
    x = np.clip(lo + (hi - lo) * parts, lo, hi)
    run = jax.jit(jax.vmap(lambda x: model.apply(model.weights, x)))
    for radius in (0.1, 0.01, 1e-3):
        best = x[np.argsort(np.asarray(run(x))[:, 0])[:4]]
        near = best[rng.integers(4, size=count)] + (rng.normal(size=(count, n)) * radius * (hi - lo)).astype(np.float32)
        x = np.concatenate([x[: 2 * count], best, np.clip(near, lo, hi)])
    return x[np.argsort(np.asarray(run(x))[:, 0])]


def permuted(weights: Weights, rng: np.random.Generator) -> tuple[Weights, np.ndarray]:
    """The same dense layers with hidden units in another order, and the order that inputs are to be given in."""
    first = order = rng.permutation(len(weights[0][0]))
    made = []
    for k, (w, b) in enumerate(weights):
        new = rng.permutation(len(b)) if k + 1 < len(weights) else np.arange(len(b))
        made.append((w[order][:, new], b[new]))
        order = new
    return made, first


def executions(
    model: Certified, rng: np.random.Generator, count: int, folder: Path
) -> Iterator[tuple[str, np.ndarray]]:
    """What executions gave, with how they were made; of a batch every row is one."""
    x = points(model, rng, count)
    run = lambda weights: lambda x: model.apply(weights, x)
    one, many = jax.jit(run(model.weights)), jax.jit(jax.vmap(run(model.weights)))
    yield "batches", np.asarray(many(x))
    for size in (1, 7, 64):
        yield f"batches of {size}", np.concatenate([np.asarray(many(x[k : k + size])) for k in (0, 3)])
    yield "alone", np.stack([np.asarray(one(row)) for row in x[:20]])
    yield "not jitted", np.stack([np.asarray(model.apply(model.weights, row)) for row in x[:6]])
    yield "mapped in a loop", np.asarray(jax.lax.map(run(model.weights), x[:40]))
    for _ in range(3 * model.dense):
        weights, order = permuted(model.weights, rng)
        yield "another order", np.asarray(jax.jit(jax.vmap(run(weights)))(x[:, order]))
    if PROFILE == "cpu":
        yield "by onnxruntime", exported(model, x, folder)


def exported(model: Certified, x: np.ndarray, folder: Path) -> np.ndarray:
    """What onnxruntime gives, its own optimisations of the graph left out."""
    import onnxruntime

    path = folder / "model.onnx"
    batched = lambda x: jax.vmap(lambda row: model.apply(model.weights, row))(x)
    ax.to_onnx(batched, path, (len(x), len(model.lo)), dynamic_batch=False)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {session.get_inputs()[0].name: x})[0])


def held(kind: str, seed: int, count: int, folder: Path) -> tuple[Counter[str], float, str]:
    """How many executions of each sort kept to the certificate of a model, how near the nearest came to it, and
    whether the level would be claimed of it here."""
    model, made, least = certified(kind, seed), Counter[str](), np.inf
    for how, outputs in executions(model, np.random.default_rng(seed), count, folder):
        assert outputs.dtype == np.float32 and np.isfinite(outputs).all(), (kind, seed, how)
        low = float(outputs[:, 0].min())
        assert Fraction(low) > model.bound, (kind, seed, how, low, float(model.bound))
        made[how] += len(outputs)
        least = min(least, low - float(model.bound))
    return made, least, hindrance(model.subject, PROFILE) or "claimed"


@pytest.mark.sweep(2)
@pytest.mark.parametrize("kind", ["residual", "relu"])
def test_executions_keep_to_what_was_proved(kind: str, tmp_path: Path) -> None:
    made, least, here = held(kind, 1, 30, tmp_path)
    assert made["batches"] > 60 and (PROFILE != "cpu" or made["by onnxruntime"] > 60) and 0 < least < 1
    assert here == "claimed"


def test_an_order_that_is_another_gives_other_numbers() -> None:
    """Changing places changes no number over the reals, and some in float32: these executions are not all one."""
    rng, apply = np.random.default_rng(0), dense(jax.nn.relu)
    weights, x = floats(rng, 12, 24, 1), rng.normal(size=(50, 12)).astype(np.float32)
    weights_, order = permuted(weights, rng)
    run = lambda weights, x: np.asarray(jax.vmap(lambda row: apply(weights, row))(x))
    first, second = run(weights, x), run(weights_, x[:, order])
    assert np.allclose(first, second, atol=1e-4) and (first != second).any()


@pytest.mark.campaign
@pytest.mark.parametrize("kind", KINDS)
def test_campaign(kind: str, tmp_path: Path) -> None:
    """Two models of a kind, 1,000 executions and more of each sort of order."""
    total, near = Counter[str](), []
    for seed in (10, 11):
        made, least, here = held(kind, seed, 150, tmp_path)
        total += made
        near.append(least)
    print(f"\n{kind}: {sum(total.values())} executions kept, {dict(total)}; the nearest came as near as {near}; {here}")
    assert sum(total.values()) > 1000
