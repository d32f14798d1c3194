"""APTP out: a certificate about a ReLU network as an activation pattern tree proof, which other checkers read.

Such a file has the property and, for each leaf of the tree, the signs of the neurons that lead to it. It has no
multipliers: its checker bounds each leaf anew by a linear or mixed-integer program over the network it is given.
Source: https://github.com/dynaroars/aptpchecker, the README and the reader of `.aptp` files there.
"""

import hashlib
import os
from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

from axiom_jax._errors import CertificateError
from axiom_jax.verification import checker
from axiom_jax.verification.proof.certificate import Certificate, canonical, certificate_of, content_of
from axiom_jax.verification.proof.envelope import is_envelope

LEAVES, PAIRS = 200_000, 20_000_000  # of trees that are put together; of leaves that are compared for it
LINEAR = {"add", "sub", "neg", "take", "concat", "matmul", "div", "relu"}
KINDS = {"Bundle": "several proofs in one file", "Derivation": "a derivation"}
Signs = tuple[int, ...]  # signed numbers of neurons, as APTP numbers them from 1: −3 says that N_3 is below 0


def export_aptp(certificate: "Certificate | str | os.PathLike[str]") -> str:
    """Turn a certificate into the text of an `.aptp` file.

    Args:
        certificate: of claim `holds`, about a ReLU network, with one box, and splits of neurons at 0 only; a file,
            signed or not, or in memory.

    Returns:
        The text. Its checker judges it together with the network; nothing is judged here.

    Raises:
        CertificateError: it is no such certificate, is malformed, or APTP cannot express a part of it; it says which.
    """
    data, payload, at = _opened(certificate)
    try:
        network = checker.load_network(payload["model"], checker.unpacked(payload["model"], payload["weights"]))
        if len(payload["property"]["cases"]) != 1:
            raise _unsupported(f"{len(payload['property']['cases'])} boxes of inputs, and APTP has one")
        case = checker.Case(payload["property"]["cases"][0], network)
        neurons = _neurons(network)
        network.prepare()
        tree = checker.Tree(payload["proof"]["trees"][0], network, case)
        first = dict(reversed([(neuron, number) for number, neuron in enumerate(neurons, 1)]))
        leaves = _together(_leaves(tree, network.inputs, first))
    except (checker.Rejected, KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        reason = str(error) if isinstance(error, checker.Rejected) else f"{type(error).__name__}: {error}"
        raise CertificateError("The certificate is malformed.", at=at, got=reason[:200],
                               fix="make it again from the model and the property") from error  # fmt: skip
    box, notes = _box(case)
    model = payload["model"]
    head = [
        f"what: {payload['property']['text']}",
        f"certificate: sha256 {hashlib.sha256(data).hexdigest()}",
        f"network: {model['name']}, program and tensors sha256 "
        f"{hashlib.sha256(canonical([model['program'], model['tensors']])).hexdigest()}",
        *_numbering(neurons),
        *notes,
    ]
    parts = [
        ("What this is", [_comment(line) for line in head]),
        ("Input variables", [f"(declare-const X_{i} Real)" for i in range(network.inputs)]),
        ("Output variables", [f"(declare-const Y_{j} Real)" for j in range(network.outputs)]),
        ("Hidden variables", [f"(declare-pwl N_{k} ReLU)" for k in range(1, len(neurons) + 1)]),
        ("Input constraints", box),
        ("Hidden constraints", _disjunction(map(_pattern, leaves or [(-1,), (1,)]))),
        ("Output constraints", _unsafe(case.unsafe)),
    ]
    return "\n\n".join("\n".join([f"; {title}", *lines]) for title, lines in parts) + "\n"


def _unsupported(feature: str, fix: str | None = None) -> CertificateError:
    """That a certificate cannot be told in APTP because of a feature, by name."""
    fix = fix or "docs/aptp.md lists what can be exported; axiom check judges every certificate"
    return CertificateError(f"This certificate cannot be exported to APTP: {feature}.", got=feature, fix=fix)


def _opened(certificate: Any) -> tuple[bytes, dict[str, Any], str | None]:
    """The file of a certificate, its payload, and where it is."""
    at = str(certificate) if isinstance(certificate, (str, os.PathLike)) else None
    try:
        data = Path(at).read_bytes() if at is not None else None
        found = certificate if data is None or at is None else certificate_of(data, at)
    except OSError as error:
        raise CertificateError("The certificate cannot be read.", at=at, got=error.strerror,
                               fix="name a file that axiom verify --certificate wrote") from error  # fmt: skip
    if type(found).__name__ in KINDS:
        raise _unsupported(KINDS[type(found).__name__], "give one item's certificate: result.items[0].certificate")
    data = content_of(found) if data is None or is_envelope(data) else data
    try:
        payload = checker.open_envelope(data)
        checker.conform(payload, checker.PAYLOAD, "payload")
    except (checker.Unreadable, checker.Rejected) as error:
        raise CertificateError("The certificate is malformed.", at=at, got=str(error)[:200],
                               fix="make it again from the model and the property") from error  # fmt: skip
    if payload["claim"] != "holds" or payload["proof"].get("kind") != "tree":
        raise _unsupported("a counterexample", "a point is checked by evaluating the model there")
    return data, payload, at


def _neurons(network: checker.Network) -> list[tuple[int, int]]:
    """What is rectified, (node, element), in the order in which APTP numbers it: layer by layer."""
    for k in network.order:
        node = network.nodes[k]
        several = node.op == "mul" and not any(i in network.constants for i in node.of)
        if node.op not in LINEAR | {"mul"} or several:
            raise _unsupported("a product of variables" if several else f"the operation {node.op}")
    relus = [network.nodes[k] for k in network.order if network.nodes[k].op == "relu"]
    if not relus:
        raise _unsupported("a network without relus")
    return [(node.of[0], j) for node in relus for j in range(node.size)]


def _numbering(neurons: Sequence[tuple[int, int]]) -> Iterator[str]:
    """Which neurons the numbers are, a line a layer."""
    start = 0
    for number, (_, j) in enumerate(neurons):
        if number and j == 0:
            yield f"N_{start + 1} to N_{number}: node {neurons[start][0]} of the certificate's program"
            start = number
    yield f"N_{start + 1} to N_{len(neurons)}: node {neurons[start][0]} of the certificate's program"


def _leaves(tree: checker.Tree, inputs: int, numbers: dict[tuple[int, int], int]) -> list[list[Signs]]:
    """For each tree the signs that lead to its leaves; a leaf whose signs exclude each other is left out."""
    tokens, found = iter(tree.nodes), list[list[Signs]]()
    for root in tree.roots:
        paths: list[Signs] = []
        stack: list[tuple[Signs | None, frozenset[int]]] = [((), root)]
        while stack:
            path, left = stack.pop()
            token = next(tokens, None)
            if token is None:
                raise ValueError("a tree ends too early")
            which = max(token, ~token) // 2
            if token >= 0:
                number = _split(tree, which, inputs, numbers)
                stack += [(_joined(path, (sign,)), left) for sign in (number, -number)]  # the lower half is next
                continue
            left -= {row[0] for row in tree.leaves[which]}
            if left:
                stack.append((path, left))
            elif path is not None:
                paths.append(path)
        found.append(paths)
    if next(tokens, None) is not None:
        raise ValueError("a tree goes on after its end")
    return found


def _split(tree: checker.Tree, which: int, inputs: int, numbers: dict[tuple[int, int], int]) -> int:
    """The number of the neuron that is split."""
    if which < inputs:
        raise _unsupported(f"input {which} is halved")
    k, j, p = tree.splits[which - inputs]
    if (k, j) not in numbers:
        raise _unsupported(f"input {j} is cut" if k == 0 else f"a split of value {j} of node {k}, which no relu takes")
    if p:
        raise _unsupported(f"N_{numbers[k, j]} is split at another value than 0")
    return numbers[k, j]


def _joined(path: Signs | None, more: Signs) -> Signs | None:
    """Both together, each sign once; None if they exclude each other."""
    if path is None or any(-sign in path for sign in more):
        return None
    return (*path, *(sign for sign in more if sign not in path))


def _together(trees: Sequence[list[Signs]]) -> list[Signs]:
    """Trees for parts of what is unsafe as one tree for all of it: each below every leaf of those before."""
    whole: list[Signs] = [()]
    for paths in trees:
        if len(whole) * len(paths) <= PAIRS:
            whole = [joined for above in whole for below in paths if (joined := _joined(above, below)) is not None]
        if len(whole) > LEAVES or len(whole) * len(paths) > PAIRS:
            raise _unsupported(f"{len(trees)} trees of together more than {LEAVES:,} leaves")
    return [] if whole == [()] else whole


def _pattern(signs: Signs) -> list[str]:
    return [f"(>= N_{sign} 0)" if sign > 0 else f"(< N_{-sign} 0)" for sign in signs]


def _disjunction(conjunctions: Iterable[Sequence[str]]) -> list[str]:
    """An assert of conjunctions, each on a line of its own."""
    return ["(assert (or", *(f"    (and {' '.join(parts)})" for parts in conjunctions), "))"]


def _box(case: checker.Case) -> tuple[list[str], list[str]]:
    """The ends of the inputs, and remarks: an end that is no decimal is written as its float32 number."""
    lines, notes = [], []
    for i, (lo, hi, low, high) in enumerate(zip(*case.ends, strict=True)):
        a, b = (x if _decimal(x) else near for x, near in ((lo, low), (hi, high)))
        a, b = (a, b) if a <= b else (low, high)
        lines += [f"(assert (>= X_{i} {_decimal(a)}))", f"(assert (<= X_{i} {_decimal(b)}))"]
        if (a, b) != (lo, hi):
            exactly = f"{str(lo)[:60]} to {str(hi)[:60]}"
            notes.append(f"X_{i} is from {exactly}, not all decimals: float32 numbers instead, proved too")
    return lines, notes


def _unsafe(disjuncts: Sequence[Sequence[checker.Atom]]) -> list[str]:
    """What is unsafe: an assert for each inequality, or one of all alternatives."""
    told = [[_inequality(atom) for atom in disjunct] for disjunct in disjuncts]
    return [f"(assert {line})" for line in told[0]] if len(told) == 1 else _disjunction(told)


def _inequality(atom: checker.Atom) -> str:
    """`(<= Y_0 Y_1)`, `(<= Y_0 1.5)` or `(<= 1.5 Y_0)`: nothing else is known to APTP."""
    inputs, outputs = ({i: c for i, c in _summed(side).items() if c} for side in atom.sides)
    if inputs:
        raise _unsupported("a condition on inputs and outputs together, or on inputs alone")
    if atom.strict:
        raise _unsupported("a strict inequality of outputs")
    if len(outputs) == 2 and sum(outputs.values()) == 0 and atom.threshold == 0:
        below, above = sorted(outputs, key=lambda j: outputs[j], reverse=True)
        return f"(<= Y_{below} Y_{above})"
    if len(outputs) != 1:
        raise _unsupported("a condition that is neither of one output nor a comparison of two")
    ((j, d),) = outputs.items()
    if not (end := _decimal(atom.threshold / d)):
        raise _unsupported(f"{str(atom.threshold / d)[:60]}, which is no decimal, as a limit of an output")
    return f"(<= Y_{j} {end})" if d > 0 else f"(<= {end} Y_{j})"


def _summed(side: Iterable[tuple[int, Fraction]]) -> dict[int, Fraction]:
    found: dict[int, Fraction] = {}
    for i, c in side:
        found[i] = found.get(i, Fraction(0)) + c
    return found


def _decimal(value: Fraction) -> str:
    """A number as an exact decimal; empty if it has none.

    >>> _decimal(Fraction(-5, 4)), _decimal(Fraction(3)), _decimal(Fraction(1, 80)), _decimal(Fraction(1, 3))
    ('-1.25', '3.0', '0.0125', '')
    """
    rest, places = value.denominator, [0, 0]
    for n, prime in enumerate((2, 5)):
        while rest % prime == 0:
            rest, places[n] = rest // prime, places[n] + 1
    if rest != 1:
        return ""
    digits = max(*places, 1)
    whole, part = divmod(abs(value.numerator) * (10**digits // value.denominator), 10**digits)
    return f"{'-' * (value < 0)}{whole}.{part:0{digits}d}"


def _comment(text: str) -> str:
    """A line that is a comment whatever the text is."""
    return "; " + "".join(c if c.isprintable() else " " for c in text)[:500]
