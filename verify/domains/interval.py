"""Interval arithmetic: for each value, an elementwise lower and upper bound (IBP).

Differentiable, so that losses can be made of it. Bounds are float32 rounded to nearest:
good for search and training, never a proof by themselves.
Source: Gowal et al. 2018, On the effectiveness of interval bound propagation, arXiv 1810.12715.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial, reduce
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from axiom_jax._domain import Domain, interpret
from axiom_jax._program import Program


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Interval:
    """Arrays `lo` ≤ `hi` of one shape."""

    lo: Any
    hi: Any

    @property
    def shape(self) -> tuple[int, ...]:
        return self.lo.shape


interval = Domain("interval", Interval)


def bounds(program: Program, params: Sequence[Any], *inputs: Interval) -> tuple[Interval, ...]:
    """Interval bounds of a program's outputs.

    Args:
        params: the values of `program.params`.
        *inputs: an interval for each input of the program.

    Raises:
        UnsupportedPrimitive: listing every operation without a rule.

    >>> from axiom_jax._program import build
    >>> program, params = build(lambda w, x: jax.nn.relu(w @ x), jnp.array([[1.0, -1.0]]), jnp.zeros(2))
    >>> box, = bounds(program, params, Interval(-jnp.ones(2), jnp.ones(2)))
    >>> float(box.lo[0]), float(box.hi[0])
    (0.0, 2.0)
    """
    env = interpret(interval, program, params, *inputs)
    return tuple(_as_interval(env[v]) for v in program.outputs)


def _as_interval(value: Any) -> Interval:
    return value if isinstance(value, Interval) else Interval(value, value)


# Definers: most primitives are one line.


def shape_only(name: str) -> None:
    """Elements are moved, repeated or dropped: the rule acts on both ends."""
    monotone(name, 1, guarded=False)


def monotone(name: str, *directions: int, guarded: bool = True) -> None:
    """Increasing (1) or decreasing (-1) in each operand; the last direction stands for the rest.

    Args:
        guarded: whether results may be NaN or too large, as those of arithmetic may.
    """

    def rule(*operands: Any, **params: Any) -> Any:
        signs = [*directions, *[directions[-1]] * (len(operands) - len(directions))]
        ends = [_as_interval(x) for x in operands]
        lows = [e.lo if s > 0 else e.hi for e, s in zip(ends, signs, strict=True)]
        highs = [e.hi if s > 0 else e.lo for e, s in zip(ends, signs, strict=True)]
        lo, hi = _bind(name, *lows, **params), _bind(name, *highs, **params)
        if isinstance(lo, (list, tuple)):
            return tuple(Interval(a, b) for a, b in zip(lo, hi, strict=True))
        return Interval(_no_nan(lo, -jnp.inf), _no_nan(hi, jnp.inf)) if guarded else Interval(lo, hi)

    interval.define(name, rule)


def bilinear(name: str) -> None:
    """Linear in each of two operands, one of them known: |f| of the radius around f of the midpoint."""

    def rule(x: Any, y: Any, **params: Any) -> Interval:
        f = partial(_bind, name, **params)
        if isinstance(x, Interval) and isinstance(y, Interval):
            return _product(f, x, y)
        if isinstance(x, Interval):
            return _centred(lambda v: f(v, y), lambda v: f(v, jnp.abs(y)), x)
        return _centred(lambda v: f(x, v), lambda v: f(jnp.abs(x), v), y)

    interval.define(name, rule)


def _centred(f: Callable[[Any], Any], magnitude: Callable[[Any], Any], x: Interval) -> Interval:
    middle, radius = x.lo / 2 + x.hi / 2, x.hi / 2 - x.lo / 2
    centre, spread = f(middle), magnitude(radius)
    return Interval(_no_nan(centre - spread, -jnp.inf), _no_nan(centre + spread, jnp.inf))


def _product(f: Callable[..., Any], x: Interval, y: Interval) -> Interval:
    """Midpoint-radius product of two intervals; for single numbers the four corners are tighter by at most 1.5."""
    xm, xr, ym, yr = x.lo / 2 + x.hi / 2, x.hi / 2 - x.lo / 2, y.lo / 2 + y.hi / 2, y.hi / 2 - y.lo / 2
    centre = f(xm, ym)
    spread = f(jnp.abs(xm), yr) + f(xr, jnp.abs(ym)) + f(xr, yr)
    return Interval(_no_nan(centre - spread, -jnp.inf), _no_nan(centre + spread, jnp.inf))


def _no_nan(x: Any, otherwise: float) -> Any:
    """An end of which nothing is known where it is NaN; the largest number where what it bounds is beyond it."""
    if not jnp.issubdtype(x.dtype, jnp.floating):
        return x
    largest = jnp.finfo(x.dtype).max
    x = jnp.where(jnp.isnan(x), otherwise, x)
    return jnp.minimum(x, largest) if otherwise < 0 else jnp.maximum(x, -largest)


def _distinct(ends: tuple[Any, Any]) -> tuple[Any, ...]:
    """One end where both are the same array: a known value."""
    return ends[:1] if ends[0] is ends[1] else ends


def _bind(name: str, *operands: Any, **params: Any) -> Any:
    return _PRIMITIVES[name].bind(*operands, **params)


class _Primitives(dict[str, Any]):
    """Primitives by name; those that `jax.extend` does not list are taken from a trace of a function."""

    def __missing__(self, name: str) -> Any:
        from jax.extend.core import primitives as P

        found = getattr(P, f"{name.replace('-', '_')}_p", None)
        if found is None:
            sources: dict[str, Callable[[Any], Any]] = {
                "stack": lambda x: jnp.stack([x, x]),
                "split": lambda x: lax.split(x, (1, 1)),
                "tile": lambda x: lax.tile(x, (2,)),
            }
            closed = jax.make_jaxpr(sources[name])(jnp.zeros(2))
            found = next(e.primitive for e in closed.jaxpr.eqns if e.primitive.name == name)
        self[name] = found
        return found


_PRIMITIVES = _Primitives()

SHAPE_ONLY = ("broadcast_in_dim", "concatenate", "pad", "reshape", "rev", "slice", "split", "squeeze",
              "stack", "tile", "transpose")  # fmt: skip
for _name in SHAPE_ONLY:
    shape_only(_name)
for _name in ("add", "cumsum", "max", "min", "reduce_max", "reduce_min", "reduce_sum", "reduce_window_max",
              "reduce_window_min", "reduce_window_sum", "clamp", "cummax", "cummin", "cumlogsumexp", "reduce_and",
              "reduce_or", "convert_element_type", "reduce_precision"):  # fmt: skip
    monotone(_name, 1)
monotone("sub", 1, -1)
monotone("neg", -1)
for _name in ("dot_general", "conv_general_dilated"):
    bilinear(_name)


@interval.rule("mul")
def times(x: Any, y: Any, **_: Any) -> Interval:
    """Exact: the least and the greatest of the corners; 0 times infinity is 0, as no value is infinite itself."""
    x, y = _as_interval(x), _as_interval(y)
    ends = [(x.lo, x.hi), (y.lo, y.hi)]
    corners = [a * b for a in _distinct(ends[0]) for b in _distinct(ends[1])]
    corners = [jnp.where(jnp.isnan(c), 0, c) if jnp.issubdtype(c.dtype, jnp.floating) else c for c in corners]
    return Interval(_no_nan(reduce(jnp.minimum, corners), -jnp.inf), _no_nan(reduce(jnp.maximum, corners), jnp.inf))


# The rest of the table, by kind.
from axiom_jax.verification.domains import _interval_curves as _interval_curves  # noqa: E402  # isort: skip
from axiom_jax.verification.domains import _interval_choices as _interval_choices  # noqa: E402  # isort: skip
