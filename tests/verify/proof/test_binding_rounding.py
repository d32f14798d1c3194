"""The replay of a model in float32 against the program of its certificate: how close is close, and where it looks."""

from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import axiom_jax as ax
from axiom_jax.verification.proof import exact as view
from axiom_jax.verification.proof.exact import Exact, exactly, replayed
from axiom_jax.verification.proof.rounding import tolerances
from axiom_jax.verification.property import Atom, Case, Property
from axiom_jax.verification.search.decide import decide
from axiom_jax.verification.search.margins import Subject

SPECS = (jax.ShapeDtypeStruct((6,), np.float32),)
rng = np.random.default_rng(0)
W = rng.normal(size=(6, 40)).astype(np.float32)
V = rng.normal(size=(40, 6)).astype(np.float32)
MODELS = {
    "deep": lambda w, x: jnp.tanh(jax.nn.relu(jax.nn.relu(x @ w["W"]) @ w["V"] @ w["W"]) @ w["V"]),
    "softmax": lambda w, x: jax.nn.softmax(x @ w["W"]),
    "layer norm": lambda w, x: (x - x.mean()) / jnp.sqrt(((x - x.mean()) ** 2).mean() + 1e-3),
    "cancelling": lambda w, x: (x + 1000.0) - 1000.0,
    "gate": lambda w, x: jnp.where(x > 0.1, x @ w["W"] @ w["V"], x),
    "powers": lambda w, x: jax.nn.sigmoid(x) * x**2 / (1 + jnp.exp(-x)),
    "root": lambda w, x: jnp.sqrt(jnp.abs(x) + 1e-4) + x / 3,
}


def on_box(lo, hi):
    case = Case((Fraction(lo),) * 6, (Fraction(hi),) * 6, ((Atom(((0, Fraction(1)),), Fraction(-100)),),))
    return Property((case,), "y_0 > -100")


@pytest.mark.parametrize("name", MODELS)
def test_float32_lies_within_the_tolerance_and_the_tolerance_is_small(name):
    subject = Subject(MODELS[name], {"W": W, "V": V}, SPECS)
    network, (program, values) = exactly(subject).network, subject.flat
    points = rng.uniform(-2, 2, (12, 6)).astype(np.float32)
    exact = [[Fraction(float(v)) for v in x] for x in points]
    for x, at, tolerance in zip(points, exact, tolerances(network, exact), strict=True):
        truth = np.array([float(lo) for lo, _ in network.evaluate(at)])
        off = abs(np.asarray(program.evaluate(values, x)[0], np.float64) - truth)
        assert (off <= tolerance / 3).all()
        assert tolerance.max() < 4e-3 if name == "cancelling" else tolerance.max() < 2e-4 * max(1, abs(truth).max())


def test_the_replay_looks_where_the_property_does():
    """A certificate's program that is right between −1 and 1 and wrong above 5 gives no certificate of a box there."""
    subject = Subject(lambda w, x: jax.nn.relu(x - w), np.full(6, 5, np.float32), SPECS)
    other = Subject(lambda w, x: jax.nn.relu(x - w), np.full(6, 50, np.float32), SPECS)
    assert replayed(subject, on_box(6, 7)) is None
    right, wrong = exactly(subject), exactly(other)
    view._made[subject] = Exact(wrong.model, wrong.blob, None, right.sites)
    assert replayed(subject, on_box(-1, 1)) is None
    assert "disagree at a point" in str(replayed(subject, on_box(6, 7)))
    verdict = decide(subject, on_box(6, 7)).verdict
    assert isinstance(verdict, ax.Claimed) and "disagree at a point" in str(verdict.reason)


def test_a_small_mistake_is_seen():
    """A weight that is off by 3 in 10,000, which a tolerance of a thousandth lets pass."""
    right = Subject(lambda w, x: jax.nn.relu(x @ w), W, SPECS)
    exactly(right)
    wrong = exactly(Subject(lambda w, x: jax.nn.relu(x @ w), W * np.float32(1.0003), SPECS))
    view._made[right] = Exact(wrong.model, wrong.blob)
    assert "disagree at a point" in str(replayed(right, on_box(-1, 1)))


def test_what_certificates_cannot_express_stays_so():
    subject = Subject(lambda _, x: jnp.cbrt(x), (), SPECS)
    assert replayed(subject, on_box(-1, 1)) == exactly(subject).missing == "cbrt"
