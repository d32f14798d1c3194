"""Restatements of a comparison: what implies it and is closer to arithmetic.

Cases of a maximum or condition, the place where a maximum is attained, denominators cleared, logarithms exponentiated,
roots squared, a sum compared term by term, one variable subdivided. Each takes `again`, which proves what is left.
"""

from collections.abc import Callable, Iterator
from fractions import Fraction
from math import lcm

from axiom_jax.verification import derivation_checker as kernel
from axiom_jax.verification.derivation_checker import Affine, Mono, Node, Poly
from axiom_jax.verification.domains.symbolic.facts import atoms_of, axiom, divide, plainly
from axiom_jax.verification.domains.symbolic.products import Signs
from axiom_jax.verification.domains.symbolic.sequents import Context, Fact, Hypothesis, Step

EQUIVALENT = "equivalent"  # marks a context where a restatement was tried that loses nothing
Again = Callable[[Context, Node, int], Step | None]


def ground(nodes: list[Node], ops: tuple[str, ...]) -> list[Node]:
    """The subterms of these kinds without bound indices, innermost first."""
    found: dict[Node, None] = {}
    seen: set[Node] = set()

    def walk(n: Node) -> None:
        if n in seen:
            return
        seen.add(n)
        for a in n.args:
            if isinstance(a, Node):
                walk(a)
        if n.op in ops and not any(name[0] == "#" or name[:2] == "$#" for name in n.free):
            found[n] = None

    for n in nodes:
        walk(n)
    return list(found)


def value_node(goal: Node) -> Node:
    """The side of a comparison with 0, in normal form."""
    return kernel.node_of(kernel.value(goal)[1])


def with_value(op: str, node: Node) -> Node:
    return kernel.make(op, kernel.ZERO, node)


def swapped(node: Node, old: Node, new: Node) -> Node:
    """The term with one subterm replaced."""
    memo: dict[Node, Node] = {}

    def walk(n: Node) -> Node:
        if n is old:
            return new
        if n not in memo:
            if n.op in kernel.BINDERS:
                name = kernel.unused("@w", n.free | new.free)
                body = kernel.opened(n, name)
                changed = walk(body)
                memo[n] = n if changed is body else kernel.bind(n.op, n.args[0], name, changed)
            else:
                args = tuple(walk(a) if isinstance(a, Node) else a for a in n.args)
                memo[n] = n if args == n.args else kernel.make(n.op, *args)
        return memo[n]

    return walk(node)


def rewritten(context: Context, goal: Node, old: Node, equation: Fact, right: Node, again: Again,
              depth: int) -> Step | None:
    """The goal with one side of a known equation for the other."""
    context.budget.names += 1
    name = f"hole{context.budget.names}"
    pattern = with_value(goal.op, swapped(value_node(goal), old, kernel.var(name)))
    inner = context.child()
    proof = again(inner, kernel.replaced(pattern, name, [], right), depth)
    if proof is None:
        return None
    given = {"hyp": equation.hypothesis(), "name": name, "formula": pattern}
    return Step("rewrite", given, [([], inner.close(proof))])


def hides_cases(goal: Node) -> list[Node]:
    """Maxima and conditions inside of functions and sums, free of bound indices."""
    inside = [t for a in atoms_of([kernel.value(goal)[1]]) for t in a.args if isinstance(t, Node)]
    return ground(inside, ("max", "ite"))


def by_cases(context: Context, goal: Node, again: Again, depth: int) -> Step | None:
    """Both cases of one maximum or condition, which disappears in each."""
    atoms = hides_cases(goal) or ground([value_node(goal)], ("max", "ite"))
    if not atoms:
        return None
    a = atoms[0]
    context.expanded.add(EQUIVALENT)
    condition = kernel.le(a.args[1], a.args[0]) if a.op == "max" else a.args[0]
    branches = []
    for formula, holds in ((condition, True), (kernel.negated(condition), False)):
        given = Hypothesis(formula)
        inner = context.child([given])
        known = Fact("other", {}, lambda given=given: given)
        if a.op == "max":
            s, t = a.args if holds else a.args[::-1]
            equation, right = axiom(inner, "max_left", s, t, needs=[known])[0], s
        else:
            name, right = ("where_true", a.args[1]) if holds else ("where_false", a.args[2])
            equation = axiom(inner, name, a, needs=[known])[0]
        proof = rewritten(inner, goal, a, equation, right, again, depth)
        if proof is None:
            return None
        branches.append(([given], inner.close(proof)))
    return Step("cases", {"formula": condition}, branches)


def backwards(node: Node, name: str) -> bool:
    """Whether an index is read with a negative coefficient, and nowhere with a positive one."""
    signs: set[bool] = set()
    seen: set[Node] = set()

    def walk(n: Node) -> None:
        if n in seen:
            return
        seen.add(n)
        for a in n.args:
            if isinstance(a, Node):
                walk(a)
            elif isinstance(a, Affine):
                signs.update(k > 0 for other, k in a.terms if other == name)

    walk(node)
    return signs == {False}


def reversed_sums(context: Context, goal: Node, again: Again, depth: int) -> Step | None:
    """Sums that run backwards, forwards."""
    for a in ground([value_node(goal)], ("sum", "bigmax")):
        name = "@w"
        if not backwards(kernel.opened(a, name), name):
            continue
        context.budget.reverses = True
        if a.op == "sum":
            back = kernel.shifted(kernel.shifted(a.args[0], -1), name, -1)
            right = kernel.total(name, a.args[0], kernel.opened(a, back))
            formula = kernel.eq(a, right)
            fact = context.add(formula, lambda a=a, f=formula: context.link("sum_reverse", {"term": a}, [f])[0])
            return rewritten(context, goal, a, fact, right, again, depth)
    return None


def attained(context: Context, goal: Node, again: Again, depth: int) -> Step | None:
    """A maximum over indices, at an index where it is attained."""
    for a in ground([value_node(goal)], ("bigmax",)):
        if context.has_expanded(("attained", a)) or not kernel.at_least(a.args[0], 1):
            continue
        context.expanded.add(EQUIVALENT)
        name = context.fresh()
        body = kernel.opened(a, name)
        given = [Hypothesis(kernel.ilt(name, a.args[0])), Hypothesis(kernel.eq(a, body))]
        inner = context.child(given)
        inner.expanded.add(("attained", a))
        equation = Fact("eq", {}, lambda given=given: given[1])
        proof = rewritten(inner, goal, a, equation, body, again, depth)
        if proof is not None:
            return Step("bigmax_attained", {"term": a, "name": name}, [(given, inner.close(proof))])
        return None
    return None


def exponentiated(context: Context, goal: Node, again: Again, depth: int) -> Step | None:
    """G >= 0 from exp(-G) <= 1, where logarithms become factors."""
    _, p = kernel.value(goal)
    logs = [(m, c) for m, c in p.items() if len(m) == 1 and m[0][0].op == "log" and m[0][1] == 1]
    if not logs or not all(kernel.sign(kernel.poly(m[0][0].args[0])) == 2 for m, _ in logs):
        return None
    scale = lcm(*(c.denominator for _, c in logs))
    if any(abs(c * scale) > 12 for _, c in logs):
        return None
    minus = kernel.node_of(kernel.plus({}, p, -scale))
    small = kernel.make(goal.op, kernel.normal(kernel.exp(minus)), kernel.ONE)
    inner = context.child()
    proof = again(inner, small, depth)
    if proof is None:
        return None
    claim = context.link("have", {"formula": small}, [small], inner.close(proof))[0]
    tangent = axiom(context, "exp_tangent", minus)[0].hypothesis()
    part = Fraction(1, scale)
    return Step("arith", {"sum": [[part, [claim], []], [part, [tangent], []]], "zero": []})


def cleared(context: Context, goal: Node, again: Again, depth: int) -> Step | None:
    """A comparison times a positive denominator."""
    from axiom_jax.verification.domains.symbolic.tactics import side

    kind, p = kernel.value(goal)
    for u in atoms_of([p]):
        if u.op != "inv":
            continue
        d = u.args[0]
        positive = side(context, kernel.lt(0, d), True)
        if positive is None:
            continue
        cancel = axiom(context, "inv_cancel", d, needs=[positive])[0]
        up = axiom(context, "inv_positive", d, needs=[positive])[0]
        parts: dict[int, Poly] = {}
        for m, c in p.items():
            k = dict(m).get(u, 0)
            rest = tuple((b, j) for b, j in m if b is not u)
            parts[k] = kernel.plus(parts.get(k, {}), {rest: c})
        most = max(parts)
        dp, up_poly = kernel.poly(d), {((u, 1),): Fraction(1)}
        q: Poly = {}
        multiplier: Poly = {}
        one = kernel.pmul(dp, up_poly)
        for k, part in parts.items():
            q = kernel.plus(q, kernel.pmul(part, kernel.ppow(dp, most - k)))
            geometric: Poly = {}
            for j in range(most - k):
                geometric = kernel.plus(geometric, kernel.ppow(one, j))
            multiplier = kernel.plus(multiplier, kernel.pmul(kernel.pmul(part, kernel.ppow(up_poly, k)), geometric))
        left = with_value(goal.op, kernel.node_of(q))
        if any(b is u for b in atoms_of([q])) or len(q) > 80:
            continue
        context.expanded.add(EQUIVALENT)
        inner = context.child()
        proof = again(inner, left, depth)
        if proof is None:
            return None
        claim = context.link("have", {"formula": left}, [left], inner.close(proof))[0]
        # p = u^k q + multiplier * (1 - d u), and the equation d u = 1 has the value 1 - d u
        zero = [[cancel.hypothesis(), kernel.node_of(multiplier)]] if multiplier else []
        if kind == "eq":
            power = kernel.node_of({((u, most),): Fraction(1)})
            return Step("arith", {"sum": [], "zero": [[claim, power], *zero]})
        factors = [up.hypothesis()] * most
        return Step("arith", {"sum": [[Fraction(1), [claim, *factors], []]], "zero": zero})
    return None


def common_factor(p: Poly) -> Mono:
    """The product of the atoms that every monomial has."""
    monos = [dict(m) for m in p]
    least = {a: min(m.get(a, 0) for m in monos) for a in monos[0] if a.op != "exp"}
    return tuple((a, k) for a, k in monos[0].items() for k in [least.get(a, 0)] if k)


def unfactored(context: Context, goal: Node, again: Again, depth: int) -> Step | None:
    """The goal without the positive factors that all of its monomials share."""
    _, p = kernel.value(goal)
    signs = Signs(context, [f for f in context.every_fact() if f.kind in ("le", "lt")])
    kinds = ("lt",) if goal.op == "lt" else ("lt", "le")
    kept = tuple((a, k) for a, k in (common_factor(p) if len(p) > 1 else ())
                 if (f := signs.fact(a)) is not None and f.kind in kinds and not (a.op == "sum" and f.kind == "le"))
    element = signs.of(kept) if kept else None
    rest = {divide(m, kept): c for m, c in p.items()} if kept else {}
    if element is None or None in rest:
        return None
    if element.strict:
        context.expanded.add(EQUIVALENT)
    scale = next(iter(element.poly.values()))
    way = 1 if scale > 0 else -1
    left = with_value(goal.op, kernel.node_of({m: way * c for m, c in rest.items() if m is not None}))
    inner = context.child()
    proof = again(inner, left, depth)
    if proof is None:
        return None
    claim = context.link("have", {"formula": left}, [left], inner.close(proof))[0]
    hyps = [f.hypothesis() for f in element.facts]
    return Step("arith", {"sum": [[1 / abs(scale), [claim, *hyps], list(element.squares)]], "zero": []})


def _body(p: Poly, size: Affine, name: str, evenly: bool) -> Poly:
    """Terms whose sum over an index is a polynomial: of a product of sums one is opened, or each in equal parts."""
    body, count = {}, kernel.size_poly(size)
    for m, c in p.items():
        mine = [(a, k) for a, k in m if a.op == "sum" and a.args[0] == size]
        if not mine and len(count) == 1:
            body = kernel.plus(body, kernel.pmul({m: c}, kernel.inverse(count)))
        total = sum(k for _, k in mine)
        for a, k in mine if evenly else mine[:1]:
            rest = {tuple((b, j - (b is a)) for b, j in m if j > (b is a)): c * k / total if evenly else c}
            body = kernel.plus(body, kernel.pmul(kernel.poly(kernel.opened(a, name)), rest))
    return body


def term_by_term(context: Context, goal: Node, again: Again, depth: int) -> Step | None:
    """A sum is >= 0 if each of its terms is."""
    _, p = kernel.value(goal)
    sizes = list(dict.fromkeys(a.args[0] for m in p for a, _ in m if a.op == "sum"))
    for size in sizes:
        name = context.fresh()
        first, even = (_body(p, size, name, evenly) for evenly in (False, True))
        for body in (first, even) if even != first else (first,):
            if kernel.poly(kernel.total(name, size, kernel.node_of(body))) != p:
                continue
            found = _each_term(context, goal.op, name, size, body, again, depth)
            if found is not None:
                return found
    return None


def _each_term(context: Context, op: str, name: str, size: Affine, body: Poly, again: Again, depth: int) -> Step | None:
    universal = kernel.every(name, size, with_value(op, kernel.node_of(body)))
    inner = context.child()
    proof = again(inner, universal, depth)
    if proof is None:
        return None
    claim = context.link("have", {"formula": universal}, [universal], inner.close(proof))[0]
    result = kernel.make(op, kernel.total(name, size, 0), kernel.total(name, size, kernel.node_of(body)))
    total = context.link("sum_compare", {"hyp": claim}, [result])[0]
    return Step("arith", {"sum": [[Fraction(1), [total], []]], "zero": []})


def squared(context: Context, goal: Node, again: Again, depth: int) -> Step | None:
    """b >= a from b >= 0 and b² >= a², where roots are involved."""
    _, p = kernel.value(goal)
    if not any(a.op == "sqrt" for a in atoms_of([p])):
        return None
    signs = Signs(context, [f for f in context.every_fact() if f.kind in ("le", "lt")])

    def positive(m: Mono, c: Fraction) -> bool:
        element = signs.of(m)
        return c * (1 if element is None else next(iter(element.poly.values()))) > 0

    roots = {m: c for m, c in p.items() if any(a.op == "sqrt" for a, _ in m)}
    b = {m: c for m, c in roots.items() if positive(m, c)}
    b = b or {m: c for m, c in p.items() if m not in roots}
    a = {m: -c for m, c in p.items() if m not in b}
    if not a or not b or len(p) > 8:
        return None
    bn = kernel.node_of(b)
    difference = kernel.plus(kernel.pmul(b, b), kernel.pmul(a, a), -1)
    if len(difference) > 60:
        return None
    weak, strong = with_value("le", bn), with_value(goal.op, kernel.node_of(difference))
    claims = []
    for formula in (weak, strong):
        if kernel.form(formula) is kernel.TRUE:
            claims.append(plainly(context, formula).hypothesis())
            continue
        inner = context.child()
        proof = again(inner, formula, depth + 3)
        if proof is None:
            return None
        claims.append(context.link("have", {"formula": formula}, [formula], inner.close(proof))[0])
    negated = Hypothesis(kernel.negated(goal))
    products = ((1, [negated, negated]), (2, [claims[0], negated]), (1, [claims[1]]))
    parts = [[Fraction(c), hyps, []] for c, hyps in products]
    return Step("absurd", {}, [([negated], Step("arith", {"sum": parts, "zero": []}))])


def variables(node: Node) -> list[Node]:
    """The entries of variables in a term."""
    return ground([node], ("var",))


def univariate(context: Context, goal: Node, again: Again, depth: int) -> Step | None:
    """Subdivision of the intervals in which the variables lie."""
    node = value_node(goal)
    entries = variables(node)
    if not entries or len(entries) > 2 or ground([node], ("sum", "bigmax", "apply")):
        return None
    facts = context.every_fact()
    ends = []
    for x in entries:
        lo = hi = None
        for f in facts:
            rest = {m: c for m, c in f.poly.items() if m}
            if set(rest) == {((x, 1),)} and f.kind in ("le", "lt", "eq"):
                c, end = rest[((x, 1),)], -f.poly.get((), Fraction(0)) / rest[((x, 1),)]
                if c > 0 or f.kind == "eq":
                    lo = end if lo is None else max(lo, end)
                if c < 0 or f.kind == "eq":
                    hi = end if hi is None else min(hi, end)
        ends.append((lo, hi))
    if all(lo is not None and hi is not None for lo, hi in ends):
        return enclosed(context, goal, entries, ends)
    if len(entries) > 1 or context.has_expanded(("tails", entries[0])):
        return None
    return tails(context, goal, entries[0], ends[0], again, depth)


def enclosed(context: Context, goal: Node, entries: list[Node], ends: list[tuple[Fraction, Fraction]]) -> Step | None:
    """The kernel's own subdivision, if it succeeds."""
    goal_here = kernel.Goal(tuple(f for x, (lo, hi) in zip(entries, ends, strict=True)
                                  for f in (kernel.le(lo, x), kernel.le(x, hi))), goal)
    lo, hi = [e[0] for e in ends], [e[1] for e in ends]
    for pieces in (64, 3000):
        given = {"terms": entries, "lo": lo, "hi": hi, "pieces": pieces}
        try:
            kernel.rule_interval(goal_here, **given)
        except kernel.Rejected:
            context.budget.check()
            continue
        needs = []
        for x, (low, high) in zip(entries, ends, strict=True):
            for formula in (kernel.le(low, x), kernel.le(x, high)):
                known = context.find(formula) or context.find(kernel.lt(*formula.args)) or context.find(
                    kernel.eq(*formula.args))
                if known is None:
                    return None
                needs.append(known.hypothesis())
        return Step("interval", given, needs=tuple(needs))
    return None


def tails(context: Context, goal: Node, x: Node, ends: tuple[Fraction | None, Fraction | None], again: Again,
          depth: int) -> Step | None:
    """A bounded part and what is left of it and right of it."""
    for bound in (4, 12):
        lo, hi = ends
        inner = context
        result = _tail_cases(inner, goal, x, lo, hi, Fraction(bound), again, depth)
        if result is not None:
            return result
    return None


def _tail_cases(context: Context, goal: Node, x: Node, lo: Fraction | None, hi: Fraction | None, bound: Fraction,
                again: Again, depth: int) -> Step | None:
    formula = kernel.le(x, -bound) if lo is None else kernel.le(bound, x) if hi is None else None
    if formula is None:
        inner = context.child()
        assert lo is not None and hi is not None
        proof = enclosed(inner, goal, [x], [(lo, hi)])
        return None if proof is None else inner.close(proof)
    outside, inside = Hypothesis(formula), Hypothesis(kernel.negated(formula))
    tail = context.child([outside])
    tail.expanded.add(("tails", x))
    proof = again(tail, goal, depth + 2)
    if proof is None:
        return None
    rest = context.child([inside])
    rest.expanded.add(("tails", x))
    middle = _tail_cases(rest, goal, x, -bound if lo is None else lo, hi if lo is None else bound, bound, again, depth)
    if middle is None:
        return None
    return Step("cases", {"formula": formula}, [([outside], tail.close(proof)), ([inside], rest.close(middle))])


def witnessed(context: Context, goal: Node, again: Callable[[Context, Node], Step | None]) -> Step | None:
    """An ∃, by trying simple arrays."""
    rank = len(goal.args[0])
    names = [f"@w{k}" for k in range(rank)]
    for term in _candidates(goal, names):
        inner = context.child()
        given = {"names": names, "term": term}
        try:
            left = kernel.rule_witness(kernel.Goal((), goal), **given)[0].goal
        except kernel.Rejected:
            continue
        proof = again(inner, left)
        if proof is not None:
            return Step("witness", given, [([], inner.close(proof))])
    return None


def _candidates(goal: Node, names: list[str]) -> Iterator[Node]:
    yield from _solutions(goal, names)
    for c in (0, 1, -1, Fraction(1, 2), 2, -2, 10, -10):
        yield kernel.const(c)
    arities = {n.args[0]: len(n.args) - 1 for n in ground_variables(goal)}
    for name, rank in arities.items():
        if rank <= len(names):
            x = kernel.var(name, *names[len(names) - rank:])
            yield from (x, kernel.add(x, 1), kernel.add(x, -1), kernel.neg(x), kernel.mul(2, x), kernel.absolute(x),
                        kernel.add(kernel.power(x, 2), 1), kernel.exp(x), kernel.mul(Fraction(1, 2), x))


def _solutions(goal: Node, names: list[str]) -> Iterator[Node]:
    """What an array is where a comparison that it is to meet is solved for one entry of it, or for its square."""
    unknown = kernel.unused("$~", goal.free)[1:]
    body = kernel.opened_variable(goal, unknown)
    bound: list[str] = []
    stack, found = [body], []
    while stack and len(found) < 6:
        f = stack.pop()
        if f.op in ("all", "some"):
            bound.append(f"@z{len(bound)}")
            stack.append(kernel.opened(f, kernel.affine(bound[-1])))
        elif f.op in ("and", "or", "not", "implies"):
            stack += f.args
        elif f.op in ("le", "lt", "eq"):
            found.append(kernel.value(f)[1])
    for p in found:
        atoms = [a for a in atoms_of([p]) if "$" + unknown in a.free]
        places = [list(e.terms) for e in atoms[0].args[1:]] if len(atoms) == 1 and atoms[0].op == "var" else None
        if places is None or any(len(e) != 1 or e[0][1] != 1 for e in places) or len(places) != len(names):
            continue
        at = {e[0][0]: kernel.affine(name) for e, name in zip(places, names, strict=True)}
        powers = {k for m in p for a, k in m if a is atoms[0]}
        if len(at) != len(names) or len(powers) != 1 or not powers <= {1, 2}:
            continue
        (k,) = powers
        with_it = {m: c for m, c in p.items() if any(a is atoms[0] for a, _ in m)}
        factor = {tuple((a, j) for a, j in m if a is not atoms[0]): c for m, c in with_it.items()}
        rest = kernel.node_of({m: -c for m, c in p.items() if m not in with_it})
        solution = kernel.mul(rest, kernel.inv(kernel.node_of(factor)))
        solution = kernel.substitute(solution if k == 1 else kernel.sqrt(solution), at)
        if not any(name in solution.free for name in bound):
            yield from (solution, kernel.add(solution, 1), kernel.add(solution, -1))


def ground_variables(node: Node) -> list[Node]:
    found: dict[Node, None] = {}
    stack = [node]
    while stack:
        n = stack.pop()
        if n.op == "var" and n.args[0][:1] != "#":
            found[n] = None
        stack += [a for a in n.args if isinstance(a, Node)]
    return list(found)
