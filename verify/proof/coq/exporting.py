"""`ax.export_coq`: a certificate as one Coq file.

The file is about the network itself, so it does not rest on the certificate or its checker: Coq judges the claim.
"""

import hashlib
import os
import time
from pathlib import Path
from typing import Any

from axiom_jax._errors import CertificateError
from axiom_jax.verification import checker
from axiom_jax.verification.proof.certificate import Certificate, canonical, load_certificate
from axiom_jax.verification.proof.coq.integers import Arithmetic
from axiom_jax.verification.proof.coq.lines import Lines, lines_of, unsupported
from axiom_jax.verification.proof.coq.planning import Planner, Term, Unproved
from axiom_jax.verification.proof.coq.trees import Node, trees_of
from axiom_jax.verification.proof.coq.writing import document, heading

SCALES = (16, 10), (40, 28)  # bits of values below the narrowest region's width, and of multipliers; finer where needed
STATEMENT = "A theorem about one network, made by axiom-jax. What it says is in parts 1 and 4."


def export_coq(certificate: "Certificate | str | os.PathLike[str]", *, timeout: float = 300.0) -> str:
    """Turn a certificate into one Coq file with the network, the regions and a theorem: no input is unsafe.

    Args:
        certificate: of claim `holds`, about a piecewise linear network; a file or in memory.
        timeout: seconds to look for a proof that Coq can follow.

    Returns:
        The text of the file. `coqc` 8.16 judges it; nothing of what is in the certificate is trusted.

    Raises:
        CertificateError: it is no such certificate, is malformed, or a part of it cannot be told to Coq; it says which.

    Source: Grégoire and Leroy 2002, A compiled implementation of strong reduction (`vm_compute`).
    """
    data, payload, at = _opened(certificate)
    try:
        network = checker.load_network(payload["model"], checker.unpacked(payload["model"], payload["weights"]))
        cases = [checker.Case(raw, network) for raw in payload["property"]["cases"]]
        lines = lines_of(network)
        network.prepare()
        trees = [checker.Tree(raw, network, case) for raw, case in zip(payload["proof"]["trees"], cases, strict=True)]
        planned, arithmetic = _planned(lines, cases, [trees_of(tree, network.inputs) for tree in trees], timeout)
    except (checker.Rejected, KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        reason = str(error) if isinstance(error, checker.Rejected) else f"{type(error).__name__}: {error}"
        raise CertificateError(
            "The certificate is malformed.", at=at, got=reason[:200],
            fix="make it again from the model and the property",
        ) from error  # fmt: skip
    model = payload["model"]
    head = heading(
        payload["property"]["text"], sha256=hashlib.sha256(data).hexdigest(), statement=STATEMENT,
        model=model["name"], tensors=hashlib.sha256(canonical([model["program"], model["tensors"]])).hexdigest(),
    )  # fmt: skip
    return document(head, arithmetic, cases, planned)


def _opened(certificate: Any) -> tuple[bytes, dict[str, Any], str | None]:
    """The bytes of a certificate, its payload, and where it is."""
    at = None
    if isinstance(certificate, (str, os.PathLike)):
        path = Path(certificate)
        found = load_certificate(path)
        data, at = path.read_bytes(), str(path)
    else:
        found = certificate
        data = found.to_bytes() if isinstance(found, Certificate) else b""
    if not isinstance(found, Certificate):
        kinds = {"Bundle": "several proofs in one file", "Derivation": "a derivation"}
        if type(found).__name__ not in kinds:
            raise CertificateError(
                "This is neither a certificate nor the path of one.", got=f"a {type(found).__name__}",
                fix="give an item's certificate: result.items[0].certificate",
            )  # fmt: skip
        raise unsupported(kinds[type(found).__name__], "give one item's certificate: result.items[0].certificate")
    try:
        payload = checker.open_envelope(data)
        checker.conform(payload, checker.PAYLOAD, "payload")
    except (checker.Unreadable, checker.Rejected) as error:
        raise CertificateError("The certificate is malformed.", at=at, got=str(error)[:200]) from error
    if payload["claim"] != "holds" or payload["proof"].get("kind") != "tree":
        raise unsupported("a counterexample", "a point is checked by evaluating the model there")
    return data, payload, at


def _planned(
    lines: Lines, cases: list[checker.Case], roots: list[list[tuple[list[int], Node]]], timeout: float
) -> tuple[list[Term], Arithmetic]:
    """Trees for all cases, and the units; coarse ones first, for they are faster in Coq."""
    deadline, failure = time.monotonic() + timeout, None
    for bits, multiplier_bits in SCALES:
        arithmetic = Arithmetic(lines, 1 << (bits + _fineness(cases)), _usual(lines) << multiplier_bits)
        try:
            planners = [Planner(arithmetic, case, deadline) for case in cases]
            return [planner.plan(trees) for planner, trees in zip(planners, roots, strict=True)], arithmetic
        except Unproved as error:
            failure = error
    assert failure is not None
    raise failure


def _usual(lines: Lines) -> int:
    """What a line usually divides by: half of them by no more."""
    found = sorted(line.over for line in lines.lines)
    return found[len(found) // 2]


def _fineness(cases: list[checker.Case]) -> int:
    """How many bits the narrowest side of a region needs below 1."""
    widths = [max(b, d) - min(a, c) for case in cases for a, b, c, d in zip(*case.ends, strict=True)]
    least = min((w for w in widths if w), default=1)
    return min(max((int(1 / least)).bit_length(), 0), 80)
