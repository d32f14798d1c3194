"""The notation of statements as trees, and trees as text in one spelling: `parse(show(tree)) == tree`.

A tree's operands are trees; giving it a meaning adds nodes of its own. What names and comparisons mean is said in
`notation`, how text is read in `parsing`.
"""

import re
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, Literal

Span = tuple[int, int]
NOWHERE: Span = (0, 0)


@dataclass(frozen=True)
class Number:
    """An exact number; the parser makes no negative ones."""

    value: Fraction
    span: Span = field(default=NOWHERE, compare=False, repr=False)


@dataclass(frozen=True)
class Name:
    """A name, with dots in it or none."""

    text: str
    span: Span = field(default=NOWHERE, compare=False, repr=False)


@dataclass(frozen=True)
class Negative:
    """Unary minus."""

    operand: Any
    span: Span = field(default=NOWHERE, compare=False, repr=False)


@dataclass(frozen=True)
class Arithmetic:
    """`left op right`, op one of + - * / @ ^."""

    op: str
    left: Any
    right: Any
    span: Span = field(default=NOWHERE, compare=False, repr=False)


@dataclass(frozen=True)
class Call:
    """`function(arguments, name=option)`; also what Σ, √ and bars are read as."""

    function: str
    arguments: tuple[Any, ...]
    options: tuple[tuple[str, Any], ...] = ()
    span: Span = field(default=NOWHERE, compare=False, repr=False)


@dataclass(frozen=True)
class Norm:
    """‖operand‖ of order 1, 2 or inf."""

    operand: Any
    order: Literal[1, 2, "inf"] = 2
    span: Span = field(default=NOWHERE, compare=False, repr=False)


@dataclass(frozen=True)
class Index:
    """`value[items]`."""

    value: Any
    items: tuple[Any, ...]
    span: Span = field(default=NOWHERE, compare=False, repr=False)


@dataclass(frozen=True)
class Comparison:
    """A chain `first op term op term`, op one of <= < >= > == != ≈; a tolerance goes with ≈ alone."""

    first: Any
    rest: tuple[tuple[str, Any, Any], ...]
    span: Span = field(default=NOWHERE, compare=False, repr=False)


@dataclass(frozen=True)
class Interval:
    """[lo, hi], each end open or closed."""

    lo: Any
    hi: Any
    lo_open: bool = False
    hi_open: bool = False


@dataclass(frozen=True)
class BallSet:
    """ball(center, radius) in a norm."""

    center: Any
    radius: Any
    order: Literal[1, 2, "inf"] = "inf"


@dataclass(frozen=True)
class Region:
    """What stands behind ∈: R (None), an interval, a ball, or the name of a region; `shape` where ^ states it."""

    set: Any
    shape: tuple[int | str, ...] | None = None
    span: Span = field(default=NOWHERE, compare=False, repr=False)


@dataclass(frozen=True)
class Related:
    """What a quantified variable is compared with: `∀x > 0`."""

    op: str
    term: Any


@dataclass(frozen=True)
class Member:
    """`value ∈ region` as a condition."""

    value: Any
    region: Region
    span: Span = field(default=NOWHERE, compare=False, repr=False)


@dataclass(frozen=True)
class Not:
    """¬ operand."""

    operand: Any
    span: Span = field(default=NOWHERE, compare=False, repr=False)


@dataclass(frozen=True)
class Connective:
    """`left op right`, op one of and, or, implies, iff."""

    op: str
    left: Any
    right: Any
    span: Span = field(default=NOWHERE, compare=False, repr=False)


@dataclass(frozen=True)
class Quantified:
    """One quantifier and variable, and all that follows."""

    quantifier: Literal["forall", "exists"]
    variable: str
    domain: Region | Related | None
    body: Any
    span: Span = field(default=NOWHERE, compare=False, repr=False)


Tree = Number | Name | Negative | Arithmetic | Call | Norm | Index | Comparison | Member | Not | Connective | Quantified
SIGNS = {"<=": "≤", ">=": "≥", "!=": "≠", "==": "=", "forall": "∀", "exists": "∃", "and": "∧", "or": "∨",
         "implies": "⟹", "iff": "⟺"}  # fmt: skip
LEVEL = {"quantified": 0, "iff": 1, "implies": 2, "or": 3, "and": 4, "not": 5, "comparison": 6, "+": 7, "-": 7,
         "*": 8, "/": 8, "@": 8, "negative": 9, "^": 10, "atom": 11}  # fmt: skip


def show(tree: Tree) -> str:
    """The statement as text, in one spelling: `parse(show(tree)) == tree`."""
    return _text(tree)[0]


def _text(tree: Any) -> tuple[str, int]:
    """Text, and how tightly it binds."""
    match tree:
        case Number(value):
            return decimal(value), LEVEL["atom"]
        case Name(text):
            return text, LEVEL["atom"]
        case Negative(operand):
            return "-" + _inside(operand, LEVEL["negative"]), LEVEL["negative"]
        case Arithmetic("^", left, right):
            return f"{_inside(left, LEVEL['atom'])}^{_inside(right, LEVEL['negative'])}", LEVEL["^"]
        case Arithmetic(op, left, right):
            level = LEVEL[op]
            return f"{_inside(left, level)} {op} {_inside(right, level + 1)}", level
        case Call(function, arguments, options):
            parts = [_argument(a) for a in arguments] + [f"{name}={_text(value)[0]}" for name, value in options]
            return f"{function}({', '.join(parts)})", LEVEL["atom"]
        case Norm(operand, order):
            suffix = {1: "_1", 2: "", "inf": "_∞"}[order]
            return f"‖{_text(operand)[0]}‖{suffix}", LEVEL["atom"]
        case Index(value, items):
            return f"{_inside(value, LEVEL['atom'])}[{', '.join(_text(i)[0] for i in items)}]", LEVEL["atom"]
        case Comparison(first, rest):
            above = LEVEL["comparison"] + 1
            text = _inside(first, above)
            for op, term, tolerance in rest:
                text += f" {SIGNS.get(op, op)} {_inside(term, above)}"
                text += f" ± {_inside(tolerance, above)}" if tolerance is not None else ""
            return text, LEVEL["comparison"]
        case Member(value, region):
            return f"{_inside(value, LEVEL['comparison'] + 1)} ∈ {_region(region)}", LEVEL["comparison"]
        case Not(operand):
            return "¬" + _inside(operand, LEVEL["not"]), LEVEL["not"]
        case Connective(op, left, right):
            level = LEVEL[op]
            a, b = (level + 1, level) if op == "implies" else (level, level + 1)
            return f"{_inside(left, a)} {SIGNS[op]} {_inside(right, b)}", level
        case Quantified(quantifier, variable, domain, body):
            return f"{SIGNS[quantifier]}{variable}{_domain(domain)}. {_text(body)[0]}", LEVEL["quantified"]
    raise TypeError(f"no syntax tree: {type(tree).__name__}")


def _inside(tree: Any, level: int) -> str:
    text, own = _text(tree)
    return text if own >= level else f"({text})"


def _argument(tree: Any) -> str:
    """An argument of a call; what would read as an option, `f(x = 0)`, is put in brackets."""
    text = _text(tree)[0]
    return f"({text})" if re.match(r"\w+ = ", text) else text


def _domain(domain: Region | Related | None) -> str:
    match domain:
        case None:
            return ""
        case Related(op, term):
            return f" {SIGNS.get(op, op)} {_inside(term, LEVEL['comparison'] + 1)}"
        case _:
            return f" ∈ {_region(domain)}"


def _region(region: Region) -> str:
    match region.set:
        case None:
            text = "R"
        case Interval(lo, hi, lo_open, hi_open):
            text = f"{'(' if lo_open else '['}{_text(lo)[0]}, {_text(hi)[0]}{')' if hi_open else ']'}"
        case BallSet(center, radius, order):
            text = f"ball({_argument(center)}, {_argument(radius)}" + {1: ", 1)", 2: ", 2)", "inf": ")"}[order]
        case _:
            text = region.set.text
    if region.shape is None:
        return text
    sizes = " × ".join(map(str, region.shape))
    return f"{text}^{sizes}" if len(region.shape) == 1 else f"{text}^({sizes})"


def decimal(value: Fraction) -> str:
    """An exact number as a decimal where it has one, else as p / q.

    >>> decimal(Fraction(1, 8)), decimal(Fraction(10**30)), decimal(Fraction(1, 3))
    ('0.125', '1e30', '1 / 3')
    """
    if value < 0:
        return "-" + decimal(-value)
    twos, fives, rest = 0, 0, value.denominator
    while rest % 2 == 0:
        twos, rest = twos + 1, rest // 2
    while rest % 5 == 0:
        fives, rest = fives + 1, rest // 5
    if rest != 1:
        return f"{value.numerator} / {value.denominator}"
    places = max(twos, fives)
    digits = str(value.numerator * 10**places // value.denominator)
    if places == 0:
        stripped = digits.rstrip("0")
        return f"{stripped}e{len(digits) - len(stripped)}" if len(digits) - len(stripped) > 6 else digits
    if places > 12:
        return f"{digits}e-{places}"
    return f"{digits[:-places] or '0'}.{digits[-places:]}" if len(digits) > places else f"0.{digits:0>{places}}"
