"""The fast check says what the checker says, but for roundings, and never more."""

import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import checker_builder as build
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from axiom_jax.verification import checker, fast_check

seeds = st.integers(0, 2**32 - 1)
examples = lambda count: settings(max_examples=count, deadline=None, derandomize=True)


def random_certificate(seed: int, smooth: bool, profile: str = "") -> dict[str, Any]:
    """A random program, box and property, and a tree with everything that trees may have."""
    rng = np.random.default_rng(seed)
    nodes, tensors = build.random_program(rng, smooth, length=int(rng.integers(2, 12)))
    middle, radius = rng.normal(size=nodes[0]["size"]), 10 ** rng.uniform(-3, 0.3, size=nodes[0]["size"])
    ends = [[Fraction(round(x * 64), 64) for x in end] for end in (middle - radius, middle + radius)]
    net = checker.load_network(build.model(nodes, tensors), build.tensor_file(tensors), profile)
    net.prepare()
    places = [(k, j) for k in (0, *net.feeding) for j in range(net.nodes[k].size)]
    some = lambda count: [places[i] for i in rng.integers(0, len(places), count)]
    values = build.evaluate_many(nodes, tensors, middle[None])
    splits = [(k, j, Fraction(round(float(values[k][0, j]) * 64 + rng.normal()), 64)) for k, j in some(4)]
    slots = sorted(set(some(8)))
    tables = [[int(x) for x in rng.integers(0, 256, int(rng.integers(0, len(slots) + 1)))] for _ in range(3)]
    lemmas = [[k, j, *(int(x) for x in rng.integers(-1, 3, 2))] for k, j in some(int(rng.integers(0, 4)))]
    leaves: list[Any] = []

    def below(depth: int, path: int) -> list[int]:
        odd = int(rng.integers(0, 2))
        if depth == 0 or rng.random() < 0.2:
            betas = [[Fraction(int(x), 64) for x in rng.integers(-8, 20, path) * rng.integers(0, 2, path)] for _ in "ab"]
            rows = [build.row(d, {0: 1} | ({1: int(rng.integers(0, 2))} if d else {}), int(rng.integers(-1, 3)), betas[d])
                    for d in range(2)]  # fmt: skip
            if rng.random() < 0.5:
                leaves.append(rows)
                return [-2 * len(leaves) + odd]
            leaves.extend([rows[:1], rows[1:]])
            return [-2 * len(leaves) + 2 + odd, -2 * len(leaves) + int(rng.integers(0, 2))]
        width = nodes[0]["size"]
        which = int(rng.integers(0, width + 4)) if rng.random() < 0.7 else int(rng.integers(0, width))
        path += which >= width
        return [2 * which + odd, *below(depth - 1, path), *below(depth - 1, path)]

    tokens = below(int(rng.integers(0, 4)), 0)
    tree = build.forest(tokens, leaves, [[0, 1]], splits, tables, slots, lemmas, str(rng.choice(["crown", "crown", "ibp"])))
    size, pick = len(values[-1][0]), lambda: Fraction(int(rng.integers(-9, 10)), int(rng.integers(1, 9)))
    atom = lambda threshold: build.atom({int(rng.integers(0, size)): pick(), 0: pick()}, threshold, {0: pick()})
    unsafe = [[atom(0)], [atom(0), atom(Fraction(1, 3))]]
    case = build.case(*ends, unsafe)
    return build.certificate(nodes, tensors, [case], {"kind": "tree", "trees": [tree]}, profile=profile)


def both(payload: dict[str, Any]) -> tuple[Any, Any]:
    data = build.seal(payload)
    return checker.check(data), fast_check.check(data)


def scale_of(payload: dict[str, Any]) -> float:
    """How large the numbers in a program get, roughly."""
    case = payload["property"]["cases"][0]["exact"]
    ends = np.array([[float(Fraction(x)) for x in case[end]] for end in ("lo", "hi")])
    nodes, tensors = payload["model"]["program"]["nodes"], build.tensors_of(payload)
    with np.errstate(all="ignore"):
        values = build.evaluate_many(nodes, tensors, ends)
    return 1 + float(max(np.abs(v).max() for v in values))


@examples(150)
@given(seed=seeds, smooth=st.booleans(), profile=st.sampled_from(["", "", "cpu", "cuda"]))
def test_margins_and_failed_leaves_are_the_checkers(seed: int, smooth: bool, profile: str) -> None:
    payload = random_certificate(seed, smooth, profile)
    slow, fast = both(payload)
    assert fast.leaves == slow.leaves or slow.margin is None, (slow.reason, fast.reason)
    assume(slow.margin is not None and abs(slow.margin) < 1e9)
    assert fast.margin is not None, (slow.reason, fast.reason)
    slack = 1e-6 * scale_of(payload) ** 2
    assert abs(float(fast.margin - slow.margin)) <= 1e-6 * abs(slow.margin) + slack, (seed, slow.margin, fast.margin)
    assert (fast.failed, fast.accepted) == (slow.failed, slow.accepted) or abs(float(slow.margin)) < slack
