"""Fewer nodes of a proof's trees whose neurons the checker bounds anew: that is nearly all of its time.

A search bounds every part. The checker may do without most of them: bounds of a parent hold in its children, and a leaf
whose row holds with them need not have its own. Which ones it needs is asked of the fast check, a few times.
"""

from collections.abc import Callable, Sequence
from typing import Any

Failed = Sequence[tuple[int, int]]  # (case, leaf in preorder)
FEW = 8  # nodes that are bounded: not worth a question


def thinned(proof: dict[str, Any], failing: Callable[[dict[str, Any]], Failed | None]) -> dict[str, Any]:
    """The proof with fewer nodes bounded, such that no leaf fails; the same proof if there is none.

    Parents of leaves are bounded first, then the leaves that fail, then all that is above these.

    Args:
        proof: of kind `tree`, as docs/certificate-format.md says, of which no leaf fails.
        failing: which leaves of a proof fall short; None if that cannot be said.

    >>> chain = {"nodes": [1, -2] * 5 + [-2], "roots": [[0]], "leaves": [[[0, [[0, 1]], -1, []]]]}
    >>> last = lambda proof: [(0, 5)] if proof["trees"][0]["nodes"][-1] == -1 else []  # fails where it is not bounded
    >>> thinned({"kind": "tree", "trees": [chain]}, last)["trees"][0]["nodes"]
    [1, -1, 1, -1, 1, -1, 1, -1, 1, -1, -2]
    """
    walks = [_Walk(tree) for tree in proof["trees"]]
    if sum(len(walk.bounded) for walk in walks) <= FEW:
        return proof
    kept = [{walk.parents[leaf] for leaf in walk.leaves} & walk.bounded for walk in walks]
    for wider in (_themselves, _above, _above):
        trees = zip(proof["trees"], walks, kept, strict=True)
        written = proof | {"trees": [tree | {"nodes": walk.written(bounded)} for tree, walk, bounded in trees]}
        failed = failing(written)
        if not failed:
            return proof if failed is None else written
        for case, leaf in failed:
            kept[case] |= wider(walks[case], walks[case].leaves[leaf]) & walks[case].bounded
    return proof


class _Walk:
    """The nodes of a forest in preorder: which are leaves, what each follows, and which are bounded."""

    def __init__(self, tree: dict[str, Any]) -> None:
        self.nodes: list[int] = list(tree["nodes"])
        self.parents, self.leaves, self.bounded = list[int](), list[int](), set[int]()
        waiting = [(-1, frozenset[int](left)) for left in tree["roots"][::-1]]
        for number, token in enumerate(self.nodes):
            parent, left = waiting.pop()
            self.parents.append(parent)
            which, bound = divmod(max(token, ~token), 2)
            if bound:
                self.bounded.add(number)
            if token >= 0:
                waiting += [(number, left), (number, left)]
            elif left := left - {row[0] for row in tree["leaves"][which]}:  # the same part goes on
                waiting.append((number, left))
            else:
                self.leaves.append(number)

    def written(self, bounded: set[int]) -> list[int]:
        """The tokens, bounded there alone."""
        kept = [max(token, ~token) & ~1 | (number in bounded) for number, token in enumerate(self.nodes)]
        return [~x if token < 0 else x for x, token in zip(kept, self.nodes, strict=True)]


def _themselves(walk: _Walk, leaf: int) -> set[int]:
    return {leaf}


def _above(walk: _Walk, leaf: int) -> set[int]:
    found = set[int]()
    while leaf >= 0:
        found.add(leaf)
        leaf = walk.parents[leaf]
    return found
