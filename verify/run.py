"""`ax.verify`: every claim of every property, within a budget, with nothing lost on the way."""

import hashlib
import os
import re
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, as_completed
from dataclasses import replace
from typing import Any

import numpy as np

from axiom_jax._errors import AxiomError, SpecError
from axiom_jax._shapes_places import caller
from axiom_jax.verification.journal import Journal, open_journal
from axiom_jax.verification.proof.certificate import canonical
from axiom_jax.verification.proof.compiled import hindrance
from axiom_jax.verification.proof.exact import exactly
from axiom_jax.verification.proof.float32 import PROFILE, require_profile
from axiom_jax.verification.properties.base import Claim, ModelProperty, settle
from axiom_jax.verification.properties.reading import scope_of
from axiom_jax.verification.properties.scope import MODES, Budget, Scope
from axiom_jax.verification.regions import Region
from axiom_jax.verification.results import Item, Result
from axiom_jax.verification.search.margins import Subject
from axiom_jax.verification.settling import checked_seconds
from axiom_jax.verification.telemetry import telemetry
from axiom_jax.verification.verdict import Unknown, interrupted

Asked = tuple[ModelProperty, Claim]


def verify(
    model: Any,
    properties: ModelProperty | Iterable[ModelProperty],
    data: Any = None,
    region: Region | None = None,
    mode: str = "standard",
    timeout: float | None = None,
    executor: Executor | None = None,
    journal: str | os.PathLike[str] | None = None,
    profile: str = PROFILE,
) -> Result:
    """Ask properties of a model; every answer is proved, claimed, refuted, tested or unknown, and says how.

    Args:
        model: a `Model`, a function of a batch, or a flax or equinox module.
        properties: one or several, such as `ax.Robust("2/255")`.
        data: x (rows, ...), (x, labels) or an `ax.DataLoader`: regions around rows, and what is tested on data.
        region: where claims are made: `ax.Box(0, 1)`; `ax.Linf(0.01)` stands for a ball around each row of data.
        mode: "quick" (5 s of search a claim, 10 rows of data, 1,000 executed points where something is tested),
            "standard" (10 s, 100 rows, 10,000 points), "thorough" (60 s, 1,000 rows, 100,000 points) or
            "exhaustive" (until it is decided, all rows, 1,000,000 points). Compilation is not counted. Every proof is
            checked: 20 s, 60 s, 600 s and 3600 s at most.
        timeout: wall seconds of searching in all, shared fairly, in place of the mode's seconds a claim; the proofs
            that are found are still checked.
        executor: of threads (`concurrent.futures.ThreadPoolExecutor`); None works on one claim after the other.
        journal: a file that decided claims are appended to; a run with the same file skips them, after their
            certificates, kept beside it, were checked again.
        profile: the machines that level `float32` is to speak of: "cpu", "cuda" (a CUDA device has to be here) or
            "tpu", of which nothing is proved but what holds over the real numbers.

    Returns:
        The result; after Ctrl-C with what was decided so far, the rest unknown.

    Raises:
        SpecError, ShapeError: model, properties, data and region do not fit, or there is no such mode or profile.

    >>> from axiom_jax.verification.properties.outputs import Bounded
    >>> from axiom_jax.verification.regions import Box
    >>> result = verify(lambda x: 2 * x - 1, Bounded(-1, 1), region=Box([0.0], [1.0]))
    >>> result.passed, result.items[0].levels
    (True, ('real',))
    """
    start = time.monotonic()
    if mode not in MODES:
        raise SpecError("There is no such mode.", at=caller(), got=repr(mode), fix=f"use {', '.join(MODES)}")
    require_profile(profile, caller())
    timeout = None if timeout is None else checked_seconds(timeout)
    if isinstance(executor, ProcessPoolExecutor) or (executor is not None and not hasattr(executor, "submit")):
        raise SpecError("Claims run in threads of this process.", at=caller(), got=type(executor).__name__,
                        fix="give a concurrent.futures.ThreadPoolExecutor, or None")  # fmt: skip
    scope = scope_of(model, region, data, MODES[mode])
    asked = [(prop, claim) for prop in _properties(properties) for claim in prop.claims(scope)]
    digest = digest_of(scope.subject)
    spoken = lambda: profile if hindrance(scope.subject, profile) is None else ""
    kept = open_journal(journal, digest, spoken) if journal is not None else None
    budget = replace(MODES[mode], deadline=None if timeout is None else start + timeout, profile=profile)
    if executor is None:
        items = _one_by_one(asked, budget, timeout is not None, kept)
    else:
        items = _at_once(asked, budget, executor, kept)
    notes = _left_out(scope, mode)
    if profile != PROFILE and (why := hindrance(scope.subject, profile)) is not None:
        notes.append(f"nothing is proved at level float32, profile {profile}: {why}")
    if any(item is None for item in items):
        notes.append("interrupted: what was not decided is unknown")
    done = [_unbegun(*pair) if item is None else item for item, pair in zip(items, asked, strict=True)]
    result = Result(tuple(done), scope.subject.name, digest, mode, time.monotonic() - start, tuple(notes), scope)
    telemetry().run(result.passed, result.seconds)
    return result


def _properties(properties: Any) -> list[ModelProperty]:
    found: Any = [properties] if isinstance(properties, ModelProperty) else properties
    found = list(found) if isinstance(found, Iterable) and not isinstance(found, (str, dict)) else [found]
    wrong = [prop for prop in found if not isinstance(prop, ModelProperty) or isinstance(prop, type)]
    if wrong or not found:
        got = ", ".join(prop.__name__ if isinstance(prop, type) else type(prop).__name__ for prop in wrong) or "none"
        raise SpecError("These are no properties.", at=caller(), got=got, fix='such as ax.Robust("2/255")')
    return found


def _one_by_one(asked: Sequence[Asked], budget: Budget, shared: bool, kept: Journal | None) -> list[Item | None]:
    items: list[Item | None] = [None] * len(asked)
    try:
        for number, (prop, claim) in enumerate(asked):
            own = _share(budget, len(asked) - number) if shared else budget
            items[number] = item = _item(prop, claim, own, kept)
            if interrupted(item.answer):
                break
    except KeyboardInterrupt:
        pass
    return items


def _share(budget: Budget, claims: int) -> Budget:
    """What is left of the time, for one of as many claims."""
    assert budget.deadline is not None
    return replace(budget, seconds=max(budget.deadline - time.monotonic(), 0.0) / claims)


def _at_once(asked: Sequence[Asked], budget: Budget, executor: Executor, kept: Journal | None) -> list[Item | None]:
    items: list[Item | None] = [None] * len(asked)
    futures = {executor.submit(_decided, prop, claim, budget, kept): n for n, (prop, claim) in enumerate(asked)}
    try:
        for future in as_completed(futures):
            number = futures[future]
            item, outcome, way = future.result()
            items[number] = item
            _note(asked[number][1], item, outcome, way, kept)
    except KeyboardInterrupt:
        for future in futures:
            future.cancel()
    return items


def _item(prop: ModelProperty, claim: Claim, budget: Budget, kept: Journal | None) -> Item:
    item, outcome, way = _decided(prop, claim, budget, kept)
    _note(claim, item, outcome, way, kept)
    return item


def _note(claim: Claim, item: Item, outcome: Any, way: Any, kept: Journal | None) -> None:
    """Count an item, and write it down if it is decided and was not read there."""
    telemetry().claim(item.property.partition("(")[0], item.verdict, item.seconds)
    if kept is not None and way is not None:
        kept.record(claim, outcome, way)


def _decided(prop: ModelProperty, claim: Claim, budget: Budget, kept: Journal | None) -> tuple[Item, Any, Any]:
    """The item of a claim; with the outcome and its way, None where they were restored or there is none."""
    start, again = time.monotonic(), None
    outcome: Any = None
    way: Any = None
    answer, bound, network = None, None, None
    try:
        again = kept.restore(claim, budget.check_seconds) if kept is not None else None
        outcome, way = again if again is not None else settle(claim, budget)
        answer, bound, network = outcome.answer, outcome.bound, way.network
    except AxiomError as error:
        answer = Unknown(" ".join(filter(None, [error.what, error.got and f"Got {error.got}.", error.fix])))
    except (ArithmeticError, ValueError, TypeError, NotImplementedError, RuntimeError, MemoryError) as error:
        # the other claims go on; the message says where to look
        answer = Unknown(f"it failed with {type(error).__name__}: {str(error)[:300]}; please report this")
    notes = claim.notes + (("from the journal, checked again",) if again is not None else ())
    item = Item(claim.property, claim.text, claim.place.text, answer, time.monotonic() - start, bound, network, notes,
                claim.place.row, prop, claim.place)  # fmt: skip
    return item, outcome, (None if again is not None else way)


def _unbegun(prop: ModelProperty, claim: Claim) -> Item:
    answer = Unknown("interrupted before it was begun")
    return Item(claim.property, claim.text, claim.place.text, answer, row=claim.place.row, asked=prop,
                place=claim.place)  # fmt: skip


def _left_out(scope: Scope, mode: str) -> list[str]:
    looked = 0 if scope.samples is None else len(scope.samples)
    return [f"{looked} of {scope.rows} rows of data were looked at (mode {mode})"] if looked < scope.rows else []


def digest_of(subject: Subject) -> str:
    """sha256 of a model's operations and weights; names and source lines do not count.

    >>> import jax, jax.numpy as jnp
    >>> spec = (jax.ShapeDtypeStruct((2,), jnp.float32),)
    >>> one, other = (digest_of(Subject(lambda w, x: w * x, jnp.full(2, w), spec)) for w in (1.0, 2.0))
    >>> one == other, len(one)
    (False, 64)
    """
    exact = exactly(subject)
    if exact.missing is None:
        return hashlib.sha256(canonical([exact.model["program"], exact.model["tensors"]])).hexdigest()
    program, values = subject.flat
    found = hashlib.sha256()
    for part in _described(program.key):
        found.update(part)
    for value in values:
        array = np.ascontiguousarray(np.asarray(value))
        found.update(f"{array.dtype}{array.shape}".encode() + array.tobytes())
    return found.hexdigest()


def _described(key: Any) -> Iterator[bytes]:
    """A program's key as bytes that are the same in every process: without addresses of objects."""
    yield re.sub(r" at 0x[0-9a-f]+", "", repr(key)).encode()
