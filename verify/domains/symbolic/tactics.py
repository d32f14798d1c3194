"""How a goal is taken apart until arithmetic closes it: introductions, cases, and ways to restate a comparison.

A tactic returns a proof of the goal in a context, or None; whatever it returns is judged by the kernel later.
"""

from collections.abc import Callable, Iterator

from axiom_jax.verification import derivation_checker as kernel
from axiom_jax.verification.derivation_checker import Node, Poly
from axiom_jax.verification.domains.symbolic import restating
from axiom_jax.verification.domains.symbolic.facts import claimed, instances, places, plainly, totals
from axiom_jax.verification.domains.symbolic.products import contradiction, gather, solve
from axiom_jax.verification.domains.symbolic.sequents import Context, Fact, Hypothesis, Step

MAX_DEPTH = 14  # of nested cases and restatements


def prove(context: Context, goal: Node, effort: int = 2, depth: int = 0) -> Step | None:
    """A proof of a formula in a context, to follow the context's own steps; None where none was found.

    Args:
        effort: 0 for side conditions, 1 without and 2 with the costly restatements.
    """
    context.budget.check()
    if depth > MAX_DEPTH:
        return None
    if kernel.form(goal) is kernel.TRUE:
        return Step("trivial", {})
    known = context.find(goal) or context.find(kernel.FALSE)
    if known is not None:
        return Step("assumption", {"hyp": known.hypothesis()})
    disjunction = _open_disjunction(context)
    if disjunction is not None:
        return _either(context, disjunction, goal, effort, depth)
    op = goal.op
    if op == "false":
        return absurdity(context, effort, depth)
    if op in ("le", "lt", "eq"):
        return comparison(context, goal, effort, depth)
    if op == "all":
        name = context.fresh()
        given = [Hypothesis(kernel.ilt(name, goal.args[0]))]
        return _into(context, "intro", {"name": name}, given, kernel.opened(goal, name), effort, depth)
    if op == "implies":
        given = [Hypothesis(goal.args[0])]
        return _into(context, "intro", {"name": ""}, given, goal.args[1], effort, depth)
    if op == "forall":
        context.budget.names += 1
        name = f"u{context.budget.names}"
        return _into(context, "intro", {"name": name}, [], kernel.opened_variable(goal, name), effort, depth)
    if op == "and":
        return _split(context, goal, effort, depth)
    if op == "or":
        return _or(context, goal, effort, depth)
    if op in ("not", "ne"):
        return _negation(context, goal, effort, depth)
    if op == "some":
        return _some(context, goal, effort, depth)
    if op == "exists":
        return restating.witnessed(context, goal, lambda c, g: prove(c, g, effort, depth + 1))
    if op in ("ile", "ilt", "ieq"):
        return Step("integers", {}, needs=tuple(_integer_hypotheses(context))) if _follows(context, goal) else None
    return None


def _integer_hypotheses(context: Context) -> list[Hypothesis]:
    """Hypotheses about indices: the kernel finds which it needs."""
    given = [h for c in context.chain_of_contexts() for h in c.given]
    return [h for h in given if h.formula.op in ("ile", "ilt", "ieq")]


def _follows(context: Context, goal: Node) -> bool:
    formulas = [h.formula for h in _integer_hypotheses(context)]
    try:
        kernel.rule_integers(kernel.Goal(tuple(formulas), goal))
    except kernel.Rejected:
        return False
    return True


def _into(context: Context, rule: str, given: dict, hypotheses: list[Hypothesis], goal: Node, effort: int,
          depth: int) -> Step | None:
    inner = context.child(hypotheses)
    proof = prove(inner, goal, effort, depth)
    return None if proof is None else Step(rule, given, [(hypotheses, inner.close(proof))])


def _split(context: Context, goal: Node, effort: int, depth: int) -> Step | None:
    """Each part in turn; parts that are proved help with the later ones."""
    made: list[Fact] = []
    for part in goal.args:
        inner = context.child()
        proof = prove(inner, part, effort, depth)
        if proof is None:
            return None
        made.append(_kept(context, part, inner.close(proof)))
    branches = [([], Step("assumption", {"hyp": f.hypothesis()})) for f in made]
    return Step("split", {}, branches)


def _kept(context: Context, formula: Node, proof: Step) -> Fact:
    hypothesis = context.link("have", {"formula": formula}, [formula], proof)[0]
    known = context.find(formula)
    if known is None:
        context.assume(hypothesis)
    return Fact("other", {}, lambda: hypothesis)


def _weight(f: Node) -> tuple[int, int, int]:
    """How much a part of a disjunction is a goal rather than, denied, a hypothesis."""
    inner = kernel.negated(f.args[0]) if f.op == "not" else f
    hard = inner.op not in ("some", "exists", "ne", "not")
    positive = f.op not in ("not", "ne", "lt", "ilt")
    return (int(hard), f.depth, int(positive))


def _or(context: Context, goal: Node, effort: int, depth: int) -> Step | None:
    """All parts but the hardest are assumed false; they hold themselves otherwise."""
    order = sorted(range(len(goal.args)), key=lambda k: _weight(goal.args[k]))
    return _or_rest(context, goal, order, effort, depth)


def _or_rest(context: Context, goal: Node, order: list[int], effort: int, depth: int) -> Step | None:
    if len(order) == 1:
        inner = context.child()
        proof = prove(inner, goal.args[order[0]], effort, depth)
        return None if proof is None else Step("choose", {"part": order[0]}, [([], inner.close(proof))])
    part = goal.args[order[0]]
    true, false = Hypothesis(part), Hypothesis(kernel.negated(part))
    chosen = Step("choose", {"part": order[0]}, [([], Step("assumption", {"hyp": true}))])
    inner = context.child([false])
    proof = _or_rest(inner, goal, order[1:], effort, depth)
    if proof is None:
        return None
    return Step("cases", {"formula": part}, [([true], chosen), ([false], inner.close(proof))])


def _open_disjunction(context: Context) -> Hypothesis | None:
    """The first disjunction that is known and of which no part is."""
    for c in reversed(list(context.chain_of_contexts())):
        for h in c.disjunctions:
            if not context.has_expanded(h) and not any(context.find(part) for part in h.formula.args):
                return h
    return None


def _either(context: Context, hypothesis: Hypothesis, goal: Node, effort: int, depth: int) -> Step | None:
    branches = []
    for part in sorted(hypothesis.formula.args, key=lambda f: context.find(kernel.negated(f)) is None):
        given = Hypothesis(part)
        inner = context.child([given])
        inner.expanded.add(hypothesis)
        proof = prove(inner, goal, effort, depth + 1)
        if proof is None:
            return None
        branches.append((part, ([given], inner.close(proof))))
    order = [next(b for p, b in branches if p is part) for part in hypothesis.formula.args]
    return Step("either", {"hyp": hypothesis}, order)


def _negation(context: Context, goal: Node, effort: int, depth: int) -> Step | None:
    if goal.op == "ne":
        changed, inner = kernel.negation(kernel.eq(*goal.args)), context.child()
        proof = prove(inner, changed, effort, depth)
        return None if proof is None else Step("change", {"formula": changed}, [([], inner.close(proof))])
    moved = kernel.negated(goal.args[0])
    if moved.op not in ("not", "ne"):
        inner = context.child()
        proof = prove(inner, moved, effort, depth)
        return None if proof is None else Step("change", {"formula": moved}, [([], inner.close(proof))])
    given = [Hypothesis(goal.args[0])]
    return _into(context, "intro", {"name": ""}, given, kernel.FALSE, effort, depth)


def _some(context: Context, goal: Node, effort: int, depth: int) -> Step | None:
    """At an index in scope, at the first or last one, where a maximum is attained; or because it fails nowhere."""
    size = goal.args[0]
    ends = [kernel.affine(0), kernel.shifted(size, -1)] if kernel.at_least(size, 1) else []
    for at in dict.fromkeys([*places(context, size), *ends]):
        inner = context.child()
        proof = prove(inner, kernel.opened(goal, at), effort, depth + 1)
        if proof is not None:
            return Step("point", {"at": at}, [([], inner.close(proof))])
    for a in _maxima(context, goal):
        name = context.fresh()
        given = [Hypothesis(kernel.ilt(name, size)), Hypothesis(kernel.eq(a, kernel.opened(a, name)))]
        inner = context.child(given)
        inner.expanded.add(("attained", a))
        proof = prove(inner, kernel.opened(goal, kernel.affine(name)), effort, depth + 1)
        if proof is not None:
            point = Step("point", {"at": kernel.affine(name)}, [([], proof)])
            return Step("bigmax_attained", {"term": a, "name": name}, [(given, inner.close(point))])
    nowhere = Hypothesis(kernel.negated(goal))
    inner = context.child([nowhere])
    proof = absurdity(inner, effort, depth + 1)
    return None if proof is None else Step("absurd", {}, [([nowhere], inner.close(proof))])


def _maxima(context: Context, goal: Node) -> list[Node]:
    """Maxima over the range of a goal's index, in it or in a hypothesis."""
    known = [h.formula for c in context.chain_of_contexts() for h in c.given if h.formula.op in ("le", "lt", "eq")]
    found = restating.ground([goal, *known], ("bigmax",))
    return [a for a in found if a.args[0] == goal.args[0] and kernel.at_least(a.args[0], 1)
            and not context.has_expanded(("attained", a))][:4]


def absurdity(context: Context, effort: int, depth: int) -> Step | None:
    """Anything, from hypotheses that contradict each other: at once, case by case, or by proving what one denies."""
    if depth > MAX_DEPTH:
        return None
    instances(context)
    totals(context)
    known = context.find(kernel.FALSE)
    if known is not None:
        return Step("assumption", {"hyp": known.hypothesis()})
    proof = refuted(context, {}, effort)
    if proof is not None:
        return proof
    disjunction = _open_disjunction(context)
    if disjunction is not None:
        return _either(context, disjunction, kernel.FALSE, effort, depth)
    for h in _denials(context):
        contrary = Hypothesis(kernel.negated(h.formula))  # of a denied equation, the equation
        context.expanded.add(("denied", h.formula))
        inner = context.child()
        proof = prove(inner, contrary.formula, effort, depth + 2)
        if proof is not None:
            clash = Step("clash", {"hyp": h, "other": contrary})
            return Step("have", {"formula": contrary.formula}, [([], inner.close(proof)), ([contrary], clash)])
    return None


def _denials(context: Context) -> list[Hypothesis]:
    """Hypotheses whose contraries are goals: s != t, s < t and s <= t; the latest first."""
    found = []
    for c in context.chain_of_contexts():
        made = [*c.given, *(h for link in c.chain for h in link.adds if link.rule in ("have", "instantiate", "unpack"))]
        found += [h for h in reversed(made) if h.formula.op in ("ne", "lt", "le", "not")]
    kept = [h for h in found if not context.has_expanded(("denied", h.formula))
            and (h.formula.op != "not" or h.formula.args[0].op == "eq")]
    kept.sort(key=lambda h: h.formula.op not in ("ne", "not"))
    return kept[:3]


def side(context: Context, formula: Node, strong: bool = False) -> Fact | None:
    """A condition of an axiom as a fact; None where it is not seen with little effort, or more of it if `strong`."""
    form = kernel.form(formula)
    if form is kernel.TRUE:
        return plainly(context, formula)
    known = context.find(formula)
    if known is not None:
        return known if known.kind != "other" else Fact("other", {}, known.hypothesis)
    if formula.op == "le":
        strict = context.find(kernel.lt(*formula.args))
        if strict is not None:
            return strict
    if form is kernel.FALSE or form.op not in ("le", "lt"):
        return None
    here = scope(context, formula) if strong else context
    for where, effort in ((context, 0), *([(here, 1)] if strong else [])):
        if where.has_expanded(("side", form, effort)) or context.budget.nesting >= 2 - effort:
            continue
        where.expanded.add(("side", form, effort))
        context.budget.nesting += 1
        try:
            inner = where.child()
            proof = comparison(inner, formula, effort, MAX_DEPTH - 5 if effort else MAX_DEPTH - 1)
        finally:
            context.budget.nesting -= 1
        if proof is not None:
            return claimed(where, formula, inner.close(proof))
    return None


def scope(context: Context, formula: Node) -> Context:
    """The outermost context in which all indices of a formula have their ranges."""
    names = [n for n in formula.free if n[:1] == "@"]
    here = context
    while here.parent is not None and all(n in here.parent.ranges for n in names):
        here = here.parent
    return here


def comparison(context: Context, goal: Node, effort: int, depth: int) -> Step | None:
    """A proof of s <= t, s < t or s = t."""
    instances(context)
    if kernel.form(goal) is kernel.FALSE:
        return refuted(context, {}, effort) if effort == 0 else absurdity(context, effort, depth)
    known = context.find(goal) or context.find(kernel.FALSE)
    if known is not None:
        return Step("assumption", {"hyp": known.hypothesis()})
    if effort == 0:
        return linear(context, goal, 0)
    given = sum(len(c.assumed) + sum(h.formula.op in ("ne", "not") for h in c.given)
                for c in context.chain_of_contexts())
    attempt = ("goal", kernel.form(goal), effort, given)
    if context.has_expanded(attempt):  # the same is being tried above, with no fewer hypotheses
        return None
    context.expanded.add(attempt)
    disjunction = _open_disjunction(context)
    if disjunction is not None:  # an instance of a hypothesis
        proof = linear(context, goal, 0)
        return proof if proof is not None else _either(context, disjunction, goal, effort, depth)
    for tactic in _tactics(goal, effort):
        context.budget.check()
        inner = context.child()
        proof = tactic(inner, goal, depth)
        if proof is not None:
            return inner.close(proof)
        if restating.EQUIVALENT in inner.expanded:  # what was left is no harder than the goal, and was not proved
            return None
    return None


def _tactics(goal: Node, effort: int) -> Iterator:
    def again(context: Context, goal: Node, depth: int) -> Step | None:
        return prove(context, goal, effort, depth + 1)

    def restated(how) -> Callable[[Context, Node, int], Step | None]:
        return lambda context, goal, depth: how(context, goal, again, depth)

    if restating.hides_cases(goal):
        yield restated(restating.by_cases)
        return
    yield restated(restating.reversed_sums)
    yield lambda c, g, d: linear(c, g, 0)
    yield restated(restating.by_cases)
    if goal.op != "eq":
        yield restated(restating.attained)
    yield restated(restating.cleared)
    if goal.op == "eq":
        yield lambda c, g, d: linear(c, g, 1)
        yield lambda c, g, d: _both_ways(c, g, effort, d)
        return
    yield restated(restating.unfactored)
    yield lambda c, g, d: linear(c, g, 1)
    yield restated(restating.exponentiated)
    yield restated(restating.term_by_term)
    yield restated(restating.squared)
    if effort > 1:
        yield restated(restating.univariate)
        yield lambda c, g, d: linear(c, g, 2)


def _both_ways(context: Context, goal: Node, effort: int, depth: int) -> Step | None:
    branches = []
    for part in (kernel.le(*goal.args), kernel.le(*goal.args[::-1])):
        inner = context.child()
        proof = prove(inner, part, effort, depth + 1)
        if proof is None:
            return None
        branches.append(([], inner.close(proof)))
    return Step("split", {}, branches)


def linear(context: Context, goal: Node, effort: int) -> Step | None:
    """Positivstellensatz over products of what is known."""
    if goal.op == "eq":
        return equation(context, goal, effort)
    negated = Hypothesis(kernel.negated(goal))
    inner = context.child([negated])
    _, poly = kernel.value(goal)
    if not poly:
        return Step("arith", {"sum": [], "zero": []}) if goal.op == "le" else None
    found = contradiction(inner, poly, side, effort)
    if found is None:
        return None
    proof = inner.close(Step("arith", {"sum": found[0], "zero": found[1]}))
    return Step("absurd", {}, [([negated], proof)])


def refuted(context: Context, goal: Poly, effort: int) -> Step | None:
    """Anything, from hypotheses that contradict each other."""
    inner = context.child()
    totals(inner)
    hypotheses = {m: c for f in inner.every_fact() for m, c in f.poly.items()} if not goal else goal
    found = contradiction(inner, hypotheses, side, max(effort, 1))
    if found is None:
        return None
    proof = inner.close(Step("arith", {"sum": found[0], "zero": found[1]}))
    false = Hypothesis(kernel.FALSE)
    return Step("have", {"formula": kernel.FALSE}, [([], proof), ([false], Step("assumption", {"hyp": false}))])


def equation(context: Context, goal: Node, effort: int) -> Step | None:
    """An equation as a combination of known ones."""
    from axiom_jax.verification.domains.symbolic.facts import expand

    _, poly = kernel.value(goal)
    if not poly:
        return Step("arith", {"sum": [], "zero": []})
    expand(context, [poly], side, rounds=1, pairs=False)
    elements = [e for e in gather(context, poly, side, effort) if e.multiplier is not None]
    found = solve(poly, elements, strict=False, context=context) if elements else None
    return None if found is None else Step("arith", {"sum": found[0], "zero": found[1]})
