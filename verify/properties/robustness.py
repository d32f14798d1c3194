"""Robustness of a classifier around data: the class, or the k best, do not change within a radius.

Where a model ends in what keeps the order of its inputs over the reals (softmax, sigmoid), the question is asked of
the logits, and the certificate is about the network up to them.
"""

import hashlib
import itertools
import json
import math
from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from fractions import Fraction
from typing import Any, Literal

import numpy as np

from axiom_jax._errors import SpecError
from axiom_jax._shapes_places import caller
from axiom_jax.verification.properties.base import Claim, Condition, Unsafe, pointwise_claims
from axiom_jax.verification.properties.outputs import exact_number
from axiom_jax.verification.properties.scope import Place, Scope, need_labels, unbounded
from axiom_jax.verification.property import Atom
from axiom_jax.verification.regions import L1, L2, Box, Linf, Polytope, Region, exact
from axiom_jax.verification.search.margins import Subject

NORMS: dict[Any, Any] = {"inf": Linf, float("inf"): Linf, 2: L2, 1: L1}
MANY = 4096  # disjuncts of a top-k property
ORDER = "over the reals the model's end keeps the order of the logits; the certificate is about the network up to them"
LONG = 80  # characters of the ends of a box in a claim
ONE = Fraction(1)


@dataclass(frozen=True)
class Robust:
    """Every input within `eps` of a row of the data is classified as the row is, strictly: ties are unsafe.

    Args:
        eps: the radius, exact as text ("2/255"); or an array, one for every feature, with norm "inf".
        norm: "inf", 2 or 1.
        top: the label stays among the `top` largest outputs.
        target: only that this class does not become the largest; None for all others. Rows of that class are left out.
        within: a region that inputs live in, such as (0, 1) for pixels; the balls are cut to it. A box given to
            `ax.verify` as `region` does the same.

    Raises:
        SpecError: the radius is not positive, or a norm or number is unknown.

    Source: Madry et al. 2018, arXiv 1706.06083; the robustness properties of VNN-COMP.

    >>> Robust("2/255").name, Robust(0.5, norm=2, top=3).name
    ('Robust(eps=2/255)', 'Robust(eps=0.5, norm=2, top=3)')
    """

    eps: Any
    norm: Literal["inf", 1, 2] = "inf"
    top: int = 1
    target: int | None = None
    within: Any = None

    def __post_init__(self) -> None:
        if self.norm not in NORMS:
            raise SpecError("There is no such norm.", at=caller(), got=repr(self.norm), fix='norm="inf", 2 or 1')
        eps = exact_radius(self.eps)
        if isinstance(eps, tuple) and NORMS[self.norm] is not Linf:
            raise SpecError("A radius for every feature goes with the norm inf.", at=caller(), got=f"norm {self.norm}",
                            fix='norm="inf"')  # fmt: skip
        if type(self.top) is not int or self.top < 1 or (self.top > 1 and self.target is not None):
            raise SpecError("The label stays among the best k ≥ 1, or one target is named.", at=caller(),
                            got=f"top={self.top}, target={self.target}", fix="Robust(eps, top=3)")  # fmt: skip
        object.__setattr__(self, "eps", eps if isinstance(eps, tuple) else self.eps)
        object.__setattr__(self, "within", domain(self.within))

    @property
    def name(self) -> str:
        eps = "per feature" if isinstance(self.eps, tuple) else str(self.eps)
        parts = [f"eps={eps}", *([] if NORMS[self.norm] is Linf else [f"norm={self.norm}"])]
        parts += [f"top={self.top}"] if self.top > 1 else []
        parts += [f"target={self.target}"] if self.target is not None else []
        return f"Robust({', '.join(parts)})"

    def places(self, scope: Scope) -> Iterable[Place]:
        """A ball around each row, cut to where inputs live."""
        labels = need_labels(scope)
        if scope.outputs < 2:
            raise SpecError("Robust speaks of classes, and the model has one output.", at=caller(),
                            got=f"{scope.outputs} output", fix="use ax.Bounded or ax.Custom")  # fmt: skip
        assert scope.samples is not None
        live = self.within if self.within is not None else _live(scope.region)
        for row, x in enumerate(scope.samples.x):
            if self.target is not None and labels[row] == self.target:
                continue
            yield cut(self.around(scope, row, x), live)

    def around(self, scope: Scope, row: int, x: np.ndarray) -> Place:
        """The ball around one row."""
        middle = tuple(Fraction(float(v)) for v in x)
        if not isinstance(self.eps, tuple):
            return scope.around(NORMS[self.norm](Fraction(exact_radius(self.eps)), middle), row, x)
        radii = _flat(self.eps)
        if len(radii) != len(middle):
            got = f"{len(radii)} radii, {len(middle)} features"
            raise SpecError("There are not as many radii as features.", at=caller(), got=got,
                            fix="give one for every feature")  # fmt: skip
        ends = zip(middle, radii, strict=True)
        lo, hi = zip(*((v - r, v + r) for v, r in ends), strict=True)
        return Place(Box(lo, hi), f"|x − row {row}| ≤ eps per feature", row, x)

    def claims(self, scope: Scope) -> Iterable[Claim]:
        return pointwise_claims(self, scope)

    def condition(self, scope: Scope, place: Place) -> Condition:
        subject, network, notes = ordered(scope)
        assert place.row is not None
        label = int(need_labels(scope)[place.row])
        unsafe = other_classes(label, scope.outputs, self.top, self.target)
        word = f"the class is {label}" if self.top == 1 else f"class {label} is among the {self.top} largest"
        text = word if self.target is None else f"class {label} is above class {self.target}"
        if scope.samples is not None and scope.samples.targets is None:
            text += " (the model's own answer: no labels were given)"
        return Condition(subject, unsafe, text, network, notes)


def ordered(scope: Scope) -> tuple[Subject, str, tuple[str, ...]]:
    """The network that has the order of the outputs: the logits, if the model's end keeps it, else the model."""
    cut = scope.tail.logits
    if cut is None:
        return scope.subject, "model", ()
    return scope.kept("logits", lambda: scope.tail.before(cut)), "logits", (ORDER,)


def other_classes(label: int, classes: int, top: int = 1, target: int | None = None) -> Unsafe:
    """What is unsafe for a label: `top` other classes that are at least as large, or one target.

    Raises:
        SpecError: there are not so many classes, or too many ways to choose `top` of them.
    """
    at_least = lambda j: Atom(tuple(sorted([(label, ONE), (j, -ONE)])), Fraction(0))
    others = [j for j in range(classes) if j != label]
    if target is not None:
        if target not in range(classes):
            raise SpecError("The target is no class.", at=caller(), got=f"{target} of {classes}", fix="count from 0")
        return ((at_least(target),),)
    if top >= classes or math.comb(len(others), top) > MANY:
        raise SpecError("Top-k cannot be asked here.", at=caller(), got=f"top={top} of {classes} classes",
                        fix="choose a smaller top")  # fmt: skip
    return tuple(tuple(at_least(j) for j in chosen) for chosen in itertools.combinations(others, top))


def exact_radius(eps: Any) -> Any:
    """A positive number, exact, or nested tuples of numbers that are not negative.

    Raises:
        SpecError: it is none.
    """
    if isinstance(eps, (list, tuple)) or getattr(eps, "shape", ()):
        found = exact(eps)
        if any(r is None or r < 0 for r in _flat(found)):
            raise SpecError("A radius is not negative, and finite.", at=caller(), fix="give eps ≥ 0 for each feature")
        return found
    value = exact_number(eps, "Robust")
    if value <= 0:
        raise SpecError("A radius is positive.", at=caller(), got=str(eps), fix='eps="2/255"')
    return value


def domain(within: Any) -> Region | None:
    """Where inputs live, as a region: None, a region with ends, or a pair of numbers or arrays.

    Raises:
        SpecError: it has no ends.
    """
    if within is None or isinstance(within, (Box, Linf, Polytope)):
        found = within
    elif isinstance(within, (tuple, list)) and len(within) == 2:
        found = Box(*within)
    else:
        found = None
    if (found is None and within is not None) or (isinstance(found, Box) and unbounded(found)):
        raise SpecError("Inputs live in a box.", at=caller(), got=str(within)[:60], fix="within=(0, 1)")
    return found


def cut(place: Place, within: Region | None) -> Place:
    """A place cut to where inputs live; the text says to what.

    >>> from axiom_jax.verification.regions import Everything
    >>> cut(Place(Everything(), "every x"), Box(["1/5", 0], 1)).text
    'every x within [1/5, 1] × [0, 1]'
    """
    if within is None:
        return place
    return replace(place, within=within, text=f"{place.text} within {_ends(within)}")


def _ends(region: Region) -> str:
    """A region by its ends; by a digest of them where they are long."""
    if isinstance(region, Polytope) or (isinstance(region, Box) and region.shape is None):
        return str(region)
    if isinstance(region, Box):
        lo, hi = (_flat(end) for end in (region.lo, region.hi))
        count, left, right = max(len(lo), len(hi)), "[("[region.lo_open], "])"[region.hi_open]
        pairs = zip(*(end * count if len(end) == 1 else end for end in (lo, hi)), strict=True)
        if len(text := " × ".join(f"{left}{a}, {b}{right}" for a, b in pairs)) <= LONG:
            return text
    digest = hashlib.sha256(json.dumps(_plain([getattr(region, f.name) for f in fields(region)])).encode()).hexdigest()
    return f"{region} (sha256 {digest[:16]})"


def _plain(value: Any) -> Any:
    """Exact numbers as text, so that equal ends are written equally."""
    return [_plain(part) for part in value] if isinstance(value, (list, tuple)) else str(value)


def _live(region: Region | None) -> Region | None:
    placed = isinstance(region, (Box, Polytope)) or (isinstance(region, Linf) and region.center is not None)
    return region if placed and region is not None and not unbounded(region) else None


def _flat(value: Any) -> list[Any]:
    return [leaf for part in value for leaf in _flat(part)] if isinstance(value, tuple) else [value]
