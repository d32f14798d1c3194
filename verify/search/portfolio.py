"""Which searches to run on a question, in which order, and for how long each.

The shape of the network gives a first choice; after that time goes to whichever search has got furthest, in slices
that grow, so that none that would finish early waits for one that never will.
"""

import time
from collections.abc import Callable, Sequence
from typing import Any

from axiom_jax.verification.domains.layered import work
from axiom_jax.verification.search.attack import Attack
from axiom_jax.verification.search.branch_and_bound import Search
from axiom_jax.verification.search.device_pool import input_search
from axiom_jax.verification.search.margins import Question
from axiom_jax.verification.search.neuron_splits import NeuronSearch
from axiom_jax.verification.search.root_bounds import LABOUR, outward
from axiom_jax.verification.search.strategy import Judge, Strategy

FEW_INPUTS = 10  # so many free inputs are split first
FEW_NEURONS = 600  # of networks that linear programs are tried on first
SLICE = 2.0  # seconds of a turn in the first round of turns; every round is twice as long as the one before
FIRST_CALLS = 8  # of the attack, before anything is bounded
ATTACK = 0.3  # seconds of the attack after a round, a second of a turn
FAVOUR = 4.0  # how many times as long the turns of the search that is ahead are


def _programs(question: Question) -> Any:
    from axiom_jax.verification.search.leaves import LeafSearch  # scipy takes a while to import

    return LeafSearch(question)


def searches(question: Question) -> "Portfolio":
    """The searches that may decide a question, the likeliest first.

    Few free inputs: halving them reaches every corner soon. Small piecewise linear networks: linear programs, which end
    complete. Large ones: splits of neurons, whose bounds cost one backward pass; inputs are left whole where the bounds
    of a box take minutes.
    """
    inputs = ("splits of inputs", lambda: input_search(question))
    neurons = ("splits of neurons", lambda: NeuronSearch(question))
    programs = ("linear programs", lambda: _programs(question))
    free = int((question.hi > question.lo).sum(1).max())
    size = sum(v.size for v in question.plan.sites)
    if free <= FEW_INPUTS:
        return Portfolio(question, [inputs, neurons, programs], patience=20.0)
    if size <= FEW_NEURONS:
        return Portfolio(question, [programs, neurons, inputs], patience=5.0)
    box = outward(question.lo[0], question.hi[0])
    slow = work(question.plan, *box) > LABOUR  # a box takes minutes, and no halves of so many inputs help
    return Portfolio(question, [neurons, programs] if slow else [neurons, programs, inputs], patience=30.0)


class Portfolio:
    """Several searches for one question, taking turns; itself a search.

    Args:
        question: what is asked.
        makers: the searches by name, the likeliest first; each is made when its first turn comes, and raises
            `NotImplementedError` where it cannot take the question on.
        patience: seconds of the first search before another one is made, and gets a turn.

    An attack comes first, and again after every round of turns.
    """

    def __init__(
        self, question: Question, makers: Sequence[tuple[str, Callable[[], Strategy]]], patience: float = SLICE
    ):
        self.question = question
        self.waiting = list(makers)
        self.searches: list[tuple[str, Strategy]] = []
        self.attack: Attack | None = None
        self.winner: Strategy | None = None
        self.refused: list[str] = []
        self.patience, self.slice = patience, SLICE

    @property
    def ahead(self) -> Strategy | None:
        """The search that closed the question, or the one whose worst bound is best."""
        if self.winner is not None or not self.searches:
            return self.winner
        return max((s for _, s in self.searches), key=lambda s: s.worst)

    @property
    def boxes(self) -> int:
        return sum(s.boxes for _, s in self.searches)

    @property
    def open(self) -> int:
        return self.ahead.open if self.ahead else len(self.question.lo)

    @property
    def worst(self) -> float:
        return self.ahead.worst if self.ahead else float("-inf")

    @property
    def trusted(self) -> str | None:
        """What a solver says of all that is open, unproved; None if none says anything."""
        return next((said for _, s in self.searches if (said := getattr(s, "trusted", None))), None)

    @property
    def leaves(self) -> int:
        return self.ahead.leaves if self.ahead else 0

    def run(self, deadline: float, judge: Judge, progress: Callable[[Any], None] | None = None) -> str:
        """Turns until one search ends, or time is out; "stuck" once every search is."""
        if self.winner is not None:
            return self.winner.run(deadline, judge, progress)
        stuck: set[int] = set()
        if self.attack is None:
            self.attack = Attack(self.question)
            first = self._make() if self.waiting else None
            if isinstance(first, Search):  # what it looks at compiles nothing; its program compiles during the attack
                first.look()
                if not first.open:
                    self.winner = first
                    return "closed"
                first.ready(time.monotonic())
        if self.attack.run(deadline, judge, progress=None, calls=FIRST_CALLS) == "unsafe":
            return "unsafe"
        while time.monotonic() < deadline:
            turns = [s for _, s in self.searches if id(s) not in stuck]
            opening = bool(turns) and self.patience > 0  # others take seconds to be made
            turns += [] if opening else self._fresh()
            if not turns:
                if self.waiting:
                    continue
                return "stuck"
            best = max(turns, key=lambda s: s.worst)
            alone = len(turns) == 1 and not self.waiting
            for search in turns:
                share = self.slice * (FAVOUR if search is best else 1.0)
                if self.patience:
                    share, self.patience = self.patience, 0.0
                end = deadline if alone else min(deadline, time.monotonic() + share)
                outcome = search.run(end, judge, progress)
                if outcome in ("closed", "unsafe"):
                    self.winner = search
                    return outcome
                if outcome == "stuck":
                    stuck.add(id(search))
                if time.monotonic() >= deadline:
                    break
                if opening:
                    opening = False
                    turns += self._fresh()  # whose turn is next
            if self.attack.run(min(deadline, time.monotonic() + ATTACK * self.slice), judge) == "unsafe":
                return "unsafe"
            self.slice *= 2
        return "time"

    def _fresh(self) -> list[Strategy]:
        made = self._make() if self.waiting else None
        return [] if made is None else [made]

    def _make(self) -> Strategy | None:
        name, make = self.waiting.pop(0)
        try:
            made = make()
        except NotImplementedError as error:
            self.refused.append(f"{name}: {error}")
            return None
        self.searches.append((name, made))
        return made

    def proof(self) -> dict[str, Any] | str:
        return self.winner.proof() if self.winner else "the search has not ended"

    def reopen(self, failed: Sequence[tuple[int, int]]) -> None:
        if self.winner is not None:
            self.winner.reopen(failed)
