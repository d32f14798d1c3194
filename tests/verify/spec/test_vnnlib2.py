"""VNN-LIB 2.0: networks, tensors and polynomials; the composed network and the property mean what the file says."""

from collections.abc import Callable
from fractions import Fraction
from math import prod
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import parser

from axiom_jax._errors import ModelError, SpecError
from axiom_jax.interop.onnx.reader import from_onnx
from axiom_jax.verification.property import Atom
from axiom_jax.verification.search.decide import decide
from axiom_jax.verification.search.margins import Subject, subject_of
from axiom_jax.verification.spec.vnnlib2 import Query, parse_query
from axiom_jax.verification.spec.vnnlib2_networks import assignment_text, compose

F = Fraction
HEAD = "(vnnlib-version <2.0>)\n"
NET = "(declare-network f (declare-input X real [1,2]) (declare-output Y real [2]))\n"
BOX = "(assert (and (<= -2 X[0,0] 2) (<= -2 X[0,1] 2)))\n"


def script(*asserts: str, net: str = NET, box: str = BOX) -> str:
    return HEAD + net + box + "".join(f"(assert {formula})\n" for formula in asserts)


def unsafe(query: Query, x: list[F], y: list[F]) -> bool:
    """Whether a point is unsafe: products are computed here, and the rest is the definition of a property."""
    values = [*y, *(prod((x[v] if v >= 0 else y[-1 - v] for v in factors), start=F(1)) for factors in query.products)]

    def holds(atom: Atom) -> bool:
        total = sum((c * x[i] for i, c in atom.input), F(0)) + sum((c * values[j] for j, c in atom.output), F(0))
        return total < atom.threshold if atom.strict else total <= atom.threshold

    return any(
        all(lo <= v <= hi for lo, v, hi in zip(case.lo, x, case.hi, strict=True))
        and any(all(map(holds, disjunct)) for disjunct in case.unsafe)
        for case in query.property.cases
    )


def network(columns: int = 2, weight: float = 1.0, leaves: int = 1) -> Subject:
    """x ↦ weight · relu(x), and with two leaves also x itself."""

    def apply(params: Any, x: Any) -> Any:
        y = params * jax.nn.relu(x)
        return y if leaves == 1 else (y, x)

    return Subject(apply, np.float32(weight), (jax.ShapeDtypeStruct((1, columns), np.float32),), f"times {weight:g}")


def values_of(subject: Subject, *x: float) -> list[float]:
    return np.asarray(subject.outputs(subject.params, jnp.asarray(x, jnp.float32))).tolist()


# What formulas mean

Point = tuple[list[F], list[F]]
Formula = tuple[str, Callable[[Point], Any]]
HALVES = st.integers(-4, 4).map(lambda n: F(n, 2))
constants = HALVES.map(lambda c: (f"{float(c)}", lambda p: c))
variables = st.tuples(st.sampled_from("XY"), st.integers(0, 1), st.booleans()).map(
    lambda v: (
        f"X{' ' * v[2]}[0,{' ' * v[2]}{v[1]}]" if v[0] == "X" else f"Y[{v[1]}]",
        lambda p: p["XY".index(v[0])][v[1]],
    )
)


def combined(word: str, parts: list[Formula]) -> Formula:
    functions: dict[str, Callable[[list[Any]], Any]] = {
        "+": sum, "-": lambda vs: vs[0] - sum(vs[1:]) if len(vs) > 1 else -vs[0], "*": lambda vs: prod(vs, start=F(1)),
        "and": all, "or": any, "<=": lambda vs: vs[0] <= vs[1], "<": lambda vs: vs[0] < vs[1],
        ">=": lambda vs: vs[0] >= vs[1], ">": lambda vs: vs[0] > vs[1], "==": lambda vs: vs[0] == vs[1],
        "!=": lambda vs: vs[0] != vs[1],
    }  # fmt: skip
    function = functions[word]
    return f"({word} {' '.join(text for text, _ in parts)})", lambda p: function([value(p) for _, value in parts])


leaves = st.one_of(constants, variables)
terms = st.recursive(
    leaves,
    lambda inner: st.builds(combined, st.sampled_from("+-*"), st.lists(inner, min_size=1, max_size=3)),
    max_leaves=5,
)
words = st.sampled_from(["<=", "<", ">=", ">", "==", "!="])
comparisons = st.builds(combined, words, st.lists(terms, min_size=2, max_size=2))
formulas = st.recursive(
    comparisons,
    lambda inner: st.builds(combined, st.sampled_from(["and", "or"]), st.lists(inner, min_size=2, max_size=3)),
    max_leaves=6,
)
pairs = st.lists(HALVES, min_size=2, max_size=2)


@given(st.lists(formulas, min_size=1, max_size=2), st.lists(st.tuples(pairs, pairs), min_size=10, max_size=10))
@settings(max_examples=50, deadline=None, derandomize=True, database=None)
def test_the_property_holds_exactly_the_points_of_the_formula(asserted: list[Formula], points: list[Point]):
    expected = [all(value(p) for _, value in asserted) for p in points]
    try:
        query = parse_query(script(*(text for text, _ in asserted), "(<= Y[0] 99)"))
    except SpecError as error:
        assert "can never hold" in error.what or "empty" in error.what
        assert not any(expected)
        return
    free = [dict(zip(query.places, x, strict=True)) for x, _ in points]
    merged = [all(values[place] == v for place, v in zip(query.places, x, strict=True))
              for values, (x, _) in zip(free, points, strict=True)]  # fmt: skip
    found = [
        same and unsafe(query, [values[i] for i in sorted(values)], y)
        for same, values, (_, y) in zip(merged, free, points, strict=True)
    ]
    assert found == expected


def test_products_are_shared_and_their_coefficients_exact():
    query = parse_query(script("(<= (* 0.1 X[0,0] Y[1]) (* Y[1] X[0,0] (+ Y[0] 1)))", "(>= (* Y[1] X[0,0]) 2)"))
    assert query.products == ((-2, 0), (-2, -1, 0))
    (disjunct,) = query.property.cases[0].unsafe
    assert disjunct[0].output == ((2, F(-9, 10)), (3, F(-1)))
    assert disjunct[1] == Atom(((2, F(-1)),), F(-2))


def test_equated_inputs_are_one_input():
    net = NET + "(declare-network g (equal-to f) (declare-input A real [1,2]) (declare-output B real [2]))\n"
    tie = "(and (== X[0,1] A[0,1]) (<= A[0,0] X[0,0]) (<= X[0,0] A[0,0]))"
    query = parse_query(script(tie, "(<= -1 A[0,0])", "(>= Y[0] B[1])", net=net))
    assert query.places == (0, 1, 0, 1)
    assert [case.lo for case in query.property.cases] == [(F(-1), F(-2))]
    assert query.needed == ("f",)
    subject = compose(query, network())
    assert subject.size == 2
    assert values_of(subject, 2, -1) == [2, 0, 2, 0]
    partly = parse_query(script("(== X[0,1] A[0,0])", "(<= 0 A[0,1] 1)", "(<= Y[0] B[0])", net=net))
    assert partly.places == (0, 1, 1, 2)
    assert values_of(compose(partly, network()), 1, 2, 3) == [1, 2, 2, 3]


def test_constraints_between_inputs_are_atoms():
    query = parse_query(script("(<= (+ X[0,0] X[0,1]) 1)", "(or (<= Y[0] 0) (<= Y[1] 0))"))
    (case,) = query.property.cases
    assert [disjunct[0] for disjunct in case.unsafe] == [Atom((), F(1), ((0, F(1)), (1, F(1))))] * 2


def test_a_scalar_has_no_index_or_0():
    net = "(declare-network f (declare-input X real []) (declare-output Y float32[]))"
    for x, y in (("X", "Y"), ("X[0]", "Y[ 0 ]")):
        (case,) = parse_query(script(f"(<= -1 {x} 2.5)", f"(>= {y} (* 3 {x}))", net=net, box="")).property.cases
        assert (case.lo, case.hi) == ((F(-1),), (F(5, 2),))
        assert case.unsafe == ((Atom(((0, F(-1)),), F(0), ((0, F(3)),)),),)


def test_the_box_is_separate_from_what_every_box_shares():
    boxes = " ".join(f"(and (<= {i} X[0,0]) (<= X[0,0] {i + 0.5}))" for i in range(-2, 2))
    bad = " ".join(f"(>= Y[{j}] {k})" for j in (0, 1) for k in range(50))
    query = parse_query(script(f"(or {boxes})", f"(or {bad})"))
    assert [len(case.unsafe) for case in query.property.cases] == [100] * 4
    assert len({id(case.unsafe) for case in query.property.cases}) == 1


def test_the_first_version_is_a_query_of_one_network():
    text = "(declare-const X_0 Real) (declare-const Y_0 Real) (assert (<= 0 X_0 1)) (assert (>= (* X_0 Y_0) 1))"
    query = parse_query(text)
    assert (query.version, query.needed, query.products) == ("1.0", ("",), ((-1, 0),))
    assert values_of(compose(query, network(1, 3)), 2) == [6, 12]
    assert compose(parse_query(text.replace("(* X_0 Y_0)", "Y_0")), subject := network(1)) is subject
    with pytest.raises(SpecError, match="does not fit the network, which has 2 inputs"):
        compose(query, network(2))


# Networks

TWO = (
    HEAD
    + """
(declare-network f (declare-input X float32 [1,2]) (declare-hidden H float32 [1,2] "inner")
  (declare-output Y float32 [1,2]))
(declare-network g (RELATION f) (declare-input A float32 [1,2]) (declare-output B float32 [2]))
(assert (and (<= 0 X[0,0] 1) (<= 0 X[0,1] 1) (<= 0 A[0,0] 1) (<= 0 A[0,1] 1)))
(assert (>= (* H[0,1] B[0] B[0]) (- Y[0,0] Y[0,1])))
""".replace("B float32 [2]", "B float32 [1,2]").replace("B[0]", "B[0,0]")
)


def test_equal_networks_share_their_weights_and_expose_hidden_values():
    query = parse_query(TWO.replace("RELATION", "equal-to"))
    assert (query.needed, query.exposed("f"), query.products) == (("f",), ("inner",), ((-5, -5, -4),))
    subject = compose(query, {"f": network(weight=2, leaves=2)})
    assert values_of(subject, 3, -4, 5, 6) == [6, 0, 3, -4, 10, 12, -4 * 10 * 10]
    assert len(jax.tree.leaves(subject.params)) == 1
    lines = assignment_text(query, [F(3), F(-4), F(5), F(6)], [(F(v), F(v)) for v in (6, 0, 3, -4, 10, 12, -400)])
    assert lines.split("\n")[
        :9
    ] == "X float32 [1,2]\n3.0\n-4.0\nH float32 [1,2]\n3.0\n-4.0\nY float32 [1,2]\n6.0\n0.0".split("\n")


def test_isomorphic_networks_have_models_of_their_own():
    plain = TWO.replace(' (declare-hidden H float32 [1,2] "inner")', "").replace("H[0,1]", "Y[0,1]")
    query = parse_query(plain.replace("RELATION", "isomorphic-to"))
    assert query.needed == ("f", "g")
    subject = compose(query, {"f": network(weight=2), "g": network(weight=3)})
    assert values_of(subject, 1, 1, 1, 2) == [2, 2, 3, 6, 2 * 9]
    other = Subject(lambda w, x: jnp.tanh(w * x), np.float32(1), network().specs, "another")
    with pytest.raises(SpecError, match="differ in more than weights"):
        compose(query, {"f": network(), "g": other})


ONNX = """<ir_version: 8, opset_import: ["": 17]> net (float[1,2] x) => (float[1,1] y)
<float[2, 2] w = {1, -1, 0.5, 2}, float[2, 1] v = {1, -1}> {h = MatMul(x, w) [relu] a = Relu(h) y = MatMul(a, v)}"""


def test_hidden_values_of_a_file_are_named_by_value_or_by_node():
    content = parser.parse_model(ONNX.replace("[relu] ", "")).SerializeToString()
    proto = parser.parse_model(ONNX.replace("[relu] ", ""))
    proto.graph.node[1].name = "relu"
    y, h, a = from_onnx(proto.SerializeToString(), values=("h", "relu"))(np.array([[1, 2]], np.float32))
    assert (np.asarray(h).tolist(), np.asarray(a).tolist(), np.asarray(y).tolist()) == ([[2, 3]], [[2, 3]], [[-1]])
    with pytest.raises(ModelError, match="no inner value 'hh'") as caught:
        from_onnx(content, values=("hh",))
    assert caught.value.fix == "did you mean 'h'?"


def test_queries_are_decided_with_checked_proofs():
    net = '(declare-network f (declare-input X real [1,2]) (declare-hidden H real [1,2] "h")'
    net += " (declare-output Y real [1,1]))\n"
    text = script("(<= (+ X[0,0] X[0,1]) 1)", "(>= (* H[0,0] Y[0,0]) BOUND)", net=net)
    model = subject_of(from_onnx(parser.parse_model(ONNX.replace("[relu] ", "")).SerializeToString(), values=("h",)))
    found = {}
    for bound in ("3.5", "12"):
        query = parse_query(text.replace("BOUND", bound))
        found[bound] = decide(compose(query, model), query.property, timeout=60)
    assert found["12"].word == "proved"
    example = found["3.5"].verdict.counterexample  # pyright: ignore[reportAttributeAccessIssue]
    x = example.inputs
    h = (x[0] + x[1] / 2, 2 * x[1] - x[0])
    assert x[0] + x[1] <= 1
    assert h[0] * (max(h[0], 0) - max(h[1], 0)) >= F(7, 2)


# What is refused

ANOTHER = "(declare-network g (declare-input A real [2]) (declare-output B real [2]))\n"
REFUSED: dict[str, str] = {
    "version-3": script("(<= Y[0] 0)").replace("<2.0>", "<3.1>"),
    "version": script("(<= Y[0] 0)").replace("<2.0>", "two"),
    "no-network": HEAD + "(assert (<= Y[0] 0))",
    "command": script("(<= Y[0] 0)") + "(declare-const X_0 Real)",
    "nameless": HEAD + "(declare-network (declare-input X real [1]))",
    "no-input": HEAD + "(declare-network f (declare-output Y real [1]))",
    "no-output": HEAD + "(declare-network f (declare-input X real [1]))",
    "order": HEAD + "(declare-network f (declare-output Y real [1]) (declare-input X real [1]))",
    "hidden-nameless": HEAD + "(declare-network f (declare-input X real [1]) (declare-hidden H real [1]))",
    "no-shape": HEAD + "(declare-network f (declare-input X real) (declare-output Y real [1]))",
    "empty-axis": HEAD + "(declare-network f (declare-input X real [1,0]) (declare-output Y real [1]))",
    "unknown-part": HEAD + "(declare-network f (declare-weights W real [1]))",
    "twice": script("(<= Y[0] 0)", net=NET + ANOTHER.replace("A real", "X real")),
    "twice-network": script("(<= Y[0] 0)", net=NET + ANOTHER.replace("network g", "network f")),
    "like-nothing": script("(<= Y[0] 0)", net=ANOTHER.replace("g (", "g (equal-to f) (")),
    "like-like": script(
        "(<= Y[0] 0)", net="".join(
            NET.replace(" f ", f" {n} {r} ").replace("X ", f"X{n} ").replace("Y ", f"Y{n} ")
            for n, r in (("f", ""), ("g", "(equal-to f)"), ("h", "(isomorphic-to g)"))
        ),
    ),
    "unlike": script("(<= Y[0] 0)", net=NET + ANOTHER.replace("g (", "g (equal-to f) (")),
    "undeclared": script("(<= Z[0] 0)"),
    "rank": script("(<= Y[0,1] 0)"),
    "no-index": script("(<= (+ Y 1) 0)"),
    "range": script("(<= Y[2] 0)"),
    "partial": script("(<= X[0] 0)"),
    "word": script("(<= Y[0] five)"),
    "no-output-used": script("(<= (* X[0,0] X[0,1]) 1)"),
    "unbounded": script("(<= Y[0] 0)", box="(assert (<= X[0,0] 1)) (assert (<= 0 X[0,1] 1))"),
    "comparison-alone": script("(<= Y[0] 0)") + "(<= Y[0] 0)",
    "not-a-number": script("(<= (+ (<= Y[0] 1) 2) 0)"),
    "blow-up": script(f"(<= 0 (* {' '.join(f'(+ X[0,0] X[0,1] Y[0] Y[1] {i})' for i in range(40))}))"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_refusal(name: str, golden: Any):
    with pytest.raises(SpecError) as caught:
        parse_query(REFUSED[name], "p.vnnlib")
    assert all((caught.value.what, caught.value.at, caught.value.fix))
    golden(f"vnnlib2/{name}.txt", str(caught.value))


VALID = TWO.replace("RELATION", "equal-to")


@given(st.integers(0, len(VALID) - 1), st.text('() ;XY[]0,1."-<=/*+\nequal', max_size=6), st.integers(0, 12))
@settings(max_examples=120, deadline=None, derandomize=True, database=None)
def test_damaged_text_gives_a_clear_error_or_a_query(place: int, inserted: str, removed: int):
    try:
        parse_query(VALID[:place] + inserted + VALID[place + removed :], "p.vnnlib")
    except SpecError as error:
        assert error.at
        assert error.at.startswith("p.vnnlib")
        assert error.fix


MISFITS: dict[str, Callable[[], Any]] = {
    "lacking": lambda: compose(parse_query(script("(<= Y[0] B[0])", "(<= 0 A[0] 1)", "(<= 0 A[1] 1)",
                                                  net=NET + ANOTHER)), network()),
    "extra": lambda: compose(parse_query(script("(<= Y[0] 0)")), {"f": network(), "g": network()}),
    "shape": lambda: compose(parse_query(script("(<= Y[0] 0)")), network(3)),
    "type": lambda: compose(parse_query(script("(<= Y[0] 0)").replace("X real", "X float64")), network()),
    "hidden": lambda: compose(parse_query(VALID), network()),
}  # fmt: skip


@pytest.mark.parametrize("name", MISFITS)
def test_misfits(name: str, golden: Any):
    with pytest.raises(SpecError) as caught:
        MISFITS[name]()
    golden(f"vnnlib2/misfit-{name}.txt", str(caught.value))
