"""The text of the Coq file: the fixed prelude, this network, its regions, the theorem, the proof."""

import re
import textwrap
from collections.abc import Iterable, Sequence
from fractions import Fraction
from pathlib import Path

from axiom_jax.verification import checker
from axiom_jax.verification.proof.coq.integers import Arithmetic
from axiom_jax.verification.proof.coq.lines import Line, Lines
from axiom_jax.verification.proof.coq.planning import Term

PRELUDE = Path(__file__).with_name("prelude.v")
THEOREM = "certified"
LONGEST = 2000  # characters of what others wrote that a comment repeats
RULER = "-" * 109


def comment(text: str) -> str:
    r"""Text as the inside of a Coq comment: it can neither close it nor open another one, nor a string.

    >>> print(comment('x *) Axiom a : False. (* "'))
    x * ) Axiom a : False. ( * ''
    """
    text = "".join(c if c.isprintable() else " " for c in text[:LONGEST]).replace('"', "''")
    return re.sub(r"\*(?=\))|\((?=\*)", r"\g<0> ", text)


def heading(text: str, *, sha256: str, statement: str, model: str, tensors: str) -> str:
    """The comment at the top of the file."""
    said = ("property", text), ("model", model), ("program", f"sha256 {tensors}"), ("certificate", f"sha256 {sha256}")
    body = "\n".join(f"   {word:<12} {comment(line)}" for word, line in said)
    how = "coqc 8.16 compiles this file; it needs nothing but Coq's standard library."
    return f"(* {comment(statement)}\n\n{body}\n\n   {how} *)\n\n"


def document(head: str, arithmetic: Arithmetic, cases: Sequence[checker.Case], trees: Sequence[Term]) -> str:
    """The whole file."""
    network = arithmetic.network
    parts = [
        head,
        PRELUDE.read_text(encoding="utf-8"),
        f"\n(* {RULER}\n   4. This network, these regions, and the theorem.\n   {RULER} *)\n",
        _network(network),
        _cases(cases),
        f"\n(* {RULER}\n   5. The proof. Nothing here need be read.\n   {RULER} *)\n",
        f"Definition trees : list tree := {_list(map(_tree, trees))}.\n\n",
        _theorem(arithmetic),
    ]
    return "".join(parts)


def _theorem(arithmetic: Arithmetic) -> str:
    return f"""(* In no region does the network have an output that is unsafe. *)
Theorem {THEOREM} : forall c, In c cases ->
  forall x : list R, in_region (region c) x -> ~ unsafe (condition c) x (network x).
Proof.
  apply (checked {arithmetic.grid} {arithmetic.scale} lines {arithmetic.network.outputs} cases trees).
  vm_cast_no_check (eq_refl true).
Qed.

Print Assumptions {THEOREM}.
"""


def _network(network: Lines) -> str:
    """The lines, and the function that they make."""
    count = network.inputs
    said = f"(* Numbers 0 to {count - 1} are the inputs, number {count} is the value of the first line, and so on. *)\n"
    lines = ";\n".join(f"  {_line(line)}" for line in network.lines)
    function = f"Definition network (x : list R) : list R := outputs lines {network.outputs} x.\n"
    return f"{said}Definition lines : list line := [\n{lines}]%Z.\n\n{function}\n"


def _line(line: Line) -> str:
    weights = "; ".join(map(str, line.weights))
    kind = "true" if line.rectified else "false"
    where = f"(* node {line.node} [{line.element}] *)"
    text = f"Line {kind} {line.over} ({line.constant}) {line.first} [{weights}] {where}"
    return textwrap.fill(text, 118, subsequent_indent="    ", break_long_words=False, break_on_hyphens=False)


def _cases(cases: Sequence[checker.Case]) -> str:
    names = []
    text = []
    for k, case in enumerate(cases):
        lo, hi, low, high = case.ends
        box = zip(map(min, lo, low), map(max, hi, high), strict=True)
        text.append(f"Definition case_{k} : case := Case\n")
        text.append(f"  {_list((f'({_rational(a)}, {_rational(b)})' for a, b in box), 4)}%Q\n")
        text.append(f"  {_list((_list(map(_atom, disjunct), 4) for disjunct in case.unsafe), 4)}.\n")
        names.append(f"case_{k}")
    return "".join(text) + f"Definition cases : list case := {_list(names)}.\n"


def _atom(atom: checker.Atom) -> str:
    sides = (f"{_list(f'({i}%nat, {_rational(c)})' for i, c in side)}%Q" for side in atom.sides)
    strict = "true" if atom.strict else "false"
    return f"Atom {' '.join(sides)} {strict} {_rational(atom.threshold)}%Q"


def _rational(value: Fraction) -> str:
    return f"({value.numerator} # {value.denominator})"


def _list(items: Iterable[str], indent: int = 2) -> str:
    """A list of Coq, an item a line if it is long."""
    items = list(items)
    return f"[{'; '.join(items)}]" if sum(map(len, items)) < 80 else f"[{(';' + chr(10) + ' ' * indent).join(items)}]"


def _tree(term: Term) -> str:
    """A tree; written without recursion, for it may be deep."""
    written: list[str] = []
    stack: list[Term | str] = [term]
    while stack:
        part = stack.pop()
        if isinstance(part, str):
            written.append(part)
            continue
        name, *arguments = part
        subtrees = [a for a in arguments if isinstance(a, tuple)]
        plain = " ".join([name, *(_plain(a) for a in arguments if not isinstance(a, tuple))])
        written.append(plain if not subtrees else f"{plain}\n ")
        for tree in reversed(subtrees):
            stack += [")", tree, "("]
    return "".join(written)


def _plain(argument: object) -> str:
    if isinstance(argument, list):
        return f"[{'; '.join(map(_row, argument))}]%Z"
    return f"({argument})"


def _row(row: object) -> str:
    if isinstance(row, bool):
        return "true" if row else "false"
    if row is None:
        return "None"
    nus, hints = row  # pyright: ignore[reportGeneralTypeIssues]
    return f"Some ([{'; '.join(map(str, nus))}], [{'; '.join(map(str, hints))}])"
