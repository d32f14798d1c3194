"""Ground facts about functions of real numbers: what a solver is told of exp, log, tanh and the rest.

Every occurrence f(t) is a symbol; the facts are instances at the arguments that occur and at chosen rational points.
Bounds at points are rounded outward. More points make them sharper, which is how a spurious point is cut off.
Source: Cimatti et al. 2018, Incremental linearization for satisfiability modulo nonlinear arithmetic and
transcendental functions, arXiv 1801.08723.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import combinations, pairwise
from typing import Any

from axiom_jax.verification.domains.algebra import terms as T
from axiom_jax.verification.domains.algebra.enclosing import LARGEST, Undefined, function_bounds
from axiom_jax.verification.domains.algebra.terms import Term

PAIRS = 120  # how many pairs of occurrences are compared
INCREASING = {"exp", "log", "tanh", "logistic", "erf", "atan", "asin", "erf_inv"}
ODD = {"tanh", "erf", "sin", "atan", "asin", "erf_inv"}
BOUNDED = {"tanh": (-1, 1), "logistic": (0, 1), "erf": (-1, 1), "sin": (-1, 1), "cos": (-1, 1)}
STRICT = {"tanh", "logistic", "erf"}
# where a function is convex (1) or concave (-1): everywhere, or below and above zero
CURVATURE = {"exp": (1, 1), "log": (-1, -1), "tanh": (1, -1), "logistic": (1, -1), "erf": (1, -1), "atan": (1, -1),
             "asin": (-1, 1), "erf_inv": (-1, 1)}  # fmt: skip
LIPSCHITZ = {"tanh": Fraction(1), "logistic": Fraction(1, 4), "erf": Fraction(112838, 100000), "sin": Fraction(1),
             "cos": Fraction(1), "atan": Fraction(1)}  # fmt: skip
GRID = 10**6


@dataclass(frozen=True)
class Occurrence:
    """One application of a function: `symbol` stands for `name(argument)`; "root" has its degree in `degree`."""

    symbol: Term
    name: str
    argument: Term
    degree: int = 2


def implies(a: Term, b: Term) -> Term:
    return T.lor([T.lnot(a), b])


def facts(occurrences: Sequence[Occurrence], level: int = 1) -> list[Term]:
    """What holds of some occurrences, without points.

    Args:
        level: 1 for facts that are linear in most cases; 2 adds products: exp of sums, definitions by exp.
    """
    found = [fact for o in occurrences for fact in _single(o, level)]
    by_name: dict[str, list[Occurrence]] = {}
    for o in occurrences:
        by_name.setdefault(o.name, []).append(o)
    for name, several in by_name.items():
        for a, b in list(combinations(several, 2))[:PAIRS]:
            found += _pair(name, a, b, level)
    exps, logs = by_name.get("exp", []), by_name.get("log", [])
    for l in logs:  # exp(log t) = t, through the monotonicity of exp
        for e in exps:
            inside = T.lt(T.ZERO, l.argument)
            found += [implies(inside, T.eq(T.le(e.argument, l.symbol), T.le(e.symbol, l.argument))),
                      implies(inside, T.eq(T.le(l.symbol, e.argument), T.le(l.argument, e.symbol)))]  # fmt: skip
    for s, c in ((s, c) for s in by_name.get("sin", []) for c in by_name.get("cos", []) if s.argument is c.argument):
        found.append(T.eq(T.add([T.power(s.symbol, 2), T.power(c.symbol, 2)]), T.ONE))
    if level >= 2:
        found += _products(exps, logs)
    return found


def _single(o: Occurrence, level: int) -> list[Term]:
    t, f = o.argument, o.symbol
    if o.name == "root":
        inside = T.le(T.ZERO, t)
        whole = T.eq(T.power(f, o.degree), t)
        if o.degree == 2:
            return [implies(inside, T.land([T.le(T.ZERO, f), whole, T.eq(T.eq(t, T.ZERO), T.eq(f, T.ZERO))]))]
        return [whole, T.eq(inside, T.le(T.ZERO, f))]
    below = T.lt if o.name in STRICT else T.le
    found = [below(T.number(end), f) if side else below(f, T.number(end))
             for end, side in zip(BOUNDED.get(o.name, ()), (True, False), strict=False)]  # fmt: skip
    if o.name in ODD and o.name in INCREASING:
        found += [T.eq(T.lt(T.ZERO, t), T.lt(T.ZERO, f)), T.eq(T.lt(t, T.ZERO), T.lt(f, T.ZERO))]
    match o.name:
        case "exp":
            found += [T.lt(T.ZERO, f), T.le(T.add([t, T.ONE]), f), T.eq(T.lt(T.ZERO, t), T.lt(T.ONE, f)),
                      T.eq(T.lt(t, T.ZERO), T.lt(f, T.ONE)),
                      implies(T.ne(t, T.ZERO), T.lt(T.add([t, T.ONE]), f))]  # fmt: skip
            if level >= 2:  # exp(t) ≥ (1 + t/2)² where t ≥ −2, and the same for exp(−t)
                half, two = T.mul([T.HALF, t]), T.number(2)
                found += [implies(T.lt(t, T.ONE), T.le(T.mul([f, T.sub(T.ONE, t)]), T.ONE)),
                          implies(T.le(T.number(-2), t), T.le(T.power(T.add([T.ONE, half]), 2), f)),
                          T.le(T.add([T.ONE, t, T.mul([T.HALF, T.power(t, 2)]),
                                      T.mul([T.number(Fraction(1, 6)), T.power(t, 3)])]), f),
                          implies(T.le(t, two), T.le(T.mul([f, T.power(T.sub(T.ONE, half), 2)]), T.ONE))]  # fmt: skip
        case "log":
            inside = T.lt(T.ZERO, t)
            found += [implies(inside, T.land([T.le(f, T.sub(t, T.ONE)), T.eq(T.lt(T.ONE, t), T.lt(T.ZERO, f)),
                                              T.eq(T.lt(t, T.ONE), T.lt(f, T.ZERO))]))]  # fmt: skip
            if level >= 2:  # log t ≥ 1 − 1/t
                found.append(implies(inside, T.le(T.sub(t, T.ONE), T.mul([t, f]))))
        case "tanh" | "atan":
            found += [implies(T.le(T.ZERO, t), T.le(f, t)), implies(T.le(t, T.ZERO), T.le(t, f))]
        case "logistic":
            found += [T.eq(T.lt(T.ZERO, t), T.lt(T.HALF, f)), T.eq(T.lt(t, T.ZERO), T.lt(f, T.HALF))]
        case "sin":
            size = T.absolute(t)
            half_turn = T.land([T.lt(T.ZERO, t), T.lt(t, T.number(3))])
            found += [T.le(f, size), T.le(T.neg(size), f), implies(half_turn, T.lt(T.ZERO, f))]
        case "cos":
            found += [implies(T.eq(t, T.ZERO), T.eq(f, T.ONE))]
            if level >= 2:
                found.append(T.le(T.sub(T.ONE, T.mul([T.HALF, T.power(t, 2)])), f))
    if o.name in ("atan", "asin", "acos"):
        low, high = (function_bounds("acos", Fraction(s)) for s in (1, -1))
        pi = high[1]
        ends = (T.ZERO, T.number(pi)) if o.name == "acos" else (T.number(-pi / 2), T.number(pi / 2))
        found += [T.le(ends[0], f), T.le(f, ends[1])] if low[0] <= 0 else []
    return found


def by_exp(o: Occurrence) -> tuple[Term, Callable[[Term], Term]] | None:
    """tanh and logistic by exp: the argument e of that exp, and the equation given exp(e)."""
    if o.name == "logistic":
        return T.neg(o.argument), lambda e: T.eq(T.mul([o.symbol, T.add([T.ONE, e])]), T.ONE)
    if o.name == "tanh":
        both = lambda e: T.eq(T.mul([o.symbol, T.add([e, T.ONE])]), T.sub(e, T.ONE))
        return T.mul([T.number(2), o.argument]), both
    return None


def _pair(name: str, a: Occurrence, b: Occurrence, level: int) -> list[Term]:
    if name == "root":
        if a.degree != b.degree:
            return []
        order = T.eq(T.le(a.argument, b.argument), T.le(a.symbol, b.symbol))
        inside = T.land([T.le(T.ZERO, a.argument), T.le(T.ZERO, b.argument)])
        return [implies(inside, order) if a.degree == 2 else order]
    found = []
    opposite = T.add([a.argument, b.argument])
    if name in INCREASING:
        orders = [T.eq(T.le(a.argument, b.argument), T.le(a.symbol, b.symbol)),
                  T.eq(T.le(b.argument, a.argument), T.le(b.symbol, a.symbol))]  # fmt: skip
        inside = T.land(T.DOMAINS[name](o.argument) for o in (a, b)) if name in T.DOMAINS else T.TRUE
        found += [implies(inside, order) for order in orders]
    else:
        found.append(implies(T.eq(a.argument, b.argument), T.eq(a.symbol, b.symbol)))
    if name in LIPSCHITZ:
        steepest = T.number(LIPSCHITZ[name])
        for u, v in ((a, b), (b, a)):
            rise, run = T.sub(u.symbol, v.symbol), T.sub(u.argument, v.argument)
            found.append(implies(T.le(T.ZERO, run), T.le(rise, T.mul([steepest, run]))))
    if name == "exp" and level >= 2:  # the tangent at one argument lies below at the other
        found += [T.le(T.mul([v.symbol, T.add([T.ONE, T.sub(u.argument, v.argument)])]), u.symbol)
                  for u, v in ((a, b), (b, a))]  # fmt: skip
    if name == "log" and level >= 2:
        inside = T.land([T.lt(T.ZERO, a.argument), T.lt(T.ZERO, b.argument)])
        found += [implies(inside, T.le(T.mul([v.argument, T.sub(u.symbol, v.symbol)]), T.sub(u.argument, v.argument)))
                  for u, v in ((a, b), (b, a))]  # fmt: skip
    if name in ODD or name in ("logistic", "cos", "exp"):
        mirrored = {"logistic": T.eq(T.add([a.symbol, b.symbol]), T.ONE), "cos": T.eq(a.symbol, b.symbol),
                    "exp": T.eq(T.mul([a.symbol, b.symbol]), T.ONE)}  # fmt: skip
        fact = mirrored.get(name, T.eq(a.symbol, T.neg(b.symbol)))
        if opposite is T.ZERO:
            found.append(fact)
        elif name not in ("exp", "cos"):
            found.append(implies(T.eq(opposite, T.ZERO), fact))
    return found


def _products(exps: Sequence[Occurrence], logs: Sequence[Occurrence]) -> list[Term]:
    """exp(s + t) = exp(s)·exp(t) and log(s·t) = log s + log t where such arguments occur."""
    found = []
    by_argument = {e.argument: e for e in exps}
    for a, b in [*combinations(exps, 2), *((e, e) for e in exps)][:PAIRS]:
        if (total := by_argument.get(T.add([a.argument, b.argument]))) is not None:
            found.append(T.eq(total.symbol, T.mul([a.symbol, b.symbol])))
    by_argument = {l.argument: l for l in logs}
    for a, b in [*combinations(logs, 2), *((l, l) for l in logs)][:PAIRS]:
        inside = T.land([T.lt(T.ZERO, a.argument), T.lt(T.ZERO, b.argument)])
        if (total := by_argument.get(T.mul([a.argument, b.argument]))) is not None:
            found.append(implies(inside, T.eq(total.symbol, T.add([a.symbol, b.symbol]))))
        for u, v in ((a, b), (b, a)):
            if (ratio := by_argument.get(T.div(u.argument, v.argument))) is not None:
                found.append(implies(inside, T.eq(ratio.symbol, T.sub(u.symbol, v.symbol))))
    return found


def point_facts(o: Occurrence, points: Iterable[Fraction]) -> list[Term]:
    """Bounds of one occurrence from the function's values at some rational points: steps, chords and tangents."""
    known: dict[Fraction, tuple[Fraction, Fraction]] = {}
    for p in sorted(set(points)):
        if abs(p) > LARGEST or (o.name in ("log", "lgamma", "digamma", "root") and p <= 0):
            continue
        try:
            low, high = function_bounds(o.name, p)
        except (Undefined, KeyError, ValueError):
            continue
        if max(abs(low), abs(high)) < 10**30:
            grid = GRID if abs(p) < 10 else GRID // 100
            fine = max(grid, int(1000 / abs(high)) if high else 0) if abs(high) > Fraction(1, 10**12) else 10**20
            known[p] = Fraction((low * fine).__floor__(), fine), Fraction((high * fine).__ceil__(), fine)
    if o.argument.op == "number":
        found = known.get(o.argument.value)
        if found is None:
            return []
        return [T.le(T.number(found[0]), o.symbol), T.le(o.symbol, T.number(found[1]))]
    t, f = o.argument, o.symbol
    guard = T.DOMAINS[o.name](t) if o.name in T.DOMAINS else T.TRUE
    facts_found = []
    for p, (low, high) in known.items():
        if o.name in INCREASING:
            facts_found += [implies(T.land([guard, T.le(t, T.number(p))]), T.le(f, T.number(high))),
                            implies(T.land([guard, T.le(T.number(p), t)]), T.le(T.number(low), f))]  # fmt: skip
        elif o.name in ("sin", "cos"):
            away = T.absolute(T.sub(t, T.number(p)))
            facts_found += [T.le(f, T.add([T.number(high), away])), T.le(T.sub(T.number(low), away), f)]
    if o.name in CURVATURE:
        facts_found += [implies(guard, c) for c in _chords(o, known)]
        facts_found += [implies(guard, c) for p in known for c in _tangent(o, p)]
    return facts_found


def _chords(o: Occurrence, known: dict[Fraction, tuple[Fraction, Fraction]]) -> list[Term]:
    """Between neighbouring points a convex function lies below its chord, a concave one above."""
    found, below, above = [], *CURVATURE[o.name]
    ordered = sorted(known)
    for p, q in pairwise(ordered):
        if p < 0 < q and below != above:
            continue
        bend = below if q <= 0 else above
        a, b = (known[x][1 if bend > 0 else 0] for x in (p, q))
        slope = (b - a) / (q - p)
        chord = T.add([T.number(a - slope * p), T.mul([T.number(slope), o.argument])])
        between = T.land([T.le(T.number(p), o.argument), T.le(o.argument, T.number(q))])
        found.append(implies(between, T.le(o.symbol, chord) if bend > 0 else T.le(chord, o.symbol)))
    return found


def _tangent(o: Occurrence, p: Fraction) -> list[Term]:
    """A line with a short slope that touches close to p, on the side of zero where the curvature is that of p."""
    from mpmath import mp

    below, above = CURVATURE[o.name]
    bend = below if p < 0 else above
    with mp.workdps(60):
        x = mp.mpf(p.numerator) / p.denominator
        slope = _derivative(o.name, x)
        if slope is None or slope == 0:
            return []
        digits = 10 ** max(4, int(-mp.floor(mp.log10(abs(slope)))) + 3)
        short = Fraction(int(mp.floor(slope * digits)), digits)
        touch = _touching(o.name, mp.mpf(short.numerator) / short.denominator, p)
        if touch is None:
            return []
        middle = Fraction(int(mp.floor(touch * 10**40)), 10**40)
        low, high = function_bounds(o.name, middle)
        offset = (low if bend > 0 else high) - short * middle
        slack = Fraction(1, 10**25) * (1 + abs(short) + abs(middle))
    cut = 10**9
    if bend > 0:
        offset = Fraction(((offset - slack) * cut).__floor__(), cut)
    else:
        offset = Fraction(((offset + slack) * cut).__ceil__(), cut)
    line = T.add([T.number(offset), T.mul([T.number(short), o.argument])])
    fact = T.le(line, o.symbol) if bend > 0 else T.le(o.symbol, line)
    if below == above:
        return [fact]
    side = T.le(o.argument, T.ZERO) if p < 0 else T.le(T.ZERO, o.argument)
    return [implies(side, fact)]


def _derivative(name: str, x: Any) -> Any:
    from mpmath import mp

    match name:
        case "exp":
            return mp.exp(x)
        case "log":
            return 1 / x
        case "tanh":
            return 1 - mp.tanh(x) ** 2
        case "logistic":
            return 1 / (2 + mp.exp(x) + mp.exp(-x))
        case "erf":
            return 2 / mp.sqrt(mp.pi) * mp.exp(-x * x)
        case "atan":
            return 1 / (1 + x * x)
    return None


def _touching(name: str, slope: Any, p: Fraction) -> Any:
    """Where the function has exactly this slope, on the side of zero where p lies; None where it has it nowhere."""
    from mpmath import mp

    if slope <= 0:
        return None
    match name:
        case "exp":
            return mp.log(slope)
        case "log":
            return 1 / slope
        case "tanh":
            size = mp.atanh(mp.sqrt(1 - slope)) if slope <= 1 else None
        case "logistic":
            size = 2 * mp.acosh(1 / (2 * mp.sqrt(slope))) if slope <= mp.mpf(1) / 4 else None
        case "erf":
            inside = slope * mp.sqrt(mp.pi) / 2
            size = mp.sqrt(-mp.log(inside)) if inside <= 1 else None
        case "atan":
            size = mp.sqrt(1 / slope - 1) if slope <= 1 else None
        case _:
            return None
    return None if size is None else (-size if p < 0 else size)
