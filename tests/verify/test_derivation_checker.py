"""The derivation kernel: its normal forms and every rule against values computed a second way, and whole proofs."""

import base64
import copy
import itertools
import random
import subprocess
import sys
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import mpmath
import numpy as np
import pytest
from derivation_builder import DIGITS, Point, Sampler, Unclear, below, same, truth, value
from derivation_proofs import (
    FALSE_STATEMENTS,
    PROOFS,
    cauchy_schwarz,
    gelu_is_above,
    normalised_variance_is_not_one,
    relu_is_not_odd,
    softmax_sums_to_one,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from axiom_jax.verification import derivation_checker as kernel
from axiom_jax.verification.derivation_checker import (
    AXIOMS,
    FALSE,
    RULES,
    TRUE,
    Goal,
    Node,
    Rejected,
    add,
    affine,
    bigmax,
    conj,
    const,
    disj,
    eq,
    every,
    exists,
    exp,
    form,
    ieq,
    ile,
    ilt,
    implies,
    integer,
    inv,
    le,
    lt,
    maximum,
    mul,
    neg,
    negated,
    normal,
    poly,
    power,
    replaced,
    run,
    shifted,
    show,
    sign,
    some,
    sqrt,
    sub,
    substitute,
    total,
    var,
)
from axiom_jax.verification.proof.derivation import Derivation, derivation_of, lipschitz_of, steps_of

SEEDS = st.integers(0, 1 << 30)
n, x, z = "n", lambda e: var("x", e), var("z")


@pytest.fixture(autouse=True)
def digits() -> Any:
    kernel.refill()
    with mpmath.workdps(DIGITS):
        yield


def tried(count: int, judge: Callable[[], bool | None]) -> None:
    """Judge so many samples; those that are unclear or outside of the domain do not count."""
    for _ in range(count):
        try:
            judged = judge()
        except (Unclear, OverflowError):
            continue
        assert judged is not False


# --- Normal forms -----------------------------------------------------------------------------------------------------
@given(SEEDS)
@settings(max_examples=150, deadline=None)
def test_normal_form_keeps_the_value(seed: int) -> None:
    s = Sampler(random.Random(seed))
    t = s.term(4, ["@i"])
    kernel.refill()
    u = normal(t)
    assert normal(u) is u

    def judge() -> bool:
        at = s.point("@i")
        a, b = value(t, at), value(u, at)
        least = sign(poly(t))
        if least and below(b, Fraction(0)):
            return False
        if least == 2 and not below(Fraction(0), b):
            return False
        return same(a, b)

    tried(4, judge)


@given(SEEDS)
@settings(max_examples=100, deadline=None)
def test_normal_formula_keeps_the_truth(seed: int) -> None:
    s = Sampler(random.Random(seed))
    f = s.formula(3, ["@i"])
    kernel.refill()
    g, h = form(f), negated(f)

    def judge() -> bool:
        at = s.point("@i")
        return truth(f, at) == truth(g, at) != truth(h, at)

    tried(4, judge)


@given(SEEDS)
@settings(max_examples=80, deadline=None)
def test_substitution_keeps_the_value(seed: int) -> None:
    """Index expressions for names and terms for variables, under binders whose names are among them."""
    s = Sampler(random.Random(seed))
    t, inside = s.term(4, ["@i"]), s.term(2, ["@i", "@p"])
    e = s.index(["@k", "@b1"])
    moved, put = substitute(t, {"@i": e}), replaced(t, "x", ["@p"], inside)

    class Other(Point):
        def entry(self, name: str, index: tuple[int, ...]) -> Any:
            return value(inside, outer.under("@p", *index)) if name == "x" else super().entry(name, index)

        def under(self, name: str, k: int) -> "Other":
            return Other(self.integers | {name: k}, self.seed)

    def judge() -> bool:
        nonlocal outer
        at = s.point("@k", "@b1")
        outer = s.point("@i")
        return same(value(moved, at), value(t, at.under("@i", at.affine(e)))) and same(
            value(put, outer), value(t, Other(outer.integers, outer.seed))
        )

    outer = s.point("@i")
    tried(4, judge)


def test_bound_names_do_not_matter() -> None:
    a = total("@i", n, mul(x("@i"), var("y", "@i", "@k")))
    assert a is total("@j", n, mul(x("@j"), var("y", "@j", "@k")))
    assert a is not total("@k", n, mul(x("@k"), var("y", "@k", "@k")))
    assert substitute(a, {"@k": affine("@i")}) is total("@j", n, mul(x("@j"), var("y", "@j", "@i")))
    shadowed = every("@j", n, some("@j", n, lt(x("@j"), x("@j"))))
    assert every("@i", n, some("@j", n, lt(x("@i"), x("@j")))) is not shadowed


@pytest.mark.parametrize(
    ("left", "right"),
    [
        (mul(exp(z), exp(neg(z))), const(1)),
        (mul(exp(mul(Fraction(1, 2), z)), exp(mul(Fraction(1, 2), z))), exp(z)),
        (power(exp(mul(Fraction(1, 3), z)), 3), exp(z)),
        (inv(add(1, exp(neg(z)))), mul(exp(z), inv(add(1, exp(z))))),
        (total("@i", n, const(1)), integer(n)),
        (mul(integer(n), inv(integer(n))), const(1)),
        (kernel.ite(le(z, 0), z, z), z),
        (maximum(z, z), z),
        (maximum(maximum(z, 0), 0), maximum(z, 0)),
        (bigmax("@i", n, add(x("@i"), z)), add(z, bigmax("@i", n, x("@i")))),
        (kernel.log(exp(z)), z),
        (inv(inv(z)), z),
        (mul(z, z, inv(z)), z),
        (total("@i", n, total("@j", 2, var("y", "@i", "@j"))), total("@j", 2, total("@i", n, var("y", "@i", "@j")))),
    ],
)
def test_identities_are_normal(left: Node, right: Node) -> None:
    assert normal(left) is normal(right)


@pytest.mark.parametrize(
    ("left", "right"),
    [
        (mul(z, inv(z)), const(1)),  # z may be 0
        (sqrt(power(z, 2)), z),
        (total("@i", shifted(n, -2), const(1)), integer(shifted(n, -2))),  # an empty sum is 0, not -1
        (bigmax("@i", shifted(n, -1), z), z),  # may be empty
        (bigmax("@i", shifted(n, -1), add(x("@i"), z)), add(z, bigmax("@i", shifted(n, -1), x("@i")))),
        (power(sqrt(z), 2), z),
        (exp(kernel.log(z)), z),
        (kernel.log(mul(z, var("y"))), add(kernel.log(z), kernel.log(var("y")))),
        (maximum(neg(z), 0), neg(maximum(z, 0))),
        (mul(var("v"), inv(add(var("v"), var("e")))), const(1)),
        (x("@i"), x("@j")),
        (inv(add(z, 1)), add(inv(z), 1)),
    ],
)
def test_almost_identities_are_not(left: Node, right: Node) -> None:
    assert normal(left) is not normal(right)
    assert form(eq(left, right)) is not TRUE


# --- Rules: what they add is true, what they close is true, and what they leave open is enough -----------------------
@pytest.mark.parametrize("name", sorted(AXIOMS))
def test_axioms_are_true(name: str) -> None:
    rng = random.Random(name)
    count = 0
    for _ in range(60):
        s = Sampler(rng)
        terms = [s.term(rng.choice([0, 1, 2]), ["@i"]) for _ in range(AXIOMS[name].__code__.co_argcount)]
        if "taylor" in name:
            terms[1] = const(rng.randrange(7))
        if name.startswith("where"):
            terms[0] = kernel.ite(s.formula(1, ["@i"]), terms[0], s.term(1, ["@i"]))
        condition, conclusion = AXIOMS[name](*terms)
        for _ in range(3):
            at = s.point("@i")
            try:
                if truth(condition, at):
                    count += 1
                    assert truth(conclusion, at), (name, show(conclusion), at.integers)
            except (Unclear, OverflowError):
                continue
    assert count > 5


def added(goal: Goal, rule: str, **given: Any) -> tuple[Node, ...]:
    (left,) = RULES[rule](goal, **given)
    assert left.goal is goal.goal
    return left.hyps[len(goal.hyps) :]


def comparison(s: Sampler, scope: list[str], ops: list[Callable[..., Node]]) -> Node:
    a, b = s.term(1, scope), s.term(1, scope)
    return s.rng.choice(ops)(*((a, add(a, power(b, 2))) if s.rng.random() < 0.6 else (a, b)))


@given(SEEDS)
@settings(max_examples=150, deadline=None)
def test_facts_that_rules_add_are_true(seed: int) -> None:
    s = Sampler(random.Random(seed))
    rng, kind = s.rng, random.Random(seed + 1).choice(
        ["sum_compare", "sum_member", "bigmax_compare", "bigmax_member", "sum_split", "sum_reverse", "unroll",
         "instantiate", "detach", "sum_pick", "size"])  # fmt: skip
    scope, size, at = ["@i", "@k"], s.size(["@i"]), s.index(["@k", "@i"])
    ops: list[Callable[..., Node]] = [le, lt] if kind == "sum_member" else [le, lt, eq]
    body = s.term(2, scope)
    hyps: list[Node] = [s.formula(1, ["@i"]), ile(0, at), ilt(at, size)]
    given: dict[str, Any] = {"at": at}
    if kind in ("sum_compare", "sum_member", "bigmax_compare", "instantiate"):
        hyps.append(every("@k", size, comparison(s, scope, ops)))
        given = {"hyp": 3} | ({} if kind.endswith("compare") else {"at": at})
    elif kind == "bigmax_member":
        given["term"] = bigmax("@k", size, body)
    elif kind == "sum_split":
        given["term"] = total("@k", shifted(size, rng.choice([0, -1, 1])), body)
    elif kind == "sum_reverse":
        given = {"term": total("@k", size, body)}
    elif kind == "unroll":
        given = {"term": rng.choice([total, bigmax])("@k", rng.randrange(4), body)}
    elif kind == "detach":
        hyps += [implies(rng.choice([hyps[0], hyps[2], s.formula(1, ["@i"])]), s.formula(1, ["@i"]))]
        given = {"hyp": 3}
    elif kind == "sum_pick":
        hyps.append(every("@q", size, disj(ieq("@q", at), eq(substitute(body, {"@k": affine("@q")}), 0))))
        given = {"term": total("@k", size, body), "at": at, "hyp": 3}
    try:
        kernel.refill()
        facts = added(Goal(tuple(hyps), FALSE), kind, **given)
    except Rejected:
        return
    assert facts

    def judge() -> bool | None:
        point = s.point("@i", "@k")
        if not all(truth(h, point) for h in hyps):
            return None
        return all(truth(f, point) for f in facts)

    tried(6, judge)


@given(SEEDS)
@settings(max_examples=150, deadline=None)
def test_rules_leave_enough_to_prove(seed: int) -> None:
    """Where a goal is false, one of the goals that a rule leaves is false, for some value of its new names."""
    s = Sampler(random.Random(seed))
    rng = s.rng
    f = s.formula(2, ["@i"])
    hyps = tuple(s.formula(1, ["@i"]) for _ in range(2))
    a, b = s.term(1, ["@i"]), s.term(1, ["@i"])
    pattern = s.formula(2, ["@i"])
    pattern = replaced(pattern, "z", [], add(var("z"), var("hole")))
    options: list[tuple[str, Node, dict[str, Any], tuple[Node, ...]]] = [
        ("intro", rng.choice([every("@k", s.size(["@i"]), s.formula(1, ["@i", "@k"])), implies(f, hyps[0])]), {}, ()),
        ("split", rng.choice([conj(f, hyps[0]), eq(a, b)]), {}, ()),
        ("choose", disj(f, hyps[1]), {"part": rng.randrange(2)}, ()),
        ("cases", f, {"formula": hyps[0]}, ()),
        ("have", f, {"formula": pattern}, ()),
        ("absurd", f, {}, ()),
        ("either", f, {"hyp": 2}, (disj(*hyps),)),
        ("unpack", f, {"hyp": 2, "name": ""}, (conj(*hyps),)),
        ("unpack", f, {"hyp": 2, "name": "@k"}, (some("@k", s.size(["@i"]), s.formula(1, ["@i", "@k"])),)),
        ("point", some("@k", s.size(["@i"]), s.formula(1, ["@i", "@k"])), {"at": s.index(["@i"])}, ()),
        ("rewrite", replaced(pattern, "hole", [], a), {"hyp": 2, "name": "hole", "formula": pattern}, (eq(a, b),)),
        ("induction", every("@k", s.size(["@i"]), s.formula(1, ["@i", "@k"])), {"name": "@k"}, ()),
        ("change", f, {"formula": form(f)}, ()),
        ("bigmax_attained", f, {"term": bigmax("@q", s.size(["@i"]), s.term(1, ["@i", "@q"])), "name": "@k"}, ()),
    ]
    rule, goal, given, more = rng.choice(options)
    if rule == "intro":
        given = {"name": "@k" if goal.op == "all" else ""}
    start = Goal((*hyps, *more), goal)
    try:
        kernel.refill()
        left = RULES[rule](start, **given)
    except Rejected:
        return

    def holds(g: Goal, at: Point) -> bool:
        return not all(truth(h, at) for h in g.hyps) or truth(g.goal, at)

    def judge() -> bool:
        at = s.point("@i")
        return holds(start, at) or any(not holds(g, at.under("@k", k)) for g in left for k in range(8))

    tried(8, judge)


@given(SEEDS)
@settings(max_examples=150, deadline=None)
def test_integer_reasoning_is_sound(seed: int) -> None:
    s = Sampler(random.Random(seed))
    names = ["@i", "@k"]
    facts = [s.rng.choice([ile, ilt, ieq])(s.index(names), s.index(names)) for _ in range(3)]
    e = s.index(names)
    if not kernel.follows(facts, e):
        return
    for i in range(5):
        for k in range(5):
            for size in range(1, 5):
                for other in range(1, 4):
                    at = Point({"@i": i, "@k": k, "n": size, "m": other}, 0)
                    assert not all(truth(f, at) for f in facts) or at.affine(e) >= 0


def test_integer_reasoning_finds_what_is_needed() -> None:
    assert kernel.follows([ilt("@i", "@j"), ilt("@j", n)], shifted(shifted(n, -2), "@i", -1))
    assert kernel.follows([ieq("@i", shifted("@j", 1))], shifted("@i", -1))
    assert not kernel.follows([], shifted(n, -2))
    assert not kernel.follows([ile("@i", n)], shifted(shifted(n, -1), "@i", -1))


@given(SEEDS)
@settings(max_examples=60, deadline=None)
def test_arith_is_sound(seed: int) -> None:
    """Random combinations of hypotheses prove what they add up to, and nothing that fails where they hold."""
    s = Sampler(random.Random(seed))
    rng = s.rng
    hyps = [comparison(s, ["@i"], [le, lt, eq]) for _ in range(3)]
    pieces = [
        (Fraction(rng.randint(1, 3), rng.randint(1, 2)), rng.sample(range(3), rng.randrange(3)),
         [s.term(1, ["@i"]) for _ in range(rng.randrange(2))])
        for _ in range(rng.randrange(1, 3))
    ]  # fmt: skip
    diff = lambda k: sub(hyps[k].args[1], hyps[k].args[0])
    result = add(const(0), *(mul(c, *map(diff, hs), *(power(q, 2) for q in qs)) for c, hs, qs in pieces))
    equations = [k for k in range(3) if hyps[k].op == "eq" and rng.random() < 0.7]
    zero = [(k, s.term(1, ["@i"])) for k in equations]
    result = add(result, *(mul(diff(k), t) for k, t in zero))
    op, twist = rng.choice([le, lt, eq]), rng.choice([0, 0, 0, 1])
    goal = Goal(tuple(hyps), op(const(twist), result))
    try:
        assert RULES["arith"](goal, sum=pieces, zero=zero) == []
    except Rejected:
        assert twist or op is not le
        return
    assert not twist

    def judge() -> bool | None:
        at = s.point("@i")
        return truth(goal.goal, at) if all(truth(h, at) for h in hyps) else None

    tried(10, judge)


@pytest.mark.parametrize("op", ["exp", "log", "sqrt", "erf", "sin", "cos", "inv"])
@pytest.mark.parametrize("bits", [32, 64, 200])
def test_enclosures_contain_the_function(op: str, bits: int) -> None:
    rng, saved = random.Random(op), kernel.BITS[0]
    kernel.BITS[0] = bits
    try:
        with mpmath.workdps(150):
            for _ in range(60):
                a = Fraction(rng.randint(-4000, 4000), rng.choice([1, 7, 100, 1000, 10**6]))
                a = abs(a) + Fraction(1, 10**6) if op in ("log", "inv") else a
                a = a / 20 if op in ("sin", "cos", "exp") and abs(a) > 200 else a
                a = Fraction(0) if rng.random() < 0.05 and op not in ("log", "inv") else a
                b = a + rng.choice([Fraction(0), Fraction(1, 9), Fraction(3)])
                kernel.refill()
                low, high = kernel.image(op, (a, b))
                assert low <= high
                for t in (a, (2 * a + b) / 3, b):
                    t = mpmath.mpf(t.numerator) / t.denominator
                    own = {"inv": lambda t: 1 / t, "sqrt": lambda t: mpmath.sqrt(max(t, 0))}
                    true = own.get(op, getattr(mpmath, op, None))(t)
                    slack = mpmath.mpf(10) ** -140 * (1 + abs(true))
                    assert mpmath.mpf(low.numerator) / low.denominator <= true + slack
                    assert true - slack <= mpmath.mpf(high.numerator) / high.denominator
                if a == b and op != "inv":
                    assert (high - low) <= max(1, high) * Fraction(1, 1 << (bits - 12))
    finally:
        kernel.BITS[0] = saved


@given(SEEDS)
@settings(max_examples=80, deadline=None)
def test_points_are_evaluated_soundly(seed: int) -> None:
    """What `Values` encloses contains the value, and what it decides is so."""
    s = Sampler(random.Random(seed))
    t, f = s.term(3, []), s.formula(2, [])
    point = Point({"n": s.rng.randint(1, 3), "m": s.rng.randint(1, 3)}, seed)
    at = {name: affine(k) for name, k in point.integers.items()}
    kernel.BITS[0] = 128
    values = kernel.Values({}, lambda v: (point.entry(v.args[0], tuple(e.const for e in v.args[1:])),) * 2)
    kernel.refill()
    try:
        low, high = values.of(substitute(t, at))
        true = value(t, point)
        number = Fraction(int(true * 2**120), 2**120) if not isinstance(true, Fraction) else true
        slack = Fraction(0) if isinstance(true, Fraction) else abs(number) / 10**25 + Fraction(1, 10**25)
        assert low - slack <= number <= high + slack
    except (Rejected, Unclear, OverflowError):
        pass
    try:
        decided = values.holds(substitute(f, at))
        assert decided is None or decided == truth(f, point)
    except (Rejected, Unclear, OverflowError):
        pass


# --- Whole derivations ------------------------------------------------------------------------------------------------
def envelope(payload: Any) -> bytes:
    return Derivation(payload).to_bytes()


@pytest.mark.parametrize("make", PROOFS, ids=lambda make: make.__name__)
def test_derivations_are_accepted(make: Callable[[], Derivation]) -> None:
    verdict = kernel.check(make().to_bytes())
    assert verdict.accepted, verdict.reason
    assert verdict.lines[-1] == "signature not checked"


PROOF_STEPS = [steps_of(make())[1] for make in PROOFS if make is not gelu_is_above and make().claim == "holds"]


@pytest.mark.parametrize(("text", "hyps", "goal"), FALSE_STATEMENTS, ids=[text for text, _, _ in FALSE_STATEMENTS])
def test_false_statements_are_not_derived(text: str, hyps: list[Node], goal: Node) -> None:
    """No rule that closes goals closes them, at once or after the steps of proofs of what is almost the same."""
    start, terms = Goal(tuple(hyps), goal), [z, x("@i"), integer(n), var("y")]
    everything = range(len(hyps))
    closers: list[list[tuple[str, dict[str, Any]]]] = [
        [("trivial", {})], [("integers", {})], [("absurd", {}), ("integers", {})],
        *([("assumption", {"hyp": k})] for k in everything),
        *([("clash", {"hyp": k, "other": other})] for k in everything for other in everything),
        *([("arith", {"sum": [(Fraction(1), [], [t])], "zero": []})] for t in terms),
        [("arith", {"sum": [(Fraction(1), [], [])], "zero": []})], [("arith", {"sum": [], "zero": []})],
        [("interval", {"terms": [z], "lo": [Fraction(-9)], "hi": [Fraction(9)], "pieces": 9})],
        *PROOF_STEPS,
    ]  # fmt: skip
    openings: list[list[tuple[str, dict[str, Any]]]] = [
        [], [("intro", {"name": "@q"})], [("intro", {"name": ""})], [("split", {})], [("absurd", {})],
        *([("axiom", {"name": name, "terms": [z]})] for name in ("exp_tangent", "sqrt_nonnegative", "erf_range")),
    ]  # fmt: skip
    for opening in openings:
        for closer in closers:
            with pytest.raises(Rejected):
                run(start, [*opening, *closer])
    variables = [(name, []) for name in ("z", "y", "v", "e")] + [("x", ["n"])]
    verdict = kernel.check(derivation_of(text, [n], variables, hyps, goal, [("trivial", {})]).to_bytes())
    assert not verdict.accepted and verdict.code == 1


def test_the_false_statements_are_false() -> None:
    for text, hyps, goal in FALSE_STATEMENTS:
        points = [Point({"n": k % 3 + 1}, k) for k in range(200)]
        assert any(all(truth(h, at) for h in hyps) and not truth(goal, at) for at in points), text


def test_a_violated_claim_needs_a_point_where_it_fails() -> None:
    good = relu_is_not_odd().payload
    for values, sizes in [(["0", "0"], 2), (["1/3"], 2), (["0", "1/3"], 3), (["0", "1/3"], 0), (["0", "2/6"], 2)]:
        payload = good | {"proof": {"bits": 192, "sizes": {"n": sizes}, "values": {"x": values}}}
        assert not kernel.check(envelope(payload)).accepted
    bits = [{"proof": good["proof"] | {"bits": b}} for b in (1, 10**9, True, "192")]
    for change in ({"claim": "holds"}, *bits):
        assert not kernel.check(envelope(good | change)).accepted


def test_hypotheses_must_hold_at_the_point() -> None:
    payload = copy.deepcopy(normalised_variance_is_not_one().payload)
    assert kernel.check(envelope(payload)).accepted
    payload["proof"]["values"]["eps"] = ["-1/100"]
    assert "hypothesis 0" in kernel.check(envelope(payload)).reason


def test_names_stay_in_their_places() -> None:
    """What is new must be new: no index escapes from its binder, no witness is captured."""
    goal = Goal((every("@i", n, le(0, x("@i"))), ilt("@k", n)), some("@j", n, le(x("@j"), x("@k"))))
    with pytest.raises(Rejected, match="not fresh"):
        RULES["bigmax_attained"](goal, term=bigmax("@i", n, x("@i")), name="@k")
    with pytest.raises(Rejected, match="not fresh"):
        RULES["bigmax_attained"](goal, term=bigmax("@i", n, var("y", "@i", "@q")), name="@q")
    with pytest.raises(Rejected, match="not fresh"):
        RULES["intro"](goal._replace(goal=every("@a", n, le(x("@a"), x("@k")))), name="@k")
    with pytest.raises(Rejected, match="not in range"):
        RULES["instantiate"](goal, hyp=0, at=affine(1))
    with pytest.raises(Rejected, match="not in range"):
        RULES["instantiate"](goal, hyp=0, at=affine("n"))
    with pytest.raises(Rejected, match="not in range"):
        RULES["point"](goal, at=affine("@q"))
    y = var("y", "@i")
    (left,) = RULES["witness"](
        Goal((), exists("y", [n], every("@i", n, le(y, var("x", "@i", "@k"))))), names=["@p"], term=var("w", "@p", "@i")
    )
    assert left.goal is every("@j", n, le(var("w", "@j", "@i"), var("x", "@j", "@k")))
    (left,) = RULES["rewrite"](
        Goal((eq(x("@i"), z),), every("@j", n, le(x("@i"), x("@j")))), hyp=0, name="h",
        formula=every("@i", n, le(var("h"), x("@i"))),
    )  # fmt: skip
    assert left.goal is every("@j", n, le(z, x("@j")))
    with pytest.raises(Rejected, match="loose"):
        kernel.bind("sum", n, "@i", total("@j", n, x("@j")).args[1])


def test_strictness_is_kept() -> None:
    goal = Goal((le(0, z), lt(0, z)), lt(0, z))
    assert RULES["arith"](goal, sum=[(Fraction(1), [1], [])], zero=[]) == []
    for part in [(Fraction(1), [0], []), (Fraction(-1), [1], []), (Fraction(0), [1], [])]:
        with pytest.raises(Rejected):
            RULES["arith"](goal, sum=[part], zero=[])
    square = goal._replace(goal=lt(0, power(z, 2)))
    assert RULES["arith"](square, sum=[(Fraction(1), [1, 1], [])], zero=[]) == []
    for part in [(Fraction(1), [0, 1], []), (Fraction(1), [], [z]), (Fraction(1), [0, 0], [])]:
        with pytest.raises(Rejected):
            RULES["arith"](square, sum=[part], zero=[])


def deep(count: int) -> list[Any]:
    return [["var", "z"], *(["exp", k] for k in range(count)), ["le", count, count]]


def test_hostile_files_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel, "MAX_WORK", kernel.MAX_WORK // 10)  # a tenth of the time will do
    base = {"text": "", "sizes": [], "variables": [{"name": "z", "shape": []}], "hypotheses": [], "meta": {}}
    def judged(terms: list[Any], proof: Any = None, claim: str = "holds") -> kernel.Verdict:
        proof = [{"rule": "trivial"}] if proof is None else proof
        return kernel.check(envelope(base | {"terms": terms, "goal": len(terms) - 1, "claim": claim, "proof": proof}))

    start = time.monotonic()
    assert "too deep" in judged(deep(5000)).reason
    doubled = [["var", "z"], *(["add", k, k] for k in range(150)), ["le", 150, 0]]
    assert not judged(doubled).accepted
    powers = [["var", "z"], ["const", "1"], ["add", 0, 1], *(["pow", k, 64] for k in (2, 3, 4)), ["le", 5, 0]]
    assert not judged(powers).accepted
    squares = [["const", "3/2"], *(["pow", k, 64] for k in range(20)), ["le", 20, 0]]
    assert not judged(squares).accepted
    tower = [["const", "9"], *(["exp", k] for k in range(8)), ["le", 8, 0]]
    point = {"bits": 2048, "sizes": {}, "values": {"z": ["0"]}}
    assert not judged(tower, point, "violated").accepted
    sums = [["var", "z"], *(["sum", [100000], f"@i{k}", k] for k in range(6)), ["le", 6, 0]]
    assert not judged(sums, point, "violated").accepted
    many = [["var", "z"], ["const", "0"], ["le", 1, 0]]
    parts = [{"rule": "interval", "terms": [0], "lo": ["-1"], "hi": ["1"], "pieces": 1 << 30}]
    payload = base | {"terms": [*many, ["const", "-1"], ["const", "1"], ["le", 3, 0], ["le", 0, 4]], "claim": "holds"}
    assert not kernel.check(envelope(payload | {"hypotheses": [5, 6], "goal": 2, "proof": parts})).accepted
    assert time.monotonic() - start < 60


@pytest.mark.parametrize(
    "data",
    [b"", b"{}", b"[" * 100000, b'{"digest":"","format":"axiom-certificate","payload":{},"version":1}', b"\xff", b"nan",
     b'{"digest":"","format":"axiom-derivation","payload":{"a":1.5},"version":1}',
     b'{"digest":"","format":"axiom-derivation","payload":{},"payload":{},"version":1}',
     b'{"digest":"","format":"axiom-derivation","payload":{},"version":2}'],
)
def test_what_is_no_derivation_is_unreadable(data: bytes) -> None:
    assert kernel.check(data).code == 2


def test_malformed_payloads_are_rejected() -> None:
    good = copy.deepcopy(cauchy_schwarz().payload)
    data = envelope(good)
    assert kernel.check(data).accepted and kernel.check(data.rstrip()).accepted
    assert kernel.check(data + b"\n").code == 2
    assert kernel.check(data.replace(b'"digest":"', b'"digest":"0', 1)).code == 1
    changes: list[dict[str, Any]] = [
        {"more": 1}, {"claim": "proved"}, {"claim": 1}, {"goal": -1}, {"goal": True}, {"goal": len(good["terms"])},
        {"sizes": ["n", "n"]}, {"sizes": ["@n"]}, {"sizes": []}, {"sizes": None}, {"variables": []}, {"text": 1},
        {"variables": [*good["variables"], good["variables"][0]]}, {"meta": []}, {"terms": {}}, {"hypotheses": [0]},
        {"variables": [{"name": "x", "shape": []}, {"name": "y", "shape": [[0, ["n", 1]]]}]},
        {"proof": []}, {"proof": [*good["proof"], {"rule": "trivial"}]}, {"proof": good["proof"][:-1]},
        {"proof": [{"rule": "sorry"}]}, {"proof": [{"rule": "trivial", "more": 1}]}, {"proof": [1]}, {"proof": {}},
        {"terms": [*good["terms"], ["const", "2/4"]]}, {"terms": [*good["terms"], ["const", 1]]},
        {"terms": [*good["terms"], ["add", len(good["terms"])]]}, {"terms": [*good["terms"], ["pow", 0, 65]]},
        {"terms": [*good["terms"], ["var", "x", [True]]]}, {"terms": [*good["terms"], ["int", [0, ["n", 1 << 70]]]]},
        {"terms": [*good["terms"], ["sum", [0, ["@i", 1]], "@i", 0]]}, {"terms": [*good["terms"], ["not", 0]]},
    ]  # fmt: skip
    for change in changes:
        verdict = kernel.check(envelope(good | change))
        assert verdict.code == 1, (change, verdict.reason)
        assert "could not finish" not in verdict.reason


@pytest.mark.parametrize("flags", [["-I", "-S"], ["-I", "-S", "-O"]])
def test_the_script(tmp_path: Path, flags: list[str]) -> None:
    script = Path(kernel.__file__).resolve()
    good, bad = tmp_path / "good.cert", tmp_path / "bad.cert"
    good.write_bytes(softmax_sums_to_one().to_bytes())
    bad.write_bytes(envelope(softmax_sums_to_one().payload | {"proof": []}))
    say = lambda *paths: subprocess.run(
        [sys.executable, *flags, str(script), *map(str, paths)], capture_output=True, text=True, timeout=60, check=False
    )
    accepted = say(good)
    assert accepted.returncode == 0 and accepted.stdout.startswith("accepted\nclaim        holds: for all sizes >= 1")
    rejected = say(bad)
    assert (rejected.returncode, rejected.stdout) == (1, "rejected: 1 goals are left open\n")
    assert say(tmp_path / "none.cert").returncode == 2
    assert say(good, bad).returncode == 1


# --- Lipschitz constants ----------------------------------------------------------------------------------------------
def layer(weight: np.ndarray, low: str = "0", high: str = "1") -> dict[str, Any]:
    data = base64.b64encode(weight.astype("<f4").tobytes()).decode()
    return {"shape": list(weight.shape), "weight": data, "slopes": [low, high]}


def lipschitz(layers: list[dict[str, Any]], norm: str, bound: Fraction, proof: dict[str, Any]) -> kernel.Verdict:
    return kernel.check(lipschitz_of("", layers, norm, bound, proof).to_bytes())


def just_above(value: float) -> Fraction:
    return Fraction(round(value * (1 + 1e-7) * 2**40), 2**40)


@pytest.mark.parametrize("seed", range(5))
def test_lipschitz_constants(seed: int) -> None:
    rng = np.random.default_rng(seed)
    sizes = [3, 5, 4, 2]
    ws = [rng.normal(size=(b, a)).astype(np.float32).astype(float) for a, b in itertools.pairwise(sizes)]
    low = ["0", "-1/8"][seed % 2]
    layers = [*(layer(w, low) for w in ws[:-1]), layer(ws[-1], "1", "1")]
    norms = [just_above(float(np.linalg.norm(w, 2))) for w in ws]
    whole = norms[0] * norms[1] * norms[2]
    product = {"kind": "product", "scales": [str(s) for s in norms]}
    assert lipschitz(layers, "2", whole, product).accepted
    assert not lipschitz(layers, "2", whole * Fraction(999, 1000), product).accepted
    for k in range(3):
        low_scales = [str(s * (Fraction(9999, 10000) if j == k else 1)) for j, s in enumerate(norms)]
        assert "norm of layer" in lipschitz(layers, "2", whole * 2, {"kind": "product", "scales": low_scales}).reason
    for norm, axis in (("1", 0), ("inf", 1)):
        true = Fraction(float(np.abs(np.abs(ws[2]) @ np.abs(ws[1]) @ np.abs(ws[0])).sum(axis).max()))
        assert lipschitz(layers, norm, just_above(float(true)), {"kind": "sums"}).accepted
        assert not lipschitz(layers, norm, true * Fraction(999, 1000), {"kind": "sums"}).accepted
    assert not lipschitz(layers, "2", whole * 9, {"kind": "sums"}).accepted


@given(SEEDS)
@settings(max_examples=25, deadline=None)
def test_lipsdp_is_sound(seed: int) -> None:
    """Whatever the multipliers: what is accepted is at least what sampled pairs show, and the matrix is psd."""
    rng = np.random.default_rng(seed)
    sizes = list(rng.integers(1, 5, size=rng.integers(2, 5)))
    ws = [rng.integers(-3, 4, size=(b, a)).astype(np.float32) for a, b in itertools.pairwise(sizes)]
    slope = float(rng.choice([0.0, 0.5, -0.25]))
    layers = [*(layer(w, str(Fraction(slope))) for w in ws[:-1]), layer(ws[-1], "1", "1")]
    multipliers = [[str(Fraction(int(rng.integers(0, 40)), 4)) for _ in range(w.shape[0])] for w in ws[:-1]]
    activation = lambda v: np.where(v > 0, v, slope * v)
    def network(v: np.ndarray) -> np.ndarray:
        for w in ws[:-1]:
            v = activation(v @ w.T)
        return v @ ws[-1].T

    a = rng.normal(size=(200, sizes[0]))
    b = a + rng.normal(size=a.shape) * 0.1
    ratio = np.linalg.norm(network(a) - network(b), axis=1) / np.linalg.norm(a - b, axis=1)
    for bound in (Fraction(1, 2), Fraction(2), Fraction(8), Fraction(60)):
        if lipschitz(layers, "2", bound, {"kind": "lipsdp", "multipliers": multipliers}).accepted:
            assert float(bound) >= ratio.max() * (1 - 1e-9)
            raw = [[Fraction(t) for t in row] for row in multipliers]
            m = kernel.lipsdp([kernel.read_layer(x) for x in layers], raw, bound)
            assert np.linalg.eigvalsh(np.array(m, float)).min() > -1e-6


def test_lipsdp_is_tighter_than_the_product() -> None:
    rng = np.random.default_rng(1)
    first, last = (rng.normal(size=s).astype(np.float32).astype(float) for s in ((12, 6), (1, 12)))
    t = np.full(12, 0.6 * float(np.linalg.norm(last)) ** 2)
    inside = np.linalg.inv(2 * np.diag(t) - last.T @ last)
    best = float(np.linalg.eigvalsh(first.T @ np.diag(t) @ inside @ np.diag(t) @ first)[-1]) ** 0.5
    bound = just_above(best)
    proof = {"kind": "lipsdp", "multipliers": [[str(Fraction(x)) for x in t]]}
    layers = [layer(first), layer(last, "1", "1")]
    assert lipschitz(layers, "2", bound, proof).accepted
    assert not lipschitz(layers, "2", bound * Fraction(999, 1000), proof).accepted
    assert float(bound) < float(np.linalg.norm(first, 2) * np.linalg.norm(last, 2))
    negative = {"kind": "lipsdp", "multipliers": [["-1", *proof["multipliers"][0][1:]]]}
    assert "negative" in lipschitz(layers, "2", bound * 9, negative).reason
