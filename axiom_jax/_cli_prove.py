"""What `axiom prove` does: a statement from the command line, with the keys and exit codes of `axiom verify`."""

import re
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from axiom_jax._cli_verify import exit_code, keep_compilations
from axiom_jax._errors import SpecError
from axiom_jax.model import Model
from axiom_jax.verification.proof.certificate import save_certificate
from axiom_jax.verification.settling import settle
from axiom_jax.verification.spec.notation import read
from axiom_jax.verification.statement import Statement
from axiom_jax.verification.verdict import Decision, Proved, Refuted


def prove_text(
    text: str,
    *,
    timeout: float,
    check: bool,
    certificate: Path | None = None,
    sizes: Sequence[str] = (),
    models: Sequence[str] = (),
) -> Decision:
    """Read a statement, prove or refute it, and write the certificate.

    Args:
        timeout: wall seconds. check: whether a checker judges the proof.
        certificate: where to write the derivation, or the network's certificate.
        sizes: "n=3": numbers for names of sizes; the others stay open.
        models: "f=model.onnx": models that the text calls by that name.

    Raises:
        SpecError: the text or the sizes are malformed.
    """
    keep_compilations()
    start = time.monotonic()
    if certificate is not None and not certificate.absolute().parent.is_dir():
        raise SpecError("The certificate's folder does not exist.", at=str(certificate), fix="create it first")
    statement = with_sizes(read(text, dict(map(_named, models)), at="axiom prove"), sizes)
    left = max(timeout - (time.monotonic() - start), 0.0)
    verdict = settle(statement, left, check=check)
    decision = Decision(verdict, time.monotonic() - start, bound=getattr(verdict, "bound", None))
    evidence = verdict.certificate if isinstance(verdict, (Proved, Refuted)) else None
    if certificate is not None and evidence is not None:
        save_certificate(evidence, certificate)
        decision = replace(decision, certificate_path=str(certificate))
    return decision


def _named(text: str) -> tuple[str, Model]:
    name, equals, path = text.partition("=")
    if not equals or not name.isidentifier():
        raise SpecError("A model is given by a name and a file.", at="--model", got=text, fix="--model f=model.onnx")
    if path.endswith(".axiom"):
        from axiom_jax.interop.axiom.file import load_model

        return name, load_model(path)
    from axiom_jax.interop.onnx.reader import from_onnx

    return name, from_onnx(path)


def with_sizes(statement: Statement, sizes: Sequence[str]) -> Statement:
    """The statement at given sizes, "n=3" or "n=3,m=4"."""
    given: dict[str, int] = {}
    for part in (part for text in sizes for part in text.split(",")):
        match = re.fullmatch(r"\s*(\w+)\s*=\s*([1-9][0-9]{0,5})\s*", part)
        if match is None or match[1] not in statement.sizes:
            known = ", ".join(statement.sizes) or "none"
            raise SpecError("A size is given by its name and a whole number.", at="--sizes",
                            got=f"{part}; sizes: {known}", fix="--sizes n=3")  # fmt: skip
        given[match[1]] = int(match[2])
    if not given:
        return statement
    variables = tuple(replace(v, shape=tuple(given.get(n, n) if isinstance(n, str) else n for n in v.shape))
                      for v in statement.variables)  # fmt: skip
    at = ", ".join(f"{name} = {n}" for name, n in given.items())
    return replace(statement, text=f"{statement.text} (at {at})", variables=variables)


def show(decision: Decision) -> None:
    """The decision for people."""
    from rich.console import Console
    from rich.text import Text

    console = Console()
    colours = {"proved": "bold green", "refuted": "bold red"}
    verdict: Any = decision.verdict
    console.print(
        Text(decision.word, colours.get(decision.word, "bold yellow")), Text(verdict.text or ""), soft_wrap=True
    )
    rows = [] if not getattr(verdict, "scope", "") else [("", verdict.scope)]
    rows += [("reason", verdict.reason)] if getattr(verdict, "reason", None) else []
    rows += [("tried", line) for line in getattr(verdict, "tried", ())]
    rows += [("levels", ", ".join(verdict.levels))] if getattr(verdict, "levels", ()) else []
    rows += [("certificate", decision.certificate_path)] if decision.certificate_path else []
    for name, line in [*rows, ("time", f"{decision.seconds:.2f} s")]:
        console.print(Text(f"  {name:<12} {line}"), soft_wrap=True)


__all__ = ["exit_code", "prove_text", "show", "with_sizes"]
