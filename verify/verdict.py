"""Answers: never a bare bool, never an exception.

`Proved` means that the checker accepted a certificate; what was found and not checked is
`Claimed`; `Refuted` carries an input that was judged in exact arithmetic; `Unknown` says
what was tried and what is left.
"""

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from axiom_jax.verification._display import Facts, html_table, numbers, rich_table, shortened


@dataclass(frozen=True, repr=False)
class Counterexample:
    """An input that breaks a property.

    Args:
        inputs: exact flat inputs in C order.
        outputs: enclosures of the exact outputs there; ends are equal where the network is piecewise linear.
        kind: `"real-cex"`: the network over exact real arithmetic is unsafe at this point.
        case: the number of the case it belongs to.
    """

    inputs: tuple[Fraction, ...]
    outputs: tuple[tuple[Fraction, Fraction], ...]
    kind: str = "real-cex"
    case: int = 0

    def to_dict(self) -> dict[str, Any]:
        """`{"kind", "inputs", "outputs"}`: hex floats where the number is one, else `"p/q"`; outputs in decimal."""
        outputs = self._outputs()
        return {"kind": self.kind, "inputs": [number(x) for x in self.inputs], "outputs": outputs}

    def _outputs(self) -> list[float]:
        return [float((lo + hi) / 2) for lo, hi in self.outputs]

    def facts(self) -> Facts:
        """Title and rows of its table."""
        rows = [("input", numbers(map(float, self.inputs))), ("output", numbers(self._outputs()))]
        return "counterexample", [*rows, ("judged", f"in exact arithmetic ({self.kind}), case {self.case}")]

    def __repr__(self) -> str:
        return f"Counterexample([{numbers(map(float, self.inputs))}] -> [{numbers(self._outputs())}])"

    __rich__, _repr_html_ = rich_table, html_table


def number(x: Fraction) -> str:
    """An exact rational as text: `float.hex` if it is a float32 value, else `p/q`.

    >>> number(Fraction(1, 2)), number(Fraction(1, 3))
    ('0x1.0000000000000p-1', '1/3')
    """
    import numpy as np

    try:
        rounded = float(np.float32(float(x)))
    except OverflowError:
        return str(x)
    return rounded.hex() if abs(rounded) != float("inf") and Fraction(rounded) == x else str(x)


@dataclass(frozen=True)
class Proved:
    """The checker accepted `certificate` (a `proof.certificate.Certificate`) at these levels."""

    certificate: Any
    levels: tuple[str, ...] = ("real",)

    def facts(self) -> Facts:
        """Title and rows of its table."""
        return "proved", [("levels", ", ".join(self.levels)), *_about(self.certificate)]

    __rich__, _repr_html_ = rich_table, html_table


@dataclass(frozen=True)
class Claimed:
    """A proof was found that no checker has accepted; `reason` says why."""

    certificate: Any
    reason: str
    guard: Callable[..., Any] | None = None

    def facts(self) -> Facts:
        """Title and rows of its table."""
        return "claimed", [("reason", self.reason), *_about(self.certificate)]

    __rich__, _repr_html_ = rich_table, html_table


@dataclass(frozen=True)
class Refuted:
    """The property does not hold: `counterexample` was judged in exact arithmetic."""

    counterexample: Counterexample
    certificate: Any = None
    levels: tuple[str, ...] = ("real",)

    def facts(self) -> Facts:
        """Title and rows of its table."""
        rows = self.counterexample.facts()[1]
        return "refuted", [("levels", ", ".join(self.levels)), *_about(self.certificate), *rows]

    __rich__, _repr_html_ = rich_table, html_table


@dataclass(frozen=True)
class Unknown:
    """Neither: what stopped the search, and the worst margin that is proved so far."""

    reason: str
    bound: float | None = None
    timed_out: bool = False
    guard: Callable[..., Any] | None = None

    def facts(self) -> Facts:
        """Title and rows of its table."""
        bound = [] if self.bound is None else [("margin so far", f"{self.bound:.6g}")]
        return "unknown", [("reason", self.reason), *bound]

    __rich__, _repr_html_ = rich_table, html_table


def _about(certificate: Any) -> list[tuple[str, str]]:
    return [] if certificate is None else [("property", shortened(certificate.text)), ("network", certificate.network)]


Verdict = Proved | Claimed | Refuted | Unknown


@dataclass(frozen=True)
class Decision:
    """A verdict with what it cost.

    Args:
        seconds: wall time of compilation and search; `compile_seconds` is the part spent compiling.
        check_seconds: wall time of the checker.
        bound: the worst margin proved so far (positive: safe), in units of the unsafe atoms.
        boxes: boxes bounded. leaves: leaves of the proof.
    """

    verdict: Verdict
    seconds: float
    compile_seconds: float = 0.0
    check_seconds: float = 0.0
    bound: float | None = None
    boxes: int = 0
    leaves: int = 0
    certificate_path: str | None = None

    @property
    def word(self) -> str:
        """"proved", "claimed", "refuted" or "unknown"."""
        return type(self.verdict).__name__.lower()

    def to_dict(self) -> dict[str, Any]:
        """The keys that `axiom verify --json` prints, always all of them."""
        verdict = self.verdict
        timed_out = isinstance(verdict, Unknown) and verdict.timed_out
        vnncomp = {"proved": "unsat", "claimed": "unsat", "refuted": "sat"}.get(self.word)
        levels = list(verdict.levels) if isinstance(verdict, (Proved, Refuted)) else []
        return {
            "verdict": self.word,
            "vnncomp": vnncomp or ("timeout" if timed_out else "unknown"),
            "levels": levels,
            "checked": bool(levels),
            "seconds": round(self.seconds, 4),
            "compile_seconds": round(self.compile_seconds, 4),
            "check_seconds": round(self.check_seconds, 4),
            "bound": self.bound,
            "certificate": self.certificate_path,
            "counterexample": verdict.counterexample.to_dict() if isinstance(verdict, Refuted) else None,
            "reason": getattr(verdict, "reason", None),
        }

    def facts(self) -> Facts:
        """Title and rows of its table."""
        title, rows = self.verdict.facts()
        if self.bound is not None and not isinstance(self.verdict, (Unknown, Refuted)):
            rows.append(("margin", f"{self.bound:.6g}"))
        rows.append(("search", f"{self.seconds:.2f} s, of which {self.compile_seconds:.2f} s compilation"))
        rows.append(("boxes, leaves", f"{self.boxes:,}, {self.leaves:,}"))
        if self.check_seconds:
            rows.append(("checker", f"{self.check_seconds:.2f} s"))
        return title, [*rows, *([("certificate", self.certificate_path)] if self.certificate_path else [])]

    __rich__, _repr_html_ = rich_table, html_table
