"""Global Lipschitz constants from exact weights.

Differences of two runs satisfy δz = A δx + B δv, δv = s δz with slopes s in [0, β], δy = C δx + D δv: no biases, no
region. The norms 1 and ∞ follow by adding absolute values, the Euclidean one from multipliers that make a rational
matrix positive semidefinite; they are found in floats and judged exactly.
Source: Fazlyab et al. 2019, Efficient and Accurate Estimation of Lipschitz Constants (LipSDP-Neuron), arXiv 1906.04893.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import Any, Literal

import numpy as np

from axiom_jax._errors import UnsupportedPrimitive
from axiom_jax.verification.proof.exact import exactly
from axiom_jax.verification.search.margins import Subject

Norm = Literal[1, 2, "inf"]
Row = dict[int, Fraction]  # a linear form: coefficients by the number of an input or, after them, of a neuron
SLOPES = {"relu": Fraction(1), "tanh": Fraction(1), "logistic": Fraction(1, 4)}
LINEAR = {"add", "sub", "neg", "view", "take", "concat", "matmul", "mul", "div"}
MULTIPLIER_BITS = 24  # of multipliers relative to the largest
INSIDE = 1e-5  # how far from singular the search stays, so that rounded multipliers still prove something
MAX_TERMS = 4_000_000
MAX_NEURONS = 600  # for the Euclidean norm: its certificate takes time cubic in them


@dataclass(frozen=True, eq=False)
class Differences:
    """How differences of two runs of a network are related, exactly.

    Args:
        inputs: how many numbers go in.
        before: for each neuron its pre-activation as a linear form of inputs and earlier neurons.
        slope: for each neuron the largest slope β of its activation; the smallest is 0.
        outputs: the outputs as linear forms.
        groups: sizes of the layers of activations, in order.
    """

    inputs: int
    before: tuple[Row, ...]
    slope: tuple[Fraction, ...]
    outputs: tuple[Row, ...]
    groups: tuple[int, ...]

    @cached_property
    def layers(self) -> tuple[list[list[Fraction]], ...] | None:
        """The matrices of the layers, outputs × inputs, if each reads only the one before it; else None."""
        found, start, width = [], 0, self.inputs
        rows, at = [*self.before], 0
        for size in (*self.groups, len(self.outputs)):
            part = rows[at : at + size] if len(found) < len(self.groups) else list(self.outputs)
            if any(not start <= k < start + width for row in part for k in row):
                return None
            found.append([[row.get(start + k, Fraction(0)) for k in range(width)] for row in part])
            start, width, at = start + width, size, at + size
        return tuple(found)

    def described(self) -> list[dict[str, Any]] | None:
        """The layers as derivations write them; None if they do not follow one another or are no float32 numbers."""
        import base64

        if self.layers is None:
            return None
        found, at = [], 0
        for number, rows in enumerate(self.layers):
            exact = [x for row in rows for x in row]
            rounded = np.array([float(x) for x in exact], "<f4")
            slopes = {self.slope[at]} if number < len(self.groups) else {Fraction(1)}
            if any(Fraction(float(a)) != b for a, b in zip(rounded, exact, strict=True)):
                return None
            size = self.groups[number] if number < len(self.groups) else 0
            if number < len(self.groups) and len({*self.slope[at : at + size]}) > 1:
                return None
            last = number == len(self.groups)
            found.append({
                "shape": [len(rows), len(rows[0])], "weight": base64.b64encode(rounded.tobytes()).decode(),
                "slopes": ["1", "1"] if last else ["0", str(slopes.pop())],
            })  # fmt: skip
            at += size
        return found

    def matrices(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Float64 pre-activations (neurons, inputs + neurons), outputs (outputs, inputs + neurons) and slopes."""
        size = self.inputs + len(self.before)
        dense = [np.zeros((len(rows), size)) for rows in (self.before, self.outputs)]
        for matrix, rows in zip(dense, (self.before, self.outputs), strict=True):
            for i, row in enumerate(rows):
                for k, value in row.items():
                    matrix[i, k] = float(value)
        return dense[0], dense[1], np.array([float(s) for s in self.slope])


def differences(subject: Subject) -> Differences:
    """The exact relations between differences in a network.

    Args:
        subject: a model whose operations are linear, or relu, tanh and logistic.

    Raises:
        UnsupportedPrimitive: naming operations without a global slope, or that certificates cannot express.
    """
    exact = exactly(subject)
    if exact.missing is not None:
        raise _unsupported(exact.missing)
    network = exact.network
    foreign = {network.nodes[k].op for k in network.order} - LINEAR - SLOPES.keys()
    if foreign:
        raise _unsupported(", ".join(sorted(foreign)))
    inputs = network.inputs
    forms: dict[int, list[Row]] = {0: [{k: Fraction(1)} for k in range(inputs)]}
    before, slope, groups, terms = list[Row](), list[Fraction](), list[int](), 0
    for k in network.order:
        node = network.nodes[k]
        if node.op in SLOPES:
            first = inputs + len(before)
            before += forms[node.of[0]]
            slope += [SLOPES[node.op]] * node.size
            groups.append(node.size)
            forms[k] = [{first + i: Fraction(1)} for i in range(node.size)]
            continue
        operands = [forms.get(i) or [{}] * network.nodes[i].size for i in node.of]
        forms[k] = _linear(network, node, operands)
        terms += sum(map(len, forms[k]))
        if terms > MAX_TERMS:
            raise _unsupported(f"more than {MAX_TERMS:,} coefficients")
    return Differences(inputs, tuple(before), tuple(slope), tuple(forms[network.output]), tuple(groups))


def _unsupported(what: str) -> UnsupportedPrimitive:
    return UnsupportedPrimitive(
        f"There is no global Lipschitz bound for {what}.",
        fix="ask for a local one: ax.LocalLipschitz over a region; or build the model of linear layers, relu, tanh, "
        "sigmoid",
    )


def _linear(network: Any, node: Any, operands: list[list[Row]]) -> list[Row]:
    if node.terms:
        out: list[Row] = [{} for _ in range(node.size)]
        for place, index, sign in node.terms:
            source = operands[place]
            for i in range(node.size):
                j = i if index is None else index[i]
                if j >= 0:
                    _add(out[i], source[j], Fraction(sign))
        return out
    known = next((network.constants[i] for i in node.of if network.nodes[i].constant), None)
    if known is None:
        raise _unsupported(f"{node.op} of two values that vary")
    lo, hi, den = known
    if lo != hi:
        raise _unsupported("constants that are not exact, such as 1 / sqrt(variance + eps) of a batch norm")
    if node.op == "matmul":
        m, k, n = node.shape
        out = [{} for _ in range(node.size)]
        for r in range(m):
            for i in range(k):
                if source := operands[0][r * k + i]:
                    for j in range(n):
                        if w := lo[i * n + j]:
                            _add(out[r * n + j], source, Fraction(w, den))
        return out
    varying = next(form for form, i in zip(operands, node.of, strict=True) if not network.nodes[i].constant)
    factors = [Fraction(x, den) if node.op == "mul" else Fraction(den, x) for x in lo]
    return [{k: c * factor for k, c in row.items()} if factor else {} for row, factor in
            zip(varying, factors, strict=True)]  # fmt: skip


def _add(row: Row, other: Row, factor: Fraction) -> None:
    for k, value in other.items():
        total = row.get(k, 0) + factor * value
        if total:
            row[k] = total
        else:
            row.pop(k, None)


def by_absolute_values(net: Differences, norm: Literal[1, "inf"]) -> Fraction:
    """A Lipschitz constant in the norm 1 or ∞, exactly: ‖ |D| |s| |B| … ‖, at most the product of the layers' norms.

    >>> net = Differences(1, ({0: Fraction(2)}, {0: Fraction(-3)}), (Fraction(1),) * 2,
    ...                   ({1: Fraction(1), 2: Fraction(1)},), (2,))
    >>> by_absolute_values(net, "inf")
    Fraction(5, 1)
    """
    if norm == "inf":  # how far each value moves at most if every input moves by at most 1
        moved = [Fraction(1)] * net.inputs
        for row, slope in zip(net.before, net.slope, strict=True):
            moved.append(slope * sum((abs(c) * moved[k] for k, c in row.items()), Fraction(0)))
        return max(sum((abs(c) * moved[k] for k, c in row.items()), Fraction(0)) for row in net.outputs)
    weight = [Fraction(0)] * (net.inputs + len(net.before))  # how much a change of each value matters at most
    for row in net.outputs:
        for k, c in row.items():
            weight[k] += abs(c)
    for i in reversed(range(len(net.before))):
        through = net.slope[i] * weight[net.inputs + i]
        for k, c in net.before[i].items():
            weight[k] += abs(c) * through
    return max(weight[: net.inputs])


@dataclass(frozen=True)
class Euclidean:
    """A Lipschitz constant in the norm 2 with the multipliers that prove it.

    Args:
        square: its square.
        multipliers: one a neuron, ≥ 0.
    """

    square: Fraction
    multipliers: tuple[Fraction, ...]

    @property
    def value(self) -> Fraction:
        """The constant, rounded up."""
        return root_above(self.square)


def root_above(x: Fraction, bits: int = 40) -> Fraction:
    """A rational r ≥ √x with r² − x below about 2^-bits of x.

    >>> root_above(Fraction(4)), float(root_above(Fraction(2))) >= 2**0.5
    (Fraction(2, 1), True)
    """
    from math import isqrt

    shift = max(bits + (x.denominator.bit_length() - x.numerator.bit_length()) // 2 + 1, 0)
    scaled = (x.numerator << (2 * shift)) // x.denominator
    root = isqrt(scaled)
    exact = root * root * x.denominator == x.numerator << (2 * shift)
    return Fraction(root if exact else root + 1, 1 << shift)


def by_multipliers(net: Differences, seconds: float = 20.0) -> Euclidean | None:
    """A Lipschitz constant in the norm 2, judged exactly; None if no multipliers were found.

    Args:
        seconds: for the search of multipliers.
    """
    if len(net.before) > MAX_NEURONS:
        return None
    before, outputs, slope = net.matrices()
    square, multipliers = search_multipliers(before, outputs, slope, net.inputs, seconds)
    if multipliers is None:
        return None
    top = float(multipliers.max(initial=0.0))
    grid = Fraction(2) ** (int(np.ceil(np.log2(top))) - MULTIPLIER_BITS) if top > 0 else Fraction(1)
    exact = tuple(max(round(Fraction(float(x)) / grid), 1) * grid for x in multipliers)
    rounded = least_square(before, outputs, slope, net.inputs, np.array([float(x) for x in exact]))
    square = rounded if rounded is not None else square
    for margin in (1e-7, 1e-5, 1e-3, 1e-2):
        candidate = _coarse(Fraction(square) * (1 + Fraction(margin)))
        if semidefinite(certificate_matrix(net, candidate, exact)):
            return Euclidean(candidate, exact)
    return None


def _coarse(x: Fraction) -> Fraction:
    """A little more than x, with a short denominator."""
    if x <= 0:
        return Fraction(0)
    grid = Fraction(2) ** (x.numerator.bit_length() - x.denominator.bit_length() - 30)
    return -(-x // grid) * grid


def certificate_matrix(net: Differences, square: Fraction, multipliers: Sequence[Fraction]) -> list[list[Fraction]]:
    """L² |δx|² − |δy|² + Σ λᵢ δvᵢ (δvᵢ − βᵢ δzᵢ) as a symmetric matrix over (δx, δv).

    δv (δv − β δz) ≤ 0 holds for slopes in [0, β], so where the matrix is positive semidefinite |δy|² ≤ L² |δx|².
    """
    size = net.inputs + len(net.before)
    matrix = [[Fraction(0)] * size for _ in range(size)]
    for k in range(net.inputs):
        matrix[k][k] += square
    for row in net.outputs:
        items = list(row.items())
        for i, a in items:
            line = matrix[i]
            for j, b in items:
                line[j] -= a * b
    for number, (row, slope, weight) in enumerate(zip(net.before, net.slope, multipliers, strict=True)):
        i = net.inputs + number
        matrix[i][i] += weight
        for k, c in row.items():
            half = weight * slope * c / 2
            matrix[i][k] -= half
            matrix[k][i] -= half
    return matrix


def semidefinite(matrix: list[list[Fraction]], bits: int = 106) -> bool:
    """Whether a symmetric rational matrix is shown to be positive semidefinite, exactly.

    It is scaled to a unit diagonal, roughly; a float factor R, taken as exact numbers, leaves M − R Rᵀ, which has to be
    diagonally dominant. True is certain; False may be a lack of precision.

    >>> semidefinite([[Fraction(2), Fraction(1)], [Fraction(1), Fraction(2)]])
    True
    >>> semidefinite([[Fraction(1), Fraction(2)], [Fraction(2), Fraction(1)]])
    False
    """
    kept = [i for i in range(len(matrix)) if any(matrix[i])]
    if any(matrix[i][i] <= 0 for i in kept):
        return False
    scale = [Fraction(2) ** (-(_exponent(matrix[i][i]) // 2)) for i in kept]
    one = 1 << bits
    scaled, rounding = (
        list[list[int]](),
        len(kept),
    )  # rounding each entry costs at most 1 unit, a row at most its length
    for a, i in zip(scale, kept, strict=True):
        scaled.append([int(matrix[i][j] * a * b * one) for b, j in zip(scale, kept, strict=True)])
    dense = np.array(scaled, dtype=float) / one
    least = float(np.linalg.eigvalsh(dense)[0])
    if least <= 0:
        return False
    try:
        factor = np.linalg.cholesky(dense - np.eye(len(kept)) * least / 2)
    except np.linalg.LinAlgError:
        return False
    half = bits // 2
    rows = [[int(x) for x in row] for row in np.rint(factor * 2.0**half).tolist()]
    for i, row in enumerate(scaled):
        off, diagonal = rounding, 0
        for j, value in enumerate(row):
            rest = value - sum(map(int.__mul__, rows[i][: min(i, j) + 1], rows[j][: min(i, j) + 1]))
            if i == j:
                diagonal = rest
            else:
                off += abs(rest)
        if diagonal < off:
            return False
    return True


def _exponent(x: Fraction) -> int:
    return x.numerator.bit_length() - x.denominator.bit_length()


def search_multipliers(
    before: np.ndarray, outputs: np.ndarray, slope: np.ndarray, inputs: int, seconds: float
) -> tuple[float, np.ndarray | None]:
    """Multipliers that make L² small, by BFGS on their logarithms; L² is convex in them.

    Args:
        before, outputs, slope: as `Differences.matrices`.
        inputs: how many numbers go in. seconds: stop then.

    Returns:
        L² in float64 and the multipliers, or None if not even a start was found.
    """
    import time

    deadline = time.monotonic() + seconds
    start = _start(before, outputs, slope, inputs)
    if start is None:
        return float("inf"), None
    best = start
    for sharpness in (8.0, 32.0, 128.0):
        objective = lambda theta, p=sharpness: _value(before, outputs, slope, inputs, theta, p)
        best = _descend(objective, best, deadline)
    value = least_square(before, outputs, slope, inputs, np.exp(best))
    return (float("inf"), None) if value is None else (value, np.exp(best))


def least_square(
    before: np.ndarray, outputs: np.ndarray, slope: np.ndarray, inputs: int, weights: np.ndarray
) -> float | None:
    """The least L² for given multipliers, in floats; None if they bound nothing."""
    found = _value(before, outputs, slope, inputs, np.log(weights), None)
    return None if found is None else found[0]


def _start(before: np.ndarray, outputs: np.ndarray, slope: np.ndarray, inputs: int) -> np.ndarray | None:
    """Multipliers that bound something: much larger for early neurons than for those that depend on them."""
    count = len(before)
    depth = np.zeros(count)
    for i in range(count):
        earlier = np.flatnonzero(before[i, inputs:])
        depth[i] = 1 + (depth[earlier].max() if len(earlier) else 0)
    last = depth.max(initial=1)
    for power in range(1, 60):
        theta = (last - depth + 1) * power * 0.5 + np.log(1e-30 + (outputs**2).sum() + 1)
        if _value(before, outputs, slope, inputs, theta, None) is not None:
            return theta
    return None


def _value(
    before: np.ndarray, outputs: np.ndarray, slope: np.ndarray, inputs: int, theta: np.ndarray, sharpness: float | None
) -> tuple[float, np.ndarray] | None:
    """L² (or a smooth bound of it: a power mean of the eigenvalues) at λ = exp θ, and its gradient in θ."""
    if not np.all(np.abs(theta) < 300):
        return None
    weights = np.exp(theta)
    scaled = (weights * slope)[:, None] * before / 2
    gram = outputs.T @ outputs
    inner = (1 - INSIDE) * np.diag(weights) - scaled[:, inputs:] - scaled[:, inputs:].T - gram[inputs:, inputs:]
    cross = -scaled[:, :inputs] - gram[inputs:, :inputs]
    try:
        factor = np.linalg.cholesky(inner)
    except np.linalg.LinAlgError:
        return None
    half = np.linalg.solve(factor, cross)
    values, vectors = np.linalg.eigh(gram[:inputs, :inputs] + half.T @ half)
    top = max(float(values[-1]), 1e-300)
    if sharpness is None:
        share, total = (values >= values[-1]).astype(float), top
        share /= share.sum()
    else:
        relative = np.maximum(values, 0) / top
        power = (relative**sharpness).sum()
        total = top * power ** (1 / sharpness)
        share = relative ** (sharpness - 1) * power ** (1 / sharpness - 1)
    moved = -np.linalg.solve(factor.T, half @ vectors)  # δv that is worst for each eigenvector δx
    into = before @ np.concatenate([vectors, moved])
    loss = (moved * ((1 - INSIDE) * moved - slope[:, None] * into)) @ share
    return total, -loss * weights


def _descend(
    objective: Callable[[np.ndarray], tuple[float, np.ndarray] | None], start: np.ndarray, deadline: float
) -> np.ndarray:
    """BFGS with backtracking on log L²; steps that leave the domain are shortened."""
    import time

    def at(theta: np.ndarray) -> tuple[float, np.ndarray] | None:
        found = objective(theta)
        return None if found is None or found[0] <= 0 else (np.log(found[0]), found[1] / found[0])

    now = at(start)
    if now is None:
        return start
    theta, (value, gradient), inverse = start, now, np.eye(len(start))
    for _ in range(400):
        if time.monotonic() > deadline or np.abs(gradient).max(initial=0) < 1e-7:
            break
        step = -inverse @ gradient
        if step @ gradient >= 0:
            inverse, step = np.eye(len(start)), -gradient
        length = min(1.0, 2.0 / max(np.abs(step).max(), 1e-30))
        while length > 1e-10:
            tried = at(theta + length * step)
            if tried is not None and tried[0] <= value + 1e-4 * length * (step @ gradient):
                break
            length /= 2
        else:
            break
        moved, change = length * step, tried[1] - gradient
        theta, gained, (value, gradient) = theta + moved, value - tried[0], tried
        curvature = moved @ change
        if curvature > 1e-14:
            left = np.eye(len(start)) - np.outer(moved, change) / curvature
            inverse = left @ inverse @ left.T + np.outer(moved, moved) / curvature
        if gained < 1e-9:
            break
    return theta
