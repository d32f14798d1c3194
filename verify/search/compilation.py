"""How long, and how often, XLA compiled in this process. Listens to `jax.monitoring`."""

import jax

_seconds = 0.0
_count = 0


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
