"""How conditions inside a model get out of it: past its output, at no cost while they hold.

A model collects what `ax.ensure` met while it runs. Its output then goes through one check of all of them,
the identity where they hold. Nothing is effectful, so a jitted model keeps its fast dispatch; the callback is in the
branch that is not taken. The policy is part of every compilation's key (`_trace.guard_policy`).
"""

import contextvars
import itertools
import re
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.extend.core import get_opaque_trace_state

from axiom_jax._errors import AxiomError, EnsureViolation, UnsupportedPrimitive
from axiom_jax._trace import as_program, guard_policy


@dataclass(frozen=True)
class Guard:
    """What a condition is called, and the line that demands it."""

    text: str
    at: str | None


@dataclass
class Collector:
    """The conditions that one run of a model met, with what they say: `(guard, holds, value)`."""

    met: list[tuple[Guard, Any, Any]] = field(default_factory=list)
    trace: Any = field(default_factory=get_opaque_trace_state)


class GuardWarning(UserWarning):
    """A guarded condition does not hold, under the policy "warn"."""


_open: contextvars.ContextVar[Collector | None] = contextvars.ContextVar("guards", default=None)
_watched: contextvars.ContextVar[list[tuple[Guard, Any]] | None] = contextvars.ContextVar("watched", default=None)
_proved: contextvars.ContextVar[frozenset[Guard]] = contextvars.ContextVar("proved", default=frozenset())
# what compiled programs raised, by a number in the text, which is all that JAX keeps of an exception
_raised: dict[int, EnsureViolation] = {}
_numbers = itertools.count(1)
KEPT = 1024


def collector() -> Collector | None:
    """That of the model which runs here, unless a transformation inside of it (scan, vmap) is being traced."""
    found = _open.get()
    return found if found is not None and found.trace == get_opaque_trace_state() else None


def collecting(run: Callable[[], Any], has_aux: bool = False) -> Any:
    """The output of `run`, through the conditions that it met; with `has_aux` the first of the two that it gives."""
    found = Collector()
    token = _open.set(found)
    try:
        output = run()
    finally:
        _open.reset(token)
    if (watched := _watched.get()) is not None:
        watched += [(guard, holds) for guard, holds, _ in found.met]
        return output
    met = [entry for entry in found.met if entry[0] not in _proved.get()]
    if not met:
        return output
    return (through(output[0], met), output[1]) if has_aux else through(output, met)


def conditions(run: Callable[[], Any]) -> list[tuple[Guard, Any]]:
    """The conditions that a run of a model meets, as arrays; none is acted upon."""
    met: list[tuple[Guard, Any]] = []
    token = _watched.set(met)
    try:
        with guard_policy("raise"):
            run()
    finally:
        _watched.reset(token)
    return met


def without(proved: frozenset[Guard], run: Callable[[], Any]) -> Any:
    """The output of a run in which conditions that are proved are not looked for."""
    token = _proved.set(_proved.get() | proved)
    try:
        return run()
    finally:
        _proved.reset(token)


def through(output: Any, met: Sequence[tuple[Guard, Any, Any]]) -> Any:
    """An output that is refused, warned of or masked where a condition does not hold."""
    policy = guard_policy.value
    guards = tuple(guard for guard, _, _ in met)
    flags = [(jnp.asarray(jax.lax.stop_gradient(holds)), jnp.asarray(jax.lax.stop_gradient(value)))
             for _, holds, value in met]  # fmt: skip
    if policy == "mask":
        if not all(jnp.issubdtype(jnp.result_type(leaf), jnp.inexact) for leaf in jax.tree.leaves(output)):
            raise _unmasked(guards[0], "The output holds integers, which cannot be NaN")
        return jax.tree.map(partial(masked, [holds for holds, _ in flags]), output)
    if not any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(flags)):
        report(guards, policy, *jax.tree.leaves(flags))
        return output
    leaves, structure = jax.tree.flatten(output)
    return jax.tree.unflatten(structure, _through(guards, policy)(*leaves, flags=flags))


def masked(flags: Sequence[Any], leaf: Any) -> Any:
    """Rows of an output as NaN where a condition on them does not hold; all of it where one is not about rows."""
    for holds in flags:
        by_row = holds.ndim and leaf.ndim and holds.shape[0] == leaf.shape[0]
        good = holds.reshape(holds.shape[0], -1).all(1) if by_row else holds.all()
        leaf = jnp.where(good.reshape(good.shape + (1,) * (leaf.ndim - good.ndim)), leaf, jnp.nan)
    return leaf


def _through(guards: tuple[Guard, ...], policy: str) -> Callable[..., list[Any]]:
    def refused(flags: Any, leaves: Any) -> Any:
        def answer(flags: Any, leaves: Any) -> Any:
            report(guards, policy, *jax.tree.leaves(flags), compiled=True)
            return leaves

        specs = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), leaves)
        answered = jax.pure_callback(answer, specs, flags, leaves, vmap_method="sequential")
        return jax.tree.map(_varying_as, answered, leaves)

    @jax.custom_batching.custom_vmap
    def batched(flags: Any, leaves: Any) -> Any:
        good = jnp.stack([holds.all() for holds, _ in flags]).all()
        leaves = jax.tree.map(lambda leaf: _varying_as(leaf, good), leaves)
        return jax.lax.cond(good, lambda flags, leaves: leaves, refused, flags, leaves)

    @batched.def_vmap
    def _(size: int, mapped: Any, flags: Any, leaves: Any) -> Any:  # one question for the whole batch
        def spread(leaf: Any, is_mapped: bool) -> Any:
            return leaf if is_mapped else jnp.broadcast_to(leaf, (size, *leaf.shape))

        flags, leaves = jax.tree.map(spread, (flags, leaves), (mapped[0], mapped[1]))
        return batched(flags, leaves), jax.tree.map(lambda _: True, leaves)

    @jax.custom_jvp
    def identity(flags: Any, leaves: Any) -> Any:
        return batched(flags, leaves)

    @identity.defjvp
    def _(primals: Any, tangents: Any) -> Any:
        # times 1, so that derivatives are refused too where nobody asks for the value itself
        one = identity(primals[0], [jnp.ones(())])[0]
        is_float = lambda t: jnp.issubdtype(jnp.result_type(t), jnp.inexact)
        return identity(*primals), [t * one.astype(t.dtype) if is_float(t) else t for t in tangents[1]]

    return lambda *leaves, flags: identity(flags, [jnp.asarray(leaf) for leaf in leaves])


def _varying_as(x: Any, other: Any) -> Any:
    """x, declared to differ along the mesh axes of `shard_map` along which another array differs."""
    axes = tuple(sorted(_varying(other) - _varying(x)))
    return jax.lax.pcast(x, axes, to="varying") if axes else x


def _varying(x: Any) -> frozenset[Any]:
    kind = jax.typeof(x)
    return getattr(kind, "vma", None) or getattr(getattr(kind, "manual_axis_type", None), "varying", frozenset())


def inside(guard: Guard, holds: Any, value: Any) -> None:
    """A condition where no output passes: inside of scan or vmap, or in a function that is no model."""
    policy = guard_policy.value
    if policy == "mask" and as_program.value:
        raise _unmasked(guard, "It stands inside of a transformation (vmap, scan), from where no output can be masked")
    holds, value = (jnp.asarray(jax.lax.stop_gradient(array)) for array in (holds, value))

    @jax.custom_batching.custom_vmap
    def ask(holds: Any, value: Any) -> Any:
        call = lambda *flags: jax.debug.callback(partial(report, (guard,), policy, compiled=True), *flags)
        return jax.lax.cond(holds.all(), lambda *_: None, call, holds, value)

    @ask.def_vmap
    def _(size: int, mapped: Any, *flags: Any) -> Any:
        pairs = zip(flags, mapped, strict=True)
        spread = [leaf if own else jnp.broadcast_to(leaf, (size, *leaf.shape)) for leaf, own in pairs]
        return ask(*spread), None

    ask(holds, value)


def report(guards: tuple[Guard, ...], policy: str, *flags: Any, compiled: bool = False) -> None:
    """Raise or warn of the first condition that does not hold, on the host."""
    for guard, holds, value in zip(guards, flags[::2], flags[1::2], strict=True):
        holds, value = np.asarray(holds), np.asarray(value)
        if holds.all():
            continue
        places = np.argwhere(~holds)
        first = tuple(map(int, places[0]))
        row = None if not first else first[0] if len(first) == 1 else first
        found = value[first] if value.shape == holds.shape else value
        error = EnsureViolation(guard.text, row=row, value=found.item() if found.size == 1 else None, at=guard.at)
        if len(places) > 1:
            error.got = "; ".join(filter(None, (error.got, f"{len(places)} rows in all")))
        if policy == "raise":
            raise _numbered(error) if compiled else error
        warnings.warn(str(error), GuardWarning, stacklevel=2)


def _numbered(error: EnsureViolation) -> EnsureViolation:
    """The same error with a number in its text, by which `recalled` finds it."""
    number = next(_numbers)
    _raised[number] = error
    for old in [n for n in list(_raised) if n <= number - KEPT]:
        _raised.pop(old, None)
    shown = EnsureViolation(error.condition, row=error.row, value=error.value, at=error.at)
    shown.fix = f'`with ax.guards("raise"):` around the call gives this error itself (violation {number})'
    return shown


def recalled(error: BaseException) -> EnsureViolation | None:
    """The violation behind an exception of a compiled program; None if it is about something else."""
    found = re.findall(r"\(violation (\d+)\)", str(error))
    return _raised.pop(int(found[-1]), None) if found else None


def _unmasked(guard: Guard, why: str) -> AxiomError:
    return UnsupportedPrimitive(
        f"The condition {guard.text!r} cannot mask the model's output.", at=guard.at, got=why,
        fix='demand it of the model\'s floating-point output, or leave it out: with ax.guards("off")',
    )  # fmt: skip
