"""Which products of facts may take part in a proof: those with a monomial that the claim has, round by round.

Sums enter by a generic index: what holds of the bodies at every index is summed, so one linear program chooses both the
inequality to prove for each index and what to do with its sum (Cauchy-Schwarz and Gibbs come out as such choices).
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import isqrt

from axiom_jax.verification import derivation_checker as kernel
from axiom_jax.verification.derivation_checker import Affine, Mono, Node, Poly
from axiom_jax.verification.domains.symbolic import arithmetic
from axiom_jax.verification.domains.symbolic.facts import Side, axiom, divide, expand, plainly, slopes
from axiom_jax.verification.domains.symbolic.sequents import Context, Fact, Hypothesis, Step

MAX_ELEMENTS = 500
MAX_TERMS = 60  # of one product
LIMITS = {0: (40, 20, 0), 1: (120, 120, 0), 2: (260, 260, 1)}  # cofactors, pairs, generic depth bonus: by effort


@dataclass(eq=False)
class Element:
    """A product of facts, squares and, for equations, any multiplier."""

    poly: Poly
    strict: bool
    facts: tuple[Fact, ...]
    squares: tuple[Node, ...] = ()
    multiplier: Node | None = None  # the fact is an equation, and this is what it is multiplied by

    def step(self, coefficient: Fraction) -> tuple[list, list]:
        """Entries of the kernel's `sum` and `zero`."""
        hyps = [f.hypothesis() for f in self.facts]
        if self.multiplier is not None:
            return [], [[hyps[0], kernel.normal(kernel.mul(coefficient, self.multiplier))]]
        return [[coefficient, hyps, list(self.squares)]], []


def contradiction(context: Context, goal: Poly, side: Side, effort: int) -> tuple[list, list] | None:
    """Entries of `arith` that derive 0 < 0 from the facts of a context; `goal` says which monomials matter."""
    expand(context, [goal], side, rounds=1 + (effort > 0), pairs=effort > 0)
    if effort > 1:
        slopes(context, goal)
        for e in [kernel.exponent(m) for m in goal if kernel.exponent(m)][:2]:
            slopes(context, kernel.pmul(goal, kernel.exponential(kernel.plus({}, e, -1))))
    elements = gather(context, goal, side, effort)
    return solve({}, elements, strict=True, context=context)


def solve(target: Poly, elements: Sequence[Element], strict: bool, context: Context) -> tuple[list, list] | None:
    """The target as a combination of elements: the entries of an `arith` step."""
    context.budget.check()
    sums = [e for e in elements if e.multiplier is None]
    zeros = [e for e in elements if e.multiplier is not None]
    found = arithmetic.combination(target, [e.poly for e in sums], [e.poly for e in zeros],
                                   [e.strict for e in sums] if strict else None)
    if found is None:
        return None
    add, zero = [], []
    for k, c in found.nonnegative.items():
        add += sums[k].step(c)[0]
    for k, c in found.equations.items():
        zero += zeros[k].step(c)[1]
    return add, zero


def gather(context: Context, goal: Poly, side: Side, effort: int, nesting: int = 2) -> list[Element]:
    """Products of what is known, with monomials of the goal; more of them at higher effort."""
    cofactors, pairs, _ = LIMITS[effort]
    facts = _distinct(context.every_fact())
    bounds = [f for f in facts if f.kind in ("le", "lt")]
    equations = [f for f in facts if f.kind == "eq"]
    elements = [Element({(): Fraction(1)}, True, ())]
    elements += [Element(f.poly, f.kind == "lt", (f,)) for f in bounds]
    elements += [Element(f.poly, False, (f,), multiplier=kernel.ONE) for f in equations]
    signs = Signs(context, bounds)
    wanted = dict.fromkeys(goal)
    for m in [*goal, *dict.fromkeys(m for f in facts for m in f.poly)]:
        if len(m) > 1 or (m and m[0][1] > 1):
            element = signs.of(m)
            if element is not None:
                elements.append(element)
    for _ in range(1 + (effort > 0)):
        context.budget.check()
        new = _multiplied(equations, bounds if effort else [], wanted, signs, cofactors)
        elements += new
        wanted |= dict.fromkeys(m for e in new for m in e.poly)
        if len(wanted) > 150:
            break
    if effort:
        elements += _pairs(bounds, wanted, pairs)
        elements += _squares(goal, context)
        if nesting:
            for size in _sizes(goal):
                elements += _summed(context, size, list(wanted)[:30], list(goal), side, effort, nesting)
    return _unique(elements)


def _distinct(facts: Iterable[Fact]) -> list[Fact]:
    seen: dict[tuple, Fact] = {}
    for f in facts:
        if f.kind in ("le", "lt", "eq") and len(f.poly) <= MAX_TERMS:
            key = (frozenset(f.poly.items()), f.kind == "eq")
            if key not in seen or (f.kind == "lt" and seen[key].kind == "le"):
                seen[key] = f
    return list(seen.values())


def _unique(elements: Iterable[Element]) -> list[Element]:
    seen: dict[tuple, Element] = {}
    for e in elements:
        if e.poly and len(e.poly) <= MAX_TERMS:
            key = (frozenset(e.poly.items()), e.multiplier is not None)
            if key not in seen or (e.strict and not seen[key].strict):
                seen[key] = e
    return list(seen.values())[:MAX_ELEMENTS * 2]


class Signs:
    """Which monomials are >= 0, and why."""

    def __init__(self, context: Context, bounds: Iterable[Fact]) -> None:
        self.context, self.single = context, {}
        for f in bounds:
            if len(f.poly) == 1:
                (m,) = f.poly
                if len(m) == 1 and m[0][1] == 1 and (m not in self.single or f.kind == "lt"):
                    self.single[m] = f

    def fact(self, a: Node) -> Fact | None:
        key = ((a, 1),)
        if key not in self.single and kernel.atom_sign(a):
            formula = kernel.lt(0, a) if kernel.atom_sign(a) == 2 else kernel.le(0, a)
            self.single[key] = plainly(self.context, formula)
        return self.single.get(key)

    def of(self, m: Mono) -> Element | None:
        """The monomial as a product of facts and squares."""
        facts, squares, strict, scale = [], [], True, Fraction(1)
        for a, k in m:
            known = self.fact(a)
            if known is not None and (k % 2 or known.kind == "lt"):
                facts += [known] * k
                strict &= known.kind == "lt"
                scale *= next(iter(known.poly.values())) ** k
            elif k % 2 == 0:
                squares.append(a if k == 2 else kernel.power(a, k // 2))
                strict = False
            else:
                return None
        return Element({m: scale}, strict, tuple(facts), tuple(squares))


def _times(e: Element, f: Fact) -> Element:
    return Element(kernel.pmul(e.poly, f.poly), e.strict and f.kind == "lt", (*e.facts, f), e.squares)


def _multiplied(equations: Sequence[Fact], bounds: Sequence[Fact], wanted: dict[Mono, None], signs: Signs,
                limit: int) -> list[Element]:
    """Facts times monomials that give a wanted monomial."""
    made: list[Element] = []
    tried: set[tuple[int, Mono]] = set()
    for f in [*equations, *(b for b in bounds if len(b.poly) > 1)]:
        count = 0
        for t in wanted:
            for m in f.poly:
                if not m or m == t:
                    continue
                c = divide(t, m)
                if not c or (id(f), c) in tried or count > 24:
                    continue
                tried.add((id(f), c))
                if f.kind == "eq":
                    node = kernel.node_of({c: Fraction(1)}, False)
                    made.append(Element(kernel.pmul(f.poly, {c: Fraction(1)}), False, (f,), multiplier=node))
                    count += 1
                elif (by := signs.of(c)) is not None:
                    e = _times(by, f)
                    if sum(m in wanted for m in e.poly) > any(a.op == "exp" for a, _ in c):
                        made.append(e)
                        count += 1
        if len(made) > limit * 3:
            break
    return made[:limit * 3]


def _pairs(bounds: Sequence[Fact], wanted: dict[Mono, None], limit: int) -> list[Element]:
    """Products of two bounds with a monomial that is wanted."""
    many = sorted((f for f in bounds if len(f.poly) > 1 and len(f.poly) <= 8), key=lambda f: len(f.poly))[:14]
    single = [f for f in bounds if len(f.poly) == 1 and next(iter(f.poly))]
    made = []
    for k, f in enumerate(many):
        for g in [*many[k:], *single[:10]]:
            p = kernel.pmul(f.poly, g.poly)
            if len(p) <= MAX_TERMS and any(m in wanted for m in p if m):
                made.append(Element(p, f.kind == g.kind == "lt", (f, g)))
            if len(made) >= limit:
                return made
    return made


def root(m: Mono) -> Mono | None:
    """The monomial whose square this is."""
    factors = []
    for a, k in m:
        if a.op == "exp":
            half = kernel.plus({}, kernel.poly(a.args[0]), Fraction(1, 2))
            factors.append((kernel.exp_atom(half), 1))
        elif k % 2:
            return None
        else:
            factors.append((a, k // 2))
    return tuple(sorted(factors, key=lambda f: f[0].key))


def _squares(goal: Poly, context: Context) -> list[Element]:
    """(r ± t s)² for monomials r², s² and r s that occur."""
    wanted = set(goal)
    roots = [r for r in dict.fromkeys(root(m) for m in [(), *goal]) if r is not None][:12]
    made = []
    for k, r in enumerate(roots):
        for s in roots[k + 1:]:
            product = kernel.monomial((*r, *s))
            if len(product) != 1 or next(iter(product)) not in wanted:
                continue
            (cross,) = product
            firsts = [goal.get(m, Fraction(0)) for q in (r, s) for m in kernel.pmul({q: Fraction(1)}, {q: Fraction(1)})]
            fitted = [goal[cross] / (2 * firsts[0])] if firsts[0] else []
            fitted += [2 * firsts[1] / goal[cross]] if firsts[1] else []
            for t in dict.fromkeys((Fraction(1), Fraction(-1), *fitted)):
                q = kernel.plus({r: Fraction(1)}, {s: Fraction(1)}, t)
                made.append(Element(kernel.pmul(q, q), False, (), (kernel.node_of(q, False),)))
        context.budget.check()
    return made


def _sizes(goal: Iterable[Mono]) -> list[Affine]:
    """The sizes of the sums in monomials."""
    return list(dict.fromkeys(a.args[0] for m in goal for a, _ in m if a.op == "sum"))[:3]


def generic(context: Context, size: Affine) -> tuple[str, Context]:
    """A context with one more index in a range, of which nothing else is known."""
    if size not in context.generics:
        name = context.fresh()
        context.generics[size] = (name, context.child([Hypothesis(kernel.ilt(name, size))]))
    return context.generics[size]


def opened_at(monos: Iterable[Mono], size: Affine, name: str) -> Iterator[Mono]:
    """Monomials with one of their sums over the range replaced by its body at an index."""
    count = ((kernel.make("int", size), 1),) if len(size.terms) == 1 and not size.const else None
    for m in monos:
        for a, _ in m:
            if a.op == "sum" and a.args[0] == size:
                rest = {tuple((b, j - (b is a)) for b, j in m if j > (b is a)): Fraction(1)}
                yield from kernel.pmul(kernel.poly(kernel.opened(a, name)), rest)
        if count is not None:
            c = divide(m, count)
            if c:
                yield c


def _summed(context: Context, size: Affine, wanted: Sequence[Mono], goal: Sequence[Mono], side: Side, effort: int,
            nesting: int) -> list[Element]:
    """Elements at a generic index, summed over it."""
    name, inner = generic(context, size)
    monos = list(dict.fromkeys(opened_at([*goal, *wanted], size, name)))[:60]
    if not monos:
        return []
    expand(inner, [dict.fromkeys(monos, Fraction(1))], side, rounds=1, pairs=False)
    ratios(inner, goal, size, name)
    weights = dict.fromkeys(monos, Fraction(1))
    found = [e for e in gather(inner, weights, side, effort, nesting - 1)
             if any(name in a.free for m in e.poly for a, _ in m)]
    made = []
    for e in _matched(found, name, set(monos))[:150]:
        context.budget.check()
        made.append(lifted(context, inner, name, size, e))
    return made


def ratios(context: Context, goal: Sequence[Mono], size: Affine, name: str) -> None:
    """Tangents at the logarithm of a ratio of two members of normalised sums of exponentials."""
    logs = [a for m in goal for a, _ in m if a.op == "log" and a.args[0].op == "sum" and a.args[0].args[0] == size]
    logs = list(dict.fromkeys(logs))[:3]
    for a in logs:
        for b in logs:
            u, v = (kernel.poly(kernel.opened(c.args[0], name)) for c in (a, b))
            key = ("ratio", a, b)
            if a is b or len(u) != 1 or len(v) != 1 or context.has_expanded(key):
                continue
            context.expanded.add(key)
            s, t = (kernel.node_of(kernel.function("log", w)) for w in (u, v))
            axiom(context, "exp_tangent", kernel.normal(kernel.sub(kernel.sub(t, b), kernel.sub(s, a))))


def _matched(elements: list[Element], name: str, wanted: set[Mono]) -> list[Element]:
    """Those whose every monomial at the index is wanted, or cancels with one of another element."""
    while True:
        signs: dict[Mono, set[int]] = {}
        for e in elements:
            for m, c in e.poly.items():
                signs.setdefault(m, set()).update((1, -1) if e.multiplier is not None else (1 if c > 0 else -1,))
        kept = [e for e in elements if any(m in wanted for m in e.poly) and all(
            m in wanted or len(signs[m]) == 2 or not any(name in a.free for a, _ in m) for m in e.poly)]
        if len(kept) == len(elements):
            return sorted(kept, key=lambda e: len(e.poly))
        elements = kept


def lifted(context: Context, inner: Context, name: str, size: Affine, e: Element) -> Element:
    """The sum over an index of what holds at every index."""
    op = "eq" if e.multiplier is not None else "lt" if e.strict else "le"
    key = (name, frozenset(e.poly.items()))
    if key not in context.budget.sums:
        context.budget.sums[key] = kernel.poly(kernel.total(name, size, kernel.node_of(e.poly)))
    summed = context.budget.sums[key]

    def make() -> Hypothesis:
        body = kernel.node_of(e.poly, False)
        each = kernel.make(op, kernel.ZERO, body)
        add, zero = e.step(Fraction(1))
        proof = inner.close(Step("arith", {"sum": add, "zero": zero}))
        universal = kernel.every(name, size, each)
        claim = context.link("have", {"formula": universal}, [universal],
                             Step("intro", {"name": name}, [(inner.given, proof)]))[0]
        result = kernel.make(op, kernel.total(name, size, 0), kernel.total(name, size, body))
        return context.link("sum_compare", {"hyp": claim}, [result])[0]

    fact = Fact(op, summed, make)
    return Element(summed, e.strict, (fact,), multiplier=kernel.ONE if op == "eq" else None)


def rational_root(q: Fraction) -> Fraction | None:
    """The root of a rational square."""
    if q < 0:
        return None
    a, b = isqrt(q.numerator), isqrt(q.denominator)
    return Fraction(a, b) if a * a == q.numerator and b * b == q.denominator else None
