"""A worker's side of a search that is spread out: it takes pieces of trees, searches them for a while, hands them back.

Tasks are complete in themselves: a worker that is lost loses its slice of time, no more. What it keeps between tasks
(the model as traced, compiled steps, bounds of whole cases) only saves time.
"""

import pickle
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import jax
import numpy as np

from axiom_jax._errors import SpecError
from axiom_jax.verification import checker
from axiom_jax.verification.property import Property
from axiom_jax.verification.search.frontier import Growth, grown
from axiom_jax.verification.search.margins import Question, Subject, pose
from axiom_jax.verification.search.tree import Tree

Searches = Callable[[Question], Any]  # question -> portfolio: the searches yet to be made are its `waiting`
CONFIG = ("jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs", "jax_enable_x64",
          "jax_raise_persistent_cache_errors", "jax_default_matmul_precision")  # fmt: skip


@dataclass(frozen=True)
class Task:
    """Pieces to search.

    Args:
        search: which search of the question, by name.
        tree: the paths to the pieces. nodes: the pieces, by their numbers in it.
        seconds: for how long.
    """

    search: str
    tree: Tree
    nodes: list[int]
    seconds: float


@dataclass(frozen=True)
class Report:
    """What came of a task.

    Args:
        outcome: "closed", "unsafe", "time" or "stuck"; or "failed", with the error in `reason`.
        growths: what grew under each piece. boxes: how many subproblems were bounded.
        worst: a lower bound of the margin over all pieces. closed_bound: one over what is closed of them, at least 0.
        found: case and point that the exact network is unsafe at.
    """

    outcome: str
    growths: list[Growth]
    boxes: int = 0
    worst: float = -np.inf
    closed_bound: float = 0.0
    found: tuple[int, Any] | None = None
    reason: str = ""


@dataclass(frozen=True)
class Assignment:
    """What a worker is told once: the model, what is asked, which searches there are, JAX's settings."""

    subject: Subject
    property: Property
    searches: Searches
    config: dict[str, Any]

    def begun(self) -> "Worker":
        """Trace the model."""
        for name, value in self.config.items():
            jax.config.update(name, value)
        return Worker(pose(self.subject, self.property), self.searches)


class Worker:
    """A question as one worker has it, with its searches."""

    def __init__(self, question: Question, searches: Searches):
        self.question, self.makers = question, dict(searches(question).waiting)
        self.searches: dict[str, Any] = {}
        self.exact: Any = None

    def work(self, task: Task) -> Report:
        """Search the pieces until they are closed or time is out; an error becomes a report too."""
        try:
            return self._searched(task)
        except Exception as error:  # whatever it is, the others go on
            return Report("failed", [], reason=f"{type(error).__name__}: {error}"[:500])

    def _searched(self, task: Task) -> Report:
        end = time.monotonic() + task.seconds
        if task.search not in self.searches:
            self.searches[task.search] = self.makers[task.search]()
        search, found = self.searches[task.search], []
        before = search.boxes
        search.resume(task.tree)
        outcome = search.run(end, lambda case, point: self.unsafe(case, point, found))
        growths = [grown(search.record, node) for node in task.nodes]
        closed_bound = max(search.worst, getattr(search, "closed_bound", 0.0), 0.0)
        return Report(outcome, growths, search.boxes - before, search.worst, closed_bound, found[0] if found else None)

    def unsafe(self, case: int, point: Any, found: list[tuple[int, Any]]) -> bool:
        """Whether a point is unsafe for the exact network; whoever gave the task judges it once more."""
        from axiom_jax.verification.proof.exact import exactly
        from axiom_jax.verification.search.judging import inside, unsafe

        if self.exact is None:
            self.exact = exactly(self.question.subject)
        if self.exact.missing is not None:
            return False
        inputs, asked = [x if isinstance(x, Fraction) else Fraction(float(x)) for x in point], self.question.property
        if not inside(asked.cases[case], inputs):
            return False
        try:
            outputs = self.exact.network.evaluate(inputs)
        except checker.Rejected:  # the network is not defined there
            return False
        if not unsafe(asked.cases[case], inputs, outputs):
            return False
        found.append((case, point))
        return True


def packed(question: Question, searches: Searches) -> bytes:
    """What workers are told, as bytes: `unpacked` makes a worker of it.

    Raises:
        SpecError: the model is a function that cannot travel.
    """
    subject = replace(question.subject, _margins={})  # traces stay here: every worker makes its own
    config = {name: getattr(jax.config, name) for name in CONFIG if hasattr(jax.config, name)}
    assignment = Assignment(subject, question.property, searches, config)
    try:
        from cloudpickle import dumps
    except ImportError:
        from pickle import dumps
    try:
        return dumps(assignment)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise SpecError(
            "The model cannot travel to other processes.", got=f"{type(error).__name__}: {error}"[:300],
            fix="pip install cloudpickle, or define its function at the top of a module, or leave jobs at 1",
        ) from error  # fmt: skip


def unpacked(content: bytes) -> Any:
    """A worker from the bytes of what is to be done: anything that has `begun() -> worker`."""
    return pickle.loads(content).begun()
