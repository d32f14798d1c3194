"""Several proofs in one file: a zip archive of certificates, and a statement of what they say together.

`statement.json` names each part with its sha256; the parts are ordinary certificates, stored without compression, so
that the two checkers judge them after `unzip`. The statement is for people and for `check_certificate`, which compares
the parts with the model and the questions; nothing in it is believed.
"""

import hashlib
import io
import json
import platform
import tempfile
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jax
import numpy as np

from axiom_jax._errors import AxiomError, CertificateError
from axiom_jax._shapes_places import caller
from axiom_jax.verification._display import Facts, html_table, rich_table, shortened
from axiom_jax.verification.proof.certificate import Checked, canonical
from axiom_jax.verification.proof.recipes import Unwritable, decode, encode
from axiom_jax.verification.properties.answering import is_answer
from axiom_jax.verification.properties.reading import row_of
from axiom_jax.verification.properties.scope import MODES, Place, Samples, Scope, need_labels
from axiom_jax.verification.properties.ways import Way
from axiom_jax.verification.results import Item, Result
from axiom_jax.verification.run import digest_of

FORMAT, VERSION = "axiom-bundle", 1
STATEMENT = "statement.json"
LARGEST = 1 << 30  # bytes of a file and of a part
DATE = (1980, 1, 1, 0, 0, 0)  # of every member: equal proofs give equal files
NOT_COVERED = (
    "float32 execution: level real speaks of the network over exact real arithmetic",
    "the step from the model's JAX program to the certificate's program, which is replayed at seeded points only",
    "inputs outside of the regions named here, and what happens to data before the model sees them",
)


@dataclass(frozen=True, repr=False)
class Bundle:
    """A file of several proofs, in memory.

    Args:
        statement: what `statement.json` says.
        parts: the bytes of each part by its name in the archive.
    """

    statement: dict[str, Any]
    parts: dict[str, bytes]

    def to_bytes(self) -> bytes:
        """The file: the same bytes for the same proofs."""
        stream = io.BytesIO()
        with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as archive:
            for name, data in [(STATEMENT, canonical(self.statement) + b"\n"), *sorted(self.parts.items())]:
                archive.writestr(zipfile.ZipInfo(name, DATE), data)
        return stream.getvalue()

    @property
    def text(self) -> str:
        """The claims, a line each."""
        return "\n".join(f"{i['verdict']}: {i['claim']}" for i in self.statement["items"])

    @property
    def network(self) -> str:
        model = self.statement["model"]
        return f"{model['name']}, {model['digest'][:12]}…"

    @property
    def metadata(self) -> dict[str, Any]:
        return self.statement["metadata"]

    def facts(self) -> Facts:
        """Title and rows of its table."""
        items = self.statement["items"]
        rows = [("network", self.network), ("parts", str(len(self.parts)))]
        rows += [(i["property"], f"{i['verdict']}: {shortened(i['claim'], 120)}") for i in items[:20]]
        rows += [("", f"… and {len(items) - 20} more")] if len(items) > 20 else []
        rows += [("not covered", line) for line in self.statement["not_covered"]]
        rows += [(key, shortened(str(value))) for key, value in self.metadata.items()]
        return "certificate of several proofs", [*rows, ("checked", "not here: ax.check_certificate judges it")]

    def __repr__(self) -> str:
        return f"Bundle({len(self.parts)} parts, {self.network!r})"

    __rich__, _repr_html_ = rich_table, html_table


def generate_certificate(model: Any, result: Result, **metadata: Any) -> Bundle:
    """Everything that `ax.verify` proved or refuted about a model, as one file for `ax.save_certificate`.

    Args:
        model: the model that was verified.
        result: what `ax.verify` answered.
        **metadata: what else the file shall say, for people: `author="…"`, `requirement="SRS-12"`; JSON values.

    Returns:
        The bundle. Only what a checker accepted is in it as proved; what is claimed, tested or unknown is named under
        `not_covered`.

    Raises:
        CertificateError: the result is about another model, or nothing in it has a proof.

    >>> from axiom_jax.verification.properties.outputs import Bounded
    >>> from axiom_jax.verification.regions import Box
    >>> from axiom_jax.verification.run import verify
    >>> double = lambda x: 2 * x
    >>> result = verify(double, Bounded(-2, 2), region=Box([-1.0], [1.0]))
    >>> generate_certificate(double, result, author="me").metadata
    {'author': 'me'}
    """
    if not isinstance(result, Result) or result.scope is None:
        raise CertificateError("This is no result of ax.verify.", at=caller(), got=type(result).__name__,
                               fix="ax.generate_certificate(model, ax.verify(model, properties))")  # fmt: skip
    scope = result.scope
    if model is not scope.model and digest_of(row_of(model, scope.shape)) != result.digest:
        raise CertificateError("The result is about another model.", at=caller(), got=f"{result.model}",
                               fix="verify this model, then make the certificate")  # fmt: skip
    try:
        described = json.loads(json.dumps(metadata, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise CertificateError("The metadata are no JSON values.", at=caller(), got=str(error)[:100],
                               fix="give text, numbers, lists and dicts of them") from error  # fmt: skip
    items, parts, left = [], {}, []
    for item in result.items:
        if item.verdict not in ("proved", "refuted") or item.certificate is None:
            reason = item.reason or (f"{item.samples} samples" if item.samples is not None else "no certificate")
            left.append(f"{item.verdict}: {item.text} ({reason})")
            continue
        data = item.certificate.to_bytes()
        digest = hashlib.sha256(data).hexdigest()
        name = f"parts/{digest[:32]}.cert"
        parts[name] = data
        items.append(_described(item, scope, name, digest))
    if not items:
        raise CertificateError("Nothing in the result is proved or refuted with a certificate.", at=caller(),
                               got=", ".join(f"{n} {word}" for word, n in result.counts.items()) or "no items",
                               fix="see result.items for the reasons")  # fmt: skip
    statement = {
        "format": FORMAT,
        "version": VERSION,
        "model": {"name": result.model, "digest": result.digest, "source": scope.subject.source},
        "shape": list(scope.shape),
        "items": items,
        "not_covered": [*NOT_COVERED, *left],
        "metadata": described,
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "environment": f"python {platform.python_version()}, jax {jax.__version__}, {platform.machine()}",
    }
    return Bundle(statement, parts)


def _described(item: Item, scope: Scope, part: str, digest: str) -> dict[str, Any]:
    return {
        "property": item.property,
        "claim": item.text,
        "region": item.region,
        "verdict": item.verdict,
        "levels": list(item.levels),
        "network": item.network,
        "part": part,
        "sha256": digest,
        "part_text": item.certificate.text,
        "notes": list(item.notes),
        "asked": _asked(item, scope),
    }


def _asked(item: Item, scope: Scope) -> dict[str, Any]:
    """The question as plain values, so that it can be posed again; no property if it holds a function or a model."""
    place: Place | None = item.place
    x = None if place is None or place.x is None else np.asarray(place.x, np.float32)
    found = {"x": None if x is None else encode(x), "label": _label(scope, item.row), "property": None}
    found["region"] = None if scope.region is None else encode(scope.region)
    try:
        found["property"] = encode(item.asked)
    except Unwritable:
        pass
    return found


def _label(scope: Scope, row: int | None) -> int | None:
    if row is None or scope.samples is None:
        return None
    try:
        return int(need_labels(scope)[row])
    except AxiomError:
        return None


def is_bundle(content: bytes) -> bool:
    """Whether the bytes of a file are those of a bundle."""
    return content[:4] == b"PK\x03\x04"


def bundle_of(content: bytes, at: str) -> Bundle:
    """The bundle in the bytes of a file, not judged; `at` is for messages.

    Raises:
        CertificateError: it is cut, changed, or none.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            members = archive.infolist()
            names = [member.filename for member in members]
            if len(set(names)) != len(names) or sum(member.file_size for member in members) > LARGEST:
                raise ValueError("a member is there twice, or they are too large")
            if any(member.compress_type != zipfile.ZIP_STORED for member in members):
                raise ValueError("a member is compressed")
            files = {name: archive.read(name) for name in names}
        statement = json.loads(files.pop(STATEMENT))
        if statement["format"] != FORMAT or statement["version"] != VERSION:
            raise KeyError("format")
        found = Bundle(statement, files)
        _ = found.text, found.network, found.metadata, [str(line) for line in statement["not_covered"]]
    except (zipfile.BadZipFile, KeyError, TypeError, ValueError, AttributeError, EOFError, OSError, RecursionError,
            NotImplementedError, RuntimeError) as error:  # fmt: skip
        raise CertificateError(
            "The file is not a whole certificate.", at=at, got=f"{type(error).__name__}: {error}"[:200],
            fix="make it again; a cut or edited certificate cannot be repaired",
        ) from error  # fmt: skip
    return found


def check_bundle(
    bundle: Bundle, model: Any = None, timeout: float | None = None, properties: Iterable[Any] | None = None
) -> Checked:
    """Judge every part with its checker, and whether the statement says no more than they do.

    Args:
        model: the model that all parts must be about.
        properties: those that the file cannot hold (`ax.Custom`, `ax.Equivalent`), to compare their parts with.

    Returns:
        Accepted only if every part is, and with a model if each is the answer to its question about that model.
    """
    from axiom_jax.verification.proof.binding import check_certificate

    seconds, lines, levels = 0.0, [], set()
    if problem := _incoherent(bundle):
        return Checked(False, problem)
    subject = None if model is None else row_of(model, tuple(bundle.statement["shape"]))
    if subject is not None and digest_of(subject) != bundle.statement["model"]["digest"]:
        return Checked(False, f"it is about another network than {subject.name}: operations or weights differ")
    given = {prop.name: prop for prop in properties or ()}
    judged: dict[str, Checked] = {}
    for item in bundle.statement["items"]:
        name = item["part"]
        if name not in judged:
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder, "part.cert")
                path.write_bytes(bundle.parts[name])
                judged[name] = check_certificate(path, None, None if timeout is None else timeout - seconds)
            seconds += judged[name].seconds
        checked = judged[name]
        if not checked.accepted:
            return replace(checked, seconds=seconds, reason=f"{name} ({item['property']}): {checked.reason}")
        problem = _misstated(item, bundle.parts[name])
        if problem is None and subject is not None:
            problem = _unbound(item, bundle.parts[name], subject, model, given)
        if problem is not None:
            return Checked(False, f"{name} ({item['property']}): {problem}", seconds=seconds)
        levels.update(checked.levels)
        said = f" [rests on: {'; '.join(item['notes'])}]" if item["notes"] else ""
        lines.append(f"{item['verdict']}: {item['claim']}{said}")
    if subject is not None:
        lines.append(f"The network is {subject.name}: every part was compared with it and with its question.")
    return Checked(True, None, tuple(sorted(levels)), "\n".join(lines), seconds=seconds)


def _incoherent(bundle: Bundle) -> str | None:
    """What is wrong with the statement by itself, or None."""
    keys = {"property", "claim", "verdict", "network", "part", "sha256", "part_text", "notes", "asked"}
    items, named = bundle.statement.get("items"), set()
    if not isinstance(items, list) or not items or not isinstance(bundle.statement.get("shape"), list):
        return "the statement has no items"
    for item in items:
        if not isinstance(item, dict) or not keys <= item.keys() or not isinstance(item["notes"], list):
            return "an item of the statement is malformed"
        if item["verdict"] not in ("proved", "refuted") or item["part"] not in bundle.parts:
            return "an item names no part, or no verdict that a part can have"
        if hashlib.sha256(bundle.parts[item["part"]]).hexdigest() != item["sha256"]:
            return f"{item['part']} was changed: its sha256 differs"
        named.add(item["part"])
    return "there are parts that the statement does not name" if named != bundle.parts.keys() else None


def _misstated(item: dict[str, Any], data: bytes) -> str | None:
    """Why the statement says other than a part, or None."""
    from axiom_jax.verification.proof.certificate import certificate_of

    part = certificate_of(data, item["part"])
    if part.text != item["part_text"]:
        return "the statement quotes another text than the part has"
    violated = getattr(part, "claim", "holds") == "violated"
    if violated != (item["verdict"] == "refuted"):
        return f"the statement says {item['verdict']}, the part says {'violated' if violated else 'holds'}"
    return None


def _unbound(item: dict[str, Any], data: bytes, subject: Any, model: Any, given: dict[str, Any]) -> str | None:
    """Why a part is no answer to its question about the model, or None."""
    from axiom_jax.verification.proof.certificate import certificate_of

    part = certificate_of(data, item["part"])
    try:
        ways = _posed_again(item, subject, model, given)
    except (AxiomError, KeyError, TypeError, ValueError) as error:
        return f"its question cannot be posed again: {error}"
    if ways is None:
        return "its question holds a function or another model: give properties=[...] to compare it"
    if any(is_answer(part, way) for way in ways):
        return None
    return "it is not the answer to its question about this model"


def _posed_again(item: dict[str, Any], subject: Any, model: Any, given: dict[str, Any]) -> list[Way] | None:
    asked = item["asked"]
    prop = given.get(item["property"]) or decode(asked["property"])
    if prop is None:
        return None
    region, samples = decode(asked["region"]), None
    if asked["x"] is not None:
        x = np.asarray(decode(asked["x"]), np.float32).reshape(1, -1)
        y = None if asked["label"] is None else np.array([int(asked["label"])])
        samples = Samples(x, y, y)
    scope = Scope(model, subject, region, samples, 1 if samples else 0, MODES["standard"])
    return [way for claim in prop.claims(scope) for way in claim.ways]
