"""What users were promised, row by row, as they would write it. Rows of later parts join when those parts do."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array, Float

import axiom_jax as ax
from axiom_jax import nn
from axiom_jax.verification.property import robust
from axiom_jax.verification.search.decide import decide
from axiom_jax.verification.search.margins import subject_of


def test_declarative_models_with_shapes():
    net = ax.Sequential(nn.Dense(784, 16), nn.relu, nn.Dense(16, 10), nn.softmax)

    @ax.axiom
    def classifier(net: nn.Sequential, image: Float[Array, "batch 28 28 1"]) -> ax.Probabilities["batch 10"]:
        return net(image.reshape(image.shape[0], -1))

    model = classifier.bind(net)
    images = jnp.ones((3, 28, 28, 1))
    np.testing.assert_allclose(model(images).sum(1), 1, rtol=1e-5)
    assert jax.jit(model)(images).shape == (3, 10)
    gradients = jax.grad(lambda m: m(images)[:, 0].sum())(model)
    assert jax.tree.structure(gradients) == jax.tree.structure(model)
    with pytest.raises(ax.ShapeError):
        classifier.bind(ax.Sequential(nn.Dense(100, 10)))


def test_sequential_for_quick_prototyping():
    model = ax.Sequential(nn.Dense(784, 10), nn.softmax)
    assert model(jnp.ones((2, 784))).shape == (2, 10)
    assert (nn.Dense(784, 16) >> nn.relu >> nn.Dense(16, 10))(jnp.ones((2, 784))).shape == (2, 10)
    with pytest.raises(ax.ShapeError):
        ax.Sequential(nn.Dense(784, 10), nn.Dense(11, 2))


def test_parameters_of_a_layer_and_of_a_model():
    model = ax.Sequential(nn.Dense(4, 3), nn.relu, nn.Dense(3, 2))
    shapes = sorted(np.shape(leaf) for leaf in jax.tree.leaves(ax.parameters(model)))
    assert shapes == [(2,), (3,), (3, 2), (4, 3)]


def test_shape_error_tells_the_solution():
    with pytest.raises(ax.ShapeError) as caught:
        ax.Sequential(nn.Conv(1, 64, (3, 3)), nn.Dense(784, 10), input_shape=(28, 28, 1))
    error = caught.value
    assert error.what and error.at and "test_promises.py" in error.at and error.got and error.fix


def test_a_model_is_verified_and_its_certificate_checked(tmp_path):
    """Dense and relu by bounds; the file is judged again from disk."""
    model = ax.Sequential(nn.Dense(4, 8), nn.relu, nn.Dense(8, 3), seed=3)
    x = np.float32([0.5, -0.25, 0.125, 1.0])
    label = int(np.argmax(model(x[None])[0]))
    subject = subject_of(model)
    decision = decide(subject, robust(x, label, 3, "1/1000"), timeout=30, certificate_path=tmp_path / "a.cert")
    assert isinstance(decision.verdict, ax.Proved)
    assert ax.check_certificate(tmp_path / "a.cert", model).raise_if_rejected().levels == ("real",)
    other = ax.Sequential(nn.Dense(4, 8), nn.relu, nn.Dense(8, 3), seed=4)
    assert not ax.check_certificate(tmp_path / "a.cert", other).accepted


def test_custom_layers_are_verified_like_the_built_in_ones():
    def scaled(x):
        return 2.0 * jnp.clip(x, -1.0, 1.0)

    model = ax.Sequential(nn.Dense(3, 3), scaled, nn.Dense(3, 2))
    x = np.float32([0.1, 0.2, 0.3])
    label = int(np.argmax(model(x[None])[0]))
    assert isinstance(decide(subject_of(model), robust(x, label, 2, "1/10000"), timeout=30).verdict, ax.Proved)


def test_errors_carry_their_parts():
    for error in (ax.ShapeError, ax.UnsupportedPrimitive, ax.SpecError, ax.CertificateError, ax.BackendUnavailable):
        raised = error("What is wrong.", at="here", got="this", fix="that")
        assert issubclass(error, ax.AxiomError) and (raised.at, raised.got, raised.fix) == ("here", "this", "that")
        assert str(raised) == "What is wrong.\n  at   here\n  got  this\n  fix  that"
    broken = ax.EnsureViolation("p sums to 1", row=3, value=0.5, at="model.py:7")
    assert (broken.condition, broken.row, broken.value, broken.at) == ("p sums to 1", 3, 0.5, "model.py:7")
