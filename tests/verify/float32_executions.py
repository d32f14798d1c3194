"""Executions of certificate programs in float32, as any machine might run them, from the definition of the level.

Sums are taken in any order, with or without fused multiply-adds; a sum that only one other sum uses may be taken
together with it; subnormal operands and results may be flushed; functions are off by as many ulps as their profile
allows.
"""

from collections import Counter
from fractions import Fraction
from typing import Any

import checker_builder as build
import mpmath
import numpy as np

HALF_ULPS = {"exp": 3, "log": 3, "logistic": 5, "tanh": 10, "erf": 14, "sqrt": 2, "reciprocal": 4,
             "div": 4, "sin": 2, "cos": 2, "atan": 12}  # of profile "cpu"  # fmt: skip
TINY = Fraction(1, 2**126)
FUNCTIONS = {"tanh": mpmath.tanh, "exp": mpmath.exp, "sqrt": mpmath.sqrt, "log": mpmath.log, "erf": mpmath.erf,
             "logistic": lambda z: 1 / (1 + mpmath.exp(-z)), "sin": mpmath.sin, "cos": mpmath.cos,
             "atan": mpmath.atan}  # fmt: skip


class Execution:
    """One way to run a program.

    Args:
        rng: decides what the machine is free to decide. flush: whether subnormal numbers become zero.
        extreme: whether functions err as much as they may.
    """

    def __init__(self, nodes: Any, tensors: Any, rng: np.random.Generator, flush: bool, extreme: bool) -> None:
        self.nodes, self.tensors, self.rng, self.flush, self.extreme = nodes, tensors, rng, flush, extreme
        self.uses = Counter([len(nodes) - 1, *(k for node in nodes for k in node.get("of", []))])
        self.values: list[list[Fraction]] = []

    def run(self, point: list[Any]) -> list[list[Fraction]]:
        """The value of every node; of a sum that was taken together with its user, what it would have been alone."""
        self.values = []
        for k, node in enumerate(self.nodes):
            self.values.append(self.node(k, node, point))
        return self.values

    def flushed(self, x: Fraction) -> Fraction:
        return Fraction(0) if self.flush and abs(x) < TINY else x

    def rounded(self, x: Fraction) -> Fraction:
        return self.flushed(Fraction(float(build.nearest_float32(x))))

    def node(self, k: int, node: Any, point: list[Any]) -> list[Fraction]:
        op, of = node["op"], node.get("of", [])
        args = [[self.flushed(x) for x in self.values[i]] for i in of]
        if op == "input":
            return [Fraction(x) for x in point]
        if op == "tensor":
            return [Fraction(float(x)) for x in self.tensors[node["name"]].ravel()]
        if op == "take":
            index = self.tensors[node["index"]].ravel()
            return [self.values[of[0]][i] if i >= 0 else Fraction(0) for i in index]
        if op == "concat":
            return [x for i in of for x in self.values[i]]
        if op in ("add", "sub", "matmul"):
            size = len(args[0]) if op != "matmul" else node["shape"][0] * node["shape"][2]
            return [self.total(self.terms(k, j, together=False)) for j in range(size)]
        if op == "neg":
            return [-x for x in self.values[of[0]]]
        if op == "relu":
            return [max(x, Fraction(0)) for x in args[0]]
        if op == "gate":
            return [v if g > 0 else Fraction(0) for g, v in zip(*args, strict=True)]
        if op in ("mul", "square"):
            return [self.rounded(a * b) for a, b in zip(args[0], args[-1], strict=True)]
        if op in ("div", "reciprocal"):
            above = args[0] if op == "div" else [Fraction(1)] * len(args[0])
            return [self.inexact(op, a / b) for a, b in zip(above, args[-1], strict=True)]
        with mpmath.workdps(60):
            exact = [FUNCTIONS[op](mpmath.mpf(x.numerator) / x.denominator) for x in args[0]]
            return [self.inexact(op, Fraction(int(mpmath.floor(y * mpmath.mpf(2) ** 200)), 2**200)) for y in exact]

    def inexact(self, op: str, x: Fraction) -> Fraction:
        most = 1.0 if self.extreme else self.rng.uniform(0, 1)
        by = Fraction(int(self.rng.choice([-1, 1])) * most * (HALF_ULPS[op] - 1.01)) / 2**24
        return self.rounded(x * (1 + by))

    def terms(self, k: int, j: int, together: bool = True) -> list[tuple[Fraction, bool]]:
        """The terms whose sum is a value, and whether each is a product not rounded yet; itself if it is no sum."""
        node, of = self.nodes[k], self.nodes[k].get("of", [])
        sums = node["op"] in ("add", "sub", "matmul")
        if together and (self.uses[k] != 1 or self.rng.random() < 0.3):
            return [(self.flushed(self.values[k][j]), False)]
        if sums and node["op"] == "matmul":
            _, width, n = node["shape"]
            r, c = divmod(j, n)
            a, w = ([self.flushed(x) for x in self.values[i]] for i in of)
            return [(a[r * width + i] * w[i * n + c], True) for i in range(width)]
        if sums:
            second = [(-x if node["op"] == "sub" else x, raw) for x, raw in self.terms(of[1], j)]
            return self.terms(of[0], j) + second
        if node["op"] == "neg":
            return [(-x, raw) for x, raw in self.terms(of[0], j)]
        if node["op"] == "take":
            i = self.tensors[node["index"]].ravel()[j]
            return self.terms(of[0], int(i)) if i >= 0 else [(Fraction(0), False)]
        return [(self.flushed(self.values[k][j]), False)]

    def total(self, terms: list[tuple[Fraction, bool]]) -> Fraction:
        """A sum in some order: any two parts are added next; a product may be added without being rounded before."""
        terms = list(terms)
        order = self.rng.integers(3)
        if order == 1:  # the largest first, so that rounding errors are large
            terms.sort(key=lambda t: -abs(t[0]))
        while len(terms) > 1:
            first, second = (0, 1) if order < 2 else sorted(self.rng.choice(len(terms), 2, replace=False))
            (x, raw), (y, other) = terms[first], terms.pop(second)
            fused = raw != other and self.rng.random() < 0.5
            x, y = (v if not unrounded or fused else self.rounded(v) for v, unrounded in ((x, raw), (y, other)))
            terms[first] = self.rounded(self.flushed(x) + self.flushed(y) if not fused else x + y), False
        value, raw = terms[0]
        return self.rounded(value) if raw else value
