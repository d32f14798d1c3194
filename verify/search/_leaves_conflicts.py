"""What refuted leaves teach: which splits were to blame, and where the same multipliers refute again.

A refutation that uses few of a leaf's splits holds in every part that has those; where all but one hold, the
opposite of that one follows. Splits that are often to blame are worth making early.
Source: Marques-Silva and Sakallah 1999, GRASP; Moskewicz et al. 2001, Chaff (activities).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from axiom_jax.verification.search._leaves_affine import Network
from axiom_jax.verification.search._leaves_bounds import Refutation, evaluate, without
from axiom_jax.verification.search.subproblem import Split, Subproblem, clipped

KEPT = 4096  # refutations remembered of a case
DECAY = 0.95
TINY = 1e-9
ROUNDS = 2  # of leaving out splits that a conflict does not need

Blamed = tuple[Refutation, tuple[Split, ...]]  # a refutation and the splits that it needs


@dataclass(frozen=True)
class Conflict:
    """A refutation of one disjunct over a whole case but for some splits; betas are in the order of the splits."""

    disjunct: int
    splits: tuple[Split, ...]
    refutation: Refutation


class Conflicts:
    """The conflicts of one case.

    Args:
        network: the affine maps. root: the whole case, with bounds of all sites.
    """

    def __init__(self, network: Network, root: Subproblem):
        self.network, self.root = network, root
        self.known: list[Conflict] = []
        self.numbers: dict[Split, int] = {}
        self.table = np.zeros((64, 64), bool)  # conflict, literal
        self.sizes = np.zeros(64, int)
        self.activity: dict[tuple[int, int], float] = {}
        self._step = 1.0

    def learn(self, disjunct: int, refutation: Refutation, part: Subproblem, slack: float) -> tuple[Split, ...]:
        """The splits to blame, remembered where they are fewer than all."""
        numbers = self._to_blame(refutation, part, slack)
        chosen = tuple(part.splits[n] for n in numbers)
        again = self._again(refutation, self._part(chosen), refutation.betas[numbers])
        if again.bound <= slack:
            chosen, again = tuple(part.splits), refutation
        self._remember(Conflict(disjunct, chosen, again))
        for site, neuron, _, _ in chosen:
            self.activity[site, neuron] = self.activity.get((site, neuron), 0.0) + self._step
        self._step /= DECAY
        if self._step > 1e100:
            self.activity = {k: v / self._step for k, v in self.activity.items()}
            self._step = 1.0
        return chosen

    def _to_blame(self, refutation: Refutation, part: Subproblem, slack: float) -> list[int]:
        """Numbers of splits without which the multipliers refute no more: those with betas, and what relus need.

        The cheapest to miss are left out together, as many as there can be by bisection; then once more.
        """
        needed = [n for n, beta in enumerate(refutation.betas) if beta > TINY]
        rest = [n for n in range(len(refutation.betas)) if n not in needed]
        bounds = lambda sets: without(self.network, self.root, part, refutation, sets)
        for _ in range(ROUNDS):
            if not rest:
                break
            alone = bounds([[*needed, *(m for m in rest if m != n)] for n in rest])
            order = [rest[k] for k in np.argsort(-alone, kind="stable")]
            fewest, most = 0, len(order)  # how many can be left out
            while fewest < most:
                middle = (fewest + most + 1) // 2
                if bounds([[*needed, *order[middle:]]])[0] > slack:
                    fewest = middle
                else:
                    most = middle - 1
            rest = order[fewest:]
            if not fewest:
                break
        return sorted([*needed, *rest])

    def _part(self, splits: Sequence[Split]) -> Subproblem:
        return replace(self.root, boxes=clipped(self.root.boxes, splits), splits=list(splits))

    def _again(self, refutation: Refutation, part: Subproblem, betas: np.ndarray) -> Refutation:
        moved = replace(refutation, betas=betas)
        return replace(moved, bound=evaluate(self.network, part, moved)[0])

    def _remember(self, conflict: Conflict) -> None:
        at = len(self.known)
        if at >= KEPT:
            return
        for split in conflict.splits:
            self.numbers.setdefault(split, len(self.numbers))
        rows, columns = self.table.shape
        if at >= rows or len(self.numbers) > columns:
            wider = np.zeros((2 * rows if at >= rows else rows, max(columns, 2 * len(self.numbers))), bool)
            wider[:rows, :columns] = self.table
            self.table = wider
            self.sizes = np.concatenate([self.sizes, np.zeros(len(wider) - rows, int)])
        literals = [self.numbers[split] for split in conflict.splits]
        self.table[at, literals] = True
        self.sizes[at] = len(literals)
        self.known.append(conflict)

    def _missing(self, splits: Sequence[Split]) -> np.ndarray:
        """How many splits of each conflict a part lacks."""
        held = [self.numbers[split] for split in splits if split in self.numbers]
        return self.sizes[: len(self.known)] - self.table[: len(self.known), held].sum(1)

    def applied(self, part: Subproblem, done: Sequence[int], slack: float) -> dict[int, Blamed]:
        """Refutations of disjuncts, other than those done, that hold in a part by what was learned."""
        if not self.known:
            return {}
        found: dict[int, Blamed] = {}
        for number in np.flatnonzero(self._missing(part.splits) == 0):
            conflict = self.known[number]
            if conflict.disjunct in found or conflict.disjunct in done:
                continue
            betas = dict(zip(conflict.splits, conflict.refutation.betas, strict=True))
            again = self._again(conflict.refutation, part, np.array([betas.get(s, 0.0) for s in part.splits]))
            if again.bound > slack:
                found[conflict.disjunct] = again, conflict.splits
        return found

    def forced(self, part: Subproblem, only: int) -> Split | None:
        """A split one side of which, the one named, is refuted already, where disjunct `only` is all that is left."""
        if not self.known:
            return None
        for number in np.flatnonzero(self._missing(part.splits) == 1):
            conflict = self.known[number]
            if conflict.disjunct != only:
                continue
            rest = [s for s in conflict.splits if s not in part.splits]
            if len(rest) == 1 and rest[0]._replace(sign=-rest[0].sign) not in part.splits and _cuts(part, rest[0]):
                return rest[0]
        return None


def _cuts(part: Subproblem, split: Split) -> bool:
    """Whether a neuron has room on both sides of a split."""
    lo, hi = part.boxes[split.site]
    return float(lo.flat[split.neuron]) < split.at < float(hi.flat[split.neuron])
