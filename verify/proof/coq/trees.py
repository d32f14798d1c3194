"""A tree of the certificate, in preorder in the file, as nested nodes."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from axiom_jax._errors import CertificateError
from axiom_jax.verification import checker

DEEPEST = 300  # so that neither Python nor Coq runs out of stack


@dataclass(frozen=True)
class Node:
    """A split (two parts), rows that refute disjuncts (one part, or none when no disjunct is left).

    Args:
        again: neurons are bounded here first.
        split: (node of the program, element, place at 2^-H), None for a leaf; place None: halve that input.
        rows: (disjunct, [(atom, multiplier)], slopes by (node, element) or empty, multipliers of the splits above).
    """

    again: bool
    split: tuple[int, int, int | None] | None = None
    rows: list[Any] = field(default_factory=list)
    parts: tuple["Node", ...] = ()


def trees_of(tree: checker.Tree, inputs: int) -> list[tuple[list[int], Node]]:
    """The trees of a case, each with the disjuncts that it refutes; as `Checker.check_tree` walks them.

    Raises:
        CertificateError: a tree ends too early, goes on after its end, or is deeper than `DEEPEST`.
    """
    tokens = iter(tree.nodes)
    found = [(sorted(disjuncts), _parse(tokens, tree, inputs, disjuncts, 0)) for disjuncts in tree.roots]
    if next(tokens, None) is not None:
        raise _malformed("a tree goes on after its end")
    return found


def _malformed(what: str) -> CertificateError:
    return CertificateError("The certificate's tree is malformed.", got=what, fix="axiom check says what is wrong")


def _parse(tokens: Iterator[int], tree: checker.Tree, inputs: int, left: frozenset[int], depth: int) -> Node:
    token = next(tokens, None)
    if token is None or depth > DEEPEST:
        raise _malformed("a tree ends too early" if token is None else f"a tree is deeper than {DEEPEST}")
    which, again = divmod(max(token, ~token), 2)
    if token >= 0:
        if which >= inputs + len(tree.splits):
            raise _malformed("a split that there is not")
        split = (0, which, None) if which < inputs else tuple(tree.splits[which - inputs])
        lower = _parse(tokens, tree, inputs, left, depth + 1)
        return Node(bool(again), split, [], (lower, _parse(tokens, tree, inputs, left, depth + 1)))
    if which >= len(tree.leaves):
        raise _malformed("a leaf that there is not")
    rows = [(d, terms, tree.slopes(table), betas) for d, terms, table, betas in tree.leaves[which]]
    rest = left - {d for d, *_ in rows}
    return Node(bool(again), None, rows, (_parse(tokens, tree, inputs, rest, depth + 1),) if rest else ())
