"""A certificate in a terminal, by rich; nothing in it is read as markup."""

from typing import Any

from axiom_jax.report.showing.sections import SCREEN, Section

COLOURS = {"open": "yellow", "proved": "bold green", "refuted": "bold red"}


def rendered(shown: Any) -> Any:
    """The whole of it as a rich renderable; drawings are left to the page and the PDF."""
    from rich.console import Group
    from rich.text import Text

    parts: list[Any] = [Text(shown.title, "bold"), Text(shown.state, COLOURS[shown.style])]
    for section in shown.sections(SCREEN):
        parts += ["", *_section(section)]
    return Group(*parts)


def _section(section: Section) -> list[Any]:
    from rich.padding import Padding
    from rich.table import Table
    from rich.text import Text

    found: list[Any] = [Text(section.title, "bold")]
    if section.rows:
        grid = Table.grid(padding=(0, 2))
        grid.add_column(min_width=13)
        grid.add_column(overflow="fold")
        for name, text in section.rows:
            grid.add_row(Text(name, "dim"), Text(text))
        found.append(Padding(grid, (0, 0, 0, 2)))
    for table in section.tables:
        drawn = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
        for name in table.head:
            drawn.add_column(Text(name), overflow="fold")
        for row in table.rows:
            drawn.add_row(*map(Text, row))
        found.append(Padding(drawn, (0, 0, 0, 2)))
        if table.more:
            found.append(Padding(Text(table.more, "dim"), (0, 0, 0, 2)))
    found += [Padding(Text(line), (0, 0, 0, 2)) for line in section.lines]
    return found
