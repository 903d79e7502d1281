"""One topic as this node publishes it, and one as it hears it from a peer: ``zmesh.core.broadcast`` meets sockets."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from zmesh.core.broadcast import TopicPublisher, TopicSubscriber
from zmesh.errors import NetworkError
from zmesh.runtime.receipts import WaitingReceipts
from zmesh.runtime.received import Origin
from zmesh.runtime.room import Room
from zmesh.wire.data import TopicFrame, TopicRun, encode
from zmesh.wire.limits import FRAME_BYTES, RECORD_OVERHEAD_BYTES, WIRE_VERSION

__all__ = ["BROADCAST_TOPIC", "PublishHost", "PublishedTopic", "TopicFeed", "group_of", "topic_of"]

BROADCAST_TOPIC = b"*\0"


def topic_of(group: str | None) -> bytes:
    """The prefix of a group's frames on the publish socket; of a broadcast's where ``group`` is None."""
    return BROADCAST_TOPIC if group is None else b"g" + group.encode() + b"\0"


def group_of(topic: bytes) -> str | None:
    """The group a topic stands for; None for the broadcast."""
    return None if topic == BROADCAST_TOPIC else topic[1:-1].decode()


class PublishHost(Protocol):
    """What a topic needs of its surroundings."""

    loop: asyncio.AbstractEventLoop
    incarnation: int
    clock: Callable[[], float]
    wall_ms: Callable[[], int]

    def send_published(self, data: bytes) -> None:
        """Send on the publish socket."""

    def deliver_published(self, topic: PublishedTopic, heard: Heard) -> None:
        """Hand to this node's own members of the topic; called from the loop, never from a sender's task."""


class PublishedTopic(Room):
    """A topic this node publishes to: batches, numbers and holds."""

    __slots__ = (
        "_flush_scheduled",
        "_host",
        "_local",
        "_local_bytes",
        "_next",
        "_receipts",
        "_runs",
        "_window",
        "origin",
        "publisher",
        "receipt_prefix",
        "topic",
    )

    def __init__(self, host: PublishHost, node_id: str, topic: bytes, window_bytes: int) -> None:
        super().__init__(window_bytes)
        self._host = host
        self._window = window_bytes
        self.topic = topic
        self.publisher = TopicPublisher(window_bytes)
        self.receipt_prefix = f"{node_id}:{host.incarnation:x}:{topic[:-1].decode()}:"
        self.origin = Origin(node_id, self.receipt_prefix, group_of(topic))
        self._runs: list[TopicRun] = []
        self._next = 1
        self._flush_scheduled = False
        self._local: list[Heard] = []
        self._local_bytes = 0
        self._receipts = WaitingReceipts(host.loop)

    def append(self, from_agent: int, payload: bytes) -> int:
        """Add a message; its number."""
        if not self._runs or self._runs[-1].from_agent != from_agent:
            self._runs.append(TopicRun(from_agent, []))
            if not self._flush_scheduled:
                self._flush_scheduled = True
                self._host.loop.call_soon(self._flush_scheduled_now)
        self._runs[-1].payloads.append(payload)
        number = self._next
        self._next = number + 1
        size = len(payload) + RECORD_OVERHEAD_BYTES
        self.budget -= size
        if self.pending_bytes > FRAME_BYTES:
            self.flush()
        return number

    def _flush_scheduled_now(self) -> None:
        self._flush_scheduled = False
        self.flush()
        local, self._local = self._local, []
        for heard in local:
            self._host.deliver_published(self, heard)

    def flush(self) -> None:
        """Send everything appended so far as one frame."""
        runs, first = self._runs, self.publisher.next_record
        if not runs or self.closed is not None:
            return
        self._runs = []
        timestamp = self._host.wall_ms()
        data = self.topic + encode(TopicFrame(WIRE_VERSION, self._host.incarnation, first, timestamp, runs))
        self._host.send_published(data)
        self.publisher.published(self._host.clock(), self._next - first, data)
        self._local.append(Heard(runs, first, timestamp, len(data)))
        self._local_bytes += len(data)
        if not self._flush_scheduled:
            self._flush_scheduled = True
            self._host.loop.call_soon(self._flush_scheduled_now)
        self.refill(self._credit)
        self.update_room()

    def delivered_locally(self, size: int) -> None:
        """This node's own agents have been given a frame of ``size`` bytes, or have let go of some of it."""
        self._local_bytes -= size
        self.update_room()

    def release(self, size: int) -> None:
        """A local handler or queue lets go of ``size`` bytes."""
        self.delivered_locally(size)

    def update_room(self) -> None:
        """After subscribers or handlers got further: wake who waits."""
        if self.closed is not None:
            return
        self._receipts.acknowledge(self.publisher.acked)
        self.update_credit(self._credit)

    @property
    def _credit(self) -> int:
        return min(self.publisher.room_bytes, self._window - self._local_bytes)

    def is_acknowledged(self, number: int) -> bool:
        """Whether every subscriber that still has a say has the record."""
        return number < self.publisher.next_record and number < self.publisher.acked

    async def acknowledged(self, number: int) -> None:
        """Wait until they have."""
        if self.is_acknowledged(number):
            return
        self.check_open()
        await self._receipts.wait(number)

    def credit_wanted(self) -> None:
        """Subscribers tell their positions unasked, and are reminded by the publisher's timer."""

    def close(self, error: NetworkError) -> None:
        """Publish nothing more."""
        super().close(error)
        self._receipts.fail(error)


@dataclass(slots=True)
class Heard:
    """A frame as it is queued for delivery: its messages and its size."""

    runs: list[TopicRun]
    first: int
    timestamp: int
    size: int


class TopicFeed:
    """A topic as one incarnation of a peer publishes it."""

    __slots__ = (
        "_clock",
        "_settle",
        "closed",
        "incarnation",
        "is_confirmed",
        "node_id",
        "origin",
        "settled",
        "subscriber",
        "topic",
    )

    def __init__(
        self,
        node_id: str,
        incarnation: int,
        topic: bytes,
        window_bytes: int,
        settle: Callable[[TopicFeed], None],
        clock: Callable[[], float],
    ) -> None:
        self.node_id = node_id
        self.incarnation = incarnation
        self.topic = topic
        self.subscriber: TopicSubscriber[Heard] = TopicSubscriber(window_bytes)
        self.origin = Origin(node_id, f"{node_id}:{incarnation:x}:{topic[:-1].decode()}:", group_of(topic))
        self.is_confirmed = False  # the publisher has answered the subscription
        self.settled = asyncio.Event()  # it has, or it is gone, so that nobody need wait for it
        self.closed: NetworkError | None = None
        self._settle = settle
        self._clock = clock

    def confirm(self) -> None:
        """The publisher knows that this node hears the topic."""
        self.is_confirmed = True
        self.settled.set()

    def release(self, size: int) -> None:
        """A handler or queue lets go of ``size`` bytes."""
        self.subscriber.released(self._clock(), size)
        self._settle(self)
