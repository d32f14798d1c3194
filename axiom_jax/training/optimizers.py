"""Optimizers by name and by the names that PyTorch taught, and schedules that scale their rate.

Every optimizer is an optax transformation. What has equal settings is one object, so that equal trainings share one
compilation: optax compares by identity.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import jax.numpy as jnp
import optax

from axiom_jax._errors import AxiomError
from axiom_jax._shapes_places import caller

DEFAULT_RATE = 1e-3
NAMES = (
    "adabelief", "adadelta", "adafactor", "adagrad", "adam", "adamax", "adamaxw", "adamw", "adan", "amsgrad", "fromage",
    "lamb", "lars", "lbfgs", "lion", "nadam", "nadamw", "noisy_sgd", "novograd", "optimistic_adam_v2",
    "optimistic_gradient_descent", "polyak_sgd", "radam", "rmsprop", "rprop", "sgd", "sign_sgd", "sm3", "yogi",
)  # fmt: skip
OWN_RATE = {"lbfgs", "polyak_sgd"}  # these search for the length of their step, unless a rate is given
_RATES: dict[int, tuple[Any, float]] = {}  # by identity; the optimizer is kept, so that identities stay


def Adam(
    lr: float = 1e-3, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8, weight_decay: float = 0.0
) -> optax.GradientTransformation:
    """`optax.adam` under PyTorch's names; `weight_decay` is added to the gradient, as there.

    Source: Kingma and Ba 2015, Adam, arXiv 1412.6980.

    >>> Adam(lr=0.01) is Adam(lr=0.01)
    True
    """
    return _adam(float(lr), tuple(map(float, betas)), float(eps), float(weight_decay))


def AdamW(
    lr: float = 1e-3, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8, weight_decay: float = 1e-2
) -> optax.GradientTransformation:
    """`optax.adamw` under PyTorch's names; the decay is decoupled.

    Source: Loshchilov and Hutter 2019, Decoupled weight decay regularization, arXiv 1711.05101.
    """
    return _adamw(float(lr), tuple(map(float, betas)), float(eps), float(weight_decay))


def SGD(
    lr: float = 1e-3, momentum: float = 0.0, weight_decay: float = 0.0, nesterov: bool = False
) -> optax.GradientTransformation:
    """`optax.sgd` under PyTorch's names; `weight_decay` is added to the gradient, as there."""
    return _sgd(float(lr), float(momentum), float(weight_decay), bool(nesterov))


def RMSprop(
    lr: float = 1e-2, alpha: float = 0.99, eps: float = 1e-8, weight_decay: float = 0.0, momentum: float = 0.0
) -> optax.GradientTransformation:
    """`optax.rmsprop` under PyTorch's names, with ε outside of the root, as there.

    Source: Tieleman and Hinton 2012, Coursera lecture 6.5.
    """
    return _rmsprop(float(lr), float(alpha), float(eps), float(weight_decay), float(momentum))


@lru_cache(maxsize=256)
def _adam(lr: float, betas: tuple[float, ...], eps: float, decay: float) -> optax.GradientTransformation:
    return _known(_decayed(optax.adam(lr, *betas, eps=eps), decay), lr)


@lru_cache(maxsize=256)
def _adamw(lr: float, betas: tuple[float, ...], eps: float, decay: float) -> optax.GradientTransformation:
    return _known(optax.adamw(lr, *betas, eps=eps, weight_decay=decay), lr)


@lru_cache(maxsize=256)
def _sgd(lr: float, momentum: float, decay: float, nesterov: bool) -> optax.GradientTransformation:
    return _known(_decayed(optax.sgd(lr, momentum=momentum or None, nesterov=nesterov), decay), lr)


@lru_cache(maxsize=256)
def _rmsprop(lr: float, alpha: float, eps: float, decay: float, momentum: float) -> optax.GradientTransformation:
    rule = optax.rmsprop(lr, decay=alpha, eps=eps, eps_in_sqrt=False, momentum=momentum or None)
    return _known(_decayed(rule, decay), lr)


def _decayed(optimizer: optax.GradientTransformation, decay: float) -> optax.GradientTransformation:
    return optax.chain(optax.add_decayed_weights(decay), optimizer) if decay else optimizer


def _known(optimizer: optax.GradientTransformation, rate: float) -> optax.GradientTransformation:
    _RATES[id(optimizer)] = (optimizer, rate)
    return optimizer


def rate_of(optimizer: optax.GradientTransformation) -> float | None:
    """The learning rate of an optimizer that was made here; None for others, which keep it to themselves."""
    return _RATES[id(optimizer)][1] if id(optimizer) in _RATES else None


def resolve(optimizer: Any, lr: float | None) -> optax.GradientTransformation:
    """An optimizer by its name, or an optax transformation as it is.

    Args:
        optimizer: one of `NAMES`, in any case, or a transformation.
        lr: learning rate for a name; by default 0.001, and what optax has for those that search for it.

    Raises:
        AxiomError: there is no such optimizer, or a rate comes with one that has its own.

    >>> resolve("adam", 1e-3) is resolve("Adam", None)
    True
    """
    if isinstance(optimizer, str):
        name = optimizer.lower()
        if name not in NAMES:
            raise AxiomError(f"There is no optimizer {optimizer!r}.", at=caller(),
                             fix=f"take one of {', '.join(NAMES)}, or any optax transformation")  # fmt: skip
        return _by_name(name, DEFAULT_RATE if lr is None and name not in OWN_RATE else lr)
    if not (hasattr(optimizer, "init") and hasattr(optimizer, "update")):
        raise AxiomError("This is no optimizer.", at=caller(), got=f"a {type(optimizer).__name__}",
                         fix='give a name such as "adam", ax.Adam(lr=1e-3), or an optax transformation')  # fmt: skip
    if lr is not None:
        raise AxiomError("An optimizer that is made already has its rate.", at=caller(), got=f"lr={lr}",
                         fix='give lr with a name, such as "adam", or to the optimizer itself')  # fmt: skip
    return optimizer


@lru_cache(maxsize=256)
def _by_name(name: str, lr: float | None) -> optax.GradientTransformation:
    make = getattr(optax, name)
    if lr is None:
        return make()
    if name in OWN_RATE:
        return make(lr)
    return _known(make(lr, key=0) if name == "noisy_sgd" else make(lr), float(lr))


@lru_cache(maxsize=256)
def assembled(
    optimizer: optax.GradientTransformation, clip: float | None, accumulate: int
) -> optax.GradientTransformationExtraArgs:
    """The optimizer on gradients whose norm is clipped, moving every `accumulate` steps by their mean."""
    parts = [optimizer] if clip is None else [optax.clip_by_global_norm(clip), optimizer]
    whole = optax.chain(*parts)
    if accumulate > 1:
        whole = optax.MultiSteps(whole, every_k_schedule=accumulate).gradient_transformation()
    return optax.with_extra_args_support(whole)


# Schedules: rate at the start, and where training stands -> rate now. They run inside the compiled step.

Schedule = Callable[[Any, Any, Any], Any]


@dataclass(frozen=True)
class CosineAnnealingLR:
    """The rate falls to `eta_min` along half a cosine, and rises again where training goes on.

    Args:
        T_max: when it is lowest, in epochs; in steps with `per="step"`.
        eta_min: the lowest rate.
        per: "epoch" holds it during an epoch, as PyTorch does; "step" moves it at every step.

    Source: Loshchilov and Hutter 2017, SGDR, arXiv 1608.03983.

    >>> [round(float(CosineAnnealingLR(T_max=10)(0.1, step=0, epoch=e)), 6) for e in (0, 5, 10)]
    [0.1, 0.05, 0.0]
    """

    T_max: float
    eta_min: float = 0.0
    per: str = "epoch"

    def __post_init__(self) -> None:
        _sound(self, self.T_max > 0)

    def __call__(self, rate: Any, step: Any, epoch: Any) -> Any:
        share = (1 + jnp.cos(math.pi * _time(self, step, epoch) / self.T_max)) / 2
        return self.eta_min + (rate - self.eta_min) * share


@dataclass(frozen=True)
class StepLR:
    """The rate is multiplied by `gamma` every `step_size` epochs; steps with `per="step"`.

    >>> [round(float(StepLR(step_size=2)(0.1, step=0, epoch=e)), 6) for e in (1, 2, 4)]
    [0.1, 0.01, 0.001]
    """

    step_size: int
    gamma: float = 0.1
    per: str = "epoch"

    def __post_init__(self) -> None:
        _sound(self, self.step_size > 0)

    def __call__(self, rate: Any, step: Any, epoch: Any) -> Any:
        return rate * self.gamma ** jnp.floor(_time(self, step, epoch) / self.step_size)


@dataclass(frozen=True)
class WarmupScheduler:
    """The rate rises linearly from `start` of itself, then `after` takes over, counting from the end of the rise.

    Args:
        warmup: how long it rises, in steps; in epochs with `per="epoch"`.
        after: another schedule of this module; None holds the rate.
        start: share of the rate at the first step.
        per: "step" or "epoch".

    Source: Goyal et al. 2017, Accurate, large minibatch SGD, arXiv 1706.02677.

    >>> [round(float(WarmupScheduler(4)(0.1, step=s, epoch=0)), 6) for s in (0, 2, 4, 9)]
    [0.0, 0.05, 0.1, 0.1]
    """

    warmup: int
    after: Schedule | None = None
    start: float = 0.0
    per: str = "step"

    def __post_init__(self) -> None:
        _sound(self, self.warmup > 0)

    def __call__(self, rate: Any, step: Any, epoch: Any) -> Any:
        time = _time(self, step, epoch)
        rising = rate * (self.start + (1 - self.start) * jnp.minimum(time / self.warmup, 1))
        if self.after is None:
            return rising
        gone = (step - self.warmup, epoch) if self.per == "step" else (step, epoch - self.warmup)
        return jnp.where(time < self.warmup, rising, self.after(rate, *(jnp.maximum(t, 0) for t in gone)))


def _time(schedule: Any, step: Any, epoch: Any) -> Any:
    return jnp.asarray(step if schedule.per == "step" else epoch, jnp.float32)


def _sound(schedule: Any, holds: bool) -> None:
    if not holds or schedule.per not in ("epoch", "step"):
        raise AxiomError("A schedule takes a positive length, counted in epochs or in steps.", at=caller(),
                         got=f"{schedule}", fix='per="epoch" or per="step"')  # fmt: skip


@dataclass(frozen=True)
class Rates:
    """An optax schedule, which gives rates, as one of ours.

    Args:
        rates: from the number of the step to the rate.
    """

    rates: Callable[[Any], Any]

    def __call__(self, rate: Any, step: Any, epoch: Any) -> Any:
        return self.rates(step)


def scheduled(schedule: Any, optimizer: optax.GradientTransformation) -> Schedule | None:
    """A schedule that fits an optimizer.

    Args:
        schedule: one of this module, or an optax schedule, which gives rates by the number of the step; or None.

    Raises:
        AxiomError: it is neither, or the optimizer's own rate, which it scales, is not known.
    """
    if schedule is None:
        return None
    if not callable(schedule):
        raise AxiomError("This is no schedule.", at=caller(), got=f"a {type(schedule).__name__}",
                         fix="give ax.CosineAnnealingLR(T_max=epochs), or an optax schedule")  # fmt: skip
    if rate_of(optimizer) is None:
        raise AxiomError(
            "A schedule scales the optimizer's rate, and the rate of this optimizer is not known.", at=caller(),
            fix='name the optimizer: "adam" with lr=..., or ax.Adam(lr=...); or give the schedule to optax itself: '
            "optax.adam(schedule)",
        )  # fmt: skip
    return schedule if isinstance(schedule, (CosineAnnealingLR, StepLR, WarmupScheduler)) else Rates(schedule)
