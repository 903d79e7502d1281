"""Streams of events for any number of watchers, each with a bounded queue of its own."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterable
from typing import Final, Generic, TypeVar

from zmesh.errors import NetworkError

__all__ = ["WATCHER_QUEUE_EVENTS", "EventStream"]

WATCHER_QUEUE_EVENTS: Final = 65_536  # a watcher this far behind is told so, by an error, instead of losing events

T = TypeVar("T")


class EventStream(Generic[T]):
    """Whatever is emitted reaches every watcher, in order and without gaps."""

    def __init__(self) -> None:
        self._watchers: list[_Watcher[T]] = []

    def emit(self, event: T) -> None:
        """Give an event to every watcher."""
        for watcher in self._watchers:
            watcher.put(event)

    def close(self) -> None:
        """Watchers end after what they have been given."""
        for watcher in self._watchers:
            watcher.put(None)

    async def watch(self, first: Iterable[T]) -> AsyncIterator[T]:
        """``first``, and then every event from now on. Raises ``NetworkError`` for a watcher too far behind."""
        watcher: _Watcher[T] = _Watcher(first)
        self._watchers.append(watcher)
        try:
            while (event := await watcher.get()) is not None:
                yield event
        finally:
            self._watchers.remove(watcher)


class _Watcher(Generic[T]):
    """A bounded queue; None is its end."""

    def __init__(self, first: Iterable[T]) -> None:
        self._events: deque[T | None] = deque(first)
        self._limit = len(self._events) + WATCHER_QUEUE_EVENTS
        self._ready = asyncio.Event()
        self._overflowed = False

    def put(self, event: T | None) -> None:
        if len(self._events) >= self._limit:
            self._overflowed = True
        else:
            self._events.append(event)
        self._ready.set()

    async def get(self) -> T | None:
        while not self._events:
            if self._overflowed:
                raise NetworkError(
                    f"this watcher is {WATCHER_QUEUE_EVENTS} events behind: watch again, from a new snapshot"
                )
            self._ready.clear()
            await self._ready.wait()
        return self._events.popleft()
