"""The subscribing half: one topic of one incarnation of one publisher, as this node hears it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Generic, TypeVar

__all__ = ["Deliver", "Lost", "SubscriberEffect", "TellPublisher", "TopicSubscriber"]

GAP_WAIT_S: Final = 0.05  # the data plane may overtake the publish socket: a gap is real when it lasts this long
REPAIR_WAIT_S: Final = 0.5  # between two requests for the same repair
POSITION_DELAY_S: Final = 0.002
POSITION_SHARE: Final = 16  # at a sixteenth of the window the position is told at once
MAX_PARKED_FRAMES: Final = 128  # received behind a gap, a window in all; more are dropped and asked for again

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Deliver(Generic[T]):
    """Hand this frame to the agents."""

    frame: T


@dataclass(frozen=True, slots=True)
class Lost:
    """``count`` records will never come."""

    count: int


@dataclass(frozen=True, slots=True)
class TellPublisher:
    """Tell the publisher how far we are; with ``repair``, that we miss everything from there on."""

    position: int
    repair: bool


SubscriberEffect = Deliver[T] | Lost | TellPublisher


class TopicSubscriber(Generic[T]):
    """Puts frames in order, notices gaps, has them filled, or counts what is lost."""

    __slots__ = (
        "_known_end",
        "_owed_bytes",
        "_parked",
        "_parked_bytes",
        "_position_at",
        "_repair_at",
        "_window",
        "expected",
        "held_bytes",
    )

    def __init__(self, window_bytes: int) -> None:
        self._window = window_bytes
        self.expected: int | None = None  # the next record; None until the publisher has answered the subscription
        self.held_bytes = 0  # delivered, and not yet let go of by handlers
        self._known_end = 0  # the publisher has published everything below this
        self._parked: dict[int, tuple[int, int, T]] = {}  # all behind ``expected``
        self._parked_bytes = 0
        self._repair_at: float | None = None
        self._position_at: float | None = None
        self._owed_bytes = 0

    def receive(self, now: float, first: int, count: int, size: int, frame: T) -> list[SubscriberEffect[T]]:
        """A frame of ``count`` records, from the publish socket or repaired."""
        self._known_end = max(self._known_end, first + count)
        if self.expected is None or first > self.expected:
            self._park(first, count, size, frame)
            self._watch_gap(now)
            return []
        if first < self.expected:
            return []  # had it: a repair overtook it
        effects: list[SubscriberEffect[T]] = [Deliver(frame)]
        self._advance(now, first + count, size)
        self._unpark(now, effects)
        return effects

    def receive_subscribed(self, now: float, position: int) -> list[SubscriberEffect[T]]:
        """The publisher answers the subscription: from ``position`` on there is a claim to everything.

        Nothing else may say where to begin: a TAIL or a frame may be of a subscription before this one.
        """
        effects: list[SubscriberEffect[T]] = []
        if self.expected is None:
            self.expected = self._begin_of_run(position)
            self._unpark(now, effects)
        self.receive_position(now, position)
        return effects

    def receive_position(self, now: float, position: int) -> None:
        """The publisher has published everything below ``position`` (TAIL)."""
        self._known_end = max(self._known_end, position)
        if self.expected is not None:
            self._watch_gap(now)
            self._position_at = now

    def receive_gone(self, now: float, position: int) -> list[SubscriberEffect[T]]:
        """Nothing below ``position`` can be had any more; what is parked here is not lost."""
        effects: list[SubscriberEffect[T]] = []
        while self.expected is not None and self.expected < position:
            hole_end = min(position, *self._parked) if self._parked else position
            effects.append(Lost(hole_end - self.expected))
            self._advance(now, hole_end, 0)
            self._unpark(now, effects)
        return effects

    def released(self, now: float, size: int) -> None:
        """Handlers have let go of ``size`` bytes."""
        self.held_bytes -= size
        if self._position_at is None:
            self._position_at = now

    def handle_timeout(self, now: float) -> list[SubscriberEffect[T]]:
        """Ask for what is missing; say how far we are."""
        if self.expected is None:
            return []
        if self._repair_at is not None and now >= self._repair_at:
            self._repair_at = now + REPAIR_WAIT_S
            return [TellPublisher(self.expected, repair=True)]
        # While handlers hold half of the window the publisher is kept waiting: that is the backpressure.
        if self._position_at is not None and now >= self._position_at and not self._is_full:
            self._position_at = None
            self._owed_bytes = 0
            return [TellPublisher(self.expected, repair=False)]
        return []

    def next_deadline(self) -> float | None:
        """When ``handle_timeout`` has something to do."""
        position_at = None if self._is_full else self._position_at
        return min((at for at in (self._repair_at, position_at) if at is not None), default=None)

    @property
    def _is_full(self) -> bool:
        return self.held_bytes >= self._window // 2

    def _advance(self, now: float, expected: int, size: int) -> None:
        self.expected = expected
        self._owed_bytes += size
        if self._owed_bytes >= self._window // POSITION_SHARE:
            self._position_at = now
        elif self._position_at is None:
            self._position_at = now + POSITION_DELAY_S

    def _begin_of_run(self, end: int) -> int:
        """Where the parked frames begin that reach up to ``end`` without a hole: they were heard, so they count."""
        for first in sorted(self._parked, reverse=True):
            if first + self._parked[first][0] == end:
                end = first
        return end

    def _park(self, first: int, count: int, size: int, frame: T) -> None:
        has_room = len(self._parked) < MAX_PARKED_FRAMES and self._parked_bytes + size <= self._window
        if has_room and first not in self._parked:
            self._parked[first] = (count, size, frame)
            self._parked_bytes += size

    def _unpark(self, now: float, effects: list[SubscriberEffect[T]]) -> None:
        while self._parked and (first := min(self._parked)) <= (self.expected or 0):
            count, size, frame = self._parked.pop(first)
            self._parked_bytes -= size
            if first == self.expected:  # else it overlaps another, which no honest publisher does
                effects.append(Deliver(frame))
                self._advance(now, first + count, size)
        self._watch_gap(now)

    def _watch_gap(self, now: float) -> None:
        if self.expected is None or self.expected >= self._known_end:
            self._repair_at = None
        elif self._repair_at is None:
            self._repair_at = now + GAP_WAIT_S
