"""A model as certificates speak of it: its program, weights and hashes, and exact evaluation."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from math import inf, lcm, prod
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from axiom_jax._errors import UnsupportedPrimitive
from axiom_jax._program import Program, Var
from axiom_jax.verification import checker
from axiom_jax.verification.domains.linear import Plan
from axiom_jax.verification.lowering import lower
from axiom_jax.verification.proof import ir
from axiom_jax.verification.proof.certificate import describe_model
from axiom_jax.verification.proof.replay import seeded
from axiom_jax.verification.proof.rounding import tolerances
from axiom_jax.verification.property import Property
from axiom_jax.verification.search.margins import Subject, nearest

REPLAY_WORK = 3_000_000  # multiplications
CURVES = {"exp", "logistic", "tanh", "log", "erf", "erfc", "sin", "cos", "atan"}
EACH = 100  # about so many multiplications a value of them takes
REPLAYED = 3  # points of a property's boxes


@dataclass(frozen=True)
class Site:
    """A value that enters nonlinear equations.

    Args:
        shape: of the value. users: names of those equations.
        node: number of the certificate's node that holds it; None if it enters nothing nonlinear there as it is.
    """

    shape: tuple[int, ...]
    users: tuple[str, ...]
    node: int | None = None


@dataclass(frozen=True)
class Exact:
    """The certificate's view of a model.

    Args:
        model: the `model` part of a certificate; empty if something is missing.
        blob: the bytes of its tensors, in order of their names.
        missing: operations that certificates cannot express, or None.
        sites: of the values that enter nonlinear equations of the lowered model, in the order of its program.
    """

    model: dict[str, Any]
    blob: bytes
    missing: str | None = None
    sites: tuple["Site", ...] = ()

    @cached_property
    def network(self) -> Any:
        """The checker's own reading of it, for exact evaluation."""
        return checker.load_network(self.model, self.blob)

    def outputs(self, point: Sequence[Fraction], deadline: float = inf) -> list[tuple[Fraction, Fraction]] | None:
        """Enclosures of the outputs at a point, as `checker.Network.evaluate` gives them; None where time is out.

        Args:
            deadline: on `time.monotonic`; overrun by one node of the network.

        Raises:
            checker.Rejected: the network is not defined there.
        """
        if time.monotonic() > deadline:
            return None
        net, den = self.network, lcm(*{x.denominator for x in point})
        ends = [x.numerator * (den // x.denominator) for x in point]
        values = {0: (ends, ends, den), **net.constants}
        for k in net.order:
            if time.monotonic() > deadline:
                return None
            values[k] = checker.evaluate_node(net.nodes[k], [values[i] for i in net.nodes[k].of], checker.POINT_BITS)
        lo, hi, den = values[net.output]
        return [(Fraction(a, den), Fraction(b, den)) for a, b in zip(lo, hi, strict=True)]


_made: WeakKeyDictionary[Subject, Exact] = WeakKeyDictionary()


def exactly(subject: Subject) -> Exact:
    """The exact view of a model; made once for each subject."""
    if subject not in _made:
        program, values = subject.flat
        lowered = lower(program)
        if refused := _refused(subject, program):
            _made[subject] = Exact({}, b"", refused)
        elif gaps := ir.gaps(lowered):
            _made[subject] = Exact({}, b"", ", ".join(sorted({e.name for e in gaps})))
        else:
            try:
                written = ir.emitted(lowered, values)
                parts = describe_model(written.program, written.tensors, subject.name, subject.source)
                entering = _entering(written.program["nodes"])
                numbers = {v: k for v, k in written.numbers.items() if k in entering}
                sites = tuple(described(Plan(lowered, False), numbers))
                points = [np.random.default_rng(seed).uniform(-1, 1, subject.size) for seed in range(2)]
                _made[subject] = Exact(*parts, _disagreement(subject, Exact(*parts, None, sites), points), sites)
            except (UnsupportedPrimitive, checker.Rejected) as error:
                _made[subject] = Exact({}, b"", str(error))
            except (OverflowError, ValueError) as error:  # of exact arithmetic
                _made[subject] = Exact({}, b"", f"a number that is not finite ({error})")
    return _made[subject]


def _refused(subject: Subject, program: Program) -> str | None:
    """What a certificate cannot say though the lowered program has a rule for everything; None if nothing."""
    for spec in subject.specs:
        if spec.dtype != np.float32:  # it is traced in float32, where literals and rounding are others
            return f"inputs of type {spec.dtype}"
    if _contains(program, "exp2"):
        return "exp2"  # it is lowered to exp(x · ln 2), with a float32 ln 2
    return None


def _contains(program: Program, name: str) -> bool:
    """Whether an operation occurs in a program, or in the bodies of its loops and curves."""
    for eqn in program.equations:
        bodies = [part for part in eqn.params.values() if isinstance(part, Program)]
        if eqn.name == name or any(_contains(body, name) for body in bodies):
            return True
    return False


def described(plan: Plan, numbers: dict[Var, int]) -> list[Site]:
    """The sites of a plan, so that they can be compared with those of another; nodes by `numbers`, where it has them.

    >>> from axiom_jax._program import build
    >>> import jax
    >>> program, _ = build(lambda w, x: jax.nn.relu(w * x), np.ones(3, np.float32), np.ones(3, np.float32))
    >>> described(Plan(lower(program)), {})
    [Site(shape=(3,), users=('max',), node=None)]
    """
    users: dict[Var, list[str]] = {v: [] for v in plan.sites}
    for eqn in plan.varying:
        for v in plan.tightened(eqn):
            users[v].append(eqn.name)
    return [Site(v.shape, tuple(users[v]), numbers.get(v)) for v in plan.sites]


def _entering(nodes: list[dict[str, Any]]) -> set[int]:
    """The varying operands of nonlinear nodes: what a certificate may split."""
    varies: list[bool] = []
    found: set[int] = set()
    for node in nodes:
        of = node.get("of", [])
        varies.append(node["op"] == "input" or any(varies[k] for k in of))
        product = node["op"] == "mul" and all(varies[k] for k in of)
        if product or node["op"] in ("relu", "gate", *checker.FUNCTIONS):
            found.update(k for k in of if varies[k])
    return found


def replayed(subject: Subject, prop: Property) -> str | None:
    """Replay a few points of a property's boxes, corners too: what differs between the certificate's program and the
    model, or None. Certificates of the property are not made where it is something.
    """
    exact = exactly(subject)
    if exact.missing is not None:
        return exact.missing
    boxes = [(case.lo, case.hi) for case in prop.cases[:REPLAYED]]
    count = min(REPLAYED, max(1, REPLAY_WORK // max(_work(exact), 1)))
    return _disagreement(subject, exact, [[nearest(x) for x in point] for point, _ in seeded(boxes, count)])


def _work(exact: Exact) -> int:
    products = [prod(node["shape"]) for node in exact.model["program"]["nodes"] if node["op"] == "matmul"]
    curved = [prod(site.shape) for site in exact.sites for user in site.users if user in CURVES]
    return sum(products) + EACH * sum(curved)


def _disagreement(subject: Subject, exact: Exact, points: Sequence[Any]) -> str | None:
    """Replay points: the certificate's program exactly, against the model in float32. What differs, or None.

    A second line of defence against a mistake in `ir`; larger models are spared the slow exact evaluation. The model
    must be within what float32 roundings may add up to at that point.
    """
    if _work(exact) >= REPLAY_WORK:
        return None
    network, (program, values), found = exact.network, subject.flat, []
    for point in (np.array(p, np.float32) for p in points):
        expected = np.asarray(program.evaluate(values, point)[0], np.float64)
        try:
            found.append((point, expected, network.evaluate([Fraction(float(x)) for x in point])))
        except checker.Rejected:  # outside the domain of a root or a reciprocal
            continue
    slack = tolerances(network, [[Fraction(float(x)) for x in point] for point, _, _ in found])
    for (_, expected, enclosed), tolerance in zip(found, slack, strict=True):
        lo, hi = (np.array([float(pair[k]) for pair in enclosed]) for k in (0, 1))
        off = (expected < lo - tolerance) | (expected > hi + tolerance)
        if np.isfinite(expected).all() and off.any():
            return "the certificate's program and the model disagree at a point: please report this"
    return None
