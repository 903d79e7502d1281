"""The sockets of broadcast and groups: the XPUB this node publishes on, and a SUB for each peer that it hears.

One SUB for each peer, because only then is the publisher of a frame known by its key: ZeroMQ gives a client no User-Id
of the server it is connected to (docs/decisions/0003).
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Final

import zmq

from zmesh.runtime.carrier import SubscriberReceiver
from zmesh.runtime.peer import PeerAddress
from zmesh.runtime.signs import Signs
from zmesh.runtime.sockets import NOBLOCK, CurveKeys, client_socket, has_input
from zmesh.wire.limits import MAX_PART_BYTES

__all__ = ["SubSocket", "XpubOutlet"]

FRAMES_PER_TURN: Final = 32  # then other callbacks of the loop get their turn


class XpubOutlet:
    """Publishes, and reads who subscribes to what."""

    def __init__(self, loop: asyncio.AbstractEventLoop, xpub: zmq.Socket[bytes], receiver: SubscriberReceiver) -> None:
        self._loop = loop
        self._xpub = xpub
        self._xpub_fd = int(xpub.getsockopt(zmq.FD))
        self._receiver = receiver

    def start(self) -> None:
        """Begin to read subscriptions."""
        self._loop.add_reader(self._xpub_fd, self._read)
        self._loop.call_soon(self._read)

    def close(self) -> None:
        """Stop, and close the socket."""
        self._loop.remove_reader(self._xpub_fd)
        self._xpub.close(0)

    def publish(self, data: bytes) -> None:
        """Send to all subscribers; never blocks, and one over its high-water mark misses it."""
        self._xpub.send(data, NOBLOCK)
        if has_input(self._xpub):  # sending may eat the descriptor's edge
            self._loop.call_soon(self._read)

    def _read(self) -> None:
        xpub = self._xpub
        while not xpub.closed and has_input(xpub):
            part = xpub.recv(NOBLOCK, copy=False)
            message = part.bytes
            if message[:1] == b"\x01" and message[-1:] == b"\0":
                self._subscribed(part, message[1:])

    def _subscribed(self, part: zmq.Frame, topic: bytes) -> None:
        try:
            node_id = str(part.get("User-Id"))
        except zmq.ZMQError:
            self._receiver.refuse_subscription()
            return
        self._receiver.subscribed(node_id, topic)


class SubSocket:
    """Connected to the publish socket of one peer; ``received`` gets each frame."""

    def __init__(
        self,
        context: zmq.Context[zmq.Socket[bytes]],
        loop: asyncio.AbstractEventLoop,
        keys: CurveKeys,
        address: PeerAddress,
        received: Callable[[bytes], None],
        signs: Signs,
    ) -> None:
        self._loop = loop
        self._heard, self._key = signs.keys, address.curve_public
        self._received = received
        self._times: Counter[bytes] = Counter()  # ZeroMQ counts subscriptions
        # No receive high-water mark: the publisher's window bounds what can come.
        self._socket = client_socket(context, zmq.SUB, keys, address.curve_public, MAX_PART_BYTES)
        self._fd = int(self._socket.getsockopt(zmq.FD))
        self._socket.connect(address.endpoint)
        loop.add_reader(self._fd, self._read)
        loop.call_soon(self._read)

    def subscribe(self, topic: bytes) -> None:
        """Ask for a topic."""
        self._socket.setsockopt(zmq.SUBSCRIBE, topic)
        self._times[topic] += 1

    def unsubscribe(self, topic: bytes) -> None:
        """Take every request for it back."""
        for _ in range(self._times.pop(topic)):
            self._socket.setsockopt(zmq.UNSUBSCRIBE, topic)

    def close(self) -> None:
        """Disconnect."""
        if not self._socket.closed:
            self._loop.remove_reader(self._fd)
            self._socket.close(0)

    def _read(self) -> None:
        socket = self._socket
        for _ in range(FRAMES_PER_TURN):
            if socket.closed or not has_input(socket):
                return
            data = socket.recv(NOBLOCK)
            self._heard[self._key] = None
            self._received(data)
        self._loop.call_soon(self._read)
