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
from axiom_jax.verification.domains.curves import fuse, relax_curve
from axiom_jax.verification.domains.interval import SHAPE_ONLY, Interval, interval
from axiom_jax.verification.gating import ORDERS, gate_operands
from axiom_jax.verification.lowering import lower, prepare, relu_operand
from axiom_jax.verification.proof import ir
from axiom_jax.verification.relax import Lines, gate_lines, relaxation

LINEAR = {*SHAPE_ONLY, "add", "sub", "neg", "add_any", "reduce_sum", "cumsum", "reduce_window_sum"}
BILINEAR = {"mul", "dot_general", "conv_general_dilated"}
FIRST_OPERAND = {"div", "gather", "dynamic_slice"}  # linear in their first operand
ROUNDING = 2e-6  # relative to the terms of a bound; left out where bounds are those of the checker, which rounds itself
ROWS = 512  # rows of one backward pass; more are taken in turns, so that memory stays bounded


def is_linear(program: Program, eqn: Equation) -> bool:
    """Whether an equation is affine in its varying operands."""
    varies = [v in program.varying for v in eqn.inputs]
    return (
        eqn.name in LINEAR
        or (eqn.name in BILINEAR and sum(varies) == 1)
        or (eqn.name in FIRST_OPERAND and not any(varies[1:]))
        or (eqn.name == "select_n" and not varies[0])
    )


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

    @property
    def varying(self) -> tuple[Equation, ...]:
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

    Functions of one variable are taken whole, unless the bounds shall be those of the certificate checker.

    Raises:
        UnsupportedPrimitive: listing all that cannot.
    """
    lowered = lower(program)
    if refine_stable or ir.gaps(lowered):
        lowered = lower(fuse(prepare(program), ALONE))
    planned = Plan(lowered, refine_stable)
    gaps = [eqn for eqn in missing(interval, lowered) if eqn.name != "curve"]
    require(relaxation, lowered, [eqn for eqn in gaps if planned.kind(eqn) == "interval"])
    return planned


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
    state = _State(plan, params, inputs)
    state.bound_intermediate()
    return tuple(state.output(v) for v in plan.program.outputs)


def crown_below(plan: Plan, params: Sequence[Any], *inputs: Interval) -> LinearBound:
    """Lower bounds of the first output, flattened, with their linear functions of the inputs."""
    state = _State(plan, params, inputs)
    state.bound_intermediate()
    output = plan.program.outputs[0]
    rows = jnp.eye(output.size, dtype=jnp.float32).reshape(output.size, *output.shape)
    return state.backward({output: rows}, len(plan.varying))


class _State:
    """What one bounding run knows: parameters, constants, and bounds of the values in front of nonlinear equations."""

    def __init__(self, plan: Plan, params: Sequence[Any], inputs: Sequence[Interval]):
        self.plan, self.program = plan, plan.program
        self.boxes: dict[Var, Interval] = dict(zip(self.program.inputs, inputs, strict=True))
        self.refined: set[Var] = set(self.program.inputs)
        self.lines: dict[int, Lines | _Planes | None] = {}
        self.known = self.program.environment(params)
        for eqn in self.program.equations:
            if self.program.varying.isdisjoint(eqn.inputs):
                self.known.update(zip(eqn.outputs, eqn.evaluate(*(self.known[v] for v in eqn.inputs)), strict=True))

    def bound_intermediate(self) -> None:
        """Bound every value by intervals on the way, and what enters a nonlinear equation by backward passes too."""
        for position, eqn in enumerate(self.plan.varying):
            kind = self.plan.kind(eqn)
            for v in self.plan.tightened(eqn):
                if v not in self.refined:
                    self.refined.add(v)
                    keep_stable = eqn.name in ("max", "gt") and not self.plan.refine_stable
                    self.boxes[v] = _refined(self.boxes[v], self.bounds(v, position), keep_stable)
            if kind == "curve":
                box = self.boxes[eqn.inputs[0]]
                known = [self.known[v] for v in eqn.inputs[1:]]
                self.lines[position], self.boxes[eqn.output] = relax_curve(eqn.params["body"], known, box.lo, box.hi)
                continue
            operands = [self.boxes.get(v, self.known.get(v)) for v in eqn.inputs]
            results = interval.rules[eqn.name](*operands, **eqn.params)
            results = results if eqn.primitive.multiple_results else (results,)
            self.boxes.update(zip(eqn.outputs, results, strict=True))
            if kind != "linear" and kind != "decides":
                self.lines[position] = self.relaxed(kind, eqn)

    def output(self, v: Var) -> Interval:
        """The better of both bounds for each number; intervals alone for booleans and integers."""
        if v in self.boxes and v.dtype != np.float32:
            return self.boxes[v]
        found = self.bounds(v, len(self.plan.varying))
        return _refined(self.boxes[v], found, False) if v in self.boxes else found

    def relaxed(self, kind: str, eqn: Equation) -> "Lines | _Planes | None":
        """What replaces a nonlinear equation in backward passes; None where its interval does."""
        match kind:
            case "lines":
                box = self.boxes[self.plan.operand(eqn)]
                return relaxation.rules[eqn.name](box.lo, box.hi, **eqn.params)
            case "gate" if eqn.inputs[2] in self.boxes:
                decided, box = self.boxes[eqn.inputs[0]], self.boxes[eqn.inputs[2]]
                return gate_lines(decided.lo, decided.hi, box.lo, box.hi)
            case "product":
                x, y = (self.boxes[v] for v in eqn.inputs)
                return _planes(eqn, x, y)
        return None

    def bounds(self, v: Var, upto: int) -> Interval:
        """Both bounds of a value by backward passes over the equations before `upto`."""
        if v not in self.program.varying:
            return Interval(self.known[v], self.known[v])

        def both(rows: Any) -> tuple[Any, Any]:
            n = rows.shape[0]
            below = self.backward({v: jnp.concatenate([rows, -rows]).reshape(2 * n, *v.shape)}, upto).value
            return below[:n], -below[n:]

        if v.size <= ROWS:
            lo, hi = both(jnp.eye(v.size, dtype=v.dtype))
        else:
            count = -(-v.size // ROWS)
            chunks = jnp.arange(count * ROWS).reshape(count, ROWS)
            lo, hi = jax.lax.map(lambda ids: both(jax.nn.one_hot(ids, v.size, dtype=v.dtype)), chunks)
            lo, hi = lo.reshape(-1)[: v.size], hi.reshape(-1)[: v.size]
        return Interval(lo.reshape(v.shape), hi.reshape(v.shape))

    def backward(self, rows: dict[Var, Any], upto: int) -> LinearBound:
        """Lower bounds of the sum of rows · values over the box."""
        n = next(iter(rows.values())).shape[0]
        value, size = jnp.zeros(n, jnp.float32), jnp.zeros(n, jnp.float32)
        for position in reversed(range(upto)):
            eqn = self.plan.varying[position]
            if rows.keys().isdisjoint(eqn.outputs):
                continue
            out = [rows.pop(v, None) for v in eqn.outputs]
            if position in self.lines:
                parts, constant, scale = self.through(eqn, self.lines[position], out)
            else:
                parts, constant, scale = self.through_linear(eqn, out)
            value, size = value + constant, size + scale
            for v, part in parts:
                rows[v] = rows[v] + part if v in rows else part
        coefficients = []
        for v in self.program.inputs:
            A = rows.get(v)
            A = jnp.zeros((n, *v.shape)) if A is None else A
            box, flat = self.boxes[v], A.reshape(n, -1)
            middle, radius = ((box.lo + box.hi) / 2).ravel(), ((box.hi - box.lo) / 2).ravel()
            value = value + _dot(flat, middle) - _dot(jnp.abs(flat), radius)
            size = size + _dot(jnp.abs(flat), jnp.abs(middle) + radius)
            coefficients.append(A)
        if self.plan.refine_stable:
            value = value - ROUNDING * size
        return LinearBound(jnp.where(jnp.isnan(value), -jnp.inf, value), tuple(coefficients))

    def through(self, eqn: Equation, relaxed: "Lines | _Planes | None", rows: list[Any]) -> tuple[Any, Any, Any]:
        """Rows of a nonlinear equation's results as rows of its operands, a constant, and the size of its terms."""
        if isinstance(relaxed, Lines):
            return self.through_lines(self.plan.operand(eqn), relaxed, rows[0])
        if relaxed is not None:
            return self.through_planes(eqn, relaxed, rows[0])
        constant = scale = jnp.zeros(1)
        for v, A in zip(eqn.outputs, rows, strict=True):
            if A is not None:
                box = self.boxes[v]
                least = jnp.where(A == 0, 0, A * jnp.where(A > 0, box.lo, box.hi))
                constant = constant + least.reshape(A.shape[0], -1).sum(1)
                scale = scale + jnp.abs(least).reshape(A.shape[0], -1).sum(1)
        return [], constant, scale

    def through_lines(self, v: Var, lines: Lines, A: Any) -> tuple[list[tuple[Var, Any]], Any, Any]:
        positive, negative = jnp.maximum(A, 0), jnp.minimum(A, 0)
        constant = positive * lines.below_at_0 + negative * lines.above_at_0
        constant = constant.reshape(A.shape[0], -1)
        return [(v, positive * lines.below + negative * lines.above)], constant.sum(1), jnp.abs(constant).sum(1)

    def through_planes(self, eqn: Equation, planes: "_Planes", A: Any) -> tuple[list[tuple[Var, Any]], Any, Any]:
        n, (x, y) = A.shape[0], eqn.inputs
        by_x = jax.linear_transpose(lambda v: eqn.evaluate(v, planes.y)[0], planes.x)
        by_y = jax.linear_transpose(lambda v: eqn.evaluate(planes.x, v)[0], planes.y)
        parts = [(x, jax.vmap(lambda r: by_x(r)[0])(A)), (y, jax.vmap(lambda r: by_y(r)[0])(A))]
        flat = A.reshape(n, -1)
        constant = -_dot(flat, planes.centre.ravel()) - _dot(jnp.abs(flat), planes.spread.ravel())
        return parts, constant, _dot(jnp.abs(flat), (jnp.abs(planes.centre) + planes.spread).ravel())

    def through_linear(self, eqn: Equation, rows: list[Any]) -> tuple[list[tuple[Var, Any]], Any, Any]:
        n = next(A.shape[0] for A in rows if A is not None)
        rows = [jnp.zeros((n, *v.shape), v.dtype) if A is None else A for v, A in zip(eqn.outputs, rows, strict=True)]
        operands = list(dict.fromkeys(v for v in eqn.inputs if v in self.program.varying))

        def f(*xs: Any) -> tuple[Any, ...]:
            given = dict(zip(operands, xs, strict=True))
            return eqn.evaluate(*(given[v] if v in given else self.known[v] for v in eqn.inputs))

        zeros = [jnp.zeros(v.shape, v.dtype) for v in operands]
        constant: Any = 0.0
        scale: Any = 0.0
        if any(v not in self.program.varying for v in eqn.inputs) and eqn.name not in BILINEAR | FIRST_OPERAND:
            offset = f(*zeros)
            pairs = [(A.reshape(n, -1), o.ravel()) for A, o in zip(rows, offset, strict=True)]
            constant = sum(_dot(A, o) for A, o in pairs)
            scale = sum(_dot(jnp.abs(A), jnp.abs(o)) for A, o in pairs)
            g = lambda *xs: tuple(a - b for a, b in zip(f(*xs), offset, strict=True))
        else:
            g = f
        transposed = jax.linear_transpose(g, *zeros)
        return list(zip(operands, jax.vmap(lambda *r: transposed(r))(*rows), strict=True)), constant, scale


@dataclass(frozen=True)
class _Planes:
    """|x·y − (x̂·y + x·ŷ − centre)| ≤ spread for all x, y of their boxes, with x̂ and ŷ their middles.

    The mean of the two McCormick planes below is this plane less the spread, that of those above this plus the spread.
    """

    x: Any
    y: Any
    centre: Any
    spread: Any


def _planes(eqn: Equation, x: Interval, y: Interval) -> _Planes:
    (xm, xr), (ym, yr) = ((v.lo / 2 + v.hi / 2, v.hi / 2 - v.lo / 2) for v in (x, y))
    return _Planes(xm, ym, eqn.evaluate(xm, ym)[0], eqn.evaluate(xr, yr)[0])


def _refined(a: Interval, b: Interval, keep_stable: bool) -> Interval:
    """The intersection; `a` where it is empty by rounding, where `b` is NaN, or where its sign is settled and kept."""
    lo, hi = jnp.fmax(a.lo, b.lo), jnp.fmin(a.hi, b.hi)
    keep = lo > hi
    if keep_stable:
        keep |= (a.lo >= 0) | (a.hi <= 0)
    return Interval(jnp.where(keep, a.lo, lo), jnp.where(keep, a.hi, hi))


def _dot(a: Any, b: Any) -> Any:
    return jnp.matmul(a, b, precision="highest")


@partial(jax.jit, static_argnums=0)
def crown_boxes(plan: Plan, params: Sequence[Any], *inputs: Interval) -> tuple[Interval, ...]:
    """`crown` over a batch: every interval has a leading axis of boxes."""
    return jax.vmap(lambda *boxes: crown(plan, params, *boxes))(*inputs)


def size_of_rows(plan: Plan) -> int:
    """Floats that one box needs at once: rows of the widest backward pass times the widest value."""
    widest = max((int(np.prod(v.shape)) for e in plan.varying for v in e.outputs), default=1)
    return 2 * min(widest, ROWS) * widest
