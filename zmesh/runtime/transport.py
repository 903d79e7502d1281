"""The one DEALER that sends to a peer: connected on first use, closed when idle, watched by a monitor."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

import zmq
from zmq.utils.monitor import recv_monitor_message

from zmesh.runtime.sockets import has_input
from zmesh.wire.limits import MAX_PART_BYTES

__all__ = ["CurveKeys", "DealerTransport", "endpoint_of"]

COPY_BELOW_BYTES: Final = 64 * 1024
RECONNECT_MS: Final = 100
RECONNECT_MAX_MS: Final = 3000
WATCHED_EVENTS: Final = (
    zmq.EVENT_HANDSHAKE_SUCCEEDED
    | zmq.EVENT_HANDSHAKE_FAILED_AUTH
    | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
    | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
    | zmq.EVENT_DISCONNECTED
)
CurveKeys = tuple[bytes, bytes]  # public, secret: Z85


def endpoint_of(host: str, port: int) -> str:
    """``tcp://HOST:PORT``, an IPv6 host in brackets."""
    return f"tcp://[{host}]:{port}" if ":" in host else f"tcp://{host}:{port}"


class DealerTransport:
    """A DEALER and its monitor, on the loop's thread.

    ``connected`` and ``disconnected`` are called from the loop when the connection stands or breaks.
    """

    def __init__(
        self,
        context: zmq.Context[zmq.Socket[bytes]],
        loop: asyncio.AbstractEventLoop,
        keys: CurveKeys,
        connected: Callable[[], None],
        disconnected: Callable[[], None],
    ) -> None:
        self._context = context
        self._loop = loop
        self._keys = keys
        self._connected = connected
        self._disconnected = disconnected
        self._socket: zmq.Socket[bytes] | None = None
        self._monitor: zmq.Socket[bytes] | None = None
        self._monitor_fd = -1
        self.is_connected = False

    @property
    def is_open(self) -> bool:
        """Whether there is a socket, connected or trying to."""
        return self._socket is not None

    def open(self, endpoint: str, server_key: bytes) -> None:
        """Start to connect; ZeroMQ goes on trying until ``close``."""
        socket = self._context.socket(zmq.DEALER)
        socket.setsockopt(zmq.LINGER, 0)
        socket.setsockopt(zmq.SNDHWM, 0)  # credit bounds it
        socket.setsockopt(zmq.RCVHWM, 0)
        socket.setsockopt(zmq.IMMEDIATE, 1)
        socket.setsockopt(zmq.IPV6, 1)
        socket.setsockopt(zmq.MAXMSGSIZE, MAX_PART_BYTES)
        socket.setsockopt(zmq.RECONNECT_IVL, RECONNECT_MS)
        socket.setsockopt(zmq.RECONNECT_IVL_MAX, RECONNECT_MAX_MS)
        socket.setsockopt(zmq.CONNECT_TIMEOUT, 3000)
        socket.setsockopt(zmq.HANDSHAKE_IVL, 3000)
        socket.setsockopt(zmq.CURVE_PUBLICKEY, self._keys[0])
        socket.setsockopt(zmq.CURVE_SECRETKEY, self._keys[1])
        socket.setsockopt(zmq.CURVE_SERVERKEY, server_key)
        set_keepalive(socket)
        self._monitor = socket.get_monitor_socket(WATCHED_EVENTS)
        self._monitor_fd = int(self._monitor.getsockopt(zmq.FD))
        self._loop.add_reader(self._monitor_fd, self._read_monitor)
        self._socket = socket
        socket.connect(endpoint)
        self._loop.call_soon(self._read_monitor)  # its descriptor is edge-triggered

    def close(self) -> None:
        """Close at once; what ZeroMQ still holds is dropped (the session has it)."""
        if self._socket is None or self._monitor is None:
            return
        self._loop.remove_reader(self._monitor_fd)
        self._socket.disable_monitor()
        self._monitor.close(0)
        self._socket.close(0)
        self._socket = self._monitor = None
        self.is_connected = False

    def send(self, parts: tuple[bytes | memoryview, ...]) -> bool:
        """Hand one message to ZeroMQ; False where there is no connection to send it on."""
        socket = self._socket
        if socket is None:
            return False
        try:
            if len(parts) == 1:
                socket.send(parts[0], zmq.NOBLOCK)
            else:
                socket.send(parts[0], zmq.SNDMORE | zmq.NOBLOCK)
                socket.send(parts[1], zmq.NOBLOCK, copy=len(parts[1]) < COPY_BELOW_BYTES)
        except zmq.Again:
            return False
        return True

    def _read_monitor(self) -> None:
        monitor = self._monitor
        while monitor is not None and has_input(monitor):
            self._handle_event(recv_monitor_message(monitor)["event"])
            monitor = self._monitor  # a callback may have closed it

    def _handle_event(self, event: int) -> None:
        if event == zmq.EVENT_HANDSHAKE_SUCCEEDED:
            self.is_connected = True
            self._connected()
        elif self.is_connected or event != zmq.EVENT_DISCONNECTED:
            self.is_connected = False
            self._disconnected()


def set_keepalive(socket: zmq.Socket[bytes]) -> None:
    """TCP keep-alive, so that a peer that vanished without a word is noticed within 90 s even when nothing is sent."""
    socket.setsockopt(zmq.TCP_KEEPALIVE, 1)
    socket.setsockopt(zmq.TCP_KEEPALIVE_IDLE, 60)
    socket.setsockopt(zmq.TCP_KEEPALIVE_INTVL, 10)
    socket.setsockopt(zmq.TCP_KEEPALIVE_CNT, 3)
