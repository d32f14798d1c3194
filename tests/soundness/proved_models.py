"""Certificates that the searches make of small models, close to what is true of them: what the attacks start from."""

import copy
import itertools
import time
from collections.abc import Callable
from fractions import Fraction
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from axiom_jax.verification import checker
from axiom_jax.verification.proof.certificate import certificate, describe_property, point_proof
from axiom_jax.verification.proof.exact import exactly
from axiom_jax.verification.proof.float32 import obstacle
from axiom_jax.verification.property import Atom, Case, Property
from axiom_jax.verification.search.device_pool import input_search
from axiom_jax.verification.search.leaves import LeafSearch
from axiom_jax.verification.search.margins import Subject, pose
from axiom_jax.verification.search.neuron_splits import NeuronSearch

ONE, SECONDS = Fraction(1), 120.0
Payload = dict[str, Any]


def drawn(seed: int, *sizes: int) -> Any:
    """Weights and biases of dense layers, in eighths: fractions stay small for the oracle."""
    rng = np.random.default_rng(seed)
    few = lambda *shape: (rng.integers(-10, 11, shape) / 8).astype(np.float32)
    return [(few(a, b), few(b)) for a, b in itertools.pairwise(sizes)]


def dense(activation: Callable[[Any], Any]) -> Callable[[Any, Any], Any]:
    def apply(weights: Any, x: Any) -> Any:
        for w, b in weights[:-1]:
            x = activation(x @ w + b)
        w, b = weights[-1]
        return x @ w + b

    return apply


def gated(weights: Any, x: Any) -> Any:
    ((w, b), (v, c)) = weights
    z = x @ w + b
    return jnp.where(z[:3] > 0, z[3:], -z[3:] / 2) @ v + c


def multiplied(weights: Any, x: Any) -> Any:
    ((w, b), (v, c)) = weights
    z = x @ w + b
    return (z[:3] * z[3:]) @ v + c


def posed(apply: Any, weights: Any, inputs: int, disjuncts: Any, boxes: Any) -> tuple[Subject, Property]:
    """A question whose thresholds, given as margins, lie below the least value that is found on a grid."""
    subject = Subject(apply, weights, (jax.ShapeDtypeStruct((inputs,), np.float32),), "small")
    cases = []
    for lo, hi in boxes:
        ends = [np.linspace(float(a), float(b), 41) for a, b in zip(lo, hi, strict=True)]
        grid = np.stack(np.meshgrid(*ends), -1).reshape(-1, inputs).astype(np.float32)
        y = np.asarray(jax.vmap(lambda x: apply(weights, x))(grid), np.float64)
        unsafe = []
        for atoms in disjuncts:
            left = [sum((float(d) * y[:, j] for j, d in output), np.zeros(len(y))) for output, _ in atoms]
            unsafe.append(tuple(Atom(tuple((j, Fraction(d)) for j, d in output),
                                     Fraction(round((values.min() - margin) * 64), 64))
                                for (output, margin), values in zip(atoms, left, strict=True)))  # fmt: skip
        cases.append(Case(tuple(map(Fraction, lo)), tuple(map(Fraction, hi)), tuple(unsafe)))
    return subject, Property(tuple(cases), "a margin")


def proved(search: Callable[[Any], Any], subject: Subject, prop: Property, profile: str = "") -> Payload:
    """The payload of the certificate that a search finds, which the checker accepts."""
    question = pose(subject, prop)
    found = search(question)
    if profile and (reason := obstacle(subject, profile)) is not None:
        raise AssertionError(reason)
    reason = ""
    for _ in range(4):  # what the checker refuses is split further
        outcome = found.run(time.monotonic() + SECONDS, lambda *_: False)
        proof = found.proof() if outcome == "closed" else outcome
        if isinstance(proof, str):
            raise AssertionError(f"the search ended with {proof}")
        exact = exactly(subject)
        made = certificate(exact.model, exact.blob, describe_property(prop), "holds", proof, {}, profile)
        result = checker.check(made.to_bytes())
        if result.accepted:
            return copy.deepcopy(made.payload)
        reason = result.reason
        found.reopen(result.failed)
    raise AssertionError(reason)


SQUARE = (((-1, -1), (1, 1)),)
TWO = (((-1, Fraction(-1, 3)), (Fraction(1, 7), 1)), ((Fraction(1, 2), -1), (1, Fraction(1, 10))))
LOW, LOW_OR_HIGH = ([(((0, 1),), 0.05)],), ([(((0, 1),), 0.05), (((1, 1),), 0.05)], [(((0, -1), (1, 1)), 0.1)])


def _neurons() -> Payload:
    """Splits of neurons with multipliers, by linear programs."""
    return proved(LeafSearch, *posed(dense(jax.nn.relu), drawn(1, 2, 5, 3, 1), 2, LOW, SQUARE))


def _disjuncts() -> Payload:
    """Two cases of two disjuncts, one of two atoms."""
    return proved(LeafSearch, *posed(dense(jax.nn.relu), drawn(2, 2, 4, 3, 2), 2, LOW_OR_HIGH, TWO))


def _float32() -> Payload:
    return proved(LeafSearch, *posed(dense(jax.nn.relu), drawn(3, 2, 4, 3, 1), 2, LOW, SQUARE), profile="cpu")


def _violated() -> Payload:
    subject, prop = posed(dense(jax.nn.relu), drawn(4, 2, 4, 2), 2, LOW_OR_HIGH, SQUARE)
    exact, point = exactly(subject), [Fraction(-1, 3), Fraction(1, 5)]
    y = [low for low, _ in exact.network.evaluate(point)]
    unsafe = ((Atom(((0, ONE),), y[0]), Atom(((1, ONE),), y[1] + Fraction(1, 9))), (Atom(((1, ONE),), Fraction(-99)),))
    prop = Property((Case(prop.cases[0].lo, prop.cases[0].hi, unsafe),), "a point")
    made = certificate(exact.model, exact.blob, describe_property(prop), "violated", point_proof(0, point), {})
    return copy.deepcopy(made.payload)


def _slopes() -> Payload:
    """Splits of neurons with multipliers and slopes, by bounds that are optimised."""
    return proved(NeuronSearch, *posed(dense(jax.nn.relu), drawn(5, 2, 6, 4, 1), 2, LOW, SQUARE))


def _halved() -> Payload:
    return proved(input_search, *posed(dense(jax.nn.relu), drawn(6, 2, 5, 3, 2), 2, LOW_OR_HIGH, TWO))


def _smooth() -> Payload:
    return proved(input_search, *posed(dense(jnp.tanh), drawn(7, 2, 3, 2, 1), 2, LOW, SQUARE))


def _exponential() -> Payload:
    apply = dense(lambda z: jnp.exp(z / 4) * jax.nn.sigmoid(z))
    return proved(input_search, *posed(apply, drawn(8, 2, 2, 1), 2, ([(((0, 1),), 0.1)],), SQUARE), profile="cpu")


def _gated() -> Payload:
    return proved(input_search, *posed(gated, drawn(9, 2, 6)[:1] + drawn(10, 3, 1), 2, ([(((0, 1),), 0.2)],), SQUARE))


def _multiplied() -> Payload:
    return proved(input_search, *posed(multiplied, drawn(11, 2, 6)[:1] + drawn(12, 3, 1), 2, LOW, SQUARE))


ALWAYS = {f.__name__[1:]: cache(f) for f in (_neurons, _disjuncts, _float32, _violated)}
MORE = {f.__name__[1:]: cache(f) for f in (_slopes, _halved, _smooth, _exponential, _gated, _multiplied)}
