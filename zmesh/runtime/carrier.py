"""What carries the frames of the data plane: sockets, or a simulated network.

A ``Carrier`` makes four things, and the data plane's protocol code knows nothing else of the world: a ``Transport``
sends to one peer, an ``Inbound`` takes in what peers send, an ``Outlet`` publishes to whoever subscribed, and a
``Subscription`` hears what one peer publishes. All of it is used, and calls back, on the loop's thread.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from zmesh.errors import ProtocolViolation
from zmesh.runtime.counters import Counters
from zmesh.runtime.peer import PeerAddress

__all__ = ["Carrier", "FrameReceiver", "Inbound", "Outlet", "SubscriberReceiver", "Subscription", "Transport"]


class Transport(Protocol):
    """The one way to a peer: connected when it is first used, and connected again by itself until it is closed."""

    @property
    def is_open(self) -> bool:
        """Whether it is connected, or tries to be."""

    @property
    def is_connected(self) -> bool:
        """Whether a connection stands."""

    def open(self, endpoint: str, server_key: bytes) -> None:
        """Start to connect to whoever proves to hold the key."""

    def close(self, linger_ms: int = 0) -> None:
        """Close; what has not left after ``linger_ms`` is dropped (the session has it)."""

    def send(self, parts: tuple[bytes | memoryview, ...]) -> bool:
        """Send one frame, and its attachment if there are two parts; False where there is no connection."""


class FrameReceiver(Protocol):
    """Who takes in what an ``Inbound`` reads: the data plane."""

    statistics: Counters

    def receive_frame(self, node_id: str, data: bytes, attachment: bytes | None) -> None:
        """A frame from the peer authenticated as ``node_id``. Raises ``ProtocolViolation``."""

    def refuse(self, node_id: str, violation: ProtocolViolation) -> None:
        """Count a forbidden frame, and say so once."""


class Inbound(Protocol):
    """What peers send to this node."""

    def start(self) -> None:
        """Begin to read."""

    def close(self) -> None:
        """Read no more."""


class SubscriberReceiver(Protocol):
    """Who learns of subscriptions: the node's publishing."""

    def subscribed(self, node_id: str, topic: bytes) -> None:
        """The peer authenticated as ``node_id`` wants to hear a topic."""

    def refuse_subscription(self) -> None:
        """Somebody wants what nobody may want."""


class Outlet(Protocol):
    """What this node publishes on."""

    def start(self) -> None:
        """Begin to read subscriptions."""

    def publish(self, data: bytes) -> None:
        """Send to all who subscribed to a topic that ``data`` begins with; never waits, one that lags misses it."""

    def close(self) -> None:
        """Stop."""


class Subscription(Protocol):
    """Hears one peer. Open from the start; what it hears goes to the function that it was made with."""

    def subscribe(self, topic: bytes) -> None:
        """Ask for a topic, for the first time or once more."""

    def unsubscribe(self, topic: bytes) -> None:
        """Want it no more, however often it was asked for."""

    def close(self) -> None:
        """Hear nothing more."""


class Carrier(Protocol):
    """Makes them, and has the clocks."""

    def clock(self) -> float:
        """The monotonic clock, in seconds."""

    def wall_ns(self) -> int:
        """The wall clock, in ns since the epoch."""

    def new_transport(self, connected: Callable[[], None], disconnected: Callable[[], None]) -> Transport:
        """A way to a peer, not open yet."""

    def new_inbound(self, receiver: FrameReceiver) -> Inbound:
        """The only one of this node."""

    def new_outlet(self, receiver: SubscriberReceiver) -> Outlet:
        """The only one of this node."""

    def new_subscription(self, address: PeerAddress, received: Callable[[bytes], None]) -> Subscription:
        """Hear the peer whose publish endpoint is there."""
