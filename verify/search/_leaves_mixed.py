"""A mixed-integer program solved beside the search, in a process of its own.

HiGHS cannot be stopped from outside, and writes to standard output now and then; a process can be ended, keeps what
it writes to itself, and uses another core. What it answers is a proposal: points are judged exactly, and that there
is none is not a proof.
"""

import io
import os
import subprocess
import sys
import tempfile
import weakref
from typing import Any

import numpy as np

INFEASIBLE = 2


class Mixed:
    """A program being solved: minimise nothing, subject to rows of a matrix and bounds, some unknowns being whole.

    Args:
        matrix: (rows, unknowns) CSC. low, high: (rows,) its bounds. lower, upper, whole: (unknowns,) bounds, and which
            must be whole numbers. seconds: its time limit.
    """

    def __init__(
        self, matrix: Any, low: np.ndarray, high: np.ndarray, lower: np.ndarray, upper: np.ndarray, whole: np.ndarray,
        seconds: float,
    ):  # fmt: skip
        self._given, self._answer = tempfile.TemporaryFile(), tempfile.TemporaryFile()
        np.savez(
            self._given, data=matrix.data, indices=matrix.indices, indptr=matrix.indptr, shape=matrix.shape, low=low,
            high=high, lower=lower, upper=upper, whole=whole, seconds=seconds,
        )  # fmt: skip
        self._given.seek(0)
        command = [sys.executable, "-I", os.path.abspath(__file__)]
        quiet = subprocess.DEVNULL
        self._process = subprocess.Popen(command, stdin=self._given, stdout=self._answer, stderr=quiet)
        self._end = weakref.finalize(self, _ended, self._process, (self._given, self._answer))

    def answer(self, seconds: float = 0.0) -> tuple[int, np.ndarray | None] | None:
        """The solver's status (2: there is no point) and a point or None; None while it is at work.

        Args:
            seconds: how long to wait for it.
        """
        if not self._end.alive:  # it was stopped
            return -1, None
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return None
        self._answer.seek(0)
        written = self._answer.read()
        self._end()
        try:
            with np.load(io.BytesIO(written)) as found:
                return int(found["status"]), found["x"] if found["x"].size else None
        except (OSError, ValueError, EOFError, KeyError):  # it was killed, or had no memory
            return -1, None

    def stop(self) -> None:
        """End the process; it answers no more."""
        self._end()


def _ended(process: "subprocess.Popen[bytes]", files: tuple[Any, ...]) -> None:
    if process.poll() is None:
        process.kill()
        process.wait()
    for file in files:
        file.close()


def _work() -> None:
    """Solve what standard input says; only the answer goes to standard output."""
    import scipy.sparse as sp
    from scipy.optimize import Bounds, LinearConstraint, milp

    answer = os.fdopen(os.dup(1), "wb")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    with np.load(io.BytesIO(sys.stdin.buffer.read())) as p:
        matrix = sp.csc_matrix((p["data"], p["indices"], p["indptr"]), shape=tuple(p["shape"]))
        bounds: Any = Bounds(p["lower"], p["upper"])
        rows, whole = LinearConstraint(matrix, p["low"], p["high"]), p["whole"].astype(int)
        options = {"time_limit": float(p["seconds"])}
    result = milp(np.zeros(len(whole)), constraints=[rows], bounds=bounds, integrality=whole, options=options)
    np.savez(answer, status=result.status, x=np.zeros(0) if result.x is None else result.x)
    answer.close()


if __name__ == "__main__":
    _work()
