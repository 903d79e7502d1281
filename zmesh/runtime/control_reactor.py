"""The control thread's poll: sockets and their callbacks, and a way for other threads to hand it work."""

from __future__ import annotations

import socket
from collections import deque
from collections.abc import Callable

import zmq

__all__ = ["Reactor"]

WAKE_BYTES = 4096


class Reactor:
    """One ``zmq.Poller`` with a callback for each socket. Only ``call`` may be used from other threads."""

    def __init__(self) -> None:
        self._poller = zmq.Poller()
        self._callbacks: dict[object, Callable[[], None]] = {}
        self._calls: deque[Callable[[], None]] = deque()
        self._wake_reader, self._wake_writer = socket.socketpair()
        self._wake_reader.setblocking(False)
        self._wake_writer.setblocking(False)
        self._poller.register(self._wake_reader, zmq.POLLIN)

    def watch(self, watched: zmq.Socket[bytes] | int, callback: Callable[[], None], *, writable: bool = False) -> None:
        """Call back when it can be read, or, with ``writable``, when it can be read or written."""
        self._callbacks[watched] = callback
        self._poller.register(watched, zmq.POLLIN | zmq.POLLOUT if writable else zmq.POLLIN)

    def unwatch(self, watched: zmq.Socket[bytes] | int) -> None:
        """Forget the socket. To be called before it is closed."""
        if self._callbacks.pop(watched, None) is not None:
            self._poller.unregister(watched)

    def call(self, action: Callable[[], None]) -> None:
        """Have ``action`` run on the control thread, soon, after those given before it. Safe from any thread."""
        self._calls.append(action)
        try:
            self._wake_writer.send(b"\0")
        except (BlockingIOError, OSError):
            # Full: the thread is being woken already. Closed: it has ended, and runs nothing any more.
            return

    def wait(self, timeout_s: float) -> list[Callable[[], None]]:
        """What is to be run now; waits up to ``timeout_s`` for something."""
        ready = self._poller.poll(max(0, round(timeout_s * 1000 + 0.5)))
        due: list[Callable[[], None]] = []
        for watched, _ in ready:
            callback = self._callbacks.get(watched)
            if callback is not None:
                due.append(callback)
            elif watched == self._wake_reader.fileno():
                self._drain_wake()
        while self._calls:
            due.append(self._calls.popleft())
        return due

    def close(self) -> None:
        """Free the wake-up's file descriptors."""
        self._wake_reader.close()
        self._wake_writer.close()

    def _drain_wake(self) -> None:
        try:
            while self._wake_reader.recv(WAKE_BYTES):
                pass
        except BlockingIOError:
            return
