"""The carrier of a simulated node: the frames of the data plane, as bytes, over streams that stall and break.

What ZeroMQ does beyond that is done here as it does it: a subscription is told again on each new connection, and what
is published while a subscriber has no connection passes it by.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from zmesh.errors import ProtocolViolation
from zmesh.runtime.carrier import FrameReceiver, SubscriberReceiver
from zmesh.runtime.peer import PeerAddress
from zmesh.testing.host import Host
from zmesh.testing.loop import VirtualLoop
from zmesh.testing.streams import Stream

__all__ = ["CARRIED", "DataFrame", "Published", "SimulatedCarrier", "Subscribe", "Unsubscribe"]


@dataclass(frozen=True, slots=True)
class DataFrame:
    """A frame of a link, and perhaps its attachment."""

    parts: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Published:
    """A frame of a topic."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Subscribe:
    """Whoever sends this wants to hear a topic."""

    topic: bytes


@dataclass(frozen=True, slots=True)
class Unsubscribe:
    """And now it does not."""

    topic: bytes


CARRIED: Final = (DataFrame, Published, Subscribe, Unsubscribe)


def address_of(endpoint: str) -> str:
    """The host in ``tcp://HOST:PORT``: in a simulation there is one node at an address."""
    return endpoint.removeprefix("tcp://").rpartition(":")[0]


class SimulatedTransport:
    """The one way to a peer: a stream, for as long as it is open."""

    def __init__(
        self, host: Host, loop: VirtualLoop, connected: Callable[[], None], disconnected: Callable[[], None]
    ) -> None:
        self._host = host
        self._loop = loop
        self._connected = connected
        self._disconnected = disconnected
        self._is_told = False  # that it is connected
        self._stream: Stream | None = None

    @property
    def is_open(self) -> bool:
        """Whether it is connected, or tries to be."""
        return self._stream is not None

    @property
    def is_connected(self) -> bool:
        """Whether a connection stands."""
        return self._stream is not None and self._stream.is_open

    def open(self, endpoint: str, server_key: bytes) -> None:
        """Start to connect."""
        self._stream = Stream(self._host, address_of(endpoint), self._opened)

    def close(self, linger_ms: int = 0) -> None:
        """Close; what is under way arrives."""
        if self._stream is not None:
            self._stream.close()
        self._stream, self._is_told = None, False

    def send(self, parts: tuple[bytes | memoryview, ...]) -> bool:
        """Send a frame; False where there is no connection."""
        return self._stream is not None and self._stream.send(DataFrame(tuple(bytes(part) for part in parts)))

    def _opened(self, now: float) -> None:
        self._loop.call_soon(self._tell_connected, self._stream)

    def _tell_connected(self, stream: Stream | None) -> None:
        if stream is self._stream and self.is_connected:
            self._is_told = True
            self._connected()

    def notice_break(self) -> None:
        """A connection of this host has closed: perhaps this one."""
        if self._is_told and not self.is_connected:
            self._is_told = False
            self._disconnected()


class SimulatedInbound:
    """What peers send to this node."""

    def __init__(self, host: Host, receiver: FrameReceiver) -> None:
        self._host = host
        self._receiver = receiver
        self.is_reading = False

    def start(self) -> None:
        """Begin to read."""
        self.is_reading = True

    def close(self) -> None:
        """Read no more."""
        self.is_reading = False

    def take(self, sender: str, frame: DataFrame) -> None:
        """Hand a frame to the data plane. One that breaks the protocol breaks the connection it came over."""
        if not self.is_reading:
            return
        data, *attachments = frame.parts
        try:
            self._receiver.receive_frame(sender, data, attachments[0] if attachments else None)
        except ProtocolViolation as violation:
            self._receiver.refuse(sender, violation)
            self._receiver.statistics.connections_cut += 1
            peer = self._host.world.network.at_address.get(sender)
            if peer is not None:
                self._host.world.network.close(peer, self._host)


class SimulatedOutlet:
    """What this node publishes on: a stream to each node that has subscribed to something."""

    def __init__(self, host: Host, receiver: SubscriberReceiver) -> None:
        self._host = host
        self._receiver = receiver
        self._topics: dict[str, dict[bytes, None]] = {}  # by subscriber
        self._streams: dict[str, Stream] = {}
        self._early: dict[str, list[Published]] = {}  # published before the stream stood for the first time
        self._is_reading = False

    def start(self) -> None:
        """Begin to hear of subscriptions."""
        self._is_reading = True

    def close(self) -> None:
        """Stop."""
        self._is_reading = False
        for stream in self._streams.values():
            stream.close()
        self._streams.clear()
        self._topics.clear()

    def publish(self, data: bytes) -> None:
        """Send to all who subscribed to its topic."""
        topic, frame = data[: data.find(b"\0") + 1], Published(data)
        for node_id, topics in self._topics.items():
            if topic not in topics:
                continue
            if node_id in self._early:
                self._early[node_id].append(frame)
            else:
                self._streams[node_id].send(frame)

    def take(self, sender: str, message: Subscribe | Unsubscribe) -> None:
        """Somebody subscribes, or no more."""
        if not self._is_reading:
            return
        if isinstance(message, Unsubscribe):
            self._topics.get(sender, {}).pop(message.topic, None)
            return
        if sender not in self._streams:
            self._early[sender] = []
            self._streams[sender] = Stream(self._host, sender, lambda now: self._send_early(sender))
        self._topics.setdefault(sender, {})[message.topic] = None
        self._receiver.subscribed(sender, message.topic)

    def _send_early(self, node_id: str) -> None:
        for frame in self._early.pop(node_id, ()):
            self._streams[node_id].send(frame)

    def forget(self, node_id: str) -> None:
        """Its connection has closed: what it subscribed to, it will say again."""
        self._topics.pop(node_id, None)


class SimulatedSubscription:
    """Hears one peer."""

    def __init__(self, host: Host, address: str, received: Callable[[bytes], None]) -> None:
        self.address = address
        self.received = received
        self._topics: dict[bytes, None] = {}
        self._stream = Stream(host, address, self._opened)

    def subscribe(self, topic: bytes) -> None:
        """Ask for a topic, now or when there is a connection."""
        self._topics[topic] = None
        self._stream.send(Subscribe(topic))

    def unsubscribe(self, topic: bytes) -> None:
        """Want it no more."""
        self._topics.pop(topic, None)
        self._stream.send(Unsubscribe(topic))

    def close(self) -> None:
        """Hear nothing more."""
        for topic in self._topics:
            self._stream.send(Unsubscribe(topic))
        self._stream.close()
        self._topics.clear()
        self.received = _ignore

    def _opened(self, now: float) -> None:
        for topic in self._topics:
            self._stream.send(Subscribe(topic))


def _ignore(data: bytes) -> None:
    """Of a subscription that was closed."""


class SimulatedCarrier:
    """See ``zmesh.runtime.carrier``. ``take`` gets, in the loop, what comes in for it."""

    def __init__(self, host: Host, loop: VirtualLoop) -> None:
        self._host = host
        self._loop = loop
        self._transports: list[SimulatedTransport] = []
        self._subscriptions: list[SimulatedSubscription] = []
        self._inbound: SimulatedInbound | None = None
        self._outlet: SimulatedOutlet | None = None

    def clock(self) -> float:
        """The host's monotonic clock."""
        return self._host.now

    def wall_ns(self) -> int:
        """The host's wall clock."""
        return self._host.wall_ms * 1_000_000

    def new_transport(self, connected: Callable[[], None], disconnected: Callable[[], None]) -> SimulatedTransport:
        """A way to a peer, not open yet."""
        transport = SimulatedTransport(self._host, self._loop, connected, disconnected)
        self._transports.append(transport)
        return transport

    def new_inbound(self, receiver: FrameReceiver) -> SimulatedInbound:
        """The only one of this node."""
        self._inbound = SimulatedInbound(self._host, receiver)
        return self._inbound

    def new_outlet(self, receiver: SubscriberReceiver) -> SimulatedOutlet:
        """The only one of this node."""
        self._outlet = SimulatedOutlet(self._host, receiver)
        return self._outlet

    def new_subscription(self, address: PeerAddress, received: Callable[[bytes], None]) -> SimulatedSubscription:
        """Hear the peer at that endpoint."""
        subscription = SimulatedSubscription(self._host, address_of(address.endpoint), received)
        self._subscriptions.append(subscription)
        return subscription

    def take(self, sender: str, message: object) -> None:
        """One of ``CARRIED`` has arrived."""
        if isinstance(message, DataFrame) and self._inbound is not None:
            self._inbound.take(sender, message)
        elif isinstance(message, Published):
            for subscription in self._subscriptions:
                if subscription.address == sender:
                    subscription.received(message.data)
        elif isinstance(message, Subscribe | Unsubscribe) and self._outlet is not None:
            self._outlet.take(sender, message)

    def disconnected(self, peer: str) -> None:
        """Connections with that host have closed."""
        if self._outlet is not None:
            self._outlet.forget(peer)
        for transport in self._transports:
            transport.notice_break()
