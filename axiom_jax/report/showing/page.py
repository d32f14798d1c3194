"""A certificate as one HTML file. It is also well-formed XML, and its own policy forbids every request and script."""

import base64
import hashlib
from html import escape
from typing import Any

from axiom_jax.report.showing.sections import PAGE, Limits, Section, Table
from axiom_jax.report.style import STYLE

OWN = """
.drawing{width:100%;max-width:44rem;display:block;margin:.8rem 0 0}.drawing text{font-size:12px;fill:var(--soft)}
.case{fill:none;stroke:var(--text);stroke-width:1.5}.leaf{fill:var(--some);fill-opacity:.14;stroke:var(--some);
stroke-width:.6}.bar{fill:var(--some);fill-opacity:.7}.axis{stroke:var(--soft)}
.rows td,.rows th{white-space:normal;vertical-align:top;overflow-wrap:anywhere}
.rows th{min-width:8rem;color:var(--soft)}
.state{font-weight:600;border-left:4px solid var(--open);padding-left:.7rem}.state.proved{border-color:var(--proved)}
.state.refuted{border-color:var(--refuted)}.note{color:var(--soft);font-size:.85rem}
"""
SHEET = STYLE + OWN
POLICY = base64.b64encode(hashlib.sha256(SHEET.encode()).digest()).decode()


def page(shown: Any) -> str:
    """The whole page."""
    return (
        '<!DOCTYPE html>\n<html xmlns="http://www.w3.org/1999/xhtml" lang="en"><head><meta charset="utf-8"/>'
        f"<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'sha256-{POLICY}'\"/>"
        '<meta name="viewport" content="width=device-width,initial-scale=1"/>'
        f"<title>{escape(shown.title)}</title><style>{SHEET}</style></head>\n<body><main>\n"
        f"{body(shown, PAGE)}\n</main></body></html>\n"
    )


def body(shown: Any, limits: Limits) -> str:
    """What stands in the page, without its style."""
    head = f'<header><h1>{escape(shown.title)}</h1></header><p class="state {shown.style}">{escape(shown.state)}</p>'
    return "\n".join([head, *map(_section, shown.sections(limits))])


def _section(section: Section) -> str:
    parts = [f"<h2>{escape(section.title)}</h2>"]
    if section.rows:
        rows = "".join(f"<tr><th>{escape(name)}</th><td>{escape(text)}</td></tr>" for name, text in section.rows)
        parts.append(f'<table class="rows"><tbody>{rows}</tbody></table>')
    parts += [f"<pre>{escape(chr(10).join(section.lines))}</pre>"] if section.lines else []
    for drawing in section.drawings:
        caption = f"{drawing.title}; {drawing.note}" if drawing.note else drawing.title
        parts.append(f'<figure>{drawing.svg()}<figcaption class="note">{escape(caption)}</figcaption></figure>')
    parts += map(_table, section.tables)
    return f"<section>{''.join(parts)}</section>"


def _table(table: Table) -> str:
    head = "".join(f"<th>{escape(name)}</th>" for name in table.head)
    rows = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in table.rows)
    more = f'<p class="note">{escape(table.more)}</p>' if table.more else ""
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>{more}'
