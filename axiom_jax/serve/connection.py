"""Connections that do not wait forever for a client to say what it wants."""

import asyncio
from typing import Any

from uvicorn.protocols.http.auto import AutoHTTPProtocol

Protocol: Any = AutoHTTPProtocol  # httptools where it is installed, else h11


class Patient(Protocol):
    """uvicorn's HTTP protocol, which closes a connection whose request head does not arrive in time.

    uvicorn itself waits without end for the first byte and between the lines of a head, so that a few
    clients that send a byte a minute could hold every connection.
    """

    seconds = 30.0
    patience: asyncio.TimerHandle | None = None

    @classmethod
    def within(cls, seconds: float) -> Any:
        """The protocol with another time limit."""
        return type("Patient", (cls,), {"seconds": seconds})

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._wait()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        answering = self.cycle is not None and not self.cycle.response_complete
        if answering and self.patience is not None:
            self.patience.cancel()
            self.patience = None
        elif not answering:
            self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        if self.patience is not None:
            self.patience.cancel()
        super().connection_lost(exc)

    def _wait(self) -> None:
        if self.patience is None:
            self.patience = asyncio.get_running_loop().call_later(self.seconds, self._close)

    def _close(self) -> None:
        self.patience = None
        if (self.cycle is None or self.cycle.response_complete) and not self.transport.is_closing():
            self.transport.close()
