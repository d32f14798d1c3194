"""How fast outputs may change: over a region by bounds on the Jacobian, everywhere by the weights alone.

Over a convex region ‖f(x) − f(y)‖ ≤ sup ‖J‖ · ‖x − y‖, with J where the network has a derivative, if the network is
continuous by its operations (`no_derivative`). A claim is refuted by two inputs of the region, evaluated exactly.
Networks of relu are asked everywhere, too: f(x) = h(u, t) / t with x = u / t and h the network with its biases times
t, so that the faces of a cube of (u, t) stand for all x.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from axiom_jax._errors import SpecError, UnsupportedPrimitive
from axiom_jax._program import Program
from axiom_jax._shapes_places import caller
from axiom_jax.verification.lipschitz_bounds import Norm, by_absolute_values, by_multipliers, differences
from axiom_jax.verification.lowering import lower, relu_operand
from axiom_jax.verification.proof.derivation import lipschitz_of
from axiom_jax.verification.proof.exact import exactly
from axiom_jax.verification.properties.balls import contains, is_box
from axiom_jax.verification.properties.base import Claim, Condition
from axiom_jax.verification.properties.composing import (
    BySufficient,
    Run,
    atom,
    composed,
    derived,
    no_derivative,
    sampled,
)
from axiom_jax.verification.properties.monotone import indices
from axiom_jax.verification.properties.scope import Budget, Place, Scope, unbounded
from axiom_jax.verification.properties.terms import checked
from axiom_jax.verification.properties.ways import Outcome, Way
from axiom_jax.verification.property import Atom
from axiom_jax.verification.regions import Everything, exact
from axiom_jax.verification.results import Answer
from axiom_jax.verification.search.margins import Subject
from axiom_jax.verification.verdict import Claimed, Unknown

SAMPLES = 4096  # points whose Jacobians are looked at
WORST = 6  # of them are tried
STEPS = 16  # sizes of steps that are tried at each
DUAL: dict[Any, Norm] = {1: "inf", 2: 2, "inf": 1}
WIDEST = 12  # inputs of a network that is asked everywhere by its faces
Flat = tuple[Fraction, ...]
REACH = 4.0  # half the width of the box in which networks are sampled that are asked everywhere


@dataclass(frozen=True)
class _Measure:
    """Which number of the Jacobian is bounded.

    Args:
        norm: of differences of inputs and outputs; for `rows`, of gradients.
        rows: each output has its own gradient; else the outputs are one vector.
        outputs: flat indices of those meant.
    """

    norm: Norm
    rows: bool
    outputs: tuple[int, ...]

    @property
    def squared(self) -> bool:
        """Whether squares are compared, as roots are no polynomials."""
        return self.norm == 2

    def of(self, jacobian: Any) -> Any:
        """What must be at most the bound, or its square; (several,)."""
        if self.squared:
            squares = jnp.sum(jacobian * jacobian, 1)
            return squares if self.rows else jnp.sum(squares)[None]
        if self.rows:
            return jnp.abs(jacobian).sum(1) if self.norm == 1 else jnp.abs(jacobian).max(1)
        return jnp.abs(jacobian).sum(1 if self.norm == "inf" else 0)

    def distances(self, change: Any, moved: Any) -> Any:
        """How far outputs and inputs are apart: the outputs' (several,), then the inputs' (1,)."""
        norm = DUAL[self.norm] if self.rows else self.norm
        size = {1: lambda d: jnp.abs(d).sum(), 2: lambda d: jnp.sum(d * d), "inf": lambda d: jnp.abs(d).max()}[norm]
        if self.rows:
            far = change * change if self.squared else jnp.abs(change)
        else:
            far = size(change)[None]
        return jnp.concatenate([far, size(moved)[None]])

    def directions(self, jacobian: np.ndarray) -> Iterator[np.ndarray]:
        """Along which the output changes most."""
        if self.rows:
            row = jacobian[int(np.argmax(self._rows(jacobian)))]
            yield {1: np.sign(row), 2: row, "inf": np.eye(len(row))[np.abs(row).argmax()]}[self.norm]
        elif self.norm == "inf":
            yield np.sign(jacobian[np.abs(jacobian).sum(1).argmax()])
        elif self.norm == 1:
            yield np.eye(jacobian.shape[1])[np.abs(jacobian).sum(0).argmax()]
        else:
            yield np.linalg.svd(jacobian)[2][0]

    def _rows(self, jacobian: np.ndarray) -> np.ndarray:
        return np.linalg.norm(jacobian, ord=np.inf if self.norm == "inf" else self.norm, axis=1)

    def size(self, jacobian: np.ndarray) -> float:
        """The number itself, in floats."""
        if self.rows:
            return float(self._rows(jacobian).max())
        return float(np.linalg.norm(jacobian, ord=np.inf if self.norm == "inf" else self.norm))


@dataclass(frozen=True)
class LocalLipschitz:
    """‖f(x) − f(y)‖ ≤ bound · ‖x − y‖ for all x, y of the region, in one norm on both sides.

    Args:
        bound: exact as text. norm: 1, 2 or "inf".

    For the norm 2 and several outputs the Frobenius norm of the Jacobian is bounded, which is more.

    >>> LocalLipschitz("1/2", norm="inf").name
    'LocalLipschitz(1/2, norm=inf)'
    """

    bound: Any
    norm: Norm = 2

    def __post_init__(self) -> None:
        object.__setattr__(self, "bound", _positive(self.bound))
        object.__setattr__(self, "norm", _norm(self.norm))

    @property
    def name(self) -> str:
        return f"LocalLipschitz({_short(self.bound)}, norm={self.norm})"

    def claims(self, scope: Scope) -> Iterable[Claim]:
        """A claim a region."""
        measure = _Measure(self.norm, False, tuple(range(scope.outputs)))
        for place in scope.places():
            if isinstance(place.region, Everything):
                yield from GlobalLipschitz(self.bound, self.norm).claims(scope)
                continue
            text = f"for all x, y with {place.text}: ‖f(x) − f(y)‖ ≤ {self.bound} ‖x − y‖ in the norm {self.norm}"
            by_jacobian = _by_jacobian(scope, place, measure, self.bound, text)
            ways: tuple[Way, ...] = by_jacobian, _ByWeights(scope, self.bound, self.norm)
            if unbounded(place.region):
                ways = ways[::-1]
            yield Claim(self.name, text, place, ways, ("f has the derivative J outside of kinks",))


@dataclass(frozen=True)
class GlobalLipschitz:
    """‖f(x) − f(y)‖ ≤ bound · ‖x − y‖ for all inputs, in one norm on both sides.

    Args:
        bound: exact as text. norm: 1, 2 or "inf".

    >>> GlobalLipschitz(10).name
    'GlobalLipschitz(10, norm=2)'
    """

    bound: Any
    norm: Norm = 2

    def __post_init__(self) -> None:
        object.__setattr__(self, "bound", _positive(self.bound))
        object.__setattr__(self, "norm", _norm(self.norm))

    @property
    def name(self) -> str:
        return f"GlobalLipschitz({_short(self.bound)}, norm={self.norm})"

    def claims(self, scope: Scope) -> Iterable[Claim]:
        """One claim."""
        text = f"for all x, y: ‖f(x) − f(y)‖ ≤ {self.bound} ‖x − y‖ in the norm {self.norm}"
        ways: list[Way] = [_ByWeights(scope, self.bound, self.norm)]
        measure = _Measure(self.norm, False, tuple(range(scope.outputs)))
        ways.append(_ByFaces(scope, measure, self.bound, text, Place(Everything(), "every x, y")))
        notes = ("f has the derivative J outside of kinks",)
        yield Claim(self.name, text, Place(Everything(), "every x, y"), tuple(ways), notes)


@dataclass(frozen=True)
class GradientBounded:
    """The gradient of every output has norm at most `bound` over the region, wherever it exists.

    Args:
        bound: exact as text. norm: 1, 2 or "inf" (then every partial derivative is at most `bound`).
        outputs: flat indices of the outputs meant; all if None.

    >>> GradientBounded(3).name
    'GradientBounded(3, norm=2)'
    """

    bound: Any
    norm: Norm = 2
    outputs: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "bound", _positive(self.bound))
        object.__setattr__(self, "norm", _norm(self.norm))
        if self.outputs is not None:
            object.__setattr__(self, "outputs", tuple(int(j) for j in self.outputs))

    @property
    def name(self) -> str:
        return f"GradientBounded({_short(self.bound)}, norm={self.norm})"

    def claims(self, scope: Scope) -> Iterable[Claim]:
        """A claim a region."""
        given = self.outputs if self.outputs is not None else range(scope.outputs)
        measure = _Measure(self.norm, True, indices(given, scope.outputs, "output"))
        for place in scope.places():
            text = f"for all x with {place.text}: every gradient has norm {self.norm} at most {self.bound}"
            if (lacking := no_derivative(scope)) is not None:  # nor do two inputs say anything of its gradient
                way: Way = BySufficient(None, None, (), None, text, lacking=lacking)
            else:
                way = _by_jacobian(scope, place, measure, self.bound, text)
            yield Claim(self.name, text, place, (way,), ("gradients are meant where they exist, outside of kinks",))


def _short(bound: Fraction) -> str:
    return str(bound) if len(str(bound)) < 12 else f"{float(bound):.6g}"


def _positive(bound: Any) -> Fraction:
    value = exact(bound)
    if not isinstance(value, Fraction) or value <= 0:
        raise SpecError("A bound is a positive number.", at=caller(), got=str(bound), fix='give 2.5 or "5/2"')
    return value


def _norm(norm: Any) -> Norm:
    found = "inf" if norm in ("inf", "∞") or norm == float("inf") else norm
    if found not in (1, 2, "inf"):
        raise SpecError("There is no such norm.", at=caller(), got=repr(norm), fix='use 1, 2 or "inf"')
    return found


def _jacobian(run: Run, x: Any, outputs: tuple[int, ...], forward: bool | None = None) -> Any:
    """(outputs, inputs), where a derivative exists; forward or backward mode, None: whichever has fewer passes."""
    count = jax.eval_shape(run, x).size
    forward = count > x.shape[0] if forward is None else forward
    whole = (jax.jacfwd if forward else jax.jacrev)(run)(x)
    return whole if outputs == tuple(range(count)) else whole[np.array(outputs)]


def _expressible(make: Callable[[bool | None], Subject]) -> Subject:
    """The Jacobian's network in the mode with fewer passes, or in the other if certificates cannot express that."""
    first = make(None)
    if exactly(first).missing is None:
        return first
    return next((s for s in (make(True), make(False)) if exactly(s).missing is None), first)


def _by_jacobian(scope: Scope, place: Place, measure: _Measure, bound: Fraction, text: str) -> Way:
    """Bounds of the Jacobian over the region's box, and pairs of inputs."""
    size = scope.subject.size
    box = None if unbounded(place.region) else scope.bounds(place.region)
    if box is None:
        return _ByFaces(scope, measure, bound, text, place)
    direct, counts = _pair(scope, measure, bound, text), _counts(place, size)
    if (lacking := no_derivative(scope)) is not None:
        double = (*box[0], *box[0]), (*box[1], *box[1])
        return BySufficient(None, direct, (), double, text, counts=counts, lacking=lacking)
    whole = _expressible(lambda mode: derived(
        scope, ("jacobian", measure, mode), lambda run, x: measure.of(_jacobian(run, x, measure.outputs, mode)), size,
        "the Jacobian"))  # fmt: skip
    enough = Condition(whole, _exceeds(whole, measure, bound), text)
    return BySufficient(enough, direct, (box,), None, text, _suspects(scope, measure, *box), counts)


def _counts(place: Place, size: int, always: bool = False) -> Callable[[Flat], bool] | None:
    """Whether both of two inputs lie in a place; None where its box is the place, unless `always`."""
    if is_box(place) and not always:
        return None
    return lambda pair: contains(place, pair[:size]) and contains(place, pair[size:])


def _exceeds(subject: Subject, measure: _Measure, bound: Fraction) -> tuple[tuple[Atom, ...], ...]:
    limit = bound**2 if measure.squared else bound
    return tuple((atom({k: -1}, -limit),) for k in range(subject.flat[0].outputs[0].size))


def _pair(scope: Scope, measure: _Measure, bound: Fraction, text: str) -> Condition:
    """Two inputs whose outputs are further apart than the bound allows."""
    size = scope.subject.size

    def distances(run: Run, z: Any) -> Any:
        x, y = z[:size], z[size:]
        return measure.distances((run(x) - run(y))[np.array(measure.outputs)], x - y)

    subject = composed(scope, ("distances", measure), distances, 2 * size, "two copies")
    last = subject.flat[0].outputs[0].size - 1
    limit = bound**2 if measure.squared else bound
    return Condition(subject, tuple((atom({k: -1, last: limit}),) for k in range(last)), text)


def _suspects(scope: Scope, measure: _Measure, lo: Flat, hi: Flat) -> Callable[[np.ndarray | None], Any]:
    """Pairs of inputs along the steepest direction, at points with large Jacobians or at a given one."""
    low, high = (np.array([float(v) for v in end]) for end in (lo, hi))
    made = derived if no_derivative(scope) is None else composed
    flat = made(scope, ("whole jacobian", measure.outputs),
                lambda run, x: _jacobian(run, x, measure.outputs).ravel(), scope.subject.size,
                "the Jacobian")  # fmt: skip
    shape = (len(measure.outputs), scope.subject.size)

    def at(x: np.ndarray, jacobian: np.ndarray) -> Iterator[list[Fraction]]:
        for direction in measure.directions(jacobian.astype(np.float64)):
            direction = direction / max(np.abs(direction).max(), 1e-30)
            for power in range(STEPS):
                step = direction * (high - low).max() / 2.0 ** (power + 1)
                a, b = ((np.clip(x + s * step, low, high)).astype(np.float32) for s in (-1, 1))
                inside = [[min(max(Fraction(float(v)), p), q) for v, p, q in zip(end, lo, hi, strict=True)] for end in
                          (a, b)]  # fmt: skip
                if inside[0] != inside[1]:
                    yield [*inside[0], *inside[1]]

    def found(point: np.ndarray | None) -> Iterator[list[Fraction]]:
        if point is not None:
            program, values = flat.flat
            yield from at(point, np.asarray(program.evaluate(values, point)[0]).reshape(shape))
            return
        x, jacobians = sampled(flat, lo, hi, SAMPLES)
        jacobians = jacobians.reshape(-1, *shape)
        sizes = np.array([measure.size(j) for j in jacobians])
        for i in np.argsort(-sizes, kind="stable")[:WORST]:
            yield from at(x[i], jacobians[i])

    return found


def by_weights(subject: Subject, norm: Norm, bound: Fraction, budget: Budget) -> Answer:
    """Whether the weights alone show that a bound is a Lipschitz constant everywhere.

    Returns:
        `Proved` if the derivation checker accepted; `Unknown` with the constant that was found where it is too large;
        `Claimed` where derivations cannot hold the network.

    Raises:
        UnsupportedPrimitive: an operation without a global slope.
    """
    net = differences(subject)
    if norm == 2:
        found = by_multipliers(net, min(budget.seconds, 60.0))
        if found is None:
            return Unknown("no multipliers were found that bound the Euclidean norm")
        value, halves = found.value, iter(str(m / 2) for m in found.multipliers)
        listed = [[next(halves) for _ in range(n)] for n in net.groups]
        proof: dict[str, Any] = {"kind": "lipsdp", "multipliers": listed}
        if not net.groups:
            proof = {"kind": "product", "scales": [str(value)]}
    else:
        value, proof = by_absolute_values(net, norm), {"kind": "sums"}
    if value > bound:
        return Unknown(f"the weights alone show {float(value):.6g}")
    layers = net.described()
    if layers is None:
        shown = f"exact arithmetic shows {float(value):.6g}"
        return Claimed(None, f"{shown}; derivations hold layers one after the other only")
    text = f"for all x, y: ‖f(x) − f(y)‖ ≤ {bound} ‖x − y‖ in the norm {norm}"
    return checked(lipschitz_of(text, layers, str(norm), bound, proof), budget.check_seconds)


@dataclass(frozen=True, eq=False)
class _ByWeights:
    """A constant from the weights alone, that holds everywhere."""

    scope: Scope
    bound: Fraction
    norm: Norm
    network: str = "model"

    def key(self) -> None:
        return None

    def settle(self, budget: Budget) -> Outcome:
        import time

        start = time.monotonic()
        try:
            answer = by_weights(self.scope.subject, self.norm, self.bound, budget)
        except UnsupportedPrimitive as error:
            answer = Unknown(error.what.rstrip("."))
        return Outcome(answer, time.monotonic() - start)


@dataclass(frozen=True, eq=False)
class _ByFaces:
    """Bounds of the Jacobian on the faces of a cube that stand for all inputs; for networks of relu."""

    scope: Scope
    measure: _Measure
    bound: Fraction
    text: str
    place: Place
    network: str = "composed"

    def key(self) -> str:
        import hashlib

        return hashlib.sha256(f"faces: {self.text}".encode()).hexdigest()

    def settle(self, budget: Budget) -> Outcome:
        size = self.scope.subject.size
        reach = (Fraction(-int(REACH)),) * size, (Fraction(int(REACH)),) * size
        suspects = _suspects(self.scope, self.measure, *reach)
        direct = _pair(self.scope, self.measure, self.bound, self.text)
        enough = None
        if size <= WIDEST and (subject := everywhere(self.scope, self.measure)) is not None:
            enough = Condition(subject, _exceeds(subject, self.measure, self.bound), self.text)

        def at(point: np.ndarray | None) -> Iterable[list[Fraction]]:
            if point is None:
                return suspects(None)
            t = float(point[-1])
            return suspects(point[:-1] / np.float32(t)) if t * REACH > np.abs(point[:-1]).max() else ()

        lacking = no_derivative(self.scope) or BySufficient.lacking
        place = self.place
        counts = None if isinstance(place.region, Everything) else _counts(place, size, True)
        return BySufficient(enough, direct, tuple(faces(size)), None, self.text, at, counts, lacking=lacking).settle(
            budget
        )


def faces(size: int) -> Iterator[tuple[Flat, Flat]]:
    """The boxes of (u, t) that stand for all x = u / t: u_i = ±1 and t in [0, 1]; and t = 1.

    >>> len(list(faces(2)))
    5
    """
    one = Fraction(1)
    low, high = (-one,) * size + (Fraction(0),), (one,) * size + (one,)
    for i in range(size):
        for end in (-one, one):
            yield (*low[:i], end, *low[i + 1 :]), (*high[:i], end, *high[i + 1 :])
    yield (*low[:-1], one), high


def everywhere(scope: Scope, measure: _Measure) -> Subject | None:
    """The measured Jacobian at x = u / t as a network of (u, t); None where the network is not piecewise linear."""
    program, values = scope.subject.flat
    program = lower(program)
    if not piecewise_linear(program) or no_derivative(scope) is not None:
        return None
    leaves, size = len(jax.tree.leaves(scope.subject.params)), scope.subject.size
    captured = values[leaves:]

    def build(mode: bool | None) -> Subject:
        def make(params: Any, z: Any) -> Any:
            given = [*jax.tree.leaves(params), *captured]
            run = lambda u: scaled(program, given, u, z[size])
            return measure.of(_jacobian(run, z[:size], measure.outputs, mode))

        spec = jax.ShapeDtypeStruct((size + 1,), np.float32)
        base = scope.subject
        return Subject(make, base.params, (spec,), f"the Jacobian of {base.name} at u / t", dict(base.source))

    return scope.kept(("composed", "everywhere", measure), lambda: _expressible(build))


KEEP = {"dot_general", "mul", "conv_general_dilated", "div", "reshape", "squeeze", "transpose", "broadcast_in_dim",
        "rev", "slice", "split", "gather", "dynamic_slice", "reduce_sum", "cumsum", "neg", "copy", "expand_dims",
        "tile", "reduce_window_sum", "stack"}  # fmt: skip
SCALE = {"add", "sub", "add_any", "concatenate", "pad", "stack"}  # constants beside what varies are times t


def piecewise_linear(program: Program) -> bool:
    """Whether a lowered program consists of relu and linear equations, with constants where `scaled` knows them."""
    for eqn in program.equations:
        count = sum(v in program.varying for v in eqn.inputs)
        if not count or relu_operand(program, eqn) is not None or eqn.name in SCALE:
            continue
        if eqn.name not in KEEP or (count > 1 and eqn.name != "stack"):
            return False
        if eqn.name in ("gather", "dynamic_slice", "div") and any(v in program.varying for v in eqn.inputs[1:]):
            return False
    return True


def scaled(program: Program, values: list[Any], u: Any, t: Any) -> Any:
    """t · f(u / t) of a piecewise linear program, without a division: every constant that is added is times t.

    >>> from axiom_jax._program import build
    >>> program, values = build(lambda b, x: jnp.maximum(2 * x + b, 0), jnp.ones(1), jnp.zeros(1))
    >>> float(scaled(program, values, jnp.ones(1), 0.5)[0])
    2.5
    """
    env = program.environment(values) | {program.inputs[0]: u}
    for eqn in program.equations:
        operands = [env[v] for v in eqn.inputs]
        varies = [v in program.varying for v in eqn.inputs]
        if any(varies) and eqn.name in SCALE:
            operands = [x if varying else x * t for x, varying in zip(operands, varies, strict=True)]
        env.update(zip(eqn.outputs, eqn.evaluate(*operands), strict=True))
    return env[program.outputs[0]]
