"""The ROUTER that everything comes in on, read from the user's loop."""

from __future__ import annotations

import asyncio
from typing import Final

import zmq

from zmesh.errors import ProtocolViolation
from zmesh.runtime.carrier import FrameReceiver
from zmesh.runtime.signs import Signs
from zmesh.runtime.sockets import NOBLOCK, cut_connection, has_input

__all__ = ["RouterInbound"]

USER_ID: Final = b"User-Id"  # pyzmq would encode a text each time
FRAMES_PER_TURN: Final = 32  # then other callbacks of the loop get their turn


class RouterInbound:
    """Reads frames and hands them to the data plane, which answers each before the next is looked for."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, router: zmq.Socket[bytes], receiver: FrameReceiver, signs: Signs
    ) -> None:
        self._loop = loop
        self._heard = signs.names
        self._router = router
        self._router_fd = int(router.getsockopt(zmq.FD))
        self._receiver = receiver
        self._receive_frame = receiver.receive_frame
        self._reads_on = False  # whether that is to be done in the next loop turn

    def start(self) -> None:
        """Begin to read."""
        self._loop.add_reader(self._router_fd, self._read)
        self._read_on_soon()

    def close(self) -> None:
        """Read no more, and close the socket."""
        self._loop.remove_reader(self._router_fd)
        self._router.close(0)

    def _read(self) -> None:
        """The descriptor has something to say. One frame is read and answered before it is asked whether there are
        more: most often there are none, and the question costs as much as several calls of what its sender waits for.
        """
        if not self._router.closed:
            try:
                self._router.recv(NOBLOCK)  # the routing id: the sender is known by its key
            except zmq.Again:
                return
            self._read_frame()
            self._read_on_soon()

    def _read_on_soon(self) -> None:
        # The descriptor is edge-triggered: it will not call for what is there already.
        if not self._reads_on:
            self._reads_on = True
            self._loop.call_soon(self._read_on)

    def _read_on(self) -> None:
        self._reads_on = False
        router = self._router
        if router.closed:
            return
        for _ in range(FRAMES_PER_TURN):
            if not has_input(router):
                return
            router.recv(NOBLOCK)
            self._read_frame()
        self._read_on_soon()

    def _read_frame(self) -> None:
        router = self._router
        part = router.recv(NOBLOCK, False)  # no copy: only such a frame tells whose it is
        attachment = None
        try:
            if part.more:
                attachment = self._read_attachment(router)
            node_id = part.get(USER_ID)
        except ProtocolViolation as violation:
            self._refuse(part, violation)
            return
        except zmq.ZMQError:
            self._receiver.statistics.dropped_unauthenticated += 1
            return
        self._heard[node_id] = None
        try:
            self._receive_frame(node_id, part, attachment)  # type: ignore[arg-type]  # a text, and a buffer: no stub says so
        except ProtocolViolation as violation:
            self._refuse(part, violation)
        except BaseException:
            self._read_on_soon()  # an interrupt in a handler, or a bug of ours: the rest is still there to be read
            raise

    @staticmethod
    def _read_attachment(router: zmq.Socket[bytes]) -> bytes:
        attachment = router.recv(NOBLOCK, False)
        if attachment.more:
            while router.recv(NOBLOCK, copy=False).more:
                pass
            raise ProtocolViolation("malformed_frame", "more than two parts")
        return attachment.bytes

    def _refuse(self, part: zmq.Frame, violation: ProtocolViolation) -> None:
        """Count a forbidden frame and cut its connection; the peer's session goes on when it reconnects."""
        self._receiver.refuse(_authenticated_sender(part) or "?", violation)
        self._receiver.statistics.connections_cut += 1
        cut_connection(part)


def _authenticated_sender(part: zmq.Frame) -> str | None:
    """The ``node_id`` that ZAP gave the connection this part came over."""
    try:
        return str(part.get("User-Id"))
    except zmq.ZMQError:
        return None
