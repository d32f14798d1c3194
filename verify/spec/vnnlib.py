"""VNN-LIB in: the file describes the unsafe points, and so does the `Property` it becomes.

Text becomes tokens, tokens become nested forms (`vnnlib_script`), each assert becomes a disjunction
of conjunctions of literals (`vnnlib_formulas`), and these become cases of boxes (`vnnlib_cases`).
Here version 1.0, one network of flat inputs `X_i` and outputs `Y_j`; version 2.0 is in `vnnlib2`.
"""

import os
import re
from collections.abc import Callable, Mapping, Sequence

from axiom_jax._errors import SpecError
from axiom_jax.verification.property import Property
from axiom_jax.verification.spec.vnnlib_cases import cases_of
from axiom_jax.verification.spec.vnnlib_formulas import Formulas
from axiom_jax.verification.spec.vnnlib_script import DECLARATION, Form, Script, read_text

VARIABLE = re.compile(r"([XY])_(0|[1-9]\d{0,8})")
SETTINGS = {"set-logic", "set-info", "set-option", "check-sat", "get-model", "exit"}  # no meaning for a property


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
    return parse_vnnlib(read_text(path), inputs, outputs, os.fspath(path))


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
            variables, empty or unbounded boxes, asserts that cannot hold; or the text is VNN-LIB 2.0, whose
            networks `vnnlib2.parse_query` reads.

    Source: VNN-LIB 1.0, https://www.vnnlib.org; SMT-LIB 2.6 for the meaning of chains and `=>`.

    >>> spec = "(declare-const X_0 Real) (declare-const Y_0 Real)"
    >>> spec += "(assert (<= -1 X_0 0.1)) (assert (>= Y_0 (* 2 X_0)))"
    >>> case = parse_vnnlib(spec).cases[0]
    >>> print(case.lo[0], case.hi[0], *case.unsafe[0])
    -1 1/10 Atom(output=((0, Fraction(-1, 1)),), threshold=Fraction(0, 1), input=((0, Fraction(2, 1)),), strict=False)
    """
    script = Script(text, source)
    declared, asserts = declarations(script)
    names, labels, given = flat_names(script, declared, inputs, outputs)
    formulas = Formulas(script, names, given, undeclared)
    return asserted(script, formulas, asserts, labels, "1.0")


def declarations(script: Script) -> tuple[dict[str, int], list[Form | int]]:
    """The declared variables of a VNN-LIB 1.0 text with the tokens that declare them, and what is asserted."""
    declared: dict[str, int] = {}
    asserts: list[Form | int] = []
    for form in script.forms():
        if isinstance(form, int):
            if (found := DECLARATION.fullmatch(script.tokens[form])) is None:
                asserts.append(form)
            else:
                _declare(script, form, found[1], declared)
            continue
        match script.head(form):
            case "declare-const" | "declare-fun":
                _declare(script, *_declaration(script, form), declared)
            case "assert":
                asserts.append(assertion(script, form))
            case "vnnlib-version" | "declare-network":
                what = "This is VNN-LIB 2.0, which speaks of networks."
                raise script.error(form[0], what, "read it with axiom_jax.verification.spec.read_query")
            case name if name not in SETTINGS:
                what = f"There is no command {name!r} in VNN-LIB 1.0."
                raise script.error(form[0], what, "use declare-const and assert")
    return declared, asserts


def flat_names(
    script: Script, declared: Mapping[str, int], inputs: int | None, outputs: int | None
) -> tuple[dict[str, int], list[tuple[str, int]], int]:
    """The numbers of the variables of VNN-LIB 1.0, the inputs with the tokens that declare them, how many outputs."""
    size = _count(script, declared, "X", "input", inputs)
    given = _count(script, declared, "Y", "output", outputs)
    names = {name: int(name[2:]) if name[0] == "X" else -1 - int(name[2:]) for name in declared}
    return names, [(f"X_{i}", declared[f"X_{i}"]) for i in range(size)], given


def assertion(script: Script, form: Form) -> Form | int:
    """The one formula of `(assert …)`."""
    if len(form) != 3:
        raise script.error(form[0], "An assert takes one formula.", "write (assert (<= X_0 1))")
    return form[2]


def asserted(
    script: Script,
    formulas: Formulas,
    asserts: Sequence[Form | int],
    inputs: Sequence[tuple[str, int]],
    version: str,
    example: Callable[[], str] = lambda: "(>= Y_0 Y_1)",
) -> Property:
    """All asserts as one property.

    Args:
        inputs: name of each input, and the token that declares it.
        example: a condition on outputs, for messages.
    """
    parts = [formulas.disjuncts(form) for form in asserts]
    first = lambda part: part if isinstance(part, int) else part[0]
    for form, part in zip(asserts, parts, strict=True):
        if not part:
            raise script.error(first(form), "This can never hold, so that nothing is left to verify.", "correct it")
    if not formulas.outputs_used:
        raise SpecError(
            "No assert speaks of an output.", at=script.place, fix=f"assert what is unsafe: (assert {example()})"
        )
    longest = max(zip(asserts, parts, strict=True), key=lambda pair: len(pair[1]))[0]
    return Property(cases_of(script, formulas, parts, inputs, first(longest)), script.summary(version), script.source)


def _declaration(script: Script, form: Form) -> tuple[int, str]:
    """Take `(declare-const X_0 Real)` or `(declare-fun X_0 () Real)`: where the name stands, and the name."""
    parts = [part for part in form[1:] if not (isinstance(part, list) and len(part) == 1)]
    places = [part for part in parts if isinstance(part, int)]
    if len(parts) != 3 or len(places) != 3 or script.tokens[places[2]] != "Real":
        raise script.error(form[0], "A declaration names one real variable.", "write (declare-const X_0 Real)")
    return places[1], script.tokens[places[1]]


def _declare(script: Script, place: int, name: str, declared: dict[str, int]) -> None:
    if not VARIABLE.fullmatch(name):
        what = "Variables are X_0, X_1, … for inputs and Y_0, Y_1, … for outputs."
        raise script.error(place, what, "rename it", name)
    if name in declared:
        raise script.error(place, f"The variable {name} is declared twice.", "remove one declaration", name)
    declared[name] = place


def undeclared(word: str) -> tuple[str, str] | None:
    """What to say of a word that looks like a variable of VNN-LIB 1.0."""
    if not VARIABLE.fullmatch(word):
        return None
    return f"The variable {word} is not declared.", f"add (declare-const {word} Real)"


def _count(script: Script, declared: Mapping[str, int], letter: str, what: str, wanted: int | None) -> int:
    """How many variables of a letter are declared; compares with the network."""
    numbers = {int(name[2:]) for name in declared if name[0] == letter}
    if wanted is not None and len(numbers) != wanted:
        raise SpecError(
            f"The property does not fit the network, which has {wanted} {what}s.",
            at=script.place,
            got=f"{len(numbers)} {what}s declared",
            fix=f"declare {letter}_0 to {letter}_{wanted - 1}, or choose the network that it was written for",
        )
    gap = next((i for i in range(len(numbers) + 1) if i not in numbers), 0)
    if gap < len(numbers) or not numbers:
        raise SpecError(
            f"The variable {letter}_{gap} is not declared.",
            at=script.place,
            got=f"{len(numbers)} {what}s" + (f", the last one {letter}_{max(numbers)}" if numbers else ""),
            fix=f"number them from 0 without gaps: (declare-const {letter}_{gap} Real)",
        )
    return len(numbers)
