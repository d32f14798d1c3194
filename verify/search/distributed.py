"""One search by many workers: the tree stays here, its open nodes go out in batches for a slice of time each.

A worker runs the ordinary search on its pieces and hands back what grew under them, which is grafted into the one
tree: so the proof stays whole, and a worker that is lost costs its slice. Until workers are up, the search runs here.
"""

import math
import os
import time
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from axiom_jax.verification.search.executors import Crew, crew
from axiom_jax.verification.search.frontier import cut, graft, grown, parents_of
from axiom_jax.verification.search.margins import Question
from axiom_jax.verification.search.search_journal import SearchJournal
from axiom_jax.verification.search.strategy import Judge
from axiom_jax.verification.search.tree import OPEN, Tree
from axiom_jax.verification.search.worker import Report, Searches, Task

HEAD = 1.0  # seconds of searching here before workers are started: most questions are decided by then
ALONE = 0.25  # seconds of searching here between looks whether workers are up
NOTED = 2.0  # seconds between notes in the journal
SLICE, SHORT = 2.0, 0.1  # seconds of a task; the short ones where there is less left than workers
PIECES = 512  # of one task, at most
GRACE = 0.5  # seconds that are waited, at the end, for workers that are late
FAILURES = 5  # tasks that end in an error before the search goes on without workers


@contextmanager
def scaled(
    question: Question,
    searches: Searches,
    *,
    jobs: int = 1,
    executor: str = "local",
    journal: str | os.PathLike[str] | None = None,
) -> Iterator[Any]:
    """The searches of a question, each spread over workers and written to a journal, as far as that is asked for.

    Args:
        searches: a function at the top of a module, question -> portfolio; what is to be made is its `waiting`.
        jobs: how many workers. executor: "local" or "ray".
        journal: a file that what is closed and left open is appended to, and that a run which was cut off goes on from.

    Yields:
        the portfolio.

    Raises:
        SpecError: the journal is about another question or cannot be used; the model cannot travel.
        BackendUnavailable: ray is not installed.
    """
    portfolio = searches(question)
    if jobs == 1 and executor == "local" and journal is None:
        yield portfolio
        return
    kept = SearchJournal(journal, question) if journal is not None else None
    try:
        staff = Staff(question, searches, jobs, executor)
        wrapped = lambda name, make: (name, lambda: Distributed(name, make(), staff, kept))
        portfolio.waiting = [wrapped(name, make) for name, make in portfolio.waiting]
        try:
            yield portfolio
        finally:
            staff.close()
    finally:
        if kept is not None:
            kept.close()


class Staff:
    """The workers that the searches of one question share, and who has given them what."""

    def __init__(self, question: Question, searches: Searches, jobs: int, executor: str):
        alone = jobs == 1 and executor == "local"
        self.jobs = jobs
        self.start = None if alone else lambda: crew(question, searches, jobs, executor)
        self.crew: Crew | None = None
        self.out: dict[int, tuple[Distributed, list[int]]] = {}
        self.alone = 0.0  # seconds searched without workers
        if executor == "ray":
            self.called()

    def called(self) -> Crew | None:
        """The workers, started if it is worth it by now."""
        if self.crew is None and self.start is not None:
            self.crew, self.start = self.start(), None
        if self.crew is not None and not self.crew.alive():
            self.without(self.crew.reason)
        return self.crew

    def without(self, reason: str) -> None:
        """Go on without workers."""
        self.close()
        why = f" ({reason})" if reason else ""
        warnings.warn(f"The search goes on without workers: they were lost again and again{why}.", stacklevel=2)

    def idle(self) -> list[int]:
        return self.crew.idle() if self.crew is not None else []

    def give(self, worker: int, owner: "Distributed", nodes: list[int], task: Task) -> None:
        assert self.crew is not None
        self.out[worker] = owner, nodes
        self.crew.give(worker, task)

    def hear(self, seconds: float) -> None:
        """Wait for reports and hand them to whoever gave the tasks."""
        assert self.crew is not None
        for worker, report in self.crew.wait(seconds):
            if worker in self.out:  # else its owner has taken the pieces back
                owner, nodes = self.out.pop(worker)
                owner.accept(nodes, report)

    def close(self) -> None:
        if self.crew is not None:
            self.crew.close()
        self.start = self.crew = None


class Distributed:
    """A search spread over workers; itself a search.

    Args:
        name: which one it is, among the question's. inner: the search as it runs here.
        staff: the workers. journal: where it is written down, or None.
    """

    def __init__(self, name: str, inner: Any, staff: Staff, journal: SearchJournal | None = None):
        self.name, self.inner, self.staff, self.journal = name, inner, staff, journal
        self.question = inner.question
        self.whole = hasattr(inner, "resume")  # whether it can be taken up elsewhere
        self.here = True  # whether the inner search's own pool is what is left; else `left` is
        self.left: deque[int] = deque()
        self.stuck: list[int] = []
        self.value: dict[int, float] = {}
        self.parents: dict[int, int] = {}
        self.noted: list[int] = []
        self.counted, self.failures, self.reason = 0, 0, ""
        self.floor, self.closed_bound = -np.inf, np.inf
        self.found: list[tuple[int, Any]] = []
        if journal is not None and self.whole:
            tree: Tree = inner.record
            if journal.restore(name, tree, self.parents):
                inner.resume(tree)
            self.noted = _open(tree)
            self.found = [journal.found] if journal.found is not None else []

    @property
    def tree(self) -> Tree:
        return self.inner.record if self.whole else self.inner.tree

    @property
    def boxes(self) -> int:
        return self.counted + self.inner.boxes

    @property
    def open(self) -> int:
        return self.inner.open if self.here else len(self._outstanding()) + len(self.stuck)

    @property
    def worst(self) -> float:
        if self.here:
            return max(self.floor, self.inner.worst)
        left = (self.value[node] for node in [*self._outstanding(), *self.stuck])
        return min(self.closed_bound, min(left, default=np.inf))

    @property
    def leaves(self) -> int:
        return self.tree.leaves

    def proof(self) -> dict[str, Any] | str:
        self._come_here()
        return self.inner.proof()

    def reopen(self, failed: Sequence[tuple[int, int]]) -> None:
        self._come_here()
        self.inner.reopen(failed)
        self.journal = None  # in it these leaves stay closed, and the checker will refuse them again

    def run(self, deadline: float, judge: Judge, progress: Callable[[Any], None] | None = None) -> str:
        """As the inner search; what workers have not handed back by the deadline counts as open."""
        while True:
            while self.found:
                case, point = self.found.pop()
                if judge(case, point):
                    self._note_found(case, point)
                    return "unsafe"
            can = self.whole and self.staff.alone >= HEAD
            if not self.here or (can and self.staff.called() and self.staff.idle()):
                outcome = self._together(deadline, progress)
            else:
                outcome = self._alone(deadline, judge, progress)
            if outcome is not None:
                return outcome

    def _alone(self, deadline: float, judge: Judge, progress: Callable[[Any], None] | None) -> str | None:
        """A slice of searching here; None if there is more to do."""
        start, caught = time.monotonic(), []

        def judged(case: int, point: Any) -> bool:
            caught[:] = [(case, point)] if judge(case, point) else []
            return bool(caught)

        waiting = self.whole and (self.staff.crew is not None or self.staff.start is not None)
        slice = ALONE if waiting else NOTED if self.journal is not None else np.inf
        self.floor = self.worst
        try:
            watch = None if progress is None else lambda _: progress(self)
            outcome = self.inner.run(min(deadline, start + slice), judged, watch)
        finally:
            self.staff.alone += time.monotonic() - start
            self._note_here()
        if outcome == "unsafe" and caught:
            self._note_found(*caught[0])
        return None if outcome == "time" and time.monotonic() < deadline else outcome

    def _together(self, deadline: float, progress: Callable[[Any], None] | None) -> str | None:
        """Hand out and take back until all is closed, something is found, or time is out; None to go on elsewhere."""
        self._go_out()
        while not self.found:
            now = time.monotonic()
            out = [worker for worker, (owner, _) in self.staff.out.items() if owner is self]
            if not self.left and not out:
                return "stuck" if self.stuck else "closed"
            if now >= deadline and (not out or now >= deadline + GRACE):
                return "time"
            if self.failures >= FAILURES and self.staff.crew is not None:
                self.staff.without(self.reason)
            if self.staff.called() is None:
                self._come_here()
                return None
            for worker in self.staff.idle() if now < deadline else ():
                if self.left:
                    self._hand_out(worker, deadline - now)
            self.staff.hear(min(0.1, max(deadline + GRACE - now, 0.01)))
            if progress:
                progress(self)
        return None

    def _hand_out(self, worker: int, seconds: float) -> None:
        """Give a worker the oldest pieces: those are the largest."""
        count = min(math.ceil(len(self.left) / (2 * self.staff.jobs)), PIECES)
        nodes = [self.left.popleft() for _ in range(count)]
        length = SLICE if len(self.left) >= self.staff.jobs else SHORT
        tree, numbers = cut(self.tree, self.parents, nodes)
        self.staff.give(worker, self, nodes, Task(self.name, tree, numbers, min(length, seconds)))

    def accept(self, nodes: list[int], report: Report | None) -> None:
        """Graft what a worker hands back; what it lost or failed at is open again."""
        if report is None or report.outcome == "failed":
            if report is not None:
                self.failures += 1
                self.reason = report.reason
            self.left.extendleft(reversed(nodes))
            return
        self.counted += report.boxes
        worst = max(report.worst, min(self.value[node] for node in nodes))
        self.closed_bound = min(self.closed_bound, max(worst, report.closed_bound))
        grown_now = []
        for node, growth in zip(nodes, report.growths, strict=True):
            left = graft(self.tree, node, growth, self.parents)
            del self.value[node]
            self.value.update(dict.fromkeys(left, worst))
            (self.stuck if report.outcome == "stuck" else self.left).extend(left)
            grown_now.append((node, growth, left))
        if report.found is not None:
            self.found.append(report.found)
        if self.journal is not None:
            self.journal.note(self.name, grown_now)

    def _outstanding(self) -> list[int]:
        out = [node for owner, nodes in self.staff.out.values() if owner is self for node in nodes]
        return [*self.left, *out]

    def _go_out(self) -> None:
        """From the inner search's pool to a list of open nodes."""
        if self.here:
            worst = max(self.floor, self.inner.worst)
            self.here, self.parents = False, parents_of(self.tree)
            self.left, self.stuck = deque(_open(self.tree)), []
            self.value = dict.fromkeys(self.left, worst)
            self.closed_bound = max(worst, getattr(self.inner, "closed_bound", 0.0), 0.0)

    def _come_here(self) -> None:
        """Back to the inner search, which takes the whole tree up."""
        if not self.here:
            self.floor, tree = self.worst, self.tree
            self.staff.out = {w: given for w, given in self.staff.out.items() if given[0] is not self}
            self.inner.resume(tree)
            self.here, self.noted = True, _open(tree)

    def _note_here(self) -> None:
        if self.journal is None or not self.whole:
            return
        tree = self.tree
        below = [(node, grown(tree, node), _open(tree, node)) for node in self.noted]
        self.journal.note(self.name, below)
        self.noted = [open_node for _, _, left in below for open_node in left]

    def _note_found(self, case: int, point: Any) -> None:
        if self.journal is not None:
            self.journal.note_found(case, point)


def _open(tree: Tree, root: int | None = None) -> list[int]:
    """The open nodes of a tree, or under a node of it, in preorder."""
    roots = range(tree.cases) if root is None else (root,)
    nodes = (found for each in roots for found in tree.preorder(each))
    return [node for node, split, choice, _ in nodes if split == OPEN and choice is None]
