"""What is signed about a file of several proofs: an in-toto statement that holds it and lists every claim.

The claims are those of the file, word for word, each with its part and levels. Whether each is what its part proves,
the file alone cannot say: it takes the model. A statement says whether that was looked up before it was signed.
"""

import json
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

from axiom_jax._errors import CertificateError
from axiom_jax.verification.proof.attestation import (
    DEPLOYED,
    NAMED,
    OWN,
    SEVERAL,
    STATEMENT,
    TRUSTED,
    Words,
    misshapen,
    moment,
    proved_network,
    sha256,
    surroundings,
)
from axiom_jax.verification.proof.bundle import Bundle, bundle_of
from axiom_jax.verification.proof.certificate import CHECKER, DERIVATION_CHECKER, canonical
from axiom_jax.verification.proof.keys import HEX

BUNDLE = "bundle"
SAID = ("claim", "levels", "network", "notes", "part", "property", "region", "sha256", "verdict")  # of an item
COMPARED = "whether each claim is what its part proves: axiom check --model FILE compares them"
OWN_FIELDS = ("checkers", "compared", *(name for name in OWN if name != "checker"))


def bundle_statement(content: bytes, words: Words, compared: bool, now: datetime | None = None) -> dict[str, Any]:
    """The statement about a file of several proofs whose parts the checkers accepted.

    Args:
        content: the file. compared: whether its claims were compared with a model and with the parts.
        now: the time, in UTC.

    Raises:
        CertificateError: a part is not in the form that checkers ask for.
    """
    found = bundle_of(content, "the file")
    asked = found.statement["metadata"].get("requirement")
    named = [line for line in (asked if isinstance(asked, list) else [asked]) if isinstance(line, str)]
    predicate = claims(found) | {
        "assumptions": [*ASSUMED, *words.assumptions],
        BUNDLE: embedded(found),
        "checkers": {path.name: sha256(path.read_bytes()) for path in (CHECKER, DERIVATION_CHECKER)},
        "compared": compared,
        "environment": surroundings(version("axiom-jax")),
        "expires": words.expires,
        "not_covered": [*left_out(found, compared), *words.not_covered],
        "requirements": list(dict.fromkeys([*named, *words.requirements])),
        "time": moment(now or datetime.now(UTC)),
    }
    if words.model_signature is not None:
        predicate[NAMED] = words.model_signature.to_dict(sources(found).values())
    return {"_type": STATEMENT, "predicate": predicate, "predicateType": SEVERAL, "subject": subjects(found)}


ASSUMED = [TRUSTED, DEPLOYED]


def claims(bundle: Bundle) -> dict[str, Any]:
    """What the file says, claim by claim, and of which network."""
    model = bundle.statement["model"]
    return {
        "claims": [{name: item[name] for name in SAID} for item in bundle.statement["items"]],
        "network": {"digest": model["digest"], "name": model["name"]},
    }


def left_out(bundle: Bundle, compared: bool) -> list[str]:
    """What the proofs do not speak of, in the words of the file."""
    return [*bundle.statement["not_covered"], *([] if compared else [COMPARED])]


def subjects(bundle: Bundle) -> list[dict[str, Any]]:
    """The file, its parts, the networks that these are about, and what the model was read from."""
    model = bundle.statement["model"]
    read = sorted(sources(bundle).items())
    named = [(BUNDLE, sha256(bundle.to_bytes()))]
    for name, data in sorted(bundle.parts.items()):
        networks = proved_network(json.loads(data))
        named += [(name, sha256(data)), *((f"{name}: {what}", digest) for what, digest in networks)]
    named += [(f"{model['name']} ({kind})", digest) for kind, digest in read]
    return [{"digest": {"sha256": digest}, "name": name} for name, digest in named]


def sources(bundle: Bundle) -> dict[str, str]:
    """The hash of each file that the model was read from, as the file has it."""
    given = bundle.statement["model"].get("source")
    known = given.items() if isinstance(given, dict) else ()
    return {kind: digest for kind, digest in known if isinstance(digest, str) and HEX.fullmatch(digest)}


def embedded(bundle: Bundle) -> dict[str, Any]:
    """The file as JSON: what it says, and its parts.

    Raises:
        CertificateError: a part is not in canonical form, so that its bytes could not be had back.
    """
    parts = {name: json.loads(data) for name, data in bundle.parts.items()}
    made = {"parts": parts, "statement": bundle.statement}
    if extracted(made) != bundle.to_bytes():
        raise CertificateError("A part of the file is not in canonical form.", at="parts",
                               fix="make it again with ax.generate_certificate")  # fmt: skip
    return made


def extracted(made: Any) -> bytes:
    """The file that `embedded` took.

    Raises:
        CertificateError: it is none.
    """
    try:
        parts = {str(name): canonical(part) + b"\n" for name, part in made["parts"].items()}
        return Bundle(made["statement"], parts).to_bytes()
    except (AttributeError, KeyError, RecursionError, TypeError, ValueError) as error:
        raise CertificateError("The statement holds no file of several proofs.",
                               got=f"{type(error).__name__}: {error}"[:200]) from error  # fmt: skip


def overstated_bundle(statement: dict[str, Any], content: bytes) -> str | None:
    """Where a statement says another thing than the file in it, in words; None where it does not.

    Args:
        content: the file in the statement, whose parts the checkers accepted.
    """
    predicate, found = statement["predicate"], bundle_of(content, "the file in the statement")
    said = claims(found)
    if canonical(statement["subject"]) != canonical(subjects(found)):
        return "its subjects are not those of the file"
    if odd := sorted((predicate.keys() - {NAMED}) ^ {*said, *OWN_FIELDS, BUNDLE}):
        return f"it lacks fields or has others than such a file has: {', '.join(map(repr, odd))[:200]}"
    for name in said:
        if canonical(predicate[name]) != canonical(said[name]):  # bytes, since 1 == True
            return f"its field {name} is not that of the file"
    compared, checkers = predicate["compared"], predicate["checkers"]
    names = {CHECKER.name, DERIVATION_CHECKER.name}
    fits = {
        "checkers": isinstance(checkers, dict) and checkers.keys() == names
        and all(isinstance(x, str) and HEX.fullmatch(x) is not None for x in checkers.values()),
        "compared": isinstance(compared, bool),
    }  # fmt: skip
    if (problem := misshapen(predicate, fits, sources(found))) is not None:
        return problem
    for name, least in (("assumptions", ASSUMED), ("not_covered", left_out(found, compared))):
        if missing := [line for line in least if line not in predicate[name]]:
            return f"its {name} lack: {missing[0]}"
    return None


def told(predicate: dict[str, Any]) -> list[str]:
    """What the signer says of the claims, for people."""
    count, compared = len(predicate["claims"]), predicate["compared"]
    how = "compared with the model and their parts" if compared else "not compared with their parts"
    return [f"signed       at {predicate['time']}: {count} claim{'s' * (count != 1)}, {how} by who signed"]
