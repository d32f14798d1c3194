"""The shape of a proof's tree: how many leaves, how deep, what was split, and where its boxes lie on two inputs.

A tree is walked as the checkers do (docs/certificate-format.md) without bounding anything. Boxes are in shares of the
case's box, [0, 1] along every input; halvings are exact there.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

PLACE = 80  # fractional bits of places
Ends = tuple[Sequence[Fraction], Sequence[Fraction]]
Box = tuple[float, float, float, float]  # lo and hi of one input, lo and hi of the other, as shares


@dataclass(frozen=True)
class Shape:
    """
    Args:
        roots: how many trees. nodes: splits and leaves.
        depths: how many leaves there are at each depth.
        inputs, neurons: how often each input, and each neuron (node, element), was split.
    """

    roots: int = 1
    nodes: int = 0
    depths: Counter[int] = field(default_factory=Counter)
    inputs: Counter[int] = field(default_factory=Counter)
    neurons: Counter[tuple[int, int]] = field(default_factory=Counter)

    @property
    def leaves(self) -> int:
        return self.depths.total()

    @property
    def depth(self) -> int:
        return max(self.depths, default=0)


Step = tuple[int, tuple[int, int, int | None] | None]  # depth; (node, element, place or None for halving) or a leaf


def steps(tree: dict[str, Any], inputs: int) -> Iterator[Step]:
    """The splits and leaves of a case's trees in preorder.

    Raises:
        ValueError, IndexError: the tree is malformed.
    """
    splits, refuted = tree["splits"], [frozenset(row[0] for row in leaf) for leaf in tree["leaves"]]
    stack = [(0, frozenset(root)) for root in reversed(tree["roots"])]
    for token in tree["nodes"]:
        if not stack:
            raise ValueError("a tree goes on after its end")
        depth, left = stack.pop()
        if token >= 0:
            which = token >> 1
            split = (0, which, None) if which < inputs else tuple(splits[which - inputs])
            yield depth, split
            stack += [(depth + 1, left), (depth + 1, left)]
            continue
        left -= refuted[~token >> 1]
        if left:
            stack.append((depth, left))
        else:
            yield depth, None
    if stack:
        raise ValueError("a tree ends too early")


def shape(tree: dict[str, Any], inputs: int) -> Shape:
    """The shape of a case's trees.

    Raises:
        ValueError, IndexError: a tree is malformed.

    >>> leaf = [0, [[0, 1 << 20]], -1, []]
    >>> found = shape({"nodes": [0, -1, 2, -1, -1], "leaves": [[leaf]], "roots": [[0]], "splits": []}, 2)
    >>> found.leaves, found.depth, dict(found.inputs)
    (3, 2, {0: 1, 1: 1})
    """
    found = Shape(len(tree["roots"]), len(tree["nodes"]))
    for depth, split in steps(tree, inputs):
        if split is None:
            found.depths[depth] += 1
        elif split[0] == 0:
            found.inputs[split[1]] += 1
        else:
            found.neurons[split[0], split[1]] += 1
    return found


def boxes(
    tree: dict[str, Any], inputs: int, ends: Ends, along: tuple[int, int], most: int
) -> tuple[list[Box], int]:
    """The boxes of the leaves along two inputs, each once.

    Args:
        ends: of the case's box. along: two inputs, or one twice. most: how many boxes.

    Returns:
        The boxes, and the depth below which the tree was not followed since there would be too many; else -1.
    """
    at_depth: Counter[int] = Counter()  # boxes if the tree is cut at a depth: leaves above it, and parts there
    for depth, split in steps(tree, inputs):
        at_depth[depth] += 1
        if split is None:
            at_depth[-1 - depth] += 1
    deepest, cut, above = max(at_depth), -1, 0
    for depth in range(deepest + 1):
        if above + at_depth[depth] > most and depth:
            cut = depth - 1
            break
        above += at_depth[-1 - depth]
    found: dict[Box, None] = {}
    stack: list[Box | None] = [(0.0, 1.0, 0.0, 1.0)] * len(tree["roots"])
    for depth, split in steps(tree, inputs):
        box = stack.pop()
        if box is not None and (split is None or depth == cut):
            found[box] = None
        if split is None:
            continue
        stack += _halves(box, split, ends, along) if box is not None and depth != cut else [None, None]
    return list(found), cut


def _halves(box: Box, split: tuple[int, int, int | None], ends: Ends, along: tuple[int, int]) -> list[Box]:
    """The upper and the lower part: the same box where another input, or a neuron, was split."""
    node, element, place = split
    if node != 0 or element not in along:
        return [box, box]
    first = 2 * along.index(element)
    low, high = box[first], box[first + 1]
    middle = (low + high) / 2 if place is None else _share(place, element, ends)
    middle = min(max(middle, low), high)
    put = lambda a, b: (*box[:first], a, b, *box[first + 2 :])
    return [put(middle, high), put(low, middle)]  # pyright: ignore[reportReturnType]


def _share(place: int, element: int, ends: Ends) -> float:
    lo, hi = ends[0][element], ends[1][element]
    return float((Fraction(place, 1 << PLACE) - lo) / (hi - lo)) if hi > lo else 0.0
