"""What `axiom export-aptp` writes and prints."""

from pathlib import Path
from typing import Any

from axiom_jax._errors import CertificateError
from axiom_jax.verification.proof.aptp import export_aptp
from axiom_jax.verification.proof.certificate import write_atomically


def export(certificate: Path, out: Path | None) -> dict[str, Any]:
    """Write the APTP file of a certificate; the facts about it.

    Args:
        certificate: the file. out: the file to write, `.aptp`; beside the certificate if None.
    """
    out = out or certificate.with_suffix(".aptp")
    if out.suffix != ".aptp":
        raise CertificateError("Checkers of APTP take no file of this name.", at="--out", got=out.name,
                               fix="end it with .aptp")  # fmt: skip
    text = export_aptp(certificate)
    try:
        write_atomically(out, text.encode())
    except OSError as error:
        raise CertificateError("The APTP file cannot be written.", at=str(out), got=error.strerror or str(error),
                               fix="name a file in a folder that exists and is writable") from error  # fmt: skip
    leaves = sum(line.startswith("    (and") and "N_" in line for line in text.splitlines())
    return {"output": str(out), "neurons": text.count("(declare-pwl "), "leaves": leaves, "bytes": len(text.encode())}


def show(facts: dict[str, Any]) -> None:
    """The facts for people."""
    print(f"{facts['output']}: {facts['leaves']:,} leaves over {facts['neurons']:,} neurons, {facts['bytes']:,} bytes")
    print("not judged here: a checker of APTP does, together with the network")
