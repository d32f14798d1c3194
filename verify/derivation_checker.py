"""Re-checks symbolic proofs, for all sizes and all real tensors: one file, Python's standard library, exact arithmetic.

    python -I -S verify/derivation_checker.py FILE...

Exit 0 `accepted`, 1 `rejected: reason`, 2 `unreadable: reason` or bad usage. Nothing in a file is trusted. The format,
and why every rule is sound, is docs/derivation-format.md. Terms are scalars with integer index variables: names of
indices start with "@" (integers >= 0), names of sizes do not (integers >= 1); an entry x[e, ...] of a variable is a
total function of integers. inv(0) = 0, sqrt(t) = 0 for t < 0, log(t) for t <= 0 is some fixed function, and a sum or
bigmax over nothing is 0. A named function below that starts with `rule_` is a rule of proofs, its parameters included.
"""
# fmt: off

from __future__ import annotations

import base64
import hashlib
import json
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from fractions import Fraction
from functools import partial
from itertools import pairwise, product
from math import factorial, gcd, isqrt, lcm
from struct import unpack
from typing import Any, NamedTuple
from weakref import WeakValueDictionary

MAX_BYTES, MAX_DEPTH, MAX_POWER, MAX_BITS = 1 << 26, 200, 64, 1 << 15  # of a file; a term; integer powers; a number
MAX_WORK = 2 * 10**6  # steps of one check, of some microseconds
WORK, BITS = [1 << 62], [64]  # steps left, so that every file ends; functions are enclosed on a grid of 2^-bits

class Unreadable(Exception):
    """The bytes are no derivation of a known version."""

class Rejected(Exception):
    """A derivation that does not prove its claim, or whose payload is malformed."""

def need(condition: bool, reason: str, about: Node | None = None) -> None:
    if not condition:
        raise Rejected(reason if about is None else f"{reason}: {show(about)[:300]}")

def spend(steps: int) -> None:
    WORK[0] -= steps
    need(WORK[0] >= 0, "the work it asks for is over the limit")

def refill() -> None:
    """At least some allowance of work, for those who limit it themselves; `check` has its own limit."""
    WORK[0] = max(WORK[0], 10**7)

# --- Index expressions: const + sum of coefficient * name; names in order, no coefficient 0 ---------------------------
class Affine(NamedTuple):
    const: int
    terms: tuple[tuple[str, int], ...]

Index = int | str | Affine

def affine(e: Index) -> Affine:
    return e if isinstance(e, Affine) else Affine(0, ((e, 1),)) if isinstance(e, str) else Affine(int(e), ())

def shifted(a: Index, b: Index, times: int = 1) -> Affine:
    """a + times b."""
    a, b = affine(a), affine(b)
    total, const = dict(a.terms), a.const + times * b.const
    for name, k in b.terms:
        total[name] = total.get(name, 0) + times * k
    need(max(abs(const), *map(abs, total.values()), 0) < 1 << 64, "an index is too large")
    return Affine(const, tuple(sorted((n, k) for n, k in total.items() if k)))

def is_index(name: str) -> bool:
    return name[:1] in ("@", "#")

def at_least(e: Affine, low: int) -> bool:
    """Whether e >= low plainly: indices are >= 0 and sizes >= 1."""
    return all(k > 0 for _, k in e.terms) and e.const + sum(k for n, k in e.terms if not is_index(n)) >= low

# --- Terms and formulas: immutable, one object for each, bound names canonical ----------------------------------------
FUNCTIONS = ("inv", "exp", "log", "sqrt", "erf", "sin", "cos")
BINDERS, TENSORS = ("sum", "bigmax", "all", "some"), ("exists", "forall")
SIGNS = {"le": "<=", "lt": "<", "eq": "=", "ne": "!=", "ile": "<=", "ilt": "<", "ieq": "="}
FORMULAS = {*SIGNS, *TENSORS, "and", "or", "not", "implies", "all", "some", "true", "false"}

class Node:
    """A term or formula. A binder's bound name is "#h", h its height: how deep binders nest in it."""
    __slots__ = ("__weakref__", "args", "depth", "form", "free", "height", "key", "op", "poly", "sign")
    op: str
    args: tuple[Any, ...]
    free: frozenset[str]  # names of indices and sizes, and "$" + name of variables
    height: int
    depth: int
    key: bytes  # orders nodes by structure alone
    poly: Any  # the normal form, once computed
    form: Any
    sign: int | None  # of an atom

    def __repr__(self) -> str:
        return show(self)

NODES: WeakValueDictionary[Any, Node] = WeakValueDictionary()

def make(op: str, *args: Any) -> Node:
    """The node; nothing is simplified and nothing is checked but depth."""
    found = NODES.get((op, args))
    if found is not None:
        return found
    node, nodes = Node(), [a for a in args if isinstance(a, Node)]
    node.op, node.args, node.poly, node.form, node.sign = op, args, None, None, None
    node.height = max((a.height for a in nodes), default=0) + (op in BINDERS or op in TENSORS)
    node.depth = 1 + max((a.depth for a in nodes), default=0)
    need(node.depth <= MAX_DEPTH, "a term is too deep")
    free = set().union(*(a.free for a in nodes), ["$" + args[0]] if op == "var" else [])
    free.discard(f"#{node.height}" if op in BINDERS else f"$#{node.height}" if op in TENSORS else "")
    for a in args:
        for e in (a,) if isinstance(a, Affine) else a if isinstance(a, tuple) else ():
            free.update(name for name, _ in e.terms)
    node.free = frozenset(free)
    text = repr((op, [a.key if isinstance(a, Node) else str(a) for a in args]))
    node.key = hashlib.blake2b(text.encode(), digest_size=16).digest()
    NODES[op, args] = node
    return node

def term(t: Any) -> Node:
    """A number as a term, and a refusal of what is none."""
    if isinstance(t, (int, Fraction)):
        return make("const", Fraction(t))
    need(isinstance(t, Node) and t.op not in FORMULAS, "a term was expected")
    return t

def formula(f: Any) -> Node:
    need(isinstance(f, Node) and f.op in FORMULAS, "a formula was expected")
    return f

def node_of_terms(op: str, *terms: Any) -> Node:
    return make(op, *map(term, terms))

def node_of_indices(op: str, *indices: Index) -> Node:
    return make(op, *map(affine, indices))

def node_of_formulas(op: str, *formulas: Node) -> Node:
    return make(op, *map(formula, formulas))

inv, exp, log, sqrt, erf, sin, cos = (partial(node_of_terms, op) for op in FUNCTIONS)
le, lt, eq, ne, maximum = (partial(node_of_terms, op) for op in ("le", "lt", "eq", "ne", "max"))
integer, ile, ilt, ieq = (partial(node_of_indices, op) for op in ("int", "ile", "ilt", "ieq"))
conj, disj, negation, implies = (partial(node_of_formulas, op) for op in ("and", "or", "not", "implies"))

const: Callable[[Any], Node] = lambda q: make("const", Fraction(q))
var: Callable[..., Node] = lambda name, *index: make("var", name, *map(affine, index))
# a function of which nothing is known: what is proved holds for every real function of that name
apply: Callable[..., Node] = lambda name, *terms: make("apply", name, *map(term, terms))
add: Callable[..., Node] = lambda *ts: term(ts[0]) if len(ts) == 1 else node_of_terms("add", *ts)
mul: Callable[..., Node] = lambda *ts: term(ts[0]) if len(ts) == 1 else node_of_terms("mul", *ts)
neg: Callable[[Any], Node] = lambda t: mul(-1, t)
sub: Callable[[Any, Any], Node] = lambda s, t: add(s, neg(t))
div: Callable[[Any, Any], Node] = lambda s, t: mul(s, inv(t))
minimum: Callable[[Any, Any], Node] = lambda s, t: neg(maximum(neg(s), neg(t)))
absolute: Callable[[Any], Node] = lambda t: maximum(t, neg(t))
ite: Callable[[Node, Any, Any], Node] = lambda condition, s, t: make("ite", formula(condition), term(s), term(t))
total: Callable[[str, Index, Any], Node] = lambda name, size, body: bind("sum", size, name, body)
bigmax: Callable[[str, Index, Any], Node] = lambda name, size, body: bind("bigmax", size, name, body)
bigmin: Callable[[str, Index, Any], Node] = lambda name, size, body: neg(bigmax(name, size, neg(body)))
every: Callable[[str, Index, Node], Node] = lambda name, size, body: bind("all", size, name, body)
some: Callable[[str, Index, Node], Node] = lambda name, size, body: bind("some", size, name, body)

def power(t: Any, k: int) -> Node:
    need(0 <= k <= MAX_POWER, "an integer power is out of range")
    return make("pow", term(t), k)

def closed(body: Node) -> Node:
    need(not any(n[0] == "#" or n[:2] == "$#" for n in body.free), "a body has loose bound names")
    return body

def bind(op: str, size: Index, name: str, body: Any) -> Node:
    """A sum, bigmax, all or some over name = 0, ..., size - 1; the body's name becomes bound."""
    size, body = affine(size), (term if op in ("sum", "bigmax") else formula)(body)
    need(name[:1] == "@" and all(n != name for n, _ in size.terms), "an index is no index or bounds itself")
    return make(op, size, substitute(closed(body), {name: affine(f"#{body.height + 1}")}))

def quantify(op: str, name: str, shape: Iterable[Index], body: Node) -> Node:
    """exists or forall over a real tensor of that name; every occurrence must have as many indices as the shape."""
    sizes, h = tuple(map(affine, shape)), closed(formula(body)).height + 1
    names = [f"@~{k}" for k in range(len(sizes))]
    return make(op, sizes, replaced(body, name, names, var(f"#{h}", *names), loose=True))

exists, forall = partial(quantify, "exists"), partial(quantify, "forall")
ZERO, ONE, TRUE, FALSE = const(0), const(1), make("true"), make("false")

def rebuilt(node: Node, memo: dict[Node, Node], one: Callable[[Any], Any]) -> Node:
    args = tuple(tuple(map(one, a)) if type(a) is tuple else one(a) for a in node.args)
    memo[node] = node if args == node.args else make(node.op, *args)
    spend(1)
    return memo[node]

def substitute(node: Node, values: Mapping[str, Affine], memo: dict[Node, Node] | None = None) -> Node:
    """Index expressions for free index and size names; nothing can be captured, for heights do not change."""
    found: dict[Node, Node] = {} if memo is None else memo
    if node in found or node.free.isdisjoint(values):
        return found.get(node, node)
    def one(a: Any) -> Any:
        if isinstance(a, Node):
            return substitute(a, values, found)
        if not isinstance(a, Affine) or all(n not in values for n, _ in a.terms):
            return a
        result = affine(a.const)
        for n, k in a.terms:
            result = shifted(result, values.get(n, n), k)
        return result
    return rebuilt(node, found, one)

def opened(node: Node, at: Index) -> Node:
    """The body of a binder with an index expression for the bound name."""
    return substitute(node.args[1], {f"#{node.height}": affine(at)})

def opened_variable(node: Node, name: str) -> Node:
    """The body of exists or forall with a variable name for the bound one."""
    names = [f"@~{k}" for k in range(len(node.args[0]))]
    return replaced(node.args[1], f"#{node.height}", names, var(name, *names), loose=True)

def replaced(node: Node, name: str, names: Sequence[str], value: Node, loose: bool = False) -> Node:
    """The term `value`, a function of the indices `names`, for the variable `name`. Binders are opened, for their
    heights change; not where `loose`, when value is a variable and they do not."""
    memo: dict[Node, Node] = {}
    def walk(n: Node) -> Node:
        if n in memo or "$" + name not in n.free:
            return memo.get(n, n)
        if n.op == "var":
            need(len(n.args) - 1 == len(names), f"{name[:50]!r} has another number of indices")
            memo[n] = substitute(value, dict(zip(names, n.args[1:], strict=True)))
        elif loose or n.op not in (*BINDERS, *TENSORS):
            return rebuilt(n, memo, lambda a: walk(a) if isinstance(a, Node) else a)
        elif n.op in BINDERS:
            fresh = unused("@~", n.free | value.free)
            memo[n] = bind(n.op, n.args[0], fresh, walk(opened(n, fresh)))
        else:
            fresh = unused("$~", n.free | value.free)[1:]
            memo[n] = quantify(n.op, fresh, n.args[0], walk(opened_variable(n, fresh)))
        return memo[n]
    return walk(node)

def unused(stem: str, names: Iterable[str]) -> str:
    """stem0, stem1, ...: the first that is not among the names."""
    taken, k = set(names), 0
    while f"{stem}{k}" in taken:
        k += 1
    return f"{stem}{k}"

def index_name(node: Node) -> str:
    """A name for a binder's index that depends on nothing but its height, if it is free to take."""
    return f"@:{node.height}" if f"@:{node.height}" not in node.free else unused("@:", node.free)

# --- Normal form: polynomials with rational coefficients in atoms -----------------------------------------------------
Mono = tuple[tuple[Node, int], ...]  # atoms with powers >= 1, in order; at most one exp, at power 1
Poly = dict[Mono, Fraction]  # no coefficient 0

def pconst(q: int | Fraction) -> Poly:
    return {(): Fraction(q)} if q else {}

def single(node: Node) -> Poly:
    return {((node, 1),): Fraction(1)}

def atom(node: Node) -> Poly:
    """A node whose parts are normal and that no rule changes."""
    node.poly = single(node)
    return node.poly

def plus(p: Poly, q: Poly, times: int | Fraction = 1) -> Poly:
    """p + times q."""
    spend(len(q) + 1)
    result = dict(p)
    for m, c in q.items():
        result[m] = c = result.get(m, 0) + times * c
        need(c.numerator.bit_length() + c.denominator.bit_length() < MAX_BITS, "a number is too large")
        if not c:
            del result[m]
    return result

def scaled(p: Poly, times: int | Fraction) -> Poly:
    return plus({}, p, times)

def pmul(p: Poly, q: Poly) -> Poly:
    if len(p) == 1 and () in p:
        return scaled(q, p[()])
    result: Poly = {}
    for (m, c), (n, d) in product(p.items(), q.items()):
        for k, e in (monomial((*m, *n)) if m and n else {m or n: Fraction(1)}).items():
            result[k] = e = result.get(k, 0) + c * d * e
            need(e.numerator.bit_length() + e.denominator.bit_length() < MAX_BITS, "a number is too large")
            spend(4 + e.numerator.bit_length() // 1024)
    return {m: c for m, c in result.items() if c}

def ppow(p: Poly, k: int) -> Poly:
    result = pconst(1)
    for _ in range(k):
        result = pmul(result, p)
    return result

def monomial(factors: Iterable[tuple[Node, int]]) -> Poly:
    """A product of powers: exps are one exp, indicators idempotent, a^2 inv(a) = a, sqrt(t)^2 = t if t >= 0."""
    powers: dict[Node, int] = {}
    exponents: list[Poly] = []
    special = False  # whether more than adding powers may be to do
    for a, k in factors:
        special |= a.op in ("exp", "inv", "sqrt")
        if a.op == "exp":
            exponents.append(scaled(poly(a.args[0]), k))
        else:
            powers[a] = 1 if a.op == "ite" else powers.get(a, 0) + k
    if not special:
        return {sorted_mono(powers.items()): Fraction(1)}
    rest = pconst(1)
    for a in list(powers):
        base = a.args[0] if a.op == "inv" else None
        if base in powers:  # base^p inv(base)^q, also where base = 0
            p, q = powers[base], powers[a]
            powers[base], powers[a] = (1, 1) if p == q and atom_sign(base) < 2 else (max(p - q, 0), max(q - p, 0))
    for a, k in list(powers.items()):
        root = a if a.op == "sqrt" else a.args[0] if a.op == "inv" and a.args[0].op == "sqrt" else None
        if root is not None and k > 1 and sign(poly(root.args[0])):
            powers[a], square = k % 2, ppow(poly(root.args[0]), k // 2)
            rest = pmul(rest, square if a is root else inverse(square))
    exponent: Poly = {}
    for e in exponents:
        exponent = plus(exponent, e)
    for m, c in list(exponent.items()):  # exp(k log t) = t^k for t > 0
        inner = poly(m[0][0].args[0]) if len(m) == 1 and m[0][1] == 1 and m[0][0].op == "log" else {}
        if inner and c.denominator == 1 and abs(c) <= MAX_POWER and sign(inner) == 2:
            del exponent[m]
            rest = pmul(rest, ppow(inner if c > 0 else inverse(inner), abs(int(c))))
    if exponent:
        powers[exp_atom(exponent)] = 1
    found = {sorted_mono((a, k) for a, k in powers.items() if k): Fraction(1)}
    return found if rest == {(): 1} else pmul(found, rest)

def sorted_mono(factors: Iterable[tuple[Node, int]]) -> Mono:
    return tuple(sorted(factors, key=lambda f: f[0].key))

def mono_key(m: Mono) -> list[tuple[bytes, int]]:
    return [(a.key, k) for a, k in m]

def lead(p: Poly) -> Fraction:
    """The coefficient of the first monomial; what is divided by it has 1 there."""
    return p[min(p, key=mono_key)]

def node_of(p: Poly, remember: bool = True) -> Node:
    """The polynomial as a node; equal polynomials give the same node, which remembers it as its normal form."""
    terms = []
    for m in sorted(p, key=mono_key):
        factors = [a if k == 1 else make("pow", a, k) for a, k in m]
        terms.append(mul(*([const(p[m])] if p[m] != 1 or not m else []), *factors))
    node = add(*terms) if terms else ZERO
    node.poly = p if remember else node.poly
    return node

def sign(p: Poly) -> int:
    """2 if p > 0 plainly, 1 if p >= 0 plainly, else 0."""
    each = [min((atom_sign(a, k) for a, k in m), default=2) if c > 0 else 0 for m, c in p.items()]
    return 0 if 0 in each else max([1, *each])

def atom_sign(a: Node, k: int = 1) -> int:
    """The same for a power of an atom."""
    if a.sign is None:
        a.sign = 1 if a.op == "ite" else 0
        if a.op == "int":
            a.sign = 1 if is_index(a.args[0].terms[0][0]) else 2
        elif a.op in ("sum", "bigmax"):
            a.sign = min(sign(poly(opened(a, unused("@:", a.free)))), 2 if at_least(a.args[0], 1) else 1)
        elif a.op in ("inv", "sqrt", "exp", "max"):
            a.sign = max(2 if a.op == "exp" else sign(poly(a.args[0])), 0 if a.op == "inv" else 1)
    return max(1 - k % 2, a.sign)

def exponent(m: Mono) -> Poly:
    return next((poly(a.args[0]) for a, _ in m if a.op == "exp"), {})

def exp_atom(e: Poly) -> Node:
    return make("exp", node_of(e))

def exponential(e: Poly) -> Poly:
    return monomial([(exp_atom(e), 1)]) if e else pconst(1)

def without_exp(p: Poly) -> tuple[Poly, Poly]:
    """E and q with p = exp(E) q, where no further part of an exponent is common to all of q."""
    exponents = [exponent(m) for m in p]
    least = {m: min(e.get(m, Fraction(0)) for e in exponents) for m in {m for e in exponents for m in e}}
    shared = {m: c for m, c in least.items() if c}
    return shared, pmul(p, exponential(scaled(shared, -1)))

def inverse(p: Poly) -> Poly:
    """inv(p): the common factors of its monomials one by one, then one atom for the rest."""
    if not p:
        return {}
    shared, q = without_exp(p)
    result, monos = exponential(scaled(shared, -1)), [dict(m) for m in q]
    common = {a: min(m.get(a, 0) for m in monos) for a in monos[0] if a.op != "exp"}
    for a, k in common.items():
        one = poly(a.args[0]) if a.op == "inv" else atom(a) if a.op == "ite" else atom(inv(a))
        result = pmul(result, ppow(one, k))
    q = {tuple((a, k - common.get(a, 0)) for a, k in m if k > common.get(a, 0)): c for m, c in q.items()}
    scale = lead(q)
    result = scaled(result, 1 / scale)
    return result if set(q) == {()} else pmul(result, atom(inv(node_of(scaled(q, 1 / scale)))))

def root_of(q: Fraction) -> Fraction | None:
    """The root of the square of a rational."""
    a, b = isqrt(max(q.numerator, 0)), isqrt(q.denominator)
    return Fraction(a, b) if a * a == q.numerator and b * b == q.denominator else None

def relu(p: Poly) -> Poly:
    """max(p, 0) with a first coefficient of 1, by max(-p, 0) = max(p, 0) - p."""
    if sign(p) or sign(scaled(p, -1)):
        return p if sign(p) else {}
    scale = lead(p)
    positive = atom(maximum(node_of(scaled(p, 1 / scale)), ZERO))
    return scaled(positive, scale) if scale > 0 else plus(p, positive, -scale)

def logarithm(p: Poly) -> Poly:
    """log(p); where p > 0 plainly, the common exp and the first coefficient, and positive factors, by themselves."""
    if sign(p) < 2 or not p:
        return atom(log(node_of(p)))
    result, q = without_exp(p)
    c, m = lead(q), next(iter(q))
    result = plus(result, atom(log(const(c)))) if c != 1 else result
    if len(q) > 1 or any(atom_sign(a) < 2 for a, _ in m):
        return plus(result, atom(log(node_of(scaled(q, 1 / c)))))
    for a, k in m:
        one = logarithm(poly(a.args[0])) if a.op == "inv" else atom(log(a))
        result = plus(result, one, -k if a.op == "inv" else k)
    return result

def square_root(p: Poly) -> Poly:
    """sqrt(p): half of the common exponent, the root of a first coefficient that is a square, and |a| for a^2."""
    shared, p = without_exp(p)
    factor = root_of(abs(lead(p))) or Fraction(1) if p else Fraction(0)
    p = scaled(p, 1 / factor**2) if p else p
    if all(c == 1 and all(k % 2 == 0 for _, k in m) for m, c in p.items()) and len(p) <= 1:
        q = {tuple((a, k // 2) for a, k in m): Fraction(1) for m in p}
        size = plus(relu(q), relu(scaled(q, -1)))
    else:
        size = atom(sqrt(node_of(p)))
    return scaled(pmul(exponential(scaled(shared, Fraction(1, 2))), size), factor)

def function(op: str, p: Poly) -> Poly:
    """The normal form of a function of one argument; where p = i s + (1 - i) t with an indicator i, of s and of t."""
    flags = {a for m in p for a, _ in m if a.op == "ite"}
    if 0 < len(flags) <= 5:
        flag = min(flags, key=lambda a: a.key)
        on, off = (function(op, with_flag(p, flag, keep)) for keep in (True, False))
        return plus(off, pmul(atom(flag), plus(on, off, -1)))
    if op in OWN_FORM:
        return OWN_FORM[op](p)
    if not p:
        return pconst(op == "cos")
    if lead(p) > 0:
        return atom(make(op, node_of(p)))
    return scaled(atom(make(op, node_of(scaled(p, -1)))), 1 if op == "cos" else -1)  # erf and sin are odd

OWN_FORM: dict[str, Callable[[Poly], Poly]] = {
    "exp": exponential, "inv": inverse, "relu": relu, "log": logarithm, "sqrt": square_root}

def with_flag(p: Poly, flag: Node, keep: bool) -> Poly:
    """p with an indicator set to 1 or 0."""
    result: Poly = {}
    for m, c in p.items():
        rest = tuple(f for f in m if f[0] is not flag)
        result = plus(result, {rest: c}) if keep or len(rest) == len(m) else result
    return result

def indicator(f: Node) -> Poly:
    """1 where the normal formula f is true, else 0."""
    if f.op in ("true", "false"):
        return pconst(f.op == "true")
    if f.op in ("not", "lt"):
        return plus(pconst(1), indicator(f.args[0] if f.op == "not" else form(negated(f))), -1)
    if f.op not in ("and", "or"):
        return atom(make("ite", f, ONE, ZERO))
    result = pconst(1)
    for g in f.args:
        result = pmul(result, indicator(g) if f.op == "and" else plus(pconst(1), indicator(g), -1))
    return result if f.op == "and" else plus(pconst(1), result, -1)

def split_free(p: Poly, name: str) -> list[tuple[Poly, Mono]]:
    """p as a sum of (what is free of the name) * (monomial of what is not; () if nothing is)."""
    groups: dict[Mono, Poly] = {}
    for m, c in p.items():
        outside, inside = pconst(c), []
        for a, k in m:
            if a.op == "exp":
                parts = poly(a.args[0])
                free = {n: d for n, d in parts.items() if all(name not in b.free for b, _ in n)}
                outside = pmul(outside, exponential(free))
                a = exp_atom({n: d for n, d in parts.items() if n not in free}) if len(free) < len(parts) else ZERO
            elif name not in a.free:
                outside = pmul(outside, {((a, k),): Fraction(1)})
            inside += [(a, k)] if name in a.free else []
        key = sorted_mono(inside)
        groups[key] = plus(groups.get(key, {}), outside)
    return [(outside, inside) for inside, outside in groups.items()]

def size_poly(e: Affine) -> Poly:
    result = pconst(e.const)
    for name, k in e.terms:
        result = plus(result, atom(integer(name)), k)
    return result

def plain_sum(name: str, size: Affine, p: Poly) -> Poly:
    """The sum of p over name < size: linear, what is free of the name is taken out."""
    result: Poly = {}
    if size == affine(1):
        return poly(substitute(node_of(p), {name: affine(0)}))
    for outside, inside in split_free(p, name) if not at_least(shifted(0, size, -1), 0) else ():
        all_alike = not inside and at_least(size, 0)
        inner = size_poly(size) if all_alike else settled("sum", size, name, {inside: Fraction(1)})
        result = plus(result, pmul(outside, inner))
    return result

def settled(op: str, size: Affine, name: str, p: Poly) -> Poly:
    """A sum or bigmax as an atom, its body ordered under the canonical name of its index. The node does not remember
    it: of several orders of nested sums this may not be the first."""
    node = bind(op, size, name, node_of(p))
    name = index_name(node)
    return single(bind(op, size, name, node_of(poly(opened(node, name)))))

def nested_sum(binders: list[tuple[str, Affine]], p: Poly) -> Poly:
    """The sum of p over several indices whose sizes are independent: of all orders the first."""
    if len(binders) == 1:
        return plain_sum(*binders[0], p)
    tried = [plain_sum(*b, nested_sum([c for c in binders if c is not b], p)) for b in binders]
    return min(tried, key=lambda q: node_of(q, False).key)

def summed(name: str, size: Affine, p: Poly) -> Poly:
    """The sum of p over name < size; factors that are sums themselves are merged with it, up to 4 indices."""
    result: Poly = {}
    for outside, inside in split_free(p, name):
        binders, factors, queue = [(name, size)], pconst(1), list(inside)
        taken = {name}.union(*(a.free for a, _ in inside))
        while queue:
            a, k = queue.pop()
            if a.op != "sum" or k + len(binders) > 4 or any(n == b for n, _ in a.args[0].terms for b, _ in binders):
                factors = pmul(factors, {((a, k),): Fraction(1)})
                continue
            for _ in range(k):
                fresh = unused("@:s", taken)
                taken, body = taken | {fresh}, poly(opened(a, fresh))
                binders.append((fresh, a.args[0]))
                queue += [f for m in body for f in m] if len(body) == 1 else []
                factors = pmul(factors, pconst(*body.values()) if len(body) == 1 else body)
        result = plus(result, pmul(outside, nested_sum(binders, factors)))
    return result

def maximised(name: str, size: Affine, p: Poly) -> Poly:
    """The bigmax of p over name < size; if there is an index, what is free of the name is taken out."""
    if size == affine(1):
        return poly(substitute(node_of(p), {name: affine(0)}))
    free = {m: c for m, c in p.items() if at_least(size, 1) and all(name not in a.free for a, _ in m)}
    rest = {m: c for m, c in p.items() if m not in free}
    if not rest or at_least(shifted(0, size, -1), 0):
        return free
    scale = abs(lead(rest))
    return plus(free, settled("bigmax", size, name, scaled(rest, 1 / scale)), scale)

def poly(t: Node) -> Poly:
    """The normal form of a term as a polynomial."""
    if t.poly is None:
        spend(1)
        p = polynomial(t)
        t.poly = p if t.poly is None else t.poly
    return t.poly

def polynomial(t: Node) -> Poly:
    op, args = t.op, t.args
    if op in ("const", "int"):
        return pconst(args[0]) if op == "const" else size_poly(args[0])
    if op in ("var", "apply"):
        return atom(t if op == "var" else apply(args[0], *(node_of(poly(a)) for a in args[1:])))
    if op in ("add", "mul"):
        result = pconst(op == "mul")
        for a in args:
            result = (plus if op == "add" else pmul)(result, poly(a))
        return result
    if op == "pow":
        return ppow(poly(args[0]), args[1])
    if op == "max":
        return plus(poly(args[1]), function("relu", plus(poly(args[0]), poly(args[1]), -1)))
    if op == "ite":
        return plus(poly(args[2]), pmul(indicator(form(args[0])), plus(poly(args[1]), poly(args[2]), -1)))
    if op in ("sum", "bigmax"):
        name = index_name(t)
        return (summed if op == "sum" else maximised)(name, args[0], poly(opened(t, name)))
    return function(op, poly(args[0]))

def normal(t: Node) -> Node:
    """The normal form of a term: equal normal forms are equal real numbers, for all values of all names."""
    refill()
    return node_of(poly(term(t)))

def negated(f: Node) -> Node:
    """A formula that is true where f is false."""
    a, op = f.args, f.op
    if op in NEGATIONS:
        return NEGATIONS[op](*a)
    dual = {"all": "some", "some": "all", "exists": "forall", "forall": "exists"}[op]
    return make(dual, a[0], negated(a[1]))

NEGATIONS: dict[str, Callable[..., Node]] = {
    "le": lambda s, t: lt(t, s), "lt": lambda s, t: le(t, s), "eq": ne, "ne": eq, "not": lambda f: f,
    "ile": lambda a, b: ilt(b, a), "ilt": lambda a, b: ile(b, a), "ieq": lambda a, b: negation(ieq(a, b)),
    "and": lambda *fs: disj(*map(negated, fs)), "or": lambda *fs: conj(*map(negated, fs)),
    "implies": lambda f, g: conj(f, negated(g)), "true": lambda: FALSE, "false": lambda: TRUE}

def form(f: Node) -> Node:
    """The normal form of a formula: comparisons with 0, negations inside."""
    if f.form is None:
        spend(1)
        f.form = formed(f)
        f.form.form = f.form
    return f.form

def formed(f: Node) -> Node:
    op, args = f.op, f.args
    if op in ("le", "lt", "eq", "ne"):
        p = without_exp(plus(poly(args[1]), poly(args[0]), -1))[1]
        above, under = sign(p), sign(scaled(p, -1))
        if op in ("eq", "ne"):
            if not p or above == 2 or under == 2:
                return TRUE if (op == "eq") == (not p) else FALSE
            whole = eq(node_of(scaled(p, 1 / lead(p))), ZERO)
            return whole if op == "eq" else negation(whole)
        if above > (op == "lt") or under > (op == "le"):
            return TRUE if above > (op == "lt") else FALSE
        return make(op, ZERO, node_of(scaled(p, 1 / abs(lead(p)))))
    if op in ("ile", "ilt", "ieq"):
        return integer_form(op, shifted(shifted(args[1], args[0], -1), -1 if op == "ilt" else 0))
    if op in ("and", "or"):
        stop, skip = (FALSE, TRUE) if op == "and" else (TRUE, FALSE)
        parts = {p for g in map(form, args) for p in (g.args if g.op == op else (g,)) if p is not skip}
        ordered = sorted(parts, key=lambda g: g.key)
        return stop if stop in parts else make(op, *ordered) if len(ordered) > 1 else ordered[0] if ordered else skip
    if op == "implies":
        return form(disj(negated(args[0]), args[1]))
    if op == "not":
        inner = form(args[0])
        return negation(inner) if inner.op in ("eq", "ieq") else form(negated(inner))
    if op in ("all", "some"):
        stop, size, name = TRUE if op == "all" else FALSE, args[0], index_name(f)
        body = form(opened(f, 0 if size == affine(1) else name))
        if body is stop or at_least(shifted(0, size, -1), 0):
            return stop
        if at_least(size, 1) and name not in body.free:
            return body
        whole = bind(op, size, name, body)
        return form(whole) if whole.height < f.height else whole
    if op in TENSORS:
        name = unused("$:", f.free)[1:]
        body = form(opened_variable(f, name))
        return quantify(op, name, args[0], body) if "$" + name in body.free else body
    return f

def integer_form(op: str, e: Affine) -> Node:
    """e >= 0, or e = 0 for ieq, divided by the greatest common divisor of the coefficients."""
    divisor = gcd(*(k for _, k in e.terms)) or 1
    if op == "ieq" and (at_least(e, 1) or at_least(shifted(0, e, -1), 1) or e.const % divisor):
        return FALSE
    if not e.terms or (op != "ieq" and (at_least(e, 0) or at_least(shifted(-1, e, -1), 0))):
        return TRUE if op == "ieq" or at_least(e, 0) else FALSE
    divisor = -divisor if op == "ieq" and e.terms[0][1] < 0 else divisor
    smaller = Affine(e.const // divisor, tuple((n, k // divisor) for n, k in e.terms))
    return make("ieq" if op == "ieq" else "ile", affine(0), smaller)

def normal_formula(f: Node) -> Node:
    refill()
    return form(formula(f))

# --- Readable text ----------------------------------------------------------------------------------------------------
def show_index(e: Affine) -> str:
    parts = [f"{'-' if k < 0 else '+'} {'' if abs(k) == 1 else f'{abs(k)}*'}{n.lstrip('@')}" for n, k in e.terms]
    parts += [f"{'-' if e.const < 0 else '+'} {abs(e.const)}"] if e.const or not parts else []
    return ("-" if parts[0][0] == "-" else "") + " ".join(parts)[2:]

SHOWN = [0]  # nodes that may still be shown: shared parts are shown again and again

def show(node: Node, level: int = 0) -> str:
    """A term or formula as text; level: 1 in a sum, 2 in a product, 3 in a power; a long one is cut."""
    SHOWN[0] = 2000 if level == 0 and SHOWN[0] <= 0 else SHOWN[0]
    try:
        return shown(node, level)
    finally:
        SHOWN[0] = 0 if level == 0 else SHOWN[0]

def shown(node: Node, level: int) -> str:
    a, op = node.args, node.op
    SHOWN[0] -= 1
    if SHOWN[0] <= 0:
        return "..."
    if op in BINDERS:
        name = f"@{chr(104 + node.height)}" if node.height < 18 else f"@i{node.height}"
        name = unused(name, node.free) if name in node.free else name
        where = f"{name[1:]} < {show_index(a[0])}"
        if op in ("sum", "bigmax"):
            return f"{'sum' if op == 'sum' else 'max'}[{where}]({shown(opened(node, name), 1)})"
        text = f"for {'all' if op == 'all' else 'some'} {where}: {shown(opened(node, name), 0)}"
        return text if level == 0 else f"({text})"
    if op in TENSORS:
        name = unused("$y", node.free)[1:]
        return f"({op} {name}[{', '.join(map(show_index, a[0]))}]: {shown(opened_variable(node, name), 0)})"
    if op in SIGNS:
        left, right = ((show_index if op[0] == "i" else lambda t: shown(t, 1))(t) for t in a)
        return f"{left} {SIGNS[op]} {right}"
    if op in ("and", "or", "implies"):
        text = f" {op} ".join(shown(b, 1) for b in a) or ("true" if op == "and" else "false")
        return text if level == 0 or len(a) < 2 else f"({text})"
    if op == "const":
        return str(a[0]) if level < 2 or (a[0] >= 0 and a[0].denominator == 1) else f"({a[0]})"
    if op == "int":
        return show_index(a[0]) if len(a[0].terms) + bool(a[0].const) < 2 else f"({show_index(a[0])})"
    if op in ("var", "true", "false"):
        return (a[0] if a else op) + (f"[{', '.join(map(show_index, a[1:]))}]" if len(a) > 1 else "")
    if op in ("add", "mul"):
        text = (" + " if op == "add" else "*").join(shown(b, 1 + (op == "mul")) for b in a).replace("+ -", "- ")
        text = "-" + text[5:] if text.startswith("(-1)*") else text or ("0" if op == "add" else "1")
        return text if level < (2 if op == "add" else 3) else f"({text})"
    if op == "pow":
        return f"{shown(a[0], 3)}^{a[1]}"
    name, inside = (a[0], a[1:]) if op == "apply" else ("where" if op == "ite" else op, a)
    return f"{name}({', '.join(shown(b, 0) for b in inside)})"

# --- Integer facts ----------------------------------------------------------------------------------------------------
def parts(hyps: Iterable[Node]) -> list[Node]:
    """The normal forms of hypotheses, ands taken apart."""
    return [g for h in hyps for g in (form(h).args if form(h).op == "and" else (form(h),))]

def follows(hyps: Iterable[Node], e: Affine) -> bool:
    """Whether e >= 0 by Fourier-Motzkin elimination from the integer hypotheses; a no may be wrong."""
    if at_least(e, 0):
        return True
    rows, facts = {shifted(-1, e, -1)}, parts(hyps)
    for f in facts:
        rows |= {f.args[1]} if f.op in ("ile", "ieq") else set()
        rows |= {shifted(0, f.args[1], -1)} if f.op == "ieq" else set()
    names = {n for r in rows for n, _ in r.terms}
    rows |= {shifted(name, 0 if is_index(name) else -1) for name in names}
    while names and len(rows) <= 1000:
        split = {n: [[r for r in rows if way * dict(r.terms).get(n, 0) > 0] for way in (1, -1)] for n in names}
        name = min(names, key=lambda n: (len(split[n][0]) * len(split[n][1]), n))
        up, down = split[name]
        names.remove(name)
        spend(len(rows) + len(up) * len(down))
        rows = {r for r in rows if name not in dict(r.terms)}
        for a, b in product(up, down):
            row = shifted(shifted(0, a, -dict(b.terms)[name]), b, dict(a.terms)[name])
            divisor = gcd(*(k for _, k in row.terms)) or 1
            rows.add(Affine(row.const // divisor, tuple((n, k // divisor) for n, k in row.terms)))
    return FALSE in facts or any(not r.terms and r.const < 0 for r in rows)

# --- Rules: from an open goal to the goals that are left --------------------------------------------------------------
class Goal(NamedTuple):
    hyps: tuple[Node, ...]
    goal: Node

    def given(self, *facts: Node) -> list[Goal]:
        return [Goal(self.hyps + facts, self.goal)]

    def hyp(self, k: int, *ops: str) -> Node:
        need(0 <= k < len(self.hyps), "there is no hypothesis of that number")
        need(not ops or self.hyps[k].op in ops, f"hypothesis {k} is no {' or '.join(ops)}")
        return self.hyps[k]

    def asks(self, *ops: str) -> Node:
        need(self.goal.op in ops, f"the goal is no {' or '.join(ops)}")
        return self.goal

    def within(self, at: Affine, size: Affine) -> None:
        room = shifted(shifted(size, -1), at, -1)
        need(follows(self.hyps, at) and follows(self.hyps, room), "an index is not in range")

    def fresh(self, name: str, mark: str = "") -> str:
        need(name != "" and (name[0] == "@") == (mark == ""), "a name is of the wrong kind")
        need(all(mark + name not in f.free for f in (*self.hyps, self.goal)), "a name is not fresh")
        return name

    def known(self, f: Node) -> None:
        """Refuse unless f is plainly true, a hypothesis, or weaker than one."""
        n, facts = form(f), set(parts(self.hyps))
        enough = [n, FALSE]
        if n.op == "le":
            enough += [make("lt", *n.args), form(eq(*n.args))]
        if n.op == "not" and n.args[0].op == "eq":
            enough += [form(lt(*n.args[0].args)), form(lt(*n.args[0].args[::-1]))]
        if n is TRUE or not facts.isdisjoint(enough):
            return
        need(n.op in ("and", "ile", "ieq"), "a side condition is not known", f)
        for g in n.args if n.op == "and" else ():
            self.known(g)
        need(n.op == "and" or all(follows(self.hyps, e) for e in both_ways(n)), "a side condition does not follow", f)

def both_ways(f: Node) -> list[Affine]:
    """What is >= 0 where an integer comparison in normal form is true."""
    return [f.args[1]] if f.op == "ile" else [f.args[1], shifted(0, f.args[1], -1)]

Rule = Callable[..., list[Goal]]
rule_cases: Rule = lambda s, formula: s.given(formula) + s.given(negated(formula))
rule_have: Rule = lambda s, formula: [Goal(s.hyps, formula), *s.given(formula)]
rule_absurd: Rule = lambda s: [Goal((*s.hyps, negated(s.goal)), FALSE)]
rule_either: Rule = lambda s, hyp: [g for part in s.hyp(hyp, "or").args for g in s.given(part)]
rule_specialise: Rule = lambda s, hyp, names, term: s.given(applied(s.hyp(hyp, "forall"), names, term))
rule_witness: Rule = lambda s, names, term: [Goal(s.hyps, applied(s.asks("exists"), names, term))]

def rule_trivial(s: Goal) -> list[Goal]:
    need(form(s.goal) is TRUE, "the goal is not plainly true", s.goal)
    return []

def rule_assumption(s: Goal, hyp: int) -> list[Goal]:
    need(form(s.hyp(hyp)) in (form(s.goal), FALSE), "the goal is not that hypothesis")
    return []

def rule_clash(s: Goal, hyp: int, other: int) -> list[Goal]:
    need(form(negated(s.hyp(hyp))) is form(s.hyp(other)), "the hypotheses do not contradict each other")
    return []

def rule_change(s: Goal, formula: Node) -> list[Goal]:
    need(form(formula) is form(s.goal), "the formula is not the goal")
    return [Goal(s.hyps, formula)]

def rule_intro(s: Goal, name: str) -> list[Goal]:
    g = s.asks("all", "forall", "implies", "not")
    if g.op == "all":
        return [Goal((*s.hyps, ilt(s.fresh(name), g.args[0])), opened(g, name))]
    if g.op == "forall":
        return [Goal(s.hyps, opened_variable(g, s.fresh(name, "$")))]
    return [Goal((*s.hyps, g.args[0]), g.args[1] if g.op == "implies" else FALSE)]

def rule_split(s: Goal) -> list[Goal]:
    g = s.asks("and", "eq")
    return [Goal(s.hyps, part) for part in (g.args if g.op == "and" else (le(*g.args), le(*g.args[::-1])))]

def rule_choose(s: Goal, part: int) -> list[Goal]:
    need(0 <= part < len(s.asks("or").args), "there is no such part")
    return [Goal(s.hyps, s.goal.args[part])]

def rule_unpack(s: Goal, hyp: int, name: str) -> list[Goal]:
    h = s.hyp(hyp, "and", "some", "exists")
    if h.op == "some":
        return s.given(ilt(s.fresh(name), h.args[0]), opened(h, name))
    return s.given(*h.args) if h.op == "and" else s.given(opened_variable(h, s.fresh(name, "$")))

def rule_instantiate(s: Goal, hyp: int, at: Affine) -> list[Goal]:
    s.within(at, s.hyp(hyp, "all").args[0])
    return s.given(opened(s.hyps[hyp], at))

def rule_point(s: Goal, at: Affine) -> list[Goal]:
    s.within(at, s.asks("some").args[0])
    return [Goal(s.hyps, opened(s.goal, at))]

def applied(f: Node, names: list[str], value: Node) -> Node:
    """The body of exists or forall with a function of the indices for the variable."""
    need(len(set(names)) == len(names) == len(f.args[0]) and all(n[:1] == "@" for n in names), "wrong indices")
    fresh = unused("$~", f.free | value.free)[1:]
    return replaced(opened_variable(f, fresh), fresh, names, value)

def rule_detach(s: Goal, hyp: int) -> list[Goal]:
    s.known(s.hyp(hyp, "implies").args[0])
    return s.given(s.hyps[hyp].args[1])

def rule_rewrite(s: Goal, hyp: int, name: str, formula: Node) -> list[Goal]:
    left, right = s.hyp(hyp, "eq").args
    need(form(replaced(formula, name, [], left)) is form(s.goal), "the pattern does not give the goal")
    return [Goal(s.hyps, replaced(formula, name, [], right))]

def rule_induction(s: Goal, name: str) -> list[Goal]:
    g = s.asks("all")
    step = ilt(shifted(s.fresh(name), 1), g.args[0])
    return [Goal(s.hyps, opened(g, 0)), Goal((*s.hyps, step, opened(g, name)), opened(g, shifted(name, 1)))]

def rule_integers(s: Goal) -> list[Goal]:
    g = form(s.goal)
    need(g.op in ("ile", "ieq", "true", "false"), "the goal is no comparison of integers")
    ends = [] if g is TRUE else [affine(-1)] if g is FALSE else both_ways(g)
    need(all(follows(s.hyps, e) for e in ends), "it does not follow from the integer hypotheses")
    return []

def rule_size(s: Goal, at: Affine) -> list[Goal]:
    need(follows(s.hyps, at), "it is not known to be >= 0")
    return s.given(le(0, integer(at)))

def value(f: Node) -> tuple[str, Poly]:
    """A comparison as what is >= 0 (le), > 0 (lt) or 0 (eq): right - left."""
    f = f if f.op in SIGNS and f.op != "ne" else form(f)
    need(f.op in SIGNS, "a hypothesis is no comparison")
    if f.op in ("le", "lt", "eq"):
        return f.op, plus(poly(f.args[1]), poly(f.args[0]), -1)
    return "eq" if f.op == "ieq" else "le", size_poly(shifted(shifted(f.args[1], f.args[0], -1), -(f.op == "ilt")))

def rule_arith(s: Goal, sum: list[tuple[Fraction, list[int], list[Node]]], zero: list[tuple[int, Node]]) -> list[Goal]:
    op, left = ("lt", {}) if s.goal is FALSE else value(s.asks("le", "lt", "eq"))
    strict = False
    for c, hyps, squares in sum:
        facts = [value(s.hyp(h)) for h in hyps]
        need(c > 0 and op != "eq", "a coefficient is not positive, or not allowed for an equation")
        strict |= not squares and all(kind == "lt" for kind, _ in facts)
        p = pconst(c)
        for q in [*(p for _, p in facts), *(poly(t) for t in squares for _ in range(2))]:
            p = pmul(p, q)
        left = plus(left, p, -1)
    for h, t in zero:
        kind, p = value(s.hyp(h))
        need(kind == "eq", f"hypothesis {h} is no equation")
        left = plus(left, pmul(p, poly(t)), -1)
    need(not left, "the identity does not hold, left over is", node_of(left) if left else None)
    need(strict or op != "lt", "nothing in the sum is strictly positive")
    return []

def taylor(t: Node, k: Node) -> Node:
    need(k.op == "const" and k.args[0].denominator == 1 and 0 <= k.args[0] <= 32, "a Taylor degree is out of range")
    return add(*(mul(Fraction(1, factorial(i)), power(t, i)) for i in range(int(k.args[0]) + 1)))

def parity(k: Node, odd: int) -> Node:
    return TRUE if k.op == "const" and k.args[0] % 2 == odd else FALSE

def where(t: Node) -> tuple[Node, ...]:
    need(t.op == "ite", "the term is no ite")
    return t.args

# name: (condition, conclusion) of the terms
AXIOMS: dict[str, Callable[..., tuple[Node, Node]]] = {
    "exp_positive": lambda t: (TRUE, lt(0, exp(t))),
    "exp_tangent": lambda t: (TRUE, le(add(1, t), exp(t))),
    "exp_tangent_strict": lambda t: (ne(t, 0), lt(add(1, t), exp(t))),
    "exp_monotone": lambda s, t: (le(s, t), le(exp(s), exp(t))),
    "exp_strict": lambda s, t: (lt(s, t), lt(exp(s), exp(t))),
    "exp_odd_taylor": lambda t, k: (parity(k, 1), le(taylor(t, k), exp(t))),
    "exp_taylor": lambda t, k: (le(0, t), le(taylor(t, k), exp(t))),
    "exp_even_taylor": lambda t, k: (conj(le(t, 0), parity(k, 0)), le(exp(t), taylor(t, k))),
    "exp_log": lambda t: (lt(0, t), eq(exp(log(t)), t)),
    "log_monotone": lambda s, t: (conj(lt(0, s), le(s, t)), le(log(s), log(t))),
    "log_strict": lambda s, t: (conj(lt(0, s), lt(s, t)), lt(log(s), log(t))),
    "log_tangent": lambda t: (lt(0, t), le(log(t), sub(t, 1))),
    "log_product": lambda s, t: (conj(lt(0, s), lt(0, t)), eq(log(mul(s, t)), add(log(s), log(t)))),
    "log_inv": lambda t: (lt(0, t), eq(log(inv(t)), neg(log(t)))),
    "sqrt_nonnegative": lambda t: (TRUE, le(0, sqrt(t))),
    "sqrt_positive": lambda t: (lt(0, t), lt(0, sqrt(t))),
    "sqrt_square": lambda t: (le(0, t), eq(power(sqrt(t), 2), t)),
    "sqrt_monotone": lambda s, t: (le(s, t), le(sqrt(s), sqrt(t))),
    "sqrt_strict": lambda s, t: (conj(le(0, s), lt(s, t)), lt(sqrt(s), sqrt(t))),
    "sqrt_product": lambda s, t: (conj(le(0, s), le(0, t)), eq(sqrt(mul(s, t)), mul(sqrt(s), sqrt(t)))),
    "sqrt_of_square": lambda t: (TRUE, eq(sqrt(power(t, 2)), absolute(t))),
    "inv_cancel": lambda t: (ne(t, 0), eq(mul(t, inv(t)), 1)),
    "inv_positive": lambda t: (lt(0, t), lt(0, inv(t))),
    "inv_nonnegative": lambda t: (le(0, t), le(0, inv(t))),
    "inv_antitone": lambda s, t: (conj(lt(0, s), le(s, t)), le(inv(t), inv(s))),
    "inv_strict": lambda s, t: (conj(lt(0, s), lt(s, t)), lt(inv(t), inv(s))),
    "erf_range": lambda t: (TRUE, conj(lt(-1, erf(t)), lt(erf(t), 1))),
    "erf_monotone": lambda s, t: (le(s, t), le(erf(s), erf(t))),
    "erf_strict": lambda s, t: (lt(s, t), lt(erf(s), erf(t))),
    "trig_unit": lambda t: (TRUE, eq(add(power(sin(t), 2), power(cos(t), 2)), 1)),
    "sin_range": lambda t: (TRUE, conj(le(-1, sin(t)), le(sin(t), 1))),
    "cos_range": lambda t: (TRUE, conj(le(-1, cos(t)), le(cos(t), 1))),
    "sin_below": lambda t: (le(0, t), le(sin(t), t)),
    "cos_parabola": lambda t: (TRUE, le(sub(1, mul(Fraction(1, 2), power(t, 2))), cos(t))),
    "sin_sum": lambda s, t: (TRUE, eq(sin(add(s, t)), add(mul(sin(s), cos(t)), mul(cos(s), sin(t))))),
    "cos_sum": lambda s, t: (TRUE, eq(cos(add(s, t)), sub(mul(cos(s), cos(t)), mul(sin(s), sin(t))))),
    "max_cases": lambda s, t: (TRUE, disj(conj(le(t, s), eq(maximum(s, t), s)), conj(le(s, t), eq(maximum(s, t), t)))),
    "max_bounds": lambda s, t: (TRUE, conj(le(s, maximum(s, t)), le(t, maximum(s, t)))),
    "max_left": lambda s, t: (le(t, s), eq(maximum(s, t), s)),
    "max_least": lambda s, t, c: (conj(le(s, c), le(t, c)), le(maximum(s, t), c)),
    "where_true": lambda t: (where(t)[0], eq(t, where(t)[1])),
    "where_false": lambda t: (negated(where(t)[0]), eq(t, where(t)[2])),
    "where_cases": lambda t: (TRUE, disj(conj(where(t)[0], eq(t, where(t)[1])),
                                         conj(negated(where(t)[0]), eq(t, where(t)[2])))),
}

def rule_axiom(s: Goal, name: str, terms: list[Node]) -> list[Goal]:
    need(name in AXIOMS and AXIOMS[name].__code__.co_argcount == len(terms), "no such axiom")
    condition, conclusion = AXIOMS[name](*terms)
    s.known(condition)
    return s.given(conclusion)

def compared(s: Goal, hyp: int, ops: tuple[str, ...]) -> tuple[str, Affine, bool, str, Node, Node]:
    """Of a hypothesis all i < n: a <= b its comparison, n, whether n >= 1 is known, a name for i, a, b."""
    h = s.hyp(hyp, "all")
    name = unused("@:", h.free)
    body, occupied = opened(h, name), follows(s.hyps, shifted(h.args[0], -1))
    need(body.op in ops, "the hypothesis compares no terms")
    return "le" if body.op == "lt" and not occupied else body.op, h.args[0], occupied, name, *body.args

def rule_sum_compare(s: Goal, hyp: int) -> list[Goal]:
    op, size, _, i, a, b = compared(s, hyp, ("le", "lt", "eq"))
    return s.given(make(op, total(i, size, a), total(i, size, b)))

def rule_sum_member(s: Goal, hyp: int, at: Affine) -> list[Goal]:
    _, size, _, i, a, b = compared(s, hyp, ("le", "lt"))
    s.within(at, size)
    return s.given(le(substitute(sub(b, a), {i: at}), sub(total(i, size, b), total(i, size, a))))

def rule_bigmax_compare(s: Goal, hyp: int) -> list[Goal]:
    op, size, occupied, i, a, b = compared(s, hyp, ("le", "lt", "eq"))
    return s.given(make(op, bigmax(i, size, a), b if occupied and i not in b.free else bigmax(i, size, b)))

def binder(t: Node, op: str) -> Affine:
    need(t.op == op, f"the term is no {op}")
    return t.args[0]

def rule_bigmax_member(s: Goal, term: Node, at: Affine) -> list[Goal]:
    s.within(at, binder(term, "bigmax"))
    return s.given(le(opened(term, at), term))

def rule_bigmax_attained(s: Goal, term: Node, name: str) -> list[Goal]:
    need(follows(s.hyps, shifted(binder(term, "bigmax"), -1)), "there may be no index")
    need(s.fresh(name) not in term.free, "a name is not fresh")
    return s.given(ilt(name, term.args[0]), eq(term, opened(term, name)))

def rule_sum_split(s: Goal, term: Node, at: Affine) -> list[Goal]:
    rest, i = shifted(binder(term, "sum"), at, -1), unused("@:", {*term.free, *(n for n, _ in at.terms)})
    need(follows(s.hyps, at) and follows(s.hyps, rest), "the place is not in the sum")
    return s.given(eq(term, add(total(i, at, opened(term, i)), total(i, rest, opened(term, shifted(at, i))))))

def rule_sum_reverse(s: Goal, term: Node) -> list[Goal]:
    size, i = binder(term, "sum"), unused("@:", term.free)
    return s.given(eq(term, total(i, size, opened(term, shifted(shifted(size, -1), i, -1)))))

def rule_sum_pick(s: Goal, term: Node, at: Affine, hyp: int) -> list[Goal]:
    s.within(at, binder(term, "sum"))
    i = unused("@:", {*term.free, *(n for n, _ in at.terms)})
    zero = every(i, term.args[0], disj(ieq(i, at), eq(opened(term, i), 0)))
    need(form(s.hyp(hyp)) is form(zero), "the hypothesis does not say that the other terms are 0")
    return s.given(eq(term, opened(term, at)))

def rule_unroll(s: Goal, term: Node) -> list[Goal]:
    need(term.op in ("sum", "bigmax") and not term.args[0].terms, "the term is no sum or bigmax over an integer size")
    size = term.args[0].const
    need((0 if term.op == "sum" else 1) <= size <= 150, "there is nothing to unroll, or too much")
    each = [opened(term, k) for k in range(size)]
    right = add(*each) if term.op == "sum" else each[0]
    for e in each[1:] if term.op == "bigmax" else ():
        right = maximum(right, e)
    return s.given(eq(term, right))

def rule_interval(s: Goal, terms: list[Node], lo: list[Fraction], hi: list[Fraction], pieces: int) -> list[Goal]:
    need(0 < len(terms) == len(lo) == len(hi), "terms and ends do not match")
    for t, low, high in zip(terms, lo, hi, strict=True):
        s.known(le(low, t))
        s.known(le(t, high))
    start = list(zip(lo, hi, strict=True))
    boxes, goal = [start], s.asks("le", "lt")
    BITS[0] = 64
    while boxes:
        pieces, box = pieces - 1, boxes.pop()
        need(pieces >= 0, "it is not shown by that many pieces")
        try:
            if Values(dict(zip(terms, box, strict=True))).holds(goal):
                continue
        except Rejected:  # a division by what may be 0, a logarithm: smaller boxes may do
            spend(1)
        wide = max(range(len(box)), key=lambda k: (box[k][1] - box[k][0]) / ((start[k][1] - start[k][0]) or 1))
        low, high = box[wide]
        need((high - low) * 2**64 > start[wide][1] - start[wide][0], "it is not shown on a very small piece")
        boxes += [[*box[:wide], half, *box[wide + 1 :]] for half in ((low, (low + high) / 2), ((low + high) / 2, high))]
    return []

RULES: dict[str, Rule] = {name[5:]: rule for name, rule in list(globals().items()) if name.startswith("rule_")}

def run(goal: Goal, steps: Iterable[tuple[str, dict[str, Any]]]) -> int:
    """Apply steps in preorder; all goals must be closed by exactly these. The number of steps."""
    left, count = [goal], 0
    for name, values in steps:
        need(bool(left), "steps are left over")
        try:
            left += RULES[name](left.pop(), **values)[::-1]
        except Rejected as error:
            raise Rejected(f"step {count} ({name}): {error}") from None
        count += 1
    need(not left, f"{len(left)} goals are left open")
    return count

# --- Enclosures: intervals of rationals, exact while that is cheap ----------------------------------------------------
Ends = tuple[Fraction, Fraction]

def outward(lo: Fraction, hi: Fraction) -> Ends:
    """The same, or a little wider if the numbers are long."""
    bits = 4 * BITS[0]
    if lo.denominator.bit_length() > bits or hi.denominator.bit_length() > bits:
        lo = Fraction((lo.numerator << bits) // lo.denominator, 1 << bits)
        hi = -Fraction((-hi.numerator << bits) // hi.denominator, 1 << bits)
    need(lo.numerator.bit_length() + hi.numerator.bit_length() < MAX_BITS << 3, "a number is too large")
    return lo, hi

def series(first: Fraction, ratio: Callable[[int], Fraction], alternate: bool, bits: int) -> Ends:
    """t_0 + t_1 + ... with t_0 = first >= 0, t_(i+1) = ratio(i) t_i, or with alternating signs.

    ratio >= 0, and once it is <= 1/2 it stays so: the terms that are left are at most as much as the last.
    """
    low, high = (first.numerator << bits) // first.denominator, -((-first.numerator << bits) // first.denominator)
    below, above, i, r = low, high, 0, ratio(0)
    while high > 1 or 2 * r > 1:
        low, high = low * r.numerator // r.denominator, -(-high * r.numerator // r.denominator)
        i, r = i + 1, ratio(i + 1)
        below, above = (below - high, above - low) if alternate and i % 2 else (below + low, above + high)
        spend(1 + bits // 256)
    return Fraction(below - high, 1 << bits), Fraction(above + high, 1 << bits)

def exp_ends(x: Fraction) -> Ends:
    if not x:
        return Fraction(1), Fraction(1)
    if x < 0:
        low, high = exp_ends(min(-x, Fraction(8192)))
        return outward(1 / high, 1 / low) if x >= -8192 else (Fraction(0), 1 / low)
    need(x <= 8192, "exp of more than 8192")
    halvings = int(x).bit_length() + 1
    bits = BITS[0] + 2 * halvings + 16
    low, high = series(Fraction(1), lambda i: x / (1 << halvings) / (i + 1), False, bits)
    for _ in range(halvings):
        low = Fraction(int(low * low * (1 << bits)), 1 << bits)
        high = Fraction(int(high * high * (1 << bits)) + 1, 1 << bits)
    return low, high

def artanh_ends(z: Fraction) -> Ends:
    """artanh(z) for 0 <= z <= 1/3."""
    return series(z, lambda i: z * z * Fraction(2 * i + 1, 2 * i + 3), False, BITS[0] + 16)

def log_ends(x: Fraction) -> Ends:
    need(x > 0, "log of what may not be positive")
    twos = x.numerator.bit_length() - x.denominator.bit_length()
    m = x / Fraction(2) ** twos  # 1/2 < m < 2
    low, high = artanh_ends(abs(m - 1) / (m + 1))
    low, high = (low, high) if m >= 1 else (-high, -low)
    two = [twos * end for end in artanh_ends(Fraction(1, 3))]
    return 2 * (low + min(two)), 2 * (high + max(two))

def sqrt_ends(x: Fraction) -> Ends:
    if x <= 0:
        return Fraction(0), Fraction(0)
    exact, half = root_of(x), BITS[0] + x.denominator.bit_length()
    low = isqrt((x.numerator << 2 * half) // x.denominator)
    return (exact, exact) if exact is not None else (Fraction(low, 1 << half), Fraction(low + 1, 1 << half))

def erf_ends(z: Fraction) -> Ends:
    if z < 0:
        low, high = erf_ends(-z)
        return -high, -low
    if z > 12:  # 1 - erf(z) <= exp(-z^2) for z >= 0, and that falls
        return 1 - exp_ends(-min(z, Fraction(64)) ** 2)[1], Fraction(1)
    bits = BITS[0] + 2 * int(z * z) + 32
    low, high = series(z, lambda i: z * z * Fraction(2 * i + 1, (i + 1) * (2 * i + 3)), True, bits)
    fifth, small = (series(Fraction(1, n), lambda i, n=n: Fraction(2 * i + 1, n * n * (2 * i + 3)), True, bits)
                    for n in (5, 239))  # pi / 4 = 4 arctan(1/5) - arctan(1/239)
    least, most = sqrt_ends(16 * fifth[0] - 4 * small[1])[0], sqrt_ends(16 * fifth[1] - 4 * small[0])[1]
    return 2 * max(low, Fraction(0)) / most, min(2 * high / least, Fraction(1))

def trig_ends(op: str, x: Fraction) -> Ends:
    z, odd = abs(x), int(op == "sin")
    need(z <= 256, f"{op} of more than 256")
    low, high = series(z if odd else Fraction(1), lambda i: z * z / ((2 * i + 1 + odd) * (2 * i + 2 + odd)), True,
                       BITS[0] + 3 * int(z) + 16)
    return (-high, -low) if odd and x < 0 else (low, high)

def image(op: str, a: Ends) -> Ends:
    """An enclosure of a function over an interval."""
    low, high = a
    if op == "inv":
        need(low > 0 or high < 0 or low == high, "a division by what may be 0")
        return (1 / high, 1 / low) if low or high else a
    if op in ("sin", "cos"):  # they change by at most as much as the argument
        middle, radius = (low + high) / 2, (high - low) / 2
        least, most = trig_ends(op, middle)
        return max(least - radius, Fraction(-1)), min(most + radius, Fraction(1))
    at = {"exp": exp_ends, "log": log_ends, "sqrt": sqrt_ends, "erf": erf_ends}[op]
    return at(low)[0], at(high)[1]

class Values:
    """Enclosures of terms and truth of formulas, where sizes are integers and some terms lie in given intervals."""
    def __init__(self, known: Mapping[Node, Ends], entry: Callable[[Node], Ends] | None = None) -> None:
        self.found: dict[Node, Ends] = dict(known)
        self.truth: dict[Node, bool | None] = {}
        self.entry = entry

    def of(self, t: Node) -> Ends:
        """An enclosure of a term."""
        if t not in self.found:
            spend(4)
            self.found[t] = outward(*self.compute(t))
        return self.found[t]

    def each(self, t: Node) -> Iterable[Node]:
        """The bodies of a binder."""
        size = integral(t.args[0])
        spend(max(size, 0))
        return [opened(t, k) for k in range(size)]

    def compute(self, t: Node) -> Ends:
        op, args = t.op, t.args
        if op in ("const", "int"):
            number = args[0] if op == "const" else Fraction(integral(args[0]))
            return number, number
        if op == "var":
            if self.entry is None:
                raise Rejected("a term is in no interval")
            return self.entry(t)
        if op == "pow":
            low, high = self.of(args[0])
            ends = sorted((low ** args[1], high ** args[1]))
            return Fraction(0) if low < 0 < high and args[1] % 2 == 0 < args[1] else ends[0], ends[1]
        if op == "mul":
            result = [Fraction(1), Fraction(1)]
            for a in args:
                ends = self.of(a)
                corners = [x * y for x in result for y in ends]
                result = list(outward(min(corners), max(corners)))
            return result[0], result[1]
        if op == "ite":
            truth = self.holds(args[0])
            args = args[1:] if truth is None else args[1:2] if truth else args[2:]
        if op in ("add", "sum", "ite", "max", "bigmax"):
            each = [self.of(a) for a in (self.each(t) if op in ("sum", "bigmax") else args)]
            low, high = zip(*each, strict=True) if each else ((Fraction(0),), (Fraction(0),))
            if op in ("add", "sum"):
                return sum(low, Fraction(0)), sum(high, Fraction(0))
            return (min if op == "ite" else max)(low), max(high)
        need(op in FUNCTIONS, f"{op} has no value")
        return image(op, self.of(args[0]))

    def holds(self, f: Node) -> bool | None:
        """Whether a formula is certainly true, certainly false, or neither (None)."""
        if f not in self.truth:
            spend(2)
            self.truth[f] = self.judge(f)
        return self.truth[f]

    def judge(self, f: Node) -> bool | None:
        op, args = f.op, f.args
        if op in ("le", "lt", "eq", "ne"):
            (a, b), (c, d) = self.of(args[0]), self.of(args[1])
            if op in ("eq", "ne"):
                return op == "ne" if b < c or d < a else op == "eq" if a == b == c == d else None
            return True if b < c or (b == c and op == "le") else False if a > d or (a == d and op == "lt") else None
        if op in SIGNS:
            e = integral(shifted(args[1], args[0], -1))
            return e >= 0 if op == "ile" else e > 0 if op == "ilt" else e == 0
        if op == "not":
            truth = self.holds(args[0])
            return None if truth is None else not truth
        if op == "implies":
            return self.holds(disj(negated(args[0]), args[1]))
        if op in TENSORS:
            return None
        stop = op in ("or", "some", "false")  # what decides; true and false are and and or of nothing
        result: bool | None = not stop
        for g in self.each(f) if op in BINDERS else args:
            truth = self.holds(g)
            if truth is stop:
                return stop
            result = None if truth is None else result
        return result

def integral(e: Affine) -> int:
    need(not e.terms, "an index or size has no value")
    return e.const

# --- Lipschitz constants of networks ----------------------------------------------------------------------------------
def decode_float32(raw: Any) -> tuple[list[int], int]:
    """Integers and e from base64 of little-endian float32 values: they are integers / 2^e."""
    text = matched(raw, "[A-Za-z0-9+/]*={0,2}", "the weights", MAX_BYTES)[0]
    need(len(text) % 4 == 0, "the weights are not canonical base64")
    data = base64.b64decode(text)
    need(base64.b64encode(data).decode() == text and len(data) % 4 == 0, "the weights are not canonical base64")
    words = unpack(f"<{len(data) // 4}I", data)
    need(all(w & 0x7FFFFFFF < 0x7F800000 for w in words), "the weights hold a NaN or an infinity")
    values = [(w & 0x7FFFFF | 0x800000) << (w >> 23 & 0xFF) - 1 if w >> 23 & 0xFF else w & 0x7FFFFF for w in words]
    spare = min([149, *((v & -v).bit_length() - 1 for v in values if v)])
    return [(-v if w >> 31 else v) >> spare for v, w in zip(values, words, strict=True)], 149 - spare

Matrix = Sequence[Sequence[Fraction]]

class Layer(NamedTuple):
    """A matrix as rows of rationals, then an activation whose slopes are in [low, high], entry by entry."""
    rows: list[list[Fraction]]
    low: Fraction
    high: Fraction

    @property
    def steep(self) -> Fraction:
        return max(abs(self.low), abs(self.high))

def read_layer(raw: Any) -> Layer:
    fields(raw, ("shape", "slopes", "weight"), "a layer")
    shape, slopes = read("H", raw["shape"], []), read("Q", raw["slopes"], [])
    need(len(shape) == 2 and min(shape) > 0, "a shape is malformed")
    need(len(slopes) == 2 and slopes[0] <= slopes[1], "slopes are malformed")
    numbers, bits = decode_float32(raw["weight"])
    need(len(numbers) == shape[0] * shape[1], "the weights do not fit the shape")
    spend(len(numbers))
    scale, width = 1 << bits, shape[1]
    return Layer([[Fraction(v, scale) for v in numbers[i : i + width]] for i in range(0, len(numbers), width)], *slopes)

def whole(rows: Matrix) -> tuple[int, list[list[int]]]:
    """A common denominator, and the numerators."""
    den = lcm(*{x.denominator for row in rows for x in row})
    need(den.bit_length() < 4096, "a common denominator is too large")
    return den, [[x.numerator * (den // x.denominator) for x in row] for row in rows]

def inner(a: Matrix, b: Matrix) -> list[list[Fraction]]:
    """The inner products of the rows of a with those of b."""
    (over, left), (under, right) = whole(a), whole(b)
    spend(sum(map(len, left)) * len(right) // 16 + 1)
    return [[Fraction(sum(map(int.__mul__, x, y)), over * under) for y in right] for x in left]

def semidefinite(m: list[list[Fraction]]) -> bool:
    """Whether a symmetric matrix is shown to be positive semidefinite: m = r r^T + e exactly, with r lower triangular,
    found in floats and taken as it is, and e diagonally dominant with a diagonal >= 0 (Gershgorin 1931)."""
    top, n = max((m[i][i] for i in range(len(m))), default=Fraction(0)), len(m)
    if top <= 0:
        return all(not x for row in m for x in row)
    spend(n**3 // 8)
    r: list[list[float]] = []
    for i in range(n):
        r.append([])
        for j in range(i + 1):
            left = float(m[i][j] / top) - sum(map(float.__mul__, r[i], r[j]))
            if i == j and left <= 1e-13:
                return False
            r[i].append(max(left - 2.0**-36, left / 2) ** 0.5 if i == j else left / r[j][j])
    scaled_r = [[round(x * 2**60) for x in row] for row in r]
    over = [Fraction(0)] * n  # how much the diagonal of e is more than the rest of its row
    for i in range(n):
        for j in range(i + 1):
            e = m[i][j] - top * Fraction(sum(map(int.__mul__, scaled_r[i], scaled_r[j])), 1 << 120)
            over[i] += e if i == j else -abs(e)
            over[j] -= abs(e) if i != j else 0
    return all(x >= 0 for x in over)

def gram(rows: Matrix) -> list[list[Fraction]]:
    """W W^T or W^T W, the smaller: both have the same eigenvalues but for zeros."""
    rows = rows if len(rows) <= len(rows[0]) else list(zip(*rows, strict=True))
    return inner(rows, rows)

def minus_from_diagonal(square: Fraction, m: list[list[Fraction]]) -> list[list[Fraction]]:
    return [[(square if i == j else 0) - x for j, x in enumerate(row)] for i, row in enumerate(m)]

def check_lipschitz(payload: dict[str, Any]) -> list[str]:
    """That |f(x) - f(y)| <= bound |x - y| for all x, y, whatever the biases are."""
    fields(payload, ("bound", "claim", "layers", "meta", "norm", "proof", "text"), "payload")
    need(type(payload["layers"]) is list and type(payload["proof"]) is dict, "layers or proof are malformed")
    need(type(payload["meta"]) is dict and type(payload["text"]) is str, "meta is no object or text no string")
    layers, bound = [read_layer(raw) for raw in payload["layers"]], read("q", payload["bound"], [])
    norm = payload["norm"]
    need(len(layers) > 0 and bound >= 0 and norm in ("1", "2", "inf"), "no layers, a negative bound or no known norm")
    need(all(len(b.rows[0]) == len(a.rows) for a, b in pairwise(layers)), "layers do not fit")
    proof, kind = payload["proof"], payload["proof"].get("kind")
    if kind == "sums":
        fields(proof, ("kind",), "proof")
        need(norm in ("1", "inf"), "sums are for the norms 1 and inf")
        across = norm == "inf"
        sums = [Fraction(1)] * len(layers[0].rows[0] if across else layers[-1].rows)
        for w in layers if across else layers[::-1]:
            matrix = w.rows if across else list(zip(*w.rows, strict=True))
            sums = [w.steep * x for (x,) in inner([[abs(x) for x in row] for row in matrix], [sums])]
        least = max(sums)
    elif kind == "product":
        scales, least = read("Q", fields(proof, ("kind", "scales"), "proof")["scales"], []), Fraction(1)
        need(norm == "2" and len(scales) == len(layers) and min(scales) >= 0, "a scale a layer, and the norm 2")
        for k, (w, s) in enumerate(zip(layers, scales, strict=True)):
            need(semidefinite(minus_from_diagonal(s * s, gram(w.rows))), f"the norm of layer {k} is not shown")
            least *= s * w.steep
    else:
        need(kind == "lipsdp" and norm == "2", "unknown proof")
        fields(proof, ("kind", "multipliers"), "proof")
        multipliers = [read("Q", t, []) for t in elements(proof["multipliers"])]
        need([len(t) for t in multipliers] == [len(w.rows) for w in layers[:-1]], "a multiplier a neuron but the last")
        need(all(t >= 0 for ts in multipliers for t in ts), "a multiplier is negative")
        least = bound if not layers[-1].steep or semidefinite(lipsdp(layers, multipliers, bound)) else bound + 1
    need(least <= bound, f"the bound is not shown{'' if kind == 'lipsdp' else f': shown is {float(least):.9g}'}")
    listed = [f"{len(w.rows)}x{len(w.rows[0])}, slopes [{w.low}, {w.high}]" for w in layers]
    return [
        f"claim        lipschitz: |f(x) - f(y)| <= {payload['bound']} |x - y| for all x, y, in the norm {norm}",
        f"text         {payload['text'][:2000]!r}",
        f"network      {'; '.join(listed)}; sha256 {hashlib.sha256(canonical(payload['layers'])).hexdigest()}",
        f"proof        {kind}",
        "level        real: exact real arithmetic",
        "not covered  rounding in a float32 execution; whether these are the layers of the deployed network",
        "signature not checked",
    ]

def lipsdp(layers: list[Layer], multipliers: list[list[Fraction]], bound: Fraction) -> list[list[Fraction]]:
    """The matrix of L^2 |dx_0|^2 - |W dx_l|^2 - sum 2 t (dx - a v)(b v - dx), v = W dx of the layer before. Slopes in
    [a, b] make it a lower bound of L^2 |dx_0|^2 - |W dx_l|^2 (LipSDP-neuron, Fazlyab et al. 2019, arXiv 1906.04893)."""
    starts = [0]
    for w in layers:
        starts.append(starts[-1] + len(w.rows[0]))
    m = [[Fraction(0)] * starts[-1] for _ in range(starts[-1])]
    for i in range(starts[1]):
        m[i][i] = (bound / layers[-1].steep) ** 2
    for k, (w, ts) in enumerate(zip(layers, [*multipliers, [Fraction(-1, 2)] * len(layers[-1].rows)], strict=True)):
        last, at = k == len(layers) - 1, starts[k]
        columns = list(zip(*w.rows, strict=True))
        quadratic = [2 * t * (1 if last else w.low * w.high) for t in ts]
        weighted = [[q * x for q, x in zip(quadratic, column, strict=True)] for column in columns]
        for i, row in enumerate(inner(weighted, columns) if any(quadratic) else ()):
            for j, x in enumerate(row):
                m[at + i][at + j] += x
        for i, (row, t) in enumerate(zip(w.rows, ts, strict=True)) if not last else ():
            m[starts[k + 1] + i][starts[k + 1] + i] += 2 * t
            for j, x in enumerate(row):
                m[starts[k + 1] + i][at + j] = m[at + j][starts[k + 1] + i] = -(w.low + w.high) * t * x
    n, square = starts[1], m[0][0]
    if len(layers) == 1 or square <= 0 or layers[0].low * layers[0].high:
        return m
    lower = [row[:n] for row in m[n:]]  # the block of dx_0 is square * identity: its Schur complement will do
    taken = inner(lower, lower)
    return [[x - taken[i][j] / square for j, x in enumerate(row[n:])] for i, row in enumerate(m[n:])]

# --- The file ---------------------------------------------------------------------------------------------------------
def parse_json(text: str) -> Any:
    try:
        return json.loads(text, parse_float=int, parse_constant=int)  # int("1.5") and int("NaN") raise ValueError
    except (ValueError, RecursionError) as error:
        raise Unreadable(f"not JSON as the format asks: {str(error)[:200]!r}") from None

def canonical(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode("ascii")

def open_envelope(data: bytes) -> dict[str, Any]:
    """The payload of a derivation, after its form and digest were checked."""
    if len(data) > MAX_BYTES or not data.isascii():
        raise Unreadable("the file is too large or not ASCII")
    whole = parse_json(data.decode("ascii"))
    if type(whole) is not dict or whole.get("format") != "axiom-derivation" or whole.get("version") != 1:
        raise Unreadable("this is no axiom-derivation of version 1")
    if type(whole.get("payload")) is not dict or type(whole.get("digest")) is not str:
        raise Unreadable("the payload is no object or the digest no string")
    frame, body = b'{"digest":%b,"format":"axiom-derivation","payload":%b,"version":1}', canonical(whole["payload"])
    if data.removesuffix(b"\n") != frame % (canonical(whole["digest"]), body):  # so no key is missing, added or double
        raise Unreadable("the file is not in canonical form")
    need(hashlib.sha256(body).hexdigest() == whole["digest"], "the digest does not match the payload")
    return whole["payload"]

def fields(value: Any, keys: Iterable[str], what: str) -> dict[str, Any]:
    need(type(value) is dict and set(value) == set(keys), f"{what} must have the keys {', '.join(sorted(keys))}")
    return value

def elements(value: Any) -> list[Any]:
    need(type(value) is list and len(value) <= 1 << 20, "a list was expected, or it is too long")
    return value

def matched(value: Any, pattern: str, what: str, longest: int = 2000) -> re.Match[str]:
    match = re.fullmatch(pattern, value, re.ASCII) if type(value) is str and len(value) <= longest else None
    if match is None:
        raise Rejected(f"{what} is not written as the format asks")
    return match

# kinds of fields as in `read`; those of an entry of `terms`, where a last capital is that kind any number of times, and
# those of a step
SHAPES = {"const": "q", "int": "e", "var": "vE", "add": "T", "mul": "T", "pow": "th", "max": "tt", "ite": "ftt",
          "apply": "vT", "sum": "eit", "bigmax": "eit", "le": "tt", "lt": "tt", "eq": "tt", "ne": "tt", "ile": "ee",
          "ilt": "ee", "ieq": "ee", "and": "F", "or": "F", "not": "f", "implies": "ff", "all": "eif", "some": "eif",
          "exists": "vLf", "forall": "vLf", "true": "", "false": "", **dict.fromkeys(FUNCTIONS, "t")}
STEPS = {"hyp": "h", "other": "h", "part": "h", "pieces": "h", "at": "e", "formula": "f", "term": "t", "terms": "R",
         "name": "n", "names": "I", "lo": "Q", "hi": "Q", "sum": "S", "zero": "Z"}
LISTS = {"S": "qHR", "Z": "ht", "L": "e", "Q": "q", "I": "i", "H": "h", "R": "t"}  # S, Z: lists of lists
WORD = "[A-Za-z][A-Za-z0-9_]{0,63}"
NAMES = {"i": "@" + WORD, "v": WORD, "n": f"(?:@?{WORD})?"}

def read(kind: str, raw: Any, table: list[Node]) -> Any:
    """A field: q rational, e index expression, i index, v variable, n any name or "", h count, t term, f formula."""
    if kind in "SZ":
        need(all(len(elements(x)) == len(LISTS[kind]) for x in elements(raw)), "a part of a sum is malformed")
        return [tuple(read(k, y, table) for k, y in zip(LISTS[kind], x, strict=True)) for x in raw]
    if kind in LISTS:
        return [read(LISTS[kind], x, table) for x in elements(raw)]
    if kind == "q":
        match = matched(raw, "(0|-?[1-9][0-9]*)(?:/([1-9][0-9]*))?", "a rational")
        q = Fraction(int(match[1]), int(match[2] or 1))
        need(str(q) == raw, "a rational is not in lowest terms")
        return q
    if kind == "e":
        need(len(elements(raw)) > 0 and type(raw[0]) is int, "an index expression is malformed")
        need(all(type(x) is list and len(x) == 2 and type(x[1]) is int for x in raw[1:]), "an index is malformed")
        result = shifted(0, raw[0])
        for name, k in raw[1:]:
            result = shifted(result, matched(name, "@?" + WORD, "a name")[0], k)
        return result
    if kind in NAMES:
        return matched(raw, NAMES[kind], "a name")[0]
    need(type(raw) is int and 0 <= raw < (len(table) if kind in "tf" else 1 << 31), "a number is out of range")
    return raw if kind == "h" else (term if kind == "t" else formula)(table[raw])

def decode(raw: Any, table: list[Node], ranks: Mapping[str, int]) -> Node:
    """An entry of `terms`; operands are earlier entries."""
    op = raw[0] if type(raw) is list and raw and type(raw[0]) is str else ""
    need(op in SHAPES, "an entry of terms is unknown")
    shape = SHAPES[op]
    if shape[-1:] in ("E", "T", "F"):
        shape = shape[:-1] + shape[-1].lower() * (len(raw) - len(shape))
    need(len(raw) == len(shape) + 1, "an entry of terms has the wrong length")
    args = [read(kind, x, table) for kind, x in zip(shape, raw[1:], strict=True)]
    if op in BINDERS or op in TENSORS:
        return (bind if op in BINDERS else quantify)(op, *args)
    need(op != "var" or ranks.get(args[0], len(args) - 1) == len(args) - 1, "a variable has another number of indices")
    return power(*args) if op == "pow" else make(op, *args)

def read_step(raw: Any, table: list[Node]) -> tuple[str, dict[str, Any]]:
    name = str(raw.get("rule")) if type(raw) is dict else ""
    need(name in RULES and raw["rule"] == name, "a rule is unknown")
    code = RULES[name].__code__
    keys = code.co_varnames[1 : code.co_argcount]
    fields(raw, ("rule", *keys), f"a step {name}")
    return name, {key: read(STEPS[key], raw[key], table) for key in keys}

def check_point(payload: dict[str, Any], shapes: dict[str, list[Affine]], hyps: list[Node], goal: Node) -> str:
    """A point where all hypotheses hold and the goal does not."""
    proof = fields(payload["proof"], ("bits", "sizes", "values"), "proof")
    sizes = fields(proof["sizes"], payload["sizes"], "sizes")
    need(all(type(n) is int and 1 <= n <= 1 << 20 for n in sizes.values()), "a size is not an integer in its range")
    need(type(proof["bits"]) is int and 32 <= proof["bits"] <= 2048, "bits are not in their range")
    BITS[0], at = proof["bits"], {name: affine(n) for name, n in sizes.items()}
    axes = {x: [max(integral(substitute(integer(e), at).args[0]), 0) for e in shape] for x, shape in shapes.items()}
    entries = {x: read("Q", raw, []) for x, raw in fields(proof["values"], shapes, "values").items()}
    for x, shape in axes.items():
        count = 1
        for n in shape:
            count = min(count * n, 1 << 21)
        need(len(entries[x]) == count, "a variable has the wrong number of values")
    def entry(t: Node) -> Ends:
        place = 0
        for e, n in zip(t.args[1:], axes[t.args[0]], strict=True):
            need(0 <= integral(e) < n, "an index is out of range")
            place = place * n + e.const
        return entries[t.args[0]][place], entries[t.args[0]][place]
    values = Values({}, entry)
    for k, h in enumerate(hyps):
        need(values.holds(substitute(h, at)) is True, f"hypothesis {k} does not certainly hold at the point")
    need(values.holds(substitute(goal, at)) is False, "the goal is not certainly false at the point")
    return f"evaluated at a rational point, {', '.join(f'{n} = {k}' for n, k in sorted(sizes.items())) or 'no sizes'}"

def judge(data: bytes) -> list[str]:
    """Check everything; what was proved, in words."""
    payload = open_envelope(data)
    if payload.get("claim") == "lipschitz":
        return check_lipschitz(payload)
    keys = ("claim", "goal", "hypotheses", "meta", "proof", "sizes", "terms", "text", "variables")
    fields(payload, keys, "payload")
    need(type(payload["meta"]) is dict and type(payload["text"]) is str, "meta is no object or text no string")
    sizes = [read("v", name, []) for name in elements(payload["sizes"])]
    shapes: dict[str, list[Affine]] = {}
    for raw in elements(payload["variables"]):
        name = read("v", fields(raw, ("name", "shape"), "a variable")["name"], [])
        need(name not in shapes, "a variable is declared twice")
        shapes[name] = read("L", raw["shape"], [])
    need(len(set(sizes)) == len(sizes), "a size is declared twice")
    table: list[Node] = []
    for raw in elements(payload["terms"]):
        table.append(decode(raw, table, {name: len(shape) for name, shape in shapes.items()}))
    hyps, goal = [read("f", k, table) for k in elements(payload["hypotheses"])], read("f", payload["goal"], table)
    declared = {*sizes, *("$" + name for name in shapes)}
    free = {n for f in (*hyps, goal) for n in f.free} | {n for s in shapes.values() for e in s for n, _ in e.terms}
    need(free <= declared, "the statement uses a name that it does not declare")
    if payload["claim"] == "holds":
        count = run(Goal(tuple(hyps), goal), (read_step(raw, table) for raw in elements(payload["proof"])))
        what, how = "for all sizes >= 1 and all real values, the hypotheses imply the goal", f"{count} steps"
    else:
        need(payload["claim"] == "violated", "unknown claim")
        how = check_point(payload, shapes, hyps, goal)
        what = "there are sizes and real values where the hypotheses hold and the goal does not"
    tensors = [f"{x}[{', '.join(map(show_index, shape))}]" for x, shape in shapes.items()]
    listed = canonical([payload[key] for key in ("sizes", "variables", "hypotheses", "goal", "terms")])
    return [
        f"claim        {payload['claim']}: {what}",
        f"text         {payload['text'][:2000]!r}",
        f"sizes        {', '.join(sizes) or 'none'}",
        f"variables    {', '.join(tensors) or 'none'}",
        *(f"hypothesis   {show(h)[:2000]}" for h in hyps),
        f"goal         {show(goal)[:2000]}",
        f"statement    sha256 {hashlib.sha256(listed).hexdigest()}",
        f"proof        {how}",
        "level        real: exact real arithmetic",
        "not covered  rounding in a float32 execution; whether the formulas mean what the text says",
        "signature not checked",
    ]

class Verdict(NamedTuple):
    accepted: bool
    code: int
    reason: str
    lines: list[str]

def check(data: bytes) -> Verdict:
    """Judge the bytes of a derivation. It raises nothing."""
    before, WORK[0] = WORK[0], MAX_WORK
    try:
        return Verdict(True, 0, "", judge(data))
    except (Unreadable, Rejected) as error:
        return Verdict(False, 2 if isinstance(error, Unreadable) else 1, repr(str(error))[1:-1][:1000], [])
    except Exception as error:
        return Verdict(False, 1, f"the checker could not finish: {type(error).__name__} {str(error)[:200]!r}", [])
    finally:
        WORK[0] = before

def main(paths: list[str]) -> int:
    if not paths or any(path.startswith("-") for path in paths):
        print("usage: python -I -S derivation_checker.py FILE...", file=sys.stderr)
        return 2
    worst = 0
    for path in paths:
        try:
            with open(path, "rb") as file:
                result = check(file.read(MAX_BYTES + 1))
        except (OSError, ValueError, MemoryError):
            result = Verdict(False, 2, "the file cannot be read", [])
        verdict = ["accepted", f"rejected: {result.reason}", f"unreadable: {result.reason}"][result.code]
        print("\n".join([f"{path!r}:"] * (len(paths) > 1) + [verdict, *result.lines]))
        worst = max(worst, result.code)
    return worst

if __name__ == "__main__":
    sys.stdout = open(1, "w", encoding="utf-8", errors="backslashreplace", closefd=False)
    sys.exit(main(sys.argv[1:]))
