"""Backward linear bounds (CROWN) for any program, batched over boxes and jitted.

A linear primitive passes the rows of a bound backwards by its own transpose, which JAX
knows; a nonlinear one passes them along the two lines of its relaxation, a product of two
variables along planes; what has neither ends them at its interval. Bounds are float32 rounded
to nearest: a search for proofs, not a proof.
Source: Zhang et al. 2018, CROWN, arXiv 1811.00866; Xu et al. 2020, auto_LiRPA, arXiv 2002.12920;
Shi et al. 2020, Robustness verification for transformers, arXiv 2002.06622 (products).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from axiom_jax._domain import missing, require
from axiom_jax._program import Equation, Program, Var
from axiom_jax.verification.domains._linear_passing import BILINEAR as BILINEAR
from axiom_jax.verification.domains._linear_passing import FIRST_OPERAND as FIRST_OPERAND
from axiom_jax.verification.domains._linear_passing import LINEAR as LINEAR
from axiom_jax.verification.domains._linear_passing import is_linear as is_linear
from axiom_jax.verification.domains._linear_passing import (
    least_over,
    planes,
    through_interval,
    through_linear,
    through_lines,
    through_planes,
)
from axiom_jax.verification.domains.curves import fuse, relax_curve
from axiom_jax.verification.domains.interval import Interval, interval
from axiom_jax.verification.gating import ORDERS, gate_operands
from axiom_jax.verification.lowering import lower, prepare, relu_operand
from axiom_jax.verification.proof import ir
from axiom_jax.verification.relax import Lines, gate_lines, relaxation
from axiom_jax.verification.relax.products import correlated, goes_together
from axiom_jax.verification.shifting import differences

ROUNDING = 2e-6  # relative to the terms of a bound; left out where bounds are those of the checker, which rounds itself
CHECKABLE = 128  # differences in softmax at most where bounds are those of the checker
ROWS = 512  # rows of one backward pass; more are taken in turns, so that memory stays bounded


@dataclass(frozen=True)
class Plan:
    """A lowered program, ready for backward passes; hashable, so a static argument of jitted functions.

    Args:
        program: lowered.
        refine_stable: tighten neurons by backward passes even where intervals settle their sign; without
            it bounds are those of the certificate checker, which spares itself that work.
    """

    program: Program
    refine_stable: bool = True

    @cached_property
    def varying(self) -> tuple[Equation, ...]:
        """The equations on varying operands."""
        return tuple(e for e in self.program.equations if not self.program.varying.isdisjoint(e.inputs))

    def kind(self, eqn: Equation) -> str:
        """How an equation on varying operands is bounded: "linear", "lines", "curve", "gate", "decides", "product",
        or "interval" where only that is known."""
        if is_linear(self.program, eqn):
            return "linear"
        floats = all(v.dtype == np.float32 for v in (*eqn.inputs, *eqn.outputs))
        if eqn.name == "curve":
            return "curve"
        if gate_operands(self.program, eqn) is not None:
            return "gate"
        if eqn.name in ORDERS and eqn.inputs[0].dtype == np.float32:
            return "decides"
        if eqn.name in BILINEAR and floats and eqn.params.get("batch_group_count", 1) == 1:
            return "product"
        if floats and eqn.name in relaxation.rules and sum(v in self.program.varying for v in eqn.inputs) == 1:
            simple = {"max": relu_operand(self.program, eqn) is not None, "integer_pow": eqn.params.get("y") in (2, -1)}
            return "lines" if simple.get(eqn.name, True) else "interval"
        return "interval"

    @cached_property
    def sites(self) -> tuple[Var, ...]:
        """The values that enter nonlinear equations and are worth bounding, in the order of the program."""
        return tuple(dict.fromkeys(v for eqn in self.varying for v in self.tightened(eqn)))

    def operand(self, eqn: Equation) -> Var:
        """The varying operand that the rows of a nonlinear equation go to."""
        if eqn.name == "max":
            found = relu_operand(self.program, eqn)
            assert found is not None
            return found
        return eqn.inputs[2] if eqn.name == "select_n" else eqn.inputs[0]

    def tightened(self, eqn: Equation) -> tuple[Var, ...]:
        """The varying operands of a nonlinear equation whose bounds are worth backward passes."""
        match self.kind(eqn):
            case "lines" | "curve":
                return (self.operand(eqn),)
            case "gate":
                return tuple(v for v in (self.operand(eqn),) if v in self.program.varying)
            case "decides" | "product":
                return tuple(v for v in dict.fromkeys(eqn.inputs) if v in self.program.varying)
        return ()


ALONE = {*relaxation.rules, "max", "min", "clamp", "abs", "sign", "mul", "square"}  # not worth a curve by themselves


def plan(program: Program, refine_stable: bool = True) -> Plan:
    """Lower a program and check that every operation can be bounded.

    Functions of one variable are taken whole and softmax by pairs, which is tightest, unless the bounds shall be those
    of the certificate checker and it can be expected to get through the softmax.

    Raises:
        UnsupportedPrimitive: listing all that cannot.
    """
    lowered = lower(program)
    if refine_stable or ir.gaps(lowered) or differences(program) > CHECKABLE:
        lowered = lower(fuse(prepare(program, by_pairs=True), ALONE))
    planned = Plan(lowered, refine_stable)
    gaps = [eqn for eqn in missing(interval, lowered) if eqn.name != "curve"]
    require(relaxation, lowered, [eqn for eqn in gaps if planned.kind(eqn) == "interval"])
    return planned


def plan_of_checker(program: Program) -> Plan | None:
    """A program as the certificate checker bounds it, without what only searches bound; None if it cannot."""
    lowered = lower(program)
    return None if ir.gaps(lowered) else Plan(lowered, refine_stable=False)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class LinearBound:
    """Lower bounds of some rows over a box, and the linear functions of the inputs that give them.

    Args:
        value: (rows,) lower bounds.
        rows: for each input, (rows, *input shape) coefficients.
    """

    value: Any
    rows: tuple[Any, ...]


def crown(plan: Plan, params: Sequence[Any], *inputs: Interval) -> tuple[Interval, ...]:
    """Bounds of every output of a program over one box; `jax.vmap` it for many.

    Args:
        plan: from `plan(program)`.
        params: the values of the program's parameters.
        *inputs: an interval an input.

    Returns:
        An interval for each output, of its shape.

    >>> from axiom_jax._program import build
    >>> program, params = build(lambda w, x: jax.nn.relu(w @ x), jnp.array([[1.0, -1.0]]), jnp.zeros(2))
    >>> box, = crown(plan(program), params, Interval(-jnp.ones(2), jnp.ones(2)))
    >>> float(box.lo[0]), float(box.hi[0])
    (0.0, 2.0)
    """
    known = environment(plan, params)
    boxes, lines = enclose(plan, known, dict(zip(plan.program.inputs, inputs, strict=True)))

    def output(v: Var) -> Interval:
        """The better of both bounds for each number; intervals alone for booleans and integers."""
        if v in boxes and v.dtype != np.float32:
            return boxes[v]
        found = both_bounds(plan, known, boxes, lines, v, len(plan.varying))
        return refined(boxes[v], found, False) if v in boxes else found

    return tuple(output(v) for v in plan.program.outputs)


def crown_below(plan: Plan, params: Sequence[Any], *inputs: Interval) -> LinearBound:
    """Lower bounds of the first output, flattened, with their linear functions of the inputs."""
    known = environment(plan, params)
    boxes, lines = enclose(plan, known, dict(zip(plan.program.inputs, inputs, strict=True)))
    output = plan.program.outputs[0]
    rows = jnp.eye(output.size, dtype=jnp.float32).reshape(output.size, *output.shape)
    return backward(plan, known, boxes, lines, {output: rows}, len(plan.varying))


def environment(plan: Plan, params: Sequence[Any]) -> dict[Var, Any]:
    """The values of everything that does not depend on the inputs: parameters, literals, what is made of them."""
    known = plan.program.environment(params)
    for eqn in plan.program.equations:
        if plan.program.varying.isdisjoint(eqn.inputs):
            known.update(zip(eqn.outputs, eqn.evaluate(*(known[v] for v in eqn.inputs)), strict=True))
    return known


def enclose(
    plan: Plan, known: dict[Var, Any], boxes: dict[Var, Interval], tighten: bool = True
) -> tuple[dict[Var, Interval], dict[int, Any]]:
    """Bounds of every value over one box of the inputs, and the lines of every nonlinear equation.

    Values are bounded by intervals on the way. What enters a nonlinear equation and is not among `boxes` is
    bounded by backward passes too; where `boxes` has it, the given bounds are kept where they are tighter.

    Args:
        known: from `environment`.
        boxes: intervals of the inputs, and of any other varying values that are bounded already.
        tighten: without it, intervals alone bound what is not given.

    Returns:
        An interval for each varying value, and by position in `plan.varying` what replaces each nonlinear equation
        in backward passes (None where its interval does).
    """
    given, boxes = boxes, {v: boxes[v] for v in plan.program.inputs}
    done, lines = set(given), {}
    for position, eqn in enumerate(plan.varying):
        for v in plan.tightened(eqn) if tighten else ():
            if v not in done:
                done.add(v)
                keep_stable = eqn.name in ("max", "gt") and not plan.refine_stable
                boxes[v] = refined(boxes[v], both_bounds(plan, known, boxes, lines, v, position), keep_stable)
        kind = plan.kind(eqn)
        found, replaced = propagate(plan, kind, eqn, known, boxes)
        if tighten and kind == "product" and goes_together(eqn):
            least = lambda rows, position=position: backward(plan, known, boxes, lines, rows, position).value
            replaced = correlated(eqn, replaced, least)
        for v, box in zip(eqn.outputs, found, strict=True):
            boxes[v] = refined(box, given[v], False) if v in given else box
        if kind not in ("linear", "decides"):
            lines[position] = replaced
    return boxes, lines


def propagate(
    plan: Plan, kind: str, eqn: Equation, known: dict[Var, Any], boxes: dict[Var, Interval]
) -> tuple[tuple[Interval, ...], Any]:
    """Interval bounds of the results of an equation of some kind, and its `Lines`, planes of a product, or None."""
    if kind == "curve":
        box = boxes[eqn.inputs[0]]
        lines, result = relax_curve(eqn.params["body"], [known[v] for v in eqn.inputs[1:]], box.lo, box.hi)
        return (result,), lines
    results = interval.rules[eqn.name](*(boxes.get(v, known.get(v)) for v in eqn.inputs), **eqn.params)
    results = tuple(results) if eqn.primitive.multiple_results else (results,)
    return results, _lines(plan, kind, eqn, boxes)


def _lines(plan: Plan, kind: str, eqn: Equation, boxes: dict[Var, Interval]) -> Any:
    match kind:
        case "lines":
            box = boxes[plan.operand(eqn)]
            return relaxation.rules[eqn.name](box.lo, box.hi, **eqn.params)
        case "gate" if eqn.inputs[2] in boxes:
            decided, box = boxes[eqn.inputs[0]], boxes[eqn.inputs[2]]
            return gate_lines(decided.lo, decided.hi, box.lo, box.hi)
        case "product":
            return planes(eqn, *(boxes[v] for v in eqn.inputs))
    return None


def relaxed(plan: Plan, known: dict[Var, Any], boxes: dict[Var, Interval]) -> dict[int, Any]:
    """What replaces each nonlinear equation in backward passes, by its position in `plan.varying`.

    Args:
        known: from `environment`.
        boxes: intervals of the inputs and of sites; what is missing is bounded by intervals.

    >>> from axiom_jax._program import build
    >>> planned = plan(build(lambda w, x: jax.nn.relu(w * x), jnp.ones(2), jnp.zeros(2))[0])
    >>> box = Interval(-jnp.ones(2), jnp.ones(2))
    >>> {at: float(lines.above[0]) for at, lines in relaxed(planned, environment(planned, [jnp.ones(2)]),
    ...                                                     {planned.program.inputs[0]: box}).items()}
    {1: 0.5}
    """
    return enclose(plan, known, boxes, tighten=False)[1]


def both_bounds(
    plan: Plan, known: dict[Var, Any], boxes: dict[Var, Interval], lines: dict[int, Any], v: Var, upto: int
) -> Interval:
    """Both bounds of a value by backward passes over the equations before `upto`."""
    if v not in plan.program.varying:
        return Interval(known[v], known[v])

    def both(rows: Any) -> tuple[Any, Any]:
        n = rows.shape[0]
        start = {v: jnp.concatenate([rows, -rows]).reshape(2 * n, *v.shape)}
        below = backward(plan, known, boxes, lines, start, upto).value
        return below[:n], -below[n:]

    if v.size <= ROWS:
        lo, hi = both(jnp.eye(v.size, dtype=v.dtype))
    else:
        count = -(-v.size // ROWS)
        chunks = jnp.arange(count * ROWS).reshape(count, ROWS)
        lo, hi = jax.lax.map(lambda ids: both(jax.nn.one_hot(ids, v.size, dtype=v.dtype)), chunks)
        lo, hi = lo.reshape(-1)[: v.size], hi.reshape(-1)[: v.size]
    return Interval(lo.reshape(v.shape), hi.reshape(v.shape))


def backward(
    plan: Plan,
    known: dict[Var, Any],
    boxes: dict[Var, Interval],
    lines: dict[int, Any],
    start: dict[Var, Any],
    upto: int,
    extra: dict[Var, Any] | None = None,
) -> LinearBound:
    """Lower bounds over one box of the sum of rows times values; to be vmapped, jitted or differentiated.

    Args:
        known: from `environment`.
        boxes: intervals of the inputs, and of the results of equations whose `lines` are None.
        lines: from `relaxed`, by position in `plan.varying`. `Lines` are of the shape of the value, or have a
            leading axis of rows: then every row has slopes of its own.
        start: for some values, (rows, *shape) coefficients; any value of the program may be among them.
        upto: how many equations of `plan.varying` are passed; 0 ... len(plan.varying).
        extra: for some values, (rows, *shape) coefficients that are added to theirs: the multipliers of constraints
            on these values (β-CROWN, Wang et al. 2021, arXiv 2103.06624), whose constants the caller adds.

    >>> from axiom_jax._program import build
    >>> planned = plan(build(lambda w, x: jax.nn.relu(w * x), jnp.ones(2), jnp.zeros(2))[0])
    >>> known, x = environment(planned, [jnp.ones(2)]), planned.program.inputs[0]
    >>> boxes = {x: Interval(-jnp.ones(2), jnp.ones(2))}
    >>> start = {planned.program.outputs[0]: -jnp.eye(2)}
    >>> found = backward(planned, known, boxes, relaxed(planned, known, boxes), start, 2)
    >>> [round(float(b), 3) for b in found.value], found.rows[0].shape
    ([-1.0, -1.0], (2, 2))
    """
    rows = dict(start)
    for v, part in (extra or {}).items():
        rows[v] = rows[v] + part if v in rows else part
    n = next(iter(rows.values())).shape[0]
    rows, value, size = descend(plan, known, boxes, lines, rows, upto)
    coefficients = []
    for v in plan.program.inputs:
        A = rows.get(v)
        A = jnp.zeros((n, *v.shape)) if A is None else A
        least, scale = least_over(boxes[v], A)
        value, size = value + least, size + scale
        coefficients.append(A)
    if plan.refine_stable:
        value = value - ROUNDING * size
    return LinearBound(jnp.where(jnp.isnan(value), -jnp.inf, value), tuple(coefficients))


def descend(
    plan: Plan,
    known: dict[Var, Any],
    boxes: dict[Var, Interval],
    lines: dict[int, Any],
    rows: dict[Var, Any],
    upto: int,
) -> tuple[dict[Var, Any], Any, Any]:
    """Rows of values as rows of the inputs, a constant (rows,), and the size of the terms that were summed."""
    rows, n = dict(rows), next(iter(rows.values())).shape[0]
    value, size = jnp.zeros(n, jnp.float32), jnp.zeros(n, jnp.float32)
    for position in reversed(range(upto)):
        eqn = plan.varying[position]
        if rows.keys().isdisjoint(eqn.outputs):
            continue
        out = [rows.pop(v, None) for v in eqn.outputs]
        if position not in lines:
            parts, constant, scale = through_linear(plan.program, eqn, known, out)
        elif isinstance(lines[position], Lines):
            part, constant, scale = through_lines(lines[position], out[0])
            parts = [(plan.operand(eqn), part)]
        elif lines[position] is not None:
            parts, constant, scale = through_planes(eqn, lines[position], out[0])
        else:
            parts, (constant, scale) = [], through_interval([boxes[v] for v in eqn.outputs], out)
        value, size = value + constant, size + scale
        for v, part in parts:
            rows[v] = rows[v] + part if v in rows else part
    return rows, value, size


def refined(a: Interval, b: Interval, keep_stable: bool) -> Interval:
    """The intersection; `a` where it is empty by rounding, where `b` is NaN, or where its sign is settled and kept."""
    lo, hi = jnp.fmax(a.lo, b.lo), jnp.fmin(a.hi, b.hi)
    keep = lo > hi
    if keep_stable:
        keep |= (a.lo >= 0) | (a.hi <= 0)
    return Interval(jnp.where(keep, a.lo, lo), jnp.where(keep, a.hi, hi))


@partial(jax.jit, static_argnums=0)
def crown_boxes(plan: Plan, params: Sequence[Any], *inputs: Interval) -> tuple[Interval, ...]:
    """`crown` over a batch: every interval has a leading axis of boxes."""
    return jax.vmap(lambda *boxes: crown(plan, params, *boxes))(*inputs)


def size_of_rows(plan: Plan) -> int:
    """Floats that one box needs at once: rows of the widest backward pass times the widest value."""
    widest = max((int(np.prod(v.shape)) for e in plan.varying for v in e.outputs), default=1)
    return 2 * min(widest, ROWS) * widest
