"""The SUB socket that hears one peer.

One for each peer, because only then is the publisher of a frame known by its key: ZeroMQ gives a client no User-Id of
the
server it is connected to (docs/decisions/0003).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import zmq

from zmesh.runtime.data_plane import DataPlane
from zmesh.runtime.peer import PeerAddress
from zmesh.runtime.sockets import NOBLOCK, client_socket, has_input
from zmesh.runtime.topic import TopicFeed
from zmesh.wire.limits import MAX_PART_BYTES

__all__ = ["PeerSubscription"]

FRAMES_PER_TURN: Final = 32


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
        self._window_bytes = plane.window_bytes
        self._loop = plane.loop
        self._received = received
        self._settle = settle
        # No receive high-water mark: the publisher's window bounds what can come.
        self.socket = client_socket(plane.context, zmq.SUB, plane.keys, address.curve_public, MAX_PART_BYTES)
        self._fd = int(self.socket.getsockopt(zmq.FD))
        self.socket.connect(address.endpoint)
        self._loop.add_reader(self._fd, self.read)
        self._loop.call_soon(self.read)

    def subscribe(self, topic: bytes) -> TopicFeed:
        """Hear a topic of this peer."""
        feed = self.feeds.get(topic)
        if feed is None:
            feed = TopicFeed(self.node_id, self.incarnation, topic, self._window_bytes, self._settle)
            self.feeds[topic] = feed
            self.socket.setsockopt(zmq.SUBSCRIBE, topic)
        return feed

    def unsubscribe(self, topic: bytes) -> TopicFeed | None:
        """Hear it no more."""
        feed = self.feeds.pop(topic, None)
        if feed is not None:
            self.socket.setsockopt(zmq.UNSUBSCRIBE, topic)
        return feed

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
        if not self.socket.closed:
            self._loop.remove_reader(self._fd)
            self.socket.close(0)
