"""What `axiom export-coq` writes and prints."""

import re
import time
from pathlib import Path
from typing import Any

from axiom_jax._errors import CertificateError
from axiom_jax.verification.proof.certificate import write_atomically
from axiom_jax.verification.proof.coq.exporting import export_coq
from axiom_jax.verification.proof.coq.writing import THEOREM


def export(certificate: Path, out: Path | None, timeout: float) -> dict[str, Any]:
    """Write the Coq file of a certificate; the facts about it.

    Args:
        out: the file; beside the certificate if None. Its name is that of a Coq module: letters, digits, `_`.
        timeout: seconds to look for a proof that Coq can follow.
    """
    name = re.sub(r"[^A-Za-z0-9_]", "_", certificate.stem)
    out = out or certificate.with_name(f"{name if name[:1].isalpha() else f'proof_{name}'}.v")
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*\.v", out.name):
        raise CertificateError(
            "Coq takes no file of this name.", at="--out", got=out.name,
            fix="begin with a letter, go on with letters, digits and _, and end with .v",
        )  # fmt: skip
    start = time.monotonic()
    data = export_coq(certificate, timeout=timeout).encode()
    try:
        write_atomically(out, data)
    except OSError as error:
        raise CertificateError(
            "The Coq file cannot be written.", at=str(out), got=error.strerror or str(error),
            fix="name a file in a folder that exists and is writable",
        ) from error  # fmt: skip
    seconds = time.monotonic() - start
    return {"output": str(out), "theorem": THEOREM, "bytes": len(data), "seconds": round(seconds, 3)}


def show(facts: dict[str, Any]) -> None:
    print(f"{facts['output']}: theorem {facts['theorem']}, {facts['bytes']:,} bytes")
    print(f"not judged here: coqc {facts['output']}")
