"""Networks made of a model: copies, derivatives, closed loops; and claims proved of one and refuted by another.

A claim about two inputs is often proved by one about a derivative, and refuted by a pair of inputs. Both networks are
composed of the model's own operations and weights, so the certificate holds every number of the model.

A derivative says how far a function moves only where the function is continuous, and where it is the derivative of
the function itself: so it is taken of the program that certificates evaluate, in which custom rules and
`stop_gradient` are gone, and only of programs that are continuous by their operations (`no_derivative`).
"""

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import jax
import numpy as np

from axiom_jax._errors import UnsupportedPrimitive
from axiom_jax._program import Equation, Program, Var
from axiom_jax.verification.gating import MOVES, gate_operands, is_constant, producers
from axiom_jax.verification.lowering import lower, relu_operand
from axiom_jax.verification.proof.certificate import (
    certificate,
    describe_property,
    run_checker,
    save_certificate,
    tree_proof,
)
from axiom_jax.verification.proof.exact import exactly
from axiom_jax.verification.properties.base import Condition, judged
from axiom_jax.verification.properties.scope import Budget, Scope
from axiom_jax.verification.properties.ways import Outcome
from axiom_jax.verification.property import Atom, Case, Property
from axiom_jax.verification.results import Answer
from axiom_jax.verification.search.attack import attack
from axiom_jax.verification.search.branch_and_bound import SLACK, Search
from axiom_jax.verification.search.compilation import compile_seconds, wait_for_compilations
from axiom_jax.verification.search.margins import Subject, pose
from axiom_jax.verification.search.tree import Tree
from axiom_jax.verification.verdict import Claimed, Proved, Refuted, Unknown

Run = Callable[[Any], Any]  # the model on one flat row: (inputs,) -> (outputs,)
REPAIRS = 3  # how often leaves that the checker refuses are split further
ATTACKS = 3  # seeds
JUDGED = 6  # points of an attack that are judged exactly
LINEAR = (MOVES - {"gather", "dynamic_slice"}) | {"neg", "add", "sub", "add_any", "reduce_sum", "cumsum", "pad",
                                                  "reduce_window_sum"}  # fmt: skip
PRODUCTS = {"mul", "dot_general", "conv_general_dilated"}
SMOOTH = {"exp", "tanh", "logistic", "erf", "erfc", "sin", "cos", "sinh", "cosh", "atan", "asinh"}  # on all numbers
# Not defined everywhere: their derivatives have the same poles, or are made of their values, so bounds on them fail.
POLES = {"integer_pow", "div", "sqrt", "rsqrt"}


def composed(scope: Scope, key: Any, make: Callable[[Run, Any], Any], inputs: int, what: str) -> Subject:
    """A network made of a scope's model.

    Args:
        key: the same for the same network, so that it is traced once.
        make: from the model as a function of one flat row, and the composed input (inputs,), to its output.
        what: for people: "two copies".
    """
    base = scope.subject

    def build() -> Subject:
        apply = lambda params, x: make(lambda row: base.outputs(params, row), x)
        spec = jax.ShapeDtypeStruct((inputs,), np.float32)
        return Subject(apply, base.params, (spec,), f"{what} of {base.name}", dict(base.source))

    return scope.kept(("composed", key), build)


def derived(scope: Scope, key: Any, make: Callable[[Run, Any], Any], inputs: int, what: str) -> Subject:
    """As `composed`, of the model as it is bounded: its derivatives are those of the function that certificates hold.

    Use it where `no_derivative` finds nothing. Custom rules and `stop_gradient` are gone; a relu at 0 has every slope
    between 0 and 1.
    """
    base = scope.subject

    def build() -> Subject:
        program, values = base.flat
        program, leaves = lower(program), len(jax.tree.leaves(base.params))

        def apply(params: Any, x: Any) -> Any:
            given = [*jax.tree.leaves(params), *values[leaves:]]
            return make(lambda row: _with_relus(program, given, row), x)

        spec = jax.ShapeDtypeStruct((inputs,), np.float32)
        return Subject(apply, base.params, (spec,), f"{what} of {base.name}", dict(base.source))

    return scope.kept(("derived", key), build)


def _with_relus(program: Program, values: Sequence[Any], row: Any) -> Any:
    """A lowered program on one row; JAX's relu has the gate as its derivative, its maximum has comparisons."""
    env = program.environment(values) | {program.inputs[0]: row}
    for eqn in program.equations:
        x = relu_operand(program, eqn)
        if x is not None and x.shape == eqn.output.shape:
            env[eqn.output] = jax.nn.relu(env[x])
        else:
            env.update(zip(eqn.outputs, eqn.evaluate(*(env[v] for v in eqn.inputs)), strict=True))
    return env[program.outputs[0]].ravel()


def no_derivative(scope: Scope) -> str | None:
    """Why bounds on the derivative say nothing about differences of a model; None if they do.

    They do where the model is continuous and has that derivative outside of a set of measure zero along every line.
    That is read off its operations: linear ones, products, relus, smooth functions where they are defined, and
    choices whose cases agree where the condition changes.
    """

    def find() -> str | None:
        program = lower(scope.subject.flat[0])
        for eqn in program.equations:
            if eqn.output in program.varying and eqn.output.dtype != bool and not _continuous(program, eqn):
                where = f" ({eqn.at})" if eqn.at else ""
                return f"derivatives prove nothing here: {eqn.name} is not known to be continuous{where}"
        return None

    return scope.kept(("no derivative",), find)


def _continuous(program: Program, eqn: Equation) -> bool:
    """Whether an equation that varies is continuous, and differentiable outside of kinks, wherever it is defined."""
    varies = [v in program.varying for v in eqn.inputs]
    numbers = [v for v in (*eqn.outputs, *_of(eqn.inputs, varies)) if v.dtype != bool]
    if not all(np.issubdtype(v.dtype, np.floating) for v in numbers):
        return False
    if eqn.name == "select_n":
        if not varies[0]:
            return True
        parts = gate_operands(program, eqn)
        return parts is not None and _vanishes(program, parts[1], _unsigned(program, parts[0]))
    if any(v.dtype == bool for v in _of(eqn.inputs, varies)):
        return False
    if eqn.name in ("gather", "dynamic_slice"):
        return not any(varies[1:])
    if eqn.name == "log":
        return _positive(program, eqn.inputs[0])
    if relu_operand(program, eqn) is not None or eqn.name == "convert_element_type":
        return True
    return eqn.name in LINEAR | PRODUCTS | SMOOTH | POLES


def _of(given: Iterable[Var], chosen: Iterable[bool]) -> list[Var]:
    return [v for v, one in zip(given, chosen, strict=True) if one]


def _unsigned(program: Program, v: Var) -> Var:
    while (eqn := producers(program).get(v)) is not None and eqn.name == "neg":
        v = eqn.inputs[0]
    return v


def _vanishes(program: Program, v: Var, g: Var) -> bool:
    """Whether, element by element, v is 0 where g is 0, as the operations between them show."""
    if v == g:
        return True
    eqn = producers(program).get(v)
    if eqn is None or any(x.shape != v.shape for x in eqn.inputs if x in program.varying and x.dtype != bool):
        return False
    below = lambda x: _vanishes(program, x, g)
    if eqn.name == "mul":
        return any(map(below, eqn.inputs))
    if eqn.name == "div":
        return below(eqn.inputs[0]) and eqn.inputs[1] not in program.varying
    if eqn.name == "integer_pow":
        return eqn.params["y"] > 0 and below(eqn.inputs[0])
    if relu_operand(program, eqn) is not None:
        return any(map(below, eqn.inputs))
    if eqn.name == "sub" and is_constant(program, eqn.inputs[1], 1.0):  # exp(x) - 1
        power = producers(program).get(eqn.inputs[0])
        return power is not None and power.name == "exp" and below(power.inputs[0])
    if eqn.name == "select_n":
        return gate_operands(program, eqn) is not None and below(eqn.inputs[2])
    return eqn.name in ("neg", "add", "sub", "add_any", "tanh", "erf", "sin", "sinh", "atan", "asinh") and all(
        map(below, eqn.inputs)
    )


def _positive(program: Program, v: Var, or_zero: bool = False) -> bool:
    """Whether every element is positive (or zero), as the operations that it comes from show."""
    literals = dict(program.literals)
    if v in literals:
        value = np.asarray(literals[v])
        return bool(np.all(value >= 0 if or_zero else value > 0))
    eqn = producers(program).get(v)
    if eqn is None:
        return False
    if eqn.name in ("exp", "logistic", "cosh"):
        return True
    if or_zero and (relu_operand(program, eqn) is not None or (eqn.name == "integer_pow" and eqn.params["y"] == 2)):
        return True
    if eqn.name in ("add", "add_any"):
        x, y = eqn.inputs
        either = lambda a, b: _positive(program, a, or_zero) and _positive(program, b, True)
        return either(x, y) or either(y, x)
    moved = LINEAR & MOVES | {"reduce_sum", "mul"}
    return eqn.name in moved and all(_positive(program, x, or_zero) for x in eqn.inputs)


@partial(jax.jit, static_argnums=0)
def _rows(program: Program, values: Sequence[Any], x: Any) -> Any:
    return jax.vmap(lambda row: program.evaluate(values, row)[0].ravel())(x)


def executed(subject: Subject, x: np.ndarray, block: int = 1024) -> np.ndarray:
    """(rows, outputs) of a network at (rows, inputs), float32; compiled once for nets of one architecture."""
    program, values = subject.flat
    parts = []
    for start in range(0, len(x), block):
        part = x[start : start + block]
        full = np.concatenate([part, np.repeat(part[:1], block - len(part), 0)])
        parts.append(np.asarray(_rows(program, values, full))[: len(part)])
    return np.concatenate(parts) if parts else np.zeros((0, program.outputs[0].size), np.float32)


def sampled(
    subject: Subject, lo: Iterable[Fraction], hi: Iterable[Fraction], count: int
) -> tuple[np.ndarray, np.ndarray]:
    """Points of a box, half of them near a face or a corner, and a network's outputs there.

    Returns:
        (count, inputs) and (count, outputs), float32.
    """
    low, high = (np.array([float(v) for v in end]) for end in (lo, hi))
    generator = np.random.default_rng(0)
    share = generator.random((count, len(low)))
    share[::2] = np.clip(1.5 * share[::2] - 0.25, 0, 1)
    x = np.clip((low + share * (high - low)).astype(np.float32), low.astype(np.float32), high.astype(np.float32))
    return x, executed(subject, x)


def atom(
    outputs: dict[int, Any], threshold: Any = 0, inputs: dict[int, Any] | None = None, strict: bool = True
) -> Atom:
    """Σ outputs + Σ inputs < threshold (≤ if not strict).

    >>> atom({0: 1}, 2)
    Atom(output=((0, Fraction(1, 1)),), threshold=Fraction(2, 1), input=(), strict=True)
    """
    terms = lambda given: tuple((i, Fraction(c)) for i, c in sorted((given or {}).items()) if c)
    return Atom(terms(outputs), Fraction(threshold), terms(inputs), strict)


@dataclass(frozen=True, eq=False)
class BySufficient:
    """Prove a claim by a sufficient condition on one network; refute it by inputs of another.

    Args:
        enough: what proves the claim, over `lo` and `hi`.
        direct: the claim itself, over `direct_lo` and `direct_hi`; None if nothing refutes it.
        lo, hi: exact ends of the inputs of `enough`; boxes of several cases one after the other.
        suspects: inputs of `direct` that may be unsafe, to be judged exactly; from points of `enough` (None: at once).
        counts: whether an unsafe input of `direct` lies in the claim's region; None: every one in its box does.
        text: the claim.
        lacking: why there is no `enough`, for people.
    """

    enough: Condition | None
    direct: Condition | None
    boxes: tuple[tuple[tuple[Fraction, ...], tuple[Fraction, ...]], ...]
    direct_box: tuple[tuple[Fraction, ...], tuple[Fraction, ...]] | None
    text: str
    suspects: Callable[[np.ndarray | None], Iterable[list[Fraction]]] | None = None
    counts: Callable[[tuple[Fraction, ...]], bool] | None = None
    network: str = "composed"
    lacking: str = "nothing proves the claim yet"

    def key(self) -> str | None:
        import hashlib

        from axiom_jax.verification.proof.certificate import canonical

        described = [describe_property(self._sufficient())] if self.enough is not None else [self.text]
        return hashlib.sha256(canonical(described)).hexdigest()

    def _sufficient(self) -> Property:
        assert self.enough is not None
        return Property(tuple(Case(lo, hi, self.enough.unsafe) for lo, hi in self.boxes), self.enough.text)

    def settle(self, budget: Budget) -> Outcome:
        start = time.monotonic()
        spent = lambda: time.monotonic() - start
        try:
            if (found := self._refuted(budget)) is not None:
                return Outcome(found, spent())
            if self.enough is None:
                return Outcome(Unknown(f"no counterexample was found, and {self.lacking}"), spent())
            refutation: list[Refuted] = []

            def judge(_: int, point: np.ndarray) -> bool:
                refutation.extend(self._first(self.suspects(point)) if self.suspects else ())
                return bool(refutation)

            answer, bound = prove(self.enough.subject, self._sufficient(), budget, judge)
            return Outcome(refutation[0] if refutation else answer, spent(), bound)
        except UnsupportedPrimitive as error:
            where = f" ({error.at})" if error.at else ""
            return Outcome(Unknown(f"no bounds: {error.what}{where}"), spent())

    def _refuted(self, budget: Budget) -> Refuted | None:
        if self.direct is None:
            return None
        for found in self._first(self.suspects(None)) if self.suspects else ():
            return found
        if self.direct_box is None:
            return None
        question = pose(self.direct.subject, Property((Case(*self.direct_box, self.direct.unsafe),), self.text))
        deadline = time.monotonic() + budget.seconds / 2
        for seed in range(ATTACKS):
            points, values = attack(question, 0, seed)
            near = [[Fraction(float(v)) for v in point] for point in points[:JUDGED][values[:JUDGED] <= SLACK]]
            for found in self._first(near):
                return found
            if time.monotonic() > deadline:
                break
        return None

    def _first(self, points: Iterable[list[Fraction]]) -> list[Refuted]:
        """The first that is unsafe in exact arithmetic and in the region."""
        assert self.direct is not None or not points
        for point in points:
            if self.counts is not None and not self.counts(tuple(point)):
                continue
            if self.direct is not None and (found := judged(self.direct, point)) is not None:
                return [found]
        return []


def prove(
    subject: Subject, prop: Property, budget: Budget, judge: Callable[[int, np.ndarray], bool] = lambda *_: False
) -> tuple[Answer, float | None]:
    """Search for a proof and have it checked; bounds that touch a threshold are enough where an atom is strict.

    `decide` closes a box only where its float bound clears the threshold. Here it may also miss it by rounding,
    since the checker, which computes exactly, has the last word: a derivative that is 0 in places needs that.

    Args:
        judge: told of candidate points (case, input); the search ends where it says True.

    Returns:
        The answer, `Unknown` where a candidate was taken, and the worst margin found.
    """
    exact = exactly(subject)
    if exact.missing is not None:
        return Unknown(f"certificates cannot express it yet: {exact.missing}"), None
    strict = all(a.strict for case in prop.cases for conjunct in case.unsafe for a in conjunct)
    question = pose(subject, prop)
    search = Search(question, slack=-SLACK if strict else SLACK)
    deadline, compiled = time.monotonic() + budget.seconds, compile_seconds()
    try:
        outcome = search.run(deadline, judge)
        if outcome == "time":  # compilation is not counted
            late = budget.seconds if wait_for_compilations(budget.deadline) else compile_seconds() - compiled
            if late > 0:
                outcome = search.run(time.monotonic() + min(late, 2 * budget.seconds), judge)
        if outcome == "stuck" and not strict:  # a tie: it is settled where the atom is strict
            search = Search(question, slack=-SLACK)
            outcome = search.run(time.monotonic() + budget.seconds, judge)
    except KeyboardInterrupt:
        return Unknown(f"interrupted: {search.open} boxes left open"), None
    bound = search.worst if np.isfinite(search.worst) else None
    reasons = {
        "time": f"out of time after {budget.seconds:g} s: {search.open} boxes left open, {search.boxes} bounded",
        "stuck": "a box became too thin to halve in float64; the margin is zero to rounding",
        "unsafe": "a candidate was found",
    }
    if outcome != "closed":
        return Unknown(reasons[outcome], bound, timed_out=outcome == "time"), bound
    seconds = 0.0
    with TemporaryDirectory() as folder:
        for attempt in range(REPAIRS + 1):
            proof = search.proof()
            if isinstance(proof, str):
                return Claimed(None, f"the certificate cannot express it yet: {proof}"), bound
            found = certificate(exact.model, exact.blob, describe_property(prop), "holds", proof, {})
            checked = run_checker(save_certificate(found, Path(folder, "proof.cert")), budget.check_seconds - seconds)
            seconds += checked.seconds
            if checked.accepted:
                return Proved(found, checked.levels), bound
            last = attempt == REPAIRS or not checked.failed
            if last or not _split_further(search, checked.failed, deadline, judge):
                return Claimed(found, f"the checker did not accept: {checked.reason}"), bound
    raise AssertionError("unreachable")


def certify(
    subject: Subject, prop: Property, choices: Sequence[tuple[int, ...]], budget: Budget, profile: str = ""
) -> Answer:
    """The checker's answer on a property each of whose cases is bounded as a whole.

    Args:
        choices: for each case the atoms that its bounds refute, one a disjunct.
        profile: of float32 arithmetic, where the proof is to be at that level too.
    """
    exact = exactly(subject)
    if exact.missing is not None:
        return Unknown(f"certificates cannot express it yet: {exact.missing}")
    tree = Tree(len(prop.cases))
    for number, choice in enumerate(choices):
        tree.close(number, choice)
    proof = tree_proof(tree, prop)
    found = certificate(exact.model, exact.blob, describe_property(prop), "holds", proof, {}, profile)
    with TemporaryDirectory() as folder:
        checked = run_checker(save_certificate(found, Path(folder, "proof.cert")), budget.check_seconds)
    if checked.accepted:
        return Proved(found, checked.levels)
    return Claimed(found, f"the checker did not accept: {checked.reason}")


def _split_further(search: Search, failed: Any, deadline: float, judge: Callable[[int, np.ndarray], bool]) -> bool:
    search.reopen(failed)
    return search.run(max(deadline, time.monotonic() + 5.0), judge) == "closed"
