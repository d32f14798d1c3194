"""Whether a certificate that was kept is the answer to a question that is asked now.

The checkers say what a file proves; here its network and its condition are compared with those of a way, bit by bit.
"""

from collections.abc import Sequence
from fractions import Fraction
from typing import Any

from axiom_jax._errors import AxiomError
from axiom_jax.verification.proof.certificate import Certificate, describe_property
from axiom_jax.verification.proof.exact import exactly
from axiom_jax.verification.properties.ways import ByBounds, BySymbols, Way
from axiom_jax.verification.property import Property
from axiom_jax.verification.search.margins import Subject


def is_answer(part: Any, way: Way) -> bool:
    """Whether a certificate or derivation is about the network and the question of a way.

    Args:
        part: read from a file; whether it proves anything is for its checker to judge.
    """
    if (judge := getattr(way, "answers", None)) is not None:
        return bool(judge(part))
    if isinstance(way, BySymbols):
        return not isinstance(part, Certificate) and _same_theorem(part, way)
    return isinstance(part, Certificate) and any(_is_about(part, *question) for question in questions(way))


def questions(way: Any) -> list[tuple[Subject, Property]]:
    """The networks and properties that a way's certificates are about; none where they are about no network."""
    if isinstance(way, ByBounds):
        return [(way.subject, way.property)]
    if (found := getattr(way, "questions", None)) is not None:
        return list(found())
    if (claims := getattr(way, "claims", None)) is not None:
        return [question for claim in claims for inner in claim.ways for question in questions(inner)]
    return []


def _is_about(part: Certificate, network: Subject, prop: Property) -> bool:
    exact = exactly(network)
    if exact.missing is not None or any(part.payload["model"][k] != exact.model[k] for k in ("program", "tensors")):
        return False
    cases, mine = part.payload["property"]["cases"], describe_property(prop)["cases"]
    return cases == mine or (part.claim == "violated" and _point_of(cases, mine))


def _point_of(cases: Sequence[Any], mine: Sequence[Any]) -> bool:
    """Whether a counterexample's one case is a point of a question's case with the same unsafe condition."""
    if len(cases) != 1 or cases[0]["exact"]["lo"] != cases[0]["exact"]["hi"]:
        return False
    point = [Fraction(x) for x in cases[0]["exact"]["lo"]]
    for case in mine:
        lo, hi = ([Fraction(x) for x in case["exact"][end]] for end in ("lo", "hi"))
        inside = len(lo) == len(point) and all(a <= x <= b for a, x, b in zip(lo, point, hi, strict=True))
        if inside and case["unsafe"] == cases[0]["unsafe"]:
            return True
    return False


def _same_theorem(part: Any, way: BySymbols) -> bool:
    """Whether a derivation proves or refutes the theorem that a statement is translated to."""
    from axiom_jax.verification.domains.symbolic.translate import theorem_of
    from axiom_jax.verification.proof.derivation import Derivation
    from axiom_jax.verification.settling import mismatch

    if not isinstance(part, Derivation) or part.claim not in ("holds", "violated"):
        return False
    try:
        stated = Derivation({**part.payload, "claim": "holds", "proof": []})
        return mismatch(stated, theorem_of(way.statement)) is None
    except (AxiomError, KeyError, TypeError):
        return False
