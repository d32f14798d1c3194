"""One thread per model that computes what event loops ask for, so that none of them ever waits.

All requests that wait are taken at once and their answers go back together: with many connections the cost of
changing threads is shared. This is the place for a scheduler that merges requests into one batch.
"""

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from axiom_jax.serve.limits import Refusal

FLUSH_SECONDS = 1e-3  # answers wait this long at most for others to go back with


class Lane:
    """Calls of one function, in order, on a thread of its own.

    Args:
        function: what to compute.
        limit: how many calls may wait.
        name: of the thread.

    >>> lane = Lane(lambda x: x + 1, 8, "example")
    >>> async def ask():
    ...     return await asyncio.gather(lane.call(1), lane.call(2))
    >>> asyncio.run(ask())
    [2, 3]
    >>> lane.close()
    """

    def __init__(self, function: Callable[..., Any], limit: int, name: str):
        self.function, self.limit, self.name = function, limit, name
        self.waiting: deque[tuple[asyncio.Future[Any], tuple[Any, ...]]] = deque()
        self.changed = threading.Condition()
        self.thread: threading.Thread | None = None
        self.closed = False

    async def call(self, *arguments: Any) -> Any:
        """The function's result; what it raises is raised here.

        Raises:
            Refusal: too many calls wait (503), or the lane is closed (503).
        """
        future = asyncio.get_running_loop().create_future()
        with self.changed:
            if self.closed or len(self.waiting) >= self.limit:
                what = "The server is stopping." if self.closed else f"Too many requests wait for {self.name}."
                raise Refusal(what, status=503, fix="ask again later")
            if self.thread is None:
                self.thread = threading.Thread(target=self._work, name=f"axiom-{self.name}", daemon=True)
                self.thread.start()
            self.waiting.append((future, arguments))
            self.changed.notify()
        return await future

    def close(self) -> None:
        """Finish what waits, then end the thread."""
        with self.changed:
            self.closed = True
            self.changed.notify()
        if self.thread is not None:
            self.thread.join()

    def _work(self) -> None:
        while True:
            with self.changed:
                while not self.waiting:
                    if self.closed:
                        return
                    self.changed.wait()
                taken = list(self.waiting)
                self.waiting.clear()
            done: list[tuple[asyncio.Future[Any], Any, BaseException | None]] = []
            last = time.monotonic()
            for future, arguments in taken:
                if future.cancelled():  # the client is gone
                    continue
                try:
                    done.append((future, self.function(*arguments), None))
                except Exception as error:
                    done.append((future, None, error))
                if (now := time.monotonic()) - last > FLUSH_SECONDS:
                    _answer(done)
                    done, last = [], now
            _answer(done)


def _answer(done: list[tuple[asyncio.Future[Any], Any, BaseException | None]]) -> None:
    """Hand results to the event loops that wait for them, one call a loop."""
    loops = {future.get_loop() for future, _, _ in done}
    for loop in loops:
        mine = [item for item in done if item[0].get_loop() is loop]
        try:
            loop.call_soon_threadsafe(_settle, mine)
        except RuntimeError:  # the loop was closed meanwhile: nobody waits any more
            continue


def _settle(done: list[tuple[asyncio.Future[Any], Any, BaseException | None]]) -> None:
    for future, result, error in done:
        if future.done():
            continue
        if error is None:
            future.set_result(result)
        else:
            future.set_exception(error)
