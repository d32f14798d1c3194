"""All asserts together: a case for every box, with the disjuncts that hold in it.

What does not depend on the box is expanded once, and every case shares it.
"""

from collections.abc import Iterable, Sequence
from fractions import Fraction

from axiom_jax._errors import SpecError
from axiom_jax.verification.property import Atom, Case
from axiom_jax.verification.spec.vnnlib_formulas import DISJUNCTS, LITERALS, Bound, Conjunction, Formulas, Literal
from axiom_jax.verification.spec.vnnlib_script import Script

ENDS = 20_000_000  # cases times inputs

Ends = tuple[Fraction | None, Fraction | None]
Atoms = tuple[Atom, ...]


def cases_of(
    script: Script,
    formulas: Formulas,
    parts: Sequence[list[Conjunction]],
    inputs: Sequence[tuple[str, int]],
    widest: int,
) -> tuple[Case, ...]:
    """The cases of a property.

    Args:
        parts: the normal form of each assert.
        inputs: name of each input, and the token that declares it.
        widest: the token to point at when there are too many disjuncts.

    Raises:
        SpecError: an input has no bounds, every box is empty, or there are too many disjuncts.
    """
    shared = [literal for part in parts if len(part) == 1 for literal in part[0]]
    box = _common_box(script, shared, inputs)
    atoms = tuple(literal for literal in shared if isinstance(literal, Atom))
    open_ends = [literal for literal in shared if isinstance(literal, Bound) and literal.strict]
    several = [part for part in parts if len(part) != 1]
    speaks = [any(isinstance(literal, Bound) for conjunction in part for literal in conjunction) for part in several]
    boxed = formulas.conjoin((part for part, yes in zip(several, speaks, strict=True) if yes), widest)
    free = formulas.conjoin((part for part, yes in zip(several, speaks, strict=True) if not yes), widest)
    groups: dict[tuple[tuple[int, Ends], ...], list[Atoms]] = {}
    for conjunction in boxed:
        own: dict[int, Ends] = {}
        mine: list[Atom] = []
        for literal in conjunction:
            if isinstance(literal, Bound):
                own[literal.variable] = _tightened(own.get(literal.variable) or box[literal.variable], literal)
            else:
                mine.append(literal)
        if any(map(_empty, own.values())):
            continue  # this disjunct holds nowhere
        edges: Atoms = ()
        if open_ends or any(isinstance(literal, Bound) and literal.strict for literal in conjunction):
            bounds = [*open_ends, *(b for b in conjunction if isinstance(b, Bound) and b.strict)]
            strict = [b for b in bounds if (own.get(b.variable) or box[b.variable])[b.upper] == b.value]
            if any(_point(own.get(b.variable) or box[b.variable]) for b in strict):
                continue
            edges = tuple(map(_edge, strict))
        key = tuple(sorted((variable, ends) for variable, ends in own.items() if ends != box[variable])) if own else ()
        groups.setdefault(key, []).append((*atoms, *mine, *edges) if mine or edges else atoms)
    if not groups:
        raise SpecError(
            "No input meets the asserts: the box of every disjunct is empty.",
            at=script.place,
            fix="correct the bounds: nothing is left to verify",
        )
    if len(groups) * len(inputs) > ENDS:
        raise SpecError(
            f"The property has {len(groups)} boxes of {len(inputs)} inputs, which is too much.",
            at=script.place,
            fix="split it into several files",
        )
    conditions = _conditions(script, groups.values(), free, widest)
    los, his = [ends[0] for ends in box], [ends[1] for ends in box]
    missing = [i for i, ends in enumerate(box) if None in ends]
    made = []
    for key, unsafe in zip(groups, conditions, strict=True):
        lo, hi = los.copy(), his.copy()
        for variable, (a, b) in key:
            lo[variable], hi[variable] = a, b
        for variable in missing:
            if lo[variable] is None or hi[variable] is None:
                name, token = inputs[variable]
                below = lo[variable] is None
                raise script.error(
                    token,
                    f"The input {name} has no {'lower' if below else 'upper'} bound.",
                    f"assert one: (assert ({'>=' if below else '<='} {name} …))",
                    name,
                )
        made.append(Case(tuple(lo), tuple(hi), unsafe))  # pyright: ignore[reportArgumentType]
    return tuple(made)


def _common_box(script: Script, shared: Sequence[Literal], inputs: Sequence[tuple[str, int]]) -> list[Ends]:
    """The box that every disjunct lies in."""
    box: list[Ends] = [(None, None)] * len(inputs)
    for bound in shared:
        if isinstance(bound, Bound):
            ends = box[bound.variable] = _tightened(box[bound.variable], bound)
            if _empty(ends):
                what = f"The bounds of {inputs[bound.variable][0]} exclude each other: the box is empty."
                raise script.error(bound.token, what, "swap the bounds")
    return box


def _conditions(
    script: Script, groups: Iterable[Sequence[Atoms]], free: Sequence[Conjunction], widest: int
) -> list[tuple[Atoms, ...]]:
    """For every group of conjunctions its product with `free`; groups of the very same conjunctions share it."""
    tail: tuple[Atoms, ...] = tuple(free)  # pyright: ignore[reportAssignmentType]
    length = sum(map(len, tail))
    made: dict[tuple[int, ...], tuple[Atoms, ...]] = {}
    found, count, literals = [], 0, 0
    for group in groups:
        key = tuple(map(id, group))
        if key not in made:
            count += len(group) * len(tail)
            literals += sum(map(len, group)) * len(tail) + length * len(group)
            if count > DISJUNCTS or literals > LITERALS:
                raise script.error(
                    widest,
                    f"This expands to more than {DISJUNCTS} disjuncts or {LITERALS} comparisons.",
                    "split the property into several files",
                )
            if tail == ((),):
                made[key] = tuple(group)
            else:
                made[key] = tuple((*a, *b) for a in group for b in tail)
        found.append(made[key])
    return found


def _tightened(ends: Ends, bound: Bound) -> Ends:
    lo, hi = ends
    if bound.upper:
        return lo, bound.value if hi is None or bound.value < hi else hi
    return bound.value if lo is None or bound.value > lo else lo, hi


def _empty(ends: Ends) -> bool:
    lo, hi = ends
    return lo is not None and hi is not None and lo > hi


def _point(ends: Ends) -> bool:
    return ends[0] == ends[1]


def _edge(bound: Bound) -> Atom:
    """A strict bound as an atom: boxes are closed, and the edge is not part of what the file describes."""
    sign = Fraction(1 if bound.upper else -1)
    return Atom((), sign * bound.value, ((bound.variable, sign),), strict=True)
