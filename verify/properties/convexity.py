"""Outputs that are convex functions of the input over a region.

Refuted by two inputs and the one halfway between them, evaluated exactly. Where the weights behind every relu have
the right sign there is a derivation; where other convex activations (exp, squares) stand, that is only claimed.
Source: Amos et al. 2017, Input convex neural networks, arXiv 1609.07152; Grant et al. 2006, Disciplined convex
programming.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import primitives

from axiom_jax._domain import Domain, interpret, missing
from axiom_jax.verification.lowering import lower
from axiom_jax.verification.properties.balls import contains, is_box
from axiom_jax.verification.properties.base import Claim, Condition
from axiom_jax.verification.properties.composing import BySufficient, Run, atom, composed, sampled
from axiom_jax.verification.properties.monotone import indices
from axiom_jax.verification.properties.scope import Budget, Place, Scope, unbounded
from axiom_jax.verification.properties.signs import convex_by_signs
from axiom_jax.verification.properties.ways import ByRunning, Outcome, Way
from axiom_jax.verification.verdict import Claimed, Refuted, Unknown

SAMPLES = 8192
WORST = 8
REACH = 10  # half the width of the box that is sampled where the region has no ends


@dataclass(frozen=True)
class Convex:
    """f((x + y) / 2) ≤ (f(x) + f(y)) / 2 for all x, y of the region: f is convex there, being continuous.

    Args:
        outputs: flat indices of the outputs meant; all if None.
        concave: ask for the opposite.

    >>> Convex().name, Convex(concave=True).name
    ('Convex', 'Concave')
    """

    outputs: Sequence[int] | None = None
    concave: bool = False

    @property
    def name(self) -> str:
        return "Concave" if self.concave else "Convex"

    def claims(self, scope: Scope) -> Iterable[Claim]:
        """A claim a region."""
        given = range(scope.outputs) if self.outputs is None else self.outputs
        chosen = indices(given, scope.outputs, "output")
        for place in scope.places():
            word = self.name.lower()
            which = "every output" if len(chosen) == scope.outputs else f"the outputs {list(chosen)}"
            text = f"over all x with {place.text}: {which} {'is' if len(chosen) == scope.outputs else 'are'} {word}"
            by_signs = lambda budget, text=text: convex_by_signs(scope.subject, chosen, self.concave, text, budget)
            by_curvature = _ByCurvature(scope, place, chosen, self.concave, text)
            yield Claim(self.name, text, place, (ByRunning(by_signs, "model"), by_curvature))


@dataclass(frozen=True, eq=False)
class _ByCurvature:
    """Refute by midpoints, else claim by the network's structure."""

    scope: Scope
    place: Place
    outputs: tuple[int, ...]
    concave: bool
    text: str
    network: str = "composed"

    def key(self) -> None:
        return None

    def settle(self, budget: Budget) -> Outcome:
        outcome = self._midpoints().settle(budget)
        if isinstance(outcome.answer, Refuted):
            return outcome
        reason = why_not(self.scope, self.outputs, self.concave)
        if reason is None:
            answer: Any = Claimed(None, "the signs of the weights show it; no checker has judged that argument")
        else:
            answer = Unknown(f"no counterexample was found, and {reason}")
        return Outcome(answer, outcome.seconds)

    def _midpoints(self) -> Way:
        size, sign = self.scope.subject.size, -1 if self.concave else 1
        if unbounded(self.place.region):
            box = (Fraction(-REACH),) * size, (Fraction(REACH),) * size
        else:
            box = self.scope.bounds(self.place.region)

        def gap(run: Run, z: Any) -> Any:
            x, y = z[:size], z[size:]
            return sign * (run(x) + run(y) - 2 * run((x + y) / 2))[np.array(self.outputs)]

        subject = composed(self.scope, ("midpoint", self.outputs, sign), gap, 2 * size, "two copies and their midpoint")
        unsafe = tuple((atom({k: 1}),) for k in range(len(self.outputs)))
        direct = Condition(subject, unsafe, self.text)
        double = (*box[0], *box[0]), (*box[1], *box[1])

        def suspects(point: np.ndarray | None) -> Iterator[list[Fraction]]:
            if point is not None:
                return
            x, gaps = sampled(subject, double[0], double[1], SAMPLES)
            worst = gaps.min(1)
            for i in np.argsort(worst, kind="stable")[:WORST]:
                if worst[i] < 0:
                    yield [Fraction(float(v)) for v in x[i]]

        counts, place = None, self.place
        if not is_box(place):  # the middle of two inputs of a convex region lies in it, too
            counts = lambda p: contains(place, p[:size]) and contains(place, p[size:])
        return BySufficient(None, direct, (), double, self.text, suspects, counts)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Curvature:
    """Where each element is known to be convex and to be concave in the input; affine is both. Arrays of bool."""

    convex: Any
    concave: Any

    @property
    def shape(self) -> tuple[int, ...]:
        return self.convex.shape


curvature = Domain("curvature", Curvature)


def why_not(scope: Scope, outputs: Sequence[int], concave: bool = False) -> str | None:
    """None if the structure of a network shows that outputs are convex (concave); else what stands in the way."""
    program, values = scope.subject.flat
    program = lower(program)
    if gaps := missing(curvature, program):
        return f"there is no rule of curvature for {', '.join(sorted({e.name for e in gaps}))}"
    start = Curvature(np.ones(scope.subject.size, bool), np.ones(scope.subject.size, bool))
    found = interpret(curvature, program, [np.asarray(v) for v in values], start)[program.outputs[0]]
    if not isinstance(found, Curvature):
        return None
    good = np.ravel(found.concave if concave else found.convex)[list(outputs)]
    if good.all():
        return None
    return f"the signs of the weights do not show it for {int((~good).sum())} of {len(good)} outputs"


def _of(x: Any) -> Curvature:
    return x if isinstance(x, Curvature) else Curvature(np.ones(np.shape(x), bool), np.ones(np.shape(x), bool))


MOVED = ("broadcast_in_dim", "reshape", "rev", "slice", "squeeze", "transpose")


def _bind(name: str, *operands: Any, **params: Any) -> Any:
    return getattr(primitives, f"{name}_p").bind(*operands, **params)


for _name in MOVED:

    def _moved(x: Curvature, *_: Any, _name: str = _name, **params: Any) -> Curvature:
        return Curvature(*(np.asarray(_bind(_name, jnp.asarray(part), **params)) for part in (x.convex, x.concave)))

    curvature.define(_name, _moved)

for _name in ("gather", "dynamic_slice"):

    def _picked(x: Any, *indices: Any, _name: str = _name, **params: Any) -> Curvature:
        take = lambda part: np.asarray(_bind(_name, jnp.asarray(part, jnp.float32), *indices, **params)) > 0
        return Curvature(take(_of(x).convex), take(_of(x).concave))

    curvature.define(_name, _picked)


@curvature.rule("concatenate")
def _concatenate(*parts: Any, dimension: int, **_: Any) -> Curvature:
    each = [_of(x) for x in parts]
    return Curvature(*(np.concatenate([np.asarray(getattr(x, w)) for x in each], dimension) for w in
                       ("convex", "concave")))  # fmt: skip


@curvature.rule("add", "add_any")
def _add(x: Any, y: Any, **_: Any) -> Curvature:
    a, b = _of(x), _of(y)
    return Curvature(np.asarray(a.convex) & b.convex, np.asarray(a.concave) & b.concave)


@curvature.rule("neg")
def _neg(x: Curvature, **_: Any) -> Curvature:
    return Curvature(x.concave, x.convex)


@curvature.rule("sub")
def _sub(x: Any, y: Any, **_: Any) -> Curvature:
    return _add(_of(x), _neg(_of(y)))


@curvature.rule("reduce_sum")
def _reduce_sum(x: Curvature, *, axes: Sequence[int], **_: Any) -> Curvature:
    return Curvature(*(np.asarray(part).all(axis=tuple(axes)) for part in (x.convex, x.concave)))


@curvature.rule("max")
def _max(x: Any, y: Any, **_: Any) -> Curvature:
    a, b = _of(x), _of(y)
    convex = np.asarray(a.convex) & b.convex
    return Curvature(convex, np.zeros_like(convex))


@curvature.rule("exp")
def _exp(x: Curvature, **_: Any) -> Curvature:
    return Curvature(x.convex, np.zeros_like(x.convex))


@curvature.rule("integer_pow")
def _integer_pow(x: Curvature, *, y: int, **_: Any) -> Curvature:
    affine = np.asarray(x.convex) & x.concave
    nothing = np.zeros_like(affine)
    return Curvature(
        affine if y % 2 == 0 and y > 0 else x.convex if y == 1 else nothing, x.concave if y == 1 else nothing
    )


def _weighted(name: str) -> None:
    """A product with known numbers: by their signs."""

    def rule(x: Any, y: Any, **params: Any) -> Curvature:
        varying_first = isinstance(x, Curvature)
        if varying_first and isinstance(y, Curvature):
            each = [jnp.asarray(part.convex, jnp.float32) for part in (x, y)]
            nothing = np.zeros(_bind(name, *each, **params).shape, bool)
            return Curvature(nothing, nothing)
        known = np.asarray(y if varying_first else x)
        value: Curvature = x if varying_first else y

        def touched(part: Any, sign: int) -> Any:
            """Where a number of this sign meets an element that is not `part`."""
            other, weight = jnp.asarray(~np.asarray(part), jnp.float32), jnp.asarray(sign * known > 0, jnp.float32)
            pair = (other, weight) if varying_first else (weight, other)
            return np.asarray(_bind(name, *pair, **params)) > 0

        convex = ~(touched(value.convex, 1) | touched(value.concave, -1))
        concave = ~(touched(value.concave, 1) | touched(value.convex, -1))
        return Curvature(convex, concave)

    curvature.define(name, rule)


for _name in ("mul", "dot_general", "conv_general_dilated"):
    _weighted(_name)


@curvature.rule("div")
def _div(x: Any, y: Any, **_: Any) -> Curvature:
    if isinstance(y, Curvature):
        nothing = np.zeros(np.broadcast_shapes(np.shape(_of(x).convex), y.shape), bool)
        return Curvature(nothing, nothing)
    positive = np.asarray(y) > 0
    return Curvature(np.where(positive, x.convex, x.concave), np.where(positive, x.concave, x.convex))


for _name in ("tanh", "logistic", "erf", "select_n"):

    def _unknown(*operands: Any, **_: Any) -> Curvature:
        shape = np.broadcast_shapes(*(np.shape(_of(x).convex) for x in operands))
        return Curvature(np.zeros(shape, bool), np.zeros(shape, bool))

    curvature.define(_name, _unknown)
