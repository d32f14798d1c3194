"""`ax.train`: a thin loop on the host around one compiled step."""

import contextlib
import math
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax

from axiom_jax._errors import AxiomError
from axiom_jax._model_layers import Function
from axiom_jax._model_train import trainable
from axiom_jax._shapes_places import caller
from axiom_jax.model import Model
from axiom_jax.training import losses, runs
from axiom_jax.training import metrics as measures
from axiom_jax.training.callbacks import Event
from axiom_jax.training.feeding import feed, is_arrays
from axiom_jax.training.freezing import Frozen
from axiom_jax.training.freezing import freeze as frozen
from axiom_jax.training.optimizers import assembled, rate_of, resolve, scheduled
from axiom_jax.training.reporting import bar
from axiom_jax.training.running import Run, TrainingResult
from axiom_jax.training.step import COMPUTE, ModelLoss, Recipe, start

EPOCHS = 10
VALIDATION_BATCH = 256


def train(
    model: Model,
    data: Any,
    optimizer: Any = "adam",
    *,
    loss: Any = "crossentropy",
    lr: float | None = None,
    epochs: int | None = None,
    steps: int | None = None,
    batch_size: int | None = None,
    schedule: Any = None,
    metrics: Any = (),
    validation: Any = None,
    callbacks: Sequence[Callable[[Event], Any]] = (),
    seed: int = 0,
    clip: float | None = None,
    accumulate: int = 1,
    freeze: "str | Frozen | Sequence[str | Frozen]" = (),
    precision: str = "float32",
    progress: bool = True,
    checkpoint_dir: str | Path | None = None,
    save_every: int | None = None,
    resume: bool = False,
) -> TrainingResult:
    """Train a model.

    Args:
        model: is left as it is.
        data: (x, y) arrays, a `DataLoader`, or any iterable of batches that can be read once an epoch. A batch is
            (x, y), (x1, x2, …, y) or a dict with a "y" or "label". A last batch that is smaller has a compilation
            of its own; `DataLoader(drop_last=True)` leaves it out.
        optimizer: an optax name ("adam", "adamw", "sgd", …), `ax.Adam(lr=...)` and the like, or any optax
            transformation.
        loss: a name of `ax.losses`, a function `loss(output, target) -> scalar`, or a loss of the model such as
            `ax.ibp_loss(eps=0.1)`.
        lr: learning rate, with an optimizer's name; 0.001 by default.
        epochs: passes over the data; 10 where `steps` is not given either.
        steps: at which to end, whatever the epoch.
        batch_size: of arrays; 64 by default.
        schedule: `ax.CosineAnnealingLR`, `StepLR`, `WarmupScheduler`, or an optax schedule, which is asked for the
            rate at every update.
        metrics: "accuracy", names of losses, functions `metric(output, target)`; `ax.certified_accuracy(...)`,
            which is measured on the validation data alone.
        validation: data that are measured after every epoch, in inference mode and float32.
        callbacks: functions of an `Event`, called after every epoch; one that returns True stops.
        seed: of the order of arrays and of all that the model draws. Equal seeds give equal bits.
        clip: greatest norm of the whole gradient.
        accumulate: steps whose mean gradient makes one update.
        freeze: patterns over parameter paths, or what `ax.freeze` gave: these keep every bit.
        precision: "float32"; "bfloat16"; "float16" or "mixed", which are the same: the model computes in float16
            with dynamic loss scaling. Weights, running statistics, losses and updates are float32 in all of them.
        progress: a bar on stderr, where that is a terminal.
        checkpoint_dir: a folder for checkpoints, by Orbax.
        save_every: steps between checkpoints; None for one after every epoch.
        resume: go on with the run in `checkpoint_dir`, if there is one; it ends with the same bits as if it had
            never stopped, given the same arguments and data.

    Returns:
        The trained model with the history. After Ctrl-C, what was reached.

    Raises:
        TrainingError: a loss or gradient is not finite; it names the layer and has the last good model.
        AxiomError: arguments that do not fit.

    >>> from axiom_jax import nn
    >>> from axiom_jax.model import Sequential
    >>> from axiom_jax.training.data import make_moons
    >>> model = Sequential(nn.Dense(2, 16), nn.relu, nn.Dense(16, 2))
    >>> result = train(model, make_moons(200), "adam", lr=0.05, epochs=20, metrics="accuracy")
    >>> result.history[-1]["accuracy"] > 0.9
    True
    """
    wanted = (epochs, steps, accumulate, save_every)
    if any(n is not None and n < 1 for n in wanted[1:]) or (epochs or 0) < 0 or (clip is not None and clip <= 0):
        raise AxiomError(
            "Training takes positive numbers.", at=caller(), fix="give numbers >= 1, and clip > 0",
            got=f"epochs={epochs}, steps={steps}, accumulate={accumulate}, save_every={save_every}, clip={clip}",
        )  # fmt: skip
    if precision not in COMPUTE:
        raise AxiomError(f"There is no precision {precision!r}.", at=caller(), fix=f"take one of {', '.join(COMPUTE)}")
    if checkpoint_dir is None and (resume or save_every):
        raise AxiomError("There is no folder for checkpoints.", at=caller(), got=f"resume={resume}",
                         fix="give checkpoint_dir")  # fmt: skip
    if not isinstance(model, Model):
        fix = "train(model, ..., freeze=ax.freeze(model, ...))" if isinstance(model, Frozen) else "ax.Sequential(...)"
        raise AxiomError("Only a model can be trained.", at=caller(), got=f"a {type(model).__name__}", fix=fix)
    fed = feed(data, batch_size, seed)
    epochs = epochs if epochs is not None or steps is not None else EPOCHS
    if fed.once and (epochs is None or epochs > 1) and steps is None:
        raise AxiomError("These data can be read only once.", at=caller(), got=f"an iterator, epochs={epochs}",
                         fix="give something that can be iterated again, epochs=1, or steps=...")  # fmt: skip
    total = min((n for n in (steps, epochs * fed.batches if epochs is not None and fed.batches else None) if n),
                default=None)  # fmt: skip
    chosen = losses.named(loss) if isinstance(loss, str) else loss
    if isinstance(chosen, ModelLoss) and total is None and epochs != 0:
        raise AxiomError("This loss moves along the training, whose length is not known.", at=caller(),
                         fix="give steps=...")  # fmt: skip
    named = tuple((name, fitting_metric(metric, model)) for name, metric in measures.named(metrics))
    if validation is None and any(isinstance(metric, ModelLoss) for _, metric in named):
        raise AxiomError("This metric is measured on validation data.", at=caller(), fix="give validation=(x, y)")
    rule = resolve(optimizer, lr)
    recipe = Recipe(
        model.apply, fitting(chosen, model), named, assembled(rule, clip, accumulate), rate_of(rule),
        scheduled(schedule, rule), accumulate, _moves(model, freeze), precision,
    )  # fmt: skip
    _hashable(recipe)
    state = start(recipe, model.params, seed, math.inf if total is None else total)
    size = VALIDATION_BATCH if is_arrays(validation) else None
    tests = None if validation is None else feed(validation, size, seed, shuffle=False)
    with contextlib.ExitStack() as stack:
        manager = stack.enter_context(runs.opened(checkpoint_dir, resume)) if checkpoint_dir is not None else None
        called = (callbacks,) if callable(callbacks) else tuple(callbacks)
        run = Run(model, recipe, fed, tests, called, state, manager, save_every)
        if manager is not None:
            run.resume()
        run.tell = stack.enter_context(bar(progress, total))
        run.interrupted = stack.enter_context(_interruptible())
        while run.stopped is None and (epochs is None or run.epoch < epochs) and (steps is None or run.step < steps):
            run.one_epoch(steps)
    return run.result()


def fitting(loss: Any, model: Model) -> Any:
    """The loss, or its form for probabilities where the model's last layer makes these of logits."""
    last = model.layers[-1] if model.layers else None
    function = last.fn if isinstance(last, Function) else None
    promised = "ValidProbabilities" in model.signature.promises
    if loss is losses.crossentropy and (function is jax.nn.softmax or promised):
        return losses.crossentropy_of_probabilities
    if loss is losses.binary_crossentropy and function is jax.nn.sigmoid:
        return losses.binary_crossentropy_of_probabilities
    if not callable(loss) and not isinstance(loss, ModelLoss):
        raise AxiomError("This is no loss.", at=caller(), got=f"a {type(loss).__name__}",
                         fix='give a name such as "crossentropy", or a function loss(output, target)')  # fmt: skip
    return loss


def fitting_metric(metric: Any, model: Model) -> Any:
    """The metric, or its form for probabilities where the model's last layer is a sigmoid."""
    last = model.layers[-1] if model.layers else None
    ends = isinstance(last, Function) and last.fn is jax.nn.sigmoid
    return measures.accuracy_of_probabilities if metric is measures.accuracy and ends else metric


def _moves(model: Model, patterns: Any) -> tuple[str, ...]:
    """For each parameter leaf: trained, moved by the model, or kept."""
    given = [patterns] if isinstance(patterns, (str, Frozen)) else list(patterns)
    kept = jax.tree.leaves(frozen(model, *given).mask(model.params))
    free = jax.tree.leaves(trainable(model))
    moves = tuple("kept" if k else "trained" if f else "moved" for k, f in zip(kept, free, strict=True))
    if "trained" not in moves:
        raise AxiomError("There is nothing to train.", at=caller(), got=f"{len(moves)} parameter arrays, none free",
                         fix="freeze fewer, or give a model with parameters")  # fmt: skip
    return moves


def _hashable(recipe: Recipe) -> None:
    try:
        hash(recipe)
    except TypeError as error:
        raise AxiomError("Losses, metrics and models of one training must be hashable.", at=caller(), got=str(error),
                         fix="use functions or frozen dataclasses")  from error  # fmt: skip


@contextlib.contextmanager
def _interruptible() -> Iterator[Callable[[], bool]]:
    """Ctrl-C ends the training after the step that runs; a second one ends the program's patience at once."""
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked.is_set
        return

    def ask(number: int, frame: Any) -> None:
        if asked.is_set():
            raise KeyboardInterrupt
        asked.set()

    before = signal.signal(signal.SIGINT, ask)
    try:
        yield asked.is_set
    finally:
        signal.signal(signal.SIGINT, before)
