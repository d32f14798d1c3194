"""Reading the notation: text to trees by the grammar in grammar.lark, with a caret under what is wrong."""

import functools
import itertools
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

from axiom_jax._errors import SpecError
from axiom_jax.verification.spec.syntax import (
    NOWHERE,
    Arithmetic,
    BallSet,
    Call,
    Comparison,
    Connective,
    Index,
    Interval,
    Member,
    Name,
    Negative,
    Norm,
    Not,
    Number,
    Quantified,
    Region,
    Related,
    Span,
    Tree,
)

LONGEST = 20_000  # characters of a statement
SPELLINGS = {"≤": "<=", "⩽": "<=", "≥": ">=", "⩾": ">=", "≠": "!=", "=": "==", "~=": "≈", "−": "-", "·": "*",
             "×": "*", "÷": "/", "**": "^", "∀": "forall", "∃": "exists", "for all": "forall",
             "there exists": "exists"}  # fmt: skip
SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹ⁿ", "0123456789n")


def parse(text: str, at: str | None = None) -> Tree:
    """Read a statement.

    Args:
        text: say "∀x ∈ [0, 1]. sigmoid(x) >= 0.5", or "forall x in [0, 1]. ..." in ASCII.
        at: the user's line, for errors.

    Raises:
        SpecError: a syntax error, with a caret under its place and a fix.

    >>> from axiom_jax.verification.spec.syntax import show
    >>> show(parse("forall x in [0,1]. not sigmoid(x) < 1/2"))
    '∀x ∈ [0, 1]. ¬sigmoid(x) < 1 / 2'
    """
    import lark

    if len(text) > LONGEST:
        raise SpecError("The statement is too long.", at=at, got=f"{len(text):,} characters",
                        fix=f"stay below {LONGEST:,}: give parts of it as functions")  # fmt: skip
    try:
        parser, builder = _reading()
        return builder.transform(parser.parse(text))
    except lark.UnexpectedInput as error:
        raise _syntax_error(text, error, at) from None
    except lark.exceptions.VisitError as error:
        if isinstance(error.orig_exc, _Misread):
            what, span, fix = error.orig_exc.args
            raise problem(what, text, span, fix, at) from None
        raise error.orig_exc from None


def problem(what: str, text: str, span: Span, fix: str, at: str | None = None, about: str | None = None) -> SpecError:
    """The error for a place in a statement: its line, and a caret under the place."""
    start = text.rfind("\n", 0, span[0]) + 1
    end = text.find("\n", span[0])
    line = text[start : end if end >= 0 else len(text)]
    column = span[0] - start
    width = max(1, min(span[1], start + len(line)) - span[0])
    first = max(0, column - 60)  # a long line is cut around the place
    shown = ("…" if first else "") + line[first : first + 110] + ("…" if len(line) > first + 110 else "")
    marks = " " * (column - first + bool(first)) + "^" * min(width, 110 - (column - first))
    got = shown + "\n" + marks + (f"\n{about}" if about else "")
    return SpecError(what, at=at, got=got, fix=fix)


class _Misread(Exception):
    """What the grammar lets through: what, where, fix."""


@functools.cache
def _reading() -> tuple[Any, Any]:
    """The parser, and what makes trees of its parses."""
    import lark

    grammar = Path(__file__).with_name("grammar.lark").read_text(encoding="utf-8")
    return lark.Lark(grammar, parser="lalr", propagate_positions=True, maybe_placeholders=False), _builder()


def _builder() -> Any:
    """From parses to trees, bottom up; a deep formula costs no recursion."""
    import lark

    span = lambda meta: (meta.start_pos, meta.end_pos) if not meta.empty else NOWHERE

    @lark.v_args(meta=True)
    class Builder(lark.visitors.Transformer_NonRecursive):
        def number(self, meta: Any, parts: Any) -> Tree:
            return Number(_number(parts[0]), span(meta))

        def name(self, meta: Any, parts: Any) -> Tree:
            return Name(str(parts[0]), span(meta))

        def grouped(self, meta: Any, parts: Any) -> Tree:
            return next(part for part in parts if not isinstance(part, lark.Token))

        def option(self, meta: Any, parts: Any) -> Any:
            return (str(parts[0]), parts[-1])

        def call(self, meta: Any, parts: Any) -> Tree:
            name, *rest = _bare(parts)
            options = tuple(p for p in rest if isinstance(p, tuple))
            if any(isinstance(a, tuple) and not isinstance(b, tuple) for a, b in itertools.pairwise(rest)):
                raise _Misread("An argument stands behind an option.", span(meta), "write options last: f(x, axis=0)")
            return Call(str(name), tuple(p for p in rest if not isinstance(p, tuple)), options, span(meta))

        def absolute(self, meta: Any, parts: Any) -> Tree:
            return Call("abs", (parts[0],), (), span(meta))

        def total(self, meta: Any, parts: Any) -> Tree:
            return Call("sum", (parts[1],), (), span(meta))

        def root(self, meta: Any, parts: Any) -> Tree:
            return Call("sqrt", (parts[1],), (), span(meta))

        def norm(self, meta: Any, parts: Any) -> Tree:
            operand = next(p for p in parts if not isinstance(p, lark.Token))
            order = parts[-1] if isinstance(parts[-1], lark.Token) and parts[-1].type == "ORDER" else "_2"
            orders: dict[str, Literal[1, 2, "inf"]] = {"_1": 1, "₁": 1, "_2": 2, "₂": 2}
            return Norm(operand, orders.get(str(order), "inf"), span(meta))

        def raised(self, meta: Any, parts: Any) -> Tree:
            exponent = str(parts[1]).translate(SUPERSCRIPTS)
            power = Number(Fraction(int(exponent))) if exponent.isdigit() else Name(exponent)
            return Arithmetic("^", parts[0], power, span(meta))

        def index(self, meta: Any, parts: Any) -> Tree:
            found = [p for p in parts if not isinstance(p, lark.Token)]
            return Index(found[0], tuple(found[1:]), span(meta))

        def negative(self, meta: Any, parts: Any) -> Tree:
            return Negative(parts[1], span(meta))

        def positive(self, meta: Any, parts: Any) -> Tree:
            return parts[1]

        def power(self, meta: Any, parts: Any) -> Tree:
            return Arithmetic("^", parts[0], parts[-1], span(meta))

        def arithmetic(self, meta: Any, parts: Any) -> Tree:
            op = str(parts[1])
            return Arithmetic(SPELLINGS.get(op, op), parts[0], parts[2], span(meta))

        def relation(self, meta: Any, parts: Any) -> Any:
            op = str(parts[0])
            return (SPELLINGS.get(op, op), parts[1], None)

        def approximation(self, meta: Any, parts: Any) -> Any:
            return ("≈", parts[1], parts[2] if len(parts) > 2 else None)

        def comparison(self, meta: Any, parts: Any) -> Tree:
            return Comparison(parts[0], tuple(parts[1:]), span(meta))

        def member(self, meta: Any, parts: Any) -> Tree:
            region = Region(parts[1].set, None, span(meta))
            return Member(parts[0], region, span(meta))

        def negation(self, meta: Any, parts: Any) -> Tree:
            return Not(parts[0], span(meta))

        def conjunction(self, meta: Any, parts: Any) -> Tree:
            return Connective("and", parts[0], parts[1], span(meta))

        def disjunction(self, meta: Any, parts: Any) -> Tree:
            return Connective("or", parts[0], parts[1], span(meta))

        def implies(self, meta: Any, parts: Any) -> Tree:
            return Connective("implies", parts[0], parts[1], span(meta))

        def iff(self, meta: Any, parts: Any) -> Tree:
            return Connective("iff", parts[0], parts[1], span(meta))

        def reals(self, meta: Any, parts: Any) -> Region:
            return Region(None, None, span(meta))

        def interval(self, meta: Any, parts: Any) -> Region:
            left, lo, hi, right = parts
            return Region(Interval(lo, hi, str(left) == "(", str(right) == ")"), None, span(meta))

        def ball(self, meta: Any, parts: Any) -> Region:
            name, *rest = _bare(parts)
            return Region(_ball(str(name), rest, span(meta)), None, span(meta))

        def named_region(self, meta: Any, parts: Any) -> Region:
            return Region(Name(str(parts[0]), span(meta)), None, span(meta))

        def sizes(self, meta: Any, parts: Any) -> Any:
            found = [p for p in parts if p is not None and p.type not in ("CIRCUMFLEX", "LPAR", "RPAR")]
            return tuple(_size(part, span(meta)) for part in found)

        def raised_sizes(self, meta: Any, parts: Any) -> Any:
            digits = str(parts[0]).translate(SUPERSCRIPTS)
            return (int(digits) if digits.isdigit() else digits,)

        def lives_in(self, meta: Any, parts: Any) -> Region:
            shape = parts[1] if len(parts) > 1 else None
            return Region(parts[0].set, shape, span(meta))

        def related(self, meta: Any, parts: Any) -> Related:
            op = str(parts[0])
            return Related(SPELLINGS.get(op, op), parts[1])

        def binding(self, meta: Any, parts: Any) -> Any:
            quantifier = next((str(p) for p in parts if isinstance(p, lark.Token) and p.type == "QUANTIFIER"), None)
            name = next(p for p in parts if isinstance(p, lark.Token) and p.type == "NAME")
            return quantifier, str(name), parts[-1] if not isinstance(parts[-1], lark.Token) else None, span(meta)

        def bindings(self, meta: Any, parts: Any) -> Any:
            return parts

        def quantified(self, meta: Any, parts: Any) -> Tree:
            return _quantified(parts[0], parts[1], span(meta)[1])

    return Builder()


def _bare(parts: Any) -> list[Any]:
    """Without the brackets."""
    return [p for p in parts if getattr(p, "type", None) not in ("LPAR", "RPAR")]


def _number(token: Any) -> Fraction:
    digits, _, exponent = str(token).lower().partition("e")
    if exponent and abs(int(exponent)) > 4000:
        raise _Misread("The exponent is out of all measure.", (token.start_pos, token.end_pos), "stay within e±4000")
    return Fraction(digits) * Fraction(10) ** int(exponent or 0)


def _size(token: Any, span: Span) -> int | str:
    if token.type == "NAME":
        return str(token)
    if not str(token).isdigit() or int(token) < 1:
        raise _Misread("A size is a whole number of at least 1, or a name.", span, "write [0, 1]^784 or R^n")
    return int(token)


def _ball(name: str, parts: list[Any], span: Span) -> BallSet:
    if name.lower() != "ball":
        raise _Misread(f"There is no set called {name}.", span, "write ball(center, radius) or ball(center, radius, 2)")
    if len(parts) not in (2, 3) or any(isinstance(p, tuple) for p in parts[:2]):
        raise _Misread("A ball has a centre, a radius, and perhaps the order of its norm.", span, "ball(x0, 0.1, 2)")
    order = parts[2][1] if len(parts) == 3 and isinstance(parts[2], tuple) else parts[2] if len(parts) == 3 else None
    orders: dict[Any, Literal[1, 2, "inf"]] = {
        None: "inf", Number(Fraction(1)): 1, Number(Fraction(2)): 2, Name("inf"): "inf", Name("Linf"): "inf"
    }  # fmt: skip
    if order not in orders:
        raise _Misread("A ball's norm has order 1, 2 or inf.", span, "write ball(x0, 0.1, 2)")
    return BallSet(parts[0], parts[1], orders[order])


def _quantified(bindings: list[Any], body: Tree, end: int) -> Tree:
    """Nested quantifiers; a variable without a domain of its own shares that of the next one in its list."""
    domain = None
    found = []
    follows = True  # whether the binding behind this one begins anew, with a quantifier
    for quantifier, name, own, span in reversed(bindings):
        domain = own if own is not None else None if follows else domain
        found.append((name, domain, span))
        follows = quantifier is not None
    quantifiers: list[str] = []
    for quantifier, *_ in bindings:
        quantifiers.append(str(SPELLINGS.get(quantifier, quantifier)) if quantifier else quantifiers[-1])
    for (name, where, span), kind in zip(found, reversed(quantifiers), strict=True):
        body = Quantified("exists" if kind == "exists" else "forall", name, where, body, (span[0], end))
    return body


def _syntax_error(text: str, error: Any, at: str | None) -> SpecError:
    """The parser's error in words."""
    import lark

    token = error.token if isinstance(error, lark.UnexpectedToken) else None
    found: Any = getattr(error, "accepts", None) or getattr(error, "expected", None) or getattr(error, "allowed", ())
    expected: set[str] = set(found)
    if token is not None and token.type == "$END":
        place = (len(text.rstrip()), len(text.rstrip()) + 1)
        if not text.strip():
            return problem("There is no statement.", text, place, 'write one: "∀x. 0 <= sigmoid(x) <= 1"', at)
        return problem("The statement ends too early.", text, place, _missing(expected, text), at)
    start = error.pos_in_stream or 0
    word = str(token) if token is not None else text[start]
    place = (start, start + len(word))
    before = text[:start].rstrip()
    if word in ("&", "&&", "!", "%", "'", '"', "{", "}", ";", "$", "#", "?", "\\", "`", "~"):
        fixes = {"&": "write ∧ or and", "&&": "write ∧ or and", "!": "write ¬ or not", "~": "write ¬ or not"}
        return problem(f"{word} has no meaning here.", text, place, fixes.get(word, f"take {word} out"), at)
    if "_STOP" in expected:
        return problem("A dot is missing after the quantifiers.", text, place,
                       f"write {before}. {text[start:].strip()[:40]}", at)  # fmt: skip
    if before and (before[-1].isdigit() or before[-1] in ")]") and (word[0].isalpha() or word[0] == "("):
        return problem(f"{word} was not expected here.", text, place, f"multiplication is written: * {word}", at)
    if (word in ("=", "==") and "EQUAL" not in expected) or word == "||":
        fix = (
            "compare two sides: f(x) = g(x)"
            if word != "||"
            else "write ∨ or or; bars within bars need a blank: | |x| |"
        )
        return problem(f"{word} was not expected here.", text, place, fix, at)
    return problem(f"{word} was not expected here.", text, place, _missing(expected, text), at)


def _missing(expected: set[str], text: str) -> str:
    """A fix by what the parser would take."""
    if "_STOP" in expected:
        return f"write a dot after the quantifiers, then the condition: {text.strip()}. x >= 0"
    if "NUMBER" in expected and "NAME" in expected:
        return "put a number, a name or a function call here"
    for token, sign in (("RPAR", ")"), ("RSQB", "]"), ("VBAR", "|"), ("NORM", "‖")):
        if token in expected:
            return f"close the bracket: {sign}"
    if "NAME" in expected:
        return "put a variable's name here"
    return "compare the statement with the notation in docs/prove.md"
