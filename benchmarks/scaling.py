"""One worker against several on one question: how many times as fast, and whether the verdicts agree.

The question is made here: rows of teeth across each other stay above a threshold, which takes thousands of boxes to
prove. Workers are up and have compiled before the clock starts; the turns of one and of several alternate.
Run: python benchmarks/scaling.py --jobs 2 --executor local --rounds 3
"""

import argparse
import json
import os
import platform
import statistics
import time
from fractions import Fraction
from typing import Any

import jax
import numpy as np

from axiom_jax._cli_verify import keep_compilations
from axiom_jax.verification.property import Atom, Case, Property
from axiom_jax.verification.search import distributed, executors
from axiom_jax.verification.search.branch_and_bound import Search
from axiom_jax.verification.search.distributed import Distributed, Staff
from axiom_jax.verification.search.margins import Question, Subject, pose
from axiom_jax.verification.search.portfolio import Portfolio
from axiom_jax.verification.search.tree import Tree
from axiom_jax.verification.search.worker import Task

DIRECTIONS = np.array([[1, 0.5, -0.3], [-0.4, 1, 0.6], [0.5, -0.2, 1]], np.float32)


def teeth(params: Any, x: Any) -> Any:
    starts, slopes, directions = params
    return sum(jax.nn.relu(x[0] @ direction - starts) @ slopes for direction in directions)[None]


def question(count: int, threshold: float) -> Question:
    """Do rows of so many teeth, which are never negative, stay above a threshold below zero?"""
    slopes = np.where(np.arange(count) % 2 == 1, -2.0, 2.0)
    slopes[0] = 1.0
    params = np.linspace(-1.8, 1.8, count, dtype=np.float32), slopes.astype(np.float32), DIRECTIONS
    subject = Subject(teeth, params, (jax.ShapeDtypeStruct((1, 3), np.float32),), "teeth")
    atom = Atom(((0, Fraction(1)),), Fraction(threshold))
    return pose(subject, Property((Case((Fraction(-1),) * 3, (Fraction(1),) * 3, ((atom,),)),), "the teeth stay above"))


def searches(question: Question) -> Portfolio:
    return Portfolio(question, [("splits of inputs", lambda: Search(question))])


def measured(asked: Question, jobs: int, executor: str, limit: float) -> tuple[str, float, int]:
    """Outcome, seconds and boxes of a search by workers that are ready when the clock starts."""
    staff = Staff(asked, searches, jobs, executor)
    staff.start, staff.alone = None, distributed.HEAD  # nothing is searched before they are up
    staff.crew = crew = executors.crew(asked, searches, jobs, executor)
    try:
        while len(crew.idle()) < jobs:
            assert crew.alive(), "the workers cannot be started"
            crew.wait(0.2)
        waiting = set(range(jobs))
        for worker in waiting:  # a first task, for compilation
            crew.give(worker, Task("splits of inputs", Tree(1), [0], 8.0))
        while waiting:
            waiting -= {worker for worker, _ in crew.wait(1.0)}
        search = Distributed("splits of inputs", searches(asked).waiting[0][1](), staff)
        start = time.monotonic()
        outcome = search.run(start + limit, lambda case, point: False)
        return outcome, time.monotonic() - start, search.boxes
    finally:
        staff.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--executor", default="local", choices=["local", "ray"])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--teeth", type=int, default=19)
    parser.add_argument("--threshold", type=float, default=-1e-3)
    parser.add_argument("--limit", type=float, default=300.0)
    given = parser.parse_args()
    keep_compilations()
    share = executors.share(given.jobs)
    executors.share = lambda _: share  # one worker gets the cores that each of several gets
    asked = question(given.teeth, given.threshold)
    results: dict[int, list[tuple[str, float, int]]] = {1: [], given.jobs: []}
    for turn in range(given.rounds):
        order = list(results) if turn % 2 == 0 else list(results)[::-1]
        for jobs in order:
            results[jobs].append(measured(asked, jobs, given.executor, given.limit))
            print(jobs, *results[jobs][-1], flush=True)
    ratios = [one[1] / many[1] for one, many in zip(results[1], results[given.jobs], strict=True)]
    print(json.dumps({
        "executor": given.executor, "jobs": given.jobs, "ratio": round(statistics.median(ratios), 2),
        "ratios": [round(r, 2) for r in ratios], "outcomes": sorted({r[0] for rs in results.values() for r in rs}),
        "boxes": {jobs: [r[2] for r in rs] for jobs, rs in results.items()}, "cores": os.cpu_count(),
        "machine": platform.machine(), "jax": jax.__version__,
    }))  # fmt: skip


if __name__ == "__main__":
    main()
