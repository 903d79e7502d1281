"""Broadcast on one topic in the simulator: publish channels that drop, notes that come late, handlers that stop.

Nodes do here what ``zmesh.runtime.publishing`` does. The publish channel to a subscriber is a stream that breaks and
may drop single frames (PUB/SUB over its high-water mark). Notes and repairs go over streams of their own, which last,
as the sessions of the data plane do: so they overtake the publish channel and are overtaken by it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

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
from zmesh.core.broadcast.publisher import Note
from zmesh.testing.host import Host
from zmesh.testing.process import Process
from zmesh.testing.streams import Stream

__all__ = ["Heard", "Position", "Published", "PublisherProcess", "Rejoined", "Subscribed", "SubscriberProcess"]

WINDOW_BYTES = 1600
MAX_COUNT = 4
MAX_SIZE = 400
PAUSES_S = (0.002, 0.01, 0.1, 1.0)  # between two actions of a user or a handler
ASK_AGAIN_S = 0.2  # without an answer to a subscription, as in docs/spec/05-broadcast.md, section 5


@dataclass(frozen=True, slots=True)
class Published:
    """A frame on the publish channel."""

    first: int
    count: int
    size: int


@dataclass(frozen=True, slots=True)
class Heard:
    """Observation: the subscriber now accounts for what is below ``expected``, and was handed this just before."""

    effect: Deliver[Published] | Lost | None
    expected: int


@dataclass(frozen=True, slots=True)
class Position:
    """Observation: the publisher has read that a subscriber has everything below ``position``."""

    node_id: str
    position: int


@dataclass(frozen=True, slots=True)
class Subscribed:
    """Observation: the publisher learns of a subscription, at this record."""

    node_id: str
    position: int
    is_new: bool  # and not the same one again, after a reconnect


@dataclass(frozen=True, slots=True)
class Rejoined:
    """Observation: this node left the topic and joined it again."""

    node_id: str


@dataclass(frozen=True, slots=True)
class SubscribeAgain:
    """From a subscriber that nobody has answered: the answer may have been lost with a connection."""


class PublisherProcess(Process):
    """The node that publishes, and its user."""

    machine_class: ClassVar[type[TopicPublisher]] = TopicPublisher

    def __init__(self, host: Host, subscribers: Sequence[str]) -> None:
        super().__init__(host)
        self.machine = self.machine_class(WINDOW_BYTES)
        self.is_user_active = True
        self.channels: dict[str, Stream] = {}
        self._names = subscribers
        self._notes: dict[str, Stream] = {}
        self._frames: dict[bytes, Published] = {}
        self._chance = host.random("user")
        self._pause_s = self._chance.choice(PAUSES_S)

    def start(self, now: float) -> None:
        """Open the channels."""
        for name in self._names:
            self._notes[name] = Stream(self.host, name, _nothing, is_lasting=True)
            self.channels[name] = Stream(self.host, name, partial(self._subscribed, name))
        self.host.after(self._chance.random(), self._act)

    def receive(self, now: float, sender: str, message: TellPublisher | SubscribeAgain) -> None:
        """A note of a subscriber, or its subscription."""
        if isinstance(message, SubscribeAgain):
            self._subscribed(sender, now)
        elif message.repair:
            self._apply(self.machine.receive_repair_request(now, sender, message.position))
        else:
            self.machine.receive_position(now, sender, message.position)
            self.host.observe(Position(sender, message.position))

    def handle_timeout(self, now: float) -> None:
        """Remind, give up."""
        self._apply(self.machine.handle_timeout(now))

    def next_deadline(self) -> float | None:
        """The machine's."""
        return self.machine.next_deadline()

    def rejoin(self, now: float, name: str) -> None:
        """The node's new subscription comes, and after it its note of having left."""
        self._subscribed(name, now)
        self.machine.remove(name)

    def _subscribed(self, name: str, now: float) -> None:
        self.host.observe(Subscribed(name, self.machine.next_record, not self.machine.is_subscribed(name)))
        self._apply(self.machine.subscribe(now, name))

    def _act(self) -> None:
        chance = self._chance
        if chance.random() < 0.1:
            self._pause_s = chance.choice(PAUSES_S)
        for _ in range(chance.choice((1, 1, 1, 6)) if self.is_user_active else 0):
            if self.machine.room_bytes > 0:
                self._publish(chance.randint(1, MAX_COUNT), chance.randint(8, MAX_SIZE))
        self.host.after(chance.expovariate(1.0 / self._pause_s), self._act)

    def _publish(self, count: int, size: int) -> None:
        frame = Published(self.machine.next_record, count, size)
        data = frame.first.to_bytes(8, "big").ljust(size, b"\0")
        self._frames[data[:8]] = frame
        for channel in self.channels.values():
            channel.send(frame)
        self.host.observe(frame)
        self.machine.published(self.host.now, count, data)

    def _apply(self, effects: Iterable[PublisherEffect]) -> None:
        for effect in effects:
            if isinstance(effect, SubscriberLagging):
                self.host.observe(effect)
            elif isinstance(effect, SendRepair):
                for data in effect.frames:
                    self._notes[effect.node_id].send(self._frames[data[:8]])
            else:
                self._notes[effect.node_id].send(effect)


class SubscriberProcess(Process):
    """A node that hears the topic, and its handlers."""

    machine_class: ClassVar[type[TopicSubscriber[Published]]] = TopicSubscriber

    def __init__(self, host: Host, publisher: str) -> None:
        super().__init__(host)
        self.machine = self.machine_class(WINDOW_BYTES)
        self.are_handlers_stopped = False
        self._publisher = publisher
        self._in_hand: deque[int] = deque()
        self._chance = host.random("handlers")
        self._pause_s = self._chance.choice(PAUSES_S)

    def start(self, now: float) -> None:
        """Connect to the publisher."""
        self._replies = Stream(self.host, self._publisher, _nothing, is_lasting=True)
        self.host.after(self._chance.random(), self._handle)
        self.host.after(ASK_AGAIN_S, self._ask_again)

    def receive(self, now: float, sender: str, message: Any) -> None:
        """A published frame, a repair, or a note."""
        if isinstance(message, Published):
            self._take(self.machine.receive(now, message.first, message.count, message.size, message))
        elif isinstance(message, TellSubscriber) and message.note is Note.GONE:
            self._take(self.machine.receive_gone(now, message.position))
        elif isinstance(message, TellSubscriber) and message.note is Note.SUBSCRIBED:
            self._take(self.machine.receive_subscribed(now, message.position))
        elif isinstance(message, TellSubscriber):
            self.machine.receive_position(now, message.position)
            self._take(())

    def handle_timeout(self, now: float) -> None:
        """Ask for what is missing; say how far it is."""
        self._take(self.machine.handle_timeout(now))

    def next_deadline(self) -> float | None:
        """The machine's."""
        return self.machine.next_deadline()

    def rejoin(self, now: float) -> None:
        """Leave the topic, and join it at once."""
        self.machine = self.machine_class(WINDOW_BYTES)
        self._in_hand.clear()
        self.host.after(ASK_AGAIN_S, self._ask_again)

    def _ask_again(self) -> None:
        if self.machine.expected is None:
            self._replies.send(SubscribeAgain())
            self.host.after(ASK_AGAIN_S, self._ask_again)

    def _take(self, effects: Iterable[SubscriberEffect[Published]]) -> None:
        for effect in effects:
            if isinstance(effect, TellPublisher):
                self._replies.send(effect)
                continue
            self.host.observe(Heard(effect, self.machine.expected or 0))
            if isinstance(effect, Deliver):
                self._in_hand.append(effect.frame.size)
                self.machine.held_bytes += effect.frame.size
        self.host.observe(Heard(None, self.machine.expected or 0))

    def _handle(self) -> None:
        if self._chance.random() < 0.1:
            self._pause_s = self._chance.choice(PAUSES_S)
        for _ in range(0 if self.are_handlers_stopped else self._chance.randint(1, 4)):
            if self._in_hand:
                self.machine.released(self.host.now, self._in_hand.popleft())
        self.host.after(self._chance.expovariate(1.0 / self._pause_s), self._handle)


def _nothing(_now: float) -> None:
    """A stream that lasts tells nobody that it stands."""
