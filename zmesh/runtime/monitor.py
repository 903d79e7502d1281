"""What libzmq says about a socket's connections: made, refused, closed.

libzmq writes these events from its I/O thread, blocking, into a PAIR. Closing that PAIR while the monitored socket
lives
therefore stops every connection of the context (tried): a monitor ends before its reader is closed, always.
"""

from __future__ import annotations

import itertools
import struct
from dataclasses import dataclass

import zmq

from zmesh.runtime.sockets import has_input, own_connection

__all__ = ["DIALLER_EVENTS", "LISTENER_EVENTS", "MonitorEvent", "SocketMonitor", "peer_address"]

_FAILED = zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL | zmq.EVENT_HANDSHAKE_FAILED_AUTH
_COMMON = zmq.EVENT_HANDSHAKE_SUCCEEDED | zmq.EVENT_DISCONNECTED | _FAILED
DIALLER_EVENTS = int(_COMMON)
LISTENER_EVENTS = int(_COMMON | zmq.EVENT_ACCEPTED)

_names = itertools.count()
_HEADER = struct.Struct("=Hi")


@dataclass(frozen=True, slots=True)
class MonitorEvent:
    """``value`` is a file descriptor, an errno, a ZAP status or a protocol error, by the kind of event."""

    event: int
    value: int

    @property
    def is_handshake_failure(self) -> bool:
        """Whether a connection was given up before both sides knew each other."""
        return bool(self.event & _FAILED)


class SocketMonitor:
    """The events of one socket. Made on the thread of that socket; read on any one thread."""

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], monitored: zmq.Socket[bytes], events: int) -> None:
        endpoint = f"inproc://zmesh.monitor.{next(_names)}"
        self._monitored = monitored
        monitored.monitor(endpoint, events)
        self.reader = context.socket(zmq.PAIR)
        self.reader.setsockopt(zmq.RCVHWM, 0)  # else a flood of strangers blocks libzmq's I/O thread
        self.reader.setsockopt(zmq.LINGER, 0)
        self.reader.connect(endpoint)

    def events(self) -> list[MonitorEvent]:
        """What has happened since the last call, in order."""
        found: list[MonitorEvent] = []
        while has_input(self.reader):
            event, value = _HEADER.unpack(self.reader.recv())
            self.reader.recv()  # the endpoint, known already
            found.append(MonitorEvent(event, value))
        return found

    def close(self) -> None:
        """End the monitor, then its reader, whether the monitored socket is still open or not.

        From any thread, as long as no other is just closing that socket: libzmq guards a socket's monitor by a lock of
        its own, because its I/O threads write to it, so this is no use of the socket by two threads.
        """
        if not self._monitored.closed:
            self._monitored.disable_monitor()
        self.reader.close()


def peer_address(descriptor: int) -> str:
    """The address of whoever is connected to this file descriptor of libzmq's, "" if it is closed by now."""
    connection = own_connection(descriptor)
    if connection is None:
        return ""
    with connection:
        try:
            return str(connection.getpeername()[0]).removeprefix("::ffff:")
        except (OSError, IndexError):
            return ""
