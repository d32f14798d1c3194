"""What `ax.verify` answers: an item a claim, and all of them as a table.

An item is proved only if a checker accepted its certificate; what was only tested says how often, and never counts.
"""

import builtins
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from html import escape
from typing import Any, ClassVar

from axiom_jax._errors import SpecError
from axiom_jax._shapes_places import caller
from axiom_jax.verification._display import Facts, html_table, rich_table, shortened
from axiom_jax.verification.verdict import Claimed, Counterexample, Proved, Refuted, Unknown

SHOWN = 40  # rows of a table
COLOURS = {"proved": "green", "refuted": "red", "claimed": "yellow", "unknown": "yellow", "tested": "cyan"}
COLUMNS = ("property", "region", "verdict", "levels", "margin", "seconds", "note")


@dataclass(frozen=True)
class Tested:
    """No counterexample among the inputs that were executed, or a statistic of data: never a proof.

    Args:
        samples: how many inputs were executed. reason: why there is no more than that, and what was seen.
        estimate: of the statistic, or None. interval: its confidence interval. confidence: its level, 0.95 for 95 %.
    """

    __test__: ClassVar[bool] = False  # pytest would take it for a test

    samples: int
    reason: str = ""
    estimate: float | None = None
    interval: tuple[float, float] | None = None
    confidence: float | None = None

    def facts(self) -> Facts:
        """Title and rows of its table."""
        rows = [("samples", f"{self.samples:,}"), *([("reason", self.reason)] if self.reason else [])]
        if self.estimate is not None:
            rows.append(("estimate", f"{self.estimate:.6g}"))
        if self.interval is not None:
            level = f" at {self.confidence:.0%}" if self.confidence else ""
            rows.append(("interval", f"[{self.interval[0]:.6g}, {self.interval[1]:.6g}]{level}"))
        return "tested", rows

    __rich__, _repr_html_ = rich_table, html_table


Answer = Proved | Claimed | Refuted | Unknown | Tested


@dataclass(frozen=True, repr=False)
class Item:
    """One claim and its answer.

    Args:
        property: the name, such as "Robust(eps=2/255)". text: the claim in words. region: where it is made.
        answer: the verdict with its evidence.
        seconds: wall time of search and checking. bound: the worst margin proved, or None.
        network: what a certificate of it is about: "model", "logits", "tail", "composed", or None.
        notes: what the verdict rests on beside the checker. row: of the data, or None.
        asked, place: the property itself, and the place in the scope it was asked in.
    """

    property: str
    text: str
    region: str
    answer: Answer
    seconds: float = 0.0
    bound: float | None = None
    network: str | None = None
    notes: tuple[str, ...] = ()
    row: int | None = None
    asked: Any = field(default=None, compare=False, repr=False)
    place: Any = field(default=None, compare=False, repr=False)

    @builtins.property
    def verdict(self) -> str:
        """ "proved", "claimed", "refuted", "unknown" or "tested"."""
        return type(self.answer).__name__.lower()

    @builtins.property
    def levels(self) -> tuple[str, ...]:
        """The levels that were checked."""
        return tuple(self.answer.levels) if isinstance(self.answer, (Proved, Refuted)) else ()

    @builtins.property
    def certificate(self) -> Any:
        """The certificate of a proof or a counterexample, or None."""
        return getattr(self.answer, "certificate", None)

    @builtins.property
    def counterexample(self) -> Counterexample | None:
        """The input that refutes it, or None."""
        return self.answer.counterexample if isinstance(self.answer, Refuted) else None

    @builtins.property
    def reason(self) -> str | None:
        """Why there is no proof; of a proof, to what it is restricted. None where there is nothing to say."""
        return getattr(self.answer, "reason", None) or getattr(self.answer, "scope", None) or None

    @builtins.property
    def samples(self) -> int | None:
        """How many inputs were executed, where the claim was only tested."""
        return self.answer.samples if isinstance(self.answer, Tested) else None

    def to_dict(self) -> dict[str, Any]:
        """All of it as JSON values; always the same keys."""
        example, answer = self.counterexample, self.answer
        tested = answer if isinstance(answer, Tested) else None
        return {
            "property": self.property,
            "claim": self.text,
            "region": self.region,
            "row": self.row,
            "verdict": self.verdict,
            "levels": list(self.levels),
            "seconds": round(self.seconds, 4),
            "bound": self.bound,
            "counterexample": example.to_dict() if example is not None and hasattr(example, "to_dict") else None,
            "network": self.network,
            "reason": self.reason,
            "notes": list(self.notes),
            "samples": self.samples,
            "estimate": tested.estimate if tested else None,
            "interval": list(tested.interval) if tested and tested.interval else None,
        }

    def cells(self) -> tuple[str, ...]:
        """The texts of its row in a table, a column each of `COLUMNS`."""
        note = "; ".join(filter(None, [self.reason, *self.notes]))
        if self.counterexample is not None:
            note = "; ".join(filter(None, [f"{self.counterexample!r}", note]))
        if self.samples is not None:
            note = f"{self.samples:,} samples" + (f": {note}" if note else "")
        bound = "" if self.bound is None else f"{self.bound:.4g}"
        return (self.property, self.region, self.verdict, ", ".join(self.levels), bound, f"{self.seconds:.2f}",
                shortened(note, 70))  # fmt: skip

    def facts(self) -> Facts:
        """Title and rows of its table."""
        title, rows = self.answer.facts()
        head = [("property", self.property), ("claim", shortened(self.text)), ("region", self.region)]
        notes = [("rests on", note) for note in self.notes]
        return title, [*head, *[row for row in rows if row[0] not in ("property",)], *notes]

    def __repr__(self) -> str:
        return f"Item({self.property!r}, {self.region!r}, {self.verdict!r})"

    __rich__, _repr_html_ = rich_table, html_table


@dataclass(frozen=True, repr=False)
class Result:
    """The answers of one run.

    Args:
        items: one a claim, in the order of the properties.
        model: the model's name. digest: sha256 of its operations and weights.
        mode: the budget's name. seconds: wall time. notes: what was left out, and why the run ended early if it did.
        scope: what was asked about: model, region and data.
    """

    items: tuple[Item, ...]
    model: str = "model"
    digest: str = ""
    mode: str = "standard"
    seconds: float = 0.0
    notes: tuple[str, ...] = ()
    scope: Any = field(default=None, compare=False, repr=False)

    @property
    def passed(self) -> bool:
        """Whether every claim is proved, and there is one."""
        return bool(self.items) and all(item.verdict == "proved" for item in self.items)

    @property
    def counts(self) -> dict[str, int]:
        """How many claims have each verdict; those that none has are left out."""
        return dict(Counter(item.verdict for item in self.items))

    def __getitem__(self, property: str) -> "Result":
        """The part that speaks of one property, by its name: `result["Robust(eps=2/255)"].passed`.

        Raises:
            SpecError: no claim has that name.
        """
        found = tuple(item for item in self.items if item.property == property)
        found = found or tuple(item for item in self.items if item.property.partition("(")[0] == property)
        if not found:
            names = ", ".join(dict.fromkeys(item.property for item in self.items)) or "no property"
            raise SpecError(f"The result has no {property!r}.", at=caller(), got=names, fix="use one of these names")
        return Result(found, self.model, self.digest, self.mode, sum(i.seconds for i in found), self.notes,
                      self.scope)  # fmt: skip

    def __iter__(self) -> Iterator[Item]:
        return iter(self.items)

    def __len__(self) -> int:
        return len(self.items)

    def to_dict(self) -> dict[str, Any]:
        """All of it as JSON values."""
        return {
            "model": self.model,
            "digest": self.digest,
            "mode": self.mode,
            "passed": self.passed,
            "counts": self.counts,
            "seconds": round(self.seconds, 4),
            "notes": list(self.notes),
            "items": [item.to_dict() for item in self.items],
        }

    def to_dataframe(self) -> Any:
        """The items as a `pandas.DataFrame`, one a row.

        Raises:
            AxiomError: pandas is not installed.
        """
        try:
            import pandas
        except ImportError as error:
            from axiom_jax._errors import AxiomError

            raise AxiomError("pandas is not installed.", at=caller(), fix="pip install pandas") from error
        columns = list(Item("", "", "", Unknown("")).to_dict())
        return pandas.DataFrame([item.to_dict() for item in self.items], columns=columns)

    @property
    def _title(self) -> str:
        counts = ", ".join(f"{n} {word}" for word, n in self.counts.items()) or "nothing asked"
        return f"{self.model}: {'passed' if self.passed else 'not passed'} ({counts})"

    def _rows(self) -> tuple[list[Item], list[str]]:
        """The items to show, those that are not proved first where there are too many, and the lines below them."""
        items = list(self.items)
        if len(items) > SHOWN:
            items = sorted(items, key=lambda item: item.verdict == "proved")[:SHOWN]
        more = [f"… and {len(self.items) - SHOWN} more: .items, .to_dataframe()"] if len(self.items) > SHOWN else []
        return items, [*more, *self.notes, f"mode {self.mode}, {self.seconds:.1f} s"]

    def __str__(self) -> str:
        items, below = self._rows()
        rows = [COLUMNS, *(item.cells() for item in items)]
        widths = [max(len(row[i]) for row in rows) for i in range(len(COLUMNS))]
        line = lambda row: "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        return "\n".join([self._title, *map(line, rows), *below])

    __repr__ = __str__

    def __rich__(self) -> Any:
        from rich.table import Table
        from rich.text import Text

        items, below = self._rows()
        table = Table(title=Text(self._title), caption=Text("\n".join(below)))
        for name in COLUMNS:
            table.add_column(name)
        for item in items:
            cells = [Text(cell) for cell in item.cells()]
            cells[2].stylize(COLOURS[item.verdict])
            table.add_row(*cells)
        return table

    def _repr_html_(self) -> str:
        items, below = self._rows()
        head = "".join(f"<th>{name}</th>" for name in COLUMNS)
        body = "".join("<tr>" + "".join(f"<td>{escape(c)}</td>" for c in item.cells()) + "</tr>" for item in items)
        caption, notes = escape(self._title), "<br>".join(map(escape, below))
        return (f"<table><caption>{caption}</caption><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
                f"<p>{notes}</p>")  # fmt: skip
