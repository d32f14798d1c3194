"""What is known of the atoms of a claim: an instance of the kernel's axioms for each, with its side conditions proved.

Every function gets its sign, its defining equation, tangents and monotonicity against atoms of its kind; every sum and
maximum its members at the indices in scope; every universal hypothesis its instances.
"""

from collections.abc import Callable, Iterable
from fractions import Fraction

from axiom_jax.verification import derivation_checker as kernel
from axiom_jax.verification.derivation_checker import Affine, Mono, Node, Poly
from axiom_jax.verification.domains.symbolic.sequents import Context, Fact, Hypothesis, Step

Side = Callable[..., Fact | None]  # proves a side condition in a context
MAX_PARTNERS = 6


def atoms_of(polys: Iterable[Poly]) -> list[Node]:
    """The atoms of polynomials, in order."""
    return list(dict.fromkeys(a for p in polys for m in p for a, _ in m))


def plainly(context: Context, formula: Node) -> Fact:
    """A formula that the kernel's normal form already decides, as a fact."""
    found = next((c.plain[formula] for c in context.chain_of_contexts() if formula in c.plain), None)
    if found is None:
        found = context.plain[formula] = _plain(context, formula)
    return found


def _plain(context: Context, formula: Node) -> Fact:
    return context.add(formula, lambda: context.link("have", {"formula": formula}, [formula], Step("trivial", {}))[0])


def axiom(context: Context, name: str, *terms: Node, needs: Iterable[Fact] = ()) -> list[Fact]:
    """An instance of an axiom of the kernel, the parts of its conclusion as facts."""
    _, conclusion = kernel.AXIOMS[name](*terms)
    needed, made = list(needs), {}

    def make() -> Hypothesis:
        if 0 not in made:
            known = [f.hypothesis() for f in needed]
            made[0] = context.link("axiom", {"name": name, "terms": list(terms)}, [conclusion], None, known)[0]
        return made[0]

    if conclusion.op != "and":
        return [context.add(conclusion, make)]

    def part(k: int) -> Hypothesis:
        if 1 not in made:
            made[1] = context.link("unpack", {"hyp": make(), "name": ""}, conclusion.args)
        return made[1][k]

    return [context.add(f, lambda k=k: part(k)) for k, f in enumerate(conclusion.args)]


def claimed(context: Context, formula: Node, proof: Step) -> Fact:
    """A formula with a proof in this context, as a fact."""
    return context.add(formula, lambda: context.link("have", {"formula": formula}, [formula], proof)[0])


def expand(context: Context, polys: Iterable[Poly], side: Side, rounds: int = 2, pairs: bool = True) -> None:
    """Adds facts about the atoms of polynomials, and about those that come in with these facts."""
    context.budget.check()
    instances(context)
    todo = atoms_of([*polys, *(f.poly for c in context.chain_of_contexts() for f in c.assumed)])
    for k in range(rounds + 1):
        before = len(context.facts)
        for a in todo:  # those have members at every index in scope
            if a.op in ("sum", "bigmax", "log") and context.has_expanded(a):
                {"sum": _sum, "bigmax": _bigmax, "log": _log_of_parts}[a.op](context, a, side)
        fresh = [a for a in todo if not context.has_expanded(a)]
        for a in fresh:
            context.budget.check()
            context.expanded.add(a)
            of_atom(context, a, side)
        if pairs and k < rounds:
            for a in fresh:
                against_others(context, a, todo, side)
        todo = atoms_of(f.poly for f in context.facts[before:])
        if k == rounds or not todo:
            break


def places(context: Context, size: Affine) -> list[Affine]:
    """Index expressions in scope that lie in a range."""
    found = [kernel.affine(name) for name, bound in context.ranges.items() if bound == size]
    if context.budget.reverses:
        found += [kernel.shifted(kernel.shifted(size, -1), e, -1) for e in found]
    if not size.terms and size.const <= 4:
        found += [kernel.affine(k) for k in range(size.const)]
    return found[:12]


def instances(context: Context) -> None:
    """Universal hypotheses at the indices in scope."""
    queue = context.every_universal()
    while queue:
        h = queue.pop(0)
        if h.formula.op != "all":
            continue
        for at in places(context, h.formula.args[0]):
            if context.has_expanded((h, at)):
                continue
            context.expanded.add((h, at))
            body = kernel.opened(h.formula, at)
            make = lambda h=h, at=at, body=body: context.link("instantiate", {"hyp": h, "at": at}, [body])[0]
            if body.op in ("le", "lt", "eq"):
                context.assumed.append(context.add(body, make))
            else:
                count = len(context.universals)
                context.assume(make())
                queue += context.universals[count:]


def totals(context: Context) -> None:
    """Universal hypotheses about terms, summed over the index and at the maximum."""
    for h in context.every_universal():
        if h.formula.op != "all" or context.has_expanded(("totals", h)) or not kernel.at_least(h.formula.args[0], 1):
            continue
        context.expanded.add(("totals", h))
        name, size = kernel.unused("@:", h.formula.free), h.formula.args[0]
        body = kernel.opened(h.formula, name)
        if body.op not in ("le", "lt", "eq"):
            continue
        s, t = body.args
        largest = t if name not in t.free else kernel.bigmax(name, size, t)
        for rule, left, right in (("sum_compare", kernel.total(name, size, s), kernel.total(name, size, t)),
                                  ("bigmax_compare", kernel.bigmax(name, size, s), largest)):
            formula = kernel.make(body.op, left, right)
            context.add(formula, lambda h=h, r=rule, f=formula: context.link(r, {"hyp": h}, [f])[0])


def of_atom(context: Context, a: Node, side: Side) -> None:
    """Facts about one atom."""
    if kernel.atom_sign(a):
        plainly(context, kernel.lt(0, a) if kernel.atom_sign(a) == 2 else kernel.le(0, a))
    table = {"int": _int, "exp": _exp, "log": _log, "sqrt": _sqrt, "erf": _erf, "inv": _inv, "max": _max, "ite": _ite,
             "sum": _sum, "bigmax": _bigmax, "sin": _trigonometric, "cos": _trigonometric}
    if a.op in table:
        table[a.op](context, a, side)


def _int(context: Context, a: Node, side: Side) -> None:
    ((name, _),) = a.args[0].terms
    ends = [kernel.shifted(name, -1)] if not kernel.is_index(name) else []
    if name in context.ranges:
        ends = [kernel.affine(name), kernel.shifted(kernel.shifted(context.ranges[name], -1), name, -1)]
    for e in ends:
        formula = kernel.le(0, kernel.integer(e))
        context.add(formula, lambda e=e, f=formula: context.link("size", {"at": e}, [f])[0])


def _exp(context: Context, a: Node, side: Side) -> None:
    t = a.args[0]
    axiom(context, "exp_tangent", t)
    chord(context, kernel.ZERO, t)
    for weak, strict, terms in ((kernel.le(0, t), kernel.lt(0, t), (kernel.ZERO, t)),
                                (kernel.le(t, 0), kernel.lt(t, 0), (t, kernel.ZERO))):
        _ordered(context, "exp", weak, strict, terms, [], side)


def _ordered(context: Context, f: str, weak: Node, strict: Node, terms: tuple[Node, Node], needs: list[Fact],
             side: Side) -> None:
    """f(s) <= f(t), or <, where that order of s and t is seen."""
    known = context.find(weak) if context.budget.nesting else side(context, weak)
    if known is None:
        return
    axiom(context, f"{f}_monotone", *terms, needs=[*needs, known])
    known = known if known.kind == "lt" else context.find(strict) if context.budget.nesting else side(context, strict)
    if known is not None:
        axiom(context, f"{f}_strict", *terms, needs=[*needs, known])


def _log(context: Context, a: Node, side: Side) -> None:
    t = a.args[0]
    positive = side(context, kernel.lt(0, t), True)
    if positive is None:
        return
    axiom(context, "log_tangent", t, needs=[positive])
    if kernel.sign(kernel.poly(t)) == 2:
        _log_of_parts(context, a, side)
    for weak, strict, terms in ((kernel.le(1, t), kernel.lt(1, t), (kernel.ONE, t)),
                                (kernel.le(t, 1), kernel.lt(t, 1), (t, kernel.ONE))):
        _ordered(context, "log", weak, strict, terms, [positive], side)


def _log_of_parts(context: Context, a: Node, side: Side) -> None:
    """log t >= log of each term of t, where all are positive: of what a sum of exponentials has at every index."""
    t = a.args[0]
    p = kernel.poly(t)
    parts = []
    for m, c in p.items():
        if len(m) == 1 and m[0][0].op == "sum" and m[0][1] == 1 and c == 1:
            name = "@w"
            if kernel.sign(kernel.poly(kernel.opened(m[0][0], name))):
                parts += [kernel.opened(m[0][0], at) for at in places(context, m[0][0].args[0])]
        elif len(p) > 1 and kernel.sign({m: c}) == 2:
            parts.append(kernel.node_of({m: c}, False))
    for part in parts:
        if context.has_expanded((a, part)) or kernel.sign(kernel.poly(part)) < 2:
            continue
        context.expanded.add((a, part))
        known = side(context, kernel.le(part, t))
        if known is not None:
            axiom(context, "log_monotone", part, t, needs=[plainly(context, kernel.lt(0, part)), known])


def _sqrt(context: Context, a: Node, side: Side) -> None:
    t = a.args[0]
    axiom(context, "sqrt_nonnegative", t)
    positive = side(context, kernel.lt(0, t), True)
    if positive is not None:
        axiom(context, "sqrt_positive", t, needs=[positive])
    known = positive or side(context, kernel.le(0, t), True)
    if known is not None:
        axiom(context, "sqrt_square", t, needs=[known])


def _erf(context: Context, a: Node, side: Side) -> None:
    t = a.args[0]
    axiom(context, "erf_range", t)
    for f, terms in ((kernel.le(0, t), (kernel.ZERO, t)), (kernel.le(t, 0), (t, kernel.ZERO))):
        known = side(context, f)
        if known is not None:
            axiom(context, "erf_monotone", *terms, needs=[known])


def _inv(context: Context, a: Node, side: Side) -> None:
    t = a.args[0]
    positive = side(context, kernel.lt(0, t), True)
    if positive is not None:
        axiom(context, "inv_positive", t, needs=[positive])
    known = positive or side(context, kernel.lt(t, 0)) or context.find(kernel.ne(t, 0))
    if known is not None:
        axiom(context, "inv_cancel", t, needs=[known])
        if positive is None and known.kind == "lt":
            axiom(context, "inv_positive", kernel.normal(kernel.neg(t)), needs=[known])
    elif (weak := side(context, kernel.le(0, t))) is not None:
        axiom(context, "inv_nonnegative", t, needs=[weak])


def _max(context: Context, a: Node, side: Side) -> None:
    s, t = a.args
    known = side(context, kernel.le(t, s))
    if known is not None:
        axiom(context, "max_left", s, t, needs=[known])
        return
    known = side(context, kernel.le(s, t))
    if known is not None:
        axiom(context, "max_left", t, s, needs=[known])
        return
    axiom(context, "max_bounds", s, t)
    product = kernel.eq(kernel.mul(kernel.sub(a, s), kernel.sub(a, t)), 0)
    _, cases = kernel.AXIOMS["max_cases"](s, t)
    claimed(context, product, _by_cases("max_cases", [s, t], cases, product))


def _by_cases(name: str, terms: list[Node], cases: Node, goal: Node) -> Step:
    """A proof of an equation or bound that an axiom's two cases give, each by an equation it contains."""
    whole, branches = Hypothesis(cases), []
    for part in cases.args:
        given = Hypothesis(part)
        parts = [Hypothesis(f) for f in part.args]
        equation = next(h for h in parts if h.formula.op == "eq")
        left, right = (kernel.poly(t) for t in equation.formula.args)
        _, p = kernel.value(goal)  # p = q (right - left) + rest, rest plainly there
        ((atom, _),) = next(iter(left)) if len(left) == 1 else next(m for m in left)
        constant, quotient = _divided(p, atom, left, right)
        last = Step("arith", {"sum": [[constant, [], []]] if constant else [], "zero": [[equation, quotient]]})
        branches.append(([given], Step("unpack", {"hyp": given, "name": ""}, [(parts, last)])))
    return Step("axiom", {"name": name, "terms": terms}, [([whole], Step("either", {"hyp": whole}, branches))])


def _divided(p: Poly, atom: Node, left: Poly, right: Poly) -> tuple[Fraction, Node]:
    """A constant c and a term q with p = c + q (right - left), where left is the atom."""
    quotient: Poly = {}
    left_over, step = dict(p), kernel.plus(right, left, -1)
    for _ in range(8):
        m = next((m for m in left_over if any(b is atom for b, _ in m)), None)
        if m is None:
            break
        rest = tuple((b, k - (b is atom)) for b, k in m if k > (b is atom))
        part = {rest: -left_over[m]}
        quotient = kernel.plus(quotient, part)
        left_over = kernel.plus(left_over, kernel.pmul(part, step), -1)
    return left_over.get((), Fraction(0)), kernel.node_of(quotient)


def _ite(context: Context, a: Node, side: Side) -> None:
    condition = a.args[0]
    known = side(context, condition)
    if known is not None:
        axiom(context, "where_true", a, needs=[known])
        return
    known = side(context, kernel.negated(condition))
    if known is not None:
        axiom(context, "where_false", a, needs=[known])
        return
    goal = kernel.le(a, 1)
    _, cases = kernel.AXIOMS["where_cases"](a)
    claimed(context, goal, _by_cases("where_cases", [a], cases, goal))


def _sum(context: Context, a: Node, side: Side) -> None:
    name = context.fresh()
    if not any(not context.has_expanded((a, at)) for at in places(context, a.args[0])):
        return
    size, here = a.args[0], _new_places(context, a)
    for body in _terms(kernel.opened(a, name)):
        all_of = _all_nonnegative(context, name, size, body, side)
        if all_of is None:
            continue
        total = kernel.total(name, size, body)
        if body is not kernel.opened(a, name):
            kind = all_of.kind if kernel.at_least(size, 1) else "le"
            nonnegative = kernel.make(kind, kernel.total(name, size, 0), total)
            context.add(nonnegative, lambda h=all_of, f=nonnegative: context.link(
                "sum_compare", {"hyp": h.hypothesis()}, [f])[0])
        for at in here:
            value = kernel.substitute(body, {name: at})
            formula = kernel.le(kernel.sub(value, 0), kernel.sub(total, kernel.total(name, size, 0)))
            context.add(formula, lambda at=at, h=all_of, f=formula: context.link(
                "sum_member", {"hyp": h.hypothesis(), "at": at}, [f])[0])


def _terms(body: Node) -> list[Node]:
    """The body of a sum and, where it has a maximum as a factor, by how much that exceeds its two sides."""
    found, p = [body], kernel.poly(body)
    for a in atoms_of([p]):
        if a.op == "max" and len(p) == 1:
            ((m, c),) = p.items()
            rest = {tuple((b, k - (b is a)) for b, k in m if k > (b is a)): c}
            found += [kernel.node_of(kernel.plus(p, kernel.pmul(rest, kernel.poly(s)), -1)) for s in a.args
                      if kernel.poly(s)]
    return found


def _all_nonnegative(context: Context, name: str, size: Affine, body: Node, side: Side) -> Fact | None:
    """That all terms of a sum are >= 0, where it is plain or seen with little effort."""
    kind, universal = "le", kernel.every(name, size, kernel.le(0, body))
    key = universal
    known = next((c.plain[key] for c in context.chain_of_contexts() if key in c.plain), None)
    if known is not None:
        return known
    if kernel.sign(kernel.poly(body)):
        proof = Step("trivial", {})
    else:
        given = sum(len(c.assumed) + len(c.universals) for c in context.chain_of_contexts())
        if context.budget.nesting or context.has_expanded(("signed", universal, given)):
            return None
        context.expanded.add(("signed", universal, given))
        range_of = Hypothesis(kernel.ilt(name, size))
        inner = context.child([range_of])
        seen = side(inner, kernel.le(0, body))
        if seen is None:
            return None
        if kernel.form(seen.hypothesis().formula) is not kernel.form(kernel.le(0, body)):
            kind, universal = "lt", kernel.every(name, size, kernel.lt(0, body))
        if kernel.form(kernel.opened(universal, kernel.affine(name))) is not kernel.form(seen.hypothesis().formula):
            return None
        proof = Step("intro", {"name": name},
                     [([range_of], inner.close(Step("assumption", {"hyp": seen.hypothesis()})))])
    fact = context.plain[key] = Fact(
        kind, {}, lambda: context.link("have", {"formula": universal}, [universal], proof)[0])
    return fact


def _new_places(context: Context, a: Node) -> list[Affine]:
    """Indices in scope at which a sum or maximum has not been opened."""
    found = [at for at in places(context, a.args[0]) if not context.has_expanded((a, at))]
    context.expanded.update((a, at) for at in found)
    return found


def _bigmax(context: Context, a: Node, side: Side) -> None:
    for at in _new_places(context, a):
        formula = kernel.le(kernel.opened(a, at), a)
        context.add(formula, lambda at=at, f=formula: context.link("bigmax_member", {"term": a, "at": at}, [f])[0])


def _trigonometric(context: Context, a: Node, side: Side) -> None:
    t = a.args[0]
    axiom(context, f"{a.op}_range", t)
    axiom(context, "trig_unit", t)
    if a.op == "cos":
        axiom(context, "cos_parabola", t)
    elif (known := side(context, kernel.le(0, t))) is not None:
        axiom(context, "sin_below", t, needs=[known])


def against_others(context: Context, a: Node, atoms: Iterable[Node], side: Side) -> None:
    """Monotonicity between two atoms of one increasing function."""
    rules = {"exp": "exp_monotone", "log": "log_monotone", "sqrt": "sqrt_monotone", "erf": "erf_monotone"}
    if a.op not in rules:
        return
    others = [b for b in atoms if b.op == a.op and b is not a][:MAX_PARTNERS]
    for b in others:
        if context.has_expanded((a, b)):
            continue
        context.expanded.add((a, b))
        if a.op == "exp":
            chord(context, a.args[0], b.args[0])
            chord(context, b.args[0], a.args[0])
        for s, t in ((a.args[0], b.args[0]), (b.args[0], a.args[0])):
            known = side(context, kernel.le(s, t))
            if known is None:
                continue
            needs = [known]
            if a.op == "log":
                positive = side(context, kernel.lt(0, s))
                if positive is None:
                    continue
                needs.append(positive)
            axiom(context, rules[a.op], s, t, needs=needs)
            strict = context.find(kernel.lt(s, t))
            if strict is not None and a.op in ("exp", "erf"):
                axiom(context, f"{a.op}_strict", s, t, needs=[strict])


def chord(context: Context, s: Node, t: Node) -> None:
    """exp(s) >= exp(t) (1 + s - t)."""
    formula = kernel.le(kernel.mul(kernel.exp(t), kernel.add(1, s, kernel.neg(t))), kernel.exp(s))
    difference = kernel.normal(kernel.sub(s, t))
    _, tangent = kernel.AXIOMS["exp_tangent"](difference)
    one, two = Hypothesis(tangent), Hypothesis(kernel.lt(0, kernel.exp(t)))
    last = Step("arith", {"sum": [[Fraction(1), [one, two], []]], "zero": []})
    proof = Step("axiom", {"name": "exp_positive", "terms": [t]}, [([two], last)])
    claimed(context, formula, Step("axiom", {"name": "exp_tangent", "terms": [difference]}, [([one], proof)]))


def slope(context: Context, t: Node, c: Fraction) -> None:
    """exp(t) >= c (1 + t - log c), with a rational for the logarithm."""
    _, high = kernel.log_ends(c)
    end = Fraction(-(-high * (1 << 40) // 1), 1 << 40)
    formula = kernel.le(kernel.mul(c, kernel.add(1, t, -end)), kernel.exp(t))
    log_c = kernel.log(kernel.const(c))
    at = kernel.normal(kernel.sub(t, log_c))
    _, tangent = kernel.AXIOMS["exp_tangent"](at)
    bound = kernel.le(log_c, end)
    one, two = Hypothesis(tangent), Hypothesis(bound)
    last = Step("arith", {"sum": [[c, [one], []], [c, [two], []]], "zero": []})
    inner = Step("axiom", {"name": "exp_tangent", "terms": [at]}, [([one], last)])
    side = Step("interval", {"terms": [kernel.ZERO], "lo": [Fraction(0)], "hi": [Fraction(0)], "pieces": 4})
    claimed(context, formula, Step("have", {"formula": bound}, [([], side), ([two], inner)]))


def slopes(context: Context, goal: Poly) -> None:
    """Tangents of exponentials with the slopes that the goal's coefficients ask for, and some others."""
    exps = [(a, abs(c)) for m, c in goal.items() for a, _ in m if a.op == "exp"]
    others = [abs(c) for m, c in goal.items() if m and not any(a.op == "exp" for a, _ in m)]
    for a, c in exps[:4]:
        inner = [abs(d) for m, d in kernel.poly(a.args[0]).items() if m]
        wanted = [o / c / i for o in others[:3] for i in inner[:3]] + [Fraction(2) ** k for k in range(-3, 5)]
        for s in dict.fromkeys(w for w in wanted if Fraction(1, 1000) < w < 1000):
            if not context.has_expanded((a, s)):
                context.expanded.add((a, s))
                slope(context, a.args[0], s)


def divide(t: Mono, m: Mono) -> Mono | None:
    """The monomial c with t = c m, if there is one; exponentials always divide."""
    powers: dict[Node, int] = {a: k for a, k in t if a.op != "exp"}
    exponent = kernel.exponent(t)
    for a, k in m:
        if a.op == "exp":
            exponent = kernel.plus(exponent, kernel.poly(a.args[0]), -k)
            continue
        powers[a] = powers.get(a, 0) - k
        if powers[a] < 0:
            return None
    factors = [(a, k) for a, k in powers.items() if k]
    if exponent:
        factors.append((kernel.exp_atom(exponent), 1))
    product = kernel.monomial(factors)
    if len(product) != 1:
        return None
    ((mono, c),) = product.items()
    return mono if c == 1 else None
