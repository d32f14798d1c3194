"""Work in threads that is waited for until a deadline, and what is left behind."""

import contextvars
import threading
import time

import jax
import pytest

from axiom_jax.verification.search.compilation import beside, compiles, ended, wait_for_compilations


def test_what_is_called_beside_has_the_context_and_the_device_of_its_caller():
    asked, device = contextvars.ContextVar("asked"), jax.devices("cpu")[0]
    asked.set("here")
    with jax.default_device(device):
        found = beside(lambda: (asked.get(), jax.config.jax_default_device, threading.current_thread())).result()
    assert found[:2] == ("here", device) and found[2] is not threading.main_thread()
    assert beside(lambda: jax.config.jax_default_device).result() is None


@pytest.mark.parametrize("error", [ValueError("no"), KeyboardInterrupt()])
def test_what_is_raised_beside_is_raised_where_the_result_is_asked_for(error):
    def fails():
        raise error

    work = beside(fails)
    assert ended(work, time.monotonic() + 60)
    with pytest.raises(type(error)) as caught:
        work.result()
    assert caught.value is error


def test_what_is_late_is_left_behind_and_counts_until_it_ends():
    assert not wait_for_compilations(time.monotonic() + 60) or not compiles()
    gate = threading.Event()
    work, start = beside(lambda: gate.wait(20)), time.monotonic()
    assert not compiles()  # somebody waits for it
    assert not ended(work, start + 0.05) and time.monotonic() - start < 5
    assert compiles() and wait_for_compilations(time.monotonic()) and compiles()
    gate.set()
    assert wait_for_compilations(time.monotonic() + 60) and not compiles() and work.done()
