"""One publisher and its subscribers: publish channels that drop, notes that come late, handlers that stop.

What a node does here is what ``zmesh.runtime.publishing`` does. The publish channel of a subscriber is a queue that
loses single frames (PUB/SUB over its high-water mark) or, when its connection breaks, everything in it. Notes and
repairs go over a reliable queue of their own in each direction, read at any time: so they overtake the publish channel
and are overtaken by it. ``World`` checks at every step that a subscriber is told of every record once and in order,
as delivered or as lost, and that nothing is lost for one that has kept its say.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from zmesh.core.broadcast import (
    Deliver,
    Lost,
    PublisherEffect,
    SendRepair,
    SubscriberEffect,
    SubscriberLagging,
    TellPublisher,
    TellSubscriber,
    TopicPublisher,
    TopicSubscriber,
)
from zmesh.core.broadcast.publisher import LAG_LIMIT_S, Note

WINDOW_BYTES = 1600
MAX_COUNT = 4


def demand(condition: object, what: str) -> None:
    """As ``assert``, which ``python -O`` would strip: this module is none of pytest's."""
    if not condition:
        raise AssertionError(what)


@dataclass(frozen=True)
class Published:
    first: int
    count: int
    data: bytes
    at: float


@dataclass
class Node:
    name: str
    subscriber: TopicSubscriber[Published]
    channel: deque[Published] = field(default_factory=deque)  # from the publish socket
    notes: deque[object] = field(default_factory=deque)  # from the publisher, over the data plane
    replies: deque[TellPublisher] = field(default_factory=deque)  # to it
    in_hand: deque[int] = field(default_factory=deque)
    next_record: int | None = None  # delivered or lost so far: everything below
    delivered: int = 0
    lost: int = 0
    is_subscribed: bool = False
    told: int = 0  # the publisher has read of everything below this
    told_at: float = 0.0
    has_lost_its_say: bool = False  # since it last had everything


class World:
    publisher_class: type[TopicPublisher] = TopicPublisher
    subscriber_class: type[TopicSubscriber[Published]] = TopicSubscriber

    def __init__(self, subscribers: int) -> None:
        self.now = 0.0
        self.publisher = self.publisher_class(WINDOW_BYTES)
        self.nodes = [Node(f"n{i}", self.subscriber_class(WINDOW_BYTES)) for i in range(subscribers)]
        self.published: dict[int, Published] = {}
        self.largest = 0

    # -- what users, handlers and the network do -----------------------------------------------------------------------

    def publish(self, count: int, size: int) -> bool:
        if self.publisher.room_bytes <= 0:
            return False
        first = self.publisher.next_record
        frame = Published(first, count, first.to_bytes(4, "big") + bytes(size - 4), self.now)
        self.published[first] = frame
        self.largest = max(self.largest, size)
        for node in self.nodes:
            if node.is_subscribed:
                node.channel.append(frame)
        self.publisher.published(self.now, count, frame.data)
        self.check()
        return True

    def subscribe(self, index: int) -> None:
        """The node's SUB connects, for the first time or again."""
        node = self.nodes[index]
        if not node.is_subscribed:
            node.is_subscribed = True
            node.told = node.told or self.publisher.next_record
            self._apply(self.publisher.subscribe(self.now, node.name))

    def rejoin(self, index: int) -> None:
        """The node leaves the topic and joins it at once; its note of having left comes after its new subscription."""
        node = self.nodes[index]
        if node.is_subscribed:
            node.subscriber = self.subscriber_class(WINDOW_BYTES)
            node.next_record = None
            node.in_hand.clear()
            node.has_lost_its_say = True  # what was published between the two is not held for it
            self._apply(self.publisher.subscribe(self.now, node.name))
            self.publisher.remove(node.name)

    def break_(self, index: int) -> None:
        """The connection of the publish channel breaks with all that is in it."""
        node = self.nodes[index]
        node.is_subscribed = False
        node.channel.clear()

    def drop(self, index: int, position: int) -> None:
        channel = self.nodes[index].channel
        if channel:
            del channel[position % len(channel)]

    def hear(self, index: int) -> bool:
        node = self.nodes[index]
        if not node.channel:
            return False
        self._hear(node, node.channel.popleft())
        return True

    def read_note(self, index: int) -> bool:
        """The subscriber reads a note or a repair of the publisher."""
        node = self.nodes[index]
        if not node.notes:
            return False
        note = node.notes.popleft()
        if isinstance(note, Published):
            self._hear(node, note)
        elif isinstance(note, TellSubscriber) and note.note is Note.GONE:
            self._take(node, node.subscriber.receive_gone(self.now, note.position))
        elif isinstance(note, TellSubscriber):
            node.subscriber.receive_position(self.now, note.position)
            if node.next_record is None:
                node.next_record = node.subscriber.expected
        self.check()
        return True

    def read_reply(self, index: int) -> bool:
        """The publisher reads a note of the subscriber."""
        node = self.nodes[index]
        if not node.replies:
            return False
        told = node.replies.popleft()
        if told.repair:
            self._apply(self.publisher.receive_repair_request(self.now, node.name, told.position))
        else:
            self.publisher.receive_position(self.now, node.name, told.position)
            self._note_position(node, told.position)
        self.check()
        return True

    def consume(self, index: int) -> bool:
        node = self.nodes[index]
        if not node.in_hand:
            return False
        node.subscriber.released(self.now, node.in_hand.popleft())
        return True

    def advance(self, seconds: float) -> None:
        self.now += seconds
        self._apply(self.publisher.handle_timeout(self.now))
        for node in self.nodes:
            self._take(node, node.subscriber.handle_timeout(self.now))
        self.check()

    # -- what publishing.py does ---------------------------------------------------------------------------------------

    def _apply(self, effects: Iterable[PublisherEffect]) -> None:
        for effect in effects:
            node = next(node for node in self.nodes if node.name == effect.node_id)
            if isinstance(effect, SubscriberLagging):
                self._check_lag(node)
                node.has_lost_its_say = True
            elif isinstance(effect, SendRepair):
                node.notes.extend(self.published[int.from_bytes(data[:4], "big")] for data in effect.frames)
            else:
                node.notes.append(effect)

    def _hear(self, node: Node, frame: Published) -> None:
        if node.next_record is None:
            node.next_record = frame.first
        size = len(frame.data)
        self._take(node, node.subscriber.receive(self.now, frame.first, frame.count, size, frame))
        self._take(node, node.subscriber.handle_timeout(self.now))
        self.check()

    def _take(self, node: Node, effects: Iterable[SubscriberEffect[Published]]) -> None:
        for effect in effects:
            if isinstance(effect, TellPublisher):
                node.replies.append(effect)
                continue
            demand(node.next_record is not None, "told of records before any")
            if isinstance(effect, Lost):
                demand(effect.count > 0, "nothing is lost")
                demand(node.has_lost_its_say, "lost within the window")
                node.lost += effect.count
                node.next_record += effect.count
            elif isinstance(effect, Deliver):
                demand(effect.frame.first == node.next_record, "not exactly once and in order")
                node.delivered += effect.frame.count
                node.next_record += effect.frame.count
                node.in_hand.append(len(effect.frame.data))
                node.subscriber.held_bytes += len(effect.frame.data)

    def _note_position(self, node: Node, position: int) -> None:
        if position > node.told:
            node.told, node.told_at = position, self.now
        node.has_lost_its_say &= position < self.publisher.next_record

    # -- what must hold ------------------------------------------------------------------------------------------------

    def check(self) -> None:
        demand(self.publisher.held_bytes <= WINDOW_BYTES + self.largest, "the publisher holds more than its window")
        for node in self.nodes:
            if node.next_record is not None:
                demand(node.next_record == node.subscriber.expected, "what is lost is not counted")

    def _check_lag(self, node: Node) -> None:
        behind_since = max(self.published[node.told].at, node.told_at)
        demand(self.now - behind_since > LAG_LIMIT_S - 1e-6, "had everything and lost its say")

    def deadline(self) -> float | None:
        deadlines = [self.publisher.next_deadline(), *(node.subscriber.next_deadline() for node in self.nodes)]
        return min((at for at in deadlines if at is not None), default=None)

    def run(self, seconds: float, stopped: frozenset[int] = frozenset()) -> None:
        """Let everything work for ``seconds``, except the handlers of the stopped nodes."""
        end = self.now + seconds
        while True:
            for index in range(len(self.nodes)):
                while self.hear(index) or self.read_note(index) or self.read_reply(index):
                    pass
                while index not in stopped and self.consume(index):
                    pass
            at = self.deadline()
            if at is None or at > end:
                break
            self.advance(max(at - self.now, 0.0))
        self.now = end

    def heal(self, stopped: frozenset[int]) -> None:
        """Nobody's fault stops the others; without faults everybody ends at the last record, each one accounted for."""
        for index in range(len(self.nodes)):
            self.subscribe(index)
        self.run(8.0, stopped)
        self._check_end([node for index, node in enumerate(self.nodes) if index not in stopped])
        for _ in range(3):
            frames = 0
            while frames < 20 and self.publish(1, 200):
                frames += 1
            demand(frames, "a stopped subscriber stops the publisher")
            self.run(8.0, stopped)
        self.run(8.0)
        self._check_end(self.nodes)
        demand(self.publisher.held_bytes == 0, "something is held that everybody has")

    def _check_end(self, nodes: list[Node]) -> None:
        for node in nodes:
            if node.next_record is not None:
                demand(node.next_record == self.publisher.next_record, "neither delivered nor counted as lost")
