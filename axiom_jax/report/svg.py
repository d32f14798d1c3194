"""Pictures as inline SVG text: images, differences, and the curve over ε."""

from collections.abc import Callable, Sequence
from html import escape
from itertools import groupby

import numpy as np


def picture(pixels: np.ndarray, colour: Callable[[float], str], label: str) -> str:
    """A small square image: one path a colour, one step a run of equal pixels.

    Args:
        pixels: (side · side,) values for `colour`.
        label: read out by screen readers.

    >>> picture(np.array([0, 0, 1, 1]), ink, "two rows")[-78:]
    '<path fill="#fff" d="M0 0h2v1h-2z"/><path fill="#000" d="M0 1h2v1h-2z"/></svg>'
    """
    side = round(len(pixels) ** 0.5)
    paths: dict[str, list[str]] = {}
    for row, line in enumerate(np.reshape(pixels, (side, side))):
        column = 0
        for fill, run in groupby(map(colour, line.tolist())):
            length = len(list(run))
            paths.setdefault(fill, []).append(f"M{column} {row}h{length}v1h-{length}z")
            column += length
    body = "".join(f'<path fill="{fill}" d="{"".join(steps)}"/>' for fill, steps in paths.items())
    frame = f'viewBox="0 0 {side} {side}" shape-rendering="crispEdges"'
    return f'<svg {frame} role="img" aria-label="{escape(label)}">{body}</svg>'


def ink(value: float) -> str:
    """Grey from white, 0, to black, 1."""
    level = round(255 * (1 - min(max(value, 0.0), 1.0)))
    return {0: "#000", 255: "#fff"}.get(level, f"#{level:02x}{level:02x}{level:02x}")


def change(value: float, most: float) -> str:
    """Red where ink was added, blue where it was taken away, white where nothing changed."""
    other = round(255 * (1 - min(abs(value) / most, 1.0))) if most else 255
    return f"#ff{other:02x}{other:02x}" if value > 0 else f"#{other:02x}{other:02x}ff"


WIDTH, HEIGHT, LEFT, BOTTOM, TOP, RIGHT = 640, 300, 52, 44, 14, 16


def curve(
    radii: Sequence[float], proved: Sequence[float], possible: Sequence[float], guess: Sequence[tuple[float, float]]
) -> str:
    """Certified accuracy over ε: what is proved, what is refuted, and the open band between.

    What is proved at ε holds below ε, what is refuted at ε is refuted above: both are stairs, and nothing between
    the radii is guessed. The dashed line is an estimate, drawn as one.

    Args:
        radii: 0, then the radii that were decided, increasing.
        proved: share of images proved at each; at 0, classified correctly.
        possible: share of images not refuted at each.
        guess: points of the dashed line.
    """
    end = max(1.5 * radii[-1], max((x for x, _ in guess), default=0.0)) or 1.0
    across = lambda x: round(LEFT + (WIDTH - LEFT - RIGHT) * x / end, 1)
    up = lambda y: round(HEIGHT - BOTTOM - (HEIGHT - BOTTOM - TOP) * y, 1)
    below, above = [(0.0, proved[0])], [(0.0, possible[0])]
    for before, here, was, share, left in zip(radii, radii[1:], possible, proved[1:], possible[1:], strict=False):
        below += [(before, share), (here, share)]
        above += [(here, was), (here, left)]
    above.append((end, possible[-1]))
    line = lambda points: " ".join(f"{across(x)},{up(y)}" for x, y in points)
    parts = [
        f'<polygon class="fill-proved" points="{line([(0.0, 0.0), *below[1:], (radii[-1], 0.0)])}"/>',
        f'<polygon class="fill-refuted" points="{line([(0.0, 1.0), *above, (end, 1.0)])}"/>',
    ]
    for level in (0, 0.25, 0.5, 0.75, 1):
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{up(level)}" y2="{up(level)}"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{up(level) + 4}" text-anchor="end">{100 * level:g} %</text>')
    for x in radii:
        parts.append(f'<text x="{across(x)}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{x:g}</text>')
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(f'<text x="{middle}" y="{HEIGHT - 6}" text-anchor="middle">ε (L∞ radius; pixels in [0, 1])</text>')
    parts.append(f'<polyline class="line-refuted" points="{line(above)}"/>')
    parts.append(f'<polyline class="line-proved" points="{line([*below[1:], (radii[-1], 0.0)])}"/>')
    if guess:
        parts.append(f'<polyline class="guess" points="{line(guess)}"/>')
    for x, y in zip(radii[1:], proved[1:], strict=True):
        parts.append(f'<circle class="point" cx="{across(x)}" cy="{up(y)}" r="4"/>')
        place = f'x="{across(x) - 7}" y="{up(y) + 18}" text-anchor="end"'
        parts.append(f'<text class="value" {place}>{100 * y:.0f} %</text>')
    label = "; ".join(f"ε {x:g}: proved for {100 * y:.0f} %" for x, y in zip(radii[1:], proved[1:], strict=True))
    return f'<svg class="curve" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{label}">{"".join(parts)}</svg>'
