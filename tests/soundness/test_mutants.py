"""That the checker refuses what is false, tried on whole certificates that the searches made.

Every mutant is judged by the checker and by an oracle that shares no code with it. An accepted one must be true, as
far as the oracle can find out, and why it may be true is counted: run with `-s` to read that.
"""

import json
import sys
from collections import Counter
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import mpmath
import pytest

sys.path.insert(0, str(Path(__file__).parent))
import certificate_mutants
from claim_oracle import build, judged, number
from proved_models import ALWAYS, MORE

checker = build.load_checker()
SOME, MANY = 16, 400  # mutants of a certificate, always and in the campaign
Make = Callable[[], dict[str, Any]]


def why(base: dict[str, Any], mutant: dict[str, Any]) -> str:
    """How an accepted mutant differs from what it was made of, as far as its claim is concerned."""
    if mutant["profile"] != base["profile"] or mutant["claim"] != base["claim"]:
        return "another level or claim, which holds too"
    if mutant["model"]["program"] != base["model"]["program"] or mutant["weights"] != base["weights"]:
        return "another network, of which it holds too"
    if (said := [mutant["property"]["cases"], base["property"]["cases"]])[0] != said[1]:
        plainly = base["claim"] == "holds" and weaker(*said)
        return "a claim that is weaker" if plainly else "another claim, within the margin or the proof"
    same = mutant["proof"] == base["proof"]
    return "names and remarks" if same else "other hints for the same claim"


def weaker(new: Any, old: Any) -> bool:
    """Whether cases say no more than others plainly: fewer, of smaller boxes, with lower thresholds."""
    if len(new) != len(old):
        return all(case in old for case in new)
    for a, b in zip(new, old, strict=True):
        ends = zip(*([number(x) for x in c["exact"][e]] for c, e in ((a, "lo"), (b, "lo"), (b, "hi"), (a, "hi"))),
                   strict=True)  # fmt: skip
        if any(not low <= x <= y <= high for x, low, high, y in ends) or len(a["unsafe"]) > len(b["unsafe"]):
            return False
        for d, e in zip(a["unsafe"], b["unsafe"], strict=False):
            if len(d) < len(e) or any(
                x | {"threshold": "", "strict": 0} != y | {"threshold": "", "strict": 0}
                or (Fraction(x["threshold"]), not x["strict"]) > (Fraction(y["threshold"]), not y["strict"])
                for x, y in zip(d, e, strict=False)
            ):
                return False
    return True


def campaign(name: str, make: Make, count: int, every: int) -> Counter[str]:
    """Judge mutants of a certificate; of one refused in `every` the oracle is asked too. What was found, counted."""
    base = make()
    good = checker.check(build.seal(base))
    assert good.accepted, (name, good.reason)
    assert judged(base).what != "false"
    killed, seen, reasons, found = Counter[str](), Counter[str](), Counter[str](), Counter[str]()
    for number_, (kind, mutant, must) in enumerate(certificate_mutants.mutants(base, name, count)):
        data = mutant if isinstance(mutant, bytes) else build.seal(mutant)
        result = checker.check(data)
        seen[kind] += 1
        killed[kind] += not result.accepted
        assert "internal" not in result.reason, (name, kind, result.reason)
        assert not (result.accepted and must), (name, kind, number_)
        payload = json.loads(data)["payload"] if result.accepted else mutant
        if isinstance(payload, bytes) or (number_ % every and not result.accepted):
            continue
        truth = judged(payload)
        assert not (result.accepted and truth.what == "false"), (name, kind, number_, truth.how)
        if result.accepted:
            reasons[f"{why(base, payload)}: {kind}, {truth.what} by {truth.how}"] += 1
        found["accepted" if result.accepted else f"refused, {truth.what}"] += 1
    rate = {kind: f"{killed[kind]}/{n}" for kind, n in sorted(seen.items())}
    print(
        f"\n{name}: {sum(killed.values())} of {sum(seen.values())} refused, of what the oracle was asked {dict(found)}"
    )
    print("  refused by kind:", rate)
    print("  accepted though changed:", *(f"    {n} {reason}" for reason, n in sorted(reasons.items())), sep="\n")
    return found + Counter({"mutants": sum(seen.values()), "refused": sum(killed.values())})


@pytest.mark.sweep(2)
@pytest.mark.parametrize("name", ALWAYS)
def test_no_mutant_is_accepted_whose_claim_is_false(name: str) -> None:
    with mpmath.workdps(60):
        found = campaign(name, ALWAYS[name], SOME, every=4)
    assert found["mutants"] == SOME and found["refused"] > SOME // 3


@pytest.mark.campaign
@pytest.mark.parametrize("name", [*ALWAYS, *MORE])
def test_campaign(name: str) -> None:
    """3,000 mutants and more; `pytest -n 0 -s -m campaign tests/soundness/test_mutants.py`."""
    with mpmath.workdps(60):
        found = campaign(name, (ALWAYS | MORE)[name], MANY, every=3)
    assert found["mutants"] == MANY and found["refused"] > MANY // 2 and found["refused, false"] > 10


@pytest.mark.parametrize("shift", [Fraction(-1, 2), Fraction(-1, 32), Fraction(1, 2**30), Fraction(1)])
def test_the_oracle_knows_what_is_true(shift: Fraction) -> None:
    """A threshold above the least value is found to be attained, one below it is not, by every way of the oracle."""
    base = ALWAYS["neurons"]()
    atom = base["property"]["cases"][0]["unsafe"][0][0]
    low, high = Fraction(-64), Fraction(64)
    while high - low > Fraction(1, 2**33):  # the least value, by bisection
        middle = (low + high) / 2
        atom["threshold"] = str(middle)
        low, high = (low, middle) if judged(base).what == "false" else (middle, high)
    atom["threshold"] = str(high + shift)
    assert judged(base).what == ("false" if shift > 0 else "true")
    if abs(shift) > Fraction(1, 100):
        assert judged(base | {"profile": "cpu"}, tries=2000).what == ("false" if shift > 0 else "open")
