"""`ax.prove`: statements for all reals and all sizes, as text or as functions.

What is not settled becomes a guard: the same condition, demanded while the program runs.
"""

import functools
import typing
import warnings
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from axiom_jax._errors import AxiomError, SpecError
from axiom_jax._shapes_annotations import Promise
from axiom_jax._shapes_places import caller, calling, definition
from axiom_jax.model import Model
from axiom_jax.verification.regions import Box
from axiom_jax.verification.settling import TIMEOUT, checked_seconds, settle
from axiom_jax.verification.spec.naming import REGIONS
from axiom_jax.verification.spec.notation import reading, traced
from axiom_jax.verification.statement import Statement
from axiom_jax.verification.verdict import Claimed, Proved, Refuted, Unknown, Verdict

KEPT = 512  # verdicts that are remembered


class UnprovedWarning(UserWarning):
    """A statement was not proved; its verdict carries a guard that demands it at run time."""


def prove(
    thing: str | Statement | Callable[..., Any] | None = None,
    *,
    timeout: float = TIMEOUT,
    check: bool = True,
    names: Mapping[str, Any] | None = None,
) -> Any:
    """Prove or refute a statement about all reals, at all sizes.

    Args:
        thing: text in the notation of docs/prove.md, a function that gives a condition (its arguments are the
            variables: vectors of length n unless annotated), or a `Statement`.
        timeout: wall seconds, a finite number.
        check: whether a checker judges the proof; without it a proof is `Claimed`.
        names: what names in the text stand for; they come before jax.nn, jnp and the caller's own.

    Returns:
        `Proved` (a checker accepted the derivation), `Refuted` (with a counterexample that was executed, or with a
        proof of the negation of an ∃), `Claimed` or `Unknown` (with a guard). For a function it is callable too, as
        the function was, and is its own `.verdict`: so `@ax.prove` leaves a function.

    Raises:
        SpecError: the text is malformed, a name in it is not known, or an annotation or option is not understood.

    >>> print(prove("∀x ∈ [1, 2]. relu(x) >= 1"))
    proved ∀x ∈ [1, 2]. relu(x) >= 1: over the real numbers, for every n ≥ 1
    """
    timeout = checked_seconds(timeout)
    if names is not None and (not isinstance(names, Mapping) or any(not isinstance(name, str) for name in names)):
        raise SpecError("names= says what names in the text stand for.", at=caller(), got=f"a {type(names).__name__}",
                        fix='names={"f": f}')  # fmt: skip
    if thing is None:
        return lambda fn: prove(fn, timeout=timeout, check=check, names=names)
    if isinstance(thing, Statement):
        return _warned(settle(thing, timeout, check=check), thing)
    if isinstance(thing, str):
        place = calling()
        frame, at = (place.frame, place.at) if place is not None else (None, None)
        statement, used = reading(thing, names, frame=frame, at=at)
        return _warned(_remembered(statement, used, timeout, check), statement)
    if isinstance(thing, (Proved, Refuted, Claimed, Unknown)):
        return thing
    if not callable(thing):
        raise SpecError("There is nothing to prove.", at=caller(), got=f"a {type(thing).__name__}",
                        fix='give a text or a function: ax.prove("∀x. relu(x) >= 0")')  # fmt: skip
    from axiom_jax.verification.spec.forall import statement_of

    _understood(thing)
    statement = statement_of(thing, at=caller())
    try:
        traced(statement)
    except AxiomError:
        raise
    except Exception as error:
        lines = [line for line in str(error).splitlines() if line.strip()]
        raise SpecError(f"{getattr(thing, '__name__', 'The function')} cannot be traced.", at=statement.at,
                        got=(lines or [type(error).__name__])[0][:300],
                        fix='annotate the shapes of its arguments: x: Float[Array, "n"]') from error  # fmt: skip
    return as_function(_warned(settle(statement, timeout, check=check), statement), thing, statement)


def _understood(fn: Callable[..., Any]) -> None:
    """Refuse what `Annotated` says of an argument and no statement can mean: silence would prove another claim."""
    try:
        hints = typing.get_type_hints(fn, include_extras=True)
    except Exception:  # forward references that are not there yet
        hints = dict(getattr(fn, "__annotations__", {}))
    for name, hint in hints.items():
        for item in typing.get_args(hint)[1:] if typing.get_origin(hint) is typing.Annotated else ():
            if name != "return" and not isinstance(item, (*REGIONS, Promise)):
                raise SpecError(f"The annotation of {name} says what is no region.", at=definition(fn) or caller(),
                                got=repr(item)[:80],
                                fix=f'{name}: Annotated[Float[Array, "n"], ax.Box(0, 1)]')  # fmt: skip


_memory: OrderedDict[Any, tuple[Verdict, float, Any]] = OrderedDict()
_warned_of: set[str] = set()


def _remembered(statement: Statement, used: Mapping[str, Any], timeout: float, check: bool) -> Verdict:
    """The verdict, from memory where the same text was asked with the same numbers, arrays and models."""
    key, leaves = _key(statement.text, used, check)
    if key is not None and key in _memory:
        verdict, given, _ = _memory[key]
        if not isinstance(verdict, (Unknown, Claimed)) or given >= timeout:
            _memory.move_to_end(key)
            return verdict
    traced(statement)
    verdict = settle(statement, timeout, check=check)
    if key is not None:
        _memory[key] = verdict, timeout, (dict(used), leaves)  # kept alive, so that nothing else gets their identity
        while len(_memory) > KEPT:
            _memory.popitem(last=False)
    return verdict


def _key(text: str, used: Mapping[str, Any], check: bool) -> tuple[Any, list[Any]]:
    """What a verdict depends on, and the arrays that are told by identity; no key where functions are called.

    What a function reads may change. A model is pure by its contract, and its parameters are told one by one.
    """
    found: list[Any] = [text, check]
    leaves: list[Any] = []
    for name, value in sorted(used.items()):
        if isinstance(value, Model):
            own = jax.tree.leaves(value.params)
            leaves += own
            told = [id(leaf) if isinstance(leaf, jax.Array) else np.asarray(leaf).tobytes() for leaf in own]
            found.append((name, "model", id(value.apply), value.signature, tuple(told)))
        elif callable(value):
            return None, []
        elif isinstance(value, (list, tuple)) or (hasattr(value, "shape") and not isinstance(value, Box)):
            array = np.asarray(value)
            found.append((name, array.dtype.str, array.shape, array.tobytes()))
        else:
            found.append((name, type(value).__name__, repr(value)))
    return tuple(found), leaves


def _warned(verdict: Verdict, statement: Statement) -> Verdict:
    """Say once that a statement was not proved."""
    if isinstance(verdict, (Unknown, Claimed)) and statement.text not in _warned_of:
        _warned_of.add(statement.text)
        message = f"Cannot prove: {statement.text}\nAdding runtime assertion instead."
        place = calling()
        if place is None:
            warnings.warn(message, UnprovedWarning, stacklevel=3)
        else:
            frame = place.frame
            registry = frame.f_globals.setdefault("__warningregistry__", {})
            warnings.warn_explicit(message, UnprovedWarning, frame.f_code.co_filename, frame.f_lineno,
                                   frame.f_globals.get("__name__"), registry)  # fmt: skip
    return verdict


# --- verdicts that are functions


def as_function(verdict: Verdict, fn: Callable[..., Any], statement: Statement) -> Any:
    """A verdict that can also be called as the function that it is about; it is its own `.verdict`."""
    kind = _function_kind(type(verdict))
    found = object.__new__(kind)
    for name, value in vars(verdict).items():
        object.__setattr__(found, name, value)
    own = {key: value for key, value in vars(fn).items() if key not in vars(found)} if hasattr(fn, "__dict__") else {}
    for name in functools.WRAPPER_ASSIGNMENTS:
        if hasattr(fn, name):
            object.__setattr__(found, name, getattr(fn, name))
    for name, value in {**own, "__wrapped__": fn, "statement": statement, "verdict": found}.items():
        object.__setattr__(found, name, value)
    return found


_kinds: dict[type, type] = {}


def _function_kind(kind: type) -> type:
    """The verdict's class with a call, under the same name."""
    if kind not in _kinds:
        call = lambda self, *args, **named: self.__wrapped__(*args, **named)
        # functions are compared by identity, and jit needs their hash
        own = {"__call__": call, "__module__": kind.__module__, "__hash__": object.__hash__, "__eq__": object.__eq__}
        _kinds[kind] = type(kind.__name__, (kind,), own)
    return _kinds[kind]
