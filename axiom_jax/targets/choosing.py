"""What `backend="auto"` takes: every backend that can run here is measured on the same example, in turn.

A backend whose results differ from XLA's is passed over, whatever its speed. XLA is kept unless another is clearly
faster, so that noise does not decide.
"""

import contextlib
import glob
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from axiom_jax._errors import AxiomError, BackendUnavailable
from axiom_jax._shapes_places import caller
from axiom_jax.targets import registry
from axiom_jax.targets.caching import choice_key, remember, remembered
from axiom_jax.targets.target import Executable, Inputs, Target

ROUNDS, SECONDS = 15, 0.25  # calls of each backend, and what they may take in all
CLEARLY = 0.9  # another backend must need less than this part of XLA's time
AGREEMENT = 1e-4  # of the largest output


@dataclass(frozen=True)
class Choice:
    """The backend that was taken.

    Args:
        seconds: of one call, the median, for each backend that was measured.
        reason: why it was taken, in words.
    """

    name: str
    executable: Executable
    reason: str
    seconds: dict[str, float] = field(default_factory=dict)


def described(model: Any, example: Any, batch_size: int) -> tuple[Any, Inputs, list[Any] | None]:
    """A model, what goes in, and example inputs; None for those where their sizes are not known.

    Raises:
        AxiomError: it is no model, or its nets are missing.
    """
    from axiom_jax.model import Model

    if not isinstance(model, Model):
        if not callable(model):
            raise AxiomError("This is no model.", at=caller(), got=f"a value of type {type(model).__name__}",
                             fix="give a model, or a JAX function of arrays")  # fmt: skip
        function = model
        model = Model(lambda params, *arrays: function(*arrays), {}, name=getattr(function, "__name__", "function"))
    if missing := getattr(model.apply, "missing", ()):
        raise AxiomError(f"{model.name} has no nets yet.", at=caller(), got=f"to be bound: {', '.join(missing)}",
                         fix=f"{model.name}.bind(...)")  # fmt: skip
    inputs = model.signature.inputs
    if example is not None:
        arrays = [x if hasattr(x, "dtype") else np.asarray(x) for x in _several(example)]
        inputs = inputs or tuple(
            (f"x{i}" if len(arrays) > 1 else "x", ("batch", *x.shape[1:]), str(x.dtype)) for i, x in enumerate(arrays)
        )
        if not model.signature.inputs:
            model = replace(model, signature=replace(model.signature, inputs=inputs))
        return model, inputs, arrays
    return model, inputs, made(inputs, batch_size)


def _several(example: Any) -> Sequence[Any]:
    return example if isinstance(example, tuple) else (example,)


def made(inputs: Inputs, batch_size: int) -> list[Any] | None:
    """Inputs of ones and zeros, deterministic; None where a size other than the batch's is free."""
    arrays = []
    for _, shape, dtype in inputs:
        if any(not isinstance(size, int) for size in shape[1:]) or not shape:
            return None
        sizes = [batch_size if isinstance(size, str) else size for size in shape]
        if np.dtype(dtype).kind == "f":
            arrays.append(np.random.default_rng(0).uniform(-1, 1, sizes).astype(dtype))
        else:
            arrays.append(np.zeros(sizes, dtype))  # ids and flags: zero is one of them
    return arrays or None


def compiled(
    target: Target, model: Any, inputs: Inputs, options: Mapping[str, Any], cache: Path | None = None
) -> Executable:
    """A model on a target.

    Raises:
        BackendUnavailable: the target cannot run this model, or there is no such option.
    """
    if unknown := [key for key in options if key not in target.options]:
        raise BackendUnavailable(f"The backend {target.name} has no option {unknown[0]!r}.", at=caller(),
                                 fix=f"its options: {', '.join(target.options) or 'none'}")  # fmt: skip
    able = target.capabilities(model, inputs)
    missing = [*able.missing, *(f"{name} of dtype {d}" for name, _, d in inputs if d not in able.dtypes)]
    if missing:
        raise BackendUnavailable(f"The backend {target.name} cannot run {model.name}.", at=caller(),
                                 got="\n".join(missing), fix="use backend='xla', which runs every model")  # fmt: skip
    if able.precision != "float32" and options.get("precision") != able.precision:
        raise BackendUnavailable(f"The backend {target.name} computes in {able.precision}.", at=caller(),
                                 got="precision is never changed without being asked for",
                                 fix=f"allow it: options={{'precision': '{able.precision}'}}")  # fmt: skip
    settings = {**target.options, **options} | ({"cache": cache} if "cache" in target.options else {})
    return target.compile(model, inputs, settings)


def fastest(
    model: Any, inputs: Inputs, arrays: list[Any] | None, options: Mapping[str, Any], cache: Path | None = None
) -> Choice:
    """The fastest backend on an example; XLA where nothing can be measured.

    Args:
        cache: where an earlier choice for the same program, shapes and machine is looked up, and this one kept.
    """
    known = registry.entries()
    key = choice_key(model, arrays, known) if cache is not None and arrays is not None else ""
    if cache is not None and key and (name := remembered(cache, key)) in known:
        with contextlib.suppress(Exception):  # what has gone since then is measured anew
            # it ran on this machine in these versions, which the key holds, so it need not be probed again
            target = known[name].load()
            chosen = {option: value for option, value in options.items() if option in target.options}
            executable = compiled(target, model, inputs, chosen, cache)
            return Choice(name, executable, "the fastest when it was measured")
    xla = _one(known["xla"], model, inputs, options, cache)
    if arrays is None:
        return Choice("xla", xla, "the example's sizes are not known, so nothing was measured: give example=")
    reference = xla.run(*arrays)
    ready, refused = {"xla": xla}, {}
    for entry in known.values():
        if entry.name == "xla" or not _may(entry):
            continue
        try:
            executable = _one(entry, model, inputs, options, cache)
            difference = _difference(executable.run(*arrays), reference)
        except Exception as error:  # a foreign compiler may raise anything; XLA runs the model in any case
            refused[entry.name] = getattr(error, "what", str(error).strip().partition("\n")[0])
            continue
        if difference <= AGREEMENT:
            ready[entry.name] = executable
        else:
            refused[entry.name] = f"its results differ by {difference:.1e}"
            executable.close()
    seconds = _measured(ready, arrays) if len(ready) > 1 else {}
    name = _winner(seconds)
    for other, executable in ready.items():
        if other != name:
            executable.close()
    if cache is not None:
        remember(cache, key, name)
    if not seconds:
        reason = "nothing else can run it here"
    else:
        others = ", ".join(f"{other} {value * 1e6:.0f} µs" for other, value in sorted(seconds.items()))
        reason = f"the fastest on {' and '.join(_text(x) for x in arrays)}: {others}"
    if refused:
        reason += f" (passed over: {'; '.join(f'{name}: {why}' for name, why in refused.items())})"
    return Choice(name, ready[name], reason, seconds)


def _one(
    entry: registry.Entry, model: Any, inputs: Inputs, options: Mapping[str, Any], cache: Path | None
) -> Executable:
    """A candidate with those of the options that it has."""
    target = registry.require(entry)
    return compiled(target, model, inputs, {k: v for k, v in options.items() if k in target.options}, cache)


def _winner(seconds: Mapping[str, float]) -> str:
    if not seconds:
        return "xla"
    best = min(seconds, key=lambda name: (seconds[name], name))
    return best if seconds[best] < CLEARLY * seconds["xla"] else "xla"


def _may(entry: registry.Entry) -> bool:
    if not entry.own:
        return registry.probe(entry).available and entry.load().measured
    return entry.load().measured and registry.probe(entry).available


def _measured(ready: Mapping[str, Executable], arrays: Sequence[Any]) -> dict[str, float]:
    """Median seconds of a call, results on the host; the backends take turns, slow ones drop out early."""
    times: dict[str, list[float]] = {name: [] for name in ready}
    end = time.perf_counter() + SECONDS * len(ready)
    for round_ in range(ROUNDS):
        best = min((statistics.median(t) for t in times.values() if t), default=0.0)
        for name, executable in ready.items():
            if round_ > 2 and statistics.median(times[name]) > 3 * best:
                continue
            start = time.perf_counter()
            host(executable.run(*arrays))
            times[name].append(time.perf_counter() - start)
        if round_ > 2 and time.perf_counter() > end:
            break
    return {name: statistics.median(t) for name, t in times.items()}


def host(outputs: Any) -> list[np.ndarray]:
    """The results as NumPy arrays, computed and copied."""
    import jax

    return [np.asarray(leaf) for leaf in jax.tree.leaves(outputs)]


def _difference(got: Any, expected: Any) -> float:
    """The largest difference, as a part of the largest expected magnitude; infinite where shapes or NaNs differ."""
    worst = 0.0
    ours, theirs = host(got), host(expected)
    if [x.shape for x in ours] != [x.shape for x in theirs] or [x.dtype for x in ours] != [x.dtype for x in theirs]:
        return float("inf")
    for x, y in zip(ours, theirs, strict=True):
        if not x.size:
            continue
        a, b = x.astype(np.float64), y.astype(np.float64)
        if not np.array_equal(np.isfinite(a), np.isfinite(b)):
            return float("inf")
        a, b = a[np.isfinite(a)], b[np.isfinite(b)]
        worst = max(worst, float(np.max(np.abs(a - b), initial=0) / max(np.max(np.abs(b), initial=0), 1e-30)))
    return worst


def idle_accelerator() -> str | None:
    """A sentence about a GPU of this machine that JAX does not use; None if there is none."""
    import jax

    if jax.default_backend() != "cpu":
        return None
    for pattern, name in (("/dev/nvidia[0-9]*", "cuda"), ("/dev/kfd", "rocm")):
        if glob.glob(pattern) and not (found := registry.probe(registry.entries()[name])).available:
            return f"a GPU is here, but {name} cannot be used: {found.reason}; using the CPU. To mend it: {found.fix}"
    return None


def _text(x: Any) -> str:
    return f"{x.dtype}[{', '.join(map(str, x.shape))}]"
