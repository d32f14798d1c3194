"""Whether what a certificate claims is true, found out without the checker: from docs/certificate-format.md alone.

Where the program is piecewise linear and small, every sign pattern is enumerated, in rational arithmetic; else points
are tried: corners, a grid, random ones, and a climb from the worst of them. At level float32 its program is executed
in many ways too. What is found is evaluated exactly before anything is called false.
"""

import sys
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "verify"))
sys.path.insert(0, str(Path(__file__).parent))
import checker_builder as build
from enumeration import Decide, Form, Polytope, at, pieces, plus, relu, times
from float32_executions import Execution

LINEAR = {"input", "tensor", "matmul", "take", "concat", "add", "sub", "neg", "mul", "div", "relu"}
FEW = 12  # relus, and at most 3 inputs, that all sign patterns are tried of
ONE, ZERO = Fraction(1), Fraction(0)
Point = list[Fraction]


class Malformed(Exception):
    """The certificate says nothing: its program or its property has no meaning."""


class Bent(Exception):
    """A product of two variables: the program is not piecewise linear."""


@dataclass(frozen=True)
class Found:
    """What is known of a claim: that it is `false`, `true`, or `open`; and how that is known."""

    what: str
    how: str


def judged(payload: dict[str, Any], tries: int = 400, runs: int = 12) -> Found:
    """What is true of a certificate's claim.

    Args:
        tries: points of a case. runs: executions at each of the worst points, at level float32.
    """
    try:
        program, tensors = payload["model"]["program"], build.tensors_of(payload)
        nodes = program["nodes"][: program["output"] + 1]
        claim, proof, cases = payload["claim"], payload["proof"], payload["property"]["cases"]
        if claim == "violated":
            return _shown(nodes, tensors, cases, proof)
        if claim != "holds" or not cases:
            return Found("false", "no claim of the format")
        parts = [_held(nodes, tensors, case, payload["profile"], tries, runs) for case in cases]
    except OverflowError:
        return Found("open", "its numbers are too large to be tried out")
    except (Malformed, KeyError, ValueError, IndexError, TypeError, ArithmeticError, AttributeError, zlib.error):
        return Found("false", "it has no meaning")
    order = ("false", "open", "true")
    return min(parts, key=lambda found: order.index(found.what))


def number(text: str) -> Fraction:
    return Fraction(float.fromhex(text)) if "x" in text else Fraction(text)


def domain(case: Any) -> tuple[Point, Point]:
    """The box at level `real`: it holds the exact box and the rounded one."""
    lo, hi = ([number(x) for x in case["exact"][end]] for end in ("lo", "hi"))
    if any(a > b for a, b in zip(lo, hi, strict=True)):
        raise Malformed
    near = lambda x: Fraction(float(build.nearest_float32(x)))
    return [min(x, near(x)) for x in lo], [max(x, near(x)) for x in hi]


def _shown(nodes: Any, tensors: Any, cases: Any, proof: Any) -> Found:
    case, point = cases[proof["case"]], [number(x) for x in proof["inputs"]]
    boxes = [[[number(x) for x in case[kind][end]] for end in ("lo", "hi")] for kind in ("exact", "float32")]
    within = [all(a <= x <= b for a, x, b in zip(lo, point, hi, strict=True)) for lo, hi in boxes]
    rounded = all(Fraction(float(build.nearest_float32(x))) == x for x in point)
    outputs = build.evaluate(nodes, tensors, len(nodes) - 1, point)
    good = (within[0] or (within[1] and rounded)) and build.unsafe_at(case, point, outputs)
    return Found("true" if good else "false", "the point, evaluated exactly")


def _held(nodes: Any, tensors: Any, case: Any, profile: str, tries: int, runs: int) -> Found:
    lo, hi = domain(case)
    if not case["unsafe"] or not all(case["unsafe"]):
        raise Malformed
    if (y := build.evaluate(nodes, tensors, len(nodes) - 1, lo)) is None or any(
        not 0 <= j < len(y) for d in case["unsafe"] for a in d for j, _ in a["output"]
    ):
        raise Malformed
    points = worst_points(nodes, tensors, case, lo, hi, tries)
    for point in points[:4]:
        if build.unsafe_at(case, point, build.evaluate(nodes, tensors, len(nodes) - 1, point)):
            return Found("false", "a point that is unsafe")
    for number, point in enumerate(points if profile else ()):
        point = [Fraction(float(x)) for x in np.array([float(x) for x in point], np.float32)]
        if not all(a <= x <= b for a, x, b in zip(lo, point, hi, strict=True)):
            continue
        for run in range(runs):
            way = Execution(nodes, tensors, np.random.default_rng((number, run)), bool(run % 2), run > 2)
            if build.unsafe_at(case, point, way.run(point)[-1]):
                return Found("false", "an execution in float32 that is unsafe")
    if profile:
        return Found("open", f"points, and {runs} executions at the worst")
    values = build.evaluate_all(nodes, tensors, lo)
    few = sum(len(v) for v, n in zip(values, nodes, strict=True) if n["op"] == "relu") <= FEW and len(lo) <= 3
    try:
        if few and {n["op"] for n in nodes} <= LINEAR:
            return Found("false" if reached(nodes, tensors, case, lo, hi) else "true", "every sign pattern")
    except Bent:
        pass
    return Found("open", "points")


def worst_points(nodes: Any, tensors: Any, case: Any, lo: Point, hi: Point, tries: int) -> list[Point]:
    """Points of a box, those first where some disjunct is nearest to being true: corners, random ones, and a climb."""
    rng, n = np.random.default_rng(0), len(lo)
    low, high = (np.array([float(x) for x in end]) for end in (lo, hi))
    parts = np.concatenate([rng.integers(0, 2, (tries // 4 + 1, n)), rng.random((tries // 2 + 1, n)), [[0.5] * n]])
    score = lambda parts: _score(nodes, tensors, case, low + (high - low) * parts)
    scores = score(parts)
    for radius in (0.2, 0.05, 0.01, 0.002):  # a climb without gradients
        best = parts[np.argsort(scores)[:3]]
        near = best[rng.integers(len(best), size=tries // 8 + 1)]
        more = np.clip(near + rng.normal(size=near.shape) * radius, 0, 1)
        parts, scores = np.concatenate([parts, more]), np.concatenate([scores, score(more)])
    order = np.argsort(scores)[:6]
    return [[a + (b - a) * Fraction(float(p)) for a, b, p in zip(lo, hi, parts[k], strict=True)] for k in order]


def _score(nodes: Any, tensors: Any, case: Any, points: np.ndarray) -> np.ndarray:
    """For each point how far the nearest disjunct is from being true; in float64."""
    with np.errstate(all="ignore"):
        y = build.evaluate_many(nodes, tensors, points)[-1]
        least = np.full(len(points), np.inf)
        for disjunct in case["unsafe"]:
            worst = np.full(len(points), -np.inf)
            for a in disjunct:
                left = sum((float(Fraction(d)) * y[:, j] for j, d in a["output"]), np.zeros(len(points)))
                left = left + sum(float(Fraction(c)) * points[:, i] for i, c in a["input"])
                worst = np.maximum(worst, left - float(Fraction(a["threshold"])))
            least = np.minimum(least, np.nan_to_num(worst, nan=-1e300))
    return least


def reached(nodes: Any, tensors: Any, case: Any, lo: Point, hi: Point) -> bool:
    """Whether some point of a box is unsafe; the program has linear nodes and relus alone."""
    net = lambda inputs, decide: forms_of(nodes, tensors, inputs, decide)
    for region, outputs in pieces(net, lo, hi):
        for disjunct in case["unsafe"]:
            margins = [_margin(a, len(lo), outputs) for a in disjunct]
            part: Polytope = region
            for k, margin in enumerate(margins):
                part = part.cut(margin, 1000 + k)
            strict = [m for m, a in zip(margins, disjunct, strict=True) if a["strict"]]
            if part.points and all(min(at(m, p) for p, _ in part.points) < 0 for m in strict):
                return True  # the mean of points at which one strict atom holds each satisfies all of them
    return False


def _margin(atom: Any, inputs: int, outputs: list[Form]) -> Form:
    made = [ZERO] * inputs + [-number(atom["threshold"])]
    for i, c in atom["input"]:
        if not 0 <= i < inputs:
            raise Malformed
        made[i] += number(c)
    return plus(tuple(made), *(times(number(d), outputs[j]) for j, d in atom["output"]))


def forms_of(nodes: Any, tensors: Any, inputs: list[Form], decide: Decide) -> list[Form]:
    """The outputs of a program of linear nodes and relus, as forms of the inputs."""
    flat = lambda x: (*[ZERO] * (len(inputs[0]) - 1), x)
    values: list[list[Form]] = []
    for node in nodes:
        op, args = node["op"], [values[k] for k in node.get("of", [])]
        values.append([*_forms(op, node, args, tensors, inputs, decide, flat)])
    return values[-1]


def _forms(op: str, node: Any, args: Any, tensors: Any, inputs: Any, decide: Any, flat: Any) -> Iterator[Form]:
    if op == "input":
        yield from inputs
    elif op == "tensor":
        yield from (flat(Fraction(float(x))) for x in tensors[node["name"]].ravel())
    elif op == "matmul":
        m, k, n = node["shape"]
        for r in range(m):
            for j in range(n):
                yield plus(*(times(args[1][i * n + j][-1], args[0][r * k + i]) for i in range(k)))
    elif op == "take":
        yield from (args[0][i] if i >= 0 else flat(ZERO) for i in tensors[node["index"]].ravel())
    elif op == "concat":
        yield from (x for part in args for x in part)
    elif op in ("add", "sub"):
        yield from (plus(a, times(ONE if op == "add" else -ONE, b)) for a, b in zip(*args, strict=True))
    elif op == "neg":
        yield from (times(-ONE, a) for a in args[0])
    elif op == "relu":
        yield from (relu(a, decide) for a in args[0])
    else:  # a product or a quotient with a constant
        for a, b in zip(*args, strict=True):
            if op == "mul" and not any(a[:-1]):
                a, b = b, a
            if any(b[:-1]):
                raise Bent
            yield times(b[-1] if op == "mul" else 1 / b[-1], a)
