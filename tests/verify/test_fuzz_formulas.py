"""Random small formulas over random programs: nothing that is proved or claimed is violated, no two engines disagree.

Every formula is asked of a solver (`smt`), of the rewriter and its refuter (`symbolic`) and, over boxes, of linear
bounds (`linear`), and evaluated at 10^4 random, edge and adversarial points: in float64 with a margin for its rounding,
and exactly where that margin is crossed.
"""

import collections
import json
import os
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from axiom_jax._errors import AxiomError, UnsupportedPrimitive
from axiom_jax.verification.checker import Rejected
from axiom_jax.verification.domains.algebra.enclosing import enclosure
from axiom_jax.verification.domains.algebra.reading import read
from axiom_jax.verification.domains.algebra.terms import land
from axiom_jax.verification.domains.smt.solving import UNDEFINED, solve
from axiom_jax.verification.domains.symbolic.deriving import derive
from axiom_jax.verification.domains.symbolic.translate import theorem_of
from axiom_jax.verification.property import Atom, Case, Property
from axiom_jax.verification.refuting import refute
from axiom_jax.verification.search.decide import decide
from axiom_jax.verification.search.margins import Subject
from axiom_jax.verification.statement import REALS, Range, Statement, Variable
from axiom_jax.verification.verdict import Claimed, Proved, Refuted

SAMPLES = 10_000
ROWS = 1000
BOUNDED = 8
Value = Callable[[dict[str, Any]], Any]


@dataclass
class Expression:
    """A function of the variables by name; `vector` if it has one value an entry."""

    text: str
    value: Value
    vector: bool = False


UNARY: dict[str, Callable[[Any], Any]] = {
    "-": lambda a: -a, "abs": jnp.abs, "relu": jax.nn.relu, "tanh": jnp.tanh, "sigmoid": jax.nn.sigmoid,
    "exp": lambda a: jnp.exp(jnp.clip(a, -4, 4)), "raw_exp": jnp.exp, "log": lambda a: jnp.log(1 + jnp.abs(a)),
    "raw_log": jnp.log, "sqrt": lambda a: jnp.sqrt(jnp.abs(a)), "square": jnp.square, "cube": lambda a: a**3,
    "erf": jax.scipy.special.erf, "sin": jnp.sin, "cos": jnp.cos, "softplus": jax.nn.softplus, "gelu": jax.nn.gelu,
    "silu": jax.nn.silu, "leaky": jax.nn.leaky_relu, "clip": lambda a: jnp.clip(a, -1, 1), "sign": jnp.sign,
    "floor": jnp.floor, "elu": jax.nn.elu, "recip": lambda a: 1 / (1 + a * a), "raw_recip": lambda a: 1 / a,
    "atan": jnp.arctan, "log1p": lambda a: jnp.log1p(a * a), "rsqrt": lambda a: jax.lax.rsqrt(1 + a * a),
    "expm1": lambda a: jnp.expm1(jnp.minimum(a, 3)), "halve": lambda a: a / 2,
}  # fmt: skip
BINARY: dict[str, Callable[[Any, Any], Any]] = {
    "+": lambda a, b: a + b, "-": lambda a, b: a - b, "*": lambda a, b: a * b, "max": jnp.maximum, "min": jnp.minimum,
    "/": lambda a, b: a / (1 + jnp.abs(b)), "where": lambda a, b: jnp.where(a > b, a, 2 * b - a),
    "logaddexp": jnp.logaddexp,
}  # fmt: skip
REDUCE: dict[str, Callable[[Any], Any]] = {
    "sum": jnp.sum, "mean": jnp.mean, "max": jnp.max, "min": jnp.min, "logsumexp": jax.nn.logsumexp, "var": jnp.var,
    "dot": lambda a: a @ a, "prod": jnp.prod, "first": lambda a: a[0],
    "argmax": lambda a: jnp.argmax(a).astype(a.dtype),
}  # fmt: skip
RESHAPE: dict[str, Callable[[Any], Any]] = {
    "softmax": jax.nn.softmax, "reverse": lambda a: a[::-1], "sort": jnp.sort, "cumsum": jnp.cumsum,
    "center": lambda a: a - jnp.mean(a), "log_softmax": jax.nn.log_softmax, "twice": lambda a: jnp.concatenate([a, a])
    .reshape(2, -1).sum(0), "norm": lambda a: a / (1 + jnp.linalg.norm(a) ** 2), "outer": lambda a: jnp.outer(a, a)[0],
    "cummax": lambda a: jax.lax.cummax(a),
}  # fmt: skip


@dataclass
class Maker:
    """Makes the expressions of one formula."""

    rng: random.Random
    variables: tuple[Variable, ...]
    size: int
    sized: bool = field(default=False)  # whether some part only works at this size

    def expression(self, depth: int, vector: bool | None = None) -> Expression:
        rng = self.rng
        if depth == 0 or rng.random() < 0.1:
            return self.leaf(vector)
        kind = rng.random()
        if kind < 0.4:
            name = rng.choice(list(UNARY))
            return self.applied(name, UNARY[name], self.expression(depth - 1, vector))
        if kind < 0.7:
            name = rng.choice(list(BINARY))
            a, b = self.expression(depth - 1, vector), self.expression(depth - 1)
            if vector is False and b.vector:
                b = self.applied("sum", jnp.sum, b, False)
            f = BINARY[name]
            return Expression(f"{name}({a.text}, {b.text})", lambda env: f(a.value(env), b.value(env)),
                              a.vector or b.vector)  # fmt: skip
        if vector is not True and kind < 0.85:
            inner = self.expression(depth - 1, True)
            name = rng.choice(list(REDUCE))
            return self.applied(name, REDUCE[name], inner, False) if inner.vector else inner
        inner = self.expression(depth - 1, vector)
        if not inner.vector:
            return inner
        if rng.random() < 0.3:
            self.sized = True
            rows = [[rng.randint(-4, 4) / 4 for _ in range(self.size)] for _ in range(self.size)]
            matrix = np.array(rows, np.float32)
            return self.applied(f"matrix{matrix.tolist()}", lambda a: jnp.asarray(matrix, a.dtype) @ a, inner)
        name = rng.choice(list(RESHAPE))
        return self.applied(name, RESHAPE[name], inner)

    def applied(self, name: str, f: Callable[[Any], Any], a: Expression, vector: bool | None = None) -> Expression:
        return Expression(f"{name}({a.text})", lambda env: f(a.value(env)), a.vector if vector is None else vector)

    def leaf(self, vector: bool | None) -> Expression:
        fitting = [v for v in self.variables if vector is None or bool(v.shape) == vector]
        if fitting and self.rng.random() < 0.85:
            v = self.rng.choice(fitting)
            return Expression(v.name, lambda env: env[v.name], bool(v.shape))
        number = self.rng.choice([0.0, 0.5, 1.0, -1.0, 2.0, self.rng.randint(-16, 16) / 8])
        if vector and any(v.shape for v in self.variables):
            v = next(v for v in self.variables if v.shape)
            return Expression(f"{number}·{v.name}", lambda env: number * env[v.name], True)
        return Expression(str(number), lambda env: jnp.asarray(number, next(iter(env.values())).dtype), False)


@dataclass
class Formula:
    """`given ⟹ left op right`, with its statement and the sides as functions."""

    text: str
    statement: Statement
    sizes: dict[str, int]
    sides: Callable[..., tuple[Any, Any]]
    op: str
    given: Value | None


def formula(seed: int) -> Formula:
    """One formula a seed."""
    rng = random.Random(seed)
    size = rng.randint(1, 3)
    names = ["x", "y", "z"][: rng.choice([1, 1, 1, 2, 2, 3])]
    boxed = rng.random() < 0.6
    within = lambda: _box(rng) if boxed else REALS
    variables = tuple(Variable(n, rng.choice([(), ("n",), ("n",)]), within()) for n in names)
    maker = Maker(rng, variables, size)
    left, op, right = sides(maker)
    given, told = None, ""
    if rng.random() < 0.2:
        a, b = maker.expression(1), maker.leaf(False)
        a = maker.applied("mean", jnp.mean, a, False) if a.vector else a
        given, told = (lambda env: a.value(env) <= b.value(env)), f"{a.text} <= {b.text} ⟹ "
    if maker.sized:
        variables = tuple(Variable(v.name, tuple(size for _ in v.shape), v.within) for v in variables)
    compare = {"<=": lambda a, b: a <= b, "<": lambda a, b: a < b, "==": lambda a, b: a == b}[op]

    def both(*values: Any) -> tuple[Any, Any]:
        env = dict(zip(names, values, strict=True))
        return jnp.broadcast_arrays(left.value(env), right.value(env))

    def condition(*values: Any) -> Any:
        holds = compare(*both(*values))
        return holds if given is None else holds | ~given(dict(zip(names, values, strict=True)))

    text = f"{told}{left.text} {op} {right.text}"
    statement = Statement(text, variables, condition)
    return Formula(text, statement, {n: size for n in statement.sizes}, both, op, given)


def sides(maker: Maker) -> tuple[Expression, str, Expression]:
    """Two sides: unrelated, or related so that the claim is true, or almost."""
    rng = maker.rng
    e = maker.expression(rng.choice([1, 2, 2, 3]))
    number = lambda v: Expression(str(v), lambda env: jnp.asarray(v, next(iter(env.values())).dtype))
    f = lambda g, *of: Expression("?", lambda env: g(*(o.value(env) for o in of)), any(o.vector for o in of))
    d = maker.expression(rng.choice([1, 2]))
    true = [
        (number(0.0), "<=", f(jnp.square, e)), (e, "<=", f(jnp.abs, e)), (e, "<=", f(jnp.maximum, e, d)),
        (number(0.0), "<", f(jnp.exp, e)), (f(jnp.tanh, e), "<", number(1.0)), (f(jax.nn.sigmoid, e), "<", number(1.0)),
        (f(lambda a, b: a * (a + b), e, d), "==", f(lambda a, b: b * a + a * a, e, d)),
        (f(lambda a, b: jnp.abs(a + b), e, d), "<=", f(lambda a, b: jnp.abs(a) + jnp.abs(b), e, d)),
        (f(lambda a: 1 + a, e), "<=", f(jnp.exp, e)), (f(jax.nn.relu, e), "<=", f(jax.nn.softplus, e)),
        (f(lambda a, b: 2 * a * b, e, d), "<=", f(lambda a, b: a * a + b * b, e, d)),
        (f(lambda a: jnp.min(a), e), "<=", f(lambda a: jnp.mean(a), e)), (f(jax.nn.relu, e), "==",
         f(lambda a: (a + jnp.abs(a)) / 2, e)), (f(lambda a: jnp.tanh(-a), e), "==", f(lambda a: -jnp.tanh(a), e)),
        (f(lambda a, b: jnp.abs(jax.nn.relu(a) - jax.nn.relu(b)), e, d), "<=", f(lambda a, b: jnp.abs(a - b), e, d)),
        (f(lambda a: jnp.clip(a, -2, 2), e), "<=", number(2.0)),
    ]  # fmt: skip
    roll = rng.random()
    if roll < 0.45:
        a, op, b = rng.choice(true)
    elif roll < 0.6:  # almost true
        a, op, b = rng.choice(true)
        shift = rng.choice([0.125, 1e-3, -1e-3])
        a, op = f(lambda u: u + jnp.asarray(shift, u.dtype), a), rng.choice([op, "<=", "<"])
    elif roll < 0.8:
        a, op, b = e, rng.choice(["<=", "<"]), number(rng.choice([0.0, 1.0, 4.0, 16.0, 100.0]))
    else:
        a, op, b = e, rng.choice(["<=", "<", "=="]), d
    named = lambda u: Expression(f"?({e.text}, {d.text})", u.value, u.vector) if u.text == "?" else u
    return named(a), op, named(b)


def _box(rng: random.Random) -> Range:
    lo = Fraction(rng.randint(-32, 16), 8)
    return Range(lo, lo + Fraction(rng.randint(1, 32), 8))


@dataclass
class Points:
    """Samples of the variables at the formula's sizes, and what the sides are there."""

    formula: Formula
    seed: int

    def batch(self, count: int = SAMPLES) -> list[np.ndarray]:
        rng = np.random.default_rng(self.seed)
        arrays, statement = [], self.formula.statement
        for v, s in zip(statement.variables, statement.sized(self.formula.sizes), strict=False):
            lo, hi = _ends(v)
            unbounded = v.within.lo is None
            scale = 10.0 ** rng.uniform(-3, 3, (count, *(1 for _ in s.shape)))
            wide = rng.normal(size=(count, *s.shape)) * scale
            even = rng.uniform(lo, hi, (count, *s.shape))
            chosen = np.where(rng.random((count, *(1 for _ in s.shape))) < 0.5, wide, even) if unbounded else even
            edges = np.array([e for e in (lo, hi, 0.0, 1.0, -1.0, 1e-6, lo + 1e-6, hi - 1e-6, (lo + hi) / 2)
                              if unbounded or lo <= e <= hi])  # fmt: skip
            often = np.where(rng.random((count, *(1 for _ in s.shape))) < 0.3, 0.7, 0.0)
            at_edge = rng.random((count, *s.shape)) < often
            arrays.append(np.where(at_edge, rng.choice(edges, (count, *s.shape)), chosen))
        return arrays

    def margins(self, arrays: list[np.ndarray]) -> np.ndarray:
        """How far each sample is from breaking the claim, less what float64 may have lost; negative: broken."""
        f = self.formula
        if len(arrays[0]) > ROWS:  # one shape for all, so that JAX compiles each operation once
            return np.concatenate([self.margins([a[i : i + ROWS] for a in arrays])
                                   for i in range(0, len(arrays[0]), ROWS)])  # fmt: skip
        with jax.enable_x64(True):
            left, right = jax.vmap(f.sides)(*map(jnp.asarray, arrays))
            left, right = np.asarray(left), np.asarray(right)
            hit = np.ones(len(left), bool)
            if f.given is not None:
                env = dict(zip((v.name for v in f.statement.variables), map(jnp.asarray, arrays), strict=True))
                hit = np.asarray(jax.vmap(lambda *vs: f.given(dict(zip(env, vs, strict=True))))(*env.values()))
        with np.errstate(all="ignore"):
            scale = 1 + np.abs(left) + np.abs(right)
            gap = np.abs(left - right) * -1 if f.op == "==" else right - left
            relative = (gap / scale).reshape(len(left), -1).min(1)
        return np.where(hit & np.isfinite(relative), relative, np.inf)

    def worst(self, count: int, samples: int = SAMPLES) -> tuple[list[list[np.ndarray]], np.ndarray]:
        """The samples nearest to breaking the claim, after some steps towards it; 10^4 of them in all."""
        arrays = self.batch(samples * 6 // 10)
        rng = np.random.default_rng(self.seed + 1)
        margins = self.margins(arrays)
        for step in (0.3, 0.03, 0.003, 0.0003) if samples >= SAMPLES else (0.1,):
            best = np.argsort(margins)[: ROWS // 5]
            near = [np.repeat(a[best], 5, 0) for a in arrays]
            moved = [self._inside(v, a + rng.normal(size=a.shape) * step * (1 + np.abs(a)))
                     for v, a in zip(self.formula.statement.variables, near, strict=True)]  # fmt: skip
            arrays = [np.concatenate([a[best], m]) for a, m in zip(arrays, moved, strict=True)]
            margins = np.concatenate([margins[best], self.margins(moved)])
        best = np.argsort(margins)[:count]
        return [[a[i] for a in arrays] for i in best], margins[best]

    @staticmethod
    def _inside(v: Variable, a: np.ndarray) -> np.ndarray:
        return a if v.within.lo is None else np.clip(a, *_ends(v))


def _ends(v: Variable) -> tuple[float, float]:
    return (-3.0, 3.0) if v.within.lo is None else (float(v.within.lo), float(v.within.hi))


@dataclass
class Outcome:
    """What every engine said of a formula: True holds, False does not, None not known or not asked."""

    formula: Formula
    said: dict[str, bool | None]
    broken: bool
    close: float
    seconds: dict[str, float]
    failures: list[str] = field(default_factory=list)

    @property
    def contradiction(self) -> bool:
        told = {answer for answer in self.said.values() if answer is not None}
        return len(told) > 1 or (self.broken and True in told)


def examined(seed: int, seconds: float, full: bool) -> Outcome:
    """Ask every engine about one formula, and look for points that break it; less thoroughly unless `full`."""
    f = formula(seed)
    said: dict[str, bool | None] = {}
    spent: dict[str, float] = {}
    failures: list[str] = []
    every = BOUNDED if full else 25
    for name, engine in ENGINES.items():
        start = time.monotonic()
        try:
            said[name] = engine(f, seconds) if name != "linear" or seed % every == 0 else None
        except UnsupportedPrimitive:
            said[name] = None
        except (Rejected, NotImplementedError) as error:  # no answer; the campaign tells how often
            said[name] = None
            failures.append(f"{name}: {type(error).__name__}: {error}")
        spent[name] = time.monotonic() - start
    start = time.monotonic()
    broken, close = False, np.inf
    if full or (True in said.values() and seed % 8 == 0):
        points, margins = Points(f, seed).worst(6, SAMPLES if full else ROWS)
        close = float(margins.min())
        if close < 0 if f.op != "==" else close < -1e-9:
            broken = any(_broken_exactly(f, point) for point in points)
    spent["samples"] = time.monotonic() - start
    return Outcome(f, said, broken, close, spent, failures)


def _broken_exactly(f: Formula, point: list[np.ndarray]) -> bool:
    try:
        reading = read(f.statement, (), f.sizes)
    except AxiomError:
        return False
    at = {t.value: Fraction(float(x)) for a, xs in zip(reading.inputs.values(), point, strict=True)
          for t, x in zip(a.ravel(), np.ravel(xs), strict=True)}  # fmt: skip
    inside = enclosure(land(h for hs in reading.hypotheses.values() for h in hs), at)
    return inside is True and enclosure(reading.claim, at) is False


def smt(f: Formula, seconds: float) -> bool | None:
    answer = solve(f.statement, f.sizes, time.monotonic() + seconds)
    if answer.holds is False and answer.point is not None and UNDEFINED not in answer.reason:
        assert not _surely_holds(f, [answer.point[v.name].astype(float) for v in f.statement.variables]), f.text
    return answer.holds


def _surely_holds(f: Formula, point: list[np.ndarray]) -> bool:
    """Whether float64 sees the claim hold at a point by more than its rounding."""
    margin = Points(f, 0).margins([np.asarray(p)[None] for p in point])[0]
    return np.isfinite(margin) and margin > 1e-9


def symbolic(f: Formula, seconds: float) -> bool | None:
    theorem = theorem_of(f.statement)
    found = refute(f.statement, theorem, time.monotonic() + seconds / 4)
    if found is not None:  # at other sizes than the solver's it says nothing about these
        specs = zip(f.statement.variables, f.statement.sized(f.sizes), strict=False)
        elsewhere = any(np.size(np.array(found.point[v.name], dtype=object)) != s.size for v, s in specs)
        return None if elsewhere or (found.undefined and found.executed.holds) else False
    return True if derive(theorem, time.monotonic() + seconds)[0] is not None else None


def linear(f: Formula, seconds: float) -> bool | None:
    """Linear bounds over the box with splits and the checker; asked of every `BOUNDED`th formula, for they compile."""
    if f.op == "==" or f.given is not None or any(v.within.lo is None for v in f.statement.variables):
        return None
    specs = f.statement.sized(f.sizes)[: len(f.statement.variables)]
    gap = lambda _, *xs: jnp.subtract(*reversed(f.sides(*xs))).ravel()
    subject = Subject(gap, (), tuple(specs))
    entries = zip(f.statement.variables, specs, strict=True)
    ends = [(v.within.lo, v.within.hi) for v, s in entries for _ in range(s.size)]
    count = jax.eval_shape(gap, (), *specs).shape[0]
    unsafe = tuple((Atom(((i, Fraction(1)),), Fraction(0), strict=f.op == "<="),) for i in range(count))
    prop = Property((Case(tuple(lo for lo, _ in ends), tuple(hi for _, hi in ends), unsafe),), f.text)
    verdict = decide(subject, prop, timeout=seconds + 10, check_timeout=20).verdict  # the time includes compiling
    return True if isinstance(verdict, (Proved, Claimed)) else False if isinstance(verdict, Refuted) else None


ENGINES = {"smt": smt, "symbolic": symbolic, "linear": linear}


def summary(outcomes: list[Outcome]) -> dict[str, Any]:
    count = lambda name, answer: sum(o.said[name] is answer for o in outcomes)
    return {
        "formulas": len(outcomes),
        **{name: {"holds": count(name, True), "refuted": count(name, False)} for name in ENGINES},
        "failures": collections.Counter(e for o in outcomes for e in o.failures),
        "broken_by_samples": sum(o.broken for o in outcomes),
        "seconds": {name: round(sum(o.seconds[name] for o in outcomes), 1) for name in [*ENGINES, "samples"]},
        "agreed": collections.Counter("+".join(n for n, a in o.said.items() if a is not None) for o in outcomes),
    }


@pytest.mark.parametrize("count", [12, pytest.param(40, marks=pytest.mark.slow)])
def test_nothing_false_is_proved_or_claimed_and_engines_agree(count):
    outcomes = [examined(seed, 0.3, full=False) for seed in range(count)]
    bad = [(o.formula.text, o.said, o.broken, o.close) for o in outcomes if o.contradiction]
    assert not bad
    told = summary(outcomes)
    assert min(told["smt"]["holds"], told["smt"]["refuted"]) >= count // 5 and told["symbolic"]["holds"] >= count // 13


def test_a_wrong_answer_would_be_noticed():
    f = next(f for f in map(formula, range(200)) if f.op == "<=" and smt(f, 1.0) is False)
    outcome = Outcome(f, {"smt": True, "symbolic": False}, False, 0.0, {})
    assert outcome.contradiction
    points, margins = Points(f, 0).worst(3)
    assert len(points) == 3 and margins.shape == (3,)


@pytest.mark.campaign
def test_campaign():
    """`AXIOM_FUZZ=first:count[:seconds]` chooses the formulas; figures go to stdout (`-s`)."""
    first, count, *rest = os.environ.get("AXIOM_FUZZ", "1000:5000").split(":")
    seconds = float(rest[0]) if rest else 2.0
    outcomes = []
    for seed in range(int(first), int(first) + int(count)):
        outcomes.append(examined(seed, seconds, full=True))
        o = outcomes[-1]
        if o.contradiction:
            print(f"seed {seed}: {o.formula.text}\n  {o.said} broken {o.broken} at {o.close}", flush=True)
    print(json.dumps(summary(outcomes), indent=1))
    assert not any(o.contradiction for o in outcomes)
