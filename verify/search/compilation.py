"""How long, and how often, XLA compiled in this process, and work in threads that is waited for until a deadline.

A compilation cannot be stopped: where time is out it is left behind and goes on, so that what it makes is there for a
later call. Listens to `jax.monitoring`.
"""

import contextvars
import threading
import time
from collections.abc import Callable, Hashable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any, TypeVar

import jax

T = TypeVar("T")
LOOKS = 0.2  # seconds between looks for Ctrl-C

_seconds = 0.0
_count = 0
_made: dict[Hashable, "Future[None]"] = {}
_workers = ThreadPoolExecutor(1, "compiling")
_left: "set[Future[Any]]" = set()  # that nobody waits for any more


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


def beside(call: Callable[[], T]) -> "Future[T]":
    """Call something in a thread of its own, in the context and on the default device of this one.

    >>> beside(lambda: 6 * 7).result()
    42
    """
    context, device, made = contextvars.copy_context(), getattr(jax.config, "jax_default_device", None), Future[T]()

    def calls() -> None:
        try:
            with jax.default_device(device):
                found = context.run(call)
        except BaseException as error:  # Ctrl-C too is raised where the result is asked for
            made.set_exception(error)
        else:
            made.set_result(found)

    threading.Thread(target=calls, name="beside").start()
    return made


def ended(work: "Future[Any]", deadline: float) -> bool:
    """Wait for what was begun with `beside`, at most until a time on `time.monotonic`; whether it has ended.

    What has not, goes on and counts as a compilation until it ends, also where Ctrl-C ended the waiting.

    >>> ended(beside(lambda: None), time.monotonic() + 60)
    True
    """
    try:
        while not work.done() and (left := deadline - time.monotonic()) > 0:
            wait([work], min(left, LOOKS))  # a signal does not always end a wait
    finally:
        if not work.done():
            _left.add(work)
            work.add_done_callback(_left.discard)
    return work.done()


def _under_way() -> "list[Future[Any]]":
    return [made for made in [*list(_made.values()), *list(_left)] if not made.done()]


def compiles() -> bool:
    """Whether anything is being compiled in a thread, or was left behind in one."""
    return bool(_under_way())


def wait_for_compilations(deadline: float | None = None) -> bool:
    """Wait until what is being compiled in threads is ready, or until a time on `time.monotonic`.

    Returns:
        Whether anything was being compiled.
    """
    under_way = _under_way()
    wait(under_way, None if deadline is None else max(deadline - time.monotonic(), 0.0))
    return bool(under_way)
