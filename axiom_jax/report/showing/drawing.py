"""Drawings that become SVG or PDF alike: rectangles, lines and labels, and what is drawn of a proof."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from html import escape
from typing import Any, Literal

from axiom_jax.report.showing.trees import Ends, Shape, boxes
from axiom_jax.report.showing.words import decimal

Style = Literal["case", "leaf", "bar", "axis"]
MOST = 2000  # rectangles of leaves
BARS = 40  # inputs with a bar; bars of a histogram
WIDTH, LEFT, RIGHT, TOP, BOTTOM = 640.0, 96.0, 16.0, 12.0, 40.0


@dataclass(frozen=True)
class Drawing:
    """
    Args:
        title: in words, also for screen readers. note: what is left out.
        width, height: its size; y grows downwards.
        rectangles: x, y, width, height. lines: x, y to x, y. labels: x, y, text, and what lies at x.
    """

    title: str
    width: float
    height: float
    rectangles: list[tuple[float, float, float, float, Style]] = field(default_factory=list)
    lines: list[tuple[float, float, float, float, Style]] = field(default_factory=list)
    labels: list[tuple[float, float, str, Literal["start", "middle", "end"]]] = field(default_factory=list)
    note: str = ""

    def svg(self) -> str:
        """The drawing as inline SVG.

        >>> Drawing("a box", 9, 9, [(1, 2, 3, 4, "case")]).svg()[-59:]
        '<rect class="case" x="1" y="2" width="3" height="4"/></svg>'
        """
        parts = [f'<rect class="{style}" x="{x:g}" y="{y:g}" width="{w:g}" height="{h:g}"/>'
                 for x, y, w, h, style in self.rectangles]  # fmt: skip
        parts += [f'<line class="{style}" x1="{a:g}" y1="{b:g}" x2="{c:g}" y2="{d:g}"/>'
                  for a, b, c, d, style in self.lines]  # fmt: skip
        parts += [f'<text x="{x:g}" y="{y:g}" text-anchor="{anchor}">{escape(text)}</text>'
                  for x, y, text, anchor in self.labels]  # fmt: skip
        frame = f'class="drawing" viewBox="0 0 {self.width:g} {self.height:g}" role="img"'
        return f'<svg {frame} aria-label="{escape(self.title)}">{"".join(parts)}</svg>'


def plane(tree: dict[str, Any] | None, ends: Ends, along: tuple[int, int]) -> Drawing:
    """The case's box along two inputs, or along one, with the boxes of the leaves.

    Args:
        tree: of the case, or None where nothing was split.
    """
    a, b = along
    flat = a == b
    height = 90.0 if flat else 420.0
    inner, tall = WIDTH - LEFT - RIGHT, height - TOP - BOTTOM
    found, cut = boxes(tree, len(ends[0]), ends, along, MOST) if tree is not None else ([], -1)
    title = f"the case's box along x[{a}]" if flat else f"the case's box along x[{a}] and x[{b}]"
    notes = [f"boxes deeper than {cut} splits are drawn together"] if cut >= 0 else []
    if any(lo < hi for i, (lo, hi) in enumerate(zip(*ends, strict=True)) if i not in along):
        notes.append("boxes that differ in other inputs lie on each other")
    drawing = Drawing(f"{title}, and {len(found):,} boxes of leaves" if found else title, WIDTH, height,
                      note="; ".join(notes))  # fmt: skip
    for low, high, under, over in found:
        up, down = (1.0, 0.0) if flat else (over, under)
        drawing.rectangles.append((_r(LEFT + low * inner), _r(TOP + (1 - up) * tall), _r((high - low) * inner),
                                   _r((up - down) * tall), "leaf"))  # fmt: skip
    drawing.rectangles.append((LEFT, TOP, inner, tall, "case"))
    low, high = (decimal(end[a]) for end in ends)
    middle = (LEFT + inner / 2, height - 22, f"x[{a}]", "middle")
    drawing.labels.extend([(LEFT, height - 22, low, "start"), (LEFT + inner, height - 22, high, "end"), middle])
    if not flat:
        low, high = (decimal(end[b]) for end in ends)
        beside = (LEFT - 6, TOP + tall / 2, f"x[{b}]", "end")
        drawing.labels.extend([(LEFT - 6, TOP + tall, low, "end"), (LEFT - 6, TOP + 10, high, "end"), beside])
    return drawing


def bars(ends: Ends, inputs: Sequence[int]) -> Drawing:
    """A bar for every input from lo to hi, all on one scale."""
    shown = inputs[:BARS]
    low, high = min(ends[0][i] for i in inputs), max(ends[1][i] for i in inputs)
    inner, height = WIDTH - LEFT - RIGHT, TOP + 16.0 * len(shown) + BOTTOM
    left_out = f"{len(inputs) - BARS:,} more inputs are not drawn" if len(inputs) > BARS else ""
    drawing = Drawing(f"the ends of {len(shown)} inputs, on one scale", WIDTH, height, note=left_out)
    share = lambda x: float((x - low) / (high - low)) if high > low else 0.0
    for row, i in enumerate(shown):
        y, start, end = TOP + 16.0 * row, share(ends[0][i]), share(ends[1][i])
        drawing.rectangles.append((_r(LEFT + start * inner), y, max(_r((end - start) * inner), 1.0), 11.0, "bar"))
        drawing.labels.append((LEFT - 6, y + 10, f"x[{i}]", "end"))
    _ground(drawing, height, low, high)
    return drawing


def _ground(drawing: Drawing, height: float, low: Fraction, high: Fraction) -> None:
    drawing.lines.append((LEFT, height - BOTTOM, WIDTH - RIGHT, height - BOTTOM, "axis"))
    drawing.labels.append((LEFT, height - 22, decimal(low), "start"))
    drawing.labels.append((WIDTH - RIGHT, height - 22, decimal(high), "end"))


def histogram(found: Shape) -> Drawing:
    """How many leaves lie at each depth."""
    step = -(-(found.depth + 1) // BARS)
    counts = [sum(found.depths[d] for d in range(first, first + step)) for first in range(0, found.depth + 1, step)]
    height, wide = 200.0, (WIDTH - LEFT - RIGHT) / len(counts)
    tall, most = height - TOP - BOTTOM, max(counts)
    note = f"a bar is {step} depths" if step > 1 else ""
    drawing = Drawing("how many leaves lie at each depth of the tree", WIDTH, height, note=note)
    for place, count in enumerate(counts):
        up = count / most * tall
        drawing.rectangles.append((_r(LEFT + place * wide + 1), _r(TOP + tall - up), _r(wide - 2), _r(up), "bar"))
        if len(counts) <= 20 or place % 5 == 0:
            drawing.labels.append((LEFT + (place + 0.5) * wide, height - 22, str(place * step), "middle"))
    drawing.labels.extend([(LEFT - 6, TOP + 10, f"{most:,} leaves", "end"), (LEFT - 6, height - 22, "depth", "end")])
    drawing.lines.append((LEFT, TOP + tall, WIDTH - RIGHT, TOP + tall, "axis"))
    return drawing


def _r(value: float) -> float:
    return round(value, 2)
