"""Raw pyzmq, written as well as a user of it could: what zmesh is held against.

One message is one ``send`` call, as it is one ``await agent.send`` in zmesh. The choices that are the baseline's own
(queue lengths, copying) are those that measured fastest on it; docs/performance.md has the comparison.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import zmq
from _harness import STALL_S, Channel, Job, Role, Stopwatch

__all__ = ["ROLES", "RawSocket", "bind", "connect", "opened"]

RawSocket = zmq.Socket[bytes]

LARGE_BYTES = 64 * 1024  # from here on send and receive without a copy are the faster ones
UNBOUNDED = 0


class Pattern(NamedTuple):
    """The socket types of a pattern, and whether the receiving one gets a routing id before each message."""

    sending: int
    receiving: int
    routed: bool


PATTERNS = {
    "push-pull": Pattern(zmq.PUSH, zmq.PULL, routed=False),
    "dealer-router": Pattern(zmq.DEALER, zmq.ROUTER, routed=True),
}


@contextmanager
def opened(kind: int) -> Iterator[RawSocket]:
    """A socket in a context of its own, closed on leaving."""
    context = zmq.Context()
    socket = context.socket(kind)
    socket.rcvtimeo = int(STALL_S * 1000)
    socket.sndtimeo = int(STALL_S * 1000)
    socket.sndhwm = socket.rcvhwm = UNBOUNDED  # counts are bounded, and bounded queues measured slower or the same
    try:
        yield socket
    finally:
        context.destroy(linger=0)


def bind(socket: RawSocket, job: Job, channel: Channel) -> None:
    """Listen on loopback and say where, with a fresh CURVE key if the job asks for one."""
    public, secret = zmq.curve_keypair()
    if job.curve:
        socket.curve_server = True
        socket.curve_secretkey = secret
    port = socket.bind_to_random_port("tcp://127.0.0.1")
    channel.tell(address=f"tcp://127.0.0.1:{port}", server_key=public.decode())


def connect(socket: RawSocket, job: Job) -> None:
    """Connect to the other side, with a CURVE key of its own if the job asks for one."""
    if job.curve:
        socket.curve_publickey, socket.curve_secretkey = zmq.curve_keypair()
        socket.curve_serverkey = job.server_key.encode()
    socket.connect(job.address)


# --- one way -----------------------------------------------------------------------------------------------------


def send_one_way(channel: Channel, job: Job) -> None:
    """The sending side: ``count`` messages as fast as they go, one ``send`` each."""
    with opened(PATTERNS[job.pattern].sending) as socket:
        connect(socket, job)
        for _ in range(job.warmup):
            socket.send(bytes(job.size - 1))
        channel.wait()
        watch = Stopwatch()
        _send_all(socket, bytes(job.size), job.count)
        channel.wait()
        channel.tell(sent=job.count, first_ns=watch.started_ns, **watch.values())


def _send_all(socket: RawSocket, payload: bytes, count: int) -> None:
    send = socket.send
    if len(payload) >= LARGE_BYTES:
        for _ in range(count):
            send(payload, 0, False)
    else:
        for _ in range(count):
            send(payload)


def receive_one_way(channel: Channel, job: Job) -> None:
    """The receiving side of a pattern: counts, and times from the first message to the last."""
    pattern = PATTERNS[job.pattern]
    with opened(pattern.receiving) as socket:
        bind(socket, job, channel)
        _receive_counted(socket, job, channel, routed=pattern.routed)


def _receive_counted(socket: RawSocket, job: Job, channel: Channel, *, routed: bool) -> None:
    warmed = 0
    while len(_receive_one(socket, routed)) != job.size:  # the first message of full size starts the clock
        warmed += 1
        if warmed == job.warmup:
            channel.tell(warm=1)
    watch = Stopwatch()
    drain = _drain_routed if routed else _drain
    received = 1 + drain(socket, job.count - 1, job.size < LARGE_BYTES)
    channel.tell(
        received=received,
        first_ns=watch.started_ns,
        last_ns=time.monotonic_ns(),
        **watch.values(),
    )


def _receive_one(socket: RawSocket, routed: bool) -> bytes:
    if routed:
        socket.recv()
    return socket.recv()


def _drain(socket: RawSocket, count: int, copy: bool) -> int:
    recv = socket.recv
    for received in range(count):
        try:
            recv(0, copy)
        except zmq.Again:
            return received
    return count


def _drain_routed(socket: RawSocket, count: int, copy: bool) -> int:
    recv = socket.recv
    for received in range(count):
        try:
            recv()
            recv(0, copy)
        except zmq.Again:
            return received
    return count


# --- fan-out -----------------------------------------------------------------------------------------------------


def publish(channel: Channel, job: Job) -> None:
    """PUB, one message a call; before the clock starts, small messages show every subscriber that it is connected."""
    with opened(zmq.PUB) as socket:
        bind(socket, job, channel)
        while not channel.told_within(0.01):
            socket.send(bytes(job.size - 1))
        watch = Stopwatch()
        _send_all(socket, bytes(job.size), job.count)
        channel.wait()
        channel.tell(sent=job.count, first_ns=watch.started_ns, **watch.values())


def subscribe(channel: Channel, job: Job) -> None:
    """SUB to everything."""
    with opened(zmq.SUB) as socket:
        connect(socket, job)
        socket.subscribe(b"")
        _receive_counted(socket, job, channel, routed=False)


ROLES: dict[str, Role] = {
    "pyzmq.send_one_way": send_one_way,
    "pyzmq.receive_one_way": receive_one_way,
    "pyzmq.publish": publish,
    "pyzmq.subscribe": subscribe,
}
