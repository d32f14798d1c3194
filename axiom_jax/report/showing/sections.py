"""What is shown of a file, whatever it is shown on: sections with rows, tables and drawings."""

from dataclasses import dataclass, field
from typing import Any

from axiom_jax.report.showing.drawing import Drawing

Rows = list[tuple[str, str]]


@dataclass(frozen=True)
class Limits:
    """How much of each list is shown; what is left out is counted.

    Args:
        digest: characters of a sha256.
    """

    parts: int = 20
    cases: int = 3
    inputs: int = 12
    disjuncts: int = 8
    atoms: int = 6
    nodes: int = 24
    tensors: int = 16
    steps: int = 24
    lines: int = 24
    digest: int = 16


SCREEN = Limits()
PAGE = Limits(
    parts=50, cases=20, inputs=200, disjuncts=100, atoms=24, nodes=400, tensors=400, steps=400, lines=400, digest=64
)


@dataclass(frozen=True)
class Table:
    """Columns with names; `more` counts what is left out."""

    head: tuple[str, ...]
    rows: list[tuple[str, ...]]
    more: str = ""


@dataclass(frozen=True)
class Section:
    """
    Args:
        title: of the section. rows: names and texts. tables, drawings: below them. lines: text, line by line.
    """

    title: str
    rows: Rows = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    drawings: list[Drawing] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """Its text as JSON values."""
        tables = [{"head": list(t.head), "rows": [list(row) for row in t.rows], "more": t.more} for t in self.tables]
        drawings = [drawing.title for drawing in self.drawings]
        return {"title": self.title, "rows": [list(row) for row in self.rows], "tables": tables,
                "lines": self.lines, "drawings": drawings}  # fmt: skip


def left_out(count: int, most: int, what: str) -> str:
    """How many of a list are not shown, or nothing.

    >>> left_out(12, 8, "cases"), left_out(8, 8, "cases")
    ('… and 4 more cases', '')
    """
    return f"… and {count - most:,} more {what}" if count > most else ""


def short(digest: Any, limits: Limits) -> str:
    """The beginning of a sha256."""
    text = str(digest)
    return text if len(text) <= limits.digest else text[: limits.digest] + "…"
