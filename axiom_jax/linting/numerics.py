"""Lint of numbers: where a division, logarithm, root or exponential can leave the finite float32 numbers.

Bounds of every value over the region say what can happen; runs at points of the region say what does. Bounds are
intervals, sharpened for two idioms that intervals cannot see: x − max(x) ≤ 0, and a sum of exp of that ≥ 1.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from axiom_jax._program import Equation, Program, Var
from axiom_jax.linting.report import Finding
from axiom_jax.verification.domains.interval import Interval, interval

LARGEST = float(np.finfo(np.float32).max)
MOVES = {"broadcast_in_dim", "reshape", "squeeze", "expand_dims", "transpose", "copy", "convert_element_type"}


@dataclass(frozen=True)
class Danger:
    """What makes a primitive leave the finite numbers.

    Args:
        operand: which of its operands decides. rule: the name of the finding.
        holds: whether it can happen for values between two ends.
        what, fix: in words.
    """

    rule: str
    operand: int
    holds: Callable[[float, float], bool]
    what: str
    fix: str


DANGERS: dict[str, Danger] = {
    "div": Danger("division", 1, lambda lo, hi: lo <= 0 <= hi, "The divisor can be zero.",
                  "divide by something positive: y + eps, jnp.maximum(y, eps), or jnp.where(y == 0, 1, y)"),
    "log": Danger("log", 0, lambda lo, hi: lo <= 0, "The logarithm can be of zero or less.",
                  "take jnp.log(jnp.maximum(x, eps)), or jax.nn.log_softmax instead of the log of a softmax"),
    "log1p": Danger("log", 0, lambda lo, hi: lo <= -1, "log1p can be of -1 or less.", "keep its argument above -1"),
    "sqrt": Danger("sqrt", 0, lambda lo, hi: lo < 0, "The square root can be of a negative number.",
                   "take jnp.sqrt(jnp.maximum(x, 0)); for gradients at 0 add eps"),
    "rsqrt": Danger("sqrt", 0, lambda lo, hi: lo <= 0, "The reciprocal root can be of zero or less.",
                    "add eps: jax.lax.rsqrt(x + eps)"),
    "exp": Danger("exp", 0, lambda lo, hi: hi > math.log(LARGEST), "The exponential can overflow.",
                  "subtract the maximum first (jax.nn.softmax, logsumexp), or clip its argument to 88"),
    "exp2": Danger("exp", 0, lambda lo, hi: hi >= 128, "The exponential can overflow.", "clip its argument to 127"),
    "expm1": Danger("exp", 0, lambda lo, hi: hi > math.log(LARGEST), "The exponential can overflow.",
                    "clip its argument to 88"),
    "acos": Danger("domain", 0, lambda lo, hi: lo < -1 or hi > 1, "acos can be of more than 1.",
                   "clip its argument to [-1, 1]"),
    "asin": Danger("domain", 0, lambda lo, hi: lo < -1 or hi > 1, "asin can be of more than 1.",
                   "clip its argument to [-1, 1]"),
    "atanh": Danger("domain", 0, lambda lo, hi: lo <= -1 or hi >= 1, "atanh can be of 1 or more.",
                    "keep its argument inside of (-1, 1)"),
    "acosh": Danger("domain", 0, lambda lo, hi: lo < 1, "acosh can be of less than 1.", "keep its argument at least 1"),
    "erf_inv": Danger("domain", 0, lambda lo, hi: lo <= -1 or hi >= 1, "erf_inv can be of 1 or more.",
                      "keep its argument inside of (-1, 1)"),
    "pow": Danger("power", 0, lambda lo, hi: lo < 0, "A negative number can be raised to a power that is no integer.",
                  "take jnp.maximum(x, 0) ** p, or an integer power"),
}  # fmt: skip


def numerics(program: Program, params: Sequence[Any], boxes: Sequence[Interval], declared: bool, seed: int = 0) -> (
    Iterator[Finding]
):
    """Findings of one program over a box an input.

    Args:
        boxes: an interval of its shape for each input; infinite ends where nothing is declared.
        declared: whether the user gave the region: overflow of sums and products is told only then.
    """
    values, gaps = bounded(program, params, boxes)
    happened = _executed(program, params, boxes, seed)
    told: set[tuple[str, str]] = set()
    for position, eqn in enumerate(program.equations):
        if program.varying.isdisjoint(eqn.inputs):
            continue
        danger = DANGERS.get(eqn.name)
        seen = happened.get(position)
        if danger is not None:
            lo, hi = _ends(values[eqn.inputs[danger.operand]])
            if not (danger.holds(lo, hi) or seen):
                continue
            rule, what, fix = danger.rule, danger.what, danger.fix
            got = f"{eqn.name} of values between {lo:.4g} and {hi:.4g}"
        elif seen or (declared and _overflows(values, eqn)):
            lo, hi = _ends(values[eqn.output])
            rule, what, fix = "overflow", "Values can leave the range of their dtype.", "scale the inputs down"
            got = f"{eqn.name} gives values between {lo:.4g} and {hi:.4g}"
        else:
            continue
        if (eqn.at, rule) in told:
            continue
        told.add((eqn.at, rule))
        if seen:
            what = f"{eqn.name} gives {seen} at a point of the region that was run."
        yield Finding(rule, "error" if seen else "warning", what, eqn.at or None, got, fix)
    if gaps:
        names = ", ".join(sorted({eqn.name for eqn in gaps}))
        places = "\n".join(dict.fromkeys(eqn.at for eqn in gaps if eqn.at))
        yield Finding("unbounded", "note", "Some operations have no bounds: what follows them was taken as unbounded.",
                      places or None, names, "nothing to mend; findings behind them may be false alarms")  # fmt: skip


def bounded(
    program: Program, params: Sequence[Any], boxes: Sequence[Interval]
) -> tuple[dict[Var, Any], list[Equation]]:
    """An interval for every value, and the equations that have no rule (their results are unbounded)."""
    env: dict[Var, Any] = program.environment(params) | dict(zip(program.inputs, boxes, strict=True))
    makers = {v: eqn for eqn in program.equations for v in eqn.outputs}
    gaps = []
    for eqn in program.equations:
        operands = [env[v] for v in eqn.inputs]
        if not any(isinstance(x, Interval) for x in operands):
            results = eqn.evaluate(*operands)
        elif eqn.name in interval.rules and (found := _ruled(eqn, operands)) is not None:
            results = found
        else:
            gaps.append(eqn)
            results = [_everything(v) for v in eqn.outputs]
        if eqn.name == "select_n":
            results = (_guarded(eqn, results[0], makers, env),)
        env.update(zip(eqn.outputs, results, strict=True))
        _sharpen(eqn, env, makers)
    return env, gaps


def _ruled(eqn: Equation, operands: Sequence[Any]) -> Any:
    """What the interval rule says; None if it does not cover these operands."""
    try:
        results = interval.rules[eqn.name](*operands, **eqn.params)
    except NotImplementedError:
        return None
    return tuple(results) if eqn.primitive.multiple_results else (results,)


def _everything(v: Var) -> Interval:
    if np.dtype(v.dtype) == bool:
        return Interval(jnp.zeros(v.shape, bool), jnp.ones(v.shape, bool))
    ends = (jnp.iinfo(v.dtype).min, jnp.iinfo(v.dtype).max) if np.dtype(v.dtype).kind in "iu" else (-jnp.inf, jnp.inf)
    return Interval(jnp.full(v.shape, ends[0], v.dtype), jnp.full(v.shape, ends[1], v.dtype))


def _sharpen(eqn: Equation, env: dict[Var, Any], makers: dict[Var, Equation]) -> None:
    """x − max(x) ≤ 0, and Σ exp(x − max(x)) ≥ 1 where the sum runs over what the maximum was taken of."""
    value = env[eqn.output] if eqn.outputs else None
    if not isinstance(value, Interval):
        return
    if eqn.name == "sub" and (top := _maximum(eqn.inputs[1], makers)) is not None and top.inputs[0] == eqn.inputs[0]:
        env[eqn.output] = Interval(value.lo, jnp.minimum(value.hi, 0))
    if eqn.name == "reduce_sum" and (power := makers.get(eqn.inputs[0])) is not None and power.name == "exp":
        shifted = makers.get(power.inputs[0])
        top = _maximum(shifted.inputs[1], makers) if shifted is not None and shifted.name == "sub" else None
        if shifted is None or top is None or top.inputs[0] != shifted.inputs[0]:
            return
        if set(top.params["axes"]) <= set(eqn.params["axes"]):
            env[eqn.output] = Interval(jnp.maximum(value.lo, 1), value.hi)


def _maximum(v: Var, makers: dict[Var, Equation]) -> Equation | None:
    """The reduce_max that a value repeats, through moves and the maximum with -inf that JAX adds."""
    while (eqn := makers.get(v)) is not None:
        if eqn.name == "reduce_max":
            return eqn
        if eqn.name == "max":
            inner = [u for u in eqn.inputs if u in makers]
            if len(inner) != 1:
                return None
            v = inner[0]
        elif eqn.name in MOVES:
            v = eqn.inputs[0]
        elif eqn.name == "select_n" and _is_finite_test(eqn.inputs[0], makers):
            v = eqn.inputs[-1]  # logsumexp: where(isfinite(max), max, 0)
        else:
            return None
    return None


def _is_finite_test(v: Var, makers: dict[Var, Equation]) -> bool:
    return (test := makers.get(v)) is not None and test.name == "is_finite"


def _guarded(eqn: Equation, hull: Any, makers: dict[Var, Equation], env: dict[Var, Any]) -> Any:
    """`where(x > c, x, other)`: the branch that is x lies above c there (and likewise for the other comparisons)."""
    test = makers.get(eqn.inputs[0])
    if not isinstance(hull, Interval) or test is None or test.name not in ("gt", "ge", "lt", "le"):
        return hull
    if len(eqn.inputs) != 3:
        return hull
    left, right = test.inputs
    parts = []
    for chosen, branch in ((False, eqn.inputs[1]), (True, eqn.inputs[2])):
        value = env[branch]
        lo, hi = (value.lo, value.hi) if isinstance(value, Interval) else (value, value)
        bound, above = None, test.name in ("gt", "ge")
        if branch == left and not isinstance(env[right], Interval):
            bound, above = env[right], above == chosen
        elif branch == right and not isinstance(env[left], Interval):
            bound, above = env[left], above != chosen
        if bound is not None:
            strict = (test.name in ("gt", "lt")) == chosen
            edge = _beyond(bound, above) if strict else bound
            lo, hi = (jnp.maximum(lo, edge), hi) if above else (lo, jnp.minimum(hi, edge))
        parts.append((lo, hi))
    lo, hi = jnp.minimum(parts[0][0], parts[1][0]), jnp.maximum(parts[0][1], parts[1][1])
    return Interval(jnp.maximum(lo, hull.lo), jnp.minimum(hi, hull.hi))


def _beyond(bound: Any, above: bool) -> Any:
    """The next number: beyond 0 the smallest normal one, since what is below it is flushed to 0."""
    bound = jnp.asarray(bound)
    tiny = jnp.finfo(bound.dtype).tiny if jnp.issubdtype(bound.dtype, jnp.floating) else 1
    step = jnp.nextafter(bound, jnp.inf if above else -jnp.inf) if jnp.issubdtype(bound.dtype, jnp.floating) else bound
    return jnp.where(bound == 0, tiny if above else -tiny, step)


def _ends(value: Any) -> tuple[float, float]:
    lo, hi = (value.lo, value.hi) if isinstance(value, Interval) else (value, value)
    lo, hi = np.asarray(lo, np.float64), np.asarray(hi, np.float64)
    if not lo.size:
        return math.inf, -math.inf
    low, high = lo.min(), hi.max()
    return (-math.inf if np.isnan(low) else float(low)), (math.inf if np.isnan(high) else float(high))


def _overflows(values: dict[Var, Any], eqn: Equation) -> bool:
    """Whether a result can be too large for its dtype though no operand is."""
    dtype = np.dtype(eqn.output.dtype) if eqn.outputs else np.dtype(bool)
    if not jnp.issubdtype(dtype, jnp.floating):
        return False
    largest = float(jnp.finfo(dtype).max)
    within = lambda v: all(abs(end) <= largest for end in _ends(values[v]))
    return all(map(within, eqn.inputs)) and not all(map(within, eqn.outputs))


def _executed(program: Program, params: Sequence[Any], boxes: Sequence[Interval], seed: int) -> dict[int, str]:
    """Which equations are the first to give NaN or an infinity from finite operands, at points of the region."""
    watched = [i for i, eqn in enumerate(program.equations)
               if not program.varying.isdisjoint(eqn.inputs) and not _meant(program, eqn)]  # fmt: skip

    @jax.jit
    def flags(params: Any, *point: Any) -> Any:
        env = program.environment(params) | dict(zip(program.inputs, point, strict=True))
        for eqn in program.equations:
            env.update(zip(eqn.outputs, eqn.evaluate(*(env[v] for v in eqn.inputs)), strict=True))
        told = lambda test, vs: jnp.stack([test(env[v]) for v in vs]).any()
        rows = [(told(_not_finite, program.equations[i].inputs), told(_not_finite, program.equations[i].outputs),
                 told(_nan, program.equations[i].outputs)) for i in watched]  # fmt: skip
        return jnp.array(rows) if rows else jnp.zeros((0, 3), bool)

    found: dict[int, str] = {}
    for point in _points(boxes, seed):
        for i, (before, after, nan) in zip(watched, np.asarray(flags(list(params), *point)), strict=True):
            if after and not before and i not in found:
                found[i] = "NaN" if nan else "an infinity"
    return found


def _not_finite(value: Any) -> Any:
    return ~jnp.isfinite(value).all() if jnp.issubdtype(jnp.result_type(value), jnp.inexact) else jnp.zeros((), bool)


def _nan(value: Any) -> Any:
    return jnp.isnan(value).any() if jnp.issubdtype(jnp.result_type(value), jnp.inexact) else jnp.zeros((), bool)


def _meant(program: Program, eqn: Equation) -> bool:
    """Masks use infinities on purpose: where(mask, x, -inf), max(x, -inf)."""
    literals = {v for v, value in program.literals if not np.all(np.isfinite(np.asarray(value, np.float64)))}
    return not literals.isdisjoint(eqn.inputs)


def _points(boxes: Sequence[Interval], seed: int) -> Iterator[list[Any]]:
    """The ends, the middle, zero where it lies inside, a few corners and a few random points; ±1 for absent ends."""
    rng = np.random.default_rng(seed)
    ends = []
    for box in boxes:
        lo, hi = np.asarray(box.lo, np.float64), np.asarray(box.hi, np.float64)
        absent = ~np.isfinite(lo), ~np.isfinite(hi)
        lo, hi = np.where(absent[0], np.minimum(-1.0, hi - 1), lo), np.where(absent[1], np.maximum(1.0, lo + 1), hi)
        ends.append((lo, hi, np.asarray(box.lo).dtype))
    make = lambda choose: [jnp.asarray(choose(lo, hi), dtype) for lo, hi, dtype in ends]
    yield make(lambda lo, hi: np.clip(0.0, lo, hi))
    yield make(lambda lo, hi: lo)
    yield make(lambda lo, hi: hi)
    yield make(lambda lo, hi: (lo + hi) / 2)
    for _ in range(4):
        yield make(lambda lo, hi: np.where(rng.random(lo.shape) < 0.5, lo, hi))
    for _ in range(8):
        yield make(lambda lo, hi: lo + (hi - lo) * rng.random(lo.shape))
