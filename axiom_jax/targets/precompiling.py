"""`ax.precompile`: a model compiled for its batch sizes before the first request, and kept for later processes."""

import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from axiom_jax._errors import AxiomError
from axiom_jax._shapes_places import caller
from axiom_jax.targets import tables
from axiom_jax.targets.caching import cached, folder
from axiom_jax.targets.choosing import described, host, made
from axiom_jax.targets.compiling import Compiled, compile

HEADINGS = ("batch", "seconds", "from the cache")


@dataclass(frozen=True)
class Batch:
    """One batch size: the seconds until its first result, and whether its program came from the cache."""

    batch: int
    seconds: float
    hit: bool


@dataclass(frozen=True, repr=False)
class Precompiled:
    """A compiled model with what was compiled; called like the model.

    Args:
        cache: the folder of the programs; None where the backend keeps none.
    """

    compiled: Compiled
    rows: tuple[Batch, ...]
    cache: Path | None

    def __call__(self, *inputs: Any) -> Any:
        return self.compiled(*inputs)

    def __iter__(self) -> Iterator[Batch]:
        return iter(self.rows)

    @property
    def hits(self) -> int:
        """How many of the programs came from the cache."""
        return sum(row.hit for row in self.rows)

    def to_dict(self) -> dict[str, Any]:
        return {"record": self.compiled.record, "rows": [asdict(row) for row in self.rows],
                "cache": None if self.cache is None else str(self.cache)}  # fmt: skip

    @property
    def cells(self) -> list[list[str]]:
        return [[str(row.batch), f"{row.seconds:.3f}", "yes" if row.hit else "no"] for row in self.rows]

    def __str__(self) -> str:
        return f"{self.compiled!r}\n{tables.plain(HEADINGS, self.cells, HEADINGS[:2])}"

    __repr__ = __str__

    def __rich__(self) -> Any:
        return tables.rich(f"{self.compiled.name} on {self.compiled.backend}", HEADINGS, self.cells, HEADINGS[:2])

    def _repr_html_(self) -> str:
        return tables.html(f"{self.compiled.name} on {self.compiled.backend}", HEADINGS, self.cells)


def precompile(
    model: Any, batch_sizes: Sequence[int] = (1,), backend: str = "xla", *, example: Any = None,
    cache: bool | str | os.PathLike[str] = True,
) -> Precompiled:  # fmt: skip
    """Compile a model for some batch sizes now, and keep the programs for later processes.

    Args:
        model: a model, or a JAX function of arrays.
        batch_sizes: that will come.
        backend: as `ax.compile` takes it.
        example: an input, or a tuple of inputs, where the sizes of one example are not known; its first axis is
            the batch.
        cache: a folder; True for the user's own (AXIOM_CACHE, else `~/.cache/axiom-jax`), False for none. A later
            process finds the programs there with `ax.precompile` or `ax.compile(..., cache=True)`.

    Returns:
        The compiled model with, for each batch size, the seconds until its first result and whether the program
        came from the cache.

    Raises:
        BackendUnavailable: the backend cannot run here.
        AxiomError: the sizes of one example are not known.

    >>> from axiom_jax import nn, Sequential
    >>> ready = precompile(Sequential(nn.Dense(4, 3)), batch_sizes=[1, 8], cache=False)
    >>> [row.batch for row in ready], ready.hits
    ([1, 8], 0)
    """
    subject, inputs, arrays = described(model, example, 1)
    if arrays is None:
        raise AxiomError(f"The sizes of an input of {subject.name} are not known.", at=caller(),
                         fix="give one: precompile(model, example=np.zeros((1, 28, 28, 1), np.float32))")  # fmt: skip
    place = folder(cache)
    compiled = compile(subject, backend, example=example, batch_size=max(batch_sizes, default=1), cache=cache)
    rows = []
    fixed = tuple((name, ("batch", *x.shape[1:]), dtype) for (name, _, dtype), x in zip(inputs, arrays, strict=True))
    for size in batch_sizes:
        start = time.perf_counter()
        with cached(place) as hits:
            host(compiled(*(made(fixed, size) or ())))
        rows.append(Batch(size, time.perf_counter() - start, hits.count > 0))
    return Precompiled(compiled, tuple(rows), place)
