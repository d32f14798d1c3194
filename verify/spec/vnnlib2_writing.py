"""VNN-LIB 2.0 out: the property of a certificate as a text that other tools read.

Inputs and outputs are flat tensors X and Y in C order. Rationals become integers: an inequality is multiplied by its
denominators, so the text says exactly what the certificate says.
Source: VNN-LIB 2.0, https://github.com/VNNLIB/VNNLIB-Standard.
"""

from collections.abc import Sequence
from fractions import Fraction
from math import lcm, prod
from typing import Any

Term = tuple[str, Fraction]
ELEMENTWISE = frozenset({"add", "sub", "mul", "div", "neg", "relu", "gate", "tanh", "logistic", "exp", "square",
                         "reciprocal", "sqrt", "log", "erf", "sin", "cos", "atan"})  # fmt: skip


def property_text(cases: Sequence[dict[str, Any]], outputs: int) -> str:
    """The text of what is unsafe: some case has an input of its exact box where some disjunct holds.

    Args:
        cases: as docs/certificate-format.md says. outputs: how many the network has.

    >>> atom = {"input": [], "output": [[0, "1"], [1, "-1/3"]], "strict": False, "threshold": "1/2"}
    >>> box = {"lo": ["0"], "hi": ["1/10"]}
    >>> print(property_text([{"exact": box, "unsafe": [[atom]]}], 2))
    (vnnlib-version <2.0>)
    (declare-network f (declare-input X real [1]) (declare-output Y real [2]))
    (assert (>= X[0] 0))
    (assert (<= (* 10 X[0]) 1))
    (assert (<= (+ (* 6 Y[0]) (* -2 Y[1])) 3))
    """
    inputs = len(cases[0]["exact"]["lo"])
    head = f"(declare-network f (declare-input X real [{inputs}]) (declare-output Y real [{outputs}]))"
    if len(cases) == 1:
        said = [*_box(cases[0]), _unsafe(cases[0])]
    else:
        said = [_joined("or", [_joined("and", [*_box(case), _unsafe(case)]) for case in cases])]
    return "\n".join(["(vnnlib-version <2.0>)", head, *(f"(assert {line})" for line in said)])


def output_size(model: dict[str, Any]) -> int | None:
    """How many numbers the program of a certificate's model gives; None if it has an operation not known here."""
    program, tensors = model["program"], model["tensors"]
    sizes: list[int] = []
    for node in program["nodes"]:
        match node["op"]:
            case "input":
                sizes.append(node["size"])
            case "tensor":
                sizes.append(prod(tensors[node["name"]]["shape"]))
            case "matmul":
                sizes.append(node["shape"][0] * node["shape"][2])
            case "take":
                sizes.append(prod(tensors[node["index"]]["shape"]))
            case "concat":
                sizes.append(sum(sizes[i] for i in node["of"]))
            case op if op in ELEMENTWISE:
                sizes.append(sizes[node["of"][0]])
            case _:
                return None
    return sizes[program["output"]]


def _box(case: dict[str, Any]) -> list[str]:
    """Two inequalities an input; the ends are in lowest terms, as the checker asks for."""
    lo, hi = case["exact"]["lo"], case["exact"]["hi"]
    return [_bound(op, i, end) for i, ends in enumerate(zip(lo, hi, strict=True))
            for op, end in zip((">=", "<="), ends, strict=True)]  # fmt: skip


def _bound(op: str, i: int, end: str) -> str:
    above, _, below = end.partition("/")
    return f"({op} (* {below} X[{i}]) {above})" if below else f"({op} X[{i}] {above})"


def _unsafe(case: dict[str, Any]) -> str:
    return _joined("or", [_joined("and", [_atom(atom) for atom in disjunct]) for disjunct in case["unsafe"]])


def _atom(atom: dict[str, Any]) -> str:
    terms = [(f"{name}[{i}]", Fraction(c)) for name, side in (("X", "input"), ("Y", "output")) for i, c in atom[side]]
    return _compared("<" if atom["strict"] else "<=", terms, Fraction(atom["threshold"]))


def _compared(op: str, terms: Sequence[Term], end: Fraction) -> str:
    scale = lcm(end.denominator, *(c.denominator for _, c in terms))
    parts = [name if c * scale == 1 else f"(* {c * scale} {name})" for name, c in terms]
    left = parts[0] if len(parts) == 1 else f"(+ {' '.join(parts)})" if parts else "0"
    return f"({op} {left} {end * scale})"


def _joined(word: str, parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else f"({word} {' '.join(parts)})"
