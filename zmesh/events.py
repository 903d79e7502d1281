"""Streams of events for any number of watchers, each with a bounded queue of its own."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Final, Generic, TypeVar

from zmesh.errors import NetworkError

__all__ = ["WATCHER_QUEUE_EVENTS", "EventStream"]

WATCHER_QUEUE_EVENTS: Final = 65_536  # a watcher this far behind is told so, by an error, instead of losing events

T = TypeVar("T")


class EventStream(Generic[T]):
    """Whatever is emitted reaches every watcher, in order and without gaps."""

    def __init__(self) -> None:
        self._watchers: list[_Watcher[T]] = []
        self._is_closed = False

    def emit(self, event: T) -> None:
        """Give an event to every watcher."""
        for watcher in self._watchers:
            watcher.put(event)

    def close(self) -> None:
        """Watchers end after what they have been given; whoever comes later gets the beginning only."""
        self._is_closed = True
        for watcher in self._watchers:
            watcher.end()

    async def watch(self, first: Callable[[], Iterable[T]]) -> AsyncIterator[T]:
        """What ``first()`` gives, and then every event from then on. Raises ``NetworkError`` for a watcher too far
        behind.

        ``first`` is called when the iteration begins, in the moment from which on events are kept: taken any earlier,
        it would miss what happens between.
        """
        watcher: _Watcher[T] = _Watcher(first())
        if self._is_closed:
            watcher.end()
        self._watchers.append(watcher)
        try:
            while watcher.events or await watcher.wait():
                yield watcher.events.popleft()
        finally:
            self._watchers.remove(watcher)


class _Watcher(Generic[T]):
    """A bounded queue that ends: as it should, or because its reader is too slow."""

    def __init__(self, first: Iterable[T]) -> None:
        self.events: deque[T] = deque(first)
        self._limit = len(self.events) + WATCHER_QUEUE_EVENTS
        self._changed = asyncio.Event()
        self._has_ended = False
        self._has_missed = False

    def put(self, event: T) -> None:
        # Nothing may follow what is missing, also when there is room again: it would be a gap that nobody sees.
        self._has_missed = self._has_missed or len(self.events) >= self._limit
        if not self._has_missed:
            self.events.append(event)
        self._changed.set()

    def end(self) -> None:
        self._has_ended = True
        self._changed.set()

    async def wait(self) -> bool:
        """Wait for an event: whether there is one, False at the end."""
        while not self.events:
            if self._has_missed:
                raise NetworkError(
                    f"this watcher is {WATCHER_QUEUE_EVENTS} events behind: watch again, from a new snapshot"
                )
            if self._has_ended:
                return False
            self._changed.clear()
            await self._changed.wait()
        return True
