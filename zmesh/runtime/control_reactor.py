"""The control thread's poll: sockets and their callbacks, and a way for other threads to hand it work.

It is an ``epoll`` of the sockets' descriptors, not a ``zmq.Poller``, which looks at every socket each time: a node has
some thirty, of which one is ready. ZeroMQ's descriptors tell that something may have changed, once: a watched socket
is looked at when its descriptor says so, after its callback, and when it begins to be watched. So nobody but its own
callback may use a socket while it is watched.
"""

from __future__ import annotations

import itertools
import select
import socket
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import zmq

from zmesh.runtime.sockets import EVENTS

__all__ = ["Reactor"]

WAKE_BYTES: Final = 4096
MAX_READY: Final = 256  # descriptors looked at in one turn
IN: Final = int(zmq.POLLIN)
IN_OR_OUT: Final = int(zmq.POLLIN | zmq.POLLOUT)

Watched = zmq.Socket[bytes] | int


@dataclass(frozen=True, slots=True, eq=False)
class _Watch:
    """Those watched first are called first."""

    number: int
    descriptor: int
    watched: Watched
    callback: Callable[[], None]
    interest: int


class Reactor:
    """Callbacks for sockets and file descriptors. Only ``call`` may be used from other threads."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._numbers = itertools.count()
        self._watches: dict[Watched, _Watch] = {}
        self._by_descriptor: dict[int, _Watch] = {}
        self._to_look_at: dict[_Watch, None] = {}  # their descriptors may be silent though they are ready
        self._calls: deque[Callable[[], None]] = deque()
        self._wake_reader, self._wake_writer = socket.socketpair()
        self._wake_reader.setblocking(False)
        self._wake_writer.setblocking(False)
        self._epoll.register(self._wake_reader, select.EPOLLIN)

    def watch(self, watched: Watched, callback: Callable[[], None], *, writable: bool = False) -> None:
        """Call back when it can be read, or, with ``writable``, when it can be read or written."""
        self.unwatch(watched)
        interest = IN_OR_OUT if writable else IN
        if isinstance(watched, int):
            descriptor, bits = watched, select.EPOLLIN | (select.EPOLLOUT if writable else 0)
        else:
            descriptor, bits = int(watched.getsockopt(zmq.FD)), select.EPOLLIN
        watch = _Watch(next(self._numbers), descriptor, watched, callback, interest)
        self._watches[watched] = self._by_descriptor[descriptor] = watch
        self._epoll.register(descriptor, bits)
        if not isinstance(watched, int):
            self._to_look_at[watch] = None

    def unwatch(self, watched: Watched) -> None:
        """Forget the socket. To be called before it is closed."""
        watch = self._watches.pop(watched, None)
        if watch is not None:
            del self._by_descriptor[watch.descriptor]
            self._to_look_at.pop(watch, None)
            self._epoll.unregister(watch.descriptor)

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
        ready = [watch for watch in self._to_look_at if _is_ready(watch)]
        self._to_look_at.clear()
        for descriptor, _ in self._epoll.poll(0 if ready else timeout_s, MAX_READY):
            watch = self._by_descriptor.get(descriptor)
            if watch is None:
                self._drain_wake()
            elif watch not in ready and _is_ready(watch):
                ready.append(watch)
        ready.sort(key=_number_of)
        self._to_look_at.update((watch, None) for watch in ready if not isinstance(watch.watched, int))
        due = [watch.callback for watch in ready]
        while self._calls:
            due.append(self._calls.popleft())
        return due

    def close(self) -> None:
        """Free its file descriptors."""
        self._wake_reader.close()
        self._wake_writer.close()
        self._epoll.close()

    def _drain_wake(self) -> None:
        try:
            while self._wake_reader.recv(WAKE_BYTES):
                pass
        except BlockingIOError:
            return


def _number_of(watch: _Watch) -> int:
    return watch.number


def _is_ready(watch: _Watch) -> bool:
    """Whether it can be read or written as is wished. Of a file descriptor, ``epoll`` has said so."""
    if isinstance(watch.watched, int):
        return True
    return bool(int(watch.watched.getsockopt(EVENTS)) & watch.interest)
