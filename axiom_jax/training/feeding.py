"""What training reads: epochs of batches from arrays, loaders or any iterable, and batches as inputs and target."""

import itertools
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from axiom_jax._errors import AxiomError
from axiom_jax._shapes_places import caller
from axiom_jax.training.data import DataLoader

BATCH_SIZE = 64
TARGETS = ("y", "label", "labels", "target", "targets")


@dataclass(frozen=True)
class Feed:
    """Epochs of batches.

    Args:
        epoch: `epoch(number, start)` gives the batches of an epoch from the one numbered `start` on.
        batches: in an epoch, None where not known.
        loader: the arrays it reads, where it does.
        once: whether it can be read a single time.
    """

    epoch: Callable[[int, int], Iterator[Any]]
    batches: int | None
    loader: DataLoader | None = None
    once: bool = False


def feed(data: Any, batch_size: int | None, seed: int, shuffle: bool = True) -> Feed:
    """The epochs of a data set.

    Args:
        data: a `DataLoader`, a tuple or dict of arrays, or an iterable of batches that can be read many times; tensors
            of PyTorch count as arrays.
        batch_size: for arrays; None for 64.
        seed, shuffle: for arrays.

    Raises:
        AxiomError: it is none of these, or a batch size comes with batches that are made already.
    """
    if is_arrays(data):
        data = without_torch(data)
        narrow = jax.tree.map(lambda a: np.asarray(a, jax.dtypes.canonicalize_dtype(np.asarray(a).dtype)), data)
        made = DataLoader(narrow, batch_size or BATCH_SIZE, shuffle=shuffle, seed=seed)
        return Feed(made.epoch, len(made), made)
    if batch_size is not None:
        raise AxiomError("These data have their batches already.", at=caller(), got=f"batch_size={batch_size}",
                         fix="give the size to the DataLoader, or arrays (x, y)")  # fmt: skip
    if isinstance(data, DataLoader):
        return Feed(data.epoch, len(data), data)
    if not isinstance(data, Iterable) or isinstance(data, (str, bytes, Mapping)):
        raise AxiomError("These are no training data.", at=caller(), got=f"a {type(data).__name__}",
                         fix="give (x, y), a DataLoader, or an iterable of batches (x, y)")  # fmt: skip
    batches = len(data) if hasattr(data, "__len__") else None  # pyright: ignore[reportArgumentType]
    once = iter(data) is data
    return Feed(lambda number, start: map(without_torch, itertools.islice(iter(data), start, None)), batches, once=once)


def without_torch(batch: Any) -> Any:
    """A batch whose tensors of PyTorch are arrays of NumPy, on the host; all else as it is.

    Raises:
        AxiomError: a tensor has a dtype that NumPy has not.
    """
    torch = sys.modules.get("torch")
    if torch is None:  # then none of them is a tensor
        return batch

    def host(leaf: Any) -> Any:
        if not isinstance(leaf, torch.Tensor):
            return leaf
        try:
            return leaf.detach().cpu().numpy()
        except (TypeError, RuntimeError) as error:
            got = f"a tensor of {leaf.dtype}, {leaf.layout}"
            raise AxiomError("This tensor of PyTorch is no array.", at=caller(), got=got,
                             fix="give dense tensors of float32 or integers: x.float()") from error  # fmt: skip

    return jax.tree.map(host, batch)


def parts(batch: Any) -> tuple[tuple[Any, ...], Any]:
    """A batch as inputs and target.

    Args:
        batch: (x, y), (x1, x2, …, y), a dict whose target goes by one of `TARGETS`, or a single array, which
            has no target.

    >>> parts({"image": 1, "label": 2})
    ((1,), 2)
    """
    if isinstance(batch, Mapping):
        names = [name for name in TARGETS if name in batch]
        if len(names) != 1 or len(batch) < 2:
            raise AxiomError("A batch that is a dict has inputs and one target.", at=caller(),
                             got=f"names {', '.join(map(str, batch))}",
                             fix=f"name the target one of {', '.join(TARGETS)}")  # fmt: skip
        return tuple(value for name, value in batch.items() if name != names[0]), batch[names[0]]
    if isinstance(batch, (tuple, list)):
        if len(batch) < 2:
            raise AxiomError("A batch has inputs and a target.", at=caller(), got=f"{len(batch)} values",
                             fix="give batches (x, y)")  # fmt: skip
        return tuple(batch[:-1]), batch[-1]
    return (batch,), None


def is_arrays(data: Any) -> bool:
    """Whether data are arrays rather than batches."""
    if isinstance(data, Mapping):
        return bool(data) and all(hasattr(value, "shape") for value in data.values())
    if isinstance(data, tuple):
        return bool(data) and all(hasattr(value, "shape") for value in data)
    return hasattr(data, "shape")
