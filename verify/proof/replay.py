"""Replaying points: whether a certificate's program and the ONNX file it was made from give the same numbers.

The file is read by a second, separately written reader and evaluated exactly; the certificate's program is evaluated by
the checker. Both are enclosures of real numbers, equal where the network is piecewise linear, so they must meet: no
tolerance is needed. Points are seeded, of the property's boxes, corners too.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from axiom_jax.verification import checker

POINTS = 8
WORK = 20_000_000  # multiplications of all points together: some seconds
SMOOTH = 300  # multiplications that one value of a smooth function costs about as much as
GRID = 1 << 12  # inner points lie on so many steps of a box's edge
NARROW = Fraction(1, 1 << 40)  # of an output's size: wider enclosures would say little
FAILURES = (ValueError, LookupError, TypeError, ArithmeticError)  # of a reader: what it does not know, or damage
Box = tuple[Sequence[Fraction], Sequence[Fraction]]


@dataclass(frozen=True)
class Replay:
    """What a replay found.

    Args:
        points: how many were compared. corners: how many of them are corners of a box.
        width: of the widest enclosure that was compared; 0 if all numbers are exact.
        differs: what differs, in words, or None.
        reason: why no point, or fewer than asked for, could be compared; empty if all were.
    """

    points: int = 0
    corners: int = 0
    width: float = 0.0
    differs: str | None = None
    reason: str = ""

    @property
    def text(self) -> str:
        """For a statement.

        >>> Replay(reason="operator Cos").text
        'not replayed: operator Cos'
        """
        if not self.points:
            return f"not replayed: {self.reason or 'no point was given'}"
        how = "equal numbers" if not self.width else f"enclosures that meet, at most {self.width:.1e} wide"
        fewer = f" ({self.reason})" if self.reason else ""
        return f"replayed at {self.points} points, {self.corners} of them corners: {how}{fewer}"


def replay(network: Any, content: bytes, boxes: Sequence[Box], shapes: Sequence[Any] = (), seed: int = 0) -> Replay:
    """Compare a certificate's program with an ONNX file at seeded points.

    Args:
        network: the checker's reading of the program, `checker.load_network(...)`.
        content: the uncompressed bytes of the file.
        boxes: where points are taken, (lo, hi) of flat inputs.
        shapes: of the inputs, where the file leaves sizes open.

    Returns:
        What was found. An operator that the second reader does not know is the reason why nothing was compared.
    """
    from axiom_jax.verification.proof.onnx_replay.graph import load

    work = work_of(network)
    count = min(POINTS, WORK // max(work, 1)) if boxes else 0
    if not count:
        return Replay(reason=f"{work:,} multiplications a point are too many" if boxes else "no box to take points of")
    try:
        graph = load(content, shapes)
    except FAILURES as error:
        return Replay(reason=str(error))
    if graph.size != network.inputs:
        return Replay(reason=f"the file has {graph.size} inputs, the certificate's program {network.inputs}")
    compared, corners, width, reason = 0, 0, Fraction(0), "" if count == POINTS else f"{work:,} multiplications each"
    for point, corner in seeded(boxes, count, seed):
        try:
            mine = network.evaluate(point)
            theirs = graph.evaluate(point)
        except checker.Rejected as error:
            reason = f"the certificate's program is not defined at some: {error}"
            continue
        except FAILURES as error:
            reason = str(error)
            continue
        if len(mine) != len(theirs):
            return Replay(reason=f"the file has {len(theirs)} outputs, the certificate's program {len(mine)}")
        if any(max(a, c) > min(b, d) for (a, b), (c, d) in zip(mine, theirs, strict=True)):
            return Replay(compared, corners, float(width), differs=_told(mine, theirs))
        widest = max(max(b - a, d - c) for (a, b), (c, d) in zip(mine, theirs, strict=True))
        if widest > NARROW * max(1, *(abs(a) for a, _ in mine)):
            reason = "at some points the enclosures are too wide to compare"
            continue
        compared, corners, width = compared + 1, corners + corner, max(width, widest)
    return Replay(compared, corners, float(width), reason=reason)


def _told(mine: Any, theirs: Any) -> str:
    j, (a, b) = next((j, (a, c)) for j, ((a, b), (c, d)) in enumerate(zip(mine, theirs, strict=True))
                     if max(a, c) > min(b, d))  # fmt: skip
    return f"output {j} is {float(a):.9g} by the certificate's program, {float(b):.9g} by the file, at the same point"


def work_of(network: Any) -> int:
    """About how many multiplications an evaluation takes."""
    total = 0
    for k in network.order:
        node = network.nodes[k]
        if node.op == "matmul":
            m, inner, n = node.shape
            total += m * inner * n
        else:
            total += node.size * (SMOOTH if node.op in checker.FUNCTIONS else 1)
    return total


def seeded(boxes: Sequence[Box], count: int, seed: int = 0) -> Iterator[tuple[list[Fraction], bool]]:
    """Points of boxes in turn, and whether each is a corner: one inside, both ends, then inner points and corners.

    >>> box = [Fraction(0)] * 2, [Fraction(1)] * 2
    >>> [[str(x) for x in point] for point, corner in seeded([box], 4) if corner]
    [['0', '0'], ['1', '1'], ['1', '0']]
    """
    rng = np.random.default_rng(seed)
    for number in range(count):
        lo, hi = boxes[number % len(boxes)]
        turn, steps = number // len(boxes) if len(boxes) <= 2 else number, np.zeros(len(lo), np.int64)
        corner = turn == 1 or turn == 2 or (turn > 2 and turn % 2 == 1)
        if corner:
            steps = GRID * (rng.integers(0, 2, len(lo)) if turn > 2 else np.full(len(lo), turn - 1))
        else:
            steps = rng.integers(0, GRID + 1, len(lo))
        yield [a + (b - a) * Fraction(int(s), GRID) for a, b, s in zip(lo, hi, steps.tolist(), strict=True)], corner


def boxes_of(cases: Sequence[Any]) -> list[Box]:
    """The exact boxes of the cases in a certificate's payload."""
    ends = lambda case, end: [Fraction(x) for x in case["exact"][end]]
    return [(ends(case, "lo"), ends(case, "hi")) for case in cases]
