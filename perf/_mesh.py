"""The zmesh sides, through the public API alone and with its defaults: what a user of the library would write.

Both sides of a run share one directory of keys, so the second is of the first one's mesh without being invited.
"""

from __future__ import annotations

import asyncio
import functools
import time
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any

from _harness import STALL_S, START_S, Channel, Job, Role, Stopwatch, done_or_stalled, latency_values, run_on_loop

import zmesh

__all__ = ["ROLES"]

LISTENING = 1  # the agent id of the side that listens for the other's connection
CONNECTING = 2  # and of the one that connects; subscribers count on from here
DEADLINE_S = 10.0

Side = Callable[[zmesh.AgentNetwork, Channel, Job], Coroutine[Any, Any, None]]


def _side(main: Side) -> Role:
    """Make a role of a coroutine that is given a joined network."""

    @functools.wraps(main)
    def play(channel: Channel, job: Job) -> None:
        run_on_loop(job.loop, _joined(main, channel, job))

    return play


async def _joined(main: Side, channel: Channel, job: Job) -> None:
    config = zmesh.NetworkConfig(
        mesh="perf",
        node_id=f"side-{job.number}" if job.address else "listening",
        home=Path(job.home),
        listen="tcp://127.0.0.1:0",
        mdns=False,
        bootstrap=(job.address,) if job.address else (),
    )
    async with zmesh.AgentNetwork(config) as network:
        await main(network, channel, job)


class _Tally:
    """A handler that counts messages of full size, and takes the time of the first and the last of them."""

    def __init__(self, channel: Channel, job: Job) -> None:
        self._channel = channel
        self._job = job
        self._size = job.size
        self._warmed = 0
        self._received = 0
        self._mark = 1
        self._last_ns = 0
        self._watch = Stopwatch()
        self._done = asyncio.Event()

    def handle(self, message: zmesh.AgentMessage) -> None:
        """The agent's handler."""
        if len(message.payload) == self._size:
            self._received += 1
            if self._received == self._mark:
                self._take_time()
        else:
            self._count_warmup()

    async def report(self) -> None:
        """Wait for the last message, and tell the script what came."""
        await done_or_stalled(self._done, lambda: self._received + self._warmed)
        self._channel.tell(
            received=self._received,
            first_ns=self._watch.started_ns,
            last_ns=self._last_ns or time.monotonic_ns(),
            **self._watch.values(),
        )

    def _take_time(self) -> None:
        if self._received == 1:
            self._watch = Stopwatch()
            self._mark = self._job.count
        else:
            self._last_ns = time.monotonic_ns()
            self._done.set()

    def _count_warmup(self) -> None:
        self._warmed += 1
        if self._warmed == self._job.warmup:
            self._channel.tell(warm=1)


def _announce(network: zmesh.AgentNetwork, channel: Channel) -> None:
    channel.tell(address=network.info().addresses[0])


@_side
async def receive(network: zmesh.AgentNetwork, channel: Channel, job: Job) -> None:
    """One way: count what comes."""
    tally = _Tally(channel, job)
    await network.register_agent(LISTENING, handler=tally.handle)
    _announce(network, channel)
    await tally.report()


@_side
async def send(network: zmesh.AgentNetwork, channel: Channel, job: Job) -> None:
    """One way: ``await agent.send`` for each message, then wait until the last is acknowledged."""
    agent = await network.register_agent(CONNECTING)
    await network.registry.wait_for_agent(LISTENING, timeout_s=START_S)
    for _ in range(job.warmup):
        await agent.send(LISTENING, bytes(job.size - 1))
    await channel.wait_async()
    payload = bytes(job.size)
    watch = Stopwatch()
    for _ in range(job.count - 1):
        await agent.send(LISTENING, payload)
    last = await agent.send(LISTENING, payload)
    await last.delivered(timeout_s=STALL_S)
    await channel.wait_async()
    channel.tell(sent=job.count, first_ns=watch.started_ns, **watch.values())


@_side
async def publish(network: zmesh.AgentNetwork, channel: Channel, job: Job) -> None:
    """Fan-out: ``await agent.broadcast`` for each message, after warm-ups until every subscriber has heard one."""
    agent = await network.register_agent(LISTENING)
    _announce(network, channel)
    go = asyncio.ensure_future(channel.wait_async())
    while not go.done():
        await agent.broadcast(bytes(job.size - 1))
        await asyncio.wait([go], timeout=0.01)
    payload = bytes(job.size)
    watch = Stopwatch()
    for _ in range(job.count):
        await agent.broadcast(payload)
    await channel.wait_async()
    channel.tell(sent=job.count, first_ns=watch.started_ns, **watch.values())


@_side
async def subscribe(network: zmesh.AgentNetwork, channel: Channel, job: Job) -> None:
    """Fan-out: an agent that gets every broadcast."""
    tally = _Tally(channel, job)
    await network.register_agent(CONNECTING + job.number, handler=tally.handle)
    await tally.report()


@_side
async def echo(network: zmesh.AgentNetwork, channel: Channel, job: Job) -> None:
    """Answers every request with its payload."""

    async def handle(message: zmesh.AgentMessage) -> bytes:
        return message.payload

    await network.register_agent(LISTENING, handler=handle)
    _announce(network, channel)
    await channel.wait_async()


@_side
async def request_one(network: zmesh.AgentNetwork, channel: Channel, job: Job) -> None:
    """One request at a time."""
    agent = await network.register_agent(CONNECTING)
    await network.registry.wait_for_agent(LISTENING, timeout_s=START_S)
    await _round_trips(agent, job.size, job.warmup)
    watch = Stopwatch()
    samples_ns = await _round_trips(agent, job.size, job.count)
    channel.tell(**latency_values(samples_ns), **watch.values())


async def _round_trips(agent: zmesh.Agent, size: int, count: int) -> list[int]:
    now, payload = time.monotonic_ns, bytes(size)
    samples_ns = []
    for _ in range(count):
        started = now()
        await agent.request(LISTENING, payload, timeout_s=DEADLINE_S)
        samples_ns.append(now() - started)
    return samples_ns


@_side
async def request_many(network: zmesh.AgentNetwork, channel: Channel, job: Job) -> None:
    """``in_flight`` tasks, each awaiting its own request with its own deadline."""
    agent = await network.register_agent(CONNECTING)
    await network.registry.wait_for_agent(LISTENING, timeout_s=START_S)
    await _request_all(agent, job, job.warmup)
    watch = Stopwatch()
    answered = await _request_all(agent, job, job.count)
    elapsed_s = (time.monotonic_ns() - watch.started_ns) / 1e9
    channel.tell(sent=job.count, received=answered, elapsed_s=elapsed_s, **watch.values())


async def _request_all(agent: zmesh.Agent, job: Job, count: int) -> int:
    payload = bytes(job.size)
    tasks: list[Awaitable[int]] = [_request_some(agent, payload, share) for share in job.shares(count)]
    return sum(await asyncio.gather(*tasks))


async def _request_some(agent: zmesh.Agent, payload: bytes, count: int) -> int:
    answered = 0
    for _ in range(count):
        try:
            await agent.request(LISTENING, payload, timeout_s=DEADLINE_S)
        except zmesh.RequestTimeout:
            continue  # counted: it is missing from the answered
        answered += 1
    return answered


ROLES: dict[str, Role] = {
    "zmesh.receive": receive,
    "zmesh.send": send,
    "zmesh.publish": publish,
    "zmesh.subscribe": subscribe,
    "zmesh.echo": echo,
    "zmesh.request_one": request_one,
    "zmesh.request_many": request_many,
}
