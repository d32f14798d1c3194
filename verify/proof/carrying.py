"""Both checkers as one file that needs Python and nothing else: `python -I -S axiom-checker.pyz CERT`.

The file is a zip archive (PEP 441) of `checker.py`, `derivation_checker.py` and a few lines that choose between them,
by the format that a certificate names. Equal checkers give equal bytes, whatever the machine and the day.
"""

import hashlib
import io
import zipfile
from pathlib import Path
from typing import Any

from axiom_jax._errors import CertificateError
from axiom_jax.verification.proof.certificate import CHECKER, DERIVATION_CHECKER, write_atomically

DATE = (1980, 1, 1, 0, 0, 0)  # of every member
SHEBANG = b"#!/usr/bin/env python3\n"
MAIN = '''"""Judge certificates, each by the checker of its format."""

import base64
import json
import sys

import checker
import derivation_checker

USAGE = "usage: python -I -S axiom-checker.pyz CERT..."


def signed_derivation(data):
    """The derivation in a signed file; None if it is another file. Signatures are not checked here."""
    if b'"payloadType"' not in data:
        return None
    try:
        inside = json.loads(base64.b64decode(json.loads(data)["payload"]))["predicate"]["certificate"]
        if inside["format"] != "axiom-derivation":
            return None
        return json.dumps(inside, sort_keys=True, separators=(",", ":")).encode() + b"\\n"
    except Exception:  # the other checker says what is wrong
        return None


def judge(path):
    """Exit status, and what the checker of its format says of a file, line by line."""
    try:
        with open(path, "rb") as file:
            data = file.read(checker.MAX_BYTES + 1)
    except (OSError, ValueError, MemoryError):
        return 2, ["unreadable: the file cannot be read"]
    derivation = data if b'"format":"axiom-derivation"' in data[:200] else signed_derivation(data)
    result = checker.check(data) if derivation is None else derivation_checker.check(derivation)
    verdict = ("accepted", f"rejected: {result.reason}", f"unreadable: {result.reason}")[result.code]
    return result.code, [verdict, *result.lines]


def main(paths):
    if not paths or any(path.startswith("-") for path in paths):
        print(USAGE, file=sys.stderr)
        return 2
    worst = 0
    for path in paths:
        code, lines = judge(path)
        print(*[f"{path!r}:"] * (len(paths) > 1), *lines, sep="\\n")
        worst = max(worst, code)
    return worst


if __name__ == "__main__":
    sys.stdout = open(1, "w", encoding="utf-8", errors="backslashreplace", closefd=False)
    sys.exit(main(sys.argv[1:]))
'''


def checker_archive() -> bytes:
    """The bytes of `axiom-checker.pyz`.

    Source: PEP 441, Improving Python ZIP Application Support.

    >>> checker_archive() == checker_archive()
    True
    """
    stream = io.BytesIO()
    stream.write(SHEBANG)
    members = {"__main__.py": MAIN.encode()} | {path.name: path.read_bytes() for path in (CHECKER, DERIVATION_CHECKER)}
    with zipfile.ZipFile(stream, "a", zipfile.ZIP_STORED) as archive:
        for name, data in sorted(members.items()):
            member = zipfile.ZipInfo(name, DATE)
            member.create_system, member.external_attr = 3, 0o644 << 16  # the same on every system
            archive.writestr(member, data)
    return stream.getvalue()


def write_checker(path: Path) -> dict[str, Any]:
    """Write the file, for everybody to run; its path, size and sha256, and the sha256 of each checker in it.

    Raises:
        CertificateError: the folder is missing or not writable.
    """
    data = checker_archive()
    try:
        write_atomically(path, data)
        path.chmod(path.stat().st_mode | (path.stat().st_mode & 0o444) >> 2)
    except OSError as error:
        raise CertificateError("The checker cannot be written.", at=str(path), got=error.strerror or str(error),
                               fix="name a file in a folder that exists and is writable") from error  # fmt: skip
    digest = lambda content: hashlib.sha256(content).hexdigest()
    inside = {checker.name: digest(checker.read_bytes()) for checker in (CHECKER, DERIVATION_CHECKER)}
    return {"output": str(path), "bytes": len(data), "sha256": digest(data), "checkers": inside}
