"""What a search has left open, as pieces of its tree: to be taken up elsewhere, and what grew there to be grafted back.

A piece travels as the paths to some open nodes; what grew under a node comes back as a list in preorder. Boxes and
splits of neurons follow from a path alone.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from axiom_jax.verification.search.subproblem import LOWER, UPPER, Split
from axiom_jax.verification.search.tree import INPUT, OPEN, Tree

ELSEWHERE: tuple[int, ...] = ()  # the choice of a node that is someone else's
Growth = list[tuple[Any, ...]]  # a node an entry, see `grown`


@dataclass(frozen=True)
class Left:
    """An open node.

    Args:
        node: its number in the tree. root: the root that it is under.
        lo, hi: (inputs,) float64, the box that the halvings on its path leave.
        splits: of neurons on its path, root first.
    """

    node: int
    root: int
    lo: np.ndarray
    hi: np.ndarray
    splits: tuple[Split, ...]


def open_nodes(tree: Tree, lo: Sequence[np.ndarray] | np.ndarray, hi: Sequence[np.ndarray] | np.ndarray) -> list[Left]:
    """The open nodes of a tree, root after root, each in preorder.

    Args:
        lo, hi: (roots, inputs) float64, the box of every root.

    >>> tree = Tree(1)
    >>> tree.close(int(tree.halve(np.array([0]), np.array([0]))[0]), (0,))
    >>> [left] = open_nodes(tree, np.zeros((1, 2)), np.ones((1, 2)))
    >>> left.node, left.lo.tolist(), left.hi.tolist()
    (2, [0.5, 0.0], [1.0, 1.0])
    """
    found = []
    for root in range(tree.cases):
        stack: list[tuple[int, np.ndarray, np.ndarray, tuple[Split, ...]]] = [(root, lo[root], hi[root], ())]
        while stack:
            node, low, high, splits = stack.pop()
            child, split = tree.child[node], tree.split[node]
            if child == OPEN:
                if tree.choice[node] is None:
                    found.append(Left(node, root, low, high, splits))
            elif tree.site[node] == INPUT:
                middle = tree.place(node, low[split], high[split])
                lower_hi, upper_lo = high.copy(), low.copy()
                lower_hi[split], upper_lo[split] = middle, middle
                stack += [(child + 1, upper_lo, high, splits), (child, low, lower_hi, splits)]
            else:
                cut_at = (tree.site[node], split, tree.at[node])
                stack += [(child + 1, low, high, (*splits, Split(*cut_at, UPPER)))]
                stack += [(child, low, high, (*splits, Split(*cut_at, LOWER)))]
    return found


def cut(tree: Tree, parents: dict[int, int], nodes: Sequence[int]) -> tuple[Tree, list[int]]:
    """A tree of nothing but the paths to some nodes; what branches off them is closed as someone else's.

    Args:
        parents: of every node that is no root, by number.

    Returns:
        The small tree, and the numbers of the nodes in it.
    """
    small = Tree(tree.cases)
    here = {root: root for root in range(tree.cases)}
    for node in nodes:
        path = [node]
        while path[-1] in parents:
            path.append(parents[path[-1]])
        for upper, lower in zip(path[:0:-1], path[-2::-1], strict=True):
            if lower not in here:
                first = _split(small, here[upper], _entry(tree, upper))
                here[tree.child[upper]], here[tree.child[upper] + 1] = first, first + 1
    wanted = [here[node] for node in nodes]
    kept = set(wanted)
    for node, child in enumerate(small.child):
        if child == OPEN and node not in kept:
            small.close(node, ELSEWHERE)
    return small, wanted


def grown(tree: Tree, root: int) -> Growth:
    """What grew under a node, in preorder, lower children first.

    Returns:
        an entry a node: `()` open, `(input,)` halved, `(input, at)` cut, `(site, neuron, at)` split,
        `(None, choice, multipliers)` closed.
    """
    found: Growth = []
    for node, split, choice, _ in tree.preorder(root):
        if choice is not None:
            found.append((None, choice, tree.multipliers.get(node)))
        else:
            found.append(() if split == OPEN else _entry(tree, node))
    return found


def graft(tree: Tree, root: int, growth: Iterable[tuple[Any, ...]], parents: dict[int, int]) -> list[int]:
    """Put what grew elsewhere under an open node.

    Args:
        parents: gets the parents of the new nodes.

    Returns:
        The nodes under it that are open, in preorder.

    Raises:
        ValueError: it is no subtree, or the node is not open.
    """
    if tree.child[root] != OPEN or tree.choice[root] is not None:
        raise ValueError(f"node {root} is not open")
    left, stack = [], [root]
    for entry in growth:
        if not stack:
            raise ValueError("more nodes than the subtree has")
        node = stack.pop()
        if not entry:
            left.append(node)
        elif entry[0] is None:
            tree.close(node, entry[1], entry[2])
        else:
            first = _split(tree, node, entry)
            parents[first] = parents[first + 1] = node
            stack += [first + 1, first]
    if stack:
        raise ValueError("fewer nodes than the subtree has")
    return left


def parents_of(tree: Tree) -> dict[int, int]:
    """The parent of every node that is no root."""
    return {child + upper: node for node, child in enumerate(tree.child) if child != OPEN for upper in (0, 1)}


def _entry(tree: Tree, node: int) -> tuple[Any, ...]:
    if tree.site[node] != INPUT:
        return (tree.site[node], tree.split[node], tree.at[node])
    return (tree.split[node], tree.at[node]) if node in tree.cuts else (tree.split[node],)


def _split(tree: Tree, node: int, entry: tuple[Any, ...]) -> int:
    if len(entry) == 3:
        site, neuron, at = entry
        return tree.part([node], [site], [neuron], [at])[0]
    nodes, inputs = np.array([node]), np.array([entry[0]])
    return int((tree.halve(nodes, inputs) if len(entry) == 1 else tree.cut(nodes, inputs, np.array([entry[1]])))[0])

