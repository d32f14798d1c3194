"""Whether two models give the same outputs, up to a tolerance: a quantised or pruned model and its source."""

from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from axiom_jax._errors import SpecError
from axiom_jax._shapes_places import caller
from axiom_jax.verification.properties.base import Claim, Condition, anywhere, pointwise_claims
from axiom_jax.verification.properties.outputs import Number, exact_number
from axiom_jax.verification.properties.reading import row_of
from axiom_jax.verification.properties.scope import Place, Scope
from axiom_jax.verification.property import Atom, rational
from axiom_jax.verification.search.margins import Subject

ONE = Fraction(1)


@dataclass(frozen=True, eq=False)
class Equivalent:
    """Every output differs from that of another model by at most a tolerance.

    Args:
        other: a model, or a function of a batch, with inputs and outputs of the same sizes.
        tolerance: exact as text ("0.01").

    Raises:
        SpecError: the tolerance is negative, or the sizes differ.

    >>> Equivalent(lambda x: x, "0.01").name
    'Equivalent(<lambda>, 0.01)'
    """

    other: Any
    tolerance: Number = 0

    def __post_init__(self) -> None:
        if exact_number(self.tolerance, "Equivalent") < 0:
            raise SpecError("A tolerance is not negative.", at=caller(), got=str(self.tolerance), fix='give "0.01"')

    @property
    def name(self) -> str:
        other = getattr(self.other, "name", None) or getattr(self.other, "__name__", type(self.other).__name__)
        return f"Equivalent({other}, {self.tolerance})"

    def places(self, scope: Scope) -> Iterable[Place]:
        return anywhere(self, scope)

    def claims(self, scope: Scope) -> Iterable[Claim]:
        return pointwise_claims(self, scope)

    def condition(self, scope: Scope, place: Place) -> Condition:
        subject = scope.kept(self, lambda: self._difference(scope))
        slack = rational(self.tolerance)
        unsafe = tuple((Atom(((j, sign),), -slack, strict=True),) for j in range(scope.outputs) for sign in (ONE, -ONE))
        text = f"every output is within {self.tolerance} of that of {subject.name.rpartition(' − ')[2]}"
        return Condition(subject, unsafe, text, "composed")

    def _difference(self, scope: Scope) -> Subject:
        first, second = scope.subject, row_of(self.other, scope.shape)
        sizes = [(s.size, s.flat[0].outputs[0].size) for s in (first, second)]
        if sizes[0] != sizes[1]:
            raise SpecError("The models are not of one shape.", at=caller(),
                            got=" and ".join(f"{a} inputs, {b} outputs" for a, b in sizes),
                            fix="compare models with the same inputs and outputs")  # fmt: skip
        if len(first.specs) > 1:
            raise SpecError("Equivalent compares models of one input.", at=caller(), got=f"{len(first.specs)} inputs",
                            fix="wrap them in functions of one array")  # fmt: skip
        apply = lambda params, x: first.outputs(params[0], x.ravel()) - second.outputs(params[1], x.ravel())
        source = {f"{kind} of model {i}": v for i, s in enumerate((first, second), 1) for kind, v in s.source.items()}
        return Subject(apply, (first.params, second.params), first.specs, f"{first.name} − {second.name}", source)
