"""What comes to this node's ports without being a node of the mesh: counted, and told of once, by what it did."""

from __future__ import annotations

import errno
import time
from collections.abc import Callable

import zmq

from zmesh.discovery.interfaces import usable_addresses
from zmesh.runtime.control_notices import UNKNOWN, IncidentLog
from zmesh.runtime.monitor import MonitorEvent, SocketMonitor, peer_address

__all__ = ["ListenerWatch", "addresses_beside"]

_FAILURES = {
    int(zmq.PROTOCOL_ERROR_ZMTP_MECHANISM_MISMATCH): ("refused_mechanism", "it speaks ZeroMQ, but not CURVE"),
    int(zmq.PROTOCOL_ERROR_ZMTP_CRYPTOGRAPHIC): ("refused_key", "it expects another key here: a node of another mesh?"),
}
_MALFORMED = ("malformed_handshake", "it does not speak ZeroMQ")
_SILENT = ("silent_connection", "it connected and said nothing")
_ABANDONED = ("abandoned_handshake", "it hung up in mid-handshake, as clients without CURVE do")

QUIET_S = 5.0  # a node hangs up on all but the first of the connections that it tries at once: it is in by then
MAX_UNFINISHED = 256


def addresses_beside(address: str) -> tuple[str, ...]:
    """The address; all of this machine's if it is one of them, since a node here dials from whichever fits."""
    own = ("127.0.0.1", "::1", *(each.partition("%")[0] for each in usable_addresses()))
    return own if address.partition("%")[0] in own else (address,)


class ListenerWatch:
    """Reads the monitor of one bound socket."""

    def __init__(
        self,
        monitor: SocketMonitor,
        port: int,
        incidents: IncidentLog,
        has_admitted: Callable[[str], bool],
        on_closed: Callable[[int], None],
    ) -> None:
        """``has_admitted(address)``: whether ZAP has ever let somebody in from there; from anywhere, if it is "".

        ``on_closed`` gets the file descriptor of every connection that ends.
        """
        self._monitor = monitor
        self._port = port
        self._incidents = incidents
        self._has_admitted = has_admitted
        self._on_closed = on_closed
        self._addresses: dict[int, str] = {}  # of the open connections, by file descriptor
        self._unproven: set[int] = set()  # those of which no handshake has been heard
        self._failure: MonitorEvent | None = None
        self._unfinished: dict[str, tuple[float, tuple[str, str]]] = {}  # since when handshakes from there end so

    def handle(self) -> None:
        """Take note of what has happened."""
        for event in self._monitor.events():
            if event.event == zmq.EVENT_ACCEPTED:
                self._addresses[event.value] = peer_address(event.value)
                self._unproven.add(event.value)
            elif event.event == zmq.EVENT_HANDSHAKE_SUCCEEDED:
                # libzmq does not say whose. With several under way, none is accused later of what it may not have done.
                self._unproven.clear()
            elif event.event == zmq.EVENT_HANDSHAKE_FAILED_AUTH:
                # Nor whom ZAP has refused (it was counted there), whose connection may stand for seconds from now on.
                self._unproven.clear()
            elif event.is_handshake_failure:
                self._failure = event  # its connection is closed next, and that event says which it was
            elif event.event == zmq.EVENT_DISCONNECTED:
                self._close(event.value)

    def _close(self, descriptor: int) -> None:
        failure, self._failure = self._failure, None
        address = self._addresses.pop(descriptor, "")
        is_unproven = descriptor in self._unproven
        self._unproven.discard(descriptor)
        if failure is not None:
            self._explain(failure, address)
        elif is_unproven:
            self._report(*_MALFORMED, address)
        self._on_closed(descriptor)

    def _explain(self, failure: MonitorEvent, address: str) -> None:
        if failure.event == zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL:
            self._report(*_FAILURES.get(failure.value, _MALFORMED), address)
        elif failure.event == zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL and failure.value == errno.EAGAIN:
            self._note_unfinished(address, _SILENT)
        elif failure.event == zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL:
            self._note_unfinished(address, _ABANDONED)

    def _note_unfinished(self, address: str, what: tuple[str, str]) -> None:
        if len(self._unfinished) < MAX_UNFINISHED:
            self._unfinished.setdefault(address, (time.monotonic(), what))

    def review(self) -> None:
        """Report those who hung up or kept waiting, from where no node has ever come in.

        Nodes may hang up when they like, and do so at once when they knock, which leaves no address to look at; and on
        a busy machine a handshake between nodes may take longer than libzmq grants it.
        """
        long_ago = time.monotonic() - QUIET_S
        for address in [address for address, (at, _) in self._unfinished.items() if at <= long_ago]:
            _, what = self._unfinished.pop(address)
            if not any(map(self._has_admitted, addresses_beside(address))):
                self._report(*what, address)

    def _report(self, kind: str, what: str, address: str) -> None:
        reason = f"a connection from {address or UNKNOWN} to port {self._port} was refused: {what}"
        if address:
            self._incidents.report(kind, address, reason)
        else:  # it was gone before it could be looked at
            self._incidents.report_nameless(kind, reason)
