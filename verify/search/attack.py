"""Attacks: descents on the margins of a property, many at once, each in its own way.

The starts are random points, corners, edges and points that lie apart in the margins (ODI); the
steps are signs or normalised gradients, with and without momentum, towards one disjunct each or
the nearest. A descent that stalls goes back to its best point with half the step, and in the end
starts anew. What an attack returns are candidates; they count once exact arithmetic agrees.
Source: Madry et al. 2018, arXiv 1706.06083; Tashiro et al. 2020, output diversified
initialisation, arXiv 2003.06878; Croce and Hein 2020, adaptive steps, arXiv 2003.01690.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from axiom_jax._program import Program
from axiom_jax.verification.search.margins import Question
from axiom_jax.verification.search.strategy import Judge

STEPS, FEWEST = 8, 2  # of one compiled call
WORK = 2e9  # operations of one call, about: larger nets get fewer descents at once, the largest fewer steps
WIDEST, NARROWEST = 256, 4  # descents at once
FLOATS = 64_000_000  # that the coefficients of all descents may hold
FIRST_RATE, LAST_RATE = 0.25, 1e-3  # step lengths as shares of the box
CALLS = 12  # of one run: a search follows, and the attack may be taken up again between its turns
INSIDE = 4  # calls of an attack inside a part of the region
SLACK = 1e-6  # relative to the threshold: values that float32 cannot tell from 0
CLEAR = 1e-4  # relative: worth polishing up to here, so that a counterexample survives any rounding
JUDGED = 4  # candidates that are judged exactly at once


def attack(
    question: Question, case: int, seed: int = 0, box: tuple[np.ndarray, np.ndarray] | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Search one case for unsafe points.

    Args:
        case: its number. seed: for the starting points.
        box: (inputs,) ends of a part of its region to stay in, or None.

    Returns:
        points: (descents, inputs) float32 in the deployed domain, the most unsafe first.
        values: (descents,) their margins in float32; ≤ 0 means unsafe.
    """
    found = Attack(question, seed, case, box)
    for _ in range(INSIDE):
        found.advance()
    found.advance(last=True)
    order = np.argsort(found.best_value, kind="stable")
    return found.best[order], found.best_value[order]


@dataclass
class Attack:
    """An attack that can be stopped and taken up again, on all cases of a question or on one.

    Args:
        question: what is asked. seed: for all that is random.
        only: the one case to attack, or None. box: (inputs,) ends of a part of it.
        x, velocity, rate, best, best_value: the state of every descent.
        case, aim: the case of each, and the disjunct that it aims at, −1 for the nearest.
        calls: how many compiled calls were made. lowest: the lowest value seen, by case.
    """

    question: Question
    seed: int = 0
    only: int | None = None
    box: tuple[np.ndarray, np.ndarray] | None = None
    x: np.ndarray = field(init=False)
    velocity: np.ndarray = field(init=False)
    rate: np.ndarray = field(init=False)
    best: np.ndarray = field(init=False)
    best_value: np.ndarray = field(init=False)
    case: np.ndarray = field(init=False)
    aim: np.ndarray = field(init=False)
    calls: int = 0
    lowest: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        (width, self.steps), inputs = descents(self.question), self.question.lo.shape[1]
        self.random, self.values = np.random.default_rng(self.seed), jax.device_put(list(self.question.values))
        self.x, self.velocity, self.best = (np.zeros((width, inputs), np.float32) for _ in range(3))
        self.rate, self.best_value = np.zeros(width, np.float32), np.full(width, np.inf, np.float32)
        self.case, self.aim = np.zeros(width, np.int64), np.zeros(width, np.int32)
        self.lo, self.hi = self.x.copy(), self.x.copy()
        cases, atoms, _ = self.question.spec.outputs.shape
        self.lowest, self.visits = np.full(cases, np.inf), np.zeros(cases, np.int64)
        self.apart, self.pull = np.zeros(width, np.int32), np.zeros((width, atoms), np.float32)
        self.refused = np.full(cases, np.inf)  # values at which exact arithmetic did not agree
        each = np.arange(width)
        self.power = np.choose(each % 4, [0.0, 1.0, 0.0, 0.5]).astype(np.float32)
        self.momentum = np.where(each // 4 % 2, 0.75, 0.0).astype(np.float32)
        self.blend = np.where(each // 8 % 2, 1.0, 0.0).astype(np.float32)
        self.begin(np.ones(width, bool))

    def run(
        self, deadline: float, judge: Judge, progress: Callable[[Any], None] | None = None, calls: int = CALLS
    ) -> str:
        """Attack until a candidate is judged unsafe, time is out, or so many calls were made.

        Args:
            deadline: on `time.monotonic`; overrun by one call.
            judge: whether a point of a case is unsafe in exact arithmetic.
            progress: called with the attack after each call.
            calls: compiled calls, as many times that as the cases fill the descents; running again goes on.

        Returns:
            "unsafe", "time", or "spent".
        """
        cases = len(self.question.lo)
        calls *= max(1, min(cases // len(self.x), 8))  # the cases that are left wait for what the bounds say of them
        waited = 0
        for _ in range(calls):
            if time.monotonic() >= deadline:
                break
            improved = self.advance()
            if progress:
                progress(self)
            clear = bool((self.best_value <= -CLEAR * self.scale).any())
            waited = waited + 1 if (self.best_value <= 0).any() and not improved else 0
            if (clear or waited > 2) and self.judged(judge, 0.0):
                return "unsafe"
        return "unsafe" if self.judged(judge, SLACK) else "time" if time.monotonic() >= deadline else "spent"

    @property
    def scale(self) -> np.ndarray:
        """(descents,) what the values of a case are measured by."""
        return 1 + np.abs(self.question.spec.threshold).max(1)[self.case]

    def judged(self, judge: Judge, slack: float) -> bool:
        """Whether one of the lowest points that are below `slack` is unsafe."""
        scale = self.scale
        for i in np.argsort(self.best_value / scale, kind="stable")[:JUDGED]:
            case, value = int(self.case[i]), float(self.best_value[i])
            if value > slack * scale[i] or value >= self.refused[case]:
                continue
            if judge(case, self.best[i]):
                return True
            self.refused[case] = value - 0.5 * abs(value)  # the next one is to be clearly lower
        return False

    def advance(self, last: bool = False) -> bool:
        """One compiled call; whether the lowest value improved. The last one only evaluates what was reached."""
        previous = self.best_value.copy()
        spec, case, one = self.question.spec, self.case, len(self.lowest) == 1
        parts = spec.outputs, spec.inputs, spec.threshold, spec.member
        rows = tuple(part[0] if one else part[case] for part in parts)
        state = _descend(
            self.question.program, self.question.slots, one, 1 if last else self.steps, self.values, rows, self.aim,
            self.lo, self.hi, (self.power, self.momentum, self.blend),
            (self.x, self.velocity, self.rate, self.best, self.best_value, self.apart, self.pull),
        )  # fmt: skip
        self.x, self.velocity, self.rate, self.best, self.best_value, self.apart = map(np.array, state)
        self.calls += 1
        np.minimum.at(self.lowest, case, self.best_value)
        known = np.where(np.isfinite(previous), previous, 0)
        fell = self.best_value < np.where(np.isfinite(previous), known - 1e-3 * np.abs(known), np.inf)
        stalled = ~fell  # also where no value was a number
        self.rate[stalled] *= 0.5
        back = stalled & (self.apart == 0)
        self.x[back], self.velocity[back] = self.best[back], 0
        done = self.rate < LAST_RATE
        if self.only is None and len(self.question.lo) > 1:  # a case that is far from unsafe makes room
            done |= stalled & (self.best_value > 0) & (self.random.random(len(done)) < 0.5)
        done &= self.best_value > SLACK * self.scale  # a candidate is polished on
        lowest = int(np.argmin(self.best_value / self.scale))
        if not last:
            self.rate[(self.rate < LAST_RATE) & ~done] = LAST_RATE
            self.begin(done)
        return bool(fell[lowest])

    def begin(self, which: np.ndarray) -> None:
        """New starts for some of the descents."""
        new = np.flatnonzero(which)
        if not len(new):
            return
        question, random = self.question, self.random
        self.case[new] = self.cases(len(new))
        np.add.at(self.visits, self.case[new], 1)
        lo, hi = question.float32_lo[self.case[new]], question.float32_hi[self.case[new]]
        if self.box is not None:
            lo, hi = (np.clip(end.astype(np.float32), lo, hi) for end in self.box)
        share = random.random(lo.shape, np.float32)
        kind = (new // 2 + self.calls) % 4
        corner = random.random(lo.shape) < np.choose(kind, [0.0, 0.0, 1.0, 0.5])[:, None]
        share = np.where(corner, np.round(share), share)
        if self.calls == 0 and new[0] == 0:
            share[0] = 0.5
        self.lo[new], self.hi[new] = lo, hi
        self.x[new] = np.clip(lo + share.astype(np.float32) * (hi - lo), lo, hi)
        self.velocity[new], self.best[new], self.best_value[new] = 0, self.x[new], np.inf
        self.rate[new] = FIRST_RATE
        self.apart[new] = np.where(kind == 1, STEPS // 2, 0)
        self.pull[new] = random.uniform(-1, 1, (len(new), self.pull.shape[1]))
        count = question.spec.member[self.case[new]].any(2).sum(1)
        turn = (new // 2 + self.visits[self.case[new]]) % count
        self.aim[new] = np.where(new % 2, turn, -1)

    def cases(self, count: int) -> np.ndarray:
        """Whom to attack next: who was not attacked yet, then in turns those nearest to unsafe and any."""
        if self.only is not None:
            return np.full(count, self.only)
        fresh = np.flatnonzero(self.visits == 0)
        if len(fresh) >= count:
            return fresh[:count]
        score = np.maximum(self.lowest, 1e-9) * (1 + self.visits)  # near to unsafe, and seldom tried
        nearest = np.argsort(score, kind="stable")[: max(1, min(len(score) // 4, count))]
        rest = count - len(fresh)
        chosen = np.where(
            np.arange(rest) % 4 > 0, nearest[np.arange(rest) % len(nearest)],
            self.random.integers(len(self.lowest), size=rest),
        )  # fmt: skip
        return np.concatenate([fresh, chosen])


def descents(question: Question) -> tuple[int, int]:
    """How many descents run at once, a power of two, and how many steps a call makes.

    By the cost of the network and the size of its atoms; a gradient costs about two evaluations.
    """
    work = 3.0 * max(operations(question.program), 1)
    row = 4 * question.lo.shape[1] + 4 * question.spec.threshold.shape[1]
    row += question.spec.outputs[0].size + question.spec.inputs[0].size if len(question.lo) > 1 else 0
    fitting = int(min(max(WORK / work / STEPS, NARROWEST), WIDEST, max(FLOATS // row, 1)))
    width = 1 << (fitting.bit_length() - 1)
    return width, int(min(max(4 * WORK / work / width, FEWEST), STEPS))


def operations(program: Program) -> int:
    """About how many additions and multiplications one evaluation takes.

    >>> from axiom_jax._program import build
    >>> operations(build(lambda w, x: w @ x, jnp.ones((2, 3)), jnp.ones(3))[0])
    12
    """
    total = 0
    for eqn in program.equations:
        if program.varying.isdisjoint(eqn.inputs):
            continue
        size = eqn.output.size
        if eqn.name == "dot_general":
            (axes, _), _ = eqn.params["dimension_numbers"]
            size *= 2 * int(np.prod([eqn.inputs[0].shape[a] for a in axes], initial=1))
        elif eqn.name == "conv_general_dilated":
            channels = eqn.inputs[1].shape[eqn.params["dimension_numbers"].rhs_spec[0]]
            size *= 2 * eqn.inputs[1].size // max(channels, 1)
        total += size
    return total


@partial(jax.jit, static_argnums=(0, 1, 2))
def _descend(
    program: Program, slots: Sequence[int], shared: bool, steps: Any, values: list[Any], rows: Any, aim: Any,
    lo: Any, hi: Any, traits: Any, state: Any,
) -> Any:  # fmt: skip
    """`rows`: the atoms and their disjuncts, of each descent or, if `shared`, of all."""

    def one(rows: Any, aim: Any, lo: Any, hi: Any, traits: Any, state: Any) -> Any:
        *atoms, member = rows
        given = list(values)
        for slot, value in zip(slots, atoms, strict=True):
            given[slot] = value
        power, momentum, blend = traits
        pull = state[-1]

        def aimed(margins: Any) -> Any:
            """What is descended on: the worst atom of a disjunct, and the sum of its violated ones."""
            worst = jnp.where(member.any(1), jnp.where(member, margins, -jnp.inf).max(1), jnp.inf)
            chosen = jnp.where(aim < 0, jnp.argmin(worst), aim)
            mine = member[chosen]
            above = jnp.where(mine, jnp.maximum(margins, 0), 0).sum()
            return jnp.where(mine, margins, -jnp.inf).max() + blend * above, worst.min()

        def step(_: Any, state: Any) -> Any:
            x, velocity, rate, best, best_value, apart = state
            margins, back = jax.vjp(lambda x: program.evaluate(given, x)[0], x)
            toward, value = jax.grad(aimed, has_aux=True)(margins)
            (gradient,) = back(jnp.where(apart > 0, pull, toward))
            better = value < best_value
            best, best_value = jnp.where(better, x, best), jnp.where(better, value, best_value)
            steep = gradient * (hi - lo)
            steep = jnp.where(jnp.isfinite(steep), steep, 0)
            most = jnp.maximum(jnp.abs(steep).max(), 1e-30)
            direction = jnp.sign(steep) * jnp.power(jnp.abs(steep) / most, power)
            velocity = momentum * velocity + direction
            length = jnp.maximum(jnp.abs(velocity).max(), 1e-30)
            x = jnp.clip(x - rate * (hi - lo) * velocity / length, lo, hi)
            return x, velocity, rate * 0.97, best, best_value, jnp.maximum(apart - 1, 0)

        return jax.lax.fori_loop(0, steps, step, state[:-1])

    return jax.vmap(one, in_axes=(None if shared else 0, 0, 0, 0, 0, 0))(rows, aim, lo, hi, traits, state)
