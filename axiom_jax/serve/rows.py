"""Guards on answers: what has to hold of each row before it leaves the server.

Conditions inside a model (`ax.ensure`) are its own; these are asked of its outputs.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from axiom_jax._errors import EnsureViolation

FIX = "mend these rows of the input; the others can be sent without them"


@dataclass(frozen=True)
class Broken:
    """A row of an answer that a guard refuses.

    Args:
        row: its number in the request; None for an answer without rows.
        output: the name of the output.
        condition: what does not hold, as a clause: "y is finite".
        value: what was found, in words.
    """

    row: int | None
    output: str
    condition: str
    value: str


Guard = Callable[[Mapping[str, np.ndarray]], Sequence[Broken]]


def finite(outputs: Mapping[str, np.ndarray]) -> list[Broken]:
    """The guard that every answer passes: no NaN and no infinity in any row.

    >>> finite({"y": np.float32([[1, 2], [3, np.nan]])})
    [Broken(row=1, output='y', condition='y is finite', value='NaN')]
    """
    broken = []
    for name, array in outputs.items():
        if array.dtype.kind in "biu" or (whole := np.isfinite(array)).all():
            continue
        if not array.ndim:
            broken.append(Broken(None, name, f"{name} is finite", _word(array)))
            continue
        for row in np.flatnonzero(~whole.reshape(len(array), -1).all(1)):
            broken.append(Broken(int(row), name, f"{name} is finite", _word(array[row])))
    return broken


def _word(values: np.ndarray) -> str:
    return "NaN" if np.isnan(values).any() else "infinity"


def apply_guards(guards: Sequence[Guard], outputs: Mapping[str, np.ndarray], model: str) -> None:
    """Raise for the first row that a guard refuses; the message names all of them.

    Raises:
        EnsureViolation: with the row, and every broken row and output in `got`.
    """
    broken = [found for guard in guards for found in guard(outputs)]
    if not broken:
        return
    first = min(broken, key=lambda found: -1 if found.row is None else found.row)
    error = EnsureViolation(first.condition, row=first.row, value=first.value, at=model)
    texts = [f"{'the answer' if b.row is None else f'row {b.row}'} of {b.output}: {b.value}" for b in broken[:8]]
    error.got = "; ".join(texts) + (f"; and {len(broken) - 8} more" if len(broken) > 8 else "")
    error.fix = FIX
    raise error
