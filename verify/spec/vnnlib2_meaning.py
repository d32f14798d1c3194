"""VNN-LIB 2.0 text in a certificate: put there where it is short, and held against the cases when it is read.

Text and cases are compared in a normal form: for each box the conjunctions that are unsafe there, bounds of single
inputs as part of the box, inequalities as integers without a common divisor.
"""

import functools
import json
from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from math import gcd, lcm
from typing import Any

from axiom_jax._errors import SpecError
from axiom_jax.verification.property import Atom, Case
from axiom_jax.verification.spec.vnnlib2 import Query, parse_query
from axiom_jax.verification.spec.vnnlib2_writing import output_size, property_text

KEY = "vnnlib2"  # of the text in `meta`
INPUTS = 2000  # of all boxes together, in a text that is put into a certificate
TERMS = 20_000  # of all inequalities together
READ = 500_000  # bounds after expansion, which the parser takes for certain
LONGEST = 1 << 24  # characters that are read again
Box = tuple[tuple[Fraction, Fraction], ...]
Row = tuple[tuple[tuple[int, int], ...], tuple[tuple[int, int], ...], int, bool]  # inputs, outputs, threshold, strict
Normal = dict[Box, set[frozenset[Row]]]


def embedded_text(cases: Sequence[dict[str, Any]], model: dict[str, Any]) -> str | None:
    """The text that a certificate holds of its cases.

    Args:
        cases, model: of the payload.

    Returns:
        None where it would be long (more than `INPUTS` inputs, or `TERMS` terms), and for what VNN-LIB cannot say:
        conditions without outputs, programs with operations that are not known here.
    """
    outputs = output_size(model)
    inputs = sum(len(case["exact"]["lo"]) for case in cases)
    terms = sum(1 + len(atom["input"]) + len(atom["output"]) for case in cases for d in case["unsafe"] for atom in d)
    if outputs is None or inputs > INPUTS or terms > TERMS:
        return None
    return _written(json.dumps(cases), outputs)


@functools.lru_cache(maxsize=16)  # a certificate is often written anew with another proof
def _written(listed: str, outputs: int) -> str | None:
    cases = json.loads(listed)
    text = property_text(cases, outputs)
    plain = all(_plain(atom) for case in cases for disjunct in case["unsafe"] for atom in disjunct)
    if plain and sum(len(case["exact"]["lo"]) * len(case["unsafe"]) for case in cases) < READ:
        return text
    return text if misstated(text, cases, outputs) is None else None


def _plain(atom: dict[str, Any]) -> bool:
    """Whether an inequality has an output for certain, so that the parser takes it for no bound of an input."""
    numbers = [j for j, c in atom["output"] if Fraction(c) != 0]
    return 0 < len(numbers) == len(set(numbers))


def misstated(text: Any, cases: Sequence[dict[str, Any]], outputs: int | None) -> str | None:
    """What a text says otherwise than the cases of a certificate, in words; None if both mean the same.

    Args:
        text: of VNN-LIB 2.0, as anybody wrote it.
        cases: of the payload, which the checker accepted. outputs: of the network; None if not known.

    >>> atom = {"input": [], "output": [[0, "1"]], "strict": False, "threshold": "1/2"}
    >>> cases = [{"exact": {"lo": ["0"], "hi": ["1"]}, "unsafe": [[atom]]}]
    >>> misstated(property_text(cases, 1).replace("(* 2 Y[0]) 1", "(* 2 Y[0]) 3"), cases, 1)
    'Y[0] <= 3/2 is unsafe there, not in the certificate'
    """
    if not isinstance(text, str) or len(text) > LONGEST:
        return "it is no text, or too long to be read"
    try:
        query = parse_query(text)
        theirs = _normal(query.property.cases)
    except (SpecError, RecursionError) as error:
        return f"it cannot be read: {error.what if isinstance(error, SpecError) else 'it is nested too deep'}"[:300]
    inputs = len(cases[0]["exact"]["lo"])
    if differs := _other_network(query, inputs, outputs):
        return differs
    return _difference(theirs, _normal(map(_case, cases)))


def _other_network(query: Query, inputs: int, outputs: int | None) -> str | None:
    """How the declared network is another than one of flat inputs and outputs, or None."""
    if len(query.networks) != 1 or query.version != "2.0":
        return f"it is about {len(query.networks)} networks, or of another version"
    network = query.networks[0]
    if network.hidden or query.products:
        return "it speaks of hidden values or of products of variables"
    if any(tensor.dtype != "real" for tensor in (*network.inputs, *network.outputs)):
        return "its tensors are not declared as real"
    given = sum(tensor.size for tensor in network.outputs)
    if len(query.places) != inputs or (outputs is not None and given != outputs):
        return f"it has {len(query.places)} inputs and {given} outputs, the certificate {inputs} and {outputs}"
    return None if query.places == tuple(range(inputs)) else "it makes several inputs one"


def _case(raw: dict[str, Any]) -> Case:
    """A case of a payload, its exact box."""
    sparse = lambda pairs: tuple((i, Fraction(c)) for i, c in pairs)
    atom = lambda a: Atom(sparse(a["output"]), Fraction(a["threshold"]), sparse(a["input"]), a["strict"])
    lo, hi = (tuple(map(Fraction, raw["exact"][end])) for end in ("lo", "hi"))
    return Case(lo, hi, tuple(tuple(map(atom, disjunct)) for disjunct in raw["unsafe"]))


def _normal(cases: Iterable[Case]) -> Normal:
    """What is unsafe, for each box; boxes in which nothing is unsafe are left out."""
    found: Normal = {}
    for case in cases:
        whole = tuple(zip(case.lo, case.hi, strict=True))
        own: set[frozenset[Row]] | None = None
        for conjunct in case.unsafe:
            rows = {row for atom in conjunct if (row := _row(atom)) not in (None, TRUE)}
            single = [row for row in rows if len(row[0]) == 1 and not row[1]]
            if not single:
                own = found.setdefault(whole, set()) if own is None else own
                own.add(frozenset(rows))
            elif (box := _cut(whole, single)) is not None:
                found.setdefault(box, set()).add(frozenset(row for row in rows if _says_more(row, box)))
    return {box: kept for box, conjuncts in found.items() if (kept := {c for c in conjuncts if FALSE not in c})}


TRUE: Row = ((), (), 0, False)
FALSE: Row = ((), (), -1, False)


def _row(atom: Atom) -> Row:
    """An inequality in integers without a common divisor; one without variables is `TRUE` or `FALSE`."""
    sides = []
    for terms in (atom.input, atom.output):
        summed: dict[int, Fraction] = {}
        for i, c in terms:
            summed[i] = summed.get(i, Fraction(0)) + c
        sides.append({i: c for i, c in sorted(summed.items()) if c})
    numbers = [*sides[0].values(), *sides[1].values()]
    if not numbers:
        return TRUE if atom.threshold > 0 or (atom.threshold == 0 and not atom.strict) else FALSE
    scale = lcm(atom.threshold.denominator, *(c.denominator for c in numbers))
    common = gcd(*(int(c * scale) for c in numbers), int(atom.threshold * scale))
    whole = lambda x: int(x * scale) // common
    inputs, outputs = (tuple((i, whole(c)) for i, c in side.items()) for side in sides)
    return inputs, outputs, whole(atom.threshold), atom.strict


def _cut(box: Box, rows: Iterable[Row]) -> Box | None:
    """A box cut by bounds of single inputs; None if nothing is left."""
    ends = list(box)
    for ((i, c),), _, threshold, _ in rows:
        lo, hi = ends[i]
        end = Fraction(threshold, c)
        ends[i] = (lo, min(hi, end)) if c > 0 else (max(lo, end), hi)
    if any(lo > hi for lo, hi in ends) or any(_excludes(row, ends) for row in rows):
        return None
    return tuple(ends)


def _excludes(row: Row, ends: Sequence[tuple[Fraction, Fraction]]) -> bool:
    """Whether a strict bound leaves out the one point that an input has."""
    ((i, c),), _, threshold, strict = row
    return strict and ends[i][0] == ends[i][1] == Fraction(threshold, c)


def _says_more(row: Row, box: Box) -> bool:
    """Whether an inequality is more than the closed box says."""
    if len(row[0]) != 1 or row[1]:
        return True
    ((i, c),), _, threshold, strict = row
    return strict and box[i][c > 0] == Fraction(threshold, c)


def _difference(theirs: Normal, ours: Normal) -> str | None:
    for box, conjuncts in theirs.items():
        if box not in ours:
            return _other_box(box, ours)
        if more := conjuncts - ours[box]:
            return f"{_told(more)} is unsafe there, not in the certificate"
    for box, conjuncts in ours.items():
        if box not in theirs:
            return f"it lacks a box of the certificate, which has {len(ours)}"
        if more := conjuncts - theirs[box]:
            return f"{_told(more)} is unsafe in the certificate, not there"
    return None


def _other_box(box: Box, ours: Normal) -> str:
    """How a box of the text differs from the certificate's box that is most like it."""
    differing = lambda other: [i for i, (a, b) in enumerate(zip(box, other, strict=True)) if a != b]
    if not ours:
        return "it calls something unsafe, the certificate nothing"
    near = min(ours, key=lambda other: len(differing(other)))
    i = differing(near)[0]
    said = lambda ends: f"[{_short(ends[0])}, {_short(ends[1])}]"
    return f"X[{i}] is in {said(box[i])} there, in {said(near[i])} in the certificate"


def _told(conjuncts: set[frozenset[Row]]) -> str:
    """One conjunction in words, the same in every run."""
    rows = min(sorted(conjunct) for conjunct in conjuncts)
    return " and ".join(_inequality(row) for row in rows[:3]) + " …" * (len(rows) > 3) if rows else "every output"


def _inequality(row: Row) -> str:
    inputs, outputs, threshold, strict = row
    terms = list(_terms("X", inputs)) + list(_terms("Y", outputs))
    only = (*inputs, *outputs)[0][1] if len(terms) == 1 else 0
    if only:
        word = ("<" if only > 0 else ">") + "=" * (not strict)
        return f"{terms[0].split()[-1]} {word} {_short(Fraction(threshold, only))}"
    return f"{' + '.join(terms[:4])}{' + …' * (len(terms) > 4)} {'<' if strict else '<='} {_short(threshold)}"


def _terms(name: str, side: Iterable[tuple[int, int]]) -> Iterator[str]:
    for i, c in side:
        yield f"{name}[{i}]" if c == 1 else f"{_short(c)} {name}[{i}]"


def _short(value: Fraction | int) -> str:
    text = str(value)
    return text if len(text) <= 40 else f"{text[:36]}…"
