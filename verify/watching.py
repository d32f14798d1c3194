"""What is not proved, watched: a statement's condition as an assertion that runs."""

from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np

from axiom_jax._errors import SpecError
from axiom_jax._shapes_places import caller
from axiom_jax.guarding import ensure
from axiom_jax.verification.spec.notation import rounded
from axiom_jax.verification.statement import Ball, Range, Statement, Variable


@dataclass(frozen=True, eq=False)
class Guard:
    """The condition of a statement as a runtime assertion: called with the variables, in the order of the statement.

    Outside of the region that the statement speaks of nothing is demanded. It works under jit, as `ax.ensure` does.

    >>> from axiom_jax.verification.spec.notation import read
    >>> Guard(read("∀x ∈ [0, 1]. x <= 0.5"))(jnp.array([0.25]))
    """

    statement: Statement

    def __call__(self, *values: Any, **named: Any) -> None:
        """Demand the condition at these values.

        Raises:
            EnsureViolation: it does not hold there, under the policy "raise".
            SpecError: the values are not those of the variables.
        """
        variables = self.statement.variables
        names = [v.name for v in variables]
        if len(values) > len(names) or set(named) != set(names[len(values) :]):
            raise SpecError("The guard is called with the statement's variables.", at=caller(),
                            got=f"{len(values)} values, {', '.join(named) or 'none by name'}",
                            fix=f"call it with {', '.join(names)}")  # fmt: skip
        arrays = [jnp.asarray(x, jnp.float32) for x in (*values, *(named[name] for name in names[len(values) :]))]
        holds = self.statement.condition(*arrays, *rounded(self.statement.constants))
        holds = jnp.all(getattr(holds, "holds", holds))
        for variable, x in zip(variables, arrays, strict=True):
            holds = jnp.logical_or(holds, jnp.logical_not(_lives(variable, x)))
        ensure(holds, self.statement.text)

    def __repr__(self) -> str:
        return f"Guard({self.statement.text!r})"


def _lives(variable: Variable, x: Any) -> Any:
    """Whether a float32 value is in the variable's region."""
    within = variable.within
    if isinstance(within, Range):
        lo, hi = (None if end is None else float(end) for end in (within.lo, within.hi))
        above = True if lo is None else (x > lo if within.lo_open else x >= lo)
        below = True if hi is None else (x < hi if within.hi_open else x <= hi)
        return jnp.all(jnp.logical_and(above, below))
    assert isinstance(within, Ball)
    away = jnp.abs(x - np.asarray(within.center, dtype=object).astype(np.float32))
    distance = {1: jnp.sum, 2: lambda a: jnp.sqrt(jnp.sum(a * a)), "inf": jnp.max}[within.order](away)
    return distance < float(within.radius) if within.open else distance <= float(within.radius)
