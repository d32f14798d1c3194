"""Proofs under construction: contexts of hypotheses, facts that become hypotheses when they are used, and steps.

A fact costs nothing until a proof uses it; then the steps that establish it are put before the step that needs it. What
comes out is the kernel's list of steps in preorder, hypotheses numbered in the order in which they appear.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from axiom_jax.verification import derivation_checker as kernel
from axiom_jax.verification.derivation_checker import Affine, Node, Poly

MAX_UNPACKED = 6  # indices that hypotheses may give, one within another


@dataclass(eq=False)
class Hypothesis:
    """A formula that is a hypothesis from some step on."""

    formula: Node


@dataclass(eq=False)
class Step:
    """One step of a proof and the proofs of the goals that it leaves, each with the hypotheses that it appends.

    Args:
        rule: the kernel's name of it.
        given: its parameters; hypotheses stand for their numbers.
        branches: what is appended and the proof, for each goal.
        needs: hypotheses that the kernel finds itself (side conditions).
    """

    rule: str
    given: dict[str, Any]
    branches: list[tuple[list[Hypothesis], "Step"]] = field(default_factory=list)
    needs: tuple[Hypothesis, ...] = ()

    def __post_init__(self) -> None:
        self.used = set(self.needs) | set(_hypotheses(self.given))
        for _, proof in self.branches:
            self.used |= proof.used


@dataclass
class Link:
    """A step that only adds hypotheses; `side` proves what a `have` claims."""

    rule: str
    given: dict[str, Any]
    adds: list[Hypothesis]
    side: Step | None
    needs: tuple[Hypothesis, ...]


@dataclass(eq=False)
class Fact:
    """What is known: poly >= 0 ("le"), > 0 ("lt") or = 0 ("eq"); `make` adds it to the proof when it is first used."""

    kind: str
    poly: Poly
    make: Callable[[], Hypothesis]
    _made: Hypothesis | None = None

    def hypothesis(self) -> Hypothesis:
        if self._made is None:
            self._made = self.make()
        return self._made


class OutOfTime(Exception):
    """The deadline has passed."""


class Budget:
    """What one search may use: time, and names that it has not used."""

    def __init__(self, deadline: float | None) -> None:
        self.deadline = deadline
        self.names = 0
        self.sums: dict[Any, Poly] = {}  # sums over an index that were computed
        self.nesting = 0  # of side conditions within side conditions
        self.reverses = False  # whether the claim reads an array backwards

    def check(self) -> None:
        kernel.WORK[0] = 1 << 30
        if self.deadline is not None and time.monotonic() > self.deadline:
            raise OutOfTime


class Context:
    """Hypotheses that hold where a goal is to be proved: the parent's and its own."""

    def __init__(self, parent: "Context | None", budget: Budget, given: Sequence[Hypothesis] = ()) -> None:
        self.parent, self.budget, self.given = parent, budget, list(given)
        self.chain: list[Link] = []
        self.facts: list[Fact] = []
        self.known: dict[Node, Fact] = {}  # by normal form
        self.plain: dict[Node, Fact] = {}  # what the normal form decides
        self.expanded: set[Any] = set()
        self.generics: dict[Affine, tuple[str, Context]] = {}
        self.depth: int = 0 if parent is None else parent.depth + 1
        self.ranges: dict[str, Affine] = {} if parent is None else dict(parent.ranges)
        self.universals: list[Hypothesis] = []
        self.disjunctions: list[Hypothesis] = []
        self.assumed: list[Fact] = []
        self.unpacked: int = 0 if parent is None else parent.unpacked  # indices that hypotheses gave
        for h in given:
            self.assume(h)

    def child(self, given: Sequence[Hypothesis] = ()) -> "Context":
        return Context(self, self.budget, given)

    def fresh(self) -> str:
        """A name of an index that occurs nowhere."""
        self.budget.names += 1
        return f"@v{self.budget.names}"

    def chain_of_contexts(self) -> Iterator["Context"]:
        here: Context | None = self
        while here is not None:
            yield here
            here = here.parent

    def every_fact(self) -> list[Fact]:
        return [f for c in self.chain_of_contexts() for f in c.facts]

    def every_universal(self) -> list[Hypothesis]:
        return [h for c in self.chain_of_contexts() for h in c.universals]

    def find(self, formula: Node) -> Fact | None:
        """The fact whose formula has this normal form."""
        form = kernel.form(formula)
        return next((c.known[form] for c in self.chain_of_contexts() if form in c.known), None)

    def has_expanded(self, key: Any) -> bool:
        return any(key in c.expanded for c in self.chain_of_contexts())

    def assume(self, hypothesis: Hypothesis) -> None:
        """Takes a hypothesis that a step of the proof has appended."""
        f = hypothesis.formula
        if f.op in ("or", "implies", "all", "forall") and kernel.form(f) is kernel.TRUE:
            return
        if f.op == "ilt" and len(f.args[0].terms) == 1 and f.args[0].const == 0 and f.args[0].terms[0][1] == 1:
            self.ranges.setdefault(f.args[0].terms[0][0], f.args[1])
        if f.op in ("and",):
            parts = [Hypothesis(p) for p in f.args]
            self.chain.append(Link("unpack", {"hyp": hypothesis, "name": ""}, parts, None, ()))
            for p in parts:
                self.assume(p)
            return
        if f.op == "not":
            inner = kernel.negated(f.args[0])
            if inner.op != "not":  # the same formula with the negation inside
                moved = Hypothesis(inner)
                side = Step("assumption", {"hyp": hypothesis})
                self.chain.append(Link("have", {"formula": inner}, [moved], side, ()))
                self.assume(moved)
                return
        if f.op == "implies":
            either = kernel.disj(kernel.negated(f.args[0]), f.args[1])
            side = Step("assumption", {"hyp": hypothesis})
            (moved,) = self.link("have", {"formula": either}, [either], side)
            self.assume(moved)
            return
        if f.op == "some" and self.unpacked < MAX_UNPACKED:
            self.unpacked += 1
            name = self.fresh()
            parts = [kernel.ilt(name, f.args[0]), kernel.opened(f, name)]
            for h in self.link("unpack", {"hyp": hypothesis, "name": name}, parts):
                self.assume(h)
        if f.op == "or":
            self.disjunctions.append(hypothesis)
        if f.op in ("all", "forall"):
            self.universals.append(hypothesis)
        other = self.find(kernel.negated(f))
        if other is not None:
            self.known[kernel.FALSE] = Fact("other", {}, lambda: self.clash(hypothesis, other.hypothesis()))
        if kernel.form(f) is not kernel.TRUE:
            self.known.setdefault(kernel.form(f), Fact("other", {}, lambda: hypothesis))
        if f.op in ("le", "lt", "eq", "ile", "ilt", "ieq"):
            self.assumed.append(self.add(f, lambda: hypothesis))

    def clash(self, one: Hypothesis, other: Hypothesis) -> Hypothesis:
        """What is false, from two hypotheses of which one denies the other."""
        step = Step("clash", {"hyp": one, "other": other})
        return self.link("have", {"formula": kernel.FALSE}, [kernel.FALSE], step)[0]

    def add(self, formula: Node, make: Callable[[], Hypothesis]) -> Fact:
        """A comparison that `make` can turn into a hypothesis."""
        kind, poly = kernel.value(formula)
        fact = Fact(kind, poly, make)
        if poly and not (set(poly) == {()} and kind != "eq" and poly[()] > 0):
            self.facts.append(fact)
        if kernel.form(formula) is not kernel.TRUE:
            self.known[kernel.form(formula)] = fact
        return fact

    def link(self, rule: str, given: dict[str, Any], adds: Sequence[Node], side: Step | None = None,
             needs: Sequence[Hypothesis] = ()) -> list[Hypothesis]:
        made = [Hypothesis(f) for f in adds]
        self.chain.append(Link(rule, given, made, side, tuple(needs)))
        return made

    def close(self, last: Step) -> Step:
        """The proof of this context's goal: its links, but for those that nothing uses, then `last`."""
        step = last
        for link in reversed(self.chain):
            if link.rule == "have" and link.side is not None:
                if link.adds[0] in step.used:
                    step = Step("have", link.given, [([], link.side), (link.adds, step)])
            elif any(h in step.used for h in link.adds):
                step = Step(link.rule, link.given, [(link.adds, step)], link.needs)
        return step


def _hypotheses(value: Any) -> Iterator[Hypothesis]:
    if isinstance(value, Hypothesis):
        yield value
    elif isinstance(value, dict):
        for v in value.values():
            yield from _hypotheses(v)
    elif isinstance(value, (list, tuple)) and not isinstance(value, Affine):
        for v in value:
            yield from _hypotheses(v)


def preorder(hypotheses: Sequence[Hypothesis], proof: Step) -> list[tuple[str, dict[str, Any]]]:
    """The steps in the kernel's order, hypotheses as their numbers."""
    steps: list[tuple[str, dict[str, Any]]] = []
    stack = [(proof, {h: k for k, h in enumerate(hypotheses)}, len(hypotheses))]
    while stack:
        step, numbers, count = stack.pop()
        steps.append((step.rule, _numbered(step.given, numbers)))
        for adds, branch in reversed(step.branches):
            stack.append((branch, numbers | {h: count + k for k, h in enumerate(adds)}, count + len(adds)))
    return steps


def _numbered(value: Any, numbers: dict[Hypothesis, int]) -> Any:
    if isinstance(value, Hypothesis):
        return numbers[value]
    if isinstance(value, dict):
        return {k: _numbered(v, numbers) for k, v in value.items()}
    if isinstance(value, (list, tuple)) and not isinstance(value, Affine):
        return [_numbered(v, numbers) for v in value]
    return value
