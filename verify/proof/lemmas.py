"""Slopes that give better bounds of single neurons, for a certificate to name: its checker optimises nothing itself.

A search that bounds the neurons of a region by optimised lines hands on the bounds, not the lines; here they are found
again, only for neurons whose bounds are better than those the checker finds by its own rule.
Source: Xu et al. 2021, Fast and complete (α-CROWN), arXiv 2011.13824.
"""

import time
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from axiom_jax.verification.domains.interval import Interval
from axiom_jax.verification.domains.layered import below, enclosed, intermediate
from axiom_jax.verification.search.margins import Question, with_atoms

GAIN = 1e-3  # how much of its width a neuron's interval must shrink by to be worth slopes of its own
WIDTH = 128  # neurons bounded at a time


class Lemma(NamedTuple):
    """The slopes of relus, (neurons,) by number of site, that bound one neuron.

    Args:
        site, neuron: which. above: whether they bound it from above.
    """

    site: int
    neuron: int
    above: bool
    slopes: dict[int, np.ndarray]


def improved(
    question: Question,
    case: int,
    bounds: Mapping[int, tuple[np.ndarray, np.ndarray]],
    iterations: int = 20,
    deadline: float | None = None,
) -> Iterator[Lemma]:
    """Slopes for the neurons of a case whose given bounds are better than those of the checker's rule.

    Args:
        bounds: by number of site, (lo, hi) over the whole case, as a search found them.
        iterations: steps of optimisation. deadline: on `time.monotonic`; what is left then is left out.

    >>> import jax
    >>> from fractions import Fraction
    >>> from axiom_jax.verification.property import Atom, Case, Property
    >>> from axiom_jax.verification.search.margins import Subject, pose
    >>> subject = Subject(lambda _, x: jax.nn.relu(jax.nn.relu(x) - 1), (), (jax.ShapeDtypeStruct((1,), np.float32),))
    >>> low = Atom(((0, Fraction(1)),), Fraction(0))
    >>> question = pose(subject, Property((Case((Fraction(-1),), (Fraction(1),), ((low,),)),)))
    >>> list(improved(question, 0, {0: (-np.ones(1), np.ones(1)), 1: (-np.ones(1), np.zeros(1))}))
    []
    """
    plan, number = question.plan, {v: k for k, v in enumerate(question.plan.sites)}
    values = with_atoms(question.values, question.slots, question.spec, case)
    lo, hi = question.lo[case].astype(np.float32), question.hi[case].astype(np.float32)
    plain = intermediate(plan, values, lo, hi, deadline=deadline)
    boxes = {v: Interval(*(jnp.asarray(end, jnp.float32).reshape(v.shape) for end in bounds[k]))
             for v, k in number.items() if k in bounds}  # fmt: skip
    region = enclosed(plan, values, lo, hi, boxes=boxes, method="interval")
    for v, site in number.items():
        if v not in boxes or v not in plain:
            continue
        (low, high), (old_low, old_high) = ((np.ravel(b.lo), np.ravel(b.hi)) for b in (boxes[v], plain[v]))
        gained = np.maximum(low - old_low, old_high - high) > GAIN * (old_high - old_low)
        signs_only = all(plan.kind(e) != "curve" and e.name in ("max", "gt") for e in plan.varying
                         if v in plan.tightened(e))  # fmt: skip
        ids = np.flatnonzero(gained & ((old_low < 0) & (old_high > 0) if signs_only else old_low < old_high))
        for first in range(0, len(ids), WIDTH):
            if deadline is not None and time.monotonic() > deadline:
                return
            some = ids[first : first + WIDTH]
            width = 1 << (len(some) - 1).bit_length()
            rows = np.zeros((2, width, v.size), np.float32)
            rows[0, np.arange(len(some)), some], rows[1, np.arange(len(some)), some] = 1, -1
            start = {v: jnp.asarray(rows.reshape(2 * width, *v.shape))}
            found = below(region, start, iterations=iterations, deadline=deadline)
            slopes = {number[step.inputs[step.operand]]: np.asarray(found.choices[k][0]).reshape(2, width, -1)
                      for k, step in enumerate(region.steps)
                      if k in found.choices and step.piece.equations[0].name == "max"}  # fmt: skip
            for i, neuron in enumerate(some.tolist() if slopes else ()):
                for side in range(2):
                    yield Lemma(site, neuron, bool(side), {k: part[side, i] for k, part in slopes.items()})
