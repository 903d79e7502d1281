"""The publishing half: one topic of one publisher.

A frame is held until every subscriber has said that it has it. A subscriber that makes no progress for
``LAG_LIMIT_S`` seconds loses its say, so that one stopped process cannot stop the mesh; what it then misses beyond the
held frames it will count as lost. It is still told where the topic stands, so that it can count, and come back.
"""

from __future__ import annotations

import enum
from collections import deque
from dataclasses import dataclass
from typing import Final

__all__ = ["Note", "PublisherEffect", "SendRepair", "SubscriberLagging", "TellSubscriber", "TopicPublisher"]

LAG_LIMIT_S: Final = 5.0
TAIL_WAIT_S: Final = 0.2  # silence after which a subscriber is told where the topic stands
TAIL_WAIT_MAX_S: Final = 2.0
MAX_HELD_FRAMES: Final = 512  # half of the publish socket's high-water mark: what is held has not been dropped by it


class Note(enum.Enum):
    """What a publisher says; the numbers on the wire are ``zmesh.wire.data.TopicNoteKind``'s."""

    SUBSCRIBED = "subscribed"
    TAIL = "tail"
    GONE = "gone"


@dataclass(frozen=True, slots=True)
class TellSubscriber:
    """Tell a subscriber ``note`` with ``position``, a record number."""

    node_id: str
    note: Note
    position: int


@dataclass(frozen=True, slots=True)
class SendRepair:
    """Send these published frames again, to this subscriber alone."""

    node_id: str
    frames: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class SubscriberLagging:
    """This subscriber has lost its say: publishing no longer waits for it."""

    node_id: str


PublisherEffect = TellSubscriber | SendRepair | SubscriberLagging


@dataclass(slots=True)
class _Held:
    first: int
    count: int
    data: bytes


@dataclass(slots=True)
class _Subscriber:
    position: int  # it has every record below this
    progress_at: float
    tail_at: float
    tail_wait_s: float = TAIL_WAIT_S
    lagging: bool = False


class TopicPublisher:
    """Numbers, holds and repairs what is published to a topic."""

    __slots__ = ("_held", "_subscribers", "_window", "held_bytes", "next_record")

    def __init__(self, window_bytes: int) -> None:
        self._window = window_bytes
        self._held: deque[_Held] = deque()
        self._subscribers: dict[str, _Subscriber] = {}
        self.held_bytes = 0
        self.next_record = 1

    @property
    def room_bytes(self) -> int:
        """What may be published before the slowest subscriber has more."""
        return self._window - self.held_bytes if len(self._held) < MAX_HELD_FRAMES else 0

    @property
    def has_subscribers(self) -> bool:
        """Whether any node hears this topic."""
        return bool(self._subscribers)

    @property
    def acked(self) -> int:
        """Every subscriber that still has a say has all records below this."""
        return min((s.position for s in self._subscribers.values() if not s.lagging), default=self.next_record)

    def is_subscribed(self, node_id: str) -> bool:
        """Whether the node hears this topic."""
        return node_id in self._subscribers

    def published(self, now: float, count: int, data: bytes) -> None:
        """``count`` records have left as one frame."""
        is_waited_for = False
        for subscriber in self._subscribers.values():
            is_waited_for |= not subscriber.lagging
            if subscriber.position == self.next_record:  # it had everything: its time to answer starts now
                subscriber.progress_at = now
                subscriber.tail_at = now + TAIL_WAIT_S
        if is_waited_for:
            self._held.append(_Held(self.next_record, count, data))
            self.held_bytes += len(data)
        self.next_record += count

    def subscribe(self, now: float, node_id: str) -> tuple[PublisherEffect, ...]:
        """A node's subscription is live (again, after a reconnect)."""
        if node_id not in self._subscribers:
            self._subscribers[node_id] = _Subscriber(self.next_record, now, now + TAIL_WAIT_S)
        return (TellSubscriber(node_id, Note.SUBSCRIBED, self.next_record),)

    def remove(self, node_id: str) -> None:
        """The node unsubscribed, or is gone."""
        if self._subscribers.pop(node_id, None) is not None:
            self._release()

    def receive_position(self, now: float, node_id: str, position: int) -> None:
        """A subscriber has every record below ``position``."""
        subscriber = self._subscriber(now, node_id, position)
        if not subscriber.position < position <= self.next_record:
            return
        subscriber.position = position
        subscriber.progress_at = now
        subscriber.lagging = False
        subscriber.tail_wait_s = TAIL_WAIT_S
        subscriber.tail_at = now + TAIL_WAIT_S
        self._release()

    def receive_repair_request(self, now: float, node_id: str, position: int) -> tuple[PublisherEffect, ...]:
        """A subscriber misses everything from ``position`` on."""
        self._subscriber(now, node_id, position)
        if position >= self.next_record:
            return ()
        frames = tuple(held.data for held in self._held if held.first >= position)
        oldest = self._held[0].first if self._held else self.next_record
        if oldest > position:
            return (TellSubscriber(node_id, Note.GONE, oldest), SendRepair(node_id, frames))
        return (SendRepair(node_id, frames),)

    def handle_timeout(self, now: float) -> tuple[PublisherEffect, ...]:
        """Remind those who are behind; give up on those who stay behind."""
        effects: list[PublisherEffect] = []
        for node_id, subscriber in self._subscribers.items():
            if subscriber.position >= self.next_record:
                continue
            if not subscriber.lagging and now >= subscriber.progress_at + LAG_LIMIT_S:
                subscriber.lagging = True
                effects.append(SubscriberLagging(node_id))
            if now >= subscriber.tail_at:
                subscriber.tail_wait_s = min(subscriber.tail_wait_s * 2, TAIL_WAIT_MAX_S)
                subscriber.tail_at = now + subscriber.tail_wait_s
                effects.append(TellSubscriber(node_id, Note.TAIL, self.next_record))
        if effects:
            self._release()
        return tuple(effects)

    def next_deadline(self) -> float | None:
        """When ``handle_timeout`` has something to do."""
        waiting = [s for s in self._subscribers.values() if s.position < self.next_record]
        lag_ends = (s.progress_at + LAG_LIMIT_S for s in waiting if not s.lagging)
        return min((*(s.tail_at for s in waiting), *lag_ends), default=None)

    def _subscriber(self, now: float, node_id: str, position: int) -> _Subscriber:
        """Who speaks of the topic hears it: where it is not known, its unsubscribing of before came late."""
        subscriber = self._subscribers.get(node_id)
        if subscriber is None:
            position = min(position, self.next_record)
            subscriber = self._subscribers[node_id] = _Subscriber(position, now, now + TAIL_WAIT_S)
        return subscriber

    def _release(self) -> None:
        acked, held = self.acked, self._held
        while held and held[0].first + held[0].count <= acked:
            self.held_bytes -= len(held.popleft().data)
