"""Which searches to run on a question, in which order, and for how long each.

The shape of the network gives a first choice; after that time goes to whichever search has got furthest, in slices
that grow, so that none that would finish early waits for one that never will.
"""

import time
from collections.abc import Callable, Sequence
from typing import Any

from axiom_jax.verification.search.branch_and_bound import Search
from axiom_jax.verification.search.margins import Question
from axiom_jax.verification.search.strategy import Judge, Strategy

FIRST_SLICE = 2.0  # seconds of the first turn; every round of turns is twice as long as the one before
FAVOUR = 4.0  # how many times as long the turns of the search that is ahead are


def searches(question: Question) -> "Portfolio":
    """The searches that may decide a question, the likeliest first."""
    return Portfolio(question, [("splits of inputs", lambda: Search(question))])


class Portfolio:
    """Several searches for one question, taking turns; itself a search.

    Args:
        question: what is asked.
        makers: the searches by name, the likeliest first; each is made when its first turn comes, and raises
            `NotImplementedError` where it cannot take the question on.
    """

    def __init__(self, question: Question, makers: Sequence[tuple[str, Callable[[], Strategy]]]):
        self.question = question
        self.waiting = list(makers)
        self.searches: list[tuple[str, Strategy]] = []
        self.winner: Strategy | None = None
        self.refused: list[str] = []
        self.slice = FIRST_SLICE

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
    def leaves(self) -> int:
        return self.ahead.leaves if self.ahead else 0

    def run(self, deadline: float, judge: Judge, progress: Callable[[Any], None] | None = None) -> str:
        """Turns until one search ends, or time is out; "stuck" once every search is."""
        if self.winner is not None:
            return self.winner.run(deadline, judge, progress)
        stuck: set[int] = set()
        while time.monotonic() < deadline:
            turns = [s for _, s in self.searches if id(s) not in stuck]
            if self.waiting and (fresh := self._make()) is not None:
                turns.append(fresh)
            if not turns:
                if self.waiting:
                    continue
                return "stuck"
            best = max(turns, key=lambda s: s.worst)
            alone = len(turns) == 1 and not self.waiting
            for search in turns:
                share = self.slice * (FAVOUR if search is best else 1.0)
                end = deadline if alone else min(deadline, time.monotonic() + share)
                outcome = search.run(end, judge, progress)
                if outcome in ("closed", "unsafe"):
                    self.winner = search
                    return outcome
                if outcome == "stuck":
                    stuck.add(id(search))
                if time.monotonic() >= deadline:
                    break
            self.slice *= 2
        return "time"

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
