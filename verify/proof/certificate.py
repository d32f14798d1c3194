"""The certificate file: what it holds, how it is written, read and handed to the checker.

The format is docs/certificate-format.md. Writing is atomic; the checker runs in a Python of
its own (`-I -S`), so that nothing of this process can help it accept.
"""

import base64
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from axiom_jax._errors import CertificateError
from axiom_jax._shapes_places import caller
from axiom_jax.verification import checker
from axiom_jax.verification._display import Facts, html_table, rich_table, shortened
from axiom_jax.verification.property import Atom, Case, Property
from axiom_jax.verification.search.margins import nearest
from axiom_jax.verification.search.tree import Tree
from axiom_jax.verification.spec.vnnlib2_meaning import KEY, embedded_text
from axiom_jax.verification.verdict import number

if TYPE_CHECKING:
    from axiom_jax.verification.proof.bundle import Bundle
    from axiom_jax.verification.proof.derivation import Derivation
    from axiom_jax.verification.proof.envelope import Judged

CHECKER = Path(__file__).resolve().parent.parent / "checker.py"
DERIVATION_CHECKER = CHECKER.with_name("derivation_checker.py")
FORMAT, VERSION = "axiom-certificate", 3
LEVELS = ["real", "float32"]
NOTHING = "0" * 64
ONE = 1 << 20  # the multiplier 1 of an atom
LINE = 160  # characters of a statement's line in a table


@dataclass(frozen=True, repr=False)
class Certificate:
    """A certificate in memory: the payload of the file.

    Args:
        payload: as docs/certificate-format.md says; only integers, strings, lists, maps and booleans.
    """

    payload: dict[str, Any]

    def to_bytes(self) -> bytes:
        """The canonical file."""
        body = canonical(self.payload)
        digest = hashlib.sha256(body).hexdigest()
        head = f'{{"digest":"{digest}","format":"{FORMAT}","payload":'.encode()
        return head + body + f',"version":{VERSION}}}\n'.encode()

    @property
    def claim(self) -> str:
        return self.payload["claim"]

    @property
    def text(self) -> str:
        return self.payload["property"]["text"]

    @property
    def network(self) -> str:
        """The network's name, how many tensors it has, and what it was read from."""
        model = self.payload["model"]
        source = "".join(f", {kind} {digest[:12]}…" for kind, digest in sorted(model["source"].items()))
        return f"{model['name']}, {len(model['tensors'])} tensors{source}"

    def facts(self) -> Facts:
        """Title and rows of its table."""
        rows = [("claim", self.claim), ("property", shortened(self.text)), ("network", self.network)]
        rows += [("levels", ", ".join(self.payload["levels"])), ("proof", self.payload["proof"]["kind"])]
        return "certificate", [*rows, ("checked", "not here: ax.check_certificate judges it")]

    def __repr__(self) -> str:
        try:
            return f"Certificate({self.claim!r}, {shortened(self.text, 60)!r}, {self.network!r})"
        except (KeyError, TypeError, AttributeError):  # it was read, not judged: parts may be missing
            return "Certificate(malformed)"

    __rich__, _repr_html_ = rich_table, html_table


@dataclass(frozen=True, repr=False)
class Checked:
    """The checker's judgement.

    Args:
        accepted: whether it accepted. reason: why not.
        levels: what was checked ("real"). statement: what was proved, in words.
        failed: (case, leaf) of the leaves whose bound was insufficient. seconds: wall time.
        unreadable: the file is malformed (exit code 2).
        margin: the least bound - threshold of a proof by a tree, as the checker prints it.
        signatures: of a signed file, what was found of each.
    """

    accepted: bool
    reason: str | None = None
    levels: tuple[str, ...] = ()
    statement: str = ""
    failed: tuple[tuple[int, int], ...] = ()
    seconds: float = 0.0
    timed_out: bool = False
    unreadable: bool = False
    margin: str | None = None
    signatures: "tuple[Judged, ...]" = ()

    def raise_if_rejected(self) -> "Checked":
        """Raise `CertificateError` unless accepted; returns itself."""
        if not self.accepted:
            raise CertificateError(
                f"The certificate was rejected: {self.reason}.",
                fix="do not rely on it; make it again from the model and the property",
            )
        return self

    def facts(self) -> Facts:
        """Title and rows of its table."""
        rows = [("reason", self.reason)] if self.reason else []
        rows += [("levels", ", ".join(self.levels))] if self.levels else []
        lines = [shortened(line, LINE) for line in self.statement.splitlines()] if self.accepted else []
        rows += [("statement", "\n".join(lines))] if lines else []
        return "accepted" if self.accepted else "rejected", [*rows, ("checker", f"{self.seconds:.2f} s")]

    def __repr__(self) -> str:
        return f"Checked(accepted={self.accepted}, reason={self.reason!r}, levels={self.levels})"

    __rich__, _repr_html_ = rich_table, html_table


def canonical(value: Any) -> bytes:
    """JSON with sorted keys, no blanks, ASCII only. Source: RFC 8785, for values without floats."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False).encode()


def describe_model(
    program: dict[str, Any], tensors: dict[str, np.ndarray], name: str, source: dict[str, str]
) -> tuple[dict[str, Any], bytes]:
    """The `model` part of the payload, and the little-endian bytes of its tensors, in order of their names."""
    little = {key: array.astype(array.dtype.newbyteorder("<")).tobytes() for key, array in sorted(tensors.items())}
    manifest = {
        key: {
            "dtype": "F32" if array.dtype == np.float32 else "I32",
            "shape": list(array.shape),
            "sha256": hashlib.sha256(little[key]).hexdigest(),
        }
        for key, array in tensors.items()
    }
    return {"name": name, "source": source, "program": program, "tensors": manifest}, b"".join(little.values())


def tensors_of(payload: dict[str, Any]) -> dict[str, np.ndarray]:
    """The tensors of a certificate by name, each of its shape; not judged.

    Raises:
        CertificateError: they are not what the manifest says.
    """
    found, start = {}, 0
    try:
        blob = checker.unpacked(payload["model"], payload["weights"])
        for name, entry in sorted(payload["model"]["tensors"].items()):
            count = int(np.prod(entry["shape"], dtype=np.int64))
            flat = np.frombuffer(blob, {"F32": "<f4", "I32": "<i4"}[entry["dtype"]], count, start)
            found[name], start = flat.reshape(entry["shape"]), start + 4 * count
    except (KeyError, TypeError, ValueError, checker.Rejected) as error:
        got = f"{type(error).__name__}: {error}"[:200]
        raise CertificateError("The weights cannot be read.", got=got, fix="make the certificate again") from error
    return found


def describe_property(prop: Property) -> dict[str, Any]:
    """The `property` part of the payload: exact rationals and their float32 readings."""
    return {"text": prop.text, "cases": [_case(case) for case in prop.cases]}


def _case(case: Case) -> dict[str, Any]:
    hexes = lambda values: [float(nearest(x)).hex() for x in values]
    return {
        "exact": {"lo": [str(x) for x in case.lo], "hi": [str(x) for x in case.hi]},
        "float32": {"lo": hexes(case.lo), "hi": hexes(case.hi)},
        "unsafe": [[_atom(atom) for atom in conjunct] for conjunct in case.unsafe],
    }


def _atom(atom: Atom) -> dict[str, Any]:
    pairs = lambda terms: [[i, str(c)] for i, c in terms]
    return {
        "input": pairs(atom.input),
        "output": pairs(atom.output),
        "strict": atom.strict,
        "threshold": str(atom.threshold),
    }


def certificate(
    model: dict[str, Any],
    blob: bytes,
    prop: dict[str, Any],
    claim: str,
    proof: dict[str, Any],
    meta: dict[str, str],
    profile: str = "",
) -> Certificate:
    """Put the parts together.

    Args:
        model, blob: as `describe_model` gives them.
        meta: for people; the property as VNN-LIB 2.0 is added, where that is short.
        profile: of float32 arithmetic ("cpu", "cuda"), for a proof at level `float32` too; none for `real` alone.
    """
    text = embedded_text(prop["cases"], model)
    meta = meta if text is None else {**meta, KEY: text}
    weights = base64.b64encode(zlib.compress(blob)).decode()
    parts = {"claim": claim, "levels": LEVELS[: 1 + bool(profile)], "model": model, "profile": profile}
    return Certificate(parts | {"property": prop, "proof": proof, "meta": meta, "weights": weights})


def tree_proof(tree: Tree, prop: Property, bounds: str = "crown", every: int = 1) -> dict[str, Any]:
    """The `proof` part for a closed tree.

    Args:
        bounds: how the checker bounds neurons: "crown" or "ibp".
        every: bound inner nodes at depths divisible by this, so that their descendants inherit. Fewer take the
            checker a third less time, but then it may refuse leaves that the search found safe.
    """
    trees = []
    for root, case in enumerate(prop.cases):
        local = _local_numbers(case)
        choices: dict[tuple[int, ...], int] = {}
        nodes = []
        for _, split, choice, depth in tree.preorder(root):
            if choice is not None:
                named = tuple(local[a] for a in choice[: len(case.unsafe)])
                nodes.append(~(2 * choices.setdefault(named, len(choices)) + 1))
            else:
                nodes.append(2 * split + (depth % every == 0))
        leaves = [[[d, [[k, ONE]], -1, []] for d, k in enumerate(choice)] for choice in choices]
        none = {"lemmas": [], "slopes": [], "slots": [], "splits": []}
        every_disjunct = [*range(len(case.unsafe))]
        trees.append({"bounds": bounds, "leaves": leaves, "nodes": nodes, "roots": [every_disjunct], **none})
    return {"kind": "tree", "trees": trees}


def _local_numbers(case: Case) -> list[int]:
    """From the number of an atom among all of a case to its number in its disjunct."""
    return [i for conjunct in case.unsafe for i in range(len(conjunct))]


def point_proof(case: int, inputs: Sequence[Fraction]) -> dict[str, Any]:
    """The `proof` part for a counterexample."""
    return {"kind": "point", "case": case, "inputs": [number(x) for x in inputs]}


def save_certificate(certificate: "Certificate | Derivation | Bundle", path: str | os.PathLike[str]) -> Path:
    """Write a certificate or a derivation atomically: the file is there whole, or not at all.

    Raises:
        CertificateError: it is no certificate, or the folder is missing or not writable.
    """
    content, path = content_of(certificate), Path(path)
    try:
        write_atomically(path, content)
    except OSError as error:
        raise CertificateError(
            "The certificate cannot be written.", at=str(path), got=error.strerror or str(error),
            fix="name a file in a folder that exists and is writable",
        ) from error  # fmt: skip
    return path


def content_of(certificate: Any) -> bytes:
    """The file of a certificate in memory.

    Raises:
        CertificateError: it is no certificate.
    """
    if not (hasattr(certificate, "to_bytes") and hasattr(certificate, "facts")):  # numbers have to_bytes too
        raise _no_certificate(certificate)
    return certificate.to_bytes()


def _no_certificate(thing: Any) -> CertificateError:
    """That something is no certificate, and how to get one of it."""
    of_verdict = hasattr(getattr(thing, "certificate", None), "to_bytes")
    fix = "give verdict.certificate" if of_verdict else "certificate = ax.generate_certificate(model, result)"
    got = "None" if thing is None else f"a {type(thing).__name__}"
    return CertificateError("This is neither a certificate nor the path of one.", at=caller(), got=got, fix=fix)


def write_atomically(path: Path, data: bytes) -> None:
    """Write beside the target, then rename over it."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(temporary, 0o666 & ~umask)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def load_certificate(path: str | os.PathLike[str]) -> "Certificate | Derivation | Bundle":
    """Read a certificate or a derivation without judging it (`check_certificate` judges).

    Raises:
        CertificateError: missing, truncated or not a certificate.
    """
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise CertificateError("The certificate cannot be read.", at=str(path), got=error.strerror) from error
    return certificate_of(content, str(path))


def certificate_of(content: bytes, at: str) -> "Certificate | Derivation | Bundle":
    """The certificate or derivation in the bytes of a file, not judged; `at` is for messages.

    Raises:
        CertificateError: truncated or not a certificate.
    """
    if content[:4] == b"PK\x03\x04":  # a zip: several in one file
        from axiom_jax.verification.proof.bundle import bundle_of

        return bundle_of(content, at)
    from axiom_jax.verification.proof.envelope import is_envelope

    if is_envelope(content):
        from axiom_jax.verification.proof.signing import certificate_inside

        return certificate_of(certificate_inside(content, at), at)
    try:
        data = json.loads(content)
        payload = data["payload"]
        known = (data["format"], data["version"]) in ((FORMAT, VERSION), ("axiom-derivation", 1))
        if not known or not isinstance(payload, dict):
            raise KeyError("format")
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise CertificateError(
            "The file is not a whole certificate.", at=at, got=f"{type(error).__name__}: {error}"[:200],
            fix="make it again; a cut or edited certificate cannot be repaired",
        ) from error  # fmt: skip
    if data["format"] == FORMAT:
        return Certificate(payload)
    from axiom_jax.verification.proof.derivation import Derivation

    return Derivation(payload)


def _command(path: str | os.PathLike[str]) -> list[str]:
    """How to check a file: canonical files name their format after the digest."""
    try:
        with open(path, "rb") as file:
            derivation = b'"format":"axiom-derivation"' in file.read(120)
    except OSError:
        derivation = False
    chosen = [str(DERIVATION_CHECKER)] if derivation else [str(CHECKER), "--failed"]
    return [sys.executable, "-I", "-S", *chosen, str(path)]


def run_checker(path: str | os.PathLike[str], timeout: float | None = None) -> Checked:
    """Judge a file with `checker.py` or `derivation_checker.py`, whichever knows its format, in a fresh interpreter
    without site-packages.

    Args:
        timeout: seconds, or None.

    Returns:
        The judgement; not accepted, with `timed_out`, when time is out.
    """
    import time

    if timeout is not None and timeout <= 0:
        return Checked(False, "the checker was given no time", timed_out=True)
    start = time.monotonic()
    try:
        done = subprocess.run(_command(path), capture_output=True, text=True, timeout=timeout, check=False)
    except subprocess.TimeoutExpired:
        return Checked(False, "the checker ran out of time", seconds=time.monotonic() - start, timed_out=True)
    seconds = time.monotonic() - start
    lines = done.stdout.splitlines()
    failed: tuple[tuple[int, int], ...] = ()
    margin = None
    if lines and lines[-1].startswith('{"failed"'):
        report = json.loads(lines.pop())
        failed = tuple((int(c), int(leaf)) for c, leaf in report["failed"])
        margin = None if report["margin"] == "none" else report["margin"]
    first = lines[0] if lines else f"the checker ended with status {done.returncode}: {done.stderr.strip()[-300:]}"
    if done.returncode == 0 and first == "accepted":
        float32 = any(line.startswith("level        float32: ") for line in lines)
        return Checked(True, None, tuple(LEVELS[: 1 + float32]), "\n".join(lines[1:]), (), seconds, margin=margin)
    reason = first.split(": ", 1)[1] if first.startswith(("rejected: ", "unreadable: ")) else first
    return Checked(False, reason, (), "\n".join(lines), failed, seconds, unreadable=done.returncode == 2)
