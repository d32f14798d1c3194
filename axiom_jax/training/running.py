"""A training as it goes: batches to the device, watched from time to time; epochs, checkpoints, failures."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

import jax
import numpy as np

from axiom_jax._errors import AxiomError, ShapeError, TrainingError
from axiom_jax._shapes_text import shape_text
from axiom_jax.model import Model
from axiom_jax.training import losses, runs
from axiom_jax.training.callbacks import Event, Row
from axiom_jax.training.failure import locate
from axiom_jax.training.feeding import Feed, parts
from axiom_jax.training.reporting import Tell
from axiom_jax.training.step import (
    SCALED,
    ModelLoss,
    Recipe,
    State,
    all_finite,
    compiled,
    copied,
    measured,
    zeros,
)

CHECK_STEPS, CHECK_BYTES, CHECK_SECONDS = 512, 64 << 20, 2.0  # how long a failure may go unseen; batches are kept
TELL_SECONDS = 0.25
INTERRUPTED, EARLY = "interrupted", "early"


@dataclass(frozen=True, eq=False)
class TrainingResult:
    """What a training gave.

    Args:
        model: with trained parameters.
        history: a dict an epoch: "epoch", "step", "loss", the metrics, "val_..." of the validation data, "rate"
            where known, "seconds"; "skipped" with loss scaling.
        steps: done in all.
        stopped: None at the planned end, "early" by a callback, "interrupted" by Ctrl-C.
        skipped: steps that loss scaling left out.
    """

    model: Model
    history: tuple[Row, ...]
    steps: int
    stopped: str | None = None
    skipped: int = 0

    def __repr__(self) -> str:
        last = ", ".join(f"{k} {v:.4g}" for k, v in self.history[-1].items() if "loss" in k or "acc" in k) \
            if self.history else "no epoch"  # fmt: skip
        return f"TrainingResult({len(self.history)} epochs, {self.steps:,} steps, {last}, stopped={self.stopped!r})"


@dataclass(eq=False)
class Run:
    """A training as it goes: where it is, and what it has seen.

    Args:
        model, recipe, feed, validation, callbacks, manager, save_every: what it was asked for.
        state: on the device.
        epoch, position, step: the epoch that runs, batches of it and steps in all that were given to the device.
        safe, recent: the last state that is known to be good, and the steps and batches since.
    """

    model: Model
    recipe: Recipe
    feed: Feed
    validation: Feed | None
    callbacks: tuple[Callable[[Event], Any], ...]
    state: State
    manager: Any = None
    save_every: int | None = None
    tell: Tell | None = None
    interrupted: Callable[[], bool] = lambda: False
    epoch: int = 0
    position: int = 0
    step: int = 0
    stopped: str | None = None
    history: list[Row] = field(default_factory=list)
    safe: State | None = None
    recent: list[tuple[int, Any]] = field(default_factory=list)
    most: int = CHECK_STEPS
    checked: float = 0.0
    told: float = 0.0
    began: float = 0.0
    fits: bool = False
    whole: bool | None = None

    @property
    def careful(self) -> bool:
        """Whether each step looks at all gradients: scaled ones have to be; on accelerators it costs little."""
        return self.recipe.precision in SCALED or jax.default_backend() != "cpu"

    def one_epoch(self, last_step: int | None) -> None:
        """The rest of an epoch, and what follows it."""
        step = compiled(self.recipe, self.careful)
        self.began = self.told = time.monotonic()
        if self.safe is None:
            self.watched()
            self.keep()
        found = False
        for batch in self.feed.epoch(self.epoch, self.position):
            found = True
            pair = parts(batch)
            if not self.fits:
                self.check_fit(*pair)
                self.most = min(CHECK_STEPS, 1 + CHECK_BYTES // (1 + sum(a.nbytes for a in jax.tree.leaves(pair))))
            self.recent.append((self.step, pair))
            self.state = step(self.state, pair)
            self.step += 1
            self.position += 1
            now = time.monotonic()
            if len(self.recent) >= self.most or now - self.checked > CHECK_SECONDS:
                self.check()
            if self.tell is not None and now - self.told > TELL_SECONDS:
                self.say(self.tell)
            if self.interrupted():
                self.stopped = INTERRUPTED
                self.check()
                return self.save()
            if self.save_every and self.step % self.save_every == 0:
                self.check()
                self.save()
            if last_step is not None and self.step >= last_step:
                break
        if not found and self.position == 0:
            raise AxiomError("The data have no batch.", got=f"epoch {self.epoch + 1}",
                             fix="give something that can be iterated once an epoch")  # fmt: skip
        self.check()
        self.finish_epoch()

    def finish_epoch(self) -> None:
        """Metrics, callbacks, checkpoint; then the next epoch begins."""
        sums = jax.device_get(self.state.sums)
        row: Row = {"epoch": self.epoch + 1, "step": self.step}
        examples = max(float(sums["examples"]), 1.0)
        row |= {name: float(value) / examples for name, value in sums.items() if name != "examples"}
        row |= self.validate()
        if self.recipe.rate is not None:
            row["rate"] = self.rate()
        if self.recipe.precision in SCALED:
            row["skipped"] = int(self.state.skipped)
        row["seconds"] = round(time.monotonic() - self.began, 4)
        self.history.append(row)
        event = Event(row["epoch"], self.step, row, tuple(self.history), self.model, self.state.params)
        if any([callback(event) is True for callback in self.callbacks]):  # all are called
            self.stopped = EARLY
        self.epoch, self.position = self.epoch + 1, 0
        self.state = replace(self.state, epoch=jax.numpy.asarray(self.epoch, "int32"), sums=zeros(self.recipe))
        self.save()

    def validate(self) -> Row:
        """Loss and metrics of the validation data."""
        if self.validation is None:
            return {}
        measure = measured(self.recipe)
        names = ("loss", "examples", *(name for name, _ in self.recipe.metrics))
        sums: Any = dict.fromkeys(names, np.float32(0))
        for batch in self.validation.epoch(0, 0):
            sums = measure(self.state.params, parts(batch), sums)
        sums = jax.device_get(sums)
        examples = max(float(sums["examples"]), 1.0)
        return {f"val_{name}": float(value) / examples for name, value in sums.items() if name != "examples"}

    def rate(self) -> float:
        """The learning rate of the last update."""
        if self.recipe.schedule is None or self.recipe.rate is None:
            return self.recipe.rate or 0.0
        update = max(self.step - 1, 0) // self.recipe.accumulate
        return float(self.recipe.schedule(self.recipe.rate, update, self.epoch))

    def check(self) -> None:
        """Wait for the device, and see whether all was finite until now.

        Raises:
            TrainingError: it was not.
        """
        if self.careful:
            failed = int(self.state.failed)
        elif np.isfinite(self.state.sums["loss"]) and all_finite(self.watched()):
            failed = -1
        else:
            failed = self.replayed()
        if failed >= 0:
            self.position -= self.step - failed
            self.step, batch = failed, dict(self.recent)[failed]
            raise self.error(*batch)
        self.keep()

    def keep(self) -> None:
        """Take the state for good; steps that are not careful need one to come back to."""
        self.recent.clear()
        self.checked = time.monotonic()
        if not self.careful:
            self.safe = copied(self.state)

    def watched(self) -> Any:
        """What has to stay finite: parameters, and the optimizer's memory where no rule of its own fills it with ∞."""
        if self.whole is None:
            self.whole = bool(all_finite(self.state.memory))
        return (self.state.params, self.state.memory) if self.whole else self.state.params

    def replayed(self) -> int:
        """Go back to the last good state, and carefully up to the step that failed: its number."""
        assert self.safe is not None
        step, state = compiled(self.recipe, True), copied(self.safe)
        for _, batch in self.recent:
            state = step(state, batch)
        failed = int(state.failed)
        # where another order of rounding just misses what failed, the last step is named: its state is good
        self.state = state
        return failed if failed >= 0 else self.recent[-1][0]

    def say(self, tell: Tell) -> None:
        """Show where the run is."""
        self.told = time.monotonic()
        loss = float(self.state.sums["loss"]) / max(float(self.state.sums["examples"]), 1.0)
        rate = "" if self.recipe.rate is None else f"  rate {self.rate():.3g}"
        tell(self.step, f"epoch {self.epoch + 1}  loss {loss:.4f}{rate}")

    def error(self, inputs: Any, target: Any) -> TrainingError:
        """The failure of a step, with what was reached before."""
        state = replace(self.state, failed=jax.numpy.asarray(-1, "int32"))
        cause = locate(self.recipe, state, inputs, target)
        self.state = state
        self.save()
        rate = "" if self.recipe.rate is None else f" (now {self.rate():.3g})"
        shapes = ", ".join(map(shape_text, jax.tree.leaves(inputs)))
        return TrainingError(
            f"Training met a value that is not finite at step {self.step} of epoch {self.epoch + 1}: {cause.what}.",
            step=self.step, layer=cause.layer, result=self.result(), at=cause.at,
            got=f"{cause.got or 'a gradient that is not finite'}; batch {shapes}",
            fix=f"lower the learning rate{rate}, clip gradients (clip=1.0), or mend the data; "
            "error.result.model is the model before this step",
        )  # fmt: skip

    def check_fit(self, inputs: Any, target: Any) -> None:
        """Errors of shapes and labels before anything is compiled."""
        leaves, structure = jax.tree.flatten((self.model.params, inputs))
        shapes = tuple(jax.ShapeDtypeStruct(np.shape(leaf), jax.numpy.result_type(leaf)) for leaf in leaves)
        try:
            output = _output(self.model.apply, structure, shapes)
        except ShapeError:  # the model tells more of what it takes
            jax.eval_shape(lambda *given: self.model(*given), *inputs)
            raise
        self.fits = True
        if target is None or not hasattr(target, "shape") or not hasattr(output, "shape"):
            return
        every = np.asarray(parts(self.feed.loader.data)[1] if self.feed.loader is not None else target)
        losses.check_targets(self.recipe.loss, every, output.shape)
        if self.recipe.loss not in losses.OF_LABELS and not isinstance(self.recipe.loss, ModelLoss):
            return
        if not losses.is_labels(target, output):
            return
        least, most = int(np.min(every)), int(np.max(every))
        if least < 0 or most >= output.shape[-1]:
            raise AxiomError(
                "Labels must number the classes.", got=f"labels from {least} to {most}, {output.shape[-1]} classes",
                fix=f"give labels in 0 .. {output.shape[-1] - 1}, or a model with {most + 1} outputs",
            )  # fmt: skip

    def save(self) -> None:
        """A checkpoint, where there is a folder for them."""
        if self.manager is not None:
            run = {"epoch": self.epoch, "position": self.position, "history": self.history, "stopped": self.stopped,
                   "batches": self.feed.batches}  # fmt: skip
            # two numbers a step: the last of an epoch may be kept before and after the epoch is finished
            runs.save(self.manager, 2 * self.step + (self.position == 0), self.state, run)

    def resume(self) -> None:
        """Stand where the newest checkpoint stood."""
        found = runs.restore(self.manager, self.state)
        if found is None:
            return
        state, run = found
        if run["batches"] != self.feed.batches:
            raise AxiomError("A checkpoint is of other data.", at=str(self.manager.directory),
                             got=f"{self.feed.batches} batches an epoch, {run['batches']} in the checkpoint",
                             fix="give the same data and batch size, or another folder")  # fmt: skip
        self.state = replace(state, total=self.state.total)
        self.epoch, self.position, self.history = run["epoch"], run["position"], list(run["history"])
        self.step = int(state.step)
        self.stopped = None if run["stopped"] == INTERRUPTED else run["stopped"]

    def result(self) -> TrainingResult:
        model = replace(self.model, params=self.state.params, source=())
        return TrainingResult(model, tuple(self.history), self.step, self.stopped, int(self.state.skipped))


@lru_cache(maxsize=64)
def _output(apply: Any, structure: Any, shapes: tuple[Any, ...]) -> Any:
    """What a model gives, as shapes; kept, since it takes as long as many small steps."""
    params, inputs = structure.unflatten(shapes)
    return jax.eval_shape(apply, params, *inputs)
