"""Ways to execute a program in float32, one chosen after the other: every order of summation that libraries use."""

import sys
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "verify"))
import checker_builder as build
from float32_executions import Execution

Terms = list[tuple[Fraction, bool]]  # what is added; whether it is a product that was not rounded yet
ORDERS = ("sequential", "reversed", "pairwise", "lanes", "by sign", "small first", "large first", "interleaved")


def arranged(terms: Terms, order: str) -> Terms:
    key: dict[str, Callable[[tuple[Fraction, bool]], Any]] = {
        "by sign": lambda t: t[0] < 0, "small first": lambda t: abs(t[0]), "large first": lambda t: -abs(t[0]),
    }  # fmt: skip
    if order in key:
        return sorted(terms, key=key[order])
    if order == "interleaved":
        ends = sorted(terms, key=lambda t: t[0])
        return [t for pair in zip(ends, ends[::-1], strict=True) for t in pair][: len(terms)]
    return terms[::-1] if order == "reversed" else terms


def nearest(x: Fraction) -> Fraction:
    """The nearest float32, ties to even, of a number with a power of two below the bar; fast, for it is used much."""
    size, bits = abs(x.numerator), x.denominator.bit_length() - 1
    if x.denominator != 1 << bits or size >> bits >= 1 << 127:
        return Fraction(float(build.nearest_float32(x)))
    dropped = max(size.bit_length() - 24, bits - 149)
    if dropped <= 0:
        return x
    kept, rest = divmod(size, 1 << dropped)
    half = 1 << (dropped - 1)
    kept += rest > half or (rest == half and kept & 1)
    return Fraction((-kept if x < 0 else kept) << dropped, x.denominator)


class Ordered(Execution):
    """An execution whose sums are taken in a named order.

    Args:
        fused: whether products are added without being rounded. merged: whether a sum that is used once is taken
            together with the one that uses it.
    """

    def __init__(self, nodes: Any, tensors: Any, order: str, fused: bool, merged: bool, flush: bool) -> None:
        super().__init__(nodes, tensors, np.random.default_rng(0), flush, extreme=True)
        self.order, self.fused, self.merged = order, fused, merged

    def rounded(self, x: Fraction) -> Fraction:
        return self.flushed(nearest(x))

    def terms(self, k: int, j: int, together: bool = True) -> Terms:
        if together and not self.merged:
            return [(self.flushed(self.values[k][j]), False)]
        return super().terms(k, j, together)

    def pair(self, a: tuple[Fraction, bool], b: tuple[Fraction, bool]) -> tuple[Fraction, bool]:
        """Their sum; of two products one is rounded first."""
        (x, raw), (y, other) = a, b
        if self.fused and (raw or other):
            x = self.rounded(x) if raw and other else x
            return self.rounded(x + y), False
        x, y = (self.rounded(v) if unrounded else self.flushed(v) for v, unrounded in (a, b))
        return self.rounded(x + y), False

    def total(self, terms: Terms) -> Fraction:
        parts = arranged(terms, self.order)
        if self.order == "pairwise":
            while len(parts) > 1:
                parts = [
                    self.pair(*parts[i : i + 2]) if i + 1 < len(parts) else parts[i] for i in range(0, len(parts), 2)
                ]
        elif self.order == "lanes":  # as vector units do: eight sums side by side, then these
            lanes = [parts[i::8] for i in range(min(8, len(parts)))]
            parts = [self.along(lane) for lane in lanes]
        value, raw = self.along(parts)
        return self.rounded(value) if raw else value

    def along(self, parts: Terms) -> tuple[Fraction, bool]:
        total = parts[0]
        for part in parts[1:]:
            total = self.pair(total, part)
        return total


def ways(nodes: Any, tensors: Any, seeds: int = 4, every: int = 1) -> Iterator[tuple[str, Execution]]:
    """Every named order, fused or not, merged or not, flushing or not; and so many random ones. Of the named ones one
    in so many is taken."""
    for number, order in enumerate(ORDERS):
        for fused, merged, flush in list(np.ndindex(2, 2, 2))[number % every :: every]:
            yield (
                f"{order} {fused}{merged}{flush}",
                Ordered(nodes, tensors, order, bool(fused), bool(merged), bool(flush)),
            )
    for seed in range(seeds):
        yield f"random {seed}", Execution(nodes, tensors, np.random.default_rng(seed), bool(seed % 2), seed % 4 > 1)
