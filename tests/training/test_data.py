"""Loaders give every example once an epoch, in an order that a position tells, and go on where they stood."""

import threading
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import axiom_jax as ax
from axiom_jax import nn
from axiom_jax._errors import AxiomError

SIZES = {"examples": st.integers(1, 40), "size": st.integers(1, 12), "prefetch": st.sampled_from([0, 3])}


def order(batches: object) -> list[int]:
    return [int(i) for batch in batches for i in batch]  # pyright: ignore[reportGeneralTypeIssues]


@given(**SIZES, shuffle=st.booleans(), seed=st.integers(0, 99))
def test_every_example_comes_once_an_epoch(examples: int, size: int, prefetch: int, shuffle: bool, seed: int) -> None:
    loader = ax.DataLoader(np.arange(examples), size, shuffle=shuffle, seed=seed, prefetch=prefetch)
    first, second = list(loader), list(loader)
    assert len(first) == len(loader) == -(-examples // size)
    assert sorted(order(first)) == sorted(order(second)) == list(range(examples))
    again = ax.DataLoader(np.arange(examples), size, shuffle=shuffle, seed=seed)
    assert [order(again), order(again)] == [order(first), order(second)]
    if not shuffle:
        assert order(first) == list(range(examples))


@given(**SIZES, drop=st.booleans(), taken=st.integers(0, 20), seed=st.integers(0, 99))
def test_state_goes_on_where_it_stood(
    examples: int, size: int, prefetch: int, drop: bool, taken: int, seed: int
) -> None:
    if drop and examples < size:
        return
    settings = {"shuffle": True, "seed": seed, "drop_last": drop, "prefetch": prefetch}
    loader = ax.DataLoader(np.arange(examples), size, **settings)
    passes = [order(loader) for _ in range(3)]
    loader = ax.DataLoader(np.arange(examples), size, **settings)
    next(iter([list(loader)]))
    batches, seen = iter(loader), []
    for _ in range(min(taken, len(loader) - 1)):
        seen += [int(i) for i in next(batches)]
    state = loader.state_dict()
    batches.close()  # pyright: ignore[reportAttributeAccessIssue]
    other = ax.DataLoader(np.arange(examples), size, **settings)
    other.load_state_dict(state)
    assert seen + order(other) == passes[1]
    assert order(other) == passes[2]


def test_orders_differ_between_epochs_and_seeds() -> None:
    loader, other = (ax.DataLoader(np.arange(50), 7, shuffle=True, seed=seed) for seed in (0, 1))
    passes = [order(loader), order(loader), order(other)]
    assert len({tuple(p) for p in passes}) == 3


def test_an_epoch_left_early_is_not_repeated() -> None:
    loader = ax.DataLoader(np.arange(9), 2, shuffle=True)
    epochs = [order(loader.epoch(number)) for number in range(2)]
    next(iter(loader))
    assert order(loader) == epochs[1]


def test_any_tree_of_arrays() -> None:
    x, y = jnp.arange(10.0).reshape(5, 2), list(range(5))
    (batch, *_) = ax.DataLoader({"x": x, "deep": (np.arange(5), np.asarray(y))}, 3)
    assert batch["x"].shape == (3, 2) and batch["deep"][0].tolist() == [0, 1, 2]
    assert isinstance(batch["x"], np.ndarray) and batch["x"].dtype == np.float32


def test_prefetch_ends_with_its_iteration() -> None:
    def threads() -> int:
        return sum(thread.name == "axiom-prefetch" for thread in threading.enumerate())

    loader = ax.DataLoader(np.arange(100), 1, prefetch=2)
    for _ in loader:
        break
    batches = iter(loader)
    next(batches)
    assert threads() == 1
    del batches
    deadline = time.monotonic() + 5
    while threads() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert threads() == 0


def test_errors_of_the_thread_are_ours() -> None:
    class Broken(np.ndarray):
        def __getitem__(self, rows: object) -> object:  # pyright: ignore[reportIncompatibleMethodOverride]
            raise OSError("disk")

    loader = ax.DataLoader(np.arange(4), 2, prefetch=1)
    loader.data = np.arange(4).view(Broken)
    with pytest.raises(OSError, match="disk"):
        list(loader)


@pytest.mark.parametrize(
    ("data", "settings", "message"),
    [
        ((), {}, "must have one length"),
        ((np.zeros(3), np.zeros(4)), {}, "must have one length"),
        (np.zeros(3), {"batch_size": 0}, "make no batches"),
        (np.zeros(3), {"drop_last": True}, "make no batches"),
        (np.zeros(0), {}, "make no batches"),
        (np.zeros(3), {"seed": -1}, "make no batches"),
        (("a", "b"), {}, "first axis counts examples"),
    ],
)
def test_bad_loaders_are_refused(data: object, settings: dict, message: str) -> None:
    with pytest.raises(AxiomError, match=message):
        ax.DataLoader(data, **settings)


def test_foreign_states_are_refused() -> None:
    loader = ax.DataLoader(np.arange(4), 2, seed=1)
    for state in ({"epoch": 0, "position": 0, "seed": 2}, {"epoch": 0}):
        with pytest.raises(AxiomError, match="not of this loader"):
            loader.load_state_dict(state)


@given(n=st.integers(2, 60), size=st.floats(0.05, 0.95), seed=st.integers(0, 99), classes=st.integers(1, 4))
def test_split_parts_are_disjoint_and_whole(n: int, size: float, seed: int, classes: int) -> None:
    if np.ceil(n * size) == n:
        return
    x, y = np.arange(n), np.arange(n) % classes
    for stratify in (None, y):
        a, b, ya, yb = ax.train_test_split(x, y, test_size=size, seed=seed, stratify=stratify)
        assert sorted([*a, *b]) == list(range(n)) and len(b) == np.ceil(n * size)
        assert (ya == a % classes).all() and (yb == b % classes).all()
    shares = np.bincount(yb, minlength=classes) - np.bincount(y, minlength=classes) * len(b) / n
    assert np.abs(shares).max() < 1


def test_split_without_shuffle_takes_the_end() -> None:
    a, b = ax.train_test_split(np.arange(10), test_size=0.3, shuffle=False)
    assert a.tolist() == list(range(7)) and b.tolist() == [7, 8, 9]
    for wrong in (0.0, 1.0, 0.95):
        with pytest.raises(AxiomError, match="cannot be split"):
            ax.train_test_split(np.arange(10), test_size=wrong)


def test_one_hot_and_normalize() -> None:
    assert ax.one_hot(np.array([[2], [0]])).shape == (2, 1, 3)
    for wrong in ([0.5], [-1], [3]):
        with pytest.raises(AxiomError, match="not labels"):
            ax.one_hot(wrong, 3)
    x = np.random.default_rng(0).normal(3, 5, (200, 4, 4, 2))
    z = ax.normalize(x, axis=(0, 1, 2))
    np.testing.assert_allclose(z.mean((0, 1, 2)), 0, atol=1e-5)
    np.testing.assert_allclose(z.std((0, 1, 2)), 1, atol=1e-5)
    np.testing.assert_allclose(ax.normalize([[4.0]], mean=2.0, std=4.0), [[0.5]])


def test_moons_and_blobs() -> None:
    x, y = ax.make_moons(101, noise=0.0, seed=1)
    assert x.dtype == np.float32 and np.bincount(y).tolist() == [50, 51]
    centers = np.where(y[:, None] == 0, [[0.0, 0.0]], [[1.0, 0.5]])
    np.testing.assert_allclose(np.linalg.norm(x - centers, axis=1), 1, atol=1e-6)  # half circles
    assert (((x - centers)[:, 1] >= -1e-6) == (y == 0)).mean() > 0.95
    places = [[0, 0], [50, 0], [0, 50]]
    x, y = ax.make_blobs(300, centers=places, std=1.0)
    assert (np.linalg.norm(x[:, None] - np.asarray(places), axis=2).argmin(1) == y).all()
    assert 0.8 < (x - np.asarray(places)[y]).std() < 1.2


def test_batches_of_pytorch_train_as_those_of_numpy() -> None:
    torch = pytest.importorskip("torch", reason="feeds PyTorch's tensors")
    x, y = ax.make_moons(32)
    model = ax.Sequential(nn.Dense(2, 4), nn.relu, nn.Dense(4, 2))

    def trained(data: object, **settings: object) -> list[bytes]:
        found = ax.train(model, data, epochs=2, progress=False, validation=data, **settings)
        return [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(found.model.params)]

    pairs = [(x[i : i + 8], y[i : i + 8]) for i in range(0, 32, 8)]
    tensors = torch.tensor(np.asarray(x)), torch.tensor(np.asarray(y))
    expected = trained(pairs)
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(*tensors), batch_size=8)
    assert trained(loader) == expected
    assert trained([{"x": a, "y": b} for a, b in loader]) == expected
    assert trained([(a.clone().requires_grad_(), b) for a, b in loader]) == expected
    whole = tensors[0].clone().requires_grad_(), tensors[1]
    assert trained(whole, batch_size=8) == trained((np.asarray(x), np.asarray(y)), batch_size=8)
    for wrong in (tensors[0].bfloat16(), tensors[0].to_sparse()):
        with pytest.raises(AxiomError, match="This tensor of PyTorch is no array") as caught:
            trained([(wrong, tensors[1])])
        assert caught.value.at and str(wrong.dtype) in str(caught.value.got) and caught.value.fix
