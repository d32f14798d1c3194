"""Derivations made by hand: true statements with their proofs, and statements that no proof may prove."""

from fractions import Fraction
from typing import Any

from axiom_jax.verification.derivation_checker import (
    FALSE,
    Node,
    add,
    affine,
    bigmax,
    bind,
    conj,
    const,
    disj,
    div,
    eq,
    erf,
    every,
    exists,
    exp,
    ieq,
    ile,
    ilt,
    implies,
    integer,
    inv,
    ite,
    le,
    log,
    lt,
    maximum,
    mul,
    ne,
    neg,
    power,
    shifted,
    sqrt,
    sub,
    total,
    var,
)  # fmt: skip
from axiom_jax.verification.proof.derivation import Derivation, Step, derivation_of, refutation_of

n, z, Vector = "n", var("z"), [("x", ["n"])]
ident = lambda e: var("x", e)


def softmax(f: Any, i: Any, size: Any = n) -> Node:
    top = bigmax("@j", size, f("@j"))
    return div(exp(sub(f(i), top)), total("@k", size, exp(sub(f("@k"), top))))


def sigmoid(t: Node) -> Node:
    return inv(add(1, exp(neg(t))))


def relu(t: Node) -> Node:
    return maximum(t, 0)


def tanh(t: Node) -> Node:
    return div(sub(exp(t), exp(neg(t))), add(exp(t), exp(neg(t))))


def mean(f: Any) -> Node:
    return mul(inv(integer(n)), total("@i", n, f("@i")))


MU = mean(ident)
VARIANCE = mean(lambda i: power(sub(ident(i), MU), 2))


def layer_norm(i: Any) -> Node:
    return div(sub(ident(i), MU), sqrt(add(VARIANCE, var("eps"))))


def gelu(t: Node) -> Node:
    return mul(Fraction(1, 2), t, add(1, erf(mul(t, Fraction(70710678, 10**8)))))


def step(rule: str, **given: Any) -> Step:
    return rule, given


def axiom(name: str, *terms: Any) -> Step:
    return "axiom", {"name": name, "terms": list(terms)}


def arith(*parts: Any, zero: Any = ()) -> Step:
    return "arith", {"sum": [(Fraction(c), hs, qs) for c, hs, qs in parts], "zero": list(zero)}


def softmax_sums_to_one() -> Derivation:
    goal = eq(total("@i", n, softmax(ident, "@i")), 1)
    return derivation_of("sum(softmax(x)) == 1", [n], Vector, [], goal, [step("trivial")])


def softmax_is_invariant() -> Derivation:
    moved = softmax(lambda i: add(ident(i), z), "@i")
    goal = every("@i", n, eq(moved, softmax(ident, "@i")))
    return derivation_of("softmax(x + c) == softmax(x)", [n], [*Vector, ("z", [])], [], goal, [step("trivial")])


def softmax_is_at_most_one() -> Derivation:
    """From Σ softmax = 1 and softmax > 0: one member is at most the sum."""
    steps = [
        step("have", formula=every("@k", n, le(0, softmax(ident, "@k")))),
        step("trivial"),
        step("intro", name="@i"),
        step("sum_member", hyp=0, at=affine("@i")),
        step("assumption", hyp=2),
    ]
    goal = every("@i", n, le(softmax(ident, "@i"), 1))
    return derivation_of("softmax(x) <= 1", [n], Vector, [], goal, steps)


def sigmoid_range() -> Derivation:
    more = add(1, exp(z))
    steps = [step("split"), step("trivial"), axiom("inv_cancel", more), axiom("inv_positive", more),
             arith((1, [1], []), zero=[(0, const(1))])]  # fmt: skip
    goal = conj(lt(0, sigmoid(z)), lt(sigmoid(z), 1))
    return derivation_of("0 < sigmoid(z) < 1", [], [("z", [])], [], goal, steps)


def sigmoid_is_monotone() -> Derivation:
    y = var("y")
    below, above = add(1, exp(neg(y))), add(1, exp(neg(z)))
    steps = [
        step("have", formula=le(neg(y), neg(z))), arith((1, [0], [])),
        axiom("exp_monotone", neg(y), neg(z)),
        step("have", formula=le(below, above)), arith((1, [2], [])),
        axiom("inv_antitone", below, above),
        step("assumption", hyp=4),
    ]  # fmt: skip
    goal = le(sigmoid(z), sigmoid(y))
    return derivation_of("z <= y ==> sigmoid(z) <= sigmoid(y)", [], [("z", []), ("y", [])], [le(z, y)], goal, steps)


def relu_is_idempotent() -> Derivation:
    goal = every("@i", n, eq(relu(relu(ident("@i"))), relu(ident("@i"))))
    return derivation_of("relu(relu(x)) == relu(x)", [n], Vector, [], goal, [step("trivial")])


def tanh_is_odd() -> Derivation:
    goal = eq(tanh(neg(z)), neg(tanh(z)))
    return derivation_of("tanh(-z) == -tanh(z)", [], [("z", [])], [], goal, [step("trivial")])


def layer_norm_has_mean_zero() -> Derivation:
    variables = [*Vector, ("eps", [])]
    hyps = [lt(0, var("eps"))]
    return derivation_of("mean(ln(x)) == 0", [n], variables, hyps, eq(mean(layer_norm), 0), [step("trivial")])


def cauchy_schwarz() -> Derivation:
    """(Σ xy)² <= Σ x² Σ y², from 0 <= Σ_i Σ_j (x_i y_j - x_j y_i)²."""
    x, y = ident, lambda e: var("y", e)
    square = lambda i: total("@j", n, power(sub(mul(x(i), y("@j")), mul(x("@j"), y(i))), 2))
    steps = [
        step("have", formula=every("@i", n, le(0, square("@i")))),
        step("intro", name="@i"),
        step("have", formula=every("@j", n, le(0, power(sub(mul(x("@i"), y("@j")), mul(x("@j"), y("@i"))), 2)))),
        step("intro", name="@j"),
        arith((1, [], [sub(mul(x("@i"), y("@j")), mul(x("@j"), y("@i")))])),
        step("sum_compare", hyp=1),
        step("assumption", hyp=2),
        step("sum_compare", hyp=0),
        arith((Fraction(1, 2), [1], [])),
    ]
    dot = lambda f, g: total("@i", n, mul(f("@i"), g("@i")))
    goal = le(power(dot(x, y), 2), mul(dot(x, x), dot(y, y)))
    return derivation_of("(x @ y)**2 <= (x @ x) * (y @ y)", [n], [*Vector, ("y", ["n"])], [], goal, steps)


def attention_row_is_bounded() -> Derivation:
    """Σ_j softmax(s)_j v_j <= c if every v_j <= c."""
    s, v, c = lambda e: var("s", e), lambda e: var("v", e), var("c")
    weight = lambda j: softmax(s, j)
    steps = [
        step("have", formula=every("@j", n, le(mul(weight("@j"), v("@j")), mul(weight("@j"), c)))),
        step("intro", name="@j"),
        step("instantiate", hyp=0, at=affine("@j")),
        step("have", formula=le(0, weight("@j"))), step("trivial"),
        arith((1, [2, 3], [])),
        step("sum_compare", hyp=1),
        step("assumption", hyp=2),
    ]  # fmt: skip
    goal = le(total("@j", n, mul(weight("@j"), v("@j"))), c)
    variables = [("s", ["n"]), ("v", ["n"]), ("c", [])]
    return derivation_of("attention stays below c", [n], variables, [every("@j", n, le(v("@j"), c))], goal, steps)


def gelu_is_above() -> Derivation:
    """gelu(z) >= -0.18: by pieces on [-4, 4], above since it is positive there, below by a hypothesis."""
    steps = [
        step("cases", formula=le(z, 4)),
        step("cases", formula=le(-4, z)),
        step("interval", terms=[z], lo=[-4], hi=[4], pieces=4000),
        step("detach", hyp=0), step("assumption", hyp=3),
        axiom("erf_range", mul(z, Fraction(70710678, 10**8))),
        step("unpack", hyp=2, name=""),
        arith((Fraction(1, 2), [1, 3], []), (2, [3], []), (Fraction(18, 100), [], [])),
    ]  # fmt: skip
    tail = implies(lt(z, -4), le(Fraction(-18, 100), gelu(z)))
    goal = le(Fraction(-18, 100), gelu(z))
    return derivation_of("gelu(z) >= -0.18, given its tail", [], [("z", [])], [tail], goal, steps)


def maximum_is_attained() -> Derivation:
    """Some entry is at least the mean."""
    top = bigmax("@i", n, ident("@i"))
    steps = [
        step("have", formula=every("@i", n, le(ident("@i"), top))),
        step("intro", name="@k"), step("bigmax_member", term=top, at=affine("@k")), step("assumption", hyp=1),
        step("sum_compare", hyp=0),
        step("bigmax_attained", term=top, name="@k"),
        step("point", at=affine("@k")),
        step("have", formula=le(0, inv(integer(n)))), step("trivial"),
        arith((1, [1, 4], []), zero=[(3, const(1))]),
    ]  # fmt: skip
    goal = bind("some", n, "@k", le(MU, ident("@k")))
    return derivation_of("some entry is at least the mean", [n], Vector, [], goal, steps)


def square_roots_exist() -> Derivation:
    y = var("y")
    steps = [step("witness", names=[], term=sqrt(z)), axiom("sqrt_square", z), step("assumption", hyp=1)]
    goal = exists("y", [], eq(power(y, 2), z))
    return derivation_of("exists y: y*y == z", [], [("z", [])], [le(0, z)], goal, steps)


def sum_reversed() -> Derivation:
    last = lambda i: shifted(shifted(n, -1), i, -1)
    left, right = total("@i", n, ident("@i")), total("@i", n, ident(last("@i")))
    return derivation_of("sum(x[::-1]) == sum(x)", [n], Vector, [], eq(left, right),
                         [step("sum_reverse", term=left), step("assumption", hyp=0)])  # fmt: skip


def partial_sums() -> Derivation:
    """Partial sums of numbers >= 0, by induction; the step splits the last term off."""
    upto = lambda k: total("@i", k, ident("@i"))
    steps = [
        step("induction", name="@k"),
        step("instantiate", hyp=0, at=affine(0)), step("assumption", hyp=1),
        step("sum_split", term=upto(shifted("@k", 2)), at=shifted("@k", 1)),
        step("instantiate", hyp=0, at=shifted("@k", 1)),
        arith((1, [2], []), (1, [4], []), zero=[(3, const(-1))]),
    ]  # fmt: skip
    hyps = [every("@i", n, le(0, ident("@i")))]
    goal = every("@k", n, le(0, upto(shifted("@k", 1))))
    return derivation_of("partial sums are >= 0", [n], Vector, hyps, goal, steps)


def one_hot_picks() -> Derivation:
    pick = total("@j", n, mul(ite(ieq("@j", "@i"), 1, 0), ident("@j")))
    zero = every("@j", n, disj(ieq("@j", "@i"), eq(mul(ite(ieq("@j", "@i"), 1, 0), ident("@j")), 0)))
    flag = ite(ieq("@j", "@i"), 1, 0)
    steps = [
        step("intro", name="@i"),
        step("have", formula=zero),
        step("intro", name="@j"),
        step("cases", formula=ieq("@j", "@i")),
        step("choose", part=0), step("assumption", hyp=2),
        step("choose", part=1), axiom("where_false", flag), arith(zero=[(3, ident("@j"))]),
        step("sum_pick", term=pick, at=affine("@i"), hyp=1),
        step("assumption", hyp=2),
    ]  # fmt: skip
    goal = every("@i", n, eq(pick, ident("@i")))
    return derivation_of("one_hot(i) @ x == x[i]", [n], Vector, [], goal, steps)


def relu_is_not_odd() -> Derivation:
    goal = every("@i", n, eq(relu(neg(ident("@i"))), neg(relu(ident("@i")))))
    return refutation_of("relu(-x) == -relu(x)", {n: 2}, Vector, [], goal, {"x": [0, Fraction(1, 3)]})


def normalised_variance_is_not_one() -> Derivation:
    goal = eq(div(VARIANCE, add(VARIANCE, var("eps"))), 1)
    return refutation_of("var / (var + eps) == 1", {n: 2}, [*Vector, ("eps", [])], [lt(0, var("eps"))], goal,
                         {"x": [0, 1], "eps": [Fraction(1, 100000)]})  # fmt: skip


PROOFS = [
    softmax_sums_to_one, softmax_is_invariant, softmax_is_at_most_one, sigmoid_range, sigmoid_is_monotone,
    relu_is_idempotent, tanh_is_odd, layer_norm_has_mean_zero, cauchy_schwarz, attention_row_is_bounded,
    gelu_is_above, maximum_is_attained, square_roots_exist, sum_reversed, partial_sums, one_hot_picks,
    relu_is_not_odd, normalised_variance_is_not_one,
]  # fmt: skip

SCALARS = [("z", []), ("y", []), ("v", []), ("e", [])]
FALSE_STATEMENTS: list[tuple[str, list[Node], Node]] = [
    ("relu odd", [], eq(relu(neg(z)), neg(relu(z)))),
    ("sum softmax = 2", [], eq(total("@i", n, softmax(ident, "@i")), 2)),
    ("variance / (variance + eps) = 1", [lt(0, var("e"))], eq(div(VARIANCE, add(VARIANCE, var("e"))), 1)),
    ("sizes >= 2", [], ile(2, n)),
    ("x[1] is an entry", [], implies(every("@i", n, le(0, ident("@i"))), le(0, ident(1)))),
    ("a sum over n - 2 counts", [], eq(total("@i", shifted(n, -2), const(1)), integer(shifted(n, -2)))),
    ("a maximum over n - 1 is attained", [], le(z, bigmax("@i", shifted(n, -1), z))),
    ("an empty sum of positives is positive", [], lt(0, total("@i", shifted(n, -1), const(1)))),
    ("z / z = 1", [], eq(div(z, z), 1)),
    ("sqrt(z)^2 = z", [], eq(power(sqrt(z), 2), z)),
    ("exp(log z) = z", [], eq(exp(log(z)), z)),
    ("sqrt(z^2) = z", [], eq(sqrt(power(z, 2)), z)),
    ("sigmoid >= 0.1", [], le(Fraction(1, 10), sigmoid(z))),
    ("relu >= 5", [], le(0, sub(relu(z), 5))),
    ("relu > 0", [], lt(0, relu(z))),
    ("z^2 > 0", [], lt(0, power(z, 2))),
    ("inv monotone", [le(z, var("y")), ne(z, 0), ne(var("y"), 0)], le(inv(var("y")), inv(z))),
    ("gelu >= -0.1", [], le(Fraction(-1, 10), gelu(z))),
    ("false", [], FALSE),
    ("softmax <= 1/2", [], every("@i", n, le(softmax(ident, "@i"), Fraction(1, 2)))),
    ("first = last", [], eq(ident(0), ident(shifted(n, -1)))),
    ("indices are sizes", [], every("@i", n, ile(1, "@i"))),
    ("an index below n - 1", [], every("@i", n, ilt("@i", shifted(n, -1)))),
    ("a sum equals its first term", [], eq(total("@i", n, ident("@i")), ident(0))),
]
