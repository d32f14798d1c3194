"""What a search has closed and left open, as an append-only file, so that a run that was cut off goes on where it was.

A line holds what grew under open nodes since the line before, and a digest over itself and all lines before it; it is
on the disk before the search goes on. A half-written last line is dropped. What is read back only shapes the search:
a proof is checked whole before it counts, a counterexample is judged exactly.
"""

import base64
import hashlib
import json
import math
import os
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from axiom_jax._errors import SpecError
from axiom_jax.verification.proof.certificate import canonical, describe_property
from axiom_jax.verification.search.frontier import Growth, graft
from axiom_jax.verification.search.margins import Question
from axiom_jax.verification.search.tree import Multipliers, Tree

FORMAT, VERSION = "axiom-search", 1


class SearchJournal:
    """The journal of one question; several searches of it may write.

    Open nodes go by serial numbers: the roots first, then, with every growth, the open nodes in it in preorder.

    Args:
        path: the file; made if it is not there. It is held alone until `close`.

    Raises:
        SpecError: it cannot be read or written, is in use, or is about another question.
    """

    def __init__(self, path: str | os.PathLike[str], question: Question):
        self.path, self.digest = Path(path), ""
        self.serials: dict[str, dict[int, int]] = {}  # of each search: from an open node to its serial number
        self.counts: dict[str, int] = {}
        self.past: dict[str, list[tuple[int, Growth]]] = {}
        self.found: tuple[int, np.ndarray] | None = None
        try:
            self.file = open(self.path, "a+b")
        except OSError as error:
            raise _unusable(self.path, error.strerror or str(error)) from error
        try:
            self._lock()
            self._read(question)
        except BaseException:
            self.file.close()
            raise

    def _lock(self) -> None:
        try:
            import fcntl
        except ImportError:  # Windows
            return
        try:
            fcntl.flock(self.file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise SpecError("The journal is in use.", at=str(self.path), got="another run holds it",
                            fix="wait for that run, or name another file") from error  # fmt: skip

    def _read(self, question: Question) -> None:
        head = {"format": FORMAT, "version": VERSION, "question": digest_of_question(question)}
        first, _ = _line(head, "")
        self.file.seek(0)
        content = self.file.read()
        if first.startswith(content):  # new, or cut off within its first line
            self.file.truncate(0)
            self._append(head)
            return
        if not content.startswith(first):
            raise SpecError("The journal is about something else.", at=str(self.path), got=_told(content),
                            fix="name another file, or the model and the property that it was begun with")  # fmt: skip
        end = 0
        for line in content.splitlines(keepends=True):
            body = _body(line, self.digest)
            if body is None:
                break
            self.digest, end = json.loads(line)["digest"], end + len(line)
            with self._understood():
                self._take(body)
        self.file.truncate(end)

    def _take(self, body: dict[str, Any]) -> None:
        if "found" in body:
            point = [float.fromhex(x) for x in body["found"]["point"]]
            self.found = int(body["found"]["case"]), np.array(point, np.float32)
        elif "search" in body:
            grown = [(int(serial), decoded(growth)) for serial, growth in body["grown"]]
            self.past.setdefault(body["search"], []).extend(grown)

    @contextmanager
    def _understood(self) -> Iterator[None]:
        """Lines are whole, by their digests; what they say may still be nothing that a search writes."""
        try:
            yield
        except (ValueError, KeyError, TypeError, AttributeError, IndexError, OverflowError, zlib.error) as error:
            raise SpecError("The journal is damaged.", at=str(self.path), got="a line that no search writes",
                            fix="delete it, and the search begins anew") from error  # fmt: skip

    def restore(self, search: str, tree: Tree, parents: dict[int, int]) -> bool:
        """Let a fresh tree grow as it did before; whether there was anything. Later notes go on from there."""
        serials, count = {root: root for root in range(tree.cases)}, tree.cases
        nodes = {serial: node for node, serial in serials.items()}
        with self._understood():
            for serial, growth in self.past.get(search, ()):
                node = nodes.pop(serial)
                for left in graft(tree, node, growth, parents):
                    nodes[count], count = left, count + 1
        self.serials[search], self.counts[search] = {node: serial for serial, node in nodes.items()}, count
        return search in self.past

    def note(self, search: str, grown: Iterable[tuple[int, Growth, list[int]]]) -> None:
        """Write down what grew: node, what is under it, and which nodes under it are open, in preorder."""
        serials, lines = self.serials[search], []
        for node, growth, left in grown:
            if growth == [()]:
                continue
            lines.append([serials.pop(node), encoded(growth)])
            for below in left:
                serials[below] = self.counts[search]
                self.counts[search] += 1
        if lines:
            self._append({"search": search, "grown": lines})

    def note_found(self, case: int, point: Any) -> None:
        """Write down an unsafe point, if it is one of float32 numbers."""
        numbers = [float(x) for x in point]
        if all(np.float32(x) == x for x in numbers):
            self._append({"found": {"case": int(case), "point": [x.hex() for x in numbers]}})

    def _append(self, body: dict[str, Any]) -> None:
        line, self.digest = _line(body, self.digest)
        try:
            self.file.write(line)
            self.file.flush()
            os.fsync(self.file.fileno())
        except OSError as error:
            raise _unusable(self.path, error.strerror or str(error)) from error

    def close(self) -> None:
        self.file.close()


def digest_of_question(question: Question) -> str:
    """sha256 of the network, the property, and the values that a split may speak of."""
    from axiom_jax.verification.run import digest_of

    sites = [[list(site.shape), str(site.dtype)] for site in question.plan.sites]
    parts = [digest_of(question.subject), describe_property(question.property), sites]
    return hashlib.sha256(canonical(parts)).hexdigest()


def encoded(growth: Growth) -> list[Any]:
    """A growth as JSON: floats in hexadecimal, arrays compressed."""
    code = {float: float.hex, Multipliers: _multipliers, tuple: list}
    return [[code.get(type(part), lambda x: x)(part) for part in entry] for entry in growth]


def decoded(lines: list[list[Any]]) -> Growth:
    """What `encoded` wrote.

    >>> growth = [(0, 3, 0.1), (None, (1, 0), None), ()]
    >>> decoded(json.loads(json.dumps(encoded(growth)))) == growth
    True
    """
    growth: Growth = []
    for entry in lines:
        if len(entry) == 3 and entry[0] is None:
            multipliers = Multipliers(**{k: _decoded(v) for k, v in entry[2].items()}) if entry[2] else None
            growth.append((None, tuple(entry[1]), multipliers))
        else:
            growth.append(tuple(float.fromhex(part) if isinstance(part, str) else part for part in entry))
    return growth


def _multipliers(multipliers: Multipliers) -> dict[str, Any]:
    return {field.name: _encoded(getattr(multipliers, field.name)) for field in fields(multipliers)}


def _encoded(value: Any) -> Any:
    if isinstance(value, dict):
        return {"map": [[int(key), _encoded(part)] for key, part in value.items()]}
    if value is None:
        return None
    array = np.asarray(value)
    data = base64.b64encode(zlib.compress(array.tobytes(), 1)).decode()
    return {"dtype": array.dtype.str, "shape": list(array.shape), "data": data}


def _decoded(value: Any) -> Any:
    if value is None:
        return None
    if "map" in value:
        return {key: _decoded(part) for key, part in value["map"]}
    dtype, shape = np.dtype(value["dtype"]), value["shape"]
    size = math.prod(shape) * dtype.itemsize
    data = zlib.decompressobj().decompress(base64.b64decode(value["data"]), size + 1)  # no more than is asked for
    return np.frombuffer(data, dtype).reshape(shape).copy()


def _line(body: dict[str, Any], before: str) -> tuple[bytes, str]:
    text = canonical(body)
    digest = hashlib.sha256(before.encode() + text).hexdigest()
    return b'{"body":' + text + b',"digest":"' + digest.encode() + b'"}\n', digest


def _body(line: bytes, before: str) -> dict[str, Any] | None:
    """What a line says; None if it is not whole or does not follow the line before."""
    try:
        body = json.loads(line)["body"]
        return body if _line(body, before)[0] == line else None
    except (ValueError, KeyError, TypeError, RecursionError):
        return None


def _told(content: bytes) -> str:
    begun = content.startswith(b'{"body":{"format":"' + FORMAT.encode())
    return "the journal of another model, property or version" if begun else "no journal of a search"


def _unusable(path: Path, why: str) -> SpecError:
    return SpecError("The journal cannot be used.", at=str(path), got=why,
                     fix="name a file in a folder that exists and is writable")  # fmt: skip
