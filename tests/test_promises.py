"""What users were promised, row by row, as they would write it; docs/promises.md is made from this file.

A row that waits for its part is in WAITING, with what it waits for; it leaves when its test comes.
"""

import io
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

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

PAGE = Path(__file__).parents[1] / "docs" / "promises.md"
ROOT = PAGE.parents[1]
ROWS = [
    "Declarative models with shapes", "Guarantees inside a model", "Sequential for quick prototyping",
    "Custom layers, parameters of a layer", "Shape error that tells the solution", "Type instability named",
    "Interactive use", "Mathematical notation", "Any boolean as a guard", "Prove, or else a guard",
    "Verify properties, with a certificate", "Modes", "Properties", "Proof certificates", "Proof assistants",
    "Import PyTorch", "Export ONNX", "Import ONNX", "Freeze parameters", "Custom loss, train, optimizers, schedules",
    "Data loader", "Gradients", "Gradient checkpointing", "Save, load", "Backends", "Detection",
    "Precompile, profile", "Speed", "Mixed precision", "Serving", "Hugging Face", "Distributed training",
    "Certificate scripts", "Verified model zoo", "Layers by name", "Losses by name",
]  # fmt: skip
WAITING = {
    "Hugging Face": "`ax.from_pretrained`",
    "Distributed training": "many hosts",
    "Verified model zoo": "the zoo",
}
TESTS: dict[str, list[str]] = {}


def promise(row: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Says which row a test keeps."""

    def keep(test: Callable[..., None]) -> Callable[..., None]:
        TESTS.setdefault(row, []).append(test.__name__)
        return test

    return keep


def page() -> str:
    lines = [f"| {row} | {f'waits for {WAITING[row]}' if row in WAITING else 'kept'} | "
             f"{', '.join(f'`{name}`' for name in TESTS.get(row, []))} |" for row in ROWS]  # fmt: skip
    return "\n".join([
        "# What is promised", "",
        "Every promise to users is a test in `tests/test_promises.py`, written as they would write it. This page is",
        "made from that file.", "", "| promise | state | tests |", "|---|---|---|", *lines, "",
    ])  # fmt: skip


def test_every_row_is_kept_or_says_what_it_waits_for():
    assert set(ROWS) == set(TESTS) | set(WAITING) and len(ROWS) == len(set(ROWS))
    assert not set(TESTS) & set(WAITING)


def test_the_page_is_up_to_date(request):
    if request.config.getoption("--update-golden"):
        PAGE.write_text(page())
    assert PAGE.read_text() == page()


@pytest.fixture
def blobs():
    """Two classes that a line separates, and a net for them."""
    x, y = ax.make_blobs(120, centers=2, seed=0)
    return np.asarray(x, np.float32), np.asarray(y)


@promise("Declarative models with shapes")
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


@promise("Guarantees inside a model")
def test_guarantees_inside_a_model():
    @ax.axiom
    def classifier(net: nn.Sequential, image: Float[Array, "batch 4"]) -> ax.Probabilities["batch 3"]:
        output = net(image)
        ax.ensure(ax.valid_probabilities(output), "probabilities")
        return output

    model = classifier.bind(ax.Sequential(nn.Dense(4, 3), nn.softmax))
    assert model(jnp.ones((2, 4))).shape == (2, 3)
    with pytest.raises(ax.EnsureViolation) as caught:
        model(jnp.array([[1.0, 1.0, 1.0, 1.0], [jnp.nan, 1.0, 1.0, 1.0]]))
    assert (caught.value.condition, caught.value.row) == ("probabilities", 1)


@promise("Any boolean as a guard")
def test_any_boolean_is_a_guard():
    weights = jnp.ones((3, 3))
    ax.ensure(jnp.linalg.norm(weights) < 100)
    with pytest.raises(ax.EnsureViolation):
        ax.ensure(ax.approx(weights.sum(), 8.0) & ax.finite(weights.sum()))


@promise("Sequential for quick prototyping")
def test_sequential_for_quick_prototyping():
    model = ax.Sequential(nn.Dense(784, 10), nn.softmax)
    assert model(jnp.ones((2, 784))).shape == (2, 10)
    assert (nn.Dense(784, 16) >> nn.relu >> nn.Dense(16, 10))(jnp.ones((2, 784))).shape == (2, 10)
    with pytest.raises(ax.ShapeError):
        ax.Sequential(nn.Dense(784, 10), nn.Dense(11, 2))


@promise("Custom layers, parameters of a layer")
def test_parameters_of_a_layer_and_of_a_model():
    model = ax.Sequential(nn.Dense(4, 3), nn.relu, nn.Dense(3, 2))
    shapes = sorted(np.shape(leaf) for leaf in jax.tree.leaves(ax.parameters(model)))
    assert shapes == [(2,), (3,), (3, 2), (4, 3)]


@pytest.mark.slow
@promise("Custom layers, parameters of a layer")
def test_custom_layers_are_verified_and_exported_like_the_built_in_ones(tmp_path):
    def scaled(x):
        return 2.0 * jnp.clip(x, -1.0, 1.0)

    model = ax.Sequential(nn.Dense(3, 3), scaled, nn.Dense(3, 2))
    x = np.float32([0.1, 0.2, 0.3])
    label = int(np.argmax(model(x[None])[0]))
    assert isinstance(decide(subject_of(model), robust(x, label, 2, "1/10000"), timeout=30).verdict, ax.Proved)
    ax.to_onnx(model, tmp_path / "custom.onnx")
    np.testing.assert_allclose(ax.from_onnx(tmp_path / "custom.onnx")(x[None]), model(x[None]), atol=1e-6)


@promise("Shape error that tells the solution")
def test_shape_error_tells_the_solution():
    with pytest.raises(ax.ShapeError) as caught:
        ax.Sequential(nn.Conv(1, 64, (3, 3)), nn.Dense(784, 10), input_shape=(28, 28, 1))
    error = caught.value
    assert error.what and error.at and "test_promises.py" in error.at and error.got and error.fix


@promise("Interactive use")
def test_values_show_themselves_in_a_terminal_and_in_a_notebook():
    from rich.console import Console

    model = ax.Sequential(nn.Dense(4, 8), nn.relu, nn.Dense(8, 3))
    for value in (model, model.summary(), ax.backends()):
        out = io.StringIO()
        Console(file=out, width=120).print(value)
        assert len(out.getvalue()) > 20 and "object at 0x" not in out.getvalue()
        assert value._repr_html_().startswith("<")
    assert "0_Dense" in str(model.summary()) and "67" in str(model.summary())  # 4*8+8 + 8*3+3 parameters


@promise("Type instability named")
def test_a_lint_names_what_is_unstable_with_place_and_fix():
    def unstable(w, x):
        return x.astype(jnp.bfloat16).sum() + jnp.log(w)

    vector = jax.ShapeDtypeStruct((3,), "float32")
    report = ax.lint(unstable, vector, vector)
    model = ax.Model(lambda p, x: x * p["scale"], {"scale": 2.0})
    found = {finding.rule: finding for report in (report, ax.lint(model, vector)) for finding in report}
    assert {"log", "weak-type"} <= set(found)
    assert all(finding.at and finding.fix for finding in found.values() if finding.severity != "note")


@promise("Mathematical notation")
@pytest.mark.parametrize("text, verdict", [
    ("∀x ∈ [0,1]. sigmoid(x) >= 0.5", ax.Proved),
    ("∃x ∈ [0, 1]. x * x == 0.25", ax.Proved),
    ("∀x, y. x <= y ⟹ relu(x) <= relu(y)", ax.Proved),
    ("∀x. 0 <= sigmoid(x) ∧ sigmoid(x) <= 1", ax.Proved),
    ("∀x, ε. ‖ε‖ < 1 ⟹ ‖relu(x + ε)‖ <= ‖relu(x)‖ + 1", (ax.Proved, ax.Unknown)),
    ("forall x in [-1, 1]. x^2 <= 0.99", ax.Refuted),
])  # fmt: skip
@pytest.mark.filterwarnings("ignore:Cannot prove")
def test_mathematical_notation(text, verdict):
    assert isinstance(ax.prove(text), verdict)


@promise("Mathematical notation")
def test_a_syntax_error_has_a_caret():
    with pytest.raises(ax.SpecError) as caught:
        ax.prove("∀x ∈ [0, 1. x >= 0")
    assert "^" in str(caught.value) and caught.value.fix


@promise("Prove, or else a guard")
def test_what_holds_for_every_size_is_proved():
    for text in ("∀x. relu(x) >= 0", "∀x. sum(softmax(x)) == 1.0", "∀x. 0 <= sigmoid(x) <= 1"):
        verdict = ax.prove(text)
        assert isinstance(verdict, ax.Proved), text
        assert ax.check_certificate(verdict.certificate).accepted

    @ax.prove
    def softmax_sums_to_one(x: Float[Array, "n"]):  # noqa: F821
        return jnp.sum(jax.nn.softmax(x)) == 1.0

    assert isinstance(softmax_sums_to_one.verdict, ax.Proved)
    assert isinstance(ax.prove("∀x. relu(x) - 5 >= 0"), ax.Refuted)


@promise("Prove, or else a guard")
def test_what_cannot_be_proved_becomes_a_guard():
    def opaque(x):
        return jnp.sort(jax.scipy.special.gammaln(jnp.abs(x) + 1)).sum()

    with pytest.warns(UserWarning, match="Cannot prove.*\nAdding runtime assertion instead."):
        verdict = ax.prove("∀x. opaque(x) >= -1000", names={"opaque": opaque})
    assert isinstance(verdict, ax.Unknown) and verdict.reason
    verdict.guard(jnp.ones(3))
    jax.jit(verdict.guard)(jnp.ones(3))


@promise("Prove, or else a guard")
def test_guards_that_are_theorems_leave_the_program():
    @ax.axiom
    def classifier(net: nn.Sequential, x: Float[Array, "batch 3"]) -> ax.Probabilities["batch 2"]:
        output = net(x)
        ax.ensure(output >= 0, "not negative")
        ax.ensure(output.max() <= 0.75, "never sure")
        return output

    found = ax.discharge(classifier.bind(ax.Sequential(nn.Dense(3, 2), nn.softmax)), watch_output=False)
    assert found.removed == ("not negative",) and "stays" in repr(found)
    with pytest.raises(ax.EnsureViolation, match="never sure"):
        found.model(jnp.full((1, 3), 1e4))


@promise("Verify properties, with a certificate")
def test_verify_generate_save_load_and_check(blobs, tmp_path):
    x, y = blobs
    model = ax.train(ax.Sequential(nn.Dense(2, 8), nn.relu, nn.Dense(8, 2)), (x, y), "adam", epochs=20,
                     progress=False).model  # fmt: skip
    right = np.flatnonzero(np.asarray(model(x)).argmax(1) == y)[:3]
    x, y = x[right], y[right]
    result = ax.verify(model, properties=[ax.Robust("1/1000"), ax.Finite()], data=(x, y))
    assert not result.passed and {item.verdict for item in result.items} <= {"proved", "claimed", "refuted", "tested",
                                                                             "unknown"}  # fmt: skip
    proved = ax.verify(model, properties=[ax.Robust("1/1000")], data=(x, y))
    assert proved.passed and len(proved.to_dataframe()) == len(proved.items)
    path = tmp_path / "certificate.cert"
    ax.save_certificate(ax.generate_certificate(model, proved, author="a test"), path)
    ax.check_certificate(ax.load_certificate(path), model).raise_if_rejected()
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))
    assert not ax.check_certificate(path).accepted


@promise("Modes")
@pytest.mark.parametrize("mode", ["quick", "standard", "thorough", "exhaustive"])
def test_modes(mode):
    model = ax.Sequential(nn.Dense(2, 2), nn.relu)
    result = ax.verify(model, ax.Bounded(0, 1000), region=ax.Box(-1, 1), mode=mode)
    assert result.passed and result.mode == mode


@pytest.mark.slow
@promise("Properties")
def test_every_property_by_name_is_answered():
    net = ax.Sequential(nn.Dense(2, 4), nn.relu, nn.Dense(4, 2))
    other = ax.Sequential(nn.Dense(2, 4), nn.relu, nn.Dense(4, 2), seed=1)
    probable = ax.Sequential(nn.Dense(2, 3), nn.softmax)
    box = ax.Box(-1, 1)
    asked = [
        (net, ax.Bounded(-100, 100)), (net, ax.NoNaN()), (net, ax.NoInf()), (net, ax.Finite()),
        (net, ax.Robust("1/100")), (net, ax.Robust("1/100", norm=2)), (net, ax.LocalLipschitz(1000)),
        (net, ax.GlobalLipschitz(1000)), (net, ax.Monotone([0])), (net, ax.IndividualFairness(1)),
        (net, ax.Equivalent(other, "1/10")), (net, ax.AllOf(ax.Bounded(-100, 100), ax.Finite())),
        (net, ax.AnyOf(ax.Bounded(-100, 100), ax.Bounded(0, 1))),
        (net, ax.Implies(ax.Bounded(0, 1), ax.Bounded(-1, 1))), (probable, ax.ValidProbabilities()),
    ]  # fmt: skip
    for model, prop in asked:
        result = ax.verify(model, prop, region=box, data=np.zeros((1, 2), np.float32), mode="quick")
        assert result.items, prop
        for item in result.items:
            assert item.verdict in ("proved", "claimed", "refuted", "tested", "unknown")
            assert (item.verdict == "proved") <= bool(item.levels)
    assert ax.verify(probable, ax.ValidProbabilities(), region=box, mode="quick").passed
    rows = np.random.default_rng(0).normal(size=(40, 2)).astype(np.float32)
    rows[:, 0] = rows[:, 0] > 0
    labels = (rows[:, 1] > 0).astype(int)
    for prop in (ax.DemographicParity(0), ax.EqualizedOdds(0)):
        tested = ax.verify(net, prop, data=(rows, labels), mode="quick")
        assert not tested.passed and {item.verdict for item in tested.items} == {"tested"}


@promise("Proof certificates")
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


@promise("Proof assistants")
def test_a_certificate_becomes_a_theorem_in_coq(tmp_path):
    """tests/verify/proof/test_coq.py has Coq judge such files."""
    model = ax.Sequential(nn.Dense(4, 8), nn.relu, nn.Dense(8, 3), seed=3)
    x = np.float32([0.5, -0.25, 0.125, 1.0])
    label = int(np.argmax(model(x[None])[0]))
    decide(subject_of(model), robust(x, label, 3, "1/1000"), timeout=30, certificate_path=tmp_path / "a.cert")
    text = ax.export_coq(tmp_path / "a.cert")
    assert "Theorem certified" in text and "Admitted" not in text and text.count("Line true") == 8
    if shutil.which("coqc") is None:
        pytest.skip("coqc is not installed, so the file was written and not judged")
    (tmp_path / "a.v").write_text(text)
    assert subprocess.run(["coqc", "a.v"], cwd=tmp_path, capture_output=True).returncode == 0


@promise("Import PyTorch")
def test_import_pytorch(tmp_path):
    torch = pytest.importorskip("torch", reason="PyTorch is an extra")
    torch.manual_seed(0)
    module = torch.nn.Sequential(
        torch.nn.Conv2d(2, 3, 3), torch.nn.BatchNorm2d(3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(48, 5)
    )
    module(torch.randn(4, 2, 6, 6))  # moves the running statistics
    module.eval()
    x = torch.randn(3, 2, 6, 6)
    want = module(x).detach().numpy()
    example = (torch.randn(2, 2, 6, 6),)
    batch = torch.export.Dim("batch")
    torch.export.save(torch.export.export(module, example, dynamic_shapes=({0: batch},)), tmp_path / "model.pt2")
    torch.save(module.state_dict(), tmp_path / "state.pt")
    for model in (
        ax.from_pytorch(module, input_shape=(2, 6, 6)),
        ax.from_pytorch(tmp_path / "model.pt2"),
        ax.from_pytorch(tmp_path / "state.pt", architecture=module, input_shape=(2, 6, 6)),
    ):
        np.testing.assert_allclose(model(x.numpy()), want, atol=1e-5)


@promise("Import PyTorch")
def test_import_a_pytorch_descriptor_without_pytorch(tmp_path):
    weight = np.float32([[1, 2, 3], [-1, 0, 1]])
    layers = [{"type": "Linear", "weight": weight.tolist(), "bias": [0.5, -0.5]}, {"type": "ReLU"}]
    path = tmp_path / "model.pytorch.json"
    path.write_text(json.dumps({"format": "axiom.pytorch.sequential.v1", "layers": layers}))
    x = np.float32([[1, 1, 1], [-1, 2, 0]])
    want = np.maximum(x @ weight.T + np.float32([0.5, -0.5]), 0)
    np.testing.assert_allclose(ax.from_pytorch(path)(x), want, atol=1e-6)


@promise("Export ONNX")
def test_export_onnx(tmp_path):
    import onnx
    import onnxruntime

    model = ax.Sequential(
        nn.Conv(3, 4, (3, 3), strides=2), nn.relu, nn.GlobalAvgPool(), nn.Dense(4, 10), nn.softmax,
        input_shape=(8, 8, 3),
    )
    ax.to_onnx(model, tmp_path / "model.onnx", input_shape=(1, 3, 8, 8))
    onnx.checker.check_model(onnx.load(tmp_path / "model.onnx"), full_check=True)
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    for batch in (1, 5):
        images = np.random.default_rng(batch).normal(size=(batch, 3, 8, 8)).astype(np.float32)
        (got,) = session.run(None, {session.get_inputs()[0].name: images})
        np.testing.assert_allclose(got, model(images.transpose(0, 2, 3, 1)), atol=1e-5)


@promise("Import ONNX")
def test_import_onnx(tmp_path):
    model = ax.Sequential(nn.Dense(4, 8), nn.tanh, nn.LayerNorm(8), nn.Dense(8, 2))
    ax.to_onnx(model, tmp_path / "model.onnx")
    x = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)
    np.testing.assert_allclose(ax.from_onnx(tmp_path / "model.onnx")(x), model(x), atol=1e-5)


@promise("Freeze parameters")
def test_frozen_parameters_stay_bit_equal(blobs):
    model = ax.Sequential(nn.Dense(2, 8), nn.relu, nn.Dense(8, 2))
    frozen = ax.freeze(model, "0_Dense/*")
    trained = ax.train(model, blobs, "adamw", epochs=1, freeze=frozen, progress=False).model
    for name in ("kernel", "bias"):
        np.testing.assert_array_equal(trained.params["0_Dense"][name], model.params["0_Dense"][name])
    assert not np.array_equal(trained.params["2_Dense"]["kernel"], model.params["2_Dense"]["kernel"])


@promise("Custom loss, train, optimizers, schedules")
def test_training_converges_with_a_custom_loss_and_a_schedule(blobs):
    x, y = blobs
    model = ax.Sequential(nn.Dense(2, 16), nn.relu, nn.Dense(16, 2))
    calls = []

    def squared(output, target):
        return jnp.mean((output - jax.nn.one_hot(target, 2)) ** 2)

    result = ax.train(
        model, ax.DataLoader((x, y), batch_size=32, shuffle=True, seed=0), ax.Adam(lr=0.02), loss=squared,
        schedule=ax.CosineAnnealingLR(T_max=15), metrics=["accuracy"], callbacks=[calls.append],
        epochs=15, progress=False,
    )  # fmt: skip
    assert np.mean(np.argmax(result.model(x), 1) == y) > 0.95
    assert calls


@promise("Custom loss, train, optimizers, schedules")
def test_optimizers_and_schedules_have_the_expected_names():
    import optax

    for make in (ax.Adam, ax.AdamW, ax.SGD, ax.RMSprop):
        assert isinstance(make(lr=0.1), optax.GradientTransformation)
    for schedule in (ax.CosineAnnealingLR(T_max=10), ax.StepLR(step_size=3, gamma=0.5), ax.WarmupScheduler(5)):
        assert schedule is not None


@promise("Data loader")
def test_a_data_loader_is_deterministic_and_goes_on_where_it_stopped():
    x = np.arange(10)
    loader = ax.DataLoader((x, x * x), batch_size=4, shuffle=True, seed=0)
    first = [np.asarray(batch[0]) for batch in ax.DataLoader((x, x * x), batch_size=4, shuffle=True, seed=0)]
    assert sorted(np.concatenate(first).tolist()) == x.tolist() and len(loader) == len(first) == 3
    batches = iter(loader)
    np.testing.assert_array_equal(next(batches)[0], first[0])
    state = loader.state_dict()
    other = ax.DataLoader((x, x * x), batch_size=4, shuffle=True, seed=0)
    other.load_state_dict(json.loads(json.dumps(state)))
    np.testing.assert_array_equal(next(iter(other))[0], first[1])


@pytest.mark.slow
@promise("Gradients")
def test_gradients_of_anything():
    layers = nn.Conv(1, 2, (3, 3)), nn.BatchNorm(2), nn.gelu, nn.Flatten(), nn.Dense(32, 3)
    model = ax.Sequential(*layers, input_shape=(4, 4, 1))
    x = jnp.ones((2, 4, 4, 1))
    by_model = jax.grad(lambda m: m(x).sum())(model)
    assert jax.tree.structure(by_model) == jax.tree.structure(model)
    by_input = jax.grad(lambda x: model(x).sum())(x)
    assert by_input.shape == x.shape and np.isfinite(by_input).all()
    assert jax.hessian(lambda x: model(x[None])[0, 0])(x[0]).shape == (4, 4, 1, 4, 4, 1)


@promise("Gradient checkpointing")
def test_gradient_checkpointing_lowers_memory_and_keeps_gradients():
    model = ax.Sequential(*[layer for _ in range(24) for layer in (nn.Dense(64, 64), nn.tanh)])
    x = jnp.ones((512, 64))

    def compiled(model):
        return jax.jit(jax.grad(lambda m: m(x).sum())).lower(model).compile()

    plain, saving = compiled(model), compiled(ax.checkpoint(model, every=3))
    for a, b in zip(jax.tree.leaves(plain(model)), jax.tree.leaves(saving(ax.checkpoint(model, every=3))), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)
    before, after = (c.memory_analysis().temp_size_in_bytes for c in (plain, saving))
    assert after < 0.6 * before


@promise("Save, load")
def test_save_and_load(tmp_path):
    model = ax.Sequential(nn.Dense(4, 8), nn.relu, nn.Dense(8, 3), seed=5)
    ax.save_model(model, tmp_path / "model.axiom")
    loaded = ax.load_model(tmp_path / "model.axiom")
    assert jax.tree.structure(loaded) == jax.tree.structure(model)
    for a, b in zip(jax.tree.leaves(loaded), jax.tree.leaves(model), strict=True):
        np.testing.assert_array_equal(a, b)
    damaged = bytearray((tmp_path / "model.axiom").read_bytes())
    damaged[len(damaged) // 2] ^= 1
    (tmp_path / "damaged.axiom").write_bytes(damaged)
    with pytest.raises(ax.AxiomError):
        ax.load_model(tmp_path / "damaged.axiom")


@promise("Backends")
@pytest.mark.parametrize("backend", ["auto", "xla", "onnxruntime", "iree", "openvino"])
def test_compile_for_a_backend(backend):
    needed = {"iree": "iree.compiler", "openvino": "openvino"}.get(backend)
    if needed:
        pytest.importorskip(needed, reason=f"{backend} is an extra")
    model = ax.Sequential(nn.Dense(4, 8), nn.relu, nn.Dense(8, 3))
    x = np.random.default_rng(0).normal(size=(2, 4)).astype(np.float32)
    compiled = ax.compile(model, backend=backend)
    np.testing.assert_allclose(compiled(x), model(x), atol=1e-5)
    assert compiled.record["requested"] == backend and compiled.record["used"]


@pytest.mark.sweep(3)
@promise("Backends")
@pytest.mark.parametrize("backend", ["npu", "dsp", "fpga", "rocm"])
def test_an_absent_backend_says_what_it_needs(backend):
    if any(row.name == backend and row.available for row in ax.backends()):
        pytest.skip(f"{backend} is here")
    with pytest.raises(ax.BackendUnavailable) as caught:
        ax.compile(ax.Sequential(nn.Dense(4, 2)), backend=backend)
    assert caught.value.fix


@promise("Detection")
def test_backends_are_listed_with_reasons():
    rows = {row.name: row for row in ax.backends()}
    assert rows["xla"].available and rows["xla"].devices
    for name in ("cuda", "tpu", "npu", "dsp", "fpga"):
        assert rows[name].available or rows[name].reason


@promise("Precompile, profile")
def test_precompile_and_profile():
    model = ax.Sequential(nn.Dense(4, 8), nn.relu, nn.Dense(8, 3))
    assert ax.precompile(model, batch_sizes=[1, 4])
    table = str(ax.profile(model, np.ones((4, 4), np.float32)))
    assert "FLOP" in table and "0_Dense" in table


@pytest.mark.slow
@promise("Speed")
def test_speed_is_compared_with_peers_by_scripts_that_start():
    for script in ("inference_vs_pytorch.py", "training_vs_pytorch.py"):
        run = subprocess.run([sys.executable, ROOT / "benchmarks" / script, "--help"], capture_output=True, text=True)
        assert run.returncode == 0, run.stderr


@pytest.mark.sweep(2)
@promise("Mixed precision")
@pytest.mark.parametrize("precision", ["bfloat16", "mixed"])
def test_mixed_precision_keeps_float32_parameters(blobs, precision):
    model = ax.Sequential(nn.Dense(2, 16), nn.relu, nn.Dense(16, 2))
    trained = ax.train(model, blobs, "adam", lr=0.02, epochs=10, precision=precision, progress=False).model
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(trained.params))
    assert np.mean(np.argmax(trained(blobs[0]), 1) == blobs[1]) > 0.9


@promise("Serving")
def test_serve_rest_graphql_and_grpc():
    import grpc
    import httpx

    model = ax.Sequential(nn.Dense(4, 8), nn.relu, nn.Dense(8, 3), name="classifier")
    x = [[0.1, 0.2, 0.3, 0.4]]
    want = np.asarray(model(np.float32(x)))
    with ax.serve_rest(model, port=0, background=True) as server:
        answer = httpx.post(f"{server.url}/predict", json={"input": x}).json()
        np.testing.assert_allclose(answer["output"], want, atol=1e-6)
        assert httpx.get(f"{server.url}/health").status_code == 200
    with ax.serve_graphql(model, port=0, background=True) as server:
        answer = httpx.post(server.url, json={"query": "{ __schema { queryType { name } } }"}).json()
        assert answer["data"]["__schema"]["queryType"]["name"]
    with ax.serve_grpc(model, port=0, background=True) as server:
        with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
            call = channel.unary_unary("/grpc.health.v1.Health/Check")
            assert call(b"") == b"\x08\x01"  # SERVING
    assert "service AxiomInference" in ax.generate_grpc_proto()


@promise("Certificate scripts")
def test_certificate_scripts_start():
    for script in ("certify_onnx.py", "certify_jax.py"):  # tests/test_examples.py runs them to the end
        run = subprocess.run([sys.executable, ROOT / "examples" / script, "--help"], capture_output=True, text=True)
        assert run.returncode == 0, run.stderr


@promise("Layers by name")
def test_layers_and_activations_have_the_expected_names():
    layers = """Dense Linear Bilinear Conv1d Conv2d Conv3d ConvTranspose Embedding MultiHeadAttention
    TransformerEncoderLayer PositionalEncoding LSTM GRU BatchNorm LayerNorm InstanceNorm GroupNorm RMSNorm Dropout
    MaxPool AvgPool GlobalAvgPool GlobalMaxPool AdaptiveAvgPool Flatten Reshape PReLU Residual SkipConnection Parallel
    Conditional"""
    activations = """relu leaky_relu elu selu gelu sigmoid tanh softmax log_softmax softplus softsign swish mish
    hardswish relu6 hardsigmoid"""
    for name in layers.split():
        assert callable(getattr(nn, name)), name
    for name in activations.split():
        assert getattr(nn, name)(jnp.ones((2, 3))).shape == (2, 3)


@promise("Losses by name")
def test_losses_have_the_expected_names():
    names = """mse l1 smooth_l1 crossentropy binary_crossentropy nll kl hinge focal contrastive triplet"""
    for name in names.split():
        assert callable(getattr(ax.losses, name)), name
    assert float(ax.losses.mse(jnp.array([1.0, 2.0]), jnp.array([1.0, 4.0]))) == 2.0


def test_errors_carry_their_parts():
    for error in (ax.ShapeError, ax.UnsupportedPrimitive, ax.SpecError, ax.CertificateError, ax.BackendUnavailable):
        raised = error("What is wrong.", at="here", got="this", fix="that")
        assert issubclass(error, ax.AxiomError) and (raised.at, raised.got, raised.fix) == ("here", "this", "that")
        assert str(raised) == "What is wrong.\n  at   here\n  got  this\n  fix  that"
    broken = ax.EnsureViolation("p sums to 1", row=3, value=0.5, at="model.py:7")
    assert (broken.condition, broken.row, broken.value, broken.at) == ("p sums to 1", 3, 0.5, "model.py:7")
