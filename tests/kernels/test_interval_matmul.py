"""The interval matrix product: containment over exact rationals, equality of the forms, lowering, refusals."""

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from axiom_jax._errors import BackendUnavailable, ShapeError
from axiom_jax.kernels.interval_matmul import RUNS_ON, interval_matmul, pallas, reference, triton

FORMS: dict[str, Callable[..., Any]] = {
    "reference": reference.interval_matmul,
    "reference, jitted": jax.jit(reference.interval_matmul),
    "pallas": jax.jit(lambda *xs: pallas.interval_matmul(*xs, interpret=True)),
    "triton": jax.jit(lambda *xs: triton.interval_matmul(*xs, interpret=True, blocks=(16, 16, 16))),
}
if jax.default_backend() == "gpu":
    FORMS["triton, compiled"] = jax.jit(triton.interval_matmul)
LARGEST = float(np.finfo(np.float32).max)


def exact_ends(lo: Any, hi: Any, w: Any, w_hi: Any = None) -> tuple[list[list[Fraction]], list[list[Fraction]]]:
    """The exact hull, entry by entry, in rationals."""
    a, b, c = (np.vectorize(Fraction, otypes=[object])(x.astype(float)) for x in (lo, hi, w))
    d = c if w_hi is None else np.vectorize(Fraction, otypes=[object])(w_hi.astype(float))
    corners = [[[(x * y) for x in (a[i], b[i]) for y in (c[:, j], d[:, j])] for j in range(c.shape[1])]
               for i in range(a.shape[0])]  # fmt: skip
    lower = [[sum(np.min(terms, axis=0), Fraction(0)) for terms in row] for row in corners]
    upper = [[sum(np.max(terms, axis=0), Fraction(0)) for terms in row] for row in corners]
    return lower, upper


def contains(result: Any, exact: Any) -> bool:
    """Whether computed ends enclose the exact ones; infinite ends enclose everything, NaN nothing."""
    lower, upper = (np.asarray(end, float) for end in result)
    return all(
        lower[i, j] <= exact[0][i][j] and exact[1][i][j] <= upper[i, j]
        for i in range(lower.shape[0])
        for j in range(lower.shape[1])
    )


def ends(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return np.minimum(x, y), np.maximum(x, y)


def family(name: str, rng: np.random.Generator, m: int, k: int, n: int) -> list[np.ndarray]:
    """Boxes and weights of one difficult kind: float32 lo, hi, w, w_hi."""
    x, y, v, w = (rng.standard_normal(shape) for shape in ((m, k), (m, k), (k, n), (k, n)))
    if name == "wide":
        x, y = x * 10.0 ** rng.integers(-30, 30, (m, k)), y * 10.0 ** rng.integers(-30, 30, (m, k))
    elif name == "cancelling":  # the exact product is far below the sum of magnitudes
        x[:, k // 2 :], v[k // 2 :] = x[:, : k - k // 2], -v[: k - k // 2]
        y, w = x * (1 + 1e-7), v * (1 + 1e-7)
    elif name == "degenerate":
        y, w = x, v
    elif name == "subnormal":
        x, y, v, w = x * 1e-40, y * 1e-42, v * 1e-39, w
    elif name == "subnormal times huge":
        x, y, v, w = x * 1e38, y * 1e38, v * 1e-39, w * 1e-39
    elif name == "huge times subnormal":
        x, y, v, w = x * 1e-39, y * 1e-39, v * 1e38, w * 1e38
    elif name == "underflowing products":
        x, y, v, w = x * 1e-20, y * 1e-20, v * 1e-20, w * 1e-20
    elif name == "huge":
        x, y, v, w = x * 1e38, y * 1e38, v * 0.1, w * 0.1
    elif name == "overflowing":
        x, y, v, w = x * 1e38, y * 1e38, v * 100, w * 100
    with np.errstate(over="ignore", under="ignore"):
        clipped = [np.clip(z, -LARGEST, LARGEST).astype(np.float32) for z in (x, y, v, w)]
    return [*ends(*clipped[:2]), *ends(*clipped[2:])]


FAMILIES = ("ordinary", "wide", "cancelling", "degenerate", "subnormal", "subnormal times huge",
            "huge times subnormal", "underflowing products", "huge", "overflowing")  # fmt: skip


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("right", ["known", "interval"])
def test_contains_the_exact_product(name: str, form: str, right: str) -> None:
    for seed in range(4):
        operands = family(name, np.random.default_rng(seed), 2, 20, 3)[: 3 if right == "known" else 4]
        assert contains(FORMS[form](*operands), exact_ends(*operands)), seed


float32 = st.floats(width=32, allow_nan=False, allow_infinity=False)


@given(st.lists(st.tuples(*[float32] * 4), min_size=12, max_size=12))
@settings(max_examples=60, deadline=None, derandomize=True)
def test_contains_the_exact_product_of_any_floats(rows: list[tuple[float, ...]]) -> None:
    x, y, v, w = np.asarray(rows, np.float32).T.reshape(4, 12)
    lo, hi = (end.reshape(3, 4) for end in ends(x, y))
    w, w_hi = (end.reshape(4, 3) for end in ends(v, w))
    for operands in ((lo, hi, w), (lo, hi, w, w_hi), (lo, lo, w)):
        assert contains(FORMS["reference, jitted"](*operands), exact_ends(*operands))


def test_containment_can_fail() -> None:
    """The plain float32 product does not pass the test above: it is the widening that does."""
    lo, _, w, _ = family("cancelling", np.random.default_rng(0), 3, 24, 4)
    point = np.asarray(jnp.dot(lo, w, precision="highest"))
    assert not contains((point, point), exact_ends(lo, lo, w))


def test_is_tight() -> None:
    """No wider than the hull by more than a few times the rounding that was charged."""
    lo, hi, w, _ = family("ordinary", np.random.default_rng(0), 8, 50, 6)
    lower, upper = (np.asarray(end, float) for end in reference.interval_matmul(lo, hi, w))
    hull = (lo @ np.maximum(w, 0.0).astype(float) + hi @ np.minimum(w, 0.0).astype(float),
            hi @ np.maximum(w, 0.0).astype(float) + lo @ np.minimum(w, 0.0).astype(float))  # fmt: skip
    slack = 3 * reference.growth(50) * (np.maximum(abs(lo), abs(hi)).astype(float) @ abs(w))
    assert (hull[0] - lower <= slack).all() and (upper - hull[1] <= slack).all()


TILED = {
    "pallas": jax.jit(lambda *xs: pallas.interval_matmul(*xs, blocks=(16, 128, 128), interpret=True)),
    "triton": jax.jit(lambda *xs: triton.interval_matmul(*xs, blocks=(16, 32, 16), interpret=True)),
}
SHAPES = st.sampled_from([(1, 1, 1), (17, 129, 130), (9, 300, 5)])  # within and past the tiles


@pytest.mark.slow
@pytest.mark.parametrize("form", TILED)
@given(shape=SHAPES, known=st.booleans(), name=st.sampled_from(["ordinary", "cancelling"]), seed=st.integers(0, 999))
@settings(max_examples=20, deadline=None, derandomize=True)
def test_tiles_equal_the_reference(form: str, shape: tuple[int, int, int], known: bool, name: str, seed: int) -> None:
    operands = family(name, np.random.default_rng(seed), *shape)[: 3 if known else 4]
    magnitude = np.maximum(*map(abs, operands[:2])) @ np.maximum(*map(abs, (operands[2], operands[-1])))
    for ours, theirs in zip(TILED[form](*operands), FORMS["reference, jitted"](*operands), strict=True):
        assert ours.shape == theirs.shape
        # two orders of the same sums differ by at most two of the bounds that widen them
        assert (abs(np.asarray(ours) - np.asarray(theirs)) <= 4 * reference.growth(shape[1]) * magnitude).all()


@pytest.mark.parametrize("form", FORMS)
def test_unbounded_and_nan_operands_give_everything(form: str) -> None:
    lo = np.asarray([[-np.inf, 0], [np.nan, 0], [0, 3e38], [1, 1]], np.float32)
    hi = np.asarray([[1, 1], [1, 1], [np.inf, 3e38], [1, 1]], np.float32)
    lower, upper = map(np.asarray, FORMS[form](lo, hi, np.asarray([[1, 0], [2, 1]], np.float32)))
    assert (lower[:3, 0] == -np.inf).all() and (upper[:3, 0] == np.inf).all()
    assert not np.isnan([lower, upper]).any()
    assert lower[3, 0] <= 3 <= upper[3, 0] < 3.001 and lower[3, 1] <= 1 <= upper[3, 1] < 1.001


@pytest.mark.parametrize("form", FORMS)
def test_a_point_near_the_largest_float_stays_finite(form: str) -> None:
    x = np.asarray([[3e38]], np.float32)
    lower, upper = map(np.asarray, FORMS[form](x, x, np.asarray([[1.0]], np.float32)))
    assert 2.99e38 < lower <= x <= upper < 3.01e38


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("shape", [(0, 3, 2), (2, 0, 3), (2, 3, 0)])
def test_empty_operands(form: str, shape: tuple[int, int, int]) -> None:
    m, k, n = shape
    lower, upper = FORMS[form](jnp.ones((m, k)), jnp.ones((m, k)), jnp.ones((k, n)))
    assert lower.shape == upper.shape == (m, n) and not lower.any() and not upper.any()


def test_batches_by_vmap() -> None:
    lo, hi, w, _ = family("ordinary", np.random.default_rng(3), 6, 20, 4)
    stacked = lo.reshape(2, 3, 20), hi.reshape(2, 3, 20)
    for form in ("reference", "pallas", "triton"):
        lower, upper = jax.vmap(FORMS[form], (0, 0, None))(*stacked, w)
        assert contains((lower.reshape(6, 4), upper.reshape(6, 4)), exact_ends(lo, hi, w))


SPECS = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in ((300, 700), (300, 700), (700, 130), (700, 130))]


@pytest.mark.parametrize("operands", [3, 4])
def test_lowers_for_tpu(operands: int) -> None:
    exported = jax.export.export(jax.jit(pallas.interval_matmul), platforms=["tpu"])(*SPECS[:operands])
    assert exported.mlir_module().count("tpu_custom_call") == 1


@pytest.mark.filterwarnings("ignore:The Pallas Triton backend is deprecated:DeprecationWarning")  # from jax 0.12
@pytest.mark.parametrize("operands", [3, 4])
@pytest.mark.parametrize("platform", ["cuda", "rocm"])
def test_lowers_for_gpu(platform: str, operands: int) -> None:
    call = "__gpu$xla.gpu.triton"
    device = jax.sharding.AbstractDevice(device_kind="NVIDIA H100 80GB HBM3", num_cores=None, platform="gpu")
    mesh = jax.sharding.AbstractMesh((1,), ("x",), (jax.sharding.AxisType.Explicit,), abstract_device=device)
    allow = [jax.export.DisabledSafetyCheck.custom_call(call)]  # its format may change between jax releases
    with jax.sharding.use_abstract_mesh(mesh):
        exported = jax.export.export(jax.jit(triton.interval_matmul), platforms=[platform], disabled_checks=allow)
        assert exported(*SPECS[:operands]).mlir_module().count(call) == 1


def test_selection() -> None:
    lo, hi, w, w_hi = family("ordinary", np.random.default_rng(1), 2, 3, 4)
    expected = reference.interval_matmul(lo, hi, w, w_hi)
    for name in (None, "reference"):
        assert all(map(np.array_equal, interval_matmul(lo, hi, w, w_hi, implementation=name), expected))
    for name in {*RUNS_ON, "cutlass"} - {"reference"} - {n for n, on in RUNS_ON.items() if jax.default_backend() in on}:
        with pytest.raises(BackendUnavailable):
            interval_matmul(lo, hi, w, implementation=name)


BAD = {
    "float64, which rounding could move inward": (np.zeros((2, 3)), (2, 3), (3, 4)),
    "integers": ((2, 3), (2, 3), np.zeros((3, 4), np.int32)),
    "a batch of matrices": ((1, 2, 3), (1, 2, 3), (3, 4)),
    "lo and hi differ": ((2, 3), (2, 4), (3, 4)),
    "inner sizes differ": ((2, 3), (2, 3), (4, 4)),
    "ends of the right operand differ": ((2, 3), (2, 3), (3, 4), (3, 5)),
    "too many terms for the bound": ((1, 2**20), (1, 2**20), (2**20, 1)),
}


@pytest.mark.parametrize("operands", BAD.values(), ids=BAD)
@pytest.mark.parametrize("form", [reference, pallas, triton])
def test_refuses_operands_that_do_not_fit(form: Any, operands: tuple[Any, ...]) -> None:
    arrays = [x if isinstance(x, np.ndarray) else np.zeros(x, np.float32) for x in operands]
    with pytest.raises(ShapeError) as caught:
        form.interval_matmul(*arrays)
    assert caught.value.got and caught.value.fix


def test_wording() -> None:
    ones = np.ones((2, 3), np.float32)
    with pytest.raises(ShapeError) as caught:
        interval_matmul(ones, ones, ones)
    assert str(caught.value) == (
        "interval_matmul takes float32[m, k] and float32[k, n].\n"
        "  got  float32[2, 3], float32[2, 3], float32[2, 3]\n"
        "  fix  give lo and hi of shape (m, 2) to a right operand of shape (2, 3)"
    )
