"""VNN-LIB 1.0 in: the file describes the unsafe points, and so does the `Property` it becomes.

Text becomes tokens, tokens become nested forms, each assert becomes a disjunction of
conjunctions of literals. A literal on one input is a side of a box; disjuncts that share a box
share a case. Everything else, also a strict `<` on an input, is an atom, so that exactly the
file's points are unsafe. Numbers are exact rationals.
"""

import gzip
import hashlib
import itertools
import os
import re
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from axiom_jax._errors import SpecError
from axiom_jax.verification.property import Atom, Case, Property

TOKEN = re.compile(r";[^\n]*|[()]|[^\s();]+")
NUMBER = re.compile(r"([+-]?)(\d*)\.?(\d*)(?:[eE]([+-]?\d{1,4}))?")
VARIABLE = re.compile(r"([XY])_(0|[1-9]\d{0,8})")
DEPTH = 200  # of parentheses
DISJUNCTS = 100_000  # after expansion
LITERALS = 2_000_000
ENDS = 20_000_000  # cases times inputs
TEXT = 20_000  # bytes of text that a property carries along
COMPARISONS = {"<=": (1, False), "<": (1, True), ">=": (-1, False), ">": (-1, True), "=": (0, False)}
SETTINGS = {"set-logic", "set-info", "set-option", "check-sat", "get-model", "exit"}  # no meaning for a property

Form = list[Any]  # the number of its "(", then its parts: forms, or the number of a token
Linear = tuple[dict[int, Fraction], Fraction]  # coefficients (input i as i, output j as −1 − j) and a constant


class Bound(NamedTuple):
    """x ≤ value if `upper`, else x ≥ value; < and > if `strict`. `token` says where it was written."""

    variable: int
    upper: bool
    value: Fraction
    strict: bool
    token: int


Literal = Bound | Atom
Conjunction = tuple[Literal, ...]


def read_vnnlib(path: str | os.PathLike[str], inputs: int | None = None, outputs: int | None = None) -> Property:
    """Read a VNN-LIB 1.0 file, `.vnnlib` or `.vnnlib.gz`.

    Args:
        path: the file.
        inputs, outputs: how many numbers the network takes and gives; inputs are flat, in C order. None for as many
            as the file declares.

    Returns:
        The property that no input meets all asserts; `sat` in VNN-LIB's words is a counterexample.

    Raises:
        SpecError: the file cannot be read, or `parse_vnnlib` refuses it.
    """
    source = os.fspath(path)
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        other = source.removesuffix(".gz") if source.endswith(".gz") else source + ".gz"
        raise SpecError(
            f"The property cannot be read: {error.strerror or error}.",
            at=source,
            fix=f"did you mean {other}?" if os.path.isfile(other) else "give the path of a .vnnlib file",
        ) from error
    if content[:2] == b"\x1f\x8b":
        try:
            content = gzip.decompress(content)
        except (OSError, EOFError, zlib.error) as error:
            raise SpecError(
                "The compressed property is damaged or cut short.", at=source, fix="fetch the file again"
            ) from error
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise SpecError(
            "The property is not text.",
            at=source,
            got=f"byte {error.start} is not UTF-8",
            fix="save it as UTF-8, or give the path of a .vnnlib file",
        ) from error
    return parse_vnnlib(text, inputs, outputs, source)


def parse_vnnlib(text: str, inputs: int | None = None, outputs: int | None = None, source: str = "") -> Property:
    """Parse VNN-LIB 1.0: declarations of `X_i` and `Y_j`, and asserts that together describe the unsafe points.

    Args:
        text: declare-const and assert forms; any nesting of and, or, not, =>; comparisons of
            linear expressions; decimals, exact.
        inputs, outputs: how many the network has; None takes what is declared.
        source: the file, for messages.

    Returns:
        Cases of a box each, with the disjunctions of atoms that are unsafe there.

    Raises:
        SpecError: with line and column: syntax, unknown or missing variables, products of
            variables, empty or unbounded boxes, asserts that cannot hold.

    Source: VNN-LIB 1.0, https://www.vnnlib.org; SMT-LIB 2.6 for the meaning of chains and `=>`.

    >>> spec = "(declare-const X_0 Real) (declare-const Y_0 Real)"
    >>> spec += "(assert (<= -1 X_0 0.1)) (assert (>= Y_0 (* 2 X_0)))"
    >>> case = parse_vnnlib(spec).cases[0]
    >>> print(case.lo[0], case.hi[0], *case.unsafe[0])
    -1 1/10 Atom(output=((0, Fraction(-1, 1)),), threshold=Fraction(0, 1), input=((0, Fraction(2, 1)),), strict=False)
    """
    script = _Script(text, source or "<text>")
    declared: dict[str, int] = {}
    asserts: list[Form] = []
    for form in script.forms():
        match script.head(form):
            case "declare-const" | "declare-fun":
                script.declare(form, declared)
            case "assert" if len(form) == 3:
                asserts.append(form[2])
            case "assert":
                raise script.error(form[0], "An assert takes one formula.", "write (assert (<= X_0 1))")
            case "vnnlib-version" | "declare-network":
                raise script.error(
                    form[0], "This is VNN-LIB 2.0, which is not supported yet.", "write the property in VNN-LIB 1.0"
                )
            case name if name not in SETTINGS:
                what = f"There is no command {name!r} in VNN-LIB 1.0."
                raise script.error(form[0], what, "use declare-const and assert")
    size = script.count(declared, "X", "input", inputs)
    script.count(declared, "Y", "output", outputs)
    names = {name: int(name[2:]) if name[0] == "X" else -1 - int(name[2:]) for name in declared}
    formulas = _Formulas(script, names)
    parts = [formulas.disjuncts(form) for form in asserts]
    for form, part in zip(asserts, parts, strict=True):
        if not part:
            raise script.error(_first(form), "This can never hold, so that nothing is left to verify.", "correct it")
    if not formulas.outputs_used:
        raise SpecError(
            "No assert speaks of an output.", at=script.source, fix="assert what is unsafe: (assert (>= Y_0 Y_1))"
        )
    places = [declared[f"X_{i}"] for i in range(size)]
    longest = max(zip(asserts, parts, strict=True), key=lambda pair: len(pair[1]), default=(0, []))[0]
    return Property(_cases(script, formulas, parts, places, _first(longest)), script.summary, source)


@dataclass(frozen=True)
class _Script:
    """A text and its tokens; knows lines and columns when an error asks for them."""

    text: str
    source: str

    @cached_property
    def tokens(self) -> list[str]:
        return [token for token in TOKEN.findall(self.text) if token[0] != ";"]

    @property
    def summary(self) -> str:
        content = self.text.encode()
        if len(content) <= TEXT:
            return self.text
        return f"VNN-LIB 1.0 text of {len(content)} bytes, sha256 {hashlib.sha256(content).hexdigest()}"

    def forms(self) -> list[Form]:
        """The top-level forms. Iterative, and bounded in depth, so that no input can exhaust the stack."""
        top: list[Form] = []
        stack: list[Form] = []
        for i, token in enumerate(self.tokens):
            if token == "(":
                if len(stack) == DEPTH:
                    raise self.error(i, f"Parentheses are nested deeper than {DEPTH}.", "flatten the formula")
                stack.append([i])
            elif token == ")":
                if not stack:
                    raise self.error(i, "This parenthesis closes nothing.", "remove it, or add the opening one")
                form = stack.pop()
                (stack[-1] if stack else top).append(form)
            elif stack:
                stack[-1].append(i)
            else:
                raise self.error(i, "A command starts with a parenthesis.", "write (declare-const …) or (assert …)")
        if stack:
            raise self.error(stack[0][0], "The text ends before this form is closed.", "add ), or fetch the file again")
        if not top:
            raise SpecError("The property is empty.", at=self.source, fix="declare variables and assert something")
        return top

    def head(self, form: Form) -> str:
        if len(form) == 1 or not isinstance(form[1], int):
            raise self.error(form[0], "A form starts with a word.", "write (assert …), (<= …) and the like")
        return self.tokens[form[1]]

    def declare(self, form: Form, declared: dict[str, int]) -> None:
        """Take `(declare-const X_0 Real)` or `(declare-fun X_0 () Real)`; notes where the name stands."""
        parts = [part for part in form[1:] if not (isinstance(part, list) and len(part) == 1)]
        places = [part for part in parts if isinstance(part, int)]
        if len(parts) != 3 or len(places) != 3 or self.tokens[places[2]] != "Real":
            raise self.error(form[0], "A declaration names one real variable.", "write (declare-const X_0 Real)")
        place = places[1]
        name = self.tokens[place]
        if not VARIABLE.fullmatch(name):
            raise self.error(place, "Variables are X_0, X_1, … for inputs and Y_0, Y_1, … for outputs.", "rename it")
        if name in declared:
            raise self.error(place, f"The variable {name} is declared twice.", "remove one declaration")
        declared[name] = place

    def count(self, declared: dict[str, int], letter: str, what: str, wanted: int | None) -> int:
        """How many variables of a letter are declared; compares with the network."""
        numbers = {int(name[2:]) for name in declared if name[0] == letter}
        if wanted is not None and len(numbers) != wanted:
            raise SpecError(
                f"The property does not fit the network, which has {wanted} {what}s.",
                at=self.source,
                got=f"{len(numbers)} {what}s declared",
                fix=f"declare {letter}_0 to {letter}_{wanted - 1}, or choose the network that it was written for",
            )
        gap = next((i for i in range(len(numbers) + 1) if i not in numbers), 0)
        if gap < len(numbers) or not numbers:
            raise SpecError(
                f"The variable {letter}_{gap} is not declared.",
                at=self.source,
                got=f"{len(numbers)} {what}s" + (f", the last one {letter}_{max(numbers)}" if numbers else ""),
                fix=f"number them from 0 without gaps: (declare-const {letter}_{gap} Real)",
            )
        return len(numbers)

    def error(self, token: int, what: str, fix: str) -> SpecError:
        """An error at a token, with its line and a caret below it."""
        matches = (match for match in TOKEN.finditer(self.text) if match[0][0] != ";")
        start = next(match for i, match in enumerate(matches) if i == token).start()
        first = self.text.rfind("\n", 0, start) + 1
        line = self.text[first:].split("\n", 1)[0].rstrip().replace("\t", " ")
        column = start - first
        left = max(0, column - 60)  # of a long line, the part around the place
        shown = ("…" if left else "") + line[left : left + 100] + ("…" if len(line) > left + 100 else "")
        caret = " " * (column - left + bool(left)) + "^"
        at = f"{self.source}:{self.text.count(chr(10), 0, start) + 1}:{column + 1}"
        return SpecError(what, at=at, got=f"{shown}\n{caret}", fix=fix)


class _Formulas:
    """Formulas as disjunctions of conjunctions of literals; numbers and variables are looked up once."""

    def __init__(self, script: _Script, names: dict[str, int]):
        self.script, self.names = script, names
        self.numbers: dict[str, Fraction] = {}
        self.outputs_used = False

    def disjuncts(self, part: Form | int, negate: bool = False) -> list[Conjunction]:
        """The disjunctive normal form of a formula, or of its negation; `[]` is false and `[()]` is true."""
        if isinstance(part, int):
            word = self.script.tokens[part]
            if word not in ("true", "false"):
                raise self.script.error(part, f"{word!r} is not a formula.", "compare it with something: (<= X_0 1)")
            return [()] if (word == "true") != negate else []
        word, operands = self.script.head(part), part[2:]
        if word in COMPARISONS:
            return self.comparison(word, part, negate)
        if word not in ("and", "or", "not", "=>"):
            raise self.script.error(
                part[0], f"{word!r} is not known as a formula.", "use and, or, not, =>, <=, <, >=, >, ="
            )
        if not operands or (word == "not" and len(operands) > 1) or (word == "=>" and len(operands) < 2):
            what = f"{word!r} does not take {len(operands)} operands."
            raise self.script.error(part[0], what, "complete the formula")
        flips = [negate != (word == "not" or (word == "=>" and i < len(operands) - 1)) for i in range(len(operands))]
        parts = [self.disjuncts(operand, flip) for operand, flip in zip(operands, flips, strict=True)]
        if word == "not" or (word == "and") == negate or (word == "=>" and not negate):
            return [conjunction for disjuncts in parts for conjunction in disjuncts]
        return self.conjoin(parts, part[0])

    def conjoin(self, parts: Iterable[list[Conjunction]], token: int) -> list[Conjunction]:
        """The conjunction of normal forms. Those of one disjunct are put in front, which keeps this linear in them."""
        front: list[Literal] = []
        product: list[Conjunction] = [()]
        for part in parts:
            if len(part) == 1:
                front += part[0]
                continue
            count = len(product) * len(part)
            size = sum(map(len, product)) * len(part) + sum(map(len, part)) * len(product)
            if count > DISJUNCTS or size > LITERALS:
                raise self.script.error(
                    token,
                    f"This expands to more than {DISJUNCTS} disjuncts or {LITERALS} comparisons.",
                    "split the property into several files",
                )
            product = [(*a, *b) for a in product for b in part]
        if len(front) * len(product) > LITERALS:
            raise self.script.error(
                token, f"This expands to more than {LITERALS} comparisons.", "split the property into several files"
            )
        return [(*front, *conjunction) for conjunction in product]

    def comparison(self, word: str, part: Form, negate: bool) -> list[Conjunction]:
        if len(part) < 4:
            raise self.script.error(part[0], f"{word!r} compares at least two terms.", "write (<= X_0 1)")
        sign, strict = COMPARISONS[word]
        if len(part) == 4 and sign and not negate and (literal := self.simple(part, sign, strict)):
            return [(literal,)]
        terms = [self.linear(operand) for operand in part[2:]]
        literals: list[Literal | bool] = []
        for left, right in itertools.pairwise(terms):
            for side in (sign,) if sign else (1, -1):
                side, strictly = (-side, not strict) if negate else (side, strict)
                literals.append(self.literal(left, right, side, strictly, part[0]))
        if negate:  # one link of the chain is broken
            return [() if literal is True else (literal,) for literal in literals if literal is not False]
        if False in literals:
            return []
        return [tuple(literal for literal in literals if not isinstance(literal, bool))]

    def simple(self, part: Form, sign: int, strict: bool) -> Literal | None:
        """`(<= X_0 1)` at once: most of a file is this, and it has thousands."""
        _, _, left, right = part
        if not isinstance(left, int) or not isinstance(right, int):
            return None
        name, word = self.script.tokens[left], self.script.tokens[right]
        if name not in self.names or word in self.names:
            return None
        variable, value = self.names[name], self.number(word, right)
        if variable >= 0:
            return Bound(variable, sign > 0, value, strict, part[0])
        self.outputs_used = True
        return Atom(((-1 - variable, Fraction(sign)),), value if sign > 0 else -value, (), strict)

    def literal(self, left: Linear, right: Linear, side: int, strict: bool, token: int) -> Literal | bool:
        """left ≤ right for `side` 1, left ≥ right for −1; a truth value if no variable is left."""
        if side < 0:
            left, right = right, left
        coefficients = dict(left[0])
        for variable, c in right[0].items():
            coefficients[variable] = coefficients.get(variable, 0) - c
        coefficients = {variable: c for variable, c in coefficients.items() if c}
        threshold = right[1] - left[1]
        if not coefficients:
            return threshold > 0 or (threshold == 0 and not strict)
        if len(coefficients) == 1:
            (variable, c), *_ = coefficients.items()
            if variable >= 0:
                return Bound(variable, c > 0, threshold / c, strict, token)
        pairs = sorted(coefficients.items())
        y = tuple(sorted((-1 - variable, c) for variable, c in pairs if variable < 0))
        self.outputs_used = self.outputs_used or bool(y)
        return Atom(y, threshold, tuple((variable, c) for variable, c in pairs if variable >= 0), strict)

    def linear(self, part: Form | int) -> Linear:
        """A linear expression: numbers, variables, + − * /."""
        if isinstance(part, int):
            word = self.script.tokens[part]
            if word in self.names:
                return {self.names[word]: Fraction(1)}, Fraction(0)
            return {}, self.number(word, part)
        word = self.script.head(part)
        if word not in ("+", "-", "*", "/") or len(part) < 3:
            raise self.script.error(part[0], f"{word!r} is not a linear term.", "use numbers, X_i, Y_j, + - * /")
        total, *rest = [self.linear(operand) for operand in part[2:]]
        if word in "+-":
            if word == "-" and not rest:
                return _scaled(total, Fraction(-1))
            for term in rest:
                total = _plus(total, term if word == "+" else _scaled(term, Fraction(-1)))
            return total
        for term in rest:
            if word == "/" and (term[0] or not term[1]):
                raise self.script.error(part[0], "The divisor is not a number other than 0.", "divide by a constant")
            if total[0] and term[0]:
                raise self.script.error(part[0], "A product of variables is not linear.", "multiply by constants only")
            total, factor = (total, term[1]) if not term[0] else (term, total[1])
            total = _scaled(total, factor if word == "*" else 1 / factor)
        return total

    def number(self, word: str, token: int) -> Fraction:
        if word in self.numbers:
            return self.numbers[word]
        match = NUMBER.fullmatch(word) if len(word) <= 1000 else None
        if match is None or not (match[2] or match[3]):
            if VARIABLE.fullmatch(word):
                fix = f"add (declare-const {word} Real)"
                raise self.script.error(token, f"The variable {word} is not declared.", fix)
            raise self.script.error(token, f"{word[:40]!r} is neither a variable nor a number.", "write 0.5 or 1e-3")
        value = Fraction(int(match[2] + match[3]), 10 ** len(match[3]))
        if match[4]:
            value *= Fraction(10) ** int(match[4])
        self.numbers[word] = -value if match[1] == "-" else value
        return self.numbers[word]


def _plus(a: Linear, b: Linear) -> Linear:
    return {v: a[0].get(v, Fraction(0)) + b[0].get(v, Fraction(0)) for v in {**a[0], **b[0]}}, a[1] + b[1]


def _scaled(a: Linear, factor: Fraction) -> Linear:
    return {v: c * factor for v, c in a[0].items()}, a[1] * factor


def _first(part: Form | int) -> int:
    return part if isinstance(part, int) else part[0]


Ends = tuple[Fraction | None, Fraction | None]


def _cases(
    script: _Script, formulas: _Formulas, parts: Sequence[list[Conjunction]], declared: Sequence[int], widest: int
) -> tuple[Case, ...]:
    """All asserts together: a case for every box, with the disjuncts that have this box.

    Args:
        parts: the normal form of each assert.
        declared: the token that declares each input.
        widest: the token to point at when there are too many disjuncts.
    """
    shared = [literal for part in parts if len(part) == 1 for literal in part[0]]
    box: dict[int, Ends] = dict.fromkeys(range(len(declared)), (None, None))
    for bound in (literal for literal in shared if isinstance(literal, Bound)):
        box[bound.variable] = _tightened(box[bound.variable], bound)
        if _empty(box[bound.variable]):
            what = f"The bounds of X_{bound.variable} exclude each other: the box is empty."
            raise script.error(bound.token, what, "swap the bounds")
    atoms = tuple(literal for literal in shared if isinstance(literal, Atom))
    open_ends = [literal for literal in shared if isinstance(literal, Bound) and literal.strict]
    groups: dict[tuple[tuple[int, Ends], ...], list[tuple[Atom, ...]]] = {}
    disjuncts = formulas.conjoin((part for part in parts if len(part) != 1), widest)
    if len(disjuncts) * len(atoms) > LITERALS:
        raise script.error(widest, f"This expands to more than {LITERALS} comparisons.", "split it into several files")
    for conjunction in disjuncts:
        own: dict[int, Ends] = {}
        for literal in conjunction:
            if isinstance(literal, Bound):
                own[literal.variable] = _tightened(own.get(literal.variable) or box[literal.variable], literal)
        bounds = [*open_ends, *(b for b in conjunction if isinstance(b, Bound) and b.strict)]
        strict = [b for b in bounds if (own.get(b.variable) or box[b.variable])[b.upper] == b.value]
        if any(map(_empty, own.values())) or any(_point(own.get(b.variable) or box[b.variable]) for b in strict):
            continue  # this disjunct holds nowhere
        key = tuple((variable, own[variable]) for variable in sorted(own) if own[variable] != box[variable])
        edges = (_edge(bound) for bound in strict)
        groups.setdefault(key, []).append((*atoms, *(a for a in conjunction if isinstance(a, Atom)), *edges))
    if not groups:
        raise SpecError(
            "No input meets the asserts: the box of every disjunct is empty.",
            at=script.source,
            fix="correct the bounds: nothing is left to verify",
        )
    if len(groups) * len(declared) > ENDS:
        raise SpecError(
            f"The property has {len(groups)} boxes of {len(declared)} inputs, which is too much.",
            at=script.source,
            fix="split it into several files",
        )
    cases = []
    for key, unsafe in groups.items():
        los, his = [], []
        for variable, (lo, hi) in (box | dict(key)).items():
            if lo is None or hi is None:
                raise script.error(
                    declared[variable],
                    f"The input X_{variable} has no {'lower' if lo is None else 'upper'} bound.",
                    f"assert one: (assert ({'>=' if lo is None else '<='} X_{variable} …))",
                )
            los.append(lo)
            his.append(hi)
        cases.append(Case(tuple(los), tuple(his), tuple(unsafe)))
    return tuple(cases)


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
