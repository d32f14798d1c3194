"""Monotonicity and convexity by the signs of weights, as derivations: for every input, not only over a region.

relu is increasing and convex, so what the weights carry from neuron to neuron with the right sign stays so. A step of
the derivation a neuron says it of that neuron; the derivation checker judges every one.
Source: Daniels and Velikova 2010, Monotone and partially monotone neural networks; Amos et al. 2017, arXiv 1609.07152.
"""

from collections.abc import Sequence
from fractions import Fraction
from typing import Any

from axiom_jax._errors import UnsupportedPrimitive
from axiom_jax.verification import derivation_checker as kernel
from axiom_jax.verification.lipschitz_bounds import Differences, differences
from axiom_jax.verification.proof.derivation import Step, derivation_of
from axiom_jax.verification.properties.scope import Budget
from axiom_jax.verification.properties.terms import checked, written
from axiom_jax.verification.results import Answer
from axiom_jax.verification.search.margins import Subject
from axiom_jax.verification.verdict import Unknown

HALF = Fraction(1, 2)
Sum = list[tuple[Fraction, list[int], list[kernel.Node]]]


class _Proof:
    """Steps in preorder, and how many hypotheses there are."""

    def __init__(self, hypotheses: int):
        self.steps, self.count = list[Step](), hypotheses

    def add(self, rule: str, new: int = 0, **given: Any) -> int:
        """A step that adds `new` hypotheses; the number of the last one."""
        self.steps.append((rule, given))
        self.count += new
        return self.count - 1

    def bounds(self, argument: kernel.Node) -> tuple[int, int]:
        """Hypotheses: argument ≤ relu, 0 ≤ relu."""
        both = self.add("axiom", 1, name="max_bounds", terms=[argument, kernel.ZERO])
        last = self.add("unpack", 2, hyp=both, name="")
        return last - 1, last

    def have(self, formula: kernel.Node, sum: Sum) -> int:
        """A hypothesis that is a combination of others."""
        self.add("have", formula=formula)
        self.add("arith", sum=sum, zero=[])
        self.count += 1
        return self.count - 1


def monotone_by_signs(
    subject: Subject, features: Sequence[int], outputs: Sequence[int], increasing: bool, text: str, budget: Budget
) -> Answer:
    """Whether the signs of the weights show that outputs grow (fall) with features, for every input.

    Returns:
        `Proved` if the derivation checker accepted, else `Unknown` with the reason.
    """
    try:
        net = differences(subject)
        moves = _directions(net, features)
        wrong = [j for j in outputs if moves(net.outputs[j]) not in ((0, 1) if increasing else (0, -1))]
        if wrong:
            return Unknown("the signs of the weights do not show it")
        low = [kernel.var("x", i) for i in range(net.inputs)]
        high = [kernel.var("y", features.index(i)) if i in features else t for i, t in enumerate(low)]
        return _monotone(subject, net, moves, low, high, features, outputs, increasing, text, budget)
    except UnsupportedPrimitive as error:
        return Unknown(error.what.rstrip("."))
    except kernel.Rejected as error:
        return Unknown(f"the network is too large for a derivation: {error}")


def _directions(net: Differences, features: Sequence[int]) -> Any:
    """Says of a linear form whether it grows (1), falls (−1), stays (0) or None, as the features grow."""
    known: list[int | None] = [1 if i in features else 0 for i in range(net.inputs)]

    def of(row: dict[int, Fraction]) -> int | None:
        parts = {None if known[k] is None else (known[k] or 0) * (1 if c > 0 else -1) for k, c in row.items()} - {0}
        return 0 if not parts else parts.pop() if len(parts) == 1 else None

    for row in net.before:
        known.append(of(row))
    return of


def _monotone(
    subject: Subject, net: Differences, moves: Any, low: list[kernel.Node], high: list[kernel.Node],
    features: Sequence[int], outputs: Sequence[int], increasing: bool, text: str, budget: Budget,
) -> Answer:  # fmt: skip
    below, above = written(subject, low), written(subject, high)
    if below.others:
        return Unknown(f"there is no step for {', '.join(sorted(below.others))}")
    hypotheses = [kernel.le(low[i], high[i]) for i in features]
    proof, facts = _Proof(len(hypotheses)), {i: k for k, i in enumerate(features)}

    def combined(row: dict[int, Fraction]) -> Sum:
        return [(abs(c), [facts[k]], []) for k, c in sorted(row.items()) if k in facts]

    for number, row in enumerate(net.before):
        direction = moves(row)
        if direction not in (1, -1):
            continue
        (a, _), (b, value_b) = (w.relus[number] for w in ((below, above) if direction > 0 else (above, below)))
        bound, _ = proof.bounds(b)
        proof.have(kernel.le(a, value_b), [*combined(row), (Fraction(1), [bound], [])])
        facts[net.inputs + number] = proof.add("axiom", 1, name="max_least", terms=[a, kernel.ZERO, value_b])
    parts, closing = [], list[Sum]()
    for j in outputs:
        s, t = (below.outputs[j], above.outputs[j]) if increasing else (above.outputs[j], below.outputs[j])
        parts.append(kernel.le(s, t))
        closing.append(combined(net.outputs[j]))
    _close(proof, closing)
    goal = parts[0] if len(parts) == 1 else kernel.conj(*parts)
    variables = [("x", [net.inputs]), ("y", [len(features)])]
    return checked(derivation_of(text, [], variables, hypotheses, goal, proof.steps), budget.check_seconds)


def convex_by_signs(subject: Subject, outputs: Sequence[int], concave: bool, text: str, budget: Budget) -> Answer:
    """Whether the signs of the weights show that outputs are convex (concave) in the input, for every input.

    Returns:
        `Proved` if the derivation checker accepted, else `Unknown` with the reason.
    """
    try:
        net = differences(subject)
        x, y = ([kernel.var(name, i) for i in range(net.inputs)] for name in "xy")
        middle = [kernel.add(kernel.mul(HALF, a), kernel.mul(HALF, b)) for a, b in zip(x, y, strict=True)]
        at = [written(subject, terms) for terms in (x, y, middle)]
    except UnsupportedPrimitive as error:
        return Unknown(error.what.rstrip("."))
    except kernel.Rejected as error:
        return Unknown(f"the network is too large for a derivation: {error}")
    if at[0].others:
        return Unknown(f"there is no step for {', '.join(sorted(at[0].others))}")
    needed, sign = set[int](), -1 if concave else 1
    rows = {j: {k: sign * c for k, c in net.outputs[j].items()} for j in outputs}
    stack = [k - net.inputs for row in rows.values() for k in row if k >= net.inputs]
    while stack:
        number = stack.pop()
        if number not in needed:
            needed.add(number)
            stack += [k - net.inputs for k in net.before[number] if k >= net.inputs]
    carried = [c for j in rows for k, c in rows[j].items() if k >= net.inputs]
    carried += [c for n in needed for k, c in net.before[n].items() if k >= net.inputs]
    if any(c < 0 for c in carried):
        return Unknown("the signs of the weights do not show it")
    proof, facts = _Proof(0), dict[int, int]()
    try:
        for number in sorted(needed):
            _convex_neuron(proof, facts, net, at, number)
        parts, closing = [], list[Sum]()
        for j, row in rows.items():
            halves = kernel.add(*(kernel.mul(HALF, w.outputs[j]) for w in at[:2]))
            parts.append(kernel.le(halves, at[2].outputs[j]) if concave else kernel.le(at[2].outputs[j], halves))
            closing.append([(c, [facts[k]], []) for k, c in sorted(row.items()) if k in facts])
        _close(proof, closing)
        goal = parts[0] if len(parts) == 1 else kernel.conj(*parts)
        variables = [("x", [net.inputs]), ("y", [net.inputs])]
        return checked(derivation_of(text, [], variables, [], goal, proof.steps), budget.check_seconds)
    except kernel.Rejected as error:
        return Unknown(f"the network is too large for a derivation: {error}")


def _convex_neuron(proof: _Proof, facts: dict[int, int], net: Differences, at: list[Any], number: int) -> None:
    """A hypothesis: relu at the middle ≤ half the relus at the ends."""
    (x, at_x), (y, at_y), (m, _) = (w.relus[number] for w in at)
    above = kernel.add(kernel.mul(HALF, at_x), kernel.mul(HALF, at_y))
    (x_below, x_positive), (y_below, y_positive) = proof.bounds(x), proof.bounds(y)
    earlier: Sum = [(c, [facts[k]], []) for k, c in sorted(net.before[number].items()) if k in facts]
    proof.have(kernel.le(m, above), [*earlier, (HALF, [x_below], []), (HALF, [y_below], [])])
    proof.have(kernel.le(0, above), [(HALF, [x_positive], []), (HALF, [y_positive], [])])
    facts[net.inputs + number] = proof.add("axiom", 1, name="max_least", terms=[m, kernel.ZERO, above])


def _close(proof: _Proof, closing: list[Sum]) -> None:
    if len(closing) > 1:
        proof.add("split")
    for sum in closing:
        proof.add("arith", sum=sum, zero=[])
