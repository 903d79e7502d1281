"""Deadlines of many requests on one timer: a hashed timing wheel (Varghese and Lauck, 1987, scheme 6).

A timer of the event loop for every request would cost more than the request. A slot here is a dict of what expires in
the same tick; adding and removing are one dict operation each, and an answered request leaves nothing behind.
"""

from __future__ import annotations

from typing import Final, Generic, TypeVar

__all__ = ["DeadlineWheel"]

TICKS_PER_SECOND: Final = 64  # things expire within 16 ms of their deadline; a power of two, so that no time is rounded

Key = TypeVar("Key")
Value = TypeVar("Value")


class DeadlineWheel(Generic[Key, Value]):
    """Maps keys to values until their deadline. The caller deletes a key from its slot when it is no longer wanted."""

    __slots__ = ("_next_tick", "_slots")

    def __init__(self) -> None:
        self._slots: dict[int, dict[Key, Value]] = {}
        self._next_tick: int | None = None  # the earliest tick that may hold something

    def slot(self, deadline: float) -> dict[Key, Value]:
        """The slot for things that expire at ``deadline`` (seconds); put ``key: value`` in it, delete it when done."""
        tick = int(deadline * TICKS_PER_SECOND) + 1
        slot = self._slots.get(tick)
        if slot is None:
            slot = self._slots[tick] = {}
            if self._next_tick is None or tick < self._next_tick:
                self._next_tick = tick
        return slot

    def expired(self, now: float) -> list[tuple[Key, Value]]:
        """Take out what has passed its deadline, oldest tick first: never early, and at most one tick late."""
        current = int(now * TICKS_PER_SECOND)
        if self._next_tick is None or current < self._next_tick:
            return []
        due = sorted(tick for tick in self._slots if tick <= current)
        result = [item for tick in due for item in self._slots.pop(tick).items()]
        self._next_tick = min(self._slots, default=None)
        return result

    def next_deadline(self) -> float | None:
        """When ``expired`` should be called next; None where nothing waits."""
        return None if self._next_tick is None else self._next_tick / TICKS_PER_SECOND
