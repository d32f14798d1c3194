"""Which models level float32 speaks of: those whose operations a compiler keeps, or merges within what is charged."""

from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import axiom_jax as ax
from axiom_jax.verification.proof.certificate import certificate, describe_property
from axiom_jax.verification.proof.exact import exactly
from axiom_jax.verification.proof.float32 import obstacle
from axiom_jax.verification.property import Atom, Case, Property
from axiom_jax.verification.search.decide import decide
from axiom_jax.verification.search.margins import Subject
from axiom_jax.verification.verdict import Proved

c = np.float32
W = np.random.default_rng(0).normal(size=(4, 4)).astype(np.float32)
SCALE = np.abs(W[0]) + c(0.1)
TINY = np.full(4, 1e-40, np.float32)


def subject(f, params=()):
    return Subject(f, params, (jax.ShapeDtypeStruct((4,), np.float32),))


def reused_sum(_, x):
    a = x - c(2.0**23)
    return jnp.concatenate([jax.nn.relu(a), a + c(0.25)])


def reused_product(_, x):
    a = x * c(3)
    return jnp.concatenate([a, a * c(0.25)])


def sum_in_a_list(_, x):
    a = x[:1] - c(2.0**23)
    return jnp.concatenate([jax.nn.relu(a), jnp.concatenate([a, x])[:1] + c(0.25)])


def sum_times_one(_, x):
    a = x[:1] - c(2.0**23)
    return jnp.concatenate([jax.nn.relu(a), a * c(1) + c(0.25)])


def sum_chosen(_, x):
    a = x[:1] - c(2.0**23)
    return jnp.concatenate([jax.nn.relu(a), jnp.where(x[1:2] > 0, a, a) + c(0.25)])


def sum_of_one(_, x):
    a = x[:1] - c(2.0**23)
    return jnp.concatenate([jax.nn.relu(a), a.sum(keepdims=True) + c(0.25)])


def product_in_a_list(_, x):
    a = x * c(3)
    return jnp.concatenate([a, jnp.concatenate([a, x])[:4] * c(0.25)])


def exponential_divides(_, x):
    e = jnp.exp(x)
    return jnp.concatenate([e, 1 / e])


def undefined_choice(_, x):
    t = x**3 - 2 * x
    return jnp.where(t >= t, x, -x)


REFUSED = {
    "terms in a row": reused_sum,
    "terms in a row may": sum_in_a_list,
    "terms in a row may be": sum_times_one,
    "in a row may be added": sum_chosen,
    "row may be added first": sum_of_one,
    "factors in a row may": product_in_a_list,
    "products of exponentials may": lambda _, x: jnp.exp(x[:1]) * jnp.concatenate([jnp.exp(x[1:]), x])[:1],
    "exponentials may be exponentials": lambda _, x: jnp.exp(x[:2]) * jnp.abs(jnp.exp(x[2:])),
    "be exponentials of": lambda _, x: jnp.exp(x[:1]) * (jnp.exp(x[1:2]) + c(0)),
    "that of the negative": exponential_divides,
    "factors in a row": reused_product,
    "products of exponentials": lambda _, x: jnp.exp(x) * jnp.exp(-2 * x),
    "of exponentials may": lambda _, x: jnp.exp(x) / jnp.exp(2 * x),
    "exponentials of sums": lambda _, x: jnp.exp(x) ** 3,
    "may be exponentials": lambda _, x: jnp.exp(x) * (x * jnp.exp(-2 * x)),
    "a sum of sums": lambda _, x: x.reshape(2, 2).sum(-1).sum(-1)[None],
    "sums may be taken": lambda _, x: jnp.einsum("ak,ak->a", x.reshape(2, 2), x.reshape(2, 2)).sum()[None],
    "no float32 number": lambda _, x: (jax.nn.relu(x) * c(1e25)) * c(1e25) + x,
    "constants may multiply": lambda _, x: (jax.nn.relu(x) / c(1e-25)) / c(1e-25),
    "that real numbers settle": undefined_choice,
    "subnormal constant": lambda _, x: jax.nn.relu(x) / c(1e-40),
    "softmax": lambda _, x: jax.nn.softmax(x),
    "rounding of tan": lambda _, x: jnp.tan(x),
    "flushed to zero": lambda _, x: jnp.maximum(x, c(1e-40)),
    "logarithms and": lambda _, x: jnp.log(jnp.exp(x)),
    "taken in one": lambda _, x: jnp.exp(jnp.log(x)),
    "what they are taken of": lambda _, x: jnp.log(x * x + 1),
}


@pytest.mark.parametrize("said", REFUSED)
def test_what_a_compiler_merges_is_not_spoken_of(said):
    assert said in str(obstacle(subject(REFUSED[said])))


@pytest.mark.sweep(2)
@pytest.mark.parametrize("merged", [sum_in_a_list, sum_times_one, sum_chosen, sum_of_one])
def test_what_xla_merges_behind_a_detour_breaks_no_proof(merged):
    """Of a = x − 2^23 at x = 2^23 + 8, a + 0.25 − relu(a) is 0.25; where constants are added first it is 0."""
    x = np.full(4, 2**23 + 8, np.float32)
    point, asked = tuple(map(Fraction, x.tolist())), subject(merged)
    prop = Property((Case(point, point, ((Atom(((1, Fraction(1)), (0, Fraction(-1))), Fraction(1, 5)),),)),))
    low, high = np.asarray(jax.jit(lambda x: merged(None, x))(x))
    merging = jax.default_backend() == "cpu" and jax.__version_info__ < (0, 12)  # newer compilers merge others
    assert high - low <= 0.2 or not merging  # what is proved over the reals does not hold here
    verdict = decide(asked, prop, timeout=60.0, float32=True).verdict
    assert isinstance(verdict, Proved) and verdict.levels == ("real",)


def test_a_certificate_cannot_claim_the_level_of_a_model_that_it_cannot_speak_of():
    """The checker sees a program; what a compiler makes of the model is known only beside the model."""
    asked, x = subject(reused_sum), tuple(map(Fraction, [2**23 + 8] * 4))
    prop = Property((Case(x, x, ((Atom(((4, Fraction(1)), (0, Fraction(-1))), Fraction(1, 5)),),)),))
    exact, verdict = exactly(asked), decide(asked, prop, timeout=60.0, float32=True).verdict
    assert isinstance(verdict, Proved) and verdict.levels == ("real",)
    assert ax.check_certificate(verdict.certificate, asked).accepted
    proof, said = verdict.certificate.payload["proof"], describe_property(prop)
    made = certificate(exact.model, exact.blob, said, "holds", proof, {}, "cpu")
    assert ax.check_certificate(made).levels == ("real", "float32")  # of the program, node by node
    checked = ax.check_certificate(made, asked)
    assert not checked.accepted and not checked.levels and "terms in a row may be added first" in checked.reason


@pytest.mark.parametrize(
    "f",
    [
        lambda w, x: jnp.where(w > 0, x, -x),
        lambda w, x: x * (w * c(2.0**100)),
        lambda w, x: x + w * w,
        lambda w, x: w / x,
        lambda w, x: jnp.concatenate([x, w]),
        lambda w, x: w,
    ],
)
def test_subnormal_weights_are_spoken_of_only_beside_what_varies(f):
    assert "subnormal" in str(obstacle(subject(f, TINY)))


SPOKEN_OF = {
    "dense": lambda w, x: jax.nn.relu(x @ w + w[0]) @ w + w[1],
    "two matrices": lambda w, x: (x @ w + w[0]) @ w,
    "batch norm": lambda w, x: jax.nn.relu((x @ w - w[0]) * jax.lax.rsqrt(SCALE + c(1e-5)) * w[1] + w[2]) @ w,
    "residual": lambda w, x: x + jax.nn.relu(x @ w) @ w,
    "average pooling": lambda w, x: jax.nn.relu(x.reshape(2, 2).mean(0)) * 2,
    "sigmoid": lambda w, x: jax.nn.sigmoid(x @ w),
    "gelu": lambda w, x: jax.nn.gelu(x @ w),
    "erf and log": lambda w, x: jax.lax.erf(x @ w) + jnp.log(x),
    "silu": lambda w, x: jax.nn.silu(x),
    "waves": lambda w, x: jnp.sin(x @ w) + jnp.cos(1000 * x),
    "subnormal weights": lambda w, x: jax.nn.relu(x @ w - TINY) * TINY + x @ w + TINY[0],
    "leaky relu": lambda w, x: jax.nn.leaky_relu(x @ w),
    "normalised input": lambda w, x: (x - c(0.5)) / c(0.25) @ w,
    "maximum": lambda w, x: jnp.max(x.reshape(2, 2), 0),
}


@pytest.mark.parametrize("name", SPOKEN_OF)
def test_usual_layers_are_spoken_of(name):
    assert obstacle(subject(SPOKEN_OF[name], W)) is None


@pytest.mark.sweep(3)
@pytest.mark.parametrize("name", SPOKEN_OF)
def test_executions_of_usual_layers_stay_in_what_is_proved(name):
    """A threshold close below the least output, which executions by XLA then keep to."""
    asked = subject(SPOKEN_OF[name], W)
    x = np.random.default_rng(1).uniform(0.5, 0.50001, (500, 4)).astype(np.float32)
    y = np.asarray(jax.jit(jax.vmap(asked.apply, (None, 0)))(W, x))[:, 0]
    lo, hi = (Fraction(1, 2),) * 4, (Fraction(float(c(0.50001))),) * 4
    low = Fraction(float(y.min())) - Fraction(1, 1000)
    prop = Property((Case(lo, hi, ((Atom(((0, Fraction(1)),), low),),)),))
    decision = decide(asked, prop, timeout=60.0, float32=True)
    assert obstacle(asked) is None
    assert isinstance(decision.verdict, Proved) and decision.verdict.levels == ("real", "float32"), decision.verdict
    assert float(y.min()) > low


@pytest.mark.slow
def test_what_rounding_may_break_is_proved_over_the_real_numbers_alone():
    """A margin of 1e-9 at a point: more than nothing over the reals, less than rounding."""
    third = c(1 / 3)
    f = lambda _, x: (x[:1] * 2 - x[:1]) * third + (x[1:2] - x[1:2] * c(0.5)) * third
    point = (Fraction(1), Fraction(1), Fraction(0), Fraction(0))
    exact = Fraction(float(third)) * Fraction(3, 2)
    prop = Property((Case(point, point, ((Atom(((0, Fraction(1)),), exact - Fraction(1, 10**9)),),)),))
    verdict = decide(subject(f), prop, timeout=60.0, float32=True).verdict
    assert isinstance(verdict, Proved) and verdict.levels == ("real",)
