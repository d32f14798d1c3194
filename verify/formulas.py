"""What a small model or a claim says, as mathematics: a sympy expression, LaTeX in notebooks, text elsewhere."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import jax
import numpy as np

from axiom_jax._errors import UnsupportedPrimitive
from axiom_jax.model import Model
from axiom_jax.verification.domains.algebra.reading import Reading, statement_of_text
from axiom_jax.verification.domains.algebra.sympy_form import Rationals, read_with, shaped_expressions
from axiom_jax.verification.statement import Statement


@dataclass(frozen=True, eq=False, repr=False)
class Formula:
    """A model, function or claim as mathematics.

    Args:
        title: what it is called.
        reading: it at concrete sizes.
        statement: the claim, or None for a function.
    """

    title: str
    reading: Reading = field(repr=False)
    statement: Statement | None = None

    @cached_property
    def sympy(self) -> Any:
        """Expressions of real symbols, as `ax.to_sympy` gives them; of a claim its condition, without the quantifiers.

        Raises:
            SpecError: written out they are too long.
        """
        return shaped_expressions(self.reading)

    def latex(self) -> str:
        """LaTeX, without dollar signs. A claim is written for all sizes where that can be said."""
        if self.statement is not None:
            return _claim_latex(self.statement, self)
        from sympy import latex

        arguments = ", ".join(_argument(name, array) for name, array in self.reading.inputs.items())
        head = rf"\mathrm{{{self.title.replace('_', chr(92) + '_')}}}\left({arguments}\right)"
        leaf = lambda e: not isinstance(e, (list, tuple, dict))
        parts = [latex(e) for e in jax.tree.leaves(self.sympy, is_leaf=leaf)]
        body = parts[0] if len(parts) == 1 else rf"\left({', '.join(parts)}\right)"
        return f"{head} = {body}"

    def _repr_latex_(self) -> str:
        return rf"$\displaystyle {self.latex()}$"

    def __str__(self) -> str:
        if self.statement is not None:
            return self.statement.text
        return f"{self.title}({', '.join(self.reading.inputs)}) = {self.sympy}"

    def __repr__(self) -> str:
        return f"Formula({str(self)!r})"


def formula(
    thing: str | Statement | Model | Callable[..., Any],
    *specs: Any,
    sizes: dict[str, int] | None = None,
    rational: Rationals = "short",
) -> Formula:
    """A small model, a function or a claim as a formula.

    Args:
        thing: a model or JAX function, at the sizes of `specs`; a claim as text or as a statement.
        *specs: for a function, a `jax.ShapeDtypeStruct` for each argument, or an array where it is a known constant;
            a model may be given none if its signature says all sizes but that of the batch.
        sizes: at which sizes `.sympy` of a claim is written; 2 each where none is given.
        rational: "short" shows a float as the shortest decimal that rounds to it, "exact" as the rational that it is.

    Raises:
        SpecError: the text is malformed, sizes or specs are missing, or it is too long to be written out (when
            `.sympy` or `.latex()` is asked for).
        UnsupportedPrimitive: listing every operation that has no meaning over the reals.

    >>> import jax.numpy as jnp
    >>> f = formula(lambda x: jax.nn.relu(x @ jnp.array([1.0, -2.0])) + 0.1, jax.ShapeDtypeStruct((2,), jnp.float32))
    >>> f.sympy
    Max(0, x_0 - 2*x_1) + 1/10
    >>> formula("∀x ∈ [0, 1]. x*x <= x")
    Formula('∀x ∈ [0, 1]. x*x <= x')
    """
    if isinstance(thing, str):
        thing = statement_of_text(thing)
    if isinstance(thing, Statement):
        given = {n: 2 for n in thing.sizes} | (sizes or {})
        return Formula(thing.text, read_with(rational, thing, specs, given), thing)
    if isinstance(thing, Model) and not specs:
        specs = tuple(jax.ShapeDtypeStruct(tuple(n if isinstance(n, int) else 1 for n in shape), np.dtype(dtype))
                      for _, shape, dtype in thing.signature.inputs)  # fmt: skip
    reading = read_with(rational, thing, specs, sizes)
    title = reading.title if reading.title.isidentifier() else "f"
    return Formula(title, reading)


def _claim_latex(statement: Statement, formula_: Formula) -> str:
    from axiom_jax.verification.domains.algebra.latex import prefixed, theorem_latex
    from axiom_jax.verification.domains.symbolic.translate import theorem_of

    try:
        return theorem_latex(theorem_of(statement))
    except UnsupportedPrimitive:  # no meaning for all sizes: at the sizes that it was read at
        from sympy import latex

        kinds = {"forall": r"\forall", "exists": r"\exists"}
        front = [rf"{kinds[v.quantifier]} {_argument(v.name, formula_.reading.inputs[v.name])}"
                 for v in statement.variables]  # fmt: skip
        return prefixed(front, latex(formula_.sympy))


def _argument(name: str, array: np.ndarray) -> str:
    from axiom_jax.verification.domains.algebra.latex import TIMES, name_latex

    return name_latex(name) + (r" \in \mathbb{R}^{" + TIMES.join(map(str, array.shape)) + "}" if array.shape else "")
