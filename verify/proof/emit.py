"""What a search with splits and multipliers found, as a certificate holds it.

A search speaks of the neurons of model ∘ atoms, a certificate of the nodes of the model alone: both are lowered the
same way, so their neurons correspond in order. Multipliers are rounded to the certificate's grid; what is rounded is
still a proof, perhaps of a bound that is a little weaker.
Source: Wang et al. 2021, β-CROWN, arXiv 2103.06624 (the bound of a leaf); docs/certificate-format.md.
"""

import base64
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import numpy as np

from axiom_jax.verification.proof.exact import Site, described, exactly
from axiom_jax.verification.proof.lemmas import Lemma, improved
from axiom_jax.verification.search.margins import Question
from axiom_jax.verification.search.tree import INPUT, OPEN, Multipliers, Tree

STEEP, UNIT, PLACES = 255, 1 << 20, 1 << 80  # a slope of 1, a multiplier of 1, and a place 1 of a split
MOST = 1e9  # multipliers of splits, at most; larger ones come from nothing but overflow
SIGNS = {"max", "gt"}  # only the sign of what enters these matters, so that a split needs no new bounds
Boxes = Mapping[int, tuple[np.ndarray, np.ndarray]]  # by number of site
Roots = Sequence[Sequence[tuple[int, tuple[int, ...]]]]  # by case: (root, the disjuncts that its leaves refute)


def neuron_tree(
    question: Question,
    tree: Tree,
    bounds: Sequence[Boxes] | None = None,
    roots: Roots | None = None,
    plain: Collection[int] = (),
    seconds: float = 60.0,
) -> dict[str, Any] | str:
    """The `proof` part of a certificate for a closed tree with splits of neurons, cuts of inputs and multipliers.

    Args:
        question: what was searched.
        tree: closed, that is every leaf has a choice: for each disjunct of its root the atom that it refutes there. Its
            multipliers have a row for each of these; without any, a leaf takes the checker's own slopes.
        bounds: for each case, boxes of the sites at its root, (lo, hi) by number of site. Where they are better than
            the checker's own, slopes that give them are found again and written.
        roots: for each case, its trees: their roots and the disjuncts each refutes. None: one tree a case for all.
            Leaves are numbered through the trees of a case in this order.
        plain: cases whose bounds are no better than the checker's own.
        seconds: how long to look for such slopes.

    Returns:
        The proof, or in words why there is none.

    >>> from axiom_jax.verification.property import Atom, Case, Property
    >>> from axiom_jax.verification.search.margins import Subject, pose
    >>> import jax
    >>> subject = Subject(lambda _, x: abs(x - 0.5), (), (jax.ShapeDtypeStruct((1,), np.float32),))
    >>> low = Atom(((0, Fraction(1)),), Fraction(-1, 10))
    >>> tree = Tree(1)
    >>> for leaf in (child := tree.part([0], [0], [0], [0.0])[0], child + 1):
    ...     tree.close(leaf, (0,))
    >>> question = pose(subject, Property((Case((Fraction(0),), (Fraction(1),), ((low,),)),)))
    >>> neuron_tree(question, tree)["trees"][0]["nodes"]
    [2, -1, -1]
    """
    exact = exactly(question.subject)
    if exact.missing is not None:
        return f"certificates cannot express {exact.missing}"
    sites = exact.sites
    if described(question.plan, {}) != [Site(s.shape, s.users) for s in sites]:
        return "the neurons of the search are not those of the certificate's program"
    used = {site for site in tree.site if site != INPUT}
    if missing := [site for site in used if sites[site].node is None]:
        return f"the certificate's program has no node for value {missing[0]} of the search"
    trees, deadline = [], time.monotonic() + seconds
    for case, unsafe in enumerate(question.property.cases):
        given = roots[case] if roots is not None else [(case, tuple(range(len(unsafe.unsafe))))]
        writer = _Writer(tree, sites, [len(d) for d in unsafe.unsafe], question.subject.size)
        for root, _ in given:
            if any(choice is None and tree.child[node] == OPEN for node, _, choice, _ in tree.preorder(root)):
                return "the search has open subproblems"
        writer.list_slots([root for root, _ in given], bounds[case] if bounds is not None else {})
        for root, disjuncts in given:
            writer.write(root, disjuncts)
        if bounds is not None and bounds[case] and case not in plain:
            writer.add_lemmas(improved(question, case, bounds[case], deadline=deadline))
        trees.append(writer.proof([list(disjuncts) for _, disjuncts in given]))
    return {"kind": "tree", "trees": trees}


@dataclass
class _Writer:
    """The trees of one case, being written.

    Args:
        atoms: how many each disjunct has. inputs: of the model.
        ids: by number of site, the neurons whose slopes are written.
    """

    tree: Tree
    sites: Sequence[Site]
    atoms: list[int]
    inputs: int
    nodes: list[int] = field(default_factory=list)
    ids: dict[int, np.ndarray] = field(default_factory=dict)
    splits: dict[tuple[int, int, int], int] = field(default_factory=dict)
    tables: dict[bytes, int] = field(default_factory=dict)
    leaves: dict[str, int] = field(default_factory=dict)
    entries: list[Any] = field(default_factory=list)
    lemmas: dict[tuple[int, int], list[int]] = field(default_factory=dict)

    def list_slots(self, roots: Sequence[int], bounds: Boxes) -> None:
        """Find the neurons whose slopes leaves or lemmas choose."""
        chosen = {site for root in roots for node, _, _, _ in self.tree.preorder(root)
                  if node in self.tree.multipliers for site in self.tree.multipliers[node].slopes}  # fmt: skip
        sites = [k for k in chosen | set(bounds) if self.sites[k].node is not None and "max" in self.sites[k].users]
        for site in sorted(sites, key=lambda k: self.sites[k].node or 0):
            count = int(np.prod(self.sites[site].shape))
            lo, hi = bounds.get(site, (np.full(count, -1.0), np.full(count, 1.0)))
            self.ids[site] = np.flatnonzero((np.ravel(lo) < 0) & (np.ravel(hi) > 0))

    def write(self, root: int, disjuncts: tuple[int, ...]) -> None:
        """Write one tree in preorder. After a split that changes more than a sign, neurons are bounded again."""
        tree = self.tree
        stack: list[tuple[int, bool, tuple[bool, ...]]] = [(root, False, ())]
        while stack:
            node, stale, path = stack.pop()  # path: of every split with a place of its own, whether it is of a neuron
            choice = tree.choice[node]
            if choice is not None:
                entry = self._leaf(choice, disjuncts, tree.multipliers.get(node), path)
                self.nodes.append(~(2 * entry + stale))
                continue
            site, split, again = tree.site[node], tree.split[node], stale
            if site == INPUT and node not in tree.cuts:
                token = split
            else:
                token = self.inputs + self._split(0 if site == INPUT else self.sites[site].node, split, tree.at[node])
                path = (*path, site != INPUT)
            self.nodes.append(2 * token + again)
            stale = site == INPUT or not SIGNS.issuperset(self.sites[site].users)
            stack += [(tree.child[node] + 1, stale, path), (tree.child[node], stale, path)]

    def _split(self, k: int | None, j: int, at: float) -> int:
        place = int(k or 0), int(j), round(Fraction(at) * PLACES)
        return self.splits.setdefault(place, len(self.splits))

    def _leaf(
        self, choice: Sequence[int], disjuncts: tuple[int, ...], found: Multipliers | None, path: tuple[bool, ...]
    ) -> int:
        first = np.cumsum([0, *self.atoms])
        rows = []
        for r, d in enumerate(disjuncts):
            weights = getattr(found, "weights", None)
            if weights is None:
                nu = np.arange(self.atoms[d]) == choice[r] - first[d]
            else:
                nu = np.asarray(weights)[r][first[d] : first[d + 1]]
            beta = np.zeros(len(path))
            if found is not None:
                beta[np.array(path, bool)] = np.asarray(found.betas)[r] if any(path) else 0
            terms, betas = _scaled(nu, beta)
            slopes = {site: s[r] for site, s in found.slopes.items()} if found is not None else {}
            rows.append([d, terms, self._table(slopes), betas])
        key = repr(rows)
        if key not in self.leaves:
            self.leaves[key] = len(self.entries)
            self.entries.append(rows)
        return self.leaves[key]

    def _table(self, slopes: Mapping[int, np.ndarray]) -> int:
        """The number of a table of slopes, by number of site; the last ones may be missing."""
        known = [site in slopes for site in self.ids]
        if not any(known):
            return -1
        last = len(known) - known[::-1].index(True)
        parts = [np.ravel(slopes[site])[ids] if site in slopes else np.zeros(len(ids))
                 for site, ids in list(self.ids.items())[:last]]  # fmt: skip
        table = np.rint(np.clip(np.nan_to_num(np.concatenate(parts)), 0, 1) * STEEP).astype(np.uint8).tobytes()
        return self.tables.setdefault(table, len(self.tables)) if table else -1

    def add_lemmas(self, lemmas: Iterable[Lemma]) -> None:
        """Name the slopes that bound single neurons; without any, the checker chooses them by its rule."""
        for lemma in lemmas:
            node, table = self.sites[lemma.site].node, self._table(lemma.slopes)
            if node is not None and table >= 0:
                self.lemmas.setdefault((node, lemma.neuron), [-1, -1])[lemma.above] = table

    def proof(self, roots: list[list[int]]) -> dict[str, Any]:
        slots = [[self.sites[site].node, int(j)] for site, ids in self.ids.items() for j in ids]
        return {
            "bounds": "crown",
            "leaves": self.entries,
            "lemmas": [[k, j, *tables] for (k, j), tables in self.lemmas.items()],
            "nodes": self.nodes,
            "roots": roots,
            "slopes": [base64.b64encode(table).decode("ascii") for table in self.tables],
            "slots": slots,
            "splits": [list(place) for place in self.splits],
        }


def _scaled(nu: np.ndarray, beta: np.ndarray) -> tuple[list[list[int]], list[int]]:
    """Multipliers of atoms and splits as integers; they may be scaled together, so the largest of an atom becomes 1."""
    nu, beta = np.maximum(np.nan_to_num(np.asarray(nu, np.float64)), 0), np.nan_to_num(beta)
    largest = nu.max(initial=0) or np.abs(beta).max(initial=0) or 1.0
    nus, betas = ([int(v) for v in np.rint(np.clip(x / largest, -MOST, MOST) * UNIT)] for x in (nu, beta))
    return [[k, x] for k, x in enumerate(nus) if x], betas
