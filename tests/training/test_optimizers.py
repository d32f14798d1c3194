"""Every optax name trains; schedules are PyTorch's and optax's; equal settings are one object."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import axiom_jax as ax
from axiom_jax import nn
from axiom_jax._errors import AxiomError
from axiom_jax.training.optimizers import NAMES, OWN_RATE, assembled, rate_of, resolve, scheduled

RATE = 0.1


@pytest.mark.parametrize("name", NAMES)
def test_every_name_descends(name: str) -> None:
    rule = assembled(resolve(name, None if name in OWN_RATE else 1e-2), None, 1)
    params = {"w": jnp.array([[1.0, -2.0], [0.5, 1.5]])}
    loss = lambda p: jnp.square(p["w"]).sum()
    memory = rule.init(params)

    @jax.jit
    def step(params, memory):
        value, gradient = jax.value_and_grad(loss)(params)
        updates, memory = rule.update(gradient, memory, params, value=value, grad=gradient, value_fn=loss)
        return optax.apply_updates(params, updates), memory

    for _ in range(3):
        params, memory = step(params, memory)
    assert loss(params) < 7.5


def test_names_are_those_of_optax() -> None:
    for name in NAMES:
        assert resolve(name.upper(), 0.5) is resolve(name, 0.5)
    assert rate_of(resolve("adam", None)) == 1e-3 and rate_of(resolve("lbfgs", None)) is None
    assert rate_of(optax.adam(0.1)) is None and rate_of(ax.RMSprop()) == 1e-2


@pytest.mark.parametrize(
    ("ours", "settings"),
    [
        ("Adam", {"weight_decay": 0.1}), ("Adam", {"betas": (0.5, 0.9), "eps": 1e-3}), ("AdamW", {"weight_decay": 0.1}),
        ("SGD", {"momentum": 0.9, "weight_decay": 0.1}), ("SGD", {"momentum": 0.9, "nesterov": True}),
        ("RMSprop", {"momentum": 0.9, "weight_decay": 0.1}), ("RMSprop", {"alpha": 0.8}),
    ],
)  # fmt: skip
def test_against_torch(ours: str, settings: dict) -> None:
    torch = pytest.importorskip("torch", reason="compares optimizers with PyTorch's")
    start = np.array([1.0, -2.0, 3.0], np.float32)
    theirs = torch.nn.Parameter(torch.tensor(start))
    their_rule = getattr(torch.optim, ours)([theirs], lr=RATE, **settings)
    rule = getattr(ax, ours)(lr=RATE, **settings)
    params, memory = jnp.asarray(start), rule.init(jnp.asarray(start))
    for i in range(4):
        gradient = np.array([0.3, -1.0, 2.0], np.float32) * (i + 1)
        theirs.grad = torch.tensor(gradient)
        their_rule.step()
        updates, memory = rule.update(jnp.asarray(gradient), memory, params)
        params = optax.apply_updates(params, updates)
    np.testing.assert_allclose(params, theirs.detach().numpy(), rtol=2e-4, atol=1e-5)


def test_schedules_against_torch() -> None:
    torch = pytest.importorskip("torch", reason="compares schedules with PyTorch's")
    schedulers = torch.optim.lr_scheduler
    for ours, make in (
        (ax.CosineAnnealingLR(T_max=5, eta_min=0.01), lambda o: schedulers.CosineAnnealingLR(o, 5, eta_min=0.01)),
        (ax.StepLR(step_size=3, gamma=0.5), lambda o: schedulers.StepLR(o, 3, gamma=0.5)),
    ):
        rule = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=RATE)
        theirs = make(rule)
        for epoch in range(9):
            assert float(ours(RATE, step=0, epoch=epoch)) == pytest.approx(rule.param_groups[0]["lr"], abs=1e-6)
            rule.step()
            theirs.step()


def test_warmup_hands_over() -> None:
    schedule = ax.WarmupScheduler(4, after=ax.CosineAnnealingLR(T_max=10, per="step"), start=0.2)
    rates = [float(schedule(RATE, step=s, epoch=0)) for s in (0, 2, 4, 9, 14)]
    np.testing.assert_allclose(rates, [0.02, 0.06, 0.1, 0.05, 0.0], atol=1e-6)
    by_epoch = ax.WarmupScheduler(2, after=ax.StepLR(1), per="epoch")
    rates = [float(by_epoch(RATE, step=99, epoch=e)) for e in range(5)]
    np.testing.assert_allclose(rates, [0.0, 0.05, 0.1, 0.01, 0.001], atol=1e-7)


def test_schedules_move_the_training() -> None:
    data = ax.DataLoader(ax.make_moons(64), 32)
    model = ax.Sequential(nn.Dense(2, 2))
    rate = optax.linear_schedule(0.1, 0.0, 4)
    ours = ax.train(model, data, "sgd", lr=0.1, schedule=rate, epochs=3, progress=False)
    theirs = ax.train(model, data, optax.sgd(rate), epochs=3, progress=False)
    for a, b in zip(jax.tree.leaves(ours.model.params), jax.tree.leaves(theirs.model.params), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose([row["rate"] for row in ours.history], [0.075, 0.025, 0.0], atol=1e-7)
    assert "rate" not in theirs.history[0]


def test_what_is_no_schedule_is_told() -> None:
    for wrong in (lambda: ax.StepLR(0), lambda: ax.CosineAnnealingLR(5, per="day")):
        with pytest.raises(AxiomError, match="positive length"):
            wrong()
    with pytest.raises(AxiomError, match="no schedule"):
        scheduled(0.1, ax.Adam())
    with pytest.raises(AxiomError, match="no optimizer"):
        resolve(object(), None)
