"""How long, and how often, XLA compiled in this process, and compiling in a thread beside the search.

Listens to `jax.monitoring`.
"""

import time
from collections.abc import Callable, Hashable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any

import jax

_seconds = 0.0
_count = 0
_made: dict[Hashable, "Future[None]"] = {}
_workers = ThreadPoolExecutor(1, "compiling")


def _listen(event: str, duration_secs: float, **_: str | int) -> None:
    global _seconds, _count
    if event.startswith("/jax/core/compile/"):
        _seconds += duration_secs
        _count += event.endswith("backend_compile_duration")


jax.monitoring.register_event_duration_secs_listener(_listen)


def compile_seconds() -> float:
    """Seconds spent tracing, lowering and compiling so far."""
    return _seconds


def compile_count() -> int:
    """XLA programs compiled so far, whether or not from the persistent cache."""
    return _count


def compiled_before(key: Hashable, call: Callable[[], Any]) -> bool:
    """Whether what a call compiles is ready; if it is not, it is called in a thread, so that it will be.

    Args:
        key: the same for calls that compile the same.
        call: calls jitted functions; what it returns or raises is of no interest.

    >>> key = ("doctest", 1)
    >>> compiled_before(key, lambda: None)
    False
    >>> wait_for_compilations() in (True, False)
    True
    >>> compiled_before(key, lambda: None)
    True
    """
    if key not in _made:

        def compiles() -> None:  # what is called may be large: it is not kept
            call()

        _made[key] = _workers.submit(compiles)
        return False
    return _made[key].done() and _made[key].exception() is None


def compiled_by(deadline: float, key: Hashable) -> bool:
    """Wait until what `compiled_before` began is ready, or failed; whether that is before a time on `time.monotonic`.

    >>> compiled_before(("doctest", 2), lambda: None), compiled_by(time.monotonic() + 60, ("doctest", 2))
    (False, True)
    """
    try:
        _made[key].exception(max(deadline - time.monotonic(), 0.0))
    except TimeoutError:
        return False
    return True


def compiles() -> bool:
    """Whether anything is being compiled in a thread."""
    return any(not made.done() for made in list(_made.values()))


def wait_for_compilations(deadline: float | None = None) -> bool:
    """Wait until what is being compiled in threads is ready, or until a time on `time.monotonic`.

    Returns:
        Whether anything was being compiled.
    """
    under_way = [made for made in list(_made.values()) if not made.done()]
    wait(under_way, None if deadline is None else max(deadline - time.monotonic(), 0.0))
    return bool(under_way)
