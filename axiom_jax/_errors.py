"""Every exception of the package, and the one way they are worded.

An error says what is wrong, at which line of the user's code or file, what was
got, and how to fix it. The four parts stay available as attributes and as a dict
(`axiom --json` prints that dict).
"""

from typing import Any


class AxiomError(Exception):
    """The root of all errors that axiom-jax raises on purpose.

    Args:
        what: one sentence, ending with a full stop.
        at: the user's file and line, the node or the file that it concerns.
        got: shapes, types or bindings; never the contents of arrays.
        fix: one line that tells how to mend it.

    >>> print(AxiomError("The box is empty.", at="p.vnnlib:3", fix="swap the bounds"))
    The box is empty.
      at   p.vnnlib:3
      fix  swap the bounds
    """

    def __init__(self, what: str, *, at: str | None = None, got: str | None = None, fix: str | None = None):
        super().__init__(what)
        self.what, self.at, self.got, self.fix = what, at, got, fix

    def __str__(self) -> str:
        parts = [(name, getattr(self, name)) for name in ("at", "got", "fix")]
        return "\n".join([self.what, *(f"  {name:<4} {_indent(text)}" for name, text in parts if text)])

    def to_dict(self) -> dict[str, str | None]:
        """The parts of the message: `{"what", "at", "got", "fix"}`."""
        return {"what": self.what, "at": self.at, "got": self.got, "fix": self.fix}


def _indent(text: str) -> str:
    return text.replace("\n", "\n       ")


class ShapeError(AxiomError):
    """Shapes do not fit, or an annotation does not hold for every size.

    Where several places are wrong, the first is told whole and `errors` holds an error for each.
    """

    errors: "tuple[ShapeError, ...]" = ()


class UnsupportedPrimitive(AxiomError):
    """A program uses operations that a domain has no rule for; all of them are listed."""


class SpecError(AxiomError):
    """A property is malformed: syntax, unknown names, an empty or unbounded region."""


class ModelError(AxiomError):
    """A model file or object cannot be read: truncated, foreign, with NaN weights."""


class CertificateError(AxiomError):
    """A certificate was rejected, or cannot be read or written."""


class BackendUnavailable(AxiomError):
    """A backend was named that cannot run here."""


class EnsureViolation(AxiomError):
    """A condition that `ax.ensure` guards did not hold.

    Args:
        condition: the message of the guard.
        row: the row of the batch that broke it, a place in several batch axes, or None.
        value: the offending value, or None.
        at: the line of the `ax.ensure` call.
    """

    def __init__(
        self, condition: str, *, row: int | tuple[int, ...] | None = None, value: Any = None, at: str | None = None
    ) -> None:
        parts = [f"{name} {found}" for name, found in (("row", row), ("value", value)) if found is not None]
        got = ", ".join(parts) or None
        super().__init__(f"A guarded condition does not hold: {condition}.", at=at, got=got)
        self.condition, self.row, self.value = condition, row, value


class TrainingError(AxiomError):
    """Training met a loss or a gradient that is not finite.

    Args:
        step: the step that was not finite, from 0. layer: the name of the layer that made it, None where none did.
        result: what training had reached before that step, a `TrainingResult`.
    """

    def __init__(self, what: str, *, step: int = 0, layer: str | None = None, result: Any = None, **parts: Any):
        super().__init__(what, **parts)
        self.step, self.layer, self.result = step, layer, result


for _error in (
    AxiomError, ShapeError, UnsupportedPrimitive, SpecError, ModelError, CertificateError, BackendUnavailable,
    EnsureViolation, TrainingError,
):  # fmt: skip
    _error.__module__ = "axiom_jax"  # users see and pickle the public name
