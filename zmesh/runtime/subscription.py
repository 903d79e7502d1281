"""The SUB socket that hears one peer.

One for each peer, because only then is the publisher of a frame known by its key: ZeroMQ gives a client no User-Id of
the
server it is connected to (docs/decisions/0003).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic
from typing import Final

import zmq

from zmesh.runtime.data_plane import DataPlane
from zmesh.runtime.peer import PeerAddress
from zmesh.runtime.sockets import NOBLOCK, client_socket, has_input
from zmesh.runtime.topic import TopicFeed
from zmesh.wire.limits import MAX_PART_BYTES

__all__ = ["PeerSubscription"]

FRAMES_PER_TURN: Final = 32
ASK_AGAIN_S: Final = 0.2  # without an answer to a subscription; doubled each time
ASK_AGAIN_MAX_S: Final = 2.0


@dataclass(slots=True)
class _Asked:
    """How often a topic was subscribed to, and when that is due again if nobody answers."""

    times: int
    wait_s: float
    again_at: float


class PeerSubscription:
    """Connected to the publish socket of one incarnation of a peer.

    ``received`` gets each frame; ``settle`` is handed to the feeds, which call it when handlers let go of messages.
    """

    def __init__(
        self,
        plane: DataPlane,
        node_id: str,
        incarnation: int,
        address: PeerAddress,
        received: Callable[[PeerSubscription, bytes], None],
        settle: Callable[[TopicFeed], None],
    ) -> None:
        self.node_id = node_id
        self.incarnation = incarnation
        self.address = address
        self.feeds: dict[bytes, TopicFeed] = {}
        self.is_away = False
        self._asked: dict[bytes, _Asked] = {}
        self._plane = plane
        self._window_bytes = plane.window_bytes
        self._loop = plane.loop
        self._received = received
        self._settle = settle
        self._open(address)

    def _open(self, address: PeerAddress) -> None:
        plane = self._plane
        # No receive high-water mark: the publisher's window bounds what can come.
        self.socket = client_socket(plane.context, zmq.SUB, plane.keys, address.curve_public, MAX_PART_BYTES)
        self._fd = int(self.socket.getsockopt(zmq.FD))
        self.socket.connect(address.endpoint)
        self._loop.add_reader(self._fd, self.read)
        self._loop.call_soon(self.read)

    def move(self, address: PeerAddress) -> None:
        """The peer is back, or can be heard at another address: feeds go on, and have what they miss repaired."""
        self.is_away = False
        if address == self.address:
            return
        self.address = address
        self._close_socket()
        self._open(address)
        for topic in self.feeds:
            self._ask(topic)

    def go_away(self) -> None:
        """The peer is dead or has left: nobody need wait for its answers."""
        self.is_away = True
        for feed in self.feeds.values():
            feed.settled.set()

    def subscribe(self, topic: bytes) -> TopicFeed:
        """Hear a topic of this peer."""
        feed = self.feeds.get(topic)
        if feed is None:
            feed = TopicFeed(self.node_id, self.incarnation, topic, self._window_bytes, self._settle)
            self.feeds[topic] = feed
            self._ask(topic)
        return feed

    def unsubscribe(self, topic: bytes) -> TopicFeed | None:
        """Hear it no more."""
        feed = self.feeds.pop(topic, None)
        if feed is not None:
            for _ in range(self._asked.pop(topic).times):  # ZeroMQ counts them
                self.socket.setsockopt(zmq.UNSUBSCRIBE, topic)
        return feed

    def ask_again(self, now: float) -> None:
        """Subscribe once more to what the peer has not confirmed: its answer may have been lost with a connection."""
        for topic, feed in self.feeds.items():
            asked = self._asked[topic]
            if not feed.is_confirmed and not self.is_away and now >= asked.again_at:
                self.socket.setsockopt(zmq.SUBSCRIBE, topic)
                asked.times += 1
                asked.wait_s = min(asked.wait_s * 2, ASK_AGAIN_MAX_S)
                asked.again_at = now + asked.wait_s

    def _ask(self, topic: bytes) -> None:
        """For the first time on this socket."""
        self.socket.setsockopt(zmq.SUBSCRIBE, topic)
        self._asked[topic] = _Asked(1, ASK_AGAIN_S, monotonic() + ASK_AGAIN_S)

    def read(self) -> None:
        """Take in what has come; called by the loop."""
        socket = self.socket
        for _ in range(FRAMES_PER_TURN):
            if socket.closed or not has_input(socket):
                return
            self._received(self, socket.recv(NOBLOCK))
        self._loop.call_soon(self.read)

    def close(self) -> None:
        """Disconnect."""
        self.go_away()
        self._close_socket()

    def _close_socket(self) -> None:
        if not self.socket.closed:
            self._loop.remove_reader(self._fd)
            self.socket.close(0)
