"""A table of text, for terminals, rich and notebooks."""

from collections.abc import Sequence
from html import escape
from typing import Any

Cells = Sequence[Sequence[str]]


def plain(headings: Sequence[str], cells: Cells, right: Sequence[str] = ()) -> str:
    """Lines with aligned columns.

    Args:
        right: headings of the columns that are aligned to the right.

    >>> print(plain(["layer", "µs"], [["dense", "12"], ["relu", "3"]], ["µs"]))
    layer  µs
    dense  12
    relu    3
    """
    table = [list(headings), *map(list, cells)]
    widths = [max(len(line[i]) for line in table) for i in range(len(headings))]
    side = [str.rjust if heading in right else str.ljust for heading in headings]
    return "\n".join("  ".join(f(c, w) for f, c, w in zip(side, line, widths, strict=True)).rstrip() for line in table)


def rich(title: str, headings: Sequence[str], cells: Cells, right: Sequence[str] = ()) -> Any:
    """The same as a `rich.table.Table`."""
    from rich.markup import escape as literal
    from rich.table import Table

    table = Table(title=title)
    for heading in headings:
        table.add_column(heading, justify="right" if heading in right else "left", overflow="fold")
    for line in cells:
        table.add_row(*map(literal, line))
    return table


def html(title: str, headings: Sequence[str], cells: Cells) -> str:
    """The same as HTML."""
    head = "".join(f"<th>{escape(heading)}</th>" for heading in headings)
    body = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in line)}</tr>" for line in cells)
    return f"<table><caption>{escape(title)}</caption><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
