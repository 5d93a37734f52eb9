"""Connections that a client leaves half open: they are closed, so that nothing stays for ever.

uvicorn closes those that wait for a next request. By itself it waits without end for the rest of a
request, and for a client that reads no more of its answer.
"""

from __future__ import annotations

import asyncio
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

_LOOKS = 4  # at a connection, within the time that it has


def protocol(patience: float, least: int = 10_000) -> type[H11Protocol]:
    """A uvicorn protocol that waits so long and no longer.

    Args:
        patience: seconds for the whole head of a request, for each `least` bytes of its body, and
            for the client to take some of an answer.
        least: bytes.
    """
    return type("Protocol", (_Patient,), {"patience": patience, "least": least})


class _Patient(H11Protocol):
    patience: float
    least: int

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._received = 0  # bytes since the client was last seen to move on
        self._resumed = 0  # how often it took enough of an answer for more to be written
        self._owed: tuple[Any, ...] | None = None
        self._since = self.loop.time()
        self._look()

    def connection_lost(self, exc: Exception | None) -> None:
        self._next_look.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._received += len(data)
        super().data_received(data)

    def resume_writing(self) -> None:
        self._resumed += 1
        super().resume_writing()

    def _look(self) -> None:
        """Close the connection if the client has owed the same thing for too long."""
        owed, now = self._debt(), self.loop.time()
        went_on = self.conn.their_state is h11.SEND_BODY and self._received >= self.least
        if owed is None or owed != self._owed or went_on:
            self._owed, self._since, self._received = owed, now, 0
        elif now - self._since >= self.patience:
            self.transport.abort()
        self._next_look: asyncio.TimerHandle = self.loop.call_later(
            self.patience / _LOOKS, self._look
        )

    def _debt(self) -> tuple[Any, ...] | None:
        """What the client is to do next, and something that changes when it did.

        None: it is the hub's turn.
        """
        if unsent := self.transport.get_write_buffer_size():
            return "take the answer", self._resumed, unsent
        if self.flow.read_paused or self.conn.they_are_waiting_for_100_continue:
            return None
        if self.conn.their_state in (h11.IDLE, h11.SEND_BODY):
            return self.conn.their_state, self.cycle  # the last request, of which this is the rest
        return None
