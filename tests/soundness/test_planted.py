"""Planted counterexamples: nets that are unsafe at a point that gradients do not lead to. None may ever be proved.

Spikes are built: a narrow hat around a point, in random units, so that its flanks are steep and all else is flat.
Hidden ones are trained: the margin is raised wherever projected gradient descent gets to, and kept negative at the
point. That the point is unsafe is checked in rational arithmetic, on the float32 weights.
"""

import sys
import time
from fractions import Fraction
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

sys.path.insert(0, str(Path(__file__).parent))
from enumeration import layer, relu, value

from axiom_jax.verification.property import Atom, Case, Property
from axiom_jax.verification.search.decide import decide
from axiom_jax.verification.search.leaves import LeafSearch
from axiom_jax.verification.search.margins import Subject, pose
from axiom_jax.verification.verdict import Claimed, Proved, Refuted

ONE, INPUTS, HIDDEN = Fraction(1), 2, 12
NARROW = 0.15  # how far from its point a trained net is made safe again
SPECS = (jax.ShapeDtypeStruct((INPUTS,), np.float32),)
UNSAFE = Property((Case((-ONE,) * INPUTS, (ONE,) * INPUTS, ((Atom(((0, ONE),), Fraction(0)),),)),), "y > 0")


def network(weights, x):
    (w1, b1), (w2, b2), (w3, b3) = weights
    return w3 @ jax.nn.relu(w2 @ jax.nn.relu(w1 @ x + b1) + b2) + b3


def exactly(weights, point):
    exact = [([[Fraction(float(c)) for c in row] for row in w], [Fraction(float(c)) for c in b]) for w, b in weights]

    def net(forms, decide_sign):
        for w, b in exact[:-1]:
            forms = [relu(form, decide_sign) for form in layer(w, b, forms)]
        return layer(*exact[-1], forms)

    return value(net, [Fraction(float(x)) for x in point])[0]


def spike(seed):
    """y = 1 + noise − height · relu(1 − |x − p|₁ / width), its units permuted and rescaled by powers of two."""
    generator = np.random.default_rng(seed)
    point = generator.uniform(-0.9, 0.9, INPUTS).astype(np.float32)
    width, height = 2.0 ** -generator.integers(3, 11), 2.0 ** generator.integers(1, 4)
    w1, b1 = np.zeros((HIDDEN, INPUTS)), np.zeros(HIDDEN)
    for i in range(INPUTS):
        for side, sign in enumerate((1.0, -1.0)):
            w1[2 * i + side, i], b1[2 * i + side] = sign, -sign * float(point[i])
    rest = slice(2 * INPUTS, HIDDEN)
    w1[rest] = generator.normal(size=(HIDDEN - 2 * INPUTS, INPUTS))
    b1[rest] = generator.normal(size=HIDDEN - 2 * INPUTS)
    w2, b2 = np.zeros((HIDDEN, HIDDEN)), np.zeros(HIDDEN)
    w2[0, : 2 * INPUTS], b2[0] = -1 / width, 1.0
    w2[1:, rest] = generator.normal(size=(HIDDEN - 1, HIDDEN - 2 * INPUTS)) / 4
    w3 = np.concatenate([[-height], np.abs(generator.normal(size=HIDDEN - 1)) / 16])[None]
    order, scale = generator.permutation(HIDDEN), 2.0 ** generator.integers(-3, 4, HIDDEN)
    w2, b2, w3 = w2[order] * scale[:, None], b2[order] * scale, w3[:, order] / scale
    shuffle = generator.permutation(HIDDEN)
    w1, b1, w2 = w1[shuffle], b1[shuffle], w2[:, shuffle]
    weights = [(w1, b1), (w2, b2), (w3, np.zeros(1))]
    weights = [(w.astype(np.float32), b.astype(np.float32)) for w, b in weights]
    deep = float(exactly(weights, point))
    weights[-1] = (weights[-1][0], np.array([-deep - 2.0**-6], np.float32))
    return weights, point


@partial(jax.jit, static_argnums=1)
def _trained(keys, steps):
    """Nets, one a key, whose margin is negative at a point of their own and positive wherever descent gets to."""

    def one(key):
        keys = jax.random.split(key, 5)
        sizes = [(HIDDEN, INPUTS), (HIDDEN, HIDDEN), (1, HIDDEN)]
        draw = lambda k, shape: (jax.random.normal(k, shape) * (2 / shape[1]) ** 0.5, jnp.zeros(shape[0]))
        weights = [draw(k, shape) for k, shape in zip(keys[:3], sizes, strict=True)]
        point = jax.random.uniform(keys[3], (INPUTS,), minval=-0.9, maxval=0.9)
        optimiser = optax.adam(1e-2)

        def descend(weights, x):
            gradient = jax.vmap(jax.grad(lambda v: network(weights, v)[0]))
            for rate in (0.2, 0.1, 0.05, 0.02):
                x = jnp.clip(x - rate * jnp.sign(gradient(x)), -1, 1)
            return x

        def loss(weights, x):
            reached = jax.vmap(lambda v: network(weights, v)[0])(jax.lax.stop_gradient(descend(weights, x)))
            return jnp.maximum(0.3 - reached, 0).mean() + 4 * jnp.maximum(network(weights, point)[0] + 0.05, 0)

        def step(state, key):
            weights, slots = state
            far, near = jax.random.uniform(key, (2, 16, INPUTS), minval=-1, maxval=1)
            x = jnp.concatenate([far, jnp.clip(point + near * NARROW, -1, 1)])  # half of them next to the point
            updates, slots = optimiser.update(jax.grad(loss)(weights, x), slots)
            return (optax.apply_updates(weights, updates), slots), None

        (weights, _), _ = jax.lax.scan(step, (weights, optimiser.init(weights)), jax.random.split(keys[4], steps))
        return weights, point

    return jax.vmap(one)(keys)


def hidden(count, seed, steps=400):
    """Trained nets and their points; those whose point did not stay unsafe are left out."""
    weights, points = jax.tree.map(np.asarray, _trained(jax.random.split(jax.random.key(seed), count), steps))
    nets = [([(w[k], b[k]) for w, b in weights], points[k]) for k in range(count)]
    return [(net, point) for net, point in nets if exactly(net, point) <= 0]


def verdict_of(weights, seconds):
    return decide(Subject(network, weights, SPECS, "planted"), UNSAFE, timeout=seconds).verdict


def test_the_search_finds_spikes_and_proves_none():
    for seed in range(3):
        weights, point = spike(seed)
        assert exactly(weights, point) < 0
        judge = lambda case, x, weights=weights: exactly(weights, x) <= 0
        search = LeafSearch(pose(Subject(network, weights, SPECS), UNSAFE))
        assert search.run(time.monotonic() + 20, judge) == "unsafe"


def test_without_its_spike_a_net_is_proved():
    """The test above can fail: the same nets with the hat's weight at zero are closed."""
    weights, point = spike(0)
    w3, _ = weights[2]
    flat = w3.copy()
    flat[0, np.argmin(flat[0])] = 0
    weights[2] = (flat, np.array([0.25], np.float32))
    judge = lambda case, x: exactly(weights, x) <= 0
    search = LeafSearch(pose(Subject(network, weights, SPECS), UNSAFE))
    assert search.run(time.monotonic() + 20, judge) == "closed"
    assert exactly(weights, point) > 0


@pytest.mark.campaign
@pytest.mark.parametrize("kind", ["spikes", "hidden"])
def test_campaign_planted_counterexamples(kind):
    """100 nets of each kind; `pytest -n 0 -m campaign tests/soundness/test_planted.py`."""
    nets = [spike(1000 + seed) for seed in range(100)] if kind == "spikes" else hidden(160, 7)[:100]
    assert len(nets) == 100
    found = []
    for number, (weights, point) in enumerate(nets):
        assert exactly(weights, point) <= 0
        verdict = verdict_of(weights, 20.0)
        assert not isinstance(verdict, (Proved, Claimed)), (kind, number)
        found.append(isinstance(verdict, Refuted))
    print(f"{kind}: 0 of 100 proved, {sum(found)} refuted")
