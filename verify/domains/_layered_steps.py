"""A plan cut into steps, each compiled once for its shape: equal layers, and nets with such layers, share it.

A step is a run of linear equations or one nonlinear equation, written with variables of its own; weights are
arguments. Rows go down through a step (from its results to its operands), points go up: at the point where a bound is
attained, the value of an operand is the bound's derivative by the slope of the line that was taken.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial, wraps
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from axiom_jax._program import Equation, Program, Var
from axiom_jax.verification.domains._linear_passing import (
    Planes,
    least_over,
    through_interval,
    through_lines,
    through_planes,
)
from axiom_jax.verification.domains.interval import Interval
from axiom_jax.verification.domains.linear import ROUNDING, Plan, descend, propagate
from axiom_jax.verification.relax import Lines
from axiom_jax.verification.relax._lines import adjustable, relaxation_at, relaxation_start

MOMENTS = 0.9, 0.999  # of Adam
QUICK = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
SMALL = 1 << 16  # numbers that go into a step


def compiled(*static: int) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """`jax.jit`; what is small is compiled with little effort, since compiling is then what takes long.

    Args:
        static: positions of static arguments.

    What comes of it is called from Python only: compiler options cannot be nested.
    """

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        thorough = jax.jit(function, static_argnums=static)
        quick = jax.jit(function, static_argnums=static, compiler_options=QUICK)

        @wraps(function)
        def run(*operands: Any) -> Any:
            dynamic = [x for i, x in enumerate(operands) if i not in static]
            size = sum(np.size(leaf) for leaf in jax.tree.leaves(dynamic))
            return (quick if size <= SMALL else thorough)(*operands)

        return run

    return decorate


@dataclass(frozen=True)
class Step:
    """A part of a plan.

    Args:
        piece: its equations, in variables numbered from 0: equal steps have equal pieces.
        kind: "linear", or what `Plan.kind` says of its one equation.
        params, inputs, outputs: the variables of the plan that those of the piece stand for.
        operand: which input the lines speak of.
        tightened: the sites that are to be bounded before this step.
    """

    piece: Program
    kind: str
    params: tuple[Var, ...]
    inputs: tuple[Var, ...]
    outputs: tuple[Var, ...]
    operand: int
    tightened: tuple[Var, ...]

    @property
    def free(self) -> int:
        """How many choices a neuron has for its lines: 1 for a relu, whose upper line is its chord."""
        name = self.piece.equations[0].name
        return 0 if self.kind != "lines" or name not in adjustable else 1 if name == "max" else 2

    @property
    def work(self) -> int:
        """Multiplications that one row needs."""
        return sum(_work(eqn) for eqn in self.piece.equations)


@lru_cache(maxsize=64)
def cut(plan: Plan) -> tuple[Step, ...]:
    """The steps of a plan, in order."""
    runs: list[tuple[str, list[Equation]]] = []
    for eqn in plan.varying:
        kind = plan.kind(eqn)
        if kind == "linear" and runs and runs[-1][0] == "linear":
            runs[-1][1].append(eqn)
        else:
            runs.append((kind, [eqn]))
    used_later, steps = set(plan.program.outputs), []
    for kind, eqns in reversed(runs):
        made = [v for eqn in eqns for v in eqn.outputs]
        outputs = tuple(v for v in made if v in used_later)
        used_later.update(v for eqn in eqns for v in eqn.inputs)
        if not outputs:
            continue
        piece, params, inputs = _piece(plan.program, eqns, outputs)
        tightened = tuple(dict.fromkeys(v for eqn in eqns for v in plan.tightened(eqn)))
        operand = inputs.index(plan.operand(eqns[0])) if kind in ("lines", "curve", "gate") and (
            plan.operand(eqns[0]) in inputs) else -1  # fmt: skip
        steps.append(Step(piece, kind, params, inputs, outputs, operand, tightened))
    return tuple(reversed(steps))


def _piece(program: Program, eqns: Sequence[Equation], outputs: Iterable[Var]) -> tuple[Program, Any, Any]:
    """Equations as a program of their own: what it takes from outside is a parameter where known, else an input."""
    literals, new = dict(program.literals), {}
    params, inputs, own = [], [], []

    def renamed(v: Var) -> Var:
        if v not in new:
            new[v] = Var(len(new), v.shape, v.dtype)
            if v in literals:
                own.append((new[v], literals[v]))
            elif v not in made:
                (inputs if v in program.varying else params).append(v)
        return new[v]

    made = {v for eqn in eqns for v in eqn.outputs}
    written = []
    for eqn in eqns:
        given = dict(eqn.params)
        if isinstance(body := given.get("body"), Program):
            given["body"] = _renumbered(body)
        operands = tuple(renamed(v) for v in eqn.inputs)
        written.append(Equation(eqn.primitive, operands, tuple(renamed(v) for v in eqn.outputs), given, eqn.at))
    of = lambda vs: tuple(new[v] for v in vs)
    return Program(of(params), of(inputs), tuple(own), tuple(written), of(outputs)), tuple(params), tuple(inputs)


@lru_cache(maxsize=256)
def _renumbered(body: Program) -> Program:
    """The same curve, whichever net it stands in."""
    every = [*body.params, *body.inputs, *(v for v, _ in body.literals)]
    every += [v for eqn in body.equations for v in eqn.outputs]
    new = {v: Var(k, v.shape, v.dtype) for k, v in enumerate(every)}
    of = lambda vs: tuple(new[v] for v in vs)
    equations = tuple(Equation(e.primitive, of(e.inputs), of(e.outputs), e.params, e.at) for e in body.equations)
    literals = tuple((new[v], value) for v, value in body.literals)
    return Program(of(body.params), of(body.inputs), literals, equations, of(body.outputs))


def _work(eqn: Equation) -> int:
    size = max(v.size for v in eqn.outputs)
    if eqn.name == "dot_general":
        ((contracted, _), _) = eqn.params["dimension_numbers"]
        return size * int(np.prod([eqn.inputs[0].shape[axis] for axis in contracted]))
    if eqn.name == "conv_general_dilated":
        kernel = eqn.inputs[1]
        return size * kernel.size // kernel.shape[eqn.params["dimension_numbers"].rhs_spec[0]]
    return size


# Forwards: intervals and lines, once a step: compiling is what takes long.


@partial(jax.jit, static_argnums=(0, 1), compiler_options=QUICK)
def forward(piece: Program, kind: str, params: Any, boxes: Sequence[Any]) -> tuple[tuple[Interval, ...], Any]:
    """Intervals of a step's results from those of its inputs, and its lines."""
    plan, lines = Plan(piece), None
    known = piece.environment(params)
    found = dict(zip(piece.inputs, boxes, strict=True))
    for eqn in piece.equations:
        results, lines = propagate(plan, kind, eqn, known, found)
        found.update(zip(eqn.outputs, results, strict=True))
    return tuple(found[v] for v in piece.outputs), lines


# Downwards: rows (n, *shape), with their constants so far and the size of the terms in those (None: not asked for).


@compiled(0)
def linear_down(piece: Program, params: Any, rows: Sequence[Any], value: Any, size: Any) -> tuple[Any, Any, Any]:
    """Rows of each input of a linear step, None where there are none."""
    start = {v: A for v, A in zip(piece.outputs, rows, strict=True) if A is not None}
    found, constant, scale = descend(Plan(piece), piece.environment(params), {}, {}, start, len(piece.equations))
    return tuple(found.get(v) for v in piece.inputs), value + constant, _more(size, scale)


def _more(size: Any, scale: Any) -> Any:
    return None if size is None else size + scale


@compiled()
def lines_down(lines: Lines, A: Any, value: Any, size: Any) -> tuple[Any, Any, Any]:
    part, constant, scale = through_lines(lines, A)
    return part, value + constant, _more(size, scale)


@compiled(0)
def free_down(piece: Program, lo: Any, hi: Any, t: Any, A: Any, value: Any, size: Any) -> tuple[Any, Any, Any]:
    """The same with lines of each row's own choice t (choices, n, *shape)."""
    part, constant, scale = through_lines(_chosen(piece, lo, hi, t), A)
    return part, value + constant, _more(size, scale)


@compiled(0)
def planes_down(piece: Program, planes: Planes, A: Any, value: Any, size: Any) -> tuple[Any, Any, Any]:
    parts, constant, scale = through_planes(piece.equations[0], planes, A)
    rows: dict[Var, Any] = {}
    for v, part in parts:
        rows[v] = rows[v] + part if v in rows else part
    return tuple(rows.get(v) for v in piece.inputs), value + constant, _more(size, scale)


@compiled()
def interval_down(boxes: Any, rows: Any, value: Any, size: Any) -> tuple[Any, Any]:
    constant, scale = through_interval(boxes, rows)
    return value + constant, _more(size, scale)


@compiled()
def at_inputs(boxes: Sequence[Interval], rows: Sequence[Any], value: Any, size: Any) -> tuple[Any, Any]:
    """Lower bounds (n,), and for every input the points (n, *shape) where rows attain them."""
    corners = []
    for box, A in zip(boxes, rows, strict=True):
        least, scale = least_over(box, A)
        value, size = value + least, _more(size, scale)
        corners.append(jnp.where(A > 0, box.lo, jnp.where(A < 0, box.hi, box.lo / 2 + box.hi / 2)))
    value = value if size is None else value - ROUNDING * size
    return jnp.where(jnp.isnan(value), -jnp.inf, value), tuple(corners)


# Upwards: points (n, *shape), one a row.


@compiled(0)
def linear_up(piece: Program, params: Any, points: Sequence[Any]) -> tuple[Any, ...]:
    return jax.vmap(lambda *x: piece.evaluate(params, *x))(*points)


@compiled()
def lines_up(lines: Lines, A: Any, z: Any) -> Any:
    """On the line that the row took."""
    return _on_lines(lines, A, z)


def _on_lines(lines: Lines, A: Any, z: Any) -> Any:
    y = jnp.where(A >= 0, lines.below * z + lines.below_at_0, lines.above * z + lines.above_at_0)
    return jnp.where(jnp.isfinite(y), y, 0)


@compiled(0)
def free_up(
    piece: Program, lo: Any, hi: Any, t: Any, A: Any, z: Any, first: Any, second: Any, count: Any, rate: Any
) -> tuple[Any, Any, Any, Any]:
    """On the line that the row took; and the choice t after a step of Adam (count: from 1) up the bound's slope."""
    lines, pull = jax.vjp(lambda t: _chosen(piece, lo, hi, t), t)
    positive, negative = jnp.maximum(A, 0), jnp.minimum(A, 0)
    fill = lambda g, like: jnp.broadcast_to(g, like.shape) if like.shape == A.shape else g.sum(0)
    by_line = Lines(
        fill(positive * z, lines.below), fill(positive, lines.below_at_0),
        fill(negative * z, lines.above), fill(negative, lines.above_at_0),
    )  # fmt: skip
    (slope,) = pull(by_line)
    slope = jnp.where(jnp.isfinite(slope), slope, 0)
    first = MOMENTS[0] * first + (1 - MOMENTS[0]) * slope
    second = MOMENTS[1] * second + (1 - MOMENTS[1]) * slope * slope
    step = first / (1 - MOMENTS[0] ** count) / (jnp.sqrt(second / (1 - MOMENTS[1] ** count)) + 1e-12)
    return _on_lines(lines, A, z), jnp.clip(t + rate * step, 0, 1), first, second


@compiled(0)
def planes_up(piece: Program, planes: Planes, A: Any, points: Sequence[Any]) -> Any:
    (eqn,) = piece.equations
    of = dict(zip(piece.inputs, points, strict=True))
    x, y = (of[v] for v in eqn.inputs)
    both = jax.vmap(lambda x, y: eqn.evaluate(x, planes.y)[0] + eqn.evaluate(planes.x, y)[0])(x, y)
    return both - planes.centre - jnp.where(A > 0, planes.below, jnp.where(A < 0, -planes.above, 0))


@compiled()
def interval_up(box: Interval, A: Any) -> Any:
    y = jnp.where(A > 0, box.lo, box.hi)
    return jnp.where(jnp.isfinite(y), y, 0)


def _chosen(piece: Program, lo: Any, hi: Any, t: Any) -> Lines:
    (eqn,) = piece.equations
    if t.shape[0] == 2:
        return relaxation_at(eqn.name)(lo, hi, t, **eqn.params)
    reach, lines = adjustable[eqn.name]  # written out, since an array of both choices would double the memory
    found = reach(lo, hi, **eqn.params)
    below = jnp.where(
        found.most[0] > found.least[0], found.least[0] + t[0] * (found.most[0] - found.least[0]), found.least[0]
    )
    return lines(lo, hi, (below, found.least[1]), **eqn.params)


@compiled(0, 1, 2)
def first_choice(piece: Program, choices: int, n: int, lo: Any, hi: Any) -> Any:
    """(choices, n, *shape): the lines of least area for every row."""
    (eqn,) = piece.equations
    t = relaxation_start(eqn.name)(lo, hi, **eqn.params)[:choices]
    return jnp.broadcast_to(t[:, None], (choices, n, *lo.shape))


@compiled(0)
def both_signs(shape: tuple[int, ...], ids: Any) -> Any:
    """(2·n, *shape): a row for each of n elements and its negative; zeros where the number is -1."""
    rows = jax.nn.one_hot(ids, int(np.prod(shape)), dtype=jnp.float32)
    return jnp.concatenate([rows, -rows]).reshape(-1, *shape)
