"""Text and numbers of a file that nobody has judged: nothing of it may steer a terminal or a page."""

import re
from collections.abc import Sequence
from decimal import Context, Decimal
from fractions import Fraction
from typing import Any

LONGEST = 2000  # characters of a text that are shown, as the checkers do
EXACT = 28  # characters of an exact number in a table
RATIONAL = re.compile(r"-?[0-9]{1,2000}(/[0-9]{1,2000})?")
HEX = re.compile(r"-?0x[01]\.[0-9a-f]{1,13}p[+-][0-9]{1,4}")
DIGITS = Context(prec=8)


def printable(text: Any, longest: int = LONGEST, lines: bool = False) -> str:
    """A text whose control and formatting characters are written out, cut if it is long.

    Args:
        lines: whether line ends stay.

    >>> printable("a\\x1b[31m\\u202eb")
    'a\\\\x1b[31m\\\\u202eb'
    """
    text = str(text)
    text = text if lines else " ".join(text.split())
    cut = text if len(text) <= longest else f"{text[:longest]}… ({len(text):,} characters)"
    return "".join(c if c.isprintable() or c == "\n" else _written(c) for c in cut)


def _written(character: str) -> str:
    code = ord(character)
    return f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}" if code < 65536 else f"\\U{code:08x}"


def number(text: Any) -> Fraction:
    """A number as certificates write it: "p/q", or a float in hexadecimal.

    Raises:
        ValueError: it is none.

    >>> number("1/3"), number("0x1.8000000000000p+0")
    (Fraction(1, 3), Fraction(3, 2))
    """
    if isinstance(text, str) and RATIONAL.fullmatch(text):
        return Fraction(text)
    if isinstance(text, str) and HEX.fullmatch(text):
        return Fraction(float.fromhex(text))
    raise ValueError(f"{printable(text, 40)!r} is no number of a certificate")


def decimal(value: Fraction) -> str:
    """Eight digits of a number; ≈ where there are more.

    >>> decimal(Fraction(1, 8)), decimal(Fraction(1, 3)), decimal(Fraction(10**9))
    ('0.125', '≈ 0.33333333', '1e+9')
    """
    found = DIGITS.divide(Decimal(value.numerator), Decimal(value.denominator))
    shown = f"{found.normalize(DIGITS):g}"
    return shown if Fraction(found) == value else f"≈ {shown}"


def exactly(value: Fraction, longest: int = EXACT) -> str:
    """A number exactly: as a fraction where that is short, as a float in hexadecimal where it is one.

    >>> exactly(Fraction(8, 255)), exactly(Fraction(0.1))
    ('8/255', '0x1.999999999999ap-4')
    """
    text = str(value)
    if len(text) <= longest:
        return text
    try:
        near = float(value)
    except OverflowError:
        near = 0.0
    return near.hex() if Fraction(near) == value else f"{text[: longest - 1]}… ({len(text):,} characters)"


def brief(value: Fraction) -> str:
    """A number inside of a formula: exactly where that is short, else eight digits of it."""
    text = str(value)
    return text if len(text) <= 12 else decimal(value)


def condition(atom: dict[str, Any], most: int = 12) -> str:
    """An atom as an inequality.

    Args:
        most: how many of its terms are shown.

    >>> condition({"input": [], "output": [[3, "1"], [5, "-1"]], "strict": False, "threshold": "0"})
    'y[3] ≤ y[5]'
    >>> condition({"input": [[0, "-2"]], "output": [], "strict": True, "threshold": "1"})
    'x[0] > -1/2'
    >>> condition({"input": [[1, "1"]], "output": [[0, "-1/3"], [2, "1"]], "strict": False, "threshold": "5"})
    '-1/3·y[0] + y[2] + x[1] ≤ 5'
    """
    terms = [(f"y[{int(j)}]", number(c)) for j, c in atom["output"]]
    terms += [(f"x[{int(i)}]", number(c)) for i, c in atom["input"]]
    bound, below, above = number(atom["threshold"]), *(("<", ">") if atom["strict"] else ("≤", "≥"))
    if len(terms) == 1 and terms[0][1]:
        (name, factor), = terms  # fmt: skip
        return f"{name} {below if factor > 0 else above} {brief(bound / factor)}"
    if len(terms) == 2 and bound == 0 and {c for _, c in terms} == {1, -1}:
        left, right = sorted(terms, key=lambda term: -term[1])
        return f"{left[0]} {below} {right[0]}"
    left = _sum(terms[:most]) + (f" + … ({len(terms) - most:,} more terms)" if len(terms) > most else "")
    return f"{left} {below} {brief(bound)}"


def _sum(terms: Sequence[tuple[str, Fraction]]) -> str:
    text = ""
    for name, factor in terms:
        size = "" if abs(factor) == 1 else f"{brief(abs(factor))}·"
        sign = "-" if factor < 0 else ""
        text += f" {sign or '+'} {size}{name}" if text else f"{sign}{size}{name}"
    return text or "0"
