"""Elementwise functions of one variable, however many operations they take: gelu, silu, elu, softplus, x·sin(x).

Relaxed operation by operation such a function loses what its parts have in common; taken whole, the best
of a few lines can be had from interval bounds of its slope on pieces of the box. Source: mean value forms,
Moore, Kearfott and Cloud 2009, Introduction to Interval Analysis, ch. 6; the choice of lines is ours.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend import core as jex

from axiom_jax._domain import interpret, missing
from axiom_jax._program import Equation, Program, Var, build
from axiom_jax.verification.domains.interval import Interval, _no_nan, interval
from axiom_jax.verification.gating import is_constant
from axiom_jax.verification.relax import Lines, settled_lines

PIECES = 32
BISECTIONS = 20
FLUSHED = 1e-12  # what a root of a subnormal number may be, which XLA takes for 0
AFFINE = {"add", "sub", "neg", "add_any"}
COMPARISONS = {"eq", "ne", "lt", "le", "gt", "ge", "is_finite"}
STEPS = {"sign", "floor", "ceil", "round"}  # constant between jumps
JUMPS = {"rem", "atan2"}  # continuous pieces of any form: only their intervals count
LOGIC = {"and", "or", "not", "xor"}
SMOOTH = {"abs", "acos", "acosh", "asin", "asinh", "atan", "atanh", "cbrt", "clamp", "cos", "cosh", "div", "erf",
          "erf_inv", "erfc", "exp", "exp2", "expm1", "integer_pow", "log", "log1p", "logistic", "max", "min", "mul",
          "pow", "rsqrt", "select_n", "sin", "sinh", "sqrt", "square", "tan", "tanh"}  # fmt: skip
ELEMENTWISE = AFFINE | COMPARISONS | STEPS | JUMPS | LOGIC | SMOOTH | {"convert_element_type"}

curve_p = jex.Primitive("curve")  # an equation of plans only: it is never traced or compiled


def fuse(program: Program, alone: Collection[str]) -> Program:
    """A program in which every elementwise function of one variable is one equation, named "curve".

    Args:
        alone: primitives that are left as they are where they stand alone.

    >>> program, _ = build(lambda _, x: jax.nn.silu(x) + x[::-1], (), jnp.zeros(3))
    >>> [eqn.name for eqn in program.equations], [eqn.name for eqn in fuse(program, ()).equations]
    (['logistic', 'mul', 'rev', 'add'], ['curve', 'rev', 'add'])
    """
    makers = {v: eqn for eqn in program.equations for v in eqn.outputs}
    roots = _roots(program)
    needed, kept = set(program.outputs), []
    for eqn in reversed(program.equations):
        if needed.isdisjoint(eqn.outputs):
            continue
        found = _region(program, eqn, roots, makers) if eqn.output in roots else None
        if found is None or not _worthwhile(program, found[1], alone):
            kept.append(eqn)
        else:
            kept.append(_curve(program, *found, eqn))
        needed.update(kept[-1].inputs)
    literals = tuple((v, value) for v, value in program.literals if v in needed)
    return Program(program.params, program.inputs, literals, tuple(reversed(kept)), program.outputs, program.names)


def _roots(program: Program) -> dict[Var, Var]:
    """For each result of elementwise equations the one variable that it is a function of."""
    roots: dict[Var, Var] = {}
    for eqn in program.equations:
        varying = [v for v in dict.fromkeys(eqn.inputs) if v in program.varying]
        if not varying or eqn.name not in ELEMENTWISE or not _plainly(eqn, varying):
            continue
        sources = {roots.get(v, v) for v in varying}
        if len(sources) == 1:
            (source,) = sources
            if source.dtype == jnp.float32 and source.shape == eqn.output.shape:
                roots[eqn.output] = source
    return roots


def _plainly(eqn: Equation, varying: Sequence[Var]) -> bool:
    """Whether shapes agree (known numbers aside), and nothing is rounded to another type."""
    if eqn.name == "convert_element_type" and varying[0].dtype != bool:
        return False
    if any(v.shape not in (eqn.output.shape, ()) for v in eqn.inputs):
        return False
    return all(v.shape == eqn.output.shape for v in varying) and eqn.output.dtype in (jnp.float32, bool)


def _region(
    program: Program, last: Equation, roots: dict[Var, Var], makers: dict[Var, Equation]
) -> tuple[Var, list[Equation]] | None:
    """The variable, as late as it may be, and the equations that lead from it to a result."""
    if last.output.dtype != jnp.float32 or _affine(program, last):
        return None
    root, inside, stack = roots[last.output], {last.output}, [last]
    while stack:
        for v in stack.pop().inputs:
            if v in program.varying and v != root and v not in inside:
                inside.add(v)
                stack.append(makers[v])
    region = [eqn for eqn in program.equations if eqn.output in inside]
    while True:  # an affine step that everything goes through comes before the curve
        users = [eqn for eqn in region if root in eqn.inputs]
        if len(users) != 1 or users[0] is last or not _affine(program, users[0]):
            return root, region
        region.remove(users[0])
        root = users[0].output


def _affine(program: Program, eqn: Equation) -> bool:
    """Affine in one varying operand."""
    varies = [v in program.varying for v in eqn.inputs]
    if sum(varies) != 1:
        return False
    return eqn.name in AFFINE or eqn.name == "mul" or (eqn.name == "div" and varies[0])


def _worthwhile(program: Program, region: Sequence[Equation], alone: Collection[str]) -> bool:
    bent = [eqn for eqn in region if not _affine(program, eqn) and eqn.name not in COMPARISONS | LOGIC | AFFINE]
    if not bent:
        return False
    if len(bent) == 1 and bent[0].name == "select_n" and any(is_constant(program, v, 0.0) for v in bent[0].inputs[1:]):
        return False  # a gate
    return len(bent) > 1 or bent[0].name not in alone or bent[0].params.get("y", 2) not in (2, -1)


def _curve(program: Program, root: Var, region: Sequence[Equation], last: Equation) -> Equation:
    made = {eqn.output for eqn in region}
    outside = dict.fromkeys(v for eqn in region for v in eqn.inputs if v not in made and v != root)
    literals = tuple((v, value) for v, value in program.literals if v in outside)
    params = tuple(v for v in outside if v not in dict(literals))
    body = Program(params, (root,), literals, tuple(region), (last.output,))
    return Equation(curve_p, (root, *params), (last.output,), {"body": body}, last.at)


@lru_cache(maxsize=256)
def _slope(body: Program) -> Program | None:
    """The derivative of a curve as a program, if intervals can bound it."""
    specs = [jax.ShapeDtypeStruct(v.shape, v.dtype) for v in body.params]
    (x,) = body.inputs

    def derivative(known: Any, x: Any) -> Any:
        return jax.jvp(lambda x: body.evaluate(known, x)[0], (x,), (jnp.ones_like(x),))[1]

    try:
        program, captured = build(derivative, specs, jax.ShapeDtypeStruct(x.shape, x.dtype))
    except NotImplementedError:  # no derivative is known
        return None
    return None if missing(interval, program) or len(captured) > len(specs) else program


def relax_curve(body: Program, known: Sequence[Any], lo: Any, hi: Any, choice: Any = None) -> tuple[Lines, Interval]:
    """Lines and bounds of a curve over boxes [lo, hi] of its variable.

    A line of any slope has a sound offset: the least of f(x) − slope·x over pieces of the box. By itself the slope is
    taken of the line that is closest to the curve in the middle of the box, which encloses the least area.

    Args:
        body: the curve: one input, one output of the same shape.
        known: values of its parameters.
        choice: (2, ..., *shape) in [0, 1], for optimisers: where between the least and the greatest slope of the curve
            the slopes of the lower and the upper line lie. Every choice is sound.
    """
    pieces = _cut(body, known, lo, hi)
    level = jnp.zeros_like(lo)
    box = Interval(
        _no_nan(pieces.below(1, level) - FLUSHED, -jnp.inf), _no_nan(FLUSHED - pieces.below(-1, level), jnp.inf)
    )
    if choice is None:
        slopes = [jax.lax.stop_gradient(pieces.steepness(side)) for side in (1, -1)]
    else:
        least, most = pieces.slopes()
        slopes = [least + jnp.clip(t, 0, 1) * (most - least) for t in choice]
    offsets = [side * pieces.below(side, s * side) - side * FLUSHED for side, s in zip((1, -1), slopes, strict=True)]
    if choice is None:  # a level line may be closer where pieces are too wide to tell slopes
        middle = lo / 2 + hi / 2
        for k, (side, end) in enumerate(((1, box.lo), (-1, box.hi))):
            worse = ~(side * (slopes[k] * middle + offsets[k]) >= side * end)
            slopes[k], offsets[k] = jnp.where(worse, 0, slopes[k]), jnp.where(worse, end, offsets[k])
    return settled_lines(Lines(slopes[0], offsets[0], slopes[1], offsets[1]), box.lo, box.hi), box


def curve_start(body: Program, known: Sequence[Any], lo: Any, hi: Any) -> Any:
    """The choice (2, *shape) with which `relax_curve` takes the slopes that it takes by itself."""
    pieces = _cut(body, known, lo, hi)
    least, most = pieces.slopes()
    width = jnp.where(most > least, most - least, 1)
    return jnp.stack([jnp.clip((pieces.steepness(side) - least) / width, 0, 1) for side in (1, -1)])


@dataclass(frozen=True)
class _Pieces:
    """A curve over the pieces of a box: (pieces + 1, *shape) points and values, (pieces, *shape) bounds.

    Args:
        at, value: the ends of the pieces, and the curve there.
        inner: bounds of the curve on each piece.
        least, most: bounds of its slope; infinite where it may jump.
    """

    at: Any
    value: Any
    inner: Interval
    least: Any
    most: Any

    def below(self, side: int, s: Any) -> Any:
        """The least of side · f(x) − s·x over the box, for slopes s (..., *shape)."""
        fill = lambda a: a.reshape(a.shape[0], *(1 for _ in range(jnp.ndim(s) + 1 - a.ndim)), *a.shape[1:])
        at, value, least, most = map(fill, (self.at, self.value, self.least, self.most))
        width = at[1:] - at[:-1]
        left, right = side * value[:-1] - s * at[:-1], side * value[1:] - s * at[1:]
        a, b = (least - s, most - s) if side > 0 else (-most - s, -least - s)
        crossing = jnp.clip((left - right + b * width) / jnp.where(b > a, b - a, 1), 0, width)
        by_slope = jnp.where(a >= 0, left, jnp.where(b <= 0, right, left + a * crossing))
        floor = fill(self.inner.lo if side > 0 else -self.inner.hi)
        by_value = floor - jnp.maximum(s * at[:-1], s * at[1:])
        return jnp.fmax(by_slope, by_value).min(0)

    def slopes(self) -> tuple[Any, Any]:
        """The least and the greatest slope of the curve; both the chord's where those are unknown."""
        found = self.least.min(0), self.most.max(0)
        width = self.at[-1] - self.at[0]
        whole = jnp.where(width > 0, (self.value[-1] - self.value[0]) / jnp.where(width > 0, width, 1), 0)
        whole = jnp.where(jnp.isfinite(whole), whole, 0)
        known = jnp.isfinite(found[0]) & jnp.isfinite(found[1])
        return jnp.where(known, found[0], whole), jnp.where(known, found[1], whole)

    def steepness(self, side: int) -> Any:
        """The slope of the line that touches the points from below (side 1) or above, highest or lowest in the middle.

        It is the slope for which the point that it touches passes the middle; found by bisection.
        """
        middle = self.at[PIECES // 2]
        off = self.at - middle
        thin = off[-1] - off[0] <= 1e-6 * (1 + jnp.abs(self.at[0]) + jnp.abs(self.at[-1]))
        values = side * jnp.where(jnp.isfinite(self.value), self.value, 0)
        secants = (values[1:] - values[:-1]) / jnp.where(thin, 1, off[1:] - off[:-1])
        secants = jnp.where(jnp.isfinite(secants), secants, 0)

        def step(_: int, ends: tuple[Any, Any]) -> tuple[Any, Any]:
            low, high = ends
            slope = low / 2 + high / 2
            left = jnp.argmin(values - slope * off, axis=0) < PIECES // 2
            return jnp.where(left, slope, low), jnp.where(left, high, slope)

        low, high = jax.lax.fori_loop(0, BISECTIONS, step, (secants.min(0), secants.max(0)))
        level = self.least[PIECES // 2] / 2 + self.most[PIECES // 2] / 2
        return jnp.where(thin, jnp.where(jnp.isfinite(level), level, 0), side * (low / 2 + high / 2))


def _cut(body: Program, known: Sequence[Any], lo: Any, hi: Any) -> _Pieces:
    (x,), slope = body.inputs, _slope(body)
    ramp = jnp.linspace(0, 1, PIECES + 1, dtype=lo.dtype).reshape(-1, *(1 for _ in lo.shape))
    edges = jnp.clip(lo * (1 - ramp) + hi * ramp, lo, hi).at[0].set(lo).at[-1].set(hi)
    pieces = Interval(edges[:-1], edges[1:])

    def natural(piece: Interval) -> tuple[Interval, Any]:
        env = interpret(interval, body, known, piece)
        smooth = jnp.ones(x.shape, bool)
        for eqn in body.equations:
            found = env[eqn.output]
            if eqn.name in COMPARISONS | STEPS:
                smooth &= found.lo == found.hi if isinstance(found, Interval) else True
            elif eqn.name in JUMPS:
                smooth &= False
        return env[body.outputs[0]], smooth

    inner, smooth = jax.vmap(natural)(pieces)
    width = pieces.hi - pieces.lo
    if slope is None:
        steep = Interval(jnp.full_like(width, -jnp.inf), jnp.full_like(width, jnp.inf))
    else:
        env = jax.vmap(lambda piece: interpret(interval, slope, known, piece)[slope.outputs[0]])(pieces)
        steep = env if isinstance(env, Interval) else Interval(env, env)
    least, most = jnp.where(smooth, steep.lo, -jnp.inf), jnp.where(smooth, steep.hi, jnp.inf)
    value = jax.vmap(lambda v: body.evaluate(known, v)[0])(edges)
    return _Pieces(edges, value, inner, _finite_or(least, -jnp.inf), _finite_or(most, jnp.inf))


def _finite_or(value: Any, otherwise: float) -> Any:
    return jnp.where(jnp.isnan(value), otherwise, value)
