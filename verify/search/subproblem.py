"""A part of a case: its input box, the boxes of all neurons in front of nonlinear operations, and how it came to be.

A split is closed: the lower part has z ≤ at, the upper one z ≥ at. What is known of a neuron at the root
of a case holds in every part of it and is clipped by the splits on the way down.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

LOWER, UPPER = -1, 1


class Split(NamedTuple):
    """sign·(z − at) ≥ 0 for the value z of one neuron.

    Args:
        site: which value it belongs to, by its number in `plan.sites`. neuron: its flat number there, in C order.
        at: where it is cut; 0 settles the sign of a relu. sign: 1 for z ≥ at, -1 for z ≤ at.
    """

    site: int
    neuron: int
    at: float
    sign: int


@dataclass(frozen=True)
class Subproblem:
    """What a leaf of a search is about.

    Args:
        case: its number.
        lo, hi: (inputs,) float64 ends of its input box.
        boxes: by number of site, (lo, hi) of the site's shape, float64, clipped by the splits.
        splits: on the way from the root, root first.
    """

    case: int
    lo: np.ndarray
    hi: np.ndarray
    boxes: dict[int, tuple[np.ndarray, np.ndarray]]
    splits: list[Split] = field(default_factory=list)

    @property
    def empty(self) -> bool:
        """Whether a box of it has no points: contradicting splits, or splits outside the bounds."""
        return bool(np.any(self.lo > self.hi)) or any(bool(np.any(lo > hi)) for lo, hi in self.boxes.values())


def clipped(
    boxes: Mapping[int, tuple[np.ndarray, np.ndarray]], splits: Sequence[Split]
) -> dict[int, tuple[np.ndarray, np.ndarray]]:
    """Boxes of sites with splits applied; arrays that no split touches are shared.

    >>> found = clipped({0: (np.array([-1.0, -2.0]), np.array([3.0, 4.0]))}, [Split(0, 1, 0.0, LOWER)])
    >>> found[0][0].tolist(), found[0][1].tolist()
    ([-1.0, -2.0], [3.0, 0.0])
    """
    found = dict(boxes)
    copied: set[int] = set()
    for site, neuron, at, sign in splits:
        if site not in copied:
            copied.add(site)
            found[site] = (np.array(found[site][0]), np.array(found[site][1]))
        lo, hi = found[site]
        if sign == LOWER:
            hi.flat[neuron] = min(hi.flat[neuron], at)
        else:
            lo.flat[neuron] = max(lo.flat[neuron], at)
    return found
