"""Bounds of a whole case before anything is split: cheap ones first, since many claims need no better ones.

Margins are bounded after every stage by compiled steps a layer shape, so that what is closed so never waits for the
program of a deep net as a whole.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from axiom_jax._program import Var
from axiom_jax.verification.domains.interval import Interval
from axiom_jax.verification.domains.layered import Method, Region, enclosed, lowest, work
from axiom_jax.verification.domains.linear import environment
from axiom_jax.verification.search.margins import Question, with_atoms
from axiom_jax.verification.search.optimised import GRID

LABOUR = 10**11  # multiplications of rows for all sites: where it is more, intervals have the first word
LONGER = 4.0  # times as long, at least, as plain rows take those that are improved
MARGIN_STEPS, SITE_STEPS = 40, 20  # in which lines are improved: of margins, and of each neuron in front of a curve


@dataclass(frozen=True)
class Stage:
    """What is known of a case.

    Args:
        boxes: of the sites. region: the same, and what was found on the way.
    """

    boxes: dict[Var, Interval]
    region: Region

    def margins(self, atoms: Sequence[int], deadline: float) -> tuple[np.ndarray, list[dict[int, np.ndarray]]]:
        """Lower bounds of margins, and what gives them.

        Args:
            atoms: whose margins, by number.
            deadline: on `time.monotonic`; −inf is the bound of what there was no time for.

        Returns:
            (atoms,) bounds; an entry an atom, by number of site (neurons,) the slopes of the lower lines of its relus,
            multiples of 1/255 as certificates hold them; what is missing has the lines of least area.
        """
        plan = self.region.plan
        (output,) = plan.program.outputs
        if output not in plan.program.varying:
            return np.asarray(self.region.known[output])[list(atoms)], [{} for _ in atoms]
        value, choices = lowest(self.region, output, atoms, MARGIN_STEPS, deadline, GRID)
        number = {v: k for k, v in enumerate(plan.sites)}
        slopes: list[dict[int, np.ndarray]] = [{} for _ in atoms]
        for k, chosen in choices.items():
            step = self.region.steps[k]
            if step.piece.equations[0].name == "max" and (site := number.get(step.inputs[step.operand])) is not None:
                for i, slope in enumerate(slopes):
                    slope[site] = chosen[0][i].reshape(-1)
        return value, slopes


@dataclass
class Begun:
    """How far the bounds of a case have got.

    Args:
        boxes: of sites, as far as they are known.
        finished: by steps in which lines are improved, the sites that are bounded so. seconds: what that took.
        judged: the stages after which there was time to go on.
    """

    boxes: dict[Var, Interval] = field(default_factory=dict)
    finished: dict[int, set[Var]] = field(default_factory=dict)
    seconds: dict[int, float] = field(default_factory=dict)
    judged: set[tuple[Method, int]] = field(default_factory=set)

    @property
    def improved(self) -> bool:
        """Whether lines were chosen for neurons; otherwise the checker's own rule bounds them as well."""
        return SITE_STEPS in self.finished


def stages(question: Question, case: int, begun: Begun, deadline: float) -> Iterator[Stage]:
    """Ever better bounds of one case.

    Args:
        begun: where to go on; it is kept up to date.
        deadline: on `time.monotonic`; what is yielded after it holds, but may be no better than intervals. The last
            stage, which takes longest, is left out where there is not the time for it.

    Source: Zhang et al. 2020, CROWN-IBP, arXiv 1906.06316; Xu et al. 2021, α-CROWN, arXiv 2011.13824.
    """
    plan = question.plan
    values = with_atoms(question.values, question.slots, question.spec, case)
    known, (lo, hi) = environment(plan, values), outward(question.lo[case], question.hi[case])
    order: list[tuple[Method, int]] = [("auto", 0), ("auto", SITE_STEPS)]
    if work(plan, lo, hi) > LABOUR:
        order.insert(0, ("crown-ibp", 0))
    for method, steps in order:
        if (method, steps) in begun.judged:
            continue
        start = time.monotonic()
        if steps and start + LONGER * begun.seconds[0] > deadline:
            return
        finished = begun.finished.setdefault(steps, set()) if method == "auto" else set()
        region = enclosed(plan, values, lo, hi, known=known, boxes=begun.boxes, iterations=steps, deadline=deadline,
                          method=method, finished=finished)  # fmt: skip
        begun.boxes = {v: Interval(*map(np.asarray, (region.boxes[v].lo, region.boxes[v].hi))) for v in plan.sites}
        if method == "auto":
            begun.seconds[steps] = begun.seconds.get(steps, 0.0) + time.monotonic() - start
        yield Stage(begun.boxes, region)
        begun.judged.add((method, steps))


def outward(lo: np.ndarray, hi: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The smallest float32 box around a float64 one."""
    down, up = lo.astype(np.float32), hi.astype(np.float32)
    down = np.where(down > lo, np.nextafter(down, np.float32(-np.inf)), down)
    return down, np.where(up < hi, np.nextafter(up, np.float32(np.inf)), up)
