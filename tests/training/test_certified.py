"""The certified loss: never below the plain one, equal without a radius, an upper bound over real perturbations."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given
from hypothesis import strategies as st

import axiom_jax as ax
from axiom_jax import nn
from axiom_jax._errors import AxiomError
from axiom_jax.model import Model, Sequential
from axiom_jax.training.certified import CertifiedLoss, Schedule, margins, train_certified, worst_logits
from axiom_jax.verification.domains.interval import Interval

pytestmark = pytest.mark.thin(2)

MODEL = Sequential(nn.Dense(6, 8), nn.relu, nn.Dense(8, 3))


@partial(jax.jit, static_argnames="within")
def _loss(params, x, labels, eps, kappa, within=(0.0, 1.0)):
    loss = CertifiedLoss(Schedule(eps, kappa, 0.0, 0.0), within=within)
    return loss.of_model(MODEL.apply, params, (x,), labels, MODEL.apply(params, x), 1.0)


@jax.jit
def _plain(params, x, labels):
    return optax.softmax_cross_entropy_with_integer_labels(MODEL.apply(params, x), labels).mean()


def _example(seed: int, scale: float = 1.0):
    rng = np.random.default_rng(seed)
    params = jax.tree.map(lambda p: jnp.asarray(scale * rng.normal(size=p.shape), jnp.float32), MODEL.params)
    return params, rng.random((5, 6), np.float32), rng.integers(0, 3, 5)


@given(seed=st.integers(0, 10**6), eps=st.floats(0, 0.5), kappa=st.floats(0, 1), scale=st.sampled_from([0.1, 1, 5]))
def test_never_below_the_plain_loss(seed: int, eps: float, kappa: float, scale: float) -> None:
    params, x, labels = _example(seed, scale)
    plain = float(_plain(params, x, labels))
    assert float(_loss(params, x, labels, eps, kappa)) >= plain - 1e-4 * (1 + plain)


@given(seed=st.integers(0, 10**6), kappa=st.floats(0, 1))
def test_equal_to_the_plain_loss_without_a_radius(seed: int, kappa: float) -> None:
    params, x, labels = _example(seed)
    np.testing.assert_allclose(_loss(params, x, labels, 0.0, kappa), _plain(params, x, labels), rtol=1e-4, atol=1e-5)


@given(seed=st.integers(0, 10**6), eps=st.floats(0.01, 0.3))
def test_bounds_the_loss_of_every_perturbation(seed: int, eps: float) -> None:
    params, x, labels = _example(seed)
    step = np.random.default_rng(seed + 1).choice([-eps, 0, eps], x.shape)
    moved = np.clip(x + step, 0, 1).astype(np.float32)
    assert float(_plain(params, moved, labels)) <= float(_loss(params, x, labels, eps, 0.0)) + 1e-4


def test_grows_with_the_radius_and_sees_the_cut() -> None:
    params, x, labels = _example(0)
    small, large = (float(_loss(params, x, labels, eps, 0.0)) for eps in (0.01, 0.2))
    assert small < large
    at_the_edge = np.zeros_like(x)  # half of every box is cut away
    cut, uncut = (float(_loss(params, at_the_edge, labels, 0.2, 0.0, within=w)) for w in ((0.0, 1.0), (-1.0, 1.0)))
    assert cut < uncut


def test_worst_logits_take_each_end() -> None:
    region = Interval(jnp.array([[0.0, 1.0]]), jnp.array([[2.0, 5.0]]))
    found = worst_logits(lambda params, x: params * x, jnp.array([1.0, -1.0]), region, jnp.array([0]))
    assert found.tolist() == [[0.0, -1.0]]  # the least for the label, the greatest of [-5, -1]


def test_schedule_moves_between_its_ends() -> None:
    schedule = Schedule(eps=0.2, kappa=0.25, begin=0.2, end=0.6)
    moves = [tuple(round(float(v), 6) for v in schedule.at(t)) for t in (0.0, 0.2, 0.4, 0.6, 1.0)]
    assert moves == [(0.0, 1.0), (0.0, 1.0), (0.1, 0.625), (0.2, 0.25), (0.2, 0.25)]


def _blobs() -> tuple[np.ndarray, np.ndarray]:
    """Three classes, each with two of six pixels bright."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 120)
    x = np.repeat(np.eye(3, dtype=np.float32)[labels], 2, 1) * 0.7 + rng.random((120, 6), np.float32) * 0.2
    return x, labels


def test_training_makes_a_model_provable_and_leaves_the_old_one() -> None:
    x, labels = _blobs()
    before, told = jax.tree.map(np.asarray, MODEL.params), []
    trained = train_certified(
        MODEL, x, labels, Schedule(eps=0.1), epochs=20, batch=20, progress=lambda *seen: told.append(seen)
    )
    assert [epoch for epoch, _ in told] == list(range(1, 21))
    jax.tree.map(np.testing.assert_array_equal, before, MODEL.params)  # donated buffers were copies

    def provable(model: Model) -> float:
        worst = worst_logits(model.apply, model.params, Interval(x - 0.1, x + 0.1), labels)
        return float(np.mean(np.asarray(worst).argmax(1) == labels))

    assert provable(trained) > 0.95 > provable(MODEL)
    assert trained.apply is MODEL.apply and trained.signature == MODEL.signature


def test_training_is_repeatable_and_the_seed_matters() -> None:
    x, labels = _blobs()
    runs = [
        train_certified(MODEL, x, labels, Schedule(eps=0.1), epochs=20, batch=20, seed=seed).params
        for seed in (1, 1, 2)
    ]
    first, same, other = (np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(run)]) for run in runs)
    np.testing.assert_array_equal(first, same)
    assert np.abs(first - other).max() > 1e-6


def test_no_epochs_change_nothing() -> None:
    x, labels = _blobs()
    trained = train_certified(MODEL, x, labels, Schedule(eps=0.1), epochs=0, batch=20)
    jax.tree.map(np.testing.assert_array_equal, MODEL.params, trained.params)


@pytest.mark.parametrize(("examples", "labels"), [(10, 10), (120, 119)])
def test_too_few_examples_are_refused(examples: int, labels: int) -> None:
    with pytest.raises(AxiomError, match="do not make a batch") as error:
        x = np.zeros((examples, 6), np.float32)
        train_certified(MODEL, x, np.zeros(labels, np.int32), Schedule(eps=0.1), batch=20)
    assert error.value.got == f"{examples} examples, {labels} labels, batches of 20"


@given(seed=st.integers(0, 10**6), eps=st.floats(0.0, 0.3), scale=st.sampled_from([0.3, 1, 3]))
def test_margins_hold_for_every_perturbation(seed: int, eps: float, scale: float) -> None:
    params, x, labels = _example(seed, scale)
    least = _margins(params, x, labels, eps)
    rng = np.random.default_rng(seed + 1)
    for step in (rng.choice([-eps, 0, eps], x.shape), rng.uniform(-eps, eps, x.shape)):
        logits = np.asarray(MODEL.apply(params, np.clip(x + step, x - eps, x + eps).astype(np.float32)))
        real = logits[np.arange(5), labels][:, None] - logits
        for method, bound in least.items():
            assert (np.asarray(bound) <= real + 1e-4 * (1 + np.abs(real))).all(), method


def test_tighter_methods_are_tighter() -> None:
    params, x, labels = _example(3)
    least = {method: np.asarray(m) for method, m in _margins(params, x, labels, 0.05).items()}
    assert (least["crown"] >= least["ibp"]).all() and least["crown"].mean() > least["ibp"].mean()
    assert least["crown-ibp"].mean() > least["ibp"].mean()  # the last layer loses nothing
    for method in least:
        assert (least[method][np.arange(5), labels] == 0).all()


@jax.jit
def _margins(params, x, labels, eps):
    return {
        m: margins(MODEL.apply, params, Interval(x - eps, x + eps), labels, m) for m in ("ibp", "crown-ibp", "crown")
    }


def test_beta_mixes_the_bounds() -> None:
    params, x, labels = _example(1)
    settings = {"eps": 0.1, "kappa": 0.0, "begin": 0.0, "end": 0.5}
    moving = ax.crown_ibp_loss(beta=(1, 0), **settings)

    @jax.jit
    def values(params, rows):
        output = MODEL.apply(params, x)
        value = lambda loss, target, time: loss.of_model(MODEL.apply, params, (x,), target, output, time)
        kept = ax.ibp_loss(**settings), ax.crown_ibp_loss(beta=(1, 1), **settings)
        ends = [value(loss, labels, 1.0) for loss in kept]
        return *ends, value(moving, labels, 1.0), value(moving, rows, 1.0), value(moving, labels, 0.0)

    interval, linear, end, of_rows, start = map(float, values(params, ax.one_hot(labels, 3)))
    assert interval != pytest.approx(linear, rel=1e-3)
    assert end == pytest.approx(interval, rel=1e-5) == of_rows
    assert start == pytest.approx(float(_plain(params, x, labels)), rel=1e-4)  # ε = 0


@pytest.mark.sweep(2)
@pytest.mark.parametrize("make", [ax.ibp_loss, ax.crown_ibp_loss])
def test_certified_training_certifies(make) -> None:
    x, labels = _blobs()
    settings = {
        "epochs": 15,
        "batch_size": 24,
        "progress": False,
        "clip": 10.0,
        "validation": (x, labels),
        "metrics": [ax.certified_accuracy(0.1), ax.certified_accuracy(0.1, method="ibp", name="by_intervals")],
    }
    first, *_, last = ax.train(MODEL, (x, labels), ax.Adam(0.02), loss=make(eps=0.12), **settings).history
    assert last["val_certified_accuracy"] >= last["val_by_intervals"] > 0.9 > first["val_by_intervals"]


def test_gradients_are_finite_without_a_radius() -> None:
    params, x, labels = _example(0)
    loss = ax.crown_ibp_loss(eps=0.0, kappa=0.0)
    gradient = jax.jit(jax.grad(lambda p: loss.of_model(MODEL.apply, p, (x,), labels, MODEL.apply(p, x), 1.0)))(params)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))


def test_settings_that_contradict_each_other_are_refused() -> None:
    for wrong in ({"eps": -1.0}, {"kappa": 2.0}, {"begin": 0.7, "end": 0.2}, {"within": (1.0, 0.0)}):
        with pytest.raises(AxiomError, match="no certified loss"):
            ax.ibp_loss(**wrong)
    with pytest.raises(AxiomError, match="share β"):
        ax.crown_ibp_loss(beta=(2.0, 0.0))
    with pytest.raises(AxiomError, match="no such certified accuracy"):
        ax.certified_accuracy(0.1, method="lp")  # pyright: ignore[reportArgumentType]
