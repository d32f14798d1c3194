"""The largest radius within which the class is proved not to change, by bisection."""

import time
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any, Literal

import numpy as np

from axiom_jax._errors import SpecError
from axiom_jax._shapes_places import caller
from axiom_jax.verification._display import Facts, html_table, rich_table
from axiom_jax.verification.properties.base import claim_at, settle
from axiom_jax.verification.properties.reading import scope_of
from axiom_jax.verification.properties.robustness import Robust, cut, exact_radius
from axiom_jax.verification.properties.scope import MODES, Scope, need_labels, short
from axiom_jax.verification.results import Answer
from axiom_jax.verification.verdict import Proved, Refuted, Unknown, interrupted


@dataclass(frozen=True, repr=False)
class CertifiedRadius:
    """How far an input may be moved.

    Args:
        proved: the class is proved within this radius; 0 if within none that was asked.
        refuted: a radius within which it changes, or None.
        verdict: the proof at `proved`; `Unknown` if there is none.
        counterexample: the answer at `refuted`, or None.
        row, label: of the data. norm: "inf", 1 or 2. seconds: wall time.
    """

    proved: Fraction
    refuted: Fraction | None
    verdict: Answer
    counterexample: Refuted | None
    row: int
    label: int
    norm: Any
    seconds: float

    def facts(self) -> Facts:
        """Title and rows of its table."""
        rows = [("row, class", f"{self.row}, {self.label}"), ("norm", str(self.norm))]
        rows += [("proved within", short(self.proved) if self.proved else "no radius that was asked")]
        rows += [("changes within", "not found" if self.refuted is None else short(self.refuted))]
        return "certified radius", [*rows, ("seconds", f"{self.seconds:.2f}")]

    def __repr__(self) -> str:
        upper = "?" if self.refuted is None else short(self.refuted)
        return f"CertifiedRadius(row={self.row}, proved={short(self.proved)}, refuted={upper}, norm={self.norm!r})"

    __rich__, _repr_html_ = rich_table, html_table


def certified_radius(
    model: Any,
    data: Any,
    norm: Literal["inf", 1, 2] = "inf",
    upper: Any = 1,
    steps: int = 8,
    within: Any = None,
    mode: str = "standard",
    timeout: float | None = None,
) -> tuple[CertifiedRadius, ...]:
    """The largest radius around each row of data within which its class is proved, by bisection on exact rationals.

    Every radius asked is k·upper/2^steps; the proof of the largest one comes along. A radius that is neither proved
    nor refuted within the mode's time counts as not proved.

    Args:
        data: x, (x, labels) or an `ax.DataLoader`; without labels the model's own classes.
        norm: "inf", 2 or 1. upper: the largest radius that is asked, exact as text.
        steps: halvings.
        within: where inputs live, such as (0, 1).
        mode: seconds a question and rows of data, as `ax.verify` says. timeout: wall seconds of searching in all.

    Returns:
        One a row of the data, as many rows as the mode looks at; after Ctrl-C those that are done.

    >>> (found,) = certified_radius(lambda x: x, [[0.75, 0.0]], steps=4)
    >>> found.proved, found.refuted, type(found.verdict).__name__
    (Fraction(5, 16), Fraction(3, 8), 'Proved')
    """
    if mode not in MODES or type(steps) is not int or steps < 1:
        raise SpecError("There is no such mode or number of steps.", at=caller(), got=f"{mode!r}, {steps}",
                        fix='certified_radius(model, data, steps=8, mode="standard")')  # fmt: skip
    deadline = None if timeout is None else time.monotonic() + timeout
    budget = replace(MODES[mode], deadline=deadline)
    largest = exact_radius(upper)
    if not isinstance(largest, Fraction):
        raise SpecError("The largest radius is one number.", at=caller(), fix='upper="8/255"')
    scope = scope_of(model, None, data, budget)
    found: list[CertifiedRadius] = []
    first = Robust(largest, norm, within=within)
    for place in first.places(scope):
        try:
            found.append(_bisected(scope, first, largest, place.row or 0, steps))
        except KeyboardInterrupt:
            break
    return tuple(found)


def _bisected(scope: Scope, prop: Robust, largest: Fraction, row: int, steps: int) -> CertifiedRadius:
    start, (low, high) = time.monotonic(), (0, 1 << steps)
    verdict: Answer = Unknown("no radius that was asked is proved")
    refuted: tuple[int, Refuted] | None = None
    condition = None
    number = high  # the largest radius first
    while True:
        radius = largest * Fraction(number, 1 << steps)
        place = _place(scope, replace(prop, eps=radius), row)
        condition = condition or prop.condition(scope, place)
        outcome, _ = settle(claim_at(prop.name, scope, place, condition), scope.budget)
        if interrupted(outcome.answer):
            raise KeyboardInterrupt
        if isinstance(outcome.answer, Proved):
            low, verdict = number, outcome.answer
        else:
            high = number
            if isinstance(outcome.answer, Refuted):
                refuted = (number, outcome.answer)
            elif low == 0:
                verdict = outcome.answer
        if high - low <= 1 or low == 1 << steps:
            break
        number = (low + high) // 2
    proved = largest * Fraction(low, 1 << steps)
    upper = None if refuted is None else largest * Fraction(refuted[0], 1 << steps)
    if low == 0 and not isinstance(verdict, Unknown):
        verdict = Unknown("no radius that was asked is proved")
    return CertifiedRadius(proved, upper, verdict, refuted[1] if refuted else None, row, _label(scope, row), prop.norm,
                           time.monotonic() - start)  # fmt: skip


def _place(scope: Scope, prop: Robust, row: int) -> Any:
    assert scope.samples is not None
    return cut(prop.around(scope, row, scope.samples.x[row]), prop.within)


def _label(scope: Scope, row: int) -> int:
    return int(np.asarray(need_labels(scope))[row])
