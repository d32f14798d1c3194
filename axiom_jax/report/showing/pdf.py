"""A certificate as a PDF by fpdf2. The fonts are those that every reader has: what is not Latin is spelt out."""

import re
import unicodedata
from datetime import UTC, datetime
from typing import Any

from axiom_jax._errors import AxiomError
from axiom_jax._shapes_places import caller
from axiom_jax.report.showing.drawing import Drawing
from axiom_jax.report.showing.sections import PAGE, Section, Table

SPELT = {  # \0 is a blank where there is none yet
    "∀": "for all\0", "∃": "there is\0", "∈": "\0in\0", "∉": "\0not in\0", "≤": "<=", "≥": ">=", "≠": "!=", "≈": "~",
    "→": "->", "⇒": "=>", "⇔": "<=>", "∧": "\0and\0", "∨": "\0or\0", "∞": "inf", "‖": "||", "−": "-", "–": "-",
    "—": "-", "…": "...", "√": "sqrt", "∑": "sum", "Σ": "sum", "∏": "prod", "∫": "int", "∂": "d", "∇": "grad", "ℝ": "R",
    "ℕ": "N", "⊆": "\0within\0", "“": '"', "”": '"', "‘": "'", "’": "'", "∅": "{}", "∩": "\0and\0", "∪": "\0or\0",
    "ε": "eps",
}  # fmt: skip
MADE = datetime(1980, 1, 1, tzinfo=UTC)  # equal certificates give equal files
COLOURS = {"case": (28, 32, 36), "leaf": (11, 102, 195), "bar": (11, 102, 195), "axis": (91, 101, 112)}
STATES = {"open": (138, 109, 0), "proved": (26, 127, 55), "refuted": (197, 34, 31)}
SOFT, DARK = (91, 101, 112), (28, 32, 36)
WIDE, NAMES = 180.0, 38.0  # millimetres of the text, of the names of rows
CELL = 66  # characters of a cell


def spelt(text: str) -> str:
    """A text in the letters of Latin-1.

    >>> spelt("∀x ∈ [0, 1]. |f(x)| ≤ ε·α₁")
    'for all x in [0, 1]. |f(x)| <= eps·alpha1'
    """
    return re.sub(" ?\0 ?", " ", "".join(c if ord(c) < 256 else _letter(c) for c in text))


def _letter(c: str) -> str:
    if c in SPELT:
        return SPELT[c]
    name = unicodedata.name(c, "")
    if name.startswith("GREEK ") and " LETTER " in name:
        word = name.split(" LETTER ")[1].split()[0].lower()
        return word.capitalize() if "CAPITAL" in name else word
    plain = unicodedata.normalize("NFKD", c).encode("latin-1", "ignore").decode("latin-1")
    return plain or f"<U+{ord(c):04X}>"


def pdf(shown: Any) -> bytes:
    """The file.

    Raises:
        AxiomError: fpdf2 is not installed.
    """
    try:
        from fpdf import FPDF
    except ImportError as error:
        raise AxiomError("fpdf2 is not installed.", at=caller(), fix="pip install 'axiom-jax[report]'") from error
    paper = FPDF(format="A4")
    paper.set_margins(15, 15)
    paper.set_auto_page_break(True, 15)
    paper.set_title(spelt(shown.title))
    paper.set_creator("axiom-jax")
    paper.set_creation_date(MADE)
    paper.add_page()
    _write(paper, shown.title, 15, "B")
    paper.set_text_color(*STATES[shown.style])
    _write(paper, shown.state, 10, "B")
    paper.set_text_color(*DARK)
    for section in shown.sections(PAGE):
        _section(paper, section)
    return bytes(paper.output())


def _write(
    paper: Any, text: str, size: float, style: str = "", font: str = "Helvetica", high: float | None = None
) -> None:
    paper.set_font(font, style, size)
    paper.multi_cell(WIDE, high or size * 0.5, spelt(text), align="L", new_x="LMARGIN", new_y="NEXT", wrapmode="WORD")


def _section(paper: Any, section: Section) -> None:
    paper.ln(4)
    if paper.will_page_break(24):
        paper.add_page()
    _write(paper, section.title, 12, "B")
    for name, text in section.rows:
        _row(paper, name, text)
    for line in section.lines:
        _write(paper, line, 8, font="Courier", high=3.8)
    for drawing in section.drawings:
        _draw(paper, drawing)
    for table in section.tables:
        _table(paper, table)


def _row(paper: Any, name: str, text: str) -> None:
    if paper.will_page_break(10):
        paper.add_page()
    paper.set_font("Helvetica", "", 9)
    top, page = paper.get_y(), paper.page
    paper.set_text_color(*SOFT)
    paper.multi_cell(NAMES, 4.4, spelt(name), align="L", new_x="LMARGIN", new_y="NEXT", wrapmode="WORD")
    below, moved = paper.get_y(), paper.page != page
    paper.set_text_color(*DARK)
    if moved:
        top = paper.t_margin
    paper.set_xy(paper.l_margin + NAMES, top)
    started = paper.page
    paper.multi_cell(WIDE - NAMES, 4.4, spelt(text), align="L", new_x="LMARGIN", new_y="NEXT", wrapmode="WORD")
    if paper.page == started and paper.get_y() < below:
        paper.set_y(below)


def _table(paper: Any, table: Table) -> None:
    cut = lambda cell: cell if len(cell) <= CELL else cell[: CELL - 1] + "…"
    cells = [[spelt(cut(cell)) for cell in row] for row in (table.head, *table.rows)]
    paper.set_font("Helvetica", "", 7.5)
    wide = [max(paper.get_string_width(row[i]) for row in cells) + 4 for i in range(len(table.head))]
    scale = min(WIDE / sum(wide), 1.0)
    paper.ln(1)
    for number, row in enumerate(cells):
        paper.set_font("Helvetica", "B" if number == 0 else "", 7.5 * scale)
        for i, cell in enumerate(row):
            last = i == len(row) - 1
            paper.cell(wide[i] * scale, 4, cell, border="B" if number == 0 else 0,
                       new_x="LMARGIN" if last else "RIGHT", new_y="NEXT" if last else "TOP")  # fmt: skip
    if table.more:
        _write(paper, table.more, 8)


def _draw(paper: Any, drawing: Drawing) -> None:
    scale = WIDE / drawing.width
    high = drawing.height * scale
    if paper.will_page_break(high + 6):
        paper.add_page()
    left, top = paper.l_margin, paper.get_y() + 1
    for x, y, w, h, style in drawing.rectangles:
        paper.set_draw_color(*COLOURS[style])
        paper.set_fill_color(*COLOURS[style])
        paper.set_line_width(0.3 if style == "case" else 0.1)
        paper.rect(left + x * scale, top + y * scale, w * scale, h * scale, "F" if style == "bar" else "D")
    for a, b, c, d, style in drawing.lines:
        paper.set_draw_color(*COLOURS[style])
        paper.line(left + a * scale, top + b * scale, left + c * scale, top + d * scale)
    paper.set_font("Helvetica", "", 7)
    paper.set_text_color(*SOFT)
    for x, y, text, anchor in drawing.labels:
        words = spelt(text)
        back = {"start": 0.0, "middle": 0.5, "end": 1.0}[anchor] * paper.get_string_width(words)
        paper.text(left + x * scale - back, top + y * scale, words)
    paper.set_xy(paper.l_margin, top + high)
    _write(paper, f"{drawing.title}; {drawing.note}" if drawing.note else drawing.title, 8)
    paper.set_text_color(*DARK)
