"""Batches of arrays: shuffled, repeatable, and resumable in the middle of an epoch.

The order of an epoch depends on the seed and the epoch's number alone, so a position is two numbers. For data
that do not fit into memory, any iterable of batches takes a loader's place, such as one of grain.
"""

import queue
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from axiom_jax._errors import AxiomError
from axiom_jax._shapes_places import caller


class DataLoader:
    """Arrays in batches; each pass over it is an epoch in an order of its own.

    Args:
        data: an array, or a tuple, list, dict or other pytree of arrays with the same first axis, examples:
            (x, y), {"x": x, "y": y}. jax arrays are brought to the host.
        batch_size: examples a batch; the last batch of an epoch is smaller where they do not divide.
        shuffle: whether every epoch has its own order; else the arrays' order.
        seed: of the orders.
        drop_last: whether a smaller last batch is left out.
        prefetch: batches that a thread makes ahead of time; 0 makes them when they are asked for, which is faster
            for arrays in memory on a CPU.

    Raises:
        AxiomError: no arrays, arrays of different lengths, or sizes that give no batch.

    >>> loader = DataLoader((np.arange(5.0), np.arange(5)), batch_size=2, shuffle=False)
    >>> [y.tolist() for x, y in loader], len(loader)
    ([[0, 1], [2, 3], [4]], 3)
    """

    def __init__(
        self, data: Any, batch_size: int = 64, shuffle: bool = False, seed: int = 0, drop_last: bool = False,
        prefetch: int = 0,
    ) -> None:  # fmt: skip
        self.data = jax.tree.map(_host, tuple(data) if isinstance(data, list) else data)
        lengths = [len(leaf) for leaf in jax.tree.leaves(self.data)]
        if not lengths or len(set(lengths)) > 1:
            raise AxiomError(
                "The arrays of a data set must have one length.", at=caller(),
                got=f"lengths {', '.join(map(str, lengths))}" if lengths else "no arrays",
                fix="give as many targets as examples: DataLoader((x, y))",
            )  # fmt: skip
        if batch_size < 1 or prefetch < 0 or seed < 0 or lengths[0] < (batch_size if drop_last else 1):
            raise AxiomError(
                "These settings make no batches.", at=caller(),
                got=f"{lengths[0]} examples, batch_size={batch_size}, drop_last={drop_last}, prefetch={prefetch}, "
                f"seed={seed}",
                fix="give batch_size >= 1 (with drop_last at most the number of examples), prefetch >= 0 and seed >= 0",
            )  # fmt: skip
        self.examples, self.batch_size, self.drop_last = lengths[0], batch_size, drop_last
        self.shuffle, self.seed, self.prefetch = shuffle, seed, prefetch
        self._epoch, self._position, self._resumed = 0, 0, False

    def __len__(self) -> int:
        """The number of batches in an epoch."""
        whole, rest = divmod(self.examples, self.batch_size)
        return whole + (rest > 0 and not self.drop_last)

    def __repr__(self) -> str:
        return f"DataLoader({self.examples:,} examples in {len(self):,} batches of {self.batch_size})"

    def __iter__(self) -> Iterator[Any]:
        """The next epoch: the one after the last that was begun, or the rest of one that was loaded."""
        if self._position and not self._resumed:  # the epoch before was left in the middle
            self._epoch, self._position = self._epoch + 1, 0
        self._resumed = False
        for batch in self.epoch(self._epoch, self._position):
            self._position += 1
            yield batch
        self._epoch, self._position = self._epoch + 1, 0

    def epoch(self, number: int, start: int = 0) -> Iterator[Any]:
        """The batches of one epoch, from batch `start` on; this changes nothing."""
        batches = self._batches(number, start)
        return _ahead(batches, self.prefetch) if self.prefetch else batches

    def _batches(self, number: int, start: int) -> Iterator[Any]:
        leaves, structure = jax.tree.flatten(self.data)
        order = np.random.default_rng((self.seed, number)).permutation(self.examples) if self.shuffle else None
        for first in range(start * self.batch_size, len(self) * self.batch_size, self.batch_size):
            rows = slice(first, first + self.batch_size) if order is None else order[first : first + self.batch_size]
            yield structure.unflatten([leaf[rows] for leaf in leaves])

    def state_dict(self) -> dict[str, int]:
        """Where it stands: `{"epoch", "position", "seed"}`, the number of batches given out in this epoch."""
        return {"epoch": self._epoch, "position": self._position, "seed": self.seed}

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Stand where another loader of the same data stood: the next pass gives the batches that are left.

        Raises:
            AxiomError: the state is of a loader with another seed, or of none.
        """
        if set(state) != {"epoch", "position", "seed"} or state["seed"] != self.seed:
            raise AxiomError("This state is not of this loader.", at=caller(), got=f"{dict(state)}",
                             fix=f"give the state_dict() of a loader with seed={self.seed}")  # fmt: skip
        self._epoch, self._position, self._resumed = state["epoch"], state["position"], True


def _host(leaf: Any) -> np.ndarray:
    array = np.asarray(leaf)
    if array.dtype == object or not array.ndim:
        raise AxiomError("A data set is made of arrays whose first axis counts examples.", at=caller(),
                         got=f"a {type(leaf).__name__}", fix="DataLoader((x, y)) with arrays x and y")  # fmt: skip
    return array


def _ahead(batches: Iterator[Any], count: int) -> Iterator[Any]:
    """The same batches, made by a thread, which ends with the iteration however that ends."""
    ready: queue.Queue[Any] = queue.Queue(count)
    stop = threading.Event()

    def put(item: Any) -> None:
        while not stop.is_set():
            try:
                return ready.put(item, timeout=0.1)
            except queue.Full:
                continue

    def work() -> None:
        try:
            for batch in batches:
                put((batch, None))
                if stop.is_set():
                    return
            put((None, StopIteration))
        except BaseException as error:  # it belongs to whoever takes the batches
            put((None, error))

    def given() -> Iterator[Any]:
        thread = threading.Thread(target=work, name="axiom-prefetch", daemon=True)
        thread.start()
        try:
            while True:
                batch, end = ready.get()
                if end is StopIteration:
                    return
                if end is not None:
                    raise end
                yield batch
        finally:
            stop.set()
            thread.join()

    return given()


def train_test_split(
    *arrays: Any, test_size: float = 0.25, seed: int = 0, shuffle: bool = True, stratify: Any = None
) -> list[np.ndarray]:
    """Each array in two parts: `x_train, x_test, y_train, y_test = train_test_split(x, y)`.

    Args:
        *arrays: with the same first axis, examples.
        test_size: the share of the second parts, in (0, 1); rounded up to whole examples.
        seed: of the order.
        shuffle: False takes the last examples for testing.
        stratify: labels, (examples,): both parts get every class in the same share, up to whole examples.

    Returns:
        For each array its training part and its testing part.

    Raises:
        AxiomError: lengths differ, or a part would be empty.

    >>> x_train, x_test = train_test_split(np.arange(10), test_size=0.3)
    >>> len(x_train), len(x_test)
    (7, 3)
    """
    given = [_host(array) for array in arrays]
    lengths = {len(array) for array in given} | ({len(stratify)} if stratify is not None else set())
    examples = max(lengths, default=0)
    tests = int(np.ceil(examples * test_size))
    if len(lengths) != 1 or not 0 < test_size < 1 or not 0 < tests < examples or (stratify is not None and not shuffle):
        raise AxiomError(
            "The arrays cannot be split.", at=caller(),
            got=f"lengths {', '.join(map(str, sorted(lengths)))}, test_size={test_size}, shuffle={shuffle}",
            fix="give arrays of one length and a test_size in (0, 1) that leaves examples on both sides; "
            "stratify needs shuffle",
        )  # fmt: skip
    random = np.random.default_rng(seed)
    order = random.permutation(examples) if shuffle else np.arange(examples)
    if stratify is None:
        test = order[-tests:]
    else:
        test = _stratified(np.asarray(stratify), order, tests)
    held = np.zeros(examples, bool)
    held[test] = True
    train, test = order[~held[order]], order[held[order]]
    return [part for array in given for part in (array[train], array[test])]


def _stratified(labels: np.ndarray, order: np.ndarray, tests: int) -> np.ndarray:
    """Examples for testing, of each class its share; what rounding leaves goes to the largest remainders."""
    classes, counts = np.unique(labels, return_counts=True)
    shares = counts * tests / len(labels)
    taken = np.floor(shares).astype(int)
    taken[np.argsort(taken - shares, kind="stable")[: tests - taken.sum()]] += 1
    picked = [order[labels[order] == c][:n] for c, n in zip(classes, taken, strict=True)]
    return np.concatenate(picked)


def one_hot(labels: Any, classes: int | None = None) -> np.ndarray:
    """Labels as rows of zeros with a one.

    Args:
        labels: integers, [...], from 0.
        classes: their number; by default one more than the greatest label.

    Returns:
        float32, [..., classes].

    Raises:
        AxiomError: labels are no integers, or lie outside of 0 .. classes - 1.

    >>> one_hot([1, 0], 3).tolist()
    [[0.0, 1.0, 0.0], [1.0, 0.0, 0.0]]
    """
    given = np.asarray(labels)
    count = int(given.max(initial=-1)) + 1 if classes is None else classes
    if not np.issubdtype(given.dtype, np.integer) or (given.size and not 0 <= given.min() <= given.max() < count):
        raise AxiomError(
            "These are not labels.", at=caller(),
            got=f"{given.dtype}" + (f" from {given.min()} to {given.max()}, {count} classes" if given.size else ""),
            fix="give integers from 0 to classes - 1",
        )  # fmt: skip
    return np.eye(count, dtype=np.float32)[given]


def normalize(x: Any, mean: Any = None, std: Any = None, axis: int | Sequence[int] = 0) -> np.ndarray:
    """Mean 0 and standard deviation 1 of each feature; constant features become 0.

    Args:
        x: [examples, ...].
        mean, std: to use instead of those of `x`, such as the training data's for the test data.
        axis: the axes that are averaged over: 0 for each feature, (0, 1, 2) for the channels of images.

    Returns:
        float32 of the shape of `x`.

    >>> normalize(np.array([[1.0, 5.0], [3.0, 5.0]])).tolist()
    [[-1.0, 0.0], [1.0, 0.0]]
    """
    given = np.asarray(x, np.float64)
    axes = axis if isinstance(axis, int) else tuple(axis)
    mean = given.mean(axes, keepdims=True) if mean is None else np.asarray(mean)
    std = given.std(axes, keepdims=True) if std is None else np.asarray(std)
    return ((given - mean) / np.where(std == 0, 1, std)).astype(np.float32)


def make_moons(examples: int = 100, noise: float = 0.1, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Two interleaved half circles: the smallest data that no linear model separates.

    Args:
        examples: how many in all; the first class has half of them.
        noise: standard deviation of what is added to each coordinate.
        seed: of noise and order.

    Returns:
        float32 points (examples, 2), and int32 classes 0 and 1, (examples,).

    Source: scikit-learn's `make_moons`.

    >>> x, y = make_moons(6, noise=0.0)
    >>> x.shape, sorted(y.tolist())
    ((6, 2), [0, 0, 0, 1, 1, 1])
    """
    random = np.random.default_rng(seed)
    first = examples // 2
    angles = np.concatenate([np.linspace(0, np.pi, first), np.linspace(0, np.pi, examples - first)])
    y = (np.arange(examples) >= first).astype(np.int32)
    sign = 1 - 2 * y
    x = np.stack([np.cos(angles) * sign + y, np.sin(angles) * sign + 0.5 * y], 1)
    order = random.permutation(examples)
    x = x[order] + noise * random.normal(size=x.shape)
    return x.astype(np.float32), y[order]


def make_blobs(
    examples: int = 100, centers: int | Any = 3, features: int = 2, std: float = 1.0, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Normally distributed clouds around centers, one a class.

    Args:
        examples: how many in all, spread evenly over the classes.
        centers: their number, drawn from [-10, 10]; or their coordinates, (classes, features).
        features: coordinates of a point, where centers are drawn.
        std: standard deviation of each coordinate around its center.
        seed: of centers, points and order.

    Returns:
        float32 points (examples, features), and int32 classes, (examples,).

    Source: scikit-learn's `make_blobs`.

    >>> x, y = make_blobs(9, centers=3, features=4)
    >>> x.shape, np.bincount(y).tolist()
    ((9, 4), [3, 3, 3])
    """
    random = np.random.default_rng(seed)
    places = random.uniform(-10, 10, (centers, features)) if isinstance(centers, int) else np.asarray(centers)
    y = (np.arange(examples) % len(places)).astype(np.int32)[random.permutation(examples)]
    x = places[y] + std * random.normal(size=(examples, places.shape[1]))
    return x.astype(np.float32), y
