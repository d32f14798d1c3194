"""A crew of Ray actors, on this machine or on a cluster; Ray starts actors that die again.

Source: Moritz et al. 2018, Ray, arXiv 1712.05889.
"""

import os
import sys
import warnings
from contextlib import suppress
from typing import Any

from axiom_jax._errors import BackendUnavailable
from axiom_jax.verification.search.executors import DEATHS, READY, limits
from axiom_jax.verification.search.worker import unpacked


class Actors:
    """Workers that are Ray actors: as many as `jobs`, each with its share of the cores (and of the GPUs) there are.

    A cluster that is running already, or that `RAY_ADDRESS` names, is used and left running; else one is started on
    this machine, and ended with the crew.
    """

    def __init__(self, assignment: bytes, jobs: int):
        self.ray = ray = ray_module()
        self.own = not ray.is_initialized()
        here = self.own and "RAY_ADDRESS" not in os.environ
        if self.own:
            extra = {"num_cpus": max(os.cpu_count() or 1, jobs), "include_dashboard": False} if here else {}
            with warnings.catch_warnings():  # JAX warns of forks; Ray's become other programs at once
                warnings.filterwarnings("ignore", message=".*os.fork", category=RuntimeWarning)
                ray.init(log_to_driver=False, configure_logging=False, **extra)
        have = ray.cluster_resources()
        cores = max(int(have.get("CPU", 1)) // jobs, 1)
        variables = limits(cores) | ({"PYTHONPATH": os.pathsep.join(filter(None, sys.path))} if here else {})
        options = {"num_cpus": cores, "num_gpus": min(have.get("GPU", 0) / jobs, 1.0), "max_restarts": -1,
                   "runtime_env": {"env_vars": variables}}  # fmt: skip
        self.assignment = ray.put(assignment)  # held, for actors that are started again
        make = ray.remote(**options)(Actor)
        self.actors = {number: make.remote(self.assignment) for number in range(jobs)}
        self.waiting: dict[Any, int] = {actor.ready.remote(): number for number, actor in self.actors.items()}
        self.starting = set(self.actors)
        self.deaths, self.reason = dict.fromkeys(self.actors, 0), ""
        self.ended: list[tuple[int, Any]] = []  # a report, or None where the actor was lost

    def idle(self) -> list[int]:
        self._hear(0.0)
        return sorted(set(self.actors) - set(self.waiting.values()) - {worker for worker, _ in self.ended})

    def alive(self) -> bool:
        return bool(self.actors)

    def end(self, worker: int) -> None:
        """End an actor that does not come back; its task is lost, and it is started again."""
        self.ray.kill(self.actors[worker], no_restart=False)

    def give(self, worker: int, task: Any) -> None:
        self.waiting[self.actors[worker].work.remote(task)] = worker

    def wait(self, seconds: float) -> list[tuple[int, Any]]:
        self._hear(seconds)
        ended, self.ended = self.ended, []
        return ended

    def _hear(self, seconds: float) -> None:
        if not self.waiting:
            return
        ready, _ = self.ray.wait(list(self.waiting), num_returns=1, timeout=0 if self.ended else seconds)
        more, _ = self.ray.wait(list(self.waiting), num_returns=len(self.waiting), timeout=0)
        for reference in {*ready, *more}:
            worker = self.waiting.pop(reference)
            try:
                report = self.ray.get(reference)
            except self.ray.exceptions.RayError as error:
                self._lost(worker, error)
                continue
            self.deaths[worker] = 0
            if worker in self.starting:
                self.starting.discard(worker)
            else:
                self.ended.append((worker, report))

    def _lost(self, worker: int, error: Exception) -> None:
        """An actor has died, with its task; Ray is starting it again, here or on another machine."""
        if worker not in self.starting:
            self.ended.append((worker, None))
        self.starting.add(worker)
        self.reason = str(error)
        self.deaths[worker] += 1
        if self.deaths[worker] < DEATHS:
            self.waiting[self.actors[worker].ready.remote()] = worker
        else:
            del self.actors[worker]

    def close(self) -> None:
        for actor in self.actors.values():
            with suppress(self.ray.exceptions.RayError):
                self.ray.kill(actor)
        self.actors, self.waiting = {}, {}
        if self.own:
            self.ray.shutdown()


class Actor:
    """A worker as an actor; `Actors` makes it remote."""

    def __init__(self, assignment: bytes):
        self.worker = unpacked(assignment)

    def ready(self) -> str:
        return READY

    def work(self, task: Any) -> Any:
        return self.worker.work(task)


def ray_module() -> Any:
    """The package `ray`.

    Raises:
        BackendUnavailable: it is not installed.
    """
    try:
        import ray
    except ImportError as error:
        raise BackendUnavailable(
            "Ray is not installed.", at='executor="ray"', got=str(error), fix="pip install 'axiom-jax[ray]'"
        ) from error
    return ray
