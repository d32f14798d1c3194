"""The demo's folder: only files that a demo wrote are ever replaced or removed."""

import os
import re
from pathlib import Path

from axiom_jax._errors import AxiomError
from axiom_jax.verification.proof.certificate import write_atomically

MARK = "axiom demo"  # in every file that the demo writes
PAGE, SUMMARY = "report.html", "summary.json"
PROOF, EXAMPLE = ".cert", ".counterexample"
OURS = re.compile(rf"robust-[^-]+-\d+({re.escape(PROOF)}|{re.escape(EXAMPLE)})")


def file_name(eps: str, image: int, suffix: str) -> str:
    """The name of the certificate of one image, say `robust-0.1-007.cert`."""
    return f"robust-{eps.replace('/', 'over')}-{image:03}{suffix}"


def claim(out: Path) -> None:
    """Make the folder, or make sure that nothing in it is in the way.

    Raises:
        AxiomError: it cannot be made or written, or has a file of another origin under a name that the demo uses.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        present = [path for path in sorted(out.iterdir()) if _name_is_used(path)]
        foreign = [path for path in present if not _is_ours(path)]
    except OSError as error:
        raise AxiomError(
            "The folder of the demo cannot be used.", at=str(out), got=error.strerror, fix="axiom demo --out DIR"
        ) from error
    if foreign:
        raise AxiomError(
            "The demo would overwrite a file that it has not written.", at=str(foreign[0]),
            fix="move it, or name another folder: axiom demo --out DIR",
        )  # fmt: skip
    if not os.access(out, os.W_OK):
        raise AxiomError("The folder of the demo cannot be written.", at=str(out), fix="axiom demo --out DIR")


def clear(out: Path) -> None:
    """Remove what an earlier demo left: its proofs are about another network."""
    for path in sorted(out.iterdir()):
        if _name_is_used(path) and _is_ours(path):
            path.unlink()


def write(path: Path, text: str) -> None:
    """Write a text file whole, or not at all.

    Raises:
        AxiomError: the disk is full, or the folder has gone.
    """
    try:
        write_atomically(path, text.encode())
    except OSError as error:
        raise AxiomError("The report cannot be written.", at=str(path), got=error.strerror) from error


def _name_is_used(path: Path) -> bool:
    return path.name in (PAGE, SUMMARY) or OURS.fullmatch(path.name) is not None


def _is_ours(path: Path) -> bool:
    return path.is_file() and not path.is_symlink() and MARK.encode() in path.read_bytes()
