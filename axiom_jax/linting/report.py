"""What a lint found: findings with a place and a fix, as a table in terminals and notebooks."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from html import escape
from typing import Any, Literal

Severity = Literal["error", "warning", "note"]
ORDER = {"error": 0, "warning": 1, "note": 2}


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong, or will surprise.

    Args:
        rule: its name: "division", "promotion", "dead-parameter"...
        severity: "error": it happens; "warning": it can; "note": good to know.
        what: one sentence. at: the user's line, or the parameter. got: what was seen, in words. fix: one line.
    """

    rule: str
    severity: Severity
    what: str
    at: str | None = None
    got: str | None = None
    fix: str | None = None


@dataclass(frozen=True, repr=False)
class Report:
    """Findings about one model, the worst first.

    Args:
        name: the model's.
        findings: all of them.
        region: the inputs that were assumed, in words.
    """

    name: str
    findings: tuple[Finding, ...]
    region: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "findings", tuple(sorted(self.findings, key=lambda f: ORDER[f.severity])))

    def __iter__(self) -> Iterator[Finding]:
        return iter(self.findings)

    def __len__(self) -> int:
        return len(self.findings)

    def __bool__(self) -> bool:
        """Whether anything was found."""
        return bool(self.findings)

    def of(self, severity: Severity) -> tuple[Finding, ...]:
        """The findings of one severity."""
        return tuple(f for f in self.findings if f.severity == severity)

    @property
    def clean(self) -> bool:
        """Nothing but notes."""
        return all(f.severity == "note" for f in self.findings)

    def to_dict(self) -> dict[str, Any]:
        """As `axiom lint --json` prints it."""
        return {"model": self.name, "region": self.region, "clean": self.clean,
                "findings": [asdict(f) for f in self.findings]}  # fmt: skip

    def __str__(self) -> str:
        lines = [f"{self.name}: {self._count()} (inputs: {self.region})"]
        for f in self.findings:
            lines.append(f"{f.severity} {f.rule}: {f.what}")
            lines += [f"  {word:<4} {text}".replace("\n", "\n       ") for word in ("at", "got", "fix")
                      if (text := getattr(f, word))]  # fmt: skip
        return "\n".join(lines)

    __repr__ = __str__

    def _count(self) -> str:
        counts = [(n, word) for word in ORDER if (n := len(self.of(word)))]  # type: ignore[arg-type]
        return ", ".join(f"{n} {word}{'s' if n > 1 else ''}" for n, word in counts) or "nothing found"

    def __rich__(self) -> Any:
        from rich.table import Table
        from rich.text import Text

        table = Table(title=Text(f"{self.name}: {self._count()}"), caption=Text(f"inputs: {self.region}"))
        for head in ("", "rule", "what", "fix"):
            table.add_column(head)
        for f in self.findings:
            table.add_row(*map(Text, (f.severity, f.rule, _told(f, "\n"), f.fix or "")))
        return table

    def _repr_html_(self) -> str:
        head = "".join(f"<th>{word}</th>" for word in ("", "rule", "what", "fix"))
        cell = lambda text: f"<td>{escape(text).replace(chr(10), '<br>')}</td>"
        rows = ("".join(map(cell, (f.severity, f.rule, _told(f, "\n"), f.fix or ""))) for f in self.findings)
        body = "".join(f"<tr>{row}</tr>" for row in rows)
        title = escape(f"{self.name}: {self._count()}; inputs: {self.region}")
        return f"<table><caption>{title}</caption><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _told(finding: Finding, between: str) -> str:
    return between.join(part for part in (finding.what, finding.at, finding.got) if part)
