"""Counterexamples to claims about all reals: found in floats, made of few digits, judged exactly and executed.

The kernel's enclosures decide (`violated`): the hypotheses certainly hold at the point and the goal is certainly false.
A statement that cannot be said in terms has no exact judge: `suggested` points to where it seems to fail.
"""

import itertools
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from axiom_jax._errors import UnsupportedPrimitive
from axiom_jax._program import Equation, Program
from axiom_jax.verification import derivation_checker as kernel
from axiom_jax.verification.derivation_checker import Node
from axiom_jax.verification.domains.symbolic.numeric import NotNumeric, Points
from axiom_jax.verification.domains.symbolic.theorem import Theorem
from axiom_jax.verification.domains.symbolic.translate import at_sizes, program_of, theorem_of
from axiom_jax.verification.proof.derivation import Derivation, refutation_of
from axiom_jax.verification.search.points import Batch, Place, descended, edge_points, places, random_points, taken
from axiom_jax.verification.statement import Statement

BITS = (64, 192)
WORK = 3 * 10**6  # steps of the kernel for one point
DIGITS = (0, 1, 2, 3, 5)
MAX_VALUES = 4096  # entries of all variables at one choice of sizes
JUDGED = 24  # points judged exactly in one round
DOUBLE = 1e-9  # margins that rounding in float64 may hide, in proportion to the point
COMPARISONS = ("eq", "ne", "lt", "le", "gt", "ge")


@dataclass(frozen=True)
class Execution:
    """What JAX computed at the point, in float32.

    Args:
        holds: whether the condition came out true.
        sides: for the comparisons that came out false, name and the two sides at the first such place.
        nonfinite: whether a NaN or an infinity came up on the way.
    """

    holds: bool
    sides: tuple[tuple[str, float, float], ...] = ()
    nonfinite: bool = False

    def __str__(self) -> str:
        """The comparisons that failed, as `-4.0 >= 0.0 is false`."""
        signs = {"eq": "==", "ne": "!=", "lt": "<", "le": "<=", "gt": ">", "ge": ">="}
        told = [f"{a:.7g} {signs[name]} {b:.7g} is false" for name, a, b in self.sides]
        return "; ".join(told) or ("the condition is true" if self.holds else "the condition is false")


@dataclass(frozen=True, eq=False)
class Refutation:
    """A point where a claim is false in exact arithmetic.

    Args:
        theorem: what is false there.
        sizes: a number for each name of a size.
        values: exact entries of each variable of the theorem, flat in C order.
        shapes: of these variables.
        bits: of the enclosures that judged it.
        executed: what JAX computed there.
        undefined: whether the claim fails because something in it has no value there.
    """

    theorem: Theorem
    sizes: dict[str, int]
    values: dict[str, tuple[Fraction, ...]]
    shapes: dict[str, tuple[int, ...]]
    bits: int
    executed: Execution
    undefined: bool = False

    @property
    def point(self) -> dict[str, Any]:
        """The exact entries by the statement's names, as nested lists; numbers for variables without axes."""
        own = {here: name for name, here in self.theorem.names}
        return {own.get(x, x): _nested(list(self.values[x]), shape) for x, shape in self.shapes.items()}

    @property
    def derivation(self) -> Derivation:
        """The derivation of kind `violated`, for the checker and for files."""
        t = self.theorem
        return refutation_of(t.text, self.sizes, t.variables, t.hypotheses, t.goal, self.values, self.bits)

    def __str__(self) -> str:
        sizes = [f"{name} = {n}" for name, n in self.sizes.items()]
        values = [f"{name} = {_shown(value)}" for name, value in self.point.items()]
        return f"{', '.join([*sizes, *values])}: {self.executed}"


def refute(
    statement: Statement, theorem: Theorem | None, deadline: float | None = None, seed: int = 0
) -> Refutation | None:
    """Search for a counterexample.

    Args:
        theorem: the statement in terms, with nothing abstracted. Only its leading ∀ variables are searched. None
            where it has none for all sizes: then small sizes are tried one by one.
        deadline: of `time.monotonic()`; None for as many rounds as are of use.
        seed: of the random points.

    Returns:
        The first point that exact arithmetic confirms, or None: which proves nothing.

    >>> import jax
    >>> from axiom_jax.verification.domains.symbolic.translate import theorem_of
    >>> from axiom_jax.verification.statement import Variable
    >>> statement = Statement("relu(x) - 5 >= 0", (Variable("x"),), lambda x: jax.nn.relu(x) - 5 >= 0)
    >>> print(refute(statement, theorem_of(statement)))
    n = 1, x = [0]: -5 >= 0 is false
    """
    if theorem is None:
        return _small(statement, _choices(statement.sizes)[:6], deadline)
    if theorem.abstracted or _quantified(theorem.goal):
        return None
    rng = np.random.default_rng(seed)
    soon = lambda: min(deadline or math.inf, time.monotonic() + 0.5)
    free = {name for name, _ in theorem.variables}
    variables = [replace(v, name=theorem.name(v.name)) for v in statement.variables if theorem.name(v.name) in free]
    choices = _choices(theorem.sizes)
    doubtful: Refutation | None = None
    for effort in range(4):
        if effort == 1 and theorem.sizes and (found := _small(statement, choices[:2], soon())):
            return found
        for sizes in choices[: (6, 14, 24, len(choices))[effort]]:
            where = places(variables, sizes)
            if sum(int(np.prod(p.shape, dtype=int)) for p in where) > MAX_VALUES:
                continue
            for batch in _batches(theorem, sizes, where, effort, rng):
                if deadline is not None and time.monotonic() > deadline:
                    return doubtful
                found = _judged(statement, theorem, sizes, where, batch, deadline)
                if found is not None and not found.executed.holds:
                    return found
                doubtful = doubtful or found
        if doubtful is not None:
            return doubtful
    return doubtful


def _small(statement: Statement, choices: Sequence[dict[str, int]], deadline: float | None) -> Refutation | None:
    """Points of the claim at small sizes, written out: there more cancels exactly, as x - max(x) does for one entry."""
    for k, sizes in enumerate(choices):
        here = at_sizes(statement, sizes)
        try:
            theorem = theorem_of(here, unroll=8)
        except UnsupportedPrimitive:
            continue
        left = None if deadline is None else (deadline - time.monotonic()) / (len(choices) - k)
        found = refute(here, theorem, None if left is None else time.monotonic() + left)
        if found is not None and not found.executed.holds:
            return found
    return None


@dataclass(frozen=True, eq=False)
class Suggestion:
    """A point where a condition came out false in float32; no exact arithmetic has judged it."""

    sizes: dict[str, int]
    point: dict[str, Any]
    executed: Execution


def _everywhere(statement: Statement, numbers: Sequence[Any], *xs: Any) -> Any:
    return jnp.all(jnp.stack([jnp.all(part) for part in jax.tree.leaves(statement.condition(*xs, *numbers))]))


def suggest(statement: Statement, deadline: float | None = None, seed: int = 0) -> Suggestion | None:
    """A point where a statement of ∀ variables seems to fail, by execution alone: for what cannot be said in terms."""
    if any(v.quantifier != "forall" for v in statement.variables):
        return None
    rng = np.random.default_rng(seed)
    for sizes in _choices(statement.sizes)[:4]:
        where = places(statement.variables, sizes)
        numbers = [np.float32(_float(q)) for q in statement.constants]
        holds = jax.jit(jax.vmap(partial(_everywhere, statement, numbers)))
        for batch in (edge_points(where), random_points(where, rng, 256)):
            if deadline is not None and time.monotonic() > deadline:
                return None
            batch = {name: values.astype(np.float32) for name, values in batch.items()}
            false = ~np.asarray(holds(*batch.values()))
            if batch and false.any():
                row = int(np.argmax(false))
                values = {p.name: tuple(Fraction(float(x)) for x in batch[p.name][row].reshape(-1)) for p in where}
                executed = execute(statement, sizes, values)
                point = {p.name: batch[p.name][row].tolist() for p in where}
                if not executed.holds:
                    return Suggestion(sizes, point, executed)
    return None


def _quantified(node: Node) -> bool:
    """Whether a real quantifier is in a formula: it has no truth at a point that enclosures could find."""
    return node.op in ("exists", "forall") or any(_quantified(a) for a in node.args if isinstance(a, Node))


def _choices(names: Sequence[str]) -> list[dict[str, int]]:
    """Choices of sizes, small ones first."""
    if not names:
        return [{}]
    if len(names) == 1:
        return [{names[0]: n} for n in (1, 2, 3, 4, 5, 6, 8, 12)]
    top = {2: 4, 3: 3}.get(len(names), 2)
    every = sorted(itertools.product(range(1, top + 1), repeat=len(names)), key=lambda p: (sum(p), p))
    every += [tuple(int(n) for n in row) for row in ((6,) * len(names), range(2, 2 + len(names)))]
    return [dict(zip(names, row, strict=True)) for row in dict.fromkeys(every)]


def _batches(theorem: Theorem, sizes: Mapping[str, int], where: Sequence[Place], effort: int,
             rng: np.random.Generator) -> Iterator[Batch]:  # fmt: skip
    """Points in the order in which they are worth judging; each batch sorted, the worst margins first."""
    if not where:
        yield {}
        return
    scored = lambda batch: _scores(theorem, sizes, batch)
    start = edge_points(where) if effort == 0 else random_points(where, rng, 64 * 4**effort)
    value, false = scored(start)
    yield taken(start, _worth(value, false))
    if effort == 0:
        return
    order = np.argsort(value, kind="stable")[: 8 * effort]
    margin = lambda batch: scored(batch)[0]
    for turn, (batch, _) in enumerate(descended(where, taken(start, order), margin, rng, 12 * effort)):
        if turn % 6 == 5:
            value, false = scored(batch)
            yield taken(batch, _worth(value, false))


def _worth(value: np.ndarray, false: np.ndarray) -> np.ndarray:
    """Rows that are false in floats: clear ones first, in their order, then close ones."""
    clear = np.flatnonzero(false & (value < -1e-7))
    close = np.flatnonzero(false & ~(value < -1e-7))
    exact = close[value[close] == 0]
    return np.concatenate([clear[:JUDGED], exact[: JUDGED // 2], close[value[close] != 0][:2]])


def _scores(theorem: Theorem, sizes: Mapping[str, int], batch: Batch) -> tuple[np.ndarray, np.ndarray]:
    """(points,) how true the claim is in floats, and whether it is false there; at points inside the hypotheses."""
    points = Points(sizes, batch)
    try:
        margin, holds = points.formula(theorem.goal)
        margin, holds = margin.copy(), holds.copy()
        for h in theorem.hypotheses:
            inside, met = points.formula(h)
            margin = np.where(met, margin, np.maximum(margin, 0) + 1 + np.abs(inside))
            holds = holds | ~met
    except NotNumeric:
        count = len(next(iter(batch.values()))) if batch else 1
        return np.zeros(count), np.zeros(count, bool)
    return np.nan_to_num(margin, nan=1e300, posinf=1e300, neginf=-1e300), ~holds


def _judged(
    statement: Statement,
    theorem: Theorem,
    sizes: dict[str, int],
    where: Sequence[Place],
    batch: Batch,
    deadline: float | None,
) -> Refutation | None:
    """The first of the points at which the claim is false in exact arithmetic, with as few digits as that allows."""
    kept: Refutation | None = None
    named = [v.name for v in statement.variables if theorem.name(v.name) in {p.name for p in where}]
    count = len(next(iter(batch.values()))) if batch else 1
    rounded = [{x: a if d is None else np.round(a, d) for x, a in batch.items()} for d in (*DIGITS, None)]
    false = [_scores(theorem, sizes, b)[1] if count and batch else [True] for b in rounded]
    for row in range(count):
        for digits in [d for d, wrong in zip((*DIGITS, None), false, strict=True) if wrong[row]][:2]:
            values = {p.name: tuple(_rounded(x, digits) for x in batch[p.name][row].reshape(-1)) for p in where}
            bits = violated(theorem, sizes, values)
            if not bits:
                continue
            shapes = {p.name: p.shape for p in where}
            executed = execute(statement, sizes, {name: values[theorem.name(name)] for name in named})
            undefined = bool(theorem.needed) and _undefined(theorem, sizes, values)
            found = Refutation(theorem, dict(sizes), values, shapes, bits, executed, undefined)
            if not executed.holds and (executed.nonfinite or not undefined):
                return found
            if executed.holds and not undefined and _told_by_rounding(statement, found):
                kept = kept or found
            break
        late = deadline is not None and time.monotonic() > deadline
        if late or (kept is not None and row >= 6):
            break
    return kept


def _rounded(x: float, digits: int | None) -> Fraction:
    if digits is None:
        return Fraction(float(x))
    return Fraction(f"{float(x):.{digits}f}")


# Exact judgement


def values_at(
    theorem: Theorem, sizes: Mapping[str, int], point: Mapping[str, Sequence[Fraction]], bits: int = 64
) -> kernel.Values:
    """The kernel's enclosures at a point: `.of(term)` gives two ends, `.holds(formula)` true, false or None.

    Args:
        point: exact entries of each variable, flat in C order.
    """
    at = {name: kernel.affine(n) for name, n in sizes.items()}
    shapes = {x: [kernel.substitute(kernel.integer(e), at).args[0].const for e in s] for x, s in theorem.variables}

    def entry(t: Node) -> tuple[Fraction, Fraction]:
        place = 0
        for e, n in zip(t.args[1:], shapes[t.args[0]], strict=True):
            kernel.need(not e.terms and 0 <= e.const < n, "an index is out of range")
            place = place * n + e.const
        value = point[t.args[0]][place]
        return value, value

    kernel.BITS[0], kernel.WORK[0] = bits, WORK
    return kernel.Values({}, entry)


def evaluate(theorem: Theorem, node: Node, sizes: Mapping[str, int], point: Mapping[str, Sequence[Fraction]],
             bits: int = 64) -> Any:  # fmt: skip
    """A rigorous value: two ends of a term, or true, false or None (undecided) for a formula.

    Raises:
        Rejected: of the kernel, where the node has no enclosure there.
    """
    values = values_at(theorem, sizes, point, bits)
    node = kernel.substitute(node, {name: kernel.affine(n) for name, n in sizes.items()})
    return values.holds(node) if node.op in kernel.FORMULAS else values.of(node)


def violated(theorem: Theorem, sizes: Mapping[str, int], point: Mapping[str, Sequence[Fraction]]) -> int:
    """The precision in bits at which the claim is certainly false at a point; 0 where it is not shown to be."""
    for bits in BITS:
        try:
            if all(evaluate(theorem, h, sizes, point, bits) is True for h in theorem.hypotheses):
                truth = evaluate(theorem, theorem.goal, sizes, point, bits)
                if truth is not None:
                    return 0 if truth else bits
            elif any(evaluate(theorem, h, sizes, point, bits) is False for h in theorem.hypotheses):
                return 0
        except kernel.Rejected:
            return 0
    return 0


def _undefined(theorem: Theorem, sizes: Mapping[str, int], point: Mapping[str, Sequence[Fraction]]) -> bool:
    """Whether something that the claim needs to have a value is missing there."""
    try:
        return any(evaluate(theorem, f, sizes, point, BITS[-1]) is not True for f in theorem.needed)
    except kernel.Rejected:
        return True


# Execution


def _told_by_rounding(statement: Statement, found: Refutation) -> bool:
    """Whether rounding explains that JAX finds a claim true in float32 that is false in exact arithmetic.

    In float64 it comes out false, or the claim fails there by less than float64 resolves. Where neither is so, the
    terms and JAX disagree about what the claim says, and the point refutes nothing.
    """
    named = {v.name: found.values[found.theorem.name(v.name)] for v in statement.variables
             if found.theorem.name(v.name) in found.values}  # fmt: skip
    if not _holds_in_double(statement, found.sizes, named):
        return True
    shaped = {x: np.array([[_float(q) for q in found.values[x]]]).reshape(1, *s) for x, s in found.shapes.items()}
    margin, _ = _scores(found.theorem, found.sizes, shaped)
    size = max([1.0, *(float(np.abs(a).max(initial=0)) for a in shaped.values())])
    return bool(abs(margin[0]) <= DOUBLE * size)


def _holds_in_double(statement: Statement, sizes: Mapping[str, int], point: Mapping[str, Sequence[Fraction]]) -> bool:
    """Whether the condition is true in JAX with float64 for all that the statement leaves to the type of its inputs."""
    with jax.enable_x64(True):
        arrays = []
        for v in at_sizes(statement, sizes).variables:
            shape = tuple(int(d) for d in v.shape)
            arrays.append(jnp.asarray(np.array([_float(q) for q in point[v.name]]).reshape(shape)))
        numbers = [np.float64(_float(q)) for q in statement.constants]
        try:
            outputs = jax.tree.leaves(statement.condition(*arrays, *numbers))
        except (TypeError, ValueError):  # it insists on float32: no second opinion
            return True
        return all(bool(np.asarray(o).all()) for o in outputs)


def execute(statement: Statement, sizes: Mapping[str, int], point: Mapping[str, Sequence[Fraction]]) -> Execution:
    """Run the condition in JAX at a point, rounded to float32, and look at its comparisons.

    Args:
        point: exact entries of each of the statement's variables, flat in C order.
    """
    program, captured = program_of(at_sizes(statement, sizes))
    arrays = []
    for v, var in zip(statement.variables, program.inputs, strict=False):
        arrays.append(np.array([_float(q) for q in point[v.name]], np.float32).reshape(var.shape))
    arrays += [np.float32(_float(q)) for q in statement.constants]
    outputs, sides, nonfinite = _run(program, tuple(captured), tuple(arrays))
    failed = []
    for eqn, (left, right, held) in zip(_compared(program), sides, strict=True):
        held = np.asarray(held)
        if not held.all():
            where = np.unravel_index(int(np.argmin(held)), held.shape)
            pick = lambda a, where=where, held=held: float(np.broadcast_to(np.asarray(a), held.shape)[where])
            failed.append((eqn.name, pick(left), pick(right)))
    return Execution(all(bool(np.asarray(o).all()) for o in outputs), tuple(failed), bool(nonfinite))


def _float(q: Fraction) -> float:
    try:
        return float(q)
    except OverflowError:
        return float("inf") if q > 0 else -float("inf")


def _compared(program: Program) -> list[Equation]:
    """The comparisons of reals that the outputs are made of."""
    reaching, found = set(program.outputs), []
    for eqn in reversed(program.equations):
        if reaching.isdisjoint(eqn.outputs):
            continue
        kind = lambda v: getattr(v.dtype, "kind", "")
        if eqn.name in COMPARISONS and kind(eqn.inputs[0]) not in ("b", "i", "u"):
            found.append(eqn)
        elif kind(eqn.output) == "b":
            reaching.update(v for v in eqn.inputs if kind(v) == "b")
    return found[::-1]


def _run(program: Program, captured: Any, arrays: Any) -> tuple[Any, Any, Any]:
    wanted = _compared(program)

    @jax.jit
    def run(captured: Any, arrays: Any) -> Any:
        env = program.environment(captured) | dict(zip(program.inputs, arrays, strict=True))
        for eqn in program.equations:
            env.update(zip(eqn.outputs, eqn.evaluate(*(env[v] for v in eqn.inputs)), strict=True))
        sides = [(env[e.inputs[0]], env[e.inputs[1]], env[e.output]) for e in wanted]
        reals = [env[v] for e in program.equations for v in e.outputs if jnp.issubdtype(v.dtype, jnp.floating)]
        nonfinite = jnp.any(jnp.stack([~jnp.isfinite(x).all() for x in reals])) if reals else jnp.array(False)
        return [env[v] for v in program.outputs], sides, nonfinite

    return run(captured, tuple(map(jnp.asarray, arrays)))


def _nested(flat: list[Any], shape: tuple[int, ...]) -> Any:
    for n in reversed(shape[1:]):
        flat = [flat[k : k + n] for k in range(0, len(flat), n)] if n else []
    return flat if shape else flat[0]


def _shown(value: Any) -> str:
    return f"[{', '.join(map(_shown, value))}]" if isinstance(value, list) else str(value)
