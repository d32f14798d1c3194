"""The judgement of `checker.py` in binary64 with numpy, many boxes at once: faster, and not the judgement of record.

Everything that is no arithmetic is the checker's own code: reading, validation, points, words. Bounds on neurons and
leaves are computed in floats, every rounding being charged (`_fast_bounds`), so what is accepted here holds as far as
IEEE 754 and numpy do. Sums of multipliers are charged by their sizes rather than rounded to a grid that keeps them
exact: a grid coarse enough for binary64 would cost 1e-5 a layer, and thin margins with it.
"""

import hashlib
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from functools import partial
from types import FunctionType
from typing import Any

import numpy as np

from axiom_jax.verification import checker
from axiom_jax.verification._fast_network import FloatNetwork
from axiom_jax.verification._fast_tree import Walk, steps_of


def check(data: bytes, threads: int = 1) -> checker.Result:
    """Judge the bytes of a certificate about a network, in floats. It raises nothing.

    Args:
        data: the file. threads: how many chunks of passes are computed at a time.

    Returns:
        As `checker.check`: `accepted`, `code`, `reason`, `lines`, `levels`, `failed` and `leaves`; `margin` differs
        from the checker's by the roundings of both, in most cases by 1e-9 or less.

    >>> check(b"{}").reason
    'the file is not of the form that the format asks for'
    """
    result = checker.Result()
    with ThreadPoolExecutor(threads) as pool, np.errstate(all="ignore"):
        spread = pool.map if threads > 1 else map
        names = {"load_network": _load_network, "check_tree": partial(_check_tree, spread)}
        judge = FunctionType(checker.judge.__code__, vars(checker) | names)  # its code, with floats for these two names
        try:
            result.lines = [*judge(data, result), f"arithmetic   {ARITHMETIC}"]
            result.accepted, result.code = True, 0
        except (checker.Unreadable, checker.Rejected) as error:
            result.code = 2 if isinstance(error, checker.Unreadable) else 1
            result.reason = repr(str(error))[1:-1][:1000]
        except Exception as error:  # as the checker does
            result.reason = f"the fast check could not finish: {type(error).__name__} {str(error)[:200]!r}"
    return result


ARITHMETIC = (
    f"IEEE 754 binary64, by numpy {np.__version__}, errors charged; not the judgement of record: checker.py's is"
)


def _load_network(model: Any, blob: bytes, profile: str = "") -> FloatNetwork:
    """The network; the last two are kept, since a search asks about one network several times."""
    key = hashlib.sha256(checker.canonical([model, profile])).digest()
    found = _LOADED.get((key, hashlib.sha256(blob).digest()))
    if found is None:
        found = FloatNetwork(checker.load_network(model, blob, profile))
        while len(_LOADED) > 1:
            _LOADED.pop(next(iter(_LOADED)), None)
        _LOADED[key, hashlib.sha256(blob).digest()] = found
    return found


_LOADED: dict[tuple[bytes, bytes], FloatNetwork] = {}


def _check_tree(
    spread: Any, net: FloatNetwork, number: int, case: checker.Case, tree: checker.Tree, result: checker.Result
) -> None:
    """What `checker.check_tree` does."""
    small = not net.profile or max(map(abs, case.lo + case.hi)) < 1 << 60 + checker.H
    checker.need(small, "level float32: an input may be too large")
    first = result.leaves
    roots, leaves = steps_of(net, case, tree, first)
    walk = Walk(net, case, tree, spread)
    walk.run(roots)
    result.leaves = leaves
    result.failed += [(number, leaf - first) for leaf in sorted(walk.failed)]
    if walk.margin < float("inf"):
        found = Fraction(walk.margin) if walk.margin > -np.inf else Fraction(-(1 << 1000))
        result.margin = found if result.margin is None else min(result.margin, found)
