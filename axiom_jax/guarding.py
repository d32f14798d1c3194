"""`ax.ensure`: conditions inside a model that hold, or are said not to, with the row and the value.

They work under `jit`, `vmap`, `grad` and `scan`. What becomes of a broken one is the policy, `ax.guards`.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from axiom_jax._errors import AxiomError, ShapeError
from axiom_jax._model_guards import Guard, collector, inside, recalled, report
from axiom_jax._shapes_places import caller
from axiom_jax._trace import guard_policy

Policy = Literal["raise", "warn", "mask", "off"]


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False)
class Condition:
    """A condition on each row of an array, with what was measured there; usable as an array of bools.

    Args:
        holds: (rows,) or () bools.
        value: what was measured, of the same shape.
        text: what it demands: "finite".
    """

    holds: Any
    value: Any
    text: str = field(metadata={"static": True})

    def __and__(self, other: Any) -> "Condition":
        other = condition_of(other)
        value = jnp.where(self.holds, other.value, self.value)
        return Condition(self.holds & other.holds, value, f"{self.text} and {other.text}")

    def __or__(self, other: Any) -> "Condition":
        other = condition_of(other)
        return Condition(self.holds | other.holds, self.value, f"{self.text} or {other.text}")

    def __invert__(self) -> "Condition":
        return Condition(~self.holds, self.value, f"not ({self.text})")

    def __bool__(self) -> bool:
        return bool(jnp.all(self.holds))

    def __jax_array__(self) -> Any:
        return self.holds


def condition_of(thing: Any) -> Condition:
    """A boolean expression as a condition, one a row: all axes but the first are taken together."""
    if isinstance(thing, Condition):
        return thing
    if not hasattr(thing, "dtype") and not isinstance(thing, bool):
        raise AxiomError("A guard takes a boolean expression.", at=caller(), got=f"a {type(thing).__name__}",
                         fix="ax.ensure(jnp.all(x > 0)), or ax.ensure(ax.finite(x))")  # fmt: skip
    holds = jnp.asarray(thing)
    if holds.dtype != bool:
        raise AxiomError("A guard takes a boolean expression.", at=caller(), got=f"an array of {holds.dtype}",
                         fix="compare it: ax.ensure(x > 0)")  # fmt: skip
    holds = by_row(holds, jnp.all)
    return Condition(holds, holds, "the condition")


def by_row(x: Any, reduce: Callable[..., Any]) -> Any:
    """One value a row; a vector has one a component, a number one."""
    return reduce(x, axis=tuple(range(1, x.ndim))) if x.ndim > 1 else x


def ensure(condition: Any, message: str | None = None) -> None:
    """Demand a condition here, in a model or in any function of JAX.

    Inside a model the condition travels with the output, and costs next to nothing while it holds. It works
    under jit, vmap, grad, scan and remat. Under an outer `jax.jit` JAX raises an error of its own that carries the
    message; inside `with ax.guards("raise"):` it becomes the `EnsureViolation` again.

    Args:
        condition: a bool, an array of bools with one a row, or a condition such as `ax.finite(x)`.
        message: what is demanded, for the report.

    Raises:
        EnsureViolation: it does not hold: which row, which value, which line. Under other policies nothing is raised.

    >>> ensure(jnp.array([1.0, -2.0]) > 0, "positive")
    Traceback (most recent call last):
    ...
    axiom_jax.EnsureViolation: A guarded condition does not hold: positive.
    ...
    """
    policy = guard_policy.value
    if policy == "off":
        return
    asked = condition_of(condition)
    guard = Guard(message or asked.text, caller())
    if (found := collector()) is not None:
        found.met.append((guard, asked.holds, asked.value))
    elif isinstance(asked.holds, Tracer) or isinstance(asked.value, Tracer):
        inside(guard, asked.holds, asked.value)
    else:
        report((guard,), policy, asked.holds, asked.value)


class guards:
    """What becomes of broken conditions, from here on or inside a `with` block.

    Args:
        policy: "raise" an `EnsureViolation` (the default), "warn", "mask" the rows of a model's output with NaN, or
            "off": conditions are not even computed. Compiled functions compile anew when it changes.

    >>> with guards("off"):
    ...     ensure(False)
    """

    def __init__(self, policy: Policy) -> None:
        if policy not in ("raise", "warn", "mask", "off"):
            raise AxiomError("There is no such policy.", at=caller(), got=repr(policy),
                             fix='take "raise", "warn", "mask" or "off"')  # fmt: skip
        self.policy, self.before = policy, guard_policy.get_global()
        guard_policy.set_global(policy)

    def __enter__(self) -> "guards":
        guard_policy.set_global(self.before)  # a block is for this thread alone
        self.block = guard_policy(self.policy)
        self.block.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.block.__exit__(kind, error, trace)
        if error is not None and not isinstance(error, AxiomError) and (found := recalled(error)) is not None:
            raise found from None


def finite(x: Any) -> Condition:
    """No NaN and no infinity.

    Args:
        x: floats; a row is everything behind the first axis.

    >>> ensure(finite(jnp.ones((2, 3))))
    """
    return _every(jnp.isfinite(x), x, "finite")


def no_nan(x: Any) -> Condition:
    """No NaN; rows as in `finite`."""
    return _every(~jnp.isnan(x), x, "no NaN")


def no_inf(x: Any) -> Condition:
    """No infinity; rows as in `finite`. NaN passes: that is `no_nan`."""
    return _every(~jnp.isinf(x), x, "no infinity")


def bounded(x: Any, low: Any, high: Any) -> Condition:
    """`low <= x <= high` for every component; NaN is not bounded.

    >>> bool(bounded(jnp.array([0.0, 2.0]), 0, 1))
    False
    """
    return _every((low <= x) & (x <= high), x, f"between {low} and {high}")


def approx(a: Any, b: Any, rtol: float = 1e-5, atol: float = 1e-6) -> Condition:
    """`|a - b| <= atol + rtol |b|` for every component, as `numpy.isclose`; the value is the greatest difference.

    Raises:
        ShapeError: the shapes do not broadcast.
    """
    try:
        jnp.broadcast_shapes(jnp.shape(a), jnp.shape(b))
    except (TypeError, ValueError) as error:
        raise ShapeError("Arrays of these shapes cannot be compared.", at=caller(),
                         got=f"{jnp.shape(a)} and {jnp.shape(b)}",
                         fix="give arrays of one shape: ax.approx(a, b)") from error  # fmt: skip
    return _every(jnp.isclose(a, b, rtol=rtol, atol=atol), jnp.abs(a - b), "approximately equal")


def valid_probabilities(p: Any, atol: float = 1e-5) -> Condition:
    """Each distribution along the last axis has entries in [0, 1] that sum to 1, up to `atol`; the value is the sum.

    >>> ensure(valid_probabilities(jax.nn.softmax(jnp.ones((2, 3)))))
    """
    total = p.sum(-1)
    good = ((p >= -atol) & (p <= 1 + atol)).all(-1) & (jnp.abs(total - 1) <= atol)
    return _every(good, total, "valid probabilities")


def normalized(x: Any, order: Any = 2, atol: float = 1e-5) -> Condition:
    """Every vector along the last axis has norm 1, up to `atol`; the value is the norm."""
    norm = jnp.linalg.norm(x, ord=order, axis=-1)
    return _every(jnp.abs(norm - 1) <= atol, norm, f"norm {order} is 1")


def confidence(p: Any, threshold: float = 0.5) -> Condition:
    """The greatest entry along the last axis is at least `threshold`; the value is that entry."""
    greatest = p.max(-1)
    return _every(greatest >= threshold, greatest, f"confidence of at least {threshold}")


def monotone_in(fn: Callable[[Any], Any], x: Any, feature: int, increasing: bool = True) -> Condition:
    """No output of `fn` falls (or rises) with a feature, at each row of x: the sign of its derivative.

    Args:
        fn: from (rows, features) to (rows, ...), row by row.
        feature: index on the last axis.
    """
    direction = jnp.zeros_like(x).at[..., feature].set(1)
    slope = jax.jvp(fn, (x,), (direction,))[1] * (1 if increasing else -1)
    return _every(slope >= 0, slope, f"{'increasing' if increasing else 'decreasing'} in feature {feature}")


def gradient_bounded(fn: Callable[[Any], Any], x: Any, bound: float) -> Condition:
    """The gradient of every output of `fn` with respect to its row has Euclidean norm at most `bound`.

    Args:
        fn: from (rows, ...) to (rows, ...), row by row.
    """
    rows = jax.vmap(jax.jacrev(lambda row: jnp.ravel(fn(row[None])[0])))(x)
    norms = jnp.linalg.norm(rows.reshape(*rows.shape[:2], -1), axis=-1)
    return _every(norms <= bound, norms, f"gradients of norm at most {bound}")


def shape_is(x: Any, *sizes: int | str) -> Condition:
    """x has these sizes; a name stands for any size, the same wherever it stands. Decided while tracing.

    >>> bool(shape_is(jnp.ones((2, 3, 2)), "n", 3, "n"))
    True
    """
    known: dict[str, Any] = {}
    good = len(x.shape) == len(sizes) and all(
        known.setdefault(want, have) == have if isinstance(want, str) else want == have
        for want, have in zip(sizes, x.shape, strict=True)
    )
    return Condition(np.asarray(good), np.asarray(good), f"shape {', '.join(map(str, sizes))}")


def _every(good: Any, value: Any, text: str) -> Condition:
    """Holds for a row if for all in it; its value is the first that is not good."""
    good, value = jnp.asarray(good), jnp.broadcast_to(value, jnp.shape(good))
    if good.ndim > 1:
        flat = good.reshape(good.shape[0], -1)
        if flat.shape[1]:
            first = jnp.argmin(flat, axis=1)[:, None]
            value = jnp.take_along_axis(value.reshape(flat.shape), first, axis=1)[:, 0]
        else:
            value = jnp.zeros(good.shape[0], value.dtype)
        good = flat.all(1)
    return Condition(good, value, text)
