"""Claims with ∃: terms that may serve as the witness, and what has to be proved to refute such a claim.

A witness is only suggested here, after it held at many points in floats; the proof of the claim with the witness in
its place is what counts. A refuted ∃ is a proof of the negation, at some choice of sizes.
"""

import itertools
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import numpy as np

from axiom_jax._errors import UnsupportedPrimitive
from axiom_jax.verification import derivation_checker as kernel
from axiom_jax.verification.derivation_checker import Affine, Node
from axiom_jax.verification.domains.symbolic import scalars
from axiom_jax.verification.domains.symbolic.indexing import Rational
from axiom_jax.verification.domains.symbolic.numeric import NotNumeric, Points
from axiom_jax.verification.domains.symbolic.theorem import Theorem
from axiom_jax.verification.domains.symbolic.translate import at_sizes, theorem_of
from axiom_jax.verification.proof.derivation import Derivation, derivation_of, steps_of
from axiom_jax.verification.search.points import Place, edge_points, places, random_points
from axiom_jax.verification.statement import Range, Statement

NUMBERS = (0, 1, -1, 2, -2, Fraction(1, 2), -Fraction(1, 2), 3, 10, -10, Fraction(1, 10), 100, -100, 1000)
TRIED = 4000  # witnesses of one statement
SLACK = 1e-9  # by how much, relatively, floats may miss = and <=


@dataclass(frozen=True, eq=False)
class Witness:
    """Terms for the ∃ variables at the head of a goal.

    Args:
        theorem: the claim with these terms in place: what is left to prove.
        steps: the derivation's first steps, from the claim to that theorem.
    """

    theorem: Theorem
    steps: tuple[tuple[str, dict[str, Any]], ...]

    def __str__(self) -> str:
        return "; ".join(f"{kernel.show(step['term'])}{_indices(step['names'])}" for _, step in self.steps)


def with_witness(theorem: Theorem, found: Witness, derivation: Derivation) -> Derivation:
    """The derivation of a claim from a derivation of the claim with the witness in place."""
    _, steps = steps_of(derivation)
    given = theorem.text, theorem.sizes, theorem.variables, theorem.hypotheses, theorem.goal
    return derivation_of(*given, [*found.steps, *steps], derivation.payload["meta"])


def _indices(names: Sequence[str]) -> str:
    return f" at [{', '.join(name[1:] for name in names)}]" if names else ""


def witnesses(
    statement: Statement, theorem: Theorem, deadline: float | None = None, seed: int = 0
) -> Iterator[Witness]:
    """Witnesses that hold at every point tried, simple ones first.

    Args:
        theorem: the statement in terms; its goal begins with `exists`.
        deadline: of `time.monotonic()`.

    >>> from axiom_jax.verification.statement import Variable
    >>> variables = Variable("x", ()), Variable("y", (), quantifier="exists")
    >>> statement = Statement("∀x ∃y. y > x", variables, lambda x, y: y > x)
    >>> print(next(witnesses(statement, theorem_of(statement))))
    x + 1
    """
    kernel.refill()
    tests = _Tests(statement, theorem, np.random.default_rng(seed))
    for count, (goal, steps) in enumerate(_instances(theorem)):
        if count >= TRIED or (deadline is not None and time.monotonic() > deadline):
            return
        if tests.held(goal):
            yield Witness(replace(theorem, goal=goal, needed=()), tuple(steps))


def witness(statement: Statement, theorem: Theorem, deadline: float | None = None, seed: int = 0) -> Witness | None:
    """The first of `witnesses`, or None where none was found."""
    return next(witnesses(statement, theorem, deadline, seed), None)


def denials(statement: Statement) -> Iterator[tuple[dict[str, int], Theorem]]:
    """Theorems that each refute a statement with an ∃: its negation at some sizes.

    Yields:
        the sizes, and what has to be proved there; its goal begins with `exists` where the statement began with ∀.
    """
    if all(v.quantifier == "forall" for v in statement.variables):
        return
    names = statement.sizes
    for numbers in sorted(itertools.product((1, 2, 3), repeat=min(len(names), 3)), key=sum)[:8]:
        sizes: dict[str, int] = dict(zip(names, numbers, strict=False))
        try:
            theorem = theorem_of(at_sizes(statement, sizes))
        except UnsupportedPrimitive:
            return
        yield sizes, denial(theorem)


def denial(theorem: Theorem) -> Theorem:
    """The negation of a theorem without names of sizes: ∃ its free variables; leading ∀ variables become free."""
    kernel.refill()
    variables: list[tuple[str, tuple[Affine, ...]]] = []
    hypotheses: list[Node] = []
    goal = scalars.conj([*theorem.hypotheses, denied(theorem.goal)])
    for name, shape in reversed(theorem.variables):
        goal = kernel.exists(name, shape, goal)
    while goal.op == "forall":
        name = kernel.unused("x", {x for x, _ in variables})
        variables.append((name, goal.args[0]))
        goal = kernel.opened_variable(goal, name)
        if goal.op == "implies":
            hypotheses += goal.args[0].args if goal.args[0].op == "and" else [goal.args[0]]
            goal = goal.args[1]
    text = f"not ({theorem.text})"
    return replace(theorem, text=text, variables=tuple(variables), hypotheses=tuple(hypotheses), goal=goal, needed=())


def denied(f: Node) -> Node:
    """The negation of a formula, moved inwards through quantifiers and connectives."""
    match f.op:
        case "exists" | "forall":
            name = kernel.unused("$x", f.free)[1:]
            body = denied(kernel.opened_variable(f, name))
            return kernel.quantify("forall" if f.op == "exists" else "exists", name, f.args[0], body)
        case "all" | "some":
            name = kernel.unused("@i", f.free)
            return kernel.bind("some" if f.op == "all" else "all", f.args[0], name, denied(kernel.opened(f, name)))
        case "and":
            first = [g for g in f.args if not _quantifies(g)]
            rest = [denied(g) for g in f.args if _quantifies(g)]
            if rest and first:  # where the first part holds, the other one fails
                return scalars.implication(scalars.conj(first), scalars.disj(rest))
            return scalars.disj(map(denied, f.args))
        case "or":
            return scalars.conj(map(denied, f.args))
        case "implies":
            return scalars.conj([f.args[0], denied(f.args[1])])
    return scalars.negation(f)


def _quantifies(f: Node) -> bool:
    return f.op in ("exists", "forall") or any(_quantifies(a) for a in f.args if isinstance(a, Node))


def _instances(theorem: Theorem) -> Iterator[tuple[Node, list[Any]]]:
    """Goals with terms in the place of the leading ∃ variables, and the steps that lead to them."""
    numbers = _numbers(theorem.goal)

    def inner(goal: Node, steps: list[Any]) -> Iterator[tuple[Node, list[Any]]]:
        if goal.op != "exists":
            yield goal, steps
            return
        shape = goal.args[0]
        names = [f"@k{k}" for k in range(len(shape))]
        for value in _terms(theorem, shape, names, numbers):
            step = ("witness", {"names": names, "term": value})
            yield from inner(kernel.applied(goal, names, value), [*steps, step])

    yield from inner(theorem.goal, [])


def _terms(theorem: Theorem, shape: Sequence[Affine], names: Sequence[str], numbers: Sequence[Any]) -> Iterator[Node]:
    """Terms for a variable: of the free variables at the same place or folded, of sizes, numbers."""
    seen: set[Node] = set()
    for value in itertools.chain(numbers, _of_variables(theorem, shape, names)):
        node = kernel.term(value)
        if node not in seen:
            seen.add(node)
            yield node


def _numbers(goal: Node) -> list[Rational]:
    """Few simple numbers, then numbers of the goal, what lies between them and beside them."""
    found: set[Fraction] = set()
    stack, seen = [goal], {goal}
    while stack:
        node = stack.pop()
        if node.op == "const":
            found.add(node.args[0])
        for a in node.args:
            if isinstance(a, Node) and a not in seen:
                seen.add(a)
                stack.append(a)
    own = sorted(found, key=lambda q: (len(str(q)), q))[:8]
    between = [(a + b) / 2 for a, b in itertools.pairwise(sorted(own))]
    beside = [q for c in own for q in (c + 1, c - 1, -c, c / 2, 2 * c, c + Fraction(1, 100), c - Fraction(1, 100))]
    return list(dict.fromkeys([*map(Fraction, NUMBERS), *own, *between, *beside]))


def _of_variables(theorem: Theorem, shape: Sequence[Affine], names: Sequence[str]) -> Iterator[Node]:
    whole: list[Node] = []
    for x, own in theorem.variables:
        if tuple(own) == tuple(shape):
            whole.append(kernel.var(x, *names))
        elif not own:
            whole.append(kernel.var(x))
    for x, own in theorem.variables:
        if own and tuple(own) != tuple(shape):
            whole += _folds(x, own)
    whole += [kernel.integer(n) for n in theorem.sizes]
    changes = (
        lambda t: t, lambda t: kernel.add(t, 1), lambda t: kernel.add(t, -1), kernel.neg,
        lambda t: kernel.mul(Fraction(1, 2), t), lambda t: kernel.mul(2, t), lambda t: kernel.sub(1, t),
        kernel.inv, lambda t: kernel.power(t, 2), lambda t: kernel.add(kernel.power(t, 2), 1), kernel.absolute,
        lambda t: kernel.add(kernel.absolute(t), 1), lambda t: kernel.maximum(t, 0), kernel.exp, kernel.sqrt,
        kernel.log, lambda t: kernel.neg(kernel.inv(t)), lambda t: kernel.add(kernel.inv(t), 1),
        lambda t: kernel.power(t, 3),
        lambda t: kernel.neg(kernel.exp(t)), lambda t: kernel.inv(kernel.add(1, kernel.absolute(t))),
    )  # fmt: skip
    for change in changes:
        yield from map(change, whole)
    for a, b in itertools.combinations(whole, 2):
        yield from (kernel.mul(Fraction(1, 2), kernel.add(a, b)), kernel.add(a, b), kernel.sub(a, b), kernel.sub(b, a))
        yield from (kernel.mul(a, b), kernel.div(a, b), kernel.div(b, a), kernel.maximum(a, b), kernel.minimum(a, b))
        yield from (kernel.add(kernel.maximum(a, b), 1), kernel.add(a, b, 1))


def _folds(x: str, shape: Sequence[Affine]) -> list[Node]:
    """Sum, largest, smallest, mean, norm and first entry of an array."""
    names = [f"@f{k}" for k in range(len(shape))]
    entry = kernel.var(x, *names)

    def fold(make: Any, body: Node) -> Node:
        for name, size in reversed(list(zip(names, shape, strict=True))):
            body = make(name, size, body)
        return body

    total = fold(kernel.total, entry)
    mean = kernel.mul(total, *(kernel.inv(kernel.integer(size)) for size in shape))
    norm = kernel.sqrt(fold(kernel.total, kernel.power(entry, 2)))
    absolute = fold(kernel.total, kernel.absolute(entry))
    first = kernel.var(x, *(0 for _ in shape))
    return [fold(kernel.bigmax, entry), fold(kernel.bigmin, entry), total, mean, norm, absolute, first]


class _Tests:
    """Points at which a goal without ∃ is tried in floats; variables of inner ∀ are sampled from all reals."""

    def __init__(self, statement: Statement, theorem: Theorem, rng: np.random.Generator) -> None:
        self.theorem, self.rng = theorem, rng
        free = {x for x, _ in theorem.variables}
        named = [replace(v, name=theorem.name(v.name)) for v in statement.variables]
        self.variables = [v for v in named if v.name in free]
        self.others = [(x, s) for x, s in theorem.variables if x not in {v.name for v in named}]

    def held(self, goal: Node) -> bool:
        """Whether it holds at every point, up to rounding."""
        inner: list[tuple[str, tuple[Affine, ...]]] = []
        while goal.op == "forall" or (goal.op == "and" and goal.args[-1].op == "forall"):
            outside, goal = (goal.args[:-1], goal.args[-1]) if goal.op == "and" else ((), goal)
            name = f"inner{len(inner)}"
            inner.append((name, goal.args[0]))
            goal = scalars.conj([*outside, kernel.opened_variable(goal, name)])
        names = self.theorem.sizes
        rows = ((1,) * len(names), (2,) * len(names), range(3, 3 + len(names)))
        try:
            return all(self._held(goal, inner, dict(zip(names, row, strict=True))) for row in rows)
        except NotNumeric:
            return False

    def _held(self, goal: Node, inner: Sequence[Any], sizes: Mapping[str, int]) -> bool:
        where = list(places(self.variables, sizes))
        number = lambda e: e.const + sum(k * sizes[n] for n, k in e.terms)
        where += [Place(name, tuple(map(number, shape)), Range()) for name, shape in [*self.others, *inner]]
        if not where:
            return bool(Points(sizes, {}, SLACK).formula(goal)[1].all())
        for batch in (edge_points(where), random_points(where, self.rng, 200)):
            points = Points(sizes, batch, SLACK)
            fails = ~points.formula(goal)[1]
            for h in self.theorem.hypotheses:
                fails = fails & points.formula(h)[1]
            if fails.any():
                return False
        return True
