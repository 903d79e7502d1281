"""The carrier over ZeroMQ: a ROUTER and an XPUB that are bound already, a DEALER and a SUB for each peer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from time import monotonic, time_ns

import zmq

from zmesh.runtime.carrier import FrameReceiver, SubscriberReceiver
from zmesh.runtime.inbound import RouterInbound
from zmesh.runtime.outlet import SubSocket, XpubOutlet
from zmesh.runtime.peer import PeerAddress
from zmesh.runtime.signs import Signs
from zmesh.runtime.sockets import CurveKeys
from zmesh.runtime.transport import DealerTransport

__all__ = ["ZmqCarrier"]


class ZmqCarrier:
    """See ``Carrier``. What it makes is closed by whoever asked for it; the context is not its own."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        context: zmq.Context[zmq.Socket[bytes]],
        keys: CurveKeys,
        router: zmq.Socket[bytes],
        xpub: zmq.Socket[bytes],
        signs: Signs,
    ) -> None:
        """``signs`` is told of everybody who is heard."""
        # Not ``loop.time``: uvloop's moves in whole milliseconds, and acks are timed in less. And nanoseconds, because
        # a division costs less than the call that would spare it.
        self.clock: Callable[[], float] = monotonic
        self.wall_ns: Callable[[], int] = time_ns
        self._loop = loop
        self._context = context
        self._keys = keys
        self._router = router
        self._xpub = xpub
        self._signs = signs

    def new_transport(self, connected: Callable[[], None], disconnected: Callable[[], None]) -> DealerTransport:
        """A DEALER."""
        return DealerTransport(self._context, self._loop, self._keys, connected, disconnected)

    def new_inbound(self, receiver: FrameReceiver) -> RouterInbound:
        """The ROUTER."""
        return RouterInbound(self._loop, self._router, receiver, self._signs)

    def new_outlet(self, receiver: SubscriberReceiver) -> XpubOutlet:
        """The XPUB."""
        return XpubOutlet(self._loop, self._xpub, receiver)

    def new_subscription(self, address: PeerAddress, received: Callable[[bytes], None]) -> SubSocket:
        """A SUB."""
        return SubSocket(self._context, self._loop, self._keys, address, received, self._signs)
