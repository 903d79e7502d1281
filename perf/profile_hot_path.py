"""Where a 64-byte message's time goes, stage by stage, in nanoseconds. Run: ``python perf/profile_hot_path.py``.

Each stage is the library's own code, called in a loop in one process with the batch that the one-way benchmark makes:
one frame of messages. The lines called *whole* give it as it runs: CPU time per message of each side of ``one-way/64``,
of the event loop's thread and of the process (ZeroMQ's input/output thread does the encryption). No profiler is
attached: one costs more than what it would measure here. This script follows the library's inside and changes with it.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from time import monotonic
from types import SimpleNamespace
from typing import Any, NamedTuple, cast

import _mesh
import zmq
from _harness import Job, loop_names, play_role, run_on_loop, run_script
from throughput import ONE_WAY, run_one_way

from zmesh.agent import Agent
from zmesh.core.delivery import ReceiveSession, SendSession
from zmesh.model import AgentMessage, now_ms
from zmesh.runtime.counters import Counters
from zmesh.runtime.eager import EagerStarter
from zmesh.runtime.mailbox import Batch, Mailbox
from zmesh.runtime.outbox import Outbox, Route
from zmesh.runtime.received import Origin, received_messages
from zmesh.wire.data import Frame, Kind, Run, decode_frame, encode
from zmesh.wire.limits import FRAME_BYTES, RECORD_OVERHEAD_BYTES, WIRE_VERSION

PAYLOAD = bytes(64)
BATCH = FRAME_BYTES // (len(PAYLOAD) + RECORD_OVERHEAD_BYTES) + 1  # messages in a full frame
WINDOW_BYTES = 1 << 40  # credit is never what a stage waits for
SENDER, RECEIVER = 2, 1  # agent ids


class Stage(NamedTuple):
    """A piece of work done once per batch."""

    side: str
    name: str
    run: Callable[[], object]


class _Outbox(Outbox):
    """The real outbox with nothing behind it: a flush throws the frame away."""

    __slots__ = ()

    def flush(self) -> None:
        self._flush_scheduled = False
        self.take_runs()
        self.refill(WINDOW_BYTES)

    def answer_large(self, route: Route, payload: bytes, correlation: int) -> None:
        raise AssertionError("the messages profiled are small: nothing asks for this")

    def is_acknowledged(self, number: int) -> bool:
        return True

    async def acknowledged(self, number: int) -> None:
        return None

    async def send_large(self, route: Route, payload: bytes, label: tuple[str, int] | None = None) -> int:
        raise AssertionError("the messages profiled are small: nothing asks for this")

    def credit_wanted(self) -> None:
        return None

    def release(self, size: int) -> None:
        return None


def new_frame(runs: list[Run]) -> Frame:
    """A frame of one batch, or an empty one, as a link makes it."""
    return Frame(WIRE_VERSION, 1, 1, 1, 1, WINDOW_BYTES, now_ms(), 0, runs)


def new_run() -> Run:
    """The records of one batch."""
    return Run(Kind.MESSAGE, RECEIVER, SENDER, 1, 1, 0, [PAYLOAD] * BATCH)


class Bench:
    """The objects the stages work on."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.outbox = _Outbox(lambda flush: None, WINDOW_BYTES, Origin("peer", "peer:1:me:"), "me:1:peer:")
        self.starter = EagerStarter(loop)
        statistics = Counters()
        self.received = 0
        self.plain = Mailbox(RECEIVER, self.count, self.starter, statistics, 1024, monotonic)
        self.coroutine = Mailbox(RECEIVER, self.count_later, self.starter, statistics, 1024, monotonic)
        messenger = SimpleNamespace(requests=None)
        self.agent = Agent(
            cast("Any", messenger), Mailbox(SENDER, None, self.starter, statistics, 1, monotonic), (), {}
        )
        self.agent.remember_route(RECEIVER, Route(self.outbox, Kind.MESSAGE, RECEIVER, SENDER, 1, 1, 0))
        self.sending, self.receiving = SendSession(WINDOW_BYTES), ReceiveSession(4 * 1024 * 1024)
        self.run = new_run()
        self.data = encode(new_frame([self.run]))

    def count(self, message: AgentMessage) -> None:
        """The handler of the throughput benchmark, at its shortest."""
        self.received += 1

    async def count_later(self, message: AgentMessage) -> None:
        """The same as a coroutine function that never waits."""
        self.received += 1

    def send(self) -> None:
        """``await agent.send`` for each message of a batch."""
        drive(self._send())
        self.outbox.flush()

    async def _send(self) -> None:
        send = self.agent.send
        for _ in range(BATCH):
            await send(RECEIVER, PAYLOAD)

    def encode(self) -> None:
        """Make one frame."""
        encode(new_frame([self.run]))

    def commit(self) -> None:
        """Number a frame, hold it, and take the acknowledgement that lets it go."""
        now, size = time.monotonic(), len(self.data)
        self.sending.commit(now, BATCH, size, (self.data,))
        self.sending.receive(now, self.sending.next_record, WINDOW_BYTES, rewind=False)

    def decode(self) -> None:
        """Read one frame and check it."""
        decode_frame(self.data)

    def accept(self) -> None:
        """Check a frame's number, grant its credit again, and make the acknowledgement."""
        now, size, session = time.monotonic(), len(self.data), self.receiving
        session.receive(now, session.expected, BATCH, size)
        session.consumed(now, size)
        if session.ack_due(now):
            session.take_ack()

    def make_messages(self) -> None:
        """Make the ``AgentMessage`` objects."""
        for _ in received_messages(self.run, 1, 0, self.outbox.origin):
            pass

    def deliver(self, mailbox: Mailbox) -> None:
        """Make the messages and call a handler with each."""
        messages = received_messages(self.run, 1, 0, self.outbox.origin)
        mailbox.deliver(Batch(messages, BATCH, self.outbox, None, 80, None))


def drive(coroutine: Coroutine[Any, Any, None]) -> None:
    """Run a coroutine that never waits."""
    try:
        coroutine.send(None)
    except StopIteration:
        return
    raise RuntimeError("the hot path waited")


@contextmanager
def curve_pair() -> Iterator[tuple[zmq.Socket[bytes], zmq.Socket[bytes]]]:
    """A DEALER connected to a ROUTER with CURVE, in this process."""
    context = zmq.Context()
    dealer, router = context.socket(zmq.DEALER), context.socket(zmq.ROUTER)
    dealer.sndhwm = router.rcvhwm = 0
    router.curve_server = True
    server_key, router.curve_secretkey = zmq.curve_keypair()
    dealer.curve_publickey, dealer.curve_secretkey = zmq.curve_keypair()
    dealer.curve_serverkey = server_key
    dealer.connect(f"tcp://127.0.0.1:{router.bind_to_random_port('tcp://127.0.0.1')}")
    try:
        yield dealer, router
    finally:
        context.destroy(linger=0)


def nanoseconds_per_message(work: Callable[[], object], batches: int) -> float:
    """What ``work``, which does one batch, costs."""
    samples_ns = []
    for _ in range(batches):
        started = time.perf_counter_ns()
        work()
        samples_ns.append(time.perf_counter_ns() - started)
    return undisturbed(samples_ns)


def undisturbed(samples_ns: list[int]) -> float:
    """Per message, the batch a twentieth from the fastest: slower ones shared the core with something else."""
    return sorted(samples_ns)[len(samples_ns) // 20] / BATCH


async def measured_in_callback(work: Callable[[], object], batches: int) -> float:
    """``nanoseconds_per_message`` from a callback of the loop, where the library does its work: in no task."""
    result: asyncio.Future[float] = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_soon(lambda: result.set_result(nanoseconds_per_message(work, batches)))
    return await result


def socket_stages(data: bytes, batches: int) -> Iterator[tuple[str, str, float]]:
    """The calls into ZeroMQ that move one frame; its own thread does the rest."""
    with curve_pair() as (dealer, router):
        sending_ns: list[int] = []
        receiving_ns: list[int] = []
        for _ in range(batches):
            started = time.perf_counter_ns()
            dealer.send(data, zmq.NOBLOCK)
            sending_ns.append(time.perf_counter_ns() - started)
            router.poll(10_000)
            started = time.perf_counter_ns()
            router.recv(zmq.NOBLOCK)
            part = router.recv(zmq.NOBLOCK, copy=False)
            part.get("Peer-Address")  # stands in for User-Id, which only ZAP sets
            router.getsockopt(zmq.EVENTS)
            receiving_ns.append(time.perf_counter_ns() - started)
        yield "sender", "zmq send", undisturbed(sending_ns)
        yield "receiver", "zmq receive, sender's key, events", undisturbed(receiving_ns)


async def measure_stages(batches: int) -> list[tuple[str, str, float]]:
    """Every stage in isolation."""
    bench = Bench(asyncio.get_running_loop())
    stages = (
        Stage("sender", "await agent.send", bench.send),
        Stage("sender", "encode", bench.encode),
        Stage("sender", "session: number, hold, acknowledged", bench.commit),
        Stage("receiver", "decode and check", bench.decode),
        Stage("receiver", "session: number, credit, ack", bench.accept),
        Stage("receiver", "make messages", bench.make_messages),
        Stage("receiver", "make messages, call plain handler", lambda: bench.deliver(bench.plain)),
        Stage("receiver", "make messages, call coroutine handler", lambda: bench.deliver(bench.coroutine)),
    )
    gc.collect()
    rows = [(stage.side, stage.name, await measured_in_callback(stage.run, batches)) for stage in stages]
    rows += socket_stages(bench.data, batches)
    await bench.starter.close(None)
    return rows


def whole_run(count: int, loop: str) -> Iterator[tuple[str, str, float]]:
    """CPU time per message of both sides of one-way/64, as it runs."""
    load = ONE_WAY[0]
    sides = (Job(f"zmesh.{role}", count, load.size, load.warmup, loop=loop) for role in ("receive", "send"))
    sent, received = run_one_way(*sides)
    for side, said in (("sender", sent), ("receiver", received)):
        yield side, "whole: event loop's thread", float(said["thread_cpu_ns"]) / count
        yield side, "whole: process, all threads", float(said["cpu_ns"]) / count
    elapsed_ns = float(received["last_ns"]) - float(sent["first_ns"])
    yield "both", "whole: first send to last handled", elapsed_ns / count


def main(argv: list[str]) -> int:
    """Measure and print."""
    if play_role(argv, _mesh.ROLES):
        return 0
    parser = argparse.ArgumentParser(description="Nanoseconds a message, stage by stage, of one-way/64.")
    parser.add_argument("--batches", type=int, default=1000, help=f"of {BATCH} messages, per stage (default: 1,000)")
    parser.add_argument("--count", type=int, default=1_000_000, help="messages of the whole run (default: 1,000,000)")
    options = parser.parse_args(argv)
    loop = loop_names(None)[0]
    print(f"{BATCH} messages of {len(PAYLOAD)} bytes a frame, {loop}; ns per message")
    for side, name, value in (*run_on_loop(loop, measure_stages(options.batches)), *whole_run(options.count, loop)):
        print(f"  {side:9} {name:40} {value:8.1f}")
    return 0


if __name__ == "__main__":
    run_script(main)
