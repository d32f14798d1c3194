"""`ax.show_certificate`: a certificate in human form, with what a checker says of it if one is asked."""

import hashlib
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from axiom_jax._errors import CertificateError
from axiom_jax._shapes_places import caller
from axiom_jax.report.showing import derived, network
from axiom_jax.report.showing.opening import DAMAGED, Opened, Part, damaged, open_file, opened, said
from axiom_jax.report.showing.sections import PAGE, SCREEN, Limits, Section, left_out
from axiom_jax.report.showing.words import printable

if TYPE_CHECKING:
    from axiom_jax.verification.proof.certificate import Checked

NOT_CHECKED = "not checked here: what follows is what the file says (axiom check judges it)"
UNSIGNED = "no: anyone can have written this file"
MARGIN = "the least bound - threshold is "


@dataclass(frozen=True, repr=False)
class Shown:
    """A certificate in human form: print it, let a notebook show it, or write it to a file.

    Args:
        opened: the file. checked: the judgement of its checker, or None.
    """

    opened: Opened
    checked: "Checked | None" = None
    _kept: dict[Limits, list[Section]] = field(default_factory=dict, compare=False)

    @property
    def title(self) -> str:
        """What it is, in a line."""
        if self.opened.statement is not None:
            what = f"several proofs, {len(self.opened.parts)} parts"
        else:
            part = self.opened.parts[0]
            what = f"{'derivation' if part.format.endswith('derivation') else 'certificate'}, version {part.version}"
        signed = ", in a signed envelope" if self.opened.signed is not None else ""
        return f"{printable(self.opened.name, 100)}: {what}{signed}"

    @property
    def state(self) -> str:
        """Whether it was checked, and what came of it."""
        if self.checked is None:
            return NOT_CHECKED
        if self.checked.accepted:
            return f"accepted by the checker in {self.checked.seconds:.1f} s"
        word = "unreadable" if self.checked.unreadable else "rejected"
        return f"{word} by the checker: {printable(self.checked.reason or '', 500)}"

    @property
    def style(self) -> str:
        """A word for the colour of the state."""
        return "open" if self.checked is None else "proved" if self.checked.accepted else "refuted"

    def sections(self, limits: Limits = PAGE) -> list[Section]:
        """All of it.

        Raises:
            CertificateError: the file has not the form of a certificate.
        """
        if limits not in self._kept:
            try:
                self._kept[limits] = list(self._sections(limits))
            except DAMAGED as error:
                raise damaged(self.opened.name, error) from error
        return self._kept[limits]

    def _sections(self, limits: Limits) -> Iterator[Section]:
        yield self._file()
        if self.checked is not None and self.checked.accepted:
            lines = [printable(line, 600, lines=True) for line in self.checked.statement.splitlines()]
            yield Section("What the checker says", lines=lines)
        if self.opened.signed is not None:
            yield Section("Envelope (read, not checked)", self.opened.envelope)
        if self.opened.statement is not None:
            yield from _bundle(self.opened.statement, limits)
        parts = self.opened.parts
        for part in parts[: limits.parts]:
            yield from _part(part, limits)
        if len(parts) > limits.parts:
            yield Section("Parts left out", [("parts", left_out(len(parts), limits.parts, "parts"))])

    def _file(self) -> Section:
        data = self.opened.data
        digest = hashlib.sha256(data).hexdigest()
        rows = [("file", f"{len(data):,} bytes, sha256 {digest}")]
        changed = [part.name or "the certificate" for part in self.opened.parts if not part.intact]
        if changed:
            rows.append(("warning", f"the digest does not match: {printable(', '.join(changed), 300)} was changed"))
        keys = self.opened.signed
        rows.append(("signed", UNSIGNED if keys is None else
                     f"by the keys {', '.join(keys) or 'none'}: not checked"))  # fmt: skip
        if self.checked is not None and MARGIN in self.checked.statement:
            rows.append(("margin", self.checked.statement.partition(MARGIN)[2].split()[0].rstrip(";")))
        return Section("File", rows)

    def to_dict(self) -> dict[str, Any]:
        """All of it as JSON values; always the same keys."""
        checked, parts = self.checked, self.opened.parts
        alone = self.opened.statement is None
        return {
            "file": printable(self.opened.name, 200),
            "bytes": len(self.opened.data),
            "sha256": hashlib.sha256(self.opened.data).hexdigest(),
            "format": parts[0].format if alone else "axiom-bundle",
            "version": parts[0].version if alone else self.opened.statement["version"],  # pyright: ignore
            "claim": printable(parts[0].payload.get("claim", ""), 40) if alone else None,
            "text": _text(parts[0].payload) if alone else None,
            "intact": all(part.intact for part in parts),
            "keys": None if self.opened.signed is None else list(self.opened.signed),
            "envelope": [list(row) for row in self.opened.envelope],
            "checked": checked is not None,
            "accepted": None if checked is None else checked.accepted,
            "levels": [] if checked is None else list(checked.levels),
            "reason": None if checked is None else checked.reason,
            "statement": None if checked is None else checked.statement,
            "sections": [section.to_dict() for section in self.sections()],
        }

    def to_html(self) -> str:
        """One HTML file: no script, no request, nothing from elsewhere."""
        from axiom_jax.report.showing.page import page

        return page(self)

    def to_pdf(self) -> bytes:
        """A PDF; equal for equal files.

        Raises:
            AxiomError: fpdf2 is not installed.
        """
        from axiom_jax.report.showing.pdf import pdf

        return pdf(self)

    def save(self, path: str | os.PathLike[str], kind: Literal["html", "pdf"] | None = None) -> Path:
        """Write it atomically.

        Args:
            kind: what is written; None goes by the name: a PDF where it ends in .pdf, else HTML.

        Raises:
            CertificateError: the folder is missing or not writable.
            AxiomError: fpdf2 is not installed, and a PDF was asked for.
        """
        from axiom_jax.verification.proof.certificate import write_atomically

        path = Path(path)
        as_pdf = path.suffix.lower() == ".pdf" if kind is None else kind == "pdf"
        data = self.to_pdf() if as_pdf else self.to_html().encode()
        try:
            write_atomically(path, data)
        except OSError as error:
            raise CertificateError("The page cannot be written.", at=str(path), got=error.strerror or str(error),
                                   fix="name a file in a folder that exists and is writable") from error  # fmt: skip
        return path

    def __rich__(self) -> Any:
        from axiom_jax.report.showing.terminal import rendered

        return rendered(self)

    def __str__(self) -> str:
        from rich.console import Console

        stream = StringIO()
        Console(file=stream, width=100, color_system=None, highlight=False).print(self)
        return "\n".join(line.rstrip() for line in stream.getvalue().splitlines())

    __repr__ = __str__

    def _repr_html_(self) -> str:
        from axiom_jax.report.showing.page import body

        return body(self, SCREEN)


def show_certificate(
    certificate: Any,
    check: bool = False,
    model: Any = None,
    timeout: float | None = None,
) -> Shown:
    """A certificate in human form. It is shown, not judged, unless `check` asks for that.

    Args:
        certificate: a file (a certificate, a derivation, several in an archive, or one in a signed envelope), or a
            certificate in memory.
        check: run the checker, and show what it says.
        model: the model that it must be about; implies `check`.
        timeout: seconds for the checker, or None.

    Returns:
        What can be printed, shown in a notebook, and written: `.save("out.html")`, `.save("out.pdf")`.

    Raises:
        CertificateError: the file cannot be read, or is no certificate.

    >>> from axiom_jax.verification.properties.outputs import Bounded
    >>> from axiom_jax.verification.regions import Box
    >>> from axiom_jax.verification.run import verify
    >>> item = verify(lambda x: 2 * x, Bounded(-2, 2), region=Box([-1.0], [1.0])).items[0]
    >>> shown = show_certificate(item.certificate, check=True)
    >>> shown.title, shown.checked.accepted
    ('certificate: certificate, version 3', True)
    """
    if isinstance(certificate, (str, os.PathLike)):
        found = open_file(certificate)
    else:
        if not (hasattr(certificate, "to_bytes") and hasattr(certificate, "facts")):
            raise CertificateError("This is neither a certificate nor the path of one.", at=caller(),
                                   got=type(certificate).__name__, fix="give verdict.certificate")  # fmt: skip
        try:
            found = opened(certificate.to_bytes(), "certificate", "certificate")
        except DAMAGED as error:
            raise damaged("certificate", error) from error
    shown = Shown(found, _judged(certificate, found, model, timeout) if check or model is not None else None)
    shown.sections(SCREEN)  # so that what is no certificate is refused here
    return shown


def _judged(certificate: Any, found: Opened, model: Any, timeout: float | None) -> "Checked":
    from axiom_jax.verification.proof.binding import check_certificate

    if found.signed is None:
        return check_certificate(certificate, model, timeout)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "inside.cert")
        path.write_bytes(found.inner)
        return check_certificate(path, model, timeout)


def _text(payload: dict[str, Any]) -> str:
    return printable(payload["property"]["text"] if "property" in payload else payload.get("text", ""))


def _part(part: Part, limits: Limits) -> Iterator[Section]:
    kind = derived if part.format.endswith("derivation") else network
    for section in kind.sections(part, limits):
        title = f"{printable(part.name, 60)}: {section.title}" if part.name else section.title
        yield Section(title, section.rows, section.tables, section.lines, section.drawings)


def _bundle(statement: dict[str, Any], limits: Limits) -> Iterator[Section]:
    items, model = statement["items"], statement["model"]
    rows = [("network", f"{printable(model['name'], 200)}, digest {printable(model['digest'], 64)}")]
    rows += [(f"source: {printable(kind, 60)}", printable(said(value), 200))
             for kind, value in sorted((model.get("source") or {}).items())]  # fmt: skip
    rows += [(f"{printable(i['verdict'], 20)}", f"{printable(i['claim'], 500)} ({printable(i['part'], 60)})")
             for i in items[: limits.parts]]  # fmt: skip
    rows += [("", left_out(len(items), limits.parts, "claims"))] * (len(items) > limits.parts)
    rows += [("not covered", printable(line, 500)) for line in statement["not_covered"][:50]]
    rows += [(key, printable(said(statement[key]), 200)) for key in ("time", "environment") if key in statement]
    yield Section("What the file says", rows)
    yield network.meta(statement["metadata"])
