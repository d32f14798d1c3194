"""Combined properties: the formula at every input is the one that logic says, and whole sentences are kept apart."""

import itertools
from dataclasses import dataclass
from fractions import Fraction

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import axiom_jax as ax
from axiom_jax.verification.properties.base import Condition, margin
from axiom_jax.verification.properties.combining import _conjoined, _negated
from axiom_jax.verification.properties.reading import scope_of
from axiom_jax.verification.properties.scope import MODES, Place
from axiom_jax.verification.property import Atom
from axiom_jax.verification.search.judging import unsafe

pytestmark = pytest.mark.thin(2)

LINE = ax.Box([0.0], [1.0])  # the model below is (x, 1 − x)


def model(x):
    return jnp.concatenate([x, 1 - x], 1)


def only(prop, region=LINE, on=model):
    (item,) = ax.verify(on, prop, region=region, mode="quick").items
    return item


atoms = st.builds(
    lambda j, sign, t, strict: Atom(((j, Fraction(sign)),), Fraction(t), strict=strict),
    st.integers(0, 1), st.sampled_from([1, -1]), st.integers(-2, 2), st.booleans(),
)  # fmt: skip
formulas = st.lists(st.lists(atoms, min_size=1, max_size=2).map(tuple), min_size=1, max_size=3).map(tuple)


def holds(formula, y):
    """Whether a disjunction of conjunctions is true at outputs."""
    total = lambda atom: sum(c * y[j] for j, c in atom.output)
    true = lambda atom: total(atom) < atom.threshold if atom.strict else total(atom) <= atom.threshold
    return any(all(map(true, conjunct)) for conjunct in formula)


@given(first=formulas, second=formulas)
def test_formulas_mean_what_logic_says(first, second):
    for y in itertools.product(range(-3, 4), repeat=2):
        assert holds(_negated(first), y) == (not holds(first, y))
        assert holds(_conjoined([first, second]), y) == (holds(first, y) and holds(second, y))


@dataclass(frozen=True)
class Given:
    """A property with a formula of its own."""

    formula: tuple

    name = "Given()"

    def places(self, scope):
        return scope.places()

    def claims(self, scope):
        return ()

    def condition(self, scope, place):
        return Condition(scope.subject, self.formula, "given")


@given(first=formulas, second=formulas, x=st.fractions(-2, 3, max_denominator=4))
def test_properties_are_combined_at_every_input(first, second, x):
    scope = scope_of(model, LINE, None, MODES["quick"])
    place = Place(LINE, "")
    y = [x, 1 - x]
    a, b = Given(first), Given(second)
    good = lambda prop: not holds(prop.condition(scope, place).unsafe, y)
    assert good(ax.AllOf(a, b)) == (good(a) and good(b))
    assert good(ax.AnyOf(a, b)) == (good(a) or good(b))
    assert good(ax.Implies(a, b)) == (not good(a) or good(b))
    assert good(ax.Not(a)) == (not good(a))
    near = margin(a.formula, [float(x)], np.array([float(v) for v in y]))
    assert not good(a) or near >= 0


def test_any_of_holds_where_neither_part_does():
    low, high = ax.Bounded(None, "0.5", outputs=[0]), ax.Bounded("0.5", None, outputs=[0])
    assert only(ax.AnyOf(low, high)).verdict == "proved"
    result = ax.verify(model, [low, high], region=LINE, mode="quick")
    assert result.counts == {"refuted": 2}


def test_implies_and_not():
    small, other = ax.Bounded(None, "0.25", outputs=[0]), ax.Bounded("0.75", None, outputs=[1])
    assert only(ax.Implies(small, other)).verdict == "proved"
    item = only(ax.Implies(other, ax.Bounded(None, "0.2", outputs=[0])))
    assert item.verdict == "refuted"
    assert Fraction("0.2") < item.counterexample.inputs[0] <= Fraction("0.25")
    assert only(ax.Not(ax.AllOf(small, other, small))).verdict == "refuted"


@pytest.mark.parametrize("prop", [
    ax.AnyOf(ax.Bounded(0, None, (0,)), ax.Bounded(None, 0, (0,))),
    ax.Implies(ax.Bounded(0, None), ax.Bounded(0, None)),
    ax.AnyOf(ax.AnyOf(ax.Bounded(0, None, (0,))), ax.Bounded(None, 0, (0,))),
])  # fmt: skip
def test_no_part_refutes_a_disjunction_alone(prop):
    """Neither part is a theorem of tanh; at every input one holds."""
    (item,) = ax.verify(jnp.tanh, prop, data=[[0.25, -0.5]], region=ax.Everything(), mode="quick")
    assert item.verdict != "refuted"


def test_parts_still_prove_a_disjunction():
    prop = ax.AnyOf(ax.Bounded(-1, 1), ax.Bounded(3, None))
    (item,) = ax.verify(jnp.tanh, prop, data=[[0.25, -0.5]], region=ax.Everything(), mode="quick")
    assert item.verdict == "proved"


def test_balls_in_other_boxes_are_other_regions():
    one, other = (ax.Robust(0.1, within=([0], [end])) for end in (0.6, 1))
    with pytest.raises(ax.SpecError, match="several regions"):
        ax.verify(model, ax.AnyOf(one, other), data=[[0.25]], mode="quick")
    same = ax.Robust("1/10", within=ax.Box([0], [0.6])), ax.Robust("0.1", within=([0], [0.6]))
    assert ax.verify(model, ax.AnyOf(*same), data=[[0.25]], mode="quick").passed


def test_a_refuted_choice_has_no_certificate_of_one_part():
    item = only(ax.AnyOf(ax.Monotone([0]), ax.Bounded(0, "0.5")))
    assert item.verdict != "refuted" or item.certificate is None


def test_all_of_makes_the_claims_of_its_parts():
    result = ax.verify(model, ax.AllOf(ax.Bounded(0, 1), ax.NoNaN()), region=LINE, mode="quick")
    assert [item.verdict for item in result] == ["proved", "proved"]
    assert {item.property for item in result} == {"AllOf(Bounded(0, 1), NoNaN())"}
    assert result.passed


def test_whole_sentences_are_alternatives():
    item = only(ax.AnyOf(ax.NoNaN(), ax.Bounded(0, 1)))
    assert item.verdict == "proved"
    item = only(ax.AnyOf(ax.NoNaN(), ax.Bounded(0, "0.5")))
    assert item.verdict == "proved"  # by the first
    either = ax.AnyOf(ax.NoNaN(), ax.Bounded(0, "0.5"))
    (item,) = ax.verify(lambda x: jnp.cbrt(x), either, region=LINE, mode="quick").items  # no certificate has cbrt
    assert item.verdict == "unknown" and "none is proved: NoNaN() is claimed" in item.reason


def test_a_margin_of_your_own():
    sums = lambda model, x: jnp.stack([model(x).sum() - 1, 1 - model(x).sum()])
    assert only(ax.Custom(sums, "sums to 1")).verdict == "proved"
    assert ax.Custom(sums).name == "Custom(<lambda>)"


def test_different_networks_stand_side_by_side():
    """The margin reads another network than the model's outputs; both are one in the certificate."""
    grows = ax.Custom(lambda model, x: model(x)[:, 0] - x[:, 0], "grows")
    item = only(ax.Implies(ax.Bounded(0, 1), grows))
    assert (item.verdict, item.network) == ("proved", "composed")


@pytest.mark.parametrize("make", [
    lambda: ax.AllOf(), lambda: ax.AnyOf(3), lambda: ax.Implies(ax.NoNaN(), ax.Bounded(0, 1)),
    lambda: ax.Not(ax.Finite()),
])  # fmt: skip
def test_what_cannot_be_combined_is_named(make):
    with pytest.raises(ax.SpecError):
        make()


def testmargins_that_are_no_numbers_and_balls_of_two_sizes_are_named():
    with pytest.raises(ax.SpecError, match="is no number"):
        only(ax.Custom(lambda model, x: model(x) > 0))
    with pytest.raises(ax.SpecError, match="several regions"):
        ax.verify(model, ax.AnyOf(ax.Robust(0.1), ax.Robust(0.2)), data=[[0.5]], mode="quick")
    many = ax.Bounded(0, 1)
    with pytest.raises(ax.SpecError, match="too large"):
        ax.verify(lambda x: jnp.repeat(x, 9, 1), ax.AnyOf(many, many, many, many), region=LINE, mode="quick")


def test_unsafe_is_the_checkers_reading():
    """The helper of these tests agrees with what judges counterexamples."""
    from axiom_jax.verification.property import Case

    case = Case((Fraction(0),), (Fraction(0),), ((Atom(((0, Fraction(1)),), Fraction(1)),),))
    assert unsafe(case, [Fraction(0)], [(Fraction(1), Fraction(1))])


@pytest.mark.parametrize(
    "make",
    [
        lambda: ax.Custom(3),  # pyright: ignore[reportArgumentType]
        lambda: ax.Custom(lambda x: x),
        lambda: ax.Avoids(ax.Box(0, 1), 2, lambda state: state),  # pyright: ignore[reportArgumentType]
        lambda: ax.verify(lambda x: x, ax.Bounded(0, 1), region=[0, 1]),  # pyright: ignore[reportArgumentType]
        lambda: ax.discharge(lambda x: x),  # pyright: ignore[reportArgumentType]
    ],
)
def test_what_cannot_be_called_or_is_no_region_is_refused_in_our_words(make):
    with pytest.raises(ax.AxiomError) as refused:
        make()
    assert refused.value.fix and refused.value.got
