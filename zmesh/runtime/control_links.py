"""The control connections to other nodes: one DEALER each, which only sends.

With ``IMMEDIATE`` set, a frame never waits for a dead peer in ZeroMQ's queue, where it would reach whoever takes the
port next. What cannot be sent waits here, the newest of each kind, until the connection is up.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import zmq

from zmesh.runtime.control_reactor import Reactor
from zmesh.runtime.monitor import DIALLER_EVENTS, SocketMonitor
from zmesh.runtime.peer import Route
from zmesh.runtime.ports import HANDSHAKE_MS, KEEPALIVE, endpoint
from zmesh.security import Identity

__all__ = ["Links", "client_socket"]

RECONNECT_MS = 50  # short at first, so that a restarted node is found before it is missed
RECONNECT_MAX_MS = 1000  # the link to a dead node is closed, so this never goes on for long
UNACKED_MS = (
    5000  # TCP gives up a connection whose data nobody acknowledges for this long: the peer moved, or is cut off
)
CONNECT_PATIENCE_S = 3.0
GOODBYE_LINGER_MS = 500
SEND_QUEUE = 10_000  # frames; heartbeats of minutes, so it is reached by no healthy connection


def client_socket(
    context: zmq.Context[zmq.Socket[bytes]], public: bytes, secret: bytes, server: bytes
) -> zmq.Socket[bytes]:
    """A DEALER with the options that every outgoing control connection has. Keys are Z85."""
    dealer = context.socket(zmq.DEALER)
    dealer.setsockopt(zmq.CURVE_PUBLICKEY, public)
    dealer.setsockopt(zmq.CURVE_SECRETKEY, secret)
    dealer.setsockopt(zmq.CURVE_SERVERKEY, server)
    dealer.setsockopt(zmq.IPV6, 1)
    dealer.setsockopt(zmq.IMMEDIATE, 1)
    dealer.setsockopt(zmq.LINGER, 0)
    dealer.setsockopt(zmq.RCVHWM, 0)
    dealer.setsockopt(zmq.SNDHWM, SEND_QUEUE)
    dealer.setsockopt(zmq.RECONNECT_IVL, RECONNECT_MS)
    dealer.setsockopt(zmq.RECONNECT_IVL_MAX, RECONNECT_MAX_MS)
    dealer.setsockopt(zmq.CONNECT_TIMEOUT, HANDSHAKE_MS)
    dealer.setsockopt(zmq.HANDSHAKE_IVL, HANDSHAKE_MS)
    dealer.setsockopt(zmq.TCP_MAXRT, UNACKED_MS)
    for option, value in KEEPALIVE.items():
        dealer.setsockopt(option, value)
    return dealer


@dataclass(slots=True)
class _Link:
    route: Route
    dealer: zmq.Socket[bytes]
    monitor: SocketMonitor
    patience_until: float
    is_connected: bool = False
    waiting: dict[str, bytes] = field(default_factory=dict)


class Links:
    """All outgoing control connections. Used on the control thread alone."""

    def __init__(
        self,
        context: zmq.Context[zmq.Socket[bytes]],
        identity: Identity,
        reactor: Reactor,
        clock: Callable[[], float],
        on_down: Callable[[str], None],
    ) -> None:
        self._context = context
        self._identity = identity
        self._reactor = reactor
        self._clock = clock
        self._on_down = on_down
        self._routes: dict[str, Route] = {}
        self._links: dict[str, _Link] = {}
        self.sent = 0
        self.unsent = 0

    def route_of(self, node_id: str) -> Route | None:
        """The way to a node that has been introduced."""
        return self._routes.get(node_id)

    def set_route(self, node_id: str, route: Route) -> None:
        """The node has been met there. A connection that is up and leads there stays; any other is replaced."""
        self._routes[node_id] = route
        link = self._links.get(node_id)
        if link is not None and not (link.is_connected and link.route == route):
            self.close(node_id)

    def send(self, node_id: str, kind: str, frame: bytes) -> None:
        """Send, now or when the connection is up; a later frame of the same kind takes the place of one that waits."""
        link = self._links.get(node_id) or self._open(node_id)
        if link is None:
            self.unsent += 1
            return
        if link.waiting:
            self._wait(node_id, link, kind, frame)
        elif self._try_send(link, frame):
            self.sent += 1
        else:
            self._wait(node_id, link, kind, frame)

    @property
    def has_waiting(self) -> bool:
        """Whether something waits for a connection."""
        return any(link.waiting for link in self._links.values())

    def drop_waiting(self) -> None:
        """Give up what waits: something is to be said that makes it void."""
        for link in self._links.values():
            self.unsent += len(link.waiting)
            link.waiting.clear()

    def close(self, node_id: str, linger_ms: int = 0) -> None:
        """Close the connection; the way stays known."""
        link = self._links.pop(node_id, None)
        if link is not None:
            self._reactor.unwatch(link.dealer)
            self._reactor.unwatch(link.monitor.reader)
            link.monitor.close()
            link.dealer.close(linger=linger_ms)

    def forget(self, node_id: str) -> None:
        """Close the connection, and forget the way."""
        self.close(node_id)
        self._routes.pop(node_id, None)

    def close_all(self, *, flush: bool) -> None:
        """Close everything; ``flush`` lets what has been sent leave."""
        for node_id in list(self._links):
            self.close(node_id, GOODBYE_LINGER_MS if flush else 0)

    def review(self) -> None:
        """Report the connections that have not come up in all this time."""
        now = self._clock()
        for node_id, link in list(self._links.items()):
            if not link.is_connected and link.patience_until <= now:
                link.patience_until = now + CONNECT_PATIENCE_S
                self._on_down(node_id)

    def _open(self, node_id: str) -> _Link | None:
        route = self._routes.get(node_id)
        if route is None:
            return None
        identity = self._identity
        dealer = client_socket(self._context, identity.curve_public, identity.curve_secret, route.curve_public)
        monitor = SocketMonitor(self._context, dealer, DIALLER_EVENTS)
        dealer.connect(endpoint(route.host, route.port))
        link = self._links[node_id] = _Link(route, dealer, monitor, self._clock() + CONNECT_PATIENCE_S)
        self._reactor.watch(monitor.reader, lambda: self._on_events(node_id, link))
        return link

    def _wait(self, node_id: str, link: _Link, kind: str, frame: bytes) -> None:
        if not link.waiting:
            self._reactor.watch(link.dealer, lambda: self._flush(node_id, link), writable=True)
        elif kind in link.waiting:
            self.unsent += 1
        link.waiting[kind] = frame

    def _flush(self, node_id: str, link: _Link) -> None:
        if self._links.get(node_id) is not link:
            return
        while link.waiting:
            kind = next(iter(link.waiting))
            if not self._try_send(link, link.waiting[kind]):
                return
            del link.waiting[kind]
            self.sent += 1
        self._reactor.unwatch(link.dealer)

    @staticmethod
    def _try_send(link: _Link, frame: bytes) -> bool:
        try:
            link.dealer.send(frame, zmq.NOBLOCK)
        except zmq.Again:
            return False
        return True

    def _on_events(self, node_id: str, link: _Link) -> None:
        if self._links.get(node_id) is not link:
            return
        for event in link.monitor.events():
            if event.event == zmq.EVENT_HANDSHAKE_SUCCEEDED:
                link.is_connected = True
            elif event.event == zmq.EVENT_DISCONNECTED and link.is_connected:
                link.is_connected = False
                link.patience_until = self._clock() + CONNECT_PATIENCE_S
                self._on_down(node_id)
