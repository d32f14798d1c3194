"""Networks as terms of the derivation checker, which sees by their normal forms that two are equal.

Every output is a term in the entries of x; weights are exact rationals. In normal form equal neurons are one object, so
that f(πx) and f(x) of a network that does not care about the order are the same term.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import reduce
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from axiom_jax._errors import UnsupportedPrimitive
from axiom_jax.verification import derivation_checker as kernel
from axiom_jax.verification.lipschitz_bounds import LINEAR
from axiom_jax.verification.proof.derivation import Derivation, Step, derivation_of, run_derivation_checker
from axiom_jax.verification.proof.exact import exactly
from axiom_jax.verification.properties.scope import Budget
from axiom_jax.verification.results import Answer
from axiom_jax.verification.search.margins import Subject
from axiom_jax.verification.verdict import Claimed, Proved, Unknown

MAX_PRODUCTS = 60_000  # weights that meet a term: beyond, normal forms take too long


@dataclass(frozen=True, eq=False)
class Written:
    """A network as terms.

    Args:
        outputs: of each output.
        relus: the argument and the value of every relu, in the order of the network's neurons.
        divisors: terms that must be positive for the network to be defined.
        others: operations that are neither linear nor relu.
    """

    outputs: list[kernel.Node]
    relus: list[tuple[kernel.Node, kernel.Node]]
    divisors: list[kernel.Node]
    others: frozenset[str]


def written(subject: Subject, inputs: Sequence[kernel.Node] | None = None) -> Written:
    """A network at given terms.

    Args:
        inputs: a term an input; None: `x[0]`, `x[1]`, ...

    Raises:
        UnsupportedPrimitive: an operation that has no term, constants that are no exact numbers, or too many weights.

    >>> import jax, numpy as np
    >>> spec = jax.ShapeDtypeStruct((1,), np.float32)
    >>> written(Subject(lambda params, x: jax.nn.relu(2 * x), (), (spec,))).outputs
    [max(2*x[0], 0)]
    """
    exact = exactly(subject)
    if exact.missing is not None:
        raise _unsupported(exact.missing)
    network, work = exact.network, 0
    start = [kernel.var("x", i) for i in range(network.inputs)] if inputs is None else list(inputs)
    found: dict[int, list[Any]] = {0: start}
    relus, divisors = list[tuple[kernel.Node, kernel.Node]](), list[kernel.Node]()
    for k, (lo, hi, den) in network.constants.items():
        if lo == hi:
            found[k] = [Fraction(x, den) for x in lo]
    for k in network.order:
        node = network.nodes[k]
        if any(i not in found for i in node.of):
            raise _unsupported("constants that are no exact numbers")
        args = [found[i] for i in node.of]
        if node.op == "matmul":
            work += sum(1 for w in args[1] if w) * node.shape[0]
        if work > MAX_PRODUCTS:
            raise _unsupported(f"a network of more than {MAX_PRODUCTS:,} weights")
        found[k] = _terms(node, args)
        if node.op == "relu":
            relus += zip(map(kernel.term, args[0]), map(kernel.term, found[k]), strict=True)
        elif node.op == "div":
            divisors += [t for t in args[1] if isinstance(t, kernel.Node)]
    others = {network.nodes[k].op for k in network.order} - LINEAR - {"relu"}
    outputs = [kernel.term(t) for t in found[network.output]]
    return Written(outputs, relus, divisors, frozenset(others))


def _terms(node: Any, args: list[list[Any]]) -> list[Any]:
    if node.terms:
        out: list[list[Any]] = [[] for _ in range(node.size)]
        for place, index, sign in node.terms:
            for i in range(node.size):
                j = i if index is None else index[i]
                if j >= 0:
                    out[i].append(_times(sign, args[place][j]))
        return [_sum(parts) for parts in out]
    match node.op:
        case "matmul":
            m, k, n = node.shape
            a, w = args
            return [_sum([_times(w[i * n + j], a[r * k + i]) for i in range(k) if w[i * n + j]])
                    for r in range(m) for j in range(n)]  # fmt: skip
        case "mul":
            return [_times(s, t) for s, t in zip(*args, strict=True)]
        case "div":
            return [_times(1 / t, s) if isinstance(t, Fraction) else kernel.div(s, t) for s, t in
                    zip(*args, strict=True)]  # fmt: skip
    each = {
        "relu": lambda t: kernel.maximum(t, 0),
        "exp": kernel.exp,
        "logistic": lambda t: kernel.inv(kernel.add(1, kernel.exp(kernel.neg(t)))),
        "tanh": _tanh,
    }.get(node.op)
    if each is None:
        raise _unsupported(node.op)
    return [each(kernel.term(t)) for t in args[0]]


def _tanh(t: Any) -> kernel.Node:
    """(exp t − exp −t) / (exp t + exp −t): in this form it is plainly odd."""
    up, down = kernel.exp(t), kernel.exp(kernel.neg(t))
    return kernel.mul(kernel.sub(up, down), kernel.inv(kernel.add(up, down)))


def _times(s: Any, t: Any) -> Any:
    if isinstance(s, kernel.Node) and not isinstance(t, kernel.Node):
        s, t = t, s
    if isinstance(t, kernel.Node):
        return t if s == 1 else kernel.mul(s, t)
    return s * t


def _sum(parts: list[Any]) -> Any:
    known = reduce(lambda a, b: a + b, (p for p in parts if not isinstance(p, kernel.Node)), Fraction(0))
    rest = [p for p in parts if isinstance(p, kernel.Node)]
    return kernel.add(*([known] if known or not rest else []), *rest) if rest else kernel.const(known)


def _unsupported(what: str) -> UnsupportedPrimitive:
    return UnsupportedPrimitive(f"Derivations cannot express {what}.", fix="give a tolerance, to be shown by bounds")


def equal_everywhere(left: Subject, right: Subject, text: str, budget: Budget) -> Answer:
    """Whether two networks of as many inputs are equal over the reals, by their normal forms.

    Returns:
        `Proved` if the derivation checker accepted, else `Unknown` with the reason.
    """
    try:
        one, other = written(left), written(right)
        sides = list(zip(one.outputs, other.outputs, strict=True))
    except UnsupportedPrimitive as error:
        return Unknown(error.what.rstrip("."))
    except kernel.Rejected as error:
        return Unknown(f"the networks are too large for a derivation: {error}")
    parts = [kernel.eq(a, b) for a, b in sides]
    parts += [kernel.lt(0, t) for t in dict.fromkeys([*one.divisors, *other.divisors])]
    goal, steps = kernel.conj(*parts), list[Step]([("split", {}), *[("trivial", {})] * len(parts)])
    if len(parts) == 1:
        goal, steps = parts[0], [("trivial", {})]
    found = derivation_of(text, [], [("x", [left.size])], [], goal, steps)
    return checked(found, budget.check_seconds)


def checked(found: Derivation, seconds: float) -> Answer:
    """The answer that the derivation checker gives, in an interpreter of its own."""
    quick = kernel.check(found.to_bytes())  # the same code, here: to spare a process where it refuses
    if not quick.accepted:
        return Unknown(f"the derivation checker did not accept: {quick.reason}")
    with TemporaryDirectory() as folder:
        path = Path(folder, "proof.cert")
        path.write_bytes(found.to_bytes())
        judged = run_derivation_checker(path, seconds)
    if not judged.accepted:
        return Claimed(found, f"the derivation checker did not accept: {judged.reason}")
    return Proved(found, ("real",))
