"""A model as certificates speak of it: its program, weights and hashes, and exact evaluation."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any
from weakref import WeakKeyDictionary

from axiom_jax.verification import checker
from axiom_jax.verification.lowering import lower
from axiom_jax.verification.proof import ir
from axiom_jax.verification.proof.certificate import describe_model
from axiom_jax.verification.search.margins import Subject


@dataclass(frozen=True)
class Exact:
    """The certificate's view of a model.

    Args:
        model: the `model` part of a certificate; empty if something is missing.
        blob: the safetensors file of its weights.
        missing: operations that certificates cannot express, or None.
    """

    model: dict[str, Any]
    blob: bytes
    missing: str | None = None

    @cached_property
    def network(self) -> Any:
        """The checker's own reading of it, for exact evaluation."""
        return checker.load_network(self.model, self.blob)


_made: WeakKeyDictionary[Subject, Exact] = WeakKeyDictionary()


def exactly(subject: Subject) -> Exact:
    """The exact view of a model; made once for each subject."""
    if subject not in _made:
        program, values = subject.flat
        lowered = lower(program)
        if gaps := ir.gaps(lowered):
            _made[subject] = Exact({}, b"", ", ".join(sorted({e.name for e in gaps})))
        else:
            parts = describe_model(*ir.emit(lowered, values), subject.name, subject.source)
            _made[subject] = Exact(*parts)
    return _made[subject]
