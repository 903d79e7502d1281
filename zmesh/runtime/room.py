"""Senders waiting for credit: shared by links, the local queue and topics."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections import deque

from zmesh.errors import NetworkError
from zmesh.wire.limits import FRAME_BYTES

__all__ = ["Room"]


class Room(ABC):
    """A budget of bytes that senders spend, refilled by flushes and by credit.

    ``budget`` is what may still be appended before the next flush: the credit left, or a frame, whichever is less. One
    number for both keeps the hot path to one comparison. Where it is not positive a sender calls ``wait_for_room``,
    which
    flushes, and waits if credit is what is missing. ``closed`` is why nothing more can be sent; the budget is 0 then.
    """

    __slots__ = ("_base", "_waiters", "budget", "closed")

    def __init__(self, room: int) -> None:
        self._base = self.budget = min(room, FRAME_BYTES)
        self.closed: NetworkError | None = None
        self._waiters: deque[tuple[asyncio.Future[None], int]] = deque()

    @property
    def pending_bytes(self) -> int:
        """What has been appended since the last flush, as estimated for the budget."""
        return self._base - self.budget

    def refill(self, room: int) -> None:
        """After a flush: ``room`` bytes of credit are left, and nothing is pending."""
        if self.closed is None:
            self._base = self.budget = min(room, FRAME_BYTES)

    def update_credit(self, room: int) -> None:
        """Credit has changed to ``room`` bytes, what is pending not subtracted; waiting senders may go on."""
        if self.closed is None:
            pending = self._base - self.budget
            self._base = min(room, FRAME_BYTES)
            self.budget = self._base - pending
            if self._waiters:
                self.wake_waiters(room - pending)

    async def wait_for_room(self, size: int) -> None:
        """Wait, in turn, until something may be sent. ``size`` is what the caller will send.

        Raises the reason of closing when that happens first.
        """
        while self.budget <= 0:
            self.check_open()
            self.flush()
            if self.budget > 0:
                return
            await self._wait_for_credit(size)

    async def _wait_for_credit(self, size: int) -> None:
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.append((waiter, size))
        self.credit_wanted()
        try:
            await waiter
        except asyncio.CancelledError:
            self.wake_waiters(size)  # what this one was given goes to the next
            raise

    def wake_waiters(self, room: int) -> None:
        """Let as many waiting senders go on as ``room`` bytes suffice for, first come first served."""
        while self._waiters and room > 0:
            waiter, size = self._waiters.popleft()
            if not waiter.done():
                room -= size
                waiter.set_result(None)

    def check_open(self) -> None:
        """Raise why this was closed, if it was: a new exception each time, whose traceback is its own."""
        if self.closed is not None:
            raise type(self.closed)(*self.closed.args)

    def close(self, error: NetworkError) -> None:
        """Send nothing more; every sender that waits, or comes later, gets ``error``."""
        self.closed = error
        self._base = self.budget = 0
        while self._waiters:
            waiter, _ = self._waiters.popleft()
            if not waiter.done():
                waiter.set_exception(type(error)(*error.args))

    @abstractmethod
    def flush(self) -> None:
        """Send everything appended so far, and ``refill``."""

    @abstractmethod
    def credit_wanted(self) -> None:
        """A sender waits for credit: see to it that whoever can give it is asked."""
