"""Nets that are built so that rounding breaks them: what the level float32 accepts, no execution may break.

Each is true over the reals with a margin that rounding takes, or nearly. The greatest threshold that is accepted is
looked for; then the net is executed in every order, fused or not, flushing or not, and by XLA, jitted or not, alone
and in batches. Source of the ideas: Jia and Rinard 2020, arXiv 2003.03021; and arXiv 2506.01054.
"""

import itertools
import sys
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parent))
from claim_oracle import build
from float32_ways import nearest, ways

from axiom_jax.verification.proof.exact import exactly
from axiom_jax.verification.proof.float32 import obstacle
from axiom_jax.verification.search.margins import Subject

checker = build.load_checker()
f = np.float32
Point = list[float]
RAMP = np.linspace(-1, 1, 64).astype(f)
BIG = f(2**27)


def layer(*rows: Any) -> np.ndarray:
    return np.array(rows, f)


def normalised(_: Any, x: Any) -> Any:
    centred = x - x.mean()
    return centred * jax.lax.rsqrt((centred * centred).mean() + f(1e-5))


ONES = np.ones((64, 1), f)
ALTERNATING = layer(*[[(-1) ** k * 2.0 ** (k // 2 % 24)] for k in range(64)])
DUST = [1.0] + [2.0**-24] * 63  # added to 1 one by one, what is small is lost
ADVERSARIES: dict[str, tuple[Callable[[Any, Any], Any], Point]] = {
    "dust": (lambda _, x: x @ ONES, DUST),
    "dust that is summed": (lambda _, x: x.sum(keepdims=True), DUST),
    "large weights that cancel": (lambda _, x: x @ layer([1e8], [-1e8], [1], [1e-8]), [1.0, 1.0, 1.0, 1.0]),
    "a huge constant added and taken off": (lambda _, x: (x + f(1e8)) - f(1e8), [0.3, 7.7, -3.1]),
    "it in three steps": (lambda _, x: ((x + BIG) + f(0.7)) - BIG, [0.3]),
    "a bias that swallows": (lambda _, x: (x @ ONES[:8] + BIG) - BIG, [0.1] * 8),
    "alternating sizes": (lambda _, x: x @ ALTERNATING, [0.7] * 64),
    "a ramp of both signs": (lambda _, x: (x * RAMP) @ ONES, [1.1] * 64),
    "two layers that cancel": (
        lambda _, x: jax.nn.relu(x @ layer([1e6, 1e6 + 1], [3, 1])) @ layer([1], [-1]), [1.0, 0.1]),
    "branches that cancel": (lambda _, x: x @ layer([3e7], [1]) - x @ layer([3e7], [-1]), [1.1, 1e-3]),
    "a difference of squares": (lambda _, x: (x + f(4096)) ** 2 - x**2, [0.123]),
    "a sum used twice": (lambda _, x: jax.nn.relu(x @ ONES) - x @ ONES, [0.1] * 64),
    "a matrix undone": (lambda _, x: (x @ layer([1e4, 1], [1, 1e-4 + 1])) @ layer([1], [-1e4]), [1.0, 1.0]),
    "what is flushed": (lambda _, x: jax.nn.relu(x * f(2.0**-70)) * f(2.0**40), [1e-20, 1e-21]),
    "tiny products": (lambda _, x: (x[:1] * x[1:2]) * f(2.0**50), [1e-25, 1e-17]),
    "a subnormal input": (lambda _, x: jax.nn.relu(x), [1e-40]),
    "near the greatest": (lambda _, x: x @ layer([2.0**29], [-(2.0**29)], [1]), [2.0**29, 2.0**29, 1.0]),
    "beyond the greatest": (lambda _, x: x @ layer([2.0**59], [-(2.0**59)], [1]), [2.0**9, 2.0**9, 1.0]),
    "exponentials that cancel": (lambda _, x: jnp.exp(x[:1]) - jnp.exp(x[1:2]), [15.0, 14.999999]),
    "an exponential squared": (lambda _, x: jnp.exp(x) * x, [17.3]),
    "a saturated logistic": (lambda _, x: (f(1) - jax.nn.sigmoid(x)) * f(2**20), [14.5]),
    "a saturated tanh": (lambda _, x: (f(1) - jnp.tanh(x)) * f(2**20), [7.5]),
    "a root that is squared": (lambda _, x: jnp.sqrt(x) ** 2 - x, [1.7]),
    "a normalisation": (normalised, [1e3, 1e3 + 0.01, 1e3 - 0.01, 1e3]),
    "a maximum of equals": (lambda _, x: jnp.max(x @ layer([1e7, 1e7], [1, 2]), keepdims=True) - f(1e7), [1.0, 0.4]),
    "means of means": (lambda _, x: x.reshape(4, 4).mean(0) @ ONES[:4] / f(3), [0.1 * k for k in range(16)]),
}  # fmt: skip


class Posed:
    """A net at a point, as a certificate's program, with the bounds of an output that the checker accepts."""

    def __init__(self, subject: Subject, point: Point, row: dict[int, int]) -> None:
        exact = exactly(subject)
        assert exact.missing is None, exact.missing
        self.subject, self.row = subject, row
        self.point = [Fraction(float(f(x))) for x in point]
        self.model, self.weights = exact.model, build.packed(exact.blob)
        program = self.model["program"]
        self.nodes = program["nodes"][: program["output"] + 1]
        self.tensors = build.tensors_of({"model": self.model, "weights": self.weights})

    def judged(self, threshold: Fraction, profile: str) -> Any:
        """What the checker says to: the sum of the row's multiples of the outputs is above the threshold."""
        case = build.case(self.point, self.point, [[build.atom(self.row, threshold)]])
        payload = build.certificate(
            [], {}, [case], {"kind": "tree", "trees": [build.tree([-1], [[0]])]}, "holds", profile
        )
        return checker.check(build.seal(payload | {"model": self.model, "weights": self.weights}))

    def bound(self, profile: str) -> Fraction | None:
        """The least value that the checker accepts; None where the level is refused."""
        low = -Fraction(2**100)
        result = self.judged(low, profile)
        return result.margin + low if result.accepted else None

    def of(self, outputs: Any) -> Fraction:
        return sum((Fraction(c) * Fraction(float(outputs[j])) for j, c in self.row.items()), Fraction(0))


def posed(name: str, sign: int) -> Posed:
    apply, point = ADVERSARIES[name]
    return Posed(Subject(apply, (), (jax.ShapeDtypeStruct((len(point),), f),)), point, {0: sign})


def least(net: Posed, seeds: int = 4, every: int = 1) -> tuple[Fraction, str]:
    """The least value that any way of executing the program gives, and the way."""
    found = [(sum((c * run.run(net.point)[-1][j] for j, c in net.row.items()), Fraction(0)), way)
             for way, run in ways(net.nodes, net.tensors, seeds, every)]  # fmt: skip
    return min(found)


def test_rounding_is_that_of_numpy() -> None:
    rng = np.random.default_rng(0)
    for x in [*rng.normal(size=300) * 2.0 ** rng.integers(-160, 120, 300), 0.0, 2.0**-150, 3 * 2.0**-150, 1 + 2.0**-24]:
        assert nearest(Fraction(x)) == Fraction(float(f(x))), x


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("name", ADVERSARIES)
def test_what_is_accepted_no_order_breaks(name: str, sign: int) -> None:
    net = posed(name, sign)
    real, both = net.bound(""), net.bound("cpu")
    worst, way = least(net)
    assert real is not None
    if both is None:
        assert name in ("beyond the greatest",), net.judged(-Fraction(2**100), "cpu").reason
        return
    assert both <= worst, way
    step = Fraction(1, 2**80)
    assert net.judged(both - step, "cpu").accepted and not net.judged(both + step, "cpu").accepted
    if worst <= real - step:  # true over the reals, and an execution breaks it
        assert net.judged(real - step, "").accepted and not net.judged(real - step, "cpu").accepted
        assert not net.judged(worst, "cpu").accepted


def test_rounding_breaks_most_of_them() -> None:
    """The constructions are no straw men: some order of most of them goes below what is true over the reals."""
    broken = 0
    for name in ADVERSARIES:
        nets = [posed(name, sign) for sign in (1, -1)]
        broken += any(least(net, 1, 4)[0] < (net.bound("") or 0) - Fraction(1, 2**38) for net in nets)
    assert broken >= len(ADVERSARIES) * 2 // 3


def executed(apply: Any, point: Point, batches: Any, eager: bool) -> list[np.ndarray]:
    """Outputs by XLA: eager, jitted, and of batches in which every row is the point."""
    x = np.array(point, f)
    model = lambda x: apply((), x)
    with jax.default_matmul_precision("highest"):
        found = [np.asarray(model(x))] if eager else []
        found.append(np.asarray(jax.jit(model)(x)))
        for size in batches:
            found += [*np.asarray(jax.jit(jax.vmap(model))(np.tile(x, (size, 1))))]
    return found


def kept(name: str, batches: Any, eager: bool = True) -> bool:
    """Whether the level speaks of the net; executions by XLA then keep to what is accepted."""
    net = posed(name, 1)
    if obstacle(net.subject) is not None:
        return False
    apply, point = ADVERSARIES[name]
    for outputs in executed(apply, point, batches, eager):
        for sign in (1, -1):
            net.row = {0: sign}
            bound = net.bound("cpu")
            assert bound is None or bound <= net.of(outputs), (name, outputs)
    return True


@pytest.mark.parametrize("name", [*ADVERSARIES][::4])
def test_what_is_accepted_xla_keeps(name: str) -> None:
    kept(name, [7])


@pytest.mark.campaign
def test_campaign_xla() -> None:
    assert sum(kept(name, [1, 7, 64]) for name in ADVERSARIES) > len(ADVERSARIES) // 2


def random_net(seed: int) -> Posed:
    """Dense relu layers whose weights are of all sizes, many with a partner that cancels them."""
    rng = np.random.default_rng(seed)
    sizes = [int(rng.integers(2, 10)) for _ in range(int(rng.integers(2, 5)))] + [1]
    weights, biases = [], []
    for a, b in itertools.pairwise(sizes):
        scale = 2.0 ** rng.uniform(*((-3, 3), (-20, 20), (-40, 8), (0, 26))[rng.integers(4)], (a, b))
        w = rng.normal(size=(a, b)) * scale
        half = a // 2
        w[half : 2 * half] = -w[:half] * (1 + rng.choice([0, 2.0**-23, 1e-3], (half, b)))
        weights.append(w.astype(f))
        biases.append((rng.normal(size=b) * 2.0 ** rng.uniform(-20, 20)).astype(f))
    x = rng.normal(size=sizes[0]) * 2.0 ** rng.integers(-30, 10)
    x[sizes[0] // 2 : 2 * (sizes[0] // 2)] = x[: sizes[0] // 2]

    def apply(parts: Any, x: Any) -> Any:
        for w, b in parts[:-1]:
            x = jax.nn.relu(x @ w + b)
        return x @ parts[-1][0] + parts[-1][1]

    parts = [*zip(weights, biases, strict=True)]
    subject = Subject(apply, parts, (jax.ShapeDtypeStruct((sizes[0],), f),))
    return Posed(subject, x.astype(f).tolist(), {0: int(rng.choice([1, -1]))})


def random_one(seed: int, every: int = 1) -> bool:
    net = random_net(seed)
    bound = net.bound("cpu")
    if bound is None:
        return False
    worst, way = least(net, 8 // every, every)
    assert bound <= worst, (seed, way)
    return True


@given(st.integers(0, 2**32 - 1))
def test_random_nets_that_cancel_keep_what_is_accepted(seed: int) -> None:
    random_one(seed, every=8)


@pytest.mark.campaign
def test_campaign_random_nets() -> None:
    """300 nets, each in 72 ways."""
    spoken = sum(random_one(seed) for seed in range(300))
    print(f"\n{spoken} of 300 random nets are spoken of at level float32, and kept in 72 ways each")
    assert spoken > 150
