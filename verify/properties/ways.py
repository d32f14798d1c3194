"""Ways to settle a claim: bounds with search and the checker, the symbolic engine, executed samples.

A way may ask more than the claim says (a box around a ball, every input of the model's end): then its proof is a
proof of the claim, and its counterexample is one only where it says so.
"""

import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Protocol

import numpy as np

from axiom_jax._errors import UnsupportedPrimitive
from axiom_jax.verification.proof.certificate import (
    Certificate,
    canonical,
    certificate,
    describe_property,
    run_checker,
    save_certificate,
    tree_proof,
)
from axiom_jax.verification.proof.compiled import hindrance
from axiom_jax.verification.proof.exact import exactly, replayed
from axiom_jax.verification.properties.scope import Budget
from axiom_jax.verification.property import Property
from axiom_jax.verification.results import Answer
from axiom_jax.verification.search.branch_and_bound import Search
from axiom_jax.verification.search.compilation import wait_for_compilations
from axiom_jax.verification.search.decide import decide
from axiom_jax.verification.search.margins import Subject, pose
from axiom_jax.verification.search.tree import Tree
from axiom_jax.verification.statement import Statement
from axiom_jax.verification.verdict import Claimed, Decision, Proved, Refuted, Unknown, interrupted

COMPILED = 0.2  # of the time was compilation: then it is asked again, compiled
AGAIN = 2  # how often
SYMBOLS, LEAST = 30.0, 10.0  # seconds for the symbolic engine at most, and where no timeout is given at least
TOUCHED = 60.0  # seconds, at most, of searching for bounds that touch their thresholds
AT_ONCE = 64  # cases that are tried without a split
TOUCHING = 1e-5  # how far below its threshold a float32 bound may lie whose exact value may reach it


@dataclass(frozen=True)
class Outcome:
    """What a way found: the answer, wall seconds, and the worst margin proved."""

    answer: Answer
    seconds: float = 0.0
    bound: float | None = None


class Way(Protocol):
    """One way to settle a claim.

    `network` says what a certificate of it is about: "model" (the model itself), "logits" (up to a tail that keeps
    the order), "tail" (the end without parameters), "composed" (a network made of the model), "none".

    A way whose certificates go into files may also have `questions()`, the networks and properties that its
    certificates are about, and `answers(part)`, whether a derivation or certificate is the answer to it: with these a
    file is compared with the model.
    """

    @property
    def network(self) -> str: ...

    def key(self) -> str | None:
        """What tells this question from others, for the journal; None if its answers are not kept."""
        ...

    def settle(self, budget: Budget) -> Outcome:
        """The answer within a budget; never raises for lack of time."""
        ...


@dataclass(frozen=True, eq=False)
class ByBounds:
    """Search for a proof or a counterexample by linear bounds, checked by `checker.py`.

    Args:
        subject: the network: the model's own, or one composed of it.
        ask: what is asked of it, or a function that makes it when it is needed.
        network: what the subject is to the model, as `Way` says.
    """

    subject: Subject
    ask: Property | Callable[[], Property]
    network: str = "model"

    @property
    def property(self) -> Property:
        return self.ask if isinstance(self.ask, Property) else self.ask()

    def key(self) -> str:
        return hashlib.sha256(canonical(describe_property(self.property))).hexdigest()

    def settle(self, budget: Budget) -> Outcome:
        start, prop = time.monotonic(), self.property
        spent = lambda: time.monotonic() - start
        try:
            if (proof := self._at_once(prop, budget) or self._together(prop, budget)) is not None:
                return Outcome(proof[0], spent(), proof[1])
            decision = self._decide(prop, budget)
            for _ in range(AGAIN if budget.left > 0 else 0):
                late = isinstance(decision.verdict, Unknown) and decision.verdict.timed_out
                if not late or not self._compiled(decision, budget):
                    break
                decision = self._decide(prop, budget)
        except UnsupportedPrimitive as error:
            where = f" ({error.at})" if error.at else ""
            return Outcome(Unknown(f"no bounds: {error.what}{where}"), spent())
        verdict = decision.verdict
        if isinstance(verdict, Unknown) and not interrupted(verdict) and _strict(prop):
            verdict = self._touching(prop, budget) or verdict
        return Outcome(verdict, spent(), decision.bound)

    def _decide(self, prop: Property, budget: Budget) -> Decision:
        itself = self.network == "model"  # what runs; else theorems about real numbers lie between
        return decide(
            self.subject, prop, timeout=budget.left, check_timeout=budget.check_seconds, float32=itself,
            profile=budget.profile,
        )  # fmt: skip

    def _compiled(self, decision: Decision, budget: Budget) -> bool:
        """Whether much of a search's time went into compiling, and it is compiled now."""
        late = wait_for_compilations(budget.deadline)
        return late or decision.compile_seconds >= COMPILED * decision.seconds

    def _touching(self, prop: Property, budget: Budget) -> Answer | None:
        """A proof by boxes whose bounds may touch the thresholds: the checker, which computes exactly, decides."""
        from axiom_jax.verification.properties.composing import prove

        if budget.deadline is not None:
            budget = replace(budget, seconds=budget.left)
        answer, _ = prove(self.subject, prop, replace(budget, seconds=min(budget.seconds, TOUCHED)))
        return answer if isinstance(answer, (Proved, Claimed)) else None

    def _at_once(self, prop: Property, budget: Budget) -> tuple[Proved, float] | None:
        """The proof without a split, where no atom is closed: there bounds that touch the threshold are enough.

        The search wants a margin in float32 before it closes a leaf; a relu that is never below 0 has none.
        """
        exact = exactly(self.subject)
        if not _strict(prop) or exact.missing is not None or len(prop.cases) > AT_ONCE:
            return None
        root = Search(pose(self.subject, prop))
        found = root.bounded(slice(0, len(prop.cases)))
        near = np.all(found.value >= -TOUCHING * (1 + np.abs(root.question.spec.threshold).max(1)))
        if not near and self.network != "composed":  # there the checker sees what two copies share, and cancels it
            return None
        tree = Tree(len(prop.cases))
        for number in range(len(prop.cases)):
            tree.close(number, tuple(found.choice[number].tolist()))
        proof = tree_proof(tree, prop)
        seconds = min(budget.check_seconds, budget.left if near else budget.left / 4)
        rounded = bool((found.value > 0).all())
        proved = self._accepted(prop, proof, seconds, budget.profile if rounded else "")
        return None if proved is None else (proved, max(float(found.value.min()), 0.0))


    def _together(self, prop: Property, budget: Budget) -> tuple[Proved, float | None] | None:
        """The proof without a split, where inputs are held to inequalities that refute together with what is unsafe."""
        from axiom_jax.verification.properties.polytopes import combined

        exact = exactly(self.subject)
        proof = None if exact.missing is not None else combined(self.subject, prop)
        if exact.missing is not None or proof is None:
            return None
        proved = self._accepted(prop, proof, min(budget.check_seconds, budget.left), budget.profile)
        return None if proved is None else (proved, None)

    def _accepted(self, prop: Property, proof: dict[str, Any], seconds: float, asked: str) -> Proved | None:
        """What the checker makes of a proof: at level float32 where that can be tried, else over the real numbers.

        Args:
            asked: the profile of float32, or none where margins leave no room for rounding.
        """
        exact, deadline = exactly(self.subject), time.monotonic() + seconds
        if replayed(self.subject, prop) is not None:
            return None
        tried = asked if asked and self.network == "model" and hindrance(self.subject, asked) is None else ""
        for profile in dict.fromkeys((tried, "")):
            written = certificate(exact.model, exact.blob, describe_property(prop), "holds", proof, {}, profile)
            checked = _checked(written, max(deadline - time.monotonic(), 0.0))
            if checked.accepted:
                return Proved(written, checked.levels)
        return None


def _strict(prop: Property) -> bool:
    """Whether bounds that touch thresholds may be enough: every conjunction has a strict atom."""
    return all(any(atom.strict for atom in conjunct) for case in prop.cases for conjunct in case.unsafe)


def _checked(found: Certificate, timeout: float) -> Any:
    with TemporaryDirectory() as folder:
        return run_checker(save_certificate(found, Path(folder, "proof.cert")), timeout)


@dataclass(frozen=True, eq=False)
class BySymbols:
    """Ask the symbolic engine, whose derivations `derivation_checker.py` checks.

    Args:
        statement: what it is asked. whole: whether a counterexample to it refutes the claim.
        network: as `Way` says.
        plausible: whether no executed input breaks it by far; where one does, the engine is not asked. None: not known.
    """

    statement: Statement
    whole: bool = False
    network: str = "tail"
    plausible: Callable[[], bool] | None = None

    def key(self) -> str:
        said = [self.statement.text, [str(c) for c in self.statement.constants]]
        return hashlib.sha256(canonical(said)).hexdigest()

    def settle(self, budget: Budget) -> Outcome:
        from axiom_jax.verification.settling import settle

        start = time.monotonic()
        if not self.whole and self.plausible is not None and not self.plausible():
            return Outcome(Unknown("not every input of the model's end satisfies it"), time.monotonic() - start)
        limit = max(budget.left, LEAST) if budget.deadline is None else budget.left
        answer = settle(self.statement, min(limit, SYMBOLS))
        if isinstance(answer, Refuted) and not self.whole:
            answer = Unknown("not every input of the model's end satisfies it")
        if isinstance(answer, (Unknown, Claimed)) and answer.guard is not None:
            answer = replace(answer, guard=None)
        return Outcome(answer, time.monotonic() - start)


@dataclass(frozen=True, eq=False)
class ByRunning:
    """Execute inputs or evaluate data: the answer is `Tested`, or `Refuted` by one that was executed.

    Args:
        run: from the budget to the answer.
    """

    run: Callable[[Budget], Answer]
    network: str = "none"

    def key(self) -> None:
        return None

    def settle(self, budget: Budget) -> Outcome:
        start = time.monotonic()
        return Outcome(self.run(budget), time.monotonic() - start)
