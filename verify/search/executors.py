"""Crews of workers on this machine: processes that share its cores, or threads that have an accelerator each.

A crew hands out tasks and collects reports. A worker that is lost is replaced, and its task comes back as lost.
"""

import os
import pickle
import queue
import signal
import struct
import subprocess
import sys
import threading
import time
from contextlib import nullcontext, suppress
from typing import Any, Protocol

import jax

from axiom_jax._errors import SpecError
from axiom_jax.verification.search.margins import Question
from axiom_jax.verification.search.worker import Report, Searches, Task, Worker, packed, unpacked

EXECUTORS = ("local", "ray")
READY, FAILED = "ready", "failed: "  # what a worker says when it is up, or cannot get up
PATIENCE = 5.0  # seconds that threads are waited for at the end
DEATHS = 3  # how often in a row a worker may be lost before it ever reports
BOOT = "import sys; sys.path[:] = {path!r}\nfrom axiom_jax.verification.search.executors import attend; attend()"


class Crew(Protocol):
    """Workers that search pieces of one question; `reason` is why one of them was lost."""

    reason: str

    def idle(self) -> list[int]:
        """Workers that are up and have no task."""
        ...

    def alive(self) -> bool:
        """Whether any worker is up, at work, or being started."""
        ...

    def give(self, worker: int, task: Task) -> None:
        """Hand a task to an idle worker."""
        ...

    def wait(self, seconds: float) -> list[tuple[int, Report | None]]:
        """What ended, after at most so long: worker and report, None for one that was lost with its task."""
        ...

    def close(self) -> None:
        """End all workers."""
        ...


def crew(question: Question, searches: Searches, jobs: int, executor: str = "local") -> Crew:
    """Start workers.

    Args:
        jobs: how many. executor: "local" (processes; on a machine with accelerators, threads that have one each), or
            "ray" (actors, on the cluster that `RAY_ADDRESS` names or a local one).

    Raises:
        SpecError: there is no such executor, or the model cannot travel.
        BackendUnavailable: ray is not installed.
    """
    if executor == "ray":
        from axiom_jax.verification.search.ray_executor import Actors

        return Actors(packed(question, searches), jobs)
    if executor != "local":
        raise SpecError("There is no such executor.", at="executor", got=executor, fix=f"use {' or '.join(EXECUTORS)}")
    if jax.default_backend() == "cpu":
        return Processes(packed(question, searches), jobs)
    return Devices(question, searches, jobs)


def share(jobs: int) -> int:
    """Cores for each of so many workers, at least one.

    >>> share(1) >= share(2) >= share(1000) == 1
    True
    """
    have = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(have // jobs, 1)


def limits(cores: int) -> dict[str, str]:
    """The environment of a process that shall use so many cores: XLA reads NPROC, linear algebra the others."""
    names = ("NPROC", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    return dict.fromkeys(names, str(cores))


class Processes:
    """Worker processes of this machine, spoken to through pipes; one that dies is started again."""

    def __init__(self, assignment: bytes, jobs: int):
        self.assignment, self.cores = assignment, share(jobs)
        self.events: queue.SimpleQueue[tuple[int, subprocess.Popen[bytes], Any]] = queue.SimpleQueue()
        self.ended: list[tuple[int, Any]] = []  # a report, or None where the worker was lost
        self.up: set[int] = set()
        self.busy: set[int] = set()
        self.deaths, self.reason = dict.fromkeys(range(jobs), 0), ""
        self.processes: dict[int, subprocess.Popen[bytes]] = {worker: self._started(worker) for worker in range(jobs)}

    def _started(self, worker: int) -> "subprocess.Popen[bytes]":
        command = [sys.executable, "-c", BOOT.format(path=sys.path)]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                                   env=os.environ | limits(self.cores), start_new_session=True)  # fmt: skip
        threading.Thread(target=self._listen, args=(worker, process), daemon=True).start()
        return process

    def _listen(self, worker: int, process: "subprocess.Popen[bytes]") -> None:
        with suppress(OSError, ValueError, EOFError, pickle.UnpicklingError):
            _send(process.stdin, self.assignment)
            while True:
                self.events.put((worker, process, pickle.loads(_receive(process.stdout))))
        self.events.put((worker, process, None))

    def idle(self) -> list[int]:
        self._hear(0.0)
        return sorted(self.up - self.busy - {worker for worker, _ in self.ended})

    def alive(self) -> bool:
        return bool(self.processes)

    def give(self, worker: int, task: Any) -> None:
        self.busy.add(worker)
        with suppress(OSError, ValueError):  # it has died: its pipe tells
            _send(self.processes[worker].stdin, pickle.dumps(task))

    def wait(self, seconds: float) -> list[tuple[int, Any]]:
        self._hear(seconds)
        ended, self.ended = self.ended, []
        return ended

    def end(self, worker: int) -> None:
        """End a worker that does not come back; its task is lost, and it is started again."""
        self.processes[worker].kill()

    def _hear(self, seconds: float) -> None:
        """Take in what workers have said, waiting for a first word if there is none."""
        while not self.events.empty() or (seconds > 0 and not self.ended):
            try:
                worker, process, word = self.events.get(timeout=seconds or None)
            except queue.Empty:
                return
            seconds = 0.0
            if self.processes.get(worker) is not process:
                continue  # the last breath of one that was replaced
            if word is None:
                self._lost(worker)
            elif word == READY:
                self.up.add(worker)
            elif isinstance(word, str):
                self.reason = word.removeprefix(FAILED)
            else:
                self.deaths[worker] = 0
                self.busy.discard(worker)
                self.ended.append((worker, word))

    def _lost(self, worker: int) -> None:
        _end(self.processes.pop(worker))
        self.up.discard(worker)
        if worker in self.busy:
            self.busy.discard(worker)
            self.ended.append((worker, None))
        self.deaths[worker] += 1
        if self.deaths[worker] < DEATHS:
            self.processes[worker] = self._started(worker)

    def close(self) -> None:
        for process in self.processes.values():
            _end(process)
        self.processes, self.up, self.busy = {}, set(), set()


class Devices:
    """Threads of this process, each with an accelerator of its own while there are enough."""

    def __init__(self, question: Question, searches: Searches, jobs: int):
        devices = jax.local_devices()
        self.done: queue.SimpleQueue[tuple[int, Report]] = queue.SimpleQueue()
        self.tasks: list[queue.SimpleQueue[Task | None]] = [queue.SimpleQueue() for _ in range(jobs)]
        self.busy: set[int] = set()
        self.reason, self.threads = "", []
        for number, tasks in enumerate(self.tasks):
            device = devices[number % len(devices)] if len(devices) > 1 else None
            given = (number, question, searches, device, tasks)
            self.threads.append(threading.Thread(target=self._attend, args=given, daemon=True))
            self.threads[-1].start()

    def _attend(self, number: int, question: Question, searches: Searches, device: Any, tasks: Any) -> None:
        with jax.default_device(device) if device is not None else nullcontext():
            worker = Worker(question, searches)
            while (task := tasks.get()) is not None:
                self.done.put((number, worker.work(task)))

    def idle(self) -> list[int]:
        return [number for number in range(len(self.tasks)) if number not in self.busy]

    def alive(self) -> bool:
        return bool(self.tasks)

    def give(self, worker: int, task: Task) -> None:
        self.busy.add(worker)
        self.tasks[worker].put(task)

    def wait(self, seconds: float) -> list[tuple[int, Report | None]]:
        ended: list[tuple[int, Report | None]] = []
        with suppress(queue.Empty):
            ended.append(self.done.get(timeout=max(seconds, 1e-3)))
            while True:
                ended.append(self.done.get_nowait())
        self.busy -= {worker for worker, _ in ended}
        return ended

    def close(self) -> None:
        for tasks in self.tasks:
            tasks.put(None)
        end = time.monotonic() + PATIENCE
        for thread in self.threads:  # a thread that computes while the interpreter ends would bring it down
            thread.join(max(end - time.monotonic(), 0.0))
        self.tasks, self.threads, self.busy = [], [], set()


def attend() -> None:
    """A worker process: reads its assignment and then tasks from stdin, writes reports to stdout, until stdin ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    source, target = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what libraries print is not for the pipe
    assignment = _receive(source)
    try:
        worker = unpacked(assignment)
    except Exception as error:
        _send(target, pickle.dumps(f"{FAILED}{type(error).__name__}: {error}"[:500]))
        return
    _send(target, pickle.dumps(READY))
    with suppress(EOFError, BrokenPipeError):
        while True:
            _send(target, pickle.dumps(worker.work(pickle.loads(_receive(source)))))


def _send(pipe: Any, content: bytes) -> None:
    pipe.write(struct.pack("<Q", len(content)) + content)
    pipe.flush()


def _receive(pipe: Any) -> bytes:
    """One message.

    Raises:
        EOFError: the other side has ended.
    """
    head = pipe.read(8)
    content = pipe.read(struct.unpack("<Q", head)[0]) if len(head) == 8 else b""
    if len(head) < 8 or len(content) < struct.unpack("<Q", head)[0]:
        raise EOFError
    return content


def _end(process: "subprocess.Popen[bytes]") -> None:
    process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout):
        with suppress(OSError):
            if pipe is not None:
                pipe.close()
