"""`ax.discharge`: guards that are theorems leave the program, and a report says which and why.

A guard is proved for every input, every size and every value of the parameters, so training or loading weights cannot
make the proof stale. It is a proof over the reals: by default one guard stays, that the output is finite.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from axiom_jax._errors import AxiomError
from axiom_jax._model_guards import Guard, collecting, conditions, without
from axiom_jax._model_train import apply_train, trainable_leaves
from axiom_jax._shapes_places import caller
from axiom_jax.guarding import bounded, ensure, finite
from axiom_jax.model import Model
from axiom_jax.verification._display import Facts, html_table, rich_table
from axiom_jax.verification.regions import Box, Everything
from axiom_jax.verification.search.margins import nearest
from axiom_jax.verification.statement import Statement, Variable
from axiom_jax.verification.verdict import Proved, Unknown, Verdict


@dataclass(frozen=True, repr=False)
class Discharged:
    """What became of a model's guards.

    Args:
        model: the model without those that were proved.
        items: text, place and verdict of each, in the order in which the model meets them.
    """

    model: Model
    items: tuple[tuple[str, str | None, Verdict], ...]

    @property
    def removed(self) -> tuple[str, ...]:
        """The texts of the guards that were proved, and so are gone."""
        return tuple(text for text, _, verdict in self.items if isinstance(verdict, Proved))

    def facts(self) -> Facts:
        """Title and rows of its table."""
        title = f"{self.model.name}: {len(self.removed)} of {len(self.items)} guards removed"
        rows = []
        for text, at, verdict in self.items:
            became = "proved, removed" if isinstance(verdict, Proved) else f"stays: {_why(verdict)}"
            rows.append((text, "\n".join(part for part in (became, at) if part)))
        return title, rows

    def __repr__(self) -> str:
        title, rows = self.facts()
        return "\n".join([title, *(f"  {name}: {text.splitlines()[0]}" for name, text in rows)])

    __rich__, _repr_html_ = rich_table, html_table


@dataclass(frozen=True, eq=False)
class Without:
    """A model's `apply` in which proved conditions are not looked for, but what their proofs assume is."""

    apply: Callable[..., Any]
    proved: frozenset[Guard]
    box: Box | None
    watch_output: bool

    def __call__(self, params: Any, *inputs: Any) -> Any:
        return collecting(lambda: self._watched(without(self.proved, lambda: self.apply(params, *inputs)), inputs))

    def apply_train(self, params: Any, *inputs: Any, key: Any) -> tuple[Any, Any]:
        """In training mode all conditions stay: the proofs are about inference."""
        return apply_train(self.apply, params, *inputs, key=key)

    def trainable(self, params: Any) -> Any:
        return trainable_leaves(self.apply, params)

    def _watched(self, output: Any, inputs: Sequence[Any]) -> Any:
        if self.box is not None:
            for x in inputs:
                low = _inside(self.box.lo, self.box.lo_open, np.inf)
                high = _inside(self.box.hi, self.box.hi_open, -np.inf)
                ensure(bounded(x, low, high), "inside of the region that the proofs of removed guards assume")
        if self.watch_output:
            for leaf in jax.tree.leaves(output):
                if jnp.issubdtype(jnp.result_type(leaf), jnp.floating):
                    ensure(finite(leaf), "finite, as the proofs of removed guards assume")
        return output


@dataclass(frozen=True)
class _Conditions:
    """What a model demands, as conditions on its inputs and then its parameters, all of them variables."""

    model: Model
    variables: tuple[Variable, ...]
    structure: Any
    inputs: int
    unknown: str | None = field(default=None)

    def met(self, *arrays: Any) -> list[tuple[Guard, Any]]:
        params = jax.tree.unflatten(self.structure, arrays[self.inputs :])
        return conditions(lambda: self.model.apply(params, *arrays[: self.inputs]))

    def statement(self, guard: Guard) -> Statement:
        def condition(*arrays: Any) -> Any:
            held = [jnp.all(holds) for other, holds in self.met(*arrays) if other == guard]
            return jnp.stack(held).all()

        return Statement(guard.text, self.variables, condition, at=guard.at)


def discharge(
    model: Model, region: Box | None = None, *, timeout: float = 10.0, watch_output: bool = True
) -> Discharged:
    """Prove the guards of a model, and remove those that are theorems.

    A guard is removed if it holds for every input (of the region), every size and all values of the parameters, over
    the reals; the derivation was accepted by its checker. NaN and infinite inputs and float32 rounding are outside of
    that: the guard that stays on the output (`watch_output`) catches what is not finite. With a region a guard that
    the inputs lie in it takes the place of those that were proved.

    Args:
        model: with an `ax.ensure` in it.
        region: where the inputs live; every real input if not given.
        timeout: seconds a guard. watch_output: keep one guard that the output is finite.

    Returns:
        The model without them, and what became of each.

    Raises:
        AxiomError: nothing says what the inputs look like.

    >>> from axiom_jax import nn
    >>> from axiom_jax.model import Sequential, axiom
    >>> from jaxtyping import Array, Float
    >>> @axiom
    ... def positive(net: nn.Sequential, x: Float[Array, "batch 2"]) -> Float[Array, "batch 2"]:
    ...     y = jnp.maximum(net(x), 0)
    ...     ensure(y >= 0, "not negative")
    ...     return y
    >>> discharge(positive.bind(Sequential(nn.Dense(2, 2)))).removed
    ('not negative',)
    """
    from axiom_jax.verification.proving import settle

    posed = _posed(model, region)
    guards = list(dict.fromkeys(guard for guard, _ in _met(posed)))
    items, proved = [], set()
    for guard in guards:
        verdict = Unknown(posed.unknown) if posed.unknown else settle(posed.statement(guard), timeout)
        items.append((guard.text, guard.at, verdict))
        if isinstance(verdict, Proved):
            proved.add(guard)
    apply = Without(model.apply, frozenset(proved), region, watch_output) if proved else model.apply
    return Discharged(replace(model, apply=apply), tuple(items))


def _posed(model: Model, region: Box | None) -> _Conditions:
    if not isinstance(model, Model):
        raise AxiomError("Only a model has guards to remove.", at=caller(), got=type(model).__name__,
                         fix="ax.discharge(model), declared with @ax.axiom")  # fmt: skip
    if not model.signature.inputs:
        raise AxiomError(f"{model.name} has no annotated shapes.", at=caller(), fix="declare it with @ax.axiom")
    leaves, structure = jax.tree.flatten(model.params)
    within = (region or Everything()).within()
    inputs = [Variable(name, shape, within) for name, shape, _ in model.signature.inputs]
    weights = [Variable(f"parameter {i}", tuple(np.shape(leaf))) for i, leaf in enumerate(leaves)]
    dtypes = {dtype for _, _, dtype in model.signature.inputs} | {str(jnp.result_type(leaf)) for leaf in leaves}
    unknown = None
    if other := sorted(dtypes - {"float32"}):
        unknown = f"inputs and parameters that are not float32 are not reals: {', '.join(other)}"
    elif open_sizes := [n for v in inputs for n in v.shape if isinstance(n, str) and not n.isidentifier()]:
        unknown = f"sizes that are expressions are not quantified over: {', '.join(open_sizes)}"
    return _Conditions(model, (*inputs, *weights), structure, len(inputs), unknown)


def _met(posed: _Conditions) -> list[tuple[Guard, Any]]:
    """The guards, from a trace at small sizes."""
    found: list[tuple[Guard, Any]] = []

    def run(*arrays: Any) -> None:
        found.extend((guard, None) for guard, _ in posed.met(*arrays))

    sizes = {n: i + 2 for i, n in enumerate(dict.fromkeys(
        n for v in posed.variables for n in v.shape if isinstance(n, str)))}  # fmt: skip
    signature = posed.model.signature.inputs
    leaves = jax.tree.leaves(posed.model.params)
    dtypes = [dtype for _, _, dtype in signature] + [jnp.result_type(leaf) for leaf in leaves]
    specs = [jax.ShapeDtypeStruct(tuple(sizes[n] if isinstance(n, str) else n for n in v.shape), dtype)
             for v, dtype in zip(posed.variables, dtypes, strict=True)]  # fmt: skip
    jax.eval_shape(run, *specs)
    return found


def _inside(end: Any, is_open: bool, inward: float) -> np.ndarray:
    """The outermost float32 that lies inside of an exact end; for each component where the end is an array."""
    if isinstance(end, tuple):
        return np.stack([_inside(part, is_open, inward) for part in end])
    if end is None:
        return np.asarray(-inward, np.float32)
    found = nearest(end)
    outside = Fraction(float(found)) < end if inward > 0 else Fraction(float(found)) > end
    if outside or (is_open and Fraction(float(found)) == end):
        found = np.nextafter(found, np.float32(inward))
    return np.asarray(found)


def _why(verdict: Any) -> str:
    return f"{type(verdict).__name__.lower()}" + (f", {verdict.reason}" if getattr(verdict, "reason", None) else "")
