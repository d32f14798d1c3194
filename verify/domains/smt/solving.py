"""Ask a solver whether a statement holds at given sizes; where its point is spurious, tell it more of the functions.

An answer `holds` is as good as the solver: `ax.Claimed`, never `ax.Proved`. Points are judged here by enclosures, and
again exactly by whoever refutes.
Source: Cimatti et al. 2018, arXiv 1801.08723 (incremental linearization).
"""

import atexit
import json
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from fractions import Fraction
from importlib.util import find_spec
from pathlib import Path
from queue import Empty, Queue
from typing import Any, Literal

import numpy as np

from axiom_jax._errors import AxiomError, BackendUnavailable
from axiom_jax._shapes_places import caller
from axiom_jax.verification.domains.algebra import terms as T
from axiom_jax.verification.domains.algebra.enclosing import Undefined, enclosure, function_bounds
from axiom_jax.verification.domains.algebra.reading import Reading, read
from axiom_jax.verification.domains.algebra.terms import Term
from axiom_jax.verification.domains.smt.smtlib import Writer, question, variable_names
from axiom_jax.verification.domains.smt.unfolding import unfolded
from axiom_jax.verification.domains.symbolic.theorem import Theorem
from axiom_jax.verification.statement import Statement

Solver = Literal["z3", "cvc5"]
ROUNDS = 40
FAR = Fraction(60)  # no function is bounded at points beyond it: they are flat, or beyond all measure
UNDEFINED = ": something in it has no value there"
GRACE = 1.0  # seconds past its time that a solver may take before it is killed


@dataclass(frozen=True, eq=False)
class SmtAnswer:
    """What a solver said.

    Args:
        holds: True: no counterexample exists, if the solver is to be trusted. False: `point` breaks the claim, as far
            as enclosures of 45 digits tell (for `exists` alone: no witness exists, there is no point). None: unknown.
        point: exact rationals by variable, arrays of `Fraction`; with holds None, the last candidate, which was
            spurious or too close to tell.
        reason: in words.
        proof: cvc5's own proof (Alethe), if it was asked for.
    """

    holds: bool | None
    point: dict[str, np.ndarray] | None
    reason: str
    proof: str | None = None


def solve(
    thing: Any, sizes: dict[str, int], deadline: float | None, solver: Solver = "z3", *, proof: bool = False
) -> SmtAnswer:
    """Decide a statement at given sizes over the reals.

    Args:
        thing: a `Statement`, or a theorem made of one.
        sizes: what its named sizes are, integers from 1 on.
        deadline: in `time.monotonic()`; None for 10 s from now. The solver runs in a process that is killed then.
        solver: "z3", or "cvc5" (`pip install 'axiom-jax[cvc5]'`).
        proof: ask cvc5 for its proof as text.

    Returns:
        An answer; running out of time is one with `holds` None.

    Raises:
        BackendUnavailable: the solver is not installed.
        UnsupportedPrimitive, SpecError: the statement cannot be written down at these sizes.

    >>> from axiom_jax.verification.statement import Statement, Variable
    >>> squares = Statement("x² ≥ 2x − 1", (Variable("x", ()),), lambda x: x * x >= 2 * x - 1)
    >>> solve(squares, {}, None)
    SmtAnswer(holds=True, point=None, reason='z3 finds no counterexample', proof=None)
    """
    if solver not in ("z3", "cvc5"):
        raise AxiomError("There is no such solver.", at=caller(), got=str(solver), fix='solver="z3" or solver="cvc5"')
    if solver == "cvc5" and find_spec("cvc5") is None:
        raise BackendUnavailable("cvc5 is not installed.", at=caller(), fix="pip install 'axiom-jax[cvc5]'")
    deadline = time.monotonic() + 10.0 if deadline is None else deadline
    found = _Asking(reading_of(thing, sizes), solver, deadline, proof).answer()
    if found.holds is False and isinstance(thing, Theorem) and thing.abstracted:
        return SmtAnswer(None, found.point, f"{found.reason}, with weights that need not be the model's")
    return found


def reading_of(thing: Any, sizes: dict[str, int]) -> Reading:
    """A statement or a theorem as terms at these sizes."""
    if isinstance(thing, Theorem):
        return unfolded(thing, sizes)
    if isinstance(thing, Statement):
        return read(thing, (), {n: sizes[n] for n in thing.sizes if n in sizes})
    raise AxiomError("A solver is asked about statements.", at=caller(), got=f"a {type(thing).__name__}",
                     fix="give a Statement or a Theorem")  # fmt: skip


@dataclass
class _Asking:
    """One question, asked again with more facts as long as the points that come back are spurious."""

    reading: Reading
    solver: Solver
    deadline: float
    proof: bool
    points: dict[str, set[Fraction]] = field(default_factory=dict)

    def answer(self) -> SmtAnswer:
        asserted, negation, quantified = question(self.reading)
        names = variable_names(self.reading, quantified)
        only_exists = bool(self.reading.quantifiers) and set(self.reading.quantifiers) == {"exists"}
        if only_exists:  # a witness is looked for instead
            asserted = [h for hs in self.reading.hypotheses.values() for h in hs]
            negation, quantified = self.reading.claim or T.TRUE, []
            names = variable_names(self.reading, quantified)
        level, last, reason, rounds = 1, None, "out of time", 0
        while rounds < ROUNDS and (left := self.deadline - time.monotonic()) > 0.02:
            rounds += 1
            writer = Writer(level=level, points=self.points)
            text = writer.text(names, asserted, negation, quantified)
            share = left if level == 2 or not writer.occurrences else left * 0.4
            found = ask(text, share, self.solver, proof=self.proof)
            if found["answer"] == "unsat":
                said = "no witness" if only_exists else "no counterexample"
                return SmtAnswer(not only_exists, None, f"{self.solver} finds {said}", found.get("proof"))
            if found["answer"] != "sat":
                reason = found.get("reason", "unknown")
                if level == 2 or not writer.occurrences:
                    break
                level = 2
                continue
            if quantified and len(names) < sum(a.size for a in self.reading.inputs.values()):
                return SmtAnswer(False if not writer.occurrences else None, None,
                                 f"{self.solver} finds a point where the rest is false for every choice")  # fmt: skip
            values = {name: Fraction(found["values"].get(name, "0")) for name in
                      [*names, *(o.symbol.value for o in writer.occurrences), "undefined!"]}  # fmt: skip
            for point in _close_by(values, names):
                last = {name: _array(point, a) for name, a in self.reading.inputs.items()}
                if self.judged(point, asserted, negation):
                    said = f"{self.solver} finds {'a witness' if only_exists else 'a counterexample'}"
                    return SmtAnswer(only_exists, last, said if only_exists or self.false(point) else said + UNDEFINED)
            if all(o.name == "root" for o in writer.occurrences):  # nothing was left open: the point is irrational
                return SmtAnswer(only_exists, last, f"{self.solver} finds a point; the one given is close to it")
            if not self.sharpened(writer, values):
                if level == 2:
                    reason = "the point that the solver finds is too close to tell"
                    break
                level = 2
            elif rounds > 6:
                level = 2
            reason = f"out of time after {rounds} rounds of facts about functions"
        return SmtAnswer(None, last, f"{self.solver}: {reason}")

    def judged(self, point: dict[str, Fraction], asserted: Sequence[Term], negation: Term) -> bool:
        """Whether the point certainly satisfies the hypotheses and the negated claim (or the claim, for a witness)."""
        return enclosure(T.land([*asserted, negation]), point) is True

    def false(self, point: dict[str, Fraction]) -> bool:
        """Whether the condition itself is false at a point, and not just without a value."""
        conditions = [t for array in self.reading.outputs.values() for t in array.ravel()]
        return enclosure(T.land(conditions), point) is False

    def sharpened(self, writer: Writer, values: dict[str, Fraction]) -> bool:
        """Add points where a function had a value that it does not have; whether there was one."""
        any_wrong = False
        for o in writer.occurrences:
            if o.name == "root":
                continue
            try:
                at = enclosure(o.argument, values)
                assert isinstance(at, tuple)
                low, high = function_bounds(o.name, max(-FAR, min(FAR, (at[0] + at[1]) / 2)))
            except (Undefined, KeyError, ValueError):
                continue
            said = values[o.symbol.value]
            slack = Fraction(1, 10**9) * (1 + abs(low))
            if not low - slack <= said <= high + slack:
                near = max(-FAR, min(FAR, ((at[0] + at[1]) / 2).limit_denominator(10**4)))
                known = self.points.setdefault(o.symbol.value, set())
                any_wrong |= near not in known
                known.add(near)
        return any_wrong


def _close_by(values: dict[str, Fraction], names: Sequence[str]) -> list[dict[str, Fraction]]:
    """The point itself, and the same with simpler numbers."""
    exact = {name: values[name] for name in names}
    return [exact, *({name: x.limit_denominator(d) for name, x in exact.items()} for d in (1000, 10))]


def _array(values: dict[str, Fraction], array: np.ndarray) -> np.ndarray:
    out = np.empty(array.shape, object)
    for index in np.ndindex(array.shape):
        out[index] = values.get(array.item(index).value, Fraction(0))
    return out


def ask(text: str, seconds: float, solver: Solver, *, proof: bool = False) -> dict[str, Any]:
    """The answer of a solver to SMT-LIB text: `{"answer", "values", "reason"}`. Its process is killed if it is late."""
    process = _idle.pop() if _idle else _Process()
    found = process.ask({"text": text, "seconds": max(seconds, 0.01), "solver": solver, "proof": proof},
                        max(seconds, 0.01) + GRACE)  # fmt: skip
    if found is None:
        process.end()
        return {"answer": "unknown", "reason": "killed, out of time"}
    _idle.append(process)
    return found


class _Process:
    """A running `process.py`, and a thread that reads what it says."""

    def __init__(self) -> None:
        path = Path(__file__).with_name("process.py")
        self.running = subprocess.Popen([sys.executable, "-P", str(path)], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)  # fmt: skip
        self.said: Queue[str] = Queue()
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        assert self.running.stdout is not None
        with suppress(ValueError):  # closed while reading
            for line in self.running.stdout:
                self.said.put(line)
        self.said.put("")

    def ask(self, job: dict[str, Any], seconds: float) -> dict[str, Any] | None:
        try:
            assert self.running.stdin is not None
            self.running.stdin.write(json.dumps(job) + "\n")
            self.running.stdin.flush()
            line = self.said.get(timeout=seconds)
        except (Empty, OSError):
            return None
        return json.loads(line) if line else None

    def end(self) -> None:
        self.running.kill()
        self.running.wait()
        for pipe in (self.running.stdin, self.running.stdout):
            if pipe is not None:
                with suppress(OSError, ValueError):
                    pipe.close()


_idle: list[_Process] = []


@atexit.register
def _end_all() -> None:
    while _idle:
        _idle.pop().end()
