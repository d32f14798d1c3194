"""The end of a model: what happens to its outputs after the last parameter was used.

What holds for every input of that end holds for the model on every input: softmax gives probabilities whatever
the logits. And where the end keeps the order of its inputs, as softmax and sigmoid do over the reals, which class
is the largest can be asked of the logits.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from axiom_jax._program import Equation, Program, Var
from axiom_jax.verification.search.margins import Subject

MOVES = {"reshape", "squeeze", "expand_dims", "broadcast_in_dim", "copy", "convert_element_type"}  # of one order
INCREASING = {"exp", "logistic", "tanh", "log", "atan", "asinh", "erf", "expm1", "log1p", "cbrt"}
POSITIVE = {"exp", "logistic"}


@dataclass(frozen=True, eq=False)
class Tail:
    """The values that everything passes through on its way to the outputs, with no parameter behind them.

    Args:
        program, values: the model from one flat vector to another, and its parameters' values.
        cuts: such values, the last one first; the output itself is the first.
    """

    subject: Subject
    program: Program
    values: tuple[Any, ...]
    cuts: tuple[Var, ...]

    @property
    def starts(self) -> tuple[Var, ...]:
        """Cuts that theorems are stated for: the first one, and the logits; none where only moves are behind."""
        first = self.cuts[-1]
        if not any(e.name not in MOVES for e in self.behind(first)):
            return ()
        return (first,) if self.logits in (None, first) else (first, self.logits)

    @cached_property
    def logits(self) -> Var | None:
        """The first cut behind which the order of the elements is kept over the reals; None if only the output is."""
        kept = [v for v in self.cuts if any(e.name not in MOVES for e in self.behind(v)) and _keeps_order(self, v)]
        return kept[-1] if kept else None

    def behind(self, v: Var) -> tuple[Equation, ...]:
        """The equations from a cut to the output."""
        needed, found = {self.program.outputs[0]} - {v}, []
        for eqn in reversed(self.program.equations):
            if not needed.isdisjoint(eqn.outputs):
                found.append(eqn)
                needed |= set(eqn.inputs) - {v}
        return tuple(reversed(found))

    def after(self, v: Var) -> Callable[[Any], Any]:
        """The function from a cut to the flat outputs."""
        equations = self.behind(v)
        used = {w for eqn in equations for w in eqn.inputs}
        literals = tuple((w, value) for w, value in self.program.literals if w in used)
        end = Program((), (v,), literals, equations, self.program.outputs)
        return lambda z: end.evaluate((), z)[0]

    def before(self, v: Var) -> Subject:
        """The network up to a cut, as a subject: from one flat vector to one."""
        program, names = self.program, self.program.names
        front = Program(program.params, program.inputs, program.literals, program.equations, (v,), names)
        params: Any = list(self.values)
        order: list[Any] = list(range(len(params)))
        if len(set(names)) == len(names) == len(params):
            params, order = dict(zip(names, params, strict=True)), list(names)
        spec = (self.subject.input,)
        apply = lambda given, x: front.evaluate([given[key] for key in order], x)[0].ravel()
        return Subject(apply, params, spec, self.subject.name, dict(self.subject.source))


def tail_of(subject: Subject) -> Tail:
    """The tail of a model.

    >>> import jax
    >>> import jax.numpy as jnp
    >>> spec = jax.ShapeDtypeStruct((3,), np.float32)
    >>> tail = tail_of(Subject(lambda w, x: jax.nn.softmax(w * x), jnp.ones(3), (spec,)))
    >>> tail.logits in tail.starts, tail.logits.shape
    (True, (3,))
    """
    program, values = subject.flat
    free = {v for v, _ in program.literals}  # what needs no parameter
    for eqn in program.equations:
        if free.issuperset(eqn.inputs) and program.varying.isdisjoint(eqn.inputs):
            free.update(eqn.outputs)
    frontier, cuts = {program.outputs[0]}, [program.outputs[0]]
    for eqn in reversed(program.equations):
        if frontier.isdisjoint(eqn.outputs):
            continue
        operands = [v for v in eqn.inputs if v not in free]
        if any(v not in program.varying for v in operands):
            break
        frontier = (frontier - set(eqn.outputs)) | set(operands)
        if len(frontier) == 1:
            cuts.append(next(iter(frontier)))
    return Tail(subject, program, tuple(values), tuple(cuts))


SAME, ORDERED = "same", "ordered"  # all elements are equal; one strictly increasing function of the cut's, elementwise


def _keeps_order(tail: Tail, cut: Var) -> bool:
    """Whether the outputs are one strictly increasing function of the elements of a cut.

    The function may depend on what all elements share (their maximum, a sum); so softmax and log_softmax do.
    """
    kinds: dict[Var, tuple[str, bool]] = {cut: (ORDERED, False)}  # with whether it is known to be positive
    kinds |= {v: (SAME, bool(np.all(np.asarray(x) > 0))) for v, x in tail.program.literals if np.ndim(x) == 0}
    for eqn in tail.behind(cut):
        operands = [kinds.get(v) for v in eqn.inputs]
        kind = None if None in operands else _kind(eqn, [k for k in operands if k is not None])
        if kind is None:
            return False
        kinds[eqn.output] = kind
    return kinds.get(tail.program.outputs[0], (None,))[0] == ORDERED


def _kind(eqn: Equation, operands: list[tuple[str, bool]]) -> tuple[str, bool] | None:
    names, name = [kind for kind, _ in operands], eqn.name
    if len(eqn.outputs) != 1 or np.dtype(eqn.output.dtype).kind != "f":
        return None
    positive = all(sign for _, sign in operands)
    if name in ("reduce_max", "reduce_min", "reduce_sum") and eqn.output.size == 1:
        return SAME, positive
    if name in MOVES:
        grown = eqn.output.size != eqn.inputs[0].size
        return None if (grown and names[0] != SAME) or name == "convert_element_type" else operands[0]
    if all(kind == SAME for kind in names) and eqn.primitive.multiple_results is False:
        elementwise = all(v.size in (1, eqn.output.size) for v in eqn.inputs)
        same = elementwise and name in {"add", "sub", "mul", "div", "max", "min", "neg", *INCREASING}
        same &= (name != "div" or operands[1][1]) and (name not in ("log", "log1p", "sqrt") or operands[0][1])
        positive = name == "exp" or (positive and name in {"add", "mul", "div", "max", "min"})
        return (SAME, positive) if same else None
    if name in INCREASING and names == [ORDERED]:
        return (ORDERED, name in POSITIVE) if name not in ("log", "log1p") or operands[0][1] else None
    if names == [ORDERED, SAME] and (name in ("add", "sub") or (name in ("mul", "div") and operands[1][1])):
        return ORDERED, positive and name in ("add", "mul", "div")
    if names == [SAME, ORDERED] and (name == "add" or (name == "mul" and operands[0][1])):
        return ORDERED, positive
    return None
