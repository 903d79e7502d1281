"""Raw pyzmq request and reply: one at a time with blocking calls, and many in flight on an event loop.

The loop is driven as zmesh drives it, by ``add_reader`` on the socket's descriptor, since ``zmq.asyncio`` is slower by
half. The descriptor tells of changes only, and any call on the socket may swallow one, so each callback reads until
``Again``, and whoever sends outside a callback has the socket looked at before the loop sleeps.
"""

from __future__ import annotations

import asyncio
import time

import zmq
from _baselines import RawSocket, bind, connect, opened
from _harness import Channel, Job, Role, Stopwatch, done_or_stalled, latency_values, run_on_loop

__all__ = ["ROLES"]

NOBLOCK = int(zmq.NOBLOCK)  # plain integers: or-ing zmq's enums costs 700 ns a call
SNDMORE = int(zmq.SNDMORE)
DEADLINE_S = 10.0
ID_BYTES = 8  # the number in front of a request of its own

# --- request and reply, one at a time ----------------------------------------------------------------------------


def echo_blocking(channel: Channel, job: Job) -> None:
    """ROUTER that sends back what it gets, with blocking calls."""
    with opened(zmq.ROUTER) as socket:
        bind(socket, job, channel)
        recv, send = socket.recv, socket.send
        for _ in range(job.warmup + job.count):
            peer = recv()
            body = recv()
            send(peer, SNDMORE)
            send(body)
        channel.wait()


def request_blocking(channel: Channel, job: Job) -> None:
    """DEALER that sends the next request when it has the reply to the last."""
    with opened(zmq.DEALER) as socket:
        connect(socket, job)
        _round_trips(socket, job.size, job.warmup)
        watch = Stopwatch()
        samples_ns = _round_trips(socket, job.size, job.count)
        channel.tell(**latency_values(samples_ns), **watch.values())


def _round_trips(socket: RawSocket, size: int, count: int) -> list[int]:
    send, recv, now, payload = socket.send, socket.recv, time.monotonic_ns, bytes(size)
    samples_ns = []
    for _ in range(count):
        started = now()
        send(payload)
        recv()
        samples_ns.append(now() - started)
    return samples_ns


# --- request and reply, many in flight, on an event loop ---------------------------------------------------------


def echo_add_reader(channel: Channel, job: Job) -> None:
    """ROUTER on ``loop.add_reader`` that sends back what it gets, one frame each."""
    with opened(zmq.ROUTER) as socket:
        bind(socket, job, channel)
        run_on_loop(job.loop, _serve_echo(socket, channel))


async def _serve_echo(socket: RawSocket, channel: Channel) -> None:
    recv, send = socket.recv, socket.send

    def on_readable() -> None:
        try:
            while True:  # until Again: the descriptor tells of changes only
                peer = recv(NOBLOCK)
                body = recv(NOBLOCK)
                send(peer, SNDMORE)
                send(body)
        except zmq.Again:
            return

    asyncio.get_running_loop().add_reader(socket.fileno(), on_readable)
    on_readable()
    await channel.wait_async()


def request_window(channel: Channel, job: Job) -> None:
    """DEALER on ``loop.add_reader`` that keeps ``in_flight`` requests open; nothing awaits any one of them."""
    with opened(zmq.DEALER) as socket:
        connect(socket, job)
        run_on_loop(job.loop, _measure_requests(_WindowClient(socket, job), channel, job))


def request_futures(channel: Channel, job: Job) -> None:
    """The same, with a future, a task and a deadline for every request: what zmesh's caller gets."""
    with opened(zmq.DEALER) as socket:
        connect(socket, job)
        run_on_loop(job.loop, _measure_requests(_FutureClient(socket, job), channel, job))


async def _measure_requests(client: _WindowClient | _FutureClient, channel: Channel, job: Job) -> None:
    client.listen()
    await client.run(job.warmup)
    watch = Stopwatch()
    answered = await client.run(job.count)
    elapsed_s = (time.monotonic_ns() - watch.started_ns) / 1e9
    channel.tell(sent=job.count, received=answered, elapsed_s=elapsed_s, **watch.values())


class _WindowClient:
    """Answers are counted, and each makes room for the next request."""

    def __init__(self, socket: RawSocket, job: Job) -> None:
        self._socket = socket
        self._payload = bytes(job.size)
        self._in_flight = job.in_flight
        self._unsent = 0
        self._answered = 0
        self._wanted = 0
        self._done = asyncio.Event()

    def listen(self) -> None:
        """Read the socket from the running loop."""
        asyncio.get_running_loop().add_reader(self._socket.fileno(), self._on_readable)

    async def run(self, count: int) -> int:
        """Make ``count`` requests; return how many were answered."""
        self._done.clear()
        self._answered, self._wanted = 0, count
        first = min(count, self._in_flight)
        self._unsent = count - first
        for _ in range(first):
            self._socket.send(self._payload)
        self._on_readable()
        await done_or_stalled(self._done, lambda: self._answered)
        return self._answered

    def _on_readable(self) -> None:
        recv, send, payload = self._socket.recv, self._socket.send, self._payload
        try:
            while True:
                recv(NOBLOCK)
                self._answered += 1
                if self._unsent:
                    self._unsent -= 1
                    send(payload)
        except zmq.Again:
            if self._answered == self._wanted:
                self._done.set()


class _FutureClient:
    """Each request carries a number; its answer completes the future filed under it.

    All deadlines are equally long, so the futures lie in the order of theirs, and one sweep a second serves them all:
    ``asyncio.timeout`` around each request costs a third of the throughput.
    """

    def __init__(self, socket: RawSocket, job: Job) -> None:
        self._socket = socket
        self._job = job
        self._padding = bytes(job.size - ID_BYTES)
        self._last_id = 0
        self._waiting: dict[bytes, tuple[float, asyncio.Future[bytes]]] = {}
        self._look_scheduled = False

    def listen(self) -> None:
        """Read the socket from the running loop."""
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._socket.fileno(), self._on_readable)

    async def run(self, count: int) -> int:
        """Make ``count`` requests from ``in_flight`` tasks; return how many were answered."""
        sweeper = asyncio.ensure_future(self._sweep())
        try:
            return sum(await asyncio.gather(*(self._request_some(share) for share in self._job.shares(count))))
        finally:
            sweeper.cancel()

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(1.0)
            for deadline, future in self._waiting.values():
                if deadline > time.monotonic():
                    break
                if not future.done():
                    future.set_exception(TimeoutError())

    async def _request_some(self, count: int) -> int:
        answered = 0
        for _ in range(count):
            try:
                await self._request()
            except TimeoutError:
                continue
            answered += 1
        return answered

    async def _request(self) -> bytes:
        self._last_id += 1
        key = self._last_id.to_bytes(ID_BYTES, "little")
        future: asyncio.Future[bytes] = self._loop.create_future()
        self._waiting[key] = (time.monotonic() + DEADLINE_S, future)
        self._socket.send(key + self._padding)
        if not self._look_scheduled:
            self._look_scheduled = True
            self._loop.call_soon(self._on_readable)
        return await future

    def _on_readable(self) -> None:
        self._look_scheduled = False
        recv, pop = self._socket.recv, self._waiting.pop
        try:
            while True:
                answer = recv(NOBLOCK)
                _, future = pop(answer[:ID_BYTES])
                if not future.done():
                    future.set_result(answer)
        except zmq.Again:
            return


ROLES: dict[str, Role] = {
    "pyzmq.echo_blocking": echo_blocking,
    "pyzmq.request_blocking": request_blocking,
    "pyzmq.echo_add_reader": echo_add_reader,
    "pyzmq.request_window": request_window,
    "pyzmq.request_futures": request_futures,
}
