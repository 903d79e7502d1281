"""Senders waiting for credit: shared by links, the local queue and topics."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections import deque

from zmesh.errors import NetworkError

__all__ = ["Room"]


class Room(ABC):
    """``room`` is what may be sent now, in bytes, with all that waits already subtracted; senders wait while it is not positive.

    ``closed`` is why nothing more can be sent; ``room`` is 0 then, so that a hot path need not look.
    """

    __slots__ = ("_waiters", "closed", "room")

    def __init__(self, room: int) -> None:
        self.room = room
        self.closed: NetworkError | None = None
        self._waiters: deque[tuple[asyncio.Future[None], int]] = deque()

    async def wait_for_room(self, size: int) -> None:
        """Wait, in turn, until something may be sent. ``size`` is what the caller will send.

        Raises the reason of closing when that happens first.
        """
        while self.room <= 0:
            if self.closed is not None:
                raise self.closed
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiters.append((waiter, size))
            self.room_wanted()
            try:
                await waiter
            except asyncio.CancelledError:
                self.wake_waiters()  # the room this one was given goes to the next
                raise

    def wake_waiters(self) -> None:
        """Let as many waiting senders go on as there is room for, first come first served."""
        room = self.room
        while self._waiters and room > 0:
            waiter, size = self._waiters.popleft()
            if not waiter.done():
                room -= size
                waiter.set_result(None)

    def close(self, error: NetworkError) -> None:
        """Send nothing more; every sender that waits, or comes later, gets ``error``."""
        self.closed = error
        self.room = 0
        while self._waiters:
            waiter, _ = self._waiters.popleft()
            if not waiter.done():
                waiter.set_exception(error)

    @abstractmethod
    def room_wanted(self) -> None:
        """A sender waits for room: see to it that whoever can give it is asked."""
