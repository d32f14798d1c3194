"""Losses against PyTorch where it is installed, against their definitions, and in their gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

import axiom_jax as ax
from axiom_jax import losses, nn
from axiom_jax._errors import AxiomError, ShapeError

R = np.random.default_rng(0)
LOGITS = R.normal(size=(6, 4)).astype(np.float32) * 3
LABELS = R.integers(0, 4, 6)
SOFT = np.asarray(jax.nn.softmax(R.normal(size=(6, 4)), -1), np.float32)
SIGNS = np.sign(R.normal(size=(6, 4))).astype(np.float32)
EMBEDDINGS = tuple(R.normal(size=(5, 3)).astype(np.float32) for _ in range(3))
CASES = {
    "mse": (LOGITS, SOFT),
    "l1": (LOGITS, SOFT),
    "smooth_l1": (LOGITS, SOFT),
    "crossentropy": (LOGITS, LABELS),
    "binary_crossentropy": (LOGITS, (SIGNS > 0).astype(np.float32)),
    "nll": (np.log(SOFT), LABELS),
    "kl": (np.log(SOFT), SOFT[::-1]),
    "hinge": (LOGITS, SIGNS),
    "focal": (LOGITS, LABELS),
    "contrastive": (EMBEDDINGS[:2], np.array([0, 1, 1, 0, 1])),
    "triplet": (EMBEDDINGS, None),
}


def test_every_loss_has_a_case() -> None:
    assert CASES.keys() == losses.NAMES.keys()


@pytest.mark.parametrize("name", CASES)
def test_gradients(name: str) -> None:
    output, target = CASES[name]
    check_grads(lambda o: losses.NAMES[name](o, target), (jax.tree.map(jnp.asarray, output),), order=1, modes="rev",
                rtol=2e-2, atol=2e-2)  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_half_precision_stays(name: str) -> None:
    output, target = CASES[name]
    half = jax.tree.map(lambda a: jnp.asarray(a, jnp.bfloat16), output)
    value = losses.NAMES[name](half, target)
    full = losses.NAMES[name](jax.tree.map(jnp.asarray, output), target)
    assert jnp.isfinite(value) and abs(float(value) - float(full)) < 0.05 * (1 + abs(float(full)))


def test_against_torch() -> None:
    torch = pytest.importorskip("torch", reason="compares losses with PyTorch's")
    F = torch.nn.functional
    t = lambda a: torch.tensor(np.asarray(a))
    label, soft = t(LABELS), t(SOFT)
    expected = {
        "mse": F.mse_loss(t(LOGITS), soft),
        "l1": F.l1_loss(t(LOGITS), soft),
        "smooth_l1": F.smooth_l1_loss(t(LOGITS), soft),
        "crossentropy": F.cross_entropy(t(LOGITS), label),
        "binary_crossentropy": F.binary_cross_entropy_with_logits(t(LOGITS), t(CASES["binary_crossentropy"][1])),
        "nll": F.nll_loss(torch.log(soft), label),
        "kl": F.kl_div(torch.log(soft), t(SOFT[::-1].copy()), reduction="batchmean"),
        "triplet": F.triplet_margin_loss(*map(t, EMBEDDINGS), eps=0.0),
    }
    for name, value in expected.items():
        np.testing.assert_allclose(losses.NAMES[name](*CASES[name]), value.item(), rtol=1e-5, err_msg=name)
    np.testing.assert_allclose(losses.crossentropy(LOGITS, SOFT), F.cross_entropy(t(LOGITS), soft).item(), rtol=1e-5)
    np.testing.assert_allclose(
        losses.smooth_l1(LOGITS, SOFT, beta=0.3), F.smooth_l1_loss(t(LOGITS), soft, beta=0.3).item(), rtol=1e-5
    )


def test_one_hot_rows_are_labels() -> None:
    rows = ax.one_hot(LABELS, 4)
    for loss in (losses.crossentropy, losses.nll):
        np.testing.assert_allclose(loss(LOGITS, rows), loss(LOGITS, LABELS), rtol=1e-5)


def test_probabilities_and_logits_agree() -> None:
    given = losses.crossentropy_of_probabilities(jax.nn.softmax(LOGITS), LABELS)
    np.testing.assert_allclose(given, losses.crossentropy(LOGITS, LABELS), rtol=1e-4)
    target = CASES["binary_crossentropy"][1]
    given = losses.binary_crossentropy_of_probabilities(jax.nn.sigmoid(LOGITS), target)
    np.testing.assert_allclose(given, losses.binary_crossentropy(LOGITS, target), rtol=1e-3)


def test_focal_without_focus_is_crossentropy() -> None:
    np.testing.assert_allclose(losses.focal(LOGITS, LABELS, gamma=0.0), losses.crossentropy(LOGITS, LABELS), rtol=1e-5)
    assert losses.focal(LOGITS, LABELS) < losses.crossentropy(LOGITS, LABELS)
    rows = ax.one_hot(LABELS, 4)
    np.testing.assert_allclose(
        losses.focal(LOGITS, rows, gamma=0.0), losses.binary_crossentropy(LOGITS, rows), rtol=1e-5
    )


def test_hinge_of_classes() -> None:
    output = jnp.array([[2.0, 0.5, 0.0], [0.0, 0.5, 0.3]])
    assert float(losses.hinge(output, jnp.array([0, 2]))) == pytest.approx((0 + 1.2) / 2)


def test_equal_points_have_a_gradient() -> None:
    same = (jnp.ones((2, 3)), jnp.ones((2, 3)))
    assert all(jnp.isfinite(g).all() for g in jax.grad(lambda o: losses.contrastive(o, jnp.array([0, 1])))(same))


@pytest.mark.parametrize("name", ["mse", "l1", "smooth_l1", "binary_crossentropy", "kl", "hinge"])
def test_shapes_are_never_broadcast(name: str) -> None:
    with pytest.raises(ShapeError, match="do not have the shape") as error:
        losses.NAMES[name](jnp.zeros((6, 1)), jnp.zeros(6))
    assert "y[:, None]" in str(error.value.fix)


def test_names() -> None:
    assert losses.named("cross_entropy") is losses.crossentropy and losses.named("mae") is losses.l1
    with pytest.raises(AxiomError, match="no loss 'msee'") as error:
        losses.named("msee")
    assert "smooth_l1" in str(error.value.fix)
    for name in ("contrastive", "triplet"):
        with pytest.raises(AxiomError, match="takes"):
            losses.NAMES[name](jnp.zeros(3), None)


@pytest.mark.parametrize(("loss", "width", "targets"), [
    ("crossentropy", 1, np.zeros(8, np.int32)), ("crossentropy", 1, np.float32([[5.0]] * 8)),
    ("crossentropy", 2, np.float32([[5.0, -2.0]] * 8)), ("crossentropy", 2, np.float32([[0.5, 0.9]] * 8)),
    ("binary_crossentropy", 1, np.float32([[5.0]] * 8)), ("binary_crossentropy", 1, np.float32([[-1.0]] * 8)),
])  # fmt: skip
def test_targets_without_a_cross_entropy_are_refused(loss, width, targets):
    model = ax.Sequential(nn.Dense(2, width))
    with pytest.raises(ax.AxiomError, match="mse"):
        ax.train(model, (np.zeros((8, 2), np.float32), targets), epochs=1, loss=loss, progress=False)


def test_accuracy_of_a_model_that_ends_in_a_sigmoid():
    x = np.float32([[-2.0], [-0.5], [0.5], [2.0]])
    y = (x > 0).astype(np.float32)
    model = ax.Sequential(nn.Dense(1, 1), nn.sigmoid)
    result = ax.train(model, (x, y), ax.SGD(lr=1.0), loss="binary_crossentropy", metrics="accuracy", epochs=30,
                      validation=(x, y), progress=False)  # fmt: skip
    assert result.history[-1]["val_accuracy"] == np.mean((np.asarray(result.model(x)) > 0.5) == (y > 0.5)) == 1


@pytest.mark.parametrize("thing", ["a name", lambda x: x])
def test_only_models_are_trained(thing):
    with pytest.raises(ax.AxiomError, match="Only a model"):
        ax.train(thing, (np.zeros((8, 2), np.float32), np.zeros(8, np.int32)), epochs=1)


def test_the_result_of_freeze_is_no_model():
    model = ax.Sequential(nn.Dense(2, 2))
    with pytest.raises(ax.AxiomError, match="Only a model"):
        ax.train(ax.freeze(model, "0_Dense/*"), (np.zeros((8, 2), np.float32), np.zeros(8, np.int32)), epochs=1)
