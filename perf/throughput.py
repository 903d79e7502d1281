"""How many messages a second, one way and fanned out, zmesh beside raw pyzmq. Run: ``python perf/throughput.py``.

Two processes on loopback TCP (nine with ``--fan-out 8``). zmesh is used as its users do: one ``await agent.send`` (or
``agent.broadcast``) for each message, a handler that receives each, CURVE and acknowledgements on. The clock runs from
the first send to the last message handled; ``messages_per_second_receiver`` counts from the first message received.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial

import _baselines
import _mesh
from _harness import RUN_S, Job, Process, Values, loop_names, play_role, run_script
from _report import Contender, Goal, Measured, Results, benchmark_parser, run_interleaved


@dataclass(frozen=True, slots=True)
class Load:
    """What one case sends. Counts make a run of one to three seconds with raw pyzmq on two cores at 2.5 GHz."""

    case: str
    size: int
    count: int
    warmup: int


ONE_WAY = (
    Load("one-way/64", 64, 1_000_000, 2_000),
    Load("one-way/1024", 1024, 300_000, 1_000),
    Load("one-way/65536", 65536, 15_000, 100),
    Load("one-way/1048576", 1_048_576, 1_000, 10),
)
FAN_OUT = Load("fan-out/64", 64, 200_000, 1)
BASELINES = (("push-pull", False), ("push-pull", True), ("dealer-router", True))
GOALS = (
    Goal("one-way/64", "messages_per_second", "push-pull,plain", at_least=1.5),
    Goal("one-way/1024", "messages_per_second", "push-pull,curve", at_least=1.3),
    Goal("one-way/65536", "messages_per_second", "dealer-router,curve", at_least=0.9),
    Goal("one-way/1048576", "messages_per_second", "dealer-router,curve", at_least=0.9),
    Goal("fan-out-8/64", "messages_per_second", "pub-sub,curve", at_least=1.5),
)


def measure_one_way(receiver: Job, sender: Job) -> Measured:
    """The metrics of one run."""
    sent, received = run_one_way(receiver, sender)
    return throughput_of(receiver, sent, [received])


def run_one_way(receiver: Job, sender: Job) -> tuple[Values, Values]:
    """What both sides say of one run: the receiver listens, the sender connects and warms up, then the clock starts."""
    with tempfile.TemporaryDirectory(prefix="zmesh-perf-") as home, ExitStack() as stack:
        receiving = stack.enter_context(Process(receiver.at_home(home)))
        sending = stack.enter_context(Process(sender.at_home(home).towards(receiving.ask())))
        receiving.ask()  # it has handled the warm-up
        sending.tell()
        received = receiving.ask(RUN_S)
        sending.tell()
        return sending.ask(), received


def measure_fan_out(publisher: Job, subscriber: Job) -> Measured:
    """One run: all subscribers have heard from the publisher before the clock starts."""
    with tempfile.TemporaryDirectory(prefix="zmesh-perf-") as home, ExitStack() as stack:
        publishing = stack.enter_context(Process(publisher.at_home(home)))
        towards = subscriber.at_home(home).towards(publishing.ask())
        jobs = (towards.numbered(number) for number in range(subscriber.subscribers))
        subscribing = [stack.enter_context(Process(job)) for job in jobs]
        for process in subscribing:
            process.ask()
        publishing.tell()
        received = [process.ask(RUN_S) for process in subscribing]
        publishing.tell()
        return throughput_of(subscriber, publishing.ask(), received)


def throughput_of(job: Job, sent: Values, received: Sequence[Values]) -> Measured:
    """The metrics of one run, from what the sides said."""
    first_received_ns = min(float(side["first_ns"]) for side in received)
    last_ns = max(float(side["last_ns"]) for side in received)
    messages = sum(float(side["received"]) for side in received)
    per_second = messages / (last_ns - float(sent["first_ns"])) * 1e9
    return {
        "messages_per_second": per_second,
        "messages_per_second_receiver": (messages - len(received)) / (last_ns - first_received_ns) * 1e9,
        "megabytes_per_second": per_second * job.size / 1e6,
        "lost": float(sent["sent"]) * len(received) - messages,
        "cpu_percent_sender": float(sent["cpu_percent"]),
        "cpu_percent_receiver": sum(float(side["cpu_percent"]) for side in received),
    }


def one_way_contenders(load: Load, scale: float, loops: list[str]) -> Iterator[Contender]:
    """zmesh on each loop, then the raw patterns."""
    count = max(2, int(load.count * scale))
    for loop in loops:
        sides = (Job(f"zmesh.{role}", count, load.size, load.warmup, loop=loop) for role in ("receive", "send"))
        yield Contender("zmesh", f"curve,acked,{loop}", partial(measure_one_way, *sides), loop)
    for pattern, curve in BASELINES:
        roles = ("pyzmq.receive_one_way", "pyzmq.send_one_way")
        sides = (Job(role, count, load.size, load.warmup, pattern=pattern, curve=curve) for role in roles)
        yield Contender("pyzmq", f"{pattern},{'curve' if curve else 'plain'}", partial(measure_one_way, *sides))


def fan_out_contenders(load: Load, subscribers: int, scale: float, loops: list[str]) -> Iterator[Contender]:
    """zmesh on each loop, then PUB/SUB with CURVE."""
    count = max(2, int(load.count * scale))
    for loop in loops:
        roles = ("zmesh.publish", "zmesh.subscribe")
        sides = (Job(role, count, load.size, load.warmup, subscribers=subscribers, loop=loop) for role in roles)
        yield Contender("zmesh", f"curve,acked,{loop}", partial(measure_fan_out, *sides), loop)
    roles = ("pyzmq.publish", "pyzmq.subscribe")
    sides = (Job(role, count, load.size, load.warmup, subscribers=subscribers, curve=True) for role in roles)
    yield Contender("pyzmq", "pub-sub,curve", partial(measure_fan_out, *sides))


def parse(argv: list[str]) -> argparse.Namespace:
    """The command line."""
    parser = benchmark_parser("Throughput of zmesh beside raw pyzmq: two processes on loopback TCP.")
    parser.add_argument("--fan-out", type=int, metavar="N", help="broadcast to N subscriber processes instead")
    return parser.parse_args(argv)


def main(argv: list[str]) -> int:
    """Run the cases asked for and show them."""
    if play_role(argv, _baselines.ROLES | _mesh.ROLES):
        return 0
    options = parse(argv)
    loops = loop_names(options.loop)
    results = Results(GOALS)
    if options.fan_out:
        contenders = list(fan_out_contenders(FAN_OUT, options.fan_out, options.scale, loops))
        run_interleaved(results, f"fan-out-{options.fan_out}/{FAN_OUT.size}", contenders, options.runs)
    else:
        for load in (load for load in ONE_WAY if load.case.endswith(options.case)):
            run_interleaved(results, load.case, list(one_way_contenders(load, options.scale, loops)), options.runs)
    if options.json:
        results.write_json(options.json)
    return 0


if __name__ == "__main__":
    run_script(main)
