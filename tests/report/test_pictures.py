"""The pictures: every pixel is drawn once in its colour, and the curve claims only what was decided."""

import re

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from axiom_jax.report.svg import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, change, curve, ink, picture


@given(st.lists(st.integers(0, 16), min_size=64, max_size=64))
def test_a_picture_draws_every_pixel_once(levels: list[int]) -> None:
    pixels = np.array(levels) / 16
    drawn: dict[tuple[int, int], str] = {}
    for fill, path in re.findall('<path fill="([^"]*)" d="([^"]*)"/>', picture(pixels, ink, "a digit")):
        for x, y, length in re.findall(r"M(\d+) (\d+)h(\d+)v1h-\d+z", path):
            for step in range(int(length)):
                assert (int(y), int(x) + step) not in drawn
                drawn[int(y), int(x) + step] = fill
    assert [drawn[divmod(i, 8)] for i in range(64)] == [ink(v) for v in pixels]


def test_colours() -> None:
    assert [ink(v) for v in (-1, 0, 0.5, 1, 2)] == ["#fff", "#fff", "#808080", "#000", "#000"]
    assert [change(v, 0.1) for v in (0.1, -0.1, 0)] == ["#ff0000", "#0000ff", "#ffffff"]
    assert change(0.0, 0.0) == "#ffffff"


def test_labels_are_escaped() -> None:
    assert 'aria-label="&lt;a&gt; &quot;b&quot;"' in picture(np.zeros(4), ink, '<a> "b"')


def _points(text: str, style: str) -> list[tuple[float, float]]:
    """The points of a line of the curve, back in ε / last ε shown and shares."""
    (found,) = re.findall(f'class="{style}" points="([^"]*)"', text)
    pairs = [tuple(map(float, pair.split(","))) for pair in found.split()]
    return [
        (round((x - LEFT) / (WIDTH - LEFT - RIGHT), 2), round((HEIGHT - BOTTOM - y) / (HEIGHT - BOTTOM - TOP), 2))
        for x, y in pairs
    ]


def test_the_stairs_claim_only_what_was_decided() -> None:
    text = curve([0.0, 0.1, 0.2], [0.95, 0.9, 0.6], [0.95, 0.92, 0.7], [])
    end = 1.5 * 0.2
    third, two = round(0.1 / end, 2), round(0.2 / end, 2)
    # a proof at ε holds below it, nothing is claimed beyond the last; plain accuracy is no proof, so 0.95 is absent
    assert _points(text, "line-proved") == [(0, 0.9), (third, 0.9), (third, 0.6), (two, 0.6), (two, 0)]
    # a refutation at ε holds beyond it
    refuted = [(0, 0.95), (third, 0.95), (third, 0.92), (two, 0.92), (two, 0.7), (1, 0.7)]
    assert _points(text, "line-refuted") == refuted
    assert "guess" not in text and "estimate" not in text


def test_the_estimate_is_a_line_of_its_own() -> None:
    text = curve([0.0, 0.1], [1.0, 0.5], [1.0, 0.6], [(0.0, 1.0), (0.16, 0.25)])
    assert _points(text, "guess") == [(0, 1), (1, 0.25)]
