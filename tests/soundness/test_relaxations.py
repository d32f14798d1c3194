"""Every nonlinearity that users write has linear bounds, they enclose, and they are as tight as stated.

One table: a function of one number, or of a few. Its lower and upper plane over each box are compared with dense,
random and edge samples, and their distance in the middle of the box with that of the best planes there are, which a
linear program (for one variable a convex hull) finds from the samples.
"""

from dataclasses import dataclass
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from scipy.optimize import linprog

from axiom_jax._program import build
from axiom_jax.verification.domains.interval import Interval
from axiom_jax.verification.domains.linear import crown_below, plan

LARGEST = float(np.finfo(np.float32).max)
ANY, POSITIVE, UNIT = (-3.4e38, 3.4e38), (1e-3, 3.4e38), (-0.999, 0.999)


@dataclass(frozen=True)
class Curve:
    """A function of one number.

    Args:
        of: the function, elementwise.
        tight: the lines' distance in the middle may be this many times that of the best lines, over boxes of `reach`.
        domain: where it is defined.
        reach: boxes have their middles in ±reach, and lie in the domain.
    """

    of: Any
    tight: float = 1.05
    domain: tuple[float, float] = ANY
    reach: float = 6.0


leaky = lambda x: jnp.where(x > 0, x, 0.1 * x)
CURVES = {
    "relu": Curve(jax.nn.relu),
    "leaky_relu": Curve(jax.nn.leaky_relu),
    "prelu": Curve(leaky),
    "elu": Curve(jax.nn.elu, 1.3),
    "selu": Curve(jax.nn.selu, 1.3),
    "celu": Curve(jax.nn.celu, 1.3),
    "relu6": Curve(jax.nn.relu6, reach=9.0),
    "hard_sigmoid": Curve(jax.nn.hard_sigmoid),
    "hard_swish": Curve(jax.nn.hard_silu),
    "hard_tanh": Curve(jax.nn.hard_tanh),
    "abs": Curve(jnp.abs),
    "sign": Curve(jnp.sign, 1.4),
    "floor": Curve(jnp.floor, 1.25),
    "ceil": Curve(jnp.ceil, 1.25),
    "round": Curve(jnp.round, 1.25),
    "clip": Curve(lambda x: jnp.clip(x, -0.5, 1.5)),
    "max with a number": Curve(lambda x: jnp.maximum(x, 0.7)),
    "min with a number": Curve(lambda x: jnp.minimum(0.7, x)),
    "tanh": Curve(jnp.tanh),
    "sigmoid": Curve(jax.nn.sigmoid),
    "softplus": Curve(jax.nn.softplus),
    "silu": Curve(jax.nn.silu),
    "gelu, erf": Curve(lambda x: jax.nn.gelu(x, approximate=False)),
    "gelu, tanh": Curve(lambda x: jax.nn.gelu(x, approximate=True)),
    "mish": Curve(jax.nn.mish),
    "soft_sign": Curve(jax.nn.soft_sign),
    "log_sigmoid": Curve(jax.nn.log_sigmoid),
    "exp": Curve(jnp.exp),
    "expm1": Curve(jnp.expm1),
    "exp2": Curve(jnp.exp2),
    "log": Curve(jnp.log, domain=POSITIVE),
    "log1p": Curve(jnp.log1p, domain=POSITIVE),
    "sqrt": Curve(jnp.sqrt, domain=POSITIVE),
    "rsqrt": Curve(lax.rsqrt, domain=POSITIVE),
    "cbrt": Curve(jnp.cbrt, domain=POSITIVE),
    "reciprocal": Curve(jnp.reciprocal, domain=POSITIVE),
    "reciprocal below 0": Curve(jnp.reciprocal, domain=(-3.4e38, -1e-3)),
    "square": Curve(jnp.square),
    "cube": Curve(lambda x: x**3),
    "fourth power": Curve(lambda x: x**4),
    "fifth power": Curve(lambda x: x**5),
    "x**-2": Curve(lambda x: x**-2, domain=POSITIVE),
    "pow 1.7": Curve(lambda x: x**1.7, domain=POSITIVE),
    "pow -0.3": Curve(lambda x: x**-0.3, domain=POSITIVE),
    "2**x": Curve(lambda x: 2.0**x),
    "sin": Curve(jnp.sin, reach=12.0),
    "cos": Curve(jnp.cos, reach=12.0),
    "tan": Curve(jnp.tan, domain=(-1.5, 1.5)),
    "atan": Curve(jnp.arctan),
    "asin": Curve(jnp.arcsin, domain=UNIT),
    "acos": Curve(jnp.arccos, domain=UNIT),
    "sinh": Curve(jnp.sinh),
    "cosh": Curve(jnp.cosh),
    "asinh": Curve(jnp.arcsinh),
    "atanh": Curve(jnp.arctanh, domain=UNIT),
    "erf": Curve(lax.erf),
    "erfc": Curve(lax.erfc),
    "x sin x": Curve(lambda x: x * jnp.sin(x)),
    "gaussian": Curve(lambda x: jnp.exp(-x * x)),
    "derivative of tanh": Curve(jax.vmap(jax.grad(jnp.tanh))),
    "derivative of silu": Curve(jax.vmap(jax.grad(jax.nn.silu))),
    "sqrt of a square and more": Curve(lambda x: jnp.sqrt(x * x + 0.5)),
}


def boxes_of(curve: Curve, count: int, seed: int) -> tuple[Any, Any, Any]:
    """Ends of boxes, tiny, wide, across 0 and far out, and which of them tightness is measured on."""
    rng = np.random.default_rng(seed)
    low, high = curve.domain
    middle = rng.uniform(max(-curve.reach, low), min(curve.reach, high), count)
    radius = np.resize([0.05, 0.3, 1.0, 3.0], count) * rng.uniform(0.7, 1.3, count) * min(1.0, (high - low) / 4)
    far = np.array([1e2, 1e4, 1e15, 1e30, 3e38])
    ends = [(middle - radius, middle + radius), (middle[:8], middle[:8]), (middle[:8] - 1e-4, middle[:8] + 1e-4),
            (-far, far), (0 * far, far), (-far, 0 * far), (far / 2, far), (-far, -far / 2), (far * 0.999999, far),
            (np.float32(np.pi) * np.array([-0.5, 0.5, 1, -1.5]), np.float32(np.pi) * np.array([0.5, 1, 1.5, 0.5])),
            (np.array([-1e-40, 1e-40, -1e-3, 0]), np.array([1e-40, 2e-40, 1e3, 0]))]  # fmt: skip
    lo, hi = (np.concatenate(side).astype(np.float32) for side in zip(*ends, strict=True))
    lo, hi = (np.clip(end, np.float32(low), np.float32(high)) for end in (lo, hi))
    measured = (np.arange(len(lo)) < count) & (hi > lo)
    return lo, hi, measured


@dataclass(frozen=True)
class Several:
    """A function of a few numbers, over boxes of them.

    Args:
        of: from a vector.
        size: of the vector.
        tight: as for curves, of the sum over all outputs.
        lowest: every number is at least this.
        radius: of boxes.
    """

    of: Any
    size: int
    tight: float
    lowest: float = -6.0
    radius: float = 1.0


w = jnp.asarray(np.random.default_rng(3).normal(size=(4, 3)), jnp.float32)
layer_norm = lambda x: (x - x.mean()) / jnp.sqrt(x.var() + 1e-2)


def recurrent(x: Any) -> Any:
    """Three steps of a gated cell over a sequence."""
    step = lambda h, u: (jnp.tanh(w[0] * u + h) * jax.nn.sigmoid(w[1] * u - h), h.sum())
    return lax.scan(step, jnp.zeros(3), x)[0]


def looped(x: Any) -> Any:
    """A loop of known length, written as one that asks before each step."""
    return lax.while_loop(lambda c: c[0] < 3, lambda c: (c[0] + 1, jnp.sin(c[1]) + x), (0, jnp.zeros_like(x)))[1]


SEVERAL = {
    "max": Several(lambda x: jnp.maximum(x[0], x[1]), 2, 1.35),
    "min": Several(lambda x: jnp.minimum(x[0], x[1]), 2, 1.35),
    "product": Several(lambda x: x[0] * x[1], 2, 1.05),
    "x y + y z": Several(lambda x: x[0] * x[1] + x[1] * x[2], 3, 1.05),
    "matmul": Several(lambda x: x[:4].reshape(2, 2) @ x[4:].reshape(2, 1), 6, 1.15),
    "division": Several(lambda x: x[0] / x[1], 2, 2.0, lowest=0.5),
    "softmax": Several(jax.nn.softmax, 3, 1.6),
    "log_softmax": Several(jax.nn.log_softmax, 3, 1.7),
    "logsumexp": Several(jax.nn.logsumexp, 3, 1.7),
    "layer norm": Several(layer_norm, 3, 16.0),
    "reduce_max": Several(lambda x: x.max(), 3, 1.7),
    "maxpool": Several(lambda x: lax.reduce_window(x, -jnp.inf, lax.max, (2,), (1,), "VALID"), 3, 1.35),
    "cumsum of relu": Several(lambda x: jnp.cumsum(jax.nn.relu(x)), 3, 1.05),
    "where": Several(lambda x: jnp.where(x[0] > x[1], x[0] - x[1], x[2]), 3, 2.0),
    "argmax": Several(lambda x: (jnp.argmax(x) == 1) * 1.0, 3, 2.7),
    "gather": Several(lambda x: jnp.abs(x)[jnp.array([2, 0, 2])], 3, 1.05),
    "sort": Several(jnp.sort, 3, 3.8),
    "top_k": Several(lambda x: lax.top_k(x, 2)[0], 3, 3.8),
    "scan": Several(recurrent, 3, 3.0),
    "while": Several(looped, 2, 1.5),
    "grad": Several(jax.grad(lambda x: jnp.tanh(w @ x).sum() + x.prod()), 3, 2.0),
    "jvp": Several(lambda x: jax.jvp(lambda x: jax.nn.silu(w @ x), (x,), (jnp.ones(3),))[1], 3, 2.0),
    "jacobian": Several(jax.jacobian(lambda x: jax.nn.sigmoid(w[:2] @ x)), 3, 1.5),
    "norm": Several(lambda x: jnp.sqrt((x * x).sum() + 1e-3), 3, 2.0),
}
FAST = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}


def planes(of: Any, lo: Any, hi: Any) -> tuple[Any, Any, Any]:
    """Both planes of every output over boxes (boxes, inputs): coefficients (2, boxes, outputs, inputs), values in the
    middle and least values (2, boxes, outputs) of the lower plane of f, and of that of -f."""
    both = lambda _, x: jnp.concatenate([jnp.ravel(of(x)), -jnp.ravel(of(x))])
    program, values = build(both, (), jax.ShapeDtypeStruct(lo.shape[1:], np.float32))
    planned = plan(program)
    bounding = jax.jit(jax.vmap(lambda lo, hi: crown_below(planned, values, Interval(lo, hi))))
    found = bounding.lower(lo, hi).compile(compiler_options=FAST)(lo, hi)
    rows, least = np.asarray(found.rows[0], np.float64), np.asarray(found.value, np.float64)
    with np.errstate(over="ignore", invalid="ignore"):
        middle = least + (np.abs(rows) * ((hi.astype(np.float64) - lo) / 2)[:, None]).sum(-1)
    halves = lambda a: np.stack(np.split(a, 2, axis=1))
    return halves(rows), halves(middle), halves(least)


@cache
def evaluated(of: Any) -> Any:
    """The function of many points (..., inputs): (..., outputs)."""
    return jax.jit(lambda x: jnp.vectorize(lambda x: jnp.ravel(of(x)), signature="(n)->(m)")(x))


def sampled(lo: Any, hi: Any, count: int, rng: Any) -> Any:
    """(points, boxes, inputs) float32: dense along the diagonals, at random, corners, and next to the ends."""
    n = lo.shape[1]
    along = np.linspace(0, 1, count)[:, None, None] * np.ones((1, 1, n))
    flipped = np.where(rng.integers(0, 2, (count, 1, n)), along, 1 - along)
    inner, corners = rng.uniform(size=(count, len(lo), n)), rng.integers(0, 2, (16, 1, n))
    parts = [along, flipped, corners, 1e-3 * rng.uniform(size=(4, 1, n)), 1 - 1e-3 * rng.uniform(size=(4, 1, n))]
    t = np.concatenate([*(np.broadcast_to(p, (len(p), *lo.shape)) for p in parts), inner])
    return np.clip((lo * (1 - t) + hi * t).astype(np.float32), lo, hi)


def assert_encloses(name: str, of: Any, lo: Any, hi: Any, found: tuple[Any, Any, Any], points: Any) -> Any:
    """The planes, least values and samples agree; returns the values at the points."""
    rows, middle, least = found
    assert not np.isnan(least).any() and not np.isposinf(least).any(), f"{name}: a bound that says more than it knows"
    values = np.asarray(evaluated(of)(jnp.asarray(points)), np.float64)
    centre = lo.astype(np.float64) / 2 + hi.astype(np.float64) / 2
    size = np.abs(np.clip(values, -1e38, 1e38)).max(0, where=~np.isnan(values), initial=0)
    for side, sign in enumerate((1, -1)):
        with np.errstate(over="ignore", invalid="ignore"):
            plane = middle[side] + ((points - centre)[:, :, None] * rows[side]).sum(-1)
            terms = size + np.abs(middle[side]) + (np.abs(rows[side]) * np.abs(centre)[:, None]).sum(-1)
            for bound in (plane, np.broadcast_to(least[side], plane.shape)):
                broken = sign * np.clip(values, -LARGEST, LARGEST) < bound - (2e-5 * terms + 1e-6)
                boxes = np.argwhere(broken)[:, 1]
                assert not len(boxes), f"{name}: a plane cuts the function over {lo[boxes[0]]} to {hi[boxes[0]]}"
    return values


def hull_gap(points: Any, values: Any, centre: Any) -> float:
    """The distance of the best planes in the middle: the convex hull's, of the samples of one box and output."""
    spread = np.abs(points - centre).max()
    constraints = np.vstack([((points - centre) / spread).T, np.ones(len(points))])
    wanted = np.append(np.zeros(points.shape[1]), 1.0)
    ends = [linprog(sign * values, A_eq=constraints, b_eq=wanted, method="highs") for sign in (1, -1)]
    assert all(end.status == 0 for end in ends)
    return -ends[1].fun - ends[0].fun


def hull_gap_1d(x: Any, values: Any, centre: float) -> float:
    """The same for one number: every chord over the middle of samples on both sides of it."""
    left, right = x <= centre, x >= centre
    (a, fa), (b, fb) = ((x[side], values[side]) for side in (left, right))
    width = np.where(b[None] > a[:, None], b[None] - a[:, None], 1)
    over = fa[:, None] + (fb[None] - fa[:, None]) * (centre - a[:, None]) / width
    return over.max() - over.min()


DAILY = ("silu", "elu", "sin", "floor")  # the rules of `relax` have tests of their own, and the rest is a campaign


@pytest.mark.parametrize("name", [n if n in DAILY else pytest.param(n, marks=pytest.mark.campaign) for n in CURVES])
def test_curve(name):
    curve = CURVES[name]
    rng = np.random.default_rng(len(name))
    lo, hi, measured = boxes_of(curve, 24, 7)
    lo, hi = lo[:, None], hi[:, None]
    found = planes(curve.of, lo, hi)
    points = sampled(lo, hi, 96, rng)
    values = assert_encloses(name, curve.of, lo, hi, found, points)
    gaps, best = found[1].sum(0)[:, 0] * -1, np.zeros(len(lo))
    for box in np.flatnonzero(measured):
        x = points[:, box, 0].astype(np.float64)
        best[box] = hull_gap_1d(x, values[:, box, 0], float(lo[box, 0] / 2 + hi[box, 0] / 2))
    loosest = gaps[measured] / np.maximum(best[measured], 1e-3)
    assert best[measured].sum() > 0
    assert np.median(loosest) <= curve.tight and gaps[measured].sum() <= curve.tight * best[measured].sum() + 1e-3, (
        f"{name}: lines are {np.median(loosest):.2f} (all in all {gaps[measured].sum() / best[measured].sum():.2f}) "
        f"times as far apart as need be"
    )


DAILY_SEVERAL = ("product", "softmax", "reduce_max")


@pytest.mark.parametrize(
    "name", [n if n in DAILY_SEVERAL else pytest.param(n, marks=pytest.mark.campaign) for n in SEVERAL]
)
def test_function_of_several(name):
    entry = SEVERAL[name]
    rng = np.random.default_rng(len(name))
    radius = np.resize([0.2, 1.0, 1e-4], 9)[:, None] * entry.radius * rng.uniform(0.5, 1.5, (9, entry.size))
    radius[-1] = 0
    middle = np.maximum(rng.uniform(-2, 2, (9, entry.size)), entry.lowest + radius)
    wide = np.array([[1e3], [1e15], [1e30]]) * rng.uniform(0.5, 1, (3, entry.size))
    lo, hi = np.concatenate([middle - radius, -wide]), np.concatenate([middle + radius, wide])
    lo = np.maximum(lo, entry.lowest) if entry.lowest > 0 else lo
    lo, hi = lo.astype(np.float32), hi.astype(np.float32)
    found = planes(entry.of, lo, hi)
    points = sampled(lo, hi, 48, rng)
    values = assert_encloses(name, entry.of, lo, hi, found, points)
    measured = [b for b in range(9) if radius[b].min() > 1e-2]
    centre = lo.astype(np.float64) / 2 + hi.astype(np.float64) / 2
    best = sum(
        hull_gap(points[:, b].astype(np.float64), values[:, b, output], centre[b])
        for b in measured
        for output in range(values.shape[-1])
    )
    gap = -found[1].sum(0)[measured].sum()
    assert gap <= entry.tight * best + 1e-3, f"{name}: planes are {gap / best:.2f} times as far apart as need be"


def test_a_wrong_plane_is_found():
    lo, hi = np.full((1, 1), -1, np.float32), np.full((1, 1), 1, np.float32)
    found = planes(jnp.tanh, lo, hi)
    rows, middle, least = (a.copy() for a in found)
    middle[0] += 0.3
    with pytest.raises(AssertionError):
        assert_encloses("tanh", jnp.tanh, lo, hi, (rows, middle, least), sampled(lo, hi, 20, np.random.default_rng(0)))
