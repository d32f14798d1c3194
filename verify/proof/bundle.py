"""Several proofs in one file: a zip archive of certificates, and a statement of what they say together.

`statement.json` names each part with its sha256; the parts are ordinary certificates, stored without compression, so
that the two checkers judge them after `unzip`. The statement is for people and for `check_certificate`, which compares
the the statement with the parts, the model and the questions; nothing in it is believed.
"""

import hashlib
import io
import json
import platform
import re
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
from axiom_jax.verification.proof.recipes import REGIONS, Unwritable, decode, encode
from axiom_jax.verification.properties.answering import is_answer
from axiom_jax.verification.properties.base import Claim, ModelProperty
from axiom_jax.verification.properties.combining import Alternatives
from axiom_jax.verification.properties.reading import row_of
from axiom_jax.verification.properties.scope import MODES, Place, Samples, Scope, need_labels
from axiom_jax.verification.properties.ways import BySymbols, Way
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
RESTORED = "from the journal, checked again"  # how an answer was come by: no part of what a claim says
ALONE = "No model was given: what the file claims was not compared with its parts. What the checker says of each:"
WORDS = ("property", "claim", "region", "verdict", "network", "part", "sha256", "part_text")  # of an item


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
                member = zipfile.ZipInfo(name, DATE)
                member.create_system = 3  # the same on every system
                archive.writestr(member, data)
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
        "notes": [note for note in item.notes if note != RESTORED],
        "asked": _asked(item, scope),
    }


def _asked(item: Item, scope: Scope) -> dict[str, Any]:
    """The question as plain values, so that it can be posed again; no property if it holds a function or a model.

    `own` says that the label is the model's own answer, since none was given.
    """
    place: Place | None = item.place
    x = None if place is None or place.x is None else np.asarray(place.x, np.float32)
    found = {"x": None if x is None else encode(x), "label": _label(scope, item.row), "property": None}
    found |= {"row": item.row, "own": scope.samples is None or scope.samples.targets is None}
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
        if problem := _malformed(statement):
            raise ValueError(problem)
        found = Bundle(statement, files)
        if found.to_bytes() != content:  # so that no bit of the archive itself is left to choose
            raise ValueError("its bytes are not those of an untouched file")
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
        Accepted only if every part is, and with a model if each item says, word for word, a claim that its question
        makes about that model, and its part is the answer to that claim. Without a model the claims are not compared:
        the statement then has the words of the checkers only.
    """
    from axiom_jax.verification.proof.binding import check_certificate, replayed_file

    seconds, lines, levels = 0.0, [], set()
    if problem := _malformed(bundle.statement) or _undecodable(bundle.statement):
        return Checked(False, problem, unreadable=True)
    if problem := _incoherent(bundle):
        return Checked(False, problem)
    try:
        subject = None if model is None else row_of(model, tuple(bundle.statement["shape"]))
        digest = None if subject is None else digest_of(subject)
    except Exception as error:  # the shape is the file's: what a model says of rows that are not its own
        return Checked(False, f"the model takes no rows of shape {bundle.statement['shape']}: {_said(error)}")
    if subject is not None and digest != bundle.statement["model"]["digest"]:
        return Checked(False, f"it is about another network than {subject.name}: operations or weights differ")
    given = list(properties or ())
    judged: dict[str, Checked] = {}
    for item in bundle.statement["items"]:
        name = item["part"]
        if name not in judged:
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder, "part.cert")
                path.write_bytes(bundle.parts[name])
                judged[name] = check_certificate(path, None, None if timeout is None else timeout - seconds)
            seconds += judged[name].seconds
            lines += [] if subject is not None else [f"{name}:", *_indented(judged[name].statement)]
        checked = judged[name]
        if not checked.accepted:
            return replace(checked, levels=(), statement="", seconds=seconds,
                           reason=f"{name} ({item['property']}): {checked.reason}")  # fmt: skip
        problem = _misstated(item, bundle.parts[name], checked)
        if problem is None and subject is not None:
            problem = _unbound(item, bundle.parts[name], subject, model, given)
        if problem is not None:
            return Checked(False, f"{name} ({item['property']}): {problem}", seconds=seconds)
        levels.update(checked.levels)
        if subject is not None:
            said = f" [rests on: {'; '.join(item['notes'])}]" if item["notes"] else ""
            lines.append(f"{item['verdict']}: {item['claim']}{said}")
    if subject is None:
        lines.insert(0, ALONE)
    else:
        lines.append(f"The network is {subject.name}: every part was compared with it and with its question.")
        if (again := replayed_file(subject, _own_cases(bundle, subject))) is not None:
            if again.differs:
                said = f"a second reader of the file of {subject.name} disagrees: {again.differs}"
                return Checked(False, said, seconds=seconds)
            lines.append(f"Its file: {again.text}.")
    return Checked(True, None, tuple(sorted(levels)), "\n".join(lines), seconds=seconds)


def _own_cases(bundle: Bundle, subject: Any) -> list[Any]:
    """The cases of the parts that are about the model itself, not about a network made of it."""
    from axiom_jax.verification.proof.binding import difference
    from axiom_jax.verification.proof.certificate import Certificate, certificate_of

    parts = (certificate_of(data, name) for name, data in sorted(bundle.parts.items()))
    own = (part for part in parts if isinstance(part, Certificate) and difference(part, subject) is None)
    return [case for part in own for case in part.payload["property"]["cases"]]


def _indented(text: str) -> list[str]:
    return [f"  {line}" for line in text.splitlines()]


def _said(error: Exception) -> str:
    """An error on one line."""
    return " ".join(f"{type(error).__name__}: {error}".split())[:200]


def _malformed(statement: Any) -> str | None:
    """What is no statement at all, by the types of its values, or None."""
    text = lambda value: isinstance(value, str)
    texts = lambda value: isinstance(value, list) and all(map(text, value))
    size = lambda value: type(value) is int and value >= 0
    if not isinstance(statement, dict) or not isinstance(statement.get("metadata"), dict):
        return "the statement is malformed"
    model, shape, items = (statement.get(key) for key in ("model", "shape", "items"))
    if not isinstance(model, dict) or not text(model.get("name")) or not text(model.get("digest")):
        return "the statement names no model"
    if not isinstance(shape, list) or not all(map(size, shape)) or not texts(statement.get("not_covered")):
        return "the statement has no shape, or does not say what is not covered"
    if not isinstance(items, list) or not items:
        return "the statement has no items"
    for item in items:
        if not isinstance(item, dict) or not all(text(item.get(key)) for key in WORDS):
            return "an item of the statement is malformed"
        if not texts(item.get("notes")) or not texts(item.get("levels")) or not isinstance(item.get("asked"), dict):
            return "an item of the statement is malformed"
        asked = item["asked"]
        numbers = all(asked.get(key) is None or size(asked[key]) for key in ("row", "label"))
        if not {"x", "label", "row", "own", "region", "property"} <= asked.keys() or not numbers:
            return "a question of the statement is malformed"
    return None


def _undecodable(statement: dict[str, Any]) -> str | None:
    """Which question is none, or None."""
    for item in statement["items"]:
        try:
            _question(item["asked"])
        except Exception as error:  # whatever a class says of values that are not its own
            return f"the question of {item['part'][:80]} is malformed: {_said(error)}"
    return None


def _question(asked: dict[str, Any]) -> tuple[Any, Any, np.ndarray | None]:
    """The property, the region and the row of data of a question.

    Raises:
        CertificateError, TypeError, ValueError: it is none.
    """
    prop, region, x = decode(asked["property"]), decode(asked["region"]), decode(asked["x"])
    if prop is not None and (isinstance(prop, type) or not isinstance(prop, ModelProperty)):
        raise TypeError(f"{type(prop).__name__} is no property")
    if region is not None and not isinstance(region, tuple(REGIONS.values())):
        raise TypeError(f"{type(region).__name__} is no region")
    if x is not None and not isinstance(x, np.ndarray):
        raise TypeError(f"{type(x).__name__} is no row of data")
    return prop, region, None if x is None else np.asarray(x, np.float32).reshape(1, -1)


def _incoherent(bundle: Bundle) -> str | None:
    """What is wrong between the statement and the parts, or None."""
    named = set()
    for item in bundle.statement["items"]:
        if item["verdict"] not in ("proved", "refuted") or item["part"] not in bundle.parts:
            return "an item names no part, or no verdict that a part can have"
        if hashlib.sha256(bundle.parts[item["part"]]).hexdigest() != item["sha256"]:
            return f"{item['part']} was changed: its sha256 differs"
        named.add(item["part"])
    return "there are parts that the statement does not name" if named != bundle.parts.keys() else None


def _misstated(item: dict[str, Any], data: bytes, checked: Checked) -> str | None:
    """Why the statement says other than a part and its checker, or None."""
    from axiom_jax.verification.proof.certificate import certificate_of

    part = certificate_of(data, item["part"])
    if part.text != item["part_text"]:
        return "the statement quotes another text than the part has"
    violated = getattr(part, "claim", "holds") == "violated"
    if violated != (item["verdict"] == "refuted"):
        return f"the statement says {item['verdict']}, the part says {'violated' if violated else 'holds'}"
    if sorted(item["levels"]) != sorted(checked.levels):
        return f"the statement says levels {item['levels']}, its checker {list(checked.levels)}"
    return None


def _unbound(item: dict[str, Any], data: bytes, subject: Any, model: Any, given: list[Any]) -> str | None:
    """Why an item is no claim of its question about the model, or its part not the answer to it; or None."""
    from axiom_jax.verification.proof.certificate import certificate_of

    part = certificate_of(data, item["part"])
    asked, region, x = _question(item["asked"])
    props = [prop for prop in given if getattr(prop, "name", None) == item["property"]] or [asked]
    if props == [None]:
        return "its question holds a function or another model: give properties=[...] to compare it"
    problem = None
    for prop in props:
        try:
            posed = _posed_again(item["asked"], prop, region, x, subject, model)
            claims = [claim for claim in posed if _says(item, claim)]
            if claims and all(_answered(part, claim, item) for claim in claims):
                return None
        except Exception as error:  # whatever a property says of regions and rows that are not its own
            problem = f"its question cannot be posed again: {_said(error)}"
            continue
        problem = "it is not the answer to its question about this model"
        problem = problem if claims else "what the statement says is no claim of its question about this model"
    return problem


def _says(item: dict[str, Any], claim: Claim) -> bool:
    """Whether an item says a claim, word for word."""
    words = (item["property"], item["claim"], item["region"], item["notes"])
    return words == (claim.property, claim.text, claim.place.text, list(claim.notes))


def _answered(part: Any, claim: Claim, item: dict[str, Any]) -> bool:
    """Whether a part is the answer to a claim by one of its ways; a refutation only by one that can refute."""
    refuted = item["verdict"] == "refuted"
    return any(
        way.network == item["network"] and not (refuted and _proves_only(way)) and is_answer(part, way)
        for way in claim.ways
    )


def _proves_only(way: Way) -> bool:
    """Whether a counterexample to a way's question is none to its claim."""
    return isinstance(way, Alternatives) or (isinstance(way, BySymbols) and not way.whole)


def _posed_again(
    asked: dict[str, Any], prop: Any, region: Any, x: np.ndarray | None, subject: Any, model: Any
) -> list[Claim]:
    """The claims that a property makes about the model, or about the one row of data."""
    samples = None
    if x is not None:
        y = None if asked["label"] is None or asked["own"] else np.array([asked["label"]])
        samples = Samples(x, y, y)
    scope = Scope(model, subject, region, samples, 1 if samples else 0, MODES["standard"])
    if samples is not None and asked["own"] and asked["label"] is not None:
        if int(need_labels(scope)[0]) != asked["label"]:
            raise ValueError("the label is not the model's own answer")
    return [_numbered(claim, asked["row"]) for claim in prop.claims(scope)]


def _numbered(claim: Claim, row: int | None) -> Claim:
    """A claim about the one row that is posed again, under the number that the row had in the data."""
    if row is None or claim.place.row is None:
        return claim
    there = re.sub(r"\brow 0\b", f"row {row}", claim.place.text)
    text = claim.text.replace(claim.place.text, there)
    return replace(claim, text=text, place=replace(claim.place, text=there))
