"""From a statement to a theorem: the condition is traced once for all sizes and read in the kernel's terms.

Over the reals, with the numbers of the text exact. What JAX would make NaN (a divisor of zero, the logarithm of a
negative number) is claimed not to happen, as a part of the goal.
"""

import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from fractions import Fraction
from types import MappingProxyType
from typing import Any, Literal

import numpy as np

from axiom_jax._domain import require
from axiom_jax._errors import AxiomError, SpecError, UnsupportedPrimitive
from axiom_jax._program import Equation, Program, Var, normalise
from axiom_jax._shapes_deciding import size_decisions
from axiom_jax._trace import trace
from axiom_jax.verification import derivation_checker as kernel
from axiom_jax.verification.derivation_checker import Node
from axiom_jax.verification.domains.symbolic import lookups, reductions, scalars, windows
from axiom_jax.verification.domains.symbolic.abstracting import forgettable, layers
from axiom_jax.verification.domains.symbolic.indexing import Dim, Index, NeedsConcrete, Unexpressible, affine
from axiom_jax.verification.domains.symbolic.primitives import symbolic
from axiom_jax.verification.domains.symbolic.reductions import loops
from axiom_jax.verification.domains.symbolic.scalars import Scalar
from axiom_jax.verification.domains.symbolic.tensors import Context, Step, Tensor, array, axes_of, variable
from axiom_jax.verification.domains.symbolic.theorem import Theorem
from axiom_jax.verification.statement import Ball, Range, Statement, Variable

TABLES = (lookups, reductions, windows)  # loaded for their rules
Forgotten = Literal["nothing", "weights", "layers"]
WORK = 10**8  # steps of the kernel for one translation
RECURSION = 5_000  # frames; more could exceed the stack of C


def theorem_of(
    statement: Statement, *, sizes: dict[str, int] | None = None, unroll: int = 3, forget: Forgotten = "nothing"
) -> Theorem:
    """The statement in the kernel's terms.

    Args:
        sizes: numbers for the names of sizes; None keeps them symbolic.
        unroll: sums and the like over at most this many values are written out.
        forget: "weights" makes captured arrays free variables, "layers" also their products with what varies (not
            under an ∃, whose variables a layer depends on): sound for proofs, not for refutations.

    Raises:
        UnsupportedPrimitive: listing what has no exact meaning in terms, with its places.
        SpecError: the condition gives no booleans.

    >>> import jax
    >>> from axiom_jax.verification.statement import Statement, Variable
    >>> print(theorem_of(Statement("relu(x) >= 0", (Variable("x"),), lambda x: jax.nn.relu(x) >= 0)))
    for all n, x[n]:
      for all i < n: 0 <= max(x[i], 0)
    """
    statement = at_sizes(statement, sizes or {})
    program, captured = program_of(statement)
    context = Context(unroll=unroll)
    with limits(statement):
        names = kernel_names(statement)
        declared = zip(statement.variables, program.inputs, strict=False)
        inputs = [variable(context, names[v.name], var.shape) for v, var in declared]
        numbers = [Tensor(context, (), "real", lambda q=q: _exact(q)) for q in statement.constants]
        added = _Added(context, {*names.values(), *statement.sizes})
        forgotten = lambda value: forget != "nothing" and forgettable(value)
        params = [added.tensor("w", np.shape(x)) if forgotten(x) else np.asarray(x) for x in captured]
        cut = layers(program, captured) if forget == "layers" and _universal(statement) else []
        opaque = {v: added.tensor("z", v.shape) for v in cut}
        env = interpret(context, program, params, [*inputs, *numbers], opaque)
        claim = _claimed(context, program, [env[v] for v in program.outputs])
        needed = tuple(dict.fromkeys(claim.defined))
        goal = scalars.conj([*needed, claim.value])
        return _quantified(statement, inputs, goal, needed, added.used(goal))


def variants(statement: Statement) -> list[Theorem]:
    """Theorems that each imply the statement, the most concrete first: all that can be said.

    Raises:
        UnsupportedPrimitive: where none can be said, for the reasons of the first.
    """
    found: list[Theorem] = []
    failure: UnsupportedPrimitive | None = None
    levels: tuple[Forgotten, ...] = ("nothing", "weights", "layers")
    for forget in levels if _captures(statement) else levels[:1]:
        try:
            theorem = theorem_of(statement, forget=forget)
        except UnsupportedPrimitive as e:
            failure = failure or e
            continue
        if theorem.goal not in (t.goal for t in found):
            found.append(theorem)
    if not found and failure is not None:
        raise failure
    return found


def at_sizes(statement: Statement, sizes: Mapping[str, int]) -> Statement:
    """The statement with numbers for some names of sizes."""
    shaped = lambda v: replace(v, shape=tuple(sizes.get(d, d) if isinstance(d, str) else d for d in v.shape))
    return replace(statement, variables=tuple(map(shaped, statement.variables))) if sizes else statement


def program_of(statement: Statement) -> tuple[Program, list[Any]]:
    """The condition's program, for all sizes, and the arrays that it captured.

    Raises:
        UnsupportedPrimitive: it takes Python decisions about sizes.
        SpecError: it gives no booleans.
    """
    try:
        with size_decisions() as places:
            closed = trace(statement.condition, *statement.symbolic())
        program, captured = normalise(closed)
    except AxiomError:
        raise
    except Exception as e:
        if type(e).__name__ != "InconclusiveDimensionOperation":
            raise
        what = "The condition cannot be traced for all sizes at once."
        raise UnsupportedPrimitive(what, at=statement.at, got=str(e).split("\n")[0], fix="give the sizes") from e
    if places:
        what = "The condition decides by a size, so that one trace does not tell about all sizes."
        raise UnsupportedPrimitive(what, at=", ".join(dict.fromkeys(places)), fix="give the sizes")
    for output in program.outputs:
        if getattr(output.dtype, "kind", "") != "b":
            what = "The condition gives something other than true or false."
            raise SpecError(what, at=statement.at, got=f"an array of {output.dtype}", fix="compare it, as in f(x) >= 0")
    return program, captured


@contextmanager
def limits(statement: Statement) -> Iterator[None]:
    """Room for the kernel and for deep programs; what cannot be said becomes `UnsupportedPrimitive`."""
    kernel.WORK[0] = max(kernel.WORK[0], WORK)
    depth = sys.getrecursionlimit()
    sys.setrecursionlimit(max(depth, RECURSION))
    fix = "rewrite this operation, or state the claim for given sizes"
    try:
        yield
    except Unexpressible as e:
        at = getattr(e, "at", None) or statement.at
        raise UnsupportedPrimitive(f"The claim cannot be said in terms: {e}.", at=at, fix=fix) from e
    except kernel.Rejected as e:
        raise UnsupportedPrimitive(f"The claim cannot be said in terms: {e}.", at=statement.at, fix=fix) from e
    except (RecursionError, NeedsConcrete) as e:
        raise UnsupportedPrimitive(
            "The claim cannot be said in terms: it is too deep.", at=statement.at, fix=fix
        ) from e
    finally:
        sys.setrecursionlimit(depth)


def interpret(
    context: Context,
    program: Program,
    params: Sequence[Any],
    inputs: Sequence[Tensor],
    opaque: Mapping[Var, Tensor] = MappingProxyType({}),
) -> dict[Any, Any]:
    """The value of every variable of a program: a tensor, or a known array; of `opaque` ones the given tensor."""
    require(symbolic, program, _gaps(program))
    env: dict[Any, Any] = dict(zip([*program.params, *program.inputs], [*params, *inputs], strict=True))
    env |= {var: np.asarray(value, var.dtype) for var, value in program.literals}
    for eqn in program.equations:
        operands = [env[v] for v in eqn.inputs]
        if opaque and opaque.keys() >= set(eqn.outputs):
            results: Any = [opaque[v] for v in eqn.outputs]
        elif eqn.name not in symbolic.rules or _wrapping(eqn, operands):
            if not all(map(symbolic.known, operands)):
                require(symbolic, program, [eqn])
            results = [np.asarray(r) for r in eqn.evaluate(*operands)]
        else:
            try:
                results = symbolic.rules[eqn.name](_Placed(context, eqn), *operands)
            except Unexpressible as e:
                raise _placed(e, eqn) from e
            results = results if eqn.primitive.multiple_results else [results]
        env.update(zip(eqn.outputs, results, strict=True))
    return env


class _Placed(Step):
    """A step whose entries say which line they come from when they fail."""

    def checked(self, entry: Any) -> Any:
        inner = super().checked(entry)

        def located(*place: Index) -> Scalar:
            try:
                return inner(*place)
            except Unexpressible as e:
                raise _placed(e, self.equation) from e

        return located


def _placed(e: Unexpressible, eqn: Equation) -> Unexpressible:
    if not hasattr(e, "at"):
        e.at = f"{eqn.at or 'unknown line'}: {eqn.name}"  # type: ignore[attr-defined]
    return e


def _gaps(program: Program) -> list[Equation]:
    """Equations without a rule that do not work on known integers alone."""
    exact = {v for v in (*program.params, *(v for v, _ in program.literals)) if _whole(v)}
    gaps = []
    for eqn in program.equations:
        whole = exact.issuperset(eqn.inputs) and all(map(_whole, eqn.outputs))
        numbered = all(isinstance(d, int) for v in eqn.outputs for d in v.shape)
        if whole and numbered:
            exact.update(eqn.outputs)
        elif eqn.name not in symbolic.rules:
            gaps.append(eqn)
    return gaps


def _whole(v: Var) -> bool:
    return getattr(v.dtype, "kind", "") in ("b", "i", "u")


def _wrapping(eqn: Equation, operands: Sequence[Any]) -> bool:
    """Whether it works on known unsigned integers, whose arithmetic is modular: JAX does it exactly."""
    unsigned = any(getattr(v.dtype, "kind", "") == "u" for v in (*eqn.inputs, *eqn.outputs))
    known = bool(operands) and all(map(symbolic.known, operands)) and all(map(_whole, (*eqn.inputs, *eqn.outputs)))
    return unsigned and known


@symbolic.rule("cond")
def _cond(step: Step, which: Any, *operands: Any) -> list[Tensor]:
    """All branches, and each entry from the one that is taken."""
    which, context, results = step.lift(which), step.context, []
    for branch in step.params["branches"]:
        program, captured = normalise(branch)
        env = interpret(context, program, captured, [step.lift(x) for x in operands])
        results.append([step.lift(env[v]) for v in program.outputs])
    outputs = []
    for k, out in enumerate(step.equation.outputs):
        kind = results[0][k].kind

        def entry(*place: Index, k: int = k, kind: str = kind) -> Scalar:
            chosen, found = which.at(), results[-1][k].at(*place)
            for number in reversed(range(len(results) - 1)):
                this = scalars.compare("eq", chosen, scalars.constant(number), context.ranges)
                found = scalars.select(this, results[number][k].at(*place), found, kind == "bool")
            return found

        outputs.append(Tensor(context, axes_of(out.shape), kind, entry))
    return outputs


def _exact(q: Fraction) -> Scalar:
    return scalars.constant(q.numerator if q.denominator == 1 else q)


def _universal(statement: Statement) -> bool:
    return all(v.quantifier == "forall" for v in statement.variables)


def _captures(statement: Statement) -> bool:
    return any(forgettable(value) for value in program_of(statement)[1])


class _Added:
    """Variables that stand for what is forgotten, of names that nothing else has."""

    def __init__(self, context: Context, taken: set[str]) -> None:
        self.context, self.taken = context, taken
        self.shapes: dict[str, tuple[Dim, ...]] = {}

    def tensor(self, stem: str, shape: Sequence[Dim]) -> Tensor:
        name = kernel.unused(stem, self.taken)
        self.taken.add(name)
        self.shapes[name] = tuple(shape)
        return variable(self.context, name, shape)

    def used(self, goal: Node) -> dict[str, tuple[Dim, ...]]:
        """Names and shapes of those that a goal speaks of."""
        return {name: shape for name, shape in self.shapes.items() if "$" + name in goal.free}


def _claimed(context: Context, program: Program, outputs: Sequence[Any]) -> Scalar:
    """That every entry of every output is true."""
    ways, parts = loops(context)["and"], []
    for var, output in zip(program.outputs, outputs, strict=True):
        tensor = output if isinstance(output, Tensor) else array(context, output)
        step = Step(context, Equation(None, (), (var,), {}))  # type: ignore[arg-type]
        parts.append(everywhere(step, tensor, ways))
    return ways[1](parts)


def everywhere(step: Step, tensor: Tensor, ways: Any) -> Scalar:
    """A boolean tensor's conjunction over all its axes."""

    def inner(place: tuple[Index, ...]) -> Scalar:
        if len(place) == len(tensor.axes):
            return tensor.at(*place)
        k = len(place)
        return step.loop(tensor.axes[k], ("all", k), lambda i: inner((*place, i)), *ways)

    return inner(())


def kernel_names(statement: Statement) -> dict[str, str]:
    """A name of the kernel (ASCII letters, digits, underscores) for each variable, its own if that is one."""
    taken = {v.name for v in statement.variables} | set(statement.sizes)
    names = {}
    for v in statement.variables:
        fits = re.fullmatch("[A-Za-z][A-Za-z0-9_]{0,63}", v.name, re.ASCII) and v.name not in statement.sizes
        names[v.name] = v.name if fits else kernel.unused("v", taken)
        taken.add(names[v.name])
    return names


def _quantified(statement: Statement, inputs: Sequence[Tensor], goal: Node,
                needed: tuple[Node, ...], added: Mapping[str, Any]) -> Theorem:  # fmt: skip
    """The theorem: leading ∀ variables are free, the rest is bound in the goal."""
    free, hypotheses, names = [], [], kernel_names(statement)
    bound = [v.quantifier == "exists" for v in statement.variables]
    first = bound.index(True) if True in bound else len(bound)
    extents = [tuple(scalars.index(affine(d)) for d in x.shape) for x in inputs]
    for k in reversed(range(first, len(bound))):
        v = statement.variables[k]
        region = scalars.conj(region_of(v, inputs[k]))
        if bound[k]:
            goal = kernel.exists(names[v.name], extents[k], scalars.conj([region, goal]))
        else:
            goal = kernel.forall(names[v.name], extents[k], scalars.implication(region, goal))
    for k in range(first):
        free.append((names[statement.variables[k].name], extents[k]))
        hypotheses.extend(region_of(statement.variables[k], inputs[k]))
    free += [(name, tuple(scalars.index(affine(d)) for d in shape)) for name, shape in added.items()]
    needed = needed if first == len(bound) else ()
    renamed = tuple((a, b) for a, b in names.items() if a != b)
    return Theorem(statement.text, statement.sizes, tuple(free), tuple(hypotheses), goal, needed, tuple(added), renamed)


def region_of(v: Variable, x: Tensor) -> list[Node]:
    """Where a variable lives, as formulas about its tensor."""
    context, within = x.context, v.within
    step = Step(context, Equation(None, (), (), {}))  # type: ignore[arg-type]
    ways = loops(context)
    if isinstance(within, Range):
        conditions = []
        for end, opened, flip in ((within.lo, within.lo_open, False), (within.hi, within.hi_open, True)):
            if end is not None:
                conditions.append(("lt" if opened else "le", _exact(end), flip))

        def bounds(*place: Index) -> list[Node]:
            at = x.at(*place)
            ordered = [(name, at, end) if flip else (name, end, at) for name, end, flip in conditions]
            return [scalars.compare(*each, context.ranges).value for each in ordered]

        def one(k: int) -> Node:
            held = Tensor(context, x.axes, "bool", lambda *place: Scalar(bounds(*place)[k]))
            return everywhere(Step(context, step.equation), held, ways["and"]).value

        return [one(k) for k in range(len(conditions))]
    return _ball(within, x, ways)


def _ball(ball: Ball, x: Tensor, ways: Any) -> list[Node]:
    """The entries of a ball around a centre, in the norm of order 1, 2 or inf."""
    context = x.context
    center = np.asarray(ball.center)
    if center.ndim and center.shape != tuple(int(d) if isinstance(d, int) else -1 for d in x.shape):
        raise SpecError("The centre of the ball has another shape than its variable.", got=f"{center.shape}")
    middle = array(context, center)
    away = lambda *place: scalars.sub(x.at(*place), middle.at(*(place if center.ndim else ())))
    comparison, radius = ("lt" if ball.open else "le"), ball.radius
    compare = lambda a, limit: scalars.compare(comparison, a, _exact(Fraction(limit)), context.ranges)
    step = Step(context, Equation(None, (), (), {}))  # type: ignore[arg-type]
    if ball.order == "inf":
        held = [Tensor(context, x.axes, "bool", lambda *place, s=s: compare(
            away(*place) if s > 0 else scalars.neg(away(*place)), radius)) for s in (1, -1)]  # fmt: skip
        return [everywhere(Step(context, step.equation), h, ways["and"]).value for h in held]
    size = scalars.absolute if ball.order == 1 else lambda a: scalars.power(a, 2)
    measured = Tensor(context, x.axes, "real", lambda *place: size(away(*place)))
    total = everywhere(step, measured, ways["sum"])
    return [compare(total, radius if ball.order == 1 else radius * radius).value]
