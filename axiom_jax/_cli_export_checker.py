"""What `axiom export-checker` writes and prints."""

from pathlib import Path
from typing import Any

from axiom_jax.verification.proof.carrying import write_checker


def export(out: Path) -> dict[str, Any]:
    """Write the checkers as one file; its path, size and hash, and the hash of each checker in it."""
    return write_checker(out)


def show(facts: dict[str, Any]) -> None:
    """The facts for people."""
    print(f"{facts['output']}: {facts['bytes']:,} bytes, sha256 {facts['sha256']}")
    for name, digest in facts["checkers"].items():
        print(f"  {name:<22} sha256 {digest}")
    print(f"run it: python -I -S {facts['output']} CERT")
