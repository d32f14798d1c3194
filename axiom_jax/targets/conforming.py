"""`ax.conformance`: one test for every backend, on small nets of the usual kinds, against float64.

What is measured is told with what was allowed. Subnormal numbers may be kept or flushed to zero; which of the two is
reported. Everything else is passed or failed.
"""

import contextlib
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np

from axiom_jax._errors import AxiomError
from axiom_jax._shapes_places import caller
from axiom_jax.targets import tables
from axiom_jax.targets.choosing import host
from axiom_jax.targets.compiling import Compiled, compile

RELATIVE = 1e-5  # of the largest output in float64: how far a float32 result may be off
WIDENED = 1e-5  # of the largest bound: by how much certified bounds are widened, for float32 execution
RADIUS = 0.002  # of the boxes whose bounds have to contain the outputs
BATCHES = (1, 3, 16)  # no others are used, since some backends compile for each
SUBNORMAL = 1e-39
EPSILON = float(np.finfo(np.float32).eps)
HEADINGS = ("net", "check", "result", "measured", "allowed")


@dataclass(frozen=True)
class Check:
    """One thing that was looked at.

    Args:
        passed: None where either answer is allowed and it is only reported.
        measured, allowed: in words.
    """

    net: str
    check: str
    passed: bool | None
    measured: str
    allowed: str


@dataclass(frozen=True, repr=False)
class Conformance:
    """What a backend was found to do; true where it passed."""

    backend: str
    record: dict[str, Any]
    checks: tuple[Check, ...]

    @property
    def passed(self) -> bool:
        """Whether nothing failed."""
        return all(check.passed is not False for check in self.checks)

    def __bool__(self) -> bool:
        return self.passed

    def __iter__(self) -> Iterator[Check]:
        return iter(self.checks)

    def to_dict(self) -> dict[str, Any]:
        return {"backend": self.backend, "passed": self.passed, "record": self.record,
                "checks": [asdict(check) for check in self.checks]}  # fmt: skip

    @property
    def cells(self) -> list[list[str]]:
        word = {True: "passed", False: "FAILED", None: "noted"}
        return [[c.net, c.check, word[c.passed], c.measured, c.allowed] for c in self.checks]

    @property
    def title(self) -> str:
        known = [key for key in ("version", "device", "precision") if key in self.record]
        about = ", ".join(f"{key} {self.record[key]}" for key in known)
        return f"{self.backend} ({about}): {'passed' if self.passed else 'failed'}"

    def __str__(self) -> str:
        return f"{self.title}\n{tables.plain(HEADINGS, self.cells)}"

    __repr__ = __str__

    def __rich__(self) -> Any:
        return tables.rich(self.title, HEADINGS, self.cells)

    def _repr_html_(self) -> str:
        return tables.html(self.title, HEADINGS, self.cells)


def _mlp() -> Any:
    import axiom_jax.nn as nn
    from axiom_jax.model import Sequential

    return Sequential(nn.Dense(12, 16), nn.relu, nn.Dense(16, 8), nn.tanh, nn.Dense(8, 4), seed=1, name="mlp")


def _cnn() -> Any:
    import axiom_jax.nn as nn
    from axiom_jax.model import Sequential

    layers = (nn.Conv(2, 4, (3, 3)), nn.relu, nn.MaxPool((2, 2)), nn.Conv(4, 4, (3, 3), padding="VALID"), nn.relu)
    return Sequential(*layers, nn.Flatten(), nn.Dense(16, 3), input_shape=(8, 8, 2), seed=2, name="cnn")


def _softmax() -> Any:
    import axiom_jax.nn as nn
    from axiom_jax.model import Sequential

    return Sequential(nn.Dense(6, 5), nn.sigmoid, nn.Dense(5, 4), nn.softmax, seed=3, name="softmax")


def _layernorm() -> Any:
    import axiom_jax.nn as nn
    from axiom_jax.model import Sequential

    return Sequential(nn.Dense(6, 8), nn.LayerNorm(8), nn.gelu, nn.Dense(8, 3), seed=4, name="layernorm")


def _attention() -> Any:
    import axiom_jax.nn as nn
    from axiom_jax.model import Sequential

    return Sequential(nn.MultiHeadAttention(2, 8), nn.Dense(8, 4), input_shape=(5, 8), seed=5, name="attention")


def _comparisons() -> Any:
    """Maxima and minima of every kind: the operations that some runtimes drop NaN in."""
    import jax
    import jax.numpy as jnp

    from axiom_jax.model import Model, Signature

    def apply(params: Any, x: Any) -> Any:
        pooled = jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, 2), (1, 2), "VALID")
        parts = [jax.nn.relu(x), jnp.maximum(x, params), jnp.minimum(x, params), jnp.clip(x, -0.5, 0.5), pooled,
                 jnp.max(x, -1, keepdims=True), jnp.min(x, -1, keepdims=True), jax.nn.leaky_relu(x)]  # fmt: skip
        return jnp.concatenate(parts, -1)

    signature = Signature((("x", ("batch", 4), "float32"),))
    return Model(apply, np.linspace(-0.5, 0.5, 4, dtype=np.float32), signature, "comparisons")


NETS: dict[str, Callable[[], Any]] = {
    "mlp": _mlp, "cnn": _cnn, "softmax": _softmax, "layernorm": _layernorm, "attention": _attention,
    "comparisons": _comparisons,
}  # fmt: skip


def conformance(backend: str = "xla", nets: Sequence[str] | None = None) -> Conformance:
    """Hold a backend to the test that all have to pass.

    Args:
        backend: a name that `ax.backends()` lists.
        nets: names of the nets to run, of `mlp, cnn, softmax, layernorm, attention, comparisons`; all if not given.

    Returns:
        Every check with what was measured and what was allowed: outputs against float64 for several batch sizes, the
        same bits twice, NaN and infinities where float64 has them and nowhere else, certified interval bounds that
        contain the outputs, and whether subnormal numbers are kept.

    Raises:
        BackendUnavailable: it cannot run here.

    >>> conformance("xla", nets=["mlp"]).passed
    True
    """
    if unknown := [name for name in nets or () if name not in NETS]:
        raise AxiomError("There is no such net.", at=caller(), got=unknown[0], fix=f"use {', '.join(NETS)}")
    checks: list[Check] = []
    record: dict[str, Any] = {}
    handle = compile(_scaled(), backend)
    try:
        checks += _arithmetic(handle)
        record = handle.record
    finally:
        handle.close()
    for name in NETS if nets is None else nets:
        model = NETS[name]()
        try:
            handle = compile(model, backend)
        except AxiomError as error:
            checks.append(Check(name, "compiles", False, f"{error.what} {error.got or ''}".strip(), "no error"))
            continue
        try:
            checks += _checked(name, model, handle)
        except AxiomError as error:
            checks.append(Check(name, "runs", False, f"{error.what} {error.got or ''}".strip(), "no error"))
        finally:
            handle.close()
    return Conformance(backend, record, tuple(checks))


def _scaled() -> Any:
    from axiom_jax.model import Model, Signature

    inputs = (("x", ("batch", 4), "float32"),)
    return Model(lambda params, x: params * x, np.full(4, 0.5, np.float32), Signature(inputs), "scaled")


def _arithmetic(handle: Compiled) -> list[Check]:
    """Halving is exact in float32, down to subnormal numbers."""
    x = np.array([[1.0, -3.0, 2.0**-126, 1e30], [2 * SUBNORMAL, SUBNORMAL, -SUBNORMAL, 2.0**-126]], np.float32)
    (y,) = host(handle(x))
    small = np.abs(x / 2) < np.finfo(np.float32).tiny
    normal = bool(np.array_equal(y[~small], (x / 2)[~small]))
    kept, flushed = bool(np.array_equal(y[small], (x / 2)[small])), not y[small].any()
    told = "kept" if kept else "flushed to zero" if flushed else "neither kept nor flushed"
    noted = None if kept or flushed else False
    return [Check("scaled", "normal numbers", normal, "exact" if normal else "not exact", "exact"),
            Check("scaled", "subnormal numbers", noted, told, "kept or flushed")]  # fmt: skip


def _checked(name: str, model: Any, handle: Compiled) -> Iterator[Check]:
    shape = tuple(model.signature.inputs[0][1][1:])
    draw = np.random.default_rng(7)
    allowed = f"{RELATIVE:.0e} of the largest"
    batches = [draw.uniform(-1, 1, (batch, *shape)).astype(np.float32) for batch in BATCHES]
    special = {"NaN": np.nan, "+inf": np.inf, "-inf": -np.inf}
    for value in special.values():
        batches.append(draw.uniform(-1, 1, (BATCHES[1], *shape)).astype(np.float32))
        batches[-1][1].flat[0] = value
    expected = in_float64(model, *batches)
    worst, twice = 0.0, True
    for x, wanted in zip(batches[: len(BATCHES)], expected, strict=False):
        y, again = host(handle(x))[0], host(handle(x))[0]
        worst = max(worst, _off(y, wanted))
        twice = twice and y.dtype == again.dtype and y.tobytes() == again.tobytes()
    yield Check(name, f"batches of {', '.join(map(str, BATCHES))}", worst <= RELATIVE, _part(worst), allowed)
    yield Check(name, "the same bits twice", twice, "equal" if twice else "different", "equal")
    for word, x, wanted in zip(special, batches[len(BATCHES) :], expected[len(BATCHES) :], strict=True):
        (y,) = host(handle(x))
        rest = _off(y[[0, 2]], wanted[[0, 2]])
        told = f"{_summary(y[1])}; other rows {_part(rest)}"
        same = _kinds(y) == _kinds(wanted)
        yield Check(name, f"{word} in one row", same and rest <= RELATIVE, told, f"as float64: {_summary(wanted[1])}")
    yield _bounded(name, model, handle, draw.uniform(-1, 1, (1, *shape)).astype(np.float32), draw)


def in_float64(model: Any, *batches: np.ndarray) -> list[np.ndarray]:
    """The model's outputs in float64, computed by JAX one primitive at a time.

    Args:
        *batches: float32, [batch, ...], of one example shape.
    """
    import jax
    import jax.numpy as jnp

    from axiom_jax._program import build

    x = np.concatenate(batches).astype(np.float64)
    with _wide():
        params = jax.tree.map(lambda leaf: jnp.asarray(np.asarray(leaf), jnp.float64), model.params)
        program, values = build(model.apply, params, jax.ShapeDtypeStruct(x.shape, x.dtype))
        # primitive by primitive: compiled as one program, XLA may drop a NaN in float64 on the CPU
        y = np.asarray(program.evaluate(values, jnp.asarray(x))[0])
    return np.split(y, np.cumsum([len(batch) for batch in batches])[:-1])


@contextlib.contextmanager
def _wide() -> Iterator[None]:
    """Float64 on the CPU, whatever the default is."""
    import jax

    with jax.enable_x64(True), jax.default_device(jax.devices("cpu")[0]), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _bounded(name: str, model: Any, handle: Compiled, x: np.ndarray, draw: np.random.Generator) -> Check:
    """Bounds of the whole box, computed in float64, contain what the backend computes at points of it."""
    import jax
    import jax.numpy as jnp

    from axiom_jax._domain import missing
    from axiom_jax._program import build
    from axiom_jax.verification.domains.interval import Interval, bounds, interval
    from axiom_jax.verification.lowering import lower

    with _wide():
        params = jax.tree.map(lambda leaf: jnp.asarray(np.asarray(leaf), jnp.float64), model.params)
        wide = jnp.asarray(x, jnp.float64)
        program, values = build(model.apply, params, jax.ShapeDtypeStruct(wide.shape, wide.dtype))
        low, high = wide - RADIUS, wide + RADIUS
        program = lower(program) if missing(interval, program) else program
        (box,) = jax.jit(partial(bounds, program))(values, Interval(low, high))
        low, high = np.asarray(box.lo), np.asarray(box.hi)
    slack = WIDENED * max(np.abs(low).max(), np.abs(high).max())
    corners = draw.choice([-1.0, 1.0], (32, *x.shape[1:])) * RADIUS
    points = (x + np.concatenate([corners, draw.uniform(-RADIUS, RADIUS, (32, *x.shape[1:]))])).astype(np.float32)
    inner = x - np.float32(RADIUS), x + np.float32(RADIUS)
    points = np.clip(points, np.nextafter(inner[0], np.inf), np.nextafter(inner[1], -np.inf))
    y = np.concatenate([host(handle(part))[0] for part in np.split(points, len(points) // BATCHES[-1])])
    over = float(max((low - y).max(), (y - high).max()))
    told = f"inside by {-over:.1e}" if over <= 0 else f"outside by {over:.1e}"
    allowed = f"outside by at most {slack:.1e}"
    held = bool(np.isfinite(slack) and over <= slack)
    return Check(name, "certified bounds contain 64 points", held, told, allowed)


def _off(y: np.ndarray, expected: np.ndarray) -> float:
    """The largest difference, as a part of the largest expected magnitude; infinite where shape or dtype differ."""
    if y.shape != expected.shape or y.dtype != np.float32 or not np.isfinite(y).all():
        return float("inf")
    return float(np.abs(y - expected).max() / np.abs(expected).max())


def _part(off: float) -> str:
    return f"{off:.1e} of the largest ({off / EPSILON:.1f} ulp)"


def _kinds(y: np.ndarray) -> list[str]:
    return [_kind(value) for value in y.flat]


def _kind(value: Any) -> str:
    return "NaN" if np.isnan(value) else "finite" if np.isfinite(value) else "+inf" if value > 0 else "-inf"


def _summary(y: np.ndarray) -> str:
    kinds = _kinds(y)
    return ", ".join(f"{kinds.count(kind)} {kind}" for kind in dict.fromkeys(kinds))
