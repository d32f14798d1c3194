"""Terms over the real numbers: immutable, equal terms are one object, and what undefined values touch stays undefined.

A term knows whether it is defined everywhere (`total`), so nothing is simplified away that could be NaN: x/x stays.
Infinite constants live only as long as they are absorbed (exp(-inf) = 0, max(-inf, x) = x).
"""

from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction
from math import isqrt
from typing import Any
from weakref import WeakValueDictionary

FLATTEN = 16  # longer sums and products stay shared instead of being copied into larger ones
COMPARISONS = {"le", "lt", "eq"}
BOOLEAN = {"truth", "le", "lt", "eq", "not", "and", "or"}
POSITIVE = {"exp", "logistic"}


class Term:
    """A real or boolean expression; make it with the functions of this module.

    Args:
        op: "number", "variable", "truth", "add", "mul", "div", "pow", "root", "max", "min", "abs", "floor", "ite",
            "call", "le", "lt", "eq", "not", "and", "or", "infinite" or "undefined".
        args: its operands.
        value: the number, name, exponent or function name.
        total: whether it is defined at every point.
        sign: 1 if it is positive wherever it is defined, 0 if it is not negative, None if nothing is known.
        integral: whether it is an integer wherever it is defined.
    """

    __slots__ = ("__weakref__", "args", "boolean", "integral", "op", "sign", "total", "value")

    op: str
    args: "tuple[Term, ...]"
    value: Any
    total: bool
    sign: int | None
    integral: bool
    boolean: bool

    def __repr__(self) -> str:
        return readable(self)


_made: "WeakValueDictionary[Any, Term]" = WeakValueDictionary()
_UNORDERED = {"add", "mul", "max", "min", "and", "or"}


def _term(op: str, args: Sequence[Term] = (), value: Any = None) -> Term:
    args = tuple(args)
    key = op, value, frozenset(args) if op in _UNORDERED else args
    found = _made.get(key)
    if found is None:
        found = Term.__new__(Term)
        found.op, found.args, found.value = op, args, value
        found.boolean = op in BOOLEAN or (op == "ite" and args[1].boolean)
        found.sign = _sign(op, args, value)
        found.integral = _integral(op, args, value)
        found.total = all(a.total for a in args) and condition(op, args, value) is TRUE
        _made[key] = found
    return found


def raw(op: str, args: Sequence[Term] = (), value: Any = None) -> Term:
    """An operation as it is, with nothing simplified: for rewriting terms that have been made."""
    return _term(op, args, value)


def number(value: Any) -> Term:
    """An exact constant; infinite ones and NaN become terms that only absorb or spoil."""
    if isinstance(value, float) and value - value != 0:
        return UNDEFINED if value != value else (INFINITE if value > 0 else MINUS_INFINITE)
    return _term("number", (), Fraction(value))


def variable(name: str) -> Term:
    """A real variable, defined everywhere."""
    return _term("variable", (), name)


def truth(value: bool) -> Term:
    """True or false."""
    return TRUE if value else FALSE


def _sign(op: str, args: tuple[Term, ...], value: Any) -> int | None:
    known = [a.sign for a in args]
    match op:
        case "number":
            return 1 if value > 0 else 0 if value == 0 else None
        case "add" | "mul" | "min" | "div":
            if any(s is None for s in known):
                return None
            return 1 if (1 in known if op == "add" else all(known)) else 0
        case "max":
            return max((s for s in known if s is not None), default=None)
        case "abs" | "root":
            return 1 if known[0] == 1 else (0 if op == "abs" or value == 2 or known[0] is not None else None)
        case "pow":
            return 1 if known[0] == 1 else (0 if value % 2 == 0 or known[0] is not None else None)
        case "floor":
            return None if known[0] is None else 0
        case "ite":
            return None if args[1].boolean or None in known[1:] else min(s for s in known[1:] if s is not None)
        case "call":
            return 1 if value in POSITIVE else None
    return None


def _integral(op: str, args: tuple[Term, ...], value: Any) -> bool:
    if op == "number":
        return value.denominator == 1
    if op == "ite":
        return args[1].integral and args[2].integral
    return op == "floor" or (op in ("add", "mul", "max", "min", "abs", "pow") and all(a.integral for a in args))


def condition(op: str, args: tuple[Term, ...], value: Any) -> Term:
    """When an operation is defined, for defined operands."""
    match op:
        case "div":
            return TRUE if args[1].sign == 1 else ne(args[1], ZERO)
        case "root":
            return TRUE if value % 2 or args[0].sign is not None else le(ZERO, args[0])
        case "call" if value in DOMAINS:
            return DOMAINS[value](args[0])
        case "infinite" | "undefined":
            return FALSE
    return TRUE


def topological(roots: Iterable[Term], below: Callable[[Term], Sequence[Term]] = lambda t: t.args) -> list[Term]:
    """Every term below some roots once, operands first."""
    order: dict[Term, None] = {}
    stack: list[tuple[Term, bool]] = [(t, False) for t in reversed(list(roots))]
    while stack:
        t, ready = stack.pop()
        if ready:
            order[t] = None
        elif t not in order:
            stack.append((t, True))
            stack.extend((a, False) for a in reversed(below(t)) if a not in order)
    return list(order)


def variables(roots: Iterable[Term]) -> list[Term]:
    """The variables below some roots, in order of appearance."""
    return [t for t in topological(roots) if t.op == "variable"]


def unbounded(t: Term) -> bool:
    """Whether an infinite constant may be its value."""
    return t.op == "infinite" or (t.op == "ite" and not t.boolean and any(map(unbounded, t.args[1:])))


def _through(make: Any, args: Sequence[Term]) -> Term | None:
    """An operation on a choice with an infinite branch is the choice of the operations; UNDEFINED for two of them."""
    choices = [i for i, a in enumerate(args) if a.op == "ite" and unbounded(a)]
    if not choices:
        return None
    if len(choices) > 1 and len({args[i].args[0] for i in choices}) > 1:
        return UNDEFINED
    condition = args[choices[0]].args[0]
    pick = lambda side: make([a.args[side] if i in choices else a for i, a in enumerate(args)])
    return ite(condition, pick(1), pick(2))


def add(terms: Iterable[Term]) -> Term:
    """Their sum, with numbers and equal terms collected."""
    terms = list(terms)
    if any(t.op == "undefined" for t in terms):
        return UNDEFINED
    if (found := _through(add, terms)) is not None:
        return found
    if infinite := {t for t in terms if t.op == "infinite"}:
        return infinite.pop() if len(infinite) == 1 and all(t.total or t in infinite for t in terms
                                                            if t.op != "infinite") else UNDEFINED  # fmt: skip
    constant, cores = Fraction(0), dict[Term, Fraction]()
    for t in terms:
        for coefficient, core in _addends(t):
            if core is None:
                constant += coefficient
            else:
                cores[core] = cores.get(core, Fraction(0)) + coefficient
    parts = [_scaled(c, core) for core, c in cores.items() if c != 0 or not core.total]
    if constant or not parts:
        parts.append(number(constant))
    return parts[0] if len(parts) == 1 else _term("add", parts)


def _addends(t: Term) -> list[tuple[Fraction, Term | None]]:
    if t.op == "number":
        return [(t.value, None)]
    if t.op == "add" and len(t.args) <= FLATTEN:
        return [pair for a in t.args for pair in _addends(a)]
    if t.op == "mul" and t.args[0].op == "number":
        rest = t.args[1:]
        core = rest[0] if len(rest) == 1 else _term("mul", rest)
        if core.op == "add" and len(core.args) <= FLATTEN:
            return [(t.args[0].value * c, inner) for c, inner in _addends(core)]
        return [(t.args[0].value, core)]
    return [(Fraction(1), t)]


def _scaled(c: Fraction, core: Term) -> Term:
    if c == 1:
        return core
    return _term("mul", [number(c), *(core.args if core.op == "mul" else [core])])


def mul(factors: Iterable[Term]) -> Term:
    """Their product, with numbers and powers collected; zero times what may be undefined stays."""
    factors = list(factors)
    if any(t.op == "undefined" for t in factors):
        return UNDEFINED
    if (found := _through(mul, factors)) is not None:
        return found
    if any(t.op == "infinite" for t in factors):
        return _infinite_product(factors)
    constant, powers = Fraction(1), dict[Term, int]()
    for t in factors:
        for core, k in _factors(t):
            if core.op == "number":
                constant *= core.value**k
            else:
                powers[core] = powers.get(core, 0) + k
    if constant == 0 and all(core.total for core in powers):
        return ZERO
    parts = [p for core, k in powers.items() for p in _factors_of_power(core, k)]
    if not parts:
        return number(constant)
    if constant == 1:
        return parts[0] if len(parts) == 1 else _term("mul", parts)
    if len(parts) == 1 and parts[0].op == "add" and len(parts[0].args) <= FLATTEN and constant:
        return add(_scaled(constant * c, core) if core is not None else number(constant * c)
                   for c, core in _addends(parts[0]))  # fmt: skip
    return _term("mul", [number(constant), *parts])


def _factors(t: Term) -> list[tuple[Term, int]]:
    if t.op == "pow":
        return [(t.args[0], t.value)]
    if t.op == "mul" and len(t.args) <= FLATTEN:
        return [pair for a in t.args for pair in _factors(a)]
    return [(t, 1)]


def _factors_of_power(core: Term, k: int) -> list[Term]:
    if core.op == "root" and core.value == 2 and k >= 2 and core.total:  # sqrt(t)² = t where t ≥ 0
        return [*([core] if k % 2 else []), power(core.args[0], k // 2)]
    if core.op == "abs" and k % 2 == 0:
        core = core.args[0]
    return [core if k == 1 else _term("pow", [core], k)]


def _infinite_product(factors: Sequence[Term]) -> Term:
    sign = 1
    for t in factors:
        if t.op == "infinite":
            sign *= t.value
        elif t.op == "number" and t.value:
            sign *= 1 if t.value > 0 else -1
        elif t.sign != 1 or not t.total:
            return UNDEFINED
    return INFINITE if sign > 0 else MINUS_INFINITE


def neg(t: Term) -> Term:
    """-t."""
    return mul([number(-1), t])


def sub(a: Term, b: Term) -> Term:
    """a - b."""
    return add([a, neg(b)])


def div(a: Term, b: Term) -> Term:
    """a / b; by a number it is a product."""
    if "undefined" in (a.op, b.op):
        return UNDEFINED
    if (found := _through(lambda ab: div(*ab), [a, b])) is not None:
        return found
    if b.op == "number":
        return mul([number(1 / b.value), a]) if b.value else UNDEFINED
    if b.op == "infinite":
        return ZERO if a.total else UNDEFINED
    if a.op == "infinite":
        return _infinite_product([a, b])
    if b.total and b.sign == 1 and (a is b or a is ZERO):
        return ONE if a is b else ZERO
    return _term("div", [a, b])


def power(t: Term, k: int) -> Term:
    """t^k for an integer k."""
    if k < 0:
        return div(ONE, power(t, -k))
    if k == 0:
        return ONE if t.total else add([ONE, mul([ZERO, t])])
    return mul([t] * k) if unbounded(t) else mul([*(_raised(core, e * k) for core, e in _factors(t))])


def _raised(core: Term, k: int) -> Term:
    if core.op in ("number", "undefined"):
        return number(core.value**k) if core.op == "number" else UNDEFINED
    parts = _factors_of_power(core, k)
    return parts[0] if len(parts) == 1 else mul(parts)


def root(t: Term, k: int = 2) -> Term:
    """The k-th root, k = 2 (where t ≥ 0) or 3; exact where the root of a number is rational."""
    if t.op == "undefined" or t.op == "infinite":
        return t if t is INFINITE else UNDEFINED
    if t.op == "number" and (k == 2 and t.value >= 0):
        p, q = isqrt(t.value.numerator), isqrt(t.value.denominator)
        if p * p == t.value.numerator and q * q == t.value.denominator:
            return number(Fraction(p, q))
    if t is ZERO or t is ONE:
        return t
    if t.op == "pow" and t.value == k:
        return absolute(t.args[0]) if k == 2 else t.args[0]
    if (found := _through(lambda a: root(a[0], k), [t])) is not None:
        return found
    return _term("root", [t], k)


def absolute(t: Term) -> Term:
    """|t|."""
    if t.op in ("undefined", "infinite"):
        return UNDEFINED if t.op == "undefined" else INFINITE
    if t.sign is not None or t.op == "abs":
        return t
    if t.op == "number":
        return number(-t.value)
    if t.op == "mul" and t.args[0].op == "number" and t.args[0].value < 0:
        return absolute(neg(t))
    if (found := _through(lambda a: absolute(a[0]), [t])) is not None:
        return found
    return _term("abs", [t])


def largest(terms: Iterable[Term]) -> Term:
    """The maximum of some terms."""
    return _extreme("max", list(terms))


def smallest(terms: Iterable[Term]) -> Term:
    """The minimum of some terms."""
    return _extreme("min", list(terms))


def _extreme(op: str, terms: list[Term]) -> Term:
    if any(t.op == "undefined" for t in terms):
        return UNDEFINED
    choices = [t for t in terms if t.op == "ite" and unbounded(t)]
    if choices and len({t.args[0] for t in choices}) > 1:  # one choice after the other: each leaves it finite
        first, rest = choices[0], [t for t in terms if t is not choices[0]]
        return ite(first.args[0], *(_extreme(op, [*rest, branch]) for branch in first.args[1:]))
    if (found := _through(lambda ts: _extreme(op, ts), terms)) is not None:
        return found
    absorbed, wins = (MINUS_INFINITE, INFINITE) if op == "max" else (INFINITE, MINUS_INFINITE)
    if wins in terms:
        return wins if all(t.total or t.op == "infinite" for t in terms) else UNDEFINED
    flat, best = dict[Term, None](), None
    for t in terms:
        for part in t.args if t.op == op and len(t.args) <= FLATTEN else (t,):
            if part.op == "number":
                better = max if op == "max" else min
                best = part.value if best is None else better(best, part.value)
            elif part is not absorbed:
                flat[part] = None
    if best is not None:
        flat[number(best)] = None
    if op == "max" and best == 0 and len(flat) > 1 and all(t.sign is not None for t in flat):
        del flat[ZERO]
    if not flat:
        return absorbed
    return next(iter(flat)) if len(flat) == 1 else _term(op, list(flat))


def floor(t: Term) -> Term:
    """The greatest integer ≤ t."""
    if t.op == "number":
        return number(t.value.__floor__())
    if t.integral or t.op in ("undefined", "infinite"):
        return t
    return _term("floor", [t])


def call(name: str, t: Term) -> Term:
    """A function by name: exp, log, tanh, logistic, erf, sin, cos, atan, asin, acos, erf_inv, lgamma or digamma."""
    if t.op == "undefined":
        return t
    if (found := _through(lambda a: call(name, a[0]), [t])) is not None:
        return found
    if t.op == "infinite":
        return _LIMITS.get((name, t.value), UNDEFINED)
    if (name, t) in _EXACT:
        return _EXACT[name, t]
    if t.op == "call" and (name, t.value) in (("exp", "log"), ("log", "exp")) and t.total:
        return t.args[0]
    return _term("call", [t], name)


def ite(condition: Term, then: Term, otherwise: Term) -> Term:
    """`then` where the condition holds, else `otherwise`; what the other is does not matter."""
    if condition.op == "truth":
        return then if condition is TRUE else otherwise
    if then is otherwise and condition.total:
        return then
    if condition.op == "not":
        return ite(condition.args[0], otherwise, then)
    if then.op == "truth" and otherwise.op == "truth":
        return condition if then is TRUE else lnot(condition)
    return _term("ite", [condition, then, otherwise])


def le(a: Term, b: Term) -> Term:
    """a ≤ b."""
    return _compare("le", a, b)


def lt(a: Term, b: Term) -> Term:
    """a < b."""
    return _compare("lt", a, b)


def eq(a: Term, b: Term) -> Term:
    """a = b, of reals or of truth values."""
    if a.boolean and b.boolean:
        if a.op == "truth" or b.op == "truth":
            known, other = (a, b) if a.op == "truth" else (b, a)
            return other if known is TRUE else lnot(other)
        return TRUE if a is b and a.total else _term("eq", [a, b])
    return _compare("eq", a, b)


def ne(a: Term, b: Term) -> Term:
    """a ≠ b."""
    return lnot(eq(a, b))


def _compare(op: str, a: Term, b: Term) -> Term:
    if "undefined" in (a.op, b.op):
        return _term(op, [a, b])
    if (found := _through(lambda ab: _compare(op, *ab), [a, b])) is not None:
        return found
    if a.op == "number" and b.op == "number":
        return truth({"le": a.value <= b.value, "lt": a.value < b.value, "eq": a.value == b.value}[op])
    if "infinite" in (a.op, b.op) and all(t.total or t.op == "infinite" for t in (a, b)):
        x, y = (t.value if t.op == "infinite" else 0 for t in (a, b))
        return truth({"le": x <= y, "lt": x < y, "eq": x == y}[op])
    if a is b and a.total:
        return truth(op != "lt")
    if a is ZERO and b.total and b.sign is not None and (op == "le" or b.sign == 1):
        return truth(op != "eq")
    if b is ZERO and a.total and a.sign == 1:
        return FALSE
    return _term(op, [a, b])


def lnot(a: Term) -> Term:
    """¬a."""
    if a.op == "truth":
        return truth(not a.value)
    return a.args[0] if a.op == "not" else _term("not", [a])


def land(terms: Iterable[Term]) -> Term:
    """Their conjunction. An undefined part spoils it wherever it stands, so false absorbs only what is total."""
    return _junction("and", terms, TRUE, FALSE)


def lor(terms: Iterable[Term]) -> Term:
    """Their disjunction."""
    return _junction("or", terms, FALSE, TRUE)


def _junction(op: str, terms: Iterable[Term], neutral: Term, absorbing: Term) -> Term:
    flat = dict[Term, None]()
    for t in terms:
        for part in t.args if t.op == op and len(t.args) <= FLATTEN else (t,):
            if part is not neutral:
                flat[part] = None
    opposed = any(t.op == "not" and t.args[0] in flat for t in flat)
    if (absorbing in flat or opposed) and all(t.total for t in flat):
        return absorbing
    if not flat:
        return neutral
    return next(iter(flat)) if len(flat) == 1 else _term(op, list(flat))


def readable(root_term: Term, limit: int = 2000) -> str:
    """A term in prefix form, shortened at `limit` characters."""
    texts: dict[Term, str] = {}
    for t in topological([root_term]):
        if t.op in ("number", "variable"):
            texts[t] = str(t.value)
        elif not t.args:
            texts[t] = str(t.value).lower() if t.op == "truth" else t.op
        else:
            name = t.value if t.op == "call" else t.op
            parts = [texts[a] for a in t.args] + ([str(t.value)] if t.op in ("pow", "root") else [])
            texts[t] = f"{name}({', '.join(parts)})"[:limit]
    return texts[root_term]


_within = lambda lo, hi, strict: lambda t: land([(lt if strict else le)(number(lo), t),
                                                 (lt if strict else le)(t, number(hi))])  # fmt: skip
DOMAINS: dict[str, Any] = {  # where functions are defined; the others are so everywhere
    "log": lambda t: TRUE if t.sign == 1 else lt(ZERO, t),
    "lgamma": lambda t: TRUE if t.sign == 1 else lt(ZERO, t),  # poles at the integers ≤ 0; between them nothing is said
    "digamma": lambda t: TRUE if t.sign == 1 else lt(ZERO, t),
    "asin": _within(-1, 1, False),
    "acos": _within(-1, 1, False),
    "erf_inv": _within(-1, 1, True),
}
_leaf = Term.__new__(Term)
_leaf.op, _leaf.args, _leaf.value, _leaf.total = "truth", (), True, True
_leaf.sign, _leaf.integral, _leaf.boolean = None, False, True
TRUE = _leaf
_made["truth", True, ()] = TRUE
FALSE = _term("truth", (), False)
INFINITE, MINUS_INFINITE = _term("infinite", (), 1), _term("infinite", (), -1)
UNDEFINED = _term("undefined")
ZERO, ONE, HALF = number(0), number(1), number(Fraction(1, 2))
_EXACT: dict[tuple[str, Term], Term] = {
    ("exp", ZERO): ONE, ("log", ONE): ZERO, ("logistic", ZERO): HALF, ("cos", ZERO): ONE, ("erf_inv", ZERO): ZERO,
    **{(name, ZERO): ZERO for name in ("tanh", "erf", "sin", "atan", "asin")},
}  # fmt: skip
_LIMITS: dict[tuple[str, int], Term] = {
    ("exp", -1): ZERO, ("exp", 1): INFINITE, ("log", 1): INFINITE, ("logistic", -1): ZERO, ("logistic", 1): ONE,
    ("tanh", -1): number(-1), ("tanh", 1): ONE, ("erf", -1): number(-1), ("erf", 1): ONE,
}  # fmt: skip
