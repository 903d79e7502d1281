"""Whoever waits for the acknowledgement of a record: shared by links, the local queue and topics."""

from __future__ import annotations

import asyncio
import heapq
from itertools import count

from zmesh.errors import NetworkError

__all__ = ["WaitingReceipts"]


class WaitingReceipts:
    """Futures by record number, fulfilled in order as acknowledgements pass them."""

    __slots__ = ("_loop", "_tie", "waiting")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.waiting: list[tuple[int, int, asyncio.Future[None]]] = []  # a heap
        self._tie = count()  # futures themselves cannot be compared

    async def wait(self, number: int) -> None:
        """Wait until the record is acknowledged. Raises what ``fail`` is given."""
        future: asyncio.Future[None] = self._loop.create_future()
        heapq.heappush(self.waiting, (number, next(self._tie), future))
        await future

    def acknowledge(self, below: int) -> None:
        """Every record below this number has arrived."""
        heap = self.waiting
        while heap and heap[0][0] < below:
            _, _, future = heapq.heappop(heap)
            if not future.done():
                future.set_result(None)

    def fail(self, error: NetworkError) -> None:
        """No more acknowledgements will come. Each waiter gets an exception of its own, with a traceback of its own."""
        heap, self.waiting = self.waiting, []
        for _, _, future in heap:
            if not future.done():
                future.set_exception(type(error)(*error.args))
