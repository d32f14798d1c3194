"""A certificate's network as lines: one number each, affine in the numbers before it, perhaps rectified.

Everything is exact: float32 weights are dyadic rationals, and a line has integer weights over one denominator. Sums,
differences, views and products with constants are put together; a product with a matrix of numbers that are sums
themselves gives these sums lines of their own, so that weights stay as they are.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from math import lcm

from axiom_jax._errors import CertificateError
from axiom_jax.verification import checker

MOST_LINES, MOST_TERMS = 2000, 1 << 20  # numbers of a network that is still worth a try; terms in all its lines
LINEAR = {"add", "sub", "neg", "take", "concat"}
NAMES = {"mul": "products of variables", "gate": "comparisons that decide (gate)"}


@dataclass(frozen=True)
class Line:
    """(constant + the weights times the numbers from number `first` on) / over; if `rectified`, its maximum with 0.

    Args:
        node, element: what of the certificate's program it is.
    """

    rectified: bool
    over: int
    constant: int
    first: int
    weights: tuple[int, ...]
    node: int
    element: int


@dataclass(frozen=True)
class Lines:
    """A network: numbers are the inputs, then the lines in order; the last `outputs` lines are the outputs.

    Args:
        entering: for (node, element) of the certificate's program, the line that rectifies it.
    """

    inputs: int
    outputs: int
    lines: tuple[Line, ...]
    entering: Mapping[tuple[int, int], int]

    def evaluate(self, point: list[Fraction]) -> list[Fraction]:
        """The outputs at a point, exactly."""
        values = list(point)
        for line in self.lines:
            seen = values[line.first : line.first + len(line.weights)]
            z = (line.constant + sum((w * v for w, v in zip(line.weights, seen, strict=True)), Fraction(0))) / line.over
            values.append(max(z, Fraction(0)) if line.rectified else z)
        return values[len(values) - self.outputs :]


@dataclass
class Sum:
    """constant + the sum of factor * number."""

    constant: Fraction
    terms: dict[int, Fraction]

    def add(self, other: "Sum", factor: Fraction) -> None:
        self.constant += factor * other.constant
        for k, c in other.terms.items():
            self.terms[k] = self.terms.get(k, Fraction(0)) + factor * c


def unsupported(feature: str, fix: str | None = None) -> CertificateError:
    """That a certificate cannot be told to Coq because of a feature, by name."""
    fix = fix or "docs/coq.md lists what can be exported; `axiom check` judges every certificate"
    return CertificateError(f"This certificate cannot be exported to Coq: {feature}.", got=feature, fix=fix)


def lines_of(network: checker.Network) -> Lines:
    """Write a validated network of the checker as lines.

    Raises:
        CertificateError: it is not piecewise linear, has a constant that is no rational number, or is too large.

    >>> nodes = [checker.Node("input", [], 1, False), checker.Node("relu", [0], 1, False)]
    >>> found = lines_of(checker.Network(nodes, 1, {}))
    >>> [(line.rectified, line.weights) for line in found.lines], found.evaluate([Fraction(-3)])
    ([(True, (1,)), (False, (1,))], [Fraction(0, 1)])
    """
    return _Writer(network).written()


class _Writer:
    """A network, being written as lines."""

    def __init__(self, network: checker.Network) -> None:
        self.network, self.lines = network, list[Line]()
        self.entering: dict[tuple[int, int], int] = {}
        self.sums: dict[int, list[Sum | None]] = {}  # by node; None where no output needs it
        self.terms = 0

    def written(self) -> Lines:
        network = self.network
        foreign = {network.nodes[k].op for k in network.order if not _piecewise_linear(network.nodes[k])}
        if foreign:
            raise unsupported(", ".join(NAMES.get(op, f"the function {op}") for op in sorted(foreign)))
        needed = self._needed()
        self.sums[0] = [Sum(Fraction(0), {i: Fraction(1)}) for i in range(network.inputs)]
        for k in network.order:
            self.sums[k] = [self._element(k, j) if j in needed[k] else None for j in range(network.nodes[k].size)]
        for j, value in enumerate(self.sums[network.output]):
            assert value is not None
            self._line(value, False, network.output, j)
        return Lines(network.inputs, network.outputs, tuple(self.lines), self.entering)

    def _needed(self) -> dict[int, set[int]]:
        """By node, the elements on which an output depends."""
        network = self.network
        needed: dict[int, set[int]] = {k: set() for k in range(len(network.nodes))}
        needed[network.output] = set(range(network.outputs))
        for k in reversed(network.order):
            for j in needed[k]:
                for i, e in self._operands(k, j):
                    needed[i].add(e)
        return needed

    def _operands(self, k: int, j: int) -> list[tuple[int, int]]:
        """The elements of other nodes that element j of node k is made from; constants are left out."""
        node = self.network.nodes[k]
        if node.terms:
            places = [(node.of[place], j if index is None else index[j]) for place, index, _ in node.terms]
            return [(i, e) for i, e in places if e >= 0 and i not in self.network.constants]
        if node.op == "matmul":
            _, width, count = node.shape
            return [(node.of[0], j // count * width + i) for i in range(width)]
        return [(node.source, j)]

    def _element(self, k: int, j: int) -> Sum:
        node, network, found = self.network.nodes[k], self.network, Sum(Fraction(0), {})
        if node.terms:
            for place, index, sign in node.terms:
                i, e = node.of[place], j if index is None else index[j]
                if i in network.constants:
                    found.constant += sign * self._constant(i, e) if e >= 0 else 0
                elif e >= 0:
                    found.add(self._known(i, e), Fraction(sign))
        elif node.op == "matmul":
            count = node.shape[2]
            for i, (_, e) in enumerate(self._operands(k, j)):
                weight = self._constant(node.of[1], i * count + j % count)
                if weight:
                    found.add(self._single(node.of[0], e), weight)
        elif node.op == "relu":
            value = self._known(node.source, j)
            if not value.terms:
                return Sum(max(value.constant, Fraction(0)), {})
            self.entering.setdefault((node.source, j), len(self.lines))
            found.terms[self._line(value, True, k, j)] = Fraction(1)
        else:  # mul and div with a constant
            other = next(i for i in node.of if i in network.constants)
            factor = self._constant(other, j)
            found.add(self._known(node.source, j), factor if node.op == "mul" else 1 / factor)
        found.terms = {i: c for i, c in found.terms.items() if c}
        self.terms += len(found.terms)
        if self.terms > MOST_TERMS:
            raise unsupported(f"a network of more than {MOST_TERMS} weights")
        return found

    def _known(self, k: int, j: int) -> Sum:
        value = self.sums[k][j]
        assert value is not None
        return value

    def _single(self, k: int, j: int) -> Sum:
        """The same number with one term at most: a longer sum becomes a line."""
        value = self._known(k, j)
        if len(value.terms) > 1:
            value = Sum(Fraction(0), {self._line(value, False, k, j): Fraction(1)})
            self.sums[k][j] = value
        return value

    def _constant(self, k: int, j: int) -> Fraction:
        lo, hi, den = self.network.constants[k]
        if lo[j] != hi[j]:
            raise unsupported("a constant that is no exact rational number")
        return Fraction(lo[j], den)

    def _line(self, value: Sum, rectified: bool, k: int, j: int) -> int:
        """Append a line; its number among all numbers."""
        over = lcm(value.constant.denominator, *(c.denominator for c in value.terms.values()))
        first = min(value.terms, default=0)
        weights = [0] * (max(value.terms, default=-1) + 1 - first)
        for i, c in value.terms.items():
            weights[i - first] = c.numerator * (over // c.denominator)
        constant = value.constant.numerator * (over // value.constant.denominator)
        self.lines.append(Line(rectified, over, constant, first, tuple(weights), k, j))
        if len(self.lines) > MOST_LINES:
            raise unsupported(f"a network of more than {MOST_LINES} neurons")
        return self.network.inputs + len(self.lines) - 1


def _piecewise_linear(node: checker.Node) -> bool:
    return node.op in LINEAR | {"matmul", "relu"} or (node.op in ("mul", "div") and not node.pair)
