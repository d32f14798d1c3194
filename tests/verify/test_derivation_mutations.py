"""Changed derivations: none whose claim is false may be accepted. Falsity is shown here, by points, a second way."""

import copy
import random
from typing import Any

import mpmath
import pytest
from derivation_builder import DIGITS, Point, Unclear, truth
from derivation_proofs import PROOFS

from axiom_jax.verification import derivation_checker as kernel
from axiom_jax.verification.derivation_checker import Node, Rejected
from axiom_jax.verification.proof.derivation import Derivation

SWAPS = [("le", "lt"), ("lt", "le"), ("le", "eq"), ("eq", "le"), ("eq", "lt"), ("eq", "ne"), ("add", "mul"),
         ("mul", "add"), ("sum", "bigmax"), ("bigmax", "sum"), ("inv", "exp"), ("exp", "inv"), ("exp", "log"),
         ("sqrt", "exp"), ("all", "some"), ("some", "all"), ("and", "or"), ("or", "and"), ("ilt", "ile"),
         ("ieq", "ile"), ("ile", "ieq"), ("erf", "sin"), ("log", "sqrt"), ("implies", "or")]  # fmt: skip
NUMBERS = ["0", "1", "-1", "2", "1/2", "-3", "1/1000"]


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[tuple[Any, ...], Any]]:
    """Every leaf of JSON with its path."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else None
    return [(path, value)] if items is None else [p for key, inner in items for p in places(inner, (*path, key))]


def changed(leaf: Any, rng: random.Random, path: tuple[Any, ...], size: int) -> Any:
    if isinstance(leaf, int):
        return leaf + rng.choice([-1, 1, 1, -2, 2]) if rng.random() < 0.7 else rng.randrange(max(size, 1))
    if path[0] == "terms" and len(path) == 3 and path[2] == 0:
        return rng.choice([new for old, new in SWAPS if old == leaf] or ["neg"])
    if leaf and (leaf[0].isdigit() or leaf[0] == "-"):
        return rng.choice(NUMBERS)
    if path[-1] == "rule":
        return rng.choice(sorted(kernel.RULES))
    if path[-1] == "name" and leaf in kernel.AXIOMS:
        return rng.choice(sorted(kernel.AXIOMS))
    return rng.choice(["n", "@i", "@j", "@k", "x", "y", "z", "m", ""])


def mutant(payload: dict[str, Any], rng: random.Random) -> dict[str, Any]:
    """The payload with one or two changes."""
    made = copy.deepcopy(payload)
    for _ in range(rng.choice([1, 1, 1, 2])):
        pick = rng.random()
        proof = made["proof"]
        if pick < 0.08 and isinstance(proof, list) and proof:
            proof.pop(rng.randrange(len(proof)))
        elif pick < 0.12 and isinstance(proof, list) and proof:
            proof.insert(rng.randrange(len(proof) + 1), copy.deepcopy(rng.choice(proof)))
        elif pick < 0.18 and made["hypotheses"]:
            made["hypotheses"].pop()
        elif pick < 0.24:
            made["goal"] = rng.randrange(len(made["terms"]))
        elif pick < 0.26:
            made["claim"] = rng.choice(["holds", "violated"])
        else:
            part = rng.choice(["terms", "terms", "proof"])
            found = places(made[part], (part,))
            if found:
                path, leaf = rng.choice(found)
                target = made
                for key in path[:-1]:
                    target = target[key]
                target[path[-1]] = changed(leaf, rng, path, len(made["terms"]))
    return made


def statement(payload: dict[str, Any]) -> tuple[list[Node], Node] | None:
    """The hypotheses and the goal, or None if they cannot be read."""
    try:
        ranks = {v["name"]: len(v["shape"]) for v in payload["variables"]}
        table: list[Node] = []
        for raw in payload["terms"]:
            table.append(kernel.decode(raw, table, ranks))
        return [kernel.read("f", k, table) for k in payload["hypotheses"]], kernel.read("f", payload["goal"], table)
    except Rejected:
        return None


def holds_at(hyps: list[Node], goal: Node, at: Point) -> bool | None:
    """Whether the hypotheses imply the goal there; None if that cannot be said."""
    try:
        return not all(truth(h, at) for h in hyps) or truth(goal, at)
    except (Unclear, OverflowError, KeyError, IndexError, RecursionError):
        return None


def is_false(payload: dict[str, Any], rng: random.Random) -> bool:
    """Whether the claim is shown to be false: a counterexample to `holds`, or a point that is none."""
    read = statement(payload)
    if read is None:
        return False
    if payload["claim"] == "holds":
        points = (Point({"n": k % 4 + 1}, rng.randrange(1 << 30)) for k in range(24))
        return any(holds_at(*read, at) is False for at in points)
    try:
        return holds_at(*read, Given(payload["proof"])) is True
    except (KeyError, ValueError, TypeError):
        return False


class Given(Point):
    """The point of a derivation that claims `violated`."""

    def __init__(self, proof: dict[str, Any]) -> None:
        super().__init__(dict(proof["sizes"]), 0)
        self.proof = proof

    def entry(self, name: str, index: tuple[int, ...]) -> Any:
        return kernel.Fraction(self.proof["values"][name][index[0] if index else 0])

    def under(self, name: str, value: int) -> "Given":
        inner = Given(self.proof)
        inner.integers = self.integers | {name: value}
        return inner


def campaign(seed: int, count: int) -> tuple[int, int, int]:
    """(mutants, those that are shown to be false, those that are accepted); fails if one is both."""
    rng = random.Random(seed)
    originals = [make().payload for make in PROOFS if make.__name__ != "gelu_is_above"]
    false = accepted = 0
    with mpmath.workdps(DIGITS):
        for _ in range(count):
            payload = mutant(rng.choice(originals), rng)
            wrong = is_false(payload, rng)
            verdict = kernel.check(Derivation(payload).to_bytes())
            false, accepted = false + wrong, accepted + verdict.accepted
            assert not (wrong and verdict.accepted), payload
    return count, false, accepted


def test_the_originals_are_true_and_accepted() -> None:
    rng = random.Random(0)
    with mpmath.workdps(DIGITS):
        for make in PROOFS:
            payload = make().payload
            assert kernel.check(Derivation(payload).to_bytes()).accepted, make.__name__
            assert not is_false(payload, rng), make.__name__


@pytest.mark.parametrize("seed", range(2))
def test_no_false_mutant_is_accepted(seed: int) -> None:
    _, false, accepted = campaign(seed, 120)
    assert false > 10 and accepted > 0  # the suite can fail, and it does not reject everything


@pytest.mark.campaign
def test_many_mutants() -> None:
    print("mutants, shown false, accepted:", campaign(1000, 20000))
