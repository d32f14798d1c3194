"""Answers as tables: in terminals by rich, in notebooks as HTML. A value says its title and rows by `facts()`."""

from collections.abc import Iterable
from html import escape
from typing import Any, Protocol

Facts = tuple[str, list[tuple[str, str]]]
SHOWN = 8  # numbers of an input or output
LONGEST = 300  # characters of a text


class Told(Protocol):
    """A value that tells its title, and a name and a text a row."""

    def facts(self) -> Facts: ...


def rich_table(self: Told) -> Any:
    """`__rich__`: the rows as a `rich.table.Table`.

    >>> from axiom_jax.verification.verdict import Unknown
    >>> Unknown("out of time", 0.5).__rich__().row_count
    2
    """
    from rich.table import Table
    from rich.text import Text

    title, rows = self.facts()
    table = Table(title=Text(title), show_header=False)
    for name, text in rows:
        table.add_row(Text(name), Text(text))
    return table


def html_table(self: Told) -> str:
    """`_repr_html_`: the rows as an HTML table.

    >>> from axiom_jax.verification.verdict import Unknown
    >>> Unknown("x < 0")._repr_html_()
    '<table><caption>unknown</caption><tbody><tr><th>reason</th><td>x &lt; 0</td></tr></tbody></table>'
    """
    title, rows = self.facts()
    body = "".join(f"<tr><th>{escape(name)}</th><td>{_broken(text)}</td></tr>" for name, text in rows)
    return f"<table><caption>{escape(title)}</caption><tbody>{body}</tbody></table>"


def _broken(text: str) -> str:
    return escape(text).replace("\n", "<br>")


def shortened(text: str, longest: int = LONGEST) -> str:
    """A text in one line, cut if it is long."""
    line = " ".join(text.split())
    return line if len(line) <= longest else line[: longest - 1] + "…"


def numbers(values: Iterable[float]) -> str:
    """The first of some numbers, and how many there are if not all are shown."""
    texts = [f"{x:.6g}" for x in values]
    return ", ".join(texts[:SHOWN]) + (f", … ({len(texts)})" if len(texts) > SHOWN else "")
