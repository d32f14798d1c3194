"""What `axiom show` does."""

import json
from pathlib import Path
from typing import Any

from axiom_jax.report.showing.showing import Shown, show_certificate

ACCEPTED, REJECTED, UNREADABLE = 0, 1, 2


def run(certificate: Path, check: bool, model: str | None, html: Path | None, pdf: Path | None, as_json: bool) -> int:
    """Show a file in the terminal, or write it as pages; the status of the checker, 0 where none was asked."""
    shown = show_certificate(certificate, check=check, model=_model(model))
    written = {"html": html, "pdf": pdf}
    if html is not None:
        shown.save(html, "html")
    if pdf is not None:
        shown.save(pdf, "pdf")
    if as_json:
        paths = {kind: None if path is None else str(path) for kind, path in written.items()}
        print(json.dumps(shown.to_dict() | paths))
    else:
        _print(shown, [path for path in written.values() if path is not None])
    if shown.checked is None or shown.checked.accepted:
        return ACCEPTED
    return UNREADABLE if shown.checked.unreadable else REJECTED


def _model(path: str | None) -> Any:
    if path is None:
        return None
    from axiom_jax._cli_verify import read_model

    return read_model(path)


def _print(shown: Shown, written: list[Path]) -> None:
    from rich.console import Console

    console = Console(highlight=False, markup=False)
    console.print(shown)
    for path in written:
        console.print(f"written: {path}", soft_wrap=True)
