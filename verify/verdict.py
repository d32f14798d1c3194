"""Answers: never a bare bool, never an exception.

`Proved` means that the checker accepted a certificate; what was found and not checked is
`Claimed`; `Refuted` carries an input that was judged in exact arithmetic; `Unknown` says
what was tried and what is left.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from axiom_jax._errors import SpecError
from axiom_jax._shapes_places import caller
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


@dataclass(frozen=True, repr=False)
class Point:
    """Values of the variables of a ∀ statement at which it does not hold.

    Args:
        values: (name, exact numbers as nested tuples, or one number) of each variable.
        executed: what JAX computed there in float32, for people.
        kind: `"real-cex"`: the statement is false there over exact real arithmetic.
        sizes: what the names of sizes are there.
    """

    values: tuple[tuple[str, Any], ...]
    executed: str = ""
    kind: str = "real-cex"
    sizes: tuple[tuple[str, int], ...] = ()

    def __getitem__(self, name: str) -> Any:
        """A variable's value, as a float32 array; `values` has it exactly.

        Raises:
            SpecError: the statement has no such variable.
        """
        import numpy as np

        if name not in dict(self.values):
            known = [own for own, _ in self.values]
            raise SpecError(f"The counterexample has no variable {name}.", at=caller(), got=", ".join(known),
                            fix=f'counterexample["{known[0] if known else "x"}"]')  # fmt: skip
        return np.array(dict(self.values)[name], dtype=object).astype(np.float32)

    def to_dict(self) -> dict[str, Any]:
        """As a network's counterexample: flat inputs in C order, and `variables` with the values of each."""
        flat = {name: [number(x) for x in _flat(value)] for name, value in self.values}
        inputs = [x for values in flat.values() for x in values]
        return {"kind": self.kind, "inputs": inputs, "outputs": [], "variables": flat, "sizes": dict(self.sizes)}

    def facts(self) -> Facts:
        """Title and rows of its table."""
        rows = [(name, _values(value)) for name, value in (*self.sizes, *self.values)]
        executed = [("executed", self.executed)] if self.executed else []
        return "counterexample", [*rows, *executed, ("judged", f"in exact arithmetic ({self.kind})")]

    def __repr__(self) -> str:
        return ", ".join(f"{name} = {_values(value)}" for name, value in (*self.sizes, *self.values))

    __rich__, _repr_html_ = rich_table, html_table


def _flat(value: Any) -> list[Fraction]:
    return [x for part in value for x in _flat(part)] if isinstance(value, tuple) else [value]


def _values(value: Any) -> str:
    if isinstance(value, tuple):
        shown = [_values(part) for part in value[:8]]
        return f"[{', '.join(shown)}{', …' if len(value) > 8 else ''}]"
    return str(value) if len(str(value)) <= 12 else f"{float(value):.6g}"


@dataclass(frozen=True)
class Proved:
    """The checker accepted `certificate` at these levels.

    Args:
        certificate: a `proof.certificate.Certificate` of a network, or a `proof.derivation.Derivation`.
        text: the statement, where it is a ∀ one. scope: what it was proved for, in words.
    """

    certificate: Any
    levels: tuple[str, ...] = ("real",)
    text: str | None = field(default=None, repr=False)
    scope: str = field(default="", repr=False)

    def facts(self) -> Facts:
        """Title and rows of its table."""
        rows = [("levels", ", ".join(self.levels)), *_stated(self.text)]
        rows += [("proved", self.scope)] if self.scope else []
        return "proved", [*rows, *_about(self.certificate, self.text)]

    def __str__(self) -> str:
        return _told("proved", self.text, self.scope) if self.text else repr(self)

    __rich__, _repr_html_ = rich_table, html_table


@dataclass(frozen=True)
class Claimed:
    """A proof was found that no checker has accepted; `reason` says why.

    Args:
        guard: for a ∀ statement, a function of its variables that demands the condition of them (`ax.ensure`).
        text: the statement, where it is a ∀ one.
    """

    certificate: Any
    reason: str
    guard: Callable[..., Any] | None = None
    text: str | None = field(default=None, repr=False)

    def facts(self) -> Facts:
        """Title and rows of its table."""
        return "claimed", [*_stated(self.text), ("reason", self.reason), *_about(self.certificate, self.text)]

    def __str__(self) -> str:
        return _told("claimed", self.text, self.reason) if self.text else repr(self)

    __rich__, _repr_html_ = rich_table, html_table


@dataclass(frozen=True)
class Refuted:
    """The property does not hold: `counterexample` was judged in exact arithmetic.

    Args:
        counterexample: a `Counterexample` (an input of a network) or a `Point` (values of a statement's variables);
            None for a refuted ∃, whose `certificate` is a proof of the negation.
        text: the statement, where it is a ∀ or ∃ one. scope: what was shown, in words.
    """

    counterexample: Any
    certificate: Any = None
    levels: tuple[str, ...] = ("real",)
    text: str | None = field(default=None, repr=False)
    scope: str = field(default="", repr=False)

    def facts(self) -> Facts:
        """Title and rows of its table."""
        rows = self.counterexample.facts()[1] if self.counterexample is not None else []
        shown = [("shown", self.scope)] if self.scope else []
        about = _about(self.certificate, self.text)
        return "refuted", [("levels", ", ".join(self.levels)), *_stated(self.text), *shown, *about, *rows]

    def __str__(self) -> str:
        return _told("refuted", self.text, self.scope or f"at {self.counterexample!r}") if self.text else repr(self)

    __rich__, _repr_html_ = rich_table, html_table


@dataclass(frozen=True)
class Unknown:
    """Neither: what stopped the search, and the worst margin that is proved so far.

    Args:
        guard: for a ∀ statement, a function of its variables that demands the condition of them (`ax.ensure`).
        text: the statement, where it is a ∀ one. tried: what was tried, in words.
    """

    reason: str
    bound: float | None = None
    timed_out: bool = False
    guard: Callable[..., Any] | None = None
    text: str | None = field(default=None, repr=False)
    tried: tuple[str, ...] = field(default=(), repr=False)

    def facts(self) -> Facts:
        """Title and rows of its table."""
        bound = [] if self.bound is None else [("margin so far", f"{self.bound:.6g}")]
        tried = [("tried", "\n".join(self.tried))] if self.tried else []
        return "unknown", [*_stated(self.text), ("reason", self.reason), *bound, *tried]

    def __str__(self) -> str:
        return _told("unknown", self.text, "; ".join([self.reason, *self.tried])) if self.text else repr(self)

    __rich__, _repr_html_ = rich_table, html_table


def _about(certificate: Any, text: str | None = None) -> list[tuple[str, str]]:
    """What a certificate speaks of, as far as it is not said already."""
    if certificate is None:
        return []
    network = [("network", certificate.network)] if hasattr(certificate, "network") else []
    return [*([("property", shortened(certificate.text))] if text is None else []), *network]


def _stated(text: str | None) -> list[tuple[str, str]]:
    return [] if text is None else [("statement", shortened(text))]


def _told(word: str, text: str | None, rest: str) -> str:
    """A verdict in one line."""
    return " ".join([word, *([shortened(text) + ":"] if text else []), shortened(rest)]).rstrip(": ")


Verdict = Proved | Claimed | Refuted | Unknown


@dataclass(frozen=True)
class Decision:
    """A verdict with what it cost.

    Args:
        seconds: wall time of compilation and search; `compile_seconds` is the part spent compiling.
        check_seconds: wall time of the checker.
        bound: the worst margin proved so far (positive: safe), in units of the unsafe atoms.
        boxes: boxes bounded. leaves: leaves of the proof.
        short_of_float32: why a proof is over the real numbers alone, where level float32 was tried.
    """

    verdict: Verdict
    seconds: float
    compile_seconds: float = 0.0
    check_seconds: float = 0.0
    bound: float | None = None
    boxes: int = 0
    leaves: int = 0
    certificate_path: str | None = None
    short_of_float32: str | None = None

    @property
    def word(self) -> str:
        """"proved", "claimed", "refuted" or "unknown"."""
        return type(self.verdict).__name__.lower()

    def to_dict(self) -> dict[str, Any]:
        """The keys that `axiom verify --json` prints, always all of them."""
        verdict = self.verdict
        example = verdict.counterexample if isinstance(verdict, Refuted) else None
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
            "counterexample": example.to_dict() if example is not None else None,
            "reason": self.reason,
        }

    @property
    def reason(self) -> str | None:
        """Why it is not proved, or not at level float32; None where there is nothing to say."""
        short = self.short_of_float32 and f"level float32 is not proved: {self.short_of_float32}"
        return getattr(self.verdict, "reason", None) or short

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


def interrupted(verdict: object) -> bool:
    """Whether Ctrl-C ended the search for a verdict, or the checking of its proof.

    >>> interrupted(Unknown("interrupted: 3 boxes left open")), interrupted(Unknown("out of time after 5 s"))
    (True, False)
    """
    return isinstance(verdict, (Unknown, Claimed)) and verdict.reason.startswith("interrupted")
