"""`ax.profile`: where the time of a model goes, whole and layer by layer, as XLA runs it on JAX's default device."""

import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from axiom_jax._errors import AxiomError
from axiom_jax._model_chain import Chain, run
from axiom_jax._shapes_places import caller
from axiom_jax.targets import tables
from axiom_jax.targets.choosing import described
from axiom_jax.targets.xla import costs

CALLS, SECONDS = 50, 0.5  # later calls of a part, and what they may take
NUMBERS = ("compile ms", "first µs", "median µs", "MFLOP", "KB", "GFLOP/s")
HEADINGS = ("part", *NUMBERS)


@dataclass(frozen=True)
class Part:
    """A model or one of its layers, compiled alone.

    Args:
        compile_seconds: tracing, lowering and compiling.
        first_seconds: of the first call after that.
        seconds: of a later call, the median.
        flops: floating-point operations of a call, where XLA tells.
        bytes: read and written in a call, where XLA tells.
        memory: bytes of arguments, results and temporaries, where XLA tells.
    """

    name: str
    compile_seconds: float
    first_seconds: float
    seconds: float
    flops: int | None
    bytes: int | None
    memory: int | None


@dataclass(frozen=True, repr=False)
class Profile:
    """The time and the work of a model on one input.

    Args:
        whole: the model as one program.
        parts: its layers, each compiled alone; fused in one program they may take less.
        device: that it ran on.
        trace: the file of the trace, if one was asked for.
    """

    whole: Part
    parts: tuple[Part, ...]
    device: str
    trace: Path | None = None

    def __iter__(self) -> Iterator[Part]:
        return iter(self.parts)

    def to_dict(self) -> dict[str, Any]:
        return {"device": self.device, "whole": asdict(self.whole), "parts": [asdict(part) for part in self.parts],
                "trace": None if self.trace is None else str(self.trace)}  # fmt: skip

    @property
    def cells(self) -> list[list[str]]:
        return [_cells(part) for part in (*self.parts, self.whole)]

    def __str__(self) -> str:
        return tables.plain(HEADINGS, self.cells, NUMBERS)

    __repr__ = __str__

    def __rich__(self) -> Any:
        return tables.rich(f"{self.whole.name} on {self.device}", HEADINGS, self.cells, NUMBERS)

    def _repr_html_(self) -> str:
        return tables.html(f"{self.whole.name} on {self.device}", HEADINGS, self.cells)


def _cells(part: Part) -> list[str]:
    speed = "" if not part.flops else f"{part.flops / part.seconds / 1e9:.2f}"
    return [part.name, f"{part.compile_seconds * 1e3:.0f}", f"{part.first_seconds * 1e6:.0f}",
            f"{part.seconds * 1e6:.0f}", "" if part.flops is None else f"{part.flops / 1e6:.3f}",
            "" if part.bytes is None else f"{part.bytes / 1e3:.1f}", speed]  # fmt: skip


def profile(model: Any, *inputs: Any, trace: str | os.PathLike[str] | None = None) -> Profile:
    """Time a model, and each layer of a Sequential alone: compiling, the first call, later calls, FLOPs and bytes.

    Args:
        model: a model, or a JAX function of arrays.
        *inputs: arrays; the first call compiles for their shapes.
        trace: where to write a trace of ten calls for https://ui.perfetto.dev: a file `name.json.gz`, or a folder
            for TensorBoard with that file in it.

    Returns:
        A table; a row a layer, and one for the model.

    Raises:
        AxiomError: no input was given, or the model has no nets yet.

    >>> from axiom_jax import nn, Sequential
    >>> import numpy as np
    >>> found = profile(Sequential(nn.Dense(8, 4), nn.relu), np.ones((2, 8), np.float32))
    >>> [part.name for part in found], found.whole.flops >= 2 * 8 * 4 * 2
    (['0_Dense', '1_relu'], True)
    """
    import jax
    import jax.numpy as jnp

    if not inputs:
        raise AxiomError("There is nothing to run the model on.", at=caller(), fix="profile(model, x)")
    model, _, _ = described(model, inputs, 1)
    arrays = [jnp.asarray(x) for x in inputs]
    chain, parts = model.apply, []
    if isinstance(chain, Chain) and len(arrays) == 1:
        x = arrays[0]
        for name, layer in zip(chain.names, chain.layers, strict=True):
            part, x = _timed(name, lambda own, x, layer=layer: run(layer, own, x), model.params.get(name, {}), x)
            parts.append(part)
    whole, _ = _timed(model.name, model.apply, model.params, *arrays)
    written = None if trace is None else _traced(Path(trace), jax.jit(model.apply), model.params, arrays)
    return Profile(whole, tuple(parts), jax.devices()[0].device_kind, written)


def _timed(name: str, apply: Callable[..., Any], params: Any, *inputs: Any) -> tuple[Part, Any]:
    """The times of a function that was never compiled, and its output."""
    import jax

    start = time.perf_counter()
    executable = jax.jit(lambda *arguments: apply(*arguments)).lower(params, *inputs).compile()
    compiling = time.perf_counter() - start
    seconds = []
    output = None
    while len(seconds) <= CALLS and (len(seconds) < 4 or sum(seconds) < SECONDS):
        start = time.perf_counter()
        output = jax.block_until_ready(executable(params, *inputs))
        seconds.append(time.perf_counter() - start)
    known = costs(executable)
    later, work = statistics.median(seconds[1:]), map(known.get, ("flops", "bytes", "memory"))
    return Part(name, compiling, seconds[0], later, *work), output


def _traced(path: Path, function: Callable[..., Any], params: Any, inputs: list[Any], calls: int = 10) -> Path:
    """Write a trace of some calls; returns the file for Perfetto."""
    import jax

    jax.block_until_ready(function(params, *inputs))
    alone = path.name.endswith((".json.gz", ".json"))
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".trace-") as temporary:
        with jax.profiler.trace(temporary, create_perfetto_trace=True):
            for _ in range(calls):
                jax.block_until_ready(function(params, *inputs))
        found = next(Path(temporary).rglob("perfetto_trace.json.gz"))
        if not alone:
            shutil.copytree(temporary, path, dirs_exist_ok=True)
            return path / found.relative_to(temporary)
        if path.suffix == ".json":
            import gzip

            found.write_bytes(gzip.decompress(found.read_bytes()))
        os.replace(found, path)
    return path
