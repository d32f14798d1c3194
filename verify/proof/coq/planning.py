"""A tree that the Coq checker accepts: the certificate's where it leads to a proof, split further elsewhere.

Bounds in Coq are not those of the certificate's checker, so a part may be refuted earlier, or later. Each part is tried
with the rule, then with the certificate's multipliers and slopes; what is left is split again. All is untrusted.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Any

from axiom_jax._errors import CertificateError
from axiom_jax.verification import checker
from axiom_jax.verification.proof.coq.atoms import Whole, whole
from axiom_jax.verification.proof.coq.integers import Arithmetic, Choose, Interval, Part, Passed, rule
from axiom_jax.verification.proof.coq.lines import unsupported
from axiom_jax.verification.proof.coq.relaxing import Relaxation
from axiom_jax.verification.proof.coq.trees import Node

EVERY = 2  # at how many depths the lines are bounded again inside a tree: Coq spends most of its time there
FEW = 8  # inputs, up to which halving them is better than splitting neurons
MOST_PARTS, DEEPEST = 20_000, 120  # of a case; splits one below the other, each a few frames of Python's stack
Row = tuple[list[int], list[int]]  # multipliers of the atoms of a disjunct; what to pass on, newest first, or nothing
Term = tuple[Any, ...]  # a node of the tree for Coq: its constructor's name and arguments
Path = tuple[tuple[int | None, int], ...]  # splits with a place above a part: the line, or None for an input; the side
DONE: Term = ("Done",)


class Unproved(CertificateError):
    """The search for a tree that Coq accepts ended without one."""


@dataclass
class Planner:
    """Plans the trees of one case.

    Args:
        arithmetic: the network and the units.
        unsafe: the disjuncts.
        deadline: by `time.monotonic`.
    """

    arithmetic: Arithmetic
    case: checker.Case
    deadline: float
    parts: int = 0
    unsafe: list[list[Whole]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.relaxation = Relaxation(self.arithmetic)
        net = self.arithmetic.network
        first = net.inputs + len(net.lines) - net.outputs
        self.unsafe = [[whole(a, net.inputs, first) for a in disjunct] for disjunct in self.case.unsafe]

    def box(self) -> list[Interval]:
        """The case's box at level real in units of 1 / grid, rounded outwards as `to_ends` rounds it."""
        lo, hi, low, high = self.case.ends
        ends = zip(map(min, lo, low), map(max, hi, high), strict=True)
        return [(_floor(a, self.arithmetic.grid), -_floor(-b, self.arithmetic.grid)) for a, b in ends]

    def plan(self, roots: Sequence[tuple[list[int], Node]]) -> Term:
        """One tree for all of the case's trees.

        Raises:
            CertificateError: the certificate cannot be followed, and further splits did not help in time.
        """
        part, todo = self.arithmetic.start(self.box()), list(range(len(self.unsafe)))
        return self._roots(part, todo, list(roots))

    def _roots(self, part: Part, todo: list[int], roots: list[tuple[list[int], Node]]) -> Term:
        (disjuncts, node), *others = roots
        here = [d for d in todo if d in disjuncts]
        if not others or len(here) == len(todo):
            return self._follow(part, here, node, (), 0)
        rest = [d for d in todo if d not in disjuncts]
        mask = [d in disjuncts for d in todo]
        return ("Share", mask, self._follow(part, here, node, (), 0), self._roots(part, rest, others))

    def _follow(self, part: Part, todo: list[int], node: Node, path: Path, depth: int) -> Term:
        """Refute what can be refuted over a part; split where that is not all."""
        self.parts += 1
        if self.parts > MOST_PARTS or depth > DEEPEST:
            why = f"{DEEPEST} splits one below the other" if depth > DEEPEST else f"{MOST_PARTS} parts"
            raise _out_of(f"more than {why} were needed")
        if time.monotonic() > self.deadline:
            raise _out_of("the time is over")
        if part.empty:
            return ("Void",)
        rows = {d: row for d in todo if (row := self._refuted(part, d, node, path)) is not None}
        rest = [d for d in todo if d not in rows]
        then = self._go_on(part, rest, node, path, depth) if rest else DONE
        return ("Refute", [rows.get(d) for d in todo], then) if rows or not todo else then

    def _go_on(self, part: Part, todo: list[int], node: Node, path: Path, depth: int) -> Term:
        if node.again and (node.split is None or depth % EVERY == 0):
            swept = self.arithmetic.sweep(part)
            if swept != part:
                return ("Sweep", self._follow(swept, todo, replace(node, again=False), path, depth))
        if node.split is None and node.parts:  # rows that left disjuncts to what follows
            return self._follow(part, todo, node.parts[0], path, depth + 1)
        if node.split is None:
            return self._split(part, todo, depth)
        k, j, at = node.split
        if k == 0:
            l, u = part.box[j]
            place = (l + u) // 2 if at is None else _floor(Fraction(at, 1 << checker.H), self.arithmetic.grid)
            parts, here = part.split_input(j, place), ("Halve", self._newest(j, len(part.box)), place)
        else:
            found = self.arithmetic.network.entering.get((k, j))
            if found is None or at is None:
                raise unsupported("a split of a value that enters no relu")
            place = _floor(Fraction(at, 1 << checker.H), self.arithmetic.grid)
            parts, here = part.split_line(found, place), ("Cut", self._newest(found, len(part.bounds)), place)
            j = found
        held = None if k == 0 else j
        paths = [path if at is None else (*path, (held, sign)) for sign in (-1, 1)]
        halves = [self._follow(half, todo, child, way, depth + 1)
                  for half, child, way in zip(parts, node.parts, paths, strict=True)]  # fmt: skip
        return (*here, *halves)

    def _newest(self, j: int, count: int) -> int:
        return count - 1 - j

    def _split(self, part: Part, todo: list[int], depth: int) -> Term:
        """Where the certificate has no more to say: split what the bound loses most by."""
        tries = [self._bound(part, todo[0], self._alone(todo[0], a))[1] for a in range(len(self.unsafe[todo[0]]))]
        best = max(tries, key=lambda found: found.bound)
        worst = max(range(len(best.losses)), key=lambda j: best.losses[j] if self._open(part, j) else -1)
        widths = [abs(c) * (u - l) for c, (l, u) in zip(best.inputs, part.box, strict=True)]
        i = max(range(len(widths)), key=lambda k: (widths[k], part.box[k][1] - part.box[k][0]))
        if self._open(part, worst) and (len(widths) > FEW or not widths[i]):
            parts, here = part.split_line(worst, 0), ("Cut", self._newest(worst, len(part.bounds)), 0)
        else:
            l, u = part.box[i]
            if u - l < 2:
                raise _out_of("the bounds are too close to what is unsafe for the numbers that Coq would compute with")
            parts = part.split_input(i, (l + u) // 2)
            here = ("Halve", self._newest(i, len(part.box)), (l + u) // 2)
        again = Node(True)
        return (*here, *(self._follow(half, todo, again, (), depth + 1) for half in parts))

    def _open(self, part: Part, j: int) -> bool:
        l, u = part.bounds[j]
        return self.arithmetic.network.lines[j].rectified and l < 0 < u

    # --- one disjunct over one part

    def _alone(self, d: int, a: int) -> list[int]:
        """Multipliers for one atom of a disjunct."""
        return self._scaled(d, [(a, 1 << checker.UNIT)])

    def _scaled(self, d: int, terms: Sequence[Sequence[int]]) -> list[int]:
        """Multipliers of the atoms of a disjunct, at 2^-UNIT, in the units of a pass."""
        found = [0] * len(self.unsafe[d])
        for a, x in terms:
            found[a] += max(x * self.arithmetic.scale // (self.unsafe[d][a].scale << checker.UNIT), int(x > 0))
        return found

    def _bound(self, part: Part, d: int, nus: list[int], choose: Choose | None = None) -> tuple[bool, Passed]:
        net = self.arithmetic.network
        row, constant, strict = [0] * (net.inputs + len(net.lines)), 0, False
        for nu, atom in zip(nus, self.unsafe[d], strict=True):
            constant += nu * atom.constant
            strict |= atom.strict and nu > 0
            for i, c in atom.multipliers.items():
                row[i] += nu * c
        found = self.arithmetic.lower(part, row, choose)
        total = found.bound + self.arithmetic.grid * constant
        return total > 0 or (strict and total == 0), found

    def _refuted(self, part: Part, d: int, node: Node, path: Path) -> Row | None:
        """How to refute a disjunct over a part: by the rule, as the certificate does, or by a linear program."""
        for a in range(len(self.unsafe[d])):
            nus = self._alone(d, a)
            if self._bound(part, d, nus)[0]:
                return nus, []
        for number, terms, slopes, betas in node.rows:
            if number == d and (row := self._given(part, d, terms, slopes, betas, path)) is not None:
                return row
        dual = self.relaxation.dual(part, self.unsafe[d])
        if dual is None or dual.bound <= 0:
            return None
        nus = self._scaled(d, [(a, int(x * (1 << checker.UNIT))) for a, x in enumerate(dual.atoms)])
        scale, lines = self.arithmetic.scale, self.arithmetic.network.lines
        hints = [round(x * scale / line.over) for x, line in zip(dual.lines, lines, strict=True)]
        return (nus, hints[::-1]) if self._bound(part, d, nus, lambda j, _: hints[j])[0] else None

    def _given(
        self, part: Part, d: int, terms: Any, slopes: checker.Slopes, betas: list[int], path: Path
    ) -> Row | None:
        """With what the certificate says: multipliers of atoms and of splits, and slopes."""
        lines, entering = self.arithmetic.network.lines, self.arithmetic.network.entering
        if len(betas) != len(path):
            raise CertificateError("The certificate's tree is malformed.", got="a row has not its splits")
        held: dict[int, int] = {}
        for beta, (j, sign) in zip(betas, path, strict=True):
            if j is not None:
                passed = sign * beta * self.arithmetic.scale // (lines[j].over << checker.UNIT)
                held[j] = held.get(j, 0) - passed
        chosen = {j: slopes[key] for key, j in entering.items() if key in slopes}

        def choose(j: int, c: int) -> int:
            l, u = part.bounds[j]
            passed = rule(lines[j], (l, u), c, part.tilts[j]) if c else 0
            if j in chosen and c > 0 and l < 0 < u:
                passed = c * chosen[j] // (lines[j].over * checker.STEEP)
            return passed + held.get(j, 0)

        nus = self._scaled(d, terms)
        safe, found = self._bound(part, d, nus, choose)
        return (nus, found.hints[::-1]) if safe else None


def _out_of(why: str) -> CertificateError:
    return Unproved(
        "No proof was found that Coq could follow.", got=why,
        fix="give it more time, or split the property into smaller regions",
    )  # fmt: skip


def _floor(value: Fraction, grid: int) -> int:
    return value.numerator * grid // value.denominator
