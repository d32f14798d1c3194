"""Whether the user's Python decides by a size while a condition is traced for all sizes.

JAX answers `n == 5` with False where n is symbolic: right for most sizes, wrong for one. A claim for every size may not
rest on such an answer, so comparisons of sizes in the user's code that some size would answer otherwise are noted.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import jax

from axiom_jax._shapes_places import below


@contextmanager
def size_decisions() -> Iterator[list[str]]:
    """The places, `file:line`, at which the user's code compares or hashes symbolic sizes so; filled on the way.

    >>> (n,) = jax.export.symbolic_shape("n")
    >>> with size_decisions() as places:
    ...     n == 5, n == 0, n == n
    (False, False, True)
    >>> len(places)
    1
    """
    kind = type(jax.export.symbolic_shape("n")[0])
    codes = {code: name for name in ("__eq__", "__ne__", "__hash__")
             if (code := getattr(getattr(kind, name, None), "__code__", None)) is not None}  # fmt: skip
    places: list[str] = []

    def watch(frame: FrameType, event: str, value: Any) -> None:
        if event != "return" or frame.f_code not in codes:
            return
        asking = frame.f_back
        if asking is None or below(asking) or asking.f_code in codes:
            return
        names = frame.f_code.co_varnames[:2]
        operands = [frame.f_locals[name] for name in names]
        if codes[frame.f_code] == "__hash__" or not _settled(operands, value):
            places.append(f"{asking.f_code.co_filename}:{asking.f_lineno} ({asking.f_code.co_name})")

    before = sys.getprofile()
    sys.setprofile(watch)
    try:
        yield places
    finally:
        sys.setprofile(before)


def _settled(operands: list[Any], answer: Any) -> bool:
    """Whether two sizes are equal at every size, or at none."""
    if answer is NotImplemented or len(operands) < 2:
        return True
    a, b = operands
    try:
        return bool(a - b == 0) or bool(a < b) or bool(a > b)
    except Exception:  # JAX cannot tell, which is what is asked here
        return not hasattr(b, "__int__") and type(a) is not type(b)
