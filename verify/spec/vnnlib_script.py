"""VNN-LIB text as nested forms of tokens, and errors that point at a token.

Most of a large file declares variables and compares one variable with one number; each of these
is one token, so that the rest of the reader sees a fifth of the text.
"""

import hashlib
import os
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from axiom_jax._errors import SpecError
from axiom_jax._gzip import PROPERTY, TooLong, unpacked

DEPTH = 200  # of parentheses
TEXT = 20_000  # bytes of text that a property carries along
NAME = r"[A-Za-z][\w-]*"
INDEX = r"\[[^\[\]()\";]*\]"
NUMBER = re.compile(r"([+-]?)(\d*)\.?(\d*)(?:[eE]([+-]?\d{1,4}))?")
DECIMAL = r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d{1,4})?"
COMPARISON = rf"\((?:<=|>=|<|>)\s+{NAME}(?:\s*{INDEX})?\s+{DECIMAL}\s*\)"
# (<= X_0 0.5) or (<= X[0,1] 0.5), asserted or not: a comparison of a variable with a number
SIMPLE = re.compile(rf"(?:\(assert\s+)?\((<=|>=|<|>)\s+({NAME}(?:\s*{INDEX})?)\s+({DECIMAL})\s*\)(?:\s*\))?")
DECLARATION = re.compile(r"\(declare-const\s+([XY]_\d+)\s+Real\s*\)")
TOKEN = re.compile(
    rf";[^\n]*"  # in this order: a comment,
    rf"|{COMPARISON}|\(assert\s+{COMPARISON}\s*\)|{DECLARATION.pattern.replace('([', '(?:[')}"  # what is whole,
    r"|[()]|\"[^\"\n]*\""  # a parenthesis, a text,
    rf"|[^\s();\"\[\]]+(?:\s*{INDEX})?|\S"  # a word with what indexes it, anything else
)

Form = list[Any]  # the number of its "(", then its parts: forms, or the number of a token
WHOLE = ("(assert", "(declare")  # tokens that stand by themselves


def read_text(path: str | os.PathLike[str]) -> str:
    """The text of a `.vnnlib` or `.vnnlib.gz` file.

    Raises:
        SpecError: the file cannot be read, is damaged, or is not text.
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
    try:
        return unpacked(content, PROPERTY).decode("utf-8-sig")
    except TooLong as error:
        raise SpecError(
            "The compressed property is too large.", at=source, got=str(error), fix="unpack it yourself"
        ) from error
    except UnicodeDecodeError as error:
        raise SpecError(
            "The property is not text.",
            at=source,
            got=f"byte {error.start} is not UTF-8",
            fix="save it as UTF-8, or give the path of a .vnnlib file",
        ) from error
    except ValueError as error:
        raise SpecError(
            "The compressed property is damaged or cut short.", at=source, fix="fetch the file again"
        ) from error


@dataclass(frozen=True)
class Script:
    """A text and its tokens; knows lines and columns when an error asks for them."""

    text: str
    source: str = ""

    @property
    def place(self) -> str:
        """The file, or that there is none."""
        return self.source or "<text>"

    @cached_property
    def tokens(self) -> list[str]:
        tokens = TOKEN.findall(self.text)
        return [token for token in tokens if token[0] != ";"] if ";" in self.text else tokens

    def summary(self, version: str) -> str:
        """The text itself, or what identifies it if it is long."""
        content = self.text.encode()
        if len(content) <= TEXT:
            return self.text
        return f"VNN-LIB {version} text of {len(content)} bytes, sha256 {hashlib.sha256(content).hexdigest()}"

    def forms(self) -> list[Form | int]:
        """The top-level forms, and the numbers of tokens that are whole ones.

        Iterative, and bounded in depth, so that no input can exhaust the stack.
        """
        top: list[Form | int] = []
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
                if token[0] == "(" and token.startswith(WHOLE):
                    raise self.error(i, "This stands by itself, in no other form.", "close what is open before it")
                stack[-1].append(i)
            elif token[0] == "(" and token.startswith(WHOLE):
                top.append(i)
            elif token[0] == "(":
                raise self.error(i, "A comparison by itself asserts nothing.", f"write (assert {token})")
            else:
                raise self.error(i, "A command starts with a parenthesis.", "write (declare-const …) or (assert …)")
        if stack:
            raise self.error(stack[0][0], "The text ends before this form is closed.", "add ), or fetch the file again")
        if not top:
            raise SpecError("The property is empty.", at=self.place, fix="declare variables and assert something")
        return top

    def head(self, form: Form) -> str:
        """The word that a form starts with."""
        if len(form) == 1 or not isinstance(form[1], int) or self.tokens[form[1]][0] == "(":
            raise self.error(form[0], "A form starts with a word.", "write (assert …), (<= …) and the like")
        return self.tokens[form[1]]

    def error(self, token: int, what: str, fix: str, inside: str = "") -> SpecError:
        """An error at a token, or where `inside` stands in it, with its line and a caret below it."""
        matches = (match for match in TOKEN.finditer(self.text) if match[0][0] != ";")
        found = next(match for i, match in enumerate(matches) if i == token)
        whole = found[0].startswith("(assert") and len(found[0]) > 7 and not inside
        start = found.start() + (found[0].index("(", 1) if whole else max(found[0].find(inside), 0))
        first = self.text.rfind("\n", 0, start) + 1
        line = self.text[first:].split("\n", 1)[0].rstrip().replace("\t", " ")
        column = start - first
        left = max(0, column - 60)  # of a long line, the part around the place
        shown = ("…" if left else "") + line[left : left + 100] + ("…" if len(line) > left + 100 else "")
        caret = " " * (column - left + bool(left)) + "^"
        at = f"{self.place}:{self.text.count(chr(10), 0, start) + 1}:{column + 1}"
        return SpecError(what, at=at, got=f"{shown}\n{caret}", fix=fix)
