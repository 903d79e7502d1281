"""How inputs reach the process on a host: the events of the world's queue that concern a host.

Each is a function ``action(host, first, second)``, and not a closure, because the queue is the hot path. Where the
process is paused or busy, the input is held; ``work_off`` then lets it have one after the other, each as an event.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from zmesh.testing.host import Host

__all__ = [
    "NEVER",
    "Waiting",
    "call_back",
    "deliver",
    "disconnect",
    "fire",
    "resume",
    "send_later",
    "take_input",
    "time_out",
    "work_off",
]

NEVER: Final = float("inf")
Waiting = tuple[Callable[..., None], Any, Any]


def deliver(host: Host, sender: str, message: Any) -> None:
    """A message arrives."""
    if not host.is_open:
        host.hold(_take_in, sender, message)
        return
    _take_in(host, sender, message)


def _take_in(host: Host, sender: str, message: Any) -> None:
    process = host.process
    if process is None:
        return
    host.received += 1
    process.receive(host.clock.read(host.world.now), sender, message)
    deadline = process.next_deadline()
    if deadline is not None and deadline < host.armed:
        host.arm()
    if host.busy_s or host.cost_s:
        host.finish_input()


def take_input(host: Host, function: Callable[..., Any], args: tuple[Any, ...]) -> None:
    """Somebody calls ``function(now, *args)``."""
    function(host.now, *args)
    host.arm()
    host.finish_input()


def disconnect(host: Host, peer: str, _: None) -> None:
    """A connection closes."""
    if not host.is_open:
        host.hold(_tell_disconnected, peer, None)
        return
    _tell_disconnected(host, peer, None)


def _tell_disconnected(host: Host, peer: str, _: None) -> None:
    if host.process is not None:
        take_input(host, host.process.disconnected, (peer,))


def fire(host: Host, deadline: float, run: int) -> None:
    """A timer goes off."""
    if deadline != host.armed or run != host.run:
        return  # another timer took its place
    if not host.is_open:
        host.hold(time_out, deadline, run)
        return
    time_out(host, deadline, run)


def time_out(host: Host, armed: float, run: int) -> None:
    """The process learns of it, unless its deadline has moved meanwhile."""
    process = host.process
    if process is None or armed != host.armed or run != host.run:
        return
    clock = host.clock
    clock.reached(armed)
    now = clock.read(host.world.now)
    host.armed = NEVER
    deadline = process.next_deadline()
    if deadline is not None and deadline <= now:
        process.handle_timeout(now)
        host.count_spin(now)
    host.arm()
    if host.busy_s or host.cost_s:
        host.finish_input()


def call_back(host: Host, run: int, call: tuple[Callable[..., None], tuple[Any, ...]]) -> None:
    """What ``Host.after`` was asked for."""
    if run != host.run or host.process is None:
        return
    if not host.is_open:
        host.hold(_call_back_now, run, call)
        return
    _call_back_now(host, run, call)


def _call_back_now(host: Host, _run: int, call: tuple[Callable[..., None], tuple[Any, ...]]) -> None:
    callback, args = call
    callback(*args)
    host.arm()
    host.finish_input()


def send_later(host: Host, run: int, message: tuple[Sequence[str], Any, int]) -> None:
    """The computation is over of which this message is the result."""
    if run == host.run and host.process is not None:
        host.world.network.send(host, *message)


def resume(host: Host, run: int, _: None) -> None:
    """A pause is over."""
    if run == host.run:
        host.resume()


def work_off(host: Host, inbox: deque[Waiting], _: None) -> None:
    """One input that waited; the next is an event of its own."""
    if host.inbox is not inbox or host.is_paused:
        return
    if not inbox:
        host.inbox = None
        host.is_open = True
        return
    action, first, second = inbox.popleft()
    action(host, first, second)
    if host.inbox is inbox:
        busy_s, host.busy_s = host.busy_s + host.cost_s, 0.0
        host.world.push_after(busy_s, work_off, host, inbox, None)
