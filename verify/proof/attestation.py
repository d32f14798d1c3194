"""What is signed about a certificate: an in-toto statement that holds it and says in fields what it proves.

All that the fields say of the proof is computed from the certificate and the checker's judgement, and computed
again when the statement is read: one that says more than the certificate is refused, whoever signed it. The signer's
own are the requirements, the environment, the times, and what is added to the assumptions and to what is not covered.
Source: in-toto Attestation Framework, Statement v1, https://in-toto.io/Statement/v1.
"""

import hashlib
import json
import platform
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from decimal import Decimal, InvalidOperation
from importlib.metadata import version
from typing import Any

from axiom_jax._errors import CertificateError
from axiom_jax.verification.proof.certificate import CHECKER, DERIVATION_CHECKER, FORMAT, Checked, canonical
from axiom_jax.verification.proof.keys import HEX
from axiom_jax.verification.proof.model_signature import ModelSignature
from axiom_jax.verification.spec.vnnlib2_meaning import KEY, embedded_text
from axiom_jax.verification.spec.vnnlib2_writing import output_size, property_text

STATEMENT = "https://in-toto.io/Statement/v1"
PREDICATE = "https://axiom-jax.readthedocs.io/certificate/v1"
SEVERAL = "https://axiom-jax.readthedocs.io/bundle/v1"  # of a file of several proofs: bundle_attestation
CERTIFICATE = "certificate"  # the subject that is the embedded file
RESULTS = {"holds": "proved", "lipschitz": "proved", "violated": "refuted"}
MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")
NAMED = "model_signature"  # a field that a statement may have
OWN = ("assumptions", "checker", "environment", "expires", "not_covered", "requirements", "time")  # the signer's words
TRUSTED = "the checker, the Python that runs it, and the machine"
DEPLOYED = "program and tensors are those of the deployed network: axiom check --model FILE compares them"
MEANING = "whether the domains and the condition, or the formulas, mean what the text of the property says"
ELSEWHERE = "inputs outside of the domains, and what happens to data before the model sees them"
ROUNDING = "rounding in a float32 execution"
PROFILE = "float32 executions that the numeric profile does not allow"


@dataclass(frozen=True)
class Words:
    """What a signer adds.

    Args:
        requirements: ids of the requirements that the property is evidence for.
        expires: when the statement ends to hold, "2027-01-31T23:59:59Z", or None.
        assumptions, not_covered: beyond those that every statement names.
        model_signature: of OpenSSF model signing, of the files that the network was read from.
    """

    requirements: tuple[str, ...] = ()
    expires: str | None = None
    assumptions: tuple[str, ...] = ()
    not_covered: tuple[str, ...] = ()
    model_signature: ModelSignature | None = None


def statement_of(content: bytes, checked: Checked, words: Words, now: datetime | None = None) -> dict[str, Any]:
    """The statement about a certificate that the checker accepted.

    Args:
        content: the certificate's file. checked: the checker's judgement of it. now: the time, in UTC.
    """
    whole = json.loads(content)
    said = claims(whole, checked)
    checker = CHECKER if whole["format"] == FORMAT else DERIVATION_CHECKER
    found = version("axiom-jax")
    meta = whole["payload"]["meta"].get("requirement")
    named = [meta] if isinstance(meta, str) else []
    predicate = said | {
        "assumptions": [*assumed(whole), *words.assumptions],
        "certificate": whole,
        "checker": {"name": checker.name, "sha256": sha256(checker.read_bytes()), "version": found},
        "environment": surroundings(found),
        "expires": words.expires,
        "not_covered": [*left_out(whole, said["levels"]), *words.not_covered],
        "requirements": list(dict.fromkeys([*named, *words.requirements])),
        "time": moment(now or datetime.now(UTC)),
    }
    if words.model_signature is not None:
        predicate[NAMED] = words.model_signature.to_dict(sources(whole).values())
    return {"_type": STATEMENT, "predicate": predicate, "predicateType": PREDICATE, "subject": subjects(content)}


def surroundings(found: str) -> dict[str, str]:
    """Version and machine of who signs."""
    return {"axiom-jax": found, "machine": platform.machine(), "python": platform.python_version(),
            "system": platform.system()}  # fmt: skip


def claims(whole: dict[str, Any], checked: Checked) -> dict[str, Any]:
    """What a certificate proves, as fields; nothing here is anybody's word."""
    payload, network = whole["payload"], whole["format"] == FORMAT
    cases = payload["property"]["cases"] if network else None
    leaves, depth = tree_size(payload["proof"]) if network else (None, None)
    kind = payload["proof"].get("kind") if isinstance(payload["proof"], dict) else "steps"
    return {
        "levels": list(checked.levels),
        "margin": checked.margin,
        "profile": payload.get("profile") or None,
        "proof": {"depth": depth, "format": whole["format"], "kind": kind or "point", "leaves": leaves,
                  "sha256": sha256(canonical(payload["proof"])), "version": whole["version"]},
        "property": {
            "domains": None if cases is None else [{"exact": c["exact"], "float32": c["float32"]} for c in cases],
            "text": payload["property"]["text"] if network else payload["text"],
            KEY: None if cases is None else embedded_text(cases, payload["model"]),
        },
        "result": RESULTS[payload["claim"]],
    }  # fmt: skip


def subjects(content: bytes) -> list[dict[str, Any]]:
    """What the statement is about: the certificate's file, its program and tensors, what these were read from."""
    whole = json.loads(content)
    named = [(CERTIFICATE, sha256(content)), *proved_network(whole)]
    if whole["format"] == FORMAT:
        model = whole["payload"]["model"]
        named += [(f"{model['name']} ({kind})", digest) for kind, digest in sorted(sources(whole).items())]
    return [{"digest": {"sha256": digest}, "name": name} for name, digest in named]


def sources(whole: dict[str, Any]) -> dict[str, str]:
    """The hash of each file that the network was read from, as the certificate has it."""
    return whole["payload"]["model"]["source"] if whole["format"] == FORMAT else {}


def proved_network(whole: dict[str, Any]) -> list[tuple[str, str]]:
    """Name and sha256 of the program and tensors that the proof is about; nothing for a derivation."""
    if whole["format"] != FORMAT:
        return []
    model = whole["payload"]["model"]
    return [(f"{model['name']} (program and tensors)", sha256(canonical([model["program"], model["tensors"]])))]


def assumed(whole: dict[str, Any]) -> list[str]:
    """What has to be believed beside the proof."""
    return [TRUSTED, DEPLOYED] if whole["format"] == FORMAT else [TRUSTED]


def left_out(whole: dict[str, Any], levels: Sequence[str]) -> list[str]:
    """What the proof does not speak of."""
    found = [PROFILE if "float32" in levels else ROUNDING, MEANING]
    return [*found, ELSEWHERE] if whole["format"] == FORMAT else found


def tree_size(proof: dict[str, Any]) -> tuple[int | None, int | None]:
    """Leaves and depth of a proof's trees; None for a point. The proof is one that the checker accepted."""
    if proof["kind"] != "tree":
        return None, None
    leaves = depth = 0
    for tree in proof["trees"]:
        stack = [(0, frozenset(root)) for root in tree["roots"][::-1]]
        for token in tree["nodes"]:
            level, left = stack.pop()
            if token >= 0:
                stack += [(level + 1, left)] * 2
                continue
            left -= {row[0] for row in tree["leaves"][~token // 2]}
            depth = max(depth, level)
            leaves += not left
            stack += [(level, left)] if left else []
    return leaves, depth


def parse_statement(payload: bytes) -> dict[str, Any]:
    """The statement in an envelope's payload, of any predicate.

    Raises:
        CertificateError: it is no in-toto statement in canonical form (sorted keys, no blanks, ASCII).
    """
    try:
        found = json.loads(payload)
        if canonical(found) != payload:  # so no key is there twice, and nothing is left to read differently
            raise ValueError("it is not in canonical form")
        digests = [subject["digest"]["sha256"] for subject in found["subject"]]
        if not all(isinstance(subject["name"], str) for subject in found["subject"]):
            raise ValueError("a subject has no name")
        if found["_type"] != STATEMENT or not isinstance(found["predicateType"], str):
            raise ValueError("it is of another type")
        if found.keys() != {"_type", "predicate", "predicateType", "subject"} or not all(map(_is_digest, digests)):
            raise ValueError("it has other fields")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CertificateError(
            "The payload is no in-toto statement.", got=f"{type(error).__name__}: {error}"[:200],
            fix="sign it again; a cut or edited file cannot be repaired",
        ) from error  # fmt: skip
    return found


def certificate_in(statement: dict[str, Any]) -> bytes:
    """The file of the certificate, or of several proofs, that a statement holds, not judged.

    Raises:
        CertificateError: it holds none.
    """
    predicate = statement["predicate"]
    if statement["predicateType"] == SEVERAL and isinstance(predicate, dict):
        from axiom_jax.verification.proof.bundle_attestation import BUNDLE, extracted

        return extracted(predicate.get(BUNDLE))
    if statement["predicateType"] != PREDICATE or not isinstance(predicate, dict) or CERTIFICATE not in predicate:
        raise CertificateError("The statement holds no certificate.", got=str(statement["predicateType"])[:200],
                               fix=f"give a file that axiom sign made: {PREDICATE}")  # fmt: skip
    return canonical(predicate[CERTIFICATE]) + b"\n"


def overstated(statement: dict[str, Any], content: bytes, checked: Checked) -> str | None:
    """Where a statement says another thing than its certificate, in words; None where it does not.

    Args:
        content: the file of the certificate in the statement. checked: the checker's judgement, which accepted it.
    """
    if statement["predicateType"] == SEVERAL:
        from axiom_jax.verification.proof.bundle_attestation import overstated_bundle

        return overstated_bundle(statement, content)
    predicate, whole = statement["predicate"], json.loads(content)
    said = claims(whole, checked)
    if canonical(statement["subject"]) != canonical(subjects(content)):
        return "its subjects are not those of the certificate"
    if odd := sorted((predicate.keys() - {NAMED}) ^ {*said, *OWN, CERTIFICATE}):
        return f"it lacks fields or has others than the certificate has: {', '.join(map(repr, odd))[:200]}"
    if isinstance(predicate["property"], dict) and whole["format"] == FORMAT:
        said["property"][KEY] = _same_length(predicate["property"].get(KEY), whole["payload"])
    for name in ("result", "profile", "proof", "property"):
        if canonical(predicate[name]) != canonical(said[name]):  # bytes, since 1 == True
            return f"its {name} is not that of the certificate"
    if (problem := _misworded(predicate, whole)) is not None:
        return problem
    if more := [level for level in predicate["levels"] if level not in said["levels"]]:
        return f"it claims level {more[0]!r}, which was not checked"
    if not _at_most(predicate["margin"], said["margin"]):
        return f"it claims a margin of {predicate['margin']}, the checker found {said['margin']}"
    for name, least in (("assumptions", assumed(whole)), ("not_covered", left_out(whole, predicate["levels"]))):
        if missing := [line for line in least if line not in predicate[name]]:
            return f"its {name} lack: {missing[0]}"
    return None


def _same_length(text: Any, payload: dict[str, Any]) -> str | None:
    """The VNN-LIB 2.0 text of a certificate's cases: none where the statement has none, however long where it has."""
    outputs = output_size(payload["model"])
    return None if text is None or outputs is None else property_text(payload["property"]["cases"], outputs)


def _misworded(predicate: dict[str, Any], whole: dict[str, Any]) -> str | None:
    """A field that is not of its type, in words."""
    checker = CHECKER if whole["format"] == FORMAT else DERIVATION_CHECKER
    made = predicate["checker"]
    texts = lambda value: isinstance(value, list) and all(isinstance(x, str) for x in value)
    fits = {
        "checker": _texts_by_name(made) and made.keys() == {"name", "sha256", "version"}
        and made["name"] == checker.name and _is_digest(made["sha256"]),
        "levels": texts(predicate["levels"]) and predicate["levels"] != [],
        "margin": predicate["margin"] is None or isinstance(predicate["margin"], str),
    }  # fmt: skip
    return misshapen(predicate, fits, sources(whole))


def misshapen(predicate: dict[str, Any], fits: dict[str, bool], known: dict[str, str]) -> str | None:
    """A field that is not of its type, in words.

    Args:
        fits: of other fields, whether they are. known: the hashes of what the network was read from.
    """
    texts = lambda value: isinstance(value, list) and all(isinstance(x, str) for x in value)
    fits = fits | {
        "assumptions": texts(predicate["assumptions"]),
        "environment": _texts_by_name(predicate["environment"]),
        "expires": predicate["expires"] is None or _is_moment(predicate["expires"]),
        "not_covered": texts(predicate["not_covered"]),
        "requirements": texts(predicate["requirements"]),
        "time": _is_moment(predicate["time"]),
    }
    if NAMED in predicate:
        given = predicate[NAMED]
        shape = _texts_by_name(given) and given.keys() == {"file", "name", "sha256"} and _is_digest(given["sha256"])
        fits[NAMED] = shape and bool(known)
    return next((f"its field {name} is not of the form that it has to have" for name, good in fits.items() if not good),
                None)  # fmt: skip


def _at_most(claimed: str | None, found: str | None) -> bool:
    """Whether a margin is no larger than another; margins are texts of decimals, or None."""
    if claimed is None or claimed == found:
        return True
    try:
        return found is not None and Decimal(claimed) <= Decimal(found)
    except InvalidOperation:  # no number, or a NaN that compares
        return False


def _texts_by_name(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(x, str) for x in value.values())


def _is_digest(value: Any) -> bool:
    return isinstance(value, str) and HEX.fullmatch(value) is not None


def _is_moment(value: Any) -> bool:
    try:
        return isinstance(value, str) and MOMENT.fullmatch(value) is not None and bool(parse_moment(value))
    except ValueError:
        return False


def moment(value: datetime) -> str:
    """A time as RFC 3339 has it, in UTC, whole seconds."""
    return value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def parse_moment(text: str) -> datetime:
    """The time that `moment` wrote."""
    return datetime.fromisoformat(text)


def expiry(given: str | date | None, now: datetime | None = None) -> str | None:
    """When a statement ends: a time, or the end of a day, in UTC where no zone is named.

    Raises:
        CertificateError: no date, or one that is past.

    >>> expiry("2999-01-31"), expiry("2999-01-31T12:00:00+02:00")
    ('2999-01-31T23:59:59Z', '2999-01-31T10:00:00Z')
    """
    if given is None:
        return None
    try:
        if isinstance(given, str):
            given = date.fromisoformat(given) if "T" not in given else datetime.fromisoformat(given)
        if not isinstance(given, datetime):
            given = datetime.combine(given, time(23, 59, 59))
        zoned = given if given.tzinfo is not None else given.replace(tzinfo=UTC)
        found = moment(zoned)
        if zoned > (now or datetime.now(UTC)):
            return found
        what = "The statement would have expired already."
    except (ValueError, TypeError, OverflowError):
        what = "This is no date."
    raise CertificateError(what, at="expires", got=str(given)[:80], fix="give a day to come: 2027-01-31")


def sha256(data: bytes) -> str:
    """64 hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()
